#include "mmu/table_tracking.hpp"

#include <algorithm>

#include "mmu/physical_memory.hpp"

namespace kiln {

void TableTracking::unmark(PageMarks& page) {
    page.tables = 0;
    statistics_.untracked++;
}

bool TableTracking::add(PageMarks& page, TableUser& user, LinearRange range, bool wide) {
    std::lock_guard lock(mutex_);
    if (!page.tables) statistics_.tracked++;
    page.tables |= wide ? kWide : kNarrow;
    Dependents& all = tables_[&page];
    auto known = std::find_if(all.begin(), all.end(), [&](const Dependent& d) { return d.user == &user; });
    const bool isNew = known == all.end();
    if (isNew) {
        all.push_back({&user, range});
        user.tables.push_back(&page);
    } else if (known->range != range) {
        known->range.shift = 64;  // one table in several places
    }
    if (page.writes) markStale(user, range);  // by somebody who has looked at the marks before
    return isNew;
}

void TableTracking::markStale(TableUser& user, LinearRange range) {
    user.hasStale = true;
    if (std::find(user.stale.begin(), user.stale.end(), range) != user.stale.end()) return;
    if (user.stale.size() >= kMostStale) user.stale.assign(1, {0, 64});
    if (!user.stale.empty() && user.stale.front().shift >= 64) return;
    user.stale.push_back(range);
}

void TableTracking::written(PageMarks& page) {
    std::lock_guard lock(mutex_);
    if (!page.tables) return;  // another processor was first
    statistics_.written++;
    unmark(page);
    auto it = tables_.find(&page);
    if (it == tables_.end()) return;
    for (const Dependent& d : it->second) markStale(*d.user, d.range);
    tables_.erase(it);
}

void TableTracking::takeStale(TableUser& user, std::vector<LinearRange>& out) {
    std::lock_guard lock(mutex_);
    out.clear();
    std::swap(out, user.stale);
    user.hasStale = false;
    std::erase_if(user.tables, [&](PageMarks* page) {
        auto it = tables_.find(page);
        return it == tables_.end() ||
               std::none_of(it->second.begin(), it->second.end(), [&](auto& d) { return d.user == &user; });
    });
}

void TableTracking::forget(TableUser& user) { withdraw(user, true); }
void TableTracking::leave(TableUser& user) { withdraw(user, false); }

void TableTracking::withdraw(TableUser& user, bool unmarks) {
    std::lock_guard lock(mutex_);
    for (PageMarks* page : user.tables) {
        auto it = tables_.find(page);
        if (it == tables_.end()) continue;
        Dependents& all = it->second;
        all.erase(std::remove_if(all.begin(), all.end(), [&](auto& d) { return d.user == &user; }),
                  all.end());
        if (!all.empty()) continue;
        tables_.erase(it);
        if (unmarks) unmark(*page);
    }
    user.tables.clear();
    user.stale.clear();
    user.hasStale = false;
}

TableTracking::Statistics TableTracking::statistics() {
    std::lock_guard lock(mutex_);
    Statistics s = statistics_;
    s.now = tables_.size();
    return s;
}

}  // namespace kiln
