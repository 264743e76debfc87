// The VGA as a PCI function 1234:1111, as in the QEMU "standard VGA" specification: BAR 0 is video memory,
// BAR 2 the memory-mapped registers, the expansion ROM the video BIOS.
//
// Not modelled: the command register's effect on the legacy ports and the window at 0xA0000.
#pragma once
#include <memory>
#include <string>

#include "devices/vga.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

class VgaPci : public PciFunction {
  public:
    // `romPath` names the video BIOS image; "" leaves the expansion ROM out. Throws std::runtime_error with a
    // sentence for the user when the file can't be read or is no option ROM.
    VgaPci(const Clock& clock, Log& log, const std::string& romPath);

    std::string_view name() const override { return "vga-pci"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    VgaCore& core() { return core_; }

  private:
    VgaCore core_;
    std::unique_ptr<RamBlock> rom_;
};

}  // namespace kiln
