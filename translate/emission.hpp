// What the parts of the emitter share; for nobody else.
#pragma once
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
