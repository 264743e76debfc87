// A guest of the VGA, for tests: sets modes with the registers a video BIOS would write.
#pragma once
#include <array>
#include <cstdint>
#include <span>

#include "devices/vga.hpp"
#include "devices/vga_renderer.hpp"

namespace kiln {

struct VgaMode {
    uint8_t misc;
    std::array<uint8_t, 5> sequencer;
    std::array<uint8_t, 25> crtc;
    std::array<uint8_t, 9> graphics;
    std::array<uint8_t, 21> attribute;
};

constexpr std::array<uint8_t, 21> identityPalette(uint8_t mode, uint8_t pan = 0) {
    std::array<uint8_t, 21> a{};
    for (uint8_t i = 0; i < 16; i++) a[i] = i;
    a[0x10] = mode, a[0x12] = 0x0F, a[0x13] = pan;
    return a;
}

constexpr VgaMode kText80x25{0x67,
                             {0x03, 0x00, 0x03, 0x00, 0x02},
                             {0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x0D, 0x0E, 0x00,
                              0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF},
                             {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF},
                             identityPalette(0x0C, 8)};
constexpr VgaMode kCga320x200{0x63,
                              {0x03, 0x09, 0x03, 0x00, 0x02},
                              {0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00,
                               0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xA2, 0xFF},
                              {0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0F, 0x00, 0xFF},
                              identityPalette(0x01)};
constexpr VgaMode kCga640x200{0x63,
                              {0x03, 0x01, 0x01, 0x00, 0x06},
                              {0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00,
                               0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xC2, 0xFF},
                              {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0D, 0x00, 0xFF},
                              identityPalette(0x01)};
constexpr VgaMode kPlanar640x480{
    0xE3,
    {0x03, 0x01, 0x0F, 0x00, 0x06},
    {0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0xEA, 0x8C, 0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0F, 0xFF},
    identityPalette(0x01)};
constexpr VgaMode kLinear320x200{
    0x63,
    {0x03, 0x01, 0x0F, 0x00, 0x0E},
    {0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0F, 0xFF},
    identityPalette(0x41)};

struct VgaGuest {
    FakeTime time;
    Clock clock{time};
    Log log;
    VgaCore vga{clock, log};
    VgaRenderer renderer{vga};

    void out(uint16_t port, uint8_t value) { vga.ports().ioWrite(port - 0x3B0u, 1, value); }
    uint8_t in(uint16_t port) { return uint8_t(vga.ports().ioRead(port - 0x3B0u, 1)); }
    void indexed(uint16_t port, uint8_t index, uint8_t value) {
        vga.ports().ioWrite(port - 0x3B0u, 2, index | value << 8);
    }
    void sequencer(uint8_t index, uint8_t value) { indexed(0x3C4, index, value); }
    void graphics(uint8_t index, uint8_t value) { indexed(0x3CE, index, value); }
    void crtc(uint8_t index, uint8_t value) { indexed(0x3D4, index, value); }
    void attribute(uint8_t index, uint8_t value) {
        in(0x3DA);
        out(0x3C0, index | 0x20);
        out(0x3C0, value);
    }
    void dac(uint8_t index, uint8_t r, uint8_t g, uint8_t b) {
        out(0x3C8, index);
        for (uint8_t v : {r, g, b}) out(0x3C9, v);
    }
    void dispi(Dispi index, uint16_t value) {
        vga.dispi().ioWrite(0, 2, unsigned(index));
        vga.dispi().ioWrite(1, 2, value);
    }
    uint16_t dispi(Dispi index) {
        vga.dispi().ioWrite(0, 2, unsigned(index));
        return uint16_t(vga.dispi().ioRead(1, 2));
    }
    void write(uint32_t address, uint8_t value) { vga.window().ioWrite(address - 0xA0000, 1, value); }
    uint8_t read(uint32_t address) { return uint8_t(vga.window().ioRead(address - 0xA0000, 1)); }

    void setMode(const VgaMode& mode) {
        dispi(Dispi::Enable, 0);
        out(0x3C2, mode.misc);
        for (uint8_t i = 0; i < 5; i++) sequencer(i, mode.sequencer[i]);
        crtc(0x11, 0);  // unprotect
        for (uint8_t i = 0; i < 25; i++) crtc(i, mode.crtc[i]);
        for (uint8_t i = 0; i < 9; i++) graphics(i, mode.graphics[i]);
        for (uint8_t i = 0; i < 21; i++) attribute(i, mode.attribute[i]);
        // Colour n of 0..255 is one that can be told from the others; 0 is black.
        for (unsigned i = 0; i < 256; i++) dac(uint8_t(i), i & 0x3F, i >> 2 & 0x3F, i ? 0x20 : 0);
    }
    uint32_t colour(unsigned i) const {
        auto wide = [](unsigned v) { return (v & 0x3F) << 2 | (v & 0x3F) >> 4; };
        return wide(i) << 16 | wide(i >> 2) << 8 | (i ? wide(0x20) : 0);
    }
    void setVbe(uint16_t width, uint16_t height, uint16_t depth, uint16_t flags = 0x41) {
        dispi(Dispi::Enable, 0);
        dispi(Dispi::XRes, width);
        dispi(Dispi::YRes, height);
        dispi(Dispi::Bpp, depth);
        dispi(Dispi::Enable, flags);
        in(0x3DA);
        in(0x3BA);
        out(0x3C0, 0x20);
    }
    // The four planes at an address, plane 0 in the low byte.
    uint32_t planes(uint32_t address) {
        const uint8_t* p = vga.vram().data() + address * 4;
        return p[0] | p[1] << 8 | p[2] << 16 | uint32_t(p[3]) << 24;
    }
    void setPlanes(uint32_t address, uint32_t value) {
        for (unsigned i = 0; i < 4; i++) vga.vram().data()[address * 4 + i] = uint8_t(value >> i * 8);
    }
    const Frame& picture() {
        renderer.update();
        return renderer.frame();
    }
    uint32_t pixel(unsigned x, unsigned y) {
        const Frame& f = picture();
        return f.pixels.at(size_t(y) * f.width + x) & 0xFFFFFF;
    }
};

}  // namespace kiln
