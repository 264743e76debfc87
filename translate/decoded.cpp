#include "translate/decoded.hpp"

#include <algorithm>
#include <span>

#include "translate/guest_registers.hpp"

namespace kiln {

namespace {

using Operands = std::span<const ZydisDecodedOperand>;

bool addressable(const ZydisDecodedOperandMem& m) {
    return m.index == ZYDIS_REGISTER_NONE || generalRegister(m.index) >= 0;
}

bool usable(Operands visible) {
    return std::all_of(visible.begin(), visible.end(), [](const ZydisDecodedOperand& op) {
        switch (op.type) {
            case ZYDIS_OPERAND_TYPE_REGISTER: return generalRegister(op.reg.value) >= 0;
            case ZYDIS_OPERAND_TYPE_MEMORY: return addressable(op.mem);
            case ZYDIS_OPERAND_TYPE_POINTER: return false;
            default: return true;
        }
    });
}

// None: it has no vector operands.
VectorLevel levelOf(const ZydisDecodedInstruction& z, Operands visible, CodeMode mode) {
    const auto encoding = z.encoding;
    if (!isVectorSet(z.meta.isa_set)) return VectorLevel::None;
    if (encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) return VectorLevel::Avx512;
    bool named = false;
    switch (z.mnemonic) {
        case ZYDIS_MNEMONIC_VZEROUPPER:
        case ZYDIS_MNEMONIC_VZEROALL:
            named = mode == CodeMode::Code64;  // elsewhere they leave registers 8 to 15 alone
            break;
        // These have results elsewhere, and may have a source in memory: they need MXCSR.
        case ZYDIS_MNEMONIC_CVTPS2PI:
        case ZYDIS_MNEMONIC_CVTPD2PI:
        case ZYDIS_MNEMONIC_CVTTPS2PI:
        case ZYDIS_MNEMONIC_CVTTPD2PI:
        case ZYDIS_MNEMONIC_CVTSS2SI:
        case ZYDIS_MNEMONIC_CVTSD2SI:
        case ZYDIS_MNEMONIC_CVTTSS2SI:
        case ZYDIS_MNEMONIC_CVTTSD2SI:
        case ZYDIS_MNEMONIC_VCVTSS2SI:
        case ZYDIS_MNEMONIC_VCVTSD2SI:
        case ZYDIS_MNEMONIC_VCVTTSS2SI:
        case ZYDIS_MNEMONIC_VCVTTSD2SI: named = true; break;
        default: break;
    }
    for (const ZydisDecodedOperand& op : visible) {
        if (op.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
        const auto kind = ZydisRegisterGetClass(op.reg.value);
        if (kind == ZYDIS_REGCLASS_MASK) return VectorLevel::Avx512;
        named |= kind == ZYDIS_REGCLASS_XMM || kind == ZYDIS_REGCLASS_YMM;
    }
    if (!named) return VectorLevel::None;
    return encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? VectorLevel::Avx : VectorLevel::Sse;
}

bool touchesX87(const ZydisDecodedInstruction& z, Operands all) {
    switch (z.meta.isa_set) {
        case ZYDIS_ISA_SET_FXSAVE:
        case ZYDIS_ISA_SET_FXSAVE64:
        case ZYDIS_ISA_SET_XSAVE:
        case ZYDIS_ISA_SET_XSAVEC:
        case ZYDIS_ISA_SET_XSAVEOPT:
        case ZYDIS_ISA_SET_XSAVES:
        case ZYDIS_ISA_SET_PENTIUMMMX:
        case ZYDIS_ISA_SET_SSE2MMX:
        case ZYDIS_ISA_SET_SSSE3MMX: return true;
        default: break;
    }
    const bool mmx = std::any_of(all.begin(), all.end(), [](const ZydisDecodedOperand& op) {
        return op.type == ZYDIS_OPERAND_TYPE_REGISTER &&
               ZydisRegisterGetClass(op.reg.value) == ZYDIS_REGCLASS_MMX;
    });
    return mmx || isX87(z) || z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED;
}

uint16_t writes(Operands all) {
    unsigned mask = 0;
    for (const ZydisDecodedOperand& op : all) {
        if (op.type != ZYDIS_OPERAND_TYPE_REGISTER || !(op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        if (const int guest = generalOrPart(op.reg.value); guest >= 0) mask |= 1u << guest;
    }
    return uint16_t(mask);
}

bool writesSegment(Operands all) {
    return std::any_of(all.begin(), all.end(), [](const ZydisDecodedOperand& op) {
        return op.type == ZYDIS_OPERAND_TYPE_REGISTER && op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
               ZydisRegisterGetClass(op.reg.value) == ZYDIS_REGCLASS_SEGMENT;
    });
}

}  // namespace

Facts factsOf(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* operands, CodeMode mode) {
    const Operands all{operands, z.operand_count}, visible{operands, z.operand_count_visible};
    const auto& [how, id] = knowledgeOf(z.mnemonic);
    Facts f;
    f.how = how;
    f.id = id;
    f.hostHas = hostHas(z.meta.isa_set);
    f.vectorSet = isVectorSet(z.meta.isa_set);
    f.x87 = isX87(z);
    f.touchesX87 = touchesX87(z, all);
    f.hasMemory = std::any_of(all.begin(), all.end(), [](const ZydisDecodedOperand& op) {
        return op.type == ZYDIS_OPERAND_TYPE_MEMORY;
    });
    f.usable = usable(visible);
    f.level = levelOf(z, visible, mode);
    f.writes = writes(all);
    f.writesSegment = writesSegment(all);
    if (const ZydisAccessedFlags* flags = z.cpu_flags)
        f.writtenFlags = (flags->modified | flags->set_0 | flags->set_1 | flags->undefined) & kArithmetic;
    f.readsFlags = how == How::Shift ||  // a count of 0 leaves all
                   (z.cpu_flags && z.cpu_flags->tested & kArithmetic) ||
                   (f.writtenFlags && f.writtenFlags != kArithmetic);
    return f;
}

}  // namespace kiln
