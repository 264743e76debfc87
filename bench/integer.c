// The benchmark's integer program, run inside the guest: five small kernels whose results are checked against known values, with marker
// lines around each. Static, -O2. The host times the marker lines as they arrive on the serial line.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t seed = 12345;
static uint32_t next(void) { return seed = seed * 1664525u + 1013904223u; }

// Primes below two million.
static uint32_t sieve(void) {
    enum { N = 2000000 };
    static uint8_t composite[N];
    memset(composite, 0, N);
    uint32_t primes = 0;
    for (uint32_t i = 2; i < N; i++) {
        if (composite[i]) continue;
        primes++;
        for (uint64_t j = (uint64_t)i * i; j < N; j += i) composite[j] = 1;
    }
    return primes;
}

static void quicksort(uint32_t* a, int lo, int hi) {
    while (lo < hi) {
        uint32_t pivot = a[(lo + hi) / 2];
        int i = lo, j = hi;
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i <= j) {
                uint32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        quicksort(a, lo, j);
        lo = i;
    }
}

static uint32_t sort(void) {
    enum { N = 400000 };
    static uint32_t a[N];
    seed = 12345;
    for (int i = 0; i < N; i++) a[i] = next();
    quicksort(a, 0, N - 1);
    uint32_t h = 0;
    for (int i = 0; i < N; i++) h = h * 31 + a[i];
    return h;
}

static uint32_t crc32(void) {
    static uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    uint32_t crc = ~0u;
    seed = 1;
    for (int i = 0; i < 8000000; i++) crc = table[(crc ^ next() >> 24) & 255] ^ crc >> 8;
    return ~crc;
}

static uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static uint32_t calls(void) { return fib(31); }

// A hash table with open addressing: loads that miss, and unpredictable branches.
static uint32_t hash(void) {
    enum { SIZE = 1 << 19 };
    static uint32_t keys[SIZE];
    memset(keys, 0, sizeof keys);
    seed = 99;
    uint32_t found = 0;
    for (int i = 0; i < 1500000; i++) {
        uint32_t k = (next() >> 8 & 0x3ffff) + 1, at = (k * 2654435761u) >> 13;
        while (keys[at] && keys[at] != k) at = (at + 1) & (SIZE - 1);
        if (keys[at]) found++;
        else keys[at] = k;
    }
    return found;
}

int main(void) {
    static const struct {
        const char* name;
        uint32_t (*run)(void);
        uint32_t expected;
    } programs[] = {
        {"sieve", sieve, SIEVE}, {"sort", sort, SORT}, {"crc32", crc32, CRC32}, {"calls", calls, CALLS}, {"hash", hash, HASH},
    };
    int bad = 0;
    for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++) {
        printf("KILN-BENCH %s begin\n", programs[i].name);
        fflush(stdout);
        uint32_t r = 0;
        for (int n = 0; n < 4; n++) r = programs[i].run();
        if (r != programs[i].expected) bad = 1;
        printf("KILN-BENCH %s end %s\n", programs[i].name, r == programs[i].expected ? "ok" : "WRONG");
        fflush(stdout);
    }
    return bad;
}
