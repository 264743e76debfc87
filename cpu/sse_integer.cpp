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
    static uint32_t of(uint32_t a, uint32_t b) { return a * b; }
};
struct MultiplyEvenSigned {  // PMULDQ
    static Xmm run(const Xmm& a, const Xmm& b) {
        auto even = [](const Xmm& v, unsigned n) { return int64_t(v.get<int32_t>(2 * n)); };
        return {{uint64_t(even(a, 0) * even(b, 0)), uint64_t(even(a, 1) * even(b, 1))}};
    }
};

// -- widening: the low lanes of From become lanes of To
template <class From, class To>
struct Extend {
    static Xmm run(const Xmm&, const Xmm& b) {
        auto x = split<From>(b);
        std::array<To, kLanes<To, Xmm>> r;
        for (unsigned n = 0; n < r.size(); n++) r[n] = To(x[n]);
        return join<Xmm>(r);
    }
};
template <unsigned bytes>
using UnsignedOf =
    std::conditional_t<bytes == 2, uint16_t, std::conditional_t<bytes == 4, uint32_t, uint64_t>>;
template <class From, class To>  // reads only as many bytes as it widens
Handler extend(const Shape& s) {
    return xmm<Extend<From, To>, FromLow<UnsignedOf<16 * sizeof(From) / sizeof(To)>>>(s);
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
void shiftBytes(Cpu& c, const Insn& i) {
    c.checkSse();
    int bytes = uint8_t(i.imm);
    setXmm(c, i.a, bytes > 15 ? Xmm{} : shiftBits(getXmm(c, i.a), direction * 8 * bytes));
}

template <class Source>
void ptest(Cpu& c, const Insn& i) {
    c.checkSse();
    Xmm b = Source::template load<Xmm>(c, i), a = getXmm(c, i.a);
    uint64_t both = (a.q[0] & b.q[0]) | (a.q[1] & b.q[1]);
    uint64_t onlySource = (~a.q[0] & b.q[0]) | (~a.q[1] & b.q[1]);
    c.flags.setArithmetic((both ? 0 : flag::ZF) | (onlySource ? 0 : flag::CF));
}

}  // namespace

std::span<const Row> sseIntegerRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_ANDPS, xmm<Logic<And>>},
        {ZYDIS_MNEMONIC_ANDPD, xmm<Logic<And>>},
        {ZYDIS_MNEMONIC_ANDNPS, xmm<Logic<AndNot>>},
        {ZYDIS_MNEMONIC_ANDNPD, xmm<Logic<AndNot>>},
        {ZYDIS_MNEMONIC_ORPS, xmm<Logic<Or>>},
        {ZYDIS_MNEMONIC_ORPD, xmm<Logic<Or>>},
        {ZYDIS_MNEMONIC_XORPS, xmm<Logic<Xor>>},
        {ZYDIS_MNEMONIC_XORPD, xmm<Logic<Xor>>},

        {ZYDIS_MNEMONIC_PMINSB, xmm<Lanes<int8_t, Min>>},
        {ZYDIS_MNEMONIC_PMINSD, xmm<Lanes<int32_t, Min>>},
        {ZYDIS_MNEMONIC_PMINUW, xmm<Lanes<uint16_t, Min>>},
        {ZYDIS_MNEMONIC_PMINUD, xmm<Lanes<uint32_t, Min>>},
        {ZYDIS_MNEMONIC_PMAXSB, xmm<Lanes<int8_t, Max>>},
        {ZYDIS_MNEMONIC_PMAXSD, xmm<Lanes<int32_t, Max>>},
        {ZYDIS_MNEMONIC_PMAXUW, xmm<Lanes<uint16_t, Max>>},
        {ZYDIS_MNEMONIC_PMAXUD, xmm<Lanes<uint32_t, Max>>},
        {ZYDIS_MNEMONIC_PMULLD, xmm<Lanes<uint32_t, MulLow>>},
        {ZYDIS_MNEMONIC_PMULDQ, xmm<MultiplyEvenSigned>},
        {ZYDIS_MNEMONIC_PCMPEQQ, xmm<Lanes<uint64_t, Equal>>},
        {ZYDIS_MNEMONIC_PCMPGTQ, xmm<Lanes<int64_t, Greater>>},
        {ZYDIS_MNEMONIC_PACKUSDW, xmm<PackUnsignedDwords>},
        {ZYDIS_MNEMONIC_PHMINPOSUW, xmm<MinimumPosition>},
        {ZYDIS_MNEMONIC_MPSADBW, xmm<MultipleSumsOfDifferences>},

        {ZYDIS_MNEMONIC_PMOVSXBW, extend<int8_t, int16_t>},
        {ZYDIS_MNEMONIC_PMOVSXBD, extend<int8_t, int32_t>},
        {ZYDIS_MNEMONIC_PMOVSXBQ, extend<int8_t, int64_t>},
        {ZYDIS_MNEMONIC_PMOVSXWD, extend<int16_t, int32_t>},
        {ZYDIS_MNEMONIC_PMOVSXWQ, extend<int16_t, int64_t>},
        {ZYDIS_MNEMONIC_PMOVSXDQ, extend<int32_t, int64_t>},
        {ZYDIS_MNEMONIC_PMOVZXBW, extend<uint8_t, uint16_t>},
        {ZYDIS_MNEMONIC_PMOVZXBD, extend<uint8_t, uint32_t>},
        {ZYDIS_MNEMONIC_PMOVZXBQ, extend<uint8_t, uint64_t>},
        {ZYDIS_MNEMONIC_PMOVZXWD, extend<uint16_t, uint32_t>},
        {ZYDIS_MNEMONIC_PMOVZXWQ, extend<uint16_t, uint64_t>},
        {ZYDIS_MNEMONIC_PMOVZXDQ, extend<uint32_t, uint64_t>},

        {ZYDIS_MNEMONIC_PSLLDQ, only<shiftBytes<1>>},
        {ZYDIS_MNEMONIC_PSRLDQ, only<shiftBytes<-1>>},
        {ZYDIS_MNEMONIC_PTEST,
         [](const Shape& s) -> Handler {
             return s.isMem(1) ? straight<ptest<FromMem>> : straight<ptest<FromReg>>;
         }},
    };
    return rows;
}

}  // namespace kiln
