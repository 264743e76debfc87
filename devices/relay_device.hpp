// kiln-relay, a PCI function by which the guest reads the interrupt relay, 1234:4952: who has interrupted,
// how often, and how long it took. Registers in BAR 0, of 32 bits, are described in docs/interrupt-relay.md:
//
//   00 identification   04 functions   08 index     0c next        10 function    14 identifier   18 status
//   1c indicator        20 take        24 clear     28,2c raised   30,34 coalesced   38 identifiers
//   40 bucket           44 samples     48,4c untracked
//
// It raises no interrupts.
#pragma once
#include <optional>

#include "pci/pci_function.hpp"

namespace kiln {

class RelayDevice : public PciFunction, public IoHandler {
  public:
    explicit RelayDevice(InterruptRelay& relay);

    std::string_view name() const override { return "kiln-relay"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;

  private:
    uint32_t read(uint64_t offset);
    uint32_t next();
    InterruptId select(uint32_t identifier);
    std::optional<uint32_t> selected() const;
    uint32_t status() const;
    uint32_t samples() const;

    InterruptRelay& relays_;
    uint32_t index_ = 0, function_ = 0, identifier_ = 0, bucket_ = 0;
};

}  // namespace kiln
