// The machine protocol: the machine as a whole.
#include "frontend/monitor_values.hpp"
#include "frontend/qmp_tables.hpp"
#include "frontend/run_state_names.hpp"

namespace kiln {

namespace {

Json nothing() { return Json::object(); }

Json queryStatus(Monitor& monitor, const Json&) {
    const RunState state = monitor.machine.runState();
    return {{"running", state == RunState::Running}, {"singlestep", false}, {"status", nameOf(state)}};
}

Json stop(Monitor& monitor, const Json&) {
    monitor.machine.stop();
    return nothing();
}

Json resume(Monitor& monitor, const Json&) {
    if (!monitor.machine.resume()) throw QmpError{"Resetting the Virtual Machine is required"};
    return nothing();
}

Json quit(Monitor& monitor, const Json&) {
    monitor.machine.requestExit(0, {}, MachineCause::HostQuit);
    return nothing();
}

Json systemReset(Monitor& monitor, const Json&) {
    monitor.machine.requestReset("monitor", MachineCause::HostReset);
    return nothing();
}

Json systemPowerdown(Monitor& monitor, const Json&) {
    monitor.machine.pressPowerButton();
    return nothing();
}

Json systemWakeup(Monitor& monitor, const Json&) {
    if (!monitor.machine.suspended()) throw QmpError{"Unable to wake up: guest is not in suspended state"};
    monitor.machine.wake();
    return nothing();
}

Json setAction(Monitor& monitor, const Json& a) {
    if (a.contains("reboot")) monitor.machine.setNoReboot(a["reboot"] == "shutdown");
    if (a.contains("shutdown")) monitor.machine.setNoShutdown(a["shutdown"] == "pause");
    return nothing();
}

Json injectNmi(Monitor& monitor, const Json&) {
    monitor.machine.injectNmi();
    return nothing();
}

Json queryName(Monitor& monitor, const Json&) {
    if (monitor.facts.name.empty()) return nothing();
    return {{"name", monitor.facts.name}};
}

Json queryUuid(Monitor&, const Json&) { return {{"UUID", kNoUuid}}; }

Json queryKvm(Monitor&, const Json&) { return {{"enabled", false}, {"present", false}}; }

Json queryTarget(Monitor&, const Json&) { return {{"arch", "x86_64"}}; }

Json queryMemorySize(Monitor& monitor, const Json&) {
    return {{"base-memory", monitor.machine.config().memory}, {"plugged-memory", 0}};
}

Json queryCurrentMachine(Monitor&, const Json&) { return {{"wakeup-suspend-support", true}}; }

// What clients ask for, and there is none of here.
Json noneOfThem(Monitor&, const Json&) { return Json::array(); }

Json queryMachines(Monitor&, const Json&) {
    Json q35 = {{"hotpluggable-cpus", false},
                {"name", "q35"},
                {"is-default", true},
                {"numa-mem-supported", false},
                {"cpu-max", 64},
                {"deprecated", false},
                {"alias", "pc"},
                {"default-cpu-type", "kiln"}};
    return Json::array({q35});
}

}  // namespace

QmpTable qmpMachineCommands() {
    static constexpr QmpCommand kRows[] = {
        {"query-status", "", queryStatus},
        {"stop", "", stop},
        {"cont", "", resume},
        {"quit", "", quit},
        {"system_reset", "", systemReset},
        {"system_powerdown", "", systemPowerdown},
        {"system_wakeup", "", systemWakeup},
        {"set-action", "reboot?:reset|shutdown shutdown?:poweroff|pause", setAction},
        {"inject-nmi", "", injectNmi},
        {"query-name", "", queryName},
        {"query-uuid", "", queryUuid},
        {"query-kvm", "", queryKvm},
        {"query-target", "", queryTarget},
        {"query-memory-size-summary", "", queryMemorySize},
        {"query-current-machine", "", queryCurrentMachine},
        {"query-machines", "", queryMachines},
        {"query-memory-devices", "", noneOfThem},
        {"query-iothreads", "", noneOfThem},
        {"query-jobs", "", noneOfThem},
        {"query-block-jobs", "", noneOfThem},
    };
    return kRows;
}

}  // namespace kiln
