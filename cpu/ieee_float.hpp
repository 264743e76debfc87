// IEEE 754 binary32 and binary64 arithmetic as SSE does it (SDM vol. 1, 4.8, 4.9, 10.2.3, 11.5, appendix E):
// exact integer arithmetic under the guest's MXCSR, without the host's floating-point environment.
//
// Numbers are their bits, uint32_t or uint64_t; uint16_t for conversions only. Every operation adds the
// exceptions it raised to Ieee::raised and returns the masked response; whether an unmasked one becomes a
// fault is the caller's business, as is doing the common case with the host's own arithmetic.
#pragma once
#include <cstdint>

namespace kiln {

namespace mxcsr {
constexpr uint32_t IE = 1, DE = 2, ZE = 4, OE = 8, UE = 16, PE = 32, DAZ = 64, OM = 0x400, UM = 0x800,
                   Masks = 0x1f80, Rounding = 0x6000, FTZ = 0x8000, Exceptions = 0x3f;
constexpr unsigned kMaskShift = 7, kRoundingShift = 13;
}  // namespace mxcsr

enum class RoundingMode : uint8_t { Nearest, Down, Up, Truncate };
enum class Order : uint8_t { Less, Equal, Greater, Unordered };

template <class Bits>
struct Format {
    static constexpr int kFraction = sizeof(Bits) == 2   ? 10
                                     : sizeof(Bits) == 4 ? 23
                                                         : 52;  // behind the point
    static constexpr int kBias = sizeof(Bits) == 2 ? 15 : sizeof(Bits) == 4 ? 127 : 1023;
    static constexpr Bits kSign = Bits(1) << (8 * sizeof(Bits) - 1);
    static constexpr Bits kInfinity = Bits(2 * kBias + 1) << kFraction;
    static constexpr Bits kQuiet = Bits(1) << (kFraction - 1);
    static constexpr Bits kIndefinite = kSign | kInfinity | kQuiet;
    static constexpr Bits kMinNormal = Bits(1) << kFraction;
    static constexpr Bits kLargest = kInfinity - 1;
};

template <class Bits>
constexpr Bits magnitude(Bits v) {
    return v & ~Format<Bits>::kSign;
}
template <class Bits>
constexpr bool isNan(Bits v) {
    return magnitude(v) > Format<Bits>::kInfinity;
}
template <class Bits>
constexpr bool isSignalling(Bits v) {
    return isNan(v) && !(v & Format<Bits>::kQuiet);
}
template <class Bits>
constexpr bool isDenormal(Bits v) {
    return Bits(magnitude(v) - 1) < Format<Bits>::kMinNormal - 1;
}

class Ieee {
  public:
    explicit Ieee(uint32_t control) : control_(control) {}

    uint32_t raised = 0;

    RoundingMode rounding() const { return RoundingMode(control_ >> mxcsr::kRoundingShift & 3); }

    template <class Bits>
    Bits add(Bits a, Bits b);
    template <class Bits>
    Bits sub(Bits a, Bits b);
    template <class Bits>
    Bits mul(Bits a, Bits b);
    template <class Bits>
    Bits div(Bits a, Bits b);
    // +-(x * y) +- z, rounded once. Of several NaNs the first is the result, unchanged by signs.
    template <class Bits>
    Bits mulAdd(Bits x, Bits y, Bits z, bool negateProduct, bool negateAddend);
    template <class Bits>
    Bits sqrt(Bits v);
    // The second operand when either is a NaN or both are zeros.
    template <class Bits>
    Bits min(Bits a, Bits b);
    template <class Bits>
    Bits max(Bits a, Bits b);
    // A quiet NaN raises IE only when `signalQuiet`.
    template <class Bits>
    Order compare(Bits a, Bits b, bool signalQuiet);
    template <class Bits>
    Bits roundToIntegral(Bits v, RoundingMode mode, bool reportInexact);

    // AVX-512 (ieee_avx512.cpp). The number's exponent, and its significand: `interval` says where it shall
    // lie, `signs` what becomes of its sign (VGETMANT's immediate). v * 2^floor(by).
    template <class Bits>
    Bits exponentOf(Bits v);
    template <class Bits>
    Bits significandOf(Bits v, unsigned interval, unsigned signs);
    template <class Bits>
    Bits scale(Bits v, Bits by);
    // To a multiple of 2^-places; and what that leaves.
    template <class Bits>
    Bits roundToPlaces(Bits v, unsigned places, RoundingMode mode, bool reportInexact);
    template <class Bits>
    Bits reduce(Bits v, unsigned places, RoundingMode mode, bool reportInexact);
    // VRANGE: minimum or maximum, of numbers or magnitudes, with a chosen sign.
    template <class Bits>
    Bits range(Bits a, Bits b, unsigned imm);

    // Between binary16, binary32 and binary64.
    template <class To, class From>
    To resize(From v);
    template <class Bits>
    Bits fromInteger(int64_t v);
    template <class Bits>
    Bits fromUnsigned(uint64_t v);
    // The lowest number ("integer indefinite"), of unsigned ones the highest, when the value does not fit.
    template <class Int, class Bits>
    Int toInteger(Bits v, RoundingMode mode);

  private:
    struct Number;  // finite and not zero
    template <class Bits>
    Bits flushDenormal(Bits v) const;
    template <class Bits>
    void noteDenormals(Bits a, Bits b);
    template <class Bits>
    Bits propagateNan(Bits a, Bits b);
    template <class Bits>
    Bits invalid();
    template <class Bits>
    Bits sum(Bits a, Bits b, Bits flipB);
    template <class Bits>
    Bits overflow(bool sign);
    template <class Bits>
    Bits round(bool sign, int exponent, uint64_t significand);
    template <class Bits>
    Bits roundWide(bool sign, int exponent, unsigned __int128 significand);

    uint32_t control_;
};

// VRCP14 and VRSQRT14 of one number, as Intel's processors have them; they raise nothing.
template <class Bits>
Bits reciprocal14(Bits v, uint32_t control);
template <class Bits>
Bits reciprocalSqrt14(Bits v, uint32_t control);

// RCPSS and RSQRTSS of one number: like Intel's tables, the value at the middle of one of 2048 segments,
// rounded to 12 bits. They raise nothing and treat denormals as zeros.
uint32_t approximateReciprocal(uint32_t v);
uint32_t approximateReciprocalSqrt(uint32_t v);

}  // namespace kiln
