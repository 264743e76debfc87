// A guest fault in flight: thrown by instruction bodies and memory accesses, caught by the run loop, which
// delivers it. The instruction that threw has changed nothing (SDM vol. 3, 6.15).
#pragma once
#include <cstdint>

namespace kiln {

enum ExceptionVector : uint8_t {
    kDE = 0,
    kDB = 1,
    kNMI = 2,
    kBP = 3,
    kOF = 4,
    kBR = 5,
    kUD = 6,
    kNM = 7,
    kDF = 8,
    kTS = 10,
    kNP = 11,
    kSS = 12,
    kGP = 13,
    kPF = 14,
    kMF = 16,
    kAC = 17,
    kMC = 18,
    kXM = 19
};

struct Fault {
    uint8_t vector;
    bool hasError = false;
    uint32_t error = 0;
    uint64_t cr2 = 0;  // #PF: the linear address
};

// An instruction in the middle of a block meets a data or I/O breakpoint, having changed nothing yet: it is to
// run again on its own, so that the trap comes right behind it.
struct BreakpointAhead {};

// A waiting x87 instruction meets an exception while CR0.NE = 0 and IGNNE# is inactive: the processor stops in
// front of it until an interrupt comes (SDM vol. 1, D.2.1.2).
struct FerrFreeze {};

[[noreturn]] void raise(uint8_t vector);                  // without an error code
[[noreturn]] void raise(uint8_t vector, uint32_t error);  // with one

}  // namespace kiln
