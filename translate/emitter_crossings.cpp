// SYSCALL, SYSRET and IRETQ between 64-bit code of both sides as host code, SYSENTER and SYSEXIT between
// 32-bit code of flat segments: the ordinary case that translator_crossings.cpp and translator_legacy.cpp
// know, when the frame of the other side is known to be up to date and the target is in its table. Everything
// else goes there.
#include <cstring>

#include "cpu/flat_segment.hpp"
#include "translate/emission.hpp"
#include "translate/frame_words.hpp"

namespace kiln {

using namespace asmjit;

namespace {

constexpr uint64_t kUserTag = 4;  // in which Cpu's tags of both sides differ

// All of a segment that system calls load but the selector, which is in the lowest word.
uint64_t firstWord(unsigned dpl, bool code, bool is64) {
    uint64_t v;
    const Segment s = flatSegment(0, dpl, code, is64);
    static_assert(offsetof(Segment, selector) == 0 && offsetof(Segment, limit) == 4);
    std::memcpy(&v, &s, sizeof v);
    return v;
}

}  // namespace

bool BlockEmitter::mayCross() const {
    if (segmented() || context_.trace || block_->single) return false;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_SYSCALL:
        case ZYDIS_MNEMONIC_IRETQ: return code64_;
        case ZYDIS_MNEMONIC_SYSRET: return code64_ && z_->operand_width == 64;
        case ZYDIS_MNEMONIC_SYSENTER:
        case ZYDIS_MNEMONIC_SYSEXIT: return !code64_;
        default: return false;
    }
}

// With guest registers in their standard places and flags in the frame. rcx and rdx hold what is of the
// moment; rax the processor, once nothing is in the way any more.
void BlockEmitter::cross(const Label& slow) {
    const ProcessorPlaces& p = context_.terms.places;
    const int32_t executed = sites_[interpreted_].executed + int32_t(index_ - stepBegin_) + 1;
    // What Translator::mayCross looks at; a recording shortens the slice.
    a_.mov(x86::rcx, KILN_FRAME(attention));
    a_.cmp(x86::dword_ptr(x86::rcx), 0);
    a_.jne(slow);
    a_.cmp(KILN_FRAME(slice), executed);
    a_.jle(slow);
    a_.mov(x86::rax, KILN_FRAME(processor));
    a_.cmp(ofProcessor(p.pendingDebug, 4), 0);
    a_.jne(slow);
    a_.test(ofProcessor(p.flags, 4), uint32_t(flag::TF | flag::VM | flag::NT | flag::AC));
    a_.jnz(slow);
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_IRETQ: return crossByReturn(slow, executed);
        case ZYDIS_MNEMONIC_SYSENTER:
        case ZYDIS_MNEMONIC_SYSEXIT: return crossBySysenter(slow, executed);
        default: return crossBySystemCall(slow, executed);
    }
}

void BlockEmitter::crossBySystemCall(const Label& slow, int32_t executed) {
    const bool calls = z_->mnemonic == ZYDIS_MNEMONIC_SYSCALL;
    const ProcessorPlaces& p = context_.terms.places;
    const Mem otherFrame = calls ? KILN_FRAME(withoutAc) : KILN_FRAME(user);
    const Mem r11 = inFrameAt(HostFrame::gprAt(11));
    const Gp guestRcx = x86::gpq(uint32_t(kStandardMap.host[1]));
    static_assert(kStandardMap.pinned(1) && !kStandardMap.pinned(11));
    auto of = [&](const void* place, unsigned bytes) { return ofProcessor(place, bytes); };
    auto part = [&](const void* place, unsigned from, unsigned bytes) {
        return of(static_cast<const char*>(place) + from, bytes);
    };

    a_.test(of(p.efer, 4), uint32_t(efer::SCE));
    a_.jz(slow);
    if (calls) {
        a_.mov(x86::rcx, of(p.lstar, 8));
    } else {
        a_.cmp(of(p.cpl, 4), 0);
        a_.jne(slow);
        a_.test(r11.cloneResized(4), uint32_t(flag::TF | flag::AC));
        a_.jnz(slow);
        a_.mov(x86::rcx, guestRcx);
    }
    findCrossed(slow, &otherFrame);

    a_.mov(x86::rax, KILN_FRAME(processor));
    countInline(calls ? TrapKind::SystemCall : TrapKind::SystemReturn);
    if (calls) {
        a_.movzx(x86::ecx, inFrameAt(offsetof(HostFrame, flags) + 1, 1));
        a_.movzx(x86::edx, inFrameAt(offsetof(HostFrame, flags), 1));
        a_.and_(x86::ecx, 0xd5);
        a_.and_(x86::edx, 1);
        a_.shl(x86::edx, 11);
        a_.or_(x86::ecx, x86::edx);
        a_.or_(x86::ecx, of(p.flags, 4));
        a_.or_(x86::ecx, 2);
        a_.and_(x86::ecx, ~uint32_t(flag::RF));
        a_.mov(r11, x86::rcx);
        a_.mov(guestRcx, KILN_FRAME(page));
        a_.lea(guestRcx, x86::ptr(guestRcx, int32_t(offset() + z_->length)));
        a_.mov(x86::ecx, of(p.sfmask, 4));
        a_.not_(x86::ecx);
        a_.and_(x86::ecx, ~uint32_t(flag::RF));
        a_.and_(of(p.flags, 4), x86::ecx);
        toFlagsImage();
        a_.and_(KILN_FRAME(flags).cloneResized(4), x86::edx);
        a_.movzx(x86::ecx, part(p.star, 4, 2));
        a_.and_(x86::ecx, 0xfffc);
    } else {
        a_.mov(x86::ecx, r11.cloneResized(4));
        a_.and_(x86::ecx, uint32_t(0x3c7fd5 & ~flag::Arithmetic));
        a_.mov(of(p.flags, 4), x86::ecx);
        a_.mov(x86::ecx, r11.cloneResized(4));
        toFlagsImage();
        a_.mov(KILN_FRAME(flags), x86::rdx);
        a_.movzx(x86::ecx, part(p.star, 6, 2));
        a_.add(x86::ecx, 16);
        a_.or_(x86::ecx, 3);
        a_.movzx(x86::ecx, x86::cx);
    }
    const unsigned dpl = calls ? 0 : 3;
    loadFlatSegment(Cs, dpl, true);
    // SS is the descriptor behind CS's, or the one in front of it.
    if (calls) {
        a_.add(x86::ecx, 8);
        a_.movzx(x86::ecx, x86::cx);
    } else {
        a_.movzx(x86::ecx, part(p.star, 6, 2));
        a_.add(x86::ecx, 8);
        a_.or_(x86::ecx, 3);
        a_.movzx(x86::ecx, x86::cx);
    }
    loadFlatSegment(Ss, dpl, false);
    a_.mov(of(p.cpl, 4), dpl);
    enterCrossed(&otherFrame, executed);
}

// With the selector in rcx and the processor in rax.
void BlockEmitter::loadFlatSegment(unsigned segment, unsigned dpl, bool code) {
    const Segment* s = context_.terms.places.segment[segment];
    a_.mov(x86::rdx, firstWord(dpl, code, code && code64_));
    a_.or_(x86::rdx, x86::rcx);
    a_.mov(ofProcessor(s, 8), x86::rdx);
    a_.mov(ofProcessor(&s->base, 8), 0);
    a_.mov(ofProcessor(&s->unusable, 1), 0);
}

// SYSENTER and SYSEXIT of 32-bit code, in 32-bit protected mode: CS and SS stay as flat as they are, all the
// other segments are the other frame's as well.
void BlockEmitter::crossBySysenter(const Label& slow, int32_t executed) {
    const bool enters = z_->mnemonic == ZYDIS_MNEMONIC_SYSENTER;
    const ProcessorPlaces& p = context_.terms.places;
    const Mem otherFrame = enters ? KILN_FRAME(withoutAc) : KILN_FRAME(user);
    a_.test(ofProcessor(p.cr0, 4), uint32_t(cr0::PE));
    a_.jz(slow);
    a_.test(ofProcessor(p.efer, 4), uint32_t(efer::LMA));
    a_.jnz(slow);
    a_.test(ofProcessor(p.sysenterCs, 4), 0xfffc);
    a_.jz(slow);
    a_.mov(x86::rdx, otherFrame);
    a_.mov(x86::rcx, KILN_FRAME(segmentsVersion));
    a_.cmp(x86::rcx, x86::qword_ptr(x86::rdx, at(offsetof(HostFrame, segmentsVersion))));
    a_.jne(slow);
    if (enters) {
        a_.mov(x86::ecx, ofProcessor(p.sysenterEip, 4));
    } else {
        a_.cmp(ofProcessor(p.cpl, 4), 0);
        a_.jne(slow);
        loadGuest(x86::rcx, Rdx);
        a_.mov(x86::ecx, x86::ecx);
    }
    findCrossed(slow, &otherFrame);

    a_.mov(x86::rax, KILN_FRAME(processor));
    countInline(enters ? TrapKind::SystemCall : TrapKind::SystemReturn);
    if (enters) {
        a_.and_(ofProcessor(p.flags, 4), ~uint32_t(flag::IF | flag::RF));
        a_.mov(x86::ecx, ofProcessor(p.sysenterEsp, 4));
    } else {
        loadGuest(x86::rcx, Rcx);
        a_.mov(x86::ecx, x86::ecx);
    }
    storeGuest(Rsp, x86::rcx);
    const unsigned dpl = enters ? 0 : 3;
    for (const unsigned segment : {Cs, Ss}) {
        a_.movzx(x86::ecx, ofProcessor(p.sysenterCs, 2));
        if (enters) a_.and_(x86::ecx, 0xfffc);
        const unsigned further = (segment == Ss ? 8 : 0) + (enters ? 0 : 16);
        if (further) a_.add(x86::ecx, further);
        if (!enters) a_.or_(x86::ecx, 3);
        a_.movzx(x86::ecx, x86::cx);
        loadFlatSegment(segment, dpl, segment == Cs);
    }
    a_.mov(ofProcessor(p.cpl, 4), dpl);
    enterCrossed(&otherFrame, executed);
}

// IRETQ to a code segment and a stack that it has returned to before (HostFrame::KnownReturn).
void BlockEmitter::crossByReturn(const Label& slow, int32_t executed) {
    const Label outer = a_.newLabel();
    a_.cmp(ofProcessor(context_.terms.places.cpl, 4), 0);
    a_.jne(slow);
    loadGuest(x86::rdx, Rsp);
    a_.lea(kTag, x86::ptr(x86::rdx, 39));
    a_.mov(kIndex.r32(), x86::edx);
    toEntry(a_);
    a_.and_(kTag, -4096);
    a_.cmp(kTag, entryPart(Tlb::kReadTag));
    a_.jne(slow);
    a_.add(x86::rdx, entryPart(Tlb::kAddend));
    a_.mov(KILN_FRAME(operand), x86::rdx);
    a_.test(x86::dword_ptr(x86::rdx, 16), uint32_t(flag::TF | flag::AC));
    a_.jnz(slow);
    a_.movzx(x86::eax, x86::word_ptr(x86::rdx, 8));
    a_.movzx(x86::ecx, x86::word_ptr(x86::rdx, 32));
    a_.shl(x86::ecx, 16);
    a_.or_(x86::eax, x86::ecx);
    a_.jz(slow);
    a_.cmp(x86::eax, KILN_FRAME(returns[1].selectors));
    a_.je(outer);
    a_.cmp(x86::eax, KILN_FRAME(returns[0].selectors));
    a_.jne(slow);
    returnTo(0, slow, executed);
    a_.bind(outer);
    returnTo(3, slow, executed);
}

// With the host's address of what is popped in HostFrame::operand.
void BlockEmitter::returnTo(unsigned level, const Label& slow, int32_t executed) {
    using Known = HostFrame::KnownReturn;
    const ProcessorPlaces& p = context_.terms.places;
    const size_t known = offsetof(HostFrame, returns) + (level ? sizeof(Known) : 0);
    auto knownPart = [&](size_t offset, uint32_t bytes = 8) { return inFrameAt(known + offset, bytes); };
    const Mem user = KILN_FRAME(user), *otherFrame = level ? &user : nullptr;

    // The descriptors are the same.
    a_.mov(kIndex, knownPart(offsetof(Known, entry)));
    a_.mov(x86::rdx, knownPart(offsetof(Known, linear)));
    a_.mov(kTag, x86::rdx);
    a_.and_(kTag, -4096);
    a_.cmp(kTag, entryPart(Tlb::kReadTag));
    a_.jne(slow);
    a_.add(x86::rdx, entryPart(Tlb::kAddend));
    a_.mov(x86::rcx, x86::qword_ptr(x86::rdx));
    a_.cmp(x86::rcx, knownPart(offsetof(Known, csDescriptor)));
    a_.jne(slow);
    a_.add(x86::rdx, knownPart(offsetof(Known, toSs)));
    a_.mov(x86::rcx, x86::qword_ptr(x86::rdx));
    a_.cmp(x86::rcx, knownPart(offsetof(Known, ssDescriptor)));
    a_.jne(slow);
    a_.mov(x86::rax, KILN_FRAME(processor));
    a_.mov(x86::rcx, knownPart(offsetof(Known, gdtBase)));
    a_.cmp(x86::rcx, ofProcessor(&p.gdtr->base, 8));
    a_.jne(slow);
    a_.movzx(x86::ecx, ofProcessor(&p.gdtr->limit, 2));
    a_.cmp(x86::ecx, knownPart(offsetof(Known, gdtLimit), 4));
    a_.jne(slow);
    // Nor is there a segment that an outer level must not keep.
    if (level) {
        for (const SegReg r : {Es, Ds, Fs, Gs}) {
            const Label usable = a_.newLabel(), next = a_.newLabel();
            a_.mov(x86::ecx, ofProcessor(p.segment[r], 4));  // selector and rights
            static_assert(offsetof(Segment, rights) == 2);
            a_.cmp(ofProcessor(&p.segment[r]->unusable, 1), 0);
            a_.je(usable);
            a_.test(x86::ecx, 0xffff);
            a_.jnz(slow);
            a_.jmp(next);
            a_.bind(usable);
            a_.not_(x86::ecx);
            a_.test(x86::ecx, uint32_t(3 << 5) << 16);
            a_.jnz(slow);
            a_.bind(next);
        }
    }
    a_.mov(x86::rcx, KILN_FRAME(operand));
    a_.mov(x86::rcx, x86::qword_ptr(x86::rcx));
    findCrossed(slow, otherFrame);

    a_.mov(x86::rax, KILN_FRAME(processor));
    countInline(TrapKind::Iret);
    a_.mov(x86::rdx, KILN_FRAME(operand));
    a_.mov(x86::rcx, x86::qword_ptr(x86::rdx, 24));
    storeGuest(Rsp, x86::rcx);
    a_.mov(x86::ecx, x86::dword_ptr(x86::rdx, 16));
    toFlagsImage();
    a_.mov(KILN_FRAME(flags), x86::rdx);
    a_.mov(x86::rdx, KILN_FRAME(operand));
    a_.mov(x86::ecx, x86::dword_ptr(x86::rdx, 16));
    // RF is over behind the next instruction, and there is no breakpoint for it.
    constexpr uint64_t kLoaded =
        flag::IF | flag::DF | flag::IOPL | flag::NT | flag::VIF | flag::VIP | flag::ID;
    a_.and_(x86::ecx, uint32_t(kLoaded));
    a_.mov(ofProcessor(p.flags, 4), x86::ecx);
    loadSegment(Cs, known + offsetof(Known, cs));
    loadSegment(Ss, known + offsetof(Known, ss));
    a_.mov(ofProcessor(p.nmiBlocked, 1), 0);
    if (level) a_.mov(ofProcessor(p.cpl, 4), level);
    enterCrossed(otherFrame, executed);
}

// From a place in the frame.
void BlockEmitter::loadSegment(unsigned segment, size_t known) {
    const auto* to = reinterpret_cast<const char*>(context_.terms.places.segment[segment]);
    for (size_t n = 0; n < sizeof(Segment); n += 8) {
        a_.mov(x86::rcx, inFrameAt(known + n));
        a_.mov(ofProcessor(to + n, 8), x86::rcx);
    }
}

// The target in rcx, which is canonical when it is in the table of the other frame (null: the same one), and
// that frame is up to date.
void BlockEmitter::findCrossed(const Label& slow, const Mem* otherFrame) {
    if (otherFrame) {
        a_.cmp(KILN_FRAME(x87), unsigned(X87Place::InCpu));  // its image would have to move
        a_.jne(slow);
        a_.mov(x86::rdx, *otherFrame);
    }
    const Gp frame = otherFrame ? x86::rdx : x86::rsp;
    const Label found = a_.newLabel();
    toJumpTarget(a_, x86::rcx);
    a_.cmp(x86::rcx, jumpPart(offsetof(JumpTarget, rip), frame));
    a_.je(found);
    toNeighbour(a_);
    a_.cmp(x86::rcx, jumpPart(offsetof(JumpTarget, rip), frame));
    a_.jne(slow);
    a_.bind(found);
    a_.mov(x86::rax, jumpPart(offsetof(JumpTarget, host), frame));
    a_.mov(KILN_FRAME(hostTarget), x86::rax);
    a_.and_(x86::rcx, -4096);
    a_.mov(KILN_FRAME(target), x86::rcx);
    if (!otherFrame) return;
    for (const size_t tag : {offsetof(HostFrame, lookupTag), offsetof(HostFrame, globalTag),
                             offsetof(HostFrame, forgotten), offsetof(HostFrame, generation)}) {
        a_.mov(x86::rcx, inFrameAt(tag));
        if (tag == offsetof(HostFrame, lookupTag) || tag == offsetof(HostFrame, globalTag))
            a_.xor_(x86::rcx, kUserTag);
        a_.cmp(x86::rcx, x86::qword_ptr(x86::rdx, at(tag)));
        a_.jne(slow);
    }
}

// What findCrossed() found, with everything loaded and the processor in rax.
void BlockEmitter::enterCrossed(const Mem* otherFrame, int32_t executed) {
    const ProcessorPlaces& p = context_.terms.places;
    auto other = [](size_t offset) { return x86::qword_ptr(x86::rdx, at(offset)); };
    a_.mov(ofProcessor(p.committed, 1), 0);
    a_.mov(ofProcessor(p.alignmentChecks, 1), 0);
    if (context_.terms.threaded) a_.mfence();  // as the run loop has it between such blocks
    a_.mov(x86::rcx, KILN_FRAME(target));
    a_.mov(KILN_FRAME(page), x86::rcx);
    a_.sub(KILN_FRAME(slice), executed);
    if (otherFrame) {
        a_.mov(x86::rdx, *otherFrame);
        eachMovingWord([&](size_t word) {
            a_.mov(x86::rcx, inFrameAt(word));
            a_.mov(other(word), x86::rcx);
        });
        a_.mov(x86::rcx, other(offsetof(HostFrame, lookupTag)));
        a_.mov(ofProcessor(p.lookupTag, 8), x86::rcx);
        a_.mov(x86::rcx, other(offsetof(HostFrame, globalTag)));
        a_.mov(ofProcessor(p.globalTag, 8), x86::rcx);
        a_.mov(x86::rcx, other(offsetof(HostFrame, tlb)));
        a_.mov(ofProcessor(p.dataTlb, 8), x86::rcx);
    }
    a_.mov(x86::rcx, KILN_FRAME(hostTarget));
    if (otherFrame) a_.mov(x86::rsp, x86::rdx);
    a_.jmp(x86::rcx);
}

// What HostFrame::flags has of the arithmetic flags in ecx, to edx.
void BlockEmitter::toFlagsImage() {
    a_.mov(x86::edx, x86::ecx);
    a_.and_(x86::edx, 0xd5);
    a_.shl(x86::edx, 8);
    a_.shr(x86::ecx, 11);
    a_.and_(x86::ecx, 1);
    a_.or_(x86::edx, x86::ecx);
}

}  // namespace kiln
