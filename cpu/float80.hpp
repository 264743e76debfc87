// Arithmetic on 80-bit extended-precision numbers as the x87 FPU does it (SDM vol. 1, 4.2, 4.8 and chapter
// 8), in portable C++. Every function takes the operands and a Context with the control word, and leaves in
// it the exceptions that the operation raised and C1 (the result was rounded up in magnitude). Results are
// those of the masked response; where an exception is unmasked, overflow and underflow to a register give the
// wrapped exponent, and Context::abandoned() says that the destination must keep its value.
//
// Not modelled: nothing of the format; transcendentals are within one unit in the last place of Intel's
// results, not identical to them.
#pragma once
#include <array>
#include <cstdint>

#include "cpu/state.hpp"

namespace kiln::float80 {

// Bits of the status word; the low six are also the mask bits of the control word.
enum Status : uint16_t {
    kInvalid = 1,
    kDenormal = 2,
    kZeroDivide = 4,
    kOverflow = 8,
    kUnderflow = 0x10,
    kPrecision = 0x20,
    kStackFault = 0x40,
    kErrorSummary = 0x80,
    kC0 = 0x100,
    kC1 = 0x200,
    kC2 = 0x400,
    kC3 = 0x4000,
    kBusy = 0x8000,
};
constexpr uint16_t kExceptions = 0x3f;

enum class Rounding : uint8_t { Nearest, Down, Up, Zero };

struct Context {
    uint16_t control = 0x37f;
    uint16_t raised = 0;           // exceptions and kC1
    bool denormalOperand = false;  // the second operand was a denormal in its memory format

    Rounding rounding() const { return Rounding(control >> 10 & 3); }
    bool masked(uint16_t exception) const { return control & exception; }
    void note(uint16_t exceptions) { raised |= exceptions; }
    // An unmasked invalid, denormal or divide exception: nothing may be written, popped or pushed.
    bool abandoned() const { return raised & ~control & (kInvalid | kDenormal | kZeroDivide); }
    // The same for a store to memory, which does not happen after an unmasked overflow or underflow either.
    bool storeAbandoned() const { return raised & ~control & (kInvalid | kOverflow | kUnderflow); }
};

enum class Kind : uint8_t { Zero, Normal, Denormal, Infinity, QuietNan, SignalingNan, Unsupported };

constexpr uint64_t kIntegerBit = 1ull << 63;
constexpr uint64_t kQuietBit = 1ull << 62;
constexpr int kBias = 16383;
constexpr uint16_t kMaxExponent = 0x7fff;

constexpr bool sign(Float80 a) { return a.signExponent >> 15; }
constexpr int exponent(Float80 a) { return a.signExponent & kMaxExponent; }
constexpr Float80 pack(bool sign, int exponent, uint64_t mantissa) {
    return {mantissa, uint16_t(unsigned(sign) << 15 | unsigned(exponent))};
}
constexpr Float80 zero(bool sign) { return pack(sign, 0, 0); }
constexpr Float80 infinity(bool sign) { return pack(sign, kMaxExponent, kIntegerBit); }
constexpr Float80 one(bool sign = false) { return pack(sign, kBias, kIntegerBit); }
constexpr Float80 kIndefinite = {3ull << 62, 0xffff};  // the "real indefinite" quiet NaN
Kind kind(Float80 a);                                  // pseudo-denormals are Denormal

// Precision control applies to these five.
Float80 add(Context& c, Float80 a, Float80 b);
Float80 subtract(Context& c, Float80 a, Float80 b);
Float80 multiply(Context& c, Float80 a, Float80 b);
Float80 divide(Context& c, Float80 a, Float80 b);
Float80 squareRoot(Context& c, Float80 a);

Float80 roundToInteger(Context& c, Float80 a);
Float80 scale(Context& c, Float80 a, Float80 b);                            // a * 2^trunc(b)
void extract(Context& c, Float80 a, Float80& exponent, Float80& fraction);  // FXTRACT

enum class Order : uint8_t { Less, Equal, Greater, Unordered };
// A quiet NaN is an invalid operand unless `quiet`.
Order compare(Context& c, Float80 a, Float80 b, bool quiet);

struct Remainder {
    Float80 value;
    bool partial = false;  // C2: more steps are needed
    uint8_t quotient = 0;  // its three low bits
};
// FPREM truncates the quotient, FPREM1 rounds it to nearest.
Remainder remainder(Context& c, Float80 a, Float80 b, bool nearest);

// Conversions (float80_convert.cpp). Single and double are passed as bit patterns.
Float80 fromInteger(int64_t v);
Float80 fromSingle(Context& c, uint32_t v);
Float80 fromDouble(Context& c, uint64_t v);
// The same for an operand of arithmetic: a signaling NaN stays one, and whether a denormal counts is decided
// there.
Float80 operandFromSingle(Context& c, uint32_t v);
Float80 operandFromDouble(Context& c, uint64_t v);
uint32_t toSingle(Context& c, Float80 a);
uint64_t toDouble(Context& c, Float80 a);
// Bits 16, 32, 64; the integer indefinite (most negative number) when it does not fit.
int64_t toInteger(Context& c, Float80 a, unsigned bits, bool truncate);
// 18 packed decimal digits, the sign in bit 79.
struct PackedBcd {
    uint64_t low;
    uint16_t high;
};
Float80 fromBcd(PackedBcd v);
PackedBcd toBcd(Context& c, Float80 a);

// FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: opcodes D9 E8..EE.
enum class Constant : uint8_t { One, Log2Ten, Log2E, Pi, Log10Two, Ln2, Zero };
Float80 constant(Constant which, Rounding rounding);

// Transcendentals (float80_transcendental.cpp). `reduced` is false when |a| >= 2^63: C2, operand unchanged.
struct Trigonometric {
    Float80 sine, cosine;  // FPTAN: the tangent in `sine`
    bool reduced = true;
};
enum class Trig : uint8_t { Sine, Cosine, Both, Tangent };
Trigonometric trigonometric(Context& c, Float80 a, Trig what);
Float80 arcTangent(Context& c, Float80 y, Float80 x);        // FPATAN: the angle of (x, y)
Float80 powerOfTwoMinusOne(Context& c, Float80 a);           // F2XM1
Float80 logarithm(Context& c, Float80 x, Float80 y);         // FYL2X: y * log2(x)
Float80 logarithmOnePlus(Context& c, Float80 x, Float80 y);  // FYL2XP1: y * log2(x + 1)

// -- shared by the .cpp files
using u128 = unsigned __int128;

// A finite number that is not zero, with the leading one in bit 63; the exponent is biased and may be <= 0.
struct Normalized {
    bool sign;
    int exponent;
    uint64_t significand;
};
Normalized normalize(Float80 a);
// Rounds (significand + rest / 2^64) * 2^(exponent - bias - 63); bit 63 of the significand is set. Only the
// presence of bits in `rest` below its top one matters.
Float80 round(Context& c, bool sign, int exponent, uint64_t significand, uint64_t rest,
              unsigned precision = 64);
// Decides NaNs and unsupported encodings, and notes a denormal operand; true: `result` is final.
bool specialOperand(Context& c, Float80 a, Float80& result);
bool specialOperands(Context& c, Float80 a, Float80 b, Float80& result);
Float80 invalid(Context& c);
// Is the magnitude incremented, given what is cut off: its top bit, whether anything is below, and the last
// bit kept?
constexpr bool roundsUp(Rounding r, bool sign, bool odd, bool half, bool below) {
    switch (r) {
        case Rounding::Nearest: return half && (below || odd);
        case Rounding::Down: return sign && (half || below);
        case Rounding::Up: return !sign && (half || below);
        case Rounding::Zero: break;
    }
    return false;
}

}  // namespace kiln::float80
