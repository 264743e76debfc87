// The 82077AA floppy controller in AT mode (Intel 82077AA data sheet, sections 2, 5 and 6), with two drives.
//
// Sectors are found by the cylinder in the command, wherever the head was: software that steps 40-track
// diskettes double works as well as software that doesn't. A transfer takes a fraction of a diskette's
// real time, one timer step a sector; every command that ends with an interrupt does so some time after its
// last byte.
//
// Not modelled: FM encoding, sector sizes other than 512 bytes and gaps (no such sector is found), deleted
// data marks (never on the medium), the motor (always at speed), power-down and tape selection.
#pragma once
#include <array>
#include <memory>

#include "apic/byte_io.hpp"
#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/irq_line.hpp"
#include "devices/block_image.hpp"
#include "devices/floppy_format.hpp"
#include "devices/i8237.hpp"
#include "mmu/log.hpp"

namespace kiln {

class Floppy : public Device, public ByteIo {
  public:
    static constexpr unsigned kDrives = 2;
    static constexpr unsigned kDmaChannel = 2;

    Floppy(Clock& clock, Log& log, I8237Pair& dma, IrqInput& irq6);

    // Ports 0x3F0-0x3F5 and 0x3F7; 0x3F6 belongs to the IDE controller.
    void mapPorts(PortBus& ports);

    // A drive exists once it was given a medium, or null for an empty drive. False: the image is too large
    // for a diskette. The drive's type is that of its first medium's, or 1.44 MB.
    bool attach(unsigned drive, std::unique_ptr<BlockImage> image);
    bool insert(unsigned drive, std::unique_ptr<BlockImage> image);
    void eject(unsigned drive);
    FloppyDriveType driveType(unsigned drive) const { return drives_[drive].type; }

    std::string_view name() const override { return "i82077"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    uint8_t readByte(uint64_t offset) override;  // offset 0 is port 0x3F0
    void writeByte(uint64_t offset, uint8_t value) override;

  private:
    enum class Phase : uint8_t { Command, Execution, Result };
    // What the execution timer is for.
    enum class Pending : uint8_t { None, Reset, Sector, ReadId };
    // The data phase of the commands with sectors.
    enum class Action : uint8_t { Read, Write, ReadTrack, Verify, ScanEqual, ScanLow, ScanHigh, Format };

    struct Drive {
        FloppyDriveType type = FloppyDriveType::None;
        std::unique_ptr<BlockImage> image;
        const FloppyFormat* format = nullptr;
        uint8_t track = 0;
        uint8_t target = 0;  // of the running seek
        bool recalibrating = false;
        bool changed = true;  // the disk change line
        bool present() const { return type != FloppyDriveType::None; }
    };
    using Handler = void (Floppy::*)();
    struct Row {
        uint8_t mask, opcode, bytes;
        Handler handler;
    };
    static const Row kRows[];
    const Row* row() const;

    // -- registers
    uint8_t mainStatus() const;
    uint8_t digitalInput() const;
    void writeDigitalOutput(uint8_t value);
    void settle(unsigned drive);
    void writeDataRate(uint8_t value);
    uint8_t readFifo();
    void writeFifo(uint8_t value);
    void enterReset();
    void leaveReset();
    void setInterrupt(bool level);
    void driveIrq();

    // -- commands
    void specify();
    void senseDrive();
    void senseInterrupt();
    void recalibrate();
    void seek();
    void relativeSeek();
    void readId();
    void dumpRegisters();
    void version() { result({0x90}); }
    void configure();
    void lock();
    void perpendicular();
    void invalid() { result({0x80}); }
    void read() { startTransfer(Action::Read); }
    void readDeleted() { startTransfer(Action::Read); }
    void write() { startTransfer(Action::Write); }
    void readTrack() { startTransfer(Action::ReadTrack); }
    void verify() { startTransfer(Action::Verify); }
    void scanEqual() { startTransfer(Action::ScanEqual); }
    void scanLow() { startTransfer(Action::ScanLow); }
    void scanHigh() { startTransfer(Action::ScanHigh); }
    void format() { startTransfer(Action::Format); }

    void result(std::initializer_list<uint8_t> bytes);  // without an interrupt
    void startSeek(unsigned unit, uint8_t target, bool recalibrating);
    void seekDone(unsigned unit);
    void onTimer();
    void readIdDone();

    // -- transfers (floppy_transfer.cpp)
    void startTransfer(Action action);
    void later(Pending what, Nanos duration);
    void step();
    void stepRead(uint64_t offset);
    void stepWrite(uint64_t offset);
    void stepVerify(uint64_t offset);
    void stepScan(uint64_t offset);
    void stepFormat();
    bool locate(uint64_t& offset);
    bool readSector(uint64_t offset, std::array<uint8_t, 512>& out);
    bool writeSector(uint64_t offset);
    bool dataPhase(uint32_t bytes, bool toHost);
    void sectorDone();
    bool advance();
    void finish(uint8_t st0, uint8_t st1, uint8_t st2);
    bool toHost() const { return action_ == Action::Read || action_ == Action::ReadTrack; }
    bool nonDma() const { return specify2_ & 1; }
    Drive* unit() { return (command_[1] & 3) < kDrives ? &drives_[command_[1] & 3] : nullptr; }
    bool mediumReadable();

    Clock& clock_;
    Log& log_;
    I8237Pair& dma_;
    IrqLine irq_;
    std::array<Drive, kDrives> drives_;

    uint8_t dor_ = 0, tdr_ = 0, rate_ = 2;
    Phase phase_ = Phase::Command;
    Pending pending_ = Pending::None;
    Action action_ = Action::Read;
    std::array<uint8_t, 9> command_{};
    std::array<uint8_t, 16> result_{};
    uint8_t commandBytes_ = 0, resultBytes_ = 0, resultAt_ = 0;
    uint8_t specify1_ = 0, specify2_ = 0, config_ = 0x20, precompensation_ = 0, perpendicular_ = 0;
    bool locked_ = false, interrupt_ = false;
    uint8_t senseMask_ = 0;  // drives with an unfetched interrupt
    std::array<uint8_t, 4> senseSt0_{};
    uint8_t seeking_ = 0;
    uint8_t idSector_ = 0;  // the sector that passed the head last

    // the running transfer
    uint8_t cylinder_ = 0, head_ = 0, sector_ = 0, sizeCode_ = 2, endOfTrack_ = 0;
    uint16_t sectorsLeft_ = 0;  // FORMAT, READ TRACK, VERIFY with a count
    uint8_t st2_ = 0;
    std::array<uint8_t, 512> buffer_{};
    uint16_t bufferAt_ = 0, bufferEnd_ = 0;  // non-DMA mode: what the host has still to move
    bool bufferMoved_ = false;               // ... and now has
    uint8_t dmaTries_ = 0;
    bool terminalCount_ = false;

    Timer timer_;
    std::array<std::unique_ptr<Timer>, kDrives> seekTimers_;
};

}  // namespace kiln
