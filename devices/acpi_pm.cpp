#include "devices/acpi_pm.hpp"

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

enum Pm1 : uint16_t {
    kTimer = 1 << 0,
    kGlobal = 1 << 5,
    kPowerButton = 1 << 8,
    kRtc = 1 << 10,
    kWake = 1 << 15
};
constexpr uint16_t kStatusBits = kTimer | 1 << 4 | kGlobal | kPowerButton | kRtc | 1 << 11 | kWake;
constexpr uint16_t kEnableBits = kTimer | kGlobal | kPowerButton | kRtc;
constexpr uint16_t kSciEnable = 1 << 0, kSleepEnable = 1 << 13, kControlBits = 0x1C03;
constexpr uint16_t kSleepType = 0x1C00;
constexpr uint16_t kResumeWell = 0xFF00;  // bits of PM1 status and enable that S3 keeps (13.8.3.1)
constexpr uint32_t kGlobalSmi = 1 << 0, kApmSmi = 1 << 5;  // SMI_EN and, the latter, SMI_STS
constexpr uint64_t kHalfPeriod = 1 << 23;  // ticks between two changes of the timer's highest bit

template <class T>
void setByte(T& field, unsigned index, uint8_t value) {
    unsigned shift = index * 8;
    field = T((field & ~(T(0xFF) << shift)) | T(value) << shift);
}

}  // namespace

AcpiPm::AcpiPm(Clock& clock, IrqInput& sci)
    : clock_(clock), sci_(sci), overflow_(clock, [this] { update(); }) {
    reset();
}

void AcpiPm::reset() {
    pm1Status_ = pm1Enable_ = pm1Control_ = 0;
    gpeStatus_ = gpeEnable_ = 0;
    smiEnable_ = smiStatus_ = 0;
    smiLocked_ = asleep_ = false;
    apm_.control = apm_.status = 0;
    seenHalves_ = ticks() / kHalfPeriod;
    update();
}

void AcpiPm::resetForWake() {
    const uint16_t status = pm1Status_, enable = pm1Enable_, control = pm1Control_;
    const uint64_t gpeStatus = gpeStatus_, gpeEnable = gpeEnable_;
    reset();
    pm1Status_ = (status & kResumeWell) | kWake;
    pm1Enable_ = enable & kResumeWell;
    pm1Control_ = control & kSleepType;
    gpeStatus_ = gpeStatus;
    gpeEnable_ = gpeEnable;
    update();
}

void AcpiPm::state(StateVisitor& visit) {
    visit("pm1Status", pm1Status_);
    visit("pm1Enable", pm1Enable_);
    visit("pm1Control", pm1Control_);
    visit("gpeStatus", gpeStatus_);
    visit("gpeEnable", gpeEnable_);
    visit("smiEnable", smiEnable_);
    visit("smiStatus", smiStatus_);
    visit("smiLocked", smiLocked_);
    visit("asleep", asleep_);
    visit("seenHalves", seenHalves_);
    visit("apmControl", apm_.control);
    visit("apmStatus", apm_.status);
    visitTimer(visit, "overflow", overflow_);
}

// -- events

void AcpiPm::noteOverflow() {
    uint64_t halves = ticks() / kHalfPeriod;
    if (halves != seenHalves_) pm1Status_ |= kTimer;
    seenHalves_ = halves;
}

// The SCI line, and the timer that makes TMR_STS appear when somebody waits for it.
void AcpiPm::update() {
    noteOverflow();
    bool event = (pm1Status_ & pm1Enable_ & kEnableBits) || (gpeStatus_ & gpeEnable_);
    sci_.set(event && (pm1Control_ & kSciEnable));
    bool wanted = (pm1Enable_ & kTimer) && !(pm1Status_ & kTimer);
    if (wanted)
        overflow_.arm(timeOfTick((seenHalves_ + 1) * kHalfPeriod));
    else
        overflow_.disarm();
    if (asleep_ && wakeEvent()) wake();
}

// What ends S3 (ICH9 5.13.6.4): the power button whether enabled or not, the others when enabled.
bool AcpiPm::wakeEvent() const {
    return (pm1Status_ & (kPowerButton | (pm1Enable_ & kRtc))) || (gpeStatus_ & gpeEnable_);
}

void AcpiPm::wake() {
    if (!asleep_) return;
    asleep_ = false;
    if (onWake) onWake();
}

void AcpiPm::pressPowerButton() {
    pm1Status_ |= kPowerButton;
    update();
}

void AcpiPm::rtcAlarm() {
    pm1Status_ |= kRtc;
    update();
}

void AcpiPm::raiseGpe(unsigned n) {
    gpeStatus_ |= 1ull << (n & 63);
    update();
}

void AcpiPm::writeControl(uint16_t value) {
    pm1Control_ = value & kControlBits;
    update();
    if (!(value & kSleepEnable)) return;
    switch (value >> 10 & 7) {
        case kSoftOff:
        case 6:  // suspend to disk
        case 7:
            if (onPowerOff) onPowerOff();
            break;
        case kSuspendToRam:
        case 5:
            asleep_ = true;
            if (onSuspend) onSuspend();
            update();  // an event may be there already
            break;
        default: pm1Status_ |= kWake;  // a state we do not have: awake again
    }
}

// -- registers, byte by byte

uint8_t AcpiPm::readByte(uint64_t offset) const {
    auto byte = [&](uint64_t field, uint64_t first) { return uint8_t(field >> (offset - first) * 8); };
    if (offset < 0x02) return byte(pm1Status_, 0x00);
    if (offset < 0x04) return byte(pm1Enable_, 0x02);
    if (offset < 0x08) return byte(pm1Control_, 0x04);
    if (offset < 0x0C) return byte(timer(), 0x08);
    if (offset < 0x20) return 0;
    if (offset < 0x28) return byte(gpeStatus_, 0x20);
    if (offset < 0x30) return byte(gpeEnable_, 0x28);
    if (offset < 0x34) return byte(smiEnable_, 0x30);
    if (offset < 0x38) return byte(smiStatus_, 0x34);
    return 0;
}

void AcpiPm::writeByte(uint64_t offset, uint8_t value) {
    if (offset < 0x02) {
        pm1Status_ &= uint16_t(~((value << offset * 8) & kStatusBits));  // writing one clears
    } else if (offset < 0x04) {
        setByte(pm1Enable_, unsigned(offset - 0x02), value);
        pm1Enable_ &= kEnableBits;
    } else if (offset >= 0x20 && offset < 0x28) {
        gpeStatus_ &= ~(uint64_t(value) << (offset - 0x20) * 8);
    } else if (offset >= 0x28 && offset < 0x30) {
        setByte(gpeEnable_, unsigned(offset - 0x28), value);
    } else if (offset >= 0x30 && offset < 0x34) {
        const uint32_t old = smiEnable_;
        setByte(smiEnable_, unsigned(offset - 0x30), value);
        if (smiLocked_) smiEnable_ = (smiEnable_ & ~kGlobalSmi) | (old & kGlobalSmi);
    } else if (offset >= 0x34 && offset < 0x38) {
        smiStatus_ &= ~(uint32_t(value) << (offset - 0x34) * 8);  // writing one clears
    }
}

uint64_t AcpiPm::ioRead(uint64_t offset, unsigned size) {
    // In one piece: the timer must not run on between two bytes of one access.
    if (offset >= kPmTimer && offset + size <= kPmTimer + 4)
        return timer() >> (offset - kPmTimer) * 8 & openBus(size);
    noteOverflow();
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) value |= uint64_t(readByte(offset + i)) << i * 8;
    return value;
}

void AcpiPm::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    noteOverflow();
    uint16_t control = pm1Control_;
    bool controlWritten = false;
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = uint8_t(value >> i * 8);
        uint64_t at = offset + i;
        if (at == kPm1Control || at == kPm1Control + 1) {
            setByte(control, unsigned(at - kPm1Control), byte);
            controlWritten = true;
        } else {
            writeByte(at, byte);
        }
    }
    update();
    if (controlWritten) writeControl(control);
}

// -- APM ports: control at 0, status (a scratch register) at 1

uint64_t AcpiPm::Apm::ioRead(uint64_t offset, unsigned size) {
    uint64_t both = control | status << 8;
    return both >> offset * 8 & openBus(size);
}

void AcpiPm::Apm::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (offset == 1 || size > 1) status = uint8_t(offset == 1 ? value : value >> 8);
    if (offset != 0) return;
    control = uint8_t(value);
    if (control == kAcpiEnable || control == kAcpiDisable) {
        pm.pm1Control_ = uint16_t((pm.pm1Control_ & ~kSciEnable) | (control == kAcpiEnable ? kSciEnable : 0));
        pm.update();
        return;
    }
    if (!(pm.smiEnable_ & kApmSmi)) return;
    pm.smiStatus_ |= kApmSmi;
    if (pm.smiEnable_ & kGlobalSmi && pm.onSmi) pm.onSmi();
}

DirectRegister AcpiPm::direct(uint64_t offset, unsigned size, bool write) {
    if (write || offset != kPmTimer || size != 4) return {};
    return {.form = DirectRegister::Form::Counter, .mask = kTimerMask, .factor = kTicksPerNano};
}

}  // namespace kiln
