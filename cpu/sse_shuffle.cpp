// Instructions that move lanes about in XMM registers, blend them, or insert and extract one (SDM vol. 2;
// vol. 1, 10.4.4, 11.4.1.4, 12.10). PSHUFB, PALIGNR and the narrow PUNPCKs are in mmx.cpp.
#include "cpu/simd.hpp"

namespace kiln {
namespace {

template <bool high>
struct InterleaveQuads {
    static Xmm run(const Xmm& a, const Xmm& b) { return {{a.q[high], b.q[high]}}; }
};
template <unsigned first>
struct InterleaveFloats {  // UNPCKLPS, UNPCKHPS
    static Xmm run(const Xmm& a, const Xmm& b) {
        auto x = split<uint32_t>(a), y = split<uint32_t>(b);
        return join<Xmm>(std::array<uint32_t, 4>{x[first], y[first], x[first + 1], y[first + 1]});
    }
};

// -- shuffles by an immediate's 2-bit fields
struct ShuffleDwords {  // PSHUFD
    static Xmm run(const Xmm&, const Xmm& b, uint8_t imm) {
        auto x = split<uint32_t>(b);
        return join<Xmm>(std::array<uint32_t, 4>{x[imm & 3], x[imm >> 2 & 3], x[imm >> 4 & 3], x[imm >> 6]});
    }
};
template <unsigned half>
struct ShuffleWords {  // PSHUFLW, PSHUFHW
    static Xmm run(const Xmm&, const Xmm& b, uint8_t imm) {
        auto x = split<uint16_t>(b);
        auto r = x;
        for (unsigned n = 0; n < 4; n++) r[4 * half + n] = x[4 * half + (imm >> 2 * n & 3)];
        return join<Xmm>(r);
    }
};
struct ShuffleFloats {  // SHUFPS: two from the destination, two from the source
    static Xmm run(const Xmm& a, const Xmm& b, uint8_t imm) {
        auto x = split<uint32_t>(a), y = split<uint32_t>(b);
        return join<Xmm>(std::array<uint32_t, 4>{x[imm & 3], x[imm >> 2 & 3], y[imm >> 4 & 3], y[imm >> 6]});
    }
};
struct ShuffleDoubles {  // SHUFPD
    static constexpr unsigned kImmediateBits = 2;
    static Xmm run(const Xmm& a, const Xmm& b, uint8_t imm) { return {{a.q[imm & 1], b.q[imm >> 1 & 1]}}; }
};

// -- blends
template <class T>
struct BlendByImmediate {
    static constexpr unsigned kImmediateBits = sizeof(T) == 2 ? 0 : kLanes<T, Xmm>;  // PBLENDW's serve both
    static Xmm run(const Xmm& a, const Xmm& b, uint8_t imm) {
        auto x = split<T>(a), y = split<T>(b);
        for (unsigned n = 0; n < x.size(); n++)
            if (imm >> n & 1) x[n] = y[n];
        return join<Xmm>(x);
    }
};
template <class E, class T, class Source>
void blendByMask(Cpu& c, const Insn& i) {  // by the top bit of each lane of the mask
    E::check(c);
    auto y = split<T>(Source::template load<E>(c, i));
    auto x = split<T>(E::get(c, E::first(i))), mask = split<T>(E::get(c, E::mask(i)));
    for (unsigned n = 0; n < x.size(); n++) x[n] = chosen(mask[n]) ? y[n] : x[n];
    E::set(c, i.a, join<typename E::V>(x));
}
template <class T>
Handler blendVariable(const Shape& s) {
    return byEncoding(s, [&]<class E>() {
        return hasMemory(s) ? straight<blendByMask<E, T, FromMem>> : straight<blendByMask<E, T, FromReg>>;
    });
}

// -- one lane. Register sources and destinations are 32 bits wide however narrow the lane is.
template <class E, class T, class Source>
void insert(Cpu& c, const Insn& i) {
    E::check(c);
    T v = Source::template load<T>(c, i);
    E::settle(c);
    auto a = E::get(c, E::first(i));
    a.template set<T>(i.imm & (kLanes<T, typename E::V> - 1), v);
    E::set(c, i.a, a);
}
template <class E, class T>
Handler insertForm(const Shape& s) {
    return hasMemory(s) ? straight<insert<E, T, Mem>> : straight<insert<E, T, GeneralReg<E>>>;
}
template <class T>
Handler insertXmm(const Shape& s) {
    return byAnyEncoding128(s, [&]<class E>() { return insertForm<E, T>(s); });
}
Handler insertWord(const Shape& s) {
    return isMm(s, 0) ? insertForm<Mmx, uint16_t>(s) : insertXmm<uint16_t>(s);
}

template <class E, class T>
T lane(Cpu& c, const Insn& i) {
    return E::get(c, i.b).template get<T>(i.imm & (kLanes<T, typename E::V> - 1));
}
template <class E, class T>
void extractToMemory(Cpu& c, const Insn& i) {
    E::check(c);
    c.storeOperand<T>(i, lane<E, T>(c, i));
}
template <class E, class T>
void extractToRegister(Cpu& c, const Insn& i) {
    E::check(c);
    E::settle(c);
    if constexpr (sizeof(T) == 8)
        c.gpr.set<uint64_t>(i.a, lane<E, T>(c, i));
    else
        c.gpr.set<uint32_t>(i.a, lane<E, T>(c, i));  // clears the upper half: serves r64 too
}
template <class T>
Handler extract(const Shape& s) {
    return byAnyEncoding128(s, [&]<class E>() {
        return s.isMem(0) ? straight<extractToMemory<E, T>> : straight<extractToRegister<E, T>>;
    });
}
Handler extractWord(const Shape& s) {
    return isMm(s, 1) ? straight<extractToRegister<Mmx, uint16_t>> : extract<uint16_t>(s);
}

// INSERTPS: imm 7..6 source lane (registers only), 5..4 destination lane, 3..0 lanes to clear.
Xmm insertFloat(Xmm a, uint32_t v, uint8_t imm) {
    a.set<uint32_t>(imm >> 4 & 3, v);
    for (unsigned n = 0; n < 4; n++)
        if (imm >> n & 1) a.set<uint32_t>(n, 0);
    return a;
}
template <class E, bool memory>
void insertps(Cpu& c, const Insn& i) {
    E::check(c);
    auto imm = uint8_t(i.imm);
    uint32_t v = memory ? c.loadOperand<uint32_t>(i) : c.vec[E::last(i)].template get<uint32_t>(imm >> 6);
    E::set(c, i.a, insertFloat(E::get(c, E::first(i)), v, imm));
}

}  // namespace

std::span<const Row> sseShuffleRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_PUNPCKLQDQ, xmm<InterleaveQuads<false>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PUNPCKHQDQ, xmm<InterleaveQuads<true>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_UNPCKLPD, xmm<InterleaveQuads<false>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_UNPCKHPD, xmm<InterleaveQuads<true>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_UNPCKLPS, xmm<InterleaveFloats<0>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_UNPCKHPS, xmm<InterleaveFloats<2>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSHUFD, xmm<ShuffleDwords>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSHUFLW, xmm<ShuffleWords<0>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PSHUFHW, xmm<ShuffleWords<1>>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SHUFPS, xmm<ShuffleFloats>, kVex | kEvex},
        {ZYDIS_MNEMONIC_SHUFPD, xmm<ShuffleDoubles>, kVex | kEvex},

        {ZYDIS_MNEMONIC_PBLENDW, xmm<BlendByImmediate<uint16_t>>, kVex},
        {ZYDIS_MNEMONIC_BLENDPS, xmm<BlendByImmediate<uint32_t>>, kVex},
        {ZYDIS_MNEMONIC_BLENDPD, xmm<BlendByImmediate<uint64_t>>, kVex},
        {ZYDIS_MNEMONIC_VPBLENDD, xmm<BlendByImmediate<uint32_t>>},
        {ZYDIS_MNEMONIC_PBLENDVB, blendVariable<uint8_t>, kVex},
        {ZYDIS_MNEMONIC_BLENDVPS, blendVariable<uint32_t>, kVex},
        {ZYDIS_MNEMONIC_BLENDVPD, blendVariable<uint64_t>, kVex},

        {ZYDIS_MNEMONIC_PINSRB, insertXmm<uint8_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PINSRW, insertWord, kVex | kEvex},
        {ZYDIS_MNEMONIC_PINSRD, insertXmm<uint32_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PINSRQ, insertXmm<uint64_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PEXTRB, extract<uint8_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PEXTRW, extractWord, kVex | kEvex},
        {ZYDIS_MNEMONIC_PEXTRD, extract<uint32_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_PEXTRQ, extract<uint64_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_EXTRACTPS, extract<uint32_t>, kVex | kEvex},
        {ZYDIS_MNEMONIC_INSERTPS,
         [](const Shape& s) {
             return byAnyEncoding128(s, [&]<class E>() {
                 return hasMemory(s) ? straight<insertps<E, true>> : straight<insertps<E, false>>;
             });
         },
         kVex | kEvex},
    };
    return rows;
}

}  // namespace kiln
