// Direct boot of a Linux kernel (-kernel, -initrd, -append) by the x86 boot protocol, versions 2.00 to 2.15
// (Linux, Documentation/x86/boot.rst): the bzImage's parts go into fw_cfg, and the option ROM of boot_rom.asm
// copies them into place.
//
// Not modelled: zImage (kernels that are not loaded high), setup_data.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "devices/fw_cfg.hpp"

namespace kiln {

struct KernelConfig {
    std::string kernel;  // path; empty: no direct boot
    std::string initrd;  // path, or empty
    std::string commandLine;
};

// A kernel ready to be copied: where each part goes and what is in it.
struct LinuxImage {
    static constexpr uint32_t kSetupAddress = 0x10000, kCommandLineAddress = 0x20000,
                              kKernelAddress = 0x100000;

    std::vector<uint8_t> setup;   // the real-mode code with its header filled in
    std::vector<uint8_t> kernel;  // the protected-mode code
    std::vector<uint8_t> initrd;
    std::string commandLine;
    uint32_t commandLineAddress = kCommandLineAddress;
    uint32_t initrdAddress = 0;  // the highest one the kernel and the RAM allow
};

// Takes a bzImage apart. `lowRam` is the RAM below 4 GiB in bytes. Throws std::runtime_error with a sentence
// for the user; `kernelName` and `initrdName` are for it.
LinuxImage parseLinux(std::vector<uint8_t> bzImage, std::vector<uint8_t> initrd, const KernelConfig& config,
                      uint64_t lowRam);

bool isLinux(const std::vector<uint8_t>& image);

// Offers the kernel and the initrd of `config` to the firmware as its first boot device.
void offerLinux(FwCfg& fwCfg, const KernelConfig& config, std::vector<uint8_t> bzImage, uint64_t lowRam);

// The option ROM with its checksum in place.
std::vector<uint8_t> linuxBootRom();

// A whole file. Throws std::runtime_error: `what` ("kernel") and `path` are for the sentence.
std::vector<uint8_t> readWholeFile(const std::string& path, const std::string& what, uint64_t limit);

}  // namespace kiln
