#include "apic/io_apic.hpp"

#include "apic/interrupt_relay.hpp"

namespace kiln {

namespace {
constexpr uint64_t kMasked = 1 << 16, kLevel = 1 << 15, kRemoteIrr = 1 << 14;
constexpr uint64_t kLogical = 1 << 11;
constexpr uint32_t kMsiLevel = 1 << 15, kMsiAssert = 1 << 14, kMsiLogical = 1 << 2;
constexpr uint64_t kEntryWritable = 0xFFFF0000'0001AFFFull;
constexpr uint32_t kVersion = 0x20 | (IoApic::kPins - 1) << 16;

DeliveryMode mode(uint64_t entry) { return DeliveryMode(entry >> 8 & 7); }

// Only fixed and lowest-priority interrupts can be level-triggered and have an EOI.
bool levelTriggered(uint64_t entry) {
    return (entry & kLevel) &&
           (mode(entry) == DeliveryMode::Fixed || mode(entry) == DeliveryMode::LowestPriority);
}
}  // namespace

IoApic::IoApic(ApicBus& bus, uint8_t id) : bus_(bus), powerOnId_(id) {
    for (unsigned n = 0; n < kPins; n++) pins_[n] = IrqInput([this, n](bool level) { pinChanged(n, level); });
    bus.add(*this);
    reset();
}

void IoApic::reset() {
    select_ = 0;
    id_ = powerOnId_;
    entries_.fill(kMasked);
}

void IoApic::state(StateVisitor& visit) {
    visit("select", select_);
    visit("id", id_);
    visit("entries", entries_);
}

bool IoApic::send(unsigned n) {
    const uint64_t entry = entries_[n];
    const uint64_t address = ApicBus::kWindowBase | entry >> 48 << 4 | (entry & kLogical ? kMsiLogical : 0);
    const uint32_t trigger = levelTriggered(entry) ? kMsiLevel | kMsiAssert : 0;
    const bool taken = sendMessage(n, {address, uint32_t(entry & 0x7FF) | trigger});
    sent_[n] += taken;
    return taken;
}

bool IoApic::sendMessage(unsigned n, const Msi& msi) {
    if (!bus_.relay) return bus_.request(msi);
    if (const auto cpu = bus_.relay->dedicatedPin(n)) return bus_.requestFor(*cpu, msi);
    const InterruptRelay::Passage passage(*bus_.relay, n);
    return bus_.request(msi);
}

void IoApic::pinChanged(unsigned n, bool level) {
    if (!level) return;
    if (levelTriggered(entries_[n]))
        serviceLevel(n);
    else if (!(entries_[n] & kMasked))  // an edge on a masked pin is lost, says the data sheet
        send(n);
}

void IoApic::serviceLevel(unsigned n) {
    if (!pins_[n].level() || !levelTriggered(entries_[n]) || (entries_[n] & (kMasked | kRemoteIrr))) return;
    entries_[n] |= kRemoteIrr;  // first: the CPU may answer at once
    if (!send(n)) entries_[n] &= ~kRemoteIrr;
}

void IoApic::eoi(uint8_t vector) {
    for (unsigned n = 0; n < kPins; n++) {
        if (uint8_t(entries_[n]) != vector || !(entries_[n] & kRemoteIrr)) continue;
        entries_[n] &= ~kRemoteIrr;
        serviceLevel(n);
    }
}

void IoApic::writeEntry(unsigned n, uint64_t value) {
    uint64_t remoteIrr = entries_[n] & kRemoteIrr;
    entries_[n] = value & kEntryWritable;
    // Going to edge and back is how software without an EOI register clears remote IRR.
    if (levelTriggered(entries_[n])) entries_[n] |= remoteIrr;
    serviceLevel(n);
}

uint32_t IoApic::readRegister(uint8_t index) const {
    if (index >= 0x10 && index < 0x10 + 2 * kPins) {
        uint64_t entry = entries_[(index - 0x10) / 2];
        return uint32_t(index & 1 ? entry >> 32 : entry);
    }
    switch (index) {
        case 0:
        case 2: return uint32_t(id_) << 24;
        case 1: return kVersion;
        default: return ~0u;
    }
}

void IoApic::writeRegister(uint8_t index, uint32_t value) {
    if (index == 0) id_ = value >> 24 & 0xF;
    if (index < 0x10 || index >= 0x10 + 2 * kPins) return;
    unsigned n = (index - 0x10) / 2;
    if (index & 1)
        writeEntry(n, (entries_[n] & 0xFFFFFFFF) | uint64_t(value) << 32);
    else
        writeEntry(n, (entries_[n] & 0xFFFFFFFF00000000ull) | value);
}

uint64_t IoApic::ioRead(uint64_t offset, unsigned size) {
    unsigned shift = (offset & 3) * 8;
    switch (offset & ~3ull) {
        case 0x00: return select_ >> shift & openBus(size);
        case 0x10: return readRegister(select_) >> shift & openBus(size);
        default: return openBus(size);
    }
}

void IoApic::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    switch (offset) {
        case 0x00: select_ = uint8_t(value); break;
        case 0x10:
            if (size >= 4) writeRegister(select_, uint32_t(value));
            break;
        case 0x40: eoi(uint8_t(value)); break;
        default: break;
    }
}

}  // namespace kiln
