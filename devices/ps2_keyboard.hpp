// The PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference, "Keyboard"): scan code sets 1 and 2 and
// the usual commands.
//
// Not modelled: scan code set 3, typematic repeat (the board repeats the key that is held),
// the fake shifts around grey cursor keys, the codes of a failed self-test.
#pragma once
#include <cstdint>
#include <functional>

#include "apic/device.hpp"
#include "devices/ps2_device.hpp"
#include "devices/ps2_keymap.hpp"

namespace kiln {

class Ps2Keyboard : public Device, public Ps2Device {
  public:
    Ps2Keyboard() { reset(); }

    // A key went down or up. `usage` is a code of USB HID page 7 (0x04 is A); unknown ones are ignored.
    void key(uint8_t usage, bool down);

    uint8_t leds() const { return leds_; }  // bit 0 Scroll, 1 Num, 2 Caps Lock
    std::function<void(uint8_t leds)> onLeds;

    std::string_view name() const override { return "ps2-keyboard"; }
    void reset() override;
    void state(StateVisitor& visit) override;
    void write(uint8_t value) override;

  private:
    void setDefaults();
    void command(uint8_t value);
    void argument(uint8_t value);
    void setLeds(uint8_t leds);
    void emit(std::span<const uint8_t> set2);
    void printScreen(bool down);
    void pause(bool down);
    bool held(uint8_t modifierUsage) const { return modifiers_ >> (modifierUsage - 0xE0) & 1; }

    bool scanning_ = true;
    uint8_t set_ = 2;
    uint8_t leds_ = 0;
    uint8_t pendingCommand_ = 0;  // waits for its argument
    uint8_t modifiers_ = 0;       // bit n: usage 0xE0 + n is down
    bool sysRq_ = false;          // Print Screen went down as SysRq
};

}  // namespace kiln
