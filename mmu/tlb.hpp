// The software TLB. The fast path of a load is three instructions of arithmetic and one compare:
//
//     index = linear >> 12 (low bits)
//     tag   = (linear + size - 1) & ~4095      the page of the access's *last* byte, so a page-crossing
//     access misses hit   = entry[index].readTag == tag      host address = linear + addend
//
// A tag that may not be used directly (registers, watched pages) has bit 0 set and so never matches.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "mmu/address.hpp"

namespace kiln {

class Tlb {
  public:
    static constexpr unsigned kEntries = 2048;
    static constexpr uint64_t kNone = ~0ull;

    struct Entry {
        uint64_t readTag = kNone, writeTag = kNone;  // linear page; bit 0 set: known, but not by pointer
        uintptr_t addend = 0;                        // host address minus linear address
        uint64_t page = 0;                           // guest-physical page | kGlobal | kWritable
    };
    static constexpr uint64_t kGlobal = 1, kWritable = 2;  // low bits of Entry::page

    Entry& at(uint64_t linear) { return entries_[linear >> 12 & (kEntries - 1)]; }
    // Puts an entry in the slot of `linear`, remembering that the slot is filled.
    void fill(uint64_t linear, const Entry& entry, bool large) {
        Entry& slot = at(linear);
        if (slot.readTag == kNone) filled_.push_back(uint16_t(linear >> 12 & (kEntries - 1)));
        slot = entry;
        hasLarge_ |= large;
    }
    void flush() {
        for (uint16_t i : filled_) entries_[i] = Entry{};
        filled_.clear();
        hasLarge_ = false;
    }
    void flushNonGlobal() {
        std::erase_if(filled_, [&](uint16_t i) {
            if (entries_[i].page & kGlobal) return false;
            entries_[i] = Entry{};
            return true;
        });
    }
    // INVLPG. A large page may have left fragments in many slots: then everything goes.
    void flushPage(uint64_t linear) {
        if (hasLarge_) return flush();
        Entry& slot = at(linear);
        if ((slot.readTag & ~kPageMask) == (linear & ~kPageMask)) {
            slot.readTag = kNone & ~1ull, slot.writeTag = kNone;
        }
    }
    // Withdraws direct write access to a physical page that has come under watch.
    void protectPage(PhysAddr page) {
        for (uint16_t i : filled_)
            if ((entries_[i].page & ~kPageMask) == page.value) entries_[i].writeTag |= 1;
    }

  private:
    std::array<Entry, kEntries> entries_;
    std::vector<uint16_t> filled_;
    bool hasLarge_ = false;
};

}  // namespace kiln
