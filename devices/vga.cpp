#include "devices/vga.hpp"

namespace kiln {

namespace {

// Bits the guest can write; the rest reads zero.
constexpr std::array<uint8_t, 32> kAttributeBits{0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F,
                                                 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F,
                                                 0x3F, 0x3F, 0xEF, 0xFF, 0x3F, 0x0F, 0x0F};
constexpr unsigned kCrtcRegisters = 0x19;
constexpr uint8_t kStatusDisplayDisabled = 0x01, kStatusRetrace = 0x08;
constexpr uint8_t kSwitchSense = 0x10;  // input status 0: a colour monitor answers

constexpr uint16_t kFirstPort = 0x3B0;
constexpr uint64_t kMmioPorts = 0x400, kMmioDispi = 0x500, kMmioExtended = 0x600;
constexpr uint32_t kExtendedSize = 8, kLittleEndian = 0x1E1E1E1E;

uint8_t byteOf(uint32_t value, uint64_t n) { return uint8_t(value >> (n & 3) * 8); }

}  // namespace

unsigned VgaRegisters::verticalDisplayEnd() const {
    return crtc[0x12] | (crtc[7] & 0x02) << 7 | (crtc[7] & 0x40) << 3;
}
unsigned VgaRegisters::verticalTotal() const {
    return (crtc[6] | (crtc[7] & 0x01) << 8 | (crtc[7] & 0x20) << 4) + 2;
}
unsigned VgaRegisters::lineCompare() const {
    return crtc[0x18] | (crtc[7] & 0x10) << 4 | (crtc[9] & 0x40) << 3;
}

VgaCore::VgaCore(const Clock& clock, Log& log) : clock_(clock), log_(log), vram_("vga.vram", kVramSize) {
    reset();
}

void VgaCore::reset() {
    r_ = VgaRegisters{};
    r_.videoEnable = 1;
    r_.dacMask = 0xFF;
    r_.get(Dispi::Id) = 0xB0C5;
    r_.get(Dispi::VideoMemory64K) = uint16_t(kVramSize >> 16);
    latch_ = 0;
    updateMemoryPath();
}

void VgaCore::state(StateVisitor& visit) {
    visit("misc", r_.misc);
    visit("feature", r_.feature);
    visit("video_enable", r_.videoEnable);
    visit("sequencer_index", r_.sequencerIndex);
    visit("sequencer", r_.sequencer);
    visit("graphics_index", r_.graphicsIndex);
    visit("graphics", r_.graphics);
    visit("crtc_index", r_.crtcIndex);
    visit("crtc", r_.crtc);
    visit("attribute_index", r_.attributeIndex);
    visit("attribute_data", r_.attributeData);
    visit("attribute", r_.attribute);
    visit("dac_mask", r_.dacMask);
    visit("dac_read_index", r_.dacReadIndex);
    visit("dac_write_index", r_.dacWriteIndex);
    visit("dac_component", r_.dacComponent);
    visit("dac_reading", r_.dacReading);
    visit("dac_pending", r_.dacPending);
    visit("dac", r_.dac);
    visit("dispi_index", r_.dispiIndex);
    visit("dispi", r_.dispi);
    visit("latch", latch_);
    visit.bytes("vram", vram_.data(), vram_.size());
    r_.dacComponent %= 3;  // whatever was loaded must not lead out of bounds
    if (r_.vbeEnabled()) dispiNormalise();
    updateMemoryPath();
}

void VgaCore::mapLegacy(PortBus& ports, PhysicalMemory& memory, int windowPriority) {
    ports.map(kFirstPort, 12, ports_);  // 0x3BC is a parallel port
    ports.map(0x3C0, 32, ports_, 0x3C0 - kFirstPort);
    ports.map(0x1CE, 3, dispi_);
    memory.mapIo(PhysAddr(0xA0000), 0x20000, window_, windowPriority);
}

// -- ports

uint64_t VgaCore::Ports::ioRead(uint64_t offset, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= uint64_t(core.portRead(uint16_t(kFirstPort + offset + i))) << i * 8;
    return value;
}

void VgaCore::Ports::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    for (unsigned i = 0; i < size; i++)
        core.portWrite(uint16_t(kFirstPort + offset + i), uint8_t(value >> i * 8));
}

// Indices, what is plain storage to be read, and what is written most between accesses to planes.
DirectRegister VgaCore::Ports::direct(uint64_t offset, unsigned size, bool write) {
    VgaRegisters& r = core.r_;
    const uint64_t port = kFirstPort + offset;
    if (write && size == 2 && (port == 0x3C4 || port == 0x3CE)) return core.directWrite(unsigned(port), true);
    if (size != 1) return {};
    switch (port) {
        case 0x3C5: return write ? core.directWrite(0x3C4, false) : DirectRegister{};
        case 0x3CF: return write ? core.directWrite(0x3CE, false) : DirectRegister{};
        case 0x3C0: return write ? DirectRegister{} : DirectRegister::at(r.attributeIndex);
        case 0x3C4: return DirectRegister::at(r.sequencerIndex);
        case 0x3C6: return DirectRegister::at(r.dacMask);
        case 0x3CC: return write ? DirectRegister{} : DirectRegister::at(r.misc);
        case 0x3CE: return DirectRegister::at(r.graphicsIndex, 0xF);
        case 0x3B4:
        case 0x3D4: {
            DirectRegister index = DirectRegister::at(r.crtcIndex);
            index.guard = reinterpret_cast<const uint8_t*>(&r.misc);
            index.guardMask = 1;
            index.guarded = port == 0x3D4 ? 1 : 0;
            return index;
        }
        default: return {};
    }
}

uint8_t VgaCore::portRead(uint16_t port) {
    if ((port & 0xFFF0) == (r_.colour() ? 0x3D0 : 0x3B0)) switch (port & 0xF) {
            case 0x4: return r_.crtcIndex;
            case 0x5: return crtcRead();
            case 0xA: r_.attributeData = false; return inputStatus1();
            default: return 0xFF;
        }
    switch (port) {
        case 0x3C0: return r_.attributeIndex;
        case 0x3C1: return r_.attribute[r_.attributeIndex & 0x1F];
        case 0x3C2: return kSwitchSense;
        case 0x3C3: return r_.videoEnable;
        case 0x3C4: return r_.sequencerIndex;
        case 0x3C5: return r_.sequencer[r_.sequencerIndex & 7];
        case 0x3C6: return r_.dacMask;
        case 0x3C7: return r_.dacReading ? 3 : 0;
        case 0x3C8: return r_.dacWriteIndex;
        case 0x3C9: return dacRead();
        case 0x3CA: return r_.feature;
        case 0x3CC: return r_.misc;
        case 0x3CE: return r_.graphicsIndex;
        case 0x3CF: return r_.graphics[r_.graphicsIndex & 0xF];
        default: return 0xFF;
    }
}

void VgaCore::portWrite(uint16_t port, uint8_t value) {
    if ((port & 0xFFF0) == (r_.colour() ? 0x3D0 : 0x3B0)) switch (port & 0xF) {
            case 0x4: r_.crtcIndex = value; return;
            case 0x5: crtcWrite(value); return;
            case 0xA: r_.feature = value & 0x0B; return;
            default: return;
        }
    switch (port) {
        case 0x3C0: attributeWrite(value); break;
        case 0x3C2:
            r_.misc = value & 0xEF;
            updateMemoryPath();
            break;
        case 0x3C3: r_.videoEnable = value & 1; break;
        case 0x3C4: r_.sequencerIndex = value; break;
        case 0x3C5:
            r_.sequencer[r_.sequencerIndex & 7] = value & VgaRegisters::kSequencerBits[r_.sequencerIndex & 7];
            updateMemoryPath();
            break;
        case 0x3C6: r_.dacMask = value; break;
        case 0x3C7:
            r_.dacReadIndex = value;
            r_.dacReading = true;
            r_.dacComponent = 0;
            break;
        case 0x3C8:
            r_.dacWriteIndex = value;
            r_.dacReading = false;
            r_.dacComponent = 0;
            break;
        case 0x3C9: dacWrite(value); break;
        case 0x3CE: r_.graphicsIndex = value & 0xF; break;
        case 0x3CF:
            r_.graphics[r_.graphicsIndex & 0xF] = value & VgaRegisters::kGraphicsBits[r_.graphicsIndex & 0xF];
            updateMemoryPath();
            break;
        default: break;
    }
}

uint8_t VgaCore::crtcRead() const {
    unsigned index = r_.crtcIndex;
    if (index < kCrtcRegisters) return r_.crtc[index];
    // Undocumented by IBM, present in its VGA and looked for by some programs.
    if (index == 0x22) return byteOf(latch_, r_.graphics[4] & 3);
    if (index == 0x24) return r_.attributeData ? 0x80 : 0;
    if (index == 0x26) return r_.attributeIndex;
    return 0xFF;
}

void VgaCore::crtcWrite(uint8_t value) {
    unsigned index = r_.crtcIndex;
    if (index >= kCrtcRegisters) return;
    bool isProtected = r_.crtc[0x11] & 0x80;
    if (isProtected && index == 7)
        r_.crtc[7] = (r_.crtc[7] & ~0x10) | (value & 0x10);  // line compare alone stays writable
    else if (!isProtected || index > 7)
        r_.crtc[index] = value;
}

void VgaCore::attributeWrite(uint8_t value) {
    if (r_.attributeData)
        r_.attribute[r_.attributeIndex & 0x1F] = value & kAttributeBits[r_.attributeIndex & 0x1F];
    else
        r_.attributeIndex = value & 0x3F;
    r_.attributeData = !r_.attributeData;
}

uint8_t VgaCore::dacRead() {
    uint8_t value = r_.dac[r_.dacReadIndex * 3 + r_.dacComponent];
    if (++r_.dacComponent == 3) {
        r_.dacComponent = 0;
        r_.dacReadIndex++;
    }
    return value;
}

void VgaCore::dacWrite(uint8_t value) {
    r_.dacPending[r_.dacComponent] = r_.dac8Bit() ? value : value & 0x3F;
    if (++r_.dacComponent < 3) return;
    for (unsigned i = 0; i < 3; i++) r_.dac[r_.dacWriteIndex * 3 + i] = r_.dacPending[i];
    r_.dacComponent = 0;
    r_.dacWriteIndex++;
}

// Where the beam is follows from guest time and the CRTC's programming alone.
uint8_t VgaCore::inputStatus1() const {
    uint64_t columns, lines, shownColumns, shownLines, retraceStart, retraceLines, clockHz, dots;
    if (r_.vbeEnabled()) {  // DISPI has no timing registers: 60 Hz, a twentieth of the lines in blanking
        columns = 125, shownColumns = 100, dots = 1;
        shownLines = r_.get(Dispi::YRes);
        lines = shownLines + shownLines / 20 + 4;
        retraceStart = shownLines + 1, retraceLines = 2;
        clockHz = columns * lines * 60;
    } else {
        columns = r_.horizontalTotal(), shownColumns = r_.crtc[1] + 1u;
        lines = r_.verticalTotal(), shownLines = r_.verticalDisplayEnd() + 1;
        retraceStart = r_.crtc[0x10] | (r_.crtc[7] & 0x04) << 6 | (r_.crtc[7] & 0x80) << 2;
        retraceLines = (r_.crtc[0x11] - retraceStart) & 0xF;
        if (retraceLines == 0) retraceLines = 16;
        clockHz = (r_.misc >> 2 & 3) == 1 ? 28'322'000 : 25'175'000;
        dots = r_.sequencer[1] & 1 ? 8 : 9;
        if (r_.sequencer[1] & 8) dots *= 2;
    }
    uint64_t position = clock_.ticks(clockHz) / dots % (columns * lines);
    uint64_t line = position / columns, column = position % columns;
    uint8_t status = 0;
    if (line >= shownLines || column >= shownColumns) status |= kStatusDisplayDisabled;
    if (line >= retraceStart && line < retraceStart + retraceLines) status |= kStatusRetrace;
    return status;
}

// -- BAR 2

uint64_t VgaCore::Mmio::ioRead(uint64_t offset, unsigned size) {
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;
        uint8_t byte = 0xFF;
        if (at >= kMmioPorts && at < kMmioPorts + 0x20)
            byte = core.portRead(uint16_t(0x3C0 + at - kMmioPorts));
        else if (at >= kMmioDispi && at < kMmioDispi + 2 * VgaRegisters::kDispiCount)
            byte = uint8_t(core.dispiRead(unsigned(at - kMmioDispi) / 2) >> (at & 1) * 8);
        else if (at >= kMmioExtended && at < kMmioExtended + kExtendedSize)
            byte = byteOf(at < kMmioExtended + 4 ? kExtendedSize : kLittleEndian, at);
        value |= uint64_t(byte) << i * 8;
    }
    return value;
}

void VgaCore::Mmio::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;
        if (at >= kMmioPorts && at < kMmioPorts + 0x20) {
            core.portWrite(uint16_t(0x3C0 + at - kMmioPorts), uint8_t(value >> i * 8));
        } else if (at >= kMmioDispi && at < kMmioDispi + 2 * VgaRegisters::kDispiCount) {
            if (at & 1 || i + 1 >= size) continue;  // whole registers only
            core.dispiWrite(unsigned(at - kMmioDispi) / 2, uint16_t(value >> i * 8));
        }
    }
}

}  // namespace kiln
