// The human monitor: buses and devices.
#include <algorithm>
#include <map>

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
    for (Device* d : monitor.machine.board().devices())
        if (d->name() == a[0]) out += describeDevice(*d);
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

// -- drives

std::string describeDrive(const DriveConfig& drive) {
    if (drive.file.empty()) return driveName(drive) + ": no medium";
    const bool readOnly = drive.readOnly || drive.kind == DriveKind::Cdrom;
    return fmt::format("{}: {} (raw, {} bytes{}{})", driveName(drive), drive.file, imageSize(drive.file),
                       readOnly ? ", read-only" : "",
                       drive.snapshot ? ", writes are dropped at the end" : "");
}

std::string infoBlock(Monitor& monitor, const MonitorArguments&) {
    std::string out;
    for (const DriveConfig& drive : monitor.machine.config().drives) out += describeDrive(drive) + "\n";
    return out;
}

// -- info qtree

bool belongsTo(const DriveConfig& drive, std::string_view device) {
    return drive.kind == DriveKind::Floppy ? device == "i82077" : device == "piix3-ide";
}

// What a device has: ports and memory of its own, BARs, drives.
std::string properties(Monitor& monitor, Device& device, const std::string& indent) {
    std::string out;
    auto add = [&](const std::string& text) { out += indent + text + "\n"; };
    auto* handler = dynamic_cast<IoHandler*>(&device);
    for (const PortBus::Range& r : monitor.machine.ports().ranges())
        if (handler && r.handler == handler)
            add(fmt::format("ports {:04x}-{:04x}", r.first, r.first + r.count - 1));
    for (const Region* r : monitor.machine.memory().regions())
        if (handler && r->io == handler)
            add(fmt::format("memory {:016x}-{:016x}", r->base.value, r->base.value + r->size - 1));
    if (auto* f = dynamic_cast<PciFunction*>(&device)) {
        const uint32_t id = f->configRead(0, 4);
        add(fmt::format("addr = {:02x}.{}, id {:04x}:{:04x}, class {:04x}", f->bdf().device(),
                        f->bdf().function(), id & 0xffff, id >> 16, f->configRead(0x0a, 2)));
        for (unsigned bar = 0; bar < 6; bar++)
            if (f->barSize(bar))
                add(fmt::format("BAR {}: {:08x}, {:#x} bytes", bar,
                                f->configRead(uint16_t(0x10 + bar * 4), 4), f->barSize(bar)));
    }
    for (const DriveConfig& drive : monitor.machine.config().drives)
        if (belongsTo(drive, device.name())) add("drive " + describeDrive(drive));
    return out;
}

std::string infoQtree(Monitor& monitor, const MonitorArguments&) {
    // What is on the system bus; all other chips that are no PCI functions are behind the LPC bridge.
    static constexpr std::string_view kSystem[] = {"io-apic", "vtd", "fw-cfg", "hpet"};
    Board& board = monitor.machine.board();
    auto show = [&](Device& d, unsigned depth) {
        const std::string indent(depth * 2, ' ');
        return indent + fmt::format("dev: {}\n", d.name()) + properties(monitor, d, indent + "  ");
    };
    std::string system, isa;
    std::map<unsigned, std::vector<PciFunction*>> buses;
    for (Device* d : board.devices()) {
        if (auto* f = dynamic_cast<PciFunction*>(d))
            buses[f->bdf().bus()].push_back(f);
        else if (std::find(std::begin(kSystem), std::end(kSystem), d->name()) != std::end(kSystem))
            system += show(*d, 1);
        else
            isa += show(*d, 4);
    }
    std::string out = "bus: main-system-bus\n" + system;
    for (unsigned n = 0; n < monitor.machine.cpus(); n++)
        out +=
            fmt::format("  dev: local-apic\n    CPU {}, id {:x}\n", n, monitor.machine.apic(n).initialId());
    for (const auto& [number, functions] : buses) {
        out += fmt::format("  bus: pcie.{}\n", number);
        for (PciFunction* f : functions)
            out += show(*f, 2) + (f->name() == "ich9-lpc" ? "      bus: isa.0\n" + isa : std::string());
    }
    return out;
}

// -- info mtree

std::string nameOf(IoHandler* handler) {
    const auto* device = dynamic_cast<const Device*>(handler);
    return device ? std::string(device->name()) : "registers";
}

std::string infoMtree(Monitor& monitor, const MonitorArguments&) {
    static constexpr const char* kKinds[] = {"ram", "rom", "i/o"};
    std::vector<const Region*> regions(monitor.machine.memory().regions().begin(),
                                       monitor.machine.memory().regions().end());
    std::stable_sort(regions.begin(), regions.end(), [](auto* a, auto* b) { return a->base < b->base; });
    std::string out = "memory; of several the one with the highest priority is seen\n";
    for (const Region* r : regions)
        out += fmt::format("  {:016x}-{:016x} (prio {}, {}): {}{}\n", r->base.value,
                           r->base.value + r->size - 1, r->priority, kKinds[unsigned(r->kind)],
                           r->ram ? r->ram->name() : nameOf(r->io), r->enabled ? "" : " [disabled]");
    std::vector<PortBus::Range> ports = monitor.machine.ports().ranges();
    std::stable_sort(ports.begin(), ports.end(), [](auto& a, auto& b) { return a.first < b.first; });
    out += "ports\n";
    for (const PortBus::Range& r : ports)
        out += fmt::format("  {:04x}-{:04x}: {}\n", r.first, r.first + r.count - 1, nameOf(r.handler));
    return out;
}

}  // namespace

MonitorTable deviceInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"pci", "", "PCI functions", infoPci},
        {"qtree", "", "buses and devices as a tree, with what they have", infoQtree},
        {"mtree", "", "regions of memory and ports, and whose they are", infoMtree},
        {"devices", "", "names of the devices", infoDevices},
        {"device", "NAME", "every field of a device", infoDevice},
        {"block", "", "drives and their images", infoBlock},
    };
    return kRows;
}

}  // namespace kiln
