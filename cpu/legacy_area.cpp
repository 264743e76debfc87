#include "cpu/legacy_area.hpp"

#include "cpu/x87.hpp"

namespace kiln {

void LegacyArea::takeX87(const Cpu& c, bool pointers64) {
    const FpuState& f = c.fpu;
    set<uint16_t>(0, f.control);
    set<uint16_t>(2, f.status);
    set<uint16_t>(4, uint8_t(~f.empty));
    set<uint16_t>(6, f.opcode);
    if (pointers64) {
        set<uint64_t>(8, f.instructionPointer);
        set<uint64_t>(16, f.dataPointer);
    } else {
        set<uint32_t>(8, uint32_t(f.instructionPointer));
        set<uint32_t>(12, f.instructionSelector);
        set<uint32_t>(16, uint32_t(f.dataPointer));
        set<uint32_t>(20, f.dataSelector);
    }
    for (unsigned n = 0; n < 8; n++) {
        set<uint64_t>(kRegisters + 16 * n, x87::get(c, n).mantissa);
        set<uint64_t>(kRegisters + 16 * n + 8, x87::get(c, n).signExponent);
    }
}

void LegacyArea::takeMxcsr(const Cpu& c) {
    set<uint32_t>(kMxcsr, c.mxcsr);
    set<uint32_t>(kMxcsr + 4, kMxcsrMask);
}

void LegacyArea::takeXmm(const Cpu& c, unsigned count) {
    for (unsigned n = 0; n < count; n++) set(kXmm + 16 * n, c.vec[n].get<Xmm>(0));
}

void LegacyArea::giveX87(Cpu& c, bool pointers64) const {
    FpuState& f = c.fpu;
    f.status = get<uint16_t>(2);
    f.empty = uint8_t(~get<uint8_t>(4));
    f.opcode = get<uint16_t>(6) & 0x7ff;
    if (pointers64) {
        f.instructionPointer = get<uint64_t>(8);
        f.dataPointer = get<uint64_t>(16);
        f.instructionSelector = f.dataSelector = 0;
    } else {
        f.instructionPointer = get<uint32_t>(8);
        f.instructionSelector = get<uint16_t>(12);
        f.dataPointer = get<uint32_t>(16);
        f.dataSelector = get<uint16_t>(20);
    }
    for (unsigned n = 0; n < 8; n++)
        f.physical[x87::physical(c, n)] = {get<uint64_t>(kRegisters + 16 * n),
                                           get<uint16_t>(kRegisters + 16 * n + 8)};
    x87::loadControl(c, get<uint16_t>(0));
}

void LegacyArea::giveXmm(Cpu& c, unsigned count) const {
    for (unsigned n = 0; n < count; n++) c.vec[n].set(0, get<Xmm>(kXmm + 16 * n));
}

}  // namespace kiln
