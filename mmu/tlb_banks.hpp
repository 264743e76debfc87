// The TLBs of one processor: for each of the process-context identifiers used last (SDM vol. 3, 4.10.1) a
// bank of three, one for each way rights are judged. A bank has its own copies of global translations, which
// the manual allows; what invalidates them does so in every bank.
//
// A bank's `epoch` stands for "the translations as they are now". Whoever remembers where code lies (the
// fetch and jump caches) remembers the epoch with it; a new epoch makes all of that worthless at once.
#pragma once
#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <vector>

#include "mmu/tlb.hpp"

namespace kiln {

struct TlbBank {
    enum Mode : unsigned { Supervisor, SupervisorSmap, User };
    std::array<std::unique_ptr<Tlb>, 3> modes{std::make_unique<Tlb>(), std::make_unique<Tlb>(),
                                              std::make_unique<Tlb>()};
    uint16_t pcid = 0;
    uint64_t epoch = 0;
    uint64_t lastUsed = 0;
    uint32_t pkru = 0, pkrs = 0;  // rights under which the entries were made

    // Pages that code may have been fetched from in this epoch: a Bloom filter of one hash.
    static constexpr unsigned kFilterBits = 16384;
    std::bitset<kFilterBits> fetched;
    LargePageCover largeFetched;
    static unsigned filterBit(uint64_t linear) { return unsigned(linear >> 12 ^ linear >> 26) % kFilterBits; }
};

class TlbBanks {
  public:
    static constexpr size_t kBanks = 8;

    TlbBanks() { select(0); }

    TlbBank& current() { return *current_; }
    // Makes the bank of `pcid` the current one, with what it still knows.
    void select(uint16_t pcid);
    // Drops what was cached under other rights of protection keys, of the current bank.
    void setKeys(uint32_t pkru, uint32_t pkrs);

    void flushAll();                                 // every PCID, global pages too
    void flushNonGlobal();                           // every PCID
    void flushContext(uint16_t pcid);                // one PCID without global pages
    void flushPage(uint16_t pcid, uint64_t linear);  // one PCID without global pages
    // INVLPG: the current PCID's page, and global ones in every bank.
    void flushPage(uint64_t linear);
    void flushFaulted(uint64_t linear);  // a page fault: the current PCID's page
    void protectPage(PhysAddr page);

    // Code was fetched from a page of `size` bytes by the current bank.
    void noteFetch(uint64_t linear, uint64_t size) {
        current_->fetched.set(TlbBank::filterBit(linear));
        if (size > kPageSize) current_->largeFetched.add(linear, size);
    }
    // Whether something may remember code of the 4-KiB page at `linear`: flushPage() leaves that to the
    // caller for the current bank. (For large pages and other banks it begins a new epoch.)
    bool mayHaveFetched(uint64_t linear) const { return current_->fetched.test(TlbBank::filterBit(linear)); }

  private:
    TlbBank* find(uint16_t pcid);
    void newEpoch(TlbBank& bank);
    void flushBank(TlbBank& bank, Tlb::Scope scope);
    void flushBankPage(TlbBank& bank, uint64_t linear, Tlb::Scope scope);

    std::vector<std::unique_ptr<TlbBank>> banks_;
    TlbBank* current_ = nullptr;
    uint64_t lastEpoch_ = 0, uses_ = 0;
};

}  // namespace kiln
