#include <doctest/doctest.h>

#include "apic/local_apic.hpp"
#include "devices/hpet.hpp"

using namespace kiln;

namespace {

struct Fixture {
    FakeTime time;
    Clock clock{time};
    int irq0s = 0, irq8s = 0;
    std::vector<bool> legacy;
    IrqInput irq0{[this](bool level) { irq0s += level; }}, irq8{[this](bool level) { irq8s += level; }};
    ApicBus bus;
    LocalApic cpu{clock, bus, 0, true, [] { return uint64_t(0); }};
    IoApic ioApic{bus};
    Hpet hpet{clock, irq0, irq8, ioApic};

    Fixture() {
        hpet.onLegacyReplacement = [this](bool on) { legacy.push_back(on); };
        cpu.ioWrite(0xF0, 4, 0x1FF);
    }
    uint64_t read(uint64_t offset, unsigned size = 8) { return hpet.ioRead(offset, size); }
    void write(uint64_t offset, uint64_t value, unsigned size = 4) { hpet.ioWrite(offset, size, value); }
    void advance(Nanos by) { time.advance(by), clock.runDue(); }
    void steps(int count, Nanos by) {
        while (count--) advance(by);
    }
    void ioApicEntry(unsigned pin, uint32_t low) {
        ioApic.ioWrite(0, 4, 0x10 + 2 * pin);
        ioApic.ioWrite(0x10, 4, low);
    }
};

}  // namespace

TEST_CASE("HPET: capabilities and the main counter") {
    Fixture f;
    CHECK(f.read(0) == 0x009896808086A201);
    CHECK(f.read(4, 4) == 10'000'000);
    CHECK(f.read(0x100) == 0x00F0000000000030);
    f.advance(kSecond);
    CHECK(f.read(0xF0) == 0);
    f.write(0x10, 1);
    f.advance(kSecond);
    CHECK(f.read(0xF0) == 100'000'000);
    f.write(0x10, 0);
    f.advance(kSecond);
    CHECK(f.read(0xF0, 4) == 100'000'000);
    f.write(0xF4, 5);
    CHECK(f.read(0xF0) == (5ull << 32 | 100'000'000));
    f.write(0xF0, 0x1122334455667788, 8);
    CHECK(f.read(0xF4, 4) == 0x11223344);
}

TEST_CASE("HPET: one-shot in legacy replacement mode, as Linux's clock event") {
    Fixture f;
    f.write(0x10, 3);
    CHECK(f.legacy == std::vector<bool>{true});
    f.write(0x100, 0x104);  // 32 bits, enabled
    f.write(0x108, 1000);
    f.advance(9'999);
    CHECK(f.irq0s == 0);
    f.advance(1);
    CHECK(f.irq0s == 1);
    f.advance(kSecond);
    CHECK(f.irq0s == 1);
    f.write(0x108, uint32_t(f.read(0xF0)) + 50);
    f.advance(500);
    CHECK(f.irq0s == 2);
    f.advance((1ull << 32) * 10 + 100);  // the same value comes round again
    CHECK(f.irq0s == 3);
    f.write(0x120, 0x104), f.write(0x128, uint32_t(f.read(0xF0)) + 10);
    f.advance(100);
    CHECK(f.irq8s == 1);
    f.write(0x10, 1);
    CHECK(f.legacy == std::vector<bool>{true, false});
}

TEST_CASE("HPET: periodic, with the value and the period written one after the other") {
    Fixture f;
    f.write(0x10, 3);
    f.write(0x100, 0x14C);  // enable, periodic, VAL_SET, 32 bits
    f.write(0x108, 1500);
    CHECK((f.read(0x100) & 0x40) == 0);
    f.write(0x108, 1000);
    f.advance(15'000);
    CHECK(f.irq0s == 1);
    f.steps(10, 10'000);
    CHECK(f.irq0s == 11);
    CHECK(f.read(0x108) == 12'500);
    f.advance(kSecond);  // late: one interrupt, and the grid is kept
    CHECK(f.irq0s == 12);
    CHECK((f.read(0x108) - 500) % 1000 == 0);
    f.write(0x108, 1);  // a period of 10 ns does not stop the emulator
    f.steps(100, 1'000'000);
    CHECK(f.irq0s <= 120);
}

TEST_CASE("HPET: an event that is due is not lost by a write that comes before it is served") {
    Fixture f;
    f.write(0x10, 3);
    f.write(0x100, 0x14C);
    f.write(0x108, 1000), f.write(0x108, 1000);
    f.time.advance(10'500);
    f.write(0x100, 0x10C);
    CHECK(f.irq0s == 1);
    f.advance(9'500);
    CHECK(f.irq0s == 2);
}

TEST_CASE("HPET: level-triggered through the I/O APIC") {
    Fixture f;
    f.ioApicEntry(20, 0x8055);
    f.write(0x10, 1);
    f.write(0x140, 20 << 9 | 0x06);
    f.write(0x148, 100, 8);
    f.advance(1000);
    CHECK(f.read(0x20) == 4);
    CHECK(f.ioApic.pin(20).level());
    CHECK(f.cpu.acknowledge() == 0x55);
    f.write(0x20, 4);
    CHECK_FALSE(f.ioApic.pin(20).level());
    f.cpu.ioWrite(0xB0, 4, 0);
    CHECK_FALSE(f.cpu.interruptPending());
    f.write(0x140, 5 << 9 | 0x04);  // an input it may not use
    f.write(0x148, f.read(0xF0) + 10, 8);
    f.advance(1000);
    CHECK_FALSE(f.cpu.interruptPending());
}

TEST_CASE("HPET: a change of route lets go of the old wire") {
    Fixture f;
    f.write(0x10, 1);
    f.write(0x100, 20 << 9 | 0x06);
    f.write(0x108, 100, 8);
    f.advance(1000);
    CHECK(f.ioApic.pin(20).level());
    f.write(0x100, 21 << 9 | 0x06);
    CHECK_FALSE(f.ioApic.pin(20).level());
    CHECK(f.ioApic.pin(21).level());
    f.hpet.reset();
    CHECK_FALSE(f.ioApic.pin(21).level());
}

TEST_CASE("HPET: all-ones writes leave it alive") {
    Fixture f;
    for (uint64_t offset = 0; offset < 0x400; offset += 4)
        for (unsigned size : {1u, 2u, 4u, 8u})
            if (offset % size == 0) f.write(offset, ~0ull, size), f.read(offset, size);
    f.steps(100, kSecond);
    CHECK(f.read(0x200) == 0);
}
