// Which model-specific registers exist, and which values they refuse (SDM vol. 4), in a table; and the
// instructions that go with process contexts and protection keys.
#include <doctest/doctest.h>

#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using Mode = GuestBench::Mode;

bool refuses(Cpu& cpu, uint32_t index, uint64_t v) {
    try {
        return !cpu.writeMsr(index, v);
    } catch (const Fault& f) {
        CHECK(f.vector == kGP);
        CHECK(f.error == 0);
        return true;
    }
}

}  // namespace

TEST_CASE("MSRs keep what they are given, and refuse what is reserved") {
    constexpr uint64_t kNotCanonical = 0x8000'0000'0000'0000;
    struct Case {
        uint32_t index;
        uint64_t takes, refuses;
    };
    const Case cases[] = {
        {0x175, 0xffff'8000'0000'0000, kNotCanonical},  // SYSENTER_ESP
        {0x176, 0x7fff'ffff'f000, kNotCanonical},
        {0x17a, 5, 8},                    // MCG_STATUS
        {0x17b, ~0ull, 1},                // MCG_CTL
        {0x1a0, 0x1809, 2},               // MISC_ENABLE
        {0x1d9, 0, 4},                    // DEBUGCTL: bit 2 is reserved
        {0x200, 0xc0000006, 0xc0000002},  // PHYSBASE: type 2 is reserved
        {0x200, 0xc0000006, 0xc0000106},  // bits 8..11
        {0x200, 0xc0000006, 1ull << 40},  // beyond the physical width
        {0x201, 0xf'c000'0800, 0x400},    // PHYSMASK
        {0x201, 0xf'c000'0800, 1ull << 41},
        {0x20f, 0x800, 1},
        {0x250, 0x0606060606060606, 0x0706060606060606},  // UC- is PAT's alone
        {0x259, 0x0001040506000000, 0x0001040506000002},
        {0x26f, 0x0505050505050505, 0x0505050505050503},
        {0x277, 0x0007040600070406, 0x0007040600070402},
        {0x277, 0x0707070707070707, 0x0807070707070707},
        {0x2ff, 0xc06, 0xc02},
        {0x2ff, 0xc06, 0x106},
        {0x400, ~0ull, 5},   // MC0_CTL
        {0x401, 0, 1},       // MC0_STATUS
        {0x402, 0x1234, 0},  // MC0_ADDR takes all
        {0x427, ~0ull, 0},   // MC9_MISC too
        {0x48, 0x407, 8},    // SPEC_CTRL
        {0x6e1, 0xffffffff, 1ull << 32},
        {0xc0000082, 0xffff'ffff'8000'0000, kNotCanonical},
        {0xc0000083, 0xff00'0000'0000'0000, kNotCanonical},  // 57 bits, whatever CR4.LA57 says
        {0xc0000084, 0xffffffff, 1ull << 32},
        {0xc0000100, 0xffff'8000'0000'0000, kNotCanonical},
        {0xc0000101, 0xffff'8000'0000'0000, kNotCanonical},
        {0xc0000102, 0xffff'8000'0000'0000, kNotCanonical},
        {0xc0000103, 0xffffffff, 1ull << 32},
    };
    SystemGuest g(Mode::Long64);
    for (const Case& c : cases) {
        CAPTURE(c.index);
        CAPTURE(c.refuses);
        CHECK_FALSE(refuses(g.cpu, c.index, c.takes));
        CHECK(g.cpu.readMsr(c.index) == c.takes);
        if (!c.refuses) continue;
        CHECK(refuses(g.cpu, c.index, c.refuses));
        CHECK(g.cpu.readMsr(c.index) == c.takes);
    }
}

TEST_CASE("MSRs that don't exist, can't be written, or can't be read") {
    SystemGuest g(Mode::Long64);
    for (uint32_t index : {0x2u, 0x210u, 0x251u, 0x428u, 0x47fu, 0xc0000085u, 0xc0010015u, 0x12345678u}) {
        CAPTURE(index);
        CHECK_FALSE(g.cpu.readMsr(index));
        CHECK(refuses(g.cpu, index, 0));
    }
    for (uint32_t index : {0xfeu, 0x179u, 0x10au, 0x17u}) CHECK(refuses(g.cpu, index, g.cpu.readMsr(index).value()));
    CHECK_FALSE(g.cpu.readMsr(0x49));  // PRED_CMD
    CHECK_FALSE(refuses(g.cpu, 0x49, 1));
    CHECK(refuses(g.cpu, 0x49, 2));
    std::vector<std::string> warnings;
    SystemGuest old(Mode::Long64, 0, chooseCpuModel("max,-mtrr,-pat,-pks,-la57", warnings));
    for (uint32_t index : {0xfeu, 0x200u, 0x250u, 0x277u, 0x2ffu, 0x6e1u})
        CHECK_FALSE(old.cpu.readMsr(index));
    CHECK(refuses(old.cpu, 0xc0000100, 0x00ff'0000'0000'0000));
}

TEST_CASE("IA32_APIC_BASE: no way from off to x2APIC, nor back from there to xAPIC") {
    SystemGuest g(Mode::Long64);
    const uint64_t base = g.cpu.readMsr(0x1b).value() & ~0xfffull, bsp = 0x100;
    CHECK(refuses(g.cpu, 0x1b, base | bsp | 0x400));
    CHECK(refuses(g.cpu, 0x1b, 1ull << g.cpu.model.physicalBits | 0x800));
    CHECK_FALSE(refuses(g.cpu, 0x1b, base | bsp | 0xc00));
    CHECK(refuses(g.cpu, 0x1b, base | bsp | 0x800));
    CHECK_FALSE(refuses(g.cpu, 0x1b, base | bsp));
    CHECK(refuses(g.cpu, 0x1b, base | bsp | 0xc00));
    CHECK_FALSE(refuses(g.cpu, 0x1b, base | bsp | 0x800));
}

TEST_CASE("the time-stamp counter and IA32_TSC_ADJUST move together") {
    SystemGuest g(Mode::Long64);
    g.cpu.writeMsr(0x3b, 1000);
    CHECK(g.cpu.readMsr(0x3b) == 1000);
    const uint64_t now = g.cpu.readMsr(0x10).value();
    g.cpu.writeMsr(0x10, now + 5000);
    CHECK(g.cpu.readMsr(0x3b) == 6000);
    g.cpu.writeMsr(0x3b, 0);
    CHECK(g.cpu.readMsr(0x10) == now - 1000);
    // Both are 64 bits that wrap.
    g.cpu.writeMsr(0x3b, 1ull << 63);
    g.cpu.writeMsr(0x3b, 1);
    CHECK(g.cpu.readMsr(0x10) == now - 999);
}

TEST_CASE("RDPKRU and WRPKRU") {
    SystemGuest g(Mode::Long64, 3);
    g.cpu.gpr[Rcx] = 0;
    CHECK_RAISES(g.does({0x0f, 0x01, 0xee}), kUD, 0);
    g.cpu.setCr4(g.cpu.cr4 | cr4::PKE);
    g.cpu.gpr[Rax] = 0xffffffff'12345678, g.cpu.gpr[Rdx] = 0;
    CHECK_FALSE(g.does({0x0f, 0x01, 0xef}));
    CHECK(g.cpu.pkru == 0x12345678);
    g.cpu.gpr[Rax] = g.cpu.gpr[Rdx] = ~0ull;
    CHECK_FALSE(g.does({0x0f, 0x01, 0xee}));
    CHECK(g.cpu.gpr[Rax] == 0x12345678);
    CHECK(g.cpu.gpr[Rdx] == 0);
    g.cpu.gpr[Rdx] = 1;
    CHECK_RAISES(g.does({0x0f, 0x01, 0xef}), kGP, 0);
    g.cpu.gpr[Rdx] = 0, g.cpu.gpr[Rcx] = 1;
    CHECK_RAISES(g.does({0x0f, 0x01, 0xef}), kGP, 0);
    CHECK_RAISES(g.does({0x0f, 0x01, 0xee}), kGP, 0);
}

TEST_CASE("protection keys reach #PF with their own bit") {
    SystemGuest g(Mode::Long64, 3);
    g.map(0x60000, 0x60000 | 2ull << 59);
    g.cpu.setCr4(g.cpu.cr4 | cr4::PKE);
    g.cpu.gpr[Rbx] = 0x60000;
    const std::initializer_list<uint8_t> load = {0x8b, 0x03}, store = {0x89, 0x03};
    CHECK_FALSE(g.does(store));
    g.cpu.setPkru(2u << 4);
    CHECK_FALSE(g.does(load));
    CHECK_RAISES(g.does(store), kPF, pf::P | pf::W | pf::U | pf::PK);
    g.cpu.setPkru(1u << 4);
    CHECK_RAISES(g.does(load), kPF, pf::P | pf::U | pf::PK);
    g.cpu.setPkru(~(3u << 4));
    CHECK_FALSE(g.does(store));
}

TEST_CASE("INVPCID refuses types, contexts and addresses that don't exist") {
    SystemGuest g(Mode::Long64);
    auto invpcid = [&](uint64_t type, uint64_t pcid, uint64_t linear) {
        g.put<uint64_t>(0x60000, pcid);
        g.put<uint64_t>(0x60008, linear);
        g.cpu.gpr[Rbx] = 0x60000, g.cpu.gpr[Rax] = type;
        return g.does({0x66, 0x0f, 0x38, 0x82, 0x03});  // invpcid rax, [rbx]
    };
    for (uint64_t type = 0; type < 4; type++) CHECK_FALSE(invpcid(type, 0, 0));
    CHECK_RAISES(invpcid(4, 0, 0), kGP, 0);
    CHECK_RAISES(invpcid(1ull << 32, 0, 0), kGP, 0);
    CHECK_RAISES(invpcid(2, 0x1000, 0), kGP, 0);
    CHECK_RAISES(invpcid(0, 1, 0), kGP, 0);  // CR4.PCIDE is 0
    CHECK_RAISES(invpcid(1, 1, 0), kGP, 0);
    CHECK_FALSE(invpcid(2, 1, 0));
    CHECK_RAISES(invpcid(0, 0, 0x8000'0000'0000'0000), kGP, 0);
    CHECK_FALSE(invpcid(1, 0, 0x8000'0000'0000'0000));
    g.cpu.setCr4(g.cpu.cr4 | cr4::PCIDE);
    CHECK_FALSE(invpcid(0, 7, 0x60000));
    SystemGuest user(Mode::Long64, 3);
    user.cpu.gpr[Rbx] = 0x60000, user.cpu.gpr[Rax] = 2;
    CHECK_RAISES(user.does({0x66, 0x0f, 0x38, 0x82, 0x03}), kGP, 0);
}
