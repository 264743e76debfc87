// The PCI functions that the user asked for by -device: each in its place on bus 0 or behind a bridge that
// came before it.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "devices/pci_config.hpp"
#include "pci/pci_bridge.hpp"

namespace kiln {

class PciDevices {
  public:
    PciDevices(PciBus& bus, InterruptRelay& relay, Clock& clock, Log& log, unsigned processors)
        : bus_(bus), relay_(relay), clock_(clock), log_(log), processors_(processors) {}

    // Throws std::runtime_error with a sentence for the user.
    PciFunction& add(const PciDeviceConfig& config);
    PciFunction* find(const std::string& id) const;  // null: nobody is called so

    static constexpr unsigned kVgaDevice = 1;  // on bus 0; kept for the display adapter

  private:
    struct Named {
        std::string id;
        std::unique_ptr<PciFunction> function;
    };
    PciBridge* busOf(const PciDeviceConfig& config) const;
    bool taken(const PciBridge* bridge, unsigned device, unsigned function) const;
    unsigned deviceFor(const PciDeviceConfig& config, const PciBridge* bridge) const;
    void checkFunction(const PciDeviceConfig& config, const PciBridge* bridge, unsigned device) const;
    std::unique_ptr<PciFunction> make(const PciDeviceConfig& config, const PciBridge* bridge) const;

    PciBus& bus_;
    InterruptRelay& relay_;
    Clock& clock_;
    Log& log_;
    const unsigned processors_;
    std::vector<Named> all_;
};

const char* nameOf(const PciDeviceConfig& config);  // as -device has it

}  // namespace kiln
