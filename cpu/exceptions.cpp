// Delivery of exceptions and interrupts through the IVT, the IDT and the TSS (SDM vol. 3, chapter 6).
#include "cpu/cpu.hpp"
#include "cpu/stack_writer.hpp"

namespace kiln {

namespace {

constexpr uint32_t kExt = 1, kIdt = 2;

// A gate of the IDT, 8 bytes, or 16 in long mode (SDM vol. 3, 6.11 and 6.14.1).
struct Gate {
    uint16_t selector;
    uint64_t offset;
    uint8_t type, dpl, ist, params;
    bool present;

    explicit Gate(uint64_t low, uint64_t high = 0)
        : selector(uint16_t(low >> 16)),
          offset((low & 0xffff) | (low >> 32 & 0xffff0000) | high << 32),
          type(low >> 40 & 15),
          dpl(low >> 45 & 3),
          ist(low >> 32 & 7),
          params(low >> 32 & 31),
          present(low >> 47 & 1) {
        if (low >> 44 & 1) type = 0xff;  // not a system descriptor
    }
};
constexpr uint8_t kTaskGate = 5, kInterrupt32 = 14, kTrap32 = 15;  // 16-bit interrupt and trap gates: 6, 7

bool isContributory(uint8_t v) { return v == kDE || (v >= kTS && v <= kGP); }

// Faults push RF so that the instruction, run again, does not hit its breakpoint again (SDM vol.
// 3, 17.3.1.1).
bool pushesRf(uint8_t v) { return v != kDB && v != kNMI && v != kBP && v != kOF && v != kDF && v != kMC; }

}  // namespace

void Cpu::deliverFault(Fault f) {
    int first = -1;
    for (;;) {
        if (f.vector == kPF) cr2 = f.cr2;
        try {
            deliver(f.vector, Source::Exception, f.hasError, f.error);
            return;
        } catch (const Fault& second) {
            if (first == kDF || f.vector == kDF) {
                io.shutdown("triple fault");
                halted = true;
                return;
            }
            bool doubleFault = (isContributory(f.vector) && isContributory(second.vector)) ||
                               (f.vector == kPF && (isContributory(second.vector) || second.vector == kPF));
            // A handler of #AC on a misaligned stack at CPL 3: processors try for ever, too. From a slice to
            // the next, so that others get their turn.
            if (f.vector == kAC && second.vector == kAC) return leave();
            first = f.vector;
            if (second.vector == kPF) cr2 = second.cr2;  // also when it ends as a double fault
            f = doubleFault ? Fault{kDF, true, 0} : second;
        }
    }
}

void Cpu::deliver(uint8_t vector, Source source, bool hasError, uint32_t error) {
    if (io.log.on(LogCategory::Int))
        io.log(LogCategory::Int,
               "v={:02x} {} e={:04x} cpl={} rip={:04x}:{:016x} ss:rsp={:04x}:{:016x} cr2={:016x} rax={:016x}",
               vector,
               source == Source::External    ? "external"
               : source == Source::Exception ? "exception"
                                             : "software",
               error, cpl, seg[Cs].selector, rip, seg[Ss].selector, gpr[Rsp], cr2, gpr[Rax]);
    halted = false;
    untraced = committed_ = true;
    stiShadow = movSsShadow = false;
    if (real())
        enterHandlerReal(vector);
    else if (longMode())
        enterHandlerLong(vector, source, hasError, error);
    else
        enterHandlerProtected(vector, source, hasError, error);
    if (vector == kDB && (source == Source::Exception || source == Source::Int1)) {
        dr[7] &= ~dr7::GD;
        msr.debugCtl &= ~(debugctl::LBR | debugctl::BTF);
    }
    segmentsChanged();
}

void Cpu::softwareInterrupt(uint8_t vector, Source source, uint64_t returnRip) {
    // The frame points behind the instruction; a fault in delivery points to it.
    uint64_t self = rip;
    rip = returnRip;
    try {
        deliver(vector, source);
    } catch (...) {
        if (block) rip = self;  // not when a task gate has made another task's state current
        throw;
    }
}

void Cpu::enterHandlerReal(uint8_t vector) {
    if (idtr.limit < vector * 4u + 3) raise(kGP, vector * 8u + kIdt);
    uint32_t entry = loadSystem<uint32_t>(idtr.base + vector * 4u);
    StackWriter stack(*this, seg[Ss], gpr[Rsp], false, false, 0);
    stack.push(1, flags.value());
    stack.push(1, seg[Cs].selector);
    stack.push(1, rip);
    setSp(stack.sp());
    flags.change(flag::IF | flag::TF | flag::AC | flag::RF, false);
    setReal(Cs, uint16_t(entry >> 16));
    rip = entry & 0xffff;
}

// CR4.VME: whether the software interrupt redirection bitmap, the 32 bytes below the I/O permission bitmap,
// leaves INT n to the 8086 program (SDM vol. 3, 21.3.3).
bool Cpu::redirects(uint8_t vector) {
    if (tr.unusable || !(tr.type() & 8) || tr.limit < 103) raise(kGP, 0);
    const uint32_t place = loadSystem<uint16_t>(tr.base + 102) - 32u + vector / 8u;
    if (place > tr.limit) raise(kGP, 0);
    return !(loadSystem<uint8_t>(tr.base + place) >> (vector & 7) & 1);
}

// INT n through the 8086 program's own vector table at linear address 0.
void Cpu::redirect(uint8_t vector) {
    const bool virtualised = flags.iopl() < 3;
    const auto entry = loadSystem<uint32_t>(vector * 4u);
    StackWriter stack(*this, seg[Ss], gpr[Rsp], true, false, 0);
    stack.push(1, virtualised ? virtualFlags() : flags.value());
    stack.push(1, seg[Cs].selector);
    stack.push(1, rip);
    setSp(stack.sp());
    flags.change(flag::TF | flag::RF | (virtualised ? flag::VIF : flag::IF), false);
    setReal(Cs, uint16_t(entry >> 16));
    rip = entry & 0xffff;
}

// SS and ESP/RSP for privilege level `level` from a 16- or 32-bit TSS (SDM vol. 3, 7.2.1, 7.6).
void Cpu::readTssStack(unsigned level, uint16_t& ss, uint64_t& sp, uint16_t error) {
    bool wide = tr.type() & 8;
    uint32_t at_ = wide ? level * 8 + 4 : level * 4 + 2;
    if (at_ + (wide ? 5u : 3u) > tr.limit) raise(kTS, (tr.selector & ~3u) | (error & kExt));
    sp = wide ? loadSystem<uint32_t>(tr.base + at_) : loadSystem<uint16_t>(tr.base + at_);
    ss = loadSystem<uint16_t>(tr.base + at_ + (wide ? 4 : 2));
}

void Cpu::enterHandlerProtected(uint8_t vector, Source source, bool hasError, uint32_t error) {
    const bool software = source == Source::SoftwareInt || source == Source::Int3OrInto;
    const uint32_t ext = software ? 0 : kExt;
    const uint32_t idtError = vector * 8u + kIdt + ext;
    if (v86() && source == Source::SoftwareInt) {
        if (cr4 & cr4::VME && redirects(vector)) return redirect(vector);
        if (flags.iopl() < 3) raise(kGP, 0);
    }
    if (idtr.limit < vector * 8u + 7) raise(kGP, idtError);
    Gate gate(loadSystem<uint64_t>(idtr.base + vector * 8u));
    if (gate.type != kTaskGate && (gate.type | 9) != 15) raise(kGP, idtError);
    if (software && gate.dpl < cpl) raise(kGP, idtError);
    if (!gate.present) raise(kNP, idtError);
    if (gate.type == kTaskGate) {
        if (source == Source::Exception && pushesRf(vector)) flags.change(flag::RF, true);
        taskGate(gate.selector, TaskSwitch::Interrupt, hasError, error, ext);
        return;
    }

    uint64_t descriptor;
    const uint32_t csError = (gate.selector & ~3u) | ext;
    if (!(gate.selector & ~3)) raise(kGP, ext);
    if (!readDescriptor(gate.selector, descriptor)) raise(kGP, csError);
    Segment cs = unpack(gate.selector, descriptor);
    if (!cs.isCode() || cs.dpl() > cpl) raise(kGP, csError);
    if (!cs.present()) raise(kNP, csError);
    const unsigned width = gate.type & 8 ? 2 : 1;
    const unsigned level = cs.conforming() ? cpl : cs.dpl();
    const bool fromV86 = v86();
    if (fromV86 && level != 0) raise(kGP, csError);
    const uint64_t target = width == 2 ? gate.offset & 0xffffffff : gate.offset & 0xffff;
    const uint64_t csDescriptor = descriptor;
    uint64_t pushedFlags = flags.value() | (source == Source::Exception && pushesRf(vector) ? flag::RF : 0);

    if (level < cpl || fromV86) {
        uint16_t ssSelector;
        uint64_t sp;
        readTssStack(level, ssSelector, sp, uint16_t(ext));
        const uint32_t ssError = (ssSelector & ~3u) | ext;
        if (!(ssSelector & ~3)) raise(kTS, ext);
        if (!readDescriptor(ssSelector, descriptor)) raise(kTS, ssError);
        Segment ss = unpack(ssSelector, descriptor);
        if ((ssSelector & 3u) != level || ss.dpl() != level || !ss.writable()) raise(kTS, ssError);
        if (!ss.present()) raise(kSS, ssError);
        if (target > cs.limit) raise(kGP, ext);
        setAccessed(ssSelector, descriptor);
        setAccessed(gate.selector, csDescriptor);
        ss.rights |= 1;
        StackWriter stack(*this, ss, sp, level == 3, false, ssError);
        if (fromV86)
            for (SegReg r : {Gs, Fs, Ds, Es}) stack.push(width, seg[r].selector);
        stack.push(width, seg[Ss].selector);
        stack.push(width, gpr[Rsp]);
        stack.push(width, pushedFlags);
        stack.push(width, seg[Cs].selector);
        stack.push(width, rip);
        if (hasError) stack.push(width, error);
        if (fromV86) {
            flags.change(flag::VM, false);
            for (SegReg r : {Gs, Fs, Ds, Es}) seg[r] = Segment{.unusable = true};
        }
        seg[Ss] = ss;
        gpr[Rsp] = ss.big() ? stack.sp() : (gpr[Rsp] & ~0xffffull) | (stack.sp() & 0xffff);
    } else {
        if (target > cs.limit) raise(kGP, ext);
        setAccessed(gate.selector, csDescriptor);
        StackWriter stack(*this, seg[Ss], gpr[Rsp], cpl == 3, false, ext);
        stack.push(width, pushedFlags);
        stack.push(width, seg[Cs].selector);
        stack.push(width, rip);
        if (hasError) stack.push(width, error);
        setSp(stack.sp());
    }
    cs.selector = uint16_t((gate.selector & ~3) | level);
    cs.rights |= 1;
    seg[Cs] = cs;
    cpl = level;
    rip = target;
    flags.change(flag::TF | flag::NT | flag::RF | flag::VM, false);
    if (!(gate.type & 1)) flags.change(flag::IF, false);
}

void Cpu::enterHandlerLong(uint8_t vector, Source source, bool hasError, uint32_t error) {
    const bool software = source == Source::SoftwareInt || source == Source::Int3OrInto;
    const uint32_t ext = software ? 0 : kExt;
    const uint32_t idtError = vector * 8u + kIdt + ext;
    if (idtr.limit < vector * 16u + 15) raise(kGP, idtError);
    uint64_t low = loadSystem<uint64_t>(idtr.base + vector * 16u);
    Gate gate(low, loadSystem<uint64_t>(idtr.base + vector * 16u + 8));
    if (gate.type != kInterrupt32 && gate.type != kTrap32) raise(kGP, idtError);
    if (software && gate.dpl < cpl) raise(kGP, idtError);
    if (!gate.present) raise(kNP, idtError);

    uint64_t descriptor;
    const uint32_t csError = (gate.selector & ~3u) | ext;
    if (!(gate.selector & ~3)) raise(kGP, ext);
    if (!readDescriptor(gate.selector, descriptor)) raise(kGP, csError);
    Segment cs = unpack(gate.selector, descriptor);
    if (!cs.isCode() || cs.dpl() > cpl || !cs.longMode() || cs.big()) raise(kGP, csError);
    if (!cs.present()) raise(kNP, csError);
    const unsigned level = cs.conforming() ? cpl : cs.dpl();

    uint64_t sp = gpr[Rsp];
    const bool newStack = level < cpl;
    if (gate.ist || newStack) {
        uint32_t at_ = gate.ist ? 36 + (gate.ist - 1) * 8u : 4 + level * 8;
        if (at_ + 7 > tr.limit) raise(kTS, (tr.selector & ~3u) | ext);
        sp = loadSystem<uint64_t>(tr.base + at_);
    }
    if (!canonical(gate.offset)) raise(kGP, ext);
    setAccessed(gate.selector, descriptor);
    StackWriter stack(*this, seg[Ss], sp & ~15ull, level == 3, true, ext);
    stack.push(3, seg[Ss].selector);
    stack.push(3, gpr[Rsp]);
    stack.push(3, flags.value() | (source == Source::Exception && pushesRf(vector) ? flag::RF : 0));
    stack.push(3, seg[Cs].selector);
    stack.push(3, rip);
    if (hasError) stack.push(3, error);

    gpr[Rsp] = stack.sp();
    if (newStack) {
        seg[Ss] = Segment{.selector = uint16_t(level), .rights = uint16_t(level << 5), .unusable = true};
    }
    cs.selector = uint16_t((gate.selector & ~3) | level);
    cs.rights |= 1;
    seg[Cs] = cs;
    cpl = level;
    rip = gate.offset;
    flags.change(flag::TF | flag::NT | flag::RF | flag::VM, false);
    if (!(gate.type & 1)) flags.change(flag::IF, false);
}

}  // namespace kiln
