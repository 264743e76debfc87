// Families of EVEX bodies: one function of elements makes the instruction for all vector lengths, with mask,
// broadcast and memory operand. `F` is a type with a function `of`.
#pragma once
#include "cpu/simd.hpp"

namespace kiln {

// One element: F::of(destination, first source, last source, immediate), with fewer of these from either end.
template <class F, class T>
inline T evexElement(T d, T a, T b, uint8_t imm) {
    if constexpr (requires { F::of(d, a, b, imm); })
        return T(F::of(d, a, b, imm));
    else if constexpr (requires { F::of(d, a, b); })
        return T(F::of(d, a, b));
    else if constexpr (requires { F::of(a, b); })
        return T(F::of(a, b));
    else
        return T(F::of(b));
}
// Vectors are gone through in steps of 128 bits, which host compilers know how to do at once.
template <class T, class F>
void evexElements(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    const Vector &a = c.vec[i.b], &d = c.vec[i.a];
    evexParts(c, i, x, mask, kLog2<T>, [&](unsigned part) {
        auto u = split<T>(d.get<Xmm>(part)), v = split<T>(a.get<Xmm>(part)), w = split<T>(b.get<Xmm>(part));
        for (unsigned n = 0; n < u.size(); n++) u[n] = evexElement<F, T>(u[n], v[n], w[n], uint8_t(i.imm));
        return join<Xmm>(u);
    });
}
// The first source's elements against an immediate: shifts and rotations.
template <class T, class F>
void evexByImmediate(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    evexParts(c, i, x, mask, kLog2<T>, [&](unsigned part) {
        auto v = split<T>(b.get<Xmm>(part));
        for (T& element : v) element = F::of(element, T(uint8_t(i.imm)));
        return join<Xmm>(v);
    });
}

// A bit for each element of which `holds` has a one.
template <size_t N>
[[gnu::always_inline]] inline uint64_t bitsOf(const std::array<uint8_t, N>& holds) {
    uint64_t r = 0;
    if constexpr (N < 8) {
        for (unsigned n = 0; n < N; n++) r |= uint64_t(holds[n]) << n;
    } else {
        for (unsigned n = 0; n < N / 8; n++) {  // bit 8k of a word arrives at bit 56 + k of the product
            uint64_t word;
            std::memcpy(&word, &holds[8 * n], 8);
            if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
            r |= (word * 0x0102040810204080 >> 56) << 8 * n;
        }
    }
    return r;
}
// A bit for each element: F::of(first source, last source[, immediate]). Bits of elements that are left out
// are cleared, and so are all above.
template <class T, class F>
void evexTest(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    const Vector& a = c.vec[i.b];
    constexpr unsigned step = kLanes<T, Xmm>;
    uint64_t r = 0;
    for (unsigned part = 0; part < x.bytes() / 16; part++) {
        const auto v = split<T>(a.get<Xmm>(part)), w = split<T>(b.get<Xmm>(part));
        std::array<uint8_t, step> holds;
        for (unsigned n = 0; n < step; n++) {
            if constexpr (requires(T e) { F::of(e, e, uint8_t(0)); })
                holds[n] = F::of(v[n], w[n], uint8_t(i.imm));
            else
                holds[n] = F::of(v[n], w[n]);
        }
        r |= bitsOf(holds) << step * part;
    }
    c.opmask[i.a] = r & mask;
}

}  // namespace kiln
