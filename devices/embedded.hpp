// Files that the build puts into the program (see meson.build: embed).
#pragma once
#include <cstdint>
#include <span>

namespace kiln {

extern const std::span<const uint8_t> kBootRom;    // boot_rom.asm, assembled
extern const std::span<const uint8_t> kKernelRom;  // kernel_rom.asm, assembled
extern const std::span<const uint8_t> kDsdt;       // acpi/dsdt.dsl, compiled

}  // namespace kiln
