// The firmware configuration device of QEMU (QEMU's docs/specs/fw_cfg): how the board hands tables, option
// ROMs and a kernel to the firmware. Selector and data at ports 0x510 and 0x511, DMA at 0x514.
//
// Not modelled: items the guest may write; writes are ignored, as for a read-only item.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apic/device.hpp"
#include "mmu/io.hpp"
#include "mmu/log.hpp"
#include "mmu/physical_memory.hpp"

namespace kiln {

// Item keys with a fixed meaning. Those from 0x20 on are files, listed by FileDirectory.
enum class FwCfgKey : uint16_t {
    Signature = 0x00,
    Id = 0x01,
    Uuid = 0x02,
    RamSize = 0x03,
    NoGraphic = 0x04,
    CpuCount = 0x05,
    KernelAddress = 0x07,
    KernelSize = 0x08,
    InitrdAddress = 0x0a,
    InitrdSize = 0x0b,
    Numa = 0x0d,
    BootMenu = 0x0e,
    MaxCpus = 0x0f,
    KernelData = 0x11,
    InitrdData = 0x12,
    CommandLineAddress = 0x13,
    CommandLineSize = 0x14,
    CommandLineData = 0x15,
    SetupAddress = 0x16,
    SetupSize = 0x17,
    SetupData = 0x18,
    FileDirectory = 0x19,
    FirstFile = 0x20,
    Irq0Override = 0x8002,
};

class FwCfg : public Device {
  public:
    static constexpr uint16_t kSelectorPort = 0x510, kDmaPort = 0x514;

    FwCfg(PhysicalMemory& memory, Log& log);

    // -- built once by the board
    void add(FwCfgKey key, std::vector<uint8_t> bytes);
    void add16(FwCfgKey key, uint16_t value);
    void add32(FwCfgKey key, uint32_t value);
    void add64(FwCfgKey key, uint64_t value);
    // `name` is at most 55 characters; a name that exists is replaced.
    void addFile(std::string_view name, std::vector<uint8_t> bytes);
    // What the guest would read; empty when there is no such item.
    std::span<const uint8_t> item(uint16_t key) const;
    std::span<const uint8_t> file(std::string_view name) const;

    IoHandler& ports() { return ports_; }  // 2 ports from 0x510
    IoHandler& dma() { return dma_; }      // 8 ports from 0x514

    std::string_view name() const override { return "fw-cfg"; }
    void reset() override;
    void state(StateVisitor& visit) override;

  private:
    struct Ports : IoHandler {
        explicit Ports(FwCfg& f) : fw(f) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        FwCfg& fw;
    } ports_{*this};
    struct Dma : IoHandler {
        explicit Dma(FwCfg& f) : fw(f) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        FwCfg& fw;
    } dma_{*this};

    void select(uint16_t key);
    uint8_t readByte();
    void runDma(PhysAddr descriptor);
    uint32_t transfer(uint32_t control, uint32_t length, PhysAddr address);
    void buildDirectory();

    PhysicalMemory& memory_;
    Log& log_;
    std::map<uint16_t, std::vector<uint8_t>> items_;
    std::map<std::string, uint16_t, std::less<>> files_;  // name -> key
    uint16_t selected_ = 0;
    uint64_t position_ = 0;    // in the selected item
    uint64_t dmaAddress_ = 0;  // as written so far: the high half comes first
};

}  // namespace kiln
