// Opmask registers: moves, logic, tests and shifts of k0 to k7, which VEX encodes, and the ways between them
// and vectors (SDM vol. 1, 15.6; vol. 2, KADDW and relatives, VPMOVM2B, VPMOVB2M, VPBROADCASTM). Results
// narrower than 64 bits clear what is above.
#include "cpu/simd.hpp"

namespace kiln {
namespace {

// -- moves
template <class T>
void maskToMask(Cpu& c, const Insn& i) {
    c.checkAvx512();
    c.opmask[i.a] = T(c.opmask[i.b]);
}
template <class T>
void memoryToMask(Cpu& c, const Insn& i) {
    c.checkAvx512();
    c.opmask[i.a] = c.loadOperand<T>(i);
}
template <class T>
void maskToMemory(Cpu& c, const Insn& i) {
    c.checkAvx512();
    c.storeOperand<T>(i, T(c.opmask[i.b]));
}
template <class T>
void generalToMask(Cpu& c, const Insn& i) {
    c.checkAvx512();
    c.opmask[i.a] = T(c.gpr.get<uint64_t>(i.b));
}
template <class T>
void maskToGeneral(Cpu& c, const Insn& i) {  // a write of 32 bits clears the upper half
    c.checkAvx512();
    c.gpr.set<uint64_t>(i.a, T(c.opmask[i.b]));
}
bool isMask(const Shape& s, unsigned n) {
    return s.isReg(n) && ZydisRegisterGetClass(s.operands[n].reg.value) == ZYDIS_REGCLASS_MASK;
}
template <class T>
Handler moveForm(const Shape& s) {
    if (s.isMem(0)) return straight<maskToMemory<T>>;
    if (s.isMem(1)) return straight<memoryToMask<T>>;
    if (!isMask(s, 0)) return straight<maskToGeneral<T>>;
    return isMask(s, 1) ? straight<maskToMask<T>> : straight<generalToMask<T>>;
}

// -- logic and arithmetic
struct And {
    static uint64_t of(uint64_t a, uint64_t b) { return a & b; }
};
struct AndNot {
    static uint64_t of(uint64_t a, uint64_t b) { return ~a & b; }
};
struct Or {
    static uint64_t of(uint64_t a, uint64_t b) { return a | b; }
};
struct Xor {
    static uint64_t of(uint64_t a, uint64_t b) { return a ^ b; }
};
struct Xnor {
    static uint64_t of(uint64_t a, uint64_t b) { return ~(a ^ b); }
};
struct Add {
    static uint64_t of(uint64_t a, uint64_t b) { return a + b; }
};
struct Not {
    static uint64_t of(uint64_t, uint64_t b) { return ~b; }
};
template <class T, class F>
void combine(Cpu& c, const Insn& i) {
    c.checkAvx512();
    c.opmask[i.a] = T(F::of(c.opmask[i.b], c.opmask[i.c]));
}
template <class T>
void unpack(Cpu& c, const Insn& i) {  // the low halves: first source above last source
    c.checkAvx512();
    constexpr unsigned half = 4 * sizeof(T);
    constexpr uint64_t low = (1ull << half) - 1;
    c.opmask[i.a] = (c.opmask[i.b] & low) << half | (c.opmask[i.c] & low);
}
template <class T>
void shiftLeft(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const auto count = uint8_t(i.imm);
    c.opmask[i.a] = count < 8 * sizeof(T) ? T(c.opmask[i.b] << count) : 0;
}
template <class T>
void shiftRight(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const auto count = uint8_t(i.imm);
    c.opmask[i.a] = count < 8 * sizeof(T) ? T(c.opmask[i.b]) >> count : 0;
}

// -- tests: ZF and CF, the other flags are cleared
template <class T>
void orTest(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const auto both = T(c.opmask[i.a] | c.opmask[i.b]);
    c.flags.setArithmetic((both == 0 ? flag::ZF : 0) | (both == T(~0ull) ? flag::CF : 0));
}
template <class T>
void test(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const uint64_t a = c.opmask[i.a], b = c.opmask[i.b];
    c.flags.setArithmetic((T(a & b) ? 0 : flag::ZF) | (T(~a & b) ? 0 : flag::CF));
}

// -- between masks and vectors
template <class T>
void maskToVector(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    Vector r;
    for (unsigned n = 0; n < x.count<T>(); n++) r.set<T>(n, c.opmask[i.b] >> n & 1 ? T(~0ull) : T(0));
    c.vec[i.a] = r;
}
template <class T>
void vectorToMask(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    uint64_t r = 0;
    for (unsigned n = 0; n < x.count<T>(); n++) r |= uint64_t(chosen(c.vec[i.b].get<T>(n))) << n;
    c.opmask[i.a] = r;
}
template <class From, class To>
void broadcastMask(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    Vector r;
    for (unsigned n = 0; n < x.count<To>(); n++) r.set<To>(n, From(c.opmask[i.b]));
    c.vec[i.a] = r;
}

using B = uint8_t;
using W = uint16_t;
using D = uint32_t;
using Q = uint64_t;

#define KILN_ALL_SIZES(name, select)                                              \
    {ZYDIS_MNEMONIC_##name##B, select(B)}, {ZYDIS_MNEMONIC_##name##W, select(W)}, \
        {ZYDIS_MNEMONIC_##name##D, select(D)}, {                                  \
        ZYDIS_MNEMONIC_##name##Q, select(Q)                                       \
    }
#define KILN_MOVE(T) moveForm<T>
#define KILN_AND(T) only<combine<T, And>>
#define KILN_ANDN(T) only<combine<T, AndNot>>
#define KILN_OR(T) only<combine<T, Or>>
#define KILN_XOR(T) only<combine<T, Xor>>
#define KILN_XNOR(T) only<combine<T, Xnor>>
#define KILN_ADD(T) only<combine<T, Add>>
#define KILN_NOT(T) only<combine<T, Not>>
#define KILN_ORTEST(T) only<orTest<T>>
#define KILN_TEST(T) only<test<T>>
#define KILN_LEFT(T) only<shiftLeft<T>>
#define KILN_RIGHT(T) only<shiftRight<T>>

constexpr Row kRows[] = {
    KILN_ALL_SIZES(KMOV, KILN_MOVE),
    KILN_ALL_SIZES(KAND, KILN_AND),
    KILN_ALL_SIZES(KANDN, KILN_ANDN),
    KILN_ALL_SIZES(KOR, KILN_OR),
    KILN_ALL_SIZES(KXOR, KILN_XOR),
    KILN_ALL_SIZES(KXNOR, KILN_XNOR),
    KILN_ALL_SIZES(KADD, KILN_ADD),
    KILN_ALL_SIZES(KNOT, KILN_NOT),
    KILN_ALL_SIZES(KORTEST, KILN_ORTEST),
    KILN_ALL_SIZES(KTEST, KILN_TEST),
    KILN_ALL_SIZES(KSHIFTL, KILN_LEFT),
    KILN_ALL_SIZES(KSHIFTR, KILN_RIGHT),
    {ZYDIS_MNEMONIC_KUNPCKBW, only<unpack<W>>},
    {ZYDIS_MNEMONIC_KUNPCKWD, only<unpack<D>>},
    {ZYDIS_MNEMONIC_KUNPCKDQ, only<unpack<Q>>},

    {ZYDIS_MNEMONIC_VPMOVM2B, only<maskToVector<B>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMOVM2W, only<maskToVector<W>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMOVM2D, only<maskToVector<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMOVM2Q, only<maskToVector<Q>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMOVB2M, only<vectorToMask<B>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMOVW2M, only<vectorToMask<W>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMOVD2M, only<vectorToMask<D>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPMOVQ2M, only<vectorToMask<Q>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPBROADCASTMB2Q, only<broadcastMask<B, Q>>, kOnlyEvex},
    {ZYDIS_MNEMONIC_VPBROADCASTMW2D, only<broadcastMask<W, D>>, kOnlyEvex},
};

}  // namespace

std::span<const Row> opmaskRows() { return kRows; }

}  // namespace kiln
