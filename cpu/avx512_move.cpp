// AVX-512 moves: whole vectors and scalars under an opmask, blends, broadcasts, 128- and 256-bit lanes,
// compression and expansion (SDM vol. 2; exception classes E1, E4, E5, E6, E10).
#include "cpu/simd.hpp"

namespace kiln {
namespace {

// An empty mask keeps #GP away as well.
void checkAligned(Cpu& c, const Insn& i, Evex x, Access access) {
    switch (x.bytes()) {
        case 16: alignedAddress<Xmm>(c, i, access); break;
        case 32: alignedAddress<Ymm>(c, i, access); break;
        default: alignedAddress<Vector>(c, i, access); break;
    }
}
// Without a mask, what C libraries copy and search memory with: straight from memory and to it.
template <class V>
[[gnu::always_inline]] inline void loadWhole(Cpu& c, const Insn& i) {
    const V v = c.loadOperand<V>(i);
    c.vec[i.a].set<V>(0, v);
    clearAbove(c.vec[i.a], sizeof v);
}
template <bool aligned>
void load(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    if (!aligned && x.memory() && !x.maskRegister()) {
        if (x.bytes() == 32) return loadWhole<Ymm>(c, i);
        return x.bytes() == 64 ? loadWhole<Vector>(c, i) : loadWhole<Xmm>(c, i);
    }
    const unsigned count = x.bytes() >> x.elementLog2();
    const uint64_t mask = x.mask(c, count);
    if (aligned && x.memory() && mask) checkAligned(c, i, x, Access::Read);
    evexWrite(c, i.a, x, mask, EvexSource(c, i, x, mask, count), count, x.elementLog2());
}
template <bool aligned>
void store(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    if (!aligned && !x.maskRegister()) {
        if (x.bytes() == 32) return c.storeOperand(i, c.vec[i.b].get<Ymm>(0));
        return x.bytes() == 64 ? c.storeOperand(i, c.vec[i.b]) : c.storeOperand(i, getXmm(c, i.b));
    }
    const unsigned count = x.bytes() >> x.elementLog2();
    const uint64_t mask = x.mask(c, count);
    if (aligned && mask) checkAligned(c, i, x, Access::Write);
    evexStore(c, i, x, mask, c.vec[i.b], count, x.elementLog2());
}
template <bool aligned>
Handler moveForm(const Shape& s) {
    return s.isMem(0) ? straight<store<aligned>> : straight<load<aligned>>;
}

// -- VMOVSS, VMOVSD: a load clears the rest, a copy takes it from the first source
template <class T>
void storeScalar(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    evexStore(c, i, x, x.mask(c, 1), c.vec[i.b], 1, kLog2<T>);
}
template <class T>
void loadScalar(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const uint64_t mask = x.mask(c, 1);
    evexWrite(c, i.a, x, mask, EvexSource(c, i, x, mask, 1), 1, kLog2<T>);
}
template <class T>
void copyScalar(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    Xmm r = getXmm(c, i.b);
    const T old = x.zeroing() ? T(0) : c.vec[i.a].get<T>(0);
    r.set<T>(0, x.mask(c, 1) ? c.vec[i.c].get<T>(0) : old);
    Evex128::set(c, i.a, r);
}
template <class T>
Handler scalarForm(const Shape& s) {
    if (s.isMem(0)) return straight<storeScalar<T>>;
    return s.isMem(1) ? straight<loadScalar<T>> : straight<copyScalar<T>>;
}

// -- blends: where the mask has no bit, the first source
void blend(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.bytes() >> x.elementLog2(), size = 1u << x.elementLog2();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    Vector r = x.zeroing() ? Vector{} : c.vec[i.b];
    forEach(mask, [&](unsigned n) {
        std::memcpy(reinterpret_cast<char*>(r.q.data()) + n * size,
                    reinterpret_cast<const char*>(b.vector().q.data()) + n * size, size);
    });
    evexWrite(c, i.a, x, ~0ull, r, count, x.elementLog2());
}

// -- one element, or a group of them, everywhere
template <class Group>
void repeat(Cpu& c, const Insn& i, Group v) {
    const Evex x(i);
    const unsigned count = x.bytes() >> x.elementLog2();
    Vector r;
    for (unsigned n = 0; n < x.count<Group>(); n++) r.set<Group>(n, v);
    evexWrite(c, i.a, x, x.mask(c, count), r, count, x.elementLog2());
}
template <class Group>
void broadcast(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.bytes() >> x.elementLog2(), each = sizeof(Group) >> x.elementLog2();
    const uint64_t mask = x.mask(c, count);
    uint64_t needed = 0;  // of a group's elements
    for (unsigned n = 0; n < count; n += each) needed |= mask >> n;
    repeat(c, i, EvexSource(c, i, x, needed & ~0ull >> (64 - each), each).template get<Group>(0));
}
template <class T>
void broadcastGeneral(Cpu& c, const Insn& i) {
    c.checkAvx512();
    repeat(c, i, c.gpr.get<T>(i.b));
}
template <class T>
Handler broadcastForm(const Shape& s) {
    const auto kind = s.isReg(1) ? ZydisRegisterGetClass(s.operands[1].reg.value) : ZYDIS_REGCLASS_INVALID;
    const bool general = kind == ZYDIS_REGCLASS_GPR32 || kind == ZYDIS_REGCLASS_GPR64;
    return general ? straight<broadcastGeneral<T>> : straight<broadcast<T>>;
}

// -- 128- and 256-bit lanes
template <class Group>
void insertGroup(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.bytes() >> x.elementLog2();
    const Group v = EvexSource(c, i, x, ~0ull, 1).template get<Group>(0);
    Vector r = c.vec[i.b];
    r.set<Group>(unsigned(i.imm) & (x.count<Group>() - 1), v);
    evexWrite(c, i.a, x, x.mask(c, count), r, count, x.elementLog2());
}
template <class Group>
Vector group(Cpu& c, const Insn& i, Evex x) {
    Vector r;
    r.set<Group>(0, c.vec[i.b].get<Group>(unsigned(i.imm) & (x.count<Group>() - 1)));
    return r;
}
template <class Group>
void extractGroup(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = sizeof(Group) >> x.elementLog2();
    evexWrite(c, i.a, x, x.mask(c, count), group<Group>(c, i, x), count, x.elementLog2());
}
template <class Group>
void storeGroup(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = sizeof(Group) >> x.elementLog2();
    evexStore(c, i, x, x.mask(c, count), group<Group>(c, i, x), count, x.elementLog2());
}
template <class Group>
Handler extractForm(const Shape& s) {
    return s.isMem(0) ? straight<storeGroup<Group>> : straight<extractGroup<Group>>;
}

// -- the elements that the mask chooses, side by side, and back
template <class T>
Vector compressed(Cpu& c, const Insn& i, uint64_t mask) {
    Vector r;
    unsigned to = 0;
    forEach(mask, [&](unsigned n) { r.set<T>(to++, c.vec[i.b].get<T>(n)); });
    return r;
}
uint64_t lowest(int count) { return count ? ~0ull >> (64 - count) : 0; }

template <class T>
void compress(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    evexWrite(c, i.a, x, lowest(std::popcount(mask)), compressed<T>(c, i, mask), count, kLog2<T>);
}
template <class T>
void compressToMemory(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    evexStore(c, i, x, lowest(std::popcount(mask)), compressed<T>(c, i, mask), count, kLog2<T>);
}
template <class T>
Handler compressForm(const Shape& s) {
    return s.isMem(0) ? straight<compressToMemory<T>> : straight<compress<T>>;
}
template <class T>
void expand(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource source(c, i, x, lowest(std::popcount(mask)), count);
    Vector r;
    unsigned from = 0;
    forEach(mask, [&](unsigned n) { r.set<T>(n, source.get<T>(from++)); });
    evexWrite(c, i.a, x, mask, r, count, kLog2<T>);
}

using B = uint8_t;
using W = uint16_t;
using D = uint32_t;
using Q = uint64_t;

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_VMOVAPS, moveForm<true>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVAPD, moveForm<true>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVDQA32, moveForm<true>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVDQA64, moveForm<true>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVUPS, moveForm<false>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVUPD, moveForm<false>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVDQU8, moveForm<false>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVDQU16, moveForm<false>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVDQU32, moveForm<false>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVDQU64, moveForm<false>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVNTPS, moveForm<true>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVNTPD, moveForm<true>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVNTDQ, moveForm<true>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVNTDQA, moveForm<true>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVSS, scalarForm<D>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VMOVSD, scalarForm<Q>, kOnlyEvex},

    {ZYDIS_MNEMONIC_VPBLENDMB, only<blend>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPBLENDMW, only<blend>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPBLENDMD, only<blend>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPBLENDMQ, only<blend>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBLENDMPS, only<blend>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBLENDMPD, only<blend>, kOnlyEvex},

    {ZYDIS_MNEMONIC_VPBROADCASTB, broadcastForm<B>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPBROADCASTW, broadcastForm<W>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPBROADCASTD, broadcastForm<D>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPBROADCASTQ, broadcastForm<Q>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTSS, only<broadcast<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTSD, only<broadcast<Q>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTF32X2, only<broadcast<Q>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTI32X2, only<broadcast<Q>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTF32X4, only<broadcast<Xmm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTI32X4, only<broadcast<Xmm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTF64X2, only<broadcast<Xmm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTI64X2, only<broadcast<Xmm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTF32X8, only<broadcast<Ymm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTI32X8, only<broadcast<Ymm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTF64X4, only<broadcast<Ymm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VBROADCASTI64X4, only<broadcast<Ymm>>, kOnlyEvex},

    {ZYDIS_MNEMONIC_VINSERTF32X4, only<insertGroup<Xmm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VINSERTI32X4, only<insertGroup<Xmm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VINSERTF64X2, only<insertGroup<Xmm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VINSERTI64X2, only<insertGroup<Xmm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VINSERTF32X8, only<insertGroup<Ymm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VINSERTI32X8, only<insertGroup<Ymm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VINSERTF64X4, only<insertGroup<Ymm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VINSERTI64X4, only<insertGroup<Ymm>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXTRACTF32X4, extractForm<Xmm>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXTRACTI32X4, extractForm<Xmm>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXTRACTF64X2, extractForm<Xmm>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXTRACTI64X2, extractForm<Xmm>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXTRACTF32X8, extractForm<Ymm>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXTRACTI32X8, extractForm<Ymm>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXTRACTF64X4, extractForm<Ymm>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXTRACTI64X4, extractForm<Ymm>, kOnlyEvex},

    {ZYDIS_MNEMONIC_VPCOMPRESSB, compressForm<B>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCOMPRESSW, compressForm<W>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCOMPRESSD, compressForm<D>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPCOMPRESSQ, compressForm<Q>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCOMPRESSPS, compressForm<D>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VCOMPRESSPD, compressForm<Q>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPEXPANDB, only<expand<B>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPEXPANDW, only<expand<W>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPEXPANDD, only<expand<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPEXPANDQ, only<expand<Q>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXPANDPS, only<expand<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VEXPANDPD, only<expand<Q>>, kOnlyEvex},
};

}  // namespace

std::span<const Row> avx512MoveRows() { return kRows; }

}  // namespace kiln
