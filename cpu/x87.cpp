// The x87 FPU's frame: availability, exceptions, tags, and the rows of all its instructions (SDM vol. 1,
// chapter 8 and appendix D; vol. 3, 2.5 and 9.2). FERR# is raised with the exception, as the 486 does for
// most, not with the next instruction.
#include "cpu/x87.hpp"

#include <vector>

#include "cpu/handlers.hpp"

namespace kiln {

using namespace float80;

// Table 2-3 of SDM vol. 3: what CR0.EM, MP and TS do.
void Cpu::x87Fault(bool waits) {
    if (fpuTraps_.x87) raise(kNM);
    if (waits) x87Error();
}

void Cpu::x87Error() {
    if (cr0 & cr0::NE) raise(kMF);
    if (!io.ferr) return;
    io.ferr(true);
    if (!ignne) throw FerrFreeze{};
}

void Cpu::mmxFault() {
    if (cr0 & cr0::EM) raise(kUD);
    if (cr0 & cr0::TS) raise(kNM);
    x87Fault(true);
}

void Cpu::sseFault() {
    if (cr0 & cr0::EM || !(cr4 & cr4::OSFXSR)) raise(kUD);
    raise(kNM);
}

void Cpu::avxFault() { raise(avxEnabled() ? kNM : kUD); }
void Cpu::avx512Fault() { raise(avx512Enabled() ? kNM : kUD); }

// ESC without a coprocessor that would answer: CR0.EM and TS count as ever, and nothing else happens. So
// software finds out by FNINIT and FNSTSW.
static void ignoredEscape(Cpu& c, const Insn&) {
    if (c.cr0 & (cr0::EM | cr0::TS)) raise(kNM);
}
void absentFpu(Cpu& c, const Insn* i) { KILN_HAND_OVER(straight<ignoredEscape>, c, i); }

std::span<const Row> x87Rows() {
    static const std::vector<Row> rows = [] {
        std::vector<Row> all;
        for (auto part : {x87::arithmeticRows(), x87::moveRows(), x87::compareRows(), x87::controlRows(),
                          x87::fxsaveRows()})
            all.insert(all.end(), part.begin(), part.end());
        return all;
    }();
    return rows;
}

namespace x87 {

void updateSummary(Cpu& c) {
    bool pending = c.fpu.status & ~c.fpu.control & kExceptions;
    c.fpu.status =
        uint16_t(pending ? c.fpu.status | kErrorSummary | kBusy : c.fpu.status & ~(kErrorSummary | kBusy));
    if (c.io.ferr && !(c.cr0 & cr0::NE)) c.io.ferr(pending);
}

// Eleven bits: the low three of the escape byte, then ModRM. Prefixes are never D8..DF.
static void noteOpcode(Cpu& c, const Insn& i) {
    uint8_t bytes[16] = {};
    for (unsigned n = 0; n < i.length && n < sizeof bytes; n++) {
        PhysAddr at;
        if (!c.translate(c.seg[Cs].base + c.blockRip() + i.offset + n, at)) return;
        bytes[n] = c.io.memory.read<uint8_t>(at);
        if (n && (bytes[n - 1] & 0xf8) == 0xd8) {
            c.fpu.opcode = uint16_t((bytes[n - 1] & 7) << 8 | bytes[n]);
            return;
        }
    }
}

void unmaskedException(Cpu& c, const Insn& i) {
    noteOpcode(c, i);
    updateSummary(c);
}

void initialize(Cpu& c) {
    auto registers = c.fpu.physical;
    c.fpu = FpuState{};
    c.fpu.physical = registers;
    updateSummary(c);
}

void loadControl(Cpu& c, uint16_t v) {
    c.fpu.control = uint16_t((v & 0x1f3f) | 0x40);
    updateSummary(c);
}

uint16_t fullTags(const FpuState& f) {
    uint16_t tags = 0;
    for (unsigned r = 0; r < 8; r++) {
        unsigned tag = 2;  // special
        Kind k = kind(f.physical[r]);
        if (f.empty >> r & 1)
            tag = 3;
        else if (k == Kind::Normal)
            tag = 0;
        else if (k == Kind::Zero)
            tag = 1;
        tags |= uint16_t(tag << 2 * r);
    }
    return tags;
}

uint8_t emptyFromTags(uint16_t tags) {
    uint8_t empty = 0;
    for (unsigned r = 0; r < 8; r++) empty |= uint8_t((tags >> 2 * r & 3) == 3) << r;
    return empty;
}

Float80 loadExtended(Cpu& c, unsigned segment, uint64_t offset) {
    uint64_t mantissa = c.load<uint64_t>(segment, offset);
    return {mantissa, c.load<uint16_t>(segment, offset + 8)};
}

void storeExtended(Cpu& c, unsigned segment, uint64_t offset, Float80 v) {
    c.store<uint64_t>(segment, offset, v.mantissa);
    c.store<uint16_t>(segment, offset + 8, v.signExponent);
}

}  // namespace x87
}  // namespace kiln
