// Control and environment: FNINIT to FWAIT, SDM vol. 2; the images of FNSTENV and FNSAVE are in vol.
// 1, 8.1.10.
//
// FCS and FDS are stored and loaded. In real and virtual-8086 mode the images have linear addresses in their
// place.
#include "cpu/x87.hpp"

namespace kiln::x87 {

using namespace float80;

namespace {

// -- the environment as seven items, whose width is the operand size
using Environment = std::array<uint32_t, 7>;

bool wide(const Insn& i) { return i.width != 1; }

Environment environment(const Cpu& c, bool wide) {
    const FpuState& f = c.fpu;
    Environment e{f.control, f.status, fullTags(f)};
    auto ip = uint32_t(f.instructionPointer), dp = uint32_t(f.dataPointer);
    if (c.protectedMode()) {
        e[3] = ip;
        e[4] = f.instructionSelector | uint32_t(wide ? f.opcode : 0) << 16;
        e[5] = dp;
        e[6] = f.dataSelector;
    } else {
        ip += uint32_t(f.instructionSelector) << 4;
        dp += uint32_t(f.dataSelector) << 4;
        e[3] = ip & 0xffff;
        e[4] = (wide ? ip >> 16 : ip >> 16 & 15) << 12 | f.opcode;
        e[5] = dp & 0xffff;
        e[6] = (wide ? dp >> 16 : dp >> 16 & 15) << 12;
    }
    return e;
}

void setEnvironment(Cpu& c, const Environment& e, bool wide) {
    FpuState& f = c.fpu;
    f.status = uint16_t(e[1]);
    f.empty = emptyFromTags(uint16_t(e[2]));
    if (c.protectedMode()) {
        f.instructionPointer = e[3];
        f.instructionSelector = uint16_t(e[4]);
        if (wide) f.opcode = uint16_t(e[4] >> 16 & 0x7ff);
        f.dataPointer = e[5];
        f.dataSelector = uint16_t(e[6]);
    } else {
        f.instructionPointer = (e[3] & 0xffff) | (e[4] >> 12) << 16;
        f.opcode = uint16_t(e[4] & 0x7ff);
        f.dataPointer = (e[5] & 0xffff) | (e[6] >> 12) << 16;
        f.instructionSelector = f.dataSelector = 0;
    }
    loadControl(c, uint16_t(e[0]));
}

void storeEnvironment(Cpu& c, const Insn& i, uint64_t at) {
    Environment e = environment(c, wide(i));
    for (unsigned n = 0; n < 7; n++) {
        // The upper halves of 16-bit items read as ones; of FIP, FDP and FOP they have a meaning.
        bool half = n < 3 || n == 6;
        if (!wide(i))
            c.store<uint16_t>(i.seg, at + 2 * n, uint16_t(e[n]));
        else
            c.store<uint32_t>(i.seg, at + 4 * n,
                              half && (n != 6 || c.protectedMode()) ? e[n] | 0xffff0000 : e[n]);
    }
}

Environment loadEnvironment(Cpu& c, const Insn& i, uint64_t at) {
    Environment e;
    for (unsigned n = 0; n < 7; n++)
        e[n] = wide(i) ? c.load<uint32_t>(i.seg, at + 4 * n) : c.load<uint16_t>(i.seg, at + 2 * n);
    return e;
}

unsigned environmentSize(const Insn& i) { return wide(i) ? 28 : 14; }

// Processors look at both ends of the image before they read or write it; CR2 shows it.
void probe(Cpu& c, const Insn& i, uint64_t at, unsigned size, Access access) {
    unsigned item = wide(i) ? 4 : 2;
    if (access == Access::Write) {
        c.checkWrite(i.seg, at, item);
        c.checkWrite(i.seg, at + size - 1, 1);
    } else {
        if (item == 4)
            c.load<uint32_t>(i.seg, at);
        else
            c.load<uint16_t>(i.seg, at);
        c.load<uint8_t>(i.seg, at + size - 1);
    }
}

// A register in an image of FNSAVE. It lies at any even address, and processors do not mind.
void storeRegister(Cpu& c, const Insn& i, uint64_t at, Float80 v) {
    for (unsigned n = 0; n < 4; n++) c.store<uint16_t>(i.seg, at + 2 * n, uint16_t(v.mantissa >> (16 * n)));
    c.store<uint16_t>(i.seg, at + 8, v.signExponent);
}

Float80 loadRegister(Cpu& c, const Insn& i, uint64_t at) {
    Float80 v;
    for (unsigned n = 0; n < 4; n++) v.mantissa |= uint64_t(c.load<uint16_t>(i.seg, at + 2 * n)) << (16 * n);
    v.signExponent = c.load<uint16_t>(i.seg, at + 8);
    return v;
}

void fnstenv(Cpu& c, const Insn& i) {
    c.checkX87(false);
    uint64_t at = c.effectiveAddress(i);
    probe(c, i, at, environmentSize(i), Access::Write);
    storeEnvironment(c, i, at);
    loadControl(c, c.fpu.control | kExceptions);
}

void fldenv(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    probe(c, i, at, environmentSize(i), Access::Read);
    setEnvironment(c, loadEnvironment(c, i, at), wide(i));
}

void fnsave(Cpu& c, const Insn& i) {
    c.checkX87(false);
    uint64_t at = c.effectiveAddress(i);
    unsigned size = environmentSize(i);
    probe(c, i, at, size + 80, Access::Write);
    storeEnvironment(c, i, at);
    for (unsigned n = 0; n < 8; n++) storeRegister(c, i, at + size + 10 * n, get(c, n));
    initialize(c);
}

void frstor(Cpu& c, const Insn& i) {
    c.checkX87();
    uint64_t at = c.effectiveAddress(i);
    probe(c, i, at, environmentSize(i) + 80, Access::Read);
    Environment e = loadEnvironment(c, i, at);
    std::array<Float80, 8> stack;
    for (unsigned n = 0; n < 8; n++) stack[n] = loadRegister(c, i, at + environmentSize(i) + 10 * n);
    setEnvironment(c, e, wide(i));
    for (unsigned n = 0; n < 8; n++) c.fpu.physical[physical(c, n)] = stack[n];
}

// -- control and status words
void fninit(Cpu& c, const Insn&) {
    c.checkX87(false);
    initialize(c);
}

void fnclex(Cpu& c, const Insn&) {
    c.checkX87(false);
    c.fpu.status &= uint16_t(~(kExceptions | kStackFault));
    updateSummary(c);
}

void fnstcw(Cpu& c, const Insn& i) {
    c.checkX87(false);
    c.storeOperand<uint16_t>(i, c.fpu.control);
}

void fldcw(Cpu& c, const Insn& i) {
    c.checkX87();
    loadControl(c, c.loadOperand<uint16_t>(i));
}

void fnstswMemory(Cpu& c, const Insn& i) {
    c.checkX87(false);
    c.storeOperand<uint16_t>(i, c.fpu.status);
}

void fnstswAx(Cpu& c, const Insn& i) {
    c.checkX87(false);
    RegA::store<uint16_t>(c, i, c.fpu.status);
}

// #NM depends on MP instead of EM.
void fwait(Cpu& c, const Insn&) {
    if ((c.cr0 & (cr0::MP | cr0::TS)) == (cr0::MP | cr0::TS)) raise(kNM);
    c.checkX87Error();
}

// -- the stack
void clearC1(Cpu& c) { c.fpu.status &= uint16_t(~kC1); }

void ffree(Cpu& c, const Insn& i) {
    c.checkX87();
    c.fpu.empty |= uint8_t(1u << physical(c, i.a));
    clearC1(c);
}

void ffreep(Cpu& c, const Insn& i) {
    ffree(c, i);
    pop(c);
}

template <int step>
void moveTop(Cpu& c, const Insn&) {
    c.checkX87();
    c.fpu.setTop(c.fpu.top() + unsigned(step));
    clearC1(c);
}

void fnop(Cpu& c, const Insn&) { c.checkX87(); }
void ignored(Cpu& c, const Insn&) { c.checkX87(false); }

Handler fnstsw(const Shape& s) { return s.isMem(0) ? straight<fnstswMemory> : straight<fnstswAx>; }

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_FNINIT, only<fninit>},
    {ZYDIS_MNEMONIC_FNCLEX, only<fnclex>},
    {ZYDIS_MNEMONIC_FNSTCW, only<fnstcw>},
    {ZYDIS_MNEMONIC_FLDCW, only<fldcw>},
    {ZYDIS_MNEMONIC_FNSTSW, fnstsw},
    {ZYDIS_MNEMONIC_FNSTENV, only<fnstenv>},
    {ZYDIS_MNEMONIC_FLDENV, only<fldenv>},
    {ZYDIS_MNEMONIC_FNSAVE, only<fnsave>},
    {ZYDIS_MNEMONIC_FRSTOR, only<frstor>},
    {ZYDIS_MNEMONIC_FWAIT, only<fwait>},
    {ZYDIS_MNEMONIC_FFREE, only<ffree>},
    {ZYDIS_MNEMONIC_FFREEP, only<ffreep>},
    {ZYDIS_MNEMONIC_FINCSTP, only<moveTop<1>>},
    {ZYDIS_MNEMONIC_FDECSTP, only<moveTop<-1>>},
    {ZYDIS_MNEMONIC_FNOP, only<fnop>},
    {ZYDIS_MNEMONIC_FENI8087_NOP, only<ignored>},
    {ZYDIS_MNEMONIC_FDISI8087_NOP, only<ignored>},
    {ZYDIS_MNEMONIC_FSETPM287_NOP, only<ignored>},
};

}  // namespace

std::span<const Row> controlRows() { return kRows; }

}  // namespace kiln::x87
