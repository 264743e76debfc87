#include "apic/local_apic.hpp"

#include <algorithm>
#include <bit>

#include "apic/interrupt_relay.hpp"
#include "apic/timer_state.hpp"

namespace kiln {

namespace {

// Register numbers: page offset / 16, and the low byte of the x2APIC MSR.
enum Register : unsigned {
    kId = 0x02,
    kVersion = 0x03,
    kTpr = 0x08,
    kApr = 0x09,
    kPpr = 0x0A,
    kEoi = 0x0B,
    kLdr = 0x0D,
    kDfr = 0x0E,
    kSvr = 0x0F,
    kIsr = 0x10,
    kTmr = 0x18,
    kIrr = 0x20,
    kEsr = 0x28,
    kCmci = 0x2F,
    kIcrLow = 0x30,
    kIcrHigh = 0x31,
    kLvtFirst = 0x32,  // timer, thermal, performance, LINT0, LINT1, error
    kLvtLast = 0x37,
    kInitialCount = 0x38,
    kCurrentCount = 0x39,
    kDivide = 0x3E,
    kSelfIpi = 0x3F,
};

// Integrated APIC, LVT entries 0..6, EOI-broadcast suppression.
constexpr uint32_t kVersionValue = 0x01060015;
constexpr uint32_t kMasked = 1 << 16;
constexpr uint32_t kSvrWritable = 0x13FF;
constexpr uint32_t kSvrSuppressEoiBroadcast = 1 << 12;
constexpr uint32_t kSendIllegalVector = 1 << 5, kReceiveIllegalVector = 1 << 6, kIllegalRegister = 1 << 7;
constexpr uint64_t kIcrWritable = 0xFFFFFFFF'000CCFFFull;

// What a guest may change of each LVT entry, in the order of LocalApic::Lvt.
constexpr std::array<uint32_t, 7> kLvtWritable = {0x700FF, 0x107FF, 0x107FF, 0x1A7FF,
                                                  0x1A7FF, 0x100FF, 0x107FF};
constexpr uint32_t kLvtReadOnly = 0x5000;  // delivery status and remote IRR: writing them is harmless

// A guest that asks for a periodic interrupt every few nanoseconds gets it at this pace.
constexpr Nanos kShortestPeriod = 10'000;

}  // namespace

LocalApic::LocalApic(Clock& clock, ApicBus& bus, uint32_t id, bool bsp, std::function<uint64_t()> readTsc,
                     uint64_t tscHz)
    : clock_(clock),
      bus_(bus),
      initialId_(id),
      bsp_(bsp),
      readTsc_(std::move(readTsc)),
      tscHz_(tscHz),
      timer_(clock, [this] { timerExpired(); }),
      lint1_([this](bool level) {
          if (!level) return;
          if (enabled())
              fireLvt(kLvtLint1);
          else
              post(kNmi);  // the pin is NMI while there is no APIC
      }) {
    bus.add(*this);
    reset();
}

// -- reset

void LocalApic::reset() {
    base_ = 0xFEE00000 | kBaseEnable | (bsp_ ? kBaseBsp : 0);
    xapicId_ = uint8_t(initialId_);
    clearRegisters();
    // The boot processor starts in virtual wire mode (MP specification, 3.6.2.2): PC firmware of all ages
    // counts on 8259 interrupts before it looks at the APIC.
    if (bsp_) lvt_[kLvtLint0] = uint32_t(DeliveryMode::ExtInt) << 8;
    attention_ = 0;
    for (auto& word : posted_) word = 0;
    updateAttention();
}

void LocalApic::clearRegisters() {
    tpr_ = 0;
    ldr_ = 0;
    dfr_ = ~0u;
    svr_ = 0xFF;
    icr_ = 0;
    esr_ = pendingErrors_ = 0;
    lvt_.fill(kMasked);
    irr_ = isr_ = tmr_ = {};
    extIntMessage_ = false;
    track_.count = 0;
    initialCount_ = startCount_ = divide_ = 0;
    timerRunning_ = false;
    tscDeadline_ = 0;
    timer_.disarm();
}

void LocalApic::state(StateVisitor& visit) {
    mergePosted();
    uint32_t attention = attention_;
    visit("attention", attention);
    attention_ = attention;
    visit("base", base_);
    visit("id", xapicId_);
    visit("tpr", tpr_);
    visit("ldr", ldr_);
    visit("dfr", dfr_);
    visit("svr", svr_);
    visit("icr", icr_);
    visit("esr", esr_);
    visit("pendingErrors", pendingErrors_);
    visit("lvt", lvt_);
    irr_.state(visit, "irr");
    isr_.state(visit, "isr");
    tmr_.state(visit, "tmr");
    visit("track", track_.entries);
    visit("tracked", track_.count);
    visit("sipiVector", sipiVector_);
    visit("extIntMessage", extIntMessage_);
    visit("initialCount", initialCount_);
    visit("divide", divide_);
    visit("timerStart", timerStart_);
    visit("startCount", startCount_);
    visit("timerRunning", timerRunning_);
    visit("tscDeadline", tscDeadline_);
    visitTimer(visit, "timer", timer_);
}

// -- attention: what the CPU polls

bool LocalApic::take(uint32_t what) {
    bool was = attention_ & what;
    if (was) attention_ &= ~what;
    return was;
}

bool LocalApic::takeSipi(uint8_t& vector) {
    vector = sipiVector_;
    return take(kSipi);
}

void LocalApic::post(uint32_t what) {
    attention_ |= what;
    if (onAttention) onAttention();
}

bool LocalApic::extIntLine() const {
    if (!enabled()) return bus_.intr();
    uint32_t lint0 = lvt_[kLvtLint0];
    bool throughLint0 = !(lint0 & kMasked) && DeliveryMode(lint0 >> 8 & 7) == DeliveryMode::ExtInt;
    return extIntMessage_ || (throughLint0 && bus_.intr());
}

void LocalApic::updateAttention() {
    uint32_t now = 0;
    const int top = irr_.highest(), served = isr_.highest();
    requested_ = top >= 0;
    plainEoi_ =
        served < 0 || (!requested_ && isr_.atMostOne() && !tmr_.test(uint8_t(served)) && !track_.count);
    if (top >= 0 && (top & 0xF0) > std::max(tpr_ & 0xF0, served < 0 ? 0 : served & 0xF0)) now |= kFixed;
    if (extIntLine()) now |= kExtInt;
    uint32_t before = attention_;
    // Others may post meanwhile: only the two bits change.
    const uint32_t gone = before & ~now & (kFixed | kExtInt), fresh = now & ~before;
    if (gone) attention_ &= ~gone;
    if (fresh) attention_ |= fresh;
    if (fresh && onAttention) onAttention();
}

void LocalApic::lint0Changed(bool level) {
    updateAttention();
    bool isExtInt = DeliveryMode(lvt_[kLvtLint0] >> 8 & 7) == DeliveryMode::ExtInt;
    if (level && enabled() && !isExtInt) fireLvt(kLvtLint0);
}

// -- accepting and finishing interrupts

uint8_t LocalApic::ppr() const {
    int inService = isr_.highest();
    if (inService < 0 || (tpr_ & 0xF0) >= (inService & 0xF0)) return tpr_;
    return uint8_t(inService & 0xF0);
}

// SDM vol. 3, 11.6.2.4.
uint8_t LocalApic::arbitrationPriority() const {
    int requested = std::max(irr_.highest(), 0) & 0xF0, inService = std::max(isr_.highest(), 0) & 0xF0;
    int tpr = tpr_ & 0xF0;
    if (tpr >= requested && tpr > inService) return tpr_;
    return uint8_t(std::max({tpr, inService, requested}));
}

int LocalApic::acknowledge() {
    mergePosted();
    int vector = irr_.highest();
    if (vector < 0 || (vector & 0xF0) <= (ppr() & 0xF0)) return svr_ & 0xFF;
    irr_.clear(uint8_t(vector));
    isr_.set(uint8_t(vector));
    if (track_.count && bus_.relay) bus_.relay->acknowledged(track_, uint8_t(vector));
    taken_[uint8_t(vector)]++;
    updateAttention();
    return vector;
}

int LocalApic::acknowledgeExtInt() {
    extIntMessage_ = false;
    int vector = bus_.interruptAcknowledge();
    taken_[uint8_t(vector)]++;
    updateAttention();
    return vector;
}

bool LocalApic::acceptVector(uint8_t vector, bool level, bool relayed) {
    if (vector < 16) {
        error(kReceiveIllegalVector);
        return false;
    }
    irr_.set(vector);
    level ? tmr_.set(vector) : tmr_.clear(vector);
    if (relayed && bus_.relay && bus_.relay->passing()) bus_.relay->enteredIrr(track_, vector);
    updateAttention();
    return true;
}

// The vector first, then the word by which it is found; mergePosted() goes the other way round.
void LocalApic::postVector(uint8_t vector) {
    posted_[vector >> 6].fetch_or(1ull << (vector & 63));
    if (!(attention_.fetch_or(kPosted) & kPosted) && onAttention) onAttention();
}

void LocalApic::mergePosted() {
    if (!posted()) return;
    attention_ &= ~kPosted;
    for (unsigned word = 0; word < posted_.size(); word++)
        for (uint64_t bits = posted_[word].exchange(0); bits; bits &= bits - 1)
            if (acceptsFixed())
                acceptVector(uint8_t(word * 64 + unsigned(std::countr_zero(bits))), false, false);
}

void LocalApic::eoi() {
    int vector = isr_.highest();
    if (vector < 0) return;
    isr_.clear(uint8_t(vector));
    if (track_.count && bus_.relay) bus_.relay->finished(track_, uint8_t(vector));
    updateAttention();
    if (tmr_.test(uint8_t(vector)) && !(svr_ & kSvrSuppressEoiBroadcast)) bus_.broadcastEoi(uint8_t(vector));
}

void LocalApic::setTpr(uint8_t value) {
    tpr_ = value;
    updateAttention();
}

bool LocalApic::accept(const ApicMessage& message) {
    if (!enabled()) return false;
    switch (message.mode) {
        case DeliveryMode::Fixed:
        case DeliveryMode::LowestPriority:
            return softwareEnabled() && acceptVector(message.vector, message.level, message.relayed);
        case DeliveryMode::Smi: post(kSmi); return true;
        case DeliveryMode::RemoteRead: return false;
        case DeliveryMode::Nmi: post(kNmi); return true;
        case DeliveryMode::Init:
            clearRegisters();
            attention_ &= kPosted;  // this APIC refuses them now
            post(kInit);
            return true;
        case DeliveryMode::StartUp:
            sipiVector_ = message.vector;
            post(kSipi);
            return true;
        case DeliveryMode::ExtInt:
            extIntMessage_ = true;
            updateAttention();
            return true;
    }
    return false;
}

// -- addressing: SDM vol. 3, 11.6.2 and 11.12.10

uint32_t LocalApic::id() const { return x2apic() ? initialId_ : xapicId_; }

uint32_t LocalApic::logicalId() const {
    return x2apic() ? (initialId_ >> 4) << 16 | 1u << (initialId_ & 15) : ldr_;
}

bool LocalApic::matches(const ApicMessage& message) const {
    if (message.destination == (message.wide ? ~0u : 0xFFu)) return true;  // broadcast
    return message.logical ? matchesLogical(message) : message.destination == id();
}

bool LocalApic::matchesLogical(const ApicMessage& message) const {
    uint32_t destination = message.destination, logical = logicalId();
    if (x2apic()) return destination >> 16 == logical >> 16 && (destination & logical & 0xFFFF);
    if (destination > 0xFF) return false;
    logical >>= 24;
    bool flat = dfr_ >> 28 == 0xF;
    if (flat) return destination & logical;
    bool cluster = destination >> 4 == logical >> 4 || destination >> 4 == 0xF;
    return cluster && (destination & logical & 0xF);
}

// -- local sources and errors

void LocalApic::fireLvt(Lvt entry) {
    uint32_t value = lvt_[entry];
    if (!enabled() || (value & kMasked)) return;
    if (entry == kLvtPerformance) lvt_[entry] |= kMasked;
    bool alwaysFixed = entry == kLvtTimer || entry == kLvtError;
    DeliveryMode mode = alwaysFixed ? DeliveryMode::Fixed : DeliveryMode(value >> 8 & 7);
    bool allowed = mode == DeliveryMode::Fixed || mode == DeliveryMode::Smi || mode == DeliveryMode::Nmi ||
                   mode == DeliveryMode::ExtInt || mode == DeliveryMode::Init;
    if (allowed) accept({.mode = mode, .vector = uint8_t(value)});
}

void LocalApic::error(uint32_t esrBit) {
    bool news =
        !(pendingErrors_ & esrBit);  // else an illegal vector in the error entry would go round for ever
    pendingErrors_ |= esrBit;
    if (news) fireLvt(kLvtError);
}

void LocalApic::latchEsr() {
    esr_ = pendingErrors_;
    pendingErrors_ = 0;
}

// -- registers

bool LocalApic::readRegister(unsigned reg, uint32_t& value) {
    mergePosted();
    if (reg >= kLvtFirst && reg <= kLvtLast) return value = lvt_[reg - kLvtFirst], true;
    if (reg >= kIsr && reg < kIsr + 8) return value = isr_.dword(reg - kIsr), true;
    if (reg >= kTmr && reg < kTmr + 8) return value = tmr_.dword(reg - kTmr), true;
    if (reg >= kIrr && reg < kIrr + 8) return value = irr_.dword(reg - kIrr), true;
    switch (reg) {
        case kId: value = x2apic() ? id() : id() << 24; return true;
        case kVersion: value = kVersionValue; return true;
        case kTpr: value = tpr_; return true;
        case kApr: value = arbitrationPriority(); return !x2apic();
        case kPpr: value = ppr(); return true;
        case kEoi: value = 0; return !x2apic();
        case kLdr: value = logicalId(); return true;
        case kDfr: value = dfr_; return !x2apic();
        case kSvr: value = svr_; return true;
        case kEsr: value = esr_; return true;
        case kCmci: value = lvt_[kLvtCmci]; return true;
        case kIcrLow: value = uint32_t(icr_); return true;
        case kIcrHigh: value = uint32_t(icr_ >> 32); return !x2apic();
        case kInitialCount: value = timerMode() == TimerMode::TscDeadline ? 0 : initialCount_; return true;
        case kCurrentCount: value = currentCount(); return true;
        case kDivide: value = divide_; return true;
        default: return false;
    }
}

bool LocalApic::writeRegister(unsigned reg, uint32_t value) {
    if (reg == kLvtFirst || reg == kInitialCount || reg == kDivide) serveTimer();
    if (reg >= kLvtFirst && reg <= kLvtLast) return writeLvt(Lvt(reg - kLvtFirst), value), true;
    switch (reg) {
        case kId:
            if (!x2apic()) xapicId_ = uint8_t(value >> 24);
            return !x2apic();
        case kTpr: setTpr(uint8_t(value)); return true;
        case kEoi: eoi(); return true;
        case kLdr:
            if (!x2apic()) ldr_ = value & 0xFF000000;
            return !x2apic();
        case kDfr:
            if (!x2apic()) dfr_ = value | 0x0FFFFFFF;
            return !x2apic();
        case kSvr: writeSvr(value); return true;
        case kEsr: latchEsr(); return true;
        case kCmci: writeLvt(kLvtCmci, value); return true;
        case kIcrLow: writeIcr((icr_ & 0xFFFFFFFF00000000ull) | value); return true;
        case kIcrHigh: icr_ = (icr_ & 0xFFFFFFFF) | uint64_t(value & 0xFF000000) << 32; return true;
        case kInitialCount:
            if (timerMode() != TimerMode::TscDeadline) startTimer(value);
            return true;
        case kDivide: setDivide(value); return true;
        default: return false;
    }
}

void LocalApic::writeSvr(uint32_t value) {
    svr_ = value & kSvrWritable;
    if (softwareEnabled()) return;
    for (auto& entry : lvt_) entry |= kMasked;
    armTimer(clock_.now());
    updateAttention();
}

void LocalApic::writeLvt(Lvt entry, uint32_t value) {
    const TimerMode before = timerMode();
    const uint32_t count = currentCount();
    lvt_[entry] = value & kLvtWritable[entry];
    if (!softwareEnabled()) lvt_[entry] |= kMasked;
    updateAttention();
    if (entry != kLvtTimer) return;
    bool wasDeadline = before == TimerMode::TscDeadline, isDeadline = timerMode() == TimerMode::TscDeadline;
    if (wasDeadline != isDeadline) {  // either way the timer is disarmed
        tscDeadline_ = 0;
        timerRunning_ = false;
        initialCount_ = 0;
    } else if (timerMode() != before) {  // the count goes on from where it is, or stays at zero
        startCount_ = count;
        timerStart_ = clock_.now();
        timerRunning_ = count != 0;
        return armTimer(timerStart_);
    }
    armTimer(clock_.now());
}

// SDM vol. 3, 11.6.1.
void LocalApic::writeIcr(uint64_t value) {
    icr_ = value & kIcrWritable;
    ApicMessage m;
    m.wide = x2apic();
    m.destination = x2apic() ? uint32_t(icr_ >> 32) : uint32_t(icr_ >> 56);
    m.vector = uint8_t(icr_);
    m.mode = DeliveryMode(icr_ >> 8 & 7);
    m.logical = icr_ >> 11 & 1;
    auto shorthand = Shorthand(icr_ >> 18 & 3);
    bool assertLevel = icr_ >> 14 & 1, levelTriggered = icr_ >> 15 & 1;
    bool normal = m.mode == DeliveryMode::Fixed || m.mode == DeliveryMode::LowestPriority;
    if (m.mode == DeliveryMode::Init && levelTriggered && !assertLevel) return;  // only sets arbitration IDs
    if (m.mode == DeliveryMode::RemoteRead || m.mode == DeliveryMode::ExtInt) return;
    if (!normal && (shorthand == Shorthand::Self || shorthand == Shorthand::AllIncludingSelf)) return;
    if (normal && m.vector < 16) return error(kSendIllegalVector);
    bus_.deliver(m, shorthand, *this);
}

// -- the xAPIC page. Accesses are defined for aligned dwords; narrower reads see their part of the register.

uint64_t LocalApic::ioRead(uint64_t offset, unsigned size) {
    uint32_t value = 0;
    if (x2apic() || !enabled()) return openBus(size);
    if (offset & 0xC) return 0;
    if (!readRegister(unsigned(offset >> 4), value)) {
        error(kIllegalRegister);
        return 0;
    }
    return value >> (offset & 3) * 8 & openBus(size);
}

void LocalApic::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if ((offset & 0xF) || size < 4 || x2apic() || !enabled()) return;
    if (!writeRegister(unsigned(offset >> 4), uint32_t(value))) error(kIllegalRegister);
}

DirectRegister LocalApic::directEoi() const {
    using S = RegisterSteps;
    S s(this);
    s.add(S::Op::Move, S::Word, s.field(plainEoi_)).add(S::Op::RequireEqual, S::Word, S::constant(1));
    s.add(S::Op::Move, S::Word, S::constant(0));
    for (const uint64_t& word : isr_.words()) s.add(S::Op::Store, S::Word, s.field(word));
    return DirectRegister::by(std::move(s));
}

// Nothing depends on the task priority while nothing is requested.
DirectRegister LocalApic::direct(uint64_t offset, unsigned size, bool write) {
    if (size != 4 || offset & 15) return {};
    switch (offset >> 4) {
        case kVersion: return write ? DirectRegister{} : DirectRegister::always(kVersionValue);
        case kTpr: return write ? DirectRegister::at(tpr_).unless(requested_) : DirectRegister::at(tpr_);
        case kEoi: return write ? directEoi() : DirectRegister{};
        case kDfr: return write ? DirectRegister{} : DirectRegister::at(dfr_);
        case kSvr: return write ? DirectRegister{} : DirectRegister::at(svr_);
        case kEsr: return write ? DirectRegister{} : DirectRegister::at(esr_);
        case kIcrLow: return write ? DirectRegister{} : DirectRegister::at(icr_, 0xFFFFFFFF);
        case kIcrHigh: {
            if (!write) return {};
            DirectRegister r = DirectRegister::at(icr_, 0xFF000000);
            r.bytes = 4;
            r.place = reinterpret_cast<uint8_t*>(&icr_) + 4;
            return r;
        }
        default: return {};
    }
}

// -- MSRs

bool LocalApic::setApicBase(uint64_t value) {
    constexpr uint64_t kWritable = 0x000FFFFFFFFFF000ull | kBaseEnable | kBaseExtended | kBaseBsp;
    bool enable = value & kBaseEnable, extended = value & kBaseExtended;
    if (value & ~kWritable) return false;
    if (extended && !enable) return false;
    if (extended && !x2apic() && !enabled()) return false;  // disabled -> x2APIC
    if (!extended && enable && x2apic()) return false;      // x2APIC -> xAPIC
    bool toX2apic = extended && !x2apic(), toDisabled = !enable && enabled();
    uint64_t before = base_;
    base_ = (value & ~kBaseBsp) | (bsp_ ? kBaseBsp : 0);
    if (toDisabled) {
        clearRegisters();
        xapicId_ = uint8_t(initialId_);
    }
    if (toX2apic) icr_ = 0;
    updateAttention();
    if (base_ != before && onBaseChanged) onBaseChanged();
    return true;
}

bool LocalApic::readMsr(uint32_t index, uint64_t& value) {
    unsigned reg = index - 0x800;
    if (!x2apic() || reg > 0xFF) return false;
    if (reg == kIcrLow) return value = icr_, true;
    uint32_t low = 0;
    if (!readRegister(reg, low)) return false;
    value = low;
    return true;
}

// Reserved bits of x2APIC registers must be written as zeros.
bool LocalApic::writableMsr(unsigned reg, uint64_t value) const {
    if (reg >= kLvtFirst && reg <= kLvtLast)
        return !(value & ~uint64_t(kLvtWritable[reg - kLvtFirst] | kLvtReadOnly));
    switch (reg) {
        case kTpr:
        case kSelfIpi: return value <= 0xFF;
        case kEoi:
        case kEsr: return value == 0;
        case kSvr: return !(value & ~uint64_t(kSvrWritable));
        case kCmci: return !(value & ~uint64_t(kLvtWritable[kLvtCmci] | kLvtReadOnly));
        case kIcrLow: return !(value & ~(kIcrWritable | 1 << 12));
        case kInitialCount: return value <= 0xFFFFFFFF;
        case kDivide: return !(value & ~0xBull);
        default: return false;
    }
}

bool LocalApic::writeMsr(uint32_t index, uint64_t value) {
    unsigned reg = index - 0x800;
    if (!x2apic() || reg > 0xFF || !writableMsr(reg, value)) return false;
    switch (reg) {
        case kIcrLow: writeIcr(value); return true;
        case kSelfIpi:
            if (value < 16)
                error(kSendIllegalVector);
            else
                bus_.deliver({.vector = uint8_t(value)}, Shorthand::Self, *this);
            return true;
        default: return writeRegister(reg, uint32_t(value));
    }
}

// -- the timer: SDM vol. 3, 11.5.4. One bus tick is one nanosecond.

static_assert(LocalApic::kBusHz == kSecond);

unsigned LocalApic::timerDivide() const {
    unsigned code = (divide_ & 3) | (divide_ >> 1 & 4);
    return 1u << ((code + 1) & 7);
}

uint32_t LocalApic::currentCount() const {
    if (!timerRunning_) return 0;
    uint64_t elapsed = (clock_.now() - timerStart_) / timerDivide();
    if (elapsed < startCount_) return uint32_t(startCount_ - elapsed);
    if (timerMode() != TimerMode::Periodic) return 0;
    return uint32_t(initialCount_ - (elapsed - startCount_) % initialCount_);
}

void LocalApic::startTimer(uint32_t count) {
    initialCount_ = startCount_ = count;
    timerStart_ = clock_.now();
    timerRunning_ = count != 0;
    armTimer(timerStart_);
}

void LocalApic::setDivide(uint32_t value) {
    uint32_t count = currentCount();
    divide_ = value & 0xB;
    startCount_ = count;
    timerStart_ = clock_.now();
    if (timerMode() != TimerMode::TscDeadline) timerRunning_ = count != 0;
    armTimer(timerStart_);
}

// A count that starts at `now` is told about however soon it ends.
void LocalApic::armTimer(Nanos now) {
    if (timerMode() == TimerMode::TscDeadline) return armTscDeadline();
    timer_.disarm();
    // A masked timer counts, but nobody has to be told.
    if (!timerRunning_ || (lvt_[kLvtTimer] & kMasked)) return;
    const Nanos first = timerStart_ + Nanos(startCount_) * timerDivide();
    if (now < first) return timer_.arm(first);
    if (timerMode() != TimerMode::Periodic) {
        timerRunning_ = false;
        return;
    }
    Nanos period = Nanos(initialCount_) * timerDivide();
    Nanos next = first + ((now - first) / period + 1) * period;
    if (period < kShortestPeriod) next = std::max(next, now + kShortestPeriod);
    timer_.arm(next);
}

void LocalApic::timerExpired() {
    if (timerMode() == TimerMode::TscDeadline) return armTscDeadline();
    armTimer(clock_.now());
    fireLvt(kLvtTimer);
}

void LocalApic::serveTimer() {
    serveIfDue(clock_, timer_, [this] { timerExpired(); });
}

void LocalApic::setTscDeadline(uint64_t value) {
    if (timerMode() != TimerMode::TscDeadline) return;
    serveTimer();
    tscDeadline_ = value;
    armTscDeadline();
}

void LocalApic::tscChanged() {
    if (timerMode() == TimerMode::TscDeadline) armTscDeadline();
}

void LocalApic::armTscDeadline() {
    timer_.disarm();
    if (!tscDeadline_) return;
    uint64_t tsc = readTsc_();
    if (tsc >= tscDeadline_) {
        tscDeadline_ = 0;
        fireLvt(kLvtTimer);
        return;
    }
    // A guest that wants no interrupt may ask for the end of time.
    constexpr uint64_t kFar = 1ull << 62;
    Nanos wait = Clock::timeOfTick(std::min(tscDeadline_ - tsc, kFar), tscHz_);
    timer_.arm(clock_.now() + std::clamp<Nanos>(wait, 1, kFar));
}

}  // namespace kiln
