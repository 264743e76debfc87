// Integer arithmetic and logic (SDM vol. 1, 7.3.2 and 7.3.3). A two-operand body is a struct with one
// function of two values; `binary` makes its forms.
#include "cpu/body.hpp"

namespace kiln {

namespace {

struct Add {
    static constexpr bool kWrites = true;
    template <class T>
    static T run(Cpu& c, T a, T b) {
        T r = T(a + b);
        c.flags.add<T>(a, b, r);
        return r;
    }
};
struct Adc {
    static constexpr bool kWrites = true;
    template <class T>
    static T run(Cpu& c, T a, T b) {
        T r = T(a + b + c.flags.cf());
        c.flags.add<T>(a, b, r);
        return r;
    }
};
struct Sub {
    static constexpr bool kWrites = true;
    template <class T>
    static T run(Cpu& c, T a, T b) {
        T r = T(a - b);
        c.flags.sub<T>(a, b, r);
        return r;
    }
};
struct Sbb {
    static constexpr bool kWrites = true;
    template <class T>
    static T run(Cpu& c, T a, T b) {
        T r = T(a - b - c.flags.cf());
        c.flags.sub<T>(a, b, r);
        return r;
    }
};
struct Cmp : Sub {
    static constexpr bool kWrites = false;
};
struct And {
    static constexpr bool kWrites = true;
    template <class T>
    static T run(Cpu& c, T a, T b) {
        T r = T(a & b);
        c.flags.logic<T>(r);
        return r;
    }
};
struct Or {
    static constexpr bool kWrites = true;
    template <class T>
    static T run(Cpu& c, T a, T b) {
        T r = T(a | b);
        c.flags.logic<T>(r);
        return r;
    }
};
struct Xor {
    static constexpr bool kWrites = true;
    template <class T>
    static T run(Cpu& c, T a, T b) {
        T r = T(a ^ b);
        c.flags.logic<T>(r);
        return r;
    }
};
struct Test : And {
    static constexpr bool kWrites = false;
};

template <class Op, class T, class Dst, class Src>
void binaryBody(Cpu& c, const Insn& i) {
    if constexpr (Op::kWrites) {
        T b = Src::template load<T>(c, i);
        auto place = Dst::template modify<T>(c, i);
        place.write(Op::template run<T>(c, place.value, b));
    } else {
        T b = Src::template load<T>(c, i);
        Op::template run<T>(c, Dst::template load<T>(c, i), b);
    }
}

template <class Op, class T>
struct BinaryFromMem {
    template <class M>
    static constexpr Body of = binaryBody<Op, T, RegA, M>;
};
template <class Op, class T, class Src>
struct BinaryToMem {
    template <class M>
    static constexpr Body of = binaryBody<Op, T, M, Src>;
};

// LOCK: the operation may run more than once, each time on the flags from before.
template <class Op, class T, class Src>
void lockedBinary(Cpu& c, const Insn& i) {
    const T b = Src::template load<T>(c, i);
    const Flags before = c.flags;
    c.atomically<T>(i.seg, c.effectiveAddress(i), [&](T a) {
        c.flags = before;
        return Op::template run<T>(c, a, b);
    });
}
template <class Op, class T>
void lockedUnary(Cpu& c, const Insn& i) {
    const Flags before = c.flags;
    c.atomically<T>(i.seg, c.effectiveAddress(i), [&](T a) {
        c.flags = before;
        return Op::template run<T>(c, a);
    });
}

template <class Op>
Handler binary(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        if constexpr (Op::kWrites)
            if (isLocked(s))
                return s.isImm(1) ? straight<lockedBinary<Op, T, Imm>> : straight<lockedBinary<Op, T, RegB>>;
        if (s.isMem(1)) return byMemory<BinaryFromMem<Op, T>, T, false>(s);
        if (s.isMem(0))
            return s.isImm(1) ? byMemory<BinaryToMem<Op, T, Imm>, T, Op::kWrites>(s)
                              : byMemory<BinaryToMem<Op, T, RegB>, T, Op::kWrites>(s);
        return s.isImm(1) ? straight<binaryBody<Op, T, RegA, Imm>> : straight<binaryBody<Op, T, RegA, RegB>>;
    });
}

struct Inc {
    template <class T>
    static T run(Cpu& c, T a) {
        T r = T(a + 1);
        c.flags.setKeepCf<T>(r, r == T(T(1) << (sizeof(T) * 8 - 1)), (r & 15) == 0);
        return r;
    }
};
struct Dec {
    template <class T>
    static T run(Cpu& c, T a) {
        T r = T(a - 1);
        c.flags.setKeepCf<T>(r, a == T(T(1) << (sizeof(T) * 8 - 1)), (a & 15) == 0);
        return r;
    }
};
struct Not {
    template <class T>
    static T run(Cpu&, T a) {
        return T(~a);
    }
};
struct Neg {
    template <class T>
    static T run(Cpu& c, T a) {
        T r = T(-a);
        c.flags.sub<T>(0, a, r);
        return r;
    }
};

template <class Op, class T, class Dst>
void unaryBody(Cpu& c, const Insn& i) {
    auto place = Dst::template modify<T>(c, i);
    place.write(Op::template run<T>(c, place.value));
}

template <class Op>
Handler unary(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        if (isLocked(s)) return straight<lockedUnary<Op, T>>;
        return s.isMem(0) ? straight<unaryBody<Op, T, Mem>> : straight<unaryBody<Op, T, RegA>>;
    });
}

// -- multiplication and division. Twice<T> holds a product of two T.
template <class T>
struct TwiceOf;
template <>
struct TwiceOf<uint8_t> {
    using U = uint16_t;
    using S = int16_t;
};
template <>
struct TwiceOf<uint16_t> {
    using U = uint32_t;
    using S = int32_t;
};
template <>
struct TwiceOf<uint32_t> {
    using U = uint64_t;
    using S = int64_t;
};
template <>
struct TwiceOf<uint64_t> {
    using U = unsigned __int128;
    using S = __int128;
};

constexpr uint8_t kAx = 0, kAh = 1, kDx = Rdx * 8;

// The upper half goes to AH for bytes and to (R/E)DX for the rest.
template <class T>
void setWideResult(Cpu& c, T low, T high) {
    c.gpr.set<T>(kAx, low);
    c.gpr.set<T>(sizeof(T) == 1 ? kAh : kDx, high);
}

template <class T, class Src>
void mulBody(Cpu& c, const Insn& i) {
    using U = typename TwiceOf<T>::U;
    U r = U(c.gpr.get<T>(kAx)) * Src::template load<T>(c, i);
    T high = T(r >> (sizeof(T) * 8));
    setWideResult<T>(c, T(r), high);
    c.flags.set<T>(T(r), high != 0, high != 0, false);
    c.flags.clearZf();  // undefined: as Intel's processors do, SF, AF and PF as well
}

template <class T>
T signedMultiply(Cpu& c, T a, T b, T& high) {
    using S = typename TwiceOf<T>::S;
    using Signed = std::make_signed_t<T>;
    S r = S(Signed(a)) * S(Signed(b));
    high = T(r >> (sizeof(T) * 8));
    bool overflow = r != S(Signed(T(r)));
    c.flags.set<T>(T(r), overflow, overflow, false);
    c.flags.clearZf();  // undefined, as above
    return T(r);
}

template <class T, class Src>
void imul1Body(Cpu& c, const Insn& i) {
    T high, low = signedMultiply<T>(c, c.gpr.get<T>(kAx), Src::template load<T>(c, i), high);
    setWideResult<T>(c, low, high);
}

template <class T, class Src>
void imul2Body(Cpu& c, const Insn& i) {
    T high, low = signedMultiply<T>(c, RegA::load<T>(c, i), Src::template load<T>(c, i), high);
    RegA::store<T>(c, i, low);
}

template <class T, class Src>
void imul3Body(Cpu& c, const Insn& i) {
    T high, low = signedMultiply<T>(c, Src::template load<T>(c, i), T(i.imm), high);
    RegA::store<T>(c, i, low);
}

template <class T>
typename TwiceOf<T>::U dividend(Cpu& c) {
    using U = typename TwiceOf<T>::U;
    return U(c.gpr.get<T>(sizeof(T) == 1 ? kAh : kDx)) << (sizeof(T) * 8) | c.gpr.get<T>(kAx);
}

template <class T, class Src>
bool divBody(Cpu& c, const Insn& i) {
    using U = typename TwiceOf<T>::U;
    T by = Src::template load<T>(c, i);
    U n = dividend<T>(c);
    if (by == 0 || T(n >> (sizeof(T) * 8)) >= by) return c.fails({kDE});
    setWideResult<T>(c, T(n / by), T(n % by));  // all flags undefined
    return true;
}

template <class T, class Src>
bool idivBody(Cpu& c, const Insn& i) {
    using U = typename TwiceOf<T>::U;
    using S = typename TwiceOf<T>::S;
    using Signed = std::make_signed_t<T>;
    auto by = S(Signed(Src::template load<T>(c, i)));
    auto n = S(dividend<T>(c));
    if (by == 0 || (by == -1 && U(n) == U(1) << (sizeof(U) * 8 - 1))) return c.fails({kDE});
    S q = S(n / by);
    if (q != S(Signed(T(q)))) return c.fails({kDE});
    setWideResult<T>(c, T(q), T(n % by));  // all flags undefined
    return true;
}

#define KILN_MULDIV(NAME, BODY)                                                   \
    Handler NAME(const Shape& s) {                                                \
        return byWidth(s.bits(0), [&]<class T>() -> Handler {                     \
            return s.isMem(0) ? straight<BODY<T, Mem>> : straight<BODY<T, RegA>>; \
        });                                                                       \
    }
KILN_MULDIV(mul, mulBody)
KILN_MULDIV(div, divBody)
KILN_MULDIV(idiv, idivBody)
#undef KILN_MULDIV

Handler imul(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        switch (s.z.operand_count_visible) {
            case 1: return s.isMem(0) ? straight<imul1Body<T, Mem>> : straight<imul1Body<T, RegA>>;
            case 2: return s.isMem(1) ? straight<imul2Body<T, Mem>> : straight<imul2Body<T, RegB>>;
            default: return s.isMem(1) ? straight<imul3Body<T, Mem>> : straight<imul3Body<T, RegB>>;
        }
    });
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_ADD, binary<Add>}, {ZYDIS_MNEMONIC_ADC, binary<Adc>}, {ZYDIS_MNEMONIC_SUB, binary<Sub>},
    {ZYDIS_MNEMONIC_SBB, binary<Sbb>}, {ZYDIS_MNEMONIC_CMP, binary<Cmp>}, {ZYDIS_MNEMONIC_AND, binary<And>},
    {ZYDIS_MNEMONIC_OR, binary<Or>},   {ZYDIS_MNEMONIC_XOR, binary<Xor>}, {ZYDIS_MNEMONIC_TEST, binary<Test>},
    {ZYDIS_MNEMONIC_INC, unary<Inc>},  {ZYDIS_MNEMONIC_DEC, unary<Dec>},  {ZYDIS_MNEMONIC_NOT, unary<Not>},
    {ZYDIS_MNEMONIC_NEG, unary<Neg>},  {ZYDIS_MNEMONIC_MUL, mul},         {ZYDIS_MNEMONIC_IMUL, imul},
    {ZYDIS_MNEMONIC_DIV, div},         {ZYDIS_MNEMONIC_IDIV, idiv},
};

}  // namespace

std::span<const Row> arithmeticRows() { return kRows; }

}  // namespace kiln
