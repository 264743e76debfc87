// XSAVE and its relatives, XGETBV and XSETBV: SDM vol. 1, chapter 13; vol. 2.
//
// XINUSE is exact: a component is in its initial configuration when its registers say so. So is XMODIFIED:
// XRSTOR keeps a copy of what it loaded, which XSAVEOPT and XSAVES compare with. There are no supervisor
// components; IA32_XSS is always 0.
#include "cpu/xsave.hpp"

#include <algorithm>

#include "cpu/legacy_area.hpp"
#include "cpu/x87.hpp"

namespace kiln {

namespace {

using namespace xsave;
using x87::initialize;

constexpr uint32_t kInitialMxcsr = 0x1f80;

enum class Form : uint8_t { Plain, Optimised, Compacted, Supervisor };  // XSAVE, -OPT, -C, -S

// -- the processor's state by components

bool x87Initial(const Cpu& c) {
    const FpuState& f = c.fpu;
    auto zero = [](const Float80& r) { return !r.mantissa && !r.signExponent; };
    return f.control == 0x37f && !f.status && f.empty == 0xff && !f.opcode && !f.instructionPointer &&
           !f.dataPointer && !f.instructionSelector && !f.dataSelector &&
           std::ranges::all_of(f.physical, zero);
}

unsigned registerCount(const Cpu& c) { return c.code64() ? 16 : 8; }

// The part of the vector registers that is in one component: these words of these registers. Outside 64-bit
// mode there are eight registers.
struct Slice {
    unsigned firstRegister, registers, firstWord, words;
};
Slice sliceOf(const Cpu& c, uint64_t component) {
    switch (component) {
        case xfeature::SSE: return {0, registerCount(c), 0, 2};
        case xfeature::AVX: return {0, registerCount(c), 2, 2};
        case xfeature::ZmmHi256: return {0, registerCount(c), 4, 4};
        case xfeature::Hi16Zmm: return {16, c.code64() ? 16u : 0u, 0, 8};
        default: return {};
    }
}

// The vector components in which `differs` (a register, a word of it) is not 0 for some word.
template <class Differs>
uint64_t vectorComponents(const Cpu& c, Differs differs) {
    uint64_t low[8] = {}, high[8] = {};
    for (unsigned n = 0, count = registerCount(c); n < count; n++)
        for (unsigned word = 0; word < 8; word++) low[word] |= differs(n, word);
    if (c.code64())
        for (unsigned n = 16; n < 32; n++)
            for (unsigned word = 0; word < 8; word++) high[word] |= differs(n, word);
    const bool any = high[0] | high[1] | high[2] | high[3] | high[4] | high[5] | high[6] | high[7];
    return (low[0] | low[1] ? xfeature::SSE : 0) | (low[2] | low[3] ? xfeature::AVX : 0) |
           (low[4] | low[5] | low[6] | low[7] ? xfeature::ZmmHi256 : 0) | (any ? xfeature::Hi16Zmm : 0);
}

// 13.6: XINUSE without MXCSR, which has rules of its own.
uint64_t inUse(const Cpu& c) {
    return (x87Initial(c) ? 0 : xfeature::X87) | (c.pkru ? xfeature::PKRU : 0) |
           (c.opmask == decltype(c.opmask){} ? 0 : xfeature::Opmask) |
           vectorComponents(c, [&](unsigned n, unsigned word) { return c.vec[n].q[word]; });
}
uint64_t inUseWithMxcsr(const Cpu& c) { return inUse(c) | (c.mxcsr != kInitialMxcsr ? xfeature::SSE : 0); }

bool sameX87(const FpuState& a, const FpuState& b) {
    auto equal = [](const Float80& x, const Float80& y) {
        return x.mantissa == y.mantissa && x.signExponent == y.signExponent;
    };
    return a.control == b.control && a.status == b.status && a.empty == b.empty && a.opcode == b.opcode &&
           a.instructionPointer == b.instructionPointer && a.dataPointer == b.dataPointer &&
           a.instructionSelector == b.instructionSelector && a.dataSelector == b.dataSelector &&
           std::ranges::equal(a.physical, b.physical, equal);
}

// XMODIFIED: components that may differ from what the last XRSTOR loaded. All of them, unless it used the
// same area at the same privilege level and in the same format (XRSTOR_INFO).
uint64_t modified(const Cpu& c, uint64_t linear, uint64_t xcomp) {
    const RestoredState& r = c.restored;
    if (r.linear != linear || r.cpl != c.cpl || r.xcomp != xcomp) return ~0ull;
    uint64_t differing =
        (sameX87(r.fpu, c.fpu) ? 0 : xfeature::X87) | (r.pkru == c.pkru ? 0 : xfeature::PKRU) |
        (r.opmask == c.opmask ? 0 : xfeature::Opmask) | (r.mxcsr == c.mxcsr ? 0 : xfeature::SSE) |
        vectorComponents(c, [&](unsigned n, unsigned word) { return r.vec[n].q[word] ^ c.vec[n].q[word]; });
    return differing | ~r.components;
}

// For each register of a slice, with the number of words as a constant.
template <class Part>
void eachPart(const Slice& s, Part part) {
    auto all = [&](auto words) {
        for (unsigned n = 0; n < s.registers; n++) part(n, words);
    };
    switch (s.words) {
        case 2: return all(std::integral_constant<size_t, 2>{});
        case 4: return all(std::integral_constant<size_t, 4>{});
        default: return all(std::integral_constant<size_t, 8>{});
    }
}

// Component `k` as bytes; the legacy ones are in the LegacyArea.
void take(const Cpu& c, const Component& k, uint8_t* bytes) {
    if (k.bit() == xfeature::PKRU) {
        uint64_t v = c.pkru;
        std::memcpy(bytes, &v, 8);
    } else if (k.bit() == xfeature::Opmask) {
        std::memcpy(bytes, c.opmask.data(), sizeof c.opmask);
    } else {
        const Slice s = sliceOf(c, k.bit());
        eachPart(s, [&](unsigned n, auto words) {
            std::memcpy(bytes + 8 * words * n, &c.vec[s.firstRegister + n].q[s.firstWord], 8 * words);
        });
    }
}
void give(Cpu& c, const Component& k, const uint8_t* bytes) {
    if (k.bit() == xfeature::PKRU) {
        uint32_t v;
        std::memcpy(&v, bytes, 4);
        c.setPkru(v);
    } else if (k.bit() == xfeature::Opmask) {
        std::memcpy(c.opmask.data(), bytes, sizeof c.opmask);
    } else {
        const Slice s = sliceOf(c, k.bit());
        eachPart(s, [&](unsigned n, auto words) {
            std::memcpy(&c.vec[s.firstRegister + n].q[s.firstWord], bytes + 8 * words * n, 8 * words);
        });
    }
}
// Bytes of a component that are used in this mode.
unsigned usedSize(const Cpu& c, const Component& k) {
    const Slice s = sliceOf(c, k.bit());
    return s.words ? 8 * s.words * s.registers : k.size;
}

// -- instructions

void checkEnabled(Cpu& c) {
    if (!(c.cr4 & cr4::OSXSAVE)) raise(kUD);
    if (c.cr0 & cr0::TS) raise(kNM);
}

uint64_t edxEax(const Cpu& c) { return c.gpr[Rdx] << 32 | c.gpr.get<uint32_t>(Rax * 8); }

// The area of an instruction. Reads and writes are of whole 8-byte words, by pointer as far as a page is
// plain memory.
struct Area {
    Cpu& c;
    const Insn& insn;
    uint64_t at, linear;

    Area(Cpu& cpu, const Insn& i, Access access)
        : c(cpu), insn(i), at(cpu.effectiveAddress(i)), linear(cpu.linearOf(i.seg, at, kExtended, access)) {
        if (linear & 3 && c.alignmentChecked()) raise(kAC, 0);
        if (linear & 63) raise(kGP, 0);
    }
    // In 64-bit mode what the TLB knows needs no more checks.
    template <bool Write>
    uint8_t* known(unsigned offset) const {
        const uint64_t l = linear + offset;
        return c.code64() && c.hits<uint8_t, Write>(l) ? c.hostAddress<uint8_t>(l) : nullptr;
    }
    uint64_t word(unsigned offset) const {
        if (const uint8_t* p = known<false>(offset)) return loadGuest<uint64_t>(p);
        return c.load<uint64_t>(insn.seg, at + offset);
    }
    void setWord(unsigned offset, uint64_t v) const {
        if (uint8_t* p = known<true>(offset)) return storeGuest(p, v);
        c.store<uint64_t>(insn.seg, at + offset, v);
    }
    void read(unsigned offset, uint8_t* to, unsigned size) const {
        for (unsigned n = 0; n < size;) {
            const unsigned here = std::min(size - n, leftOfPage(offset + n));
            const uint8_t* p = known<false>(offset + n);
            if (!p) p = c.readablePointer(insn.seg, at + offset + n, here);
            if (p) {
                readGuest(to + n, p, here);
            } else {
                for (unsigned k = n; k < n + here; k += 8) {
                    uint64_t v = word(offset + k);
                    std::memcpy(to + k, &v, 8);
                }
            }
            n += here;
        }
    }
    void write(unsigned offset, const uint8_t* from, unsigned size) const {
        for (unsigned n = 0; n < size;) {
            const unsigned here = std::min(size - n, leftOfPage(offset + n));
            uint8_t* p = known<true>(offset + n);
            if (!p) p = c.writablePointer(insn.seg, at + offset + n, here);
            if (p) {
                writeGuest(p, from + n, here);
            } else {
                for (unsigned k = n; k < n + here; k += 8) {
                    uint64_t v;
                    std::memcpy(&v, from + k, 8);
                    setWord(offset + k, v);
                }
            }
            n += here;
        }
    }
    unsigned leftOfPage(unsigned offset) const {
        return unsigned(kPageSize - ((linear + offset) & kPageMask));
    }
    // Where a component lies in the format that XCOMP_BV describes.
    unsigned offsetOf(const Component& k, uint64_t xcomp) const {
        return xcomp & kCompacted ? compactedSize(xcomp & (k.bit() - 1)) : k.offset;
    }
};

// 13.7, 13.9, 13.10, 13.11.
template <Form form, bool pointers64>
void save(Cpu& c, const Insn& i) {
    constexpr bool compacts = form == Form::Compacted || form == Form::Supervisor;
    checkEnabled(c);
    if (form == Form::Supervisor && c.cpl) raise(kGP, 0);
    const Area area(c, i, Access::Write);
    const uint64_t requested = c.xcr0 & edxEax(c);
    const uint64_t xcomp = compacts ? requested | kCompacted : 0;
    const uint64_t used = compacts ? inUseWithMxcsr(c) : inUse(c);
    uint64_t saved = requested;
    if (form != Form::Plain) saved &= used;
    if (form == Form::Optimised || form == Form::Supervisor) saved &= modified(c, area.linear, xcomp);
    const bool mxcsr = compacts ? saved & xfeature::SSE : requested & (xfeature::SSE | xfeature::AVX);

    // All that will be written must be writable before anything is.
    unsigned end = kExtended;
    for (const Component& k : kComponents)
        if (saved & k.bit()) end = area.offsetOf(k, xcomp) + usedSize(c, k);
    c.checkWrite(i.seg, area.at + end - 1, 1);
    c.checkWrite(i.seg, area.at, 1);
    const uint64_t before = compacts ? 0 : area.word(kHeader);

    LegacyArea legacy;
    if (saved & xfeature::X87) {
        legacy.takeX87(c, pointers64);
        area.write(0, &legacy.bytes[0], LegacyArea::kMxcsr);
        area.write(LegacyArea::kRegisters, &legacy.bytes[LegacyArea::kRegisters], 128);
    }
    if (mxcsr) {
        legacy.takeMxcsr(c);
        area.write(LegacyArea::kMxcsr, &legacy.bytes[LegacyArea::kMxcsr], 8);
    }
    if (saved & xfeature::SSE) {
        legacy.takeXmm(c, registerCount(c));
        area.write(LegacyArea::kXmm, &legacy.bytes[LegacyArea::kXmm], 16 * registerCount(c));
    }
    for (const Component& k : kComponents) {
        if (!(saved & k.bit())) continue;
        uint8_t bytes[kLargest];
        take(c, k, bytes);
        area.write(area.offsetOf(k, xcomp), bytes, usedSize(c, k));
    }
    area.setWord(kHeader, (before & ~requested) | (used & requested));
    if (compacts) area.setWord(kHeader + 8, xcomp);
}

struct Header {
    uint64_t xstate, xcomp;
};

// The header's checks (13.8, 13.12).
template <bool supervisor>
Header checkedHeader(Cpu& c, const Area& area) {
    uint64_t words[8];
    for (unsigned n = 0; n < 8; n++) words[n] = area.word(kHeader + 8 * n);
    const Header h{words[0], words[1]};
    const bool compacted = h.xcomp & kCompacted;
    if (supervisor ? !compacted : compacted && !c.model.has(Feature::XSAVEC)) raise(kGP, 0);
    if (h.xstate & ~c.xcr0) raise(kGP, 0);
    if (!compacted) {
        if (h.xcomp || words[2]) raise(kGP, 0);
        return h;
    }
    const uint64_t components = h.xcomp & ~kCompacted;
    if (components & ~c.xcr0 || h.xstate & ~components) raise(kGP, 0);
    for (unsigned n = 2; n < 8; n++)
        if (words[n]) raise(kGP, 0);
    return h;
}

void initializeComponent(Cpu& c, const Component& k) {
    static constexpr uint8_t kZeros[kLargest] = {};
    give(c, k, kZeros);
}

// 13.8 and 13.12. Everything is read, and may fault, before anything is loaded.
template <bool supervisor, bool pointers64>
void restore(Cpu& c, const Insn& i) {
    checkEnabled(c);
    if (supervisor && c.cpl) raise(kGP, 0);
    const Area area(c, i, Access::Read);
    const Header h = checkedHeader<supervisor>(c, area);
    const bool compacted = h.xcomp & kCompacted;
    const uint64_t requested = c.xcr0 & edxEax(c), loaded = requested & h.xstate;

    LegacyArea legacy;
    uint8_t extended[std::size(kComponents)][kLargest];
    if (loaded & xfeature::X87) {
        area.read(0, &legacy.bytes[0], LegacyArea::kMxcsr);
        area.read(LegacyArea::kRegisters, &legacy.bytes[LegacyArea::kRegisters], 128);
    }
    // In the standard format MXCSR is no part of a component.
    const bool loadsMxcsr = compacted ? loaded & xfeature::SSE : requested & (xfeature::SSE | xfeature::AVX);
    if (loadsMxcsr) {
        area.read(LegacyArea::kMxcsr, &legacy.bytes[LegacyArea::kMxcsr], 8);
        if (!legacy.validMxcsr()) raise(kGP, 0);
    }
    if (loaded & xfeature::SSE)
        area.read(LegacyArea::kXmm, &legacy.bytes[LegacyArea::kXmm], 16 * registerCount(c));
    for (size_t n = 0; n < std::size(kComponents); n++)
        if (const Component& k = kComponents[n]; loaded & k.bit())
            area.read(area.offsetOf(k, h.xcomp), extended[n], usedSize(c, k));

    if (loaded & xfeature::X87) {
        legacy.giveX87(c, pointers64);
    } else if (requested & xfeature::X87) {
        initialize(c);
        c.fpu.physical = {};
    }
    if (loadsMxcsr)
        c.mxcsr = legacy.get<uint32_t>(LegacyArea::kMxcsr);
    else if (compacted && requested & xfeature::SSE)
        c.mxcsr = kInitialMxcsr;
    if (requested & xfeature::SSE) legacy.giveXmm(c, registerCount(c));
    for (size_t n = 0; n < std::size(kComponents); n++) {
        const Component& k = kComponents[n];
        if (loaded & k.bit())
            give(c, k, extended[n]);
        else if (requested & k.bit())
            initializeComponent(c, k);
    }
    RestoredState& r = c.restored;
    r.linear = area.linear, r.xcomp = h.xcomp, r.components = requested, r.cpl = c.cpl;
    r.fpu = c.fpu, r.vec = c.vec, r.opmask = c.opmask;
    r.mxcsr = c.mxcsr, r.pkru = c.pkru;
}

void xgetbv(Cpu& c, const Insn&) {
    if (!(c.cr4 & cr4::OSXSAVE)) raise(kUD);
    const auto index = c.gpr.get<uint32_t>(Rcx * 8);
    if (index > 1 || (index == 1 && !c.model.has(Feature::XGETBV1))) raise(kGP, 0);
    const uint64_t v = index ? c.xcr0 & inUseWithMxcsr(c) : c.xcr0;
    c.gpr[Rax] = uint32_t(v);
    c.gpr[Rdx] = v >> 32;
}

void xsetbv(Cpu& c, const Insn&) {
    if (!(c.cr4 & cr4::OSXSAVE)) raise(kUD);
    const uint64_t v = edxEax(c);
    if (c.cpl || c.gpr.get<uint32_t>(Rcx * 8)) raise(kGP, 0);
    if (!(v & xfeature::X87) || v & ~c.model.xcr0Supported()) raise(kGP, 0);
    if (v & xfeature::AVX && !(v & xfeature::SSE)) raise(kGP, 0);
    const uint64_t avx512 = v & xfeature::AVX512;
    if (avx512 && (avx512 != xfeature::AVX512 || !(v & xfeature::AVX))) raise(kGP, 0);
    c.xcr0 = v;
    c.cpuidChanged();
    c.segmentsChanged();
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_XSAVE, only<save<Form::Plain, false>>},
    {ZYDIS_MNEMONIC_XSAVE64, only<save<Form::Plain, true>>},
    {ZYDIS_MNEMONIC_XSAVEOPT, only<save<Form::Optimised, false>>},
    {ZYDIS_MNEMONIC_XSAVEOPT64, only<save<Form::Optimised, true>>},
    {ZYDIS_MNEMONIC_XSAVEC, only<save<Form::Compacted, false>>},
    {ZYDIS_MNEMONIC_XSAVEC64, only<save<Form::Compacted, true>>},
    {ZYDIS_MNEMONIC_XSAVES, only<save<Form::Supervisor, false>>},
    {ZYDIS_MNEMONIC_XSAVES64, only<save<Form::Supervisor, true>>},
    {ZYDIS_MNEMONIC_XRSTOR, only<restore<false, false>>},
    {ZYDIS_MNEMONIC_XRSTOR64, only<restore<false, true>>},
    {ZYDIS_MNEMONIC_XRSTORS, only<restore<true, false>>},
    {ZYDIS_MNEMONIC_XRSTORS64, only<restore<true, true>>},
    {ZYDIS_MNEMONIC_XGETBV, only<xgetbv>},
    {ZYDIS_MNEMONIC_XSETBV, onlySerializing<xsetbv>, kEndsBlock},
};

}  // namespace

std::span<const Row> xsaveRows() { return kRows; }

}  // namespace kiln
