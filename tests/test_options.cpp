#include <doctest/doctest.h>

#include <unistd.h>
#include <fstream>

#include "frontend/options.hpp"

using namespace kiln;

namespace {

// -bios keeps the tests independent of installed firmware; the video BIOS is switched off likewise.
Options parse(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"-bios", "BIOS", "-vga", "none"});
    auto r = parseCommandLine(arguments);
    INFO(r.error);
    REQUIRE(r.options.has_value());
    return *r.options;
}

std::string refusal(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"-bios", "BIOS", "-vga", "none"});
    auto r = parseCommandLine(arguments);
    CHECK(!r.options);
    CHECK(r.exitCode == 1);
    CHECK(r.error.find('\n') == std::string::npos);
    return r.error;
}

bool mentions(const std::string& sentence, const char* what) {
    return sentence.find(what) != std::string::npos;
}

struct TemporaryFile {
    explicit TemporaryFile(uint64_t size, const char* at8001 = "")
        : path("/tmp/kiln-test-" + std::to_string(getpid())) {
        std::ofstream file(path, std::ios::binary);
        file.seekp(0x8001), file << at8001;
        file.close();
        REQUIRE(truncate(path.c_str(), off_t(size)) == 0);
    }
    ~TemporaryFile() { unlink(path.c_str()); }
    std::string path;
};

}  // namespace

TEST_CASE("options: one dash or two, value apart or joined") {
    for (auto form : {std::vector<std::string>{"-m", "64M"},
                      {"--m", "64M"},
                      {"-m=64M"},
                      {"--m=64M"},
                      {"-m", "64"},
                      {"-m", "size=64M"},
                      {"-m", "65536K"}})
        CHECK(parse(form).machine.memory == 64ull << 20);
    CHECK(parse({}).machine.memory == 512ull << 20);
    CHECK(parse({"-m", "2G"}).machine.memory == 2ull << 30);
    // A value may begin with a dash, and hold an equals sign.
    CHECK(parse({"-kernel", "k", "-append", "-x root=/dev/sda -m"}).machine.kernel.commandLine ==
          "-x root=/dev/sda -m");
}

TEST_CASE("options: memory that isn't one") {
    for (auto bad : {"", "x", "12Q", "-5", "1.5G", "99999999999999999999", "9999999T"})
        CHECK(mentions(refusal({"-m", bad}), "-m"));
}

TEST_CASE("options: drives find their places") {
    auto drives = parse({"-hda", "a", "-cdrom", "c", "-drive", "file=b,format=raw", "-fda", "f", "-drive",
                         "file=d,,x,if=ide,index=3,media=cdrom,readonly=on,snapshot=on"})
                      .machine.drives;
    REQUIRE(drives.size() == 5);
    CHECK((drives[0].file == "a" && drives[0].index == 0 && drives[0].kind == DriveKind::Disk));
    CHECK((drives[1].file == "c" && drives[1].index == 2 && drives[1].kind == DriveKind::Cdrom));
    CHECK((drives[2].file == "b" && drives[2].index == 1 && drives[2].kind == DriveKind::Disk));
    CHECK((drives[3].file == "f" && drives[3].index == 0 && drives[3].kind == DriveKind::Floppy));
    CHECK((drives[4].file == "d,x" && drives[4].index == 3 && drives[4].kind == DriveKind::Cdrom));
    CHECK((drives[4].readOnly && drives[4].snapshot));
    CHECK(!drives[0].snapshot);
    CHECK(parse({"-snapshot", "-hda", "a"}).machine.drives[0].snapshot);
    CHECK(mentions(refusal({"-hdc", "a", "-cdrom", "b"}), "two drives"));
    CHECK(mentions(refusal({"-drive", "file=a,index=4"}), "no IDE position 4"));
    CHECK(mentions(refusal({"-drive", "if=ide"}), "file="));
    CHECK(mentions(refusal({"-drive", "file=a,if=virtio"}), "if=virtio"));
    CHECK(mentions(refusal({"-drive", "file=a,format=qcow2"}), "qcow2"));
    CHECK(mentions(refusal({"-drive", "file=a,cache=none"}), "cache"));
}

TEST_CASE("options: an image alone boots, by its kind") {
    {
        TemporaryFile f(1440 * 1024);
        auto m = parse({f.path}).machine;
        CHECK(m.drives.at(0).kind == DriveKind::Floppy);
        CHECK(m.bootOrder == "acd");
    }
    {
        TemporaryFile f(2 << 20, "CD001");
        auto m = parse({f.path}).machine;
        CHECK(m.drives.at(0).kind == DriveKind::Cdrom);
        CHECK(m.bootOrder == "dca");
    }
    TemporaryFile f(2 << 20);
    CHECK(parse({f.path}).machine.drives.at(0).kind == DriveKind::Disk);
    CHECK(parse({f.path, "-boot", "d"}).machine.bootOrder == "d");
}

TEST_CASE("options: boot order and menu") {
    CHECK(parse({"-boot", "dc"}).machine.bootOrder == "dc");
    auto m = parse({"-boot", "order=ca,menu=on"}).machine;
    CHECK((m.bootOrder == "ca" && m.bootMenu));
    CHECK(mentions(refusal({"-boot", "z"}), "-boot"));
    CHECK(mentions(refusal({"-boot", "once=d"}), "once"));
}

TEST_CASE("options: streams") {
    auto o = parse({"-serial", "file:a,b", "-serial", "null", "-serial", "stdio", "-debugcon", "file:x"});
    REQUIRE(o.serial.size() == 3);
    CHECK((o.serial[0].kind == StreamTarget::File && o.serial[0].path == "a,b"));
    CHECK(o.serial[1].kind == StreamTarget::Null);
    CHECK(o.serial[2].kind == StreamTarget::Stdio);
    CHECK(o.machine.serialPorts == 3);
    CHECK(o.machine.debugConsole);
    CHECK(!parse({}).machine.debugConsole);
    CHECK(parse({"-serial", "mon:stdio"}).serial[0].withMonitor);
    CHECK(parse({"-monitor", "unix:/x,server,nowait"}).monitors.at(0).target.socket.path == "/x");
    CHECK(mentions(refusal({"-serial", "pty"}), "-serial pty"));
    CHECK(mentions(refusal({"-serial", "stdio", "-monitor", "stdio"}), "terminal"));
    CHECK(mentions(refusal({"-serial", "null", "-serial", "null", "-serial", "null", "-serial", "null",
                            "-serial", "null"}),
                   "four"));
}

TEST_CASE("options: monitors at sockets") {
    auto only = [](std::vector<std::string> arguments) {
        const Options o = parse(std::move(arguments));
        REQUIRE(o.monitors.size() == 1);
        return o.monitors[0];
    };
    auto m = only({"-qmp", "unix:/x,server=on,wait=off"});
    CHECK((m.control && !m.pretty && m.label == "compat_monitor0" && m.option == "-qmp"));
    CHECK((m.target.kind == StreamTarget::Socket && m.target.socket.path == "/x" && !m.target.wait));
    CHECK(only({"-qmp", "unix:/x,server"}).target.wait);
    CHECK(!only({"-qmp", "unix:/x,server,nowait"}).target.wait);
    CHECK(!only({"-qmp", "unix:/x"}).target.wait);
    CHECK(only({"-qmp", "unix:/a,,b,server=on"}).target.socket.path == "/a,b");
    CHECK(only({"-qmp-pretty", "unix:/x"}).pretty);
    CHECK(only({"-qmp", "tcp::4444,server=on,wait=off"}).target.socket == SocketAddress{{}, {}, 4444});
    CHECK(only({"-qmp", "tcp:[::1]:4444,server,nodelay"}).target.socket == SocketAddress{{}, "::1", 4444});
    CHECK(only({"-qmp", "stdio"}).target.kind == StreamTarget::Stdio);
    CHECK(!only({"-monitor", "tcp:localhost:4444"}).control);
    CHECK(parse({"-qmp", "none"}).monitors.empty());
    m = only(
        {"-mon", "chardev=c,mode=control,pretty=on", "-chardev", "socket,id=c,path=/x,server=on,wait=off"});
    CHECK((m.control && m.pretty && m.label == "c" && m.target.socket.path == "/x"));
    CHECK(!only({"-chardev", "socket,id=c,host=h,port=1,server", "-mon", "c,mode=readline"}).control);
    CHECK(parse({"-chardev", "stdio,id=c", "-mon", "c"}).monitor.kind == StreamTarget::Stdio);
    auto o = parse({"-chardev", "stdio,mux=on,id=c,signal=off", "-serial", "chardev:c", "-mon", "c"});
    CHECK((o.serial.at(0).kind == StreamTarget::Stdio && o.serial[0].withMonitor));
    CHECK(parse({"-chardev", "file,id=f,path=/p", "-debugcon", "chardev:f"}).debugConsole.path == "/p");

    CHECK(mentions(refusal({"-qmp", "unix:/x,server=off"}), "server=on"));
    CHECK(mentions(refusal({"-qmp", "unix:/x,reconnect=1"}), "reconnect"));
    CHECK(mentions(refusal({"-qmp", "unix:"}), "path"));
    CHECK(mentions(refusal({"-qmp", "tcp:4444"}), "HOST:PORT"));
    CHECK(mentions(refusal({"-qmp", "tcp::0"}), "no TCP port"));
    CHECK(mentions(refusal({"-qmp", "tcp::65536"}), "no TCP port"));
    CHECK(mentions(refusal({"-qmp", "pty"}), "-qmp pty"));
    CHECK(mentions(refusal({"-qmp", "stdio", "-monitor", "stdio"}), "terminal"));
    CHECK(mentions(refusal({"-mon", "chardev=c"}), "id=c"));
    CHECK(mentions(refusal({"-chardev", "stdio"}), "id="));
    CHECK(mentions(refusal({"-chardev", "pty,id=c"}), "-chardev pty"));
    CHECK(mentions(refusal({"-chardev", "socket,id=c,server=on"}), "path="));
    CHECK(mentions(refusal({"-chardev", "socket,id=c,path=/x"}), "server=on"));
    CHECK(mentions(refusal({"-chardev", "null,id=c", "-chardev", "null,id=c"}), "two"));
    CHECK(mentions(refusal({"-chardev", "stdio,id=c", "-mon", "c", "-mon", "c"}), "mux=on"));
    CHECK(mentions(refusal({"-chardev", "socket,id=c,path=/x,server=on", "-serial", "chardev:c"}),
                   "monitors only"));
    CHECK(mentions(refusal({"-mon", "c,mode=nonsense", "-chardev", "null,id=c"}), "control or readline"));
    CHECK(mentions(refusal({"-lockstep", "-qmp", "unix:/x"}), "-lockstep"));
}

TEST_CASE("options: -action") {
    auto m = parse({"-action", "reboot=shutdown,shutdown=pause"}).machine;
    CHECK((m.noReboot && m.noShutdown));
    m = parse({"-action", "reboot=reset,shutdown=poweroff"}).machine;
    CHECK((!m.noReboot && !m.noShutdown));
    CHECK(mentions(refusal({"-action", "reboot=pause"}), "reset or shutdown"));
    CHECK(mentions(refusal({"-action", "panic=none"}), "panic"));
}

TEST_CASE("options: -nographic joins COM1 and the monitor on the terminal") {
    auto o = parse({"-nographic"});
    CHECK(o.display == DisplayChoice::None);
    REQUIRE(o.serial.size() == 1);
    CHECK((o.serial[0].kind == StreamTarget::Stdio && o.serial[0].withMonitor));
    CHECK(parse({"-nographic", "-serial", "null"}).serial[0].kind == StreamTarget::Null);
    CHECK(!parse({"-nographic", "-monitor", "none"}).serial[0].withMonitor);
}

TEST_CASE("options: devices, time and the rest") {
    auto m = parse({"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-icount", "shift=3", "-rtc",
                    "base=2006-06-17T16:01:21", "-no-reboot", "-no-shutdown", "-S"})
                 .machine;
    REQUIRE(m.debugExit);
    CHECK((m.debugExit->port == 0xf4 && m.debugExit->size == 4));
    CHECK(m.icountShift == 3u);
    CHECK(!m.testdev);
    auto t = parse({"-device", "pc-testdev", "-device", "isa-debug-exit", "-machine", "q35,pit=off"}).machine;
    CHECK((t.testdev && t.debugExit && !t.pit && t.hpet));
    CHECK(!parse({"-M", "hpet=off"}).machine.hpet);
    CHECK(mentions(refusal({"-machine", "pit=maybe"}), "on or off"));
    CHECK(mentions(refusal({"-machine", "vmport=on"}), "vmport"));
    CHECK(m.rtcStart == 1150560081);
    CHECK((m.noReboot && m.noShutdown && m.startStopped));
    CHECK(!parse({}).machine.icountShift);
    CHECK(parse({"-icount", "auto"}).machine.icountShift);
    CHECK(mentions(refusal({"-icount", "shift=99"}), "shift"));
    CHECK(mentions(refusal({"-device", "e1000"}), "e1000"));
    CHECK(mentions(refusal({"-rtc", "base=yesterday"}), "yesterday"));
}

TEST_CASE("options: the remapping unit and edu devices") {
    auto m = parse({"-M", "q35,kernel-irqchip=split", "-device", "intel-iommu,intremap=on,eim=off", "-device",
                    "edu", "-device", "edu,dma_mask=0xffffffffffffffff,addr=0x1e", "-device",
                    "driver=edu,addr=a.0"})
                 .machine;
    REQUIRE(m.iommu);
    CHECK((m.iommu->interruptRemapping && !m.iommu->extendedInterruptMode && m.iommu->passThrough));
    CHECK((m.iommu->addressWidth == 39 && !m.iommu->cachingMode && !m.iommu->deviceTlb));
    REQUIRE(m.pciDevices.size() == 3);
    auto mask = [&](unsigned n) { return std::get<EduConfig>(m.pciDevices[n].kind).dmaMask; };
    auto slot = [&](unsigned n) { return m.pciDevices[n].place.device; };
    CHECK((mask(0) == 0xfffffff && !slot(0)));
    CHECK((mask(1) == ~0ull && slot(1) == 30u && slot(2) == 10u));
    auto of = [](const char* device) { return *parse({"-device", device}).machine.iommu; };
    CHECK(of("intel-iommu").extendedInterruptMode);
    CHECK(!of("intel-iommu,intremap=off").extendedInterruptMode);
    CHECK(!of("intel-iommu,intremap=off,eim=auto").interruptRemapping);
    auto all = of("intel-iommu,intremap=auto,eim=on,aw-bits=48,caching-mode=on,pt=off,device-iotlb=on");
    CHECK((all.interruptRemapping && all.extendedInterruptMode && all.addressWidth == 48));
    CHECK((all.cachingMode && !all.passThrough && all.deviceTlb));
    CHECK(!parse({}).machine.iommu);
    CHECK(mentions(refusal({"-device", "intel-iommu,intremap=off,eim=on"}), "eim=on"));
    CHECK(mentions(refusal({"-device", "intel-iommu,aw-bits=57"}), "aw-bits"));
    CHECK(mentions(refusal({"-device", "intel-iommu,x-scalable-mode=on"}), "x-scalable-mode"));
    CHECK(mentions(refusal({"-device", "intel-iommu", "-device", "intel-iommu"}), "only one"));
    CHECK(mentions(refusal({"-device", "edu,addr=20"}), "addr=20"));
    CHECK(mentions(refusal({"-device", "edu,addr=2.8"}), "2.8"));
    CHECK(mentions(refusal({"-device", "edu,addr=2:1"}), "2:1"));
    CHECK(mentions(refusal({"-device", "iobase=1"}), "which device"));
    CHECK(mentions(refusal({"-device", "pc-testdev,x=1"}), "'x'"));
}

TEST_CASE("options: PCI bridges, where functions are, and which way their interrupts go") {
    auto m = parse({"-device",
                    "pcie-root-port,id=rp0,bus=pcie.0,port=4,chassis=1,slot=7,addr=0x1c.3,multifunction=on",
                    "-device", "pci-bridge,chassis_nr=2,id=br", "-device",
                    "kiln-irqtest,bus=rp0,addr=0,msi=8,vectors=2048,memory=1G,interrupts=dedicated:3",
                    "-device", "kiln-relay,bus=br,addr=1f.7,interrupts=shared", "-device", "kiln-irqtest"})
                 .machine;
    REQUIRE(m.pciDevices.size() == 5);
    const PciPlace &port = m.pciDevices[0].place, &test = m.pciDevices[2].place,
                   &relay = m.pciDevices[3].place;
    CHECK((port.id == "rp0" && port.bus == "pcie.0" && port.device == 0x1cu && port.function == 3));
    CHECK((port.multiFunction && !test.multiFunction));
    const auto& p = std::get<RootPortConfig>(m.pciDevices[0].kind);
    CHECK((p.port == 4 && p.slot == 7));
    CHECK(std::get<BridgeConfig>(m.pciDevices[1].kind).chassis == 2);
    CHECK((test.bus == "rp0" && test.device == 0u && test.function == 0 && test.processor == 3u));
    const auto& t = std::get<IrqTestConfig>(m.pciDevices[2].kind);
    CHECK((t.messages == 8 && t.vectors == 2048 && t.memory == 1 << 30));
    CHECK((relay.device == 31u && relay.function == 7 && !relay.processor));
    CHECK(!m.pciDevices[4].place.device);
    for (const char* bad :
         {"kiln-irqtest,msi=3", "kiln-irqtest,msi=64", "kiln-irqtest,vectors=0", "kiln-irqtest,vectors=2049",
          "kiln-irqtest,memory=3M", "kiln-irqtest,memory=128G", "edu,interrupts=dedicated",
          "edu,interrupts=dedicated:x", "edu,interrupts=both", "edu,multifunction=1",
          "pcie-root-port,slot=8192", "pcie-root-port,port=256", "pci-bridge,chassis_nr=256"})
        CHECK_FALSE(refusal({"-device", bad}).empty());
    CHECK(mentions(refusal({"-device", "kiln-relay,vectors=4"}), "'vectors'"));
    CHECK(mentions(refusal({"-device", "pci-bridge,shpc=on"}), "'shpc'"));
    CHECK(mentions(refusal({"-M", "kernel-irqchip=maybe"}), "kernel-irqchip"));
}

TEST_CASE("options: what isn't implemented is refused by name") {
    CHECK(mentions(refusal({"-enable-kvm"}), "option -enable-kvm is not implemented in kiln"));
    CHECK(mentions(refusal({"--gdb", "tcp::1234"}), "option -gdb is not implemented"));
    CHECK(mentions(refusal({"-smp", "0"}), "1 to 64"));
    CHECK(mentions(refusal({"-smp", "65"}), "1 to 64"));
    CHECK(mentions(refusal({"-smp", "2,maxcpus=4"}), "added"));
    CHECK(mentions(refusal({"-smp", "6,cores=4"}), "multiply"));
    CHECK(mentions(refusal({"-smp", "sockets=8,cores=16"}), "at most 64"));
    CHECK(mentions(refusal({"-smp", "2,dies=2"}), "dies"));
    CHECK(mentions(refusal({"-cpu", "host"}), "-cpu host"));
    CHECK(mentions(refusal({"-cpu", "max,-foo"}), "no CPU feature 'foo'"));
    CHECK(mentions(refusal({"-accel", "tcg"}), "-accel tcg"));
    CHECK(mentions(refusal({"-accel", "interp,thread=many"}), "thread="));
    CHECK(mentions(refusal({"-accel", "interp,tb-size=1"}), "tb-size"));
    CHECK(mentions(refusal({"-accel", "jit,tier1=0"}), "tier1="));
    CHECK(mentions(refusal({"-accel", "jit,tb-size=100000"}), "tb-size="));
    CHECK(mentions(refusal({"-accel", "jit,portable=maybe"}), "portable="));
    CHECK(parse({"-accel", "interp,thread=multi"}).machine.threads);
    CHECK_FALSE(parse({"-accel", "interp,thread=single"}).machine.threads);
    CHECK(mentions(refusal({"-machine", "microvm"}), "microvm"));
    CHECK(mentions(refusal({"-vga", "cirrus"}), "cirrus"));
    CHECK(mentions(refusal({"-display", "gtk"}), "gtk"));
    CHECK(mentions(refusal({"-m"}), "needs a value"));
    CHECK(mentions(refusal({"-S=1"}), "takes no value"));
    CHECK(mentions(refusal({"-initrd", "x"}), "-kernel"));
    CHECK(mentions(refusal({"-append", "x"}), "-kernel"));
    parse({"-smp", "1", "-cpu", "qemu64", "-machine", "q35", "-accel", "interp", "-net", "none"});
}

TEST_CASE("options: the translator is the default where there is one") {
    CHECK(parse({}).machine.translator.has_value() == kTranslates);
    CHECK(parse({"-accel", "thread=multi"}).machine.translator.has_value() == kTranslates);
    CHECK_FALSE(parse({"-accel", "interp"}).machine.translator);
    CHECK_FALSE(parse({"-accel", "jit", "-accel", "interp"}).machine.translator);  // the last one counts
    CHECK(parse({"-accel", "interp", "-accel", "jit"}).machine.translator.has_value() == kTranslates);
    CHECK(parseCommandLine({"-accel", "jit"}).warnings.empty() == kTranslates);
    if (!kTranslates) return;
    CHECK(parse({}).machine.translator->dispensable);
    CHECK(parse({"-accel", "tb-size=3"}).machine.translator->bufferBytes == 3u << 20);
    CHECK_FALSE(parse({"-accel", "jit"}).machine.translator->dispensable);
    CHECK(parse({"-accel", "jit,portable=on"}).machine.translator->portable);
    CHECK(parse({"-accel", "jit"}).machine.translator->background);
    CHECK_FALSE(parse({"-accel", "jit,background=off"}).machine.translator->background);
    const auto jit = parse({"-accel", "jit,tier1=7,tier2=0,tb-size=3"}).machine.translator;
    const auto plain = parse({"-accel", "jit,promote=off,compound=off"}).machine.translator;
    CHECK((jit && jit->promote && jit->compound && plain && !plain->promote && !plain->compound));
    CHECK((jit && jit->tier1 == 7 && jit->tier2 == 0 && jit->bufferBytes == 3u << 20));
}

TEST_CASE("options: -smp groups processors as QEMU does") {
    struct {
        const char* text;
        unsigned sockets, cores, threads;
    } const kCases[] = {{"1", 1, 1, 1},
                        {"4", 1, 4, 1},
                        {"cpus=4,sockets=4", 4, 1, 1},
                        {"8,threads=2", 1, 4, 2},
                        {"8,cores=2,threads=2", 2, 2, 2},
                        {"12,sockets=2,cores=3,threads=2", 2, 3, 2},
                        {"sockets=2,cores=2", 2, 2, 1},
                        {"maxcpus=6,cpus=6", 1, 6, 1},
                        {"64", 1, 64, 1}};
    for (const auto& c : kCases) {
        CAPTURE(c.text);
        CpuTopology t = parse({"-smp", c.text}).machine.topology;
        CHECK(t.sockets == c.sockets);
        CHECK(t.cores == c.cores);
        CHECK(t.threads == c.threads);
    }
}

TEST_CASE("options: APIC ids have a field for each level") {
    CpuTopology t{2, 3, 2};  // a bit for the thread, two for the core
    const uint32_t kIds[] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13};
    for (unsigned n = 0; n < t.cpus(); n++) CHECK(t.apicId(n) == kIds[n]);
    CHECK(CpuTopology{}.apicId(0) == 0);
    CHECK(CpuTopology{64, 1, 1}.apicId(63) == 63);
}

TEST_CASE("options: processor models") {
    CHECK(parse({}).machine.cpu->name == "kiln");
    CHECK(parse({"-cpu", "x86-64-v2"}).machine.cpu->name == "x86-64-v2");
    CHECK(!parse({"-cpu", "max,-sse4.2"}).machine.cpu->has(Feature::SSE4_2));
    CHECK(parse({"-cpu", "486", "-cpu", "qemu64,+popcnt"})
              .machine.cpu->has(Feature::POPCNT));  // the last counts
    auto warned = parseCommandLine({"-cpu", "max,+svm"});
    REQUIRE(warned.options);
    REQUIRE(warned.warnings.size() == 1);
    CHECK(mentions(warned.warnings[0], "svm"));
    CHECK(parseCommandLine({"-cpu", "max,+svm", "-cpu", "max"}).warnings.empty());
    auto help = parseCommandLine({"-cpu", "help"});
    CHECK((!help.options && help.exitCode == 0 && help.error.empty()));
    for (auto word : {"Nehalem", "x86-64-v3", "pentium3", "sse4.2"})
        CHECK_MESSAGE(mentions(help.output, word), word);
}

TEST_CASE("options: help and version") {
    auto help = parseCommandLine({"--help"});
    CHECK((!help.options && help.exitCode == 0));
    for (auto word : {"-kernel", "-drive", "-serial", "-icount", "machine:", "debug:"})
        CHECK_MESSAGE(mentions(help.output, word), word);
    CHECK(mentions(parseCommandLine({"-help", "debug"}).output, "guest_errors"));
    CHECK(!mentions(parseCommandLine({"-help", "debug"}).output, "-kernel"));
    CHECK(mentions(parseCommandLine({"--help", "nonsense"}).error, "nonsense"));
    CHECK(mentions(parseCommandLine({"-version"}).output, "kiln 0.1"));
}

TEST_CASE("options: what looks at translated code wants a translator") {
    if (!kTranslates) return;
    const Options o = parse({"-accel", "jit", "-perfmap", "--jitdump"});
    CHECK(o.machine.translator->perfMap);
    CHECK(o.machine.translator->jitDump);
    CHECK(!parse({"-accel", "jit"}).machine.translator->perfMap);
    CHECK(parse({"-perfmap"}).machine.translator->perfMap);
    CHECK(mentions(refusal({"-perfmap", "-accel", "interp"}), "-accel jit"));
    CHECK(parse({"-lockstep"}).lockstep.has_value());
    CHECK(parse({"-lockstep", "-accel", "interp"}).machine.translator.has_value());
    CHECK(parse({"-lockstep", "-m", "1G"}).machine.memory == 1u << 30);
    const Options chosen =
        parse({"--lockstep", "slice=500,memory=3M,stop=2G,tier1=7", "-accel", "jit,tier1=9"});
    CHECK((chosen.lockstep->slice == 500 && chosen.lockstep->memoryEvery == 3'000'000));
    CHECK((chosen.lockstep->most == 2'000'000'000 && chosen.machine.translator->tier1 == 7));
    CHECK(parse({"-lockstep=stop=10k", "image"}).lockstep->most == 10'000);
    CHECK(mentions(refusal({"-lockstep", "slice=20001"}), "slice=20001"));
    CHECK(mentions(refusal({"-lockstep", "memory=0"}), "memory=0"));
    CHECK(mentions(refusal({"-lockstep", "stop=1X"}), "1X"));
    CHECK(mentions(refusal({"-lockstep", "pace=1"}), "'pace'"));
    CHECK(mentions(refusal({"-lockstep", "-accel", "jit,thread=multi"}), "thread=single"));
}
