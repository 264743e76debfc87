// What the operations of Ieee are made of: numbers taken apart, rounding of significands, NaNs and denormals.
#pragma once
#include <bit>

#include "cpu/ieee_float.hpp"

namespace kiln {

__extension__ using U128 = unsigned __int128;

// Shifts right; bits that fall out leave a trace in bit 0, which is all that rounding needs to know of them.
template <class Wide>
Wide shiftRightSticky(Wide v, int count) {
    if (count == 0) return v;
    if (count >= int(8 * sizeof v)) return v != 0;
    return v >> count | Wide((v & ((Wide(1) << count) - 1)) != 0);
}

// v without its lowest `drop` bits (1..63), rounded.
inline uint64_t roundOff(uint64_t v, int drop, RoundingMode mode, bool sign) {
    uint64_t kept = v >> drop, rest = v & ((1ull << drop) - 1), half = 1ull << (drop - 1);
    bool up = false;
    switch (mode) {
        case RoundingMode::Nearest: up = rest > half || (rest == half && kept & 1); break;
        case RoundingMode::Down: up = sign && rest; break;
        case RoundingMode::Up: up = !sign && rest; break;
        case RoundingMode::Truncate: break;
    }
    return kept + up;
}

template <class Bits>
bool negative(Bits v) {
    return v & Format<Bits>::kSign;
}
template <class Bits>
Bits withSign(bool sign, Bits v) {
    return sign ? Bits(v | Format<Bits>::kSign) : v;
}

// significand * 2^(exponent - 63), with bit 63 of the significand set.
struct Ieee::Number {
    bool sign;
    int exponent;
    uint64_t significand;

    template <class Bits>
    explicit Number(Bits v) : sign(negative(v)) {
        using F = Format<Bits>;
        int biased = int(magnitude(v) >> F::kFraction);
        uint64_t fraction = v & (F::kMinNormal - 1);
        if (biased)
            fraction |= F::kMinNormal;
        else
            biased = 1;
        int shift = std::countl_zero(fraction);
        significand = fraction << shift;
        exponent = biased - F::kBias + (63 - F::kFraction) - shift;
    }
};

// -- what most operations share

template <class Bits>
Bits Ieee::flushDenormal(Bits v) const {
    return control_ & mxcsr::DAZ && isDenormal(v) ? Bits(v & Format<Bits>::kSign) : v;
}
template <class Bits>
void Ieee::noteDenormals(Bits a, Bits b) {
    if (isDenormal(a) || isDenormal(b)) raised |= mxcsr::DE;
}
template <class Bits>
Bits Ieee::invalid() {
    raised |= mxcsr::IE;
    return Format<Bits>::kIndefinite;
}
// The first operand if it is a NaN, else the second, made quiet (SDM vol. 1, table 4-7).
template <class Bits>
Bits Ieee::propagateNan(Bits a, Bits b) {
    if (isSignalling(a) || isSignalling(b)) raised |= mxcsr::IE;
    return (isNan(a) ? a : b) | Format<Bits>::kQuiet;
}

}  // namespace kiln
