// Guest time: nanoseconds of virtual time since power-on, and the timers that devices hang on it.
// Where time comes from (host clock, instruction count, a test) is the TimeSource's business.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace kiln {

using Nanos = uint64_t;
constexpr Nanos kNever = ~0ull;
constexpr Nanos kSecond = 1'000'000'000;

// Time by a counter of the host that host code can read as well: at a count of `ticks` it was `nanos`, and
// since then 2^-32 * `rate` nanoseconds have passed a tick. No rate: not at the moment.
struct CounterTime {
    uint64_t ticks = 0, rate = 0;
    Nanos nanos = 0;
};

class TimeSource {
  public:
    virtual ~TimeSource() = default;
    virtual Nanos now() = 0;  // never goes backwards
    // What now() goes by, for as long as this lives; null: something else.
    virtual const CounterTime* counter() const { return nullptr; }
};

// A time source that moves only when told: tests, and the power-on state of a machine.
class FakeTime : public TimeSource {
  public:
    Nanos now() override { return now_; }
    void advance(Nanos by) { now_ += by; }

  private:
    Nanos now_ = 0;
};

class Clock;

// A one-shot timer; re-arm it from its own callback for a periodic one. Not movable: the clock points to it.
class Timer {
  public:
    Timer(Clock& clock, std::function<void()> callback);
    ~Timer();
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    void arm(Nanos deadline);  // replaces an earlier deadline; one in the past fires at the next runDue()
    void disarm() { arm(kNever); }
    bool armed() const { return deadline_ != kNever; }
    Nanos deadline() const { return deadline_; }

  private:
    friend class Clock;
    Clock& clock_;
    std::function<void()> callback_;
    Nanos deadline_ = kNever;
};

class Clock {
  public:
    explicit Clock(TimeSource& source) : source_(&source) {}
    Clock(const Clock&) = delete;
    Clock& operator=(const Clock&) = delete;

    Nanos now() const { return source_->now(); }
    const CounterTime* counter() const { return source_->counter(); }
    Nanos nextDeadline() const { return next_; }  // kNever when no timer is armed
    void runDue();                                // calls every timer whose deadline has passed, in order
    // Ticks of a `hz` counter that started at power-on: now * hz / 10^9 without overflow.
    uint64_t ticks(uint64_t hz) const { return ticksAt(now(), hz); }
    static uint64_t ticksAt(Nanos t, uint64_t hz) { return uint64_t((unsigned __int128)t * hz / kSecond); }
    // The earliest time at which ticks(hz) >= `ticks`.
    static Nanos timeOfTick(uint64_t ticks, uint64_t hz) {
        return Nanos(((unsigned __int128)ticks * kSecond + hz - 1) / hz);
    }
    // A timer was armed earlier than all others: the run loop shortens its slice.
    std::function<void()> onEarlierDeadline;

  private:
    friend class Timer;
    void update();
    TimeSource* source_;
    std::vector<Timer*> timers_;
    Nanos next_ = kNever;
};

}  // namespace kiln
