#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <random>
#include <vector>

#include "devices/floppy.hpp"

using namespace kiln;

namespace {

constexpr uint32_t k1440 = 1474560;

std::unique_ptr<BlockImage> numbered(uint64_t bytes) {
    auto image = BlockImage::blank(bytes);
    for (uint32_t i = 0; i < bytes / 512; i++) {
        std::array<uint32_t, 128> sector;
        sector.fill(i);
        image->write(uint64_t(i) * 512, sector.data(), 512);
    }
    return image;
}

// A machine with a floppy controller, and what a driver does to it.
struct Bench {
    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    RamBlock ram{"ram", 1 << 20};
    PortBus ports;
    I8237Pair dma{memory, log};
    IrqInput irq6;
    Floppy floppy{clock, log, dma, irq6};

    explicit Bench(uint64_t size = k1440) {
        memory.mapRam(PhysAddr(0), ram.size(), ram);
        dma.mapPorts(ports);
        floppy.mapPorts(ports);
        if (size) floppy.attach(0, numbered(size));
        dma.reset();
        floppy.reset();
        out(0xd6, 0xc0), out(0xd4, 0x00);
    }
    void out(unsigned port, unsigned value) { ports.write(uint16_t(port), 1, value & 0xff); }
    uint8_t in(unsigned port) { return uint8_t(ports.read(uint16_t(port), 1)); }
    void pass(Nanos t) {
        time.advance(t);
        clock.runDue();
    }
    // Waits for IRQ 6 as a driver does; false when it doesn't come within a second.
    bool interrupt() {
        for (int i = 0; i < 10000 && !irq6.level(); i++) pass(100'000);
        return irq6.level();
    }
    void command(std::vector<uint8_t> bytes) {
        for (uint8_t v : bytes) {
            CHECK((in(0x3f4) & 0xc0) == 0x80);
            out(0x3f5, v);
        }
    }
    std::vector<uint8_t> results() {
        std::vector<uint8_t> v;
        while ((in(0x3f4) & 0xd0) == 0xd0) v.push_back(in(0x3f5));
        return v;
    }
    std::vector<uint8_t> sense() {
        command({0x08});
        return results();
    }
    // Reset, data rate, SPECIFY, RECALIBRATE of drive 0.
    void start(uint8_t rate = 0, bool nonDma = false) {
        out(0x3f2, 0x08), out(0x3f2, 0x1c);
        CHECK(in(0x3f4) == 0);
        CHECK(interrupt());
        for (uint8_t n = 0; n < 4; n++) CHECK(sense() == std::vector<uint8_t>{uint8_t(0xc0 | n), 0});
        CHECK(!irq6.level());
        CHECK(sense() == std::vector<uint8_t>{0x80});
        out(0x3f7, rate);
        command({0x03, 0xaf, uint8_t(0x02 | nonDma)});
        command({0x07, 0});
        CHECK(in(0x3f4) == 0x81);
        CHECK(interrupt());
        CHECK(sense() == std::vector<uint8_t>{0x20, 0});
    }
    void program(uint32_t address, uint32_t count, bool toMemory) {
        out(0x0a, 6), out(0x0c, 0), out(0x0b, toMemory ? 0x46 : 0x4a);
        out(0x04, address), out(0x04, address >> 8), out(0x81, address >> 16);
        out(0x05, count - 1), out(0x05, (count - 1) >> 8);
        out(0x0a, 2);
    }
    uint32_t word(uint32_t at) { return memory.read<uint32_t>(PhysAddr(at)); }
};

using Bytes = std::vector<uint8_t>;

}  // namespace

TEST_CASE("floppy: formats by size") {
    CHECK(floppyFormatOf(k1440)->sectorsPerTrack == 18);
    CHECK(floppyFormatOf(737280)->sectorsPerTrack == 9);
    CHECK(floppyFormatOf(1228800)->drive == FloppyDriveType::D1200K);
    CHECK(floppyFormatOf(368640)->tracks == 40);
    CHECK(floppyFormatOf(163840)->heads == 1);
    CHECK(floppyFormatOf(1720320)->sectorsPerTrack == 21);
    CHECK(floppyFormatOf(2949120)->drive == FloppyDriveType::D2880K);
    CHECK(floppyFormatOf(512)->sectorsPerTrack == 18);
    CHECK(!floppyFormatOf(10 << 20));
}

TEST_CASE("floppy: reset, seek, sense") {
    Bench b;
    b.start();
    b.command({0x0f, 0x04, 33});
    CHECK(!b.irq6.level());
    CHECK(b.interrupt());
    CHECK(b.sense() == Bytes{0x20, 33});
    b.command({0x04, 0x00});
    CHECK(b.results() == Bytes{0x28});
    b.command({0x8f, 0x00, 3});  // relative, outwards
    CHECK(b.interrupt());
    CHECK(b.sense() == Bytes{0x20, 30});
    b.command({0x10});
    CHECK(b.results() == Bytes{0x90});
    b.command({0x13, 0, 0x57, 0});
    b.command({0x94});
    CHECK(b.results() == Bytes{0x10});
    b.command({0x0e});
    CHECK(b.results() == Bytes{30, 0, 0, 0, 0xaf, 0x02, 0, 0x80, 0x57, 0});
    b.command({0x18});
    CHECK(b.results() == Bytes{0x80});
    b.out(0x3f4, 0x80);  // a reset through the data rate register, which turns polling on again
    CHECK(b.interrupt());
    for (int i = 0; i < 4; i++) b.sense();
    b.command({0x0e});
    CHECK(b.results()[8] == 0x07);  // the lock kept the FIFO's settings, not the rest
}

TEST_CASE("floppy: two seeks at once, one on a drive that isn't there") {
    Bench b;
    b.start();
    b.command({0x0f, 0, 10});
    b.command({0x07, 1});
    CHECK((b.in(0x3f4) & 3) == 3);
    b.pass(10'000'000);
    CHECK(b.sense() == Bytes{0x20, 10});
    CHECK(b.irq6.level());
    CHECK(b.sense() == Bytes{0x71, 0});
    CHECK(!b.irq6.level());
}

TEST_CASE("floppy: reading by DMA over both heads") {
    Bench b;
    b.start();
    b.program(0x8000, 20 * 512, true);
    b.command({0xe6, 0, 2, 0, 1, 2, 18, 0x1b, 0xff});
    CHECK(!b.irq6.level());
    CHECK(b.in(0x3f4) == 0x10);
    CHECK(b.in(0x08) == 0x40);  // the controller requests DMA
    CHECK(b.interrupt());
    CHECK(b.in(0x3f4) == 0xd0);
    CHECK(b.in(0x3f5) == 0x04);  // head 1
    CHECK(!b.irq6.level());
    CHECK(b.results() == Bytes{0, 0, 2, 1, 3, 2});
    CHECK(b.word(0x8000) == 72);
    CHECK(b.word(0x8000 + 19 * 512) == 91);
    CHECK(b.word(0x8000 + 20 * 512) == 0);
    CHECK(b.in(0x3f4) == 0x80);

    b.program(0x8000, 512, true);  // the last sector of a track
    b.command({0x46, 4, 2, 1, 18, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results() == Bytes{4, 0, 0, 3, 1, 1, 2});
}

TEST_CASE("floppy: no terminal count is the end of the cylinder, no DMA an overrun") {
    Bench b;
    b.start();
    b.program(0x8000, 8192, true);
    b.command({0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results() == Bytes{0x40, 0x80, 0, 1, 0, 1, 2});
    b.out(0x0a, 6);
    b.command({0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results() == Bytes{0x40, 0x10, 0, 0, 0, 1, 2});
}

TEST_CASE("floppy: an EOT behind the track's end lets a multi-track read go on, as SeaBIOS's int 13h needs") {
    Bench b;
    b.start();
    b.program(0x8000, 40 * 512, true);
    b.command(
        {0xe6, 0, 0, 0, 2, 2, 41, 0x1b, 0xff});  // 40 sectors from the second one: both heads, next cylinder
    CHECK(b.interrupt());
    CHECK(b.results() == Bytes{0x00, 0, 0, 1, 0, 6, 2});
    for (unsigned i = 0; i < 40; i++) CHECK(b.word(0x8000 + i * 512) == i + 1);
    b.program(0x8000, 512 * 2, true);  // without MT, nothing is behind sector 18
    b.command({0x66, 0, 0, 0, 18, 2, 19, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results() == Bytes{0x40, 0x04, 0, 0, 0, 19, 2});
    b.program(0x8000, 512 * 2, true);  // nor behind the last cylinder
    b.command({0xe6, 4, 79, 1, 18, 2, 19, 0x1b, 0xff});
    CHECK(b.interrupt());
    auto end = b.results();
    REQUIRE(end.size() == 7);
    CHECK(end[0] == 0x40);
    CHECK(end[1] == 0x80);
}

TEST_CASE("floppy: what isn't on the medium isn't found") {
    Bench b;
    b.start();
    b.program(0x8000, 512, true);
    auto read = [&](uint8_t c, uint8_t h, uint8_t r, uint8_t n) {
        b.command({0x46, uint8_t(h << 2), c, h, r, n, 18, 0x1b, 0xff});
        CHECK(b.interrupt());
        auto v = b.results();
        return Bytes{v[0], v[1], v[2]};
    };
    CHECK(read(0, 0, 19, 2) == Bytes{0x40, 0x04, 0});
    CHECK(read(0, 0, 0, 2) == Bytes{0x40, 0x04, 0});
    CHECK(read(80, 0, 1, 2) == Bytes{0x40, 0x04, 0x10});
    CHECK(read(0, 0, 1, 3) == Bytes{0x40, 0x04, 0});
    CHECK(read(0, 1, 1, 2) == Bytes{0x04, 0, 0});
    b.out(0x3f7, 2);  // the wrong data rate
    CHECK(read(0, 0, 1, 2) == Bytes{0x40, 0x05, 0});
    b.command({0x4a, 0});
    CHECK(b.interrupt());
    CHECK(b.results()[1] == 1);
    b.out(0x3f7, 0);
    b.command({0x4a, 4});
    CHECK(b.interrupt());
    auto id = b.results();
    REQUIRE(id.size() == 7);
    CHECK(id[0] == 4);
    CHECK(id[4] == 1);
    CHECK(id[6] == 2);
}

TEST_CASE("floppy: a 720K medium at its own data rate") {
    Bench b(737280);
    CHECK(b.floppy.driveType(0) == FloppyDriveType::D1440K);
    b.start(2);
    b.program(0x8000, 512, true);
    b.command({0x46, 0, 3, 0, 9, 2, 9, 0x2a, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results()[0] == 0);
    CHECK(b.word(0x8000) == 3 * 18 + 8);
}

TEST_CASE("floppy: writing, formatting, write protection") {
    Bench b;
    b.start();
    for (unsigned i = 0; i < 1024; i++) b.ram.data()[0x8000 + i] = uint8_t(0xa0 + i / 512);
    b.program(0x8000, 1024, false);
    b.command({0x45, 0, 1, 0, 5, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results() == Bytes{0, 0, 0, 1, 0, 7, 2});
    b.program(0x9000, 512, true);
    b.command({0x46, 0, 1, 0, 6, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    b.results();
    CHECK(b.ram.data()[0x9000] == 0xa1);

    for (unsigned i = 0; i < 18; i++) {
        const uint8_t id[4] = {1, 0, uint8_t(i + 1), 2};
        b.memory.write(PhysAddr(0x8000 + i * 4), id, 4);
    }
    b.program(0x8000, 72, false);
    b.command({0x4d, 0, 2, 18, 0x54, 0xf6});
    CHECK(b.interrupt());
    auto r = b.results();
    CHECK(r[0] == 0);
    CHECK(r[1] == 0);
    b.program(0x9000, 512, true);
    b.command({0x46, 0, 1, 0, 18, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    b.results();
    CHECK(b.word(0x9000) == 0xf6f6f6f6);

    char name[] = "/tmp/kiln-floppy-XXXXXX";
    int fd = mkstemp(name);
    REQUIRE(ftruncate(fd, k1440) == 0);
    std::string error;
    b.floppy.insert(0, BlockImage::open(name, {.readOnly = true}, error));
    close(fd);
    unlink(name);
    b.command({0x04, 0});
    CHECK(b.results() == Bytes{0x68});
    b.program(0x8000, 512, false);
    b.command({0x45, 0, 1, 0, 5, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    r = b.results();
    CHECK(r[0] == 0x40);
    CHECK(r[1] == 0x02);
}

TEST_CASE("floppy: what was written is on the medium when the motor stops") {
    Bench b(0);
    auto medium = numbered(k1440);
    BlockImage& image = *medium;
    b.floppy.attach(0, std::move(medium));
    b.start();
    b.out(0x3f2, 0x0c);
    CHECK(!image.dirty());
    b.out(0x3f2, 0x1c);
    b.program(0x8000, 512, false);
    b.command({0x45, 0, 1, 0, 5, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(image.dirty());
    b.out(0x3f2, 0x2c);  // the other drive's motor instead
    CHECK(!image.dirty());
}

TEST_CASE("floppy: byte by byte without DMA, an interrupt each") {
    Bench b;
    b.start(0, true);
    b.command({0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff});
    unsigned count = 0;
    uint8_t last = 0;
    while (b.interrupt() && (b.in(0x3f4) & 0xf0) == 0xf0) last = b.in(0x3f5), count++;
    CHECK(count == 1024);
    CHECK(last == 0);
    CHECK(b.results() == Bytes{0x40, 0x80, 0, 1, 0, 1, 2});

    b.command({0x45, 0, 0, 0, 18, 2, 18, 0x1b, 0xff});
    count = 0;
    while (b.interrupt() && (b.in(0x3f4) & 0xf0) == 0xb0) b.out(0x3f5, 0x77), count++;
    CHECK(count == 512);
    CHECK(b.results()[1] == 0x80);
    b.command({0x46, 0, 0, 0, 18, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.in(0x3f5) == 0x77);
}

TEST_CASE("floppy: verify, scan, read track") {
    Bench b;
    b.start();
    b.command({0x56, 0, 0, 0, 1, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results() == Bytes{0, 0, 0, 1, 0, 1, 2});
    b.command({0x56, 0x80, 0, 0, 1, 2, 18, 0x1b, 3});
    CHECK(b.interrupt());
    CHECK(b.results() == Bytes{0, 0, 0, 0, 0, 4, 2});

    for (unsigned i = 0; i < 128; i++) b.memory.write<uint32_t>(PhysAddr(0x8000 + i * 4), 4);
    b.program(0x8000, 512, false);
    b.command({0x51, 0, 0, 0, 5, 2, 18, 0x1b, 1});
    CHECK(b.interrupt());
    CHECK(b.results()[2] == 0x08);
    b.program(0x8000, 512, false);
    b.command({0x51, 0, 0, 0, 6, 2, 18, 0x1b, 1});
    CHECK(b.interrupt());
    CHECK(b.results()[2] == 0x04);
    b.program(0x8000, 512, false);
    b.command({0x5d, 0, 0, 0, 6, 2, 18, 0x1b, 1});
    CHECK(b.interrupt());
    CHECK(b.results()[2] == 0);

    b.program(0x8000, 18 * 512, true);
    b.command({0x42, 0, 0, 0, 9, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results()[0] == 0);
    CHECK(b.word(0x8000 + 17 * 512) == 17);
}

TEST_CASE("floppy: the change line, an empty drive") {
    Bench b;
    b.start();
    CHECK(b.in(0x3f7) == 0);  // the recalibration has reset it
    b.floppy.eject(0);
    CHECK(b.in(0x3f7) == 0x80);
    b.command({0x0f, 0, 1});
    CHECK(b.interrupt());
    b.sense();
    CHECK(b.in(0x3f7) == 0x80);
    b.program(0x8000, 512, true);
    b.command({0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff});
    CHECK(b.interrupt());
    CHECK(b.results()[1] == 0x05);
    CHECK(b.floppy.insert(0, numbered(k1440)));
    CHECK(b.in(0x3f7) == 0x80);
    b.command({0x07, 0});
    CHECK(b.interrupt());
    b.sense();
    CHECK(b.in(0x3f7) == 0);
    CHECK(!b.floppy.insert(0, BlockImage::blank(20 << 20)));
}

TEST_CASE("floppy: without the DMA gate the interrupt stays off the wire") {
    Bench b;
    b.out(0x3f2, 0x14);
    b.pass(1'000'000);
    CHECK(!b.irq6.level());
    b.out(0x3f2, 0x1c);
    CHECK(b.irq6.level());
}

TEST_CASE("floppy: random register traffic is survived") {
    Bench b;
    b.floppy.attach(1, nullptr);
    std::mt19937 random(11);
    const uint8_t opcodes[] = {0x06, 0x46, 0xc5, 0x45, 0x4d, 0x4a, 0x07, 0x08,
                               0x0f, 0xcc, 0x42, 0x51, 0x56, 0x59, 0x13, 3};
    for (int i = 0; i < 300000; i++) {
        unsigned r = random() % 100;
        if (r < 10)
            b.out(0x3f5, opcodes[random() % 16]);
        else if (r < 50)
            b.out(0x3f5, random() % 3 ? random() % 20 : random());
        else if (r < 75)
            b.in(0x3f5);
        else if (r < 80)
            b.ports.read(uint16_t(0x3f0 + random() % 8), 1u << random() % 3);
        else if (r < 82)
            b.out(0x3f0 + random() % 8, random() % 2 ? 0xff : random());
        else if (r < 83)
            b.out(0x3f2, 0x1c);
        else if (r < 84)
            b.program(random() & 0xfffff, random() % 4096 + 1, random() % 2);
        else if (r < 85)
            b.out(0x3f7, 0);
        else
            b.pass(random() % 400000);
    }
    StateHash one, two;
    b.floppy.state(one);
    b.floppy.state(two);
    CHECK(one.value() == two.value());
    b.floppy.reset();
    b.start();
}
