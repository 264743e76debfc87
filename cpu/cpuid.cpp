// CPUID (SDM vol. 2, CPUID). The leaves say exactly what is implemented.
#include <cstring>

#include "cpu/cpu.hpp"
#include "cpu/features.hpp"

namespace kiln {

namespace {

constexpr uint32_t bit(unsigned n) { return 1u << n; }

// Leaf 1 EDX: FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE-36 CLFSH MMX FXSR SSE SSE2
// SS.
constexpr uint32_t kLeaf1Edx = bit(0) | bit(2) | bit(3) | bit(4) | bit(5) | bit(6) | bit(7) | bit(8) |
                               bit(9) | bit(11) | bit(12) | bit(13) | bit(14) | bit(15) | bit(16) | bit(17) |
                               bit(19) | bit(23) | bit(24) | bit(25) | bit(26) | bit(27);
// Leaf 1 ECX: SSE3 SSSE3 CX16 SSE4.1 SSE4.2 x2APIC POPCNT TSC-deadline, and bit 31: under a hypervisor.
constexpr uint32_t kLeaf1Ecx =
    bit(0) | bit(9) | bit(13) | bit(19) | bit(20) | bit(21) | bit(23) | bit(24) | bit(31);
// Leaf 7 EBX: FSGSBASE SMEP ERMS SMAP; ECX: UMIP.
constexpr uint32_t kLeaf7Ebx = bit(0) | bit(7) | bit(9) | bit(20), kLeaf7Ecx = bit(2);
// Leaf 8000_0001 EDX: SYSCALL NX 1-GiB pages RDTSCP LM; ECX: LAHF in 64-bit mode.
constexpr uint32_t kExtended1Edx = bit(11) | bit(20) | bit(26) | bit(27) | bit(29), kExtended1Ecx = bit(0);

constexpr char kBrand[49] = "kiln Virtual CPU";

uint32_t text(const char* from) {
    uint32_t v;
    std::memcpy(&v, from, 4);
    return v;
}

}  // namespace

Cpu::CpuidResult Cpu::cpuid(uint32_t leaf, uint32_t subleaf) const {
    constexpr uint32_t kMaxBasic = 0x16, kMaxExtended = 0x80000008, kMaxHypervisor = 0x40000000;
    if (leaf > kMaxBasic && leaf < 0x40000000) leaf = kMaxBasic;
    const uint32_t apicId = io.apic.initialId();
    const CpuTopology& t = io.topology;
    // Field widths as leaf 4 and leaf 1 want them: ids, a power of two.
    const uint32_t threadIds = 1u << t.threadBits(), packageIds = 1u << t.socketShift();
    const uint32_t perCore = (threadIds - 1) << 14, perPackage = (packageIds - 1) << 14,
                   cores = (packageIds / threadIds - 1) << 26;
    switch (leaf) {
        case 0: return {kMaxBasic, text("Genu"), text("ntel"), text("ineI")};
        case 1: {
            uint32_t edx = kLeaf1Edx & ~(io.apic.enabled() ? 0 : bit(9));
            if (t.perSocket() > 1) edx |= bit(28);  // HTT: more than one logical processor a package
            return {kCpuSignature, apicId << 24 | packageIds << 16 | 8 << 8, kLeaf1Ecx, edx};
        }
        case 2: return {0x00ff'f001, 0, 0, 0};  // see leaf 4; 64-byte prefetch
        case 4:                                 // one L1D, L1I, L2 and L3, each 64-byte lines
            switch (subleaf) {
                case 0: return {0x121 | perCore | cores, 7 << 22 | 63, 63, 0};  // 32 KiB, 8 ways
                case 1: return {0x122 | perCore | cores, 7 << 22 | 63, 63, 0};
                case 2: return {0x143 | perCore | cores, 7 << 22 | 63, 511, 0};    // 256 KiB
                case 3: return {0x163 | perPackage | cores, 15 << 22 | 63, 8191, 0};  // 8 MiB
                default: return {0, 0, 0, 0};
            }
        case 6: return {bit(2), 0, 0, 0};  // the APIC timer runs in every power state
        case 7: return subleaf == 0 ? CpuidResult{0, kLeaf7Ebx, kLeaf7Ecx, 0} : CpuidResult{};
        case 0xb:
            if (subleaf == 0) return {t.threadBits(), t.threads, 0x100, apicId};
            if (subleaf == 1) return {t.socketShift(), t.perSocket(), 0x201, apicId};
            return {0, 0, subleaf, apicId};
        case 0x15: return {1, 1, uint32_t(kTscHz), 0};  // TSC = crystal = APIC timer clock
        case 0x16: return {uint32_t(kTscHz / 1'000'000), uint32_t(kTscHz / 1'000'000), 100, 0};
        case kMaxHypervisor: return {kMaxHypervisor, text("kiln"), text("kiln"), text("kiln")};
        case 0x80000000: return {kMaxExtended, 0, 0, 0};
        case 0x80000001: {
            uint32_t edx = kExtended1Edx & ~(code64() ? 0 : bit(11));
            return {0, 0, kExtended1Ecx, edx};
        }
        case 0x80000002:
        case 0x80000003:
        case 0x80000004: {
            const char* p = kBrand + (leaf - 0x80000002) * 16;
            return {text(p), text(p + 4), text(p + 8), text(p + 12)};
        }
        case 0x80000006: return {0, 0, 256 << 16 | 6 << 12 | 64, 0};
        case 0x80000007: return {0, 0, 0, bit(8)};  // invariant TSC
        case 0x80000008: return {kLinearBits << 8 | kPhysicalBits, 0, 0, 0};
        default: return {0, 0, 0, 0};
    }
}

}  // namespace kiln
