// The human monitor: QEMU's command names for what QEMU has. A line goes in, text comes out; it runs on the
// machine's thread, and knows nothing of where the line came from.
#pragma once
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "apic/clock.hpp"
#include "devices/machine.hpp"

namespace kiln {

// Presses and releases keys one after the other, at a pace that guests can follow.
class KeyTyper {
  public:
    KeyTyper(Clock& clock, std::function<void(uint8_t usage, bool down)> send);
    void add(uint8_t usage, bool down, Nanos pause);                     // `pause` comes after it
    void press(const std::vector<uint8_t>& usages, Nanos hold = kHold);  // together
    static constexpr Nanos kHold = kSecond / 20, kPause = kSecond / 50;
    static constexpr size_t kMostTogether = 16;

  private:
    struct Event {
        uint8_t usage;
        bool down;
        Nanos pause;
    };
    void next();
    Clock& clock_;
    std::function<void(uint8_t, bool)> send_;
    std::deque<Event> events_;
    Timer timer_;
};

class Monitor;
using MonitorArguments = std::vector<std::string>;

// A row of a table of commands (monitor_tables.hpp).
struct MonitorCommand {
    const char* name;  // "print|p": any of these
    const char* arguments;
    const char* text;
    std::string (*run)(Monitor&, const MonitorArguments&);  // the answer, with a newline at its end, or ""
};
using MonitorTable = std::span<const MonitorCommand>;

// What the monitors tell and the machine does not know.
struct StreamFacts {
    std::string label, target;  // "serial0", "file:x"
};
struct MonitorFacts {
    std::string name;  // -name
    std::vector<StreamFacts> streams{};
};

class Monitor {
  public:
    explicit Monitor(Machine& machine, MonitorFacts facts = {});
    std::string execute(const std::string& line);  // the answer, with a newline at its end, or ""

    // -- for commands
    Cpu& cpu() { return machine.cpu(selected); }
    Machine& machine;
    MonitorFacts facts;
    KeyTyper typer;
    unsigned buttons = 0;   // of the mouse
    unsigned selected = 0;  // the processor that x, print and info registers are about
};

// The processor's registers, as `info registers` prints them.
std::string describeRegisters(const CpuState& cpu);

}  // namespace kiln
