#include <doctest/doctest.h>

#include "apic/apic_bus.hpp"
#include "devices/pci_devices.hpp"

using namespace kiln;

namespace {

struct Bench {
    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    PortBus ports;
    ApicBus apicBus;
    InterruptRelay relay{clock, apicBus, log};
    PciBus bus{memory, ports};
    PciDevices devices{bus, relay, clock, log, 2};

    Bench() { bus.relay = &relay; }
    // Why it is refused; "": it is not.
    std::string add(PciPlace place, decltype(PciDeviceConfig::kind) kind = EduConfig{}) {
        try {
            devices.add({place, kind});
        } catch (const std::runtime_error& e) { return e.what(); }
        return {};
    }
    Bdf of(const char* id) const { return devices.find(id)->bdf(); }
};

bool mentions(const std::string& sentence, const char* what) {
    return sentence.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("PCI devices: places by themselves and as asked for") {
    Bench b;
    CHECK(b.add({.id = "a"}).empty());
    CHECK(b.add({.id = "b", .device = 3}).empty());
    CHECK(b.add({.id = "c"}).empty());
    CHECK(b.add({.id = "port", .bus = "pcie.0"}, RootPortConfig{}).empty());
    CHECK((b.of("a") == Bdf(0, 2, 0) && b.of("c") == Bdf(0, 4, 0) && b.of("port") == Bdf(0, 5, 0)));
    CHECK(b.add({.id = "d", .bus = "port"}).empty());
    CHECK(b.devices.find("d")->parent() == b.devices.find("port"));
    CHECK(b.of("d").device() == 0);
    CHECK(b.add({.id = "bridge"}, BridgeConfig{}).empty());
    CHECK(b.add({.id = "e", .bus = "bridge"}).empty());
    CHECK(b.of("e").device() == 1);
    CHECK(b.add({.id = "f0", .device = 20, .multiFunction = true}).empty());
    CHECK(b.add({.id = "f7", .device = 20, .function = 7}).empty());
    CHECK(b.bus.configRead(Bdf(0, 20, 0), 0xe, 1) == 0x80);
    CHECK(b.devices.find("") == nullptr);
}

TEST_CASE("PCI devices: what can't be had is refused by a sentence") {
    Bench b;
    b.add({.id = "port"}, RootPortConfig{}), b.add({.id = "bridge"}, BridgeConfig{}), b.add({.id = "edu"});
    CHECK(mentions(b.add({.bus = "nobody"}), "no bus 'nobody'"));
    CHECK(mentions(b.add({.bus = "edu"}), "no bus 'edu'"));
    CHECK(mentions(b.add({.id = "edu"}), "two devices with the id 'edu'"));
    CHECK(mentions(b.add({.device = 1}), "device 1.0 is taken"));  // the display adapter's
    CHECK(mentions(b.add({.device = 4}), "device 4.0 is taken"));
    CHECK(mentions(b.add({.device = 4, .function = 1}), "multifunction=on"));
    CHECK(mentions(b.add({.device = 9, .function = 1}), "multifunction=on"));
    CHECK(mentions(b.add({.bus = "port", .device = 1}), "only device 0"));
    CHECK(b.add({.bus = "port"}).empty());
    CHECK(mentions(b.add({.bus = "port"}), "no free PCI slot"));
    CHECK(mentions(b.add({.bus = "bridge"}, RootPortConfig{}), "bus 0"));
    CHECK(
        mentions(b.add({.processor = 2}, RelayDeviceConfig{}), "-device kiln-relay: interrupts=dedicated:2"));
    for (unsigned n = 0; n < 27; n++) CHECK(b.add({}).empty());
    CHECK(mentions(b.add({}), "no free PCI slot"));
}
