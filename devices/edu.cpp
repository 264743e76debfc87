#include "devices/edu.hpp"

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

enum : uint64_t {
    kIdentification = 0x00,
    kInverter = 0x04,
    kFactorial = 0x08,
    kStatus = 0x20,
    kInterruptStatus = 0x24,
    kRaise = 0x60,
    kAcknowledge = 0x64,
    kDmaSource = 0x80,
    kDmaDestination = 0x88,
    kDmaCount = 0x90,
    kDmaCommand = 0x98,
};
constexpr uint64_t kBarSize = 1 << 20, kBuffer = 0x40000;
constexpr unsigned kMsiCapability = 0x40;

// Status.
constexpr uint32_t kComputing = 0x01, kInterruptWhenComputed = 0x80;
// Interrupt status.
constexpr uint32_t kFactorialCause = 0x001, kDmaCause = 0x100;
// DMA command.
constexpr uint64_t kStart = 1, kToMemory = 2, kInterruptWhenMoved = 4;

constexpr Nanos kDmaTime = kSecond / 10;  // as in QEMU: long enough to be seen running

}  // namespace

EduDevice::EduDevice(Clock& clock, Log& log, uint64_t dmaMask)
    : PciFunction({.vendor = 0x1234, .device = 0x11e8, .classCode = 0x00ff00, .revision = 0x10}),
      log_(log),
      dmaMask_(dmaMask),
      clock_(clock),
      factorialTimer_(clock, [this] { factorialDone(); }),
      dmaTimer_(clock, [this] { dmaDone(); }) {
    setInterruptPin(1);
    addMemoryBar(0, kBarSize, *this);
    addMsi(kMsiCapability);
}

void EduDevice::reset() {
    PciFunction::reset();
    inverted_ = factorial_ = status_ = causes_ = 0;
    dma_ = {};
    buffer_.fill(0);
    factorialTimer_.disarm();
    dmaTimer_.disarm();
}

void EduDevice::state(StateVisitor& visit) {
    PciFunction::state(visit);
    visit("inverted", inverted_);
    visit("factorial", factorial_);
    visit("status", status_);
    visit("causes", causes_);
    visit("dma_source", dma_.source);
    visit("dma_destination", dma_.destination);
    visit("dma_count", dma_.count);
    visit("dma_command", dma_.command);
    visit("buffer", buffer_);
    visitTimer(visit, "factorial_timer", factorialTimer_);
    visitTimer(visit, "dma_timer", dmaTimer_);
}

// -- registers

uint64_t* EduDevice::dmaRegister(uint64_t offset) {
    switch (offset) {
        case kDmaSource: return &dma_.source;
        case kDmaDestination: return &dma_.destination;
        case kDmaCount: return &dma_.count;
        case kDmaCommand: return &dma_.command;
        default: return nullptr;
    }
}

uint64_t EduDevice::ioRead(uint64_t offset, unsigned size) {
    if (const uint64_t* r = dmaRegister(offset); r && size >= 4) return *r & openBus(size);
    if (size != 4) return openBus(size);
    switch (offset) {
        case kIdentification: return 0x010000ed;  // major version 1, minor version 0
        case kInverter: return inverted_;
        case kFactorial: return factorial_;
        case kStatus: return status_;
        case kInterruptStatus: return causes_;
        default: return openBus(size);
    }
}

void EduDevice::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (uint64_t* r = dmaRegister(offset); r && size >= 4) {
        // While a transfer runs, nothing about it can be changed.
        if (dma_.command & kStart || (r == &dma_.command && !(value & kStart))) return;
        *r = value;
        if (r == &dma_.command) dmaTimer_.arm(clock_.now() + kDmaTime);
    } else if (size == 4) {
        writeLow(offset, uint32_t(value));
    }
}

void EduDevice::writeLow(uint64_t offset, uint32_t value) {
    switch (offset) {
        case kInverter: inverted_ = ~value; break;
        case kFactorial: startFactorial(value); break;
        case kStatus: status_ = (status_ & ~kInterruptWhenComputed) | (value & kInterruptWhenComputed); break;
        case kRaise: raise(value); break;
        case kAcknowledge: acknowledge(value); break;
        default: break;
    }
}

// -- factorial, modulo 2^32

void EduDevice::startFactorial(uint32_t n) {
    if (status_ & kComputing) return;
    factorial_ = n;
    status_ |= kComputing;
    factorialTimer_.arm(clock_.now() + 1'000 + n);  // a nanosecond a multiplication
}

void EduDevice::factorialDone() {
    constexpr uint32_t kZeroFrom = 34;  // 34! has 32 factors of two
    uint32_t product = factorial_ < kZeroFrom ? 1 : 0;
    for (uint32_t n = factorial_; product && n > 1; n--) product *= n;
    factorial_ = product;
    status_ &= ~kComputing;
    if (status_ & kInterruptWhenComputed) raise(kFactorialCause);
}

// -- DMA

void EduDevice::dmaDone() {
    transfer();
    dma_.command &= ~kStart;
    if (dma_.command & kInterruptWhenMoved) raise(kDmaCause);
}

void EduDevice::transfer() {
    const bool toMemory = dma_.command & kToMemory;
    const uint64_t inside = (toMemory ? dma_.source : dma_.destination) - kBuffer;
    const uint64_t address = toMemory ? dma_.destination : dma_.source;
    if (inside > buffer_.size() || dma_.count > buffer_.size() - inside) {
        log_.oddity("edu: DMA outside its buffer", "at {:x}, {:x} bytes", inside + kBuffer, dma_.count);
        return;
    }
    if (address & ~dmaMask_) log_.oddity("edu: a DMA address is cut off", "{:x} by {:x}", address, dmaMask_);
    if (toMemory)
        dmaWrite(address & dmaMask_, &buffer_[0] + inside, dma_.count);
    else
        dmaRead(address & dmaMask_, &buffer_[0] + inside, dma_.count);
}

// -- interrupts: each cause that is raised is a message, or the wire is up for as long as there are causes

void EduDevice::raise(uint32_t causes) {
    causes_ |= causes;
    if (!causes_) return;
    msiEnabled() ? sendMsi() : setIntx(true);
}

void EduDevice::acknowledge(uint32_t causes) {
    causes_ &= ~causes;
    if (!causes_) setIntx(false);
}

}  // namespace kiln
