// Control transfer: jumps, calls, returns, loops, software interrupts (SDM vol. 1, 7.3.8).
#include "cpu/body.hpp"
#include "cpu/handlers.hpp"

namespace kiln {

namespace {

// Near branches with a 16-bit operand size cut the target to 16 bits.
constexpr uint64_t kTargetMask[4] = {0xffff, 0xffff, 0xffffffff, ~0ull};

// -- direct branches: the target is a distance from the block's start

// Every direct-branch handler is this: decide, and either go to the target or on behind the instruction.
template <bool (*Condition)(Cpu&, const Insn&)>
void branchIf(Cpu& c, const Insn* i) {
    c.at = i;
    if (Condition(c, *i)) KILN_DISPATCH(c, c.branchTaken(*i, kTargetMask[i->width]));
    KILN_DISPATCH(c, i + 1);
}

template <unsigned Code>
bool flagsSay(Cpu& c, const Insn&) {
    return c.flags.condition<Code>();
}
bool always(Cpu&, const Insn&) { return true; }

// JCXZ, LOOPcc count in (R/E)CX by address size.
uint64_t counter(const Cpu& c, const Insn& i) {
    static constexpr uint64_t kMask[4] = {0xffff, 0xffffffff, ~0ull, ~0ull};
    return c.gpr[Rcx] & kMask[i.addressSize];
}
bool counterIsZero(Cpu& c, const Insn& i) { return counter(c, i) == 0; }

// The count changes even when the branch then faults on the limit; both are undone by hand there.
template <int ZfWanted>
bool countDown(Cpu& c, const Insn& i) {
    uint64_t left = counter(c, i) - 1;
    bool taken = (i.addressSize == 0   ? uint16_t(left)
                  : i.addressSize == 1 ? uint32_t(left)
                                       : left) != 0 &&
                 (ZfWanted < 0 || c.flags.zf() == bool(ZfWanted));
    if (taken) {
        uint64_t target = (c.blockRip() + uint64_t(int64_t(i.disp))) & kTargetMask[i.width];
        c.checkNearTarget(target);
    }
    if (i.addressSize == 0)
        c.gpr.set<uint16_t>(Rcx * 8, uint16_t(left));
    else if (i.addressSize == 1)
        c.gpr.set<uint32_t>(Rcx * 8, uint32_t(left));
    else
        c.gpr[Rcx] = left;
    return taken;
}

template <bool (*Condition)(Cpu&, const Insn&)>
Handler branch(const Shape&) {
    return branchIf<Condition>;
}

// -- near jumps and calls

template <class T, class Src>
void jumpIndirect(Cpu& c, const Insn& i) {
    c.jumpTo(Src::template load<T>(c, i));
}

template <class T>
bool pushReturn(Cpu& c, const Insn& i) {
    uint64_t target = (c.blockRip() + uint64_t(int64_t(i.disp))) & kTargetMask[i.width];
    c.checkNearTarget(target);
    c.push<T>(T(c.nextRip(i)));
    return true;
}

template <class T, class Src>
void callIndirect(Cpu& c, const Insn& i) {
    uint64_t target = Src::template load<T>(c, i);
    c.checkNearTarget(target);
    c.push<T>(T(c.nextRip(i)));
    c.jumpTo(target);
}

template <class T>
void ret(Cpu& c, const Insn& i) {
    uint64_t target = c.load<T>(Ss, c.gpr[Rsp] & c.stackMask());
    c.jumpTo(target);
    c.setSp(c.gpr[Rsp] + sizeof(T) + uint16_t(i.imm));
}

// Far forms: m16:16, m16:32, m16:64 or an immediate pointer.
struct FarTarget {
    uint16_t selector;
    uint64_t offset;
};

FarTarget farTarget(Cpu& c, const Insn& i, bool fromMemory) {
    if (!fromMemory) return {uint16_t(i.imm >> 32), i.imm & 0xffffffff};
    uint64_t ea = c.effectiveAddress(i);
    uint64_t offset = i.width == 3   ? c.load<uint64_t>(i.seg, ea)
                      : i.width == 2 ? c.load<uint32_t>(i.seg, ea)
                                     : c.load<uint16_t>(i.seg, ea);
    return {c.load<uint16_t>(i.seg, ea + (1u << i.width)), offset};
}

// Far transfers run with rip on the next instruction (the return address) and put it back when they fault:
// the run loop derives the faulting address from the instruction, so nothing is to be undone.
template <bool FromMemory>
void farJump(Cpu& c, const Insn& i) {
    FarTarget t = farTarget(c, i, FromMemory);
    c.farJump(t.selector, t.offset);
}
template <bool FromMemory>
void farCall(Cpu& c, const Insn& i) {
    FarTarget t = farTarget(c, i, FromMemory);
    c.farCall(t.selector, t.offset, i.width);
}
void farReturn(Cpu& c, const Insn& i) { c.farReturn(i.width, uint16_t(i.imm)); }
void interruptReturn(Cpu& c, const Insn& i) { c.interruptReturn(i.width); }

bool isFar(const Shape& s) {
    return s.z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR || s.operands[0].type == ZYDIS_OPERAND_TYPE_POINTER;
}

Handler jmp(const Shape& s) {
    if (isFar(s)) return s.isMem(0) ? serializing<farJump<true>> : serializing<farJump<false>>;
    if (s.isImm(0)) return branchIf<always>;
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        return s.isMem(0) ? leaving<jumpIndirect<T, Mem>> : leaving<jumpIndirect<T, RegA>>;
    });
}

Handler call(const Shape& s) {
    if (isFar(s)) return s.isMem(0) ? serializing<farCall<true>> : serializing<farCall<false>>;
    if (s.isImm(0))
        return byWidth(s.operandBits(), []<class T>() -> Handler { return branchIf<pushReturn<T>>; });
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        return s.isMem(0) ? leaving<callIndirect<T, Mem>> : leaving<callIndirect<T, RegA>>;
    });
}

Handler ret(const Shape& s) {
    if (isFar(s)) return serializing<farReturn>;
    return byWidth(s.operandBits(), []<class T>() -> Handler { return leaving<ret<T>>; });
}

// -- software interrupts (SDM vol. 2, INT n)

void intN(Cpu& c, const Insn& i) {
    c.softwareInterrupt(uint8_t(i.imm), Cpu::Source::SoftwareInt, c.nextRip(i) & c.ipMask());
}
void int3(Cpu& c, const Insn& i) {
    c.softwareInterrupt(kBP, Cpu::Source::Int3OrInto, c.nextRip(i) & c.ipMask());
}
// A trap that MOV SS has held back comes together with this one.
void int1(Cpu& c, const Insn& i) {
    if (c.pendingDebug) c.dr[6] = (c.dr[6] & ~15ull) | c.pendingDebug;
    c.pendingDebug = 0;
    c.softwareInterrupt(kDB, Cpu::Source::Int1, c.nextRip(i) & c.ipMask());
}
void into(Cpu& c, const Insn& i) {
    if (c.flags.of()) c.softwareInterrupt(kOF, Cpu::Source::Int3OrInto, c.nextRip(i) & c.ipMask());
}

template <class T>
void bound(Cpu& c, const Insn& i) {
    using Signed = std::make_signed_t<T>;
    uint64_t ea = c.effectiveAddress(i);
    auto low = Signed(c.load<T>(i.seg, ea)), high = Signed(c.load<T>(i.seg, ea + sizeof(T)));
    auto index = Signed(RegA::load<T>(c, i));
    if (index < low || index > high) raise(kBR);
}
Handler boundForm(const Shape& s) {
    return s.bits(0) == 16 ? straight<bound<uint16_t>> : straight<bound<uint32_t>>;
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_JO, branch<flagsSay<0>>},
    {ZYDIS_MNEMONIC_JNO, branch<flagsSay<1>>},
    {ZYDIS_MNEMONIC_JB, branch<flagsSay<2>>},
    {ZYDIS_MNEMONIC_JNB, branch<flagsSay<3>>},
    {ZYDIS_MNEMONIC_JZ, branch<flagsSay<4>>},
    {ZYDIS_MNEMONIC_JNZ, branch<flagsSay<5>>},
    {ZYDIS_MNEMONIC_JBE, branch<flagsSay<6>>},
    {ZYDIS_MNEMONIC_JNBE, branch<flagsSay<7>>},
    {ZYDIS_MNEMONIC_JS, branch<flagsSay<8>>},
    {ZYDIS_MNEMONIC_JNS, branch<flagsSay<9>>},
    {ZYDIS_MNEMONIC_JP, branch<flagsSay<10>>},
    {ZYDIS_MNEMONIC_JNP, branch<flagsSay<11>>},
    {ZYDIS_MNEMONIC_JL, branch<flagsSay<12>>},
    {ZYDIS_MNEMONIC_JNL, branch<flagsSay<13>>},
    {ZYDIS_MNEMONIC_JLE, branch<flagsSay<14>>},
    {ZYDIS_MNEMONIC_JNLE, branch<flagsSay<15>>},
    {ZYDIS_MNEMONIC_JCXZ, branch<counterIsZero>},
    {ZYDIS_MNEMONIC_JECXZ, branch<counterIsZero>},
    {ZYDIS_MNEMONIC_JRCXZ, branch<counterIsZero>},
    {ZYDIS_MNEMONIC_LOOP, branch<countDown<-1>>},
    {ZYDIS_MNEMONIC_LOOPE, branch<countDown<1>>},
    {ZYDIS_MNEMONIC_LOOPNE, branch<countDown<0>>},
    {ZYDIS_MNEMONIC_JMP, jmp, kEndsBlock},
    {ZYDIS_MNEMONIC_CALL, call, kEndsBlock},
    {ZYDIS_MNEMONIC_RET, ret, kEndsBlock},
    {ZYDIS_MNEMONIC_IRET, onlySerializing<trapping<TrapKind::Iret, interruptReturn>>, kEndsBlock},
    {ZYDIS_MNEMONIC_IRETD, onlySerializing<trapping<TrapKind::Iret, interruptReturn>>, kEndsBlock},
    {ZYDIS_MNEMONIC_IRETQ, onlySerializing<trapping<TrapKind::Iret, interruptReturn>>, kEndsBlock},
    {ZYDIS_MNEMONIC_INT, onlySerializing<trapping<TrapKind::Interrupt, intN>>, kEndsBlock},
    {ZYDIS_MNEMONIC_INT3, onlySerializing<trapping<TrapKind::Interrupt, int3>>, kEndsBlock},
    {ZYDIS_MNEMONIC_INT1, onlySerializing<trapping<TrapKind::Interrupt, int1>>, kEndsBlock},
    {ZYDIS_MNEMONIC_INTO, onlySerializing<trapping<TrapKind::Interrupt, into>>, kEndsBlock | kNo64},
    {ZYDIS_MNEMONIC_BOUND, boundForm, kNo64},
};

}  // namespace

void Cpu::checkNearTarget(uint64_t target) const {
    if (codeMode_ == CodeMode::Code64 ? !canonical(target) : target >= codeEnd_) raise(kGP, 0);
}

void Cpu::jumpTo(uint64_t target) {
    checkNearTarget(target);
    rip = target;
}

std::span<const Row> controlRows() { return kRows; }

}  // namespace kiln
