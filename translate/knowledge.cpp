#include "translate/knowledge.hpp"

#include <cpuid.h>

#include <array>
#include <cstring>

namespace kiln {

using namespace asmjit;

namespace {

constexpr std::pair<ZydisMnemonic, How> kKnown[] = {
    {ZYDIS_MNEMONIC_LEA, How::Lea},
    {ZYDIS_MNEMONIC_CMPXCHG, How::CompareExchange},
    {ZYDIS_MNEMONIC_CMPXCHG8B, How::CompareExchangeWide},
    {ZYDIS_MNEMONIC_CMPXCHG16B, How::CompareExchangeWide},
    {ZYDIS_MNEMONIC_LOOP, How::Loop},
    {ZYDIS_MNEMONIC_LOOPE, How::Loop},
    {ZYDIS_MNEMONIC_LOOPNE, How::Loop},
    {ZYDIS_MNEMONIC_JCXZ, How::Loop},
    {ZYDIS_MNEMONIC_JECXZ, How::Loop},
    {ZYDIS_MNEMONIC_JRCXZ, How::Loop},
    {ZYDIS_MNEMONIC_PAUSE, How::Pause},
    {ZYDIS_MNEMONIC_SHL, How::Shift},
    {ZYDIS_MNEMONIC_SHR, How::Shift},
    {ZYDIS_MNEMONIC_SAR, How::Shift},
    {ZYDIS_MNEMONIC_ROL, How::Shift},
    {ZYDIS_MNEMONIC_ROR, How::Shift},
    {ZYDIS_MNEMONIC_RCL, How::Shift},
    {ZYDIS_MNEMONIC_RCR, How::Shift},
    {ZYDIS_MNEMONIC_SHLD, How::Shift},
    {ZYDIS_MNEMONIC_SHRD, How::Shift},
    {ZYDIS_MNEMONIC_MUL, How::Multiply},
    {ZYDIS_MNEMONIC_IMUL, How::Multiply},
    {ZYDIS_MNEMONIC_MULX, How::MultiplyWithoutFlags},
    {ZYDIS_MNEMONIC_DIV, How::Divide},
    {ZYDIS_MNEMONIC_IDIV, How::DivideSigned},
    {ZYDIS_MNEMONIC_CBW, How::Convert},
    {ZYDIS_MNEMONIC_CWDE, How::Convert},
    {ZYDIS_MNEMONIC_CDQE, How::Convert},
    {ZYDIS_MNEMONIC_CWD, How::Convert},
    {ZYDIS_MNEMONIC_CDQ, How::Convert},
    {ZYDIS_MNEMONIC_CQO, How::Convert},
    {ZYDIS_MNEMONIC_LAHF, How::LoadAh},
    {ZYDIS_MNEMONIC_SAHF, How::StoreAh},
    {ZYDIS_MNEMONIC_PUSH, How::Push},
    {ZYDIS_MNEMONIC_POP, How::Pop},
    {ZYDIS_MNEMONIC_LEAVE, How::Leave},
    {ZYDIS_MNEMONIC_LES, How::LoadFar},
    {ZYDIS_MNEMONIC_LDS, How::LoadFar},
    {ZYDIS_MNEMONIC_LFS, How::LoadFar},
    {ZYDIS_MNEMONIC_LGS, How::LoadFar},
    {ZYDIS_MNEMONIC_MOVSB, How::String},
    {ZYDIS_MNEMONIC_MOVSW, How::String},
    {ZYDIS_MNEMONIC_MOVSD, How::String},
    {ZYDIS_MNEMONIC_MOVSQ, How::String},
    {ZYDIS_MNEMONIC_STOSB, How::String},
    {ZYDIS_MNEMONIC_STOSW, How::String},
    {ZYDIS_MNEMONIC_STOSD, How::String},
    {ZYDIS_MNEMONIC_STOSQ, How::String},
    {ZYDIS_MNEMONIC_LODSB, How::String},
    {ZYDIS_MNEMONIC_LODSW, How::String},
    {ZYDIS_MNEMONIC_LODSD, How::String},
    {ZYDIS_MNEMONIC_LODSQ, How::String},
    {ZYDIS_MNEMONIC_SCASB, How::String},
    {ZYDIS_MNEMONIC_SCASW, How::String},
    {ZYDIS_MNEMONIC_SCASD, How::String},
    {ZYDIS_MNEMONIC_SCASQ, How::String},
    {ZYDIS_MNEMONIC_CMPSB, How::String},
    {ZYDIS_MNEMONIC_CMPSW, How::String},
    {ZYDIS_MNEMONIC_CMPSD, How::String},
    {ZYDIS_MNEMONIC_CMPSQ, How::String},
    {ZYDIS_MNEMONIC_SWAPGS, How::System},
    {ZYDIS_MNEMONIC_RDFSBASE, How::System},
    {ZYDIS_MNEMONIC_RDGSBASE, How::System},
    {ZYDIS_MNEMONIC_WRFSBASE, How::System},
    {ZYDIS_MNEMONIC_WRGSBASE, How::System},
    {ZYDIS_MNEMONIC_CLI, How::System},
    {ZYDIS_MNEMONIC_CLTS, How::System},
    {ZYDIS_MNEMONIC_LMSW, How::System},
    {ZYDIS_MNEMONIC_STI, How::System},
    {ZYDIS_MNEMONIC_STAC, How::System},
    {ZYDIS_MNEMONIC_CLAC, How::System},
    {ZYDIS_MNEMONIC_PUSHF, How::System},
    {ZYDIS_MNEMONIC_PUSHFD, How::System},
    {ZYDIS_MNEMONIC_PUSHFQ, How::System},
    {ZYDIS_MNEMONIC_POPFQ, How::System},
    {ZYDIS_MNEMONIC_CLD, How::System},
    {ZYDIS_MNEMONIC_STD, How::System},
    {ZYDIS_MNEMONIC_RDPKRU, How::System},
    {ZYDIS_MNEMONIC_SERIALIZE, How::System},
    {ZYDIS_MNEMONIC_RDTSC, How::System},
    {ZYDIS_MNEMONIC_RDTSCP, How::System},
    {ZYDIS_MNEMONIC_JMP, How::Jump},
    {ZYDIS_MNEMONIC_CALL, How::Call},
    {ZYDIS_MNEMONIC_RET, How::Return},
    {ZYDIS_MNEMONIC_NOP, How::Nothing},
    {ZYDIS_MNEMONIC_ENDBR64, How::Nothing},
    {ZYDIS_MNEMONIC_ENDBR32, How::Nothing},
    {ZYDIS_MNEMONIC_PREFETCHNTA, How::Nothing},
    {ZYDIS_MNEMONIC_PREFETCHT0, How::Nothing},
    {ZYDIS_MNEMONIC_PREFETCHT1, How::Nothing},
    {ZYDIS_MNEMONIC_LFENCE, How::Nothing},
    {ZYDIS_MNEMONIC_SFENCE, How::Nothing},
    {ZYDIS_MNEMONIC_MFENCE, How::Plain},
    {ZYDIS_MNEMONIC_PREFETCHT2, How::Nothing},
    {ZYDIS_MNEMONIC_PREFETCHW, How::Nothing},
};

constexpr ZydisMnemonic kPlain[] = {
    ZYDIS_MNEMONIC_MOV,     ZYDIS_MNEMONIC_MOVNTI, ZYDIS_MNEMONIC_MOVZX,  ZYDIS_MNEMONIC_MOVSX,
    ZYDIS_MNEMONIC_MOVSXD,  ZYDIS_MNEMONIC_ADD,    ZYDIS_MNEMONIC_SUB,    ZYDIS_MNEMONIC_ADC,
    ZYDIS_MNEMONIC_SBB,     ZYDIS_MNEMONIC_AND,    ZYDIS_MNEMONIC_OR,     ZYDIS_MNEMONIC_XOR,
    ZYDIS_MNEMONIC_CMP,     ZYDIS_MNEMONIC_TEST,   ZYDIS_MNEMONIC_INC,    ZYDIS_MNEMONIC_DEC,
    ZYDIS_MNEMONIC_NEG,     ZYDIS_MNEMONIC_NOT,    ZYDIS_MNEMONIC_BT,     ZYDIS_MNEMONIC_BTS,
    ZYDIS_MNEMONIC_BTR,     ZYDIS_MNEMONIC_BTC,    ZYDIS_MNEMONIC_BSF,    ZYDIS_MNEMONIC_BSR,
    ZYDIS_MNEMONIC_TZCNT,   ZYDIS_MNEMONIC_LZCNT,  ZYDIS_MNEMONIC_POPCNT, ZYDIS_MNEMONIC_BSWAP,
    ZYDIS_MNEMONIC_XCHG,    ZYDIS_MNEMONIC_XADD,   ZYDIS_MNEMONIC_MOVBE,  ZYDIS_MNEMONIC_ANDN,
    ZYDIS_MNEMONIC_BEXTR,   ZYDIS_MNEMONIC_BLSI,   ZYDIS_MNEMONIC_BLSMSK, ZYDIS_MNEMONIC_BLSR,
    ZYDIS_MNEMONIC_BZHI,    ZYDIS_MNEMONIC_PDEP,   ZYDIS_MNEMONIC_PEXT,   ZYDIS_MNEMONIC_RORX,
    ZYDIS_MNEMONIC_SARX,    ZYDIS_MNEMONIC_SHLX,   ZYDIS_MNEMONIC_SHRX,   ZYDIS_MNEMONIC_CRC32,
    ZYDIS_MNEMONIC_ADCX,    ZYDIS_MNEMONIC_ADOX,   ZYDIS_MNEMONIC_CLC,    ZYDIS_MNEMONIC_STC,
    ZYDIS_MNEMONIC_CMC,     ZYDIS_MNEMONIC_SETO,   ZYDIS_MNEMONIC_SETNO,  ZYDIS_MNEMONIC_SETB,
    ZYDIS_MNEMONIC_SETNB,   ZYDIS_MNEMONIC_SETZ,   ZYDIS_MNEMONIC_SETNZ,  ZYDIS_MNEMONIC_SETBE,
    ZYDIS_MNEMONIC_SETNBE,  ZYDIS_MNEMONIC_SETS,   ZYDIS_MNEMONIC_SETNS,  ZYDIS_MNEMONIC_SETP,
    ZYDIS_MNEMONIC_SETNP,   ZYDIS_MNEMONIC_SETL,   ZYDIS_MNEMONIC_SETNL,  ZYDIS_MNEMONIC_SETLE,
    ZYDIS_MNEMONIC_SETNLE,  ZYDIS_MNEMONIC_CMOVO,  ZYDIS_MNEMONIC_CMOVNO, ZYDIS_MNEMONIC_CMOVB,
    ZYDIS_MNEMONIC_CMOVNB,  ZYDIS_MNEMONIC_CMOVZ,  ZYDIS_MNEMONIC_CMOVNZ, ZYDIS_MNEMONIC_CMOVBE,
    ZYDIS_MNEMONIC_CMOVNBE, ZYDIS_MNEMONIC_CMOVS,  ZYDIS_MNEMONIC_CMOVNS, ZYDIS_MNEMONIC_CMOVP,
    ZYDIS_MNEMONIC_CMOVNP,  ZYDIS_MNEMONIC_CMOVL,  ZYDIS_MNEMONIC_CMOVNL, ZYDIS_MNEMONIC_CMOVLE,
    ZYDIS_MNEMONIC_CMOVNLE,
};

constexpr ZydisMnemonic kBranches[] = {
    ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB,  ZYDIS_MNEMONIC_JNB,
    ZYDIS_MNEMONIC_JZ, ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE,
    ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JP,  ZYDIS_MNEMONIC_JNP,
    ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE, ZYDIS_MNEMONIC_JNLE,
};

InstId hostInstruction(ZydisMnemonic m) {
    const char* name = ZydisMnemonicGetString(m);
    return InstAPI::stringToInstId(Arch::kX64, name, std::strlen(name));
}

const std::array<Knowledge, ZYDIS_MNEMONIC_MAX_VALUE + 1>& knowledge() {
    static const auto table = [] {
        std::array<Knowledge, ZYDIS_MNEMONIC_MAX_VALUE + 1> t{};
        for (int m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) t[m].id = hostInstruction(ZydisMnemonic(m));
        for (ZydisMnemonic m : kPlain) t[m] = {How::Plain, hostInstruction(m)};
        for (ZydisMnemonic m : kBranches) t[m] = {How::Branch, hostInstruction(m)};
        for (auto [m, how] : kKnown) t[m] = {how, hostInstruction(m)};
        return t;
    }();
    return table;
}

// The assembler library does not look for it (SDM vol. 2, CPUID leaf 7, subleaf 1).
bool hasAvxVnni() {
    static const bool has = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return CpuInfo::host().features().x86().hasAVX() && __get_cpuid_count(7, 1, &a, &b, &c, &d) &&
               a >> 4 & 1;
    }();
    return has;
}

}  // namespace

const Knowledge& knowledgeOf(ZydisMnemonic m) { return knowledge()[m]; }

bool hostHas(ZydisISASet set) {
    static const CpuFeatures::X86& has = CpuInfo::host().features().x86();
    switch (set) {
        case ZYDIS_ISA_SET_BMI1: return has.hasBMI();
        case ZYDIS_ISA_SET_BMI2: return has.hasBMI2();
        case ZYDIS_ISA_SET_LZCNT: return has.hasLZCNT();
        case ZYDIS_ISA_SET_POPCNT: return has.hasPOPCNT();
        case ZYDIS_ISA_SET_MOVBE: return has.hasMOVBE();
        case ZYDIS_ISA_SET_SSE3: return has.hasSSE3();
        case ZYDIS_ISA_SET_SSSE3: return has.hasSSSE3();
        case ZYDIS_ISA_SET_SSE4: return has.hasSSE4_1();
        case ZYDIS_ISA_SET_SSE42: return has.hasSSE4_2();
        case ZYDIS_ISA_SET_AES: return has.hasAESNI();
        case ZYDIS_ISA_SET_PCLMULQDQ: return has.hasPCLMULQDQ();
        case ZYDIS_ISA_SET_SHA: return has.hasSHA();
        case ZYDIS_ISA_SET_GFNI: return has.hasGFNI();
        case ZYDIS_ISA_SET_AVX: return has.hasAVX();
        case ZYDIS_ISA_SET_AVXAES: return has.hasAVX() && has.hasAESNI();
        case ZYDIS_ISA_SET_AVX2: return has.hasAVX2();
        case ZYDIS_ISA_SET_AVX_GFNI: return has.hasAVX() && has.hasGFNI();
        case ZYDIS_ISA_SET_FMA: return has.hasFMA();
        case ZYDIS_ISA_SET_F16C: return has.hasF16C();
        case ZYDIS_ISA_SET_VAES: return has.hasVAES();
        case ZYDIS_ISA_SET_VPCLMULQDQ: return has.hasVPCLMULQDQ();
        case ZYDIS_ISA_SET_AVX_VNNI: return hasAvxVnni();
        case ZYDIS_ISA_SET_ADOX_ADCX: return has.hasADX();
        case ZYDIS_ISA_SET_AVX512F_128:
        case ZYDIS_ISA_SET_AVX512F_128N:
        case ZYDIS_ISA_SET_AVX512F_256:
        case ZYDIS_ISA_SET_AVX512F_512:
        case ZYDIS_ISA_SET_AVX512F_KOP:
        case ZYDIS_ISA_SET_AVX512F_SCALAR: return has.hasAVX512_F();
        case ZYDIS_ISA_SET_AVX512BW_128:
        case ZYDIS_ISA_SET_AVX512BW_128N:
        case ZYDIS_ISA_SET_AVX512BW_256:
        case ZYDIS_ISA_SET_AVX512BW_512:
        case ZYDIS_ISA_SET_AVX512BW_KOP: return has.hasAVX512_BW();
        case ZYDIS_ISA_SET_AVX512DQ_128:
        case ZYDIS_ISA_SET_AVX512DQ_128N:
        case ZYDIS_ISA_SET_AVX512DQ_256:
        case ZYDIS_ISA_SET_AVX512DQ_512:
        case ZYDIS_ISA_SET_AVX512DQ_KOP:
        case ZYDIS_ISA_SET_AVX512DQ_SCALAR: return has.hasAVX512_DQ();
        case ZYDIS_ISA_SET_AVX512CD_128:
        case ZYDIS_ISA_SET_AVX512CD_256:
        case ZYDIS_ISA_SET_AVX512CD_512: return has.hasAVX512_CDI();
        case ZYDIS_ISA_SET_AVX512_IFMA_128:
        case ZYDIS_ISA_SET_AVX512_IFMA_256:
        case ZYDIS_ISA_SET_AVX512_IFMA_512: return has.hasAVX512_IFMA();
        case ZYDIS_ISA_SET_AVX512_VBMI_128:
        case ZYDIS_ISA_SET_AVX512_VBMI_256:
        case ZYDIS_ISA_SET_AVX512_VBMI_512: return has.hasAVX512_VBMI();
        case ZYDIS_ISA_SET_AVX512_VBMI2_128:
        case ZYDIS_ISA_SET_AVX512_VBMI2_256:
        case ZYDIS_ISA_SET_AVX512_VBMI2_512: return has.hasAVX512_VBMI2();
        case ZYDIS_ISA_SET_AVX512_VNNI_128:
        case ZYDIS_ISA_SET_AVX512_VNNI_256:
        case ZYDIS_ISA_SET_AVX512_VNNI_512: return has.hasAVX512_VNNI();
        case ZYDIS_ISA_SET_AVX512_BITALG_128:
        case ZYDIS_ISA_SET_AVX512_BITALG_256:
        case ZYDIS_ISA_SET_AVX512_BITALG_512: return has.hasAVX512_BITALG();
        case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128:
        case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256:
        case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512: return has.hasAVX512_VPOPCNTDQ();
        case ZYDIS_ISA_SET_AVX512_BF16_128:
        case ZYDIS_ISA_SET_AVX512_BF16_256:
        case ZYDIS_ISA_SET_AVX512_BF16_512: return has.hasAVX512_BF16();
        case ZYDIS_ISA_SET_AVX512_GFNI_128:
        case ZYDIS_ISA_SET_AVX512_GFNI_256:
        case ZYDIS_ISA_SET_AVX512_GFNI_512: return has.hasAVX512_F() && has.hasGFNI();
        case ZYDIS_ISA_SET_AVX512_VAES_128:
        case ZYDIS_ISA_SET_AVX512_VAES_256:
        case ZYDIS_ISA_SET_AVX512_VAES_512: return has.hasAVX512_F() && has.hasVAES();
        case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128:
        case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256:
        case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512: return has.hasAVX512_F() && has.hasVPCLMULQDQ();
        default: return true;
    }
}

bool isX87(const ZydisDecodedInstruction& z) {
    return z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
           ((z.opcode & 0xf8) == 0xd8 || z.mnemonic == ZYDIS_MNEMONIC_FWAIT);
}

bool isVectorSet(ZydisISASet set) {
    switch (set) {
        case ZYDIS_ISA_SET_SSE:
        case ZYDIS_ISA_SET_SSE2:
        case ZYDIS_ISA_SET_SSE3:
        case ZYDIS_ISA_SET_SSSE3:
        case ZYDIS_ISA_SET_SSE4:
        case ZYDIS_ISA_SET_SSE42:
        case ZYDIS_ISA_SET_AES:
        case ZYDIS_ISA_SET_PCLMULQDQ:
        case ZYDIS_ISA_SET_SHA:
        case ZYDIS_ISA_SET_GFNI:
        case ZYDIS_ISA_SET_AVX:
        case ZYDIS_ISA_SET_AVXAES:
        case ZYDIS_ISA_SET_AVX2:
        case ZYDIS_ISA_SET_AVX_GFNI:
        case ZYDIS_ISA_SET_FMA:
        case ZYDIS_ISA_SET_F16C:
        case ZYDIS_ISA_SET_VAES:
        case ZYDIS_ISA_SET_VPCLMULQDQ:
        case ZYDIS_ISA_SET_SSEMXCSR:
        case ZYDIS_ISA_SET_AVX_VNNI:
        case ZYDIS_ISA_SET_PENTIUMMMX:
        case ZYDIS_ISA_SET_SSE2MMX:
        case ZYDIS_ISA_SET_SSSE3MMX:
        case ZYDIS_ISA_SET_AVX512F_128:
        case ZYDIS_ISA_SET_AVX512F_128N:
        case ZYDIS_ISA_SET_AVX512F_256:
        case ZYDIS_ISA_SET_AVX512F_512:
        case ZYDIS_ISA_SET_AVX512F_KOP:
        case ZYDIS_ISA_SET_AVX512F_SCALAR:
        case ZYDIS_ISA_SET_AVX512BW_128:
        case ZYDIS_ISA_SET_AVX512BW_128N:
        case ZYDIS_ISA_SET_AVX512BW_256:
        case ZYDIS_ISA_SET_AVX512BW_512:
        case ZYDIS_ISA_SET_AVX512BW_KOP:
        case ZYDIS_ISA_SET_AVX512DQ_128:
        case ZYDIS_ISA_SET_AVX512DQ_128N:
        case ZYDIS_ISA_SET_AVX512DQ_256:
        case ZYDIS_ISA_SET_AVX512DQ_512:
        case ZYDIS_ISA_SET_AVX512DQ_KOP:
        case ZYDIS_ISA_SET_AVX512DQ_SCALAR:
        case ZYDIS_ISA_SET_AVX512CD_128:
        case ZYDIS_ISA_SET_AVX512CD_256:
        case ZYDIS_ISA_SET_AVX512CD_512:
        case ZYDIS_ISA_SET_AVX512_IFMA_128:
        case ZYDIS_ISA_SET_AVX512_IFMA_256:
        case ZYDIS_ISA_SET_AVX512_IFMA_512:
        case ZYDIS_ISA_SET_AVX512_VBMI_128:
        case ZYDIS_ISA_SET_AVX512_VBMI_256:
        case ZYDIS_ISA_SET_AVX512_VBMI_512:
        case ZYDIS_ISA_SET_AVX512_VBMI2_128:
        case ZYDIS_ISA_SET_AVX512_VBMI2_256:
        case ZYDIS_ISA_SET_AVX512_VBMI2_512:
        case ZYDIS_ISA_SET_AVX512_VNNI_128:
        case ZYDIS_ISA_SET_AVX512_VNNI_256:
        case ZYDIS_ISA_SET_AVX512_VNNI_512:
        case ZYDIS_ISA_SET_AVX512_BITALG_128:
        case ZYDIS_ISA_SET_AVX512_BITALG_256:
        case ZYDIS_ISA_SET_AVX512_BITALG_512:
        case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128:
        case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256:
        case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512:
        case ZYDIS_ISA_SET_AVX512_BF16_128:
        case ZYDIS_ISA_SET_AVX512_BF16_256:
        case ZYDIS_ISA_SET_AVX512_BF16_512:
        case ZYDIS_ISA_SET_AVX512_GFNI_128:
        case ZYDIS_ISA_SET_AVX512_GFNI_256:
        case ZYDIS_ISA_SET_AVX512_GFNI_512:
        case ZYDIS_ISA_SET_AVX512_VAES_128:
        case ZYDIS_ISA_SET_AVX512_VAES_256:
        case ZYDIS_ISA_SET_AVX512_VAES_512:
        case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128:
        case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256:
        case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_512: return true;
        default: return false;
    }
}

bool differsAmongHosts(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_RCPPS:
        case ZYDIS_MNEMONIC_RCPSS:
        case ZYDIS_MNEMONIC_RSQRTPS:
        case ZYDIS_MNEMONIC_RSQRTSS:
        case ZYDIS_MNEMONIC_VRCPPS:
        case ZYDIS_MNEMONIC_VRCPSS:
        case ZYDIS_MNEMONIC_VRSQRTPS:
        case ZYDIS_MNEMONIC_VRSQRTSS:
        case ZYDIS_MNEMONIC_VRCP14PS:
        case ZYDIS_MNEMONIC_VRCP14PD:
        case ZYDIS_MNEMONIC_VRCP14SS:
        case ZYDIS_MNEMONIC_VRCP14SD:
        case ZYDIS_MNEMONIC_VRSQRT14PS:
        case ZYDIS_MNEMONIC_VRSQRT14PD:
        case ZYDIS_MNEMONIC_VRSQRT14SS:
        case ZYDIS_MNEMONIC_VRSQRT14SD:
        case ZYDIS_MNEMONIC_VDPBF16PS:
        case ZYDIS_MNEMONIC_FSTPNCE:
        case ZYDIS_MNEMONIC_FSIN:
        case ZYDIS_MNEMONIC_FCOS:
        case ZYDIS_MNEMONIC_FSINCOS:
        case ZYDIS_MNEMONIC_FPTAN:
        case ZYDIS_MNEMONIC_FPATAN:
        case ZYDIS_MNEMONIC_F2XM1:
        case ZYDIS_MNEMONIC_FYL2X:
        case ZYDIS_MNEMONIC_FYL2XP1: return true;
        default: return false;
    }
}

}  // namespace kiln
