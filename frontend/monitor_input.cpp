// The human monitor: keyboard and mouse.
#include "devices/board.hpp"
#include "frontend/key_map.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

constexpr Nanos kMillisecond = kSecond / 1000;

std::string sendkey(Monitor& monitor, const MonitorArguments& a) {
    const std::vector<uint8_t> keys = a.empty() ? std::vector<uint8_t>() : keysByChord(a[0]);
    if (keys.empty()) return "sendkey needs the names of keys, such as ctrl-alt-delete\n";
    if (keys.size() > KeyTyper::kMostTogether) return "that many keys can't be pressed together\n";
    uint64_t hold = KeyTyper::kHold / kMillisecond;
    if (a.size() > 1 && (!parseNumber(a[1], hold) || !hold || hold > 60'000))
        return "the time to hold the keys is a number of milliseconds, 1 to 60000\n";
    monitor.typer.press(keys, hold * kMillisecond);
    return {};
}

std::string type(Monitor& monitor, const MonitorArguments& a) {
    constexpr uint8_t kLeftShift = 0xe1;
    const std::string& text = a[0];
    for (size_t i = 0; i < text.size(); i++) {
        char c = text[i];
        if (c == '\\' && i + 1 < text.size()) c = text[++i] == 'n' ? '\n' : text[i] == 't' ? '\t' : text[i];
        auto stroke = keyStrokeOf(c);
        if (!stroke) return "a US keyboard has no key for one of the characters\n";
        if (stroke->shift) monitor.typer.add(kLeftShift, true, KeyTyper::kPause);
        monitor.typer.add(stroke->usage, true, KeyTyper::kHold);
        monitor.typer.add(stroke->usage, false, KeyTyper::kPause);
        if (stroke->shift) monitor.typer.add(kLeftShift, false, KeyTyper::kPause);
    }
    return {};
}

std::string mouseMove(Monitor& monitor, const MonitorArguments& a) {
    int d[3] = {};
    bool good = a.size() == 2 || a.size() == 3;
    for (size_t i = 0; good && i < a.size(); i++) good = parseSigned(a[i], d[i]);
    if (!good) return "mouse_move needs two or three numbers\n";
    monitor.machine.board().mouse(d[0], d[1], d[2], monitor.buttons);
    return {};
}

std::string mouseButton(Monitor& monitor, const MonitorArguments& a) {
    uint64_t bits;
    if (a.size() != 1 || !parseNumber(a[0], bits)) return "mouse_button needs a number\n";
    // As QEMU numbers them; to the mouse bit 1 is the right button.
    monitor.buttons = unsigned((bits & 1) | (bits >> 1 & 2) | (bits << 1 & 4));
    monitor.machine.board().mouse(0, 0, 0, monitor.buttons);
    return {};
}

}  // namespace

KeyTyper::KeyTyper(Clock& clock, std::function<void(uint8_t, bool)> send)
    : clock_(clock), send_(std::move(send)), timer_(clock, [this] { next(); }) {}

void KeyTyper::add(uint8_t usage, bool down, Nanos pause) {
    events_.push_back({usage, down, pause});
    if (!timer_.armed()) timer_.arm(clock_.now());
}

void KeyTyper::press(const std::vector<uint8_t>& usages, Nanos hold) {
    for (size_t i = 0; i < usages.size(); i++) add(usages[i], true, i + 1 < usages.size() ? kPause : hold);
    for (size_t i = usages.size(); i-- > 0;) add(usages[i], false, kPause);
}

void KeyTyper::next() {
    if (events_.empty()) return;
    Event e = events_.front();
    events_.pop_front();
    send_(e.usage, e.down);
    if (!events_.empty()) timer_.arm(clock_.now() + e.pause);
}

MonitorTable inputCommands() {
    static constexpr MonitorCommand kRows[] = {
        {"sendkey", "KEYS [HOLDMS]", "presses keys together, such as ctrl-alt-delete", sendkey},
        {"type", "TEXT", "types a text on a US keyboard; \\n is Enter", type},
        {"mouse_move", "DX DY [DZ]", "moves the mouse", mouseMove},
        {"mouse_button", "BITS", "1 left, 2 middle, 4 right; 0 releases", mouseButton},
    };
    return kRows;
}

}  // namespace kiln
