// The host's monotonic time read off its time-stamp counter (SDM vol. 3, 18.17), so that asking costs a few
// nanoseconds and host code can ask by itself. The counter's rate is measured against the host's clock; from
// then on what is read runs after that clock without ever going backwards.
//
// Used where the counter is invariant and Linux itself keeps time by it (`usable`); elsewhere, and until the
// rate is known, the host's clock is asked each time. One thread at a time.
#pragma once
#include <cstdint>
#include <functional>

#include "apic/clock.hpp"

namespace kiln {

class CounterClock {
  public:
    using Counter = uint64_t (*)();
    static bool usable();
    static uint64_t hostCounter();

    // `real`: the clock to run after.
    explicit CounterClock(std::function<Nanos()> real, Counter counter = hostCounter)
        : real_(std::move(real)), counter_(counter) {}

    Nanos now();
    // Compares the two clocks: every few milliseconds, and as often as one likes.
    void adjust();
    // `real` goes on from another time, not before `now`.
    void restart(Nanos now);

    const CounterTime& published() const { return time_; }

  private:
    Nanos at(uint64_t ticks) const;
    Nanos real() { return real_() + lead_; }
    void forgetRate(Nanos now);

    std::function<Nanos()> real_;
    Counter counter_;
    CounterTime time_;
    uint64_t anchorTicks_ = 0;  // where measuring the rate began
    Nanos anchor_ = 0;
    bool anchored_ = false;
    Nanos floor_ = 0;  // what has been said, while there is no rate
    Nanos lead_ = 0;   // that is kept: the counter has leapt, as when the host slept
};

}  // namespace kiln
