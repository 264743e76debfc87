// The device of kvm-unit-tests (QEMU's pc-testdev): latches to read back, a memory-mapped scratch area,
// interrupt lines the guest drives itself, and a way to make the machine forget how a page is mapped.
//
//   ports   E0-E3 a latch of 32 bits, any width    E4 a page's address: its translations are dropped
//           E8 a latch of 8 bits    2000+n I/O APIC input n (ISA interrupt n below 16): zero lowers, others
//           raise
//   memory  FF000000 64 KiB, each access through the device
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#include "apic/byte_io.hpp"
#include "apic/device.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"
#include "mmu/physical_memory.hpp"

namespace kiln {

class PcTestdev : public Device {
  public:
    static constexpr unsigned kLines = 24;
    static constexpr uint64_t kMemoryBase = 0xff000000, kMemorySize = 64 << 10;

    // `dropTranslations` makes every processor look its pages up anew.
    explicit PcTestdev(std::function<void()> dropTranslations) : flush_{std::move(dropTranslations)} {}

    void map(PortBus& ports, PhysicalMemory& memory) {
        ports.map(0xe0, 4, latch_);
        ports.map(0xe4, 4, flush_);
        ports.map(0xe8, 4, byteLatch_);
        ports.map(0x2000, kLines, lines_);
        memory.mapIo(PhysAddr(kMemoryBase), kMemorySize, scratch_, 1);
    }
    void connect(unsigned line, IrqInput& input) { lines_.lines[line].connect(input); }

    std::string_view name() const override { return "pc-testdev"; }
    void reset() override {
        for (IrqLine& line : lines_.lines) line.set(false);
    }
    void state(StateVisitor& visit) override {
        visit("latch", latch_.value);
        visit("byte latch", byteLatch_.value);
        for (IrqLine& line : lines_.lines) {
            bool level = line.level();
            visit("line", level);
            line.set(level);
        }
        visit("scratch", scratch_.bytes);
    }

  private:
    struct Latch : IoHandler {
        uint64_t ioRead(uint64_t offset, unsigned size) override {
            return uint64_t(value) >> (offset * 8) & openBus(size);
        }
        void ioWrite(uint64_t offset, unsigned size, uint64_t v) override {
            uint32_t mask = uint32_t(openBus(size) << (offset * 8));
            value = (value & ~mask) | (uint32_t(v << (offset * 8)) & mask);
        }
        uint32_t value = 0;
    } latch_;
    struct Flush : IoHandler {
        explicit Flush(std::function<void()> d) : drop(std::move(d)) {}
        uint64_t ioRead(uint64_t, unsigned size) override { return openBus(size); }
        void ioWrite(uint64_t, unsigned, uint64_t) override { drop(); }
        std::function<void()> drop;
    } flush_;
    struct ByteLatch : ByteIo {
        uint8_t readByte(uint64_t) override { return value; }
        void writeByte(uint64_t, uint8_t v) override { value = v; }
        uint8_t value = 0;
    } byteLatch_;
    struct Lines : IoHandler {
        uint64_t ioRead(uint64_t, unsigned size) override { return openBus(size); }
        void ioWrite(uint64_t offset, unsigned, uint64_t v) override { lines[offset].set(v != 0); }
        std::array<IrqLine, kLines> lines;
    } lines_;
    struct Scratch : IoHandler {
        uint64_t ioRead(uint64_t offset, unsigned size) override {
            uint64_t v = 0;
            std::memcpy(&v, &bytes[offset], size);
            return v;
        }
        void ioWrite(uint64_t offset, unsigned size, uint64_t v) override {
            std::memcpy(&bytes[offset], &v, size);
        }
        std::vector<uint8_t> bytes = std::vector<uint8_t>(kMemorySize);
    } scratch_;
};

}  // namespace kiln
