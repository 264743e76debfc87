#include <doctest/doctest.h>

#include <numeric>
#include <random>
#include <vector>

#include "devices/i8237.hpp"

using namespace kiln;

namespace {

struct Bench {
    Log log;
    PhysicalMemory memory;
    RamBlock ram{"ram", 2 << 20};
    PortBus ports;
    I8237Pair dma{memory, log};
    Bench() {
        memory.mapRam(PhysAddr(0), ram.size(), ram);
        dma.mapPorts(ports);
        dma.reset();
        out(0xd6, 0xc0);  // channel 4 cascades
        out(0xd4, 0x00);
    }
    void out(unsigned port, unsigned value) { ports.write(uint16_t(port), 1, value & 0xff); }
    uint8_t in(unsigned port) { return uint8_t(ports.read(uint16_t(port), 1)); }
    // Programs channel 2 as a BIOS does.
    void program(uint32_t address, uint32_t count, uint8_t mode) {
        out(0x0a, 6);
        out(0x0c, 0);
        out(0x0b, mode | 2u);
        out(0x04, address), out(0x04, address >> 8);
        out(0x81, address >> 16);
        out(0x05, count - 1), out(0x05, (count - 1) >> 8);
        out(0x0a, 2);
    }
};

std::vector<uint8_t> ramp(unsigned n) {
    std::vector<uint8_t> v(n);
    std::iota(v.begin(), v.end(), uint8_t(1));
    return v;
}

}  // namespace

TEST_CASE("DMA: bytes to memory until the terminal count, which masks the channel") {
    Bench b;
    b.program(0x12345, 600, 0x44);
    auto data = ramp(512);
    auto r = b.dma.toMemory(2, data.data(), 512);
    CHECK(r.moved == 512);
    CHECK(!r.terminalCount);
    b.out(0x0c, 0);
    CHECK(b.in(0x04) == 0x45);
    CHECK(b.in(0x04) == 0x25);
    CHECK(b.in(0x05) == 87);
    CHECK(b.in(0x05) == 0);
    r = b.dma.toMemory(2, data.data(), 512);
    CHECK(r.moved == 88);
    CHECK(r.terminalCount);
    CHECK(b.ram.data()[0x12345] == 1);
    CHECK(b.ram.data()[0x12545] == 1);
    CHECK(b.ram.data()[0x12545 + 87] == 88);
    CHECK(b.ram.data()[0x12545 + 88] == 0);
    CHECK(!b.dma.ready(2));
    CHECK(b.in(0x08) == 0x04);
    CHECK(b.in(0x08) == 0x00);  // read once
    CHECK(b.dma.toMemory(2, data.data(), 1).moved == 0);
}

TEST_CASE("DMA: auto-initialise starts over") {
    Bench b;
    b.program(0x2000, 4, 0x54);
    auto data = ramp(8);
    CHECK(b.dma.toMemory(2, data.data(), 8).moved == 4);
    CHECK(b.dma.ready(2));
    CHECK(b.dma.toMemory(2, data.data() + 4, 4).terminalCount);
    CHECK(b.ram.data()[0x2000] == 5);
}

TEST_CASE("DMA: from memory, downwards, and across the 64 KiB wrap") {
    Bench b;
    for (unsigned i = 0; i < 16; i++) b.ram.data()[0x3000 + i] = uint8_t(i);
    b.program(0x3007, 8, 0x68);  // decrement
    uint8_t got[8];
    CHECK(b.dma.fromMemory(2, got, 8).terminalCount);
    for (unsigned i = 0; i < 8; i++) CHECK(got[i] == 7 - i);

    b.program(0x1fffe, 4, 0x44);
    auto data = ramp(4);
    b.dma.toMemory(2, data.data(), 4);
    CHECK(b.ram.data()[0x1ffff] == 2);
    CHECK(b.ram.data()[0x10000] == 3);  // the page register doesn't count
    CHECK(b.ram.data()[0x20000] == 0);
}

TEST_CASE("DMA: verify counts without touching memory") {
    Bench b;
    b.program(0x3000, 4, 0x40);
    auto data = ramp(4);
    CHECK(b.dma.toMemory(2, data.data(), 4).terminalCount);
    CHECK(b.ram.data()[0x3000] == 0);
}

TEST_CASE("DMA: word channels") {
    Bench b;
    b.out(0xd4, 5), b.out(0xd8, 0), b.out(0xd6, 0x45);
    b.out(0xc4, 0x00), b.out(0xc4, 0x80);  // word address 0x8000: bytes 0x10000
    b.out(0x8b, 0x03);                     // bit 0 of the page isn't used
    b.out(0xc6, 2), b.out(0xc6, 0);
    b.out(0xd4, 1);
    auto data = ramp(7);
    auto r = b.dma.toMemory(5, data.data(), 7);
    CHECK(r.moved == 6);
    CHECK(r.terminalCount);
    CHECK(b.ram.data()[0x30000] == 1);
    CHECK(b.ram.data()[0x30005] == 6);
    CHECK(b.in(0x8b) == 3);
}

TEST_CASE("DMA: masks, disabled controllers, the cascade, requests") {
    Bench b;
    b.program(0x1000, 16, 0x44);
    CHECK(b.dma.ready(2));
    b.out(0x0f, 0x04);
    CHECK(!b.dma.ready(2));
    CHECK(b.in(0x0f) == 0xf4);
    b.out(0x0e, 0);
    CHECK(b.dma.ready(2));
    b.out(0x08, 0x04);
    CHECK(!b.dma.ready(2));
    b.out(0x08, 0);
    b.out(0xd4, 0x04);  // channel 4 masked: the first controller is cut off
    CHECK(!b.dma.ready(2));
    CHECK(!b.dma.ready(4));
    b.out(0xd4, 0x00);
    b.dma.setRequest(2, true);
    CHECK(b.in(0x08) == 0x40);
    b.out(0x0d, 0);  // master clear
    CHECK(!b.dma.ready(2));
    b.out(0x84, 0x5a);
    CHECK(b.in(0x84) == 0x5a);
}

TEST_CASE("DMA: random programming is survived") {
    Bench b;
    std::mt19937 random(3);
    std::vector<uint8_t> buffer(70000);
    for (int i = 0; i < 50000; i++) {
        unsigned port = random() % 3 == 0 ? 0xc0 + random() % 32
                        : random() % 2    ? random() % 16
                                          : 0x81 + random() % 15;
        random() % 4 ? b.out(port, random() % 8 ? random() : 0xff) : void(b.in(port));
        if (i % 10) continue;
        unsigned n = random() % buffer.size();
        random() % 2 ? b.dma.toMemory(random() % 10, buffer.data(), n)
                     : b.dma.fromMemory(random() % 10, buffer.data(), n);
    }
    CHECK(!b.dma.ready(9));
}
