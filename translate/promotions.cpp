#include "translate/promotions.hpp"

#include <algorithm>

namespace kiln {

Promotions::Promotions(CodeBuffer& buffer, size_t bytes) : buffer_(buffer) {
    const std::vector<uint8_t> nothing(bytes / kSlot * kSlot, 0xcc);
    area_ = buffer.append(nothing, {});
    slots_.resize(nothing.size() / kSlot);
    nextOf_.resize(slots_.size());
    sizes_.resize(slots_.size());
    for (size_t n = slots_.size(); n--;) free_.push_back(uint32_t(n));
}

void Promotions::add(SiteTable& sites, const Promotion& promotion, std::span<const uint8_t> code) {
    const uint32_t slot = free_.back();
    free_.pop_back();
    buffer_.setBytes(codeOf(slot), code);
    slots_[slot] = std::make_unique<Promotion>(promotion);
    sizes_[slot] = uint16_t(code.size());
    bytes_ += code.size();
    made_++;
    Site& site = sites[promotion.site];
    nextOf_[slot] = site.promotion;
    site.promotion = slot + 1;
    TrapSite& p = *promotion.profile;
    p.promotions++;
    p.state = TrapSite::State::Promoted;
    buffer_.setJump(buffer_.at(site.call), codeOf(slot));
}

std::vector<const Promotion*> Promotions::of(uint32_t number) const {
    std::vector<const Promotion*> all;
    for (size_t n = 0; n < slots_.size(); n++)
        if (slots_[n] && slots_[n]->site == number) all.push_back(slots_[n].get());
    return all;
}

void Promotions::release(uint32_t slot) {
    bytes_ -= sizes_[slot];
    slots_[slot].reset();
    free_.push_back(slot);
}

// A site's number may be another one's by now.
bool Promotions::lives(SiteTable& sites, const Promotion& p) const {
    if (!sites.has(p.site)) return false;
    for (uint32_t next = sites[p.site].promotion; next && slots_[next - 1]; next = nextOf_[next - 1])
        if (slots_[next - 1].get() == &p) return true;
    return false;
}

void Promotions::demote(SiteTable& sites, uint32_t number, const uint8_t* callOut) {
    Site& site = sites[number];
    if (!site.promotion) return;
    TrapSite& profile = *slots_[site.promotion - 1]->profile;
    profile.demotions++;
    profile.state = TrapSite::State::Demoted;
    buffer_.setCall(buffer_.at(site.call), callOut);
    for (uint32_t next = std::exchange(site.promotion, 0); next;) {
        const uint32_t slot = next - 1;
        next = nextOf_[slot];
        release(slot);
    }
}

void Promotions::demoteAll(SiteTable& sites, const uint8_t* callOut) {
    for (uint32_t n = 0; n < slots_.size(); n++) {
        if (!slots_[n]) continue;
        if (lives(sites, *slots_[n]))
            demote(sites, slots_[n]->site, callOut);
        else
            release(n);
    }
}

void Promotions::sweep(SiteTable& sites, const uint8_t* callOut) {
    std::vector<uint32_t> dead;
    for (uint32_t n = 0; n < slots_.size(); n++)
        if (slots_[n] && !lives(sites, *slots_[n])) dead.push_back(n);
    for (const uint32_t n : dead) release(n);
    for (uint32_t n = 0; n < slots_.size(); n++) {
        if (!slots_[n]) continue;
        Promotion& p = *slots_[n];
        const bool cold = std::exchange(p.seen, p.profile->promoted) == p.profile->promoted;
        if (dead.empty() && cold) demote(sites, p.site, callOut);
    }
}

}  // namespace kiln
