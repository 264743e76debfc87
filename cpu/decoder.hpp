// From bytes to Insn: Zydis decodes, a row names the body, the operands are put where bodies look for them.
#pragma once
#include <array>
#include <memory>
#include <span>

#include "cpu/insn.hpp"
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

    // Decodes a block from the bytes of one page. Empty when not even the first instruction is whole.
    std::unique_ptr<Block> decodeBlock(PhysAddr start, CodeMode mode, std::span<const uint8_t> bytes,
                                       bool single) const;

    const InstructionSets& sets() const { return sets_; }
    const ZydisDecoder& zydis(CodeMode mode) const { return zydis_[unsigned(mode)]; }

  private:
    InstructionSets sets_;
    std::array<ZydisDecoder, 3> zydis_;  // one a code mode
};

}  // namespace kiln
