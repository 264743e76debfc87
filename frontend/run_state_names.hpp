// The machine's states as both monitors call them (qapi/run-state.json).
#pragma once
#include "devices/machine_events.hpp"

namespace kiln {

constexpr const char* nameOf(RunState state) {
    constexpr const char* kNames[] = {"running", "prelaunch", "paused", "suspended", "shutdown"};
    return kNames[unsigned(state)];
}

}  // namespace kiln
