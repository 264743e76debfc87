// x87 instructions, byte for byte but for their memory operand (SDM vol. 2, appendix A.5). They are emitted
// for a guest that has all exceptions masked: see vector_state.hpp. What loads, stores or initializes the
// whole state is left to the interpreter.
//
// FIP and FDP are noted in the frame, FOP is only kept of instructions that raise an unmasked exception.
#include "cpu/float80.hpp"
#include "cpu/state.hpp"
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

namespace {

bool handlesWholeState(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_FNINIT:
        case ZYDIS_MNEMONIC_FNSTENV:
        case ZYDIS_MNEMONIC_FLDENV:
        case ZYDIS_MNEMONIC_FNSAVE:
        case ZYDIS_MNEMONIC_FRSTOR: return true;
        default: return false;
    }
}

// Control instructions leave FIP and FDP alone, and so do those that only change tags and TOP.
bool keepsPointers(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_FNCLEX:
        case ZYDIS_MNEMONIC_FNSTCW:
        case ZYDIS_MNEMONIC_FLDCW:
        case ZYDIS_MNEMONIC_FNSTSW:
        case ZYDIS_MNEMONIC_FFREE:
        case ZYDIS_MNEMONIC_FFREEP:
        case ZYDIS_MNEMONIC_FINCSTP:
        case ZYDIS_MNEMONIC_FDECSTP:
        case ZYDIS_MNEMONIC_FNOP:
        case ZYDIS_MNEMONIC_FENI8087_NOP:
        case ZYDIS_MNEMONIC_FDISI8087_NOP:
        case ZYDIS_MNEMONIC_FSETPM287_NOP: return true;
        default: return false;
    }
}

}  // namespace

bool BlockEmitter::usesX87() const { return !decoded_ || facts_->touchesX87; }

bool BlockEmitter::x87() {
    if (!facts_->x87 || !context_.terms.thunks.loadX87 || handlesWholeState(z_->mnemonic)) return false;
    if (context_.terms.portable && differsAmongHosts(z_->mnemonic)) return false;
    if (z_->mnemonic == ZYDIS_MNEMONIC_FWAIT) {  // nothing is pending while it can be loaded
        needRegisters(VectorLevel::None, true);
        return true;
    }
    const bool memory = z_->raw.modrm.mod != 3;
    const ZydisDecodedOperand* op = nullptr;
    for (unsigned n = 0; n < z_->operand_count && memory; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY) op = &operands_[n];
    if (memory && (!op || !addressable(op->mem))) return false;
    needRegisters(VectorLevel::None, true);
    const bool noted = !keepsPointers(z_->mnemonic);
    if (z_->mnemonic == ZYDIS_MNEMONIC_FLDCW) keepFlags(), inHost_ = false;  // see loadControl()
    if (memory) {
        const Address at = access(op->mem, op->size / 8, op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
        if (z_->mnemonic == ZYDIS_MNEMONIC_FLDCW) return loadControl(at);
        if (noted) noteData(op->mem, at);
        embedX87(at.mem);
    } else if (z_->mnemonic == ZYDIS_MNEMONIC_FNSTSW) {
        a_.embedUInt8(z_->opcode);
        a_.embedUInt8(0xe0);
        a_.nowRaxHolds(HostAssembler::kNothing);
        if (inFrame(0))
            a_.mov(slot(0, 2), x86::ax);
        else
            a_.mov(pinned(0, 16), x86::ax);
        return true;
    } else {
        if (readsFlags()) needFlags();
        a_.embedUInt8(z_->opcode);
        a_.embedUInt8(uint8_t(0xc0 | z_->raw.modrm.reg << 3 | z_->raw.modrm.rm));
        if (writesFlags()) flagsWritten();
    }
    if (!noted) return true;
    if (!x87Page_) notePage();
    x87Page_ = true;
    a_.mov(KILN_FRAME(x87Offset), int32_t(offset()));
    return true;
}

// Once a block, not in front of the instruction: it may miss, and then the last one was in another page.
void BlockEmitter::notePage() {
    if (segmented())
        a_.mov(kTag, pageIp());
    else
        a_.mov(kTag, KILN_FRAME(page));
    a_.mov(KILN_FRAME(x87Page), kTag);
}

// FDP is an offset in its segment. The index register of the host's operand has the linear address, or what
// its displacement makes one.
void BlockEmitter::noteData(const ZydisDecodedOperandMem& m, const Address& at) {
    Gp data = at.mem.indexReg().as<Gp>();
    if (at.mem.offset() || data != kLinear) {
        a_.lea(kTag, x86::ptr(data, int32_t(at.mem.offset())));
        data = kTag;
    }
    a_.mov(KILN_FRAME(x87Data), data);
    if (code64_ && (m.segment == ZYDIS_REGISTER_FS || m.segment == ZYDIS_REGISTER_GS)) {
        a_.mov(kTag, m.segment == ZYDIS_REGISTER_FS ? KILN_FRAME(fsBase) : KILN_FRAME(gsBase));
        a_.sub(KILN_FRAME(x87Data), kTag);
    }
    if (!code64_ && needsSegment(m.segment)) {
        const Mem base =
            inFrameAt(offsetof(HostFrame, segments) + segmentOf(m.segment) * sizeof(HostFrame::Segment), 4);
        a_.mov(x86::ecx, data.r32());
        a_.sub(x86::ecx, base);
        a_.mov(KILN_FRAME(x87Data), kTag);
    }
    if (!context_.surroundings.whole) {
        a_.mov(KILN_FRAME(x87DataSegment), uint8_t(segmentOf(m.segment)));
        return;
    }
    a_.mov(kTag, KILN_FRAME(processor));
    a_.movzx(x86::ecx, ofProcessor(&context_.terms.places.segment[segmentOf(m.segment)]->selector, 2, kTag));
    a_.mov(KILN_FRAME(x87DataSelector), x86::cx);
    a_.mov(KILN_FRAME(x87DataSegment), HostFrame::kGivenSelector);
}

// The instruction with another ModRM: [rax + index + disp32].
void BlockEmitter::embedX87(const Mem& mem) {
    const uint32_t index = mem.indexId();
    if (index & 8) a_.embedUInt8(0x42);  // REX.X
    a_.embedUInt8(z_->opcode);
    a_.embedUInt8(uint8_t(0x84 | z_->raw.modrm.reg << 3));
    a_.embedUInt8(uint8_t((index & 7) << 3 | kIndex.id()));
    a_.embedUInt32(uint32_t(mem.offset()));
}

// FLDCW: what unmasks an exception is the interpreter's.
bool BlockEmitter::loadControl(const Address& from) {
    a_.movzx(x86::ecx, from.mem.cloneResized(2));
    a_.mov(x86::eax, x86::ecx);
    a_.and_(x86::eax, float80::kExceptions);
    a_.cmp(x86::eax, float80::kExceptions);
    a_.jne(slow(Site::Kind::Miss));
    a_.mov(KILN_FRAME(value), x86::rcx);
    a_.fldcw(KILN_FRAME(value).cloneResized(2));
    return true;
}

}  // namespace kiln
