// Hot blocks on their way through the thread that drafts host code (drafting_thread.hpp). Until it has come
// to a block that is interpreted; one that it does not come to is drafted on the spot.
#include "translate/translator.hpp"

namespace kiln {

namespace {

// Of a block that is wanted while it is on its way: rounds until it looks again, and how often it does.
constexpr uint32_t kRounds = 4;
constexpr unsigned kPatience = 32;

}  // namespace

// A block that is translated now, or will be. False: nobody but the caller does it.
bool Translator::isDrafted(Block& block, uint64_t rip) {
    if (pending_) settleDrafts();
    if (block.insns[0].run != counting || block.hostBlock) return block.insns[0].run != counting;
    Job* free = nullptr;
    for (size_t n = 0; n < kJobs; n++) {
        Job& job = jobs_[n];
        if (job.wanted == &block) {
            if (++job.asked >= kPatience && store_->drafting->takeBack(job)) {
                job.wanted = nullptr;
                pending_--;
                return false;
            }
            block.heat = kRounds;
            return true;
        }
        if (job.state.load(std::memory_order_relaxed) == Job::State::Free) free = &job;
    }
    if (!free || nowhere_ || !fits(block, rip) || !cpu_.thicken(block)) return false;
    if (store_->shared) {
        const auto held = store_->lock();
        if (store_->find(block, now_.hostFor(rip))) return false;
    }
    ask(*free, block, rip);
    free->wanted = &block;
    free->asked = 0;
    pending_++;
    store_->drafting->post(*free);
    block.heat = kRounds;
    return true;
}

void Translator::ask(Job& job, Block& block, uint64_t rip) const {
    job.terms.emplace(terms(linearOf(rip)));
    job.block = block;
    job.block.insns[0].run = block.plain;  // as the emitter wants to see it
    job.bytes.resize(block.bytes);
    readBytes(block, job.bytes.data());
    job.surroundings = now_;
    job.hostFor = now_.hostFor(rip);
    job.rip = rip;
    job.ip = uint32_t(now_.segmented() ? rip : 0);
}

// Of what the block was.
void Translator::forgetDrafts(const Block& block) {
    if (!pending_) return;
    for (size_t n = 0; n < kJobs; n++)
        if (jobs_[n].wanted == &block) jobs_[n].wanted = nullptr;
}

// Takes in what is done.
void Translator::settleDrafts() {
    const uint64_t done = store_->drafting->done();
    if (done == settled_) return;
    settled_ = done;
    for (size_t n = 0; n < kJobs; n++)
        if (jobs_[n].state.load(std::memory_order_acquire) == Job::State::Done) settle(jobs_[n]);
}

void Translator::settle(Job& job) {
    const bool room = store_->makeRoom(&running_);  // blocks may change meanwhile
    Block* block = std::exchange(job.wanted, nullptr);
    pending_--;
    if (block && !block->hostBlock) {
        const auto held = store_->lock();
        HostBlock* known = store_->find(*block, job.hostFor);
        if (known) CodeStore::adopt(*known, *block);
        block->heat = room ? 0 : 2;  // soon there will be some
        const bool entered = known || (room && job.drafted && enterDraft(job, *block));
        statistics_.beside += entered && !known;
        if (entered) block->heat = 0;
        if (!block->heat) block->insns[0].run = entered ? entering : block->plain;
        block->hotSince = cpu_.executed();
    }
    job.state.store(Job::State::Free, std::memory_order_relaxed);
}

// The draft becomes the block's host code. Under the store's lock.
bool Translator::enterDraft(Job& job, Block& block) {
    if (!store_->hasRoom()) {
        block.heat = 2;  // another processor has taken it
        wantsRoom_ = true;
        return false;
    }
    HostBlock& t = store_->add(block, job.hostFor);
    t.overwritesFlags = job.overwritesFlags;
    t.beginsHarmlessly = job.beginsHarmlessly;
    t.deadSite = store_->sites.end();  // the first one
    const EmittedCode code = store_->place(job.draft, &t);
    if (code.main.empty()) {
        store_->withdraw(t);
        return false;
    }
    store_->enter(t, code, job.draft.starts);
    CodeStore::adopt(t, block);
    last_ = code;
    if (!options_.listeners.empty()) tell(job.rip);
    statistics_.blocks++;
    statistics_.instructions += block.count;
    statistics_.hostBytes += code.main.size();
    statistics_.coldBytes += code.cold.size();
    statistics_.nanoseconds += job.nanoseconds;
    return true;
}

}  // namespace kiln
