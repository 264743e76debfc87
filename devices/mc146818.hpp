// The real-time clock and CMOS RAM of the PC (Motorola MC146818A data sheet; ICH9 data sheet 13.6): 128 bytes
// at ports 0x70/0x71 and 128 more at 0x72/0x73.
//
// Not modelled: daylight saving, the square wave output, the NMI mask of port 0x70, time bases other than
// 32,768 Hz.
#pragma once
#include <array>
#include <cstdint>

#include "apic/byte_io.hpp"
#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/gate.hpp"
#include "apic/irq_line.hpp"

namespace kiln {

class Mc146818 : public Device, public ByteIo {
  public:
    // The calendar starts at the gate's time (UTC) and goes on with the guest's clock.
    Mc146818(Clock& clock, Gate& gate, IrqInput& irq8);
    Mc146818(Clock& clock, int64_t calendarSeconds, IrqInput& irq8);

    // CMOS RAM for the firmware: index 0x0E..0x7F, extended bank 0x80..0xFF.
    uint8_t cmos(uint8_t index) const { return ram_[index]; }
    void setCmos(uint8_t index, uint8_t value) { ram_[index] = value; }
    void setCalendar(int64_t secondsSince1970);

    // The HPET in legacy replacement mode takes IRQ 8 away.
    void setIrqEnabled(bool enabled);
    std::function<void()> onAlarm;  // also without AIE: the RTC status bit of the ACPI PM block

    std::string_view name() const override { return "mc146818"; }
    void reset() override;  // time and RAM stay, as on the battery
    void state(StateVisitor& visit) override;

    // Offsets 0..3 for ports 0x70..0x73.
    uint8_t readByte(uint64_t offset) override;
    void writeByte(uint64_t offset, uint8_t value) override;
    DirectRegister direct(uint64_t offset, unsigned size, bool write) override;

  private:
    uint8_t readRegister(uint8_t index);
    void writeRegister(uint8_t index, uint8_t value);

    bool updating() const;  // the once-a-second update runs at all
    void catchUp();
    void update();
    void advanceTime();
    bool increment(uint8_t reg, unsigned first, unsigned last);
    bool incrementHour();
    bool alarmMatches() const;

    unsigned decode(uint8_t value) const;
    uint8_t encode(unsigned value) const;
    unsigned daysInMonth() const;

    Nanos period() const;  // of the periodic interrupt, 0 when off
    void raise(uint8_t flags);
    void updateIrq();
    void armPeriodic();
    void periodic();

    Clock& clock_;
    IrqLine irq8_;
    Timer updateTimer_, periodicTimer_;
    std::array<uint8_t, 256> ram_{};  // 0x00..0x0D are the clock's registers
    uint8_t index_ = 0, extendedIndex_ = 0;
    Nanos nextUpdate_ = 0;
    uint64_t seenPeriods_ = 0;  // periods over when register C was read last
    bool irqEnabled_ = true;
};

}  // namespace kiln
