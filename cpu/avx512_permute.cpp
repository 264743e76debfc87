// AVX-512 permutations across the whole vector: by immediates, by vectors of indices, from one table or two
// (SDM vol. 2, VPERMB to VPERMQ, VPERMI2, VPERMT2, VSHUFF32x4, VALIGN).
#include "cpu/simd.hpp"

namespace kiln {
namespace {

using B = uint8_t;
using W = uint16_t;
using D = uint32_t;
using Q = uint64_t;

// Elements of the last source by the first one's indices.
template <class T>
void permute(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource table(c, i, x, mask, count);
    Vector r;
    for (unsigned n = 0; n < count; n++)
        r.set<T>(n, table.get<T>(unsigned(c.vec[i.b].get<T>(n)) & (count - 1)));
    evexWrite(c, i.a, x, mask, r, count, kLog2<T>);
}
// Quadwords within 256 bits by an immediate.
void permuteQuads(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<Q>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource table(c, i, x, mask, count);
    Vector r;
    for (unsigned n = 0; n < count; n++)
        r.q[n] = table.get<Q>((n & 4) + (unsigned(i.imm) >> 2 * (n & 3) & 3));
    evexWrite(c, i.a, x, mask, r, count, kLog2<Q>);
}
Handler permuteQuadsForm(const Shape& s) {
    return s.isImm(2) ? straight<permuteQuads> : straight<permute<Q>>;
}

// Two tables: VPERMI2 has its indices in the destination, VPERMT2 the first table.
template <class T, bool indicesInDestination>
void permuteTwo(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource last(c, i, x, mask, count);
    const Vector &second = last, &first = c.vec[indicesInDestination ? i.b : i.a],
                 &indices = c.vec[indicesInDestination ? i.a : i.b];
    Vector r;
    for (unsigned n = 0; n < count; n++) {
        const auto index = unsigned(indices.get<T>(n));
        r.set<T>(n, (index & count ? second : first).get<T>(index & (count - 1)));
    }
    evexWrite(c, i.a, x, mask, r, count, kLog2<T>);
}

// 128-bit lanes: the lower half of the result from the first source, the upper half from the last one.
void shuffleLanes(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.bytes() >> x.elementLog2(), lanes = x.bytes() / 16;
    const uint64_t mask = x.mask(c, count);
    const EvexSource last(c, i, x, mask, count);
    const Vector &a = c.vec[i.b], &b = last;
    const unsigned bits = lanes / 2;  // of the immediate for a lane
    Vector r;
    for (unsigned n = 0; n < lanes; n++)
        r.set<Xmm>(n, (n < lanes / 2 ? a : b).get<Xmm>(unsigned(i.imm) >> n * bits & (lanes - 1)));
    evexWrite(c, i.a, x, mask, r, count, x.elementLog2());
}
// VALIGN: both sources side by side, the last one below, moved down by some elements.
template <class T>
void align(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>(), by = unsigned(i.imm) & (count - 1);
    const uint64_t mask = x.mask(c, count);
    const EvexSource last(c, i, x, mask, count);
    const Vector &a = c.vec[i.b], &b = last;
    Vector r;
    for (unsigned n = 0; n < count; n++) r.set<T>(n, (n + by < count ? b : a).get<T>((n + by) & (count - 1)));
    evexWrite(c, i.a, x, mask, r, count, kLog2<T>);
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_VPERMB, only<permute<B>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMW, only<permute<W>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMD, only<permute<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMPS, only<permute<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMQ, permuteQuadsForm, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMPD, permuteQuadsForm, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMI2B, only<permuteTwo<B, true>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMI2W, only<permuteTwo<W, true>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMI2D, only<permuteTwo<D, true>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMI2Q, only<permuteTwo<Q, true>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMI2PS, only<permuteTwo<D, true>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMI2PD, only<permuteTwo<Q, true>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMT2B, only<permuteTwo<B, false>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMT2W, only<permuteTwo<W, false>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMT2D, only<permuteTwo<D, false>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMT2Q, only<permuteTwo<Q, false>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMT2PS, only<permuteTwo<D, false>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPERMT2PD, only<permuteTwo<Q, false>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VSHUFF32X4, only<shuffleLanes>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VSHUFF64X2, only<shuffleLanes>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VSHUFI32X4, only<shuffleLanes>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VSHUFI64X2, only<shuffleLanes>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VALIGND, only<align<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VALIGNQ, only<align<Q>>, kOnlyEvex},
};

}  // namespace

std::span<const Row> avx512PermuteRows() { return kRows; }

}  // namespace kiln
