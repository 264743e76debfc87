// Families of EVEX floating-point bodies: elements that the mask leaves out raise no exceptions; rounding and
// {sae} may come with the instruction (SDM vol. 1, 15.6.4; exception classes E2 and E3). Family::lane gives
// one element's result.
#pragma once
#include "cpu/sse_float.hpp"

namespace kiln {

// Arithmetic as this instruction does it.
class EvexFloat {
  public:
    EvexFloat(Cpu& c, Evex x)
        : control(controlOf(c, x)),
          e(control),
          quick(x.suppressesExceptions() ? !(control & mxcsr::Rounding) : hostRounds(c)),
          cpu_(c),
          reports_(!x.suppressesExceptions()) {}
    void settle() {
        if (reports_) kiln::settle(cpu_, e);
    }

    const uint32_t control;  // MXCSR, as far as it counts
    Ieee e;
    const bool quick;  // see hostRounds

  private:
    static uint32_t controlOf(const Cpu& c, Evex x) {
        uint32_t v = c.mxcsr | (x.suppressesExceptions() ? mxcsr::Masks : 0);
        return x.rounds() ? (v & ~mxcsr::Rounding) | x.rounding() << mxcsr::kRoundingShift : v;
    }
    Cpu& cpu_;
    const bool reports_;
};

// What an element is computed from.
template <class Bits>
struct FloatLane {
    Bits d, a, b;  // destination, first source, last source
    unsigned n;    // its number
    uint8_t imm;
};

// 128 bits at once by the host, where its results are certain for all elements: doubts() tells.
template <class Family, class Bits>
bool evexOnHost(Cpu& c, const Insn& i, Evex x, uint64_t mask, const Vector& a, const Vector& b) {
    bool doubts = false;
    for (unsigned n = 0; n < x.bytes() / 16; n++)
        doubts |= Family::template doubts<Bits>(a.get<Xmm>(n), b.get<Xmm>(n));
    if (doubts) return false;
    evexParts(c, i, x, mask, kLog2<Bits>,
              [&](unsigned n) { return Family::template part<Bits>(a.get<Xmm>(n), b.get<Xmm>(n)); });
    return true;
}
template <class Family, class Bits>
void evexPacked(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<Bits>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    const Vector &a = c.vec[i.b], &d = c.vec[i.a];
    EvexFloat f(c, x);
    if constexpr (requires { Family::template doubts<Bits>(a.get<Xmm>(0), a.get<Xmm>(0)); })
        if (f.quick && evexOnHost<Family, Bits>(c, i, x, mask, a, b)) return;
    Vector r;
    forEach(mask, [&](unsigned n) {
        r.set<Bits>(n, Family::lane(f, FloatLane<Bits>{d.get<Bits>(n), a.get<Bits>(n), b.get<Bits>(n), n,
                                                       uint8_t(i.imm)}));
    });
    f.settle();
    evexWrite(c, i.a, x, mask, r, count, kLog2<Bits>);
}

// A scalar's result joins the other lanes of the first source, or of the destination (kKeepsDestination).
template <class T>
void evexSetLow(Cpu& c, const Insn& i, Evex x, uint64_t mask, T v, unsigned others) {
    Xmm r = getXmm(c, others);
    const T old = x.zeroing() ? T(0) : c.vec[i.a].get<T>(0);
    r.set<T>(0, mask ? v : old);
    Evex128::set(c, i.a, r);
}
template <class Family, class Bits>
void evexScalar(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const uint64_t mask = x.mask(c, 1);
    const Bits b = EvexSource(c, i, x, mask, 1).template get<Bits>(0);
    EvexFloat f(c, x);
    Bits r = 0;
    if (mask)
        r = Family::lane(
            f, FloatLane<Bits>{c.vec[i.a].get<Bits>(0), c.vec[i.b].get<Bits>(0), b, 0, uint8_t(i.imm)});
    f.settle();
    constexpr bool keeps = requires { Family::kKeepsDestination; };
    evexSetLow(c, i, x, mask, r, keeps ? i.a : i.b);
}

// Into an opmask: Family::holds.
template <class Family, class Bits, bool scalar>
void evexFloatTest(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = scalar ? 1 : x.count<Bits>();
    const uint64_t mask = x.mask(c, count);
    const EvexSource b(c, i, x, mask, count);
    const Vector& a = c.vec[i.b];
    EvexFloat f(c, x);
    uint64_t r = 0;
    forEach(mask, [&](unsigned n) {
        r |= uint64_t(Family::holds(f, a.get<Bits>(n), b.get<Bits>(n), uint8_t(i.imm))) << n;
    });
    f.settle();
    c.opmask[i.a] = r;
}

}  // namespace kiln
