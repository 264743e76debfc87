// The VGA, driven through its ports and its memory window as a guest would.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "devices/vga_pci.hpp"
#include "frontend/key_map.hpp"
#include "frontend/screenshot.hpp"
#include "tests/vga_guest.hpp"

using namespace kiln;

TEST_SUITE("vga memory") {
    TEST_CASE("write mode 0: rotate, set/reset, functions, bit mask, map mask") {
        struct Case {
            const char* what;
            uint8_t setReset, enable, rotate, bitMask, mapMask, value;
            uint32_t expected;
        };
        // Latches hold 0x44332211 in every case.
        for (const Case& c : {
                 Case{"plain", 0, 0, 0x00, 0xFF, 0x0F, 0x5A, 0x5A5A5A5A},
                 Case{"map mask", 0, 0, 0x00, 0xFF, 0x05, 0x5A, 0xEE5AEE5A},
                 Case{"rotate right by 3", 0, 0, 0x03, 0xFF, 0x0F, 0x81, 0x30303030},
                 Case{"set/reset in planes 1 and 2", 0x02, 0x06, 0x00, 0xFF, 0x0F, 0x5A, 0x5A00FF5A},
                 Case{"and", 0, 0, 0x08, 0xFF, 0x0F, 0x0F, 0x04030201},
                 Case{"or", 0, 0, 0x10, 0xFF, 0x0F, 0x0F, 0x4F3F2F1F},
                 Case{"xor", 0, 0, 0x18, 0xFF, 0x0F, 0xFF, 0xBBCCDDEE},
                 Case{"bit mask takes the latch", 0, 0, 0x00, 0x0F, 0x0F, 0xAA, 0x4A3A2A1A},
                 Case{"all of it", 0x08, 0x08, 0x1C, 0xF0, 0x0B, 0x0F, 0xB4EED2E1},
             }) {
            CAPTURE(c.what);
            VgaGuest g;
            g.setMode(kPlanar640x480);
            g.setPlanes(0, 0x44332211);
            g.setPlanes(7, 0xEEEEEEEE);
            g.read(0xA0000);
            g.graphics(0, c.setReset), g.graphics(1, c.enable), g.graphics(3, c.rotate),
                g.graphics(8, c.bitMask);
            g.sequencer(2, c.mapMask);
            g.write(0xA0007, c.value);
            CHECK(g.planes(7) == c.expected);
        }
    }

    TEST_CASE("write modes 1, 2 and 3") {
        VgaGuest g;
        g.setMode(kPlanar640x480);
        g.setPlanes(0, 0x44332211);
        g.read(0xA0000);
        g.graphics(5, 1);
        g.write(0xA0010, 0x99);
        CHECK(g.planes(0x10) == 0x44332211);

        g.graphics(5, 2);
        g.write(0xA0011, 0x0A);
        CHECK(g.planes(0x11) == 0xFF00FF00);
        g.graphics(8, 0x0F);
        g.write(0xA0012, 0x0A);
        CHECK(g.planes(0x12) == 0x4F302F10);

        g.graphics(5, 3);
        g.graphics(0, 0x05);  // set/reset is the colour whether enabled or not
        g.graphics(1, 0x00);
        g.graphics(8, 0x3C);
        g.graphics(3, 0x01);
        g.write(0xA0013, 0xE0);  // rotated: 0x70, masked: 0x30
        CHECK(g.planes(0x13) == 0x44330231);
    }

    TEST_CASE("read modes 0 and 1") {
        VgaGuest g;
        g.setMode(kPlanar640x480);
        g.setPlanes(5, 0xF0CCAA0F);
        for (uint8_t plane = 0; plane < 4; plane++) {
            g.graphics(4, plane);
            CHECK(g.read(0xA0005) == uint8_t(0xF0CCAA0F >> plane * 8));
        }
        g.graphics(5, 8);
        for (uint8_t colour = 0; colour < 16; colour++)
            for (uint8_t care = 0; care < 16; care++) {
                g.graphics(2, colour), g.graphics(7, care);
                uint8_t expected = 0;
                for (unsigned bit = 0; bit < 8; bit++) {
                    unsigned pixel = 0;
                    for (unsigned p = 0; p < 4; p++) pixel |= (0xF0CCAA0F >> (p * 8 + bit) & 1) << p;
                    if ((pixel & care) == (colour & care)) expected |= 1 << bit;
                }
                CHECK(g.read(0xA0005) == expected);
            }
    }

    TEST_CASE("odd/even: characters in plane 0, attributes in plane 1") {
        VgaGuest g;
        g.setMode(kText80x25);
        g.vga.window().ioWrite(0x18000 + 6, 4, 0x70423141);
        CHECK((g.planes(6) & 0xFFFF) == 0x3141);
        CHECK((g.planes(8) & 0xFFFF) == 0x7042);
        CHECK(g.planes(7) == 0);
        CHECK(g.vga.window().ioRead(0x18000 + 6, 4) == 0x70423141);
        CHECK(g.read(0xB0000) == 0xFF);  // the window is at 0xB8000 only
        g.write(0xA0006, 0x55);
        CHECK((g.planes(6) & 0xFF) == 0x41);
    }

    TEST_CASE("chain 4: the low address bits choose the plane") {
        VgaGuest g;
        g.setMode(kLinear320x200);
        for (unsigned i = 0; i < 4; i++) g.write(0xA1230 + i, uint8_t(0x10 + i));
        CHECK(g.planes(0x1230) == 0x13121110);
        for (unsigned i = 0; i < 4; i++) CHECK(g.read(0xA1230 + i) == 0x10 + i);
        g.sequencer(2, 0x0E);
        g.write(0xA1230, 0x99);
        CHECK(g.read(0xA1230) == 0x10);
    }

    TEST_CASE("RAM disabled in the miscellaneous register is open bus") {
        VgaGuest g;
        g.setMode(kLinear320x200);
        g.write(0xA0000, 1);
        g.out(0x3C2, 0x61);
        CHECK(g.read(0xA0000) == 0xFF);
    }
}

TEST_SUITE("vga registers") {
    TEST_CASE("CRTC protection leaves line compare writable") {
        VgaGuest g;
        g.setMode(kText80x25);
        g.crtc(0, 0x11), g.crtc(7, 0xEF);
        CHECK(g.vga.registers().crtc[0] == 0x5F);
        CHECK(g.vga.registers().crtc[7] == 0x0F);
        g.crtc(0x11, 0x0E);
        g.crtc(0, 0x11);
        CHECK(g.vga.registers().crtc[0] == 0x11);
    }

    TEST_CASE("the CRTC moves between 3Bx and 3Dx") {
        VgaGuest g;
        g.out(0x3C2, 0x01);
        g.out(0x3D4, 0x0C);
        CHECK(g.in(0x3D4) == 0x0C);
        CHECK(g.in(0x3B4) == 0xFF);
        g.out(0x3C2, 0x00);
        CHECK(g.in(0x3B4) == 0x0C);
        CHECK(g.in(0x3D4) == 0xFF);
        CHECK(g.in(0x3CC) == 0);
    }

    TEST_CASE("the attribute flip-flop") {
        VgaGuest g;
        g.out(0x3C2, 0x01);
        g.in(0x3DA);
        g.out(0x3C0, 0x03);
        g.out(0x3C0, 0x2A);
        g.out(0x3C0, 0x03);
        CHECK(g.in(0x3C1) == 0x2A);
        g.in(0x3DA);  // data was expected; an index is again
        g.out(0x3C0, 0x23);
        CHECK(g.in(0x3C0) == 0x23);
    }

    TEST_CASE("DAC: triples, states, six and eight bits") {
        VgaGuest g;
        g.out(0x3C8, 0xFF);
        CHECK(g.in(0x3C7) == 0);
        for (uint8_t v : {0xFF, 0x12, 0x23, 0x01, 0x02, 0x03}) g.out(0x3C9, v);
        CHECK(g.in(0x3C8) == 0x01);  // wrapped and went on
        g.out(0x3C7, 0xFF);
        CHECK(g.in(0x3C7) == 3);
        for (uint8_t v : {0x3F, 0x12, 0x23, 0x01, 0x02, 0x03}) CHECK(g.in(0x3C9) == v);
        // Two components and a new index change nothing.
        g.out(0x3C8, 7);
        g.out(0x3C9, 9), g.out(0x3C9, 9);
        g.out(0x3C7, 7);
        CHECK(g.in(0x3C9) == 0);
        g.dispi(Dispi::Enable, 0x20);
        g.dac(1, 0xFF, 0x80, 0x01);
        g.out(0x3C7, 1);
        CHECK(g.in(0x3C9) == 0xFF);
        CHECK(g.in(0x3C9) == 0x80);
    }

    TEST_CASE("retrace comes 70 times a second in text mode, 60 times in 640x480 and in VBE") {
        auto retraces = [](VgaGuest& g) {
            unsigned count = 0;
            bool last = false;
            for (unsigned us = 0; us < 1'000'000; us += 10) {
                g.time.advance(10'000);
                bool now = g.in(0x3DA) & 8;
                if (now) CHECK((g.in(0x3DA) & 1) == 1);
                count += now && !last;
                last = now;
            }
            return count;
        };
        VgaGuest g;
        g.setMode(kText80x25);
        CHECK(retraces(g) == 70);
        g.setMode(kPlanar640x480);
        CHECK(std::abs(int(retraces(g)) - 60) <= 1);
        g.setVbe(1024, 768, 32);
        CHECK(std::abs(int(retraces(g)) - 60) <= 1);
    }
}

TEST_SUITE("vga pictures") {
    void setGlyph(VgaGuest & g, unsigned font, uint8_t character, std::initializer_list<uint8_t> rows) {
        unsigned y = 0;
        for (uint8_t row : rows) g.vga.vram().data()[(font + character * 32 + y++) * 4 + 2] = row;
    }
    void putCharacter(VgaGuest & g, unsigned x, unsigned y, uint8_t character, uint8_t attribute) {
        g.vga.window().ioWrite(0x18000 + (y * 80 + x) * 2, 2, character | attribute << 8);
    }

    TEST_CASE("text: glyph, colours, the ninth column") {
        VgaGuest g;
        g.setMode(kText80x25);
        g.crtc(0x0A, 0x20);
        setGlyph(g, 0, 'A', {0x81, 0x42, 0xFF});
        setGlyph(g, 0, 0xC4, {0xFF});
        putCharacter(g, 2, 1, 'A', 0x1E);
        putCharacter(g, 3, 1, 0xC4, 0x1E);
        const Frame& f = g.picture();
        REQUIRE(f.width == 720);
        REQUIRE(f.height == 400);
        CHECK(f.fillsFourByThree);
        uint8_t rows[] = {0x81, 0x42, 0xFF, 0x00};
        for (unsigned y = 0; y < 4; y++)
            for (unsigned x = 0; x < 9; x++) {
                bool ink = x < 8 && rows[y] >> (7 - x) & 1;
                CHECK(g.pixel(18 + x, 16 + y) == g.colour(ink ? 14 : 1));
            }
        CHECK(g.pixel(27 + 8, 16) == g.colour(14));  // line graphics go on into the ninth column
        g.attribute(0x10, 0x08);
        CHECK(g.pixel(27 + 8, 16) == g.colour(1));
    }

    TEST_CASE("text: two fonts of 256 characters") {
        VgaGuest g;
        g.setMode(kText80x25);
        g.crtc(0x0A, 0x20);
        g.sequencer(3, 0x04 | 0x10);  // attribute bit 3 set: font 1; clear: font 4
        setGlyph(g, 0x4000, 'B', {0xF0});
        setGlyph(g, 0x2000, 'B', {0x0F});
        putCharacter(g, 0, 0, 'B', 0x0F);
        putCharacter(g, 1, 0, 'B', 0x07);
        CHECK(g.pixel(0, 0) == g.colour(15));
        CHECK(g.pixel(7, 0) == 0);
        CHECK(g.pixel(9, 0) == 0);
        CHECK(g.pixel(9 + 7, 0) == g.colour(7));
    }

    TEST_CASE("text: cursor shape, place and blinking; blinking characters") {
        VgaGuest g;
        g.setMode(kText80x25);
        g.crtc(0x0A, 0x03), g.crtc(0x0B, 0x05), g.crtc(0x0E, 0), g.crtc(0x0F, 81);
        setGlyph(g, 0, 'C', {0xFF});
        putCharacter(g, 1, 1, ' ', 0x07);
        putCharacter(g, 0, 0, 'C', 0x87);
        CHECK(g.pixel(9, 16 + 2) == 0);
        for (unsigned y = 3; y <= 5; y++) CHECK(g.pixel(9, 16 + y) == g.colour(7));
        CHECK(g.pixel(9, 16 + 6) == 0);
        CHECK(g.pixel(18, 16 + 4) == 0);
        CHECK(g.pixel(0, 0) == g.colour(7));
        CHECK(!g.renderer.update());  // a second look at the same
        g.time.advance(8 * kSecond / 70 + 1000);
        CHECK(g.renderer.update());
        CHECK(g.pixel(9, 16 + 4) == 0);
        CHECK(g.pixel(0, 0) == g.colour(7));
        g.time.advance(8 * kSecond / 70 + 1000);
        CHECK(g.pixel(9, 16 + 4) == g.colour(7));
        CHECK(g.pixel(0, 0) == 0);
        g.crtc(0x0A, 0x0E);  // start behind the end: no cursor
        CHECK(g.pixel(9, 16 + 4) == 0);
    }

    TEST_CASE("text: start address, line compare, panning, underline") {
        VgaGuest g;
        g.setMode(kText80x25);
        g.crtc(0x0A, 0x20);
        setGlyph(g, 0, 'D', {0x80});
        putCharacter(g, 0, 0, 'D', 0x07);
        putCharacter(g, 0, 1, 'D', 0x06);
        putCharacter(g, 0, 2, 'D', 0x05);
        g.crtc(0x0D, 80);  // the second row comes first
        CHECK(g.pixel(0, 0) == g.colour(6));
        g.crtc(0x18, 31), g.crtc(9, 0x0F), g.crtc(7, 0x0F);  // split behind line 31
        CHECK(g.pixel(0, 16) == g.colour(5));
        CHECK(g.pixel(0, 32) == g.colour(7));
        CHECK(g.renderer.text().starts_with("D\nD\nD\nD\n"));
        g.attribute(0x13, 0);  // one dot to the left, in nine-dot characters
        CHECK(g.pixel(0, 0) == 0);
        CHECK(g.pixel(0, 32) == 0);
        g.attribute(0x10, 0x2C);  // but not below the split
        CHECK(g.pixel(0, 0) == 0);
        CHECK(g.pixel(0, 32) == g.colour(7));
        g.crtc(0x14, 0x0D);
        putCharacter(g, 3, 1, ' ', 0x01);
        CHECK(g.pixel(30, 13) == g.colour(1));
        CHECK(g.pixel(30, 12) == 0);
    }

    TEST_CASE("the text of a text screen") {
        VgaGuest g;
        CHECK(g.renderer.text().size() < 10);  // nothing programmed yet
        g.setMode(kText80x25);
        const std::string prompt = "C:\\>dir";
        for (unsigned i = 0; i < prompt.size(); i++) putCharacter(g, i, 3, uint8_t(prompt[i]), 7);
        putCharacter(g, 79, 24, 0xDB, 7);
        std::string text = g.renderer.text();
        CHECK(text.starts_with("\n\n\nC:\\>dir\n\n"));
        CHECK(std::count(text.begin(), text.end(), '\n') == 25);
        CHECK(text.ends_with(" █\n"));
        g.setMode(kLinear320x200);
        CHECK(g.renderer.text().empty());
    }

    TEST_CASE("16 colours in planes") {
        VgaGuest g;
        g.setMode(kPlanar640x480);
        g.setPlanes(80 * 479 + 79, 0x01010100);
        CHECK(g.picture().width == 640);
        CHECK(g.picture().height == 480);
        CHECK(g.pixel(639, 479) == g.colour(14));
        CHECK(g.pixel(638, 479) == 0);
        g.attribute(0x12, 0x07);  // colour plane enable
        CHECK(g.pixel(639, 479) == g.colour(6));
        g.attribute(0x14, 0x0C);  // colour select
        CHECK(g.pixel(639, 479) == g.colour(0xC6));
        g.attribute(0x13, 3);
        CHECK(g.pixel(636, 479) == g.colour(0xC6));
        g.sequencer(1, 0x21);
        CHECK(g.pixel(636, 479) == 0);
    }

    TEST_CASE("CGA modes: even and odd lines 8 KiB apart") {
        VgaGuest g;
        g.setMode(kCga320x200);
        g.write(0xB8000, 0x1B);  // pixels 0, 1, 2, 3
        g.write(0xB8001, 0xE4);  // 3, 2, 1, 0
        g.write(0xB8000 + 0x2000 + 80, 0xFF);
        CHECK(g.picture().width == 320);
        CHECK(g.picture().height == 200);
        for (unsigned i = 0; i < 4; i++) {
            CHECK(g.pixel(i, 0) == g.colour(i));
            CHECK(g.pixel(4 + i, 0) == g.colour(3 - i));
            CHECK(g.pixel(i, 1) == 0);
            CHECK(g.pixel(i, 3) == g.colour(3));
        }
        g.setMode(kCga640x200);
        g.write(0xB8000 + 79, 0x01);
        g.write(0xB8000 + 0x2000 + 79, 0x02);
        CHECK(g.picture().width == 640);
        CHECK(g.picture().height == 200);
        CHECK(g.pixel(639, 0) == g.colour(1));
        CHECK(g.pixel(638, 1) == g.colour(1));
    }

    TEST_CASE("mode 13h, and mode X on the same memory") {
        VgaGuest g;
        g.setMode(kLinear320x200);
        g.write(0xA0000 + 199 * 320 + 319, 200);
        g.write(0xA0000 + 17 * 320 + 5, 100);
        CHECK(g.picture().width == 320);
        CHECK(g.picture().height == 200);
        CHECK(g.pixel(319, 199) == g.colour(200));
        CHECK(g.pixel(5, 17) == g.colour(100));
        CHECK(g.pixel(4, 17) == 0);
        g.out(0x3C6, 0x0F);
        CHECK(g.pixel(5, 17) == g.colour(4));
        g.out(0x3C6, 0xFF);

        g.sequencer(4, 0x06);  // unchained, CRTC in byte mode
        g.crtc(0x14, 0x00), g.crtc(0x17, 0xE3);
        g.sequencer(2, 0x04);
        g.write(0xA0000 + 80, 77);
        CHECK(g.pixel(2, 1) == g.colour(77));
        g.crtc(0x0D, 80);
        CHECK(g.pixel(2, 0) == g.colour(77));
    }

    TEST_CASE("DISPI: identity, capabilities, mode setting") {
        VgaGuest g;
        CHECK(g.dispi(Dispi::Id) == 0xB0C5);
        g.dispi(Dispi::Id, 0x1234);
        CHECK(g.dispi(Dispi::Id) == 0xB0C5);
        g.dispi(Dispi::Id, 0xB0C0);
        CHECK(g.dispi(Dispi::Id) == 0xB0C0);
        CHECK(g.dispi(Dispi::VideoMemory64K) == 256);
        g.vga.dispi().ioWrite(0, 2, 0x2D01);  // no register, though its low byte is that of XRes
        g.vga.dispi().ioWrite(1, 2, 640);
        CHECK(g.vga.dispi().ioRead(1, 2) == 0xFFFF);
        CHECK(g.dispi(Dispi::XRes) != 640);
        g.dispi(Dispi::Enable, 2);
        CHECK(g.dispi(Dispi::XRes) == 2560);
        CHECK(g.dispi(Dispi::YRes) == 1600);
        CHECK(g.dispi(Dispi::Bpp) == 32);
        g.setVbe(800, 600, 32);
        CHECK(g.dispi(Dispi::VirtWidth) == 800);
        CHECK(g.dispi(Dispi::VirtHeight) == 16 * 1024 * 1024 / 3200);
        g.dispi(Dispi::VirtWidth, 1024);
        CHECK(g.dispi(Dispi::VirtHeight) == 4096);
        g.dispi(Dispi::YOffset, 0xFFFF);
        CHECK(g.dispi(Dispi::YOffset) == 4096 - 600);
        g.setVbe(0xFFFF, 0xFFFF, 77);
        CHECK(g.dispi(Dispi::XRes) == 2560);
        CHECK(g.dispi(Dispi::Bpp) == 8);
    }

    TEST_CASE("DISPI: every depth") {
        struct Case {
            uint16_t depth;
            std::initializer_list<uint8_t> bytes;
            uint32_t expected;
        };
        for (const Case& c :
             {Case{15, {0x1F, 0x7C}, 0xFF00FF}, Case{16, {0xE0, 0x07}, 0x00FF00},
              Case{24, {0x12, 0x34, 0x56}, 0x563412}, Case{32, {0x12, 0x34, 0x56, 0x78}, 0x563412}}) {
            CAPTURE(c.depth);
            VgaGuest g;
            g.setVbe(640, 480, c.depth);
            g.dispi(Dispi::VirtWidth, 800);
            g.dispi(Dispi::XOffset, 8), g.dispi(Dispi::YOffset, 5);
            unsigned pixelBytes = (c.depth + 7u) / 8;
            size_t at = ((5 + 2) * 800 + 8 + 3) * pixelBytes;
            std::copy(c.bytes.begin(), c.bytes.end(), g.vga.vram().data() + at);
            CHECK(g.picture().width == 640);
            CHECK(!g.picture().fillsFourByThree);
            CHECK(g.pixel(3, 2) == c.expected);
            CHECK(g.pixel(2, 2) == 0);
            CHECK(!g.renderer.update());
            g.vga.vram().data()[at] ^= 1;
            CHECK(g.renderer.update());
        }
        VgaGuest g;
        g.setMode(kPlanar640x480);
        g.setVbe(800, 600, 4);
        g.write(0xA0000 + 100, 0x80);
        CHECK(g.pixel(0, 1) == g.colour(15));
        g.setVbe(640, 480, 8);
        g.dispi(Dispi::Bank, 2);
        g.write(0xA0005, 99);  // linear through the banked window
        CHECK(g.vga.vram().data()[0x20005] == 99);
        CHECK(g.read(0xA0005) == 99);
        unsigned at = 0x20005;
        CHECK(g.pixel(at % 640, at / 640) == g.colour(99));
    }

    TEST_CASE("DISPI: memory is cleared unless asked not to be") {
        VgaGuest g;
        g.vga.vram().data()[1000] = 7;
        g.setVbe(640, 480, 8, 0x41 | 0x80);
        CHECK(g.vga.vram().data()[1000] == 7);
        g.setVbe(640, 480, 8);
        CHECK(g.vga.vram().data()[1000] == 0);
    }

    TEST_CASE("BAR 2: VGA ports, DISPI registers, size of the extended ones") {
        VgaGuest g;
        IoHandler& mmio = g.vga.mmio();
        mmio.ioWrite(0x402, 1, 0x67);
        CHECK(g.in(0x3CC) == 0x67);
        CHECK(mmio.ioRead(0x40C, 1) == 0x67);
        mmio.ioWrite(0x502, 2, 640);
        CHECK(g.dispi(Dispi::XRes) == 640);
        CHECK(mmio.ioRead(0x500, 2) == 0xB0C5);
        CHECK(mmio.ioRead(0x514, 2) == 256);
        CHECK(mmio.ioRead(0x600, 4) == 8);
        CHECK(mmio.ioRead(0x604, 4) == 0x1E1E1E1E);
        CHECK(mmio.ioRead(0x700, 4) == 0xFFFFFFFF);
    }
}

TEST_SUITE("vga on PCI") {
    TEST_CASE("identity, and video memory behind BAR 0") {
        FakeTime time;
        Clock clock(time);
        Log log;
        PhysicalMemory memory;
        PortBus ports;
        PciBus bus(memory, ports);
        VgaPci vga(clock, log, "");
        Bdf at(0, 2, 0);
        bus.add(at, vga);
        bus.reset();
        CHECK(bus.configRead(at, 0x00, 4) == 0x11111234);
        CHECK(bus.configRead(at, 0x08, 4) == 0x03000002);
        CHECK(bus.configRead(at, 0x30, 4) == 0);  // no ROM was given
        bus.configWrite(at, 0x10, 4, 0xFFFFFFFF);
        CHECK(bus.configRead(at, 0x10, 4) == 0xFF000008);
        bus.configWrite(at, 0x10, 4, 0xE0000000);
        bus.configWrite(at, 0x18, 4, 0xFEB00000);
        bus.configWrite(at, 0x04, 2, 3);
        memory.write<uint32_t>(PhysAddr(0xE0001000), 0x12345678);
        CHECK(vga.core().vram().data()[0x1000] == 0x78);
        CHECK(memory.access(PhysAddr(0xFEB00500), 2) == 0xB0C5);
    }

    TEST_CASE("a video BIOS that is none is refused with its name") {
        FakeTime time;
        Clock clock(time);
        Log log;
        auto path = std::filesystem::temp_directory_path() / "kiln-test-vgabios.bin";
        auto refused = [&] {
            try {
                VgaPci vga(clock, log, path.string());
            } catch (const std::runtime_error& e) {
                return std::string(e.what()).find(path.string()) != std::string::npos;
            }
            return false;
        };
        std::filesystem::remove(path);
        CHECK(refused());
        std::ofstream(path) << "";
        CHECK(refused());
        std::ofstream(path) << std::string(2048, 'x');
        CHECK(refused());
        std::filesystem::remove(path);
        std::filesystem::create_directory(path);
        CHECK(refused());
        std::filesystem::remove(path);
    }
}

TEST_SUITE("vga robustness") {
    TEST_CASE("all ones into every register") {
        VgaGuest g;
        for (unsigned round = 0; round < 2; round++) {
            for (unsigned port = 0x3B0; port < 0x3E0; port++)
                for (unsigned index = 0; index < 256; index++) {
                    if (port & 1) g.out(uint16_t(port - 1), uint8_t(index));
                    g.out(uint16_t(port), 0xFF);
                    g.in(uint16_t(port));
                }
            for (unsigned offset = 0; offset < 4096; offset++) {
                g.vga.mmio().ioWrite(offset, 1, 0xFF);
                g.vga.mmio().ioRead(offset, 1);
                if (offset % 8 == 0) g.vga.mmio().ioWrite(offset, 8, ~0ull);
            }
            for (unsigned index = 0; index < 0x10000; index += 5) g.dispi(Dispi(index), 0xFFFF);
            for (unsigned i = 0; i < 11; i++) g.dispi(Dispi(i), 0xFFFF);
            g.vga.window().ioWrite(0x1FFF8, 8, ~0ull);
            g.vga.window().ioRead(0, 8);
            g.picture();
            g.renderer.text();
        }
    }

    // Bounds are what this is about: it means most in a build with -fsanitize=address,undefined.
    TEST_CASE("random registers and memory") {
        std::mt19937 random(1);
        VgaGuest g;
        for (unsigned i = 0; i < 10'000; i++) {
            g.out(0x3C2, uint8_t(random() | 1));
            for (uint8_t r = 0; r < 8; r++) g.sequencer(r, uint8_t(random()));
            for (uint8_t r = 0; r < 9; r++) g.graphics(r, uint8_t(random()));
            g.crtc(0x11, 0);
            for (uint8_t r = 0; r < 25; r++) g.crtc(r, uint8_t(random()));
            if (i % 16) {  // mostly small pictures: ten thousand large ones take long
                g.crtc(0x11, 0);
                g.crtc(7, uint8_t(random() & ~0x42)), g.crtc(0x12, random() % 48);
            }
            for (uint8_t r = 0; r < 32; r++) g.attribute(r, uint8_t(random()));
            if (random() % 8) g.sequencer(1, uint8_t(random() & ~0x20));
            bool vbe = i % 16 == 3;
            for (unsigned d = 1; d < 10; d++)
                if (d != unsigned(Dispi::Enable)) g.dispi(Dispi(d), uint16_t(random() >> random() % 16));
            g.dispi(Dispi::Enable, uint16_t(vbe ? random() | 1 : random() & ~1u));
            for (unsigned d = 5; d < 10; d++) g.dispi(Dispi(d), uint16_t(random()));
            for (unsigned n = 0; n < 64; n++) {
                g.vga.window().ioWrite(random() % 0x20000 & ~3u, 4, random());
                g.vga.window().ioRead(random() % 0x20000 & ~3u, 4);
                g.vga.vram().data()[random() % VgaCore::kVramSize] = uint8_t(random());
            }
            g.time.advance(random() % kSecond);
            g.in(0x3DA);
            const Frame& f = g.picture();
            REQUIRE(f.width <= 2560);
            REQUIRE(f.height <= 1600);
            REQUIRE(f.pixels.size() == size_t(f.width) * f.height);
            if (i % 8 == 0) REQUIRE(g.renderer.text().size() < 1100 * 3 * 260);
        }
    }

    TEST_CASE("equal states have equal hashes, and a picture survives a visit of the state") {
        VgaGuest g;
        g.setMode(kText80x25);
        StateHash before, after;
        g.vga.state(before);
        g.vga.state(after);
        CHECK(before.value() == after.value());
        g.write(0xB8000, 1);
        StateHash changed;
        g.vga.state(changed);
        CHECK(before.value() != changed.value());
    }
}

TEST_SUITE("screenshots and keys") {
    TEST_CASE("PNG files") {
        auto path = std::filesystem::temp_directory_path() / "kiln-test-screenshot.png";
        std::string error;
        CHECK(!writePng(path.string(), Frame{}, error));
        CHECK(!error.empty());
        Frame f{2, 1, {0x00112233, 0xFFFFFFFF}, false};
        CHECK(writePng(path.string(), f, error));
        std::ifstream file(path, std::ios::binary);
        std::string head(8, 0);
        file.read(head.data(), 8);
        CHECK(head == "\x89PNG\r\n\x1A\n");
        std::filesystem::remove(path);
        CHECK(!writePng("/nonexistent/picture.png", f, error));
        CHECK(error.find("/nonexistent/picture.png") != std::string::npos);
    }

    TEST_CASE("keys by name, chord and character") {
        CHECK(keyByName("a") == 0x04);
        CHECK(keyByName("0") == 0x27);
        CHECK(keyByName("f12") == 0x45);
        CHECK(!keyByName("f99"));
        CHECK(!keyByName(""));
        CHECK(keysByChord("ctrl-alt-delete") == std::vector<uint8_t>{0xE0, 0xE2, 0x4C});
        CHECK(keysByChord("ctrl-nonsense").empty());
        for (char c = ' '; c <= '~'; c++) CHECK(keyStrokeOf(c));
        CHECK(keyStrokeOf('\\')->usage == 0x31);
        CHECK(keyStrokeOf('@')->usage == 0x1F);
        CHECK(keyStrokeOf('@')->shift);
        CHECK(!keyStrokeOf('\0'));
        CHECK(!keyStrokeOf('\xE4'));
    }
}
