// Segment registers and far transfers of control (SDM vol. 2: MOV, JMP, CALL, RET, IRET; vol. 3, chapter 5).
#include "cpu/cpu.hpp"
#include "cpu/stack_writer.hpp"

namespace kiln {

namespace {
constexpr uint64_t kAccessedBit = 1ull << 40;
}  // namespace

Segment Cpu::unpack(uint16_t selector, uint64_t d) {
    Segment s;
    s.selector = selector;
    s.rights = uint16_t(d >> 40 & 0xf0ff);
    s.base = (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000);
    s.limit = uint32_t((d & 0xffff) | (d >> 32 & 0xf0000));
    if (s.rights & 0x8000) s.limit = s.limit << 12 | 0xfff;
    return s;
}

bool Cpu::readDescriptor(uint16_t selector, uint64_t& descriptor) {
    bool local = selector & 4;
    if (local && ldtr.unusable) return false;
    uint64_t base = local ? ldtr.base : gdtr.base;
    uint32_t limit = local ? ldtr.limit : gdtr.limit;
    uint32_t index = selector & ~7u;
    if (index + 7 > limit) return false;
    descriptor = loadSystem<uint64_t>(base + index);
    return true;
}

// Long mode: LDT, TSS and call-gate descriptors have 16 bytes; these are the upper 8 (SDM vol. 3, 8.2.3).
uint64_t Cpu::upperDescriptor(uint16_t selector) {
    const uint64_t base = selector & 4 ? ldtr.base : gdtr.base;
    const uint32_t limit = selector & 4 ? ldtr.limit : gdtr.limit;
    const uint32_t index = selector & ~7u;
    if (index + 15 > limit) raise(kGP, selector & ~3u);
    const uint64_t high = loadSystem<uint64_t>(base + index + 8);
    if (high >> 40 & 31) raise(kGP, selector & ~3u);
    return high;
}

bool Cpu::wideDescriptor(uint16_t selector) {
    const uint64_t base = selector & 4 ? ldtr.base : gdtr.base;
    const uint32_t limit = selector & 4 ? ldtr.limit : gdtr.limit;
    const uint32_t index = selector & ~7u;
    return index + 15 <= limit && !(loadSystem<uint64_t>(base + index + 8) >> 40 & 31);
}

void Cpu::setAccessed(uint16_t selector, uint64_t descriptor) {
    if (descriptor & kAccessedBit) return;
    uint64_t base = selector & 4 ? ldtr.base : gdtr.base;
    atomicallySystem<uint8_t>(base + (selector & ~7u) + 5, [](uint8_t v) { return uint8_t(v | 1); });
}

void Cpu::setReal(SegReg which, uint16_t selector) {
    Segment& s = seg[which];
    s.selector = selector;
    s.base = uint64_t(selector) << 4;
    s.unusable = false;
    if (v86()) {
        s.limit = 0xffff;
        s.rights = 0xf3;
    } else {
        s.rights = uint16_t((s.rights & 0xf000) | 0x93);  // limit and size stay: "unreal" mode
        if (which == Cs) s.rights = 0x93;
    }
}

// What loads, stores and fetches use, derived from the segments, the mode and CPL.
void Cpu::segmentsChanged() {
    const bool is64 = code64();
    if (is64 && codeMode_ == CodeMode::Code64) {  // where segments hardly matter
        for (SegReg r : {Fs, Gs}) fast_[r].base = seg[r].base;
    } else {
        segmentsDiffer(is64);
    }
    alignmentChecks_ = (cr0 & cr0::AM) && flags.test(flag::AC) && cpl == 3;
    translationsChanged();
    fpuTrapsChanged();
}

void Cpu::fpuTrapsChanged() {
    const bool em = cr0 & cr0::EM;
    fpuTrapsWithoutTs_ = {.x87 = em,
                          .mmx = em,
                          .sse = em || !(cr4 & cr4::OSFXSR),
                          .avx = !avxEnabled(),
                          .avx512 = !avx512Enabled()};
    fpuTraps_ = cr0 & cr0::TS ? FpuTraps{true, true, true, true, true} : fpuTrapsWithoutTs_;
}

void Cpu::segmentsDiffer(bool is64) {
    codeMode_ = is64 ? CodeMode::Code64 : seg[Cs].big() ? CodeMode::Code32 : CodeMode::Code16;
    linearMask_ = is64 ? ~0ull : 0xffffffff;
    ipMask_ = is64 ? ~0ull : 0xffffffff;
    stackMask_ = is64 ? ~0ull : seg[Ss].big() ? 0xffffffff : 0xffff;
    codeEnd_ = is64 ? ~0ull : uint64_t(seg[Cs].limit) + 1;
    const bool checkTypes = protectedMode() && !is64;
    for (unsigned i = 0; i < 6; i++) {
        const Segment& s = seg[i];
        FastSegment& f = fast_[i];
        f.base = is64 && i < Fs ? 0 : s.base;
        uint64_t end = is64 ? ~0ull : s.expandDown() && checkTypes ? 0 : uint64_t(s.limit) + 1;
        if (checkTypes && s.unusable) end = 0;
        f.readEnd = !checkTypes || s.readable() ? end : 0;
        f.writeEnd = !checkTypes || s.writable() ? end : 0;
    }
    flat_ = is64 || flatSegments();
}

bool Cpu::flatSegments() const {
    constexpr uint64_t kAll = 1ull << 32;
    if (codeEnd_ != kAll || stackMask_ != kAll - 1) return false;
    for (SegReg s : {Cs, Ss, Ds, Es})
        if (fast_[s].base || fast_[s].readEnd != kAll || (s != Cs && fast_[s].writeEnd != kAll)) return false;
    return true;
}

void Cpu::setCpl(unsigned level) {
    cpl = level;
    segmentsChanged();
}

void Cpu::loadSegment(SegReg which, uint16_t selector) {
    if (!protectedMode()) {
        setReal(which, selector);
        segmentsChanged();
        return;
    }
    const unsigned rpl = selector & 3;
    if (!(selector & ~3)) {
        if (which == Ss && (!code64() || cpl == 3 || rpl != cpl)) raise(kGP, 0);
        seg[which] =
            Segment{.selector = selector, .rights = uint16_t(which == Ss ? cpl << 5 : 0), .unusable = true};
        segmentsChanged();
        return;
    }
    uint64_t d;
    if (!readDescriptor(selector, d)) raise(kGP, selector & ~3u);
    Segment s = unpack(selector, d);
    if (which == Ss) {
        if (rpl != cpl || s.dpl() != cpl || !s.writable()) raise(kGP, selector & ~3u);
        if (!s.present()) raise(kSS, selector & ~3u);
    } else {
        if (!s.readable()) raise(kGP, selector & ~3u);
        if (!s.conforming() && (rpl > s.dpl() || cpl > s.dpl())) raise(kGP, selector & ~3u);
        if (!s.present()) raise(kNP, selector & ~3u);
    }
    setAccessed(selector, d);
    s.rights |= 1;
    seg[which] = s;
    segmentsChanged();
}

void Cpu::loadLdt(uint16_t selector) {
    if (!(selector & ~3)) {
        ldtr = Segment{.selector = selector, .unusable = true};
        return;
    }
    uint64_t d;
    if (selector & 4 || !readDescriptor(selector, d)) raise(kGP, selector & ~3u);
    Segment s = unpack(selector, d);
    if ((s.rights & 0x1f) != 2) raise(kGP, selector & ~3u);
    if (!s.present()) raise(kNP, selector & ~3u);
    if (longMode()) s.base |= upperDescriptor(selector) << 32;
    if (!canonicalBase(s.base)) raise(kGP, selector & ~3u);
    ldtr = s;
}

void Cpu::loadTaskRegister(uint16_t selector) {
    uint64_t d;
    if (!(selector & ~3) || selector & 4 || !readDescriptor(selector, d)) raise(kGP, selector & ~3u);
    Segment s = unpack(selector, d);
    unsigned type = s.rights & 0x1f;
    if (type != 9 && (type != 1 || longMode())) raise(kGP, selector & ~3u);
    if (!s.present()) raise(kNP, selector & ~3u);
    if (longMode()) s.base |= upperDescriptor(selector) << 32;
    if (!canonicalBase(s.base)) raise(kGP, selector & ~3u);
    s.rights |= 2;  // busy; another processor may have been quicker
    uint8_t was =
        atomicallySystem<uint8_t>(gdtr.base + (selector & ~7u) + 5, [](uint8_t v) { return uint8_t(v | 2); });
    if (was & 2) raise(kGP, selector & ~3u);
    tr = s;
}

// Checks a code segment as the target of a direct JMP or CALL and returns it with RPL = CPL.
Segment Cpu::codeForTransfer(uint16_t selector, uint64_t d) {
    const uint32_t error = selector & ~3u;
    Segment s = unpack(selector, d);
    if (longMode() && s.longMode() && s.big()) raise(kGP, error);
    if (s.conforming() ? s.dpl() > cpl : (selector & 3u) > cpl || s.dpl() != cpl) raise(kGP, error);
    if (!s.present()) raise(kNP, error);
    s.selector = uint16_t((selector & ~3) | cpl);
    return s;
}

void Cpu::checkTarget(const Segment& cs, uint64_t offset) {
    if (longMode() && cs.longMode() ? !canonical(offset) : offset > cs.limit) raise(kGP, 0);
}

void Cpu::commitCode(const Segment& cs, uint64_t descriptor, uint64_t offset) {
    setAccessed(cs.selector, descriptor);
    seg[Cs] = cs;
    seg[Cs].rights |= 1;
    rip = offset;
    segmentsChanged();
}

// A call gate's fields (SDM vol. 3, 5.8.3): checked for the caller's rights, with its target code segment.
struct Cpu::CallGate {
    unsigned width;  // log2 of bytes pushed
    unsigned params;
    uint64_t offset;
    uint16_t selector;
    uint64_t descriptor;
    Segment cs;
};

Cpu::CallGate Cpu::readCallGate(uint16_t selector, uint64_t d) {
    const uint32_t error = selector & ~3u;
    Segment gate = unpack(selector, d);
    if (gate.dpl() < cpl || gate.dpl() < (selector & 3u)) raise(kGP, error);
    if (!gate.present()) raise(kNP, error);
    CallGate g;
    g.selector = uint16_t(d >> 16);
    g.params = unsigned(d >> 32 & 31);
    g.offset = (d & 0xffff) | (d >> 32 & 0xffff0000);
    g.width = gate.type() == 12 ? 2 : 1;
    if (g.width == 1) g.offset &= 0xffff;
    if (longMode()) {
        g.offset |= upperDescriptor(selector) << 32;
        g.width = 3;
    }
    const uint32_t csError = g.selector & ~3u;
    if (!csError) raise(kGP, 0);
    if (!readDescriptor(g.selector, g.descriptor)) raise(kGP, csError);
    g.cs = unpack(g.selector, g.descriptor);
    if (!g.cs.isCode() || g.cs.dpl() > cpl) raise(kGP, csError);
    if (longMode() && (!g.cs.longMode() || g.cs.big())) raise(kGP, csError);
    if (!g.cs.present()) raise(kNP, csError);
    return g;
}

// What a far JMP or CALL in protected mode names: code, or a system descriptor that the caller tells apart.
Segment Cpu::farTarget(uint16_t selector, uint64_t& d) {
    const uint32_t error = selector & ~3u;
    if (!error) raise(kGP, 0);
    if (!readDescriptor(selector, d)) raise(kGP, error);
    Segment s = unpack(selector, d);
    if (s.isData()) raise(kGP, error);
    return s;
}

// JMP or CALL to a TSS descriptor or a task gate.
void Cpu::farToTask(uint16_t selector, uint64_t d, TaskSwitch how) {
    const uint32_t error = selector & ~3u;
    Segment s = unpack(selector, d);
    if (longMode()) raise(kGP, error);
    if (s.dpl() < cpl || s.dpl() < (selector & 3u)) raise(kGP, error);
    if (!s.present()) raise(kNP, error);
    if (s.type() == 5)
        taskGate(uint16_t(d >> 16), how, false, 0, 0);
    else
        taskSwitch(selector, d, how, false, 0, 0);
}

void Cpu::farJump(uint16_t selector, uint64_t offset) {
    if (!protectedMode()) {
        if (offset > seg[Cs].limit) raise(kGP, 0);
        setReal(Cs, selector);
        rip = offset;
        segmentsChanged();
        return;
    }
    uint64_t d;
    Segment s = farTarget(selector, d);
    if (s.isCode()) {
        Segment cs = codeForTransfer(selector, d);
        checkTarget(cs, offset);
        commitCode(cs, d, offset);
        return;
    }
    const uint32_t error = selector & ~3u;
    switch (s.type()) {
        case 4:
            if (longMode()) raise(kGP, error);
            [[fallthrough]];
        case 12: {
            CallGate g = readCallGate(selector, d);
            if (!g.cs.conforming() && g.cs.dpl() != cpl) raise(kGP, g.selector & ~3u);
            g.cs.selector = uint16_t((g.selector & ~3) | cpl);
            checkTarget(g.cs, g.offset);
            commitCode(g.cs, g.descriptor, g.offset);
            return;
        }
        case 1:
        case 9:
        case 5: farToTask(selector, d, TaskSwitch::Jump); return;
        default: raise(kGP, error);
    }
}

void Cpu::farCall(uint16_t selector, uint64_t offset, unsigned width) {
    const bool is64 = code64();
    if (!protectedMode()) {
        if (offset > seg[Cs].limit) raise(kGP, 0);
        StackWriter stack(*this, seg[Ss], gpr[Rsp], cpl == 3, false, 0);
        stack.push(width, seg[Cs].selector);
        stack.push(width, rip);
        setSp(stack.sp());
        setReal(Cs, selector);
        rip = offset;
        segmentsChanged();
        return;
    }
    uint64_t d;
    Segment s = farTarget(selector, d);
    if (s.isCode()) {
        Segment cs = codeForTransfer(selector, d);
        StackWriter stack(*this, seg[Ss], gpr[Rsp], cpl == 3, is64, 0);
        stack.push(width, seg[Cs].selector);
        stack.push(width, rip);
        checkTarget(cs, offset);
        setAccessed(selector, d);
        setSp(stack.sp());
        commitCode(cs, d, offset);
        return;
    }
    const uint32_t error = selector & ~3u;
    switch (s.type()) {
        case 4:
            if (longMode()) raise(kGP, error);
            [[fallthrough]];
        case 12: callThroughGate(readCallGate(selector, d)); return;
        case 1:
        case 9:
        case 5: farToTask(selector, d, TaskSwitch::Call); return;
        default: raise(kGP, error);
    }
}

void Cpu::callThroughGate(CallGate g) {
    const bool is64 = longMode();
    if (g.cs.conforming() || g.cs.dpl() == cpl) {
        StackWriter stack(*this, seg[Ss], gpr[Rsp], cpl == 3, is64, 0);
        stack.push(g.width, seg[Cs].selector);
        stack.push(g.width, rip);
        checkTarget(g.cs, g.offset);
        setAccessed(g.selector, g.descriptor);
        g.cs.selector = uint16_t((g.selector & ~3) | cpl);
        if (is64)
            gpr[Rsp] = stack.sp();
        else
            setSp(stack.sp());
        commitCode(g.cs, g.descriptor, g.offset);
        return;
    }
    // To an inner level: new stack from the TSS, parameters copied from the old one.
    const unsigned level = g.cs.dpl();
    Segment ss;
    uint64_t sp;
    if (is64) {
        if (level * 8 + 11 > tr.limit) raise(kTS, tr.selector & ~3u);
        sp = loadSystem<uint64_t>(tr.base + 4 + level * 8);
        ss = Segment{.selector = uint16_t(level), .rights = uint16_t(level << 5), .unusable = true};
    } else {
        uint16_t selector;
        uint64_t d;
        readTssStack(level, selector, sp, 0);
        if (!(selector & ~3)) raise(kTS, 0);
        if (!readDescriptor(selector, d)) raise(kTS, selector & ~3u);
        ss = unpack(selector, d);
        if ((selector & 3u) != level || ss.dpl() != level || !ss.writable()) raise(kTS, selector & ~3u);
        if (!ss.present()) raise(kSS, selector & ~3u);
        setAccessed(selector, d);
        ss.rights |= 1;
    }
    StackWriter stack(*this, ss, sp, false, is64, ss.selector & ~3u);
    stack.push(g.width, seg[Ss].selector);
    stack.push(g.width, gpr[Rsp]);
    if (!is64)
        for (unsigned i = g.params; i-- > 0;) {
            uint64_t from = (gpr[Rsp] + (uint64_t(i) << g.width)) & stackMask_;
            stack.push(g.width, g.width == 2 ? load<uint32_t>(Ss, from) : load<uint16_t>(Ss, from));
        }
    stack.push(g.width, seg[Cs].selector);
    stack.push(g.width, rip);
    checkTarget(g.cs, g.offset);
    setAccessed(g.selector, g.descriptor);
    seg[Ss] = ss;
    gpr[Rsp] = is64 || ss.big() ? stack.sp() : (gpr[Rsp] & ~0xffffull) | (stack.sp() & 0xffff);
    g.cs.selector = uint16_t((g.selector & ~3) | level);
    cpl = level;
    commitCode(g.cs, g.descriptor, g.offset);
}

// After a return to an outer level, data segments that the outer level may not use become null (5.8.6), and
// what is null already loses its RPL (vol. 2, IRET).
void Cpu::dropInnerSegments() {
    for (SegReg r : {Es, Ds, Fs, Gs}) {
        Segment& s = seg[r];
        if (s.unusable)
            s.selector = 0;
        else if (s.dpl() < cpl && !s.conforming())
            s = Segment{.selector = 0, .base = code64() ? s.base : 0, .unusable = true};
    }
}

// The stack pointer after a return that loaded SS. A 16-bit stack takes 16 bits of it; a 32-bit one leaves
// nothing of a 64-bit kernel's stack pointer in the upper half.
void Cpu::setOuterSp(uint64_t v) {
    if (code64())
        gpr[Rsp] = v;
    else
        gpr[Rsp] = seg[Ss].big() ? v & 0xffffffff : (gpr[Rsp] & ~0xffffull) | (v & 0xffff);
}

// Reads stack item `n` of 1 << width bytes, counted from `above` bytes over RSP, without popping.
uint64_t Cpu::stackItem(unsigned n, unsigned width, uint64_t above) {
    uint64_t from = (gpr[Rsp] + above + (uint64_t(n) << width)) & stackMask_;
    return width == 3   ? load<uint64_t>(Ss, from)
           : width == 2 ? load<uint32_t>(Ss, from)
                        : load<uint16_t>(Ss, from);
}

// The code segment a return goes to: RPL of the selector is the new CPL.
Segment Cpu::codeForReturn(uint16_t selector, uint64_t& d) {
    const uint32_t error = selector & ~3u;
    if (!error) raise(kGP, 0);
    if (!readDescriptor(selector, d)) raise(kGP, error);
    Segment cs = unpack(selector, d);
    const unsigned rpl = selector & 3;
    if (!cs.isCode() || rpl < cpl) raise(kGP, error);
    if (cs.conforming() ? cs.dpl() > rpl : cs.dpl() != rpl) raise(kGP, error);
    if (longMode() && cs.longMode() && cs.big()) raise(kGP, error);
    if (!cs.present()) raise(kNP, error);
    return cs;
}

// The stack segment a return to outer level `level` goes to.
Segment Cpu::stackForReturn(uint16_t selector, unsigned level, bool to64, uint64_t& d) {
    d = 0;
    if (!(selector & ~3)) {
        if (!to64 || level == 3 || (selector & 3u) != level) raise(kGP, 0);
        return Segment{.selector = selector, .rights = uint16_t(level << 5), .unusable = true};
    }
    const uint32_t error = selector & ~3u;
    if (!readDescriptor(selector, d)) raise(kGP, error);
    Segment ss = unpack(selector, d);
    if ((selector & 3u) != level || ss.dpl() != level || !ss.writable()) raise(kGP, error);
    if (!ss.present()) raise(kSS, error);
    ss.rights |= 1;
    return ss;
}

void Cpu::farReturn(unsigned width, uint16_t releaseBytes) {
    uint64_t target = stackItem(0, width);
    auto selector = uint16_t(stackItem(1, width));
    if (!protectedMode()) {
        if (target > seg[Cs].limit) raise(kGP, 0);
        setSp(gpr[Rsp] + (2ull << width) + releaseBytes);
        setReal(Cs, selector);
        rip = target;
        segmentsChanged();
        return;
    }
    uint64_t d;
    Segment cs = codeForReturn(selector, d);
    const unsigned rpl = selector & 3;
    if (rpl == cpl) {
        checkTarget(cs, target);
        setAccessed(selector, d);
        setSp(gpr[Rsp] + (2ull << width) + releaseBytes);
        commitCode(cs, d, target);
        return;
    }
    // Outer level: SS:ESP lie above the parameters.
    uint64_t newSp = stackItem(2, width, releaseBytes);
    auto ssSelector = uint16_t(stackItem(3, width, releaseBytes));
    uint64_t ssDescriptor;
    Segment ss = stackForReturn(ssSelector, rpl, longMode() && cs.longMode(), ssDescriptor);
    checkTarget(cs, target);
    setAccessed(selector, d);
    if (!ss.unusable) setAccessed(ssSelector, ssDescriptor);
    cpl = rpl;
    seg[Ss] = ss;
    commitCode(cs, d, target);
    setOuterSp(newSp + releaseBytes);
    dropInnerSegments();
    segmentsChanged();
}

void Cpu::interruptReturn(unsigned width) {
    constexpr uint64_t kAlways = flag::Arithmetic | flag::TF | flag::DF | flag::NT;
    nmiBlocked = false;  // even when it faults (SDM vol. 3, 6.7.1)
    if (!protectedMode()) {
        const bool virtualised = v86() && flags.iopl() < 3;
        if (virtualised && (width != 1 || !(cr4 & cr4::VME))) raise(kGP, 0);
        uint64_t target = stackItem(0, width);
        auto selector = uint16_t(stackItem(1, width));
        uint64_t image = stackItem(2, width);
        if (target > seg[Cs].limit) raise(kGP, 0);
        if (virtualised) writeVirtualFlags(image, kAlways);
        setSp(gpr[Rsp] + (3ull << width));
        setReal(Cs, selector);
        rip = target;
        if (virtualised) return segmentsChanged();
        uint64_t mask = kAlways | flag::IF | (v86() ? 0 : flag::IOPL);
        writeFlags(image, width == 1 ? mask : mask | flag::RF | flag::AC | flag::ID);
        segmentsChanged();
        return;
    }
    if (flags.test(flag::NT)) {
        if (longMode()) raise(kGP, 0);
        auto link = loadSystem<uint16_t>(tr.base);
        uint64_t d;
        if (link & 4 || !readDescriptor(link, d) || (unpack(link, d).rights & 0x17) != 3)
            raise(kTS, link & ~3u);
        if (!unpack(link, d).present()) raise(kNP, link & ~3u);
        taskSwitch(link, d, TaskSwitch::Return, false, 0, 0);
        return;
    }
    uint64_t target = stackItem(0, width);
    auto selector = uint16_t(stackItem(1, width));
    uint64_t image = stackItem(2, width);
    if (width == 2 && image & flag::VM && cpl == 0 && !longMode()) {
        returnToV86(target, selector, image);
        return;
    }
    uint64_t d;
    Segment cs = codeForReturn(selector, d);
    const unsigned rpl = selector & 3;
    uint64_t mask = kAlways | (width == 1 ? 0 : flag::RF | flag::AC | flag::ID);
    if (cpl <= flags.iopl()) mask |= flag::IF;
    if (cpl == 0) mask |= flag::IOPL | (width == 1 ? 0 : flag::VIF | flag::VIP);
    const bool toOuter = rpl > cpl;
    if (!toOuter && !code64()) {
        checkTarget(cs, target);
        setAccessed(selector, d);
        setSp(gpr[Rsp] + (3ull << width));
    } else {  // 64-bit mode pops SS:RSP always
        uint64_t newSp = stackItem(3, width);
        auto ssSelector = uint16_t(stackItem(4, width));
        uint64_t ssDescriptor;
        Segment ss = stackForReturn(ssSelector, rpl, longMode() && cs.longMode(), ssDescriptor);
        checkTarget(cs, target);
        setAccessed(selector, d);
        if (!ss.unusable) setAccessed(ssSelector, ssDescriptor);
        seg[Ss] = ss;
        seg[Cs] = cs;
        setOuterSp(newSp);
    }
    cpl = rpl;
    cs.selector = selector;
    commitCode(cs, d, target);
    if (toOuter) dropInnerSegments();
    writeFlags(image, mask);
    segmentsChanged();
}

void Cpu::returnToV86(uint64_t target, uint16_t selector, uint64_t image) {
    uint64_t items[6];
    for (unsigned i = 0; i < 6; i++) items[i] = stackItem(3 + i, 2);
    if (target > 0xffff) raise(kGP, 0);
    flags.set(image);
    cpl = 3;
    setReal(Cs, selector);
    setReal(Ss, uint16_t(items[1]));
    setReal(Es, uint16_t(items[2]));
    setReal(Ds, uint16_t(items[3]));
    setReal(Fs, uint16_t(items[4]));
    setReal(Gs, uint16_t(items[5]));
    gpr[Rsp] = items[0] & 0xffffffff;
    rip = target;
    segmentsChanged();
}

}  // namespace kiln
