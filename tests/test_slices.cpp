// Slices end at the same instruction in both engines, also where host code has to be left in the middle of a
// block: interrupts under counted time come when a slice is over.
#include "tests/system_guest.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using Mode = GuestBench::Mode;
constexpr uint16_t kSmall = 0x40;  // a data segment of 64 KiB

struct Runner : SystemGuest {
    Runner(bool translated, std::initializer_list<uint8_t> bytes) : SystemGuest(Mode::Protected32) {
        translator.reset();
        if (translated) translator = std::make_unique<Translator>(cpu, TranslatorOptions{.tier1 = 1});
        setGdt(kSmall, segment(kDataRw, 0, 0xffff, 4));
        cpu.gpr[Rbx] = kData0;
        cpu.gpr[Rcx] = kSmall;
        cpu.gpr[Rsi] = 1000;
        code(bytes);
    }
};

void sameSlices(std::initializer_list<uint8_t> bytes) {
    for (int64_t slice = 1; slice < 24; slice++) {
        Runner plain(false, bytes), translated(true, bytes);
        for (unsigned n = 0; n < 200; n++) {
            CAPTURE(slice);
            CAPTURE(n);
            plain.cpu.run(slice);
            translated.cpu.run(slice);
            REQUIRE(plain.cpu.executed() == translated.cpu.executed());
            REQUIRE(plain.cpu.rip == translated.cpu.rip);
            REQUIRE(plain.cpu.gpr[Rdx] == translated.cpu.gpr[Rdx]);
        }
        CHECK(static_cast<Translator&>(*translated.translator).statistics().entries > 0);
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
