#include "devices/irq_test.hpp"

#include <algorithm>

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

enum : uint64_t {
    kIdentification = 0x00,
    kCapabilities = 0x04,
    kMode = 0x08,
    kRaise = 0x0c,
    kPending = 0x10,
    kAcknowledge = 0x14,
    kTake = 0x18,
    kRaised = 0x20,
    kRises = 0x24,
    kSelect = 0x28,
    kSelectedRaised = 0x2c,
    kSelectedPending = 0x30,
    kRate = 0x40,
    kBurst = 0x44,
    kFirst = 0x48,
    kNumber = 0x4c,
    kControl = 0x50,
    kLeft = 0x54,
    kHeld = 0x58,
};
constexpr uint32_t kIdentity = 0x4b495401;  // "KIT", version 1
constexpr uint64_t kRegisters = 4096;
constexpr unsigned kMsi = 0x50, kMsix = 0x70, kExpress = 0x80, kSerialNumber = 0x100;
constexpr uint16_t kSerialNumberId = 3;
constexpr unsigned kMsixBar = 2, kMemoryBar = 4;
constexpr uint32_t kInterrupts = 32;  // identifiers of INTx

// Control.
constexpr uint32_t kRun = 1, kRandom = 2, kPaced = 4;
constexpr uint32_t kHighestRate = 1'000'000;
constexpr uint64_t kMostAtOnce = 4096;  // what a late timer makes up for

}  // namespace

IrqTest::IrqTest(Clock& clock, const IrqTestConfig& config, std::optional<ExpressType> type)
    : PciFunction({.vendor = 0x1234, .device = 0x4954, .classCode = 0x00ff00, .revision = 1}),
      memory_("irqtest", config.memory),
      counts_(std::max<size_t>(kInterrupts, config.vectors)),
      clock_(clock),
      timer_(clock, [this] { generate(); }) {
    setInterruptPin(1);
    addMemoryBar(0, kRegisters, *this);
    addMsi(kMsi, config.messages, true);
    addMsix(kMsix, config.vectors, kMsixBar);
    addWideBar(kMemoryBar, config.memory, memory_, true);
    if (!type) return;
    addExpress(kExpress, *type);
    addExtendedCapability(kSerialNumber, kSerialNumberId, 1);
    set32(kSerialNumber + 4, kIdentity);
    set32(kSerialNumber + 8, 0x4b494c4e);
}

void IrqTest::reset() {
    PciFunction::reset();
    timer_.disarm();
    std::fill(counts_.begin(), counts_.end(), Count{});
    pending_ = taken_ = raised_ = rises_ = selected_ = 0;
    rate_ = burst_ = first_ = control_ = left_ = held_ = turn_ = 0;
    number_ = chance_ = 1;
    started_ = ticks_ = 0;
}

void IrqTest::state(StateVisitor& visit) {
    PciFunction::state(visit);
    visit.bytes("memory", memory_.data(), memory_.size());
    visit("counts", counts_);
    visit("pending", pending_);
    visit("taken", taken_);
    visit("raised", raised_);
    visit("rises", rises_);
    visit("selected", selected_);
    visit("rate", rate_);
    visit("burst", burst_);
    visit("first", first_);
    visit("number", number_);
    visit("control", control_);
    visit("left", left_);
    visit("held", held_);
    visit("turn", turn_);
    visit("chance", chance_);
    visit("started", started_);
    visit("ticks", ticks_);
    visitTimer(visit, "timer", timer_);
}

// -- interrupts

uint32_t IrqTest::identifiers() const {
    switch (mode()) {
        case Mode::Msix: return msixVectors();
        case Mode::Msi: return msiVectors();
        default: return kInterrupts;
    }
}

void IrqTest::raise(uint32_t identifier) {
    if (identifier >= identifiers()) return;
    counts_[identifier].raised++;
    counts_[identifier].pending++;
    pending_++, taken_++, raised_++;
    switch (mode()) {
        case Mode::Msix: return sendMsix(identifier);
        case Mode::Msi: return sendMsi(identifier);
        case Mode::Intx: break;
    }
    if (pending_ == 1) rises_++;
    setIntx(true);
}

void IrqTest::acknowledge(uint32_t identifier) {
    if (identifier >= counts_.size()) return;
    pending_ -= std::exchange(counts_[identifier].pending, 0);
    if (!pending_) setIntx(false);
}

// -- the generator

void IrqTest::startGenerator(uint32_t control) {
    control_ = control & (kRun | kRandom | kPaced);
    timer_.disarm();
    if (!(control_ & kRun)) return;
    left_ = burst_;
    held_ = turn_ = 0;
    started_ = clock_.now();
    ticks_ = 0;
    armGenerator();
}

void IrqTest::armGenerator() {
    if (rate_) timer_.arm(started_ + Clock::timeOfTick(ticks_ + 1, rate_));
}

void IrqTest::generate() {
    const uint64_t due = Clock::ticksAt(clock_.now() - started_, rate_);
    for (uint64_t n = 0; n < kMostAtOnce && ticks_ < due && (control_ & kRun); n++, ticks_++) raiseNext();
    if (control_ & kRun) armGenerator();
}

// In turn or at random. Paced, none is raised again that has not been acknowledged.
void IrqTest::raiseNext() {
    chance_ = chance_ * 1664525 + 1013904223;
    const uint32_t number = std::clamp<uint32_t>(number_, 1, uint32_t(counts_.size()));
    const uint32_t identifier = first_ + (control_ & kRandom ? (chance_ >> 16) % number : turn_++ % number);
    if ((control_ & kPaced) && identifier < counts_.size() && counts_[identifier].pending) {
        held_++;
        return;
    }
    raise(identifier);
    if (burst_ && --left_ == 0) control_ &= ~kRun;
}

// -- registers

uint64_t IrqTest::ioRead(uint64_t offset, unsigned size) {
    return size == 4 && offset % 4 == 0 ? read(offset) : openBus(size);
}

uint32_t IrqTest::read(uint64_t offset) {
    switch (offset) {
        case kIdentification: return kIdentity;
        case kCapabilities: return msixVectors() | msiVectors() << 16;
        case kMode: return uint32_t(mode());
        case kPending: return pending_;
        case kTake: return std::exchange(taken_, 0);
        case kRaised: return raised_;
        case kRises: return rises_;
        case kSelect: return selected_;
        case kSelectedRaised: return selected_ < counts_.size() ? counts_[selected_].raised : 0;
        case kSelectedPending: return selected_ < counts_.size() ? counts_[selected_].pending : 0;
        case kRate: return rate_;
        case kBurst: return burst_;
        case kFirst: return first_;
        case kNumber: return number_;
        case kControl: return control_;
        case kLeft: return left_;
        case kHeld: return held_;
        default: return ~0u;
    }
}

void IrqTest::ioWrite(uint64_t offset, unsigned size, uint64_t wide) {
    if (size != 4) return;
    const auto value = uint32_t(wide);
    // Where the generator runs, it goes on as it was started.
    const bool runs = control_ & kRun;
    switch (offset) {
        case kRaise: raise(value); break;
        case kAcknowledge: acknowledge(value); break;
        case kSelect: selected_ = value; break;
        case kRate:
            if (!runs) rate_ = std::min(value, kHighestRate);
            break;
        case kBurst:
            if (!runs) burst_ = value;
            break;
        case kFirst:
            if (!runs) first_ = value;
            break;
        case kNumber:
            if (!runs) number_ = value;
            break;
        case kControl: startGenerator(value); break;
        default: break;
    }
}

}  // namespace kiln
