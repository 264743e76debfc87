// The machine protocol: about itself, and the way to the human monitor.
#include <fmt/format.h>

#include "frontend/options.hpp"
#include "frontend/qmp_tables.hpp"

namespace kiln {

namespace {

// A command of every session, which the session itself carries out.
Json capabilities(Monitor&, const Json&) { return Json::object(); }

Json queryVersion(Monitor&, const Json&) { return qmpVersion(); }

Json queryCommands(Monitor&, const Json&) {
    Json list = Json::array();
    for (QmpTable table : qmpCommands())
        for (const QmpCommand& c : table) list.push_back({{"name", c.name}});
    return list;
}

Json humanCommand(Monitor& monitor, const Json& a) {
    const unsigned before = monitor.selected;
    if (a.contains("cpu-index")) monitor.selected = qmpProcessor(monitor, a);
    const std::string answer = monitor.execute(a["command-line"]);
    if (a.contains("cpu-index")) monitor.selected = before;
    return answer;
}

}  // namespace

// Clients look at this to see which commands there may be, so it is the version of QEMU whose documents kiln
// follows; the package says who speaks.
Json qmpVersion() {
    return {{"qemu", {{"micro", 0}, {"minor", 2}, {"major", 7}}},
            {"package", fmt::format("kiln {}", kVersion)}};
}

unsigned qmpProcessor(const Monitor& monitor, const Json& a) {
    const auto index = a.find("cpu-index");
    if (index == a.end()) return 0;
    const unsigned cpus = monitor.machine.cpus();
    if (!(*index >= 0) || !(*index < cpus)) throw QmpError{"Parameter 'cpu-index' expects a CPU number"};
    return *index;
}

QmpTable qmpGeneralCommands() {
    static constexpr QmpCommand kRows[] = {
        {"qmp_capabilities", "enable?:list", capabilities},
        {"query-version", "", queryVersion},
        {"query-commands", "", queryCommands},
        {"human-monitor-command", "command-line:str cpu-index?:int", humanCommand},
    };
    return kRows;
}

}  // namespace kiln
