// The store of host code (translate/code_store.hpp): processors run what others have translated, overwritten
// code dies for all of them, and when there is no room the oldest region's code makes some.
#include <doctest/doctest.h>

#include "tests/processor_gang.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kFunctions = 0x40000, kTable = 0x38000, kEnd = 0x80000;

Translator& jit(Gang& g, unsigned n) { return static_cast<Translator&>(*g.all[n].translator); }

// Functions of `length` additions each to edi, of numbers of their own, and one that calls them all `rounds`
// times in turn by way of a table. What edi is at the end.
uint32_t writeFunctions(Gang& g, unsigned count, unsigned length, unsigned rounds) {
    uint32_t sum = 0;
    uint64_t at = kFunctions;
    for (unsigned n = 0; n < count; n++) {
        g.put<uint64_t>(kTable + n * 8, at);
        Code f;
        for (unsigned i = 0; i < length; i++) {
            const uint32_t v = n * 0x10001 + i * 0x777;
            f({0x81, 0xc7}).u32(v);  // add edi, v
            sum += v * rounds;
        }
        f({0x0f, 0xa2, 0xc3});  // cpuid: the interpreter's; ret
        g.load(at, f);
        at += f.bytes.size();
        REQUIRE(at < kEnd);
    }
    Code all;
    all({0x31, 0xff, 0xbd}).u32(rounds);
    const size_t round = all.here();
    all({0x31, 0xf6});
    const size_t loop = all.here();
    all({0xff, 0x14, 0xf5}).u32(kTable)({0xff, 0xc6, 0x81, 0xfe}).u32(count).jump(0x72, loop);
    all({0xff, 0xcd}).jump(0x75, round)({0xf4});
    g.load(kCode, all);
    return sum;
}

}  // namespace

TEST_CASE("code store: the oldest code makes room, in turns and with threads") {
    constexpr unsigned kCount = 300, kLength = 60, kRounds = 40;
    for (bool threads : {false, true}) {
        for (unsigned processors : {1u, 3u}) {
            CAPTURE(threads);
            CAPTURE(processors);
            Gang g(processors, threads, TranslatorOptions{.tier1 = 1, .tier2 = 1, .ways = 1, .bufferBytes = 320 << 10});
            const uint32_t sum = writeFunctions(g, kCount, kLength, kRounds);
            for (unsigned n = 0; n < processors; n++) g.program(n, kCode);
            g.run();
            for (unsigned n = 0; n < processors; n++) CHECK(uint32_t(g.all[n].cpu->gpr[Rdi]) == sum);
            const CodeStore& store = jit(g, 0).store();
            CHECK(store.evictions() >= store.buffer.regions());
            CHECK(store.translations() > 0);
            CHECK(store.buffer.used() <= store.buffer.size());
            // What does not fit is not translated in each round.
            CHECK(jit(g, 0).statistics().blocks < uint64_t(kCount) * kRounds / 2);
        }
    }
}

TEST_CASE("code store: what one processor has translated the others adopt") {
    for (bool threads : {false, true}) {
        CAPTURE(threads);
        Gang g(3, threads, TranslatorOptions{.tier1 = 2, .tier2 = 0});
        const uint32_t sum = writeFunctions(g, 20, 5, 10);
        uint64_t translated = 0;
        for (unsigned n = 0; n < 3; n++) {
            g.program(n, kCode);
            for (unsigned other = 0; other < 3; other++)
                if (other != n) g.all[other].cpu->halted = true;
            g.run();
            CHECK(uint32_t(g.all[n].cpu->gpr[Rdi]) == sum);
            const Translator::Statistics& s = jit(g, n).statistics();
            translated += s.blocks;
            // (Blocks that links lead to need not be adopted to be run.)
            CHECK(bool(s.adopted) == (n != 0));
            CHECK(s.adopted <= translated);
        }
        CHECK(translated == jit(g, 0).statistics().blocks);
        CHECK(jit(g, 0).store().translations() == translated);
    }
}

// Links lead a processor to code of which it has no decoded block, and a return to where it has not been yet
// makes it leave in the middle of that.
TEST_CASE("code store: slices end where the interpreter's do, whoever has translated the code") {
    Gang plain(3, false, std::nullopt), g(3, false, TranslatorOptions{.tier1 = 2, .tier2 = 0});
    Code code;  // mov ebp, 4; calls of functions of 11 additions; dec ebp; jnz; hlt
    code({0xbd}).u32(4);
    constexpr unsigned kCalls = 40, kFunction = 12 * 3;
    const size_t round = code.here(), functions = 0x200;
    for (unsigned n = 0; n < kCalls; n++) code({0xe8}).u32(functions + n * kFunction - code.here() - 4);
    code({0xff, 0xcd, 0x0f, 0x85}).u32(round - code.here() - 4)({0xf4});
    code.bytes.resize(functions);
    for (unsigned n = 0; n < kCalls; n++) {
        for (unsigned i = 0; i < 11; i++) code({0x83, 0xc7, uint8_t(n + i)});
        code({0xc3, 0xcc, 0xcc});
    }
    for (Gang* one : {&plain, &g}) one->load(kCode, code);
    for (unsigned n = 0; n < 3; n++) {
        CAPTURE(n);
        Cpu &a = *plain.all[n].cpu, &b = *g.all[n].cpu;
        plain.program(n, kCode);
        g.program(n, kCode);
        for (unsigned slice = 1; !plain.over(a); slice = slice % 29 + 1) {
            a.run(slice);
            b.run(slice);
            REQUIRE(a.executed() == b.executed());
            REQUIRE(a.rip == b.rip);
        }
        CHECK(g.over(b));
        CHECK(b.gpr[Rdi] == a.gpr[Rdi]);
    }
}

TEST_CASE("code store: code that dies dies for everybody") {
    for (bool threads : {false, true}) {
        CAPTURE(threads);
        Gang g(2, threads, TranslatorOptions{.tier1 = 1, .tier2 = 0});
        for (uint32_t round = 1; round <= 20; round++) {
            const unsigned from = round % 2;
            const uint32_t sum = writeFunctions(g, 8, round, 3);
            for (unsigned n : {from, 1 - from}) {
                g.program(n, kCode);
                g.all[1 - n].cpu->halted = true;
                g.run();
                CHECK(uint32_t(g.all[n].cpu->gpr[Rdi]) == sum);
            }
        }
    }
}

TEST_CASE(
    "code store: what is host code needs few decoded instructions, and gets them back when it is evicted") {
    constexpr unsigned kCount = 300, kLength = 60, kRounds = 6;
    Gang g(1, false, TranslatorOptions{.tier1 = 1, .tier2 = 0, .bufferBytes = 320 << 10});
    const uint32_t sum = writeFunctions(g, kCount, kLength, kRounds);
    g.program(0, kCode);
    CodeCache& code = *g.all[0].code;
    size_t least = SIZE_MAX, most = 0;
    while (!g.all[0].cpu->halted) {
        most = std::max(most, code.bytes());
        code.thinOut();
        least = std::min(least, code.bytes());
        g.all[0].cpu->run(kLength * 10);
    }
    CHECK(uint32_t(g.all[0].cpu->gpr[Rdi]) == sum);
    CHECK(jit(g, 0).store().evictions() > 0);
    CHECK(most > 0);
    // All were thin at the end but for those without host code.
    code.flush();
    code.collect();
    CHECK(code.bytes() == 0);
}

TEST_CASE("code store: decoded blocks that are not entered make room for others") {
    constexpr uint64_t kChain = 0x200000;
    constexpr unsigned kBlocks = 250'000;
    GuestBench b(GuestBench::Mode::Long64);
    b.addRam(kChain, 1 << 20);
    b.translator.reset();
    b.translator = std::make_unique<Translator>(b.cpu, TranslatorOptions{.tier1 = 10});
    std::vector<uint8_t> chain;
    for (unsigned n = 0; n < kBlocks; n++) chain.insert(chain.end(), {0xeb, 0x00});  // jmp to the next one
    chain.push_back(0xf4);
    b.write(kChain, chain);
    Code loop;  // mov ecx, 1000; dec ecx; jnz
    loop({0xb9}).u32(1000)({0xff, 0xc9}).jump(0x75, 5)({0xf4});
    b.write(0x50000, loop.bytes);
    for (uint64_t at : {uint64_t(0x50000), kChain, uint64_t(0x50000)}) {
        b.cpu.rip = at;
        b.cpu.halted = false;
        while (!b.cpu.halted) b.cpu.run(10'000);
    }
    CHECK(b.code.cooled() > kBlocks / 2);
    CHECK(b.code.bytes() < 64 << 20);
    // The loop was not translated again.
    CHECK(static_cast<Translator&>(*b.translator).statistics().blocks == 1);
}
