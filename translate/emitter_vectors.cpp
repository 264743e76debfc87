// Instructions on vector, opmask and MMX registers.
#include "translate/emission.hpp"
#include "translate/vector_state.hpp"

namespace kiln {

using namespace asmjit;

namespace {

bool isMmx(const ZydisDecodedOperand& op) {
    return op.type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(op.reg.value) == ZYDIS_REGCLASS_MMX;
}
// EVEX has an operand for the opmask, which the host's assembler takes apart from the others.
bool isMaskOperand(const ZydisDecodedOperand& op) { return op.encoding == ZYDIS_OPERAND_ENCODING_MASK; }

}  // namespace

Operand BlockEmitter::vectorRegister(ZydisRegister r) {
    const auto id = uint32_t(ZydisRegisterGetId(r));
    switch (ZydisRegisterGetClass(r)) {
        case ZYDIS_REGCLASS_MMX: return x86::mm(id);
        case ZYDIS_REGCLASS_XMM: return x86::xmm(id);
        case ZYDIS_REGCLASS_YMM: return x86::ymm(id);
        case ZYDIS_REGCLASS_ZMM: return x86::zmm(id);
        case ZYDIS_REGCLASS_MASK: return x86::k(id);
        default: return {};
    }
}

// Has them loaded in front of the instruction. rax, rcx, rdx and the host's flags are used.
void BlockEmitter::needRegisters(VectorLevel level, bool x87) {
    const bool vectorsToo = vectors_ < level, x87Too = x87 && !x87_;
    if (!vectorsToo && !x87Too) return;
    keepFlags();
    inHost_ = false;
    const Label want = a_.newLabel(), loaded = a_.newLabel();
    if (vectorsToo) {
        a_.cmp(KILN_FRAME(vectors), uint8_t(level));
        a_.jb(want);
        vectors_ = level;
    }
    if (x87Too) {
        a_.cmp(KILN_FRAME(x87), uint8_t(X87Place::InHost));
        a_.jne(want);
        x87_ = true;
    }
    a_.bind(loaded);
    a_.nowRaxHolds(HostAssembler::kNothing);
    const size_t site = addSite(Site::Kind::Vectors);
    sites_[site].level = vectors_;
    sites_[site].x87 = x87_;
    addTail(want, site, inFrame_ ? Recipe{} : recipe_).resume = loaded;
}

// In a tail. Where C++ has to have a look first, the way goes over Site::resume.
void BlockEmitter::load(const Tail& t) {
    const Site& s = sites_[t.site];
    a_.loadSite(uint32_t(t.site));
    if (s.level != VectorLevel::None) a_.call(Imm(uint64_t(context_.terms.thunks.load[size_t(s.level)])));
    if (s.x87) a_.call(Imm(uint64_t(context_.terms.thunks.loadX87)));
    if (t.map == kStandardMap) a_.jmp(t.resume);
}

// Whether the memory operand has to lie on a multiple of its size (SDM vol. 1, 4.1.1; vol. 2, 2.4 and 2.8).
bool BlockEmitter::mustBeAligned(unsigned bytes) const {
    if (isAtomic() || z_->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B) return true;
    if (facts_->level == VectorLevel::None || bytes < 16) return false;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_MOVUPS:
        case ZYDIS_MNEMONIC_MOVUPD:
        case ZYDIS_MNEMONIC_MOVDQU:
        case ZYDIS_MNEMONIC_LDDQU:
        case ZYDIS_MNEMONIC_PCMPESTRI:
        case ZYDIS_MNEMONIC_PCMPESTRM:
        case ZYDIS_MNEMONIC_PCMPISTRI:
        case ZYDIS_MNEMONIC_PCMPISTRM: return false;
        case ZYDIS_MNEMONIC_VMOVAPS:
        case ZYDIS_MNEMONIC_VMOVAPD:
        case ZYDIS_MNEMONIC_VMOVDQA:
        case ZYDIS_MNEMONIC_VMOVDQA32:
        case ZYDIS_MNEMONIC_VMOVDQA64:
        case ZYDIS_MNEMONIC_VMOVNTPS:
        case ZYDIS_MNEMONIC_VMOVNTPD:
        case ZYDIS_MNEMONIC_VMOVNTDQ:
        case ZYDIS_MNEMONIC_VMOVNTDQA: return true;
        default: return facts_->level == VectorLevel::Sse;
    }
}

bool BlockEmitter::vector(InstId id) {
    if (!facts_->vectorSet) return false;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_LDMXCSR:
        case ZYDIS_MNEMONIC_VLDMXCSR: return loadMxcsr();
        case ZYDIS_MNEMONIC_STMXCSR:
        case ZYDIS_MNEMONIC_VSTMXCSR: return storeMxcsr();
        case ZYDIS_MNEMONIC_PCMPESTRI:
        case ZYDIS_MNEMONIC_PCMPESTRM:
        case ZYDIS_MNEMONIC_PCMPISTRI:
        case ZYDIS_MNEMONIC_PCMPISTRM:
        case ZYDIS_MNEMONIC_VPCMPESTRI:
        case ZYDIS_MNEMONIC_VPCMPESTRM:
        case ZYDIS_MNEMONIC_VPCMPISTRI:
        case ZYDIS_MNEMONIC_VPCMPISTRM: return compareStrings(id);
        case ZYDIS_MNEMONIC_EMMS:
            if (!context_.terms.thunks.loadX87) return false;
            needRegisters(VectorLevel::None, true);
            a_.emms();
            return true;
        // Their address is in rDI, and faults are byte by byte.
        case ZYDIS_MNEMONIC_MASKMOVQ:
        case ZYDIS_MNEMONIC_MASKMOVDQU:
        case ZYDIS_MNEMONIC_VMASKMOVDQU: return false;
        default: break;
    }
    if (context_.terms.portable && differsAmongHosts(z_->mnemonic)) return false;
    const VectorLevel level = facts_->level;
    bool mmx = false;
    for (unsigned n = 0; n < z_->operand_count_visible; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        mmx |= isMmx(op);
        if (op.type == ZYDIS_OPERAND_TYPE_REGISTER && guestOf(op.reg.value) < 0 &&
            vectorRegister(op.reg.value).isNone())
            return false;
        if (op.type == ZYDIS_OPERAND_TYPE_MEMORY && (!addressable(op.mem) || op.size < 8)) return false;
    }
    if (level == VectorLevel::None && !mmx) return false;
    if ((level != VectorLevel::None && !context_.terms.thunks.load[size_t(level)]) ||
        (mmx && !context_.terms.thunks.loadX87))
        return false;
    needRegisters(level, mmx);
    return vectorPlain(id);
}

// {k}, {z}, {sae} and rounding.
void BlockEmitter::decorate() {
    if (z_->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX) {
        if (z_->meta.isa_set == ZYDIS_ISA_SET_AVX_VNNI) a_.vex();
        return;
    }
    if (z_->avx.mask.reg != ZYDIS_REGISTER_NONE && z_->avx.mask.reg != ZYDIS_REGISTER_K0)
        a_.k(x86::k(uint32_t(ZydisRegisterGetId(z_->avx.mask.reg))));
    if (z_->raw.evex.z) a_.z();
    switch (z_->avx.rounding.mode) {
        case ZYDIS_ROUNDING_MODE_RN: a_.rn_sae(); break;
        case ZYDIS_ROUNDING_MODE_RD: a_.rd_sae(); break;
        case ZYDIS_ROUNDING_MODE_RU: a_.ru_sae(); break;
        case ZYDIS_ROUNDING_MODE_RZ: a_.rz_sae(); break;
        default:
            if (z_->avx.has_sae) a_.sae();
    }
}

x86::Mem BlockEmitter::vectorMemory(const Mem& mem, unsigned bytes) const {
    if (z_->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX || z_->avx.broadcast.is_static)
        return mem.cloneResized(bytes);
    using Broadcast = Mem::Broadcast;
    auto broadcast = Broadcast::kNone;
    switch (z_->avx.broadcast.mode) {
        case ZYDIS_BROADCAST_MODE_1_TO_2: broadcast = Broadcast::k1To2; break;
        case ZYDIS_BROADCAST_MODE_1_TO_4: broadcast = Broadcast::k1To4; break;
        case ZYDIS_BROADCAST_MODE_1_TO_8: broadcast = Broadcast::k1To8; break;
        case ZYDIS_BROADCAST_MODE_1_TO_16: broadcast = Broadcast::k1To16; break;
        case ZYDIS_BROADCAST_MODE_1_TO_32: broadcast = Broadcast::k1To32; break;
        default: return mem.cloneResized(bytes);
    }
    return mem.cloneBroadcasted(broadcast).cloneResized(bytes);
}

bool BlockEmitter::vectorPlain(InstId id) {
    const ZydisDecodedOperand* memory = nullptr;
    for (unsigned n = 0; n < z_->operand_count_visible; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY) memory = &operands_[n];
    Address address{};
    if (memory)
        address = access(memory->mem, memory->size / 8, memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);

    Operand ops[6];
    unsigned count = 0;
    int stored = -1;  // a general register that is in the frame, and written
    for (unsigned n = 0; n < z_->operand_count_visible; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (isMaskOperand(op)) continue;
        if (count == std::size(ops)) return false;
        Operand& out = ops[count++];
        if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            out = immediate(op);
        } else if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
            out = vectorMemory(address.mem, op.size / 8);
        } else if (const int guest = guestOf(op.reg.value); guest < 0) {
            out = vectorRegister(op.reg.value);
        } else if (!inFrame(guest)) {
            out = pinned(unsigned(guest), op.size);
        } else {  // there is never more than one
            a_.mov(kTag, slot(unsigned(guest)));
            out = sized(int(kTag.id()), op.size);
            if (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) stored = guest;
        }
    }
    decorate();
    a_.emitOpArray(id, ops, count);
    if (stored >= 0) a_.mov(slot(unsigned(stored)), kTag);
    if (writesFlags()) flagsWritten();  // always all: those without a meaning are cleared
    return true;
}

// What unmasks an exception, or would fault, is the interpreter's.
bool BlockEmitter::loadMxcsr() {
    const ZydisDecodedOperandMem& m = operands_[0].mem;
    if (!addressable(m) || !needMxcsr()) return false;
    keepFlags();  // an operand that shares its look-up leaves them, what follows does not
    inHost_ = false;
    const Address from = access(m, 4, false);
    a_.mov(x86::ecx, from.mem.cloneResized(4));
    a_.mov(x86::eax, x86::ecx);
    a_.and_(x86::eax, int32_t(0xffff1f80));
    a_.cmp(x86::eax, 0x1f80);
    a_.jne(slow(Site::Kind::Miss));
    a_.mov(KILN_FRAME(mxcsr), x86::ecx);
    a_.ldmxcsr(KILN_FRAME(mxcsr));
    return true;
}

bool BlockEmitter::storeMxcsr() {
    const ZydisDecodedOperandMem& m = operands_[0].mem;
    if (!addressable(m) || !needMxcsr()) return false;
    const Address to = access(m, 4, true);
    a_.stmxcsr(to.mem.cloneResized(4));
    return true;
}

bool BlockEmitter::needMxcsr() {
    const bool vex = z_->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    const VectorLevel level = vex ? VectorLevel::Avx : VectorLevel::Sse;
    if (!context_.terms.thunks.load[size_t(level)]) return false;
    needRegisters(level, false);
    return true;
}

// PCMPESTRI and relatives: lengths in EAX and EDX, an index into ECX, a mask into XMM0.
bool BlockEmitter::compareStrings(InstId id) {
    const bool lengths =
        z_->mnemonic == ZYDIS_MNEMONIC_PCMPESTRI || z_->mnemonic == ZYDIS_MNEMONIC_PCMPESTRM ||
        z_->mnemonic == ZYDIS_MNEMONIC_VPCMPESTRI || z_->mnemonic == ZYDIS_MNEMONIC_VPCMPESTRM;
    const bool index = z_->mnemonic == ZYDIS_MNEMONIC_PCMPESTRI || z_->mnemonic == ZYDIS_MNEMONIC_PCMPISTRI ||
                       z_->mnemonic == ZYDIS_MNEMONIC_VPCMPESTRI || z_->mnemonic == ZYDIS_MNEMONIC_VPCMPISTRI;
    if (lengths && (z_->raw.rex.W || z_->raw.vex.W)) return false;  // of 64 bits
    if (!needMxcsr()) return false;
    const ZydisDecodedOperand& second = operands_[1];
    Operand source = vectorRegister(second.reg.value);
    if (second.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        if (!addressable(second.mem)) return false;
        Address from = access(second.mem, 16, false);
        if (lengths) moveAddressTo(from, kTag);
        source = from.mem.cloneResized(16);
    }
    if (lengths) {
        loadGuest(x86::rax, 0);
        loadGuest(x86::rdx, 2);
    }
    a_.emit(id, vectorRegister(operands_[0].reg.value), source, immediate(operands_[2]));
    if (index) storeGuest(1, x86::rcx);
    flagsWritten();
    return true;
}

}  // namespace kiln
