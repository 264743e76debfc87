// AVX2 gathers: elements from addresses of their own (SDM vol. 2, VGATHERDPS and relatives; vol. 1, 14.8).
//
// Elements are loaded from the lowest up. The mask's elements first become all ones or zeros; each load
// clears its own, so that a fault leaves what was done done, and the instruction goes on behind it when it is
// executed again. Gathers never raise #AC.
#include "cpu/simd.hpp"

namespace kiln {
namespace {

template <class E, class T, class Index>
void gather(Cpu& c, const Insn& i) {
    E::check(c);
    using Signed = std::make_signed_t<T>;
    constexpr unsigned lanes = kLanes<T, typename E::V>;
    constexpr unsigned count =
        sizeof(typename E::V) / (sizeof(T) > sizeof(Index) ? sizeof(T) : sizeof(Index));
    Cpu::AnyAlignment any(c);
    Vector &result = c.vec[i.a], &mask = c.vec[i.c];
    for (unsigned n = 0; n < kLanes<T, Vector>; n++)
        mask.set<T>(n, n < lanes ? T(mask.get<Signed>(n) >> (8 * sizeof(T) - 1)) : T(0));
    auto clearAbove = [](Vector& v, unsigned used) {
        for (unsigned n = used; n < kLanes<T, Vector>; n++) v.set<T>(n, 0);
    };
    const Vector indices = c.vec[i.index];
    const uint64_t base = c.gpr.get<uint64_t>(i.base) + uint64_t(int64_t(i.disp));
    for (unsigned n = 0; n < count; n++) {
        if (!mask.get<T>(n)) continue;
        auto index = uint64_t(int64_t(indices.get<Index>(n)));
        result.set<T>(n, c.load<T>(i.seg, c.cutAddress(i, base + (index << i.scale))));
        clearAbove(result, lanes);
        mask.set<T>(n, 0);
    }
    clearAbove(mask, 0);
    clearAbove(result, count);
}
template <class T, class Index>
Handler gatherForm(const Shape& s) {
    return byVexLength(s, []<class E>() { return straight<gather<E, T, Index>>; });
}

}  // namespace

std::span<const Row> avxGatherRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_VPGATHERDD, gatherForm<uint32_t, int32_t>},
        {ZYDIS_MNEMONIC_VPGATHERDQ, gatherForm<uint64_t, int32_t>},
        {ZYDIS_MNEMONIC_VPGATHERQD, gatherForm<uint32_t, int64_t>},
        {ZYDIS_MNEMONIC_VPGATHERQQ, gatherForm<uint64_t, int64_t>},
        {ZYDIS_MNEMONIC_VGATHERDPS, gatherForm<uint32_t, int32_t>},
        {ZYDIS_MNEMONIC_VGATHERDPD, gatherForm<uint64_t, int32_t>},
        {ZYDIS_MNEMONIC_VGATHERQPS, gatherForm<uint32_t, int64_t>},
        {ZYDIS_MNEMONIC_VGATHERQPD, gatherForm<uint64_t, int64_t>},
    };
    return rows;
}

}  // namespace kiln
