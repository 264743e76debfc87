// What a PCI function does by itself: memory transactions and message-signalled interrupts.
#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "pci/pci_function.hpp"

namespace kiln {

namespace {

constexpr unsigned kStatus = 0x06, kCapabilities = 0x34;
constexpr uint8_t kHasCapabilities = 0x10;

// The MSI capability with a 64-bit address (PCI 3.0, 6.8.1), from its start.
enum : unsigned { kControl = 2, kAddress = 4, kUpperAddress = 8, kData = 12 };
constexpr uint8_t kMsiId = 0x05, kMsiEnable = 0x01, kMsi64 = 0x80;

}  // namespace

void PciFunction::addCapability(unsigned offset, uint8_t id) {
    assert(!bus_ && offset >= 0x40 && offset % 4 == 0);
    config_[offset] = id;
    config_[offset + 1] = config_[kCapabilities];
    config_[kCapabilities] = uint8_t(offset);
    config_[kStatus] |= kHasCapabilities;
}

void PciFunction::addMsi(unsigned offset, unsigned vectors) {
    assert(!msi_ && std::has_single_bit(vectors) && vectors <= 32);
    addCapability(offset, kMsiId);
    msi_ = uint8_t(offset);
    config_[msi_ + kControl] = uint8_t(kMsi64 | std::countr_zero(vectors) << 1);
    writable_[msi_ + kControl] = 0x70 | kMsiEnable;
    for (unsigned i = 0; i < 10; i++) writable_[msi_ + kAddress + i] = 0xff;
    writable_[msi_ + kAddress] = 0xfc;
}

bool PciFunction::msiEnabled() const { return msi_ && (config_[msi_ + kControl] & kMsiEnable); }

void PciFunction::sendMsi(unsigned vector) {
    if (!msiEnabled()) return;
    // A function that got fewer messages than it asked for folds them (6.8.1.3).
    const uint8_t control = config_[msi_ + kControl];
    const unsigned messages = 1u << std::min(control >> 4 & 7, control >> 1 & 7);
    const uint32_t data = config_[msi_ + kData] | config_[msi_ + kData + 1] << 8;
    const uint32_t message = (data & ~(messages - 1)) | (vector & (messages - 1));
    dmaWrite(get32(msi_ + kAddress) | uint64_t(get32(msi_ + kUpperAddress)) << 32, &message, sizeof message);
}

bool PciFunction::dmaRead(uint64_t address, void* out, uint64_t size) {
    if (bus_ && busMaster()) return bus_->upstream->read(bdf_, address, out, size);
    std::memset(out, 0xff, size);
    return false;
}

bool PciFunction::dmaWrite(uint64_t address, const void* in, uint64_t size) {
    return bus_ && busMaster() && bus_->upstream->write(bdf_, address, in, size);
}

}  // namespace kiln
