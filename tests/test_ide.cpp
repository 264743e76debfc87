#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "devices/atapi.hpp"
#include "devices/ide_controller.hpp"
#include "devices/ide_disk.hpp"

using namespace kiln;

namespace {

// A machine with one IDE controller, and what a driver does to it.
struct Bench {
    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    RamBlock ram{"ram", 4 << 20};
    PortBus ports;
    PciBus bus{memory, ports};
    IrqInput irq14, irq15;
    IdeController ide{clock, log, irq14, irq15};
    static constexpr Bdf kBdf{0, 0x1f, 1};
    static constexpr uint16_t kBusMaster = 0xc000;

    Bench() {
        memory.mapRam(PhysAddr(0), ram.size(), ram);
        bus.add(kBdf, ide);
        ide.mapPorts(ports);
        bus.configWrite(kBdf, 0x20, 4, kBusMaster);
        bus.configWrite(kBdf, 4, 2, 5);
    }
    void pass(Nanos t = 100'000) {
        time.advance(t);
        clock.runDue();
    }
    uint8_t in(unsigned port) { return uint8_t(ports.read(uint16_t(port), 1)); }
    void out(unsigned port, unsigned value) { ports.write(uint16_t(port), 1, value & 0xff); }
    uint8_t status(unsigned base = 0x1f0) { return in(base + 7); }
    uint8_t alternate() { return in(0x3f6); }

    // LBA28 registers and a command, on the primary channel.
    void command(uint8_t op, uint32_t lba, uint8_t count, unsigned drive = 0) {
        out(0x1f6, 0xe0 | drive << 4 | (lba >> 24 & 15));
        out(0x1f2, count);
        out(0x1f3, lba), out(0x1f4, lba >> 8), out(0x1f5, lba >> 16);
        out(0x1f7, op);
    }
    void commandExt(uint8_t op, uint64_t lba, unsigned count) {
        out(0x1f6, 0xe0);
        out(0x1f2, count >> 8), out(0x1f2, count);
        out(0x1f3, lba >> 24), out(0x1f3, lba);
        out(0x1f4, lba >> 32), out(0x1f4, lba >> 8);
        out(0x1f5, lba >> 40), out(0x1f5, lba >> 16);
        out(0x1f7, op);
    }
    std::vector<uint16_t> insw(unsigned words, uint16_t base = 0x1f0) {
        std::vector<uint16_t> v(words);
        for (auto& w : v) w = uint16_t(ports.read(base, 2));
        return v;
    }
    void describe(uint32_t table, std::vector<std::pair<uint32_t, uint32_t>> entries) {
        for (size_t i = 0; i < entries.size(); i++) {
            bool last = i + 1 == entries.size();
            memory.write<uint32_t>(PhysAddr(table + i * 8), entries[i].first);
            memory.write<uint32_t>(PhysAddr(table + i * 8 + 4), entries[i].second | (last ? 0x80000000 : 0));
        }
        ports.write(kBusMaster + 4, 4, table);
    }
};

std::unique_ptr<BlockImage> numbered(uint64_t sectors) {
    auto image = BlockImage::blank(sectors * 512);
    for (uint32_t i = 0; i < sectors; i++) {
        std::array<uint32_t, 128> sector;
        sector.fill(i);
        image->write(uint64_t(i) * 512, sector.data(), 512);
    }
    return image;
}

constexpr uint8_t kReady = 0x50, kRequest = 0x58, kFailed = 0x51;

}  // namespace

TEST_CASE("IDE: reset shows signatures, absent drives show nothing") {
    Bench b;
    b.ide.attachDisk(0, numbered(2048));
    b.ide.attachCdrom(2, nullptr);
    b.bus.reset();
    CHECK(b.bus.configRead(Bench::kBdf, 0, 4) == 0x70108086);
    CHECK(b.bus.configRead(Bench::kBdf, 9, 1) == 0x80);
    CHECK(b.alternate() == kReady);
    b.out(0x1f6, 0xb0);
    CHECK(b.alternate() == 0);
    b.out(0x1f2, 0x55);
    CHECK(b.in(0x1f2) == 0);
    b.out(0x1f7, 0xec);
    b.pass();
    CHECK(b.status() == 0);
    CHECK(b.in(0x177) == 0);  // the CD-ROM isn't "ready" before its first command

    b.out(0x3f6, 4);
    CHECK(b.in(0x1f6) == 0xa0);
    CHECK(b.alternate() == 0x80);
    b.pass();
    CHECK(b.alternate() == 0x80);  // held
    b.out(0x3f6, 0);
    b.pass();
    CHECK(b.alternate() == kReady);
    CHECK(b.in(0x1f1) == 1);
    CHECK(b.in(0x1f2) == 1);
    CHECK(b.in(0x1f3) == 1);
    CHECK(b.in(0x1f4) == 0);
    CHECK(b.in(0x1f5) == 0);
    b.out(0x376, 4);
    b.out(0x376, 0);
    b.pass();
    CHECK(b.in(0x174) == 0x14);
    CHECK(b.in(0x175) == 0xeb);
    b.out(0x177, 0xec);  // IDENTIFY DEVICE is refused with the signature
    b.pass();
    CHECK(b.irq15.level());
    CHECK(b.status(0x170) == kFailed);
    CHECK(!b.irq15.level());
    CHECK(b.in(0x175) == 0xeb);
}

// Linux 2.4 takes a device register that remembers for a drive, and probes it for its interrupt.
TEST_CASE("IDE: a cable without drives keeps nothing") {
    Bench b;
    b.ide.attachDisk(0, numbered(2048));
    b.bus.reset();
    for (uint8_t select : {0xa0, 0xb0}) {
        b.out(0x1f6, select);
        CHECK(b.in(0x1f6) == select);
        b.out(0x176, select);
        CHECK(b.in(0x176) == 0);
        b.out(0x172, 0x55);
        CHECK(b.in(0x172) == 0);
        CHECK(b.in(0x177) == 0);
    }
}

TEST_CASE("IDE: IDENTIFY DEVICE") {
    Bench b;
    b.ide.attachDisk(0, numbered(20000));
    b.command(0xec, 0, 0);
    CHECK((b.alternate() & 0x80) == 0x80);
    CHECK(!b.irq14.level());
    b.pass();
    CHECK(b.irq14.level());
    CHECK(b.alternate() == kRequest);
    CHECK(b.irq14.level());  // the alternate status acknowledges nothing
    CHECK(b.status() == kRequest);
    CHECK(!b.irq14.level());
    auto w = b.insw(256);
    CHECK(b.status() == kReady);
    CHECK(w[1] == 20000 / (16 * 63));
    CHECK(w[60] == 20000);
    CHECK(w[100] == 20000);
    CHECK((w[83] & 0x0400) == 0x0400);
    CHECK(w[27] == ('K' << 8 | 'I'));
    uint8_t sum = 0;
    for (uint16_t v : w) sum = uint8_t(sum + (v & 0xff) + (v >> 8));
    CHECK(sum == 0);
    CHECK((w[255] & 0xff) == 0xa5);
    CHECK((b.insw(1)[0] == 0xffff));  // nothing more
}

TEST_CASE("IDE: reading sectors by PIO, one interrupt each") {
    Bench b;
    b.ide.attachDisk(1, numbered(5000));
    b.command(0x20, 0x1234, 3, 1);
    for (unsigned i = 0; i < 3; i++) {
        b.pass();
        CHECK(b.irq14.level());
        CHECK(b.status() == kRequest);
        CHECK(b.ports.read(0x1f0, 4) == 0x1234 + i);
        auto w = b.insw(254);
        CHECK(w[253] == 0);
        CHECK(w[252] == 0x1234 + i);
    }
    CHECK(b.status() == kReady);
    b.pass();
    CHECK(!b.irq14.level());
    CHECK(b.in(0x1f2) == 0);
    CHECK(b.in(0x1f3) == 0x36);  // the last sector
}

TEST_CASE("IDE: what was read ahead is there at once, and who takes it is not interrupted") {
    Bench b;
    b.ide.attachDisk(0, numbered(5000));
    b.command(0x20, 200, 3);
    b.pass();
    CHECK(b.status() == kRequest);
    CHECK(b.insw(256)[0] == 200);
    CHECK(b.status() == kRequest);  // which acknowledges nothing yet
    CHECK(!b.irq14.level());
    CHECK(b.in(0x1f3) == 201);
    CHECK(b.insw(1)[0] == 201);
    b.pass();
    CHECK(!b.irq14.level());
    b.insw(255);
    CHECK(b.status() == kRequest);
    b.pass();
    CHECK(b.irq14.level());
    CHECK(b.insw(256)[0] == 202);
    CHECK(b.status() == kReady);

    b.out(0x1f1, 0x55);  // SET FEATURES: no look-ahead
    b.command(0xef, 0, 0);
    b.pass();
    CHECK(b.status() == kReady);
    b.command(0x20, 300, 2);
    b.pass();
    b.insw(256);
    CHECK((b.alternate() & 0x80) == 0x80);
    b.pass();
    CHECK(b.insw(256)[0] == 301);
}

TEST_CASE("IDE: READ MULTIPLE and 48-bit addresses") {
    Bench b;
    b.ide.attachDisk(0, numbered(5000));
    b.command(0xc4, 0, 1);
    b.pass();
    CHECK(b.status() == kFailed);  // not set up
    b.command(0xc6, 0, 3);
    b.pass();
    CHECK(b.status() == kFailed);
    b.command(0xc6, 0, 8);
    b.pass();
    CHECK(b.status() == kReady);
    b.commandExt(0x29, 100, 11);
    b.pass();
    CHECK(b.status() == kRequest);
    CHECK((b.insw(8 * 256)[7 * 256] == 107));
    CHECK(b.alternate() == kRequest);
    CHECK(!b.irq14.level());
    b.pass();
    CHECK(b.irq14.level());
    CHECK(b.status() == kRequest);
    CHECK((b.insw(3 * 256)[2 * 256] == 110));
    CHECK(b.status() == kReady);
    b.commandExt(0x24, 5000, 1);
    b.pass();
    CHECK(b.status() == kFailed);
    CHECK(b.in(0x1f1) == 0x10);
    b.commandExt(0x27, 0, 0);  // READ NATIVE MAX ADDRESS EXT
    b.pass();
    CHECK(b.status() == kReady);
    CHECK(b.in(0x1f3) == (4999 & 0xff));
    CHECK(b.in(0x1f4) == (4999 >> 8));
    b.out(0x3f6, 0x80);
    CHECK(b.in(0x1f3) == 0);
    b.out(0x1f2, 0);
    CHECK(b.in(0x1f3) == (4999 & 0xff));  // a write of any register shows the low halves again
}

TEST_CASE("IDE: a disk of 16 GiB, with addresses in the device register") {
    Bench b;
    b.ide.attachDisk(1, BlockImage::blank(16ull << 30));
    b.command(0xf8, 0, 0, 1);
    b.pass();
    CHECK(b.status() == kReady);
    CHECK(b.in(0x1f6) == 0xf1);
    CHECK(b.in(0x1f5) == 0xff);
    b.command(0x20, 0x1ffffff, 1, 1);
    b.pass();
    CHECK(b.status() == kRequest);
    b.insw(256);
    b.command(0x20, 0x1ffffff, 2, 1);
    b.pass();
    CHECK(b.status() == kFailed);
}

TEST_CASE("IDE: writing by PIO") {
    Bench b;
    IdeDisk& disk = b.ide.attachDisk(0, numbered(100));
    b.command(0x30, 98, 2);
    CHECK(b.alternate() == kRequest);  // at once, and without an interrupt
    CHECK(!b.irq14.level());
    for (unsigned sector = 0; sector < 2; sector++) {
        for (unsigned i = 0; i < 128; i++) b.ports.write(0x1f0, 4, 0xabcd0000 + sector);
        CHECK((b.alternate() & 0x88) == 0x80);
        b.pass();
        CHECK(b.irq14.level());
        CHECK(int(b.status()) == int(sector == 0 ? kRequest : kReady));
    }
    uint32_t word;
    disk.image().read(99 * 512 + 508, &word, 4);
    CHECK(word == 0xabcd0001);
    b.command(0x30, 99, 2);
    CHECK(b.status() == kFailed);
    b.command(0xe7, 0, 0);
    b.pass();
    CHECK(b.status() == kReady);
}

TEST_CASE("IDE: what has to be on the medium when a command ends") {
    Bench b;
    BlockImage& image = b.ide.attachDisk(0, numbered(100)).image();
    auto write = [&](uint8_t op) {
        op == 0xca || op == 0x30 ? b.command(op, 5, 1) : b.commandExt(op, 5, 1);
        if (op == 0x30)
            for (unsigned i = 0; i < 128; i++) b.ports.write(0x1f0, 4, i);
        else
            b.describe(0x1000, {{0x2000, 512}}), b.out(Bench::kBusMaster, 1);
        b.pass();
        CHECK(b.status() == kReady);
        b.out(Bench::kBusMaster, 0);
    };
    auto command = [&](uint8_t op) {
        b.command(op, 0, 0);
        b.pass();
        CHECK(b.status() == kReady);
    };
    for (uint8_t op : {0xe7, 0xea, 0xe0, 0xe2, 0xe6, 0x94, 0x96, 0x99}) {  // FLUSH CACHE, STANDBY, SLEEP
        write(0x30);
        CHECK(image.dirty());
        command(op);
        CHECK(!image.dirty());
    }
    write(0xca);
    CHECK(image.dirty());
    command(0xe1);  // IDLE
    CHECK(image.dirty());
    write(0x3d);  // WRITE DMA FUA EXT
    CHECK(!image.dirty());
    b.out(0x1f1, 0x82);  // no write cache
    command(0xef);
    write(0x30);
    CHECK(!image.dirty());
}

TEST_CASE("IDE: cylinders, heads and sectors, with a geometry of the driver's") {
    Bench b;
    b.ide.attachDisk(0, numbered(5000));
    auto readChs = [&](unsigned c, unsigned h, unsigned s) -> int {
        b.out(0x1f6, 0xa0 | h);
        b.out(0x1f2, 1), b.out(0x1f3, s), b.out(0x1f4, c), b.out(0x1f5, c >> 8);
        b.out(0x1f7, 0x20);
        b.pass();
        if (b.status() != kRequest) return -1;
        return b.insw(256)[0];
    };
    CHECK(readChs(1, 2, 3) == (1 * 16 + 2) * 63 + 2);
    CHECK(readChs(0, 0, 0) == -1);
    CHECK(readChs(0, 0, 64) == -1);
    b.out(0x1f6, 0xa3), b.out(0x1f2, 17), b.out(0x1f7, 0x91);  // 4 heads, 17 sectors
    b.pass();
    CHECK(b.status() == kReady);
    CHECK(readChs(1, 2, 3) == (1 * 4 + 2) * 17 + 2);
    CHECK(readChs(0, 4, 1) == -1);
    CHECK(b.in(0x1f1) == 0x10);
}

TEST_CASE("IDE: bus master DMA through a scattered table") {
    Bench b;
    IdeDisk& disk = b.ide.attachDisk(0, numbered(5000));
    b.describe(0x1000, {{0x10000, 512}, {0x20000, 1024 + 512}});
    b.command(0xc8, 300, 4);
    b.pass();
    CHECK(!b.irq14.level());  // waits for the engine
    b.out(Bench::kBusMaster, 0x09);
    CHECK(b.in(Bench::kBusMaster + 2) == 0x01);
    b.pass();
    CHECK(b.irq14.level());
    CHECK(b.in(Bench::kBusMaster + 2) == 0x04);
    b.out(Bench::kBusMaster, 0);
    b.out(Bench::kBusMaster + 2, 0x04);
    CHECK(b.in(Bench::kBusMaster + 2) == 0);
    CHECK(b.status() == kReady);
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x10000)) == 300);
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x20000)) == 301);
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x205fc)) == 303);

    for (unsigned i = 0; i < 70000; i++) b.memory.write<uint8_t>(PhysAddr(0x100000 + i), uint8_t(i / 512));
    b.describe(0x1000, {{0x100000, 0}, {0x110000, 0x1000}});  // 64 KiB, 4 KiB
    b.commandExt(0x35, 1000, 136);
    b.out(Bench::kBusMaster, 0x01);
    b.pass();
    CHECK(b.status() == kReady);
    uint8_t byte;
    disk.image().read(uint64_t(1000 + 135) * 512 + 511, &byte, 1);
    CHECK(byte == 135);
    b.out(Bench::kBusMaster, 0);

    // A table longer than the transfer leaves the engine active, with the interrupt.
    b.describe(0x1000, {{0x10000, 2048}});
    b.command(0xc8, 0, 1);
    b.out(Bench::kBusMaster + 2, 0x04);
    b.out(Bench::kBusMaster, 0x09);
    b.pass();
    CHECK(b.in(Bench::kBusMaster + 2) == 0x05);
    CHECK(b.status() == kReady);
    b.out(Bench::kBusMaster, 0);
    // One that is shorter never ends, until a reset.
    b.describe(0x1000, {{0x10000, 256}});
    b.command(0xc8, 0, 1);
    b.out(Bench::kBusMaster + 2, 0x04);
    b.out(Bench::kBusMaster, 0x09);
    b.pass();
    CHECK(b.in(Bench::kBusMaster + 2) == 0);
    CHECK((b.alternate() & 0x80) == 0x80);
    b.out(0x3f6, 4), b.out(0x3f6, 0);
    b.pass();
    CHECK(b.status() == kReady);
    CHECK(!b.irq14.level());
}

TEST_CASE("IDE: a transaction that is refused on its way up stops the engine with an error") {
    struct Bridge : Upstream {
        explicit Bridge(PhysicalMemory& m) : direct(m) {}
        bool read(Bdf who, uint64_t at, void* out, uint64_t size) override {
            return who == Bench::kBdf && at != refused && direct.read(who, at, out, size);
        }
        bool write(Bdf who, uint64_t at, const void* in, uint64_t size) override {
            return who == Bench::kBdf && at != refused && direct.write(who, at, in, size);
        }
        DirectUpstream direct;
        uint64_t refused = 0;
    };
    for (uint64_t refused : {0x1000, 0x2000, 0x3000}) {  // the table, the first piece, the second
        Bench b;
        b.ide.attachDisk(0, numbered(64));
        Bridge bridge(b.memory);
        bridge.refused = refused;
        b.bus.upstream = &bridge;
        b.memory.write<uint64_t>(PhysAddr(0x1000), 0x2000 | 0x200ull << 32);
        b.memory.write<uint64_t>(PhysAddr(0x1008), 0x3000 | 0x80000200ull << 32);
        b.ports.write(Bench::kBusMaster + 4, 4, 0x1000);
        b.command(0xc8, 0, 2);
        b.out(Bench::kBusMaster, 9);
        for (unsigned n = 0; n < 10; n++) b.pass();
        CHECK((b.in(Bench::kBusMaster + 2) & 3) == 2);
        b.out(Bench::kBusMaster + 2, 2);
        CHECK((b.in(Bench::kBusMaster + 2) & 3) == 0);
    }
}

TEST_CASE("IDE: nIEN keeps the interrupt off the wire, the pending one comes through later") {
    Bench b;
    b.ide.attachDisk(0, numbered(10));
    b.out(0x3f6, 2);
    b.command(0xe5, 0, 0);
    b.pass();
    CHECK(!b.irq14.level());
    CHECK(b.in(0x1f2) == 0xff);
    b.out(0x3f6, 0);
    CHECK(b.irq14.level());
    CHECK(b.status() == kReady);
    CHECK(!b.irq14.level());
    b.out(0x1f7, 0x90);  // EXECUTE DEVICE DIAGNOSTIC
    CHECK(b.alternate() == 0x80);
    b.pass();
    CHECK(b.irq14.level());
    CHECK(b.in(0x1f1) == 1);
}

TEST_CASE("IDE: a failing host is a failing drive") {
    Bench b;
    std::string error;
    char name[] = "/tmp/kiln-ide-XXXXXX";
    int fd = mkstemp(name);
    REQUIRE(ftruncate(fd, 51200) == 0);
    auto image = BlockImage::open(name, {.readOnly = true}, error);
    REQUIRE(image);
    b.ide.attachDisk(0, std::move(image));
    close(fd);
    unlink(name);
    b.command(0x30, 5, 1);
    for (unsigned i = 0; i < 256; i++) b.ports.write(0x1f0, 2, 0);
    b.pass();
    CHECK(b.irq14.level());
    CHECK(b.status() == 0x71);  // device fault
    CHECK(b.in(0x1f1) == 0x04);
    CHECK(b.in(0x1f3) == 5);
    b.command(0x20, 5, 1);
    b.pass();
    CHECK(b.status() == kRequest);
}

namespace {

// Packet commands on the secondary master.
struct CdBench : Bench {
    AtapiCdrom& cd;
    CdBench() : cd(ide.attachCdrom(2, numbered(4 * 1000))) {}

    void packet(std::vector<uint8_t> bytes, unsigned limit = 0xfffe, bool dma = false) {
        bytes.resize(12);
        out(0x176, 0xa0);
        out(0x171, dma), out(0x174, limit), out(0x175, limit >> 8);
        out(0x177, 0xa0);
        CHECK(in(0x376) == kRequest);
        CHECK(in(0x172) == 1);
        CHECK(!irq15.level());
        for (unsigned i = 0; i < 12; i += 2) ports.write(0x170, 2, unsigned(bytes[i] | bytes[i + 1] << 8));
        CHECK((in(0x376) & 0x88) == 0x80);
    }
    // Runs the data-in phases: the data; `bursts` counts them.
    unsigned bursts = 0;
    std::vector<uint8_t> dataIn() {
        std::vector<uint8_t> data;
        bursts = 0;
        for (;;) {
            pass();
            CHECK(irq15.level());
            uint8_t s = status(0x170);
            if (!(s & 8)) {
                CHECK(in(0x172) == 3);
                return data;
            }
            CHECK(in(0x172) == 2);
            unsigned n = unsigned(in(0x174) | in(0x175) << 8);
            for (unsigned i = 0; i < n; i += 2) {
                unsigned w = ports.read(0x170, 2);
                data.push_back(uint8_t(w));
                if (i + 1 < n) data.push_back(uint8_t(w >> 8));
            }
            bursts++;
        }
    }
    // Sense key, code, qualifier after a failed command.
    unsigned sense() {
        packet({3, 0, 0, 0, 18});
        auto d = dataIn();
        REQUIRE(d.size() == 18);
        return unsigned(d[2] << 16 | d[12] << 8 | d[13]);
    }
    bool ok() {
        pass();
        return status(0x170) == kReady;
    }
};

}  // namespace

TEST_CASE("ATAPI: inquiry, capacity, reading in bursts") {
    CdBench b;
    b.packet({0x12, 0, 0, 0, 36});
    auto inquiry = b.dataIn();
    REQUIRE(inquiry.size() == 36);
    CHECK(inquiry[0] == 5);
    CHECK(std::memcmp(&inquiry[8], "KILN", 4) == 0);
    b.packet({0x12, 0, 0, 0, 5});
    CHECK(b.dataIn().size() == 5);

    b.packet({0x25});
    CHECK(b.dataIn() == std::vector<uint8_t>{0, 0, 0x03, 0xe7, 0, 0, 8, 0});

    b.packet({0x28, 0, 0, 0, 0, 10, 0, 0, 3}, 2048);
    auto data = b.dataIn();
    CHECK(b.bursts == 3);
    REQUIRE(data.size() == 6144);
    CHECK(data[0] == 40);
    CHECK(data[6143 - 3] == 51);
    b.packet({0xa8, 0, 0, 0, 0, 10, 0, 0, 0, 3}, 0xfffe);
    CHECK(b.dataIn() == data);
    CHECK(b.bursts == 1);
    b.packet({0x28, 0, 0, 0, 0x03, 0xe8, 0, 0, 1});
    CHECK(b.dataIn().empty());
    CHECK(b.sense() == 0x052100);
    CHECK(b.sense() == 0);
    b.packet({0xff});
    CHECK(!b.ok());
    CHECK(b.in(0x171) == 0x54);
    CHECK(b.sense() == 0x052000);
}

TEST_CASE("ATAPI: DMA") {
    CdBench b;
    b.ports.write(Bench::kBusMaster + 12, 4, 0x1000);
    b.memory.write<uint64_t>(PhysAddr(0x1000), 0x8000100000020000ull);
    b.packet({0x28, 0, 0, 0, 0, 5, 0, 0, 2}, 0, true);
    b.pass();
    CHECK(!b.irq15.level());
    b.out(Bench::kBusMaster + 8, 0x09);
    b.pass();
    CHECK(b.irq15.level());
    CHECK(b.in(Bench::kBusMaster + 10) == 0x04);
    CHECK(b.status(0x170) == kReady);
    CHECK(b.in(0x172) == 3);
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x20000)) == 20);
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x20ffc)) == 27);
}

TEST_CASE("ATAPI: raw sectors and tables of contents") {
    CdBench b;
    b.packet({0xbe, 0, 0, 0, 0, 16, 0, 0, 2, 0xf8});
    auto raw = b.dataIn();
    REQUIRE(raw.size() == 2 * 2352);
    CHECK(raw[0] == 0);
    CHECK(raw[1] == 0xff);
    CHECK(raw[2352 + 12] == 0x00);  // 0:02:17 in BCD
    CHECK(raw[2352 + 13] == 0x02);
    CHECK(raw[2352 + 14] == 0x17);
    CHECK(raw[2352 + 16] == 68);
    b.packet({0xbe, 0, 0, 0, 0, 16, 0, 0, 1, 0x10});
    CHECK(b.dataIn().size() == 2048);
    b.packet({0xb9, 0, 0, 0, 2, 16, 0, 2, 17, 0x10});
    auto msf = b.dataIn();
    REQUIRE(msf.size() == 2048);
    CHECK(msf[0] == 64);

    b.packet({0x43, 0, 0, 0, 0, 0, 0, 0, 100});
    auto toc = b.dataIn();
    REQUIRE(toc.size() == 20);
    CHECK(toc[1] == 18);
    CHECK(toc[5] == 0x14);
    CHECK(toc[14] == 0xaa);
    CHECK((toc[18] << 8 | toc[19]) == 1000);
    b.packet({0x43, 2, 0, 0, 0, 0, 0, 0, 100, 0x40});
    auto sessions = b.dataIn();
    REQUIRE(sessions.size() == 12);
    CHECK(sessions[10] == 2);
    b.packet({0x43, 2, 2, 0, 0, 0, 0, 2, 0});
    CHECK(b.dataIn().size() == 48);
    b.packet({0x43, 0, 5, 0, 0, 0, 0, 2, 0});
    CHECK(!b.ok());
    CHECK(b.sense() == 0x052400);
}

TEST_CASE("ATAPI: the tray, the lock and what the guest hears of them") {
    CdBench b;
    b.packet({0});
    CHECK(b.ok());
    b.packet({0x1e, 0, 0, 0, 1});
    CHECK(b.ok());
    CHECK(!b.cd.eject());
    b.packet({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8});
    auto event = b.dataIn();
    REQUIRE(event.size() == 8);
    CHECK(event[4] == 1);
    CHECK(event[5] == 2);
    b.packet({0x1b, 0, 0, 0, 2});
    CHECK(!b.ok());
    CHECK(b.sense() == 0x055302);
    b.packet({0x1e, 0, 0, 0, 0});
    CHECK(b.ok());
    b.packet({0x1b, 0, 0, 0, 2});
    CHECK(b.ok());
    CHECK(!b.cd.hasMedium());
    b.packet({0});
    CHECK(!b.ok());
    CHECK(b.sense() == 0x023a02);
    b.packet({0x1b, 0, 0, 0, 3});
    CHECK(b.ok());
    b.packet({0});
    CHECK(!b.ok());
    CHECK(b.sense() == 0x062800);
    b.packet({0});
    CHECK(b.ok());

    CHECK(b.cd.eject());
    b.cd.insert(numbered(8));
    b.packet({0x25});
    CHECK(!b.ok());
    b.packet({0x25});
    CHECK(b.dataIn()[3] == 1);
    b.packet({0x46, 0, 0, 0, 0, 0, 0, 2, 0});
    auto config = b.dataIn();
    CHECK(config.size() > 40);
    CHECK(config[7] == 0x08);
    b.packet({0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128});
    auto mode = b.dataIn();
    REQUIRE(mode.size() == 28);
    CHECK(mode[8] == 0x2a);
    b.packet({0x55, 0x10, 0, 0, 0, 0, 0, 0, 16});
    b.pass();
    CHECK(b.status(0x170) == kRequest);
    CHECK(b.in(0x172) == 0);
    for (int i = 0; i < 8; i++) b.ports.write(0x170, 2, 0);
    CHECK(b.ok());
}

TEST_CASE("ATAPI: an image that ends inside a sector") {
    CdBench b;
    b.cd.insert(numbered(5));
    b.packet({0});
    CHECK(!b.ok());
    b.packet({0x28, 0, 0, 0, 0, 1, 0, 0, 1}, 512);
    auto data = b.dataIn();
    REQUIRE(data.size() == 2048);
    CHECK(data[0] == 4);
    CHECK(data[512] == 0);
    CHECK(b.bursts == 4);
}

TEST_CASE("IDE: random register traffic is survived") {
    Bench b;
    b.ide.attachDisk(0, numbered(300));
    b.ide.attachCdrom(1, numbered(300));
    b.ide.attachCdrom(3, nullptr);
    std::mt19937 random(7);
    for (int i = 0; i < 200000; i++) {
        unsigned r = random() % 100;
        uint16_t base = random() % 4 ? 0x1f0 : 0x170;
        uint32_t v = random() % 8 == 0 ? ~0u : random();
        if (r < 20)
            b.ports.write(base, 1u << random() % 3, v);
        else if (r < 40)
            b.ports.read(base, 1u << random() % 3);
        else if (r < 70)
            b.ports.write(uint16_t(base + random() % 8), 1, random() % 2 ? v & 0xff : v & 3);
        else if (r < 80)
            b.ports.write(uint16_t(base + 7), 1, random() % 2 ? 0xa0 : v & 0xff);
        else if (r < 90)
            b.ports.write(uint16_t(Bench::kBusMaster + random() % 16), 1, v & 0xff);
        else if (r < 92)
            b.ports.write(uint16_t(base + 0x206), 1, v & 0xff);
        else if (r < 95)
            b.ports.read(uint16_t(base + random() % 8), 1u << random() % 3);
        else
            b.pass(random() % 20000);
    }
    b.bus.reset();
    b.pass();
    CHECK(b.alternate() == kReady);
}
