#include "devices/ide_disk.hpp"

#include <algorithm>
#include <cstring>

namespace kiln {

using namespace ata;

namespace {

constexpr uint32_t kSector = 512;
constexpr uint32_t kMaxMultiple = 16;
constexpr uint64_t kMaxLba28 = 0x0fffffff;

}  // namespace

IdeDisk::IdeDisk(Clock& clock, IdeHost& host, Log& log, std::unique_ptr<BlockImage> image, std::string serial)
    : IdeDevice(clock, host),
      log_(log),
      image_(std::move(image)),
      serial_(std::move(serial)),
      sectors_(image_->sectors()),
      cylinders_(uint16_t(std::clamp<uint64_t>(sectors_ / (16 * 63), 1, 16383))) {
    powerOn();
}

// -- the command table

const IdeDisk::Row IdeDisk::kCommands[] = {
    {0x20, &IdeDisk::readSectors},
    {0x21, &IdeDisk::readSectors},  // without retries
    {0x24, &IdeDisk::readSectors},  // EXT
    {0x25, &IdeDisk::readDma, true},
    {0x27, &IdeDisk::readNativeMax},
    {0x29, &IdeDisk::readMultiple},
    {0x30, &IdeDisk::writeSectors, true},
    {0x31, &IdeDisk::writeSectors, true},
    {0x34, &IdeDisk::writeSectors, true},
    {0x35, &IdeDisk::writeDma, true},
    {0x39, &IdeDisk::writeMultiple, true},
    {0x3c, &IdeDisk::writeSectors, true},  // WRITE VERIFY
    {0x3d, &IdeDisk::writeDma, true},      // FUA
    {0x40, &IdeDisk::verifySectors},
    {0x41, &IdeDisk::verifySectors},
    {0x42, &IdeDisk::verifySectors},
    {0x91, &IdeDisk::initializeParameters},
    {0x94, &IdeDisk::flushCache},  // STANDBY IMMEDIATE, ... as before ATA-3
    {0x95, &IdeDisk::complete},
    {0x96, &IdeDisk::flushCache},
    {0x97, &IdeDisk::complete},
    {0x98, &IdeDisk::checkPower},
    {0x99, &IdeDisk::flushCache},
    {0xc4, &IdeDisk::readMultiple},
    {0xc5, &IdeDisk::writeMultiple, true},
    {0xc6, &IdeDisk::setMultiple},
    {0xc8, &IdeDisk::readDma, true},
    {0xc9, &IdeDisk::readDma, true},
    {0xca, &IdeDisk::writeDma, true},
    {0xcb, &IdeDisk::writeDma, true},
    {0xce, &IdeDisk::writeMultiple, true},  // FUA
    {0xe0, &IdeDisk::flushCache},           // STANDBY IMMEDIATE: no drive spins down with a full cache
    {0xe1, &IdeDisk::complete},             // IDLE IMMEDIATE
    {0xe2, &IdeDisk::flushCache},           // STANDBY
    {0xe3, &IdeDisk::complete},             // IDLE
    {0xe4, &IdeDisk::readBuffer},
    {0xe5, &IdeDisk::checkPower},
    {0xe6, &IdeDisk::flushCache},  // SLEEP
    {0xe7, &IdeDisk::flushCache},
    {0xe8, &IdeDisk::writeBuffer, true},
    {0xea, &IdeDisk::flushCache},
    {0xec, &IdeDisk::identify},
    {0xef, &IdeDisk::setFeatures},
    {0xf8, &IdeDisk::readNativeMax},
};

const IdeDisk::Row* IdeDisk::find(uint8_t command) {
    static constexpr Row kRecalibrate{0x10, &IdeDisk::recalibrate}, kSeek{0x70, &IdeDisk::seek};
    if ((command & 0xf0) == 0x10) return &kRecalibrate;
    if ((command & 0xf0) == 0x70) return &kSeek;
    for (const Row& row : kCommands)
        if (row.command == command) return &row;
    return nullptr;
}

void IdeDisk::start(uint8_t command) {
    const Row* row = find(command);
    log_(LogCategory::Disk, "ide: command {:02x} count {:02x}{:02x} lba {:02x}{:02x}{:02x} device {:02x}",
         command, previous.count, now.count, now.lbaHigh, now.lbaMid, now.lbaLow, deviceHead);
    plainBuffer_ = false;
    if (row && row->atOnce)
        (this->*row->handler)();
    else
        executeLater();
}

void IdeDisk::execute(uint8_t command) {
    const Row* row = find(command);
    if (row)
        (this->*row->handler)();
    else
        abortCommand();  // NOP (00) by definition; all that isn't modelled
}

// -- addresses

bool IdeDisk::extended() const {
    constexpr std::array<uint8_t, 11> kExtended = {0x24, 0x25, 0x27, 0x29, 0x34, 0x35,
                                                   0x39, 0x3d, 0x42, 0xce, 0xea};
    return std::find(kExtended.begin(), kExtended.end(), command_) != kExtended.end();
}

// The address in the task file; all ones when it names no sector of the current geometry.
uint64_t IdeDisk::addressRegisters() const {
    uint64_t low = now.lbaLow | now.lbaMid << 8 | now.lbaHigh << 16;
    if (extended())
        return low | uint64_t(previous.lbaLow | previous.lbaMid << 8 | previous.lbaHigh << 16) << 24;
    if (lbaMode()) return low | uint64_t(deviceHead & 15) << 24;
    unsigned cylinder = now.lbaMid | now.lbaHigh << 8, head = deviceHead & 15, sector = now.lbaLow;
    if (head >= heads_ || sector == 0 || sector > sectorsPerTrack_) return ~0ull;
    return (uint64_t(cylinder) * heads_ + head) * sectorsPerTrack_ + sector - 1;
}

void IdeDisk::encodeAddress(uint64_t lba) {
    if (!extended() && !lbaMode()) {
        uint64_t track = lba / sectorsPerTrack_, cylinder = track / heads_;
        now.lbaLow = uint8_t(lba % sectorsPerTrack_ + 1);
        now.lbaMid = uint8_t(cylinder), now.lbaHigh = uint8_t(cylinder >> 8);
        deviceHead = uint8_t((deviceHead & 0xf0) | track % heads_);
        return;
    }
    now.lbaLow = uint8_t(lba), now.lbaMid = uint8_t(lba >> 8), now.lbaHigh = uint8_t(lba >> 16);
    if (extended())
        previous.lbaLow = uint8_t(lba >> 24), previous.lbaMid = uint8_t(lba >> 32),
        previous.lbaHigh = uint8_t(lba >> 40);
    else
        deviceHead = uint8_t((deviceHead & 0xf0) | (lba >> 24 & 15));
}

void IdeDisk::encodeCount(uint32_t sectors) {
    now.count = uint8_t(sectors);
    if (extended()) previous.count = uint8_t(sectors >> 8);
}

bool IdeDisk::decodeAddress() {
    uint32_t count = now.count;
    if (extended()) count |= uint32_t(previous.count) << 8;
    left_ = count ? count : extended() ? 65536 : 256;
    lba_ = addressRegisters();
    if (lba_ < sectors_ && left_ <= sectors_ - lba_) return true;
    fail(kNotFound);
    return false;
}

// -- reading and writing

void IdeDisk::readFailed() {
    log_(LogCategory::Disk, "ide: reading sector {} failed: {}", lba_, image_->lastError());
    encodeAddress(lba_);
    fail(kUncorrectable);
}

void IdeDisk::writeFailed() {
    log_(LogCategory::Disk, "ide: writing sector {} failed: {}", lba_, image_->lastError());
    encodeAddress(lba_);
    fail(kAborted, kFault);
}

void IdeDisk::transferBlocks(uint32_t sectorsPerBlock, bool writing) {
    if (!decodeAddress()) return;
    block_ = sectorsPerBlock;
    writing_ = writing;
    if (writing)
        request(std::min(block_, left_) * kSector, false);
    else
        loadBlock();
}

void IdeDisk::readSectors() { transferBlocks(1, false); }
void IdeDisk::writeSectors() { transferBlocks(1, true); }

void IdeDisk::readMultiple() { multiple_ ? transferBlocks(multiple_, false) : abortCommand(); }
void IdeDisk::writeMultiple() { multiple_ ? transferBlocks(multiple_, true) : abortCommand(); }

void IdeDisk::loadBlock() {
    const uint32_t n = std::min(block_, left_),
                   all = lookAhead_ ? std::min<uint32_t>(left_, kBufferSize / kSector) : n;
    const bool ahead = image_->read(lba_ * kSector, buffer_.data(), all * kSector);
    if (!ahead && !image_->read(lba_ * kSector, buffer_.data(), n * kSector)) {
        readFailed();
        return;
    }
    ahead_ = ahead ? all - n : 0;
    encodeAddress(lba_ + n - 1);
    encodeCount(left_ - n);
    offer(n * kSector);
}

// At the end of a write: on the medium at once when the cache is off or the command is a FUA one.
bool IdeDisk::settle() {
    bool now = !writeCache_ || command_ == 0x3d || command_ == 0xce;
    return !now || image_->flush();
}

void IdeDisk::storeBlock() {
    uint32_t n = std::min(block_, left_);
    if (!image_->write(lba_ * kSector, buffer_.data(), n * kSector)) {
        writeFailed();
        return;
    }
    lba_ += n, left_ -= n;
    encodeAddress(lba_ - 1);
    encodeCount(left_);
    if (left_)
        request(std::min(block_, left_) * kSector, true);
    else if (!settle())
        writeFailed();
    else
        complete();
}

void IdeDisk::nextBlock() {
    if (plainBuffer_)
        complete();  // WRITE BUFFER
    else if (writing_)
        storeBlock();
    else
        loadBlock();
}

void IdeDisk::dataInDone() {
    if (!plainBuffer_) {
        uint32_t n = std::min(block_, left_);
        lba_ += n, left_ -= n;
        if (const uint32_t next = std::min(block_, left_); next && next <= ahead_) {
            ahead_ -= next;
            encodeAddress(lba_ + next - 1);
            encodeCount(left_ - next);
            offerMore(next * kSector);
            return;
        }
        if (left_) {
            blockLater();
            return;
        }
    }
    setIdle(kReady | kSeekDone);
}

void IdeDisk::dataOutDone() { blockLater(); }

void IdeDisk::readDma() {
    if (!decodeAddress()) return;
    writing_ = false;
    waitForDma();
}

void IdeDisk::writeDma() {
    if (!decodeAddress()) return;
    writing_ = true;
    waitForDma();
}

void IdeDisk::transferDma() {
    while (left_) {
        uint32_t n = std::min<uint32_t>(left_, kBufferSize / kSector);
        if (!writing_ && !image_->read(lba_ * kSector, buffer_.data(), n * kSector)) {
            readFailed();
            return;
        }
        // A table shorter than the command leaves the drive waiting for ever: only a reset helps.
        if (host_.dmaTransfer(buffer_.data(), n * kSector, !writing_) < n * kSector) return;
        if (writing_ && !image_->write(lba_ * kSector, buffer_.data(), n * kSector)) {
            writeFailed();
            return;
        }
        lba_ += n, left_ -= n;
    }
    if (writing_ && !settle()) {
        writeFailed();
        return;
    }
    encodeAddress(lba_ - 1);
    encodeCount(0);
    host_.dmaFinished();
    complete();
}

void IdeDisk::verifySectors() {
    if (!decodeAddress()) return;
    for (; left_; lba_++, left_--)
        if (!image_->read(lba_ * kSector, buffer_.data(), kSector)) {
            readFailed();
            return;
        }
    encodeAddress(lba_ - 1);
    encodeCount(0);
    complete();
}

// -- everything else

void IdeDisk::seek() {
    if (addressRegisters() >= sectors_)
        fail(kNotFound);
    else
        complete();
}

void IdeDisk::recalibrate() {
    now.lbaMid = now.lbaHigh = 0;
    complete();
}

void IdeDisk::initializeParameters() {
    if (now.count == 0) {
        abortCommand();
        return;
    }
    heads_ = uint8_t((deviceHead & 15) + 1);
    sectorsPerTrack_ = now.count;
    complete();
}

void IdeDisk::setMultiple() {
    uint8_t n = now.count;
    if (n > kMaxMultiple || (n & (n - 1))) {
        abortCommand();
        return;
    }
    multiple_ = n;
    complete();
}

void IdeDisk::setFeatures() {
    switch (now.features) {
        case 0x02: writeCache_ = true; break;
        case 0x82:
            writeCache_ = false;
            if (!image_->flush()) {
                writeFailed();
                return;
            }
            break;
        case 0x03: acceptTransferMode(now.count) ? complete() : abortCommand(); return;
        case 0x55: lookAhead_ = false; break;
        case 0xaa: lookAhead_ = true; break;
        case 0x66:  // keep, or revert to, power-on defaults at reset: both accepted
        case 0xcc: break;
        default: abortCommand(); return;
    }
    complete();
}

void IdeDisk::flushCache() {
    if (image_->flush())
        complete();
    else
        writeFailed();
}

void IdeDisk::readNativeMax() {
    uint64_t last = sectors_ - 1;
    if (!extended()) last = std::min(last, kMaxLba28);
    deviceHead |= 0x40;
    encodeAddress(last);
    complete();
}

void IdeDisk::checkPower() {
    now.count = 0xff;  // active or idle
    complete();
}

void IdeDisk::readBuffer() {
    plainBuffer_ = true;
    offer(kSector);
}

void IdeDisk::writeBuffer() {
    plainBuffer_ = true;
    request(kSector, false);
}

// -- reset

void IdeDisk::signature() {
    now = previous = {.features = 0, .count = 1, .lbaLow = 1, .lbaMid = 0, .lbaHigh = 0};
    setIdle(kReady | kSeekDone);
}

void IdeDisk::resetSettings(bool powerOn) {
    lba_ = left_ = 0;
    plainBuffer_ = writing_ = false;
    block_ = 1;
    if (!powerOn) return;  // a software reset keeps what SET FEATURES and the like have set
    multiple_ = 0;
    heads_ = 16, sectorsPerTrack_ = 63;
    writeCache_ = lookAhead_ = true;
}

void IdeDisk::state(StateVisitor& visit) {
    IdeDevice::state(visit);
    visit("lba", lba_);
    visit("left", left_);
    visit("block", block_);
    visit("ahead", ahead_);
    visit("writing", writing_);
    visit("plain_buffer", plainBuffer_);
    visit("multiple", multiple_);
    visit("heads", heads_);
    visit("sectors_per_track", sectorsPerTrack_);
    visit("write_cache", writeCache_);
    visit("look_ahead", lookAhead_);
}

}  // namespace kiln
