// Helpers for devices with timers.
#pragma once
#include "apic/clock.hpp"
#include "mmu/state.hpp"

namespace kiln {

// A timer's part of a device's state: loading a deadline arms it again.
inline void visitTimer(StateVisitor& visit, std::string_view name, Timer& timer) {
    Nanos deadline = timer.deadline();
    visit(name, deadline);
    if (deadline != timer.deadline()) timer.arm(deadline);
}

// Serves a deadline that has passed before the run loop got to it: to be called before a guest's write
// changes what the timer is about, so that the event is not lost.
template <class Expired>
void serveIfDue(const Clock& clock, Timer& timer, Expired expired) {
    if (!timer.armed() || timer.deadline() > clock.now()) return;
    timer.disarm();
    expired();
}

}  // namespace kiln
