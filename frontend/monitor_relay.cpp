// The monitor's view of the interrupt relay: who interrupts, and which way.
#include <fmt/format.h>

#include "apic/interrupt_relay.hpp"
#include "devices/board.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

namespace {

using Relay = InterruptRelay;

std::string name(Bdf bdf) {
    return fmt::format("{:02x}:{:02x}.{:x}", bdf.bus(), bdf.device(), bdf.function());
}

// A device's id, or bus:device.function.
Relay::Port* portOf(Monitor& monitor, const std::string& text) {
    if (const PciFunction* f = monitor.machine.board().pciFunction(text)) return f->relay();
    for (const auto& port : monitor.machine.board().relay().ports())
        if (name(port->source().bdf()) == text) return port.get();
    return nullptr;
}

std::string unknown(const std::string& text) {
    return "there is no PCI function '" + text + "': a device's id or bus:device.function is needed\n";
}

std::string modeOf(const Relay::Port& port) {
    const int cpu = port.interrupts();
    return cpu == Relay::kShared ? "shared" : fmt::format("dedicated:{}", cpu);
}

std::string line(const Relay::Identifier& i) {
    return fmt::format("  {:<10} {} raised, indicator {}, {} found their vector pending\n", describe(i.id),
                       i.raised, i.indicator, i.coalesced);
}

std::string span(Nanos ns) {
    if (ns < 1000) return fmt::format("{} ns", ns);
    if (ns < 1'000'000) return fmt::format("{} us", ns / 1000);
    return fmt::format("{} ms", ns / 1'000'000);
}

std::string histograms(const Relay::Identifier& i) {
    static constexpr const char* kStages[] = {"raised to IRR", "IRR to handler", "handler to EOI"};
    std::string out;
    for (unsigned stage = 0; stage < Relay::kStages; stage++) {
        const LatencyHistogram& h = i.latency[stage];
        if (!h.total()) continue;
        out += fmt::format("    {}:", kStages[stage]);
        for (unsigned bucket = 0; bucket < LatencyHistogram::kBuckets; bucket++)
            if (h.counts[bucket])
                out += fmt::format(" <{} {}", span(bucket ? 1ull << bucket : 1), h.counts[bucket]);
        out += "\n";
    }
    return out;
}

std::string describe(Relay& relay, const Relay::Port& port, bool detailed) {
    std::string out = fmt::format("{} {}\n", name(port.source().bdf()), modeOf(port));
    for (unsigned n = port.first(); n < port.first() + port.count(); n++) {
        const Relay::Identifier& i = relay.identifiers()[n];
        if (!i.raised) continue;
        out += line(i);
        if (detailed) out += histograms(i);
    }
    return out;
}

// All functions that have interrupted, or are not shared; or one with its histograms.
std::string infoRelay(Monitor& monitor, const MonitorArguments& a) {
    Relay& relay = monitor.machine.board().relay();
    if (!a.empty()) {
        const Relay::Port* port = portOf(monitor, a[0]);
        return port ? describe(relay, *port, true) : unknown(a[0]);
    }
    std::string out;
    for (const auto& port : relay.ports()) {
        const std::string text = describe(relay, *port, false);
        const bool silent = text.find('\n') + 1 == text.size();
        if (!silent || port->interrupts() != Relay::kShared) out += text;
    }
    if (relay.untracked()) out += fmt::format("{} interrupts without latencies\n", relay.untracked());
    return out.empty() ? "no PCI function has interrupted\n" : out;
}

std::string relayClear(Monitor& monitor, const MonitorArguments& a) {
    Relay::Port* port = a.empty() ? nullptr : portOf(monitor, a[0]);
    if (!a.empty() && !port) return unknown(a[0]);
    monitor.machine.board().relay().clear(port);
    return {};
}

std::string deviceInterrupts(Monitor& monitor, const MonitorArguments& a) {
    static const std::string kDedicated = "dedicated:";
    Relay::Port* port = a.empty() ? nullptr : portOf(monitor, a[0]);
    if (!a.empty() && !port) return unknown(a[0]);
    if (a.size() == 1) return modeOf(*port) + "\n";
    uint64_t cpu = 0;
    if (a.size() == 2 && a[1] == "shared") {
        port->setInterrupts(Relay::kShared);
        return {};
    }
    if (a.size() != 2 || !a[1].starts_with(kDedicated) || !parseNumber(a[1].substr(kDedicated.size()), cpu))
        return "device_interrupts needs a device and, to change it, shared or dedicated:CPU\n";
    if (cpu >= monitor.machine.cpus()) return fmt::format("there is no processor {}\n", cpu);
    port->setInterrupts(int(cpu));
    return {};
}

}  // namespace

MonitorTable relayCommands() {
    static constexpr MonitorCommand kRows[] = {
        {"relay_clear", "[DEVICE]", "clears the interrupt relay's indicator", relayClear},
        {"device_interrupts", "DEVICE [shared|dedicated:CPU]", "which way a PCI function's interrupts go",
         deviceInterrupts},
    };
    return kRows;
}

MonitorTable relayInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"relay", "[DEVICE]", "which PCI functions have interrupted; of one, how long it took", infoRelay},
    };
    return kRows;
}

}  // namespace kiln
