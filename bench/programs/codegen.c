// Programs that write code and run it, 64-bit: whole functions anew, a constant patched in a loop, code
// beside data, code on the stack, mappings that change rights, and a small compiler.
#define _GNU_SOURCE
#include <sys/mman.h>

#include "bench.h"

typedef uint64_t (*Function)(uint64_t);

static uint8_t* codePages(size_t size) {
    uint8_t* p = mmap(0, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) fail("mmap");
    return p;
}

static uint8_t* emit(uint8_t* at, const char* bytes, int count) {
    return (uint8_t*)memcpy(at, bytes, count) + count;
}
static uint8_t* emit32(uint8_t* at, uint32_t value) { return (uint8_t*)memcpy(at, &value, 4) + 4; }
#define EMIT(at, text) emit(at, text, sizeof text - 1)

// A function of `steps` operations drawn from the seed.
static void generate(uint8_t* at, int steps) {
    at = EMIT(at, "\x48\x89\xf8");  // mov rax, rdi
    for (; steps; steps--) {
        uint32_t random = next();
        switch (random >> 29) {
            case 0: at = emit32(EMIT(at, "\x48\x05"), random); break;          // add rax, imm32
            case 1: at = emit32(EMIT(at, "\x48\x35"), random); break;          // xor rax, imm32
            case 2: at = emit32(EMIT(at, "\x48\x69\xc0"), random | 1); break;  // imul rax, rax, imm32
            case 3: at = EMIT(at, "\x48\xc1\xc0\x05"); break;                  // rol rax, 5
            case 4: at = EMIT(at, "\x48\x8d\x44\x78\x01"); break;              // lea rax, [rax + rdi*2 + 1]
            case 5: at = EMIT(at, "\xa8\x01\x74\x03\x48\xf7\xd0"); break;      // test al, 1; jz +3; not rax
            case 6: at = EMIT(at, "\x50\x48\x01\x3c\x24\x58"); break;  // push rax; add [rsp], rdi; pop rax
            default: at = EMIT(at, "\x48\x0f\xc8"); break;             // bswap rax
        }
    }
    EMIT(at, "\xc3");
}

// New functions in the place of old ones, each run a few times: a just-in-time compiler that starts.
static uint64_t fresh(void) {
    static uint8_t* code;
    if (!code) code = codePages(65536);
    uint64_t x = 1;
    seed = 51;
    for (int i = 0; i < 3000; i++) {
        uint8_t* at = code + (i & 31) * 2048;
        generate(at, 60);
        for (int n = 0; n < 8; n++) x = ((Function)at)(x);
    }
    return x;
}

// One function, run often before the next comes: a compiler whose code gets hot.
static uint64_t hot(void) {
    static uint8_t* code;
    if (!code) code = codePages(4096);
    uint64_t x = 1;
    seed = 52;
    for (int i = 0; i < 30; i++) {
        generate(code, 100);
        for (int n = 0; n < 2000; n++) x = ((Function)code)(x);
    }
    return x;
}

// A constant inside an instruction changes before each call, as old games' drawing loops had it.
static uint64_t patch(void) {
    static uint8_t* code;
    if (!code) code = codePages(4096);
    EMIT(emit32(EMIT(code, "\x48\x89\xf8\x48\x05"), 0),
         "\x48\xc1\xc0\x07\xc3");  // mov rax, rdi; add rax, imm32; rol rax, 7; ret
    uint64_t x = 1;
    for (uint32_t i = 0; i < 30000; i++) {
        emit32(code + 5, i * 2654435761u >> 1);
        x = ((Function)code)(x);
    }
    return x;
}

// The loop patches an instruction ahead of itself, in the block it is running in.
static uint64_t ahead(void) {
    static uint8_t* code;
    if (!code) code = codePages(4096);
    uint8_t* at = EMIT(code, "\x48\x89\xf9\x31\xc0");  // mov rcx, rdi; xor eax, eax
    uint8_t* loop = at;
    at = emit32(EMIT(at, "\x89\x0d"), 1);       // mov [rip + 1], ecx: the add's constant
    at = emit32(EMIT(at, "\x05"), 0);           // add eax, imm32
    at = EMIT(at, "\xd1\xc0\x48\xff\xc9\x75");  // rol eax, 1; dec rcx; jnz loop
    *at = (uint8_t)(loop - (at + 1));
    EMIT(at + 1, "\xc3");
    return ((Function)code)(20000);
}

// Data on the page of the code that writes it, never the code's own bytes.
static uint64_t beside(void) {
    static uint8_t* code;
    if (!code) code = codePages(4096);
    uint8_t* at = EMIT(code, "\x48\x89\xf9\x31\xc0");  // mov rcx, rdi; xor eax, eax
    uint8_t* loop = at;
    at = emit32(EMIT(at, "\x48\x01\x0d"), 0x800);  // add [rip + 0x800], rcx
    at = emit32(EMIT(at, "\x48\x03\x05"), 0x7f9);  // add rax, [rip + 0x7f9]: the same place
    at = EMIT(at, "\x48\xff\xc9\x75");             // dec rcx; jnz loop
    *at = (uint8_t)(loop - (at + 1));
    EMIT(at + 1, "\xc3");
    memset(code + 2048, 0, 256);
    return ((Function)code)(100000);
}

// Small thunks in a page used like a stack, each called once.
static uint64_t thunks(void) {
    static uint8_t* code;
    if (!code) code = codePages(8192);
    uint64_t x = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        uint8_t* at = code + (i * 96 & 0x1fff & ~15);
        if (at > code + 8192 - 16) at = code;
        EMIT(emit32(EMIT(at, "\x48\x8d\x87"), i * 77), "\xc3");  // lea rax, [rdi + disp32]; ret
        x = mix(((Function)at)(x), i);
    }
    return x;
}

// Never writable and executable at once: mprotect before and after.
static uint64_t guarded(void) {
    uint8_t* code = codePages(4096);
    uint64_t x = 1;
    seed = 53;
    for (int i = 0; i < 500; i++) {
        if (mprotect(code, 4096, PROT_READ | PROT_WRITE)) fail("mprotect");
        generate(code, 40);
        if (mprotect(code, 4096, PROT_READ | PROT_EXEC)) fail("mprotect");
        for (int n = 0; n < 50; n++) x = ((Function)code)(x);
    }
    munmap(code, 4096);
    return x;
}

// Code mapped at new addresses and taken away again, as loading and unloading a plug-in does.
static uint64_t mapped(void) {
    uint64_t x = 1;
    seed = 54;
    for (int i = 0; i < 500; i++) {
        uint8_t* code = codePages(16384);
        for (int page = 0; page < 4; page++) {
            generate(code + page * 4096, 20);
            x = ((Function)(code + page * 4096))(x);
        }
        munmap(code, 16384);
    }
    return x;
}

const struct Program programs[] = {
    {"fresh", fresh},     {"hot", hot},       {"patch", patch},
    {"ahead", ahead},     {"beside", beside}, {"thunks", thunks},
    {"guarded", guarded}, {"mapped", mapped}, {0},
};
