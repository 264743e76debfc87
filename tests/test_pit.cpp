#include <doctest/doctest.h>

#include "devices/i8254.hpp"

using namespace kiln;

namespace {

struct Fixture {
    FakeTime time;
    Clock clock{time};
    int irqs = 0;
    IrqInput irq0{[this](bool level) { irqs += level; }};
    I8254 pit{clock, irq0};

    Fixture() { irqs = 0; }
    void out(uint16_t port, uint8_t value) { pit.ioWrite(port == 0x61 ? 4 : port - 0x40u, 1, value); }
    uint8_t in(uint16_t port) { return uint8_t(pit.ioRead(port == 0x61 ? 4 : port - 0x40u, 1)); }
    void program(unsigned channel, unsigned mode, uint16_t count, bool bcd = false) {
        out(0x43, uint8_t(channel << 6 | 0x30 | mode << 1 | int(bcd)));
        out(uint16_t(0x40 + channel), uint8_t(count));
        out(uint16_t(0x40 + channel), uint8_t(count >> 8));
    }
    void toTick(uint64_t tick) {
        Nanos t = Clock::timeOfTick(tick, I8254::kHz);
        REQUIRE(t >= clock.now());
        // In small steps, as the run loop does it.
        while (clock.nextDeadline() <= t) {
            if (clock.nextDeadline() > clock.now()) time.advance(clock.nextDeadline() - clock.now());
            clock.runDue();
        }
        time.advance(t - clock.now());
        clock.runDue();
    }
    unsigned latched(unsigned channel) {
        out(0x43, uint8_t(channel << 6));
        unsigned low = in(uint16_t(0x40 + channel));
        return low | unsigned(in(uint16_t(0x40 + channel))) << 8;
    }
};

}  // namespace

TEST_CASE("PIT: mode 2 interrupts once a period") {
    Fixture f;
    f.program(0, 2, 1000);
    f.irqs = 0;
    f.toTick(1000);
    CHECK(f.irqs == 0);
    f.toTick(1001);  // one tick to load, then the period
    CHECK(f.irqs == 1);
    f.toTick(10001);
    CHECK(f.irqs == 10);
    f.toTick(10001 + 250);
    CHECK(f.latched(0) == 750);
}

TEST_CASE("PIT: the BIOS tick is 18.2 Hz") {
    Fixture f;
    f.program(0, 3, 0);
    f.irqs = 0;
    f.toTick(I8254::kHz * 10);
    CHECK(f.irqs == 182);
}

TEST_CASE("PIT: mode 0 rises once at terminal count") {
    Fixture f;
    f.program(0, 0, 500);
    CHECK_FALSE(f.pit.output(0));
    f.toTick(500);
    CHECK_FALSE(f.pit.output(0));
    f.toTick(501);
    CHECK(f.pit.output(0));
    CHECK(f.irqs == 1);
    f.toTick(511);
    CHECK(f.latched(0) == 0xFFF6);  // wraps and goes on
    f.toTick(200000);
    CHECK(f.irqs == 1);
    f.out(0x40, 5);  // the first of two bytes stops it
    CHECK_FALSE(f.pit.output(0));
    CHECK(f.clock.nextDeadline() == kNever);
}

TEST_CASE("PIT: mode 4 strobes, as Linux's one-shot clock event uses it") {
    Fixture f;
    f.program(0, 4, 100);
    f.irqs = 0;
    f.toTick(102);
    CHECK(f.irqs == 1);
    f.out(0x40, 200), f.out(0x40, 0);
    f.toTick(102 + 202);
    CHECK(f.irqs == 2);
    f.toTick(5000);
    CHECK(f.irqs == 2);
}

TEST_CASE("PIT: a new count in mode 2 waits for the end of the period") {
    Fixture f;
    f.program(0, 2, 1000);
    f.irqs = 0;
    f.toTick(500);
    f.out(0x40, 100), f.out(0x40, 0);
    f.toTick(1001);
    CHECK(f.irqs == 1);
    f.toTick(1101);
    CHECK(f.irqs == 2);
}

TEST_CASE("PIT: square wave of channel 2 with its gate, seen in port 0x61") {
    Fixture f;
    f.out(0x61, 0x01);
    f.program(2, 3, 1000);
    f.toTick(400);
    CHECK((f.in(0x61) & 0x20) == 0x20);
    f.toTick(600);
    CHECK((f.in(0x61) & 0x20) == 0);
    f.out(0x61, 0x00);  // gate low: OUT high
    CHECK((f.in(0x61) & 0x21) == 0x20);
    f.toTick(1600);
    f.out(0x61, 0x03);
    CHECK((f.in(0x61) & 0x23) == 0x23);
    f.toTick(2200);
    CHECK((f.in(0x61) & 0x20) == 0);
    CHECK_FALSE(f.pit.speakerOn());
}

TEST_CASE("PIT: channel 2 in mode 0 as the calibration loops of kernels use it") {
    Fixture f;
    f.out(0x61, 0x00);
    f.program(2, 0, 1000);
    f.toTick(5000);
    CHECK((f.in(0x61) & 0x20) == 0);  // the gate holds it
    f.out(0x61, 0x01);
    f.toTick(5500);
    CHECK((f.in(0x61) & 0x20) == 0);
    f.out(0x61, 0x00), f.toTick(7000), f.out(0x61, 0x01);  // pause
    f.toTick(7499);
    CHECK((f.in(0x61) & 0x20) == 0);
    f.toTick(7501);
    CHECK((f.in(0x61) & 0x20) == 0x20);
}

TEST_CASE("PIT: modes 1 and 5 start with the gate") {
    Fixture f;
    f.program(2, 1, 100);
    f.toTick(500);
    CHECK(f.pit.output(2));
    f.out(0x61, 1);
    f.toTick(550);
    CHECK_FALSE(f.pit.output(2));
    f.toTick(601);
    CHECK(f.pit.output(2));
    f.out(0x61, 0);
    f.program(2, 5, 100);
    f.out(0x61, 1);
    f.toTick(702);
    CHECK_FALSE(f.pit.output(2));
    f.toTick(703);
    CHECK(f.pit.output(2));
}

TEST_CASE("PIT: BCD, single bytes, latch and read-back") {
    Fixture f;
    f.program(0, 2, 0x1000, true);
    f.toTick(2);
    CHECK(f.latched(0) == 0x0999);
    f.out(0x43, 0x14), f.out(0x40, 200);  // low byte only
    f.toTick(53);
    CHECK(f.in(0x40) == 150);
    f.out(0x43, 0x24), f.out(0x40, 2);  // high byte only: 512
    f.toTick(54 + 256);
    CHECK(f.in(0x40) == 1);

    f.program(0, 3, 1000);
    f.out(0x43, 0xE2);  // status
    CHECK(f.in(0x40) == (0x80 | 0x40 | 0x30 | 0x06));
    f.toTick(400);
    f.out(0x43, 0xC2);  // both: status first, then the count
    CHECK(f.in(0x40) == (0x80 | 0x30 | 0x06));
    unsigned low = f.in(0x40), high = f.in(0x40);
    CHECK((low | high << 8) == 1000 - 2 * 89);
    f.out(0x43, 0x00);
    f.toTick(450);
    f.out(0x43, 0x00);  // a second latch command changes nothing
    low = f.in(0x40), high = f.in(0x40);
    CHECK((low | high << 8) == 1000 - 2 * 89);
}

TEST_CASE("PIT: refresh toggles, HPET can take IRQ 0 away, a count of 1 is survived") {
    Fixture f;
    uint8_t before = f.in(0x61) & 0x10;
    f.time.advance(15085);
    CHECK((f.in(0x61) & 0x10) != before);
    f.program(0, 2, 1);
    f.time.advance(kSecond);
    f.clock.runDue();
    CHECK(f.clock.nextDeadline() > f.clock.now() + 5000);
    f.pit.setIrqEnabled(false);
    f.irqs = 0;
    f.time.advance(kSecond);
    f.clock.runDue();
    CHECK(f.irqs == 0);
}
