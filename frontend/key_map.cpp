#include "frontend/key_map.hpp"

#include <algorithm>
#include <array>

namespace kiln {

namespace {

struct NamedKey {
    std::string_view name;
    uint8_t usage;
};

constexpr NamedKey kNamedKeys[] = {
    {"ret", 0x28},       {"enter", 0x28},        {"esc", 0x29},           {"backspace", 0x2A},
    {"tab", 0x2B},       {"spc", 0x2C},          {"space", 0x2C},         {"minus", 0x2D},
    {"equal", 0x2E},     {"bracket_left", 0x2F}, {"bracket_right", 0x30}, {"backslash", 0x31},
    {"semicolon", 0x33}, {"apostrophe", 0x34},   {"grave_accent", 0x35},  {"comma", 0x36},
    {"dot", 0x37},       {"slash", 0x38},        {"caps_lock", 0x39},     {"print", 0x46},
    {"sysrq", 0x46},     {"scroll_lock", 0x47},  {"pause", 0x48},         {"insert", 0x49},
    {"home", 0x4A},      {"pgup", 0x4B},         {"delete", 0x4C},        {"end", 0x4D},
    {"pgdn", 0x4E},      {"right", 0x4F},        {"left", 0x50},          {"down", 0x51},
    {"up", 0x52},        {"num_lock", 0x53},     {"kp_divide", 0x54},     {"kp_multiply", 0x55},
    {"asterisk", 0x55},  {"kp_subtract", 0x56},  {"kp_add", 0x57},        {"kp_enter", 0x58},
    {"kp_1", 0x59},      {"kp_2", 0x5A},         {"kp_3", 0x5B},          {"kp_4", 0x5C},
    {"kp_5", 0x5D},      {"kp_6", 0x5E},         {"kp_7", 0x5F},          {"kp_8", 0x60},
    {"kp_9", 0x61},      {"kp_0", 0x62},         {"kp_decimal", 0x63},    {"less", 0x64},
    {"compose", 0x65},   {"menu", 0x65},         {"ctrl", 0xE0},          {"shift", 0xE1},
    {"alt", 0xE2},       {"meta_l", 0xE3},       {"ctrl_r", 0xE4},        {"shift_r", 0xE5},
    {"alt_r", 0xE6},     {"altgr", 0xE6},        {"meta_r", 0xE7},
};

// The printing keys outside letters and digits: usage, plain and shifted character.
struct PrintingKey {
    uint8_t usage;
    char plain, shifted;
};
constexpr PrintingKey kPrintingKeys[] = {
    {0x28, '\n', 0},   {0x28, '\r', 0},  {0x29, '\x1B', 0}, {0x2A, '\b', 0},  {0x2B, '\t', 0},
    {0x2C, ' ', 0},    {0x2D, '-', '_'}, {0x2E, '=', '+'},  {0x2F, '[', '{'}, {0x30, ']', '}'},
    {0x31, '\\', '|'}, {0x33, ';', ':'}, {0x34, '\'', '"'}, {0x35, '`', '~'}, {0x36, ',', '<'},
    {0x37, '.', '>'},  {0x38, '/', '?'},
};
constexpr std::string_view kShiftedDigits = ")!@#$%^&*(";

constexpr uint8_t letterUsage(char lower) { return uint8_t(0x04 + (lower - 'a')); }
constexpr uint8_t digitUsage(unsigned digit) { return digit == 0 ? 0x27 : uint8_t(0x1E + digit - 1); }
bool isDigit(char c) { return c >= '0' && c <= '9'; }

std::optional<uint8_t> functionKey(std::string_view name) {
    if (name.size() < 2 || name.size() > 3 || name[0] != 'f') return {};
    unsigned number = 0;
    for (char c : name.substr(1)) {
        if (!isDigit(c)) return {};
        number = number * 10 + unsigned(c - '0');
    }
    if (number >= 1 && number <= 12) return uint8_t(0x3A + number - 1);
    if (number >= 13 && number <= 24) return uint8_t(0x68 + number - 13);
    return {};
}

}  // namespace

std::optional<uint8_t> keyByName(std::string_view name) {
    if (name.size() == 1) {
        if (name[0] >= 'a' && name[0] <= 'z') return letterUsage(name[0]);
        if (isDigit(name[0])) return digitUsage(unsigned(name[0] - '0'));
        return {};
    }
    if (auto f = functionKey(name)) return f;
    auto* key = std::find_if(std::begin(kNamedKeys), std::end(kNamedKeys),
                             [&](const NamedKey& k) { return k.name == name; });
    if (key == std::end(kNamedKeys)) return {};
    return key->usage;
}

std::vector<uint8_t> keysByChord(std::string_view chord) {
    std::vector<uint8_t> keys;
    while (true) {
        size_t dash = chord.find('-');
        auto key = keyByName(chord.substr(0, dash));
        if (!key) return {};
        keys.push_back(*key);
        if (dash == std::string_view::npos) return keys;
        chord.remove_prefix(dash + 1);
    }
}

std::optional<KeyStroke> keyStrokeOf(char c) {
    if (c >= 'a' && c <= 'z') return KeyStroke{letterUsage(c), false};
    if (c >= 'A' && c <= 'Z') return KeyStroke{letterUsage(char(c - 'A' + 'a')), true};
    if (isDigit(c)) return KeyStroke{digitUsage(unsigned(c - '0')), false};
    if (size_t digit = kShiftedDigits.find(c); c && digit != std::string_view::npos)
        return KeyStroke{digitUsage(unsigned(digit)), true};
    for (const PrintingKey& key : kPrintingKeys) {
        if (key.plain == c) return KeyStroke{key.usage, false};
        if (key.shifted && key.shifted == c) return KeyStroke{key.usage, true};
    }
    return {};
}

}  // namespace kiln
