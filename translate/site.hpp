// A place where host code calls the translator. There are many of them: places in code are kept as distances
// from the start of the code buffer, 0 where there is none.
#pragma once
#include <Zydis/Zydis.h>

#include <cstdint>

#include "cpu/insn.hpp"
#include "translate/host_frame.hpp"

namespace kiln {

struct HostBlock;

struct Site {
    enum class Kind : uint8_t {
        Interpret,  // the interpreter runs the instruction, then `resume`
        Trap,       // the same, of one that may be promoted (promotions.hpp)
        System,     // the same, of one that the translator mostly does without it
        Miss,       // the same, for an instruction whose operand the TLB does not give or the host can't do
        Before,     // leaves in front of the instruction, if it is not an operand that the TLB gives now
        ChangeAc,   // STAC and CLAC: another TLB, and so another frame
        Link,       // a jump within the page: the jump at `patch` can lead to the target's block
        OtherPage,  // a direct jump to another page: the same, while that page has the mark written at `mark`
        LookUp,     // an indirect jump whose target is not in the table: fill it in and `resume`, or leave
                    // in front of the instruction
        Over,       // an indirect jump was done and the slice is over: leaves at HostFrame::rip
        Vectors,    // vector or x87 registers are wanted: `resume`, or leave in front of the instruction
        Dead,       // the block's code was overwritten: leaves in front of it
        Second,     // whether the block's instruction goes on where it did: `resume` if so, and `mark` is set
        Careful,    // operands are not on one page: on in code that looks at each (patched: `patchSaved`)
    };
    static constexpr size_t kKinds = size_t(Kind::Careful) + 1;
    Kind kind = Kind::Interpret;
    VectorLevel level = VectorLevel::None;  // to be loaded before `resume`
    uint8_t bytes = 0;                      // of the operand at HostFrame::operand that the TLB did not give;
                                            // of System: of the instruction
    uint8_t count = 1;                      // instructions that are interpreted
    bool x87 : 1 = false, x87Page : 1 = false;    // as `level`; and the page to be noted, for FIP
    bool usesX87 : 1 = false;                     // the interpreter will look at it
    bool spanned : 1 = false;                     // by operands that share a look-up
    bool write : 1 = false, aligned : 1 = false;  // what is wanted of the operand
    bool pair : 1 = false;       // [rSI] and [rDI] are wanted at once: see Translator::missed
    bool strings : 1 = false;    // which REP MOVS or STOS may find on several pages
    bool behindSti : 1 = false;  // who leaves here leaves in the shadow of STI
    bool wide : 1 = false;       // with an operand size of 64 bits
    bool limited : 1 = false;    // in a loop of a trace, HostFrame::beyond is to be added to the slice
    // What the instruction may raise before it does anything else: Translator::faultAhead().
    enum Raises : uint8_t { Nothing, Undefined, WantsCpl0, WantsIopl, WantsIoplInV86 };
    uint8_t raises : 3 = Nothing;
    uint16_t mnemonic = 0;  // Zydis's, of the instruction
    uint16_t index = 0;     // of the instruction in its block
    // In a trace, from the trace's start: instructions that HostFrame::slice does not show yet, and pages up
    // to the block's.
    int16_t executed = 0;
    int32_t pages = 0;
    uint16_t trace = 0;  // number
    uint8_t links = 0;   // how often an OtherPage was led somewhere
    uint8_t guest = 0;   // of System: the general register that is read. Of Miss: see Move
    // A jump to be led to a target; it leads `out` as long as there is none. One that has `patchSaved` is
    // taken with flags that are nowhere but in what they came from; for a target that needs them that is a
    // second jump, behind code that saves them, which leads `over` as long as there is none.
    union {
        uint32_t resume = 0;  // where the code goes on
        uint32_t patch;
    };
    union {
        uint32_t again = 0;  // looks the operand up once more
        uint32_t patchSaved;
        uint32_t port;     // of IN and OUT with a constant one; kInDx
        uint32_t control;  // of System: the control register that MOV writes
    };
    union {
        uint32_t mark = 0;  // behind the four bytes
        uint32_t call;      // of Trap and Miss: the call, in whose place a jump to promoted code comes
    };
    union {
        uint32_t out = 0;
        uint32_t promotion;  // of Trap and Miss: the newest one's number plus 1
    };
    union {
        uint32_t over = 0;
        uint32_t constant;  // of a Miss that moves one to memory; of System: the vector of INT n
    };
    int64_t target = 0;  // of a direct jump, from HostFrame::page; of others: the instruction's offset
    HostBlock* block = nullptr;
    union {
        const Block* alone = nullptr;  // of the instructions and a pseudo-instruction that returns
        const HostBlock* leadsTo;      // that `patch` was last led to
    };

    static constexpr uint32_t kInDx = ~0u;
    // What a MOV or MOVZX between registers in memory and a general register does, in Site::guest. And other
    // instructions of a register or a constant and registers in memory: kMerges tells that those are only
    // read, for a string instruction `constant` is the size of an address in bytes.
    struct Move {
        static constexpr uint8_t kIs = 0x80, kConstant = 0x40, kMerges = 0x20, kHighByte = 0x10,
                                 kRegister = 0x0f;
    };
    bool moves() const { return mnemonic == ZYDIS_MNEMONIC_MOV || mnemonic == ZYDIS_MNEMONIC_MOVZX; }

    bool leads() const { return kind == Kind::Link || kind == Kind::OtherPage; }
};
static_assert(sizeof(Site) == 64);

}  // namespace kiln
