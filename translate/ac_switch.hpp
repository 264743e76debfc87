// Host code for STAC and CLAC in 64-bit mode: other rights are another TLB and so another frame, to which
// host code moves by itself where it is known to be up to date.
#pragma once
#include <asmjit/x86.h>

namespace kiln {

struct AcSwitches {
    asmjit::Label stac, clac;
};
// Subroutines called with a site's number in eax, which is what `outAt` is jumped to with where there is more
// to be done.
AcSwitches emitAcSwitches(asmjit::x86::Assembler& a, const asmjit::Label& outAt);

}  // namespace kiln
