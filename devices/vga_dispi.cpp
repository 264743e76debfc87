// The Bochs VBE extension, "DISPI": an index and a data port of 16 bits that set a mode by its size and
// depth.
#include <algorithm>
#include <cstring>

#include "devices/vga.hpp"

namespace kiln {

namespace {

constexpr uint16_t kEnabled = 0x01, kGetCaps = 0x02, kDac8Bit = 0x20, kLfbEnabled = 0x40, kNoClearMem = 0x80;
constexpr uint16_t kFirstId = 0xB0C0, kLastId = 0xB0C5;
constexpr uint16_t kMaxBpp = 32;

}  // namespace

unsigned VgaRegisters::vbeBytesPerLine() const {
    unsigned bitsPerPixel = get(Dispi::Bpp) == 15 ? 16 : get(Dispi::Bpp);
    return get(Dispi::VirtWidth) * bitsPerPixel / 8;
}

uint64_t VgaCore::DispiPorts::ioRead(uint64_t offset, unsigned size) {
    uint16_t value = offset == 0 ? core.r_.dispiIndex : core.dispiRead(core.r_.dispiIndex);
    return size == 1 ? value & 0xFF : value;
}

void VgaCore::DispiPorts::ioWrite(uint64_t offset, unsigned, uint64_t value) {
    if (offset == 0)
        core.r_.dispiIndex = uint16_t(value);
    else
        core.dispiWrite(core.r_.dispiIndex, uint16_t(value));
}

uint16_t VgaCore::dispiRead(unsigned index) const {
    if (index >= VgaRegisters::kDispiCount) return 0xFFFF;
    if (r_.get(Dispi::Enable) & kGetCaps) switch (Dispi(index)) {
            case Dispi::XRes: return kMaxWidth;
            case Dispi::YRes: return kMaxHeight;
            case Dispi::Bpp: return kMaxBpp;
            default: break;
        }
    return r_.dispi[index];
}

void VgaCore::dispiWrite(unsigned index, uint16_t value) {
    switch (Dispi(std::min(index, VgaRegisters::kDispiCount))) {
        case Dispi::Id:
            if (value >= kFirstId && value <= kLastId) r_.get(Dispi::Id) = value;
            break;
        case Dispi::Enable: dispiEnable(value); break;
        case Dispi::XRes:
        case Dispi::YRes:
        case Dispi::Bpp:
        case Dispi::Bank:
        case Dispi::VirtWidth:
        case Dispi::XOffset:
        case Dispi::YOffset:
            r_.dispi[index] = value;
            if (r_.vbeEnabled()) dispiNormalise();
            break;
        case Dispi::VirtHeight:
        case Dispi::VideoMemory64K: break;  // consequences of the others
        default: log_.oddity("vga: no such DISPI register", "index {:#x} value {:#x}", index, value);
    }
    updateMemoryPath();
}

void VgaCore::dispiEnable(uint16_t value) {
    bool wasEnabled = r_.vbeEnabled();
    r_.get(Dispi::Enable) = value & (kEnabled | kGetCaps | kDac8Bit | kLfbEnabled | kNoClearMem);
    if (!r_.vbeEnabled()) {
        r_.get(Dispi::Bank) = 0;
        return;
    }
    if (!wasEnabled) {
        r_.get(Dispi::VirtWidth) = r_.get(Dispi::XRes);
        r_.get(Dispi::XOffset) = r_.get(Dispi::YOffset) = 0;
    }
    dispiNormalise();
    if (wasEnabled) return;
    if (!(value & kNoClearMem))
        std::memset(vram_.data(), 0, size_t(r_.vbeBytesPerLine()) * r_.get(Dispi::YRes));
    log_(LogCategory::Display, "vbe mode {}x{}x{}", r_.get(Dispi::XRes), r_.get(Dispi::YRes),
         r_.get(Dispi::Bpp));
}

// Bends the registers until the visible rectangle lies inside video memory; everything behind relies on that.
void VgaCore::dispiNormalise() {
    uint16_t &xres = r_.get(Dispi::XRes), &yres = r_.get(Dispi::YRes), &bpp = r_.get(Dispi::Bpp);
    uint16_t &width = r_.get(Dispi::VirtWidth), &x = r_.get(Dispi::XOffset), &y = r_.get(Dispi::YOffset);
    constexpr std::array<uint16_t, 6> depths{4, 8, 15, 16, 24, 32};
    if (std::find(depths.begin(), depths.end(), bpp) == depths.end()) bpp = 8;
    xres = uint16_t(std::clamp(xres & ~7u, 8u, kMaxWidth));
    yres = uint16_t(std::clamp<unsigned>(yres, 1, kMaxHeight));
    width = uint16_t(std::max<unsigned>(xres, width & ~7u));
    unsigned lines = unsigned(kVramSize / r_.vbeBytesPerLine());
    yres = uint16_t(std::min<unsigned>(yres, lines));
    r_.get(Dispi::VirtHeight) = uint16_t(std::min(lines, 0xFFFFu));
    x = std::min<uint16_t>(x, width - xres);
    y = uint16_t(std::min<unsigned>(y, lines - yres));
}

}  // namespace kiln
