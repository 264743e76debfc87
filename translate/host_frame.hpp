// What host code keeps in memory while it runs. The frame lies in the room of the TLB it runs against and the
// host's stack pointer points at it, so that registers left in memory, the TLB's arrays and the table of jump
// targets are all at fixed distances from one register, and another address space is another frame: its first
// part is the processor's and moves there when the translation context changes, the rest stays with the
// context.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "cpu/state.hpp"
#include "mmu/sparse_bits.hpp"
#include "mmu/tlb.hpp"
#include "translate/registers.hpp"

namespace kiln {

class Translator;

// How much of the vector registers is in the host's: XMM0-15, YMM0-15, or all. AvxWide: ZMM0-15, of a guest
// that uses no EVEX but has left something in their upper halves.
enum class VectorLevel : uint8_t { None, Sse, Avx, AvxWide, Avx512 };
constexpr size_t kVectorLevels = 5;

// Where the x87 registers are: in CpuState, in HostFrame::x87Image, in the host's.
enum class X87Place : uint8_t { InCpu, InImage, InHost };

// Indices of what has been filled in: from the front on what an invalidation of all but global pages empties,
// from the back on the rest. What has been both is emptied by either.
template <class Index, unsigned Size>
struct FilledList {
    uint32_t count, globalCount;
    Index list[Size];

    bool full() const { return count + globalCount == Size; }
    void add(uint32_t index, bool wasEmpty, bool global) {
        if (global && wasEmpty)
            list[Size - ++globalCount] = Index(index);
        else if (wasEmpty || (!global && globalCount))
            list[count++] = Index(index);
    }
    template <class Empty>
    void clear(bool globalToo, Empty empty) {
        for (uint32_t n = 0; n < count; n++) empty(list[n]);
        count = 0;
        if (!globalToo) return;
        for (uint32_t n = Size - globalCount; n < Size; n++) empty(list[n]);
        globalCount = 0;
    }
};

// The same for a small table, with room for all of it.
template <unsigned Size>
struct FilledBits {
    SparseBits<Size> locals, globals;

    void add(uint32_t index, bool global) { (global ? globals : locals).set(index); }
    template <class Empty>
    void clear(bool globalToo, Empty empty) {
        locals.clear(empty);
        if (globalToo) globals.clear(empty);
    }
};

// Targets of indirect jumps and of jumps to other pages: by jumpIndex() of the linear address.
struct JumpTarget {
    uint64_t rip;  // linear, and HostFrame::surroundings
    const void* host;
};
constexpr size_t kJumpTable = 0x10000;  // from the frame on
// Four bytes of code share an entry: what returns into one function lies in few lines of the host's cache.
constexpr size_t kJumpTargets = 0x8000;
constexpr unsigned kJumpGranuleBits = 2;
constexpr uint32_t kJumpMask = uint32_t(kJumpTargets - 1) << kJumpGranuleBits;
constexpr uint32_t jumpIndex(uint64_t linear) { return (uint32_t(linear) & kJumpMask) >> kJumpGranuleBits; }
// Where the target goes that had to make room for another one of the same index.
constexpr uint32_t neighbourOf(uint32_t index) { return index ^ 1; }
constexpr unsigned kJumpPages = kJumpTargets * sizeof(JumpTarget) / kPageSize;

struct HostFrame {
    // -- the processor's. First what host code names most often: displacements of one byte reach 128 bytes.
    uint64_t inMemory[kRegistersInFrame];  // guest registers that kStandardMap leaves here
    uint64_t flags;                        // bits 0: OF; 8..15: SF, ZF, AF, PF, CF as LAHF gives them
    int64_t slice;                         // instructions left
    uint64_t page;                         // linear address of the page that the running block began on
    uint64_t gsBase;
    static constexpr unsigned kHandles = 16;
    uint64_t handles[kHandles];               // addends that a block has found: see access_plan.hpp
    uint64_t pinned[16 - kRegistersInFrame];  // the other ones' values at the last entry or call
    int64_t beyond;          // more of the slice, in a loop whose rounds are limited: see emitter_trace.cpp
    uint64_t rip;            // on the way out: where to go on, or a target as the table of those has it
    uint64_t value;          // of a push while its place is looked up
    uint64_t target;         // of an indirect call meanwhile
    const void* hostTarget;  // and its host code
    uint64_t operand;        // on the way out: the address that the TLB did not give
    const void* resume;      // where host code goes on after a call
    Translator* owner;
    const void* processor;                   // the Cpu
    const std::atomic<uint32_t>* attention;  // of its local APIC
    uint64_t writer;                         // its bit of PageMarks::writers
    const unsigned* cpl;
    uint32_t* otherFlags;  // that are not arithmetic
    Tlb** dataTlb;         // the one that the frame belongs to
    void* hostStack;
    uint64_t fsBase;

    // Where the general registers are, by the guest's numbers.
    static constexpr size_t gprAt(unsigned guest);
    uint64_t& gpr(unsigned guest);

    // The guest's vector and x87 registers in the host's: see vector_state.hpp.
    VectorLevel vectors;  // what is loaded
    X87Place x87;
    VectorLevel vectorsNext;  // what is to be loaded when host code goes on
    bool x87Next;
    uint8_t refused;  // what must not be loaded: bits by VectorLevel, and VectorState::kX87
    uint8_t refusedWithoutTs;  // the same if CR0.TS were clear
    uint32_t mxcsr, hostMxcsr;
    uint16_t hostX87Control;
    void *vectorState, *opmasks;  // CpuState's

    // The last x87 instruction since the registers came from CpuState, and the last one with a memory
    // operand: what FIP and FDP come from.
    static constexpr int32_t kNoOffset = INT32_MIN;
    static constexpr uint8_t kNoSegment = 0xff, kGivenSelector = 0xfe;
    int32_t x87Offset;  // from x87Page
    uint8_t x87DataSegment;
    uint16_t x87DataSelector;  // where host code loads segments by itself
    uint64_t x87Page, x87Data;
    alignas(64) std::byte x87Image[576];  // of XSAVE

    // Segments, for code outside 64-bit mode. Offsets from which on an access needs a closer look, and if it
    // is to a segment that expands down, the first one inside and the one behind the last.
    struct Segment {
        uint64_t base, readEnd, writeEnd;
    };
    Segment segments[6];
    struct Downward {
        uint64_t low, readHigh, writeHigh;
    };
    Downward downward[6];
    uint64_t surroundings;  // above bit 31 of what the table of jump targets knows (surroundings.hpp)
    uint64_t segmentsVersion;  // frames with the same one have the same segments; 0: host code loaded one

    // -- the context's. Under which the jump table and the marks of pages were filled: under another
    // `lookupTag` they lose what does not belong to global pages, under another of the others everything.
    uint64_t lookupTag, globalTag, forgotten, generation;
    Tlb* tlb;                           // that the frame belongs to
    HostFrame *withAc, *withoutAc;      // where STAC and CLAC lead to; the latter is SYSCALL's as well
    HostFrame* user;                    // SYSRET's
    // What IRETQ loaded last, to CPL 0 and to CPL 3, and by which descriptors, both in one page: host code
    // does it again when these are the same.
    struct KnownReturn {
        uint32_t selectors;  // CS, and SS in the upper half; 0: nothing is known
        uint32_t gdtLimit;
        uint64_t gdtBase;
        uint64_t csDescriptor, ssDescriptor;  // a null SS has CS's
        uint64_t linear, entry;               // CS's descriptor is there, its TLB entry so far from the first
        int64_t toSs;                         // from CS's descriptor to SS's
        kiln::Segment cs, ss;
    };
    KnownReturn returns[2];
    FilledBits<kJumpTargets> jumps;     // by jumpIndex()
    uint64_t touched[kJumpPages / 64];  // of the table's pages
    FilledList<uint32_t, 8192> marks;
};

// Writes of 1, 2, 4, ... 64 bytes may find out without C++ that they lie beside code.
constexpr unsigned kBesideSizes = 7;

static_assert(sizeof(HostFrame) <= kJumpTable);
static_assert(offsetof(HostFrame, gsBase) < 128 &&
              offsetof(HostFrame, handles) + 8 * sizeof(uint64_t) <= 128);
inline constexpr std::array<uint16_t, 16> kGprPlaces = [] {
    std::array<uint16_t, 16> places{};
    size_t inMemory = offsetof(HostFrame, inMemory), pinned = offsetof(HostFrame, pinned);
    for (unsigned guest = 0; guest < 16; guest++) {
        size_t& next = kStandardMap.pinned(guest) ? pinned : inMemory;
        places[guest] = uint16_t(next);
        next += sizeof(uint64_t);
    }
    return places;
}();
constexpr size_t HostFrame::gprAt(unsigned guest) { return kGprPlaces[guest]; }
inline uint64_t& HostFrame::gpr(unsigned guest) {
    return *reinterpret_cast<uint64_t*>(reinterpret_cast<std::byte*>(this) + gprAt(guest));
}
// What code is at a linear page, by bits 12 to 31 of the page: a number for the pair of that linear page and
// a physical one (32 bits each, 0: not known), or another pair's, of a page with the same bits.
constexpr size_t kPageMarks = kJumpTable + kJumpTargets * sizeof(JumpTarget);
constexpr uint32_t kNoMark = 0x7fffffff;  // no pair's
static_assert(kPageMarks + Tlb::kEntries * sizeof(uint32_t) <= Tlb::kRoom);

// The processor's part, without an image that is often empty and what blocks find for themselves. Registers
// have just been stored one by one: read back in larger pieces, they would keep the host waiting.
inline void copyWords(void* to, const void* from, size_t bytes) {
    using Word [[gnu::may_alias]] = uint64_t;
    const auto* source = static_cast<const volatile Word*>(from);
#pragma GCC unroll 8
    for (size_t n = 0; n < bytes / 8; n++) static_cast<Word*>(to)[n] = source[n];
}
inline void moveProcessor(HostFrame& to, const HostFrame& from) {
    constexpr size_t kHandlesEnd = offsetof(HostFrame, handles) + sizeof from.handles;
    static_assert(offsetof(HostFrame, handles) % 8 == 0 && offsetof(HostFrame, x87Image) % 8 == 0);
    copyWords(&to, &from, offsetof(HostFrame, handles));
    copyWords(reinterpret_cast<std::byte*>(&to) + kHandlesEnd,
              reinterpret_cast<const std::byte*>(&from) + kHandlesEnd,
              offsetof(HostFrame, x87Image) - kHandlesEnd);
}

inline HostFrame& frameOf(Tlb& tlb) { return *reinterpret_cast<HostFrame*>(tlb.room()); }
inline JumpTarget* jumpTargets(HostFrame& f) {
    return reinterpret_cast<JumpTarget*>(reinterpret_cast<std::byte*>(&f) + kJumpTable);
}

inline uint32_t* pageMarks(HostFrame& f) {
    return reinterpret_cast<uint32_t*>(reinterpret_cast<std::byte*>(&f) + kPageMarks);
}

}  // namespace kiln
