// Control registers, mode switches, paging as the CPU sees it, MSRs, CPUID, system calls (SDM vol. 3,
// chapters 2, 4, 9; vol. 2).
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint64_t kCodeAt = SystemGuest::kCodeAt, kDataAt = SystemGuest::kDataAt;
constexpr uint16_t kTry = 0x40;

std::optional<Caught> setCr(SystemGuest& g, unsigned cr, uint64_t v) {
    g.cpu.gpr[Rax] = v;
    return g.does({0x0f, 0x22, uint8_t(0xc0 | cr << 3)});
}
std::optional<Caught> wrmsr(SystemGuest& g, uint32_t index, uint64_t v) {
    g.cpu.gpr[Rcx] = index, g.cpu.gpr[Rax] = uint32_t(v), g.cpu.gpr[Rdx] = v >> 32;
    return g.does({0x0f, 0x30});
}
std::optional<Caught> rdmsr(SystemGuest& g, uint32_t index) {
    g.cpu.gpr[Rcx] = index;
    return g.does({0x0f, 0x32});
}
std::optional<Caught> readByte(SystemGuest& g, uint64_t at) {
    g.cpu.gpr[Rbx] = at;
    return g.does({0x8a, 0x03});  // mov al, [rbx]
}
std::optional<Caught> writeByte(SystemGuest& g, uint64_t at) {
    g.cpu.gpr[Rbx] = at;
    return g.does({0x88, 0x03});
}

// The page-table entry of a bench's linear address.
uint64_t entryOf(SystemGuest& g, uint64_t linear, int leaf = 0) {
    uint64_t table = g.cpu.cr3;
    for (int level = 3; level > leaf; level--)
        table = g.get<uint64_t>(table + (linear >> (12 + 9 * level) & 511) * 8) & 0xffffffffff000;
    return table + (linear >> (12 + 9 * leaf) & 511) * 8;
}

}  // namespace

TEST_CASE("control registers: combinations that do not exist") {
    SystemGuest g(Mode::Long64);
    const uint64_t cr0 = g.cpu.cr0, cr4 = g.cpu.cr4;
    struct {
        const char* what;
        unsigned cr;
        uint64_t value;
    } cases[] = {
        {"PG without PE", 0, cr0 & ~cr0::PE},
        {"NW without CD", 0, cr0 | cr0::NW},
        {"upper half of CR0", 0, cr0 | 1ull << 32},
        {"PG off in 64-bit mode", 0, cr0 & ~cr0::PG},
        {"PAE off in long mode", 4, cr4 & ~cr4::PAE},
        {"a bit of CR4 that CPUID does not offer", 4, cr4 | cr4::VMXE},
        {"LA57 on in long mode", 4, cr4 | cr4::LA57},
        {"bit 31 of CR4", 4, cr4 | 1u << 31},
        {"an address beyond the physical width", 3, 1ull << g.cpu.model.physicalBits},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        CHECK_RAISES(setCr(g, c.cr, c.value), kGP, 0);
    }
    CHECK(g.cpu.cr0 == cr0);
    CHECK(g.cpu.cr4 == cr4);
    CHECK_RAISES(setCr(g, 1, 0), kUD, 0);
    CHECK_RAISES(wrmsr(g, 0xc0000080, g.cpu.efer ^ efer::LME), kGP, 0);
    CHECK_RAISES(wrmsr(g, 0xc0000080, g.cpu.efer | 1 << 12), kGP, 0);
    SystemGuest user(Mode::Long64, 3);
    CHECK_RAISES(setCr(user, 0, 0), kGP, 0);
    CHECK_RAISES(user.does({0x0f, 0x20, 0xc0}), kGP, 0);  // mov rax, cr0
}

TEST_CASE("real mode to protected, to long, to compatibility mode, and all the way back") {
    SystemGuest g(Mode::Real16);
    g.cpu.gdtr = {SystemGuest::kGdtAt, 0x7f};
    g.setGdt(0x08, segment(kCodeRx, 0, 0xfffff, 12));
    g.setGdt(0x10, segment(kDataRw, 0, 0xfffff, 12));
    g.setGdt(0x18, segment(kCodeRx, 0, 0xfffff, 10));  // 64-bit
    g.setGdt(0x20, segment(kCodeRx, 0, 0xffff, 0));    // 16-bit
    auto step = [&](std::initializer_list<uint8_t> bytes) {
        g.write(g.cpu.rip + g.cpu.seg[Cs].base, std::vector<uint8_t>(bytes));
        g.cpu.singleStep();
        REQUIRE(g.shutdown.empty());
    };
    g.cpu.rip = 0x7000;
    g.cpu.gpr[Rax] = cr0::PE;
    step({0x0f, 0x01, 0xf0});  // lmsw ax
    CHECK(g.cpu.protectedMode());
    step({0xea, 0, 0x70, 8, 0});
    CHECK(g.cpu.seg[Cs].big());
    g.cpu.gpr[Rax] = 0;
    step({0x0f, 0x01, 0xf0});  // does not clear PE
    CHECK(g.cpu.protectedMode());

    // 2 MiB pages: PML4 at 8000h, PDPT at 9000h, PD at a000h.
    g.put<uint64_t>(0x8000, 0x9003);
    g.put<uint64_t>(0x9000, 0xa003);
    g.put<uint64_t>(0xa000, 0x83);
    g.cpu.gpr[Rax] = cr4::PAE;
    step({0x0f, 0x22, 0xe0});
    g.cpu.gpr[Rax] = 0x8000;
    step({0x0f, 0x22, 0xd8});
    g.cpu.gpr[Rcx] = 0xc0000080, g.cpu.gpr[Rax] = efer::LME, g.cpu.gpr[Rdx] = 0;
    step({0x0f, 0x30});
    CHECK(!g.cpu.longMode());
    g.cpu.gpr[Rax] = cr0::PE | cr0::PG;
    step({0x0f, 0x22, 0xc0});
    CHECK(g.cpu.longMode());
    CHECK(!g.cpu.code64());
    step({0xea, 0, 0x71, 0, 0, 0x18, 0});
    CHECK(g.cpu.code64());
    g.cpu.gpr[R8] = 1;
    step({0x4d, 0x01, 0xc0});  // add r8, r8
    CHECK(g.cpu.gpr[R8] == 2);
    g.cpu.gpr[Rsp] = 0x4000;
    g.put<uint64_t>(0x4000, 0x7200);
    g.put<uint64_t>(0x4008, 0x08);
    step({0x48, 0xcb});  // retfq to compatibility mode
    CHECK(!g.cpu.code64());
    CHECK(g.cpu.longMode());
    g.cpu.gpr[Rax] = cr0::PE;
    step({0x0f, 0x22, 0xc0});  // paging off: long mode ends
    CHECK(!g.cpu.longMode());
    CHECK((g.cpu.efer & efer::LME) != 0);
    step({0xea, 0, 0x73, 0, 0, 0x20, 0});
    g.cpu.gpr[Rax] = 0;
    step({0x0f, 0x22, 0xc0});
    CHECK(g.cpu.real());
    step({0xea, 0, 0x74, 0, 0});
    CHECK(g.cpu.rip == 0x7400);
    step({0xcd, 0x21});
    CHECK(g.cpu.rip == g.handler(0x21));
}

TEST_CASE("long mode is not entered without PAE, nor from a code segment with L") {
    for (bool pae : {false, true}) {
        SystemGuest g(Mode::Protected32);
        if (pae) {
            g.cpu.setCr4(g.cpu.cr4 | cr4::PAE);
            g.cpu.seg[Cs].rights |= 0x2000;
        }
        g.cpu.setEfer(efer::LME);
        CHECK_RAISES(setCr(g, 0, g.cpu.cr0 | cr0::PG), kGP, 0);
        CHECK(!g.cpu.longMode());
    }
}

TEST_CASE("PAE: the four top entries are read by MOV CR3 and checked") {
    SystemGuest g(Mode::Protected32);
    g.put<uint64_t>(0x8000, 0x9001);
    g.put<uint64_t>(0x9000, 0x83);  // 2 MiB at 0
    g.put<uint64_t>(0xa000, 0x83);
    g.cpu.setCr4(g.cpu.cr4 | cr4::PAE);
    CHECK(!setCr(g, 3, 0x8000));
    CHECK(!setCr(g, 0, g.cpu.cr0 | cr0::PG));
    CHECK(!readByte(g, kDataAt));
    CHECK_RAISES(readByte(g, 0x40000000), kPF, 0);
    g.put<uint64_t>(0x8008, 0xa001);
    CHECK_RAISES(readByte(g, 0x40000000), kPF, 0);  // not read yet
    CHECK(!setCr(g, 3, 0x8000));
    CHECK(!readByte(g, 0x40000000));
    for (uint64_t reserved : {0x2ull, 0x20ull, 0x100ull, 1ull << g.cpu.model.physicalBits, 1ull << 63}) {
        g.put<uint64_t>(0x8010, 1 | reserved);
        CHECK_RAISES(setCr(g, 3, 0x8000), kGP, 0);
    }
}

TEST_CASE("accessed and dirty bits") {
    SystemGuest g(Mode::Long64);
    constexpr uint64_t kA = 0x20, kD = 0x40;
    const uint64_t pte = entryOf(g, kDataAt), pde = entryOf(g, kDataAt, 1);
    CHECK(g.get<uint64_t>(pte) == (kDataAt | 7));
    CHECK(!readByte(g, kDataAt));
    CHECK(g.get<uint64_t>(pte) == (kDataAt | 7 | kA));
    CHECK((g.get<uint64_t>(pde) & kA) != 0);
    CHECK(!writeByte(g, kDataAt));
    CHECK(g.get<uint64_t>(pte) == (kDataAt | 7 | kA | kD));
    // A fault sets nothing.
    const uint64_t other = entryOf(g, kDataAt + 0x1000);
    g.put<uint64_t>(other, (kDataAt + 0x1000) | 1);
    CHECK_RAISES(writeByte(g, kDataAt + 0x1000), kPF, pf::P | pf::W);
    CHECK(g.get<uint64_t>(other) == ((kDataAt + 0x1000) | 1));
    // A compare-and-exchange that fails writes all the same.
    CHECK(!readByte(g, kDataAt + 0x2000));
    g.cpu.gpr[Rax] = 99;
    CHECK(!g.does({0x0f, 0xb0, 0x0b}));  // cmpxchg [rbx], cl
    CHECK((g.get<uint64_t>(entryOf(g, kDataAt + 0x2000)) & kD) != 0);
}

TEST_CASE("CR0.WP, SMEP and SMAP") {
    SystemGuest g(Mode::Long64);
    g.map(kDataAt, kDataAt, true, false);
    CHECK_RAISES(writeByte(g, kDataAt), kPF, pf::P | pf::W);
    CHECK(!setCr(g, 0, g.cpu.cr0 & ~cr0::WP));
    CHECK(!writeByte(g, kDataAt));
    CHECK(!setCr(g, 0, g.cpu.cr0 | cr0::WP));
    CHECK_RAISES(writeByte(g, kDataAt), kPF, pf::P | pf::W);

    g.map(kCodeAt, kCodeAt, false);
    g.cpu.gpr[Rsp] = 0x5800;  // the bench's usual stack is on a user page
    CHECK(!setCr(g, 4, g.cpu.cr4 | cr4::SMAP));
    CHECK_RAISES(readByte(g, kDataAt), kPF, pf::P);
    CHECK(!g.does({0x0f, 0x01, 0xcb}));  // stac
    CHECK(!readByte(g, kDataAt));
    CHECK(!g.does({0x0f, 0x01, 0xca}));  // clac
    CHECK_RAISES(readByte(g, kDataAt), kPF, pf::P);
    CHECK(!setCr(g, 4, g.cpu.cr4 & ~cr4::SMAP));
    CHECK(!g.does({0x0f, 0x01, 0xcb}));  // does not need CR4.SMAP
    CHECK(!readByte(g, kDataAt));

    CHECK(!setCr(g, 4, g.cpu.cr4 | cr4::SMEP));
    g.code({0x90}, kDataAt);
    CHECK_RAISES(g.step(), kPF, pf::P | pf::I);
    g.cpu.setCr4(g.cpu.cr4 & ~cr4::SMEP);
    g.cpu.rip = kDataAt;
    CHECK(!g.step());
}

TEST_CASE("under SMAP, descriptor tables on user pages fault even with AC set") {
    SystemGuest g(Mode::Long64);
    g.map(kCodeAt, kCodeAt, false);
    g.put<uint64_t>(kDataAt + 0x10, segment(kDataRw, 0, 0xfffff, 12));
    g.cpu.setCr4(g.cpu.cr4 | cr4::SMAP);
    g.cpu.writeFlags(flag::AC | 2, ~0ull);
    g.cpu.gdtr = {kDataAt, 0x7f};
    g.cpu.gpr[Rax] = 0x10;
    g.code({0x8e, 0xd8});
    g.cpu.gdtr = {kDataAt, 0x7f};
    g.cpu.singleStep();
    CHECK(g.cpu.cr2 >= kDataAt);
    CHECK(!g.shutdown.empty());  // the handler's code segment is there too
}

TEST_CASE("the TLB: INVLPG, MOV CR3 and global pages") {
    SystemGuest g(Mode::Long64);
    const uint64_t pte = entryOf(g, kDataAt);
    auto present = [&] {
        auto raised = readByte(g, kDataAt);
        return !raised;
    };
    auto setEntry = [&](uint64_t bits) { g.put<uint64_t>(pte, kDataAt | bits); };
    constexpr uint64_t kGlobal = 0x100;
    SUBCASE("INVLPG") {
        setEntry(3 | kGlobal);
        CHECK(present());
        setEntry(0);
        g.cpu.gpr[Rbx] = kDataAt;
        CHECK(!g.does({0x0f, 0x01, 0x3b}));
        CHECK(!present());
    }
    SUBCASE("MOV CR3 keeps global pages, if PGE says there are any") {
        for (bool pge : {false, true}) {
            CAPTURE(pge);
            CHECK(!setCr(g, 4, pge ? g.cpu.cr4 | cr4::PGE : g.cpu.cr4 & ~cr4::PGE));
            setEntry(3 | kGlobal);
            CHECK(present());
            setEntry(0);
            CHECK(!setCr(g, 3, g.cpu.cr3));
            CHECK(present() == pge);
            CHECK(!setCr(g, 4, g.cpu.cr4 ^ cr4::PGE));  // flushes everything
            CHECK(!present());
        }
    }
    SUBCASE("an entry that allows more is seen without a flush") {
        setEntry(1);
        CHECK(present());
        setEntry(3);
        CHECK(!writeByte(g, kDataAt));
    }
    SUBCASE("INVLPG is privileged") {
        SystemGuest user(Mode::Long64, 3);
        CHECK_RAISES(user.does({0x0f, 0x01, 0x3b}), kGP, 0);
    }
}

TEST_CASE("instructions by privilege") {
    struct {
        const char* what;
        std::vector<uint8_t> code;
        int vector;  // at ring 3
    } cases[] = {
        {"hlt", {0xf4}, kGP},
        {"cli", {0xfa}, kGP},
        {"sti", {0xfb}, kGP},
        {"in al, dx", {0xec}, kGP},
        {"clts", {0x0f, 0x06}, kGP},
        {"lmsw ax", {0x0f, 0x01, 0xf0}, kGP},
        {"lgdt", {0x0f, 0x01, 0x13}, kGP},
        {"lldt ax", {0x0f, 0x00, 0xd0}, kGP},
        {"ltr ax", {0x0f, 0x00, 0xd8}, kGP},
        {"wbinvd", {0x0f, 0x09}, kGP},
        {"invd", {0x0f, 0x08}, kGP},
        {"rdmsr", {0x0f, 0x32}, kGP},
        {"wrmsr", {0x0f, 0x30}, kGP},
        {"mov rax, dr7", {0x0f, 0x21, 0xf8}, kGP},
        {"swapgs", {0x0f, 0x01, 0xf8}, kGP},
        {"sysretq", {0x48, 0x0f, 0x07}, kGP},
        {"stac", {0x0f, 0x01, 0xcb}, kUD},
        {"smsw eax", {0x0f, 0x01, 0xe0}, -1},
        {"sgdt", {0x0f, 0x01, 0x03}, -1},
        {"str eax", {0x0f, 0x00, 0xc8}, -1},
        {"sldt eax", {0x0f, 0x00, 0xc0}, -1},
        {"rdtsc", {0x0f, 0x31}, -1},
        {"cpuid", {0x0f, 0xa2}, -1},
    };
    for (auto& c : cases) {
        CAPTURE(std::string(c.what));
        SystemGuest g(Mode::Long64, 3);
        g.cpu.gpr[Rbx] = kDataAt;
        g.write(kCodeAt, c.code);
        g.cpu.rip = kCodeAt;
        auto raised = g.step();
        CHECK(raised.has_value() == (c.vector >= 0));
        if (raised) CHECK_RAISES(raised, c.vector, 0);
    }
}

TEST_CASE("UMIP and TSD take SGDT, SMSW, STR, SLDT and RDTSC from ring 3") {
    std::vector<uint8_t> codes[] = {{0x0f, 0x01, 0xe0}, {0x0f, 0x01, 0x03}, {0x0f, 0x01, 0x0b},
                                    {0x0f, 0x00, 0xc8}, {0x0f, 0x00, 0xc0}, {0x0f, 0x31},
                                    {0x0f, 0x01, 0xf9}};
    for (unsigned cpl : {0u, 3u})
        for (auto& code : codes) {
            CAPTURE(int(code[1]));
            SystemGuest g(Mode::Long64, cpl);
            g.cpu.setCr4(g.cpu.cr4 | cr4::UMIP | cr4::TSD);
            g.cpu.gpr[Rbx] = kDataAt;
            g.write(kCodeAt, code);
            g.cpu.rip = kCodeAt;
            auto raised = g.step();
            CHECK(raised.has_value() == (cpl == 3));
            if (raised) CHECK_RAISES(raised, kGP, 0);
        }
}

TEST_CASE("SYSCALL and SYSRET") {
    SystemGuest g(Mode::Long64, 3);
    g.cpu.msr.star = 0x0013'0008'0000'0000;
    g.cpu.msr.lstar = 0x70000;
    g.cpu.msr.sfmask = flag::IF | flag::DF;
    g.cpu.flags.set(flag::IF | flag::DF | flag::CF | 2);
    CHECK(!g.does({0x0f, 0x05}));
    CHECK(g.cpu.rip == 0x70000);
    CHECK(g.cpu.cpl == 0);
    CHECK(g.cpu.gpr[Rcx] == kCodeAt + 2);
    CHECK(g.cpu.gpr[R11] == (flag::IF | flag::DF | flag::CF | 2));
    CHECK(g.cpu.flags.value() == (flag::CF | 2));
    CHECK(g.cpu.seg[Cs].selector == 0x08);
    CHECK(g.cpu.seg[Ss].selector == 0x10);
    CHECK(g.cpu.gpr[Rsp] == 0x80000);
    CHECK(g.cpu.code64());
    SUBCASE("SYSRET to 64 bits") {
        CHECK(!(g.code({0x48, 0x0f, 0x07}, 0x70000), g.step()));
        CHECK(g.cpu.cpl == 3);
        CHECK(g.cpu.rip == kCodeAt + 2);
        CHECK(g.cpu.seg[Cs].selector == 0x23);
        CHECK(g.cpu.seg[Ss].selector == 0x1b);
        CHECK(g.cpu.code64());
        CHECK(g.cpu.flags.value() == (flag::IF | flag::DF | flag::CF | 2));
    }
    SUBCASE("SYSRET to 32 bits") {
        CHECK(!(g.code({0x0f, 0x07}, 0x70000), g.step()));
        CHECK(g.cpu.seg[Cs].selector == 0x13);
        CHECK(!g.cpu.code64());
    }
    SUBCASE("SYSRET to an address that is not canonical faults at ring 0") {
        g.cpu.gpr[Rcx] = 0x8000'00000000;
        g.code({0x48, 0x0f, 0x07}, 0x70000);
        g.cpu.singleStep();
        CHECK(g.cpu.rip == g.handler(kGP));
        CHECK((g.top<uint64_t>(2) & 3) == 0);  // CS of the fault
    }
    SUBCASE("not without SCE, nor in compatibility mode") {
        SystemGuest h(Mode::Long64);
        h.cpu.setEfer(h.cpu.efer & ~efer::SCE);
        CHECK_RAISES(h.does({0x0f, 0x05}), kUD, 0);
        SystemGuest compat(Mode::Compat32, 3);
        CHECK_RAISES(compat.does({0x0f, 0x05}), kUD, 0);
    }
}

TEST_CASE("SYSENTER and SYSEXIT") {
    for (bool wide : {false, true}) {
        CAPTURE(wide);
        SystemGuest g(wide ? Mode::Long64 : Mode::Protected32, 3);
        CHECK_RAISES(g.does({0x0f, 0x34}), kGP, 0);  // IA32_SYSENTER_CS is null
        g.cpu.msr.sysenterCs = 8;
        g.cpu.msr.sysenterEip = 0x70000;
        g.cpu.msr.sysenterEsp = 0x78000;
        g.cpu.flags.set(flag::IF | flag::CF | 2);
        CHECK(!g.does({0x0f, 0x34}));
        CHECK(g.cpu.cpl == 0);
        CHECK(g.cpu.rip == 0x70000);
        CHECK(g.cpu.gpr[Rsp] == 0x78000);
        CHECK(g.cpu.seg[Ss].selector == 0x10);
        CHECK(g.cpu.flags.value() == (flag::CF | 2));
        CHECK(g.cpu.code64() == wide);
        g.cpu.gpr[Rcx] = 0x79000, g.cpu.gpr[Rdx] = kCodeAt;
        if (wide) {
            g.cpu.gpr[Rcx] = 0x8000'00000000;
            g.code({0x48, 0x0f, 0x35}, 0x70000);
            g.cpu.singleStep();
            CHECK(g.cpu.rip == g.handler(kGP));
            g.cpu.gpr[Rcx] = 0x79000;
            g.code({0x48, 0x0f, 0x35}, 0x70000);
        } else {
            g.code({0x0f, 0x35}, 0x70000);
        }
        g.cpu.singleStep();
        CHECK(g.cpu.cpl == 3);
        CHECK(g.cpu.rip == kCodeAt);
        CHECK(g.cpu.gpr[Rsp] == 0x79000);
        CHECK(g.cpu.seg[Cs].selector == (wide ? 0x2b : 0x1b));
        CHECK(g.cpu.seg[Ss].selector == (wide ? 0x33 : 0x23));
    }
    SystemGuest real(Mode::Real16);
    real.code({0x0f, 0x34}, 0x7000);
    real.cpu.singleStep();
    CHECK(real.cpu.rip == real.handler(kGP));
}

TEST_CASE("SWAPGS and the FS and GS bases") {
    SystemGuest g(Mode::Long64);
    CHECK(!wrmsr(g, 0xc0000101, 0x60000));
    CHECK(!wrmsr(g, 0xc0000102, 0x61000));
    g.put<uint32_t>(0x61000, 0x12345678);
    CHECK(!g.does({0x0f, 0x01, 0xf8}));
    CHECK(g.cpu.msr.kernelGsBase == 0x60000);
    CHECK(!g.does({0x65, 0x8b, 0x04, 0x25, 0, 0, 0, 0}));  // mov eax, gs:[0]
    CHECK(g.cpu.gpr[Rax] == 0x12345678);
    CHECK_RAISES(g.does({0xf3, 0x48, 0x0f, 0xae, 0xd0}), kUD, 0);  // wrfsbase rax without CR4.FSGSBASE
    CHECK(!setCr(g, 4, g.cpu.cr4 | cr4::FSGSBASE));
    g.cpu.gpr[Rax] = 0xffff8000'00000000;
    CHECK(!g.does({0xf3, 0x48, 0x0f, 0xae, 0xd0}));
    CHECK(g.cpu.seg[Fs].base == 0xffff8000'00000000);
    g.cpu.gpr[Rax] = 0x100'0000'0000'0000;
    CHECK_RAISES(g.does({0xf3, 0x48, 0x0f, 0xae, 0xd0}), kGP, 0);
    SystemGuest compat(Mode::Compat32);
    CHECK_RAISES(compat.does({0x0f, 0x01, 0xf8}), kUD, 0);
}

TEST_CASE("MSRs: absent ones, reserved bits, addresses") {
    SystemGuest g(Mode::Long64);
    CHECK_RAISES(rdmsr(g, 0x12345), kGP, 0);
    CHECK_RAISES(wrmsr(g, 0x12345, 0), kGP, 0);
    for (uint32_t index : {0x175u, 0x176u, 0xc0000082u, 0xc0000083u, 0xc0000100u, 0xc0000101u, 0xc0000102u}) {
        CAPTURE(index);
        CHECK_RAISES(wrmsr(g, index, 0x100'0000'0000'0000), kGP, 0);
        CHECK(!wrmsr(g, index, 0xffff8000'00001000));
        CHECK(!rdmsr(g, index));
        CHECK((g.cpu.gpr[Rdx] << 32 | g.cpu.gpr[Rax]) == 0xffff8000'00001000);
    }
    CHECK_RAISES(wrmsr(g, 0x277, 2), kGP, 0);  // memory type 2
    CHECK(!wrmsr(g, 0x277, 0x0007040600070406));
    CHECK_RAISES(wrmsr(g, 0x250, 7), kGP, 0);  // UC- is for PAT only
    CHECK_RAISES(wrmsr(g, 0xc0000103, 1ull << 32), kGP, 0);
}

TEST_CASE("CPUID agrees with what CR4 accepts") {
    SystemGuest g(Mode::Long64);
    auto leaf = [&](uint32_t eax, uint32_t ecx = 0) { return g.cpu.cpuid(eax, ecx); };
    struct {
        const char* what;
        uint64_t bit;
        bool offered;
    } cases[] = {
        {"VME", cr4::VME, bool(leaf(1).edx >> 1 & 1)},
        {"TSD", cr4::TSD, bool(leaf(1).edx >> 4 & 1)},
        {"DE", cr4::DE, bool(leaf(1).edx >> 2 & 1)},
        {"PSE", cr4::PSE, bool(leaf(1).edx >> 3 & 1)},
        {"MCE", cr4::MCE, bool(leaf(1).edx >> 7 & 1)},
        {"PGE", cr4::PGE, bool(leaf(1).edx >> 13 & 1)},
        {"OSFXSR", cr4::OSFXSR, bool(leaf(1).edx >> 24 & 1)},
        {"OSXMMEXCPT", cr4::OSXMMEXCPT, bool(leaf(1).edx >> 25 & 1)},
        {"VMXE", cr4::VMXE, bool(leaf(1).ecx >> 5 & 1)},
        {"PCIDE", cr4::PCIDE, bool(leaf(1).ecx >> 17 & 1)},
        {"OSXSAVE", cr4::OSXSAVE, bool(leaf(1).ecx >> 26 & 1)},
        {"FSGSBASE", cr4::FSGSBASE, bool(leaf(7).ebx & 1)},
        {"SMEP", cr4::SMEP, bool(leaf(7).ebx >> 7 & 1)},
        {"SMAP", cr4::SMAP, bool(leaf(7).ebx >> 20 & 1)},
        {"UMIP", cr4::UMIP, bool(leaf(7).ecx >> 2 & 1)},
        {"PKE", cr4::PKE, bool(leaf(7).ecx >> 3 & 1)},
        {"PKS", cr4::PKS, bool(leaf(7).ecx >> 31 & 1)},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        // OSFXSR and the like are set already: toggling them is as good.
        g.map(kCodeAt, kCodeAt, false);
        auto raised = setCr(g, 4, (g.cpu.cr4 & ~(cr4::SMEP | cr4::SMAP)) ^ c.bit);
        CHECK(!raised == c.offered);
    }
    // Leaves beyond the last basic one repeat it; the extended range says where it ends.
    auto last = leaf(leaf(0).eax), beyond = leaf(0x1000);
    CHECK(last.eax == beyond.eax);
    CHECK(leaf(0x80000000).eax == 0x80000008);
    CHECK((leaf(0x80000008).eax & 0xff) == g.cpu.model.physicalBits);
    // SYSCALL, NX and LM.
    CHECK((leaf(0x80000001).edx & (1u << 11 | 1u << 20 | 1u << 29)) == (1u << 11 | 1u << 20 | 1u << 29));
}

TEST_CASE("decoding: LOCK, length, page and segment ends") {
    SystemGuest g(Mode::Long64);
    g.cpu.gpr[Rbx] = kDataAt;
    CHECK_RAISES(g.does({0xf0, 0x90}), kUD, 0);        // lock nop
    CHECK_RAISES(g.does({0xf0, 0x01, 0xc3}), kUD, 0);  // lock add ebx, eax
    CHECK_RAISES(g.does({0xf0, 0x8b, 0x03}), kUD, 0);  // lock mov eax, [rbx]
    CHECK_RAISES(g.does({0xf0, 0x39, 0x03}), kUD, 0);  // lock cmp [rbx], eax
    CHECK(!g.does({0xf0, 0x01, 0x03}));                // lock add [rbx], eax
    CHECK_RAISES(g.does({0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                         0x66, 0x90}),
                 kGP, 0);
    CHECK(
        !g.does({0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90}));

    // The second page is missing.
    g.put<uint64_t>(entryOf(g, kCodeAt + 0x1000), 0);
    g.cpu.flushTlb(true);
    g.write(kCodeAt + 0xffe, std::vector<uint8_t>{0xb8, 0x11});  // mov eax, imm32
    g.cpu.rip = kCodeAt + 0xffe;
    auto c = g.step();
    CHECK_RAISES(c, kPF, pf::I);
    CHECK(c->cr2 == kCodeAt + 0x1000);
    CHECK(c->rip == kCodeAt + 0xffe);
    // Enough bytes before the page ends.
    g.write(kCodeAt + 0xfff, std::vector<uint8_t>{0x90});
    g.cpu.rip = kCodeAt + 0xfff;
    CHECK(!g.step());
    c = g.step();
    CHECK_RAISES(c, kPF, pf::I);
    CHECK(c->cr2 == kCodeAt + 0x1000);
}

TEST_CASE("the end of a code segment, and of 64 KiB in real mode") {
    SystemGuest g(Mode::Protected32);
    g.setGdt(kTry, segment(kCodeRx, 0, kCodeAt + 5, 4));
    g.cpu.seg[Cs] = Cpu::unpack(kTry, g.gdt(kTry));
    g.cpu.segmentsChanged();
    auto run = [&](uint64_t at) {
        g.cpu.seg[Cs] = Cpu::unpack(kTry, g.gdt(kTry));
        g.cpu.segmentsChanged();
        g.cpu.rip = at;
        return g.runToException(2);
    };
    g.write(kCodeAt, std::vector<uint8_t>{0x90, 0x90, 0xb8, 0x44, 0x33, 0x22, 0x11, 0x90, 0xeb, 0x10});
    auto c = run(kCodeAt);  // mov eax, imm32 has its last byte behind the limit
    CHECK_RAISES(c, kGP, 0);
    CHECK(c->rip == kCodeAt + 2);
    g.write(kCodeAt, std::vector<uint8_t>{0xeb, 0x10});
    c = run(kCodeAt);  // jmp behind the limit: the jump faults
    CHECK_RAISES(c, kGP, 0);
    CHECK(c->rip == kCodeAt);
    g.write(kCodeAt, std::vector<uint8_t>{0x90, 0x90, 0x90, 0x90, 0x90, 0x90});
    c = run(kCodeAt);
    CHECK_RAISES(c, kGP, 0);
    CHECK(c->rip == kCodeAt + 6);

    SystemGuest real(Mode::Real16);
    real.code({0xeb, 0x10}, 0xfff0);  // jmp wraps at 64 KiB
    real.cpu.singleStep();
    CHECK(real.cpu.rip == 2);
    real.code({0x90}, 0xffff);
    real.cpu.singleStep();
    real.cpu.singleStep();
    CHECK(real.cpu.rip == real.handler(kGP));
}
