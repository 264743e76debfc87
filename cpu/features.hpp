// What CPUID can offer, each feature named as QEMU names it for -cpu (SDM vol. 2, CPUID; AMD APM vol. 3,
// appendix E). A feature's value is its place in CPUID, so that leaves are read from a FeatureSet word by
// word.
//
// `implementedFeatures()` is what kiln has. A feature belongs there as soon as its instructions, registers
// and faults are complete: then it is offered by -cpu max, may be asked for with +name, and is gated
// everywhere.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

// A register of a CPUID leaf that holds features. Derived follows from family and model and is in no leaf.
enum class CpuidWord : uint8_t {
    Leaf1Edx,
    Leaf1Ecx,
    Leaf6Eax,
    Leaf7Ebx,
    Leaf7Ecx,
    Leaf7Edx,
    Leaf7Sub1Eax,
    Leaf7Sub2Edx,
    LeafDSub1Eax,
    Extended1Edx,
    Extended1Ecx,
    Extended7Edx,
    Extended8Ebx,
    Derived,
    Count
};

constexpr uint16_t cpuidBit(CpuidWord word, unsigned bit) { return uint16_t(unsigned(word) * 32 + bit); }

#define KILN_AT(word, bit) cpuidBit(CpuidWord::word, bit)
enum class Feature : uint16_t {
    FPU = KILN_AT(Leaf1Edx, 0),
    VME = KILN_AT(Leaf1Edx, 1),
    DE = KILN_AT(Leaf1Edx, 2),
    PSE = KILN_AT(Leaf1Edx, 3),
    TSC = KILN_AT(Leaf1Edx, 4),
    MSR = KILN_AT(Leaf1Edx, 5),
    PAE = KILN_AT(Leaf1Edx, 6),
    MCE = KILN_AT(Leaf1Edx, 7),
    CX8 = KILN_AT(Leaf1Edx, 8),
    APIC = KILN_AT(Leaf1Edx, 9),
    SEP = KILN_AT(Leaf1Edx, 11),
    MTRR = KILN_AT(Leaf1Edx, 12),
    PGE = KILN_AT(Leaf1Edx, 13),
    MCA = KILN_AT(Leaf1Edx, 14),
    CMOV = KILN_AT(Leaf1Edx, 15),
    PAT = KILN_AT(Leaf1Edx, 16),
    PSE36 = KILN_AT(Leaf1Edx, 17),
    PN = KILN_AT(Leaf1Edx, 18),
    CLFLUSH = KILN_AT(Leaf1Edx, 19),
    DS = KILN_AT(Leaf1Edx, 21),
    ACPI = KILN_AT(Leaf1Edx, 22),
    MMX = KILN_AT(Leaf1Edx, 23),
    FXSR = KILN_AT(Leaf1Edx, 24),
    SSE = KILN_AT(Leaf1Edx, 25),
    SSE2 = KILN_AT(Leaf1Edx, 26),
    SS = KILN_AT(Leaf1Edx, 27),
    HT = KILN_AT(Leaf1Edx, 28),
    TM = KILN_AT(Leaf1Edx, 29),
    PBE = KILN_AT(Leaf1Edx, 31),

    SSE3 = KILN_AT(Leaf1Ecx, 0),
    PCLMULQDQ = KILN_AT(Leaf1Ecx, 1),
    DTES64 = KILN_AT(Leaf1Ecx, 2),
    MONITOR = KILN_AT(Leaf1Ecx, 3),
    DS_CPL = KILN_AT(Leaf1Ecx, 4),
    VMX = KILN_AT(Leaf1Ecx, 5),
    SMX = KILN_AT(Leaf1Ecx, 6),
    EST = KILN_AT(Leaf1Ecx, 7),
    TM2 = KILN_AT(Leaf1Ecx, 8),
    SSSE3 = KILN_AT(Leaf1Ecx, 9),
    FMA = KILN_AT(Leaf1Ecx, 12),
    CX16 = KILN_AT(Leaf1Ecx, 13),
    XTPR = KILN_AT(Leaf1Ecx, 14),
    PDCM = KILN_AT(Leaf1Ecx, 15),
    PCID = KILN_AT(Leaf1Ecx, 17),
    SSE4_1 = KILN_AT(Leaf1Ecx, 19),
    SSE4_2 = KILN_AT(Leaf1Ecx, 20),
    X2APIC = KILN_AT(Leaf1Ecx, 21),
    MOVBE = KILN_AT(Leaf1Ecx, 22),
    POPCNT = KILN_AT(Leaf1Ecx, 23),
    TSC_DEADLINE = KILN_AT(Leaf1Ecx, 24),
    AES = KILN_AT(Leaf1Ecx, 25),
    XSAVE = KILN_AT(Leaf1Ecx, 26),
    AVX = KILN_AT(Leaf1Ecx, 28),
    F16C = KILN_AT(Leaf1Ecx, 29),
    RDRAND = KILN_AT(Leaf1Ecx, 30),
    HYPERVISOR = KILN_AT(Leaf1Ecx, 31),

    ARAT = KILN_AT(Leaf6Eax, 2),

    FSGSBASE = KILN_AT(Leaf7Ebx, 0),
    TSC_ADJUST = KILN_AT(Leaf7Ebx, 1),
    BMI1 = KILN_AT(Leaf7Ebx, 3),
    HLE = KILN_AT(Leaf7Ebx, 4),
    AVX2 = KILN_AT(Leaf7Ebx, 5),
    SMEP = KILN_AT(Leaf7Ebx, 7),
    BMI2 = KILN_AT(Leaf7Ebx, 8),
    ERMS = KILN_AT(Leaf7Ebx, 9),
    INVPCID = KILN_AT(Leaf7Ebx, 10),
    RTM = KILN_AT(Leaf7Ebx, 11),
    MPX = KILN_AT(Leaf7Ebx, 14),
    AVX512F = KILN_AT(Leaf7Ebx, 16),
    AVX512DQ = KILN_AT(Leaf7Ebx, 17),
    RDSEED = KILN_AT(Leaf7Ebx, 18),
    ADX = KILN_AT(Leaf7Ebx, 19),
    SMAP = KILN_AT(Leaf7Ebx, 20),
    AVX512IFMA = KILN_AT(Leaf7Ebx, 21),
    CLFLUSHOPT = KILN_AT(Leaf7Ebx, 23),
    CLWB = KILN_AT(Leaf7Ebx, 24),
    AVX512CD = KILN_AT(Leaf7Ebx, 28),
    SHA_NI = KILN_AT(Leaf7Ebx, 29),
    AVX512BW = KILN_AT(Leaf7Ebx, 30),
    AVX512VL = KILN_AT(Leaf7Ebx, 31),

    AVX512_VBMI = KILN_AT(Leaf7Ecx, 1),
    UMIP = KILN_AT(Leaf7Ecx, 2),
    PKU = KILN_AT(Leaf7Ecx, 3),
    WAITPKG = KILN_AT(Leaf7Ecx, 5),
    AVX512_VBMI2 = KILN_AT(Leaf7Ecx, 6),
    GFNI = KILN_AT(Leaf7Ecx, 8),
    VAES = KILN_AT(Leaf7Ecx, 9),
    VPCLMULQDQ = KILN_AT(Leaf7Ecx, 10),
    AVX512_VNNI = KILN_AT(Leaf7Ecx, 11),
    AVX512_BITALG = KILN_AT(Leaf7Ecx, 12),
    AVX512_VPOPCNTDQ = KILN_AT(Leaf7Ecx, 14),
    LA57 = KILN_AT(Leaf7Ecx, 16),
    RDPID = KILN_AT(Leaf7Ecx, 22),
    CLDEMOTE = KILN_AT(Leaf7Ecx, 25),
    MOVDIRI = KILN_AT(Leaf7Ecx, 27),
    MOVDIR64B = KILN_AT(Leaf7Ecx, 28),
    PKS = KILN_AT(Leaf7Ecx, 31),

    FSRM = KILN_AT(Leaf7Edx, 4),
    MD_CLEAR = KILN_AT(Leaf7Edx, 10),
    SERIALIZE = KILN_AT(Leaf7Edx, 14),
    SPEC_CTRL = KILN_AT(Leaf7Edx, 26),
    STIBP = KILN_AT(Leaf7Edx, 27),
    ARCH_CAPABILITIES = KILN_AT(Leaf7Edx, 29),
    SSBD = KILN_AT(Leaf7Edx, 31),

    AVX_VNNI = KILN_AT(Leaf7Sub1Eax, 4),
    AVX512_BF16 = KILN_AT(Leaf7Sub1Eax, 5),

    BHI_CTRL = KILN_AT(Leaf7Sub2Edx, 4),

    XSAVEOPT = KILN_AT(LeafDSub1Eax, 0),
    XSAVEC = KILN_AT(LeafDSub1Eax, 1),
    XGETBV1 = KILN_AT(LeafDSub1Eax, 2),
    XSAVES = KILN_AT(LeafDSub1Eax, 3),

    SYSCALL = KILN_AT(Extended1Edx, 11),
    NX = KILN_AT(Extended1Edx, 20),
    MMXEXT = KILN_AT(Extended1Edx, 22),
    FXSR_OPT = KILN_AT(Extended1Edx, 25),
    PDPE1GB = KILN_AT(Extended1Edx, 26),
    RDTSCP = KILN_AT(Extended1Edx, 27),
    LM = KILN_AT(Extended1Edx, 29),
    AMD_3DNOWEXT = KILN_AT(Extended1Edx, 30),
    AMD_3DNOW = KILN_AT(Extended1Edx, 31),

    LAHF_LM = KILN_AT(Extended1Ecx, 0),
    CMP_LEGACY = KILN_AT(Extended1Ecx, 1),
    SVM = KILN_AT(Extended1Ecx, 2),
    CR8LEGACY = KILN_AT(Extended1Ecx, 4),
    ABM = KILN_AT(Extended1Ecx, 5),  // LZCNT
    SSE4A = KILN_AT(Extended1Ecx, 6),
    MISALIGNSSE = KILN_AT(Extended1Ecx, 7),
    PREFETCHW = KILN_AT(Extended1Ecx, 8),
    OSVW = KILN_AT(Extended1Ecx, 9),
    XOP = KILN_AT(Extended1Ecx, 11),
    FMA4 = KILN_AT(Extended1Ecx, 16),
    TBM = KILN_AT(Extended1Ecx, 21),
    TOPOEXT = KILN_AT(Extended1Ecx, 22),

    INVTSC = KILN_AT(Extended7Edx, 8),

    CLZERO = KILN_AT(Extended8Ebx, 0),
    XSAVEERPTR = KILN_AT(Extended8Ebx, 2),
    WBNOINVD = KILN_AT(Extended8Ebx, 9),

    P6 = KILN_AT(Derived, 0),  // family 6 and later: long NOPs, hints in 0F 18..1F, RDPMC
};
#undef KILN_AT

class FeatureSet {
    // Ahead of its callers: clang evaluates constant expressions in this order.
    template <class F>
    constexpr FeatureSet combine(const FeatureSet& o, F f) const {
        FeatureSet r;
        for (unsigned i = 0; i < words_.size(); i++) r.words_[i] = f(words_[i], o.words_[i]);
        return r;
    }

  public:
    constexpr FeatureSet() = default;
    constexpr FeatureSet(std::initializer_list<Feature> list) {
        for (Feature f : list) add(f);
    }
    constexpr bool has(Feature f) const { return words_[unsigned(f) / 32] >> (unsigned(f) % 32) & 1; }
    constexpr void add(Feature f) { words_[unsigned(f) / 32] |= 1u << (unsigned(f) % 32); }
    constexpr void remove(Feature f) { words_[unsigned(f) / 32] &= ~(1u << (unsigned(f) % 32)); }
    constexpr uint32_t word(CpuidWord w) const { return words_[unsigned(w)]; }
    constexpr bool empty() const { return *this == FeatureSet{}; }
    constexpr bool operator==(const FeatureSet&) const = default;
    constexpr FeatureSet operator|(const FeatureSet& o) const {
        return combine(o, [](uint32_t a, uint32_t b) { return a | b; });
    }
    constexpr FeatureSet operator&(const FeatureSet& o) const {
        return combine(o, [](uint32_t a, uint32_t b) { return a & b; });
    }
    constexpr FeatureSet operator-(const FeatureSet& o) const {
        return combine(o, [](uint32_t a, uint32_t b) { return a & ~b; });
    }

  private:
    std::array<uint32_t, unsigned(CpuidWord::Count)> words_{};
};

// What kiln implements.
const FeatureSet& implementedFeatures();

// Takes away what can't be without something that is missing: AVX2 without AVX, AVX without XSAVE.
FeatureSet withoutOrphans(FeatureSet features);

// QEMU's name, and the feature of a name; '_', '.' and '-' are alike, and so are aliases such as "lzcnt".
std::string_view featureName(Feature f);
std::optional<Feature> featureNamed(std::string_view name);
std::vector<Feature> namedFeatures();  // all that have a name, sorted by place in CPUID
std::string featureNames(const FeatureSet& features);

}  // namespace kiln
