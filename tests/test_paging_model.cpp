// Page walks against a naive reading of the manual's tables (SDM vol. 3, 4.3 to 4.7): random entries on a
// random path, random control bits, random accesses. Expected is computed here from the format tables and the
// access rights of 4.6, one sentence of the manual at a time, with nothing shared with the walk under test.
#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "mmu/page_walk.hpp"

using namespace kiln;

namespace {

constexpr uint64_t bits(unsigned high, unsigned low) {
    return high < low ? 0 : (high == 63 ? ~0ull : (1ull << (high + 1)) - 1) & ~((1ull << low) - 1);
}
constexpr uint64_t bit(unsigned n) { return 1ull << n; }

enum class Mode { Bits32, Pae, FourLevel, FiveLevel };

struct Setting {
    Mode mode;
    unsigned maxPhyAddr;
    bool pse, pse36, gigabyte, pge, wp, nxe, smep, smap, pke, pks;
    uint32_t pkru, pkrs;
    bool user, ac;
    Access access;
    bool longMode() const { return mode == Mode::FourLevel || mode == Mode::FiveLevel; }
};

struct Step {
    uint64_t at, value;
    char kind;  // '5', '4', '3', '2', '1': PML5E to PTE
};

struct Expected {
    bool fault = false;
    uint32_t code = 0;
    uint64_t addr = 0, size = 0;
    bool global = false;
    std::vector<uint64_t> values;  // of the entries afterwards
};

bool mapsPage(const Setting& s, const Step& e) {
    if (e.kind == '1') return true;
    if (!(e.value & bit(7))) return false;
    if (e.kind == '2') return s.mode != Mode::Bits32 || s.pse;
    return e.kind == '3' && s.longMode() && s.gigabyte;
}

uint64_t reservedBits(const Setting& s, const Step& e) {
    const unsigned m = s.maxPhyAddr;
    const bool page = mapsPage(s, e);
    if (s.mode == Mode::Bits32) {
        if (e.kind == '1' || !page) return 0;
        if (!s.pse36) return bits(21, 13);
        const unsigned width = m < 40 ? m : 40;  // table 4-4
        return bits(21, width - 19);
    }
    uint64_t r = s.mode == Mode::Pae ? bits(62, m) : bits(51, m);
    if (!s.nxe) r |= bit(63);
    if (e.kind == '5' || e.kind == '4') r |= bit(7);
    if (e.kind == '3' && page) r |= bits(29, 13);
    if (e.kind == '3' && !s.gigabyte) r |= bit(7);
    if (e.kind == '2' && page) r |= bits(20, 13);
    return r;
}

bool keyForbids(const Setting& s, bool userAddress, unsigned key) {
    if (!s.longMode() || s.access == Access::Fetch) return false;
    if (userAddress ? !s.pke : !s.pks) return false;
    const uint32_t rights = userAddress ? s.pkru : s.pkrs;
    const bool ad = rights >> (2 * key) & 1, wd = rights >> (2 * key + 1) & 1;
    if (ad) return true;
    return wd && s.access == Access::Write && (s.wp || s.user);
}

// 4.6.1, by mode of access, kind of access, mode of address.
bool rightsAllow(const Setting& s, bool userAddress, bool allWritable, bool anyXd) {
    if (!s.user) {
        const bool overSmap = !s.smap || s.ac;
        switch (s.access) {
            case Access::Read: return !userAddress || overSmap;
            case Access::Write:
                if (!userAddress) return !s.wp || allWritable;
                return overSmap && (!s.wp || allWritable);
            case Access::Fetch:
                if (userAddress && s.smep) return false;
                return !s.nxe || !anyXd;
        }
    }
    if (!userAddress) return false;
    switch (s.access) {
        case Access::Read: return true;
        case Access::Write: return allWritable;
        case Access::Fetch: return !s.nxe || !anyXd;
    }
    return false;
}

Expected expect(const Setting& s, uint64_t linear, std::vector<Step>& path) {
    Expected x;
    uint32_t common = s.access == Access::Write ? 2 : 0;
    if (s.user) common |= 4;
    if (s.access == Access::Fetch && (s.smep || (s.mode != Mode::Bits32 && s.nxe))) common |= 16;
    auto fault = [&](uint32_t more) {
        x.fault = true;
        x.code = common | more;
        for (Step& e : path) x.values.push_back(e.value);
        return x;
    };
    bool userAddress = true, allWritable = true, anyXd = false;
    size_t last = 0;
    for (;; last++) {
        const Step& e = path[last];
        if (!(e.value & bit(0))) return fault(0);
        if (e.value & reservedBits(s, e)) return fault(1 | 8);
        userAddress &= bool(e.value & bit(2));
        allWritable &= bool(e.value & bit(1));
        anyXd |= s.mode != Mode::Bits32 && e.value & bit(63);
        if (mapsPage(s, e)) break;
    }
    const Step& leaf = path[last];
    const bool keyBad = keyForbids(s, userAddress, unsigned(leaf.value >> 59 & 15));
    if (keyBad || !rightsAllow(s, userAddress, allWritable, anyXd)) return fault(1 | (keyBad ? 32 : 0));
    for (size_t i = 0; i < path.size(); i++) {
        uint64_t v = path[i].value;
        if (i <= last) v |= bit(5);
        if (i == last && s.access == Access::Write) v |= bit(6);
        x.values.push_back(v);
    }
    x.size = leaf.kind == '1'         ? 4096
             : leaf.kind == '3'       ? bit(30)
             : s.mode == Mode::Bits32 ? bit(22)
                                      : bit(21);
    uint64_t frame = leaf.value & bits(51, 12);
    if (s.mode == Mode::Bits32) {
        frame = leaf.value & bits(31, 12);
        if (leaf.kind == '2') frame = (leaf.value & bits(31, 22)) | (leaf.value & bits(20, 13)) << 19;
    }
    x.addr = (frame & ~(x.size - 1)) | (linear & (x.size - 1));
    x.global = s.pge && leaf.value & bit(8);
    return x;
}

class RandomWalks {
  public:
    explicit RandomWalks(uint64_t seed) : random_(seed) { memory_.mapRam(PhysAddr(0), ram_.size(), ram_); }

    void one() {
        const Setting s = setting();
        const uint64_t linear = address(s);
        std::vector<Step> path = makePath(s, linear);
        PagingState p = state(s);
        if (s.mode == Mode::Pae) {
            const uint64_t pdpte = kTables | (chance(15) ? 0 : 1);
            p.pdpte[linear >> 30 & 3] = pdpte;
            if (!(pdpte & 1)) return absentPdpte(s, p, linear);
        }
        const Expected x = expect(s, linear, path);
        const Translation probe = walk(s, p, linear, Marking::Nothing);
        for (const Step& e : path) check(entry(s, e.at) == e.value, "a probe leaves no mark");
        const Translation t = walk(s, p, linear, Marking::SetsBits);
        check(t.fault == x.fault && probe.fault == x.fault, "fault");
        if (x.fault) {
            check(t.errorCode == x.code && probe.errorCode == x.code, "error code");
            faults_++;
        } else {
            check(t.addr.value == x.addr && probe.addr.value == x.addr, "physical address");
            check(t.pageSize == x.size, "page size");
            check(t.global == x.global, "global");
            translations_++;
        }
        for (size_t i = 0; i < path.size(); i++) check(entry(s, path[i].at) == x.values[i], "A and D bits");
        if (!x.fault) checkWritable(s, linear, path, p, t);
        if (failed_) describe(s, linear, path, x, t);
    }
    bool failed() const { return failed_; }
    uint64_t faults_ = 0, translations_ = 0;

  private:
    static constexpr uint64_t kTables = 0x10000;

    uint64_t pick(uint64_t below) { return random_() % below; }
    bool chance(unsigned percent) { return pick(100) < percent; }

    Setting setting() {
        static constexpr unsigned kWidths[] = {32, 36, 39, 40, 41, 46, 52};
        Setting s{};
        s.mode = Mode(pick(4));
        s.maxPhyAddr = kWidths[pick(std::size(kWidths))];
        s.pse = chance(80), s.pse36 = chance(80), s.gigabyte = chance(80), s.pge = chance(70);
        s.wp = chance(50), s.nxe = chance(70), s.smep = chance(50), s.smap = chance(50);
        s.pke = chance(60), s.pks = chance(60);
        s.pkru = uint32_t(random_()) & uint32_t(random_()),
        s.pkrs = uint32_t(random_()) & uint32_t(random_());
        s.user = chance(50), s.ac = chance(50);
        s.access = Access(pick(3));
        return s;
    }
    uint64_t address(const Setting& s) {
        if (!s.longMode()) return random_() & 0xffffffff;
        const unsigned unused = s.mode == Mode::FiveLevel ? 7 : 16;
        return uint64_t(int64_t(random_() << unused) >> unused);
    }
    std::vector<Step> makePath(const Setting& s, uint64_t linear) {
        const std::string kinds = s.mode == Mode::FiveLevel   ? "54321"
                                  : s.mode == Mode::FourLevel ? "4321"
                                                              : "21";
        const unsigned entryBytes = s.mode == Mode::Bits32 ? 4 : 8,
                       indexBits = s.mode == Mode::Bits32 ? 10 : 9;
        std::vector<Step> path;
        uint64_t table = kTables;
        for (char kind : kinds) {
            const unsigned shift = 12 + indexBits * unsigned(kind - '1');
            Step e{table + (linear >> shift & (bit(indexBits) - 1)) * entryBytes, 0, kind};
            e.value = value(s, kind, table += 0x1000);
            if (s.mode == Mode::Bits32)
                memory_.write<uint32_t>(PhysAddr(e.at), uint32_t(e.value));
            else
                memory_.write<uint64_t>(PhysAddr(e.at), e.value);
            path.push_back(e);
        }
        return path;
    }
    uint64_t value(const Setting& s, char kind, uint64_t next) {
        uint64_t v = (random_() & (bits(11, 8) | bits(6, 3))) | (chance(96) ? 1 : 0) | (chance(75) ? 2 : 0) |
                     (chance(75) ? 4 : 0) | (kind != '1' && chance(20) ? bit(7) : 0);
        if (s.mode != Mode::Bits32 && chance(s.nxe ? 15 : 2)) v |= bit(63);
        if (s.longMode()) v |= random_() & bits(62, 52);
        const Step probe{0, v, kind};
        if (!mapsPage(s, probe)) {
            v |= next;
        } else {
            uint64_t frame = random_() & (s.mode == Mode::Bits32 ? bits(31, 12) : bits(s.maxPhyAddr - 1, 12));
            v |= chance(90) ? frame & ~reservedBits(s, probe) : frame;
        }
        const uint64_t stray = bit(unsigned(32 + pick(31)));
        const bool moves = !mapsPage(s, probe) && stray < bit(s.maxPhyAddr);  // would lead to another table
        if (s.mode != Mode::Bits32 && chance(2) && !moves) v |= stray;
        return s.mode == Mode::Bits32 ? uint32_t(v) : v;
    }
    static PagingState state(const Setting& s) {
        PagingState p;
        p.cr3 = kTables | 0x18;
        p.enabled = true;
        p.pae = s.mode != Mode::Bits32;
        p.longMode = s.longMode();
        p.la57 = s.mode == Mode::FiveLevel;
        p.pse = s.pse, p.pge = s.pge, p.wp = s.wp, p.nxe = s.nxe, p.smep = s.smep, p.smap = s.smap;
        p.pse36 = s.pse36, p.gigabytePages = s.gigabyte;
        p.pkru = s.pke && s.longMode() ? s.pkru : 0;
        p.pkrs = s.pks && s.longMode() ? s.pkrs : 0;
        p.physicalBits = s.maxPhyAddr;
        return p;
    }
    Translation walk(const Setting& s, const PagingState& p, uint64_t linear, Marking marking) {
        return walkPageTables(memory_, p, LinearAddr(linear), s.access, s.user, s.ac, marking);
    }
    uint64_t entry(const Setting& s, uint64_t at) {
        return s.mode == Mode::Bits32 ? memory_.read<uint32_t>(PhysAddr(at))
                                      : memory_.read<uint64_t>(PhysAddr(at));
    }
    void absentPdpte(const Setting& s, const PagingState& p, uint64_t linear) {
        const Translation t = walk(s, p, linear, Marking::SetsBits);
        check(t.fault && !(t.errorCode & (1 | 8 | 32)), "absent PDPTE");
    }
    // `writable` promises that a write needs no walk: it is allowed and D is set already.
    void checkWritable(Setting s, uint64_t linear, std::vector<Step>& path, const PagingState& p,
                       const Translation& t) {
        if (s.access == Access::Fetch) return;
        for (Step& e : path) e.value = entry(s, e.at);
        s.access = Access::Write;
        const Expected x = expect(s, linear, path);
        bool unchanged = !x.fault;
        for (size_t i = 0; i < path.size(); i++) unchanged &= x.values[i] == path[i].value;
        check(t.writable == unchanged, "writable");
        check(walk(s, p, linear, Marking::Nothing).fault == x.fault, "write probe");
    }
    void check(bool holds, const char* what) {
        if (holds || failed_) return;
        failed_ = true;
        what_ = what;
    }
    void describe(const Setting& s, uint64_t linear, const std::vector<Step>& path, const Expected& x,
                  const Translation& t) {
        std::string entries;
        for (const Step& e : path) entries += std::string(1, e.kind) + "=" + std::to_string(e.value) + " ";
        FAIL_CHECK(std::string(what_), ": mode ", int(s.mode), " access ", int(s.access), " user ", s.user,
                   " linear ", linear, " wp ", s.wp, " nxe ", s.nxe, " smep ", s.smep, " smap ", s.smap,
                   " ac ", s.ac, " M ", s.maxPhyAddr, " entries ", entries, " expected ",
                   x.fault ? int(x.code) : -1, " got ", t.fault ? int(t.errorCode) : -1);
    }

    std::mt19937_64 random_;
    PhysicalMemory memory_;
    RamBlock ram_{"ram", 1 << 20};
    bool failed_ = false;
    const char* what_ = "";
};

}  // namespace

TEST_CASE("random page walks agree with the manual's tables") {
    RandomWalks walks(20260101);
    for (int i = 0; i < 300'000 && !walks.failed(); i++) walks.one();
    CHECK(walks.faults_ > 50'000);  // both kinds are well covered
    CHECK(walks.translations_ > 50'000);
}
