#include <doctest/doctest.h>

#include "tests/random.hpp"
#include "tests/relay_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr InterruptId msi(uint16_t n) { return {InterruptId::Msi, n}; }
constexpr InterruptId msix(uint16_t n) { return {InterruptId::Msix, n}; }

}  // namespace

TEST_CASE("MSI: a masked message waits in the pending bits") {
    RelayBench b;
    IrqTest& f = b.add(2);
    CHECK(b.config(f, 0x50) == 0x018a0005);  // 32 messages, 64-bit, masks
    b.useMsi(f, 0x40, 5);
    f.raise(3);
    CHECK(b.acknowledge() == 0x43);
    b.eoi();
    b.config(f, 0x60, 1 << 3 | 1 << 31, 4);
    f.raise(3), f.raise(3), f.raise(4), f.raise(31);
    CHECK(b.config(f, 0x64) == (1u << 3 | 1u << 31));
    CHECK(b.acknowledge() == 0x44);
    b.eoi();
    b.config(f, 0x60, 1u << 31, 4);
    CHECK(b.config(f, 0x64) == 1u << 31);
    CHECK(b.acknowledge() == 0x43);  // once: the bit doesn't count
    b.eoi();
    CHECK(b.acknowledge() == -1);
    b.config(f, 0x52, 0, 2);
    b.config(f, 0x60, 0, 4);  // disabled, nothing is sent
    CHECK(b.acknowledge() == -1);
    b.config(f, 0x52, 0x51, 2);
    CHECK(b.acknowledge() == 0x5f);
    CHECK(b.recorded(f, msi(3)).raised == 2);
    CHECK(b.config(f, 0x64) == 0);
    b.config(f, 0x64, ~0u, 4);  // the guest can't make any pending
    CHECK(b.config(f, 0x64) == 0);
}

TEST_CASE("MSI-X: table, masks, pending bits") {
    RelayBench b;
    IrqTest& f = b.add(2, {.vectors = 70, .memory = 4096});
    CHECK(b.config(f, 0x70) == (0x00450011u | 0x5000u));
    CHECK((b.config(f, 0x74) == 2 && b.config(f, 0x78) == 0x1002));
    CHECK(b.in(b.table(f) + 12) == 1);  // masked at power-on
    for (unsigned n = 0; n < 70; n++) b.useMsix(f, n, uint8_t(0x30 + n));
    f.raise(1);  // not enabled: INTx
    CHECK(b.acknowledge() == -1);
    CHECK(b.ioApic.pin(18).level());
    b.enableMsix(f);
    CHECK(!b.ioApic.pin(18).level());
    f.raise(69);
    CHECK(b.acknowledge() == 0x30 + 69);
    b.eoi();
    f.raise(70);  // there is none
    CHECK(b.acknowledge() == -1);

    b.out(b.table(f) + 66 * 16 + 12, 1);
    f.raise(66), f.raise(66), f.raise(0);
    CHECK(b.in(b.table(f) + 0x1008) == 4);
    CHECK(b.in(b.table(f) + 0x1000) == 0);
    CHECK(b.acknowledge() == 0x30);
    b.eoi();
    b.out(b.table(f) + 66 * 16 + 8, 0x99);  // whatever the table says when it is unmasked
    b.out(b.table(f) + 66 * 16 + 12, 0);
    CHECK(b.acknowledge() == 0x99);
    b.eoi();
    CHECK(b.in(b.table(f) + 0x1008) == 0);

    b.enableMsix(f, true);
    for (unsigned n : {1, 31, 32, 69}) f.raise(n);
    CHECK(b.acknowledge() == -1);
    CHECK((b.in(b.table(f) + 0x1000) == 0x80000002 && b.in(b.table(f) + 0x1004) == 1));
    b.out(b.table(f) + 31 * 16 + 12, 1);
    b.enableMsix(f);
    for (int vector : {0x30 + 69, 0x30 + 32, 0x31}) {
        CHECK(b.acknowledge() == vector);
        b.eoi();
    }
    CHECK(b.acknowledge() == -1);
    CHECK(b.in(b.table(f) + 0x1000) == 0x80000000);
    b.out(b.table(f) + 0x1000, 0);  // read-only
    CHECK(b.in(b.table(f) + 0x1000) == 0x80000000);
    CHECK(b.recorded(f, msix(66)).raised == 1);
    b.bus.reset();
    CHECK(f.bdf() == Bdf(0, 2, 0));
    CHECK(!f.msixEnabled());
}

TEST_CASE("MSI-X: accesses of qwords, parts of dwords, anything") {
    RelayBench b;
    IrqTest& f = b.add(2, {.vectors = 2048, .memory = 4096});
    const PhysAddr entry(b.table(f) + 2047 * 16);
    b.memory.access(entry, 8, 0x00000001fee00004);
    b.memory.access(PhysAddr(entry.value + 8), 8, 0xffffffff00000055);
    CHECK(b.memory.access(entry, 8) == 0x00000001fee00004);
    CHECK(b.memory.access(PhysAddr(entry.value + 8), 8) == 0x0000000100000055);  // of control, the mask alone
    CHECK(b.memory.access(PhysAddr(entry.value + 2), 2) == 0xfee0);
    b.memory.access(entry, 2, 0), b.memory.access(entry, 1, 0);
    CHECK(b.memory.access(entry, 4) == 0xfee00004);
    Random r(1);
    b.enableMsix(f);
    for (unsigned n = 0; n < 20'000; n++) {
        const unsigned size = 1u << below(r, 4);
        const PhysAddr at(b.table(f) + (below(r, 1 << 16) & ~uint64_t(size - 1)));
        b.memory.access(at, size, (oneIn(r, 4) ? ~0ull : r()) & openBus(size));
        CHECK(b.memory.access(at, size) <= openBus(size));
        f.raise(uint32_t(below(r, 2100)));
    }
}

TEST_CASE("kiln-irqtest: counts, and a generator on guest time") {
    using namespace irqtest;
    RelayBench b;
    IrqTest& f = b.add(2);
    const uint64_t bar = b.bar(f);
    CHECK(b.in(bar) == 0x4b495401);
    CHECK(b.in(bar + 4) == (64 | 32 << 16));
    b.out(bar + kRaise, 5), b.out(bar + kRaise, 5), b.out(bar + kRaise, 6), b.out(bar + kRaise, 32);
    CHECK(b.in(bar + kRaised) == 3);
    CHECK(b.in(bar + kRises) == 1);
    CHECK(b.in(bar + kPending) == 3);
    b.out(bar + 0x28, 5);
    CHECK((b.in(bar + 0x2c) == 2 && b.in(bar + 0x30) == 2));
    b.out(bar + kAcknowledge, 5);
    CHECK(b.ioApic.pin(18).level());
    b.out(bar + kAcknowledge, 6);
    CHECK(!b.ioApic.pin(18).level());
    CHECK((b.in(bar + kTake) == 3 && b.in(bar + kTake) == 0));

    b.useMsi(f, 0x40, 5);
    b.out(bar + kRate, 1000), b.out(bar + kBurst, 50), b.out(bar + kFirst, 2), b.out(bar + kNumber, 3);
    b.out(bar + kControl, 1);
    auto pass = [&](Nanos t) { b.time.advance(t), b.clock.runDue(); };
    pass(kSecond / 1000 - 1);
    CHECK(b.in(bar + kRaised) == 3);
    pass(1);
    CHECK(b.in(bar + kRaised) == 4);
    CHECK(b.acknowledge() == 0x42);
    b.eoi();
    pass(kSecond / 100);  // late: it makes up for what is due
    CHECK(b.in(bar + kRaised) == 14);
    b.out(bar + kRate, 5);  // not while it runs
    CHECK(b.in(bar + kRate) == 1000);
    pass(kSecond);
    CHECK(b.in(bar + kRaised) == 53);
    CHECK((b.in(bar + kLeft) == 0 && b.in(bar + kControl) == 0));
    CHECK(b.clock.nextDeadline() == kNever);

    b.out(bar + kNumber, 1), b.out(bar + kAcknowledge, 2), b.out(bar + kControl, 5);  // paced
    pass(kSecond / 100);
    CHECK(b.in(bar + kRaised) == 54);
    CHECK(b.in(bar + kHeld) == 9);
    b.out(bar + kAcknowledge, 2);
    pass(kSecond / 1000);
    CHECK(b.in(bar + kRaised) == 55);
    f.reset();
    CHECK(b.clock.nextDeadline() == kNever);
}
