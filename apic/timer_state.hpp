// A timer's part of a device's state: loading a deadline arms it again.
#pragma once
#include "apic/clock.hpp"
#include "mmu/state.hpp"

namespace kiln {

inline void visitTimer(StateVisitor& visit, std::string_view name, Timer& timer) {
    Nanos deadline = timer.deadline();
    visit(name, deadline);
    if (deadline != timer.deadline()) timer.arm(deadline);
}

}  // namespace kiln
