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
template <class T, class F>
void evexElements(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const Vector b = evexSource(c, i, x, mask, count);
    const Vector &a = c.vec[i.b], &d = c.vec[i.a];
    Vector r;
    for (unsigned n = 0; n < count; n++)
        r.set<T>(n, evexElement<F, T>(d.get<T>(n), a.get<T>(n), b.get<T>(n), uint8_t(i.imm)));
    evexWrite(c, i.a, x, mask, r, count, kLog2<T>);
}
// The first source's elements against an immediate: shifts and rotations.
template <class T, class F>
void evexByImmediate(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    Vector r = evexSource(c, i, x, mask, count);
    for (unsigned n = 0; n < count; n++) r.set<T>(n, F::of(r.get<T>(n), T(uint8_t(i.imm))));
    evexWrite(c, i.a, x, mask, r, count, kLog2<T>);
}
// A bit for each element: F::of(first source, last source[, immediate]). Bits of elements that are left out
// are cleared, and so are all above.
template <class T, class F>
void evexTest(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<T>();
    const uint64_t mask = x.mask(c, count);
    const Vector b = evexSource(c, i, x, mask, count);
    const Vector& a = c.vec[i.b];
    uint64_t r = 0;
    for (unsigned n = 0; n < count; n++) {
        bool holds;
        if constexpr (requires(T v) { F::of(v, v, uint8_t(0)); })
            holds = F::of(a.get<T>(n), b.get<T>(n), uint8_t(i.imm));
        else
            holds = F::of(a.get<T>(n), b.get<T>(n));
        r |= uint64_t(holds) << n;
    }
    c.opmask[i.a] = r & mask;
}

}  // namespace kiln
