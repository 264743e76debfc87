// What every device has in common. A chip's core is a plain class that takes its wires (IrqLine, Clock, ...)
// in its constructor and implements IoHandler; the board (devices/board.cpp) maps it into port or memory
// space.
#pragma once
#include <string_view>

#include "mmu/state.hpp"

namespace kiln {

class Device {
  public:
    virtual ~Device() = default;
    virtual std::string_view name() const = 0;    // as in the manual: "i8254", "mc146818"
    virtual void reset() = 0;                     // the state after RESET#; also called once at power-on
    virtual void state(StateVisitor& visit) = 0;  // every field of the chip's state, once
};

}  // namespace kiln
