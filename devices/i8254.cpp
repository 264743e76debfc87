#include "devices/i8254.hpp"

#include <algorithm>

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

constexpr Nanos kRefreshHalfPeriod = 15'085;  // of the refresh toggle in port 0x61
constexpr Nanos kShortestPeriod = 10'000;     // a guest that asks for IRQ 0 at megahertz gets it at this pace

uint32_t fromBcd(uint32_t v) {
    return (v >> 12 & 15) * 1000 + (v >> 8 & 15) * 100 + (v >> 4 & 15) * 10 + (v & 15);
}
uint32_t toBcd(uint32_t v) {
    return (v / 1000 % 10) << 12 | (v / 100 % 10) << 8 | (v / 10 % 10) << 4 | v % 10;
}

}  // namespace

// -- one counter

void I8254::Channel::takeNextCount(uint64_t tick) {
    if (!nextCount || !running || tick < switchTick) return;
    start = switchTick;
    count = nextCount;
    nextCount = 0;
}

bool I8254::Channel::output(uint64_t tick) const {
    if (!loaded) return mode != 0;
    uint64_t d = elapsed(tick);
    switch (mode) {
        case 0: return d >= count;
        case 1: return !triggered || d >= count;
        case 2: return !gate || d % count != count - 1;
        case 3: return !gate || d % count < (count + 1) / 2;
        case 4: return d != count;
        default: return !triggered || d != count;
    }
}

uint16_t I8254::Channel::value(uint64_t tick) const {
    uint64_t d = elapsed(tick), modulus = bcd ? 10000 : 0x10000;
    uint64_t v;
    if (mode == 2) {
        v = count - d % count;
    } else if (mode == 3) {  // counts by twos, twice a period
        uint64_t phase = d % count, half = (count + 1) / 2;
        v = (count & ~1u) - 2 * (phase < half ? phase : phase - half);
    } else {
        v = (count + modulus - d % modulus) % modulus;
    }
    return uint16_t(bcd ? toBcd(uint32_t(v)) : v);
}

uint64_t I8254::Channel::nextRise(uint64_t tick) const {
    if (!loaded || !running) return kNoRise;
    uint64_t d = elapsed(tick), once;
    switch (mode) {
        case 0:
        case 1: once = start + count; break;
        case 2:
        case 3: return start + (d / count + 1) * count;
        default: once = start + count + 1; break;
    }
    bool waiting = (mode != 1 && mode != 5) || triggered;
    return waiting && once > tick ? once : kNoRise;
}

void I8254::Channel::load(uint32_t newCount, uint64_t tick) {
    bool periodic = mode == 2 || mode == 3;
    if (periodic && loaded && running) {
        nextCount = newCount;
        switchTick = start + (elapsed(tick) / count + 1) * count;
        return;
    }
    count = newCount;
    loaded = true;
    if (mode == 1 || mode == 5) return;  // these wait for the gate
    start = tick + 1;
    running = gate;
    frozen = 0;
}

void I8254::Channel::setGate(bool level, uint64_t tick) {
    if (level == gate) return;
    bool triggers = mode == 1 || mode == 5, reloads = mode == 2 || mode == 3;
    uint64_t counted = elapsed(tick);
    gate = level;
    if (!loaded) return;
    if (triggers) {
        if (!level) return;
        triggered = running = true;
        start = tick + 1;
    } else if (!level) {
        frozen = counted;
        running = false;
    } else {
        if (reloads && nextCount) count = nextCount, nextCount = 0;
        start = reloads ? tick + 1 : tick - std::min(tick, frozen);
        running = true;
    }
}

void I8254::Channel::latchCount(uint64_t tick) {
    if (latchedBytes) return;
    latch = value(tick);
    latchedBytes = access == 3 ? 2 : 1;
}

void I8254::Channel::latchStatus(uint64_t tick) {
    if (statusLatched) return;
    status = uint8_t(output(tick) << 7 | nullCount(tick) << 6 | access << 4 | mode << 1 | int(bcd));
    statusLatched = true;
}

void I8254::Channel::state(StateVisitor& visit) {
    visit("mode", mode);
    visit("access", access);
    visit("bcd", bcd);
    visit("gate", gate);
    visit("loaded", loaded);
    visit("triggered", triggered);
    visit("running", running);
    visit("count", count);
    visit("nextCount", nextCount);
    visit("switchTick", switchTick);
    visit("start", start);
    visit("frozen", frozen);
    visit("latch", latch);
    visit("latchedBytes", latchedBytes);
    visit("status", status);
    visit("statusLatched", statusLatched);
    visit("readHigh", readHigh);
    visit("writeHigh", writeHigh);
    visit("lowByte", lowByte);
}

// -- the chip

I8254::I8254(Clock& clock, IrqInput& irq0) : clock_(clock), irq0_(irq0), timer_(clock, [this] { rise(); }) {
    reset();
}

void I8254::reset() {
    channels_ = {};
    channels_[2].gate = false;
    port61_ = 0;
    irqEnabled_ = true;
    timer_.disarm();
    updateIrq();
}

void I8254::state(StateVisitor& visit) {
    for (auto& c : channels_) c.state(visit);
    visit("port61", port61_);
    visit("irqEnabled", irqEnabled_);
    visitTimer(visit, "timer", timer_);
}

bool I8254::output(unsigned channel) {
    channels_[channel].takeNextCount(now());
    return channels_[channel].output(now());
}

void I8254::setIrqEnabled(bool enabled) {
    irqEnabled_ = enabled;
    updateIrq();
}

void I8254::updateIrq() { irq0_.set(irqEnabled_ && channels_[0].output(now())); }

void I8254::rise() {
    channels_[0].takeNextCount(now());
    irq0_.set(false);
    irq0_.set(irqEnabled_);
    arm();
}

void I8254::arm() {
    uint64_t tick = channels_[0].nextRise(now());
    if (tick == kNoRise) return timer_.disarm();
    timer_.arm(std::max(Clock::timeOfTick(tick, kHz), clock_.now() + kShortestPeriod));
}

void I8254::control(uint8_t value) {
    if (value >> 6 == 3) return readBack(value);
    Channel& c = channels_[value >> 6];
    if (!(value & 0x30)) return c.latchCount(now());
    c.access = value >> 4 & 3;
    c.mode = value >> 1 & 7;
    if (c.mode > 5) c.mode &= 3;
    c.bcd = value & 1;
    c.loaded = c.triggered = c.running = false;
    c.nextCount = 0;
    c.frozen = 0;
    c.latchedBytes = 0;
    c.statusLatched = c.readHigh = c.writeHigh = false;
}

void I8254::readBack(uint8_t value) {
    for (unsigned i = 0; i < 3; i++) {
        if (!(value >> (i + 1) & 1)) continue;
        if (!(value & 0x20)) channels_[i].latchCount(now());
        if (!(value & 0x10)) channels_[i].latchStatus(now());
    }
}

uint8_t I8254::readCounter(Channel& c) {
    if (c.statusLatched) {
        c.statusLatched = false;
        return c.status;
    }
    uint16_t v = c.latchedBytes ? c.latch : c.value(now());
    bool high = c.access == 2 || (c.access == 3 && c.readHigh);
    if (c.access == 3) c.readHigh = !c.readHigh;
    if (c.latchedBytes) c.latchedBytes--;
    return uint8_t(high ? v >> 8 : v);
}

void I8254::writeCounter(Channel& c, uint8_t value) {
    uint32_t written = 0;
    switch (c.access) {
        case 1: written = value; break;
        case 2: written = uint32_t(value) << 8; break;
        default:
            if (!c.writeHigh) {
                c.lowByte = value;
                c.writeHigh = true;
                if (c.mode == 0) c.loaded = c.running = false;  // the first byte stops mode 0 and lowers OUT
                return;
            }
            c.writeHigh = false;
            written = uint32_t(value) << 8 | c.lowByte;
            break;
    }
    uint32_t count = c.bcd ? fromBcd(written) : written;
    c.load(count ? count : c.bcd ? 10000 : 0x10000, now());
}

uint8_t I8254::readByte(uint64_t offset) {
    if (offset < 3) {
        channels_[offset].takeNextCount(now());
        return readCounter(channels_[offset]);
    }
    if (offset != kPort61) return 0xFF;
    bool refresh = clock_.now() / kRefreshHalfPeriod & 1;
    return uint8_t((port61_ & 0x0F) | refresh << 4 | output(2) << 5);
}

void I8254::writeByte(uint64_t offset, uint8_t value) {
    serveIfDue(clock_, timer_, [this] { rise(); });
    for (auto& c : channels_) c.takeNextCount(now());
    if (offset == kPort61) {
        port61_ = value & 0x0F;
        channels_[2].setGate(value & 1, now());
        return;
    }
    if (offset < 3)
        writeCounter(channels_[offset], value);
    else if (offset == 3)
        control(value);
    // Other channels have nothing to do with IRQ 0, nor has latching.
    bool channel0 = offset == 0 || (offset == 3 && value >> 6 == 0 && (value & 0x30));
    if (!channel0) return;
    updateIrq();
    arm();
}

}  // namespace kiln
