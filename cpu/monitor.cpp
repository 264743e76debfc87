// MONITOR and MWAIT (SDM vol. 3, 9.10.3; vol. 2): wait for a store to a 64-byte line, or for an interrupt.
//
// The line's page is marked as if code lay there, which sends every store to it, by whomever, the slow way,
// where a store to the line ends the wait. Hints about power states mean nothing here. Not modelled:
// user-mode MONITORX and UMONITOR.
#include "cpu/body.hpp"
#include "cpu/handlers.hpp"

namespace kiln {

namespace {

constexpr uint64_t kLine = 64;
constexpr uint64_t kMonitorEnable = 1 << 18;  // IA32_MISC_ENABLE

void checkAvailable(const Cpu& c) {
    if (c.cpl || !(c.msr.miscEnable & kMonitorEnable)) raise(kUD);
}

void monitor(Cpu& c, const Insn& i) {
    checkAvailable(c);
    if (c.gpr.get<uint32_t>(Rcx * 8)) raise(kGP, 0);  // no extensions
    const uint64_t mask = i.addressSize == 2 ? ~0ull : i.addressSize == 1 ? 0xffffffff : 0xffff;
    const uint64_t offset = c.gpr[Rax] & mask;
    c.load<uint8_t>(i.seg, offset);
    c.armMonitor(c.linearOf(i.seg, offset, 1, Access::Read));
}

void mwait(Cpu& c, const Insn&) {
    checkAvailable(c);
    const auto extensions = c.gpr.get<uint32_t>(Rcx * 8);
    if (extensions & ~1u) raise(kGP, 0);
    if (!c.monitorArmed()) return;
    c.halted = c.mwaiting = true;
    c.mwaitBreaks = extensions & 1;
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_MONITOR, only<monitor>},
    {ZYDIS_MNEMONIC_MWAIT, onlySerializing<mwait>, kEndsBlock},
};

}  // namespace

std::span<const Row> monitorRows() { return kRows; }

void Cpu::armMonitor(uint64_t linear) {
    PhysAddr at;
    if (!translate(linear, at)) return;
    at = PhysAddr(at.value & ~(kLine - 1));
    monitorHit_ = false;
    monitorArmed_ = true;
    if (monitorMarks_ && monitorLine_ == at) return;
    unmarkMonitor();
    monitorLine_ = at;
    monitorMarks_ = io.memory.markCode(at, kLine, id);
}

// The marks stay: idle loops come back to the same line.
void Cpu::disarmMonitor() { monitorArmed_ = false; }

void Cpu::unmarkMonitor() {
    if (!monitorMarks_) return;
    io.memory.threads.exclusively(
        [this] { PhysicalMemory::unmarkCode(std::exchange(monitorMarks_, nullptr)); });
}

// Some processor or device wrote near code, or near a monitored line. With several threads this runs
// exclusively.
void Cpu::lineWritten(PhysAddr at, uint64_t size) {
    if (at.value >= monitorLine_.value + kLine || at.value + size <= monitorLine_.value) return;
    unmarkMonitor();
    if (!monitorArmed_ || monitorHit_.exchange(true)) return;
    if (mwaiting && io.apic.onAttention) io.apic.onAttention();
}

bool Cpu::mwaitOver() const { return monitorHit_ || (mwaitBreaks && io.apic.intrPending()); }

}  // namespace kiln
