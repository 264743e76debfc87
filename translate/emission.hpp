// What the parts of the emitter share; for nobody else.
#pragma once
#include "translate/emitter.hpp"
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

// The register whose bits 8 to 15 AH, CH, DH or BH is; -1: none of them.
inline int highByteOf(ZydisRegister r) {
    const int id = ZydisRegisterGetId(r);
    return ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR8 && id >= 4 && id < 8 ? id - 4 : -1;
}

inline asmjit::Imm immediate(const ZydisDecodedOperand& op) {
    const uint64_t v = op.imm.value.u;
    switch (op.size) {
        case 8: return asmjit::Imm(int64_t(int8_t(v)));
        case 16: return asmjit::Imm(int64_t(int16_t(v)));
        case 32: return asmjit::Imm(int64_t(int32_t(v)));
        default: return asmjit::Imm(int64_t(v));
    }
}

// Zydis's bits of the arithmetic flags.
constexpr uint32_t kArithmetic = ZYDIS_CPUFLAG_CF | ZYDIS_CPUFLAG_PF | ZYDIS_CPUFLAG_AF | ZYDIS_CPUFLAG_ZF |
                                 ZYDIS_CPUFLAG_SF | ZYDIS_CPUFLAG_OF;

// Which of them an instruction writes or leaves undefined.
inline uint32_t written(const ZydisDecodedInstruction& z) {
    const ZydisAccessedFlags* f = z.cpu_flags;
    return f ? (f->modified | f->set_0 | f->set_1 | f->undefined) & kArithmetic : 0;
}

}  // namespace kiln
