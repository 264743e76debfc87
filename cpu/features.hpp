// What this processor model offers. CPUID, CR4 and the MSRs agree by reading it from here.
#pragma once
#include <cstdint>

#include "cpu/state.hpp"

namespace kiln {

constexpr unsigned kPhysicalBits = 40, kLinearBits = 48;
constexpr uint32_t kCpuSignature = 0x000106a1;  // family 6, model 26: the first x86-64-v2 generation

constexpr uint64_t kCr4Supported = cr4::TSD | cr4::DE | cr4::PSE | cr4::PAE | cr4::MCE | cr4::PGE | cr4::PCE |
                                   cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::UMIP | cr4::FSGSBASE | cr4::SMEP |
                                   cr4::SMAP;

}  // namespace kiln
