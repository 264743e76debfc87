// Keys by name and by character, as USB HID usages (HID Usage Tables, page 7).
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace kiln {

// The usage of a key named as in QEMU's `sendkey`: "a", "ret", "f1", "ctrl", "shift_r", "kp_enter", ...
std::optional<uint8_t> keyByName(std::string_view name);

// The keys of a chord such as "ctrl-alt-delete", in the order to press them. Empty when a name is unknown.
std::vector<uint8_t> keysByChord(std::string_view chord);

// How a US keyboard types `character` (printable ASCII, newline, tab, backspace, escape).
struct KeyStroke {
    uint8_t usage;
    bool shift;
};
std::optional<KeyStroke> keyStrokeOf(char character);

}  // namespace kiln
