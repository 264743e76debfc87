// SSE floating-point arithmetic and comparison, single and double, scalar and packed (SDM vol.
// 1, 10.4, 11.4.1, 12.4, 12.9). Conversions and rounding are in sse_convert.cpp.
#include "cpu/sse_float.hpp"

#include <cmath>

namespace kiln {

void settleFlags(Cpu& c, uint32_t raised) {
    uint32_t unmasked = raised & ~(c.mxcsr >> mxcsr::kMaskShift);
    // An unmasked IE, DE or ZE stops the instruction before results exist that could overflow or be inexact.
    if (unmasked & (mxcsr::IE | mxcsr::DE | mxcsr::ZE)) raised &= mxcsr::IE | mxcsr::DE | mxcsr::ZE;
    c.mxcsr |= raised;
    if (unmasked) raise(c.cr4 & cr4::OSXMMEXCPT ? kXM : kUD);
}

namespace {

template <class Bits, class Source>
Bits scalarSource(Cpu& c, const Insn& i) {
    if constexpr (std::is_same_v<Source, FromReg>)
        return c.vec[i.b].get<Bits>(0);
    else
        return c.loadOperand<Bits>(i);
}
template <class Body, class Bits>
Handler form(const Shape& s) {
    if (s.isMem(1)) return straight<Body::template run<Bits, FromMem>>;
    if constexpr (requires(Cpu & c, const Insn& i) { Body::template quick<Bits>(c, i); })
        return quickly<Body::template quick<Bits>, Body::template run<Bits, FromReg>>;
    else
        return straight<Body::template run<Bits, FromReg>>;
}

// -- ADD, SUB, MUL, DIV
template <class Op>
struct Scalar {
    template <class Bits>
    static bool quick(Cpu& c, const Insn& i) {
        c.checkSse();
        Bits a = c.vec[i.a].get<Bits>(0), b = c.vec[i.b].get<Bits>(0);
        if (!hostRounds(c) || (notMiddling(a) | notMiddling(b)) & Format<Bits>::kSign) return false;
        c.vec[i.a].set<Bits>(0, fromHost(Op::host(toHost(a), toHost(b))));
        return true;
    }
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        Bits b = scalarSource<Bits, Source>(c, i), a = c.vec[i.a].get<Bits>(0);
        Ieee e(c.mxcsr);
        Bits r = compute<Op>(hostRounds(c), e, a, b);
        settle(c, e);
        c.vec[i.a].set<Bits>(0, r);
    }
};
template <class Op>
struct Packed {
    template <class Bits>
    static bool onHost(Cpu& c, const Insn& i, const Xmm& b) {
        auto x = split<Bits>(getXmm(c, i.a)), y = split<Bits>(b);
        auto doubts = x;
        for (unsigned n = 0; n < x.size(); n++) doubts[n] = notMiddling(x[n]) | notMiddling(y[n]);
        Bits doubt = 0;
        for (Bits d : doubts) doubt |= d;
        if (!hostRounds(c) || doubt & Format<Bits>::kSign) return false;
        for (unsigned n = 0; n < x.size(); n++) x[n] = fromHost(Op::host(toHost(x[n]), toHost(y[n])));
        setXmm(c, i.a, join<Xmm>(x));
        return true;
    }
    template <class Bits>
    static bool quick(Cpu& c, const Insn& i) {
        c.checkSse();
        return onHost<Bits>(c, i, getXmm(c, i.b));
    }
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        Xmm b = Source::template load<Xmm>(c, i);
        if (onHost<Bits>(c, i, b)) return;
        auto x = split<Bits>(getXmm(c, i.a)), y = split<Bits>(b);
        Ieee e(c.mxcsr);
        bool host = hostRounds(c);
        for (unsigned n = 0; n < x.size(); n++) x[n] = compute<Op>(host, e, x[n], y[n]);
        settle(c, e);
        setXmm(c, i.a, join<Xmm>(x));
    }
};

// -- MIN, MAX: whatever the control word, plain numbers need no more than a comparison
struct Min {
    template <class F>
    static F host(F a, F b) {
        return a < b ? a : b;
    }
    template <class Bits>
    static Bits exact(Ieee& e, Bits a, Bits b) {
        return e.min(a, b);
    }
};
struct Max {
    template <class F>
    static F host(F a, F b) {
        return a > b ? a : b;
    }
    template <class Bits>
    static Bits exact(Ieee& e, Bits a, Bits b) {
        return e.max(a, b);
    }
};
template <class Op, class Bits>
Bits select(Ieee& e, Bits a, Bits b) {
    if (plain(a) && plain(b)) [[likely]]
        return fromHost(Op::host(toHost(a), toHost(b)));
    return Op::exact(e, a, b);
}
template <class Op>
struct ScalarSelect {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        Bits b = scalarSource<Bits, Source>(c, i), a = c.vec[i.a].get<Bits>(0);
        Ieee e(c.mxcsr);
        Bits r = select<Op>(e, a, b);
        settle(c, e);
        c.vec[i.a].set<Bits>(0, r);
    }
};
template <class Op>
struct PackedSelect {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        auto y = split<Bits>(Source::template load<Xmm>(c, i)), x = split<Bits>(getXmm(c, i.a));
        Ieee e(c.mxcsr);
        for (unsigned n = 0; n < x.size(); n++) x[n] = select<Op>(e, x[n], y[n]);
        settle(c, e);
        setXmm(c, i.a, join<Xmm>(x));
    }
};

// -- one operand: SQRT, RCP, RSQRT
struct Sqrt {
    template <class Bits>
    static Bits of(Cpu& c, Ieee& e, Bits v) {
        if (hostRounds(c)) [[likely]] {
            Bits r =
                fromHost(std::sqrt(toHost(magnitude(v))));  // never of a negative: that would call for errno
            if (magnitude(v) == 0) return v;
            if (v == magnitude(v) && surelyNormal(r) && !isDenormal(v)) return r;
        }
        return e.sqrt(v);
    }
};
struct Rcp {
    static uint32_t of(Cpu&, Ieee&, uint32_t v) { return approximateReciprocal(v); }
};
struct Rsqrt {
    static uint32_t of(Cpu&, Ieee&, uint32_t v) { return approximateReciprocalSqrt(v); }
};
template <class Op>
struct ScalarUnary {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        Ieee e(c.mxcsr);
        Bits r = Op::of(c, e, scalarSource<Bits, Source>(c, i));
        settle(c, e);
        c.vec[i.a].set<Bits>(0, r);
    }
};
template <class Op>
struct PackedUnary {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        auto x = split<Bits>(Source::template load<Xmm>(c, i));
        Ieee e(c.mxcsr);
        for (Bits& lane : x) lane = Op::of(c, e, lane);
        settle(c, e);
        setXmm(c, i.a, join<Xmm>(x));
    }
};

// -- HADD, HSUB, ADDSUB
template <class Op>
struct Horizontal {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        auto y = split<Bits>(Source::template load<Xmm>(c, i)), x = split<Bits>(getXmm(c, i.a));
        auto r = x;
        constexpr unsigned half = kLanes<Bits, Xmm> / 2;
        Ieee e(c.mxcsr);
        bool quick = hostRounds(c);
        for (unsigned n = 0; n < half; n++) {
            r[n] = compute<Op>(quick, e, x[2 * n], x[2 * n + 1]);
            r[half + n] = compute<Op>(quick, e, y[2 * n], y[2 * n + 1]);
        }
        settle(c, e);
        setXmm(c, i.a, join<Xmm>(r));
    }
};
struct AddSub {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        auto y = split<Bits>(Source::template load<Xmm>(c, i)), x = split<Bits>(getXmm(c, i.a));
        Ieee e(c.mxcsr);
        bool quick = hostRounds(c);
        for (unsigned n = 0; n < x.size(); n += 2) {
            x[n] = compute<Sub>(quick, e, x[n], y[n]);
            x[n + 1] = compute<Add>(quick, e, x[n + 1], y[n + 1]);
        }
        settle(c, e);
        setXmm(c, i.a, join<Xmm>(x));
    }
};

// DPPS, DPPD: imm 7..4 choose the products, 3..0 the lanes that get their sum. Exceptions are reported stage
// by stage. Every lane adds up for itself, in an order of its own: of several NaNs each may show another.
struct DotProduct {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        auto y = split<Bits>(Source::template load<Xmm>(c, i)), x = split<Bits>(getXmm(c, i.a));
        constexpr unsigned lanes = kLanes<Bits, Xmm>;
        const uint32_t control = c.mxcsr;
        const bool quick = hostRounds(c);
        auto stage = [&](auto lane) {
            Ieee e(control);
            auto r = x;
            for (unsigned n = 0; n < lanes; n++) r[n] = lane(e, n);
            settle(c, e);
            x = r;
        };
        stage([&](Ieee& e, unsigned n) {
            return i.imm >> (4 + n) & 1 ? compute<Mul>(quick, e, x[n], y[n]) : Bits(0);
        });
        if (lanes == 4) stage([&](Ieee& e, unsigned n) { return compute<Add>(quick, e, x[n ^ 1], x[n]); });
        stage([&](Ieee& e, unsigned n) { return compute<Add>(quick, e, x[n], x[n ^ lanes / 2]); });
        for (unsigned n = 0; n < lanes; n++)
            if (!(i.imm >> n & 1)) x[n] = 0;
        setXmm(c, i.a, join<Xmm>(x));
    }
};

// -- comparisons
template <class Bits>
Order order(Ieee& e, Bits a, Bits b, bool signalQuiet) {
    if (plain(a) && plain(b)) [[likely]] {
        auto x = toHost(a), y = toHost(b);
        return x < y ? Order::Less : x == y ? Order::Equal : Order::Greater;
    }
    return e.compare(a, b, signalQuiet);
}
// CMPPS and relatives: EQ, LT, LE, UNORD and their negations; the less-thans signal quiet NaNs as well.
template <class Bits>
Bits predicate(Ieee& e, Bits a, Bits b, unsigned code) {
    static constexpr uint8_t kHolds[4] = {1 << int(Order::Equal), 1 << int(Order::Less),
                                          1 << int(Order::Less) | 1 << int(Order::Equal),
                                          1 << int(Order::Unordered)};
    unsigned which = code & 3;
    bool holds = kHolds[which] >> int(order(e, a, b, which == 1 || which == 2)) & 1;
    return holds != bool(code & 4) ? Bits(~Bits(0)) : Bits(0);
}
struct ScalarCompare {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        Bits b = scalarSource<Bits, Source>(c, i);
        Ieee e(c.mxcsr);
        Bits r = predicate(e, c.vec[i.a].get<Bits>(0), b, unsigned(i.imm));
        settle(c, e);
        c.vec[i.a].set<Bits>(0, r);
    }
};
struct PackedCompare {
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        auto y = split<Bits>(Source::template load<Xmm>(c, i)), x = split<Bits>(getXmm(c, i.a));
        Ieee e(c.mxcsr);
        for (unsigned n = 0; n < x.size(); n++) x[n] = predicate(e, x[n], y[n], unsigned(i.imm));
        settle(c, e);
        setXmm(c, i.a, join<Xmm>(x));
    }
};
// CMPSD is the string instruction's name, too.
Handler cmpsd(const Shape& s) { return isXmm(s, 0) ? form<ScalarCompare, uint64_t>(s) : nullptr; }

// COMIS and UCOMIS: ZF, PF, CF tell the order; OF, SF, AF are cleared.
inline constexpr uint64_t kOrderFlags[4] = {flag::CF, flag::ZF, 0, flag::ZF | flag::PF | flag::CF};
template <bool signalQuiet>
struct CompareToFlags {
    template <class Bits>
    static bool quick(Cpu& c, const Insn& i) {
        c.checkSse();
        Bits a = c.vec[i.a].get<Bits>(0), b = c.vec[i.b].get<Bits>(0);
        if (!(plain(a) && plain(b))) return false;
        auto x = toHost(a), y = toHost(b);
        c.flags.setArithmetic(kOrderFlags[x < y ? 0 : x == y ? 1 : 2]);
        return true;
    }
    template <class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        c.checkSse();
        Bits b = scalarSource<Bits, Source>(c, i);
        Ieee e(c.mxcsr);
        Order o = order(e, c.vec[i.a].get<Bits>(0), b, signalQuiet);
        settle(c, e);
        c.flags.setArithmetic(kOrderFlags[int(o)]);
    }
};

}  // namespace

std::span<const Row> sseFloatRows() {
    using Single = uint32_t;
    using Double = uint64_t;
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_ADDSS, form<Scalar<Add>, Single>},
        {ZYDIS_MNEMONIC_ADDSD, form<Scalar<Add>, Double>},
        {ZYDIS_MNEMONIC_ADDPS, form<Packed<Add>, Single>},
        {ZYDIS_MNEMONIC_ADDPD, form<Packed<Add>, Double>},
        {ZYDIS_MNEMONIC_SUBSS, form<Scalar<Sub>, Single>},
        {ZYDIS_MNEMONIC_SUBSD, form<Scalar<Sub>, Double>},
        {ZYDIS_MNEMONIC_SUBPS, form<Packed<Sub>, Single>},
        {ZYDIS_MNEMONIC_SUBPD, form<Packed<Sub>, Double>},
        {ZYDIS_MNEMONIC_MULSS, form<Scalar<Mul>, Single>},
        {ZYDIS_MNEMONIC_MULSD, form<Scalar<Mul>, Double>},
        {ZYDIS_MNEMONIC_MULPS, form<Packed<Mul>, Single>},
        {ZYDIS_MNEMONIC_MULPD, form<Packed<Mul>, Double>},
        {ZYDIS_MNEMONIC_DIVSS, form<Scalar<Div>, Single>},
        {ZYDIS_MNEMONIC_DIVSD, form<Scalar<Div>, Double>},
        {ZYDIS_MNEMONIC_DIVPS, form<Packed<Div>, Single>},
        {ZYDIS_MNEMONIC_DIVPD, form<Packed<Div>, Double>},
        {ZYDIS_MNEMONIC_MINSS, form<ScalarSelect<Min>, Single>},
        {ZYDIS_MNEMONIC_MINSD, form<ScalarSelect<Min>, Double>},
        {ZYDIS_MNEMONIC_MINPS, form<PackedSelect<Min>, Single>},
        {ZYDIS_MNEMONIC_MINPD, form<PackedSelect<Min>, Double>},
        {ZYDIS_MNEMONIC_MAXSS, form<ScalarSelect<Max>, Single>},
        {ZYDIS_MNEMONIC_MAXSD, form<ScalarSelect<Max>, Double>},
        {ZYDIS_MNEMONIC_MAXPS, form<PackedSelect<Max>, Single>},
        {ZYDIS_MNEMONIC_MAXPD, form<PackedSelect<Max>, Double>},
        {ZYDIS_MNEMONIC_SQRTSS, form<ScalarUnary<Sqrt>, Single>},
        {ZYDIS_MNEMONIC_SQRTSD, form<ScalarUnary<Sqrt>, Double>},
        {ZYDIS_MNEMONIC_SQRTPS, form<PackedUnary<Sqrt>, Single>},
        {ZYDIS_MNEMONIC_SQRTPD, form<PackedUnary<Sqrt>, Double>},
        {ZYDIS_MNEMONIC_RCPSS, form<ScalarUnary<Rcp>, Single>},
        {ZYDIS_MNEMONIC_RCPPS, form<PackedUnary<Rcp>, Single>},
        {ZYDIS_MNEMONIC_RSQRTSS, form<ScalarUnary<Rsqrt>, Single>},
        {ZYDIS_MNEMONIC_RSQRTPS, form<PackedUnary<Rsqrt>, Single>},

        {ZYDIS_MNEMONIC_HADDPS, form<Horizontal<Add>, Single>},
        {ZYDIS_MNEMONIC_HADDPD, form<Horizontal<Add>, Double>},
        {ZYDIS_MNEMONIC_HSUBPS, form<Horizontal<Sub>, Single>},
        {ZYDIS_MNEMONIC_HSUBPD, form<Horizontal<Sub>, Double>},
        {ZYDIS_MNEMONIC_ADDSUBPS, form<AddSub, Single>},
        {ZYDIS_MNEMONIC_ADDSUBPD, form<AddSub, Double>},
        {ZYDIS_MNEMONIC_DPPS, form<DotProduct, Single>},
        {ZYDIS_MNEMONIC_DPPD, form<DotProduct, Double>},

        {ZYDIS_MNEMONIC_CMPSS, form<ScalarCompare, Single>},
        {ZYDIS_MNEMONIC_CMPSD, cmpsd},
        {ZYDIS_MNEMONIC_CMPPS, form<PackedCompare, Single>},
        {ZYDIS_MNEMONIC_CMPPD, form<PackedCompare, Double>},
        {ZYDIS_MNEMONIC_COMISS, form<CompareToFlags<true>, Single>},
        {ZYDIS_MNEMONIC_COMISD, form<CompareToFlags<true>, Double>},
        {ZYDIS_MNEMONIC_UCOMISS, form<CompareToFlags<false>, Single>},
        {ZYDIS_MNEMONIC_UCOMISD, form<CompareToFlags<false>, Double>},
    };
    return rows;
}

}  // namespace kiln
