// What a PCI function does by itself: memory transactions, and message-signalled interrupts (PCI 3.0, 6.8.1).
#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "pci/msix.hpp"
#include "pci/pci_bridge.hpp"

namespace kiln {

namespace {

// The MSI capability with a 64-bit address, from its start.
enum : unsigned { kControl = 2, kAddress = 4, kUpperAddress = 8, kData = 12, kMask = 16, kPending = 20 };
constexpr uint8_t kMsiId = 0x05, kMsiEnable = 0x01, kMsi64 = 0x80, kMaskable = 0x01;

}  // namespace

// -- transactions

bool PciFunction::mayMaster() const {
    bool may = bus_ && busMaster();
    for (const PciBridge* b = bridge_; b; b = b->bridge_) may &= b->busMaster() && b->linkUp();
    return may;
}

Bdf PciFunction::requesterId() const {
    Bdf id = bdf();
    for (const PciBridge* b = bridge_; b; b = b->bridge_)
        if (!b->express()) id = b->bdf();
    return id;
}

bool PciFunction::dmaRead(uint64_t address, void* out, uint64_t size) {
    if (mayMaster()) return bus_->upstream->read(requesterId(), address, out, size);
    std::memset(out, 0xff, size);
    return false;
}

bool PciFunction::dmaWrite(uint64_t address, const void* in, uint64_t size) {
    return mayMaster() && bus_->upstream->write(requesterId(), address, in, size);
}

// A message is a transaction of a bus master like others. On its way up it passes the relay, unless the
// function's interrupts are dedicated to a processor.
void PciFunction::sendMessage(InterruptId id, uint64_t address, uint32_t data) {
    if (!mayMaster()) return;
    const Bdf requester = requesterId();
    if (relay_ && relay_->dedicated({address, data}, requester.value)) return;
    const InterruptRelay::Passage passage(relay_, id);
    bus_->upstream->write(requester, address, &data, sizeof data);
}

// -- MSI

void PciFunction::addMsi(unsigned offset, unsigned vectors, bool maskable) {
    assert(!msi_ && std::has_single_bit(vectors) && vectors <= 32);
    addCapability(offset, kMsiId);
    msi_ = offset;
    config_[msi_ + kControl] = uint8_t(kMsi64 | std::countr_zero(vectors) << 1);
    writable_[msi_ + kControl] = 0x70 | kMsiEnable;
    for (unsigned i = 0; i < 10; i++) writable_[msi_ + kAddress + i] = 0xff;
    writable_[msi_ + kAddress] = 0xfc;
    if (!maskable) return;
    config_[msi_ + kControl + 1] = kMaskable;
    const auto all = uint32_t((1ull << vectors) - 1);
    for (unsigned i = 0; i < 4; i++) writable_[msi_ + kMask + i] = uint8_t(all >> (i * 8));
}

unsigned PciFunction::msiVectors() const { return msi_ ? 1u << (config_[msi_ + kControl] >> 1 & 7) : 0; }

bool PciFunction::msiEnabled() const { return msi_ && (config_[msi_ + kControl] & kMsiEnable); }

bool PciFunction::msiMasked(unsigned vector) const {
    return (config_[msi_ + kControl + 1] & kMaskable) && (get32(msi_ + kMask) >> vector & 1);
}

void PciFunction::sendMsi(unsigned vector) {
    if (!msiEnabled()) return;
    // A function that got fewer messages than it asked for folds them (6.8.1.3).
    const uint8_t control = config_[msi_ + kControl];
    const unsigned messages = 1u << std::min(control >> 4 & 7, control >> 1 & 7);
    vector &= messages - 1;
    const InterruptId id{InterruptId::Msi, uint16_t(vector)};
    if (msiMasked(vector)) {
        set32(msi_ + kPending, get32(msi_ + kPending) | 1u << vector);
        if (relay_) relay_->wanted(id);
        return;
    }
    sendMessage(id, get32(msi_ + kAddress) | uint64_t(get32(msi_ + kUpperAddress)) << 32,
                (get16(msi_ + kData) & ~(messages - 1)) | vector);
}

void PciFunction::sendPendingMsi() {
    if (!msiEnabled() || !(config_[msi_ + kControl + 1] & kMaskable)) return;
    const uint32_t ready = get32(msi_ + kPending) & ~get32(msi_ + kMask);
    if (!ready) return;
    set32(msi_ + kPending, get32(msi_ + kPending) & ~ready);
    for (uint32_t bits = ready; bits; bits &= bits - 1) sendMsi(unsigned(std::countr_zero(bits)));
}

}  // namespace kiln
