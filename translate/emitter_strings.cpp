// String instructions as the host's own, where all elements lie in one page that the TLB gives: with the
// guest's addresses replaced by the host's, REP MOVSB of the guest is the host's REP MOVSB. Operands that
// continue on another page go to Translator::strings(), the rest to the interpreter.
//
// Emitted: 64-bit addresses, DF = 0, a source that is not in FS or GS, and at most a page's elements, which
// is also what the interpreter does before it looks at interrupts.
#include "cpu/state.hpp"
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

bool BlockEmitter::stringInstruction() {
    struct Form {
        InstId id;
        bool source, destination, writes, setsFlags;  // [rSI], [rDI], and what becomes of [rDI]
    };
    Form f{};
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_MOVSB:
        case ZYDIS_MNEMONIC_MOVSW:
        case ZYDIS_MNEMONIC_MOVSD:
        case ZYDIS_MNEMONIC_MOVSQ: f = {x86::Inst::kIdMovs, true, true, true, false}; break;
        case ZYDIS_MNEMONIC_STOSB:
        case ZYDIS_MNEMONIC_STOSW:
        case ZYDIS_MNEMONIC_STOSD:
        case ZYDIS_MNEMONIC_STOSQ: f = {x86::Inst::kIdStos, false, true, true, false}; break;
        case ZYDIS_MNEMONIC_LODSB:
        case ZYDIS_MNEMONIC_LODSW:
        case ZYDIS_MNEMONIC_LODSD:
        case ZYDIS_MNEMONIC_LODSQ: f = {x86::Inst::kIdLods, true, false, false, false}; break;
        case ZYDIS_MNEMONIC_SCASB:
        case ZYDIS_MNEMONIC_SCASW:
        case ZYDIS_MNEMONIC_SCASD:
        case ZYDIS_MNEMONIC_SCASQ: f = {x86::Inst::kIdScas, false, true, false, true}; break;
        case ZYDIS_MNEMONIC_CMPSB:
        case ZYDIS_MNEMONIC_CMPSW:
        case ZYDIS_MNEMONIC_CMPSD:
        case ZYDIS_MNEMONIC_CMPSQ: f = {x86::Inst::kIdCmps, true, true, false, true}; break;
        default: return false;
    }
    constexpr unsigned kRsi = 6, kRdi = 7;
    const bool inPlace = map_.host[kRsi] == int(kRsi) && map_.host[kRdi] == int(kRdi);
    if (!code64_) return stringElement();
    if (z_->address_width != 64 || z_->operand_count_visible || block_->single || !inPlace || inFrame(0) ||
        inFrame(1))
        return false;
    for (unsigned n = 0; n < z_->operand_count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (operands_[n].mem.segment == ZYDIS_REGISTER_FS || operands_[n].mem.segment == ZYDIS_REGISTER_GS))
            return false;
    const unsigned bytes = z_->operand_width / 8, shift = bytes == 8 ? 3 : bytes / 2;
    const bool repne = z_->attributes & ZYDIS_ATTRIB_HAS_REPNE;
    const bool repeats = repne || z_->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE);
    const Gp count = pinned(1, 64);

    keepFlags();
    inHost_ = false;
    const Label again = a_.newLabel(), done = a_.newLabel();
    a_.bind(again);
    a_.mov(kIndex, KILN_FRAME(processor));
    a_.test(ofProcessor(context_.terms.places.flags, 4), uint32_t(flag::DF));
    a_.jnz(slow(Site::Kind::Miss));
    if (repeats) {
        a_.cmp(count, uint32_t(kPageSize / bytes));
        if (f.destination && !f.setsFlags) {  // not to be tried again, but perhaps Translator::strings() can
            a_.ja(missing(x86::ptr(x86::rdi), bytes, true, again));
            tails_.back().again = {};
            sites_.back().strings = true;
        } else {
            a_.ja(slow(Site::Kind::Miss));
        }
        a_.test(count, count);
        a_.jz(f.setsFlags ? slow(Site::Kind::Miss) : done);
    }
    // rDX is added to rSI, rAX (behind what LODS loads or STOS stores, rCX) to rDI.
    auto find = [&](const Gp& pointer, bool write) {
        const Mem last =
            repeats ? x86::ptr(pointer, count, shift, -1) : x86::ptr(pointer, int32_t(bytes) - 1);
        a_.mov(x86::eax, pointer.r32());
        a_.lea(kTag, last);
        toEntry(a_);
        a_.and_(kTag, -4096);
        a_.cmp(kTag, entryPart(write ? Tlb::kWriteTag : Tlb::kReadTag));
        a_.jne(missing(x86::ptr(pointer), bytes, write, again));
        Site& s = sites_.back();
        s.pair = f.source && f.destination;
        s.strings = repeats && !f.setsFlags && f.destination;
        return entryPart(Tlb::kAddend);
    };
    if (f.destination && !f.writes) {  // processors read it first
        a_.mov(kLinear, find(x86::rdi, false));
        if (f.source) {
            a_.mov(KILN_FRAME(value), kLinear);
            a_.mov(kLinear, find(x86::rsi, false));
            a_.mov(kIndex, KILN_FRAME(value));
        }
    } else {
        if (f.source) a_.mov(kLinear, find(x86::rsi, false));
        if (f.destination) a_.mov(f.source ? kIndex : kLinear, find(x86::rdi, true));
    }
    const Gp toRdi = f.source ? kIndex : kLinear;
    if (f.source) a_.add(x86::rsi, kLinear);
    if (f.destination) a_.add(x86::rdi, toRdi);
    if (f.source) a_.neg(kLinear);
    if (f.destination) a_.neg(toRdi);
    const bool accumulator = !(f.source && f.destination);
    if (accumulator) a_.mov(x86::rax, pinned(0, 64));
    if (repeats) {
        a_.mov(x86::rcx, count);
        repne&& f.setsFlags ? a_.repne() : a_.rep();
    }
    const Mem from = x86::ptr(x86::rsi, 0, bytes), to = x86::ptr(x86::rdi, 0, bytes);
    const Gp value = sized(int(x86::rax.id()), bytes * 8);
    switch (f.id) {
        case x86::Inst::kIdMovs: a_.emit(f.id, to, from); break;
        case x86::Inst::kIdStos: a_.emit(f.id, to, value); break;
        case x86::Inst::kIdLods: a_.emit(f.id, value, from); break;
        case x86::Inst::kIdScas: a_.emit(f.id, value, to); break;
        default: a_.emit(f.id, from, to); break;
    }
    if (f.source) a_.lea(x86::rsi, x86::ptr(x86::rsi, kLinear));
    if (f.destination) a_.lea(x86::rdi, x86::ptr(x86::rdi, toRdi));
    if (f.id == x86::Inst::kIdLods) a_.mov(pinned(0, 64), x86::rax);
    if (repeats) a_.mov(count, x86::rcx);
    a_.bind(done);
    if (f.setsFlags) flagsWritten();
    return true;
}

}  // namespace kiln
