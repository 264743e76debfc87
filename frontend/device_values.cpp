// The values of -device.
#include <algorithm>
#include <bit>

#include "frontend/option_values.hpp"

namespace kiln {

using namespace option_value;

namespace {

void parseDebugExit(const KeyValues& properties, MachineConfig& machine) {
    DebugExitConfig exit;
    for (const auto& [key, value] : properties) {
        const uint64_t v = number("-device", value);
        if (key == "iobase" && v <= 0xfffe)
            exit.port = uint16_t(v);
        else if (key == "iosize" && v >= 1 && v <= 4)
            exit.size = uint16_t(v);
        else if (key == "iobase" || key == "iosize")
            refuse("-device: " + key + "=" + value + " is out of range");
        else
            refuseKey("-device isa-debug-exit", key);
    }
    machine.debugExit = exit;
}

void parseTestdev(const KeyValues& properties, MachineConfig& machine) {
    if (!properties.empty()) refuseKey("-device pc-testdev", properties[0].first);
    machine.testdev = true;
}

// A device, or device.function, in hexadecimal.
void setAddress(const std::string& option, const std::string& text, PciPlace& place) {
    auto part = [&](const std::string& digits, unsigned most) {
        const uint64_t v = number(option, digits.starts_with("0x") ? digits : "0x" + digits);
        if (v > most)
            refuse(option + ": addr=" + text +
                   " is no PCI slot: write addr=2 to addr=1f, or addr=2.1 for function 1");
        return unsigned(v);
    };
    const size_t dot = text.find('.');
    place.device = part(text.substr(0, dot), 31);
    if (dot != std::string::npos) place.function = part(text.substr(dot + 1), 7);
}

// What every PCI function takes. False: another key.
bool setPlace(const std::string& option, const std::string& key, const std::string& value, PciPlace& place) {
    static const std::string kDedicated = "dedicated:";
    if (key == "id")
        place.id = value;
    else if (key == "bus")
        place.bus = value;
    else if (key == "addr")
        setAddress(option, value, place);
    else if (key == "multifunction")
        place.multiFunction = onOff(option, key, value);
    else if (key == "interrupts" && value.starts_with(kDedicated))
        place.processor = unsigned(std::min<uint64_t>(number(option, value.substr(kDedicated.size())), ~0u));
    else if (key == "interrupts" && value == "shared")
        place.processor.reset();
    else if (key == "interrupts")
        refuse(option + ": interrupts= takes shared or dedicated:CPU, not '" + value + "'");
    else
        return false;
    return true;
}

uint64_t within(const std::string& option, const std::string& key, const std::string& value, uint64_t least,
                uint64_t most) {
    const uint64_t v = number(option, value);
    if (v < least || v > most)
        refuse(option + ": " + key + "= takes " + std::to_string(least) + " to " + std::to_string(most) +
               ", not " + value);
    return v;
}

// What one kind of them takes besides. False: another key.
using Property = bool (*)(const std::string& option, const std::string& key, const std::string& value,
                          PciDeviceConfig& config);

bool setEdu(const std::string& option, const std::string& key, const std::string& value,
            PciDeviceConfig& config) {
    if (key != "dma_mask") return false;
    std::get<EduConfig>(config.kind).dmaMask = number(option, value);
    return true;
}

bool setBridge(const std::string& option, const std::string& key, const std::string& value,
               PciDeviceConfig& config) {
    if (key != "chassis_nr") return false;
    std::get<BridgeConfig>(config.kind).chassis = uint8_t(within(option, key, value, 0, 255));
    return true;
}

// A chassis has no register of a root port; slots are numbered all the same.
bool setRootPort(const std::string& option, const std::string& key, const std::string& value,
                 PciDeviceConfig& config) {
    auto& port = std::get<RootPortConfig>(config.kind);
    if (key == "port")
        port.port = uint8_t(within(option, key, value, 0, 255));
    else if (key == "slot")
        port.slot = uint16_t(within(option, key, value, 0, 8191));
    else if (key == "chassis")
        within(option, key, value, 0, 255);
    else
        return false;
    return true;
}

bool setIrqTest(const std::string& option, const std::string& key, const std::string& value,
                PciDeviceConfig& config) {
    auto& test = std::get<IrqTestConfig>(config.kind);
    if (key == "msi") {
        test.messages = unsigned(within(option, key, value, 1, 32));
        if (!std::has_single_bit(test.messages)) refuse(option + ": msi= takes a power of two, not " + value);
    } else if (key == "vectors") {
        test.vectors = unsigned(within(option, key, value, 1, 2048));
    } else if (key == "memory") {
        test.memory = parseMemory(value);
        if (!std::has_single_bit(test.memory) || test.memory < 4096 || test.memory > 64ull << 30)
            refuse(option + ": memory= takes a power of two from 4K to 64G, not " + value);
    } else {
        return false;
    }
    return true;
}

bool setNothing(const std::string&, const std::string&, const std::string&, PciDeviceConfig&) {
    return false;
}

struct PciKind {
    decltype(PciDeviceConfig::kind) defaults;
    Property set;
};

const std::map<std::string, PciKind>& pciKinds() {
    static const std::map<std::string, PciKind> kKinds = {
        {"edu", {EduConfig{}, setEdu}},
        {"kiln-irqtest", {IrqTestConfig{}, setIrqTest}},
        {"kiln-relay", {RelayDeviceConfig{}, setNothing}},
        {"pci-bridge", {BridgeConfig{}, setBridge}},
        {"pcie-root-port", {RootPortConfig{}, setRootPort}}};
    return kKinds;
}

void parsePciDevice(const std::string& name, const PciKind& kind, const KeyValues& properties,
                    MachineConfig& machine) {
    const std::string option = "-device " + name;
    PciDeviceConfig config{{}, kind.defaults};
    for (const auto& [key, value] : properties)
        if (!setPlace(option, key, value, config.place) && !kind.set(option, key, value, config))
            refuseKey(option, key);
    machine.pciDevices.push_back(std::move(config));
}

void parseIommu(const KeyValues& properties, MachineConfig& machine) {
    const std::string option = "-device intel-iommu";
    if (machine.iommu) refuse(option + ": there can be only one");
    VtdConfig iommu;
    std::optional<bool> extended;
    for (const auto& [key, value] : properties) {
        static const std::map<std::string, bool VtdConfig::*> kFlags = {
            {"caching-mode", &VtdConfig::cachingMode},
            {"pt", &VtdConfig::passThrough},
            {"device-iotlb", &VtdConfig::deviceTlb}};
        if (auto flag = kFlags.find(key); flag != kFlags.end()) {
            iommu.*flag->second = onOff(option, key, value);
        } else if (key == "intremap") {
            iommu.interruptRemapping = value == "auto" || onOff(option, key, value);
        } else if (key == "eim") {
            if (value != "auto") extended = onOff(option, key, value);
        } else if (key == "aw-bits") {
            iommu.addressWidth = unsigned(number(option, value));
            if (iommu.addressWidth != 39 && iommu.addressWidth != 48)
                refuse(option + ": aw-bits= takes 39 or 48, not '" + value + "'");
        } else {
            refuseKey(option, key);
        }
    }
    if (extended == true && !iommu.interruptRemapping) refuse(option + ": eim=on needs intremap=on");
    iommu.extendedInterruptMode = extended.value_or(iommu.interruptRemapping);
    machine.iommu = iommu;
}

}  // namespace

void parseDevice(const std::string& text, MachineConfig& machine) {
    static const std::map<std::string, void (*)(const KeyValues&, MachineConfig&)> kDevices = {
        {"intel-iommu", parseIommu}, {"isa-debug-exit", parseDebugExit}, {"pc-testdev", parseTestdev}};
    KeyValues properties = parseKeyValues("-device", text, "driver");
    auto driver =
        std::find_if(properties.begin(), properties.end(), [](auto& p) { return p.first == "driver"; });
    if (driver == properties.end()) refuse("-device " + text + ": which device is missing");
    const std::string name = driver->second;
    properties.erase(driver);
    if (auto kind = pciKinds().find(name); kind != pciKinds().end())
        return parsePciDevice(name, kind->second, properties, machine);
    auto device = kDevices.find(name);
    if (device == kDevices.end())
        refuse("-device " + name + " is not implemented in kiln " + kVersion +
               ": there are edu, intel-iommu, isa-debug-exit, kiln-irqtest, kiln-relay, pc-testdev, "
               "pci-bridge and "
               "pcie-root-port");
    device->second(properties, machine);
}

}  // namespace kiln
