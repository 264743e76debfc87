// A model of what translations processors may use while page tables change under them (SDM vol. 3, 4.10): for
// each address space and page, what walks have found since when; for each processor, when the manual last
// wanted what to be invalidated. An access may end as a walk of the present tables would, or as one that was
// right at some time since then. Nothing else.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "mmu/page_walk.hpp"

namespace kiln::test {

// What a walk finds, whoever asks: CR0.WP is set, SMAP, SMEP and protection keys are not there.
struct Found {
    bool mapped = false, write = false, user = false, global = false;
    unsigned sizeClass = 0;        // 0: 4 KiB, else its size's logarithm
    uint64_t page = 0, entry = 0;  // physical; the last entry's address
    bool operator==(const Found&) const = default;
    bool allows(bool writes, bool byUser) const { return mapped && (!writes || write) && (!byUser || user); }
};

class TableModel {
  public:
    // Spaces are PagingStates with different tables, pages linear addresses; tables begin at `firstTable`.
    TableModel(PhysicalMemory& memory, std::vector<PagingState> spaces, std::vector<uint64_t> pages,
               uint64_t firstTable, unsigned tables);

    const std::vector<PagingState>& spaces() const { return spaces_; }
    const std::vector<uint64_t>& pages() const { return pages_; }
    // The entry at `at` was written to: by whomever, but for accessed and dirty bits.
    void written(uint64_t at);
    const Found& now(unsigned space, unsigned page) const { return of(space, page).timeline.back().found; }

    // What one processor was told.
    class View {
      public:
        explicit View(TableModel& model);
        void moveToCr3(unsigned space, unsigned pcid, bool keeps);
        void invlpg(unsigned page);
        void invpcid(unsigned type, unsigned pcid, unsigned page);
        void everything();
        void fault(unsigned page);
        unsigned space() const { return space_; }
        std::string describe(unsigned page) const;
        // Whether it may see this translation of a page, and whether that is the present one for sure.
        template <class Accept>
        bool may(unsigned page, bool write, bool user, Accept accept, bool& present) const;

      private:
        void drop(unsigned pcid, unsigned page);
        template <class Mark>
        void fragments(unsigned page, Mark mark);
        TableModel& model_;
        unsigned space_ = 0, pcid_ = 0;
        uint64_t all_ = 0;
        std::array<uint64_t, 4> byPcid_{};
        struct Times {
            // Of translations of pages of 4 KiB, 2 or 4 MiB, 1 GiB.
            std::array<std::array<uint64_t, 4>, 3> of{};  // by PCID
            std::array<uint64_t, 3> global{};
        };
        std::vector<Times> times_;  // by page
    };
    uint64_t changes = 0;  // of what walks find

  private:
    struct Record {
        uint64_t since;
        Found found;
    };
    struct Subject {
        std::vector<Record> timeline;
        std::array<uint64_t, 5> path{};
        unsigned steps = 0;
    };
    static constexpr size_t kMostRecords = 1 << 10;
    using Users = std::array<uint64_t, 3>;  // one bit a subject
    const Subject& of(unsigned space, unsigned page) const { return subjects_[space * pages_.size() + page]; }
    Users* usersOf(uint64_t at);
    void look(size_t subject);
    uint64_t tick() { return ++clock_; }

    PhysicalMemory& memory_;
    std::vector<PagingState> spaces_;
    std::vector<uint64_t> pages_;
    uint64_t firstTable_;
    std::vector<Users> users_;  // by entry, of 4 bytes
    std::vector<Subject> subjects_;
    uint64_t clock_ = 1;
};

template <class Accept>
bool TableModel::View::may(unsigned page, bool write, bool user, Accept accept, bool& present) const {
    const Found& now = model_.now(space_, page);
    present = now.allows(write, user) && accept(now);
    if (present) return true;
    const Times& t = times_[page];
    uint64_t oldest = ~0ull;
    for (unsigned kind = 0; kind < 3; kind++)
        oldest = std::min({oldest, t.global[kind], std::max(byPcid_[pcid_], t.of[kind][pcid_])});
    oldest = std::max(oldest, all_);
    // Global translations are every space's, whichever they were found in.
    for (unsigned space = 0; space < model_.spaces_.size(); space++) {
        const auto& timeline = model_.of(space, page).timeline;
        uint64_t until = ~0ull;
        for (auto r = timeline.rbegin(); r != timeline.rend() && until > oldest; until = r->since, ++r) {
            const Found& f = r->found;
            if ((space != space_ && !f.global) || !f.allows(write, user)) continue;
            const unsigned kind = f.sizeClass == 0 ? 0 : f.sizeClass < 30 ? 1 : 2;
            const uint64_t told = f.global ? t.global[kind] : std::max(byPcid_[pcid_], t.of[kind][pcid_]);
            if (until > std::max(told, all_) && accept(f)) return true;
        }
    }
    return false;
}

}  // namespace kiln::test
