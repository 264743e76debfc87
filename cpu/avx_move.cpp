// AVX and AVX2: broadcasts, 128-bit lanes, masked moves, VZEROUPPER, VTESTPS (SDM vol. 1, 14.1 to 14.7; vol.
// 2).
#include "cpu/simd.hpp"

namespace kiln {
namespace {

// -- one element everywhere
template <class E, class T, class Source>
void broadcast(Cpu& c, const Insn& i) {
    E::check(c);
    T v = loadElements<E, T, 1, Source>(c, i)[0];
    typename E::V r;
    for (unsigned n = 0; n < kLanes<T, typename E::V>; n++) r.template set<T>(n, v);
    E::set(c, i.a, r);
}
template <class T>
Handler broadcastForm(const Shape& s) {
    return byVexLength(s, [&]<class E>() {
        return s.isMem(1) ? straight<broadcast<E, T, FromMem>> : straight<broadcast<E, T, FromReg>>;
    });
}

// -- 128-bit lanes of a YMM register
template <class Source>
void insertLane(Cpu& c, const Insn& i) {
    c.checkAvx();
    Xmm v = Source::template load<Vex128>(c, i);
    Ymm r = Vex256::get(c, i.b);
    r.set<Xmm>(i.imm & 1, v);
    Vex256::set(c, i.a, r);
}
Handler insertLaneForm(const Shape& s) {
    return s.isMem(2) ? straight<insertLane<FromMem>> : straight<insertLane<FromReg>>;
}
void extractLaneToMemory(Cpu& c, const Insn& i) {
    c.checkAvx();
    c.storeOperand<Xmm>(i, c.vec[i.b].get<Xmm>(i.imm & 1));
}
void extractLaneToRegister(Cpu& c, const Insn& i) {
    c.checkAvx();
    Vex128::set(c, i.a, c.vec[i.b].get<Xmm>(i.imm & 1));
}
Handler extractLaneForm(const Shape& s) {
    return s.isMem(0) ? straight<extractLaneToMemory> : straight<extractLaneToRegister>;
}
// VPERM2F128, VPERM2I128: a field of the immediate for each lane, bit 1 chooses the source, bit 3 clears.
template <class Source>
void permuteLanes(Cpu& c, const Insn& i) {
    c.checkAvx();
    Ymm b = Source::template load<Vex256>(c, i), a = Vex256::get(c, i.b), r;
    for (unsigned n = 0; n < 2; n++) {
        unsigned field = i.imm >> 4 * n & 15;
        r.set<Xmm>(n, field & 8 ? Xmm{} : (field & 2 ? b : a).get<Xmm>(field & 1));
    }
    Vex256::set(c, i.a, r);
}
Handler permuteLanesForm(const Shape& s) {
    return s.isMem(2) ? straight<permuteLanes<FromMem>> : straight<permuteLanes<FromReg>>;
}

// -- masked moves: only elements whose mask has its top bit set touch memory, can fault, or are stored. A
// fault stores nothing. They never raise #AC.
template <class E, class T>
void maskedLoad(Cpu& c, const Insn& i) {
    E::check(c);
    auto mask = split<T>(E::get(c, i.b));
    const uint64_t at = c.effectiveAddress(i);
    Cpu::AnyAlignment any(c);
    auto r = mask;
    for (unsigned n = 0; n < r.size(); n++)
        r[n] = chosen(mask[n]) ? c.load<T>(i.seg, c.cutAddress(i, at + n * sizeof(T))) : T(0);
    E::set(c, i.a, join<typename E::V>(r));
}
template <class E, class T>
void maskedStore(Cpu& c, const Insn& i) {
    E::check(c);
    auto mask = split<T>(E::get(c, i.b)), data = split<T>(E::get(c, i.c));
    const uint64_t at = c.effectiveAddress(i);
    Cpu::AnyAlignment any(c);
    for (unsigned n = 0; n < data.size(); n++)
        if (chosen(mask[n])) c.checkWrite(i.seg, c.cutAddress(i, at + n * sizeof(T)), sizeof(T));
    for (unsigned n = 0; n < data.size(); n++)
        if (chosen(mask[n])) c.store<T>(i.seg, c.cutAddress(i, at + n * sizeof(T)), data[n]);
}
template <class T>
Handler maskedMove(const Shape& s) {
    return byVexLength(
        s, [&]<class E>() { return s.isMem(0) ? straight<maskedStore<E, T>> : straight<maskedLoad<E, T>>; });
}

// -- whole state. Outside 64-bit mode registers 8 to 15 are out of reach and stay.
template <unsigned fromWord>
void zeroRegisters(Cpu& c, const Insn&) {
    c.checkAvx();
    for (unsigned n = 0; n < (c.code64() ? 16 : 8); n++)
        for (unsigned word = fromWord; word < 8; word++) c.vec[n].q[word] = 0;
}

// -- VTESTPS, VTESTPD: PTEST of the sign bits
template <class E, class T, class Source>
void testSigns(Cpu& c, const Insn& i) {
    E::check(c);
    auto y = split<T>(Source::template load<E>(c, i)), x = split<T>(E::get(c, i.a));
    T both = 0, onlySource = 0;
    for (unsigned n = 0; n < x.size(); n++) {
        both |= x[n] & y[n];
        onlySource |= ~x[n] & y[n];
    }
    c.flags.setArithmetic((chosen(both) ? 0 : flag::ZF) | (chosen(onlySource) ? 0 : flag::CF));
}
template <class T>
Handler testSignsForm(const Shape& s) {
    return byVexLength(s, [&]<class E>() {
        return s.isMem(1) ? straight<testSigns<E, T, FromMem>> : straight<testSigns<E, T, FromReg>>;
    });
}

}  // namespace

std::span<const Row> avxMoveRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_VBROADCASTSS, broadcastForm<uint32_t>},
        {ZYDIS_MNEMONIC_VBROADCASTSD, broadcastForm<uint64_t>},
        {ZYDIS_MNEMONIC_VBROADCASTF128, broadcastForm<Xmm>},
        {ZYDIS_MNEMONIC_VBROADCASTI128, broadcastForm<Xmm>},
        {ZYDIS_MNEMONIC_VPBROADCASTB, broadcastForm<uint8_t>},
        {ZYDIS_MNEMONIC_VPBROADCASTW, broadcastForm<uint16_t>},
        {ZYDIS_MNEMONIC_VPBROADCASTD, broadcastForm<uint32_t>},
        {ZYDIS_MNEMONIC_VPBROADCASTQ, broadcastForm<uint64_t>},

        {ZYDIS_MNEMONIC_VINSERTF128, insertLaneForm},
        {ZYDIS_MNEMONIC_VINSERTI128, insertLaneForm},
        {ZYDIS_MNEMONIC_VEXTRACTF128, extractLaneForm},
        {ZYDIS_MNEMONIC_VEXTRACTI128, extractLaneForm},
        {ZYDIS_MNEMONIC_VPERM2F128, permuteLanesForm},
        {ZYDIS_MNEMONIC_VPERM2I128, permuteLanesForm},

        {ZYDIS_MNEMONIC_VMASKMOVPS, maskedMove<uint32_t>},
        {ZYDIS_MNEMONIC_VMASKMOVPD, maskedMove<uint64_t>},
        {ZYDIS_MNEMONIC_VPMASKMOVD, maskedMove<uint32_t>},
        {ZYDIS_MNEMONIC_VPMASKMOVQ, maskedMove<uint64_t>},

        {ZYDIS_MNEMONIC_VZEROUPPER, only<zeroRegisters<2>>},
        {ZYDIS_MNEMONIC_VZEROALL, only<zeroRegisters<0>>},
        {ZYDIS_MNEMONIC_VTESTPS, testSignsForm<uint32_t>},
        {ZYDIS_MNEMONIC_VTESTPD, testSignsForm<uint64_t>},
    };
    return rows;
}

}  // namespace kiln
