// The human monitor: the debug log (mmu/log.hpp).
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

std::string log(Monitor& monitor, const MonitorArguments& a) {
    if (a.size() != 1) return "categories: none, all, " + Log::categoryNames() + "\n";
    Log& log = monitor.machine.log();
    log.disable();
    const std::string unknown = a[0] == "none" ? std::string() : log.enable(a[0]);
    return unknown.empty()
               ? unknown
               : "there is no category '" + unknown + "'; there are " + Log::categoryNames() + "\n";
}

std::string logFile(Monitor& monitor, const MonitorArguments& a) {
    if (a.size() != 1) return "logfile needs a file's name\n";
    return monitor.machine.log().openFile(a[0]) ? std::string() : "'" + a[0] + "' can't be written\n";
}

}  // namespace

MonitorTable logCommands() {
    static constexpr MonitorCommand kRows[] = {
        {"log", "CATEGORIES|none", "logs these, comma-separated, and nothing else", log},
        {"logfile", "FILE", "where the log goes from now on", logFile},
    };
    return kRows;
}

}  // namespace kiln
