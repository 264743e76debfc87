// Writes host code: a block's main line and what lies apart from it. asmjit's operands and mnemonics, which
// say what is meant, become bytes here for the instructions that nearly all code is made of
// (host_encoding.cpp); its own assembler, which takes ten times as long, encodes the others one by one.
// tests/test_host_assembler.cpp compares the two.
//
// Beside that it knows what host rax holds.
#pragma once
#include <asmjit/x86.h>

#include <memory>
#include <span>
#include <vector>

#include "translate/refusal.hpp"

namespace kiln {

class HostAssembler final : public asmjit::x86::EmitterImplicitT<HostAssembler> {
  public:
    enum class Part : uint8_t { Main, Cold };
    using Label = asmjit::Label;
    using Operand_ = asmjit::Operand_;
    using InstId = asmjit::InstId;

    HostAssembler();
    HostAssembler(const HostAssembler&) = delete;
    HostAssembler& operator=(const HostAssembler&) = delete;

    // Forgets all code and labels.
    void reset();

    Label newLabel() {
        labels_.push_back({});
        return Label(uint32_t(labels_.size() - 1));
    }
    // Here.
    void bind(const Label& label) { labels_[label.id()] = {part_, uint32_t(offset())}; }
    // What follows goes to the end of the other part.
    void section(Part part);
    size_t offset() const { return size_t(at_ - begin_); }  // in the current part
    void align16();
    void embedUInt8(uint8_t value);
    void embedUInt32(uint32_t value);
    // A site's number, which counts from what numberSites() will say; or MOV of it to eax.
    void embedSite(uint32_t number);
    void loadSite(uint32_t number) {
        embedUInt8(0xb8);
        embedSite(number);
        raxHolds_ = kNothing;
    }

    // An instruction the host has no encoding for throws std::runtime_error.
    template <class... Operands>
    void emit(InstId id, const Operands&... operands) {
        _emitI(id, operands...);
    }
    void emitOpArray(InstId id, const Operand_* operands, size_t count);

    // When all is written. `main` and `cold` are where the parts will run: jumps and calls know their
    // distances then.
    std::span<const uint8_t> bytes(Part part) const;
    void resolve(const uint8_t* main, const uint8_t* cold);
    void numberSites(uint32_t first);
    // Of a bound label, once it is resolved: from the main part's begin.
    ptrdiff_t distanceTo(const Label& label) const {
        const Place& p = labels_[label.id()];
        return base_[size_t(p.part)] - base_[0] + ptrdiff_t(p.offset);
    }

    // Something that is in rax until an instruction names rax or changes it by nature, or code joins from
    // elsewhere, which the user of this class has to tell.
    int raxHolds() const { return raxHolds_; }
    void nowRaxHolds(int what) { raxHolds_ = what; }
    static constexpr int kNothing = -1;

    // -- what asmjit's mnemonics call
    asmjit::Error _emitI(InstId id) { return put(id, none_, none_); }
    asmjit::Error _emitI(InstId id, const Operand_& a) { return put(id, a, none_); }
    [[gnu::always_inline]] asmjit::Error _emitI(InstId id, const Operand_& a, const Operand_& b) {
        namespace I = asmjit::x86::Inst;
        if (__builtin_constant_p(id)) {  // the most usual ones
            switch (id) {
                case I::kIdMov: return putMove(a, b);
                case I::kIdLea: return putLea(a, b);
                case I::kIdAdd:
                case I::kIdAnd:
                case I::kIdCmp: return putArithmetic(id, a, b);
                default: break;
            }
        }
        return put(id, a, b);
    }
    template <class... More>
    asmjit::Error _emitI(InstId id, const Operand_& a, const Operand_& b, const Operand_& c,
                         const More&... more) {
        const Operand_ all[] = {a, b, c, more...};
        emitOpArray(id, all, std::size(all));
        return asmjit::kErrorOk;
    }
    void addInstOptions(asmjit::InstOptions options) { options_ |= options; }
    asmjit::RegOnly _extraReg{};

  private:
    static constexpr uint32_t kUnbound = ~uint32_t(0);
    static constexpr size_t kLongest = 32;  // bytes that one call may write

    struct Place {
        Part part = Part::Main;
        uint32_t offset = kUnbound;
    };
    // A distance of one or four bytes, to a label or to an address (label ~0).
    struct Distance {
        Place at;
        uint32_t label;
        uint8_t bytes;
        uint64_t address;
    };
    struct Buffer {
        std::vector<uint8_t> bytes;
        size_t used = 0;
    };
    asmjit::Error put(InstId id, const Operand_& a, const Operand_& b);
    asmjit::Error putMove(const Operand_& a, const Operand_& b);
    asmjit::Error putLea(const Operand_& a, const Operand_& b);
    asmjit::Error putArithmetic(InstId id, const Operand_& a, const Operand_& b);
    template <class Encode>
    asmjit::Error putBy(InstId id, const Operand_& a, const Operand_& b, Encode encode);
    void byAsmjit(InstId id, const Operand_* operands, size_t count);
    void forgetRax(InstId id, const Operand_* operands, size_t count);
    void room() {
        if (size_t(end_ - at_) < kLongest) grow();
    }
    void grow();
    // -- host_encoding.cpp: false, and nothing is written, for what is not encoded there
    bool encode(InstId id, const Operand_& a, const Operand_& b);
    void jump(unsigned condition, const Label& to);
    void jumpIfZero(bool wide, const Label& to);
    void leadAway(uint8_t opcode, uint64_t address);

    uint8_t *begin_ = nullptr, *at_ = nullptr, *end_ = nullptr;  // of the current part
    Part part_ = Part::Main;
    Buffer parts_[2];
    std::vector<Place> labels_;
    std::vector<Distance> distances_;
    std::vector<Place> siteNumbers_;
    const uint8_t* base_[2] = {};
    asmjit::InstOptions options_ = asmjit::InstOptions::kNone;  // of the next instruction
    int raxHolds_ = kNothing;

    const Operand_ none_ = asmjit::Operand();
    Refusal refusal_;
    asmjit::CodeHolder code_;
    asmjit::x86::Assembler asmjit_;
};

}  // namespace kiln
