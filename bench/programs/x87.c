// What only the x87 unit does: functions beyond arithmetic, decimal and integer conversions, and a full
// register stack. Results of the transcendental instructions are rounded to nine digits: the manual allows an
// error in the last place.
#include "bench.h"

static int64_t rounded(long double x) { return (int64_t)(x * 1e9L + (x < 0 ? -0.5L : 0.5L)); }

static uint64_t trigonometry(void) {
    uint64_t hash = 0;
    for (int i = 1; i <= 2000; i++) {
        long double angle = i / 100.0L, sine, cosine, arc;
        __asm__("fsincos" : "=t"(cosine), "=u"(sine) : "0"(angle));
        __asm__("fpatan" : "=t"(arc) : "0"(cosine), "u"(sine) : "st(1)");
        hash = mix(mix(mix(hash, rounded(sine)), rounded(cosine)), rounded(arc));
    }
    return hash;
}

static uint64_t powers(void) {
    uint64_t hash = 0;
    for (int i = 1; i <= 2000; i++) {
        long double x = 1 + i / 777.0L, log, fraction;
        __asm__("fyl2x" : "=t"(log) : "0"(x), "u"(0.7L) : "st(1)");
        long double whole = (int)log;
        __asm__("f2xm1" : "=t"(fraction) : "0"(log - whole));
        __asm__("fscale" : "=t"(x) : "0"(fraction + 1), "u"(whole));
        hash = mix(hash, rounded(x));
    }
    return hash;
}

// FBSTP and FBLD, FIST and FILD in all widths.
static uint64_t conversions(void) {
    uint64_t hash = 0;
    seed = 17;
    for (int i = 0; i < 5000; i++) {
        long double x = (long double)(int32_t)next() * 1000003 / 4, back;
        uint8_t decimal[10];
        int64_t wide;
        int32_t narrow;
        __asm__ volatile("fbstp %0" : "=m"(decimal) : "t"(x) : "st");
        __asm__ volatile("fbld %1" : "=t"(back) : "m"(decimal));
        __asm__ volatile("fistpll %0" : "=m"(wide) : "t"(back) : "st");
        __asm__ volatile("fistpl %0" : "=m"(narrow) : "t"(back / 1000003) : "st");
        hash = mix(mix(hash, wide), narrow);
    }
    return hash;
}

// Polynomials by Horner's rule with eight registers in use: FXCH, FADD, FMUL.
static uint64_t horner(void) {
    uint64_t hash = 0;
    for (int i = 0; i < 4000; i++) {
        long double x = i / 4001.0L, y;
        __asm__(
            "fldl2e; fldln2; fldpi; fldlg2; fldl2t; fld1; fld %%st(6)\n"
            "fmul %%st(7); fadd %%st(1); fmul %%st(7); fadd %%st(2); fmul %%st(7); fadd %%st(3); fmul "
            "%%st(7); fadd %%st(4)\n"
            "fmul %%st(7); fadd %%st(5); fmul %%st(7); fadd %%st(6); fxch %%st(6)\n"
            "fstp %%st(0); fstp %%st(0); fstp %%st(0); fstp %%st(0); fstp %%st(0); fstp %%st(0); fstp %%st(1)"
            : "=t"(y)
            : "0"(x)
            : "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
        hash = mix(hash, rounded(y));
    }
    return hash;
}

// Square roots and remainders: FSQRT, FPREM, FRNDINT, FCOMI.
static uint64_t roots(void) {
    uint64_t hash = 0;
    for (int i = 1; i <= 4000; i++) {
        long double x = i * 1234567.0L, rest, whole;
        __asm__("fsqrt" : "=t"(x) : "0"(x));
        __asm__("frndint" : "=t"(whole) : "0"(x));
        __asm__("fprem" : "=t"(rest) : "0"(whole), "u"(97.0L));
        hash = mix(hash, rounded(x) + (rest > 48 ? rounded(rest) : 1));
    }
    return hash;
}

const struct Program programs[] = {
    {"trigonometry", trigonometry},
    {"powers", powers},
    {"conversions", conversions},
    {"horner", horner},
    {"roots", roots},
    {0},
};
