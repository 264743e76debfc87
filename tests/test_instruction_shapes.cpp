// What the decoder remembers by shape is what decoding anew gives, for random instructions and random fields.
#include <doctest/doctest.h>

#include <cstring>

#include "cpu/cpu_model.hpp"
#include "cpu/decoder.hpp"
#include "random.hpp"

using namespace kiln;
using test::Random;

namespace {

constexpr CodeMode kModes[] = {CodeMode::Code16, CodeMode::Code32, CodeMode::Code64};

struct Bytes {
    uint8_t at[16];
    std::span<const uint8_t> span() const { return {at, 15}; }
};

// Mostly instructions: a few prefixes, an opcode of one of the maps, a random rest.
Bytes randomBytes(Random& random) {
    static constexpr uint8_t kPrefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x64, 0x65};
    Bytes b;
    for (uint8_t& byte : b.at) byte = uint8_t(random());
    unsigned n = 0;
    while (random() % 4 == 0 && n < 3) b.at[n++] = kPrefixes[random() % std::size(kPrefixes)];
    if (random() % 2) b.at[n++] = uint8_t(0x40 | random() % 16);
    switch (random() % 8) {
        case 0:
        case 1: b.at[n++] = 0x0f; break;
        case 2: b.at[n++] = 0x0f, b.at[n++] = random() % 2 ? 0x38 : 0x3a; break;
        case 3: b.at[n++] = 0xc5; break;
        case 4: b.at[n++] = 0xc4, b.at[n++] = uint8_t((random() & 0xe0) | (1 + random() % 3)); break;
        default: break;
    }
    return b;
}

struct Result {
    bool whole, ends;
    Insn insn;
    bool operator==(const Result& o) const {
        return whole == o.whole && (!whole || (ends == o.ends && !std::memcmp(&insn, &o.insn, sizeof insn)));
    }
};

}  // namespace

TEST_CASE("instructions remembered by shape are decoded as anew") {
    const Decoder decoder(*kilnModel());
    Random random(7);
    auto compare = [&](std::span<const uint8_t> bytes, CodeMode mode) {
        const auto offset = uint16_t(random() % 4096);
        Result known{}, anew{};
        known.whole = decoder.decode(bytes, mode, offset, known.insn, known.ends);
        anew.whole = decoder.decodeAnew(bytes, mode, offset, anew.insn, anew.ends);
        CHECK(known == anew);
    };
    for (unsigned n = 0; n < 40'000; n++) {
        const CodeMode mode = kModes[random() % 3];
        Bytes b = randomBytes(random);
        compare(b.span(), mode);
        InstructionLayout layout;
        if (!findLayout(b.span(), mode, layout)) continue;
        for (unsigned again = 0; again < 4; again++) {
            // Small ones, too: sign and zero extension are the same for them.
            const uint64_t wanted = random() >> random() % 64;
            for (unsigned k = 0; k < layout.dispBytes; k++) b.at[layout.dispAt + k] = uint8_t(random());
            for (unsigned k = 0; k < layout.immBytes; k++) b.at[layout.immAt + k] = uint8_t(wanted >> k * 8);
            compare(b.span(), mode);
            compare(b.span().first(random() % layout.length), mode);
        }
    }
}

TEST_CASE("a block that begins inside another takes over its instructions as they would be decoded") {
    const Decoder decoder(*kilnModel());
    Random random(9);
    unsigned within = 0;
    for (unsigned n = 0; n < 4000; n++) {
        const CodeMode mode = kModes[random() % 3];
        uint8_t code[600];
        for (size_t at = 0; at + 16 < sizeof code; at += 3)
            std::memcpy(code + at, randomBytes(random).at, 16);
        const std::span<const uint8_t> bytes(code, random() % 400 + 16);
        constexpr PhysAddr kStart(0x5000);
        const auto whole = decoder.decodeBlock(kStart, mode, bytes, false);
        for (unsigned k = 1; whole && k < whole->count; k++) {
            const uint16_t offset = whole->insns[k].offset;
            REQUIRE(whole->instructionAt(offset) == &whole->insns[k]);
            const auto rest = bytes.subspan(offset);
            const auto anew = decoder.decodeBlock(kStart + offset, mode, rest, false);
            const auto taken = decoder.decodeBlock(kStart + offset, mode, rest, false, whole.get());
            REQUIRE(taken->insns.size() == anew->insns.size());
            CHECK(taken->bytes == anew->bytes);
            CHECK(taken->count == anew->count);
            within += taken->count > 1;
            for (size_t i = 0; i < anew->insns.size(); i++)
                CHECK(std::memcmp(&taken->insns[i], &anew->insns[i], sizeof(Insn)) == 0);
        }
    }
    CHECK(within > 1000);
}

TEST_CASE("the layouts of common instructions are found") {
    const Decoder decoder(*kilnModel());
    Random random(8);
    unsigned instructions = 0, agreed = 0;
    for (unsigned n = 0; n < 100'000; n++) {
        const CodeMode mode = kModes[random() % 3];
        const Bytes b = randomBytes(random);
        ZydisDecodedInstruction z;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder.zydis(mode), b.at, 15, &z, operands))) continue;
        instructions++;
        InstructionLayout layout;
        agreed += findLayout(b.span(), mode, layout) && agrees(layout, z);
    }
    CHECK(agreed > instructions * 9 / 10);
    MESSAGE(agreed, " of ", instructions);
}
