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

std::string describeBars(PciFunction& f) {
    std::string out;
    for (unsigned bar = 0; bar < 6; bar++) {
        const uint32_t low = f.configRead(uint16_t(0x10 + bar * 4), 4);
        if (!low) continue;
        out += fmt::format("    BAR {} ", bar);
        const bool wide = (low & 7) == 4;
        if (wide) out += fmt::format("{:08x}", f.configRead(uint16_t(0x10 + ++bar * 4), 4));
        out += fmt::format("{:08x}\n", low);
    }
    return out;
}

std::string describeBridge(PciFunction& f) {
    const uint32_t buses = f.configRead(0x18, 4);
    return fmt::format("    to bus {:02x}, up to {:02x}\n", buses >> 8 & 0xff, buses >> 16 & 0xff);
}

std::string infoPci(Monitor& monitor, const MonitorArguments&) {
    std::string out;
    for (PciFunction* f : monitor.machine.board().pci().functions()) {
        uint32_t id = f->configRead(0, 4), revision = f->configRead(8, 4), line = f->configRead(0x3c, 4);
        out +=
            fmt::format("{:02x}:{:02x}.{:x} {:04x}:{:04x} class {:06x} {}", f->bdf().bus(), f->bdf().device(),
                        f->bdf().function(), id & 0xffff, id >> 16, revision >> 8, f->name());
        if (line >> 8 & 7)
            out += fmt::format(", INT{} line {}", char('A' + (line >> 8 & 7) - 1), line & 0xff);
        out += "\n" + (f->asBridge() ? describeBridge(*f) : describeBars(*f));
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
