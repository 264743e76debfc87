// Direct boot of ELF kernels by the x86/HVM direct boot ABI, "PVH" (Xen, docs/misc/pvh.pandoc): in 32-bit
// protected mode without paging, EBX holding a hvm_start_info of version 1. ELF files that neither have its
// note nor a Multiboot header are started at their entry point in the same way, those of 64 bits in long mode
// with the first 4 GiB mapped to themselves and the structure's address in RDI and RBX.
#pragma once
#include <span>

#include "devices/boot_plan.hpp"

namespace kiln {

// Throws std::runtime_error with a sentence for the user.
BootPlan planElf(const BootRequest& request);

}  // namespace kiln
