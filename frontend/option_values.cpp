#include "frontend/option_values.hpp"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <stdexcept>

#include "devices/comma_list.hpp"

namespace kiln {

namespace option_value {

void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

void refuseKey(const std::string& option, const std::string& key) {
    refuse(option + ": '" + key + "' is not implemented in kiln " + kVersion);
}

uint64_t number(const std::string& option, const std::string& text) {
    bool hex = text.starts_with("0x") || text.starts_with("0X");
    const char* begin = text.data() + (hex ? 2 : 0);
    const char* end = text.data() + text.size();
    uint64_t v = 0;
    auto [stop, error] = std::from_chars(begin, end, v, hex ? 16 : 10);
    if (error != std::errc() || stop != end) refuse(option + ": '" + text + "' is not a number");
    return v;
}

bool onOff(const std::string& option, const std::string& key, const std::string& value) {
    if (value == "on") return true;
    if (value == "off") return false;
    refuse(option + ": " + key + "= takes on or off, not '" + value + "'");
}

}  // namespace option_value

using namespace option_value;

namespace {

// Where QEMU has interrupt controllers when KVM runs the processors. Here they are always the machine's own.
void checkIrqchip(const std::string& value) {
    if (value != "split") onOff("-machine", "kernel-irqchip", value);
}

void parseBootOrder(const std::string& letters, MachineConfig& machine) {
    if (letters.empty() || letters.find_first_not_of("acdn") != std::string::npos)
        refuse("-boot: the order '" + letters +
               "' is not made of a (floppy), c (disk), d (CD-ROM) and n (network)");
    machine.bootOrder = letters;
}

}  // namespace

KeyValues parseKeyValues(const std::string& option, const std::string& text, const std::string& bareKey) {
    KeyValues out;
    for (const std::string& part : splitCommas(text)) {
        size_t equals = part.find('=');
        if (equals != std::string::npos)
            out.emplace_back(part.substr(0, equals), part.substr(equals + 1));
        else if (!bareKey.empty() && out.empty())
            out.emplace_back(bareKey, part);
        else
            refuse(option + ": '" + part + "' is not of the form key=value");
    }
    return out;
}

uint64_t parseMemory(const std::string& text) {
    std::string digits = text.starts_with("size=") ? text.substr(5) : text;
    std::string given = digits;
    unsigned shift = 20;  // plain numbers are MiB
    if (!digits.empty()) {
        static const std::map<char, unsigned> kSuffixes = {
            {'B', 0}, {'K', 10}, {'M', 20}, {'G', 30}, {'T', 40}};
        auto suffix = kSuffixes.find(char(std::toupper(static_cast<unsigned char>(digits.back()))));
        if (suffix != kSuffixes.end()) shift = suffix->second, digits.pop_back();
    }
    uint64_t v = 0;
    auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), v);
    if (error != std::errc() || stop != digits.data() + digits.size() || digits.empty())
        refuse("-m " + text + " is not a size of memory: write 512M, 2G, or a number of MiB");
    if (v > (1ull << 52 >> shift)) refuse("-m " + given + " is more memory than a PC can have");
    return v << shift;
}

// As QEMU does: what is not given follows from the rest, cores first; cpus= may be left out, too.
CpuTopology parseSmp(const std::string& text) {
    constexpr uint64_t kMost = 64;
    const std::string limit = std::to_string(kMost);
    auto refuseSmp = [&](const std::string& why) { refuse(std::string("-smp ").append(text).append(why)); };
    std::map<std::string, uint64_t> given;
    for (const auto& [key, value] : parseKeyValues("-smp", text, "cpus")) {
        if (key != "cpus" && key != "cores" && key != "threads" && key != "sockets" && key != "maxcpus")
            refuseKey("-smp", key);
        uint64_t n = number("-smp", value);
        if (n < 1 || n > kMost) refuse("-smp " + text + ": " + key + "= takes 1 to " + std::to_string(kMost));
        given[key] = n;
    }
    auto of = [&](const char* key) { return given.contains(key) ? given[key] : 0; };
    const uint64_t most = of("maxcpus"), cpus = of("cpus") ? of("cpus") : most;
    if (most && most != cpus)
        refuseSmp(": processors can't be added while kiln runs; maxcpus= must be cpus=");
    uint64_t sockets = of("sockets"), cores = of("cores"), threads = of("threads") ? of("threads") : 1;
    if (!cpus) {
        sockets = std::max<uint64_t>(sockets, 1);
        cores = std::max<uint64_t>(cores, 1);
    } else if (!cores) {
        sockets = std::max<uint64_t>(sockets, 1);
        cores = cpus / (sockets * threads);
    } else if (!sockets) {
        sockets = cpus / (cores * threads);
    }
    const uint64_t product = sockets * cores * threads;
    if (!product || (cpus && product != cpus))
        refuseSmp(": sockets, cores and threads don't multiply to the number of processors");
    if (product > kMost) refuseSmp(": a machine has at most " + limit + " processors");
    return {unsigned(sockets), unsigned(cores), unsigned(threads)};
}

static uint64_t numberWithin(const std::string& option, const std::string& text, uint64_t least,
                             uint64_t most) {
    const uint64_t v = number(option, text);
    if (v < least || v > most)
        refuse(option + text + ": it takes " + std::to_string(least) + " to " + std::to_string(most));
    return v;
}

std::optional<TranslatorOptions> defaultTranslator() {
    if (!kTranslates) return {};
    return TranslatorOptions{.background = true, .dispensable = true};
}

bool setTranslatorOption(const std::string& option, const std::string& key, const std::string& value,
                         TranslatorOptions& translator) {
    const std::string name = option + " " + key + "=";
    if (key == "tier1")
        translator.tier1 = uint32_t(numberWithin(name, value, 1, 1u << 30));
    else if (key == "tier2")
        translator.tier2 = uint32_t(numberWithin(name, value, 0, 1u << 30));
    else if (key == "tb-size")
        translator.bufferBytes = size_t(numberWithin(name, value, 1, 1024)) << 20;
    else if (key == "portable")
        translator.portable = onOff(option, key, value);
    else if (key == "promote")
        translator.promote = onOff(option, key, value);
    else if (key == "compound")
        translator.compound = onOff(option, key, value);
    else if (key == "background")
        translator.background = onOff(option, key, value);
    else
        return false;
    return true;
}

void parseAccel(const std::string& text, MachineConfig& machine) {
    machine.threads = false;
    machine.translator = defaultTranslator();
    for (const auto& [key, value] : parseKeyValues("-accel", text, "accel")) {
        if (key == "accel" && value != "interp" && value != "jit")
            refuse("-accel " + value + " is not implemented in kiln " + kVersion +
                   ": it takes jit or interp");
        if (key == "accel") machine.translator.reset();
        if (key == "accel" && value == "jit") machine.translator = TranslatorOptions{.background = true};
        TranslatorOptions unused;
        const bool ofTranslator =
            setTranslatorOption("-accel", key, value, machine.translator ? *machine.translator : unused);
        if (ofTranslator && !machine.translator) refuse("-accel: " + key + "= is for jit");
        if (key == "thread" && value != "single" && value != "multi")
            refuse("-accel: thread= takes single or multi, not '" + value + "'");
        if (key != "accel" && key != "thread" && !ofTranslator) refuseKey("-accel", key);
        if (key == "thread") machine.threads = value == "multi";
    }
}

namespace {

// A number of instructions, also as 20k, 200M, 2G.
uint64_t parseCount(const std::string& option, const std::string& text) {
    static const std::map<char, uint64_t> kSuffixes = {{'k', 1'000}, {'M', 1'000'000}, {'G', 1'000'000'000}};
    const auto suffix = text.empty() ? kSuffixes.end() : kSuffixes.find(text.back());
    if (suffix == kSuffixes.end()) return number(option, text);
    const uint64_t n = number(option, text.substr(0, text.size() - 1));
    if (n > ~0ull / suffix->second) refuse(option + ": " + text + " is out of range");
    return n * suffix->second;
}

}  // namespace

bool isLockstepValue(const std::string& text) {
    const size_t key = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-");
    return key != std::string::npos && key > 0 && text[key] == '=' && text[0] != '-';
}

KeyValues parseLockstep(const std::string& text, LockstepOptions& lockstep) {
    KeyValues others;
    for (const auto& [key, value] : parseKeyValues("-lockstep", text)) {
        if (key != "slice" && key != "memory" && key != "stop") {
            others.emplace_back(key, value);
            continue;
        }
        const uint64_t n = parseCount("-lockstep", value);
        if (!n || (key == "slice" && n > uint64_t(LockstepOptions::kMostSlice)))
            refuse("-lockstep: " + key + "=" + value + " is out of range");
        if (key == "slice")
            lockstep.slice = int64_t(n);
        else
            (key == "memory" ? lockstep.memoryEvery : lockstep.most) = n;
    }
    return others;
}

DriveRequest parseDrive(const std::string& text) {
    DriveRequest r;
    std::string interface = "ide";
    bool cdrom = false;
    for (const auto& [key, value] : parseKeyValues("-drive", text)) {
        if (key == "file") {
            r.config.file = value;
        } else if (key == "if") {
            if (value != "ide" && value != "floppy")
                refuse("-drive: if=" + value + " is not implemented in kiln " + kVersion +
                       ": it takes ide or floppy");
            interface = value;
        } else if (key == "index") {
            r.index = unsigned(number("-drive", value));
        } else if (key == "media") {
            if (value != "disk" && value != "cdrom")
                refuse("-drive: media= takes disk or cdrom, not '" + value + "'");
            cdrom = value == "cdrom";
        } else if (key == "format") {
            if (value != "raw")
                refuse("-drive: format=" + value + " is not implemented in kiln " + kVersion +
                       ": convert the image with 'qemu-img convert -O raw'");
        } else if (key == "snapshot") {
            r.config.snapshot = onOff("-drive", key, value);
        } else if (key == "readonly" || key == "read-only") {
            r.config.readOnly = onOff("-drive", key, value);
        } else {
            refuseKey("-drive", key);
        }
    }
    r.config.kind = interface == "floppy" ? DriveKind::Floppy : cdrom ? DriveKind::Cdrom : DriveKind::Disk;
    if (r.config.file.empty() && r.config.kind == DriveKind::Disk)
        refuse("-drive " + text + ": file= is missing");
    return r;
}

void parseBoot(const std::string& text, MachineConfig& machine) {
    for (const auto& [key, value] : parseKeyValues("-boot", text, "order")) {
        if (key == "order")
            parseBootOrder(value, machine);
        else if (key == "menu")
            machine.bootMenu = onOff("-boot", key, value);
        else
            refuseKey("-boot", key);
    }
}

void parseMachine(const std::string& text, MachineConfig& machine) {
    for (const auto& [key, value] : parseKeyValues("-machine", text, "type")) {
        if (key == "type" && value != "q35" && value != "pc")
            refuse("-machine " + value + " is not implemented in kiln " + kVersion + ": it takes q35, pc");
        else if (key == "pit")
            machine.pit = onOff("-machine", key, value);
        else if (key == "hpet")
            machine.hpet = onOff("-machine", key, value);
        else if (key == "kernel-irqchip")
            checkIrqchip(value);
        else if (key != "type")
            refuseKey("-machine", key);
    }
}

void parseAction(const std::string& text, MachineConfig& machine) {
    auto choose = [](const std::string& key, const std::string& value, const char* no, const char* yes) {
        if (value != no && value != yes)
            refuse("-action: " + key + "= takes " + no + " or " + yes + ", not '" + value + "'");
        return value == yes;
    };
    for (const auto& [key, value] : parseKeyValues("-action", text)) {
        if (key == "reboot")
            machine.noReboot = choose(key, value, "reset", "shutdown");
        else if (key == "shutdown")
            machine.noShutdown = choose(key, value, "poweroff", "pause");
        else
            refuseKey("-action", key);
    }
}

void parseRtc(const std::string& text, MachineConfig& machine) {
    for (const auto& [key, value] : parseKeyValues("-rtc", text, "base")) {
        if (key == "clock" && value == "host") continue;
        if (key != "base") refuseKey("-rtc", key);
        if (value == "utc") continue;
        if (value == "localtime") {
            std::time_t now = std::time(nullptr);
            std::tm local{};
            localtime_r(&now, &local);
            machine.rtcOffset = local.tm_gmtoff;
            continue;
        }
        std::tm t{};
        const char* end = strptime(value.c_str(), "%Y-%m-%dT%H:%M:%S", &t);
        if (!end || *end) t = {}, end = strptime(value.c_str(), "%Y-%m-%d", &t);
        if (!end || *end)
            refuse("-rtc: base=" + value + " is none of utc, localtime, 2026-01-31T12:00:00 and 2026-01-31");
        machine.rtcStart = timegm(&t);
    }
}

unsigned parseIcount(const std::string& text) {
    constexpr unsigned kAuto = 2, kLargest = 10;  // 2^2 ns: about the interpreter's own speed
    unsigned shift = kAuto;
    for (const auto& [key, value] : parseKeyValues("-icount", text, "shift")) {
        if (key != "shift") refuseKey("-icount", key);
        if (value == "auto") continue;
        uint64_t v = number("-icount", value);
        if (v > kLargest) refuse("-icount: shift=" + value + " is out of range: it takes 0 to 10");
        shift = unsigned(v);
    }
    return shift;
}

}  // namespace kiln
