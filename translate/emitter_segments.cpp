// Code outside 64-bit mode where segments matter (SDM vol. 3, 3.4 and 5.3): operands go through their
// segment, targets are offsets in CS, and moves from and to segment registers. What a segment does not
// plainly allow is the interpreter's, which raises what the manual says. So are loads of segment registers in
// protected mode, and of SS and CS everywhere.
#include "cpu/state.hpp"
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

namespace {

x86::Mem ofSegment(size_t member, unsigned segment, unsigned bytes) {
    return inFrameAt(offsetof(HostFrame, segments) + segment * sizeof(HostFrame::Segment) + member, bytes);
}

}  // namespace

bool BlockEmitter::needsSegment(ZydisRegister segment) const {
    return !code64_ && (segmented() || segment == ZYDIS_REGISTER_FS || segment == ZYDIS_REGISTER_GS);
}

void BlockEmitter::cutAddress() {
    if (z_->address_width == 16) a_.movzx(x86::edx, x86::dx);
}

// rdx: an offset of so many bits in the segment; becomes a linear address. rcx is used.
void BlockEmitter::throughSegment(unsigned segment, unsigned bits, unsigned bytes, bool write) {
    const Site::Kind kind = nearBranchInstruction_ ? Site::Kind::Before : Site::Kind::Miss;
    if (context_.surroundings.whole && bits == 16) {
        if (bytes > 1) {
            a_.cmp(x86::edx, 0x10000 - bytes);
            a_.ja(slow(kind));
        }
    } else {
        Downward d{a_.newLabel(), a_.newLabel(), slow(kind), segment, write};
        const size_t end =
            write ? offsetof(HostFrame::Segment, writeEnd) : offsetof(HostFrame::Segment, readEnd);
        a_.lea(kTag, x86::ptr(kLinear, int32_t(bytes)));
        a_.cmp(kTag, ofSegment(end, segment, 8));
        a_.ja(d.label);
        a_.bind(d.back);
        downward_.push_back(d);
    }
    a_.add(x86::edx, ofSegment(offsetof(HostFrame::Segment, base), segment, 4));
}

// Where a direct branch leads, from the page; none: not into CS.
std::optional<int64_t> BlockEmitter::target() const {
    const int64_t distance = nextOffset() + operands_[0].imm.value.s;
    if (!segmented()) return distance;
    const auto ip = uint64_t(pageIp() + distance) & (z_->operand_width == 16 ? 0xffff : 0xffffffff);
    if (ip >= context_.surroundings.codeEnd) return {};
    return int64_t(ip) - pageIp();
}

// Of offsets that calls push and returns pop.
unsigned BlockEmitter::transferBytes() const {
    if (!segmented()) return code64_ ? 8 : 4;
    return z_->operand_width == 16 ? 2 : 4;
}

// rdx: an offset in CS; becomes what the table of targets knows it by, if it does at all.
void BlockEmitter::toKey() {
    if (!segmented()) return;
    a_.add(x86::edx, ofSegment(offsetof(HostFrame::Segment, base), Cs, 4));
    a_.or_(x86::rdx, KILN_FRAME(surroundings));
}

// -- segment registers

// MOV r/m, Sreg and MOV Sreg, r/m16.
bool BlockEmitter::moveSegment() {
    const ZydisDecodedOperand &to = operands_[0], &from = operands_[1];
    const auto isSegment = [](const ZydisDecodedOperand& op) {
        return op.type == ZYDIS_OPERAND_TYPE_REGISTER &&
               ZydisRegisterGetClass(op.reg.value) == ZYDIS_REGCLASS_SEGMENT;
    };
    if (isSegment(from)) {
        const Mem selector =
            ofProcessor(&context_.terms.places.segment[segmentOf(from.reg.value)]->selector, 2);
        if (to.type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (!addressable(to.mem)) return false;
            Address place = access(to.mem, 2, true);
            moveAddressTo(place, kLinear);
            a_.mov(kIndex, KILN_FRAME(processor));
            a_.movzx(x86::ecx, selector);
            a_.mov(place.mem.cloneResized(2), x86::cx);
            return true;
        }
        const int guest = guestOf(to.reg.value);
        if (guest < 0) return false;
        a_.mov(kIndex, KILN_FRAME(processor));
        a_.movzx(x86::ecx, selector);
        if (to.size != 16)
            storeGuest(unsigned(guest), x86::rcx);
        else if (inFrame(guest))
            a_.mov(slot(unsigned(guest), 2), x86::cx);
        else
            a_.mov(pinned(unsigned(guest), 16), x86::cx);
        return true;
    }
    const unsigned segment = segmentOf(to.reg.value);
    if (!context_.surroundings.whole || segment == Cs || segment == Ss) return false;
    if (from.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const Address place = access(from.mem, 2, false);
        a_.movzx(x86::edx, place.mem.cloneResized(2));
    } else {
        a_.movzx(x86::edx, pinned(unsigned(guestOf(from.reg.value)), 16));
    }
    putSegment(segment);
    return true;
}

// As real and virtual-8086 mode load edx into one (Cpu::setReal). Nothing else follows from it: its end
// stays what it is.
void BlockEmitter::putSegment(unsigned segment) {
    const Segment* s = context_.terms.places.segment[segment];
    keepFlags();
    inHost_ = false;
    a_.mov(kIndex, KILN_FRAME(processor));
    a_.mov(ofProcessor(&s->selector, 2), x86::dx);
    if (!context_.surroundings.v86) {
        a_.movzx(x86::ecx, ofProcessor(&s->rights, 2));
        a_.and_(x86::ecx, 0xf000);
        a_.or_(x86::ecx, 0x93);
        a_.mov(ofProcessor(&s->rights, 2), x86::cx);
    }
    a_.mov(ofProcessor(&s->unusable, 1), 0);
    a_.shl(x86::edx, 4);
    a_.mov(ofProcessor(&s->base, 8), x86::rdx);
    a_.mov(ofProcessor(context_.terms.places.fastBase[segment], 8), x86::rdx);
    a_.mov(ofSegment(offsetof(HostFrame::Segment, base), segment, 8), x86::rdx);
    a_.mov(KILN_FRAME(segmentsVersion), 0);
}

bool BlockEmitter::pushSegment(unsigned segment) {
    const unsigned bytes = z_->operand_width / 8;
    Address to = stack(-int32_t(bytes), bytes, true);
    moveAddressTo(to, kLinear);
    a_.mov(kIndex, KILN_FRAME(processor));
    a_.movzx(x86::ecx, ofProcessor(&context_.terms.places.segment[segment]->selector, 2));
    a_.mov(to.mem.cloneResized(bytes), sized(int(x86::rcx.id()), bytes * 8));
    addToStack(-int32_t(bytes));
    return true;
}

bool BlockEmitter::popSegment(unsigned segment) {
    if (!context_.surroundings.whole || segment == Ss) return false;
    const unsigned bytes = z_->operand_width / 8;
    const Address from = stack(0, bytes, false);
    a_.movzx(x86::edx, from.mem.cloneResized(2));
    addToStack(int32_t(bytes));
    putSegment(segment);
    return true;
}

// LES and LDS, LFS, LGS.
bool BlockEmitter::loadFar() {
    unsigned segment = Es;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_LES: break;
        case ZYDIS_MNEMONIC_LDS: segment = Ds; break;
        case ZYDIS_MNEMONIC_LFS: segment = Fs; break;
        default: segment = Gs; break;
    }
    if (!context_.surroundings.whole || !operandsUsable()) return false;
    const unsigned width = operands_[0].size;
    const Address from = access(operands_[1].mem, width / 8 + 2, false);
    a_.mov(pinned(unsigned(guestOf(operands_[0].reg.value)), width), from.mem.cloneResized(width / 8));
    a_.movzx(x86::edx, from.mem.cloneAdjusted(width / 8).cloneResized(2));
    putSegment(segment);
    return true;
}

// -- string instructions, one element

// The operand at rSI or rDI.
BlockEmitter::Address BlockEmitter::pointer(unsigned guest, unsigned segment, unsigned bytes, bool write) {
    loadGuest(kLinear, guest);
    if (z_->address_width == 16)
        cutAddress();
    else
        a_.mov(x86::edx, x86::edx);
    const auto name = ZydisRegister(ZYDIS_REGISTER_ES + segment);
    if (needsSegment(name)) throughSegment(segment, z_->address_width, bytes, write);
    return check(nullptr, bytes, write);
}

void BlockEmitter::advance(unsigned guest, unsigned bytes) {
    a_.lea(pinned(guest, z_->address_width), x86::ptr(pinned(guest, 64), int32_t(bytes)));
}

// Without a prefix and with addresses of 16 or 32 bits.
bool BlockEmitter::stringElement() {
    constexpr unsigned kRsi = 6, kRdi = 7;
    if (code64_ || z_->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
        return false;
    unsigned from = Ds;
    for (unsigned n = 0; n < z_->operand_count; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (op.type == ZYDIS_OPERAND_TYPE_MEMORY && ZydisRegisterGetId(op.mem.base) == kRsi)
            from = segmentOf(op.mem.segment);
    }
    const unsigned bytes = z_->operand_width / 8;
    keepFlags();
    inHost_ = false;
    a_.mov(kIndex, KILN_FRAME(processor));
    a_.test(ofProcessor(context_.terms.places.flags, 4), uint32_t(flag::DF));
    a_.jnz(slow(Site::Kind::Miss));
    const Gp accumulator = pinned(0, bytes * 8), value = sized(int(x86::rcx.id()), bytes * 8);
    auto note = [&](const Address& source) {
        a_.mov(value, source.mem.cloneResized(bytes));
        a_.mov(KILN_FRAME(value), x86::rcx);
    };
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_LODSB:
        case ZYDIS_MNEMONIC_LODSW:
        case ZYDIS_MNEMONIC_LODSD:
            a_.mov(accumulator, pointer(kRsi, from, bytes, false).mem.cloneResized(bytes));
            advance(kRsi, bytes);
            return true;
        case ZYDIS_MNEMONIC_STOSB:
        case ZYDIS_MNEMONIC_STOSW:
        case ZYDIS_MNEMONIC_STOSD:
            a_.mov(pointer(kRdi, Es, bytes, true).mem.cloneResized(bytes), accumulator);
            advance(kRdi, bytes);
            return true;
        case ZYDIS_MNEMONIC_MOVSB:
        case ZYDIS_MNEMONIC_MOVSW:
        case ZYDIS_MNEMONIC_MOVSD: {
            note(pointer(kRsi, from, bytes, false));
            const Address to = pointer(kRdi, Es, bytes, true);
            a_.mov(x86::rcx, KILN_FRAME(value));
            a_.mov(to.mem.cloneResized(bytes), value);
            advance(kRsi, bytes);
            advance(kRdi, bytes);
            return true;
        }
        case ZYDIS_MNEMONIC_SCASB:
        case ZYDIS_MNEMONIC_SCASW:
        case ZYDIS_MNEMONIC_SCASD:
            a_.cmp(accumulator, pointer(kRdi, Es, bytes, false).mem.cloneResized(bytes));
            break;
        case ZYDIS_MNEMONIC_CMPSB:
        case ZYDIS_MNEMONIC_CMPSW:
        case ZYDIS_MNEMONIC_CMPSD: {
            note(pointer(kRdi, Es, bytes, false));  // processors read it first
            const Address source = pointer(kRsi, from, bytes, false);
            a_.mov(x86::rcx, KILN_FRAME(value));
            a_.cmp(source.mem.cloneResized(bytes), value);
            advance(kRsi, bytes);
            break;
        }
        default: return false;
    }
    advance(kRdi, bytes);
    flagsWritten();
    return true;
}

}  // namespace kiln
