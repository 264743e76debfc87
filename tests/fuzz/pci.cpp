// PCI configuration space of every function by both mechanisms, and what BARs, ECAM base, PAM registers and
// SMRAM control then map where.
#include "pci/pci_function.hpp"
#include "tests/board_bench.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

constexpr uint32_t kValues[] = {0,          0xffffffff, 0x7,        0xc001,     0xfebf0000,
                                0xe0000008, 0xa0000,    0xfffffff0, 0xb0000001, 0x33333333};

void run(std::span<const uint8_t> input) {
    Input in(input);
    test::BoardBench b;
    const auto& functions = b.board->pci().functions();
    while (!in.empty()) {
        const unsigned kind = in.byte();
        const unsigned size = 1u << kind % 3;
        Bdf bdf = kind & 0x80 ? Bdf(in.byte() & 1, in.byte() & 31, in.byte() & 7)
                              : functions[in.below(functions.size())]->bdf();
        const unsigned offset = in.byte() & ~(size - 1);
        const uint32_t value = kind & 0x40 ? kValues[in.below(std::size(kValues))] : in.take<uint32_t>();
        const PhysAddr ecam(0xb0000000 + (uint64_t(bdf.value) << 12) + offset + (kind & 1 ? 0x100 : 0));
        switch (kind >> 3 & 7) {
            case 0:
            case 1:
            case 2:
                b.ports.write(0xcf8, 4, 0x80000000 | unsigned(bdf.value) << 8 | (offset & 0xfc));
                b.ports.write(uint16_t(0xcfc + (offset & 3)), size, uint32_t(value & openBus(size)));
                break;
            case 3: b.memory.access(ecam, size, value & openBus(size)); break;
            case 4:
                b.memory.access(ecam, size);
                b.ports.write(0xcf8, 4, value);
                b.ports.read(uint16_t(0xcfc + (offset & 3)), size);
                break;
            case 5:
                b.memory.access(PhysAddr(value & ~(size - 1)), size, in.take<uint32_t>() & openBus(size));
                break;
            case 6:
                b.memory.access(PhysAddr(value & ~(size - 1)), size);
                b.ports.read(uint16_t(value), size);
                break;
            default:
                if (kind & 0x40) b.ports.write(uint16_t(value), size, in.byte());
                b.pass(kSecond / 1000);
        }
        b.serveReset();
    }
    b.board->pci().reset();
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (uint8_t function = 0; function < 5; function++) {
        Bytes ones, enable;
        for (unsigned offset = 0; offset < 256; offset += 4) {
            ones.insert(ones.end(), {0x42, function, uint8_t(offset), 1});
            enable.insert(enable.end(), {0x42, function, uint8_t(offset), uint8_t(offset & 4 ? 3 : 4)});
        }
        enable.insert(enable.end(), {0x42, function, 4, 2, 0x28, 0, 0, 0, 0, 0xbf, 0xfe, 1, 2, 3, 4});
        all.push_back(ones), all.push_back(enable);
    }
    return all;
}

}  // namespace

const Target kPci{"pci", run, seeds, 400};

}  // namespace kiln::fuzz
