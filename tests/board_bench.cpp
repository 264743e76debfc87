#include "tests/board_bench.hpp"

namespace kiln::test {

std::vector<uint8_t> blankFirmware() {
    std::vector<uint8_t> rom(64 << 10);
    rom[rom.size() - 16] = 0xf4;
    return rom;
}

BoardBench::BoardBench(std::vector<DriveConfig> drives)
    : apic(
          clock, apicBus, 0, true, [this] { return time.now(); }, 1'000'000'000),
      firmware(blankFirmware()) {
    memory.mapIo(PhysAddr(ApicBus::kWindowBase), kPageSize, apic, 1);
    MachineConfig config;
    config.memory = kRam;
    config.firmware = firmware.path();
    config.drives = std::move(drives);
    config.serialPorts = 4;
    config.debugConsole = true;
    config.debugExit.emplace();
    config.iommu.emplace();
    using Place = PciPlace;
    config.pciDevices = {{Place{}, EduConfig{}},
                         {Place{.id = "port", .device = 5}, RootPortConfig{.port = 1, .slot = 3}},
                         {Place{.id = "test", .bus = "port"}, IrqTestConfig{}},
                         {Place{.id = "bridge"}, BridgeConfig{}},
                         {Place{.bus = "bridge"}, IrqTestConfig{.messages = 1, .vectors = 2048}},
                         {Place{}, RelayDeviceConfig{}}};
    config.rtcStart = 1'000'000'000;
    BoardPorts wires{log, gate, clock, memory, ports, apicBus};
    wires.reset = [this](const char*) { resetWanted = true; };
    wires.powerOff = wires.suspend = wires.wake = [] {};
    wires.exit = [](int) {};
    wires.a20 = [](bool) {};
    board = std::make_unique<Board>(wires, config);
    board->reset();
    apic.reset();
}

void BoardBench::pass(Nanos duration) {
    time.advance(duration);
    clock.runDue();
}

void BoardBench::serveReset() {
    if (!resetWanted) return;
    resetWanted = false;
    board->reset();
    apic.reset();
}

void BoardBench::takeInterrupt() {
    if (apic.intrPending()) apic.acknowledgeIntr();
    apic.ioWrite(0xb0, 4, 0);
}

}  // namespace kiln::test
