// Direct boot of Multiboot kernels (Multiboot Specification 0.6.96; Multiboot2 Specification 2.0), as ELF
// files of 32 or 64 bits or as flat images with addresses in the header. Modules are the files of -initrd.
//
// Not modelled: the drive table, the ROM configuration table and the APM table (their flags are clear, their
// tags absent); everything about EFI; VBE's protected-mode interface; graphics modes with a palette.
#pragma once
#include <span>

#include "devices/boot_plan.hpp"

namespace kiln {

bool isMultiboot1(std::span<const uint8_t> image);
bool isMultiboot2(std::span<const uint8_t> image);

// Throw std::runtime_error with a sentence for the user.
BootPlan planMultiboot1(const BootRequest& request);
BootPlan planMultiboot2(const BootRequest& request);

}  // namespace kiln
