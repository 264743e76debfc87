#include <doctest/doctest.h>

#include "devices/irq_test.hpp"
#include "tests/pci_bench.hpp"
#include "tests/random.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr Bdf kPort(0, 4, 0), kBridge(0, 5, 0);

// Bus 0: a root port with a function, and a bridge with a function and one more bridge with a function.
struct Tree : PciBench {
    RootPort port{1, 9};
    PciBridge bridge{7}, inner;
    TestFunction express, plain, deep;
    Registers io, registers;
    RamBlock ram{"bar", 1 << 20};

    Tree() {
        express.addExpress(0x80, ExpressType::Endpoint);
        express.addWideBar(0, 1 << 20, ram, true);
        plain.addIoBar(0, 32, io);
        plain.addMemoryBar(1, 4096, registers);
        deep.addMemoryBar(0, 4096, registers);
        bus.add(kPort, port);
        bus.add(kBridge, bridge);
        bus.add(port, 0, 0, express);
        bus.add(bridge, 3, 1, plain);
        bus.add(bridge, 6, 0, inner);
        bus.add(inner, 2, 0, deep);
    }
    void number() {
        open(kPort, 1, 1);
        open(kBridge, 2, 4);
        open(Bdf(2, 6, 0), 4, 4);
    }
};

}  // namespace

TEST_CASE("bridges: configuration accesses go where bus numbers lead") {
    Tree t;
    CHECK(t.in(kPort, 0) == 0x000c1b36);
    CHECK((t.in(kPort, 8) >> 8) == 0x060400);
    CHECK(t.in(kPort, 0xe, 1) == 1);
    for (unsigned bus = 1; bus < 256; bus++)
        CHECK(t.in(Bdf(bus, 0, 0), 0) == ~0u);  // bridges without numbers
    t.number();
    CHECK(t.in(Bdf(1, 0, 0), 0) == 0x56781234);
    CHECK(t.in(Bdf(2, 3, 1), 0) == 0x56781234);
    CHECK(t.in(Bdf(2, 6, 0), 0) == 0x00011b36);
    CHECK(t.in(Bdf(4, 2, 0), 0) == 0x56781234);
    CHECK(t.in(Bdf(3, 2, 0), 0) == ~0u);  // within the range, but nobody's number
    CHECK(t.in(Bdf(5, 2, 0), 0) == ~0u);
    CHECK(t.in(Bdf(2, 3, 0), 0) == ~0u);
    CHECK(t.deep.bdf() == Bdf(4, 2, 0));
    t.out(kBridge, 0x19, 9, 1);
    t.out(kBridge, 0x1a, 9, 1);
    CHECK(t.plain.bdf() == Bdf(9, 3, 1));
    CHECK(t.in(Bdf(2, 3, 1), 0) == ~0u);
    CHECK(t.in(Bdf(9, 3, 1), 0) == 0x56781234);
    // By both mechanisms.
    t.ports.write(0xcf8, 4, 0x80091900);
    CHECK(t.ports.read(0xcfc, 4) == 0x56781234);
    CHECK(t.memory.access(PhysAddr(PciBench::kEcam + 0x919000), 4) == 0x56781234);
    t.bus.reset();
    CHECK(t.in(Bdf(9, 3, 1), 0) == ~0u);
}

TEST_CASE("bridges: windows let BARs through, or don't") {
    Tree t;
    t.number();
    const Bdf plain(2, 3, 1), deep(4, 2, 0), inner(2, 6, 0);
    t.out(plain, 0x10, 0xc101), t.out(plain, 0x14, 0xe0001000), t.out(plain, 4, 3, 2);
    t.out(deep, 0x10, 0xe0100000), t.out(deep, 4, 3, 2);
    auto seen = [&](uint64_t at) { return t.memory.access(PhysAddr(at), 2) == 0x5a00; };
    CHECK(!seen(0xe0001000));
    t.out(kBridge, 0x20, 0xe000e000);  // 1 MiB
    CHECK(seen(0xe0001000));
    CHECK(!seen(0xe0100000));
    t.out(kBridge, 0x20, 0xe010e000);
    CHECK(!seen(0xe0100000));  // the inner bridge has no window
    t.out(inner, 0x20, 0xe010e010);
    CHECK(seen(0xe0100000));
    t.out(kBridge, 0x20, 0x0000fff0);  // closed: base above limit
    CHECK(!seen(0xe0100000));
    t.out(kBridge, 0x24, 0xe011e001);  // what isn't prefetchable may be behind the prefetchable window
    CHECK(seen(0xe0100000));
    CHECK(seen(0xe0001000));
    t.out(kBridge, 4, 5, 2);  // memory space off
    CHECK(!seen(0xe0100000));
    t.out(kBridge, 4, 7, 2);
    CHECK(seen(0xe0100000));

    CHECK(t.ports.read(0xc100, 2) == 0xffff);
    t.out(kBridge, 0x1c, 0xd0c0, 2);
    CHECK(t.ports.read(0xc100, 2) == 0x5a00);
    t.out(kBridge, 0x3e, 4, 1);  // ISA enable: not these 768 bytes of the KiB
    CHECK(t.ports.read(0xc100, 2) == 0xffff);
    t.out(plain, 0x10, 0xc401);
    CHECK(t.ports.read(0xc400, 2) == 0x5a00);
    t.out(kBridge, 0x1c, 0xc0d0, 2);
    CHECK(t.ports.read(0xc400, 2) == 0xffff);
}

TEST_CASE("bridges: a 64-bit BAR, sized and moved above 4 GiB") {
    Tree t;
    t.number();
    const Bdf here(1, 0, 0);
    t.ram.data()[5] = 0x77;
    t.out(here, 4, 6, 2);
    t.out(here, 0x10, ~0u), t.out(here, 0x14, ~0u);
    CHECK(t.in(here, 0x10) == 0xfff0000c);
    CHECK(t.in(here, 0x14) == ~0u);
    auto byte = [&](uint64_t at) { return t.memory.access(PhysAddr(at + 5), 1); };
    t.out(here, 0x10, 0x00200000), t.out(here, 0x14, 0x80);
    CHECK(byte(0x8000200000) == 0xff);
    t.out(kPort, 0x24, 0x00310031), t.out(kPort, 0x28, 0x80), t.out(kPort, 0x2c, 0x80);
    CHECK(byte(0x8000200000) == 0xff);  // just beside
    t.out(kPort, 0x24, 0x00210001);
    CHECK(byte(0x8000200000) == 0x77);
    CHECK(byte(0x00200000) == 0xff);
    t.out(here, 0x14, 0x81);
    CHECK(byte(0x8000200000) == 0xff);
    CHECK(byte(0x8100200000) == 0xff);
    t.out(kPort, 0x2c, 0x81);
    CHECK(byte(0x8100200000) == 0x77);
    t.out(here, 0x14, 0), t.out(kPort, 0x28, 0), t.out(kPort, 0x2c, 0);
    CHECK(byte(0x00200000) == 0x77);
    t.out(here, 0x10, ~0u);  // half a sizing: not over the firmware
    CHECK(byte(0xfff00000) == 0xff);
}

TEST_CASE("bridges: extended configuration space is PCI Express's, and ECAM's") {
    Tree t;
    FakeTime time;
    Clock clock{time};
    IrqTest wired(clock, {}, ExpressType::IntegratedEndpoint), behind(clock, {}, ExpressType::Endpoint);
    t.bus.add(Bdf(0, 9, 0), wired);
    t.bus.add(t.bridge, 9, 0, behind);
    t.number();
    CHECK(t.in(Bdf(0, 9, 0), 0x100) == 0x00010003);
    CHECK(t.memory.access(PhysAddr(PciBench::kEcam + 0x48104), 4) == 0x4b495401);
    CHECK(t.in(Bdf(0, 9, 0), 0x1000 - 4) == 0);
    t.ports.write(0xcf8, 4, 0x81004800);  // bits 27:24 are reserved here
    CHECK(t.ports.read(0xcfc, 4) == 0x49541234);
    CHECK(t.in(Bdf(2, 9, 0), 0) == 0x49541234);
    CHECK(t.in(Bdf(2, 9, 0), 0x100) == ~0u);  // a conventional bridge has no address lines for it
    CHECK(t.in(Bdf(1, 0, 0), 0x100) == 0);
    CHECK(t.in(kBridge, 0x100) == ~0u);
}

TEST_CASE("bridges: DMA and messages need bus mastering all the way up; conventional bridges sign for them") {
    Tree t;
    t.number();
    for (Bdf bdf : {Bdf(1, 0, 0), Bdf(2, 3, 1), Bdf(4, 2, 0)}) t.out(bdf, 4, 6, 2);
    const uint32_t word = 0x1234;
    CHECK(t.express.dmaWrite(0x1000, &word, 4));
    CHECK(t.plain.dmaWrite(0x2000, &word, 4));
    CHECK(t.deep.dmaWrite(0x3000, &word, 4));
    REQUIRE(t.above.writes.size() == 3);
    CHECK(t.above.writes[0].requester == Bdf(1, 0, 0));
    CHECK(t.above.writes[1].requester == kBridge);
    CHECK(t.above.writes[2].requester == kBridge);
    t.out(Bdf(2, 6, 0), 4, 3, 2);
    CHECK(!t.deep.dmaWrite(0x3000, &word, 4));
    CHECK(t.plain.dmaWrite(0x3000, &word, 4));
    t.out(kBridge, 4, 3, 2);
    CHECK(!t.plain.dmaWrite(0x3000, &word, 4));
    CHECK(t.express.dmaWrite(0x3000, &word, 4));
    uint32_t read = 0;
    t.out(kPort, 4, 3, 2);
    CHECK(!t.express.dmaRead(0x3000, &read, 4));
    CHECK(read == ~0u);
}

TEST_CASE("bridges: the secondary bus reset holds what is below") {
    Tree t;
    t.number();
    const Bdf plain(2, 3, 1), deep(4, 2, 0);
    t.out(kBridge, 0x20, 0xe010e000), t.out(Bdf(2, 6, 0), 0x20, 0xe010e010);
    t.out(plain, 0x14, 0xe0001000), t.out(plain, 4, 2, 2);
    t.out(deep, 0x10, 0xe0100000), t.out(deep, 4, 2, 2);
    CHECK(t.memory.access(PhysAddr(0xe0100000), 2) == 0x5a00);
    t.out(kBridge, 0x3e, 0x40, 1);
    CHECK(t.in(plain, 0) == ~0u);
    CHECK(t.in(deep, 0) == ~0u);
    CHECK(t.in(kBridge, 0) == 0x00011b36);
    CHECK(t.memory.access(PhysAddr(0xe0001000), 2) == 0xffff);
    t.out(kBridge, 0x3e, 0, 1);
    CHECK(t.in(plain, 0x14) == 0);  // it has forgotten
    CHECK(t.in(plain, 4, 2) == 0);
    CHECK(t.in(deep, 0) == ~0u);  // and so has the inner bridge
    CHECK(t.in(kBridge, 0x20) == 0xe010e000);
    // A root port can also take its link down.
    CHECK((t.in(kPort, 0x52, 2) & 0x2000) == 0x2000);
    t.out(kPort, 0x50, 0x10, 2);
    CHECK(t.in(Bdf(1, 0, 0), 0) == ~0u);
    CHECK((t.in(kPort, 0x52, 2) & 0x2000) == 0);
    t.out(kPort, 0x50, 0, 2);
    CHECK(t.in(Bdf(1, 0, 0), 0) == 0x56781234);
    CHECK((t.in(kPort, 0x52, 2) & 0x2000) == 0x2000);
}

TEST_CASE("bridges: capabilities of ports and slots") {
    Tree t;
    RootPort empty{2, 100};
    t.bus.add(Bdf(0, 7, 0), empty);
    CHECK(t.in(kPort, 0x34, 1) == 0x40);
    CHECK(t.in(kPort, 0x40) == 0x01420010);  // a slot, root port, version 2
    CHECK((t.in(kPort, 0x4c) >> 24) == 1);   // port number
    CHECK((t.in(kPort, 0x54) >> 19) == 9);   // slot number
    CHECK((t.in(Bdf(0, 7, 0), 0x54) >> 19) == 100);
    CHECK((t.in(kPort, 0x5a, 2) & 0x40) == 0x40);  // somebody is there
    CHECK((t.in(Bdf(0, 7, 0), 0x5a, 2) & 0x40) == 0);
    CHECK((t.in(Bdf(0, 7, 0), 0x52, 2) & 0x3fff) == 0);
    CHECK(t.in(kBridge, 0x40) == 0x07000004);  // slot numbering
}

TEST_CASE("bridges: INTx swizzles on its way up") {
    Tree t;
    std::array<IrqInput, 128> inputs;
    t.bus.intxInput = [&](unsigned device, unsigned pin) { return &inputs[device * 4 + pin]; };
    std::vector<std::unique_ptr<TestFunction>> functions;
    for (unsigned device = 10; device < 14; device++)
        for (unsigned pin = 1; pin <= 4; pin++)
            for (PciBridge* bridge : {static_cast<PciBridge*>(&t.bridge), &t.inner}) {
                TestFunction& f = *functions.emplace_back(std::make_unique<TestFunction>());
                f.setInterruptPin(pin);
                t.bus.add(*bridge, device, pin, f);
                f.setIntx(true);
                // INTB of device 10 behind one bridge is INT(1 + 10 & 3) of the bridge at 5.
                unsigned expected = (device + pin - 1) & 3;
                if (bridge == &t.inner) expected = (6 + expected) & 3;
                unsigned high = 0;
                for (const IrqInput& i : inputs) high += i.level();
                CHECK(high == 1);
                CHECK(inputs[kBridge.device() * 4 + expected].level());
                f.setIntx(false);
            }
    TestFunction f;
    f.setInterruptPin(3);
    t.bus.add(t.port, 0, 1, f);
    f.setIntx(true);
    CHECK(inputs[kPort.device() * 4 + 2].level());
}

TEST_CASE("bridges: any configuration write is survived, and a reset brings all back") {
    Tree t;
    auto hash = [&] {
        StateHash h;
        for (PciFunction* f : t.bus.functions()) f->state(h);
        return h.value();
    };
    const uint64_t powerOn = hash();
    Random r(5);
    for (unsigned n = 0; n < 30'000; n++) {
        const PciFunction& f = *t.bus.functions()[below(r, t.bus.functions().size())];
        const unsigned size = 1u << below(r, 3),
                       offset = unsigned(below(r, oneIn(r, 8) ? 4096 : 256)) & ~(size - 1);
        t.out(f.bdf(), offset, uint32_t((oneIn(r, 3) ? ~0ull : r()) & openBus(size)), size);
        if (oneIn(r, 50)) t.number();
        if (oneIn(r, 16)) t.memory.access(PhysAddr(r() & 0xfffffffff8), 8);
    }
    CHECK(hash() != powerOn);
    t.bus.reset();
    CHECK(hash() == powerOn);
}
