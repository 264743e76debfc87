#include <doctest/doctest.h>

#include <random>

#include "devices/ich9_lpc.hpp"
#include "devices/q35_mch.hpp"
#include "pci/pci_function.hpp"

using namespace kiln;

namespace {

struct Registers : IoHandler {
    uint64_t ioRead(uint64_t offset, unsigned) override { return 0x5a00 + offset; }
    void ioWrite(uint64_t offset, unsigned, uint64_t value) override { last = {offset, value}; }
    std::pair<uint64_t, uint64_t> last;
};

struct TestFunction : PciFunction {
    TestFunction() : PciFunction({.vendor = 0x1234, .device = 0x5678, .classCode = 0x020000}) {}
    std::string_view name() const override { return "test"; }
};

struct Bench {
    PhysicalMemory memory;
    PortBus ports;
    PciBus bus{memory, ports};
    Bench() { ports.map(0xcf8, 8, bus.ports()); }

    uint32_t in(Bdf bdf, unsigned offset, unsigned size = 4) {
        ports.write(0xcf8, 4, 0x80000000 | unsigned(bdf.value) << 8 | (offset & 0xfc));
        return ports.read(uint16_t(0xcfc + (offset & 3)), size);
    }
    void out(Bdf bdf, unsigned offset, uint32_t value, unsigned size = 4) {
        ports.write(0xcf8, 4, 0x80000000 | unsigned(bdf.value) << 8 | (offset & 0xfc));
        ports.write(uint16_t(0xcfc + (offset & 3)), size, value);
    }
};

constexpr Bdf kHere(0, 3, 0);

}  // namespace

TEST_CASE("PCI: sizing and moving BARs") {
    Bench b;
    Registers io, mmio;
    RamBlock ram("bar", 1 << 20), rom("rom", 40 << 10);
    ram.data()[5] = 0x77;
    rom.data()[0] = 0x55;
    TestFunction f;
    f.addIoBar(0, 32, io);
    f.addMemoryBar(1, 4096, mmio);
    f.addMemoryBar(2, 1 << 20, ram, true);
    f.addRom(rom);
    b.bus.add(kHere, f);
    CHECK(b.in(kHere, 0) == 0x56781234);
    CHECK(b.in(kHere, 2, 2) == 0x5678);
    CHECK(b.in(kHere, 0xb, 1) == 0x02);
    CHECK(b.in(Bdf(0, 4, 0), 0) == 0xffffffff);

    for (unsigned bar = 0; bar < 6; bar++) b.out(kHere, 0x10 + bar * 4, 0xffffffff);
    b.out(kHere, 0x30, 0xfffffffe);
    CHECK(b.in(kHere, 0x10) == 0xffffffe1);
    CHECK(b.in(kHere, 0x14) == 0xfffff000);
    CHECK(b.in(kHere, 0x18) == 0xfff00008);
    CHECK(b.in(kHere, 0x1c) == 0);
    CHECK(b.in(kHere, 0x30) == 0xffff0000);  // 40 KiB need 64

    b.out(kHere, 0x10, 0xc000);
    b.out(kHere, 0x14, 0xfe000000);
    b.out(kHere, 0x18, 0xf0000000);
    CHECK(b.ports.read(0xc004, 1) == 0xff);  // decoding is off
    b.out(kHere, 4, 3, 2);
    CHECK(b.ports.read(0xc004, 2) == 0x5a04);
    CHECK(b.memory.access(PhysAddr(0xfe000010), 4) == 0x5a10);
    CHECK(b.memory.access(PhysAddr(0xf0000005), 1) == 0x77);
    b.memory.access(PhysAddr(0xfe000020), 2, 0x1234);
    CHECK(mmio.last == std::pair<uint64_t, uint64_t>(0x20, 0x1234));

    b.out(kHere, 0x1a, 0xe000, 2);  // a partial write moves the BAR
    CHECK(b.memory.access(PhysAddr(0xf0000005), 1) == 0xff);
    CHECK(b.memory.access(PhysAddr(0xe0000005), 1) == 0x77);

    b.out(kHere, 0x30, 0xfd000000);
    CHECK(b.memory.access(PhysAddr(0xfd000000), 1) == 0xff);
    b.out(kHere, 0x30, 0xfd000001);
    CHECK(b.memory.access(PhysAddr(0xfd000000), 1) == 0x55);
    b.memory.access(PhysAddr(0xfd000000), 1, 0);
    CHECK(rom.data()[0] == 0x55);
    CHECK(b.memory.access(PhysAddr(0xfd00a000), 1) == 0xff);  // behind the 40 KiB

    b.bus.reset();
    CHECK(b.ports.read(0xc004, 1) == 0xff);
    CHECK(b.memory.access(PhysAddr(0xe0000005), 1) == 0xff);
    CHECK(b.in(kHere, 0x10) == 1);
}

TEST_CASE("PCI: INTx follows the interrupt disable bit") {
    Bench b;
    IrqInput pin;
    TestFunction f;
    f.setInterruptPin(1);
    b.bus.add(kHere, f, &pin);
    f.setIntx(true);
    CHECK(pin.level());
    CHECK((b.in(kHere, 6, 2) & 8) == 8);
    b.out(kHere, 4, 0x400, 2);
    CHECK(!pin.level());
    b.out(kHere, 4, 0, 2);
    CHECK(pin.level());
    f.setIntx(false);
    CHECK(!pin.level());
}

TEST_CASE("PCI: only dword accesses reach the address register") {
    Bench b;
    b.ports.write(0xcf8, 4, 0x80001234);
    CHECK(b.ports.read(0xcf8, 4) == 0x80001234);
    b.ports.write(0xcf8, 1, 0xff);
    b.ports.write(0xcfa, 2, 0xffff);
    CHECK(b.ports.read(0xcf8, 4) == 0x80001234);
    CHECK(b.ports.read(0xcf8, 2) == 0xffff);
}

TEST_CASE("PCI: MSI's messages, and its transactions need bus mastering") {
    Bench b;
    struct Bridge : Upstream {
        bool read(Bdf who, uint64_t address, void* out, uint64_t size) override {
            std::fill_n(static_cast<uint8_t*>(out), size, uint8_t(0x33));
            requester = who, at = address;
            return address < 0x1000;
        }
        bool write(Bdf who, uint64_t address, const void* in, uint64_t size) override {
            requester = who, at = address, data = 0, writes++;
            std::copy_n(static_cast<const uint8_t*>(in), size, reinterpret_cast<uint8_t*>(&data));
            return address < 0x1000;
        }
        Bdf requester;
        uint64_t at = 0;
        uint32_t data = 0;
        unsigned writes = 0;
    } bridge;
    b.bus.upstream = &bridge;
    IrqInput pin;
    TestFunction f;
    f.setInterruptPin(1);
    f.addMsi(0x50, 4);
    uint32_t word = 0;
    CHECK(!f.dmaRead(0, &word, 4));  // on no bus yet
    CHECK(word == 0xffffffff);
    b.bus.add(kHere, f, &pin);
    CHECK(!f.dmaRead(0, &word, 4));
    CHECK(!f.dmaWrite(0, &word, 4));
    b.out(kHere, 4, 4, 2);
    CHECK(f.dmaRead(0x10, &word, 4));
    CHECK((word == 0x33333333 && bridge.requester == kHere && bridge.at == 0x10));
    CHECK(!f.dmaWrite(0x1000, &word, 4));

    CHECK(b.in(kHere, 0x50) == 0x00840005);
    b.out(kHere, 0x54, 0xfee01008), b.out(kHere, 0x58, 0x12), b.out(kHere, 0x5c, 0x4173);
    bridge.writes = 0;
    f.sendMsi();
    CHECK(bridge.writes == 0);
    f.setIntx(true);
    CHECK(pin.level());
    b.out(kHere, 0x52, 0x71, 2);  // more messages than it has
    CHECK(!pin.level());          // INTx is silent now
    for (unsigned n = 0; n < 4; n++) {
        f.sendMsi(n);
        CHECK((bridge.at == 0x12fee01008 && bridge.data == (0x4170 | n)));
    }
    b.out(kHere, 0x5c, 0x4170);
    f.sendMsi(2);
    CHECK(bridge.data == 0x4172);
    b.out(kHere, 0x52, 0x01, 2);  // one message: its data as it is
    f.sendMsi(2);
    CHECK(bridge.data == 0x4170);
    b.out(kHere, 0x52, 0, 2);
    CHECK(pin.level());
}

TEST_CASE("PCI: a byte's place left in the address register counts, but not for dwords") {
    Bench b;
    TestFunction f;
    b.bus.add(kHere, f);
    b.ports.write(0xcf8, 4, 0x80000002 | unsigned(kHere.value) << 8);
    CHECK(b.ports.read(0xcf8, 4) == (0x80000000 | unsigned(kHere.value) << 8));
    CHECK(b.ports.read(0xcfc, 2) == 0x5678);
    CHECK(b.ports.read(0xcfe, 2) == 0x5678);
    CHECK(b.ports.read(0xcfc, 1) == 0x78);
    CHECK(b.ports.read(0xcfd, 1) == 0x56);
    CHECK(b.ports.read(0xcfc, 4) == 0x56781234);
}

TEST_CASE("Q35: ECAM moves, shrinks and closes") {
    Bench b;
    RamBlock ram("ram", 2 << 20), bios("bios", 256 << 10);
    Q35Mch mch(b.bus, ram, bios);
    b.bus.add(Bdf(0, 0, 0), mch);
    CHECK(b.in(Bdf(0, 0, 0), 0) == 0x29c08086);
    CHECK(b.memory.access(PhysAddr(0xb0000000), 4) == 0xffffffff);
    b.out(Bdf(0, 0, 0), 0x60, 0xb0000001);
    CHECK(b.memory.access(PhysAddr(0xb0000000), 4) == 0x29c08086);
    CHECK(b.memory.access(PhysAddr(0xb0000002), 2) == 0x29c0);
    CHECK(b.memory.access(PhysAddr(0xb0008000), 4) == 0xffffffff);
    CHECK(b.memory.access(PhysAddr(0xb0000100), 4) == 0xffffffff);
    b.memory.access(PhysAddr(0xb0000060), 4, 0xe8000005);  // through itself: 64 buses at 0xE8000000
    CHECK(mch.ecamBuses() == 64);
    CHECK(mch.ecamBase() == PhysAddr(0xe8000000));
    CHECK(b.memory.access(PhysAddr(0xb0000000), 4) == 0xffffffff);
    CHECK(b.memory.access(PhysAddr(0xe8000000), 8) == 0x0000000629c08086);
    CHECK(b.memory.find(PhysAddr(0xe8000000)).end == PhysAddr(0xec000000));
    b.out(Bdf(0, 0, 0), 0x60, 0);
    CHECK(b.memory.access(PhysAddr(0xe8000000), 4) == 0xffffffff);
}

TEST_CASE("Q35: firmware that wakes up closes and opens ECAM through ECAM") {
    Bench b;
    RamBlock ram("ram", 2 << 20), bios("bios", 128 << 10);
    Q35Mch mch(b.bus, ram, bios);
    b.bus.add(Bdf(0, 0, 0), mch);
    const PhysAddr window(0xb0000060);
    b.out(Bdf(0, 0, 0), 0x60, 0xb0000001), b.out(Bdf(0, 0, 0), 0x96, 0x11, 1);
    mch.resetForWake();
    CHECK(b.in(Bdf(0, 0, 0), 0x96, 1) == 0x11);
    for (unsigned n = 0; n < 2; n++) {  // asleep again before firmware was done
        b.memory.access(window, 4, 0);
        CHECK(!mch.ecamEnabled());
        CHECK(b.memory.access(window, 4) == 0);
        b.memory.access(window, 4, 0xb0000001);
        CHECK((mch.ecamEnabled() && b.memory.access(window, 4) == 0xb0000001));
        if (n == 0) mch.resetForWake();
    }
    b.memory.access(window, 4, 0);  // only once
    CHECK(b.memory.access(window, 4) == 0xffffffff);
    mch.resetForWake();  // closed it stays
    CHECK(b.memory.access(window, 4) == 0xffffffff);
}

TEST_CASE("Q35: the attribute map in all four combinations") {
    Bench b;
    RamBlock ram("ram", 2 << 20), bios("bios", 256 << 10);
    b.memory.mapRam(PhysAddr(0), ram.size(), ram);
    bios.data()[0x30000] = 0xb1;  // seen at 0xF0000
    Q35Mch mch(b.bus, ram, bios);
    b.bus.add(Bdf(0, 0, 0), mch);
    PhysAddr f(0xf0000), c(0xc4000), e(0xec000);

    CHECK(b.memory.access(f, 1) == 0xb1);  // ROM, writes lost
    b.memory.access(f, 1, 0x11);
    CHECK(b.memory.access(f, 1) == 0xb1);
    CHECK(ram.data()[0xf0000] == 0);
    CHECK(b.memory.access(c, 4) == 0xffffffff);  // nobody there

    b.out(Bdf(0, 0, 0), 0x90, 0x20, 1);  // reads from ROM, writes to RAM
    b.memory.access(f, 1, 0x22);
    CHECK(b.memory.access(f, 1) == 0xb1);
    CHECK(ram.data()[0xf0000] == 0x22);
    b.out(Bdf(0, 0, 0), 0x90, 0x10, 1);  // RAM, write-protected
    CHECK(b.memory.access(f, 1) == 0x22);
    b.memory.access(f, 1, 0x33);
    CHECK(b.memory.access(f, 1) == 0x22);
    b.out(Bdf(0, 0, 0), 0x90, 0x30, 1);  // RAM
    b.memory.access(f, 1, 0x44);
    CHECK(b.memory.access(f, 1) == 0x44);

    b.out(Bdf(0, 0, 0), 0x91, 0x30, 1);  // 0xC4000, not 0xC0000
    b.memory.access(c, 1, 0x55);
    CHECK(b.memory.access(c, 1) == 0x55);
    CHECK(b.memory.access(PhysAddr(0xc0000), 1) == 0xff);
    b.out(Bdf(0, 0, 0), 0x96, 0x30, 1);
    b.memory.access(e, 1, 0x66);
    CHECK(ram.data()[0xec000] == 0x66);

    b.bus.reset();
    CHECK(b.memory.access(f, 1) == 0xb1);
}

TEST_CASE("Q35: SMRAM opens over the VGA window, and locks shut") {
    Bench b;
    RamBlock ram("ram", 2 << 20), bios("bios", 128 << 10);
    Registers vga;
    b.memory.mapIo(PhysAddr(0xa0000), 0x20000, vga, 1);
    Q35Mch mch(b.bus, ram, bios);
    b.bus.add(Bdf(0, 0, 0), mch);
    CHECK(b.memory.access(PhysAddr(0xa0000), 2) == 0x5a00);
    b.out(Bdf(0, 0, 0), 0x9d, 0x4a, 1);
    b.memory.access(PhysAddr(0xa0000), 2, 0x1234);
    CHECK(b.memory.access(PhysAddr(0xa0000), 2) == 0x1234);
    b.out(Bdf(0, 0, 0), 0x9d, 0x5a, 1);
    CHECK(b.memory.access(PhysAddr(0xa0000), 2) == 0x5a00);
    b.out(Bdf(0, 0, 0), 0x9d, 0x4a, 1);
    CHECK(b.in(Bdf(0, 0, 0), 0x9d, 1) == 0x1a);
    b.bus.reset();
    CHECK(b.in(Bdf(0, 0, 0), 0x9d, 1) == 0x02);
}

TEST_CASE("ICH9: PCI interrupts reach the 8259 and the I/O APIC") {
    Bench b;
    std::array<IrqInput, 16> pic;
    std::array<IrqInput, 8> ioApic;
    Ich9Lpc::Wires wires;
    for (unsigned i = 0; i < 16; i++) wires.isa[i] = &pic[i];
    for (unsigned i = 0; i < 8; i++) wires.ioApic[i] = &ioApic[i];
    Ich9Lpc lpc(b.bus, wires);
    Bdf here(0, 0x1f, 0);
    b.bus.add(here, lpc);
    CHECK(b.in(here, 0) == 0x29188086);

    TestFunction f, g;
    f.setInterruptPin(1), g.setInterruptPin(2);
    b.bus.add(kHere, f, &lpc.intx(kHere, 1));
    b.bus.add(Bdf(0, 2, 0), g, &lpc.intx(Bdf(0, 2, 0), 2));
    CHECK(Ich9Lpc::gsiOf(kHere, 1) == 23);
    CHECK(Ich9Lpc::gsiOf(Bdf(0, 2, 0), 2) == 23);
    CHECK(Ich9Lpc::gsiOf(Bdf(0, 0x1f, 2), 1) == 16);
    f.setIntx(true);
    g.setIntx(true);
    CHECK(ioApic[7].level());
    CHECK(!pic[11].level());
    b.out(here, 0x6b, 11, 1);  // PIRQH to IRQ 11, while asserted
    CHECK(pic[11].level());
    f.setIntx(false);
    CHECK(pic[11].level());
    b.out(here, 0x6b, 10, 1);
    CHECK(!pic[11].level());
    CHECK(pic[10].level());
    g.setIntx(false);
    CHECK(!pic[10].level());
    CHECK(!ioApic[7].level());
    g.setIntx(true);
    b.out(here, 0x6b, 8, 1);  // not an allowed route
    CHECK(!pic[8].level());

    b.out(here, 0xf0, 0xfed1c001);
    CHECK(b.memory.access(PhysAddr(0xfed1c000 + 0x3140), 2) == 0x3210);
    lpc.intx(here, 1).raise();
    CHECK(ioApic[0].level());
    b.memory.access(PhysAddr(0xfed1c000 + 0x3140), 2, 0x3215);
    CHECK(!ioApic[0].level());
    CHECK(ioApic[5].level());
}

TEST_CASE("ICH9: ACPI base and the reset port") {
    Bench b;
    Ich9Lpc lpc(b.bus, {});
    Bdf here(0, 0x1f, 0);
    b.bus.add(here, lpc);
    unsigned base = 0, resets = 0;
    bool on = false, fullReset = false;
    lpc.onPmBase = [&](uint16_t at, bool enabled) { base = at, on = enabled; };
    lpc.onReset = [&](bool full) { resets++, fullReset = full; };
    b.out(here, 0x40, 0x601);
    CHECK(base == 0x600);
    CHECK(!on);
    b.out(here, 0x44, 0x80, 1);
    CHECK(on);
    CHECK(lpc.sciGsi() == 9);
    b.ports.write(0xcf9, 1, 0x02);
    CHECK(resets == 0);
    b.ports.write(0xcf9, 1, 0x06);
    CHECK(resets == 1);
    CHECK(!fullReset);
    CHECK(b.ports.read(0xcf9, 1) == 0x06);
    b.ports.write(0xcf8, 4, 0x80000e00);  // the address register is still whole
    CHECK(b.ports.read(0xcf8, 4) == 0x80000e00);
    CHECK(resets == 1);
    b.ports.write(0xcf9, 1, 0x00);
    b.ports.write(0xcf9, 1, 0x0e);
    CHECK(resets == 2);
    CHECK(fullReset);
    lpc.reset();
    CHECK(!on);
}

TEST_CASE("PCI: any configuration write is survived, and the state hash tells states apart") {
    Bench b;
    RamBlock ram("ram", 2 << 20), bios("bios", 128 << 10), bar("bar", 1 << 16);
    Registers io;
    Q35Mch mch(b.bus, ram, bios);
    Ich9Lpc lpc(b.bus, {});
    TestFunction f;
    f.addIoBar(0, 16, io);
    f.addMemoryBar(1, 1 << 16, bar, true);
    f.addRom(bios);
    b.bus.add(Bdf(0, 0, 0), mch);
    b.bus.add(Bdf(0, 0x1f, 0), lpc);
    b.bus.add(kHere, f);
    StateHash first;
    mch.state(first);
    std::mt19937 random(1);
    for (int i = 0; i < 20000; i++) {
        Bdf bdf = b.bus.functions()[random() % 3]->bdf();
        unsigned size = 1u << random() % 3;
        b.ports.write(0xcf8, 4, 0x80000000 | unsigned(bdf.value) << 8 | (random() & 0xfc));
        b.ports.write(uint16_t(0xcfc + random() % (5 - size)), size, random() % 4 ? random() : ~0u);
        b.memory.access(PhysAddr(random()), 4);
        b.memory.access(PhysAddr(0xa0000 + random() % 0x60000), 1, random());
    }
    StateHash second;
    mch.state(second);
    CHECK(first.value() != second.value());
    b.bus.reset();
    StateHash third;
    mch.state(third);
    CHECK(first.value() == third.value());
}
