// Debug registers, single steps, branch steps and RF (SDM vol. 3, chapter 18).
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint64_t kCodeAt = SystemGuest::kCodeAt, kDataAt = SystemGuest::kDataAt;
constexpr uint64_t kFixed6 = 0xffff0ff0;
enum Type : unsigned { kFetch, kWrite, kIo, kReadWrite };
constexpr unsigned kLength1 = 0, kLength2 = 1, kLength8 = 2, kLength4 = 3;
constexpr Mode kModes[] = {Mode::Protected32, Mode::Compat32, Mode::Long64};

// DR7 for breakpoint `n`; enabled by G unless `enable` says otherwise.
uint64_t control(unsigned n, unsigned type, unsigned length, unsigned enable = 2) {
    return uint64_t(enable) << (n * 2) | uint64_t(type | length << 2) << (16 + n * 4);
}

void watch(SystemGuest& g, unsigned n, uint64_t at, unsigned type, unsigned length, unsigned enable = 2) {
    g.cpu.writeDr(n, at);
    g.cpu.writeDr(7, g.cpu.dr[7] | control(n, type, length, enable));
}

uint64_t bits6(SystemGuest& g) { return g.cpu.dr[6] & ~kFixed6; }

}  // namespace

TEST_CASE("reserved bits of DR6 and DR7 are fixed, their upper halves fault") {
    SystemGuest g(Mode::Long64);
    g.cpu.gpr[Rax] = 0xffffffff;
    CHECK_FALSE(g.does({0x0f, 0x23, 0xf0}));  // mov dr6, rax
    CHECK(g.cpu.dr[6] == 0xffffefff);
    g.cpu.gpr[Rax] = 0;
    CHECK_FALSE(g.does({0x0f, 0x23, 0xf0}));
    CHECK(g.cpu.dr[6] == kFixed6);
    g.cpu.gpr[Rax] = 0xffffdfff;              // without GD
    CHECK_FALSE(g.does({0x0f, 0x23, 0xf8}));  // mov dr7, rax
    CHECK(g.cpu.dr[7] == 0xffff07ff);
    g.cpu.gpr[Rax] = 0;
    CHECK_FALSE(g.does({0x0f, 0x23, 0xf8}));
    CHECK(g.cpu.dr[7] == 0x400);
    g.cpu.gpr[Rax] = 1ull << 32;
    CHECK_RAISES(g.does({0x0f, 0x23, 0xf0}), kGP, 0);
    CHECK_RAISES(g.does({0x0f, 0x23, 0xf8}), kGP, 0);
    g.cpu.gpr[Rax] = 0x123456789abcdef0;  // DR0..DR3 take anything
    CHECK_FALSE(g.does({0x0f, 0x23, 0xd8}));
    CHECK(g.cpu.dr[3] == 0x123456789abcdef0);
}

TEST_CASE("DR4 and DR5 are DR6 and DR7, or #UD with CR4.DE; CPL 0 only") {
    for (unsigned cpl : {0, 3})
        for (bool de : {false, true})
            for (uint8_t opcode : {0x21, 0x23})
                for (unsigned n : {4, 5, 6, 7}) {
                    CAPTURE(cpl);
                    CAPTURE(de);
                    CAPTURE(n);
                    SystemGuest g(Mode::Protected32, cpl);
                    if (de) g.cpu.setCr4(g.cpu.cr4 | cr4::DE);
                    g.cpu.gpr[Rax] = 0xffff0ff1;
                    auto raised = g.does({0x0f, opcode, uint8_t(0xc0 | n << 3)});
                    if (de && n < 6) {
                        CHECK_RAISES(raised, kUD, 0);
                    } else if (cpl) {
                        CHECK_RAISES(raised, kGP, 0);
                    } else if (opcode == 0x21) {
                        CHECK(g.cpu.gpr[Rax] == (n & 1 ? 0x400 : kFixed6));
                    } else {
                        CHECK((n & 1 ? g.cpu.dr[7] : g.cpu.dr[6]) == (n & 1 ? 0xffff07f1 : 0xffff0ff1));
                    }
                }
}

TEST_CASE("general detect: touching a debug register faults with BD, GD is clear in the handler") {
    for (uint8_t opcode : {0x21, 0x23}) {
        SystemGuest g(Mode::Long64);
        g.cpu.writeDr(7, dr7::GD);
        auto raised = g.does({0x0f, opcode, 0xc0});
        CHECK_RAISES(raised, kDB, 0);
        CHECK(raised->rip == kCodeAt);
        CHECK((raised->rflags & flag::RF) != 0);
        CHECK(bits6(g) == dr6::BD);
        CHECK((g.cpu.dr[7] & dr7::GD) == 0);
        CHECK_FALSE(g.does({0x0f, opcode, 0xc0}));
    }
    SystemGuest g(Mode::Protected32, 3);  // the privilege is checked first
    g.cpu.writeDr(7, dr7::GD);
    CHECK_RAISES(g.does({0x0f, 0x21, 0xc0}), kGP, 0);
}

TEST_CASE("data breakpoints: types, lengths, alignment and overlap") {
    struct {
        unsigned type, length;
        uint64_t at;       // DRn, from kDataAt
        uint64_t operand;  // of the access, from kDataAt
        unsigned size;
        bool write, hits;
    } cases[] = {
        {kWrite, kLength1, 4, 4, 1, true, true},
        {kWrite, kLength1, 4, 4, 1, false, false},
        {kReadWrite, kLength1, 4, 4, 1, false, true},
        {kReadWrite, kLength1, 4, 4, 1, true, true},
        {kWrite, kLength1, 4, 3, 1, true, false},
        {kWrite, kLength1, 4, 5, 1, true, false},
        {kWrite, kLength1, 4, 1, 4, true, true},
        {kWrite, kLength1, 4, 0, 4, true, false},
        {kWrite, kLength2, 4, 5, 1, true, true},
        {kWrite, kLength2, 5, 4, 1, true, true},
        {kWrite, kLength2, 5, 6, 1, true, false},
        {kWrite, kLength4, 4, 7, 1, true, true},
        {kWrite, kLength4, 6, 4, 1, true, true},
        {kWrite, kLength4, 4, 8, 4, true, false},
        {kReadWrite, kLength4, 4, 2, 4, false, true},
        {kReadWrite, kLength8, 8, 15, 1, false, true},
        {kReadWrite, kLength8, 13, 8, 1, false, true},
        {kReadWrite, kLength8, 8, 16, 4, false, false},
        {kFetch, kLength1, 4, 4, 1, true, false},
        {kIo, kLength1, 4, 4, 1, true, false},
        {kReadWrite, kLength1, 0xfff, 0xffe, 4, false, true},  // over the end of a page
        {kReadWrite, kLength1, 0x1001, 0xffe, 4, true, true},  // in the second page
        {kReadWrite, kLength4, 0x1004, 0xffe, 4, true, false},
    };
    for (Mode mode : kModes)
        for (bool inBlock : {false, true})
            for (unsigned n = 0; n < 4; n++)
                for (auto& c : cases) {
                    CAPTURE(unsigned(mode));
                    CAPTURE(inBlock);
                    CAPTURE(n);
                    CAPTURE(&c - cases);
                    SystemGuest g(mode);
                    g.put<uint32_t>(kDataAt + c.operand, 0x01020304);
                    watch(g, n, kDataAt + c.at, c.type, c.length);
                    g.cpu.gpr[Rsi] = kDataAt + c.operand;
                    g.cpu.gpr[Rax] = 0x11223344;
                    const uint8_t opcode = uint8_t((c.write ? 0x88 : 0x8a) | (c.size > 1));
                    // nop; mov; inc ebx; hlt
                    g.code({0x90, opcode, 0x06, 0xff, 0xc3, 0xf4});
                    std::optional<Caught> raised;
                    if (inBlock) {
                        raised = g.runToException(3);
                    } else {
                        CHECK_FALSE(g.step());
                        raised = g.step();
                    }
                    CHECK(raised.has_value() == c.hits);
                    if (!raised) continue;
                    CHECK(int(raised->vector) == kDB);
                    CHECK(raised->rip == kCodeAt + 3);
                    CHECK(g.cpu.gpr[Rbx] == 0);
                    CHECK(bits6(g) == 1u << n);
                    CHECK((raised->rflags & flag::RF) == 0);
                    if (c.write) CHECK(g.get<uint8_t>(kDataAt + c.operand) == 0x44);
                }
}

TEST_CASE("instructions that meet a data breakpoint happen once") {
    struct {
        const char* what;
        std::initializer_list<uint8_t> code;
        uint64_t result;  // of the watched dword
    } cases[] = {
        {"add [rsi], eax", {0x01, 0x06, 0xf4}, 105},
        {"lock xadd [rsi], eax", {0xf0, 0x0f, 0xc1, 0x06, 0xf4}, 105},
        {"inc dword [rsi]", {0xff, 0x06, 0xf4}, 101},
        {"xchg [rsi], eax", {0x87, 0x06, 0xf4}, 5},
        {"push rax", {0x50, 0xf4}, 5},
        {"call", {0xe8, 0, 0, 0, 0, 0xf4}, uint32_t(kCodeAt + 5)},
        {"stosd", {0xab, 0xf4}, 5},
        {"add across two pages", {0x01, 0x45, 0x00, 0xf4}, 100},
    };
    for (auto& c : cases) {
        CAPTURE(std::string(c.what));
        SystemGuest g(Mode::Long64);
        g.put<uint64_t>(kDataAt, 100);
        g.put<uint32_t>(kDataAt + 0xffe, 100);
        watch(g, 1, kDataAt, kWrite, kLength8);
        watch(g, 2, kDataAt + 0x1000, kReadWrite, kLength1);
        g.cpu.gpr[Rsi] = g.cpu.gpr[Rdi] = kDataAt;
        g.cpu.gpr[Rsp] = kDataAt + 8;
        g.cpu.gpr[Rbp] = kDataAt + 0xffe;
        g.cpu.gpr[Rax] = 5;
        g.code(c.code);
        auto raised = g.runToException(3);
        REQUIRE(raised.has_value());
        CHECK(int(raised->vector) == kDB);
        CHECK(g.get<uint32_t>(kDataAt) == c.result);
        const bool crossing = g.cpu.dr[6] & 4;
        CHECK(g.get<uint32_t>(kDataAt + 0xffe) == (crossing ? 105 : 100));
    }
}

TEST_CASE("B0..B3 tell disabled breakpoints too, but those alone do not trap") {
    SystemGuest g(Mode::Protected32);
    g.cpu.gpr[Rsi] = kDataAt;
    watch(g, 0, kDataAt, kWrite, kLength4, 0);
    CHECK_FALSE(g.does({0x89, 0x06}));
    CHECK(bits6(g) == 0);
    watch(g, 2, kDataAt, kReadWrite, kLength1, 1);
    watch(g, 3, kDataAt + 4, kReadWrite, kLength1);
    g.cpu.writeDr(6, 8);  // #DB clears what it does not set
    CHECK_RAISES(g.does({0x89, 0x06}), kDB, 0);
    CHECK(bits6(g) == 5);
}

TEST_CASE("an instruction that faults reports no breakpoint it met on the way") {
    SystemGuest g(Mode::Protected32);
    watch(g, 0, kDataAt, kReadWrite, kLength4);
    g.cpu.gpr[Rsi] = kDataAt;
    g.cpu.seg[Es].unusable = true;
    g.cpu.segmentsChanged();
    CHECK_RAISES(g.does({0xa5}), kGP, 0);  // movsd: the store can't be
    CHECK(bits6(g) == 0);
}

TEST_CASE("repeated string instructions trap behind the iteration, with RF set unless it was the last") {
    for (bool inBlock : {false, true}) {
        CAPTURE(inBlock);
        SystemGuest g(Mode::Long64);
        watch(g, 0, kDataAt + 20, kWrite, kLength2);
        g.cpu.gpr[Rdi] = kDataAt;
        g.cpu.gpr[Rcx] = 22;
        g.cpu.gpr[Rax] = 7;
        g.code({0x90, 0xf3, 0xaa, 0xf4});  // rep stosb
        std::optional<Caught> raised;
        for (int n = 0; n < 40 && !raised; n++) {
            if (inBlock) {
                raised = g.runToException(40);
            } else {
                g.cpu.singleStep();
                if (g.cpu.rip == g.handler(kDB)) raised = g.runToException(1);
            }
        }
        REQUIRE(raised.has_value());
        CHECK(raised->rip == kCodeAt + 1);
        CHECK(g.cpu.gpr[Rcx] == 1);
        CHECK((raised->rflags & flag::RF) != 0);
        g.cpu.flags.change(flag::RF, true);  // as IRET does
        raised = g.runToException(5);
        REQUIRE(raised.has_value());
        CHECK(raised->rip == kCodeAt + 3);
        CHECK((raised->rflags & flag::RF) == 0);
        CHECK(g.get<uint8_t>(kDataAt + 21) == 7);
    }
}

TEST_CASE("instruction breakpoints: before the instruction, held off by RF for one instruction") {
    for (Mode mode : kModes) {
        CAPTURE(unsigned(mode));
        SystemGuest g(mode);
        g.code({0xff, 0xc3, 0xff, 0xc3, 0xff, 0xc3, 0xf4});  // inc ebx, thrice
        g.cpu.gpr[Rbx] = 0;
        CHECK_FALSE(g.runToHalt());  // the block is known, and chained
        REQUIRE(g.cpu.gpr[Rbx] == 3);
        g.cpu.halted = false;
        g.cpu.rip = kCodeAt;
        watch(g, 3, kCodeAt + 2, kFetch, kLength1);
        auto raised = g.runToException(5);
        CHECK_RAISES(raised, kDB, 0);
        CHECK(raised->rip == kCodeAt + 2);
        CHECK(g.cpu.gpr[Rbx] == 4);
        CHECK(bits6(g) == 8);
        CHECK((raised->rflags & flag::RF) == 0);
        g.cpu.flags.change(flag::RF, true);
        g.cpu.singleStep();
        CHECK(g.cpu.gpr[Rbx] == 5);
        CHECK(!g.cpu.flags.test(flag::RF));
        g.cpu.rip = kCodeAt + 2;
        CHECK_RAISES(g.step(), kDB, 0);
        g.cpu.writeDr(7, 0);
        CHECK_FALSE(g.runToHalt());
        CHECK(g.cpu.gpr[Rbx] == 7);
    }
}

TEST_CASE("an instruction breakpoint is hit by a jump from another page, by linear address") {
    SystemGuest g(Mode::Long64);
    g.map(0x90000, kCodeAt);                                   // an alias of the code
    g.code({0xff, 0xc3, 0xf4}, kCodeAt);                       // inc ebx; hlt
    g.code({0xe9, 0xfb, 0xef, 0xff, 0xff}, kCodeAt + 0x1000);  // jmp kCodeAt
    CHECK_FALSE(g.runToHalt());
    CHECK(g.cpu.gpr[Rbx] == 1);
    watch(g, 0, kCodeAt, kFetch, kLength1);
    g.cpu.halted = false;
    g.cpu.rip = 0x90000;
    CHECK_FALSE(g.runToHalt());
    CHECK(g.cpu.gpr[Rbx] == 2);
    g.cpu.halted = false;
    g.cpu.rip = kCodeAt + 0x1000;
    auto raised = g.runToException(5);
    CHECK_RAISES(raised, kDB, 0);
    CHECK(raised->rip == kCodeAt);
    CHECK(g.cpu.gpr[Rbx] == 2);
}

TEST_CASE(
    "an instruction breakpoint on the handler of #DB itself: nothing is executed, yet run() comes back") {
    for (Mode mode : kModes) {
        CAPTURE(unsigned(mode));
        SystemGuest g(mode);
        const uint64_t handler = GuestBench::kHandlers + 8 * kDB;
        watch(g, 0, handler, kFetch, kLength1);
        g.cpu.rip = handler;
        const uint64_t sp = g.cpu.gpr[Rsp], before = g.cpu.executed();
        g.cpu.run(1'000'000);
        CHECK(g.cpu.executed() == before);
        CHECK(g.cpu.gpr[Rsp] < sp);
    }
}

TEST_CASE("an instruction breakpoint comes before the instruction's own faults") {
    SystemGuest g(Mode::Long64);
    watch(g, 0, 0x700000, kFetch, kLength1);
    g.cpu.rip = 0x700000;  // not mapped
    CHECK_RAISES(g.step(), kDB, 0);
    g.cpu.rip = 0x700000;
    g.cpu.flags.change(flag::RF, true);
    auto raised = g.step();
    REQUIRE(raised.has_value());
    CHECK(int(raised->vector) == kPF);
    CHECK((raised->rflags & flag::RF) != 0);
}

TEST_CASE("I/O breakpoints with CR4.DE") {
    struct {
        unsigned length;
        uint64_t at;
        uint16_t port;
        unsigned size;
        bool de, hits;
    } cases[] = {
        {kLength1, 0x80, 0x80, 1, true, true},  {kLength1, 0x80, 0x80, 1, false, false},
        {kLength1, 0x80, 0x81, 1, true, false}, {kLength1, 0x82, 0x80, 4, true, true},
        {kLength1, 0x84, 0x80, 4, true, false}, {kLength2, 0x81, 0x80, 1, true, true},
        {kLength4, 0x80, 0x83, 1, true, true},  {kLength4, 0x10080, 0x80, 1, true, false},
    };
    for (auto& c : cases)
        for (bool out : {false, true}) {
            CAPTURE(&c - cases);
            CAPTURE(out);
            SystemGuest g(Mode::Protected32);
            if (c.de) g.cpu.setCr4(g.cpu.cr4 | cr4::DE);
            watch(g, 1, c.at, kIo, c.length);
            g.cpu.gpr[Rdx] = c.port;
            g.code({0x90, uint8_t((out ? 0xee : 0xec) | (c.size > 1)), 0x43, 0xf4});
            auto raised = g.runToException(3);
            CHECK(raised.has_value() == c.hits);
            if (!raised) continue;
            CHECK(raised->rip == kCodeAt + 2);
            CHECK(g.cpu.gpr[Rbx] == 0);
            CHECK(bits6(g) == 2);
        }
    SystemGuest g(Mode::Protected32);  // REP: behind each iteration
    g.cpu.setCr4(g.cpu.cr4 | cr4::DE);
    watch(g, 1, 0x80, kIo, kLength1);
    g.cpu.gpr[Rdx] = 0x80;
    g.cpu.gpr[Rcx] = 3;
    g.cpu.gpr[Rdi] = kDataAt;
    g.code({0xf3, 0x6c, 0xf4});
    auto raised = g.runToException(3);
    CHECK_RAISES(raised, kDB, 0);
    CHECK(raised->rip == kCodeAt);
    CHECK(g.cpu.gpr[Rcx] == 2);
}

TEST_CASE("MOV SS delays a data breakpoint by one instruction and holds off the others") {
    for (bool inBlock : {false, true}) {
        CAPTURE(inBlock);
        SystemGuest g(Mode::Protected32);
        g.put<uint16_t>(kDataAt, kData0);
        watch(g, 0, kDataAt, kReadWrite, kLength2);
        watch(g, 1, kCodeAt + 3, kFetch, kLength1);
        g.cpu.gpr[Rsi] = kDataAt;
        g.code({0x90, 0x8e, 0x16, 0x43, 0x43, 0xf4});  // mov ss, [esi]; inc ebx; inc ebx
        std::optional<Caught> raised;
        if (inBlock) {
            raised = g.runToException(6);
        } else {
            CHECK_FALSE(g.step());
            CHECK_FALSE(g.step());
            raised = g.step();
        }
        CHECK_RAISES(raised, kDB, 0);
        CHECK(raised->rip == kCodeAt + 4);
        CHECK(g.cpu.gpr[Rbx] == 1);
        CHECK(bits6(g) == 1);
    }
    // Together with that of INT1.
    SystemGuest one(Mode::Protected32);
    one.put<uint16_t>(kDataAt, kData0);
    watch(one, 0, kDataAt, kReadWrite, kLength2);
    one.cpu.gpr[Rsi] = kDataAt;
    one.code({0x8e, 0x16, 0xf1});
    one.cpu.singleStep();
    one.cpu.singleStep();
    CHECK(one.cpu.rip == one.handler(kDB));
    CHECK(one.top<uint32_t>(0) == kCodeAt + 3);
    CHECK(bits6(one) == 1);
    CHECK(one.cpu.pendingDebug == 0);
    // Into the handler of a software interrupt.
    SystemGuest g(Mode::Protected32);
    g.put<uint16_t>(kDataAt, kData0);
    watch(g, 0, kDataAt, kReadWrite, kLength2);
    g.cpu.gpr[Rsi] = kDataAt;
    g.code({0x8e, 0x16, 0xcd, 0x40});
    g.cpu.singleStep();
    g.cpu.singleStep();
    CHECK(g.cpu.rip == g.handler(kDB));
    CHECK(g.top<uint32_t>(0) == g.handler(0x40));
    CHECK(g.top<uint32_t>(3) == kCodeAt + 4);
}

TEST_CASE("the stack of an interrupt may be watched: the trap comes at the handler's first instruction") {
    SystemGuest g(Mode::Protected32);
    watch(g, 0, 0x80000 - 4, kWrite, kLength4);
    g.code({0x90, 0xcd, 0x40});
    g.cpu.run(1);
    g.cpu.singleStep();
    CHECK(bits6(g) == 1);
    CHECK(g.top<uint32_t>(0) == g.handler(0x40));
    CHECK(g.top<uint32_t>(3) == kCodeAt + 3);
}

TEST_CASE("TF and a breakpoint make one #DB; a step alone clears B0..B3") {
    SystemGuest g(Mode::Protected32);
    watch(g, 2, kDataAt, kReadWrite, kLength4);
    g.cpu.gpr[Rsi] = kDataAt;
    g.cpu.flags.change(flag::TF, true);
    CHECK_RAISES(g.does({0x8b, 0x06}), kDB, 0);
    CHECK(bits6(g) == (dr6::BS | 4));
    g.cpu.flags.change(flag::TF, true);
    CHECK_RAISES(g.does({0x90}), kDB, 0);
    CHECK(bits6(g) == dr6::BS);
}

TEST_CASE("branch single-step: only taken branches trap, and #DB clears BTF") {
    struct {
        const char* what;
        std::initializer_list<uint8_t> code;
        bool traps;
    } cases[] = {
        {"nop", {0x90}, false},
        {"jmp to the next", {0xeb, 0}, true},
        {"jz not taken", {0x74, 4}, false},
        {"jz to the next, not taken", {0x74, 0}, false},
        {"jnz taken", {0x75, 4}, true},
        {"jnz to the next", {0x75, 0}, true},
        {"loop taken", {0xe2, 4}, true},
        {"call", {0xe8, 0, 0, 0, 0}, true},
        {"jmp eax", {0xff, 0xe0}, true},
        {"ret", {0xc3}, true},
        {"far jmp", {0xea, 0, 0, 5, 0, 8, 0}, true},
        {"wrmsr is none", {0x0f, 0x30}, false},
    };
    for (auto& c : cases) {
        CAPTURE(std::string(c.what));
        SystemGuest g(Mode::Protected32);
        g.cpu.writeMsr(0x1d9, debugctl::BTF);
        CHECK(g.cpu.readMsr(0x1d9) == debugctl::BTF);
        g.cpu.flags.set(flag::TF | 2);
        g.cpu.gpr[Rax] = kCodeAt + 0x40;
        g.cpu.gpr[Rcx] = 0xc0000080;
        if (std::string_view(c.what).starts_with("loop")) g.cpu.gpr[Rcx] = 5;
        if (std::string_view(c.what).starts_with("wrmsr")) g.cpu.gpr[Rax] = g.cpu.gpr[Rdx] = 0;
        auto raised = g.does(c.code);
        CHECK(raised.has_value() == c.traps);
        CHECK(g.cpu.readMsr(0x1d9) == (c.traps ? 0 : debugctl::BTF));
        if (raised) CHECK(bits6(g) == dr6::BS);
    }
}

TEST_CASE("SYSCALL and SYSRET trap by the TF they load") {
    for (bool masked : {false, true}) {
        CAPTURE(masked);
        SystemGuest g(Mode::Long64, 3);
        g.cpu.msr.star = uint64_t(0x13) << 48 | uint64_t(kCode0) << 32;
        g.cpu.msr.lstar = kCodeAt + 0x100;
        g.cpu.msr.sfmask = masked ? flag::TF : 0;
        g.cpu.flags.set(flag::TF | 2);
        g.code({0x0f, 0x05});
        g.cpu.singleStep();
        CHECK(g.cpu.rip == (masked ? kCodeAt + 0x100 : g.handler(kDB)));
        if (!masked) CHECK(g.top<uint64_t>(0) == kCodeAt + 0x100);
    }
    for (bool inBlock : {false, true}) {
        SystemGuest g(Mode::Long64);
        g.cpu.msr.star = uint64_t(0x13) << 48;
        g.cpu.gpr[Rcx] = kCodeAt + 0x100;
        g.cpu.gpr[R11] = flag::TF | 2;
        g.code({0x90, 0x48, 0x0f, 0x07});
        if (!inBlock) g.cpu.singleStep();
        inBlock ? g.cpu.run(3) : g.cpu.singleStep();
        if (inBlock) g.cpu.run(1);
        CHECK(g.top<uint64_t>(0) == kCodeAt + 0x100);
        CHECK(g.cpu.cpl == 0);
        CHECK(bits6(g) == dr6::BS);
    }
}

TEST_CASE("RF comes from IRETD and IRETQ, lasts one instruction, and POPF does not set it") {
    SystemGuest g(Mode::Protected32);
    watch(g, 0, kDataAt, kFetch, kLength1);
    g.code({0xff, 0xc3, 0xff, 0xc3}, kDataAt);
    g.push<uint32_t>({kDataAt, kCode0, flag::RF | 2});
    CHECK_FALSE(g.does({0xcf}));
    CHECK(g.cpu.rip == kDataAt);
    CHECK(g.cpu.flags.test(flag::RF));
    CHECK_FALSE(g.step());
    CHECK(!g.cpu.flags.test(flag::RF));
    g.push<uint32_t>({flag::RF | 2});
    CHECK_FALSE(g.does({0x9d}));
    CHECK(!g.cpu.flags.test(flag::RF));
    g.push<uint32_t>({kDataAt, kCode0, 2});
    g.code({0xcf});
    g.cpu.singleStep();
    CHECK_RAISES(g.step(), kDB, 0);
}

TEST_CASE("the T flag of a TSS traps before the task's first instruction") {
    SystemGuest g(Mode::Protected32);
    g.setGdt(0x40, segment(kTss32, 0x4000, 0x67, 0));
    g.put<uint32_t>(0x4000 + 32, 0x70000);
    g.put<uint32_t>(0x4000 + 36, 2);
    g.put<uint32_t>(0x4000 + 56, 0x5800);
    for (unsigned r = 0; r < 4; r++) g.put<uint16_t>(0x4000 + 72 + r * 4, r == Cs ? kCode0 : kData0);
    g.put<uint16_t>(0x4000 + 100, 1);
    watch(g, 0, 0x70000, kFetch, kLength1, 1);  // local: gone with the old task
    g.code({0xea, 0, 0, 0, 0, 0x40, 0});
    g.cpu.singleStep();
    CHECK(g.cpu.rip == g.handler(kDB));
    CHECK(g.top<uint32_t>(0) == 0x70000);
    CHECK(bits6(g) == dr6::BT);
    CHECK((g.cpu.dr[7] & 0x155) == 0);
}

TEST_CASE("breakpoints that are off again leave no trace in the TLB") {
    SystemGuest g(Mode::Long64);
    watch(g, 0, kDataAt, kReadWrite, kLength4);
    g.cpu.gpr[Rsi] = kDataAt + 8;
    CHECK_FALSE(g.does({0x8b, 0x06}));
    CHECK(!g.cpu.hits<uint32_t, false>(kDataAt + 8));
    g.cpu.writeDr(7, 0);
    CHECK_FALSE(g.does({0x8b, 0x06}));
    CHECK(g.cpu.hits<uint32_t, false>(kDataAt + 8));
}
