#include "devices/pci_devices.hpp"

#include <stdexcept>

#include "devices/edu.hpp"
#include "devices/irq_test.hpp"
#include "devices/relay_device.hpp"

namespace kiln {

namespace {

constexpr unsigned kDevices = 32, kFirstFree = 2, kFirstBehindBridge = 1;

template <class... Fs>
struct Overloaded : Fs... {
    using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

[[noreturn]] void refuse(const PciDeviceConfig& config, const std::string& why) {
    throw std::runtime_error(std::string("-device ") + nameOf(config) + ": " + why);
}

// What a function that can be PCI Express is on this bus.
std::optional<ExpressType> typeBehind(const PciBridge* bridge) {
    if (!bridge) return ExpressType::IntegratedEndpoint;
    for (const PciBridge* b = bridge; b; b = b->parent())
        if (!b->express()) return {};
    return ExpressType::Endpoint;
}

std::string place(unsigned device, unsigned function) {
    return "device " + std::to_string(device) + "." + std::to_string(function);
}

}  // namespace

const char* nameOf(const PciDeviceConfig& config) {
    return std::visit(
        Overloaded{[](const EduConfig&) { return "edu"; }, [](const BridgeConfig&) { return "pci-bridge"; },
                   [](const RootPortConfig&) { return "pcie-root-port"; },
                   [](const IrqTestConfig&) { return "kiln-irqtest"; },
                   [](const RelayDeviceConfig&) { return "kiln-relay"; }},
        config.kind);
}

PciFunction* PciDevices::find(const std::string& id) const {
    for (const Named& n : all_)
        if (!id.empty() && n.id == id) return n.function.get();
    return nullptr;
}

PciBridge* PciDevices::busOf(const PciDeviceConfig& config) const {
    const std::string& bus = config.place.bus;
    if (bus.empty() || bus == "pcie.0") return nullptr;
    PciFunction* function = find(bus);
    PciBridge* bridge = function ? function->asBridge() : nullptr;
    if (!bridge) refuse(config, "there is no bus '" + bus + "': it is the id of a bridge that comes before");
    return bridge;
}

bool PciDevices::taken(const PciBridge* bridge, unsigned device, unsigned function) const {
    return bus_.taken(bridge, device, function) || (!bridge && device == kVgaDevice);
}

unsigned PciDevices::deviceFor(const PciDeviceConfig& config, const PciBridge* bridge) const {
    if (config.place.device) return *config.place.device;
    // A link has one device; slot 0 behind a conventional bridge stays free, as it does in QEMU.
    unsigned device = !bridge ? kFirstFree : bridge->express() ? 0 : kFirstBehindBridge;
    const unsigned end = bridge && bridge->express() ? 1 : kDevices;
    while (device < end && taken(bridge, device, 0)) device++;
    if (device == end) refuse(config, "there is no free PCI slot left");
    return device;
}

void PciDevices::checkFunction(const PciDeviceConfig& config, const PciBridge* bridge,
                               unsigned device) const {
    const unsigned function = config.place.function;
    if (bridge && bridge->express() && device)
        refuse(config, "behind a PCI Express port there is only device 0");
    if (taken(bridge, device, function)) refuse(config, "PCI " + place(device, function) + " is taken");
    if (!function) return;
    for (const PciFunction* f : bus_.functions())
        if (f->parent() == bridge && f->bdf().device() == device && f->bdf().function() == 0 &&
            f->isMultiFunction())
            return;
    refuse(config, "PCI " + place(device, function) + " needs a " + place(device, 0) +
                       " with multifunction=on that comes before it");
}

std::unique_ptr<PciFunction> PciDevices::make(const PciDeviceConfig& config, const PciBridge* bridge) const {
    using Function = std::unique_ptr<PciFunction>;
    return std::visit(
        Overloaded{
            [&](const EduConfig& c) -> Function {
                return std::make_unique<EduDevice>(clock_, log_, c.dmaMask);
            },
            [&](const BridgeConfig& c) -> Function { return std::make_unique<PciBridge>(c.chassis); },
            [&](const RootPortConfig& c) -> Function {
                if (bridge) refuse(config, "a root port is a function of bus 0");
                return std::make_unique<RootPort>(c.port, c.slot);
            },
            [&](const IrqTestConfig& c) -> Function {
                return std::make_unique<IrqTest>(clock_, c, typeBehind(bridge));
            },
            [&](const RelayDeviceConfig&) -> Function { return std::make_unique<RelayDevice>(relay_); }},
        config.kind);
}

PciFunction& PciDevices::add(const PciDeviceConfig& config) {
    const PciPlace& where = config.place;
    if (find(where.id)) refuse(config, "there are two devices with the id '" + where.id + "'");
    if (where.processor && *where.processor >= processors_)
        refuse(config, "interrupts=dedicated:" + std::to_string(*where.processor) +
                           ": there is no such processor; -smp gives their number");
    PciBridge* bridge = busOf(config);
    const unsigned device = deviceFor(config, bridge);
    checkFunction(config, bridge, device);
    all_.push_back({where.id, make(config, bridge)});
    PciFunction& function = *all_.back().function;
    if (where.multiFunction) function.setMultiFunction();
    if (bridge)
        bus_.add(*bridge, device, where.function, function);
    else
        bus_.add(Bdf(0, device, where.function), function);
    if (where.processor) function.relay()->setInterrupts(int(*where.processor));
    return function;
}

}  // namespace kiln
