// Pictures of the DISPI modes: rows of packed pixels, or of four planes at 4 bits a pixel.
#include <cstring>

#include "devices/vga_renderer.hpp"

namespace kiln {

namespace {

uint16_t load16(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }

// n bits of colour -> 8, so that all ones become all ones.
constexpr uint32_t widen5(unsigned v) { return (v & 31) << 3 | (v & 31) >> 2; }
constexpr uint32_t widen6(unsigned v) { return (v & 63) << 2 | (v & 63) >> 4; }

}  // namespace

// The visible rectangle lies inside video memory: VgaCore::dispiNormalise sees to it. Rows that are as they
// were need no conversion; that makes a quiet screen cheap.
bool VgaRenderer::renderVbe(bool registersChanged) {
    const VgaRegisters& r = vga_.registers();
    unsigned depth = r.get(Dispi::Bpp), width = r.get(Dispi::XRes), height = r.get(Dispi::YRes);
    unsigned x = r.get(Dispi::XOffset), pitch = r.vbeBytesPerLine();
    unsigned pixelBytes = (depth + 7) / 8;
    size_t rowBytes = depth == 4 ? ((x & 7) + width + 7) / 8 * 4 : size_t(width) * pixelBytes;
    size_t firstByte = depth == 4 ? x / 8 * 4 : size_t(x) * pixelBytes;

    bool all = registersChanged || shadow_.size() != rowBytes * height || frame_.width != width ||
               frame_.height != height;
    shadow_.resize(rowBytes * height);
    resize(width, height, false);
    bool changed = all;
    for (unsigned y = 0; y < height; y++) {
        const uint8_t* source = vga_.vram().data() + size_t(r.get(Dispi::YOffset) + y) * pitch + firstByte;
        uint8_t* last = shadow_.data() + rowBytes * y;
        if (!all && std::memcmp(last, source, rowBytes) == 0) continue;
        changed = true;
        std::memcpy(last, source, rowBytes);
        uint32_t* out = frame_.pixels.data() + size_t(y) * width;
        if (depth == 4)
            vbePlanarRow(source, x & 7, width, out);
        else
            vbeRow(source, depth, width, out);
    }
    return changed;
}

void VgaRenderer::vbePlanarRow(const uint8_t* source, unsigned x, unsigned width, uint32_t* out) {
    for (unsigned i = 0; i < width; i++, x++) {
        const uint8_t* byte = source + x / 8 * 4;
        unsigned bit = 7 - (x & 7), pixel = 0;
        for (unsigned plane = 0; plane < 4; plane++) pixel |= (byte[plane] >> bit & 1u) << plane;
        out[i] = palette_[pixel];
    }
}

void VgaRenderer::vbeRow(const uint8_t* source, unsigned depth, unsigned width, uint32_t* out) {
    switch (depth) {
        case 8:
            for (unsigned i = 0; i < width; i++) out[i] = dac_[source[i]];
            break;
        case 15:
            for (unsigned i = 0; i < width; i++) {
                unsigned v = load16(source + i * 2);
                out[i] = widen5(v >> 10) << 16 | widen5(v >> 5) << 8 | widen5(v);
            }
            break;
        case 16:
            for (unsigned i = 0; i < width; i++) {
                unsigned v = load16(source + i * 2);
                out[i] = widen5(v >> 11) << 16 | widen6(v >> 5) << 8 | widen5(v);
            }
            break;
        case 24:
            for (unsigned i = 0; i < width; i++, source += 3)
                out[i] = uint32_t(source[2]) << 16 | source[1] << 8 | source[0];
            break;
        default: std::memcpy(out, source, size_t(width) * 4); break;
    }
}

}  // namespace kiln
