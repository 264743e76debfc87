// The human monitor: interrupt controllers.
#include "apic/i8259.hpp"
#include "apic/io_apic.hpp"
#include "devices/board.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

std::string infoPic(Monitor& monitor, const MonitorArguments&) {
    std::string out;
    auto show = [&](Device& d, const std::string& number) {
        out += fmt::format("{}{}\n{}", d.name(), number, describeDevice(d));
    };
    show(monitor.machine.board().pic(), "");
    for (unsigned n = 0; n < monitor.machine.cpus(); n++)
        show(monitor.machine.apic(n), fmt::format(" {}", n));
    for (unsigned n = 0; n < IoApic::kPins; n++) {
        uint64_t e = monitor.machine.board().ioApic().entry(n);
        out +=
            fmt::format("I/O APIC input {:2}: vector {:02x} mode {} {} {}{} destination {:02x}\n", n,
                        e & 0xff, e >> 8 & 7, e >> 15 & 1 ? "level" : "edge", e >> 16 & 1 ? "masked" : "open",
                        monitor.machine.board().ioApic().pin(n).level() ? ", high," : "", e >> 56);
    }
    return out;
}

}  // namespace

MonitorTable interruptInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"pic", "", "interrupt controllers", infoPic},
        {"irq", "", "the same", infoPic},
    };
    return kRows;
}

}  // namespace kiln
