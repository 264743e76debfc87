// What a machine tells of itself while it runs, in the terms of QEMU's machine protocol
// (qapi/run-state.json), which the monitors speak.
#pragma once
#include <cstdint>

namespace kiln {

enum class RunState : uint8_t {
    Running,
    Prelaunch,  // not begun yet (-S), or reset while it was stopped
    Paused,
    Suspended,  // the guest is in S3
    Shutdown    // switched off under -no-shutdown: only a reset brings it back
};

// Whose doing a reset or an end is.
enum class MachineCause : uint8_t {
    HostError,
    HostQuit,   // the monitor's quit
    HostReset,  // the monitor's system_reset
    HostSignal,
    HostWindow,  // the window was closed, or its keys
    GuestShutdown,
    GuestReset
};

enum class MachineEvent : uint8_t { Reset, Shutdown, Powerdown, Stop, Resume, Suspend, Wakeup };

}  // namespace kiln
