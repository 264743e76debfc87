// The human monitor: guest memory.
#include <algorithm>

#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

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

std::string examineAt(Monitor& monitor, const MonitorArguments& a, bool physical) {
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
        if (!physical && !monitor.cpu().translate(address, where)) return out + " not mapped\n";
        // Registers aren't read: that could change them.
        auto target = monitor.machine.memory().find(where);
        uint64_t v = target.host || !target.region ? monitor.machine.memory().access(where, f.size) : 0;
        out += target.region && !target.host ? " (register)" : " " + formatValue(v, f);
    }
    return out + "\n";
}

std::string examine(Monitor& monitor, const MonitorArguments& a) { return examineAt(monitor, a, false); }
std::string examinePhysical(Monitor& monitor, const MonitorArguments& a) {
    return examineAt(monitor, a, true);
}

std::string print(Monitor& monitor, const MonitorArguments& a) {
    const Cpu& c = monitor.cpu();
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

}  // namespace

MonitorTable memoryCommands() {
    static constexpr MonitorCommand kRows[] = {
        {"x", "/FMT ADDR", "guest memory, linear; FMT is [COUNT][x|d|u|c][b|h|w|g]", examine},
        {"xp", "/FMT ADDR", "the same, physical", examinePhysical},
        {"print|p", "$REG or NUMBER", "a register's value", print},
    };
    return kRows;
}

}  // namespace kiln
