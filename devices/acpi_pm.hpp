// The power management registers of the ICH9 (ICH9 data sheet 13.8; ACPI 4.8): PM1 event and control, PM
// timer, GPE0, SMI_EN and SMI_STS, and the APM ports 0xB2/0xB3. Writing the ACPI enable value to 0xB2 turns
// SCI mode on at once, without an SMI handler's help; any other value is an SMI when SMI_EN says so.
//
// Sleeping states are S3, which the power button, the RTC's alarm, a GPE or the user end, and soft off; S4
// ends like soft off.
//
// Not modelled: sources of SMI other than APM, S1, processor throttling, the TCO watchdog, sources of GPE0
// other than raiseGpe().
#pragma once
#include <cstdint>
#include <functional>

#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"

namespace kiln {

class AcpiPm : public Device, public IoHandler {
  public:
    static constexpr uint64_t kTimerHz = 3'579'545;
    static constexpr uint32_t kTimerMask = 0xFFFFFF;
    // For the FADT and the DSDT: what SMI_CMD takes, and SLP_TYP of soft off and of suspend to RAM (the data
    // sheet's 7 and 5 are understood as well).
    static constexpr uint8_t kAcpiEnable = 2, kAcpiDisable = 3;
    static constexpr uint8_t kSoftOff = 0, kSuspendToRam = 1;
    // Offsets from PMBASE, and the length of the block.
    static constexpr uint64_t kPm1Event = 0x00, kPm1Control = 0x04, kPmTimer = 0x08, kGpe0 = 0x20,
                              kSmiEnable = 0x30;
    static constexpr uint64_t kGpe0Length = 16, kLength = 0x80;

    AcpiPm(Clock& clock, IrqInput& sci);

    std::function<void()> onPowerOff;
    std::function<void()> onSuspend, onWake;            // S3 begins, and should end with resetForWake()
    std::function<void()> onSmi;                        // to the processor that wrote port 0xB2
    void lockSmi(bool locked) { smiLocked_ = locked; }  // GEN_PMCON_1.SMI_LOCK: GBL_SMI_EN stays as it is
    void pressPowerButton();
    void rtcAlarm();
    void raiseGpe(unsigned n);  // 0..63
    void wake();                // when asleep

    IoHandler& apmPorts() { return apm_; }  // 2 ports: 0xB2, 0xB3

    std::string_view name() const override { return "acpi-pm"; }
    void reset() override;
    void resetForWake();  // what S3 keeps under power stays
    void state(StateVisitor& visit) override;

    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
    DirectRegister direct(uint64_t offset, unsigned size, bool write) override;

  private:
    struct Apm : IoHandler {
        explicit Apm(AcpiPm& p) : pm(p) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        AcpiPm& pm;
        uint8_t control = 0, status = 0;
    };

    uint8_t readByte(uint64_t offset) const;
    void writeByte(uint64_t offset, uint8_t value);
    void writeControl(uint16_t value);
    // The frequency as a fraction of 2^64 a nanosecond, which is right to a tick in 600 years.
    static constexpr uint64_t kTicksPerNano = uint64_t((((unsigned __int128)kTimerHz << 64) + kSecond - 1) / kSecond);
    uint64_t ticks() const { return uint64_t((unsigned __int128)clock_.now() * kTicksPerNano >> 64); }
    // The earliest time at which there have been so many.
    static Nanos timeOfTick(uint64_t n) {
        return Nanos((((unsigned __int128)n << 64) + kTicksPerNano - 1) / kTicksPerNano);
    }
    uint32_t timer() const { return uint32_t(ticks()) & kTimerMask; }
    void noteOverflow();
    void update();
    bool wakeEvent() const;

    Clock& clock_;
    IrqLine sci_;
    Timer overflow_;
    Apm apm_{*this};
    uint16_t pm1Status_ = 0, pm1Enable_ = 0, pm1Control_ = 0;
    uint64_t gpeStatus_ = 0, gpeEnable_ = 0;
    uint32_t smiEnable_ = 0, smiStatus_ = 0;
    bool smiLocked_ = false;
    bool asleep_ = false;
    uint64_t seenHalves_ = 0;  // how often bit 23 of the timer had changed when TMR_STS was looked at last
};

}  // namespace kiln
