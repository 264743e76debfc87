// The data commands of the 82077AA (data sheet, 6.1): each timer step moves one sector between the image and
// the host, by ISA DMA channel 2 or byte by byte through the FIFO.
#include <algorithm>

#include "devices/floppy.hpp"

namespace kiln {

namespace {

constexpr Nanos kSectorTime = 150'000;
constexpr Nanos kDmaRetry = 100'000;
constexpr unsigned kMaxDmaTries = 50;

enum : uint8_t { kAbnormal = 0x40 };  // ST0
enum : uint8_t {                      // ST1
    kMissingAddressMark = 0x01,
    kNotWritable = 0x02,
    kNoData = 0x04,
    kOverrun = 0x10,
    kDataError = 0x20,
    kEndOfCylinder = 0x80
};
enum : uint8_t {
    kScanNotSatisfied = 0x04,
    kScanEqualHit = 0x08,
    kWrongCylinder = 0x10,
    kControlMark = 0x40
};                                                                 // ST2
enum : uint8_t { kMultiTrack = 0x80, kMfm = 0x40, kSkip = 0x20 };  // command byte
constexpr uint8_t kDmaGate = 0x08;                                 // digital output

}  // namespace

bool Floppy::mediumReadable() {
    const Drive* d = unit();
    return d && d->image && (d->format->rates >> rate_ & 1) && (command_[0] & kMfm);
}

void Floppy::startTransfer(Action action) {
    action_ = action;
    phase_ = Phase::Execution;
    bool format = action == Action::Format;
    Drive* d = unit();
    cylinder_ = format ? (d ? d->track : 0) : command_[2];
    head_ = format ? command_[1] >> 2 & 1 : command_[3];
    sector_ = format || action == Action::ReadTrack ? 1 : command_[4];
    sizeCode_ = command_[format ? 2 : 5];
    endOfTrack_ = command_[format ? 3 : 6];
    bool counted = action == Action::Verify && (command_[1] & 0x80);
    sectorsLeft_ = counted ? command_[8] : format || action == Action::ReadTrack ? endOfTrack_ : 0;
    if (d && !format && d->format && cylinder_ < d->format->tracks) d->track = cylinder_;
    st2_ = 0;
    bufferAt_ = bufferEnd_ = 0;
    bufferMoved_ = terminalCount_ = false;
    dmaTries_ = 0;
    if (!nonDma() && action != Action::Verify) dma_.setRequest(kDmaChannel, true);
    later(Pending::Sector, kSectorTime);
}

void Floppy::finish(uint8_t st0, uint8_t st1, uint8_t st2) {
    dma_.setRequest(kDmaChannel, false);
    bufferAt_ = bufferEnd_ = 0;
    st0 = uint8_t(st0 | (command_[1] & 3) | (head_ & 1) << 2);
    result({st0, st1, st2, cylinder_, head_, sector_, sizeCode_});
    setInterrupt(true);
    if (st1) log_(LogCategory::Disk, "floppy: ended with {:02x} {:02x} {:02x}", st0, st1, st2);
}

// -- the data phase of one sector

// Moves `bytes` of buffer_. False: not finished; the DMA retry, or the host's last byte, calls step() again.
// What a terminal count cut off is zeros.
bool Floppy::dataPhase(uint32_t bytes, bool toHost) {
    if (nonDma()) {
        if (bufferMoved_) {
            bufferMoved_ = false;
            bufferAt_ = bufferEnd_ = 0;
            return true;
        }
        bufferAt_ = 0, bufferEnd_ = uint16_t(bytes);
        setInterrupt(true);
        return false;
    }
    if (!(dor_ & kDmaGate) || !dma_.ready(kDmaChannel)) {
        if (++dmaTries_ < kMaxDmaTries)
            later(Pending::Sector, kDmaRetry);
        else
            finish(kAbnormal, kOverrun, st2_);
        return false;
    }
    dmaTries_ = 0;
    I8237Pair::Result r = toHost ? dma_.toMemory(kDmaChannel, buffer_.data(), bytes)
                                 : dma_.fromMemory(kDmaChannel, buffer_.data(), bytes);
    if (!toHost) std::fill(buffer_.begin() + r.moved, buffer_.end(), uint8_t(0));
    terminalCount_ = r.terminalCount;
    return true;
}

// The place of the current sector in the image. False after having ended the command.
bool Floppy::locate(uint64_t& offset) {
    if (!mediumReadable()) {
        finish(kAbnormal, kMissingAddressMark | kNoData, st2_);
        return false;
    }
    const FloppyFormat& f = *unit()->format;
    bool onTrack = cylinder_ < f.tracks && head_ < f.heads;
    if (!onTrack || sector_ == 0 || sector_ > f.sectorsPerTrack || sizeCode_ != 2) {
        finish(kAbnormal, kNoData, uint8_t(st2_ | (onTrack ? 0 : kWrongCylinder)));
        return false;
    }
    offset = ((uint64_t(cylinder_) * f.heads + head_) * f.sectorsPerTrack + sector_ - 1) * 512;
    return true;
}

// A sector behind the end of a short image is blank.
bool Floppy::readSector(uint64_t offset, std::array<uint8_t, 512>& out) {
    BlockImage& image = *unit()->image;
    if (offset / 512 >= image.sectors()) {
        out.fill(0);
        return true;
    }
    if (image.read(offset, out.data(), 512)) return true;
    log_(LogCategory::Disk, "floppy: {}", image.lastError());
    finish(kAbnormal, kDataError, kDataError);
    return false;
}

bool Floppy::writeSector(uint64_t offset) {
    BlockImage& image = *unit()->image;
    if (image.write(offset, buffer_.data(), 512)) return true;
    log_(LogCategory::Disk, "floppy: {}", image.lastError());
    finish(kAbnormal, kDataError, kDataError);
    return false;
}

void Floppy::step() {
    if (action_ == Action::Format) {
        stepFormat();
        return;
    }
    uint64_t offset = 0;
    if (!locate(offset)) return;
    switch (action_) {
        case Action::Write: stepWrite(offset); break;
        case Action::Verify: stepVerify(offset); break;
        case Action::ScanEqual:
        case Action::ScanLow:
        case Action::ScanHigh: stepScan(offset); break;
        default: stepRead(offset);
    }
}

void Floppy::stepRead(uint64_t offset) {
    // READ DELETED DATA: no sector here is a deleted one. It skips them all, or stops behind the first.
    bool deleted = (command_[0] & 0x1f) == 0x0c;
    if (deleted && (command_[0] & kSkip)) {
        sectorDone();
        return;
    }
    if (!bufferMoved_ && !readSector(offset, buffer_)) return;
    if (!dataPhase(512, true)) return;
    if (deleted) st2_ |= kControlMark, terminalCount_ = true;
    sectorDone();
}

void Floppy::stepWrite(uint64_t offset) {
    if (!unit()->image->writable()) {
        finish(kAbnormal, kNotWritable, st2_);
        return;
    }
    if (dataPhase(512, false) && writeSector(offset)) sectorDone();
}

void Floppy::stepVerify(uint64_t offset) {
    if (readSector(offset, buffer_)) sectorDone();
}

// Compares the host's bytes with the sector's; 0xFF from either side fits anything.
void Floppy::stepScan(uint64_t offset) {
    std::array<uint8_t, 512> disk;
    if (!dataPhase(512, false) || !readSector(offset, disk)) return;
    int order = 0;  // of the disk against the host
    for (unsigned i = 0; i < 512 && order == 0; i++)
        if (disk[i] != 0xff && buffer_[i] != 0xff) order = int(disk[i]) - int(buffer_[i]);
    bool hit =
        order == 0 || (action_ == Action::ScanLow && order < 0) || (action_ == Action::ScanHigh && order > 0);
    if (hit) {
        finish(0, 0, order == 0 ? kScanEqualHit : 0);
        return;
    }
    st2_ |= kScanNotSatisfied;
    if (command_[8] == 2 && sector_ < endOfTrack_) sector_++;  // every other sector
    sectorDone();
}

void Floppy::stepFormat() {
    Drive* d = unit();
    if (!d || !d->image || !(command_[0] & kMfm)) {
        finish(kAbnormal, kMissingAddressMark, 0);
        return;
    }
    if (!d->image->writable()) {
        finish(kAbnormal, kNotWritable, 0);
        return;
    }
    if (sectorsLeft_ == 0) {
        finish(0, 0, 0);
        return;
    }
    if (!dataPhase(4, false)) return;
    cylinder_ = buffer_[0], sector_ = buffer_[2], sizeCode_ = buffer_[3];
    uint64_t offset = 0;
    if (!locate(offset)) return;
    buffer_.fill(command_[5]);
    if (!writeSector(offset)) return;
    sectorsLeft_--;
    later(Pending::Sector, kSectorTime / 4);
}

// -- from sector to sector

// To the next sector ID, as the result phase reports it. False at the end of the cylinder.
//
// An EOT behind the track's last sector would end in "no data" on a real drive. But SeaBIOS makes EOT of the
// count of int 13h, so what boot loaders read across tracks there (PC BIOSes take EOT from the diskette
// parameter table) depends on a drive that goes on: as in QEMU and Bochs, MT then runs over heads and
// cylinders.
bool Floppy::advance() {
    bool openEnd = (command_[0] & kMultiTrack) && endOfTrack_ > unit()->format->sectorsPerTrack;
    unsigned last = openEnd ? unit()->format->sectorsPerTrack : endOfTrack_;
    if (sector_ < last) {
        sector_++;
        return true;
    }
    sector_ = 1;
    if (command_[0] & kMultiTrack) {
        head_ ^= 1;
        if (head_ & 1) return true;
    }
    cylinder_++;
    if (!openEnd || cylinder_ >= unit()->format->tracks) return false;
    unit()->track = cylinder_;
    return true;
}

void Floppy::sectorDone() {
    bool counted = sectorsLeft_ > 0;
    bool last = counted && --sectorsLeft_ == 0;
    bool more = advance();
    if (terminalCount_ || last) {
        finish(0, 0, st2_);
    } else if (!more) {
        bool fine = action_ == Action::Verify;  // it has no terminal count
        finish(fine ? 0 : kAbnormal, fine ? 0 : kEndOfCylinder, st2_);
    } else {
        later(Pending::Sector, kSectorTime);
    }
}

}  // namespace kiln
