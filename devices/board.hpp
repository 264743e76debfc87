// The board: a Q35-class chipset that also carries the legacy parts of a PC, its wires, and what firmware is
// told about it. Addresses and interrupts:
//
//   ports   00-0F,80-8F,C0-DF i8237    20,A0,4D0 i8259      40-43,61 i8254       60,64,92 i8042
//           70-73 mc146818    B2,B3,600-67F acpi_pm    CF8-CFF PCI, CF9 reset    1CE,3B0-3DF VGA
//           1F0,170,3F6,376 IDE        3F0-3F7 floppy       3F8,2F8,3E8,2E8 UARTs     402,E9 debug   510-51B
//           fw_cfg
//   memory  B0000000 ECAM     FEC00000 I/O APIC    FED00000 HPET    FED90000 VT-d    FEE00000 local APIC top
//   of 4 GiB firmware ISA     0 PIT, 1 keyboard, 3/4 UARTs, 6 floppy, 8 RTC, 9 SCI, 12 mouse, 13 x87 errors,
//   14/15 IDE; I/O APIC input 2 is ISA 0 PCI     00.0 MCH, 01.0 VGA, 02.0.. what -device adds, 1f.0 LPC, 1f.1
//   IDE
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "apic/apic_bus.hpp"
#include "apic/gate.hpp"
#include "devices/machine.hpp"

namespace kiln {

// What the board is connected to.
struct BoardPorts {
    Log& log;
    Gate& gate;
    Clock& clock;
    PhysicalMemory& memory;
    PortBus& ports;
    ApicBus& apicBus;
    std::function<void(const char* why)> reset{};
    std::function<void()> powerOff{};
    std::function<void()> suspend{}, wake{};  // S3 begins; ends, with Board::resetForWake()
    std::function<void(int code)> exit{};
    std::function<void(bool enabled)> a20{};
    std::function<void(bool active)> ignne{};
    std::function<void()> smi{};  // to the processor whose access is being served
    std::array<std::function<void(std::span<const uint8_t>)>, 4> serial{};
    bool serialKeepsBack = false;  // until Board::flushSerial()
    std::function<void(uint8_t)> debugConsole{};
};

class IoApic;
class I8259Pair;
class VgaRenderer;
class InterruptRelay;
class PciBus;
class PciFunction;

class Board {
  public:
    // Throws std::runtime_error with a sentence for the user.
    Board(const BoardPorts& ports, const MachineConfig& config);
    ~Board();
    Board(const Board&) = delete;
    Board& operator=(const Board&) = delete;

    void reset();
    void resetForWake();  // from S3
    void state(StateVisitor& visit);

    void key(uint8_t hidUsage, bool down);
    void mouse(int dx, int dy, int wheel, unsigned buttons);
    void serialInput(unsigned port, std::span<const uint8_t> bytes);
    void flushSerial();                  // what serial ports have kept back
    void coprocessorError(bool raised);  // the processor's FERR#
    void powerButton();
    void wake();  // from S3, if the machine is there
    // The picture when it changed since the last call, or `always`; null without a display adapter or a
    // change.
    const Frame* render(bool always);
    std::string screenText() const;  // of a text screen

    IoApic& ioApic();
    I8259Pair& pic();
    PciBus& pci();
    InterruptRelay& relay();
    PciFunction* pciFunction(const std::string& id);  // as -device called it; null: nobody
    const std::vector<Device*>& devices() const { return devices_; }

  private:
    struct Parts;
    void mapMemory(const MachineConfig& config);
    void buildInterrupts();
    void buildIsa(const MachineConfig& config);
    void buildPci(const MachineConfig& config);
    void addPciDevices(const MachineConfig& config);
    void addIommu(const MachineConfig& config);
    void mapPm(uint16_t base, bool enabled);
    void attachDrives(const MachineConfig& config);
    void fillCmos(const MachineConfig& config);
    void fillFwCfg(const MachineConfig& config);
    template <class T, class... Args>
    T& add(std::unique_ptr<T>& place, Args&&... args);
    void repeatKey();

    BoardPorts io_;
    uint64_t lowRam_ = 0, highRam_ = 0;  // below and above 4 GiB
    std::unique_ptr<Parts> parts_;
    std::vector<Device*> devices_;
    uint8_t repeated_ = 0;
    Timer repeatTimer_;
};

}  // namespace kiln
