// Where in an instruction's bytes its displacement and immediate lie, found without decoding it: by the
// prefixes, the opcode maps of SDM vol. 2, appendix A, and ModRM (2.1). Instructions that differ in nothing
// else have one *shape*, so that what was decoded once serves them all.
//
// Who remembers something by its shape compares the layout with the decoder's own before, and so need not
// trust these tables: a mistake costs time. Instructions with other prefixes behind REX, with two immediates,
// with 64-bit offsets, and of AMD's extensions have none. Immediates that choose the operation (shift
// counts, shuffles, registers) belong to the shape, and all fields of EVEX instructions, whose displacements
// are scaled.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>

#include "cpu/insn.hpp"

namespace kiln {

struct InstructionLayout {
    uint8_t length = 0;
    uint8_t dispAt = 0, dispBytes = 0;  // 0 bytes: none that may differ
    uint8_t immAt = 0, immBytes = 0;
};

// An instruction's bytes without what may differ, its length and mode.
struct ShapeKey {
    uint64_t low = 0, high = 0;
    bool operator==(const ShapeKey&) const = default;
    uint32_t hash() const {
        const uint64_t mixed = (low ^ high * 0xc2b2ae3d27d4eb4f) * 0x9e3779b97f4a7c15;
        return uint32_t(mixed >> 32);
    }
};

// False: it has no shape, or `bytes` may end inside it.
bool findLayout(std::span<const uint8_t> bytes, CodeMode mode, InstructionLayout& layout);

ShapeKey shapeOf(const uint8_t* bytes, size_t readable, const InstructionLayout& layout, CodeMode mode);

// A field, sign-extended and not.
inline int64_t signedField(const uint8_t* at, unsigned bytes) {
    uint64_t v = 0;
    std::memcpy(&v, at, bytes);
    const unsigned shift = 64 - bytes * 8;
    return int64_t(v << shift) >> shift;
}
inline uint64_t unsignedField(const uint8_t* at, unsigned bytes) {
    uint64_t v = 0;
    std::memcpy(&v, at, bytes);
    return v;
}

// Whether Zydis has found the same.
bool agrees(const InstructionLayout& layout, const ZydisDecodedInstruction& z);

}  // namespace kiln
