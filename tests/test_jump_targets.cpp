// What host code remembers of jump targets (translate/host_frame.hpp), what is asked before it is forgotten
// (mmu/translation_contexts.hpp), and how soon code that changes is translated again.
#include <doctest/doctest.h>

#include "tests/cpu_bench.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kNear = 0x60000, kFar = 0x200000;

struct Bench : GuestBench {
    Bench() : GuestBench(Mode::Long64) {
        addRam(kFar, 1 << 20);
        translator.reset();
        translator = std::make_unique<Translator>(cpu, TranslatorOptions{.tier1 = 2, .tier2 = 0});
    }
    const Translator::Statistics& statistics() { return static_cast<Translator&>(*translator).statistics(); }
    uint64_t lookUps() { return statistics().calls[size_t(Site::Kind::LookUp)]; }
    void runFrom(uint64_t at) {
        cpu.rip = at;
        for (cpu.halted = false; !cpu.halted;) cpu.run(1000);
    }
};

}  // namespace

TEST_CASE("jump targets: two whose addresses agree in the low bits are both remembered") {
    // mov ecx, 20000; L: mov rax, rsi; xchg rsi, rdi; call rax; dec ecx; jnz L; hlt
    const std::vector<uint8_t> loop{0xb9, 0x20, 0x4e, 0x00, 0x00, 0x48, 0x89, 0xf0, 0x48,
                                    0x87, 0xf7, 0xff, 0xd0, 0xff, 0xc9, 0x75, 0xf4, 0xf4};
    Bench b;
    b.write(kCode, loop);
    b.write(kNear, std::vector<uint8_t>{0x48, 0xff, 0xc2, 0xc3});  // inc rdx; ret
    b.write(kFar,
            std::vector<uint8_t>{0x48, 0x81, 0xc2, 0x00, 0x00, 0x01, 0x00, 0xc3});  // add rdx, 10000h; ret
    static_assert(jumpIndex(kNear) == jumpIndex(kFar) && jumpIndex(kNear) == 0);
    b.cpu.gpr[Rsi] = kNear;
    b.cpu.gpr[Rdi] = kFar;
    b.cpu.gpr[Rdx] = 0;
    b.runFrom(kCode);
    CHECK(b.cpu.gpr[Rdx] == 10'000 * 0x10001ull);
    CHECK(b.lookUps() < 100);
}

TEST_CASE("jump targets: a third one of the same index has one forgotten, and all are called") {
    // mov ecx, 3000; L: mov rax, rsi; mov rsi, rdi; mov rdi, rbx; mov rbx, rax; call rax; dec ecx; jnz L; hlt
    const std::vector<uint8_t> loop{0xb9, 0xb8, 0x0b, 0x00, 0x00, 0x48, 0x89, 0xf0, 0x48, 0x89, 0xfe, 0x48,
                                    0x89, 0xdf, 0x48, 0x89, 0xc3, 0xff, 0xd0, 0xff, 0xc9, 0x75, 0xee, 0xf4};
    Bench b;
    b.write(kCode, loop);
    for (const uint64_t at : {kNear, kFar, kFar + 0x10000})
        b.write(at, std::vector<uint8_t>{0x48, 0x01, 0xc2, 0xc3});  // add rdx, rax
    b.cpu.gpr[Rsi] = kNear;
    b.cpu.gpr[Rdi] = kFar;
    b.cpu.gpr[Rbx] = kFar + 0x10000;
    b.cpu.gpr[Rdx] = 0;
    b.runFrom(kCode);
    CHECK(b.cpu.gpr[Rdx] == 1000 * (kNear + kFar + kFar + 0x10000));
}

TEST_CASE("jump targets: faults on data do not seem to be about a large program's code") {
    TranslationContext::Fetched fetched;
    constexpr uint64_t kText = 0x5555'5555'4000, kPages = 6000, kHeap = 0x7f12'3456'0000;
    for (uint64_t n = 0; n < kPages; n++) fetched.add(kText + n * kPageSize, kPageSize);
    unsigned missing = 0, wrong = 0;
    for (uint64_t n = 0; n < kPages; n++) {
        missing += !fetched.mayHave(kText + n * kPageSize + n % kPageSize);
        wrong += fetched.mayHave(kHeap + n * kPageSize);
    }
    CHECK(missing == 0);
    CHECK(wrong < kPages / 10);
    fetched.clear();
    for (uint64_t n = 0; n < kPages; n++) wrong += fetched.mayHave(kText + n * kPageSize);
    CHECK(wrong < kPages / 10);
    CHECK(!fetched.any());
}

TEST_CASE("code that changes is translated as soon as other code when its translations ran long") {
    // mov ecx, 30000; L: add edx, n; dec ecx; jnz L; hlt
    Bench b;
    b.cpu.gpr[Rdx] = 0;
    uint32_t sum = 0;
    for (uint8_t n = 1; n <= 20; n++) {
        b.write(kCode, std::vector<uint8_t>{0xb9, 0x30, 0x75, 0x00, 0x00, 0x83, 0xc2, n, 0xff, 0xc9, 0x75,
                                            0xf9, 0xf4});
        b.runFrom(kCode);
        sum += n * 30000u;
        CHECK(uint32_t(b.cpu.gpr[Rdx]) == sum);
    }
    CHECK(b.statistics().blocks >= 20);
    const Block* loop = b.code.find(PhysAddr(kCode + 5), CodeMode::Code64, false);
    REQUIRE(loop);
    CHECK(loop->deaths <= 1);
}
