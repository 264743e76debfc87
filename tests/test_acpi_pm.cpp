#include <doctest/doctest.h>

#include "devices/acpi_pm.hpp"

using namespace kiln;

namespace {

struct Fixture {
    FakeTime time;
    Clock clock{time};
    IrqInput sci;
    int powerOffs = 0, suspends = 0, wakes = 0;
    AcpiPm pm{clock, sci};

    Fixture() {
        pm.onPowerOff = [this] { powerOffs++; };
        pm.onSuspend = [this] { suspends++; };
        pm.onWake = [this] { wakes++; };
    }
    uint32_t in(uint64_t offset, unsigned size) { return uint32_t(pm.ioRead(offset, size)); }
    void out(uint64_t offset, unsigned size, uint32_t value) { pm.ioWrite(offset, size, value); }
    void advance(Nanos by) { time.advance(by), clock.runDue(); }
};

}  // namespace

TEST_CASE("ACPI PM: the timer has 24 bits at 3.58 MHz") {
    Fixture f;
    CHECK(f.in(8, 4) == 0);
    f.advance(kSecond);
    CHECK(f.in(8, 4) == 3579545);
    f.advance(4 * kSecond);
    CHECK(f.in(8, 4) == 5 * 3579545 - (1 << 24));
    CHECK(f.in(9, 1) == (f.in(8, 4) >> 8 & 0xFF));
}

TEST_CASE("ACPI PM: SCI mode through the SMI command port") {
    Fixture f;
    CHECK((f.in(4, 2) & 1) == 0);
    f.pm.apmPorts().ioWrite(0, 1, AcpiPm::kAcpiEnable);
    CHECK((f.in(4, 2) & 1) == 1);
    CHECK(f.pm.apmPorts().ioRead(0, 1) == AcpiPm::kAcpiEnable);
    f.pm.apmPorts().ioWrite(0, 1, AcpiPm::kAcpiDisable);
    CHECK((f.in(4, 2) & 1) == 0);
    f.pm.apmPorts().ioWrite(1, 1, 0x77);
    CHECK(f.pm.apmPorts().ioRead(0, 2) == 0x7703);
}

TEST_CASE("ACPI PM: the power button raises SCI until its status is cleared") {
    Fixture f;
    f.out(2, 2, 0x0100);
    f.pm.pressPowerButton();
    CHECK_FALSE(f.sci.level());  // legacy mode
    f.out(4, 2, 1);
    CHECK(f.sci.level());
    CHECK(f.in(0, 4) == 0x01000100);
    f.out(0, 2, 0x0001);
    CHECK(f.sci.level());
    f.out(0, 2, 0x0100);
    CHECK_FALSE(f.sci.level());
    f.pm.rtcAlarm();
    CHECK_FALSE(f.sci.level());
    f.out(2, 2, 0xFFFF);
    CHECK(f.in(2, 2) == 0x0521);
    CHECK(f.sci.level());
}

TEST_CASE("ACPI PM: timer overflow, polled and by interrupt") {
    Fixture f;
    Nanos half = Clock::timeOfTick(1 << 23, AcpiPm::kTimerHz);
    f.advance(half - 1);
    CHECK(f.in(0, 2) == 0);
    f.advance(1);
    CHECK(f.in(0, 2) == 1);
    f.out(0, 2, 1);
    CHECK(f.in(0, 2) == 0);
    f.out(4, 2, 1), f.out(2, 2, 1);
    f.advance(half - 1000);
    CHECK_FALSE(f.sci.level());
    f.advance(2000);
    CHECK(f.sci.level());
    f.out(0, 2, 1);
    CHECK_FALSE(f.sci.level());
}

TEST_CASE("ACPI PM: soft off") {
    Fixture f;
    f.out(4, 2, 3 << 10 | 1 << 13);  // no such state: awake at once
    CHECK(f.powerOffs == 0);
    CHECK((f.in(0, 2) & 0x8000) == 0x8000);
    f.out(4, 2, 1 << 13);
    CHECK(f.powerOffs == 1);
    f.out(4, 2, 7 << 10);
    CHECK(f.powerOffs == 1);
    f.out(5, 1, 0x3C);
    CHECK(f.powerOffs == 2);
    CHECK((f.in(4, 2) & 0x2000) == 0);  // SLP_EN reads zero
}

TEST_CASE("ACPI PM: suspend to RAM, what ends it, and what it keeps") {
    struct {
        const char* what;
        uint16_t enable;
        void (*event)(Fixture&);
        bool wakes;
        uint16_t status;
    } cases[] = {
        {"RTC, enabled", 0x400, [](Fixture& f) { f.pm.rtcAlarm(); }, true, 0x8400},
        {"RTC, not enabled", 0, [](Fixture& f) { f.pm.rtcAlarm(); }, false, 0x0400},
        {"power button", 0, [](Fixture& f) { f.pm.pressPowerButton(); }, true, 0x8100},
        {"GPE, enabled", 0, [](Fixture& f) { f.pm.raiseGpe(13); }, true, 0x8000},
        {"GPE, not enabled", 0, [](Fixture& f) { f.pm.raiseGpe(12); }, false, 0},
        {"the user", 0, [](Fixture& f) { f.pm.wake(); }, true, 0x8000},
        {"time", 0x400, [](Fixture& f) { f.advance(100 * kSecond); }, false, 0x0001},
    };
    for (uint32_t type : {1, 5})
        for (auto& c : cases) {
            CAPTURE(c.what);
            Fixture f;
            f.pm.wake();  // not asleep
            f.out(2, 2, c.enable | 0x101u);
            f.out(0x28, 4, 1 << 13);
            f.out(0x30, 4, 0x21);
            f.out(4, 2, type << 10 | 1 << 13 | 1);
            CHECK(f.suspends == 1);
            CHECK(f.wakes == 0);
            c.event(f);
            CHECK(f.wakes == int(c.wakes));
            if (!c.wakes) continue;
            f.pm.resetForWake();
            CHECK(f.in(0, 2) == c.status);
            CHECK(f.in(2, 2) == (c.enable | 0x100u));
            CHECK(f.in(4, 2) == type << 10);  // SCI_EN is gone
            CHECK(f.in(0x28, 4) == 1 << 13);
            CHECK(f.in(0x30, 4) == 0);
            CHECK_FALSE(f.sci.level());
            f.pm.pressPowerButton();  // awake
            CHECK(f.wakes == 1);
        }
    Fixture f;  // the event was there before
    f.out(2, 2, 0x400);
    f.pm.rtcAlarm();
    f.out(4, 2, 1 << 10 | 1 << 13);
    CHECK(f.suspends == 1);
    CHECK(f.wakes == 1);
}

TEST_CASE("ACPI PM: general-purpose events") {
    Fixture f;
    f.out(4, 2, 1);
    f.pm.raiseGpe(9);
    CHECK(f.in(0x20, 4) == 0x200);
    CHECK_FALSE(f.sci.level());
    f.out(0x29, 1, 0x02);
    CHECK(f.sci.level());
    f.out(0x20, 4, 0x200);
    CHECK_FALSE(f.sci.level());
}

TEST_CASE("ACPI PM: all-ones writes leave it alive, reset forgets them") {
    Fixture f;
    for (uint64_t offset = 0; offset < 0x80; offset++)
        for (unsigned size : {1u, 2u, 4u})
            if (offset + size <= 0x80) f.out(offset, size, ~0u), f.in(offset, size);
    f.advance(10 * kSecond);
    f.pm.reset();
    CHECK(f.in(0, 4) == 0);
    CHECK_FALSE(f.sci.level());
}
