// What MMX, SSE and AVX bodies have in common: encodings, operands, and the families that turn a function of
// lanes into bodies for MM, XMM and YMM registers alike (SDM vol. 1, chapters 9 to 14).
//
//     struct AddWrap { template <class T> static T of(T a, T b) { return T(a + b); } };
//     {ZYDIS_MNEMONIC_PADDB, mmOrXmm<Lanes<uint8_t, AddWrap>>, kVex | kEvex}
//
// This row makes PADDB for MM and XMM registers and, by kVex, VPADDB for XMM and YMM registers; by kEvex also
// for ZMM registers, with opmasks.
//
// An operation is a type with `run(V a, V b)` or `run(V a, V b, uint8_t imm)`, where a is the first source, b
// the last one, and V is Mm or Xmm; on YMM registers it runs on both 128-bit lanes. An operation whose lanes
// have bits of their own in the immediate says how many: `kImmediateBits`. Zydis has one mnemonic for the MM
// and the XMM form: selectors look at the registers.
#pragma once
#include <array>
#include <bit>
#include <cstdint>

#include "cpu/body.hpp"
#include "cpu/evex.hpp"

namespace kiln {

// The 8 bytes an MMX instruction reads or writes.
struct Mm {
    uint64_t q = 0;

    template <class T>
    T get(unsigned i) const {
        return T(q >> (8 * sizeof(T) * i));
    }
    template <class T>
    void set(unsigned i, T v) {
        std::memcpy(reinterpret_cast<char*>(&q) + i * sizeof(T), &v, sizeof v);
    }
};

template <class T, class V>
constexpr unsigned kLanes = sizeof(V) / sizeof(T);

// All that passes vectors by value is inlined by force: 16 bytes returned from a call arrive in two general
// registers, and a load of the whole stalls until both halves have left the host's store buffer.
template <class T, class V>
[[gnu::always_inline]] inline std::array<T, kLanes<T, V>> split(const V& v) {
    return std::bit_cast<std::array<T, kLanes<T, V>>>(v);
}
template <class V, class T, size_t N>
[[gnu::always_inline]] inline V join(const std::array<T, N>& lanes) {
    return std::bit_cast<V>(lanes);
}

// -- registers
[[gnu::always_inline]] inline Xmm getXmm(const Cpu& c, unsigned n) { return c.vec[n].get<Xmm>(0); }
[[gnu::always_inline]] inline void setXmm(Cpu& c, unsigned n, const Xmm& v) { c.vec[n].set<Xmm>(0, v); }

// Every MMX instruction but EMMS marks all registers valid and sets TOP to 0; a write also fills sign and
// exponent with ones (SDM vol. 1, 9.5.1). Processors do so when their loads are done: #XM comes after it, and
// a store that faults has already set TOP.
inline void enterMmx(Cpu& c) {
    c.fpu.setTop(0);
    c.fpu.empty = 0;
}
inline void setMm(Cpu& c, unsigned n, uint64_t v) { c.fpu.physical[n] = {v, 0xffff}; }

// -- encodings. They decide which registers an instruction names, what it needs enabled, and what becomes of
// the bits above its result. Bodies are templates over one of Mmx, Sse, Vex128, Vex256.

// The destination is the first source, too.
struct TwoOperands {
    static constexpr bool kVex = false;
    static unsigned first(const Insn& i) { return i.a; }
    static unsigned last(const Insn& i) { return i.b; }
    static unsigned mask(const Insn&) { return 0; }  // BLENDVPS and relatives: XMM0
};
struct Mmx : TwoOperands {
    using V = Mm;
    using Narrow = Mmx;
    static void check(Cpu& c) { c.checkMmx(); }
    static void settle(Cpu& c) { enterMmx(c); }
    static void beforeStore(Cpu& c) { c.fpu.setTop(0); }
    [[gnu::always_inline]] static Mm get(const Cpu& c, unsigned n) { return {c.fpu.physical[n].mantissa}; }
    [[gnu::always_inline]] static void set(Cpu& c, unsigned n, const Mm& v) { setMm(c, n, v.q); }
};
// Bits above 127 stay.
struct Sse : TwoOperands {
    using V = Xmm;
    using Narrow = Sse;
    static void check(Cpu& c) { c.checkSse(); }
    static void settle(Cpu&) {}
    static void beforeStore(Cpu&) {}
    [[gnu::always_inline]] static Xmm get(const Cpu& c, unsigned n) { return getXmm(c, n); }
    [[gnu::always_inline]] static void set(Cpu& c, unsigned n, const Xmm& v) { setXmm(c, n, v); }
};
// A destination apart from the sources; bits above the result are cleared, up to the register's top.
template <class Wide>
struct Vex {
    static constexpr bool kVex = true;
    using V = Wide;
    using Narrow = Vex<Xmm>;
    static unsigned first(const Insn& i) { return i.b; }
    static unsigned last(const Insn& i) { return i.c; }
    static unsigned mask(const Insn& i) { return i.d; }
    static void check(Cpu& c) { c.checkAvx(); }
    static void settle(Cpu&) {}
    static void beforeStore(Cpu&) {}
    [[gnu::always_inline]] static V get(const Cpu& c, unsigned n) { return c.vec[n].get<V>(0); }
    [[gnu::always_inline]] static void set(Cpu& c, unsigned n, const V& v) {
        c.vec[n].set<V>(0, v);
        if constexpr (sizeof(V) == 16) c.vec[n].set<Xmm>(1, Xmm{});
        c.vec[n].set<Ymm>(1, Ymm{});
    }
};
using Vex128 = Vex<Xmm>;
using Vex256 = Vex<Ymm>;
// EVEX without an opmask: scalar moves and the like, which differ from VEX in what they need enabled and in
// reaching 32 registers.
struct Evex128 : Vex<Xmm> {
    static void check(Cpu& c) { c.checkAvx512(); }
};

// A scalar result: the first source's other lanes join it.
template <class E, class T>
[[gnu::always_inline]] inline void setLow(Cpu& c, const Insn& i, T v) {
    if constexpr (E::kVex) {
        Xmm r = getXmm(c, E::first(i));
        r.template set<T>(0, v);
        Vex128::set(c, i.a, r);
    } else {
        c.vec[i.a].set<T>(0, v);
    }
}

// -- memory. SSE's 16-byte operands are aligned unless the instruction says otherwise, AVX's only when it
// does (SDM vol. 1, 4.1.1, 14.9).
void alignmentFault(Cpu& c, const Insn& i, uint64_t offset, Access access,
                    unsigned size);  // returns when it is aligned after all

template <class V>
[[gnu::always_inline]] inline uint64_t alignedAddress(Cpu& c, const Insn& i, Access access) {
    uint64_t offset = c.effectiveAddress(i);
    if ((offset | c.seg[i.seg].base) & (sizeof(V) - 1)) [[unlikely]]
        alignmentFault(c, i, offset, access, sizeof(V));
    return offset;
}

// Sources: what the last operand is.
struct FromReg {
    template <class E>
    [[gnu::always_inline]] static typename E::V load(Cpu& c, const Insn& i) {
        return E::get(c, E::last(i));
    }
};
struct FromAligned {
    template <class E>
    [[gnu::always_inline]] static typename E::V load(Cpu& c, const Insn& i) {
        using V = typename E::V;
        return c.load<V>(i.seg, alignedAddress<V>(c, i, Access::Read));
    }
};
struct FromUnaligned {
    template <class E>
    [[gnu::always_inline]] static typename E::V load(Cpu& c, const Insn& i) {
        return c.loadOperand<typename E::V>(i);
    }
};
struct FromMem {  // of the vector's size, aligned if SSE
    template <class E>
    [[gnu::always_inline]] static typename E::V load(Cpu& c, const Insn& i) {
        if constexpr (std::is_same_v<E, Mmx>)
            return {c.loadOperand<uint64_t>(i)};
        else if constexpr (E::kVex)
            return FromUnaligned::load<E>(c, i);
        else
            return FromAligned::load<E>(c, i);
    }
};
template <class T>
struct FromLow {  // memory of T's size into the low lane, zeros above
    template <class E>
    [[gnu::always_inline]] static typename E::V load(Cpu& c, const Insn& i) {
        typename E::V v{};
        v.template set<T>(0, c.loadOperand<T>(i));
        return v;
    }
};
// The first `count` elements of the last operand, of which no more is read.
template <class E, class T, unsigned count, class Source>
[[gnu::always_inline]] inline std::array<T, count> loadElements(Cpu& c, const Insn& i) {
    using Elements = std::array<T, count>;
    if constexpr (std::is_same_v<Source, FromReg>)
        return c.vec[E::last(i)].template get<Elements>(0);
    else if constexpr (sizeof(Elements) == 16 && !E::kVex)
        return c.load<Elements>(i.seg, alignedAddress<Elements>(c, i, Access::Read));
    else
        return c.loadOperand<Elements>(i);
}
// Whether an element's top bit, its mask bit, is set.
template <class T>
bool chosen(T mask) {
    return mask >> (8 * sizeof(T) - 1);
}
// A general register as the last operand.
template <class E>
struct GeneralReg {
    template <class T>
    static T load(Cpu& c, const Insn& i) {
        return c.gpr.get<T>(uint8_t(E::last(i)));
    }
};

template <class Op, class V>
[[gnu::always_inline]] inline V applyLane(const V& a, const V& b, uint8_t imm) {
    if constexpr (requires { Op::run(a, b, imm); })
        return Op::run(a, b, imm);
    else
        return Op::run(a, b);
}
template <class Op, class V>
[[gnu::always_inline]] inline V apply(const V& a, const V& b, const Insn& i) {
    const auto imm = uint8_t(i.imm);
    if constexpr (sizeof(V) == 32) {
        unsigned shift = 0;
        if constexpr (requires { Op::kImmediateBits; }) shift = Op::kImmediateBits;
        V r;
        r.template set<Xmm>(0, applyLane<Op>(a.template get<Xmm>(0), b.template get<Xmm>(0), imm));
        r.template set<Xmm>(
            1, applyLane<Op>(a.template get<Xmm>(1), b.template get<Xmm>(1), uint8_t(imm >> shift)));
        return r;
    } else {
        return applyLane<Op>(a, b, imm);
    }
}

// destination = Op(first source, last source)
template <class E, class Op, class Source>
void vectorBody(Cpu& c, const Insn& i) {
    E::check(c);
    auto b = Source::template load<E>(c, i);
    E::settle(c);
    E::set(c, i.a, apply<Op>(E::get(c, E::first(i)), b, i));
}

// The same under EVEX, with the elements that Zydis knows for the mask's. Instructions with one source have
// it as the first one, too, where Op looks there.
template <class Op, bool oneSource = false>
void evexBody(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.bytes() >> x.elementLog2();
    const uint64_t mask = x.mask(c, count);
    const EvexSource source(c, i, x, mask, count);
    const Vector &b = source, &a = oneSource ? b : c.vec[i.b];
    unsigned shift = 0;
    if constexpr (requires { Op::kImmediateBits; }) shift = Op::kImmediateBits;
    evexParts(c, i, x, mask, x.elementLog2(), [&](unsigned n) {
        return applyLane<Op>(a.get<Xmm>(n), b.get<Xmm>(n), uint8_t(uint8_t(i.imm) >> shift * n));
    });
}

// -- selectors
inline bool isXmm(const Shape& s, unsigned n) {
    return s.isReg(n) && ZydisRegisterGetClass(s.operands[n].reg.value) == ZYDIS_REGCLASS_XMM;
}
inline bool isMm(const Shape& s, unsigned n) {
    return s.isReg(n) && ZydisRegisterGetClass(s.operands[n].reg.value) == ZYDIS_REGCLASS_MMX;
}
inline bool hasMemory(const Shape& s) { return s.isMem(0) || s.isMem(1) || s.isMem(2); }

// The encodings an SSE mnemonic and its VEX twin have: visit.operator()<E>() gives the handler.
template <class Visit>
Handler byEncoding(const Shape& s, Visit visit) {
    if (!s.vex()) return visit.template operator()<Sse>();
    return s.ymm() ? visit.template operator()<Vex256>() : visit.template operator()<Vex128>();
}
// The same where VEX.L does not matter or must be 0.
template <class Visit>
Handler byEncoding128(const Shape& s, Visit visit) {
    return s.vex() ? visit.template operator()<Vex128>() : visit.template operator()<Sse>();
}

// The same with an EVEX form without opmask.
template <class Visit>
Handler byAnyEncoding128(const Shape& s, Visit visit) {
    return s.evex() ? visit.template operator()<Evex128>() : byEncoding128(s, visit);
}

// Instructions that exist under VEX only.
template <class Visit>
Handler byVexLength(const Shape& s, Visit visit) {
    return s.ymm() ? visit.template operator()<Vex256>() : visit.template operator()<Vex128>();
}

template <class E, class Op, class MemSource = FromMem>
Handler vectorForm(const Shape& s) {
    return hasMemory(s) ? straight<vectorBody<E, Op, MemSource>> : straight<vectorBody<E, Op, FromReg>>;
}
// In rows with kEvex, the EVEX form's elements are those that Zydis names.
template <class Op, class MemSource = FromMem>
Handler xmm(const Shape& s) {
    if (s.evex()) return straight<evexBody<Op>>;
    return byEncoding(s, [&]<class E>() { return vectorForm<E, Op, MemSource>(s); });
}
template <class Op, class MemSource = FromMem>
Handler xmm128(const Shape& s) {
    return byEncoding128(s, [&]<class E>() { return vectorForm<E, Op, MemSource>(s); });
}
template <class Op>
Handler mmOrXmm(const Shape& s) {
    return isMm(s, 0) ? vectorForm<Mmx, Op>(s) : xmm<Op>(s);
}
template <class Op, class MemSource = FromMem>
Handler mm(const Shape& s) {
    return vectorForm<Mmx, Op, MemSource>(s);
}

// -- lanes: the same scalar function on every lane of both operands
template <class T, class F>
struct Lanes {
    template <class V>
    [[gnu::always_inline]] static V run(const V& a, const V& b) {
        auto x = split<T>(a), y = split<T>(b);
        for (unsigned n = 0; n < kLanes<T, V>; n++) x[n] = F::of(x[n], y[n]);
        return join<V>(x);
    }
};
// One operand.
template <class T, class F>
struct Each {
    template <class V>
    [[gnu::always_inline]] static V run(const V&, const V& b) {
        auto y = split<T>(b);
        for (unsigned n = 0; n < kLanes<T, V>; n++) y[n] = F::of(y[n]);
        return join<V>(y);
    }
};

// The parts of sseRows(), AVX and the cryptographic extensions included.
std::span<const Row> sseMoveRows();
std::span<const Row> sseIntegerRows();
std::span<const Row> sseShuffleRows();
std::span<const Row> sseStringRows();
std::span<const Row> sseFloatRows();
std::span<const Row> sseConvertRows();
std::span<const Row> avxMoveRows();
std::span<const Row> avxPermuteRows();
std::span<const Row> avxGatherRows();
std::span<const Row> fmaRows();
std::span<const Row> f16cRows();
std::span<const Row> aesRows();
std::span<const Row> galoisRows();
std::span<const Row> shaRows();
std::span<const Row> opmaskRows();
std::span<const Row> avx512MoveRows();
std::span<const Row> avx512IntegerRows();
std::span<const Row> avx512NarrowRows();
std::span<const Row> avx512PermuteRows();
std::span<const Row> avx512FloatRows();
std::span<const Row> avx512ConvertRows();
std::span<const Row> avx512GatherRows();

}  // namespace kiln
