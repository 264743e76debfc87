#include "devices/uart16550.hpp"

#include <algorithm>
#include <utility>

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

enum Ier : uint8_t { kIerReceived = 1, kIerThrEmpty = 2, kIerLineStatus = 4, kIerModemStatus = 8 };
enum Iir : uint8_t {
    kNone = 1,
    kModemStatus = 0,
    kThrEmpty = 2,
    kReceived = 4,
    kLineStatus = 6,
    kTimeout = 12
};
enum Lsr : uint8_t { kDataReady = 1, kOverrun = 2, kThrIsEmpty = 0x20, kTransmitterEmpty = 0x40 };
enum Mcr : uint8_t { kDtr = 1, kRts = 2, kOut1 = 4, kOut2 = 8, kLoop = 0x10 };
enum Msr : uint8_t { kCts = 0x10, kDsr = 0x20, kRi = 0x40, kDcd = 0x80 };
constexpr uint8_t kLineErrors = 0x1E;  // of LSR
constexpr uint8_t kDlab = 0x80;

constexpr uint64_t kBaudBase = 115'200;  // 1.8432 MHz / 16

}  // namespace

Uart16550::Uart16550(Clock& clock, IrqInput& irq, Output output)
    : clock_(clock),
      irq_(irq),
      output_(std::move(output)),
      lineTimer_(clock, [this] { takeFromInbox(); }),
      timeoutTimer_(clock, [this] {
          timeoutPending_ = count_ > 0;
          updateIrq();
      }) {
    reset();
}

void Uart16550::reset() {
    first_ = count_ = 0;
    divisor_ = 12;
    ier_ = fcr_ = lcr_ = mcr_ = scratch_ = 0;
    lineErrors_ = modemDeltas_ = 0;
    lastReceived_ = 0;
    thrEmptyPending_ = timeoutPending_ = false;
    lineTimer_.disarm();
    timeoutTimer_.disarm();
    settingsChanged();
    updateIrq();
    if (!inbox_.empty()) takeFromInbox();
}

void Uart16550::state(StateVisitor& visit) {
    visit("fifo", fifo_);
    visit("first", first_);
    visit("count", count_);
    visit("divisor", divisor_);
    visit("lastReceived", lastReceived_);
    visit("ier", ier_);
    visit("fcr", fcr_);
    visit("lcr", lcr_);
    visit("mcr", mcr_);
    visit("scratch", scratch_);
    visit("lineErrors", lineErrors_);
    visit("modemDeltas", modemDeltas_);
    visit("thrEmptyPending", thrEmptyPending_);
    visit("timeoutPending", timeoutPending_);
    visitTimer(visit, "lineTimer", lineTimer_);
    visitTimer(visit, "timeoutTimer", timeoutTimer_);
    settingsChanged();
    updateIrq();
}

// -- the receiver

Nanos Uart16550::characterTime() const {
    Nanos tenBits = 10 * kSecond * std::max<uint64_t>(divisor_, 1) / kBaudBase;
    return std::min<Nanos>(tenBits, kSecond / 1000);  // nobody wants to watch 300 baud
}

unsigned Uart16550::trigger() const {
    static constexpr uint8_t kLevels[] = {1, 4, 8, 14};
    return fifoEnabled() ? kLevels[fcr_ >> 6] : 1;
}

void Uart16550::receive(std::span<const uint8_t> bytes) {
    inbox_.insert(inbox_.end(), bytes.begin(), bytes.end());
    if (!lineTimer_.armed()) takeFromInbox();
}

// One character from the line. While the FIFO is full or the line is looped back the sender waits.
void Uart16550::takeFromInbox() {
    if (inbox_.empty() || count_ >= capacity() || (mcr_ & kLoop)) return;
    uint8_t value = inbox_.front();
    inbox_.pop_front();
    lineTimer_.arm(clock_.now() + characterTime());
    push(value);
}

void Uart16550::push(uint8_t value) {
    if (count_ >= capacity()) {
        lineErrors_ |= kOverrun;
        if (!fifoEnabled()) fifo_[first_] = value;  // the holding register is overwritten, the FIFO is not
    } else {
        fifo_[(first_ + count_++) & 15] = value;
    }
    armTimeout();
    updateIrq();
}

uint8_t Uart16550::pop() {
    if (!count_) return lastReceived_;
    lastReceived_ = fifo_[first_];
    first_ = (first_ + 1) & 15;
    count_--;
    armTimeout();
    updateIrq();
    if (!inbox_.empty() && !lineTimer_.armed()) lineTimer_.arm(clock_.now() + characterTime());
    return lastReceived_;
}

void Uart16550::clearReceiver() {
    first_ = count_ = 0;
    armTimeout();
}

// Four character times without a read or an arrival while something is in the FIFO.
void Uart16550::armTimeout() {
    timeoutPending_ = false;
    if (fifoEnabled() && count_)
        timeoutTimer_.arm(clock_.now() + 4 * characterTime());
    else
        timeoutTimer_.disarm();
}

// -- the transmitter

void Uart16550::settingsChanged() {
    dataBits_ = 0xFFu >> (3 - (lcr_ & 3));
    plainTransmit_ = keepsBack_ && !(lcr_ & kDlab) && !(mcr_ & kLoop) && !(ier_ & kIerThrEmpty);
}

void Uart16550::flush() {
    const uint32_t count = std::exchange(outboxCount_, 0);
    if (count && output_) output_({outbox_.data(), count});
}

void Uart16550::transmit(uint8_t value) {
    value &= uint8_t(dataBits_);
    thrEmptyPending_ = false;
    const bool told = ier_ & kIerThrEmpty;
    if (told) updateIrq();
    if (mcr_ & kLoop)
        push(value);
    else
        outbox_[outboxCount_++] = value;
    if (!keepsBack_ || outboxCount_ == outbox_.size() || value == '\n') flush();
    thrEmptyPending_ = true;
    if (told) updateIrq();
}

// -- modem lines: the other side is always there and ready

uint8_t Uart16550::modemStatus() const {
    if (!(mcr_ & kLoop)) return kCts | kDsr | kDcd;
    return uint8_t((mcr_ & kRts ? kCts : 0) | (mcr_ & kDtr ? kDsr : 0) | (mcr_ & kOut1 ? kRi : 0) |
                   (mcr_ & kOut2 ? kDcd : 0));
}

void Uart16550::writeMcr(uint8_t value) {
    uint8_t before = modemStatus();
    mcr_ = value & 0x1F;
    settingsChanged();
    uint8_t after = modemStatus(), changed = before ^ after;
    modemDeltas_ |= uint8_t((changed & (kCts | kDsr | kDcd)) >> 4);
    if (changed & before & kRi) modemDeltas_ |= kRi >> 4;  // only the trailing edge counts
    updateIrq();
    if (!lineTimer_.armed()) takeFromInbox();
}

// -- interrupts

uint8_t Uart16550::interruptId() const {
    if ((ier_ & kIerLineStatus) && lineErrors_) return kLineStatus;
    if ((ier_ & kIerReceived) && count_ >= trigger()) return kReceived;
    if ((ier_ & kIerReceived) && timeoutPending_) return kTimeout;
    if ((ier_ & kIerThrEmpty) && thrEmptyPending_) return kThrEmpty;
    if ((ier_ & kIerModemStatus) && modemDeltas_) return kModemStatus;
    return kNone;
}

void Uart16550::updateIrq() {
    lineStatus_ = uint8_t(kThrIsEmpty | kTransmitterEmpty | lineErrors_ | (count_ ? kDataReady : 0));
    irq_.set(interruptId() != kNone && (mcr_ & kOut2));
}

uint8_t Uart16550::readIir() {
    uint8_t id = interruptId();
    if (id == kThrEmpty) thrEmptyPending_ = false;
    updateIrq();
    return uint8_t(id | (fifoEnabled() ? 0xC0 : 0));
}

uint8_t Uart16550::readLsr() {
    const uint8_t value = lineStatus_;
    lineErrors_ = 0;
    updateIrq();
    return value;
}

uint8_t Uart16550::readMsr() {
    uint8_t value = uint8_t(modemStatus() | modemDeltas_);
    modemDeltas_ = 0;
    updateIrq();
    return value;
}

// -- registers

void Uart16550::writeFcr(uint8_t value) {
    bool toggled = (value ^ fcr_) & 1;
    if (toggled || ((value & 1) && (value & 2))) clearReceiver();
    fcr_ = value & 1 ? value & 0xC9 : 0;  // the other bits count only together with bit 0
    updateIrq();
    if (!lineTimer_.armed()) takeFromInbox();
}

uint8_t Uart16550::readByte(uint64_t offset) {
    bool dlab = lcr_ & kDlab;
    switch (offset) {
        case 0: return dlab ? uint8_t(divisor_) : pop();
        case 1: return dlab ? uint8_t(divisor_ >> 8) : ier_;
        case 2: return readIir();
        case 3: return lcr_;
        case 4: return mcr_;
        case 5: return readLsr();
        case 6: return readMsr();
        case 7: return scratch_;
        default: return 0xFF;
    }
}

// The line status takes errors with it; the others that change nothing depend on DLAB or never do.
DirectRegister Uart16550::direct(uint64_t offset, unsigned size, bool write) {
    using S = RegisterSteps;
    if (size != 1) return {};
    switch (offset) {
        case 0: {
            if (!write) return {};
            // As transmit().
            S s(this);
            s.add(S::Op::Move, S::Word, s.field(plainTransmit_));
            s.add(S::Op::RequireEqual, S::Word, S::constant(1));
            s.add(S::Op::RequireOther, S::Value, S::constant('\n'));
            s.add(S::Op::Move, S::Offset, s.field(outboxCount_));
            s.add(S::Op::RequireBelow, S::Offset, S::constant(outbox_.size() - 1));
            s.add(S::Op::And, S::Value, s.field(dataBits_));
            s.add(S::Op::Store, S::Value, s.element(outbox_, S::Offset));
            s.add(S::Op::Add, S::Offset, S::constant(1)).add(S::Op::Store, S::Offset, s.field(outboxCount_));
            s.add(S::Op::Store, S::Word, s.field(thrEmptyPending_));
            return DirectRegister::by(std::move(s));
        }
        case 3: return write ? DirectRegister{} : DirectRegister::at(lcr_);
        case 4: return write ? DirectRegister{} : DirectRegister::at(mcr_);
        case 5: {
            if (write) return DirectRegister::always(0);
            DirectRegister r = DirectRegister::at(lineStatus_).unless(lineStatus_);
            r.guardMask = kLineErrors;
            return r;
        }
        case 7: return DirectRegister::at(scratch_);
        default: return {};
    }
}

void Uart16550::writeByte(uint64_t offset, uint8_t value) {
    bool dlab = lcr_ & kDlab;
    switch (offset) {
        case 0:
            if (dlab)
                divisor_ = uint16_t((divisor_ & 0xFF00) | value);
            else
                transmit(value);
            break;
        case 1:
            if (dlab) {
                divisor_ = uint16_t((divisor_ & 0xFF) | value << 8);
                break;
            }
            if ((value & ~ier_) & kIerThrEmpty)
                thrEmptyPending_ = true;  // it is empty, and now somebody asks
            ier_ = value & 0x0F;
            settingsChanged();
            updateIrq();
            break;
        case 2: writeFcr(value); break;
        case 3:
            lcr_ = value;
            settingsChanged();
            break;
        case 4: writeMcr(value); break;
        case 7: scratch_ = value; break;
        default: break;
    }
}

}  // namespace kiln
