// The rows of all SSE and AVX generations, and what their bodies share.
#include <vector>

#include "cpu/simd.hpp"

namespace kiln {

void alignmentFault(Cpu& c, const Insn& i, uint64_t offset, Access access, unsigned size) {
    // In 64-bit mode the bases of ES, CS, SS and DS count as zero whatever the hidden parts hold.
    uint64_t base = c.code64() && i.seg < Fs ? 0 : c.seg[i.seg].base;
    if (!((base + offset) & (size - 1))) return;
    c.linearOf(i.seg, offset, size, access);  // limit and canonical checks come first
    raise(kGP, 0);
}

std::span<const Row> sseRows() {
    static const std::vector<Row> rows = [] {
        std::vector<Row> all;
        for (auto part : {sseMoveRows(),       sseIntegerRows(),   sseShuffleRows(),    sseStringRows(),
                          sseFloatRows(),      sseConvertRows(),   avxMoveRows(),       avxPermuteRows(),
                          avxGatherRows(),     fmaRows(),          f16cRows(),          aesRows(),
                          galoisRows(),        shaRows(),          opmaskRows(),        avx512MoveRows(),
                          avx512IntegerRows(), avx512NarrowRows(), avx512PermuteRows(), avx512GatherRows(),
                          avx512FloatRows(),   avx512ConvertRows()})
            all.insert(all.end(), part.begin(), part.end());
        return all;
    }();
    return rows;
}

}  // namespace kiln
