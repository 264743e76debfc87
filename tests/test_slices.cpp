// Slices end at the same instruction in both engines, also where host code has to be left in the middle of a
// block: interrupts under counted time come when a slice is over.
#include "tests/system_guest.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using Mode = GuestBench::Mode;
constexpr uint16_t kSmall = 0x40;  // a data segment of 64 KiB

constexpr uint32_t kRegisters = 0x200000;

// Registers whose writes of multiples of `every` end the slice, as an interrupt would.
struct Leaver : IoHandler {
    explicit Leaver(Cpu& cpu) : cpu(cpu) {}
    uint64_t ioRead(uint64_t, unsigned) override { return 0; }
    void ioWrite(uint64_t, unsigned, uint64_t value) override {
        if (value % every == 0) cpu.leave();
    }
    Cpu& cpu;
    uint64_t every = 1;
};

struct Runner : SystemGuest {
    Runner(bool translated, std::initializer_list<uint8_t> bytes) : SystemGuest(Mode::Protected32) {
        translator.reset();
        if (translated)
            translator =
                std::make_unique<Translator>(cpu, TranslatorOptions{.tier1 = 1, .tier2 = 1, .ways = 1});
        memory.mapIo(PhysAddr(kRegisters), kPageSize, leaver);
        setGdt(kSmall, segment(kDataRw, 0, 0xffff, 4));
        cpu.gpr[Rbx] = kData0;
        cpu.gpr[Rcx] = kSmall;
        cpu.gpr[Rsi] = 1000;
        code(bytes);
    }
    const Translator::Statistics& statistics() { return static_cast<Translator&>(*translator).statistics(); }
    Leaver leaver{cpu};
};

void runBoth(Runner& plain, Runner& translated, int64_t slice) {
    plain.cpu.run(slice);
    translated.cpu.io.code.thinOut();
    translated.cpu.run(slice);
    REQUIRE(plain.cpu.executed() == translated.cpu.executed());
    REQUIRE(plain.cpu.rip == translated.cpu.rip);
}

void sameSlices(std::initializer_list<uint8_t> bytes) {
    for (int64_t slice = 1; slice < 24; slice++) {
        Runner plain(false, bytes), translated(true, bytes);
        for (unsigned n = 0; n < 200; n++) {
            CAPTURE(slice);
            CAPTURE(n);
            runBoth(plain, translated, slice);
            REQUIRE(plain.cpu.gpr[Rdx] == translated.cpu.gpr[Rdx]);
        }
        CHECK(translated.statistics().entries > 0);
    }
}

}  // namespace

TEST_CASE("slices end at the same instruction where a segment stops being flat in the middle of a block") {
    sameSlices({0x40, 0x40, 0x40, 0x8e, 0xd9,  // inc eax three times; mov ds, cx
                0x42, 0x42, 0x42, 0x42,        // inc edx four times
                0x8e, 0xdb, 0x42,              // mov ds, bx; inc edx
                0x4e, 0x75, 0xf1, 0xf4});      // dec esi; jnz; hlt
}

TEST_CASE("slices end at the same instruction where code overwrites its own block") {
    sameSlices({0xc6, 0x05, 0x0b, 0x00, 0x05, 0x00, 0x42,  // mov byte [5000bh], 42h: the second inc edx
                0x40, 0x40, 0x40, 0x42, 0x42, 0x42,        // inc eax three times, inc edx three times
                0x4e, 0x75, 0xf0, 0xf4});                  // dec esi; jnz; hlt
}

TEST_CASE("who leaves in the middle of a block ends the slice where the block is left") {
    for (bool translated : {false, true}) {
        Runner r(translated, {0xa3, 0x00, 0x00, 0x20, 0x00,  // mov [200000h], eax
                              0x39, 0xc0, 0x74, 0x03,        // cmp eax, eax; jz
                              0x42, 0x42, 0x42,              // inc edx three times
                              0x41, 0xeb, 0xf1});            // inc ecx; jmp
        CAPTURE(translated);
        for (unsigned n = 0; n < 10; n++) {
            CAPTURE(n);
            r.cpu.run(1000);
            CHECK(r.cpu.executed() == 3 + n * 5);
            CHECK(r.cpu.rip == SystemGuest::kCodeAt + 12);
        }
    }
}

TEST_CASE("who leaves in the middle of a trace ends the slice where the block is left") {
    for (int64_t slice : {5, 100, 1000}) {
        const std::initializer_list<uint8_t> code = {
            0x40, 0xa3, 0x00, 0x00, 0x20, 0x00,  // inc eax; mov [200000h], eax
            0x39, 0xc0, 0x74, 0x03,              // cmp eax, eax; jz
            0x42, 0x42, 0x42,                    // inc edx three times
            0x41, 0x4e, 0x75, 0xef, 0xf4};       // inc ecx; dec esi; jnz; hlt
        Runner plain(false, code), translated(true, code);
        plain.cpu.gpr[Rsi] = translated.cpu.gpr[Rsi] = 100'000;
        plain.leaver.every = translated.leaver.every = 77;
        for (unsigned n = 0; n < 1000; n++) {
            CAPTURE(slice);
            CAPTURE(n);
            runBoth(plain, translated, slice);
        }
        if (slice > 5) CHECK(translated.statistics().loops > 0);
    }
}
