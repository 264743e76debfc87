// Test functions on bus 0 with an interrupt relay, an I/O APIC and local APICs, without a processor.
#pragma once
#include <memory>
#include <vector>

#include "apic/interrupt_relay.hpp"
#include "apic/io_apic.hpp"
#include "apic/local_apic.hpp"
#include "devices/irq_test.hpp"
#include "devices/relay_device.hpp"
#include "pci/pci_bridge.hpp"

namespace kiln::test {

struct RelayBench {
    static constexpr uint64_t kBars = 0xe0000000;
    static constexpr unsigned kMsi = 0x50, kMsix = 0x70;

    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    PortBus ports;
    ApicBus apicBus;
    std::vector<std::unique_ptr<LocalApic>> apics;
    IoApic ioApic{apicBus};
    InterruptRelay relay{clock, apicBus, log};
    PciBus bus{memory, ports};
    std::vector<std::unique_ptr<IrqTest>> tests;
    RelayDevice view{relay};

    explicit RelayBench(unsigned processors = 1) {
        for (unsigned n = 0; n < processors; n++) {
            apics.push_back(
                std::make_unique<LocalApic>(clock, apicBus, n, n == 0, [] { return uint64_t(0); }));
            apics[n]->ioWrite(0xf0, 4, 0x1ff);
        }
        memory.mapIo(PhysAddr(ApicBus::kWindowBase), ApicBus::kWindowSize, apicBus);
        bus.relay = &relay;
        bus.intxInput = [this](unsigned device, unsigned pin) {
            return &ioApic.pin(16 + (device + pin) % 8);
        };
        relay.wireLeadsTo = [](unsigned wire, unsigned pin) { return pin == 16 + (wire / 4 + wire % 4) % 8; };
        add(31, view);
    }
    // On a device of bus 0: the ones that are the same modulo 8 share a line.
    IrqTest& add(unsigned device, const IrqTestConfig& config = {.memory = 4096}) {
        IrqTest& test =
            *tests.emplace_back(std::make_unique<IrqTest>(clock, config, ExpressType::IntegratedEndpoint));
        add(device, test);
        return test;
    }
    void add(unsigned device, PciFunction& f) {
        const Bdf bdf(0, device, 0);
        bus.add(bdf, f);
        bus.configWrite(bdf, 0x10, 4, uint32_t(bar(f)));
        bus.configWrite(bdf, 0x18, 4, uint32_t(bar(f) + (1 << 16)));
        bus.configWrite(bdf, 4, 2, 6);
    }
    static uint64_t bar(const PciFunction& f) { return kBars + (uint64_t(f.bdf().device()) << 20); }
    static uint64_t table(const PciFunction& f) { return bar(f) + (1 << 16); }

    uint32_t in(uint64_t at) { return uint32_t(memory.access(PhysAddr(at), 4)); }
    void out(uint64_t at, uint32_t value) { memory.access(PhysAddr(at), 4, value); }
    uint32_t config(const PciFunction& f, unsigned offset, unsigned size = 4) {
        return bus.configRead(f.bdf(), uint16_t(offset), size);
    }
    void config(const PciFunction& f, unsigned offset, uint32_t value, unsigned size) {
        bus.configWrite(f.bdf(), uint16_t(offset), size, value);
    }

    // Messages to an APIC; of MSI the vector is that of message 0.
    void useMsi(const PciFunction& f, uint8_t vector, unsigned log2 = 0, unsigned apic = 0) {
        config(f, kMsi + 4, 0xfee00000 | apic << 12, 4);
        config(f, kMsi + 12, vector, 2);
        config(f, kMsi + 2, 1 | log2 << 4, 2);
    }
    void useMsix(const PciFunction& f, unsigned entry, uint8_t vector, unsigned apic = 0) {
        const uint64_t at = table(f) + entry * 16;
        out(at, 0xfee00000 | apic << 12), out(at + 4, 0), out(at + 8, vector), out(at + 12, 0);
    }
    void enableMsix(const PciFunction& f, bool masked = false) {
        config(f, kMsix + 2, 0x8000 | (masked ? 0x4000 : 0), 2);
    }
    // The I/O APIC's input of a function, level-triggered.
    void route(const PciFunction& f, uint8_t vector, unsigned apic = 0, bool masked = false) {
        const unsigned pin = 16 + f.bdf().device() % 8;
        ioApic.ioWrite(0, 4, 0x11 + pin * 2), ioApic.ioWrite(0x10, 4, apic << 24);
        ioApic.ioWrite(0, 4, 0x10 + pin * 2);
        ioApic.ioWrite(0x10, 4, 0x8000u | (masked ? 0x10000u : 0) | vector);
    }
    // What a processor does; the vector, or -1.
    int acknowledge(unsigned apic = 0) {
        LocalApic& a = *apics[apic];
        if (a.posted()) a.mergePosted();
        return a.interruptPending() ? a.acknowledge() : -1;
    }
    void eoi(unsigned apic = 0) { apics[apic]->ioWrite(0xb0, 4, 0); }
    InterruptRelay::Identifier& recorded(const PciFunction& f, InterruptId id) {
        return relay.identifiers()[*relay.find(f.bdf(), id)];
    }
};

// Registers of kiln-irqtest and kiln-relay.
namespace irqtest {
enum : unsigned {
    kRaise = 0x0c,
    kPending = 0x10,
    kAcknowledge = 0x14,
    kTake = 0x18,
    kRaised = 0x20,
    kRises = 0x24,
    kSelect = 0x28,
    kSelectedRaised = 0x2c,
    kSelectedPending = 0x30,
    kRate = 0x40,
    kBurst = 0x44,
    kFirst = 0x48,
    kNumber = 0x4c,
    kControl = 0x50,
    kLeft = 0x54,
    kHeld = 0x58
};
}
namespace relayview {
enum : unsigned {
    kFunctions = 4,
    kIndex = 8,
    kNext = 0xc,
    kFunction = 0x10,
    kIdentifier = 0x14,
    kStatus = 0x18,
    kIndicator = 0x1c,
    kTake = 0x20,
    kClear = 0x24,
    kRaised = 0x28,
    kBucket = 0x40,
    kSamples = 0x44
};
}

}  // namespace kiln::test
