#include "cpu/decoder.hpp"

#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "cpu/evex.hpp"
#include "cpu/handlers.hpp"
#include "cpu/state.hpp"

namespace kiln {

namespace {

// MOVSD and CMPSD each name a string instruction and an SSE one: the first row that has the form takes it.
using RowTable = std::array<std::array<const Row*, 2>, ZYDIS_MNEMONIC_MAX_VALUE + 1>;

void add(RowTable& t, ZydisMnemonic m, const Row& row) { t[m][t[m][0] != nullptr] = &row; }

// VPADDB for PADDB.
ZydisMnemonic vexTwin(ZydisMnemonic m) {
    static const auto byName = [] {
        std::unordered_map<std::string, ZydisMnemonic> names;
        for (int n = 0; n <= ZYDIS_MNEMONIC_MAX_VALUE; n++)
            names[ZydisMnemonicGetString(ZydisMnemonic(n))] = ZydisMnemonic(n);
        return names;
    }();
    return byName.at(std::string("v") + ZydisMnemonicGetString(m));
}

const RowTable& rowTable() {
    static const RowTable table = [] {
        RowTable t{};
        for (auto rows : {moveRows(), arithmeticRows(), shiftRows(), bitRows(), bcdRows(), controlRows(),
                          stackRows(), stringRows(), ioRows(), systemRows(), x87Rows(), mmxRows(), sseRows(),
                          bmiRows(), xsaveRows(), monitorRows()})
            for (const Row& row : rows) {
                add(t, row.mnemonic, row);
                if (row.facts & kVex) add(t, vexTwin(row.mnemonic), row);
            }
        return t;
    }();
    return table;
}

uint8_t registerNumber(ZydisRegister r) {
    auto id = uint8_t(ZydisRegisterGetId(r));
    switch (ZydisRegisterGetClass(r)) {
        case ZYDIS_REGCLASS_GPR8:  // AL CL DL BL AH CH DH BH SPL BPL ...
            return uint8_t(id < 4 ? id * 8 : id < 8 ? (id - 4) * 8 + 1 : (id - 4) * 8);
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64: return uint8_t(id * 8);
        default: return id;
    }
}

// Register in address arithmetic: GPRs, RIP, and the vector registers that are gathers' indices.
uint8_t addressRegister(ZydisRegister r) {
    if (r == ZYDIS_REGISTER_NONE) return RegisterFile::kZero;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP) return RegisterFile::kBlockRip;
    return registerNumber(r);
}

void setMemory(Insn& out, const ZydisDecodedInstruction& z, const ZydisDecodedOperandMem& m) {
    out.base = addressRegister(m.base);
    out.index = addressRegister(m.index);
    out.scale = m.scale == 2 ? 1 : m.scale == 4 ? 2 : m.scale == 8 ? 3 : 0;
    out.disp = int32_t(m.disp.value);
    // Zydis 4.0 takes R13D for the base where there is none (67h, mod 0, SIB base 5 with REX.B).
    if (z.attributes & ZYDIS_ATTRIB_HAS_SIB && z.raw.modrm.mod == 0 && z.raw.sib.base == 5) {
        out.base = RegisterFile::kZero;
        out.disp = int32_t(z.raw.disp.value);
    }
    if (out.base == RegisterFile::kBlockRip) out.disp += out.offset + z.length;
    out.seg = uint8_t(ZydisRegisterGetId(m.segment));
}

void setImmediate(Insn& out, const ZydisDecodedInstruction& z, const ZydisDecodedOperand& op, bool second) {
    if (op.imm.is_relative) {
        out.disp = int32_t(op.imm.value.s) + out.offset + z.length;
        out.link = nullptr;
        out.extra = kLinkable;
    } else if (second) {
        out.imm = (out.imm & 0xffffffff) | op.imm.value.u << 32;
    } else {
        out.imm = op.imm.value.u;
    }
}

void setOperands(Insn& out, const Shape& shape) {
    out.base = out.index = RegisterFile::kZero;
    uint8_t* registers[4] = {&out.a, &out.b, &out.c, &out.d};
    bool hasImmediate = false;
    for (unsigned n = 0; n < shape.z.operand_count_visible; n++) {
        const ZydisDecodedOperand& op = shape.operands[n];
        switch (op.type) {
            case ZYDIS_OPERAND_TYPE_REGISTER:
                if (n < 4) *registers[n] = registerNumber(op.reg.value);
                break;
            case ZYDIS_OPERAND_TYPE_MEMORY: setMemory(out, shape.z, op.mem); break;
            case ZYDIS_OPERAND_TYPE_IMMEDIATE:
                setImmediate(out, shape.z, op, hasImmediate);
                hasImmediate = true;
                break;
            case ZYDIS_OPERAND_TYPE_POINTER: out.imm = op.ptr.offset | uint64_t(op.ptr.segment) << 32; break;
            default: break;
        }
    }
    if ((shape.vex() || shape.evex()) && !shape.isReg(2)) out.c = out.b;
    // A memory offset that does not fit `disp` (MOV with a 64-bit offset): in imm.
    if (shape.z.raw.disp.size == 64) out.imm = uint64_t(shape.z.raw.disp.value);
    if (shape.evex()) out.imm = uint8_t(out.imm) | uint64_t(Evex::describe(shape)) << 32;
}

// Takes the opmask of EVEX out of the list: the others are numbered as if it weren't there.
void dropOpmask(ZydisDecodedInstruction& z, ZydisDecodedOperand* operands) {
    for (unsigned n = 0; n < z.operand_count_visible; n++) {
        if (operands[n].encoding != ZYDIS_OPERAND_ENCODING_MASK) continue;
        std::move(operands + n + 1, operands + z.operand_count, operands + n);
        z.operand_count--;
        z.operand_count_visible--;
        return;
    }
}

// Segment of the implied source of string instructions and of XLAT: DS or the prefix's.
void setPrefixes(Insn& out, const ZydisDecodedInstruction& z, CodeMode mode) {
    static constexpr std::pair<uint64_t, SegReg> kSegments[] = {
        {ZYDIS_ATTRIB_HAS_SEGMENT_ES, Es}, {ZYDIS_ATTRIB_HAS_SEGMENT_CS, Cs},
        {ZYDIS_ATTRIB_HAS_SEGMENT_SS, Ss}, {ZYDIS_ATTRIB_HAS_SEGMENT_DS, Ds},
        {ZYDIS_ATTRIB_HAS_SEGMENT_FS, Fs}, {ZYDIS_ATTRIB_HAS_SEGMENT_GS, Gs}};
    out.seg = Ds;
    for (auto [bit, seg] : kSegments)
        if (z.attributes & bit && (mode != CodeMode::Code64 || seg >= Fs)) out.seg = seg, out.segPrefix = 1;
    if (z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) out.rep = Rep::RepE;
    if (z.attributes & ZYDIS_ATTRIB_HAS_REPNE) out.rep = Rep::RepNe;
    out.lock = bool(z.attributes & ZYDIS_ATTRIB_HAS_LOCK);
    out.addressSize = z.address_width == 16 ? 0 : z.address_width == 32 ? 1 : 2;
    out.width = uint8_t(Shape::log2Bytes(z.operand_width)) & 3;
}

}  // namespace

Decoder::Decoder(const CpuModel& model) : sets_(model) {
    ZydisDecoderInit(&zydis_[0], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&zydis_[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&zydis_[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (ZydisDecoder& d : zydis_) sets_.configure(d);
}

// -- by shape

void Decoder::putFields(Insn& out, const Known& known, const uint8_t* bytes, const InstructionLayout& layout,
                        uint16_t offset) {
    out = known.insn;
    out.offset = offset;
    if (layout.dispBytes) {
        out.disp = int32_t(signedField(bytes + layout.dispAt, layout.dispBytes));
        if (known.toBlock) out.disp += offset + layout.length;
    } else if (known.toBlock) {  // a distance that belongs to the shape, counted from another block's begin
        out.disp += offset - known.insn.offset;
    }
    if (!layout.immBytes) return;
    const uint8_t* imm = bytes + layout.immAt;
    if (known.relative)
        out.disp = int32_t(signedField(imm, layout.immBytes)) + offset + layout.length;
    else
        out.imm = known.immediateSigned ? uint64_t(signedField(imm, layout.immBytes))
                                        : unsignedField(imm, layout.immBytes);
}

void Decoder::remember(const ShapeKey& key, const InstructionLayout& layout, const ZydisDecodedInstruction& z,
                       const uint8_t* bytes, const Insn& made, bool ends) const {
    if (!agrees(layout, z)) return;
    Known known{key,
                made,
                ends,
                made.base == RegisterFile::kBlockRip,
                bool(z.raw.imm[0].is_relative),
                bool(z.raw.imm[0].is_signed)};
    // Fields that go where others don't, or not as they are, are none of a shape.
    Insn again;
    putFields(again, known, bytes, layout, made.offset);
    if (std::memcmp(&again, &made, sizeof made) == 0) known_[key.hash() & (kShapes - 1)] = known;
}

bool Decoder::decode(std::span<const uint8_t> bytes, CodeMode mode, uint16_t offset, Insn& out,
                     bool& ends) const {
    InstructionLayout layout;
    if (!findLayout(bytes, mode, layout)) return decodeAnew(bytes, mode, offset, out, ends);
    const ShapeKey key = shapeOf(bytes.data(), bytes.size(), layout, mode);
    if (const Known& known = known_[key.hash() & (kShapes - 1)]; known.key == key) {
        putFields(out, known, bytes.data(), layout, offset);
        ends = known.ends;
        return true;
    }
    ZydisDecodedInstruction z;
    z.length = 0;
    const bool whole = decodeByZydis(bytes, mode, offset, out, ends, z);
    if (whole && z.length && out.run != undefinedOpcode && out.run != absentFpu)
        remember(key, layout, z, bytes.data(), out, ends);
    return whole;
}

bool Decoder::decodeAnew(std::span<const uint8_t> bytes, CodeMode mode, uint16_t offset, Insn& out,
                         bool& ends) const {
    ZydisDecodedInstruction z;
    return decodeByZydis(bytes, mode, offset, out, ends, z);
}

// Whose effects on what follows end a block, like those of rows with kEndsBlock.
static bool movesToSystemRegister(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* operands) {
    if (z.mnemonic != ZYDIS_MNEMONIC_MOV || operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
    const ZydisRegisterClass to = ZydisRegisterGetClass(operands[0].reg.value);
    return to == ZYDIS_REGCLASS_CONTROL || to == ZYDIS_REGCLASS_DEBUG;
}

bool Decoder::decodeByZydis(std::span<const uint8_t> bytes, CodeMode mode, uint16_t offset, Insn& out,
                            bool& ends, ZydisDecodedInstruction& z) const {
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    out = Insn{};
    out.offset = offset;
    ends = true;
    ZyanStatus status =
        ZydisDecoderDecodeFull(&zydis_[unsigned(mode)], bytes.data(), bytes.size(), &z, operands);
    if (status == ZYDIS_STATUS_NO_MORE_DATA && bytes.size() < kMaxLength) return false;
    if (status == ZYDIS_STATUS_NO_MORE_DATA || status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) {
        out.length = kMaxLength;
        out.run = tooLong;
        return true;
    }
    // All bytes that may have been looked at: when one of them changes, it may be an instruction after all.
    out.length = uint8_t(std::min<size_t>(bytes.size(), kMaxLength));
    out.run = undefinedOpcode;
    if (!ZYAN_SUCCESS(status)) return true;
    out.length = z.length;
    if (sets_.absentFpu(z)) {
        out.run = absentFpu;
        ends = false;
        return true;
    }
    if (!sets_.offers(z, mode)) return true;
    if (z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) dropOpmask(z, operands);
    Shape shape{z, operands, mode};
    const Row* row = nullptr;
    Handler handler = nullptr;
    for (const Row* candidate : rowTable()[z.mnemonic]) {
        if (!candidate || candidate->facts & (mode == CodeMode::Code64 ? kNo64 : kNoLegacy)) continue;
        if (shape.evex() ? !(candidate->facts & (kEvex | kOnlyEvex)) : candidate->facts & kOnlyEvex) continue;
        row = candidate;
        if ((handler = row->select(shape))) break;
    }
    if (!handler) return true;
    setPrefixes(out, z, mode);
    setOperands(out, shape);
    out.run = handler;
    ends = row->facts & kEndsBlock || movesToSystemRegister(z, operands);
    return true;
}

// Takes over what another block has of the same instructions, but for its last one: whether a block ends
// behind that is to be found out. How many there are.
static unsigned copyInsns(Insn* to, const Block& from, uint64_t offset) {
    const Insn* first = from.instructionAt(offset);
    const Insn* last = &from.insns[from.count - 1u];
    for (const Insn* i = first; i < last; i++, to++) {
        *to = *i;
        to->offset = uint16_t(i->offset - offset);
        const bool branches = i->extra == kLinkable;
        if (branches || i->base == RegisterFile::kBlockRip) to->disp -= int32_t(offset);
        if (branches) to->link = nullptr;
    }
    return unsigned(std::max<ptrdiff_t>(last - first, 0));
}

std::unique_ptr<Block> Decoder::decodeBlock(PhysAddr start, CodeMode mode, std::span<const uint8_t> bytes,
                                            bool single, const Block* covering) const {
    auto block = std::make_unique<Block>();
    block->start = start;
    block->mode = mode;
    block->single = single;
    return decodeInto(*block, bytes, single, covering) ? std::move(block) : nullptr;
}

bool Decoder::decodeInto(Block& block, std::span<const uint8_t> bytes, bool single,
                         const Block* covering) const {
    Insn insns[kMaxInsns + 1];
    unsigned count = covering ? copyInsns(insns, *covering, block.start.value - covering->start.value) : 0;
    size_t length = count ? insns[count - 1].offset + insns[count - 1].length : 0;
    bool ends = false;
    while (!ends && count < (single ? 1 : kMaxInsns) && length < bytes.size()) {
        if (!decode(bytes.subspan(length), block.mode, uint16_t(length), insns[count], ends)) break;
        length += insns[count++].length;
    }
    if (!count) return false;
    block.bytes = uint16_t(length);
    block.count = uint16_t(count);
    insns[count] = {};
    insns[count].run = single ? singleEnd : blockEnd;
    insns[count].offset = block.bytes;
    block.insns.assign(insns, insns + count + 1);
    return true;
}

}  // namespace kiln
