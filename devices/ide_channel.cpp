#include "devices/ide_channel.hpp"

#include <algorithm>

namespace kiln {

namespace {

// Registers of the command block.
enum : unsigned { kData, kFeatures, kCount, kLbaLow, kLbaMid, kLbaHigh, kDevice, kCommand };
// Device control register.
enum : uint8_t { kNoInterrupt = 0x02, kSoftReset = 0x04, kHighOrder = 0x80 };
// Bus master registers.
enum : unsigned { kEngineCommand = 0, kEngineStatus = 2, kEngineTable = 4 };
enum : uint8_t { kActive = 0x01, kError = 0x02, kInterrupt = 0x04, kStart = 0x01 };

constexpr uint8_t kExecuteDiagnostic = 0x90;

}  // namespace

void IdeChannel::attach(unsigned position, std::unique_ptr<IdeDevice> drive) {
    drives_[position] = std::move(drive);
}

void IdeChannel::interruptChanged() {
    IdeDevice* d = selected();
    bool level = d && d->interrupt() && !(control_ & kNoInterrupt);
    if (level && !irq.level()) engine_.status |= kInterrupt;
    irq.set(level);
}

// -- command block

uint8_t IdeChannel::readRegister(unsigned offset) {
    IdeDevice* d = selected();
    if (!drives_[0] && !drives_[1]) return 0;  // not even the device register: no one is there to keep it
    if (offset == kDevice) return uint8_t((d ? d->deviceHead : deviceHead_) | 0xa0);
    if (!d) return 0;
    const IdeDevice::TaskFile& file = control_ & kHighOrder ? d->previous : d->now;
    switch (offset) {
        case kFeatures: return d->error();
        case kCount: return file.count;
        case kLbaLow: return file.lbaLow;
        case kLbaMid: return file.lbaMid;
        case kLbaHigh: return file.lbaHigh;
    }
    uint8_t status = d->status();
    d->acknowledge();
    return status;
}

// Both drives hear every register; each keeps its own copy.
void IdeChannel::writeRegister(unsigned offset, uint8_t value) {
    static constexpr std::array<uint8_t IdeDevice::TaskFile::*, 6> kField = {nullptr,
                                                                             &IdeDevice::TaskFile::features,
                                                                             &IdeDevice::TaskFile::count,
                                                                             &IdeDevice::TaskFile::lbaLow,
                                                                             &IdeDevice::TaskFile::lbaMid,
                                                                             &IdeDevice::TaskFile::lbaHigh};
    control_ &= uint8_t(~kHighOrder);
    if (offset == kCommand) {
        writeCommand(value);
        return;
    }
    for (auto& d : drives_) {
        if (!d) continue;
        if (offset == kDevice) {
            d->deviceHead = value;
        } else {
            d->previous.*kField[offset] = d->now.*kField[offset];
            d->now.*kField[offset] = value;
        }
    }
    if (offset != kDevice) return;
    deviceHead_ = value;
    interruptChanged();  // the other drive's interrupt request is now on the wire
}

void IdeChannel::writeCommand(uint8_t value) {
    if (value != kExecuteDiagnostic) {
        if (IdeDevice* d = selected()) d->writeCommand(value);
        return;
    }
    deviceHead_ = 0;
    for (unsigned i = 0; i < 2; i++)
        if (drives_[i]) drives_[i]->diagnose(i == 0 || !drives_[0]);
    interruptChanged();
}

uint64_t IdeChannel::CommandBlock::ioRead(uint64_t offset, unsigned size) {
    if (offset == kData) {
        IdeDevice* d = channel.selected();
        return d ? d->readData(size) : openBus(size);
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= uint64_t(channel.readRegister(unsigned(offset + i) & 7)) << (i * 8);
    return value;
}

void IdeChannel::CommandBlock::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (offset == kData) {
        if (IdeDevice* d = channel.selected()) d->writeData(size, uint32_t(value));
        return;
    }
    for (unsigned i = 0; i < size; i++)
        channel.writeRegister(unsigned(offset + i) & 7, uint8_t(value >> (i * 8)));
}

// The data register in words, up to the end of a data phase.
uint64_t IdeChannel::CommandBlock::ioReadBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                                               void* to) {
    IdeDevice* d = offset == kData && !ascending && size > 1 ? channel.selected() : nullptr;
    const size_t bytes = d ? d->readData(static_cast<uint8_t*>(to), count * size) : 0;
    return bytes ? (bytes + size - 1) / size : IoHandler::ioReadBlock(offset, size, count, ascending, to);
}

uint64_t IdeChannel::CommandBlock::ioWriteBlock(uint64_t offset, unsigned size, uint64_t count,
                                                bool ascending, const void* from) {
    IdeDevice* d = offset == kData && !ascending && size > 1 ? channel.selected() : nullptr;
    const size_t bytes = d ? d->writeData(static_cast<const uint8_t*>(from), count * size) : 0;
    return bytes ? (bytes + size - 1) / size : IoHandler::ioWriteBlock(offset, size, count, ascending, from);
}

uint64_t IdeChannel::CommandBlock::plainAccesses(uint64_t offset, unsigned size, bool write) {
    const IdeDevice* d = offset == kData && size > 1 ? channel.selected() : nullptr;
    return d ? d->plainData(write) / size : 0;
}

// -- control block: alternate status, device control

uint64_t IdeChannel::ControlBlock::ioRead(uint64_t, unsigned) {
    IdeDevice* d = channel.selected();
    return d ? d->status() : 0;
}

void IdeChannel::ControlBlock::ioWrite(uint64_t, unsigned, uint64_t value) {
    channel.writeControl(uint8_t(value));
}

void IdeChannel::writeControl(uint8_t value) {
    uint8_t changed = control_ ^ value;
    control_ = value;
    if (changed & kSoftReset) {
        deviceHead_ = 0;
        for (auto& d : drives_)
            if (d) value& kSoftReset ? d->beginReset() : d->endReset();
    }
    interruptChanged();
}

// -- bus master engine

uint8_t IdeChannel::busMasterRead(unsigned offset) const {
    switch (offset) {
        case kEngineCommand: return engine_.command;
        case kEngineStatus: return engine_.status;
        case kEngineTable:
        case kEngineTable + 1:
        case kEngineTable + 2:
        case kEngineTable + 3: return uint8_t(engine_.table >> ((offset - kEngineTable) * 8));
    }
    return 0xff;
}

void IdeChannel::busMasterWrite(unsigned offset, uint8_t value) {
    if (offset == kEngineCommand) {
        writeEngineCommand(value & 0x09);
    } else if (offset == kEngineStatus) {
        // Bits 1 and 2 are cleared by writing ones, bits 5 and 6 are the driver's notes, bit 0 is ours.
        uint8_t kept = engine_.status & ~value & 0x06;
        engine_.status = uint8_t((engine_.status & kActive) | kept | (value & 0x60));
    } else if (offset >= kEngineTable) {
        unsigned shift = (offset - kEngineTable) * 8;
        engine_.table = (engine_.table & ~(0xffu << shift)) | uint32_t(value) << shift;
        engine_.table &= ~3u;
    }
}

void IdeChannel::writeEngineCommand(uint8_t value) {
    bool was = engine_.command & kStart, is = value & kStart;
    engine_.command = value;
    IdeDevice* d = selected();
    if (is && !was) {
        engine_.status |= kActive;
        engine_.next = engine_.table;
        engine_.left = 0;
        engine_.last = false;
        if (d) d->dmaStart();
    } else if (was && !is) {
        engine_.status &= uint8_t(~kActive);
        if (d) d->dmaStop();
    }
}

// A descriptor is address (32 bits), byte count (16 bits, 0 is 64 KiB), flags (16 bits, the top one: last).
bool IdeChannel::fetchDescriptor() {
    std::array<uint32_t, 2> words;
    if (!function_.dmaRead(engine_.next, words.data(), sizeof words)) return false;
    engine_.address = words[0] & ~1u;
    engine_.left = words[1] & 0xfffe ? words[1] & 0xfffe : 0x10000;
    engine_.last = words[1] >> 31;
    engine_.next += 8;
    return true;
}

size_t IdeChannel::dmaTransfer(uint8_t* data, size_t bytes, bool toMemory) {
    size_t moved = 0;
    bool refused = false;
    while (moved < bytes && function_.busMaster() && !refused) {
        if (engine_.left == 0) {
            if (engine_.last) break;
            refused = !fetchDescriptor();
            if (refused) break;
        }
        const uint32_t n = uint32_t(std::min<size_t>(engine_.left, bytes - moved));
        refused = toMemory ? !function_.dmaWrite(engine_.address, data + moved, n)
                           : !function_.dmaRead(engine_.address, data + moved, n);
        if (!refused) engine_.address += n, engine_.left -= n, moved += n;
    }
    if (refused) engine_.status |= kError;
    if (moved < bytes) engine_.status &= uint8_t(~kActive);
    return moved;
}

// The engine goes inactive by itself only when its table ends where the transfer does.
void IdeChannel::dmaFinished() {
    if (engine_.last && engine_.left == 0) engine_.status &= uint8_t(~kActive);
}

// -- reset and state

void IdeChannel::reset() {
    engine_ = {};
    control_ = 0;
    deviceHead_ = 0;
    for (auto& d : drives_)
        if (d) d->powerOn();
    interruptChanged();
}

void IdeChannel::state(StateVisitor& visit) {
    visit("device_head", deviceHead_);
    visit("control", control_);
    visit("bm_command", engine_.command);
    visit("bm_status", engine_.status);
    visit("bm_table", engine_.table);
    visit("bm_next", engine_.next);
    visit("bm_address", engine_.address);
    visit("bm_left", engine_.left);
    visit("bm_last", engine_.last);
    for (auto& d : drives_)
        if (d) d->state(visit);
    uint8_t status = engine_.status;
    interruptChanged();  // after a load
    engine_.status = status;
}

}  // namespace kiln
