// System instructions (SDM vol. 3, 2.8; vol. 2): descriptor tables, system calls, CPUID, MSRs, HLT, TLB and
// caches.
#include "cpu/body.hpp"
#include "cpu/flat_segment.hpp"
#include "cpu/handlers.hpp"

namespace kiln {

namespace {

void requireCpl0(Cpu& c) {
    if (c.cpl != 0) raise(kGP, 0);
}
void requireProtected(Cpu& c) {
    if (!c.protectedMode()) raise(kUD);
}
// SGDT, SIDT, SLDT, SMSW, STR under CR4.UMIP.
void requireUmip(Cpu& c) {
    if (c.cr4 & cr4::UMIP && c.cpl > 0) raise(kGP, 0);
}

// -- descriptor table registers

template <DescriptorTable CpuState::*Table>
void storeTable(Cpu& c, const Insn& i) {
    requireUmip(c);
    uint64_t ea = c.effectiveAddress(i);
    const DescriptorTable t = c.*Table;
    c.checkWrite(i.seg, ea, 4);  // the alignment of what descriptor-table registers hold
    struct [[gnu::packed]] Wide {
        uint16_t limit;
        uint64_t base;
    };
    struct [[gnu::packed]] Narrow {
        uint16_t limit;
        uint32_t base;
    };
    if (c.code64())
        c.store(i.seg, ea, Wide{t.limit, t.base});
    else
        c.store(i.seg, ea, Narrow{t.limit, uint32_t(t.base)});
}

template <DescriptorTable CpuState::*Table>
void loadTable(Cpu& c, const Insn& i) {
    requireCpl0(c);
    uint64_t ea = c.effectiveAddress(i);
    auto limit = c.load<uint16_t>(i.seg, ea);
    uint64_t base;
    if (c.code64()) {
        base = c.load<uint64_t>(i.seg, ea + 2);
        if (!c.canonicalBase(base)) raise(kGP, 0);
    } else {
        base = c.load<uint32_t>(i.seg, ea + 2);
        if (i.width == 1) base &= 0xffffff;
    }
    c.*Table = {base, limit};
}

// Stores a selector-like value: 16 bits to memory, zero-extended to a register.
void storeWord(Cpu& c, const Insn& i, bool memory, uint64_t v) {
    if (memory)
        c.storeOperand<uint16_t>(i, uint16_t(v));
    else if (i.width == 1)
        c.gpr.set<uint16_t>(i.a, uint16_t(v));
    else if (i.width == 2)
        c.gpr.set<uint32_t>(i.a, uint32_t(v));
    else
        c.gpr.set<uint64_t>(i.a, v);
}

template <Segment CpuState::*Which, bool Memory>
void storeSystemSegment(Cpu& c, const Insn& i) {
    requireProtected(c);
    requireUmip(c);
    storeWord(c, i, Memory, (c.*Which).selector);
}
template <class Src>
void lldt(Cpu& c, const Insn& i) {
    requireProtected(c);
    requireCpl0(c);
    c.loadLdt(Src::template load<uint16_t>(c, i));
}
template <class Src>
void ltr(Cpu& c, const Insn& i) {
    requireProtected(c);
    requireCpl0(c);
    c.loadTaskRegister(Src::template load<uint16_t>(c, i));
}
template <bool Memory>
void smsw(Cpu& c, const Insn& i) {
    requireUmip(c);
    storeWord(c, i, Memory, c.cr0);
}
// LMSW sets PE but never clears it.
template <class Src>
void lmsw(Cpu& c, const Insn& i) {
    requireCpl0(c);
    uint64_t v = Src::template load<uint16_t>(c, i) & 15;
    c.setCr0((c.cr0 & ~14ull) | v);
}
void clts(Cpu& c, const Insn&) {
    requireCpl0(c);
    c.cr0 &= ~cr0::TS;
    c.segmentsChanged();
}

Handler lldtForm(const Shape& s) { return s.isMem(0) ? straight<lldt<Mem>> : straight<lldt<RegA>>; }
Handler ltrForm(const Shape& s) { return s.isMem(0) ? straight<ltr<Mem>> : straight<ltr<RegA>>; }
Handler lmswForm(const Shape& s) {
    return s.isMem(0) ? serializing<trapping<TrapKind::WriteControl, lmsw<Mem>>>
                      : serializing<trapping<TrapKind::WriteControl, lmsw<RegA>>>;
}
Handler smswForm(const Shape& s) { return s.isMem(0) ? straight<smsw<true>> : straight<smsw<false>>; }
Handler sldtForm(const Shape& s) {
    return s.isMem(0) ? straight<storeSystemSegment<&CpuState::ldtr, true>>
                      : straight<storeSystemSegment<&CpuState::ldtr, false>>;
}
Handler strForm(const Shape& s) {
    return s.isMem(0) ? straight<storeSystemSegment<&CpuState::tr, true>>
                      : straight<storeSystemSegment<&CpuState::tr, false>>;
}

// -- LAR, LSL, VERR, VERW, ARPL: ZF tells whether the selector may be used

bool visible(Cpu& c, uint16_t selector, uint64_t& d, uint32_t systemTypes) {
    if (!(selector & ~3) || !c.readDescriptor(selector, d)) return false;
    Segment s = Cpu::unpack(selector, d);
    if (!(s.rights & 0x10)) {
        if (!(systemTypes >> s.type() & 1)) return false;
        if (c.longMode() && !c.wideDescriptor(selector)) return false;
    }
    return s.conforming() || (s.dpl() >= c.cpl && s.dpl() >= (selector & 3u));
}

template <class Src, bool Limit>
void larLsl(Cpu& c, const Insn& i) {
    requireProtected(c);
    constexpr uint32_t kLar = 0b1'1010'0011'1110, kLarLong = 0b1'1010'0000'0100, kLsl = 0b1010'0000'1110,
                       kLslLong = 0b1010'0000'0100;
    auto selector = Src::template load<uint16_t>(c, i);
    uint64_t d;
    bool ok =
        visible(c, selector, d, Limit ? (c.longMode() ? kLslLong : kLsl) : (c.longMode() ? kLarLong : kLar));
    if (ok) {
        uint64_t v = Limit ? Cpu::unpack(selector, d).limit : (d >> 32 & 0x00f0ff00);
        if (i.width == 1)
            c.gpr.set<uint16_t>(i.a, uint16_t(v));
        else
            c.gpr.set<uint32_t>(i.a, uint32_t(v));
    }
    c.flags.setZf(ok);
}
template <bool Limit>
Handler larLslForm(const Shape& s) {
    return s.isMem(1) ? straight<larLsl<Mem, Limit>> : straight<larLsl<RegB, Limit>>;
}

template <class Src, bool Write>
void verify(Cpu& c, const Insn& i) {
    requireProtected(c);
    auto selector = Src::template load<uint16_t>(c, i);
    uint64_t d;
    bool ok = visible(c, selector, d, 0);
    if (ok) ok = Write ? Cpu::unpack(selector, d).writable() : Cpu::unpack(selector, d).readable();
    c.flags.setZf(ok);
}
template <bool Write>
Handler verifyForm(const Shape& s) {
    return s.isMem(0) ? straight<verify<Mem, Write>> : straight<verify<RegA, Write>>;
}

template <class Dst>
void arpl(Cpu& c, const Insn& i) {
    requireProtected(c);
    // What needs no change isn't written: a read-only destination is fine then, as on real processors.
    auto selector = Dst::template load<uint16_t>(c, i);
    auto rpl = RegB::load<uint16_t>(c, i) & 3;
    bool raised = (selector & 3) < rpl;
    if (raised) Dst::store(c, i, uint16_t((selector & ~3) | rpl));
    c.flags.setZf(raised);
}
Handler arplForm(const Shape& s) { return s.isMem(0) ? straight<arpl<Mem>> : straight<arpl<RegA>>; }

// -- system calls

// Intel's processors know SYSCALL and SYSRET in 64-bit mode only, AMD's in compatibility and legacy mode too
// (APM vol. 3, SYSCALL).
void checkSyscall(const Cpu& c) {
    if (!(c.efer & efer::SCE) || (!c.code64() && (!c.model.isAmd() || !c.protectedMode()))) raise(kUD);
}

void syscall(Cpu& c, const Insn& i) {
    checkSyscall(c);
    const bool is64 = c.longMode();
    c.gpr[Rcx] = c.nextRip(i) & c.ipMask();
    if (is64) {
        c.gpr[R11] = c.flags.value() & ~flag::RF;
        c.rip = c.code64() ? c.msr.lstar : c.msr.cstar;
    } else {
        c.rip = uint32_t(c.msr.star);
    }
    c.writeFlags(c.flags.value() & ~((is64 ? c.msr.sfmask : flag::IF | flag::VM) | flag::RF), ~0ull);
    auto cs = uint16_t(c.msr.star >> 32 & 0xfffc);
    c.seg[Cs] = flatSegment(cs, 0, true, is64);
    c.seg[Ss] = flatSegment(uint16_t(cs + 8), 0, false, false);
    c.tracedByNewFlags();
    c.setCpl(0);
}

void sysret(Cpu& c, const Insn& i) {
    checkSyscall(c);
    requireCpl0(c);
    const bool to64 = i.width == 3;
    const uint64_t target = c.gpr[Rcx];
    // AMD's processors find out when they fetch from there.
    if (to64 && !c.model.isAmd() && !c.canonical(target)) raise(kGP, 0);
    auto base = uint16_t(c.msr.star >> 48);
    c.seg[Cs] = flatSegment(uint16_t((base + (to64 ? 16 : 0)) | 3), 3, true, to64);
    c.seg[Ss] = flatSegment(uint16_t((base + 8) | 3), 3, false, false);
    c.rip = to64 ? target : target & 0xffffffff;
    c.writeFlags(c.longMode() ? (c.gpr[R11] & 0x3c7fd7) | 2 : c.flags.value() | flag::IF, ~0ull);
    c.tracedByNewFlags();
    c.setCpl(3);
}

// AMD's processors don't have SYSENTER and SYSEXIT in long mode.
void checkSysenter(const Cpu& c) {
    if (c.model.isAmd() && c.longMode()) raise(kUD);
}

void sysenter(Cpu& c, const Insn&) {
    checkSysenter(c);
    if (c.real() || !(c.msr.sysenterCs & 0xfffc)) raise(kGP, 0);
    c.writeFlags(c.flags.value() & ~(flag::VM | flag::IF | flag::RF), ~0ull);
    const bool is64 = c.longMode();
    auto cs = uint16_t(c.msr.sysenterCs & 0xfffc);
    c.seg[Cs] = flatSegment(cs, 0, true, is64);
    c.seg[Ss] = flatSegment(uint16_t(cs + 8), 0, false, false);
    c.gpr[Rsp] = is64 ? c.msr.sysenterEsp : uint32_t(c.msr.sysenterEsp);
    c.rip = is64 ? c.msr.sysenterEip : uint32_t(c.msr.sysenterEip);
    c.setCpl(0);
}

void sysexit(Cpu& c, const Insn& i) {
    checkSysenter(c);
    if (c.real() || !(c.msr.sysenterCs & 0xfffc)) raise(kGP, 0);
    requireCpl0(c);
    const bool to64 = i.width == 3;
    if (to64 && !(c.canonical(c.gpr[Rcx]) && c.canonical(c.gpr[Rdx]))) raise(kGP, 0);
    auto base = uint16_t(c.msr.sysenterCs);
    c.seg[Cs] = flatSegment(uint16_t((base + (to64 ? 32 : 16)) | 3), 3, true, to64);
    c.seg[Ss] = flatSegment(uint16_t((base + (to64 ? 40 : 24)) | 3), 3, false, false);
    c.gpr[Rsp] = to64 ? c.gpr[Rcx] : uint32_t(c.gpr[Rcx]);
    c.rip = to64 ? c.gpr[Rdx] : uint32_t(c.gpr[Rdx]);
    c.setCpl(3);
}

void swapgs(Cpu& c, const Insn&) {
    requireCpl0(c);
    uint64_t base = c.seg[Gs].base;
    c.setSegmentBase(Gs, c.msr.kernelGsBase);
    c.msr.kernelGsBase = base;
}

template <SegReg Which, bool Write, class T>
void fsGsBase(Cpu& c, const Insn& i) {
    if (!(c.cr4 & cr4::FSGSBASE)) raise(kUD);
    if constexpr (Write) {
        uint64_t v = c.gpr.get<T>(i.a);
        if (!c.canonicalBase(v)) raise(kGP, 0);
        c.setSegmentBase(Which, v);
    } else {
        c.gpr.set<T>(i.a, T(c.seg[Which].base));
    }
}
template <SegReg Which, bool Write>
Handler fsGsBaseForm(const Shape& s) {
    return s.bits(0) == 64 ? straight<fsGsBase<Which, Write, uint64_t>>
                           : straight<fsGsBase<Which, Write, uint32_t>>;
}

// -- information and time

void cpuid(Cpu& c, const Insn&) {
    if (c.threaded) fenceGuest();  // it serializes
    auto r = c.cpuid(c.gpr.get<uint32_t>(Rax * 8), c.gpr.get<uint32_t>(Rcx * 8));
    c.gpr[Rax] = r.eax, c.gpr[Rbx] = r.ebx, c.gpr[Rcx] = r.ecx, c.gpr[Rdx] = r.edx;
}

void setEdxEax(Cpu& c, uint64_t v) {
    c.gpr[Rax] = uint32_t(v);
    c.gpr[Rdx] = v >> 32;
}
void rdtsc(Cpu& c, const Insn&) {
    if (c.cr4 & cr4::TSD && c.cpl && !c.real()) raise(kGP, 0);
    setEdxEax(c, c.tsc());
}
void rdtscp(Cpu& c, const Insn& i) {
    rdtsc(c, i);
    c.gpr[Rcx] = uint32_t(c.msr.tscAux);
}
template <class T>
void rdpid(Cpu& c, const Insn& i) {
    c.gpr.set<T>(i.a, T(c.msr.tscAux));
}
Handler rdpidForm(const Shape& s) {
    return s.bits(0) == 64 ? straight<rdpid<uint64_t>> : straight<rdpid<uint32_t>>;
}
// RDRAND and RDSEED: CF tells that there was entropy.
template <class T>
void rdrand(Cpu& c, const Insn& i) {
    const bool there = bool(c.io.entropy);
    c.gpr.set<T>(i.a, there ? T(c.io.entropy()) : 0);
    c.flags.setArithmetic(there ? flag::CF : 0);
}
Handler rdrandForm(const Shape& s) {
    return byWidth(s.bits(0), []<class T>() { return straight<rdrand<T>>; });
}
bool rdmsr(Cpu& c, const Insn&) {
    const auto v = c.cpl ? std::nullopt : c.readMsr(c.gpr.get<uint32_t>(Rcx * 8));
    if (!v) return c.fails({kGP, true, 0});
    setEdxEax(c, *v);
    return true;
}
bool wrmsr(Cpu& c, const Insn&) {
    const bool done =
        !c.cpl && c.writeMsr(c.gpr.get<uint32_t>(Rcx * 8), c.gpr[Rdx] << 32 | c.gpr.get<uint32_t>(Rax * 8));
    return done || c.fails({kGP, true, 0});
}
void rdpmc(Cpu& c, const Insn&) {  // no counters
    if (c.cpl && !(c.cr4 & cr4::PCE)) raise(kGP, 0);
    raise(kGP, 0);
}

// -- interrupts, halting, TLB, caches

void hlt(Cpu& c, const Insn&) {
    requireCpl0(c);
    c.halted = true;
    c.mwaiting = false;
}
void rsm(Cpu& c, const Insn&) { c.resumeFromSmm(); }
// The flag that CLI and STI act on: IF, or VIF for virtual-8086 code under CR4.VME and for CPL 3 under
// CR4.PVI where IOPL does not suffice. Throws #GP(0) when there is none.
uint64_t interruptFlag(Cpu& c) {
    if (c.real() || c.cpl <= c.flags.iopl()) return flag::IF;
    const bool virtualised = c.v86() ? c.cr4 & cr4::VME : c.cpl == 3 && c.cr4 & cr4::PVI;
    if (!virtualised) raise(kGP, 0);
    return flag::VIF;
}
void cli(Cpu& c, const Insn&) { c.flags.change(interruptFlag(c), false); }
void sti(Cpu& c, const Insn&) {
    const uint64_t which = interruptFlag(c);
    if (which == flag::VIF && c.flags.test(flag::VIP)) raise(kGP, 0);
    if (which == flag::IF && !c.flags.test(flag::IF)) c.stiShadow = true;
    c.flags.change(which, true);
}
void clac(Cpu& c, const Insn&) {
    if (c.cpl) raise(kUD);  // CR4.SMAP plays no part
    c.flags.change(flag::AC, false);
    c.smapChanged();
}
void stac(Cpu& c, const Insn&) {
    if (c.cpl) raise(kUD);  // CR4.SMAP plays no part
    c.flags.change(flag::AC, true);
    c.smapChanged();
}
void invlpg(Cpu& c, const Insn& i) {
    requireCpl0(c);
    const uint64_t ea = c.effectiveAddress(i);
    const uint64_t linear =
        c.code64() ? ea + (i.seg >= Fs ? c.seg[i.seg].base : 0) : (ea + c.seg[i.seg].base) & 0xffffffff;
    if (c.canonicalBase(linear)) c.flushPage(linear);  // else it does nothing
}
void invpcid(Cpu& c, const Insn& i) {
    requireCpl0(c);
    const uint64_t type = c.code64() ? c.gpr.get<uint64_t>(i.a) : c.gpr.get<uint32_t>(i.a);
    const uint64_t ea = c.effectiveAddress(i);
    const auto pcid = c.load<uint64_t>(i.seg, ea), linear = c.load<uint64_t>(i.seg, ea + 8);
    if (type > 3 || pcid >> 12) raise(kGP, 0);
    if (type < 2 && pcid && !(c.cr4 & cr4::PCIDE)) raise(kGP, 0);
    if (type == 0 && !c.canonicalBase(linear)) raise(kGP, 0);
    c.invalidatePcid(unsigned(type), uint16_t(pcid), linear);
}

// -- rights of protection keys

void requirePku(Cpu& c) {
    if (!(c.cr4 & cr4::PKE)) raise(kUD);
    if (c.gpr.get<uint32_t>(Rcx * 8)) raise(kGP, 0);
}
void rdpkru(Cpu& c, const Insn&) {
    requirePku(c);
    setEdxEax(c, c.pkru);
}
void wrpkru(Cpu& c, const Insn&) {
    requirePku(c);
    if (c.gpr.get<uint32_t>(Rdx * 8)) raise(kGP, 0);
    c.setPkru(c.gpr.get<uint32_t>(Rax * 8));
}

void serialize(Cpu&, const Insn&) {}
void privilegedNop(Cpu& c, const Insn&) { requireCpl0(c); }  // WBINVD, INVD: no caches

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_SGDT, only<storeTable<&CpuState::gdtr>>},
    {ZYDIS_MNEMONIC_SIDT, only<storeTable<&CpuState::idtr>>},
    {ZYDIS_MNEMONIC_LGDT, only<loadTable<&CpuState::gdtr>>},
    {ZYDIS_MNEMONIC_LIDT, only<loadTable<&CpuState::idtr>>},
    {ZYDIS_MNEMONIC_SLDT, sldtForm},
    {ZYDIS_MNEMONIC_STR, strForm},
    {ZYDIS_MNEMONIC_LLDT, lldtForm},
    {ZYDIS_MNEMONIC_LTR, ltrForm},
    {ZYDIS_MNEMONIC_SMSW, smswForm},
    {ZYDIS_MNEMONIC_LMSW, lmswForm, kEndsBlock},
    {ZYDIS_MNEMONIC_CLTS, only<trapping<TrapKind::WriteControl, clts>>},
    {ZYDIS_MNEMONIC_LAR, larLslForm<false>},
    {ZYDIS_MNEMONIC_LSL, larLslForm<true>},
    {ZYDIS_MNEMONIC_VERR, verifyForm<false>},
    {ZYDIS_MNEMONIC_VERW, verifyForm<true>},
    {ZYDIS_MNEMONIC_ARPL, arplForm, kNo64},
    {ZYDIS_MNEMONIC_SYSCALL, onlySerializing<trapping<TrapKind::SystemCall, syscall>>, kEndsBlock},
    {ZYDIS_MNEMONIC_SYSRET, onlySerializing<trapping<TrapKind::SystemReturn, sysret>>, kEndsBlock},
    {ZYDIS_MNEMONIC_SYSENTER, onlySerializing<trapping<TrapKind::SystemCall, sysenter>>, kEndsBlock},
    {ZYDIS_MNEMONIC_SYSEXIT, onlySerializing<trapping<TrapKind::SystemReturn, sysexit>>, kEndsBlock},
    {ZYDIS_MNEMONIC_SWAPGS, only<swapgs>, kNoLegacy},
    {ZYDIS_MNEMONIC_RDFSBASE, fsGsBaseForm<Fs, false>, kNoLegacy},
    {ZYDIS_MNEMONIC_RDGSBASE, fsGsBaseForm<Gs, false>, kNoLegacy},
    {ZYDIS_MNEMONIC_WRFSBASE, fsGsBaseForm<Fs, true>, kNoLegacy},
    {ZYDIS_MNEMONIC_WRGSBASE, fsGsBaseForm<Gs, true>, kNoLegacy},
    {ZYDIS_MNEMONIC_CPUID, only<trapping<TrapKind::Cpuid, cpuid>>},
    {ZYDIS_MNEMONIC_RDTSC, only<trapping<TrapKind::Rdtsc, rdtsc>>},
    {ZYDIS_MNEMONIC_RDTSCP, only<trapping<TrapKind::Rdtsc, rdtscp>>},
    {ZYDIS_MNEMONIC_RDPMC, only<rdpmc>},
    {ZYDIS_MNEMONIC_RDPID, rdpidForm},
    {ZYDIS_MNEMONIC_RDRAND, rdrandForm},
    {ZYDIS_MNEMONIC_RDSEED, rdrandForm},
    {ZYDIS_MNEMONIC_SERIALIZE, onlySerializing<serialize>, kEndsBlock},
    {ZYDIS_MNEMONIC_RDMSR, only<trapping<TrapKind::Rdmsr, rdmsr>>},
    {ZYDIS_MNEMONIC_WRMSR, onlySerializing<trapping<TrapKind::Wrmsr, wrmsr>>, kEndsBlock},
    {ZYDIS_MNEMONIC_HLT, onlySerializing<trapping<TrapKind::Hlt, hlt>>, kEndsBlock},
    {ZYDIS_MNEMONIC_RSM, onlySerializing<rsm>, kEndsBlock},
    {ZYDIS_MNEMONIC_CLI, only<trapping<TrapKind::InterruptFlag, cli>>},
    {ZYDIS_MNEMONIC_STI, onlySerializing<trapping<TrapKind::InterruptFlag, sti>>, kEndsBlock},
    {ZYDIS_MNEMONIC_CLAC, only<clac>},
    {ZYDIS_MNEMONIC_STAC, only<stac>},
    {ZYDIS_MNEMONIC_INVLPG, onlySerializing<trapping<TrapKind::Invlpg, invlpg>>, kEndsBlock},
    {ZYDIS_MNEMONIC_INVPCID, onlySerializing<trapping<TrapKind::Invpcid, invpcid>>, kEndsBlock},
    {ZYDIS_MNEMONIC_RDPKRU, only<rdpkru>},
    {ZYDIS_MNEMONIC_WRPKRU, only<wrpkru>},
    {ZYDIS_MNEMONIC_WBINVD, only<privilegedNop>},
    {ZYDIS_MNEMONIC_INVD, only<privilegedNop>},
};

}  // namespace

std::span<const Row> systemRows() { return kRows; }

}  // namespace kiln
