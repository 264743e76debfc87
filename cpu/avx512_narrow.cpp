// VPMOVDB and relatives: elements made narrower, by cutting or by saturation, into a register or memory (SDM
// vol. 2; exception class E6 without fault suppression for what is stored).
#include <limits>

#include "cpu/simd.hpp"

namespace kiln {
namespace {

struct Cut {
    template <class To, class From>
    static To of(From v) {
        return To(v);
    }
};
struct Saturate {
    template <class To, class From>
    static To of(From v) {
        constexpr From low = std::numeric_limits<To>::min(), high = std::numeric_limits<To>::max();
        return To(v < low ? low : v > high ? high : v);
    }
};

template <class From, class To, class F>
Vector narrowed(Cpu& c, const Insn& i, unsigned count) {
    Vector r;
    for (unsigned n = 0; n < count; n++) r.set<To>(n, F::template of<To>(c.vec[i.b].get<From>(n)));
    return r;
}
template <class From, class To, class F>
void narrow(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<From>();
    evexWrite(c, i.a, x, x.mask(c, count), narrowed<From, To, F>(c, i, count), count, kLog2<To>);
}
template <class From, class To, class F>
void narrowToMemory(Cpu& c, const Insn& i) {
    c.checkAvx512();
    const Evex x(i);
    const unsigned count = x.count<From>();
    evexStore(c, i, x, x.mask(c, count), narrowed<From, To, F>(c, i, count), count, kLog2<To>);
}
template <class From, class To, class F>
Handler form(const Shape& s) {
    return s.isMem(0) ? straight<narrowToMemory<From, To, F>> : straight<narrow<From, To, F>>;
}

// VPMOVxy, VPMOVSxy, VPMOVUSxy
#define KILN_NARROW(letters, From, To)                                             \
    {ZYDIS_MNEMONIC_VPMOV##letters, form<u##From, u##To, Cut>, kOnlyEvex},         \
        {ZYDIS_MNEMONIC_VPMOVS##letters, form<From, To, Saturate>, kOnlyEvex}, {   \
        ZYDIS_MNEMONIC_VPMOVUS##letters, form<u##From, u##To, Saturate>, kOnlyEvex \
    }

constexpr Row kRows[] = {
    KILN_NARROW(WB, int16_t, int8_t), KILN_NARROW(DB, int32_t, int8_t),  KILN_NARROW(DW, int32_t, int16_t),
    KILN_NARROW(QB, int64_t, int8_t), KILN_NARROW(QW, int64_t, int16_t), KILN_NARROW(QD, int64_t, int32_t),
};

}  // namespace

std::span<const Row> avx512NarrowRows() { return kRows; }

}  // namespace kiln
