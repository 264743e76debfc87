// Decimal arithmetic: AAA AAS AAM AAD DAA DAS (SDM vol. 1, 7.3.3; vol. 2). None exists in 64-bit mode. Flags
// that the manual leaves undefined are what Intel's processors give.
#include "cpu/body.hpp"

namespace kiln {
namespace {

uint8_t al(Cpu& c) { return c.gpr.get<uint8_t>(0); }
void setAl(Cpu& c, uint8_t v) { c.gpr.set<uint8_t>(0, v); }
void setAx(Cpu& c, uint16_t v) { c.gpr.set<uint16_t>(0, v); }

// After an addition or subtraction of two unpacked digits.
template <bool Subtract>
void asciiAdjust(Cpu& c, const Insn&) {
    uint16_t ax = c.gpr.get<uint16_t>(0);
    bool carry = (ax & 15) > 9 || c.flags.af();
    if (carry) ax = uint16_t(Subtract ? ax - 0x106 : ax + 0x106);
    setAx(c, ax & 0xff0f);
    c.flags.set<uint8_t>(al(c), carry, false, carry);  // OF, SF, ZF, PF undefined
}

bool aam(Cpu& c, const Insn& i) {
    uint8_t base = uint8_t(i.imm), v = al(c);
    if (base == 0) return c.fails({kDE});
    setAx(c, uint16_t(uint16_t(v / base) << 8 | v % base));
    c.flags.logic<uint8_t>(v % base);  // OF, AF, CF undefined
    return true;
}

void aad(Cpu& c, const Insn& i) {
    uint8_t tens = uint8_t((c.gpr.get<uint16_t>(0) >> 8) * uint8_t(i.imm)), ones = al(c);
    uint8_t r = uint8_t(tens + ones);
    setAx(c, r);
    c.flags.add<uint8_t>(tens, ones, r);  // OF, AF, CF undefined
}

// After an addition or subtraction of two packed bytes.
template <bool Subtract>
void decimalAdjust(Cpu& c, const Insn&) {
    uint8_t old = al(c), v = old;
    bool lowAdjust = (old & 15) > 9 || c.flags.af();
    bool highAdjust = old > 0x99 || c.flags.cf();
    bool carry = highAdjust;
    if (lowAdjust) {
        if (Subtract) carry |= v < 6;
        v = uint8_t(Subtract ? v - 6 : v + 6);
    }
    if (highAdjust) v = uint8_t(Subtract ? v - 0x60 : v + 0x60);
    setAl(c, v);
    c.flags.set<uint8_t>(v, carry, false, lowAdjust);  // OF undefined
}

}  // namespace

std::span<const Row> bcdRows() {
    static const Row rows[] = {
        {ZYDIS_MNEMONIC_AAA, only<asciiAdjust<false>>, kNo64},
        {ZYDIS_MNEMONIC_AAS, only<asciiAdjust<true>>, kNo64},
        {ZYDIS_MNEMONIC_AAM, only<aam>, kNo64},
        {ZYDIS_MNEMONIC_AAD, only<aad>, kNo64},
        {ZYDIS_MNEMONIC_DAA, only<decimalAdjust<false>>, kNo64},
        {ZYDIS_MNEMONIC_DAS, only<decimalAdjust<true>>, kNo64},
    };
    return rows;
}

}  // namespace kiln
