// SSE to SSE4.2: moves, masks, cache hints and MXCSR (SDM vol. 1, 10.4 to 12.8; vol. 2). The moves between
// general and MM registers that share a mnemonic are here too. Non-temporal hints mean nothing here: stores
// are plain stores; only MFENCE does anything, because one processor's memory accesses happen in program
// order.
#include "cpu/simd.hpp"

namespace kiln {
namespace {

// -- whole registers
template <class E, class Source>
void loadVector(Cpu& c, const Insn& i) {
    E::check(c);
    E::set(c, i.a, Source::template load<E>(c, i));
}
// By halves: behind an instruction that wrote only the low half, a load of all 16 bytes would wait for that
// store to leave the host's store buffer. Volatile keeps compilers from joining the halves.
template <class E>
void copyVector(Cpu& c, const Insn& i) {
    E::check(c);
    if constexpr (E::kVex) {
        E::set(c, i.a, E::get(c, i.b));
    } else {
        const volatile uint64_t* from = c.vec[i.b].q.data();
        uint64_t low = from[0], high = from[1];
        c.vec[i.a].q[0] = low;
        c.vec[i.a].q[1] = high;
    }
}
template <class E>
void storeAligned(Cpu& c, const Insn& i) {
    using V = typename E::V;
    E::check(c);
    c.store<V>(i.seg, alignedAddress<V>(c, i, Access::Write), E::get(c, i.b));
}
template <class E>
void storeUnaligned(Cpu& c, const Insn& i) {
    E::check(c);
    c.storeOperand<typename E::V>(i, E::get(c, i.b));
}
Handler moveAligned(const Shape& s) {
    return byEncoding(s, [&]<class E>() {
        if (s.isMem(0)) return straight<storeAligned<E>>;
        return s.isMem(1) ? straight<loadVector<E, FromAligned>> : straight<copyVector<E>>;
    });
}
Handler moveUnaligned(const Shape& s) {
    return byEncoding(s, [&]<class E>() {
        if (s.isMem(0)) return straight<storeUnaligned<E>>;
        return s.isMem(1) ? straight<loadVector<E, FromUnaligned>> : straight<copyVector<E>>;
    });
}
Handler loadAligned(const Shape& s) {
    return byEncoding(s, []<class E>() { return straight<loadVector<E, FromAligned>>; });
}
Handler loadUnaligned(const Shape& s) {
    return byEncoding(s, []<class E>() { return straight<loadVector<E, FromUnaligned>>; });
}
Handler storeNonTemporal(const Shape& s) {
    return byEncoding(s, []<class E>() { return straight<storeAligned<E>>; });
}

// -- one lane of T: MOVSS, MOVSD, MOVLPS, MOVHPS ...
template <class E, class T, unsigned lane>
void storeLane(Cpu& c, const Insn& i) {
    E::check(c);
    c.storeOperand<T>(i, c.vec[i.b].get<T>(lane));
}
// The other lanes stay; with VEX they come from the first source.
template <class E, class T, unsigned to>
void setLane(Cpu& c, const Insn& i, T v) {
    if constexpr (E::kVex) {
        Xmm r = getXmm(c, i.b);
        r.set<T>(to, v);
        E::set(c, i.a, r);
    } else {
        c.vec[i.a].set<T>(to, v);
    }
}
template <class E, class T, unsigned lane>
void loadLane(Cpu& c, const Insn& i) {
    E::check(c);
    setLane<E, T, lane>(c, i, c.loadOperand<T>(i));
}
template <class E, class T, unsigned to, unsigned from>
void copyLane(Cpu& c, const Insn& i) {
    E::check(c);
    setLane<E, T, to>(c, i, c.vec[E::last(i)].template get<T>(from));
}
template <class T>
Handler moveScalar(const Shape& s) {  // a load clears the rest, a copy does not
    return byEncoding128(s, [&]<class E>() {
        if (s.isMem(0)) return straight<storeLane<E, T, 0>>;
        return s.isMem(1) ? straight<loadVector<E, FromLow<T>>> : straight<copyLane<E, T, 0, 0>>;
    });
}
// The string instruction MOVSD has the same name.
Handler moveStringOrScalar(const Shape& s) {
    return isXmm(s, 0) || isXmm(s, 1) ? moveScalar<uint64_t>(s) : nullptr;
}
template <unsigned lane>
Handler moveHalf(const Shape& s) {
    return byAnyEncoding128(s, [&]<class E>() {
        return s.isMem(0) ? straight<storeLane<E, uint64_t, lane>> : straight<loadLane<E, uint64_t, lane>>;
    });
}
template <unsigned to, unsigned from>
Handler copyHalf(const Shape& s) {
    return byAnyEncoding128(s, []<class E>() { return straight<copyLane<E, uint64_t, to, from>>; });
}

// -- MOVD, MOVQ: between general registers or memory and XMM or MM
template <class T, class E, class Source>
void fromGeneral(Cpu& c, const Insn& i) {
    E::check(c);
    typename E::V v{};
    v.template set<T>(0, Source::template load<T>(c, i));
    E::settle(c);
    E::set(c, i.a, v);
}
template <class T, class E, class Destination>
void toGeneral(Cpu& c, const Insn& i) {
    E::check(c);
    E::beforeStore(c);
    Destination::template store<T>(c, i, E::get(c, i.b).template get<T>(0));
    E::settle(c);
}
template <class T, class E>
Handler generalForm(const Shape& s, bool load) {
    if (load) return s.isMem(1) ? straight<fromGeneral<T, E, Mem>> : straight<fromGeneral<T, E, RegB>>;
    return s.isMem(0) ? straight<toGeneral<T, E, Mem>> : straight<toGeneral<T, E, RegA>>;
}
void copyMm(Cpu& c, const Insn& i) {
    c.checkMmx();
    enterMmx(c);
    setMm(c, i.a, Mmx::get(c, i.b).q);
}
template <class E>
void copyLowQuad(Cpu& c, const Insn& i) {
    E::check(c);
    E::set(c, i.a, Xmm{{c.vec[i.b].q[0], 0}});
}
template <class T>
Handler moveGeneral(const Shape& s) {
    if (isMm(s, 0) && isMm(s, 1)) return straight<copyMm>;
    if (isMm(s, 0) || isMm(s, 1)) return generalForm<T, Mmx>(s, isMm(s, 0));
    return byAnyEncoding128(s, [&]<class E>() {
        if (isXmm(s, 0) && isXmm(s, 1)) return straight<copyLowQuad<E>>;
        return generalForm<T, E>(s, isXmm(s, 0));
    });
}
void movq2dq(Cpu& c, const Insn& i) {
    c.checkSse();
    c.checkMmx();
    enterMmx(c);
    setXmm(c, i.a, Xmm{{Mmx::get(c, i.b).q, 0}});
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
    Mmx::beforeStore(c);
    c.storeOperand<uint64_t>(i, Mmx::get(c, i.b).q);
    enterMmx(c);
}
template <class T>
void movnti(Cpu& c, const Insn& i) {
    c.storeOperand<T>(i, c.gpr.get<T>(i.b));
}
// The bytes of operand 1 whose mask byte in operand 2 has its top bit set go to DS:rDI (a prefix may replace
// DS). All bytes must be writable whatever the mask says, as Intel's processors have it.
template <class E>
void maskedStore(Cpu& c, const Insn& i) {
    E::check(c);
    using V = typename E::V;
    auto address = [&](unsigned n) { return c.cutAddress(i, c.gpr[Rdi] + n); };
    V data = E::get(c, i.a), mask = E::get(c, i.b);
    E::settle(c);
    c.checkWrite(i.seg, address(0), 8);  // what alignment checks want, for 16 bytes as well
    c.checkWrite(i.seg, address(0), sizeof(V));
    for (unsigned n = 0; n < sizeof(V); n++)
        if (mask.template get<uint8_t>(n) & 0x80)
            c.store<uint8_t>(i.seg, address(n), data.template get<uint8_t>(n));
}
Handler maskedStoreForm(const Shape& s) {
    if (isMm(s, 0)) return straight<maskedStore<Mmx>>;
    return byEncoding128(s, []<class E>() { return straight<maskedStore<E>>; });
}

// -- masks into general registers. A 32-bit write clears the upper half, so it serves r64 as well.
template <class E, class T>
void signMask(Cpu& c, const Insn& i) {
    E::check(c);
    auto lanes = split<T>(E::get(c, i.b));
    uint32_t mask = 0;
    for (unsigned n = 0; n < lanes.size(); n++) mask |= uint32_t(lanes[n] >> (8 * sizeof(T) - 1)) << n;
    c.gpr.set<uint32_t>(i.a, mask);
}
template <class T>
Handler signMaskForm(const Shape& s) {
    return byEncoding(s, []<class E>() { return straight<signMask<E, T>>; });
}
// The top bits of eight bytes, gathered: bit 7 of byte n arrives at bit 56 + n of the product.
uint32_t byteSigns(uint64_t q) { return uint32_t((q & 0x8080808080808080) * 0x0002040810204081 >> 56); }
void byteMaskMm(Cpu& c, const Insn& i) {
    c.checkMmx();
    enterMmx(c);
    c.gpr.set<uint32_t>(i.a, byteSigns(Mmx::get(c, i.b).q));
}
template <class E>
void byteMask(Cpu& c, const Insn& i) {
    E::check(c);
    uint32_t mask = 0;
    for (unsigned n = 0; n < sizeof(typename E::V) / 8; n++) mask |= byteSigns(c.vec[i.b].q[n]) << 8 * n;
    c.gpr.set<uint32_t>(i.a, mask);
}
Handler byteMaskForm(const Shape& s) {
    if (isMm(s, 1)) return straight<byteMaskMm>;
    return byEncoding(s, []<class E>() { return straight<byteMask<E>>; });
}

// -- MOVDDUP, MOVSHDUP, MOVSLDUP
struct DuplicateLowQuad {
    static Xmm run(const Xmm&, const Xmm& b) { return {{b.q[0], b.q[0]}}; }
};
Handler duplicateQuads(const Shape& s) {
    if (s.evex()) return straight<evexBody<DuplicateLowQuad>>;
    if (s.vex() && s.ymm()) return vectorForm<Vex256, DuplicateLowQuad>(s);
    return xmm128<DuplicateLowQuad, FromLow<uint64_t>>(s);
}
template <unsigned odd>
struct DuplicateFloats {
    static Xmm run(const Xmm&, const Xmm& b) {
        auto x = split<uint32_t>(b);
        return join<Xmm>(std::array<uint32_t, 4>{x[odd], x[odd], x[2 + odd], x[2 + odd]});
    }
};

// -- caches, fences, MXCSR
void nothing(Cpu&, const Insn&) {}
void mfence(Cpu& c, const Insn&) {
    if (c.threaded) fenceGuest();
}
// No caches; but the byte must be readable. A register behind it is not read.
void clflush(Cpu& c, const Insn& i) { c.readablePointer(i.seg, c.effectiveAddress(i), 1); }
constexpr uint32_t kMxcsrMask = 0xffff;
template <class E>
void ldmxcsr(Cpu& c, const Insn& i) {
    E::check(c);
    uint32_t v = c.loadOperand<uint32_t>(i);
    if (v & ~kMxcsrMask) raise(kGP, 0);
    c.mxcsr = v;
}
template <class E>
void stmxcsr(Cpu& c, const Insn& i) {
    E::check(c);
    c.storeOperand<uint32_t>(i, c.mxcsr);
}

Handler loadControl(const Shape& s) {
    return byEncoding128(s, []<class E>() { return straight<ldmxcsr<E>>; });
}
Handler storeControl(const Shape& s) {
    return byEncoding128(s, []<class E>() { return straight<stmxcsr<E>>; });
}

}  // namespace

std::span<const Row> sseMoveRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_MOVAPS, moveAligned, kVex},
        {ZYDIS_MNEMONIC_MOVAPD, moveAligned, kVex},
        {ZYDIS_MNEMONIC_MOVDQA, moveAligned, kVex},
        {ZYDIS_MNEMONIC_MOVUPS, moveUnaligned, kVex},
        {ZYDIS_MNEMONIC_MOVUPD, moveUnaligned, kVex},
        {ZYDIS_MNEMONIC_MOVDQU, moveUnaligned, kVex},
        {ZYDIS_MNEMONIC_LDDQU, loadUnaligned, kVex},
        {ZYDIS_MNEMONIC_MOVNTDQA, loadAligned, kVex},
        {ZYDIS_MNEMONIC_MOVNTPS, storeNonTemporal, kVex},
        {ZYDIS_MNEMONIC_MOVNTPD, storeNonTemporal, kVex},
        {ZYDIS_MNEMONIC_MOVNTDQ, storeNonTemporal, kVex},
        {ZYDIS_MNEMONIC_MOVNTQ, only<movntq>},
        {ZYDIS_MNEMONIC_MOVNTI,
         [](const Shape& s) -> Handler {
             return s.bits(1) == 64 ? straight<movnti<uint64_t>> : straight<movnti<uint32_t>>;
         }},
        {ZYDIS_MNEMONIC_MASKMOVQ, maskedStoreForm},
        {ZYDIS_MNEMONIC_MASKMOVDQU, maskedStoreForm, kVex},

        {ZYDIS_MNEMONIC_MOVSS, moveScalar<uint32_t>, kVex},
        {ZYDIS_MNEMONIC_MOVSD, moveStringOrScalar, kVex},
        {ZYDIS_MNEMONIC_MOVLPS, moveHalf<0>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVLPD, moveHalf<0>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVHPS, moveHalf<1>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVHPD, moveHalf<1>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVHLPS, copyHalf<0, 1>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVLHPS, copyHalf<1, 0>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVDDUP, duplicateQuads, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVSLDUP, xmm<DuplicateFloats<0>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVSHDUP, xmm<DuplicateFloats<1>>, kVex | kEvex},

        {ZYDIS_MNEMONIC_MOVD, moveGeneral<uint32_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVQ, moveGeneral<uint64_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_MOVQ2DQ, only<movq2dq>},
        {ZYDIS_MNEMONIC_MOVDQ2Q, only<movdq2q>},
        {ZYDIS_MNEMONIC_MOVMSKPS, signMaskForm<uint32_t>, kVex},
        {ZYDIS_MNEMONIC_MOVMSKPD, signMaskForm<uint64_t>, kVex},
        {ZYDIS_MNEMONIC_PMOVMSKB, byteMaskForm, kVex},

        {ZYDIS_MNEMONIC_PREFETCH, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHW, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHNTA, only<nothing>, kVex},
        {ZYDIS_MNEMONIC_PREFETCHT0, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHT1, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHT2, only<nothing>},
        {ZYDIS_MNEMONIC_PREFETCHWT1, only<nothing>},
        {ZYDIS_MNEMONIC_SFENCE, only<nothing>},
        {ZYDIS_MNEMONIC_LFENCE, only<nothing>},
        {ZYDIS_MNEMONIC_MFENCE, only<mfence>},
        {ZYDIS_MNEMONIC_CLFLUSH, only<clflush>},
        {ZYDIS_MNEMONIC_CLFLUSHOPT, only<clflush>},
        {ZYDIS_MNEMONIC_CLWB, only<clflush>},
        {ZYDIS_MNEMONIC_CLDEMOTE, only<nothing>},
        {ZYDIS_MNEMONIC_LDMXCSR, loadControl, kVex},
        {ZYDIS_MNEMONIC_STMXCSR, storeControl, kVex},
    };
    return rows;
}

}  // namespace kiln
