#include "tests/table_model.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace kiln::test {

TableModel::TableModel(PhysicalMemory& memory, std::vector<PagingState> spaces, std::vector<uint64_t> pages,
                       uint64_t firstTable, unsigned tables)
    : memory_(memory),
      spaces_(std::move(spaces)),
      pages_(std::move(pages)),
      firstTable_(firstTable),
      users_(tables * (kPageSize / 4)),
      subjects_(spaces_.size() * pages_.size()) {
    if (subjects_.size() > 64 * std::tuple_size_v<Users>) throw std::logic_error("too many subjects");
    for (size_t n = 0; n < subjects_.size(); n++) look(n);
}

TableModel::Users* TableModel::usersOf(uint64_t at) {
    const uint64_t n = (at - firstTable_) / 4;
    return at >= firstTable_ && n < users_.size() ? &users_[n] : nullptr;
}

// What a walk finds now, and by which entries.
void TableModel::look(size_t n) {
    Subject& s = subjects_[n];
    for (unsigned i = 0; i < s.steps; i++)
        if (Users* u = usersOf(s.path[i])) (*u)[n / 64] &= ~(1ull << n % 64);
    const PagingState& space = spaces_[n / pages_.size()];
    const LinearAddr at(pages_[n % pages_.size()]);
    WalkTrace trace;
    Found f;
    Translation t = walkPageTables(memory_, space, at, Access::Write, false, true, Marking::Nothing, &trace);
    f.write = !t.fault;
    if (t.fault) t = walkPageTables(memory_, space, at, Access::Read, false, true, Marking::Nothing, &trace);
    f.mapped = !t.fault;
    if (f.mapped) {
        f.user = t.userPage;
        f.global = t.global;
        f.page = t.addr.page().value;
        f.sizeClass = t.pageSize == kPageSize ? 0 : unsigned(__builtin_ctzll(t.pageSize));
        f.entry = trace.tables[trace.count - 1].at.value;
    }
    s.steps = trace.count;
    for (unsigned i = 0; i < s.steps; i++) {
        s.path[i] = trace.tables[i].at.value;
        if (Users* u = usersOf(s.path[i])) (*u)[n / 64] |= 1ull << n % 64;
    }
    if (!s.timeline.empty() && s.timeline.back().found == f) return;
    changes++;
    s.timeline.push_back({tick(), f});
    // So old that nobody can have kept it: the bench flushes more often than that.
    if (s.timeline.size() > kMostRecords)
        s.timeline.erase(s.timeline.begin(), s.timeline.begin() + kMostRecords / 2);
}

void TableModel::written(uint64_t at) {
    Users* u = usersOf(at);
    if (!u) return;
    const Users all = *u;
    for (size_t word = 0; word < all.size(); word++)
        for (uint64_t bits = all[word]; bits; bits &= bits - 1)
            look(word * 64 + size_t(__builtin_ctzll(bits)));
}

TableModel::View::View(TableModel& model) : model_(model), times_(model.pages_.size()) {}

void TableModel::View::moveToCr3(unsigned space, unsigned pcid, bool keeps) {
    space_ = space;
    pcid_ = pcid;
    if (!keeps) byPcid_[pcid] = model_.tick();
}

// A page, and all fragments of the large page it may be in.
template <class Mark>
void TableModel::View::fragments(unsigned page, Mark mark) {
    const uint64_t linear = model_.pages_[page];
    for (unsigned p = 0; p < times_.size(); p++) {
        const uint64_t apart = linear ^ model_.pages_[p];
        if (!apart) mark(times_[p], 0);
        if (!(apart >> 21)) mark(times_[p], 1);
        if (!(apart >> 30)) mark(times_[p], 2);
    }
}

void TableModel::View::drop(unsigned pcid, unsigned page) {
    const uint64_t now = model_.tick();
    fragments(page, [&](Times& t, unsigned kind) { t.of[kind][pcid] = now; });
}

void TableModel::View::invlpg(unsigned page) {
    drop(pcid_, page);
    const uint64_t now = model_.tick();
    fragments(page, [&](Times& t, unsigned kind) { t.global[kind] = now; });
}

void TableModel::View::invpcid(unsigned type, unsigned pcid, unsigned page) {
    switch (type) {
        case 0: drop(pcid, page); break;
        case 1: byPcid_[pcid] = model_.tick(); break;
        case 2: everything(); break;
        default: byPcid_.fill(model_.tick());
    }
}

void TableModel::View::everything() { all_ = model_.tick(); }

// What walks have found since when, and what was invalidated when.
std::string TableModel::View::describe(unsigned page) const {
    const Times& t = times_[page];
    std::string out = fmt::format(
        "time {}, everything invalidated at {}, identifier {} at {}; of this page 4 KiB at {}, "
        "2 or 4 MiB at {}, 1 GiB at {}, global at {}, {}, {}\n",
        model_.clock_, all_, pcid_, byPcid_[pcid_], t.of[0][pcid_], t.of[1][pcid_], t.of[2][pcid_],
        t.global[0], t.global[1], t.global[2]);
    const auto& timeline = model_.of(space_, page).timeline;
    for (size_t n = timeline.size() > 8 ? timeline.size() - 8 : 0; n < timeline.size(); n++) {
        const Found& f = timeline[n].found;
        out += fmt::format("  since {}: {}{}{}{} {:x} by the entry at {:x}\n", timeline[n].since,
                           f.mapped ? "mapped" : "-", f.write ? " write" : "", f.user ? " user" : "",
                           f.global ? " global" : "", f.page, f.entry);
    }
    return out;
}

void TableModel::View::fault(unsigned page) { times_[page].of[0][pcid_] = model_.tick(); }

}  // namespace kiln::test
