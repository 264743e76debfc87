#include "pci/msix.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

#include "pci/pci_function.hpp"

namespace kiln {

namespace {

// The capability, from its start.
enum : unsigned { kControl = 2, kTable = 4, kPba = 8 };
constexpr uint8_t kMsixId = 0x11;
constexpr uint16_t kEnable = 1 << 15, kFunctionMask = 1 << 14;
// An entry's fields, in dwords.
enum : unsigned { kAddress, kUpperAddress, kData, kVectorControl, kEntryDwords };
constexpr uint32_t kMasked = 1;
constexpr uint64_t kSmallestBar = 8192;  // a page each

}  // namespace

void PciFunction::addMsix(unsigned offset, unsigned vectors, unsigned bar) {
    assert(!msix_ && vectors >= 1 && vectors <= MsixTable::kMost);
    addCapability(offset, kMsixId);
    msix_ = std::make_unique<MsixTable>(*this, offset, vectors);
    set16(offset + kControl, uint16_t(vectors - 1));
    writable_[offset + kControl + 1] = (kEnable | kFunctionMask) >> 8;
    set32(offset + kTable, bar);
    set32(offset + kPba, uint32_t(msix_->barSize() / 2) | bar);
    addMemoryBar(bar, msix_->barSize(), *msix_);
}

bool PciFunction::msixEnabled() const { return msix_ && msix_->enabled(); }
unsigned PciFunction::msixVectors() const { return msix_ ? msix_->vectors() : 0; }

void PciFunction::sendMsix(unsigned vector) {
    if (msixEnabled() && vector < msix_->vectors()) msix_->send(vector);
}

MsixTable::MsixTable(PciFunction& function, unsigned capability, unsigned vectors)
    : function_(function),
      capability_(capability),
      vectors_(vectors),
      table_(vectors * kEntryDwords),
      pending_((vectors + 63) / 64 * 2) {
    reset();
}

uint64_t MsixTable::barSize() const {
    return std::max(kSmallestBar, 2 * std::bit_ceil(uint64_t(vectors_) * kEntryDwords * 4));
}

void MsixTable::reset() {
    std::fill(table_.begin(), table_.end(), 0);
    for (unsigned v = 0; v < vectors_; v++) table_[v * kEntryDwords + kVectorControl] = kMasked;
    std::fill(pending_.begin(), pending_.end(), 0);
}

void MsixTable::state(StateVisitor& visit) {
    visit("msix_table", table_);
    visit("msix_pending", pending_);
}

bool MsixTable::enabled() const { return function_.get16(capability_ + kControl) & kEnable; }

bool MsixTable::masked(unsigned vector) const {
    return (function_.get16(capability_ + kControl) & kFunctionMask) ||
           (table_[vector * kEntryDwords + kVectorControl] & kMasked);
}

void MsixTable::send(unsigned vector) {
    const InterruptId id{InterruptId::Msix, uint16_t(vector)};
    if (masked(vector)) {
        pending_[vector / 32] |= 1u << vector % 32;
        if (function_.relay_) function_.relay_->wanted(id);
        return;
    }
    const uint32_t* entry = &table_[vector * kEntryDwords];
    function_.sendMessage(id, (entry[kAddress] & ~3u) | uint64_t(entry[kUpperAddress]) << 32, entry[kData]);
}

void MsixTable::sendPending() {
    if (!enabled()) return;
    for (unsigned word = 0; word < pending_.size(); word++)
        for (uint32_t bits = pending_[word]; bits; bits &= bits - 1) {
            const unsigned vector = word * 32 + unsigned(std::countr_zero(bits));
            if (masked(vector)) continue;
            pending_[word] &= ~(1u << vector % 32);
            send(vector);
        }
}

uint32_t MsixTable::readDword(uint64_t offset) const {
    const uint64_t pba = barSize() / 2;
    if (offset / 4 < table_.size()) return table_[offset / 4];
    return offset >= pba && (offset - pba) / 4 < pending_.size() ? pending_[(offset - pba) / 4] : 0;
}

void MsixTable::writeDword(uint64_t offset, uint32_t value) {
    if (offset / 4 >= table_.size()) return;
    const bool control = offset / 4 % kEntryDwords == kVectorControl;
    table_[offset / 4] = control ? value & kMasked : value;
    if (control) sendPending();
}

uint64_t MsixTable::ioRead(uint64_t offset, unsigned size) {
    if (size == 8) return readDword(offset) | uint64_t(readDword(offset + 4)) << 32;
    return readDword(offset & ~3ull) >> (offset & 3) * 8 & openBus(size);
}

void MsixTable::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (size < 4 || offset % 4) return;
    writeDword(offset, uint32_t(value));
    if (size == 8) writeDword(offset + 4, uint32_t(value >> 32));
}

}  // namespace kiln
