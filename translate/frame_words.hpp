// What moves from one frame to another when host code moves by itself: HostFrame's first part without
// registers that stay in the host's, and without what has a meaning only around calls of the translator.
#pragma once
#include <cstddef>

#include "translate/host_frame.hpp"
#include "translate/registers.hpp"

namespace kiln {

template <class Move>
void eachMovingWord(Move move) {
    for (unsigned guest = 0; guest < 16; guest++)
        if (!kStandardMap.pinned(guest)) move(offsetof(HostFrame, gpr) + guest * 8);
    auto range = [&](size_t begin, size_t end) {
        for (size_t at = begin; at < end; at += 8) move(at);
    };
    static_assert(offsetof(HostFrame, vectors) % 8 == 0 && offsetof(HostFrame, x87Offset) % 8 == 0);
    range(offsetof(HostFrame, flags), offsetof(HostFrame, rip));
    range(offsetof(HostFrame, owner), offsetof(HostFrame, handles));
    range(offsetof(HostFrame, vectors), offsetof(HostFrame, x87Offset));
}

}  // namespace kiln
