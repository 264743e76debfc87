#include "pci/pci_function.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

#include "pci/msix.hpp"
#include "pci/pci_bridge.hpp"

namespace kiln {

namespace {

// Offsets of the type-0 header (PCI 3.0, 6.1).
enum : unsigned {
    kCommand = 0x04,
    kCacheLine = 0x0c,
    kLatency = 0x0d,
    kBar0 = 0x10,
    kExpansionRom = 0x30,
    kInterruptLine = 0x3c,
    kInterruptPin = 0x3d,
};

constexpr unsigned kConventionalSpace = 256, kRomIndex = 6;
constexpr uint32_t kWide = 4, kPrefetchable = 8;  // type bits of a memory BAR
constexpr uint64_t kHighestAddress = 1ull << 52;
constexpr int kBarPriority = 1;  // above RAM, which never lies where firmware puts BARs

constexpr unsigned barOffset(unsigned index) {
    return index == kRomIndex ? kExpansionRom : kBar0 + index * 4;
}

}  // namespace

PciFunction::PciFunction(PciIdentity identity)
    : config_(kConventionalSpace), writable_(kConventionalSpace), powerOn_(kConventionalSpace) {
    set16(0x00, identity.vendor);
    set16(0x02, identity.device);
    set32(0x08, identity.classCode << 8 | identity.revision);
    config_[0x0e] = identity.headerType;
    set16(0x2c, identity.subsystemVendor);
    set16(0x2e, identity.subsystem);
    writable_[kCommand] = 0x44;      // bus master, parity response; decode bits come with the BARs
    writable_[kCommand + 1] = 0x05;  // SERR#, interrupt disable
    writable_[kCacheLine] = 0xff;
    writable_[kLatency] = 0xff;
    writable_[kInterruptLine] = 0xff;
}

PciFunction::~PciFunction() = default;

void PciFunction::declareBar(unsigned index, Bar bar, uint32_t typeBits) {
    assert(index < bars_.size() && bars_[index].kind == Bar::None && !bus_);
    assert(std::has_single_bit(bar.size) && (bar.wide || bar.size <= 1u << 31));
    const uint64_t mask = ~(bar.size - 1);
    unsigned offset = barOffset(index);
    set32(offset, typeBits);
    for (unsigned i = 0; i < (bar.wide ? 8u : 4u); i++) writable_[offset + i] = uint8_t(mask >> (i * 8));
    if (bar.wide) {
        assert(index < 5 && bars_[index + 1].kind == Bar::None);
        bars_[index + 1].kind = Bar::Upper;
    }
    if (index == kRomIndex) writable_[offset] |= 1;  // enable
    writable_[kCommand] |= bar.kind == Bar::Io ? 1 : 2;
    bars_[index] = bar;
}

void PciFunction::addIoBar(unsigned index, uint32_t size, IoHandler& handler) {
    assert(size >= 4 && size <= 256);
    declareBar(index, {.kind = Bar::Io, .size = size, .handler = &handler}, 1);
}

void PciFunction::addMemoryBar(unsigned index, uint64_t size, IoHandler& handler) {
    assert(size >= 16);
    declareBar(index, {.kind = Bar::Memory, .size = size, .handler = &handler}, 0);
}

void PciFunction::addMemoryBar(unsigned index, uint64_t size, RamBlock& ram, bool prefetchable) {
    assert(size >= kPageSize);
    declareBar(index, {.kind = Bar::Ram, .size = size, .ram = &ram}, prefetchable ? kPrefetchable : 0);
}

void PciFunction::addWideBar(unsigned index, uint64_t size, IoHandler& handler, bool prefetchable) {
    assert(size >= 16);
    declareBar(index, {.kind = Bar::Memory, .size = size, .handler = &handler, .wide = true},
               kWide | (prefetchable ? kPrefetchable : 0));
}

void PciFunction::addWideBar(unsigned index, uint64_t size, RamBlock& ram, bool prefetchable) {
    assert(size >= kPageSize);
    declareBar(index, {.kind = Bar::Ram, .size = size, .ram = &ram, .wide = true},
               kWide | (prefetchable ? kPrefetchable : 0));
}

void PciFunction::addRom(RamBlock& rom) {
    declareBar(kRomIndex, {.kind = Bar::Rom, .size = std::bit_ceil(rom.size()), .ram = &rom}, 0);
}

void PciFunction::setInterruptPin(unsigned pin) {
    assert(pin >= 1 && pin <= 4);
    config_[kInterruptPin] = uint8_t(pin);
}

void PciFunction::setMultiFunction() { config_[0x0e] |= 0x80; }

Bdf PciFunction::bdf() const {
    return Bdf(bridge_ ? bridge_->secondaryBus() : 0, place_.device(), place_.function());
}

// Extended configuration space doesn't get through conventional bridges.
unsigned PciFunction::extent() const {
    bool express = true;
    for (const PciBridge* b = bridge_; b; b = b->bridge_) express &= b->express();
    return express ? unsigned(config_.size()) : kConventionalSpace;
}

uint32_t PciFunction::configRead(uint16_t offset, unsigned size) {
    uint32_t value = 0;
    for (unsigned i = 0; i < size && offset + i < config_.size(); i++)
        value |= uint32_t(config_[offset + i]) << (i * 8);
    return value;
}

void PciFunction::configWrite(uint16_t offset, unsigned size, uint32_t value) {
    for (unsigned i = 0; i < size && offset + i < config_.size(); i++) {
        uint8_t& byte = config_[offset + i];
        uint8_t mask = writable_[offset + i];
        byte = uint8_t((byte & ~mask) | (value >> (i * 8) & mask));
    }
    updateMappings();
    sendPendingMsi();
    if (msix_) msix_->sendPending();
}

// Where a BAR asks to be, or kUnmapped. As in other emulators, address 0 and the very top (what a sizing
// write of all ones leaves behind, also in one half of a 64-bit BAR) are not decoded: firmware sizes BARs
// without turning decoding off.
uint64_t PciFunction::wantedAddress(unsigned index) const {
    const Bar& bar = bars_[index];
    const uint64_t upper = bar.wide ? uint64_t(get32(barOffset(index) + 4)) << 32 : 0;
    const uint64_t value = get32(barOffset(index)) | upper;
    uint8_t command = config_[kCommand];
    if (bar.kind == Bar::None || bar.kind == Bar::Upper || !(command & (bar.kind == Bar::Io ? 1 : 2)))
        return kUnmapped;
    if (bar.kind == Bar::Rom && !(value & 1)) return kUnmapped;
    const bool io = bar.kind == Bar::Io;
    const uint64_t at = value & ~(bar.size - 1), end = at + bar.size;
    const uint64_t limit = io ? 0x10000 : bar.wide ? kHighestAddress : 0x100000000;
    if (at == 0 || end < at || end >= limit || (!io && end == 0x100000000)) return kUnmapped;
    const auto space = io ? PciBridge::Space::Io : PciBridge::Space::Memory;
    for (const PciBridge* b = bridge_; b; b = b->bridge_)
        if (!b->forwards(space, at, end - 1)) return kUnmapped;
    return at;
}

void PciFunction::unmapBar(Bar& bar) {
    if (bar.at == kUnmapped) return;
    if (bar.kind == Bar::Io)
        bus_->portBus.unmap(uint16_t(bar.at), *bar.handler);
    else
        bus_->memory.unmap(bar.region);
    bar.region = nullptr;
    bar.at = kUnmapped;
}

void PciFunction::mapBar(Bar& bar, uint64_t at) {
    bar.at = at;
    if (bus_->log)
        (*bus_->log)(LogCategory::Pci, "{:02x}:{:02x}.{:x}: BAR {} at {:x}, {:x} bytes", bdf().bus(),
                     place_.device(), place_.function(), &bar - bars_.data(), at, bar.size);
    PhysAddr base(at);
    if (bar.kind == Bar::Io)
        bus_->portBus.map(uint16_t(at), uint32_t(bar.size), *bar.handler);
    else if (bar.kind == Bar::Memory)
        bar.region = bus_->memory.mapIo(base, bar.size, *bar.handler, kBarPriority);
    else if (bar.kind == Bar::Ram)
        bar.region =
            bus_->memory.mapRam(base, std::min(bar.size, bar.ram->size()), *bar.ram, 0, kBarPriority);
    else
        bar.region =
            bus_->memory.mapRom(base, std::min(bar.size, bar.ram->size()), *bar.ram, 0, kBarPriority);
}

void PciFunction::updateMappings() {
    if (!bus_) return;
    for (unsigned i = 0; i < bars_.size(); i++) {
        uint64_t at = wantedAddress(i);
        if (at == bars_[i].at) continue;
        unmapBar(bars_[i]);
        if (at != kUnmapped) mapBar(bars_[i], at);
    }
    driveIntx();
}

void PciFunction::driveIntx() {
    const bool level = intxAsserted_ && !intxMasked();
    if (level == intx_.level()) return;
    if (relay_) relay_->intx(level);
    intx_.set(level);
}

void PciFunction::setIntx(bool level) {
    intxAsserted_ = level;
    config_[0x06] = uint8_t((config_[0x06] & ~8) | (level ? 8 : 0));  // interrupt status
    driveIntx();
}

void PciFunction::reset() { resetKeeping({}); }

void PciFunction::resetKeeping(std::initializer_list<ConfigRange> ranges) {
    const auto before = config_;
    config_ = powerOn_;
    for (ConfigRange r : ranges) std::copy_n(&before[r.first], r.count, &config_[r.first]);
    intxAsserted_ = false;
    if (msix_) msix_->reset();
    updateMappings();
}

void PciFunction::state(StateVisitor& visit) {
    visit("config", config_);
    visit("intx", intxAsserted_);
    if (msix_) msix_->state(visit);
    if (relay_) relay_->state(visit);
    if (relay_) relay_->restoreIntx(intxAsserted_ && !intxMasked());
    updateMappings();  // after a load
}

}  // namespace kiln
