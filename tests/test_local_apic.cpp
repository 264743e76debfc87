#include <doctest/doctest.h>

#include "apic/local_apic.hpp"

using namespace kiln;

namespace {

struct Fixture {
    FakeTime time;
    Clock clock{time};
    ApicBus bus;
    uint64_t tscOffset = 0;
    LocalApic cpu0{clock, bus, 0, true, [this] { return clock.now() * 2 + tscOffset; }, 2'000'000'000};
    LocalApic cpu1{clock, bus, 1, false, [this] { return clock.now() * 2; }, 2'000'000'000};
    int attention = 0;

    Fixture() {
        cpu0.onAttention = [this] { attention++; };
        write(cpu0, 0xF0, 0x1FF);
        write(cpu1, 0xF0, 0x1FF);
    }
    static uint32_t read(LocalApic& a, uint64_t offset) { return uint32_t(a.ioRead(offset, 4)); }
    static void write(LocalApic& a, uint64_t offset, uint32_t value) { a.ioWrite(offset, 4, value); }
    void advance(Nanos by) { time.advance(by), clock.runDue(); }
    void fixed(uint8_t vector, uint8_t destination = 0, bool level = false) {
        bus.deliver({.destination = destination, .vector = vector, .level = level});
    }
    static uint64_t msr(LocalApic& a, uint32_t index) {
        uint64_t value = 0;
        CHECK(a.readMsr(index, value));
        return value;
    }
    void enterX2apic(LocalApic& a) { REQUIRE(a.setApicBase(a.apicBase() | 0xC00)); }
};

}  // namespace

TEST_CASE("local APIC: the state after reset") {
    Fixture f;
    f.cpu1.reset();
    CHECK(f.read(f.cpu1, 0x20) == 0x01000000);
    CHECK((f.read(f.cpu1, 0x30) & 0xFF) == 0x15);
    CHECK(f.read(f.cpu1, 0xF0) == 0xFF);
    CHECK(f.read(f.cpu1, 0xE0) == 0xFFFFFFFF);
    CHECK(f.read(f.cpu1, 0x350) == 0x10000);
    CHECK(f.cpu0.apicBase() == 0xFEE00900);
    CHECK(f.cpu1.apicBase() == 0xFEE00800);
    f.fixed(0x40, 1);  // software-disabled: refused
    CHECK_FALSE(f.cpu1.interruptPending());
    f.write(f.cpu1, 0x320, 0x40);  // and the mask bits stay
    CHECK(f.read(f.cpu1, 0x320) == 0x10040);
}

TEST_CASE("local APIC: IRR, ISR, PPR and EOI") {
    Fixture f;
    f.fixed(0x51);
    CHECK(f.attention == 1);
    CHECK(f.cpu0.interruptPending());
    CHECK(f.read(f.cpu0, 0x220) == 1u << 17);
    CHECK(f.cpu0.acknowledge() == 0x51);
    CHECK(f.read(f.cpu0, 0x220) == 0);
    CHECK(f.read(f.cpu0, 0x120) == 1u << 17);
    CHECK(f.read(f.cpu0, 0xA0) == 0x50);
    f.fixed(0x5F);  // same class: waits
    CHECK_FALSE(f.cpu0.interruptPending());
    f.fixed(0x60);
    CHECK(f.cpu0.acknowledge() == 0x60);
    f.write(f.cpu0, 0xB0, 0);
    CHECK_FALSE(f.cpu0.interruptPending());
    f.write(f.cpu0, 0xB0, 0);
    CHECK(f.cpu0.acknowledge() == 0x5F);
    CHECK(f.cpu0.acknowledge() == 0xFF);  // nothing left: the spurious vector
}

TEST_CASE("local APIC: TPR and CR8 hold interrupts back") {
    Fixture f;
    f.cpu0.setCr8(5);
    CHECK(f.read(f.cpu0, 0x80) == 0x50);
    f.fixed(0x5A);
    CHECK_FALSE(f.cpu0.interruptPending());
    f.attention = 0;
    f.write(f.cpu0, 0x80, 0x4F);
    CHECK(f.cpu0.interruptPending());
    CHECK(f.attention == 1);
    CHECK(f.cpu0.cr8() == 4);
}

TEST_CASE("local APIC: interprocessor interrupts") {
    Fixture f;
    f.write(f.cpu0, 0x310, 1u << 24);
    f.write(f.cpu0, 0x300, 0x4000 | 0x45);
    CHECK(f.cpu1.acknowledge() == 0x45);
    CHECK_FALSE(f.cpu0.interruptPending());
    f.write(f.cpu0, 0x300, 0x40000 | 0x46);  // self
    CHECK(f.cpu0.acknowledge() == 0x46);
    f.write(f.cpu0, 0x300, 0x80000 | 0x57);  // all
    CHECK(f.cpu0.acknowledge() == 0x57);
    CHECK(f.cpu1.acknowledge() == 0x57);
    f.write(f.cpu0, 0x300, 0xC0000 | 0x68);  // all others
    CHECK_FALSE(f.cpu0.interruptPending());
    CHECK(f.cpu1.acknowledge() == 0x68);
    f.write(f.cpu0, 0x300, 0xC0000 | 0x400);
    CHECK(f.cpu1.takeNmi());
    CHECK_FALSE(f.cpu1.takeNmi());
}

TEST_CASE("local APIC: INIT and SIPI start a CPU") {
    Fixture f;
    f.write(f.cpu1, 0x80, 0x20);
    f.write(f.cpu0, 0x310, 1u << 24);
    f.write(f.cpu0, 0x300, 0x4500);
    CHECK(f.cpu1.attention());
    CHECK(f.read(f.cpu1, 0x80) == 0);
    CHECK(f.read(f.cpu1, 0xF0) == 0xFF);
    f.write(f.cpu0, 0x300, 0x8500);  // de-assert: nothing
    f.write(f.cpu0, 0x300, 0x4609);
    CHECK(f.cpu1.takeInit());
    CHECK_FALSE(f.cpu1.takeInit());
    uint8_t vector = 0;
    CHECK(f.cpu1.takeSipi(vector));
    CHECK(vector == 9);
    CHECK_FALSE(f.cpu1.takeSipi(vector));
}

TEST_CASE("local APIC: logical destinations, flat and cluster") {
    Fixture f;
    f.write(f.cpu0, 0xD0, 0x01000000), f.write(f.cpu1, 0xD0, 0x02000000);
    f.bus.deliver({.destination = 2, .logical = true, .vector = 0x41});
    CHECK_FALSE(f.cpu0.interruptPending());
    CHECK(f.cpu1.acknowledge() == 0x41);
    f.bus.deliver({.destination = 3, .logical = true, .vector = 0x51});
    CHECK(f.cpu0.acknowledge() == 0x51);
    CHECK(f.cpu1.acknowledge() == 0x51);
    f.write(f.cpu0, 0xE0, 0x0FFFFFFF), f.write(f.cpu1, 0xE0, 0x0FFFFFFF);
    f.write(f.cpu0, 0xD0, 0x11000000), f.write(f.cpu1, 0xD0, 0x21000000);
    f.bus.deliver({.destination = 0x21, .logical = true, .vector = 0x62});
    CHECK_FALSE(f.cpu0.interruptPending());
    CHECK(f.cpu1.acknowledge() == 0x62);
    f.bus.deliver({.destination = 0xF1, .logical = true, .vector = 0x73});  // every cluster
    CHECK(f.cpu0.acknowledge() == 0x73);
    CHECK(f.cpu1.acknowledge() == 0x73);
}

TEST_CASE("local APIC: lowest priority takes one CPU, the less busy one, and goes round on ties") {
    Fixture f;
    ApicMessage m{.destination = 0xFF, .mode = DeliveryMode::LowestPriority, .vector = 0x41};
    f.write(f.cpu0, 0x80, 0x30);
    f.bus.deliver(m);
    CHECK_FALSE(f.read(f.cpu0, 0x220));
    CHECK(f.cpu1.acknowledge() == 0x41);
    f.write(f.cpu1, 0xB0, 0), f.write(f.cpu0, 0x80, 0);
    f.bus.deliver(m);
    CHECK(f.cpu0.acknowledge() == 0x41);
}

TEST_CASE("local APIC: MSI") {
    Fixture f;
    CHECK(f.bus.deliverMsi({0xFEE01000, 0x4041}));
    CHECK(f.cpu1.acknowledge() == 0x41);
    ApicMessage m = ApicBus::decode({0xFEE0300C, 0xC1A5});
    CHECK(m.destination == 3);
    CHECK(m.logical);
    CHECK(m.level);
    CHECK(m.mode == DeliveryMode::LowestPriority);
    CHECK(m.vector == 0xA5);
    CHECK_FALSE(f.bus.deliverMsi({0xFEE07000, 0x41}));
}

TEST_CASE("local APIC: the window takes MSI writes, and reads as nothing") {
    Fixture f;
    CHECK(f.bus.ioRead(0x1020, 4) == 0xFFFFFFFF);
    f.bus.ioWrite(0x1000, 4, 0x77);
    CHECK(f.cpu1.acknowledge() == 0x77);
    CHECK(f.cpu1.ownsPage(PhysAddr(0xFEE00000)));
    CHECK_FALSE(f.cpu1.ownsPage(PhysAddr(0xFEE01000)));
    f.enterX2apic(f.cpu1);
    CHECK_FALSE(f.cpu1.ownsPage(PhysAddr(0xFEE00000)));
}

TEST_CASE("local APIC: one-shot and periodic timer") {
    Fixture f;
    f.write(f.cpu0, 0x3E0, 0x3);  // by 16
    f.write(f.cpu0, 0x320, 0x40);
    f.write(f.cpu0, 0x380, 1000);
    f.advance(8000);
    CHECK(f.read(f.cpu0, 0x390) == 500);
    CHECK_FALSE(f.cpu0.interruptPending());
    f.advance(8000);
    CHECK(f.cpu0.acknowledge() == 0x40);
    f.write(f.cpu0, 0xB0, 0);
    CHECK(f.read(f.cpu0, 0x390) == 0);
    f.advance(160000);
    CHECK_FALSE(f.cpu0.interruptPending());

    f.write(f.cpu0, 0x320, 0x20041);
    f.write(f.cpu0, 0x380, 1000);
    for (int i = 0; i < 5; i++) {
        f.advance(15999);
        CHECK_FALSE(f.cpu0.interruptPending());
        f.advance(1);
        CHECK(f.cpu0.acknowledge() == 0x41);
        f.write(f.cpu0, 0xB0, 0);
    }
    f.write(f.cpu0, 0x320, 0x30041);  // masked: counts on
    f.advance(24000);
    CHECK(f.read(f.cpu0, 0x390) == 500);
    f.write(f.cpu0, 0x320, 0x20041);
    CHECK_FALSE(f.cpu0.interruptPending());
    f.advance(8000);
    CHECK(f.cpu0.interruptPending());
    f.write(f.cpu0, 0x380, 0);
    CHECK(f.clock.nextDeadline() == kNever);
}

TEST_CASE("local APIC: between one-shot and periodic the count goes on from where it is") {
    for (uint32_t masked : {0u, 0x10000u}) {
        CAPTURE(masked);
        Fixture f;
        f.write(f.cpu0, 0x3E0, 0xB);
        f.write(f.cpu0, 0x320, masked | 0x40);
        f.write(f.cpu0, 0x380, 1000);
        f.advance(600);
        f.write(f.cpu0, 0x320, masked | 0x20040);
        CHECK(f.read(f.cpu0, 0x390) == 400);
        f.advance(600);
        CHECK(f.read(f.cpu0, 0x390) == 800);  // once round
        f.write(f.cpu0, 0x320, masked | 0x40);
        CHECK(f.read(f.cpu0, 0x390) == 800);
        CHECK(f.cpu0.interruptPending() == !masked);
        if (!masked) f.cpu0.acknowledge(), f.write(f.cpu0, 0xB0, 0);
        f.advance(799);
        CHECK(f.read(f.cpu0, 0x390) == 1);
        CHECK_FALSE(f.cpu0.interruptPending());
        f.advance(1);
        CHECK(f.read(f.cpu0, 0x390) == 0);
        CHECK(f.cpu0.interruptPending() == !masked);
        f.write(f.cpu0, 0x320, masked | 0x20040);
        f.advance(1500);
        CHECK(f.read(f.cpu0, 0x390) == 0);
        CHECK(f.read(f.cpu0, 0x380) == 1000);
        CHECK(f.clock.nextDeadline() == kNever);
    }
}

TEST_CASE("local APIC: an expiry that is due is not lost by a write that comes before it is served") {
    Fixture f;
    f.write(f.cpu0, 0x3E0, 0xB);
    f.write(f.cpu0, 0x320, 0x40);
    f.write(f.cpu0, 0x380, 1000);
    f.time.advance(1500);
    f.write(f.cpu0, 0x380, 5000);
    CHECK(f.cpu0.acknowledge() == 0x40);
    f.write(f.cpu0, 0xB0, 0);
    f.advance(4999);
    CHECK_FALSE(f.cpu0.interruptPending());
    f.advance(1);
    CHECK(f.cpu0.interruptPending());
}

TEST_CASE("local APIC: every divider") {
    const std::pair<uint32_t, unsigned> table[] = {{0, 2},  {1, 4},  {2, 8},    {3, 16},
                                                   {8, 32}, {9, 64}, {10, 128}, {11, 1}};
    for (auto [code, divide] : table) {
        Fixture f;
        f.write(f.cpu0, 0x3E0, code);
        f.write(f.cpu0, 0x380, 1000);
        f.advance(128 * 5);
        CHECK(f.read(f.cpu0, 0x390) == 1000 - 128 * 5 / divide);
    }
}

TEST_CASE("local APIC: a count that ends before anybody looks at the clock again") {
    struct : TimeSource {
        Nanos now() override { return time += 10; }
        Nanos time = 0;
    } source;
    Clock clock(source);
    ApicBus bus;
    LocalApic apic(clock, bus, 0, true, [&] { return clock.now(); });
    Fixture::write(apic, 0xF0, 0x1FF);
    Fixture::write(apic, 0x3E0, 0xB);
    Fixture::write(apic, 0x320, 0x40);
    for (int n = 0; n < 3; n++) {
        Fixture::write(apic, 0x380, 1);
        clock.runDue();
        CHECK(apic.acknowledge() == 0x40);
        Fixture::write(apic, 0xB0, 0);
        clock.runDue();
        CHECK_FALSE(apic.interruptPending());
    }
}

TEST_CASE("local APIC: an absurdly fast periodic timer does not stop the emulator") {
    Fixture f;
    f.write(f.cpu0, 0x3E0, 0xB);
    f.write(f.cpu0, 0x320, 0x20041);
    f.write(f.cpu0, 0x380, 1);
    f.advance(kSecond);
    CHECK(f.cpu0.interruptPending());
    CHECK(f.clock.nextDeadline() > f.clock.now() + 1000);
}

TEST_CASE("local APIC: TSC deadline") {
    Fixture f;
    f.cpu0.setTscDeadline(5000);  // not in this mode: ignored
    CHECK(f.cpu0.tscDeadline() == 0);
    f.write(f.cpu0, 0x320, 0x40042);
    f.cpu0.setTscDeadline(20000);  // 10 us at 2 GHz
    CHECK(f.cpu0.tscDeadline() == 20000);
    f.advance(9999);
    CHECK_FALSE(f.cpu0.interruptPending());
    f.advance(1);
    CHECK(f.cpu0.acknowledge() == 0x42);
    CHECK(f.cpu0.tscDeadline() == 0);
    f.write(f.cpu0, 0xB0, 0);
    f.cpu0.setTscDeadline(7);  // in the past: at once
    CHECK(f.cpu0.acknowledge() == 0x42);
    f.write(f.cpu0, 0xB0, 0);
    f.cpu0.setTscDeadline(~0ull);
    CHECK_FALSE(f.cpu0.interruptPending());
    f.cpu0.setTscDeadline(100000);
    f.tscOffset = 200000;
    f.cpu0.tscChanged();
    CHECK(f.cpu0.interruptPending());
}

TEST_CASE("local APIC: LINT0 passes the 8259 pair through, LINT1 is NMI") {
    Fixture f;
    f.bus.onIntAck = [] { return uint8_t(0x08); };
    f.bus.setIntr(true);
    CHECK(f.cpu0.extIntPending());  // virtual wire after reset
    CHECK_FALSE(f.cpu1.extIntPending());
    CHECK(f.cpu0.acknowledgeIntr() == 0x08);
    f.write(f.cpu0, 0x350, 0x10700);
    CHECK_FALSE(f.cpu0.extIntPending());
    f.write(f.cpu0, 0x350, 0x700);
    CHECK(f.cpu0.extIntPending());
    f.bus.setIntr(false);
    CHECK_FALSE(f.cpu0.extIntPending());
    f.write(f.cpu0, 0x350, 0x55);  // fixed: the timer check of Linux
    f.bus.setIntr(true);
    CHECK(f.cpu0.acknowledge() == 0x55);
    f.write(f.cpu0, 0x360, 0x400);
    f.cpu0.lint1().raise();
    CHECK(f.cpu0.takeNmi());
    f.bus.setIntr(false);
    CHECK(f.cpu0.setApicBase(0xFEE00000));  // disabled: straight through
    f.bus.setIntr(true);
    CHECK(f.cpu0.extIntPending());
}

TEST_CASE("local APIC: errors are latched by writing ESR") {
    Fixture f;
    f.write(f.cpu0, 0x370, 0xFE);
    f.write(f.cpu0, 0x300, 0x40005);  // vector 5 to self
    CHECK(f.read(f.cpu0, 0x280) == 0);
    f.write(f.cpu0, 0x280, 0);
    CHECK(f.read(f.cpu0, 0x280) == 0x20);
    CHECK(f.cpu0.acknowledge() == 0xFE);
    f.fixed(3);
    f.read(f.cpu0, 0x3F0);
    f.write(f.cpu0, 0x280, 0);
    CHECK(f.read(f.cpu0, 0x280) == 0xC0);
    f.write(f.cpu0, 0x280, 0);
    CHECK(f.read(f.cpu0, 0x280) == 0);
    f.write(f.cpu0, 0x370, 0x02);  // an error entry that is itself in error
    f.fixed(3);
}

TEST_CASE("x2APIC: transitions of the base MSR") {
    Fixture f;
    CHECK_FALSE(f.cpu0.setApicBase(0xFEE00500));  // x2APIC without enable
    CHECK_FALSE(f.cpu0.setApicBase(0xFEE00801));
    uint64_t value = 0;
    CHECK_FALSE(f.cpu0.readMsr(0x802, value));
    CHECK(f.cpu0.setApicBase(0xFEE00D00));
    CHECK_FALSE(f.cpu0.setApicBase(0xFEE00900));  // back to xAPIC: only through disabled
    CHECK(f.cpu0.setApicBase(0xFEE00100));
    CHECK_FALSE(f.cpu0.setApicBase(0xFEE00D00));  // disabled to x2APIC
    CHECK(f.cpu0.setApicBase(0xFEE00900));
    CHECK(f.read(f.cpu0, 0xF0) == 0xFF);
}

TEST_CASE("x2APIC: registers, reserved bits and IPIs") {
    Fixture f;
    f.enterX2apic(f.cpu0), f.enterX2apic(f.cpu1);
    CHECK(f.msr(f.cpu1, 0x802) == 1);
    CHECK(f.msr(f.cpu1, 0x80D) == 2);
    CHECK(f.msr(f.cpu0, 0x80F) == 0x1FF);
    uint64_t value;
    for (uint32_t absent : {0x809u, 0x80Eu, 0x831u, 0x80Bu, 0x83Fu, 0x800u, 0x8FFu}) {
        CAPTURE(absent);
        CHECK_FALSE(f.cpu0.readMsr(absent, value));
    }
    for (uint32_t readOnly : {0x802u, 0x803u, 0x80Du, 0x810u, 0x839u, 0x831u}) {
        CAPTURE(readOnly);
        CHECK_FALSE(f.cpu0.writeMsr(readOnly, 0));
    }
    CHECK_FALSE(f.cpu0.writeMsr(0x80B, 1));
    CHECK_FALSE(f.cpu0.writeMsr(0x808, 0x100));
    CHECK_FALSE(f.cpu0.writeMsr(0x830, 1ull << 20));
    CHECK(f.cpu0.writeMsr(0x830, 1ull << 32 | 0x4051));
    CHECK(f.cpu1.acknowledge() == 0x51);
    CHECK(f.cpu1.writeMsr(0x80B, 0));
    CHECK(f.cpu0.writeMsr(0x830, 2ull << 32 | 0x0852));  // logical, cluster 0, bit 1
    CHECK(f.cpu1.acknowledge() == 0x52);
    CHECK_FALSE(f.cpu0.interruptPending());
    CHECK(f.cpu0.writeMsr(0x83F, 0x99));
    CHECK(f.cpu0.acknowledge() == 0x99);
    CHECK(f.cpu0.writeMsr(0x830, 0xFFFFFFFFull << 32 | 0x40A1));
    CHECK(f.cpu0.acknowledge() == 0xA1);
    CHECK(f.cpu1.acknowledge() == 0xA1);
}

TEST_CASE("local APIC: all-ones writes everywhere leave it alive") {
    Fixture f;
    for (uint64_t offset = 0; offset < 0x1000; offset += 4)
        for (unsigned size : {1u, 2u, 4u, 8u})
            if (offset + size <= 0x1000) f.cpu0.ioWrite(offset, size, ~0ull), f.cpu0.ioRead(offset, size);
    f.advance(kSecond);
    StateHash a, b;
    f.cpu0.state(a), f.cpu0.state(b);
    CHECK(a.value() == b.value());
}
