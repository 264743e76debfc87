#include "cpu/code_cache.hpp"

#include <algorithm>

#include "cpu/decoder.hpp"
#include "cpu/handlers.hpp"

namespace kiln {

namespace {

uint64_t bytesOnFirstPage(const Block& b) {
    return std::min<uint64_t>(b.bytes, kPageSize - b.start.pageOffset());
}

// With what its places in the maps and lists take.
size_t bytesOf(const Block& b) { return sizeof(Block) + 128 + b.insns.size() * sizeof(Insn); }

}  // namespace

// One that crosses has its tail at the start of the second page.
CodeCache::Place CodeCache::placeOn(Block& b, PhysAddr page) {
    const uint64_t head = bytesOnFirstPage(b);
    if (b.crosses && b.second == page) return {0, uint16_t(b.bytes - head), &b};
    return {uint16_t(b.start.pageOffset()), uint16_t(b.start.pageOffset() + head), &b};
}

CodeCache::CodeCache(PhysicalMemory& memory, unsigned cpu, unsigned share)
    : memory_(memory), cpu_(cpu), mostBytes_(std::max(kMostBytes / share, kFewestBytes)) {
    memory_.onCodeWrite.push_back([this](PhysAddr addr, uint64_t size) { codeWritten(addr, size); });
    // What lies at an address may be other memory now (PAM registers switch between ROM and RAM).
    memory_.onChange.push_back([this] { flush(); });
}

Block* CodeCache::lookUp(uint64_t k) const {
    Found& f = foundAt(k);
    if (f.key == k) return f.block;
    auto it = blocks_.find(k);
    f = {k, it == blocks_.end() ? nullptr : it->second.get()};
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
        dormant_--;
        dead_.push_back(std::move(blocks_[k]));
        b->deaths = before->deaths;
    }
    enter(*b);
    blocks_[k] = std::move(block);
    foundAt(k) = {k, b};
    if (hot && !b->single) hot->born(*b);
    return b;
}

void CodeCache::revive(Block& block) {
    dormant_--;
    deadBytes_ -= std::min(deadBytes_, bytesOf(block));  // it may have changed meanwhile
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
    pages_[block.start.page().value].push_back(placeOn(block, block.start.page()));
    bytes_ += bytesOf(block);
    if (block.crosses) pages_[block.second.value].push_back(placeOn(block, block.second));
}

void CodeCache::unlink(Block* block, PhysAddr page) {
    auto it = pages_.find(page.value);
    if (it == pages_.end()) return;
    BlockList& list = it->second;
    auto at = std::find_if(list.begin(), list.end(), [&](const Place& p) { return p.block == block; });
    if (at == list.end()) return;
    *at = list.back();
    list.pop_back();
    if (list.empty()) pages_.erase(it);
}

void CodeCache::kill(Block* block) {
    if (block->dead) return;  // another thread has been here meanwhile
    block->dead = true;
    bytes_ -= bytesOf(*block);
    deadBytes_ += bytesOf(*block);
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

const Block* CodeCache::covering(PhysAddr at, CodeMode mode) const {
    const auto page = pages_.find(at.page().value);
    if (page == pages_.end()) return nullptr;
    const uint64_t offset = at.pageOffset();
    const Block& any = *page->second[0].block;
    const PageMarks* marks = any.start.page() == at.page() ? any.marks : any.secondMarks;
    if (marks && !(marks->lines & PhysicalMemory::lineMask(offset, 1))) return nullptr;
    const Block* found = nullptr;
    uint64_t reach = 0;
    for (const Place& p : page->second) {
        if (offset <= p.begin || offset >= p.end || p.end <= reach) continue;
        const Block& b = *p.block;
        if (b.mode != mode || b.single || b.crosses || b.thin()) continue;
        if (!b.instructionAt(offset - p.begin)) continue;
        found = &b;
        reach = p.end;
    }
    return found;
}

// Whether in all of these blocks such a write leaves instructions where they were.
bool CodeCache::patch(std::span<Block* const> blocks, PhysAddr addr, uint64_t size) {
    return user.decoder && std::all_of(blocks.begin(), blocks.end(), [&](Block* b) {
               return !b->crosses && !b->single && !b->thin() && addr >= b->start &&
                      patch(*b, addr.value - b->start.value, size);
           });
}

// A write inside one instruction, past its first byte, that makes it another one of the same length and body.
bool CodeCache::patch(Block& block, uint64_t offset, uint64_t size) {
    const auto behind = std::upper_bound(block.insns.begin(), block.insns.begin() + block.count, offset,
                                         [](uint64_t o, const Insn& i) { return o < i.offset; });
    Insn& insn = behind[-1];
    if (offset == insn.offset || offset + size > uint64_t(insn.offset) + insn.length) return false;
    if (&insn == *user.at) return false;  // it ends as it was
    uint8_t bytes[Decoder::kMaxLength];
    memory_.read(block.start + insn.offset, bytes, insn.length);
    Insn now;
    bool ends;
    if (!user.decoder->decode({bytes, insn.length}, block.mode, insn.offset, now, ends)) return false;
    const bool isFirst = &insn == block.insns.data() && block.plain;
    if (now.length != insn.length || now.run != (isFirst ? block.plain : insn.run)) return false;
    now.run = insn.run;
    insn = now;
    patched_++;
    if (hot) hot->changed(block);
    return true;
}

// What a write has die; false: nothing. One that goes on where the last one that changed code ended, or has
// jumped what had died already, has everything die that lies before it, by lines.
bool CodeCache::reach(PhysAddr page, uint64_t& begin, uint64_t& end, std::span<Block* const> hit) {
    constexpr uint64_t kLine = 64, kFarthest = 1024;
    Overwritten& o = overwritten_;
    const bool here = page == o.page;
    const bool up = here && begin > o.first && begin <= o.end + kLine,
               down = here && begin < o.first && end + kLine >= o.begin;
    if (!up && !down && (hit.empty() || patch(hit, page + begin, end - begin))) return false;
    const uint64_t reach = up || down ? std::min(std::max(o.reach * 2, kLine), kFarthest) : 0;
    const uint64_t first = begin;
    if (up) end = std::min((end + reach - 1) / kLine * kLine, kPageSize);
    if (down) begin = (begin / kLine + 1) * kLine - std::min(reach, (begin / kLine + 1) * kLine);
    o = {page, first, begin, end, reach};
    return true;
}

void CodeCache::codeWritten(PhysAddr addr, uint64_t size) {
    auto page = pages_.find(addr.page().value);
    if (page == pages_.end()) return;
    uint64_t begin = addr.pageOffset(), end = begin + size;
    boost::container::small_vector<Block*, 32> hit;
    auto findHit = [&] {
        hit.clear();
        for (const Place& p : page->second)
            if (begin < p.end && p.begin < end) hit.push_back(p.block);
    };
    findHit();
    if (!reach(addr.page(), begin, end, {hit.data(), hit.size()})) return;
    if (end - begin != size) findHit();
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
    for (const Place& p : left->second) lines |= PhysicalMemory::lineMask(p.begin, p.end - p.begin);
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
        for (const Place& p : list->second)
            for (Insn& i : p.block->insns)
                if (i.extra == kLinkable) i.link = nullptr;
    }
    for (Block* b : died_) {
        b->listed = false;
        if (!b->dead) continue;
        const uint64_t k = key(b->start, b->mode, b->single);
        auto at = blocks_.find(k);
        if (at == blocks_.end() || at->second.get() != b) continue;  // it is in `dead_`
        foundAt(k) = {k, nullptr};
        blocks_.erase(at);
    }
    died_.clear();
    dead_.clear();
    dormant_ = deadBytes_ = 0;
    wanted_ = std::max(kWorthIt, blocks_.size() / 8);
}

}  // namespace kiln
