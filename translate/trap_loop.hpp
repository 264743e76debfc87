// A loop with traps in it, as one entry of the translator does it (compounding). Where a promoted trap calls
// its device, and its block is a loop to itself of ports, registers in memory, moves and counting, the
// translator goes round that loop by itself, from that trap on: `in; stos; loop`, a screen filled pixel by
// pixel, `out` of an index and `in` of its data. The steps are prepared when the trap is promoted; they leave
// registers, flags, memory and the count of instructions as the instructions would.
//
// Steps: IN, OUT, MOV, MOVZX, STOS, LODS, INC, DEC, ADD, SUB, CMP and TEST with a register or a constant,
// LEA; then JNZ, JZ or LOOP to the block's begin. 64-bit mode and flat 32-bit segments, and no segment
// overrides.
#pragma once
#include <Zydis/Zydis.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cpu/insn.hpp"

namespace kiln {

struct TrapLoop {
    enum class What : uint8_t {
        In,
        Out,
        Load,
        Store,
        StoreConstant,
        Move,
        Constant,
        Address,
        Add,
        Sub,
        Compare,
        Test,
        Inc,
        Dec,
        Branch,
        BranchIfZero,
        Loop
    };
    struct Step {
        What what;
        uint8_t bytes = 0;  // of the operation, or of what is moved
        uint8_t to = 0;  // general registers; of Load and In: the one written, of Store and Out: the one read
        uint8_t from = kNone;  // kNone: `constant`
        uint8_t base = kNone, index = kNone, scale = 0;
        uint8_t advance = 0;   // STOS and LODS: bytes that [base] moves on
        bool high = false;     // `to` is AH, CH, DH or BH
        bool merges = false;   // only the lower bytes of `to` are written
        int64_t constant = 0;  // or the displacement
        uint8_t width = 0;     // of the address, in bytes
    };
    static constexpr uint8_t kNone = 0xff, kDx = 0xfe;  // kDx: the port is in DX
    std::vector<Step> steps;                            // one for each instruction up to the way back

    // A loop that does nothing but to move one piece of data a round from or to where each round finds it
    // `bytes` further on, and to count: many rounds of it are one access to a device and one to memory.
    struct Bulk {
        uint8_t source = kNone;  // the step that loads the data; kNone: the same are stored each time
        uint8_t sink = 0;
        uint8_t counts = 0;  // the step that decides whether there is another round: a Loop, or what sets ZF
        std::array<int8_t, 16> stride{};  // what a round adds to the general registers
        std::array<uint8_t, 16> width{};  // of these additions, in bytes
    };
    std::optional<Bulk> bulk;
    // What the steps before `step` add to a register in a round.
    int64_t addedBefore(unsigned step, unsigned reg) const;

    // Null: the block is no such loop. `bytes`: the block's.
    static std::shared_ptr<const TrapLoop> of(const ZydisDecoder& decoder, const Block& block,
                                              std::span<const uint8_t> bytes);
};

}  // namespace kiln
