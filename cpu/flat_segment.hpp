// The segments that SYSCALL, SYSRET, SYSENTER and SYSEXIT load: flat, and built from the selector alone (SDM
// vol. 2).
#pragma once
#include "cpu/state.hpp"

namespace kiln {

inline Segment flatSegment(uint16_t selector, unsigned dpl, bool code, bool is64) {
    Segment s;
    s.selector = selector;
    s.limit = 0xffffffff;
    s.rights = uint16_t(0x8093 | dpl << 5 | (code ? 8 : 0) | (code && is64 ? 0x2000 : 0x4000));
    return s;
}

}  // namespace kiln
