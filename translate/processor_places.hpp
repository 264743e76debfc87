// Where the parts of a processor's state lie that host code reads and writes by itself: their distances from
// `base` are the same for all processors.
#pragma once
#include <cstdint>

namespace kiln {

struct Segment;

struct ProcessorPlaces {
    const void* base;  // the processor
    const unsigned* cpl;
    uint32_t* flags;  // those that are not arithmetic
    const uint64_t *cr0, *cr2, *cr3, *cr4;
    uint64_t* kernelGsBase;
    Segment* segment[6];    // by SegReg
    uint64_t* fastBase[6];  // the base once more
    const uint32_t *pendingDebug, *pkru;
    unsigned linearBits;  // of what segment bases may be
};

}  // namespace kiln
