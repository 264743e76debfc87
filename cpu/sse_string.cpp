// SSE4.2 string comparison: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM vol. 1, 12.11; vol. 2, 4.1).
// Memory operands need no alignment.
#include "cpu/simd.hpp"

namespace kiln {
namespace {

// The immediate: 0 words, 1 signed, 3..2 aggregation, 5..4 polarity, 6 last index or expanded mask.
enum Aggregation { EqualAny, Ranges, EqualEach, EqualOrdered };

struct Strings {
    std::array<int32_t, 16> a{}, b{};  // elements, sign- or zero-extended
    unsigned lanes = 0, lengthA = 0, lengthB = 0;
};

std::array<int32_t, 16> elements(const Xmm& v, uint8_t imm) {
    std::array<int32_t, 16> r{};
    for (unsigned n = 0; n < (imm & 1 ? 8u : 16u); n++) switch (imm & 3) {
            case 0: r[n] = v.get<uint8_t>(n); break;
            case 1: r[n] = v.get<uint16_t>(n); break;
            case 2: r[n] = v.get<int8_t>(n); break;
            case 3: r[n] = v.get<int16_t>(n); break;
        }
    return r;
}
unsigned implicitLength(const std::array<int32_t, 16>& e, unsigned lanes) {
    unsigned n = 0;
    while (n < lanes && e[n]) n++;
    return n;
}
// EAX or EDX (RAX, RDX with REX.W): the absolute value, at most all lanes.
unsigned explicitLength(uint64_t reg, bool wide, unsigned lanes) {
    int64_t v = wide ? int64_t(reg) : int32_t(reg);
    uint64_t magnitude = v < 0 ? 0 - uint64_t(v) : uint64_t(v);
    return unsigned(magnitude < lanes ? magnitude : lanes);
}

// IntRes1: bit j tells of element j of b. How invalid elements count differs by aggregation (SDM vol. 2,
// table 4-7).
uint32_t aggregate(const Strings& s, Aggregation how) {
    uint32_t r = 0;
    for (unsigned j = 0; j < s.lanes; j++) {
        bool hit = false;
        switch (how) {
            case EqualAny:
                for (unsigned i = 0; i < s.lengthA && j < s.lengthB; i++) hit |= s.a[i] == s.b[j];
                break;
            case Ranges:
                for (unsigned i = 0; i + 1 < s.lengthA && j < s.lengthB; i += 2)
                    hit |= s.a[i] <= s.b[j] && s.b[j] <= s.a[i + 1];
                break;
            case EqualEach: {
                bool validA = j < s.lengthA, validB = j < s.lengthB;
                hit = validA && validB ? s.a[j] == s.b[j] : validA == validB;
                break;
            }
            case EqualOrdered:
                hit = true;
                for (unsigned i = 0; i < s.lengthA && i + j < s.lanes; i++)
                    hit &= i + j < s.lengthB && s.a[i] == s.b[i + j];
                break;
        }
        r |= uint32_t(hit) << j;
    }
    return r;
}
uint32_t polarise(uint32_t r, const Strings& s, uint8_t imm) {
    uint32_t all = (1u << s.lanes) - 1;
    switch (imm >> 4 & 3) {
        case 1: return r ^ all;
        case 3: return r ^ ((1u << s.lengthB) - 1);  // valid elements of b only
        default: return r;
    }
}

Xmm maskOf(uint32_t r, uint8_t imm) {
    Xmm v;
    if (!(imm & 0x40))
        v.q[0] = r;
    else if (imm & 1)
        for (unsigned n = 0; n < 8; n++) v.set<uint16_t>(n, r >> n & 1 ? 0xffff : 0);
    else
        for (unsigned n = 0; n < 16; n++) v.set<uint8_t>(n, r >> n & 1 ? 0xff : 0);
    return v;
}
uint32_t indexOf(uint32_t r, uint8_t imm, unsigned lanes) {
    if (!r) return lanes;
    return imm & 0x40 ? 31 - unsigned(std::countl_zero(r)) : unsigned(std::countr_zero(r));
}

enum class Result { Index, Mask };

template <class E, bool explicitLengths, Result result, class Source>
void compareStrings(Cpu& c, const Insn& i) {
    E::check(c);
    auto imm = uint8_t(i.imm);
    Strings s;
    s.lanes = imm & 1 ? 8 : 16;
    s.b = elements(Source::template load<E>(c, i), imm);
    s.a = elements(getXmm(c, i.a), imm);
    if (explicitLengths) {
        bool wide = i.width == 3;
        s.lengthA = explicitLength(c.gpr[Rax], wide, s.lanes);
        s.lengthB = explicitLength(c.gpr[Rdx], wide, s.lanes);
    } else {
        s.lengthA = implicitLength(s.a, s.lanes);
        s.lengthB = implicitLength(s.b, s.lanes);
    }
    uint32_t r = polarise(aggregate(s, Aggregation(imm >> 2 & 3)), s, imm);

    if (result == Result::Index)
        c.gpr.set<uint32_t>(Rcx * 8, indexOf(r, imm, s.lanes));
    else
        E::set(c, 0, maskOf(r, imm));
    c.flags.setArithmetic((r ? flag::CF : 0) | (s.lengthB < s.lanes ? flag::ZF : 0) |
                          (s.lengthA < s.lanes ? flag::SF : 0) | (r & 1 ? flag::OF : 0));
}

template <bool explicitLengths, Result result>
Handler form(const Shape& s) {
    return byEncoding128(s, [&]<class E>() {
        return s.isMem(1) ? straight<compareStrings<E, explicitLengths, result, FromUnaligned>>
                          : straight<compareStrings<E, explicitLengths, result, FromReg>>;
    });
}

}  // namespace

std::span<const Row> sseStringRows() {
    static constexpr Row rows[] = {
        {ZYDIS_MNEMONIC_PCMPESTRI, form<true, Result::Index>, kVex},
        {ZYDIS_MNEMONIC_PCMPESTRM, form<true, Result::Mask>, kVex},
        {ZYDIS_MNEMONIC_PCMPISTRI, form<false, Result::Index>, kVex},
        {ZYDIS_MNEMONIC_PCMPISTRM, form<false, Result::Mask>, kVex},
    };
    return rows;
}

}  // namespace kiln
