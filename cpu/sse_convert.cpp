// SSE conversions between single, double and integers, and ROUNDxx (SDM vol. 1, 4.8.4.2, 11.4.1.6, 12.8.5).
#include "cpu/sse_float.hpp"

namespace kiln {
namespace {

using Single = uint32_t;
using Double = uint64_t;

// -- one lane, the common cases done by the host

template <class Int, class Bits>
Int truncated(Cpu& c, Ieee& e, Bits v) {
    constexpr auto limit = HostFloat<Bits>(1ull << (8 * sizeof(Int) - 2)) * 2;
    auto x = toHost(v);
    if (x > -limit && x < limit) [[likely]] {
        auto r = Int(x);
        if (HostFloat<Bits>(r) == x && !isDenormal(v)) return r;
        if ((c.mxcsr & (mxcsr::PE | mxcsr::PE << mxcsr::kMaskShift)) ==
            (mxcsr::PE | mxcsr::PE << mxcsr::kMaskShift))
            return r;
    }
    return e.toInteger<Int>(v, RoundingMode::Truncate);
}
template <class Int, class Bits>
Int rounded(Cpu&, Ieee& e, Bits v) {
    constexpr auto limit = HostFloat<Bits>(1ull << (8 * sizeof(Int) - 2)) * 2;
    auto x = toHost(v);
    if (x > -limit && x < limit && HostFloat<Bits>(Int(x)) == x && !isDenormal(v)) return Int(x);
    return e.toInteger<Int>(v, e.rounding());
}
template <class Int, class Bits, bool truncate>
Int toInteger(Cpu& c, Ieee& e, Bits v) {
    return truncate ? truncated<Int>(c, e, v) : rounded<Int>(c, e, v);
}

template <class Bits, class Int>
Bits fromInteger(Cpu& c, Ieee& e, Int v) {
    constexpr int64_t exact = int64_t(1)
                              << (Format<Bits>::kFraction + 1);  // integers up to here need no rounding
    if ((v > -exact && v < exact) || hostRounds(c)) [[likely]]
        return fromHost(HostFloat<Bits>(v));
    return e.fromInteger<Bits>(v);
}

template <class To, class From>
To resized(Cpu& c, Ieee& e, From v) {
    if constexpr (sizeof(To) == 8) {
        if (plain(v)) [[likely]]
            return fromHost(double(toHost(v)));
        return e.resize<To>(v);
    } else {
        if (hostRounds(c) && surelyNormal(v)) [[likely]] {
            To r = fromHost(float(toHost(v)));
            if (surelyNormal(r)) [[likely]]
                return r;
        }
        return e.resize<To>(v);
    }
}

// -- between general and XMM registers

template <class E, class Int, class Bits, bool truncate, class Source>
void floatToGeneral(Cpu& c, const Insn& i) {
    E::check(c);
    Bits v = scalarSource<E, Bits, Source>(c, i);
    Ieee e(c.mxcsr);
    auto r = std::make_unsigned_t<Int>(toInteger<Int, Bits, truncate>(c, e, v));
    settle(c, e);
    c.gpr.set(i.a, r);
}
template <class Bits, bool truncate>
Handler toGeneral(const Shape& s) {
    return byEncoding128(s, [&]<class E>() {
        if (s.bits(0) == 64)
            return s.isMem(1) ? straight<floatToGeneral<E, int64_t, Bits, truncate, FromMem>>
                              : straight<floatToGeneral<E, int64_t, Bits, truncate, FromReg>>;
        return s.isMem(1) ? straight<floatToGeneral<E, int32_t, Bits, truncate, FromMem>>
                          : straight<floatToGeneral<E, int32_t, Bits, truncate, FromReg>>;
    });
}

template <class E, class Bits, class Int, class Source>
void generalToFloat(Cpu& c, const Insn& i) {
    E::check(c);
    auto v = Int(Source::template load<std::make_unsigned_t<Int>>(c, i));
    Ieee e(c.mxcsr);
    Bits r = fromInteger<Bits>(c, e, v);
    settle(c, e);
    setLow<E>(c, i, r);
}
template <class Bits>
Handler fromGeneral(const Shape& s) {
    return byEncoding128(s, [&]<class E>() {
        if (s.bits(s.vex() ? 2 : 1) == 64)
            return hasMemory(s) ? straight<generalToFloat<E, Bits, int64_t, Mem>>
                                : straight<generalToFloat<E, Bits, int64_t, GeneralReg<E>>>;
        return hasMemory(s) ? straight<generalToFloat<E, Bits, int32_t, Mem>>
                            : straight<generalToFloat<E, Bits, int32_t, GeneralReg<E>>>;
    });
}

// -- scalars: the other lanes are the first source's
template <class E, class To, class From, class Source>
void scalarResize(Cpu& c, const Insn& i) {
    E::check(c);
    From v = scalarSource<E, From, Source>(c, i);
    Ieee e(c.mxcsr);
    To r = resized<To>(c, e, v);
    settle(c, e);
    setLow<E>(c, i, r);
}
template <class To, class From>
Handler scalar(const Shape& s) {
    return byEncoding128(s, [&]<class E>() {
        return hasMemory(s) ? straight<scalarResize<E, To, From, FromMem>>
                            : straight<scalarResize<E, To, From, FromReg>>;
    });
}

// -- vectors: as many lanes as the wider of both has; lanes above are cleared

template <class To, class From, bool truncate>
To convertLane(Cpu& c, Ieee& e, From v) {
    if constexpr (std::is_signed_v<From>)
        return fromInteger<To>(c, e, v);
    else if constexpr (std::is_signed_v<To>)
        return toInteger<To, From, truncate>(c, e, v);
    else
        return resized<To>(c, e, v);
}
template <class To, class From, bool truncate, size_t lanes, class V>
V convertLanes(Cpu& c, const std::array<From, lanes>& source, V result) {
    Ieee e(c.mxcsr);
    for (unsigned n = 0; n < lanes; n++)
        result.template set<To>(n, convertLane<To, From, truncate>(c, e, source[n]));
    settle(c, e);
    return result;
}
template <class E, class To, class From, bool truncate, class Source>
void vectorConvert(Cpu& c, const Insn& i) {
    using V = typename E::V;
    E::check(c);
    constexpr unsigned lanes = sizeof(V) / (sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From));
    E::set(c, i.a, convertLanes<To, From, truncate>(c, loadElements<E, From, lanes, Source>(c, i), V{}));
}
template <class To, class From, bool truncate = false>
Handler packed(const Shape& s) {
    return byEncoding(s, [&]<class E>() {
        return s.isMem(1) ? straight<vectorConvert<E, To, From, truncate, FromMem>>
                          : straight<vectorConvert<E, To, From, truncate, FromReg>>;
    });
}

// -- two lanes between MM and XMM registers. A memory source leaves the x87 registers alone.
using Pair = std::array<int32_t, 2>;

template <class Bits>
void mmToXmm(Cpu& c, const Insn& i) {
    c.checkSse();
    c.checkMmx();
    enterMmx(c);
    auto source = std::bit_cast<Pair>(Mmx::get(c, i.b).q);
    setXmm(c, i.a, convertLanes<Bits, int32_t, false>(c, source, getXmm(c, i.a)));
}
template <class Bits>
void memToXmm(Cpu& c, const Insn& i) {
    c.checkSse();
    auto source = std::bit_cast<Pair>(c.loadOperand<uint64_t>(i));
    setXmm(c, i.a, convertLanes<Bits, int32_t, false>(c, source, getXmm(c, i.a)));
}
template <class Bits>
Handler fromMm(const Shape& s) {
    return s.isMem(1) ? straight<memToXmm<Bits>> : straight<mmToXmm<Bits>>;
}
template <class Bits, bool truncate, class Source>
void xmmToMm(Cpu& c, const Insn& i) {
    c.checkSse();
    c.checkMmx();
    auto source = loadElements<Sse, Bits, 2, Source>(c, i);
    enterMmx(c);
    setMm(c, i.a, convertLanes<int32_t, Bits, truncate>(c, source, Xmm{}).q[0]);
}
template <class Bits, bool truncate>
Handler toMm(const Shape& s) {
    return s.isMem(1) ? straight<xmmToMm<Bits, truncate, FromMem>>
                      : straight<xmmToMm<Bits, truncate, FromReg>>;
}

// -- ROUNDxx: imm 1..0 mode, 2 MXCSR's mode instead, 3 don't report inexact results
template <class Bits>
Bits roundLane(Ieee& e, Bits v, uint8_t imm) {
    return e.roundToIntegral(v, imm & 4 ? e.rounding() : RoundingMode(imm & 3), !(imm & 8));
}
template <class E, class Bits, class Source>
void roundScalar(Cpu& c, const Insn& i) {
    E::check(c);
    Bits v = scalarSource<E, Bits, Source>(c, i);
    Ieee e(c.mxcsr);
    Bits r = roundLane(e, v, uint8_t(i.imm));
    settle(c, e);
    setLow<E>(c, i, r);
}
template <class E, class Bits, class Source>
void roundVector(Cpu& c, const Insn& i) {
    E::check(c);
    auto lanes = split<Bits>(Source::template load<E>(c, i));
    Ieee e(c.mxcsr);
    for (Bits& lane : lanes) lane = roundLane(e, lane, uint8_t(i.imm));
    settle(c, e);
    E::set(c, i.a, join<typename E::V>(lanes));
}
template <class Bits>
Handler roundOne(const Shape& s) {
    return byEncoding128(s, [&]<class E>() {
        return hasMemory(s) ? straight<roundScalar<E, Bits, FromMem>>
                            : straight<roundScalar<E, Bits, FromReg>>;
    });
}
template <class Bits>
Handler roundAll(const Shape& s) {
    return byEncoding(s, [&]<class E>() {
        return hasMemory(s) ? straight<roundVector<E, Bits, FromMem>>
                            : straight<roundVector<E, Bits, FromReg>>;
    });
}

}  // namespace

std::span<const Row> sseConvertRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_CVTSI2SS, fromGeneral<Single>, kVex},
        {ZYDIS_MNEMONIC_CVTSI2SD, fromGeneral<Double>, kVex},
        {ZYDIS_MNEMONIC_CVTSS2SI, toGeneral<Single, false>, kVex},
        {ZYDIS_MNEMONIC_CVTSD2SI, toGeneral<Double, false>, kVex},
        {ZYDIS_MNEMONIC_CVTTSS2SI, toGeneral<Single, true>, kVex},
        {ZYDIS_MNEMONIC_CVTTSD2SI, toGeneral<Double, true>, kVex},
        {ZYDIS_MNEMONIC_CVTSS2SD, scalar<Double, Single>, kVex},
        {ZYDIS_MNEMONIC_CVTSD2SS, scalar<Single, Double>, kVex},

        {ZYDIS_MNEMONIC_CVTPS2PD, packed<Double, Single>, kVex},
        {ZYDIS_MNEMONIC_CVTPD2PS, packed<Single, Double>, kVex},
        {ZYDIS_MNEMONIC_CVTDQ2PS, packed<Single, int32_t>, kVex},
        {ZYDIS_MNEMONIC_CVTDQ2PD, packed<Double, int32_t>, kVex},
        {ZYDIS_MNEMONIC_CVTPS2DQ, packed<int32_t, Single>, kVex},
        {ZYDIS_MNEMONIC_CVTPD2DQ, packed<int32_t, Double>, kVex},
        {ZYDIS_MNEMONIC_CVTTPS2DQ, packed<int32_t, Single, true>, kVex},
        {ZYDIS_MNEMONIC_CVTTPD2DQ, packed<int32_t, Double, true>, kVex},

        {ZYDIS_MNEMONIC_CVTPI2PS, fromMm<Single>},
        {ZYDIS_MNEMONIC_CVTPI2PD, fromMm<Double>},
        {ZYDIS_MNEMONIC_CVTPS2PI, toMm<Single, false>},
        {ZYDIS_MNEMONIC_CVTPD2PI, toMm<Double, false>},
        {ZYDIS_MNEMONIC_CVTTPS2PI, toMm<Single, true>},
        {ZYDIS_MNEMONIC_CVTTPD2PI, toMm<Double, true>},

        {ZYDIS_MNEMONIC_ROUNDSS, roundOne<Single>, kVex},
        {ZYDIS_MNEMONIC_ROUNDSD, roundOne<Double>, kVex},
        {ZYDIS_MNEMONIC_ROUNDPS, roundAll<Single>, kVex},
        {ZYDIS_MNEMONIC_ROUNDPD, roundAll<Double>, kVex},
    };
    return rows;
}

}  // namespace kiln
