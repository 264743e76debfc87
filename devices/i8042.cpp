#include "devices/i8042.hpp"

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

enum CommandByte : uint8_t {
    kIrq1 = 0x01,
    kIrq12 = 0x02,
    kSystem = 0x04,
    kKeyboardOff = 0x10,
    kMouseOff = 0x20,
    kTranslate = 0x40
};
enum Status : uint8_t {
    kOutputFull = 0x01,
    kSystemFlag = 0x04,
    kCommandLast = 0x08,
    kNotLocked = 0x10,
    kAuxFull = 0x20
};
enum OutputPort : uint8_t {
    kNoReset = 0x01,
    kA20 = 0x02,
    kIrq1Out = 0x10,
    kIrq12Out = 0x20,
    kIdleLines = 0xC0
};

// Time between reading a byte and the next one from a device. Interrupt handlers that chain to the BIOS read
// port 0x60 twice and count on the same byte; real devices need about a millisecond.
constexpr Nanos kByteTime = 300'000;

}  // namespace

I8042::I8042(Clock& clock, IrqInput& irq1, IrqInput& irq12)
    : clock_(clock), irq1_(irq1), irq12_(irq12), timer_(clock, [this] { load(); }), mouse_(clock) {
    keyboard_.onByte = mouse_.onByte = [this] { load(); };
    reset();
}

void I8042::reset() {
    keyboard_.reset();
    mouse_.reset();
    // What firmware leaves behind, for guests that are started without one.
    commandByte_ = kIrq1 | kSystem | kMouseOff | kTranslate;
    ram_ = {};
    pendingCommand_ = 0;
    lastWasCommand_ = false;
    systemFlag_ = false;
    data_ = 0;
    full_ = fromAux_ = false;
    responses_.clear();
    responseSources_.clear();
    translator_ = {};
    nextByte_ = 0;
    timer_.disarm();
    setA20(true);
    updateIrqs();
}

void I8042::state(StateVisitor& visit) {
    keyboard_.state(visit);
    mouse_.state(visit);
    visit("commandByte", commandByte_);
    visit("ram", ram_);
    visit("pendingCommand", pendingCommand_);
    visit("lastWasCommand", lastWasCommand_);
    visit("systemFlag", systemFlag_);
    visit("data", data_);
    visit("full", full_);
    visit("fromAux", fromAux_);
    responses_.state(visit, "responses");
    responseSources_.state(visit, "responseSources");
    visit("breakSeen", translator_.breakSeen);
    visit("nextByte", nextByte_);
    visit("a20", a20_);
    visitTimer(visit, "timer", timer_);
    updateStatus();
}

// -- the output buffer

void I8042::updateIrqs() {
    updateStatus();
    irq1_.set(full_ && !fromAux_ && (commandByte_ & kIrq1) && !(commandByte_ & kKeyboardOff));
    irq12_.set(full_ && fromAux_ && (commandByte_ & kIrq12));
}

void I8042::fill(uint8_t value, bool fromAux) {
    data_ = value;
    full_ = true;
    fromAux_ = fromAux;
    updateIrqs();
}

void I8042::respond(uint8_t value, bool fromAux) {
    responses_.push(value);
    responseSources_.push(fromAux);
    load();
}

bool I8042::loadFromKeyboard() {
    while (keyboard_.hasByte()) {
        uint8_t value = keyboard_.take();
        if (!(commandByte_ & kTranslate)) return fill(value, false), true;
        if (auto code = translator_.feed(value)) return fill(*code, false), true;
    }
    return false;
}

void I8042::load() {
    if (full_) return;
    if (responses_.size()) {
        uint8_t value = responses_.pop();
        return fill(value, responseSources_.pop());
    }
    bool keyboard = keyboard_.hasByte() && !(commandByte_ & kKeyboardOff);
    bool mouse = mouse_.hasByte() && !(commandByte_ & kMouseOff);
    if (!keyboard && !mouse) return;
    if (clock_.now() < nextByte_) return timer_.arm(nextByte_);
    if (keyboard && loadFromKeyboard()) return;
    if (!mouse) return;
    full_ = true;  // taking a byte makes the mouse produce, and call back
    fill(mouse_.take(), true);
}

uint8_t I8042::readData() {
    uint8_t value = data_;  // an empty buffer reads its old byte
    if (!full_) return value;
    full_ = false;
    nextByte_ = clock_.now() + kByteTime;
    updateIrqs();
    load();
    return value;
}

uint8_t I8042::status() const {
    return uint8_t((full_ ? kOutputFull : 0) | (full_ && fromAux_ ? kAuxFull : 0) |
                   (systemFlag_ ? kSystemFlag : 0) | (lastWasCommand_ ? kCommandLast : 0) | kNotLocked);
}

// -- A20 and reset

void I8042::setA20(bool enabled) {
    if (enabled == a20_) return;
    a20_ = enabled;
    if (onA20) onA20(enabled);
}

void I8042::resetCpu() {
    if (onReset) onReset();
}

uint8_t I8042::outputPort() const {
    return uint8_t(kNoReset | (a20_ ? kA20 : 0) | (irq1_.level() ? kIrq1Out : 0) |
                   (irq12_.level() ? kIrq12Out : 0) | kIdleLines);
}

void I8042::setOutputPort(uint8_t value) {
    setA20(value & kA20);
    if (!(value & kNoReset)) resetCpu();
}

// -- commands

void I8042::setCommandByte(uint8_t value) {
    commandByte_ = value & 0x7F;
    systemFlag_ = value & kSystem;
    updateIrqs();
    load();
}

void I8042::command(uint8_t value) {
    lastWasCommand_ = true;
    pendingCommand_ = 0;
    if (value >= 0x20 && value <= 0x3F) return respond(value == 0x20 ? commandByte_ : ram_[value & 0x1F]);
    if (value >= 0x60 && value <= 0x7F) {
        pendingCommand_ = value;
        return;
    }
    if (value >= 0xF0) {  // pulses output port lines; only the reset line matters
        if (!(value & 1)) resetCpu();
        return;
    }
    switch (value) {
        case 0xA4: return respond(0xF1);  // no password is set
        case 0xA7: return setCommandByte(commandByte_ | kMouseOff);
        case 0xA8: return setCommandByte(uint8_t(commandByte_ & ~kMouseOff));
        case 0xA9:
        case 0xAB: return respond(0x00);  // the interface works
        case 0xAA:
            systemFlag_ = true;
            commandByte_ |= kSystem;
            return respond(0x55);
        case 0xAD: return setCommandByte(commandByte_ | kKeyboardOff);
        case 0xAE: return setCommandByte(uint8_t(commandByte_ & ~kKeyboardOff));
        case 0xC0: return respond(0x80);  // input port: not locked
        case 0xD0: return respond(outputPort());
        case 0xD1:
        case 0xD2:
        case 0xD3:
        case 0xD4: pendingCommand_ = value; return;
        case 0xDD: return setA20(false);
        case 0xDF: return setA20(true);
        case 0xE0: return respond(0x00);
        default: return;
    }
}

void I8042::writeData(uint8_t value) {
    lastWasCommand_ = false;
    uint8_t command = pendingCommand_;
    pendingCommand_ = 0;
    if (command) return commandArgument(command, value);
    commandByte_ &= uint8_t(~kKeyboardOff);  // sending opens the interface
    keyboard_.write(value);
}

void I8042::commandArgument(uint8_t command, uint8_t value) {
    switch (command) {
        case 0x60: return setCommandByte(value);
        case 0xD1: return setOutputPort(value);
        case 0xD2: return respond(value);
        case 0xD3: return respond(value, true);
        case 0xD4:
            commandByte_ &= uint8_t(~kMouseOff);
            mouse_.write(value);
            return;
        default: ram_[command & 0x1F] = value;
    }
}

// -- ports

uint8_t I8042::readByte(uint64_t offset) {
    switch (offset) {
        case 0: return readData();
        case 4: return status_;
        case kPort92: return a20_ ? 0x02 : 0x00;
        default: return 0xFF;
    }
}

DirectRegister I8042::direct(uint64_t offset, unsigned size, bool write) {
    return offset == 4 && size == 1 && !write ? DirectRegister::at(status_) : DirectRegister{};
}

void I8042::writeByte(uint64_t offset, uint8_t value) {
    switch (offset) {
        case 0: writeData(value); break;
        case 4: command(value); break;
        case kPort92:
            setA20(value & 2);
            if (value & 1) resetCpu();
            break;
        default: break;
    }
    updateStatus();
}

}  // namespace kiln
