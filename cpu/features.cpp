#include "cpu/features.hpp"

#include <algorithm>
#include <iterator>

namespace kiln {

namespace {

using F = Feature;

constexpr FeatureSet kImplemented = {
    // leaf 1
    F::FPU, F::VME, F::DE, F::PSE, F::TSC, F::MSR, F::PAE, F::MCE, F::CX8, F::APIC, F::SEP, F::MTRR, F::PGE,
    F::MCA, F::CMOV, F::PAT, F::PSE36, F::CLFLUSH, F::MMX, F::FXSR, F::SSE, F::SSE2, F::SS, F::SSE3, F::SSSE3,
    F::CX16, F::PCID, F::SSE4_1, F::SSE4_2, F::X2APIC, F::POPCNT, F::TSC_DEADLINE, F::HYPERVISOR, F::MONITOR,
    F::MOVBE, F::XSAVE, F::RDRAND, F::PCLMULQDQ, F::AES, F::AVX, F::FMA, F::F16C,
    // leaves 6, 7 and Dh
    F::ARAT, F::FSGSBASE, F::TSC_ADJUST, F::SMEP, F::ERMS, F::INVPCID, F::SMAP, F::UMIP, F::PKU, F::LA57,
    F::PKS, F::MD_CLEAR, F::SPEC_CTRL, F::STIBP, F::ARCH_CAPABILITIES, F::SSBD, F::BHI_CTRL, F::AVX2,
    F::SHA_NI, F::GFNI, F::VAES, F::VPCLMULQDQ, F::BMI1, F::BMI2, F::RDSEED, F::ADX, F::CLFLUSHOPT, F::CLWB,
    F::RDPID, F::CLDEMOTE, F::FSRM, F::SERIALIZE, F::XSAVEOPT, F::XSAVEC, F::XGETBV1, F::XSAVES, F::AVX_VNNI,
    F::AVX512F, F::AVX512DQ, F::AVX512IFMA, F::AVX512CD, F::AVX512BW, F::AVX512VL, F::AVX512_VBMI,
    F::AVX512_VBMI2, F::AVX512_VNNI, F::AVX512_BITALG, F::AVX512_VPOPCNTDQ, F::AVX512_BF16,
    // leaves 8000_0001h to 8000_0008h
    F::SYSCALL, F::NX, F::MMXEXT, F::FXSR_OPT, F::PDPE1GB, F::RDTSCP, F::LM, F::LAHF_LM, F::ABM, F::PREFETCHW,
    F::INVTSC, F::XSAVEERPTR, F::WBNOINVD,
    // in no leaf
    F::P6};

// A feature, and what it needs.
constexpr struct {
    Feature feature, needs;
} kDependencies[] = {
    {F::MMX, F::FPU},
    {F::FXSR, F::FPU},
    {F::CX16, F::LM},
    {F::LAHF_LM, F::LM},
    {F::PDPE1GB, F::LM},
    {F::SYSCALL, F::MSR},
    {F::NX, F::PAE},
    {F::NX, F::MSR},
    {F::LM, F::PAE},
    {F::LM, F::MSR},
    {F::SEP, F::MSR},
    {F::MTRR, F::MSR},
    {F::PAT, F::MSR},
    {F::MCA, F::MSR},
    {F::X2APIC, F::APIC},
    {F::X2APIC, F::MSR},
    {F::TSC_DEADLINE, F::APIC},
    {F::TSC_DEADLINE, F::TSC},
    {F::TSC_ADJUST, F::TSC},
    {F::RDTSCP, F::TSC},
    {F::RDTSCP, F::MSR},
    {F::INVTSC, F::TSC},
    {F::PSE36, F::PSE},
    {F::FSGSBASE, F::LM},
    {F::PCID, F::LM},
    {F::LA57, F::LM},
    {F::PKU, F::LM},
    {F::PKS, F::LM},
    {F::ARCH_CAPABILITIES, F::MSR},
    {F::SPEC_CTRL, F::MSR},
    {F::BHI_CTRL, F::SPEC_CTRL},
    {F::FXSR_OPT, F::FXSR},
    {F::SSE, F::FXSR},
    {F::SSE, F::MMX},
    {F::SSE2, F::SSE},
    {F::SSE3, F::SSE2},
    {F::SSSE3, F::SSE3},
    {F::SSE4_1, F::SSSE3},
    {F::SSE4_2, F::SSE4_1},
    {F::SSE4A, F::SSE3},
    {F::PCLMULQDQ, F::SSE2},
    {F::AES, F::SSE2},
    {F::SHA_NI, F::SSSE3},
    {F::GFNI, F::SSE2},
    {F::XSAVE, F::FXSR},
    {F::XSAVEOPT, F::XSAVE},
    {F::XSAVEC, F::XSAVE},
    {F::XGETBV1, F::XSAVE},
    {F::XSAVES, F::XSAVEC},
    {F::AVX, F::XSAVE},
    {F::AVX, F::SSE4_2},
    {F::FMA, F::AVX},
    {F::F16C, F::AVX},
    {F::AVX2, F::AVX},
    {F::VAES, F::AVX},
    {F::VAES, F::AES},
    {F::VPCLMULQDQ, F::AVX},
    {F::VPCLMULQDQ, F::PCLMULQDQ},
    {F::AVX_VNNI, F::AVX2},
    {F::AVX512F, F::AVX2},
    {F::AVX512F, F::FMA},
    {F::AVX512F, F::F16C},
    {F::AVX512DQ, F::AVX512F},
    {F::AVX512IFMA, F::AVX512F},
    {F::AVX512CD, F::AVX512F},
    {F::AVX512BW, F::AVX512F},
    {F::AVX512VL, F::AVX512F},
    {F::AVX512_VNNI, F::AVX512F},
    {F::AVX512_VPOPCNTDQ, F::AVX512F},
    {F::AVX512_VBMI, F::AVX512BW},
    {F::AVX512_VBMI2, F::AVX512BW},
    {F::AVX512_BITALG, F::AVX512BW},
    {F::AVX512_BF16, F::AVX512BW},
};

// QEMU's names; the first one of a feature is printed.
constexpr struct {
    Feature feature;
    std::string_view name;
} kNames[] = {
    {F::FPU, "fpu"},
    {F::VME, "vme"},
    {F::DE, "de"},
    {F::PSE, "pse"},
    {F::TSC, "tsc"},
    {F::MSR, "msr"},
    {F::PAE, "pae"},
    {F::MCE, "mce"},
    {F::CX8, "cx8"},
    {F::APIC, "apic"},
    {F::SEP, "sep"},
    {F::MTRR, "mtrr"},
    {F::PGE, "pge"},
    {F::MCA, "mca"},
    {F::CMOV, "cmov"},
    {F::PAT, "pat"},
    {F::PSE36, "pse36"},
    {F::PN, "pn"},
    {F::CLFLUSH, "clflush"},
    {F::CLFLUSH, "clfsh"},
    {F::DS, "ds"},
    {F::ACPI, "acpi"},
    {F::MMX, "mmx"},
    {F::FXSR, "fxsr"},
    {F::SSE, "sse"},
    {F::SSE2, "sse2"},
    {F::SS, "ss"},
    {F::HT, "ht"},
    {F::TM, "tm"},
    {F::PBE, "pbe"},
    {F::SSE3, "pni"},
    {F::SSE3, "sse3"},
    {F::PCLMULQDQ, "pclmulqdq"},
    {F::PCLMULQDQ, "pclmuldq"},
    {F::DTES64, "dtes64"},
    {F::MONITOR, "monitor"},
    {F::MONITOR, "mwait"},
    {F::DS_CPL, "ds-cpl"},
    {F::VMX, "vmx"},
    {F::SMX, "smx"},
    {F::EST, "est"},
    {F::TM2, "tm2"},
    {F::SSSE3, "ssse3"},
    {F::FMA, "fma"},
    {F::CX16, "cx16"},
    {F::XTPR, "xtpr"},
    {F::PDCM, "pdcm"},
    {F::PCID, "pcid"},
    {F::SSE4_1, "sse4.1"},
    {F::SSE4_2, "sse4.2"},
    {F::X2APIC, "x2apic"},
    {F::MOVBE, "movbe"},
    {F::POPCNT, "popcnt"},
    {F::TSC_DEADLINE, "tsc-deadline"},
    {F::AES, "aes"},
    {F::AES, "aes-ni"},
    {F::XSAVE, "xsave"},
    {F::AVX, "avx"},
    {F::F16C, "f16c"},
    {F::RDRAND, "rdrand"},
    {F::HYPERVISOR, "hypervisor"},
    {F::ARAT, "arat"},
    {F::FSGSBASE, "fsgsbase"},
    {F::TSC_ADJUST, "tsc-adjust"},
    {F::BMI1, "bmi1"},
    {F::HLE, "hle"},
    {F::AVX2, "avx2"},
    {F::SMEP, "smep"},
    {F::BMI2, "bmi2"},
    {F::ERMS, "erms"},
    {F::INVPCID, "invpcid"},
    {F::RTM, "rtm"},
    {F::MPX, "mpx"},
    {F::AVX512F, "avx512f"},
    {F::AVX512DQ, "avx512dq"},
    {F::RDSEED, "rdseed"},
    {F::ADX, "adx"},
    {F::SMAP, "smap"},
    {F::AVX512IFMA, "avx512ifma"},
    {F::AVX512IFMA, "avx512-ifma"},
    {F::CLFLUSHOPT, "clflushopt"},
    {F::CLWB, "clwb"},
    {F::AVX512CD, "avx512cd"},
    {F::SHA_NI, "sha-ni"},
    {F::SHA_NI, "sha"},
    {F::AVX512BW, "avx512bw"},
    {F::AVX512VL, "avx512vl"},
    {F::AVX512_VBMI, "avx512vbmi"},
    {F::AVX512_VBMI, "avx512-vbmi"},
    {F::UMIP, "umip"},
    {F::PKU, "pku"},
    {F::WAITPKG, "waitpkg"},
    {F::AVX512_VBMI2, "avx512-vbmi2"},
    {F::GFNI, "gfni"},
    {F::VAES, "vaes"},
    {F::VPCLMULQDQ, "vpclmulqdq"},
    {F::AVX512_VNNI, "avx512-vnni"},
    {F::AVX512_BITALG, "avx512-bitalg"},
    {F::AVX512_VPOPCNTDQ, "avx512-vpopcntdq"},
    {F::LA57, "la57"},
    {F::RDPID, "rdpid"},
    {F::CLDEMOTE, "cldemote"},
    {F::MOVDIRI, "movdiri"},
    {F::MOVDIR64B, "movdir64b"},
    {F::PKS, "pks"},
    {F::FSRM, "fsrm"},
    {F::MD_CLEAR, "md-clear"},
    {F::SERIALIZE, "serialize"},
    {F::SPEC_CTRL, "spec-ctrl"},
    {F::STIBP, "stibp"},
    {F::ARCH_CAPABILITIES, "arch-capabilities"},
    {F::SSBD, "ssbd"},
    {F::BHI_CTRL, "bhi-ctrl"},
    {F::AVX_VNNI, "avx-vnni"},
    {F::AVX512_BF16, "avx512-bf16"},
    {F::XSAVEOPT, "xsaveopt"},
    {F::XSAVEC, "xsavec"},
    {F::XGETBV1, "xgetbv1"},
    {F::XSAVES, "xsaves"},
    {F::SYSCALL, "syscall"},
    {F::NX, "nx"},
    {F::NX, "xd"},
    {F::MMXEXT, "mmxext"},
    {F::FXSR_OPT, "fxsr-opt"},
    {F::FXSR_OPT, "ffxsr"},
    {F::PDPE1GB, "pdpe1gb"},
    {F::RDTSCP, "rdtscp"},
    {F::LM, "lm"},
    {F::LM, "i64"},
    {F::AMD_3DNOWEXT, "3dnowext"},
    {F::AMD_3DNOW, "3dnow"},
    {F::LAHF_LM, "lahf-lm"},
    {F::CMP_LEGACY, "cmp-legacy"},
    {F::SVM, "svm"},
    {F::CR8LEGACY, "cr8legacy"},
    {F::ABM, "abm"},
    {F::ABM, "lzcnt"},
    {F::SSE4A, "sse4a"},
    {F::MISALIGNSSE, "misalignsse"},
    {F::PREFETCHW, "3dnowprefetch"},
    {F::OSVW, "osvw"},
    {F::XOP, "xop"},
    {F::FMA4, "fma4"},
    {F::TBM, "tbm"},
    {F::TOPOEXT, "topoext"},
    {F::INVTSC, "invtsc"},
    {F::CLZERO, "clzero"},
    {F::XSAVEERPTR, "xsaveerptr"},
    {F::WBNOINVD, "wbnoinvd"},
};

// Names are compared with all separators alike.
bool sameName(std::string_view a, std::string_view b) {
    auto plain = [](char c) { return c == '_' || c == '.' ? '-' : c; };
    return std::ranges::equal(a, b, {}, plain, plain);
}

}  // namespace

const FeatureSet& implementedFeatures() { return kImplemented; }

FeatureSet withoutOrphans(FeatureSet features) {
    for (FeatureSet before; before != features;) {
        before = features;
        for (auto [feature, needs] : kDependencies)
            if (!features.has(needs)) features.remove(feature);
    }
    return features;
}

std::string_view featureName(Feature f) {
    auto found = std::ranges::find(kNames, f, [](auto& n) { return n.feature; });
    return found == std::end(kNames) ? std::string_view{} : found->name;
}

std::optional<Feature> featureNamed(std::string_view name) {
    for (auto [feature, known] : kNames)
        if (sameName(known, name)) return feature;
    return std::nullopt;
}

std::vector<Feature> namedFeatures() {
    std::vector<Feature> all;
    for (auto& n : kNames)
        if (all.empty() || all.back() != n.feature) all.push_back(n.feature);
    return all;
}

std::string featureNames(const FeatureSet& features) {
    std::string list;
    for (Feature f : namedFeatures()) {
        if (!features.has(f)) continue;
        if (!list.empty()) list += ' ';
        list += featureName(f);
    }
    return list;
}

}  // namespace kiln
