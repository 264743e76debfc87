// SMBIOS 2.8 structures (DMTF DSP0134): just enough for an operating system to name the machine and its
// memory. SeaBIOS adds the BIOS information (type 0) and places them.
#pragma once
#include <cstdint>

#include "cpu/topology.hpp"
#include "devices/fw_cfg.hpp"

namespace kiln {

void offerSmbios(FwCfg& fwCfg, uint64_t memoryBytes, const CpuTopology& cpus);

}  // namespace kiln
