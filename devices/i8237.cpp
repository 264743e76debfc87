#include "devices/i8237.hpp"

#include <algorithm>
#include <cstring>

namespace kiln {

namespace {

// Registers behind the eight address and count ones.
enum : unsigned {
    kCommandStatus = 8,
    kRequest,
    kMaskOne,
    kMode,
    kClearFlipFlop,
    kMasterClear,
    kClearMask,
    kMaskAll
};
enum : uint8_t { kControllerDisable = 0x04 };  // command
// Mode: bits 3:2 kind, 4 auto-initialise, 5 decrement, 7:6 demand, single, block, cascade.
enum : uint8_t {
    kKindMask = 0x0c,
    kToMemory = 0x04,
    kFromMemory = 0x08,
    kAutoInit = 0x10,
    kDecrement = 0x20
};
constexpr uint8_t kCascade = 0xc0;

// The channel of a page register port 0x80 + i; -1: none.
constexpr std::array<int8_t, 16> kPageChannel = {-1, 2, 3, 1, -1, -1, -1, 0, -1, 6, 7, 5, -1, -1, -1, 4};

}  // namespace

I8237Pair::I8237Pair(PhysicalMemory& memory, Log& log) : memory_(memory), log_(log) { second_.shift = 1; }

void I8237Pair::mapPorts(PortBus& ports) {
    ports.map(0x00, 16, first_);
    ports.map(0xc0, 32, second_);
    ports.map(0x81, 15, pages_, 1);
}

// -- registers

uint8_t I8237Pair::Controller::readByte(uint64_t offset) {
    unsigned reg = unsigned(offset >> shift) & 15;
    if (reg < 8) {
        const Channel& c = channels[reg / 2];
        uint16_t value = reg % 2 ? c.count : c.address;
        highByte = !highByte;
        return uint8_t(highByte ? value : value >> 8);
    }
    if (reg == kCommandStatus) {
        uint8_t status = uint8_t((requests | softRequests) << 4 | terminalCounts);
        terminalCounts = 0;
        return status;
    }
    if (reg == kMasterClear) return temporary;
    if (reg == kMaskAll) return uint8_t(masked | 0xf0);
    return 0xff;
}

void I8237Pair::Controller::writeByte(uint64_t offset, uint8_t value) {
    unsigned reg = unsigned(offset >> shift) & 15;
    uint8_t bit = uint8_t(1 << (value & 3));
    if (reg < 8) {
        Channel& c = channels[reg / 2];
        uint16_t& base = reg % 2 ? c.baseCount : c.baseAddress;
        base = uint16_t(highByte ? (base & 0xff) | value << 8 : (base & 0xff00) | value);
        (reg % 2 ? c.count : c.address) = base;
        highByte = !highByte;
        return;
    }
    switch (reg) {
        case kCommandStatus: command = value; break;
        case kRequest: softRequests = uint8_t(value & 4 ? softRequests | bit : softRequests & ~bit); break;
        case kMaskOne: masked = uint8_t(value & 4 ? masked | bit : masked & ~bit); break;
        case kMode: channels[value & 3].mode = value; break;
        case kClearFlipFlop: highByte = false; break;
        case kMasterClear: masterClear(); break;
        case kClearMask: masked = 0; break;
        case kMaskAll: masked = value & 15; break;
    }
}

void I8237Pair::Controller::masterClear() {
    command = temporary = 0;
    softRequests = terminalCounts = 0;
    highByte = false;
    masked = 15;
}

uint8_t I8237Pair::Pages::readByte(uint64_t offset) {
    int channel = kPageChannel[offset & 15];
    return channel < 0 ? scratch[offset & 15]
                       : pair.controllerOf(unsigned(channel)).channels[unsigned(channel) & 3].page;
}

DirectRegister I8237Pair::Pages::direct(uint64_t offset, unsigned size, bool) {
    const int channel = kPageChannel[offset & 15];
    if (size != 1) return {};
    return DirectRegister::at(
        channel < 0 ? scratch[offset & 15]
                    : pair.controllerOf(unsigned(channel)).channels[unsigned(channel) & 3].page);
}

void I8237Pair::Pages::writeByte(uint64_t offset, uint8_t value) {
    int channel = kPageChannel[offset & 15];
    if (channel < 0)
        scratch[offset & 15] = value;
    else
        pair.controllerOf(unsigned(channel)).channels[unsigned(channel) & 3].page = value;
}

// -- transfers

bool I8237Pair::ready(unsigned channel) const {
    if (channel > 7 || channel == 4) return false;
    const Controller& c = controllerOf(channel);
    bool own = !(c.masked >> (channel & 3) & 1) && !(c.command & kControllerDisable);
    // The first controller reaches the bus through channel 4, which must be open and in cascade mode.
    bool cascade = !(second_.masked & 1) && (second_.channels[0].mode & kCascade) == kCascade &&
                   !(second_.command & kControllerDisable);
    return own && (channel >= 4 || cascade);
}

void I8237Pair::setRequest(unsigned channel, bool level) {
    Controller& c = controllerOf(channel);
    uint8_t bit = uint8_t(1 << (channel & 3));
    c.requests = uint8_t(level ? c.requests | bit : c.requests & ~bit);
}

// Moves `units` bytes or words whose addresses don't wrap. The page supplies what the 16-bit counter hasn't;
// on 16-bit channels the counter holds address bits 16..1 and page bit 0 is unused.
void I8237Pair::moveRun(Channel& c, bool words, uint8_t* data, uint32_t units, bool toMemory) {
    uint32_t unitSize = words ? 2 : 1, bytes = units * unitSize;
    bool down = c.mode & kDecrement;
    uint32_t low = down ? c.address - (units - 1) : c.address;
    PhysAddr at(words ? uint32_t(c.page & 0xfe) << 16 | low << 1 : uint32_t(c.page) << 16 | low);
    uint8_t kind = c.mode & kKindMask;
    auto mirror = [&] {  // a decreasing transfer moves the last unit first
        for (uint32_t i = 0; i < units / 2; i++)
            std::swap_ranges(data + i * unitSize, data + (i + 1) * unitSize,
                             data + (units - 1 - i) * unitSize);
    };
    if (kind == kToMemory && toMemory) {
        if (down) mirror();
        memory_.write(at, data, bytes);
        if (down) mirror();
    } else if (kind == kFromMemory && !toMemory) {
        memory_.read(at, data, bytes);
        if (down) mirror();
    } else if (!toMemory) {
        std::memset(data, 0, bytes);  // verify, or the wrong direction
    }
    c.address = uint16_t(down ? c.address - units : c.address + units);
    c.count = uint16_t(c.count - units);
}

I8237Pair::Result I8237Pair::transfer(unsigned channel, uint8_t* data, uint32_t bytes, bool toMemory) {
    Result result;
    if (!ready(channel)) return result;
    Controller& controller = controllerOf(channel);
    Channel& c = controller.channels[channel & 3];
    bool words = channel >= 4;
    uint32_t unitSize = words ? 2 : 1;
    uint8_t bit = uint8_t(1 << (channel & 3));
    while (bytes - result.moved >= unitSize) {
        uint32_t toWrap = c.mode & kDecrement ? c.address + 1u : 0x10000u - c.address;
        uint32_t n = std::min({(bytes - result.moved) / unitSize, c.count + 1u, toWrap});
        bool last = n == c.count + 1u;  // the counter passes zero
        moveRun(c, words, data + result.moved, n, toMemory);
        result.moved += n * unitSize;
        if (!last) continue;
        result.terminalCount = true;
        controller.terminalCounts |= bit;
        controller.softRequests &= uint8_t(~bit);
        if (c.mode & kAutoInit)
            c.address = c.baseAddress, c.count = c.baseCount;
        else
            controller.masked |= bit;
        break;
    }
    log_(LogCategory::Disk, "dma: channel {} {} {} bytes{}", channel, toMemory ? "stored" : "fetched",
         result.moved, result.terminalCount ? ", terminal count" : "");
    return result;
}

I8237Pair::Result I8237Pair::toMemory(unsigned channel, const uint8_t* data, uint32_t bytes) {
    return transfer(channel, const_cast<uint8_t*>(data), bytes, true);  // restored when it was mirrored
}

I8237Pair::Result I8237Pair::fromMemory(unsigned channel, uint8_t* data, uint32_t bytes) {
    return transfer(channel, data, bytes, false);
}

// -- reset and state

void I8237Pair::reset() {
    for (Controller* c : {&first_, &second_}) {
        c->masterClear();
        c->channels = {};
        c->requests = 0;
    }
    pages_.scratch = {};
}

void I8237Pair::Controller::state(StateVisitor& visit) {
    for (Channel& c : channels) {
        visit("base_address", c.baseAddress);
        visit("base_count", c.baseCount);
        visit("address", c.address);
        visit("count", c.count);
        visit("mode", c.mode);
        visit("page", c.page);
    }
    visit("command", command);
    visit("temporary", temporary);
    visit("masked", masked);
    visit("requests", requests);
    visit("soft_requests", softRequests);
    visit("terminal_counts", terminalCounts);
    visit("high_byte", highByte);
}

void I8237Pair::state(StateVisitor& visit) {
    first_.state(visit);
    second_.state(visit);
    visit("page_scratch", pages_.scratch);
}

}  // namespace kiln
