// The human monitor: buses and devices.
#include "devices/board.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

namespace {

std::string infoDevices(Monitor& monitor, const MonitorArguments&) {
    std::string out;
    for (Device* d : monitor.machine.board().devices()) out += std::string(d->name()) + "\n";
    return out;
}

std::string infoDevice(Monitor& monitor, const MonitorArguments& a) {
    if (a.empty()) return "info device needs a name; 'info devices' lists them\n";
    std::string out;
    for (Device* d : monitor.machine.board().devices()) {
        if (d->name() != a[0]) continue;
        out += describeDevice(*d);
    }
    return out.empty() ? "there is no device '" + a[0] + "'\n" : out;
}

std::string infoPci(Monitor& monitor, const MonitorArguments&) {
    std::string out;
    for (PciFunction* f : monitor.machine.board().pci().functions()) {
        uint32_t id = f->configRead(0, 4), revision = f->configRead(8, 4), line = f->configRead(0x3c, 4);
        out += fmt::format("{:02x}.{} {:04x}:{:04x} class {:06x} {}", f->bdf().device(), f->bdf().function(),
                           id & 0xffff, id >> 16, revision >> 8, f->name());
        if (line >> 8 & 7)
            out += fmt::format(", INT{} line {}", char('A' + (line >> 8 & 7) - 1), line & 0xff);
        out += "\n";
        for (unsigned bar = 0; bar < 6; bar++)
            if (uint32_t v = f->configRead(uint16_t(0x10 + bar * 4), 4))
                out += fmt::format("    BAR {} {:08x}\n", bar, v);
    }
    return out;
}

}  // namespace

MonitorTable deviceInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"pci", "", "PCI functions", infoPci},
        {"devices", "", "names of the devices", infoDevices},
        {"device", "NAME", "every field of a device", infoDevice},
    };
    return kRows;
}

}  // namespace kiln
