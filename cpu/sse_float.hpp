// Floating-point lanes under MXCSR: the host's arithmetic where its result and the exception flags are
// certain to be the guest's, else Ieee's (SDM vol. 1, 11.5).
//
// Certain is: rounding to nearest, everything masked and the inexact flag already set (so it needn't be known
// whether the result is exact), no denormal operand, and a result that is normal with room to spare, or an
// evident zero.
#pragma once
#include <bit>
#include <cfloat>

#include "cpu/ieee_float.hpp"
#include "cpu/simd.hpp"

namespace kiln {

static_assert(FLT_EVAL_METHOD == 0, "the host must compute float and double in their own precision");

// Adds the flags to MXCSR; raises #XM (#UD without CR4.OSXMMEXCPT) when one is unmasked.
void settleFlags(Cpu& c, uint32_t raised);
inline void settle(Cpu& c, const Ieee& e) {
    if (e.raised) [[unlikely]]
        settleFlags(c, e.raised);
}

inline bool hostRounds(const Cpu& c) {
    return (c.mxcsr & (mxcsr::Masks | mxcsr::Rounding | mxcsr::PE)) == (mxcsr::Masks | mxcsr::PE);
}

template <class Bits>
using HostFloat = std::conditional_t<sizeof(Bits) == 4, float, double>;
template <class Bits>
HostFloat<Bits> toHost(Bits v) {
    return std::bit_cast<HostFloat<Bits>>(v);
}
template <class F>
auto fromHost(F v) {
    return std::bit_cast<std::conditional_t<sizeof v == 4, uint32_t, uint64_t>>(v);
}

// Normal, and not the smallest one, which may have been tiny before it was rounded.
template <class Bits>
bool surelyNormal(Bits v) {
    using F = Format<Bits>;
    return Bits(magnitude(v) - (F::kMinNormal + 1)) < Bits(F::kInfinity - F::kMinNormal - 1);
}
// Neither NaN nor denormal: comparisons raise nothing.
template <class Bits>
bool plain(Bits v) {
    return !isDenormal(v) && magnitude(v) <= Format<Bits>::kInfinity;
}

struct Add {
    template <class F>
    static F host(F a, F b) {
        return a + b;
    }
    template <class Bits>
    static Bits exact(Ieee& e, Bits a, Bits b) {
        return e.add(a, b);
    }
    static constexpr bool kZeroIsExact = true;
};
struct Sub {
    template <class F>
    static F host(F a, F b) {
        return a - b;
    }
    template <class Bits>
    static Bits exact(Ieee& e, Bits a, Bits b) {
        return e.sub(a, b);
    }
    static constexpr bool kZeroIsExact = true;
};
struct Mul {
    template <class F>
    static F host(F a, F b) {
        return a * b;
    }
    template <class Bits>
    static Bits exact(Ieee& e, Bits a, Bits b) {
        return e.mul(a, b);
    }
    static constexpr bool kZeroIsExact = false;
};
struct Div {
    template <class F>
    static F host(F a, F b) {
        return a / b;
    }
    template <class Bits>
    static Bits exact(Ieee& e, Bits a, Bits b) {
        return e.div(a, b);
    }
    static constexpr bool kZeroIsExact = false;
};

// Whether the host's result is the guest's and only inexactness may have to be reported.
template <class Op, class Bits>
bool hostIsExact(Bits a, Bits b, Bits result) {
    bool zero = magnitude(result) == 0 && (Op::kZeroIsExact || magnitude(a) == 0 || magnitude(b) == 0);
    return (surelyNormal(result) || zero) && !isDenormal(a) && !isDenormal(b);
}

// Middling numbers are those of such a size that sums, products and quotients of two are normal, or zero by
// cancellation. The top bit of the result is set for the others: vectors of lanes are tested without a
// branch.
template <class Bits>
Bits notMiddling(Bits v) {
    using F = Format<Bits>;
    constexpr Bits span = F::kBias / 2 - 3;
    Bits above = (v >> F::kFraction & (2 * F::kBias + 1)) - (F::kBias - span);
    return above | (2 * span - 1 - above);
}

template <class Op, class Bits>
Bits compute(bool quick, Ieee& e, Bits a, Bits b) {
    if (quick) [[likely]] {
        Bits r = fromHost(Op::host(toHost(a), toHost(b)));
        if (hostIsExact<Op>(a, b, r)) [[likely]]
            return r;
    }
    return Op::exact(e, a, b);
}

// The low lane of the last operand; from memory no more than that is read.
template <class E, class Bits, class Source>
Bits scalarSource(Cpu& c, const Insn& i) {
    if constexpr (std::is_same_v<Source, FromReg>)
        return c.vec[E::last(i)].template get<Bits>(0);
    else
        return c.loadOperand<Bits>(i);
}

// The register forms' handler: when `quick` can't do it, the whole body runs instead. Nothing has to survive
// a call on the quick way, so it needs no stack frame.
template <bool (*quick)(Cpu&, const Insn&), Body whole>
void quickly(Cpu& c, const Insn* i) {
    c.at = i;
    if (!quick(c, *i)) [[unlikely]]
        return straight<whole>(c, i);
    KILN_DISPATCH(c, i + 1);
}

// A family has run<E, Bits, Source> and, for registers, may have quick<E, Bits>.
template <class Family, class Bits, class E>
Handler familyForm(const Shape& s) {
    if (hasMemory(s)) return straight<Family::template run<E, Bits, FromMem>>;
    if constexpr (requires(Cpu & c, const Insn& i) { Family::template quick<E, Bits>(c, i); })
        return quickly<Family::template quick<E, Bits>, Family::template run<E, Bits, FromReg>>;
    else
        return straight<Family::template run<E, Bits, FromReg>>;
}
}  // namespace kiln
