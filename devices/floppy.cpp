#include "devices/floppy.hpp"

#include <algorithm>
#include <cstdlib>

namespace kiln {

namespace {

constexpr Nanos kResetTime = 100'000;
constexpr Nanos kSeekTime = 200'000;
constexpr Nanos kStepTime = 10'000;  // a track
constexpr Nanos kReadIdTime = 300'000;

enum : unsigned { kDigitalOutput = 2, kTapeDrive = 3, kMainStatus = 4, kFifo = 5, kDigitalInput = 7 };
enum : uint8_t { kNotReset = 0x04, kDmaGate = 0x08, kMotor = 0x10 };               // digital output
enum : uint8_t { kRequest = 0x80, kToHost = 0x40, kNonDma = 0x20, kBusy = 0x10 };  // main status
enum : uint8_t { kSeekEnd = 0x20, kEquipmentCheck = 0x10, kAbnormal = 0x40 };      // ST0
enum : uint8_t { kNoPolling = 0x10, kFifoOff = 0x20, kKeptByLock = 0x2f };         // CONFIGURE

}  // namespace

Floppy::Floppy(Clock& clock, Log& log, I8237Pair& dma, IrqInput& irq6)
    : clock_(clock), log_(log), dma_(dma), irq_(irq6), timer_(clock, [this] { onTimer(); }) {
    for (unsigned i = 0; i < kDrives; i++)
        seekTimers_[i] = std::make_unique<Timer>(clock, [this, i] { seekDone(i); });
}

void Floppy::mapPorts(PortBus& ports) {
    ports.map(0x3f0, 6, *this);
    ports.map(0x3f7, 1, *this, 7);
}

// -- media

bool Floppy::attach(unsigned drive, std::unique_ptr<BlockImage> image) {
    const FloppyFormat* format = image ? floppyFormatOf(image->size()) : nullptr;
    if (image && !format) return false;
    drives_[drive].type = format ? format->drive : FloppyDriveType::D1440K;
    drives_[drive].format = format;
    drives_[drive].image = std::move(image);
    return true;
}

bool Floppy::insert(unsigned drive, std::unique_ptr<BlockImage> image) {
    const FloppyFormat* format = floppyFormatOf(image->size());
    if (!format) return false;
    drives_[drive].format = format;
    drives_[drive].image = std::move(image);
    drives_[drive].changed = true;
    return true;
}

// A diskette has no cache: when its motor stops, or it is taken out, what was written is on the medium.
void Floppy::settle(unsigned drive) {
    BlockImage* image = drives_[drive].image.get();
    if (image && !image->flush()) log_(LogCategory::Disk, "floppy: {}", image->lastError());
}

void Floppy::eject(unsigned drive) {
    settle(drive);
    drives_[drive].image.reset();
    drives_[drive].format = nullptr;
    drives_[drive].changed = true;
}

// -- registers

uint8_t Floppy::readByte(uint64_t offset) {
    switch (offset) {
        case kDigitalOutput: return dor_;
        case kTapeDrive: return tdr_;
        case kMainStatus: return mainStatus();
        case kFifo: return readFifo();
        case kDigitalInput: return digitalInput();
    }
    return 0xff;  // status registers A and B exist in PS/2 mode only
}

void Floppy::writeByte(uint64_t offset, uint8_t value) {
    switch (offset) {
        case kDigitalOutput: writeDigitalOutput(value); break;
        case kTapeDrive: tdr_ = value & 3; break;
        case kMainStatus: writeDataRate(value); break;
        case kFifo: writeFifo(value); break;
        case kDigitalInput: rate_ = value & 3; break;  // configuration control
    }
}

uint8_t Floppy::mainStatus() const {
    if (!(dor_ & kNotReset) || pending_ == Pending::Reset) return 0;
    switch (phase_) {
        case Phase::Command: return uint8_t(kRequest | (commandBytes_ ? kBusy : 0) | seeking_);
        case Phase::Result: return uint8_t(kRequest | kToHost | kBusy | seeking_);
        case Phase::Execution: break;
    }
    uint8_t status = uint8_t(kBusy | seeking_ | (nonDma() ? kNonDma : 0));
    if (bufferAt_ < bufferEnd_) status |= uint8_t(kRequest | (toHost() ? kToHost : 0));
    return status;
}

// The selected drive's change line; an empty drive shows it for good.
uint8_t Floppy::digitalInput() const {
    unsigned selected = dor_ & 3;
    if (selected >= kDrives || !drives_[selected].present()) return 0;
    const Drive& d = drives_[selected];
    return d.changed || !d.image ? 0x80 : 0;
}

void Floppy::writeDigitalOutput(uint8_t value) {
    uint8_t changed = dor_ ^ value;
    dor_ = value;
    if (changed & kNotReset) value& kNotReset ? leaveReset() : enterReset();
    for (unsigned unit = 0; unit < kDrives; unit++)
        if (changed & ~value & (kMotor << unit)) settle(unit);
    driveIrq();
}

void Floppy::writeDataRate(uint8_t value) {
    rate_ = value & 3;
    if (!(value & 0x80) || !(dor_ & kNotReset)) return;
    enterReset();
    leaveReset();
}

void Floppy::enterReset() {
    timer_.disarm();
    for (auto& t : seekTimers_) t->disarm();
    phase_ = Phase::Command;
    pending_ = Pending::None;
    commandBytes_ = resultBytes_ = resultAt_ = 0;
    bufferAt_ = bufferEnd_ = 0;
    seeking_ = senseMask_ = 0;
    dma_.setRequest(kDmaChannel, false);
    config_ = locked_ ? config_ & kKeptByLock : kFifoOff;
    if (!locked_) precompensation_ = 0;
    perpendicular_ &= 0xfc;  // a software reset leaves D0..D3
    setInterrupt(false);
}

void Floppy::leaveReset() { later(Pending::Reset, kResetTime); }

void Floppy::setInterrupt(bool level) {
    interrupt_ = level;
    driveIrq();
}

void Floppy::driveIrq() { irq_.set(interrupt_ && (dor_ & kDmaGate)); }

// -- the FIFO

const Floppy::Row Floppy::kRows[] = {
    {0x9f, 0x02, 9, &Floppy::readTrack},      {0xff, 0x03, 3, &Floppy::specify},
    {0xff, 0x04, 2, &Floppy::senseDrive},     {0x3f, 0x05, 9, &Floppy::write},
    {0x1f, 0x06, 9, &Floppy::read},           {0xff, 0x07, 2, &Floppy::recalibrate},
    {0xff, 0x08, 1, &Floppy::senseInterrupt}, {0x3f, 0x09, 9, &Floppy::write},  // deleted: the mark is lost
    {0xbf, 0x0a, 2, &Floppy::readId},         {0x1f, 0x0c, 9, &Floppy::readDeleted},
    {0xbf, 0x0d, 6, &Floppy::format},         {0xff, 0x0e, 1, &Floppy::dumpRegisters},
    {0xff, 0x0f, 3, &Floppy::seek},           {0xff, 0x10, 1, &Floppy::version},
    {0x1f, 0x11, 9, &Floppy::scanEqual},      {0xff, 0x12, 2, &Floppy::perpendicular},
    {0xff, 0x13, 4, &Floppy::configure},      {0x7f, 0x14, 1, &Floppy::lock},
    {0x1f, 0x16, 9, &Floppy::verify},         {0x1f, 0x19, 9, &Floppy::scanLow},
    {0x1f, 0x1d, 9, &Floppy::scanHigh},       {0xbf, 0x8f, 3, &Floppy::relativeSeek},
    {0x00, 0x00, 1, &Floppy::invalid},
};

const Floppy::Row* Floppy::row() const {
    const Row* r = kRows;
    while ((command_[0] & r->mask) != r->opcode) r++;
    return r;
}

void Floppy::writeFifo(uint8_t value) {
    if (!(mainStatus() & kRequest) || (mainStatus() & kToHost)) {
        log_.oddity("floppy FIFO written when it isn't asked for", "value {:02x}", value);
        return;
    }
    if (phase_ == Phase::Execution) {
        setInterrupt(false);
        buffer_[bufferAt_++] = value;
        if (bufferAt_ < bufferEnd_)
            setInterrupt(true);
        else
            bufferMoved_ = true, step();
        return;
    }
    command_[commandBytes_++] = value;
    const Row* r = row();
    if (commandBytes_ < r->bytes) return;
    log_(LogCategory::Disk, "floppy: command {:02x} {:02x} {:02x} {:02x} {:02x}", command_[0], command_[1],
         command_[2], command_[3], command_[4]);
    commandBytes_ = 0;
    (this->*r->handler)();
}

uint8_t Floppy::readFifo() {
    if (phase_ == Phase::Execution && bufferAt_ < bufferEnd_ && toHost()) {
        setInterrupt(false);
        uint8_t value = buffer_[bufferAt_++];
        if (bufferAt_ < bufferEnd_)
            setInterrupt(true);
        else
            bufferMoved_ = true, step();
        return value;
    }
    if (phase_ != Phase::Result) return 0xff;
    setInterrupt(false);
    uint8_t value = result_[resultAt_++];
    if (resultAt_ < resultBytes_) return value;
    phase_ = Phase::Command;
    // Another drive's finished seek interrupts anew; the four of a reset come with one interrupt.
    for (unsigned n = 0; n < 4; n++)
        if ((senseMask_ >> n & 1) && !(senseSt0_[n] & 0x80)) setInterrupt(true);
    return value;
}

void Floppy::result(std::initializer_list<uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), result_.begin());
    resultBytes_ = uint8_t(bytes.size());
    resultAt_ = 0;
    phase_ = Phase::Result;
}

// -- commands without sectors

void Floppy::specify() { specify1_ = command_[1], specify2_ = command_[2]; }

void Floppy::configure() { config_ = command_[2], precompensation_ = command_[3]; }

void Floppy::perpendicular() {
    uint8_t v = command_[1];  // D0..D3 change only with the overwrite bit
    perpendicular_ = v & 0x80 ? v & 0x3f : uint8_t((perpendicular_ & 0x3c) | (v & 3));
}

void Floppy::lock() {
    locked_ = command_[0] & 0x80;
    result({uint8_t(locked_ ? 0x10 : 0)});
}

void Floppy::dumpRegisters() {
    uint8_t tracks[4] = {drives_[0].track, drives_[1].track, 0, 0};
    result({tracks[0], tracks[1], tracks[2], tracks[3], specify1_, specify2_, endOfTrack_,
            uint8_t((locked_ ? 0x80 : 0) | perpendicular_), config_, precompensation_});
}

void Floppy::senseDrive() {
    uint8_t st3 = uint8_t((command_[1] & 7) | 0x08);  // two-sided
    if (const Drive* d = unit(); d && d->present()) {
        st3 |= 0x20;  // ready
        if (d->track == 0) st3 |= 0x10;
        if (d->image && !d->image->writable()) st3 |= 0x40;
    }
    result({st3});
}

void Floppy::senseInterrupt() {
    if (senseMask_ == 0) {
        invalid();
        return;
    }
    unsigned n = 0;
    while (!(senseMask_ >> n & 1)) n++;
    senseMask_ &= uint8_t(~(1 << n));
    setInterrupt(false);
    result({senseSt0_[n], n < kDrives ? drives_[n].track : uint8_t(0)});
}

void Floppy::startSeek(unsigned n, uint8_t target, bool recalibrating) {
    phase_ = Phase::Command;
    senseMask_ &= uint8_t(~(1 << n));
    if (n >= kDrives) {
        senseSt0_[n] = uint8_t(kSeekEnd | n | (recalibrating ? kAbnormal | kEquipmentCheck : 0));
        senseMask_ |= uint8_t(1 << n);
        setInterrupt(true);
        return;
    }
    Drive& d = drives_[n];
    d.target = target;
    d.recalibrating = recalibrating;
    seeking_ |= uint8_t(1 << n);
    unsigned steps = unsigned(std::abs(int(target) - int(d.track)));
    seekTimers_[n]->arm(clock_.now() + kSeekTime + steps * kStepTime);
}

void Floppy::seekDone(unsigned n) {
    Drive& d = drives_[n];
    seeking_ &= uint8_t(~(1 << n));
    d.track = d.target;
    if (d.image) d.changed = false;  // a step pulse with a medium in place resets the line
    uint8_t st0 = uint8_t(kSeekEnd | n);
    if (d.recalibrating && !d.present()) st0 |= kAbnormal | kEquipmentCheck;  // track 0 never came
    senseSt0_[n] = st0;
    senseMask_ |= uint8_t(1 << n);
    setInterrupt(true);
}

void Floppy::recalibrate() { startSeek(command_[1] & 3, 0, true); }

void Floppy::seek() { startSeek(command_[1] & 3, command_[2], false); }

void Floppy::relativeSeek() {
    unsigned n = command_[1] & 3;
    int track = n < kDrives ? drives_[n].track : 0;
    track += command_[0] & 0x40 ? command_[2] : -int(command_[2]);
    startSeek(n, uint8_t(std::clamp(track, 0, 255)), false);
}

void Floppy::readId() {
    phase_ = Phase::Execution;
    later(Pending::ReadId, kReadIdTime);
}

void Floppy::readIdDone() {
    Drive* d = unit();
    cylinder_ = d ? d->track : 0;
    head_ = command_[1] >> 2 & 1;
    sector_ = 1;
    st2_ = 0;
    sizeCode_ = 2;
    if (!mediumReadable() || cylinder_ >= d->format->tracks || head_ >= d->format->heads) {
        finish(kAbnormal, 0x01, 0);  // missing address mark
        return;
    }
    idSector_ = uint8_t(idSector_ % d->format->sectorsPerTrack + 1);
    sector_ = idSector_;
    finish(0, 0, 0);
}

// -- time, reset, state

void Floppy::later(Pending what, Nanos duration) {
    pending_ = what;
    timer_.arm(clock_.now() + duration);
}

void Floppy::onTimer() {
    Pending what = pending_;
    pending_ = Pending::None;
    if (what == Pending::Sector) step();
    if (what == Pending::ReadId) readIdDone();
    if (what != Pending::Reset || (config_ & kNoPolling)) return;
    senseMask_ = 0x0f;  // drive polling finds all four changed
    for (unsigned n = 0; n < 4; n++) senseSt0_[n] = uint8_t(0xc0 | n);
    setInterrupt(true);
}

void Floppy::reset() {
    locked_ = false;
    enterReset();
    dor_ = tdr_ = 0;
    rate_ = 2;
    specify1_ = specify2_ = perpendicular_ = 0;
    idSector_ = 0;
    for (Drive& d : drives_) d.track = 0, d.changed = true;
    driveIrq();
}

void Floppy::state(StateVisitor& visit) {
    visit("dor", dor_);
    visit("tdr", tdr_);
    visit("rate", rate_);
    visit("phase", phase_);
    visit("pending", pending_);
    visit("action", action_);
    visit("command", command_);
    visit("result", result_);
    visit("command_bytes", commandBytes_);
    visit("result_bytes", resultBytes_);
    visit("result_at", resultAt_);
    visit("specify1", specify1_);
    visit("specify2", specify2_);
    visit("config", config_);
    visit("precompensation", precompensation_);
    visit("perpendicular", perpendicular_);
    visit("locked", locked_);
    visit("interrupt", interrupt_);
    visit("sense_mask", senseMask_);
    visit("sense_st0", senseSt0_);
    visit("seeking", seeking_);
    visit("id_sector", idSector_);
    visit("cylinder", cylinder_);
    visit("head", head_);
    visit("sector", sector_);
    visit("size_code", sizeCode_);
    visit("end_of_track", endOfTrack_);
    visit("sectors_left", sectorsLeft_);
    visit("st2", st2_);
    visit("buffer", buffer_);
    visit("buffer_at", bufferAt_);
    visit("buffer_end", bufferEnd_);
    visit("buffer_moved", bufferMoved_);
    visit("dma_tries", dmaTries_);
    visit("terminal_count", terminalCount_);
    auto deadline = [&](Timer& timer) {
        Nanos d = timer.deadline();
        visit("deadline", d);
        if (d != timer.deadline()) timer.arm(d);
    };
    deadline(timer_);
    for (unsigned n = 0; n < kDrives; n++) {
        visit("track", drives_[n].track);
        visit("target", drives_[n].target);
        visit("recalibrating", drives_[n].recalibrating);
        visit("changed", drives_[n].changed);
        deadline(*seekTimers_[n]);
    }
    driveIrq();  // after a load
}

}  // namespace kiln
