// The Q35 host bridge 8086:29c0 at 00:00.0 (Intel 3 Series Express Chipset data sheet, chapter 5): the ECAM
// window (PCIEXBAR), the programmable attribute map of 0xC0000-0xFFFFF, and SMRAM at 0xA0000.
//
// Not modelled: DRAM timing and size registers (firmware learns the memory size from fw_cfg), TSEG, the
// DMI, EP and MCH register windows, and the locking of PAM. System management mode: with G_SMRAME alone the
// RAM behind the VGA window stays hidden, D_OPEN shows it to everybody.
#pragma once
#include <array>

#include "pci/pci_function.hpp"

namespace kiln {

class Q35Mch : public PciFunction {
  public:
    // `ram` is the machine's RAM from address 0 on (at least 1 MiB), `bios` the firmware whose last 128 KiB
    // (or fewer) show up to 0xFFFFF. From here on this bridge alone decides what is seen at
    // 0xC0000-0xFFFFF; the board maps RAM below it and the firmware at the top of 4 GiB.
    Q35Mch(PciBus& bus, RamBlock& ram, RamBlock& bios);

    std::string_view name() const override { return "q35-mch"; }
    void reset() override;
    void state(StateVisitor& visit) override;
    void configWrite(uint16_t offset, unsigned size, uint32_t value) override;

    bool ecamEnabled() const { return config_[0x60] & 1; }
    PhysAddr ecamBase() const;
    unsigned ecamBuses() const;

  private:
    // One piece of the attribute map. As a handler it serves what is neither RAM nor ROM alone: reads of
    // the ROM (or of the bus, where there is none) with writes to the RAM behind it, or dropped.
    struct Segment : IoHandler {
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        uint32_t base = 0, size = 0;
        uint8_t attributes = 0xff;  // as mapped: bit 0 reads, bit 1 writes go to RAM
        const uint8_t* rom = nullptr;
        uint8_t* ram = nullptr;
        Region* region = nullptr;
    };
    uint8_t attributesOf(unsigned segment) const;
    void mapSegment(Segment& segment, uint8_t attributes);
    void update();
    void updateEcam();

    PciBus& bus_;
    RamBlock& ram_;
    RamBlock& bios_;
    std::array<Segment, 13> segments_;
    Region* ecam_ = nullptr;
    PhysAddr ecamAt_;
    unsigned ecamMappedBuses_ = 0;
    Region* smram_;
};

}  // namespace kiln
