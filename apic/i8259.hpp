// The pair of 8259A interrupt controllers of the PC (Intel 8259A data sheet; ICH9 data sheet 13.4), the
// second one cascaded into input 2 of the first, with the ELCR registers that make single inputs
// level-triggered.
//
// Not modelled: MCS-80/85 mode (ICW4 bit 0 clear) and buffered mode are accepted and behave as 8086 mode.
#pragma once
#include <array>
#include <cstdint>
#include <functional>

#include "apic/byte_io.hpp"
#include "apic/device.hpp"
#include "apic/irq_line.hpp"

namespace kiln {

// One 8259A.
class I8259 {
  public:
    explicit I8259(bool master) : master_(master) {}

    void setInput(unsigned n, bool level);
    bool intr() const { return interrupting() >= 0; }
    int acknowledge();  // both INTA pulses: the input 0..7, 7 when spurious (then `spurious` is set)
    bool spurious = false;
    uint8_t vector(unsigned input) const { return uint8_t((base_ & 0xF8) | input); }

    uint8_t read(unsigned a0);
    DirectRegister mask() { return DirectRegister::at(imr_).unless(poll_); }  // to be read at a0 = 1
    void write(unsigned a0, uint8_t value);
    uint8_t elcr() const { return elcr_; }
    void setElcr(uint8_t value);
    void reset();
    void state(StateVisitor& visit);

  private:
    int interrupting() const;  // the input that asks now, or -1
    unsigned priority(unsigned input) const { return (input - lowest_ - 1) & 7; }  // 0 is the highest
    int highest(uint8_t set) const;
    bool levelTriggered(unsigned n) const;
    void icw1(uint8_t value);
    void ocw2(uint8_t value);
    void ocw3(uint8_t value);
    void endOfInterrupt(int input, bool rotate);

    const bool master_;
    uint8_t irr_ = 0, isr_ = 0, imr_ = 0, lines_ = 0, elcr_ = 0;
    uint8_t base_ = 0, cascade_ = 0;
    uint8_t lowest_ = 7;   // the input of lowest priority
    uint8_t nextIcw_ = 0;  // 2..4 while the sequence runs
    bool icw4Needed_ = false, single_ = false, ltim_ = false;
    bool autoEoi_ = false, rotateOnAutoEoi_ = false, specialFullyNested_ = false;
    bool specialMask_ = false, readIsr_ = false, poll_ = false;
};

class I8259Pair : public Device, public ByteIo {
  public:
    I8259Pair();

    IrqInput& pin(unsigned n) { return pins_[n]; }  // IRQ 0..15; 2 is the cascade and not to be used
    // INTR changed. It falls for a moment at each acknowledge, so that an edge-sensitive ExtINT pin sees the
    // next one.
    std::function<void(bool level)> onIntr;
    bool intr() const { return intr_; }
    uint8_t acknowledge();
    // Interrupts of IRQ n, since it was made.
    uint64_t acknowledged(unsigned n) const { return acknowledged_[n]; }

    std::string_view name() const override { return "i8259"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    // Offsets, as the board maps them: 0..1 for ports 0x20..0x21, 2..3 for 0xA0..0xA1, 4..5 for 0x4D0..0x4D1.
    uint8_t readByte(uint64_t offset) override;
    void writeByte(uint64_t offset, uint8_t value) override;
    DirectRegister direct(uint64_t offset, unsigned size, bool write) override;

  private:
    void update();
    void setIntr(bool level);

    I8259 master_{true}, slave_{false};
    bool intr_ = false;
    std::array<IrqInput, 16> pins_;
    std::array<uint64_t, 16> acknowledged_{};
};

}  // namespace kiln
