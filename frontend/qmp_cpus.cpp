// The machine protocol: processors and their models.
#include <fmt/format.h>

#include "frontend/qmp_tables.hpp"

namespace kiln {

namespace {

Json queryCpusFast(Monitor& monitor, const Json&) {
    const CpuTopology& topology = monitor.machine.config().topology;
    Json list = Json::array();
    for (unsigned n = 0; n < monitor.machine.cpus(); n++) {
        const unsigned core = n / topology.threads;
        Json place = {{"core-id", core % topology.cores},
                      {"thread-id", n % topology.threads},
                      {"socket-id", core / topology.cores}};
        list.push_back({{"cpu-index", n},
                        {"qom-path", fmt::format("/machine/cpu[{}]", n)},
                        {"thread-id", monitor.machine.hostThread(n)},
                        {"props", place},
                        {"target", "x86_64"}});
    }
    return list;
}

Json queryCpuDefinitions(Monitor&, const Json&) {
    Json list = Json::array();
    for (const std::string& name : cpuModelNames())
        list.push_back({{"name", name}, {"typename", name}, {"static", false}, {"deprecated", false}});
    return list;
}

}  // namespace

QmpTable qmpCpuCommands() {
    static constexpr QmpCommand kRows[] = {
        {"query-cpus-fast", "", queryCpusFast},
        {"query-cpu-definitions", "", queryCpuDefinitions},
    };
    return kRows;
}

}  // namespace kiln
