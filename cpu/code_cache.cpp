#include "cpu/code_cache.hpp"

#include <algorithm>

#include "cpu/handlers.hpp"

namespace kiln {

namespace {

uint64_t bytesOnFirstPage(const Block& b) {
    return std::min<uint64_t>(b.bytes, kPageSize - b.start.pageOffset());
}

// Where a block lies on a page: one that crosses has its tail at the start of the second.
struct Extent {
    uint64_t offset, size;
};
Extent extentOn(const Block& b, PhysAddr page) {
    const uint64_t head = bytesOnFirstPage(b);
    if (b.crosses && b.second == page) return {0, b.bytes - head};
    return {b.start.pageOffset(), head};
}

// With what its places in the maps and lists take.
size_t bytesOf(const Block& b) { return sizeof(Block) + 128 + b.insns.size() * sizeof(Insn); }

}  // namespace

CodeCache::CodeCache(PhysicalMemory& memory, unsigned cpu, unsigned share)
    : memory_(memory), cpu_(cpu), mostBytes_(std::max(kMostBytes / share, kFewestBytes)) {
    memory_.onCodeWrite.push_back([this](PhysAddr addr, uint64_t size) { codeWritten(addr, size); });
    // What lies at an address may be other memory now (PAM registers switch between ROM and RAM).
    memory_.onChange.push_back([this] { flush(); });
}

Block* CodeCache::lookUp(uint64_t k) const {
    Found& f = foundAt(k);
    if (f.block && f.key == k) return f.block;
    auto it = blocks_.find(k);
    if (it == blocks_.end()) return nullptr;
    f = {k, it->second.get()};
    return f.block;
}

Block* CodeCache::find(PhysAddr start, CodeMode mode, bool single) const {
    Block* b = lookUp(key(start, mode, single));
    return b && !b->dead ? b : nullptr;
}

Block* CodeCache::dormant(PhysAddr start, CodeMode mode, bool single) const {
    Block* b = lookUp(key(start, mode, single));
    return b && b->dead ? b : nullptr;
}

Block* CodeCache::insert(std::unique_ptr<Block> block) {
    Block* b = block.get();
    const uint64_t k = key(b->start, b->mode, b->single);
    if (Block* before = dormant(b->start, b->mode, b->single)) {
        foundAt(k) = {};
        dormant_--;
        dead_.push_back(std::move(blocks_[k]));
        b->deaths = before->deaths;
    }
    enter(*b);
    blocks_[k] = std::move(block);
    if (hot && !b->single) hot->born(*b);
    return b;
}

void CodeCache::revive(Block& block) {
    dormant_--;
    revived_++;
    enter(block);
    block.dead = false;
    if (hot && !block.single) hot->born(block);
}

// Marking may let other threads in, so the maps change when it is done.
void CodeCache::enter(Block& block) {
    const uint64_t first = bytesOnFirstPage(block);
    block.marks = memory_.markCode(block.start, first, cpu_);
    if (block.crosses) block.secondMarks = memory_.markCode(block.second, block.bytes - first, cpu_);
    pages_[block.start.page().value].push_back(&block);
    bytes_ += bytesOf(block);
    if (block.crosses) pages_[block.second.value].push_back(&block);
}

void CodeCache::unlink(Block* block, PhysAddr page) {
    auto it = pages_.find(page.value);
    if (it == pages_.end()) return;
    BlockList& list = it->second;
    auto at = std::find(list.begin(), list.end(), block);
    if (at == list.end()) return;
    *at = list.back();
    list.pop_back();
    if (list.empty()) pages_.erase(it);
}

void CodeCache::kill(Block* block) {
    if (block->dead) return;  // another thread has been here meanwhile
    block->dead = true;
    bytes_ -= bytesOf(*block);
    block->deaths += block->deaths < 255;
    for (Insn& i : block->insns) i.run = leaveDeadBlock;
    if (hot && !block->single) hot->died(*block);
    unlink(block, block->start.page());
    PhysicalMemory::unmarkCode(block->marks);
    if (block->crosses) {
        unlink(block, block->second);
        PhysicalMemory::unmarkCode(block->secondMarks);
    }
    if (!block->listed) died_.push_back(block);
    block->listed = true;
    dormant_++;
    killed_++;
}

void CodeCache::codeWritten(PhysAddr addr, uint64_t size) {
    auto page = pages_.find(addr.page().value);
    if (page == pages_.end()) return;
    const uint64_t begin = addr.pageOffset(), end = begin + size;
    boost::container::small_vector<Block*, 32> hit;
    for (Block* b : page->second) {
        const Extent e = extentOn(*b, addr.page());
        if (begin < e.offset + e.size && e.offset < end) hit.push_back(b);
    }
    for (Block* b : hit) kill(b);
    if (!hit.empty() && !memory_.threads.several())
        keepLines(addr.page(),
                  hit[0]->crosses && hit[0]->second == addr.page() ? hit[0]->secondMarks : hit[0]->marks);
}

// Lines without code any more are unmarked, if no other processor has code on the page, and nobody watches
// one.
void CodeCache::keepLines(PhysAddr page, PageMarks* marks) {
    auto left = pages_.find(page.value);
    if (!marks || left == pages_.end() || marks->blocks != left->second.size()) return;
    uint64_t lines = 0;
    for (const Block* b : left->second) {
        const Extent e = extentOn(*b, page);
        lines |= PhysicalMemory::lineMask(e.offset, e.size);
    }
    PhysicalMemory::keepLines(marks, lines);
}

void CodeCache::thinOut() {
    for (auto& [k, b] : blocks_) {
        if (b->dead || !b->hostBlock || b->count < 3 || b->thin()) continue;
        const Insn first = b->insns[0];
        Insn rest = b->insns[1];
        rest.run = thickenBlock;
        bytes_ -= bytesOf(*b);
        b->insns = {first, rest};
        bytes_ += bytesOf(*b);
    }
}

void CodeCache::thicken(Block& block, std::vector<Insn>&& insns) {
    bytes_ -= bytesOf(block);
    insns[0].run = block.insns[0].run;
    block.insns = std::move(insns);
    bytes_ += bytesOf(block);
}

void CodeCache::makeRoom() {
    if (hot)
        memory_.threads.exclusively([&] {
            thinOut();
            for (auto& [k, b] : blocks_) {
                if (b->dead || b->single || !hot->cools(*b)) continue;
                kill(b.get());
                cooled_++;
            }
        });
    if (bytes_ > (hot ? 2 : 4) * mostBytes_) flush();
    limit_ = std::max(mostBytes_, bytes_ + mostBytes_ / 2);
}

void CodeCache::flush() {
    memory_.threads.exclusively([&] {
        for (auto& [k, b] : blocks_) kill(b.get());
    });
    wanted_ = 1;
}

void CodeCache::collect() {
    if (bytes_ >= limit_) makeRoom();
    for (auto& f : onDeath) f();
    // Links lead to blocks of the same page.
    std::vector<uint64_t> pages;
    for (const Block* b : died_)
        if (b->dead) pages.push_back(b->start.page().value);
    for (const auto& b : dead_) pages.push_back(b->start.page().value);
    std::sort(pages.begin(), pages.end());
    pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
    for (const uint64_t page : pages) {
        auto list = pages_.find(page);
        if (list == pages_.end()) continue;
        for (Block* b : list->second)
            for (Insn& i : b->insns)
                if (i.extra == kLinkable) i.link = nullptr;
    }
    for (Block* b : died_) {
        b->listed = false;
        if (!b->dead) continue;
        const uint64_t k = key(b->start, b->mode, b->single);
        auto at = blocks_.find(k);
        if (at == blocks_.end() || at->second.get() != b) continue;  // it is in `dead_`
        foundAt(k) = {};
        blocks_.erase(at);
    }
    died_.clear();
    dead_.clear();
    dormant_ = 0;
    wanted_ = std::max(kWorthIt, blocks_.size() / 8);
}

}  // namespace kiln
