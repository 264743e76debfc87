// Carry-less multiplication and GFNI (SDM vol. 1, 12.13, 12.14; vol. 2, PCLMULQDQ, GF2P8MULB, GF2P8AFFINEQB).
#include "cpu/galois.hpp"

#include "cpu/simd.hpp"

namespace kiln {
namespace {

using U128 = unsigned __int128;

U128 carryless(uint64_t a, uint64_t b) {
    U128 multiples[16] = {};
    for (unsigned n = 1; n < 16; n++) multiples[n] = multiples[n >> 1] << 1 ^ (n & 1 ? a : 0);
    U128 r = 0;
    for (int n = 60; n >= 0; n -= 4) r = r << 4 ^ multiples[b >> n & 15];
    return r;
}
struct CarrylessMultiply {
    static Xmm run(const Xmm& a, const Xmm& b, uint8_t imm) {
        return std::bit_cast<Xmm>(carryless(a.q[imm & 1], b.q[imm >> 4 & 1]));
    }
};

struct MultiplyBytes {
    static uint8_t of(uint8_t a, uint8_t b) { return galois::multiply(a, b); }
};
// Bytes of a times the 8x8 bit matrix in the quadword of b, whose first row is the highest byte; plus imm.
constexpr std::array<uint8_t, 256> kInverses = [] {
    std::array<uint8_t, 256> r{};
    for (unsigned n = 0; n < 256; n++) r[n] = galois::inverse(uint8_t(n));
    return r;
}();
template <bool inverted>
struct Affine {
    static uint8_t transform(uint64_t matrix, uint8_t v, uint8_t imm) {
        if (inverted) v = kInverses[v];
        unsigned r = imm;
        for (unsigned n = 0; n < 8; n++)
            r ^= unsigned(std::popcount(uint8_t(matrix >> 8 * (7 - n)) & unsigned(v)) & 1) << n;
        return uint8_t(r);
    }
    static Xmm run(const Xmm& a, const Xmm& b, uint8_t imm) {
        auto x = split<uint8_t>(a);
        for (unsigned n = 0; n < x.size(); n++) x[n] = transform(b.q[n / 8], x[n], imm);
        return join<Xmm>(x);
    }
};

}  // namespace

std::span<const Row> galoisRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_PCLMULQDQ, xmm<CarrylessMultiply>, kVex | kEvex},
        {ZYDIS_MNEMONIC_GF2P8MULB, xmm<Lanes<uint8_t, MultiplyBytes>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_GF2P8AFFINEQB, xmm<Affine<false>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_GF2P8AFFINEINVQB, xmm<Affine<true>>, kVex | kEvex},
    };
    return rows;
}

}  // namespace kiln
