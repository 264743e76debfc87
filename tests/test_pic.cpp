#include <doctest/doctest.h>

#include <vector>

#include "apic/i8259.hpp"

using namespace kiln;

namespace {

struct Fixture {
    I8259Pair pic;
    std::vector<bool> intr;

    Fixture() {
        pic.onIntr = [this](bool level) { intr.push_back(level); };
        pic.reset();
        init();
    }
    void out(uint16_t port, uint8_t value) { pic.ioWrite(offset(port), 1, value); }
    uint8_t in(uint16_t port) { return uint8_t(pic.ioRead(offset(port), 1)); }
    static uint64_t offset(uint16_t port) {
        if (port >= 0x4D0) return port - 0x4D0 + 4u;
        return port >= 0xA0 ? port - 0xA0 + 2u : port - 0x20u;
    }
    // What every PC BIOS does: vectors 8 and 0x70, cascade on 2, 8086 mode, all open.
    void init(uint8_t icw4 = 1, uint8_t slaveIcw4 = 1) {
        out(0x20, 0x11), out(0x21, 0x08), out(0x21, 0x04), out(0x21, icw4);
        out(0xA0, 0x11), out(0xA1, 0x70), out(0xA1, 0x02), out(0xA1, slaveIcw4);
        out(0x21, 0), out(0xA1, 0);
    }
    uint8_t irr(bool slave = false) { return out(slave ? 0xA0 : 0x20, 0x0A), in(slave ? 0xA0 : 0x20); }
    uint8_t isr(bool slave = false) { return out(slave ? 0xA0 : 0x20, 0x0B), in(slave ? 0xA0 : 0x20); }
};

}  // namespace

TEST_CASE("8259: an edge is latched, acknowledged once and finished by EOI") {
    Fixture f;
    f.pic.pin(4).raise();
    CHECK(f.pic.intr());
    CHECK(f.irr() == 0x10);
    CHECK(f.pic.acknowledge() == 8 + 4);
    CHECK(f.irr() == 0);
    CHECK(f.isr() == 0x10);
    CHECK_FALSE(f.pic.intr());
    f.out(0x20, 0x20);
    CHECK(f.isr() == 0);
    CHECK_FALSE(f.pic.intr());  // the line is still high, but nothing rose
}

TEST_CASE("8259: a request that falls before its acknowledge is gone") {
    Fixture f;
    f.out(0xA1, 0x10);
    f.pic.pin(12).raise();
    f.pic.pin(12).lower();  // the driver has polled the byte away
    f.out(0xA1, 0);
    CHECK(f.irr(true) == 0);
    CHECK_FALSE(f.pic.intr());
    f.pic.pin(12).raise();
    CHECK(f.pic.intr());
    f.pic.pin(12).lower();
    CHECK_FALSE(f.pic.intr());
    CHECK(f.pic.acknowledge() == 8 + 7);  // too late: the spurious vector
    f.pic.pin(12).raise();
    CHECK(f.pic.acknowledge() == 0x74);
}

TEST_CASE("8259: priority, nesting and masks") {
    Fixture f;
    f.pic.pin(5).raise();
    CHECK(f.pic.acknowledge() == 13);
    f.pic.pin(6).raise();  // lower priority waits
    CHECK_FALSE(f.pic.intr());
    f.pic.pin(1).raise();  // a higher one interrupts
    CHECK(f.pic.intr());
    CHECK(f.pic.acknowledge() == 9);
    CHECK(f.isr() == 0x22);
    f.out(0x20, 0x20);  // non-specific EOI finishes the highest
    CHECK(f.isr() == 0x20);
    f.out(0x20, 0x65);  // specific EOI of 5
    CHECK(f.pic.acknowledge() == 14);
    f.out(0x20, 0x20);
    f.out(0x21, 0x08);
    CHECK(f.in(0x21) == 0x08);
    f.pic.pin(3).raise();
    CHECK_FALSE(f.pic.intr());
    f.out(0x21, 0);
    CHECK(f.pic.intr());
}

TEST_CASE("8259: the second chip comes through input 2") {
    Fixture f;
    f.pic.pin(12).raise();
    f.pic.pin(9).raise();
    CHECK(f.pic.acknowledge() == 0x71);
    CHECK(f.isr() == 0x04);
    CHECK(f.isr(true) == 0x02);
    CHECK_FALSE(f.pic.intr());
    f.out(0xA0, 0x20);
    CHECK_FALSE(f.pic.intr());  // the first chip still serves input 2
    f.out(0x20, 0x20);
    CHECK(f.pic.acknowledge() == 0x74);
}

TEST_CASE("8259: special fully nested mode lets a higher slave input through") {
    Fixture f;
    f.init(0x11);
    f.pic.pin(12).raise();
    CHECK(f.pic.acknowledge() == 0x74);
    f.pic.pin(8).raise();
    CHECK(f.pic.intr());
    CHECK(f.pic.acknowledge() == 0x70);
}

TEST_CASE("8259: spurious interrupts are 7 and 15 and set no in-service bit") {
    Fixture f;
    CHECK(f.pic.acknowledge() == 15);
    CHECK(f.isr() == 0);
    f.out(0x4D1, 0x08);  // IRQ 11 level-triggered
    f.pic.pin(11).raise();
    CHECK(f.pic.intr());
    f.pic.pin(11).lower();
    CHECK_FALSE(f.pic.intr());
    // IRQ 15: the slave's request goes away between its INT and the acknowledge.
    I8259 slave(false);
    slave.write(0, 0x11), slave.write(1, 0x70), slave.write(1, 2), slave.write(1, 1), slave.write(1, 0);
    CHECK(slave.vector(unsigned(slave.acknowledge())) == 0x77);
    CHECK(slave.spurious);
}

TEST_CASE("8259: ELCR makes inputs level-triggered, but not the ISA ones") {
    Fixture f;
    f.out(0x4D0, 0xFF), f.out(0x4D1, 0xFF);
    CHECK(f.in(0x4D0) == 0xF8);
    CHECK(f.in(0x4D1) == 0xDE);
    f.pic.pin(10).raise();
    CHECK(f.pic.acknowledge() == 0x72);
    f.out(0xA0, 0x20), f.out(0x20, 0x20);
    CHECK(f.pic.intr());  // still asserted: asks again
    f.pic.pin(10).lower();
    CHECK_FALSE(f.pic.intr());
}

TEST_CASE("8259: automatic EOI and rotation") {
    Fixture f;
    f.init(0x03);
    f.pic.pin(3).raise();
    CHECK(f.pic.acknowledge() == 11);
    CHECK(f.isr() == 0);
    f.init();
    f.pic.pin(0).raise(), f.pic.pin(1).raise();
    CHECK(f.pic.acknowledge() == 8);
    f.out(0x20, 0xA0);  // rotate on non-specific EOI: 0 is the lowest now
    f.pic.pin(0).lower(), f.pic.pin(0).raise();
    CHECK(f.pic.acknowledge() == 9);
    f.out(0x20, 0x20);
    CHECK(f.pic.acknowledge() == 8);
    f.out(0x20, 0x20);
    f.out(0x20, 0xC4);  // set priority: 5 is the highest
    f.pic.pin(4).raise(), f.pic.pin(5).raise();
    CHECK(f.pic.acknowledge() == 13);
}

TEST_CASE("8259: special mask mode enables lower levels") {
    Fixture f;
    f.pic.pin(4).raise();
    CHECK(f.pic.acknowledge() == 12);
    f.pic.pin(6).raise();
    CHECK_FALSE(f.pic.intr());
    f.out(0x21, 0x10);
    CHECK_FALSE(f.pic.intr());
    f.out(0x20, 0x68);
    CHECK(f.pic.intr());
    CHECK(f.pic.acknowledge() == 14);
    f.out(0x20, 0x20);  // spares the masked level
    CHECK(f.isr() == 0x10);
    f.out(0x20, 0x48);
}

TEST_CASE("8259: poll") {
    Fixture f;
    f.out(0x20, 0x0C);
    CHECK(f.in(0x20) == 0);
    f.pic.pin(3).raise();
    f.out(0x20, 0x0C);
    CHECK(f.in(0x20) == 0x83);
    CHECK(f.isr() == 0x08);
    CHECK_FALSE(f.pic.intr());
}

TEST_CASE("8259: INTR falls at each acknowledge") {
    Fixture f;
    f.pic.pin(6).raise(), f.pic.pin(5).raise();
    f.intr.clear();
    f.pic.acknowledge();
    f.out(0x20, 0x20);
    CHECK(f.intr == std::vector<bool>{false, true});
    f.out(0x20, 0x20);
    f.init(0x03);  // automatic EOI: the next one asks at once
    f.pic.pin(3).raise(), f.pic.pin(4).raise();
    f.intr.clear();
    f.pic.acknowledge();
    CHECK(f.intr == std::vector<bool>{false, true});
}

TEST_CASE("8259: nothing interrupts during initialisation, and ICW1 forgets edges") {
    Fixture f;
    f.pic.pin(3).raise();
    f.out(0x20, 0x11);
    CHECK_FALSE(f.pic.intr());
    f.out(0x21, 0x20), f.out(0x21, 4), f.out(0x21, 1);
    CHECK_FALSE(f.pic.intr());
    f.pic.pin(3).lower(), f.pic.pin(3).raise();
    CHECK(f.pic.acknowledge() == 0x23);
}
