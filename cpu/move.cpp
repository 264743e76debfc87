// Data transfer: MOV and its extensions, LEA, exchanges, conditional moves and sets, conversions, flag
// transfers (SDM vol. 1, 7.3.1).
#include "cpu/body.hpp"
#include "cpu/handlers.hpp"

namespace kiln {

namespace {

template <class T, class Dst, class Src>
void movBody(Cpu& c, const Insn& i) {
    Dst::template store<T>(c, i, Src::template load<T>(c, i));
}

template <class T>
struct MovFromMem {
    template <class M>
    static constexpr Body of = movBody<T, RegA, M>;
};
template <class T, class Src>
struct MovToMem {
    template <class M>
    static constexpr Body of = movBody<T, M, Src>;
};

// MOV between the accumulator and a 64-bit absolute offset, which is in imm.
template <class T, bool Store>
void movOffset(Cpu& c, const Insn& i) {
    uint64_t offset = i.addressSize == 2 ? i.imm : i.imm & 0xffffffff;
    if constexpr (Store)
        c.store<T>(i.seg, offset, c.gpr.get<T>(0));
    else
        c.gpr.set<T>(0, c.load<T>(i.seg, offset));
}

// MOV Sreg, r/m16. SS holds interrupts off for one instruction.
template <class Src>
void movToSegment(Cpu& c, const Insn& i) {
    auto which = SegReg(i.a);
    c.loadSegment(which, Src::template load<uint16_t>(c, i));
    if (which == Ss) c.movSsShadow = true;
}

void movFromSegmentMem(Cpu& c, const Insn& i) { c.storeOperand<uint16_t>(i, c.seg[i.b].selector); }

template <class T>
void movFromSegmentReg(Cpu& c, const Insn& i) {
    RegA::store<T>(c, i, c.seg[i.b].selector);
}

bool isClass(const Shape& s, unsigned n, ZydisRegisterClass cls) {
    return s.isReg(n) && ZydisRegisterGetClass(s.operands[n].reg.value) == cls;
}

Handler movControl(const Shape& s);  // CR and DR forms, below

Handler mov(const Shape& s) {
    if (isClass(s, 0, ZYDIS_REGCLASS_SEGMENT)) {
        if (s.operands[0].reg.value == ZYDIS_REGISTER_CS) return nullptr;
        if (s.operands[0].reg.value == ZYDIS_REGISTER_SS)
            return s.isMem(1) ? serializing<movToSegment<Mem>> : serializing<movToSegment<RegB>>;
        return s.isMem(1) ? straight<movToSegment<Mem>> : straight<movToSegment<RegB>>;
    }
    if (isClass(s, 1, ZYDIS_REGCLASS_SEGMENT)) {
        if (s.isMem(0)) return straight<movFromSegmentMem>;
        return byWidth(s.bits(0), []<class T>() -> Handler { return straight<movFromSegmentReg<T>>; });
    }
    if (Handler h = movControl(s)) return h;
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        if (s.z.raw.disp.size == 64)
            return s.isMem(0) ? straight<movOffset<T, true>> : straight<movOffset<T, false>>;
        if (s.isMem(1)) return byMemory<MovFromMem<T>, T, false>(s);
        if (s.isMem(0))
            return s.isImm(1) ? byMemory<MovToMem<T, Imm>, T, true>(s)
                              : byMemory<MovToMem<T, RegB>, T, true>(s);
        return s.isImm(1) ? straight<movBody<T, RegA, Imm>> : straight<movBody<T, RegA, RegB>>;
    });
}

// -- control and debug registers (SDM vol. 2, MOV)

void requireCpl0(Cpu& c) {
    if (c.cpl != 0) raise(kGP, 0);
}

template <unsigned N>
void movToCr(Cpu& c, const Insn& i) {
    requireCpl0(c);
    uint64_t v = c.code64() ? c.gpr.get<uint64_t>(i.b) : c.gpr.get<uint32_t>(i.b);
    if constexpr (N == 0)
        c.setCr0(v);
    else if constexpr (N == 2)
        c.cr2 = v;
    else if constexpr (N == 3)
        c.setCr3(v);
    else if constexpr (N == 4)
        c.setCr4(v);
    else {
        if (v >> 4) raise(kGP, 0);
        DeviceGuard guard(c.threads());
        c.io.apic.setCr8(uint8_t(v));
    }
}

template <unsigned N>
void movFromCr(Cpu& c, const Insn& i) {
    requireCpl0(c);
    uint64_t v = N == 0 ? c.cr0 : N == 2 ? c.cr2 : N == 3 ? c.cr3 : c.cr4;
    if constexpr (N == 8) {
        DeviceGuard guard(c.threads());
        v = c.io.apic.cr8();
    }
    if (c.code64())
        c.gpr.set<uint64_t>(i.a, v);
    else
        c.gpr.set<uint32_t>(i.a, uint32_t(v));
}

unsigned debugRegister(Cpu& c, unsigned n) {
    if (n == 4 || n == 5) {
        if (c.cr4 & cr4::DE) raise(kUD);
        n += 2;
    }
    requireCpl0(c);
    if (c.dr[7] & dr7::GD) c.generalDetect();
    return n;
}

void movToDr(Cpu& c, const Insn& i) {
    unsigned n = debugRegister(c, i.a);
    c.writeDr(n, c.code64() ? c.gpr.get<uint64_t>(i.b) : c.gpr.get<uint32_t>(i.b));
}

void movFromDr(Cpu& c, const Insn& i) {
    unsigned n = debugRegister(c, i.b);
    if (c.code64())
        c.gpr.set<uint64_t>(i.a, c.dr[n]);
    else
        c.gpr.set<uint32_t>(i.a, uint32_t(c.dr[n]));
}

Handler movControl(const Shape& s) {
    auto number = [&](unsigned n) { return unsigned(ZydisRegisterGetId(s.operands[n].reg.value)); };
    if (isClass(s, 0, ZYDIS_REGCLASS_DEBUG)) return serializing<trapping<TrapKind::Debug, movToDr>>;
    if (isClass(s, 1, ZYDIS_REGCLASS_DEBUG)) return straight<trapping<TrapKind::Debug, movFromDr>>;
    if (isClass(s, 0, ZYDIS_REGCLASS_CONTROL)) switch (number(0)) {
            case 0: return serializing<trapping<TrapKind::WriteControl, movToCr<0>>>;
            case 2: return serializing<trapping<TrapKind::WriteControl, movToCr<2>>>;
            case 3: return serializing<trapping<TrapKind::WriteControl, movToCr<3>>>;
            case 4: return serializing<trapping<TrapKind::WriteControl, movToCr<4>>>;
            case 8: return serializing<trapping<TrapKind::WriteControl, movToCr<8>>>;
            default: return undefinedOpcode;
        }
    if (isClass(s, 1, ZYDIS_REGCLASS_CONTROL)) switch (number(1)) {
            case 0: return straight<trapping<TrapKind::ReadControl, movFromCr<0>>>;
            case 2: return straight<trapping<TrapKind::ReadControl, movFromCr<2>>>;
            case 3: return straight<trapping<TrapKind::ReadControl, movFromCr<3>>>;
            case 4: return straight<trapping<TrapKind::ReadControl, movFromCr<4>>>;
            case 8: return straight<trapping<TrapKind::ReadControl, movFromCr<8>>>;
            default: return undefinedOpcode;
        }
    return nullptr;
}

// -- extensions and addresses

template <class To, class From, class Src, bool Signed>
void extendBody(Cpu& c, const Insn& i) {
    From v = Src::template load<From>(c, i);
    if constexpr (Signed)
        RegA::store<To>(c, i, To(std::make_signed_t<To>(std::make_signed_t<From>(v))));
    else
        RegA::store<To>(c, i, To(v));
}

template <class To, class From, bool Signed>
struct ExtendFromMem {
    template <class M>
    static constexpr Body of = extendBody<To, From, M, Signed>;
};

template <bool Signed>
Handler extend(const Shape& s) {
    return byWidth(s.bits(0), [&]<class To>() -> Handler {
        // MOVSXD to 16 bits reads no more than 16.
        return byWidth(std::min(s.bits(0), s.bits(1)), [&]<class From>() -> Handler {
            if (!s.isMem(1)) return straight<extendBody<To, From, RegB, Signed>>;
            return byMemory<ExtendFromMem<To, From, Signed>, From, false>(s);
        });
    });
}

template <class T>
void leaBody(Cpu& c, const Insn& i) {
    RegA::store<T>(c, i, T(c.effectiveAddress(i)));
}

Handler lea(const Shape& s) {
    return byWidth(s.bits(0), []<class T>() -> Handler { return straight<leaBody<T>>; });
}

// LDS, LES, LFS, LGS, LSS: offset, then selector.
template <SegReg Which, class T>
void loadFarPointer(Cpu& c, const Insn& i) {
    uint64_t ea = c.effectiveAddress(i);
    T offset = c.load<T>(i.seg, ea);
    auto selector = c.load<uint16_t>(i.seg, ea + sizeof(T));
    c.loadSegment(Which, selector);
    RegA::store<T>(c, i, offset);
}

template <SegReg Which>
Handler farPointer(const Shape& s) {
    return byWidth(s.bits(0), []<class T>() -> Handler { return straight<loadFarPointer<Which, T>>; });
}

// -- exchanges

template <class T>
void xchgBody(Cpu& c, const Insn& i) {
    T a = RegA::load<T>(c, i), b = RegB::load<T>(c, i);
    RegB::store<T>(c, i, a);
    RegA::store<T>(c, i, b);
}
// With memory it is locked, prefix or not. Reg: which operand the register is.
template <class T, class Reg>
void xchgWithMem(Cpu& c, const Insn& i) {
    T fresh = Reg::template load<T>(c, i);
    T old = c.atomically<T>(i.seg, c.effectiveAddress(i), [fresh](T) { return fresh; });
    Reg::template store<T>(c, i, old);
}

Handler xchg(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        if (s.isMem(1)) return straight<xchgWithMem<T, RegA>>;
        return s.isMem(0) ? straight<xchgWithMem<T, RegB>> : straight<xchgBody<T>>;
    });
}

void xlat(Cpu& c, const Insn& i) {
    static constexpr uint64_t kMask[4] = {0xffff, 0xffffffff, ~0ull, ~0ull};
    uint64_t ea = (c.gpr[Rbx] + c.gpr.get<uint8_t>(0)) & kMask[i.addressSize];
    c.gpr.set<uint8_t>(0, c.load<uint8_t>(i.seg, ea));
}

// MOVBE's little brother BSWAP is in bits.cpp.

// -- conditions

template <unsigned Code, class T, class Src>
void cmovBody(Cpu& c, const Insn& i) {
    T v = Src::template load<T>(c, i);
    RegA::store<T>(c, i, c.flags.condition<Code>() ? v : RegA::load<T>(c, i));
}

template <unsigned Code>
Handler cmov(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        if constexpr (sizeof(T) == 1)
            return nullptr;
        else
            return s.isMem(1) ? straight<cmovBody<Code, T, Mem>> : straight<cmovBody<Code, T, RegB>>;
    });
}

template <unsigned Code, class Dst>
void setBody(Cpu& c, const Insn& i) {
    Dst::template store<uint8_t>(c, i, c.flags.condition<Code>());
}

template <unsigned Code>
Handler set(const Shape& s) {
    return s.isMem(0) ? straight<setBody<Code, Mem>> : straight<setBody<Code, RegA>>;
}

// -- conversions in the accumulator; the name gives the widths

template <class To, class From>
void extendAccumulator(Cpu& c, const Insn&) {
    c.gpr.set<To>(0, To(std::make_signed_t<To>(std::make_signed_t<From>(c.gpr.get<From>(0)))));
}
template <class T>
void signToD(Cpu& c, const Insn&) {
    c.gpr.set<T>(Rdx * 8, T(std::make_signed_t<T>(c.gpr.get<T>(0)) >> (sizeof(T) * 8 - 1)));
}

// -- flags

void lahf(Cpu& c, const Insn&) { c.gpr.set<uint8_t>(1, uint8_t((c.flags.arithmetic() & 0xd5) | 2)); }
void sahf(Cpu& c, const Insn&) {
    c.flags.setArithmetic((c.flags.arithmetic() & flag::OF) | (c.gpr.get<uint8_t>(1) & 0xd5));
}
void clc(Cpu& c, const Insn&) { c.flags.setCf(false); }
void stc(Cpu& c, const Insn&) { c.flags.setCf(true); }
void cmc(Cpu& c, const Insn&) { c.flags.setCf(!c.flags.cf()); }
void cld(Cpu& c, const Insn&) { c.flags.change(flag::DF, false); }
void std_(Cpu& c, const Insn&) { c.flags.change(flag::DF, true); }
void salc(Cpu& c, const Insn&) { c.gpr.set<uint8_t>(0, c.flags.cf() ? 0xff : 0); }
void nop(Cpu&, const Insn&) {}

// A spin loop waits for another processor: let it run.
void pauseHandler(Cpu& c, const Insn* i) {
    c.at = i;
    c.trapHere(TrapKind::Pause).handled++;
    if (!c.pauseLeaves) KILN_DISPATCH(c, i + 1);
    c.rip = c.nextRip(*i) & c.ipMask();
    c.refund(i);
    c.leave();
    c.spun = true;
    c.next = nullptr;
}
Handler pause(const Shape&) { return pauseHandler; }

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_MOV, mov},
    {ZYDIS_MNEMONIC_MOVZX, extend<false>},
    {ZYDIS_MNEMONIC_MOVSX, extend<true>},
    {ZYDIS_MNEMONIC_MOVSXD, extend<true>},
    {ZYDIS_MNEMONIC_LEA, lea},
    {ZYDIS_MNEMONIC_LDS, farPointer<Ds>},
    {ZYDIS_MNEMONIC_LES, farPointer<Es>},
    {ZYDIS_MNEMONIC_LFS, farPointer<Fs>},
    {ZYDIS_MNEMONIC_LGS, farPointer<Gs>},
    {ZYDIS_MNEMONIC_LSS, farPointer<Ss>},
    {ZYDIS_MNEMONIC_XCHG, xchg},
    {ZYDIS_MNEMONIC_XLAT, only<xlat>},
    {ZYDIS_MNEMONIC_CMOVO, cmov<0>},
    {ZYDIS_MNEMONIC_CMOVNO, cmov<1>},
    {ZYDIS_MNEMONIC_CMOVB, cmov<2>},
    {ZYDIS_MNEMONIC_CMOVNB, cmov<3>},
    {ZYDIS_MNEMONIC_CMOVZ, cmov<4>},
    {ZYDIS_MNEMONIC_CMOVNZ, cmov<5>},
    {ZYDIS_MNEMONIC_CMOVBE, cmov<6>},
    {ZYDIS_MNEMONIC_CMOVNBE, cmov<7>},
    {ZYDIS_MNEMONIC_CMOVS, cmov<8>},
    {ZYDIS_MNEMONIC_CMOVNS, cmov<9>},
    {ZYDIS_MNEMONIC_CMOVP, cmov<10>},
    {ZYDIS_MNEMONIC_CMOVNP, cmov<11>},
    {ZYDIS_MNEMONIC_CMOVL, cmov<12>},
    {ZYDIS_MNEMONIC_CMOVNL, cmov<13>},
    {ZYDIS_MNEMONIC_CMOVLE, cmov<14>},
    {ZYDIS_MNEMONIC_CMOVNLE, cmov<15>},
    {ZYDIS_MNEMONIC_SETO, set<0>},
    {ZYDIS_MNEMONIC_SETNO, set<1>},
    {ZYDIS_MNEMONIC_SETB, set<2>},
    {ZYDIS_MNEMONIC_SETNB, set<3>},
    {ZYDIS_MNEMONIC_SETZ, set<4>},
    {ZYDIS_MNEMONIC_SETNZ, set<5>},
    {ZYDIS_MNEMONIC_SETBE, set<6>},
    {ZYDIS_MNEMONIC_SETNBE, set<7>},
    {ZYDIS_MNEMONIC_SETS, set<8>},
    {ZYDIS_MNEMONIC_SETNS, set<9>},
    {ZYDIS_MNEMONIC_SETP, set<10>},
    {ZYDIS_MNEMONIC_SETNP, set<11>},
    {ZYDIS_MNEMONIC_SETL, set<12>},
    {ZYDIS_MNEMONIC_SETNL, set<13>},
    {ZYDIS_MNEMONIC_SETLE, set<14>},
    {ZYDIS_MNEMONIC_SETNLE, set<15>},
    {ZYDIS_MNEMONIC_CBW, only<extendAccumulator<uint16_t, uint8_t>>},
    {ZYDIS_MNEMONIC_CWDE, only<extendAccumulator<uint32_t, uint16_t>>},
    {ZYDIS_MNEMONIC_CDQE, only<extendAccumulator<uint64_t, uint32_t>>},
    {ZYDIS_MNEMONIC_CWD, only<signToD<uint16_t>>},
    {ZYDIS_MNEMONIC_CDQ, only<signToD<uint32_t>>},
    {ZYDIS_MNEMONIC_CQO, only<signToD<uint64_t>>},
    {ZYDIS_MNEMONIC_LAHF, only<lahf>},
    {ZYDIS_MNEMONIC_SAHF, only<sahf>},
    {ZYDIS_MNEMONIC_CLC, only<clc>},
    {ZYDIS_MNEMONIC_STC, only<stc>},
    {ZYDIS_MNEMONIC_CMC, only<cmc>},
    {ZYDIS_MNEMONIC_CLD, only<cld>},
    {ZYDIS_MNEMONIC_STD, only<std_>},
    {ZYDIS_MNEMONIC_SALC, only<salc>, kNo64},
    {ZYDIS_MNEMONIC_NOP, only<nop>},
    {ZYDIS_MNEMONIC_PAUSE, pause},
};

}  // namespace

std::span<const Row> moveRows() { return kRows; }

}  // namespace kiln
