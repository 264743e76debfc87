// FCOM and its relatives, FTST, FXAM: SDM vol. 2; condition codes in vol. 1, 8.1.3.
#include "cpu/x87.hpp"

namespace kiln::x87 {

using namespace float80;

namespace {

Float80 operand(Context& x, uint32_t v) { return operandFromSingle(x, v); }
Float80 operand(Context& x, uint64_t v) { return operandFromDouble(x, v); }
Float80 operand(Context&, int16_t v) { return fromInteger(v); }
Float80 operand(Context&, int32_t v) { return fromInteger(v); }

uint16_t codes(Order order) {
    static constexpr uint16_t kCodes[] = {kC0, kC3, 0, kC0 | kC2 | kC3};
    return kCodes[unsigned(order)];
}

// The codes are set even when an unmasked exception keeps the stack from being popped.
void finish(Cpu& c, const Insn& i, const Context& x, Order order, unsigned pops) {
    setCodes(c, codes(order));
    if (!x.abandoned())
        while (pops--) pop(c);
    complete(c, i, x);
}

// ST(0) with ST(a); FCOMPP and FUCOMPP have no operand and mean ST(1).
template <bool quiet, unsigned pops>
void withRegister(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Order order = Order::Unordered;
    unsigned other = pops == 2 ? 1 : i.a;
    if (isEmpty(c, 0) || isEmpty(c, other))
        stackUnderflow(x);
    else
        order = compare(x, get(c, 0), get(c, other), quiet);
    finish(c, i, x, order, pops);
}

// FUCOMP: Zydis counts ST(0) as its first operand.
void fucomp(Cpu& c, const Insn& i) {
    Insn swapped = i;
    swapped.a = i.b;
    withRegister<true, 1>(c, swapped);
}

template <class T, unsigned pops>
void withMemory(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    T v = c.load<T>(i.seg, at);
    noteMemory(c, i, at);
    Context x{c.fpu.control};
    Order order = Order::Unordered;
    if (isEmpty(c, 0)) {
        stackUnderflow(x);
    } else {
        Float80 b = operand(x, v);
        order = compare(x, get(c, 0), b, false);
    }
    finish(c, i, x, order, pops);
}

// FCOMI and its relatives: ZF, PF, CF; OF, SF and AF are cleared.
template <bool quiet, bool popping>
void withFlags(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Order order = Order::Unordered;
    bool empty = isEmpty(c, 0) || isEmpty(c, i.b);
    if (empty)
        stackUnderflow(x);
    else
        order = compare(x, get(c, 0), get(c, i.b), quiet);
    static constexpr uint64_t kFlags[] = {flag::CF, flag::ZF, 0, flag::ZF | flag::PF | flag::CF};
    c.flags.setArithmetic(kFlags[unsigned(order)]);
    if (popping && !x.abandoned()) pop(c);
    if (empty)
        complete(c, i, x);
    else
        completeKeepingC1(c, i, x);
}

void ftst(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Context x{c.fpu.control};
    Order order = Order::Unordered;
    if (isEmpty(c, 0))
        stackUnderflow(x);
    else
        order = compare(x, get(c, 0), zero(false), false);
    finish(c, i, x, order, 0);
}

void fxam(Cpu& c, const Insn& i) {
    c.checkX87();
    noteInstruction(c, i);
    Float80 v = get(c, 0);
    uint16_t r = 0;
    if (isEmpty(c, 0)) {
        r = kC3 | kC0;
    } else {
        switch (kind(v)) {
            case Kind::Unsupported: break;
            case Kind::QuietNan:
            case Kind::SignalingNan: r = kC0; break;
            case Kind::Normal: r = kC2; break;
            case Kind::Infinity: r = kC2 | kC0; break;
            case Kind::Zero: r = kC3; break;
            case Kind::Denormal: r = kC3 | kC2; break;
        }
    }
    setCodes(c, r);
    c.fpu.status = uint16_t((c.fpu.status & ~kC1) | (sign(v) ? kC1 : 0));
}

template <unsigned pops>
Handler fcom(const Shape& s) {
    if (!s.isMem(0)) return straight<withRegister<false, pops>>;
    return s.bits(0) == 32 ? straight<withMemory<uint32_t, pops>> : straight<withMemory<uint64_t, pops>>;
}
template <unsigned pops>
Handler ficom(const Shape& s) {
    return s.bits(0) == 16 ? straight<withMemory<int16_t, pops>> : straight<withMemory<int32_t, pops>>;
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_FCOM, fcom<0>},
    {ZYDIS_MNEMONIC_FCOMP, fcom<1>},
    {ZYDIS_MNEMONIC_FCOMPP, only<withRegister<false, 2>>},
    {ZYDIS_MNEMONIC_FUCOM, only<withRegister<true, 0>>},
    {ZYDIS_MNEMONIC_FUCOMP, only<fucomp>},
    {ZYDIS_MNEMONIC_FUCOMPP, only<withRegister<true, 2>>},
    {ZYDIS_MNEMONIC_FICOM, ficom<0>},
    {ZYDIS_MNEMONIC_FICOMP, ficom<1>},
    {ZYDIS_MNEMONIC_FCOMI, only<withFlags<false, false>>},
    {ZYDIS_MNEMONIC_FCOMIP, only<withFlags<false, true>>},
    {ZYDIS_MNEMONIC_FUCOMI, only<withFlags<true, false>>},
    {ZYDIS_MNEMONIC_FUCOMIP, only<withFlags<true, true>>},
    {ZYDIS_MNEMONIC_FTST, only<ftst>},
    {ZYDIS_MNEMONIC_FXAM, only<fxam>},
};

}  // namespace

std::span<const Row> compareRows() { return kRows; }

}  // namespace kiln::x87
