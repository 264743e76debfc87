#include "cpu/code_cache.hpp"

#include <algorithm>

#include "cpu/handlers.hpp"

namespace kiln {

CodeCache::CodeCache(PhysicalMemory& memory, unsigned cpu, unsigned share)
    : memory_(memory), cpu_(cpu), mostBlocks_(std::max(kMaxBlocks / share, kFewestBlocks)) {
    memory_.onCodeWrite.push_back([this](PhysAddr addr, uint64_t size) { codeWritten(addr, size); });
    // What lies at an address may be other memory now (PAM registers switch between ROM and RAM).
    memory_.onChange.push_back([this] { flush(); });
}

Block* CodeCache::find(PhysAddr start, CodeMode mode, bool single) const {
    const uint64_t k = key(start, mode, single);
    Found& f = foundAt(k);
    if (f.block && f.key == k) return f.block;
    auto it = blocks_.find(k);
    if (it == blocks_.end()) return nullptr;
    f = {k, it->second.get()};
    return f.block;
}

Block* CodeCache::insert(std::unique_ptr<Block> block) {
    if (blocks_.size() >= mostBlocks_) flush();
    Block* b = block.get();
    uint64_t first = std::min<uint64_t>(b->bytes, kPageSize - b->start.pageOffset());
    // Marking may let other threads in, so the maps change when it is done.
    b->marks = memory_.markCode(b->start, first, cpu_);
    if (b->crosses) b->secondMarks = memory_.markCode(b->second, b->bytes - first, cpu_);
    pages_[b->start.page().value].push_back(b);
    if (b->crosses) pages_[b->second.value].push_back(b);
    blocks_[key(b->start, b->mode, b->single)] = std::move(block);
    if (hot && !b->single) hot->born(*b);
    return b;
}

void CodeCache::unlink(Block* block, PhysAddr page) {
    auto it = pages_.find(page.value);
    if (it == pages_.end()) return;
    BlockList& list = it->second;
    list.erase(std::remove(list.begin(), list.end(), block), list.end());
    if (list.empty()) pages_.erase(it);
}

void CodeCache::kill(Block* block) {
    if (block->dead) return;  // another thread has been here meanwhile
    block->dead = true;
    for (Insn& i : block->insns) i.run = leaveDeadBlock;
    if (hot && !block->single) hot->died(*block);
    unlink(block, block->start.page());
    PhysicalMemory::unmarkCode(block->marks);
    if (block->crosses) {
        unlink(block, block->second);
        PhysicalMemory::unmarkCode(block->secondMarks);
    }
    const uint64_t k = key(block->start, block->mode, block->single);
    if (Found& f = foundAt(k); f.block == block) f = {};
    auto it = blocks_.find(k);
    dead_.push_back(std::move(it->second));
    blocks_.erase(it);
    killed_++;
}

void CodeCache::codeWritten(PhysAddr addr, uint64_t size) {
    auto page = pages_.find(addr.page().value);
    if (page == pages_.end()) return;
    std::vector<Block*> hit;
    for (Block* b : page->second) {
        // A block that crosses has its tail at the start of the second page.
        uint64_t head = std::min<uint64_t>(b->bytes, kPageSize - b->start.pageOffset());
        bool tail = b->crosses && b->second == addr.page();
        uint64_t begin = tail ? b->second.value : b->start.value;
        uint64_t end = begin + (tail ? b->bytes - head : head);
        if (addr.value < end && begin < addr.value + size) hit.push_back(b);
    }
    for (Block* b : hit) kill(b);
}

void CodeCache::flush() {
    memory_.threads.exclusively([&] {
        std::vector<Block*> all;
        for (auto& [k, b] : blocks_) all.push_back(b.get());
        for (Block* b : all) kill(b);
    });
}

void CodeCache::collect() {
    // Forgetting links means a look at every block, so that many must have died that it costs little for
    // each.
    constexpr size_t kWorthIt = 1024;
    if (dead_.size() < std::max(kWorthIt, blocks_.size() / 8)) return;
    for (auto& f : onDeath) f();
    for (auto& [k, b] : blocks_)
        for (Insn& i : b->insns)
            if (i.extra == kLinkable) i.link = nullptr;
    dead_.clear();
}

}  // namespace kiln
