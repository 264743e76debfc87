// Which instructions a processor model has: the one place where features turn encodings into #UD. It is asked
// when code is decoded, so that running it costs nothing.
#pragma once
#include <Zydis/Zydis.h>

#include <array>

#include "cpu/cpu_model.hpp"
#include "cpu/insn.hpp"

namespace kiln {

class InstructionSets {
  public:
    explicit InstructionSets(const CpuModel& model);

    bool offers(const ZydisDecodedInstruction& z, CodeMode mode) const;
    // Without an FPU its instructions are no invalid opcodes: they do nothing.
    bool absentFpu(const ZydisDecodedInstruction& z) const {
        return !fpu_ && (z.meta.isa_set == ZYDIS_ISA_SET_X87 || z.meta.isa_ext == ZYDIS_ISA_EXT_X87);
    }
    // Makes Zydis read the bytes as the model does: TZCNT as BSF without BMI1, ENDBR as NOP without CET.
    void configure(ZydisDecoder& decoder) const;

  private:
    enum class Verdict : uint8_t { Absent, Offered, ByMnemonic };
    const FeatureSet features_;
    const bool amd_, fpu_;
    std::array<Verdict, ZYDIS_ISA_SET_MAX_VALUE + 1> verdicts_;
};

// The features an instruction of a set needs, all of them; empty for those every model has. False: kiln has
// none of the set. For the decoder, and for tests that look for gaps.
bool requirements(ZydisISASet set, ZydisMnemonic mnemonic, CodeMode mode, FeatureSet& out);

}  // namespace kiln
