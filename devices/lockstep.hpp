// Two machines of the same configuration side by side, one with the interpreter alone and one with the
// translator, which must never differ: time is counted, so both have the same interrupts at the same
// instructions. After every slice the processors are compared, now and then all memory. When something
// differs, both run again from the start, and closer and closer looks find the piece of code that did it.
//
// Disks are written to privately, and the calendar begins at the same second. Serial input reaches both at
// the same instruction, and comes again at the same moment of the guest's time when they run again. Keys and
// the mouse go nowhere. Several processors take turns by slices, so that with other slices they are another
// run: of them only the piece between two comparisons is told.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "devices/machine.hpp"

namespace kiln {

struct LockstepOptions {
    static constexpr int64_t kMostSlice = 20'000;
    int64_t slice = kMostSlice;          // instructions between two comparisons of the processors
    uint64_t memoryEvery = 200'000'000;  // and of memory
    uint64_t most = ~0ull;               // instructions, then it is enough
};

class Lockstep {
  public:
    // `outputs` are the interpreted machine's; the other one's go nowhere.
    Lockstep(MachineConfig config, MachineOutputs outputs, LockstepOptions options);

    struct Result {
        RunResult run;       // of the interpreted machine
        std::string report;  // "": they never differed
        std::string screen;  // its text, where it was stopped
        uint64_t executed = 0, comparisons = 0;
    };
    Result run();

    void postSerial(unsigned port, std::span<const uint8_t> bytes);  // from any thread
    void quit();                                                     // from any thread

    // For tests: called for the translated machine in front of each slice.
    std::function<void(Machine&)> disturb;

  private:
    // Where they are known to differ: not yet at `from`, but at `to`, perhaps in these pages of memory.
    struct Window {
        uint64_t from = 0, to = ~0ull;
        std::vector<uint64_t> pages;
    };
    struct Pair {
        std::unique_ptr<Machine> plain, translated;
    };
    Pair build(bool quiet);
    std::optional<Window> look(Pair& pair, const Window& window, int64_t slice, uint64_t memoryEvery,
                               bool again);
    bool differ(Pair& pair);
    std::vector<uint64_t> differentPages(Pair& pair, const std::vector<uint64_t>& among);
    std::string describe(Pair& pair, const Window& window, uint64_t before);
    bool passInput(Pair& pair, bool again);

    MachineConfig config_;
    MachineOutputs outputs_;
    const LockstepOptions options_;
    uint64_t comparisons_ = 0;
    uint64_t blockBegan_ = 0;  // rip in front of the last slice, of the processor whose turn it was
    bool finished_ = false;    // both machines came to their end
    std::optional<RunResult> end_;
    std::mutex mutex_;
    struct Input {
        Nanos time;  // the guest's
        unsigned port;
        std::vector<uint8_t> bytes;
    };
    std::vector<Input> input_;  // that has come
    size_t passed_ = 0;         // how many of them have been passed on in this run
    bool quit_ = false;
};

}  // namespace kiln
