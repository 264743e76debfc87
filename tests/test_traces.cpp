// Traces over hot ways (translate/emitter_trace.cpp): what holds over several blocks and rounds must hold no
// longer than it is true. Random programs are fuzz_programs.cpp's.
#include <doctest/doctest.h>

#include "tests/cpu_bench.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kArray = 0x200000, kOther = 0x300000, kFrames = 0x60000;
constexpr uint64_t kPages = 8, kItems = kPages * kPageSize / 8;
constexpr int64_t kSlice = 500;

struct Bench : GuestBench {
    // Two arrays of which no page lies behind its neighbour in memory.
    explicit Bench(uint32_t ways = 1) : GuestBench(Mode::Long64) {
        translator.reset();
        translator =
            std::make_unique<Translator>(cpu, TranslatorOptions{.tier1 = 2, .tier2 = 1, .ways = ways});
        for (uint64_t n = 0; n < kPages; n++) {
            map(kArray + n * kPageSize, kFrames + (kPages - 1 - n) * kPageSize);
            map(kOther + n * kPageSize, kFrames + (kPages + (n ^ 1)) * kPageSize);
        }
        for (uint64_t n = 0; n < kItems; n++) item(kArray, n) = n * n, item(kOther, n) = n << 32;
    }
    uint64_t& item(uint64_t array, uint64_t n) {
        const uint64_t page = n * 8 / kPageSize;
        const uint64_t frame = array == kArray ? kPages - 1 - page : kPages + (page ^ 1);
        return *reinterpret_cast<uint64_t*>(host(kFrames + frame * kPageSize + n * 8 % kPageSize));
    }
    uint64_t sum(uint64_t array) {
        uint64_t total = 0;
        for (uint64_t n = 0; n < kItems; n++) total += item(array, n);
        return total;
    }
    const Translator::Statistics& statistics() { return jit().statistics(); }
    Translator& jit() { return static_cast<Translator&>(*translator); }
    uint64_t exitsAtSlices() { return statistics().exits[size_t(Translator::Exit::Slice)]; }
    // Until HLT, in slices.
    unsigned slices(std::vector<uint8_t> code = {}) {
        if (!code.empty()) {
            code.push_back(0xf4);
            write(kCode, code);
            cpu.rip = kCode;
        }
        unsigned n = 0;
        for (cpu.halted = false; !cpu.halted && n < 10'000; n++) cpu.run(kSlice);
        REQUIRE(cpu.halted);
        return n;
    }
};

}  // namespace

TEST_CASE("traces: a loop goes through arrays upwards, page by page") {
    Bench b;
    b.cpu.gpr[Rsi] = kArray;
    b.cpu.gpr[Rbx] = kOther;
    b.cpu.gpr[Rcx] = b.cpu.gpr[Rax] = 0;
    b.cpu.gpr[Rbp] = kItems;
    b.slices({0x48, 0x03, 0x06,        // add rax, [rsi]
              0x48, 0x03, 0x04, 0xcb,  // add rax, [rbx+rcx*8]
              0x48, 0x83, 0xc6, 0x08,  // add rsi, 8
              0x48, 0xff, 0xc1,        // inc rcx
              0x48, 0xff, 0xcd,        // dec rbp
              0x75, 0xed});            // jnz
    CHECK(b.cpu.gpr[Rax] == b.sum(kArray) + b.sum(kOther));
    CHECK(b.statistics().loops == 1);
    const std::string code = b.jit().hostCode(kCode);
    CHECK(code.find("A loop") != std::string::npos);
    CHECK(code.find("[beyond]") != std::string::npos);  // rounds are limited: pages are looked up once
}

TEST_CASE("traces: a loop writes arrays downwards, in steps that do not divide a page") {
    Bench b;
    constexpr uint64_t kStep = 24;
    b.cpu.gpr[Rsi] = kArray + kItems * 8 - 8;
    b.cpu.gpr[Rbx] = kOther;
    b.cpu.gpr[Rdx] = kItems * 8 - 8;
    b.cpu.gpr[Rbp] = kItems / 3;
    b.slices({0x48, 0x89, 0x2e,                                  // mov [rsi], rbp
              0x48, 0x89, 0x2c, 0x13,                            // mov [rbx+rdx], rbp
              0x48, 0x83, 0xee, kStep, 0x48, 0x83, 0xea, kStep,  // sub rsi and rdx
              0x48, 0xff, 0xcd,                                  // dec rbp
              0x75, 0xec});
    for (uint64_t n = 0; n < kItems / 3; n++) {
        const uint64_t at = kItems - 1 - n * 3;
        CAPTURE(at);
        REQUIRE(b.item(kArray, at) == kItems / 3 - n);
        REQUIRE(b.item(kOther, at) == kItems / 3 - n);
        REQUIRE(b.item(kArray, at - 1) == (at - 1) * (at - 1));
    }
    CHECK(b.statistics().loops == 1);
}

TEST_CASE("traces: a page that is not there stops a loop at the right item") {
    Bench b;
    const std::vector<uint8_t> code = {0x48, 0x03, 0x06,        // add rax, [rsi]
                                       0x48, 0x83, 0xc6, 0x08,  // add rsi, 8
                                       0xeb, 0xf7};             // jmp
    b.write(kCode, code);
    b.cpu.rip = kCode;
    b.cpu.gpr[Rsi] = kArray;
    b.cpu.gpr[Rax] = 0;
    for (unsigned n = 0; n < 4; n++) b.cpu.run(kSlice);
    REQUIRE(b.statistics().loops == 1);
    const auto caught = b.runToHalt();
    REQUIRE(caught);
    CHECK(caught->vector == 14);
    CHECK(caught->rip == kCode);
    CHECK(caught->cr2 == kArray + kPages * kPageSize);
    CHECK(b.cpu.gpr[Rsi] == kArray + kPages * kPageSize);
    CHECK(b.cpu.gpr[Rax] == b.sum(kArray));
}

TEST_CASE("traces: blocks of a loop of three rounds go on as host code") {
    Bench b;
    b.cpu.gpr[Rbp] = 20'000;
    b.cpu.gpr[Rax] = 0;
    const unsigned slices = b.slices({0xb9, 3, 0, 0, 0,  // mov ecx, 3
                                      0x48, 0xff, 0xc0,  // inc rax
                                      0xff, 0xc9,        // dec ecx
                                      0x75, 0xf9,        // jnz to inc
                                      0x48, 0xff, 0xcd,  // dec rbp
                                      0x75, 0xef});      // jnz
    CHECK(b.cpu.gpr[Rax] == 60'000);
    CHECK(b.statistics().traces > 0);
    CHECK(b.exitsAtSlices() > slices - 10);
    // One that comes several times in a trace, by itself.
    const uint64_t before = b.exitsAtSlices();
    b.cpu.gpr[Rbp] = 1;
    b.cpu.gpr[Rcx] = 100'000;
    b.cpu.rip = kCode + 5;
    CHECK(b.slices() < 610);
    CHECK(b.exitsAtSlices() - before > 590);
}

TEST_CASE("traces: calls and returns are followed, other returns are not lost") {
    Bench b;
    b.cpu.gpr[Rbp] = 5'000;
    b.cpu.gpr[Rsp] = 0x4ff00;
    b.cpu.gpr[Rax] = b.cpu.gpr[Rbx] = 0;
    b.slices({0xe8, 0x11, 0,    0,    0,        // call f
              0x48, 0xff, 0xc3,                 // inc rbx
              0xf7, 0xc5, 0x3f, 0,    0,    0,  // test ebp, 3fh
              0x74, 0x0b,                       // jz: the other call
              0x48, 0xff, 0xcd,                 // dec rbp
              0x75, 0xeb,                       // jnz
              0xf4,                             // hlt
              0x48, 0xff, 0xc0, 0xc3, 0x90,     // f: inc rax; ret
              0xe8, 0xf6, 0xff, 0xff, 0xff,     // call f
              0xeb, 0xee});                     // jmp to dec rbp
    CHECK(b.cpu.gpr[Rbx] == 5'000);
    CHECK(b.cpu.gpr[Rax] == 5'000 + 5'000 / 64);
    CHECK(b.cpu.gpr[Rsp] == 0x4ff00);
    CHECK(b.statistics().traces > 0);
}

TEST_CASE("traces: one whose code is overwritten ends, and what is there then runs") {
    Bench b;
    b.cpu.gpr[Rbp] = 2'000;
    b.cpu.gpr[Rdx] = 0;
    std::vector<uint8_t> code = {0x48, 0xff, 0xc2,  // inc rdx
                                 0xeb, 0x00,        // jmp behind
                                 0x48, 0xff, 0xcd,  // dec rbp
                                 0x75, 0xf6};
    b.slices(code);
    CHECK(b.cpu.gpr[Rdx] == 2'000);
    REQUIRE(b.statistics().loops == 1);
    code[2] = 0xca;  // dec rdx
    b.cpu.gpr[Rbp] = 500;
    b.slices(code);
    CHECK(b.cpu.gpr[Rdx] == 1'500);
    CHECK(b.jit().store().tracesEnded() == 1);
}

TEST_CASE("traces: a loop that overwrites itself goes on with what it wrote") {
    Bench b;
    b.cpu.gpr[Rbp] = 1'000;
    b.cpu.gpr[Rdx] = 0;
    b.cpu.gpr[Rdi] = kCode + 0x12;
    b.cpu.gpr[Rax] = 0xca;
    b.slices({0x48, 0x81, 0xfd, 0xf4, 0x01, 0, 0,  // 00: cmp rbp, 500
              0x75, 0x02,                          // 07: jne 0bh
              0x88, 0x07,                          // 09: mov [rdi], al
              0x48, 0xff, 0xcd,                    // 0b: dec rbp
              0x74, 0x05,                          // 0e: jz the end
              0x48, 0xff, 0xc2,                    // 10: inc rdx, later dec rdx
              0xeb, 0xeb});                        // 13: jmp 0
    CHECK(b.cpu.gpr[Rdx] == 500 - 499);
    CHECK(b.statistics().loops > 0);
    CHECK(b.jit().store().tracesEnded() > 0);
}

TEST_CASE("traces: what recordings have in common becomes one, what they have not does not") {
    constexpr uint64_t kRounds = 60'000;
    constexpr uint8_t kBits = 6;
    std::vector<uint8_t> round{0x48, 0x69, 0xc0, 0x6d, 0x4e, 0xc6, 0x41,  // imul rax, rax, 41c64e6dh
                               0x48, 0x05, 0x39, 0x30, 0x00, 0x00};       // add rax, 3039h
    for (uint8_t n = 0; n < kBits; n++)
        round.insert(round.end(), {0x48, 0x0f, 0xba, 0xe0, uint8_t(24 + n),                // bt rax, 24 + n
                                   0x72, 0x03, 0x48, 0xff, 0xc2});                         // jc over inc rdx
    round.insert(round.end(), {0x48, 0xff, 0xcd, 0x75, uint8_t(-int(round.size()) - 5)});  // dec rbp; jnz
    uint64_t x = 1, expected = 0;
    for (uint64_t n = 0; n < kRounds; n++) {
        x = x * 0x41c64e6d + 0x3039;
        for (unsigned bit = 24; bit < 24 + kBits; bit++) expected += ~x >> bit & 1;
    }
    auto length = [&](uint32_t ways) {  // of traces
        Bench b(ways);
        b.cpu.gpr[Rax] = 1;
        b.cpu.gpr[Rdx] = 0;
        b.cpu.gpr[Rbp] = kRounds;
        b.slices(round);
        CHECK(b.cpu.gpr[Rdx] == expected);
        const Translator::Statistics& s = b.statistics();
        return s.traces ? double(s.traced) / double(s.traces) : 0;
    };
    // With twelve, a block's first branches at most, and all of a block at whose end they part.
    const double common = length(12);
    CHECK(common > 0);
    CHECK(length(1) > 1.5 * common);
}
