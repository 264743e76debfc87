// AES-NI and VAES (SDM vol. 1, 12.13; FIPS 197). A state's column n is dword n, its row 0 the lowest byte.
#include "cpu/galois.hpp"
#include "cpu/simd.hpp"

namespace kiln {
namespace {

using Bytes = std::array<uint8_t, 256>;

constexpr uint8_t rotate(uint8_t v, unsigned n) { return uint8_t(v << n | v >> (8 - n)); }
constexpr Bytes kSubstitute = [] {
    Bytes r{};
    for (unsigned n = 0; n < 256; n++) {
        uint8_t v = galois::inverse(uint8_t(n));
        r[n] = uint8_t(v ^ rotate(v, 1) ^ rotate(v, 2) ^ rotate(v, 3) ^ rotate(v, 4) ^ 0x63);
    }
    return r;
}();
constexpr Bytes kSubstituteBack = [] {
    Bytes r{};
    for (unsigned n = 0; n < 256; n++) r[kSubstitute[n]] = uint8_t(n);
    return r;
}();

// What a byte of row 0 adds to its column when columns are multiplied by the polynomial with these
// coefficients; a byte of row n adds the same turned by n bytes.
using Columns = std::array<uint32_t, 256>;
constexpr Columns columns(const uint8_t (&coefficients)[4]) {
    Columns r{};
    for (unsigned n = 0; n < 256; n++)
        for (unsigned row = 0; row < 4; row++)
            r[n] |= uint32_t(galois::multiply(uint8_t(n), coefficients[row])) << 8 * row;
    return r;
}
constexpr Columns kMix = columns({2, 1, 1, 3}), kMixBack = columns({14, 9, 13, 11});

Xmm mixColumns(const Xmm& v, const Columns& table) {
    auto x = split<uint32_t>(v);
    for (uint32_t& column : x) {
        uint32_t r = 0;
        for (unsigned row = 0; row < 4; row++) r ^= std::rotl(table[column >> 8 * row & 0xff], int(8 * row));
        column = r;
    }
    return join<Xmm>(x);
}
// Row n turned left by n columns (back: right), and every byte substituted.
Xmm substituteShifted(const Xmm& v, const Bytes& table, bool back) {
    auto x = split<uint8_t>(v);
    auto r = x;
    for (unsigned n = 0; n < 16; n++) r[n] = table[x[(back ? n - 4 * (n & 3) : n + 4 * (n & 3)) & 15]];
    return join<Xmm>(r);
}
Xmm exclusiveOr(const Xmm& a, const Xmm& b) { return {{a.q[0] ^ b.q[0], a.q[1] ^ b.q[1]}}; }

template <bool last>
struct Encrypt {
    static Xmm run(const Xmm& state, const Xmm& key) {
        Xmm r = substituteShifted(state, kSubstitute, false);
        return exclusiveOr(last ? r : mixColumns(r, kMix), key);
    }
};
template <bool last>
struct Decrypt {
    static Xmm run(const Xmm& state, const Xmm& key) {
        Xmm r = substituteShifted(state, kSubstituteBack, true);
        return exclusiveOr(last ? r : mixColumns(r, kMixBack), key);
    }
};
struct InverseMixColumns {
    static Xmm run(const Xmm&, const Xmm& v) { return mixColumns(v, kMixBack); }
};
struct KeyGenerationAssist {
    static Xmm run(const Xmm&, const Xmm& v, uint8_t roundConstant) {
        auto x = split<uint8_t>(v);
        for (uint8_t& b : x) b = kSubstitute[b];
        auto y = std::bit_cast<std::array<uint32_t, 4>>(x);
        y[0] = y[1];
        y[1] = std::rotr(y[1], 8) ^ roundConstant;
        y[2] = y[3];
        y[3] = std::rotr(y[3], 8) ^ roundConstant;
        return join<Xmm>(y);
    }
};

}  // namespace

std::span<const Row> aesRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_AESENC, xmm<Encrypt<false>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_AESENCLAST, xmm<Encrypt<true>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_AESDEC, xmm<Decrypt<false>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_AESDECLAST, xmm<Decrypt<true>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_AESIMC, xmm128<InverseMixColumns>, kVex},
        {ZYDIS_MNEMONIC_AESKEYGENASSIST, xmm128<KeyGenerationAssist>, kVex},
    };
    return rows;
}

}  // namespace kiln
