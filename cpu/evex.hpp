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

    unsigned bytes() const {  // of the vector: 16, 32, 64
        const unsigned log2 = bits_ & 3;
        if (log2 > 2) __builtin_unreachable();
        return 16u << log2;
    }
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

// Room for a vector that is filled before it is read: at least as far as the instruction's length goes.
struct VectorRoom {
    VectorRoom() {}
    union {
        Vector vector;
    };
};

void evexMemory(Cpu& c, const Insn& i, Evex x, uint64_t mask, unsigned count, Vector& to);

// The last source, which may be in memory: `count` elements, of which those in `mask` are needed.
class EvexSource {
  public:
    EvexSource(Cpu& c, const Insn& i, Evex x, uint64_t mask, unsigned count)
        : at_(x.memory() ? &room_.vector : &c.vec[i.c]) {
        if (x.memory()) evexMemory(c, i, x, mask, count, room_.vector);
    }
    EvexSource(const EvexSource&) = delete;
    EvexSource& operator=(const EvexSource&) = delete;
    const Vector& vector() const { return *at_; }
    operator const Vector&() const { return *at_; }
    template <class T>
    T get(unsigned n) const {
        return at_->get<T>(n);
    }

  private:
    VectorRoom room_;
    const Vector* at_;
};
[[gnu::always_inline]] inline void clearAbove(Vector& v, unsigned bytes) {  // of 16, 32 or 64
    if (bytes == 64) return;
    if (bytes == 16) v.set<Xmm>(1, Xmm{});
    v.set<Ymm>(1, Ymm{});
}
// A register's new elements of 1 << elementLog2 bytes by the rules of masks: `r` where the mask has a bit.
// What is above them is cleared.
void evexMerge(Cpu& c, unsigned reg, Evex x, uint64_t mask, const Vector& r, unsigned count,
               unsigned elementLog2);
void evexWriteShort(Cpu& c, unsigned reg, const Vector& r, unsigned bytes);  // less than 16
inline void evexWrite(Cpu& c, unsigned reg, Evex x, uint64_t mask, const Vector& r, unsigned count,
                      unsigned elementLog2) {
    if (x.maskRegister()) return evexMerge(c, reg, x, mask, r, count, elementLog2);
    const unsigned bytes = count << elementLog2;
    if (bytes < 16) return evexWriteShort(c, reg, r, bytes);
    Vector& to = c.vec[reg];
    for (unsigned part = 0; part < bytes / 16; part++) to.set<Xmm>(part, r.get<Xmm>(part));
    clearAbove(to, bytes);
}
// The same for what is computed 128 bits by 128 bits: part(n) gives such a part.
template <class Part>
[[gnu::always_inline]] inline void evexParts(Cpu& c, const Insn& i, Evex x, uint64_t mask,
                                             unsigned elementLog2, Part part) {
    VectorRoom room;
    Vector& to = x.maskRegister() ? room.vector : c.vec[i.a];
    for (unsigned n = 0; n < x.bytes() / 16; n++) to.set<Xmm>(n, part(n));
    if (x.maskRegister())
        evexMerge(c, i.a, x, mask, to, x.bytes() >> elementLog2, elementLog2);
    else
        clearAbove(to, x.bytes());
}
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
