// Interrupt remapping: chapter 5.
#include "devices/vtd.hpp"

namespace kiln {

using namespace vtd;

namespace {

// SQ: which bits of the requester id a full comparison leaves out (9.10).
constexpr uint16_t kCompared[4] = {0xffff, 0xfffb, 0xfff9, 0xfff8};

enum class Validation : uint8_t { None, Requester, Bus, Reserved };
Validation validation(const Entry& irte) { return Validation(irte.high >> 18 & 3); }

DeliveryMode deliveryMode(const Entry& irte) { return DeliveryMode(irte.low >> 5 & 7); }

bool sourceAllowed(const Entry& irte, uint16_t source) {
    const uint16_t expected = uint16_t(irte.high);
    switch (validation(irte)) {
        case Validation::Requester: return !((expected ^ source) & kCompared[irte.high >> 16 & 3]);
        case Validation::Bus: return source >> 8 >= expected >> 8 && source >> 8 <= (expected & 0xff);
        default: return true;
    }
}

ApicMessage messageOf(const Entry& irte, bool extended) {
    const uint32_t destination = uint32_t(irte.low >> 32);
    return {.destination = extended ? destination : destination >> 8 & 0xff,
            .wide = extended,
            .logical = bool(irte.low >> 2 & 1),
            .mode = deliveryMode(irte),
            .vector = uint8_t(irte.low >> 16),
            .level = bool(irte.low >> 4 & 1)};
}

}  // namespace

std::optional<ApicMessage> VtdUnit::resolve(const Msi& msi, std::optional<uint16_t> source) {
    if (!enabled(kInterruptRemapping)) return ApicBus::decodeAsserted(msi);
    uint32_t index = 0;
    Entry irte;
    Fault why = Fault::None;
    if (msi.address & kRemappable)
        why = remap(msi, source, index, irte);
    else if (enabled(kCompatibility) && !extendedMode())
        return ApicBus::decodeAsserted(msi);
    else
        why = Fault::CompatibilityBlocked;
    if (why == Fault::None) return messageOf(irte, extendedMode());
    Bdf from = kIoApicId;
    if (source) from.value = *source;
    if (!qualified(why) || !irte.faultsDisabled()) fault(why, from, uint64_t(index) << 48, false);
    return {};
}

// 5.1.3: the index is the handle, plus the data as subhandle when the address says so.
Fault VtdUnit::remap(const Msi& msi, std::optional<uint16_t> source, uint32_t& index, Entry& irte) {
    index = uint32_t((msi.address >> 5 & 0x7fff) | (msi.address >> 2 & 1) << 15);
    if (msi.address & kSubhandleValid) {
        if (msi.data >> 16) return Fault::RequestReserved;
        index += msi.data;
    }
    if (index >> ((interruptTable_ & 15) + 1)) return Fault::IndexTooLarge;
    const Fault why = findIrte(index, irte);
    return why == Fault::None ? checkIrte(irte, source) : why;
}

Fault VtdUnit::findIrte(uint32_t index, Entry& irte) {
    CachedIrte& cached = irtes_[index % irtes_.size()];
    const uint64_t tag = index | 1ull << 16;
    if (cached.tag == tag) {
        irte = cached.entry;
        return Fault::None;
    }
    if (!fetch((interruptTable_ & kTableAddress) + index * sizeof(Entry), irte)) return Fault::IrteAccess;
    if (!irte.present()) return Fault::IrteNotPresent;
    cached = {irte, tag};
    return Fault::None;
}

Fault VtdUnit::checkIrte(const Entry& irte, std::optional<uint16_t> source) const {
    const bool reserved = irte.low & kIrteReservedLow || irte.high & kIrteReservedHigh ||
                          (!extendedMode() && irte.low & kXapicDestinationReserved) ||
                          deliveryMode(irte) == DeliveryMode::RemoteRead ||
                          deliveryMode(irte) == DeliveryMode::StartUp ||
                          validation(irte) == Validation::Reserved;
    if (reserved) return Fault::IrteReserved;
    return source && !sourceAllowed(irte, *source) ? Fault::SourceMismatch : Fault::None;
}

}  // namespace kiln
