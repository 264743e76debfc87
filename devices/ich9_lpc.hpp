// The ICH9 LPC bridge 8086:2918 at 00:1f.0 (Intel I/O Controller Hub 9 data sheet, chapters 10 and 13): where
// the ACPI registers lie, the routing of PCI interrupts, the root complex register block and the reset port.
//
// PCI interrupts. Pin INTA..INTD of slots 0..24 goes to PIRQ E..H by (slot + pin) & 3, counting INTA as 0, as
// QEMU's q35 does it; slots 25..31 go where the DxxIR registers of the root complex say, at power-on
// INTA..INTD to PIRQ A..D. PIRQ A..H are I/O APIC inputs 16..23, and 8259 inputs where PIRQx_ROUT routes
// them. gsiOf() is this map in power-on state, and what the firmware's _PRT must say.
//
// Not modelled: TCO, GPIO, LPC decode ranges (stored only), the SPI flash interface, and function
// disables; the rest of the root complex block is plain memory. Bus master IDE, ACPI registers and the RTC
// are other devices.
#pragma once
#include <array>
#include <functional>
#include <vector>

#include "pci/pci_function.hpp"

namespace kiln {

class Ich9Lpc : public PciFunction {
  public:
    // The ISA bus's interrupts (0..15; unused ones may be null), where routed pins appear as well, and I/O
    // APIC inputs 16..23.
    struct Wires {
        std::array<IrqInput*, 16> isa{};
        std::array<IrqInput*, 8> ioApic{};
    };
    Ich9Lpc(PciBus& bus, const Wires& wires);

    // Where a function's pin (1..4 = INTA..INTD) is to be connected.
    IrqInput& intx(Bdf bdf, unsigned pin) { return inputs_[bdf.device() * 4 + (pin - 1) % 4]; }
    // Whether that input (device * 4 + pin - 1) leads to an input of the I/O APIC at the moment, by itself or
    // by way of the ISA bus.
    bool leadsTo(unsigned input, unsigned ioApicPin) const;
    // The global system interrupt (I/O APIC input, 16..23) of that pin at power-on.
    static unsigned gsiOf(Bdf bdf, unsigned pin);

    // The ACPI block of 128 ports moved, or was enabled or disabled. Also called by reset().
    std::function<void(uint16_t base, bool enabled)> onPmBase;
    uint16_t pmBase() const { return uint16_t((config_[0x40] | config_[0x41] << 8) & 0xff80); }
    bool pmEnabled() const { return config_[0x44] & 0x80; }
    unsigned sciGsi() const;  // ACPI_CNTL's choice: 9 at power-on

    // GEN_PMCON_1.SMI_LOCK, which only a reset clears.
    std::function<void(bool locked)> onSmiLock;

    // The guest asked for a reset through port 0xCF9 (the bus hands it over). `full` asks for
    // a power cycle.
    std::function<void(bool full)> onReset;

    std::string_view name() const override { return "ich9-lpc"; }
    void reset() override;
    void resetForWake();  // keeps where its blocks are and how PIRQs are routed
    void state(StateVisitor& visit) override;
    void configWrite(uint16_t offset, unsigned size, uint32_t value) override;

  private:
    static constexpr uint64_t kRootComplexSize = 0x4000;
    struct RootComplex : IoHandler {
        explicit RootComplex(Ich9Lpc& l) : lpc(l) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        Ich9Lpc& lpc;
    } rootComplex_{*this};
    struct ResetControl : IoHandler {
        explicit ResetControl(Ich9Lpc& l) : lpc(l) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        Ich9Lpc& lpc;
    } resetControl_{*this};

    unsigned pirqOf(unsigned slot, unsigned pin) const;
    int isaIrqOf(unsigned pirq) const;
    void updateInterrupts();
    void update();
    void resetRootComplex();

    PciBus& bus_;
    std::array<IrqInput, 32 * 4> inputs_;
    std::array<IrqLine, 16> toIsa_;
    std::array<IrqLine, 8> toIoApic_;
    std::vector<uint8_t> rcrb_;
    Region* rcrbRegion_ = nullptr;
    PhysAddr rcrbAt_;
    uint16_t reportedPmBase_ = 0;
    bool reportedPmEnabled_ = false;
    uint8_t resetRegister_ = 0;
};

}  // namespace kiln
