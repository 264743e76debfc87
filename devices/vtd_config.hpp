// What the user chooses about the remapping unit: the options of -device intel-iommu.
#pragma once

namespace kiln {

struct VtdConfig {
    bool interruptRemapping = true;
    bool extendedInterruptMode = true;  // 32-bit APIC ids; needs interrupt remapping
    unsigned addressWidth = 39;         // 39 or 48: of addresses before and after remapping
    bool cachingMode = false;           // CAP.CM
    bool passThrough = true;            // context entries may say so
    bool deviceTlb = false;             // functions may have TLBs of their own
};

}  // namespace kiln
