// EVEX: what an instruction's opmask, vector length, broadcast and rounding do to it (SDM vol. 1, chapter 15;
// vol. 2, 2.7 and the exception classes E1 to E12). Bodies are not templates over the vector's length: they
// loop over the elements that there are.
//
// Elements that the mask leaves out raise no exceptions, and where the exception class suppresses faults they
// touch no memory. In the destination they stay (merging) or become zero (zeroing), and all above the
// vector's length becomes zero.
#pragma once
#include <bit>

#include "cpu/body.hpp"

namespace kiln {

// The EVEX prefix as the decoder leaves it in the upper half of Insn::imm.
class Evex {
  public:
    explicit Evex(const Insn& i) : bits_(uint32_t(i.imm >> 32)) {}
    static uint32_t describe(const Shape& s);

    unsigned bytes() const { return 16u << (bits_ & 3); }     // of the vector
    unsigned elementLog2() const { return bits_ >> 2 & 3; }   // of the destination's elements, in bytes
    unsigned maskRegister() const { return bits_ >> 4 & 7; }  // 0: none
    bool zeroing() const { return bits_ >> 7 & 1; }
    bool memory() const { return bits_ >> 8 & 1; }
    bool broadcast() const { return bits_ >> 9 & 1; }  // one element of memory for all
    unsigned memoryBytes() const { return 1u << (bits_ >> 10 & 7); }
    bool suppressesFaults() const { return bits_ >> 13 & 1; }
    unsigned rounding() const { return bits_ >> 14 & 3; }
    bool rounds() const { return bits_ >> 16 & 1; }                // by rounding() instead of MXCSR.RC
    bool suppressesExceptions() const { return bits_ >> 17 & 1; }  // {sae}, which rounding implies

    template <class T>
    unsigned count() const {
        return bytes() / sizeof(T);
    }
    // Which of the first `count` elements are to be worked on.
    uint64_t mask(const Cpu& c, unsigned count) const {
        const uint64_t all = ~0ull >> (64 - count);
        return maskRegister() ? c.opmask[maskRegister()] & all : all;
    }

  private:
    uint32_t bits_;
};

// The last source, which may be in memory: `count` elements, of which those in `mask` are needed.
Vector evexMemory(Cpu& c, const Insn& i, Evex x, uint64_t mask, unsigned count);
inline Vector evexSource(Cpu& c, const Insn& i, Evex x, uint64_t mask, unsigned count) {
    return x.memory() ? evexMemory(c, i, x, mask, count) : c.vec[i.c];
}
// Elements of 1 << elementLog2 bytes into a register by the rules of masks.
void evexWrite(Cpu& c, unsigned reg, Evex x, uint64_t mask, const Vector& r, unsigned count,
               unsigned elementLog2);
// Into memory: a fault writes nothing.
void evexStore(Cpu& c, const Insn& i, Evex x, uint64_t mask, const Vector& r, unsigned count,
               unsigned elementLog2);

template <class T>
constexpr unsigned kLog2 = std::countr_zero(sizeof(T));

template <class Visit>
inline void forEach(uint64_t mask, Visit visit) {
    for (; mask; mask &= mask - 1) visit(unsigned(std::countr_zero(mask)));
}

}  // namespace kiln
