// The ACPI tables (ACPI 6.4, chapter 5) as files for fw_cfg: RSDP, RSDT, XSDT, FADT, FACS, DSDT, SSDT,
// MADT, HPET, MCFG and, with a remapping unit, DMAR, with the linker commands by which the firmware puts them
// into RAM (QEMU's bios-linker-loader interface).
//
// Not modelled: SRAT and everything else about NUMA, TPM, PCI Express hot plug, sleeping states other than
// S5.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "cpu/topology.hpp"
#include "devices/fw_cfg.hpp"
#include "devices/vtd_config.hpp"

namespace kiln {

// What the tables say about the board; the rest is fixed.
struct AcpiBoard {
    CpuTopology topology;
    uint16_t pmBase = 0x600;  // where the firmware puts the ICH9's ACPI registers
    bool hpet = true;
    std::optional<VtdConfig> iommu{};
};

// The three files: etc/acpi/tables, etc/acpi/rsdp and etc/table-loader.
struct AcpiFiles {
    std::vector<uint8_t> tables, rsdp, loader;
};

AcpiFiles buildAcpi(const AcpiBoard& board);
void offerAcpi(FwCfg& fwCfg, const AcpiBoard& board);

}  // namespace kiln
