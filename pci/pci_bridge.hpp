// PCI-to-PCI bridges (PCI-to-PCI Bridge Architecture 1.2): type-1 configuration space, bus numbers, windows
// of I/O, memory and prefetchable memory outside of which nothing gets through to the bus below, bridge
// control with the secondary bus reset. PciBridge itself is a conventional one with QEMU's identity
// 1b36:0001; RootPort is a PCI Express root port, 1b36:000c, with the link and slot registers of one (PCI
// Express 4.0, 7.5.3) and a single device below.
//
// Behind a conventional bridge, transactions carry the bridge's requester id.
//
// Not modelled: transactions from one function to another one's BAR by way of the bridge (they go up, and
// come down), subtractive decoding, VGA forwarding, 32-bit I/O addresses, hot plug, power management and
// error events, hence no interrupts of the bridges themselves.
#pragma once
#include "pci/pci_function.hpp"

namespace kiln {

class PciBridge : public PciFunction {
  public:
    explicit PciBridge(uint8_t chassis = 0);  // the number in its slot numbering capability (13.1)

    std::string_view name() const override { return "pci-bridge"; }
    void reset() override;
    void state(StateVisitor& visit) override;
    void configWrite(uint16_t offset, unsigned size, uint32_t value) override;
    PciBridge* asBridge() override { return this; }

    uint8_t secondaryBus() const { return config_[0x19]; }
    bool leadsTo(unsigned bus) const {
        return secondaryBus() && bus >= secondaryBus() && bus <= config_[0x1a] && linkUp();
    }
    enum class Space : uint8_t { Io, Memory };
    bool forwards(Space space, uint64_t first, uint64_t last) const;
    // Not while the bus below is held in reset.
    virtual bool linkUp() const { return !(config_[0x3e] & 0x40); }
    virtual bool express() const { return false; }
    virtual void occupied() {}  // a function appeared on its secondary bus

  protected:
    explicit PciBridge(PciIdentity identity);
};

class RootPort : public PciBridge {
  public:
    // `port` and `slot` are the numbers in its link and slot capabilities.
    RootPort(uint8_t port, uint16_t slot);

    std::string_view name() const override { return "pcie-root-port"; }
    bool linkUp() const override;
    bool express() const override { return true; }
    void occupied() override;
    void configWrite(uint16_t offset, unsigned size, uint32_t value) override;
};

}  // namespace kiln
