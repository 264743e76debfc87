// Which memory operands of a block can share one look-up in the TLB: those a constant distance apart, because
// their addresses start from the same value of a register, or of two of them (pushes, pops, additions of
// constants and copies are followed), or from RIP, FS or GS alone. The first of a group that comes checks the
// whole range, which must lie on one page; the others find the addend in the frame. A range that crosses
// pages, or is not there, sends the rest of the block to code that checks each operand for itself.
#pragma once
#include <Zydis/Zydis.h>

#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <span>

#include "translate/decoded.hpp"

namespace kiln {

// The displacement and base of an operand. Zydis 4.0 takes R13D for the base where there is none (67h, mod 0,
// SIB base 5, REX.B).
int64_t displacementOf(const ZydisDecodedInstruction& z, const ZydisDecodedOperandMem& m);
ZydisRegister baseOf(const ZydisDecodedInstruction& z, const ZydisDecodedOperandMem& m);

class AccessPlan {
  public:
    static constexpr int kNone = -1;
    static constexpr int64_t kWidest = 512;  // bytes: a wider range would cross pages too often

    static constexpr int64_t kLongestStride = 1024;

    enum class Start : uint8_t { Register, Sum, Rip, Fs, Gs };
    struct Group {
        Start start = Start::Register;
        // Of a Register or a Sum: which of them the value was in at the code's begin, if it was; `index` and
        // `shift` are a Sum's.
        int base = -1, index = -1;
        unsigned scale = 0;
        int64_t stride = 0;  // in a loop, what a round adds
        bool writes = false;
        int64_t low = 0, high = 0;  // first byte and the one behind the last, from the start
        unsigned count = 0;         // accesses
        unsigned first = 0,
                 last = 0;    // instructions: the first one's and the last one's, or behind a loop's end
        unsigned handle = 0;  // place in HostFrame::handles
        // While code is emitted:
        bool checked = false;
        unsigned checkedBy = 0;  // instruction
        unsigned alignment = 0;  // if not 0, the address at `aligned` is a multiple of it
        int64_t aligned = 0;
    };
    struct Access {
        int group = kNone;
        int64_t at = 0;    // from the group's start
        int64_t base = 0;  // of a Sum: what the base register has more than the start's has
    };

    // Of code that runs from its first instruction to its last, and then on from instruction `loop` if that
    // is not kNoLoop. What is in front of `loop` and what comes from there on is the same.
    static constexpr size_t kNoLoop = ~size_t(0);
    void make(std::span<const Decoded> code, bool code64, size_t loop = kNoLoop);
    void clear() { groups_.clear(), memory_.clear(), stack_.clear(); }

    Access memory(unsigned instruction) const { return of(memory_, instruction); }  // the explicit operand
    Access stack(unsigned instruction) const { return of(stack_, instruction); }    // the implied one
    Group& group(int n) { return groups_[size_t(n)]; }
    std::span<Group> groups() { return {groups_.data(), groups_.size()}; }
    size_t size() const { return memory_.size(); }  // instructions
    // The instruction was done in another way: what it checked itself is not checked.
    void withdraw(unsigned instruction);
    // Whether an addend that was found at or before `instruction` is wanted behind it.
    bool spans(unsigned instruction) const;

  private:
    friend class AccessPlanner;
    template <class T, size_t kUsual>
    using List = boost::container::small_vector<T, kUsual>;
    using Accesses = List<Access, 64>;
    static Access of(const Accesses& list, unsigned n) { return n < list.size() ? list[n] : Access{}; }

    List<Group, 8> groups_;
    Accesses memory_, stack_;  // by instruction
};

}  // namespace kiln
