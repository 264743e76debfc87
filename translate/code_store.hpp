// The host code of a machine: translations of blocks (host_block.hpp) with their sites, traces and links,
// for all its processors. Each of those has decoded blocks of its own (CodeCache), and a Translator that runs
// what is here: a block that one of them has translated already is adopted by the others. Overwritten code
// kills every processor's blocks of it, and the first one's death is the translation's.
//
// When the region of the code buffer that is being filled is full, the oldest one is evicted: its
// translations and traces die, are counted anew if they are still in use, and what they took is freed as soon
// as no processor can be inside any more.
//
// With a thread for each processor, what changes here does so under lock(), which is never held while waiting
// for other threads, and what is taken from under code that may be running changes exclusively()
// (guest_threads.hpp) besides: heads of translations and jumps that lead somewhere already. Free jumps are
// led to their targets while others run.
#pragma once
#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "mmu/physical_memory.hpp"
#include "translate/code_buffer.hpp"
#include "translate/drafting_thread.hpp"
#include "translate/host_block.hpp"
#include "translate/options.hpp"
#include "translate/promotions.hpp"
#include "translate/site_table.hpp"
#include "translate/surroundings.hpp"
#include "translate/thunks.hpp"

namespace kiln {

class CodeStore {
  public:
    // `shared` by several processors. `cold` is the handler that counts how often a block is entered,
    // `callOut` what host code calls. Throws std::runtime_error when the host gives no memory for code.
    CodeStore(const TranslatorOptions& options, PhysicalMemory& memory, bool shared, Handler cold,
              CallOut callOut, CallOut promoted);
    CodeStore(const CodeStore&) = delete;
    CodeStore& operator=(const CodeStore&) = delete;

    const TranslatorOptions options;
    const bool shared;
    CodeBuffer buffer;
    const Thunks thunks;
    Promotions promotions;
    const std::unique_ptr<DraftingThread> drafting;  // null: drafts are made where they are wanted
    SiteTable sites;

    // Since when a processor has been running host code: the epoch() then, or 0.
    using Runner = std::atomic<uint64_t>;
    void add(const Runner& runner) { runners_.push_back(&runner); }
    void remove(const Runner& runner) { std::erase(runners_, &runner); }
    uint64_t epoch() const { return epoch_.load(std::memory_order_acquire); }
    // Another number whenever places in host code, or marks of pages, may mean something else.
    uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

    // -- keeping threads apart
    using Lock = std::unique_lock<std::mutex>;
    [[nodiscard]] Lock lock() { return threaded_ ? Lock(mutex_) : Lock(); }
    // May step aside: afterwards code can be dead, and translations evicted.
    template <class F>
    void exclusively(F&& f) {
        memory_.threads.exclusively([&] {
            const Lock held = lock();
            f();
        });
    }

    // Sees to it that there is room. Not under the lock; `self` is about to leave host code, or outside.
    bool makeRoom(const Runner* self);

    // -- everything from here on under the lock
    bool hasRoom() const;
    HostBlock* find(const Block& block, uint64_t hostFor);
    HostBlock& add(const Block& block, uint64_t hostFor);  // in the region that is filled, without code
    void withdraw(HostBlock& t);                           // the last one that was added
    // It has its code, in which so many instructions begin at these places.
    void enter(HostBlock& t, const EmittedCode& code, std::span<const uint16_t> starts);
    // Puts a draft, of a block or with all blocks named, into the region. There must be room. Nothing in
    // `main`: the code can't be there.
    EmittedCode place(Draft& draft, HostBlock* block = nullptr);
    // Entries that a block waits for.
    uint32_t heat(unsigned doublings) const {
        return uint32_t(std::min<uint64_t>(uint64_t(options.tier1) << doublings, UINT32_MAX));
    }
    static void adopt(HostBlock& t, Block& block);
    void kill(HostBlock& t);           // exclusively
    void wentElsewhere(HostBlock& t);  // some code of it may be in another region than the rest
    void demote(uint32_t site) { promotions.demote(sites, site, thunks.callOut); }  // exclusively
    const Block* keep(const HostBlock& t, std::unique_ptr<Block> alone);

    void link(uint32_t site, HostBlock& target, uint32_t mark);
    void lead(const Site& site, const HostBlock& target);

    Trace* addTrace(HostBlock& head, std::span<const CodeStep> steps, bool loop);  // null: too many
    void withdrawTrace();
    void enterTrace(Trace& trace);  // it has its code. Exclusively
    void end(Trace& trace);         // exclusively
    bool isDead(const Site& s) const {
        return s.block->dead.load(std::memory_order_relaxed) ||
               (s.trace && !traceLives_[s.trace].load(std::memory_order_relaxed));
    }

    uint32_t mark(uint64_t linearPage, PhysAddr page);
    Surroundings surroundings(const Surroundings& s) { return known_.find(s); }

    const HostBlock* at(PhysAddr place, CodeMode mode) const;  // null: nothing there is translated
    template <class F>
    void eachTrace(F&& f) const {
        for (const auto& r : content_)
            for (const auto& t : r.traces)
                if (traceLives_[t->number]) f(*t);
    }
    size_t translations() const { return live_; }
    uint64_t evictions() const { return evictions_; }      // of regions
    uint64_t tracesEnded() const { return tracesEnded_; }  // that lost a block

    const std::shared_ptr<InlineTraps> inlineTraps = std::make_shared<InlineTraps>();
    Drafter drafter;  // of what is translated where it is wanted
    Draft draft;

  private:
    struct Key {
        uint64_t start, hostFor;
        bool operator==(const Key&) const = default;
        struct Hash {
            size_t operator()(const Key& k) const {
                return size_t((k.start ^ k.hostFor << 20 ^ k.hostFor >> 20) * 0x9e3779b97f4a7c15);
            }
        };
    };
    static Key keyOf(PhysAddr start, CodeMode mode, uint64_t hostFor) {
        return {start.value << 2 | uint64_t(mode), hostFor};
    }
    struct Pages {
        uint64_t linear, physical;
        bool operator==(const Pages&) const = default;
        struct Hash {
            size_t operator()(const Pages& p) const {
                return size_t((p.linear >> 12 ^ p.physical << 9) * 0x9e3779b97f4a7c15);
            }
        };
    };
    // What belongs to a region of the buffer.
    struct Content {
        std::deque<HostBlock> translations;
        std::vector<std::unique_ptr<Trace>> traces;
        std::vector<std::unique_ptr<Block>> alone;  // Site::alone
        std::vector<HostBlock*> guests;             // of other regions, with code in this one
        bool evicted = true;
        uint64_t evictedAt = 0;
    };
    // Of tables that only grow.
    bool full() const { return known_.full() || marks_.size() >= kMostMarks; }
    void evict(unsigned region);
    bool isLeft(const Content& region, const Runner* self) const;
    void open(unsigned region);
    void unlink(Site& site);
    unsigned nextRegion() const { return (buffer.region() + 1) % buffer.regions(); }

    PhysicalMemory& memory_;
    const bool threaded_;
    std::mutex mutex_;
    const Handler cold_;
    std::vector<const Runner*> runners_;
    std::atomic<uint64_t> epoch_{1}, generation_{1};
    std::deque<Content> content_;  // by region
    std::unordered_map<Key, HostBlock*, Key::Hash> byPlace_;
    static constexpr size_t kMostMarks = 500'000;
    std::unordered_map<Pages, uint32_t, Pages::Hash> marks_;
    uint32_t lastMark_ = 0;
    KnownSurroundings known_;
    static constexpr unsigned kMostTraces = 0xffff;
    std::unique_ptr<std::atomic<bool>[]> traceLives_;
    std::vector<uint16_t> freeTraces_;  // numbers
    size_t live_ = 0;
    uint64_t evictions_ = 0, tracesEnded_ = 0;
};

}  // namespace kiln
