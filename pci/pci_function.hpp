// A PCI function: type-0 configuration space (PCI 3.0, chapter 6), BARs that follow the guest's writes and
// the windows of the bridges above, INTx, MSI, MSI-X and bus mastering; with addExpress() the 4 KiB of a PCI
// Express function (PCI Express 4.0, 7.5).
//
//   pci_function.cpp  configuration space, BARs, INTx
//   capabilities.cpp  lists of capabilities, the PCI Express capability
//   bus_master.cpp    transactions, MSI
//   msix.cpp          MSI-X
//
// Interrupts pass the relay (apic/interrupt_relay.hpp) where the bus has one. Not modelled: a refused
// transaction leaves no trace in the status registers; a BAR that lies in a bridge's window partly is not
// decoded at all; power management.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string_view>
#include <vector>

#include "apic/device.hpp"
#include "apic/interrupt_relay.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"
#include "mmu/physical_memory.hpp"
#include "pci/pci_bus.hpp"

namespace kiln {

struct PciIdentity {
    uint16_t vendor, device;
    uint32_t classCode;  // 24 bits: base class, subclass, programming interface
    uint8_t revision = 0;
    uint16_t subsystemVendor = 0, subsystem = 0;
    uint8_t headerType = 0;  // bit 7: multi-function
};

// Device/port type of the PCI Express capabilities register (7.5.3.2).
enum class ExpressType : uint8_t { Endpoint = 0, RootPort = 4, IntegratedEndpoint = 9 };

class MsixTable;

class PciFunction : public Device, public InterruptSource {
  public:
    explicit PciFunction(PciIdentity identity);
    ~PciFunction() override;
    PciFunction(const PciFunction&) = delete;
    PciFunction& operator=(const PciFunction&) = delete;

    // -- built once, before PciBus::add
    void addIoBar(unsigned index, uint32_t size, IoHandler& handler);      // size: power of two >= 4
    void addMemoryBar(unsigned index, uint64_t size, IoHandler& handler);  // 32-bit, size >= 16
    void addMemoryBar(unsigned index, uint64_t size, RamBlock& ram, bool prefetchable);
    // The same with 64-bit addresses, in two BARs; of any size.
    void addWideBar(unsigned index, uint64_t size, IoHandler& handler, bool prefetchable);
    void addWideBar(unsigned index, uint64_t size, RamBlock& ram, bool prefetchable);
    void addRom(RamBlock& rom);          // expansion ROM BAR
    void setInterruptPin(unsigned pin);  // 1..4 = INTA..INTD
    void setMultiFunction();             // of function 0: others may follow
    // A capability with identifier `id`, whose other bytes the caller fills in; 0x40 <= offset, whole dwords.
    void addCapability(unsigned offset, uint8_t id);
    // 14 bytes, or 24 with a mask bit and a pending bit for each message; 1, 2, 4, ... 32 messages.
    void addMsi(unsigned offset, unsigned vectors = 1, bool maskable = false);
    // 12 bytes; 1..2048 vectors, whose table and pending bits get a BAR.
    void addMsix(unsigned offset, unsigned vectors, unsigned bar);
    void addExpress(unsigned offset, ExpressType type);  // 60 bytes; before extended capabilities
    void addExtendedCapability(unsigned offset, uint16_t id, uint8_t version);  // from 0x100 on, ascending

    // Reads or writes 1, 2 or 4 bytes of configuration space, never across a dword. Overriders call the base.
    virtual uint32_t configRead(uint16_t offset, unsigned size);
    virtual void configWrite(uint16_t offset, unsigned size, uint32_t value);

    void reset() override;
    void state(StateVisitor& visit) override;

    // Drives INTx#. The command register's interrupt disable bit masks it, and so do MSI and MSI-X while they
    // are enabled.
    void setIntx(bool level);
    bool msiEnabled() const;
    unsigned msiVectors() const;
    void sendMsi(unsigned vector = 0);  // nothing unless enabled; waits while masked
    bool msixEnabled() const;
    void sendMsix(unsigned vector);  // the same
    unsigned msixVectors() const;
    // Transactions of its own. False: not allowed to (command register, of the bridges too), or refused on
    // the way up; what a read didn't get is all ones.
    bool dmaRead(uint64_t address, void* out, uint64_t size);
    bool dmaWrite(uint64_t address, const void* in, uint64_t size);
    Bdf bdf() const override;
    bool isMultiFunction() const { return config_[0x0e] & 0x80; }
    bool busMaster() const { return config_[4] & 4; }  // DMA allowed
    uint64_t barSize(unsigned index) const { return bars_[index].size; }  // 0: none; 6 is the expansion ROM

    // -- its place
    virtual PciBridge* asBridge() { return nullptr; }
    const PciBridge* parent() const { return bridge_; }  // null: on bus 0
    InterruptRelay::Port* relay() const { return relay_; }

  protected:
    struct ConfigRange {
        unsigned first, count;
    };
    void resetKeeping(std::initializer_list<ConfigRange> ranges);  // these bytes stay
    // Raw bytes of configuration space, 256 or 4096, and which of their bits the guest may write.
    std::vector<uint8_t> config_, writable_;
    void set16(unsigned offset, uint16_t v) {
        config_[offset] = uint8_t(v), config_[offset + 1] = uint8_t(v >> 8);
    }
    void set32(unsigned offset, uint32_t v) {
        set16(offset, uint16_t(v)), set16(offset + 2, uint16_t(v >> 16));
    }
    uint16_t get16(unsigned offset) const { return uint16_t(config_[offset] | config_[offset + 1] << 8); }
    uint32_t get32(unsigned offset) const { return get16(offset) | uint32_t(get16(offset + 2)) << 16; }
    unsigned express_ = 0;  // where the PCI Express capability is
    PciBus* bus_ = nullptr;
    void setPowerOn(unsigned offset, uint8_t bits);  // read-only bits that depend on the place

  private:
    friend class PciBus;
    friend class MsixTable;
    static constexpr uint64_t kUnmapped = ~0ull;
    struct Bar {
        enum Kind : uint8_t { None, Io, Memory, Ram, Rom, Upper } kind = None;
        uint64_t size = 0;
        IoHandler* handler = nullptr;
        RamBlock* ram = nullptr;
        bool wide = false;         // 64-bit; the next one is its upper half
        Region* region = nullptr;  // while decoded
        uint64_t at = kUnmapped;
    };
    void declareBar(unsigned index, Bar bar, uint32_t typeBits);
    uint64_t wantedAddress(unsigned index) const;
    void mapBar(Bar& bar, uint64_t at);
    void unmapBar(Bar& bar);
    void updateMappings();
    bool intxMasked() const { return (config_[5] & 4) || msiEnabled() || msixEnabled(); }
    void driveIntx();

    bool mayMaster() const;
    Bdf requesterId() const;
    void sendMessage(InterruptId id, uint64_t address, uint32_t data);
    bool msiMasked(unsigned vector) const;
    void sendPendingMsi();
    unsigned extent() const;  // bytes of configuration space that can be reached

    std::vector<uint8_t> powerOn_;  // config_ as built
    std::array<Bar, 7> bars_;       // 6 is the expansion ROM
    PciBridge* bridge_ = nullptr;
    Bdf place_;  // device and function
    IrqLine intx_;
    bool intxAsserted_ = false;
    unsigned msi_ = 0, extended_ = 0;  // where MSI is; the last extended capability
    std::unique_ptr<MsixTable> msix_;
    InterruptRelay::Port* relay_ = nullptr;
};

}  // namespace kiln
