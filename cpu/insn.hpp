// A decoded instruction, a block of them, and the rows that say which body runs an instruction.
#pragma once
#include <Zydis/Zydis.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "mmu/address.hpp"

namespace kiln {

class Cpu;
struct Insn;
struct Block;
struct PageMarks;
struct HostBlock;

// Runs one instruction and, in optimised builds, tail-calls the next one's handler.
using Handler = void (*)(Cpu&, const Insn*);

enum class Rep : uint8_t { None, RepE, RepNe };  // F3, F2

// 32 bytes. Operands are numbered as the manual writes them: a register in operand 1 is in `a`, in operand 2
// in `b`, in operand 3 in `c`, in operand 4 in `d`. General registers are byte offsets into RegisterFile (AH
// is 1), all others are register numbers. VEX instructions whose only source register is operand 2 have it in
// `c` as well, so that the last source is always there. EVEX instructions have their opmask, vector length,
// broadcast and rounding in the upper half of `imm` (evex.hpp), and their opmask is not counted as an
// operand.
struct Insn {
    Handler run;
    union {
        uint64_t imm;  // sign-extended to 64 bits; a second immediate (ENTER) or a far pointer's selector
                       // from bit 32 on
        mutable const Block*
            link;  // direct branches: the target's block when it lies on the same page, once known
    };
    int32_t disp;  // of the memory operand; RIP-relative ones count from the block's first byte.
                   // For direct branches: the distance from the block's first byte to the target
    uint8_t a, b, c;
    uint8_t base, index;      // RegisterFile offsets, kZero when absent; a gather's index: vector
    uint8_t scale;            // shift, 0..3
    uint8_t seg;              // SegReg of the memory operand
    uint8_t length;           // of the instruction in bytes
    uint16_t offset;          // of the instruction from the block's first byte
    uint8_t addressSize : 2;  // 0, 1, 2: 16, 32, 64 bits
    uint8_t width : 2;        // operand size: log2 of bytes
    uint8_t lock : 1;
    uint8_t segPrefix : 1;  // `seg` was given by a prefix
    Rep rep : 2;
    union {
        uint8_t d;      // register in operand 4
        uint8_t extra;  // free for the row (shuffle controls and the like are in imm)
    };
};
static_assert(sizeof(Insn) == 32);

// Mode bits that change what bytes mean; with the physical address they are a block's identity.
enum class CodeMode : uint8_t { Code16, Code32, Code64 };

// Straight-line code from one page: single entry, conditional branches may leave in the middle.
struct Block {
    PhysAddr start;
    CodeMode mode;
    bool dead = false;     // its bytes were overwritten; every Insn leaves to the run loop
    uint16_t bytes = 0;    // length of the code
    uint16_t count = 0;    // instructions, without the trailing pseudo-instruction
    bool single = false;   // one instruction for stepping: never entered from another block
    bool crosses = false;  // its only instruction continues on the page `second`
    bool listed = false;   // CodeCache: died since the last collection
    uint8_t deaths = 0;    // how often it was overwritten and decoded again, at most 255
    PhysAddr second;
    PageMarks *marks = nullptr, *secondMarks = nullptr;  // of its pages
    std::vector<Insn> insns;  // ends with a pseudo-instruction that goes on behind the block. Of a thin block
                              // (CodeCache) the first one, and one that has the others decoded again

    // Under a HotCode, which stands in front of the first instruction (hot_code.hpp).
    Handler plain = nullptr;         // the first instruction's own handler
    HostBlock* hostBlock = nullptr;  // the block as host code, once there is some
    mutable uint32_t heat = 0;       // entries to go until then
    uint32_t heatBefore = 0;         // as of HotCode::cools()
    uint8_t evictions = 0;           // how often its host code had to make room
    uint64_t hotSince = 0;           // when it got its host code: Cpu::executed()

    bool thin() const { return insns.size() <= count; }
    // The instruction that begins so many bytes behind the block's begin; null: none does. Not of a thin one.
    const Insn* instructionAt(uint64_t offset) const {
        const auto end = insns.begin() + count;
        const auto at = std::lower_bound(insns.begin(), end, offset,
                                         [](const Insn& i, uint64_t o) { return i.offset < o; });
        return at != end && at->offset == offset ? &*at : nullptr;
    }
};

// What the decoder knows of an instruction when it asks a row for its handler.
struct Shape {
    const ZydisDecodedInstruction& z;
    const ZydisDecodedOperand* operands;
    CodeMode mode;

    bool isReg(unsigned n) const {
        return n < z.operand_count_visible && operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER;
    }
    bool isMem(unsigned n) const {
        return n < z.operand_count_visible && operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY;
    }
    bool isImm(unsigned n) const {
        return n < z.operand_count_visible && operands[n].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    }
    unsigned bits(unsigned n) const { return operands[n].size; }  // of operand n
    unsigned operandBits() const { return z.operand_width; }      // effective operand size
    bool vex() const { return z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX; }
    bool evex() const { return z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX; }
    bool ymm() const { return z.avx.vector_length == 256; }  // VEX.L, where it matters
    // Index 0..3 for 8, 16, 32, 64 bits.
    static unsigned log2Bytes(unsigned bits) { return bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3; }
};

// Facts of a row that the decoder acts on.
enum Fact : uint16_t {
    kNone = 0,
    kEndsBlock = 1,  // control goes elsewhere, or what follows must be looked at anew (mode, paging, IF)
    kNoLegacy = 2,   // #UD outside 64-bit mode
    kNo64 = 4,       // #UD in 64-bit mode (Zydis refuses most by itself)
    kVex = 8,        // the row serves the mnemonic with a V in front, too: its VEX forms
    kEvex = 16,      // and EVEX forms, of that mnemonic or of its own
    kOnlyEvex = 32,  // EVEX forms only: another row has the others
};

// One row an instruction: the body (chosen among its forms by `select`) and the facts Zydis does not know.
// `select` returns null for a form that does not exist: #UD.
struct Row {
    ZydisMnemonic mnemonic;
    Handler (*select)(const Shape&);
    uint16_t facts = kNone;
};

// Every file of bodies exports its rows; decoder.cpp joins them.
std::span<const Row> moveRows();
std::span<const Row> arithmeticRows();
std::span<const Row> shiftRows();
std::span<const Row> bitRows();
std::span<const Row> bcdRows();
std::span<const Row> controlRows();
std::span<const Row> stackRows();
std::span<const Row> stringRows();
std::span<const Row> ioRows();
std::span<const Row> systemRows();
std::span<const Row> x87Rows();
std::span<const Row> mmxRows();
std::span<const Row> sseRows();
std::span<const Row> bmiRows();
std::span<const Row> xsaveRows();
std::span<const Row> monitorRows();

}  // namespace kiln
