// PCI buses: bus 0 and those behind bridges, with configuration accesses by port 0xCF8/0xCFC (PCI 3.0,
// 3.2.2.3) and by ECAM (PCI Express 4.0, 7.2.2). An access to bus 0 is of type 0; one to another bus goes
// down through the bridge whose bus numbers include it, as type 1, until it gets to that bus.
//
// Behind a conventional bridge, nobody has extended configuration space. INTx goes up by the usual swizzle
// (PCI-to-PCI Bridge 1.2, 9.1), which is the same for PCI Express: at each bridge, pin n of device d is the
// bridge's pin (n + d) modulo 4.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "apic/bdf.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"
#include "mmu/log.hpp"
#include "pci/upstream.hpp"

namespace kiln {

class InterruptRelay;
class PciBridge;
class PciFunction;
class StateVisitor;

class PciBus {
  public:
    PciBus(PhysicalMemory& memory, PortBus& ports);
    PciBus(const PciBus&) = delete;
    PciBus& operator=(const PciBus&) = delete;

    // Puts the function at `bdf` of bus 0, for good (it must live as long as the machine). Its INTx goes to
    // `intx`, or to what intxInput says, when it has an interrupt pin.
    void add(Bdf bdf, PciFunction& function, IrqInput* intx = nullptr);
    // Behind a bridge that was added before.
    void add(PciBridge& bridge, unsigned device, unsigned number, PciFunction& function);
    // Where pin 0..3 of a device on bus 0 ends.
    std::function<IrqInput*(unsigned device, unsigned pin)> intxInput;

    PciFunction* find(Bdf bdf) const;                                             // null when nobody is there
    bool taken(const PciBridge* bridge, unsigned device, unsigned number) const;  // null: bus 0
    const std::vector<PciFunction*>& functions() const { return functions_; }
    void reset();
    void state(StateVisitor& visit);  // the bus's own; functions are visited as devices

    uint32_t configRead(Bdf bdf, uint16_t offset, unsigned size);  // absent function: all ones
    void configWrite(Bdf bdf, uint16_t offset, unsigned size, uint32_t value);

    // For bridges. What lies below, at any depth:
    void updateBelow(const PciBridge& bridge);  // windows changed: decode BARs anew
    void resetBelow(const PciBridge& bridge);

    IoHandler& ports() { return mechanism1_; }  // 8 ports from 0xCF8
    IoHandler& ecam() { return ecam_; }         // 1 MiB a bus

    PhysicalMemory& memory;
    PortBus& portBus;
    Upstream* upstream = &direct_;      // never null
    InterruptRelay* relay = nullptr;    // set before functions are added
    Log* log = nullptr;                 // -d pci
    IoHandler* resetControl = nullptr;  // the chipset's port 0xCF9, which lies inside the address register

  private:
    struct Mechanism1 : IoHandler {
        explicit Mechanism1(PciBus& b) : bus(b) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        PciBus& bus;
        uint32_t address = 0;
    } mechanism1_{*this};
    struct Ecam : IoHandler {
        explicit Ecam(PciBus& b) : bus(b) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        PciBus& bus;
    } ecam_{*this};
    void join(PciFunction& function, PciBridge* bridge, Bdf place, IrqInput* intx, unsigned device,
              unsigned pin);
    const PciBridge* bridgeTo(const PciBridge* above, unsigned bus) const;

    DirectUpstream direct_{memory};
    std::vector<PciFunction*> functions_;
};

}  // namespace kiln
