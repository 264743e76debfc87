#include <doctest/doctest.h>

#include "apic/io_apic.hpp"
#include "apic/local_apic.hpp"

using namespace kiln;

namespace {

struct Fixture {
    FakeTime time;
    Clock clock{time};
    ApicBus bus;
    LocalApic cpu{clock, bus, 0, true, [] { return uint64_t(0); }};
    IoApic io{bus, 2};

    Fixture() { cpu.ioWrite(0xF0, 4, 0x1FF); }
    uint32_t read(uint8_t index) {
        io.ioWrite(0, 4, index);
        return uint32_t(io.ioRead(0x10, 4));
    }
    void write(uint8_t index, uint32_t value) {
        io.ioWrite(0, 4, index);
        io.ioWrite(0x10, 4, value);
    }
    void entry(unsigned pin, uint32_t low, uint32_t high = 0) {
        write(uint8_t(0x11 + 2 * pin), high);
        write(uint8_t(0x10 + 2 * pin), low);
    }
    void eoi() { cpu.ioWrite(0xB0, 4, 0); }
};

constexpr uint32_t kLevel = 1 << 15, kRemoteIrr = 1 << 14, kMasked = 1 << 16;

}  // namespace

TEST_CASE("I/O APIC: identification") {
    Fixture f;
    CHECK(f.read(1) == 0x00170020);
    CHECK(f.read(0) == 0x02000000);
    f.write(0, 0xFF000000);
    CHECK(f.read(0) == 0x0F000000);
    CHECK(f.read(0x10) == kMasked);
    CHECK(f.read(0x3F) == 0);
    CHECK(f.read(0x40) == 0xFFFFFFFF);
    CHECK(f.io.ioRead(0x11, 1) == 0xFF);
}

TEST_CASE("I/O APIC: an edge is one interrupt") {
    Fixture f;
    f.io.pin(4).raise();  // masked: lost
    f.entry(4, 0x34);
    CHECK_FALSE(f.cpu.interruptPending());
    f.io.pin(4).lower(), f.io.pin(4).raise();
    CHECK(f.cpu.acknowledge() == 0x34);
    f.eoi();
    CHECK_FALSE(f.cpu.interruptPending());
    f.entry(5, 0x35, 7u << 24);  // to a CPU that is not there
    f.io.pin(5).raise();
    CHECK_FALSE(f.cpu.interruptPending());
}

TEST_CASE("I/O APIC: a level keeps asking until the pin falls") {
    Fixture f;
    f.entry(10, kLevel | 0x3A);
    f.io.pin(10).raise();
    CHECK(f.read(0x24) == (kLevel | kRemoteIrr | 0x3A));
    CHECK(f.cpu.acknowledge() == 0x3A);
    CHECK_FALSE(f.cpu.interruptPending());
    f.eoi();
    CHECK(f.cpu.acknowledge() == 0x3A);
    f.io.pin(10).lower();
    f.eoi();
    CHECK_FALSE(f.cpu.interruptPending());
    CHECK(f.read(0x24) == (kLevel | 0x3A));
    f.write(0x24, kMasked | kLevel | 0x3A);
    f.io.pin(10).raise();
    CHECK_FALSE(f.cpu.interruptPending());
    f.write(0x24, kLevel | 0x3A);  // unmasking finds the pin high
    CHECK(f.cpu.interruptPending());
}

TEST_CASE("I/O APIC: EOI register and EOI-broadcast suppression") {
    Fixture f;
    f.cpu.ioWrite(0xF0, 4, 0x11FF);
    f.entry(10, kLevel | 0x3A);
    f.io.pin(10).raise();
    CHECK(f.cpu.acknowledge() == 0x3A);
    f.eoi();
    CHECK_FALSE(f.cpu.interruptPending());
    f.io.ioWrite(0x40, 4, 0x3A);
    CHECK(f.cpu.interruptPending());
}

TEST_CASE("I/O APIC: remote IRR goes away by a turn to edge and back, and is read-only otherwise") {
    Fixture f;
    f.entry(10, kLevel | 0x3A);
    f.io.pin(10).raise(), f.io.pin(10).lower();
    CHECK((f.read(0x24) & kRemoteIrr));
    f.write(0x24, kLevel | 0x3A);
    CHECK((f.read(0x24) & kRemoteIrr));
    f.write(0x24, kMasked | 0x3A);
    f.write(0x24, kLevel | 0x3A);
    CHECK_FALSE((f.read(0x24) & kRemoteIrr));
    f.write(0x24, kLevel | kRemoteIrr | 0x3A);
    CHECK_FALSE((f.read(0x24) & kRemoteIrr));
}

TEST_CASE("I/O APIC: shared level lines stay asserted while one device holds them") {
    Fixture f;
    f.entry(16, kLevel | 0x50);
    IrqLine a(f.io.pin(16)), b(f.io.pin(16));
    a.set(true), b.set(true);
    CHECK(f.cpu.acknowledge() == 0x50);
    a.set(false);
    f.eoi();
    CHECK(f.cpu.acknowledge() == 0x50);
    b.set(false);
    f.eoi();
    CHECK_FALSE(f.cpu.interruptPending());
}

TEST_CASE("I/O APIC: ExtINT and NMI entries") {
    Fixture f;
    f.cpu.ioWrite(0x350, 4, 0x10000);
    f.bus.onIntAck = [] { return uint8_t(0x0B); };
    f.entry(0, 0x700);
    f.io.pin(0).raise();
    CHECK(f.cpu.extIntPending());
    CHECK(f.cpu.acknowledgeIntr() == 0x0B);
    CHECK_FALSE(f.cpu.extIntPending());
    f.entry(1, 0x400);
    f.io.pin(1).raise();
    CHECK(f.cpu.takeNmi());
}
