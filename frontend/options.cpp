#include "frontend/options.hpp"

#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <ctime>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "frontend/option_values.hpp"
#include "frontend/stream_values.hpp"

namespace kiln {

const char* const kVersion = "0.1";

namespace {

// What the user wrote, before defaults are filled in.
struct Draft {
    Options options;
    std::vector<DriveRequest> drives;
    bool nographic = false, noDefaults = false, bootGiven = false, snapshotAll = false;
    bool perfMap = false, jitDump = false;
    std::vector<Chardev> chardevs;
    std::vector<ChardevMonitor> chardevMonitors;
    KeyValues lockstepTranslator;  // what -lockstep says of it
    std::vector<std::string> warnings;
};

struct Topic {
    const char* name;
    const char* text;  // printed above the topic's options
};

constexpr Topic kTopics[] = {
    {"machine", "The machine has a Q35-class board with the usual parts of a PC."},
    {"drives",
     "Disk images are raw. An image without an option is attached by its kind: floppy, CD-ROM or hard disk.\n"
     "kiln writes to disk images unless -snapshot, snapshot=on or readonly=on says otherwise."},
    {"kernel",
     "Starts a Linux (bzImage), Multiboot, Multiboot2, PVH or ELF kernel without a boot loader. Multiboot\n"
     "takes several modules: -initrd \"file words,file2 words\"."},
    {"display", "A window where there is a display; otherwise COM1 and the monitor on the terminal."},
    {"serial",
     "TARGET is stdio, mon:stdio, file:PATH, chardev:ID, null or none. With mon:stdio, Ctrl-A c switches "
     "between\n"
     "the serial port and the monitor, Ctrl-A x ends kiln, Ctrl-A h lists more."},
    {"debug", "Categories of -d: "},
};

// Values of the options that are checked against a list.
void oneOf(const std::string& option, const std::string& value, std::initializer_list<const char*> known) {
    std::string list;
    for (const char* k : known) {
        if (value == k) return;
        list += (list.empty() ? "" : ", ") + std::string(k);
    }
    throw std::runtime_error(option + " " + value + " is not implemented in kiln " + kVersion +
                             ": it takes " + list);
}

class CommandLine {
  public:
    CommandLine() {
        draft.options.machine.translator = defaultTranslator();
        app_.set_help_flag();
        app_.prefix_command(false);
        addMachine();
        addDrives();
        addKernel();
        addDisplay();
        addSerial();
        addDebug();
        app_.add_option("image", images_)->group("");
    }

    void parse(const std::vector<std::string>& arguments) {
        std::vector<std::string> list = normalise(arguments);
        std::reverse(list.begin(), list.end());  // CLI11 takes them from the back
        app_.parse(list);
        for (const std::string& image : images_) addImage(image);
    }

    std::string help(const std::string& topic) const;
    static std::string topicNames() {
        std::string list;
        for (const Topic& t : kTopics) list += (list.empty() ? "" : ", ") + std::string(t.name);
        return list;
    }
    Draft draft;

  private:
    using Value = std::function<void(const std::string&)>;

    void value(const char* name, const char* type, const char* text, Value take) {
        app_.add_option_function<std::string>(
                "--" + std::string(name), [take](const std::string& v) { take(v); }, text)
            ->type_name(type)
            ->group(topic_)
            ->trigger_on_parse()
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
    void flag(const char* name, const char* text, std::function<void()> take) {
        app_.add_flag_callback("--" + std::string(name), take, text)->group(topic_);
    }

    // `-foo` becomes `--foo`, and an option's value is joined to it, so that values may begin with a dash.
    std::vector<std::string> normalise(const std::vector<std::string>& arguments) const {
        std::vector<std::string> out;
        for (size_t i = 0; i < arguments.size(); i++) {
            const std::string& a = arguments[i];
            if (a.size() < 2 || a[0] != '-') {
                out.push_back(a);
                continue;
            }
            std::string name = a.substr(a[1] == '-' ? 2 : 1);
            std::string given;
            size_t equals = name.find('=');
            bool joined = equals != std::string::npos;
            if (joined) given = name.substr(equals + 1), name.resize(equals);
            const CLI::Option* option = name.empty() ? nullptr : app_.get_option_no_throw("--" + name);
            if (!option)
                throw std::runtime_error("option -" + name + " is not implemented in kiln " + kVersion +
                                         " (kiln --help lists those that are)");
            if (option->get_expected_max() == 0) {
                if (joined) throw std::runtime_error("option -" + name + " takes no value");
                out.push_back("--" + name);
                continue;
            }
            if (!joined && name == "lockstep" &&
                (i + 1 == arguments.size() || !isLockstepValue(arguments[i + 1]))) {
                out.push_back("--lockstep=on");
                continue;
            }
            if (!joined) {
                if (i + 1 == arguments.size()) throw std::runtime_error("option -" + name + " needs a value");
                given = arguments[++i];
            }
            out.push_back("--" + name + "=" + given);
        }
        return out;
    }

    void addMachine() {
        topic_ = "machine";
        Options& o = draft.options;
        value("m", "SIZE", "memory: 512M, 2G, or a number of MiB; default 512M",
              [&](auto& v) { o.machine.memory = parseMemory(v); });
        value("smp", "N", "processors, 1 to 64: N, or cpus=,sockets=,cores=,threads=; default 1",
              [&](auto& v) { o.machine.topology = parseSmp(v); });
        value("cpu", "MODEL[,+FEATURE][,-FEATURE]", "processor model; `-cpu help` lists models and features",
              [&](auto& v) {
                  draft.warnings.clear();
                  o.machine.cpu = chooseCpuModel(v, draft.warnings);
              });
        value("machine", "TYPE",
              "q35 or pc: both mean the one board there is; pit=off, hpet=off leave a timer out; "
              "kernel-irqchip=on|off|split is for QEMU's command lines: there is no KVM here",
              [&](auto& v) { parseMachine(v, o.machine); });
        value("M", "TYPE", "the same as -machine", [&](auto& v) { parseMachine(v, o.machine); });
        value(
            "accel",
            "jit|interp[,tier1=N][,tier2=N][,tb-size=MIB][,portable=on|off]"
            "[,background=on|off][,promote=on|off][,compound=on|off][,thread=HOW]",
            "jit: hot code becomes host code, once a block was entered N times, and with portable=on leaves "
            "what hosts compute differently (sines, reciprocals) to the interpreter; background=off makes it "
            "on "
            "no thread of its own, which it has where a host processor is idle and time is not counted; "
            "promote=off gives hot traps no code of their own, compound=off does neighbouring ones one by one; "
            "interp: "
            "the interpreter alone; default jit on x86-64 hosts, interp on others; "
            "thread=multi gives every processor a host thread, thread=single none",
            [&](auto& v) { parseAccel(v, o.machine); });
        value("bios", "FILE", "firmware image; default SeaBIOS", [&](auto& v) { o.machine.firmware = v; });
        value("rtc", "base=BASE", "calendar: base=utc, base=localtime or base=2026-01-31T12:00:00",
              [&](auto& v) { parseRtc(v, o.machine); });
        value("icount", "shift=N", "deterministic time: an instruction takes 2^N ns, N 0 to 10, or auto",
              [&](auto& v) { o.machine.icountShift = parseIcount(v); });
        value(
            "device", "DEVICE",
            "intel-iommu[,intremap=on|off|auto][,eim=on|off|auto][,aw-bits=39|48][,caching-mode=on|off]"
            "[,pt=on|off][,device-iotlb=on|off]: VT-d; edu[,dma_mask=MASK]: QEMU's educational device; "
            "pcie-root-port[,port=N][,chassis=N][,slot=N] and pci-bridge[,chassis_nr=N]: their id is the bus "
            "below; kiln-irqtest[,msi=N][,vectors=N][,memory=SIZE]: raises interrupts; kiln-relay: shows the "
            "guest "
            "who interrupted; each of these also takes id=NAME, bus=BRIDGE, addr=SLOT[.FUNCTION], "
            "multifunction=on|off and interrupts=shared|dedicated:CPU; "
            "isa-debug-exit[,iobase=PORT][,iosize=BYTES]: lets the guest end kiln; pc-testdev: for "
            "kvm-unit-tests",
            [&](auto& v) { parseDevice(v, o.machine); });
        value("net", "none", "there is no network card", [](auto& v) { oneOf("-net", v, {"none"}); });
        value("nic", "none", "there is no network card", [](auto& v) { oneOf("-nic", v, {"none"}); });
        value("parallel", "none", "there is no parallel port",
              [](auto& v) { oneOf("-parallel", v, {"none"}); });
        value("name", "NAME", "title of the window", [&](auto& v) { o.name = v.substr(0, v.find(',')); });
        flag("no-reboot", "end instead of resetting the machine", [&] { o.machine.noReboot = true; });
        flag("no-shutdown", "stop instead of ending when the guest switches off",
             [&] { o.machine.noShutdown = true; });
        value("action", "reboot=reset|shutdown,shutdown=poweroff|pause",
              "the same as options of their own: what a reset and a switch-off do",
              [&](auto& v) { parseAction(v, o.machine); });
        flag("stats",
             "print at the end what was counted: instructions, the translator's blocks and calls, "
             "translations",
             [&] { o.statistics = true; });
        flag("perfmap", "name translated code for Linux's perf in /tmp/perf-PID.map",
             [&] { draft.perfMap = true; });
        flag("jitdump",
             "the same with the code itself in jit-PID.dump: perf record -k mono, perf inject --jit",
             [&] { draft.jitDump = true; });
        value("lockstep", "[slice=N][,memory=N][,stop=N][,KEY=VALUE]",
              "run the interpreter and the translator side by side, and stop at the first difference: "
              "registers "
              "are compared every N instructions (default 20k), memory every N (200M); stop=N ends after so "
              "many; other keys are the translator's, as for -accel. Time is counted, disks are written to "
              "privately",
              [&](auto& v) {
                  o.lockstep.emplace();
                  draft.lockstepTranslator.clear();
                  if (v != "on") draft.lockstepTranslator = parseLockstep(v, *o.lockstep);
              });
        flag("S", "start stopped; `cont` in the monitor goes on", [&] { o.machine.startStopped = true; });
        flag("nodefaults", "no serial port, monitor or display unless asked for",
             [&] { draft.noDefaults = true; });
    }

    void addDrives() {
        topic_ = "drives";
        value(
            "drive", "file=FILE,...",
            "any drive: file=, if=ide|floppy, index=, media=disk|cdrom, format=raw, snapshot=on, readonly=on",
            [&](auto& v) { draft.drives.push_back(parseDrive(v)); });
        static constexpr const char* kDisks[] = {"hda", "hdb", "hdc", "hdd"};
        for (unsigned i = 0; i < 4; i++)
            value(kDisks[i], "FILE", "hard disk", [this, i](auto& v) { addDrive(v, DriveKind::Disk, i); });
        value("cdrom", "FILE", "CD-ROM, in the place of -hdc",
              [this](auto& v) { addDrive(v, DriveKind::Cdrom, 2); });
        value("fda", "FILE", "first floppy", [this](auto& v) { addDrive(v, DriveKind::Floppy, 0); });
        value("fdb", "FILE", "second floppy", [this](auto& v) { addDrive(v, DriveKind::Floppy, 1); });
        value("boot", "ORDER", "a floppy, c disk, d CD-ROM: -boot dc, or order=dc,menu=on", [this](auto& v) {
            parseBoot(v, draft.options.machine);
            draft.bootGiven = true;
        });
        flag("snapshot", "leave all images as they are: writes are dropped at the end",
             [this] { draft.snapshotAll = true; });
    }

    void addKernel() {
        topic_ = "kernel";
        KernelConfig& k = draft.options.machine.kernel;
        value("kernel", "FILE", "kernel image, such as /boot/vmlinuz-*", [&](auto& v) { k.kernel = v; });
        value("initrd", "FILE", "initial RAM disk, or modules", [&](auto& v) { k.initrd = v; });
        value("append", "TEXT", "the kernel's command line", [&](auto& v) { k.commandLine = v; });
    }

    void addDisplay() {
        topic_ = "display";
        Options& o = draft.options;
        value("display", "KIND", "sdl (a window) or none", [&](auto& v) {
            oneOf("-display", v, {"sdl", "none"});
            o.display = v == "sdl" ? DisplayChoice::Sdl : DisplayChoice::None;
        });
        value("vga", "CARD", "std or none", [&](auto& v) {
            oneOf("-vga", v, {"std", "none"});
            o.machine.vga = v == "std";
        });
        flag("nographic", "no window; COM1 and the monitor share the terminal",
             [&] { draft.nographic = true; });
    }

    void addSerial() {
        topic_ = "serial";
        Options& o = draft.options;
        value("serial", "TARGET", "COM1; once more for COM2 to COM4", [&](auto& v) {
            if (o.serial.size() == 4)
                throw std::runtime_error("there are at most four serial ports (-serial)");
            o.serial.push_back(parseStream("-serial", v));
            o.serialGiven = true;
        });
        value("monitor", "TARGET",
              "the monitor: stdio, unix:PATH or tcp:HOST:PORT[,server=on][,wait=on|off] (a listening "
              "socket), null "
              "or none",
              [&](auto& v) {
                  o.monitorGiven = true;
                  const StreamTarget target = parseStream("-monitor", v);
                  if (target.kind == StreamTarget::Socket)
                      addMonitor({.option = "-monitor", .target = target});
                  else
                      o.monitor = target;
              });
        value("qmp", "TARGET", "QEMU's machine protocol (JSON): stdio, or a socket as for -monitor",
              [&](auto& v) { addControl("-qmp", v, false); });
        value("qmp-pretty", "TARGET", "the same, indented for people",
              [&](auto& v) { addControl("-qmp-pretty", v, true); });
        value("chardev", "KIND,id=ID",
              "a stream with a name: socket,path=|host=,port=,server=on,wait=on|off; stdio[,mux=on]; "
              "file,path=; null",
              [&](auto& v) {
                  draft.chardevs.push_back(parseChardev(v));
                  for (size_t i = 0; i + 1 < draft.chardevs.size(); i++)
                      if (draft.chardevs[i].id == draft.chardevs.back().id)
                          throw std::runtime_error("-chardev: there are two with id=" + draft.chardevs[i].id);
              });
        value("mon", "chardev=ID",
              "a monitor there: mode=readline (for people) or control (the machine protocol), pretty=on",
              [&](auto& v) { draft.chardevMonitors.push_back(parseMon(v)); });
        value("debugcon", "TARGET",
              "what the guest writes to ports 0x402 and 0xE9: stdio, file:PATH, null or none",
              [&](auto& v) { o.debugConsole = parseStream("-debugcon", v); });
    }

    void addDebug() {
        topic_ = "debug";
        Options& o = draft.options;
        value("d", "CATEGORIES", "log what happens, to standard error; comma-separated",
              [&](auto& v) { o.logCategories += (o.logCategories.empty() ? "" : ",") + v; });
        value("D", "FILE", "log to a file", [&](auto& v) { o.logFile = v; });
    }

    // Labels are QEMU's.
    void addMonitor(MonitorRequest request) {
        std::vector<MonitorRequest>& all = draft.options.monitors;
        request.label = "compat_monitor" + std::to_string(all.size());
        all.push_back(std::move(request));
    }

    void addControl(const std::string& option, const std::string& value, bool pretty) {
        const StreamTarget target = parseStream(option, value);
        if (target.kind == StreamTarget::None || target.kind == StreamTarget::Null) return;
        addMonitor({.option = option, .target = target, .control = true, .pretty = pretty});
    }

    void addDrive(const std::string& file, DriveKind kind, unsigned index) {
        DriveRequest r;
        r.config.file = file;
        r.config.kind = kind;
        r.index = index;
        draft.drives.push_back(r);
    }

    void addImage(const std::string& image) {
        DriveRequest r;
        r.config.file = image;
        r.config.kind = guessDriveKind(image);
        draft.drives.push_back(r);
        if (draft.bootGiven || draft.drives.size() > 1) return;
        if (r.config.kind == DriveKind::Floppy) draft.options.machine.bootOrder = "acd";
        if (r.config.kind == DriveKind::Cdrom) draft.options.machine.bootOrder = "dca";
    }

    CLI::App app_{"kiln"};
    std::string topic_;
    std::vector<std::string> images_;
};

std::string CommandLine::help(const std::string& topic) const {
    std::ostringstream out;
    if (topic.empty())
        out << "kiln " << kVersion
            << " runs a PC in software.\n\n"
               "  kiln disk.img                              boots a floppy, CD-ROM or disk image\n"
               "  kiln -kernel vmlinuz -initrd initrd.img -append console=ttyS0 -nographic\n"
               "  kiln -cdrom image.iso -hda disk.img -boot d -m 1G\n\n"
               "Options are written -foo or --foo. `kiln --help TOPIC` tells more about a topic.\n";
    for (const Topic& t : kTopics) {
        if (!topic.empty() && topic != t.name) continue;
        out << (topic.empty() ? "\n" : "") << t.name << ":\n";
        if (!topic.empty()) {
            out << t.text;
            if (topic == "debug") out << Log::categoryNames();
            out << "\n\n";
        }
        for (const CLI::Option* o :
             app_.get_options([&](const CLI::Option* o) { return o->get_group() == t.name; })) {
            std::string left = "  -" + o->get_lnames().at(0);
            if (o->get_expected_max() > 0) left += " " + o->get_type_name();
            left.resize(std::max<size_t>(left.size() + 1, 24), ' ');
            out << left << o->get_description() << "\n";
        }
    }
    if (topic.empty())
        out << "\nother:\n  -help [TOPIC]          this text\n  -version               the version\n";
    return out.str();
}

const char* nameOf(DriveKind kind) { return kind == DriveKind::Floppy ? "floppy drive" : "IDE position"; }

// Gives every drive its place: the wished one, or the first free one.
void placeDrives(Draft& draft) {
    std::array<bool, 2> floppies{};
    std::array<bool, 4> ide{};
    auto taken = [&](DriveKind kind, unsigned index) -> bool& {
        if (index >= (kind == DriveKind::Floppy ? floppies.size() : ide.size()))
            throw std::runtime_error(std::string("there is no ") + nameOf(kind) + " " +
                                     std::to_string(index));
        return kind == DriveKind::Floppy ? floppies[index] : ide[index];
    };
    for (DriveRequest& d : draft.drives) {
        if (!d.index) continue;
        bool& place = taken(d.config.kind, *d.index);
        if (place)
            throw std::runtime_error(std::string("two drives want ") + nameOf(d.config.kind) + " " +
                                     std::to_string(*d.index));
        place = true;
    }
    for (DriveRequest& d : draft.drives) {
        unsigned index = d.config.kind == DriveKind::Cdrom ? 2 : 0;  // where -cdrom goes
        if (d.index) {
            index = *d.index;
        } else {
            if (d.config.kind == DriveKind::Cdrom && ide[2]) index = 0;
            size_t places = d.config.kind == DriveKind::Floppy ? floppies.size() : ide.size();
            while (index < places && taken(d.config.kind, index)) index++;
            if (index == places) throw std::runtime_error("there are more drives than places for them");
            taken(d.config.kind, index) = true;
        }
        d.config.index = index;
        d.config.snapshot |= draft.snapshotAll;
        draft.options.machine.drives.push_back(d.config);
    }
}

std::string firstExisting(std::initializer_list<const char*> paths) {
    for (const char* p : paths)
        if (std::ifstream(p).good()) return p;
    return {};
}

void findFirmware(MachineConfig& machine) {
    if (machine.firmware.empty()) {
        machine.firmware =
            firstExisting({"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin"});
        if (machine.firmware.empty())
            throw std::runtime_error(
                "there is no firmware: install the package seabios, or give a BIOS with -bios");
    }
    if (!machine.vga) return;
    machine.videoBios =
        firstExisting({"/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/vgabios-stdvga.bin"});
    if (machine.videoBios.empty())
        throw std::runtime_error(
            "there is no video BIOS: install the package seabios, or switch the card off with -vga none");
}

void fillDefaults(Draft& draft) {
    Options& o = draft.options;
    KernelConfig& k = o.machine.kernel;
    if (k.kernel.empty() && !k.initrd.empty())
        throw std::runtime_error("-initrd only makes sense with -kernel");
    if (k.kernel.empty() && !k.commandLine.empty())
        throw std::runtime_error("-append only makes sense with -kernel");
    joinChardevs(draft.chardevs, draft.chardevMonitors, o);
    placeDrives(draft);
    findFirmware(o.machine);
    if (o.machine.translator && !kTranslates) {
        o.machine.translator.reset();
        draft.warnings.push_back(
            "-accel jit makes code for x86-64 hosts, and this is another: kiln interprets");
    }
    if (draft.perfMap || draft.jitDump) {
        if (!o.machine.translator)
            throw std::runtime_error("-perfmap and -jitdump tell of translated code: they need -accel jit");
        o.machine.translator->perfMap = draft.perfMap;
        o.machine.translator->jitDump = draft.jitDump;
    }
    if (o.lockstep && !kTranslates)
        throw std::runtime_error("-lockstep compares the translator, which kiln has for x86-64 hosts only");
    if (o.lockstep && !o.machine.translator) o.machine.translator.emplace();
    for (const auto& [key, value] : draft.lockstepTranslator)
        if (!setTranslatorOption("-lockstep", key, value, *o.machine.translator))
            throw std::runtime_error("-lockstep: '" + key + "' is not implemented in kiln " + kVersion);
    if (o.lockstep && !o.monitors.empty())
        throw std::runtime_error("-lockstep has no monitor: neither sockets nor -qmp");
    if (o.lockstep && o.machine.threads)
        throw std::runtime_error("-lockstep needs processors that take turns: thread=single");
    o.machine.nographic = draft.nographic;
    if (draft.nographic) {
        o.display = DisplayChoice::None;
        if (!o.serialGiven && !draft.noDefaults) {
            o.serial = {{StreamTarget::Stdio, {}, !o.monitorGiven}};
            o.serialGiven = true;
        }
    }
    if (draft.noDefaults) {
        o.serialGiven = o.monitorGiven = true;
        if (o.display == DisplayChoice::Auto) o.display = DisplayChoice::None;
    }
    o.machine.serialPorts = std::max<unsigned>(2, unsigned(o.serial.size()));
    o.machine.debugConsole = o.debugConsole.kind != StreamTarget::None;
    unsigned readers = o.monitor.kind == StreamTarget::Stdio;
    for (const StreamTarget& s : o.serial) readers += s.kind == StreamTarget::Stdio;
    for (const MonitorRequest& m : o.monitors) readers += m.target.kind == StreamTarget::Stdio;
    if (readers > 1)
        throw std::runtime_error(
            "only one of -serial, -monitor and -qmp can have the terminal: use -serial mon:stdio for both");
}

}  // namespace

DriveKind guessDriveKind(const std::string& path) {
    static constexpr unsigned kFloppyKiB[] = {160, 180, 320, 360, 720, 1200, 1440, 1680, 1720, 1722, 2880};
    struct stat status;
    if (stat(path.c_str(), &status) != 0) return DriveKind::Disk;  // opening it will say what is wrong
    for (unsigned k : kFloppyKiB)
        if (uint64_t(status.st_size) == uint64_t(k) * 1024) return DriveKind::Floppy;
    std::ifstream file(path, std::ios::binary);
    char id[5] = {};
    file.seekg(0x8001);  // ISO 9660: the first volume descriptor
    file.read(id, sizeof id);
    return file && std::string_view(id, 5) == "CD001" ? DriveKind::Cdrom : DriveKind::Disk;
}

ParsedCommandLine parseCommandLine(const std::vector<std::string>& arguments) {
    ParsedCommandLine result;
    try {
        CommandLine line;
        for (size_t i = 0; i < arguments.size(); i++) {
            const std::string& a = arguments[i];
            if (a == "-version" || a == "--version") {
                result.output = std::string("kiln ") + kVersion + "\n";
                return result;
            }
            if ((a == "-cpu" || a == "--cpu") && i + 1 < arguments.size() &&
                (arguments[i + 1] == "help" || arguments[i + 1] == "?")) {
                result.output = cpuModelHelp();
                return result;
            }
            if (a != "-help" && a != "--help" && a != "-h") continue;
            std::string topic =
                i + 1 < arguments.size() && arguments[i + 1][0] != '-' ? arguments[i + 1] : "";
            result.output = line.help(topic);
            if (result.output.empty())
                throw std::runtime_error("there is no help topic '" + topic + "'; there are " +
                                         line.topicNames());
            return result;
        }
        line.parse(arguments);
        fillDefaults(line.draft);
        result.options = std::move(line.draft.options);
        result.warnings = std::move(line.draft.warnings);
    } catch (const std::exception& e) {  // ours, and CLI11's
        result.error = e.what();
        result.exitCode = 1;
    }
    return result;
}

}  // namespace kiln
