// AVX-512 gathers and scatters: elements at addresses of their own (SDM vol. 2, VGATHERDPS, VSCATTERDPS and
// relatives; exception class E12).
//
// Elements are moved from the lowest up, each clearing its bit of the mask, so that a fault leaves what was
// done done, and the instruction goes on behind it when it is executed again. They never raise #AC.
#include "cpu/simd.hpp"

namespace kiln {
namespace {

template <class T, class Index>
struct Elements {
    Cpu& c;
    const Insn& i;
    const Evex x{i};
    const unsigned count = x.bytes() / (sizeof(T) > sizeof(Index) ? sizeof(T) : sizeof(Index));
    uint64_t& mask = c.opmask[x.maskRegister()];
    const uint64_t base = c.gpr.get<uint64_t>(i.base) + uint64_t(int64_t(i.disp));

    // Moves what the mask chooses.
    template <class Move>
    void each(Move move) {
        Cpu::AnyAlignment any(c);
        forEach(x.mask(c, count), [&](unsigned n) {
            const auto index = uint64_t(int64_t(c.vec[i.index].get<Index>(n)));
            move(n, c.cutAddress(i, base + (index << i.scale)));
            mask &= ~(1ull << n);
        });
        mask = 0;
    }
};

template <class T, class Index>
void gather(Cpu& c, const Insn& i) {
    c.checkAvx512();
    Elements<T, Index> e{c, i};
    Vector& to = c.vec[i.a];
    auto clearAbove = [&](unsigned used) {
        for (unsigned n = used; n < kLanes<T, Vector>; n++) to.set<T>(n, 0);
    };
    e.each([&](unsigned n, uint64_t at) {
        to.set<T>(n, c.load<T>(i.seg, at));
        clearAbove(e.x.template count<T>());
    });
    clearAbove(e.count);
}
template <class T, class Index>
void scatter(Cpu& c, const Insn& i) {
    c.checkAvx512();
    Elements<T, Index>{c, i}.each(
        [&](unsigned n, uint64_t at) { c.store<T>(i.seg, at, c.vec[i.b].get<T>(n)); });
}

#define KILN_BOTH(letters, T, Index)                                         \
    {ZYDIS_MNEMONIC_VGATHER##letters, only<gather<T, Index>>, kOnlyEvex}, {  \
        ZYDIS_MNEMONIC_VSCATTER##letters, only<scatter<T, Index>>, kOnlyEvex \
    }
#define KILN_BOTH_P(letters, T, Index)                                        \
    {ZYDIS_MNEMONIC_VPGATHER##letters, only<gather<T, Index>>, kOnlyEvex}, {  \
        ZYDIS_MNEMONIC_VPSCATTER##letters, only<scatter<T, Index>>, kOnlyEvex \
    }

constexpr Row kRows[] = {
    KILN_BOTH_P(DD, uint32_t, int32_t), KILN_BOTH_P(DQ, uint64_t, int32_t),
    KILN_BOTH_P(QD, uint32_t, int64_t), KILN_BOTH_P(QQ, uint64_t, int64_t),
    KILN_BOTH(DPS, uint32_t, int32_t),  KILN_BOTH(DPD, uint64_t, int32_t),
    KILN_BOTH(QPS, uint32_t, int64_t),  KILN_BOTH(QPD, uint64_t, int64_t),
};

}  // namespace

std::span<const Row> avx512GatherRows() { return kRows; }

}  // namespace kiln
