// What -kernel, -initrd and -append start: a Linux bzImage (linux_loader.hpp), a Multiboot kernel
// (multiboot.hpp) or another ELF file (pvh.hpp), told apart by their headers in this order. A kernel with
// both Multiboot headers is started by the first protocol, as QEMU does.
#pragma once
#include <functional>

#include "devices/boot_plan.hpp"
#include "devices/fw_cfg.hpp"
#include "devices/linux_loader.hpp"

namespace kiln {

// Reads the files of `config` and offers them to the firmware as its first boot device. `lowRam` is the RAM
// below 4 GiB in bytes. Throws std::runtime_error with a sentence for the user.
void offerKernel(FwCfg& fwCfg, const KernelConfig& config, uint64_t lowRam);

// Any kernel but a bzImage.
BootPlan planKernel(const BootRequest& request);

// Multiboot's modules as they are written after -initrd: "file words,file2 words2", a comma in a name
// doubled.
std::vector<std::string> splitModules(const std::string& text);

}  // namespace kiln
