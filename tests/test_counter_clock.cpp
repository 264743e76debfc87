#include <doctest/doctest.h>

#include "apic/counter_clock.hpp"

using namespace kiln;

namespace {

constexpr Nanos kMicrosecond = 1000, kMillisecond = 1'000'000;

// A counter of `perMicrosecond` ticks beside a clock.
struct Host {
    static inline uint64_t ticks;
    static uint64_t counter() { return ticks; }
    Nanos real = 0;
    uint64_t perMicrosecond;
    Nanos asked = 0;  // how often for `real`

    explicit Host(uint64_t rate) : perMicrosecond(rate) { ticks = 1'000'000'007; }
    void pass(Nanos time) {
        real += time;
        ticks += time * perMicrosecond / kMicrosecond;
    }
    CounterClock clock() {
        return CounterClock(
            [this] {
                asked++;
                return real;
            },
            counter);
    }
};

int64_t difference(Host& h, CounterClock& c) { return int64_t(c.now() - h.real); }

}  // namespace

TEST_CASE("time by the counter follows the host's clock once the rate is known") {
    for (const uint64_t rate : {100ull, 1000ull, 2700ull, 5123ull}) {
        CAPTURE(rate);
        Host h(rate);
        CounterClock c = h.clock();
        c.restart(0);
        c.adjust();
        CHECK(c.published().rate == 0);
        h.pass(4 * kMillisecond);
        c.adjust();
        CHECK(c.now() == h.real);
        CHECK(c.published().rate == 0);
        h.pass(4 * kMillisecond);
        c.adjust();
        CHECK(c.published().rate != 0);
        const Nanos asked = h.asked;
        for (int n = 0; n < 100; n++) {
            h.pass(77 * kMicrosecond);
            CHECK(std::abs(difference(h, c)) < 100);
        }
        CHECK(h.asked == asked);
    }
}

TEST_CASE("time by the counter never goes backwards, and catches up with a clock of another rate") {
    Host h(2000);
    CounterClock c = h.clock();
    c.restart(0);
    for (int n = 0; n < 20; n++) h.pass(kMillisecond), c.adjust();
    Nanos last = c.now();
    auto go = [&](uint64_t rate, int times) {
        h.perMicrosecond = rate;
        for (int n = 0; n < times; n++) {
            h.pass(100 * kMicrosecond);
            const Nanos now = c.now();
            CHECK(now >= last);
            last = now;
            c.adjust();
            CHECK(c.now() >= last);
        }
    };
    go(2001, 10'000);  // 500 ppm
    CHECK(std::abs(difference(h, c)) < int64_t(100 * kMicrosecond));
    go(1999, 10'000);
    CHECK(std::abs(difference(h, c)) < int64_t(100 * kMicrosecond));
    go(2000, 10'000);
    CHECK(std::abs(difference(h, c)) < int64_t(50 * kMicrosecond));
}

TEST_CASE("a counter that begins anew or jumps is not believed") {
    for (const int64_t jump : {-900'000'000ll, 400'000'000'000ll}) {
        CAPTURE(jump);
        Host h(2000);
        CounterClock c = h.clock();
        c.restart(0);
        for (int n = 0; n < 20; n++) h.pass(kMillisecond), c.adjust();
        Nanos last = c.now();
        Host::ticks += uint64_t(jump);
        for (int n = 0; n < 50; n++) {
            h.pass(kMillisecond);
            c.adjust();
            const Nanos now = c.now();
            CHECK(now >= last);
            last = now;
        }
        // Time that has leapt goes on from there.
        if (jump < 0) CHECK(std::abs(difference(h, c)) < 1000);
        if (jump > 0) CHECK(std::abs(difference(h, c) - jump / 2) < 100 * int64_t(kMicrosecond));
        CHECK(c.published().rate != 0);
    }
}

TEST_CASE("a clock that is restarted goes on from where it is told") {
    Host h(2000);
    CounterClock c = h.clock();
    c.restart(0);
    for (int n = 0; n < 20; n++) h.pass(kMillisecond), c.adjust();
    CHECK(c.published().rate != 0);
    h.real = 3 * kMillisecond;
    c.restart(3 * kMillisecond);
    CHECK(c.now() == 3 * kMillisecond);
    for (int n = 0; n < 20; n++) h.pass(kMillisecond), c.adjust();
    CHECK(std::abs(difference(h, c)) < 1000);
}
