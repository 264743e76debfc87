// The firmware configuration device: selectors, data and DMA descriptors anywhere, descriptors that overwrite
// themselves, and targets in registers, ROM and nowhere.
#include "devices/fw_cfg.hpp"

#include "devices/acpi_tables.hpp"
#include "devices/smbios.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

constexpr uint64_t kRam = 64 << 10;

uint64_t swapped(uint64_t v) { return __builtin_bswap64(v); }

struct Registers : IoHandler {
    uint64_t ioRead(uint64_t offset, unsigned) override { return offset; }
    void ioWrite(uint64_t, unsigned, uint64_t) override {}
};

struct Bench {
    Registers registers;
    PhysicalMemory memory;
    Log log;
    RamBlock ram{"ram", kRam}, rom{"rom", 4096};
    FwCfg fw{memory, log};
    PortBus ports;
    Bench() {
        memory.mapRam(PhysAddr(0), kRam, ram);
        memory.mapRom(PhysAddr(0xf0000), 4096, rom);
        memory.mapIo(PhysAddr(0xfee00000), 4096, registers);
        ports.map(FwCfg::kSelectorPort, 2, fw.ports());
        ports.map(FwCfg::kDmaPort, 8, fw.dma());
        fw.add16(FwCfgKey::CpuCount, 1);
        fw.addFile("etc/empty", {});
        offerAcpi(fw, {});
        fw.addFile("etc/big", Bytes(100'000, 0x5a));
    }
};

uint64_t address(Input& in) {
    switch (in.below(6)) {
        case 0: return in.take<uint16_t>();
        case 1: return kRam - in.byte();
        case 2: return 0xf0000 + in.byte();
        case 3: return 0xfee00000 + in.byte();
        case 4: return ~0ull - in.byte();
        default: return in.take<uint64_t>();
    }
}

void run(std::span<const uint8_t> input) {
    Input in(input);
    Bench b;
    while (!in.empty()) {
        switch (in.below(6)) {
            case 0: b.ports.write(0x510, 2, in.take<uint16_t>() & 0x803f); break;
            case 1: b.ports.read(0x511, 1); break;
            case 2: {
                uint32_t descriptor[4] = {__builtin_bswap32(in.take<uint32_t>() & 0x803f00df),
                                          __builtin_bswap32(in.byte() & 1 ? in.byte() : in.take<uint32_t>()),
                                          0, 0};
                uint64_t target = swapped(address(in)), at = address(in);
                std::memcpy(&descriptor[2], &target, 8);
                // Physical addresses have 52 bits; only the device is handed more.
                if (at < 1ull << 52) b.memory.write(PhysAddr(at), descriptor, sizeof descriptor);
                b.ports.write(0x514, 4, uint32_t(swapped(at)));
                b.ports.write(0x518, 4, uint32_t(swapped(at) >> 32));
                break;
            }
            case 3:
                b.ports.write(uint16_t(0x510 + in.below(12)), 1u << in.below(3), in.take<uint32_t>() & 0xff);
                break;
            case 4: b.ports.read(uint16_t(0x510 + in.below(12)), 1u << in.below(3)); break;
            default:
                if (in.byte() == 0) b.fw.reset();
        }
    }
}

std::vector<Bytes> seeds() {
    // Select and read by DMA; skip; a descriptor inside its own target; a long read.
    return {{2, 0x0a, 0, 0x19, 0, 1, 64, 0, 0, 0x10, 0, 0x20, 0, 1, 1, 1},
            {2, 0x04, 0, 0, 0, 1, 9, 0, 0, 0x10, 0, 0x20},
            {2, 0x0a, 0, 0x21, 0, 0, 0, 0x10, 0, 0, 0, 0x10, 0, 0, 8, 0x10},
            {2, 0x02, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 1, 4, 0, 0, 0x10},
            {0, 0x19, 0, 1, 1, 1, 1, 3, 4, 2, 4, 2, 2}};
}

}  // namespace

const Target kFwCfg{"fw_cfg", run, seeds, 800};

}  // namespace kiln::fuzz
