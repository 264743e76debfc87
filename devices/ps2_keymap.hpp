// Scan codes: from USB HID usages to AT scan code set 2 (the "USB HID to PS/2 scan code translation table"),
// and the controller's translation from set 2 to set 1.
#pragma once
#include <cstdint>
#include <optional>

namespace kiln {

// Names for the usages of HID page 7 (keyboard) that have behaviour of their own.
enum HidUsage : uint8_t {
    kHidPrintScreen = 0x46,
    kHidPause = 0x48,
    kHidLang1 = 0x90,
    kHidLang2 = 0x91,
    kHidLeftControl = 0xE0,
    kHidLeftShift = 0xE1,
    kHidLeftAlt = 0xE2,
    kHidRightControl = 0xE4,
    kHidRightShift = 0xE5,
    kHidRightAlt = 0xE6,
};

// Set 2 make code; bit 8 asks for the prefix E0. 0 when no PS/2 keyboard has such a key.
uint16_t set2Code(uint8_t usage);
// The key with this make code of set 1, bit 7 standing for the prefix E0; 0 when there is none.
uint8_t usageOfSet1(uint8_t code);

// The byte stream of set 2 turned into set 1: F0 becomes bit 7 of the next code.
struct ScanTranslator {
    bool breakSeen = false;
    std::optional<uint8_t> feed(uint8_t value);
};

}  // namespace kiln
