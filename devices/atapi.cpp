#include "devices/atapi.hpp"

#include <algorithm>
#include <cstring>

#include "devices/ide_disk.hpp"

namespace kiln {

using namespace ata;

namespace {

// Interrupt reason, in the count register: C/D is set for commands, I/O towards the host.
enum : uint8_t { kReasonCommand = 1, kReasonDataIn = 2, kReasonDataOut = 0, kReasonStatus = 3 };
// Parts of a raw sector (READ CD, byte 9).
enum : uint8_t { kSync = 0x80, kHeader = 0x20, kUserData = 0x10, kErrorCodes = 0x08 };

constexpr uint32_t kPacketSize = 12;
constexpr uint32_t kRawSector = 2352;

uint8_t bcd(uint32_t n) { return uint8_t(n / 10 % 10 << 4 | n % 10); }

}  // namespace

AtapiCdrom::AtapiCdrom(Clock& clock, IdeHost& host, Log& log, std::unique_ptr<BlockImage> medium,
                       std::string serial)
    : IdeDevice(clock, host), log_(log), medium_(std::move(medium)), serial_(std::move(serial)) {
    powerOn();
}

// -- the person at the machine

void AtapiCdrom::insert(std::unique_ptr<BlockImage> medium) {
    medium_ = std::move(medium);
    trayOpen_ = false;
    attention_ = {6, 0x28, 0};  // medium may have changed
    event_ = kNewMedium;
}

bool AtapiCdrom::eject(bool force) {
    if (locked_ && !force) {
        event_ = kEjectRequest;
        return false;
    }
    medium_.reset();
    trayOpen_ = true;
    locked_ = false;
    attention_ = {6, 0x28, 0};
    event_ = kMediumRemoval;
    return true;
}

// -- as an ATA device

void AtapiCdrom::start(uint8_t command) {
    stage_ = Stage::None;
    if (command == 0xa0) {
        startPacket();
    } else if (command == 0x08) {  // DEVICE RESET
        resetSettings(false);
        error_ = 0x01;
        signature();
    } else {
        executeLater();
    }
}

void AtapiCdrom::execute(uint8_t command) {
    switch (command) {
        case 0xa1: identifyPacket(); return;
        case 0xef: setFeatures(); return;
        case 0xe5: now.count = 0xff; [[fallthrough]];  // CHECK POWER MODE: active
        case 0xe0:                                     // the power commands
        case 0xe1:
        case 0xe2:
        case 0xe3:
        case 0xe6: complete(); return;
        case 0x20:  // READ SECTORS and IDENTIFY DEVICE: "I am a PACKET device"
        case 0xec: signature(); break;
    }
    fail(kAborted);
}

void AtapiCdrom::signature() {
    now = previous = {.features = 0, .count = 1, .lbaLow = 1, .lbaMid = 0x14, .lbaHigh = 0xeb};
    setIdle(0);
}

void AtapiCdrom::resetSettings(bool powerOn) {
    stage_ = Stage::None;
    left_ = position_ = burst_ = 0;
    sense_ = {};
    locked_ = false;
    if (!powerOn) return;
    attention_ = {};
    event_ = kNoEvent;
    trayOpen_ = false;
}

void AtapiCdrom::setFeatures() {
    bool known = now.features == 0x66 || now.features == 0xcc;
    if (now.features == 0x03) known = acceptTransferMode(now.count);
    known ? complete() : fail(kAborted);
}

void AtapiCdrom::identifyPacket() {
    std::array<uint16_t, 256> w{};
    w[0] = 0x85c0;  // CD-ROM, removable, DRQ within 50 us, 12-byte packets
    putIdentifyString(&w[10], 10, serial_);
    putIdentifyString(&w[23], 4, "0.1");
    putIdentifyString(&w[27], 20, "KILN DVD-ROM");
    w[48] = 1;
    w[49] = 0x0b00;  // IORDY, LBA, DMA
    w[53] = 0x0006;
    w[63] = uint16_t(0x0007 | selectedMode(4));
    w[64] = 0x0003;
    for (unsigned i = 65; i <= 68; i++) w[i] = 120;
    w[71] = w[72] = 30;
    w[80] = 0x0070, w[81] = 0x0019;
    w[82] = w[85] = 0x4218;  // NOP, DEVICE RESET, PACKET, power management
    w[83] = w[84] = w[87] = 0x4000;
    w[88] = uint16_t(0x003f | selectedMode(8));
    w[93] = 0x604b;
    std::memcpy(buffer_.data(), w.data(), sizeof w);
    stage_ = Stage::None;
    offer(sizeof w);
}

// -- the PACKET protocol

void AtapiCdrom::startPacket() {
    dma_ = now.features & 1;
    limit_ = uint32_t(now.lbaMid | now.lbaHigh << 8);
    if (limit_ == 0xffff || limit_ == 0) limit_ = 0xfffe;
    now.count = kReasonCommand;
    stage_ = Stage::Packet;
    request(kPacketSize, false);
}

void AtapiCdrom::dataOutDone() {
    if (stage_ == Stage::Packet) {
        std::copy_n(buffer_.begin(), kPacketSize, packet_.begin());
        stage_ = Stage::Execute;
    } else {
        left_ -= burst_;
        stage_ = left_ ? Stage::ParameterList : Stage::Finish;
    }
    blockLater();
}

void AtapiCdrom::nextBlock() {
    switch (stage_) {
        case Stage::Execute: executePacket(); break;
        case Stage::DataIn: sendBurst(); break;
        case Stage::ParameterList: requestBurst(); break;
        default: finish();
    }
}

void AtapiCdrom::executePacket() {
    log_(LogCategory::Disk, "atapi: packet {:02x} {:02x} {:02x}{:02x}{:02x}{:02x} {:02x}{:02x}{:02x}",
         packet_[0], packet_[1], packet_[2], packet_[3], packet_[4], packet_[5], packet_[6], packet_[7],
         packet_[8]);
    const Row* row = kPackets;
    while (row->handler && row->opcode != packet_[0]) row++;
    if (!row->handler) {
        check({5, 0x20, 0});  // invalid command operation code
        return;
    }
    if (attention_.key && !(row->flags & kIgnoresAttention)) {
        Sense s = attention_;
        attention_ = {};
        check(s);
        return;
    }
    if (packet_[0] != 0x03) sense_ = {};
    if ((row->flags & kNeedsMedium) && !hasMedium())
        checkMedium();
    else
        (this->*row->handler)();
}

void AtapiCdrom::finish() {
    stage_ = Stage::None;
    now.count = kReasonStatus;
    complete();
}

void AtapiCdrom::check(Sense sense) {
    stage_ = Stage::None;
    sense_ = sense;
    now.count = kReasonStatus;
    fail(uint8_t(sense.key << 4 | kAborted));
}

void AtapiCdrom::checkMedium() { check({2, 0x3a, uint8_t(trayOpen_ ? 2 : 1)}); }

void AtapiCdrom::reply(uint32_t length, uint32_t allocated) {
    source_ = Source::Reply;
    position_ = 0;
    left_ = std::min(length, allocated);
    stage_ = Stage::DataIn;
    if (left_ == 0)
        finish();
    else if (dma_)
        waitForDma();
    else
        sendBurst();
}

// `parts` as in READ CD; only user data for the plain reads.
void AtapiCdrom::readDisc(uint32_t lba, uint32_t count, uint8_t parts) {
    if (lba > capacity() || count > capacity() - lba) {
        check({5, 0x21, 0});  // logical block address out of range
        return;
    }
    sectorBytes_ = (parts & kSync ? 12 : 0) + (parts & kHeader ? 4 : 0) + (parts & kUserData ? 2048 : 0) +
                   (parts & kErrorCodes ? 288 : 0);
    uint64_t bytes = uint64_t(count) * sectorBytes_;
    if (bytes > 0xffffffff) {
        check({5, 0x24, 0});
        return;
    }
    source_ = Source::Disc;
    lba_ = lba;
    parts_ = parts;
    position_ = 0;
    left_ = uint32_t(bytes);
    stage_ = Stage::DataIn;
    if (left_ == 0)
        finish();
    else if (dma_)
        waitForDma();
    else
        sendBurst();
}

// Sync, header with the address in minutes, seconds and frames, and mode 1; user data and error codes are
// filled in by the caller, or zero.
void AtapiCdrom::rawSector(uint32_t lba, uint8_t* out) const {
    std::memset(out, 0, kRawSector);
    std::memset(out + 1, 0xff, 10);
    uint32_t frames = lba + 150;
    out[12] = bcd(frames / 75 / 60), out[13] = bcd(frames / 75 % 60), out[14] = bcd(frames % 75);
    out[15] = 1;
}

// The last sector of an image may be incomplete: zeros follow.
bool AtapiCdrom::readMedium(uint64_t offset, uint8_t* to, uint64_t bytes) {
    uint64_t end = medium_->sectors() * 512, n = std::min(bytes, end > offset ? end - offset : 0);
    std::memset(to + n, 0, bytes - n);
    return n == 0 || medium_->read(offset, to, n);
}

// The next `bytes` of the command's data. False when the medium can't be read.
bool AtapiCdrom::fill(uint8_t* to, uint32_t bytes) {
    if (source_ == Source::Reply) {
        std::memcpy(to, &reply_[position_], bytes);
        return true;
    }
    if (parts_ == kUserData) return readMedium(uint64_t(lba_) * 2048 + position_, to, bytes);
    for (uint32_t done = 0; done < bytes;) {
        uint32_t lba = lba_ + (position_ + done) / sectorBytes_, inside = (position_ + done) % sectorBytes_;
        std::array<uint8_t, kRawSector> raw, wanted;
        rawSector(lba, raw.data());
        if (!readMedium(uint64_t(lba) * 2048, &raw[16], 2048)) return false;
        uint8_t* end = wanted.data();
        if (parts_ & kSync) end = std::copy_n(&raw[0], 12, end);
        if (parts_ & kHeader) end = std::copy_n(&raw[12], 4, end);
        if (parts_ & kUserData) end = std::copy_n(&raw[16], 2048, end);
        if (parts_ & kErrorCodes) std::copy_n(&raw[2064], 288, end);
        uint32_t n = std::min(bytes - done, sectorBytes_ - inside);
        std::memcpy(to + done, &wanted[inside], n);
        done += n;
    }
    return true;
}

void AtapiCdrom::sendBurst() {
    burst_ = std::min(left_, limit_);
    if (burst_ < left_) burst_ &= ~1u;
    if (burst_ == 0) burst_ = std::min(left_, 2u);  // a limit of 1 can't carry a word
    if (!hasMedium() && source_ == Source::Disc) {
        checkMedium();
        return;
    }
    if (!fill(buffer_.data(), burst_)) {
        check({3, 0x11, 0});  // unrecovered read error
        return;
    }
    now.count = kReasonDataIn;
    now.lbaMid = uint8_t(burst_), now.lbaHigh = uint8_t(burst_ >> 8);
    offer(burst_);
}

void AtapiCdrom::dataInDone() {
    if (stage_ != Stage::DataIn) {  // IDENTIFY PACKET DEVICE
        setIdle(kReady | kSeekDone);
        return;
    }
    position_ += burst_, left_ -= burst_;
    if (left_ == 0) stage_ = Stage::Finish;
    blockLater();
}

// Data that the guest sends with a command; it stays in buffer_, and what comes last overwrites what came
// first.
void AtapiCdrom::receiveParameters(uint32_t length) {
    left_ = length;
    stage_ = Stage::ParameterList;
    if (dma_)
        waitForDma();
    else
        requestBurst();
}

void AtapiCdrom::requestBurst() {
    burst_ = std::min(left_, limit_);
    now.count = kReasonDataOut;
    now.lbaMid = uint8_t(burst_), now.lbaHigh = uint8_t(burst_ >> 8);
    request(burst_, true);
}

void AtapiCdrom::transferDma() {
    if (stage_ == Stage::ParameterList) {
        if (host_.dmaTransfer(buffer_.data(), left_, false) < left_) return;
        host_.dmaFinished();
        finish();
        return;
    }
    if (!hasMedium() && source_ == Source::Disc) {
        checkMedium();
        return;
    }
    while (left_) {
        uint32_t n = std::min<uint32_t>(left_, kBufferSize);
        if (!fill(buffer_.data(), n)) {
            check({3, 0x11, 0});
            return;
        }
        if (host_.dmaTransfer(buffer_.data(), n, true) < n) return;  // too short a table: only a reset helps
        position_ += n, left_ -= n;
    }
    host_.dmaFinished();
    finish();
}

void AtapiCdrom::state(StateVisitor& visit) {
    IdeDevice::state(visit);
    visit("packet", packet_);
    visit("reply", reply_);
    visit("stage", stage_);
    visit("source", source_);
    visit("dma", dma_);
    visit("limit", limit_);
    visit("data_position", position_);
    visit("data_left", left_);
    visit("burst", burst_);
    visit("lba", lba_);
    visit("parts", parts_);
    visit("sector_bytes", sectorBytes_);
    for (Sense* s : {&sense_, &attention_}) {
        visit("sense_key", s->key);
        visit("asc", s->asc);
        visit("ascq", s->ascq);
    }
    visit("event", event_);
    visit("locked", locked_);
    visit("tray_open", trayOpen_);
}

}  // namespace kiln
