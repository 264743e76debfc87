// BMI1, BMI2, ADX and MOVBE: SDM vol. 1, 5.1.15 and 5.1.16; vol. 2. TZCNT, LZCNT and POPCNT are in bits.cpp.
//
// VEX instructions of this kind don't care about XCR0, but need protected mode.
#include "cpu/body.hpp"

namespace kiln {

namespace {

template <class T>
constexpr unsigned kBits = 8 * sizeof(T);

struct RegC {
    template <class T>
    static T load(Cpu& c, const Insn& i) {
        return c.gpr.get<T>(i.c);
    }
};

// -- results of one or two sources with flags: SF and ZF of the result, CF as each says, OF clear. AF and PF
// are undefined; so is, for BEXTR, SF: all clear, as on Intel's processors.

struct Result {
    uint64_t value;
    bool carry;
};
template <class Op>
constexpr bool kSignless = requires {
    Op::kSignless;
};  // SF is clear

struct Andn {
    template <class T>
    static Result run(T a, T b) {
        return {T(~a & b), false};
    }
};
struct Bextr {
    static constexpr bool kSignless = true;
    template <class T>
    static Result run(T a, T control) {
        const unsigned start = control & 0xff, length = control >> 8 & 0xff;
        T v = start < kBits<T> ? T(a >> start) : 0;
        if (length < kBits<T>) v &= T((T(1) << length) - 1);
        return {v, false};
    }
};
struct Bzhi {
    template <class T>
    static Result run(T a, T count) {
        const unsigned n = count & 0xff;
        return {n < kBits<T> ? T(a & T((T(1) << n) - 1)) : a, n >= kBits<T>};
    }
};
struct Blsi {
    template <class T>
    static Result run(T v) {
        return {T(v & T(-v)), v != 0};
    }
};
struct Blsmsk {
    template <class T>
    static Result run(T v) {
        return {T(v ^ T(v - 1)), v == 0};
    }
};
struct Blsr {
    template <class T>
    static Result run(T v) {
        return {T(v & T(v - 1)), v == 0};
    }
};

template <class T, class Op>
void finish(Cpu& c, const Insn& i, Result r) {
    RegA::store<T>(c, i, T(r.value));
    c.flags.set<T>(T(r.value), r.carry, false, false);
    c.flags.clearPf();
    if (kSignless<Op>) c.flags.setArithmetic(c.flags.arithmetic() & ~flag::SF);
}
template <class Op, class T, class First, class Second>
void withFlags(Cpu& c, const Insn& i) {
    c.checkVex();
    const T a = First::template load<T>(c, i), b = Second::template load<T>(c, i);
    finish<T, Op>(c, i, Op::template run<T>(a, b));
}
template <class Op, class T, class Src>
void lowestBit(Cpu& c, const Insn& i) {
    c.checkVex();
    finish<T, Op>(c, i, Op::template run<T>(Src::template load<T>(c, i)));
}

// -- without flags

struct Sarx {
    template <class T>
    static T run(T v, T count) {
        return T(std::make_signed_t<T>(v) >> (count & (kBits<T> - 1)));
    }
};
struct Shlx {
    template <class T>
    static T run(T v, T count) {
        return T(v << (count & (kBits<T> - 1)));
    }
};
struct Shrx {
    template <class T>
    static T run(T v, T count) {
        return T(v >> (count & (kBits<T> - 1)));
    }
};
struct Rorx {
    template <class T>
    static T run(T v, T count) {
        return std::rotr(v, int(count & (kBits<T> - 1)));
    }
};
struct Pdep {
    template <class T>
    static T run(T v, T mask) {
        T r = 0;
        for (; mask; mask &= T(mask - 1), v >>= 1)
            if (v & 1) r |= T(mask & T(-mask));
        return r;
    }
};
struct Pext {
    template <class T>
    static T run(T v, T mask) {
        T r = 0;
        for (unsigned n = 0; mask; mask &= T(mask - 1), n++)
            if (v & T(mask & T(-mask))) r |= T(T(1) << n);
        return r;
    }
};

template <class Op, class T, class First, class Second>
void withoutFlags(Cpu& c, const Insn& i) {
    c.checkVex();
    const T a = First::template load<T>(c, i), b = Second::template load<T>(c, i);
    RegA::store<T>(c, i, Op::template run<T>(a, b));
}

// The high half goes to operand 1; when both are the same register, it stays there.
template <class T, class Src>
void mulx(Cpu& c, const Insn& i) {
    c.checkVex();
    const T a = c.gpr.get<T>(Rdx * 8), b = Src::template load<T>(c, i);
    const auto product = static_cast<unsigned __int128>(a) * b;
    RegB::store<T>(c, i, T(product));
    RegA::store<T>(c, i, T(product >> kBits<T>));
}

// -- ADX: the carry flag of ADCX, the overflow flag of ADOX, and nothing else.

template <class T, class Src, bool overflow>
void addWithFlag(Cpu& c, const Insn& i) {
    const T a = RegA::load<T>(c, i), b = Src::template load<T>(c, i);
    const auto sum = static_cast<unsigned __int128>(a) + b + (overflow ? c.flags.of() : c.flags.cf());
    RegA::store<T>(c, i, T(sum));
    const bool carry = sum >> kBits<T> & 1;
    if (overflow)
        c.flags.setOf(carry);
    else
        c.flags.setCf(carry);
}

template <class T>
T swapped(T v) {
    if constexpr (sizeof(T) == 2)
        return __builtin_bswap16(v);
    else if constexpr (sizeof(T) == 4)
        return __builtin_bswap32(v);
    else
        return __builtin_bswap64(v);
}
template <class T>
void movbeLoad(Cpu& c, const Insn& i) {
    RegA::store<T>(c, i, swapped(c.loadOperand<T>(i)));
}
template <class T>
void movbeStore(Cpu& c, const Insn& i) {
    c.storeOperand<T>(i, swapped(RegB::load<T>(c, i)));
}

// -- forms

// 32 or 64 bits.
template <class Visit>
Handler byVexWidth(const Shape& s, Visit visit) {
    return s.bits(0) == 64 ? visit.template operator()<uint64_t>() : visit.template operator()<uint32_t>();
}

// The last of two sources is register or memory: ANDN, PDEP, PEXT.
template <template <class, class, class, class> class Body, class Op>
Handler lastIsRm(const Shape& s) {
    return byVexWidth(s, [&]<class T>() -> Handler {
        return s.isMem(2) ? Body<Op, T, RegB, Mem>::handler : Body<Op, T, RegB, RegC>::handler;
    });
}
// The first is: BEXTR, BZHI and shifts.
template <template <class, class, class, class> class Body, class Op>
Handler firstIsRm(const Shape& s) {
    return byVexWidth(s, [&]<class T>() -> Handler {
        return s.isMem(1) ? Body<Op, T, Mem, RegC>::handler : Body<Op, T, RegB, RegC>::handler;
    });
}
template <class Op, class T, class First, class Second>
struct WithFlags {
    static constexpr Handler handler = straight<withFlags<Op, T, First, Second>>;
};
template <class Op, class T, class First, class Second>
struct WithoutFlags {
    static constexpr Handler handler = straight<withoutFlags<Op, T, First, Second>>;
};

template <class Op>
Handler lowestBits(const Shape& s) {
    return byVexWidth(s, [&]<class T>() -> Handler {
        return s.isMem(1) ? straight<lowestBit<Op, T, Mem>> : straight<lowestBit<Op, T, RegB>>;
    });
}
Handler rorxForm(const Shape& s) {
    return byVexWidth(s, [&]<class T>() -> Handler {
        return s.isMem(1) ? straight<withoutFlags<Rorx, T, Mem, Imm>>
                          : straight<withoutFlags<Rorx, T, RegB, Imm>>;
    });
}
Handler mulxForm(const Shape& s) {
    return byVexWidth(s, [&]<class T>() -> Handler {
        return s.isMem(2) ? straight<mulx<T, Mem>> : straight<mulx<T, RegC>>;
    });
}
template <bool overflow>
Handler adxForm(const Shape& s) {
    return byVexWidth(s, [&]<class T>() -> Handler {
        return s.isMem(1) ? straight<addWithFlag<T, Mem, overflow>>
                          : straight<addWithFlag<T, RegB, overflow>>;
    });
}
Handler movbeForm(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        if constexpr (sizeof(T) == 1)
            return nullptr;
        else
            return s.isMem(1) ? straight<movbeLoad<T>> : straight<movbeStore<T>>;
    });
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_ANDN, lastIsRm<WithFlags, Andn>},
    {ZYDIS_MNEMONIC_BEXTR, firstIsRm<WithFlags, Bextr>},
    {ZYDIS_MNEMONIC_BZHI, firstIsRm<WithFlags, Bzhi>},
    {ZYDIS_MNEMONIC_BLSI, lowestBits<Blsi>},
    {ZYDIS_MNEMONIC_BLSMSK, lowestBits<Blsmsk>},
    {ZYDIS_MNEMONIC_BLSR, lowestBits<Blsr>},
    {ZYDIS_MNEMONIC_SARX, firstIsRm<WithoutFlags, Sarx>},
    {ZYDIS_MNEMONIC_SHLX, firstIsRm<WithoutFlags, Shlx>},
    {ZYDIS_MNEMONIC_SHRX, firstIsRm<WithoutFlags, Shrx>},
    {ZYDIS_MNEMONIC_RORX, rorxForm},
    {ZYDIS_MNEMONIC_PDEP, lastIsRm<WithoutFlags, Pdep>},
    {ZYDIS_MNEMONIC_PEXT, lastIsRm<WithoutFlags, Pext>},
    {ZYDIS_MNEMONIC_MULX, mulxForm},
    {ZYDIS_MNEMONIC_ADCX, adxForm<false>},
    {ZYDIS_MNEMONIC_ADOX, adxForm<true>},
    {ZYDIS_MNEMONIC_MOVBE, movbeForm},
};

}  // namespace

std::span<const Row> bmiRows() { return kRows; }

}  // namespace kiln
