// What is left out on purpose, so that nobody is warned of it: SVM (qemu64, EPYC), thermal MSRs (core2duo),
// TSX (Haswell, Skylake and their successors are QEMU's noTSX versions), AVX512-FP16, AMX, direct stores and
// bus-lock detection (SapphireRapids). The bit that tells of a hypervisor is added to every model, as in
// QEMU.
#include "cpu/named_models.hpp"

namespace kiln {

namespace {

using F = Feature;

constexpr FeatureSet k486 = {F::FPU, F::VME, F::PSE};
constexpr FeatureSet kPentium = k486 | FeatureSet{F::DE, F::TSC, F::MSR, F::MCE, F::CX8, F::MMX, F::APIC};
constexpr FeatureSet kPentium2 =
    kPentium | FeatureSet{F::PAE, F::SEP, F::MTRR, F::PGE, F::MCA, F::CMOV, F::PAT, F::PSE36, F::FXSR};
constexpr FeatureSet kPentium3 = kPentium2 | FeatureSet{F::SSE};

// What QEMU's own models and the psABI's x86-64 share.
constexpr FeatureSet kQemu32 = {F::FPU, F::DE,  F::PSE,  F::TSC, F::MSR,  F::PAE, F::MCE, F::CX8,  F::APIC,
                                F::SEP, F::PGE, F::CMOV, F::PAT, F::FXSR, F::MMX, F::SSE, F::SSE2, F::SSE3};
constexpr FeatureSet kQemu64 = kQemu32 | FeatureSet{F::MTRR, F::CLFLUSH, F::MCA, F::PSE36,  F::CX16,
                                                    F::LM,   F::SYSCALL, F::NX,  F::LAHF_LM};

constexpr FeatureSet kX86_64 = {F::FPU,  F::VME,     F::DE,    F::PSE,     F::TSC,  F::MSR,  F::PAE,
                                F::MCE,  F::CX8,     F::APIC,  F::SEP,     F::MTRR, F::PGE,  F::MCA,
                                F::CMOV, F::PAT,     F::PSE36, F::CLFLUSH, F::MMX,  F::FXSR, F::SSE,
                                F::SSE2, F::SYSCALL, F::NX,    F::LM};
constexpr FeatureSet kLevel2 =
    kX86_64 | FeatureSet{F::CX16, F::LAHF_LM, F::POPCNT, F::SSE3, F::SSE4_1, F::SSE4_2, F::SSSE3};
constexpr FeatureSet kLevel3 =
    kLevel2 | FeatureSet{F::AVX, F::AVX2, F::BMI1, F::BMI2, F::F16C, F::FMA, F::ABM, F::MOVBE, F::XSAVE};

constexpr FeatureSet kLevel4 =
    kLevel3 | FeatureSet{F::AVX512F, F::AVX512BW, F::AVX512CD, F::AVX512DQ, F::AVX512VL};

constexpr FeatureSet kCore2Duo =
    kX86_64 | FeatureSet{F::SS, F::SSE3, F::MONITOR, F::SSSE3, F::CX16, F::LAHF_LM};
constexpr FeatureSet kNehalem =
    kX86_64 | FeatureSet{F::SSE3, F::SSSE3, F::CX16, F::SSE4_1, F::SSE4_2, F::POPCNT, F::LAHF_LM};
constexpr FeatureSet kSandyBridge =
    kNehalem | FeatureSet{F::PCLMULQDQ, F::X2APIC, F::TSC_DEADLINE, F::AES, F::XSAVE,
                          F::AVX,       F::RDTSCP, F::XSAVEOPT,     F::ARAT};
constexpr FeatureSet kIvyBridge =
    kSandyBridge | FeatureSet{F::F16C, F::RDRAND, F::FSGSBASE, F::SMEP, F::ERMS};
constexpr FeatureSet kHaswell =
    kNehalem | FeatureSet{F::PCLMULQDQ, F::FMA,   F::PCID,   F::X2APIC, F::MOVBE,  F::TSC_DEADLINE,
                          F::AES,       F::XSAVE, F::AVX,    F::F16C,   F::RDRAND, F::FSGSBASE,
                          F::BMI1,      F::AVX2,  F::SMEP,   F::BMI2,   F::ERMS,   F::INVPCID,
                          F::XSAVEOPT,  F::ARAT,  F::RDTSCP, F::ABM};
constexpr FeatureSet kSkylakeClient =
    kHaswell | FeatureSet{F::RDSEED, F::ADX, F::SMAP, F::XSAVEC, F::XGETBV1, F::PREFETCHW};
constexpr FeatureSet kSkylakeServer =
    kSkylakeClient | FeatureSet{F::CLFLUSHOPT, F::CLWB,     F::PKU,      F::PDPE1GB, F::AVX512F,
                                F::AVX512DQ,   F::AVX512CD, F::AVX512BW, F::AVX512VL};
constexpr FeatureSet kCascadelakeServer =
    kSkylakeServer | FeatureSet{F::AVX512_VNNI, F::SPEC_CTRL, F::SSBD, F::ARCH_CAPABILITIES};
constexpr FeatureSet kIcelakeServer =
    kCascadelakeServer |
    FeatureSet{F::AVX512IFMA, F::AVX512_VBMI, F::AVX512_VBMI2, F::AVX512_BITALG, F::AVX512_VPOPCNTDQ,
               F::UMIP,       F::GFNI,        F::VAES,         F::VPCLMULQDQ,    F::LA57,
               F::SHA_NI,     F::RDPID,       F::FSRM,         F::WBNOINVD,      F::XSAVES};
constexpr FeatureSet kSapphireRapids = kIcelakeServer | FeatureSet{F::AVX_VNNI, F::AVX512_BF16, F::SERIALIZE,
                                                                   F::CLDEMOTE, F::TSC_ADJUST,  F::BHI_CTRL};
constexpr FeatureSet kEpyc =
    kNehalem | FeatureSet{F::PCLMULQDQ,   F::MONITOR,   F::FMA,    F::MOVBE,     F::AES,  F::XSAVE,
                          F::AVX,         F::F16C,      F::RDRAND, F::FSGSBASE,  F::BMI1, F::AVX2,
                          F::SMEP,        F::BMI2,      F::RDSEED, F::ADX,       F::SMAP, F::CLFLUSHOPT,
                          F::SHA_NI,      F::XSAVEOPT,  F::XSAVEC, F::XGETBV1,   F::ARAT, F::MMXEXT,
                          F::FXSR_OPT,    F::PDPE1GB,   F::RDTSCP, F::CR8LEGACY, F::ABM,  F::SSE4A,
                          F::MISALIGNSSE, F::PREFETCHW, F::OSVW,   F::TOPOEXT};

}  // namespace

std::span<const CpuModel> namedModels() {
    static const char* const kIntel = "GenuineIntel";
    static const char* const kAmd = "AuthenticAMD";
    static const std::vector<CpuModel> models = {
        {"x86-64-v1", kIntel, 6, 15, 11, "x86-64 psABI level 1", 0xa, 0x80000008, kX86_64},
        {"x86-64-v2", kIntel, 6, 26, 3, "x86-64 psABI level 2", 0xb, 0x80000008, kLevel2},
        {"x86-64-v3", kIntel, 6, 60, 1, "x86-64 psABI level 3", 0xd, 0x80000008, kLevel3},
        {"x86-64-v4", kIntel, 6, 85, 4, "x86-64 psABI level 4", 0xd, 0x80000008, kLevel4},
        {"qemu64", kAmd, 15, 107, 1, "QEMU Virtual CPU version 2.5+", 0xd, 0x80000008, kQemu64},
        {"qemu32", kIntel, 6, 6, 3, "QEMU Virtual CPU version 2.5+", 4, 0x80000004, kQemu32},
        {"486", kIntel, 4, 8, 0, "", 1, 0, k486, 32},
        {"pentium", kIntel, 5, 4, 3, "", 1, 0, kPentium, 32},
        {"pentium2", kIntel, 6, 5, 2, "", 2, 0, kPentium2, 36},
        {"pentium3", kIntel, 6, 7, 3, "", 3, 0, kPentium3, 36},
        {"core2duo", kIntel, 6, 15, 11, "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz", 0xa, 0x80000008,
         kCore2Duo},
        {"Nehalem", kIntel, 6, 26, 3, "Intel Core i7 9xx (Nehalem Class Core i7)", 0xb, 0x80000008, kNehalem},
        {"SandyBridge", kIntel, 6, 42, 1, "Intel Xeon E312xx (Sandy Bridge)", 0xd, 0x80000008, kSandyBridge},
        {"IvyBridge", kIntel, 6, 58, 9, "Intel Xeon E3-12xx v2 (Ivy Bridge)", 0xd, 0x80000008, kIvyBridge},
        {"Haswell", kIntel, 6, 60, 1, "Intel Core Processor (Haswell, no TSX)", 0xd, 0x80000008, kHaswell},
        {"Skylake-Client", kIntel, 6, 94, 3, "Intel Core Processor (Skylake, no TSX)", 0xd, 0x80000008,
         kSkylakeClient},
        {"Skylake-Server", kIntel, 6, 85, 4, "Intel Xeon Processor (Skylake, no TSX)", 0xd, 0x80000008,
         kSkylakeServer},
        {"Cascadelake-Server", kIntel, 6, 85, 6, "Intel Xeon Processor (Cascadelake, no TSX)", 0xd,
         0x80000008, kCascadelakeServer},
        {"Icelake-Server", kIntel, 6, 134, 0, "Intel Xeon Processor (Icelake, no TSX)", 0xd, 0x80000008,
         kIcelakeServer},
        {"SapphireRapids", kIntel, 6, 143, 4, "Intel Xeon Processor (SapphireRapids)", 0x20, 0x80000008,
         kSapphireRapids},
        {"Opteron_G1", kAmd, 15, 6, 1, "AMD Opteron 240 (Gen 1 Class Opteron)", 5, 0x80000008,
         kX86_64 | FeatureSet{F::SSE3}},
        {"EPYC", kAmd, 23, 1, 2, "AMD EPYC Processor", 0xd, 0x80000008, kEpyc},
    };
    return models;
}

}  // namespace kiln
