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
        return e.widen(v);
    } else {
        if (hostRounds(c) && surelyNormal(v)) [[likely]] {
            To r = fromHost(float(toHost(v)));
            if (surelyNormal(r)) [[likely]]
                return r;
        }
        return e.narrow(v);
    }
}

// -- between general and XMM registers

template <class Int, class Bits, bool truncate, class Source>
void floatToGeneral(Cpu& c, const Insn& i) {
    c.checkSse();
    Bits v = Source::template load<Xmm>(c, i).template get<Bits>(0);
    Ieee e(c.mxcsr);
    auto r = std::make_unsigned_t<Int>(toInteger<Int, Bits, truncate>(c, e, v));
    settle(c, e);
    c.gpr.set(i.a, r);
}
template <class Bits, bool truncate>
Handler toGeneral(const Shape& s) {
    if (s.bits(0) == 64)
        return s.isMem(1) ? straight<floatToGeneral<int64_t, Bits, truncate, FromLow<Bits>>>
                          : straight<floatToGeneral<int64_t, Bits, truncate, FromReg>>;
    return s.isMem(1) ? straight<floatToGeneral<int32_t, Bits, truncate, FromLow<Bits>>>
                      : straight<floatToGeneral<int32_t, Bits, truncate, FromReg>>;
}

template <class Bits, class Int, class Source>
void generalToFloat(Cpu& c, const Insn& i) {
    c.checkSse();
    auto v = Int(Source::template load<std::make_unsigned_t<Int>>(c, i));
    Ieee e(c.mxcsr);
    Bits r = fromInteger<Bits>(c, e, v);
    settle(c, e);
    c.vec[i.a].set<Bits>(0, r);
}
template <class Bits>
Handler fromGeneral(const Shape& s) {
    if (s.bits(1) == 64)
        return s.isMem(1) ? straight<generalToFloat<Bits, int64_t, Mem>>
                          : straight<generalToFloat<Bits, int64_t, RegB>>;
    return s.isMem(1) ? straight<generalToFloat<Bits, int32_t, Mem>>
                      : straight<generalToFloat<Bits, int32_t, RegB>>;
}

// -- scalars: the other lanes stay
template <class To, class From, class Source>
void scalarResize(Cpu& c, const Insn& i) {
    c.checkSse();
    From v = Source::template load<Xmm>(c, i).template get<From>(0);
    Ieee e(c.mxcsr);
    To r = resized<To>(c, e, v);
    settle(c, e);
    c.vec[i.a].set<To>(0, r);
}
template <class To, class From>
Handler scalar(const Shape& s) {
    return s.isMem(1) ? straight<scalarResize<To, From, FromLow<From>>>
                      : straight<scalarResize<To, From, FromReg>>;
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
template <class To, class From, bool truncate>
Xmm convertLanes(Cpu& c, const Xmm& source, unsigned lanes, Xmm result) {
    Ieee e(c.mxcsr);
    for (unsigned n = 0; n < lanes; n++)
        result.set<To>(n, convertLane<To, From, truncate>(c, e, source.get<From>(n)));
    settle(c, e);
    return result;
}
template <class To, class From, bool truncate, class Source>
void vectorConvert(Cpu& c, const Insn& i) {
    c.checkSse();
    constexpr unsigned lanes = 16 / (sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From));
    setXmm(c, i.a, convertLanes<To, From, truncate>(c, Source::template load<Xmm>(c, i), lanes, Xmm{}));
}
template <class To, class From, bool truncate = false>
Handler packed(const Shape& s) {
    using FromMemory = std::conditional_t<(sizeof(To) > sizeof(From)), FromLow<uint64_t>, FromMem>;
    return s.isMem(1) ? straight<vectorConvert<To, From, truncate, FromMemory>>
                      : straight<vectorConvert<To, From, truncate, FromReg>>;
}

// -- two lanes between MM and XMM registers. A memory source leaves the x87 registers alone.
template <class Bits>
void mmToXmm(Cpu& c, const Insn& i) {
    c.checkSse();
    c.checkMmx();
    enterMmx(c);
    Xmm source{{getVector<Mm>(c, i.b).q, 0}};
    setXmm(c, i.a, convertLanes<Bits, int32_t, false>(c, source, 2, getXmm(c, i.a)));
}
template <class Bits>
void memToXmm(Cpu& c, const Insn& i) {
    c.checkSse();
    Xmm source{{c.loadOperand<uint64_t>(i), 0}};
    setXmm(c, i.a, convertLanes<Bits, int32_t, false>(c, source, 2, getXmm(c, i.a)));
}
template <class Bits>
Handler fromMm(const Shape& s) {
    return s.isMem(1) ? straight<memToXmm<Bits>> : straight<mmToXmm<Bits>>;
}
template <class Bits, bool truncate, class Source>
void xmmToMm(Cpu& c, const Insn& i) {
    c.checkSse();
    c.checkMmx();
    Xmm source = Source::template load<Xmm>(c, i);
    enterMmx(c);
    setMm(c, i.a, convertLanes<int32_t, Bits, truncate>(c, source, 2, Xmm{}).q[0]);
}
template <class Bits, bool truncate>
Handler toMm(const Shape& s) {
    using FromMemory = std::conditional_t<sizeof(Bits) == 4, FromLow<uint64_t>, FromMem>;
    return s.isMem(1) ? straight<xmmToMm<Bits, truncate, FromMemory>>
                      : straight<xmmToMm<Bits, truncate, FromReg>>;
}

// -- ROUNDxx: imm 1..0 mode, 2 MXCSR's mode instead, 3 don't report inexact results
template <class Bits>
Bits roundLane(Ieee& e, Bits v, uint8_t imm) {
    return e.roundToIntegral(v, imm & 4 ? e.rounding() : RoundingMode(imm & 3), !(imm & 8));
}
template <class Bits, unsigned lanes, class Source>
void roundLanes(Cpu& c, const Insn& i) {
    c.checkSse();
    Xmm source = Source::template load<Xmm>(c, i), r = getXmm(c, i.a);
    Ieee e(c.mxcsr);
    for (unsigned n = 0; n < lanes; n++) r.set<Bits>(n, roundLane(e, source.get<Bits>(n), uint8_t(i.imm)));
    settle(c, e);
    setXmm(c, i.a, r);
}
template <class Bits, unsigned lanes>
Handler round(const Shape& s) {
    using FromMemory = std::conditional_t<lanes == 1, FromLow<Bits>, FromMem>;
    return s.isMem(1) ? straight<roundLanes<Bits, lanes, FromMemory>>
                      : straight<roundLanes<Bits, lanes, FromReg>>;
}

}  // namespace

std::span<const Row> sseConvertRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_CVTSI2SS, fromGeneral<Single>},
        {ZYDIS_MNEMONIC_CVTSI2SD, fromGeneral<Double>},
        {ZYDIS_MNEMONIC_CVTSS2SI, toGeneral<Single, false>},
        {ZYDIS_MNEMONIC_CVTSD2SI, toGeneral<Double, false>},
        {ZYDIS_MNEMONIC_CVTTSS2SI, toGeneral<Single, true>},
        {ZYDIS_MNEMONIC_CVTTSD2SI, toGeneral<Double, true>},
        {ZYDIS_MNEMONIC_CVTSS2SD, scalar<Double, Single>},
        {ZYDIS_MNEMONIC_CVTSD2SS, scalar<Single, Double>},

        {ZYDIS_MNEMONIC_CVTPS2PD, packed<Double, Single>},
        {ZYDIS_MNEMONIC_CVTPD2PS, packed<Single, Double>},
        {ZYDIS_MNEMONIC_CVTDQ2PS, packed<Single, int32_t>},
        {ZYDIS_MNEMONIC_CVTDQ2PD, packed<Double, int32_t>},
        {ZYDIS_MNEMONIC_CVTPS2DQ, packed<int32_t, Single>},
        {ZYDIS_MNEMONIC_CVTPD2DQ, packed<int32_t, Double>},
        {ZYDIS_MNEMONIC_CVTTPS2DQ, packed<int32_t, Single, true>},
        {ZYDIS_MNEMONIC_CVTTPD2DQ, packed<int32_t, Double, true>},

        {ZYDIS_MNEMONIC_CVTPI2PS, fromMm<Single>},
        {ZYDIS_MNEMONIC_CVTPI2PD, fromMm<Double>},
        {ZYDIS_MNEMONIC_CVTPS2PI, toMm<Single, false>},
        {ZYDIS_MNEMONIC_CVTPD2PI, toMm<Double, false>},
        {ZYDIS_MNEMONIC_CVTTPS2PI, toMm<Single, true>},
        {ZYDIS_MNEMONIC_CVTTPD2PI, toMm<Double, true>},

        {ZYDIS_MNEMONIC_ROUNDSS, round<Single, 1>},
        {ZYDIS_MNEMONIC_ROUNDSD, round<Double, 1>},
        {ZYDIS_MNEMONIC_ROUNDPS, round<Single, 4>},
        {ZYDIS_MNEMONIC_ROUNDPD, round<Double, 2>},
    };
    return rows;
}

}  // namespace kiln
