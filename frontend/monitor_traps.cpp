// The human monitor about traps: cpu/trap_profile.hpp.
#include <fmt/format.h>

#include <algorithm>

#include "cpu/cpu.hpp"
#include "devices/machine.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

constexpr uint64_t kUsual = 24;  // sites

std::string targetOf(const TrapSite& s) {
    switch (s.kind) {
        case TrapKind::In:
        case TrapKind::Out: return fmt::format("port {:x}", s.target);
        case TrapKind::MemoryRead:
        case TrapKind::MemoryWrite: return fmt::format("{:x}", s.target);
        case TrapKind::Cpuid: return fmt::format("leaf {:x}", s.target);
        case TrapKind::Rdmsr:
        case TrapKind::Wrmsr: return fmt::format("msr {:x}", s.target);
        case TrapKind::Fault: return fmt::format("vector {}", s.target);
        default: return {};
    }
}

std::string infoTraps(Monitor& monitor, const MonitorArguments& arguments) {
    uint64_t most = kUsual;
    if (arguments.size() > 1 || (!arguments.empty() && !parseNumber(arguments[0], most)))
        return "info traps takes a number of sites\n";
    Cpu& cpu = monitor.machine.cpu(monitor.selected);
    const auto sites = cpu.traps.sites();
    static constexpr const char* kStates[] = {"counted", "promoted", "demoted", "in line"};
    uint64_t all = 0, promoted = 0;
    for (const TrapSite* s : sites) all += s->count(), promoted += s->promoted;
    std::string out = fmt::format("{} sites, {} traps, {:.2f} % of them by promoted code or in line\n", sites.size(),
                                  all, all ? 100.0 * double(promoted) / double(all) : 0.0);
    out += fmt::format("{:<18} {:<8} {:<18} {:>14} {:>14} {:>10} {:>8} {}\n", "rip", "kind", "target",
                       "count", "promoted", "refused", "ns", "state");
    for (const TrapSite* s : sites) {
        if (!most--) break;
        out += fmt::format(
            "{:<18x} {:<8} {:<18} {:>14} {:>14} {:>10} {:>8} {}{}\n", s->rip, nameOf(s->kind), targetOf(*s),
            s->count(), s->promoted, s->refused, s->timed ? fmt::format("{}", s->meanNanoseconds()) : "-",
            kStates[size_t(s->state)], s->demotions ? fmt::format(" ({} demotions)", s->demotions) : "");
    }
    return out;
}

}  // namespace

MonitorTable trapInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"traps", "[N]", "the hottest trapping instructions, and how they are done", infoTraps},
    };
    return kRows;
}

}  // namespace kiln
