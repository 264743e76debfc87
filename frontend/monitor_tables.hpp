// The human monitor's commands by subject, one file a table. Whoever adds a subject writes a file with a
// table, declares it here and names it in monitor.cpp.
#pragma once
#include "frontend/monitor.hpp"

namespace kiln {

MonitorTable machineCommands();  // monitor_machine.cpp
MonitorTable inputCommands();    // monitor_input.cpp
MonitorTable memoryCommands();   // monitor_memory.cpp
MonitorTable cpuCommands();      // monitor_cpu.cpp
MonitorTable relayCommands();    // monitor_relay.cpp
MonitorTable logCommands();      // monitor_log.cpp

// What `info` tells about.
MonitorTable machineInfo();    // monitor_machine.cpp
MonitorTable cpuInfo();        // monitor_cpu.cpp
MonitorTable trapInfo();       // monitor_traps.cpp
MonitorTable pagingInfo();     // monitor_paging.cpp
MonitorTable interruptInfo();  // monitor_interrupts.cpp
MonitorTable deviceInfo();     // monitor_devices.cpp
MonitorTable relayInfo();      // monitor_relay.cpp

}  // namespace kiln
