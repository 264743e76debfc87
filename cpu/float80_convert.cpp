// Conversions between 80-bit numbers and the memory formats: SDM vol. 1, 4.2, 4.7, and FLD, FST, FIST, FBSTP.
#include <algorithm>
#include <bit>

#include "cpu/float80.hpp"

namespace kiln::float80 {

namespace {

// FractionBits without the implied one.
template <class T, int ExponentBits, int FractionBits>
struct Interchange {
    static constexpr int kMax = (1 << ExponentBits) - 1, kFormatBias = kMax >> 1;
    static constexpr T kSign = T(1) << (ExponentBits + FractionBits);
    static constexpr T kFraction = (T(1) << FractionBits) - 1;
    static constexpr int kDrop = 63 - FractionBits;  // significand bits the format has no room for

    static T make(bool sign, int exponent, T fraction) {
        return T((sign ? kSign : 0) | T(exponent) << FractionBits | fraction);
    }

    static Float80 widen(Context& c, T v, bool operand) {
        bool s = v & kSign;
        int e = int(v >> FractionBits) & kMax;
        uint64_t fraction = uint64_t(v & kFraction) << kDrop;
        if (e == kMax) {
            if (!fraction) return infinity(s);
            if (operand) return pack(s, kMaxExponent, fraction | kIntegerBit);
            if (!(fraction & kQuietBit)) c.note(kInvalid);
            return pack(s, kMaxExponent, fraction | kIntegerBit | kQuietBit);
        }
        if (e) return pack(s, e - kFormatBias + kBias, fraction | kIntegerBit);
        if (!fraction) return zero(s);
        if (operand)
            c.denormalOperand = true;
        else
            c.note(kDenormal);
        int shift = std::countl_zero(fraction);
        return pack(s, 1 - kFormatBias + kBias - shift, fraction << shift);
    }

    static T overflowed(Context& c, bool s) {
        c.note(kOverflow | kPrecision);
        Rounding r = c.rounding();
        if (r != Rounding::Nearest && r != (s ? Rounding::Down : Rounding::Up))
            return make(s, kMax - 1, kFraction);
        c.note(kC1);
        return make(s, kMax, 0);
    }

    static T narrow(Context& c, Float80 a) {
        bool s = sign(a);
        switch (kind(a)) {
            case Kind::Zero: return make(s, 0, 0);
            case Kind::Infinity: return make(s, kMax, 0);
            case Kind::Unsupported: c.note(kInvalid); return make(true, kMax, (kFraction >> 1) + 1);
            case Kind::SignalingNan: c.note(kInvalid); [[fallthrough]];
            case Kind::QuietNan: return make(s, kMax, T((a.mantissa | kQuietBit) >> kDrop) & kFraction);
            default: return narrowFinite(c, normalize(a));
        }
    }

    static T narrowFinite(Context& c, Normalized n) {
        int e = n.exponent - kBias + kFormatBias;
        auto cutUp = [&](uint64_t significand, unsigned drop, bool sticky) {
            uint64_t cut = significand << (64 - drop);
            return roundsUp(c.rounding(), n.sign, significand >> drop & 1, cut >> 63, cut << 1 || sticky);
        };
        bool tiny =
            e < 0 ||
            (e == 0 && !(cutUp(n.significand, kDrop, false) && n.significand >> kDrop == 2 * kFraction + 1));
        bool sticky = false;
        uint64_t significand = n.significand;
        if (e <= 0) {
            unsigned shift = unsigned(1 - e);
            sticky = shift < 64 ? significand << (64 - shift) : significand;
            significand = shift < 64 ? significand >> shift : 0;
        }
        bool inexact = sticky || significand << (64 - kDrop);
        if (tiny && (inexact || !c.masked(kUnderflow))) {
            c.note(kUnderflow);
            if (!c.masked(kUnderflow)) return 0;  // not stored
        }
        bool up = cutUp(significand, kDrop, sticky);
        uint64_t kept = (significand >> kDrop) + up;
        // The implied one counts in the exponent field, so a carry out of the fraction needs no care.
        uint64_t field = uint64_t(e > 0 ? e - 1 : 0) + (kept >> FractionBits);
        if (field >= uint64_t(kMax)) {
            if (c.masked(kOverflow)) return overflowed(c, n.sign);
            c.note(kOverflow);
            return 0;  // not stored
        }
        if (inexact) c.note(kPrecision);
        if (up) c.note(kC1);
        return make(n.sign, int(field), T(kept) & kFraction);
    }
};

using Single = Interchange<uint32_t, 8, 23>;
using Double = Interchange<uint64_t, 11, 52>;

constexpr uint64_t kBcdLimit = 1'000'000'000'000'000'000;

// The magnitude rounded to an integer; false when that takes more than 64 bits.
bool toMagnitude(Context& c, Normalized n, bool truncate, uint64_t& out) {
    int fractionBits = kBias + 63 - n.exponent;
    if (fractionBits < 0) return false;
    u128 v = fractionBits < 128 ? (u128(n.significand) << 64) >> fractionBits : 0;
    uint64_t rest = uint64_t(v) | (fractionBits > 64);  // a set bit 63 went below the 128
    out = uint64_t(v >> 64);
    Rounding mode = truncate ? Rounding::Zero : c.rounding();
    bool up = roundsUp(mode, n.sign, out & 1, rest >> 63, rest << 1);
    if (up && ++out == 0) return false;
    if (rest) c.note(kPrecision);
    if (up) c.note(kC1);
    return true;
}

bool finite(Float80 a) {
    Kind k = kind(a);
    return k == Kind::Normal || k == Kind::Denormal;
}

}  // namespace

Float80 fromSingle(Context& c, uint32_t v) { return Single::widen(c, v, false); }
Float80 fromDouble(Context& c, uint64_t v) { return Double::widen(c, v, false); }
Float80 operandFromSingle(Context& c, uint32_t v) { return Single::widen(c, v, true); }
Float80 operandFromDouble(Context& c, uint64_t v) { return Double::widen(c, v, true); }
uint32_t toSingle(Context& c, Float80 a) { return Single::narrow(c, a); }
uint64_t toDouble(Context& c, Float80 a) { return Double::narrow(c, a); }

Float80 fromInteger(int64_t v) {
    if (v == 0) return zero(false);
    uint64_t magnitude = v < 0 ? 0 - uint64_t(v) : uint64_t(v);
    int shift = std::countl_zero(magnitude);
    return pack(v < 0, kBias + 63 - shift, magnitude << shift);
}

int64_t toInteger(Context& c, Float80 a, unsigned bits, bool truncate) {
    uint64_t limit = 1ull << (bits - 1), magnitude = 0;
    if (kind(a) == Kind::Zero) return 0;
    if (!finite(a) || !toMagnitude(c, normalize(a), truncate, magnitude) || magnitude > limit - !sign(a)) {
        c.raised = kInvalid;
        return int64_t(0 - limit);
    }
    return int64_t(sign(a) ? 0 - magnitude : magnitude);
}

Float80 fromBcd(PackedBcd v) {
    uint64_t n = 0;
    auto take = [&n](unsigned byte) { n = n * 100 + (byte >> 4) * 10 + (byte & 15); };
    take(v.high & 0xff);
    for (int i = 7; i >= 0; i--) take(v.low >> (8 * i) & 0xff);
    Float80 r = fromInteger(int64_t(n));
    r.signExponent |= v.high & 0x8000;
    return r;
}

PackedBcd toBcd(Context& c, Float80 a) {
    uint64_t n = 0;
    if (kind(a) != Kind::Zero && (!finite(a) || !toMagnitude(c, normalize(a), false, n) || n >= kBcdLimit)) {
        c.raised = kInvalid;
        return {0xc000000000000000, 0xffff};
    }
    PackedBcd r{0, uint16_t(sign(a) ? 0x8000 : 0)};
    auto digits = [&n] {
        unsigned pair = unsigned(n % 100);
        n /= 100;
        return uint64_t(pair / 10 << 4 | pair % 10);
    };
    for (int i = 0; i < 8; i++) r.low |= digits() << (8 * i);
    r.high |= uint16_t(digits());
    return r;
}

}  // namespace kiln::float80
