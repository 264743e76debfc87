// FXSAVE, FXRSTOR and their 64-bit forms: SDM vol. 1, 10.5; vol. 2, FXSAVE.
//
// XMM registers and MXCSR take part when CR4.OSFXSR is set, and the former not with AMD's EFER.FFXSR at CPL 0
// in 64-bit mode.
#include "cpu/legacy_area.hpp"
#include "cpu/x87.hpp"

namespace kiln::x87 {

namespace {

constexpr unsigned kSize = LegacyArea::kSize;

uint64_t checkedAddress(Cpu& c, const Insn& i, Access access) {
    if (c.cr0 & (cr0::EM | cr0::TS)) raise(kNM);
    uint64_t at = c.effectiveAddress(i);
    const uint64_t linear = c.linearOf(i.seg, at, kSize, access);
    if (linear & 3 && c.alignmentChecked()) raise(kAC, 0);
    if (linear & 15) raise(kGP, 0);
    return at;
}

unsigned xmmCount(const Cpu& c) {
    if (!(c.cr4 & cr4::OSFXSR) || (c.efer & efer::FFXSR && c.code64() && c.cpl == 0)) return 0;
    return c.code64() ? 16 : 8;
}

template <bool pointers64>
void fxsave(Cpu& c, const Insn& i) {
    uint64_t at = checkedAddress(c, i, Access::Write);
    LegacyArea area;
    area.takeX87(c, pointers64);
    area.takeMxcsr(c);
    area.takeXmm(c, xmmCount(c));
    c.checkWrite(i.seg, at + kSize - 1, 1);  // the end first, as CR2 shows on processors
    c.checkWrite(i.seg, at, 1);
    // What lies behind the registers belongs to software.
    for (unsigned n = 0; n < LegacyArea::kXmm + 16 * xmmCount(c); n += 8)
        c.store<uint64_t>(i.seg, at + n, area.get<uint64_t>(n));
}

template <bool pointers64>
void fxrstor(Cpu& c, const Insn& i) {
    uint64_t at = checkedAddress(c, i, Access::Read);
    LegacyArea area;
    c.load<uint8_t>(i.seg, at + kSize - 1);
    for (unsigned n = 0; n < kSize; n += 8) area.set(n, c.load<uint64_t>(i.seg, at + n));
    bool sse = c.cr4 & cr4::OSFXSR;
    if (sse && !area.validMxcsr()) raise(kGP, 0);
    area.giveX87(c, pointers64);
    if (sse) c.mxcsr = area.get<uint32_t>(LegacyArea::kMxcsr);
    area.giveXmm(c, xmmCount(c));
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_FXSAVE, only<fxsave<false>>},
    {ZYDIS_MNEMONIC_FXSAVE64, only<fxsave<true>>},
    {ZYDIS_MNEMONIC_FXRSTOR, only<fxrstor<false>>},
    {ZYDIS_MNEMONIC_FXRSTOR64, only<fxrstor<true>>},
};

}  // namespace

std::span<const Row> fxsaveRows() { return kRows; }

}  // namespace kiln::x87
