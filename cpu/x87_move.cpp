// Loads, stores, exchanges and constants: SDM vol. 2, FBLD to FXCH.
#include <utility>

#include "cpu/x87.hpp"

namespace kiln::x87 {

using namespace float80;

namespace {

// -- onto the stack
void pushResult(Cpu& c, const Insn& i, Context& x, Float80 v, bool abandoned) {
    if (!isEmpty(c, 7)) {
        x.raised = 0;
        stackOverflow(x);
        v = kIndefinite;
        abandoned = x.abandoned();
    }
    if (!abandoned) push(c, v);
    complete(c, i, x);
}

Float80 convert(Context& x, uint32_t v) { return fromSingle(x, v); }
Float80 convert(Context& x, uint64_t v) { return fromDouble(x, v); }
Float80 convert(Context&, int16_t v) { return fromInteger(v); }
Float80 convert(Context&, int32_t v) { return fromInteger(v); }
Float80 convert(Context&, int64_t v) { return fromInteger(v); }

template <class T>
void loadMemory(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    T v = c.load<T>(i.seg, at);
    noteMemory(c, i, at);
    Context x{c.fpu.control};
    Float80 r = convert(x, v);
    // An unmasked denormal exception does not keep the value from being loaded.
    pushResult(c, i, x, r, x.raised & ~x.control & kInvalid);
}

void load80(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    Float80 v = loadExtended(c, i.seg, at);
    noteMemory(c, i, at);
    Context x{c.fpu.control};
    pushResult(c, i, x, v, false);
}

void loadRegister(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Float80 v = get(c, i.a);
    if (isEmpty(c, i.a)) {
        stackUnderflow(x);
        v = kIndefinite;
        if (!x.abandoned()) push(c, v);
        return complete(c, i, x);
    }
    pushResult(c, i, x, v, false);
}

void fbld(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    Float80 bits = loadExtended(c, i.seg, at);
    noteMemory(c, i, at);
    Context x{c.fpu.control};
    pushResult(c, i, x, fromBcd({bits.mantissa, bits.signExponent}), false);
}

template <Constant which>
void loadConstant(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    pushResult(c, i, x, constant(which, x.rounding()), false);
}

// -- to memory. An empty ST(0) stores the format's indefinite.
template <class T>
T storedAs(Context& x, Float80 v, bool truncate) {
    if constexpr (std::is_signed_v<T>)
        return T(toInteger(x, v, 8 * sizeof(T), truncate));
    else if constexpr (sizeof(T) == 4)
        return toSingle(x, v);
    else
        return toDouble(x, v);
}

template <class T, unsigned pops, bool truncate = false>
void storeMemory(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    Context x{c.fpu.control};
    T v;
    if (isEmpty(c, 0)) {
        v = storedAs<T>(x, kIndefinite, truncate);
        stackUnderflow(x);
    } else {
        v = storedAs<T>(x, get(c, 0), truncate);
    }
    if (!x.storeAbandoned()) {
        c.store<T>(i.seg, at, v);
        if (pops) pop(c);
    }
    noteMemory(c, i, at);
    complete(c, i, x);
}

void store80(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    Context x{c.fpu.control};
    Float80 v = get(c, 0);
    if (isEmpty(c, 0)) {
        stackUnderflow(x);
        v = kIndefinite;
    }
    if (!x.abandoned()) {
        storeExtended(c, i.seg, at, v);
        pop(c);
    }
    noteMemory(c, i, at);
    complete(c, i, x);
}

void fbstp(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    Context x{c.fpu.control};
    bool empty = isEmpty(c, 0);
    PackedBcd v = toBcd(x, empty ? kIndefinite : get(c, 0));
    if (empty) stackUnderflow(x);
    if (!x.abandoned()) {
        storeExtended(c, i.seg, at, {v.low, v.high});
        pop(c);
    }
    noteMemory(c, i, at);
    complete(c, i, x);
}

// -- among registers
template <unsigned pops>
void storeRegister(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Float80 v = get(c, 0);
    if (isEmpty(c, 0)) {
        stackUnderflow(x);
        v = kIndefinite;
    }
    if (!x.abandoned()) {
        set(c, i.a, v);
        if (pops) pop(c);
    }
    complete(c, i, x);
}

// D9 D8+i: FSTP without a look at the tag of ST(0); an empty one is just popped.
void fstpnce(Cpu& c, const Insn& i) {
    if (!isEmpty(c, 0)) return storeRegister<1>(c, i);
    c.checkX87();
    noteInstruction(c, i);
    pop(c);
    complete(c, i, Context{});
}

void fxch(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    bool emptyA = isEmpty(c, 0), emptyB = isEmpty(c, i.a);
    if (emptyA || emptyB) stackUnderflow(x);
    if (!x.abandoned()) {
        Float80 top = emptyA ? kIndefinite : get(c, 0), other = emptyB ? kIndefinite : get(c, i.a);
        set(c, 0, other);
        set(c, i.a, top);
    }
    complete(c, i, x);
}

// `Code` is Jcc's condition code.
template <unsigned Code>
void fcmov(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    if (isEmpty(c, 0) || isEmpty(c, i.b)) {  // also when the condition is false
        Context x{c.fpu.control};
        stackUnderflow(x);
        if (!x.abandoned()) set(c, 0, kIndefinite);
        return complete(c, i, x);
    }
    if (c.flags.condition<Code>()) set(c, 0, get(c, i.b));
}

Handler fld(const Shape& s) {
    if (!s.isMem(0)) return straight<loadRegister>;
    switch (s.bits(0)) {
        case 32: return straight<loadMemory<uint32_t>>;
        case 64: return straight<loadMemory<uint64_t>>;
        default: return straight<load80>;
    }
}
Handler fild(const Shape& s) {
    switch (s.bits(0)) {
        case 16: return straight<loadMemory<int16_t>>;
        case 32: return straight<loadMemory<int32_t>>;
        default: return straight<loadMemory<int64_t>>;
    }
}
template <unsigned pops>
Handler fst(const Shape& s) {
    if (!s.isMem(0)) return straight<storeRegister<pops>>;
    switch (s.bits(0)) {
        case 32: return straight<storeMemory<uint32_t, pops>>;
        case 64: return straight<storeMemory<uint64_t, pops>>;
        default: return straight<store80>;  // FSTP only
    }
}
template <unsigned pops, bool truncate>
Handler fist(const Shape& s) {
    switch (s.bits(0)) {
        case 16: return straight<storeMemory<int16_t, pops, truncate>>;
        case 32: return straight<storeMemory<int32_t, pops, truncate>>;
        default: return straight<storeMemory<int64_t, pops, truncate>>;
    }
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_FLD, fld},
    {ZYDIS_MNEMONIC_FILD, fild},
    {ZYDIS_MNEMONIC_FBLD, only<fbld>},
    {ZYDIS_MNEMONIC_FST, fst<0>},
    {ZYDIS_MNEMONIC_FSTP, fst<1>},
    {ZYDIS_MNEMONIC_FSTPNCE, only<fstpnce>},
    {ZYDIS_MNEMONIC_FIST, fist<0, false>},
    {ZYDIS_MNEMONIC_FISTP, fist<1, false>},
    {ZYDIS_MNEMONIC_FISTTP, fist<1, true>},
    {ZYDIS_MNEMONIC_FBSTP, only<fbstp>},
    {ZYDIS_MNEMONIC_FXCH, only<fxch>},
    {ZYDIS_MNEMONIC_FCMOVB, only<fcmov<2>>},
    {ZYDIS_MNEMONIC_FCMOVNB, only<fcmov<3>>},
    {ZYDIS_MNEMONIC_FCMOVE, only<fcmov<4>>},
    {ZYDIS_MNEMONIC_FCMOVNE, only<fcmov<5>>},
    {ZYDIS_MNEMONIC_FCMOVBE, only<fcmov<6>>},
    {ZYDIS_MNEMONIC_FCMOVNBE, only<fcmov<7>>},
    {ZYDIS_MNEMONIC_FCMOVU, only<fcmov<10>>},
    {ZYDIS_MNEMONIC_FCMOVNU, only<fcmov<11>>},
    {ZYDIS_MNEMONIC_FLD1, only<loadConstant<Constant::One>>},
    {ZYDIS_MNEMONIC_FLDL2T, only<loadConstant<Constant::Log2Ten>>},
    {ZYDIS_MNEMONIC_FLDL2E, only<loadConstant<Constant::Log2E>>},
    {ZYDIS_MNEMONIC_FLDPI, only<loadConstant<Constant::Pi>>},
    {ZYDIS_MNEMONIC_FLDLG2, only<loadConstant<Constant::Log10Two>>},
    {ZYDIS_MNEMONIC_FLDLN2, only<loadConstant<Constant::Ln2>>},
    {ZYDIS_MNEMONIC_FLDZ, only<loadConstant<Constant::Zero>>},
};

}  // namespace

std::span<const Row> moveRows() { return kRows; }

}  // namespace kiln::x87
