// asmjit's assembler, and what host rax holds.
#pragma once
#include <asmjit/x86.h>

namespace kiln {

class HostAssembler final : public asmjit::x86::Assembler {
  public:
    using asmjit::x86::Assembler::Assembler;

    // Something that is in rax until an instruction names rax or changes it by nature, or code joins from
    // elsewhere, which the user of this class has to tell.
    int raxHolds() const { return raxHolds_; }
    void nowRaxHolds(int what) { raxHolds_ = what; }
    static constexpr int kNothing = -1;

    asmjit::Error _emit(asmjit::InstId id, const asmjit::Operand_& o0, const asmjit::Operand_& o1,
                        const asmjit::Operand_& o2, const asmjit::Operand_* more) override {
        if (isRax(o0) || isRax(o1) || isRax(o2) || usesRaxByNature(id)) raxHolds_ = kNothing;
        return asmjit::x86::Assembler::_emit(id, o0, o1, o2, more);
    }

  private:
    static bool isRax(const asmjit::Operand_& o) {
        return o.isReg() && o.as<asmjit::BaseReg>().isGp() && o.id() == 0;
    }
    static bool usesRaxByNature(asmjit::InstId id) {
        namespace I = asmjit::x86::Inst;
        switch (id) {
            case I::kIdLahf:
            case I::kIdMul:
            case I::kIdImul:
            case I::kIdDiv:
            case I::kIdIdiv:
            case I::kIdCbw:
            case I::kIdCwde:
            case I::kIdCdqe:
            case I::kIdCmpxchg:
            case I::kIdCmpxchg8b:
            case I::kIdCmpxchg16b:
            case I::kIdCall: return true;
            default: return false;
        }
    }

    int raxHolds_ = kNothing;
};

}  // namespace kiln
