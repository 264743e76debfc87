#include "cpu/trap_profile.hpp"

#include <algorithm>
#include <utility>

namespace kiln {

std::string_view nameOf(TrapKind kind) {
    static constexpr std::string_view kNames[] = {
        "in",       "out", "read",   "write",   "cpuid",  "rdmsr", "wrmsr", "read cr",
        "write cr", "dr",  "invlpg", "invpcid", "rdtsc",  "hlt",   "pause", "if",
        "popf",     "int", "iret",   "syscall", "sysret", "fault"};
    static_assert(std::size(kNames) == kTrapKinds);
    return kNames[size_t(kind)];
}

InlineTraps::InlineTraps() : places_(kTrapKinds) {
    for (size_t n = 0; n < kTrapKinds; n++) places_[n].kind = TrapKind(n);
}

size_t InlineTraps::number(uint64_t physical, TrapKind kind, uint64_t rip) {
    std::lock_guard lock(mutex_);
    const auto [known, isNew] = known_.try_emplace(physical, places_.size());
    if (!isNew && places_[known->second].kind == kind) return known->second;
    if (places_.size() == kMost || !rip) {
        if (isNew) known_.erase(known);
        return size_t(kind);
    }
    known->second = places_.size();
    places_.push_back({rip, kind});
    return known->second;
}

std::vector<InlineTraps::Place> InlineTraps::places() const {
    std::lock_guard lock(mutex_);
    return places_;
}

void TrapProfile::follow(std::shared_ptr<const InlineTraps> traps, std::span<uint64_t> counts) {
    takeInline();
    inline_ = std::move(traps);
    inlineCounts_ = counts;
}

void TrapProfile::takeInline() {
    if (!inline_) return;
    const auto places = inline_->places();
    for (size_t n = 0; n < places.size(); n++) {
        const uint64_t count = std::exchange(inlineCounts_[n], 0);
        if (!count) continue;
        TrapSite& s = n < kTrapKinds ? others_[n] : at(places[n].rip, places[n].kind);
        s.promoted += count;
        if (s.state == TrapSite::State::Counted) s.state = TrapSite::State::Inline;
    }
}

TrapProfile::TrapProfile()
    : slots_(std::make_unique<TrapSite*[]>(kSlots)), sites_(std::make_unique<TrapSite[]>(kMostSites)) {
    for (size_t n = 0; n < kTrapKinds; n++) others_[n].kind = TrapKind(n);
}

TrapSite& TrapProfile::find(uint64_t rip, TrapKind kind) {
    size_t slot = slotOf(rip, kind);
    for (; TrapSite* s = slots_[slot]; slot = (slot + 1) % kSlots)
        if (s->rip == rip && s->kind == kind) return *s;
    if (used_ == kMostSites) return others_[size_t(kind)];
    TrapSite& s = sites_[used_++];
    s.rip = rip, s.kind = kind;
    slots_[slot] = &s;
    return s;
}

std::vector<const TrapSite*> TrapProfile::sites() {
    takeInline();
    std::vector<const TrapSite*> all;
    for (size_t n = 0; n < used_; n++)
        if (sites_[n].count()) all.push_back(&sites_[n]);
    for (const TrapSite& s : others_)
        if (s.count()) all.push_back(&s);
    std::sort(all.begin(), all.end(),
              [](const TrapSite* a, const TrapSite* b) { return a->count() > b->count(); });
    return all;
}

void TrapScope::end() {
    site_.nanoseconds += uint64_t(std::chrono::nanoseconds(Clock::now() - begun_).count());
    site_.timed++;
}

}  // namespace kiln
