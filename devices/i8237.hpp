// The two cascaded 8237A DMA controllers of the PC/AT and their page registers (Intel 8237A data sheet; ICH9
// data sheet 13.2): channels 0..3 move bytes, 5..7 words, 4 carries the first controller.
//
// A device moves a piece of data with toMemory() or fromMemory(), in no time; the modes (demand, single,
// block) only differ in bus timing and move the same bytes.
//
// Not modelled: memory-to-memory transfers, compressed timing, rotating priority, and the effects of the DREQ
// and DACK polarity bits.
#pragma once
#include <array>
#include <cstdint>

#include "apic/byte_io.hpp"
#include "apic/device.hpp"
#include "mmu/log.hpp"
#include "mmu/physical_memory.hpp"

namespace kiln {

class I8237Pair : public Device {
  public:
    I8237Pair(PhysicalMemory& memory, Log& log);

    // Maps ports 0x00-0x0F, 0xC0-0xDF and the page registers 0x81-0x8F (not 0x80, the POST port).
    void mapPorts(PortBus& ports);
    IoHandler& first() { return first_; }    // offset 0 is port 0x00
    IoHandler& second() { return second_; }  // offset 0 is port 0xC0, registers at even offsets
    IoHandler& pages() { return pages_; }    // offset 0 is port 0x80

    struct Result {
        uint32_t moved = 0;          // bytes; fewer than asked for at the terminal count
        bool terminalCount = false;  // TC was raised on the last of them
    };
    // `channel` 0..3 or 5..7; 16-bit channels move whole words. Nothing moves while ready() is false. A
    // channel set up for "verify" counts without touching memory (fromMemory() then yields zeros).
    Result toMemory(unsigned channel, const uint8_t* data, uint32_t bytes);
    Result fromMemory(unsigned channel, uint8_t* data, uint32_t bytes);
    bool ready(unsigned channel) const;             // unmasked, and its controller (and the cascade) enabled
    void setRequest(unsigned channel, bool level);  // DREQ, as the status register shows it

    std::string_view name() const override { return "i8237"; }
    void reset() override;
    void state(StateVisitor& visit) override;

  private:
    struct Channel {
        uint16_t baseAddress = 0, baseCount = 0;  // as programmed
        uint16_t address = 0, count = 0;          // running; in words on the second controller
        uint8_t mode = 0;
        uint8_t page = 0;
    };
    struct Controller : ByteIo {
        uint8_t readByte(uint64_t offset) override;
        void writeByte(uint64_t offset, uint8_t value) override;
        void masterClear();
        void state(StateVisitor& visit);
        std::array<Channel, 4> channels;
        unsigned shift = 0;  // registers are 1 << shift ports apart
        uint8_t command = 0, temporary = 0;
        uint8_t masked = 0x0f, requests = 0, softRequests = 0, terminalCounts = 0;
        bool highByte = false;  // the flip-flop
    };
    struct Pages : ByteIo {
        explicit Pages(I8237Pair& p) : pair(p) {}
        uint8_t readByte(uint64_t offset) override;
        void writeByte(uint64_t offset, uint8_t value) override;
        DirectRegister direct(uint64_t offset, unsigned size, bool write) override;
        I8237Pair& pair;
        std::array<uint8_t, 16> scratch{};  // the ports that belong to no channel are plain latches
    };
    Controller& controllerOf(unsigned channel) { return channel < 4 ? first_ : second_; }
    const Controller& controllerOf(unsigned channel) const { return channel < 4 ? first_ : second_; }
    Result transfer(unsigned channel, uint8_t* data, uint32_t bytes, bool toMemory);
    void moveRun(Channel& c, bool words, uint8_t* data, uint32_t units, bool toMemory);

    PhysicalMemory& memory_;
    Log& log_;
    Controller first_, second_;
    Pages pages_{*this};
};

}  // namespace kiln
