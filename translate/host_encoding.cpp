// The host's instructions that nearly all code is made of (SDM vol. 2, 2.1, 2.2.1 and the instructions'
// pages): general registers of all sizes but AH, BH, CH and DH, addresses of 64 bits without a segment, jumps
// and calls. Forms are those that asmjit chooses.
#include <cassert>
#include <cstring>

#include "translate/host_assembler.hpp"

namespace kiln {

using namespace asmjit;
namespace I = x86::Inst;

namespace {

// How an instruction's operands are encoded.
enum class Form : uint8_t {
    None,        // not here
    Arithmetic,  // ADD and relatives: `opcode` is that of r/m8, r8
    Move,
    Test,
    Lea,
    Extend,      // from r/m8, or with another opcode from r/m16
    ExtendLong,  // MOVSXD
    Shift,       // `opcode` is ModRM.reg
    Unary,       // F6, with ModRM.reg
    Step,        // FE, the same
    ToRegister,  // 0F and a full-sized register in ModRM.reg
    Set,
    Jump,
    Call,
    JumpIfZero,
    Alone,  // nothing but the opcode
    AloneWide,
};
// Of Jump: the condition (SDM vol. 2, appendix B.1.4.7) or kAlways.
constexpr uint8_t kAlways = 16;

struct Row {
    Form form;
    uint8_t opcode;
};
using Table = std::array<Row, I::_kIdCount>;

#define KILN_CONDITIONS(PREFIX, ...)                                                                        \
    t[I::kId##PREFIX##o] = __VA_ARGS__(0), t[I::kId##PREFIX##no] = __VA_ARGS__(1),                          \
    t[I::kId##PREFIX##b] = t[I::kId##PREFIX##c] = t[I::kId##PREFIX##nae] = __VA_ARGS__(2),                  \
    t[I::kId##PREFIX##nb] = t[I::kId##PREFIX##nc] = t[I::kId##PREFIX##ae] = __VA_ARGS__(3),                 \
    t[I::kId##PREFIX##z] = t[I::kId##PREFIX##e] = __VA_ARGS__(4),                                           \
    t[I::kId##PREFIX##nz] = t[I::kId##PREFIX##ne] = __VA_ARGS__(5),                                         \
    t[I::kId##PREFIX##be] = t[I::kId##PREFIX##na] = __VA_ARGS__(6),                                         \
    t[I::kId##PREFIX##nbe] = t[I::kId##PREFIX##a] = __VA_ARGS__(7), t[I::kId##PREFIX##s] = __VA_ARGS__(8),  \
    t[I::kId##PREFIX##ns] = __VA_ARGS__(9), t[I::kId##PREFIX##p] = t[I::kId##PREFIX##pe] = __VA_ARGS__(10), \
    t[I::kId##PREFIX##np] = t[I::kId##PREFIX##po] = __VA_ARGS__(11),                                        \
    t[I::kId##PREFIX##l] = t[I::kId##PREFIX##nge] = __VA_ARGS__(12),                                        \
    t[I::kId##PREFIX##nl] = t[I::kId##PREFIX##ge] = __VA_ARGS__(13),                                        \
    t[I::kId##PREFIX##le] = t[I::kId##PREFIX##ng] = __VA_ARGS__(14),                                        \
    t[I::kId##PREFIX##nle] = t[I::kId##PREFIX##g] = __VA_ARGS__(15)

constexpr Table makeTable() {
    Table t{};
    constexpr InstId kArithmetic[] = {I::kIdAdd, I::kIdOr,  I::kIdAdc, I::kIdSbb,
                                      I::kIdAnd, I::kIdSub, I::kIdXor, I::kIdCmp};
    for (uint8_t n = 0; n < 8; n++) t[kArithmetic[n]] = {Form::Arithmetic, uint8_t(n * 8)};
    t[I::kIdMov] = {Form::Move, 0x88};
    t[I::kIdTest] = {Form::Test, 0x84};
    t[I::kIdLea] = {Form::Lea, 0x8d};
    t[I::kIdMovzx] = {Form::Extend, 0xb6};
    t[I::kIdMovsx] = {Form::Extend, 0xbe};
    t[I::kIdMovsxd] = {Form::ExtendLong, 0x63};
    t[I::kIdRol] = {Form::Shift, 0}, t[I::kIdRor] = {Form::Shift, 1};
    t[I::kIdRcl] = {Form::Shift, 2}, t[I::kIdRcr] = {Form::Shift, 3};
    t[I::kIdShl] = {Form::Shift, 4}, t[I::kIdShr] = {Form::Shift, 5}, t[I::kIdSar] = {Form::Shift, 7};
    t[I::kIdNot] = {Form::Unary, 2}, t[I::kIdNeg] = {Form::Unary, 3};
    t[I::kIdInc] = {Form::Step, 0}, t[I::kIdDec] = {Form::Step, 1};
    t[I::kIdImul] = {Form::ToRegister, 0xaf};
    t[I::kIdJmp] = {Form::Jump, kAlways};
    t[I::kIdCall] = {Form::Call, 0xe8};
    t[I::kIdJecxz] = {Form::JumpIfZero, 0xe3};
    t[I::kIdLahf] = {Form::Alone, 0x9f}, t[I::kIdSahf] = {Form::Alone, 0x9e};
    t[I::kIdRet] = {Form::Alone, 0xc3};
    t[I::kIdCwde] = {Form::Alone, 0x98}, t[I::kIdCdq] = {Form::Alone, 0x99};
    t[I::kIdCdqe] = {Form::AloneWide, 0x98}, t[I::kIdCqo] = {Form::AloneWide, 0x99};
    const auto jump = [](uint8_t n) { return Row{Form::Jump, n}; };
    const auto set = [](uint8_t n) { return Row{Form::Set, uint8_t(0x90 | n)}; };
    const auto move = [](uint8_t n) { return Row{Form::ToRegister, uint8_t(0x40 | n)}; };
    KILN_CONDITIONS(J, jump);
    KILN_CONDITIONS(Set, set);
    KILN_CONDITIONS(Cmov, move);
    return t;
}
constexpr Table kTable = makeTable();

// -- operands

constexpr std::array<uint8_t, 32> kGeneralBytes = [] {
    std::array<uint8_t, 32> bytes{};
    bytes[size_t(RegType::kX86_GpbLo)] = 1;
    bytes[size_t(RegType::kX86_Gpw)] = 2;
    bytes[size_t(RegType::kX86_Gpd)] = 4;
    bytes[size_t(RegType::kX86_Gpq)] = 8;
    return bytes;
}();

// Of a general register; 0: it is something else.
unsigned generalBytes(const Operand_& o) {
    const uint32_t s = o.signature().bits();
    if ((s & OperandSignature::kOpTypeMask) != uint32_t(OperandType::kReg)) return 0;
    return kGeneralBytes[(s & OperandSignature::kRegTypeMask) >> OperandSignature::kRegTypeShift];
}

constexpr uint32_t kIndexed = uint32_t(RegType::kX86_Gpq) << OperandSignature::kMemIndexTypeShift;

// [base + disp] or [base + index * scale + disp].
bool isMemory(const Operand_& o) {
    constexpr uint32_t kMemory = uint32_t(OperandType::kMem) | uint32_t(RegType::kX86_Gpq)
                                                                   << OperandSignature::kMemBaseTypeShift;
    const uint32_t s = o.signature().bits() & ~(uint32_t(OperandSignature::kSizeMask) |
                                                uint32_t(x86::Mem::kSignatureMemShiftValueMask));
    return s == kMemory || s == (kMemory | kIndexed);
}
unsigned sizeOf(const Operand_& o) { return o.signature().bits() >> OperandSignature::kSizeShift; }

// -- bytes

// An opcode, with what stands around it.
constexpr unsigned kTwoByte = 0x100, kWide = 0x200, k66 = 0x400, kRex = 0x800;

// Of an instruction whose opcode is `opcode` for bytes and the one behind it for other sizes.
unsigned ofSize(unsigned opcode, unsigned bytes) {
    switch (bytes) {
        case 1: return opcode;
        case 2: return (opcode | 1) | k66;
        case 4: return opcode | 1;
        default: return (opcode | 1) | kWide;
    }
}
// The same, for instructions that have no bytes.
unsigned ofWord(unsigned opcode, unsigned bytes) {
    return opcode | (bytes == 2 ? k66 : bytes == 8 ? kWide : 0);
}
// SPL, BPL, SIL and DIL.
unsigned rexFor(unsigned bytes, unsigned id) { return bytes == 1 && id >= 4 ? kRex : 0; }

// Optional bytes are written in any case, and stepped over or not.

[[gnu::always_inline]] inline uint8_t* putOpcode(uint8_t* at, unsigned opcode, unsigned reg, unsigned index,
                                                 unsigned base) {
    *at = 0x66;
    at += opcode / k66 & 1;
    const unsigned rex = (opcode / kWide & 1) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;
    *at = uint8_t(0x40 | rex);
    at += (rex | (opcode & kRex)) != 0;
    *at = 0x0f;
    at += opcode / kTwoByte & 1;
    *at = uint8_t(opcode);
    return at + 1;
}
uint8_t* putNumber(uint8_t* at, int64_t value, unsigned bytes) {
    std::memcpy(at, &value, sizeof value);  // there is room
    return at + bytes;
}
[[gnu::always_inline]] inline uint8_t* putRegister(uint8_t* at, unsigned opcode, unsigned reg, unsigned rm) {
    at = putOpcode(at, opcode, reg, 0, rm);
    *at = uint8_t(0xc0 | (reg & 7) << 3 | (rm & 7));
    return at + 1;
}
[[gnu::always_inline]] inline uint8_t* putMemory(uint8_t* at, unsigned opcode, unsigned reg,
                                                 const Operand_& o) {
    const auto& m = o.as<x86::Mem>();
    const unsigned base = m.baseId(), low = base & 7;
    const bool indexed = m.signature().bits() & kIndexed;
    const unsigned index = indexed ? m.indexId() : 4;  // 4: none
    const int32_t disp = m.offsetLo32();
    at = putOpcode(at, opcode, reg, index, base);
    const unsigned mod = !disp && low != 5 ? 0 : disp == int8_t(disp) ? 1 : 2;
    const bool sib = indexed || low == 4;
    *at++ = uint8_t(mod << 6 | (reg & 7) << 3 | (sib ? 4 : low));
    *at = uint8_t(m.shift() << 6 | (index & 7) << 3 | low);
    at += sib;
    return putNumber(at, disp, mod * mod);
}
// A register or memory.
uint8_t* putEither(uint8_t* at, unsigned opcode, unsigned reg, const Operand_& rm) {
    return rm.isReg() ? putRegister(at, opcode, reg, rm.id()) : putMemory(at, opcode, reg, rm);
}

bool fits(int64_t value, unsigned bytes) {
    switch (bytes) {
        case 1: return value == int8_t(value);
        case 2: return value == int16_t(value);
        default: return value == int32_t(value);
    }
}
int64_t valueOf(const Operand_& o) { return o.as<Imm>().value(); }

// -- instructions: null for operands that are for somebody else

// Of the operand in front of an immediate, or of the only one; 0: it is for somebody else.
unsigned sizeOfOne(const Operand_& a) {
    if (const unsigned bytes = generalBytes(a)) return bytes;
    const unsigned bytes = isMemory(a) ? sizeOf(a) : 0;
    return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8 ? bytes : 0;
}
unsigned rexForOne(const Operand_& a, unsigned bytes) { return a.isReg() ? rexFor(bytes, a.id()) : 0; }

bool isMemoryOf(const Operand_& o, unsigned bytes) {
    return isMemory(o) && (sizeOf(o) == bytes || !sizeOf(o));
}

// `opcode` is that of r/m8, r8; by two more the operands change places.
uint8_t* putBoth(uint8_t* at, unsigned opcode, const Operand_& a, const Operand_& b) {
    if (const unsigned bytes = generalBytes(b)) {
        opcode = ofSize(opcode, bytes) | rexFor(bytes, b.id());
        if (generalBytes(a) == bytes) return putRegister(at, opcode | rexFor(bytes, a.id()), b.id(), a.id());
        return isMemoryOf(a, bytes) ? putMemory(at, opcode, b.id(), a) : nullptr;
    }
    const unsigned bytes = generalBytes(a);
    if (!bytes || !isMemoryOf(b, bytes)) return nullptr;
    return putMemory(at, ofSize(opcode + 2, bytes) | rexFor(bytes, a.id()), a.id(), b);
}

uint8_t* encodeArithmetic(uint8_t* at, unsigned opcode, const Operand_& a, const Operand_& b) {
    if (!b.isImm()) return putBoth(at, opcode, a, b);
    const unsigned bytes = sizeOfOne(a);
    const int64_t value = valueOf(b);
    if (!bytes || !fits(value, bytes)) return nullptr;
    const bool isRax = a.isReg() && a.id() == 0;
    if (bytes > 1 && fits(value, 1)) {
        at = putEither(at, ofSize(0x82, bytes), opcode >> 3, a);
        return putNumber(at, value, 1);
    }
    at = isRax ? putOpcode(at, ofSize(opcode + 4, bytes), 0, 0, 0)
               : putEither(at, ofSize(0x80, bytes) | rexForOne(a, bytes), opcode >> 3, a);
    return putNumber(at, value, std::min(bytes, 4u));
}

uint8_t* encodeMove(uint8_t* at, const Operand_& a, const Operand_& b) {
    if (!b.isImm()) return putBoth(at, 0x88, a, b);
    const unsigned bytes = sizeOfOne(a);
    const int64_t value = valueOf(b);
    if (!bytes) return nullptr;
    if (a.isReg() && bytes == 8 && !fits(value, 4)) {
        at = putOpcode(at, (0xb8 | (a.id() & 7)) | kWide, 0, 0, a.id());
        return putNumber(at, value, 8);
    }
    if (!fits(value, bytes) && !(bytes == 4 && value == uint32_t(value))) return nullptr;
    if (a.isReg() && bytes != 8) {
        const unsigned opcode = bytes == 1 ? 0xb0 : ofWord(0xb8, bytes);
        at = putOpcode(at, opcode | (a.id() & 7) | rexFor(bytes, a.id()), 0, 0, a.id());
        return putNumber(at, value, bytes);
    }
    at = putEither(at, ofSize(0xc6, bytes), 0, a);
    return putNumber(at, value, std::min(bytes, 4u));
}

uint8_t* encodeTest(uint8_t* at, const Operand_& a, const Operand_& b) {
    if (!b.isImm()) return b.isReg() ? putBoth(at, 0x84, a, b) : nullptr;
    const unsigned bytes = sizeOfOne(a);
    const int64_t value = valueOf(b);
    if (!bytes || !(fits(value, bytes) || (bytes == 1 && value == uint8_t(value)))) return nullptr;
    at = a.isReg() && a.id() == 0 ? putOpcode(at, ofSize(0xa8, bytes), 0, 0, 0)
                                  : putEither(at, ofSize(0xf6, bytes) | rexForOne(a, bytes), 0, a);
    return putNumber(at, value, std::min(bytes, 4u));
}

uint8_t* encodeLea(uint8_t* at, const Operand_& a, const Operand_& b) {
    const unsigned bytes = generalBytes(a);
    return bytes >= 2 && isMemory(b) ? putMemory(at, ofWord(0x8d, bytes), a.id(), b) : nullptr;
}

uint8_t* encodeExtend(uint8_t* at, unsigned opcode, const Operand_& a, const Operand_& b) {
    const unsigned bytes = generalBytes(a), from = sizeOfOne(b);
    if (bytes < 2 || from == 0 || from > 2 || from >= bytes) return nullptr;
    opcode = ofWord(opcode | (from == 2 ? 1 : 0) | kTwoByte, bytes);
    return putEither(at, opcode | rexForOne(b, from), a.id(), b);
}

uint8_t* encodeShift(uint8_t* at, unsigned which, const Operand_& a, const Operand_& b) {
    const unsigned bytes = sizeOfOne(a);
    if (!bytes) return nullptr;
    const unsigned rex = rexForOne(a, bytes);
    if (b.isReg()) {
        if (generalBytes(b) != 1 || b.id() != 1) return nullptr;
        return putEither(at, ofSize(0xd2, bytes) | rex, which, a);
    }
    if (!b.isImm() || uint64_t(valueOf(b)) > 255) return nullptr;
    const bool one = valueOf(b) == 1;
    at = putEither(at, ofSize(one ? 0xd0 : 0xc0, bytes) | rex, which, a);
    return putNumber(at, valueOf(b), !one);
}

uint8_t* encodeToRegister(uint8_t* at, unsigned opcode, const Operand_& a, const Operand_& b) {
    const unsigned bytes = generalBytes(a);
    if (bytes < 2 || (generalBytes(b) != bytes && !isMemoryOf(b, bytes))) return nullptr;
    return putEither(at, ofWord(opcode | kTwoByte, bytes), a.id(), b);
}

// `opcode` is the one for bytes.
uint8_t* encodeOne(uint8_t* at, unsigned opcode, unsigned which, const Operand_& a, const Operand_& b) {
    const unsigned bytes = b.isNone() ? sizeOfOne(a) : 0;
    return bytes ? putEither(at, ofSize(opcode, bytes) | rexForOne(a, bytes), which, a) : nullptr;
}

uint8_t* encodeSet(uint8_t* at, unsigned opcode, const Operand_& a) {
    return sizeOfOne(a) == 1 ? putEither(at, opcode | kTwoByte | rexForOne(a, 1), 0, a) : nullptr;
}

uint8_t* encodeThrough(uint8_t* at, unsigned which, const Operand_& a) {
    const bool known = generalBytes(a) == 8 || (isMemory(a) && sizeOf(a) == 8);
    return known ? putEither(at, 0xff, which, a) : nullptr;
}

}  // namespace

template <class Encode>
Error HostAssembler::putBy(InstId id, const Operand_& a, const Operand_& b, Encode encode) {
    if (options_ == InstOptions::kNone && raxHolds_ == kNothing && size_t(end_ - at_) >= kLongest) {
        if (uint8_t* end = encode()) {
            at_ = end;
            return kErrorOk;
        }
    }
    return put(id, a, b);
}

Error HostAssembler::putMove(const Operand_& a, const Operand_& b) {
    return putBy(I::kIdMov, a, b, [&] { return encodeMove(at_, a, b); });
}
Error HostAssembler::putLea(const Operand_& a, const Operand_& b) {
    return putBy(I::kIdLea, a, b, [&] { return encodeLea(at_, a, b); });
}
Error HostAssembler::putArithmetic(InstId id, const Operand_& a, const Operand_& b) {
    return putBy(id, a, b, [&] { return encodeArithmetic(at_, kTable[id].opcode, a, b); });
}

bool HostAssembler::encode(InstId id, const Operand_& a, const Operand_& b) {
    const Row row = kTable[id];
    if (row.form == Form::None) return false;
    if (a.isLabel()) {
        assert(row.form == Form::Jump);
        jump(row.opcode, a.as<Label>());
        return true;
    }
    if (options_ != InstOptions::kNone) return false;
    uint8_t* end = nullptr;
    switch (row.form) {
        case Form::None: break;
        case Form::Arithmetic: end = encodeArithmetic(at_, row.opcode, a, b); break;
        case Form::Move: end = encodeMove(at_, a, b); break;
        case Form::Test: end = encodeTest(at_, a, b); break;
        case Form::Lea: end = encodeLea(at_, a, b); break;
        case Form::Extend: end = encodeExtend(at_, row.opcode, a, b); break;
        case Form::ExtendLong:
            if (generalBytes(a) == 8 && sizeOfOne(b) == 4)
                end = putEither(at_, row.opcode | kWide, a.id(), b);
            break;
        case Form::Shift: end = encodeShift(at_, row.opcode, a, b); break;
        case Form::Unary: end = encodeOne(at_, 0xf6, row.opcode, a, b); break;
        case Form::Step: end = encodeOne(at_, 0xfe, row.opcode, a, b); break;
        case Form::ToRegister: end = encodeToRegister(at_, row.opcode, a, b); break;
        case Form::Set: end = encodeSet(at_, row.opcode, a); break;
        case Form::Call:
            if (a.isImm()) return leadAway(0xe8, uint64_t(valueOf(a))), true;
            end = encodeThrough(at_, 2, a);
            break;
        case Form::Jump:
            if (a.isImm()) return leadAway(0xe9, uint64_t(valueOf(a))), true;
            end = encodeThrough(at_, 4, a);
            break;
        case Form::JumpIfZero: return jumpIfZero(generalBytes(a) == 8, b.as<Label>()), true;
        case Form::Alone:
            if (!a.isNone()) break;
            *at_ = row.opcode;
            end = at_ + 1;
            break;
        case Form::AloneWide:
            at_[0] = 0x48, at_[1] = row.opcode;
            end = at_ + 2;
            break;
    }
    if (!end) return false;
    at_ = end;
    return true;
}

// As near as is known: what is not bound yet may be far away.
void HostAssembler::jump(unsigned condition, const Label& to) {
    const Place& place = labels_[to.id()];
    const bool isShort = Support::test(options_, InstOptions::kShortForm);
    const bool isLong = Support::test(options_, InstOptions::kLongForm);
    const bool known = place.offset != kUnbound && place.part == part_;
    const int64_t near = known ? int64_t(place.offset) - int64_t(offset() + 2) : 0;
    if (isShort || (known && !isLong && fits(near, 1))) {
        if (!known) distances_.push_back({{part_, uint32_t(offset() + 1)}, to.id(), 1, 0});
        at_[0] = uint8_t(condition == kAlways ? 0xeb : 0x70 | condition), at_[1] = uint8_t(near);
        at_ += 2;
        return;
    }
    *at_ = 0x0f;
    at_ += condition != kAlways;
    *at_++ = uint8_t(condition == kAlways ? 0xe9 : 0x80 | condition);
    const auto field = uint32_t(offset());
    if (!known) distances_.push_back({{part_, field}, to.id(), 4, 0});
    at_ = putNumber(at_, known ? int64_t(place.offset) - int64_t(field + 4) : 0, 4);
}

// JECXZ and JRCXZ.
void HostAssembler::jumpIfZero(bool wide, const Label& to) {
    *at_ = 0x67;
    at_ += !wide;
    *at_++ = 0xe3;
    distances_.push_back({{part_, uint32_t(offset())}, to.id(), 1, 0});
    *at_++ = 0;
}

void HostAssembler::leadAway(uint8_t opcode, uint64_t address) {
    assert(address);
    *at_++ = opcode;
    distances_.push_back({{part_, uint32_t(offset())}, 0, 4, address});
    at_ = putNumber(at_, 0, 4);
}

}  // namespace kiln
