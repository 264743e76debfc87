// SHA extensions (SDM vol. 1, 12.16; vol. 2, SHA1RNDS4 and relatives; FIPS 180-4). The manual's first word is
// the highest lane of SHA-1's operands.
#include "cpu/simd.hpp"

namespace kiln {
namespace {

using Words = std::array<uint32_t, 4>;

uint32_t choose(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (~x & z); }
uint32_t majority(uint32_t x, uint32_t y, uint32_t z) { return (x & y) ^ (x & z) ^ (y & z); }
uint32_t parity(uint32_t x, uint32_t y, uint32_t z) { return x ^ y ^ z; }

// -- SHA-1
struct FourRounds {  // SHA1RNDS4
    static Xmm run(const Xmm& state, const Xmm& schedule, uint8_t imm) {
        static constexpr uint32_t kConstant[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
        static constexpr uint32_t (*kFunction[4])(uint32_t, uint32_t, uint32_t) = {choose, parity, majority,
                                                                                   parity};
        auto [d, c, b, a] = split<uint32_t>(state);
        auto w = split<uint32_t>(schedule);
        uint32_t e = 0;  // that of round 0 is already in the first word
        for (unsigned n = 0; n < 4; n++) {
            uint32_t next = kFunction[imm & 3](b, c, d) + std::rotl(a, 5) + w[3 - n] + e + kConstant[imm & 3];
            e = d;
            d = c;
            c = std::rotl(b, 30);
            b = a;
            a = next;
        }
        return join<Xmm>(Words{d, c, b, a});
    }
};
struct NextE {  // SHA1NEXTE
    static Xmm run(const Xmm& state, const Xmm& schedule) {
        auto w = split<uint32_t>(schedule);
        w[3] += std::rotl(state.get<uint32_t>(3), 30);
        return join<Xmm>(w);
    }
};
struct Sha1Message1 {
    static Xmm run(const Xmm& a, const Xmm& b) { return {{a.q[0] ^ b.q[1], a.q[1] ^ a.q[0]}}; }
};
struct Sha1Message2 {
    static Xmm run(const Xmm& a, const Xmm& b) {
        auto x = split<uint32_t>(a), y = split<uint32_t>(b);
        Words r;
        r[3] = std::rotl(x[3] ^ y[2], 1);
        r[2] = std::rotl(x[2] ^ y[1], 1);
        r[1] = std::rotl(x[1] ^ y[0], 1);
        r[0] = std::rotl(x[0] ^ r[3], 1);
        return join<Xmm>(r);
    }
};

// -- SHA-256
uint32_t sum(uint32_t v, int a, int b, int c) { return std::rotr(v, a) ^ std::rotr(v, b) ^ std::rotr(v, c); }
uint32_t sigma0(uint32_t v) { return std::rotr(v, 7) ^ std::rotr(v, 18) ^ v >> 3; }
uint32_t sigma1(uint32_t v) { return std::rotr(v, 17) ^ std::rotr(v, 19) ^ v >> 10; }

template <class Source>
void twoRounds(Cpu& cpu, const Insn& i) {  // SHA256RNDS2; the words with their constants are in XMM0
    cpu.checkSse();
    auto [f, e, b, a] = split<uint32_t>(Source::template load<Sse>(cpu, i));
    auto [h, g, d, c] = split<uint32_t>(getXmm(cpu, i.a));
    for (unsigned n = 0; n < 2; n++) {
        uint32_t t = choose(e, f, g) + sum(e, 6, 11, 25) + cpu.vec[0].get<uint32_t>(n) + h;
        uint32_t next = t + majority(a, b, c) + sum(a, 2, 13, 22);
        h = g;
        g = f;
        f = e;
        e = t + d;
        d = c;
        c = b;
        b = a;
        a = next;
    }
    setXmm(cpu, i.a, join<Xmm>(Words{f, e, b, a}));
}
struct Sha256Message1 {
    static Xmm run(const Xmm& a, const Xmm& b) {
        auto x = split<uint32_t>(a);
        const uint32_t next = b.get<uint32_t>(0);
        for (unsigned n = 0; n < 4; n++) x[n] += sigma0(n < 3 ? x[n + 1] : next);
        return join<Xmm>(x);
    }
};
struct Sha256Message2 {
    static Xmm run(const Xmm& a, const Xmm& b) {
        auto x = split<uint32_t>(a), y = split<uint32_t>(b);
        x[0] += sigma1(y[2]);
        x[1] += sigma1(y[3]);
        x[2] += sigma1(x[0]);
        x[3] += sigma1(x[1]);
        return join<Xmm>(x);
    }
};

}  // namespace

std::span<const Row> shaRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_SHA1RNDS4, xmm128<FourRounds>},
        {ZYDIS_MNEMONIC_SHA1NEXTE, xmm128<NextE>},
        {ZYDIS_MNEMONIC_SHA1MSG1, xmm128<Sha1Message1>},
        {ZYDIS_MNEMONIC_SHA1MSG2, xmm128<Sha1Message2>},
        {ZYDIS_MNEMONIC_SHA256RNDS2,
         [](const Shape& s) -> Handler {
             return s.isMem(1) ? straight<twoRounds<FromMem>> : straight<twoRounds<FromReg>>;
         }},
        {ZYDIS_MNEMONIC_SHA256MSG1, xmm128<Sha256Message1>},
        {ZYDIS_MNEMONIC_SHA256MSG2, xmm128<Sha256Message2>},
    };
    return rows;
}

}  // namespace kiln
