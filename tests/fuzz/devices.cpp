// Every device's registers on a whole board: reads and writes of all widths at ports and in memory,
// descriptors for DMA, time, input from outside, interrupts taken, pictures drawn.
#include <array>

#include "tests/board_bench.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

struct Range {
    uint64_t first, count;
};
// Where something answers (board.hpp); the rest of the port space is reached by its own kind of step.
constexpr Range kPorts[] = {{0x00, 16},  {0x20, 2},  {0x40, 4},    {0x60, 5},    {0x70, 4},   {0x80, 16},
                            {0x92, 1},   {0xa0, 2},  {0xb2, 2},    {0xc0, 32},   {0xf0, 2},   {0x170, 8},
                            {0x1ce, 3},  {0x1f0, 8}, {0x2e8, 8},   {0x2f8, 8},   {0x376, 1},  {0x3b0, 48},
                            {0x3e8, 8},  {0x3f0, 8}, {0x3f8, 8},   {0x402, 1},   {0x4d0, 2},  {0x501, 2},
                            {0x510, 12}, {0xcf8, 8}, {0x600, 128}, {0xc000, 64}, {0x3c0, 16}, {0x3d4, 2}};
constexpr Range kWindows[] = {{0xfed00000, 0x400},  {0xfec00000, 0x50},    {0xfee00000, 0x400},
                              {0xa0000, 0x20000},   {0xb0000000, 0x9000},  {0xb00f8000, 0x2000},
                              {0xfd000000, 0x1000}, {0xfebf0000, 0x1000},  {0xc0000, 0x40000},
                              {0xfed1c000, 0x4000}, {0xffff0000, 0x10000}, {0xfed90000, 0x300},
                              {0xfea00000, 0x100}};
constexpr Nanos kSpans[] = {0, 100, 1'000, 30'000, 1'000'000, 60'000'000, kSecond, 20 * kSecond};

uint16_t port(Input& in) {
    const Range& r = kPorts[in.below(std::size(kPorts))];
    return uint16_t(r.first + in.below(r.count));
}

uint64_t window(Input& in, unsigned size) {
    const Range& r = kWindows[in.below(std::size(kWindows))];
    return (r.first + in.below<uint32_t>(r.count)) & ~uint64_t(size - 1);
}

void step(test::BoardBench& b, Input& in, unsigned& pictures) {
    const unsigned kind = in.byte();
    const unsigned size = 1u << (kind >> 4 & 3);
    const unsigned portSize = std::min(size, 4u);
    switch (kind & 15) {
        case 0:
        case 1:
        case 2:
        case 3: b.ports.write(port(in), portSize, uint32_t(in.take<uint32_t>() & openBus(portSize))); break;
        case 4: b.ports.write(port(in), 1, in.byte()); break;
        case 5: b.ports.read(port(in), portSize); break;
        case 6: b.memory.access(PhysAddr(window(in, size)), size, in.take<uint64_t>() & openBus(size)); break;
        case 7: b.memory.access(PhysAddr(window(in, size)), size); break;
        case 8: {
            auto bytes = in.bytes(in.byte() & 31);
            b.memory.write(PhysAddr(in.take<uint16_t>() & ~7u), bytes.data(), bytes.size());
            break;
        }
        case 9: b.pass(kSpans[in.below(std::size(kSpans))]); break;
        case 10: {  // one port many times, as a driver polls or feeds a FIFO
            uint16_t p = port(in);
            for (unsigned n = in.byte(); n; n--)
                kind & 0x40 ? (void)b.ports.read(p, portSize) : b.ports.write(p, portSize, in.byte());
            break;
        }
        case 11:
            b.ports.write(in.take<uint16_t>(), portSize, uint32_t(in.take<uint32_t>() & openBus(portSize)));
            break;
        case 12:
            switch (in.below(5)) {
                case 0: b.board->key(in.byte(), in.byte() & 1); break;
                case 1:
                    b.board->mouse(int8_t(in.byte()) * 100, in.take<int32_t>(), int8_t(in.byte()), in.byte());
                    break;
                case 2: b.board->serialInput(in.byte() & 3, in.bytes(in.byte() & 31)); break;
                case 3: b.board->powerButton(); break;
                default: b.board->coprocessorError(in.byte() & 1);
            }
            break;
        case 13:
            if (pictures++ < 3) b.board->render(kind & 0x80), b.board->screenText();
            break;
        case 14: b.takeInterrupt(); break;
        default: b.ports.read(in.take<uint16_t>(), portSize);
    }
}

void run(std::span<const uint8_t> input) {
    Input in(input);
    test::BoardBench b;
    unsigned pictures = 0;
    while (!in.empty()) {
        step(b, in, pictures);
        b.serveReset();
    }
    b.pass(kSecond / 100);
    StateGlance glance;
    b.board->state(glance);
}

// Steps as step() takes them.
class Steps {
  public:
    Steps& out(uint16_t port, uint8_t value) { return add({4, index(port), offset(port), value}); }
    Steps& out16(uint16_t port, uint16_t v) {
        return add({0x10, index(port), offset(port), uint8_t(v), uint8_t(v >> 8), 0, 0});
    }
    Steps& out32(uint16_t port, uint32_t v) {
        return add({0x20, index(port), offset(port), uint8_t(v), uint8_t(v >> 8), uint8_t(v >> 16),
                    uint8_t(v >> 24)});
    }
    Steps& in(uint16_t port) { return add({5, index(port), offset(port)}); }
    Steps& wait(uint8_t span) { return add({9, span}); }
    Steps& picture() { return add({0x8d}); }
    Steps& mmio(uint8_t window, uint32_t at, uint32_t v) {
        return add({0x26, window, uint8_t(at), uint8_t(at >> 8), uint8_t(at >> 16), 0, uint8_t(v),
                    uint8_t(v >> 8), uint8_t(v >> 16), uint8_t(v >> 24), 0, 0, 0, 0});
    }
    Bytes bytes;

  private:
    Steps& add(Bytes b) {
        bytes.insert(bytes.end(), b.begin(), b.end());
        return *this;
    }
    static uint8_t index(uint16_t port) {
        for (uint8_t n = 0; n < std::size(kPorts); n++)
            if (port >= kPorts[n].first && port < kPorts[n].first + kPorts[n].count) return n;
        return 0;
    }
    static uint8_t offset(uint16_t port) { return uint8_t(port - kPorts[index(port)].first); }
};

std::vector<Bytes> seeds() {
    Steps timers, vga, vbe, hpet, uart, keyboard, rtc, pm, apic, floppy;
    timers.out(0x20, 0x11)
        .out(0x21, 8)
        .out(0x21, 4)
        .out(0x21, 1)
        .out(0x43, 0x34)
        .out(0x40, 2)
        .out(0x40, 0)
        .wait(5)
        .out(0x43, 0xc2)
        .in(0x40)
        .wait(6);
    vga.out(0x3c2, 0xe3)
        .out16(0x3c4, 0x0604)
        .out16(0x3ce, 0x0506)
        .out16(0x3d4, 0x2813)
        .out(0x3c0, 0x10)
        .out(0x3c0, 0x41)
        .picture()
        .wait(4)
        .picture();
    vbe.out16(0x1ce, 1)
        .out16(0x1cf, 1024)
        .out16(0x1ce, 2)
        .out16(0x1cf, 768)
        .out16(0x1ce, 3)
        .out16(0x1cf, 32)
        .out16(0x1ce, 4)
        .out16(0x1cf, 0x41)
        .picture();
    hpet.mmio(0, 0x108, 1000).mmio(0, 0x100, 0x4c).mmio(0, 0x108, 1).mmio(0, 0x10, 3).wait(5).wait(7);
    uart.out(0x3fb, 0x80)
        .out(0x3f8, 1)
        .out(0x3fb, 3)
        .out(0x3fa, 7)
        .out(0x3f9, 15)
        .out(0x3fc, 0x1b)
        .out(0x3f8, 65)
        .wait(4)
        .in(0x3f8);
    keyboard.out(0x64, 0x60)
        .out(0x60, 0x47)
        .out(0x60, 0xff)
        .wait(5)
        .in(0x60)
        .out(0x64, 0xd4)
        .out(0x60, 0xf4)
        .wait(5)
        .in(0x60);
    rtc.out(0x70, 0x0b).out(0x71, 0x72).out(0x70, 0x0a).out(0x71, 0x2f).wait(6).out(0x70, 0x0c).in(0x71);
    pm.out32(0xcf8, 0x8000f840)
        .out32(0xcfc, 0x601)
        .out32(0xcf8, 0x8000f844)
        .out32(0xcfc, 0x80)
        .out16(0x602, 0x121)
        .wait(6)
        .out(0xb2, 0xf0);
    apic.mmio(2, 0xf0, 0x1ff)
        .mmio(2, 0x320, 0x20030)
        .mmio(2, 0x3e0, 0xb)
        .mmio(2, 0x380, 1)
        .wait(5)
        .mmio(1, 0, 0x10)
        .mmio(1, 0x10, 0x8030);
    floppy.out(0x3f2, 0x1c)
        .out(0x3f5, 7)
        .out(0x3f5, 0)
        .wait(6)
        .out(0x3f5, 8)
        .in(0x3f5)
        .out(0x0b, 0x46)
        .out(0x04, 0)
        .out(0x0a, 2);
    std::vector<Bytes> all;
    Bytes together;
    for (const Steps* s : {&timers, &vga, &vbe, &hpet, &uart, &keyboard, &rtc, &pm, &apic, &floppy}) {
        all.push_back(s->bytes);
        together.insert(together.end(), s->bytes.begin(), s->bytes.end());
    }
    all.push_back(together);
    return all;
}

}  // namespace

const Target kDevices{"devices", run, seeds, 40};

}  // namespace kiln::fuzz
