// Bit and byte instructions: BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT, BSWAP, CMPXCHG and its wide forms,
// XADD, CRC32 (SDM vol. 1, 7.3.1 and 7.3.7; vol. 2).
#include <array>

#include "cpu/body.hpp"

namespace kiln {
namespace {

template <class T>
constexpr unsigned kBits = 8 * sizeof(T);

// -- bit tests. OF, SF, AF and PF are undefined and left alone, ZF is unaffected.

struct Bt {
    static constexpr bool writes = false;
    template <class T>
    static T apply(T v, T) {
        return v;
    }
};
struct Bts {
    static constexpr bool writes = true;
    template <class T>
    static T apply(T v, T mask) {
        return v | mask;
    }
};
struct Btr {
    static constexpr bool writes = true;
    template <class T>
    static T apply(T v, T mask) {
        return v & T(~mask);
    }
};
struct Btc {
    static constexpr bool writes = true;
    template <class T>
    static T apply(T v, T mask) {
        return v ^ mask;
    }
};

template <class Op, class T, class P>
void testPlace(Cpu& c, P&& place, unsigned n) {
    bool was = place.value >> n & 1;
    place.write(Op::template apply<T>(place.value, T(T(1) << n)));
    c.flags.setCf(was);
}

template <class Op, class T, class Count>
void bitInRegister(Cpu& c, const Insn& i) {
    unsigned n = unsigned(Count::template load<T>(c, i)) % kBits<T>;
    if constexpr (Op::writes)
        testPlace<Op, T>(c, RegA::modify<T>(c, i), n);
    else
        c.flags.setCf(RegA::load<T>(c, i) >> n & 1);
}

// A bit of the word at `offset`.
template <class Op, class T, bool Locked>
void changeBit(Cpu& c, const Insn& i, uint64_t offset, unsigned n) {
    if constexpr (Locked) {
        T was = c.atomically<T>(i.seg, offset, [n](T v) { return Op::template apply<T>(v, T(T(1) << n)); });
        c.flags.setCf(was >> n & 1);
    } else {
        testPlace<Op, T>(c, c.modify<T>(i.seg, offset), n);
    }
}

template <class Op, class T, bool Locked>
void bitInMemoryByImm(Cpu& c, const Insn& i) {
    unsigned n = unsigned(i.imm) % kBits<T>;
    if constexpr (Op::writes)
        changeBit<Op, T, Locked>(c, i, c.effectiveAddress(i), n);
    else
        c.flags.setCf(c.loadOperand<T>(i) >> n & 1);
}

// A register's bit offset is signed and reaches beyond the operand.
template <class Op, class T, bool Locked>
void bitInMemoryByReg(Cpu& c, const Insn& i) {
    int64_t bitOffset = std::make_signed_t<T>(RegB::load<T>(c, i));
    unsigned n = unsigned(bitOffset & (kBits<T> - 1));
    constexpr int64_t operandBits = kBits<T>;
    uint64_t distance = uint64_t((bitOffset - n) / operandBits * int64_t(sizeof(T)));
    uint64_t addressMask = i.addressSize == 2 ? ~0ull : i.addressSize == 1 ? 0xffffffff : 0xffff;
    uint64_t offset = (c.effectiveAddress(i) + distance) & addressMask;
    if constexpr (Op::writes)
        changeBit<Op, T, Locked>(c, i, offset, n);
    else
        c.flags.setCf(c.load<T>(i.seg, offset) >> n & 1);
}

template <class Op>
Handler bitTests(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() -> Handler {
        if constexpr (sizeof(T) == 1)
            return nullptr;
        else if (isLocked(s))
            return s.isImm(1) ? straight<bitInMemoryByImm<Op, T, true>>
                              : straight<bitInMemoryByReg<Op, T, true>>;
        else if (s.isMem(0))
            return s.isImm(1) ? straight<bitInMemoryByImm<Op, T, false>>
                              : straight<bitInMemoryByReg<Op, T, false>>;
        else
            return s.isImm(1) ? straight<bitInRegister<Op, T, Imm>> : straight<bitInRegister<Op, T, RegB>>;
    });
}

// -- scans and counts; the destination is a register

// A source of 0 leaves the destination alone, as AMD documents and Intel's processors do. The other flags are
// undefined: PF is the result's, which is put below a bit that keeps ZF clear.
template <class T, class Src, bool Reverse>
void scan(Cpu& c, const Insn& i) {
    T v = Src::template load<T>(c, i);
    if (v == 0) return c.flags.logic<T>(0);
    unsigned r = Reverse ? kBits<T> - 1 - unsigned(std::countl_zero(v)) : unsigned(std::countr_zero(v));
    RegA::store<T>(c, i, T(r));
    c.flags.logic<uint32_t>(r | 0x100);
}

template <class T, class Src, bool Leading>
void countZeros(Cpu& c, const Insn& i) {
    T v = Src::template load<T>(c, i);
    T r = T(Leading ? std::countl_zero(v) : std::countr_zero(v));
    RegA::store<T>(c, i, r);
    c.flags.set<T>(r, v == 0, false, false);
    c.flags.clearPf();  // undefined: as Intel's processors do, OF, SF and AF as well
}

template <class T, class Src>
void popcnt(Cpu& c, const Insn& i) {
    T v = Src::template load<T>(c, i);
    RegA::store<T>(c, i, T(std::popcount(v)));
    c.flags.setArithmetic(v == 0 ? flag::ZF : 0);
}

// Chooses among the two source kinds of a register <- register or memory instruction of 16, 32 or 64 bits.
#define KILN_FROM_REG_OR_MEM(body_mem, body_reg)                         \
    byWidth(s.bits(0), [&]<class T>() -> Handler {                       \
        if constexpr (sizeof(T) == 1)                                    \
            return nullptr;                                              \
        else                                                             \
            return s.isMem(1) ? straight<body_mem> : straight<body_reg>; \
    })

Handler bsf(const Shape& s) { return KILN_FROM_REG_OR_MEM((scan<T, Mem, false>), (scan<T, RegB, false>)); }
Handler bsr(const Shape& s) { return KILN_FROM_REG_OR_MEM((scan<T, Mem, true>), (scan<T, RegB, true>)); }
Handler tzcnt(const Shape& s) {
    return KILN_FROM_REG_OR_MEM((countZeros<T, Mem, false>), (countZeros<T, RegB, false>));
}
Handler lzcnt(const Shape& s) {
    return KILN_FROM_REG_OR_MEM((countZeros<T, Mem, true>), (countZeros<T, RegB, true>));
}
Handler popcnts(const Shape& s) { return KILN_FROM_REG_OR_MEM((popcnt<T, Mem>), (popcnt<T, RegB>)); }
#undef KILN_FROM_REG_OR_MEM

// -- BSWAP
template <class T>
void bswap(Cpu& c, const Insn& i) {
    if constexpr (sizeof(T) == 8)
        RegA::store<T>(c, i, __builtin_bswap64(RegA::load<T>(c, i)));
    else if constexpr (sizeof(T) == 4)
        RegA::store<T>(c, i, __builtin_bswap32(RegA::load<T>(c, i)));
    else
        RegA::store<T>(c, i, 0);  // undefined
}
Handler bswaps(const Shape& s) {
    return s.bits(0) == 64   ? straight<bswap<uint64_t>>
           : s.bits(0) == 32 ? straight<bswap<uint32_t>>
                             : straight<bswap<uint16_t>>;
}

// -- compare and exchange

// Memory is written either way: with the source, or with what it held.
template <class T, class Dst>
void cmpxchg(Cpu& c, const Insn& i) {
    auto place = Dst::template modify<T>(c, i);
    T acc = c.gpr.get<T>(0), old = place.value;
    if (acc == old) {
        place.write(RegB::load<T>(c, i));
    } else {
        if constexpr (std::is_same_v<Dst, Mem>) place.write(old);
        c.gpr.set<T>(0, old);
    }
    c.flags.sub<T>(acc, old, T(acc - old));
}
template <class T>
void lockedCmpxchg(Cpu& c, const Insn& i) {
    const T acc = c.gpr.get<T>(0), fresh = RegB::load<T>(c, i);
    T old = c.atomically<T>(i.seg, c.effectiveAddress(i), [=](T v) { return v == acc ? fresh : v; });
    if (acc != old) c.gpr.set<T>(0, old);
    c.flags.sub<T>(acc, old, T(acc - old));
}
Handler cmpxchgs(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() {
        if (isLocked(s)) return straight<lockedCmpxchg<T>>;
        return s.isMem(0) ? straight<cmpxchg<T, Mem>> : straight<cmpxchg<T, RegA>>;
    });
}

// CMPXCHG8B and 16B. Without LOCK other processors may come between the halves; here they don't either.
void cmpxchg8b(Cpu& c, const Insn& i) {
    const uint64_t expected = c.gpr[Rdx] << 32 | uint32_t(c.gpr[Rax]),
                   fresh = c.gpr[Rcx] << 32 | uint32_t(c.gpr[Rbx]);
    uint64_t old = c.atomically<uint64_t>(i.seg, c.effectiveAddress(i),
                                          [=](uint64_t v) { return v == expected ? fresh : v; });
    if (old != expected) {
        c.gpr[Rax] = uint32_t(old);
        c.gpr[Rdx] = old >> 32;
    }
    c.flags.setZf(old == expected);
}

void cmpxchg16b(Cpu& c, const Insn& i) {
    using Wide = unsigned __int128;
    uint64_t offset = c.effectiveAddress(i);
    if (c.linearOf(i.seg, offset, 16, Access::Write) & 15) raise(kGP, 0);
    const Wide expected = Wide(c.gpr[Rdx]) << 64 | c.gpr[Rax], fresh = Wide(c.gpr[Rcx]) << 64 | c.gpr[Rbx];
    Wide old = c.atomically<Wide>(i.seg, offset, [=](Wide v) { return v == expected ? fresh : v; });
    if (old != expected) {
        c.gpr[Rax] = uint64_t(old);
        c.gpr[Rdx] = uint64_t(old >> 64);
    }
    c.flags.setZf(old == expected);
}

template <class T, class Dst>
void xadd(Cpu& c, const Insn& i) {
    auto place = Dst::template modify<T>(c, i);
    T old = place.value, add = RegB::load<T>(c, i), sum = T(old + add);
    if constexpr (std::is_same_v<Dst, Mem>) {
        place.write(sum);
        RegB::store<T>(c, i, old);
    } else {
        RegB::store<T>(c, i, old);
        place.write(sum);  // last: XADD of a register with itself keeps the sum
    }
    c.flags.add<T>(old, add, sum);
}
template <class T>
void lockedXadd(Cpu& c, const Insn& i) {
    const T add = RegB::load<T>(c, i);
    T old = c.atomically<T>(i.seg, c.effectiveAddress(i), [add](T v) { return T(v + add); });
    RegB::store<T>(c, i, old);
    c.flags.add<T>(old, add, T(old + add));
}
Handler xadds(const Shape& s) {
    return byWidth(s.bits(0), [&]<class T>() {
        if (isLocked(s)) return straight<lockedXadd<T>>;
        return s.isMem(0) ? straight<xadd<T, Mem>> : straight<xadd<T, RegA>>;
    });
}

// -- CRC32: the Castagnoli polynomial 11EDC6F41h, bit-reflected. Flags unaffected.
constexpr std::array<uint32_t, 256> kCrcTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t v = n;
        for (int k = 0; k < 8; k++) v = v >> 1 ^ (v & 1 ? 0x82f63b78 : 0);
        table[n] = v;
    }
    return table;
}();

template <class T, class Src>
void crc32(Cpu& c, const Insn& i) {
    T v = Src::template load<T>(c, i);
    uint32_t crc = RegA::load<uint32_t>(c, i);
    for (unsigned n = 0; n < sizeof(T); n++) crc = crc >> 8 ^ kCrcTable[uint8_t(crc ^ v >> 8 * n)];
    RegA::store<uint32_t>(c, i, crc);
}
Handler crc32s(const Shape& s) {
    return byWidth(s.bits(1), [&]<class T>() {
        return s.isMem(1) ? straight<crc32<T, Mem>> : straight<crc32<T, RegB>>;
    });
}

}  // namespace

std::span<const Row> bitRows() {
    static const Row rows[] = {
        {ZYDIS_MNEMONIC_BT, bitTests<Bt>},
        {ZYDIS_MNEMONIC_BTS, bitTests<Bts>},
        {ZYDIS_MNEMONIC_BTR, bitTests<Btr>},
        {ZYDIS_MNEMONIC_BTC, bitTests<Btc>},
        {ZYDIS_MNEMONIC_BSF, bsf},
        {ZYDIS_MNEMONIC_BSR, bsr},
        {ZYDIS_MNEMONIC_TZCNT, tzcnt},
        {ZYDIS_MNEMONIC_LZCNT, lzcnt},
        {ZYDIS_MNEMONIC_POPCNT, popcnts},
        {ZYDIS_MNEMONIC_BSWAP, bswaps},
        {ZYDIS_MNEMONIC_CMPXCHG, cmpxchgs},
        {ZYDIS_MNEMONIC_CMPXCHG8B, only<cmpxchg8b>},
        {ZYDIS_MNEMONIC_CMPXCHG16B, only<cmpxchg16b>, kNoLegacy},
        {ZYDIS_MNEMONIC_XADD, xadds},
        {ZYDIS_MNEMONIC_CRC32, crc32s},
    };
    return rows;
}

}  // namespace kiln
