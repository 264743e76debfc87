// One client of a monitor, whatever it is connected by: bytes in, bytes out. The machine's thread only.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "devices/machine_events.hpp"

namespace kiln {

class MonitorSession {
  public:
    using Send = std::function<void(const std::string& bytes)>;
    virtual ~MonitorSession() = default;
    virtual void connected() = 0;  // somebody is there now, and begins at the beginning
    virtual void received(std::string_view bytes) = 0;
    virtual void happened(MachineEvent, MachineCause) {}
};

}  // namespace kiln
