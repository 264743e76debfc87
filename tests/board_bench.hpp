// A whole board without a running processor: its registers are driven from outside, on a fake clock.
#pragma once
#include "apic/local_apic.hpp"
#include "devices/board.hpp"
#include "mmu/io.hpp"
#include "tests/scratch_file.hpp"

namespace kiln::test {

class BoardBench {
  public:
    static constexpr uint64_t kRam = 4 << 20;

    explicit BoardBench(std::vector<DriveConfig> drives = {});

    void pass(Nanos duration);  // timers fire
    void serveReset();          // a reset that was asked for
    void takeInterrupt();       // as the processor would, and ends it

    FakeTime time;
    Clock clock{time};
    Log log;
    Gate gate;
    PhysicalMemory memory;
    PortBus ports;
    ApicBus apicBus;
    LocalApic apic;
    bool resetWanted = false;
    ScratchFile firmware;
    std::unique_ptr<Board> board;
};

// A ROM whose reset vector holds something.
std::vector<uint8_t> blankFirmware();

}  // namespace kiln::test
