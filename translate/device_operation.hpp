// Instructions other than MOV that have registers in memory as an operand, without the interpreter.
#pragma once
#include "mmu/io.hpp"
#include "translate/host_frame.hpp"
#include "translate/site.hpp"

namespace kiln {

// Reads and writes the handler's register of `size` bytes, 1 to 8, as Site::guest and Site::mnemonic say;
// `down`: RFLAGS.DF.
void operateOnDevice(HostFrame& frame, const Site& site, IoHandler& handler, uint64_t offset, unsigned size,
                     bool down);

}  // namespace kiln
