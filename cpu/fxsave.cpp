// FXSAVE, FXRSTOR and their 64-bit forms: SDM vol. 1, 10.5; vol. 2, FXSAVE with the layout of the 512-byte
// image.
//
// XMM registers and MXCSR take part when CR4.OSFXSR is set. Not modelled: AMD's EFER.FFXSR.
#include <cstring>

#include "cpu/x87.hpp"

namespace kiln::x87 {

namespace {

constexpr unsigned kSize = 512;
constexpr unsigned kRegisters = 32, kXmm = 160;
constexpr uint32_t kMxcsrMask = 0xffff;

class Image {
  public:
    template <class T>
    T get(unsigned at) const {
        T v;
        std::memcpy(&v, reinterpret_cast<const char*>(words_.data()) + at, sizeof v);
        return v;
    }
    template <class T>
    void set(unsigned at, T v) {
        std::memcpy(reinterpret_cast<char*>(words_.data()) + at, &v, sizeof v);
    }
    void load(Cpu& c, const Insn& i, uint64_t at) {
        c.load<uint8_t>(i.seg, at + kSize - 1);
        for (unsigned n = 0; n < words_.size(); n++) words_[n] = c.load<uint64_t>(i.seg, at + 8 * n);
    }
    // `end` bytes: what lies behind them belongs to software.
    void store(Cpu& c, const Insn& i, uint64_t at, unsigned end) const {
        c.checkWrite(i.seg, at + kSize - 1, 1);  // the end first, as CR2 shows on processors
        c.checkWrite(i.seg, at, 1);
        for (unsigned n = 0; n < end / 8; n++) c.store<uint64_t>(i.seg, at + 8 * n, words_[n]);
    }

  private:
    std::array<uint64_t, kSize / 8> words_{};
};

uint64_t checkedAddress(Cpu& c, const Insn& i, Access access) {
    if (c.cr0 & (cr0::EM | cr0::TS)) raise(kNM);
    uint64_t at = c.effectiveAddress(i);
    if (c.linearOf(i.seg, at, kSize, access) & 15) raise(kGP, 0);
    return at;
}

unsigned xmmCount(const Cpu& c) { return !(c.cr4 & cr4::OSFXSR) ? 0 : c.code64() ? 16 : 8; }

template <bool pointers64>
void fxsave(Cpu& c, const Insn& i) {
    uint64_t at = checkedAddress(c, i, Access::Write);
    const FpuState& f = c.fpu;
    Image m;
    m.set<uint16_t>(0, f.control);
    m.set<uint16_t>(2, f.status);
    m.set<uint8_t>(4, uint8_t(~f.empty));
    m.set<uint16_t>(6, f.opcode);
    if (pointers64) {
        m.set<uint64_t>(8, f.instructionPointer);
        m.set<uint64_t>(16, f.dataPointer);
    } else {
        m.set<uint32_t>(8, uint32_t(f.instructionPointer));
        m.set<uint16_t>(12, f.instructionSelector);
        m.set<uint32_t>(16, uint32_t(f.dataPointer));
        m.set<uint16_t>(20, f.dataSelector);
    }
    m.set<uint32_t>(24, c.mxcsr);
    m.set<uint32_t>(28, kMxcsrMask);
    for (unsigned n = 0; n < 8; n++) {
        m.set<uint64_t>(kRegisters + 16 * n, get(c, n).mantissa);
        m.set<uint16_t>(kRegisters + 16 * n + 8, get(c, n).signExponent);
    }
    for (unsigned n = 0; n < xmmCount(c); n++) m.set(kXmm + 16 * n, c.vec[n].get<Xmm>(0));
    m.store(c, i, at, kXmm + 16 * xmmCount(c));
}

template <bool pointers64>
void fxrstor(Cpu& c, const Insn& i) {
    uint64_t at = checkedAddress(c, i, Access::Read);
    Image m;
    m.load(c, i, at);
    bool sse = c.cr4 & cr4::OSFXSR;
    if (sse && m.get<uint32_t>(24) & ~kMxcsrMask) raise(kGP, 0);
    FpuState& f = c.fpu;
    f.status = m.get<uint16_t>(2);
    f.empty = uint8_t(~m.get<uint8_t>(4));
    f.opcode = m.get<uint16_t>(6) & 0x7ff;
    if (pointers64) {
        f.instructionPointer = m.get<uint64_t>(8);
        f.dataPointer = m.get<uint64_t>(16);
        f.instructionSelector = f.dataSelector = 0;
    } else {
        f.instructionPointer = m.get<uint32_t>(8);
        f.instructionSelector = m.get<uint16_t>(12);
        f.dataPointer = m.get<uint32_t>(16);
        f.dataSelector = m.get<uint16_t>(20);
    }
    for (unsigned n = 0; n < 8; n++)
        f.physical[physical(c, n)] = {m.get<uint64_t>(kRegisters + 16 * n),
                                      m.get<uint16_t>(kRegisters + 16 * n + 8)};
    loadControl(c, m.get<uint16_t>(0));
    if (sse) c.mxcsr = m.get<uint32_t>(24);
    for (unsigned n = 0; n < xmmCount(c); n++) c.vec[n].set(0, m.get<Xmm>(kXmm + 16 * n));
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
