// The rounding arithmetic of the x87 FPU: SDM vol. 1, 4.8 (formats, rounding), 4.9 and 8.5 (exceptions).
#include "cpu/float80.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace kiln::float80 {

namespace {

constexpr int kWrap =
    24576;  // added to or taken from the exponent by the unmasked underflow and overflow responses

unsigned precisionOf(const Context& c) {
    static constexpr uint8_t kBits[4] = {24, 64, 53, 64};  // 1 is reserved and behaves as 64 bits
    return kBits[c.control >> 8 & 3];
}

// Both normal, finite and from such formats: the one test in front of the fast paths.
bool bothNormal(const Context& c, Float80 a, Float80 b) {
    auto normal = [](Float80 x) { return unsigned(exponent(x) - 1) < 0x7ffe; };
    return normal(a) && normal(b) && (a.mantissa & b.mantissa & kIntegerBit) && !c.denormalOperand;
}

u128 shiftRightSticky(u128 v, unsigned n) {
    if (n == 0) return v;
    if (n >= 128) return v != 0;
    return v >> n | u128((v << (128 - n)) != 0);
}

unsigned leadingZeros(u128 v) {
    uint64_t high = uint64_t(v >> 64);
    return unsigned(high ? std::countl_zero(high) : 64 + std::countl_zero(uint64_t(v)));
}

Float80 overflowed(Context& c, bool sign, unsigned precision) {
    c.note(kOverflow | kPrecision);
    Rounding r = c.rounding();
    bool toInfinity = r == Rounding::Nearest || r == (sign ? Rounding::Down : Rounding::Up);
    if (!toInfinity) return pack(sign, kMaxExponent - 1, ~0ull << (64 - precision));
    c.note(kC1);
    return infinity(sign);
}

// Rounds at any precision and exponent; everything round() has no short way for.
Float80 roundSlow(Context& c, bool sign, int exponent, uint64_t significand, uint64_t rest,
                  unsigned precision) {
    unsigned drop = 64 - precision;
    Rounding mode = c.rounding();
    u128 v = u128(significand) << 64 | rest;
    // Tininess is judged after rounding with an unbounded exponent: only a carry out of the top bit leaves
    // it.
    bool tiny = exponent < 0;
    if (exponent == 0) {
        uint64_t kept = significand >> drop;
        u128 cut = v << precision;
        bool up = roundsUp(mode, sign, kept & 1, cut >> 127, (cut << 1) != 0);
        tiny = !(up && kept == ~0ull >> drop);
    }
    bool denormal = exponent <= 0;
    if (tiny && !c.masked(kUnderflow)) {
        c.note(kUnderflow);
        exponent += kWrap;
        denormal = false;
        if (exponent <= 0) {  // FSCALE can get below even that
            c.note(kPrecision);
            return zero(sign);
        }
    }
    if (denormal) {
        v = shiftRightSticky(v, unsigned(1 - exponent));
        exponent = 0;
    }
    uint64_t kept = uint64_t(v >> 64) >> drop;
    u128 cut = v << precision;
    bool half = cut >> 127, below = (cut << 1) != 0;
    if (half || below) {
        c.note(kPrecision);
        if (denormal && tiny) c.note(kUnderflow);
    }
    if (roundsUp(mode, sign, kept & 1, half, below)) {
        c.note(kC1);
        kept++;
        if (precision < 64 ? kept >> precision : kept == 0) {
            kept = 1ull << (precision - 1);
            exponent++;
        }
    }
    uint64_t mantissa = kept << drop;
    if (denormal) return pack(sign, mantissa >> 63 ? 1 : 0, mantissa);
    if (exponent >= kMaxExponent) {
        if (c.masked(kOverflow)) {
            c.raised &= uint16_t(~kC1);
            return overflowed(c, sign, precision);
        }
        c.note(kOverflow);
        exponent -= kWrap;
        if (exponent >= kMaxExponent) {
            c.note(kPrecision | kC1);
            return infinity(sign);
        }
    }
    return pack(sign, exponent, mantissa);
}

// The short way: 64 bits, no overflow or underflow near.
[[gnu::always_inline]] inline Float80 roundInline(Context& c, bool sign, int exponent, uint64_t significand,
                                                  uint64_t rest, unsigned precision) {
    if (precision != 64 || unsigned(exponent - 1) >= 0x7ffd) [[unlikely]]
        return roundSlow(c, sign, exponent, significand, rest, precision);
    if (rest) {
        c.note(kPrecision);
        if (roundsUp(c.rounding(), sign, significand & 1, rest >> 63, rest << 1)) {
            c.note(kC1);
            if (++significand == 0) {
                significand = kIntegerBit;
                exponent++;
            }
        }
    }
    return pack(sign, exponent, significand);
}

// Of two NaNs the one with the larger significand; of equal ones the positive one (SDM vol. 1, table 4-7).
Float80 chooseNan(Context& c, Float80 a, Float80 b) {
    Kind ka = kind(a), kb = kind(b);
    bool signalingA = ka == Kind::SignalingNan, signalingB = kb == Kind::SignalingNan;
    bool nanA = signalingA || ka == Kind::QuietNan, nanB = signalingB || kb == Kind::QuietNan;
    if (signalingA || signalingB) c.note(kInvalid);
    bool takeA;
    if (!nanA || !nanB)
        takeA = nanA;
    else if (signalingA != signalingB)
        takeA = signalingB;
    else if (a.mantissa != b.mantissa)
        takeA = a.mantissa > b.mantissa;
    else
        takeA = !sign(a);
    Float80 r = takeA ? a : b;
    r.mantissa |= kQuietBit;
    return r;
}

// a + b for finite numbers that are not zero. The smaller one is aligned into `y` and the 64 bits below it.
inline Float80 addNormalized(Context& c, Normalized a, Normalized b, unsigned precision) {
    if (a.exponent < b.exponent || (a.exponent == b.exponent && a.significand < b.significand))
        std::swap(a, b);
    unsigned distance = unsigned(a.exponent - b.exponent);
    uint64_t y = b.significand, rest = 0;
    if (distance >= 64) {
        unsigned lost = distance - 64;
        rest = lost == 0 ? y : lost < 64 ? y >> lost | (y << (64 - lost) != 0) : 1;
        y = 0;
    } else if (distance) {
        rest = y << (64 - distance);
        y >>= distance;
    }
    uint64_t x = a.significand;
    int exponent = a.exponent;
    if (a.sign == b.sign) {
        x += y;
        if (x < y) {
            rest = x << 63 | rest >> 1 | (rest & 1);
            x = x >> 1 | kIntegerBit;
            exponent++;
        }
        return roundInline(c, a.sign, exponent, x, rest, precision);
    }
    x -= y + (rest != 0);
    rest = 0 - rest;
    if (!(x & kIntegerBit)) {
        if (x == 0) {  // all that is left was below the units
            if (rest == 0) return zero(c.rounding() == Rounding::Down);
            x = rest;
            rest = 0;
            exponent -= 64;
        }
        unsigned shift = unsigned(std::countl_zero(x));
        if (shift) {
            x = x << shift | rest >> (64 - shift);
            rest <<= shift;
            exponent -= int(shift);
        }
    }
    return roundInline(c, a.sign, exponent, x, rest, precision);
}

Float80 addSpecial(Context& c, Float80 a, Float80 b, bool subtracting) {
    Float80 r;
    if (specialOperands(c, a, b, r)) return r;
    if (subtracting) b.signExponent ^= 0x8000;
    Kind ka = kind(a), kb = kind(b);
    if (ka == Kind::Infinity) return kb == Kind::Infinity && sign(a) != sign(b) ? invalid(c) : a;
    if (kb == Kind::Infinity) return b;
    if (ka == Kind::Zero && kb == Kind::Zero)
        return sign(a) == sign(b) ? a : zero(c.rounding() == Rounding::Down);
    if (ka == Kind::Zero || kb == Kind::Zero) {
        Normalized n = normalize(ka == Kind::Zero ? b : a);
        return round(c, n.sign, n.exponent, n.significand, 0, precisionOf(c));
    }
    return addNormalized(c, normalize(a), normalize(b), precisionOf(c));
}

inline Float80 multiplyNormalized(Context& c, Normalized a, Normalized b, unsigned precision) {
    u128 p = u128(a.significand) * b.significand;
    int carry = int(p >> 127);
    p <<= 1 - carry;
    return roundInline(c, a.sign != b.sign, a.exponent + b.exponent - kBias + carry, uint64_t(p >> 64),
                       uint64_t(p), precision);
}

inline Float80 divideNormalized(Context& c, Normalized a, Normalized b, unsigned precision) {
    bool less = a.significand < b.significand;
    u128 n = u128(a.significand) << (less ? 64 : 63);
    uint64_t q = uint64_t(n / b.significand), r = uint64_t(n - u128(q) * b.significand);
    uint64_t toHalf = b.significand - r;  // 2r >= divisor: the next bit is one
    uint64_t rest = (r >= toHalf ? kIntegerBit : 0) | (r != 0 && r != toHalf);
    return roundInline(c, a.sign != b.sign, a.exponent - b.exponent + kBias - less, q, rest, precision);
}

// The operand itself, without an underflow exception; only a pseudo-denormal becomes the normal number it
// stands for.
Float80 unchanged(Float80 a) {
    if (exponent(a) == 0 && a.mantissa & kIntegerBit) a.signExponent |= 1;
    return a;
}

uint64_t integerRoot(u128 n) {                                          // n >= 2^126
    uint64_t s = uint64_t(std::sqrt(double(uint64_t(n >> 64)))) << 32;  // to about 32 bits
    s = s ? s : ~0ull;                                                  // 2^32 << 32
    for (int i = 0; i < 2; i++) {
        u128 q = n / s;
        u128 t = (u128(s) + q) / 2;
        s = t >> 64 ? ~0ull : uint64_t(t);
    }
    while (u128(s) * s > n) s--;
    while (s != ~0ull && u128(s + 1) * (s + 1) <= n) s++;
    return s;
}

}  // namespace

Kind kind(Float80 a) {
    int e = exponent(a);
    if (e == 0) return a.mantissa ? Kind::Denormal : Kind::Zero;
    if (!(a.mantissa & kIntegerBit)) return Kind::Unsupported;
    if (e != kMaxExponent) return Kind::Normal;
    if (a.mantissa == kIntegerBit) return Kind::Infinity;
    return a.mantissa & kQuietBit ? Kind::QuietNan : Kind::SignalingNan;
}

Normalized normalize(Float80 a) {
    int e = exponent(a);
    if (e) return {sign(a), e, a.mantissa};
    int shift = std::countl_zero(a.mantissa);
    return {sign(a), 1 - shift, a.mantissa << shift};
}

Float80 invalid(Context& c) {
    c.note(kInvalid);
    return kIndefinite;
}

bool specialOperand(Context& c, Float80 a, Float80& result) {
    switch (kind(a)) {
        case Kind::Unsupported: result = invalid(c); return true;
        case Kind::SignalingNan:
        case Kind::QuietNan: result = chooseNan(c, a, a); return true;
        case Kind::Denormal:
            c.note(kDenormal);
            result = a;
            return !c.masked(kDenormal);
        default: return false;
    }
}

bool specialOperands(Context& c, Float80 a, Float80 b, Float80& result) {
    Kind ka = kind(a), kb = kind(b);
    if (ka == Kind::Unsupported || kb == Kind::Unsupported) {
        result = invalid(c);
        return true;
    }
    auto isNan = [](Kind k) { return k == Kind::QuietNan || k == Kind::SignalingNan; };
    if (isNan(ka) || isNan(kb)) {
        result = chooseNan(c, a, b);
        return true;
    }
    if (ka == Kind::Denormal || kb == Kind::Denormal || c.denormalOperand) {
        c.note(kDenormal);
        result = a;
        return !c.masked(kDenormal);
    }
    return false;
}

Float80 round(Context& c, bool sign, int exponent, uint64_t significand, uint64_t rest, unsigned precision) {
    return roundInline(c, sign, exponent, significand, rest, precision);
}

Float80 add(Context& c, Float80 a, Float80 b) {
    if (!bothNormal(c, a, b)) [[unlikely]]
        return addSpecial(c, a, b, false);
    return addNormalized(c, {sign(a), exponent(a), a.mantissa}, {sign(b), exponent(b), b.mantissa},
                         precisionOf(c));
}

Float80 subtract(Context& c, Float80 a, Float80 b) {
    if (!bothNormal(c, a, b)) [[unlikely]]
        return addSpecial(c, a, b, true);
    return addNormalized(c, {sign(a), exponent(a), a.mantissa}, {!sign(b), exponent(b), b.mantissa},
                         precisionOf(c));
}

Float80 multiply(Context& c, Float80 a, Float80 b) {
    if (!bothNormal(c, a, b)) [[unlikely]] {
        Float80 r;
        if (specialOperands(c, a, b, r)) return r;
        Kind ka = kind(a), kb = kind(b);
        bool s = sign(a) != sign(b), zeros = ka == Kind::Zero || kb == Kind::Zero;
        if (ka == Kind::Infinity || kb == Kind::Infinity) return zeros ? invalid(c) : infinity(s);
        if (zeros) return zero(s);
    }
    return multiplyNormalized(c, normalize(a), normalize(b), precisionOf(c));
}

Float80 divide(Context& c, Float80 a, Float80 b) {
    if (!bothNormal(c, a, b)) [[unlikely]] {
        Float80 r;
        Kind ka = kind(a), kb = kind(b);
        bool s = sign(a) != sign(b);
        if (kb == Kind::Zero &&
            (ka == Kind::Normal || ka == Kind::Denormal)) {  // before the denormal exception
            c.note(kZeroDivide);
            return infinity(s);
        }
        if (specialOperands(c, a, b, r)) return r;
        if (ka == kb && (ka == Kind::Zero || ka == Kind::Infinity)) return invalid(c);
        if (ka == Kind::Infinity) return infinity(s);
        if (kb == Kind::Infinity || ka == Kind::Zero) return zero(s);
    }
    return divideNormalized(c, normalize(a), normalize(b), precisionOf(c));
}

Float80 squareRoot(Context& c, Float80 a) {
    Float80 r;
    Kind k = kind(a);
    if (k == Kind::Zero) return a;
    if (sign(a) && (k == Kind::Normal || k == Kind::Denormal || k == Kind::Infinity)) return invalid(c);
    if (specialOperand(c, a, r)) return r;
    if (k == Kind::Infinity) return a;
    Normalized n = normalize(a);
    int power = n.exponent - kBias;
    u128 v = u128(n.significand) << (power & 1 ? 64 : 63);
    uint64_t s = integerRoot(v);
    u128 left = v - u128(s) * s;
    uint64_t rest = (left > s ? kIntegerBit : 0) | (left != 0);
    return round(c, false, (power >> 1) + kBias, s, rest, precisionOf(c));
}

Float80 roundToInteger(Context& c, Float80 a) {
    Float80 r;
    if (specialOperand(c, a, r)) return r;
    Kind k = kind(a);
    if (k == Kind::Zero || k == Kind::Infinity) return a;
    Normalized n = normalize(a);
    int fractionBits = kBias + 63 - n.exponent;
    if (fractionBits <= 0) return a;
    u128 v = shiftRightSticky(u128(n.significand) << 64, unsigned(std::min(fractionBits, 127)));
    uint64_t whole = uint64_t(v >> 64), rest = uint64_t(v);
    if (rest) c.note(kPrecision);
    if (roundsUp(c.rounding(), n.sign, whole & 1, rest >> 63, rest << 1)) {
        c.note(kC1);
        whole++;
    }
    if (whole == 0) return zero(n.sign);
    int shift = std::countl_zero(whole);
    return pack(n.sign, kBias + 63 - shift, whole << shift);
}

Float80 scale(Context& c, Float80 a, Float80 b) {
    Float80 r;
    if (specialOperands(c, a, b, r)) return r;
    Kind ka = kind(a), kb = kind(b);
    if (kb == Kind::Infinity) {
        if (sign(b)) return ka == Kind::Infinity ? invalid(c) : zero(sign(a));
        return ka == Kind::Zero ? invalid(c) : infinity(sign(a));
    }
    if (ka == Kind::Zero || ka == Kind::Infinity) return a;
    if (kb == Kind::Zero) return unchanged(a);
    Normalized n = normalize(a);
    int power = 0;
    if (kb == Kind::Normal) {
        int whole = exponent(b) - kBias;  // bits before the binary point, less one
        if (whole > 16)
            power = 0x20000;
        else if (whole >= 0)
            power = int(b.mantissa >> (63 - whole));
        if (sign(b)) power = -power;
    }
    return round(c, n.sign, n.exponent + power, n.significand, 0);
}

void extract(Context& c, Float80 a, Float80& exponent, Float80& fraction) {
    Float80 r;
    if (specialOperand(c, a, r)) {
        exponent = fraction = r;
        return;
    }
    fraction = a;
    Kind k = kind(a);
    if (k == Kind::Zero) {
        c.note(kZeroDivide);
        exponent = infinity(true);
    } else if (k == Kind::Infinity) {
        exponent = infinity(false);
    } else {
        Normalized n = normalize(a);
        exponent = fromInteger(n.exponent - kBias);
        fraction = pack(n.sign, kBias, n.significand);
    }
}

Order compare(Context& c, Float80 a, Float80 b, bool quiet) {
    Kind ka = kind(a), kb = kind(b);
    auto isInvalid = [quiet](Kind k) {
        return k == Kind::Unsupported || k == Kind::SignalingNan || (!quiet && k == Kind::QuietNan);
    };
    if (isInvalid(ka) || isInvalid(kb)) {
        c.note(kInvalid);
        return Order::Unordered;
    }
    if (ka == Kind::QuietNan || kb == Kind::QuietNan) return Order::Unordered;
    if (ka == Kind::Denormal || kb == Kind::Denormal || c.denormalOperand) c.note(kDenormal);
    if (ka == Kind::Zero && kb == Kind::Zero) return Order::Equal;
    if (sign(a) != sign(b)) return sign(a) ? Order::Less : Order::Greater;
    // A pseudo-denormal has the value of a number with exponent 1.
    auto magnitude = [](Float80 x) { return std::pair(std::max(exponent(x), 1), x.mantissa); };
    auto ma = magnitude(a), mb = magnitude(b);
    if (ka == Kind::Zero) ma = {0, 0};
    if (kb == Kind::Zero) mb = {0, 0};
    if (ma == mb) return Order::Equal;
    return (ma < mb) != sign(a) ? Order::Less : Order::Greater;
}

Remainder remainder(Context& c, Float80 a, Float80 b, bool nearest) {
    Float80 r;
    Kind ka = kind(a), kb = kind(b);
    auto number = [](Kind k) { return k <= Kind::Infinity; };
    if (number(ka) && number(kb) && (ka == Kind::Infinity || kb == Kind::Zero)) return {invalid(c)};
    if (specialOperands(c, a, b, r)) return {r};
    if (ka == Kind::Zero) return {a};
    Normalized x = normalize(a);
    if (kb == Kind::Infinity) return {unchanged(a)};
    Normalized y = normalize(b);
    int distance = x.exponent - y.exponent;
    if (distance < (nearest ? -1 : 0)) return {round(c, x.sign, x.exponent, x.significand, 0)};

    // Numbers from here on are in units of 2^exponent of the divisor (of the reduced dividend in a partial
    // step).
    bool partial = distance >= 64;
    int steps =
        partial ? (distance & 31) | 32 : distance;  // quotient bits of a partial step, as processors do
    u128 rest;
    uint64_t quotient = 0;
    int unit = y.exponent + distance - steps;
    if (distance < 0) {
        // |a| < |b| and FPREM1: count in half units to keep the last bit.
        rest = x.significand;
        u128 divisor = u128(y.significand) << 1;
        unit = y.exponent - 1;
        if (rest > divisor - rest) {  // more than half of the divisor
            rest = divisor - rest;
            quotient = 1;
            x.sign = !x.sign;
        }
    } else {
        rest = x.significand;
        if (rest >= y.significand) {
            rest -= y.significand;
            quotient = 1;
        }
        u128 n = rest << steps;  // steps < 64
        quotient = quotient << steps;
        if (steps) {
            quotient += uint64_t(n / y.significand);
            rest = n % y.significand;
        }
        if (nearest && !partial) {
            u128 twice = rest << 1;
            if (twice > y.significand || (twice == y.significand && (quotient & 1))) {
                rest = y.significand - rest;
                quotient++;
                x.sign = !x.sign;
            }
        }
    }
    Remainder result;
    result.partial = partial;
    result.quotient = partial ? 0 : quotient & 7;
    if (rest == 0) {
        result.value = zero(sign(a));
        return result;
    }
    unsigned shift = leadingZeros(rest);
    rest <<= shift;
    result.value = round(c, x.sign, unit + 64 - int(shift), uint64_t(rest >> 64), uint64_t(rest));
    return result;
}

Float80 constant(Constant which, Rounding rounding) {
    // The bits cut off, and which way rounding to nearest goes.
    struct Entry {
        uint64_t truncated;
        int exponent;
        bool up;
    };
    static constexpr Entry kEntries[] = {
        {kIntegerBit, 0, false},       {0xd49a784bcd1b8afe, 1, false}, {0xb8aa3b295c17f0bb, 0, true},
        {0xc90fdaa22168c234, 1, true}, {0x9a209a84fbcff798, -2, true}, {0xb17217f7d1cf79ab, -1, true},
    };
    if (which == Constant::Zero) return zero(false);
    const Entry& e = kEntries[unsigned(which)];
    if (which == Constant::One) return one();
    bool up = rounding == Rounding::Up || (rounding == Rounding::Nearest && e.up);
    return pack(false, kBias + e.exponent, e.truncated + up);
}

}  // namespace kiln::float80
