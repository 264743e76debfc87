#include <doctest/doctest.h>

#include <algorithm>

#include "devices/vtd.hpp"
#include "tests/random.hpp"
#include "tests/relay_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using Relay = InterruptRelay;
constexpr InterruptId kInta{InterruptId::Intx, 0};
constexpr InterruptId msi(uint16_t n) { return {InterruptId::Msi, n}; }

// The bucket that all samples are in; -1: none, or several.
int bucketOf(const LatencyHistogram& h, uint64_t samples) {
    for (unsigned n = 0; n < LatencyHistogram::kBuckets; n++)
        if (h.counts[n]) return h.counts[n] == samples && h.total() == samples ? int(n) : -1;
    return -1;
}

}  // namespace

TEST_CASE("relay: a message's latencies, and what masks add to them") {
    RelayBench b;
    IrqTest& f = b.add(2);
    b.useMsi(f, 0x40, 5);
    auto& i = b.recorded(f, msi(1));
    f.raise(1);
    b.time.advance(100);
    CHECK(b.acknowledge() == 0x41);
    b.time.advance(5000);
    b.eoi();
    CHECK(i.raised == 1);
    CHECK(i.indicator == 1);
    CHECK(bucketOf(i.latency[Relay::RaisedToIrr], 1) == 0);
    CHECK(bucketOf(i.latency[Relay::IrrToHandler], 1) == 7);  // 64 to 127
    CHECK(bucketOf(i.latency[Relay::HandlerToEoi], 1) == 13);
    b.config(f, 0x60, 4, 4);
    f.raise(2);
    b.time.advance(1000);
    f.raise(2);
    b.time.advance(1000);
    b.config(f, 0x60, 0, 4);
    CHECK(bucketOf(b.recorded(f, msi(2)).latency[Relay::RaisedToIrr], 1) == 11);  // since it was first wanted
    CHECK(b.recorded(f, msi(2)).raised == 1);
    b.relay.reset();
    CHECK((i.raised == 0 && i.indicator == 0 && i.latency[0].total() == 0));
}

TEST_CASE("relay: messages that meet in one vector") {
    RelayBench b;
    IrqTest &f = b.add(2), &g = b.add(3);
    b.useMsi(f, 0x40), b.useMsi(g, 0x40);
    f.raise(0), g.raise(0), f.raise(0);
    CHECK(b.recorded(f, msi(0)).coalesced == 1);
    CHECK(b.recorded(g, msi(0)).coalesced == 0);
    CHECK(b.recorded(f, msi(0)).raised == 2);
    CHECK(b.acknowledge() == 0x40);
    f.raise(0);  // while the handler runs
    b.eoi();
    CHECK(b.recorded(f, msi(0)).latency[Relay::HandlerToEoi].total() == 1);
    CHECK(b.acknowledge() == 0x40);
    b.eoi();
    CHECK(b.acknowledge() == -1);
    CHECK(b.recorded(f, msi(0)).latency[Relay::HandlerToEoi].total() == 2);
    CHECK(b.recorded(g, msi(0)).latency[Relay::HandlerToEoi].total() == 1);
}

TEST_CASE("relay: functions on one line") {
    RelayBench b;
    IrqTest &f = b.add(2), &g = b.add(10), &h = b.add(18), &other = b.add(3);
    b.route(f, 0x50, 0, true);
    f.raise(0);
    b.time.advance(1000);
    b.route(f, 0x50);  // unmasked: sent
    g.raise(0);        // finds the vector in IRR
    CHECK(bucketOf(b.recorded(f, kInta).latency[Relay::RaisedToIrr], 1) == 10);
    CHECK(bucketOf(b.recorded(g, kInta).latency[Relay::RaisedToIrr], 1) == 0);
    CHECK(b.acknowledge() == 0x50);
    h.raise(0);      // behind the acknowledgement: it waits for the EOI
    other.raise(0);  // another line, which is masked
    b.time.advance(100);
    f.acknowledge(0);
    CHECK(b.recorded(h, kInta).latency[Relay::RaisedToIrr].total() == 0);
    b.eoi();
    CHECK(bucketOf(b.recorded(h, kInta).latency[Relay::RaisedToIrr], 1) == 7);
    CHECK(b.recorded(f, kInta).latency[Relay::HandlerToEoi].total() == 1);
    CHECK(b.acknowledge() == 0x50);
    g.acknowledge(0), h.acknowledge(0);
    b.eoi();
    CHECK(b.acknowledge() == -1);
    CHECK(b.recorded(f, kInta).latency[Relay::HandlerToEoi].total() == 1);
    CHECK(b.recorded(g, kInta).latency[Relay::HandlerToEoi].total() == 2);  // it held the line twice
    CHECK(b.recorded(h, kInta).latency[Relay::HandlerToEoi].total() == 1);
    for (IrqTest* t : {&f, &g, &h, &other}) CHECK(b.recorded(*t, kInta).raised == 1);
    CHECK(b.recorded(other, kInta).latency[Relay::RaisedToIrr].total() == 0);
}

TEST_CASE("relay: what remapping makes of a message is still its own") {
    RelayBench b;
    VtdUnit unit({}, b.memory, b.apicBus, b.log);
    RamBlock ram("ram", 1 << 20);
    b.memory.mapRam(PhysAddr(0), ram.size(), ram);
    b.apicBus.remapping = &unit;
    b.bus.upstream = &unit;
    unit.ioWrite(0xb8, 8, 0x10000);                           // interrupt remapping table, two entries
    unit.ioWrite(0x18, 4, 1 << 24);                           // take it
    unit.ioWrite(0x18, 4, 1 << 25);                           // enable
    b.memory.write<uint64_t>(PhysAddr(0x10010), 0x00660001);  // entry 1: vector 66h
    IrqTest& f = b.add(2);
    b.config(f, 0x54, 0xfee00030, 4);  // remappable, index 1
    b.config(f, 0x52, 1, 2);
    f.raise(0);
    CHECK(b.acknowledge() == 0x66);
    b.eoi();
    CHECK(b.recorded(f, msi(0)).latency[Relay::HandlerToEoi].total() == 1);
    b.config(f, 0x54, 0xfee00010, 4);  // index 0 is not present
    f.raise(0);
    CHECK(b.acknowledge() == -1);
    CHECK(b.recorded(f, msi(0)).raised == 2);
    CHECK(b.recorded(f, msi(0)).latency[Relay::RaisedToIrr].total() == 1);
}

TEST_CASE("relay: the guest's view") {
    using namespace relayview;
    RelayBench b;
    IrqTest &f = b.add(2), &g = b.add(3);
    const uint64_t view = b.bar(b.view);
    CHECK(b.in(view) == 0x4b524c01);
    CHECK(b.in(view + kFunctions) == 3);
    CHECK(b.in(view + kNext) == 0);
    b.useMsi(f, 0x40, 5);
    b.enableMsix(g);
    b.useMsix(g, 7, 0x70);
    f.raise(3), g.raise(7), f.raise(3);
    CHECK(b.in(view + kNext) == (1u << 31 | 1u << 27 | 3u << 16 | 2u << 3));
    CHECK((b.in(view + kFunction) == 2u << 3 && b.in(view + kIdentifier) == (1u << 16 | 3)));
    CHECK(b.in(view + kIndicator) == 2);
    CHECK((b.in(view + kTake) == 2 && b.in(view + kTake) == 0));
    CHECK(b.in(view + kRaised) == 2);
    CHECK(b.in(view + kNext) == (1u << 31 | 2u << 27 | 7u << 16 | 3u << 3));
    b.out(view + kIndicator, 0);
    CHECK(b.in(view + kNext) == 0);
    f.raise(0), f.raise(31);
    b.out(view + kClear, 1);
    CHECK(b.in(view + kNext) == 0);
    // Selected by name; what isn't there.
    b.out(view + kFunction, 3 << 3), b.out(view + kIdentifier, 2 << 16 | 7);
    CHECK((b.in(view + kStatus) == 1 && b.in(view + kRaised) == 1));
    b.time.advance(20);
    CHECK(b.acknowledge() == 0x70);
    b.out(view + kBucket, 1 << 8 | 5);
    CHECK(b.in(view + kSamples) == 1);
    b.out(view + kBucket, 3 << 8);
    CHECK(b.in(view + kSamples) == 0);
    for (uint32_t id : {2u << 16 | 64, 3u << 16, 4u << 16, 1u << 16 | 32, ~0u}) {
        b.out(view + kIdentifier, id);
        CHECK((b.in(view + kStatus) == 0 && b.in(view + kTake) == 0 && b.in(view + kRaised) == 0));
    }
    b.out(view + kFunction, 0x12345), b.out(view + kIdentifier, 0);
    CHECK(b.in(view + kStatus) == 0);
    b.out(view + kIndex, 1);
    CHECK((b.in(view + kFunction) == 2u << 3 && b.in(view + 0x38) == 1 + 32 + 64));
    b.out(view + kIndex, 77);
    CHECK(b.in(view + kStatus) == 1);
    CHECK(b.memory.access(PhysAddr(view), 8) == ~0ull);
    CHECK(b.memory.access(PhysAddr(view + 1), 1) == 0xff);
}

TEST_CASE("relay: bus numbers may change, and bridges don't matter") {
    RelayBench b;
    RootPort port(1, 1);
    IrqTest f(b.clock, {}, ExpressType::Endpoint);
    b.bus.add(Bdf(0, 4, 0), port);
    b.bus.add(port, 0, 0, f);
    b.bus.configWrite(Bdf(0, 4, 0), 0x19, 2, 0x0808);
    f.raise(0);
    CHECK(b.relay.find(Bdf(8, 0, 0)) == f.relay());
    CHECK(b.recorded(f, kInta).raised == 1);
    b.bus.configWrite(Bdf(0, 4, 0), 0x19, 2, 0x0909);
    CHECK(b.relay.find(Bdf(8, 0, 0)) == nullptr);
    CHECK(b.recorded(f, kInta).indicator == 1);
}

namespace {

// 8 functions share a line, 8 share a vector; three of the former lie on bus 0, the others behind a bridge.
struct Crowd : RelayBench {
    static constexpr uint8_t kLine = 0x50, kVector = 0x60;
    PciBridge bridge;
    struct One {
        IrqTest* test;
        bool line;
        uint64_t raised = 0, attributed = 0;
    };
    std::vector<One> all;
    Random random{42};
    uint64_t raised = 0, handled = 0, strangers = 0;

    Crowd() {
        const IrqTestConfig config{.messages = 1, .vectors = 1, .memory = 4096};
        for (unsigned device : {2, 10, 18}) all.push_back({&add(device, config), true});
        bus.add(Bdf(0, 1, 0), bridge);
        bus.configWrite(Bdf(0, 1, 0), 0x19, 2, 0x0101);
        bus.configWrite(Bdf(0, 1, 0), 4, 2, 7);
        for (unsigned device : {1, 5, 9, 13, 17}) {  // INTA of each is INTB of the bridge
            IrqTest& test = *tests.emplace_back(std::make_unique<IrqTest>(clock, config, std::nullopt));
            bus.add(bridge, device, 0, test);
            all.push_back({&test, true});
        }
        for (unsigned device : {3, 4, 5, 6, 7, 8, 9, 11}) {
            all.push_back({&add(device, config), false});
            useMsi(*all.back().test, kVector);
        }
        route(*all[0].test, kLine);
    }
    // A rise of the wire is an interrupt; while it is up there is nothing to rise.
    void raiseOne() {
        One& one = all[below(random, all.size())];
        if (one.line && one.test->ioRead(irqtest::kPending, 4)) return;
        one.test->raise(0);
        one.raised++, raised++;
    }
    // The handler knows who it was from the relay alone.
    void handle(int vector) {
        handled++;
        for (size_t n = 0; n < all.size(); n++) {
            const uint32_t next = in(bar(view) + relayview::kNext);
            if (!next) break;
            Bdf bdf;
            bdf.value = uint16_t(next);
            auto one =
                std::find_if(all.begin(), all.end(), [&](const One& o) { return o.test->bdf() == bdf; });
            if (one == all.end() || one->line != ((next >> 27 & 3) == InterruptId::Intx)) {
                strangers++;
                continue;
            }
            if (vector != (one->line ? kLine : kVector)) continue;  // the other handler's
            one->attributed += in(bar(view) + relayview::kTake);
            if (one->line) one->test->acknowledge(0);
        }
        while (oneIn(random, 3)) raiseOne();  // before the EOI
    }
    void serve() {
        const int vector = acknowledge();
        if (vector < 0) return;
        time.advance(below(random, 1000));
        handle(vector);
        eoi();
    }
};

}  // namespace

TEST_CASE("relay: a million interrupts at random, all put down to who asked") {
    Crowd c;
    while (c.raised < 1'000'000) {
        c.raiseOne();
        if (oneIn(c.random, 3)) c.time.advance(below(c.random, 3000));
        if (oneIn(c.random, 4)) c.serve();
    }
    while (c.apics[0]->interruptPending()) c.serve();
    CHECK(c.strangers == 0);
    CHECK(c.handled > 100'000);
    CHECK(c.relay.untracked() == 0);
    for (const Crowd::One& one : c.all) {
        CAPTURE(one.test->bdf().value);
        CHECK(one.raised > 10'000);
        CHECK(one.attributed == one.raised);
        const auto& i = c.recorded(*one.test, one.line ? kInta : msi(0));
        CHECK(i.raised == one.raised);
        CHECK(i.indicator == 0);
        // Each of them reached an IRR; what did not find itself there already was handled and ended.
        CHECK(i.latency[Relay::RaisedToIrr].total() == one.raised);
        const uint64_t ended = i.latency[Relay::HandlerToEoi].total();
        CHECK(i.latency[Relay::IrrToHandler].total() == ended);
        CHECK((one.line ? ended >= one.raised : ended == one.raised - i.coalesced));
    }
}
