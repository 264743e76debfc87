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

// What registers say of planes: nothing, but the way of accesses; nothing; one bit for each; the same byte
// for all.
enum Planes : uint8_t { kWay, kNone, kBits, kByte };
constexpr std::array<Planes, 16> kGraphicsPlanes{kBits, kBits, kBits, kWay, kWay, kWay, kWay, kBits,
                                                 kByte, kWay,  kWay,  kWay, kWay, kWay, kWay, kWay};
constexpr std::array<Planes, 8> kSequencerPlanes{kNone, kNone, kBits, kNone, kWay, kNone, kNone, kNone};

constexpr std::array<uint32_t, 4 * 256> kPlanesOf = [] {
    std::array<uint32_t, 4 * 256> all{};
    for (unsigned value = 0; value < 256; value++) {
        all[kBits * 256 + value] = spread(value);
        all[kByte * 256 + value] = inAllPlanes(uint8_t(value));
    }
    return all;
}();
constexpr uint32_t planesOf(Planes kind, uint8_t value) { return kPlanesOf[kind * 256 + value]; }

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
    for (unsigned n = 0; n < r_.graphics.size(); n++)
        planesOfGraphics_[n] = planesOf(kGraphicsPlanes[n], r_.graphics[n]);
    for (unsigned n = 0; n < r_.sequencer.size(); n++)
        planesOfSequencer_[n] = planesOf(kSequencerPlanes[n], r_.sequencer[n]);
    readPlane_ = r_.graphics[4] & 3;
    // Mode 12h as it is most often: a byte goes to the planes of its address, not rotated nor combined, and
    // comes from one of them.
    const bool planar = !linear_ && !r_.vbeEnabled();
    plainWrites_ = planar && (r_.sequencer[4] & (kChain4 | kOddEvenOff)) == kOddEvenOff &&
                   !(r_.graphics[5] & 3) && !r_.graphics[3];
    plainReads_ = planar && !(r_.sequencer[4] & kChain4) && !(r_.graphics[5] & (kReadOddEven | kReadCompare));
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
    uint32_t differs = (latch_ ^ planesOfGraphics_[2]) & planesOfGraphics_[7];
    return uint8_t(~(differs | differs >> 8 | differs >> 16 | differs >> 24));
}

// The same as the rest of memoryWrite() does then.
inline void VgaCore::plainWrite(uint32_t at, uint8_t value) {
    const uint32_t address = at & kLegacyPlaneMask, given = inAllPlanes(value);
    const uint32_t data = given ^ ((given ^ planesOfGraphics_[0]) & planesOfGraphics_[1]);
    const uint32_t masked = latch_ ^ ((data ^ latch_) & planesOfGraphics_[8]), before = loadPlanes(address);
    const uint32_t word = before ^ ((masked ^ before) & planesOfSequencer_[2]);
    std::memcpy(vram_.data() + size_t(address) * 4, &word, 4);
}

// That accesses are plain and in the window, and where their planes are.
RegisterSteps VgaCore::plainAccess(const bool& plain) {
    using S = RegisterSteps;
    S s(this);
    s.add(S::Op::Move, S::Word, s.field(plain));
    s.add(S::Op::RequireEqual, S::Word, S::constant(1));
    s.add(S::Op::Subtract, S::Offset, s.field(windowStart_));
    s.add(S::Op::RequireBelow, S::Offset, s.field(windowSize_));
    s.add(S::Op::And, S::Offset, S::constant(kLegacyPlaneMask));
    s.add(S::Op::Move, S::Pointer, S::address(vram_.data()));
    return s;
}

DirectRegister VgaCore::Window::direct(uint64_t, unsigned size, bool write) {
    using S = RegisterSteps;
    if (size != 1) return {};
    S s = core.plainAccess(write ? core.plainWrites_ : core.plainReads_);
    s.anywhere = true;
    const S::Operand planes = S::at(S::Pointer, S::Offset, 4, 4), latch = s.field(core.latch_);
    if (write) {
        auto select = [&](S::Operand other, S::Operand where) {
            s.add(S::Op::Xor, S::Value, other).add(S::Op::And, S::Value, where);
            s.add(S::Op::Xor, S::Value, other);
        };
        // Chosen from `other` where the mask is 0; set/reset is chosen where it is 1.
        s.add(S::Op::Multiply, S::Value, S::constant(0x01010101));
        s.add(S::Op::Move, S::Word, s.field(core.planesOfGraphics_[0]));
        s.add(S::Op::Xor, S::Word, S::reg(S::Value))
            .add(S::Op::And, S::Word, s.field(core.planesOfGraphics_[1]));
        s.add(S::Op::Xor, S::Value, S::reg(S::Word));
        select(latch, s.field(core.planesOfGraphics_[8]));
        select(planes, s.field(core.planesOfSequencer_[2]));
        s.add(S::Op::Store, S::Value, planes);
    } else {
        s.add(S::Op::Move, S::Word, planes).add(S::Op::Store, S::Word, latch);
        s.add(S::Op::Add, S::Pointer, s.field(core.readPlane_));
        s.add(S::Op::Move, S::Value, S::at(S::Pointer, S::Offset, 4, 1));
    }
    return DirectRegister::by(std::move(s));
}

// A register of the graphics controller or the sequencer, and before that its index, as one word or not.
DirectRegister VgaCore::directWrite(unsigned port, bool withIndex) {
    using S = RegisterSteps;
    const bool graphics = port >= 0x3CE;
    const Planes* kinds = graphics ? kGraphicsPlanes.data() : kSequencerPlanes.data();
    uint8_t& index = graphics ? r_.graphicsIndex : r_.sequencerIndex;
    S s(this);
    if (withIndex) {
        s.add(S::Op::Move, S::Offset, S::reg(S::Value));
        s.add(S::Op::And, S::Offset, S::constant(graphics ? 0xF : 0xFF));
        s.add(S::Op::ShiftRight, S::Value, S::constant(8));
    } else {
        s.add(S::Op::Move, S::Offset, s.field(index));
    }
    s.add(S::Op::RequireBelow, S::Offset, S::constant(graphics ? 16 : 8));
    s.add(S::Op::Move, S::Pointer, S::address(kinds));
    s.add(S::Op::Move, S::Word, S::at(S::Pointer, S::Offset, 1, 1));
    s.add(S::Op::RequireOther, S::Word, S::constant(kWay));
    if (withIndex) s.add(S::Op::Store, S::Offset, s.field(index));
    s.add(S::Op::Move, S::Pointer,
          S::address(graphics ? VgaRegisters::kGraphicsBits.data() : VgaRegisters::kSequencerBits.data()));
    s.add(S::Op::ShiftLeft, S::Word, S::constant(8));
    s.add(S::Op::Move, S::Pointer, S::at(S::Pointer, S::Offset, 1, 1));
    s.add(S::Op::And, S::Value, S::reg(S::Pointer));
    s.add(S::Op::Store, S::Value,
          graphics ? s.element(r_.graphics, S::Offset) : s.element(r_.sequencer, S::Offset));
    s.add(S::Op::Or, S::Word, S::reg(S::Value));
    s.add(S::Op::Move, S::Pointer, S::address(kPlanesOf.data()));
    s.add(S::Op::Move, S::Word, S::at(S::Pointer, S::Word, 4, 4));
    s.add(S::Op::Store, S::Word,
          graphics ? s.element(planesOfGraphics_, S::Offset) : s.element(planesOfSequencer_, S::Offset));
    return DirectRegister::by(std::move(s));
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

    uint32_t planes = planesOfSequencer_[2];
    if (r_.sequencer[4] & kChain4) {
        planes &= 0xFFu << (at & 3) * 8;
        at = (at & 0xFFFC) | (at >> 16 & 3);
    } else if (!(r_.sequencer[4] & kOddEvenOff)) {
        planes &= at & 1 ? 0xFF00FF00 : 0x00FF00FF;
        if (r_.graphics[6] & kChainOddEven) at = (at & 0xFFFE) | (at >> 16 & 1);
    }

    uint32_t data = latch_, mask = planesOfGraphics_[8];
    unsigned mode = r_.graphics[5] & 3, function = r_.graphics[3] >> 3;
    uint8_t rotated = std::rotr(value, r_.graphics[3] & 7);
    if (mode == 0)
        data = (inAllPlanes(rotated) & ~planesOfGraphics_[1]) | (planesOfGraphics_[0] & planesOfGraphics_[1]);
    else if (mode == 2)
        data = spread(value);
    else if (mode == 3) {
        data = planesOfGraphics_[0];
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

bool VgaCore::plainRange(uint64_t at, uint64_t bytes) const {
    return at < windowSize_ && bytes <= windowSize_ - at &&
           (at & kLegacyPlaneMask) + bytes <= kLegacyPlaneMask + 1;
}

// The bytes of plain accesses to planes next to each other, if they all are: the host does several at once.
uint64_t VgaCore::Window::ioReadBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                                      void* to) {
    const uint64_t bytes = count * size, at = offset - core.windowStart_;
    if (core.plainReads_ && ascending && core.plainRange(at, bytes)) {
        const uint8_t* planes = core.vram_.data() + (at & kLegacyPlaneMask) * 4;
        for (uint64_t n = 0; n < bytes; n++) static_cast<uint8_t*>(to)[n] = planes[n * 4 + core.readPlane_];
        core.latch_ = core.loadPlanes(uint32_t((at & kLegacyPlaneMask) + bytes - 1));
        return count;
    }
    for (uint64_t n = 0; n < bytes; n++)
        static_cast<uint8_t*>(to)[n] = core.memoryRead(uint32_t(offset + (ascending ? n : n % size)));
    return count;
}

uint64_t VgaCore::Window::ioWriteBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                                       const void* from) {
    const uint64_t bytes = count * size, at = offset - core.windowStart_;
    if (core.plainWrites_ && ascending && core.plainRange(at, bytes)) {
        const uint32_t set = core.planesOfGraphics_[0], chosen = core.planesOfGraphics_[1],
                       bits = core.planesOfGraphics_[8], map = core.planesOfSequencer_[2],
                       latch = core.latch_;
        uint8_t* planes = core.vram_.data() + (at & kLegacyPlaneMask) * 4;
        for (uint64_t n = 0; n < bytes; n++) {
            uint32_t before;
            std::memcpy(&before, planes + n * 4, 4);
            const uint32_t given = inAllPlanes(static_cast<const uint8_t*>(from)[n]);
            const uint32_t data = given ^ ((given ^ set) & chosen), masked = latch ^ ((data ^ latch) & bits);
            const uint32_t word = before ^ ((masked ^ before) & map);
            std::memcpy(planes + n * 4, &word, 4);
        }
        return count;
    }
    for (uint64_t n = 0; n < bytes; n++)
        core.memoryWrite(uint32_t(offset + (ascending ? n : n % size)), static_cast<const uint8_t*>(from)[n]);
    return count;
}

}  // namespace kiln
