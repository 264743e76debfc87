// Turns the VGA's registers and video memory into pictures, and text screens into text.
//
// Works scan line by scan line as the CRTC counts them (start address, row scan, line compare, word and
// double-word addressing), but whole frames at a time: changes between two scan lines are not seen.
// Not modelled: blinking in graphics modes, display-enable and cursor skew other than the cursor's own,
// interlace, and the border.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "devices/frame.hpp"
#include "devices/vga.hpp"

namespace kiln {

class VgaRenderer {
  public:
    explicit VgaRenderer(const VgaCore& vga) : vga_(vga) {}

    // Brings frame() up to date. Returns whether anything in it changed. To be called on the machine's
    // thread.
    bool update();
    const Frame& frame() const { return frame_; }

    // The characters of a text screen in UTF-8, a line each, without trailing blanks; "" in graphics modes.
    std::string text() const;

  private:
    struct Geometry {  // of the legacy modes
        unsigned columns, scanLines,
            repeat;     // character clocks; scan lines; scan lines a picture row stands for
        unsigned dots;  // pixels a character clock
        unsigned width, height;
    };
    struct Line {  // what the CRTC's counters say about one scan line
        unsigned address, rowScan;
        bool split;  // below the line-compare line
    };

    Geometry geometry() const;
    Line lineAt(unsigned scanLine) const;
    unsigned planeAddress(unsigned counter, unsigned rowScan) const;
    uint32_t planes(unsigned address) const;
    unsigned panning(const Line& line) const;

    bool sourceChanged();
    void resize(unsigned width, unsigned height, bool fourByThree);
    void blank();
    void buildPalettes();
    void renderLegacy();
    void textLine(const Line& line, unsigned columns, uint32_t* out);
    void graphicsLine(const Line& line, unsigned columns, uint32_t* out);
    bool renderVbe(bool registersChanged);
    void vbeRow(const uint8_t* source, unsigned depth, unsigned width, uint32_t* out);
    void vbePlanarRow(const uint8_t* source, unsigned x, unsigned width, uint32_t* out);

    const VgaCore& vga_;
    Frame frame_;
    std::array<uint32_t, 256> dac_{};     // DAC index -> XRGB
    std::array<uint32_t, 16> palette_{};  // attribute controller's output for a 4-bit pixel
    std::vector<uint32_t> line_;          // one scan line before panning
    std::vector<uint8_t> key_, newKey_;   // registers and blink phases of the last picture
    std::vector<uint8_t> shadow_;         // video memory of the last picture
};

}  // namespace kiln
