// An instruction as Zydis sees it, and what the translator derives from that: it is the same for all
// instructions of a shape (decoded_shapes.hpp), and so derived once.
#pragma once
#include <Zydis/Zydis.h>

#include <cstdint>

#include "cpu/insn.hpp"
#include "translate/host_frame.hpp"
#include "translate/knowledge.hpp"

namespace kiln {

struct Facts {
    How how = How::Interpret;
    bool hostHas = false;        // this host has the instruction
    bool vectorSet = false;      // see isVectorSet()
    bool x87 = false;            // see isX87()
    bool touchesX87 = false;     // the interpreter, for this instruction: CpuState's x87 registers
    bool hasMemory = false;      // among all operands
    bool usable = false;         // no visible operand but plain general registers, memory that they
                                 // address, and immediates
    bool writesSegment = false;  // a segment register
    bool readsFlags = false;     // some are read, or some are left as they are
    VectorLevel level = VectorLevel::None;  // of vector registers that it needs
    uint16_t writes = 0;                    // general registers, by name or by nature
    uint32_t writtenFlags = 0;              // of kArithmetic, with those left undefined
    asmjit::InstId id = 0;                  // the host's instruction of the same name
};

struct Decoded {
    bool valid;
    int64_t next = 0;  // offset of the instruction behind it, from the page that the code begins on
    Facts facts;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

Facts factsOf(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* operands, CodeMode mode);

// Zydis's bits of the arithmetic flags.
constexpr uint32_t kArithmetic = ZYDIS_CPUFLAG_CF | ZYDIS_CPUFLAG_PF | ZYDIS_CPUFLAG_AF | ZYDIS_CPUFLAG_ZF |
                                 ZYDIS_CPUFLAG_SF | ZYDIS_CPUFLAG_OF;

}  // namespace kiln
