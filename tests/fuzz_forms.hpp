// Random instructions for comparison with the host: every encoding that Zydis decodes, that user code may
// run, and that has a row, found once by going through all opcodes; then instances of one with random
// operands.
#pragma once
#include <Zydis/Zydis.h>

#include <array>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cpu/decoder.hpp"
#include "tests/host_oracle.hpp"
#include "tests/random.hpp"

namespace kiln::test {

// 0, 1, -1, extremes, powers of two, small numbers, noise.
uint64_t interesting(Random& r);

struct Form {
    ZydisMnemonic mnemonic;
    uint8_t map;  // 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A
    uint8_t opcode;
    uint8_t prefix;  // 0, 66, F2 or F3
    bool w;          // REX.W, VEX.W or EVEX.W
    bool hasModrm;
    uint8_t modrm;  // one that gives this form
    bool vex = false;   // or EVEX
    bool evex = false;
    uint8_t length = 0;  // VEX.L, EVEX.L'L
    bool b = false;      // EVEX.b: broadcast, rounding, {sae}
    bool vexV = false;   // vvvv names a register
};

struct Instance {
    std::array<uint8_t, 15> bytes{};
    ZydisDecodedInstruction z;
    std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
    bool code64 = true;

    std::span<const uint8_t> code() const { return {bytes.data(), z.length}; }
    std::string text(uint64_t rip) const;
    bool uses(ZydisRegister enclosing) const;  // as a visible register operand
};

class FormTable {
  public:
    // `forHost`: only what the host can run as well.
    FormTable(bool code64, bool forHost);

    const std::map<ZydisMnemonic, std::vector<Form>>& forms() const { return forms_; }
    // Mnemonics of the instruction sets kiln means to have, for which no row gives a handler.
    const std::vector<std::string>& missing() const { return missing_; }

    // An instance with random registers, addressing and immediates.
    Instance make(Random& r, const Form& form) const;
    bool decode(Instance& i) const;

  private:
    void visit(Form form);
    bool decodes(Form& form) const;

    Decoder kiln_;
    bool code64_;
    bool forHost_;
    ZydisDecoder decoder_;
    std::map<ZydisMnemonic, std::vector<Form>> forms_;
    std::vector<std::string> missing_;
};

// Gives registers, flags, vectors and the x87 random contents, and fits them to the instruction: memory
// operands lead into the scratch area (or, sometimes, over its edge), counts are small, jumps go to
// HostOracle::kTaken. May change displacement bytes of the instruction. False: no fit, take another.
bool fitState(Random& r, const FormTable& table, Instance& i, uint64_t at, UserState& state);

}  // namespace kiln::test
