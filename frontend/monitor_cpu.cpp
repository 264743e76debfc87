// The human monitor: processors, their registers, and how their code is run.
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

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

std::string selectCpu(Monitor& monitor, const MonitorArguments& a) {
    uint64_t n;
    if (a.size() != 1 || !parseNumber(a[0], n) || n >= monitor.machine.cpus())
        return fmt::format("cpu needs a number from 0 to {}\n", monitor.machine.cpus() - 1);
    monitor.selected = unsigned(n);
    return {};
}

std::string infoRegisters(Monitor& monitor, const MonitorArguments& a) {
    if (a.empty()) return describeRegisters(monitor.cpu());
    if (a[0] != "-a") return "info registers takes -a or nothing\n";
    std::string out;
    for (unsigned n = 0; n < monitor.machine.cpus(); n++)
        out += fmt::format("CPU {}\n{}", n, describeRegisters(monitor.machine.cpu(n)));
    return out;
}

std::string infoCpus(Monitor& monitor, const MonitorArguments&) {
    std::string out;
    for (unsigned n = 0; n < monitor.machine.cpus(); n++) {
        const Cpu& c = monitor.machine.cpu(n);
        out += fmt::format("{} CPU {:2}: APIC id {:2}, rip={:016x} {}, {} instructions{}\n",
                           n == monitor.selected ? "*" : " ", n, monitor.machine.apic(n).initialId(), c.rip,
                           modeOf(c), c.executed(),
                           c.waitingForSipi ? ", waits for SIPI"
                           : c.halted       ? ", halted"
                                            : "");
    }
    return out;
}

std::string infoBlocks(Monitor& monitor, const MonitorArguments&) {
    std::string out;
    for (unsigned n = 0; n < monitor.machine.cpus(); n++)
        out += fmt::format("CPU {}: {} blocks in {} KiB, {} dropped since the start, {} of them cold\n", n,
                           monitor.machine.code(n).blocks(), monitor.machine.code(n).bytes() >> 10,
                           monitor.machine.code(n).killed(), monitor.machine.code(n).cooled());
    return out;
}

std::string infoJit(Monitor& monitor, const MonitorArguments& arguments) {
    if (!arguments.empty()) {
        uint64_t rip;
        std::string error;
        if (!parseExpression(monitor, joined(arguments), rip, error)) return error + "\n";
        const std::string code = monitor.machine.hostCode(rip, monitor.selected);
        return code.empty() ? fmt::format("the block at {:x} is not translated\n", rip) : code;
    }
    const std::string report = monitor.machine.translatorReport();
    return report.empty()
               ? "there is no translator: kiln was started with -accel interp, or has none for this host\n"
               : report;
}

std::string infoTlb(Monitor& monitor, const MonitorArguments& a) {
    if (a.empty()) return monitor.machine.tlbReport();
    return "info tlb takes nothing; 'info mappings' lists what the page tables map\n";
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

MonitorTable cpuCommands() {
    static constexpr MonitorCommand kRows[] = {
        {"cpu", "N", "the processor that x, print and info registers are about", selectCpu},
    };
    return kRows;
}

MonitorTable cpuInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"registers", "[-a]", "the processor; -a: all of them", infoRegisters},
        {"cpus", "", "all processors", infoCpus},
        {"blocks", "", "decoded code", infoBlocks},
        {"jit", "[ADDR]", "what the translator has done, or the block at ADDR as guest and host code",
         infoJit},
        {"tlb", "", "translation contexts, and the page tables under watch", infoTlb},
    };
    return kRows;
}

}  // namespace kiln
