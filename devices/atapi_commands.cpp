// The packet commands of the CD/DVD-ROM drive (MMC-4, clause 6; SPC-3 for the primary ones).
#include <algorithm>
#include <cstring>
#include <span>

#include "devices/atapi.hpp"

namespace kiln {

const AtapiCdrom::Row AtapiCdrom::kPackets[] = {
    {0x00, &AtapiCdrom::testUnitReady, kNeedsMedium},
    {0x03, &AtapiCdrom::requestSense, kIgnoresAttention},
    {0x12, &AtapiCdrom::inquiry, kIgnoresAttention},
    {0x1b, &AtapiCdrom::startStop, 0},
    {0x1e, &AtapiCdrom::preventRemoval, 0},
    {0x25, &AtapiCdrom::readCapacity, kNeedsMedium},
    {0x28, &AtapiCdrom::read10, kNeedsMedium},
    {0x2b, &AtapiCdrom::seek, kNeedsMedium},
    {0x42, &AtapiCdrom::readSubChannel, kNeedsMedium},
    {0x43, &AtapiCdrom::readToc, kNeedsMedium},
    {0x44, &AtapiCdrom::readHeader, kNeedsMedium},
    {0x46, &AtapiCdrom::getConfiguration, kIgnoresAttention},
    {0x4a, &AtapiCdrom::getEventStatus, kIgnoresAttention},
    {0x51, &AtapiCdrom::readDiscInformation, kNeedsMedium},
    {0x52, &AtapiCdrom::readTrackInformation, kNeedsMedium},
    {0x55, &AtapiCdrom::modeSelect, 0},
    {0x5a, &AtapiCdrom::modeSense, 0},
    {0xa8, &AtapiCdrom::read12, kNeedsMedium},
    {0xad, &AtapiCdrom::readDvdStructure, kNeedsMedium},
    {0xb9, &AtapiCdrom::readCdMsf, kNeedsMedium},
    {0xbb, &AtapiCdrom::setSpeed, 0},
    {0xbd, &AtapiCdrom::mechanismStatus, 0},
    {0xbe, &AtapiCdrom::readCd, kNeedsMedium},
    {0, nullptr, 0},
};

namespace {

uint8_t* put16(uint8_t* at, uint32_t value) {
    at[0] = uint8_t(value >> 8), at[1] = uint8_t(value);
    return at + 2;
}
uint8_t* put32(uint8_t* at, uint32_t value) { return put16(put16(at, value >> 16), value); }

constexpr uint32_t kLeadOut = 0xaa;
constexpr uint8_t kDataTrack = 0x14;  // ADR 1, control 4
constexpr uint16_t kSpeed = 5632;     // 32x in kB/s

}  // namespace

// -- primary commands

void AtapiCdrom::requestSense() {
    if (!sense_.key && attention_.key) sense_ = attention_, attention_ = {};
    reply_.fill(0);
    reply_[0] = 0x70;
    reply_[2] = sense_.key;
    reply_[7] = 10;
    reply_[12] = sense_.asc, reply_[13] = sense_.ascq;
    sense_ = {};
    reply(18, packet_[4]);
}

void AtapiCdrom::inquiry() {
    if (packet_[1] & 1) {  // vital product data
        invalidField();
        return;
    }
    reply_.fill(0);
    reply_[0] = 0x05;  // CD-ROM
    reply_[1] = 0x80;  // removable
    reply_[3] = 0x21;  // ATAPI
    reply_[4] = 31;
    std::memcpy(&reply_[8], "KILN    DVD-ROM         0.1 ", 28);
    reply(36, uint32_t(be16(3)));
}

void AtapiCdrom::startStop() {
    bool load = packet_[4] & 2, start = packet_[4] & 1;
    if (load && !start && !trayOpen_) {
        if (locked_) {
            check({5, 0x53, 2});  // medium removal prevented
            return;
        }
        trayOpen_ = true;
        event_ = kMediumRemoval;
    } else if (load && start && trayOpen_) {
        trayOpen_ = false;
        if (medium_) attention_ = {6, 0x28, 0}, event_ = kNewMedium;
    }
    finish();
}

void AtapiCdrom::preventRemoval() {
    locked_ = packet_[4] & 1;
    finish();
}

// -- reading

void AtapiCdrom::readCapacity() {
    put32(put32(reply_.data(), capacity() - 1), 2048);
    reply(8, 8);
}

void AtapiCdrom::read10() { readDisc(be32(2), be16(7), 0x10); }
void AtapiCdrom::read12() { readDisc(be32(2), be32(6), 0x10); }

void AtapiCdrom::readCd() {
    uint8_t type = packet_[1] >> 2 & 7;  // expected sector type: any, or mode 1
    if ((type != 0 && type != 2) || (packet_[10] & 7)) {
        type == 1 ? check({5, 0x64, 0}) : invalidField();  // illegal mode for this track
        return;
    }
    readDisc(be32(2), uint32_t(packet_[6] << 16 | be16(7)), packet_[9] & 0xb8);
}

void AtapiCdrom::readCdMsf() {
    auto lba = [&](unsigned at) {
        return int32_t((packet_[at] * 60 + packet_[at + 1]) * 75 + packet_[at + 2]) - 150;
    };
    int32_t first = lba(3), end = lba(6);
    if (first < 0 || end < first || (packet_[10] & 7)) {
        invalidField();
        return;
    }
    readDisc(uint32_t(first), uint32_t(end - first), packet_[9] & 0xb8);
}

void AtapiCdrom::seek() { be32(2) < capacity() ? finish() : check({5, 0x21, 0}); }

void AtapiCdrom::readHeader() {
    uint32_t lba = be32(2);
    if (lba >= capacity()) {
        check({5, 0x21, 0});
        return;
    }
    reply_.fill(0);
    reply_[0] = 1;  // mode 1
    putPosition(&reply_[4], lba);
    reply(8, be16(7));
}

// -- table of contents

// An address as the command asks for it: a block number, or 0, minutes, seconds, frames.
uint8_t* AtapiCdrom::putPosition(uint8_t* at, uint32_t lba) const {
    if (!(packet_[1] & 2)) return put32(at, lba);
    uint32_t frames = lba + 150;
    at[0] = 0, at[1] = uint8_t(frames / 75 / 60), at[2] = uint8_t(frames / 75 % 60),
    at[3] = uint8_t(frames % 75);
    return at + 4;
}

uint32_t AtapiCdrom::tocTracks() {
    uint8_t from = packet_[6];
    if (from > 1 && from != kLeadOut) return 0;
    uint8_t* at = &reply_[2];
    *at++ = 1, *at++ = 1;  // first and last track
    if (from <= 1) {
        *at++ = 0, *at++ = kDataTrack, *at++ = 1, *at++ = 0;
        at = putPosition(at, 0);
    }
    *at++ = 0, *at++ = kDataTrack, *at++ = kLeadOut, *at++ = 0;
    at = putPosition(at, capacity());
    return uint32_t(at - reply_.data());
}

uint32_t AtapiCdrom::tocSessions() {
    uint8_t* at = &reply_[2];
    *at++ = 1, *at++ = 1;  // first and last session
    *at++ = 0, *at++ = kDataTrack, *at++ = 1, *at++ = 0;
    return uint32_t(putPosition(at, 0) - reply_.data());
}

// Points A0, A1 (first and last track), A2 (lead-out) and track 1; addresses are always minutes, seconds,
// frames.
uint32_t AtapiCdrom::tocRaw() {
    uint8_t* at = &reply_[2];
    *at++ = 1, *at++ = 1;
    uint32_t out = capacity() + 150;
    const uint8_t rows[4][4] = {
        {0xa0, 1, 0, 0},
        {0xa1, 1, 0, 0},
        {0xa2, uint8_t(out / 75 / 60), uint8_t(out / 75 % 60), uint8_t(out % 75)},
        {0x01, 0, 2, 0},
    };
    for (const auto& row : rows) {
        const uint8_t entry[11] = {1, kDataTrack, 0, row[0], 0, 0, 0, 0, row[1], row[2], row[3]};
        at = std::copy_n(entry, 11, at);
    }
    return uint32_t(at - reply_.data());
}

void AtapiCdrom::readToc() {
    uint8_t format = packet_[2] & 15;
    if (format == 0) format = packet_[9] >> 6;  // where SFF-8020 has it
    reply_.fill(0);
    uint32_t length = format == 0 ? tocTracks() : format == 1 ? tocSessions() : format == 2 ? tocRaw() : 0;
    if (length == 0) {
        invalidField();
        return;
    }
    put16(reply_.data(), length - 2);
    reply(length, be16(7));
}

void AtapiCdrom::readSubChannel() {
    reply_.fill(0);
    reply_[1] = 0x15;  // no audio status
    if (!(packet_[2] & 0x40)) {
        reply(4, be16(7));
        return;
    }
    if (packet_[3] == 0 || packet_[3] > 3) {
        invalidField();
        return;
    }
    bool position = packet_[3] == 1;  // the others: catalogue number, ISRC: none
    put16(&reply_[2], position ? 12 : 20);
    reply_[4] = packet_[3];
    if (position) reply_[5] = kDataTrack, reply_[6] = 1, reply_[7] = 1;
    if (position) putPosition(putPosition(&reply_[8], 0), 0);
    reply(position ? 16 : 24, be16(7));
}

void AtapiCdrom::readDiscInformation() {
    reply_.fill(0);
    put16(reply_.data(), 32);
    reply_[2] = 0x0e;                                   // complete disc, complete last session
    reply_[3] = reply_[4] = reply_[5] = reply_[6] = 1;  // first track, sessions, tracks of the last session
    reply_[7] = 0x20;                                   // unrestricted use
    std::memset(&reply_[16], 0xff, 8);                  // lead-in and lead-out of a next session: none
    reply(34, be16(7));
}

void AtapiCdrom::readTrackInformation() {
    uint32_t what = be32(2), kind = packet_[1] & 3;
    bool known = kind == 0 ? what < capacity() : what == 1;
    if (!known || kind == 3) {
        invalidField();
        return;
    }
    reply_.fill(0);
    put16(reply_.data(), 34);
    reply_[2] = reply_[3] = 1;
    reply_[5] = 0x04, reply_[6] = 0x01;
    put32(&reply_[24], capacity());
    reply(36, be16(7));
}

// One layer of the size of the image; no copyright data, no manufacturer's.
void AtapiCdrom::readDvdStructure() {
    uint8_t format = packet_[7];
    if (!isDvd() || packet_[6] != 0 || (format != 0 && format != 1 && format != 4)) {
        isDvd() ? invalidField() : check({5, 0x30, 2});  // cannot read medium: incompatible format
        return;
    }
    reply_.fill(0);
    uint32_t length = format == 1 ? 8 : 4 + 2048;
    if (format == 0) {
        reply_[4] = 0x01, reply_[5] = 0x0f, reply_[6] = 0x01;
        put32(&reply_[8], 0x30000);
        put32(&reply_[12], 0x30000 + capacity() - 1);
    }
    put16(reply_.data(), length - 2);
    reply(std::min<uint32_t>(length, reply_.size()), be16(8));
}

// -- features, events, modes

void AtapiCdrom::getConfiguration() {
    struct Feature {
        uint16_t code;
        uint8_t flags, length;  // flags: version << 2 | persistent << 1 | current
        uint8_t data[8];
    };
    bool cd = hasMedium() && !isDvd(), dvd = hasMedium() && isDvd();
    const Feature features[] = {
        {0x0000, 0x03, 8, {0x00, 0x10, dvd, 0, 0x00, 0x08, cd, 0}},  // profiles: DVD-ROM, CD-ROM
        {0x0001, 0x0b, 8, {0, 0, 0, 2, 1, 0, 0, 0}},                 // core, on ATAPI
        {0x0002, 0x07, 4, {2, 0, 0, 0}},                             // morphing, by events
        {0x0003, 0x03, 4, {0x29, 0, 0, 0}},                          // removable medium: tray, eject, lock
        {0x0010, uint8_t(cd || dvd), 8, {0, 0, 8, 0, 0, 16, 0, 0}},  // random readable, 2048-byte blocks
        {0x001e, uint8_t(0x08 | cd), 4, {0, 0, 0, 0}},               // CD read
        {0x001f, dvd, 0, {}},                                        // DVD read
        {0x0100, 0x03, 0, {}},                                       // power management
        {0x0105, 0x03, 0, {}},                                       // timeout
    };
    uint8_t which = packet_[1] & 3;
    uint16_t from = be16(2);
    if (which == 3) {
        invalidField();
        return;
    }
    reply_.fill(0);
    put16(&reply_[6], dvd ? 0x10 : cd ? 0x08 : 0);
    uint8_t* at = &reply_[8];
    for (const Feature& f : features) {
        bool wanted = which == 2 ? f.code == from : f.code >= from && (which == 0 || (f.flags & 1));
        if (!wanted) continue;
        at = put16(at, f.code);
        *at++ = f.flags, *at++ = f.length;
        at = std::copy_n(f.data, f.length, at);
    }
    uint32_t length = uint32_t(at - reply_.data());
    put32(reply_.data(), length - 4);
    reply(length, be16(7));
}

void AtapiCdrom::getEventStatus() {
    if (!(packet_[1] & 1)) {  // only polling
        invalidField();
        return;
    }
    reply_.fill(0);
    reply_[3] = 0x10;            // events of class "media" exist
    if (!(packet_[4] & 0x10)) {  // ... and weren't asked for
        put16(reply_.data(), 2);
        reply_[2] = 0x80;
        reply(4, be16(7));
        return;
    }
    put16(reply_.data(), 6);
    reply_[2] = 4;
    reply_[4] = event_;
    reply_[5] = uint8_t((trayOpen_ ? 1 : 0) | (hasMedium() ? 2 : 0));
    if (be16(7) > 4) event_ = kNoEvent;
    reply(8, be16(7));
}

void AtapiCdrom::mechanismStatus() {
    reply_.fill(0);
    reply_[1] = trayOpen_ ? 0x10 : 0;
    reply(8, be16(8));
}

// One mode page, or only which of its bits can be changed (none): its length.
uint32_t AtapiCdrom::modePage(uint8_t page, bool changeable, uint8_t* out) const {
    static constexpr uint8_t kErrorRecovery[] = {0x01, 0x06, 0, 5, 0, 0, 0, 0};
    static constexpr uint8_t kAudioControl[] = {0x0e, 0x0e, 4, 0, 0, 0, 0, 75, 1, 255, 2, 255, 0, 0, 0, 0};
    const uint8_t capabilities[] = {0x2a,
                                    0x12,
                                    0x3b,
                                    0,
                                    0x70,
                                    0,
                                    uint8_t(0x29 | (locked_ ? 2 : 0)),
                                    0,
                                    kSpeed >> 8,
                                    kSpeed & 0xff,
                                    0,
                                    2,
                                    2,
                                    0,
                                    kSpeed >> 8,
                                    kSpeed & 0xff,
                                    0,
                                    0,
                                    0,
                                    0};
    std::span<const uint8_t> bytes;
    if (page == 0x01) bytes = kErrorRecovery;
    if (page == 0x0e) bytes = kAudioControl;
    if (page == 0x2a) bytes = capabilities;
    std::copy(bytes.begin(), bytes.end(), out);
    if (changeable && !bytes.empty()) std::fill(out + 2, out + bytes.size(), uint8_t(0));
    return uint32_t(bytes.size());
}

void AtapiCdrom::modeSense() {
    uint8_t control = packet_[2] >> 6, page = packet_[2] & 0x3f;
    if (control == 3) {
        check({5, 0x39, 0});  // saving parameters is not supported
        return;
    }
    reply_.fill(0);
    uint8_t* at = &reply_[8];
    for (uint8_t p : {0x01, 0x0e, 0x2a})
        if (page == 0x3f || page == p) at += modePage(p, control == 1, at);
    uint32_t length = uint32_t(at - reply_.data());
    if (length == 8) {
        invalidField();
        return;
    }
    put16(reply_.data(), length - 2);
    reply_[2] = hasMedium() ? 0x01 : trayOpen_ ? 0x71 : 0x70;
    reply(length, be16(7));
}

// Taken and dropped: no page has changeable bits.
void AtapiCdrom::modeSelect() {
    uint32_t length = be16(7);
    if (length == 0)
        finish();
    else
        receiveParameters(length);
}

}  // namespace kiln
