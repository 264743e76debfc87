// String instructions as they are, by size: MOVS, STOS, CMPS, SCAS and LODS under REP. What was moved, stored
// and found is checked.
#include "bench.h"

enum { LARGE = 1 << 20, APART = 37 * 4096 };
// Not a power of two apart: emulators' tables of pages are indexed by the low bits of page numbers, and this
// is not about them.
static uint8_t memory[2 * LARGE + APART + 4096] __attribute__((aligned(4096)));
static uint8_t *const from = memory, *const to = memory + LARGE + APART;

static void movsb(void* target, const void* source, size_t count) {
    __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
}
static void movsq(void* target, const void* source, size_t count) {
    __asm__ volatile("rep movsq" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
}
static void stosb(void* target, int value, size_t count) {
    __asm__ volatile("rep stosb" : "+D"(target), "+c"(count) : "a"(value) : "memory");
}
static void stosq(void* target, uint64_t value, size_t count) {
    __asm__ volatile("rep stosq" : "+D"(target), "+c"(count) : "a"(value) : "memory");
}
static size_t cmpsb(const void* a, const void* b, size_t count) {
    __asm__ volatile("repe cmpsb" : "+D"(a), "+S"(b), "+c"(count) : : "memory", "cc");
    return count;
}
static size_t scasb(const void* text, int value, size_t count) {
    __asm__ volatile("repne scasb" : "+D"(text), "+c"(count) : "a"(value) : "memory", "cc");
    return count;
}

static void fill(void) {
    seed = 77;
    for (int i = 0; i < LARGE; i++) from[i] = (uint8_t)(next() >> 24 | 1);
    memset(to, 0, LARGE);
}

static uint64_t movesOf(size_t size, int times, unsigned skew) {
    fill();
    for (int i = 0; i < times; i++) movsb(to + (i & 7) * skew, from + skew, size);
    return mixBytes(0, to, size < 4096 ? size : 4096);
}
static uint64_t movsbSmall(void) { return movesOf(64, 100000, 1); }
static uint64_t movsbPage(void) { return movesOf(4096, 20000, 0); }
static uint64_t movsbSkewed(void) { return movesOf(4096, 20000, 3); }
static uint64_t movsbLarge(void) { return movesOf(LARGE, 100, 0); }

// Overlapping by one byte: spreads a byte, one at a time.
static uint64_t movsbOverlap(void) {
    fill();
    for (int i = 0; i < 500; i++) {
        to[0] = (uint8_t)i;
        movsb(to + 1, to, 4095);
    }
    return mixBytes(0, to, 4096);
}

static uint64_t movsqPage(void) {
    fill();
    for (int i = 0; i < 20000; i++) movsq(to, from, 512);
    return mixBytes(0, to, 4096);
}

static uint64_t storesOf(size_t size, int times, unsigned skew) {
    uint64_t hash = 0;
    for (int i = 0; i < times; i++) {
        stosb(to + skew, i, size);
        hash = mix(hash, to[skew + size - 1]);
    }
    return mixBytes(hash, to + skew, size < 4096 ? size : 4096);
}
static uint64_t stosbSmall(void) { return storesOf(64, 100000, 0); }
static uint64_t stosbPage(void) { return storesOf(4096, 20000, 0); }
static uint64_t stosbSkewed(void) { return storesOf(4096, 20000, 5); }
static uint64_t stosbLarge(void) { return storesOf(LARGE, 100, 0); }
static uint64_t stosqPage(void) {
    for (int i = 0; i < 20000; i++) stosq(to, 0x0123456789abcdefu + i, 512);
    return mixBytes(0, to, 4096);
}

static uint64_t comparesOf(size_t size, int times, unsigned skew) {
    fill();
    uint8_t* other = to + skew;
    movsb(other, from, size);
    uint64_t hash = 0;
    for (int i = 0; i < times; i++) {
        other[size - 1 - (i & 15)] ^= 1;
        hash = mix(hash, cmpsb(from, other, size));
        other[size - 1 - (i & 15)] ^= 1;
    }
    return hash;
}
static uint64_t cmpsbSmall(void) { return comparesOf(64, 50000, 0); }
static uint64_t cmpsbPage(void) { return comparesOf(4096, 1000, 0); }
static uint64_t cmpsbSkewed(void) { return comparesOf(4096, 1000, 3); }

static uint64_t scansOf(size_t size, int times) {
    fill();
    uint64_t hash = 0;
    for (int i = 0; i < times; i++) {
        uint8_t kept = from[size - 1 - (i & 15)];
        from[size - 1 - (i & 15)] = 0;
        hash = mix(hash, scasb(from, 0, size));
        from[size - 1 - (i & 15)] = kept;
    }
    return hash;
}
static uint64_t scasbSmall(void) { return scansOf(64, 50000); }
static uint64_t scasbPage(void) { return scansOf(4096, 1000); }

static uint64_t lodsbPage(void) {
    fill();
    uint64_t sum = 0;
    for (int i = 0; i < 1000; i++) {
        const void* at = from + (i & 31);
        size_t count = 4096;
        uint64_t last = 0;
        __asm__ volatile("rep lodsb" : "+S"(at), "+c"(count), "+a"(last) : : "memory");
        sum = mix(sum, last);
    }
    return sum;
}

const struct Program programs[] = {
    {"movsb-64", movsbSmall},         {"movsb-4k", movsbPage},         {"movsb-4k-skewed", movsbSkewed},
    {"movsb-1m", movsbLarge},         {"movsb-overlap", movsbOverlap}, {"movsq-4k", movsqPage},
    {"stosb-64", stosbSmall},         {"stosb-4k", stosbPage},         {"stosb-4k-skewed", stosbSkewed},
    {"cmpsb-4k-skewed", cmpsbSkewed}, {"stosb-1m", stosbLarge},        {"stosq-4k", stosqPage},
    {"cmpsb-64", cmpsbSmall},         {"cmpsb-4k", cmpsbPage},         {"scasb-64", scasbSmall},
    {"scasb-4k", scasbPage},          {"lodsb-4k", lodsbPage},         {0},
};
