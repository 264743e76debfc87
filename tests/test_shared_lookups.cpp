// Operands of translated code that share a look-up in the TLB (translate/access_plan.hpp), where what they
// share changes between them.
#include <doctest/doctest.h>

#include "tests/cpu_bench.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kFirst = 0x60000, kOtherPage = 0x70000, kBorder = 0x61000;

struct Bench : GuestBench {
    Bench() : GuestBench(Mode::Long64) {
        translator.reset();
        translator = std::make_unique<Translator>(cpu, TranslatorOptions{.tier1 = 1});
        for (uint64_t n = 0; n < 0x200; n++) {
            store(kFirst + n * 8, 0x100 + n);
            store(kOtherPage + n * 8, 0x900 + n);
        }
    }
    void store(uint64_t at, uint64_t v) { std::memcpy(host(at), &v, sizeof v); }
    uint64_t load(uint64_t at) {
        uint64_t v;
        std::memcpy(&v, host(at), sizeof v);
        return v;
    }
    const Translator::Statistics& statistics() const {
        return static_cast<Translator&>(*translator).statistics();
    }
    // Twice: the second time as host code.
    void run(std::vector<uint8_t> code) {
        code.push_back(0xf4);
        write(kCode, code);
        for (int time = 0; time < 2; time++) {
            cpu.rip = kCode;
            cpu.halted = false;
            REQUIRE(!runToHalt());
            REQUIRE(cpu.halted);
        }
        CHECK(statistics().blocks > 0);
    }
};

}  // namespace

TEST_CASE("shared look-ups: what is from GS is looked up again behind SWAPGS") {
    Bench b;
    b.setBase(Gs, kFirst);
    b.cpu.msr.kernelGsBase = kOtherPage;
    b.run({
        0x65, 0x48, 0x8b, 0x04, 0x25, 0,    0, 0, 0,  // mov rax, gs:[0]
        0x65, 0x48, 0x8b, 0x0c, 0x25, 8,    0, 0, 0,  // mov rcx, gs:[8]
        0x0f, 0x01, 0xf8,                             // swapgs
        0x65, 0x48, 0x8b, 0x14, 0x25, 0,    0, 0, 0,  // mov rdx, gs:[0]
        0x65, 0x48, 0x8b, 0x1c, 0x25, 0x10, 0, 0, 0,  // mov rbx, gs:[10h]
        0x0f, 0x01, 0xf8,                             // swapgs
    });
    CHECK(b.cpu.gpr[Rax] == 0x100);
    CHECK(b.cpu.gpr[Rcx] == 0x101);
    CHECK(b.cpu.gpr[Rdx] == 0x900);
    CHECK(b.cpu.gpr[Rbx] == 0x902);
}

TEST_CASE("shared look-ups: a stack frame that lies on two pages") {
    Bench b;
    b.map(kBorder, kOtherPage);  // whose neighbour in the linear address space is not its neighbour in memory
    b.cpu.gpr[Rsp] = kBorder + 0x10;
    b.cpu.gpr[Rbp] = 0x1111;
    b.cpu.gpr[Rbx] = 0x2222;
    b.cpu.gpr[R14] = 0x3333;
    b.run({
        0x55, 0x53, 0x41, 0x56,  // push rbp; push rbx; push r14
        0x48, 0x89, 0xe5,        // mov rbp, rsp
        0x48, 0x8b, 0x45, 0x10,  // mov rax, [rbp+10h]
        0x48, 0x8b, 0x4d, 0x08,  // mov rcx, [rbp+8]
        0x48, 0x8b, 0x14, 0x24,  // mov rdx, [rsp]
        0x41, 0x5e, 0x5b, 0x5d,  // pop r14; pop rbx; pop rbp
    });
    CHECK(b.cpu.gpr[Rax] == 0x1111);
    CHECK(b.cpu.gpr[Rcx] == 0x2222);
    CHECK(b.cpu.gpr[Rdx] == 0x3333);
    CHECK(b.cpu.gpr[Rsp] == kBorder + 0x10);
    CHECK(b.load(kOtherPage + 8) == 0x1111);
    CHECK(b.load(kOtherPage) == 0x2222);
    CHECK(b.load(kBorder - 8) == 0x3333);
    CHECK(b.statistics().careful == 1);
}

TEST_CASE("shared look-ups: PUSH of an operand that misses looks the stack up for itself alone") {
    Bench b;
    b.map(0x90000, kOtherPage);
    b.cpu.gpr[Rsp] = kBorder - 0x100;
    b.cpu.gpr[Rax] = 0x90000;
    const std::vector<uint8_t> code = {0xff, 0x30, 0x5f, 0x57,
                                       0x59};  // push [rax]; pop rdi; push rdi; pop rcx
    b.run(code);
    for (uint64_t v : {5, 6, 7}) {
        b.store(kOtherPage, v);
        b.cpu.flushTlb(true);
        b.cpu.gpr[Rcx] = b.cpu.gpr[Rdi] = 0;
        b.run(code);
        CHECK(b.cpu.gpr[Rdi] == v);
        CHECK(b.cpu.gpr[Rcx] == v);
    }
}

// l: mov edx, [rsi]; mov [rdi], edx; mov edx, [rsi + 4]; mov [rdi + 4], edx; call kFunction; add r8, rax;
// add rsi, 4; add rdi, 4; cmp rdi, rbx; jne l. The stores walk over the page of the code, through a function
// and over what lies around it.
TEST_CASE("shared look-ups: stores beside code, and into it") {
    constexpr uint64_t kFunction = kCode + 0x440;
    constexpr unsigned kAround = 0x200;
    Bench b;
    std::vector<uint8_t> before(2 * kAround, 0x90), after(2 * kAround, 0xcc);
    for (auto* bytes : {&before, &after})  // mov eax, imm32; ret
        (*bytes)[kAround] = 0xb8, (*bytes)[kAround + 5] = 0xc3;
    for (unsigned n = 1; n < 5; n++) after[kAround + n] = uint8_t(0x10 * n);
    b.write(kCode, std::vector<uint8_t>{0x8b, 0x16, 0x89, 0x17, 0x8b, 0x56, 4,    0x89, 0x57, 4,    0xe8,
                                        0x31, 4,    0,    0,    0x49, 0x01, 0xc0, 0x48, 0x83, 0xc6, 4,
                                        0x48, 0x83, 0xc7, 4,    0x48, 0x39, 0xdf, 0x75, 0xe1, 0xf4});
    std::memcpy(b.host(kFirst), after.data(), after.size());
    std::vector<uint8_t> now = before;
    uint64_t sum = 0;
    for (unsigned time = 0; time < 3; time++) {
        b.write(kFunction - kAround, before);
        now = before;
        for (unsigned at = 0; at + 8 <= now.size(); at += 4) {
            std::copy_n(after.begin() + at, 8, now.begin() + at);
            uint32_t value;
            std::memcpy(&value, &now[kAround + 1], 4);
            sum += value;
        }
        b.cpu.gpr[Rsi] = kFirst, b.cpu.gpr[Rdi] = kFunction - kAround;
        b.cpu.gpr[Rbx] = kFunction + kAround - 4;
        b.cpu.gpr[Rsp] = kOtherPage + 0x800;
        if (!time) b.cpu.gpr[R8] = 0;
        b.cpu.rip = kCode;
        b.cpu.halted = false;
        REQUIRE(!b.runToHalt());
        CHECK(b.cpu.gpr[R8] == sum);
    }
    CHECK(!std::memcmp(b.host(kFunction - kAround), after.data(), after.size()));
}

// l: add [rip + 800h], rcx; add rax, [rip + 7f9h]; dec rcx; jnz l
TEST_CASE("shared look-ups: a loop keeps where it writes beside its own code") {
    Bench b;
    const std::vector<uint8_t> loop = {0x48, 0x01, 0x0d, 0, 8,    0,    0,    0x48, 0x03, 0x05,
                                       0xf9, 7,    0,    0, 0x48, 0xff, 0xc9, 0x75, 0xed, 0xf4};
    b.write(kCode, loop);
    b.cpu.store<uint64_t>(Ds, kCode + 0x807, 0);  // so that it is in the TLB
    for (unsigned time = 0; time < 3; time++) {
        b.store(kCode + 0x807, 0);
        b.cpu.gpr[Rax] = 0, b.cpu.gpr[Rcx] = 1000;
        b.cpu.rip = kCode;
        b.cpu.halted = false;
        REQUIRE(!b.runToHalt());
        uint64_t data = 0, sum = 0;
        for (uint64_t n = 1000; n; n--) data += n, sum += data;
        CHECK(b.cpu.gpr[Rax] == sum);
        CHECK(b.load(kCode + 0x807) == data);
    }
    CHECK(b.statistics().careful == 0);
    // Where it has written there is code now, which it then overwrites: inc eax; hlt.
    b.write(kCode + 0x807, std::vector<uint8_t>{0xff, 0xc0, 0xf4, 0, 0, 0, 0, 0});
    uint64_t code = b.load(kCode + 0x807);
    for (unsigned time = 0; time < 4; time++) {
        b.cpu.gpr[Rax] = 5;
        b.cpu.rip = kCode + 0x807;
        b.cpu.halted = false;
        REQUIRE(!b.runToHalt());
        CHECK(b.cpu.gpr[Rax] == (time % 2 ? 4 : 6));
        // inc eax becomes dec eax, and that inc eax
        b.cpu.gpr[Rcx] = time % 2 ? uint64_t(-0x800) : 0x800;
        code += b.cpu.gpr[Rcx];
        b.write(kCode + 14, std::vector<uint8_t>{0xf4});
        b.cpu.rip = kCode;
        b.cpu.halted = false;
        REQUIRE(!b.runToHalt());
        CHECK(b.load(kCode + 0x807) == code);
    }
}
