// FMA: +-(x * y) +- z rounded once (SDM vol. 1, 14.5; vol. 2, VFMADD132PD and relatives).
#include <cmath>

#include "cpu/evex_float.hpp"

namespace kiln {
namespace {

enum class Addend { Plus, Minus, MinusPlus, PlusMinus };  // the last two: even lanes first

template <class Bits>
Bits fused(bool quick, Ieee& e, Bits x, Bits y, Bits z, bool negateProduct, bool negateAddend) {
    if (quick && !isDenormal(x) && !isDenormal(y) && !isDenormal(z)) [[likely]] {
        constexpr Bits sign = Format<Bits>::kSign;
        Bits r = fromHost(std::fma(toHost(Bits(negateProduct ? x ^ sign : x)), toHost(y),
                                   toHost(Bits(negateAddend ? z ^ sign : z))));
        if (surelyNormal(r)) return r;
    }
    return e.mulAdd(x, y, z, negateProduct, negateAddend);
}

// The number of a form tells which operands are x, y and z: 132, 213, 231.
template <unsigned order, bool negateProduct, Addend addend>
struct Fma {
    template <class Bits>
    static Bits of(bool quick, Ieee& e, Bits one, Bits two, Bits three, unsigned lane) {
        const bool minus = addend == Addend::Minus || (addend == Addend::MinusPlus && lane % 2 == 0) ||
                           (addend == Addend::PlusMinus && lane % 2 == 1);
        if (order == 132) return fused(quick, e, one, three, two, negateProduct, minus);
        if (order == 213) return fused(quick, e, two, one, three, negateProduct, minus);
        return fused(quick, e, two, three, one, negateProduct, minus);
    }
};
template <class Op>
struct Fused {
    static constexpr bool kKeepsDestination = true;
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return Op::of(f.quick, f.e, l.d, l.a, l.b, l.n);
    }
};
template <class Op>
struct Packed {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        auto three = split<Bits>(Source::template load<E>(c, i));
        auto one = split<Bits>(E::get(c, i.a)), two = split<Bits>(E::get(c, i.b));
        Ieee e(c.mxcsr);
        const bool quick = hostRounds(c);
        for (unsigned n = 0; n < one.size(); n++) one[n] = Op::of(quick, e, one[n], two[n], three[n], n);
        settle(c, e);
        E::set(c, i.a, join<typename E::V>(one));
    }
};
template <class Op>
struct Scalar {
    template <class E, class Bits, class Source>
    static void run(Cpu& c, const Insn& i) {
        E::check(c);
        Bits three = scalarSource<E, Bits, Source>(c, i);
        Xmm r = getXmm(c, i.a);
        Ieee e(c.mxcsr);
        r.set<Bits>(0, Op::of(hostRounds(c), e, r.get<Bits>(0), c.vec[i.b].template get<Bits>(0), three, 0));
        settle(c, e);
        E::set(c, i.a, r);
    }
};

template <class Bits, unsigned order, bool negateProduct, Addend addend>
Handler packed(const Shape& s) {
    if (s.evex()) return straight<evexPacked<Fused<Fma<order, negateProduct, addend>>, Bits>>;
    return byVexLength(
        s, [&]<class E>() { return familyForm<Packed<Fma<order, negateProduct, addend>>, Bits, E>(s); });
}
template <class Bits, unsigned order, bool negateProduct, Addend addend>
Handler scalar(const Shape& s) {
    if (s.evex()) return straight<evexScalar<Fused<Fma<order, negateProduct, addend>>, Bits>>;
    return familyForm<Scalar<Fma<order, negateProduct, addend>>, Bits, Vex128>(s);
}

}  // namespace

std::span<const Row> fmaRows() {
    using Single = uint32_t;
    using Double = uint64_t;
#define KILN_PACKED(name, order, negate, addend)                                                \
    {ZYDIS_MNEMONIC_##name##order##PS, packed<Single, order, negate, Addend::addend>, kEvex}, { \
        ZYDIS_MNEMONIC_##name##order##PD, packed<Double, order, negate, Addend::addend>, kEvex  \
    }
#define KILN_SCALAR(name, order, negate, addend)                                                \
    {ZYDIS_MNEMONIC_##name##order##SS, scalar<Single, order, negate, Addend::addend>, kEvex}, { \
        ZYDIS_MNEMONIC_##name##order##SD, scalar<Double, order, negate, Addend::addend>, kEvex  \
    }
#define KILN_ORDERS(KIND, name, negate, addend) \
    KIND(name, 132, negate, addend), KIND(name, 213, negate, addend), KIND(name, 231, negate, addend)
    static constexpr Row rows[] = {
        KILN_ORDERS(KILN_PACKED, VFMADD, false, Plus),
        KILN_ORDERS(KILN_SCALAR, VFMADD, false, Plus),
        KILN_ORDERS(KILN_PACKED, VFMSUB, false, Minus),
        KILN_ORDERS(KILN_SCALAR, VFMSUB, false, Minus),
        KILN_ORDERS(KILN_PACKED, VFNMADD, true, Plus),
        KILN_ORDERS(KILN_SCALAR, VFNMADD, true, Plus),
        KILN_ORDERS(KILN_PACKED, VFNMSUB, true, Minus),
        KILN_ORDERS(KILN_SCALAR, VFNMSUB, true, Minus),
        KILN_ORDERS(KILN_PACKED, VFMADDSUB, false, MinusPlus),
        KILN_ORDERS(KILN_PACKED, VFMSUBADD, false, PlusMinus),
    };
#undef KILN_PACKED
#undef KILN_SCALAR
#undef KILN_ORDERS
    return rows;
}

}  // namespace kiln
