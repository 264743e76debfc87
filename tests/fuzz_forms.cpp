#include "tests/fuzz_forms.hpp"

#include <algorithm>

#include "cpu/decoder.hpp"
#include "cpu/handlers.hpp"
#include "tests/cpu_bench.hpp"

namespace kiln::test {

namespace {

bool isOneOf(ZydisMnemonic m, std::initializer_list<ZydisMnemonic> list) {
    return std::find(list.begin(), list.end(), m) != list.end();
}

// What can't be compared: it depends on the system around it, on time or chance, or leaves the code page.
bool comparable(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* operands) {
    if (z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) return false;
    if (z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) return false;
    switch (z.meta.category) {
        case ZYDIS_CATEGORY_INTERRUPT:
        case ZYDIS_CATEGORY_IO:
        case ZYDIS_CATEGORY_IOSTRINGOP:
        case ZYDIS_CATEGORY_SYSCALL:
        case ZYDIS_CATEGORY_SYSRET:
        case ZYDIS_CATEGORY_SYSTEM:
        case ZYDIS_CATEGORY_SEGOP: return false;
        default: break;
    }
    switch (z.meta.isa_set) {  // the host's system has other components enabled
        case ZYDIS_ISA_SET_XSAVE:
        case ZYDIS_ISA_SET_XSAVEOPT:
        case ZYDIS_ISA_SET_XSAVEC:
        case ZYDIS_ISA_SET_XSAVES:
        case ZYDIS_ISA_SET_PKU: return false;
        default: break;
    }
    for (unsigned n = 0; n < z.operand_count_visible; n++)
        if (operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(operands[n].reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return false;
    return !isOneOf(
        z.mnemonic,
        {ZYDIS_MNEMONIC_CPUID,    ZYDIS_MNEMONIC_RDTSC,    ZYDIS_MNEMONIC_RDTSCP,   ZYDIS_MNEMONIC_RDPMC,
         ZYDIS_MNEMONIC_RDPID,    ZYDIS_MNEMONIC_RDRAND,   ZYDIS_MNEMONIC_RDSEED,   ZYDIS_MNEMONIC_XGETBV,
         ZYDIS_MNEMONIC_LAR,      ZYDIS_MNEMONIC_LSL,      ZYDIS_MNEMONIC_VERR,     ZYDIS_MNEMONIC_VERW,
         ZYDIS_MNEMONIC_ARPL,     ZYDIS_MNEMONIC_SGDT,     ZYDIS_MNEMONIC_SIDT,     ZYDIS_MNEMONIC_SLDT,
         ZYDIS_MNEMONIC_STR,      ZYDIS_MNEMONIC_SMSW,     ZYDIS_MNEMONIC_SYSENTER, ZYDIS_MNEMONIC_HLT,
         ZYDIS_MNEMONIC_STI,      ZYDIS_MNEMONIC_CLI,      ZYDIS_MNEMONIC_MONITOR,  ZYDIS_MNEMONIC_MWAIT,
         ZYDIS_MNEMONIC_STAC,     ZYDIS_MNEMONIC_CLAC,     ZYDIS_MNEMONIC_LDS,      ZYDIS_MNEMONIC_LES,
         ZYDIS_MNEMONIC_LSS,      ZYDIS_MNEMONIC_LFS,      ZYDIS_MNEMONIC_LGS,      ZYDIS_MNEMONIC_SWAPGS,
         ZYDIS_MNEMONIC_IRET,     ZYDIS_MNEMONIC_IRETD,    ZYDIS_MNEMONIC_IRETQ,    ZYDIS_MNEMONIC_RDFSBASE,
         ZYDIS_MNEMONIC_RDGSBASE, ZYDIS_MNEMONIC_WRFSBASE, ZYDIS_MNEMONIC_WRGSBASE});
}

unsigned gprNumber(ZydisRegister r) {
    return unsigned(ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r)));
}
bool isGpr(ZydisRegister r) {
    auto c = ZydisRegisterGetClass(r);
    return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 ||
           c == ZYDIS_REGCLASS_GPR64;
}

}  // namespace

uint64_t interesting(Random& r) {
    switch (below(r, 8)) {
        case 0: return below(r, 4);
        case 1: return ~below(r, 4);
        case 2: return 1ull << below(r, 64);
        case 3: return (1ull << below(r, 64)) - below(r, 3);
        case 4: return below(r, 256);
        case 5: return uint64_t(int64_t(int32_t(r())));
        default: return r();
    }
}

std::string Instance::text(uint64_t rip) const {
    ZydisFormatter f;
    ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    char line[128];
    ZydisFormatterFormatInstruction(&f, &z, operands.data(), z.operand_count_visible, line, sizeof line, rip,
                                    nullptr);
    return line;
}

bool Instance::uses(ZydisRegister enclosing) const {
    for (unsigned n = 0; n < z.operand_count_visible; n++)
        if (operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER && isGpr(operands[n].reg.value) &&
            gprNumber(operands[n].reg.value) == gprNumber(enclosing))
            return true;
    return false;
}

FormTable::FormTable(bool code64, bool forHost) : kiln_(*kilnModel()), code64_(code64), forHost_(forHost) {
    ZydisDecoderInit(&decoder_, code64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
                     code64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
    kiln_.sets().configure(decoder_);
    for (unsigned map = 0; map < 4; map++)
        for (unsigned opcode = 0; opcode < 256; opcode++)
            for (unsigned prefix : {0, 0x66, 0xf2, 0xf3})
                for (bool w : {false, true}) {
                    Form form{
                        ZYDIS_MNEMONIC_INVALID, uint8_t(map), uint8_t(opcode), uint8_t(prefix), w, true, 0};
                    if (!w || code64) visit(form);
                    form.vex = true;
                    for (uint8_t l = 0; map && l < 2; l++) {
                        form.length = l;
                        visit(form);
                    }
                    form.evex = true;
                    for (uint8_t l = 0; map && l < 3; l++)
                        for (bool b : {false, true}) {
                            form.length = l;
                            form.b = b;
                            visit(form);
                        }
                }
    std::sort(missing_.begin(), missing_.end());
    missing_.erase(std::unique(missing_.begin(), missing_.end()), missing_.end());
}

bool FormTable::decode(Instance& i) const {
    i.code64 = code64_;
    bool ok = ZYAN_SUCCESS(
        ZydisDecoderDecodeFull(&decoder_, i.bytes.data(), i.bytes.size(), &i.z, i.operands.data()));
    // Zydis 4.0 takes R13D for the base where there is none (67h, mod 0, SIB base 5 with REX.B).
    if (ok && i.z.attributes & ZYDIS_ATTRIB_HAS_SIB && i.z.raw.modrm.mod == 0 && i.z.raw.sib.base == 5)
        for (auto& op : i.operands)
            if (op.type == ZYDIS_OPERAND_TYPE_MEMORY && op.mem.base != ZYDIS_REGISTER_NONE &&
                &op < i.operands.data() + i.z.operand_count_visible) {
                op.mem.base = ZYDIS_REGISTER_NONE;
                op.mem.disp.value = i.z.raw.disp.value;
            }
    return ok;
}

namespace {

// The fields of a REX or VEX prefix that choose registers, not inverted.
struct RegisterBits {
    uint8_t rxb = 0;
    uint8_t v = 0;
    bool rex = false;      // legacy: a REX prefix even if it says nothing
    bool twoByte = false;  // VEX: the form that implies map 0F and clear W, X and B
    uint8_t mask = 0;      // EVEX: aaa
    bool zeroing = false;
    bool highReg = false;  // EVEX.R'; bit 4 of `v` is V'
    uint8_t length = 0;    // what takes the place of L'L
};

// What stands before the opcode.
std::vector<uint8_t> head(const Form& form, const RegisterBits& bits) {
    std::vector<uint8_t> r;
    const int pp = form.prefix == 0x66 ? 1 : form.prefix == 0xf3 ? 2 : form.prefix == 0xf2 ? 3 : 0;
    if (form.evex)  // SDM vol. 2, figure 2-10
        return {0x62, uint8_t((~bits.rxb & 7) << 5 | int(!bits.highReg) << 4 | form.map),
                uint8_t(int(form.w) << 7 | (~bits.v & 15) << 3 | 4 | pp),
                uint8_t(int(bits.zeroing) << 7 | bits.length << 5 | int(form.b) << 4 |
                        (~bits.v >> 4 & 1) << 3 | bits.mask)};
    if (form.vex) {  // SDM vol. 2, figure 2-9
        auto last = uint8_t((~bits.v & 15) << 3 | form.length << 2 | pp);
        if (bits.twoByte) return {0xc5, uint8_t((~bits.rxb & 4) << 5 | last)};
        return {0xc4, uint8_t((~bits.rxb & 7) << 5 | form.map), uint8_t(int(form.w) << 7 | last)};
    }
    if (form.prefix) r.push_back(form.prefix);
    if (form.w || bits.rex || bits.rxb) r.push_back(uint8_t(0x40 | int(form.w) << 3 | bits.rxb));
    if (form.map) r.push_back(0x0f);
    if (form.map == 2) r.push_back(0x38);
    if (form.map == 3) r.push_back(0x3a);
    return r;
}

Instance encode(const Form& form, const RegisterBits& bits, uint8_t modrm, std::span<const uint8_t> before,
                std::span<const uint8_t> tail) {
    Instance i;
    size_t n = 0;
    auto put = [&](uint8_t b) {
        if (n < i.bytes.size()) i.bytes[n++] = b;
    };
    for (uint8_t b : before) put(b);
    for (uint8_t b : head(form, bits)) put(b);
    put(form.opcode);
    if (form.hasModrm) put(modrm);
    for (uint8_t b : tail) put(b);
    return i;
}
// Or a scatter.
bool isGather(const Form& f) {
    return f.vex && f.map == 2 &&
           ((f.opcode >= 0x90 && f.opcode <= 0x93) || (f.evex && f.opcode >= 0xa0 && f.opcode <= 0xa3));
}

// The simplest instance of a form. A gather's three registers must differ, and EVEX's needs a mask.
Instance plainInstance(const Form& form) {
    const uint8_t zeros[12] = {};
    RegisterBits bits;
    if (form.vexV) bits.v = 2;
    bits.length = form.length;
    bits.mask = form.evex && isGather(form);
    return encode(form, bits, form.modrm, {}, zeros);
}

}  // namespace

// Whether the form exists; finds out what VEX.vvvv is for.
bool FormTable::decodes(Form& form) const {
    form.vexV = form.vex;
    Instance i = plainInstance(form);
    if (decode(i)) return true;
    form.vexV = false;
    i = plainInstance(form);
    return form.vex && decode(i);
}

void FormTable::visit(Form form) {
    const uint8_t opcode = form.opcode;
    if (form.map == 0) {  // prefixes are no opcodes, and 0F leads to the other maps
        static constexpr uint8_t kPrefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67,
                                                0xf0, 0xf2, 0xf3, 0x0f, 0xc4, 0xc5, 0x62, 0x8f};
        if (std::find(std::begin(kPrefixes), std::end(kPrefixes), opcode) != std::end(kPrefixes) &&
            !(opcode == 0x8f || (!code64_ && (opcode == 0xc4 || opcode == 0xc5 || opcode == 0x62))))
            return;
        if (code64_ && opcode >> 4 == 4) return;
    }
    if (form.map == 1 && !form.vex && (opcode == 0x38 || opcode == 0x3a)) return;
    const bool registersMatter =
        (form.map == 0 && opcode >= 0xd8 && opcode <= 0xdf) || (form.map == 1 && opcode == 1);
    for (unsigned modrm = 0; modrm < 256; modrm++) {
        const unsigned mod = modrm >> 6, rm = modrm & 7, memoryRm = isGather(form) ? 4 : 3;
        if (mod == 1 || mod == 2 || (mod == 0 && rm != memoryRm) || (mod == 3 && rm && !registersMatter))
            continue;
        form.hasModrm = true;
        form.modrm = uint8_t(modrm);
        if (!decodes(form)) continue;
        Instance i = plainInstance(form);
        decode(i);
        form.hasModrm = i.z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
        form.mnemonic = i.z.mnemonic;
        if (i.z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && !form.vex) continue;
        Insn insn;
        bool ends;
        const CodeMode mode = code64_ ? CodeMode::Code64 : CodeMode::Code32;
        kiln_.decode(i.code(), mode, 0, insn, ends);
        if (insn.run == undefinedOpcode) {
            if (kiln_.sets().offers(i.z, mode)) missing_.push_back(ZydisMnemonicGetString(i.z.mnemonic));
        } else if (comparable(i.z, i.operands.data()) && (!forHost_ || HostOracle::runs(i.z.meta.isa_set))) {
            auto& list = forms_[form.mnemonic];
            auto same = [&](const Form& f) {
                return f.map == form.map && f.opcode == opcode && f.prefix == form.prefix && f.w == form.w &&
                       f.hasModrm == form.hasModrm && (f.modrm >> 6) == mod && f.vex == form.vex &&
                       f.evex == form.evex && f.length == form.length && f.b == form.b &&
                       (!registersMatter || f.modrm == modrm);
            };
            if (std::none_of(list.begin(), list.end(), same)) list.push_back(form);
        }
        if (!form.hasModrm) return;
    }
}

Instance FormTable::make(Random& r, const Form& form) const {
    for (int attempt = 0;; attempt++) {
        std::vector<uint8_t> before;
        if (oneIn(r, 16)) before.push_back(0x67);
        if (oneIn(r, 16))
            before.push_back(uint8_t(code64_ ? (oneIn(r, 2)   ? 0x65
                                                : oneIn(r, 2) ? 0x3e
                                                              : 0x26)
                                             : (oneIn(r, 2) ? 0x26 : 0x36)));
        if (!form.vex && oneIn(r, 16)) before.push_back(0xf0);
        if (!form.vex && form.prefix != 0x66 && oneIn(r, 4)) before.push_back(0x66);
        RegisterBits bits;
        if (code64_ && (form.w || oneIn(r, 2))) {
            bits.rex = true;
            bits.rxb = uint8_t(below(r, 8));
        }
        bits.length = form.length;
        if (form.evex) {
            if (form.vexV) bits.v = uint8_t(below(r, code64_ ? 32 : 8));
            if (!code64_) bits.rxb = 0;  // R and X would make it BOUND
            bits.highReg = code64_ && oneIn(r, 2);
            if (isGather(form)) bits.v = code64_ && oneIn(r, 2) ? 16 : 0;
            if (oneIn(r, 2) || isGather(form)) bits.mask = uint8_t(1 + below(r, 7));
            bits.zeroing = bits.mask && attempt < 6 && oneIn(r, 3);
            if (form.b && form.modrm >> 6 == 3 && oneIn(r, 2)) bits.length = uint8_t(below(r, 4));
        } else if (form.vex) {
            if (!code64_) bits.rxb = uint8_t(below(r, 2));  // B is ignored; R and X would make it LES
            if (form.vexV) bits.v = uint8_t(below(r, 16));
            bits.twoByte = form.map == 1 && !form.w && oneIn(r, 2);
            if (bits.twoByte && !code64_) bits.v &= 7, bits.rxb = 0;
        }
        uint8_t modrm = form.modrm;
        if (attempt < 10) {
            bool x87 = form.map == 0 && form.opcode >= 0xd8 && form.opcode <= 0xdf;
            if (modrm >> 6 == 3) {
                if (!x87) modrm = uint8_t(0xc0 | (oneIn(r, 4) ? modrm & 0x3f : below(r, 64)));
            } else {
                modrm = uint8_t(below(r, 3) << 6 |
                                (oneIn(r, 4) ? unsigned(modrm >> 3 & 7) : below(r, 8)) << 3 | below(r, 8));
                if (isGather(form)) modrm = uint8_t((modrm & 0xf8) | 4);
                if (attempt > 3) modrm = uint8_t((modrm & 0xc7) | (form.modrm & 0x38));
            }
        } else if (attempt > 12) {
            before.clear();
            bits = RegisterBits{};
            if (form.vexV) bits.v = 2;
            bits.length = form.length;
            bits.mask = form.evex && isGather(form);
        }
        std::array<uint8_t, 12> tail;
        for (uint8_t& b : tail) b = uint8_t(oneIn(r, 3) ? interesting(r) : r());
        Instance i = encode(form, bits, modrm, before, tail);
        if (decode(i) && i.z.mnemonic == form.mnemonic && comparable(i.z, i.operands.data())) return i;
        if (attempt > 20) {
            i = plainInstance(form);
            decode(i);
            return i;
        }
    }
}

// -- state

namespace {

uint64_t doubleBits(Random& r) {
    switch (below(r, 10)) {
        case 0: return 0;
        case 1: return 1ull << 63;
        case 2: return 0x7ff0000000000000 | (r() & 1ull << 63);
        case 3: return 0x7ff8000000000000 | (r() & 0x8000ffffffffffff);
        case 4: return 0x7ff0000000000001 | (r() & 0x8000ffffffffffff);
        case 5: return r() & 0x800fffffffffffff;
        case 6: return 0x3ff0000000000000 ^ (r() & 0x8000000000000003);
        case 7: return (0x3f0 + below(r, 32)) << 52 | (r() & 0x800fffffffffffff);
        case 8: {
            double d = double(int64_t(interesting(r))) / double(1 << below(r, 8));
            uint64_t v;
            std::memcpy(&v, &d, 8);
            return v;
        }
        default: return r();
    }
}

uint32_t floatBits(Random& r) {
    switch (below(r, 10)) {
        case 0: return 0;
        case 1: return 1u << 31;
        case 2: return 0x7f800000 | (uint32_t(r()) & 1u << 31);
        case 3: return 0x7fc00000 | (uint32_t(r()) & 0x803fffff);
        case 4: return 0x7f800001 | (uint32_t(r()) & 0x803fffff);
        case 5: return uint32_t(r()) & 0x807fffff;
        case 6: return 0x3f800000 ^ (uint32_t(r()) & 0x80000003);
        case 7: return uint32_t(112 + below(r, 32)) << 23 | (uint32_t(r()) & 0x807fffff);
        case 8: {
            float d = float(int32_t(interesting(r))) / float(1 << below(r, 8));
            uint32_t v;
            std::memcpy(&v, &d, 4);
            return v;
        }
        default: return uint32_t(r());
    }
}

uint64_t eightBytes(Random& r) {
    switch (below(r, 4)) {
        case 0: return doubleBits(r);
        case 1: return floatBits(r) | uint64_t(floatBits(r)) << 32;
        case 2: return interesting(r);
        default: return r();
    }
}

void extended(Random& r, uint64_t& mantissa, uint16_t& exponent) {
    constexpr uint64_t kInteger = 1ull << 63;
    exponent = uint16_t((r() & 0x8000) | (16383 - 40 + below(r, 80)));
    mantissa = kInteger | r();
    switch (below(r, 12)) {
        case 0:
            exponent &= 0x8000;
            mantissa = 0;
            break;
        case 1:
            exponent |= 0x7fff;
            mantissa = kInteger;
            break;
        case 2:
            exponent |= 0x7fff;
            mantissa = kInteger | r() | kInteger >> 1;
            break;
        case 3:
            exponent |= 0x7fff;
            mantissa = (kInteger | r() | 1) & ~(kInteger >> 1);
            break;
        case 4:
            exponent &= 0x8000;
            mantissa &= ~kInteger;
            break;
        case 5:
            exponent = uint16_t((exponent & 0x8000) | 16383);
            mantissa = kInteger;
            break;
        case 6: mantissa = kInteger | below(r, 256) << 55; break;
        case 7: mantissa = interesting(r); break;  // unnormals and pseudo-denormals among them
        case 8: exponent = uint16_t(r()); break;
        default: break;
    }
}

void randomVectors(Random& r, UserState& s) {
    for (unsigned at = FxImage::kXmm; at < FxImage::kXmm + 256; at += 8)
        s.fx.set<uint64_t>(at, eightBytes(r));
    for (unsigned n = 0; n < 32; n++)
        for (unsigned word = n < 16 ? 2 : 0; word < 8; word++) s.setVectorWord(n, word, eightBytes(r));
    if (oneIn(r, 2)) s.zmmHigh = {};  // as programs have it that don't use them: then VEX is translated
    for (uint64_t& k : s.opmask)
        k = oneIn(r, 3) ? ~0ull : oneIn(r, 8) ? 0 : oneIn(r, 3) ? r() & r() & r() : r();
    uint32_t mxcsr = 0x1f80;
    if (oneIn(r, 3)) mxcsr |= uint32_t(below(r, 4) << 13 | below(r, 2) << 15 | below(r, 2) << 6);
    if (oneIn(r, 3)) mxcsr |= uint32_t(below(r, 64));
    if (oneIn(r, 8)) mxcsr &= ~uint32_t(below(r, 64) << 7);
    s.fx.set<uint32_t>(FxImage::kMxcsr, mxcsr);
}

void randomX87(Random& r, UserState& s) {
    for (unsigned n = 0; n < 8; n++) {
        uint64_t mantissa;
        uint16_t exponent;
        extended(r, mantissa, exponent);
        s.fx.set(FxImage::kRegisters + 16 * n, mantissa);
        s.fx.set(FxImage::kRegisters + 16 * n + 8, exponent);
    }
    uint16_t control = 0x37f;
    if (oneIn(r, 3))
        control = uint16_t(0x7f | (oneIn(r, 2) ? 3 : oneIn(r, 2) ? 2 : 0) << 8 | below(r, 4) << 10);
    if (oneIn(r, 8)) control &= uint16_t(~below(r, 64));
    uint16_t status = uint16_t(below(r, 8) << 11 | (r() & 0x4700));
    if (oneIn(r, 3)) status |= uint16_t(below(r, 128) & (oneIn(r, 4) ? 0x7f : 0x40 | (control & 0x3f)));
    if (status & ~control & 0x3f) status |= 0x8080;
    s.fx.set(FxImage::kControl, control);
    s.fx.set(FxImage::kStatus, status);
    s.fx.set(FxImage::kTags, uint16_t(oneIn(r, 2) ? 0xff : oneIn(r, 8) ? 0 : r() & 0xff));
}

// An address for `bytes` bytes: mostly inside, sometimes across a page, seldom over the edge.
uint64_t target(Random& r, uint64_t bytes) {
    constexpr uint64_t base = HostOracle::kScratch, size = HostOracle::kScratchSize;
    bytes = std::max<uint64_t>(bytes, 1);
    if (oneIn(r, 40)) return oneIn(r, 2) ? base + size - below(r, 2 * bytes) : base - below(r, 2 * bytes);
    uint64_t a = base + 0x400 + below(r, size - 0x800 - bytes);
    if (oneIn(r, 8)) a = base + 0x1000 * (1 + below(r, size / 0x1000 - 1)) - below(r, bytes + 1);
    if (!oneIn(r, 4)) a &= oneIn(r, 2) ? ~15ull : ~31ull;
    return a;
}

// A gather's elements lie around `base`: all of them close by, or one where there is no memory.
void fitIndices(Random& r, const Instance& i, const ZydisDecodedOperandMem& m, UserState& s) {
    const auto reg = unsigned(ZydisRegisterGetId(m.index));
    const bool wide = isOneOf(
        i.z.mnemonic, {ZYDIS_MNEMONIC_VGATHERQPS, ZYDIS_MNEMONIC_VGATHERQPD, ZYDIS_MNEMONIC_VPGATHERQD,
                       ZYDIS_MNEMONIC_VPGATHERQQ, ZYDIS_MNEMONIC_VSCATTERQPS, ZYDIS_MNEMONIC_VSCATTERQPD,
                       ZYDIS_MNEMONIC_VPSCATTERQD, ZYDIS_MNEMONIC_VPSCATTERQQ});
    const unsigned bytes = wide ? 8 : 4, wild = oneIn(r, 4) ? unsigned(below(r, 64 / bytes)) : 99;
    for (unsigned n = 0; n < 64 / bytes; n++) {
        int64_t index = int64_t(below(r, 256)) - 128;
        if (n == wild)
            index =
                i.z.address_width == 64 && oneIn(r, 2) ? int64_t(r()) : int64_t(below(r, 0x10000)) - 0x8000;
        uint64_t word = s.vectorWord(reg, n * bytes / 8);
        std::memcpy(reinterpret_cast<char*>(&word) + n * bytes % 8, &index, bytes);
        s.setVectorWord(reg, n * bytes / 8, word);
    }
}

bool fitMemory(Random& r, const FormTable& table, Instance& i, unsigned operand, uint64_t at, UserState& s) {
    const ZydisDecodedOperandMem m = i.operands[operand].mem;
    if (m.segment == ZYDIS_REGISTER_FS || (m.segment == ZYDIS_REGISTER_GS && !i.code64)) return false;
    if (i.z.address_width == 16) return false;
    const uint64_t bytes = i.operands[operand].size / 8;
    uint64_t ea = target(r, bytes);
    // Hosts slow down or stop who locks the bus across cache lines.
    if (i.z.attributes & ZYDIS_ATTRIB_HAS_LOCK || i.z.mnemonic == ZYDIS_MNEMONIC_XCHG) ea &= ~(bytes - 1);
    if (i.z.mnemonic == ZYDIS_MNEMONIC_BT || i.z.mnemonic == ZYDIS_MNEMONIC_BTS ||
        i.z.mnemonic == ZYDIS_MNEMONIC_BTR || i.z.mnemonic == ZYDIS_MNEMONIC_BTC) {
        if (i.operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER) {
            unsigned bitRegister = gprNumber(i.operands[1].reg.value);
            if ((m.base != ZYDIS_REGISTER_NONE && isGpr(m.base) && gprNumber(m.base) == bitRegister) ||
                (m.index != ZYDIS_REGISTER_NONE && gprNumber(m.index) == bitRegister))
                return false;
            ea = HostOracle::kScratch + 0x2000 + below(r, 64);
            s.gpr[bitRegister] = uint64_t(int64_t(below(r, 0xc000)) - 0x6000);
            if (!i.code64) s.gpr[bitRegister] &= 0xffffffff;
        }
    }
    if (m.segment == ZYDIS_REGISTER_GS) ea -= HostOracle::kGsBase;
    const bool relative = m.base == ZYDIS_REGISTER_RIP || m.base == ZYDIS_REGISTER_EIP;
    if (m.base == ZYDIS_REGISTER_NONE || relative) {
        uint64_t index = 0;
        if (m.index != ZYDIS_REGISTER_NONE && !isGpr(m.index)) {
            fitIndices(r, i, m, s);
            index = 0;
        } else if (m.index != ZYDIS_REGISTER_NONE) {
            if (i.uses(m.index)) return false;
            index = below(r, 64) * m.scale;
            s.gpr[gprNumber(m.index)] = index / m.scale;
        }
        if (i.z.raw.disp.size != 32) return false;
        auto d = uint32_t(ea - index - (relative ? at + i.z.length : 0));
        std::memcpy(&i.bytes[i.z.raw.disp.offset], &d, 4);
        return table.decode(i);
    }
    if (!isGpr(m.base)) return false;
    uint64_t rest = uint64_t(m.disp.value);
    if (m.index != ZYDIS_REGISTER_NONE && !isGpr(m.index)) fitIndices(r, i, m, s);
    if (m.index != ZYDIS_REGISTER_NONE && isGpr(m.index)) {
        if (m.index == ZYDIS_REGISTER_AL) {  // XLAT
            s.gpr[Rbx] = ea - (s.gpr[Rax] & 0xff);
            if (i.z.address_width == 32 && i.code64) s.gpr[Rbx] |= r() << 32;
            return true;
        }
        if (gprNumber(m.index) == gprNumber(m.base)) return false;
        rest += s.gpr[gprNumber(m.index)] * m.scale;
    }
    uint64_t value = ea - rest;
    if (i.z.address_width == 32) value = (value & 0xffffffff) | (i.code64 && oneIn(r, 2) ? r() << 32 : 0);
    s.gpr[gprNumber(m.base)] = value;
    return true;
}

}  // namespace

bool fitState(Random& r, const FormTable& table, Instance& i, uint64_t at, UserState& s) {
    for (uint64_t& g : s.gpr) g = interesting(r);
    s.rflags = 2 | flag::IF | (r() & flag::Arithmetic) | (oneIn(r, 4) ? flag::DF : 0);
    s.rip = at;
    randomVectors(r, s);
    randomX87(r, s);
    s.gpr[Rsp] = HostOracle::kScratch + 0x2000 + below(r, 0x1000);
    if (!oneIn(r, 8)) s.gpr[Rsp] &= ~15ull;

    if (!i.code64)
        for (unsigned n = 0; n < 16; n++) s.gpr[n] = n < 8 ? s.gpr[n] & 0xffffffff : 0;
    const bool repeated =
        i.z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    if (repeated) {
        s.gpr[Rcx] = below(r, oneIn(r, 4) ? 300 : 20);
        if (i.code64 && i.z.address_width == 32) s.gpr[Rcx] |= r() << 32;
    }
    if (i.z.meta.category == ZYDIS_CATEGORY_COND_BR && oneIn(r, 2)) s.gpr[Rcx] = below(r, 3);  // LOOP, JRCXZ
    if (i.z.mnemonic == ZYDIS_MNEMONIC_ENTER || i.z.mnemonic == ZYDIS_MNEMONIC_LEAVE)
        s.gpr[Rbp] = HostOracle::kScratch + 0x1800 + below(r, 0x400) * 8;

    // Divisions that do not all overflow.
    if ((i.z.mnemonic == ZYDIS_MNEMONIC_DIV || i.z.mnemonic == ZYDIS_MNEMONIC_IDIV) && !oneIn(r, 4)) {
        s.gpr[Rdx] = oneIn(r, 2) ? 0 : uint64_t(int64_t(s.gpr[Rax]) >> 63);
        if (!i.code64) s.gpr[Rdx] &= 0xffffffff;
    }

    for (unsigned n = 0; n < i.z.operand_count; n++) {
        ZydisDecodedOperand& op = i.operands[n];
        if (op.type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (op.mem.type == ZYDIS_MEMOP_TYPE_MEM || op.mem.type == ZYDIS_MEMOP_TYPE_VSIB)) {
            if (op.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
                (op.mem.base == ZYDIS_REGISTER_RSP || op.mem.base == ZYDIS_REGISTER_ESP))
                continue;
            if (!fitMemory(r, table, i, n, at, s)) return false;
        } else if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op.imm.is_relative) {
            if (i.z.raw.imm[0].size < 16) {  // too short to reach kTaken: the oracle puts the code near it
                auto distance = int64_t(HostOracle::kTaken) - int64_t(at + i.z.length);
                if (distance < -128 || distance > 127) return false;
                i.bytes[i.z.raw.imm[0].offset] = uint8_t(distance);
            } else if (i.z.raw.imm[0].size == 16) {
                return false;
            } else {
                auto distance = uint32_t(HostOracle::kTaken - (at + i.z.length));
                std::memcpy(&i.bytes[i.z.raw.imm[0].offset], &distance, 4);
            }
            if (!table.decode(i)) return false;
        }
    }
    // The host has TZCNT and LZCNT where kiln has BSF and BSR.
    if ((i.z.mnemonic == ZYDIS_MNEMONIC_BSF || i.z.mnemonic == ZYDIS_MNEMONIC_BSR) &&
        std::find(i.bytes.begin(), i.bytes.begin() + i.z.raw.modrm.offset, 0xf3) !=
            i.bytes.begin() + i.z.raw.modrm.offset)
        return false;
    // Which byte of a masked store faults is the processor's choice.
    if (isOneOf(i.z.mnemonic,
                {ZYDIS_MNEMONIC_MASKMOVQ, ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVDQU})) {
        if (i.z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS) return false;
        s.gpr[Rdi] = HostOracle::kScratch + below(r, HostOracle::kScratchSize - 16);
    }
    // Branches of 16 bits leave for the first 64 KiB.
    if (i.z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && i.z.operand_width == 16) return false;
    // Indirect near branches.
    if (i.z.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR && i.z.mnemonic != ZYDIS_MNEMONIC_RET &&
        !i.operands[0].imm.is_relative) {
        if (i.uses(ZYDIS_REGISTER_RSP)) return false;
        if (i.operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
            s.gpr[gprNumber(i.operands[0].reg.value)] = HostOracle::kTaken;
        else
            return false;
    }
    return true;
}

}  // namespace kiln::test
