#include "frontend/monitor.hpp"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "apic/i8259.hpp"
#include "apic/io_apic.hpp"
#include "devices/board.hpp"
#include "frontend/key_map.hpp"
#include "frontend/options.hpp"
#include "frontend/screenshot.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

namespace {

constexpr Nanos kKeyHold = kSecond / 20, kKeyPause = kSecond / 50;

// Prints a device's fields, as state() names them.
class StateText : public StateVisitor {
  public:
    void bytes(std::string_view name, void* data, size_t size) override {
        auto* p = static_cast<const uint8_t*>(data);
        if (size <= 8) {
            uint64_t v = 0;
            std::memcpy(&v, p, size);
            text += fmt::format("  {:<24} {:#x}\n", name, v);
            return;
        }
        text += fmt::format("  {:<24}", name);
        for (size_t i = 0; i < std::min<size_t>(size, 32); i++) text += fmt::format(" {:02x}", p[i]);
        text += size > 32 ? fmt::format(" ... ({} bytes)\n", size) : "\n";
    }
    std::string text;
};

std::vector<std::string> split(const std::string& line) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string w; in >> w;) words.push_back(w);
    return words;
}

bool parseNumber(const std::string& text, uint64_t& out) {
    bool hex = text.starts_with("0x") || text.starts_with("0X");
    auto [stop, error] =
        std::from_chars(text.data() + (hex ? 2 : 0), text.data() + text.size(), out, hex ? 16 : 10);
    return error == std::errc() && stop == text.data() + text.size();
}

bool parseSigned(const std::string& text, int& out) {
    auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc() && stop == text.data() + text.size();
}

std::string segmentLine(const char* name, const Segment& s) {
    return fmt::format("{:<3} ={:04x} {:016x} {:08x} {:04x}{}\n", name, s.selector, s.base, s.limit, s.rights,
                       s.unusable ? " unusable" : "");
}

std::string modeOf(const CpuState& c) {
    if (c.real()) return "real mode";
    if (c.v86()) return "virtual-8086 mode";
    if (c.code64()) return "64-bit mode";
    if (c.longMode()) return c.seg[Cs].big() ? "compatibility mode, 32 bits" : "compatibility mode, 16 bits";
    return c.seg[Cs].big() ? "protected mode, 32 bits" : "protected mode, 16 bits";
}

// The /FMT of x, xp and print: a count, a format letter and a size letter.
struct Format {
    unsigned count = 1;
    char format = 'x';
    unsigned size = 4;
};

bool parseFormat(const std::string& text, Format& out) {
    size_t i = 0;
    uint64_t count = 0;
    while (i < text.size() && std::isdigit(static_cast<unsigned char>(text[i])) && count < 100000)
        count = count * 10 + unsigned(text[i++] - '0');
    if (i) out.count = unsigned(std::min<uint64_t>(count, 4096));
    for (; i < text.size(); i++) {
        switch (text[i]) {
            case 'x':
            case 'd':
            case 'u':
            case 'c': out.format = text[i]; break;
            case 'b': out.size = 1; break;
            case 'h': out.size = 2; break;
            case 'w': out.size = 4; break;
            case 'g': out.size = 8; break;
            default: return false;
        }
    }
    return true;
}

std::string formatValue(uint64_t v, const Format& f) {
    switch (f.format) {
        case 'd': return std::to_string(int64_t(v << (64 - f.size * 8)) >> (64 - f.size * 8));
        case 'u': return std::to_string(v);
        case 'c': {
            char c = char(v);
            return c >= ' ' && c < 127 ? fmt::format("'{}'", c) : fmt::format("'\\x{:02x}'", v & 0xff);
        }
        default: return fmt::format("0x{:0{}x}", v, f.size * 2);
    }
}

}  // namespace

std::string describeRegisters(const CpuState& c) {
    static constexpr const char* kNames[] = {"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP",
                                             "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};
    static constexpr Gpr kOrder[] = {Rax, Rbx, Rcx, Rdx, Rsi, Rdi, Rbp, Rsp,
                                     R8,  R9,  R10, R11, R12, R13, R14, R15};
    std::string out;
    for (unsigned i = 0; i < 16; i++)
        out += fmt::format("{:<3}={:016x}{}", kNames[i], c.gpr[kOrder[i]], i % 4 == 3 ? "\n" : " ");
    out += fmt::format("RIP={:016x} RFL={:08x} CPL={} {}{}\n", c.rip, c.flags.value(), c.cpl, modeOf(c),
                       c.halted ? ", halted" : "");
    static constexpr const char* kSegments[] = {"ES", "CS", "SS", "DS", "FS", "GS"};
    for (unsigned i = 0; i < 6; i++) out += segmentLine(kSegments[i], c.seg[i]);
    out += segmentLine("LDT", c.ldtr) + segmentLine("TR", c.tr);
    out += fmt::format("GDT={:016x} {:04x}\nIDT={:016x} {:04x}\n", c.gdtr.base, c.gdtr.limit, c.idtr.base,
                       c.idtr.limit);
    out += fmt::format("CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x} EFER={:x}\n", c.cr0, c.cr2, c.cr3,
                       c.cr4, c.efer);
    out += fmt::format("FCW={:04x} FSW={:04x} MXCSR={:08x} XCR0={:x}\n", c.fpu.control, c.fpu.status, c.mxcsr,
                       c.xcr0);
    const bool zmm = c.xcr0 & xfeature::ZmmHi256;
    for (unsigned n = 0; n < (zmm ? 32 : 16); n++) {
        out += fmt::format("{}MM{:02}=", zmm ? 'Z' : 'Y', n);
        for (unsigned word = zmm ? 8 : 4; word-- > 0;)
            out += fmt::format("{:016x}{}", c.vec[n].q[word], word ? " " : "\n");
    }
    for (unsigned n = 0; zmm && n < 8; n++)
        out += fmt::format("K{}={:016x}{}", n, c.opmask[n], n % 4 == 3 ? "\n" : " ");
    return out;
}

KeyTyper::KeyTyper(Clock& clock, std::function<void(uint8_t, bool)> send)
    : clock_(clock), send_(std::move(send)), timer_(clock, [this] { next(); }) {}

void KeyTyper::add(uint8_t usage, bool down, Nanos pause) {
    events_.push_back({usage, down, pause});
    if (!timer_.armed()) timer_.arm(clock_.now());
}

void KeyTyper::next() {
    if (events_.empty()) return;
    Event e = events_.front();
    events_.pop_front();
    send_(e.usage, e.down);
    if (!events_.empty()) timer_.arm(clock_.now() + e.pause);
}

Monitor::Monitor(Machine& machine)
    : machine_(machine),
      typer_(machine.clock(), [&machine](uint8_t usage, bool down) { machine.board().key(usage, down); }) {}

const std::vector<Monitor::Command>& Monitor::commands() {
    static const std::vector<Command> kCommands = {
        {"help", "[COMMAND]", "this list", &Monitor::help},
        {"info", "[SUBJECT]", "tells about a subject", &Monitor::info},
        {"quit", "", "ends kiln", &Monitor::quit},
        {"stop", "", "stops the machine", &Monitor::stop},
        {"cont", "", "lets it go on", &Monitor::resume},
        {"system_reset", "", "the reset button", &Monitor::reset},
        {"system_powerdown", "", "the power button", &Monitor::powerdown},
        {"system_wakeup", "", "ends the guest's suspend to RAM, as a key does", &Monitor::wakeup},
        {"screendump", "FILE", "writes the screen to a PNG file", &Monitor::screendump},
        {"sendkey", "KEYS", "presses keys together, such as ctrl-alt-delete", &Monitor::sendkey},
        {"type", "TEXT", "types a text on a US keyboard; \\n is Enter", &Monitor::type},
        {"mouse_move", "DX DY [DZ]", "moves the mouse", &Monitor::mouseMove},
        {"mouse_button", "BITS", "1 left, 2 middle, 4 right; 0 releases", &Monitor::mouseButton},
        {"x", "/FMT ADDR", "guest memory, linear; FMT is [COUNT][x|d|u|c][b|h|w|g]", &Monitor::examine},
        {"xp", "/FMT ADDR", "the same, physical", &Monitor::examinePhysical},
        {"print", "$REG or NUMBER", "a register's value", &Monitor::print},
        {"cpu", "N", "the processor that x, print and info registers are about", &Monitor::selectCpu},
    };
    return kCommands;
}

const std::vector<Monitor::Command>& Monitor::infoCommands() {
    static const std::vector<Command> kCommands = {
        {"registers", "[-a]", "the processor; -a: all of them", &Monitor::infoRegisters},
        {"cpus", "", "all processors", &Monitor::infoCpus},
        {"status", "", "running or stopped", &Monitor::infoStatus},
        {"version", "", "of kiln", &Monitor::infoVersion},
        {"pic", "", "interrupt controllers", &Monitor::infoPic},
        {"irq", "", "the same", &Monitor::infoPic},
        {"pci", "", "PCI functions", &Monitor::infoPci},
        {"devices", "", "names of the devices", &Monitor::infoDevices},
        {"device", "NAME", "every field of a device", &Monitor::infoDevice},
        {"blocks", "", "decoded code", &Monitor::infoBlocks},
        {"jit", "[ADDR]", "what the translator has done, or the block at ADDR as guest and host code",
         &Monitor::infoJit},
        {"tlb", "", "translation contexts, and the page tables under watch", &Monitor::infoTlb},
        {"screen", "", "the characters of a text screen", &Monitor::infoScreen},
    };
    return kCommands;
}

std::string Monitor::listOf(const std::vector<Command>& commands, const std::string& prefix) {
    std::string out;
    for (const Command& c : commands)
        out += fmt::format("{:<32} {}\n", prefix + c.name + (*c.arguments ? " " : "") + c.arguments, c.text);
    return out;
}

std::string Monitor::execute(const std::string& line) {
    std::vector<std::string> words = split(line);
    if (words.empty()) return {};
    // "x/4xb 0" is "x /4xb 0".
    size_t slash = words[0].find('/');
    if (slash != std::string::npos && slash > 0) {
        words.insert(words.begin() + 1, words[0].substr(slash));
        words[0].resize(slash);
    }
    if (words[0] == "q") words[0] = "quit";
    if (words[0] == "c") words[0] = "cont";
    if (words[0] == "p") words[0] = "print";
    if (words[0] == "type") {  // the text keeps its blanks
        size_t at = line.find("type") + 5;
        words = {"type", at < line.size() ? line.substr(at) : std::string()};
    }
    for (const Command& c : commands()) {
        if (words[0] != c.name) continue;
        words.erase(words.begin());
        return (this->*c.run)(words);
    }
    return "unknown command '" + words[0] + "'; 'help' lists them\n";
}

std::string Monitor::help(const Arguments& a) {
    if (!a.empty() && a[0] == "info") return listOf(infoCommands(), "info ");
    for (const Command& c : commands())
        if (!a.empty() && a[0] == c.name) return listOf({c}, "");
    return listOf(commands(), "");
}

std::string Monitor::info(const Arguments& a) {
    for (const Command& c : infoCommands())
        if (!a.empty() && a[0] == c.name) return (this->*c.run)({a.begin() + 1, a.end()});
    return listOf(infoCommands(), "info ");
}

std::string Monitor::quit(const Arguments&) {
    machine_.requestExit(0);
    return {};
}

std::string Monitor::stop(const Arguments&) {
    machine_.stop();
    return {};
}

std::string Monitor::resume(const Arguments&) {
    machine_.resume();
    return {};
}

std::string Monitor::reset(const Arguments&) {
    machine_.requestReset("monitor");
    return {};
}

std::string Monitor::powerdown(const Arguments&) {
    machine_.pressPowerButton();
    return {};
}

std::string Monitor::wakeup(const Arguments&) {
    machine_.wake();
    return {};
}

std::string Monitor::screendump(const Arguments& a) {
    if (a.empty()) return "screendump needs a file name\n";
    const Frame* frame = machine_.board().render(true);
    if (!frame) return "there is no display adapter\n";
    std::string error;
    return writePng(a[0], *frame, error) ? std::string() : error + "\n";
}

std::string Monitor::sendkey(const Arguments& a) {
    std::vector<uint8_t> keys = a.empty() ? std::vector<uint8_t>() : keysByChord(a[0]);
    if (keys.empty()) return "sendkey needs the names of keys, such as ctrl-alt-delete\n";
    for (uint8_t key : keys) typer_.add(key, true, kKeyHold);
    std::reverse(keys.begin(), keys.end());
    for (uint8_t key : keys) typer_.add(key, false, kKeyPause);
    return {};
}

std::string Monitor::type(const Arguments& a) {
    constexpr uint8_t kLeftShift = 0xe1;
    const std::string& text = a[0];
    for (size_t i = 0; i < text.size(); i++) {
        char c = text[i];
        if (c == '\\' && i + 1 < text.size()) c = text[++i] == 'n' ? '\n' : text[i] == 't' ? '\t' : text[i];
        auto stroke = keyStrokeOf(c);
        if (!stroke) return "a US keyboard has no key for one of the characters\n";
        if (stroke->shift) typer_.add(kLeftShift, true, kKeyPause);
        typer_.add(stroke->usage, true, kKeyHold);
        typer_.add(stroke->usage, false, kKeyPause);
        if (stroke->shift) typer_.add(kLeftShift, false, kKeyPause);
    }
    return {};
}

std::string Monitor::mouseMove(const Arguments& a) {
    int d[3] = {};
    bool good = a.size() == 2 || a.size() == 3;
    for (size_t i = 0; good && i < a.size(); i++) good = parseSigned(a[i], d[i]);
    if (!good) return "mouse_move needs two or three numbers\n";
    machine_.board().mouse(d[0], d[1], d[2], buttons_);
    return {};
}

std::string Monitor::mouseButton(const Arguments& a) {
    uint64_t bits;
    if (a.size() != 1 || !parseNumber(a[0], bits)) return "mouse_button needs a number\n";
    // As QEMU numbers them; to the mouse bit 1 is the right button.
    buttons_ = unsigned((bits & 1) | (bits >> 1 & 2) | (bits << 1 & 4));
    machine_.board().mouse(0, 0, 0, buttons_);
    return {};
}

std::string Monitor::examine(const Arguments& a) { return examineAt(a, false); }
std::string Monitor::examinePhysical(const Arguments& a) { return examineAt(a, true); }

std::string Monitor::examineAt(const Arguments& a, bool physical) {
    Format f;
    size_t at = 0;
    if (!a.empty() && a[0].starts_with("/")) {
        if (!parseFormat(a[0].substr(1), f)) return "the format is /[COUNT][x|d|u|c][b|h|w|g]\n";
        at = 1;
    }
    uint64_t address;
    if (a.size() != at + 1 || !parseNumber(a[at], address)) return "an address is missing\n";
    std::string out;
    const unsigned perLine = f.format == 'c' ? 8 : 16 / f.size;
    for (unsigned i = 0; i < f.count; i++, address += f.size) {
        if (i % perLine == 0) out += fmt::format("{}{:016x}:", i ? "\n" : "", address);
        PhysAddr where(address);
        if (!physical && !machine_.cpu(selected_).translate(address, where)) return out + " not mapped\n";
        // Registers aren't read: that could change them.
        auto target = machine_.memory().find(where);
        uint64_t v = target.host || !target.region ? machine_.memory().access(where, f.size) : 0;
        out += target.region && !target.host ? " (register)" : " " + formatValue(v, f);
    }
    return out + "\n";
}

std::string Monitor::print(const Arguments& a) {
    const Cpu& c = machine_.cpu(selected_);
    static const std::pair<const char*, Gpr> kNames[] = {
        {"rax", Rax}, {"rbx", Rbx}, {"rcx", Rcx}, {"rdx", Rdx}, {"rsi", Rsi}, {"rdi", Rdi},
        {"rbp", Rbp}, {"rsp", Rsp}, {"r8", R8},   {"r9", R9},   {"r10", R10}, {"r11", R11},
        {"r12", R12}, {"r13", R13}, {"r14", R14}, {"r15", R15}};
    if (a.empty()) return "print needs a register ($rax) or a number\n";
    uint64_t v;
    if (parseNumber(a[0], v)) return fmt::format("{:#x}\n", v);
    if (a[0] == "$rip") return fmt::format("{:#x}\n", c.rip);
    for (const auto& [name, reg] : kNames)
        if (a[0] == std::string("$") + name) return fmt::format("{:#x}\n", c.gpr[reg]);
    return "there is no '" + a[0] + "'\n";
}

std::string Monitor::selectCpu(const Arguments& a) {
    uint64_t n;
    if (a.size() != 1 || !parseNumber(a[0], n) || n >= machine_.cpus())
        return fmt::format("cpu needs a number from 0 to {}\n", machine_.cpus() - 1);
    selected_ = unsigned(n);
    return {};
}

std::string Monitor::infoRegisters(const Arguments& a) {
    if (a.empty()) return describeRegisters(machine_.cpu(selected_));
    if (a[0] != "-a") return "info registers takes -a or nothing\n";
    std::string out;
    for (unsigned n = 0; n < machine_.cpus(); n++)
        out += fmt::format("CPU {}\n{}", n, describeRegisters(machine_.cpu(n)));
    return out;
}

std::string Monitor::infoCpus(const Arguments&) {
    std::string out;
    for (unsigned n = 0; n < machine_.cpus(); n++) {
        const Cpu& c = machine_.cpu(n);
        out += fmt::format("{} CPU {:2}: APIC id {:2}, rip={:016x} {}, {} instructions{}\n",
                           n == selected_ ? "*" : " ", n, machine_.apic(n).initialId(), c.rip, modeOf(c),
                           c.executed(),
                           c.waitingForSipi ? ", waits for SIPI"
                           : c.halted       ? ", halted"
                                            : "");
    }
    return out;
}

std::string Monitor::infoVersion(const Arguments&) { return std::string("kiln ") + kVersion + "\n"; }

std::string Monitor::infoStatus(const Arguments&) {
    return fmt::format("{}, {} instructions, {:.3f} s\n",
                       machine_.stopped()     ? "stopped"
                       : machine_.suspended() ? "suspended"
                                              : "running",
                       machine_.executed(), double(machine_.clock().now()) / 1e9);
}

std::string Monitor::infoPic(const Arguments&) {
    std::string out;
    auto show = [&](Device& d, const std::string& number) {
        StateText text;
        d.state(text);
        out += fmt::format("{}{}\n{}", d.name(), number, text.text);
    };
    show(machine_.board().pic(), "");
    for (unsigned n = 0; n < machine_.cpus(); n++) show(machine_.apic(n), fmt::format(" {}", n));
    for (unsigned n = 0; n < IoApic::kPins; n++) {
        uint64_t e = machine_.board().ioApic().entry(n);
        out +=
            fmt::format("I/O APIC input {:2}: vector {:02x} mode {} {} {}{} destination {:02x}\n", n,
                        e & 0xff, e >> 8 & 7, e >> 15 & 1 ? "level" : "edge", e >> 16 & 1 ? "masked" : "open",
                        machine_.board().ioApic().pin(n).level() ? ", high," : "", e >> 56);
    }
    return out;
}

std::string Monitor::infoDevices(const Arguments&) {
    std::string out;
    for (Device* d : machine_.board().devices()) out += std::string(d->name()) + "\n";
    return out;
}

std::string Monitor::infoDevice(const Arguments& a) {
    if (a.empty()) return "info device needs a name; 'info devices' lists them\n";
    std::string out;
    for (Device* d : machine_.board().devices()) {
        if (d->name() != a[0]) continue;
        StateText text;
        d->state(text);
        out += text.text;
    }
    return out.empty() ? "there is no device '" + a[0] + "'\n" : out;
}

std::string Monitor::infoPci(const Arguments&) {
    std::string out;
    for (PciFunction* f : machine_.board().pci().functions()) {
        uint32_t id = f->configRead(0, 4), revision = f->configRead(8, 4), line = f->configRead(0x3c, 4);
        out += fmt::format("{:02x}.{} {:04x}:{:04x} class {:06x} {}", f->bdf().device(), f->bdf().function(),
                           id & 0xffff, id >> 16, revision >> 8, f->name());
        if (line >> 8 & 7)
            out += fmt::format(", INT{} line {}", char('A' + (line >> 8 & 7) - 1), line & 0xff);
        out += "\n";
        for (unsigned bar = 0; bar < 6; bar++)
            if (uint32_t v = f->configRead(uint16_t(0x10 + bar * 4), 4))
                out += fmt::format("    BAR {} {:08x}\n", bar, v);
    }
    return out;
}

std::string Monitor::infoBlocks(const Arguments&) {
    std::string out;
    for (unsigned n = 0; n < machine_.cpus(); n++)
        out += fmt::format("CPU {}: {} blocks in {} KiB, {} dropped since the start, {} of them cold\n", n,
                           machine_.code(n).blocks(), machine_.code(n).bytes() >> 10,
                           machine_.code(n).killed(), machine_.code(n).cooled());
    return out;
}

std::string Monitor::infoJit(const Arguments& arguments) {
    if (!arguments.empty()) {
        uint64_t rip;
        if (arguments.size() != 1 || !parseNumber(arguments[0], rip)) return "an address is missing\n";
        const std::string code = machine_.hostCode(rip, selected_);
        return code.empty() ? fmt::format("the block at {:x} is not translated\n", rip) : code;
    }
    const std::string report = machine_.translatorReport();
    return report.empty()
               ? "there is no translator: kiln was started with -accel interp, or has none for this host\n"
               : report;
}

std::string Monitor::infoTlb(const Arguments&) { return machine_.tlbReport(); }

std::string Monitor::infoScreen(const Arguments&) {
    std::string text = machine_.board().screenText();
    if (text.empty()) return "the screen shows graphics\n";
    return text.back() == '\n' ? text : text + "\n";
}

}  // namespace kiln
