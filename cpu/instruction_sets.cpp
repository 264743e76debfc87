#include "cpu/instruction_sets.hpp"

#include <algorithm>
#include <array>
#include <iterator>

namespace kiln {

namespace {

using F = Feature;

struct SetRule {
    ZydisISASet set;
    FeatureSet needs;
};

// Sets that no rule names don't exist on any model.
const SetRule kSets[] = {
    {ZYDIS_ISA_SET_I86, {}},
    {ZYDIS_ISA_SET_I186, {}},
    {ZYDIS_ISA_SET_I286REAL, {}},
    {ZYDIS_ISA_SET_I286PROTECTED, {}},
    {ZYDIS_ISA_SET_I386, {}},
    {ZYDIS_ISA_SET_I486, {}},
    {ZYDIS_ISA_SET_I486REAL, {}},
    {ZYDIS_ISA_SET_PENTIUMREAL, {}},  // see kExceptions
    {ZYDIS_ISA_SET_PPRO, {F::P6}},
    {ZYDIS_ISA_SET_FAT_NOP, {F::P6}},
    {ZYDIS_ISA_SET_RDPMC, {F::P6}},
    {ZYDIS_ISA_SET_PAUSE, {}},  // REP NOP
    {ZYDIS_ISA_SET_LONGMODE, {F::LM}},
    {ZYDIS_ISA_SET_AMD, {F::SYSCALL}},
    {ZYDIS_ISA_SET_LAHF, {}},
    {ZYDIS_ISA_SET_X87, {F::FPU}},
    {ZYDIS_ISA_SET_FCMOV, {F::FPU, F::CMOV}},
    {ZYDIS_ISA_SET_SSE3X87, {F::FPU, F::SSE3}},
    {ZYDIS_ISA_SET_CMOV, {F::CMOV}},
    {ZYDIS_ISA_SET_CMPXCHG16B, {F::CX16}},
    {ZYDIS_ISA_SET_PENTIUMMMX, {F::MMX}},
    {ZYDIS_ISA_SET_FXSAVE, {F::FXSR}},
    {ZYDIS_ISA_SET_FXSAVE64, {F::FXSR}},
    {ZYDIS_ISA_SET_SSEMXCSR, {F::SSE}},
    {ZYDIS_ISA_SET_SSE_PREFETCH, {F::P6}},  // hints: NOPs where there is no SSE
    {ZYDIS_ISA_SET_SSE, {F::SSE}},
    {ZYDIS_ISA_SET_SSE2, {F::SSE2}},
    {ZYDIS_ISA_SET_SSE2MMX, {F::SSE2}},
    {ZYDIS_ISA_SET_SSE3, {F::SSE3}},
    {ZYDIS_ISA_SET_SSSE3, {F::SSSE3}},
    {ZYDIS_ISA_SET_SSSE3MMX, {F::SSSE3}},
    {ZYDIS_ISA_SET_SSE4, {F::SSE4_1}},
    {ZYDIS_ISA_SET_SSE42, {F::SSE4_2}},
    {ZYDIS_ISA_SET_SSE4A, {F::SSE4A}},
    {ZYDIS_ISA_SET_POPCNT, {F::POPCNT}},
    {ZYDIS_ISA_SET_LZCNT, {F::ABM}},
    {ZYDIS_ISA_SET_BMI1, {F::BMI1}},
    {ZYDIS_ISA_SET_BMI2, {F::BMI2}},
    {ZYDIS_ISA_SET_ADOX_ADCX, {F::ADX}},
    {ZYDIS_ISA_SET_MOVBE, {F::MOVBE}},
    {ZYDIS_ISA_SET_AES, {F::AES}},
    {ZYDIS_ISA_SET_PCLMULQDQ, {F::PCLMULQDQ}},
    {ZYDIS_ISA_SET_SHA, {F::SHA_NI}},
    {ZYDIS_ISA_SET_GFNI, {F::GFNI}},
    {ZYDIS_ISA_SET_AVX, {F::AVX}},
    {ZYDIS_ISA_SET_AVX2, {F::AVX2}},
    {ZYDIS_ISA_SET_AVX2GATHER, {F::AVX2}},
    {ZYDIS_ISA_SET_AVXAES, {F::AVX, F::AES}},
    {ZYDIS_ISA_SET_AVX_GFNI, {F::AVX, F::GFNI}},
    {ZYDIS_ISA_SET_AVX_VNNI, {F::AVX_VNNI}},
    {ZYDIS_ISA_SET_VAES, {F::VAES}},
    {ZYDIS_ISA_SET_VPCLMULQDQ, {F::VPCLMULQDQ}},
    {ZYDIS_ISA_SET_F16C, {F::F16C}},
    {ZYDIS_ISA_SET_FMA, {F::FMA}},
    {ZYDIS_ISA_SET_AVX512F_128, {F::AVX512F, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512F_256, {F::AVX512F, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512F_512, {F::AVX512F}},
    {ZYDIS_ISA_SET_AVX512F_128N, {F::AVX512F}},
    {ZYDIS_ISA_SET_AVX512F_KOP, {F::AVX512F}},
    {ZYDIS_ISA_SET_AVX512F_SCALAR, {F::AVX512F}},
    {ZYDIS_ISA_SET_AVX512CD_128, {F::AVX512CD, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512CD_256, {F::AVX512CD, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512CD_512, {F::AVX512CD}},
    {ZYDIS_ISA_SET_AVX512BW_128, {F::AVX512BW, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512BW_256, {F::AVX512BW, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512BW_512, {F::AVX512BW}},
    {ZYDIS_ISA_SET_AVX512BW_128N, {F::AVX512BW}},
    {ZYDIS_ISA_SET_AVX512BW_KOP, {F::AVX512BW}},
    {ZYDIS_ISA_SET_AVX512DQ_128, {F::AVX512DQ, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512DQ_256, {F::AVX512DQ, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512DQ_512, {F::AVX512DQ}},
    {ZYDIS_ISA_SET_AVX512DQ_128N, {F::AVX512DQ}},
    {ZYDIS_ISA_SET_AVX512DQ_KOP, {F::AVX512DQ}},
    {ZYDIS_ISA_SET_AVX512DQ_SCALAR, {F::AVX512DQ}},
    {ZYDIS_ISA_SET_AVX512_IFMA_128, {F::AVX512IFMA, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_IFMA_256, {F::AVX512IFMA, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_IFMA_512, {F::AVX512IFMA}},
    {ZYDIS_ISA_SET_AVX512_VBMI_128, {F::AVX512_VBMI, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_VBMI_256, {F::AVX512_VBMI, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_VBMI_512, {F::AVX512_VBMI}},
    {ZYDIS_ISA_SET_AVX512_VBMI2_128, {F::AVX512_VBMI2, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_VBMI2_256, {F::AVX512_VBMI2, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_VBMI2_512, {F::AVX512_VBMI2}},
    {ZYDIS_ISA_SET_AVX512_VNNI_128, {F::AVX512_VNNI, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_VNNI_256, {F::AVX512_VNNI, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_VNNI_512, {F::AVX512_VNNI}},
    {ZYDIS_ISA_SET_AVX512_BITALG_128, {F::AVX512_BITALG, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_BITALG_256, {F::AVX512_BITALG, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_BITALG_512, {F::AVX512_BITALG}},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128, {F::AVX512_VPOPCNTDQ, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256, {F::AVX512_VPOPCNTDQ, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512, {F::AVX512_VPOPCNTDQ}},
    {ZYDIS_ISA_SET_AVX512_BF16_128, {F::AVX512_BF16, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_BF16_256, {F::AVX512_BF16, F::AVX512VL}},
    {ZYDIS_ISA_SET_AVX512_BF16_512, {F::AVX512_BF16}},
    {ZYDIS_ISA_SET_AVX512_GFNI_128, {F::AVX512F, F::AVX512VL, F::GFNI}},
    {ZYDIS_ISA_SET_AVX512_GFNI_256, {F::AVX512F, F::AVX512VL, F::GFNI}},
    {ZYDIS_ISA_SET_AVX512_GFNI_512, {F::AVX512F, F::GFNI}},
    {ZYDIS_ISA_SET_AVX512_VAES_128, {F::AVX512F, F::AVX512VL, F::VAES}},
    {ZYDIS_ISA_SET_AVX512_VAES_256, {F::AVX512F, F::AVX512VL, F::VAES}},
    {ZYDIS_ISA_SET_AVX512_VAES_512, {F::AVX512F, F::VAES}},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128, {F::AVX512F, F::AVX512VL, F::VPCLMULQDQ}},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256, {F::AVX512F, F::AVX512VL, F::VPCLMULQDQ}},
    {ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512, {F::AVX512F, F::VPCLMULQDQ}},
    {ZYDIS_ISA_SET_CLFSH, {F::CLFLUSH}},
    {ZYDIS_ISA_SET_CLFLUSHOPT, {F::CLFLUSHOPT}},
    {ZYDIS_ISA_SET_CLWB, {F::CLWB}},
    {ZYDIS_ISA_SET_CLZERO, {F::CLZERO}},
    {ZYDIS_ISA_SET_CLDEMOTE, {F::CLDEMOTE}},
    {ZYDIS_ISA_SET_PREFETCH_NOP, {}},      // see kExceptions
    {ZYDIS_ISA_SET_PREFETCHWT1, {F::LM}},  // without the feature a NOP
    {ZYDIS_ISA_SET_MONITOR, {F::MONITOR}},
    {ZYDIS_ISA_SET_RDTSCP, {F::RDTSCP}},
    {ZYDIS_ISA_SET_RDPID, {F::RDPID}},
    {ZYDIS_ISA_SET_RDRAND, {F::RDRAND}},
    {ZYDIS_ISA_SET_RDSEED, {F::RDSEED}},
    {ZYDIS_ISA_SET_RDWRFSGS, {F::FSGSBASE}},
    {ZYDIS_ISA_SET_SMAP, {F::SMAP}},
    {ZYDIS_ISA_SET_PKU, {F::PKU}},
    {ZYDIS_ISA_SET_INVPCID, {F::INVPCID}},
    {ZYDIS_ISA_SET_XSAVE, {F::XSAVE}},
    {ZYDIS_ISA_SET_XSAVEOPT, {F::XSAVEOPT}},
    {ZYDIS_ISA_SET_XSAVEC, {F::XSAVEC}},
    {ZYDIS_ISA_SET_XSAVES, {F::XSAVES}},
    {ZYDIS_ISA_SET_SERIALIZE, {F::SERIALIZE}},
    {ZYDIS_ISA_SET_MOVDIR, {}},  // see kExceptions
};

// Instructions that need something else than the rest of their set.
const struct {
    ZydisISASet set;
    ZydisMnemonic mnemonic;
    FeatureSet needs;
} kExceptions[] = {
    {ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_MNEMONIC_CMPXCHG8B, {F::CX8}},
    {ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_MNEMONIC_RDTSC, {F::TSC}},
    {ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_MNEMONIC_RDMSR, {F::MSR}},
    {ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_MNEMONIC_WRMSR, {F::MSR}},
    {ZYDIS_ISA_SET_PPRO, ZYDIS_MNEMONIC_SYSENTER, {F::SEP}},
    {ZYDIS_ISA_SET_PPRO, ZYDIS_MNEMONIC_SYSEXIT, {F::SEP}},
    {ZYDIS_ISA_SET_PPRO, ZYDIS_MNEMONIC_FCOMI, {F::FPU, F::CMOV}},
    {ZYDIS_ISA_SET_PPRO, ZYDIS_MNEMONIC_FCOMIP, {F::FPU, F::CMOV}},
    {ZYDIS_ISA_SET_PPRO, ZYDIS_MNEMONIC_FUCOMI, {F::FPU, F::CMOV}},
    {ZYDIS_ISA_SET_PPRO, ZYDIS_MNEMONIC_FUCOMIP, {F::FPU, F::CMOV}},
    // 0F 0D: a NOP on every 64-bit processor.
    {ZYDIS_ISA_SET_PREFETCH_NOP, ZYDIS_MNEMONIC_NOP, {F::LM}},
    {ZYDIS_ISA_SET_PREFETCH_NOP, ZYDIS_MNEMONIC_PREFETCH, {F::LM}},
    {ZYDIS_ISA_SET_PREFETCH_NOP, ZYDIS_MNEMONIC_PREFETCHW, {F::LM}},
    {ZYDIS_ISA_SET_MOVDIR, ZYDIS_MNEMONIC_MOVDIRI, {F::MOVDIRI}},
    {ZYDIS_ISA_SET_MOVDIR, ZYDIS_MNEMONIC_MOVDIR64B, {F::MOVDIR64B}},
    {ZYDIS_ISA_SET_AVX, ZYDIS_MNEMONIC_VPCLMULQDQ, {F::AVX, F::PCLMULQDQ}},
    // The MMX forms that came with SSE.
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_MASKMOVQ, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_MOVNTQ, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PAVGB, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PAVGW, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PEXTRW, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PINSRW, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PMAXSW, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PMAXUB, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PMINSW, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PMINUB, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PMULHUW, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PSADBW, {F::SSE}},
    {ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_MNEMONIC_PSHUFW, {F::SSE}},
};

const SetRule* ruleOf(ZydisISASet set) {
    static const auto index = [] {
        std::array<const SetRule*, ZYDIS_ISA_SET_MAX_VALUE + 1> t{};
        for (const SetRule& r : kSets) t[r.set] = &r;
        return t;
    }();
    return index[set];
}

}  // namespace

bool requirements(ZydisISASet set, ZydisMnemonic mnemonic, CodeMode mode, FeatureSet& out) {
    const SetRule* rule = ruleOf(set);
    if (!rule) return false;
    out = rule->needs;
    if (set == ZYDIS_ISA_SET_LAHF && mode == CodeMode::Code64) out = {F::LAHF_LM};
    for (auto& e : kExceptions)
        if (e.set == set && e.mnemonic == mnemonic) out = e.needs;
    return true;
}

InstructionSets::InstructionSets(const CpuModel& model)
    : features_(model.features), amd_(model.isAmd()), fpu_(model.has(F::FPU)) {
    for (size_t set = 0; set < verdicts_.size(); set++) {
        FeatureSet needs;
        bool known = requirements(ZydisISASet(set), ZYDIS_MNEMONIC_INVALID, CodeMode::Code32, needs);
        verdicts_[set] = known && (needs - features_).empty() ? Verdict::Offered : Verdict::Absent;
    }
    verdicts_[ZYDIS_ISA_SET_LAHF] = Verdict::ByMnemonic;
    for (auto& e : kExceptions) verdicts_[e.set] = Verdict::ByMnemonic;
}

bool InstructionSets::offers(const ZydisDecodedInstruction& z, CodeMode mode) const {
    Verdict v = verdicts_[z.meta.isa_set];
    if (v != Verdict::ByMnemonic) return v == Verdict::Offered;
    FeatureSet needs;
    return requirements(z.meta.isa_set, z.mnemonic, mode, needs) && (needs - features_).empty();
}

void InstructionSets::configure(ZydisDecoder& decoder) const {
    const std::pair<ZydisDecoderMode, bool> modes[] = {
        {ZYDIS_DECODER_MODE_AMD_BRANCHES, amd_},
        {ZYDIS_DECODER_MODE_MPX, false},
        {ZYDIS_DECODER_MODE_CET, false},
        {ZYDIS_DECODER_MODE_LZCNT, features_.has(F::ABM)},
        {ZYDIS_DECODER_MODE_TZCNT, features_.has(F::BMI1)},
        {ZYDIS_DECODER_MODE_WBNOINVD, features_.has(F::WBNOINVD)},
        {ZYDIS_DECODER_MODE_CLDEMOTE, features_.has(F::CLDEMOTE)},
    };
    for (auto [mode, on] : modes) ZydisDecoderEnableMode(&decoder, mode, on ? ZYAN_TRUE : ZYAN_FALSE);
}

}  // namespace kiln
