#include <doctest/doctest.h>

#include <vector>

#include "devices/i8042.hpp"

using namespace kiln;

namespace {

using Bytes = std::vector<int>;

struct Fixture {
    FakeTime time;
    Clock clock{time};
    int irq1s = 0, irq12s = 0, resets = 0;
    std::vector<bool> a20;
    IrqInput irq1{[this](bool level) { irq1s += level; }}, irq12{[this](bool level) { irq12s += level; }};
    I8042 kbc{clock, irq1, irq12};

    Fixture() {
        kbc.onA20 = [this](bool on) { a20.push_back(on); };
        kbc.onReset = [this] { resets++; };
    }
    void out(uint16_t port, uint8_t value) { kbc.ioWrite(port - 0x60u, 1, value); }
    uint8_t in(uint16_t port) { return uint8_t(kbc.ioRead(port - 0x60u, 1)); }
    void advance(Nanos by) { time.advance(by), clock.runDue(); }
    void command(uint8_t c, int argument = -1) {
        out(0x64, c);
        if (argument >= 0) out(0x60, uint8_t(argument));
    }
    // Everything that comes within 50 ms; bytes of the mouse with 0x100 added.
    Bytes drain() {
        Bytes got;
        for (int i = 0; i < 100; i++) {
            uint8_t status = in(0x64);
            if (status & 1) got.push_back(in(0x60) | (status & 0x20 ? 0x100 : 0));
            advance(500'000);
        }
        return got;
    }
    Bytes keyboard(uint8_t value) {
        out(0x60, value);
        return drain();
    }
    Bytes mouse(uint8_t value) {
        command(0xD4, value);
        Bytes got = drain();
        for (int& b : got) b -= 0x100;
        return got;
    }
    void typed(uint8_t usage) { kbc.keyboard().key(usage, true), kbc.keyboard().key(usage, false); }
    Bytes moved() {
        Bytes got = drain();
        for (int& b : got) b -= 0x100;
        return got;
    }
};

}  // namespace

TEST_CASE("8042: self-test, interface tests and command byte") {
    Fixture f;
    CHECK((f.in(0x64) & 0x05) == 0);
    f.command(0xAA);
    CHECK((f.in(0x64) & 0x0D) == 0x0D);
    CHECK(f.in(0x60) == 0x55);
    f.command(0xAB);
    CHECK(f.in(0x60) == 0x00);
    f.command(0xA9);
    CHECK(f.in(0x60) == 0x00);
    f.command(0x60, 0x47);
    f.command(0x20);
    CHECK(f.in(0x60) == 0x47);
    f.command(0xA7), f.command(0xAD), f.command(0x20);
    CHECK(f.in(0x60) == 0x77);
    f.command(0xA8), f.command(0xAE), f.command(0x20);
    CHECK(f.in(0x60) == 0x47);
    f.command(0x65, 0x99), f.command(0x25);
    CHECK(f.in(0x60) == 0x99);
}

TEST_CASE("8042: translated scan codes with one interrupt each") {
    Fixture f;
    f.typed(0x04);  // A
    CHECK(f.irq1.level());
    CHECK(f.in(0x60) == 0x1E);
    CHECK_FALSE(f.irq1.level());
    CHECK(f.in(0x60) == 0x1E);  // a second reader in the chain sees the same byte
    f.advance(1'000'000);
    CHECK(f.irq1s == 2);
    CHECK(f.in(0x60) == 0x9E);
    f.typed(0x50);  // Left
    CHECK(f.drain() == Bytes{0xE0, 0x4B, 0xE0, 0xCB});
    f.typed(0x40);  // F7: the odd code 0x83
    CHECK(f.drain() == Bytes{0x41, 0xC1});
    f.typed(kHidPause);
    CHECK(f.drain() == Bytes{0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5});
    f.typed(kHidPrintScreen);
    CHECK(f.drain() == Bytes{0xE0, 0x2A, 0xE0, 0x37, 0xE0, 0xB7, 0xE0, 0xAA});
    f.kbc.keyboard().key(kHidLeftAlt, true), f.drain();
    f.typed(kHidPrintScreen);
    CHECK(f.drain() == Bytes{0x54, 0xD4});
    f.kbc.keyboard().key(kHidLeftAlt, false), f.drain();
    f.kbc.keyboard().key(kHidLeftControl, true), f.drain();
    f.typed(kHidPause);
    CHECK(f.drain() == Bytes{0xE0, 0x46, 0xE0, 0xC6});
    f.typed(0xFF), f.typed(0);
    CHECK(f.drain().empty());
}

TEST_CASE("8042: set 1 codes of every letter, digit and modifier agree with the PC's") {
    const std::pair<uint8_t, int> table[] = {
        {0x14, 0x10}, {0x1A, 0x11}, {0x08, 0x12}, {0x1E, 0x02}, {0x27, 0x0B}, {0x28, 0x1C}, {0x29, 0x01},
        {0x2A, 0x0E}, {0x2B, 0x0F}, {0x2C, 0x39}, {0x2D, 0x0C}, {0x2E, 0x0D}, {0x2F, 0x1A}, {0x30, 0x1B},
        {0x31, 0x2B}, {0x33, 0x27}, {0x34, 0x28}, {0x35, 0x29}, {0x36, 0x33}, {0x37, 0x34}, {0x38, 0x35},
        {0x39, 0x3A}, {0x3A, 0x3B}, {0x43, 0x44}, {0x44, 0x57}, {0x45, 0x58}, {0x47, 0x46}, {0x53, 0x45},
        {0x55, 0x37}, {0x56, 0x4A}, {0x57, 0x4E}, {0x59, 0x4F}, {0x5D, 0x4C}, {0x61, 0x49}, {0x62, 0x52},
        {0x63, 0x53}, {0x64, 0x56}, {0xE0, 0x1D}, {0xE1, 0x2A}, {0xE2, 0x38}, {0xE5, 0x36}, {0x1D, 0x2C},
        {0x10, 0x32}, {0x0F, 0x26}, {0x0B, 0x23}};
    for (auto& row : table) {
        int usage = row.first, make = row.second;
        CAPTURE(usage);
        Fixture f;
        f.typed(uint8_t(usage));
        CHECK(f.drain() == Bytes{make, make | 0x80});
    }
}

TEST_CASE("keyboard: commands") {
    Fixture f;
    f.command(0x60, 0x01);  // no translation
    CHECK(f.keyboard(0xFF) == Bytes{0xFA, 0xAA});
    CHECK(f.keyboard(0xF2) == Bytes{0xFA, 0xAB, 0x83});
    CHECK(f.keyboard(0xEE) == Bytes{0xEE});
    CHECK(f.keyboard(0xED) == Bytes{0xFA});
    CHECK(f.keyboard(0x07) == Bytes{0xFA});
    CHECK(f.kbc.keyboard().leds() == 7);
    CHECK(f.keyboard(0xF0) == Bytes{0xFA});
    CHECK(f.keyboard(0x00) == Bytes{0xFA, 0x02});
    f.typed(0x50);
    CHECK(f.drain() == Bytes{0xE0, 0x6B, 0xE0, 0xF0, 0x6B});
    CHECK(f.keyboard(0xFE) == Bytes{0x6B});
    f.keyboard(0xF0), f.keyboard(0x01);
    f.typed(0x04);
    CHECK(f.drain() == Bytes{0x1E, 0x9E});
    CHECK(f.keyboard(0xF5) == Bytes{0xFA});
    f.typed(0x04);
    CHECK(f.drain().empty());
    CHECK(f.keyboard(0xF4) == Bytes{0xFA});
    f.typed(0x04);
    CHECK(f.drain().size() == 3);  // set 2 again
    CHECK(f.keyboard(0x12) == Bytes{0xFE});
    f.keyboard(0xED);
    CHECK(f.keyboard(0xF2) == Bytes{0xFA, 0xAB, 0x83});  // a command where an argument was due
}

TEST_CASE("8042: a disabled keyboard keeps its codes, a flood of keys is bounded") {
    Fixture f;
    f.command(0xAD);
    f.typed(0x04);
    CHECK(f.drain().empty());
    f.command(0xAE);
    CHECK(f.drain() == Bytes{0x1E, 0x9E});
    for (int i = 0; i < 10000; i++) f.typed(0x50);
    int count = 0;
    for (Bytes got = f.drain(); !got.empty(); got = f.drain()) count += int(got.size());
    CHECK(count <= 256);
    CHECK(count % 2 == 0);  // whole codes only
}

TEST_CASE("8042: A20 and reset by all their ways") {
    Fixture f;
    f.command(0xD1, 0xDD);
    CHECK_FALSE(f.kbc.a20());
    CHECK(f.in(0x92) == 0x00);
    f.command(0xD0);
    CHECK((f.in(0x60) & 3) == 1);
    f.out(0x92, 0x02);
    CHECK(f.kbc.a20());
    f.command(0xDD), f.command(0xDF);
    CHECK(f.a20 == std::vector<bool>{false, true, false, true});
    CHECK(f.resets == 0);
    f.command(0xFE);
    f.command(0xD1, 0xDE);
    f.out(0x92, 0x03);
    CHECK(f.resets == 3);
    f.command(0xFF);
    CHECK(f.resets == 3);
}

TEST_CASE("8042: output buffer written by command, with the right interrupt") {
    Fixture f;
    f.command(0x60, 0x47);
    f.command(0xD2, 0x12);
    CHECK(f.irq1s == 1);
    CHECK(f.drain() == Bytes{0x12});
    f.command(0xD3, 0x34);
    CHECK(f.irq12s == 1);
    CHECK(f.drain() == Bytes{0x134});
}

TEST_CASE("mouse: identification and the IntelliMouse knocks") {
    Fixture f;
    CHECK(f.mouse(0xFF) == Bytes{0xFA, 0xAA, 0x00});
    CHECK(f.mouse(0xF2) == Bytes{0xFA, 0x00});
    for (uint8_t rate : {200, 100, 80}) {
        CHECK(f.mouse(0xF3) == Bytes{0xFA});
        CHECK(f.mouse(rate) == Bytes{0xFA});
    }
    CHECK(f.mouse(0xF2) == Bytes{0xFA, 0x03});
    for (uint8_t rate : {200, 200, 80}) f.mouse(0xF3), f.mouse(rate);
    CHECK(f.mouse(0xF2) == Bytes{0xFA, 0x04});
    CHECK(f.mouse(0xE9) == Bytes{0xFA, 0x00, 0x02, 80});
    CHECK(f.mouse(0xFF) == Bytes{0xFA, 0xAA, 0x00});
    CHECK(f.mouse(0x77) == Bytes{0xFE});
    CHECK(f.mouse(0xEE) == Bytes{0xFA});
    CHECK(f.mouse(0xF2) == Bytes{0xF2});
    CHECK(f.mouse(0xEC) == Bytes{0xFA});
}

TEST_CASE("mouse: packets of motion, wheel and buttons") {
    Fixture f;
    f.command(0x60, 0x47);
    f.kbc.mouse().move(5, 5, 0, 0);
    CHECK(f.moved().empty());  // reporting is off
    CHECK(f.mouse(0xF4) == Bytes{0xFA});
    f.irq12s = 0;
    f.kbc.mouse().move(5, 3, 0, 1);
    CHECK(f.moved() == Bytes{0x29, 5, 0xFD});
    CHECK(f.irq12s == 3);
    f.kbc.mouse().move(-300, 0, 0, 0);  // needs two packets
    CHECK(f.moved() == Bytes{0x18, 0x01, 0, 0x18, 256 - 45, 0});
    for (uint8_t rate : {200, 100, 80}) f.mouse(0xF3), f.mouse(rate);
    f.kbc.mouse().move(0, 0, 1, 4);
    CHECK(f.moved() == Bytes{0x0C, 0, 0, 0xFF});
    for (uint8_t rate : {200, 200, 80}) f.mouse(0xF3), f.mouse(rate);
    f.kbc.mouse().move(0, 0, -1, 0x14);
    CHECK(f.moved() == Bytes{0x0C, 0, 0, 0x21});
    f.kbc.mouse().move(0, 0, 0, 0);
    CHECK(f.moved() == Bytes{0x08, 0, 0, 0});
}

TEST_CASE("mouse: motion is joined between samples, but no click is lost") {
    Fixture f;
    f.mouse(0xF4);
    for (int i = 0; i < 10; i++) f.kbc.mouse().move(1, 0, 0, 0);
    CHECK(f.moved() == Bytes{0x08, 1, 0, 0x08, 9, 0});
    f.kbc.mouse().move(0, 0, 0, 1);
    f.kbc.mouse().move(0, 0, 0, 0);
    f.kbc.mouse().move(0, 0, 0, 1);
    f.kbc.mouse().move(0, 0, 0, 0);
    CHECK(f.moved() == Bytes{0x09, 0, 0, 0x08, 0, 0, 0x09, 0, 0, 0x08, 0, 0});
    f.mouse(0xF0);  // remote mode: only when asked
    f.kbc.mouse().move(2, 0, 0, 0);
    CHECK(f.moved().empty());
    CHECK(f.mouse(0xEB) == Bytes{0xFA, 0x08, 2, 0});
    f.kbc.mouse().move(1 << 30, -(1 << 30), 1 << 30, 0xFF);
    CHECK(f.mouse(0xEB) == Bytes{0xFA, 0x0F, 255, 255});
}

TEST_CASE("mouse: a guest that reads slowly gets whole packets") {
    Fixture f;
    f.mouse(0xF4);
    Bytes got;
    for (int i = 0; i < 12; i++) {
        f.kbc.mouse().move(2, 0, 0, 0);
        f.advance(50'000'000);
        if ((f.in(0x64) & 0x21) == 0x21) got.push_back(f.in(0x60));
    }
    CHECK(got == Bytes{0x08, 2, 0, 0x08, 4, 0, 0x08, 6, 0, 0x08, 6, 0});
}

TEST_CASE("8042: keyboard and mouse share the buffer without mixing up") {
    Fixture f;
    f.command(0x60, 0x47);
    f.mouse(0xF4);
    f.kbc.mouse().move(1, 0, 0, 0);
    f.typed(0x04);
    Bytes got = f.drain(), keys, motion;
    for (int b : got) (b & 0x100 ? motion : keys).push_back(b & 0xFF);
    CHECK(keys == Bytes{0x1E, 0x9E});
    CHECK(motion == Bytes{0x08, 1, 0});
}
