// A place where host code calls the translator.
#pragma once
#include <cstdint>
#include <memory>

#include "cpu/insn.hpp"
#include "translate/host_frame.hpp"

namespace kiln {

struct Site {
    enum class Kind : uint8_t {
        Interpret,  // the interpreter runs the instruction, then `resume`
        Miss,       // the same, for an instruction whose operand the TLB does not give or the host can't do
        Before,     // leaves in front of the instruction
        Link,       // a jump within the page: the jump at `patch` can lead to the target's block
        OtherPage,  // a direct jump to another page
        LookUp,     // an indirect jump whose target is not in the table: fill it in and `resume`, or leave
                    // in front of the instruction
        Over,       // an indirect jump was done and the slice is over: leaves at HostFrame::rip
        Vectors,    // the guest's vector registers are wanted: `resume`, or leave in front of the instruction
        Dead,       // the block's code was overwritten: leaves in front of it
    };
    Kind kind = Kind::Interpret;
    uint16_t mnemonic = 0;  // Zydis's, of the instruction
    VectorLevel level = VectorLevel::None;
    uint16_t count = 1;  // instructions that are interpreted
    uint16_t index = 0;  // of the instruction in its block
    Block* block = nullptr;
    int64_t target = 0;  // of a direct jump, from HostFrame::page; of others: the instruction's offset
    const uint8_t* resume = nullptr;
    // Of a Link: the jump to be led to the target. One with an `out` is taken with flags that are nowhere but
    // in what they came from; for a target that needs them there is a second jump, behind code that saves
    // them.
    const uint8_t *patch = nullptr, *patchSaved = nullptr, *out = nullptr;
    std::unique_ptr<Block> alone;  // the instruction and a pseudo-instruction that returns
};

}  // namespace kiln
