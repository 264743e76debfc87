// Pages that come under watch, as page tables or because code was decoded from them, while an address space
// that may write to them directly is not the current one: when it comes back, its writes must be noticed.
#include <doctest/doctest.h>

#include "tests/cpu_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kPresent = 1, kWritable = 2, kNoFlush = 1ull << 63, kGlobal = 0x100;
constexpr uint64_t kPages = 0x200000;  // where everything lies; all address spaces have it at its own address
constexpr uint64_t kOther = 1ull << 39;      // what only the second address space has
constexpr unsigned kFirst = 1, kSecond = 2;  // identifiers

// Two address spaces with process-context identifiers. Only the second one is tracked.
struct TwoSpaces {
    enum Page : uint64_t { Root, Pdpt, Directory, Table, LateTable, Old, New, Code, Global, Count };
    static uint64_t at(Page page) { return kPages + page * kPageSize; }

    TwoSpaces() : bench(GuestBench::Mode::Long64) {
        bench.addRam(kPages, Count * kPageSize);
        first = bench.cpu.cr3;
        std::memcpy(bench.host(at(Root)), bench.host(first), kPageSize);
        entry(at(Root) + 8, at(Pdpt));
        entry(at(Pdpt), at(Directory));
        entry(at(Directory), at(Table));
        entry(at(Directory) + 8, at(LateTable));
        entry(at(Table), at(Old));
        entry(at(LateTable), at(Old));
        entry(at(LateTable) + 8, at(Global) | kGlobal);
        put(at(Old), 1);
        put(at(New), 2);
        Cpu& c = bench.cpu;
        c.setCr4(c.cr4 | cr4::PCIDE | cr4::PGE);
        c.contexts().policy = {.worthTracking = 1, .mostWorth = 1, .weighed = 1'000'000};
        for (unsigned n = 0; n < 4; n++) {
            enterFirst();
            enterSecond();
            c.load<uint64_t>(Ds, kOther);
        }
    }
    void entry(uint64_t where, uint64_t page) { put(where, page | kPresent | kWritable); }
    void put(uint64_t where, uint64_t v) { bench.memory.write<uint64_t>(PhysAddr(where), v); }
    // It keeps its translations, and so the right to write directly.
    void enterFirst() { bench.cpu.setCr3(first | kFirst | kNoFlush); }
    // Everything has to go, or to be what the tables say.
    void enterSecond() { bench.cpu.setCr3(at(Root) | kSecond); }

    GuestBench bench;
    uint64_t first = 0;
};

constexpr uint64_t kLate = kOther + 0x200000;  // by LateTable

// `between`: what happens in the second address space after the page has come under watch.
template <class Between>
void tableComesUnderWatch(Between between) {
    TwoSpaces s;
    Cpu& c = s.bench.cpu;
    REQUIRE(c.contexts().current().tracked);
    s.enterFirst();
    CHECK_FALSE(c.contexts().current().tracked);
    c.store<uint64_t>(Ds, s.at(s.LateTable) + 0xf00, 0);  // nothing is known of the page yet
    s.enterSecond();
    CHECK(c.load<uint64_t>(Ds, kLate) == 1);
    between(s);
    s.enterFirst();
    c.store<uint64_t>(Ds, s.at(s.LateTable), s.at(s.New) | kPresent | kWritable);
    s.enterSecond();
    CHECK(c.load<uint64_t>(Ds, kLate) == 2);
}

}  // namespace

TEST_CASE("watched pages: a table, written by an address space that could write directly before") {
    tableComesUnderWatch([](TwoSpaces&) {});
}

TEST_CASE("watched pages: the same after more invalidations than are remembered one by one") {
    tableComesUnderWatch([](TwoSpaces& s) {
        s.bench.cpu.load<uint64_t>(Ds, kLate + kPageSize);
        for (unsigned n = 0; n < 1000; n++) s.bench.cpu.flushPage(kLate + kPageSize);  // global: others too
    });
}

TEST_CASE("watched pages: code, written by an address space that could write directly before") {
    TwoSpaces s;
    Cpu& c = s.bench.cpu;
    const uint8_t code[] = {0xb8, 1, 0, 0, 0, 0xf4};  // mov eax, 1; hlt
    s.bench.write(s.at(s.Code), code);
    s.enterFirst();
    c.store<uint8_t>(Ds, s.at(s.Code) + 0xf00, 0);
    for (unsigned value : {1, 2, 3}) {
        s.enterFirst();
        c.store<uint8_t>(Ds, s.at(s.Code) + 1, uint8_t(value));
        s.enterSecond();
        c.rip = s.at(s.Code);
        c.halted = false;
        CHECK_FALSE(s.bench.runToHalt());
        CHECK(c.gpr[Rax] == value);
    }
}

// What tracking is worth is weighed by what the guest does, not by how often an engine's caches lose code and
// look for it again: interpreter and translator are to keep the same translations.
TEST_CASE("watched pages: looking for the same code again changes no decision") {
    auto run = [](unsigned again) {
        constexpr unsigned kPagesUsed = 64;
        constexpr uint64_t kFarTable = kPages + 0x105000;  // shares a place with LateTable among known tables
        constexpr uint64_t kNear = kLate + 0x2000, kFar = kNear + 0x400000;  // share one in the fetch cache
        TwoSpaces s;
        Cpu& c = s.bench.cpu;
        s.bench.addRam(kPages + 0x100000, 0x10000);
        s.entry(s.at(s.Directory) + 0x18, kFarTable);
        s.entry(s.at(s.LateTable) + 0x10, s.at(s.Code));
        s.entry(kFarTable + 0x10, s.at(s.Code));
        s.put(s.at(s.Code), 0x90);  // nop
        for (unsigned k = 0; k < kPagesUsed; k++) s.entry(s.at(s.Table) + 8 * k, s.at(s.Old));
        auto step = [&](uint64_t at) {
            c.rip = at;
            CHECK_FALSE(s.bench.step());
            CHECK(c.rip == at + 1);
        };
        c.contexts().policy = {.worthTracking = 2, .mostWorth = 4, .weighed = 4};
        for (unsigned n = 0; n < 100; n++) {
            s.enterFirst();
            s.enterSecond();
            for (unsigned k = 0; k < kPagesUsed; k++) c.load<uint64_t>(Ds, kOther + k * kPageSize);
            if (n % 16 == 0) s.entry(s.at(s.Table), s.at(s.Old));
            for (unsigned k = 0; k <= again; k++) step(kNear), step(kFar);
        }
        return c.contexts().statistics();
    };
    const TranslationContexts::Statistics once = run(0), often = run(50);
    CHECK(often.walks > once.walks + 1000);
    CHECK(once.begun > 0);
    CHECK(once.stale > 0);
    CHECK((once.begun == often.begun && once.ended == often.ended));
    CHECK((once.kept == often.kept && once.stale == often.stale && once.purged == often.purged));
}
