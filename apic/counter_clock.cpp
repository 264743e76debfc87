#include "apic/counter_clock.hpp"

#include <algorithm>
#include <fstream>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

namespace kiln {

namespace {

constexpr Nanos kMillisecond = kSecond / 1000;
constexpr Nanos kMeasured = 5 * kMillisecond;     // of the counter before its rate is used
constexpr uint64_t kAdjusted = 1 << 20;           // ticks from one adjustment to the next at least
constexpr int64_t kCaughtUp = 64 * kMillisecond;  // in which a difference shall have gone
constexpr int64_t kHopeless = 5 * kMillisecond;   // differences that are not the rate's
constexpr uint64_t kInterrupted = 1 << 14;        // ticks between two readings of the counter

}  // namespace

bool CounterClock::usable() {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    constexpr unsigned kInvariant = 1 << 8;
    if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & kInvariant)) return false;
    std::ifstream source("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    std::string name;
    return source >> name && name == "tsc";
#else
    return false;
#endif
}

uint64_t CounterClock::hostCounter() {
#if defined(__x86_64__)
    return __rdtsc();
#else
    return 0;
#endif
}

Nanos CounterClock::at(uint64_t ticks) const {
    return time_.nanos + Nanos((unsigned __int128)(ticks - time_.ticks) * time_.rate >> 32);
}

Nanos CounterClock::now() {
    if (time_.rate)
        if (const uint64_t ticks = counter_(); ticks >= time_.ticks) return at(ticks);
    return floor_ = std::max({floor_, time_.nanos, real()});
}

void CounterClock::forgetRate(Nanos now) {
    floor_ = std::max(floor_, now);
    time_ = {};
    anchored_ = false;
}

void CounterClock::restart(Nanos now) {
    floor_ = lead_ = 0;
    forgetRate(now);
}

void CounterClock::adjust() {
    const uint64_t before = counter_();
    if (time_.rate && before - time_.ticks < kAdjusted) return;
    const Nanos real = this->real();
    const uint64_t after = counter_();
    if (after - before > kInterrupted) return;
    const uint64_t ticks = before + (after - before) / 2;
    if (anchored_ && (ticks <= anchorTicks_ || ticks < time_.ticks || real < anchor_))
        forgetRate(time_.nanos);  // the counter has begun anew
    if (!anchored_) {
        anchorTicks_ = ticks, anchor_ = real, anchored_ = true;
        return;
    }
    if (real - anchor_ < kMeasured) return;
    const auto measured = int64_t(((unsigned __int128)(real - anchor_) << 32) / (ticks - anchorTicks_));
    if (!time_.rate) {
        time_ = {ticks, uint64_t(measured), std::max(floor_, real)};
        return;
    }
    const Nanos said = at(ticks);
    const auto behind = int64_t(real - said);
    if (behind > kHopeless || behind < -kHopeless) {
        if (behind < 0) lead_ -= behind;
        return forgetRate(said);
    }
    time_ = {ticks, uint64_t(measured + int64_t(__int128(measured) * behind / kCaughtUp)), said};
}

}  // namespace kiln
