// The human monitor: interrupt controllers.
#include "apic/i8259.hpp"
#include "apic/io_apic.hpp"
#include "devices/board.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

constexpr const char* kDelivery[] = {"fixed", "lowest", "SMI",      "reserved",
                                     "NMI",   "INIT",   "start-up", "ExtINT"};

std::string infoPic(Monitor& monitor, const MonitorArguments&) {
    I8259Pair& pic = monitor.machine.board().pic();
    return fmt::format("{}\n{}", pic.name(), describeDevice(pic));
}

std::string infoIoApic(Monitor& monitor, const MonitorArguments&) {
    IoApic& chip = monitor.machine.board().ioApic();
    std::string out = "pin  vector mode     trigger  destination    state\n";
    for (unsigned n = 0; n < IoApic::kPins; n++) {
        const uint64_t e = chip.entry(n);
        out += fmt::format("{:3}  {:02x}     {:<8} {:<8} {:<8} {:02x}    {}{}{}\n", n, e & 0xff,
                           kDelivery[e >> 8 & 7], e >> 15 & 1 ? "level" : "edge",
                           e >> 11 & 1 ? "logical" : "physical", e >> 56, e >> 16 & 1 ? "masked" : "open",
                           chip.pin(n).level() ? ", high" : "", e >> 14 & 1 ? ", waits for EOI" : "");
    }
    return out;
}

// -- local APIC. Registers by their numbers: page offset / 16.

enum LocalRegister : unsigned {
    kTpr = 0x08,
    kPpr = 0x0a,
    kLdr = 0x0d,
    kDfr = 0x0e,
    kSvr = 0x0f,
    kIsr = 0x10,
    kTmr = 0x18,
    kIrr = 0x20,
    kEsr = 0x28,
    kIcrLow = 0x30,
    kInitialCount = 0x38,
    kCurrentCount = 0x39,
    kDivide = 0x3e
};

std::string vectorsOf(LocalApic& apic, unsigned first) {
    std::string out;
    for (unsigned v = 0; v < 256; v++)
        if (apic.look(first + v / 32).value_or(0) >> v % 32 & 1) out += fmt::format(" {:02x}", v);
    return out.empty() ? " none" : out;
}

std::string localVectorTable(LocalApic& apic) {
    struct Entry {
        const char* name;
        unsigned reg;
    };
    static constexpr Entry kEntries[] = {{"timer", 0x32}, {"thermal", 0x33}, {"counters", 0x34},
                                         {"LINT0", 0x35}, {"LINT1", 0x36},   {"error", 0x37},
                                         {"CMCI", 0x2f}};
    static constexpr const char* kTimerModes[] = {"one-shot", "periodic", "TSC deadline", "reserved"};
    std::string out;
    for (const Entry& e : kEntries) {
        const uint32_t v = apic.look(e.reg).value_or(0);
        const bool timer = e.reg == 0x32, error = e.reg == 0x37;
        out += fmt::format("  LVT {:<9} {:08x} vector {:02x} {}{}{}\n", e.name, v, v & 0xff,
                           timer   ? kTimerModes[v >> 17 & 3]
                           : error ? ""
                                   : kDelivery[v >> 8 & 7],
                           v >> 16 & 1 ? " masked" : "", v >> 12 & 1 ? " pending" : "");
    }
    return out;
}

std::string localApic(Monitor& monitor, unsigned n) {
    LocalApic& apic = monitor.machine.apic(n);
    auto look = [&](unsigned reg) { return apic.look(reg).value_or(0); };
    const char* mode = !apic.enabled() ? "disabled" : apic.x2apic() ? "x2APIC" : "xAPIC";
    return fmt::format("CPU {}: local APIC id {:x}, {} at {:x}{}\n", n, apic.initialId(), mode,
                       apic.apicBase() & ~kPageMask, apic.isBsp() ? ", boot processor" : "") +
           fmt::format("  TPR {:02x} PPR {:02x} LDR {:08x} DFR {:08x} ESR {:08x}\n", look(kTpr), look(kPpr),
                       look(kLdr), look(kDfr), look(kEsr)) +
           fmt::format("  SVR {:08x} {}, spurious vector {:02x}\n", look(kSvr),
                       look(kSvr) & 0x100 ? "enabled" : "off", look(kSvr) & 0xff) +
           fmt::format("  ICR {:08x} {}\n", look(kIcrLow), kDelivery[look(kIcrLow) >> 8 & 7]) +
           fmt::format("  timer: divide register {:x}, initial count {}, current {}\n", look(kDivide),
                       look(kInitialCount), look(kCurrentCount)) +
           localVectorTable(apic) + "  in service:" + vectorsOf(apic, kIsr) +
           "\n  requested: " + vectorsOf(apic, kIrr) + "\n  level:     " + vectorsOf(apic, kTmr) + "\n";
}

std::string infoLapic(Monitor& monitor, const MonitorArguments& a) {
    Machine& machine = monitor.machine;
    if (a.empty()) return localApic(monitor, monitor.selected);
    uint64_t id;
    if (a.size() != 1 || !parseNumber(a[0], id)) return "info lapic takes an APIC id\n";
    for (unsigned n = 0; n < machine.cpus(); n++)
        if (machine.apic(n).initialId() == id) return localApic(monitor, n);
    return "there is no processor with that APIC id\n";
}

// -- how often

std::string infoIrq(Monitor& monitor, const MonitorArguments&) {
    Machine& machine = monitor.machine;
    std::string out = "since kiln's start\n8259 pair, by IRQ:\n";
    for (unsigned n = 0; n < 16; n++)
        if (uint64_t count = machine.board().pic().acknowledged(n))
            out += fmt::format("  {:3}: {}\n", n, count);
    out += "I/O APIC, by pin:\n";
    for (unsigned n = 0; n < IoApic::kPins; n++)
        if (uint64_t count = machine.board().ioApic().sent(n)) out += fmt::format("  {:3}: {}\n", n, count);
    for (unsigned n = 0; n < machine.cpus(); n++) {
        out += fmt::format("CPU {}, by vector:\n", n);
        for (unsigned v = 0; v < 256; v++)
            if (uint64_t count = machine.apic(n).taken(uint8_t(v)))
                out += fmt::format("   {:02x}: {}\n", v, count);
    }
    return out;
}

}  // namespace

MonitorTable interruptInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"pic", "", "the 8259 pair", infoPic},
        {"ioapic", "", "the I/O APIC's pins", infoIoApic},
        {"lapic", "[APIC-ID]", "a processor's local APIC", infoLapic},
        {"irq", "", "how many interrupts there were, by line and vector", infoIrq},
    };
    return kRows;
}

}  // namespace kiln
