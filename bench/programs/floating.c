// Scalar floating point over REAL, which the build chooses: double or float on SSE, double on the x87 unit
// (32-bit code), or long double. Only operations that IEEE 754 defines to the last bit, so that the result
// may be compared.
#include "bench.h"

#ifndef REAL
#define REAL double
#endif
typedef REAL Real;

static Real root(Real x) {
    if (sizeof(Real) == sizeof(float)) return __builtin_sqrtf(x);
    return sizeof(Real) == sizeof(double) ? (Real)__builtin_sqrt(x) : (Real)__builtin_sqrtl(x);
}

static uint64_t bits(Real x) {
    double d = (double)x;
    uint64_t image;
    memcpy(&image, &d, sizeof image);
    return image;
}

struct Body {
    Real x[3], v[3], mass;
};

// Five bodies under gravity.
static uint64_t nbody(void) {
    enum { N = 5 };
    struct Body body[N];
    seed = 11;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 3; k++) {
            body[i].x[k] = (Real)(int)(next() >> 16) / 4096;
            body[i].v[k] = (Real)(int)(next() >> 16) / 1048576;
        }
        body[i].mass = (Real)(next() >> 24) / 256 + 1;
    }
    for (int step = 0; step < 4000; step++) {
        for (int i = 0; i < N; i++) {
            for (int j = i + 1; j < N; j++) {
                Real d[3], square = (Real)0.01;
                for (int k = 0; k < 3; k++) d[k] = body[i].x[k] - body[j].x[k], square += d[k] * d[k];
                Real pull = (Real)0.001 / (square * root(square));
                for (int k = 0; k < 3; k++) {
                    body[i].v[k] -= d[k] * body[j].mass * pull;
                    body[j].v[k] += d[k] * body[i].mass * pull;
                }
            }
        }
        for (int i = 0; i < N; i++)
            for (int k = 0; k < 3; k++) body[i].x[k] += (Real)0.001 * body[i].v[k];
    }
    return mix(bits(body[0].x[0]), bits(body[4].x[2]));
}

// Points of the Mandelbrot set: a loop with a comparison, and no memory.
static uint64_t mandelbrot(void) {
    enum { SIZE = 48, LIMIT = 200 };
    uint64_t sum = 0;
    for (int row = 0; row < SIZE; row++) {
        for (int column = 0; column < SIZE; column++) {
            Real cx = (Real)column / (SIZE / 3) - 2, cy = (Real)row / (SIZE / 2) - 1, x = 0, y = 0;
            int n = 0;
            while (n < LIMIT && x * x + y * y < 4) {
                Real t = x * x - y * y + cx;
                y = 2 * x * y + cy;
                x = t;
                n++;
            }
            sum = mix(sum, n);
        }
    }
    return sum;
}

// Gaussian elimination with pivoting.
static uint64_t linear(void) {
    enum { N = 80 };
    static Real a[N][N + 1];
    seed = 21;
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= N; j++) a[i][j] = (Real)(int)(next() >> 12) / 65536 - 8;
    for (int k = 0; k < N; k++) {
        int best = k;
        for (int i = k + 1; i < N; i++)
            if (a[i][k] * a[i][k] > a[best][k] * a[best][k]) best = i;
        for (int j = 0; j <= N; j++) {
            Real t = a[k][j];
            a[k][j] = a[best][j];
            a[best][j] = t;
        }
        for (int i = k + 1; i < N; i++) {
            Real factor = a[i][k] / a[k][k];
            for (int j = k; j <= N; j++) a[i][j] -= factor * a[k][j];
        }
    }
    Real sum = 0;
    for (int i = N - 1; i >= 0; i--) {
        for (int j = i + 1; j < N; j++) a[i][N] -= a[i][j] * a[j][N];
        a[i][N] /= a[i][i];
        sum += a[i][N];
    }
    return bits(sum);
}

// A fast Fourier transform of 1024 points, there and back; its roots of unity come from square roots.
static uint64_t fourier(void) {
    enum { N = 1024, STAGES = 10 };
    static Real re[N], im[N];
    Real c[STAGES + 1], s[STAGES + 1];  // of a turn's 2^k-th part
    c[1] = -1, s[1] = 0;
    for (int k = 2; k <= STAGES; k++)
        c[k] = k == 2 ? 0 : root((1 + c[k - 1]) / 2), s[k] = root((1 - c[k - 1]) / 2);
    seed = 31;
    for (int i = 0; i < N; i++) re[i] = (Real)(int)(next() >> 20), im[i] = 0;
    for (int direction = 1; direction >= -1; direction -= 2) {
        for (int i = 1, j = 0; i < N; i++) {
            int bit = N >> 1;
            for (; j & bit; bit >>= 1) j ^= bit;
            j ^= bit;
            if (i >= j) continue;
            Real t = re[i];
            re[i] = re[j], re[j] = t, t = im[i], im[i] = im[j], im[j] = t;
        }
        for (int stage = 1, length = 2; length <= N; stage++, length *= 2) {
            Real wr = 1, wi = 0;
            for (int k = 0; k < length / 2; k++) {
                for (int i = k; i < N; i += length) {
                    int j = i + length / 2;
                    Real tr = re[j] * wr - im[j] * wi, ti = re[j] * wi + im[j] * wr;
                    re[j] = re[i] - tr, im[j] = im[i] - ti, re[i] += tr, im[i] += ti;
                }
                Real t = wr * c[stage] - wi * s[stage] * direction;
                wi = wi * c[stage] + wr * s[stage] * direction;
                wr = t;
            }
        }
    }
    return mix(bits(re[1]), bits(im[N - 1]));
}

// The largest eigenvalue of 1 / ((i + j)(i + j + 1) / 2 + i + 1): divisions, conversions from integers.
static uint64_t spectral(void) {
    enum { N = 60 };
    Real u[N], v[N];
    for (int i = 0; i < N; i++) u[i] = 1;
    for (int step = 0; step < 6; step++) {
        Real* from = step & 1 ? v : u;
        Real* to = step & 1 ? u : v;
        for (int i = 0; i < N; i++) {
            to[i] = 0;
            for (int j = 0; j < N; j++) to[i] += from[j] / (Real)((i + j) * (i + j + 1) / 2 + i + 1);
        }
    }
    return mix(bits(u[0]), bits(v[N - 1]));
}

// Heat on a plate: five points, the sum of changes, and the largest one.
static uint64_t plate(void) {
    enum { N = 64 };
    static Real grid[2][N][N];
    memset(grid, 0, sizeof grid);
    for (int i = 0; i < N; i++) grid[0][0][i] = grid[1][0][i] = (Real)(i * (N - i));
    Real largest = 0;
    for (int step = 0; step < 20; step++) {
        Real(*from)[N] = grid[step & 1], (*to)[N] = grid[~step & 1];
        largest = 0;
        for (int i = 1; i < N - 1; i++) {
            for (int j = 1; j < N - 1; j++) {
                to[i][j] = (from[i - 1][j] + from[i + 1][j] + from[i][j - 1] + from[i][j + 1]) / 4;
                Real change = to[i][j] - from[i][j];
                if (change > largest) largest = change;
            }
        }
    }
    return mix(bits(largest), bits(grid[0][N / 4][N / 2]));
}

const struct Program programs[] = {
    {"nbody", nbody},
    {"mandelbrot", mandelbrot},
    {"linear", linear},
    {"fourier", fourier},
    {"spectral", spectral},
    {"plate", plate},
    {0},
};
