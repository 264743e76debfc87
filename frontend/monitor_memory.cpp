// The human monitor: memory, ports, and values.
#include <Zydis/Zydis.h>

#include <algorithm>

#include "frontend/memory_file.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

// The /FMT of x, xp, print, i and o: a count, a format letter and a size letter.
struct Format {
    unsigned count = 1;
    char format = 'x';
    unsigned size = 4;
};
constexpr unsigned kMostItems = 4096;
constexpr const char* kFormatHelp = "the format is /[COUNT][x|d|u|o|c|i][b|h|w|g]\n";

bool parseFormat(const std::string& text, Format& out) {
    size_t i = 0;
    uint64_t count = 0;
    while (i < text.size() && std::isdigit(static_cast<unsigned char>(text[i])) && count < 100000)
        count = count * 10 + unsigned(text[i++] - '0');
    if (i) out.count = unsigned(std::min<uint64_t>(count, kMostItems));
    for (; i < text.size(); i++) {
        switch (text[i]) {
            case 'x':
            case 'd':
            case 'u':
            case 'o':
            case 'i':
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
        case 'o': return fmt::format("{:#o}", v);
        case 'c': {
            char c = char(v);
            return c >= ' ' && c < 127 ? fmt::format("'{}'", c) : fmt::format("'\\x{:02x}'", v & 0xff);
        }
        default: return fmt::format("0x{:0{}x}", v, f.size * 2);
    }
}

// "/FMT", or nothing, in front of the other arguments, which go to `rest`.
bool takeFormat(const MonitorArguments& a, Format& f, MonitorArguments& rest) {
    const bool given = !a.empty() && a[0].starts_with("/");
    rest.assign(a.begin() + given, a.end());
    return !given || parseFormat(a[0].substr(1), f);
}

// -- x, xp

std::string dump(Monitor& monitor, uint64_t address, const Format& f, bool physical) {
    PhysicalMemory& memory = monitor.machine.memory();
    const ReadGuest read =
        physical ? physicalReader(monitor.machine) : linearReader(monitor.machine, monitor.selected);
    std::string out;
    const unsigned perLine = f.format == 'c' ? 8 : 16 / f.size;
    for (unsigned i = 0; i < f.count; i++, address += f.size) {
        if (i % perLine == 0) out += fmt::format("{}{:016x}:", i ? "\n" : "", address);
        PhysAddr where(address);
        if (!physical && !monitor.cpu().translate(address, where)) return out + " not mapped\n";
        const PhysicalMemory::Target target = memory.find(where);
        uint64_t v = openBus(f.size);
        readGuest(read, address, &v, f.size);
        // Registers aren't read: that could change them.
        out += target.region && !target.host ? " (register)" : " " + formatValue(v & openBus(f.size), f);
    }
    return out + "\n";
}

std::string disassemble(Monitor& monitor, uint64_t address, unsigned count, bool physical) {
    const CpuState& c = monitor.cpu();
    const ZydisMachineMode mode = c.code64()                                 ? ZYDIS_MACHINE_MODE_LONG_64
                                  : c.seg[Cs].big() && !c.real() && !c.v86() ? ZYDIS_MACHINE_MODE_LEGACY_32
                                                                             : ZYDIS_MACHINE_MODE_LEGACY_16;
    const ReadGuest read =
        physical ? physicalReader(monitor.machine) : linearReader(monitor.machine, monitor.selected);
    std::string out;
    for (unsigned i = 0; i < count; i++) {
        uint8_t bytes[15];
        unsigned have = 0;
        while (have < sizeof bytes && read(address + have, &bytes[have], 1)) have++;
        if (!have) return out + fmt::format("0x{:016x}:  not mapped\n", address);
        ZydisDisassembledInstruction insn;
        const bool good = ZYAN_SUCCESS(ZydisDisassembleIntel(mode, address, bytes, have, &insn));
        out += fmt::format("0x{:016x}:  {}\n", address, good ? insn.text : "(bad)");
        address += good ? insn.info.length : 1;
    }
    return out;
}

std::string examineAt(Monitor& monitor, const MonitorArguments& a, bool physical) {
    Format f;
    MonitorArguments rest;
    uint64_t address;
    std::string error;
    if (!takeFormat(a, f, rest)) return kFormatHelp;
    if (!parseExpression(monitor, joined(rest), address, error))
        return "an address is missing: " + error + "\n";
    return f.format == 'i' ? disassemble(monitor, address, f.count, physical)
                           : dump(monitor, address, f, physical);
}

std::string examine(Monitor& monitor, const MonitorArguments& a) { return examineAt(monitor, a, false); }
std::string examinePhysical(Monitor& monitor, const MonitorArguments& a) {
    return examineAt(monitor, a, true);
}

std::string print(Monitor& monitor, const MonitorArguments& a) {
    Format f{.size = 8};
    MonitorArguments rest;
    uint64_t v;
    std::string error;
    if (!takeFormat(a, f, rest) || f.format == 'i') return kFormatHelp;
    if (!parseExpression(monitor, joined(rest), v, error)) return error + "\n";
    return (f.format == 'x' ? fmt::format("{:#x}", v) : formatValue(v, f)) + "\n";
}

// -- ports

std::string portAccess(Monitor& monitor, const MonitorArguments& a, bool write) {
    Format f;
    MonitorArguments rest;
    uint64_t port, value = 0;
    std::string error;
    const bool plain = takeFormat(a, f, rest) && f.count == 1 && f.size <= 4;
    if (!plain || rest.size() != (write ? 2 : 1))
        return write ? "write o/[b|h|w] PORT VALUE\n" : "write i/[b|h|w] PORT\n";
    if (!parseExpression(monitor, rest[0], port, error)) return error + "\n";
    if (write && !parseExpression(monitor, rest[1], value, error)) return error + "\n";
    if (port > 0xffff) return "ports end at 0xffff\n";
    DeviceGuard guard(monitor.machine.memory().threads);
    if (write) {
        monitor.machine.ports().write(uint16_t(port), f.size, uint32_t(value & openBus(f.size)));
        return {};
    }
    static constexpr const char* kSizes[] = {"", "b", "w", "", "l"};
    return fmt::format("port{}[{:#06x}] = {}\n", kSizes[f.size], port,
                       formatValue(monitor.machine.ports().read(uint16_t(port), f.size), f));
}

std::string in(Monitor& monitor, const MonitorArguments& a) { return portAccess(monitor, a, false); }
std::string out(Monitor& monitor, const MonitorArguments& a) { return portAccess(monitor, a, true); }

// -- pieces of memory

std::string save(Monitor& monitor, const MonitorArguments& a, const ReadGuest& read) {
    uint64_t address, size;
    std::string error;
    if (a.size() != 3) return "an address, a size and a file are needed\n";
    if (!parseExpression(monitor, a[0], address, error) || !parseExpression(monitor, a[1], size, error))
        return error + "\n";
    error = writeMemoryFile(a[2], address, size, read);
    return error.empty() ? error : error + "\n";
}

std::string memsave(Monitor& monitor, const MonitorArguments& a) {
    return save(monitor, a, linearReader(monitor.machine, monitor.selected));
}

std::string pmemsave(Monitor& monitor, const MonitorArguments& a) {
    return save(monitor, a, physicalReader(monitor.machine));
}

// BSD's checksum, as QEMU's.
std::string checksum(Monitor& monitor, const MonitorArguments& a) {
    constexpr uint64_t kMost = 1 << 30;
    uint64_t address, size;
    std::string error;
    if (a.size() != 2) return "sum needs an address and a size\n";
    if (!parseExpression(monitor, a[0], address, error) || !parseExpression(monitor, a[1], size, error))
        return error + "\n";
    if (size > kMost) return "sum takes at most 1 GiB\n";
    const ReadGuest read = physicalReader(monitor.machine);
    uint16_t sum = 0;
    uint8_t piece[256];
    while (size) {
        const uint64_t part = std::min<uint64_t>(size, sizeof piece);
        if (!readGuest(read, address, piece, part))
            return fmt::format("there is no memory at {:#x}\n", address);
        for (unsigned i = 0; i < part; i++) sum = uint16_t((sum >> 1 | sum << 15) + piece[i]);
        address += part, size -= part;
    }
    return fmt::format("{:05}\n", sum);
}

std::string physicalOf(Monitor& monitor, const MonitorArguments& a) {
    uint64_t address;
    std::string error;
    if (!parseExpression(monitor, joined(a), address, error)) return "an address is missing: " + error + "\n";
    PhysAddr where;
    if (!monitor.cpu().translate(address, where)) return "Unmapped\n";
    return fmt::format("gpa: {:#x}\n", where.value);
}

}  // namespace

MonitorTable memoryCommands() {
    static constexpr MonitorCommand kRows[] = {
        {"x", "/FMT ADDR", "guest memory, linear; FMT is [COUNT][x|d|u|o|c|i][b|h|w|g], i: instructions",
         examine},
        {"xp", "/FMT ADDR", "the same, physical", examinePhysical},
        {"print|p", "[/FMT] EXPR", "a value: numbers, $rax, $pc, $cr3, + - * / % & | ^ ~ ()", print},
        {"i", "/FMT PORT", "reads a port; FMT is b, h or w", in},
        {"o", "/FMT PORT VALUE", "writes to a port", out},
        {"gva2gpa", "ADDR", "the physical address of a linear one", physicalOf},
        {"sum", "ADDR SIZE", "checksum of physical memory", checksum},
        {"memsave", "ADDR SIZE FILE", "writes memory to a file, linear", memsave},
        {"pmemsave", "ADDR SIZE FILE", "the same, physical", pmemsave},
    };
    return kRows;
}

}  // namespace kiln
