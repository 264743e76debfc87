// AVX-512 integer instructions that SSE and AVX have no form of: comparisons and tests into opmasks, ternary
// logic, rotations, double shifts, bit counts, conflicts, VNNI, IFMA, VDBPSADBW (SDM vol. 2).
#include <limits>

#include "cpu/evex_elements.hpp"

namespace kiln {
namespace {

using B = uint8_t;
using W = uint16_t;
using D = uint32_t;
using Q = uint64_t;

// -- into opmasks
struct Equal {
    template <class T>
    static bool of(T a, T b) {
        return a == b;
    }
};
struct Greater {
    template <class T>
    static bool of(T a, T b) {
        return a > b;
    }
};
struct Compare {  // imm 2..0: equal, less, less or equal, never, and their opposites
    template <class T>
    static bool of(T a, T b, uint8_t imm) {
        const bool less = (imm & 3) == 1 || (imm & 3) == 2, equal = !(imm & 1);
        return (((a < b) & less) | ((a == b) & equal)) != bool(imm & 4);
    }
};
struct AnyBit {  // VPTESTM
    template <class T>
    static bool of(T a, T b) {
        return a & b;
    }
};
struct NoBit {
    template <class T>
    static bool of(T a, T b) {
        return !(a & b);
    }
};
// VPSHUFBITQMB: a bit of the first source's quadword for each byte of the last one.
void shuffleBits(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<B>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    uint64_t r = 0;
    for (unsigned n = 0; n < count; n++) r |= (c.vec[i.b].q[n / 8] >> (b.get<B>(n) & 63) & 1) << n;
    c.opmask[i.a] = r & mask;
}

// -- bit by bit
struct Ternary {  // the immediate is a table of what three bits give
    template <class T>
    static T of(T d, T a, T b, uint8_t imm) {
        auto entry = [&](unsigned n) { return T(T(0) - T(imm >> n & 1)); };
        auto byLast = [&](unsigned n) { return T(entry(n) ^ (b & (entry(n) ^ entry(n + 1)))); };
        auto byTwo = [&](unsigned n) { return T(byLast(n) ^ (a & (byLast(n) ^ byLast(n + 2)))); };
        return T(byTwo(0) ^ (d & (byTwo(0) ^ byTwo(4))));
    }
};
struct RotateLeft {
    template <class T>
    static T of(T a, T b) {
        return std::rotl(a, int(b % (8 * sizeof(T))));
    }
};
struct RotateRight {
    template <class T>
    static T of(T a, T b) {
        return std::rotr(a, int(b % (8 * sizeof(T))));
    }
};
template <class T>
T shiftDouble(T high, T low, unsigned count) {  // the upper half of high:low << count
    constexpr unsigned bits = 8 * sizeof(T);
    count %= bits;
    return count ? T(high << count | low >> (bits - count)) : high;
}
template <class T>
T shiftDoubleRight(T high, T low, unsigned count) {
    constexpr unsigned bits = 8 * sizeof(T);
    count %= bits;
    return count ? T(low >> count | T(high << (bits - count))) : low;
}
struct ShiftDoubleLeft {  // VPSHLD
    template <class T>
    static T of(T, T a, T b, uint8_t imm) {
        return shiftDouble(a, b, imm);
    }
};
struct ShiftDoubleRight {
    template <class T>
    static T of(T, T a, T b, uint8_t imm) {
        return shiftDoubleRight(b, a, imm);
    }
};
struct ShiftDoubleLeftVariable {  // VPSHLDV
    template <class T>
    static T of(T d, T a, T b) {
        return shiftDouble(d, a, unsigned(b));
    }
};
struct ShiftDoubleRightVariable {
    template <class T>
    static T of(T d, T a, T b) {
        return shiftDoubleRight(a, d, unsigned(b));
    }
};
struct LeadingZeros {
    template <class T>
    static T of(T b) {
        return T(std::countl_zero(b));
    }
};
struct Population {
    template <class T>
    static T of(T b) {
        return T(std::popcount(b));
    }
};
struct MultiShift {  // VPMULTISHIFTQB: eight unaligned bytes of the last source
    static Q of(Q a, Q b) {
        Q r = 0;
        for (unsigned n = 0; n < 8; n++) r |= Q(uint8_t(std::rotr(b, int(a >> 8 * n & 63)))) << 8 * n;
        return r;
    }
};
// The masks of VPMULTISHIFTQB are of bytes, its elements in memory of quadwords.
void multiShift(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.bytes();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    Vector r;
    for (unsigned n = 0; n < count / 8; n++) r.q[n] = MultiShift::of(c.vec[i.b].q[n], b.get<Q>(n));
    evexWrite(c, i.a, x, mask, r, count, 0);
}
// VPCONFLICT: which of the elements before it are equal to an element.
template <class T>
void conflicts(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    Vector r;
    for (unsigned n = 0; n < count; n++) {
        T equal = 0;
        for (unsigned k = 0; k < n; k++) equal |= T(b.get<T>(k) == b.get<T>(n)) << k;
        r.set<T>(n, equal);
    }
    evexWrite(c, i.a, x, mask, r, count, kLog2<T>);
}

// -- products added to the destination
__extension__ using Wide = unsigned __int128;
template <unsigned shift>
struct MultiplyAdd52 {  // IFMA: the low or high 52 bits of a product of 52-bit numbers
    static Q of(Q d, Q a, Q b) {
        constexpr Q low = (1ull << 52) - 1;
        return d + (Q(Wide(a & low) * (b & low) >> shift) & low);
    }
};
int32_t saturated(int64_t v) {
    constexpr int64_t low = std::numeric_limits<int32_t>::min(), high = std::numeric_limits<int32_t>::max();
    return int32_t(v < low ? low : v > high ? high : v);
}
template <bool saturates>
D accumulate(D d, int64_t sum) {
    return saturates ? D(saturated(int32_t(d) + sum)) : D(d + sum);
}
template <bool saturates>
struct DotBytes {  // VPDPBUSD: unsigned by signed bytes
    static D of(D d, D a, D b) {
        int64_t sum = 0;
        for (unsigned n = 0; n < 4; n++) sum += int(uint8_t(a >> 8 * n)) * int8_t(b >> 8 * n);
        return accumulate<saturates>(d, sum);
    }
};
template <bool saturates>
struct DotWords {  // VPDPWSSD
    static D of(D d, D a, D b) {
        return accumulate<saturates>(
            d, int64_t(int16_t(a)) * int16_t(b) + int64_t(int16_t(a >> 16)) * int16_t(b >> 16));
    }
};
// AVX-VNNI has the same under VEX.
template <class E, class F, class Source>
void vexElements(Cpu& c, const Insn& i) {
    E::check(c);
    auto b = split<D>(Source::template load<E>(c, i));
    auto a = split<D>(E::get(c, i.b)), d = split<D>(E::get(c, i.a));
    for (unsigned n = 0; n < d.size(); n++) d[n] = F::of(d[n], a[n], b[n]);
    E::set(c, i.a, join<typename E::V>(d));
}
template <class F>
Handler dot(const Shape& s) {
    if (s.evex()) return straight<evexElements<D, F>>;
    return byVexLength(s, [&]<class E>() {
        return s.isMem(2) ? straight<vexElements<E, F, FromMem>> : straight<vexElements<E, F, FromReg>>;
    });
}

// VDBPSADBW: the last source's dwords shuffled by the immediate; sums of four absolute differences, a word
// for each: the first source's four bytes by turns against a window that moves on by a byte.
struct DoubleBlockSums {
    static Xmm run(const Xmm& a, const Xmm& b, uint8_t imm) {
        const auto from = split<uint32_t>(b);
        const auto y = split<uint8_t>(join<Xmm>(
            std::array<uint32_t, 4>{from[imm & 3], from[imm >> 2 & 3], from[imm >> 4 & 3], from[imm >> 6]}));
        const auto x = split<uint8_t>(a);
        std::array<uint16_t, 8> r{};
        for (unsigned n = 0; n < 8; n++)
            for (unsigned k = 0; k < 4; k++) {
                // Words 0 to 3 take the lower eight bytes, 4 to 7 the upper ones.
                const unsigned first = n / 4 * 8 + (n & 2) * 2, second = n / 4 * 8 + n % 4;
                const int d = x[first + k] - y[second + k];
                r[n] = uint16_t(r[n] + (d < 0 ? -d : d));
            }
        return join<Xmm>(r);
    }
};

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_VPCMPEQB, only<evexTest<B, Equal>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPEQW, only<evexTest<W, Equal>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPEQD, only<evexTest<D, Equal>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPEQQ, only<evexTest<Q, Equal>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPGTB, only<evexTest<int8_t, Greater>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPGTW, only<evexTest<int16_t, Greater>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPGTD, only<evexTest<int32_t, Greater>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPGTQ, only<evexTest<int64_t, Greater>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPB, only<evexTest<int8_t, Compare>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPW, only<evexTest<int16_t, Compare>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPD, only<evexTest<int32_t, Compare>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPQ, only<evexTest<int64_t, Compare>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPUB, only<evexTest<B, Compare>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPUW, only<evexTest<W, Compare>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPUD, only<evexTest<D, Compare>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCMPUQ, only<evexTest<Q, Compare>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTESTMB, only<evexTest<B, AnyBit>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTESTMW, only<evexTest<W, AnyBit>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTESTMD, only<evexTest<D, AnyBit>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTESTMQ, only<evexTest<Q, AnyBit>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTESTNMB, only<evexTest<B, NoBit>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTESTNMW, only<evexTest<W, NoBit>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTESTNMD, only<evexTest<D, NoBit>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTESTNMQ, only<evexTest<Q, NoBit>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHUFBITQMB, only<shuffleBits>, kOnlyEvex},

    {ZYDIS_MNEMONIC_VPTERNLOGD, only<evexElements<D, Ternary>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPTERNLOGQ, only<evexElements<Q, Ternary>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPROLD, only<evexByImmediate<D, RotateLeft>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPROLQ, only<evexByImmediate<Q, RotateLeft>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPRORD, only<evexByImmediate<D, RotateRight>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPRORQ, only<evexByImmediate<Q, RotateRight>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPROLVD, only<evexElements<D, RotateLeft>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPROLVQ, only<evexElements<Q, RotateLeft>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPRORVD, only<evexElements<D, RotateRight>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPRORVQ, only<evexElements<Q, RotateRight>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHLDW, only<evexElements<W, ShiftDoubleLeft>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHLDD, only<evexElements<D, ShiftDoubleLeft>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHLDQ, only<evexElements<Q, ShiftDoubleLeft>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHRDW, only<evexElements<W, ShiftDoubleRight>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHRDD, only<evexElements<D, ShiftDoubleRight>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHRDQ, only<evexElements<Q, ShiftDoubleRight>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHLDVW, only<evexElements<W, ShiftDoubleLeftVariable>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHLDVD, only<evexElements<D, ShiftDoubleLeftVariable>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHLDVQ, only<evexElements<Q, ShiftDoubleLeftVariable>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHRDVW, only<evexElements<W, ShiftDoubleRightVariable>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHRDVD, only<evexElements<D, ShiftDoubleRightVariable>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPSHRDVQ, only<evexElements<Q, ShiftDoubleRightVariable>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPLZCNTD, only<evexElements<D, LeadingZeros>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPLZCNTQ, only<evexElements<Q, LeadingZeros>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCONFLICTD, only<conflicts<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCONFLICTQ, only<conflicts<Q>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPOPCNTB, only<evexElements<B, Population>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPOPCNTW, only<evexElements<W, Population>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPOPCNTD, only<evexElements<D, Population>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPOPCNTQ, only<evexElements<Q, Population>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMULTISHIFTQB, only<multiShift>, kOnlyEvex},

    {ZYDIS_MNEMONIC_VPMADD52LUQ, only<evexElements<Q, MultiplyAdd52<0>>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMADD52HUQ, only<evexElements<Q, MultiplyAdd52<52>>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPDPBUSD, dot<DotBytes<false>>, kEvex},
    {ZYDIS_MNEMONIC_VPDPBUSDS, dot<DotBytes<true>>, kEvex},
    {ZYDIS_MNEMONIC_VPDPWSSD, dot<DotWords<false>>, kEvex},
    {ZYDIS_MNEMONIC_VPDPWSSDS, dot<DotWords<true>>, kEvex},
    {ZYDIS_MNEMONIC_VDBPSADBW, xmm<DoubleBlockSums>, kOnlyEvex},
};

}  // namespace

std::span<const Row> avx512IntegerRows() { return kRows; }

}  // namespace kiln
