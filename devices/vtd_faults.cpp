// Faults: records (7.2.1, primary logging), the fault event and the invalidation completion event (7.3).
#include "devices/vtd.hpp"

namespace kiln {

using namespace vtd;

namespace {

constexpr uint32_t kAnyFault = kOverflow | kFaultPending | kQueueError;

}  // namespace

void VtdUnit::fault(Fault reason, Bdf source, uint64_t information, bool read) {
    log_(LogCategory::Pci, "vtd: fault {:02x} of {:02x}:{:02x}.{} {} {:x}", unsigned(reason), source.bus(),
         source.device(), source.function(), read ? "reading" : "writing", information);
    if (reg(kFaultStatus) & kOverflow) return;
    const unsigned at = kFaultRecords + nextRecord_ * 16;
    if (reg(at + 12) & kRecorded) return raiseFaultStatus(kOverflow);
    set64(at, information);
    reg(at + 8) = source.value;
    reg(at + 12) = kRecorded | (read ? kWasRead : 0) | uint32_t(reason);
    if (!(reg(kFaultStatus) & kFaultPending))
        reg(kFaultStatus) = (reg(kFaultStatus) & 0xff) | nextRecord_ << kFaultIndexShift;
    nextRecord_ = (nextRecord_ + 1) % kFaultRecordCount;
    raiseFaultStatus(kFaultPending);
}

// One event for as long as software hasn't cleared everything.
void VtdUnit::raiseFaultStatus(uint32_t bits) {
    const bool news = !(reg(kFaultStatus) & kAnyFault);
    reg(kFaultStatus) |= bits;
    if (news) raiseEvent(kFaultControl);
}

void VtdUnit::clearFault(unsigned record) {
    reg(kFaultRecords + record * 16 + 12) &= ~kRecorded;
    for (unsigned n = 0; n < kFaultRecordCount; n++)
        if (reg(kFaultRecords + n * 16 + 12) & kRecorded) return;
    reg(kFaultStatus) &= 0xff & ~kFaultPending;
    faultsServed();
}

void VtdUnit::faultsServed() {
    if (!(reg(kFaultStatus) & kAnyFault)) reg(kFaultControl) &= ~kEventPending;
}

// -- events

void VtdUnit::raiseEvent(unsigned control) {
    if (reg(control) & kEventMasked)
        reg(control) |= kEventPending;
    else
        sendEvent(control);
}

void VtdUnit::writeEventControl(unsigned control, uint32_t value) {
    uint32_t& r = reg(control);
    r = (r & kEventPending) | (value & kEventMasked);
    if (r != kEventPending) return;
    r = 0;
    sendEvent(control);
}

// The unit's own messages aren't remapped (5.1.6). In extended mode the upper address holds the rest of the
// destination (10.4.12).
void VtdUnit::sendEvent(unsigned control) {
    ApicMessage m = ApicBus::decode({reg(control + kEventAddress), reg(control + kEventData)});
    if (extendedMode()) {
        m.wide = true;
        m.destination |= reg(control + kEventUpperAddress) & 0xffffff00;
    }
    apicBus_.deliver(m);
}

}  // namespace kiln
