// The software TLB. The fast path of a load is three instructions of arithmetic and one compare:
//
//     index = linear >> 12 (low bits)
//     tag   = (linear + size - 1) & ~4095      the page of the access's *last* byte, so a page-crossing
//     access misses hit   = entry[index].readTag == tag      host address = linear + addend
//
// A tag that may not be used directly (registers, watched pages) has bit 0 set and so never matches.
// Large pages are kept in fragments of 4 KiB, each of which knows the size of its page.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "mmu/address.hpp"
#include "mmu/page_walk.hpp"

namespace kiln {

// For each half of the address space the smallest aligned range around all large pages seen: what lies
// outside is in none of them.
class LargePageCover {
  public:
    void add(uint64_t linear, uint64_t size) {
        Range& r = halves_[linear >> 63];
        uint64_t mask = ~(size - 1);
        if (r.used) mask &= r.mask;
        while (r.used && (linear ^ r.base) & mask) mask <<= 1;
        r = {linear & mask, mask, true};
    }
    bool contains(uint64_t linear) const {
        const Range& r = halves_[linear >> 63];
        return r.used && !((linear ^ r.base) & r.mask);
    }
    void clear() { halves_ = {}; }

  private:
    struct Range {
        uint64_t base = 0, mask = 0;
        bool used = false;
    };
    std::array<Range, 2> halves_{};
};

class Tlb {
  public:
    static constexpr unsigned kEntries = 2048;
    static constexpr uint64_t kNone = ~0ull;

    struct Entry {
        uint64_t readTag = kNone, writeTag = kNone;  // linear page; bit 0 set: known, but not by pointer
        uintptr_t addend = 0;                        // host address minus linear address
        uint64_t page = 0;                           // guest-physical page, and the bits below
    };
    // Low bits of Entry::page. Sizes: 4 KiB, 2 MiB, 4 MiB, 1 GiB.
    static constexpr uint64_t kGlobal = 1, kUserPage = 2;
    static constexpr unsigned kSizeShift = 2, kKeyShift = 4;

    // Which entries an invalidation is about.
    enum class Scope : uint8_t { All, NonGlobal, Global };

    Entry& at(uint64_t linear) { return entries_[slotOf(linear)]; }
    // Puts an entry in the slot of `linear`, remembering that the slot is filled.
    void fill(uint64_t linear, Entry entry, const Translation& t) {
        Entry& slot = at(linear);
        if (slot.readTag == kNone) filled_.push_back(slotOf(linear));
        entry.page |= (t.global ? kGlobal : 0) | (t.userPage ? kUserPage : 0) | uint64_t(t.key) << kKeyShift;
        if (t.pageSize > kPageSize) {
            entry.page |= sizeClass(t.pageSize) << kSizeShift;
            large_.add(linear, t.pageSize);
        }
        keys_[t.userPage] = uint16_t(keys_[t.userPage] | 1u << t.key);
        slot = entry;
    }
    void flush(Scope scope = Scope::All) {
        flushWhere([&](const Entry& e) { return inScope(e, scope); });
        if (!filled_.empty()) return;
        large_.clear();
        keys_ = {};
    }
    // Every fragment of the page that holds `linear`.
    void flushPage(uint64_t linear, Scope scope) {
        Entry& slot = at(linear);
        if (covers(slot, linear, kPageSize) && inScope(slot, scope)) vacate(slot);
        if (!large_.contains(linear)) return;
        static constexpr uint64_t kSizes[4] = {kPageSize, 2 << 20, 4 << 20, 1 << 30};
        flushWhere([&](const Entry& e) {
            return covers(e, linear, kSizes[e.page >> kSizeShift & 3]) && inScope(e, scope);
        });
    }
    // The rights of these protection keys have changed: one bit a key.
    void flushKeys(uint16_t userKeys, uint16_t supervisorKeys) {
        if (!(keys_[0] & supervisorKeys) && !(keys_[1] & userKeys)) return;
        flushWhere([&](const Entry& e) {
            return (e.page & kUserPage ? userKeys : supervisorKeys) >> (e.page >> kKeyShift & 15) & 1;
        });
    }
    // Withdraws direct write access to a physical page that has come under watch.
    void protectPage(PhysAddr page) {
        for (uint16_t i : filled_)
            if ((entries_[i].page & ~kPageMask) == page.value) entries_[i].writeTag |= 1;
    }

  private:
    static uint16_t slotOf(uint64_t linear) { return uint16_t(linear >> 12 & (kEntries - 1)); }
    static uint64_t sizeClass(uint64_t size) { return size > 4u << 20 ? 3 : size > 2u << 20 ? 2 : 1; }
    static bool covers(const Entry& e, uint64_t linear, uint64_t size) {
        return e.readTag != kNone && !((e.readTag ^ linear) & ~(size - 1));
    }
    static bool inScope(const Entry& e, Scope scope) {
        return scope == Scope::All || bool(e.page & kGlobal) == (scope == Scope::Global);
    }
    // The slot stays in `filled_`, so its tag differs from that of one never filled.
    static void vacate(Entry& e) {
        e = Entry{};
        e.readTag = kNone & ~1ull;
    }
    template <class Condition>
    void flushWhere(Condition condition) {
        std::erase_if(filled_, [&](uint16_t i) {
            if (!condition(entries_[i])) return false;
            entries_[i] = Entry{};
            return true;
        });
    }

    std::array<Entry, kEntries> entries_;
    std::vector<uint16_t> filled_;
    LargePageCover large_;
    std::array<uint16_t, 2> keys_{};  // seen on supervisor and on user pages
};

}  // namespace kiln
