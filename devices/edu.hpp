// QEMU's educational PCI device (docs/specs/edu.rst), 1234:11e8: registers in BAR 0 that show what drivers
// need: identification, an inverter, a factorial computed in the background, interrupts by INTA# or MSI, and
// DMA to and from a buffer of 4 KiB.
//
//   00 identification    04 inverter    08 factorial    20 status    24 interrupt status    60 raise    64
//   acknowledge 80 DMA source    88 DMA destination    90 DMA count    98 DMA command
//
// Registers below 80 take 4 bytes, the others 4 or 8. Where QEMU gives up on a transfer outside the buffer,
// nothing is moved here.
#pragma once
#include <array>

#include "apic/clock.hpp"
#include "mmu/log.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

class EduDevice : public PciFunction, public IoHandler {
  public:
    static constexpr uint64_t kDefaultDmaMask = (1 << 28) - 1;

    // Addresses of its DMA are cut off at `dmaMask`.
    EduDevice(Clock& clock, Log& log, uint64_t dmaMask = kDefaultDmaMask);

    std::string_view name() const override { return "edu"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;

  private:
    uint64_t* dmaRegister(uint64_t offset);
    void writeLow(uint64_t offset, uint32_t value);
    void startFactorial(uint32_t n);
    void factorialDone();
    void dmaDone();
    void transfer();
    void raise(uint32_t causes);
    void acknowledge(uint32_t causes);

    Log& log_;
    const uint64_t dmaMask_;
    uint32_t inverted_ = 0, factorial_ = 0, status_ = 0, causes_ = 0;
    struct Dma {
        uint64_t source = 0, destination = 0, count = 0, command = 0;
    } dma_;
    std::array<uint8_t, 4096> buffer_{};
    Clock& clock_;
    Timer factorialTimer_, dmaTimer_;
};

}  // namespace kiln
