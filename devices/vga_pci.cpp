#include "devices/vga_pci.hpp"

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <vector>

namespace kiln {

namespace {

constexpr PciIdentity kIdentity{.vendor = 0x1234,
                                .device = 0x1111,
                                .classCode = 0x030000,
                                .revision = 2,
                                .subsystemVendor = 0x1AF4,
                                .subsystem = 0x1100};
constexpr size_t kMaxRom = 128 << 10;  // what fits at 0xC0000

std::vector<uint8_t> readRom(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<uint8_t> bytes(kMaxRom + 1);
    file.read(reinterpret_cast<char*>(bytes.data()), std::streamsize(bytes.size()));
    bytes.resize(size_t(file.gcount()));
    if (!file.is_open() || file.bad())
        throw std::runtime_error(
            "The video BIOS '" + path +
            "' can't be read. It is in Debian's package seabios; -vga none does without.");
    bool optionRom = bytes.size() >= 512 && bytes[0] == 0x55 && bytes[1] == 0xAA;
    if (!optionRom || bytes.size() > kMaxRom)
        throw std::runtime_error(
            "'" + path + "' is not a video BIOS: it must begin with 55 AA and have 512 bytes to 128 KiB.");
    return bytes;
}

}  // namespace

VgaPci::VgaPci(const Clock& clock, Log& log, const std::string& romPath)
    : PciFunction(kIdentity), core_(clock, log) {
    writable_[4] |= 1;  // I/O decode: the legacy ports, though no BAR says so
    addMemoryBar(0, VgaCore::kVramSize, core_.vram(), true);
    addMemoryBar(2, 4096, core_.mmio());
    if (romPath.empty()) return;
    std::vector<uint8_t> bytes = readRom(romPath);
    size_t size = 4096;
    while (size < bytes.size()) size *= 2;  // a BAR's size is a power of two
    rom_ = std::make_unique<RamBlock>("vga.rom", size);
    std::copy(bytes.begin(), bytes.end(), rom_->data());
    addRom(*rom_);
}

void VgaPci::reset() {
    PciFunction::reset();
    core_.reset();
}

void VgaPci::state(StateVisitor& visit) {
    PciFunction::state(visit);
    core_.state(visit);
}

}  // namespace kiln
