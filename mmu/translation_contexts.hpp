// The translations one processor keeps, by address space. A translation context is the TLB of one address
// space, known by where its top table lies: three TLBs, one for each way rights are judged. A move to CR3
// (SDM vol. 3, 4.10.4.1) looks the context up and makes it the current one; what it knows need not be walked
// again.
//
// What of it may be kept then? A context is in one of two states:
//
//   untracked  its translations are those of a process-context identifier (4.10.1), 0 without CR4.PCIDE. They
//   go
//              as the manual says: with a move to CR3 that does not keep them, with INVPCID, and when another
//              address space takes the identifier, which then takes the context as well.
//   tracked    writes to the tables they were read from are noticed (table_tracking.hpp). Every move to CR3
//   drops
//              the stale ones; all others are what a new walk would find, so whatever the manual wants
//              invalidated is.
//
// An address space that has lost many translations in the untracked way, and comes back, is tracked from then
// on; until its tables are written so often that nothing is gained. Global translations are kept in either
// state, a copy in each context; only what the manual names invalidates them. Contexts that are not current
// learn of such things when they are selected: an invalidation of everything is a count, of one page a line
// in a log that they then read.
//
// All of this depends on what the guest does and on nothing else: not on how often an engine looks for code
// that it has seen before in the same epoch. So interpreter and translator keep the same translations.
//
// A context's `epoch` stands for "the translations as they are now". Whoever remembers where code lies (the
// fetch and jump caches) remembers the epoch with it; a new epoch makes all of that worthless at once. What
// is remembered of global pages outlives invalidations that spare them: it goes with `globalEpoch`.
//
// Not modelled: contexts in common between processors. Host code reaches a TLB from the stack pointer, beside
// the registers of the processor that runs it, so that each needs arrays of its own; what they share is which
// tables are tracked.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mmu/sparse_bits.hpp"
#include "mmu/table_tracking.hpp"
#include "mmu/tlb.hpp"

namespace kiln {

// What CR3 says.
struct AddressSpace {
    uint64_t root = 0;                 // physical address of the top table
    uint16_t pcid = 0;                 // 0 without CR4.PCIDE
    std::array<uint64_t, 4> pdptes{};  // PAE paging: as they were loaded
};

struct TranslationContext : TableUser {
    enum Mode : unsigned { Supervisor, SupervisorSmap, User };
    std::array<std::unique_ptr<Tlb>, 3> modes{std::make_unique<Tlb>(), std::make_unique<Tlb>(),
                                              std::make_unique<Tlb>()};
    static constexpr uint64_t kNoRoot = ~0ull;
    AddressSpace space{.root = kNoRoot};
    unsigned number = 0;  // among the processor's contexts
    uint64_t epoch = 0, globalEpoch = 0;
    uint64_t lastUsed = 0;
    uint32_t pkru = 0, pkrs = 0;  // rights under which the entries were made

    // Invalidations it has heard of.
    uint64_t allFlushes = 0, nonGlobalFlushes = 0, logPosition = 0;
    bool mustFlush = false;  // its identifier's translations were invalidated, or the identifier given away

    bool tracked = false;
    uint64_t gain = 0, cost = 0;  // of tracking, in translations
    unsigned selections = 0;      // since they were weighed

    // Tables that are tracked for it: a cache without misses that matter.
    struct Known {
        uint64_t at = ~0ull;
        LinearRange range{};
    };
    static constexpr unsigned kKnown = 256;
    std::array<Known, kKnown> known;

    // Pages that code may have been fetched from in this epoch, and global ones in this `globalEpoch`.
    class Fetched {
      public:
        void add(uint64_t linear, uint64_t size) {
            pages_.set(bit(linear));
            if (size > kPageSize) large_.add(linear, size);
            any_ = true;
        }
        bool mayHave(uint64_t linear) const { return pages_.test(bit(linear)); }
        bool inLarge(uint64_t linear) const { return large_.contains(linear); }
        bool any() const { return any_; }
        void clear() {
            pages_.clear();
            large_.clear();
            any_ = false;
        }

      private:
        // By a hash of 64 neighbouring pages, which programs of thousands of pages don't fill.
        static constexpr unsigned kBits = 1 << 17;
        static uint32_t bit(uint64_t linear) {
            const uint64_t word = (linear >> 18) * 0x9e3779b97f4a7c15 >> (64 - 11);
            return uint32_t(word * 64 + (linear >> 12) % 64);
        }
        static_assert(kBits == 64 << 11);
        SparseBits<kBits> pages_;
        PageCover large_;
        bool any_ = false;
    };
    Fetched fetched, globalFetched;
    bool mayHaveFetched(uint64_t linear) const {
        return fetched.mayHave(linear) || globalFetched.mayHave(linear);
    }

    size_t entries() const;
    size_t notGlobal() const;
    size_t resident() const;
};

class TranslationContexts {
  public:
    static constexpr size_t kMost = 160;
    // Host memory that the contexts of all processors together should not exceed by much.
    static constexpr size_t kBytes = 24 << 20, kFewestBytes = 4 << 20;

    // Of processor number `cpu`, one of `share` that together keep to the limit.
    TranslationContexts(PhysicalMemory& memory, unsigned cpu, unsigned share);
    ~TranslationContexts();

    TranslationContext& current() { return *current_; }
    size_t size() const { return contexts_.size(); }
    // Makes the context of an address space the current one, with what may be kept of it. `keeps`: a move to
    // CR3 with bit 63 set under CR4.PCIDE, or no move at all.
    void select(const AddressSpace& space, bool keeps);
    // Drops what was cached under other rights of protection keys, of the current context.
    void setKeys(uint32_t pkru, uint32_t pkrs);

    // A walk has found `t` for the current context; `fetch`: of code. True: tables have been put under watch
    // that were not before, and may have been written to since they were read.
    bool noteWalk(uint64_t linear, const Translation& t, const WalkTrace& trace, bool fetch);

    void flushAll();                                 // every PCID, global pages too
    void flushNonGlobal();                           // every PCID
    void flushContext(uint16_t pcid);                // one PCID without global pages
    void flushPage(uint16_t pcid, uint64_t linear);  // one PCID without global pages
    // INVLPG: the current PCID's page, and global ones in every context.
    void flushPage(uint64_t linear);
    void flushFaulted(uint64_t linear);            // a page fault: the current PCID's page
    void protectPage(PhysAddr page, bool beside);  // as Tlb has it

    // Code was fetched from a page of `size` bytes by the current context.
    void noteFetch(uint64_t linear, uint64_t size, bool global) {
        (global ? current_->globalFetched : current_->fetched).add(linear, size);
    }
    // Whether something may remember code of the 4-KiB page at `linear`: flushPage() leaves that to the
    // caller for the current context. (For large pages and other contexts it begins a new epoch.)
    bool mayHaveFetched(uint64_t linear) const { return current_->mayHaveFetched(linear); }

    // When an address space is tracked. Tests want it more often than is good.
    struct Policy {
        uint64_t worthTracking = 256;  // so many translations lost
        uint64_t mostWorth = 1 << 16;  // the same, after tracking did not pay
        unsigned weighed = 32;         // selections after which it must have paid
    } policy;

    struct Statistics {
        uint64_t hits = 0, misses = 0, evictions = 0;  // of contexts, at moves to CR3
        uint64_t walks = 0;                            // of the guest's tables
        uint64_t kept = 0;                             // translations that such moves left
        uint64_t stale = 0;                            // tracked ones that were dropped, since tables changed
        uint64_t purged = 0;                           // untracked ones that were dropped
        uint64_t begun = 0, ended = 0;                 // tracking of contexts
    };
    const Statistics& statistics() const { return statistics_; }
    std::string report() const;

  private:
    struct Edit {
        uint64_t address = 0;  // of a physical page to protect, or a linear one to drop where it is global
        bool protects = false, beside = false;
    };
    static constexpr size_t kLog = 512;
    // What is remembered of address spaces beyond their contexts.
    struct Experience {
        uint64_t root = TranslationContext::kNoRoot;
        uint64_t lost = 0;           // translations, since it was last tracked
        uint64_t worthTracking = 0;  // so many
    };
    static constexpr unsigned kExperiences = 256;

    TranslationContext* find(uint64_t root);
    TranslationContext* ownerOf(uint16_t pcid);
    Experience& experienceOf(uint64_t root);
    TranslationContext& contextFor(const AddressSpace& space);
    TranslationContext* oldest();
    TranslationContext& take();
    void setRoot(TranslationContext& c, uint64_t root);
    void empty(TranslationContext& c, bool release);
    void track(TranslationContext& c, bool tracked);
    size_t resident() const;
    void settle(TranslationContext& c);
    void log(Edit edit);
    void newEpoch(TranslationContext& c, Tlb::Scope scope);
    size_t flush(TranslationContext& c, Tlb::Scope scope);
    void dropPage(TranslationContext& c, uint64_t linear, Tlb::Scope scope);
    void dropStale(TranslationContext& c);
    void dropNonGlobal(TranslationContext& c);
    void lose(TranslationContext& c);
    void weigh(TranslationContext& c);

    PhysicalMemory& memory_;
    const unsigned cpu_;
    const size_t mostBytes_, most_;
    std::vector<std::unique_ptr<TranslationContext>> contexts_;
    static constexpr unsigned kHints = 256;
    static unsigned hash(uint64_t root) { return unsigned((root >> 5) * 0x9e3779b97f4a7c15 >> 56); }
    std::array<uint8_t, kHints> hints_{};    // which may have a root
    std::array<uint8_t, 4096> pcidOwner_{};  // who had a PCID last: its number and 1
    std::array<Experience, kExperiences> experiences_;
    TranslationContext* current_ = nullptr;
    uint64_t lastEpoch_ = 0, uses_ = 0;
    uint64_t allFlushes_ = 0, nonGlobalFlushes_ = 0, logged_ = 0;
    std::array<Edit, kLog> log_;
    PageCover global_;  // what global pages there have been
    std::vector<LinearRange> stale_;
    Statistics statistics_;
};

}  // namespace kiln
