// What the bodies of x87 instructions share: the register stack, the status word and the pointers to the last
// instruction (SDM vol. 1, 8.1). A body's order is: checkX87, read operands, noteInstruction, compute, write,
// complete.
#pragma once
#include <span>

#include "cpu/body.hpp"
#include "cpu/float80.hpp"

namespace kiln::x87 {

using float80::Context;

inline unsigned physical(const Cpu& c, unsigned i) { return (c.fpu.top() + i) & 7; }
inline bool isEmpty(const Cpu& c, unsigned i) { return c.fpu.empty >> physical(c, i) & 1; }
inline Float80 get(const Cpu& c, unsigned i) { return c.fpu.physical[physical(c, i)]; }
inline void set(Cpu& c, unsigned i, Float80 v) {
    unsigned r = physical(c, i);
    c.fpu.physical[r] = v;
    c.fpu.empty &= uint8_t(~(1u << r));
}
inline void pop(Cpu& c) {
    unsigned top = c.fpu.top();
    c.fpu.empty |= uint8_t(1u << top);
    c.fpu.setTop(top + 1);
}
inline void push(Cpu& c, Float80 v) {
    c.fpu.setTop(c.fpu.top() - 1);
    set(c, 0, v);
}

// FIP and FDP. FOP is only kept of instructions that raise an unmasked exception, as processors do since the
// Pentium 4.
inline void noteInstruction(Cpu& c, const Insn& i) {
    c.fpu.instructionPointer = c.blockRip() + i.offset;
    c.fpu.instructionSelector = c.seg[Cs].selector;
}
inline void noteMemory(Cpu& c, const Insn& i, uint64_t offset) {
    noteInstruction(c, i);
    c.fpu.dataPointer = offset;
    c.fpu.dataSelector = c.seg[i.seg].selector;
}

// Recomputes ES and B from the exceptions and their masks, and drives FERR#.
void updateSummary(Cpu& c);
// An exception without a mask: ES, B, FOP, FERR#.
void unmaskedException(Cpu& c, const Insn& i);

// Merges what the operation raised into the status word.
inline void completeKeepingC1(Cpu& c, const Insn& i, const Context& x) {
    c.fpu.status |= x.raised;
    if (x.raised & ~c.fpu.control & float80::kExceptions) [[unlikely]]
        unmaskedException(c, i);
}
inline void complete(Cpu& c, const Insn& i, const Context& x) {
    c.fpu.status &= uint16_t(~float80::kC1);
    completeKeepingC1(c, i, x);
}

inline void stackUnderflow(Context& x) { x.note(float80::kInvalid | float80::kStackFault); }
inline void stackOverflow(Context& x) { x.note(float80::kInvalid | float80::kStackFault | float80::kC1); }

// Sets the condition codes C3, C2, C0.
inline void setCodes(Cpu& c, uint16_t codes) {
    using namespace float80;
    c.fpu.status = uint16_t((c.fpu.status & ~(kC0 | kC2 | kC3)) | codes);
}

// The state FNINIT leaves (the registers keep their bits).
void initialize(Cpu& c);
void loadControl(Cpu& c, uint16_t v);
// The two-bit tags of FNSTENV from the registers' contents; the reverse keeps only who is empty.
uint16_t fullTags(const FpuState& f);
uint8_t emptyFromTags(uint16_t tags);

// An 80-bit memory operand. As on processors a fault at the exponent finds the mantissa stored.
Float80 loadExtended(Cpu& c, unsigned segment, uint64_t offset);
void storeExtended(Cpu& c, unsigned segment, uint64_t offset, Float80 v);
std::span<const Row> arithmeticRows();  // x87_arithmetic.cpp
std::span<const Row> moveRows();        // x87_move.cpp
std::span<const Row> compareRows();     // x87_compare.cpp
std::span<const Row> controlRows();     // x87_control.cpp
std::span<const Row> fxsaveRows();      // fxsave.cpp

}  // namespace kiln::x87
