#include <doctest/doctest.h>

#include "devices/acpi_pm.hpp"

using namespace kiln;

namespace {

struct Fixture {
    FakeTime time;
    Clock clock{time};
    IrqInput sci;
    int powerOffs = 0;
    AcpiPm pm{clock, sci};

    Fixture() {
        pm.onPowerOff = [this] { powerOffs++; };
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
    f.out(4, 2, 5 << 10 | 1 << 13);  // suspend to RAM: not here, wakes at once
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
