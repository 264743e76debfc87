// Translation of linear addresses by the guest's page tables (SDM vol. 3, chapter 4): 32-bit with PSE-36,
// PAE, 4-level and 5-level paging, protection keys of both kinds. Accessed and dirty bits are set by locked
// compare-exchange, so other processors and bus masters may change the tables meanwhile.
// Not modelled: paging-structure caches (a walk always begins at CR3), shadow stacks, EPT.
#pragma once
#include <cstdint>

#include "mmu/address.hpp"
#include "mmu/physical_memory.hpp"

namespace kiln {

enum class Access : uint8_t { Read, Write, Fetch };

// The control-register bits that paging depends on.
struct PagingState {
    uint64_t cr3 = 0;
    bool enabled = false, pae = false, longMode = false, la57 = false, pse = false, pge = false;
    bool wp = false, nxe = false, smep = false, smap = false;
    bool pse36 = true, gigabytePages = true;  // what the model offers
    uint32_t pkru = 0, pkrs = 0;              // rights of user and supervisor keys; 0 while CR4.PKE or PKS is
    uint64_t pdpte[4] = {};                   // PAE: loaded by the move to CR3 (4.4.1)
    unsigned physicalBits = 40;
    uint64_t a20Mask = ~0ull;
    bool smm = false;  // the tables may lie in SMRAM
};

// Error code of #PF (SDM vol. 3, 4.7).
namespace pf {
constexpr uint32_t P = 1, W = 2, U = 4, RSVD = 8, I = 16, PK = 32;
}

struct Translation {
    bool fault = false;
    uint32_t errorCode = 0;  // when fault
    PhysAddr addr{};         // of the byte asked for
    uint64_t pageSize = kPageSize;
    bool writable = false;  // a write with these rights would need no further walk (D is set, and allowed)
    bool global = false;
    bool userPage = false;  // U/S is 1 at every level
    uint8_t key = 0;        // protection key (4-level and 5-level paging)
};

enum class Marking : uint8_t { SetsBits, Nothing };

// The tables a walk has read, and which linear addresses each of them is about.
struct WalkTrace {
    struct Table {
        PhysAddr at;  // where in memory its entry was
        LinearRange range;
    };
    Table tables[5];
    unsigned count = 0;
    bool wide = true;  // entries of 8 bytes, else 4
};

// Walks for one access by `user` (CPL 3, or not) code. `explicitAc` is EFLAGS.AC for supervisor data accesses
// under SMAP; implicit accesses (descriptor tables, TSS) pass false. An access that is allowed sets the
// accessed bit of every entry used and, when it writes, the dirty bit of the last; one that faults sets none,
// nor does a walk marking `Nothing`: probes and people's tools.
Translation walkPageTables(PhysicalMemory& memory, const PagingState& paging, LinearAddr addr, Access access,
                           bool user, bool explicitAc, Marking marking = Marking::SetsBits,
                           WalkTrace* trace = nullptr);

}  // namespace kiln
