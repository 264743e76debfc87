// What every program of the benchmark has in common. A file defines `programs`; `FILE PROGRAM REPEATS` runs
// one of them so many times between the two lines the host measures, and then says what came out. Each
// repetition must give the same result, so that it is checked at any length. Only marker lines go to standard
// output: "KILN-BENCH name begin|end", "KILN-BENCH name result HEX".
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct Program {
    const char* name;
    uint64_t (*run)(void);
};
extern const struct Program programs[];  // ends with a name of null

// The same numbers on every machine.
static uint32_t seed;
static inline uint32_t next(void) { return seed = seed * 1664525u + 1013904223u; }

static inline uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
}

static inline uint64_t mixBytes(uint64_t hash, const void* bytes, size_t count) {
    for (const uint8_t* p = bytes; count; count--) hash = mix(hash, *p++);
    return hash;
}

__attribute__((noreturn)) static inline void fail(const char* why) {
    perror(why);
    exit(1);
}

static inline void mark(const char* text) {
    const char* label = getenv("KILN_BENCH");  // the plan's name for this run
    char line[128];
    int length = snprintf(line, sizeof line, "KILN-BENCH %s %s\n", label ? label : "?", text);
    if (write(1, line, length) != length) exit(1);
}

int main(int argc, char** argv) {
    const struct Program* program = programs;
    while (argc == 3 && program->name && strcmp(program->name, argv[1])) program++;
    int repeats = argc == 3 ? atoi(argv[2]) : 0;
    if (repeats < 1 || !program->name) {
        fprintf(stderr, "usage: %s PROGRAM REPEATS\n", argv[0]);
        return 2;
    }
    mark("begin");
    uint64_t result = program->run();
    int steady = 1;
    for (int n = 1; n < repeats; n++) steady &= program->run() == result;
    mark("end");
    char text[40];
    snprintf(text, sizeof text, steady ? "result %016llx" : "result changed", (unsigned long long)result);
    mark(text);
    return 0;
}
