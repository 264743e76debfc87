// Lists of capabilities, and the PCI Express capability (PCI Express 4.0, 7.5.3).
#include <cassert>

#include "pci/pci_function.hpp"

namespace kiln {

namespace {

constexpr unsigned kStatus = 0x06, kCapabilities = 0x34;
constexpr uint8_t kHasCapabilities = 0x10;

constexpr uint8_t kExpressId = 0x10, kVersion = 2;
constexpr uint32_t kRoleBasedErrors = 1 << 15;
constexpr uint32_t kOneLaneSlowest = 0x11, kReportsActive = 1 << 20;
constexpr unsigned kExpressSpace = 4096, kExtended = 0x100;

}  // namespace

void PciFunction::addCapability(unsigned offset, uint8_t id) {
    assert(!bus_ && offset >= 0x40 && offset % 4 == 0);
    config_[offset] = id;
    config_[offset + 1] = config_[kCapabilities];
    config_[kCapabilities] = uint8_t(offset);
    config_[kStatus] |= kHasCapabilities;
}

void PciFunction::addExpress(unsigned offset, ExpressType type) {
    addCapability(offset, kExpressId);
    express_ = offset;
    config_.resize(kExpressSpace);
    writable_.resize(kExpressSpace);
    powerOn_.resize(kExpressSpace);
    set16(offset + 2, uint16_t(kVersion | unsigned(type) << 4));
    set32(offset + 4, kRoleBasedErrors);
    writable_[offset + 8] = 0xff, writable_[offset + 9] = 0x7f;  // device control
    if (type == ExpressType::IntegratedEndpoint) return;         // has no link
    const bool port = type == ExpressType::RootPort;
    set32(offset + 0x0c, kOneLaneSlowest | (port ? kReportsActive : 0));
    writable_[offset + 0x10] = 0xcb, writable_[offset + 0x11] = 0x0f;  // link control
    if (!port) config_[offset + 0x12] = kOneLaneSlowest;
    config_[offset + 0x2c] = 2;  // link capabilities 2: 2.5 GT/s
    config_[offset + 0x30] = 1;  // link control 2: the same as target
    if (!port) return;
    writable_[offset + 0x18] = 0xff, writable_[offset + 0x19] = 0x1f;  // slot control
    writable_[offset + 0x1c] = 0x1f;                                   // root control
}

void PciFunction::addExtendedCapability(unsigned offset, uint16_t id, uint8_t version) {
    assert(!bus_ && express_ && offset % 4 == 0 && offset > extended_);
    assert(extended_ ? offset < kExpressSpace : offset == kExtended);
    if (extended_) set16(extended_ + 2, uint16_t((get16(extended_ + 2) & 15) | offset << 4));
    set32(offset, id | uint32_t(version) << 16);
    extended_ = offset;
}

void PciFunction::setPowerOn(unsigned offset, uint8_t bits) {
    config_[offset] |= bits;
    powerOn_[offset] |= bits;
}

}  // namespace kiln
