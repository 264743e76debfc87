// The packed-integer instructions that exist for MM and for XMM registers: MMX, and what SSE, SSE2 and SSSE3
// added to both (SDM vol. 1, chapter 9, 10.4.4, 11.4.2, 12.5). Moves are in sse_move.cpp.
#include <limits>

#include "cpu/evex_elements.hpp"
#include "cpu/lane_ops.hpp"
#include "cpu/simd.hpp"

namespace kiln {
namespace {

using namespace lane;

template <class T>
T saturate(int32_t v) {
    constexpr int32_t low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
    return T(v < low ? low : v > high ? high : v);
}
template <class T>
using Wide = std::conditional_t<std::is_signed_v<T>, std::conditional_t<sizeof(T) == 2, int32_t, int16_t>,
                                std::conditional_t<sizeof(T) == 2, uint32_t, uint16_t>>;

// -- arithmetic, lane by lane
struct AddWrap {
    template <class T>
    static T of(T a, T b) {
        return T(a + b);
    }
};
struct SubWrap {
    template <class T>
    static T of(T a, T b) {
        return T(a - b);
    }
};
struct AddSaturate {
    template <class T>
    static T of(T a, T b) {
        return saturate<T>(int32_t(a) + int32_t(b));
    }
};
struct SubSaturate {
    template <class T>
    static T of(T a, T b) {
        return saturate<T>(int32_t(a) - int32_t(b));
    }
};
struct MulLow {
    template <class T>
    static T of(T a, T b) {
        return T(uint32_t(a) * uint32_t(b));
    }
};
struct MulHigh {
    template <class T>
    static T of(T a, T b) {
        return T(Wide<T>(Wide<T>(a) * Wide<T>(b)) >> 16);
    }
};
struct MulHighRounded {  // PMULHRSW: 15-bit fractions
    static int16_t of(int16_t a, int16_t b) { return int16_t(((a * b >> 14) + 1) >> 1); }
};
struct Average {
    template <class T>
    static T of(T a, T b) {
        return T((uint32_t(a) + uint32_t(b) + 1) >> 1);
    }
};
struct Sign {  // a with b's sign multiplied in
    template <class T>
    static T of(T a, T b) {
        return T(b < 0 ? 0 - std::make_unsigned_t<T>(a) : b == 0 ? 0 : a);
    }
};
struct Absolute {
    template <class T>
    static T of(T a) {
        return T(a < 0 ? 0 - std::make_unsigned_t<T>(a) : a);
    }
};

// -- sums of products
struct MultiplyAddWords {  // PMADDWD
    template <class V>
    static V run(const V& a, const V& b) {
        auto x = split<int32_t>(a), y = split<int32_t>(b);
        for (unsigned n = 0; n < x.size(); n++)
            x[n] = int32_t(uint32_t(int16_t(x[n]) * int16_t(y[n])) + uint32_t((x[n] >> 16) * (y[n] >> 16)));
        return join<V>(x);
    }
};
struct MultiplyAddBytes {  // PMADDUBSW: unsigned destination, signed source
    template <class V>
    static V run(const V& a, const V& b) {
        auto x = split<uint8_t>(a);
        auto y = split<int8_t>(b);
        std::array<int16_t, kLanes<int16_t, V>> r;
        for (unsigned n = 0; n < r.size(); n++)
            r[n] = saturate<int16_t>(x[2 * n] * y[2 * n] + x[2 * n + 1] * y[2 * n + 1]);
        return join<V>(r);
    }
};
struct MultiplyEvenUnsigned {  // PMULUDQ
    template <class V>
    static V run(const V& a, const V& b) {
        auto x = split<uint32_t>(a), y = split<uint32_t>(b);
        std::array<uint64_t, kLanes<uint64_t, V>> r;
        for (unsigned n = 0; n < r.size(); n++) r[n] = uint64_t(x[2 * n]) * y[2 * n];
        return join<V>(r);
    }
};
struct SumOfDifferences {  // PSADBW
    template <class V>
    static V run(const V& a, const V& b) {
        auto x = split<uint8_t>(a), y = split<uint8_t>(b);
        for (unsigned n = 0; n < sizeof(V); n++) x[n] = uint8_t(x[n] > y[n] ? x[n] - y[n] : y[n] - x[n]);
        auto r = std::bit_cast<std::array<uint64_t, kLanes<uint64_t, V>>>(x);
        for (uint64_t& q : r) {
            q = (q & 0x00ff00ff00ff00ff) + (q >> 8 & 0x00ff00ff00ff00ff);
            q = q * 0x0001000100010001 >> 48;  // the four words' sum arrives at the top
        }
        return join<V>(r);
    }
};
// Neighbours are combined; destination pairs fill the low half, source pairs the high one.
template <class T, class F>
struct Horizontal {
    template <class V>
    static V run(const V& a, const V& b) {
        auto x = split<T>(a), y = split<T>(b);
        auto r = x;
        constexpr unsigned half = kLanes<T, V> / 2;
        for (unsigned n = 0; n < half; n++) {
            r[n] = F::of(x[2 * n], x[2 * n + 1]);
            r[half + n] = F::of(y[2 * n], y[2 * n + 1]);
        }
        return join<V>(r);
    }
};

// -- packing and unpacking
template <class From, class To>
struct Pack {
    template <class V>
    static V run(const V& a, const V& b) {
        constexpr From low = std::numeric_limits<To>::min(), high = std::numeric_limits<To>::max();
        auto x = split<From>(a), y = split<From>(b);
        constexpr unsigned half = kLanes<From, V>;
        std::array<To, 2 * half> r;
        for (unsigned n = 0; n < half; n++) {
            x[n] = x[n] < low ? low : x[n] > high ? high : x[n];
            y[n] = y[n] < low ? low : y[n] > high ? high : y[n];
        }
        for (unsigned n = 0; n < half; n++) r[n] = To(x[n]);
        for (unsigned n = 0; n < half; n++) r[half + n] = To(y[n]);
        return join<V>(r);
    }
};
template <class T, bool high>
struct Interleave {
    template <class V>
    static V run(const V& a, const V& b) {
        auto x = split<T>(a), y = split<T>(b);
        auto r = x;
        constexpr unsigned half = kLanes<T, V> / 2, first = high ? half : 0;
        for (unsigned n = 0; n < half; n++) {
            r[2 * n] = x[first + n];
            r[2 * n + 1] = y[first + n];
        }
        return join<V>(r);
    }
};
// The MM forms of PUNPCKL read only 32 bits of memory.
template <class T>
Handler interleaveLow(const Shape& s) {
    if (isMm(s, 0)) return vectorForm<Mmx, Interleave<T, false>, FromLow<uint32_t>>(s);
    return xmm<Interleave<T, false>>(s);
}
struct ShuffleBytes {  // PSHUFB
    template <class V>
    static V run(const V& a, const V& b) {
        uint8_t table[2 * sizeof(V)] = {};  // the upper half stays zero
        std::memcpy(table, &a, sizeof a);
        auto r = split<uint8_t>(b);
        for (uint8_t& n : r) n = table[(n & (sizeof(V) - 1)) | (n & 0x80) / (128 / sizeof(V))];
        return join<V>(r);
    }
};
struct AlignRight {  // PALIGNR: bytes imm.. of destination:source
    using Wide = unsigned __int128;
    static Mm run(const Mm& a, const Mm& b, uint8_t imm) {
        return {imm > 15 ? 0 : uint64_t((Wide(a.q) << 64 | b.q) >> 8 * imm)};
    }
    static Xmm run(const Xmm& a, const Xmm& b, uint8_t imm) {
        if (imm == 0) return b;
        auto x = std::bit_cast<Wide>(a), y = std::bit_cast<Wide>(b);
        Wide r = imm > 31 ? 0 : imm > 15 ? x >> 8 * (imm - 16) : x << 8 * (16 - imm) | y >> 8 * imm;
        return std::bit_cast<Xmm>(r);
    }
};
struct ShuffleWordsMm {  // PSHUFW
    static Mm run(const Mm&, const Mm& b, uint8_t imm) {
        auto y = split<uint16_t>(b);
        auto r = y;
        for (unsigned n = 0; n < 4; n++) r[n] = y[imm >> 2 * n & 3];
        return join<Mm>(r);
    }
};

// -- shifts: one count for all lanes, from the low quadword of operand 2 or an immediate
template <class T, class F, class V>
V shiftLanes(const V& a, uint64_t count) {
    auto x = split<T>(a);
    for (auto& lane : x) lane = F::of(lane, count);
    return join<V>(x);
}
template <class E, class T, class F, class Source>
void shiftByCount(Cpu& c, const Insn& i) {
    E::check(c);
    // The count is 128 bits wide with YMM registers, too.
    uint64_t count = Source::template load<typename E::Narrow>(c, i).template get<uint64_t>(0);
    E::settle(c);
    E::set(c, i.a, shiftLanes<T, F>(E::get(c, E::first(i)), count));
}
template <class E, class T, class F>
void shiftByImmediate(Cpu& c, const Insn& i) {
    E::check(c);
    E::settle(c);
    E::set(c, i.a, shiftLanes<T, F>(E::get(c, E::first(i)), uint8_t(i.imm)));
}
// Under EVEX the count is 128 bits wide as well, and the immediate's form has its source in memory, too.
template <class T, class F>
void evexShiftByCount(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const uint64_t n = x.memory() ? c.loadOperand<Xmm>(i).q[0] : c.vec[i.c].q[0];
    const unsigned count = x.count<T>();
    Vector r = c.vec[i.b];
    for (unsigned k = 0; k < count; k++) r.set<T>(k, F::of(r.get<T>(k), n));
    evexWrite(c, i.a, x, x.mask(c, count), r, count, kLog2<T>);
}
template <class T, class F>
Handler shift(const Shape& s) {
    if (s.evex()) return s.isImm(2) ? straight<evexByImmediate<T, F>> : straight<evexShiftByCount<T, F>>;
    auto form = [&]<class E>() {
        if (hasMemory(s)) return straight<shiftByCount<E, T, F, FromMem>>;
        return s.isImm(E::kVex ? 2 : 1) ? straight<shiftByImmediate<E, T, F>>
                                        : straight<shiftByCount<E, T, F, FromReg>>;
    };
    return isMm(s, 0) ? form.template operator()<Mmx>() : byEncoding(s, form);
}

void emms(Cpu& c, const Insn&) {
    c.checkMmx();
    c.fpu.setTop(0);
    c.fpu.empty = 0xff;
}

}  // namespace

std::span<const Row> mmxRows() {
    using I8 = int8_t;
    using I16 = int16_t;
    using I32 = int32_t;
    using U8 = uint8_t;
    using U16 = uint16_t;
    using U32 = uint32_t;
    using U64 = uint64_t;
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_PADDB, mmOrXmm<Lanes<U8, AddWrap>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PADDW, mmOrXmm<Lanes<U16, AddWrap>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PADDD, mmOrXmm<Lanes<U32, AddWrap>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PADDQ, mmOrXmm<Lanes<U64, AddWrap>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSUBB, mmOrXmm<Lanes<U8, SubWrap>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSUBW, mmOrXmm<Lanes<U16, SubWrap>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSUBD, mmOrXmm<Lanes<U32, SubWrap>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSUBQ, mmOrXmm<Lanes<U64, SubWrap>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PADDSB, mmOrXmm<Lanes<I8, AddSaturate>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PADDSW, mmOrXmm<Lanes<I16, AddSaturate>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PADDUSB, mmOrXmm<Lanes<U8, AddSaturate>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PADDUSW, mmOrXmm<Lanes<U16, AddSaturate>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSUBSB, mmOrXmm<Lanes<I8, SubSaturate>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSUBSW, mmOrXmm<Lanes<I16, SubSaturate>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSUBUSB, mmOrXmm<Lanes<U8, SubSaturate>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSUBUSW, mmOrXmm<Lanes<U16, SubSaturate>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMULLW, mmOrXmm<Lanes<U16, MulLow>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMULHW, mmOrXmm<Lanes<I16, MulHigh>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMULHUW, mmOrXmm<Lanes<U16, MulHigh>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMULHRSW, mmOrXmm<Lanes<I16, MulHighRounded>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMULUDQ, mmOrXmm<MultiplyEvenUnsigned>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMADDWD, mmOrXmm<MultiplyAddWords>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMADDUBSW, mmOrXmm<MultiplyAddBytes>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSADBW, mmOrXmm<SumOfDifferences>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PAVGB, mmOrXmm<Lanes<U8, Average>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PAVGW, mmOrXmm<Lanes<U16, Average>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMINUB, mmOrXmm<Lanes<U8, Min>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMAXUB, mmOrXmm<Lanes<U8, Max>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMINSW, mmOrXmm<Lanes<I16, Min>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMAXSW, mmOrXmm<Lanes<I16, Max>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSIGNB, mmOrXmm<Lanes<I8, Sign>>, kVex},
        {ZYDIS_MNEMONIC_PSIGNW, mmOrXmm<Lanes<I16, Sign>>, kVex},
        {ZYDIS_MNEMONIC_PSIGND, mmOrXmm<Lanes<I32, Sign>>, kVex},
        {ZYDIS_MNEMONIC_PABSB, mmOrXmm<Each<I8, Absolute>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PABSW, mmOrXmm<Each<I16, Absolute>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PABSD, mmOrXmm<Each<I32, Absolute>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PHADDW, mmOrXmm<Horizontal<U16, AddWrap>>, kVex},
        {ZYDIS_MNEMONIC_PHADDD, mmOrXmm<Horizontal<U32, AddWrap>>, kVex},
        {ZYDIS_MNEMONIC_PHADDSW, mmOrXmm<Horizontal<I16, AddSaturate>>, kVex},
        {ZYDIS_MNEMONIC_PHSUBW, mmOrXmm<Horizontal<U16, SubWrap>>, kVex},
        {ZYDIS_MNEMONIC_PHSUBD, mmOrXmm<Horizontal<U32, SubWrap>>, kVex},
        {ZYDIS_MNEMONIC_PHSUBSW, mmOrXmm<Horizontal<I16, SubSaturate>>, kVex},

        {ZYDIS_MNEMONIC_PCMPEQB, mmOrXmm<Lanes<I8, Equal>>, kVex},
        {ZYDIS_MNEMONIC_PCMPEQW, mmOrXmm<Lanes<I16, Equal>>, kVex},
        {ZYDIS_MNEMONIC_PCMPEQD, mmOrXmm<Lanes<I32, Equal>>, kVex},
        {ZYDIS_MNEMONIC_PCMPGTB, mmOrXmm<Lanes<I8, Greater>>, kVex},
        {ZYDIS_MNEMONIC_PCMPGTW, mmOrXmm<Lanes<I16, Greater>>, kVex},
        {ZYDIS_MNEMONIC_PCMPGTD, mmOrXmm<Lanes<I32, Greater>>, kVex},
        {ZYDIS_MNEMONIC_PAND, mmOrXmm<Lanes<U64, And>>, kVex},
        {ZYDIS_MNEMONIC_PANDN, mmOrXmm<Lanes<U64, AndNot>>, kVex},
        {ZYDIS_MNEMONIC_POR, mmOrXmm<Lanes<U64, Or>>, kVex},
        {ZYDIS_MNEMONIC_PXOR, mmOrXmm<Lanes<U64, Xor>>, kVex},

        {ZYDIS_MNEMONIC_PACKSSWB, mmOrXmm<Pack<I16, I8>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PACKSSDW, mmOrXmm<Pack<I32, I16>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PACKUSWB, mmOrXmm<Pack<I16, U8>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PUNPCKLBW, interleaveLow<U8>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PUNPCKLWD, interleaveLow<U16>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PUNPCKLDQ, interleaveLow<U32>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PUNPCKHBW, mmOrXmm<Interleave<U8, true>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PUNPCKHWD, mmOrXmm<Interleave<U16, true>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PUNPCKHDQ, mmOrXmm<Interleave<U32, true>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSHUFB, mmOrXmm<ShuffleBytes>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PALIGNR, mmOrXmm<AlignRight>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSHUFW, mm<ShuffleWordsMm>},

        {ZYDIS_MNEMONIC_PSLLW, shift<U16, ShiftLeft>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSLLD, shift<U32, ShiftLeft>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSLLQ, shift<U64, ShiftLeft>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSRLW, shift<U16, ShiftRight>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSRLD, shift<U32, ShiftRight>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSRLQ, shift<U64, ShiftRight>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSRAW, shift<I16, ShiftRight>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSRAD, shift<I32, ShiftRight>, kVex | kEvex},

        {ZYDIS_MNEMONIC_VPSRAQ, shift<int64_t, ShiftRight>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPABSQ, xmm<Each<int64_t, Absolute>>, kOnlyEvex},

        {ZYDIS_MNEMONIC_EMMS, only<emms>},
    };
    return rows;
}

}  // namespace kiln
