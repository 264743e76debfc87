// The 8254 programmable interval timer (Intel 8254 data sheet; ICH9 data sheet 13.3) and port 0x61, which
// holds the gate and the output of channel 2. Everything is computed from the clock; only channel 0 has a
// timer, for IRQ 0.
//
// Not modelled: a new count in mode 3 waits for the end of the period, not of the half period; between two
// IRQ 0 events the line stays high (only the dip before each rising edge is made). The speaker makes no
// sound.
#pragma once
#include <array>
#include <cstdint>

#include "apic/byte_io.hpp"
#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/irq_line.hpp"

namespace kiln {

class I8254 : public Device, public ByteIo {
  public:
    static constexpr uint64_t kHz = 1'193'182;

    I8254(Clock& clock, IrqInput& irq0);

    bool output(unsigned channel);  // level of OUT
    bool speakerOn() { return (port61_ & 2) && output(2); }
    // The HPET in legacy replacement mode takes IRQ 0 away.
    void setIrqEnabled(bool enabled);

    std::string_view name() const override { return "i8254"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    // Offsets, as the board maps them: 0..3 for ports 0x40..0x43, 4 for port 0x61.
    static constexpr uint64_t kPort61 = 4;
    uint8_t readByte(uint64_t offset) override;
    void writeByte(uint64_t offset, uint8_t value) override;

  private:
    struct Channel {
        uint8_t mode = 0, access = 3;  // access: 1 low byte, 2 high byte, 3 low then high
        bool bcd = false, gate = true;
        bool loaded = false;     // a count was written since the control word
        bool triggered = false;  // modes 1 and 5: the gate rose
        bool running = false;
        uint32_t count = 0x10000;  // 1..65536 or 1..10000
        uint32_t nextCount = 0;    // modes 2 and 3: taken over at `switchTick`; 0 is none
        uint64_t switchTick = 0;
        uint64_t start = 0;   // the tick at which the counter held `count`
        uint64_t frozen = 0;  // ticks counted while not running
        uint16_t latch = 0;
        uint8_t latchedBytes = 0;  // still to be read
        uint8_t status = 0;
        bool statusLatched = false, readHigh = false, writeHigh = false;
        uint8_t lowByte = 0;

        uint64_t elapsed(uint64_t tick) const { return !running ? frozen : tick > start ? tick - start : 0; }
        void takeNextCount(uint64_t tick);
        bool output(uint64_t tick) const;
        uint16_t value(uint64_t tick) const;
        bool nullCount(uint64_t tick) const { return !loaded || nextCount || (running && tick < start); }
        uint64_t nextRise(uint64_t tick) const;  // of OUT, strictly after `tick`; kNoRise when there is none
        void load(uint32_t newCount, uint64_t tick);
        void setGate(bool level, uint64_t tick);
        void latchCount(uint64_t tick);
        void latchStatus(uint64_t tick);
        void state(StateVisitor& visit);
    };
    static constexpr uint64_t kNoRise = ~0ull;

    uint64_t now() const { return clock_.ticks(kHz); }
    void control(uint8_t value);
    void readBack(uint8_t value);
    uint8_t readCounter(Channel& c);
    void writeCounter(Channel& c, uint8_t value);
    void updateIrq();
    void rise();
    void arm();

    Clock& clock_;
    IrqLine irq0_;
    Timer timer_;
    std::array<Channel, 3> channels_;
    uint8_t port61_ = 0;
    bool irqEnabled_ = true;
};

}  // namespace kiln
