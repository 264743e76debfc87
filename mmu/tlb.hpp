// The software TLB: an array indexed by bits 12 to 31 of the linear address, so that 4 GiB of neighbouring
// pages never compete for a place. The fast path of a load is four instructions of arithmetic and one
// compare; what it reads lies in one line of the host's cache:
//
//     index = bits 12..31 of linear
//     tag   = (linear + size - 1) & ~4095      the page of the access's *last* byte: one that crosses misses
//     hit   = entries[index].readTag == tag    host address = linear + entries[index].addend
//
// A tag that may not be used directly (registers, watched pages) has bit 11 set and so never matches, not
// even when the lowest bits of an address that must be aligned take part in the comparison. A write tag with
// bit 9 as well is of plain memory whose page holds code, or a page table under watch: what lies beside those
// may be written by pointer all the same. The array takes
// 32 MiB of address space, of which only touched pages cost memory: zero means empty. (Tag 0 is page 0's;
// where that could match, at index 0 and at the last one for accesses that wrap, empty is kNone.) Large pages
// are kept in fragments of 4 KiB, each of which knows the size of its page.
#pragma once
#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <vector>

#include "mmu/address.hpp"
#include "mmu/page_walk.hpp"

namespace kiln {

// For each half of the address space the smallest aligned range around all pages of a kind seen: what lies
// outside is in none of them.
class PageCover {
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
    static constexpr unsigned kIndexBits = 20;
    static constexpr uint32_t kEntries = 1u << kIndexBits;
    static constexpr uint64_t kNone = ~0ull, kSlow = 0x800, kBeside = 0x200;

    // No initialisers: what nobody writes to stays the host's zero page.
    struct Entry {
        uint64_t readTag, writeTag;  // linear page; with kSlow: known, but not by pointer
        uintptr_t addend;            // host address minus linear address
        uint64_t page;               // guest-physical page, and the bits below
    };
    static constexpr unsigned kEntryBits = 5;
    static_assert(sizeof(Entry) == 1 << kEntryBits);
    // Low bits of Entry::page. Sizes: 4 KiB, 2 MiB, 4 MiB, 1 GiB.
    static constexpr uint64_t kGlobal = 1, kUserPage = 2;
    static constexpr unsigned kSizeShift = 2, kKeyShift = 4;

    // Which entries an invalidation is about.
    enum class Scope : uint8_t { All, NonGlobal, Global };

    // Address space comes from the host, zeroed; throws std::bad_alloc when it has none.
    static void* operator new(size_t size);
    static void operator delete(void* at, size_t size);

    Tlb() { begin(); }
    Tlb(const Tlb&) = delete;
    Tlb& operator=(const Tlb&) = delete;

    // -- the fast path
    uint64_t readTag(uint64_t linear) const { return entries_[indexOf(linear)].readTag; }
    uint64_t writeTag(uint64_t linear) const { return entries_[indexOf(linear)].writeTag; }
    uintptr_t addend(uint64_t linear) const { return entries_[indexOf(linear)].addend; }
    // The host's address of so many bytes in one page, at most 4096; null: the entry does not know them.
    uint8_t* find(uint64_t linear, unsigned bytes, bool write) const {
        const Entry& e = entries_[indexOf(linear)];
        const uint64_t tag = write ? e.writeTag : e.readTag, page = ~uint64_t(kPageSize - 1);
        const bool there = tag == (linear & page) && tag == ((linear + bytes - 1) & page);
        return there ? reinterpret_cast<uint8_t*>(linear + e.addend) : nullptr;
    }

    // Room of kRoom bytes for who runs code against this TLB and wants to reach it and the entries from one
    // address. The 64 KiB below belong to it as well: a stack may grow there.
    static constexpr size_t kRoom = 0x510000;
    std::byte* room() { return room_; }
    // So many bytes more of it hold something; release() takes them all.
    void noteRoom(size_t bytes) { roomBytes_ += bytes; }
    // Of the first entry's parts, from room().
    static constexpr int32_t kReadTag = kRoom, kWriteTag = kRoom + 8, kAddend = kRoom + 16,
                             kPage = kRoom + 24;

    Entry& at(uint64_t linear) { return entries_[indexOf(linear)]; }
    // Puts an entry in the slot of `linear`, remembering that the slot is filled.
    void fill(uint64_t linear, Entry entry, const Translation& t);
    size_t flush(Scope scope = Scope::All);  // how many went
    // What is not global and in one of the ranges; how many went.
    size_t flushRanges(std::span<const LinearRange> ranges);
    void flushPage(uint64_t linear, Scope scope);  // every fragment of the page that holds `linear`
    // The rights of these protection keys have changed: one bit a key.
    void flushKeys(uint16_t userKeys, uint16_t supervisorKeys);
    // Withdraws direct write access to a physical page that has come under watch. Writes go the slow way from
    // then on; `beside`: past what is watched, by pointer (kBeside).
    void protectPage(PhysAddr page, bool beside);
    // Changes whenever a translation or a right may have been withdrawn. (That a fill takes another page's
    // place withdraws nothing.)
    uint64_t generation() const { return generation_; }

    size_t entries() const { return filled_.size(); }  // at least as many as there are
    size_t notGlobal() const { return notGlobal_; }
    static constexpr size_t kOwnBytes = 48 << 10;  // taken when there is nothing in it yet
    // About the host's memory that this takes, and giving it back: empties everything, the room included.
    size_t resident() const { return kOwnBytes + touchedPages_ * kBytesPerTouchedPage + roomBytes_; }
    void release();

  private:
    // A host page of the entries, and half of one of the chains.
    static constexpr uint32_t kPerHostPage = kPageSize / sizeof(Entry);
    static constexpr size_t kBytesPerTouchedPage = kPageSize + kPageSize / 2;
    // A slot that was vacated stays in `filled_`, and has this read tag.
    static constexpr uint64_t kVacated = 0x400;
    static constexpr uint32_t indexOf(uint64_t linear) { return uint32_t(linear) >> 12; }
    static constexpr uint64_t emptyTag(uint32_t index) {
        return index == 0 || index == kEntries - 1 ? kNone : 0;
    }
    static bool covers(const Entry& e, uint64_t linear, uint64_t size) {
        return e.readTag != kVacated && !((e.readTag ^ linear) & ~(size - 1));
    }
    static bool holds(const Entry& e, uint32_t index) {
        return e.readTag != emptyTag(index) && e.readTag != kVacated;
    }
    static bool inScope(const Entry& e, Scope scope) {
        return scope == Scope::All || bool(e.page & kGlobal) == (scope == Scope::Global);
    }
    // Filled slots of the same physical page (or one that shares its hash) are chained by index + 1.
    static constexpr unsigned kChains = 4096;
    static uint32_t chainOf(uint64_t page) { return uint32_t(page >> 12 ^ page >> 24) & (kChains - 1); }
    void begin() {
        for (uint32_t n : {0u, kEntries - 1}) entries_[n].readTag = entries_[n].writeTag = kNone;
    }
    void chain(uint32_t index);
    void unchain(uint32_t index);
    template <class Condition>
    size_t flushWhere(Condition condition);

    std::vector<uint32_t> filled_;
    uint64_t generation_ = 0;
    PageCover large_;
    std::bitset<kEntries / kPerHostPage> touched_;  // pages of the entries
    size_t touchedPages_ = 0, notGlobal_ = 0, roomBytes_ = 0;
    std::array<uint16_t, 2> keys_{};  // seen on supervisor and on user pages
    [[maybe_unused]] alignas(kPageSize) std::byte below_[64 << 10];
    std::byte room_[kRoom];
    Entry entries_[kEntries];
    uint32_t chains_[kChains];
    uint32_t nextInChain_[kEntries];
};

}  // namespace kiln
