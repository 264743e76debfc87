#include "cpu/instruction_layout.hpp"

#include <array>

namespace kiln {

namespace {

// What follows an opcode.
enum Form : uint8_t {
    kModrm = 1,
    kByte = 2,       // an immediate of one byte that belongs to the shape
    kAnyByte = 4,    // one that does not
    kWide = 6,       // of the operand size, at most 4 bytes
    kWhole = 8,      // of the operand size
    kWord = 10,      // of 2 bytes
    kTestByte = 12,  // ModRM.reg 0 or 1: kAnyByte, others: none
    kTestWide = 14,  // the same, kWide
    kNoShape = 16,
};
constexpr uint8_t kImmediate = 14;

using Map = std::array<uint8_t, 256>;

constexpr void set(Map& map, unsigned first, unsigned last, unsigned form) {
    for (unsigned n = first; n <= last; n++) map[n] = uint8_t(form);
}

constexpr Map oneByteMap() {
    Map m{};
    for (unsigned row = 0; row < 0x40; row += 8) {
        set(m, row, row + 3, kModrm);
        m[row + 4] = kAnyByte, m[row + 5] = kWide;
    }
    set(m, 0x62, 0x63, kModrm);
    m[0x68] = kWide, m[0x6a] = kAnyByte;
    m[0x69] = kModrm | kWide, m[0x6b] = kModrm | kAnyByte;
    set(m, 0x70, 0x7f, kAnyByte);
    set(m, 0x80, 0x8f, kModrm);
    m[0x80] = m[0x82] = m[0x83] = kModrm | kAnyByte;
    m[0x81] = kModrm | kWide;
    m[0x9a] = m[0xea] = kNoShape;
    set(m, 0xa0, 0xa3, kNoShape);
    m[0xa8] = kAnyByte, m[0xa9] = kWide;
    set(m, 0xb0, 0xb7, kAnyByte);
    set(m, 0xb8, 0xbf, kWhole);
    m[0xc0] = m[0xc1] = kModrm | kByte;
    m[0xc2] = m[0xca] = kWord;
    m[0xc4] = m[0xc5] = kModrm;
    m[0xc6] = kModrm | kAnyByte, m[0xc7] = kModrm | kWide;
    m[0xc8] = kNoShape;
    m[0xcd] = m[0xd4] = m[0xd5] = kByte;
    set(m, 0xd0, 0xd3, kModrm);
    set(m, 0xd8, 0xdf, kModrm);
    set(m, 0xe0, 0xe3, kAnyByte);
    set(m, 0xe4, 0xe7, kByte);
    m[0xe8] = m[0xe9] = kWide, m[0xeb] = kAnyByte;
    m[0xf6] = kModrm | kTestByte, m[0xf7] = kModrm | kTestWide;
    m[0xfe] = m[0xff] = kModrm;
    return m;
}

constexpr Map twoByteMap() {
    Map m{};
    set(m, 0, 255, kModrm);
    set(m, 0x04, 0x0c, 0);
    m[0x0d] = kModrm;
    set(m, 0x0e, 0x0f, kNoShape);
    set(m, 0x30, 0x37, 0);
    set(m, 0x70, 0x73, kModrm | kByte);
    m[0x77] = 0;
    m[0x78] = kNoShape;
    set(m, 0x80, 0x8f, kWide);
    set(m, 0xa0, 0xa2, 0);
    set(m, 0xa8, 0xaa, 0);
    m[0xa4] = m[0xac] = m[0xba] = m[0xc2] = m[0xc4] = m[0xc5] = m[0xc6] = kModrm | kByte;
    set(m, 0xc8, 0xcf, 0);
    return m;
}

constexpr Map kOneByte = oneByteMap(), kTwoByte = twoByteMap();

// Which bytes are prefixes (SDM vol. 2, 2.1.1), REX aside.
constexpr Map kPrefixes = [] {
    Map m{};
    for (const uint8_t byte : {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3}) m[byte] = 1;
    return m;
}();
constexpr bool isPrefix(uint8_t byte) { return kPrefixes[byte]; }

class Reader {
  public:
    Reader(std::span<const uint8_t> bytes, CodeMode mode, InstructionLayout& layout)
        : bytes_(bytes),
          layout_(layout),
          code64_(mode == CodeMode::Code64),
          wide_(mode != CodeMode::Code16),
          far_(wide_) {}

    bool run() {
        if (!prefixes() || !opcode() || form_ & kNoShape) return false;
        if (form_ & kModrm && !modrm()) return false;
        immediate();
        layout_.length = uint8_t(at_);
        return at_ <= bytes_.size() && at_ <= 15;
    }

  private:
    bool more() const { return at_ < bytes_.size(); }

    bool prefixes() {
        for (; more(); at_++) {
            if (!isPrefix(bytes_[at_])) return rex();
            operandPrefix_ |= bytes_[at_] == 0x66;
            addressPrefix_ |= bytes_[at_] == 0x67;
        }
        return false;
    }

    bool rex() {
        if (operandPrefix_) wide_ = !wide_;
        if (addressPrefix_) far_ = !far_ || code64_;
        if (!code64_ || (bytes_[at_] & 0xf0) != 0x40) return true;
        rexW_ = bytes_[at_++] & 8;
        return more() && !isPrefix(bytes_[at_]) && (bytes_[at_] & 0xf0) != 0x40;
    }

    // VEX and EVEX, which other modes tell by ModRM.mod = 3.
    bool isVector(unsigned size) const {
        return at_ + size < bytes_.size() && (code64_ || bytes_[at_ + 1] >= 0xc0);
    }

    bool opcode() {
        const uint8_t first = bytes_[at_];
        if (first == 0xc5 && isVector(2)) return inMap(1, 2, true);
        if (first == 0xc4 && isVector(3)) return inMap(bytes_[at_ + 1] & 31, 3, true);
        if (first == 0x62 && isVector(4)) {
            keepsAll_ = true;
            return inMap(bytes_[at_ + 1] & 7, 4, true);
        }
        if (first == 0x8f && at_ + 1 < bytes_.size() && (bytes_[at_ + 1] & 0x38)) return false;  // XOP
        if (first != 0x0f) return inMap(0, 0, false);
        if (at_ + 1 >= bytes_.size()) return false;
        if (bytes_[at_ + 1] == 0x38) return inMap(2, 2, false);
        if (bytes_[at_ + 1] == 0x3a) return inMap(3, 2, false);
        return inMap(1, 1, false);
    }

    bool inMap(unsigned map, unsigned skip, bool vector) {
        at_ += skip;
        if (!more()) return false;
        const uint8_t op = bytes_[at_++];
        switch (map) {
            case 0: form_ = kOneByte[op]; break;
            case 1: form_ = kTwoByte[op]; break;
            case 2:
            case 5:
            case 6: form_ = kModrm; break;
            case 3: form_ = kModrm | kByte; break;
            default: return false;
        }
        return map != 0 || !vector;
    }

    bool modrm() {
        if (!more()) return false;
        const uint8_t modrm = bytes_[at_++];
        reg_ = modrm >> 3 & 7;
        const unsigned mod = modrm >> 6, rm = modrm & 7;
        if (mod == 3) return true;
        unsigned bytes = mod == 1 ? 1 : mod == 2 ? (far_ ? 4 : 2) : 0;
        if (!far_) {
            if (mod == 0 && rm == 6) bytes = 2;
        } else if (rm == 4) {
            if (!more()) return false;
            if (mod == 0 && (bytes_[at_] & 7) == 5) bytes = 4;
            at_++;
        } else if (mod == 0 && rm == 5) {
            bytes = 4;
        }
        if (bytes && !keepsAll_) layout_.dispAt = uint8_t(at_), layout_.dispBytes = uint8_t(bytes);
        at_ += bytes;
        return true;
    }

    void immediate() {
        const unsigned wide = wide_ || rexW_ ? 4 : 2;
        unsigned bytes = 0;
        bool any = true;
        switch (form_ & kImmediate) {
            case kByte: bytes = 1, any = false; break;
            case kAnyByte: bytes = 1; break;
            case kWide: bytes = wide; break;
            case kWhole: bytes = rexW_ ? 8 : wide; break;
            case kWord: bytes = 2; break;
            case kTestByte: bytes = reg_ < 2; break;
            case kTestWide: bytes = reg_ < 2 ? wide : 0; break;
            default: break;
        }
        if (bytes && any && !keepsAll_) layout_.immAt = uint8_t(at_), layout_.immBytes = uint8_t(bytes);
        at_ += bytes;
    }

    std::span<const uint8_t> bytes_;
    InstructionLayout& layout_;
    const bool code64_;
    bool wide_, far_;  // operands, addresses of more than 16 bits
    bool operandPrefix_ = false, addressPrefix_ = false, rexW_ = false, keepsAll_ = false;
    unsigned at_ = 0, reg_ = 0;
    uint8_t form_ = 0;
};

// Ones in the bytes `at` to `at` + `bytes` - 1 of 16.
struct Mask {
    uint64_t low, high;
};
constexpr auto kBelow = [] {
    std::array<Mask, 17> all{};
    for (unsigned n = 0; n < 16; n++)
        all[n] = {n >= 8 ? ~0ull : (1ull << n * 8) - 1, n <= 8 ? 0 : (1ull << (n - 8) * 8) - 1};
    all[16] = {~0ull, ~0ull};
    return all;
}();
Mask maskOf(unsigned at, unsigned bytes) {
    const Mask &end = kBelow[at + bytes], &begin = kBelow[at];
    return {end.low & ~begin.low, end.high & ~begin.high};
}

}  // namespace

bool findLayout(std::span<const uint8_t> bytes, CodeMode mode, InstructionLayout& layout) {
    layout = {};
    return Reader(bytes, mode, layout).run();
}

ShapeKey shapeOf(const uint8_t* bytes, size_t readable, const InstructionLayout& layout, CodeMode mode) {
    uint64_t words[2] = {};
    if (readable >= sizeof words)
        std::memcpy(words, bytes, sizeof words);
    else
        std::memcpy(words, bytes, layout.length);
    const Mask whole = kBelow[layout.length], disp = maskOf(layout.dispAt, layout.dispBytes),
               imm = maskOf(layout.immAt, layout.immBytes);
    ShapeKey key;
    key.low = words[0] & whole.low & ~(disp.low | imm.low);
    key.high = words[1] & whole.high & ~(disp.high | imm.high);
    // No instruction has a sixteenth byte.
    key.high |= uint64_t(layout.length | (unsigned(mode) + 1) << 4) << 56;
    return key;
}

bool agrees(const InstructionLayout& layout, const ZydisDecodedInstruction& z) {
    if (z.length != layout.length) return false;
    if (layout.dispBytes ? z.raw.disp.offset != layout.dispAt || z.raw.disp.size != layout.dispBytes * 8
                         : z.raw.disp.size && z.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX)
        return false;
    if (z.raw.imm[1].size) return false;
    return !layout.immBytes ||
           (z.raw.imm[0].offset == layout.immAt && z.raw.imm[0].size == layout.immBytes * 8);
}

}  // namespace kiln
