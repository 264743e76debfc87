// SSE floating-point arithmetic and comparison, single and double, scalar and packed (SDM vol.
// 1, 10.4, 11.4.1, 12.4, 12.9). Conversions and rounding are in sse_convert.cpp.
#include <cmath>

#include "cpu/evex_float.hpp"

namespace kiln {

void settleFlags(Cpu& c, uint32_t raised) {
    uint32_t unmasked = raised & ~(c.mxcsr >> mxcsr::kMaskShift);
    // An unmasked IE, DE or ZE stops the instruction before results exist that could overflow or be inexact.
    if (unmasked & (mxcsr::IE | mxcsr::DE | mxcsr::ZE)) raised &= mxcsr::IE | mxcsr::DE | mxcsr::ZE;
    c.mxcsr |= raised;
    if (unmasked) raise(c.cr4 & cr4::OSXMMEXCPT ? kXM : kUD);
}

namespace {

// Rows with kEvex are of families with lane(), see evex_float.hpp.
template <class Family, class Bits>
Handler scalar(const Shape& s) {
    if constexpr (requires(EvexFloat & f, FloatLane<Bits> l) { Family::lane(f, l); })
        if (s.evex()) return straight<evexScalar<Family, Bits>>;
    return byEncoding128(s, [&]<class E>() { return familyForm<Family, Bits, E>(s); });
}
template <class Family, class Bits>
Handler packed(const Shape& s) {
    if constexpr (requires(EvexFloat & f, FloatLane<Bits> l) { Family::lane(f, l); })
        if (s.evex()) return straight<evexPacked<Family, Bits>>;
    return byEncoding(s, [&]<class E>() { return familyForm<Family, Bits, E>(s); });
}
template <class E, class Bits>
Bits firstLow(const Cpu& c, const Insn& i) {
    return c.vec[E::first(i)].template get<Bits>(0);
}

// -- ADD, SUB, MUL, DIV
template <class Op>
struct Computed {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return compute<Op>(f.quick, f.e, l.a, l.b);
    }
    template <class Bits>
    static bool doubts(const Xmm& a, const Xmm& b) {
        const auto x = split<Bits>(a), y = split<Bits>(b);
        auto r = x;
        for (unsigned n = 0; n < x.size(); n++) r[n] = notMiddling(x[n]) | notMiddling(y[n]);
        Bits any = 0;
        for (Bits doubt : r) any |= doubt;
        return any & Format<Bits>::kSign;
    }
    template <class Bits>
    static Xmm part(const Xmm& a, const Xmm& b) {
        auto x = split<Bits>(a), y = split<Bits>(b);
        for (unsigned n = 0; n < x.size(); n++) x[n] = fromHost(Op::host(toHost(x[n]), toHost(y[n])));
        return join<Xmm>(x);
    }
};
template <class Op>
struct Scalar : Computed<Op> {
    template <class E, class Bits>
    static bool quick(Cpu& c, const Insn& i) {
        E::check(c);
        Bits a = firstLow<E, Bits>(c, i), b = c.vec[E::last(i)].template get<Bits>(0);
        if (!hostRounds(c) || (notMiddling(a) | notMiddling(b)) & Format<Bits>::kSign) return false;
        setLow<E>(c, i, fromHost(Op::host(toHost(a), toHost(b))));
        return true;
    }
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        Bits b = scalarSource<E, Bits, Source>(c, i), a = firstLow<E, Bits>(c, i);
        Ieee e(c.mxcsr);
        Bits r = compute<Op>(hostRounds(c), e, a, b);
        settle(c, e);
        setLow<E>(c, i, r);
    }
};
template <class Op>
struct Packed : Computed<Op> {
    template <class E, class Bits>
    static bool onHost(Cpu& c, const Insn& i, const typename E::V& b) {
        auto x = split<Bits>(E::get(c, E::first(i))), y = split<Bits>(b);
        auto doubts = x;
        for (unsigned n = 0; n < x.size(); n++) doubts[n] = notMiddling(x[n]) | notMiddling(y[n]);
        Bits doubt = 0;
        for (Bits d : doubts) doubt |= d;
        if (!hostRounds(c) || doubt & Format<Bits>::kSign) return false;
        for (unsigned n = 0; n < x.size(); n++) x[n] = fromHost(Op::host(toHost(x[n]), toHost(y[n])));
        E::set(c, i.a, join<typename E::V>(x));
        return true;
    }
    template <class E, class Bits>
    static bool quick(Cpu& c, const Insn& i) {
        E::check(c);
        return onHost<E, Bits>(c, i, E::get(c, E::last(i)));
    }
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        auto b = Source::template load<E>(c, i);
        if (onHost<E, Bits>(c, i, b)) return;
        auto x = split<Bits>(E::get(c, E::first(i))), y = split<Bits>(b);
        Ieee e(c.mxcsr);
        bool host = hostRounds(c);
        for (unsigned n = 0; n < x.size(); n++) x[n] = compute<Op>(host, e, x[n], y[n]);
        settle(c, e);
        E::set(c, i.a, join<typename E::V>(x));
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
struct Selected {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return select<Op>(f.e, l.a, l.b);
    }
};
template <class Op>
struct ScalarSelect : Selected<Op> {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        Bits b = scalarSource<E, Bits, Source>(c, i), a = firstLow<E, Bits>(c, i);
        Ieee e(c.mxcsr);
        Bits r = select<Op>(e, a, b);
        settle(c, e);
        setLow<E>(c, i, r);
    }
};
template <class Op>
struct PackedSelect : Selected<Op> {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        auto y = split<Bits>(Source::template load<E>(c, i)), x = split<Bits>(E::get(c, E::first(i)));
        Ieee e(c.mxcsr);
        for (unsigned n = 0; n < x.size(); n++) x[n] = select<Op>(e, x[n], y[n]);
        settle(c, e);
        E::set(c, i.a, join<typename E::V>(x));
    }
};

// -- one operand: SQRT, RCP, RSQRT
struct Sqrt {
    template <class Bits>
    static Bits of(bool quick, Ieee& e, Bits v) {
        if (quick) [[likely]] {
            Bits r =
                fromHost(std::sqrt(toHost(magnitude(v))));  // never of a negative: that would call for errno
            if (magnitude(v) == 0) return v;
            if (v == magnitude(v) && surelyNormal(r) && !isDenormal(v)) return r;
        }
        return e.sqrt(v);
    }
};
struct Rcp {
    static uint32_t of(bool, Ieee&, uint32_t v) { return approximateReciprocal(v); }
};
struct Rsqrt {
    static uint32_t of(bool, Ieee&, uint32_t v) { return approximateReciprocalSqrt(v); }
};
template <class Op>
struct Unary {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return Op::of(f.quick, f.e, l.b);
    }
};
template <class Op>
struct ScalarUnary : Unary<Op> {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        Ieee e(c.mxcsr);
        Bits r = Op::of(hostRounds(c), e, scalarSource<E, Bits, Source>(c, i));
        settle(c, e);
        setLow<E>(c, i, r);
    }
};
template <class Op>
struct PackedUnary : Unary<Op> {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        auto x = split<Bits>(Source::template load<E>(c, i));
        Ieee e(c.mxcsr);
        const bool quick = hostRounds(c);
        for (Bits& v : x) v = Op::of(quick, e, v);
        settle(c, e);
        E::set(c, i.a, join<typename E::V>(x));
    }
};

// -- HADD, HSUB, ADDSUB
template <class Op>
struct Horizontal {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        auto y = split<Bits>(Source::template load<E>(c, i)), x = split<Bits>(E::get(c, E::first(i)));
        auto r = x;
        constexpr unsigned lanes = kLanes<Bits, Xmm>, half = lanes / 2;  // within 128 bits
        Ieee e(c.mxcsr);
        bool quick = hostRounds(c);
        for (unsigned base = 0; base < r.size(); base += lanes)
            for (unsigned n = 0; n < half; n++) {
                r[base + n] = compute<Op>(quick, e, x[base + 2 * n], x[base + 2 * n + 1]);
                r[base + half + n] = compute<Op>(quick, e, y[base + 2 * n], y[base + 2 * n + 1]);
            }
        settle(c, e);
        E::set(c, i.a, join<typename E::V>(r));
    }
};
struct AddSub {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        auto y = split<Bits>(Source::template load<E>(c, i)), x = split<Bits>(E::get(c, E::first(i)));
        Ieee e(c.mxcsr);
        bool quick = hostRounds(c);
        for (unsigned n = 0; n < x.size(); n += 2) {
            x[n] = compute<Sub>(quick, e, x[n], y[n]);
            x[n + 1] = compute<Add>(quick, e, x[n + 1], y[n + 1]);
        }
        settle(c, e);
        E::set(c, i.a, join<typename E::V>(x));
    }
};

// DPPS, DPPD: imm 7..4 choose the products, 3..0 the lanes that get their sum. Exceptions are reported stage
// by stage. Every lane adds up for itself, in an order of its own: of several NaNs each may show another.
struct DotProduct {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        auto y = split<Bits>(Source::template load<E>(c, i)), x = split<Bits>(E::get(c, E::first(i)));
        constexpr unsigned lanes = kLanes<Bits, Xmm>;  // of a sum, and of the immediate's halves
        const uint32_t control = c.mxcsr;
        const bool quick = hostRounds(c);
        auto stage = [&](auto lane) {
            Ieee e(control);
            auto r = x;
            for (unsigned n = 0; n < r.size(); n++) r[n] = lane(e, n);
            settle(c, e);
            x = r;
        };
        stage([&](Ieee& e, unsigned n) {
            return i.imm >> (4 + n % lanes) & 1 ? compute<Mul>(quick, e, x[n], y[n]) : Bits(0);
        });
        if (lanes == 4) stage([&](Ieee& e, unsigned n) { return compute<Add>(quick, e, x[n ^ 1], x[n]); });
        stage([&](Ieee& e, unsigned n) { return compute<Add>(quick, e, x[n], x[n ^ lanes / 2]); });
        for (unsigned n = 0; n < x.size(); n++)
            if (!(i.imm >> n % lanes & 1)) x[n] = 0;
        E::set(c, i.a, join<typename E::V>(x));
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
// The 16 predicates by the orders that fulfil them, and the same 16 again with their attitude to quiet NaNs
// turned round (SDM vol. 2, table 3-1). SSE has the first eight.
template <class E, class Bits>
Bits predicate(Ieee& e, Bits a, Bits b, uint64_t imm) {
    constexpr uint8_t L = 1 << int(Order::Less), Q = 1 << int(Order::Equal), G = 1 << int(Order::Greater),
                      U = 1 << int(Order::Unordered);
    static constexpr uint8_t kHolds[16] = {
        Q,     L,     L | Q,     U, L | G | U, Q | G | U, G | U, L | Q | G,
        Q | U, L | U, L | Q | U, 0, L | G,     Q | G,     G,     L | Q | G | U};
    const unsigned code = imm & (E::kVex ? 31 : 7);
    const bool signalling = (code & 3) == 1 || (code & 3) == 2;
    bool holds = kHolds[code & 15] >> int(order(e, a, b, signalling != bool(code & 16))) & 1;
    return holds ? Bits(~Bits(0)) : Bits(0);
}
struct ScalarCompare {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        Bits b = scalarSource<E, Bits, Source>(c, i);
        Ieee e(c.mxcsr);
        Bits r = predicate<E>(e, firstLow<E, Bits>(c, i), b, i.imm);
        settle(c, e);
        setLow<E>(c, i, r);
    }
};
struct PackedCompare {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        auto y = split<Bits>(Source::template load<E>(c, i)), x = split<Bits>(E::get(c, E::first(i)));
        Ieee e(c.mxcsr);
        for (unsigned n = 0; n < x.size(); n++) x[n] = predicate<E>(e, x[n], y[n], i.imm);
        settle(c, e);
        E::set(c, i.a, join<typename E::V>(x));
    }
};
// CMPSD is the string instruction's name, too.
Handler cmpsd(const Shape& s) { return isXmm(s, 0) ? scalar<ScalarCompare, uint64_t>(s) : nullptr; }

struct CompareToMask {
    template <class Bits>
    static bool holds(EvexFloat& f, Bits a, Bits b, uint8_t imm) {
        return predicate<Vex128>(f.e, a, b, imm);
    }
};

// COMIS and UCOMIS: ZF, PF, CF tell the order; OF, SF, AF are cleared.
inline constexpr uint64_t kOrderFlags[4] = {flag::CF, flag::ZF, 0, flag::ZF | flag::PF | flag::CF};
template <bool signalQuiet>
struct CompareToFlags {
    template <class E, class Bits>
    static bool quick(Cpu& c, const Insn& i) {
        E::check(c);
        Bits a = c.vec[i.a].get<Bits>(0), b = c.vec[E::last(i)].template get<Bits>(0);
        if (!(plain(a) && plain(b))) return false;
        auto x = toHost(a), y = toHost(b);
        c.flags.setArithmetic(kOrderFlags[x < y ? 0 : x == y ? 1 : 2]);
        return true;
    }
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        Bits b = scalarSource<E, Bits, Source>(c, i);
        Ieee e(c.mxcsr);
        Order o = order(e, c.vec[i.a].get<Bits>(0), b, signalQuiet);
        settle(c, e);
        c.flags.setArithmetic(kOrderFlags[int(o)]);
    }
};
template <bool signalQuiet, class Bits>
void evexCompareToFlags(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const Bits b = EvexSource(c, i, x, 1, 1).template get<Bits>(0);
    EvexFloat f(c, x);
    const Order o = order(f.e, c.vec[i.a].get<Bits>(0), b, signalQuiet);
    f.settle();
    c.flags.setArithmetic(kOrderFlags[int(o)]);
}

}  // namespace

std::span<const Row> sseFloatRows() {
    using Single = uint32_t;
    using Double = uint64_t;
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_ADDSS, scalar<Scalar<Add>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_ADDSD, scalar<Scalar<Add>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_ADDPS, packed<Packed<Add>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_ADDPD, packed<Packed<Add>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SUBSS, scalar<Scalar<Sub>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SUBSD, scalar<Scalar<Sub>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SUBPS, packed<Packed<Sub>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SUBPD, packed<Packed<Sub>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MULSS, scalar<Scalar<Mul>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MULSD, scalar<Scalar<Mul>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MULPS, packed<Packed<Mul>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MULPD, packed<Packed<Mul>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_DIVSS, scalar<Scalar<Div>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_DIVSD, scalar<Scalar<Div>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_DIVPS, packed<Packed<Div>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_DIVPD, packed<Packed<Div>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MINSS, scalar<ScalarSelect<Min>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MINSD, scalar<ScalarSelect<Min>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MINPS, packed<PackedSelect<Min>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MINPD, packed<PackedSelect<Min>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MAXSS, scalar<ScalarSelect<Max>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MAXSD, scalar<ScalarSelect<Max>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MAXPS, packed<PackedSelect<Max>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MAXPD, packed<PackedSelect<Max>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SQRTSS, scalar<ScalarUnary<Sqrt>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SQRTSD, scalar<ScalarUnary<Sqrt>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SQRTPS, packed<PackedUnary<Sqrt>, Single>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SQRTPD, packed<PackedUnary<Sqrt>, Double>, kVex | kEvex},
        {ZYDIS_MNEMONIC_RCPSS, scalar<ScalarUnary<Rcp>, Single>, kVex},
        {ZYDIS_MNEMONIC_RCPPS, packed<PackedUnary<Rcp>, Single>, kVex},
        {ZYDIS_MNEMONIC_RSQRTSS, scalar<ScalarUnary<Rsqrt>, Single>, kVex},
        {ZYDIS_MNEMONIC_RSQRTPS, packed<PackedUnary<Rsqrt>, Single>, kVex},

        {ZYDIS_MNEMONIC_HADDPS, packed<Horizontal<Add>, Single>, kVex},
        {ZYDIS_MNEMONIC_HADDPD, packed<Horizontal<Add>, Double>, kVex},
        {ZYDIS_MNEMONIC_HSUBPS, packed<Horizontal<Sub>, Single>, kVex},
        {ZYDIS_MNEMONIC_HSUBPD, packed<Horizontal<Sub>, Double>, kVex},
        {ZYDIS_MNEMONIC_ADDSUBPS, packed<AddSub, Single>, kVex},
        {ZYDIS_MNEMONIC_ADDSUBPD, packed<AddSub, Double>, kVex},
        {ZYDIS_MNEMONIC_DPPS, packed<DotProduct, Single>, kVex},
        {ZYDIS_MNEMONIC_DPPD, packed<DotProduct, Double>, kVex},

        {ZYDIS_MNEMONIC_CMPSS, scalar<ScalarCompare, Single>, kVex},
        {ZYDIS_MNEMONIC_CMPSD, cmpsd, kVex},
        {ZYDIS_MNEMONIC_CMPPS, packed<PackedCompare, Single>, kVex},
        {ZYDIS_MNEMONIC_CMPPD, packed<PackedCompare, Double>, kVex},
        {ZYDIS_MNEMONIC_COMISS, scalar<CompareToFlags<true>, Single>, kVex},
        {ZYDIS_MNEMONIC_COMISD, scalar<CompareToFlags<true>, Double>, kVex},
        {ZYDIS_MNEMONIC_UCOMISS, scalar<CompareToFlags<false>, Single>, kVex},
        {ZYDIS_MNEMONIC_UCOMISD, scalar<CompareToFlags<false>, Double>, kVex},

        {ZYDIS_MNEMONIC_VCMPSS, only<evexFloatTest<CompareToMask, Single, true>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VCMPSD, only<evexFloatTest<CompareToMask, Double, true>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VCMPPS, only<evexFloatTest<CompareToMask, Single, false>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VCMPPD, only<evexFloatTest<CompareToMask, Double, false>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VCOMISS, only<evexCompareToFlags<true, Single>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VCOMISD, only<evexCompareToFlags<true, Double>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VUCOMISS, only<evexCompareToFlags<false, Single>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VUCOMISD, only<evexCompareToFlags<false, Double>>, kOnlyEvex},
    };
    return rows;
}

}  // namespace kiln
