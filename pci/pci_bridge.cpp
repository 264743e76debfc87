#include "pci/pci_bridge.hpp"

namespace kiln {

namespace {

// Offsets of the type-1 header (3.2.5).
enum : unsigned {
    kCommand = 0x04,
    kBusNumbers = 0x18,
    kIoBase = 0x1c,
    kIoLimit = 0x1d,
    kMemoryBase = 0x20,
    kMemoryLimit = 0x22,
    kPrefetchableBase = 0x24,
    kPrefetchableLimit = 0x26,
    kPrefetchableBaseUpper = 0x28,
    kPrefetchableLimitUpper = 0x2c,
    kBridgeControl = 0x3e,
};
constexpr uint8_t kIoEnable = 1, kMemoryEnable = 2, kBusMaster = 4;
constexpr uint8_t kIsaEnable = 0x04;
constexpr uint8_t k64Bit = 1;

constexpr unsigned kSlotNumbering = 0x40;
constexpr uint8_t kSlotNumberingId = 4;

constexpr unsigned kExpress = 0x40;
// From the start of the PCI Express capability.
enum : unsigned { kLinkControl = 0x10, kLinkStatus = 0x12, kSlotCapabilities = 0x14, kSlotStatus = 0x1a };
constexpr uint8_t kLinkDisable = 0x10, kPresent = 0x40, kLinkActive = 0x20;

}  // namespace

PciBridge::PciBridge(uint8_t chassis)
    : PciBridge({.vendor = 0x1b36, .device = 0x0001, .classCode = 0x060400}) {
    addCapability(kSlotNumbering, kSlotNumberingId);
    config_[kSlotNumbering + 3] = chassis;
}

PciBridge::PciBridge(PciIdentity identity)
    : PciFunction([&] {
          identity.headerType |= 1;
          return identity;
      }()) {
    set32(0x2c, 0);  // no subsystem here: windows
    writable_[kCommand] |= kIoEnable | kMemoryEnable | kBusMaster;
    for (unsigned i = 0; i < 4; i++) writable_[kBusNumbers + i] = 0xff;
    writable_[kIoBase] = writable_[kIoLimit] = 0xf0;
    for (unsigned at : {kMemoryBase, kMemoryLimit, kPrefetchableBase, kPrefetchableLimit})
        writable_[at] = 0xf0, writable_[at + 1] = 0xff;
    config_[kPrefetchableBase] = config_[kPrefetchableLimit] = k64Bit;
    for (unsigned i = 0; i < 8; i++) writable_[kPrefetchableBaseUpper + i] = 0xff;
    writable_[kBridgeControl] = 0x47;  // parity response, SERR#, ISA enable, secondary bus reset
}

bool PciBridge::forwards(Space space, uint64_t first, uint64_t last) const {
    if (!linkUp()) return false;
    auto within = [&](uint64_t base, uint64_t limit) { return base <= first && last <= limit; };
    if (space == Space::Io) {
        // With ISA enable, of each KiB only the first 256 bytes.
        if ((config_[kBridgeControl] & kIsaEnable) && (first & 0x300)) return false;
        return (config_[kCommand] & kIoEnable) &&
               within((config_[kIoBase] & 0xf0) << 8, (config_[kIoLimit] & 0xf0) << 8 | 0xfff);
    }
    auto edge = [&](unsigned at) { return uint64_t(get16(at) & 0xfff0) << 16; };
    auto upper = [&](unsigned at) { return uint64_t(get32(at)) << 32; };
    return (config_[kCommand] & kMemoryEnable) &&
           (within(edge(kMemoryBase), edge(kMemoryLimit) | 0xfffff) ||
            within(edge(kPrefetchableBase) | upper(kPrefetchableBaseUpper),
                   edge(kPrefetchableLimit) | upper(kPrefetchableLimitUpper) | 0xfffff));
}

void PciBridge::configWrite(uint16_t offset, unsigned size, uint32_t value) {
    const bool up = linkUp();
    PciFunction::configWrite(offset, size, value);
    if (!bus_) return;
    if (up && !linkUp()) bus_->resetBelow(*this);
    bus_->updateBelow(*this);
}

void PciBridge::reset() {
    PciFunction::reset();
    if (bus_) bus_->updateBelow(*this);
}

void PciBridge::state(StateVisitor& visit) {
    PciFunction::state(visit);
    if (bus_) bus_->updateBelow(*this);  // after a load
}

RootPort::RootPort(uint8_t port, uint16_t slot)
    : PciBridge({.vendor = 0x1b36, .device = 0x000c, .classCode = 0x060400}) {
    writable_[0x1b] = 0;  // there is no latency timer
    addExpress(kExpress, ExpressType::RootPort);
    config_[kExpress + 0x0f] = port;
    set32(kExpress + kSlotCapabilities, uint32_t(slot) << 19);
    config_[kExpress + 0x03] |= 1;  // a slot
    writable_[kExpress + kLinkControl] |= kLinkDisable;
}

bool RootPort::linkUp() const {
    return PciBridge::linkUp() && !(config_[kExpress + kLinkControl] & kLinkDisable);
}

void RootPort::occupied() {
    setPowerOn(kExpress + kSlotStatus, kPresent);
    setPowerOn(kExpress + kLinkStatus, 0x11);  // 2.5 GT/s, one lane
    setPowerOn(kExpress + kLinkStatus + 1, kLinkActive);
}

void RootPort::configWrite(uint16_t offset, unsigned size, uint32_t value) {
    PciBridge::configWrite(offset, size, value);
    uint8_t& active = config_[kExpress + kLinkStatus + 1];
    const bool present = config_[kExpress + kSlotStatus] & kPresent;
    active = uint8_t((active & ~kLinkActive) | (present && linkUp() ? kLinkActive : 0));
}

}  // namespace kiln
