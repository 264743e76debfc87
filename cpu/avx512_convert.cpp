// AVX-512 conversions, packed and scalar: half, single, double, BF16, integers of 32 and 64 bits with and
// without sign (SDM vol. 2, VCVT...).
#include "cpu/evex_float.hpp"

namespace kiln {
namespace {

using Half = uint16_t;
using Single = uint32_t;
using Double = uint64_t;
using I32 = int32_t;
using I64 = int64_t;
// Unsigned integers, told apart from floating-point numbers.
enum class U32 : uint32_t {};
enum class U64 : uint64_t {};

// -- one element
template <class To>
struct Rounded {
    template <class From>
    static To of(EvexFloat& f, From v, uint8_t) {
        if constexpr (std::is_enum_v<To>)
            return To(f.e.toInteger<std::underlying_type_t<To>>(v, f.e.rounding()));
        else
            return f.e.toInteger<To>(v, f.e.rounding());
    }
};
template <class To>
struct Truncated {
    template <class From>
    static To of(EvexFloat& f, From v, uint8_t) {
        if constexpr (std::is_enum_v<To>)
            return To(f.e.toInteger<std::underlying_type_t<To>>(v, RoundingMode::Truncate));
        else
            return f.e.toInteger<To>(v, RoundingMode::Truncate);
    }
};
template <class To>
struct FromInteger {
    template <class From>
    static To of(EvexFloat& f, From v, uint8_t) {
        if constexpr (std::is_enum_v<From>)
            return f.e.fromUnsigned<To>(uint64_t(v));
        else
            return f.e.fromInteger<To>(v);
    }
};
template <class To>
struct Resized {
    template <class From>
    static To of(EvexFloat& f, From v, uint8_t) {
        return f.e.resize<To>(v);
    }
};
// Every half is a normal single: DAZ does not apply, and denormals are not reported.
template <>
template <>
Single Resized<Single>::of(EvexFloat& f, Half v, uint8_t) {
    Ieee e(f.control & ~mxcsr::DAZ);
    const Single r = e.resize<Single>(v);
    f.e.raised |= e.raised & ~mxcsr::DE;
    return r;
}
// Imm 1..0 rounding, 2 MXCSR's rounding instead; see f16c.cpp for the rest.
template <>
template <>
Half Resized<Half>::of(EvexFloat& f, Single v, uint8_t imm) {
    uint32_t control = f.control & ~mxcsr::FTZ;
    if (!(imm & 4)) control = (control & ~mxcsr::Rounding) | (imm & 3u) << mxcsr::kRoundingShift;
    Ieee e(control);
    const Half r = e.resize<Half>(v);
    if (isDenormal(v) && !(control & mxcsr::DAZ)) e.raised |= mxcsr::PE;
    f.e.raised |= e.raised;
    return r;
}

// -- vectors: as many elements as the wider type has
template <class To, class From>
unsigned countOf(Evex x) {
    return x.bytes() / (sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From));
}
template <class To, class From, class F>
Vector converted(Cpu& c, const Insn& i, Evex x, uint64_t mask, const Vector& source) {
    EvexFloat f(c, x);
    Vector r;
    forEach(mask, [&](unsigned n) { r.set<To>(n, F::of(f, source.get<From>(n), uint8_t(i.imm))); });
    f.settle();
    return r;
}
template <class To, class From, class F>
void convert(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = countOf<To, From>(x);
    const uint64_t mask = x.mask(c, count);
    const Vector r = converted<To, From, F>(c, i, x, mask, EvexSource(c, i, x, mask, count));
    evexWrite(c, i.a, x, mask, r, count, kLog2<To>);
}
void singlesToHalvesInMemory(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = countOf<Half, Single>(x);
    const uint64_t mask = x.mask(c, count);
    const Vector r = converted<Half, Single, Resized<Half>>(c, i, x, mask, c.vec[i.b]);
    evexStore(c, i, x, mask, r, count, kLog2<Half>);
}
Handler singlesToHalves(const Shape& s) {
    return s.isMem(0) ? straight<singlesToHalvesInMemory> : straight<convert<Half, Single, Resized<Half>>>;
}

// -- scalars
template <class To, class From>
void resizeScalar(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const uint64_t mask = x.mask(c, 1);
    const From v = EvexSource(c, i, x, mask, 1).template get<From>(0);
    EvexFloat f(c, x);
    const To r = mask ? Resized<To>::of(f, v, 0) : To(0);
    f.settle();
    evexSetLow(c, i, x, mask, r, i.b);
}
template <class Int, class From, class F>
void toGeneral(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const From v = EvexSource(c, i, x, 1, 1).template get<From>(0);
    EvexFloat f(c, x);
    const Int r = F::of(f, v, 0);
    f.settle();
    c.gpr.set(i.a, std::conditional_t<sizeof(Int) == 8, uint64_t, uint32_t>(r));
}
template <class From, template <class> class F, class Narrow, class Wide>
Handler toGeneralForm(const Shape& s) {
    return s.bits(0) == 64 ? straight<toGeneral<Wide, From, F<Wide>>>
                           : straight<toGeneral<Narrow, From, F<Narrow>>>;
}
template <class To, class Int>
void fromGeneral(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    using Word = std::conditional_t<sizeof(Int) == 8, uint64_t, uint32_t>;
    const Int v = Int(x.memory() ? c.loadOperand<Word>(i) : c.gpr.get<Word>(i.c));
    EvexFloat f(c, x);
    const To r = FromInteger<To>::of(f, v, 0);
    f.settle();
    evexSetLow(c, i, x, 1, r, i.b);
}
template <class To, class Narrow, class Wide>
Handler fromGeneralForm(const Shape& s) {
    return s.bits(2) == 64 ? straight<fromGeneral<To, Wide>> : straight<fromGeneral<To, Narrow>>;
}

// -- BF16: to nearest, denormals are zeros, nothing is reported
Half toBf16(Single v) {
    using F = Format<Single>;
    if (isNan(v)) return Half((v | F::kQuiet) >> 16);
    if (isDenormal(v)) v &= F::kSign;
    return Half((v + 0x7fff + (v >> 16 & 1)) >> 16);
}
void singlesToBf16(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<Single>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    Vector r;
    for (unsigned n = 0; n < count; n++) r.set<Half>(n, toBf16(b.get<Single>(n)));
    evexWrite(c, i.a, x, mask, r, count, kLog2<Half>);
}
void twoVectorsToBf16(Cpu& c, const Insn& i) {  // the last source's elements below
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<Half>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    Vector r;
    for (unsigned n = 0; n < count / 2; n++) {
        r.set<Half>(n, toBf16(b.get<Single>(n)));
        r.set<Half>(count / 2 + n, toBf16(c.vec[i.b].get<Single>(n)));
    }
    evexWrite(c, i.a, x, mask, r, count, kLog2<Half>);
}

#define KILN_FROM_FLOAT(name, To, From)                                               \
    {ZYDIS_MNEMONIC_VCVT##name, only<convert<To, From, Rounded<To>>>, kOnlyEvex}, {   \
        ZYDIS_MNEMONIC_VCVTT##name, only<convert<To, From, Truncated<To>>>, kOnlyEvex \
    }
#define KILN_TO_FLOAT(name, To, From) \
    { ZYDIS_MNEMONIC_VCVT##name, only<convert<To, From, FromInteger<To>>>, kOnlyEvex }

constexpr Row kRows[] = {
    KILN_FROM_FLOAT(PS2DQ, I32, Single),
    KILN_FROM_FLOAT(PS2UDQ, U32, Single),
    KILN_FROM_FLOAT(PS2QQ, I64, Single),
    KILN_FROM_FLOAT(PS2UQQ, U64, Single),
    KILN_FROM_FLOAT(PD2DQ, I32, Double),
    KILN_FROM_FLOAT(PD2UDQ, U32, Double),
    KILN_FROM_FLOAT(PD2QQ, I64, Double),
    KILN_FROM_FLOAT(PD2UQQ, U64, Double),
    KILN_TO_FLOAT(DQ2PS, Single, I32),
    KILN_TO_FLOAT(UDQ2PS, Single, U32),
    KILN_TO_FLOAT(QQ2PS, Single, I64),
    KILN_TO_FLOAT(UQQ2PS, Single, U64),
    KILN_TO_FLOAT(DQ2PD, Double, I32),
    KILN_TO_FLOAT(UDQ2PD, Double, U32),
    KILN_TO_FLOAT(QQ2PD, Double, I64),
    KILN_TO_FLOAT(UQQ2PD, Double, U64),
    {ZYDIS_MNEMONIC_VCVTPS2PD, only<convert<Double, Single, Resized<Double>>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTPD2PS, only<convert<Single, Double, Resized<Single>>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTPH2PS, only<convert<Single, Half, Resized<Single>>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTPS2PH, singlesToHalves, kOnlyEvex},

    {ZYDIS_MNEMONIC_VCVTSS2SD, only<resizeScalar<Double, Single>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTSD2SS, only<resizeScalar<Single, Double>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTSS2SI, toGeneralForm<Single, Rounded, I32, I64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTSD2SI, toGeneralForm<Double, Rounded, I32, I64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTTSS2SI, toGeneralForm<Single, Truncated, I32, I64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTTSD2SI, toGeneralForm<Double, Truncated, I32, I64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTSS2USI, toGeneralForm<Single, Rounded, U32, U64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTSD2USI, toGeneralForm<Double, Rounded, U32, U64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTTSS2USI, toGeneralForm<Single, Truncated, U32, U64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTTSD2USI, toGeneralForm<Double, Truncated, U32, U64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTSI2SS, fromGeneralForm<Single, I32, I64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTSI2SD, fromGeneralForm<Double, I32, I64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTUSI2SS, fromGeneralForm<Single, U32, U64>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTUSI2SD, fromGeneralForm<Double, U32, U64>, kOnlyEvex},

    {ZYDIS_MNEMONIC_VCVTNEPS2BF16, only<singlesToBf16>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCVTNE2PS2BF16, only<twoVectorsToBf16>, kOnlyEvex},
};

}  // namespace

std::span<const Row> avx512ConvertRows() { return kRows; }

}  // namespace kiln
