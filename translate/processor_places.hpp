// Where the parts of a processor's state lie that host code reads and writes by itself: their distances from
// `base` are the same for all processors.
#pragma once
#include <cstdint>

namespace kiln {

struct CounterTime;
struct DescriptorTable;
struct FpuTraps;
struct Segment;
class Tlb;

struct ProcessorPlaces {
    const void* base;  // the processor
    const unsigned* cpl;
    uint32_t* flags;  // those that are not arithmetic
    const uint64_t *cr0, *cr2, *cr3, *cr4;
    uint64_t* kernelGsBase;
    Segment* segment[6];    // by SegReg
    uint64_t* fastBase[6];  // the base once more
    const uint32_t *pendingDebug, *pkru;
    unsigned linearBits;       // of what segment bases may be
    const CounterTime* time;   // the guest's, wherever that is; null: it is not read off the host's counter
    const int64_t* tscOffset;  // from there to the processor's TSC
    const uint64_t* tscAux;
    const uint64_t *efer, *star, *lstar, *sfmask, *sysenterCs, *sysenterEsp, *sysenterEip;
    bool *committed, *alignmentChecks;
    uint64_t *lookupTag, *globalTag;
    Tlb** dataTlb;
    const uint32_t* cpuidState;
    const bool *watchesPorts, *watchesData;  // breakpoints
    uint64_t* debug;  // DR0 to DR7
    uint64_t* inlineTraps;
    const DescriptorTable* gdtr;
    bool* nmiBlocked;
    FpuTraps *fpuTraps, *fpuTrapsWithoutTs;
};

}  // namespace kiln
