// What moves from one frame to another when host code moves by itself: HostFrame's first part without
// registers that stay in the host's, and without what has a meaning only around calls of the translator.
#pragma once
#include <cstddef>

#include "translate/host_frame.hpp"

namespace kiln {

template <class Move>
void eachMovingWord(Move move) {
    auto range = [&](size_t begin, size_t end) {
        for (size_t at = begin; at < end; at += 8) move(at);
    };
    static_assert(offsetof(HostFrame, owner) % 8 == 0 && offsetof(HostFrame, x87Offset) % 8 == 0);
    range(offsetof(HostFrame, inMemory), offsetof(HostFrame, handles));
    move(offsetof(HostFrame, beyond));
    range(offsetof(HostFrame, owner), offsetof(HostFrame, x87Offset));
}

}  // namespace kiln
