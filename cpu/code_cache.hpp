// The decoded blocks of one processor, keyed by physical address and code mode. Overwriting code kills the
// blocks it touches: every instruction of a dead block is replaced by one that leaves to the run loop, so
// that even a block that overwrites itself stops before its next instruction.
//
// A dead block lies dormant where it was: code that changes is mostly entered where it was entered before,
// and then the new instructions are put into the same block, to which all links and jump caches still lead.
// What has stayed dormant when there are many is freed.
//
// Where only a constant inside an instruction changes, as programs do that patch what they run, the block
// lives on with that one decoded anew.
//
// Who overwrites code seldom stops at the first instruction: a write behind the last one has everything die
// that lies before it, farther each time, so that what comes next is written beside code.
//
// When there is too much, blocks that also exist as host code become thin: they are seldom interpreted, and
// decoded again when they are.
#pragma once
#include <boost/container/small_vector.hpp>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "cpu/hot_code.hpp"
#include "mmu/physical_memory.hpp"

namespace kiln {

class Decoder;

class CodeCache {
  public:
    // Of processor number `cpu`, one of `share` that together keep to the limit.
    CodeCache(PhysicalMemory& memory, unsigned cpu = 0, unsigned share = 1);

    Block* find(PhysAddr start, CodeMode mode, bool single) const;
    Block* insert(std::unique_ptr<Block> block);
    // A dead block of this key, or null. When its instructions are anew what is at its address it lives
    // again; not while it runs.
    Block* dormant(PhysAddr start, CodeMode mode, bool single) const;
    void revive(Block& block);
    // A live block with an instruction that begins at `at`, behind its own begin: the one that reaches
    // farthest. Null: there is none.
    const Block* covering(PhysAddr at, CodeMode mode) const;
    void drop(Block* block) {
        memory_.threads.exclusively([&] { kill(block); });
    }
    void flush();  // all blocks die
    // What is host code becomes thin. While no processor runs.
    void thinOut();
    void thicken(Block& block, std::vector<Insn>&& insns);

    // Frees dead blocks when that is worth while. Only when no processor is inside a block; the listeners
    // forget their pointers first.
    bool hasDead() const {
        return dormant_ + dead_.size() >= wanted_ || deadBytes_ >= kMostDeadBytes || bytes_ >= limit_;
    }
    void collect();
    // Called before blocks are freed: cached pointers to them lead to the leaving instruction, and must go.
    std::vector<std::function<void()>> onDeath;
    HotCode* hot = nullptr;  // who else runs blocks
    // The processor: what it decodes with, and which instruction it is in the midst of.
    struct User {
        const Decoder* decoder = nullptr;
        const Insn* const* at = nullptr;
    } user;

    size_t blocks() const { return blocks_.size() - dormant_; }
    size_t bytes() const { return bytes_; }  // that those take, about
    uint64_t cooled() const { return cooled_; }
    uint64_t killed() const { return killed_; }
    uint64_t revived() const { return revived_; }
    uint64_t patched() const { return patched_; }

  private:
    // The bytes of a page that a block lies on.
    struct Place {
        uint16_t begin, end;
        Block* block;
    };
    using BlockList = boost::container::small_vector<Place, 6>;  // most pages have few
    static Place placeOn(Block& block, PhysAddr page);
    // Then blocks become thin, and those die that have not been entered for a while; when there are twice as
    // many of others, or four times as many and nobody knows how often they are entered, all of them. For all
    // processors together, but no less for each than an operating system's working set.
    static constexpr size_t kMostBytes = 24 << 20, kFewestBytes = 8 << 20;
    static uint64_t key(PhysAddr start, CodeMode mode, bool single) {
        return start.value << 3 | uint64_t(mode) << 1 | uint64_t(single);
    }
    Block* lookUp(uint64_t key) const;
    void enter(Block& block);
    void makeRoom();
    void codeWritten(PhysAddr addr, uint64_t size);
    bool patch(std::span<Block* const> blocks, PhysAddr addr, uint64_t size);
    bool patch(Block& block, uint64_t offset, uint64_t size);
    bool reach(PhysAddr page, uint64_t& begin, uint64_t& end, std::span<Block* const> hit);
    void kill(Block* block);
    void keepLines(PhysAddr page, PageMarks* marks);
    void unlink(Block* block, PhysAddr page);

    PhysicalMemory& memory_;
    const unsigned cpu_;
    const size_t mostBytes_;
    size_t limit_ = mostBytes_;  // at which a look at all of them is worth while
    std::unordered_map<uint64_t, std::unique_ptr<Block>> blocks_;
    // In front of it: what was found last for a hash of the key. A large map costs several cache misses.
    struct Found {
        uint64_t key = 0;
        Block* block = nullptr;
    };
    static constexpr unsigned kFoundBits = 15;
    Found& foundAt(uint64_t key) const { return found_[key * 0x9e3779b97f4a7c15 >> (64 - kFoundBits)]; }
    mutable std::vector<Found> found_ = std::vector<Found>(size_t(1) << kFoundBits);
    std::unordered_map<uint64_t, BlockList> pages_;  // page address -> blocks with bytes on it
    // Freeing means a look at what is left on the pages of the dead, and new jump caches: many at once cost
    // little each.
    static constexpr size_t kWorthIt = 2048;
    size_t dormant_ = 0, wanted_ = kWorthIt;
    static constexpr size_t kMostDeadBytes = 8 << 20;
    size_t deadBytes_ = 0;                      // of all dead blocks, about
    std::vector<Block*> died_;                  // since the last collection, some of which live again
    std::vector<std::unique_ptr<Block>> dead_;  // those whose place another one has taken
    size_t bytes_ = 0;
    // What the last write to code had die.
    struct Overwritten {
        PhysAddr page;
        uint64_t first = 0, begin = 0, end = 0;  // where it was written, and all of it
        uint64_t reach = 0;                      // bytes that died before their time
    } overwritten_;
    uint64_t killed_ = 0, revived_ = 0, cooled_ = 0, patched_ = 0;
};

}  // namespace kiln
