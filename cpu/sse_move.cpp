// SSE to SSE4.2: moves, masks, cache hints and MXCSR (SDM vol. 1, 10.4 to 12.8; vol. 2). The moves between
// general and MM registers that share a mnemonic are here too. Non-temporal hints mean nothing here: stores
// are plain stores; fences are plain instructions, because one processor's memory accesses happen in program
// order.
#include "cpu/simd.hpp"

namespace kiln {
namespace {

// -- whole registers
template <class Source>
void loadXmm(Cpu& c, const Insn& i) {
    c.checkSse();
    setXmm(c, i.a, Source::template load<Xmm>(c, i));
}
// By halves: behind an instruction that wrote only the low half, a load of all 16 bytes would wait for that
// store to leave the host's store buffer. Volatile keeps compilers from joining the halves.
void copyXmm(Cpu& c, const Insn& i) {
    c.checkSse();
    const volatile uint64_t* from = c.vec[i.b].q.data();
    uint64_t low = from[0], high = from[1];
    c.vec[i.a].q[0] = low;
    c.vec[i.a].q[1] = high;
}
void storeAligned(Cpu& c, const Insn& i) {
    c.checkSse();
    c.store<Xmm>(i.seg, alignedAddress(c, i, Access::Write), getXmm(c, i.b));
}
void storeUnaligned(Cpu& c, const Insn& i) {
    c.checkSse();
    c.storeOperand<Xmm>(i, getXmm(c, i.b));
}
Handler moveAligned(const Shape& s) {
    if (s.isMem(0)) return straight<storeAligned>;
    return s.isMem(1) ? straight<loadXmm<FromMem>> : straight<copyXmm>;
}
Handler moveUnaligned(const Shape& s) {
    if (s.isMem(0)) return straight<storeUnaligned>;
    return s.isMem(1) ? straight<loadXmm<FromUnaligned>> : straight<copyXmm>;
}

// -- one lane of T: MOVSS, MOVSD, MOVLPS, MOVHPS ...
template <class T, unsigned lane>
void storeLane(Cpu& c, const Insn& i) {
    c.checkSse();
    c.storeOperand<T>(i, c.vec[i.b].get<T>(lane));
}
template <class T, unsigned lane>
void loadLane(Cpu& c, const Insn& i) {  // the other lanes stay
    c.checkSse();
    c.vec[i.a].set<T>(lane, c.loadOperand<T>(i));
}
template <class T, unsigned to, unsigned from>
void copyLane(Cpu& c, const Insn& i) {
    c.checkSse();
    c.vec[i.a].set<T>(to, c.vec[i.b].get<T>(from));
}
template <class T>
Handler moveScalar(const Shape& s) {  // a load clears the rest, a copy does not
    if (s.isMem(0)) return straight<storeLane<T, 0>>;
    if (!isXmm(s, 0)) return nullptr;  // the string instruction MOVSD
    return s.isMem(1) ? straight<loadXmm<FromLow<T>>> : straight<copyLane<T, 0, 0>>;
}
Handler moveStringOrScalar(const Shape& s) {
    return isXmm(s, 0) || isXmm(s, 1) ? moveScalar<uint64_t>(s) : nullptr;
}
template <unsigned lane>
Handler moveHalf(const Shape& s) {
    return s.isMem(0) ? straight<storeLane<uint64_t, lane>> : straight<loadLane<uint64_t, lane>>;
}

// -- MOVD, MOVQ: between general registers or memory and XMM or MM
template <class T, class V, class Source>
void fromGeneral(Cpu& c, const Insn& i) {
    checkAvailable<V>(c);
    V v{};
    v.template set<T>(0, Source::template load<T>(c, i));
    settleTags<V>(c);
    setVector<V>(c, i.a, v);
}
template <class T, class V, class Destination>
void toGeneral(Cpu& c, const Insn& i) {
    checkAvailable<V>(c);
    beforeStore<V>(c);
    Destination::template store<T>(c, i, getVector<V>(c, i.b).template get<T>(0));
    settleTags<V>(c);
}
template <class T, class V>
Handler generalForm(const Shape& s, bool load) {
    if (load) return s.isMem(1) ? straight<fromGeneral<T, V, Mem>> : straight<fromGeneral<T, V, RegB>>;
    return s.isMem(0) ? straight<toGeneral<T, V, Mem>> : straight<toGeneral<T, V, RegA>>;
}
void copyMm(Cpu& c, const Insn& i) {
    c.checkMmx();
    enterMmx(c);
    setMm(c, i.a, getVector<Mm>(c, i.b).q);
}
void copyLowQuad(Cpu& c, const Insn& i) {
    c.checkSse();
    setXmm(c, i.a, Xmm{{c.vec[i.b].q[0], 0}});
}
template <class T>
Handler moveGeneral(const Shape& s) {
    if (isMm(s, 0) && isMm(s, 1)) return straight<copyMm>;
    if (isXmm(s, 0) && isXmm(s, 1)) return straight<copyLowQuad>;
    if (isMm(s, 0) || isMm(s, 1)) return generalForm<T, Mm>(s, isMm(s, 0));
    return generalForm<T, Xmm>(s, isXmm(s, 0));
}
void movq2dq(Cpu& c, const Insn& i) {
    c.checkSse();
    c.checkMmx();
    enterMmx(c);
    setXmm(c, i.a, Xmm{{getVector<Mm>(c, i.b).q, 0}});
}
void movdq2q(Cpu& c, const Insn& i) {
    c.checkSse();
    c.checkMmx();
    enterMmx(c);
    setMm(c, i.a, c.vec[i.b].q[0]);
}

// -- non-temporal and masked stores
void movntq(Cpu& c, const Insn& i) {
    c.checkMmx();
    beforeStore<Mm>(c);
    c.storeOperand<uint64_t>(i, getVector<Mm>(c, i.b).q);
    enterMmx(c);
}
template <class T>
void movnti(Cpu& c, const Insn& i) {
    c.storeOperand<T>(i, c.gpr.get<T>(i.b));
}
// The bytes of operand 1 whose mask byte in operand 2 has its top bit set go to DS:rDI (a prefix may replace
// DS). All bytes must be writable whatever the mask says, as Intel's processors have it.
template <class V>
void maskedStore(Cpu& c, const Insn& i) {
    checkAvailable<V>(c);
    static constexpr uint64_t kMask[4] = {0xffff, 0xffffffff, ~0ull, ~0ull};
    auto address = [&](unsigned n) { return (c.gpr[Rdi] + n) & kMask[i.addressSize]; };
    V data = getVector<V>(c, i.a), mask = getVector<V>(c, i.b);
    settleTags<V>(c);
    c.checkWrite(i.seg, address(0), sizeof(V));
    for (unsigned n = 0; n < sizeof(V); n++)
        if (mask.template get<uint8_t>(n) & 0x80)
            c.store<uint8_t>(i.seg, address(n), data.template get<uint8_t>(n));
}
Handler maskedStoreForm(const Shape& s) {
    return isMm(s, 0) ? straight<maskedStore<Mm>> : straight<maskedStore<Xmm>>;
}

// -- masks into general registers. A 32-bit write clears the upper half, so it serves r64 as well.
template <class V, class T>
void signMask(Cpu& c, const Insn& i) {
    checkAvailable<V>(c);
    settleTags<V>(c);
    auto lanes = split<T>(getVector<V>(c, i.b));
    uint32_t mask = 0;
    for (unsigned n = 0; n < kLanes<T, V>; n++) mask |= uint32_t(lanes[n] >> (8 * sizeof(T) - 1)) << n;
    c.gpr.set<uint32_t>(i.a, mask);
}
// The top bits of eight bytes, gathered: bit 7 of byte n arrives at bit 56 + n of the product.
uint32_t byteSigns(uint64_t q) { return uint32_t((q & 0x8080808080808080) * 0x0002040810204081 >> 56); }
void byteMaskMm(Cpu& c, const Insn& i) {
    c.checkMmx();
    enterMmx(c);
    c.gpr.set<uint32_t>(i.a, byteSigns(getVector<Mm>(c, i.b).q));
}
void byteMaskXmm(Cpu& c, const Insn& i) {
    c.checkSse();
    c.gpr.set<uint32_t>(i.a, byteSigns(c.vec[i.b].q[0]) | byteSigns(c.vec[i.b].q[1]) << 8);
}
Handler byteMaskForm(const Shape& s) { return isMm(s, 1) ? straight<byteMaskMm> : straight<byteMaskXmm>; }

// -- MOVDDUP, MOVSHDUP, MOVSLDUP
struct DuplicateLowQuad {
    static Xmm run(const Xmm&, const Xmm& b) { return {{b.q[0], b.q[0]}}; }
};
template <unsigned odd>
struct DuplicateFloats {
    static Xmm run(const Xmm&, const Xmm& b) {
        auto x = split<uint32_t>(b);
        return join<Xmm>(std::array<uint32_t, 4>{x[odd], x[odd], x[2 + odd], x[2 + odd]});
    }
};

// -- caches, fences, MXCSR
void nothing(Cpu&, const Insn&) {}
// No caches; but the byte must be readable. A register behind it is not read.
void clflush(Cpu& c, const Insn& i) { c.readablePointer(i.seg, c.effectiveAddress(i), 1); }
constexpr uint32_t kMxcsrMask = 0xffff;
void ldmxcsr(Cpu& c, const Insn& i) {
    c.checkSse();
    uint32_t v = c.loadOperand<uint32_t>(i);
    if (v & ~kMxcsrMask) raise(kGP, 0);
    c.mxcsr = v;
}
void stmxcsr(Cpu& c, const Insn& i) {
    c.checkSse();
    c.storeOperand<uint32_t>(i, c.mxcsr);
}

}  // namespace

std::span<const Row> sseMoveRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_MOVAPS, moveAligned},
        {ZYDIS_MNEMONIC_MOVAPD, moveAligned},
        {ZYDIS_MNEMONIC_MOVDQA, moveAligned},
        {ZYDIS_MNEMONIC_MOVUPS, moveUnaligned},
        {ZYDIS_MNEMONIC_MOVUPD, moveUnaligned},
        {ZYDIS_MNEMONIC_MOVDQU, moveUnaligned},
        {ZYDIS_MNEMONIC_LDDQU, only<loadXmm<FromUnaligned>>},
        {ZYDIS_MNEMONIC_MOVNTDQA, only<loadXmm<FromMem>>},
        {ZYDIS_MNEMONIC_MOVNTPS, only<storeAligned>},
        {ZYDIS_MNEMONIC_MOVNTPD, only<storeAligned>},
        {ZYDIS_MNEMONIC_MOVNTDQ, only<storeAligned>},
        {ZYDIS_MNEMONIC_MOVNTQ, only<movntq>},
        {ZYDIS_MNEMONIC_MOVNTI,
         [](const Shape& s) -> Handler {
             return s.bits(1) == 64 ? straight<movnti<uint64_t>> : straight<movnti<uint32_t>>;
         }},
        {ZYDIS_MNEMONIC_MASKMOVQ, maskedStoreForm},
        {ZYDIS_MNEMONIC_MASKMOVDQU, maskedStoreForm},

        {ZYDIS_MNEMONIC_MOVSS, moveScalar<uint32_t>},
        {ZYDIS_MNEMONIC_MOVSD, moveStringOrScalar},
        {ZYDIS_MNEMONIC_MOVLPS, moveHalf<0>},
        {ZYDIS_MNEMONIC_MOVLPD, moveHalf<0>},
        {ZYDIS_MNEMONIC_MOVHPS, moveHalf<1>},
        {ZYDIS_MNEMONIC_MOVHPD, moveHalf<1>},
        {ZYDIS_MNEMONIC_MOVHLPS, only<copyLane<uint64_t, 0, 1>>},
        {ZYDIS_MNEMONIC_MOVLHPS, only<copyLane<uint64_t, 1, 0>>},
        {ZYDIS_MNEMONIC_MOVDDUP, xmm<DuplicateLowQuad, FromLow<uint64_t>>},
        {ZYDIS_MNEMONIC_MOVSLDUP, xmm<DuplicateFloats<0>>},
        {ZYDIS_MNEMONIC_MOVSHDUP, xmm<DuplicateFloats<1>>},

        {ZYDIS_MNEMONIC_MOVD, moveGeneral<uint32_t>},
        {ZYDIS_MNEMONIC_MOVQ, moveGeneral<uint64_t>},
        {ZYDIS_MNEMONIC_MOVQ2DQ, only<movq2dq>},
        {ZYDIS_MNEMONIC_MOVDQ2Q, only<movdq2q>},
        {ZYDIS_MNEMONIC_MOVMSKPS, only<signMask<Xmm, uint32_t>>},
        {ZYDIS_MNEMONIC_MOVMSKPD, only<signMask<Xmm, uint64_t>>},
        {ZYDIS_MNEMONIC_PMOVMSKB, byteMaskForm},

        {ZYDIS_MNEMONIC_PREFETCH, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHW, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHNTA, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHT0, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHT1, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHT2, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHWT1, only<nothing>},
        {ZYDIS_MNEMONIC_SFENCE, only<nothing>},
        {ZYDIS_MNEMONIC_LFENCE, only<nothing>},
        {ZYDIS_MNEMONIC_MFENCE, only<nothing>},
        {ZYDIS_MNEMONIC_CLFLUSH, only<clflush>},
        {ZYDIS_MNEMONIC_LDMXCSR, only<ldmxcsr>},
        {ZYDIS_MNEMONIC_STMXCSR, only<stmxcsr>},
    };
    return rows;
}

}  // namespace kiln
