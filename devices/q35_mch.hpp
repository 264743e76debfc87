// The Q35 host bridge 8086:29c0 at 00:00.0 (Intel 3 Series Express Chipset data sheet, chapter 5): the ECAM
// window (PCIEXBAR), the programmable attribute map of 0xC0000-0xFFFFF, and SMRAM at 0xA0000.
//
// SMRAM (SMRAM, ESMRAMC): with G_SMRAME the RAM behind the VGA window (or, with H_SMRAME, at 0xFEDA0000) is
// there for processors in system management mode; D_OPEN shows it to everybody, D_CLS keeps it for fetches.
// TSEG takes 1, 2 or 8 MiB at the top of low memory away from everybody else. D_LCK locks all but D_CLS.
//
// Not modelled: DRAM timing and size registers (firmware learns the memory size from fw_cfg), the DMI, EP and
// MCH register windows, E_SMERR, and the locking of PAM.
#pragma once
#include <array>

#include "pci/pci_function.hpp"

namespace kiln {

class Q35Mch : public PciFunction {
  public:
    // `ram` is the machine's RAM from address 0 on (at least 1 MiB), `bios` the firmware whose last 128 KiB
    // (or fewer) show up to 0xFFFFF. From here on this bridge alone decides what is seen at
    // 0xC0000-0xFFFFF; the board maps RAM below it and the firmware at the top of 4 GiB.
    // `lowRam`: bytes of RAM below 4 GiB, whose top TSEG takes; 0: all of it.
    Q35Mch(PciBus& bus, RamBlock& ram, RamBlock& bios, uint64_t lowRam = 0);

    std::string_view name() const override { return "q35-mch"; }
    void reset() override;
    void resetForWake();  // keeps the memory map
    void state(StateVisitor& visit) override;
    void configWrite(uint16_t offset, unsigned size, uint32_t value) override;

    bool ecamEnabled() const { return config_[0x60] & 1; }
    PhysAddr ecamBase() const { return ecamBase(pciExBar()); }
    unsigned ecamBuses() const { return ecamBuses(pciExBar()); }

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
    uint64_t pciExBar() const;
    static PhysAddr ecamBase(uint64_t bar);
    static unsigned ecamBuses(uint64_t bar);
    uint8_t attributesOf(unsigned segment) const;
    void mapSegment(Segment& segment, uint8_t attributes);
    // What hides TSEG.
    struct BlackHole : IoHandler {
        uint64_t ioRead(uint64_t, unsigned size) override { return openBus(size); }
        void ioWrite(uint64_t, unsigned, uint64_t) override {}
    } blackHole_;
    void update();
    void updateEcam();
    void updateSmram();
    uint64_t tsegSize() const;

    PciBus& bus_;
    RamBlock& ram_;
    RamBlock& bios_;
    std::array<Segment, 13> segments_;
    Region* ecam_ = nullptr;
    PhysAddr ecamAt_;
    unsigned ecamMappedBuses_ = 0;
    uint64_t lastPciExBar_ = 0;                                                     // with ECAM enabled
    enum class Window : uint8_t { Free, Held, HeldClosed } window_ = Window::Free;  // see resetForWake
    const uint64_t lowRam_;
    Region* smram_;                                      // shown to everybody
    Region *tseg_ = nullptr, *tsegBlackHole_ = nullptr;  // for SMM; for everybody else
    uint64_t tsegMapped_ = 0;
};

}  // namespace kiln
