// FSIN, FCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1: SDM vol. 1, 8.3.6 to 8.3.10, special operands from
// vol. 2.
//
// All are evaluated by power series with 128-bit significands, so that the result is the correctly rounded
// one but for cases that only more bits would decide. Like the processors, trigonometry reduces its argument
// by the 66-bit value of pi, so that FSIN of a number near pi agrees with them and not with mathematics.
#include <bit>
#include <utility>

#include "cpu/float80.hpp"

namespace kiln::float80 {

namespace {

constexpr u128 make128(uint64_t high, uint64_t low) { return u128(high) << 64 | low; }
constexpr u128 kTop = u128(1) << 127;

// sign * significand * 2^(exponent - 127) with the leading one in bit 127; zero has no bit set. Operations
// truncate.
struct Wide {
    bool sign = false;
    int exponent = 0;
    u128 significand = 0;
};

unsigned leadingZeros(u128 v) {
    auto high = uint64_t(v >> 64);
    return unsigned(high ? std::countl_zero(high) : 64 + std::countl_zero(uint64_t(v)));
}

// v * 2^(exponent - 127), v of any magnitude.
Wide wide(u128 v, int exponent, bool sign = false) {
    if (v == 0) return {};
    unsigned shift = leadingZeros(v);
    return {sign, exponent - int(shift), v << shift};
}

Wide wide(Float80 a) {
    if (a.mantissa == 0) return {};
    Normalized n = normalize(a);
    return {n.sign, n.exponent - kBias, u128(n.significand) << 64};
}

// The upper half of the product.
u128 multiplyHigh(u128 a, u128 b) {
    u128 al = uint64_t(a), ah = a >> 64, bl = uint64_t(b), bh = b >> 64;
    u128 cross1 = ah * bl, cross2 = al * bh;
    u128 carry = (al * bl >> 64) + uint64_t(cross1) + uint64_t(cross2);
    return ah * bh + (cross1 >> 64) + (cross2 >> 64) + (carry >> 64);
}

// With 0 the product is exact when the factors have 64 significant bits.
Wide operator*(Wide a, Wide b) {
    if (!a.significand || !b.significand) return {};
    return wide(multiplyHigh(a.significand, b.significand), a.exponent + b.exponent + 1, a.sign != b.sign);
}

Wide operator-(Wide a) { return {!a.sign, a.exponent, a.significand}; }

Wide operator+(Wide a, Wide b) {
    if (!a.significand) return b;
    if (!b.significand) return a;
    bool less = a.exponent < b.exponent || (a.exponent == b.exponent && a.significand < b.significand);
    if (less) std::swap(a, b);
    unsigned distance = unsigned(a.exponent - b.exponent) + 1;  // one bit of room for the carry
    u128 x = a.significand >> 1;
    u128 y = distance < 128 ? b.significand >> distance : 1;
    return wide(a.sign == b.sign ? x + y : x - y, a.exponent + 1, a.sign);
}

Wide operator-(Wide a, Wide b) { return a + -b; }

Wide operator/(Wide a, Wide b) {
    if (!a.significand) return {};
    u128 rest = a.significand, quotient = 0;
    bool carry = false;
    for (int bit = 127; bit >= 0; bit--) {
        if (carry || rest >= b.significand) {
            rest -= b.significand;
            quotient |= u128(1) << bit;
        }
        carry = rest >> 127;
        rest <<= 1;
    }
    return wide(quotient, a.exponent - b.exponent, a.sign != b.sign);
}

// |a| < 1 as a fraction of 2^128.
u128 fraction(Wide a) {
    if (!a.significand) return 0;
    int shift = -1 - a.exponent;
    return shift < 128 ? a.significand >> shift : 0;
}

Float80 rounded(Context& c, Wide a, bool exact = false) {
    Float80 r =
        round(c, a.sign, a.exponent + kBias, uint64_t(a.significand >> 64), uint64_t(a.significand) | !exact);
    // Processors call every such result inexact.
    if (exact) c.note(exponent(r) ? kPrecision : kPrecision | kUnderflow);
    return r;
}

// Just below in magnitude: the series cut to its first term lies beyond the true value.
Wide below(Wide a) { return wide(a.significand - 1, a.exponent, a.sign); }

// -- power series; coefficients are fractions of 2^127
template <unsigned N>
using Series = std::array<u128, N>;

// 1/start!, 1/(start+step)!, ...
template <unsigned N>
constexpr Series<N> inverseFactorials(unsigned start, unsigned step) {
    Series<N> r{};
    u128 v = kTop;
    for (unsigned k = 1, n = 0; n < N; k++) {
        if (k > start && (k - 1 - start) % step == 0) r[n++] = v;
        v /= k;
    }
    return r;
}
// 1, 1/3, 1/5, ...
template <unsigned N>
constexpr Series<N> inverseOdd() {
    Series<N> r{};
    for (unsigned n = 0; n < N; n++) r[n] = kTop / (2 * n + 1);
    return r;
}

constexpr auto kSine = inverseFactorials<15>(1, 2);
constexpr auto kCosine = inverseFactorials<15>(0, 2);
constexpr auto kExponential = inverseFactorials<30>(1, 1);
constexpr auto kOdd = inverseOdd<24>();
static_assert(kSine[0] == kTop && kSine[1] == kTop / 6 && kCosine[1] == kTop / 2 &&
              kExponential[1] == kTop / 2);

// c0 + c1 z + c2 z^2 ..., or with alternating signs; z is a fraction of 2^128.
template <size_t N>
Wide sum(const std::array<u128, N>& coefficients, u128 z, bool alternating) {
    u128 s = coefficients[N - 1];
    for (size_t n = N - 1; n-- > 0;) {
        u128 term = multiplyHigh(z, s);
        s = alternating ? coefficients[n] - term : coefficients[n] + term;
    }
    return wide(s, 0);
}

constexpr Wide kPi{false, 1, make128(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1)};
constexpr Wide kHalfPi{false, 0, kPi.significand};
constexpr Wide kQuarterPi{false, -1, kPi.significand};
constexpr Wide kLog2E{false, 0, make128(0xb8aa3b295c17f0bb, 0xbe87fed0691d3e88)};
constexpr Wide kLn2{false, -1, make128(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af)};
constexpr Wide kOne{false, 0, kTop};

// -- trigonometry
struct Reduced {
    Wide angle;  // -pi/4 .. pi/4
    unsigned quadrant;
};

// |a| = quadrant * pi/2 + angle, exact for the 66-bit pi, in units of 2^-67.
Reduced reduce(Normalized a) {
    constexpr u128 kHalfPi66 = make128(0xc, 0x90fdaa22168c234c);
    int e = a.exponent - kBias;
    if (e < -1 || (e == -1 && a.significand <= 0xc90fdaa22168c234))
        return {{false, e, u128(a.significand) << 64}, 0};
    u128 rest = u128(a.significand) << 3;
    unsigned quotient = 0;
    for (int n = e + 1; n > 0; n--) {
        rest <<= 1;
        quotient <<= 1;
        if (rest >= kHalfPi66) {
            rest -= kHalfPi66;
            quotient |= 1;
        }
    }
    bool negative = rest * 2 > kHalfPi66;
    if (negative) {
        rest = kHalfPi66 - rest;
        quotient++;
    }
    return {wide(rest, 127 - 67, negative), quotient & 3};
}

Wide sine(Wide r, u128 square) { return square ? r * sum(kSine, square, true) : below(r); }
Wide cosine(u128 square) { return square ? sum(kCosine, square, true) : below(kOne); }

// -- logarithms
// log2(numerator / denominator) where the quotient of difference and sum, t, is small: 2 log2(e) artanh(t).
Wide logOfRatio(Wide difference, Wide total) {
    Wide t = difference / total;
    Wide r = t * sum(kOdd, fraction(t * t), false) * kLog2E;
    r.exponent++;
    return r;
}

// log2(a) for a > 0; zero when a = 1.
Wide log2(Wide a) {
    constexpr u128 kRoot2 = u128(0xb504f333f9de6484) << 64;
    int power = a.exponent;
    a.exponent = 0;
    if (a.significand > kRoot2) {
        a.exponent = -1;
        power++;
    }
    Wide whole = wide(u128(unsigned(power < 0 ? -power : power)), 127, power < 0);
    Wide difference = a - kOne;
    if (!difference.significand) return whole;
    return whole + logOfRatio(difference, a + kOne);
}

bool isPowerOfTwo(Wide a) { return a.significand == kTop; }

// -- arc tangent
// atan(n / 8), as fractions of 2^128
constexpr u128 kArcTangents[9] = {
    0,
    make128(0x1fd5ba9aac2f6dc6, 0x5912f313e7d111de),
    make128(0x3eb6ebf25901bac5, 0x5b71e7bd7de885f9),
    make128(0x5bd86507937bc239, 0xc55190916e7f2241),
    make128(0x76b19c1586ed3da2, 0xb7f222f65e1d4681),
    make128(0x8f005d5ef7f59f9b, 0x5c835e1665c43747),
    make128(0xa4bc7d1934f70924, 0x19a87f2a457dac9e),
    make128(0xb8053e2bc2319e73, 0xcb2da55210a4443d),
    make128(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1),
};

// 0 < q <= 1
Wide arcTangentOfFraction(Wide q) {
    unsigned eighths =
        q.exponent < -5 ? 0 : unsigned((fraction({q.sign, q.exponent - 1, q.significand}) >> 123) + 1) / 2;
    Wide t = q, base;
    if (eighths) {
        Wide c = wide(eighths, 127 - 3);
        t = (q - c) / (kOne + q * c);
        base = wide(kArcTangents[eighths], -1);
    }
    u128 square = fraction(t * t);
    if (!t.significand) return base;
    Wide r = square ? t * sum(kOdd, square, true) : below(t);
    return base + r;
}

Float80 angleOf(Context& c, Wide angle, bool negative) {
    angle.sign = negative;
    return rounded(c, angle);
}

}  // namespace

Trigonometric trigonometric(Context& c, Float80 a, Trig what) {
    Float80 r;
    Kind k = kind(a);
    if (k == Kind::Infinity) {
        invalid(c);
        return {kIndefinite, kIndefinite};
    }
    if (k == Kind::Normal && exponent(a) >= kBias + 63) return {a, a, false};
    if (specialOperand(c, a, r)) return {r, r};
    if (k == Kind::Zero) return {a, one()};
    Normalized n = normalize(a);
    Reduced reduced = reduce(n);
    Wide angle = reduced.angle;
    u128 square = fraction(angle * angle);
    Wide s = sine(angle, square), co = cosine(square);
    if (reduced.quadrant & 1) {
        std::swap(s, co);
        co.sign = !co.sign;
    }
    if (reduced.quadrant & 2) {
        s.sign = !s.sign;
        co.sign = !co.sign;
    }
    s.sign ^= n.sign;
    Trigonometric t{one(), one()};
    if (what == Trig::Tangent) {
        t.sine = rounded(c, s / co);
        return t;
    }
    if (what != Trig::Sine) t.cosine = rounded(c, co);
    if (what != Trig::Cosine) {
        c.raised &= uint16_t(~kC1);
        t.sine = rounded(c, s);
    }
    return t;
}

Float80 arcTangent(Context& c, Float80 y, Float80 x) {
    Float80 r;
    if (specialOperands(c, y, x, r)) return r;
    Kind kx = kind(x), ky = kind(y);
    bool negative = sign(y);
    if (ky == Kind::Infinity) {
        if (kx != Kind::Infinity) return angleOf(c, kHalfPi, negative);
        return angleOf(c, sign(x) ? kHalfPi + kQuarterPi : kQuarterPi, negative);
    }
    if (kx == Kind::Infinity || ky == Kind::Zero) return sign(x) ? angleOf(c, kPi, negative) : zero(negative);
    if (kx == Kind::Zero) return angleOf(c, kHalfPi, negative);
    Wide wx = wide(x), wy = wide(y);
    wx.sign = wy.sign = false;
    Wide difference = wy - wx;
    bool steep = difference.significand && !difference.sign;
    Wide angle = arcTangentOfFraction(steep ? wx / wy : wy / wx);
    if (steep) angle = kHalfPi - angle;
    if (sign(x)) angle = kPi - angle;
    return angleOf(c, angle, negative);
}

Float80 powerOfTwoMinusOne(Context& c, Float80 a) {
    Float80 r;
    if (specialOperand(c, a, r)) return r;
    Kind k = kind(a);
    if (k == Kind::Infinity) return sign(a) ? one(true) : a;
    if (k == Kind::Zero) return a;
    if (exponent(a) >= kBias) {
        // Outside -1 .. 1 the manual leaves the result undefined; processors return the operand.
        c.note(kPrecision);
        if (exponent(a) > kBias || a.mantissa != kIntegerBit) return a;
        return sign(a) ? pack(true, kBias - 1, kIntegerBit) : a;
    }
    Wide y = wide(a) * kLn2;
    return rounded(c, y * sum(kExponential, fraction(y), y.sign));
}

Float80 logarithm(Context& c, Float80 x, Float80 y) {
    Float80 r;
    Kind kx = kind(x), ky = kind(y);
    bool xNumber = kx <= Kind::Infinity, yNumber = ky <= Kind::Infinity;
    if (xNumber && yNumber) {
        if (sign(x) && kx != Kind::Zero) return invalid(c);
        if (kx == Kind::Zero && ky != Kind::Infinity) {
            if (ky == Kind::Zero) return invalid(c);
            c.note(kZeroDivide);
            return infinity(!sign(y));
        }
        if (kx == Kind::Infinity && ky == Kind::Zero) return invalid(c);
    }
    if (specialOperands(c, x, y, r)) return r;
    if (kx == Kind::Zero) return infinity(!sign(y));
    if (kx == Kind::Infinity) return infinity(sign(y));
    Wide w = wide(x), l = log2(w);
    if (ky == Kind::Infinity) return l.significand ? infinity(sign(y) != l.sign) : invalid(c);
    if (ky == Kind::Zero || !l.significand) return zero(sign(y) != l.sign);
    return rounded(c, l * wide(y), isPowerOfTwo(w));
}

Float80 logarithmOnePlus(Context& c, Float80 x, Float80 y) {
    Float80 r;
    Kind kx = kind(x), ky = kind(y);
    if (kx <= Kind::Infinity && ky <= Kind::Infinity) {
        if (kx == Kind::Infinity && (sign(x) || ky == Kind::Zero)) return invalid(c);
        if (kx == Kind::Zero && ky == Kind::Infinity) return invalid(c);
    }
    if (specialOperands(c, x, y, r)) return r;
    bool negative = sign(x) != sign(y);
    if (kx == Kind::Infinity) return infinity(sign(y));
    if (ky == Kind::Infinity) return infinity(negative);
    if (kx == Kind::Zero || ky == Kind::Zero) return zero(negative);
    Wide w = wide(x), total = kOne + w;
    // Beyond -(1 - sqrt(1/2)) .. sqrt(2) - 1 the manual leaves the result undefined.
    if (total.sign || !total.significand) {
        c.note(kPrecision);
        return x;
    }
    Wide l;
    if (w.exponent < -2)
        l = logOfRatio(w, kOne + total);
    else
        l = log2(total);
    return rounded(c, l * wide(y));
}

}  // namespace kiln::float80
