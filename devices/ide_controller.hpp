// The IDE function of a PIIX3 (Intel 82371SB data sheet, 2.3), 8086:7010, in compatibility mode: ports
// 0x1F0-0x1F7 and 0x3F6 with IRQ 14, 0x170-0x177 and 0x376 with IRQ 15, bus master registers in BAR 4.
//
// Not modelled: the effect of the timing registers (stored), and of their decode enable bits and of the
// command register's I/O enable on the legacy ports, which always answer.
#pragma once
#include "devices/block_image.hpp"
#include "devices/ide_channel.hpp"
#include "mmu/log.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

class AtapiCdrom;
class IdeDisk;

class IdeController : public PciFunction {
  public:
    IdeController(Clock& clock, Log& log, IrqInput& irq14, IrqInput& irq15);

    // Positions 0..3: primary master, primary slave, secondary master, secondary slave.
    IdeDisk& attachDisk(unsigned position, std::unique_ptr<BlockImage> image);
    AtapiCdrom& attachCdrom(unsigned position, std::unique_ptr<BlockImage> medium);  // null: an empty tray
    bool occupied(unsigned position) { return channels_[position / 2].drive(position % 2); }

    void mapPorts(PortBus& ports);
    IdeChannel& channel(unsigned n) { return channels_[n]; }

    std::string_view name() const override { return "piix3-ide"; }
    void reset() override;
    void state(StateVisitor& visit) override;

  private:
    struct BusMaster : IoHandler {
        explicit BusMaster(IdeController& c) : controller(c) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        IdeController& controller;
    } busMaster_{*this};

    Clock& clock_;
    Log& log_;
    std::array<IdeChannel, 2> channels_;
};

}  // namespace kiln
