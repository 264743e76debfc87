// The IBM VGA (Personal System/2 Hardware Interface Technical Reference, "Video Subsystem"; register summary
// as in FreeVGA) with the Bochs VBE extension "DISPI" (ID 0xB0C5), as in the QEMU "standard VGA"
// specification. Registers and the memory path are here; pictures come from vga_renderer.hpp, PCI from
// vga_pci.hpp.
//
// Video memory interleaves the four planes: byte `address * 4 + plane`. With DISPI enabled at more than 4
// bits a pixel it is linear instead, and the window at 0xA0000 shows one 64 KiB bank of it.
//
// Not modelled: the vertical-retrace interrupt, light pen, diagnostic bits of input status 1, the odd/even
// page bit of the miscellaneous register, the video-enable effect of port 0x3C3, DISPI bank granularities
// other than 64 KiB, and dropping decoded code when code inside the frame buffer is overwritten through
// 0xA0000.
#pragma once
#include <array>
#include <cstdint>

#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "mmu/io.hpp"
#include "mmu/log.hpp"
#include "mmu/physical_memory.hpp"

namespace kiln {

// DISPI register numbers (port 0x1CE).
enum class Dispi : uint8_t {
    Id,
    XRes,
    YRes,
    Bpp,
    Enable,
    Bank,
    VirtWidth,
    VirtHeight,
    XOffset,
    YOffset,
    VideoMemory64K,
    Count
};

struct VgaRegisters {
    static constexpr unsigned kDispiCount = unsigned(Dispi::Count);
    // Bits the guest can write; the rest reads zero.
    static constexpr std::array<uint8_t, 8> kSequencerBits{0x03, 0x3D, 0x0F, 0x3F, 0x0E};
    static constexpr std::array<uint8_t, 16> kGraphicsBits{0x0F, 0x0F, 0x0F, 0x1F, 0x03,
                                                           0x7B, 0x0F, 0x0F, 0xFF};

    uint8_t misc = 0, feature = 0, videoEnable = 0;
    uint8_t sequencerIndex = 0, graphicsIndex = 0, crtcIndex = 0;
    uint8_t attributeIndex = 0;  // bit 5: the palette address source is the display
    bool attributeData = false;  // the flip-flop: the next write to 0x3C0 is data
    std::array<uint8_t, 8> sequencer{};
    std::array<uint8_t, 16> graphics{};
    std::array<uint8_t, 32> crtc{};
    std::array<uint8_t, 32> attribute{};
    uint8_t dacMask = 0, dacReadIndex = 0, dacWriteIndex = 0, dacComponent = 0;
    bool dacReading = false;
    std::array<uint8_t, 3> dacPending{};  // red and green wait for blue
    std::array<uint8_t, 768> dac{};       // 6-bit values, 8-bit ones while DISPI says so
    uint16_t dispiIndex = 0;
    std::array<uint16_t, kDispiCount> dispi{};

    uint16_t get(Dispi r) const { return dispi[unsigned(r)]; }
    uint16_t& get(Dispi r) { return dispi[unsigned(r)]; }
    bool vbeEnabled() const { return get(Dispi::Enable) & 1; }
    bool dac8Bit() const { return get(Dispi::Enable) & 0x20; }
    bool colour() const { return misc & 1; }  // CRTC at 0x3Dx, not 0x3Bx
    bool graphicsMode() const { return graphics[6] & 1; }
    unsigned verticalDisplayEnd() const;  // last displayed scan line
    unsigned verticalTotal() const;       // scan lines a frame
    unsigned lineCompare() const;
    unsigned horizontalTotal() const { return crtc[0] + 5; }  // character clocks a scan line
    unsigned vbeBytesPerLine() const;  // with 4 bits a pixel: of all four planes together
};

class VgaCore : public Device {
  public:
    static constexpr uint64_t kVramSize = 16 << 20;
    static constexpr unsigned kMaxWidth = 2560, kMaxHeight = 1600;

    VgaCore(const Clock& clock, Log& log);

    std::string_view name() const override { return "vga"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    // Maps ports 0x3B0-0x3BB, 0x3C0-0x3DF and 0x1CE-0x1D0, and memory 0xA0000-0xBFFFF.
    void mapLegacy(PortBus& ports, PhysicalMemory& memory, int windowPriority = 1);

    IoHandler& ports() { return ports_; }    // offset 0 is port 0x3B0
    IoHandler& dispi() { return dispi_; }    // offset 0 is port 0x1CE
    IoHandler& window() { return window_; }  // offset 0 is 0xA0000
    IoHandler& mmio() { return mmio_; }      // the 4 KiB of BAR 2
    RamBlock& vram() { return vram_; }
    const RamBlock& vram() const { return vram_; }
    const VgaRegisters& registers() const { return r_; }
    const Clock& clock() const { return clock_; }

  private:
    struct Ports : IoHandler {
        explicit Ports(VgaCore& c) : core(c) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        DirectRegister direct(uint64_t offset, unsigned size, bool write) override;
        VgaCore& core;
    } ports_{*this};
    struct DispiPorts : IoHandler {
        explicit DispiPorts(VgaCore& c) : core(c) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        VgaCore& core;
    } dispi_{*this};
    struct Window : IoHandler {
        explicit Window(VgaCore& c) : core(c) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        uint64_t ioWriteBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                              const void* from) override;
        uint64_t ioReadBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                             void* to) override;
        uint64_t plainAccesses(uint64_t, unsigned, bool) override { return ~0ull; }
        DirectRegister direct(uint64_t offset, unsigned size, bool write) override;
        VgaCore& core;
    } window_{*this};
    struct Mmio : IoHandler {
        explicit Mmio(VgaCore& c) : core(c) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        VgaCore& core;
    } mmio_{*this};

    // vga.cpp: one byte-wide port
    uint8_t portRead(uint16_t port);
    void portWrite(uint16_t port, uint8_t value);
    uint8_t crtcRead() const;
    void crtcWrite(uint8_t value);
    void attributeWrite(uint8_t value);
    uint8_t dacRead();
    void dacWrite(uint8_t value);
    uint8_t inputStatus1() const;

    // vga_dispi.cpp
    uint16_t dispiRead(unsigned index) const;
    void dispiWrite(unsigned index, uint16_t value);
    void dispiEnable(uint16_t value);
    void dispiNormalise();

    // vga_memory.cpp: what an access to the window does to the planes
    void updateMemoryPath();  // after a register that the masks below come from
    uint8_t memoryRead(uint32_t offset);
    void memoryWrite(uint32_t offset, uint8_t value);
    void plainWrite(uint32_t at, uint8_t value);
    bool plainRange(uint64_t at, uint64_t bytes) const;
    RegisterSteps plainAccess(const bool& plain);
    DirectRegister directWrite(unsigned port, bool withIndex);
    uint32_t windowOffset(uint32_t offset) const;
    uint32_t loadPlanes(uint32_t address) const;

    const Clock& clock_;
    Log& log_;
    RamBlock vram_;
    VgaRegisters r_;
    uint32_t latch_ = 0;  // byte n is plane n's

    // Derived from the registers, a byte a plane: what a register of the graphics controller or the
    // sequencer says of the planes.
    std::array<uint32_t, 16> planesOfGraphics_{};
    std::array<uint32_t, 8> planesOfSequencer_{};
    uint64_t readPlane_ = 0;
    bool plainWrites_ = false, plainReads_ = false;  // see memoryWrite() and memoryRead()
    uint32_t windowStart_ = 0, windowSize_ = 0;
    bool linear_ = false;
};

}  // namespace kiln
