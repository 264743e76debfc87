// One drive on an ATA cable (ATA/ATAPI-6, T13/1410D): the command block registers, the protocols by which
// data and interrupts move (clause 9), and reset. What a command means is in ide_disk.cpp and atapi.cpp.
//
// Every command is busy for a few virtual microseconds, because drivers exist that start waiting for an
// interrupt only after having written the command; data in that the host pushes is asked for at once. Data
// that the drive has read already can be read at once, too, but the interrupt about it takes its time.
//
// Not modelled: overlapped and queued commands, DMA timing, power states (accepted, always active).
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "apic/clock.hpp"
#include "mmu/state.hpp"

namespace kiln {

class IdeDevice;

// What a drive needs from its channel.
class IdeHost {
  public:
    virtual void interruptChanged() = 0;  // of any drive
    virtual bool dmaStarted() const = 0;  // the bus master engine runs
    // Moves bytes between `data` and the guest memory described by the engine's table; returns how many,
    // fewer when the table is too short.
    virtual size_t dmaTransfer(uint8_t* data, size_t bytes, bool toMemory) = 0;
    virtual void dmaFinished() = 0;  // the drive has no more to transfer

  protected:
    ~IdeHost() = default;
};

// Status and error register bits (ATA-6, 7.15 and 7.9).
namespace ata {
enum : uint8_t {
    kBusy = 0x80,
    kReady = 0x40,
    kFault = 0x20,
    kSeekDone = 0x10,
    kRequest = 0x08,
    kError = 0x01
};
enum : uint8_t { kUncorrectable = 0x40, kNotFound = 0x10, kAborted = 0x04 };
}  // namespace ata

class IdeDevice {
  public:
    IdeDevice(Clock& clock, IdeHost& host);
    virtual ~IdeDevice() = default;
    IdeDevice(const IdeDevice&) = delete;
    IdeDevice& operator=(const IdeDevice&) = delete;

    struct TaskFile {
        uint8_t features = 0, count = 0, lbaLow = 0, lbaMid = 0, lbaHigh = 0;
    };
    TaskFile now, previous;  // each register is two deep, for 48-bit commands
    uint8_t deviceHead = 0;

    uint8_t status() const { return status_; }
    uint8_t error() const { return error_; }
    bool interrupt() const { return interrupt_; }
    void acknowledge() { setInterrupt(false); }  // the status register was read

    void writeCommand(uint8_t command);
    uint32_t readData(unsigned size);
    void writeData(unsigned size, uint32_t value);
    // As many of `bytes` as the data phase has, up to its last one.
    size_t readData(uint8_t* to, size_t bytes);
    size_t writeData(const uint8_t* from, size_t bytes);
    // How many bytes of a data phase only move, in front of the one that ends it.
    size_t plainData(bool write) const;
    void dmaStart();  // the engine was started or stopped
    void dmaStop();

    void powerOn();     // as after RESET#
    void beginReset();  // SRST is asserted
    void endReset();    // SRST is released
    void diagnose(bool interruptAfter);

    virtual void state(StateVisitor& visit);

  protected:
    enum class Phase : uint8_t {
        Idle,
        Reset,       // held, or on the way out of it
        Diagnostic,  // as Reset, with an interrupt at the end
        Command,     // busy; then execute()
        Block,       // busy; then nextBlock()
        DataIn,      // the host reads the buffer
        DataOut,     // the host fills it
        DmaWait,     // for the bus master engine
        Dma,         // busy; then transferDma()
    };
    static constexpr size_t kBufferSize = 65536;

    // -- what a kind of drive implements
    virtual void start(uint8_t command) = 0;    // the command register was written
    virtual void execute(uint8_t command) = 0;  // ... some time ago (after executeLater)
    virtual void nextBlock() = 0;               // some time after blockLater()
    virtual void dataInDone() = 0;              // the host has read all
    virtual void dataOutDone() = 0;             // the host has written all
    virtual void transferDma() = 0;             // the engine is ready
    virtual void signature() = 0;               // task file and status after reset
    virtual void resetSettings(bool powerOn) = 0;

    // -- the protocols
    void executeLater();
    void blockLater();
    void offer(size_t bytes);      // DRQ and interrupt: the host reads
    void offerMore(size_t bytes);  // the same of what lies behind it; the interrupt comes later, or not at
                                   // all if the host has begun to read by then
    void request(size_t bytes, bool interruptNow);  // DRQ: the host writes
    void waitForDma();
    void complete();  // success, with interrupt
    void fail(uint8_t error, uint8_t statusBits = 0);
    void setIdle(uint8_t status);
    void setInterrupt(bool level);
    bool acceptTransferMode(uint8_t mode);        // SET FEATURES 03; false: no such mode
    uint16_t selectedMode(unsigned kind) const {  // for IDENTIFY: the high byte of words 63 (4) and 88 (8)
        return uint16_t(transferMode_ >> 3 == kind ? 0x100 << (transferMode_ & 7) : 0);
    }

    Clock& clock_;
    IdeHost& host_;
    std::vector<uint8_t> buffer_;
    uint8_t status_ = 0, error_ = 0;
    uint8_t command_ = 0;
    uint8_t transferMode_ = 0;  // as SET FEATURES gave it: 0x20|n multiword DMA, 0x40|n Ultra DMA

  private:
    void onTimer();
    void enterReset(Phase phase);
    void busy(Phase phase, Nanos duration);

    Phase phase_ = Phase::Idle;
    uint32_t position_ = 0, end_ = 0;  // in buffer_, of the data phase
    bool interrupt_ = false;
    Timer timer_;
};

}  // namespace kiln
