#include "devices/ide_device.hpp"

#include <cstring>

namespace kiln {

using namespace ata;

namespace {

constexpr Nanos kResetTime = 5'000;
constexpr Nanos kCommandTime = 8'000;
constexpr Nanos kBlockTime = 2'000;
constexpr Nanos kDmaTime = 10'000;
constexpr uint8_t kDeviceReset = 0x08;

}  // namespace

IdeDevice::IdeDevice(Clock& clock, IdeHost& host)
    : clock_(clock), host_(host), buffer_(kBufferSize), timer_(clock, [this] { onTimer(); }) {}

void IdeDevice::setInterrupt(bool level) {
    if (interrupt_ == level) return;
    interrupt_ = level;
    host_.interruptChanged();
}

// -- commands and their phases

void IdeDevice::writeCommand(uint8_t command) {
    // A busy drive hears nothing but DEVICE RESET.
    if ((status_ & (kBusy | kRequest)) && command != kDeviceReset) return;
    timer_.disarm();
    setInterrupt(false);
    command_ = command;
    error_ = 0;
    start(command);
}

void IdeDevice::busy(Phase phase, Nanos duration) {
    phase_ = phase;
    status_ = kBusy | kReady | kSeekDone;
    timer_.arm(clock_.now() + duration);
}

void IdeDevice::executeLater() { busy(Phase::Command, kCommandTime); }
void IdeDevice::blockLater() { busy(Phase::Block, kBlockTime); }

void IdeDevice::onTimer() {
    Phase phase = phase_;
    phase_ = Phase::Idle;
    switch (phase) {
        case Phase::Reset:
        case Phase::Diagnostic:
            error_ = 0x01;  // diagnostic code: passed
            signature();
            if (phase == Phase::Diagnostic) setInterrupt(true);
            break;
        case Phase::Command: execute(command_); break;
        case Phase::Block: nextBlock(); break;
        case Phase::Dma: transferDma(); break;
        case Phase::DataIn:
            phase_ = phase;
            setInterrupt(true);
            break;
        default: phase_ = phase;
    }
}

void IdeDevice::setIdle(uint8_t status) {
    phase_ = Phase::Idle;
    status_ = status;
}

void IdeDevice::complete() {
    setIdle(kReady | kSeekDone);
    setInterrupt(true);
}

void IdeDevice::fail(uint8_t error, uint8_t statusBits) {
    error_ = error;
    setIdle(kReady | kSeekDone | kError | statusBits);
    setInterrupt(true);
}

bool IdeDevice::acceptTransferMode(uint8_t mode) {
    unsigned kind = mode >> 3, n = mode & 7;
    bool known = kind == 0 || (kind == 1 && n <= 4) || (kind == 4 && n <= 2) || (kind == 8 && n <= 5);
    if (known && kind >= 4) transferMode_ = mode;
    return known;
}

// -- PIO data

void IdeDevice::offer(size_t bytes) {
    phase_ = Phase::DataIn;
    position_ = 0, end_ = uint32_t(bytes);
    status_ = kReady | kSeekDone | kRequest;
    setInterrupt(true);
}

void IdeDevice::offerMore(size_t bytes) {
    phase_ = Phase::DataIn;
    position_ = end_, end_ += uint32_t(bytes);
    status_ = kReady | kSeekDone | kRequest;
    timer_.arm(clock_.now() + kBlockTime);
}

void IdeDevice::request(size_t bytes, bool interruptNow) {
    phase_ = Phase::DataOut;
    position_ = 0, end_ = uint32_t(bytes);
    status_ = kReady | kSeekDone | kRequest;
    if (interruptNow) setInterrupt(true);
}

uint32_t IdeDevice::readData(unsigned size) {
    if (phase_ != Phase::DataIn) return uint32_t(-1);
    timer_.disarm();  // of an interrupt that is not wanted any more
    uint32_t value = 0;
    std::memcpy(&value, &buffer_[position_], position_ + size <= end_ ? size : end_ - position_);
    position_ += size;
    if (position_ >= end_) dataInDone();
    return value;
}

void IdeDevice::writeData(unsigned size, uint32_t value) {
    if (phase_ != Phase::DataOut) return;
    std::memcpy(&buffer_[position_], &value, position_ + size <= end_ ? size : end_ - position_);
    position_ += size;
    if (position_ >= end_) dataOutDone();
}

size_t IdeDevice::readData(uint8_t* to, size_t bytes) {
    if (phase_ != Phase::DataIn) return 0;
    timer_.disarm();
    bytes = std::min<size_t>(bytes, end_ - position_);
    std::memcpy(to, &buffer_[position_], bytes);
    position_ += uint32_t(bytes);
    if (position_ >= end_) dataInDone();
    return bytes;
}

size_t IdeDevice::writeData(const uint8_t* from, size_t bytes) {
    if (phase_ != Phase::DataOut) return 0;
    bytes = std::min<size_t>(bytes, end_ - position_);
    std::memcpy(&buffer_[position_], from, bytes);
    position_ += uint32_t(bytes);
    if (position_ >= end_) dataOutDone();
    return bytes;
}

size_t IdeDevice::plainData(bool write) const {
    return phase_ == (write ? Phase::DataOut : Phase::DataIn) ? end_ - position_ - 1 : 0;
}

// -- DMA

void IdeDevice::waitForDma() {
    phase_ = Phase::DmaWait;
    status_ = kBusy | kReady | kSeekDone;
    if (host_.dmaStarted()) dmaStart();
}

void IdeDevice::dmaStart() {
    if (phase_ == Phase::DmaWait) busy(Phase::Dma, kDmaTime);
}

void IdeDevice::dmaStop() {
    if (phase_ != Phase::Dma) return;
    timer_.disarm();
    phase_ = Phase::DmaWait;
}

// -- reset

void IdeDevice::enterReset(Phase phase) {
    timer_.disarm();
    phase_ = phase;
    position_ = end_ = 0;
    status_ = kBusy;
    deviceHead = 0;
    setInterrupt(false);
}

void IdeDevice::powerOn() {
    enterReset(Phase::Idle);
    now = previous = {};
    transferMode_ = 0;
    resetSettings(true);
    error_ = 0x01;
    signature();
}

void IdeDevice::beginReset() {
    enterReset(Phase::Reset);
    resetSettings(false);
}

void IdeDevice::endReset() {
    if (phase_ == Phase::Reset) timer_.arm(clock_.now() + kResetTime);
}

void IdeDevice::diagnose(bool interruptAfter) {
    enterReset(interruptAfter ? Phase::Diagnostic : Phase::Reset);
    timer_.arm(clock_.now() + kResetTime);
}

void IdeDevice::state(StateVisitor& visit) {
    auto registers = [&](TaskFile& t) {
        visit("features", t.features);
        visit("count", t.count);
        visit("lba_low", t.lbaLow);
        visit("lba_mid", t.lbaMid);
        visit("lba_high", t.lbaHigh);
    };
    registers(now);
    registers(previous);
    visit("device_head", deviceHead);
    visit("status", status_);
    visit("error", error_);
    visit("command", command_);
    visit("transfer_mode", transferMode_);
    visit("phase", phase_);
    visit("position", position_);
    visit("end", end_);
    visit("interrupt", interrupt_);
    visit("buffer", buffer_);
    Nanos deadline = timer_.deadline();
    visit("deadline", deadline);
    if (deadline != timer_.deadline()) timer_.arm(deadline);
}

}  // namespace kiln
