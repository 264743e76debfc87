// Which pages of RAM are page tables that somebody keeps translations from, so that a write to one does not
// go unnoticed. Without this a move to CR3 has to forget every translation (SDM vol. 3, 4.10.4.1); with it,
// what was read from tables that nobody has written to since is what a new walk would find, and may stay.
//
//      a walk reads table T        T's page is marked; T -> (user, range of linear addresses T is about)
//      somebody writes to T        marked pages are written the slow way: each user's range goes on its list
//      of
//                                  what is stale; the mark goes, so that further writes cost nothing
//      the user loads CR3          drops the stale ranges; what is walked again marks T again
//
// With several threads a write under way counts: it looks at the mark before it changes anything, so who
// marks the page meanwhile takes what it reads for stale at once (PageMarks::writes).
//
// Any processor or bus master may write, any processor may be a user; this is shared by all of them.
#pragma once
#include <atomic>
#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace kiln {

struct PageMarks;

// All linear addresses that equal `base` above bit `shift`; 64: all there are.
struct LinearRange {
    uint64_t base;
    unsigned shift;
    bool contains(uint64_t linear) const { return shift >= 64 || !((linear ^ base) >> shift); }
    bool operator==(const LinearRange&) const = default;
};

// Who keeps translations: one address space of one processor.
struct TableUser {
    std::atomic<bool> hasStale{false};
    // Under the tracking's lock:
    std::vector<LinearRange> stale;
    std::vector<PageMarks*> tables;  // tracked for this user, or were
};

class TableTracking {
  public:
    // Of PageMarks::tables: the page was read as a table of 4-byte or of 8-byte entries.
    static constexpr uint32_t kNarrow = 1, kWide = 2;

    // `user` keeps translations of `range` that were read from `page`. Whether it kept none before.
    bool add(PageMarks& page, TableUser& user, LinearRange range, bool wide);
    // A marked page was written to.
    void written(PageMarks& page);
    // Moves the list of what is stale to `out`; `user` keeps nothing of it from here on.
    void takeStale(TableUser& user, std::vector<LinearRange>& out);
    // `user` keeps nothing any more.
    void forget(TableUser& user);
    // The same for one that is going to be destroyed, perhaps after the memory: marks stay.
    void leave(TableUser& user);

    struct Statistics {
        uint64_t tracked = 0, untracked = 0;  // pages that got a mark, and that lost it
        uint64_t written = 0;                 // because of a write
        size_t now = 0;
    };
    Statistics statistics();

  private:
    struct Dependent {
        TableUser* user;
        LinearRange range;
    };
    using Dependents = boost::container::small_vector<Dependent, 2>;
    static constexpr size_t kMostStale = 64;  // ranges of one user; then everything is stale
    static void markStale(TableUser& user, LinearRange range);
    void unmark(PageMarks& page);
    void withdraw(TableUser& user, bool unmarks);

    std::mutex mutex_;
    std::unordered_map<PageMarks*, Dependents> tables_;
    Statistics statistics_;
};

}  // namespace kiln
