// The human monitor: the machine as a whole.
#include "devices/board.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"
#include "frontend/options.hpp"
#include "frontend/run_state_names.hpp"
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
    if (monitor.machine.resume()) return {};
    return "the machine is switched off: 'system_reset' starts it anew, then 'cont' lets it go on\n";
}

std::string reset(Monitor& monitor, const MonitorArguments&) {
    monitor.machine.requestReset("monitor", MachineCause::HostReset);
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

std::string nmi(Monitor& monitor, const MonitorArguments&) {
    monitor.machine.injectNmi();
    return {};
}

std::string screendump(Monitor& monitor, const MonitorArguments& a) {
    const bool chosen = a.size() == 3 && a[0] == "-f";
    if (a.size() != 1 && !chosen) return "screendump needs a file name\n";
    if (chosen && a[1] != "png" && a[1] != "ppm") return "screendump -f takes png or ppm\n";
    const Frame* frame = monitor.machine.board().render(true);
    if (!frame) return "there is no display adapter\n";
    PictureFormat format = pictureFormatOf(a.back());
    if (chosen) format = a[1] == "ppm" ? PictureFormat::Ppm : PictureFormat::Png;
    std::string error;
    return writePicture(a.back(), *frame, format, error) ? std::string() : error + "\n";
}

std::string infoName(Monitor& monitor, const MonitorArguments&) {
    return monitor.facts.name.empty() ? std::string() : monitor.facts.name + "\n";
}

std::string infoUuid(Monitor&, const MonitorArguments&) { return std::string(kNoUuid) + "\n"; }
std::string infoKvm(Monitor&, const MonitorArguments&) { return "kvm support: not compiled\n"; }

std::string infoChardev(Monitor& monitor, const MonitorArguments&) {
    std::string out;
    for (const StreamFacts& s : monitor.facts.streams)
        out += fmt::format("{}: filename={}\n", s.label, s.target);
    return out;
}

std::string infoVersion(Monitor&, const MonitorArguments&) { return std::string("kiln ") + kVersion + "\n"; }

std::string infoStatus(Monitor& monitor, const MonitorArguments&) {
    const RunState state = monitor.machine.runState();
    const bool plain = state == RunState::Running || state == RunState::Paused;
    const std::string why = plain ? "" : fmt::format(" ({})", nameOf(state));
    return fmt::format("VM status: {}{}\n{} instructions, {:.3f} s\n",
                       state == RunState::Running ? "running" : "paused", why, monitor.machine.executed(),
                       double(monitor.machine.clock().now()) / 1e9);
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
        {"screendump", "[-f png|ppm] FILE", "writes the screen to a picture; PNG, or as the name says",
         screendump},
        {"nmi", "", "a non-maskable interrupt to every processor", nmi},
    };
    return kRows;
}

MonitorTable machineInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"status", "", "running or stopped", infoStatus},
        {"name", "", "of the machine (-name)", infoName},
        {"uuid", "", "of the machine; it has none", infoUuid},
        {"kvm", "", "there is none", infoKvm},
        {"chardev", "", "serial ports and monitors, and where their bytes go", infoChardev},
        {"version", "", "of kiln", infoVersion},
        {"screen", "", "the characters of a text screen", infoScreen},
    };
    return kRows;
}

}  // namespace kiln
