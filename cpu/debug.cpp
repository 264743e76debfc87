// Debug registers, single steps and branch steps (SDM vol. 3, chapter 18).
//
// Nothing here costs anything while no breakpoint is enabled. A page with a watched datum has no TLB tag that
// the fast paths match, so that every access to it comes to watchData(); a page with an instruction
// breakpoint is run one instruction at a time; ports are looked at where the right to use them is checked. A
// block that meets a data or I/O breakpoint in its middle is left before the instruction has done anything
// (BreakpointAhead), the instruction runs again alone, and what it hits waits in `pendingDebug` for its end.
//
// Not modelled: last-branch records, branch trace store, debug exceptions inside transactions (RTM).
#include <Zydis/Zydis.h>

#include "cpu/cpu.hpp"

namespace kiln {

namespace {

// R/W fields of DR7, as masks of what a kind of access matches.
constexpr unsigned kFetch = 0, kWrite = 1, kIo = 2, kReadWrite = 3;

unsigned control(uint64_t dr7, unsigned n) { return unsigned(dr7 >> (16 + n * 4) & 15); }
unsigned typeOf(uint64_t dr7, unsigned n) { return control(dr7, n) & 3; }
uint64_t lengthOf(uint64_t dr7, unsigned n) {
    static constexpr uint64_t kLength[4] = {1, 2, 8, 4};
    return kLength[control(dr7, n) >> 2];
}
bool enabled(uint64_t dr7, unsigned n) { return dr7 >> (n * 2) & 3; }

}  // namespace

void Cpu::writeDr(unsigned n, uint64_t v) {
    if (n >= 6 && v >> 32) raise(kGP, 0);
    if (n == 6) v = (v & dr6::kWritable) | dr6::kFixed;
    if (n == 7) v = (v & dr7::kWritable) | dr7::kFixed;
    dr[n] = v;
    if (n != 6) debugRegistersChanged();
}

void Cpu::debugRegistersChanged() {
    Breakpoints now;
    for (unsigned n = 0; n < 4; n++) {
        if (!enabled(dr[7], n)) continue;
        const unsigned type = typeOf(dr[7], n);
        if (type == kIo) {
            now.io |= bool(cr4 & cr4::DE);
        } else if (type == kFetch) {
            now.code = true;
            now.codePage[n] = dr[n] & ~kPageMask;
        } else {
            now.data = true;
            now.dataPage[n] = dr[n] & ~kPageMask;
        }
    }
    if (now == breakpoints_) return;
    breakpoints_ = now;
    flushTlb(true);
}

// The fault of DR7.GD; the handler finds GD clear. Like every fault but that of an instruction breakpoint it
// pushes RF set.
void Cpu::generalDetect() {
    dr[6] |= dr6::BD;
    flags.change(flag::RF, true);
    raise(kDB);
}

// Bits B0..B3 of the breakpoints of these types that an access to `first` .. first+size-1 touches. Disabled
// ones are told as well, but only beside an enabled one (17.2.3).
uint32_t Cpu::matching(uint64_t first, uint64_t size, unsigned types) const {
    uint32_t bits = 0;
    bool stops = false;
    for (unsigned n = 0; n < 4; n++) {
        if (!(types >> typeOf(dr[7], n) & 1)) continue;
        const uint64_t length = lengthOf(dr[7], n), at = dr[n] & ~(length - 1);
        if (first - at >= length && at - first >= size) continue;
        bits |= 1u << n;
        stops |= enabled(dr[7], n);
    }
    return stops ? bits : 0;
}

void Cpu::hit(uint32_t bits) {
    if (!bits) return;
    if (mayBeginAgain()) throw BreakpointAhead{};
    pendingDebug |= bits;
}

void Cpu::watchData(uint64_t linear, unsigned size, bool write) {
    hit(matching(linear, size, write ? 1u << kWrite | 1u << kReadWrite : 1u << kReadWrite));
}

void Cpu::watchPort(uint16_t port, unsigned size) { hit(matching(port, size, 1u << kIo)); }

static bool among(const uint64_t (&pages)[4], uint64_t linear) {
    const uint64_t page = linear & ~kPageMask;
    return pages[0] == page || pages[1] == page || pages[2] == page || pages[3] == page;
}

bool Cpu::watchesData(uint64_t linear) const {
    return breakpoints_.data && among(breakpoints_.dataPage, linear);
}

bool Cpu::watchesCode() const {
    return breakpoints_.code && among(breakpoints_.codePage, (fast_[Cs].base + rip) & linearMask_);
}

// The fault of an instruction breakpoint at rip, before the instruction is even fetched. RF holds it off, and
// so does the shadow of MOV SS.
bool Cpu::codeBreakpoint() {
    if (flags.test(flag::RF) || movSsShadow) return false;
    const uint32_t bits = matching((fast_[Cs].base + rip) & linearMask_, 1, 1u << kFetch);
    if (!bits) return false;
    pendingDebug |= bits;
    debugTrap();
    return true;
}

void Cpu::debugTrap() {
    dr[6] = (dr[6] & ~15ull) | pendingDebug;
    pendingDebug = 0;
    wake();
    deliverFault({kDB});
}

// Whether the instruction at rip is one that branch steps stop behind; of conditional ones, when taken.
bool Cpu::atTransfer() {
    uint8_t bytes[15];
    unsigned have = 0;
    for (; have < sizeof bytes; have++) {
        PhysAddr phys;
        if (!translate((fast_[Cs].base + rip + have) & linearMask_, phys)) break;
        io.memory.read(phys, &bytes[have], 1);
    }
    static constexpr std::pair<ZydisMachineMode, ZydisStackWidth> kModes[] = {
        {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64}};
    const auto [mode, width] = kModes[unsigned(codeMode_)];
    ZydisDecoder decoder;
    ZydisDecodedInstruction z;
    if (!ZYAN_SUCCESS(ZydisDecoderInit(&decoder, mode, width)) ||
        !ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, nullptr, bytes, have, &z)))
        return false;
    switch (z.meta.category) {
        case ZYDIS_CATEGORY_UNCOND_BR:
        case ZYDIS_CATEGORY_CALL:
        case ZYDIS_CATEGORY_RET:
        case ZYDIS_CATEGORY_SYSCALL:
        case ZYDIS_CATEGORY_SYSRET: return true;
        default: return false;
    }
}

}  // namespace kiln
