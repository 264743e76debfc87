// The TLBs against fresh walks: whatever the guest does to its tables, once it has invalidated what the
// manual asks for (SDM vol. 3, 4.10.4), an access must end as a walk of the present tables would. Random
// tables of four process contexts, random rights, keys and control bits.
#include <doctest/doctest.h>

#include <random>

#include "tests/cpu_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100;
constexpr uint64_t kTablesAt = 0x40000, kFramesAt = 0x90000, kNoFlush = 1ull << 63;
constexpr unsigned kContexts = 4, kPages = 12, kLargePages = 3, kFrames = 24;

// Page n of the small ones; some share a slot of the TLB, the last four may be global.
uint64_t smallPage(unsigned n) { return n % 3 == 2 ? 0x800000 + n * 0x1000 : 0x1000000 + n * 0x1000; }
// 2-MiB pages, seen at a random place each time.
uint64_t largePage(unsigned n) { return 0x4000'0000 + n * 0x20'0000; }

class Contexts : public GuestBench {
  public:
    explicit Contexts(uint64_t seed) : GuestBench(Mode::Long64), random_(seed) {
        addRam(0x20'0000, 0x20'0000 * kLargePages);
        for (unsigned f = 0; f < kFrames; f++) put(kFramesAt + f * 0x1000, kFramesAt + f * 0x1000);
        for (unsigned c = 0; c < kContexts; c++) makeTables(c);
        cpu.setCr4(cpu.cr4 | cr4::PGE | cr4::PKE | cr4::PKS);
        cpu.setCr3(root(0));
        cpu.setCr4(cpu.cr4 | cr4::PCIDE);
    }
    void one() {
        switch (pick(16)) {
            case 0: changeSmall(); break;
            case 1: changeLarge(); break;
            case 2: cpu.setCr3(root(context_ = unsigned(pick(kContexts))) | (pick(4) ? kNoFlush : 0)); break;
            case 3: cpu.setCr4(cpu.cr4 ^ (pick(2) ? cr4::SMAP : pick(2) ? cr4::PKE : cr4::PKS)); break;
            case 4: cpu.setCr0(cpu.cr0 ^ cr0::WP); break;
            case 5: cpu.setPkru(rights()); break;
            case 6: cpu.setPkrs(rights()); break;
            case 7: cpu.writeFlags(pick(2) ? flag::AC : 0, flag::AC); break;
            case 8: cpu.setCpl(pick(2) ? 3 : 0); break;
            case 9:
                if (!pick(8)) cpu.setCr4(cpu.cr4 ^ cr4::PGE);
                break;
            default: access(); break;
        }
    }
    unsigned faults = 0, passes = 0;

  private:
    uint64_t pick(uint64_t below) { return random_() % below; }
    uint32_t rights() { return uint32_t(random_() & random_() & random_()); }
    void put(uint64_t at, uint64_t v) { memory.write<uint64_t>(PhysAddr(at), v); }
    uint64_t get(uint64_t at) { return memory.read<uint64_t>(PhysAddr(at)); }

    // Each context: PML4, PDPT, a directory for the first GiB with tables at 8 and 16 MiB, and one behind.
    static uint64_t base(unsigned c) { return kTablesAt + c * 0x8000; }
    static uint64_t root(unsigned c) { return base(c) | c; }
    uint64_t entryOf(unsigned c, uint64_t linear) const {
        if (linear >= 0x4000'0000) return base(c) + 0x3000 + (linear >> 21 & 511) * 8;
        return base(c) + (linear >= 0x1000000 ? 0x5000 : 0x4000) + (linear >> 12 & 511) * 8;
    }
    void makeTables(unsigned c) {
        const uint64_t b = base(c);
        put(b, (b + 0x1000) | P | W | U);
        put(b + 0x1000, (b + 0x2000) | P | W | U);
        put(b + 0x1008, (b + 0x3000) | P | W | U);
        put(b + 0x2000 + 4 * 8, (b + 0x4000) | P | W | U);
        put(b + 0x2000 + 8 * 8, (b + 0x5000) | P | W | U);
        for (unsigned n = 0; n < kPages; n++) put(entryOf(c, smallPage(n)), sharedOr(n, c));
        for (unsigned n = 0; n < kLargePages; n++) put(entryOf(c, largePage(n)), randomLarge());
    }
    // What a global page maps must be the same everywhere.
    static bool shared(unsigned n) { return n >= kPages - 4; }
    uint64_t sharedOr(unsigned n, unsigned c) {
        return shared(n) && c ? get(entryOf(0, smallPage(n))) : randomSmall(shared(n));
    }
    uint64_t flagBits() {
        return (pick(8) ? P : 0) | (pick(3) ? W : 0) | (pick(3) ? U : 0) | (pick(2) ? A | D : 0) |
               pick(4) << 59;
    }
    uint64_t randomSmall(bool global) {
        return (kFramesAt + pick(kFrames) * 0x1000) | flagBits() | (global ? G : 0);
    }
    uint64_t randomLarge() { return (0x20'0000 + pick(kLargePages) * 0x20'0000) | PS | flagBits(); }

    void invalidate(unsigned c, uint64_t linear, bool global) {
        if (global) {
            if (pick(2))
                cpu.flushPage(linear);
            else
                cpu.invalidatePcid(2, 0, 0);
            return;
        }
        switch (pick(5)) {
            case 0:
                if (c == context_) return cpu.flushPage(linear);
                [[fallthrough]];
            case 1: return cpu.invalidatePcid(0, uint16_t(c), linear);
            case 2: return cpu.invalidatePcid(1, uint16_t(c), 0);
            case 3: return cpu.invalidatePcid(unsigned(2 + pick(2)), 0, 0);
            default: return cpu.setCr3(root(context_ = c));
        }
    }
    void changeSmall() {
        const auto n = unsigned(pick(kPages)), c = unsigned(pick(kContexts));
        const uint64_t fresh = randomSmall(shared(n));
        for (unsigned k = 0; k < kContexts; k++)
            if (k == c || shared(n)) put(entryOf(k, smallPage(n)), fresh);
        invalidate(c, smallPage(n), shared(n));
    }
    void changeLarge() {
        const auto n = unsigned(pick(kLargePages)), c = unsigned(pick(kContexts));
        put(entryOf(c, largePage(n)), randomLarge());
        invalidate(c, largePage(n) + (pick(0x200) << 12), false);
    }

    PagingState present() const {
        PagingState p;
        p.cr3 = cpu.cr3 & ~0xfffull;
        p.enabled = p.pae = p.longMode = p.nxe = true;
        p.pge = cpu.cr4 & cr4::PGE;
        p.wp = cpu.cr0 & cr0::WP;
        p.smap = cpu.cr4 & cr4::SMAP;
        p.pkru = cpu.cr4 & cr4::PKE ? cpu.pkru : 0;
        p.pkrs = cpu.cr4 & cr4::PKS ? cpu.msr.pkrs : 0;
        p.physicalBits = cpu.model.physicalBits;
        return p;
    }
    void access() {
        const bool large = !pick(4), write = pick(2);
        const uint64_t page = large ? largePage(unsigned(pick(kLargePages))) + (pick(0x200) << 12)
                                    : smallPage(unsigned(pick(kPages)));
        const uint64_t linear = page + pick(0x1ff) * 8;
        const Translation want =
            walkPageTables(memory, present(), LinearAddr(linear), write ? Access::Write : Access::Read,
                           cpu.cpl == 3, cpu.flags.test(flag::AC), Marking::Nothing);
        const uint64_t entry = entryOf(context_, linear), before = get(entry);
        bool fault = false;
        uint64_t value = 0;
        try {
            if (write)
                cpu.store<uint64_t>(Ds, linear, ++stamp_);
            else
                value = cpu.load<uint64_t>(Ds, linear);
        } catch (const Fault& f) {
            fault = true;
            CHECK(f.vector == kPF);
            CHECK(f.error == want.errorCode);
            CHECK(f.cr2 == linear);
        }
        REQUIRE(fault == want.fault);
        fault ? faults++ : passes++;
        if (fault) {
            CHECK(get(entry) == before);
        } else {
            CHECK((write ? stamp_ : value) == get(want.addr.value));
            const uint64_t marks = A | (write ? D : 0);
            CHECK((get(entry) & marks) == marks);
        }
    }

    std::mt19937_64 random_;
    unsigned context_ = 0;
    uint64_t stamp_ = 1 << 20;
};

// Two contexts that see different frames at kPage.
struct TwoContexts : GuestBench {
    static constexpr uint64_t kPage = 0x1000000, kOld = 0x90000, kNew = 0x91000;
    TwoContexts() : GuestBench(Mode::Long64) {
        for (unsigned c = 0; c < 2; c++) {
            const uint64_t b = kTablesAt + c * 0x8000;
            put(b, (b + 0x1000) | P | W | U);
            put(b + 0x1000, (b + 0x2000) | P | W | U);
            put(b + 0x2000 + 8 * 8, (b + 0x3000) | P | W | U);
            put(b + 0x3000, kOld | P | W | U | A | D);
        }
        put(kOld, 1);
        put(kNew, 2);
        cpu.setCr4(cpu.cr4 | cr4::PGE);
        cpu.setCr3(kTablesAt);
        cpu.setCr4(cpu.cr4 | cr4::PCIDE);
    }
    void put(uint64_t at, uint64_t v) { memory.write<uint64_t>(PhysAddr(at), v); }
    void go(unsigned context, bool keep) {
        cpu.setCr3((kTablesAt + context * 0x8000) | context | (keep ? kNoFlush : 0));
    }
    void remap(unsigned context, uint64_t entry) { put(kTablesAt + context * 0x8000 + 0x3000, entry); }
    uint64_t read() { return cpu.load<uint64_t>(Ds, kPage); }
};

}  // namespace

TEST_CASE("TLBs end as fresh walks do, under the manual's rules of invalidation") {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        CAPTURE(seed);
        Contexts g(seed);
        for (int i = 0; i < 20'000; i++) g.one();
        CHECK(g.faults > 1000);
        CHECK(g.passes > 1000);
    }
}

TEST_CASE("translations of a PCID outlive the others' time, and bit 63 of CR3 keeps them") {
    TwoContexts g;
    g.go(1, true);
    CHECK(g.read() == 1);
    g.go(0, false);
    g.remap(1, TwoContexts::kNew | P | W | U);  // behind the TLB's back
    g.go(1, true);
    CHECK(g.read() == 1);
    CHECK((g.cpu.cr3 & kNoFlush) == 0);
    g.go(1, false);
    CHECK(g.read() == 2);
}

TEST_CASE("INVPCID reaches the contexts it names") {
    for (unsigned type = 0; type < 4; type++) {
        CAPTURE(type);
        TwoContexts g;
        g.go(1, true);
        CHECK(g.read() == 1);
        g.go(0, true);
        g.remap(1, TwoContexts::kNew | P | W | U);
        if (type < 2) {  // another context: nothing happens
            g.cpu.invalidatePcid(type, 0, TwoContexts::kPage);
            g.go(1, true);
            CHECK(g.read() == 1);
            g.go(0, true);
        }
        g.cpu.invalidatePcid(type, 1, TwoContexts::kPage);
        g.go(1, true);
        CHECK(g.read() == 2);
    }
}

TEST_CASE("global translations go with INVLPG and INVPCID type 2 only") {
    TwoContexts g;
    g.remap(1, TwoContexts::kOld | P | W | U | A | D | G);
    g.go(1, true);
    CHECK(g.read() == 1);
    g.remap(1, TwoContexts::kNew | P | W | U | A | D | G);
    g.go(1, false);
    CHECK(g.read() == 1);
    for (unsigned type : {0u, 1u, 3u}) {
        g.cpu.invalidatePcid(type, 1, TwoContexts::kPage);
        CHECK(g.read() == 1);
    }
    SUBCASE("INVLPG, by another context too") {
        g.go(0, true);
        g.cpu.flushPage(TwoContexts::kPage);
        g.go(1, true);
    }
    SUBCASE("INVPCID type 2") { g.cpu.invalidatePcid(2, 0, 0); }
    SUBCASE("CR4.PGE") { g.cpu.setCr4(g.cpu.cr4 ^ cr4::PGE); }
    CHECK(g.read() == 2);
}

TEST_CASE("a page fault drops what is cached for its page") {
    TwoContexts g;
    g.remap(0, TwoContexts::kOld | P | U);
    CHECK(g.read() == 1);
    g.remap(0, 0);
    CHECK(g.read() == 1);  // nobody has invalidated it
    CHECK_THROWS_AS(g.cpu.store<uint8_t>(Ds, TwoContexts::kPage, 0), Fault);
    CHECK_THROWS_AS(g.read(), Fault);
}

TEST_CASE("an access over two pages marks neither when the second faults") {
    TwoContexts g;
    g.remap(0, TwoContexts::kOld | P | W | U);
    CHECK_THROWS_AS(g.cpu.store<uint64_t>(Ds, TwoContexts::kPage + 0xffc, 0), Fault);
    CHECK(g.memory.read<uint64_t>(PhysAddr(kTablesAt + 0x3000)) == (TwoContexts::kOld | P | W | U));
}

TEST_CASE("5-level paging: 57-bit addresses, and what is canonical") {
    GuestBench g(GuestBench::Mode::Protected32);
    auto put = [&](uint64_t at, uint64_t v) { g.memory.write<uint64_t>(PhysAddr(at), v); };
    constexpr uint64_t kHigh = 0x00f0'0000'0000'0000;  // PML5 entry 240
    put(kTablesAt + 240 * 8, (kTablesAt + 0x1000) | P | W | U);
    put(kTablesAt, (kTablesAt + 0x1000) | P | W | U);
    put(kTablesAt + 0x1000, (kTablesAt + 0x2000) | P | W | U);
    put(kTablesAt + 0x2000, (kTablesAt + 0x3000) | P | W | U);
    put(kTablesAt + 0x3000, PS | P | W | U);  // the first 2 MiB
    g.cpu.setCr4(g.cpu.cr4 | cr4::PAE | cr4::LA57);
    g.cpu.setCr3(kTablesAt);
    g.cpu.setEfer(efer::LME);
    g.cpu.setCr0(g.cpu.cr0 | cr0::PG);
    CHECK_THROWS_AS(g.cpu.setCr4(g.cpu.cr4 & ~cr4::LA57), Fault);  // not while LMA is set
    g.cpu.seg[Cs].rights = uint16_t((g.cpu.seg[Cs].rights & ~0x4000) | 0x2000);
    g.cpu.segmentsChanged();
    put(0x70000, 0x1234);
    CHECK(g.cpu.load<uint64_t>(Ds, 0x70000) == 0x1234);
    CHECK(g.cpu.load<uint64_t>(Ds, kHigh + 0x70000) == 0x1234);
    CHECK_THROWS_AS(g.cpu.load<uint64_t>(Ds, 0x0100'0000'0000'0000), Fault);
    try {
        g.cpu.load<uint64_t>(Ds, 0xff00'0000'0000'0000);  // canonical, not mapped
        FAIL("no fault");
    } catch (const Fault& f) { CHECK(f.vector == kPF); }
}

TEST_CASE("CR3, CR4 and CR0 under PCIDs") {
    TwoContexts g;
    CHECK_THROWS_AS(g.cpu.setCr0(g.cpu.cr0 & ~cr0::PG), Fault);
    CHECK_THROWS_AS(g.cpu.setCr3(1ull << g.cpu.model.physicalBits), Fault);
    g.cpu.setCr4(g.cpu.cr4 & ~cr4::PCIDE);
    CHECK_THROWS_AS(g.cpu.setCr3(kTablesAt | kNoFlush), Fault);  // reserved again
    g.cpu.setCr3(kTablesAt | 1);
    CHECK_THROWS_AS(g.cpu.setCr4(g.cpu.cr4 | cr4::PCIDE), Fault);  // CR3 bits 0 to 11 are not 0
}
