// Handlers that are not instructions: how a block ends and how a dead one is left.
#pragma once
#include "cpu/insn.hpp"

namespace kiln {

// Insn::extra of a direct branch whose `link` may be set.
constexpr uint8_t kLinkable = 0xff;

void blockEnd(Cpu& cpu, const Insn* i);         // pseudo-instruction: goes on with the code behind the block
void singleEnd(Cpu& cpu, const Insn* i);        // the same behind a single-step block: back to the run loop
void leaveDeadBlock(Cpu& cpu, const Insn* i);   // the bytes here have changed: decode again
void thickenBlock(Cpu& cpu, const Insn* i);     // decodes the rest of a thin block, and goes on in it
void undefinedOpcode(Cpu& cpu, const Insn* i);  // raises #UD
void absentFpu(Cpu& cpu, const Insn* i);        // an x87 instruction on a model without FPU
void tooLong(Cpu& cpu, const Insn* i);          // over 15 bytes: raises #GP(0)

}  // namespace kiln
