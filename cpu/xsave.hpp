// The layout of the XSAVE area (SDM vol. 1, 13.4): the legacy area, the header, then the extended region with
// a component for each further bit of XCR0. PKRU lies where Intel's processors have it.
#pragma once
#include <cstdint>

#include "cpu/state.hpp"

namespace kiln::xsave {

constexpr unsigned kHeader = 512, kExtended = 576;
constexpr unsigned kLargest = 1024;          // of all components
constexpr uint64_t kCompacted = 1ull << 63;  // in XCOMP_BV

struct Component {
    unsigned number;  // bit of XCR0
    unsigned size, offset;
    constexpr uint64_t bit() const { return 1ull << number; }
};
constexpr Component kComponents[] = {
    {2, 256, 576},    // AVX: upper halves of YMM0 to YMM15
    {5, 64, 1088},    // opmask registers
    {6, 512, 1152},   // upper halves of ZMM0 to ZMM15
    {7, 1024, 1664},  // ZMM16 to ZMM31
    {9, 8, 2688},     // PKRU
};

// Bytes of the area that has these components: in the standard format, and compacted.
constexpr unsigned standardSize(uint64_t components) {
    unsigned size = kExtended;
    for (const Component& c : kComponents)
        if (components & c.bit()) size = c.offset + c.size;
    return size;
}
constexpr unsigned compactedSize(uint64_t components) {
    unsigned size = kExtended;
    for (const Component& c : kComponents)
        if (components & c.bit()) size += c.size;
    return size;
}

}  // namespace kiln::xsave
