// Host code for writes to pages that hold code, beside it: data next to functions, and new functions next to
// old ones. Without it each such write would be the interpreter's.
#pragma once
#include <asmjit/x86.h>

#include <array>

#include "mmu/physical_memory.hpp"
#include "translate/host_frame.hpp"

namespace kiln {

// Subroutines in `memory`; invalid labels where there is none.
struct WritesBeside {
    // For 1, 2, 4, ... 64 bytes at rcx, the linear address. The call is followed by four bytes for `out`, a
    // subroutine to which they jump when the write must go the long way. When it need not they come back
    // behind those with the index of the page's TLB entry in rax.
    std::array<asmjit::Label, kBesideSizes> sizes;
    // From the byte at rcx to the one at rax: "equal", and the index in rax, if writes there need not go the
    // long way as long as Tlb::generation() is the same.
    asmjit::Label range;
};
WritesBeside emitWritesBeside(asmjit::x86::Assembler& a, RamBlock* memory, bool threaded,
                              const asmjit::Label& out);

}  // namespace kiln
