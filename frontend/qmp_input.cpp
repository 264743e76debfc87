// The machine protocol: keyboard and mouse. There is no pointing device with absolute coordinates.
#include <fmt/format.h>

#include <algorithm>

#include "devices/board.hpp"
#include "devices/ps2_keymap.hpp"
#include "frontend/key_map.hpp"
#include "frontend/qmp_tables.hpp"

namespace kiln {

namespace {

const Json& member(const Json& object, const char* name) {
    const auto found = object.is_object() ? object.find(name) : object.end();
    if (!object.is_object() || found == object.end())
        throw QmpError{fmt::format("Parameter '{}' is missing", name)};
    return *found;
}

std::string textOf(const Json& object, const char* name) {
    const Json& v = member(object, name);
    if (!v.is_string())
        throw QmpError{fmt::format("Invalid parameter type for '{}', expected: string", name)};
    return v;
}

bool flagOf(const Json& object, const char* name) {
    const Json& v = member(object, name);
    if (!v.is_boolean())
        throw QmpError{fmt::format("Invalid parameter type for '{}', expected: boolean", name)};
    return v;
}

int64_t numberOf(const Json& object, const char* name) {
    const Json& v = member(object, name);
    if (!v.is_number_integer())
        throw QmpError{fmt::format("Invalid parameter type for '{}', expected: integer", name)};
    return v;
}

// {"type": "qcode", "data": "ret"}, or "number" and a scan code.
uint8_t keyOf(const Json& key) {
    const std::string type = textOf(key, "type");
    if (type == "number") {
        const int64_t code = numberOf(key, "data");
        const uint8_t usage = code > 0 && code <= 0xff ? usageOfSet1(uint8_t(code)) : 0;
        if (!usage) throw QmpError{fmt::format("There is no key with the number {}", code)};
        return usage;
    }
    if (type != "qcode") throw QmpError{fmt::format("Parameter 'type' does not accept value '{}'", type)};
    const std::string name = textOf(key, "data");
    const auto usage = keyByName(name);
    if (!usage) throw QmpError{fmt::format("Parameter 'data' does not accept value '{}'", name)};
    return *usage;
}

Json sendKey(Monitor& monitor, const Json& a) {
    constexpr int64_t kLongestHold = 60'000;
    Nanos hold = KeyTyper::kHold;
    if (a.contains("hold-time"))
        hold = std::clamp<int64_t>(a["hold-time"], 1, kLongestHold) * (kSecond / 1000);
    std::vector<uint8_t> keys;
    for (const Json& key : a["keys"]) keys.push_back(keyOf(key));
    if (keys.empty() || keys.size() > KeyTyper::kMostTogether)
        throw QmpError{"Parameter 'keys' expects 1 to 16 keys"};
    monitor.typer.press(keys, hold);
    return Json::object();
}

// -- input-send-event. Everything is looked at before anything is done.

struct Act {
    enum Kind { Key, Button, Move } kind;
    uint8_t key = 0;
    bool down = false;
    unsigned buttons = 0;
    int dx = 0, dy = 0, wheel = 0;
};

Act keyEvent(const Json& data) {
    return {.kind = Act::Key, .key = keyOf(member(data, "key")), .down = flagOf(data, "down")};
}

Act buttonEvent(const Json& data) {
    struct Button {
        const char* name;
        unsigned bits;
        int wheel;
    };
    static constexpr Button kButtons[] = {{"left", 1, 0},      {"right", 2, 0},  {"middle", 4, 0},
                                          {"side", 8, 0},      {"extra", 16, 0}, {"wheel-up", 0, -1},
                                          {"wheel-down", 0, 1}};
    const std::string name = textOf(data, "button");
    const bool down = flagOf(data, "down");
    for (const Button& b : kButtons)
        if (name == b.name)
            return {.kind = Act::Button, .down = down, .buttons = b.bits, .wheel = down ? b.wheel : 0};
    throw QmpError{fmt::format("Parameter 'button' does not accept value '{}'", name)};
}

Act moveEvent(const Json& data) {
    const std::string axis = textOf(data, "axis");
    const int value = int(std::clamp<int64_t>(numberOf(data, "value"), -32768, 32767));
    if (axis == "x") return {.kind = Act::Move, .dx = value};
    if (axis == "y") return {.kind = Act::Move, .dy = value};
    throw QmpError{fmt::format("Parameter 'axis' does not accept value '{}'", axis)};
}

Act actOf(const Json& event) {
    const std::string type = textOf(event, "type");
    if (type == "key") return keyEvent(member(event, "data"));
    if (type == "btn") return buttonEvent(member(event, "data"));
    if (type == "rel") return moveEvent(member(event, "data"));
    if (type == "abs") throw QmpError{"Input handler not found for event type abs"};
    throw QmpError{fmt::format("Parameter 'type' does not accept value '{}'", type)};
}

void perform(Monitor& monitor, const Act& act) {
    Board& board = monitor.machine.board();
    if (act.kind == Act::Key) return board.key(act.key, act.down);
    if (act.kind == Act::Button)
        monitor.buttons = act.down ? monitor.buttons | act.buttons : monitor.buttons & ~act.buttons;
    board.mouse(act.dx, act.dy, act.wheel, monitor.buttons);
}

Json inputSendEvent(Monitor& monitor, const Json& a) {
    if (a.contains("device") || a.contains("head"))
        throw QmpError{"There is one screen: 'device' and 'head' are not to be given"};
    std::vector<Act> acts;
    for (const Json& event : a["events"]) acts.push_back(actOf(event));
    for (const Act& act : acts) perform(monitor, act);
    return Json::object();
}

Json queryMice(Monitor&, const Json&) {
    return Json::array({{{"name", "PS/2 mouse"}, {"index", 0}, {"current", true}, {"absolute", false}}});
}

}  // namespace

QmpTable qmpInputCommands() {
    static constexpr QmpCommand kRows[] = {
        {"send-key", "keys:list hold-time?:int", sendKey},
        {"input-send-event", "device?:str head?:int events:list", inputSendEvent},
        {"query-mice", "", queryMice},
    };
    return kRows;
}

}  // namespace kiln
