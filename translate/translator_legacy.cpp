// Changes of the privilege level outside 64-bit mode as host code has them done, as translator_crossings.cpp
// does in it: INT n, faults, interrupts and IRET of real, virtual-8086 and 32-bit protected mode, and of
// 32-bit code under a 64-bit kernel; SYSENTER and SYSEXIT. Tables and stacks are those that the TLB knows;
// what needs more than that, faults or switches tasks is left to cpu/exceptions.cpp and cpu/segments.cpp.
#include "cpu/flat_segment.hpp"
#include "translate/flag_image.hpp"
#include "translate/translator.hpp"

namespace kiln {

namespace {

// Where a stack lies: offsets of `mask` from `base` on, up to `end`.
struct StackPlace {
    uint64_t base, end, mask;

    // `bytes` from the offset `sp` on, in one page that the TLB knows; null: there is more to it.
    uint8_t* at(const Tlb& tlb, uint64_t sp, unsigned bytes, bool write) const {
        sp &= mask;
        if (sp + bytes > std::min(end, mask + 1)) return nullptr;
        return tlb.find((base + sp) & 0xffffffff, bytes, write);
    }
};

// Writes from the highest address down, as pushes do.
template <class T>
struct Pushes {
    uint8_t* end;
    void operator()(uint64_t v) { storeGuest(end -= sizeof(T), T(v)); }
};

bool isFlat(const Segment& s) {
    return !s.base && s.limit == 0xffffffff && s.big() && !s.unusable && !s.expandDown();
}

uint64_t merged(uint64_t old, uint64_t sp, uint64_t mask) {
    return mask == 0xffff ? (old & ~mask) | (sp & mask) : sp & mask;
}

}  // namespace

// As Cpu::enterHandlerProtected(), through a 32-bit interrupt or trap gate to CPL 0.
bool Translator::enterHandlerProtected(HostFrame& f, uint8_t vector, Cpu::Source source, const Fault* fault) {
    Cpu& c = cpu_;
    const bool fromV86 = c.v86(), software = source == Cpu::Source::SoftwareInt;
    if (fromV86 && software && (c.cr4 & cr4::VME || c.flags.iopl() < 3)) return false;
    const Tlb& tables = c.tlbFor(false, true);
    if (c.idtr.limit < vector * 8u + 7) return false;
    const uint8_t* entry = tables.find(c.idtr.base + vector * 8u, 8, false);
    if (!entry) return false;
    const auto gate = loadGuest<uint64_t>(entry);
    constexpr uint64_t kKind = 0x9eull << 40, kInterrupt = 0x8eull << 40, kTrapGate = 1ull << 40;
    const uint64_t target = (gate & 0xffff) | (gate >> 32 & 0xffff0000);
    if ((gate & kKind) != kInterrupt || (software && (gate >> 45 & 3) < c.cpl)) return false;

    const auto selector = uint16_t(gate >> 16 & 0xfffc);
    const uint64_t descriptor = plainDescriptor(selector);
    if (!descriptor) return false;
    const Segment cs = Cpu::unpack(selector, descriptor);
    if (!cs.isCode() || cs.conforming() || cs.dpl() || !cs.present() || target > cs.limit) return false;

    const bool newStack = c.cpl, hasError = fault && fault->hasError;
    Segment ss = c.seg[Ss];
    uint64_t sp = f.gpr(Rsp);
    StackPlace place{c.fast_[Ss].base, c.fast_[Ss].writeEnd, c.stackMask_};
    if (newStack) {
        constexpr unsigned kEsp0 = 4;
        if (!(c.tr.type() & 8) || kEsp0 + 5 > c.tr.limit) return false;
        const uint8_t* stack = tables.find(c.tr.base + kEsp0, 6, false);
        if (!stack) return false;
        sp = loadGuest<uint32_t>(stack);
        const auto ssSelector = loadGuest<uint16_t>(stack + 4);
        const uint64_t ssDescriptor = ssSelector & 3 ? 0 : plainDescriptor(ssSelector);
        if (!ssDescriptor) return false;
        ss = Cpu::unpack(ssSelector, ssDescriptor);
        if (!ss.writable() || ss.dpl() || !ss.present() || ss.expandDown()) return false;
        place = {ss.base, uint64_t(ss.limit) + 1, ss.big() ? 0xffffffff : 0xffff};
    }
    const unsigned bytes = (3 + 2 * newStack + 4 * fromV86 + hasError) * 4;
    uint8_t* const items = place.at(tables, sp - bytes, bytes, true);
    if (!items) return false;

    const uint64_t flags = c.flags.others() | arithmeticFlags(f.flags) | 2;
    Pushes<uint32_t> push{items + bytes};
    if (fromV86)
        for (const SegReg r : {Gs, Fs, Ds, Es}) push(c.seg[r].selector);
    if (newStack) push(c.seg[Ss].selector), push(f.gpr(Rsp));
    push(flags | (fault ? flag::RF : 0));
    push(c.seg[Cs].selector);
    push(f.rip);
    if (hasError) push(fault->error);
    if (fromV86)
        for (const SegReg r : {Gs, Fs, Ds, Es}) c.seg[r] = Segment{.unusable = true};
    f.gpr(Rsp) = merged(f.gpr(Rsp), sp - bytes, place.mask);
    c.seg[Ss] = ss;
    c.seg[Cs] = cs;
    c.cpl = 0;
    c.untraced = c.committed_ = true;
    f.rip = target;
    setFlags(f, flags & ~(flag::TF | flag::NT | flag::RF | flag::VM | (gate & kTrapGate ? 0 : flag::IF)));
    return true;
}

// As Cpu::enterHandlerReal().
bool Translator::enterHandlerReal(HostFrame& f, uint8_t vector) {
    Cpu& c = cpu_;
    const Tlb& tlb = c.tlbFor(false, true);
    if (c.idtr.limit < vector * 4u + 3) return false;
    const uint8_t* entry = tlb.find(c.idtr.base + vector * 4u, 4, false);
    const StackPlace place{c.fast_[Ss].base, c.fast_[Ss].writeEnd, c.stackMask_};
    constexpr unsigned kBytes = 6;
    const uint64_t sp = f.gpr(Rsp) - kBytes;
    uint8_t* items = entry ? place.at(tlb, sp, kBytes, true) : nullptr;
    if (!items) return false;
    const uint64_t flags = c.flags.others() | arithmeticFlags(f.flags) | 2;
    Pushes<uint16_t> push{items + kBytes};
    push(flags);
    push(c.seg[Cs].selector);
    push(f.rip);
    f.gpr(Rsp) = merged(f.gpr(Rsp), sp, place.mask);
    setFlags(f, flags & ~(flag::IF | flag::TF | flag::AC | flag::RF));
    c.setReal(Cs, loadGuest<uint16_t>(entry + 2));
    c.untraced = c.committed_ = true;
    f.rip = loadGuest<uint16_t>(entry);
    return true;
}

// IRET and IRETD. False: nothing has been done.
bool Translator::interruptReturnLegacy(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    constexpr uint64_t kAlways = flag::Arithmetic | flag::DF | flag::NT | flag::IF;
    const unsigned bytes = s.mnemonic == ZYDIS_MNEMONIC_IRETD ? 4 : 2;
    const StackPlace place{c.fast_[Ss].base, c.fast_[Ss].readEnd, c.stackMask_};
    const uint64_t sp = f.gpr(Rsp);
    auto items = [&](unsigned n) { return place.at(*c.dataTlb_, sp, n * bytes, false); };
    const uint8_t* known = items(3);
    if (!known) return false;
    auto item = [&](unsigned n) -> uint64_t {
        const uint8_t* at = known + n * bytes;
        return bytes == 4 ? loadGuest<uint32_t>(at) : loadGuest<uint16_t>(at);
    };
    const uint64_t target = item(0), image = item(2), now = c.flags.others() | arithmeticFlags(f.flags);
    const auto selector = uint16_t(item(1));
    const uint64_t more = bytes == 4 ? flag::RF | flag::AC | flag::ID : 0;
    if (image & flag::TF || (more ? image : now) & flag::AC) return false;
    auto loadFlags = [&](uint64_t mask) { setFlags(f, (now & ~mask) | (image & mask)); };

    if (!c.protectedMode()) {
        if (target > c.seg[Cs].limit || (c.v86() && c.flags.iopl() < 3)) return false;
        loadFlags(kAlways | more | (c.v86() ? 0 : flag::IOPL));
        f.gpr(Rsp) = merged(sp, sp + 3 * bytes, place.mask);
        c.setReal(Cs, selector);
        c.nmiBlocked = false;
        f.rip = target;
        return true;
    }
    if (c.cpl || c.longMode()) return false;
    if (more && image & flag::VM) return returnToV86(f, items(9));

    const unsigned level = selector & 3;
    const uint64_t descriptor = plainDescriptor(selector);
    if (!descriptor) return false;
    const Segment cs = Cpu::unpack(selector, descriptor);
    if (!cs.isCode() || cs.conforming() || cs.dpl() != level || !cs.present() || target > cs.limit)
        return false;
    if (level) {
        known = items(5);
        const auto ssSelector = known ? uint16_t(item(4)) : uint16_t(0);
        const uint64_t ssDescriptor = (ssSelector & 3) == level ? plainDescriptor(ssSelector) : 0;
        if (!ssDescriptor) return false;
        const Segment ss = Cpu::unpack(ssSelector, ssDescriptor);
        if (ss.dpl() != level || !ss.writable() || !ss.present()) return false;
        f.gpr(Rsp) = merged(sp, item(3), ss.big() ? 0xffffffff : 0xffff);
        c.seg[Ss] = ss;
        c.cpl = level;
        c.dropInnerSegments();
    } else {
        f.gpr(Rsp) = merged(sp, sp + 3 * bytes, place.mask);
    }
    c.nmiBlocked = false;
    c.seg[Cs] = cs;
    f.rip = target;
    loadFlags(kAlways | more | flag::IOPL | (more ? flag::VIF | flag::VIP : 0));
    return true;
}

// To virtual-8086 mode, by the nine words on the stack.
bool Translator::returnToV86(HostFrame& f, const uint8_t* items) {
    Cpu& c = cpu_;
    if (!items) return false;
    auto item = [&](unsigned n) { return loadGuest<uint32_t>(items + 4 * n); };
    if (item(0) > 0xffff) return false;
    setFlags(f, item(2));
    c.cpl = 3;
    c.nmiBlocked = false;
    constexpr SegReg kOrder[] = {Es, Ds, Fs, Gs};
    c.setReal(Cs, uint16_t(item(1)));
    c.setReal(Ss, uint16_t(item(4)));
    for (unsigned n = 0; n < 4; n++) c.setReal(kOrder[n], uint16_t(item(5 + n)));
    f.gpr(Rsp) = item(3);
    f.rip = item(0);
    return true;
}

bool Translator::systemEnter(HostFrame& f) {
    Cpu& c = cpu_;
    const auto cs = uint16_t(c.msr.sysenterCs & 0xfffc);
    const bool is64 = c.longMode();
    if (!cs || !c.protectedMode() || (c.model.isAmd() && is64)) return false;
    const uint64_t mask = is64 ? ~0ull : 0xffffffff, target = c.msr.sysenterEip & mask;
    if (is64 && !c.canonical(target)) return false;
    setFlags(f, (c.flags.others() | arithmeticFlags(f.flags)) & ~(flag::IF | flag::RF));
    c.seg[Cs] = flatSegment(cs, 0, true, is64);
    c.seg[Ss] = flatSegment(uint16_t(cs + 8), 0, false, false);
    c.cpl = 0;
    f.gpr(Rsp) = c.msr.sysenterEsp & mask;
    f.rip = target;
    return true;
}

bool Translator::systemExit(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    const auto base = uint16_t(c.msr.sysenterCs);
    if (!(base & 0xfffc) || !c.protectedMode() || c.cpl || c.flags.test(flag::AC) ||
        (c.model.isAmd() && c.longMode()))
        return false;
    const bool to64 = s.wide;
    const uint64_t sp = f.gpr(Rcx), target = f.gpr(Rdx);
    if (to64 && !(c.canonical(sp) && c.canonical(target))) return false;
    c.seg[Cs] = flatSegment(uint16_t((base + (to64 ? 32 : 16)) | 3), 3, true, to64);
    c.seg[Ss] = flatSegment(uint16_t((base + (to64 ? 40 : 24)) | 3), 3, false, false);
    c.cpl = 3;
    f.gpr(Rsp) = to64 ? sp : uint32_t(sp);
    f.rip = to64 ? target : uint32_t(target);
    return true;
}

// Whether 32-bit code of flat segments has come from such code with the same data segments.
bool Translator::staysFlat() const {
    const Cpu& c = cpu_;
    for (const SegReg r : {Es, Ds, Fs, Gs})
        if (c.seg[r].unusable != !c.fast_[r].readEnd) return false;  // one has just been dropped
    return c.flat_ && c.codeMode_ == CodeMode::Code32 && !c.longMode() && c.protectedMode() &&
           isFlat(c.seg[Cs]) && c.seg[Cs].readable() && isFlat(c.seg[Ss]) && c.seg[Ss].writable();
}

// On the TLB that is the right one now, where the segments are the same.
HostFrame& Translator::followSegments(HostFrame& f) {
    HostFrame& n = followContext(f);
    // (Host code loads none where they are flat.)
    const bool same = !now_.segmented() && n.segmentsVersion == f.segmentsVersion;
    if (&n != &f && cpu_.codeMode_ != CodeMode::Code64 && !same) segmentsToFrame(n);
    return n;
}

// And where CS, SS, CPL and what depends on them may be others.
HostFrame& Translator::behindCrossing(HostFrame& f) {
    Cpu& c = cpu_;
    const bool stays64 = c.codeMode_ == CodeMode::Code64 && c.code64();
    if (stays64 || staysFlat()) {
        levelChanged();
        return followSegments(f);
    }
    c.segmentsChanged();
    HostFrame& n = followContext(f);
    n.fsBase = c.fast_[Fs].base;
    n.gsBase = c.fast_[Gs].base;
    noteSurroundings();
    if (c.codeMode_ != CodeMode::Code64) segmentsToFrame(n);
    return n;
}

}  // namespace kiln
