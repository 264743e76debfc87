// kiln-irqtest, a PCI function for testing interrupts, 1234:4954: INTA#, up to 32 messages of MSI and up to
// 2048 vectors of MSI-X, each raised by a register write, or many of them by a generator that runs on guest
// time. It counts what it raises, so that what a guest has handled can be compared. Registers in BAR 0, of 32
// bits, are described in docs/interrupt-relay.md:
//
//   00 identification   04 capabilities   08 mode      0c raise     10 pending   14 acknowledge   18 take
//   20 raised           24 rises of INTA  28 select    2c raised    30 pending of the selected
//   40 rate   44 burst   48 first   4c number   50 control   54 left   58 held back
//
// BAR 2 is MSI-X's, BAR 4 64-bit prefetchable memory, which a reset leaves as it is. Behind PCI Express it is a PCI Express function with a
// device serial number.
#pragma once
#include <array>
#include <vector>

#include "apic/clock.hpp"
#include "devices/pci_config.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

class IrqTest : public PciFunction, public IoHandler {
  public:
    // Without `type` it is a conventional PCI function.
    IrqTest(Clock& clock, const IrqTestConfig& config, std::optional<ExpressType> type);

    std::string_view name() const override { return "kiln-irqtest"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;

    void raise(uint32_t identifier);
    void acknowledge(uint32_t identifier);

  private:
    enum class Mode : uint32_t { Intx, Msi, Msix };
    Mode mode() const { return msixEnabled() ? Mode::Msix : msiEnabled() ? Mode::Msi : Mode::Intx; }
    uint32_t identifiers() const;  // that the mode has
    uint32_t read(uint64_t offset);
    void startGenerator(uint32_t control);
    void generate();
    void raiseNext();
    void armGenerator();

    struct Count {
        uint32_t raised, pending;
    };
    RamBlock memory_;
    std::vector<Count> counts_;  // by identifier
    uint32_t pending_ = 0, taken_ = 0, raised_ = 0, rises_ = 0, selected_ = 0;
    // The generator.
    uint32_t rate_ = 0, burst_ = 0, first_ = 0, number_ = 1, control_ = 0, left_ = 0, held_ = 0;
    uint32_t turn_ = 0, chance_ = 1;
    Nanos started_ = 0;
    uint64_t ticks_ = 0;  // since then
    Clock& clock_;
    Timer timer_;
};

}  // namespace kiln
