// Zydis's view of instructions, remembered by their shape (cpu/instruction_layout.hpp): a copy with other
// fields costs a tenth of decoding.
#pragma once
#include <vector>

#include "cpu/instruction_layout.hpp"
#include "translate/decoded.hpp"

namespace kiln {

class DecodedShapes {
  public:
    // False: no instruction.
    bool decode(const ZydisDecoder& zydis, CodeMode mode, std::span<const uint8_t> bytes, Decoded& out);

  private:
    static constexpr unsigned kMostOperands = 5;  // with the hidden ones; only few instructions have more
    static constexpr size_t kShapes = 2048;       // a power of two
    static constexpr uint8_t kNoOperand = 0xff;
    struct Known {
        ShapeKey key;
        uint8_t memory, immediate;  // the operands with the fields
        Facts facts;
        ZydisDecodedInstruction z;
        ZydisDecodedOperand operands[kMostOperands];
    };
    static void make(const Known& known, std::span<const uint8_t> bytes, const InstructionLayout& layout,
                     Decoded& out);
    void remember(const ShapeKey& key, std::span<const uint8_t> bytes, const InstructionLayout& layout,
                  const Decoded& decoded);

    std::vector<Known> known_ = std::vector<Known>(kShapes);
};

}  // namespace kiln
