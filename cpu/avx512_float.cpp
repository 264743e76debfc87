// AVX-512 floating-point instructions that SSE and AVX have no form of: exponents and significands, scaling,
// rounding to places, ranges, classes, repairs, approximations, BF16 products (SDM vol. 2).
#include "cpu/evex_float.hpp"

namespace kiln {
namespace {

using Single = uint32_t;
using Double = uint64_t;

struct GetExponent {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return f.e.exponentOf(l.b);
    }
};
struct GetMantissa {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return f.e.significandOf(l.b, l.imm & 3, l.imm >> 2 & 3);
    }
};
struct Scale {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return f.e.scale(l.a, l.b);
    }
};
// The immediate of VRNDSCALE and VREDUCE: 7..4 places, 3 don't report inexact results, 2 MXCSR's rounding,
// 1..0 rounding.
RoundingMode roundingOf(const EvexFloat& f, uint8_t imm) {
    return imm & 4 ? f.e.rounding() : RoundingMode(imm & 3);
}
struct RoundScale {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return f.e.roundToPlaces(l.b, l.imm >> 4, roundingOf(f, l.imm), !(l.imm & 8));
    }
};
struct Reduce {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return f.e.reduce(l.b, l.imm >> 4, roundingOf(f, l.imm), !(l.imm & 8));
    }
};
struct Range {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return f.e.range(l.a, l.b, l.imm);
    }
};
struct Reciprocal {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return reciprocal14(l.b, f.control);
    }
};
struct ReciprocalSqrt {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        return reciprocalSqrt14(l.b, f.control);
    }
};

template <class Bits>
Bits flushed(Bits v, uint32_t control) {
    return control & mxcsr::DAZ && isDenormal(v) ? Bits(v & Format<Bits>::kSign) : v;
}
template <class Bits>
constexpr Bits kOne = Bits(Format<Bits>::kBias) << Format<Bits>::kFraction;

// VFPCLASS: one of the classes that the immediate's bits choose.
struct Classify {
    template <class Bits>
    static bool holds(EvexFloat& f, Bits, Bits v, uint8_t imm) {
        using F = Format<Bits>;
        v = flushed(v, f.control);
        const bool sign = v & F::kSign, infinite = magnitude(v) == F::kInfinity;
        const unsigned classes = unsigned(isNan(v) && !isSignalling(v)) | unsigned(v == 0) << 1 |
                                 unsigned(v == F::kSign) << 2 | unsigned(infinite && !sign) << 3 |
                                 unsigned(infinite && sign) << 4 | unsigned(isDenormal(v)) << 5 |
                                 unsigned(sign && magnitude(v) && magnitude(v) < F::kInfinity) << 6 |
                                 unsigned(isSignalling(v)) << 7;
        return classes & imm;
    }
};

// VFIXUPIMM: what the first source is decides which of eight responses in the last one gives the result; the
// immediate says which of these cases are exceptions.
enum Token : uint8_t { QuietNan, SignallingNan, Zero, One, MinusInfinity, Infinity, Negative, Positive };
template <class Bits>
Token tokenOf(Bits v) {
    using F = Format<Bits>;
    if (isNan(v)) return isSignalling(v) ? SignallingNan : QuietNan;
    if (magnitude(v) == 0) return Zero;
    if (v == kOne<Bits>) return One;
    if (magnitude(v) == F::kInfinity) return v & F::kSign ? MinusInfinity : Infinity;
    return v & F::kSign ? Negative : Positive;
}
template <class Bits>
Bits response(unsigned code, Bits d, Bits v) {
    using F = Format<Bits>;
    constexpr bool isDouble = sizeof(Bits) == 8;
    switch (code) {
        case 0: return d;
        case 1: return v;
        case 2: return v | F::kInfinity | F::kQuiet;
        case 3: return F::kIndefinite;
        case 4: return F::kSign | F::kInfinity;
        case 5: return F::kInfinity;
        case 6: return (v & F::kSign) | F::kInfinity;
        case 7: return F::kSign;
        case 8: return 0;
        case 9: return F::kSign | kOne<Bits>;
        case 10: return kOne<Bits>;
        case 11: return kOne<Bits> - F::kMinNormal;
        case 12: return Bits(isDouble ? 0x4056800000000000 : 0x42b40000);  // 90
        case 13: return Bits(isDouble ? 0x3ff921fb54442d18 : 0x3fc90fdb);  // pi / 2
        case 14: return F::kLargest;
        default: return F::kSign | F::kLargest;
    }
}
struct Fixup {
    template <class Bits>
    static Bits lane(EvexFloat& f, const FloatLane<Bits>& l) {
        const Bits v = flushed(l.a, f.control);
        const Token token = tokenOf(v);
        // Bits of the immediate that make the case a division by zero, and an invalid operation.
        static constexpr uint8_t kDivision[8] = {0, 0, 1, 4, 0, 0, 0, 0};
        static constexpr uint8_t kInvalid[8] = {0, 16, 2, 8, 32, 128, 64, 0};
        if (l.imm & kDivision[token]) f.e.raised |= mxcsr::ZE;
        if (l.imm & kInvalid[token]) f.e.raised |= mxcsr::IE;
        return response(unsigned(l.b >> 4 * token & 15), l.d, v);
    }
};

// VDPBF16PS: two products of BF16 numbers added to a single, whatever MXCSR says: to nearest, denormals are
// zeros, nothing is reported.
struct DotBf16 {
    static Single of(Single d, Single a, Single b) {
        Ieee e(mxcsr::Masks | mxcsr::DAZ | mxcsr::FTZ);
        constexpr Single high = 0xffff0000;
        const Single sum = e.mulAdd(a & high, b & high, d, false, false);
        return e.mulAdd(a << 16, b << 16, sum, false, false);
    }
};
void dotBf16(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<Single>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    Vector r;
    forEach(mask, [&](unsigned n) {
        r.set<Single>(n, DotBf16::of(c.vec[i.a].get<Single>(n), c.vec[i.b].get<Single>(n), b.get<Single>(n)));
    });
    evexWrite(c, i.a, x, mask, r, count, kLog2<Single>);
}

#define KILN_ALL(name, Family)                                                      \
    {ZYDIS_MNEMONIC_##name##PS, only<evexPacked<Family, Single>>, kOnlyEvex},       \
        {ZYDIS_MNEMONIC_##name##PD, only<evexPacked<Family, Double>>, kOnlyEvex},   \
        {ZYDIS_MNEMONIC_##name##SS, only<evexScalar<Family, Single>>, kOnlyEvex}, { \
        ZYDIS_MNEMONIC_##name##SD, only<evexScalar<Family, Double>>, kOnlyEvex      \
    }

constexpr Row kRows[] = {
    KILN_ALL(VGETEXP, GetExponent),
    KILN_ALL(VGETMANT, GetMantissa),
    KILN_ALL(VSCALEF, Scale),
    KILN_ALL(VRNDSCALE, RoundScale),
    KILN_ALL(VREDUCE, Reduce),
    KILN_ALL(VRANGE, Range),
    KILN_ALL(VRCP14, Reciprocal),
    KILN_ALL(VRSQRT14, ReciprocalSqrt),
    KILN_ALL(VFIXUPIMM, Fixup),
    {ZYDIS_MNEMONIC_VFPCLASSPS, only<evexFloatTest<Classify, Single, false>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VFPCLASSPD, only<evexFloatTest<Classify, Double, false>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VFPCLASSSS, only<evexFloatTest<Classify, Single, true>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VFPCLASSSD, only<evexFloatTest<Classify, Double, true>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VDPBF16PS, only<dotBf16>, kOnlyEvex},
};

}  // namespace

std::span<const Row> avx512FloatRows() { return kRows; }

}  // namespace kiln
