// Packed-integer instructions that exist for XMM registers only: the rest of SSE2, SSE4.1 and SSE4.2 (SDM
// vol. 1, 11.4.2, 12.8 to 12.12), and the logical instructions on floating-point vectors, which don't care
// what the bits mean.
#include <limits>

#include "cpu/lane_ops.hpp"
#include "cpu/simd.hpp"

namespace kiln {
namespace {

using namespace lane;

template <class F>
using Logic = Lanes<uint64_t, F>;

struct MulLow {
    template <class T>
    static T of(T a, T b) {
        return a * b;
    }
};
struct MultiplyEvenSigned {  // PMULDQ
    static Xmm run(const Xmm& a, const Xmm& b) {
        auto even = [](const Xmm& v, unsigned n) { return int64_t(v.get<int32_t>(2 * n)); };
        return {{uint64_t(even(a, 0) * even(b, 0)), uint64_t(even(a, 1) * even(b, 1))}};
    }
};

// -- widening: the low lanes of From become lanes of To
template <class E, class From, class To, class Source>
void extendLanes(Cpu& c, const Insn& i) {
    E::check(c);
    constexpr unsigned count = kLanes<To, typename E::V>;
    auto x = loadElements<E, From, count, Source>(c, i);
    std::array<To, count> r;
    for (unsigned n = 0; n < count; n++) r[n] = To(x[n]);
    E::set(c, i.a, join<typename E::V>(r));
}
template <class From, class To>
void evexExtend(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<To>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource source(c, i, x, mask, count);
    Vector r;
    for (unsigned n = 0; n < count; n++) r.set<To>(n, To(source.get<From>(n)));
    evexWrite(c, i.a, x, mask, r, count, kLog2<To>);
}
template <class From, class To>
Handler extend(const Shape& s) {
    if (s.evex()) return straight<evexExtend<From, To>>;
    return byEncoding(s, [&]<class E>() {
        return s.isMem(1) ? straight<extendLanes<E, From, To, FromMem>>
                          : straight<extendLanes<E, From, To, FromReg>>;
    });
}

struct PackUnsignedDwords {  // PACKUSDW
    static Xmm run(const Xmm& a, const Xmm& b) {
        auto clamp = [](int32_t v) { return uint16_t(v < 0 ? 0 : v > 0xffff ? 0xffff : v); };
        Xmm r;
        for (unsigned n = 0; n < 4; n++) {
            r.set<uint16_t>(n, clamp(a.get<int32_t>(n)));
            r.set<uint16_t>(4 + n, clamp(b.get<int32_t>(n)));
        }
        return r;
    }
};
struct MinimumPosition {  // PHMINPOSUW: the smallest word and its index
    static Xmm run(const Xmm&, const Xmm& b) {
        auto x = split<uint16_t>(b);
        unsigned best = 0;
        for (unsigned n = 1; n < 8; n++)
            if (x[n] < x[best]) best = n;
        return {{uint64_t(best) << 16 | x[best], 0}};
    }
};
// MPSADBW: eight sums of four absolute differences, a sliding window over the destination against one group
// of the source.
struct MultipleSumsOfDifferences {
    static constexpr unsigned kImmediateBits = 3;
    static Xmm run(const Xmm& a, const Xmm& b, uint8_t imm) {
        auto x = split<uint8_t>(a), y = split<uint8_t>(b);
        unsigned group = (imm & 3) * 4, start = (imm & 4) ? 4 : 0;
        std::array<uint16_t, 8> r{};
        for (unsigned n = 0; n < 8; n++)
            for (unsigned k = 0; k < 4; k++) {
                int d = x[start + n + k] - y[group + k];
                r[n] = uint16_t(r[n] + (d < 0 ? -d : d));
            }
        return join<Xmm>(r);
    }
};

// -- shifts by whole bytes
Xmm shiftBits(const Xmm& v, int bits) {
    auto wide = std::bit_cast<unsigned __int128>(v.q);
    return Xmm{std::bit_cast<std::array<uint64_t, 2>>(bits < 0 ? wide >> -bits : wide << bits)};
}
template <int direction>
struct ShiftBytes {
    static Xmm run(const Xmm& a, const Xmm&, uint8_t imm) {
        return imm > 15 ? Xmm{} : shiftBits(a, direction * 8 * imm);
    }
};
template <int direction>
Handler shiftBytes(const Shape& s) {
    if (s.evex()) return straight<evexBody<ShiftBytes<direction>, true>>;
    return byEncoding(s, [&]<class E>() { return straight<vectorBody<E, ShiftBytes<direction>, FromReg>>; });
}

template <class E, class Source>
void ptest(Cpu& c, const Insn& i) {
    E::check(c);
    auto b = Source::template load<E>(c, i), a = E::get(c, i.a);
    uint64_t both = 0, onlySource = 0;
    for (unsigned n = 0; n < a.q.size(); n++) {
        both |= a.q[n] & b.q[n];
        onlySource |= ~a.q[n] & b.q[n];
    }
    c.flags.setArithmetic((both ? 0 : flag::ZF) | (onlySource ? 0 : flag::CF));
}

}  // namespace

std::span<const Row> sseIntegerRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_ANDPS, xmm<Logic<And>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_ANDPD, xmm<Logic<And>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_ANDNPS, xmm<Logic<AndNot>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_ANDNPD, xmm<Logic<AndNot>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_ORPS, xmm<Logic<Or>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_ORPD, xmm<Logic<Or>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_XORPS, xmm<Logic<Xor>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_XORPD, xmm<Logic<Xor>>, kVex | kEvex},

        {ZYDIS_MNEMONIC_VPANDD, xmm<Logic<And>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPANDQ, xmm<Logic<And>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPANDND, xmm<Logic<AndNot>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPANDNQ, xmm<Logic<AndNot>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPORD, xmm<Logic<Or>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPORQ, xmm<Logic<Or>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPXORD, xmm<Logic<Xor>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPXORQ, xmm<Logic<Xor>>, kOnlyEvex},

        {ZYDIS_MNEMONIC_PMINSB, xmm<Lanes<int8_t, Min>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMINSD, xmm<Lanes<int32_t, Min>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMINUW, xmm<Lanes<uint16_t, Min>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMINUD, xmm<Lanes<uint32_t, Min>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMAXSB, xmm<Lanes<int8_t, Max>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMAXSD, xmm<Lanes<int32_t, Max>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMAXUW, xmm<Lanes<uint16_t, Max>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMAXUD, xmm<Lanes<uint32_t, Max>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_VPMINSQ, xmm<Lanes<int64_t, Min>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPMINUQ, xmm<Lanes<uint64_t, Min>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPMAXSQ, xmm<Lanes<int64_t, Max>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPMAXUQ, xmm<Lanes<uint64_t, Max>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_PMULLD, xmm<Lanes<uint32_t, MulLow>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_VPMULLQ, xmm<Lanes<uint64_t, MulLow>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_PMULDQ, xmm<MultiplyEvenSigned>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PCMPEQQ, xmm<Lanes<uint64_t, Equal>>, kVex},
        {ZYDIS_MNEMONIC_PCMPGTQ, xmm<Lanes<int64_t, Greater>>, kVex},
        {ZYDIS_MNEMONIC_PACKUSDW, xmm<PackUnsignedDwords>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PHMINPOSUW, xmm128<MinimumPosition>, kVex},
        {ZYDIS_MNEMONIC_MPSADBW, xmm<MultipleSumsOfDifferences>, kVex},

        {ZYDIS_MNEMONIC_PMOVSXBW, extend<int8_t, int16_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVSXBD, extend<int8_t, int32_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVSXBQ, extend<int8_t, int64_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVSXWD, extend<int16_t, int32_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVSXWQ, extend<int16_t, int64_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVSXDQ, extend<int32_t, int64_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVZXBW, extend<uint8_t, uint16_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVZXBD, extend<uint8_t, uint32_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVZXBQ, extend<uint8_t, uint64_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVZXWD, extend<uint16_t, uint32_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVZXWQ, extend<uint16_t, uint64_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PMOVZXDQ, extend<uint32_t, uint64_t>, kVex | kEvex},

        {ZYDIS_MNEMONIC_PSLLDQ, shiftBytes<1>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSRLDQ, shiftBytes<-1>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PTEST,
         [](const Shape& s) {
             return byEncoding(s, [&]<class E>() {
                 return s.isMem(1) ? straight<ptest<E, FromMem>> : straight<ptest<E, FromReg>>;
             });
         },
         kVex},
    };
    return rows;
}

}  // namespace kiln
