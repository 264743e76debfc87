// The human monitor: the machine as a whole.
#include "devices/board.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/options.hpp"
#include "frontend/screenshot.hpp"

namespace kiln {

namespace {

std::string quit(Monitor& monitor, const MonitorArguments&) {
    monitor.machine.requestExit(0);
    return {};
}

std::string stop(Monitor& monitor, const MonitorArguments&) {
    monitor.machine.stop();
    return {};
}

std::string resume(Monitor& monitor, const MonitorArguments&) {
    monitor.machine.resume();
    return {};
}

std::string reset(Monitor& monitor, const MonitorArguments&) {
    monitor.machine.requestReset("monitor");
    return {};
}

std::string powerdown(Monitor& monitor, const MonitorArguments&) {
    monitor.machine.pressPowerButton();
    return {};
}

std::string wakeup(Monitor& monitor, const MonitorArguments&) {
    monitor.machine.wake();
    return {};
}

std::string screendump(Monitor& monitor, const MonitorArguments& a) {
    if (a.empty()) return "screendump needs a file name\n";
    const Frame* frame = monitor.machine.board().render(true);
    if (!frame) return "there is no display adapter\n";
    std::string error;
    return writePng(a[0], *frame, error) ? std::string() : error + "\n";
}

std::string infoVersion(Monitor&, const MonitorArguments&) { return std::string("kiln ") + kVersion + "\n"; }

std::string infoStatus(Monitor& monitor, const MonitorArguments&) {
    return fmt::format("{}, {} instructions, {:.3f} s\n",
                       monitor.machine.stopped()     ? "stopped"
                       : monitor.machine.suspended() ? "suspended"
                                                     : "running",
                       monitor.machine.executed(), double(monitor.machine.clock().now()) / 1e9);
}

std::string infoScreen(Monitor& monitor, const MonitorArguments&) {
    std::string text = monitor.machine.board().screenText();
    if (text.empty()) return "the screen shows graphics\n";
    return text.back() == '\n' ? text : text + "\n";
}

}  // namespace

MonitorTable machineCommands() {
    static constexpr MonitorCommand kRows[] = {
        {"quit|q", "", "ends kiln", quit},
        {"stop", "", "stops the machine", stop},
        {"cont|c", "", "lets it go on", resume},
        {"system_reset", "", "the reset button", reset},
        {"system_powerdown", "", "the power button", powerdown},
        {"system_wakeup", "", "ends the guest's suspend to RAM, as a key does", wakeup},
        {"screendump", "FILE", "writes the screen to a PNG file", screendump},
    };
    return kRows;
}

MonitorTable machineInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"status", "", "running or stopped", infoStatus},
        {"version", "", "of kiln", infoVersion},
        {"screen", "", "the characters of a text screen", infoScreen},
    };
    return kRows;
}

}  // namespace kiln
