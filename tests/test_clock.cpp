#include <doctest/doctest.h>

#include "apic/clock.hpp"

using namespace kiln;

TEST_CASE("timers fire in order of their deadlines") {
    FakeTime time;
    Clock clock(time);
    std::vector<int> fired;
    Timer late(clock, [&] { fired.push_back(2); });
    Timer early(clock, [&] { fired.push_back(1); });
    late.arm(200);
    early.arm(100);
    CHECK(clock.nextDeadline() == 100);
    clock.runDue();
    CHECK(fired.empty());
    time.advance(250);
    clock.runDue();
    CHECK(fired == std::vector<int>{1, 2});
    CHECK(clock.nextDeadline() == kNever);
}

TEST_CASE("a periodic timer re-armed from its callback catches up") {
    FakeTime time;
    Clock clock(time);
    int count = 0;
    Timer* self = nullptr;
    Timer timer(clock, [&] { count++, self->arm((count + 1) * 100); });
    self = &timer;
    timer.arm(100);
    time.advance(1000);
    clock.runDue();
    CHECK(count == 10);
}

TEST_CASE("ticks and their times agree") {
    for (uint64_t hz : {1193182ull, 3579545ull, 14318180ull, 32768ull})
        for (uint64_t tick : {0ull, 1ull, 1000ull, 0xffffffffull, 0x123456789aull}) {
            Nanos t = Clock::timeOfTick(tick, hz);
            CHECK(Clock::ticksAt(t, hz) == tick);
            if (t) CHECK(Clock::ticksAt(t - 1, hz) == tick - 1);
        }
}
