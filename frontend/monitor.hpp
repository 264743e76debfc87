// The human monitor: QEMU's command names for what QEMU has. A line goes in, text comes out; it runs on the
// machine's thread, and knows nothing of where the line came from.
#pragma once
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "apic/clock.hpp"
#include "devices/machine.hpp"

namespace kiln {

// Presses and releases keys one after the other, at a pace that guests can follow.
class KeyTyper {
  public:
    KeyTyper(Clock& clock, std::function<void(uint8_t usage, bool down)> send);
    void add(uint8_t usage, bool down, Nanos pause);  // `pause` comes after it

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

class Monitor {
  public:
    explicit Monitor(Machine& machine);
    // The answer, with a newline at its end, or "".
    std::string execute(const std::string& line);

  private:
    using Arguments = std::vector<std::string>;
    struct Command {
        const char* name;
        const char* arguments;
        const char* text;
        std::string (Monitor::*run)(const Arguments&);
    };
    static const std::vector<Command>& commands();
    static const std::vector<Command>& infoCommands();
    static std::string listOf(const std::vector<Command>& commands, const std::string& prefix);

    std::string help(const Arguments& a);
    std::string info(const Arguments& a);
    std::string quit(const Arguments& a);
    std::string stop(const Arguments& a);
    std::string resume(const Arguments& a);
    std::string reset(const Arguments& a);
    std::string powerdown(const Arguments& a);
    std::string wakeup(const Arguments& a);
    std::string screendump(const Arguments& a);
    std::string sendkey(const Arguments& a);
    std::string type(const Arguments& a);
    std::string mouseMove(const Arguments& a);
    std::string mouseButton(const Arguments& a);
    std::string examine(const Arguments& a);
    std::string examinePhysical(const Arguments& a);
    std::string examineAt(const Arguments& a, bool physical);
    std::string print(const Arguments& a);
    std::string selectCpu(const Arguments& a);

    std::string infoRegisters(const Arguments& a);
    std::string infoCpus(const Arguments& a);
    std::string infoVersion(const Arguments& a);
    std::string infoStatus(const Arguments& a);
    std::string infoPic(const Arguments& a);
    std::string infoDevices(const Arguments& a);
    std::string infoDevice(const Arguments& a);
    std::string infoPci(const Arguments& a);
    std::string infoBlocks(const Arguments& a);
    std::string infoJit(const Arguments& a);
    std::string infoTlb(const Arguments& a);
    std::string infoScreen(const Arguments& a);

    Machine& machine_;
    KeyTyper typer_;
    unsigned buttons_ = 0;
    unsigned selected_ = 0;  // the processor that x, print and info registers are about
};

// The processor's registers, as `info registers` prints them.
std::string describeRegisters(const CpuState& cpu);

}  // namespace kiln
