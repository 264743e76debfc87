// F16C: conversion between half and single precision (SDM vol. 1, 14.4; vol. 2, VCVTPH2PS, VCVTPS2PH).
#include "cpu/sse_float.hpp"

namespace kiln {
namespace {

// Every half is a normal single: DAZ does not apply, and denormals are not reported.
template <class E, class Source>
void halfToSingle(Cpu& c, const Insn& i) {
    E::check(c);
    auto x = loadElements<E, uint16_t, kLanes<uint32_t, typename E::V>, Source>(c, i);
    Ieee e(c.mxcsr & ~mxcsr::DAZ);
    typename E::V r;
    for (unsigned n = 0; n < x.size(); n++) r.template set<uint32_t>(n, e.resize<uint32_t>(x[n]));
    e.raised &= ~mxcsr::DE;
    settle(c, e);
    E::set(c, i.a, r);
}
Handler halfToSingleForm(const Shape& s) {
    return byVexLength(s, [&]<class E>() {
        return s.isMem(1) ? straight<halfToSingle<E, FromMem>> : straight<halfToSingle<E, FromReg>>;
    });
}

// Imm 1..0 rounding, 2 MXCSR's rounding instead. FTZ does not apply. Denormal singles count as inexact even
// where underflow is unmasked, as processors have it; MXCSR has the flags even if the store then faults.
template <class E>
auto singlesToHalves(Cpu& c, const Insn& i, Ieee& e) {
    auto x = split<uint32_t>(E::get(c, i.b));
    std::array<uint16_t, x.size()> r;
    for (unsigned n = 0; n < x.size(); n++) {
        r[n] = e.resize<uint16_t>(x[n]);
        if (isDenormal(x[n]) && !(c.mxcsr & mxcsr::DAZ)) e.raised |= mxcsr::PE;
    }
    return r;
}
uint32_t narrowingControl(const Cpu& c, const Insn& i) {
    uint32_t control = c.mxcsr & ~mxcsr::FTZ;
    if (i.imm & 4) return control;
    return (control & ~mxcsr::Rounding) | uint32_t(i.imm & 3) << mxcsr::kRoundingShift;
}
template <class E>
void singleToHalf(Cpu& c, const Insn& i) {
    E::check(c);
    Ieee e(narrowingControl(c, i));
    auto r = singlesToHalves<E>(c, i, e);
    settle(c, e);
    Xmm v;
    v.set(0, r);
    Vex128::set(c, i.a, v);
}
template <class E>
void singleToHalfInMemory(Cpu& c, const Insn& i) {
    E::check(c);
    Ieee e(narrowingControl(c, i));
    auto r = singlesToHalves<E>(c, i, e);
    settle(c, e);
    c.storeOperand(i, r);
}
Handler singleToHalfForm(const Shape& s) {
    return byVexLength(s, [&]<class E>() {
        return s.isMem(0) ? straight<singleToHalfInMemory<E>> : straight<singleToHalf<E>>;
    });
}

}  // namespace

std::span<const Row> f16cRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_VCVTPH2PS, halfToSingleForm},
        {ZYDIS_MNEMONIC_VCVTPS2PH, singleToHalfForm},
    };
    return rows;
}

}  // namespace kiln
