#include "devices/vga_renderer.hpp"

#include <algorithm>
#include <cstring>

namespace kiln {

namespace {

constexpr unsigned kLegacyBytes = 256 << 10;
constexpr uint64_t kFrameRate = 70;  // text modes' vertical rate: what cursor and blinking count
constexpr uint8_t kAttributeLineGraphics = 0x04, kAttributeBlink = 0x08, kAttributePanSplit = 0x20,
                  kAttribute8BitPixels = 0x40, kAttributeColourSelect = 0x80;
constexpr uint8_t kShiftInterleave = 0x20, kShift256 = 0x40;  // graphics 5
constexpr uint8_t kDotClock8 = 0x01, kScreenOff = 0x20;       // sequencer 1
constexpr uint8_t kPaletteSource = 0x20;                      // attribute index

// Code page 437, as a VGA's font draws it.
constexpr std::u16string_view kCodePage437 =
    u" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
    u" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~⌂"
    u"ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»"
    u"░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"
    u"αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";
static_assert(kCodePage437.size() == 256);

void appendUtf8(std::string& out, char16_t c) {
    if (c < 0x80) {
        out += char(c);
    } else if (c < 0x800) {
        out += char(0xC0 | c >> 6);
        out += char(0x80 | (c & 0x3F));
    } else {
        out += char(0xE0 | c >> 12);
        out += char(0x80 | (c >> 6 & 0x3F));
        out += char(0x80 | (c & 0x3F));
    }
}

// Character map select: the third bit of each map was added later and stands apart (sequencer 3).
unsigned fontAddress(unsigned select) { return (select & 3) * 0x4000 + (select >> 2 & 1) * 0x2000; }
unsigned fontA(uint8_t sr3) { return fontAddress((sr3 >> 2 & 3) | (sr3 >> 3 & 4)); }
unsigned fontB(uint8_t sr3) { return fontAddress((sr3 & 3) | (sr3 >> 2 & 4)); }

// The eight 4-bit pixels that leave the graphics controller for one character clock.
void shiftOut(uint32_t planes, uint8_t mode, std::array<uint8_t, 8>& pixels) {
    auto byte = [&](unsigned plane) { return planes >> plane * 8 & 0xFF; };
    if (mode & kShift256) {
        for (unsigned i = 0; i < 8; i++) pixels[i] = uint8_t(byte(i / 2) >> (i & 1 ? 0 : 4) & 0xF);
    } else if (mode & kShiftInterleave) {
        for (unsigned i = 0; i < 8; i++) {
            unsigned shift = 6 - (i & 3) * 2, odd = i / 4;
            pixels[i] = uint8_t((byte(odd) >> shift & 3) | (byte(odd + 2) >> shift & 3) << 2);
        }
    } else {
        for (unsigned i = 0; i < 8; i++) {
            uint32_t bits = planes >> (7 - i) & 0x01010101;
            pixels[i] = uint8_t((bits | bits >> 7 | bits >> 14 | bits >> 21) & 0xF);
        }
    }
}

}  // namespace

// -- what the CRTC counts

VgaRenderer::Geometry VgaRenderer::geometry() const {
    const VgaRegisters& r = vga_.registers();
    Geometry g{};
    g.columns = std::min(r.crtc[1] + 1u, r.horizontalTotal());
    g.scanLines = std::min(r.verticalDisplayEnd() + 1, r.verticalTotal());
    g.repeat = r.crtc[9] & 0x80 ? 2 : 1;
    if (r.graphicsMode()) {
        g.dots = r.attribute[0x10] & kAttribute8BitPixels ? 4 : 8;
        bool rowScanAddresses =
            (r.crtc[0x17] & 3) != 3;  // CGA and Hercules interleaving: every scan line differs
        if (!rowScanAddresses) g.repeat *= (r.crtc[9] & 0x1F) + 1;
    } else {
        g.dots = r.sequencer[1] & kDotClock8 ? 8 : 9;
    }
    g.width = g.columns * g.dots;
    g.height = (g.scanLines + g.repeat - 1) / g.repeat;
    return g;
}

VgaRenderer::Line VgaRenderer::lineAt(unsigned scanLine) const {
    const VgaRegisters& r = vga_.registers();
    unsigned compare = r.lineCompare(), rowHeight = (r.crtc[9] & 0x1F) + 1;
    Line line{};
    line.split = scanLine > compare;
    unsigned scan = line.split ? scanLine - compare - 1 : scanLine;
    if (r.crtc[9] & 0x80) scan /= 2;
    unsigned start = 0;
    if (!line.split) {
        scan += r.crtc[8] & 0x1F;
        start = (r.crtc[0xC] << 8 | r.crtc[0xD]) + (r.crtc[8] >> 5 & 3);
    }
    line.rowScan = scan % rowHeight;
    line.address = (start + scan / rowHeight * r.crtc[0x13] * 2) & 0xFFFF;
    return line;
}

// The address multiplexer behind the memory address counter: byte, word and double-word mode, and the bits
// that the row scan counter replaces.
unsigned VgaRenderer::planeAddress(unsigned counter, unsigned rowScan) const {
    const VgaRegisters& r = vga_.registers();
    uint8_t mode = r.crtc[0x17];
    unsigned address = counter & 0xFFFF;
    if (r.crtc[0x14] & 0x40)
        address = (address << 2) | (address >> 14 & 3);
    else if (!(mode & 0x40))
        address = (address << 1) | (address >> (mode & 0x20 ? 15 : 13) & 1);
    if (!(mode & 1)) address = (address & ~0x2000u) | (rowScan & 1) << 13;
    if (!(mode & 2)) address = (address & ~0x4000u) | (rowScan & 2) << 13;
    return address & 0xFFFF;
}

uint32_t VgaRenderer::planes(unsigned address) const {
    uint32_t word;
    std::memcpy(&word, vga_.vram().data() + size_t(address & 0xFFFF) * 4, 4);
    return word;
}

unsigned VgaRenderer::panning(const Line& line) const {
    const VgaRegisters& r = vga_.registers();
    uint8_t pan = r.attribute[0x13], mode = r.attribute[0x10];
    if (line.split && mode & kAttributePanSplit) return 0;
    if (r.graphicsMode()) return mode & kAttribute8BitPixels ? pan >> 1 & 3 : pan & 7;
    if (r.sequencer[1] & kDotClock8) return pan & 7;
    return pan < 8 ? (pan + 1) : 0;  // nine dots: 8 means none
}

// -- what changed

bool VgaRenderer::update() {
    const VgaRegisters& r = vga_.registers();
    bool registersChanged = sourceChanged();
    bool off = !(r.attributeIndex & kPaletteSource) || (!r.vbeEnabled() && r.sequencer[1] & kScreenOff);
    if (off) {
        if (registersChanged) blank();
        return registersChanged;
    }
    if (registersChanged) buildPalettes();
    if (r.vbeEnabled()) return renderVbe(registersChanged);

    bool memoryChanged =
        shadow_.size() != kLegacyBytes || std::memcmp(shadow_.data(), vga_.vram().data(), kLegacyBytes) != 0;
    if (!registersChanged && !memoryChanged) return false;
    shadow_.assign(vga_.vram().data(), vga_.vram().data() + kLegacyBytes);
    renderLegacy();
    return true;
}

// Whether any register the picture depends on, or the phase of something that blinks, is another than last
// time.
bool VgaRenderer::sourceChanged() {
    const VgaRegisters& r = vga_.registers();
    newKey_.clear();
    auto add = [&](const auto& field) {
        auto* p = reinterpret_cast<const uint8_t*>(&field);
        newKey_.insert(newKey_.end(), p, p + sizeof field);
    };
    add(r.sequencer);
    add(r.graphics);
    add(r.crtc);
    add(r.attribute);
    newKey_.push_back(r.attributeIndex & kPaletteSource);
    newKey_.push_back(r.dacMask);
    add(r.dac);
    add(r.dispi);
    if (!r.graphicsMode() && !r.vbeEnabled()) {
        uint64_t frames = vga_.clock().ticks(kFrameRate);
        newKey_.push_back(frames >> 3 & 1);
        newKey_.push_back(r.attribute[0x10] & kAttributeBlink ? frames >> 4 & 1 : 0);
    }
    if (newKey_ == key_) return false;
    std::swap(key_, newKey_);
    return true;
}

void VgaRenderer::resize(unsigned width, unsigned height, bool fourByThree) {
    frame_.width = width;
    frame_.height = height;
    frame_.fillsFourByThree = fourByThree;
    frame_.pixels.resize(size_t(width) * height);
}

void VgaRenderer::blank() {
    if (frame_.width == 0) resize(720, 400, true);
    std::fill(frame_.pixels.begin(), frame_.pixels.end(), 0);
    shadow_.clear();
}

void VgaRenderer::buildPalettes() {
    const VgaRegisters& r = vga_.registers();
    for (unsigned i = 0; i < 256; i++) {
        uint32_t colour = 0;
        for (unsigned c = 0; c < 3; c++) {
            uint8_t v = r.dac[(i & r.dacMask) * 3 + c];
            colour = colour << 8 | (r.dac8Bit() ? v : uint8_t((v & 0x3F) << 2 | (v >> 4 & 3)));
        }
        dac_[i] = colour;
    }
    for (unsigned i = 0; i < 16; i++) {
        unsigned index = r.attribute[i & r.attribute[0x12] & 0xF], select = r.attribute[0x14];
        if (r.attribute[0x10] & kAttributeColourSelect) index = (index & 0xF) | (select & 3) << 4;
        palette_[i] = dac_[(index & 0x3F) | (select & 0xC) << 4];
    }
}

// -- pictures

void VgaRenderer::renderLegacy() {
    Geometry g = geometry();
    resize(g.width, g.height, true);
    line_.resize(size_t(g.columns + 2) * g.dots);
    bool graphics = vga_.registers().graphicsMode();
    for (unsigned y = 0; y < g.height; y++) {
        Line line = lineAt(y * g.repeat);
        if (graphics)
            graphicsLine(line, g.columns + 1, line_.data());
        else
            textLine(line, g.columns + 1, line_.data());
        // Panning is at most one character: nine dots.
        std::copy_n(line_.data() + panning(line), g.width, frame_.pixels.data() + size_t(y) * g.width);
    }
}

void VgaRenderer::textLine(const Line& line, unsigned columns, uint32_t* out) {
    const VgaRegisters& r = vga_.registers();
    const uint8_t* font = vga_.vram().data() + 2;  // plane 2
    uint64_t frames = vga_.clock().ticks(kFrameRate);
    uint8_t mode = r.attribute[0x10];
    bool hidden = mode & kAttributeBlink && frames & 16;
    unsigned mapA = fontA(r.sequencer[3]), mapB = fontB(r.sequencer[3]);
    bool nine = !(r.sequencer[1] & kDotClock8), underlineHere = (r.crtc[0x14] & 0x1F) == line.rowScan;
    bool cursorHere = !(r.crtc[0xA] & 0x20) && !(frames & 8) && line.rowScan >= (r.crtc[0xA] & 0x1Fu) &&
                      line.rowScan <= (r.crtc[0xB] & 0x1Fu);
    unsigned cursor = ((r.crtc[0xE] << 8 | r.crtc[0xF]) + (r.crtc[0xB] >> 5 & 3)) & 0xFFFF;

    for (unsigned x = 0; x < columns; x++) {
        unsigned counter = (line.address + x) & 0xFFFF;
        uint32_t word = planes(planeAddress(counter, line.rowScan));
        uint8_t character = uint8_t(word), attribute = uint8_t(word >> 8);
        unsigned map = attribute & 8 ? mapA : mapB;
        uint8_t glyph = font[size_t((map + character * 32 + line.rowScan) & 0xFFFF) * 4];
        bool ninth = nine && mode & kAttributeLineGraphics && (character & 0xE0) == 0xC0 && glyph & 1;
        uint32_t back = palette_[mode & kAttributeBlink ? attribute >> 4 & 7 : attribute >> 4];
        uint32_t ink = palette_[attribute & 0xF];
        if (hidden && attribute & 0x80) glyph = 0, ninth = false;
        if ((underlineHere && (attribute & 7) == 1) || (cursorHere && counter == cursor))
            glyph = 0xFF, ninth = true;
        for (unsigned bit = 0x80; bit; bit >>= 1) *out++ = glyph & bit ? ink : back;
        if (nine) *out++ = ninth ? ink : back;
    }
}

void VgaRenderer::graphicsLine(const Line& line, unsigned columns, uint32_t* out) {
    const VgaRegisters& r = vga_.registers();
    // The counter may advance on every second or fourth character clock only.
    unsigned slow = r.crtc[0x14] & 0x20 ? 2 : r.crtc[0x17] & 8 ? 1 : 0;
    bool eightBits = r.attribute[0x10] & kAttribute8BitPixels;
    std::array<uint8_t, 8> pixels;
    for (unsigned x = 0; x < columns; x++) {
        shiftOut(planes(planeAddress(line.address + (x >> slow), line.rowScan)), r.graphics[5], pixels);
        if (eightBits)
            for (unsigned i = 0; i < 8; i += 2) *out++ = dac_[pixels[i] << 4 | pixels[i + 1]];
        else
            for (uint8_t pixel : pixels) *out++ = palette_[pixel];
    }
}

std::string VgaRenderer::text() const {
    const VgaRegisters& r = vga_.registers();
    std::string all;
    if (r.graphicsMode() || r.vbeEnabled()) return all;
    Geometry g = geometry();
    unsigned rowHeight = (r.crtc[9] & 0x1F) + 1, compare = r.lineCompare();
    for (unsigned scan = 0; scan < g.scanLines;) {
        Line line = lineAt(scan);
        std::string row;
        for (unsigned x = 0; x < g.columns; x++)
            appendUtf8(row, kCodePage437[planes(planeAddress(line.address + x, 0)) & 0xFF]);
        row.erase(row.find_last_not_of(' ') + 1);
        all += row + '\n';
        unsigned next = scan + (rowHeight - line.rowScan) * g.repeat;
        scan = scan <= compare ? std::min(next, compare + 1) : next;
    }
    return all;
}

}  // namespace kiln
