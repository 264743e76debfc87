#include "mmu/page_walk.hpp"

#include <algorithm>

namespace kiln {

namespace {

constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80,
                   kGlobal = 0x100, kNoExecute = 1ull << 63, kFrame = 0x000ffffffffff000ull;

// One walk under way. Rights are the AND over all levels, collected in `rights_`; NX is the OR.
class Walk {
  public:
    Walk(PhysicalMemory& memory, const PagingState& paging, Access access, bool user, bool explicitAc,
         Marking marking, WalkTrace* trace)
        : memory_(memory),
          paging_(paging),
          access_(access),
          user_(user),
          explicitAc_(explicitAc),
          marking_(marking),
          trace_(trace) {
        if (trace_) trace_->count = 0;
    }

    Translation translate(LinearAddr a) {
        if (paging_.longMode) return table(a, PhysAddr(paging_.cr3 & kFrame), paging_.la57 ? 5 : 4);
        return paging_.pae ? pae(a) : legacy(a);
    }
    // Somebody changed an entry between its reading and its marking: the walk has to be done again.
    bool lost() const { return lost_; }

  private:
    struct Entry {
        PhysAddr at;
        uint64_t value = 0;
        bool wide = true;  // 8 bytes, else 4
    };
    struct Rights {
        bool access, write, key;  // this access; a write; the protection key's part in this access
    };

    Translation fault(uint32_t bits) const {
        uint32_t code = bits | (access_ == Access::Write ? pf::W : 0) | (user_ ? pf::U : 0);
        if (access_ == Access::Fetch && ((paging_.nxe && paging_.pae) || paging_.smep)) code |= pf::I;
        return {.fault = true, .errorCode = code};
    }
    // Reserved bits of any present 64-bit entry: above the physical width, and NX without EFER.NXE.
    uint64_t reservedHigh() const {
        uint64_t reserved = 0x000fffffffffffffull & ~((1ull << paging_.physicalBits) - 1);
        if (!paging_.longMode) reserved |= 0x7ff0000000000000ull;
        return reserved | (paging_.nxe ? 0 : kNoExecute);
    }
    // Bits 13..21 of a 4-MiB page hold the frame's bits 32.. as far as PSE-36 and the physical width go.
    uint64_t reservedPse() const {
        unsigned bits = paging_.pse36 ? std::min(40u, std::max(32u, paging_.physicalBits)) : 32;
        return 0x3fe000 & ~((1ull << (bits - 19)) - 1);
    }
    // The entry at `at`, in a table that tells about all addresses equal to `a` above bit `shift`.
    Entry read(PhysAddr at, bool wide, LinearAddr a, unsigned shift) const {
        at = PhysAddr(at.value & paging_.a20Mask);
        if (paging_.smm) at = memory_.inSmm(at, false);
        if (trace_) {
            trace_->tables[trace_->count++] = {at, {shift < 64 ? a.value >> shift << shift : 0, shift}};
            trace_->wide = wide;
        }
        return {at, wide ? memory_.load<uint64_t>(at) : memory_.load<uint32_t>(at), wide};
    }
    void setBits(const Entry& e, uint64_t bits) {
        if (lost_ || (e.value & bits) == bits) return;
        lost_ = e.wide ? !memory_.markEntry<uint64_t>(e.at, e.value, e.value | bits)
                       : !memory_.markEntry<uint32_t>(e.at, uint32_t(e.value), uint32_t(e.value | bits));
    }
    void collect(const Entry& e) {
        rights_ &= e.value;
        noExecute_ |= e.wide && (e.value & kNoExecute);
    }
    Rights allowed(uint8_t key) const;
    Translation leaf(const Entry& e, PhysAddr addr, uint64_t pageSize);
    Translation table(LinearAddr a, PhysAddr base, unsigned level);
    Translation legacy(LinearAddr a);
    Translation pae(LinearAddr a);

    PhysicalMemory& memory_;
    const PagingState& paging_;
    Access access_;
    bool user_, explicitAc_;
    Marking marking_;
    WalkTrace* trace_;
    bool lost_ = false;
    uint64_t rights_ = kWritable | kUser;
    bool noExecute_ = false;
    Entry upper_[4];  // visited above the leaf: their A bits are set once the access is known to be allowed
    unsigned uppers_ = 0;
};

// SDM vol. 3, 4.6.1 and 4.6.2.
Walk::Rights Walk::allowed(uint8_t key) const {
    const bool userPage = rights_ & kUser;
    const bool writeNeedsRight = user_ || paging_.wp;
    const uint32_t keyRights = (userPage ? paging_.pkru : paging_.pkrs) >> key * 2;
    const bool keyReads = !(keyRights & 1);
    const bool keyWrites = keyReads && !(keyRights & 2 && writeNeedsRight);
    const bool write = (rights_ & kWritable || !writeNeedsRight) && keyWrites;
    if (access_ == Access::Fetch) {
        const bool modeAllows = user_ ? userPage : !userPage || !paging_.smep;
        return {modeAllows && !(noExecute_ && paging_.nxe), write, true};
    }
    const bool modeAllows = user_ ? userPage : !userPage || !paging_.smap || explicitAc_;
    const bool keyAllows = access_ == Access::Write ? keyWrites : keyReads;
    return {modeAllows && (access_ == Access::Write ? write : keyReads), write, keyAllows};
}

Translation Walk::leaf(const Entry& e, PhysAddr addr, uint64_t pageSize) {
    const uint8_t key = paging_.longMode ? uint8_t(e.value >> 59 & 15) : 0;
    const Rights may = allowed(key);
    if (!may.access) return fault(pf::P | (may.key ? 0 : pf::PK));
    const bool writes = access_ == Access::Write;
    if (marking_ == Marking::SetsBits) {
        for (unsigned i = 0; i < uppers_; i++) setBits(upper_[i], kAccessed);
        setBits(e, writes ? kAccessed | kDirty : kAccessed);
    }
    return {.addr = addr,
            .pageSize = pageSize,
            .writable = may.write && (writes || e.value & kDirty),
            .global = paging_.pge && e.value & kGlobal,
            .userPage = bool(rights_ & kUser),
            .key = key};
}

Translation Walk::legacy(LinearAddr a) {
    const Entry pde = read(PhysAddr((paging_.cr3 & 0xfffff000) + (a.value >> 22 & 0x3ff) * 4), false, a, 64);
    if (!(pde.value & kPresent)) return fault(0);
    collect(pde);
    if (paging_.pse && (pde.value & kLarge)) {  // PSE-36: bits 13..20 are address bits 32..39
        if (pde.value & reservedPse()) return fault(pf::P | pf::RSVD);
        uint64_t base = (pde.value & 0xffc00000) | (pde.value & 0x1fe000) << 19;
        return leaf(pde, PhysAddr(base | (a.value & 0x3fffff)), 4 << 20);
    }
    upper_[uppers_++] = pde;
    const Entry pte = read(PhysAddr((pde.value & 0xfffff000) + (a.value >> 12 & 0x3ff) * 4), false, a, 22);
    if (!(pte.value & kPresent)) return fault(0);
    collect(pte);
    return leaf(pte, PhysAddr((pte.value & 0xfffff000) | a.pageOffset()), kPageSize);
}

// From a table at `base` downwards; `level` 5 is the PML5, 1 the page table.
Translation Walk::table(LinearAddr a, PhysAddr base, unsigned level) {
    const unsigned highestLeaf = paging_.longMode && paging_.gigabytePages ? 3 : 2;
    const unsigned root = paging_.longMode ? level : 0;
    for (;; level--) {
        const unsigned shift = 12 + 9 * (level - 1);
        const Entry e = read(base + (a.value >> shift & 0x1ff) * 8, true, a, level == root ? 64 : shift + 9);
        if (!(e.value & kPresent)) return fault(0);
        const bool isLeaf = level == 1 || (level <= highestLeaf && (e.value & kLarge));
        uint64_t reserved = reservedHigh();
        if (level > highestLeaf) reserved |= kLarge;
        if (level > 1 && isLeaf) reserved |= ((1ull << shift) - 1) & ~0x1fffull;  // bit 12 is PAT
        if (e.value & reserved) return fault(pf::P | pf::RSVD);
        collect(e);
        const uint64_t frame = e.value & kFrame;
        if (isLeaf) {
            const uint64_t mask = (1ull << shift) - 1;
            return leaf(e, PhysAddr((frame & ~mask) | (a.value & mask)), mask + 1);
        }
        upper_[uppers_++] = e;
        base = PhysAddr(frame);
    }
}

Translation Walk::pae(LinearAddr a) {
    const uint64_t pdpte = paging_.pdpte[a.value >> 30 & 3];
    if (!(pdpte & kPresent)) return fault(0);
    return table(a, PhysAddr(pdpte & kFrame), 2);
}

}  // namespace

Translation walkPageTables(PhysicalMemory& memory, const PagingState& paging, LinearAddr addr, Access access,
                           bool user, bool explicitAc, Marking marking, WalkTrace* trace) {
    if (trace) trace->count = 0;
    if (!paging.enabled) return {.addr = PhysAddr(addr.value), .writable = true};
    for (;;) {
        Walk walk(memory, paging, access, user, explicitAc, marking, trace);
        Translation t = walk.translate(addr);
        if (!walk.lost()) return t;
    }
}

}  // namespace kiln
