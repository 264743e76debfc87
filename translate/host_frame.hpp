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
    Translator* owner;
    void* hostStack;
    uint64_t fsBase, gsBase;

    // The guest's vector registers in the host's. Loaded where the first vector instruction comes, stored
    // before any C++ runs.
    VectorLevel vectors;      // what is loaded
    VectorLevel vectorsWere;  // before the call that is being served
    uint8_t upperClean;       // bits 255:128 of all are zero
    uint32_t mxcsr, hostMxcsr;
    void* vectorState;  // CpuState::vec

    // Under which the jump table was filled; another one empties it.
    uint64_t lookupTag, forgotten, generation;
    static constexpr unsigned kMostJumps = 8192;
    uint32_t jumpCount;
    uint16_t jumpList[kMostJumps];  // indices of filled entries
};

// Targets of indirect jumps and of jumps to other pages: by the low 16 bits of the offset in CS.
struct JumpTarget {
    uint64_t rip;
    const void* host;
};
constexpr size_t kJumpTable = 0x10000;  // from the frame on
constexpr size_t kJumpTargets = 0x10000;
static_assert(sizeof(HostFrame) <= kJumpTable);
static_assert(kJumpTable + kJumpTargets * sizeof(JumpTarget) <= Tlb::kRoom);

inline HostFrame& frameOf(Tlb& tlb) { return *reinterpret_cast<HostFrame*>(tlb.room()); }
inline JumpTarget* jumpTargets(HostFrame& f) {
    return reinterpret_cast<JumpTarget*>(reinterpret_cast<std::byte*>(&f) + kJumpTable);
}

}  // namespace kiln
