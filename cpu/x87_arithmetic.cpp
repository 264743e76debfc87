// FADD to FSCALE and the transcendentals: SDM vol. 2, the instructions' Operation boxes.
#include "cpu/x87.hpp"

namespace kiln::x87 {

using namespace float80;

namespace {

using Unary = Float80 (*)(Context&, Float80);
using Binary = Float80 (*)(Context&, Float80, Float80);

Float80 subtractReversed(Context& x, Float80 a, Float80 b) { return subtract(x, b, a); }
Float80 divideReversed(Context& x, Float80 a, Float80 b) { return divide(x, b, a); }

Float80 operand(Context& x, uint32_t v) { return operandFromSingle(x, v); }
Float80 operand(Context& x, uint64_t v) { return operandFromDouble(x, v); }
Float80 operand(Context&, int16_t v) { return fromInteger(v); }
Float80 operand(Context&, int32_t v) { return fromInteger(v); }

// ST(a) = ST(a) op ST(b); the popping forms free ST(0) afterwards.
template <Binary op, bool popping>
void onRegisters(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Float80 r = kIndefinite;
    if (isEmpty(c, i.a) || isEmpty(c, i.b)) [[unlikely]]
        stackUnderflow(x);
    else
        r = op(x, get(c, i.a), get(c, i.b));
    if (!x.abandoned()) [[likely]] {
        set(c, i.a, r);
        if (popping) pop(c);
    }
    complete(c, i, x);
}

template <Binary op, class T>
void onMemory(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    T v = c.load<T>(i.seg, at);
    noteMemory(c, i, at);
    Context x{c.fpu.control};
    Float80 r = kIndefinite;
    if (isEmpty(c, 0)) [[unlikely]]
        stackUnderflow(x);
    else {
        Float80 b = operand(x, v);
        r = op(x, get(c, 0), b);
    }
    if (!x.abandoned()) [[likely]]
        set(c, 0, r);
    complete(c, i, x);
}

template <Binary op>
Handler real(const Shape& s) {
    if (!s.isMem(0)) return straight<onRegisters<op, false>>;
    return s.bits(0) == 32 ? straight<onMemory<op, uint32_t>> : straight<onMemory<op, uint64_t>>;
}
template <Binary op>
Handler integer(const Shape& s) {
    return s.bits(0) == 16 ? straight<onMemory<op, int16_t>> : straight<onMemory<op, int32_t>>;
}
template <Binary op>
Handler popping(const Shape&) {
    return straight<onRegisters<op, true>>;
}

// ST(0) = op(ST(0))
template <Unary op>
void onTop(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Float80 r = kIndefinite;
    if (isEmpty(c, 0))
        stackUnderflow(x);
    else
        r = op(x, get(c, 0));
    if (!x.abandoned()) set(c, 0, r);
    complete(c, i, x);
}

Float80 changeSign(Context&, Float80 a) { return {a.mantissa, uint16_t(a.signExponent ^ 0x8000)}; }
Float80 absolute(Context&, Float80 a) { return {a.mantissa, uint16_t(a.signExponent & kMaxExponent)}; }

void fscale(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Float80 r = kIndefinite;
    if (isEmpty(c, 0) || isEmpty(c, 1))
        stackUnderflow(x);
    else
        r = scale(x, get(c, 0), get(c, 1));
    if (!x.abandoned()) set(c, 0, r);
    complete(c, i, x);
}

// FPATAN, FYL2X, FYL2XP1: ST(1) = op(ST(0), ST(1)), pop.
template <Binary op>
void intoSecond(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Float80 r = kIndefinite;
    if (isEmpty(c, 0) || isEmpty(c, 1))
        stackUnderflow(x);
    else
        r = op(x, get(c, 0), get(c, 1));
    if (!x.abandoned()) {
        set(c, 1, r);
        pop(c);
    }
    complete(c, i, x);
}

Float80 angle(Context& x, Float80 st0, Float80 st1) { return arcTangent(x, st1, st0); }

// The reduction is not complete: of FPREM after one step, of the argument of FSIN, FCOS, FSINCOS, FPTAN at
// all.
void setC2(Cpu& c, bool incomplete) {
    c.fpu.status = uint16_t((c.fpu.status & ~kC2) | (incomplete ? kC2 : 0));
}

template <bool nearest>
void partialRemainder(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Remainder r{kIndefinite};
    if (isEmpty(c, 0) || isEmpty(c, 1))
        stackUnderflow(x);
    else
        r = remainder(x, get(c, 0), get(c, 1), nearest);
    if (!x.abandoned()) set(c, 0, r.value);
    setC2(c, r.partial);
    if (!x.abandoned() && exponent(r.value) != kMaxExponent)  // C0 and C3 survive a NaN
        setCodes(c,
                 uint16_t((r.partial ? kC2 : 0) | (r.quotient & 4 ? kC0 : 0) | (r.quotient & 2 ? kC3 : 0)));
    if (r.quotient & 1) x.note(kC1);
    complete(c, i, x);
}

// FXTRACT, FSINCOS, FPTAN: `below` replaces ST(0), `above` is pushed.
struct Pair {
    Float80 below = kIndefinite, above = kIndefinite;
};
bool pairFault(const Cpu& c, Context& x) {
    if (isEmpty(c, 0))
        stackUnderflow(x);
    else if (!isEmpty(c, 7))
        stackOverflow(x);
    else
        return false;
    return true;
}
void setPair(Cpu& c, const Insn& i, const Context& x, const Pair& p) {
    if (!x.abandoned()) {
        set(c, 0, p.below);
        push(c, p.above);
    }
    complete(c, i, x);
}

void fxtract(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Pair p;
    if (!pairFault(c, x)) extract(x, get(c, 0), p.below, p.above);
    setPair(c, i, x, p);
}

template <Trig what>
void fsinOrFcos(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Trigonometric t{kIndefinite, kIndefinite};
    if (isEmpty(c, 0))
        stackUnderflow(x);
    else
        t = trigonometric(x, get(c, 0), what);
    setC2(c, !t.reduced);
    if (t.reduced && !x.abandoned()) set(c, 0, what == Trig::Sine ? t.sine : t.cosine);
    complete(c, i, x);
}

template <Trig what>
void fsincosOrFptan(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Pair p;
    setC2(c, false);
    if (!pairFault(c, x)) {
        Trigonometric t = trigonometric(x, get(c, 0), what);
        if (!t.reduced) {
            setC2(c, true);
            return complete(c, i, x);
        }
        p = {t.sine, t.cosine};
    }
    setPair(c, i, x, p);
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_FADD, real<add>},
    {ZYDIS_MNEMONIC_FSUB, real<subtract>},
    {ZYDIS_MNEMONIC_FSUBR, real<subtractReversed>},
    {ZYDIS_MNEMONIC_FMUL, real<multiply>},
    {ZYDIS_MNEMONIC_FDIV, real<divide>},
    {ZYDIS_MNEMONIC_FDIVR, real<divideReversed>},
    {ZYDIS_MNEMONIC_FADDP, popping<add>},
    {ZYDIS_MNEMONIC_FSUBP, popping<subtract>},
    {ZYDIS_MNEMONIC_FSUBRP, popping<subtractReversed>},
    {ZYDIS_MNEMONIC_FMULP, popping<multiply>},
    {ZYDIS_MNEMONIC_FDIVP, popping<divide>},
    {ZYDIS_MNEMONIC_FDIVRP, popping<divideReversed>},
    {ZYDIS_MNEMONIC_FIADD, integer<add>},
    {ZYDIS_MNEMONIC_FISUB, integer<subtract>},
    {ZYDIS_MNEMONIC_FISUBR, integer<subtractReversed>},
    {ZYDIS_MNEMONIC_FIMUL, integer<multiply>},
    {ZYDIS_MNEMONIC_FIDIV, integer<divide>},
    {ZYDIS_MNEMONIC_FIDIVR, integer<divideReversed>},
    {ZYDIS_MNEMONIC_FSQRT, only<onTop<squareRoot>>},
    {ZYDIS_MNEMONIC_FRNDINT, only<onTop<roundToInteger>>},
    {ZYDIS_MNEMONIC_FCHS, only<onTop<changeSign>>},
    {ZYDIS_MNEMONIC_FABS, only<onTop<absolute>>},
    {ZYDIS_MNEMONIC_F2XM1, only<onTop<powerOfTwoMinusOne>>},
    {ZYDIS_MNEMONIC_FSCALE, only<fscale>},
    {ZYDIS_MNEMONIC_FPREM, only<partialRemainder<false>>},
    {ZYDIS_MNEMONIC_FPREM1, only<partialRemainder<true>>},
    {ZYDIS_MNEMONIC_FXTRACT, only<fxtract>},
    {ZYDIS_MNEMONIC_FSIN, only<fsinOrFcos<Trig::Sine>>},
    {ZYDIS_MNEMONIC_FCOS, only<fsinOrFcos<Trig::Cosine>>},
    {ZYDIS_MNEMONIC_FSINCOS, only<fsincosOrFptan<Trig::Both>>},
    {ZYDIS_MNEMONIC_FPTAN, only<fsincosOrFptan<Trig::Tangent>>},
    {ZYDIS_MNEMONIC_FPATAN, only<intoSecond<angle>>},
    {ZYDIS_MNEMONIC_FYL2X, only<intoSecond<logarithm>>},
    {ZYDIS_MNEMONIC_FYL2XP1, only<intoSecond<logarithmOnePlus>>},
};

}  // namespace

std::span<const Row> arithmeticRows() { return kRows; }

}  // namespace kiln::x87
