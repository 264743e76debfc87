// Delivery of exceptions and interrupts and the return from them (SDM vol. 3, chapters 6 and 20; vol. 2, INT
// n and IRET).
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint16_t kTry = 0x40, kOther = 0x48, kStack1 = 0x50;
constexpr uint64_t kCodeAt = SystemGuest::kCodeAt, kRealCode = 0x7000;

void raiseInterrupt(SystemGuest& g, uint8_t vector) {
    g.apic.ioWrite(0xf0, 4, 0x1ff);
    g.apic.accept({.vector = vector});
}
void raiseNmi(SystemGuest& g) { g.apic.accept({.mode = DeliveryMode::Nmi}); }

// One instruction, without looking at what comes of it.
void stepRaw(SystemGuest& g, std::initializer_list<uint8_t> bytes, uint64_t at = kCodeAt) {
    g.code(bytes, at);
    g.cpu.singleStep();
}

}  // namespace

TEST_CASE("real mode: INT pushes FLAGS, CS, IP and clears IF and TF; IRET comes back") {
    SystemGuest g(Mode::Real16);
    g.cpu.flags.set(flag::IF | flag::CF | 2);
    stepRaw(g, {0xcd, 0x21}, kRealCode);
    CHECK(g.cpu.rip == g.handler(0x21));
    CHECK(g.cpu.gpr[Rsp] == 0x4000 - 6);
    CHECK(g.top<uint16_t>(0) == kRealCode + 2);
    CHECK(g.top<uint16_t>(1) == 0);
    CHECK(g.top<uint16_t>(2) == (flag::IF | flag::CF | 2));
    CHECK(!g.cpu.flags.test(flag::IF));
    stepRaw(g, {0xcf}, g.handler(0x21));
    CHECK(g.cpu.rip == kRealCode + 2);
    CHECK(g.cpu.gpr[Rsp] == 0x4000);
    CHECK(g.cpu.flags.test(flag::IF));
}

TEST_CASE("real mode: vectors behind the limit of the IVT") {
    struct {
        uint16_t limit;
        int vector;  // -1: shutdown
    } cases[] = {{0x3ff, 0x21}, {0x21 * 4 + 2, kGP}, {kGP * 4 + 2, kDF}, {kDF * 4 + 2, -1}};
    for (auto& c : cases) {
        CAPTURE(c.limit);
        SystemGuest g(Mode::Real16);
        g.cpu.idtr.limit = c.limit;
        stepRaw(g, {0xcd, 0x21}, kRealCode);
        CHECK(g.shutdown.empty() == (c.vector >= 0));
        if (c.vector >= 0) CHECK(g.cpu.rip == g.handler(unsigned(c.vector)));
        if (c.vector >= 0) CHECK(g.top<uint16_t>(0) == (c.vector == 0x21 ? kRealCode + 2 : kRealCode));
    }
}

TEST_CASE("gates of 16 and 32 bits, interrupt and trap, at the same level") {
    for (unsigned type : {kInt16, kTrap16, kInt32, kTrap32}) {
        CAPTURE(type);
        const bool wide = type & 8, trap = type & 1;
        SystemGuest g(Mode::Protected32);
        g.setIdt(0x40, gate(type, kCode0, 0x17000));
        g.cpu.flags.set(flag::IF | flag::TF | flag::NT | 2);
        stepRaw(g, {0xcd, 0x40});
        CHECK(g.cpu.rip == (wide ? 0x17000 : 0x7000));
        CHECK(g.cpu.gpr[Rsp] == 0x80000 - (wide ? 12 : 6));
        CHECK(g.cpu.flags.test(flag::IF) == trap);
        CHECK(!g.cpu.flags.test(flag::TF | flag::NT));
        CHECK((wide ? g.top<uint32_t>(2) : g.top<uint16_t>(2)) == (flag::IF | flag::TF | flag::NT | 2));
    }
}

TEST_CASE("to an inner level the stack comes from a 32-bit or a 16-bit TSS") {
    for (bool wide : {true, false}) {
        CAPTURE(wide);
        SystemGuest g(Mode::Protected32, 3);
        if (!wide) {
            g.cpu.tr.rights = 0x83;
            g.cpu.tr.limit = 43;
            g.put<uint16_t>(SystemGuest::kTssAt + 2, 0x5800);
            g.put<uint16_t>(SystemGuest::kTssAt + 4, kData0);
        }
        g.cpu.flags.set(flag::IF | 2);
        stepRaw(g, {0xcd, 0x40});
        CHECK(g.cpu.cpl == 0);
        CHECK(g.cpu.gpr[Rsp] == (wide ? 0x6000 : 0x5800) - 20);
        uint32_t frame[] = {uint32_t(kCodeAt + 2), kCode3, uint32_t(flag::IF | 2), 0x80000, kData3};
        for (unsigned n = 0; n < 5; n++) CHECK(g.top<uint32_t>(n) == frame[n]);
        stepRaw(g, {0xcf}, g.handler(0x40));
        CHECK(g.cpu.cpl == 3);
        CHECK(g.cpu.gpr[Rsp] == 0x80000);
        CHECK(g.cpu.rip == kCodeAt + 2);
    }
}

TEST_CASE("gates that are refused, with the error code") {
    struct {
        const char* what;
        unsigned cpl;
        uint64_t gateBits;
        uint64_t target;  // descriptor of kTry
        int vector;
        uint32_t error;  // after INT 40h; EXT comes on top for the exception
    } cases[] = {
        {"DPL below CPL", 3, gate(kInt32, kCode0, 0x6200), 0, kGP, 0x40 * 8 + 2},
        {"absent", 0, gate(kInt32 ^ kAbsent, kCode0, 0x6200), 0, kNP, 0x40 * 8 + 2},
        {"a call gate", 0, gate(kCallGate32, kCode0, 0x6200), 0, kGP, 0x40 * 8 + 2},
        {"a code descriptor", 0, segment(kCodeRx, 0, 0xfffff, 12), 0, kGP, 0x40 * 8 + 2},
        {"null code selector", 0, gate(kInt32, 3, 0x6200), 0, kGP, 0},
        {"code selector behind the table", 0, gate(kInt32, 0x200, 0x6200), 0, kGP, 0x200},
        {"data as code", 0, gate(kInt32, kTry, 0x6200), segment(kDataRw, 0, 0xfffff, 12), kGP, kTry},
        {"code of an outer level", 0, gate(kInt32, kTry, 0x6200), segment(kCodeRx | dpl(3), 0, 0xfffff, 12),
         kGP, kTry},
        {"absent code", 0, gate(kInt32, kTry, 0x6200), segment(kCodeRx ^ kAbsent, 0, 0xfffff, 12), kNP, kTry},
        {"offset beyond the limit", 0, gate(kInt32, kTry, 0x6200), segment(kCodeRx, 0, 0xfff, 4), kGP, 0},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Protected32, c.cpl);
        g.setGdt(kTry, c.target);
        g.setIdt(0x40, c.gateBits);
        CHECK_RAISES(g.does({0xcd, 0x40}), c.vector, c.error);
        CHECK(g.cpu.rip == kCodeAt);
        CHECK(g.cpu.gpr[Rsp] == 0x80000);
        if (c.cpl) continue;
        // The same gate for an interrupt from outside: EXT.
        raiseInterrupt(g, 0x40);
        g.cpu.flags.change(flag::IF, true);
        CHECK_RAISES(g.does({0x90}), c.vector, c.error | 1);
    }
    SystemGuest g(Mode::Protected32);
    g.cpu.idtr.limit = 0x40 * 8 + 6;
    CHECK_RAISES(g.does({0xcd, 0x40}), kGP, 0x40 * 8 + 2);
}

TEST_CASE("exceptions and interrupts do not look at the gate's DPL") {
    SystemGuest g(Mode::Protected32, 3);
    g.setIdt(kUD, gate(kInt32, kCode0, g.handler(kUD)));
    CHECK_RAISES(g.does({0x0f, 0x0b}), kUD, 0);
    g.setIdt(kBP, gate(kInt32, kCode0, g.handler(kBP)));
    CHECK_RAISES(g.does({0xcc}), kGP, kBP * 8 + 2);
    g.setIdt(kDB, gate(kInt32, kCode0, g.handler(kDB)));
    CHECK_RAISES(g.does({0xf1}), kDB, 0);  // INT1 does not look either
}

TEST_CASE("an inner stack that can't be used: #TS or #SS with the selector") {
    struct {
        const char* what;
        uint16_t ss;
        uint64_t descriptor;
        int vector;
        uint32_t error;
    } cases[] = {
        {"null", 1, 0, kTS, 0},
        {"behind the table", 0x201, 0, kTS, 0x200},
        {"RPL is not the level", kStack1, segment(kDataRw | dpl(1), 0, 0xfffff, 12), kTS, kStack1},
        {"DPL is not the level", kStack1 | 1, segment(kDataRw | dpl(2), 0, 0xfffff, 12), kTS, kStack1},
        {"read-only", kStack1 | 1, segment(kDataRo | dpl(1), 0, 0xfffff, 12), kTS, kStack1},
        {"code", kStack1 | 1, segment(kCodeRx | dpl(1), 0, 0xfffff, 12), kTS, kStack1},
        {"absent", kStack1 | 1, segment((kDataRw ^ kAbsent) | dpl(1), 0, 0xfffff, 12), kSS, kStack1},
        {"too small", kStack1 | 1, segment(kDataRw | dpl(1), 0, 0xfff, 4), kSS, kStack1},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Protected32, 3);
        g.setGdt(kTry, segment(kCodeRx | dpl(1), 0, 0xfffff, 12));
        g.setGdt(kStack1, c.descriptor);
        g.put<uint32_t>(SystemGuest::kTssAt + 12, 0x8000);
        g.put<uint16_t>(SystemGuest::kTssAt + 16, c.ss);
        g.setIdt(0x40, gate(kInt32 | dpl(3), kTry, 0x6200));
        CHECK_RAISES(g.does({0xcd, 0x40}), c.vector, c.error);
    }
    SystemGuest g(Mode::Protected32, 3);  // the TSS ends before ring 1's stack; ring 0's is still inside
    g.setGdt(kTry, segment(kCodeRx | dpl(1), 0, 0xfffff, 12));
    g.setIdt(0x40, gate(kInt32 | dpl(3), kTry, 0x6200));
    g.cpu.tr.limit = 16;
    CHECK_RAISES(g.does({0xcd, 0x40}), kTS, 0x28);
}

TEST_CASE("virtual-8086 mode: entered by IRET, left by interrupts, IOPL-sensitive instructions") {
    auto enter = [](SystemGuest& g, unsigned iopl) {
        g.push<uint32_t>({0x100, 0x5000, flag::VM | flag::IF | iopl << 12 | 2, 0x3000, 0x4000, 0x1111, 0x2222,
                          0x3333, 0x4444});
        stepRaw(g, {0xcf});
        REQUIRE(g.cpu.v86());
    };
    SUBCASE("the segments become those of the 8086") {
        SystemGuest g(Mode::Protected32);
        enter(g, 0);
        CHECK(g.cpu.cpl == 3);
        CHECK(g.cpu.rip == 0x100);
        CHECK(g.cpu.gpr[Rsp] == 0x3000);
        uint16_t selectors[] = {0x1111, 0x5000, 0x4000, 0x2222, 0x3333, 0x4444};
        for (unsigned r = 0; r < 6; r++) {
            CHECK(g.cpu.seg[r].selector == selectors[r]);
            CHECK(g.cpu.seg[r].base == uint64_t(selectors[r]) << 4);
            CHECK(g.cpu.seg[r].limit == 0xffff);
        }
    }
    SUBCASE("an exception goes to ring 0 with nine words, and IRET resumes") {
        SystemGuest g(Mode::Protected32);
        enter(g, 0);
        stepRaw(g, {0x0f, 0x0b}, 0x50100);
        CHECK(g.cpu.rip == g.handler(kUD));
        CHECK(!g.cpu.v86());
        CHECK(g.cpu.cpl == 0);
        CHECK(g.cpu.gpr[Rsp] == 0x6000 - 36);
        uint32_t frame[] = {0x100,  0x5000, uint32_t(flag::VM | flag::IF | flag::RF | 2),
                            0x3000, 0x4000, 0x1111,
                            0x2222, 0x3333, 0x4444};
        for (unsigned n = 0; n < 9; n++) CHECK(g.top<uint32_t>(n) == frame[n]);
        for (SegReg r : {Es, Ds, Fs, Gs}) CHECK(g.cpu.seg[r].unusable);
        stepRaw(g, {0xcf}, g.handler(kUD));
        CHECK(g.cpu.v86());
        CHECK(g.cpu.seg[Gs].selector == 0x4444);
    }
    SUBCASE("CLI, STI, PUSHF, POPF, INT n and IRET need IOPL 3; INT3 and HLT do not care") {
        std::initializer_list<uint8_t> sensitive[] = {{0xfa}, {0xfb}, {0x9c}, {0x9d}, {0xcd, 0x40}, {0xcf}};
        for (auto code : sensitive)
            for (unsigned iopl : {0u, 3u}) {
                CAPTURE(int(*code.begin()));
                CAPTURE(iopl);
                SystemGuest g(Mode::Protected32);
                enter(g, iopl);
                g.put<uint16_t>(0x43000, 0x200);  // for IRET and POPF
                g.put<uint16_t>(0x43002, 0x5000);
                g.put<uint16_t>(0x43004, 2);
                stepRaw(g, code, 0x50100);
                CHECK((g.cpu.rip == g.handler(kGP)) == (iopl == 0));
                if (iopl == 0) CHECK(g.top<uint32_t>(0) == 0);
            }
        SystemGuest g(Mode::Protected32);
        enter(g, 0);
        stepRaw(g, {0xcc}, 0x50100);
        CHECK(g.cpu.rip == g.handler(kBP));
        SystemGuest h(Mode::Protected32);
        enter(h, 3);
        stepRaw(h, {0xf4}, 0x50100);
        CHECK(h.cpu.rip == h.handler(kGP));
    }
    SUBCASE("PUSHF and POPF at IOPL 3: IF moves, IOPL and VM do not") {
        SystemGuest g(Mode::Protected32);
        enter(g, 3);
        g.put<uint16_t>(0x43000, 0);
        stepRaw(g, {0x9d}, 0x50100);
        CHECK(!g.cpu.flags.test(flag::IF));
        CHECK(g.cpu.flags.iopl() == 3);
        CHECK(g.cpu.v86());
    }
    SUBCASE("a handler that is not at ring 0 is refused") {
        SystemGuest g(Mode::Protected32);
        g.setGdt(kTry, segment(kCodeConforming, 0, 0xfffff, 12));
        g.setIdt(kUD, gate(kInt32, kTry, 0x6200));
        enter(g, 0);
        stepRaw(g, {0x0f, 0x0b}, 0x50100);
        CHECK(g.cpu.rip == g.handler(kGP));
        CHECK(g.top<uint32_t>(0) == (kTry | 1));
    }
    SUBCASE("an IP beyond 64 KiB is refused") {
        SystemGuest g(Mode::Protected32);
        g.push<uint32_t>({0x10000, 0x5000, flag::VM | 2, 0x3000, 0x4000, 0, 0, 0, 0});
        CHECK_RAISES(g.does({0xcf}), kGP, 0);
    }
}

TEST_CASE("IRET to the same level and which flags it may change") {
    struct {
        unsigned cpl, iopl;
        uint64_t changed;  // of all ones
    } cases[] = {{0, 0, flag::IF | flag::IOPL | flag::VIF | flag::VIP}, {3, 0, 0}, {3, 3, flag::IF}};
    constexpr uint64_t kFree = flag::Arithmetic | flag::TF | flag::DF | flag::NT | flag::AC | flag::ID;
    for (auto& c : cases)
        for (bool pop : {false, true}) {
            CAPTURE(c.cpl);
            CAPTURE(c.iopl);
            CAPTURE(pop);
            SystemGuest g(Mode::Protected32, c.cpl);
            g.cpu.flags.set(c.iopl << 12 | 2);
            constexpr uint32_t kAll = uint32_t(~(flag::VM | flag::RF));
            if (pop)
                g.push<uint32_t>({kAll});
            else
                g.push<uint32_t>({kCodeAt, c.cpl ? kCode3 : kCode0, kAll});
            stepRaw(g, {uint8_t(pop ? 0x9d : 0xcf)});
            uint64_t expected = kFree | c.changed | c.iopl << 12 | 2;
            if (pop) expected &= ~(flag::VIF | flag::VIP);
            CHECK(g.cpu.flags.value() == expected);
        }
}

TEST_CASE("long mode: frames have SS:RSP always, aligned; IST; null SS at the inner level") {
    SUBCASE("same level") {
        SystemGuest g(Mode::Long64);
        g.cpu.gpr[Rsp] = 0x7fff5;
        stepRaw(g, {0xcd, 0x40});
        CHECK(g.cpu.gpr[Rsp] == 0x7fff0 - 40);
        CHECK(g.top<uint64_t>(3) == 0x7fff5);
        CHECK(g.top<uint64_t>(4) == kData0);
        CHECK(g.cpu.seg[Ss].selector == kData0);
        stepRaw(g, {0x48, 0xcf}, g.handler(0x40));
        CHECK(g.cpu.gpr[Rsp] == 0x7fff5);
    }
    SUBCASE("from ring 3") {
        SystemGuest g(Mode::Long64, 3);
        stepRaw(g, {0xcd, 0x40});
        CHECK(g.cpu.gpr[Rsp] == 0x6000 - 40);
        CHECK(g.cpu.seg[Ss].selector == 0);
        CHECK(g.top<uint64_t>(4) == kData3);
        stepRaw(g, {0x48, 0xcf}, g.handler(0x40));
        CHECK(g.cpu.cpl == 3);
        CHECK(g.cpu.seg[Ss].selector == kData3);
    }
    SUBCASE("IST") {
        SystemGuest g(Mode::Long64);
        g.setIdt(0x40, gate(kInt32, 0x38, 0x6200, 7));
        g.put<uint64_t>(SystemGuest::kTssAt + 36 + 6 * 8, 0x5808);
        stepRaw(g, {0xcd, 0x40});
        CHECK(g.cpu.gpr[Rsp] == 0x5800 - 40);
        CHECK(g.top<uint64_t>(3) == 0x80000);
    }
    SUBCASE("IST behind the TSS") {
        SystemGuest g(Mode::Long64);
        g.setIdt(0x40, gate(kInt32, 0x38, 0x6200, 1));
        g.cpu.tr.limit = 40;
        CHECK_RAISES(g.does({0xcd, 0x40}), kTS, 0x28);
    }
    SUBCASE("from compatibility mode, and back") {
        SystemGuest g(Mode::Compat32, 3);
        stepRaw(g, {0xcd, 0x40});
        CHECK(g.cpu.code64());
        CHECK(g.cpu.gpr[Rsp] == 0x6000 - 40);
        CHECK(g.top<uint64_t>(0) == kCodeAt + 2);
        g.cpu.gpr[Rsp] = 0x5000;
        uint64_t frame[] = {kCodeAt, kCode3, 2, 0x80000, kData3};
        for (unsigned n = 0; n < 5; n++) g.put<uint64_t>(0x5000 + n * 8, frame[n]);
        stepRaw(g, {0x48, 0xcf}, g.handler(0x40));
        CHECK(!g.cpu.code64());
        CHECK(g.cpu.gpr[Rsp] == 0x80000);
        CHECK(g.cpu.seg[Ss].selector == kData3);
    }
    SUBCASE("nothing of a high kernel stack is left in a 32-bit stack pointer") {
        SystemGuest g(Mode::Long64);
        g.setGdt(kTry, segment(kCodeRx | dpl(3), 0, 0xfffff, 12));
        g.map(0xffff8000'00000000, 0x90000, false);
        g.cpu.gpr[Rsp] = 0xffff8000'00000100;
        uint64_t frame[] = {kCodeAt, kTry | 3, 2, 0x12345678, kData3};
        for (unsigned n = 0; n < 5; n++) g.put<uint64_t>(0x90100 + n * 8, frame[n]);
        stepRaw(g, {0x48, 0xcf});
        CHECK(g.cpu.cpl == 3);
        CHECK(g.cpu.gpr[Rsp] == 0x12345678);
    }
}

TEST_CASE("a return to an outer level leaves of null selectors not even the RPL") {
    for (Mode mode : {Mode::Protected32, Mode::Long64})
        for (bool far : {false, true}) {
            CAPTURE(far);
            const bool wide = mode == Mode::Long64;
            SystemGuest g(mode);
            for (SegReg r : {Es, Ds, Fs, Gs}) g.cpu.loadSegment(r, r == Es ? kData3 : 3);
            if (wide) g.cpu.seg[Fs].base = 0x1234'56789abc;  // by its MSR
            std::vector<uint64_t> frame = {kCodeAt, kCode3, 2, 0x70000, kData3};
            if (far) frame.erase(frame.begin() + 2);
            g.cpu.gpr[Rsp] = 0x78000;
            for (size_t n = 0; n < frame.size(); n++)
                wide ? g.put<uint64_t>(0x78000 + n * 8, frame[n])
                     : g.put<uint32_t>(0x78000 + n * 4, uint32_t(frame[n]));
            const uint8_t opcode = far ? 0xcb : 0xcf;
            wide ? stepRaw(g, {0x48, opcode}, 0x58000) : stepRaw(g, {opcode}, 0x58000);
            REQUIRE(g.cpu.cpl == 3);
            CHECK(g.cpu.seg[Es].selector == kData3);
            for (SegReg r : {Ds, Fs, Gs}) CHECK(g.cpu.seg[r].selector == 0);
            CHECK(g.cpu.seg[Fs].base == (wide ? 0x1234'56789abc : 0));
        }
}

TEST_CASE("long mode: gates that are refused") {
    struct {
        const char* what;
        uint64_t low, high, target;
        int vector;
        uint32_t error;
    } cases[] = {
        {"16-bit gate", gate(kInt16, 0x38, 0x6200), 0, 0, kGP, 0x40 * 8 + 2},
        {"task gate", gate(kTaskGateType, 0x38, 0), 0, 0, kGP, 0x40 * 8 + 2},
        {"absent", gate(kInt32 ^ kAbsent, 0x38, 0x6200), 0, 0, kNP, 0x40 * 8 + 2},
        {"target is 32-bit code", gate(kInt32, kTry, 0x6200), 0, segment(kCodeRx, 0, 0xfffff, 12), kGP, kTry},
        {"target has L and D", gate(kInt32, kTry, 0x6200), 0, segment(kCodeRx, 0, 0xfffff, 14), kGP, kTry},
        {"handler is not canonical", gate(kInt32, 0x38, 0x6200), 0x8000, 0, kGP, 0},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Long64);
        g.setGdt(kTry, c.target);
        g.setIdt(0x40, c.low);
        g.put<uint64_t>(SystemGuest::kIdtAt + 0x40 * 16 + 8, c.high);
        CHECK_RAISES(g.does({0xcd, 0x40}), c.vector, c.error);
        CHECK(g.cpu.rip == kCodeAt);
    }
    SystemGuest g(Mode::Long64, 3);  // the new stack is not canonical
    g.setIdt(0x40, gate(kInt32 | dpl(3), 0x38, 0x6200));
    g.setIdt(kSS, gate(kInt32, 0x38, g.handler(kSS), 1));
    g.put<uint64_t>(SystemGuest::kTssAt + 36, 0x5800);
    g.put<uint64_t>(SystemGuest::kTssAt + 4, 0x8000'00001000);
    stepRaw(g, {0xcd, 0x40});
    CHECK(g.cpu.rip == g.handler(kSS));
}

TEST_CASE("long mode: IRETQ to a null SS, with NT, and off the canonical range") {
    SystemGuest g(Mode::Long64);
    g.push<uint64_t>({0x70000, kCode0, 2, 0x78000, 0});
    CHECK(!g.does({0x48, 0xcf}));
    CHECK(g.cpu.seg[Ss].unusable);
    CHECK(g.cpu.gpr[Rsp] == 0x78000);
    g.cpu.flags.change(flag::NT, true);
    CHECK_RAISES(g.does({0x48, 0xcf}), kGP, 0);
    g.cpu.flags.change(flag::NT, false);
    g.push<uint64_t>({0x8000'00000000, kCode0, 2, 0x78000, 0});
    CHECK_RAISES(g.does({0x48, 0xcf}), kGP, 0);
    SystemGuest user(Mode::Long64);
    user.push<uint64_t>({0x70000, kCode3, 2, 0x78000, 3});
    CHECK_RAISES(user.does({0x48, 0xcf}), kGP, 0);  // ring 3 must have a stack segment
}

TEST_CASE("long mode: IRETQ to a null CS, whatever is in the first descriptor") {
    for (unsigned level : {0u, 3u}) {
        CAPTURE(level);
        SystemGuest g(Mode::Long64);
        g.setGdt(0, segment(kCodeRx | dpl(level), 0, 0xfffff, 0xa));
        g.write(0x70000, std::vector<uint8_t>{0xf4});
        g.code({0x90, 0x48, 0xcf});
        auto returnTo = [&](uint16_t cs, uint16_t ss) {
            g.push<uint64_t>({0x70000, cs, 2, 0x78000, ss});
            g.cpu.rip = SystemGuest::kCodeAt;
            g.cpu.halted = false;
            return g.runToHalt();
        };
        for (unsigned n = 0; n < 4; n++) {  // until the descriptor table's translation is known
            REQUIRE(!returnTo(kCode0, kData0));
            REQUIRE(g.cpu.rip == 0x70001);
        }
        CHECK_RAISES(returnTo(uint16_t(level), level ? kData3 : kData0), kGP, 0);
    }
}

TEST_CASE("double faults: which pairs combine") {
    // The first: #UD is benign, #DE contributory, #PF itself. The second comes from an absent gate (#NP).
    struct {
        const char* what;
        unsigned first;
        int delivered;
        uint32_t error;
    } cases[] = {
        {"benign, then contributory: the second", kUD, kNP, kUD * 8 + 3},
        {"contributory, then contributory", kDE, kDF, 0},
        {"page fault, then contributory", kPF, kDF, 0},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Long64);
        g.setIdt(c.first, gate(kInt32 ^ kAbsent, 0x38, 0));
        g.cpu.gpr[Rcx] = 0;
        std::optional<Caught> raised;
        if (c.first == kUD)
            raised = g.does({0x0f, 0x0b});
        else if (c.first == kDE)
            raised = g.does({0xf7, 0xf1});  // div ecx
        else
            raised = g.does({0xa1, 0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0});  // mov eax, [12345678h]
        CHECK_RAISES(raised, c.delivered, c.error);
        CHECK(raised->rip == kCodeAt);
    }
    SystemGuest g(Mode::Long64);  // page fault, then page fault: the stack is missing; #DF has its own
    g.setIdt(kDF, gate(kInt32, 0x38, g.handler(kDF), 1));
    g.put<uint64_t>(SystemGuest::kTssAt + 36, 0x5800);
    g.cpu.gpr[Rsp] = 0x12345000;
    stepRaw(g, {0xa1, 0x00, 0x00, 0x34, 0x12, 0, 0, 0, 0});
    CHECK(g.cpu.rip == g.handler(kDF));
    CHECK(g.cpu.cr2 == 0x12345000 - 8);  // of the second
    SystemGuest h(Mode::Long64);         // and without a stack for #DF
    h.cpu.gpr[Rsp] = 0x12345000;
    stepRaw(h, {0x0f, 0x0b});
    CHECK(!h.shutdown.empty());
}

TEST_CASE("single-stepping") {
    SystemGuest g(Mode::Long64);
    auto tf = [&](bool on) { g.cpu.flags.change(flag::TF, on); };
    SUBCASE("a trap behind each instruction, with BS in DR6") {
        tf(true);
        auto c = g.does({0x90});
        CHECK_RAISES(c, kDB, 0);
        CHECK(c->rip == kCodeAt + 1);
        CHECK((c->rflags & flag::TF) != 0);
        CHECK((g.cpu.dr[6] & 0x4000) != 0);
    }
    SUBCASE("POPF that sets TF does not trap, the next instruction does; one that clears it traps") {
        g.push<uint64_t>({flag::TF | 2});
        CHECK(!g.does({0x9d, 0x90}));
        auto c = g.step();
        CHECK_RAISES(c, kDB, 0);
        CHECK(c->rip == kCodeAt + 2);
        g.push<uint64_t>({2});
        CHECK_RAISES(g.does({0x9d}), kDB, 0);
    }
    SUBCASE("none behind MOV SS, one behind the instruction after it") {
        g.cpu.gpr[Rax] = kData0;
        tf(true);
        CHECK(!g.does({0x8e, 0xd0, 0x90}));
        auto c = g.step();
        CHECK_RAISES(c, kDB, 0);
        CHECK(c->rip == kCodeAt + 3);
    }
    SUBCASE("a repeated instruction traps after every element") {
        g.cpu.gpr[Rcx] = 2, g.cpu.gpr[Rsi] = 0x60000, g.cpu.gpr[Rdi] = 0x61000;
        tf(true);
        auto c = g.does({0xf3, 0xa4});
        CHECK_RAISES(c, kDB, 0);
        CHECK(c->rip == kCodeAt);
        CHECK(g.cpu.gpr[Rcx] == 1);
        tf(true);
        c = g.step();
        CHECK_RAISES(c, kDB, 0);
        CHECK(c->rip == kCodeAt + 2);
    }
    SUBCASE("a fault comes instead of the trap") {
        tf(true);
        CHECK_RAISES(g.does({0x0f, 0x0b}), kUD, 0);
    }
    SUBCASE("INT n: no trap in the handler") {
        tf(true);
        auto c = g.does({0xcd, 0x40});
        CHECK_RAISES(c, 0x40, 0);
        CHECK((c->rflags & flag::TF) != 0);
    }
    SUBCASE("over STI, with an interrupt waiting") {
        raiseInterrupt(g, 0x40);
        tf(true);
        CHECK_RAISES(g.does({0xfb, 0x90}), kDB, 0);
    }
    SUBCASE("instructions are counted one by one, also when something asks to leave") {
        g.write(kCodeAt, std::vector<uint8_t>{0x90, 0xe6, 0x80, 0x90});  // nop; out 80h, al; nop
        g.setIdt(kDB, gate(kInt32, 0x38, 0x70000));
        g.write(0x70000, std::vector<uint8_t>{0x48, 0xcf});  // iretq
        struct Leaver : IoHandler {
            Cpu& cpu;
            explicit Leaver(Cpu& c) : cpu(c) {}
            uint64_t ioRead(uint64_t, unsigned) override { return 0; }
            void ioWrite(uint64_t, unsigned, uint64_t) override { cpu.leave(); }
        } leaver(g.cpu);
        g.ports.map(0x80, 1, leaver);
        tf(true);
        g.cpu.rip = kCodeAt;
        g.cpu.run(1000);
        CHECK(g.cpu.executed() == 3);  // nop, iretq, out
    }
    SUBCASE("HLT under TF does not halt") {
        tf(true);
        CHECK_RAISES(g.does({0xf4}), kDB, 0);
        CHECK(!g.cpu.halted);
    }
}

TEST_CASE("interrupts wait for one instruction behind STI and MOV SS") {
    SystemGuest g(Mode::Long64);
    raiseInterrupt(g, 0x40);
    SUBCASE("STI") {
        CHECK(!g.does({0xfb, 0x90, 0x90}));
        CHECK(!g.step());
        auto c = g.step();
        CHECK_RAISES(c, 0x40, 0);
        CHECK(c->rip == kCodeAt + 2);
    }
    SUBCASE("STI; CLI lets nothing in") {
        CHECK(!g.does({0xfb, 0xfa, 0x90}));
        CHECK(!g.step());
        CHECK(!g.step());
    }
    SUBCASE("STI with IF set already has no shadow") {
        g.apic.takeNmi();
        SystemGuest h(Mode::Long64);
        h.cpu.flags.change(flag::IF, true);
        CHECK(!h.does({0xfb, 0x90}));
        raiseInterrupt(h, 0x40);
        CHECK_RAISES(h.step(), 0x40, 0);
    }
    SUBCASE("MOV SS and POP SS") {
        SystemGuest h(Mode::Protected32);
        h.cpu.flags.change(flag::IF, true);
        h.cpu.gpr[Rax] = kData0;
        h.push<uint32_t>({kData0});
        CHECK(!h.does({0x17, 0x90}));  // pop ss
        raiseInterrupt(h, 0x40);
        CHECK(!h.step());
        CHECK_RAISES(h.step(), 0x40, 0);
    }
    SUBCASE("STI; HLT wakes behind the HLT") {
        g.code({0xfb, 0xf4, 0x90});
        auto c = g.runToHalt();
        CHECK_RAISES(c, 0x40, 0);
        CHECK(c->rip == kCodeAt + 2);
    }
}

TEST_CASE("HLT with interrupts off sleeps on; NMI wakes it and is blocked until IRET") {
    SystemGuest g(Mode::Long64);
    g.code({0xf4, 0x90});
    g.cpu.run(10);
    CHECK(g.cpu.halted);
    raiseInterrupt(g, 0x40);
    CHECK(!g.cpu.wakeable());
    raiseNmi(g);
    CHECK(g.cpu.wakeable());
    g.cpu.singleStep();
    g.cpu.singleStep();
    CHECK(g.cpu.nmiBlocked);
    raiseNmi(g);
    CHECK(!g.cpu.wakeable());  // the second waits
    g.cpu.halted = false;
    stepRaw(g, {0x90});
    CHECK(g.cpu.nmiBlocked);
    stepRaw(g, {0x48, 0xcf});
    CHECK(!g.cpu.nmiBlocked);
    CHECK(g.cpu.rip == kCodeAt + 1);
    g.cpu.singleStep();
    CHECK(g.cpu.nmiBlocked);
}

TEST_CASE("page faults: error code and CR2") {
    struct {
        const char* what;
        unsigned cpl;
        uint64_t entry;  // of page 300000h; 0: absent
        uint8_t access;  // 0 read, 1 write, 2 fetch
        int64_t error;   // -1: none
    } cases[] = {
        {"absent, read", 0, 0, 0, 0},
        {"absent, write", 0, 0, 1, pf::W},
        {"absent, user read", 3, 0, 0, pf::U},
        {"absent, user fetch", 3, 0, 2, pf::U | pf::I},
        {"supervisor page, user read", 3, 3, 0, pf::U | pf::P},
        {"supervisor page, user write", 3, 3, 1, pf::U | pf::P | pf::W},
        {"read-only page, user write", 3, 5, 1, pf::U | pf::P | pf::W},
        {"read-only page, supervisor write under WP", 0, 5, 1, pf::P | pf::W},
        {"read-only page, read", 3, 5, 0, -1},
        {"no-execute page, fetch", 0, 1ull << 63 | 3, 2, pf::P | pf::I},
        {"no-execute page, read", 0, 1ull << 63 | 3, 0, -1},
        {"reserved bit", 0, 1ull << 45 | 3, 0, pf::P | pf::RSVD},
        {"reserved bit, user write", 3, 1ull << 45 | 7, 1, pf::P | pf::RSVD | pf::U | pf::W},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Long64, c.cpl);
        g.addRam(0x300000, 0x1000);
        // The fourth-level entry: find it by walking as the processor does.
        uint64_t table = 0x8000;
        for (int level = 3; level > 0; level--)
            table = g.get<uint64_t>(table + (0x300000ull >> (12 + 9 * level) & 511) * 8) & ~kPageMask;
        g.put<uint64_t>(table + (0x300000 >> 12 & 511) * 8, c.entry ? c.entry | 0x300000 : 0);
        g.cpu.flushTlb(true);
        g.cpu.gpr[Rbx] = 0x300123;
        auto raised = c.access == 0   ? g.does({0x8a, 0x03})
                      : c.access == 1 ? g.does({0x88, 0x03})
                                      : (g.does({0xff, 0xe3}), g.step());
        if (c.error < 0) {
            CHECK(!raised);
        } else {
            CHECK_RAISES(raised, kPF, c.error);
            CHECK(raised->cr2 == 0x300123);
            CHECK(raised->rip == (c.access == 2 ? 0x300123 : kCodeAt));
        }
    }
}

TEST_CASE("a fault in the middle leaves the registers as they were") {
    constexpr uint64_t kEdge = 0x100000;  // the first byte that is not mapped
    struct {
        const char* what;
        std::vector<uint8_t> code;
        Gpr pointer;
        uint64_t at;
    } cases[] = {
        {"xchg [rbx], rax", {0x48, 0x87, 0x03}, Rbx, kEdge - 4},
        {"push rax", {0x50}, Rsp, kEdge + 4},
        {"pop rax", {0x58}, Rsp, kEdge - 4},
        {"pop qword [rbx]", {0x8f, 0x03}, Rbx, kEdge - 4},
        {"enter 16, 3", {0xc8, 16, 0, 3}, Rsp, kEdge + 12},
        {"leave", {0xc9}, Rbp, kEdge - 4},
        {"call rax", {0xff, 0xd0}, Rsp, kEdge + 4},
        {"ret", {0xc3}, Rsp, kEdge - 4},
        {"iretq", {0x48, 0xcf}, Rsp, kEdge - 12},
        {"movsq", {0x48, 0xa5}, Rdi, kEdge - 4},
        {"cmpxchg16b [rbx]", {0x48, 0x0f, 0xc7, 0x0b}, Rbx, kEdge},
        {"xadd [rbx], rax", {0x48, 0x0f, 0xc1, 0x03}, Rbx, kEdge - 4},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Long64);
        g.cpu.gpr[Rax] = 0x71000, g.cpu.gpr[Rbp] = 0x70000,
        g.cpu.gpr[Rsi] = g.cpu.gpr[Rdi] = g.cpu.gpr[Rbx] = 0x60000;
        g.setIdt(kPF, gate(kInt32, 0x38, g.handler(kPF), 1));
        g.put<uint64_t>(SystemGuest::kTssAt + 36, 0x5800);
        g.cpu.gpr[c.pointer] = c.at;
        auto before = g.cpu.gpr;
        auto flags = g.cpu.flags.value();
        g.write(kCodeAt, c.code);
        g.cpu.rip = kCodeAt;
        auto raised = g.step();
        REQUIRE(raised);
        CHECK(int(raised->vector) == kPF);
        CHECK(raised->cr2 >= kEdge);
        CHECK(raised->rip == kCodeAt);
        CHECK((raised->rflags & ~flag::RF) == flags);
        for (unsigned r = 0; r < 16; r++) CHECK(g.cpu.gpr.slot[r] == before.slot[r]);
    }
    for (uint8_t opcode : {0x60, 0x61}) {  // PUSHA, POPA at the edge of a segment
        SystemGuest g(Mode::Protected32);
        g.setGdt(kOther, segment(kDataRw, 0, 0x7ffff, 4));
        g.setGdt(kTry, segment(kDataDown, 0, 0x77fff, 4));
        g.cpu.loadSegment(Ss, opcode == 0x60 ? kTry : kOther);
        g.cpu.gpr[Rsp] = opcode == 0x60 ? 0x78010 : 0x80000 - 16;
        auto before = g.cpu.gpr;
        g.setIdt(kSS, gate(kTaskGateType, 0x58, 0));
        g.setGdt(0x58, segment(kTss32, 0x4000, 0x67, 0));
        g.put<uint32_t>(0x4000 + 32, g.handler(kSS));
        g.put<uint32_t>(0x4000 + 56, 0x5800);
        g.put<uint16_t>(0x4000 + 76, kCode0);
        g.put<uint16_t>(0x4000 + 80, kData0);
        stepRaw(g, {opcode});
        CHECK(g.cpu.rip == g.handler(kSS));
        for (unsigned r = 0; r < 8; r++)
            CHECK(g.get<uint32_t>(SystemGuest::kTssAt + 40 + r * 4) == uint32_t(before.slot[r]));
    }
}

TEST_CASE("alignment checks need AM, AC and CPL 3") {
    for (unsigned cpl : {0u, 3u})
        for (bool am : {false, true})
            for (bool ac : {false, true}) {
                CAPTURE(cpl);
                CAPTURE(am);
                CAPTURE(ac);
                SystemGuest g(Mode::Long64, cpl);
                if (am) g.cpu.setCr0(g.cpu.cr0 | cr0::AM);
                g.cpu.writeFlags(ac ? flag::AC | 2 : 2, ~0ull);
                g.cpu.gpr[Rbx] = 0x60001;
                auto raised = g.does({0x8b, 0x03});  // mov eax, [rbx]
                CHECK(raised.has_value() == (cpl == 3 && am && ac));
                if (raised) CHECK_RAISES(raised, kAC, 0);
                g.cpu.writeFlags(ac ? flag::AC | 2 : 2, ~0ull);
                CHECK(!g.does({0x8a, 0x03}));  // a byte is always aligned
            }
}

TEST_CASE("a handler that faults itself doesn't keep the processor for ever") {
    SystemGuest g(Mode::Real16);
    g.code({0x0f, 0x0b}, kRealCode);  // UD2
    g.write(g.handler(kUD),
            std::array<uint8_t, 2>{0x0f, 0x0b});  // the same again, on a stack that wraps round
    const uint64_t before = g.cpu.executed();
    g.cpu.run(1'000'000'000);
    CHECK(g.cpu.executed() == before);
    CHECK(g.cpu.rip == g.handler(kUD));
    CHECK(g.shutdown.empty());
    raiseNmi(g);  // and interrupts still get in
    g.cpu.run(1);
    CHECK(g.cpu.rip != g.handler(kUD));
}
