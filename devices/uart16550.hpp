// A 16550A UART (National Semiconductor PC16550D data sheet). A transmitted byte is out at once; received
// bytes arrive at the speed of the line and wait outside while the FIFO is full, so that none is lost.
//
// Not modelled: parity and framing errors, sending breaks, DMA mode. As on PC cards, OUT2 gates the
// interrupt.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>

#include "apic/byte_io.hpp"
#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/irq_line.hpp"

namespace kiln {

class Uart16550 : public Device, public ByteIo {
  public:
    using Output = std::function<void(std::span<const uint8_t>)>;
    Uart16550(Clock& clock, IrqInput& irq, Output output);

    void receive(std::span<const uint8_t> bytes);  // from outside; any number
    size_t waiting() const { return inbox_.size(); }
    // What is transmitted may wait for a new line or flush(), so that it can be done without the device.
    void keepBack() { keepsBack_ = true; }
    void flush();

    std::string_view name() const override { return "uart16550"; }
    void reset() override;
    void state(StateVisitor& visit) override;  // bytes still outside belong to the gate, not to the chip

    uint8_t readByte(uint64_t offset) override;  // 8 ports
    void writeByte(uint64_t offset, uint8_t value) override;
    DirectRegister direct(uint64_t offset, unsigned size, bool write) override;

  private:
    bool fifoEnabled() const { return fcr_ & 1; }
    unsigned capacity() const { return fifoEnabled() ? 16 : 1; }
    unsigned trigger() const;
    Nanos characterTime() const;
    uint8_t modemStatus() const;

    void push(uint8_t value);
    uint8_t pop();
    void clearReceiver();
    void takeFromInbox();
    void armTimeout();
    void transmit(uint8_t value);
    void settingsChanged();
    void writeFcr(uint8_t value);
    void writeMcr(uint8_t value);
    uint8_t interruptId() const;  // IIR bits 0..3
    uint8_t readIir();
    uint8_t readLsr();
    uint8_t readMsr();
    void updateIrq();

    Clock& clock_;
    IrqLine irq_;
    Output output_;
    Timer lineTimer_, timeoutTimer_;
    std::deque<uint8_t> inbox_;
    std::array<uint8_t, 1024> outbox_;
    uint32_t outboxCount_ = 0;
    bool keepsBack_ = false;
    bool plainTransmit_ = false;  // a byte that is written goes to the outbox, and nobody is told
    uint32_t dataBits_ = 0xFF;    // a mask

    std::array<uint8_t, 16> fifo_{};
    uint8_t first_ = 0, count_ = 0;
    uint16_t divisor_ = 12;
    uint8_t lastReceived_ = 0;
    uint8_t ier_ = 0, fcr_ = 0, lcr_ = 0, mcr_ = 0, scratch_ = 0;
    uint8_t lineErrors_ = 0;   // LSR bits 1..4
    uint8_t lineStatus_ = 0;   // all of LSR, as it follows from the others
    uint8_t modemDeltas_ = 0;  // MSR bits 0..3
    bool thrEmptyPending_ = false, timeoutPending_ = false;
};

}  // namespace kiln
