// The operations that came with AVX-512 (SDM vol. 2, VGETEXP, VGETMANT, VSCALEF, VRNDSCALE, VREDUCE, VRANGE;
// vol. 2C, tables of special cases there).
#include <utility>

#include "cpu/ieee_number.hpp"

namespace kiln {

template <class Bits>
Bits Ieee::exponentOf(Bits v) {
    using F = Format<Bits>;
    if (isNan(v)) return propagateNan(v, v);
    v = magnitude(flushDenormal(v));
    if (v == F::kInfinity) return v;
    if (v == 0) return F::kSign | F::kInfinity;
    noteDenormals(v, v);
    return fromInteger<Bits>(Number(v).exponent);
}

template <class Bits>
Bits Ieee::significandOf(Bits v, unsigned interval, unsigned signs) {
    using F = Format<Bits>;
    if (isNan(v)) return propagateNan(v, v);
    v = flushDenormal(v);
    const bool sign = negative(v) && !(signs & 1);
    constexpr Bits one = Bits(F::kBias) << F::kFraction;
    if (magnitude(v) == 0) return withSign(sign, one);
    if (negative(v) && signs & 2) return invalid<Bits>();
    if (magnitude(v) == F::kInfinity) return withSign(sign, one);
    noteDenormals(v, v);
    const Number x(v);
    const Bits fraction = Bits(x.significand << 1 >> (64 - F::kFraction));
    bool half = false;  // 1/2..1 instead of 1..2
    switch (interval) {
        case 0: break;
        case 1: half = x.exponent & 1; break;
        case 2: half = true; break;
        default: half = fraction >> (F::kFraction - 1); break;
    }
    return withSign(sign, Bits((one - (half ? F::kMinNormal : 0)) | fraction));
}

template <class Bits>
Bits Ieee::scale(Bits v, Bits by) {
    using F = Format<Bits>;
    v = flushDenormal(v);
    by = flushDenormal(by);
    const bool sign = negative(v), byInfinity = magnitude(by) == F::kInfinity;
    if (isNan(v) && !isSignalling(v) && byInfinity) return negative(by) ? 0 : F::kInfinity;
    if (isNan(v) || isNan(by)) return propagateNan(v, by);
    if (byInfinity) {
        if (magnitude(v) == (negative(by) ? F::kInfinity : 0)) return invalid<Bits>();
        noteDenormals(v, v);
        return withSign(sign, negative(by) ? Bits(0) : F::kInfinity);
    }
    noteDenormals(v, v);
    if (magnitude(v) == 0 || magnitude(v) == F::kInfinity) return v;
    int power = 0;
    if (magnitude(by)) {
        const Number n(by);
        constexpr int most = 4 * F::kBias;  // beyond every exponent
        if (n.exponent < 0) {
            power = n.sign ? -1 : 0;
        } else if (n.exponent > 14) {
            power = n.sign ? -most : most;
        } else {
            power = int(n.significand >> (63 - n.exponent));
            const bool fraction = n.significand << 1 << n.exponent;
            if (n.sign) power = -power - fraction;
            power = power > most ? most : power < -most ? -most : power;
        }
    }
    const Number x(v);
    return round<Bits>(sign, x.exponent + power, x.significand);
}

template <class Bits>
Bits Ieee::roundToPlaces(Bits v, unsigned places, RoundingMode mode, bool reportInexact) {
    using F = Format<Bits>;
    v = flushDenormal(v);
    if (isNan(v)) return propagateNan(v, v);
    if (magnitude(v) == 0 || magnitude(v) == F::kInfinity) return v;
    const Number x(v);
    const int exponent = x.exponent + int(places);
    if (exponent >= F::kFraction) return v;
    // Aligned to an integer with one bit for the halves and one sticky bit below it.
    const uint64_t scaled = exponent < -2 ? 1 : shiftRightSticky(x.significand, 61 - exponent);
    const uint64_t integer = roundOff(scaled, 2, mode, x.sign);
    if (scaled & 3 && reportInexact) raised |= mxcsr::PE;
    if (integer == 0) return withSign(x.sign, Bits(0));
    const int shift = std::countl_zero(integer);
    const auto biased = Bits(63 - shift + F::kBias - int(places));
    const auto fraction = Bits(integer << shift >> (63 - F::kFraction)) & (F::kMinNormal - 1);
    return withSign(x.sign, Bits(biased << F::kFraction | fraction));
}

template <class Bits>
Bits Ieee::reduce(Bits v, unsigned places, RoundingMode mode, bool reportInexact) {
    if (isNan(v)) return propagateNan(v, v);
    if (magnitude(v) == Format<Bits>::kInfinity) return 0;
    const Bits whole = roundToPlaces(v, places, mode, false);
    Ieee difference((control_ & ~mxcsr::Rounding) | mxcsr::Masks | uint32_t(mode) << mxcsr::kRoundingShift);
    const Bits r = difference.sub(v, whole);
    if (reportInexact) raised |= difference.raised & mxcsr::PE;
    return r;
}

template <class Bits>
Bits Ieee::range(Bits a, Bits b, unsigned imm) {
    using F = Format<Bits>;
    if (isSignalling(a)) return propagateNan(a, a);
    if (isSignalling(b)) return propagateNan(b, b);
    a = flushDenormal(a);
    b = flushDenormal(b);
    const bool absolute = imm & 2, maximum = imm & 1;
    Bits chosen;
    if (isNan(a) || isNan(b)) {
        chosen = isNan(a) && !isNan(b) ? b : a;
    } else {
        noteDenormals(a, b);
        // By magnitude first, then as numbers: so -0 is below +0, and -1 below +1.
        auto key = [](Bits v) { return negative(v) ? Bits(~v) : Bits(v | F::kSign); };
        bool less = absolute && magnitude(a) != magnitude(b) ? magnitude(a) < magnitude(b) : key(a) < key(b);
        chosen = less != maximum ? a : b;
    }
    switch (imm >> 2 & 3) {
        case 0: return withSign(negative(a), magnitude(chosen));
        case 1: return chosen;
        case 2: return magnitude(chosen);
        default: return chosen | F::kSign;
    }
}

// -- approximations: 1/x on 64 segments of 1..2, 1/sqrt(x) on 64 of 1..4. Each is a straight line: the
// result's 16 bits of fraction are start / 4 - slope * distance / 512, where `distance` counts within the
// segment.
namespace {

struct Segment {
    uint32_t start, slope;
};
constexpr Segment kReciprocals[64] = {
    {262130, 1009}, {254060, 977}, {246244, 949}, {238656, 921}, {231286, 893}, {224142, 869}, {217190, 843},
    {210444, 821},  {203876, 797}, {197496, 777}, {191280, 755}, {185236, 735}, {179352, 717}, {173622, 699},
    {168034, 681},  {162584, 663}, {157278, 647}, {152098, 631}, {147052, 617}, {142118, 601}, {137306, 587},
    {132606, 573},  {128020, 561}, {123530, 547}, {119148, 535}, {114864, 523}, {110682, 513}, {106580, 501},
    {102574, 491},  {98650, 479},  {94812, 469},  {91054, 459},  {87380, 451},  {83774, 441},  {80248, 433},
    {76784, 423},   {73396, 415},  {70074, 407},  {66816, 399},  {63622, 391},  {60496, 385},  {57418, 377},
    {54402, 369},   {51446, 363},  {48546, 357},  {45690, 349},  {42892, 343},  {40144, 337},  {37446, 331},
    {34794, 325},   {32188, 319},  {29636, 315},  {27116, 309},  {24642, 303},  {22216, 299},  {19822, 293},
    {17476, 289},   {15166, 285},  {12890, 279},  {10662, 275},  {8466, 271},   {6302, 267},   {4170, 263},
    {2070, 259},
};
// The first 32 for 1..2, the others for 2..4.
constexpr Segment kRoots[64] = {
    {262121, 1001}, {254113, 955}, {246469, 915}, {239154, 877}, {232142, 841}, {225415, 807}, {218957, 775},
    {212753, 747},  {206778, 719}, {201025, 693}, {195479, 669}, {190132, 647}, {184962, 625}, {179962, 603},
    {175135, 585},  {170459, 567}, {165927, 549}, {161539, 533}, {157279, 517}, {153144, 501}, {149133, 487},
    {145235, 473},  {141448, 461}, {137763, 449}, {134175, 437}, {130683, 425}, {127286, 415}, {123966, 403},
    {120735, 393},  {117590, 385}, {114511, 375}, {111514, 367}, {108565, 707}, {102905, 675}, {97500, 647},
    {92324, 619},   {87372, 595},  {82615, 571},  {78049, 549},  {73657, 527},  {69437, 509},  {65371, 491},
    {61445, 473},   {57661, 457},  {54005, 441},  {50474, 427},  {47057, 413},  {43755, 401},  {40551, 389},
    {37443, 377},   {34431, 365},  {31513, 355},  {28675, 345},  {25918, 335},  {23236, 325},  {20632, 317},
    {18098, 309},   {15629, 301},  {13223, 293},  {10878, 285},  {8597, 279},   {6365, 271},   {4192, 265},
    {2070, 259},
};
uint64_t line(const Segment& s, unsigned distance) { return (s.start * 128 - s.slope * distance) >> 9; }

// Of a finite number that is not zero: its exponent, and its fraction at the top of 64 bits.
template <class Bits>
std::pair<int, uint64_t> parts(Bits v) {
    using F = Format<Bits>;
    int biased = int(magnitude(v) >> F::kFraction);
    uint64_t fraction = uint64_t(v & (F::kMinNormal - 1)) << (64 - F::kFraction);
    if (biased) return {biased - F::kBias, fraction};
    const int shift = std::countl_zero(fraction) + 1;
    return {1 - F::kBias - shift, shift < 64 ? fraction << shift : 0};
}
template <class Bits>
Bits special(Bits v, uint32_t control) {  // a denormal that counts as zero
    return control & mxcsr::DAZ && isDenormal(v) ? Bits(v & Format<Bits>::kSign) : v;
}

}  // namespace

template <class Bits>
Bits reciprocal14(Bits v, uint32_t control) {
    using F = Format<Bits>;
    if (isNan(v)) return v | F::kQuiet;
    v = special(v, control);
    const bool sign = negative(v);
    if (magnitude(v) == 0) return withSign(sign, F::kInfinity);
    if (magnitude(v) == F::kInfinity) return withSign(sign, Bits(0));
    const auto [exponent, fraction] = parts(v);
    const bool exact = fraction == 0;
    const auto top = unsigned(fraction >> 48);
    const int biased = F::kBias - exponent - !exact;
    const uint64_t result = exact ? 0 : line(kReciprocals[top >> 10], top & 0x3ff);
    if (biased > 2 * F::kBias) return withSign(sign, F::kInfinity);
    if (biased > 0)
        return withSign(sign, Bits(Bits(biased) << F::kFraction | Bits(result) << (F::kFraction - 16)));
    if (control & mxcsr::FTZ) return withSign(sign, Bits(0));
    const Bits full = F::kMinNormal | Bits(result) << (F::kFraction - 16);
    return withSign(sign, Bits(full >> (1 - biased)));
}

template <class Bits>
Bits reciprocalSqrt14(Bits v, uint32_t control) {
    using F = Format<Bits>;
    if (isNan(v)) return v | F::kQuiet;
    v = special(v, control);
    if (magnitude(v) == 0) return withSign(negative(v), F::kInfinity);
    if (negative(v)) return F::kIndefinite;
    if (v == F::kInfinity) return 0;
    const auto [exponent, fraction] = parts(v);
    const bool odd = exponent & 1;
    if (fraction == 0 && !odd) return Bits(F::kBias - exponent / 2) << F::kFraction;
    const auto top = unsigned(fraction >> 49);  // 15 bits
    const uint64_t result = line(kRoots[32 * odd + (top >> 10)], top & 0x3ff);
    return Bits(F::kBias - 1 - (exponent - odd) / 2) << F::kFraction | Bits(result) << (F::kFraction - 16);
}

#define KILN_IEEE(Bits)                                                    \
    template Bits Ieee::exponentOf(Bits);                                  \
    template Bits Ieee::significandOf(Bits, unsigned, unsigned);           \
    template Bits Ieee::scale(Bits, Bits);                                 \
    template Bits Ieee::roundToPlaces(Bits, unsigned, RoundingMode, bool); \
    template Bits Ieee::reduce(Bits, unsigned, RoundingMode, bool);        \
    template Bits Ieee::range(Bits, Bits, unsigned);                       \
    template Bits reciprocal14(Bits, uint32_t);                            \
    template Bits reciprocalSqrt14(Bits, uint32_t);
KILN_IEEE(uint32_t)
KILN_IEEE(uint64_t)
#undef KILN_IEEE

}  // namespace kiln
