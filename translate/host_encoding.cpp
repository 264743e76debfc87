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
    Multiply,    // IMUL with two operands
    ToRegister,  // 0F and a full-sized register in ModRM.reg
    Set,
    Jump,
    Call,
    JumpIfZero,
    Alone,  // nothing but the opcode
    AloneWide,
    Load,   // vectors: a register in ModRM.reg
    Store,  // the same, the operand in front
};
// Of Jump: the condition (SDM vol. 2, appendix B.1.4.7) or kAlways.
constexpr uint8_t kAlways = 16;

struct Row {
    Form form = Form::None;
    uint8_t opcode = 0;
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
    t[I::kIdImul] = {Form::Multiply, 0xaf};
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
constexpr unsigned kTwoByte = 0x100, kWide = 0x200, k66 = 0x400, kRex = 0x1000;

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

class Writer {
  public:
    explicit Writer(uint8_t* at) : at_(at) {}
    uint8_t* end() const { return at_; }

    void begin(unsigned opcode, unsigned reg, unsigned index, unsigned base) {
        if (opcode & k66) byte(0x66);
        const unsigned rex =
            (opcode & kWide ? 8 : 0) | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3 | (opcode & kRex);
        if (rex) byte(0x40 | rex);
        if (opcode & kTwoByte) byte(0x0f);
        byte(opcode);
    }
    void withRegister(unsigned opcode, unsigned reg, unsigned rm) {
        begin(opcode, reg, 0, rm);
        byte(0xc0 | (reg & 7) << 3 | (rm & 7));
    }
    void withMemory(unsigned opcode, unsigned reg, const Operand_& o) {
        const auto& m = o.as<x86::Mem>();
        const unsigned base = m.baseId(), low = base & 7;
        const bool indexed = m.signature().bits() & kIndexed;
        const unsigned index = indexed ? m.indexId() : 0;
        const int32_t disp = m.offsetLo32();
        begin(opcode, reg, index, base);
        const unsigned mod = !disp && low != 5 ? 0 : disp == int8_t(disp) ? 1 : 2;
        byte(mod << 6 | (reg & 7) << 3 | (indexed ? 4 : low));
        if (indexed)
            byte(m.shift() << 6 | (index & 7) << 3 | low);
        else if (low == 4)
            byte(0x24);
        if (mod == 1) byte(unsigned(disp));
        if (mod == 2) number(disp, 4);
    }
    // A register or memory.
    void with(unsigned opcode, unsigned reg, const Operand_& rm) {
        rm.isReg() ? withRegister(opcode, reg, rm.id()) : withMemory(opcode, reg, rm);
    }
    void byte(unsigned value) { *at_++ = uint8_t(value); }
    void number(int64_t value, unsigned bytes) {
        std::memcpy(at_, &value, sizeof value);  // there is room
        at_ += bytes;
    }

  private:
    uint8_t* at_;
};

bool fits(int64_t value, unsigned bytes) {
    switch (bytes) {
        case 1: return value == int8_t(value);
        case 2: return value == int16_t(value);
        default: return value == int32_t(value);
    }
}
int64_t valueOf(const Operand_& o) { return o.as<Imm>().value(); }

// Of two operands, one of which may be memory: their size; 0: they are for somebody else.
unsigned sizeOfBoth(const Operand_& a, const Operand_& b) {
    const unsigned bytes = generalBytes(a);
    if (bytes) {
        if (generalBytes(b) == bytes) return bytes;
        return isMemory(b) && (sizeOf(b) == bytes || !sizeOf(b)) ? bytes : 0;
    }
    const unsigned other = generalBytes(b);
    return other && isMemory(a) && (sizeOf(a) == other || !sizeOf(a)) ? other : 0;
}

// Of the operand in front of an immediate.
unsigned sizeOfOne(const Operand_& a) {
    if (const unsigned bytes = generalBytes(a)) return bytes;
    const unsigned bytes = isMemory(a) ? sizeOf(a) : 0;
    return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8 ? bytes : 0;
}
unsigned rexForOne(const Operand_& a, unsigned bytes) { return a.isReg() ? rexFor(bytes, a.id()) : 0; }

// `opcode` is that of r/m8, r8; by two more the operands change places.
bool registerAndOther(Writer& w, unsigned opcode, const Operand_& a, const Operand_& b) {
    const unsigned bytes = sizeOfBoth(a, b);
    if (!bytes) return false;
    if (b.isReg()) {
        const unsigned rex = rexFor(bytes, b.id()) | rexForOne(a, bytes);
        w.with(ofSize(opcode, bytes) | rex, b.id(), a);
    } else {
        w.withMemory(ofSize(opcode + 2, bytes) | rexFor(bytes, a.id()), a.id(), b);
    }
    return true;
}

bool putArithmetic(Writer& w, unsigned opcode, const Operand_& a, const Operand_& b) {
    if (!b.isImm()) return registerAndOther(w, opcode, a, b);
    const unsigned bytes = sizeOfOne(a);
    const int64_t value = valueOf(b);
    if (!bytes || !fits(value, bytes)) return false;
    const unsigned rex = rexForOne(a, bytes);
    const bool isRax = a.isReg() && a.id() == 0;
    const bool small = bytes > 1 && fits(value, 1);
    if (isRax && !small) {
        w.begin(ofSize(opcode + 4, bytes), 0, 0, 0);
        w.number(value, std::min(bytes, 4u));
    } else {
        w.with(small ? ofSize(0x82, bytes) : ofSize(0x80, bytes) | rex, opcode >> 3, a);
        w.number(value, small ? 1 : std::min(bytes, 4u));
    }
    return true;
}

bool putMove(Writer& w, const Operand_& a, const Operand_& b) {
    if (!b.isImm()) return registerAndOther(w, 0x88, a, b);
    const unsigned bytes = sizeOfOne(a);
    const int64_t value = valueOf(b);
    if (!bytes) return false;
    if (a.isReg() && bytes == 8 && !fits(value, 4)) {
        w.begin((0xb8 | (a.id() & 7)) | kWide, 0, 0, a.id());
        w.number(value, 8);
        return true;
    }
    if (!fits(value, bytes) && !(bytes == 4 && value == uint32_t(value))) return false;
    if (a.isReg() && bytes != 8) {
        w.begin((bytes == 1 ? 0xb0 : ofWord(0xb8, bytes)) | (a.id() & 7) | rexFor(bytes, a.id()), 0, 0,
                a.id());
        w.number(value, bytes);
        return true;
    }
    w.with(ofSize(0xc6, bytes), 0, a);
    w.number(value, std::min(bytes, 4u));
    return true;
}

bool putTest(Writer& w, const Operand_& a, const Operand_& b) {
    if (!b.isImm()) return b.isReg() && registerAndOther(w, 0x84, a, b);
    const unsigned bytes = sizeOfOne(a);
    const int64_t value = valueOf(b);
    if (!bytes || !(fits(value, bytes) || (bytes == 1 && value == uint8_t(value)))) return false;
    if (a.isReg() && a.id() == 0)
        w.begin(ofSize(0xa8, bytes), 0, 0, 0);
    else
        w.with(ofSize(0xf6, bytes) | rexForOne(a, bytes), 0, a);
    w.number(value, std::min(bytes, 4u));
    return true;
}

bool putExtend(Writer& w, unsigned opcode, const Operand_& a, const Operand_& b) {
    const unsigned bytes = generalBytes(a), from = sizeOfOne(b);
    if (bytes < 2 || from == 0 || from > 2 || from >= bytes) return false;
    w.with(ofWord(opcode | (from == 2 ? 1 : 0) | kTwoByte, bytes) | rexForOne(b, from), a.id(), b);
    return true;
}

bool putShift(Writer& w, unsigned which, const Operand_& a, const Operand_& b) {
    const unsigned bytes = sizeOfOne(a);
    if (!bytes) return false;
    const unsigned rex = rexForOne(a, bytes);
    if (b.isReg()) {
        if (generalBytes(b) != 1 || b.id() != 1) return false;
        w.with(ofSize(0xd2, bytes) | rex, which, a);
        return true;
    }
    if (!b.isImm() || uint64_t(valueOf(b)) > 255) return false;
    const bool one = valueOf(b) == 1;
    w.with(ofSize(one ? 0xd0 : 0xc0, bytes) | rex, which, a);
    if (!one) w.byte(unsigned(valueOf(b)));
    return true;
}

bool putToRegister(Writer& w, unsigned opcode, const Operand_& a, const Operand_& b) {
    const unsigned bytes = generalBytes(a) ? sizeOfBoth(a, b) : 0;
    if (bytes < 2) return false;
    w.with(ofWord(opcode | kTwoByte, bytes), a.id(), b);
    return true;
}

}  // namespace

bool HostAssembler::encode(InstId id, const Operand_& a, const Operand_& b) {
    const Row row = kTable[id];
    if (row.form == Form::Jump) {
        if (a.isLabel()) return jump(row.opcode, a.as<Label>()), true;
        if (row.opcode != kAlways) return false;
    }
    if (options_ != InstOptions::kNone) return false;
    Writer w(at_);
    bool done = false;
    switch (row.form) {
        case Form::Arithmetic: done = putArithmetic(w, row.opcode, a, b); break;
        case Form::Move: done = putMove(w, a, b); break;
        case Form::Test: done = putTest(w, a, b); break;
        case Form::Lea:
            done = generalBytes(a) >= 2 && isMemory(b);
            if (done) w.withMemory(ofWord(0x8d, generalBytes(a)), a.id(), b);
            break;
        case Form::Extend: done = putExtend(w, row.opcode, a, b); break;
        case Form::ExtendLong:
            done = generalBytes(a) == 8 && sizeOfOne(b) == 4;
            if (done) w.with(0x63 | kWide, a.id(), b);
            break;
        case Form::Shift: done = putShift(w, row.opcode, a, b); break;
        case Form::Unary:
        case Form::Step: {
            const unsigned bytes = b.isNone() ? sizeOfOne(a) : 0;
            const unsigned opcode = row.form == Form::Unary ? 0xf6 : 0xfe;
            done = bytes;
            if (done) w.with(ofSize(opcode, bytes) | rexForOne(a, bytes), row.opcode, a);
            break;
        }
        case Form::Multiply:
        case Form::ToRegister: done = putToRegister(w, row.opcode, a, b); break;
        case Form::Set:
            done = b.isNone() && sizeOfOne(a) == 1;
            if (done) w.with(row.opcode | kTwoByte | rexForOne(a, 1), 0, a);
            break;
        case Form::Jump:
        case Form::Call:
            if (a.isImm()) return leadAway(row.form == Form::Call ? 0xe8 : 0xe9, uint64_t(valueOf(a))), true;
            if (a.isLabel()) return false;
            done = generalBytes(a) == 8 || (isMemory(a) && sizeOf(a) == 8);
            if (done) w.with(0xff, row.form == Form::Call ? 2 : 4, a);
            break;
        case Form::JumpIfZero:
            if (!b.isLabel()) return false;
            return jumpIfZero(generalBytes(a) == 8, b.as<Label>()), true;
        case Form::Alone:
            done = a.isNone();
            if (done) w.byte(row.opcode);
            break;
        case Form::AloneWide:
            done = a.isNone();
            if (done) w.byte(0x48), w.byte(row.opcode);
            break;
        default: break;
    }
    if (done) at_ = w.end();
    return done;
}

// As near as is known: what is not bound yet may be far away.
void HostAssembler::jump(unsigned condition, const Label& to) {
    Writer w(at_);
    const Place& place = labels_[to.id()];
    const bool isShort = Support::test(options_, InstOptions::kShortForm);
    const bool isLong = Support::test(options_, InstOptions::kLongForm);
    const bool known = place.offset != kUnbound && place.part == part_;
    const int64_t near = known ? int64_t(place.offset) - int64_t(offset() + 2) : 0;
    if (isShort || (known && !isLong && fits(near, 1))) {
        w.byte(condition == kAlways ? 0xeb : 0x70 | condition);
        if (!known) distances_.push_back({{part_, uint32_t(offset() + 1)}, to.id(), 1, 0});
        w.byte(unsigned(near));
    } else {
        if (condition != kAlways) w.byte(0x0f);
        w.byte(condition == kAlways ? 0xe9 : 0x80 | condition);
        const auto field = uint32_t(w.end() - begin_);
        if (!known) distances_.push_back({{part_, field}, to.id(), 4, 0});
        w.number(known ? int64_t(place.offset) - int64_t(field + 4) : 0, 4);
    }
    at_ = w.end();
}

// JECXZ and JRCXZ.
void HostAssembler::jumpIfZero(bool wide, const Label& to) {
    Writer w(at_);
    if (!wide) w.byte(0x67);
    w.byte(0xe3);
    distances_.push_back({{part_, uint32_t(w.end() - begin_)}, to.id(), 1, 0});
    w.byte(0);
    at_ = w.end();
}

void HostAssembler::leadAway(uint8_t opcode, uint64_t address) {
    assert(address);
    Writer w(at_);
    w.byte(opcode);
    distances_.push_back({{part_, uint32_t(w.end() - begin_)}, 0, 4, address});
    w.number(0, 4);
    at_ = w.end();
}

}  // namespace kiln
