// What host code keeps in memory while it runs. The frame lies in the room of the TLB it runs against and the
// host's stack pointer points at it, so that registers left in memory, the TLB's arrays and the table of jump
// targets are all at fixed distances from one register, and another address space is another frame.
#pragma once
#include <cstddef>
#include <cstdint>

#include "mmu/tlb.hpp"

namespace kiln {

class Translator;

// How much of the vector registers is in the host's: XMM0-15, or YMM0-15.
enum class VectorLevel : uint8_t { None, Sse, Avx };

struct HostFrame {
    uint64_t gpr[16];        // the guest's; of pinned ones the value at the last entry or call
    uint64_t flags;          // bits 0: OF; 8..15: SF, ZF, AF, PF, CF as LAHF gives them
    int64_t slice;           // instructions left
    uint64_t page;           // offset in CS of the page that the running block began on
    uint64_t rip;            // on the way out: a target, or where to go on
    uint64_t value;          // of a push while its place is looked up
    const void* hostTarget;  // of an indirect call meanwhile
    const void* resume;      // where host code goes on after a call
    Translator* owner;
    void* hostStack;
    uint64_t fsBase, gsBase;

    // The guest's vector registers in the host's. Loaded where the first vector instruction comes, stored
    // before any C++ runs.
    VectorLevel vectors;      // what is loaded
    VectorLevel vectorsWere;  // before the call that is being served
    VectorLevel vectorsNext;  // to be loaded when host code goes on
    uint8_t upperClean;       // bits 255:128 of all are zero
    uint32_t mxcsr, hostMxcsr;
    void* vectorState;  // CpuState::vec

    // Under which the jump table and the marks of pages were filled; another one empties them.
    uint64_t lookupTag, forgotten, generation;
    static constexpr unsigned kMostJumps = 8192;
    uint32_t jumpCount;
    uint16_t jumpList[kMostJumps];  // indices of filled entries
    static constexpr unsigned kMostMarks = 8192;
    uint32_t markCount;
    uint32_t markList[kMostMarks];
};

// Targets of indirect jumps and of jumps to other pages: by the low 16 bits of the offset in CS.
struct JumpTarget {
    uint64_t rip;
    const void* host;
};
constexpr size_t kJumpTable = 0x10000;  // from the frame on
constexpr size_t kJumpTargets = 0x10000;
static_assert(sizeof(HostFrame) <= kJumpTable);
// What code is at a linear page, by bits 12 to 31 of the page: a number for the pair of that linear page and
// a physical one (32 bits each, 0: not known), or another pair's, of a page with the same bits.
constexpr size_t kPageMarks = kJumpTable + kJumpTargets * sizeof(JumpTarget);
constexpr uint32_t kNoMark = 0x7fffffff;  // no pair's
static_assert(kPageMarks + Tlb::kEntries * sizeof(uint32_t) <= Tlb::kRoom);

inline HostFrame& frameOf(Tlb& tlb) { return *reinterpret_cast<HostFrame*>(tlb.room()); }
inline JumpTarget* jumpTargets(HostFrame& f) {
    return reinterpret_cast<JumpTarget*>(reinterpret_cast<std::byte*>(&f) + kJumpTable);
}

inline uint32_t* pageMarks(HostFrame& f) {
    return reinterpret_cast<uint32_t*>(reinterpret_cast<std::byte*>(&f) + kPageMarks);
}

}  // namespace kiln
