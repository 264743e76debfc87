// PCI buses without a board: functions, bridges, and what arrives at memory and at the APICs' window.
#pragma once
#include <cstring>
#include <utility>
#include <vector>

#include "apic/apic_bus.hpp"
#include "pci/pci_bridge.hpp"

namespace kiln::test {

struct Registers : IoHandler {
    uint64_t ioRead(uint64_t offset, unsigned) override { return 0x5a00 + offset; }
    void ioWrite(uint64_t offset, unsigned, uint64_t value) override { last = {offset, value}; }
    std::pair<uint64_t, uint64_t> last;
};

struct TestFunction : PciFunction {
    TestFunction() : PciFunction({.vendor = 0x1234, .device = 0x5678, .classCode = 0x020000}) {}
    std::string_view name() const override { return "test"; }
};

struct PciBench {
    // Notes what functions send up.
    struct Bridge : Upstream {
        bool read(Bdf, uint64_t, void* out, uint64_t size) override {
            std::memset(out, 0x33, size);
            return true;
        }
        bool write(Bdf who, uint64_t address, const void* in, uint64_t size) override {
            Write w{who, address, 0};
            std::memcpy(&w.data, in, std::min<uint64_t>(size, sizeof w.data));
            writes.push_back(w);
            return true;
        }
        struct Write {
            Bdf requester;
            uint64_t address;
            uint32_t data;
        };
        std::vector<Write> writes;
    } above;
    PhysicalMemory memory;
    PortBus ports;
    PciBus bus{memory, ports};

    PciBench() {
        ports.map(0xcf8, 8, bus.ports());
        memory.mapIo(PhysAddr(kEcam), 256 << 20, bus.ecam());
        bus.upstream = &above;
    }
    static constexpr uint64_t kEcam = 0xb0000000;
    uint32_t in(Bdf bdf, unsigned offset, unsigned size = 4) {
        return bus.configRead(bdf, uint16_t(offset), size);
    }
    void out(Bdf bdf, unsigned offset, uint32_t value, unsigned size = 4) {
        bus.configWrite(bdf, uint16_t(offset), size, value);
    }
    // Bus numbers of a bridge, its decoding and bus mastering.
    void open(Bdf bridge, uint8_t secondary, uint8_t subordinate) {
        out(bridge, 0x18, uint32_t(bridge.bus() | secondary << 8 | subordinate << 16));
        out(bridge, 4, 7, 2);
    }
};

}  // namespace kiln::test
