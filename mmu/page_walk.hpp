// Translation of linear addresses by the guest's page tables (SDM vol. 3, chapter 4): 32-bit with PSE-36,
// PAE, and 4-level paging. Not modelled yet: LA57, protection keys.
#pragma once
#include <cstdint>

#include "mmu/address.hpp"
#include "mmu/physical_memory.hpp"

namespace kiln {

enum class Access : uint8_t { Read, Write, Fetch };

// The control-register bits that paging depends on.
struct PagingState {
    uint64_t cr3 = 0;
    bool enabled = false, pae = false, longMode = false, pse = false;
    bool wp = false, nxe = false, smep = false, smap = false;
    uint64_t pdpte[4] = {};  // PAE: loaded by the move to CR3 (4.4.1)
    unsigned physicalBits = 40;
};

// Error code of #PF (SDM vol. 3, 4.7).
namespace pf {
constexpr uint32_t P = 1, W = 2, U = 4, RSVD = 8, I = 16;
}

struct Translation {
    bool fault = false;
    uint32_t errorCode = 0;  // when fault
    PhysAddr addr{};         // of the byte asked for
    uint64_t pageSize = kPageSize;
    bool writable = false;  // a write with these rights would need no further walk (D is set, and allowed)
    bool global = false;
};

// Walks for one access by `user` (CPL 3, or not) code. Sets accessed and dirty bits as the manual says.
// `explicitAc` is EFLAGS.AC for supervisor data accesses under SMAP; implicit accesses (descriptor tables,
// TSS) pass false.
Translation walkPageTables(PhysicalMemory& memory, const PagingState& paging, LinearAddr addr, Access access,
                           bool user, bool explicitAc);

}  // namespace kiln
