// RFLAGS. The six arithmetic flags are kept as the last result and its carry-out vector and are only worked
// out when somebody asks (SDM vol. 1, 3.4.3).
//
//   result_  the last result, sign-extended to 64 bits:   ZF = all zero, SF = sign, PF = parity of the low
//   byte aux_     bit 63 carry out of the top bit (CF), bit 62 carry into it (OF = 63 xor 62), bit 3 carry
//   out of bit 3
//            (AF); bit 4 flips SF and bits 8..15 flip PF, for flag images in which ZF, SF and PF disagree
#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>

namespace kiln {

namespace flag {
constexpr uint64_t CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, TF = 0x100, IF = 0x200, DF = 0x400,
                   OF = 0x800, IOPL = 0x3000, NT = 0x4000, RF = 0x10000, VM = 0x20000, AC = 0x40000,
                   VIF = 0x80000, VIP = 0x100000, ID = 0x200000;
constexpr uint64_t Arithmetic = CF | PF | AF | ZF | SF | OF;
}  // namespace flag

class Flags {
  public:
    bool cf() const { return aux_ >> 63; }
    bool of() const { return (aux_ ^ aux_ << 1) >> 63; }
    bool af() const { return aux_ >> 3 & 1; }
    bool zf() const { return result_ == 0; }
    bool sf() const { return uint64_t(result_) >> 63 ^ (aux_ >> 4 & 1); }
    bool pf() const { return !(std::popcount(uint8_t(uint64_t(result_) ^ aux_ >> 8)) & 1); }

    // The eight conditions of Jcc, SETcc and CMOVcc that have an even code; odd codes are their negations.
    template <unsigned Code>
    bool condition() const {
        bool r;
        if constexpr (Code / 2 == 0)
            r = of();
        else if constexpr (Code / 2 == 1)
            r = cf();
        else if constexpr (Code / 2 == 2)
            r = zf();
        else if constexpr (Code / 2 == 3)
            r = cf() || zf();
        else if constexpr (Code / 2 == 4)
            r = sf();
        else if constexpr (Code / 2 == 5)
            r = pf();
        else if constexpr (Code / 2 == 6)
            r = sf() != of();
        else
            r = zf() || sf() != of();
        return r != bool(Code & 1);
    }

    // Flags of r = a + b (+ carry) and of r = a - b (- borrow), at the width of T (unsigned).
    template <class T>
    void add(T a, T b, T r) {
        set<T>(r, T((a & b) | ((a | b) & ~r)));
    }
    template <class T>
    void sub(T a, T b, T r) {
        set<T>(r, T((~a & b) | ((~a | b) & r)));
    }
    // Flags of AND, OR, XOR, TEST: CF = OF = 0; AF undefined, cleared as processors do.
    template <class T>
    void logic(T r) {
        result_ = extend(r);
        aux_ = 0;
    }
    // Flags of a shift whose result is r; AF undefined, cleared.
    template <class T>
    void shift(T r, bool cf, bool of) {
        result_ = extend(r);
        aux_ = uint64_t(cf) << 63 | uint64_t(cf != of) << 62;
    }
    // SF, ZF, PF from r; the rest as given.
    template <class T>
    void set(T r, bool cf, bool of, bool af) {
        result_ = extend(r);
        aux_ = uint64_t(cf) << 63 | uint64_t(cf != of) << 62 | uint64_t(af) << 3;
    }
    // INC and DEC: everything but CF.
    template <class T>
    void setKeepCf(T r, bool of, bool af) {
        set<T>(r, cf(), of, af);
    }
    void setCf(bool v) {
        bool o = of();
        aux_ = (aux_ & ~(3ull << 62)) | uint64_t(v) << 63 | uint64_t(v != o) << 62;
    }
    void setOf(bool v) { aux_ = (aux_ & ~(1ull << 62)) | uint64_t(cf() != v) << 62; }
    void setCfOf(bool c, bool o) {
        aux_ = (aux_ & ~(3ull << 62)) | uint64_t(c) << 63 | uint64_t(c != o) << 62;
    }
    void clearPf() {
        if (pf()) aux_ ^= 0x100;
    }
    void clearZf() {
        if (zf()) result_ = 0x100;  // neither SF nor PF changes
    }
    void setZf(bool v) { setArithmetic((arithmetic() & ~flag::ZF) | (v ? flag::ZF : 0)); }

    uint64_t arithmetic() const {
        return (cf() ? flag::CF : 0) | (pf() ? flag::PF : 0) | (af() ? flag::AF : 0) | (zf() ? flag::ZF : 0) |
               (sf() ? flag::SF : 0) | (of() ? flag::OF : 0);
    }
    void setArithmetic(uint64_t v) {
        bool c = v & flag::CF, o = v & flag::OF, z = v & flag::ZF;
        result_ = z ? 0 : 1;  // SF = 0; low byte 0 has even parity, low byte 1 odd
        aux_ =
            uint64_t(c) << 63 | uint64_t(c != o) << 62 | (v & flag::AF ? 8 : 0) | (v & flag::SF ? 0x10 : 0);
        bool parityNow = z;
        if (parityNow != bool(v & flag::PF)) aux_ |= 0x100;
    }

    // The whole register, bit 1 set. `set` stores any bits: who may change which is the caller's business.
    uint64_t value() const { return arithmetic() | rest_ | 2; }
    void set(uint64_t v) {
        setArithmetic(v);
        rest_ = uint32_t(v & (0x3f7fd5 & ~flag::Arithmetic));
    }
    bool test(uint64_t mask) const { return rest_ & mask; }  // of flags that are not arithmetic
    void change(uint64_t mask, bool on) { rest_ = on ? rest_ | uint32_t(mask) : rest_ & ~uint32_t(mask); }
    // The flags that are not arithmetic, where they lie: for translated code.
    uint32_t& others() { return rest_; }
    unsigned iopl() const { return rest_ >> 12 & 3; }

  private:
    template <class T>
    static int64_t extend(T r) {
        return int64_t(std::make_signed_t<T>(r));
    }
    template <class T>
    void set(T r, T carries) {
        result_ = extend(r);
        if constexpr (sizeof(T) == 8)
            aux_ = carries & (3ull << 62 | 8);
        else
            aux_ = uint64_t(carries) << (64 - 8 * sizeof(T)) | (carries & 8);
    }

    int64_t result_ = 1;
    uint64_t aux_ = 0;
    uint32_t rest_ = 0;
};

}  // namespace kiln
