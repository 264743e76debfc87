#include "devices/hpet.hpp"

#include <algorithm>

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

constexpr uint64_t kCapabilities = (Hpet::kTick * 1'000'000) << 32  // period in femtoseconds
                                   | 0x8086ull << 16 | 1 << 15      // vendor, legacy replacement
                                   | 1 << 13 | (Hpet::kTimers - 1) << 8 |
                                   1;  // 64-bit counter, timers, revision

enum Config : uint64_t {
    kLevel = 1 << 1,
    kInterruptEnable = 1 << 2,
    kPeriodic = 1 << 3,
    kPeriodicCapable = 1 << 4,
    k64BitCapable = 1 << 5,
    kSetValue = 1 << 6,
    k32BitMode = 1 << 8,
};
constexpr uint64_t kRouteMask = 0x3E00;
constexpr uint64_t kTimerWritable =
    kLevel | kInterruptEnable | kPeriodic | kSetValue | k32BitMode | kRouteMask;
constexpr uint64_t kTimerFixed = uint64_t(Hpet::kRouteCapability) << 32 | kPeriodicCapable | k64BitCapable;

constexpr Nanos kShortestPeriod = 10'000;  // a guest that asks for more interrupts gets them at this pace

}  // namespace

Hpet::Hpet(Clock& clock, IrqInput& irq0, IrqInput& irq8, IoApic& ioApic)
    : clock_(clock), irq0_(irq0), irq8_(irq8), ioApic_(ioApic) {
    for (unsigned n = 0; n < kTimers; n++)
        timers_[n].timer = std::make_unique<Timer>(clock, [this, n] { expired(n); });
    reset();
}

void Hpet::reset() {
    bool wasLegacy = legacy();
    config_ = status_ = 0;
    stopped_ = 0;
    for (auto& t : timers_) {
        t.line.set(false);
        t.timer->disarm();
        t.config = 0;
        t.compare = ~0ull;
        t.period = 0;
        t.fired = false;
    }
    if (wasLegacy && onLegacyReplacement) onLegacyReplacement(false);
}

void Hpet::state(StateVisitor& visit) {
    visit("config", config_);
    visit("status", status_);
    visit("stopped", stopped_);
    visit("startedAt", startedAt_);
    visit("startedFrom", startedFrom_);
    for (auto& t : timers_) {
        visit("timerConfig", t.config);
        visit("compare", t.compare);
        visit("period", t.period);
        visit("fired", t.fired);
        visitTimer(visit, "timer", *t.timer);
    }
}

uint64_t Hpet::counter() const {
    return enabled() ? startedFrom_ + (clock_.now() - startedAt_) / kTick : stopped_;
}

// -- interrupts

IrqInput* Hpet::route(unsigned n) {
    if (legacy() && n == 0) return &irq0_;
    if (legacy() && n == 1) return &irq8_;
    unsigned input = timers_[n].config >> 9 & 31;
    return kRouteCapability >> input & 1 ? &ioApic_.pin(input) : nullptr;
}

// Lets go of the old wire before taking the new one.
void Hpet::connect(unsigned n) {
    Comparator& t = timers_[n];
    t.line.set(false);
    t.line = {};
    if (IrqInput* input = route(n)) t.line.connect(*input);
    updateLine(n);
}

void Hpet::updateLine(unsigned n) {
    Comparator& t = timers_[n];
    bool active = enabled() && (t.config & kLevel) && (t.config & kInterruptEnable) && (status_ >> n & 1);
    t.line.set(active);
}

// -- comparators

uint64_t Hpet::width(const Comparator& t) const { return t.config & k32BitMode ? 0xFFFFFFFFull : ~0ull; }

void Hpet::arm(unsigned n) {
    Comparator& t = timers_[n];
    t.timer->disarm();
    if (!enabled() || !(t.config & kInterruptEnable)) return;
    uint64_t mask = width(t), now = counter();
    uint64_t ticks = (t.compare - now) & mask;
    if (t.fired && ticks == 0) {  // the same value comes again when the counter has gone round
        if (mask == ~0ull) return;
        ticks = mask + 1;
    }
    constexpr uint64_t kFar = 1ull << 58;  // ticks; decades away
    if (ticks > kFar) return;
    uint64_t sinceTick = (clock_.now() - startedAt_) % kTick;
    Nanos wait = ticks * kTick - (ticks ? sinceTick : 0);
    bool fast = (t.config & kPeriodic) && t.period && t.period * kTick < kShortestPeriod;
    t.timer->arm(clock_.now() + (fast ? std::max(wait, kShortestPeriod) : wait));
}

void Hpet::armAll() {
    for (unsigned n = 0; n < kTimers; n++) arm(n);
}

void Hpet::expired(unsigned n) {
    Comparator& t = timers_[n];
    uint64_t mask = width(t);
    bool periodic = (t.config & kPeriodic) && t.period;
    if (periodic) {
        uint64_t late = (counter() - t.compare) & mask;
        t.compare = (t.compare + (late / t.period + 1) * t.period) & mask;
    }
    t.fired = !periodic;
    if (t.config & kLevel) {
        status_ |= 1u << n;
        updateLine(n);
    } else {
        t.line.set(false);
        t.line.set(true);
        // An 8259 wants to see the request until it acknowledges it; others share their line.
        if (!legacy() || n > 1) t.line.set(false);
    }
    // One-shot and late: the comparator lies behind the counter now and comes again after a whole turn.
    arm(n);
}

// -- registers

uint64_t Hpet::readRegister(uint64_t offset) const {
    switch (offset) {
        case 0x000: return kCapabilities;
        case 0x010: return config_;
        case 0x020: return status_;
        case 0x0F0: return counter();
        default: break;
    }
    if (offset < 0x100 || offset >= 0x100 + kTimers * 0x20) return 0;
    const Comparator& t = timers_[(offset - 0x100) / 0x20];
    switch (offset & 0x18) {
        case 0x00: return t.config | kTimerFixed;
        case 0x08: return t.compare & width(t);
        default: return 0;
    }
}

void Hpet::writeConfig(uint64_t value) {
    bool wasEnabled = enabled(), wasLegacy = legacy();
    uint64_t now = counter();
    config_ = value & 3;
    if (enabled() && !wasEnabled) {
        startedAt_ = clock_.now();
        startedFrom_ = stopped_;
    }
    if (!enabled()) stopped_ = now;
    // The old owners leave IRQ 0 and 8 before we take them, and come back after we have left.
    if (legacy() && !wasLegacy && onLegacyReplacement) onLegacyReplacement(true);
    for (unsigned n = 0; n < kTimers; n++) connect(n);
    if (!legacy() && wasLegacy && onLegacyReplacement) onLegacyReplacement(false);
    armAll();
}

void Hpet::writeStatus(uint64_t value) {
    status_ &= ~value;
    for (unsigned n = 0; n < kTimers; n++) updateLine(n);
}

void Hpet::writeTimerConfig(unsigned n, uint64_t value) {
    Comparator& t = timers_[n];
    t.config = value & kTimerWritable;
    if (!(t.config & kPeriodic)) t.config &= ~kSetValue;
    t.fired = false;
    if (t.config & k32BitMode) t.compare &= 0xFFFFFFFF, t.period &= 0xFFFFFFFF;
    if (!(t.config & kLevel)) status_ &= ~(1ull << n);
    connect(n);
    arm(n);
}

// In periodic mode a write sets the period, and the comparator itself only after VAL_SET was written
// (HPET 2.3.9.2.2).
void Hpet::writeComparator(unsigned n, uint64_t value, uint64_t mask) {
    Comparator& t = timers_[n];
    bool periodic = t.config & kPeriodic;
    if (!periodic || (t.config & kSetValue)) t.compare = ((t.compare & ~mask) | (value & mask)) & width(t);
    if (periodic) t.period = ((t.period & ~mask) | (value & mask)) & width(t);
    t.config &= ~uint64_t(kSetValue);
    t.fired = false;
    arm(n);
}

void Hpet::writeTimer(unsigned n, uint64_t offset, uint64_t value, uint64_t mask) {
    switch (offset) {
        case 0x00: return writeTimerConfig(n, (timers_[n].config & ~mask) | (value & mask));
        case 0x08: return writeComparator(n, value, mask);
        default: return;
    }
}

void Hpet::writeRegister(uint64_t offset, uint64_t value, uint64_t mask) {
    switch (offset) {
        case 0x010: return writeConfig((config_ & ~mask) | (value & mask));
        case 0x020: return writeStatus(value & mask);
        case 0x0F0: {
            uint64_t now = (counter() & ~mask) | (value & mask);
            startedAt_ = clock_.now();
            startedFrom_ = stopped_ = now;
            for (auto& t : timers_) t.fired = false;
            return armAll();
        }
        default: break;
    }
    if (offset >= 0x100 && offset < 0x100 + kTimers * 0x20)
        writeTimer(unsigned(offset - 0x100) / 0x20, offset & 0x18, value, mask);
}

uint64_t Hpet::ioRead(uint64_t offset, unsigned size) {
    unsigned shift = unsigned(offset & 7) * 8;
    return readRegister(offset & ~7ull) >> shift & openBus(size);
}

void Hpet::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (size < 4 || (offset & 3)) return;
    for (unsigned n = 0; n < kTimers; n++) serveIfDue(clock_, *timers_[n].timer, [this, n] { expired(n); });
    unsigned shift = unsigned(offset & 4) * 8;
    uint64_t mask = openBus(size) << shift;
    writeRegister(offset & ~7ull, value << shift, mask);
}

// The main counter while it runs, and what never changes.
DirectRegister Hpet::direct(uint64_t offset, unsigned size, bool write) {
    if (write || (size != 8 && size != 4)) return {};
    if (offset == 0x000) return DirectRegister::always(kCapabilities);
    if (offset == 0x010) return DirectRegister::at(config_);
    if (offset != 0x0F0) return {};
    DirectRegister r{.form = DirectRegister::Form::Counter};
    // Division by 10, exact for all 64 bits.
    static_assert(kTick == 10);
    r.factor = 0xCCCCCCCCCCCCCCCD, r.shift = 3;
    r.since = &startedAt_, r.from = &startedFrom_;
    r.guard = reinterpret_cast<const uint8_t*>(&config_);
    r.guardMask = r.guarded = 1;
    return r;
}

}  // namespace kiln
