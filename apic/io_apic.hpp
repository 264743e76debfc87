// The I/O APIC of the ICH9 (data sheet 13.5; Intel 82093AA with the EOI register of version 0x20): 24 input
// pins, each with a redirection entry that turns it into an APIC message. The message is a write to the
// APICs' window: entry bits 63:48 are its address bits 19:4 (13.5.7), which matters to an interrupt remapping
// unit alone.
//
// Not modelled: the pin assertion register; polarity is stored but a pin's level always means "asserted".
#pragma once
#include <array>
#include <cstdint>

#include "apic/apic_bus.hpp"
#include "apic/device.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"

namespace kiln {

class IoApic : public Device, public IoHandler {
  public:
    static constexpr unsigned kPins = 24;

    // Joins `bus`. Mapped at 0xFEC00000, 4 KiB.
    explicit IoApic(ApicBus& bus, uint8_t id = 0);

    IrqInput& pin(unsigned n) { return pins_[n]; }
    void eoi(uint8_t vector);  // level-triggered entries of `vector` are finished
    uint64_t entry(unsigned n) const { return entries_[n]; }
    // Messages of a pin that somebody took, since it was made.
    uint64_t sent(unsigned n) const { return sent_[n]; }

    std::string_view name() const override { return "io-apic"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;

  private:
    uint32_t readRegister(uint8_t index) const;
    void writeRegister(uint8_t index, uint32_t value);
    void writeEntry(unsigned n, uint64_t value);
    void pinChanged(unsigned n, bool level);
    void serviceLevel(unsigned n);
    bool send(unsigned n);
    bool sendMessage(unsigned n, const Msi& msi);

    ApicBus& bus_;
    const uint8_t powerOnId_;
    uint8_t select_ = 0;
    uint8_t id_ = 0;
    std::array<uint64_t, kPins> entries_{};
    std::array<IrqInput, kPins> pins_;
    std::array<uint64_t, kPins> sent_{};
};

}  // namespace kiln
