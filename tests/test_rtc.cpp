#include <doctest/doctest.h>

#include "devices/mc146818.hpp"

using namespace kiln;

namespace {

constexpr int64_t k2024Feb28_235958 = 1709164798;  // a Wednesday

struct Fixture {
    FakeTime time;
    Clock clock{time};
    int irqs = 0;
    IrqInput irq8{[this](bool level) { irqs += level; }};
    Mc146818 rtc;

    explicit Fixture(int64_t start = k2024Feb28_235958) : rtc(clock, start, irq8) { rtc.reset(); }
    uint8_t get(uint8_t index) {
        rtc.ioWrite(0, 1, index);
        return uint8_t(rtc.ioRead(1, 1));
    }
    void set(uint8_t index, uint8_t value) {
        rtc.ioWrite(0, 1, index);
        rtc.ioWrite(1, 1, value);
    }
    void advance(Nanos by) { time.advance(by), clock.runDue(); }
    // hours, minutes, seconds as three bytes
    uint32_t hms() { return uint32_t(get(4) << 16 | get(2) << 8 | get(0)); }
    uint32_t date() { return uint32_t(get(0x32) << 24 | get(9) << 16 | get(8) << 8 | get(7)); }
};

}  // namespace

TEST_CASE("RTC: time of the calendar at power-on, in BCD and 24 hours, and leap years") {
    Fixture f;
    CHECK(f.hms() == 0x235958);
    CHECK(f.date() == 0x20240228);
    CHECK(f.get(6) == 4);
    f.advance(2 * kSecond);
    CHECK(f.hms() == 0x000000);
    CHECK(f.date() == 0x20240229);
    CHECK(f.get(6) == 5);
    f.advance(86400 * kSecond);
    CHECK(f.date() == 0x20240301);
    CHECK(f.get(0x0D) == 0x80);
}

TEST_CASE("RTC: the turn of the century") {
    Fixture f(4102444799);  // 2099-12-31 23:59:59
    CHECK(f.date() == 0x20991231);
    f.advance(kSecond);
    CHECK(f.date() == 0x21000101);
}

TEST_CASE("RTC: 12-hour format and binary format") {
    Fixture f;
    f.set(0x0B, 0x80 | 0x04);  // SET, binary, 12 hours
    f.set(4, 11), f.set(2, 59), f.set(0, 59), f.set(7, 31), f.set(8, 12), f.set(9, 24);
    f.advance(5 * kSecond);
    CHECK(f.get(0) == 59);  // SET holds it
    f.set(0x0B, 0x04);
    f.advance(kSecond);
    CHECK(f.hms() == ((12u | 0x80) << 16));  // noon
    f.advance(3600 * kSecond);
    CHECK(f.get(4) == (1 | 0x80));
    f.advance(11 * 3600 * kSecond);
    CHECK(f.get(4) == 12);  // midnight
    CHECK(f.get(7) == 1);
    CHECK(f.get(8) == 1);
    CHECK(f.get(9) == 25);
}

TEST_CASE("RTC: UIP announces the update") {
    Fixture f;
    CHECK((f.get(0x0A) & 0x80) == 0);
    f.advance(kSecond - 245'000);
    CHECK((f.get(0x0A) & 0x80) == 0);
    f.advance(1'000);
    CHECK((f.get(0x0A) & 0x80) == 0x80);
    f.time.advance(244'000);  // before the timer is served, time is right already
    CHECK((f.get(0x0A) & 0x80) == 0);
    CHECK(f.get(0) == 0x59);
}

TEST_CASE("RTC: update and alarm interrupts") {
    Fixture f;
    f.set(0x0B, 0x12);
    f.advance(kSecond);
    CHECK(f.irqs == 1);
    CHECK(f.get(0x0C) == 0xD0);  // the periodic flag is set without its enable, too
    CHECK(f.get(0x0C) == 0);
    CHECK_FALSE(f.irq8.level());
    f.set(1, 0x05), f.set(3, 0x00), f.set(5, 0xC0);  // any hour, :00:05
    f.set(0x0B, 0x22);
    f.irqs = 0;
    f.advance(5 * kSecond);
    CHECK(f.irqs == 0);
    f.advance(kSecond);
    CHECK(f.irqs == 1);
    CHECK(f.get(0x0C) == 0xF0);
    f.advance(3600 * kSecond);
    CHECK(f.irqs == 2);
}

TEST_CASE("RTC: periodic interrupt") {
    Fixture f;
    f.set(0x0A, 0x26);
    f.set(0x0B, 0x42);
    int served = 0;
    for (int i = 0; i < 4000; i++) {
        f.advance(kSecond / 4000);
        if (!f.irq8.level()) continue;
        served++;
        CHECK((f.get(0x0C) & 0xC0) == 0xC0);
    }
    CHECK(served == 1024);
    f.set(0x0A, 0x2F), f.get(0x0C);  // 2 Hz
    f.irqs = 0;
    f.advance(10 * kSecond);
    CHECK(f.irqs == 1);  // nobody reads C: one edge
    f.set(0x0B, 0x02);
    f.get(0x0C);
    f.advance(kSecond);
    CHECK(f.get(0x0C) == 0x50);  // polled
}

TEST_CASE("RTC: CMOS RAM survives reset, interrupt enables do not") {
    Fixture f;
    f.set(0x40, 0x5A);
    f.rtc.ioWrite(2, 1, 0x40), f.rtc.ioWrite(3, 1, 0xA5);
    f.set(0x0B, 0x72);
    f.rtc.reset();
    CHECK(f.get(0x0B) == 0x02);
    CHECK(f.get(0x40) == 0x5A);
    CHECK(f.rtc.cmos(0xC0) == 0xA5);
    f.rtc.setCmos(0x34, 0x12);
    CHECK(f.get(0x34) == 0x12);
    f.set(0x0D, 0), f.set(0x0C, 0xFF);
    CHECK(f.get(0x0D) == 0x80);
    CHECK(f.rtc.ioRead(0, 1) == 0xFF);
}

TEST_CASE("RTC: nonsense in the time registers is harmless") {
    Fixture f;
    f.set(0x0B, 0x82);
    for (uint8_t i = 0; i < 0x0A; i++) f.set(i, 0xFF);
    f.set(0x32, 0xFF);
    f.set(0x0B, 0x02);
    f.advance(86400 * 40ull * kSecond);
    CHECK(f.get(0) <= 0x59);
    CHECK(f.get(8) <= 0x12);
}
