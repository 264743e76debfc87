// The one gate for everything nondeterministic: host time, the calendar, entropy, and bytes that arrive from
// outside (keys, mouse, serial input, display requests). But for CounterClock, which MachineTime need not
// use, nothing else in kiln asks the host for any of these: a recorder can log this object, a player can feed
// it.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "apic/clock.hpp"

namespace kiln {

class Gate {
  public:
    using Handler = std::function<void(std::span<const uint8_t>)>;
    enum class Channel : unsigned {};

    // -- asked by the machine's thread
    Nanos hostTime();                                        // monotonic, since the gate was made
    int64_t calendarSeconds();                               // seconds since 1970-01-01 UTC
    uint64_t entropy();                                      // 64 random bits
    Channel openChannel(std::string name, Handler handler);  // the handler runs on the machine's thread
    void deliver();                                          // hands every posted message to its handler
    // Sleeps until a message is posted or `atMost` has passed.
    void wait(Nanos atMost);

    // -- called from any thread
    void post(Channel channel, std::span<const uint8_t> message);
    bool pending();
    void wake();  // ends wait() as a message does, without one

  private:
    struct Message {
        Channel channel;
        std::vector<uint8_t> bytes;
    };
    std::vector<std::pair<std::string, Handler>> channels_;
    std::mutex mutex_;
    std::condition_variable arrived_;
    std::vector<Message> inbox_;
    bool woken_ = false;
    const uint64_t epoch_ = steadyNanos();
    static uint64_t steadyNanos();
};

}  // namespace kiln
