#include <doctest/doctest.h>

#include "apic/apic_bus.hpp"
#include "devices/edu.hpp"

using namespace kiln;

namespace {

constexpr Bdf kHere(0, 2, 0);
constexpr uint64_t kBar = 0xfea00000, kDmaTime = kSecond / 10;
enum : unsigned { kFactorial = 8, kStatus = 0x20, kCauses = 0x24, kRaise = 0x60, kAcknowledge = 0x64 };
enum : unsigned { kSource = 0x80, kDestination = 0x88, kCount = 0x90, kCommand = 0x98 };

// What a driver sees; messages end in `messages`.
struct Bench {
    struct Messages : IoHandler {
        uint64_t ioRead(uint64_t, unsigned size) override { return openBus(size); }
        void ioWrite(uint64_t offset, unsigned, uint64_t value) override { last = {offset, value}, count++; }
        std::pair<uint64_t, uint64_t> last;
        unsigned count = 0;
    } messages;
    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    RamBlock ram{"ram", 1 << 20};
    PortBus ports;
    PciBus bus{memory, ports};
    IrqInput pin;
    EduDevice edu;

    explicit Bench(uint64_t mask = EduDevice::kDefaultDmaMask) : edu(clock, log, mask) {
        memory.mapRam(PhysAddr(0), ram.size(), ram);
        memory.mapIo(PhysAddr(ApicBus::kWindowBase), ApicBus::kWindowSize, messages);
        bus.add(kHere, edu, &pin);
        bus.configWrite(kHere, 0x10, 4, kBar);
        bus.configWrite(kHere, 4, 2, 6);
    }
    void pass(Nanos t) {
        time.advance(t);
        clock.runDue();
    }
    uint64_t in(unsigned offset, unsigned size = 4) { return memory.access(PhysAddr(kBar + offset), size); }
    void out(unsigned offset, uint64_t value, unsigned size = 4) {
        memory.access(PhysAddr(kBar + offset), size, value);
    }
    void dma(uint64_t source, uint64_t destination, uint64_t count, unsigned command) {
        out(kSource, source, 8), out(kDestination, destination, 8), out(kCount, count, 8);
        out(kCommand, command | 1);
    }
};

}  // namespace

TEST_CASE("edu: identity, inverter, widths") {
    Bench b;
    CHECK(b.bus.configRead(kHere, 0, 4) == 0x11e81234);
    CHECK(b.bus.configRead(kHere, 8, 4) == 0x00ff0010);
    CHECK(b.in(0) == 0x010000ed);
    b.out(4, 0x12345678);
    CHECK(b.in(4) == 0xedcba987);
    CHECK(b.in(4, 2) == 0xffff);
    CHECK(b.in(4, 8) == ~0ull);
    b.out(4, 0, 8), b.out(4, 0, 1);
    CHECK(b.in(4) == 0xedcba987);
    CHECK(b.in(0x500) == 0xffffffff);
    b.out(kSource, 0x1122334455667788, 8);
    CHECK(b.in(kSource, 8) == 0x1122334455667788);
    CHECK(b.in(kSource) == 0x55667788);
    CHECK(b.in(kSource, 1) == 0xff);
}

TEST_CASE("edu: factorials modulo 2^32, later") {
    Bench b;
    struct Row {
        uint32_t n, result;
    };
    for (const Row& row : {Row{0, 1},
                           {1, 1},
                           {5, 120},
                           {12, 479001600},
                           {13, 1932053504},
                           {33, 0x80000000},
                           {34, 0},
                           {0xffffffff, 0}}) {
        CAPTURE(row.n);
        b.out(kFactorial, row.n);
        CHECK((b.in(kStatus)&1) == 1);
        b.out(kFactorial, 3);  // busy
        b.pass(5 * kSecond);
        CHECK((b.in(kStatus)&1) == 0);
        CHECK(b.in(kFactorial) == row.result);
    }
    CHECK(!b.pin.level());
    b.out(kStatus, 0xff);
    CHECK(b.in(kStatus) == 0x80);  // the computing bit is the device's
    b.out(kFactorial, 4);
    b.pass(kSecond);
    CHECK(b.in(kCauses) == 1);
    CHECK(b.pin.level());
    b.out(kAcknowledge, 1);
    CHECK(!b.pin.level());
}

TEST_CASE("edu: causes hold the wire, or each is a message") {
    Bench b;
    b.out(kRaise, 0x30);
    CHECK(b.pin.level());
    CHECK(b.in(kCauses) == 0x30);
    b.out(kAcknowledge, 0x10);
    CHECK(b.pin.level());
    b.out(kAcknowledge, 0x20);
    CHECK(!b.pin.level());
    b.out(kRaise, 0);
    CHECK(!b.pin.level());

    CHECK(b.bus.configRead(kHere, 0x34, 1) == 0x40);
    CHECK((b.bus.configRead(kHere, 6, 2) & 0x10) == 0x10);
    CHECK(b.bus.configRead(kHere, 0x40, 4) == 0x00800005);
    b.bus.configWrite(kHere, 0x44, 4, 0xfee01007);
    CHECK(b.bus.configRead(kHere, 0x44, 4) == 0xfee01004);
    b.bus.configWrite(kHere, 0x4c, 4, 0xffff4041);
    CHECK(b.bus.configRead(kHere, 0x4c, 4) == 0x4041);
    b.bus.configWrite(kHere, 0x42, 2, 0xffff);
    CHECK(b.bus.configRead(kHere, 0x42, 2) == 0xf1);
    b.out(kRaise, 1);
    CHECK(!b.pin.level());
    CHECK(b.messages.count == 1);
    CHECK(b.messages.last == std::pair<uint64_t, uint64_t>(0x1004, 0x4041));
    b.out(kRaise, 2);
    CHECK(b.messages.count == 2);
    b.bus.configWrite(kHere, 4, 2, 2);  // a message is a transaction of a bus master
    b.out(kRaise, 4);
    CHECK(b.messages.count == 2);
}

TEST_CASE("edu: DMA both ways, once at a time") {
    Bench b;
    b.memory.write<uint64_t>(PhysAddr(0x1000), 0x1122334455667788);
    b.dma(0x1000, 0x40010, 8, 4);
    CHECK(b.in(kCommand) == 5);
    b.out(kCount, 99);  // too late
    b.pass(kDmaTime);
    CHECK(b.in(kCommand) == 4);
    CHECK(b.in(kCount) == 8);
    CHECK(b.in(kCauses) == 0x100);
    CHECK(b.pin.level());
    b.out(kAcknowledge, 0x100);
    b.dma(0x40012, 0x2000, 4, 2);
    b.pass(kDmaTime);
    CHECK(b.memory.read<uint64_t>(PhysAddr(0x2000)) == 0x33445566);
    CHECK(!b.pin.level());
    b.out(kCommand, 2);  // without the start bit nothing is taken
    CHECK(b.in(kCommand) == 2);
    CHECK(b.clock.nextDeadline() == kNever);
}

TEST_CASE("edu: DMA outside the buffer, cut-off addresses, no bus master") {
    Bench b(0xffff);
    b.memory.write<uint32_t>(PhysAddr(0x1000), 0xcafe);
    struct Row {
        uint64_t at, count;
    };
    for (const Row& row : {Row{0x3fffc, 8},
                           {0x40ffc, 5},
                           {0x41001, 0},
                           {0, ~0ull},
                           {0x40000, 4097},
                           {~0ull, 2},
                           {0x40001, ~0ull}}) {
        CAPTURE(row.at);
        CAPTURE(row.count);
        b.dma(0x1000, row.at, row.count, 0);
        b.pass(kDmaTime);
        b.dma(row.at, 0x3000, row.count, 2);
        b.pass(kDmaTime);
        CHECK((b.in(kCommand)&1) == 0);
        CHECK(b.memory.read<uint32_t>(PhysAddr(0x3000)) == 0);
    }
    b.dma(0xabc0001000, 0x40ffc, 4, 0);
    b.pass(kDmaTime);
    b.dma(0x40ffc, 0x3000, 4, 2);
    b.bus.configWrite(kHere, 4, 2, 2);
    b.pass(kDmaTime);
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x3000)) == 0);
    b.bus.configWrite(kHere, 4, 2, 6);
    b.dma(0x40ffc, 0x13000, 4, 2);
    b.pass(kDmaTime);
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x3000)) == 0xcafe);
    b.edu.reset();
    CHECK(b.clock.nextDeadline() == kNever);
}
