// Translation contexts and the watch over page tables: random edits of tables by processors and bus masters,
// moves to CR3 with and without process-context identifiers, INVLPG, INVPCID, page faults, on several
// processors in turns. Every access has to end as the model of the manual's rules (table_model.hpp) allows.
// All tables and all data are the same few pages, so that tables are data, are tables of several levels at
// once, and map themselves.
//
//   KILN_TABLE_EDITS  edits for each of the four paging modes    KILN_FUZZ_SEED  another sequence
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/cpu_bench.hpp"
#include "tests/random.hpp"
#include "tests/table_model.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100, kNoFlush = 1ull << 63;
constexpr uint64_t kPool = 0x400000;  // within a page of 2 and one of 4 MiB
constexpr uint64_t kRam = 0x800000;   // behind that lies open bus, where large pages may lead
constexpr unsigned kPoolPages = 32, kSpaces = 4;
// At the end of each page, out of the way of the entries that are used.
constexpr uint64_t kStamp = 0xff0, kNote = 0xfe8;

enum class Paging { Legacy, Pae, FourLevel, FourLevelPcid };

class Gang {
  public:
    Gang(Paging paging, unsigned processors, uint64_t seed)
        : paging_(paging), random_(seed), bench_(GuestBench::Mode::Protected32) {
        bench_.addRam(0x100000, kRam - 0x100000);
        for (uint64_t at = 0; at < kRam; at += kPageSize) put32(at + kStamp, uint32_t(at));
        for (unsigned t = 0; t < kPoolPages; t++)
            for (unsigned slot : slots()) putEntry(entryAt(t, slot), randomEntry());
        std::vector<PagingState> spaces;
        for (unsigned s = 0; s < kSpaces; s++) spaces.push_back(space(s));
        model_ = std::make_unique<TableModel>(bench_.memory, spaces, linearPages(), kPool, kPoolPages);
        for (unsigned n = 0; n < processors; n++) addProcessor();
    }

    bool run(uint64_t edits) {
        while (edits_ < edits) {
            if (!one()) return false;
            if (operations_ > 10'000'000 + 400 * edits) return false;
        }
        return true;
    }
    std::string summary() {
        TranslationContexts::Statistics sum;
        for (auto& p : all_) {
            const auto& s = p->cpu.contexts().statistics();
            sum.hits += s.hits, sum.walks += s.walks, sum.kept += s.kept, sum.stale += s.stale;
            sum.purged += s.purged, sum.evictions += s.evictions, sum.begun += s.begun, sum.ended += s.ended;
        }
        kept = sum.kept, stale = sum.stale, begun = sum.begun;
        return fmt::format(
            "{} edits, {} changes of translations, {} accesses and {} faults as allowed ({} by "
            "translations of before); {} walks, {} kept, {} stale, {} purged, tracking begun {} "
            "times, ended {} times",
            edits_, model_->changes, passes_, faults_, old_, sum.walks, sum.kept, sum.stale, sum.purged,
            sum.begun, sum.ended);
    }
    uint64_t faults() const { return faults_; }
    uint64_t passes() const { return passes_; }
    uint64_t old() const { return old_; }
    uint64_t kept = 0, stale = 0, begun = 0;

  private:
    struct Processor {
        Processor(GuestBench& b, unsigned n, TableModel& model)
            : code(b.memory, n),
              apic(
                  b.clock, b.apicBus, n, false, [] { return uint64_t(0); }, Cpu::kTscHz),
              cpu(CpuPorts{b.memory, b.ports, apic, b.clock, b.log, code, [](const std::string&) {}}, n),
              view(model) {}
        CodeCache code;
        LocalApic apic;
        Cpu cpu;
        TableModel::View view;
        bool flushed = false;
    };

    bool wide() const { return paging_ != Paging::Legacy; }
    uint64_t pick(uint64_t n) { return below(random_, n); }
    void put32(uint64_t at, uint32_t v) { bench_.memory.write<uint32_t>(PhysAddr(at), v); }

    // -- tables
    std::vector<unsigned> slots() const {
        return wide() ? std::vector<unsigned>{0, 1, 3, 5, 256, 509 - 1}
                      : std::vector<unsigned>{0, 1, 5, 768, 1000};
    }
    uint64_t entryAt(unsigned table, unsigned slot) const {
        return kPool + table * kPageSize + slot * (wide() ? 8 : 4);
    }
    uint64_t randomTable() { return kPool + pick(kPoolPages) * kPageSize; }
    uint64_t get(uint64_t at) {
        return wide() ? bench_.memory.read<uint64_t>(PhysAddr(at))
                      : bench_.memory.read<uint32_t>(PhysAddr(at));
    }
    void putEntry(uint64_t at, uint64_t v) {
        if (wide())
            bench_.memory.write<uint64_t>(PhysAddr(at), v);
        else
            put32(at, uint32_t(v));
    }
    uint64_t flagBits() {
        return (pick(32) ? P : 0) | (pick(8) ? W : 0) | (pick(8) ? U : 0) | (pick(2) ? A : 0) |
               (pick(2) ? D : 0) | (pick(6) ? 0 : G);
    }
    uint64_t randomEntry() {
        if (pick(24) == 0) return flagBits() | PS | (wide() ? pick(4) * 0x200000 : pick(2) * 0x400000);
        return flagBits() | randomTable();
    }
    // For PAE paging the four entries of CR3's table, which nobody changes; spaces 2 and 3 have the same
    // address.
    uint64_t pdpt(unsigned s) const { return 0x300000 + std::min(s, 2u) * 32; }
    std::array<uint64_t, 4> pdptes(unsigned s) const {
        std::array<uint64_t, 4> e;
        for (unsigned i = 0; i < 4; i++) e[i] = (kPool + (s * 5 + i * 3) % kPoolPages * kPageSize) | P;
        return e;
    }
    PagingState space(unsigned s) const {
        PagingState p;
        p.enabled = p.pge = p.pse = p.wp = true;
        p.pae = wide();
        p.longMode = paging_ == Paging::FourLevel || paging_ == Paging::FourLevelPcid;
        p.physicalBits = kilnModel()->physicalBits;
        p.cr3 = kPool + s * kPageSize;
        if (paging_ == Paging::Pae) {
            const auto e = pdptes(s);
            std::copy(e.begin(), e.end(), p.pdpte);
            p.cr3 = pdpt(s);
        }
        return p;
    }
    std::vector<uint64_t> linearPages() const {
        std::vector<uint64_t> pages;
        auto add = [&](uint64_t linear) { pages.push_back(linear); };
        switch (paging_) {
            case Paging::Legacy:
                for (uint64_t a : {0, 1, 5, 768, 1000})
                    for (uint64_t b : {0, 1, 5, 1000}) add(a << 22 | b << 12);
                break;
            case Paging::Pae:
                for (uint64_t a : {0, 3})
                    for (uint64_t b : {1, 5, 256})
                        for (uint64_t c : {0, 5, 508}) add(a << 30 | b << 21 | c << 12);
                break;
            default:
                for (uint64_t a : {0, 256})
                    for (uint64_t b : {1, 3})
                        for (uint64_t c : {0, 256})
                            for (uint64_t d : {0, 5, 508})
                                add(uint64_t(int64_t((a << 39 | b << 30 | c << 21 | d << 12) << 16) >> 16));
        }
        return pages;
    }

    void addProcessor() {
        auto p = std::make_unique<Processor>(bench_, unsigned(all_.size()), *model_);
        Cpu& c = p->cpu;
        static_cast<CpuState&>(c) = bench_.cpu;
        const bool longMode = model_->spaces()[0].longMode;
        c.modesChanged();
        c.setCr4(c.cr4 | cr4::PSE | cr4::PGE | (wide() ? cr4::PAE : 0));
        loadPdptes(0);
        c.setCr3(model_->spaces()[0].cr3);
        if (longMode) c.setEfer(efer::LME);
        c.setCr0(c.cr0 | cr0::PG | cr0::WP);
        if (longMode) c.seg[Cs].rights = uint16_t((c.seg[Cs].rights & ~0x4000) | 0x2000);
        if (paging_ == Paging::FourLevelPcid) c.setCr4(c.cr4 | cr4::PCIDE);
        c.segmentsChanged();
        c.contexts().policy = {.worthTracking = 16, .mostWorth = 64, .weighed = 64};
        all_.push_back(std::move(p));
    }
    void loadPdptes(unsigned s) {
        if (paging_ != Paging::Pae) return;
        const auto e = pdptes(s);
        for (unsigned i = 0; i < 4; i++) bench_.memory.write<uint64_t>(PhysAddr(pdpt(s) + i * 8), e[i]);
    }

    // -- what happens
    bool one() {
        Processor& p = *all_[pick(all_.size())];
        switch (pick(64)) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4:
            case 5: moveToCr3(p); return true;
            case 6:
            case 7: invlpg(p); return true;
            case 8: invpcid(p); return true;
            case 9:
                if (pick(64) == 0) everything(p);
                return true;
            case 10:
                if (pick(4) == 0) split();
                return true;
            case 11: pick(4) == 0 ? storeInUse(p) : storeEntry(p); return !failed_;
            default: break;
        }
        // In quiet times tracking pays, in others it does not.
        const bool quiet = ++operations_ >> 14 & 1;
        if (pick(quiet ? 40 : 3) == 0) {
            edit();
            return true;
        }
        access(p);
        return !failed_;
    }
    unsigned pcidFor(unsigned space) { return pick(8) ? space % 3 + 1 : unsigned(1 + pick(3)); }
    void moveToCr3(Processor& p) {
        const auto s = unsigned(pick(kSpaces));
        loadPdptes(s);
        uint64_t cr3 = model_->spaces()[s].cr3;
        unsigned pcid = 0;
        bool keeps = false;
        if (paging_ == Paging::FourLevelPcid) {
            pcid = pcidFor(s);
            keeps = pick(2);  // also what was another space's, which then must not be found
            cr3 |= pcid | (keeps ? kNoFlush : 0);
        }
        p.cpu.setCr3(cr3);
        p.view.moveToCr3(s, pcid, keeps);
    }
    unsigned anyPage() { return unsigned(pick(model_->pages().size())); }
    void invlpg(Processor& p) {
        const unsigned page = anyPage();
        p.cpu.flushPage(model_->pages()[page] + pick(kPageSize));
        p.view.invlpg(page);
    }
    void invpcid(Processor& p) {
        if (paging_ != Paging::FourLevelPcid) return;
        const auto type = unsigned(pick(8) ? pick(2) : pick(4)), pcid = unsigned(1 + pick(3));
        const unsigned page = anyPage();
        p.cpu.invalidatePcid(type, uint16_t(pcid), model_->pages()[page]);
        p.view.invpcid(type, pcid, page);
    }
    void everything(Processor& p) {
        loadPdptes(p.view.space());  // CR4 reads them again
        p.cpu.setCr4(p.cpu.cr4 ^ cr4::PGE);
        p.cpu.setCr4(p.cpu.cr4 ^ cr4::PGE);
        p.view.everything();
    }
    uint64_t anyEntry() {
        const auto s = slots();
        return entryAt(unsigned(pick(kPoolPages)), s[pick(s.size())]);
    }
    void edit() {
        const uint64_t at = anyEntry();
        uint64_t v = get(at);
        switch (pick(8)) {
            case 0: v ^= W; break;
            case 1: v ^= U; break;
            case 2: v ^= P; break;
            case 3: v &= ~A; break;
            case 4: v &= ~D; break;
            case 5: v ^= G; break;
            default: v = randomEntry();
        }
        putEntry(at, v);
        edits_++;
        model_->written(at);
    }
    // A large page becomes a table of its pieces, or the other way round.
    void split() {
        const uint64_t at = anyEntry(), v = get(at), size = wide() ? 0x200000 : 0x400000;
        const auto table = unsigned(pick(kPoolPages));
        if (v & PS) {
            for (unsigned slot : slots()) {
                putEntry(entryAt(table, slot), ((v & ~(size - 1)) + slot * kPageSize) | (v & 0x16f));
                edits_++;
                model_->written(entryAt(table, slot));
            }
            putEntry(at, (kPool + table * kPageSize) | P | W | U | A);
        } else {
            putEntry(at, (v & 0x600000 & ~(size - 1)) | (v & 0x17f) | PS | P);
        }
        edits_++;
        model_->written(at);
    }

    // Of the processor that is about to access something.
    bool user(Processor& p) {
        if (pick(8) == 0) p.cpu.setCpl(p.cpu.cpl ? 0 : 3);
        return p.cpu.cpl == 3;
    }
    bool faultIsRight(Processor& p, unsigned page, const Fault& f, bool write) {
        const bool byUser = p.cpu.cpl == 3;
        const Translation t =
            walkPageTables(bench_.memory, model_->spaces()[p.view.space()], LinearAddr(model_->pages()[page]),
                           write ? Access::Write : Access::Read, byUser, true, Marking::Nothing);
        p.view.fault(page);
        faults_++;
        if (f.vector == kPF && t.fault && t.errorCode == f.error) return true;
        return fail(p, page,
                    fmt::format("vector {} error {:x}; the tables want {} {:x}", f.vector, f.error,
                                t.fault ? "a fault with error" : "no fault", t.errorCode));
    }
    bool fail(Processor& p, unsigned page, const std::string& what) {
        failed_ = true;
        MESSAGE(fmt::format("processor {} space {} page {} ({:x}) cpl {}, after {} edits: {}\n{}", p.cpu.id,
                            p.view.space(), page, model_->pages()[page], p.cpu.cpl, edits_, what,
                            p.view.describe(page)));
        return false;
    }
    bool marked(const Found& f, bool write) {
        const uint64_t bits = A | (write ? D : 0);
        return (get(f.entry) & bits) == bits;
    }
    // `accept` says whether what has happened is what a translation stands for.
    template <class Accept>
    void judge(Processor& p, unsigned page, bool write, Accept accept, const std::string& what) {
        bool present = false;
        if (!p.view.may(page, write, p.cpu.cpl == 3, accept, present)) {
            fail(p, page, what);
            return;
        }
        passes_++;
        if (!present) old_++;
    }
    void access(Processor& p) {
        const unsigned page = anyPage();
        const uint64_t linear = model_->pages()[page];
        const bool write = pick(2), byUser = user(p);
        // Page faults take long, so those that are certain are mostly left out.
        bool present = false;
        if (!p.view.may(
                page, write, byUser, [](const Found&) { return true; }, present) &&
            pick(16))
            return;
        try {
            if (write) {
                const auto value = ++stamp_;
                p.cpu.store<uint32_t>(Ds, linear + kNote, value);
                judge(
                    p, page, true,
                    [&](const Found& f) {
                        return f.page >= kRam ||
                               bench_.memory.read<uint32_t>(PhysAddr(f.page + kNote)) == value;
                    },
                    "a store went elsewhere");
            } else {
                const auto value = p.cpu.load<uint32_t>(Ds, linear + kStamp);
                judge(
                    p, page, false,
                    [&](const Found& f) { return value == (f.page < kRam ? uint32_t(f.page) : 0xffffffff); },
                    fmt::format("a load came from elsewhere: {:x}", value));
            }
        } catch (const Fault& f) { faultIsRight(p, page, f, write); }
    }
    // An entry is changed by a processor, through whatever maps the table: TLB, and marks of its page.
    void storeEntry(Processor& p) {
        const unsigned page = anyPage();
        const auto s = slots();
        const uint64_t offset = s[pick(s.size())] * (wide() ? 8 : 4);
        const uint64_t v = randomEntry();
        const bool byUser = user(p);
        const Found now = model_->now(p.view.space(), page);
        // It must be known where it goes: when nothing else may be, or else behind an invalidation. What may
        // be in the TLB from before the table came under watch is to be tried above all.
        bool present = false;
        auto elsewhere = [&](const Found& f) { return f.page != now.page; };
        const bool certain = now.allows(true, byUser) && !p.view.may(page, true, byUser, elsewhere, present);
        const bool fresh = !certain || pick(8) == 0;
        if (fresh) {
            p.cpu.flushPage(model_->pages()[page]);
            p.view.invlpg(page);
        }
        try {
            p.cpu.store<uint32_t>(Ds, model_->pages()[page] + kNote,
                                  ++stamp_);  // from now on it is in the TLB
            // What lies elsewhere may be taken for a table as well, and stays empty.
            if (now.page < kPool || now.page >= kPool + kPoolPages * kPageSize) return;
            if (wide())
                p.cpu.store<uint64_t>(Ds, model_->pages()[page] + offset, v);
            else
                p.cpu.store<uint32_t>(Ds, model_->pages()[page] + offset, uint32_t(v));
            edits_++;
            passes_++;
            if (get(now.page + offset) != v) fail(p, page, "an entry was stored elsewhere");
            if (fresh && !marked(now, true)) {
                // The entry may have been changed by the store itself.
                if (now.entry != now.page + offset) fail(p, page, "no accessed or dirty bit");
            }
            model_->written(now.page + offset);
        } catch (const Fault& f) { faultIsRight(p, page, f, true); }
    }

    // A processor changes an entry that is in use, through a mapping of its table that it has used before,
    // and loads CR3 again.
    void storeInUse(Processor& p) {
        const unsigned space = p.view.space();
        const Found used = model_->now(space, anyPage());
        if (!used.mapped || used.entry < kPool || used.entry >= kPool + kPoolPages * kPageSize) return;
        p.cpu.setCpl(0);
        for (unsigned page = 0; page < model_->pages().size(); page++) {
            const Found now = model_->now(space, page);
            bool present = false;
            auto elsewhere = [&](const Found& f) { return f.page != now.page; };
            if (now.page != (used.entry & ~kPageMask) || !now.allows(true, false) ||
                p.view.may(page, true, false, elsewhere, present))
                continue;
            const uint64_t linear = model_->pages()[page] + (used.entry & kPageMask), v = randomEntry();
            try {
                p.cpu.store<uint32_t>(Ds, model_->pages()[page] + kNote, ++stamp_);
                for (unsigned n = 0; n < model_->pages().size() && !failed_; n++) access(p);
                if (model_->now(space, page) != now) return;
                p.cpu.setCpl(0);
                if (wide())
                    p.cpu.store<uint64_t>(Ds, linear, v);
                else
                    p.cpu.store<uint32_t>(Ds, linear, uint32_t(v));
                edits_++;
                if (get(used.entry) != v) fail(p, page, "an entry in use was stored elsewhere");
                model_->written(used.entry);
            } catch (const Fault& f) { faultIsRight(p, page, f, true); }
            if (paging_ == Paging::FourLevelPcid) return;
            loadPdptes(space);
            p.cpu.setCr3(model_->spaces()[space].cr3);
            p.view.moveToCr3(space, 0, false);
            for (unsigned n = 0; n < model_->pages().size() && !failed_; n++) access(p);
            return;
        }
    }

    const Paging paging_;
    Random random_;
    GuestBench bench_;
    std::unique_ptr<TableModel> model_;
    std::vector<std::unique_ptr<Processor>> all_;
    uint64_t operations_ = 0, edits_ = 0, passes_ = 0, faults_ = 0, old_ = 0;
    uint32_t stamp_ = 0x8000'0000;
    bool failed_ = false;
};

void run(Paging paging, const char* name) {
    Gang g(paging, 3, environment("KILN_FUZZ_SEED", 1));
    const uint64_t edits = environment("KILN_TABLE_EDITS", 100'000);
    CHECK(g.run(edits));
    MESSAGE(name << ": " << g.summary());
    CHECK(g.passes() > edits / 20);
    CHECK(g.faults() > edits / 20);
    CHECK(g.old() > 0);
    CHECK(g.kept > 0);
    CHECK(g.stale > 0);
    CHECK(g.begun > 0);
}

}  // namespace

TEST_CASE("random edits of page tables: 32-bit paging") { run(Paging::Legacy, "32-bit paging"); }
TEST_CASE("random edits of page tables: PAE paging") { run(Paging::Pae, "PAE paging"); }
TEST_CASE("random edits of page tables: 4-level paging") { run(Paging::FourLevel, "4-level paging"); }
TEST_CASE("random edits of page tables: 4-level paging with identifiers") {
    run(Paging::FourLevelPcid, "4-level paging with identifiers");
}

// Who walks again until nothing is new (Cpu::walkWithoutThrowing) would not stop otherwise.
TEST_CASE("page tables: a table comes under watch once, and once more when it was written to") {
    GuestBench b(GuestBench::Mode::Protected32);
    const PhysAddr table(0x5000);
    const LinearRange range{0x200000, 21};
    TableUser user;
    CHECK(b.memory.trackTable(table, user, range, true, 0) == true);
    CHECK(b.memory.trackTable(table, user, range, true, 0) == false);
    CHECK(!user.hasStale);
    const uint64_t entry = 0;
    b.memory.write(table, &entry, sizeof entry);
    CHECK(user.hasStale);
    CHECK(b.memory.trackTable(table, user, range, true, 0) == true);
    CHECK(b.memory.trackTable(PhysAddr(1ull << 40), user, range, true, 0) == std::nullopt);
    b.memory.tables.forget(user);
}
