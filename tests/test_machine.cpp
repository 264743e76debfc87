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

TEST_CASE("monitor: page tables of every mode") {
    RomFile rom(kTenTicks);
    Machine m(counted(configFor(rom)), {});
    Monitor monitor(m);
    Cpu& c = m.cpu();
    // Tables from 1 MiB on, a page each: the first is the top one, each names the next by its entries 0 and,
    // but for the last, 1.
    auto entry = [&](unsigned table, unsigned index, unsigned bytes, uint64_t value) {
        const PhysAddr at((1 << 20) + table * kPageSize + index * bytes);
        m.memory().write(at, &value, bytes);
    };
    auto tableAt = [](unsigned n) { return uint64_t((1 << 20) + n * kPageSize); };
    constexpr uint64_t kNx = 1ull << 63;
    c.cr3 = 1 << 20;
    c.cr0 |= cr0::PE | cr0::PG;
    SUBCASE("32 bits") {
        entry(0, 0, 4, tableAt(1) | 7);
        entry(0, 1, 4, 0x00c02000 | 0x83);  // 4 MiB, its address' bits 39:32 are 1
        entry(1, 0, 4, 0x5000 | 0x67);
        entry(1, 1, 4, 0x7000 | 0x67);
        entry(1, 3, 4, 0x9000 | 5);
        c.cr4 |= cr4::PSE;
        CHECK(monitor.execute("info mem") ==
              "0000000000000000-0000000000002000 0000000000002000 urwx\n"
              "0000000000003000-0000000000004000 0000000000001000 ur-x\n"
              "0000000000400000-0000000000800000 0000000000400000 -rwx\n");
        CHECK(monitor.execute("info mappings 0x3000") ==
              "0000000000003000: 0000000000009000 -------U-\n"
              "0000000000400000: 0000000100c00000 --P-----W\n");
    }
    SUBCASE("PAE") {
        entry(0, 3, 8, tableAt(1) | 1);
        entry(1, 0, 8, tableAt(2) | 7);
        entry(1, 1, 8, 0x600000 | 0x81);
        entry(2, 511, 8, 0x4000 | 3);
        c.cr4 |= cr4::PAE;
        CHECK(monitor.execute("info mem") ==
              "00000000c01ff000-00000000c0200000 0000000000001000 -rwx\n"
              "00000000c0200000-00000000c0400000 0000000000200000 -r-x\n");
    }
    for (bool five : {false, true}) SUBCASE(five ? "5 levels" : "4 levels") {
            c.efer |= efer::LME | efer::LMA | efer::NXE;
            c.cr4 |= cr4::PAE | (five ? cr4::LA57 : 0);
            if (five) entry(4, 511, 8, tableAt(0) | 7);
            if (five) c.cr3 = tableAt(4);
            entry(0, 511, 8, tableAt(1) | 7);
            entry(1, 510, 8, 0x80000000 | 0x83);  // 1 GiB
            entry(1, 511, 8, tableAt(2) | 3);
            entry(2, 0, 8, 0x200000 | 0x83 | kNx);
            entry(2, 511, 8, tableAt(3) | 7 | kNx);
            entry(3, 511, 8, 0x3000 | 0x107);
            CHECK(monitor.execute("info mem") ==
                  "ffffffff80000000-ffffffffc0000000 0000000040000000 -rwx\n"
                  "ffffffffc0000000-ffffffffc0200000 0000000000200000 -rw-\n"
                  "fffffffffffff000-0000000000000000 0000000000001000 -rw-\n");
            CHECK(monitor.execute("info mappings 0xfffffffffffff000") ==
                  "fffffffffffff000: 0000000000003000 XG------W\n");
        }
    SUBCASE("tables that name each other have an end") {
        c.efer |= efer::LME | efer::LMA;
        c.cr4 |= cr4::PAE;
        for (unsigned i = 0; i < 512; i++) entry(0, i, 8, tableAt(0) | (i & 1 ? 7 : 5));
        CHECK(monitor.execute("info mem").ends_with("... and more\n"));
        CHECK(monitor.execute("info mappings").find("... more: info mappings 0x") != std::string::npos);
    }
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
    says("info pic", "i8259");
    says("info ioapic", " 23  ");
    says("info lapic", "LVT LINT0");
    says("info lapic 7", "no processor");
    says("info irq", "CPU 0, by vector");
    says("info qtree", "bus: isa.0");
    says("info qtree", "dev: q35-mch");
    says("info mtree", "0070-0073: mc146818");
    says("info mem", "paging is off");
    says("info mappings", "paging is off");
    says("info name", "");
    says("info uuid", "00000000-0000");
    says("info kvm", "not compiled");
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
    says("print $nonsense", "no register '$nonsense'");
    says("p $pc", "0xfffffff0");
    says("p ($rip + 0x10) * 2", "0x20000");
    says("p/d -1", "-1");
    says("p 1/0", "division");
    says("p 08", "no sense");
    says("p 'A'+010", "0x49");
    says("p 99999999999999999999", "too large");
    says("p 1 2", "no sense");
    CHECK(monitor.execute("p " + std::string(60'000, '(')).find("too deep") != std::string::npos);
    CHECK(monitor.execute("p " + std::string(60'000, '-') + "1").find("too deep") != std::string::npos);
    says("x/2i $pc", "0x00000000fffffff0:  jmp");
    says("x/3xh 0xfffffffe", "0xffff");  // nobody is behind 4 GiB
    says("xp/1xg 0xffc", "0x");              // across a page
    says("i/b 0x70", "portb[0x0070] = 0x");
    says("i/h 0xcf8", "portw[0x0cf8] = 0x");
    says("i/g 0x70", "write i/");
    says("i 0x10000", "end at");
    CHECK(monitor.execute("o/b 0x70 0x50").empty());
    CHECK(monitor.execute("o/b 0x71 0x5a").empty());
    says("i/b 0x71", "= 0x5a");
    says("o 0x70", "write o/");
    says("gva2gpa 0x1234", "gpa: 0x1234");
    says("sum 0xffff0 16", "\n");
    says("sum 0x8000000000 16", "no memory");
    says("sum 0 0xffffffffffffffff", "1 GiB");
    says("pmemsave 0 1", "needed");
    says("log nonsense", "no category");
    says("log", "guest_errors");
    CHECK(monitor.execute("log int,exec").empty());
    CHECK(m.log().on(LogCategory::Int));
    CHECK(monitor.execute("log none").empty());
    CHECK(!m.log().on(LogCategory::Int));
    says("logfile /nonexistent/x", "can't be written");
    says("help print", "[/FMT] EXPR");
    says("help p", "[/FMT] EXPR");
    says("help info mem", "rights");
    says("help nonsense", "no command");
    CHECK(monitor.execute("nmi").empty());
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
