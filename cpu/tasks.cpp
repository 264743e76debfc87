// Hardware task switching (SDM vol. 3, chapter 7).
#include "cpu/cpu.hpp"

namespace kiln {

void Cpu::taskGate(uint16_t selector, TaskSwitch how, bool hasError, uint32_t error, uint32_t ext) {
    const uint32_t code = (selector & ~3u) | ext;
    uint64_t d;
    if (selector & 4 || !readDescriptor(selector, d)) raise(kGP, code);
    Segment s = unpack(selector, d);
    if ((s.rights & 0x17) != 1) raise(kGP, code);
    if (!s.present()) raise(kNP, code);
    taskSwitch(selector, d, how, hasError, error, ext);
}

// Saves the current state into the TSS of TR. 32-bit layout: EIP at 32, EFLAGS 36, EAX.. 40, ES.. 72, LDT 96;
// 16-bit: IP 14, FLAGS 16, AX.. 18, ES.. 34, LDT 42.
void Cpu::saveTask(bool wide, uint64_t flagsImage) {
    uint64_t b = tr.base;
    if (wide) {
        storeSystem<uint32_t>(b + 32, uint32_t(rip));
        storeSystem<uint32_t>(b + 36, uint32_t(flagsImage));
        for (unsigned i = 0; i < 8; i++) storeSystem<uint32_t>(b + 40 + i * 4, uint32_t(gpr.slot[i]));
        for (unsigned i = 0; i < 6; i++) storeSystem<uint16_t>(b + 72 + i * 4, seg[i].selector);
    } else {
        storeSystem<uint16_t>(b + 14, uint16_t(rip));
        storeSystem<uint16_t>(b + 16, uint16_t(flagsImage));
        for (unsigned i = 0; i < 8; i++) storeSystem<uint16_t>(b + 18 + i * 2, uint16_t(gpr.slot[i]));
        for (unsigned i = 0; i < 4; i++) storeSystem<uint16_t>(b + 34 + i * 2, seg[i].selector);
    }
}

void Cpu::taskSwitch(uint16_t selector, uint64_t descriptor, TaskSwitch how, bool hasError, uint32_t error,
                     uint32_t ext) {
    Segment target = unpack(selector, descriptor);
    const bool wide = target.type() & 8, oldWide = tr.type() & 8;
    if (target.limit < (wide ? 103u : 43u)) raise(kTS, (selector & ~3u) | ext);

    auto setBusy = [&](uint16_t sel, bool busy) {
        uint64_t place = gdtr.base + (sel & ~7u) + 5;
        atomicallySystem<uint8_t>(place, [&](uint8_t v) { return uint8_t(busy ? v | 2 : v & ~2); });
    };

    // Everything of the new task is read, and every place is known to be writable, before anything changes.
    const uint64_t b = target.base;
    uint64_t newCr3 = 0, newIp, newFlags, registers[8];
    uint16_t selectors[6] = {}, ldt;
    bool traps = false;  // the T flag
    if (wide) {
        newCr3 = loadSystem<uint32_t>(b + 28);
        newIp = loadSystem<uint32_t>(b + 32);
        newFlags = loadSystem<uint32_t>(b + 36);
        for (unsigned i = 0; i < 8; i++) registers[i] = loadSystem<uint32_t>(b + 40 + i * 4);
        for (unsigned i = 0; i < 6; i++) selectors[i] = loadSystem<uint16_t>(b + 72 + i * 4);
        ldt = loadSystem<uint16_t>(b + 96);
        traps = loadSystem<uint16_t>(b + 100) & 1;
    } else {
        newIp = loadSystem<uint16_t>(b + 14);
        newFlags = loadSystem<uint16_t>(b + 16);
        for (unsigned i = 0; i < 8; i++) registers[i] = loadSystem<uint16_t>(b + 18 + i * 2) | 0xffff0000u;
        for (unsigned i = 0; i < 4; i++) selectors[i] = loadSystem<uint16_t>(b + 34 + i * 2);
        ldt = loadSystem<uint16_t>(b + 42);
    }
    checkTaskWritable(selector, target, oldWide);
    if (wide && paging_.enabled && paging_.pae) loadPdptes(newCr3);  // or #GP while the old task is current
    committed_ = true;
    uint64_t image = flags.value();
    if (how == TaskSwitch::Return) image &= ~flag::NT;
    saveTask(oldWide, image);
    if (how == TaskSwitch::Jump || how == TaskSwitch::Return) setBusy(tr.selector, false);
    if (how == TaskSwitch::Call || how == TaskSwitch::Interrupt) {
        storeSystem<uint16_t>(b, tr.selector);
        newFlags |= flag::NT;
    }
    if (how != TaskSwitch::Return) setBusy(selector, true);
    target.rights |= 2;
    tr = target;
    cr0 |= cr0::TS;
    if (wide && paging_.enabled) setCr3(newCr3);
    for (unsigned i = 0; i < 8; i++) gpr.slot[i] = registers[i];
    flags.set(newFlags);
    rip = newIp;
    dr[7] &= ~0x155ull;  // local breakpoints are cleared
    debugRegistersChanged();

    // From here on faults are the new task's, at its first instruction.
    try {
        loadTaskSegments(selectors, ldt);
        if (hasError) {
            if (wide)
                push<uint32_t>(error);
            else
                push<uint16_t>(uint16_t(error));
        }
        if (rip > seg[Cs].limit) raise(kGP, 0);
        if (traps) pendingDebug |= dr6::BT;
    } catch (Fault& f) {
        if (f.vector != kPF) f.error |= ext;
        if (block) abandonBlock();
        throw;
    }
}

// Throws #PF when the old TSS, the new one's back link or the busy bits can't be written.
void Cpu::checkTaskWritable(uint16_t selector, const Segment& target, bool oldWide) {
    auto touch = [&](uint64_t linear) {
        fillTlb(tlbFor(false, true), linear & 0xffffffff, Access::Write, false, true);
    };
    touch(tr.base + (oldWide ? 32 : 14));
    touch(tr.base + (oldWide ? 95 : 41));
    touch(target.base);
    touch(gdtr.base + (selector & ~7u) + 5);
    touch(gdtr.base + (tr.selector & ~7u) + 5);
}

// Segment registers of the new task: selectors first, then one by one with the checks of table 7-1 (#TS).
void Cpu::loadTaskSegments(const uint16_t (&selectors)[6], uint16_t ldt) {
    for (unsigned i = 0; i < 6; i++) seg[i] = Segment{.selector = selectors[i], .unusable = true};
    ldtr = Segment{.selector = ldt, .unusable = true};
    if (v86()) {
        cpl = 3;
        for (unsigned i = 0; i < 6; i++) setReal(SegReg(i), selectors[i]);
        segmentsChanged();
        return;
    }
    cpl = selectors[Cs] & 3;
    uint64_t d;
    if (ldt & ~3) {
        if (ldt & 4 || !readDescriptor(ldt, d) || (unpack(ldt, d).rights & 0x9f) != 0x82)
            raise(kTS, ldt & ~3u);
        ldtr = unpack(ldt, d);
    }
    const uint32_t csError = selectors[Cs] & ~3u;
    if (!csError || !readDescriptor(selectors[Cs], d)) raise(kTS, csError);
    Segment cs = unpack(selectors[Cs], d);
    if (!cs.isCode() || (cs.conforming() ? cs.dpl() > cpl : cs.dpl() != cpl)) raise(kTS, csError);
    if (!cs.present()) raise(kNP, csError);
    setAccessed(selectors[Cs], d);
    cs.rights |= 1;
    seg[Cs] = cs;
    segmentsChanged();
    for (SegReg r : {Ss, Es, Ds, Fs, Gs}) {
        try {
            loadSegment(r, selectors[r]);
        } catch (Fault& f) {
            if (f.vector == kGP) f.vector = kTS;
            throw;
        }
    }
}

}  // namespace kiln
