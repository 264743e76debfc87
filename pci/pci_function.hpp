// A PCI function: type-0 configuration space (PCI 3.0, chapter 6), BARs that follow the guest's writes, INTx,
// MSI and bus mastering. Not modelled yet: masking of MSI, MSI-X, bridges; a refused transaction leaves no
// trace in the status register.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <vector>

#include "apic/device.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"
#include "mmu/log.hpp"
#include "mmu/physical_memory.hpp"
#include "pci/upstream.hpp"

namespace kiln {

struct PciIdentity {
    uint16_t vendor, device;
    uint32_t classCode;  // 24 bits: base class, subclass, programming interface
    uint8_t revision = 0;
    uint16_t subsystemVendor = 0, subsystem = 0;
    uint8_t headerType = 0;  // bit 7: multi-function
};

class PciBus;

class PciFunction : public Device {
  public:
    explicit PciFunction(PciIdentity identity);
    PciFunction(const PciFunction&) = delete;
    PciFunction& operator=(const PciFunction&) = delete;

    // -- built once, before PciBus::add
    void addIoBar(unsigned index, uint32_t size, IoHandler& handler);      // size: power of two >= 4
    void addMemoryBar(unsigned index, uint64_t size, IoHandler& handler);  // 32-bit, size >= 16
    void addMemoryBar(unsigned index, uint64_t size, RamBlock& ram, bool prefetchable);
    void addRom(RamBlock& rom);          // expansion ROM BAR
    void setInterruptPin(unsigned pin);  // 1..4 = INTA..INTD
    // A capability with identifier `id`, whose other bytes the caller fills in; 0x40 <= offset, whole dwords.
    void addCapability(unsigned offset, uint8_t id);
    void addMsi(unsigned offset, unsigned vectors = 1);  // 14 bytes; 1, 2, 4, ... 32 messages

    // Reads or writes 1, 2 or 4 bytes of configuration space, never across a dword. Overriders call the base.
    virtual uint32_t configRead(uint16_t offset, unsigned size);
    virtual void configWrite(uint16_t offset, unsigned size, uint32_t value);

    void reset() override;
    void state(StateVisitor& visit) override;

    // Drives INTx#. The command register's interrupt disable bit masks it, and so does MSI while it is
    // enabled.
    void setIntx(bool level);
    bool msiEnabled() const;
    void sendMsi(unsigned vector = 0);  // nothing unless enabled
    // Transactions of its own. False: not allowed to (command register), or refused on the way up; what a
    // read didn't get is all ones.
    bool dmaRead(uint64_t address, void* out, uint64_t size);
    bool dmaWrite(uint64_t address, const void* in, uint64_t size);
    Bdf bdf() const { return bdf_; }
    bool busMaster() const { return config_[4] & 4; }                     // DMA allowed
    uint64_t barSize(unsigned index) const { return bars_[index].size; }  // 0: none; 6 is the expansion ROM

  protected:
    struct ConfigRange {
        unsigned first, count;
    };
    void resetKeeping(std::initializer_list<ConfigRange> ranges);  // these bytes stay
    // Raw bytes of configuration space and which of their bits the guest may write.
    std::array<uint8_t, 256> config_{};
    std::array<uint8_t, 256> writable_{};
    void set16(unsigned offset, uint16_t v) {
        config_[offset] = uint8_t(v), config_[offset + 1] = uint8_t(v >> 8);
    }
    void set32(unsigned offset, uint32_t v) {
        set16(offset, uint16_t(v)), set16(offset + 2, uint16_t(v >> 16));
    }
    uint32_t get32(unsigned offset) const {
        return config_[offset] | config_[offset + 1] << 8 | config_[offset + 2] << 16 |
               uint32_t(config_[offset + 3]) << 24;
    }

  private:
    friend class PciBus;
    static constexpr uint64_t kUnmapped = ~0ull;
    struct Bar {
        enum Kind : uint8_t { None, Io, Memory, Ram, Rom } kind = None;
        uint64_t size = 0;
        IoHandler* handler = nullptr;
        RamBlock* ram = nullptr;
        Region* region = nullptr;  // while decoded
        uint64_t at = kUnmapped;
    };
    void declareBar(unsigned index, Bar bar, uint32_t typeBits);
    uint64_t wantedAddress(unsigned index) const;
    void mapBar(Bar& bar, uint64_t at);
    void unmapBar(Bar& bar);
    void updateMappings();
    bool intxMasked() const { return (config_[5] & 4) || msiEnabled(); }

    std::array<uint8_t, 256> powerOn_{};  // config_ as built
    std::array<Bar, 7> bars_;             // 6 is the expansion ROM
    PciBus* bus_ = nullptr;
    Bdf bdf_;
    IrqLine intx_;
    bool intxAsserted_ = false;
    uint8_t msi_ = 0;  // where the capability is
};

// Bus 0: configuration accesses by port 0xCF8/0xCFC (PCI 3.0, 3.2.2.3) and by ECAM (PCIe, 7.2.2).
class PciBus {
  public:
    PciBus(PhysicalMemory& memory, PortBus& ports);
    PciBus(const PciBus&) = delete;
    PciBus& operator=(const PciBus&) = delete;

    // Puts the function at `bdf`, for good (it must live as long as the machine). Its INTx goes to `intx`
    // when it has an interrupt pin.
    void add(Bdf bdf, PciFunction& function, IrqInput* intx = nullptr);
    PciFunction* find(Bdf bdf) const;  // null when nobody is there
    const std::vector<PciFunction*>& functions() const { return functions_; }
    void reset();
    void state(StateVisitor& visit);  // the bus's own; functions are visited as devices

    uint32_t configRead(Bdf bdf, uint16_t offset, unsigned size);  // absent function: all ones
    void configWrite(Bdf bdf, uint16_t offset, unsigned size, uint32_t value);

    IoHandler& ports() { return mechanism1_; }  // 8 ports from 0xCF8
    IoHandler& ecam() { return ecam_; }         // 1 MiB a bus

    PhysicalMemory& memory;
    PortBus& portBus;
    Upstream* upstream = &direct_;      // never null
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
    DirectUpstream direct_{memory};
    std::vector<PciFunction*> functions_;
};

}  // namespace kiln
