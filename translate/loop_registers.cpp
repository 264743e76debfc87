#include "translate/loop_registers.hpp"

namespace kiln {

uint64_t LoopRegisters::roundsFrom(const TrapLoop& loop, unsigned at) const {
    const TrapLoop::Bulk& b = *loop.bulk;
    const Step& counts = loop.steps[b.counts];
    auto valueAt = [&](unsigned reg, unsigned step) {
        return r[reg] + uint64_t(loop.addedBefore(step, reg) - loop.addedBefore(at, reg));
    };
    // The loop ends where `left` is 0 behind the step that counts; each round adds to it.
    uint64_t left = 0;
    int64_t added = 0;
    unsigned bytes = counts.bytes;
    if (counts.what == What::Loop) {
        bytes = counts.width;
        left = valueAt(1, b.counts + 1u), added = b.stride[1];
    } else if (counts.what == What::Compare) {
        left = valueAt(counts.to, b.counts), added = b.stride[counts.to];
        if (counts.from == TrapLoop::kNone) {
            left -= uint64_t(counts.constant);
        } else {
            left -= valueAt(counts.from, b.counts);
            added -= b.stride[counts.from];
        }
    } else {
        left = valueAt(counts.to, b.counts + 1u), added = b.stride[counts.to];
    }
    left &= openBus(bytes);
    if (!left) return 1;
    if (!added) return ~0ull;
    const uint64_t distance = added < 0 ? left : (0 - left) & openBus(bytes),
                   step = uint64_t(added < 0 ? -added : added);
    return distance / step + (distance % step == 0);
}

uint64_t LoopRegisters::addressOf(const TrapLoop& loop, unsigned other, unsigned at) const {
    const Step& s = loop.steps[other];
    const int64_t added = loop.addedBefore(other, s.base) - loop.addedBefore(at, s.base);
    return (address(s) + uint64_t(added)) & openBus(s.width);
}

bool LoopRegisters::mayAdd(const TrapLoop::Bulk& b) const {
    for (unsigned n = 0; n < 16; n++)
        if (b.width[n] == 4 && r[n] >> 32) return false;
    return true;
}

void LoopRegisters::addRounds(const TrapLoop::Bulk& b, uint64_t rounds) {
    for (unsigned n = 0; n < 16; n++)
        if (b.width[n]) r[n] = (r[n] + uint64_t(int64_t(b.stride[n])) * rounds) & openBus(b.width[n]);
}

}  // namespace kiln
