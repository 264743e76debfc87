// Host code that another thread drafts (translate/drafting_thread.hpp): it is entered when it has come, and
// not when its block has changed meanwhile.
#include <doctest/doctest.h>

#include <chrono>

#include "tests/processor_gang.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kFunctions = 0x40000;
constexpr unsigned kCount = 200, kSize = 9;  // of functions, and bytes of each

TranslatorOptions beside(size_t bytes = 4u << 20) {
    return {.tier1 = 2, .tier2 = 1, .ways = 1, .bufferBytes = bytes, .background = true};
}
const Translator::Statistics& statistics(Gang& g, unsigned n = 0) {
    return static_cast<Translator&>(*g.all[n].translator).statistics();
}

// Functions that add a number of their own to edi, and a program that calls each of them `rounds` times. What
// edi is at the end.
uint32_t writeFunctions(Gang& g, uint32_t seed, unsigned rounds) {
    uint32_t sum = 0;
    Code functions, all;
    all({0x31, 0xff, 0xbd}).u32(rounds);  // xor edi, edi; mov ebp, rounds
    const size_t round = all.here();
    for (unsigned n = 0; n < kCount; n++) {
        const uint32_t v = seed * 0x9e3779b9 + n * 0x10001;
        functions({0x81, 0xc7}).u32(v)({0xc3, 0xcc, 0xcc});  // add edi, v; ret
        sum += v * rounds;
        all({0xe8}).u32(uint32_t(kFunctions + n * kSize - (kCode + all.here()) - 4));
    }
    all({0xff, 0xcd, 0x0f, 0x85}).u32(uint32_t(round - all.here() - 4))({0xf4});  // dec ebp; jnz; hlt
    g.load(kFunctions, functions);
    g.load(kCode, all);
    return sum;
}

}  // namespace

TEST_CASE("drafts: another thread's become host code") {
    for (unsigned processors : {1u, 3u}) {
        CAPTURE(processors);
        Gang g(processors, processors > 1, beside());
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        uint64_t drafted = 0;
        while (!drafted && std::chrono::steady_clock::now() < until) {
            const uint32_t sum = writeFunctions(g, 1, 20'000);
            for (unsigned n = 0; n < processors; n++) g.program(n, kCode);
            g.run();
            for (unsigned n = 0; n < processors; n++) {
                CHECK(uint32_t(g.all[n].cpu->gpr[Rdi]) == sum);
                drafted += statistics(g, n).beside;
            }
        }
        CHECK(drafted > 0);
        CHECK(drafted <= kCount * processors * 2 + 8);
    }
}

TEST_CASE("drafts: of code that has changed meanwhile nothing comes") {
    for (size_t bytes : {size_t(4) << 20, size_t(320) << 10}) {  // the smaller one evicts
        Gang g(2, false, beside(bytes));
        for (uint32_t seed = 1; seed <= 150; seed++) {
            const uint32_t sum = writeFunctions(g, seed, 2 + seed % 60);
            for (unsigned n : {seed % 2, 1 - seed % 2}) {
                g.program(n, kCode);
                g.all[1 - n].cpu->halted = true;
                g.run();
                REQUIRE(uint32_t(g.all[n].cpu->gpr[Rdi]) == sum);
            }
        }
    }
}

TEST_CASE("drafts: of a constant that has changed meanwhile nothing comes") {
    constexpr uint32_t kRounds = 200'000;
    Gang g(1, false, beside());
    Code program, function;
    program({0x31, 0xff, 0xb9}).u32(kRounds);  // xor edi, edi; mov ecx, kRounds
    const size_t round = program.here();
    program({0x89, 0x0c, 0x25}).u32(kFunctions + 2);  // mov [function + 2], ecx
    program({0xe8}).u32(uint32_t(kFunctions - (kCode + program.here()) - 4));
    program({0xff, 0xc9}).jump(0x75, round)({0xf4});  // dec ecx; jnz; hlt
    function({0x81, 0xc7}).u32(0)({0xc3});            // add edi, ...; ret
    g.load(kFunctions, function);
    g.load(kCode, program);
    g.program(0, kCode);
    g.run();
    CHECK(uint32_t(g.all[0].cpu->gpr[Rdi]) == uint32_t(uint64_t(kRounds) * (kRounds + 1) / 2));
}

TEST_CASE("drafts: a processor may end while some are on their way") {
    for (unsigned slices = 0; slices < 100; slices++) {
        Gang g(1, false, beside());
        writeFunctions(g, slices, 100);
        g.program(0, kCode);
        for (unsigned n = 0; n <= slices; n++) g.all[0].cpu->run(50);
        CHECK(g.all[0].cpu->executed() >= 50 * (slices + 1));
    }
}
