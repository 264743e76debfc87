// The memory window at 0xA0000: how a byte access becomes an access to four planes.
//
//   write:  byte -> rotate -> set/reset -> ALU with the latches -> bit mask -> map mask -> planes
//   read:   planes -> latches -> one plane's byte, or the comparison with a colour
//
// All four planes of an address are one 32-bit word, so each step above is one operation on that word.
#include <bit>
#include <cstring>

#include "devices/vga.hpp"

namespace kiln {

static_assert(std::endian::native == std::endian::little, "a plane is a byte of a word in memory");

namespace {

constexpr uint32_t kLegacyPlaneMask = 0xFFFF;                // 64 KiB a plane
constexpr uint8_t kOddEvenOff = 0x04, kChain4 = 0x08;        // sequencer 4
constexpr uint8_t kReadCompare = 0x08, kReadOddEven = 0x10;  // graphics 5
constexpr uint8_t kChainOddEven = 0x02;                      // graphics 6
constexpr uint32_t kNotDecoded = ~0u;

// Four bits, one a plane -> four bytes of zeroes or ones.
constexpr uint32_t spread(unsigned bits) {
    uint32_t word = 0;
    for (unsigned plane = 0; plane < 4; plane++)
        if (bits >> plane & 1) word |= 0xFFu << plane * 8;
    return word;
}
constexpr uint32_t inAllPlanes(uint8_t byte) { return byte * 0x01010101u; }

uint32_t combine(unsigned function, uint32_t data, uint32_t latch) {
    switch (function & 3) {
        case 1: return data & latch;
        case 2: return data | latch;
        case 3: return data ^ latch;
        default: return data;
    }
}

}  // namespace

void VgaCore::updateMemoryPath() {
    struct Map {
        uint32_t start, size;
    };
    constexpr std::array<Map, 4> maps{{{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}}};
    linear_ = r_.vbeEnabled() && r_.get(Dispi::Bpp) != 4;
    Map map = r_.vbeEnabled() ? maps[1] : maps[r_.graphics[6] >> 2 & 3];
    bool ramEnabled = r_.misc & 2 || r_.vbeEnabled();
    windowStart_ = map.start;
    windowSize_ = ramEnabled ? map.size : 0;
    mapMask_ = spread(r_.sequencer[2]);
    setReset_ = spread(r_.graphics[0]);
    enableSetReset_ = spread(r_.graphics[1]);
    bitMask_ = inAllPlanes(r_.graphics[8]);
    // Mode 12h as it is most often: a byte goes to the planes of its address, not rotated nor combined.
    plainWrites_ = !linear_ && !r_.vbeEnabled() &&
                   (r_.sequencer[4] & (kChain4 | kOddEvenOff)) == kOddEvenOff && !(r_.graphics[5] & 3) &&
                   !r_.graphics[3];
}

uint32_t VgaCore::windowOffset(uint32_t offset) const {
    uint32_t at = offset - windowStart_;
    return at < windowSize_ ? at : kNotDecoded;
}

uint32_t VgaCore::loadPlanes(uint32_t address) const {
    uint32_t word;
    std::memcpy(&word, vram_.data() + size_t(address) * 4, 4);
    return word;
}

uint8_t VgaCore::memoryRead(uint32_t offset) {
    uint32_t at = windowOffset(offset);
    if (at == kNotDecoded) return 0xFF;
    uint32_t bank = uint32_t(r_.get(Dispi::Bank)) << 16;
    if (linear_) return bank + at < kVramSize ? vram_.data()[bank + at] : 0xFF;

    unsigned plane = r_.graphics[4] & 3;
    if (r_.sequencer[4] & kChain4) {
        plane = at & 3;
        at = (at & 0xFFFC) | (at >> 16 & 3);
    } else if (r_.graphics[5] & kReadOddEven) {
        plane = (plane & 2) | (at & 1);
        if (r_.graphics[6] & kChainOddEven) at = (at & 0xFFFE) | (at >> 16 & 1);
    }
    uint32_t planeMask = r_.vbeEnabled() ? uint32_t(kVramSize / 4 - 1) : kLegacyPlaneMask;
    latch_ = loadPlanes((bank + at) & planeMask);
    if (!(r_.graphics[5] & kReadCompare)) return uint8_t(latch_ >> plane * 8);
    uint32_t differs = (latch_ ^ spread(r_.graphics[2])) & spread(r_.graphics[7]);
    return uint8_t(~(differs | differs >> 8 | differs >> 16 | differs >> 24));
}

// The same as the rest of memoryWrite() does then.
inline void VgaCore::plainWrite(uint32_t at, uint8_t value) {
    const uint32_t address = at & kLegacyPlaneMask;
    const uint32_t data = (inAllPlanes(value) & ~enableSetReset_) | (setReset_ & enableSetReset_);
    const uint32_t masked = (data & bitMask_) | (latch_ & ~bitMask_);
    const uint32_t word = (loadPlanes(address) & ~mapMask_) | (masked & mapMask_);
    std::memcpy(vram_.data() + size_t(address) * 4, &word, 4);
}

void VgaCore::memoryWrite(uint32_t offset, uint8_t value) {
    uint32_t at = windowOffset(offset);
    if (at == kNotDecoded) return;
    if (plainWrites_) return plainWrite(at, value);
    uint32_t bank = uint32_t(r_.get(Dispi::Bank)) << 16;
    if (linear_) {
        if (bank + at < kVramSize) vram_.data()[bank + at] = value;
        return;
    }

    uint32_t planes = mapMask_;
    if (r_.sequencer[4] & kChain4) {
        planes &= 0xFFu << (at & 3) * 8;
        at = (at & 0xFFFC) | (at >> 16 & 3);
    } else if (!(r_.sequencer[4] & kOddEvenOff)) {
        planes &= at & 1 ? 0xFF00FF00 : 0x00FF00FF;
        if (r_.graphics[6] & kChainOddEven) at = (at & 0xFFFE) | (at >> 16 & 1);
    }

    uint32_t data = latch_, mask = bitMask_;
    unsigned mode = r_.graphics[5] & 3, function = r_.graphics[3] >> 3;
    uint8_t rotated = std::rotr(value, r_.graphics[3] & 7);
    if (mode == 0)
        data = (inAllPlanes(rotated) & ~enableSetReset_) | (setReset_ & enableSetReset_);
    else if (mode == 2)
        data = spread(value);
    else if (mode == 3) {
        data = setReset_;
        mask &= inAllPlanes(rotated);
    }
    if (mode != 1) data = (combine(function, data, latch_) & mask) | (latch_ & ~mask);

    uint32_t planeMask = r_.vbeEnabled() ? uint32_t(kVramSize / 4 - 1) : kLegacyPlaneMask;
    uint32_t address = (bank + at) & planeMask;
    uint32_t word = (loadPlanes(address) & ~planes) | (data & planes);
    std::memcpy(vram_.data() + size_t(address) * 4, &word, 4);
}

uint64_t VgaCore::Window::ioRead(uint64_t offset, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) value |= uint64_t(core.memoryRead(uint32_t(offset + i))) << i * 8;
    return value;
}

void VgaCore::Window::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    for (unsigned i = 0; i < size; i++) core.memoryWrite(uint32_t(offset + i), uint8_t(value >> i * 8));
}

uint64_t VgaCore::Window::ioReadBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                                      void* to) {
    for (uint64_t n = 0; n < count * size; n++)
        static_cast<uint8_t*>(to)[n] = core.memoryRead(uint32_t(offset + (ascending ? n : n % size)));
    return count;
}

uint64_t VgaCore::Window::ioWriteBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                                       const void* from) {
    for (uint64_t n = 0; n < count * size; n++)
        core.memoryWrite(uint32_t(offset + (ascending ? n : n % size)), static_cast<const uint8_t*>(from)[n]);
    return count;
}

}  // namespace kiln
