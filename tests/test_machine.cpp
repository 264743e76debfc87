// Whole machines in one process, running the small programs of machine_rom.asm in place of a BIOS.
#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "devices/board.hpp"
#include "devices/irq_test.hpp"
#include "devices/machine.hpp"
#include "frontend/monitor.hpp"
#include "tests/cpu_bench.hpp"

namespace kiln {
extern const std::span<const uint8_t> kMachineRom;
}

using namespace kiln;

namespace {

enum Program : uint8_t {
    kHello,
    kThreeResets,
    kPowerOff,
    kTenTicks,
    kSumKeys,
    kDirtyShadow,
    kAllProcessors,
    kSuspend,
    kSteadyTime
};

struct RomFile {
    explicit RomFile(Program program) {
        static unsigned count = 0;
        path = "/tmp/kiln-test-" + std::to_string(getpid()) + "-" + std::to_string(count++) + ".rom";
        std::vector<char> bytes(kMachineRom.begin(), kMachineRom.end());
        bytes[0] = char(program);
        std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
    }
    ~RomFile() { unlink(path.c_str()); }
    std::string path;
};

MachineConfig configFor(const RomFile& rom) {
    MachineConfig c;
    c.translator = test::chosenTranslator();
    c.firmware = rom.path;
    c.memory = 16 << 20;
    c.vga = false;
    c.debugConsole = true;
    c.debugExit.emplace();
    c.rtcStart = 0;
    return c;
}

MachineConfig counted(MachineConfig c) {
    c.icountShift = 2;
    return c;
}

}  // namespace

TEST_CASE("machine: the debug console and isa-debug-exit") {
    RomFile rom(kHello);
    std::string said;
    MachineOutputs outputs;
    outputs.debugConsole = [&](uint8_t c) { said += char(c); };
    Machine m(configFor(rom), outputs);
    RunResult r = m.run();
    CHECK(r.exitCode == 7);
    CHECK(r.message.empty());
    CHECK(said == "k");
}

TEST_CASE("machine: without memory for host code the interpreter runs, unless the translator was asked for") {
    if (!kTranslates) return;
    RomFile rom(kHello);
    MachineConfig c = configFor(rom);
    c.translator = TranslatorOptions{.bufferBytes = size_t(1) << 60, .dispensable = true};
    Machine m(c, {});
    CHECK_FALSE(m.config().translator);
    CHECK(m.run().exitCode == 7);
    c.translator->dispensable = false;
    CHECK_THROWS_AS(Machine(c, {}), std::runtime_error);
}

TEST_CASE("machine: a reset starts the firmware again and keeps CMOS RAM") {
    RomFile rom(kThreeResets);
    CHECK(Machine(configFor(rom), {}).run().exitCode == 7);
    MachineConfig once = configFor(rom);
    once.noReboot = true;
    CHECK(Machine(once, {}).run().exitCode == 0);
}

TEST_CASE("machine: soft off ends the run, or stops the machine") {
    RomFile rom(kPowerOff);
    CHECK(Machine(configFor(rom), {}).run().exitCode == 0);

    MachineConfig stay = configFor(rom);
    stay.noShutdown = true;
    Machine m(stay, {});
    bool stopped = false;
    auto check = m.gate().openChannel("check", [&](std::span<const uint8_t>) {
        stopped = m.stopped();
        m.requestExit(5);
    });
    std::thread asker([&] {
        usleep(500'000);
        m.gate().post(check, {});
    });
    CHECK(m.run().exitCode == 5);
    CHECK(stopped);
    asker.join();
}

TEST_CASE("machine: suspend to RAM keeps RAM, its shadow and the clock, and starts the firmware anew") {
    RomFile rom(kSuspend);
    CHECK(Machine(counted(configFor(rom)), {}).run().exitCode == 7);  // woken by the RTC's alarm
    for (bool threads : {false, true}) {
        CAPTURE(threads);
        MachineConfig config = configFor(rom);
        config.threads = threads;
        config.memory = 17 << 20;  // tells the program not to set the alarm
        Machine m(config, {});
        Monitor monitor(m);
        unsigned looks = 0;
        auto look = m.gate().openChannel("look", [&](std::span<const uint8_t>) {
            if (m.suspended() && ++looks == 3) {
                CHECK(monitor.execute("info status").starts_with("VM status: paused (suspended)"));
                monitor.execute("system_wakeup");
            }
        });
        std::thread user([&] {
            const uint8_t any[] = {0};
            for (int n = 0; n < 100; n++) m.gate().post(look, any), usleep(10'000);
        });
        CHECK(m.run().exitCode == 7);
        CHECK(looks >= 3);
        user.join();
    }
}

TEST_CASE("machine: counted time is the same in every run, and idle time costs nothing") {
    RomFile rom(kTenTicks);
    uint64_t instructions[2], hashes[2];
    Nanos times[2];
    for (unsigned i = 0; i < 2; i++) {
        Machine m(counted(configFor(rom)), {});
        CHECK(m.run().exitCode == (10 << 1 | 1));
        StateHash hash;
        m.board().state(hash);
        instructions[i] = m.cpu().executed(), times[i] = m.clock().now(), hashes[i] = hash.value();
    }
    CHECK(instructions[0] == instructions[1]);
    CHECK(times[0] == times[1]);
    CHECK(hashes[0] == hashes[1]);
    CHECK(instructions[0] < 10000);
    // Periods of 65536 / 1193182 s; programming the PIT makes the first edge.
    CHECK(times[0] > 494 * (kSecond / 1000));
    CHECK(times[0] < 551 * (kSecond / 1000));
}

TEST_CASE("machine: all processors start, in turns or on threads of their own") {
    RomFile rom(kAllProcessors);
    for (unsigned cpus : {1, 2, 5, 64}) {
        for (bool threads : {false, true}) {
            CAPTURE(threads);
            CAPTURE(cpus);
            CAPTURE(threads);
            MachineConfig c = configFor(rom);
            c.topology.cores = cpus;
            c.threads = threads;
            CHECK(Machine(c, {}).run().exitCode == int((cpus - 1) << 1 | 1));
        }
    }
}

TEST_CASE("machine: processors that take turns with counted time do so alike in every run") {
    RomFile rom(kAllProcessors);
    uint64_t instructions[2], hashes[2];
    for (unsigned i = 0; i < 2; i++) {
        MachineConfig c = counted(configFor(rom));
        c.topology.cores = 7;
        Machine m(c, {});
        CHECK(m.run().exitCode == 13);
        StateHash hash;
        m.state(hash);
        instructions[i] = m.executed(), hashes[i] = hash.value();
    }
    CHECK(instructions[0] == instructions[1]);
    CHECK(hashes[0] == hashes[1]);
    MachineConfig c = counted(configFor(rom));
    c.threads = true;
    CHECK_THROWS_WITH_AS(Machine(c, {}), doctest::Contains("thread=single"), std::runtime_error);
    c = configFor(rom);
    c.topology.cores = 65;
    CHECK_THROWS_WITH_AS(Machine(c, {}), doctest::Contains("1 to 64"), std::runtime_error);
}

TEST_CASE("machine: host time passes at its own pace, but not while the machine is stopped") {
    RomFile rom(kTenTicks);
    MachineConfig config = configFor(rom);
    config.startStopped = true;
    Machine m(config, {});
    m.gate().hostTime();  // counts from its first use
    auto resume = m.gate().openChannel("resume", [&](std::span<const uint8_t>) {
        CHECK(m.clock().now() == 0);
        m.resume();
    });
    std::thread starter([&] {
        usleep(200'000);
        m.gate().post(resume, {});
    });
    CHECK(m.run().exitCode == 21);
    starter.join();
    CHECK(m.clock().now() >= 494 * (kSecond / 1000));
    CHECK(m.gate().hostTime() >= m.clock().now() + 150 * (kSecond / 1000));
}

TEST_CASE("machine: the time-stamp counter runs with the host's time, read by either engine") {
    RomFile rom(kSteadyTime);
    for (const bool translated : {false, true}) {
        CAPTURE(translated);
        MachineConfig config = configFor(rom);
        if (translated) config.translator = TranslatorOptions{.tier1 = 2};
        Machine m(config, {});
        const Nanos before = m.gate().hostTime();
        CHECK(m.run().exitCode == 21);
        const Nanos took = m.gate().hostTime() - before;
        CHECK(took >= 29 * (kSecond / 1000));
        CHECK(m.clock().now() >= 30 * (kSecond / 1000));
        CHECK(m.clock().now() <= took + kSecond / 1000);
    }
}

TEST_CASE("machine: keys reach the guest, typed or sent by the monitor") {
    RomFile rom(kSumKeys);
    SUBCASE("posted from outside") {
        Machine m(configFor(rom), {});
        m.postKey(0x04, true);  // A
        m.postKey(0x29, true);  // Escape
        CHECK(m.run().exitCode == (0x1e << 1 | 1));
    }
    SUBCASE("sendkey presses and releases") {
        Machine m(counted(configFor(rom)), {});
        Monitor monitor(m);
        CHECK(monitor.execute("sendkey a").empty());
        CHECK(monitor.execute("sendkey esc").empty());
        CHECK(m.run().exitCode == (((0x1e + 0x9e) & 0xff) << 1 | 1));
    }
}

TEST_CASE("machine: code that a mapping hid does not run any more") {
    RomFile rom(kDirtyShadow);
    CHECK(Machine(configFor(rom), {}).run().exitCode == (0x55 << 1 | 1));
}

TEST_CASE("machine: two of them don't know of each other") {
    RomFile ticks(kTenTicks), hello(kHello);
    Machine a(counted(configFor(ticks)), {}), b(configFor(hello), {});
    int codeA = 0;
    std::thread other([&] { codeA = a.run().exitCode; });
    CHECK(b.run().exitCode == 7);
    other.join();
    CHECK(codeA == 21);
}

TEST_CASE("machine: two of them share a CD-ROM, but not a disk") {
    RomFile rom(kHello);
    MachineConfig c = configFor(rom);
    c.drives = {{rom.path, DriveKind::Cdrom, 2}};
    Machine a(c, {});
    CHECK_NOTHROW(Machine(c, {}));
    RomFile image(kHello);
    c.drives = {{image.path, DriveKind::Disk, 0}};
    Machine b(c, {});
    CHECK_THROWS_WITH_AS(Machine(c, {}), doctest::Contains("in use by another machine"), std::runtime_error);
}

TEST_CASE("monitor: answers") {
    RomFile rom(kTenTicks);
    Machine m(counted(configFor(rom)), {});
    m.stop();
    Monitor monitor(m);
    auto says = [&](const char* command, const char* words) {
        std::string answer = monitor.execute(command);
        INFO(command, " -> ", answer);
        CHECK(answer.find(words) != std::string::npos);
    };
    CHECK(monitor.execute("  ").empty());
    says("nonsense", "unknown command");
    says("help", "system_powerdown");
    says("info", "info registers");
    says("info registers", "RIP=000000000000fff0");
    says("info registers", "real mode");
    says("info registers -a", "CPU 0");
    says("info cpus", "* CPU  0: APIC id  0");
    says("cpu 1", "from 0 to 0");
    says("info status", "VM status: paused\n");
    says("info version", "kiln 0.1");
    says("info pic", "I/O APIC input 23");
    says("info pci", "8086:29c0");
    says("info devices", "mc146818");
    says("info device mc146818", "ram");
    says("info device nonsense", "no device");
    says("info blocks", "blocks");
    says("info screen", "graphics");
    says("xp /2xb 0xffff1", "0x");
    says("xp/1xb 0xffff0", "0xea");
    says("x/1xh 0xfffffff0", "0x");
    says("xp/2xw 0xfee00000", "register");
    says("xp /1xb 0xffffffffffffffff", "0x");  // the last byte there can be
    says("xp /4xg 0xfffffffffffffff8", "0x");
    says("xp/99q 0", "format");
    says("xp", "address");
    says("print $rip", "0xfff0");
    says("print $nonsense", "no '$nonsense'");
    says("screendump x.png", "no display adapter");
    says("sendkey ctrl-nonsense", "names of keys");
    says("mouse_move 1", "numbers");
}

TEST_CASE("machine: the monitor shows the interrupt relay, clears it and turns interrupts elsewhere") {
    RomFile rom(kHello);
    MachineConfig c = configFor(rom);
    c.pciDevices = {{{.id = "port"}, RootPortConfig{}}, {{.id = "test", .bus = "port"}, IrqTestConfig{}}};
    Machine m(c, {});
    Monitor monitor(m);
    auto says = [&](const char* command, const char* words) {
        std::string answer = monitor.execute(command);
        INFO(command, " -> ", answer);
        CHECK(answer.find(words) != std::string::npos);
    };
    says("info relay", "no PCI function has interrupted");
    auto& test = static_cast<IrqTest&>(*m.board().pciFunction("test"));
    test.raise(0);
    says("info relay", "INTA");
    says("info relay", "1 raised, indicator 1");
    CHECK(monitor.execute("relay_clear test").empty());
    says("info relay test", "1 raised, indicator 0");
    says("relay_clear nobody", "no PCI function 'nobody'");
    says("info relay 00:1e.0", "no PCI function");
    says("info relay 00:1f.0", "00:1f.0 shared");
    says("device_interrupts test", "shared");
    CHECK(monitor.execute("device_interrupts test dedicated:0").empty());
    says("device_interrupts test", "dedicated:0");
    says("info relay", "dedicated:0");
    says("device_interrupts test dedicated:1", "no processor 1");
    says("device_interrupts test dedicated:x", "needs");
    says("device_interrupts", "needs");
    CHECK(monitor.execute("device_interrupts test shared").empty());
    CHECK(test.relay()->interrupts() == InterruptRelay::kShared);
    says("info pci", "1b36:000c class 060400 pcie-root-port");
    says("info pci", "BAR 4 ");
}
