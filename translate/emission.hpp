// What the parts of the emitter share; for nobody else.
#pragma once
#include <bit>

#include "translate/emitter.hpp"
#include "translate/guest_registers.hpp"
#include "translate/knowledge.hpp"

namespace kiln {

// What an operand's look-up uses.
constexpr asmjit::x86::Gp kIndex = asmjit::x86::rax, kTag = asmjit::x86::rcx, kLinear = asmjit::x86::rdx;
constexpr int32_t at(size_t offset) { return int32_t(offset); }
inline asmjit::x86::Mem inFrameAt(size_t offset, uint32_t bytes = 8) {
    return asmjit::x86::ptr(asmjit::x86::rsp, at(offset), bytes);
}
#define KILN_FRAME(member) inFrameAt(offsetof(HostFrame, member), sizeof(HostFrame::member))

// From (the low half of) an address to its TLB entry, whose parts are then at entryPart().
template <class Assembler>
void toEntry(Assembler& a, const asmjit::x86::Gp& reg = kIndex.r32()) {
    a.shr(reg, 12 - Tlb::kEntryBits);
    a.and_(reg, -(1 << Tlb::kEntryBits));
}
// Of the entry at `entry`: Tlb::kReadTag, kWriteTag or kAddend.
inline asmjit::x86::Mem entryPart(int32_t part, const asmjit::x86::Gp& entry = kIndex) {
    return asmjit::x86::qword_ptr(asmjit::x86::rsp, entry, 0, part);
}

// From (the low half of) an address to its place in the table of jump targets, whose parts are then at
// jumpPart(); and to its neighbour's.
template <class Assembler>
void toJumpTarget(Assembler& a, const asmjit::x86::Gp& linear) {
    a.mov(kIndex.r32(), linear.r32());
    a.and_(kIndex.r32(), kJumpMask);  // jumpIndex()
}
template <class Assembler>
void toNeighbour(Assembler& a) {
    static_assert(neighbourOf(0) == 1);
    a.xor_(kIndex.r32(), 1u << kJumpGranuleBits);
}
inline asmjit::x86::Mem jumpPart(size_t part, const asmjit::x86::Gp& frame = asmjit::x86::rsp) {
    constexpr unsigned kShift = std::countr_zero(sizeof(JumpTarget)) - kJumpGranuleBits;
    return asmjit::x86::qword_ptr(frame, kIndex, kShift, at(kJumpTable + part));
}

inline bool fits32(int64_t v) { return v == int32_t(v); }

inline asmjit::Imm immediate(const ZydisDecodedOperand& op) {
    const uint64_t v = op.imm.value.u;
    switch (op.size) {
        case 8: return asmjit::Imm(int64_t(int8_t(v)));
        case 16: return asmjit::Imm(int64_t(int16_t(v)));
        case 32: return asmjit::Imm(int64_t(int32_t(v)));
        default: return asmjit::Imm(int64_t(v));
    }
}

}  // namespace kiln
