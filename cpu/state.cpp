// The one visit of a processor's state: hashes that compare runs, and panels.
#include <fmt/format.h>

#include "cpu/cpu.hpp"

namespace kiln {

namespace {

void visitSegment(StateVisitor& visit, const std::string& name, Segment& s) {
    visit(name + ".selector", s.selector);
    visit(name + ".rights", s.rights);
    visit(name + ".limit", s.limit);
    visit(name + ".base", s.base);
    visit(name + ".unusable", s.unusable);
}

void visitTable(StateVisitor& visit, const std::string& name, DescriptorTable& t) {
    visit(name + ".base", t.base);
    visit(name + ".limit", t.limit);
}

void visitFpu(StateVisitor& visit, FpuState& f) {
    for (unsigned i = 0; i < 8; i++) {
        visit(fmt::format("r{}.mantissa", i), f.physical[i].mantissa);
        visit(fmt::format("r{}.sign exponent", i), f.physical[i].signExponent);
    }
    visit("fcw", f.control);
    visit("fsw", f.status);
    visit("empty", f.empty);
    visit("fop", f.opcode);
    visit("fcs", f.instructionSelector);
    visit("fds", f.dataSelector);
    visit("fip", f.instructionPointer);
    visit("fdp", f.dataPointer);
}

}  // namespace

void Cpu::visitState(StateVisitor& visit) {
    static constexpr const char* kGpr[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static constexpr const char* kSegments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (unsigned i = 0; i < 16; i++) visit(kGpr[i], gpr.slot[i]);
    visit("rip", rip);
    uint64_t rflags = flags.value();
    visit("rflags", rflags);
    flags.set(rflags);
    for (unsigned i = 0; i < 6; i++) visitSegment(visit, kSegments[i], seg[i]);
    visitSegment(visit, "ldtr", ldtr);
    visitSegment(visit, "tr", tr);
    visitTable(visit, "gdtr", gdtr);
    visitTable(visit, "idtr", idtr);
    visit("cr0", cr0);
    visit("cr2", cr2);
    visit("cr3", cr3);
    visit("cr4", cr4);
    visit("efer", efer);
    visit("dr", dr);
    visit("cpl", cpl);
    visitFpu(visit, fpu);
    for (unsigned i = 0; i < 32; i++) visit(fmt::format("zmm{}", i), vec[i].q);
    visit("opmask", opmask);
    visit("mxcsr", mxcsr);
    visit("xcr0", xcr0);
    visit("star", msr.star);
    visit("lstar", msr.lstar);
    visit("cstar", msr.cstar);
    visit("sfmask", msr.sfmask);
    visit("kernel gs base", msr.kernelGsBase);
    visit("tsc aux", msr.tscAux);
    visit("sysenter cs", msr.sysenterCs);
    visit("sysenter esp", msr.sysenterEsp);
    visit("sysenter eip", msr.sysenterEip);
    visit("pat", msr.pat);
    visit("misc enable", msr.miscEnable);
    visit("tsc adjust", msr.tscAdjust);
    visit("debugctl", msr.debugCtl);
    visit("tsc offset", tscOffset_);
    visit("mtrr default", msr.mtrrDefType);
    visit("spec ctrl", msr.specCtrl);
    visit("mcg status", msr.mcgStatus);
    visit("mcg ctl", msr.mcgCtl);
    visit("pkru", pkru);
    visit("pkrs", msr.pkrs);
    visit("mtrr fix64k", msr.mtrrFix64K);
    visit("mtrr fix16k", msr.mtrrFix16K);
    visit("mtrr fix4k", msr.mtrrFix4K);
    visit("mtrr variable", msr.mtrrVariable);
    visit("machine check", msr.machineCheck);
    visit("k7 event select", msr.k7EventSelect);
    visit("k7 counter", msr.k7Counter);
    for (unsigned i = 0; i < 4; i++) visit(fmt::format("pdpte{}", i), paging_.pdpte[i]);
    visit("halted", halted);
    visit("mwaiting", mwaiting);
    visit("mwait breaks", mwaitBreaks);
    visit("waiting for sipi", waitingForSipi);
    visit("sti shadow", stiShadow);
    visit("mov ss shadow", movSsShadow);
    visit("nmi blocked", nmiBlocked);
    visit("pending debug", pendingDebug);
    visit("smm", smm);
    visit("smbase", smbase);
}

}  // namespace kiln
