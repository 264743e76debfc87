// Which surroundings code runs in (surroundings.hpp), and segments as host code sees them.
#include <cstring>

#include "translate/translator.hpp"

namespace kiln {

void Translator::noteSurroundings() {
    const Cpu& c = cpu_;
    if (generation_ != store_->generation()) now_ = {};
    nowhere_ = false;
    if (c.flat_ && c.codeMode_ != CodeMode::Code16) {
        now_ = {};
        return;
    }
    Surroundings s;
    s.code32 = c.codeMode_ == CodeMode::Code32;
    s.bigStack = c.stackMask_ != 0xffff;
    s.v86 = c.v86();
    s.whole = !c.protectedMode() && !s.code32 && !s.bigStack;
    for (const Cpu::FastSegment& f : c.fast_) s.whole &= f.readEnd > 0xffff && f.writeEnd > 0xffff;
    s.codeBase = c.fast_[Cs].base;
    s.codeEnd = c.codeEnd_;
    const bool same = now_.segmented() && now_.codeBase == s.codeBase && now_.codeEnd == s.codeEnd &&
                      now_.code32 == s.code32 && now_.bigStack == s.bigStack && now_.v86 == s.v86 &&
                      now_.whole == s.whole;
    if (!same) {
        const auto held = store_->lock();
        now_ = store_->surroundings(s);
    }
    nowhere_ = !now_.segmented();
}

void Translator::segmentsToFrame(HostFrame& f) {
    f.surroundings = now_.key;
    static_assert(sizeof(HostFrame::Segment) == sizeof(Cpu::FastSegment));
    static_assert(offsetof(HostFrame::Segment, readEnd) == offsetof(Cpu::FastSegment, readEnd));
    static_assert(offsetof(HostFrame::Segment, writeEnd) == offsetof(Cpu::FastSegment, writeEnd));
    std::memcpy(f.segments, cpu_.fast_.data(), sizeof f.segments);
    std::memset(f.downward, 0, sizeof f.downward);
    if (!cpu_.protectedMode()) return;
    for (unsigned r = 0; r < 6; r++) {
        const Segment& s = cpu_.seg[r];
        if (!s.expandDown() || s.unusable) continue;
        const uint64_t high = s.big() ? 1ull << 32 : 0x10000;
        f.downward[r] = {uint64_t(s.limit) + 1, high, s.writable() ? high : 0};
    }
}

// A block was entered elsewhere than where its host code is for. When that happens often, it is made for
// there: from now on the other place is the stranger.
void Translator::stranger(Block& b, uint64_t rip) {
    if (b.heat == 0) b.heat = options_.tier1 * 8;
    if (--b.heat) return;
    if (nowhere_ || !fits(b, rip)) return;
    store_->exclusively([&] {
        if (b.hostBlock) store_->kill(*b.hostBlock);
    });
    if (!b.dead) heatUp(b, rip);
}

}  // namespace kiln
