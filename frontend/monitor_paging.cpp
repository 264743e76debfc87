// The human monitor: what the page tables say, for all modes of paging (SDM vol. 3, chapter 4). Tables are
// read as they lie in memory, TLBs are not asked; nothing gets an accessed bit by it.
//
// A guest can make tables that name each other round and round, so that there is no end of mappings: looking
// stops after so many tables or lines, and says so.
#include <algorithm>

#include "frontend/memory_file.hpp"
#include "frontend/monitor_tables.hpp"
#include "frontend/monitor_values.hpp"

namespace kiln {

namespace {

constexpr uint64_t kPresent = 1, kWrite = 2, kUser = 4, kLarge = 1 << 7, kNoExecute = 1ull << 63;
constexpr uint64_t kAddress = 0x000ffffffffff000;
constexpr unsigned kMostTables = 20'000, kMostLines = 16'384;

// A leaf, and what all levels above it allow.
struct Mapping {
    uint64_t linear, size, physical, entry;
    bool user, writable, executable;
};

struct Walk {
    std::function<bool(const Mapping&)> found;  // false: enough
    uint64_t from = 0;                          // mappings that end below don't matter
    unsigned tables = 0;
    bool full = false;  // there is more
};

// A mode of paging: how wide entries are, and which levels can have large pages.
struct Mode {
    unsigned levels, entryBytes, indexBits, topBits;
    bool noExecute, largeSecond, largeThird, pse36;
    unsigned linearBits;
};

Mode modeOf(const CpuState& c) {
    const bool nx = c.efer & efer::NXE;
    if (c.longMode() && (c.cr4 & cr4::LA57)) return {5, 8, 9, 9, nx, true, true, false, 57};
    if (c.longMode()) return {4, 8, 9, 9, nx, true, true, false, 48};
    if (c.cr4 & cr4::PAE) return {3, 8, 9, 2, nx, true, false, false, 32};
    return {2, 4, 10, 10, false, bool(c.cr4 & cr4::PSE), false, true, 32};
}

class TableReader {
  public:
    TableReader(Monitor& monitor, Walk& walk)
        : memory_(monitor.machine.memory()), cpu_(monitor.cpu()), mode_(modeOf(monitor.cpu())), walk_(walk) {}

    void all() {
        const uint64_t root = mode_.levels == 3 ? cpu_.cr3 & 0xffffffe0 : cpu_.cr3 & kAddress;
        table(mode_.levels, root, 0, {.user = true, .writable = true, .executable = true});
    }

  private:
    struct Rights {
        bool user, writable, executable;
    };

    // `level` 1 has pages of 4 KiB.
    void table(unsigned level, uint64_t at, uint64_t linear, Rights rights) {
        const unsigned bits = level == mode_.levels ? mode_.topBits : mode_.indexBits;
        const unsigned shift = 12 + (level - 1) * mode_.indexBits;
        if (++walk_.tables > kMostTables) walk_.full = true;
        PhysAddr where(at);
        if (cpu_.smm) where = memory_.inSmm(where, false);
        const uint8_t* host = memory_.find(where).host;
        if (!host) return;
        for (uint64_t i = 0; i < 1ull << bits && !walk_.full; i++) {
            uint64_t entry = 0;
            std::memcpy(&entry, host + i * mode_.entryBytes, mode_.entryBytes);
            uint64_t address = linear | i << shift;
            if (level == mode_.levels && mode_.linearBits > 32 && address >> (mode_.linearBits - 1))
                address |= ~0ull << mode_.linearBits;
            const bool behind = address + ((1ull << shift) - 1) >= walk_.from;
            if ((entry & kPresent) && behind) take(level, shift, address, entry, rights);
        }
    }

    void take(unsigned level, unsigned shift, uint64_t linear, uint64_t entry, Rights rights) {
        const bool pdpte = mode_.levels == 3 && level == 3;  // has no rights
        if (!pdpte) {
            rights.user &= bool(entry & kUser);
            rights.writable &= bool(entry & kWrite);
            rights.executable &= !(mode_.noExecute && (entry & kNoExecute));
        }
        const bool large =
            (entry & kLarge) && ((level == 2 && mode_.largeSecond) || (level == 3 && mode_.largeThird));
        if (level > 1 && !large) return table(level - 1, entry & kAddress, linear, rights);
        const uint64_t size = 1ull << shift;
        uint64_t physical = entry & kAddress & ~(size - 1);
        if (large && mode_.pse36) physical |= (entry >> 13 & 0xff) << 32;
        if (!walk_.found({linear, size, physical, entry, rights.user, rights.writable, rights.executable}))
            walk_.full = true;
    }

    PhysicalMemory& memory_;
    const CpuState& cpu_;
    const Mode mode_;
    Walk& walk_;
};

bool paging(Monitor& monitor) { return monitor.cpu().cr0 & cr0::PG; }

constexpr const char* kNoPaging = "paging is off\n";

// Neighbours with the same rights as one range.
struct Ranges {
    struct Range {
        uint64_t first, size;
        bool user, writable, executable;
    };
    std::optional<Range> now;
    std::string text;
    unsigned lines = 0;

    void add(const Mapping& m) {
        const bool goesOn = now && now->first + now->size == m.linear && now->user == m.user &&
                            now->writable == m.writable && now->executable == m.executable;
        if (goesOn) {
            now->size += m.size;
            return;
        }
        end();
        now = {m.linear, m.size, m.user, m.writable, m.executable};
    }
    void end() {
        if (!now) return;
        text +=
            fmt::format("{:016x}-{:016x} {:016x} {}r{}{}\n", now->first, now->first + now->size, now->size,
                        now->user ? 'u' : '-', now->writable ? 'w' : '-', now->executable ? 'x' : '-');
        lines++;
        now.reset();
    }
};

std::string infoMem(Monitor& monitor, const MonitorArguments&) {
    if (!paging(monitor)) return kNoPaging;
    Ranges ranges;
    Walk walk{.found = [&](const Mapping& m) {
        ranges.add(m);
        return ranges.lines < kMostLines;
    }};
    TableReader(monitor, walk).all();
    ranges.end();
    return ranges.text + (walk.full ? "... and more\n" : "");
}

// The letters are QEMU's: no execution, global, large, dirty, accessed, caching, user, write.
std::string line(const Mapping& m) {
    static constexpr std::pair<unsigned, char> kBits[] = {{8, 'G'}, {7, 'P'}, {6, 'D'},
                                                          {5, 'A'}, {4, 'C'}, {3, 'T'}};
    std::string letters(1, m.executable ? '-' : 'X');
    for (auto [bit, letter] : kBits)
        letters += (m.entry >> bit & 1) && (bit != 7 || m.size > kPageSize) ? letter : '-';
    letters += m.user ? 'U' : '-';
    letters += m.writable ? 'W' : '-';
    return fmt::format("{:016x}: {:016x} {}\n", m.linear, m.physical, letters);
}

std::string infoMappings(Monitor& monitor, const MonitorArguments& a) {
    constexpr unsigned kMost = 1024;
    if (!paging(monitor)) return kNoPaging;
    uint64_t from = 0;
    std::string error, text;
    if (!a.empty() && !parseExpression(monitor, joined(a), from, error)) return error + "\n";
    unsigned lines = 0;
    uint64_t next = 0;
    Walk walk{.found =
                  [&](const Mapping& m) {
                      if (++lines > kMost) return next = m.linear, false;
                      text += line(m);
                      return true;
                  },
              .from = from};
    TableReader(monitor, walk).all();
    if (walk.full) text += next ? fmt::format("... more: info mappings {:#x}\n", next) : "... and more\n";
    return text;
}

}  // namespace

MonitorTable pagingInfo() {
    static constexpr MonitorCommand kRows[] = {
        {"mem", "", "what the page tables map, as ranges with rights: user, read, write, execute", infoMem},
        {"mappings", "[ADDR]", "page by page, from an address on: linear, physical, entry's bits",
         infoMappings},
    };
    return kRows;
}

}  // namespace kiln
