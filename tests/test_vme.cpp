// Virtual-8086 mode extensions and protected-mode virtual interrupts (SDM vol. 3, chapter 21.3 and 21.4; vol.
// 2, CLI, STI, PUSHF, POPF, INT n, IRET).
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint64_t kV86Code = 0x50000;  // 5000:0000

// Virtual-8086 code at 5000:0000 with its stack at 4000:3000.
struct V86Guest : SystemGuest {
    V86Guest(unsigned iopl, bool vme, uint64_t flags = 0) : SystemGuest(Mode::Protected32) {
        if (vme) cpu.setCr4(cpu.cr4 | cr4::VME);
        // Room for both bitmaps: redirection at 0x68, I/O permission behind it.
        cpu.tr.limit = 0x68 + 32 + 8192;
        put<uint16_t>(kTssAt + 102, 0x68 + 32);
        cpu.gpr[Rsp] = 0x80000;
        push<uint32_t>({0, 0x5000, flag::VM | iopl << 12 | 2 | flags, 0x3000, 0x4000, 0, 0, 0, 0});
        code({0xcf});
        cpu.singleStep();
        REQUIRE(cpu.v86());
    }
    // One instruction; true when it raised #GP(0).
    bool faults(std::initializer_list<uint8_t> bytes) {
        write(kV86Code, std::vector<uint8_t>(bytes));
        cpu.rip = 0;
        cpu.singleStep();
        if (cpu.v86()) return false;
        CHECK(cpu.rip == handler(kGP));
        CHECK(top<uint32_t>(0) == 0);
        CHECK(top<uint32_t>(1) == 0);
        return true;
    }
    void pushWord(uint16_t v) {
        cpu.gpr[Rsp] -= 2;
        put<uint16_t>(0x40000 + cpu.gpr[Rsp], v);
    }
    uint16_t word(unsigned n) { return get<uint16_t>(0x40000 + cpu.gpr[Rsp] + n * 2); }
    bool is(uint64_t f) { return cpu.flags.test(f); }
};

}  // namespace

TEST_CASE("CLI and STI in virtual-8086 mode") {
    for (unsigned iopl : {0, 2, 3})
        for (bool vme : {false, true})
            for (uint64_t vip : {uint64_t(0), flag::VIP}) {
                CAPTURE(iopl);
                CAPTURE(vme);
                CAPTURE(vip);
                const bool real = iopl == 3;
                V86Guest cli(iopl, vme, flag::IF | flag::VIF | vip);
                CHECK(cli.faults({0xfa}) == !(real || vme));
                if (cli.cpu.v86()) CHECK(cli.is(flag::IF) == !real);
                if (cli.cpu.v86()) CHECK(cli.is(flag::VIF) == real);
                V86Guest sti(iopl, vme, vip);
                CHECK(sti.faults({0xfb}) == !(real || (vme && !vip)));
                if (sti.cpu.v86()) CHECK(sti.is(flag::IF) == real);
                if (sti.cpu.v86()) CHECK(sti.is(flag::VIF) == !real);
            }
}

TEST_CASE("PUSHF and POPF in virtual-8086 mode") {
    for (unsigned iopl : {1, 3})
        for (bool vme : {false, true}) {
            CAPTURE(iopl);
            CAPTURE(vme);
            const bool real = iopl == 3;
            V86Guest push(iopl, vme, flag::VIF | flag::CF);
            CHECK(push.faults({0x9c}) == !(real || vme));
            if (push.cpu.v86())
                CHECK(push.word(0) == (flag::IOPL | flag::CF | 2 | (real ? 0 : uint16_t(flag::IF))));
            V86Guest wide(iopl, vme);
            CHECK(wide.faults({0x66, 0x9c}) == !real);
            V86Guest wide2(iopl, vme);
            CHECK(wide2.faults({0x66, 0x9d}) == !real);
            struct {
                uint64_t before;
                uint16_t image;
                bool faults;  // with VME at IOPL < 3
            } cases[] = {
                {0, flag::IF | flag::ZF | 2, false},
                {flag::VIF | flag::IF, flag::DF | 2, false},
                {flag::VIP, flag::IF | 2, true},
                {flag::VIP | flag::VIF, 2, false},
                {0, flag::TF | 2, true},
            };
            for (auto& c : cases) {
                CAPTURE(&c - cases);
                V86Guest pop(iopl, vme, c.before);
                pop.pushWord(c.image);
                const uint64_t sp = pop.cpu.gpr[Rsp];
                CHECK(pop.faults({0x9d}) == (!real && (!vme || c.faults)));
                if (!pop.cpu.v86()) continue;
                CHECK(pop.cpu.gpr[Rsp] == sp + 2);
                CHECK(pop.cpu.flags.iopl() == iopl);
                CHECK(pop.is(flag::IF) == (real ? bool(c.image & flag::IF) : bool(c.before & flag::IF)));
                CHECK(pop.is(flag::VIF) == (real ? bool(c.before & flag::VIF) : bool(c.image & flag::IF)));
                CHECK(pop.is(flag::DF) == bool(c.image & flag::DF));
            }
        }
}

TEST_CASE("IRET in virtual-8086 mode") {
    for (unsigned iopl : {0, 3})
        for (bool vme : {false, true})
            for (uint64_t vip : {uint64_t(0), flag::VIP}) {
                CAPTURE(iopl);
                CAPTURE(vme);
                CAPTURE(vip);
                const bool real = iopl == 3;
                V86Guest g(iopl, vme, vip);
                g.pushWord(flag::IF | flag::CF | 2);
                g.pushWord(0x5100);
                g.pushWord(0x20);
                CHECK(g.faults({0xcf}) == !(real || (vme && !vip)));
                if (!g.cpu.v86()) continue;
                CHECK(g.cpu.rip == 0x20);
                CHECK(g.cpu.seg[Cs].base == 0x51000);
                CHECK(g.cpu.gpr[Rsp] == 0x3000);
                CHECK(g.is(flag::IF) == real);
                CHECK(g.is(flag::VIF) == !real);
                CHECK(g.cpu.flags.iopl() == iopl);
                CHECK(g.is(flag::VIP) == bool(vip));
                V86Guest wide(iopl, vme);
                CHECK(wide.faults({0x66, 0xcf}) == !real);
            }
}

TEST_CASE("INT n in virtual-8086 mode: the redirection bitmap") {
    for (unsigned iopl : {0, 3})
        for (bool vme : {false, true})
            for (bool bit : {false, true}) {
                CAPTURE(iopl);
                CAPTURE(vme);
                CAPTURE(bit);
                V86Guest g(iopl, vme, flag::IF | flag::VIF | flag::CF);
                g.put<uint32_t>(0x21 * 4, 0x60001234);
                if (bit) g.put<uint8_t>(SystemGuest::kTssAt + 0x68 + 0x21 / 8, 1 << (0x21 & 7));
                g.write(kV86Code, std::vector<uint8_t>{0xcd, 0x21});
                g.cpu.rip = 0;
                g.cpu.singleStep();
                if (vme && !bit) {
                    REQUIRE(g.cpu.v86());
                    CHECK(g.cpu.rip == 0x1234);
                    CHECK(g.cpu.seg[Cs].selector == 0x6000);
                    CHECK(g.word(0) == 2);
                    CHECK(g.word(1) == 0x5000);
                    CHECK(g.word(2) == (flag::IF | flag::CF | 2 | flag::IOPL));
                    CHECK(g.is(flag::IF) == (iopl != 3));
                    CHECK(g.is(flag::VIF) == (iopl == 3));
                } else {
                    CHECK(!g.cpu.v86());
                    CHECK(g.cpu.rip == g.handler(iopl == 3 ? 0x21 : kGP));
                }
            }
    V86Guest breakpoint(0, true);  // INT3 does not look at the bitmap
    breakpoint.write(kV86Code, std::vector<uint8_t>{0xcc});
    breakpoint.cpu.rip = 0;
    breakpoint.cpu.singleStep();
    CHECK(breakpoint.cpu.rip == breakpoint.handler(kBP));
    V86Guest small(3, true);  // the bitmap lies behind the TSS
    small.cpu.tr.limit = 0x68;
    CHECK(small.faults({0xcd, 0x80}));
}

TEST_CASE("protected-mode virtual interrupts: CLI and STI at CPL 3") {
    for (unsigned cpl : {0, 3})
        for (unsigned iopl : {0, 3})
            for (bool pvi : {false, true})
                for (uint64_t vip : {uint64_t(0), flag::VIP}) {
                    CAPTURE(cpl);
                    CAPTURE(iopl);
                    CAPTURE(pvi);
                    CAPTURE(vip);
                    const bool real = cpl <= iopl;
                    SystemGuest g(Mode::Protected32, cpl);
                    if (pvi) g.cpu.setCr4(g.cpu.cr4 | cr4::PVI);
                    g.cpu.flags.set(iopl << 12 | vip | 2);
                    auto raised = g.does({0xfb});
                    CHECK(raised.has_value() == !(real || (pvi && !vip)));
                    if (raised) {
                        CHECK_RAISES(raised, kGP, 0);
                        continue;
                    }
                    CHECK(g.cpu.flags.test(flag::IF) == real);
                    CHECK(g.cpu.flags.test(flag::VIF) == !real);
                    CHECK_FALSE(g.does({0xfa}));
                    CHECK(!g.cpu.flags.test(flag::IF | flag::VIF));
                }
}
