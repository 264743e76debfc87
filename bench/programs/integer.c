// Integer programs: loops, sorting, hashing, calls, interpreters. Also built as 32-bit code.
#include "bench.h"

// Primes below two million.
static uint64_t sieve(void) {
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

static uint64_t sorting(void) {
    enum { N = 400000 };
    static uint32_t a[N];
    seed = 12345;
    for (int i = 0; i < N; i++) a[i] = next();
    quicksort(a, 0, N - 1);
    uint32_t h = 0;
    for (int i = 0; i < N; i++) h = h * 31 + a[i];
    return h;
}

static uint64_t crc32(void) {
    static uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    uint32_t crc = ~0u;
    seed = 1;
    for (int i = 0; i < 4000000; i++) crc = table[(crc ^ next() >> 24) & 255] ^ crc >> 8;
    return ~crc & 0xffffffffu;
}

static uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static uint64_t calls(void) { return fib(28); }

// A hash table with open addressing: loads that miss, and unpredictable branches.
static uint64_t hash(void) {
    enum { SIZE = 1 << 19 };
    static uint32_t keys[SIZE];
    memset(keys, 0, sizeof keys);
    seed = 99;
    uint32_t found = 0;
    for (int i = 0; i < 1500000; i++) {
        uint32_t k = (next() >> 8 & 0x3ffff) + 1, at = (k * 2654435761u) >> 13;
        while (keys[at] && keys[at] != k) at = (at + 1) & (SIZE - 1);
        if (keys[at])
            found++;
        else
            keys[at] = k;
    }
    return found;
}

// A byte-code machine in a loop around a switch: counts Collatz steps.
static uint64_t interpreter(void) {
    enum { LoadOne, Even, JumpIfFalse, Halve, Triple, Count, Less, Jump, Next, Stop };
    static const uint8_t code[] = {
        LoadOne,                                    // 0: x = start
        Less,    JumpIfFalse, 14,                   // 1: while x > 1
        Even,    JumpIfFalse, 10, Halve, Jump, 11,  // 4
        Triple,                                     // 10
        Count,   Jump,        1,                    // 11
        Next,    JumpIfFalse, 18, Stop,             // 14
        Jump,    0,                                 // 18
    };
    uint64_t x = 0, start = 1, steps = 0;
    int flag = 0;
    for (unsigned pc = 0;;) {
        switch (code[pc++]) {
            case LoadOne: x = start; break;
            case Even: flag = !(x & 1); break;
            case JumpIfFalse: pc = flag ? pc + 1 : code[pc]; break;
            case Halve: x >>= 1; break;
            case Triple: x = 3 * x + 1; break;
            case Count: steps++; break;
            case Less: flag = x > 1; break;
            case Jump: pc = code[pc]; break;
            case Next: flag = ++start > 4000; break;
            case Stop: return steps;
        }
    }
}

static inline uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

// SHA-256's rounds, with the square roots' bits in place of its table: rotations and additions without
// branches.
static uint64_t rounds(void) {
    uint32_t state[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[64];
    seed = 7;
    for (int block = 0; block < 4000; block++) {
        for (int i = 0; i < 16; i++) w[i] = next();
        for (int i = 16; i < 64; i++) {
            uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
            uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + a + w[i - 7] + b;
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 64; i++) {
            uint32_t t = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + w[i] +
                         0x6A09E667u * i;
            uint32_t u = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
        }
        uint32_t sums[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8; i++) state[i] += sums[i];
    }
    return mixBytes(0, state, sizeof state);
}

static int place(uint32_t all, uint32_t columns, uint32_t left, uint32_t right) {
    int found = columns == all;
    for (uint32_t free = all & ~(columns | left | right); free; free &= free - 1) {
        uint32_t bit = free & -free;
        found += place(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return found;
}

// Queens on a board of ten by ten.
static uint64_t queens(void) { return place((1 << 10) - 1, 0, 0, 0); }

// 400 digits of e with a remainder an element: divisions.
static uint64_t digits(void) {
    enum { N = 600 };
    uint32_t rest[N];
    uint64_t hash = 0;
    for (int i = 0; i < N; i++) rest[i] = 1;
    for (int digit = 0; digit < 400; digit++) {
        uint32_t carry = 0;
        for (int i = N - 1; i > 0; i--) {
            carry += rest[i] * 10u;
            rest[i] = carry % (i + 1u);
            carry /= i + 1u;
        }
        hash = mix(hash, carry);
    }
    return hash;
}

// Products of numbers of 256 words: multiplications and carries.
static uint64_t bignum(void) {
    enum { N = 256 };
    static uint32_t a[N], b[N], product[2 * N];
    seed = 5;
    for (int i = 0; i < N; i++) a[i] = next(), b[i] = next();
    uint64_t hash = 0;
    for (int round = 0; round < 20; round++) {
        memset(product, 0, sizeof product);
        for (int i = 0; i < N; i++) {
            uint64_t carry = 0;
            for (int j = 0; j < N; j++) {
                carry += (uint64_t)a[i] * b[j] + product[i + j];
                product[i + j] = (uint32_t)carry;
                carry >>= 32;
            }
            product[i + N] = (uint32_t)carry;
        }
        hash = mixBytes(hash, product, sizeof product);
        memcpy(a, product + N / 2, sizeof a);
    }
    return hash;
}

static uint32_t addTo(uint32_t x, uint32_t y) { return x + y; }
static uint32_t exclusive(uint32_t x, uint32_t y) { return x ^ y; }
static uint32_t timesOdd(uint32_t x, uint32_t y) { return x * (y | 1); }
static uint32_t rotated(uint32_t x, uint32_t y) { return rotate(x, y & 15) + 1; }

// Calls through pointers in no order a predictor could learn, and a tree searched by pointers.
static uint64_t pointers(void) {
    static uint32_t (*const volatile operations[])(uint32_t, uint32_t) = {addTo, exclusive, timesOdd,
                                                                          rotated};
    enum { NODES = 20000 };
    static struct Node {
        uint32_t key;
        struct Node* child[2];
    } nodes[NODES];
    memset(nodes, 0, sizeof nodes);
    uint32_t value = 1, depth = 0;
    seed = 3;
    for (int i = 0; i < NODES; i++) {
        nodes[i].key = next();
        for (struct Node* at = nodes; i && at != &nodes[i]; depth++) {
            struct Node** link = &at->child[nodes[i].key > at->key];
            if (!*link) *link = &nodes[i];
            at = *link;
        }
        for (int n = 0; n < 20; n++) value = operations[nodes[i].key >> (n + 4) & 3](value, nodes[i].key);
    }
    return mix(value, depth);
}

const struct Program programs[] = {
    {"sieve", sieve},   {"quicksort", sorting},       {"crc32", crc32},   {"calls", calls},
    {"hash", hash},     {"interpreter", interpreter}, {"rounds", rounds}, {"queens", queens},
    {"digits", digits}, {"pointers", pointers},       {"bignum", bignum}, {0},
};
