// Packed arithmetic in the compiler's vector types: BYTES is 16 (SSE4) or 32 (AVX2). No multiplication is
// fused with an addition, so that results are the same everywhere.
#include "bench.h"

typedef float Floats __attribute__((vector_size(BYTES)));
typedef double Doubles __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));
typedef int16_t Shorts __attribute__((vector_size(BYTES)));
typedef uint8_t Bytes __attribute__((vector_size(BYTES)));

// y = a * x + y over 4096 floats.
static uint64_t saxpy(void) {
    enum { N = 4096 * sizeof(float) / BYTES };
    static Floats x[N], y[N];
    for (int i = 0; i < 4096; i++) ((float*)x)[i] = (float)(i % 100), ((float*)y)[i] = 0;
    for (int step = 0; step < 100; step++)
        for (int i = 0; i < N; i++) y[i] += x[i] * (0.01f * step);
    return mixBytes(0, y, 256);
}

// A product of matrices of doubles.
static uint64_t matrix(void) {
    enum { N = 64, LANES = BYTES / sizeof(double), COLUMNS = N / LANES };
    static double a[N][N];
    static Doubles b[N][COLUMNS], c[N][COLUMNS];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) a[i][j] = i - j, ((double*)b[i])[j] = (i ^ j) / 64.0;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < COLUMNS; j++) {
            Doubles sum = {0};
            for (int k = 0; k < N; k++) sum += b[k][j] * a[i][k];
            c[i][j] = sum;
        }
    }
    return mixBytes(0, c[N / 2], sizeof c[0]);
}

// The Mandelbrot set, a lane a point: comparisons and masks.
static uint64_t points(void) {
    enum { LANES = BYTES / sizeof(float), SIZE = 64 };
    uint64_t hash = 0;
    for (int row = 0; row < SIZE; row++) {
        for (int column = 0; column < SIZE; column += LANES) {
            Floats cx, cy, x = {0}, y = {0};
            Ints count = {0};
            for (int i = 0; i < LANES; i++) cx[i] = (float)(column + i) / 24 - 2, cy[i] = (float)row / 32 - 1;
            for (int n = 0; n < 100; n++) {
                Floats xx = x * x, yy = y * y;
                count -= xx + yy < 4.0f;
                y = 2 * x * y + cy;
                x = xx - yy + cx;
            }
            for (int i = 0; i < LANES; i++) hash = mix(hash, count[i]);
        }
    }
    return hash;
}

// A filter over 16-bit samples: PMULLW, shifts, additions, loads that are not aligned.
static uint64_t filter(void) {
    enum { N = 4096 };
    static int16_t in[N + 64], out[N];
    seed = 41;
    for (int i = 0; i < N + 64; i++) in[i] = (int16_t)(next() >> 20);
    for (int step = 0; step < 4; step++) {
        for (unsigned i = 0; i < N; i += BYTES / sizeof *in) {
            Shorts sum = {0};
            for (int tap = 0; tap < 16; tap++) {
                Shorts sample;
                memcpy(&sample, in + i + tap, sizeof sample);
                sum += sample * (int16_t)(tap * (16 - tap)) >> 4;
            }
            memcpy(out + i, &sum, sizeof sum);
        }
        in[step] = out[step];
    }
    return mixBytes(0, out, sizeof out);
}

// Mixing of pictures: bytes compared, chosen and shuffled.
static uint64_t pixels(void) {
    enum { N = 16384 / BYTES };
    static Bytes a[N], b[N];
    Bytes order;
    for (int i = 0; i < BYTES; i++) order[i] = (uint8_t)(i ^ 3);
    for (int i = 0; i < 16384; i++)
        ((uint8_t*)a)[i] = (uint8_t)(i * 7), ((uint8_t*)b)[i] = (uint8_t)(i * 13 >> 2);
    for (int step = 0; step < 20; step++) {
        for (int i = 0; i < N; i++) {
            Bytes larger = (Bytes)(a[i] > b[i]);
            Bytes mixed = (a[i] & larger) | (b[i] & ~larger);
            a[i] = __builtin_shuffle(mixed, order) + (uint8_t)step;
            b[i] = (b[i] >> 1) + (mixed >> 1);
        }
    }
    return mixBytes(0, a, 1024);
}

// ChaCha's quarter rounds, a lane a block.
static uint64_t quarters(void) {
    Ints state[16];
    for (int i = 0; i < 16; i++)
        for (unsigned lane = 0; lane < BYTES / 4; lane++) state[i][lane] = i * 0x01234567 + lane;
    for (int round = 0; round < 1000; round++) {
        for (int column = 0; column < 4; column++) {
            int shift = round & 1;
            Ints *a = &state[column], *b = &state[4 + (column + shift) % 4],
                 *c = &state[8 + (column + 2 * shift) % 4], *d = &state[12 + (column + 3 * shift) % 4];
            typedef uint32_t Words __attribute__((vector_size(BYTES)));
#define TURN(x, by) (Ints)((Words)(x) << (by) | (Words)(x) >> (32 - (by)))
            *a += *b, *d = TURN(*d ^ *a, 16);
            *c += *d, *b = TURN(*b ^ *c, 12);
            *a += *b, *d = TURN(*d ^ *a, 8);
            *c += *d, *b = TURN(*b ^ *c, 7);
        }
    }
    return mixBytes(0, state, sizeof state);
}

const struct Program programs[] = {
    {"saxpy", saxpy},
    {"matrix", matrix},
    {"points", points},
    {"filter", filter},
    {"pixels", pixels},
    {"quarters", quarters},
    {0},
};
