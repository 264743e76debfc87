#include "mmu/translation_contexts.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace kiln {

namespace {

// Keys whose two bits differ, one bit a key.
uint16_t changedKeys(uint32_t a, uint32_t b) {
    uint32_t differing = (a ^ b) | (a ^ b) >> 1;
    uint16_t keys = 0;
    for (unsigned key = 0; key < 16; key++) keys = uint16_t(keys | (differing >> key * 2 & 1) << key);
    return keys;
}

}  // namespace

size_t TranslationContext::entries() const {
    return modes[0]->entries() + modes[1]->entries() + modes[2]->entries();
}

size_t TranslationContext::resident() const {
    return modes[0]->resident() + modes[1]->resident() + modes[2]->resident();
}

size_t TranslationContext::notGlobal() const {
    return modes[0]->notGlobal() + modes[1]->notGlobal() + modes[2]->notGlobal();
}

TranslationContexts::TranslationContexts(PhysicalMemory& memory, unsigned cpu, unsigned share)
    : memory_(memory),
      cpu_(cpu),
      mostBytes_(std::max(kBytes / std::max(share, 1u), kFewestBytes)),
      most_(std::min(kMost, mostBytes_ / (2 * 3 * Tlb::kOwnBytes))) {
    select({}, true);
    statistics_ = {};
}

TranslationContexts::~TranslationContexts() {
    for (auto& c : contexts_) memory_.tables.leave(*c);
}

// -- which contexts there are

TranslationContext* TranslationContexts::find(uint64_t root) {
    uint8_t& hint = hints_[hash(root)];
    if (hint < contexts_.size() && contexts_[hint]->space.root == root) return contexts_[hint].get();
    for (auto& c : contexts_)
        if (c->space.root == root) {
            hint = uint8_t(c->number);
            return c.get();
        }
    return nullptr;
}

TranslationContext* TranslationContexts::ownerOf(uint16_t pcid) {
    const unsigned n = pcidOwner_[pcid];
    if (!n) return nullptr;
    TranslationContext* c = contexts_[n - 1].get();
    return c->space.pcid == pcid && c->space.root != TranslationContext::kNoRoot ? c : nullptr;
}

// One of some neighbouring places; where all are taken, the one with the least experience.
TranslationContexts::Experience& TranslationContexts::experienceOf(uint64_t root) {
    constexpr unsigned kPlaces = 16;
    Experience* least = nullptr;
    for (unsigned n = 0; n < kPlaces; n++) {
        Experience& e = experiences_[(hash(root) + n) % kExperiences];
        if (e.root == root) return e;
        if (!least || e.lost < least->lost) least = &e;
    }
    return *least = {.root = root, .worthTracking = policy.worthTracking};
}

size_t TranslationContexts::resident() const {
    size_t sum = 0;
    for (auto& c : contexts_) sum += c->resident();
    return sum;
}

// Forgets an address space. Giving its memory back takes time.
void TranslationContexts::empty(TranslationContext& c, bool release) {
    track(c, false);
    flush(c, Tlb::Scope::All);
    for (auto& t : c.modes)
        if (release) t->release();
    c.space.root = TranslationContext::kNoRoot;
    c.mustFlush = false;
    statistics_.evictions++;
}

// Of those that know something, the one that was used longest ago.
TranslationContext* TranslationContexts::oldest() {
    TranslationContext* found = nullptr;
    for (auto& c : contexts_)
        if (c.get() != current_ && c->space.root != TranslationContext::kNoRoot &&
            (!found || c->lastUsed < found->lastUsed))
            found = c.get();
    return found;
}

// A context that knows nothing.
TranslationContext& TranslationContexts::take() {
    if (resident() > mostBytes_)
        while (resident() > mostBytes_ / 4 * 3) {
            TranslationContext* c = oldest();
            if (!c) break;
            empty(*c, true);
        }
    for (auto& c : contexts_)
        if (c->space.root == TranslationContext::kNoRoot) return *c;
    if (contexts_.size() < most_) {
        TranslationContext& c = *contexts_.emplace_back(std::make_unique<TranslationContext>());
        c.number = unsigned(contexts_.size() - 1);
        newEpoch(c, Tlb::Scope::All);
        return c;
    }
    TranslationContext& c = *oldest();
    empty(c, false);
    return c;
}

TranslationContext& TranslationContexts::contextFor(const AddressSpace& space) {
    if (TranslationContext* c = find(space.root)) {
        statistics_.hits++;
        return *c;
    }
    statistics_.misses++;
    const Experience& e = experienceOf(space.root);
    const bool tracked = e.lost >= e.worthTracking;
    TranslationContext* before = ownerOf(space.pcid);
    if (before && !before->tracked && !tracked) {
        lose(*before);
        before->mustFlush = true;
        setRoot(*before, space.root);
        return *before;
    }
    TranslationContext& c = take();
    c.allFlushes = allFlushes_;
    c.nonGlobalFlushes = nonGlobalFlushes_;
    c.logPosition = logged_;
    c.mustFlush = false;
    c.space = space;
    setRoot(c, space.root);
    track(c, tracked);
    return c;
}

void TranslationContexts::setRoot(TranslationContext& c, uint64_t root) {
    c.space.root = root;
    hints_[hash(root)] = uint8_t(c.number);
}

void TranslationContexts::select(const AddressSpace& space, bool keeps) {
    TranslationContext& c = contextFor(space);
    settle(c);
    const bool sameTables = c.space.pdptes == space.pdptes;
    const bool mayKeep =
        keeps && c.space.pcid == space.pcid && !c.mustFlush && c.nonGlobalFlushes == nonGlobalFlushes_;
    if (TranslationContext* before = ownerOf(space.pcid); before && before != &c) before->mustFlush = true;
    pcidOwner_[space.pcid] = uint8_t(c.number + 1);
    c.space = space;
    c.lastUsed = ++uses_;
    c.mustFlush = false;
    c.nonGlobalFlushes = nonGlobalFlushes_;
    current_ = &c;
    const uint64_t epoch = c.epoch;
    if (!sameTables)
        flush(c, Tlb::Scope::NonGlobal);
    else if (c.tracked || !mayKeep)
        dropNonGlobal(c);
    const size_t kept = c.notGlobal();
    statistics_.kept += kept;
    if (!c.tracked) return;
    constexpr uint64_t kEpoch = 16;  // what looking for code again costs
    if (!mayKeep) c.gain += kept + (c.epoch == epoch ? kEpoch : 0);
    if (++c.selections >= policy.weighed) weigh(c);
}

// -- tracking

bool TranslationContexts::noteWalk(uint64_t linear, const Translation& t, const WalkTrace& trace,
                                   bool fetch) {
    statistics_.walks++;
    if (t.global) {
        global_.add(linear, t.pageSize);
        return false;
    }
    TranslationContext& c = *current_;
    if (!c.tracked) return false;
    // Code that is looked for once more, because it had lost its place in one of an engine's caches.
    const bool again = fetch && mayHaveFetched(linear);
    bool fresh = false;
    for (unsigned n = 0; n < trace.count; n++) {
        const WalkTrace::Table& table = trace.tables[n];
        const uint64_t at = table.at.page().value | uint64_t(trace.wide);
        TranslationContext::Known& k = c.known[(at >> 12 ^ at >> 20) % TranslationContext::kKnown];
        if (k.at == at && k.range == table.range) continue;
        const auto isNew = memory_.trackTable(table.at, c, table.range, trace.wide, cpu_);
        if (!isNew) {
            c.mustFlush = true;  // nobody would notice
            track(c, false);
            return false;
        }
        fresh |= *isNew;
        if (again) continue;
        k = {at, table.range};
        c.cost += memory_.threads.several() ? 48 : 6;
    }
    return fresh;
}

// What tables that have been written to since told. All else is as a walk would find it now.
void TranslationContexts::dropStale(TranslationContext& c) {
    if (!c.hasStale) return;
    memory_.tables.takeStale(c, stale_);
    c.known.fill({});
    c.cost += 4 * stale_.size();
    for (auto& t : c.modes) statistics_.stale += t->flushRanges(stale_);
    newEpoch(c, Tlb::Scope::NonGlobal);
}

// All translations of the current context that are not global have to go.
void TranslationContexts::dropNonGlobal(TranslationContext& c) {
    if (c.tracked) return dropStale(c);
    lose(c);
    const Experience& e = experienceOf(c.space.root);
    if (e.lost >= e.worthTracking) track(c, true);
}

void TranslationContexts::lose(TranslationContext& c) {
    if (!c.notGlobal() && !c.fetched.any()) return;
    const size_t gone = flush(c, Tlb::Scope::NonGlobal);
    statistics_.purged += gone;
    experienceOf(c.space.root).lost += gone;
}

// From here on, of a context without translations that are not global; or from here on no more.
void TranslationContexts::track(TranslationContext& c, bool tracked) {
    if (tracked == c.tracked) return;
    tracked ? statistics_.begun++ : statistics_.ended++;
    memory_.tables.forget(c);
    c.known.fill({});
    c.tracked = tracked;
    c.gain = c.cost = c.selections = 0;
}

// Whether tracking has kept more than it cost.
void TranslationContexts::weigh(TranslationContext& c) {
    Experience& e = experienceOf(c.space.root);
    if (c.cost > c.gain) {
        track(c, false);
        e.lost = 0;
        e.worthTracking = std::min(e.worthTracking * 8, policy.mostWorth);
    } else {
        e.worthTracking = policy.worthTracking;
    }
    c.gain = c.cost = c.selections = 0;
}

// -- invalidations

// No number is an epoch of both kinds.
void TranslationContexts::newEpoch(TranslationContext& c, Tlb::Scope scope) {
    if (scope != Tlb::Scope::NonGlobal) {
        c.globalEpoch = ++lastEpoch_;
        c.globalFetched.clear();
    }
    c.epoch = ++lastEpoch_;
    c.fetched.clear();
}

size_t TranslationContexts::flush(TranslationContext& c, Tlb::Scope scope) {
    size_t gone = 0;
    for (auto& t : c.modes) gone += t->flush(scope);
    newEpoch(c, scope);
    return gone;
}

void TranslationContexts::dropPage(TranslationContext& c, uint64_t linear, Tlb::Scope scope) {
    for (auto& t : c.modes) t->flushPage(linear, scope);
    const bool large = c.fetched.inLarge(linear) || c.globalFetched.inLarge(linear);
    if (large || (&c != current_ && c.mayHaveFetched(linear))) newEpoch(c, Tlb::Scope::All);
}

// What a context has missed while it was not current.
void TranslationContexts::settle(TranslationContext& c) {
    if (c.allFlushes != allFlushes_ || logged_ - c.logPosition > kLog) {
        flush(c, Tlb::Scope::All);
    } else {
        for (; c.logPosition != logged_; c.logPosition++) {
            const Edit& e = log_[c.logPosition % kLog];
            if (!e.protects) {
                dropPage(c, e.address, Tlb::Scope::Global);
                continue;
            }
            for (auto& t : c.modes) t->protectPage(PhysAddr(e.address), e.beside);
        }
    }
    c.allFlushes = allFlushes_;
    c.logPosition = logged_;
}

// For the others; the current one has been served.
void TranslationContexts::log(Edit edit) {
    log_[logged_++ % kLog] = edit;
    current_->logPosition = logged_;
}

void TranslationContexts::setKeys(uint32_t pkru, uint32_t pkrs) {
    TranslationContext& c = *current_;
    if (c.pkru == pkru && c.pkrs == pkrs) return;
    const uint16_t user = changedKeys(c.pkru, pkru), supervisor = changedKeys(c.pkrs, pkrs);
    for (auto& t : c.modes) t->flushKeys(user, supervisor);
    c.pkru = pkru, c.pkrs = pkrs;
}

void TranslationContexts::flushAll() {
    flush(*current_, Tlb::Scope::All);
    current_->allFlushes = ++allFlushes_;
}

void TranslationContexts::flushNonGlobal() {
    current_->nonGlobalFlushes = ++nonGlobalFlushes_;
    dropNonGlobal(*current_);
}

void TranslationContexts::flushContext(uint16_t pcid) {
    if (pcid == current_->space.pcid)
        dropNonGlobal(*current_);
    else if (TranslationContext* c = ownerOf(pcid))
        c->mustFlush = true;
}

void TranslationContexts::flushPage(uint16_t pcid, uint64_t linear) {
    if (TranslationContext* c = ownerOf(pcid)) dropPage(*c, linear, Tlb::Scope::NonGlobal);
}

void TranslationContexts::flushPage(uint64_t linear) {
    dropPage(*current_, linear, Tlb::Scope::All);
    if (global_.contains(linear)) log({linear, false});
}

void TranslationContexts::flushFaulted(uint64_t linear) { dropPage(*current_, linear, Tlb::Scope::All); }

void TranslationContexts::protectPage(PhysAddr page, bool beside) {
    for (auto& t : current_->modes) t->protectPage(page, beside);
    log({page.value, true, beside});
}

std::string TranslationContexts::report() const {
    const Statistics& s = statistics_;
    const auto tracked =
        std::count_if(contexts_.begin(), contexts_.end(), [](auto& c) { return c->tracked; });
    size_t entries = 0;
    for (auto& c : contexts_) entries += c->entries();
    return fmt::format(
        "  contexts: {} ({} tracked) of {} translations in about {} KiB; {} found, {} not, {} evicted\n"
        "  at moves to CR3: {} translations kept, {} stale ones dropped, {} others purged\n"
        "  {} walks; tracking of contexts begun {} times, ended {} times\n",
        contexts_.size(), tracked, entries, resident() >> 10, s.hits, s.misses, s.evictions, s.kept, s.stale,
        s.purged, s.walks, s.begun, s.ended);
}

}  // namespace kiln
