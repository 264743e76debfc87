#include "devices/ide_controller.hpp"

#include <cassert>

#include "devices/atapi.hpp"
#include "devices/ide_disk.hpp"

namespace kiln {

namespace {

enum : unsigned { kTiming = 0x40, kSlaveTiming = 0x44 };  // IDETIM: two words; SIDETIM

}  // namespace

IdeController::IdeController(Clock& clock, Log& log, IrqInput& irq14, IrqInput& irq15)
    : PciFunction({.vendor = 0x8086, .device = 0x7010, .classCode = 0x010180}),
      clock_(clock),
      log_(log),
      channels_{IdeChannel(*this), IdeChannel(*this)} {
    channels_[0].irq.connect(irq14);
    channels_[1].irq.connect(irq15);
    config_[0x06] = 0x80, config_[0x07] = 0x02;
    for (unsigned channel = 0; channel < 2; channel++) {
        unsigned at = kTiming + channel * 2;
        set16(at, 0x8000);  // decoded: a machine without firmware has its disks, too
        writable_[at] = 0xff, writable_[at + 1] = 0xf3;
    }
    writable_[kSlaveTiming] = 0xff;
    addIoBar(4, 16, busMaster_);
}

IdeDisk& IdeController::attachDisk(unsigned position, std::unique_ptr<BlockImage> image) {
    assert(position < 4 && !occupied(position));
    IdeChannel& channel = channels_[position / 2];
    std::string serial = "KN" + std::to_string(10001 + position);
    auto disk = std::make_unique<IdeDisk>(clock_, channel, log_, std::move(image), serial);
    IdeDisk& result = *disk;
    channel.attach(position % 2, std::move(disk));
    return result;
}

AtapiCdrom& IdeController::attachCdrom(unsigned position, std::unique_ptr<BlockImage> medium) {
    assert(position < 4 && !occupied(position));
    IdeChannel& channel = channels_[position / 2];
    std::string serial = "KN" + std::to_string(10001 + position);
    auto drive = std::make_unique<AtapiCdrom>(clock_, channel, log_, std::move(medium), serial);
    AtapiCdrom& result = *drive;
    channel.attach(position % 2, std::move(drive));
    return result;
}

void IdeController::mapPorts(PortBus& ports) {
    ports.map(0x1f0, 8, channels_[0].commandBlock());
    ports.map(0x3f6, 1, channels_[0].controlBlock());
    ports.map(0x170, 8, channels_[1].commandBlock());
    ports.map(0x376, 1, channels_[1].controlBlock());
}

uint64_t IdeController::BusMaster::ioRead(uint64_t offset, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = unsigned(offset + i) & 15;
        value |= uint64_t(controller.channels_[at / 8].busMasterRead(at % 8)) << (i * 8);
    }
    return value;
}

void IdeController::BusMaster::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    for (unsigned i = 0; i < size; i++) {
        unsigned at = unsigned(offset + i) & 15;
        controller.channels_[at / 8].busMasterWrite(at % 8, uint8_t(value >> (i * 8)));
    }
}

void IdeController::reset() {
    PciFunction::reset();
    for (IdeChannel& c : channels_) c.reset();
}

void IdeController::state(StateVisitor& visit) {
    PciFunction::state(visit);
    for (IdeChannel& c : channels_) c.state(visit);
}

}  // namespace kiln
