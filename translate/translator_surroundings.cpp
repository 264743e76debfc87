// Which surroundings code runs in (surroundings.hpp), and segments as host code sees them.
#include <cstring>

#include "translate/translator.hpp"

namespace kiln {

void Translator::noteSurroundings() {
    const Cpu& c = cpu_;
    if (generation_ != store_->generation()) now_ = lastSegmented_ = {};
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
    auto known = [&](const Surroundings& k) {
        return k.segmented() && k.codeBase == s.codeBase && k.codeEnd == s.codeEnd && k.code32 == s.code32 &&
               k.bigStack == s.bigStack && k.v86 == s.v86 && k.whole == s.whole;
    };
    if (known(now_)) return;
    if (!known(lastSegmented_)) {
        const auto held = store_->lock();
        lastSegmented_ = store_->surroundings(s);
    }
    now_ = lastSegmented_;
    nowhere_ = !now_.segmented();
}

void Translator::segmentsToFrame(HostFrame& f) {
    const Cpu& c = cpu_;
    f.surroundings = now_.key;
    static_assert(sizeof(HostFrame::Segment) == sizeof(Cpu::FastSegment));
    static_assert(offsetof(HostFrame::Segment, readEnd) == offsetof(Cpu::FastSegment, readEnd));
    static_assert(offsetof(HostFrame::Segment, writeEnd) == offsetof(Cpu::FastSegment, writeEnd));
    bool downward = false;
    if (c.protectedMode())
        for (const Segment& s : c.seg) downward |= s.expandDown() && !s.unusable;
    if (downward || segmentsDownward_ || std::memcmp(&segments_, &c.fast_, sizeof segments_) != 0) {
        segments_ = c.fast_;
        segmentsDownward_ = downward;
        segmentsVersion_++;
    }
    if (f.segmentsVersion == segmentsVersion_) return;
    f.segmentsVersion = segmentsVersion_;
    std::memcpy(f.segments, c.fast_.data(), sizeof f.segments);
    std::memset(f.downward, 0, sizeof f.downward);
    if (!downward) return;
    for (unsigned r = 0; r < 6; r++) {
        const Segment& s = c.seg[r];
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
