// The exact arithmetic behind SSE against the host's own SSE unit, under every rounding mode with and without
// FTZ and DAZ: results and exception flags.
#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <ios>
#include <random>

#include "cpu/ieee_float.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

using namespace kiln;

namespace {

// Numbers near everything that is special in a format, else uniform bits.
template <class Bits>
Bits interesting(std::mt19937_64& random) {
    using F = Format<Bits>;
    Bits sign = random() & 1 ? F::kSign : 0;
    auto near = [&](Bits v) { return Bits(v + Bits(random() % 5) - 2); };
    auto fraction = Bits(random()) & (F::kMinNormal - 1);
    auto exponentAround = [&](int e) {
        return Bits(Bits(e + F::kBias + int(random() % 7) - 3) << F::kFraction) | fraction;
    };
    switch (random() % 16) {
        case 0: return sign;
        case 1: return sign | F::kInfinity;
        case 2: return sign | F::kInfinity | fraction | 1;  // mostly signalling NaNs
        case 3: return sign | F::kInfinity | F::kQuiet | fraction;
        case 4: return sign | fraction >> random() % F::kFraction;  // denormals
        case 5: return sign | near(F::kMinNormal);
        case 6: return sign | (near(F::kLargest) & ~F::kSign);
        case 7: return sign | exponentAround(0);
        case 8: return sign | exponentAround(31);
        case 9: return sign | exponentAround(62);
        case 10: return sign | exponentAround(F::kFraction);
        case 11: return sign | exponentAround(-F::kBias + 4);
        case 12: return sign | exponentAround(-F::kBias / 2);
        case 13: return sign | exponentAround(F::kBias - 4);
        case 14:
            return sign |
                   (exponentAround(0) & ~((Bits(1) << F::kFraction * 3 / 4) - 1));  // few bits: exact results
        default: return Bits(random());
    }
}

struct Outcome {
    uint64_t value;
    uint32_t flags;
    bool operator==(const Outcome&) const = default;
};
doctest::String toString(const Outcome& o) {
    char text[64];
    std::snprintf(text, sizeof text, "%llx flags %02x", (unsigned long long)o.value, o.flags);
    return text;
}

template <class F>
uint32_t underControl(uint32_t control, F f) {
    uint32_t before = _mm_getcsr();
    _mm_setcsr(control);
    f();
    uint32_t after = _mm_getcsr();
    _mm_setcsr(before);
    return after & mxcsr::Exceptions;
}

// Every control word: all exceptions masked, four rounding modes, FTZ and DAZ.
template <class Ours, class Host>
void compare(const char* name, uint64_t a, uint64_t b, Ours ours, Host host) {
    for (uint32_t n = 0; n < 16; n++) {
        uint32_t control = mxcsr::Masks | (n & 3) << 13 | (n & 4 ? mxcsr::FTZ : 0) | (n & 8 ? mxcsr::DAZ : 0);
        Ieee e(control);
        uint64_t value = ours(e);
        Outcome mine{value, e.raised}, hosts{};
        hosts.flags = underControl(control, [&] { hosts.value = host(); });
        if (mine == hosts) continue;
        CHECK_MESSAGE(mine == hosts, name, " ", std::hex, a, " ", b, " mxcsr ", control, " (ours, host) ",
                      toString(mine), " ", toString(hosts));
    }
}

#define HOST_BINARY(op, Bits)                                                      \
    [=] {                                                                          \
        auto x = std::bit_cast<__m128>(std::array<Bits, 16 / sizeof(Bits)>{a}),    \
             y = std::bit_cast<__m128>(std::array<Bits, 16 / sizeof(Bits)>{b});    \
        asm volatile(op " %1, %0" : "+x"(x) : "x"(y));                             \
        return uint64_t(std::bit_cast<std::array<Bits, 16 / sizeof(Bits)>>(x)[0]); \
    }
#define HOST_TO_INTEGER(op, Int, Bits)                                          \
    [=] {                                                                       \
        auto x = std::bit_cast<__m128>(std::array<Bits, 16 / sizeof(Bits)>{a}); \
        Int r;                                                                  \
        asm volatile(op " %1, %0" : "=r"(r) : "x"(x));                          \
        return uint64_t(r);                                                     \
    }
#define HOST_FROM_INTEGER(op, Int, Bits)                                           \
    [=] {                                                                          \
        __m128 x{};                                                                \
        Int v = Int(a);                                                            \
        asm volatile(op " %1, %0" : "+x"(x) : "r"(v));                             \
        return uint64_t(std::bit_cast<std::array<Bits, 16 / sizeof(Bits)>>(x)[0]); \
    }

constexpr int kRounds = 20000;

}  // namespace

#define ARITHMETIC(Bits, S)                                                                                \
    std::mt19937_64 random(1);                                                                             \
    for (int n = 0; n < kRounds; n++) {                                                                    \
        auto a = interesting<Bits>(random), b = interesting<Bits>(random);                                 \
        if (n % 8 == 0) b = a ^ (random() & 1 ? Format<Bits>::kSign : 0);                                  \
        if (n % 8 == 1) b = a + Bits(random() % 4);                                                        \
        if (n % 8 == 2) { /* products next to the smallest normal number */                                \
            a = Bits(Format<Bits>::kBias) << Format<Bits>::kFraction;                                      \
            a += Bits(random() % 9) - 4;                                                                   \
            b = Format<Bits>::kMinNormal + Bits(random() % 9) - 4;                                         \
        }                                                                                                  \
        compare(                                                                                           \
            "add" S, a, b, [&](Ieee& e) { return e.add(a, b); }, HOST_BINARY("add" S, Bits));              \
        compare(                                                                                           \
            "sub" S, a, b, [&](Ieee& e) { return e.sub(a, b); }, HOST_BINARY("sub" S, Bits));              \
        compare(                                                                                           \
            "mul" S, a, b, [&](Ieee& e) { return e.mul(a, b); }, HOST_BINARY("mul" S, Bits));              \
        compare(                                                                                           \
            "div" S, a, b, [&](Ieee& e) { return e.div(a, b); }, HOST_BINARY("div" S, Bits));              \
        compare(                                                                                           \
            "min" S, a, b, [&](Ieee& e) { return e.min(a, b); }, HOST_BINARY("min" S, Bits));              \
        compare(                                                                                           \
            "max" S, a, b, [&](Ieee& e) { return e.max(a, b); }, HOST_BINARY("max" S, Bits));              \
        compare(                                                                                           \
            "sqrt" S, b, b, [&](Ieee& e) { return e.sqrt(b); }, HOST_BINARY("sqrt" S, Bits));              \
        compare(                                                                                           \
            "cmplt" S, a, b,                                                                               \
            [&](Ieee& e) { return e.compare(a, b, true) == Order::Less ? Bits(~Bits(0)) : Bits(0); },      \
            HOST_BINARY("cmplt" S, Bits));                                                                 \
        compare(                                                                                           \
            "cmpeq" S, a, b,                                                                               \
            [&](Ieee& e) { return e.compare(a, b, false) == Order::Equal ? Bits(~Bits(0)) : Bits(0); },    \
            HOST_BINARY("cmpeq" S, Bits));                                                                 \
        compare(                                                                                           \
            "round" S, b, b, [&](Ieee& e) { return e.roundToIntegral(b, e.rounding(), true); },            \
            HOST_BINARY("round" S " $4,", Bits));                                                          \
        compare(                                                                                           \
            "round" S " up", b, b, [&](Ieee& e) { return e.roundToIntegral(b, RoundingMode::Up, false); }, \
            HOST_BINARY("round" S " $10,", Bits));                                                         \
    }

TEST_CASE("binary32 arithmetic equals the host's"){
    ARITHMETIC(uint32_t, "ss")} TEST_CASE("binary64 arithmetic equals the host's"){ARITHMETIC(uint64_t, "sd")}

TEST_CASE("conversions between binary32, binary64 and integers equal the host's") {
    std::mt19937_64 random(2);
    for (int n = 0; n < kRounds; n++) {
        {
            auto a = interesting<uint32_t>(random), b = a;
            compare(
                "cvtss2sd", a, b, [&](Ieee& e) { return e.resize<uint64_t>(a); },
                [=] {
                    auto x = std::bit_cast<__m128>(std::array<uint32_t, 4>{b});
                    asm volatile("cvtss2sd %0, %0" : "+x"(x));
                    return std::bit_cast<std::array<uint64_t, 2>>(x)[0];
                });
            compare(
                "cvtss2sil", a, b, [&](Ieee& e) { return uint64_t(e.toInteger<int32_t>(a, e.rounding())); },
                HOST_TO_INTEGER("cvtss2si", int32_t, uint32_t));
            compare(
                "cvttss2siq", a, b,
                [&](Ieee& e) { return uint64_t(e.toInteger<int64_t>(a, RoundingMode::Truncate)); },
                HOST_TO_INTEGER("cvttss2si", int64_t, uint32_t));
        }
        {
            auto a = interesting<uint64_t>(random);
            if (n % 8 == 0)
                a = 0x3810000000000000 - (random() >> random() % 64 >> 12);  // about the least binary32
            auto b = a;
            compare(
                "cvtsd2ss", a, b, [&](Ieee& e) { return e.resize<uint32_t>(a); },
                [=] {
                    auto x = std::bit_cast<__m128>(std::array<uint64_t, 2>{b});
                    asm volatile("cvtsd2ss %0, %0" : "+x"(x));
                    return uint64_t(std::bit_cast<std::array<uint32_t, 4>>(x)[0]);
                });
            compare(
                "cvtsd2sil", a, b, [&](Ieee& e) { return uint64_t(e.toInteger<int32_t>(a, e.rounding())); },
                HOST_TO_INTEGER("cvtsd2si", int32_t, uint64_t));
            compare(
                "cvtsd2siq", a, b, [&](Ieee& e) { return uint64_t(e.toInteger<int64_t>(a, e.rounding())); },
                HOST_TO_INTEGER("cvtsd2si", int64_t, uint64_t));
        }
        auto a = int64_t(random() >> random() % 64);
        if (random() & 1) a = -a;
        compare(
            "cvtsi2ssl", uint64_t(a), 0, [&](Ieee& e) { return e.fromInteger<uint32_t>(int32_t(a)); },
            HOST_FROM_INTEGER("cvtsi2ss", int32_t, uint32_t));
        compare(
            "cvtsi2ssq", uint64_t(a), 0, [&](Ieee& e) { return e.fromInteger<uint32_t>(a); },
            HOST_FROM_INTEGER("cvtsi2ss", int64_t, uint32_t));
        compare(
            "cvtsi2sdq", uint64_t(a), 0, [&](Ieee& e) { return e.fromInteger<uint64_t>(a); },
            HOST_FROM_INTEGER("cvtsi2sd", int64_t, uint64_t));
    }
}

// SDM: relative error at most 1.5 * 2^-12. Processors differ within that, so the host's own value is no
// reference.
TEST_CASE("reciprocal approximations keep the promised error") {
    std::mt19937_64 random(3);
    for (int n = 0; n < 100000; n++) {
        auto bits = uint32_t(random() % 0x7d000000 + 0x01000000);
        double v = std::bit_cast<float>(bits);
        CHECK(std::abs(std::bit_cast<float>(approximateReciprocal(bits)) * v - 1) <= 1.5 / 4096);
        double root = std::bit_cast<float>(approximateReciprocalSqrt(bits));
        CHECK(std::abs(root * std::sqrt(v) - 1) <= 1.5 / 4096);
    }
    CHECK(approximateReciprocal(0x80000001) == 0xff800000);
    CHECK(approximateReciprocal(0xff800000) == 0x80000000);
    CHECK(approximateReciprocal(0x7f800001) == 0x7fc00001);
    CHECK(approximateReciprocalSqrt(0xbf800000) == 0xffc00000);
    CHECK(approximateReciprocalSqrt(0x80000000) == 0xff800000);
}
#else
TEST_CASE("SSE arithmetic: no x86 host to compare with" * doctest::skip()) {}
#endif
