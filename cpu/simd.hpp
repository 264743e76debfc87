// What MMX and SSE bodies have in common: operands, and the families that turn a function of lanes into
// bodies for MM and XMM registers alike (SDM vol. 1, chapters 9 to 12).
//
//     struct AddWrap { template <class T> static T of(T a, T b) { return T(a + b); } };
//     {ZYDIS_MNEMONIC_PADDB, mmOrXmm<Lanes<uint8_t, AddWrap>>}
//
// An operation is a type with `run(V a, V b)` or `run(V a, V b, uint8_t imm)`, where a is the destination
// before, b the source and V is Mm or Xmm. Zydis has one mnemonic for the MM and the XMM form: selectors look
// at the registers.
#pragma once
#include <array>
#include <bit>
#include <cstdint>

#include "cpu/body.hpp"

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

template <class V>
[[gnu::always_inline]] inline V getVector(const Cpu& c, unsigned n) {
    if constexpr (sizeof(V) == 16)
        return getXmm(c, n);
    else
        return {c.fpu.physical[n].mantissa};
}
template <class V>
[[gnu::always_inline]] inline void setVector(Cpu& c, unsigned n, const V& v) {
    if constexpr (sizeof(V) == 16)
        setXmm(c, n, v);
    else
        setMm(c, n, v.q);
}
template <class V>
void checkAvailable(Cpu& c) {
    if constexpr (sizeof(V) == 16)
        c.checkSse();
    else
        c.checkMmx();
}
template <class V>
void beforeStore(Cpu& c) {
    if constexpr (sizeof(V) == 8) c.fpu.setTop(0);
}
template <class V>
void settleTags(Cpu& c) {
    if constexpr (sizeof(V) == 8) enterMmx(c);
}

// -- memory. 16-byte operands are aligned unless the instruction says otherwise (SDM vol. 1, 4.1.1).
void alignmentFault(Cpu& c, const Insn& i, uint64_t offset,
                    Access access);  // returns when it is aligned after all

inline uint64_t alignedAddress(Cpu& c, const Insn& i, Access access) {
    uint64_t offset = c.effectiveAddress(i);
    if ((offset | c.seg[i.seg].base) & 15) [[unlikely]]
        alignmentFault(c, i, offset, access);
    return offset;
}

// Sources: what operand 2 is.
struct FromReg {
    template <class V>
    [[gnu::always_inline]] static V load(Cpu& c, const Insn& i) {
        return getVector<V>(c, i.b);
    }
};
struct FromMem {  // of the vector's size; XMM aligned
    template <class V>
    [[gnu::always_inline]] static V load(Cpu& c, const Insn& i) {
        if constexpr (sizeof(V) == 16)
            return c.load<V>(i.seg, alignedAddress(c, i, Access::Read));
        else
            return {c.loadOperand<uint64_t>(i)};
    }
};
struct FromUnaligned {
    template <class V>
    [[gnu::always_inline]] static V load(Cpu& c, const Insn& i) {
        return c.loadOperand<V>(i);
    }
};
template <class T>
struct FromLow {  // memory of T's size into the low lane, zeros above
    template <class V>
    [[gnu::always_inline]] static V load(Cpu& c, const Insn& i) {
        V v{};
        v.template set<T>(0, c.loadOperand<T>(i));
        return v;
    }
};

template <class Op, class V>
[[gnu::always_inline]] inline V apply(const V& a, const V& b, const Insn& i) {
    if constexpr (requires { Op::run(a, b, uint8_t(i.imm)); })
        return Op::run(a, b, uint8_t(i.imm));
    else
        return Op::run(a, b);
}

// destination = Op(destination, source)
template <class V, class Op, class Source>
void vectorBody(Cpu& c, const Insn& i) {
    checkAvailable<V>(c);
    V b = Source::template load<V>(c, i);
    settleTags<V>(c);
    setVector<V>(c, i.a, apply<Op>(getVector<V>(c, i.a), b, i));
}

// -- selectors
inline bool isXmm(const Shape& s, unsigned n) {
    return s.isReg(n) && ZydisRegisterGetClass(s.operands[n].reg.value) == ZYDIS_REGCLASS_XMM;
}
inline bool isMm(const Shape& s, unsigned n) {
    return s.isReg(n) && ZydisRegisterGetClass(s.operands[n].reg.value) == ZYDIS_REGCLASS_MMX;
}

template <class V, class Op, class MemSource = FromMem>
Handler vectorForm(const Shape& s) {
    return s.isMem(1) ? straight<vectorBody<V, Op, MemSource>> : straight<vectorBody<V, Op, FromReg>>;
}
template <class Op>
Handler mmOrXmm(const Shape& s) {
    return isMm(s, 0) ? vectorForm<Mm, Op>(s) : vectorForm<Xmm, Op>(s);
}
template <class Op, class MemSource = FromMem>
Handler xmm(const Shape& s) {
    return vectorForm<Xmm, Op, MemSource>(s);
}
template <class Op, class MemSource = FromMem>
Handler mm(const Shape& s) {
    return vectorForm<Mm, Op, MemSource>(s);
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

// The parts of sseRows().
std::span<const Row> sseMoveRows();
std::span<const Row> sseIntegerRows();
std::span<const Row> sseShuffleRows();
std::span<const Row> sseStringRows();
std::span<const Row> sseFloatRows();
std::span<const Row> sseConvertRows();

}  // namespace kiln
