#include "mmu/page_walk.hpp"

namespace kiln {

namespace {

constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80,
                   kGlobal = 0x100, kNoExecute = 1ull << 63;

// One walk under way. Rights are the AND over all levels, collected in `rights_`; NX is the OR.
class Walk {
  public:
    Walk(PhysicalMemory& memory, const PagingState& paging, Access access, bool user, bool explicitAc)
        : memory_(memory), paging_(paging), access_(access), user_(user), explicitAc_(explicitAc) {}

    Translation legacy(LinearAddr a);
    Translation pae(LinearAddr a);
    Translation fourLevel(LinearAddr a);

  private:
    struct Entry {
        PhysAddr at;
        uint64_t value = 0;
        bool wide = true;  // 8 bytes, else 4
    };

    Translation fault(uint32_t bits) const {
        uint32_t code = bits | (access_ == Access::Write ? pf::W : 0) | (user_ ? pf::U : 0);
        if (access_ == Access::Fetch && (paging_.nxe || paging_.smep)) code |= pf::I;
        return {.fault = true, .errorCode = code};
    }
    // Reserved bits of any present 64-bit entry: above the physical width, and NX without EFER.NXE.
    uint64_t reservedHigh() const {
        uint64_t reserved = 0x000fffffffffffffull & ~((1ull << paging_.physicalBits) - 1);
        if (!paging_.longMode) reserved |= 0x7ff0000000000000ull;
        return reserved | (paging_.nxe ? 0 : kNoExecute);
    }
    Entry read(PhysAddr at, bool wide) {
        return {at, wide ? memory_.read<uint64_t>(at) : memory_.read<uint32_t>(at), wide};
    }
    void setBits(Entry& e, uint64_t bits) {
        if ((e.value & bits) == bits) return;
        e.value |= bits;
        if (e.wide)
            memory_.write<uint64_t>(e.at, e.value);
        else
            memory_.write<uint32_t>(e.at, uint32_t(e.value));
    }
    void collect(const Entry& e) {
        rights_ &= e.value;
        noExecute_ |= e.wide && (e.value & kNoExecute);
    }
    bool allowed(bool& canWrite) const;
    Translation leaf(Entry& e, PhysAddr addr, uint64_t pageSize);
    Translation table(LinearAddr a, PhysAddr base, unsigned level);

    PhysicalMemory& memory_;
    const PagingState& paging_;
    Access access_;
    bool user_, explicitAc_;
    uint64_t rights_ = kWritable | kUser;
    bool noExecute_ = false;
    Entry upper_[3];  // visited above the leaf: their A bits are set once the access is known to be allowed
    unsigned uppers_ = 0;
};

// SDM vol. 3, 4.6.1.
bool Walk::allowed(bool& canWrite) const {
    bool userPage = rights_ & kUser;
    bool writePage = rights_ & kWritable;
    canWrite = writePage || (!user_ && !paging_.wp);
    if (user_ && !userPage) return false;
    if (access_ == Access::Fetch) {
        if (noExecute_ && paging_.nxe) return false;
        return user_ || !userPage || !paging_.smep;
    }
    if (!user_ && userPage && paging_.smap && !explicitAc_) return false;
    return access_ == Access::Read || canWrite;
}

Translation Walk::leaf(Entry& e, PhysAddr addr, uint64_t pageSize) {
    bool canWrite = false;
    if (!allowed(canWrite)) return fault(pf::P);
    for (unsigned i = 0; i < uppers_; i++) setBits(upper_[i], kAccessed);
    setBits(e, access_ == Access::Write ? kAccessed | kDirty : kAccessed);
    return {.addr = addr,
            .pageSize = pageSize,
            .writable = canWrite && (e.value & kDirty),
            .global = bool(e.value & kGlobal)};
}

Translation Walk::legacy(LinearAddr a) {
    Entry pde = read(PhysAddr((paging_.cr3 & 0xfffff000) + (a.value >> 22 & 0x3ff) * 4), false);
    if (!(pde.value & kPresent)) return fault(0);
    collect(pde);
    if (paging_.pse && (pde.value & kLarge)) {  // PSE-36: bits 13..20 are address bits 32..39
        if (pde.value & 0x200000) return fault(pf::P | pf::RSVD);
        uint64_t base = (pde.value & 0xffc00000) | (pde.value & 0x1fe000) << 19;
        return leaf(pde, PhysAddr(base | (a.value & 0x3fffff)), 4 << 20);
    }
    upper_[uppers_++] = pde;
    Entry pte = read(PhysAddr((pde.value & 0xfffff000) + (a.value >> 12 & 0x3ff) * 4), false);
    if (!(pte.value & kPresent)) return fault(0);
    collect(pte);
    return leaf(pte, PhysAddr((pte.value & 0xfffff000) | a.pageOffset()), kPageSize);
}

// From a table at `base` downwards; `level` 4 is the PML4, 1 the page table.
Translation Walk::table(LinearAddr a, PhysAddr base, unsigned level) {
    for (;; level--) {
        unsigned shift = 12 + 9 * (level - 1);
        Entry e = read(base + (a.value >> shift & 0x1ff) * 8, true);
        if (!(e.value & kPresent)) return fault(0);
        bool isLeaf = level == 1 || (level <= 3 && (e.value & kLarge));
        uint64_t reserved = reservedHigh();
        if (level == 4) reserved |= kLarge;
        if (level > 1 && isLeaf) reserved |= ((1ull << shift) - 1) & ~0x1fffull;  // bit 12 is PAT
        if (e.value & reserved) return fault(pf::P | pf::RSVD);
        collect(e);
        uint64_t frame = e.value & 0x000ffffffffff000ull;
        if (isLeaf) {
            uint64_t mask = (1ull << shift) - 1;
            return leaf(e, PhysAddr((frame & ~mask) | (a.value & mask)), mask + 1);
        }
        upper_[uppers_++] = e;
        base = PhysAddr(frame);
    }
}

Translation Walk::pae(LinearAddr a) {
    uint64_t pdpte = paging_.pdpte[a.value >> 30 & 3];
    if (!(pdpte & kPresent)) return fault(0);
    return table(a, PhysAddr(pdpte & 0x000ffffffffff000ull), 2);
}

Translation Walk::fourLevel(LinearAddr a) {
    return table(a, PhysAddr(paging_.cr3 & 0x000ffffffffff000ull), 4);
}

}  // namespace

Translation walkPageTables(PhysicalMemory& memory, const PagingState& paging, LinearAddr addr, Access access,
                           bool user, bool explicitAc) {
    if (!paging.enabled) return {.addr = PhysAddr(addr.value), .writable = true};
    Walk walk(memory, paging, access, user, explicitAc);
    if (paging.longMode) return walk.fourLevel(addr);
    return paging.pae ? walk.pae(addr) : walk.legacy(addr);
}

}  // namespace kiln
