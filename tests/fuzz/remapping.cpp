// The remapping unit with tables, queue and interrupt entries of noise in a small memory: registers, DMA and
// interrupt requests of functions and of the I/O APIC.
#include "apic/io_apic.hpp"
#include "apic/local_apic.hpp"
#include "devices/vtd.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

constexpr uint64_t kRam = 64 << 10;

// Offsets of registers that do something; the others are reached, too.
constexpr uint16_t kOffsets[] = {0x18, 0x20, 0x28, 0x2c, 0x34, 0x38, 0x3c, 0x40,  0x88, 0x90,
                                 0x9c, 0xa0, 0xa4, 0xa8, 0xb8, 0xf0, 0xf8, 0x220, 0x22c};

struct Run {
    explicit Run(Input input) : in(input) {
        memory.mapRam(PhysAddr(0), kRam, ram);
        memory.mapIo(PhysAddr(VtdUnit::kBase), VtdUnit::kSize, unit);
        apicBus.remapping = &unit;
    }

    static VtdConfig config(uint8_t bits) {
        return {.interruptRemapping = !(bits & 1),
                .extendedInterruptMode = !(bits & 3),
                .addressWidth = bits & 4 ? 48u : 39u,
                .cachingMode = bool(bits & 8),
                .passThrough = !(bits & 16),
                .deviceTlb = bool(bits & 32)};
    }
    // Mostly where RAM is, so that tables lead to tables.
    uint64_t address() {
        const uint8_t kind = in.byte();
        if (kind < 0xc0) return in.take<uint16_t>();
        if (kind < 0xd0) return VtdUnit::kBase + (in.take<uint16_t>() & 0xfff);
        if (kind < 0xe0) return 0xfee00000 | in.take<uint32_t>() >> 12;
        return in.take<uint64_t>();
    }
    void step() {
        const uint8_t kind = in.byte();
        Bdf who;
        switch (kind & 7) {
            case 0:
            case 1: {
                const unsigned at = in.byte() < 0xe0 ? kOffsets[in.below(std::size(kOffsets))]
                                                     : (in.take<uint16_t>() & 0xffc);
                memory.access(PhysAddr(VtdUnit::kBase + (at & (kind & 8 ? 0xff8 : 0xffc))), kind & 8 ? 8 : 4,
                              kind & 16   ? (address() & ~0xfffull) | in.byte()
                              : kind & 32 ? uint64_t(in.byte()) << (kind & 8 ? 56 : 24)
                                          : in.take<uint64_t>() & openBus(kind & 8 ? 8 : 4));
                break;
            }
            case 2: {  // an entry: mostly present, mostly pointing into RAM
                const uint64_t at = in.take<uint16_t>() & ~15u;
                memory.write(PhysAddr(at), (address() & ~0xfffull) | in.byte());
                memory.write(PhysAddr(at + 8), uint64_t(in.take<uint32_t>()));
                break;
            }
            case 3: {
                auto bytes = in.bytes(in.byte());
                memory.write(PhysAddr(in.take<uint16_t>()), bytes.data(), bytes.size());
                break;
            }
            case 4:
            case 5: {
                who.value = in.byte();
                const uint64_t at = address(), size = kind & 16 ? in.take<uint16_t>() : kind >> 5;
                kind & 8 ? unit.read(who, at, buffer.data(), size) : unit.write(who, at, buffer.data(), size);
                break;
            }
            case 6:
                apicBus.request({0xfee00000 | in.take<uint32_t>() >> 12, in.take<uint32_t>()}, in.byte());
                break;
            default:
                memory.access(PhysAddr(VtdUnit::kBase + in.take<uint16_t>() % 0xff8 / 8 * 8), 8);
                ioApic.ioWrite(0, 4, in.byte());
                ioApic.ioWrite(0x10, 4, in.take<uint32_t>());
                ioApic.pin(kind >> 3 & 7).raise(), ioApic.pin(kind >> 3 & 7).lower();
        }
    }
    void all() {
        while (!in.empty()) step();
        StateHash hash;
        unit.state(hash);
        unit.reset();
    }

    Input in;
    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    RamBlock ram{"ram", kRam};
    ApicBus apicBus;
    LocalApic apic{clock, apicBus, 0, true, [] { return uint64_t(0); }};
    IoApic ioApic{apicBus, 0};
    VtdUnit unit{config(in.byte()), memory, apicBus, log};
    std::vector<uint8_t> buffer = std::vector<uint8_t>(kRam);
};

void run(std::span<const uint8_t> input) { Run(Input(input)).all(); }

class Steps {
  public:
    explicit Steps(uint8_t config) { bytes.push_back(config); }
    Steps& entry(uint16_t at, uint16_t low, uint8_t flags, uint32_t high) {
        return add({2, uint8_t(at), uint8_t(at >> 8), 0, uint8_t(low), uint8_t(low >> 8), flags,
                    uint8_t(high), uint8_t(high >> 8), uint8_t(high >> 16), uint8_t(high >> 24)});
    }
    Steps& table(uint8_t reg, uint16_t at, uint8_t low) {
        return add({0x18, 0, reg, 0, uint8_t(at), uint8_t(at >> 8), low});
    }
    Steps& top(uint8_t reg, uint8_t value) { return add({0x20, 0, reg, value}); }
    Steps& low(uint8_t reg, uint32_t v) {
        return add({0, 0, reg, uint8_t(v), uint8_t(v >> 8), uint8_t(v >> 16), uint8_t(v >> 24), 0, 0, 0, 0});
    }
    Steps& dma(uint8_t kind, uint8_t who, uint16_t at) {
        return add({kind, who, 0, uint8_t(at), uint8_t(at >> 8)});
    }
    Steps& request(uint32_t address, uint8_t who) {
        address <<= 12;
        return add({6, uint8_t(address), uint8_t(address >> 8), uint8_t(address >> 16),
                    uint8_t(address >> 24), 0, 0, 0, 0, who});
    }
    Bytes bytes;

  private:
    Steps& add(Bytes b) {
        bytes.insert(bytes.end(), b.begin(), b.end());
        return *this;
    }
};

std::vector<Bytes> seeds() {
    enum : uint8_t { kCommand, kRoots, kFaultStatus = 4, kTail = 8, kQueue = 9, kIrtes = 14 };
    std::vector<Bytes> all;
    for (uint8_t config : {0, 4, 8, 32}) {
        Steps s(config);
        s.entry(0x1000, 0x2000, 1, 0).entry(0x2000 + 0x30, 0x3000, 1, 0x701);
        s.entry(0x3000, 0x4000, 3, 0).entry(0x4000, 0x5000, 3, 0).entry(0x5000, 0x6000, 3, 0);
        s.table(kRoots, 0x1000, 0).top(kCommand, 0xc0);
        s.dma(0x84, 3, 0x10).dma(0x8c, 3, 0x20).dma(0x84, 3, 0x1010).dma(0x84, 5, 0);
        s.entry(0x7000, 0, 0x12, 0)
            .entry(0x7010, 0, 0x11, 0)
            .entry(0x7020, 0, 0x04, 0)
            .entry(0x7030, 0, 0x35, 0x8000);
        s.table(kQueue, 0x7000, 0).top(kCommand, 0xc4).low(kTail, 0x40);
        s.entry(0x9010, 0x1000, 1, 0).table(kIrtes, 0x9000, 7).top(kCommand, 0xc7);
        s.request(0x30, 3).request(0x50, 3).request(0, 3);
        all.push_back(s.bytes);
    }
    return all;
}

}  // namespace

const Target kRemapping{"remapping", run, seeds, 2000};

}  // namespace kiln::fuzz
