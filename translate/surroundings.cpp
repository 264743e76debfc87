#include "translate/surroundings.hpp"

namespace kiln {

Surroundings KnownSurroundings::find(Surroundings s) {
    const unsigned flavour =
        unsigned(s.bigStack) | unsigned(s.whole) << 1 | unsigned(s.code32) << 2 | unsigned(s.v86) << 3;
    const Id id{s.codeBase, s.codeEnd, flavour};
    if (const auto it = known_.find(id); it != known_.end()) return it->second;
    if (full()) return {};
    // No linear address of 64-bit code has bits 62 and 61 apart.
    s.key = 1ull << 62 | uint64_t(++keys_ & 0x1fffffff) << 32;
    const auto [kind, isNew] = kinds_.try_emplace({0, s.codeEnd, flavour}, lastKind_ + 1);
    lastKind_ += isNew;
    s.kind = kind->second;
    return known_[id] = s;
}

}  // namespace kiln
