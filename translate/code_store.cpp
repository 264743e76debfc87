#include "translate/code_store.hpp"

#include <algorithm>
#include <cstring>

namespace kiln {

namespace {

// Each makes a block wait twice as long: when what is in use does not fit, the hottest blocks stay.
constexpr uint8_t kMostEvictions = 8;
constexpr uint32_t kFewestSites = 20'000;  // that may be wanted at once

}  // namespace

CodeStore::CodeStore(const TranslatorOptions& o, PhysicalMemory& memory, bool isShared, Handler cold,
                     CallOut callOut, CallOut promoted)
    : options(o),
      shared(isShared),
      buffer(o.bufferBytes),
      thunks(makeThunks(buffer, memory.largestRam(), memory.threads.several(), callOut, promoted)),
      promotions(buffer, o.promote ? std::min(o.promotionBytes, o.bufferBytes / 8) : 0),
      drafting(o.background ? std::make_unique<DraftingThread>() : nullptr),
      memory_(memory),
      threaded_(memory.threads.several()),
      cold_(cold),
      traceLives_(std::make_unique<std::atomic<bool>[]>(kMostTraces + 1)) {
    buffer.divide();
    content_.resize(buffer.regions());
    for (unsigned n = kMostTraces; n; n--) freeTraces_.push_back(uint16_t(n));
    open(0);
}

// -- room

bool CodeStore::hasRoom() const {
    return !content_[buffer.region()].evicted && buffer.left() >= Drafter::kMostCode + 64 &&
           sites.left() >= kFewestSites && !full();
}

bool CodeStore::makeRoom(const Runner* self) {
    {
        const Lock held = lock();
        if (hasRoom()) return true;
    }
    exclusively([&] {
        if (hasRoom()) return;
        if (!full()) return evict(nextRegion());
        for (unsigned n = 0; n < buffer.regions(); n++) evict(n);
        known_.clear();
        marks_.clear();
    });
    const Lock held = lock();
    if (hasRoom()) return true;
    const Content& next = content_[nextRegion()];
    if (!next.evicted || !isLeft(next, self)) return false;
    open(nextRegion());
    return true;
}

void CodeStore::evict(unsigned region) {
    Content& c = content_[region];
    if (c.evicted) return;
    for (HostBlock& t : c.translations) {
        for (Block* b : t.users) b->evictions += b->evictions < kMostEvictions;
        kill(t);
    }
    while (!c.guests.empty()) kill(*c.guests.back());
    for (const auto& trace : c.traces) end(*trace);
    c.evicted = true;
    c.evictedAt = epoch_++;
    generation_++;
    evictions_++;
}

// Whether no processor but perhaps `self` can be inside any more.
bool CodeStore::isLeft(const Content& region, const Runner* self) const {
    return std::none_of(runners_.begin(), runners_.end(), [&](const Runner* r) {
        const uint64_t since = r->load(std::memory_order_acquire);
        return r != self && since && since <= region.evictedAt;
    });
}

void CodeStore::open(unsigned region) {
    Content& c = content_[region];
    c.translations.clear();
    c.alone.clear();
    for (const auto& t : c.traces) freeTraces_.push_back(t->number);
    c.traces.clear();
    c.evicted = false;
    buffer.select(region);
    sites.select(region);
}

// -- translations

HostBlock* CodeStore::find(const Block& b, uint64_t hostFor) {
    if (!shared) return nullptr;
    const auto it = byPlace_.find(keyOf(b.start, b.mode, hostFor));
    if (it == byPlace_.end()) return nullptr;
    HostBlock& t = *it->second;
    return t.bytes == b.bytes && t.count == b.count && t.second == b.second ? &t : nullptr;
}

HostBlock& CodeStore::add(const Block& b, uint64_t hostFor) {
    HostBlock& t = content_[buffer.region()].translations.emplace_back();
    t.start = b.start, t.second = b.second;
    t.mode = b.mode;
    t.crosses = b.crosses;
    t.bytes = b.bytes, t.count = b.count;
    t.hostFor = hostFor;
    t.region = buffer.region();
    t.offsets = std::make_unique<uint16_t[]>(2u * b.count + 1u);
    for (unsigned n = 0; n <= b.count; n++) t.offsets[n] = b.insns[n].offset;
    return t;
}

void CodeStore::withdraw(HostBlock&) { content_[buffer.region()].translations.pop_back(); }

EmittedCode CodeStore::place(Draft& draft, HostBlock* block) {
    HostAssembler& code = draft.code;
    const auto main = code.bytes(HostAssembler::Part::Main), cold = code.bytes(HostAssembler::Part::Cold);
    const uint8_t* apart = buffer.nextCold(cold.size());
    code.numberSites(sites.end());
    try {
        code.resolve(buffer.next(), apart);
    } catch (const std::runtime_error&) {
        return {};  // a short jump does not reach its target
    }
    const uint8_t* host = buffer.append(main, cold);
    for (const Draft::Fixup& f : draft.fixups)
        draft.sites[f.site].*f.place = buffer.offsetOf(host) + uint32_t(code.distanceTo(f.label));
    for (Site& s : draft.sites) {
        if (!s.block) s.block = block;
        sites.add(s);
    }
    sites.publish();
    return {{host, main.size()}, {apart, cold.size()}};
}

void CodeStore::enter(HostBlock& t, const EmittedCode& code, std::span<const uint16_t> starts) {
    t.code = code;
    t.begun = uint16_t(std::min<size_t>(starts.size(), t.count));
    std::copy_n(starts.begin(), t.begun, &t.offsets[t.count + 1u]);
    t.host = code.main.data();
    if (shared) byPlace_[keyOf(t.start, t.mode, t.hostFor)] = &t;
    live_++;
}

void CodeStore::adopt(HostBlock& t, Block& block) {
    t.users.push_back(&block);
    block.hostBlock = &t;
}

void CodeStore::kill(HostBlock& t) {
    if (t.dead.exchange(true)) return;
    while (t.has && !t.has->traces.empty()) end(*t.has->traces.back());
    const uint8_t* dead = buffer.at(sites[t.deadSite].resume);
    buffer.setJump(t.code.main.data(), dead);
    if (t.has && t.has->copy) buffer.setJump(t.has->copy, dead);
    for (const uint32_t n : t.incoming)
        if (sites.has(n) && sites[n].leads() && sites[n].leadsTo == &t) unlink(sites[n]);
    for (Block* b : t.users) {
        b->hostBlock = nullptr;
        if (b->dead) continue;
        b->heat = b->heatBefore = heat(b->evictions);
        b->insns[0].run = cold_;
    }
    t.users.clear();
    t.incoming = {};
    if (t.has) {
        t.has->careful = {};
        for (const unsigned region : t.has->elsewhere) std::erase(content_[region].guests, &t);
    }
    if (shared) {
        const auto it = byPlace_.find(keyOf(t.start, t.mode, t.hostFor));
        if (it != byPlace_.end() && it->second == &t) byPlace_.erase(it);
    }
    live_--;
}

void CodeStore::wentElsewhere(HostBlock& t) {
    const unsigned region = buffer.region();
    if (region == t.region) return;
    std::vector<unsigned>& elsewhere = t.more().elsewhere;
    if (std::count(elsewhere.begin(), elsewhere.end(), region)) return;
    elsewhere.push_back(region);
    content_[region].guests.push_back(&t);
}

const Block* CodeStore::keep(const HostBlock& t, std::unique_ptr<Block> alone) {
    return content_[t.region].alone.emplace_back(std::move(alone)).get();
}

const HostBlock* CodeStore::at(PhysAddr place, CodeMode mode) const {
    for (const Content& c : content_)
        for (const HostBlock& t : c.translations)
            if (!t.dead && t.mode == mode && t.start.value <= place.value &&
                place.value < t.start.value + t.bytes)
                return &t;
    return nullptr;
}

// -- links

void CodeStore::link(uint32_t number, HostBlock& target, uint32_t mark) {
    Site& s = sites[number];
    lead(s, target);
    if (s.mark) buffer.setWord(buffer.at(s.mark) - 4, mark);
    target.incoming.push_back(number);
    s.leadsTo = &target;
    s.links++;
}

void CodeStore::lead(const Site& s, const HostBlock& target) {
    const bool saves = s.patchSaved && !target.overwritesFlags;
    if (saves) buffer.setJump(buffer.at(s.patchSaved), target.host);
    buffer.setJump(buffer.at(s.patch), saves ? buffer.at(s.out) : target.host);
}

void CodeStore::unlink(Site& s) {
    s.leadsTo = nullptr;
    buffer.setJump(buffer.at(s.patch), buffer.at(s.out));
    if (s.patchSaved) buffer.setJump(buffer.at(s.patchSaved), buffer.at(s.over));
    if (s.mark) buffer.setWord(buffer.at(s.mark) - 4, kNoMark);
}

uint32_t CodeStore::mark(uint64_t linearPage, PhysAddr page) {
    const auto [it, isNew] = marks_.try_emplace({linearPage, page.value}, lastMark_ + 1);
    lastMark_ += isNew;
    return it->second;
}

// -- traces

Trace* CodeStore::addTrace(HostBlock& head, std::span<const CodeStep> steps, bool loop) {
    if (freeTraces_.empty()) return nullptr;
    Trace& t = *content_[buffer.region()].traces.emplace_back(std::make_unique<Trace>());
    t.number = freeTraces_.back();
    freeTraces_.pop_back();
    traceLives_[t.number] = true;
    t.head = &head;
    t.steps.assign(steps.begin(), steps.end());
    t.loop = loop;
    return &t;
}

void CodeStore::withdrawTrace() {
    auto& traces = content_[buffer.region()].traces;
    freeTraces_.push_back(traces.back()->number);
    traces.pop_back();
}

void CodeStore::enterTrace(Trace& trace) {
    HostBlock& head = *trace.head;
    const std::span<const uint8_t> own = head.code.main;
    std::memcpy(trace.covered.data(), own.data(), trace.covered.size());
    buffer.setJump(own.data(), trace.code.main.data());
    head.host = trace.code.main.data();
    for (const uint32_t n : head.incoming)
        if (sites.has(n) && sites[n].leads() && sites[n].leadsTo == &head) lead(sites[n], head);
    for (const CodeStep& s : trace.steps) {
        std::vector<Trace*>& of = s.hostBlock->more().traces;
        if (of.empty() || of.back() != &trace) of.push_back(&trace);
    }
}

// Whoever comes runs the first block by itself.
void CodeStore::end(Trace& trace) {
    if (!traceLives_[trace.number].exchange(false)) return;
    tracesEnded_++;
    const uint8_t* own = trace.head->code.main.data();
    buffer.setBytes(own, trace.covered);
    buffer.setJump(trace.code.main.data(), own);
    trace.head->host = own;
    for (const CodeStep& s : trace.steps) std::erase(s.hostBlock->more().traces, &trace);
}

}  // namespace kiln
