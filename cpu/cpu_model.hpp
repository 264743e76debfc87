// The processor model a machine is built with: what CPUID says of it and what exists. CR0, CR4, EFER, XCR0,
// MSRs and the decoder ask it, so that whatever CPUID does not offer is reserved or raises #UD. All
// processors of a machine share one model.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/features.hpp"

namespace kiln {

struct CpuModel {
    std::string name;
    std::string vendor = "GenuineIntel";
    unsigned family = 6, model = 0, stepping = 0;
    std::string brand;
    uint32_t level = 0, xlevel = 0;  // the last basic and the last extended leaf; 0: no extended ones
    FeatureSet features;
    unsigned physicalBits = 40, linearBits = 48;

    bool has(Feature f) const { return features.has(f); }
    bool isAmd() const { return vendor == "AuthenticAMD"; }
    uint32_t signature() const;      // CPUID.1:EAX, and EDX after reset
    uint64_t cr4Supported() const;   // all other bits are reserved
    uint64_t eferSupported() const;  // 0: there is no EFER
    uint64_t xcr0Supported() const;
};

// All that kiln has, in a model of its own: `-cpu kiln`, `-cpu max`, and the default.
std::shared_ptr<const CpuModel> kilnModel();

// The model of a -cpu argument: NAME[,+feature][,-feature][,feature=on|off][,property=value]... What a model
// or a +feature asks for and kiln does not have is left out and mentioned in `warnings`. Throws
// std::runtime_error with a sentence for the user.
std::shared_ptr<const CpuModel> chooseCpuModel(std::string_view argument, std::vector<std::string>& warnings);

// What -cpu help prints.
std::string cpuModelHelp();
std::vector<std::string> cpuModelNames();

}  // namespace kiln
