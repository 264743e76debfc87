// AVX and AVX2: permutations by immediates and by vectors, and shifts with a count for each element (SDM vol.
// 1, 14.1.2, 14.6; vol. 2).
#include "cpu/lane_ops.hpp"
#include "cpu/simd.hpp"

namespace kiln {
namespace {

// -- within 128-bit lanes: VPERMILPS, VPERMILPD
struct FloatsByImmediate {
    static Xmm run(const Xmm&, const Xmm& b, uint8_t imm) {
        auto x = split<uint32_t>(b);
        return join<Xmm>(std::array<uint32_t, 4>{x[imm & 3], x[imm >> 2 & 3], x[imm >> 4 & 3], x[imm >> 6]});
    }
};
struct DoublesByImmediate {
    static constexpr unsigned kImmediateBits = 2;
    static Xmm run(const Xmm&, const Xmm& b, uint8_t imm) { return {{b.q[imm & 1], b.q[imm >> 1 & 1]}}; }
};
struct FloatsByVector {
    static Xmm run(const Xmm& a, const Xmm& b) {
        auto x = split<uint32_t>(a), r = split<uint32_t>(b);
        for (uint32_t& n : r) n = x[n & 3];
        return join<Xmm>(r);
    }
};
struct DoublesByVector {  // bit 1 of the control chooses
    static Xmm run(const Xmm& a, const Xmm& b) { return {{a.q[b.q[0] >> 1 & 1], a.q[b.q[1] >> 1 & 1]}}; }
};
template <class ByImmediate, class ByVector>
Handler permuteInLanes(const Shape& s) {
    if (s.evex()) return s.isImm(2) ? straight<evexBody<ByImmediate>> : straight<evexBody<ByVector>>;
    return byVexLength(s, [&]<class E>() {
        return s.isImm(2) ? vectorForm<E, ByImmediate>(s) : vectorForm<E, ByVector>(s);
    });
}

// -- across lanes, YMM registers only
template <class Source>
void permuteDwords(Cpu& c, const Insn& i) {  // VPERMD, VPERMPS: the first source has the indices
    c.checkAvx();
    auto x = split<uint32_t>(Source::template load<Vex256>(c, i)), r = split<uint32_t>(Vex256::get(c, i.b));
    for (uint32_t& n : r) n = x[n & 7];
    Vex256::set(c, i.a, join<Ymm>(r));
}
template <class Source>
void permuteQuads(Cpu& c, const Insn& i) {  // VPERMQ, VPERMPD
    c.checkAvx();
    Ymm b = Source::template load<Vex256>(c, i), r;
    for (unsigned n = 0; n < 4; n++) r.q[n] = b.q[i.imm >> 2 * n & 3];
    Vex256::set(c, i.a, r);
}
Handler permuteDwordsForm(const Shape& s) {
    return s.isMem(2) ? straight<permuteDwords<FromMem>> : straight<permuteDwords<FromReg>>;
}
Handler permuteQuadsForm(const Shape& s) {
    return s.isMem(1) ? straight<permuteQuads<FromMem>> : straight<permuteQuads<FromReg>>;
}

template <class T, class F>
Handler variableShift(const Shape& s) {
    if (s.evex()) return straight<evexBody<Lanes<T, F>>>;
    return byVexLength(s, [&]<class E>() { return vectorForm<E, Lanes<T, F>>(s); });
}

}  // namespace

std::span<const Row> avxPermuteRows() {
    using namespace lane;
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_VPERMILPS, permuteInLanes<FloatsByImmediate, FloatsByVector>, kEvex},
        {ZYDIS_MNEMONIC_VPERMILPD, permuteInLanes<DoublesByImmediate, DoublesByVector>, kEvex},
        {ZYDIS_MNEMONIC_VPERMD, permuteDwordsForm},
        {ZYDIS_MNEMONIC_VPERMPS, permuteDwordsForm},
        {ZYDIS_MNEMONIC_VPERMQ, permuteQuadsForm},
        {ZYDIS_MNEMONIC_VPERMPD, permuteQuadsForm},

        {ZYDIS_MNEMONIC_VPSLLVD, variableShift<uint32_t, ShiftLeft>, kEvex},
        {ZYDIS_MNEMONIC_VPSLLVQ, variableShift<uint64_t, ShiftLeft>, kEvex},
        {ZYDIS_MNEMONIC_VPSRLVD, variableShift<uint32_t, ShiftRight>, kEvex},
        {ZYDIS_MNEMONIC_VPSRLVQ, variableShift<uint64_t, ShiftRight>, kEvex},
        {ZYDIS_MNEMONIC_VPSRAVD, variableShift<int32_t, ShiftRight>, kEvex},
        {ZYDIS_MNEMONIC_VPSRAVQ, xmm<Lanes<int64_t, ShiftRight>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPSLLVW, xmm<Lanes<uint16_t, ShiftLeft>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPSRLVW, xmm<Lanes<uint16_t, ShiftRight>>, kOnlyEvex},
        {ZYDIS_MNEMONIC_VPSRAVW, xmm<Lanes<int16_t, ShiftRight>>, kOnlyEvex},
    };
    return rows;
}

}  // namespace kiln
