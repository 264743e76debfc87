// Code that all translations share: the ways into host code and out of it, and loading registers.
#pragma once
#include <array>
#include <cstdint>

#include "translate/code_buffer.hpp"
#include "translate/host_frame.hpp"

namespace kiln {

class RamBlock;
class Translator;

// Where host code goes on after a call of C++, in rax and rdx.
struct Continuation {
    const uint8_t* code;
    HostFrame* frame;
};
// `number`: of a site, or of a promoted trap.
using CallOut = Continuation (*)(Translator& self, uint32_t number, HostFrame* frame);

constexpr uint32_t kHostMxcsr = 0x1f80;  // what C++ code expects
constexpr uint16_t kHostX87Control = 0x37f;

struct Thunks {
    void (*enter)(HostFrame*, const void* code) = nullptr;
    const uint8_t* exit = nullptr;
    const uint8_t* callOut = nullptr;    // a subroutine with a site's number (four bytes) behind the call
    const uint8_t* callOutAt = nullptr;  // the same with the number in eax: to be jumped to
    const uint8_t* promoted = nullptr;   // likewise, for promoted traps
    // Subroutines that load registers (see VectorCode); null: the host has none.
    std::array<const uint8_t*, kVectorLevels> load{};
    const uint8_t* loadX87 = nullptr;
    const uint8_t *stac = nullptr, *clac = nullptr;  // see ac_switch.hpp
    // Subroutines that see whether a write of 1, 2, 4, ... 64 bytes at rcx lies beside code: called like
    // callOut, which they go on with if not; otherwise they come back behind the number with the TLB's index.
    std::array<const uint8_t*, kBesideSizes> beside{};
    const uint8_t* besideRange = nullptr;  // from rcx to rax (see WritesBeside)
};

// At the start of the buffer. `besideCode`: what memory may be written to beside code, or null; `threaded`:
// several processors run at the same time.
Thunks makeThunks(CodeBuffer& buffer, RamBlock* besideCode, bool threaded, CallOut callOut, CallOut promoted);

}  // namespace kiln
