#include "translate/decoded_shapes.hpp"

#include <algorithm>
#include <cstring>

namespace kiln {

namespace {

uint64_t field(const ZydisDecodedInstruction& z, const uint8_t* at, unsigned bytes) {
    return z.raw.imm[0].is_signed ? uint64_t(signedField(at, bytes)) : unsignedField(at, bytes);
}

}  // namespace

bool DecodedShapes::decode(const ZydisDecoder& zydis, CodeMode mode, std::span<const uint8_t> bytes,
                           Decoded& out) {
    InstructionLayout layout;
    const bool shaped = findLayout(bytes, mode, layout);
    ShapeKey key;
    if (shaped) {
        key = shapeOf(bytes.data(), bytes.size(), layout, mode);
        const Known& known = known_[key.hash() & (kShapes - 1)];
        if (known.key == key) {
            make(known, bytes, layout, out);
            return true;
        }
    }
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&zydis, bytes.data(), bytes.size(), &out.z, out.operands)))
        return false;
    out.facts = factsOf(out.z, out.operands, mode);
    if (shaped) remember(key, bytes, layout, out);
    return true;
}

void DecodedShapes::make(const Known& known, std::span<const uint8_t> bytes, const InstructionLayout& layout,
                         Decoded& out) {
    out.facts = known.facts;
    out.z = known.z;
    std::copy_n(known.operands, known.z.operand_count, out.operands);
    if (layout.dispBytes) {
        const int64_t disp = signedField(bytes.data() + layout.dispAt, layout.dispBytes);
        out.z.raw.disp.value = disp;
        out.operands[known.memory].mem.disp.value = disp;
    }
    if (layout.immBytes) {
        const uint64_t imm = field(out.z, bytes.data() + layout.immAt, layout.immBytes);
        out.z.raw.imm[0].value.u = imm;
        out.operands[known.immediate].imm.value.u = imm;
    }
}

void DecodedShapes::remember(const ShapeKey& key, std::span<const uint8_t> bytes,
                             const InstructionLayout& layout, const Decoded& decoded) {
    const ZydisDecodedInstruction& z = decoded.z;
    if (!agrees(layout, z) || z.operand_count > kMostOperands) return;
    auto operand = [&](auto condition) {
        const auto* end = decoded.operands + z.operand_count;
        const auto* at = std::find_if(decoded.operands, end, condition);
        return at == end ? kNoOperand : uint8_t(at - decoded.operands);
    };
    Known known;
    known.key = key;
    known.memory = operand([](const ZydisDecodedOperand& o) {
        return o.type == ZYDIS_OPERAND_TYPE_MEMORY && o.mem.disp.has_displacement;
    });
    known.immediate =
        operand([](const ZydisDecodedOperand& o) { return o.type == ZYDIS_OPERAND_TYPE_IMMEDIATE; });
    // Fields that are seen nowhere else, or as something else, are none of a shape.
    if (layout.dispBytes &&
        (known.memory == kNoOperand || decoded.operands[known.memory].mem.disp.value !=
                                           signedField(bytes.data() + layout.dispAt, layout.dispBytes)))
        return;
    if (layout.immBytes &&
        (known.immediate == kNoOperand || decoded.operands[known.immediate].imm.value.u !=
                                              field(z, bytes.data() + layout.immAt, layout.immBytes)))
        return;
    known.facts = decoded.facts;
    known.z = z;
    std::copy_n(decoded.operands, z.operand_count, known.operands);
    known_[key.hash() & (kShapes - 1)] = known;
}

}  // namespace kiln
