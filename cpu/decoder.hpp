// From bytes to Insn: Zydis decodes, a row names the body, the operands are put where bodies look for them.
// What came of it is remembered by the instruction's shape (instruction_layout.hpp): most code is made of
// few.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <vector>

#include "cpu/insn.hpp"
#include "cpu/instruction_layout.hpp"
#include "cpu/instruction_sets.hpp"

namespace kiln {

class Decoder {
  public:
    static constexpr unsigned kMaxInsns = 64, kMaxLength = 15;

    // Decodes for one processor model: what it does not offer is undefined.
    explicit Decoder(const CpuModel& model);

    // Decodes one instruction at block offset `offset`. Returns false when `bytes` ends inside it. `ends`
    // tells that the block must end behind it. Undefined encodings decode to an instruction that raises #UD.
    bool decode(std::span<const uint8_t> bytes, CodeMode mode, uint16_t offset, Insn& out, bool& ends) const;
    // The same without looking whether the shape is known.
    bool decodeAnew(std::span<const uint8_t> bytes, CodeMode mode, uint16_t offset, Insn& out,
                    bool& ends) const;

    // Decodes a block from the bytes of one page. Empty when not even the first instruction is whole.
    // `covering`, if not null, has been decoded from memory around it as it is now, and begins before it with
    // one of its instructions.
    std::unique_ptr<Block> decodeBlock(PhysAddr start, CodeMode mode, std::span<const uint8_t> bytes,
                                       bool single, const Block* covering = nullptr) const;

    // The same into a block that is there; it stays as it is when there is none.
    bool decodeInto(Block& block, std::span<const uint8_t> bytes, bool single,
                    const Block* covering = nullptr) const;

    const InstructionSets& sets() const { return sets_; }
    const ZydisDecoder& zydis(CodeMode mode) const { return zydis_[unsigned(mode)]; }

  private:
    bool decodeByZydis(std::span<const uint8_t> bytes, CodeMode mode, uint16_t offset, Insn& out, bool& ends,
                       ZydisDecodedInstruction& z) const;

    InstructionSets sets_;
    std::array<ZydisDecoder, 3> zydis_;  // one a code mode

    // How an instruction of a shape is made from its bytes: `insn` with the fields put in.
    struct Known {
        ShapeKey key;
        Insn insn;
        bool ends, toBlock;  // the displacement counts from the instruction's end, for the block's start
        bool relative;       // the immediate is a branch's distance
        bool immediateSigned;
    };
    static_assert(sizeof(Known) <= 64);
    static void putFields(Insn& out, const Known& known, const uint8_t* bytes,
                          const InstructionLayout& layout, uint16_t offset);
    void remember(const ShapeKey& key, const InstructionLayout& layout, const ZydisDecodedInstruction& z,
                  const uint8_t* bytes, const Insn& made, bool ends) const;
    static constexpr size_t kShapes = 8192;  // a power of two
    mutable std::vector<Known> known_ = std::vector<Known>(kShapes);
};

}  // namespace kiln
