#include "cpu/ieee_float.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "cpu/ieee_number.hpp"

namespace kiln {
namespace {

uint64_t squareRoot(U128 v) {  // rounded down
    uint64_t root = 0;
    U128 rest = 0;
    for (int n = 0; n < 64; n++) {
        rest = rest << 2 | (v >> 126);
        v <<= 2;
        U128 trial = (U128(root) << 2) | 1;
        root <<= 1;
        if (rest >= trial) {
            rest -= trial;
            root |= 1;
        }
    }
    return root;
}

}  // namespace

template <class Bits>
Bits Ieee::overflow(bool sign) {
    using F = Format<Bits>;
    raised |= mxcsr::OE;
    if (control_ & mxcsr::OM) raised |= mxcsr::PE;  // unmasked, see underflow
    RoundingMode mode = rounding();
    bool away = mode == RoundingMode::Nearest || mode == (sign ? RoundingMode::Down : RoundingMode::Up);
    return withSign(sign, away ? F::kInfinity : F::kLargest);
}

// significand * 2^(exponent - 63), bit 63 set, bit 0 sticky. Tininess is detected after rounding (SDM vol.
// 1, 4.9.1.5).
template <class Bits>
Bits Ieee::round(bool sign, int exponent, uint64_t significand) {
    using F = Format<Bits>;
    constexpr int drop = 63 - F::kFraction;
    constexpr uint64_t dropped = (1ull << drop) - 1;
    int biased = exponent + F::kBias;
    uint64_t kept = roundOff(significand, drop, rounding(), sign);
    bool carried = kept >> (F::kFraction + 1);

    if (biased + carried <= 0) {  // tiny
        bool masked = control_ & mxcsr::UM;
        if (masked && control_ & mxcsr::FTZ) {
            raised |= mxcsr::UE | mxcsr::PE;
            return withSign(sign, Bits(0));
        }
        // Unmasked, exactness is that of the result with an unbounded exponent, which a handler would want.
        if (!masked) raised |= mxcsr::UE | (significand & dropped ? mxcsr::PE : 0);
        significand = shiftRightSticky(significand, 1 - biased);
        if (masked && significand & dropped) raised |= mxcsr::UE | mxcsr::PE;
        return withSign(sign, Bits(roundOff(significand, drop, rounding(), sign)));
    }
    if (significand & dropped) raised |= mxcsr::PE;
    if (carried) {
        kept >>= 1;
        biased++;
    }
    if (biased > 2 * F::kBias) return overflow<Bits>(sign);
    return withSign(sign, Bits((Bits(biased) << F::kFraction) + Bits(kept & (F::kMinNormal - 1))));
}

// significand * 2^(exponent - 127), not zero.
template <class Bits>
Bits Ieee::roundWide(bool sign, int exponent, unsigned __int128 significand) {
    auto top = uint64_t(significand >> 64);
    int shift = top ? std::countl_zero(top) : 64 + std::countl_zero(uint64_t(significand));
    significand <<= shift;
    return round<Bits>(sign, exponent - shift,
                       uint64_t(significand >> 64) | uint64_t(uint64_t(significand) != 0));
}

// -- arithmetic

template <class Bits>
Bits Ieee::sum(Bits a, Bits b, Bits flipB) {
    using F = Format<Bits>;
    a = flushDenormal(a);
    b = flushDenormal(b);
    if (isNan(a) || isNan(b)) return propagateNan(a, b);
    b ^= flipB;
    if (magnitude(a) == F::kInfinity && magnitude(b) == F::kInfinity && a != b) return invalid<Bits>();
    noteDenormals(a, b);
    if (magnitude(a) == F::kInfinity) return a;
    if (magnitude(b) == F::kInfinity) return b;
    bool down = rounding() == RoundingMode::Down;
    if (magnitude(a) == 0 && magnitude(b) == 0) return a == b ? a : withSign(down, Bits(0));
    if (magnitude(a) == 0 || magnitude(b) == 0) {
        Number n(magnitude(a) ? a : b);
        return round<Bits>(n.sign, n.exponent, n.significand);
    }

    Number x(a), y(b);
    if (x.exponent < y.exponent || (x.exponent == y.exponent && x.significand < y.significand))
        std::swap(x, y);
    // Two bits of room above, 63 below.
    U128 high = U128(x.significand) << 62;
    U128 low = shiftRightSticky(U128(y.significand) << 62, x.exponent - y.exponent);
    U128 total = x.sign == y.sign ? high + low : high - low;
    if (total == 0) return withSign(down, Bits(0));
    return roundWide<Bits>(x.sign, x.exponent + 2, total);
}
template <class Bits>
Bits Ieee::add(Bits a, Bits b) {
    return sum<Bits>(a, b, 0);
}
template <class Bits>
Bits Ieee::sub(Bits a, Bits b) {
    return sum<Bits>(a, b, Format<Bits>::kSign);
}

template <class Bits>
Bits Ieee::mul(Bits a, Bits b) {
    using F = Format<Bits>;
    a = flushDenormal(a);
    b = flushDenormal(b);
    if (isNan(a) || isNan(b)) return propagateNan(a, b);
    bool sign = negative<Bits>(a ^ b);
    bool infinite = magnitude(a) == F::kInfinity || magnitude(b) == F::kInfinity;
    bool zero = magnitude(a) == 0 || magnitude(b) == 0;
    if (infinite && zero) return invalid<Bits>();
    noteDenormals(a, b);
    if (infinite) return withSign(sign, F::kInfinity);
    if (zero) return withSign(sign, Bits(0));

    Number x(a), y(b);
    U128 product = U128(x.significand) * y.significand;
    int exponent = x.exponent + y.exponent + 1;
    if (!(product >> 127)) {
        product <<= 1;
        exponent--;
    }
    return round<Bits>(sign, exponent, uint64_t(product >> 64) | uint64_t(uint64_t(product) != 0));
}

template <class Bits>
Bits Ieee::div(Bits a, Bits b) {
    using F = Format<Bits>;
    a = flushDenormal(a);
    b = flushDenormal(b);
    if (isNan(a) || isNan(b)) return propagateNan(a, b);
    bool sign = negative<Bits>(a ^ b);
    bool infinite = magnitude(a) == F::kInfinity, zero = magnitude(a) == 0;
    if ((infinite && magnitude(b) == F::kInfinity) || (zero && magnitude(b) == 0)) return invalid<Bits>();
    if (magnitude(b) == 0 && !infinite) {
        raised |= mxcsr::ZE;
        return withSign(sign, F::kInfinity);
    }
    noteDenormals(a, b);
    if (infinite) return withSign(sign, F::kInfinity);
    if (zero || magnitude(b) == F::kInfinity) return withSign(sign, Bits(0));

    Number x(a), y(b);
    int exponent = x.exponent - y.exponent;
    U128 dividend = U128(x.significand) << 63;
    if (x.significand < y.significand) {
        dividend <<= 1;
        exponent--;
    }
    auto quotient = uint64_t(dividend / y.significand);
    bool rest = U128(quotient) * y.significand != dividend;
    return round<Bits>(sign, exponent, quotient | uint64_t(rest));
}

template <class Bits>
Bits Ieee::mulAdd(Bits x, Bits y, Bits z, bool negateProduct, bool negateAddend) {
    using F = Format<Bits>;
    x = flushDenormal(x);
    y = flushDenormal(y);
    z = flushDenormal(z);
    if (isNan(x) || isNan(y) || isNan(z)) {
        if (isSignalling(z)) raised |= mxcsr::IE;
        return propagateNan(x, isNan(x) || isNan(y) ? y : z);
    }
    const bool infinite = magnitude(x) == F::kInfinity || magnitude(y) == F::kInfinity;
    const bool zero = magnitude(x) == 0 || magnitude(y) == 0;
    const bool sign = negative<Bits>(x ^ y) != negateProduct;
    if (negateAddend) z ^= F::kSign;
    if (infinite && (zero || (magnitude(z) == F::kInfinity && negative(z) != sign))) return invalid<Bits>();
    noteDenormals(x, y);
    noteDenormals(z, z);
    if (infinite) return withSign(sign, F::kInfinity);
    if (magnitude(z) == F::kInfinity) return z;
    const bool down = rounding() == RoundingMode::Down;
    if (zero) {
        if (magnitude(z) == 0) return withSign(sign == negative(z) ? sign : down, Bits(0));
        Number n(z);
        return round<Bits>(n.sign, n.exponent, n.significand);
    }

    // A bit of room above; below are zeros enough that no shift before a long cancellation loses anything.
    Number a(x), b(y);
    U128 product = U128(a.significand) * b.significand >> 1;
    int exponent = a.exponent + b.exponent + 2;
    if (magnitude(z) != 0) {
        Number n(z);
        U128 addend = U128(n.significand) << 62;
        int above = exponent - (n.exponent + 2);
        if (above < 0) {
            product = shiftRightSticky(product, -above);
            exponent = n.exponent + 2;
        } else {
            addend = shiftRightSticky(addend, above);
        }
        if (n.sign == sign) {
            product += addend;
        } else if (product >= addend) {
            product -= addend;
        } else {
            product = addend - product;
            return roundWide<Bits>(n.sign, exponent, product);
        }
        if (product == 0) return withSign(down, Bits(0));
    }
    return roundWide<Bits>(sign, exponent, product);
}

template <class Bits>
Bits Ieee::sqrt(Bits v) {
    v = flushDenormal(v);
    if (isNan(v)) return propagateNan(v, v);
    if (magnitude(v) == 0) return v;
    if (negative(v)) return invalid<Bits>();
    noteDenormals(v, v);
    if (v == Format<Bits>::kInfinity) return v;
    Number x(v);
    bool odd = x.exponent & 1;
    U128 radicand = U128(x.significand) << (odd ? 64 : 63);
    uint64_t root = squareRoot(radicand);
    bool rest = U128(root) * root != radicand;
    return round<Bits>(false, (x.exponent - odd) / 2, root | uint64_t(rest));
}

// -- comparison

template <class Bits>
Order Ieee::compare(Bits a, Bits b, bool signalQuiet) {
    a = flushDenormal(a);
    b = flushDenormal(b);
    if (isNan(a) || isNan(b)) {
        if (signalQuiet || isSignalling(a) || isSignalling(b)) raised |= mxcsr::IE;
        return Order::Unordered;
    }
    noteDenormals(a, b);
    if (a == b || (magnitude(a) == 0 && magnitude(b) == 0)) return Order::Equal;
    bool less = negative(a) != negative(b) ? negative(a) : (a < b) != negative(a);
    return less ? Order::Less : Order::Greater;
}
template <class Bits>
Bits Ieee::min(Bits a, Bits b) {
    Order o = compare(a, b, true);
    return flushDenormal(o == Order::Less ? a : b);
}
template <class Bits>
Bits Ieee::max(Bits a, Bits b) {
    Order o = compare(a, b, true);
    return flushDenormal(o == Order::Greater ? a : b);
}

// -- conversion

template <class Bits>
Bits Ieee::roundToIntegral(Bits v, RoundingMode mode, bool reportInexact) {
    using F = Format<Bits>;
    v = flushDenormal(v);
    if (isNan(v)) return propagateNan(v, v);
    int exponent = int(magnitude(v) >> F::kFraction) - F::kBias;
    if (magnitude(v) == 0 || exponent >= F::kFraction) return v;
    Number x(v);
    // Aligned to an integer with one bit for the halves and one sticky bit below it.
    uint64_t scaled = x.exponent < -2 ? 1 : shiftRightSticky(x.significand, 61 - x.exponent);
    uint64_t integer = roundOff(scaled, 2, mode, x.sign);
    if (scaled & 3 && reportInexact) raised |= mxcsr::PE;
    if (integer == 0) return withSign(x.sign, Bits(0));
    int shift = std::countl_zero(integer);
    auto biased = Bits(63 - shift + F::kBias);
    auto fraction = Bits(integer << shift >> (63 - F::kFraction)) & (F::kMinNormal - 1);
    return withSign(x.sign, Bits(biased << F::kFraction | fraction));
}

template <class To, class From>
To Ieee::resize(From v) {
    constexpr int less = Format<From>::kFraction - Format<To>::kFraction;
    v = flushDenormal(v);
    bool sign = negative(v);
    if (isNan(v)) {
        propagateNan(v, v);
        uint64_t payload = v & (Format<From>::kMinNormal - 1);
        payload = less > 0 ? payload >> (less > 0 ? less : 0) : payload << (less < 0 ? -less : 0);
        return withSign(sign, To(payload | Format<To>::kInfinity | Format<To>::kQuiet));
    }
    noteDenormals(v, v);
    if (magnitude(v) == 0) return withSign(sign, To(0));
    if (magnitude(v) == Format<From>::kInfinity) return withSign(sign, Format<To>::kInfinity);
    Number x(v);
    return round<To>(sign, x.exponent, x.significand);
}

template <class Bits>
Bits Ieee::fromInteger(int64_t v) {
    if (v == 0) return 0;
    uint64_t absolute = v < 0 ? 0 - uint64_t(v) : uint64_t(v);
    int shift = std::countl_zero(absolute);
    return round<Bits>(v < 0, 63 - shift, absolute << shift);
}

template <class Bits>
Bits Ieee::fromUnsigned(uint64_t v) {
    if (v == 0) return 0;
    int shift = std::countl_zero(v);
    return round<Bits>(false, 63 - shift, v << shift);
}

template <class Int, class Bits>
Int Ieee::toInteger(Bits v, RoundingMode mode) {
    constexpr bool hasSign = std::numeric_limits<Int>::is_signed;
    constexpr Int indefinite = hasSign ? std::numeric_limits<Int>::min() : std::numeric_limits<Int>::max();
    v = flushDenormal(v);
    if (magnitude(v) == 0) return 0;
    int exponent = int(magnitude(v) >> Format<Bits>::kFraction) - Format<Bits>::kBias;
    if (exponent >= int(8 * sizeof(Int))) {  // infinities and NaNs too
        raised |= mxcsr::IE;
        return indefinite;
    }
    Number x(v);
    uint64_t integer;
    bool inexact = false;
    if (exponent >= 62) {  // no fraction left in either format
        integer = x.significand >> (63 - exponent);
    } else {
        uint64_t scaled = x.exponent < -2 ? 1 : shiftRightSticky(x.significand, 61 - x.exponent);
        integer = roundOff(scaled, 2, mode, x.sign);
        inexact = scaled & 3;
    }
    const uint64_t most = hasSign  ? uint64_t(std::numeric_limits<Int>::max()) + x.sign
                          : x.sign ? 0
                                   : uint64_t(std::numeric_limits<Int>::max());
    if (integer > most) {
        raised |= mxcsr::IE;
        return indefinite;
    }
    if (inexact) raised |= mxcsr::PE;
    return Int(x.sign ? 0 - integer : integer);
}

// -- approximations

uint32_t approximateReciprocal(uint32_t v) {
    using F = Format<uint32_t>;
    if (isNan(v)) return v | F::kQuiet;
    uint32_t sign = v & F::kSign;
    int biased = int(magnitude(v) >> F::kFraction);
    if (biased == 0) return sign | F::kInfinity;
    if (biased == 255) return sign;
    double middle = 1 + double(2 * (v >> 12 & 0x7ff) + 1) / 4096;
    auto fraction = uint32_t(8192 / middle + 0.5);  // 4096..8191: 1 / middle is below 1
    int exponent = 253 - biased;
    if (exponent <= 0) return sign;  // results too small are flushed to zero
    return sign | uint32_t(exponent) << F::kFraction | (fraction & 0xfff) << 11;
}

uint32_t approximateReciprocalSqrt(uint32_t v) {
    using F = Format<uint32_t>;
    if (isNan(v)) return v | F::kQuiet;
    uint32_t sign = v & F::kSign;
    int exponent = int(magnitude(v) >> F::kFraction) - F::kBias;
    if (exponent == -F::kBias) return sign | F::kInfinity;
    if (sign) return F::kIndefinite;
    if (exponent > F::kBias) return 0;
    double middle = 1 + double(2 * (v >> 13 & 0x3ff) + 1) / 2048;
    bool odd = exponent & 1;
    // v = 2^(even exponent) * middle or middle / 2: the root's reciprocal lies in 0.7..1 or in 1..1.41.
    double root = odd ? std::sqrt(middle / 2) : std::sqrt(middle);
    auto fraction = uint32_t((odd ? 4096 : 8192) / root + 0.5);
    int result = F::kBias - (odd ? (exponent + 1) / 2 : exponent / 2 + 1);
    return uint32_t(result) << F::kFraction | (fraction & 0xfff) << 11;
}

#define KILN_IEEE(Bits)                                              \
    template Bits Ieee::add(Bits, Bits);                             \
    template Bits Ieee::sub(Bits, Bits);                             \
    template Bits Ieee::mul(Bits, Bits);                             \
    template Bits Ieee::div(Bits, Bits);                             \
    template Bits Ieee::mulAdd(Bits, Bits, Bits, bool, bool);        \
    template Bits Ieee::sqrt(Bits);                                  \
    template Bits Ieee::min(Bits, Bits);                             \
    template Bits Ieee::max(Bits, Bits);                             \
    template Order Ieee::compare(Bits, Bits, bool);                  \
    template Bits Ieee::roundToIntegral(Bits, RoundingMode, bool);   \
    template Bits Ieee::fromInteger<Bits>(int64_t);                  \
    template Bits Ieee::fromUnsigned<Bits>(uint64_t);                \
    template int32_t Ieee::toInteger<int32_t>(Bits, RoundingMode);   \
    template int64_t Ieee::toInteger<int64_t>(Bits, RoundingMode);   \
    template uint32_t Ieee::toInteger<uint32_t>(Bits, RoundingMode); \
    template uint64_t Ieee::toInteger<uint64_t>(Bits, RoundingMode); \
    template Bits Ieee::round(bool, int, uint64_t);
KILN_IEEE(uint32_t)
KILN_IEEE(uint64_t)
#undef KILN_IEEE
template uint64_t Ieee::resize<uint64_t, uint32_t>(uint32_t);
template uint32_t Ieee::resize<uint32_t, uint64_t>(uint64_t);
template uint32_t Ieee::resize<uint32_t, uint16_t>(uint16_t);
template uint16_t Ieee::resize<uint16_t, uint32_t>(uint32_t);

}  // namespace kiln
