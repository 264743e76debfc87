// Page walks against a table of cases: every paging mode, page size, right and reserved bit (SDM vol. 3,
// chapter 4).
#include <doctest/doctest.h>

#include "mmu/page_walk.hpp"

using namespace kiln;

namespace {

constexpr uint64_t P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100, NX = 1ull << 63;

struct Tables {
    PhysicalMemory memory;
    RamBlock ram{"ram", 1 << 20};
    PagingState paging;

    Tables() { memory.mapRam(PhysAddr(0), ram.size(), ram); }
    void put64(uint64_t at, uint64_t v) { memory.write<uint64_t>(PhysAddr(at), v); }
    void put32(uint64_t at, uint32_t v) { memory.write<uint32_t>(PhysAddr(at), v); }
    uint64_t get64(uint64_t at) { return memory.read<uint64_t>(PhysAddr(at)); }
    uint32_t get32(uint64_t at) { return memory.read<uint32_t>(PhysAddr(at)); }
    Translation walk(uint64_t linear, Access access = Access::Read, bool user = false, bool ac = false) {
        return walkPageTables(memory, paging, LinearAddr(linear), access, user, ac);
    }
};

// PML4 at 1000h, PDPT at 2000h, PD at 3000h, PT at 4000h; linear 0 leads through entry 0 of each.
struct LongTables : Tables {
    LongTables() {
        paging = {.cr3 = 0x1000, .enabled = true, .pae = true, .longMode = true, .pge = true, .wp = true, .nxe = true};
        put64(0x1000, 0x2000 | P | W | U);
        put64(0x2000, 0x3000 | P | W | U);
        put64(0x3000, 0x4000 | P | W | U);
        put64(0x4000, 0x9000 | P | W | U);
    }
};

struct LegacyTables : Tables {
    LegacyTables() {
        paging = {.cr3 = 0x1000, .enabled = true, .pse = true, .pge = true, .wp = true};
        put32(0x1000, 0x2000 | P | W | U);
        put32(0x2000, 0x9000 | P | W | U);
    }
};

}  // namespace

TEST_CASE("without paging a linear address is a physical one") {
    Tables t;
    CHECK(t.walk(0x12345).addr.value == 0x12345);
    CHECK(t.walk(0x12345).writable);
}

TEST_CASE("4-level: rights are the AND of all levels") {
    struct Case {
        uint64_t clearAtLevel[4];  // bits taken from PML4E, PDPTE, PDE, PTE
        Access access;
        bool user;
        int errorCode;  // -1: allowed
    };
    const Case cases[] = {
        {{}, Access::Read, true, -1},
        {{}, Access::Write, true, -1},
        {{}, Access::Fetch, true, -1},
        {{W, 0, 0, 0}, Access::Write, true, 7},
        {{0, W, 0, 0}, Access::Write, true, 7},
        {{0, 0, W, 0}, Access::Write, true, 7},
        {{0, 0, 0, W}, Access::Write, true, 7},
        {{0, 0, 0, W}, Access::Write, false, 3},
        {{0, 0, 0, W}, Access::Read, true, -1},
        {{U, 0, 0, 0}, Access::Read, true, 5},
        {{0, U, 0, 0}, Access::Write, true, 7},
        {{0, 0, U, 0}, Access::Fetch, true, 0x15},
        {{0, 0, 0, U}, Access::Read, false, -1},
        {{P, 0, 0, 0}, Access::Read, false, 0},
        {{0, P, 0, 0}, Access::Write, false, 2},
        {{0, 0, P, 0}, Access::Read, true, 4},
        {{0, 0, 0, P}, Access::Fetch, true, 0x14},
    };
    for (const Case& c : cases) {
        LongTables t;
        for (unsigned level = 0; level < 4; level++) {
            uint64_t at = 0x1000 + level * 0x1000;
            t.put64(at, t.get64(at) & ~c.clearAtLevel[level]);
        }
        Translation r = t.walk(0x123, c.access, c.user);
        CAPTURE(int(&c - cases));
        CHECK(r.fault == (c.errorCode >= 0));
        if (r.fault)
            CHECK(int(r.errorCode) == c.errorCode);
        else
            CHECK(r.addr.value == 0x9123);
    }
}

TEST_CASE("4-level: a faulting walk sets no bit, an allowed one sets A everywhere and D on writes") {
    LongTables t;
    t.put64(0x4000, 0x9000 | P | U);
    CHECK(t.walk(0, Access::Write, true).fault);
    for (uint64_t at = 0x1000; at <= 0x4000; at += 0x1000) CHECK((t.get64(at) & A) == 0);
    CHECK_FALSE(t.walk(0, Access::Read, true).fault);
    for (uint64_t at = 0x1000; at <= 0x4000; at += 0x1000) CHECK((t.get64(at) & A) == A);
    CHECK((t.get64(0x4000) & D) == 0);
    t.put64(0x4000, 0x9000 | P | U | W);
    CHECK_FALSE(t.walk(0, Access::Read, true).writable);  // D not set yet: the first write must walk
    CHECK(t.walk(0, Access::Write, true).writable);
    CHECK((t.get64(0x4000) & D) == D);
    CHECK((t.get64(0x3000) & D) == 0);
}

TEST_CASE("4-level: large pages and their reserved bits") {
    LongTables t;
    t.put64(0x3000, 0x200000 | P | W | U | PS | G);
    Translation r = t.walk(0x12345);
    CHECK(r.addr.value == 0x212345);
    CHECK(r.pageSize == 2 << 20);
    CHECK(r.global);
    t.put64(0x3000, 0x202000 | P | W | U | PS);  // bit 13 of a 2-MiB page is reserved
    CHECK(t.walk(0).errorCode == (pf::P | pf::RSVD));
    t.put64(0x3000, 0x201000 | P | W | U | PS);  // bit 12 is PAT
    CHECK(t.walk(0x5).addr.value == 0x200005);
    t.put64(0x2000, 0x40000000 | P | W | U | PS);
    CHECK(t.walk(0x3fffffff).addr.value == 0x7fffffff);
    t.put64(0x1000, 0x2000 | P | W | U | PS);  // PS in a PML4 entry is reserved
    CHECK(t.walk(0).errorCode == (pf::P | pf::RSVD));
}

TEST_CASE("4-level: addresses above the physical width and NX without EFER.NXE are reserved") {
    LongTables t;
    t.put64(0x4000, 1ull << 45 | P | W | U);
    CHECK(t.walk(0, Access::Read, true).errorCode == (pf::P | pf::RSVD | pf::U));
    t.put64(0x4000, 0x9000 | P | W | U | NX);
    CHECK(t.walk(0, Access::Fetch, true).errorCode == (pf::P | pf::I | pf::U));
    CHECK_FALSE(t.walk(0, Access::Read, true).fault);
    t.paging.nxe = false;
    CHECK(t.walk(0, Access::Read, true).errorCode == (pf::P | pf::RSVD | pf::U));
}

TEST_CASE("supervisor writes to read-only pages depend on CR0.WP") {
    LongTables t;
    t.put64(0x4000, 0x9000 | P);
    CHECK(t.walk(0, Access::Write).fault);
    t.paging.wp = false;
    CHECK_FALSE(t.walk(0, Access::Write).fault);
    t.put64(0x4000, 0x9000 | P | U);
    CHECK(t.walk(0, Access::Write, true).fault);
}

TEST_CASE("SMEP and SMAP") {
    LongTables t;
    CHECK_FALSE(t.walk(0, Access::Fetch).fault);
    t.paging.smep = true;
    CHECK(t.walk(0, Access::Fetch).errorCode == (pf::P | pf::I));
    CHECK_FALSE(t.walk(0, Access::Fetch, true).fault);
    CHECK_FALSE(t.walk(0, Access::Read).fault);
    t.paging.smap = true;
    CHECK(t.walk(0, Access::Read).errorCode == pf::P);
    CHECK_FALSE(t.walk(0, Access::Read, false, true).fault);
    CHECK_FALSE(t.walk(0, Access::Read, true).fault);
    t.put64(0x4000, 0x9000 | P | W);  // a supervisor page
    CHECK_FALSE(t.walk(0, Access::Read).fault);
    CHECK_FALSE(t.walk(0, Access::Fetch).fault);
}

TEST_CASE("32-bit: 4-KiB and 4-MiB pages, PSE-36") {
    LegacyTables t;
    CHECK(t.walk(0x123).addr.value == 0x9123);
    t.put32(0x1004, 0x00c00000 | P | W | U | PS | 5 << 13);  // bits 13..20 are address bits 32..39
    Translation r = t.walk(0x400123);
    CHECK(r.addr.value == (5ull << 32 | 0xc00123));
    CHECK(r.pageSize == 4 << 20);
    t.put32(0x1004, 0x00c00000 | P | W | U | PS | 1 << 21);
    CHECK(t.walk(0x400000).errorCode == (pf::P | pf::RSVD));
    t.paging.pse = false;  // PS is ignored: a page table at C00000h, which is open bus, all ones
    CHECK(t.walk(0x400000).addr.value == 0xfffff000);
}

TEST_CASE("32-bit: dirty and accessed bits are written as 32 bits") {
    LegacyTables t;
    t.put32(0x2004, 0xffffffff);
    CHECK_FALSE(t.walk(0, Access::Write, true).fault);
    CHECK(t.get32(0x2000) == (0x9000 | P | W | U | A | D));
    CHECK(t.get32(0x1000) == (0x2000 | P | W | U | A));
    CHECK(t.get32(0x2004) == 0xffffffff);
}

TEST_CASE("PAE: pointer entries are registers, 2-MiB pages, NX") {
    Tables t;
    t.paging = {.enabled = true, .pae = true, .wp = true, .nxe = true};
    t.paging.pdpte[1] = 0x3000 | P;
    t.put64(0x3000, 0x4000 | P | W | U);
    t.put64(0x4000, 0x9000 | P | W | U | NX);
    t.put64(0x3008, 0x200000 | P | W | PS);
    CHECK(t.walk(0x123).errorCode == 0);
    CHECK(t.walk(0x123).fault);
    CHECK(t.walk(0x40000123, Access::Read, true).addr.value == 0x9123);
    CHECK(t.walk(0x40000123, Access::Fetch, true).errorCode == (pf::P | pf::U | pf::I));
    CHECK(t.walk(0x40234567).addr.value == 0x234567);
    CHECK(t.walk(0x40234567, Access::Read, true).errorCode == (pf::P | pf::U));
    t.put64(0x4000, 0x9000 | P | W | U | 1ull << 62);  // reserved outside long mode
    CHECK(t.walk(0x40000123).errorCode == (pf::P | pf::RSVD));
}
