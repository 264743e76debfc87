// Commands of the IDE disk, the CD-ROM and the diskette controller, as drivers give them: registers, packets,
// PRD tables and 8237 channels programmed with anything.
#include <array>

#include "devices/atapi.hpp"
#include "devices/floppy.hpp"
#include "devices/ide_controller.hpp"
#include "devices/ide_disk.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace kiln::fuzz {
namespace {

constexpr uint8_t kAtaCommands[] = {0x00, 0x08, 0x10, 0x20, 0x24, 0x25, 0x27, 0x29, 0x30, 0x34, 0x35, 0x39,
                                    0x3c, 0x3d, 0x40, 0x42, 0x70, 0x90, 0x91, 0xa0, 0xa1, 0xc4, 0xc5, 0xc6,
                                    0xc8, 0xca, 0xce, 0xe4, 0xe5, 0xe7, 0xe8, 0xea, 0xec, 0xef, 0xf8};
constexpr uint8_t kPackets[] = {0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2b, 0x42, 0x43, 0x44,
                                0x46, 0x4a, 0x51, 0x52, 0x55, 0x5a, 0xa8, 0xad, 0xb9, 0xbd, 0xbe};
constexpr uint8_t kFloppyCommands[] = {0x02, 0x03, 0x04, 0x45, 0x46, 0x07, 0x08, 0x09, 0x0a,
                                       0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13, 0x14,
                                       0x16, 0x18, 0x4d, 0x94, 0xe6, 0xc5, 0x8f};
constexpr uint16_t kBusMaster = 0xc000;
constexpr Nanos kSpans[] = {0, 1'000, 100'000, 10'000'000, 300'000'000, 5 * kSecond};

class Run {
  public:
    explicit Run(Input in) : in_(in) {
        memory_.mapRam(PhysAddr(0), ram_.size(), ram_);
        bus_.add(Bdf(0, 31, 1), ide_);
        dma_.mapPorts(ports_);
        floppy_.mapPorts(ports_);
        ide_.mapPorts(ports_);
        ide_.attachDisk(0, BlockImage::blank(kDiskSizes[in_.below(4)]));
        ide_.attachCdrom(1, BlockImage::blank(700 << 10));
        ide_.attachCdrom(2, in_.byte() & 1 ? BlockImage::blank(1 << 20) : nullptr);
        floppy_.attach(0, BlockImage::blank(1440 << 10));
        floppy_.attach(1, in_.byte() & 1 ? BlockImage::blank(360 << 10) : nullptr);
        bus_.reset();
        ide_.reset(), floppy_.reset(), dma_.reset();
        bus_.configWrite(Bdf(0, 31, 1), 0x20, 4, kBusMaster);
        bus_.configWrite(Bdf(0, 31, 1), 4, 2, 5);
    }

    void all() {
        while (!in_.empty()) step();
        StateGlance glance;
        ide_.state(glance), floppy_.state(glance), dma_.state(glance);
    }

  private:
    static constexpr uint64_t kDiskSizes[4] = {512, 1000 * 512 + 17, 3 << 20, 200ull << 30};

    void out(unsigned port, unsigned v) { ports_.write(uint16_t(port), 1, v & 0xff); }
    unsigned base() { return base_; }

    void step() {
        switch (in_.below(16)) {
            case 0:
            case 1: ataCommand(); break;
            case 2: packet(); break;
            case 3: {
                unsigned size = 1u << in_.below(3);
                for (unsigned n = in_.below<uint16_t>(1100); n; n--) ports_.read(uint16_t(base()), size);
                break;
            }
            case 4: {
                unsigned size = 1u << in_.below(3);
                for (unsigned n = in_.below<uint16_t>(1100); n; n--)
                    ports_.write(uint16_t(base()), size, in_.byte());
                break;
            }
            case 5: busMaster(); break;
            case 6:
            case 7: pass(); break;
            case 8: floppyCommand(); break;
            case 9:
                for (unsigned n = in_.byte(); n; n--) ports_.read(0x3f5, 1);
                break;
            case 10: dmaChannel(); break;
            case 11: out(0x3f0 + in_.below(8), in_.byte()); break;
            case 12:
                ports_.read(uint16_t(in_.byte() & 1 ? base() + in_.below(8) : 0x3f0 + in_.below(8)), 1);
                break;
            case 13: out(in_.byte() & 1 ? 0x3f6 : 0x376, in_.byte()); break;
            case 14:
                out(base() + in_.below(8), in_.byte());
                ports_.read(uint16_t(kBusMaster + in_.below(16)), 1u << in_.below(3));
                break;
            default:
                switch (in_.below(4)) {
                    case 0: floppy_.eject(0); break;
                    case 1: floppy_.insert(0, BlockImage::blank(720 << 10)); break;
                    case 2: ide_.reset(); break;
                    default: bus_.configWrite(Bdf(0, 31, 1), 4, 2, in_.byte());
                }
        }
    }

    void pass() {
        time_.advance(kSpans[in_.below(std::size(kSpans))]);
        clock_.runDue();
    }

    void ataCommand() {
        base_ = in_.byte() & 1 ? 0x1f0 : 0x170;
        const unsigned drive = in_.byte();
        out(base() + 6, 0xa0 | (drive & 0x5f));
        for (unsigned round = 0; round < 2; round++) {
            out(base() + 1, in_.below(8));
            for (unsigned r = 2; r < 6; r++) out(base() + r, in_.byte() & (round ? 0xff : 0x83));
        }
        uint8_t pick = in_.byte();
        out(base() + 7, pick & 0x80 ? in_.byte() : kAtaCommands[pick % std::size(kAtaCommands)]);
        if (pick & 0x40) pass();
    }

    void packet() {
        base_ = in_.byte() & 1 ? 0x1f0 : 0x170;
        out(base() + 6, base_ == 0x1f0 ? 0xb0 : 0xa0);
        out(base() + 1, in_.byte() & 3);
        out(base() + 4, in_.byte()), out(base() + 5, in_.byte());
        out(base() + 7, 0xa0);
        pass();
        std::array<uint8_t, 12> bytes{};
        bytes[0] = kPackets[in_.below(std::size(kPackets))];
        for (unsigned n = 1; n < 12; n++) bytes[n] = in_.byte() & (n < 5 ? 3 : 0xff);
        for (unsigned n = 0; n < 12; n += 2)
            ports_.write(uint16_t(base()), 2, bytes[n] | unsigned(bytes[n + 1]) << 8);
        pass();
    }

    void busMaster() {
        const unsigned channel = base_ == 0x1f0 ? 0 : 8, entries = 1 + unsigned(in_.below(4));
        const uint32_t table = in_.byte() & 1 ? 0x1000 : in_.take<uint32_t>();
        for (unsigned n = 0; n < entries; n++) {
            memory_.write<uint32_t>(PhysAddr(table + n * 8),
                                    in_.byte() & 1 ? in_.take<uint16_t>() : in_.take<uint32_t>());
            memory_.write<uint32_t>(PhysAddr(table + n * 8 + 4), in_.take<uint16_t>() | uint32_t(in_.byte())
                                                                                            << 31);
        }
        ports_.write(uint16_t(kBusMaster + channel + 4), 4, table);
        out(kBusMaster + channel + 2, in_.byte());
        out(kBusMaster + channel, in_.byte() & 9);
    }

    void floppyCommand() {
        uint8_t pick = in_.byte();
        out(0x3f2, 0x1c | (pick & 0x80 ? 0x21 : 0));
        out(0x3f5, kFloppyCommands[pick % std::size(kFloppyCommands)] | (in_.byte() & 0xc0));
        for (unsigned n = in_.below(9); n; n--) out(0x3f5, in_.byte() & 0x1f);
    }

    void dmaChannel() {
        const unsigned channel = in_.below(4);
        out(0x0a, 4 | channel), out(0x0c, 0);
        out(0x0b, (in_.byte() & 0xfc) | channel);
        out(channel * 2, in_.byte()), out(channel * 2, in_.byte());
        out(channel * 2 + 1, in_.byte()), out(channel * 2 + 1, in_.byte());
        out(std::array{0x87, 0x83, 0x81, 0x82}[channel], in_.byte() & 0x0f);
        out(0x0a, channel);
    }

    Input in_;
    FakeTime time_;
    Clock clock_{time_};
    Log log_;
    PhysicalMemory memory_;
    RamBlock ram_{"ram", 1 << 20};
    PortBus ports_;
    PciBus bus_{memory_, ports_};
    IrqInput irq6_, irq14_, irq15_;
    I8237Pair dma_{memory_, log_};
    Floppy floppy_{clock_, log_, dma_, irq6_};
    IdeController ide_{clock_, log_, irq14_, irq15_};
    unsigned base_ = 0x1f0;
};

void run(std::span<const uint8_t> input) { Run(Input(input)).all(); }

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    // Every ATA command and packet alone and with a bus master transfer; every diskette command with DMA.
    for (uint8_t n = 0; n < std::size(kAtaCommands); n++)
        all.push_back({2, 1,  1, 0, 1, 0x40, 0,    0, 0, 0, 0, 0, 2, 5, 0, 0, uint8_t(n | 0x40),
                       2, 5,  0, 1, 1, 0,    0x40, 0, 4, 1, 6, 9, 6, 2, 3, 1, 0,
                       4, 12, 1, 7});
    for (uint8_t n = 0; n < std::size(kPackets); n++)
        all.push_back(
            {2, 1, 1, 2, 1, 0, 0, 8, 2, n, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 3, 1, 0, 4, 6, 2, 12, 1, 7});
    for (uint8_t n = 0; n < std::size(kFloppyCommands); n++)
        all.push_back({2, 1, 1, 10, 2, 0x44, 0,  0x20, 0xff, 1, 0, 8, n, 0x40, 8,
                       0, 0, 0, 1,  2, 18,   27, 31,   6,    4, 6, 4, 9, 10});
    return all;
}

}  // namespace

const Target kDisks{"disks", run, seeds, 700};

}  // namespace kiln::fuzz
