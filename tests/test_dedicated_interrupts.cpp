#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/processor_gang.hpp"
#include "tests/random.hpp"
#include "tests/relay_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr int kShared = InterruptRelay::kShared;
constexpr InterruptId kInta{InterruptId::Intx, 0}, kMsi0{InterruptId::Msi, 0}, kMsix5{InterruptId::Msix, 5};

bool inTmr(LocalApic& apic, uint8_t vector) {
    return apic.ioRead(0x180 + (vector / 32) * 16, 4) >> vector % 32 & 1;
}

}  // namespace

TEST_CASE("dedicated: messages go to the processor that was chosen, and nobody counts them") {
    RelayBench b(3);
    IrqTest& f = b.add(2);
    b.useMsi(f, 0x40, 0, 1);
    f.raise(0);
    CHECK(b.acknowledge(1) == 0x40);
    b.eoi(1);
    f.relay()->setInterrupts(2);
    for (unsigned n = 0; n < 10; n++) {
        f.raise(0);
        CHECK(b.apics[2]->posted());
        CHECK(b.acknowledge(1) == -1);
        CHECK(b.acknowledge(2) == 0x40);
        CHECK(!inTmr(*b.apics[2], 0x40));
        b.eoi(2);
        CHECK(b.acknowledge(2) == -1);
    }
    CHECK((b.recorded(f, kMsi0).raised == 1 && b.recorded(f, kMsi0).indicator == 1));
    b.useMsix(f, 5, 0x77, 0);
    b.enableMsix(f);
    f.raise(5);
    CHECK(b.acknowledge(2) == 0x77);
    b.eoi(2);
    CHECK(b.recorded(f, kMsix5).raised == 0);
    f.relay()->setInterrupts(kShared);
    f.raise(5);
    CHECK(b.acknowledge(0) == 0x77);
    CHECK(b.recorded(f, kMsix5).raised == 1);
    const uint64_t view = b.bar(b.view);
    b.out(view + relayview::kFunction, 2 << 3);
    CHECK(b.in(view + relayview::kStatus) == 1);
    f.relay()->setInterrupts(2);
    CHECK(b.in(view + relayview::kStatus) == (3 | 2 << 8));
}

TEST_CASE("dedicated: posted vectors beside those in IRR") {
    RelayBench b;
    LocalApic& a = *b.apics[0];
    a.accept({.vector = 0x80});
    a.postVector(0x90), a.postVector(0x30), a.postVector(0x31);
    CHECK((a.posted() && a.attention()));
    CHECK(a.ioRead(0x240, 4) == 0x10001);  // IRR shows what was posted
    CHECK(!a.posted());
    CHECK(b.acknowledge() == 0x90);
    a.postVector(0xa5);
    CHECK(b.acknowledge() == 0xa5);
    for (unsigned n = 0; n < 2; n++) b.eoi();
    for (int vector : {0x80, 0x31, 0x30}) {
        CHECK(b.acknowledge() == vector);
        b.eoi();
    }
    a.setCr8(5);
    a.postVector(0x5f);
    CHECK(b.acknowledge() == -1);  // below the task priority: it waits
    CHECK(!a.posted());
    a.setCr8(4);
    CHECK(b.acknowledge() == 0x5f);
    b.eoi();
    a.postVector(0x0f);  // an illegal vector
    CHECK(b.acknowledge() == -1);
    a.ioWrite(0x280, 4, 0);
    CHECK(a.ioRead(0x280, 4) == 0x40);
    a.ioWrite(0xf0, 4, 0xff);  // disabled by software: refused like any
    a.postVector(0x60);
    CHECK(b.acknowledge() == -1);
    a.ioWrite(0xf0, 4, 0x1ff);
    CHECK(b.acknowledge() == -1);
    a.postVector(0x60);
    a.reset();
    CHECK(!a.posted());
}

TEST_CASE("dedicated: a level stays a level") {
    RelayBench b(2);
    IrqTest &f = b.add(2), &g = b.add(10);
    b.route(f, 0x50, 0);
    f.relay()->setInterrupts(1);
    f.raise(0);
    CHECK(b.acknowledge(0) == -1);
    CHECK(b.acknowledge(1) == 0x50);
    CHECK(inTmr(*b.apics[1], 0x50));
    CHECK((b.ioApic.entry(18) & 0x4000) == 0x4000);  // remote IRR
    b.eoi(1);
    CHECK(b.acknowledge(1) == 0x50);  // it is still up
    f.acknowledge(0);
    b.eoi(1);
    CHECK(b.acknowledge(1) == -1);
    CHECK((b.ioApic.entry(18) & 0x4000) == 0);
    CHECK(b.recorded(f, kInta).raised == 0);
    // With one that is shared, it goes where the guest wants it.
    g.raise(0);
    CHECK(b.acknowledge(0) == 0x50);
    f.raise(0), g.acknowledge(0);
    b.eoi(0);
    CHECK(b.acknowledge(0) == -1);
    CHECK(b.acknowledge(1) == 0x50);
    f.acknowledge(0);
    b.eoi(1);
    CHECK(b.recorded(f, kInta).raised == 0);
    CHECK(b.recorded(g, kInta).raised == 1);
    // Two masters: the guest's destination.
    g.relay()->setInterrupts(0);
    b.route(f, 0x50, 1, true);
    f.raise(0), g.raise(0);
    b.route(f, 0x50, 0);
    CHECK(b.acknowledge(0) == 0x50);
    f.acknowledge(0), g.acknowledge(0);
    b.eoi(0);
}

TEST_CASE("dedicated: flipped while the line is up or the vector pending") {
    RelayBench b(2);
    IrqTest& f = b.add(2);
    b.route(f, 0x50, 0);
    for (unsigned n = 0; n < 4; n++) {
        const bool dedicated = n & 1;
        f.relay()->setInterrupts(dedicated ? 1 : kShared);
        f.raise(0);
        f.relay()->setInterrupts(dedicated ? kShared : 1);
        CHECK(b.acknowledge(dedicated) == 0x50);  // what was under way arrives
        b.eoi(dedicated);
        CHECK(b.acknowledge(!dedicated) == 0x50);  // and then comes the new way
        f.acknowledge(0);
        b.eoi(!dedicated);
        CHECK((b.acknowledge(0) == -1 && b.acknowledge(1) == -1));
    }
    CHECK(b.recorded(f, kInta).raised == 2);
    CHECK(b.recorded(f, kInta).latency[InterruptRelay::RaisedToIrr].total() == 2);
}

TEST_CASE("dedicated: flips under 100,000 interrupts a second of guest time") {
    using namespace irqtest;
    constexpr uint32_t kTimes = 300'000, kRunAtRandom = 3;
    constexpr uint8_t kVector = 0x40;
    for (bool messages : {true, false}) {
        CAPTURE(messages);
        RelayBench b(2);
        Random random(7);
        IrqTest& f = b.add(2);
        const uint64_t bar = b.bar(f);
        if (messages)
            b.useMsi(f, kVector, 5);
        else
            b.route(f, kVector);
        b.out(bar + kRate, 100'000), b.out(bar + kBurst, kTimes), b.out(bar + kNumber, 32);
        b.out(bar + kControl, kRunAtRandom);
        uint64_t handled = 0, strange = 0, flips = 0;
        auto handle = [&](uint32_t identifier) {
            b.out(bar + kSelect, identifier);
            handled += b.in(bar + kSelectedPending);
            b.out(bar + kAcknowledge, identifier);
        };
        auto serve = [&](unsigned apic) {
            const int vector = b.acknowledge(apic);
            if (vector < 0) return false;
            if (vector < kVector || vector >= kVector + 32) strange++;
            if (messages)
                handle(uint32_t(vector - kVector));
            else
                for (uint32_t n = 0; n < 32; n++) handle(n);
            b.eoi(apic);
            return true;
        };
        while (b.in(bar + kControl) & 1) {
            b.time.advance(below(random, 20'000));
            b.clock.runDue();
            if (oneIn(random, 5)) f.relay()->setInterrupts(int(below(random, 3)) - 1), flips++;
            if (oneIn(random, 2)) serve(unsigned(below(random, 2)));
        }
        while (serve(0) || serve(1)) {}
        CHECK(b.time.now() < 3 * kSecond + kSecond / 100);
        CHECK(flips > 10'000);
        CHECK(strange == 0);
        CHECK(handled == kTimes);
        CHECK(b.in(bar + kPending) == 0);
        uint64_t counted = 0;
        for (const auto& i : b.relay.identifiers()) counted += i.raised;
        CHECK((counted > 1000 && counted < kTimes));
    }
}

TEST_CASE("dedicated: a saved machine keeps it") {
    struct Copy : StateVisitor {
        void bytes(std::string_view, void* data, size_t size) override {
            auto* p = static_cast<uint8_t*>(data);
            if (!loading)
                saved.insert(saved.end(), p, p + size);
            else
                std::copy_n(&saved[at], size, p), at += size;
        }
        std::vector<uint8_t> saved;
        size_t at = 0;
        bool loading = false;
    } copy;
    auto visit = [&](RelayBench& b) {
        b.relay.state(copy);
        for (auto& a : b.apics) a->state(copy);
        for (auto& t : b.tests) t->state(copy);
    };
    RelayBench first(2), second(2);
    IrqTest &f = first.add(2), &g = second.add(2);
    IrqTest &line = first.add(3), &sameLine = second.add(3);
    line.raise(0);
    first.useMsi(f, 0x40, 2, 0);
    f.raise(3);
    f.relay()->setInterrupts(1);
    f.raise(2);
    visit(first);
    copy.loading = true;
    visit(second);
    CHECK(copy.at == copy.saved.size());
    CHECK(g.relay()->interrupts() == 1);
    CHECK(second.ioApic.pin(19).level());
    CHECK(second.recorded(sameLine, kInta).raised == 1);  // once: loading raises nothing
    CHECK(second.acknowledge(1) == 0x42);
    CHECK(second.acknowledge(0) == 0x43);
    second.eoi(0);
    CHECK(second.recorded(g, {InterruptId::Msi, 3}).latency[InterruptRelay::HandlerToEoi].total() == 1);
}

TEST_CASE("dedicated: posted by many threads at a time, without a lock") {
    FakeTime time;
    Clock clock{time};
    ApicBus bus;
    LocalApic apic(clock, bus, 0, true, [] { return uint64_t(0); });
    apic.ioWrite(0xf0, 4, 0x1ff);
    constexpr unsigned kThreads = 4, kTimes = 2000;
    std::array<std::atomic<unsigned>, kThreads> served{};
    std::vector<std::thread> posters;
    for (unsigned n = 0; n < kThreads; n++)
        posters.emplace_back([&, n] {
            for (unsigned i = 0; i < kTimes; i++) {
                apic.postVector(uint8_t(0x40 + n * 0x30));
                while (served[n].load(std::memory_order_acquire) == i) std::this_thread::yield();
            }
        });
    unsigned total = 0, strange = 0;
    while (total < kThreads * kTimes) {
        if (!apic.attention()) {
            std::this_thread::yield();
            continue;
        }
        apic.mergePosted();
        while (apic.interruptPending()) {
            const int vector = apic.acknowledge();
            const unsigned n = unsigned(vector - 0x40) / 0x30;
            apic.ioWrite(0xb0, 4, 0);
            n < kThreads ? void(served[n].fetch_add(1, std::memory_order_release)) : void(strange++);
            total++;
        }
    }
    for (auto& p : posters) p.join();
    CHECK(strange == 0);
    for (auto& s : served) CHECK(s == kTimes);
}

namespace {

struct HostTime : TimeSource {
    Nanos now() override { return Nanos((std::chrono::steady_clock::now() - start).count()); }
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

constexpr uint64_t kBar = 0x180000, kEnd = kData + 0x800;
constexpr unsigned kIdentifiers = 32, kHandlerSize = 64;
constexpr uint8_t kFirstVector = 0x40, kLastWord = 0xe0;

// Two processors on threads of their own whose handlers count and acknowledge, one for each vector; one of
// the processors halts in between. An identifier is not raised again before it has been acknowledged, so that
// one that is lost was its last, and one that is doubled is one too many.
struct Flipping {
    Gang gang{2, true};
    HostTime time;
    Clock clock{time};
    IoApic ioApic{gang.bus};
    InterruptRelay relay{clock, gang.bus, gang.log};
    PciBus bus{gang.memory, gang.ports};
    IrqTest test{clock, {.memory = 4096}, ExpressType::IntegratedEndpoint};
    static constexpr Bdf kHere{0, 2, 0};

    Flipping() {
        gang.memory.mapIo(PhysAddr(ApicBus::kWindowBase), ApicBus::kWindowSize, gang.bus);
        bus.relay = &relay;
        bus.intxInput = [this](unsigned, unsigned) { return &ioApic.pin(18); };
        relay.wireLeadsTo = [](unsigned, unsigned pin) { return pin == 18; };
        bus.add(kHere, test);
        bus.configWrite(kHere, 0x10, 4, kBar);
        bus.configWrite(kHere, 4, 2, 6);
        for (unsigned n = 0; n < kIdentifiers; n++) writeHandler(kFirstVector + n, n, true);
        writeHandler(kLastWord, kIdentifiers, false);
        for (unsigned n = 0; n < 2; n++) writeProgram(n, kCode + n * 0x100);
    }
    void writeHandler(unsigned vector, unsigned n, bool acknowledges) {
        Code c;
        c({0xf0, 0x48, 0xff}).at(0, kData + n * 8);  // lock inc qword
        if (acknowledges) c({0xc7}).at(0, kBar + irqtest::kAcknowledge).u32(n);
        c({0x67, 0xc7}).at(0, 0xfee000b0).u32(0)({0x48, 0xcf});  // EOI; iretq
        const uint64_t at = kHandler + n * kHandlerSize;
        gang.load(at, c);
        gang.put<uint16_t>(kIdt + vector * 16, uint16_t(at));
        gang.put<uint16_t>(kIdt + vector * 16 + 6, uint16_t(at >> 16));
    }
    void writeProgram(unsigned n, uint64_t at) {
        Code c;
        c({0xfb});  // sti
        const size_t loop = c.here();
        if (n) c({0xf4});
        c({0xf3, 0x90, 0x83}).at(7, kEnd)({0}).jump(0x74, loop)({0xfa, 0xf4});  // pause; cmp; jz; cli; hlt
        gang.load(at, c);
        gang.program(n, at);
    }
    uint32_t reg(unsigned offset) {
        DeviceGuard guard(gang.memory.threads);
        return uint32_t(test.ioRead(offset, 4));
    }
    void generate(uint32_t burst, uint32_t identifiers) {
        constexpr uint32_t kRunPaced = 5;
        for (auto [offset, value] : {std::pair<unsigned, uint32_t>(irqtest::kRate, 100'000),
                                     {irqtest::kBurst, burst},
                                     {irqtest::kNumber, identifiers},
                                     {irqtest::kControl, kRunPaced}})
            test.ioWrite(offset, 4, value);
        const Nanos limit = time.now() + 120 * kSecond;
        while (((reg(irqtest::kControl) & 1) || reg(irqtest::kPending)) && time.now() < limit) {
            {
                DeviceGuard guard(gang.memory.threads);
                clock.runDue();
            }
            std::this_thread::yield();
        }
        gang.put<uint32_t>(kEnd, 1);
        gang.all[1].apic->postVector(kLastWord);  // for the one that halts
    }
    void run(uint32_t burst, uint32_t identifiers) {
        std::atomic<bool> over{false};
        std::thread generator([&] { generate(burst, identifiers), over = true; });
        std::thread flipper([&] {
            for (unsigned n = 0; !over; n++) {
                test.relay()->setInterrupts(int(n % 3) - 1);
                std::this_thread::sleep_for(std::chrono::microseconds(50));
            }
        });
        gang.run();
        generator.join();
        flipper.join();
        CHECK(test.ioRead(irqtest::kLeft, 4) == 0);
        CHECK(test.ioRead(irqtest::kRaised, 4) == burst);
        for (unsigned n = 0; n < identifiers; n++) {
            test.ioWrite(irqtest::kSelect, 4, n);
            CHECK(gang.get<uint64_t>(kData + n * 8) == test.ioRead(irqtest::kSelectedRaised, 4));
        }
        uint64_t counted = 0;
        for (const auto& i : relay.identifiers()) counted += i.raised;
        CHECK(counted > 0);
        CHECK(counted < burst);
    }
};

}  // namespace

TEST_CASE("dedicated: messages are neither lost nor doubled by flips while they come") {
    Flipping f;
    f.bus.configWrite(f.kHere, 0x54, 4, 0xfee00000);
    f.bus.configWrite(f.kHere, 0x5c, 2, kFirstVector);
    f.bus.configWrite(f.kHere, 0x52, 2, 0x51);  // 32 messages
    f.run(40'000, kIdentifiers);
}

TEST_CASE("dedicated: levels are neither lost nor doubled by flips while they come") {
    Flipping f;
    f.ioApic.ioWrite(0, 4, 0x10 + 18 * 2);
    f.ioApic.ioWrite(0x10, 4, 0x8000 | kFirstVector);
    f.run(1000, 1);
}
