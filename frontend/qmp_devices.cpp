// The machine protocol: devices, the screen, and memory as a file.
#include <fmt/format.h>

#include "devices/board.hpp"
#include "frontend/memory_file.hpp"
#include "frontend/monitor_values.hpp"
#include "frontend/qmp_tables.hpp"
#include "frontend/screenshot.hpp"
#include "pci/pci_bridge.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

namespace {

// -- PCI

Json regionOf(PciFunction& f, unsigned bar) {
    const uint32_t value = f.configRead(uint16_t(0x10 + bar * 4), 4);
    const bool io = value & 1, wide = !io && (value & 6) == 4;
    uint64_t address = value & ~(io ? 3u : 15u);
    if (wide) address |= uint64_t(f.configRead(uint16_t(0x14 + bar * 4), 4)) << 32;
    Json region = {
        {"bar", bar}, {"type", io ? "io" : "memory"}, {"size", f.barSize(bar)}, {"address", address}};
    if (!io) {
        region["prefetch"] = bool(value & 8);
        region["mem_type_64"] = wide;
    }
    return region;
}

Json range(uint64_t base, uint64_t limit) { return {{"base", base}, {"limit", limit}}; }

Json devicesBelow(Monitor& monitor, const PciBridge* bridge);

Json bridgeOf(Monitor& monitor, PciBridge& b) {
    const uint32_t buses = b.configRead(0x18, 4), io = b.configRead(0x1c, 2), memory = b.configRead(0x20, 4),
                   prefetchable = b.configRead(0x24, 4);
    auto edge = [](uint32_t v) { return uint64_t(v & 0xfff0) << 16; };
    auto upper = [&](uint16_t at) { return uint64_t(b.configRead(at, 4)) << 32; };
    Json out = {
        {"bus",
         {{"number", buses & 0xff},
          {"secondary", buses >> 8 & 0xff},
          {"subordinate", buses >> 16 & 0xff},
          {"io_range", range((io & 0xf0) << 8, (io & 0xf000) | 0xfff)},
          {"memory_range", range(edge(memory), edge(memory >> 16) | 0xfffff)},
          {"prefetchable_range", range(edge(prefetchable) | upper(0x28),
                                       edge(prefetchable >> 16) | upper(0x2c) | 0xfffff)}}}};
    if (b.secondaryBus()) out["devices"] = devicesBelow(monitor, &b);
    return out;
}

// As -device has it.
std::string idOf(Monitor& monitor, const PciFunction& f) {
    for (const PciDeviceConfig& device : monitor.machine.config().pciDevices)
        if (const std::string& id = device.place.id;
            !id.empty() && monitor.machine.board().pciFunction(id) == &f)
            return id;
    return "";
}

Json functionOf(Monitor& monitor, PciFunction& f) {
    const uint32_t id = f.configRead(0, 4), interrupt = f.configRead(0x3c, 4);
    const unsigned pin = interrupt >> 8 & 7;
    Json regions = Json::array();
    for (unsigned bar = 0; bar < 6; bar++)
        if (f.barSize(bar)) regions.push_back(regionOf(f, bar));
    Json out = {{"bus", f.bdf().bus()},
                {"slot", f.bdf().device()},
                {"function", f.bdf().function()},
                {"class_info", {{"desc", f.name()}, {"class", f.configRead(0x0a, 2)}}},
                {"id", {{"vendor", id & 0xffff}, {"device", id >> 16}}},
                {"irq_pin", pin},
                {"qdev_id", idOf(monitor, f)},
                {"regions", regions}};
    if (pin) out["irq"] = interrupt & 0xff;
    if (PciBridge* bridge = f.asBridge()) {
        out["pci_bridge"] = bridgeOf(monitor, *bridge);
    } else {
        const uint32_t subsystem = f.configRead(0x2c, 4);
        out["id"]["subsystem-vendor"] = subsystem & 0xffff;
        out["id"]["subsystem"] = subsystem >> 16;
    }
    return out;
}

// Null: on bus 0.
Json devicesBelow(Monitor& monitor, const PciBridge* bridge) {
    Json out = Json::array();
    for (PciFunction* f : monitor.machine.board().pci().functions())
        if (f->parent() == bridge) out.push_back(functionOf(monitor, *f));
    return out;
}

Json queryPci(Monitor& monitor, const Json&) {
    return Json::array({{{"bus", 0}, {"devices", devicesBelow(monitor, nullptr)}}});
}

// -- drives and streams

Json insertedOf(const DriveConfig& drive) {
    const bool readOnly = drive.readOnly || drive.kind == DriveKind::Cdrom;
    Json image = {{"filename", drive.file}, {"format", "raw"}, {"virtual-size", imageSize(drive.file)}};
    Json out = {{"file", drive.file},      {"ro", readOnly},     {"drv", "raw"},
                {"backing_file_depth", 0}, {"encrypted", false}, {"detect_zeroes", "off"}};
    for (const char* limit : {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"}) out[limit] = 0;
    out["image"] = image;
    out["cache"] = {{"writeback", true}, {"direct", false}, {"no-flush", drive.snapshot}};
    out["write_threshold"] = 0;
    return out;
}

Json queryBlock(Monitor& monitor, const Json&) {
    Json list = Json::array();
    for (const DriveConfig& drive : monitor.machine.config().drives) {
        Json one = {{"device", driveName(drive)},
                    {"type", "unknown"},
                    {"removable", drive.kind != DriveKind::Disk},
                    {"locked", false}};
        if (!drive.file.empty()) one["inserted"] = insertedOf(drive);
        list.push_back(one);
    }
    return list;
}

Json queryChardev(Monitor& monitor, const Json&) {
    Json list = Json::array();
    for (const StreamFacts& s : monitor.facts.streams)
        list.push_back({{"frontend-open", true}, {"label", s.label}, {"filename", s.target}});
    return list;
}

// -- files

Json screendump(Monitor& monitor, const Json& a) {
    if (a.contains("device") || a.contains("head"))
        throw QmpError{"There is one screen: 'device' and 'head' are not to be given"};
    const Frame* frame = monitor.machine.board().render(true);
    if (!frame) throw QmpError{"There is no console to take a screendump from"};
    const auto format = a.value("format", "ppm") == "png" ? PictureFormat::Png : PictureFormat::Ppm;
    std::string error;
    if (!writePicture(a["filename"], *frame, format, error)) throw QmpError{error};
    return Json::object();
}

Json saveMemory(const Json& a, const ReadGuest& read) {
    for (const char* key : {"val", "size"})
        if (a[key] < 0)
            throw QmpError{fmt::format("Parameter '{}' expects a number that is not negative", key)};
    const std::string error = writeMemoryFile(a["filename"], a["val"], a["size"], read);
    if (!error.empty()) throw QmpError{error};
    return Json::object();
}

Json memsave(Monitor& monitor, const Json& a) {
    return saveMemory(a, linearReader(monitor.machine, qmpProcessor(monitor, a)));
}

Json pmemsave(Monitor& monitor, const Json& a) { return saveMemory(a, physicalReader(monitor.machine)); }

}  // namespace

QmpTable qmpDeviceCommands() {
    static constexpr QmpCommand kRows[] = {
        {"query-pci", "", queryPci},
        {"query-block", "", queryBlock},
        {"query-chardev", "", queryChardev},
        {"screendump", "filename:str device?:str head?:int format?:ppm|png", screendump},
        {"memsave", "val:int size:int filename:str cpu-index?:int", memsave},
        {"pmemsave", "val:int size:int filename:str", pmemsave},
    };
    return kRows;
}

}  // namespace kiln
