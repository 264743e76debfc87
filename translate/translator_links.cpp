// Where host code goes on: links between blocks, the table of jump targets, the marks of pages.
#include "translate/translator.hpp"

namespace kiln {

// Empties the table of jump targets and the marks of pages when they are no longer known to be right.
void Translator::refresh(HostFrame& f) {
    if (generation_ != store_->generation()) {
        generation_ = store_->generation();
        lastMarks_ = {};
    }
    const bool all = f.globalTag != frameTag(cpu_.globalTag_) || f.forgotten != cpu_.ways_->forgotten ||
                     f.generation != generation_;
    if (!all && f.lookupTag == frameTag(cpu_.lookupTag_)) return;
    statistics_.refreshes++;
    JumpTarget* targets = jumpTargets(f);
    f.jumps.clear(all, [&](uint32_t n) { targets[n] = {}; });
    for (const uint32_t n : {0u, neighbourOf(0)})
        targets[n].rip = ~0ull;  // where an empty entry's 0 would be found
    f.marks.clear(all, [&](uint32_t n) { pageMarks(f)[n] = 0; });
    f.lookupTag = frameTag(cpu_.lookupTag_);
    f.globalTag = frameTag(cpu_.globalTag_);
    f.forgotten = cpu_.ways_->forgotten;
    f.generation = generation_;
    auto& modes = cpu_.contexts_.current().modes;
    Tlb& supervisor = *modes[TranslationContext::Supervisor];
    f.tlb = cpu_.dataTlb_;
    f.withAc = &frameOf(supervisor);
    f.user = &frameOf(*modes[TranslationContext::User]);
    f.withoutAc =
        cpu_.paging_.smap ? &frameOf(*modes[TranslationContext::SupervisorSmap]) : &frameOf(supervisor);
}

// The translated block at `rip`, which is then in the table of jump targets, and its page is marked. Who is
// sure to run it next has its page looked up if need be: behind every flush of translations they all are.
const Block* Translator::findTarget(HostFrame& f, uint64_t rip, bool runsNext) {
    statistics_.lookUps++;
    if (!mayRun(rip)) return nullptr;
    const uint64_t linear = linearOf(rip), page = linear & ~kPageMask;
    Cpu::JumpEntry& known = cpu_.ways_->jumps[Cpu::jumpIndex(linear)];
    const Cpu::FetchEntry& e = cpu_.fetchEntry(linear);
    const Block* b = nullptr;
    uint64_t tag = known.tag;
    if (known.rip == linear && cpu_.holds(tag)) {
        b = known.block;
    } else if ((e.page == page && cpu_.holds(e.tag)) || (runsNext && cpu_.mayFetch(linear))) {
        b = cpu_.io.code.find(e.phys + (linear & kPageMask), cpu_.codeMode_, false);
        tag = e.tag;
        if (b && !b->crosses && rip + b->bytes <= cpu_.codeEnd_) known = {linear, tag, b};
    }
    if (!b || isHostless(*b, rip)) {
        (b ? statistics_.coldTarget : statistics_.noTarget)++;
        return nullptr;
    }
    const bool global = tag == cpu_.globalTag_;
    const uint32_t index = jumpIndex(linear);
    enterJump(f, index, {linear | now_.key, hostOf(b)}, global);
    setMark(f, page, b->start.page(), global);
    return b;
}

void Translator::enterJump(HostFrame& f, uint32_t index, const JumpTarget& target, bool global) {
    const uint32_t page = index * sizeof(JumpTarget) / kPageSize;
    if (uint64_t& touched = f.touched[page / 64]; !(touched >> page % 64 & 1)) {
        touched |= 1ull << page % 64;
        f.tlb->noteRoom(kPageSize);
    }
    JumpTarget& t = jumpTargets(f)[index];
    if (t.host && t.rip != target.rip) {
        const uint32_t other = neighbourOf(index);
        jumpTargets(f)[other] = t;
        f.jumps.add(other, true);  // whatever it is
        f.jumps.add(other, false);
    }
    t = target;
    f.jumps.add(index, global);
}

// Notes what is at a page, and returns its mark.
uint32_t Translator::setMark(HostFrame& f, uint64_t linearPage, PhysAddr page, bool global) {
    if (f.marks.full()) f.generation = 0, refresh(f);
    const uint32_t index = uint32_t(linearPage) >> 12;
    uint32_t& mark = pageMarks(f)[index];
    f.marks.add(index, !mark, global);
    return mark = markOf(linearPage, page);
}

uint32_t Translator::markOf(uint64_t linearPage, PhysAddr page) {
    Mark& known = lastMarks_[(linearPage >> 12) % lastMarks_.size()];
    if (!known.number || known.linear != linearPage || known.physical != page.value) {
        const auto held = store_->lock();
        known = {linearPage, page.value, store_->mark(linearPage, page)};
    }
    return known.number;
}

// The way from one block to another of the same page holds as long as both live; a dead one leaves.
const uint8_t* Translator::link(HostFrame& f, uint32_t number) {
    const Site& s = store_->sites[number];
    const uint64_t rip = ripOf(f.page + uint64_t(s.target));
    if (f.slice <= 0)
        if (const uint8_t* host = lookAround(f, rip)) return host;
    passes(f, rip);
    if (f.slice <= 0) return leave(f, rip, 0, Exit::Slice);
    Block* b = cpu_.io.code.find(s.block->start.page() + uint64_t(s.target), s.block->mode, false);
    if (!b || isHostless(*b, rip)) return leave(f, rip, 0, Exit::Untranslated);
    if (s.patch) return linkTo(number, *b, 0);
    return hostOf(b);  // a loop, whose slice was over
}

// Where the code goes on now. A jump that leads somewhere else is led here while nobody runs: others may be
// between it and its comparison of marks.
const uint8_t* Translator::linkTo(uint32_t number, const Block& target, uint32_t mark) {
    const uint8_t* host = hostOf(&target);
    Site& s = store_->sites[number];
    auto link = [&] {
        if (!target.hostBlock) return;
        store_->link(number, *target.hostBlock, mark);
        statistics_.links++;
    };
    {
        const auto held = store_->lock();
        if (s.leadsTo == target.hostBlock && !s.mark) return host;
        if (s.mark && s.links == kMostLinks) return host;
        if (!s.mark || !s.leadsTo) {
            link();
            return host;
        }
    }
    store_->exclusively(link);
    return host;
}

// The page behind the one that a block's only instruction begins on must still be the same.
const uint8_t* Translator::second(HostFrame& f, const Site& s) {
    const uint64_t next = (f.page + kPageSize) & cpu_.linearMask_;
    if (cpu_.mayFetch(next) && cpu_.fetchPage(next) == s.block->second) {
        const uint32_t mark = setMark(f, next, s.block->second, cpu_.fetchEntry(next).tag == cpu_.globalTag_);
        const auto held = store_->lock();
        store_->buffer.setWord(at(s.mark) - 4, mark);
        return resume(f, s);
    }
    return leave(f, ripOf(f.page + uint64_t(s.target)), 0, Exit::Untranslated);
}

}  // namespace kiln
