#include "devices/ps2_keyboard.hpp"

namespace kiln {

namespace {
constexpr uint8_t kBreak = 0xF0, kExtended = 0xE0;
// When a guest reads nothing, presses are dropped first: a lost release would leave a key stuck.
constexpr size_t kReservedForBreaks = 128;
}  // namespace

void Ps2Keyboard::reset() {
    clearQueues();
    setDefaults();
    pendingCommand_ = 0;
    modifiers_ = 0;
    sysRq_ = false;
    setLeds(0);
}

void Ps2Keyboard::state(StateVisitor& visit) {
    queueState(visit);
    visit("scanning", scanning_);
    visit("set", set_);
    visit("leds", leds_);
    visit("pendingCommand", pendingCommand_);
    visit("modifiers", modifiers_);
    visit("sysRq", sysRq_);
}

void Ps2Keyboard::setDefaults() {
    scanning_ = true;
    set_ = 2;
}

void Ps2Keyboard::setLeds(uint8_t leds) {
    leds_ = leds & 7;
    if (onLeds) onLeds(leds_);
}

// -- commands

void Ps2Keyboard::write(uint8_t value) {
    // A command in place of an argument ends the waiting.
    if (pendingCommand_ && value < 0x80)
        argument(value);
    else
        command(value);
}

void Ps2Keyboard::command(uint8_t value) {
    pendingCommand_ = 0;
    switch (value) {
        case 0xED:  // LEDs
        case 0xF0:  // scan code set
        case 0xF3:  // typematic rate
            pendingCommand_ = value;
            return reply({kAck});
        case 0xEE: return reply({0xEE});
        case 0xF2: return reply({kAck, 0xAB, 0x83});
        case 0xF4:
            scanning_ = true;
            clearData();
            return reply({kAck});
        case 0xF5:
            setDefaults();
            scanning_ = false;
            clearData();
            return reply({kAck});
        case 0xF6:
            setDefaults();
            clearData();
            return reply({kAck});
        case 0xF7:  // key types: only scan code set 3 has them
        case 0xF8:
        case 0xF9:
        case 0xFA: return reply({kAck});
        case kResend: return reply({last()});
        case 0xFF: reset(); return reply({kAck, kTestPassed});
        default: return reply({kResend});
    }
}

void Ps2Keyboard::argument(uint8_t value) {
    uint8_t command = pendingCommand_;
    pendingCommand_ = 0;
    if (command == 0xED) setLeds(value);
    if (command != 0xF0) return reply({kAck});
    if (value == 0) return reply({kAck, set_});
    if (value > 2) return reply({kResend});
    set_ = value;
    clearData();
    reply({kAck});
}

// -- keys

void Ps2Keyboard::emit(std::span<const uint8_t> set2) {
    if (!scanning_) return;
    if (set_ == 2) {
        send(set2);
        return;
    }
    std::array<uint8_t, 8> bytes;
    size_t count = 0;
    ScanTranslator translator;
    for (uint8_t b : set2)
        if (auto code = translator.feed(b)) bytes[count++] = *code;
    send({bytes.data(), count});
}

void Ps2Keyboard::key(uint8_t usage, bool down) {
    if (usage >= 0xE0 && usage <= 0xE7) {
        uint8_t bit = uint8_t(1 << (usage - 0xE0));
        modifiers_ = uint8_t(down ? modifiers_ | bit : modifiers_ & ~bit);
    }
    if (usage == kHidPrintScreen) return printScreen(down);
    if (usage == kHidPause) return pause(down);
    uint16_t code = set2Code(usage);
    bool makeOnly = usage == kHidLang1 || usage == kHidLang2;
    if (!code || (makeOnly && !down)) return;
    if (down && dataRoom() < kReservedForBreaks) return;
    std::array<uint8_t, 3> bytes;
    size_t count = 0;
    if (code & 0x100) bytes[count++] = kExtended;
    if (!down) bytes[count++] = kBreak;
    bytes[count++] = uint8_t(code);
    emit({bytes.data(), count});
}

// With Alt it is SysRq, with Shift or Control it needs no fake shift.
void Ps2Keyboard::printScreen(bool down) {
    if (down) sysRq_ = held(kHidLeftAlt) || held(kHidRightAlt);
    bool plain =
        held(kHidLeftShift) || held(kHidRightShift) || held(kHidLeftControl) || held(kHidRightControl);
    if (sysRq_)
        down ? emit(std::array<uint8_t, 1>{0x84}) : emit(std::array<uint8_t, 2>{0xF0, 0x84});
    else if (plain)
        down ? emit(std::array<uint8_t, 2>{0xE0, 0x7C}) : emit(std::array<uint8_t, 3>{0xE0, 0xF0, 0x7C});
    else if (down)
        emit(std::array<uint8_t, 4>{0xE0, 0x12, 0xE0, 0x7C});
    else
        emit(std::array<uint8_t, 6>{0xE0, 0xF0, 0x7C, 0xE0, 0xF0, 0x12});
}

// Make and break at once when it goes down; with Control it is Break.
void Ps2Keyboard::pause(bool down) {
    if (!down) return;
    if (held(kHidLeftControl) || held(kHidRightControl))
        emit(std::array<uint8_t, 5>{0xE0, 0x7E, 0xE0, 0xF0, 0x7E});
    else
        emit(std::array<uint8_t, 8>{0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77});
}

}  // namespace kiln
