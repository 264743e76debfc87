// CPUID (SDM vol. 2, CPUID; AMD APM vol. 3, appendix E). The leaves say exactly what the model offers.
//
// Not modelled: performance monitoring (0Ah), processor trace, SGX, AMD's cache and topology leaves from
// 8000_000Ah on.
#include <cstring>

#include "cpu/cpu.hpp"
#include "cpu/xsave.hpp"

namespace kiln {

namespace {

constexpr uint32_t bit(unsigned n) { return 1u << n; }
constexpr uint32_t kHypervisor = 0x40000000;

uint32_t text(const char* from) {
    uint32_t v;
    std::memcpy(&v, from, 4);
    return v;
}

// One L1D, L1I and L2 a core and one L3 a package, each with 64-byte lines (leaf 4). Counts are of ids,
// powers of two.
Cpu::CpuidResult caches(const CpuTopology& t, uint32_t subleaf) {
    const uint32_t threadIds = 1u << t.threadBits(), packageIds = 1u << t.socketShift();
    const uint32_t perCore = (threadIds - 1) << 14 | (packageIds / threadIds - 1) << 26,
                   perPackage = (packageIds - 1) << 14 | (packageIds / threadIds - 1) << 26;
    switch (subleaf) {
        case 0: return {0x121 | perCore, 7 << 22 | 63, 63, 0};  // 32 KiB, 8 ways
        case 1: return {0x122 | perCore, 7 << 22 | 63, 63, 0};
        case 2: return {0x143 | perCore, 7 << 22 | 63, 511, 0};       // 256 KiB
        case 3: return {0x163 | perPackage, 15 << 22 | 63, 8191, 0};  // 8 MiB
        default: return {};
    }
}

// Features AMD repeats in 8000_0001h:EDX from leaf 1.
constexpr uint32_t kAmdRepeats = 0x0183f3ff;

}  // namespace

Cpu::CpuidResult Cpu::cpuidVersion() const {
    uint32_t edx = model.features.word(CpuidWord::Leaf1Edx), ecx = model.features.word(CpuidWord::Leaf1Ecx);
    const uint32_t apicId = io.apic.initialId();
    const uint32_t packageIds = 1u << io.topology.socketShift();
    if (!io.apic.enabled()) edx &= ~bit(9);
    if (io.topology.perSocket() > 1) edx |= bit(28);  // HTT: more than one logical processor a package
    if (cr4 & cr4::OSXSAVE) ecx |= bit(27);
    if (!(msr.miscEnable & 1 << 18)) ecx &= ~bit(3);  // MONITOR
    return {model.signature(), apicId << 24 | packageIds << 16 | (model.has(Feature::CLFLUSH) ? 8 << 8 : 0),
            ecx, edx};
}

Cpu::CpuidResult Cpu::cpuidFeatures7(uint32_t subleaf) const {
    if (subleaf == 1) return {model.features.word(CpuidWord::Leaf7Sub1Eax), 0, 0, 0};
    const uint32_t second = model.features.word(CpuidWord::Leaf7Sub2Edx);
    if (subleaf == 2) return {0, 0, 0, second};
    if (subleaf) return {};
    const uint32_t last = second ? 2 : model.features.word(CpuidWord::Leaf7Sub1Eax) != 0;
    uint32_t ecx = model.features.word(CpuidWord::Leaf7Ecx);
    if (cr4 & cr4::PKE) ecx |= bit(4);  // OSPKE
    return {last, model.features.word(CpuidWord::Leaf7Ebx), ecx, model.features.word(CpuidWord::Leaf7Edx)};
}

Cpu::CpuidResult Cpu::cpuidXsave(uint32_t subleaf) const {
    const uint64_t all = model.xcr0Supported();
    if (!all) return {};
    if (subleaf == 0)
        return {uint32_t(all), xsave::standardSize(xcr0), xsave::standardSize(all), uint32_t(all >> 32)};
    if (subleaf == 1) {
        const uint32_t forms = model.features.word(CpuidWord::LeafDSub1Eax);
        const bool compacts = model.has(Feature::XSAVEC) || model.has(Feature::XSAVES);
        return {forms, compacts ? xsave::compactedSize(xcr0) : 0, 0, 0};
    }
    for (const xsave::Component& k : xsave::kComponents)
        if (k.number == subleaf && all & k.bit()) return {k.size, k.offset, 0, 0};
    return {};
}

Cpu::CpuidResult Cpu::cpuidExtended(uint32_t leaf) const {
    const CpuTopology& t = io.topology;
    switch (leaf) {
        case 0x80000000: {
            if (!model.isAmd()) return {model.xlevel, 0, 0, 0};
            const char* v = model.vendor.data();
            return {model.xlevel, text(v), text(v + 8), text(v + 4)};
        }
        case 0x80000001: {
            uint32_t edx = model.features.word(CpuidWord::Extended1Edx);
            uint32_t ecx = model.features.word(CpuidWord::Extended1Ecx);
            if (model.isAmd() && t.perSocket() > 1) ecx |= bit(1);  // CmpLegacy
            if (model.isAmd())
                edx |= cpuidVersion().edx & kAmdRepeats;
            else if (!code64())
                edx &= ~bit(11);  // SYSCALL
            return {model.isAmd() ? model.signature() : 0, 0, ecx, edx};
        }
        case 0x80000002:
        case 0x80000003:
        case 0x80000004: {
            char brand[48] = {};
            model.brand.copy(brand, sizeof brand - 1);
            const char* p = brand + (leaf - 0x80000002) * 16;
            return {text(p), text(p + 4), text(p + 8), text(p + 12)};
        }
        case 0x80000005:  // AMD: TLBs, L1D and L1I of 32 KiB
            if (!model.isAmd()) return {};
            return {0x01ff'01ff, 0x01ff'01ff, 32 << 24 | 8 << 16 | 1 << 8 | 64,
                    32 << 24 | 8 << 16 | 1 << 8 | 64};
        case 0x80000006: return {0, 0, 256 << 16 | 6 << 12 | 64, 0};
        case 0x80000007: return {0, 0, 0, model.features.word(CpuidWord::Extended7Edx)};
        case 0x80000008:
            return {model.linearBits << 8 | model.physicalBits, model.features.word(CpuidWord::Extended8Ebx),
                    model.isAmd() ? t.socketShift() << 12 | (t.perSocket() - 1) : 0, 0};
        default: return {};
    }
}

Cpu::CpuidResult Cpu::cpuid(uint32_t leaf, uint32_t subleaf) const {
    const bool hypervisor = leaf >= kHypervisor && leaf < 0x80000000 && model.has(Feature::HYPERVISOR);
    if (leaf >= 0x80000000 && leaf <= model.xlevel) return cpuidExtended(leaf);
    if (hypervisor && leaf == kHypervisor) return {kHypervisor, text("kiln"), text("kiln"), text("kiln")};
    if (leaf > model.level) {
        if (model.isAmd() || hypervisor) return {};
        leaf = model.level;  // Intel: data of the last basic leaf
    }
    const uint32_t apicId = io.apic.initialId();
    const CpuTopology& t = io.topology;
    switch (leaf) {
        case 0: {
            const char* v = model.vendor.data();
            return {model.level, text(v), text(v + 8), text(v + 4)};
        }
        case 1: return cpuidVersion();
        case 2:
            return model.isAmd() ? CpuidResult{}
                                 : CpuidResult{0x00ff'f001, 0, 0, 0};  // see leaf 4; 64-byte prefetch
        case 4: return model.isAmd() ? CpuidResult{} : caches(io.topology, subleaf);
        case 5:  // MONITOR: one line of 64 bytes; ECX[0] of MWAIT; C0 and C1
            if (!model.has(Feature::MONITOR)) return {};
            return {64, 64, bit(0) | bit(1), 0x10};
        case 6: return {model.features.word(CpuidWord::Leaf6Eax), 0, 0, 0};
        case 7: return cpuidFeatures7(subleaf);
        case 0xd: return cpuidXsave(subleaf);
        case 0xb:
            if (subleaf == 0) return {t.threadBits(), t.threads, 0x100, apicId};
            if (subleaf == 1) return {t.socketShift(), t.perSocket(), 0x201, apicId};
            return {0, 0, subleaf, apicId};
        case 0x15: return {1, 1, uint32_t(kTscHz), 0};  // TSC = crystal = APIC timer clock
        case 0x16: return {uint32_t(kTscHz / 1'000'000), uint32_t(kTscHz / 1'000'000), 100, 0};
        default: return {};
    }
}

}  // namespace kiln
