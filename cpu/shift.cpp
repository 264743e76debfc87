// Shifts and rotates: SHL SHR SAR, ROL ROR RCL RCR, SHLD SHRD (SDM vol. 1, 7.3.6; vol. 2, SAL/SAR/SHL/SHR and
// RCL/RCR/ROL/ROR). The count is taken modulo 32, or 64 for 64-bit operands; a count of 0 leaves every flag
// alone. What the manual leaves undefined is what Intel's processors were seen to do.
#include "cpu/body.hpp"

namespace kiln {
namespace {

template <class T>
constexpr unsigned kBits = 8 * sizeof(T);
template <class T>
constexpr unsigned kCountMask = sizeof(T) == 8 ? 63 : 31;
// A type in which an operand can be shifted by any masked count.
template <class T>
using Wide = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <class T>
constexpr bool bit(T v, unsigned n) {
    return v >> n & 1;
}
template <class T>
constexpr bool top(T v) {
    return bit(v, kBits<T> - 1);
}

// -- the seven operations: the result for a count that is not 0, flags set. OF is undefined for counts over
// 1; processors give what a count of 1 would.

struct Shl {
    template <class T>
    static T apply(T v, unsigned n, Flags& f) {
        T carries = T(Wide<T>(v) << (n - 1));
        T r = T(carries << 1);
        f.shift<T>(r, top(carries), top(T(v ^ v << 1)));
        return r;
    }
};

struct Shr {
    template <class T>
    static T apply(T v, unsigned n, Flags& f) {
        T carries = T(Wide<T>(v) >> (n - 1));
        T r = T(carries >> 1);
        f.shift<T>(r, carries & 1, top(v));
        return r;
    }
};

struct Sar {
    template <class T>
    static T apply(T v, unsigned n, Flags& f) {
        using Signed = std::make_signed_t<T>;
        Signed carries = Signed(std::make_signed_t<Wide<T>>(Signed(v)) >> (n - 1));
        T r = T(carries >> 1);
        f.shift<T>(r, carries & 1, false);
        return r;
    }
};

// A register rotated by an immediate over 1 keeps OF as it was.
template <bool KeepsOf>
struct RolBy {
    template <class T>
    static T apply(T v, unsigned n, Flags& f) {
        T r = std::rotl(v, int(n % kBits<T>));
        if constexpr (KeepsOf)
            f.setCf(r & 1);
        else
            f.setCfOf(r & 1, top(T(v ^ v << 1)));
        return r;
    }
};

template <bool KeepsOf>
struct RorBy {
    template <class T>
    static T apply(T v, unsigned n, Flags& f) {
        T r = std::rotr(v, int(n % kBits<T>));
        if constexpr (KeepsOf)
            f.setCf(top(r));
        else
            f.setCfOf(top(r), bool(v & 1) != top(v));
        return r;
    }
};

// Rotates through CF turn a number of one bit more: by 9 or 17, bytes and words come back to where they were.
struct Rcl {
    template <class T>
    static T apply(T v, unsigned n, Flags& f) {
        n %= kBits<T> + 1;
        if (n == 0) return v;
        T r = T(Wide<T>(v) << n | Wide<T>(f.cf()) << (n - 1));
        if (n > 1) r |= T(Wide<T>(v) >> (kBits<T> + 1 - n));
        f.setCfOf(bit(v, kBits<T> - n), top(T(v ^ v << 1)));
        return r;
    }
};

struct Rcr {
    template <class T>
    static T apply(T v, unsigned n, Flags& f) {
        n %= kBits<T> + 1;
        if (n == 0) return v;
        const bool before = f.cf();
        T r = T(Wide<T>(v) >> n | Wide<T>(before) << (kBits<T> - n));
        if (n > 1) r |= T(Wide<T>(v) << (kBits<T> + 1 - n));
        f.setCfOf(bit(v, n - 1), before != top(v));
        return r;
    }
};

// -- counts

struct ByOne {
    static constexpr bool mayBeZero = false;
    template <class T>
    static constexpr unsigned get(Cpu&, const Insn&) {
        return 1;
    }
};
struct ByImm {  // known not to be 0 after masking
    static constexpr bool mayBeZero = false;
    template <class T>
    static unsigned get(Cpu&, const Insn& i) {
        return unsigned(i.imm) & kCountMask<T>;
    }
};
struct ByZero {
    static constexpr bool mayBeZero = true;
    template <class T>
    static constexpr unsigned get(Cpu&, const Insn&) {
        return 0;
    }
};
struct ByCl {
    static constexpr bool mayBeZero = true;
    template <class T>
    static unsigned get(Cpu& c, const Insn&) {
        return unsigned(c.gpr[Rcx]) & kCountMask<T>;
    }
};

// A 32-bit register is written, and so extended, even by a count of 0.
template <class Op, class T, class Dst, class Count>
void shift(Cpu& c, const Insn& i) {
    unsigned n = Count::template get<T>(c, i);
    auto place = Dst::template modify<T>(c, i);
    if (Count::mayBeZero && n == 0) return place.write(place.value);
    place.write(Op::template apply<T>(place.value, n, c.flags));
}

template <class Op, class OpByImm, class T, class Dst>
Handler byCount(const Shape& s) {
    if (!s.isImm(1)) return straight<shift<Op, T, Dst, ByCl>>;
    unsigned n = unsigned(s.operands[1].imm.value.u) & kCountMask<T>;
    if (n == 0) return straight<shift<Op, T, Dst, ByZero>>;
    if (n == 1) return straight<shift<Op, T, Dst, ByOne>>;
    return straight<shift<OpByImm, T, Dst, ByImm>>;
}

template <class Op, class OpByImm = Op>
Handler shifts(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() {
        return s.isMem(0) ? byCount<Op, Op, T, Mem>(s) : byCount<Op, OpByImm, T, RegA>(s);
    });
}

// -- SHLD, SHRD. A 16-bit operand with a count over 16 is undefined: the three words first:second:first turn.

struct Shld {
    template <class T>
    static T apply(T first, T second, unsigned n, Flags& f) {
        constexpr unsigned w = kBits<T>;
        T r;
        bool cf;
        if constexpr (w == 16) {
            uint64_t chain = uint64_t(first) << 32 | uint64_t(second) << 16 | first;
            r = T(chain << n >> 32);
            cf = bit(chain, 48 - n);
        } else {
            r = T(first << n | second >> (w - n));
            cf = bit(first, w - n);
        }
        f.shift<T>(r, cf, top(T(first ^ first << 1)));
        return r;
    }
};

struct Shrd {
    template <class T>
    static T apply(T first, T second, unsigned n, Flags& f) {
        constexpr unsigned w = kBits<T>;
        T r;
        bool cf;
        if constexpr (w == 16) {
            uint64_t chain = uint64_t(first) << 32 | uint64_t(second) << 16 | first;
            r = T(chain >> n);
            cf = bit(chain, n - 1);
        } else {
            r = T(first >> n | second << (w - n));
            cf = bit(first, n - 1);
        }
        f.shift<T>(r, cf, bool(second & 1) != top(first));
        return r;
    }
};

template <class Op, class T, class Dst, class Count>
void doubleShift(Cpu& c, const Insn& i) {
    unsigned n = Count::template get<T>(c, i);
    auto place = Dst::template modify<T>(c, i);
    if (Count::mayBeZero && n == 0) return place.write(place.value);
    place.write(Op::template apply<T>(place.value, RegB::load<T>(c, i), n, c.flags));
}

template <class Op, class T, class Dst>
Handler doubleByCount(const Shape& s) {
    if (!s.isImm(2)) return straight<doubleShift<Op, T, Dst, ByCl>>;
    if (unsigned(s.operands[2].imm.value.u) & kCountMask<T>) return straight<doubleShift<Op, T, Dst, ByImm>>;
    return straight<doubleShift<Op, T, Dst, ByZero>>;
}

template <class Op>
Handler doubleShifts(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        if constexpr (sizeof(T) == 1)
            return nullptr;
        else
            return s.isMem(0) ? doubleByCount<Op, T, Mem>(s) : doubleByCount<Op, T, RegA>(s);
    });
}

}  // namespace

std::span<const Row> shiftRows() {
    static const Row rows[] = {
        {ZYDIS_MNEMONIC_ROL, shifts<RolBy<false>, RolBy<true>>},
        {ZYDIS_MNEMONIC_ROR, shifts<RorBy<false>, RorBy<true>>},
        {ZYDIS_MNEMONIC_RCL, shifts<Rcl>},
        {ZYDIS_MNEMONIC_RCR, shifts<Rcr>},
        {ZYDIS_MNEMONIC_SHL, shifts<Shl>},
        {ZYDIS_MNEMONIC_SHR, shifts<Shr>},
        {ZYDIS_MNEMONIC_SAR, shifts<Sar>},
        {ZYDIS_MNEMONIC_SHLD, doubleShifts<Shld>},
        {ZYDIS_MNEMONIC_SHRD, doubleShifts<Shrd>},
    };
    return rows;
}

}  // namespace kiln
