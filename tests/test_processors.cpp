// Several processors on one memory, in turns and on threads of their own: what LOCK promises (SDM vol.
// 3, 9.1), accessed and dirty bits, code that changes under another processor, and interprocessor interrupts
// (11.6).
#include "tests/processor_gang.hpp"

using namespace kiln;
using namespace kiln::test;

TEST_CASE("processors: locked instructions lose nothing") {
    constexpr unsigned kRounds = 3000;
    for (bool threads : {false, true}) {
        CAPTURE(threads);
        Gang g(4, threads);
        Code c;
        c({0xb9}).u32(kRounds);
        size_t loop = c.here();
        c({0xf0, 0xff}).at(0, kData);                            // lock inc dword
        c({0xf0, 0x83}).at(0, kData + 8)({3});                   // lock add dword, 3
        c({0xb8}).u32(5)({0xf0, 0x0f, 0xc1}).at(0, kData + 16);  // lock xadd, eax = 5
        c({0xf0, 0x66, 0xff}).at(0, kData + 24);                 // lock inc word
        c({0xf0, 0xfe}).at(1, kData + 32);                       // lock dec byte
        c({0xf0, 0x48, 0xf7}).at(2, kData + 40);                 // lock not qword
        c({0xf0, 0xff}).at(0, kData + 64 + 62);                  // across two lines
        c({0xf0, 0xff}).at(0, kData + 0xffe);                    // and across two pages
        c({0xf0, 0x48, 0x0f, 0xba}).at(7, kData + 48)({40});     // lock btc qword, 40
        c({0xf0, 0x80}).at(6, kData + 56)({0x80});               // lock xor byte, 80h
        c({0xf9, 0xf0, 0x83}).at(2, kData + 0x2000)({0});        // stc; lock adc dword, 0
        c({0xff, 0xc9}).jump(0x75, loop)({0xf4});
        g.load(kCode, c);
        for (unsigned n = 0; n < 4; n++) g.program(n, kCode);
        g.run();
        const uint32_t times = 4 * kRounds;
        CHECK(g.get<uint32_t>(kData) == times);
        CHECK(g.get<uint32_t>(kData + 8) == 3 * times);
        CHECK(g.get<uint32_t>(kData + 16) == 5 * times);
        CHECK(g.get<uint16_t>(kData + 24) == uint16_t(times));
        CHECK(g.get<uint8_t>(kData + 32) == uint8_t(-times));
        CHECK(g.get<uint64_t>(kData + 40) == 0);
        CHECK(g.get<uint32_t>(kData + 126) == times);
        CHECK(g.get<uint32_t>(kData + 0xffe) == times);
        CHECK(g.get<uint64_t>(kData + 48) == 0);
        CHECK(g.get<uint8_t>(kData + 56) == 0);
        CHECK(g.get<uint32_t>(kData + 0x2000) == times);
    }
}

TEST_CASE("processors: XCHG makes a lock, also on a page with code") {
    constexpr unsigned kRounds = 1000;
    for (bool threads : {false, true}) {
        for (uint64_t lock : {kData, kCode + 0x800}) {
            CAPTURE(threads);
            Gang g(3, threads);
            Code c;
            c({0xb9}).u32(kRounds);
            size_t loop = c.here();
            c({0xb8}).u32(1);
            size_t spin = c.here();
            c({0x87}).at(0, lock)({0x85, 0xc0, 0x74, 0});  // xchg eax, [lock]; test; jz
            size_t got = c.here();
            c({0xf3, 0x90}).jump(0xeb, spin);
            c.patch(got);
            c({0xff}).at(0, kData + 64);  // inc dword: not locked
            c({0xc7}).at(0, lock).u32(0);
            c({0xff, 0xc9}).jump(0x75, loop)({0xf4});
            g.load(kCode, c);
            for (unsigned n = 0; n < 3; n++) g.program(n, kCode);
            g.run();
            CHECK(g.get<uint32_t>(kData + 64) == 3 * kRounds);
        }
    }
}

TEST_CASE("processors: CMPXCHG8B and CMPXCHG16B count as one") {
    constexpr unsigned kRounds = 2000;
    for (bool threads : {false, true}) {
        for (bool wide : {false, true}) {
            CAPTURE(threads);
            CAPTURE(wide);
            const uint8_t rex = wide ? 0x48 : 0x40, size = wide ? 8 : 4;
            Gang g(3, threads);
            Code c;
            c({0xbe}).u32(kRounds);
            size_t loop = c.here();
            c({rex, 0x8b}).at(0, kData);
            c({rex, 0x8b}).at(2, kData + size);
            size_t retry = c.here();
            c({rex, 0x89, 0xc3, rex, 0x89, 0xd1});        // rbx = rax, rcx = rdx
            c({rex, 0x83, 0xc3, 1, rex, 0x83, 0xd1, 0});  // plus one
            c({0xf0, rex, 0x0f, 0xc7}).at(1, kData).jump(0x75, retry);
            c({0xff, 0xce}).jump(0x75, loop)({0xf4});
            g.load(kCode, c);
            const uint64_t start = wide ? ~0ull - 5 : 0xfffffffa;
            g.put<uint64_t>(kData, start);
            for (unsigned n = 0; n < 3; n++) g.program(n, kCode);
            g.run();
            CHECK(g.get<uint64_t>(kData) == start + 3 * kRounds);
            if (wide) CHECK(g.get<uint64_t>(kData + 8) == 1);
        }
    }
}

TEST_CASE("processors: accessed and dirty bits are set without losing what others write to the entry") {
    constexpr unsigned kRounds = 2000;
    constexpr uint64_t kOne = 1ull << 52;  // a field that software may use
    for (bool threads : {false, true}) {
        CAPTURE(threads);
        Gang g(2, threads);
        g.put<uint64_t>(kPt, kData | 7);
        Code writer;  // touches the page, again and again with a fresh TLB
        writer({0xb9}).u32(kRounds);
        size_t loop = writer.here();
        writer({0x8b}).at(0, kWindow)({0xff}).at(0, kWindow)({0x0f, 0x01}).at(7, kWindow);
        writer({0xff, 0xc9}).jump(0x75, loop)({0xf4});
        g.load(kCode, writer);
        Code editor;  // counts in the entry and takes the bits away
        editor({0xb9}).u32(kRounds)({0x48, 0xb8}).u32(kOne).u32(kOne >> 32);
        loop = editor.here();
        editor({0xf0, 0x48, 0x01}).at(0, kPt)({0xf0, 0x80}).at(4, kPt)({0x9f});
        editor({0xff, 0xc9}).jump(0x75, loop)({0xf4});
        g.load(kCode + 0x200, editor);
        g.program(0, kCode);
        g.program(1, kCode + 0x200);
        g.run();
        CHECK(g.get<uint64_t>(kPt) / kOne == kRounds);
        CHECK((g.get<uint64_t>(kPt) & 0x000ffffffffff007) == (kData | 7));
        CHECK(g.get<uint32_t>(kData) == kRounds);
    }
}

TEST_CASE("processors: new code is seen by the others at once") {
    constexpr unsigned kRounds = 400;
    constexpr uint64_t kFlag = kData, kAck = kData + 64, kErrors = kData + 128, kShared = kCode + 0x2000;
    for (bool threads : {false, true}) {
        CAPTURE(threads);
        Gang g(3, threads);
        Code shared;  // mov eax, imm32; ret -- and a loop for the third processor on the same page
        shared({0xb8}).u32(0)({0xc3});
        g.load(kShared, shared);
        Code other;
        size_t loop = other.here();
        other({0xf0, 0xff}).at(0, kData + 256)({0x83}).at(7, kAck).bytes.push_back(0xff);
        other.jump(0x75, loop)({0xf4});
        g.load(kShared + 0x100, other);
        Code writer;
        writer({0x31, 0xc9});
        loop = writer.here();
        writer({0xff, 0xc1, 0x89}).at(1, kShared + 1)({0x89}).at(1, kFlag);  // the immediate, then the flag
        size_t wait = writer.here();
        writer({0xf3, 0x90, 0x39}).at(1, kAck).jump(0x75, wait);
        writer({0x81, 0xf9}).u32(kRounds).jump(0x75, loop);
        writer({0xc7}).at(0, kAck).u32(~0u)({0xf4});
        g.load(kCode, writer);
        Code reader;
        reader({0x31, 0xc9});
        loop = reader.here();
        reader({0xff, 0xc1});
        wait = reader.here();
        reader({0xf3, 0x90, 0x39}).at(1, kFlag).jump(0x75, wait);
        const size_t call = reader.here() + 5;
        reader({0xe8}).u32(kShared - (kCode + 0x400 + call))({0x39, 0xc8, 0x74, 7, 0xff}).at(0, kErrors);
        reader({0x89}).at(1, kAck)({0x81, 0xf9}).u32(kRounds).jump(0x75, loop)({0xf4});
        g.load(kCode + 0x400, reader);
        g.program(0, kCode);
        g.program(1, kCode + 0x400);
        g.program(2, kShared + 0x100);
        g.run();
        CHECK(g.get<uint32_t>(kFlag) == kRounds);
        CHECK(g.get<uint32_t>(kErrors) == 0);
    }
}

namespace {

// Processor 0 sends `icr` (its low half; `high` the other) `rounds` times and each time waits until
// `expected` interrupts were counted. The others sleep; at the end INIT stops them.
void sendRounds(Gang& g, uint32_t icr, uint32_t high, unsigned rounds, unsigned expected) {
    Code handler;
    handler({0xf0, 0xff}).at(0, kData);
    handler({0x67, 0xc7}).at(0, 0xfee000b0).u32(0)({0x48, 0xcf});
    g.load(kHandler, handler);
    Code sleeper;
    sleeper({0xfb, 0xf4}).jump(0xeb, 0);
    g.load(kCode + 0x200, sleeper);
    Code sender;
    sender({0x31, 0xc9, 0xb8}).u32(0xfee00300);
    sender({0xc7, 0x40, 0x10}).u32(high);
    size_t loop = sender.here();
    sender({0x81, 0xc1}).u32(expected)({0xc7, 0x00}).u32(icr);
    size_t wait = sender.here();
    sender({0xfb, 0xf3, 0x90, 0x39}).at(1, kData).jump(0x75, wait);
    sender({0x81, 0xf9}).u32(expected * rounds).jump(0x75, loop);
    sender({0xfa, 0xc7, 0x00}).u32(0xc4500)({0xf4});
    g.load(kCode, sender);
    g.program(0, kCode);
    for (unsigned n = 1; n < g.all.size(); n++) g.program(n, kCode + 0x200);
    g.run();
    CHECK(g.get<uint32_t>(kData) == expected * rounds);
}

}  // namespace

TEST_CASE("processors: interprocessor interrupts of every kind arrive, each once") {
    struct {
        const char* what;
        uint32_t icr, high;
        int expected;  // processors, counted from all if not positive
    } const kKinds[] = {
        {"fixed, all but self", 0xc4040, 0, -1},
        {"fixed, all", 0x84040, 0, 0},
        {"fixed, self", 0x44040, 0, 1},
        {"fixed, physical", 0x4041, 2u << 24, 1},
        {"fixed, broadcast", 0x4041, 0xffu << 24, 0},
        {"NMI, all but self", 0xc4400, 0, -1},
        {"NMI, physical", 0x4400, 1u << 24, 1},
        {"fixed, flat logical", 0x4842, 0x06u << 24, 2},
        {"lowest priority", 0x4943, 0x07u << 24, 1},
    };
    for (bool threads : {false, true}) {
        for (const auto& k : kKinds) {
            const unsigned cpus = threads ? 5 : 64;
            CAPTURE(k.what);
            CAPTURE(threads);
            Gang g(cpus, threads);
            for (unsigned n = 0; n < 3; n++) g.all[n].apic->ioWrite(0xd0, 4, 1u << (24 + n));
            sendRounds(g, k.icr, k.high, 20, unsigned(k.expected > 0 ? k.expected : int(cpus) + k.expected));
        }
    }
}

TEST_CASE("processors: INIT and start-up; what else comes meanwhile waits") {
    Gang g(2, false);
    Cpu& c = *g.all[1].cpu;
    LocalApic& from = *g.all[0].apic;
    from.ioWrite(0x310, 4, 1u << 24);
    from.ioWrite(0x300, 4, 0x4500);
    c.run(10);
    CHECK(c.waitingForSipi);
    from.ioWrite(0x300, 4, 0x4400);  // NMI
    CHECK_FALSE(c.wakeable());
    c.run(10);
    CHECK(c.waitingForSipi);
    g.put<uint32_t>(0x20000, 0x90909090);
    g.put<uint32_t>(2 * 4, 0x30000010);  // its handler: 3000:0010
    from.ioWrite(0x300, 4, 0x4620);
    CHECK(c.wakeable());
    c.run(1);
    CHECK_FALSE(c.waitingForSipi);
    CHECK(c.seg[Cs].selector == 0x3000);  // the NMI came first
    uint64_t sp = c.seg[Ss].base + (c.gpr[Rsp] & 0xffff);
    CHECK(g.get<uint16_t>(sp) == 0);
    CHECK(g.get<uint16_t>(sp + 2) == 0x2000);  // and interrupted the start
    from.ioWrite(0x300, 4, 0x4621);            // not waiting any more: dropped
    c.run(1);
    CHECK(c.seg[Cs].selector != 0x2100);
}

TEST_CASE("processors: the APIC's page is each one's own, wherever it lies") {
    Gang g(3, false);
    Code code;
    code({0x67, 0x8b}).at(0, 0xfee00020)({0xf4});
    g.load(kCode, code);
    for (unsigned n = 0; n < 3; n++) {
        g.program(n, kCode);
        g.all[n].cpu->run(10);
        CHECK(g.all[n].cpu->gpr.get<uint32_t>(0) == n << 24);
    }
    g.put<uint32_t>(kData + 0x20, 77);  // over RAM, too
    REQUIRE(g.all[2].apic->setApicBase(kData | 0x800));
    Code moved;
    moved({0x8b}).at(0, kData + 0x20)({0xf4});
    g.load(kCode + 0x100, moved);
    for (unsigned n : {1, 2}) {
        g.program(n, kCode + 0x100);
        g.all[n].cpu->run(10);
    }
    CHECK(g.all[1].cpu->gpr.get<uint32_t>(0) == 77);
    CHECK(g.all[2].cpu->gpr.get<uint32_t>(0) == 2u << 24);
}

TEST_CASE("processors: whoever has seen that a table was written to, and loads CR3, sees what it says") {
    constexpr uint32_t kRounds = 600;
    constexpr uint64_t kFrames = 0x40000, kTurn = kData + 0x100, kSeen = kData + 0x140,
                       kErrors = kData + 0x180;
    for (bool threads : {false, true}) {
        CAPTURE(threads);
        Gang g(2, threads);
        g.put<uint32_t>(kFrames + 0x1000, 1);
        g.put<uint64_t>(kPt, kFrames | 7);
        Code writer;  // leads the window to the frame of the turn's lowest bit
        writer({0xb9}).u32(kRounds);
        size_t loop = writer.here();
        writer({0x89, 0xca, 0x83, 0xe2, 1, 0xc1, 0xe2, 12, 0x81, 0xc2}).u32(kFrames | 7);
        writer({0x89}).at(2, kPt)({0x89}).at(1, kTurn);
        size_t wait = writer.here();
        writer({0xf3, 0x90, 0x39}).at(1, kSeen).jump(0x75, wait);
        writer({0xff, 0xc9}).jump(0x75, loop)({0xf4});
        g.load(kCode, writer);
        Code reader;
        reader({0xb9}).u32(kRounds);
        loop = wait = reader.here();
        reader({0xf3, 0x90, 0x39}).at(1, kTurn).jump(0x75, wait);
        reader({0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8, 0x8b}).at(0, kWindow);
        reader({0x89, 0xca, 0x83, 0xe2, 1, 0x31, 0xd0, 0x01}).at(0, kErrors);
        reader({0x89}).at(1, kSeen)({0xff, 0xc9}).jump(0x75, loop)({0xf4});
        g.load(kCode + 0x1000, reader);
        g.program(0, kCode);
        g.program(1, kCode + 0x1000);
        for (auto& one : g.all) one.cpu->contexts().policy = {.worthTracking = 0, .weighed = ~0u};
        g.run();
        CHECK(g.get<uint32_t>(kErrors) == 0);
        const auto& s = g.all[1].cpu->contexts().statistics();
        CHECK(s.begun == 1);
        CHECK(s.stale > kRounds / 2);
        CHECK(s.kept > kRounds / 2);
    }
}
