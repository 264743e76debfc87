#include "translate/emitter.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "cpu/handlers.hpp"
#include "cpu/state.hpp"

namespace kiln {

using namespace asmjit;

namespace {

enum class How : uint8_t {
    Interpret,
    Plain,    // operands replaced, nothing else
    Nothing,  // no effect on a processor without caches
    Lea,
    Shift,  // by CL or an immediate
    Multiply,
    Divide,
    DivideSigned,
    CompareExchange,
    Pause,    // nothing, while nobody waits for this thread
    Convert,  // CBW, CWD and relatives
    Push,
    Pop,
    Leave,
    Branch,
    Jump,
    Call,
    Return,
};

struct Knowledge {
    How how = How::Interpret;
    InstId id = 0;
};

constexpr std::pair<ZydisMnemonic, How> kKnown[] = {
    {ZYDIS_MNEMONIC_LEA, How::Lea},
    {ZYDIS_MNEMONIC_CMPXCHG, How::CompareExchange},
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
    {ZYDIS_MNEMONIC_DIV, How::Divide},
    {ZYDIS_MNEMONIC_IDIV, How::DivideSigned},
    {ZYDIS_MNEMONIC_CBW, How::Convert},
    {ZYDIS_MNEMONIC_CWDE, How::Convert},
    {ZYDIS_MNEMONIC_CDQE, How::Convert},
    {ZYDIS_MNEMONIC_CWD, How::Convert},
    {ZYDIS_MNEMONIC_CDQ, How::Convert},
    {ZYDIS_MNEMONIC_CQO, How::Convert},
    {ZYDIS_MNEMONIC_PUSH, How::Push},
    {ZYDIS_MNEMONIC_POP, How::Pop},
    {ZYDIS_MNEMONIC_LEAVE, How::Leave},
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
    ZYDIS_MNEMONIC_MOV,    ZYDIS_MNEMONIC_MOVNTI, ZYDIS_MNEMONIC_MOVZX,   ZYDIS_MNEMONIC_MOVSX,
    ZYDIS_MNEMONIC_MOVSXD, ZYDIS_MNEMONIC_ADD,    ZYDIS_MNEMONIC_SUB,     ZYDIS_MNEMONIC_ADC,
    ZYDIS_MNEMONIC_SBB,    ZYDIS_MNEMONIC_AND,    ZYDIS_MNEMONIC_OR,      ZYDIS_MNEMONIC_XOR,
    ZYDIS_MNEMONIC_CMP,    ZYDIS_MNEMONIC_TEST,   ZYDIS_MNEMONIC_INC,     ZYDIS_MNEMONIC_DEC,
    ZYDIS_MNEMONIC_NEG,    ZYDIS_MNEMONIC_NOT,    ZYDIS_MNEMONIC_BT,      ZYDIS_MNEMONIC_BTS,
    ZYDIS_MNEMONIC_BTR,    ZYDIS_MNEMONIC_BTC,    ZYDIS_MNEMONIC_BSF,     ZYDIS_MNEMONIC_BSR,
    ZYDIS_MNEMONIC_TZCNT,  ZYDIS_MNEMONIC_LZCNT,  ZYDIS_MNEMONIC_POPCNT,  ZYDIS_MNEMONIC_BSWAP,
    ZYDIS_MNEMONIC_XCHG,   ZYDIS_MNEMONIC_XADD,   ZYDIS_MNEMONIC_MOVBE,   ZYDIS_MNEMONIC_ANDN,
    ZYDIS_MNEMONIC_BEXTR,  ZYDIS_MNEMONIC_BLSI,   ZYDIS_MNEMONIC_BLSMSK,  ZYDIS_MNEMONIC_BLSR,
    ZYDIS_MNEMONIC_BZHI,   ZYDIS_MNEMONIC_PDEP,   ZYDIS_MNEMONIC_PEXT,    ZYDIS_MNEMONIC_RORX,
    ZYDIS_MNEMONIC_SARX,   ZYDIS_MNEMONIC_SHLX,   ZYDIS_MNEMONIC_SHRX,    ZYDIS_MNEMONIC_CRC32,
    ZYDIS_MNEMONIC_CLC,    ZYDIS_MNEMONIC_STC,    ZYDIS_MNEMONIC_CMC,     ZYDIS_MNEMONIC_SETO,
    ZYDIS_MNEMONIC_SETNO,  ZYDIS_MNEMONIC_SETB,   ZYDIS_MNEMONIC_SETNB,   ZYDIS_MNEMONIC_SETZ,
    ZYDIS_MNEMONIC_SETNZ,  ZYDIS_MNEMONIC_SETBE,  ZYDIS_MNEMONIC_SETNBE,  ZYDIS_MNEMONIC_SETS,
    ZYDIS_MNEMONIC_SETNS,  ZYDIS_MNEMONIC_SETP,   ZYDIS_MNEMONIC_SETNP,   ZYDIS_MNEMONIC_SETL,
    ZYDIS_MNEMONIC_SETNL,  ZYDIS_MNEMONIC_SETLE,  ZYDIS_MNEMONIC_SETNLE,  ZYDIS_MNEMONIC_CMOVO,
    ZYDIS_MNEMONIC_CMOVNO, ZYDIS_MNEMONIC_CMOVB,  ZYDIS_MNEMONIC_CMOVNB,  ZYDIS_MNEMONIC_CMOVZ,
    ZYDIS_MNEMONIC_CMOVNZ, ZYDIS_MNEMONIC_CMOVBE, ZYDIS_MNEMONIC_CMOVNBE, ZYDIS_MNEMONIC_CMOVS,
    ZYDIS_MNEMONIC_CMOVNS, ZYDIS_MNEMONIC_CMOVP,  ZYDIS_MNEMONIC_CMOVNP,  ZYDIS_MNEMONIC_CMOVL,
    ZYDIS_MNEMONIC_CMOVNL, ZYDIS_MNEMONIC_CMOVLE, ZYDIS_MNEMONIC_CMOVNLE,
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

// Whether this host has what an instruction beyond the first x86-64 processors needs.
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
        default: return true;
    }
}

// Sets of vector instructions whose operands are all that is to be replaced.
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
        case ZYDIS_ISA_SET_VPCLMULQDQ: return true;
        default: return false;
    }
}

// Approximations differ among processors, masked accesses fault by element, and some have registers that are
// not operands.
bool isLeftToInterpreter(ZydisMnemonic m) {
    switch (m) {
        case ZYDIS_MNEMONIC_RCPPS:
        case ZYDIS_MNEMONIC_RCPSS:
        case ZYDIS_MNEMONIC_RSQRTPS:
        case ZYDIS_MNEMONIC_RSQRTSS:
        case ZYDIS_MNEMONIC_VRCPPS:
        case ZYDIS_MNEMONIC_VRCPSS:
        case ZYDIS_MNEMONIC_VRSQRTPS:
        case ZYDIS_MNEMONIC_VRSQRTSS:
        case ZYDIS_MNEMONIC_MASKMOVDQU:
        case ZYDIS_MNEMONIC_VMASKMOVDQU:
        case ZYDIS_MNEMONIC_VMASKMOVPS:
        case ZYDIS_MNEMONIC_VMASKMOVPD:
        case ZYDIS_MNEMONIC_VPMASKMOVD:
        case ZYDIS_MNEMONIC_VPMASKMOVQ:
        case ZYDIS_MNEMONIC_PCMPESTRI:
        case ZYDIS_MNEMONIC_PCMPESTRM:
        case ZYDIS_MNEMONIC_PCMPISTRI:
        case ZYDIS_MNEMONIC_PCMPISTRM:
        case ZYDIS_MNEMONIC_VPCMPESTRI:
        case ZYDIS_MNEMONIC_VPCMPESTRM:
        case ZYDIS_MNEMONIC_VPCMPISTRI:
        case ZYDIS_MNEMONIC_VPCMPISTRM:
        case ZYDIS_MNEMONIC_LDMXCSR:
        case ZYDIS_MNEMONIC_STMXCSR:
        case ZYDIS_MNEMONIC_VLDMXCSR:
        case ZYDIS_MNEMONIC_VSTMXCSR: return true;
        default: return false;
    }
}

constexpr x86::Gp kIndex = x86::rax, kTag = x86::rcx, kLinear = x86::rdx;
constexpr int32_t at(size_t offset) { return int32_t(offset); }
x86::Mem inFrameAt(size_t offset, uint32_t bytes = 8) { return x86::ptr(x86::rsp, at(offset), bytes); }
#define KILN_FRAME(member) inFrameAt(offsetof(HostFrame, member), sizeof(HostFrame::member))

bool fits32(int64_t v) { return v == int32_t(v); }

}  // namespace

BlockEmitter::BlockEmitter(CodeHolder& code, const EmitterContext& context, Block& block,
                           std::span<const uint8_t> bytes)
    : a_(&code),
      context_(context),
      block_(block),
      bytes_(bytes),
      code64_(block.mode == CodeMode::Code64),
      pageOffset_(int64_t(block.start.pageOffset())) {}

bool BlockEmitter::knows(ZydisMnemonic mnemonic) { return knowledge()[mnemonic].how != How::Interpret; }

void BlockEmitter::emit() {
    entry_ = a_.newLabel();
    a_.bind(entry_);
    const size_t dead = addSite(Site::Kind::Dead);
    context_.sites[dead].target = pageOffset_;
    kills_ = overwritesFlags();
    bool goesOn = true;
    for (index_ = 0; index_ < block_.count && goesOn; index_++) {
        insn_ = &block_.insns[index_];
        goesOn = instruction();
    }
    if (goesOn) edge(pageOffset_ + block_.bytes, block_.count);
    for (size_t n = 0; n < edges_.size(); n++) {
        const Edge e = edges_[n];
        a_.bind(e.label);
        inHost_ = true, inFrame_ = e.flagsInFrame, recipe_ = e.recipe;
        edge(e.target, e.executed);
    }
    for (const Tail& t : tails_) {
        a_.bind(t.label);
        if (t.recipe) {
            makeFlags(t.recipe);
            storeFlags();
        }
        if (t.jump.isValid()) {
            const Label patch = a_.newLabel();
            a_.bind(patch);
            fixups_.push_back({t.site, t.label, &Site::out});
            fixups_.push_back({t.site, patch, &Site::patchSaved});
            a_.long_().jmp(t.jump);
            continue;
        }
        callOut(t.site);
        if (!t.resume.isValid()) continue;
        const Label resume = a_.newLabel();
        a_.bind(resume);
        fixups_.push_back({t.site, resume, &Site::resume});
        if (t.vectors != VectorLevel::None) a_.call(Imm(uint64_t(context_.load[size_t(t.vectors)])));
        if (t.restoresFlags) {
            a_.mov(x86::eax, KILN_FRAME(flags).cloneResized(4));
            a_.add(x86::al, 127);
            a_.sahf();
        }
        a_.jmp(t.resume);
    }
    const Label deadCode = a_.newLabel();
    a_.bind(deadCode);
    fixups_.push_back({dead, deadCode, &Site::resume});
    callOut(dead);
}

void BlockEmitter::settle(const uint8_t* base) {
    for (const Fixup& f : fixups_) {
        const uint8_t* place = base + a_.code()->labelOffset(f.label);
        Site& s = context_.sites[f.site];
        s.*f.place = place;
    }
}

bool BlockEmitter::decode() {
    const Insn& i = *insn_;
    return i.run != undefinedOpcode && i.run != tooLong && i.run != absentFpu &&
           ZYAN_SUCCESS(ZydisDecoderDecodeFull(&context_.decoder.zydis(block_.mode), bytes_.data() + i.offset,
                                               bytes_.size() - i.offset, &z_, operands_));
}

bool BlockEmitter::instruction() {
    slowTail_ = ~size_t(0);
    decoded_ = decode();
    if (!decoded_) {
        interpret();
        return true;
    }
    beforeInstruction();
    switch (z_.meta.branch_type) {
        case ZYDIS_BRANCH_TYPE_SHORT:
        case ZYDIS_BRANCH_TYPE_NEAR:
            if (!context_.refused.contains(index_) && nearBranch())
                return knowledge()[z_.mnemonic].how == How::Branch;
            before();
            return false;
        default: break;
    }
    if (!emitted()) interpret();
    if (recipe_ && recipeInstruction_ != index_ && writesOperandOf(recipe_)) recipe_ = {};
    resumeSlow();
    return true;
}

bool BlockEmitter::nearBranch() {
    const Knowledge k = knowledge()[z_.mnemonic];
    if (z_.operand_width == 16) return false;
    switch (k.how) {
        case How::Branch: return branchIf(k.id);
        case How::Jump: return jump();
        case How::Call: return call();
        case How::Return: return ret();
        default: return false;
    }
}

bool BlockEmitter::emitted() {
    const Knowledge k = knowledge()[z_.mnemonic];
    if (context_.refused.contains(index_) || !hostHas(z_.meta.isa_set)) return false;
    if (context_.threaded && (z_.attributes & ZYDIS_ATTRIB_HAS_LOCK)) return false;
    switch (k.how) {
        case How::Interpret: {
            const VectorLevel level = vectorLevel();
            return level != VectorLevel::None && operandsUsable() && needVectors(level) && plain(k.id);
        }
        case How::Plain: return plain(k.id);
        case How::Nothing: return true;
        case How::Lea: return lea();
        case How::Shift:
            return operands_[z_.operand_count_visible - 1].type == ZYDIS_OPERAND_TYPE_REGISTER
                       ? shiftByCl(k.id)
                       : plain(k.id);
        case How::Multiply: return z_.operand_count_visible == 1 ? multiply(k.id) : plain(k.id);
        case How::Divide: return divide(false);
        case How::DivideSigned: return divide(true);
        case How::Convert: return convert();
        case How::CompareExchange: return compareExchange();
        case How::Pause: return !context_.pauseLeaves;
        case How::Push: return push();
        case How::Pop: return pop();
        case How::Leave: return leave();
        default: return false;
    }
}

// -- sites

size_t BlockEmitter::addSite(Site::Kind kind) {
    Site s;
    s.kind = kind;
    s.index = uint16_t(index_);
    s.block = &block_;
    s.mnemonic = insn_ ? uint16_t(z_.mnemonic) : 0;
    s.target = insn_ ? offset() : pageOffset_;
    context_.sites.push_back(std::move(s));
    return context_.sites.size() - 1;
}

void BlockEmitter::callOut(size_t site) {
    a_.mov(x86::eax, uint32_t(site));
    a_.jmp(Imm(uint64_t(context_.callOut)));
}

// Whether an interpreted instruction can have another one behind it in the same call: it changes nothing but
// registers, so that neither the code nor what is known of memory can be another afterwards.
bool BlockEmitter::mayBeFollowed() const {
    switch (z_.meta.isa_set) {
        case ZYDIS_ISA_SET_X87:
        case ZYDIS_ISA_SET_FCMOV:
        case ZYDIS_ISA_SET_PENTIUMMMX:
        case ZYDIS_ISA_SET_SSE2MMX:
        case ZYDIS_ISA_SET_SSSE3MMX: break;
        default:
            if (z_.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX) return false;
    }
    for (unsigned n = 0; n < z_.operand_count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            operands_[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            return false;
    return true;
}

void BlockEmitter::interpret() {
    const bool joins = a_.offset() == interpretedEnd_ &&
                       context_.sites[interpreted_].index + context_.sites[interpreted_].count == int(index_);
    if (joins) {
        context_.sites[interpreted_].count++;
    } else {
        saveFlags();
        interpreted_ = addSite(Site::Kind::Interpret);
        callOut(interpreted_);
        const Label resume = a_.newLabel();
        a_.bind(resume);
        fixups_.push_back({interpreted_, resume, &Site::resume});
        inHost_ = false, inFrame_ = true, recipe_ = {};
        vectors_ = VectorLevel::None;
    }
    interpretedEnd_ = decoded_ && mayBeFollowed() ? a_.offset() : ~size_t(0);
}

void BlockEmitter::before() {
    saveFlags();
    callOut(addSite(Site::Kind::Before));
}

Label BlockEmitter::slow(Site::Kind kind) {
    if (slowTail_ == ~size_t(0)) {
        slowTail_ = tails_.size();
        tails_.push_back(
            {a_.newLabel(), addSite(kind), {}, false, VectorLevel::None, inFrame_ ? Recipe{} : recipe_, {}});
    }
    return tails_[slowTail_].label;
}

// Behind the instruction: what the interpreter did instead comes back here.
void BlockEmitter::resumeSlow() {
    if (slowTail_ == ~size_t(0)) return;
    Tail& t = tails_[slowTail_];
    if (context_.sites[t.site].kind != Site::Kind::Miss) return;
    t.resume = a_.newLabel();
    t.restoresFlags = inHost_;
    t.vectors = vectors_;
    a_.bind(t.resume);
}

// -- vector registers

VectorLevel BlockEmitter::vectorLevel() const {
    const bool vex = z_.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    if (!isVectorSet(z_.meta.isa_set) || isLeftToInterpreter(z_.mnemonic) ||
        (!vex && z_.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY))
        return VectorLevel::None;
    // Outside 64-bit mode these two leave registers 8 to 15 alone.
    bool named =
        code64_ && (z_.mnemonic == ZYDIS_MNEMONIC_VZEROUPPER || z_.mnemonic == ZYDIS_MNEMONIC_VZEROALL);
    for (unsigned n = 0; n < z_.operand_count_visible; n++)
        named |= operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                 !vectorRegister(operands_[n].reg.value).isNone();
    if (!named) return VectorLevel::None;
    return vex ? VectorLevel::Avx : VectorLevel::Sse;
}

bool BlockEmitter::needVectors(VectorLevel level) {
    if (vectors_ >= level) return true;
    keepFlags();
    inHost_ = false;
    const Label want = a_.newLabel(), loaded = a_.newLabel();
    const size_t site = addSite(Site::Kind::Vectors);
    context_.sites[site].level = level;
    a_.cmp(KILN_FRAME(vectors), uint8_t(level));
    a_.jb(want);
    a_.bind(loaded);
    vectors_ = level;
    tails_.push_back({want, site, loaded, false, level, inFrame_ ? Recipe{} : recipe_, {}});
    return true;
}

Operand BlockEmitter::vectorRegister(ZydisRegister r) {
    const auto id = uint32_t(ZydisRegisterGetId(r));
    switch (ZydisRegisterGetClass(r)) {
        case ZYDIS_REGCLASS_XMM: return x86::xmm(id);
        case ZYDIS_REGCLASS_YMM: return x86::ymm(id);
        default: return {};
    }
}

// Whether the memory operand has to lie on a multiple of 16 or 32 (SDM vol. 1, 4.1.1; vol. 2, 2.4).
bool BlockEmitter::mustBeAligned(unsigned bytes) const {
    if (vectorLevel() == VectorLevel::None || bytes < 16) return false;
    switch (z_.mnemonic) {
        case ZYDIS_MNEMONIC_MOVUPS:
        case ZYDIS_MNEMONIC_MOVUPD:
        case ZYDIS_MNEMONIC_MOVDQU:
        case ZYDIS_MNEMONIC_LDDQU: return false;
        case ZYDIS_MNEMONIC_VMOVAPS:
        case ZYDIS_MNEMONIC_VMOVAPD:
        case ZYDIS_MNEMONIC_VMOVDQA:
        case ZYDIS_MNEMONIC_VMOVNTPS:
        case ZYDIS_MNEMONIC_VMOVNTPD:
        case ZYDIS_MNEMONIC_VMOVNTDQ:
        case ZYDIS_MNEMONIC_VMOVNTDQA: return true;
        default: return vectorLevel() == VectorLevel::Sse;
    }
}

// The register whose bits 8 to 15 AH, CH, DH or BH is; -1: none of them.
static int highByteOf(ZydisRegister r) {
    const int id = ZydisRegisterGetId(r);
    return ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR8 && id >= 4 && id < 8 ? id - 4 : -1;
}

static Imm immediate(const ZydisDecodedOperand& op) {
    const uint64_t v = op.imm.value.u;
    switch (op.size) {
        case 8: return Imm(int64_t(int8_t(v)));
        case 16: return Imm(int64_t(int16_t(v)));
        case 32: return Imm(int64_t(int32_t(v)));
        default: return Imm(int64_t(v));
    }
}

static constexpr uint32_t kArithmetic = ZYDIS_CPUFLAG_CF | ZYDIS_CPUFLAG_PF | ZYDIS_CPUFLAG_AF |
                                        ZYDIS_CPUFLAG_ZF | ZYDIS_CPUFLAG_SF | ZYDIS_CPUFLAG_OF;

static uint32_t written(const ZydisDecodedInstruction& z) {
    const ZydisAccessedFlags* f = z.cpu_flags;
    return f ? (f->modified | f->set_0 | f->set_1 | f->undefined) & kArithmetic : 0;
}

// -- flags

void BlockEmitter::storeFlags() {
    a_.lahf();
    a_.seto(x86::al);
    a_.mov(KILN_FRAME(flags).cloneResized(4), x86::eax);
}

void BlockEmitter::saveFlags() {
    if (inFrame_) return;
    if (!inHost_) makeFlags(recipe_);
    storeFlags();
    inHost_ = inFrame_ = true;
}

void BlockEmitter::needFlags() {
    if (inHost_) return;
    inHost_ = true;
    if (recipe_) return makeFlags(recipe_);
    a_.mov(x86::eax, KILN_FRAME(flags).cloneResized(4));
    a_.add(x86::al, 127);  // OF from bit 0
    a_.sahf();
}

void BlockEmitter::keepFlags() {
    if (!recipe_) saveFlags();
}

void BlockEmitter::makeFlags(const Recipe& r) {
    using Kind = Recipe::Kind;
    auto second = [&](InstId id, const Gp& first) {
        r.hasImmediate ? a_.emit(id, first, r.immediate) : a_.emit(id, first, r.b);
    };
    const Gp sum = sized(int(x86::rax.id()), r.a.size() * 8);
    switch (r.kind) {
        case Kind::None: break;
        case Kind::Compare: second(x86::Inst::kIdCmp, r.a); break;
        case Kind::Test: second(x86::Inst::kIdTest, r.a); break;
        case Kind::Logic: a_.test(r.a, r.a); break;
        case Kind::Add:
            a_.mov(sum, r.a);
            second(x86::Inst::kIdSub, sum);
            second(x86::Inst::kIdAdd, sum);
            break;
        case Kind::Sub:
            a_.mov(sum, r.a);
            second(x86::Inst::kIdAdd, sum);
            second(x86::Inst::kIdSub, sum);
            break;
    }
}

// Behind an instruction that wrote all flags: whether they can be made again.
void BlockEmitter::noteRecipe() {
    using Kind = Recipe::Kind;
    Recipe r;
    switch (z_.mnemonic) {
        case ZYDIS_MNEMONIC_CMP: r.kind = Kind::Compare; break;
        case ZYDIS_MNEMONIC_TEST: r.kind = Kind::Test; break;
        case ZYDIS_MNEMONIC_AND:
        case ZYDIS_MNEMONIC_OR:
        case ZYDIS_MNEMONIC_XOR: r.kind = Kind::Logic; break;
        case ZYDIS_MNEMONIC_ADD: r.kind = Kind::Add; break;
        case ZYDIS_MNEMONIC_SUB: r.kind = Kind::Sub; break;
        default: return;
    }
    const ZydisDecodedOperand &a = operands_[0], &b = operands_[1];
    if (a.type != ZYDIS_OPERAND_TYPE_REGISTER || inFrame(guestOf(a.reg.value))) return;
    r.guestA = guestOf(a.reg.value);
    r.a = pinned(unsigned(r.guestA), a.size);
    if (r.kind != Kind::Logic) {
        r.hasImmediate = b.type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
        if (r.hasImmediate) {
            r.immediate = immediate(b);
        } else {
            if (b.type != ZYDIS_OPERAND_TYPE_REGISTER || inFrame(guestOf(b.reg.value))) return;
            r.guestB = guestOf(b.reg.value);
            r.b = pinned(unsigned(r.guestB), b.size);
            const bool sum = r.kind == Kind::Add || r.kind == Kind::Sub;
            if (sum && r.guestA == r.guestB) return;
        }
    }
    recipe_ = r;
    recipeInstruction_ = index_;
}

// Whether the instruction writes a register that a recipe reads, by name or by nature.
bool BlockEmitter::writesOperandOf(const Recipe& r) const {
    for (unsigned n = 0; n < z_.operand_count; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (op.type != ZYDIS_OPERAND_TYPE_REGISTER || !(op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        int guest = guestOf(op.reg.value);
        if (guest < 0) guest = highByteOf(op.reg.value);
        if (guest >= 0 && (guest == r.guestA || guest == r.guestB)) return true;
    }
    return false;
}

// A recipe that is about to lose an operand must not be the flags' last place.
void BlockEmitter::beforeInstruction() {
    if (!recipe_ || inFrame_ || !writesOperandOf(recipe_)) return;
    const bool overwrites = written(z_) == kArithmetic && !readsFlags();
    if (!overwrites) saveFlags();
}

bool BlockEmitter::certainlyEmitted() {
    const How how = knowledge()[z_.mnemonic].how;
    if (context_.refused.contains(index_) || !hostHas(z_.meta.isa_set) || !operandsUsable()) return false;
    if (how != How::Plain && how != How::Lea && how != How::Convert) return false;
    for (unsigned n = 0; n < z_.operand_count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY && how != How::Lea) return false;
    return true;
}

bool BlockEmitter::overwritesFlags() {
    bool result = false;
    for (index_ = 0; index_ < block_.count; index_++) {
        insn_ = &block_.insns[index_];
        if (!decode() || !certainlyEmitted() || readsFlags()) break;
        if (written(z_) == kArithmetic) {
            result = true;
            break;
        }
    }
    index_ = 0;
    insn_ = nullptr;
    return result;
}

bool BlockEmitter::writesFlags() const { return written(z_) != 0; }

// Some are read, or some are left as they are.
bool BlockEmitter::readsFlags() const {
    const uint32_t w = written(z_);
    if (knowledge()[z_.mnemonic].how == How::Shift) return true;  // a count of 0 leaves all
    return (z_.cpu_flags && z_.cpu_flags->tested & kArithmetic) || (w && w != kArithmetic);
}

// -- operands

int BlockEmitter::guestOf(ZydisRegister r) {
    const int id = ZydisRegisterGetId(r);
    switch (ZydisRegisterGetClass(r)) {
        case ZYDIS_REGCLASS_GPR8:  // AL CL DL BL AH CH DH BH SPL BPL ...
            return id < 4 ? id : id < 8 ? -1 : id - 4;
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64: return id;
        default: return -1;
    }
}

x86::Gp BlockEmitter::sized(int host, unsigned bits) {
    switch (bits) {
        case 8: return x86::gpb_lo(uint32_t(host));
        case 16: return x86::gpw(uint32_t(host));
        case 32: return x86::gpd(uint32_t(host));
        default: return x86::gpq(uint32_t(host));
    }
}

x86::Mem BlockEmitter::slot(unsigned guest, unsigned bytes) const {
    return inFrameAt(offsetof(HostFrame, gpr) + guest * 8, bytes);
}

void BlockEmitter::loadGuest(const Gp& scratch, unsigned guest) {
    if (inFrame(int(guest)))
        a_.mov(scratch.r64(), slot(guest));
    else
        a_.mov(scratch.r64(), pinned(guest, 64));
}

void BlockEmitter::storeGuest(unsigned guest, const Gp& scratch) {
    if (inFrame(int(guest)))
        a_.mov(slot(guest), scratch.r64());
    else
        a_.mov(pinned(guest, 64), scratch.r64());
}

// The 64-bit host register with an address register's value; `scratch` where it is in the frame.
x86::Gp BlockEmitter::baseRegister(ZydisRegister r, const Gp& scratch) {
    const auto guest = unsigned(ZydisRegisterGetId(r));
    if (!inFrame(int(guest))) return pinned(guest, 64);
    a_.mov(scratch, slot(guest));
    return scratch;
}

// The displacement; Zydis 4.0 takes R13D for the base where there is none (67h, mod 0, SIB base 5, REX.B).
static bool absentBase(const ZydisDecodedInstruction& z) {
    return z.attributes & ZYDIS_ATTRIB_HAS_SIB && z.raw.modrm.mod == 0 && z.raw.sib.base == 5;
}

bool BlockEmitter::addressable(const ZydisDecodedOperandMem& m) const {
    if (z_.address_width == 16) return false;
    if (m.index != ZYDIS_REGISTER_NONE && ZydisRegisterGetClass(m.index) != ZYDIS_REGCLASS_GPR64 &&
        ZydisRegisterGetClass(m.index) != ZYDIS_REGCLASS_GPR32)
        return false;
    return code64_ || (m.segment != ZYDIS_REGISTER_FS && m.segment != ZYDIS_REGISTER_GS);
}

void BlockEmitter::linearAddress(const ZydisDecodedOperandMem& m, const Gp& out) {
    int64_t disp = absentBase(z_) ? z_.raw.disp.value : m.disp.value;
    const ZydisRegister base = absentBase(z_) ? ZYDIS_REGISTER_NONE : m.base;
    const bool ipRelative = base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP;
    if (ipRelative) {
        disp += nextOffset();
        a_.mov(kLinear, KILN_FRAME(page));
    }
    if (base == ZYDIS_REGISTER_NONE && m.index == ZYDIS_REGISTER_NONE) {
        a_.mov(out.r64(), z_.address_width == 32 ? int64_t(uint32_t(disp)) : disp);
    } else {
        Mem sum;
        if (base == ZYDIS_REGISTER_NONE || !fits32(disp)) {
            // What does not fit an instruction joins by hand.
            if (base == ZYDIS_REGISTER_NONE) {
                a_.mov(kLinear, disp);
            } else {
                const Gp b = ipRelative ? kLinear : baseRegister(base, kLinear);
                a_.mov(kTag, disp);
                a_.lea(kLinear, x86::ptr(b, kTag));
            }
            sum = x86::ptr(kLinear);
        } else {
            sum = x86::ptr(ipRelative ? kLinear : baseRegister(base, kLinear), int32_t(disp));
        }
        if (m.index != ZYDIS_REGISTER_NONE) {
            const Gp index = baseRegister(m.index, kTag);
            sum.setIndex(index, m.scale == 8 ? 3 : m.scale == 4 ? 2 : m.scale == 2 ? 1 : 0);
        }
        a_.lea(out, sum);
    }
    if (code64_ && m.segment == ZYDIS_REGISTER_FS) a_.add(kLinear, KILN_FRAME(fsBase));
    if (code64_ && m.segment == ZYDIS_REGISTER_GS) a_.add(kLinear, KILN_FRAME(gsBase));
}

BlockEmitter::Address BlockEmitter::access(const ZydisDecodedOperandMem& m, unsigned bytes, bool write) {
    keepFlags();
    const bool simple = code64_ && z_.address_width == 64 && m.index == ZYDIS_REGISTER_NONE &&
                        m.base != ZYDIS_REGISTER_NONE && m.base != ZYDIS_REGISTER_RIP &&
                        m.segment != ZYDIS_REGISTER_FS && m.segment != ZYDIS_REGISTER_GS &&
                        fits32(m.disp.value + 64) && !inFrame(ZydisRegisterGetId(m.base));
    if (!simple) {
        linearAddress(m, sized(int(x86::rdx.id()), z_.address_width));
        return check(nullptr, bytes, write);
    }
    const Mem direct = x86::ptr(pinned(unsigned(ZydisRegisterGetId(m.base)), 64), int32_t(m.disp.value));
    return check(&direct, bytes, write);
}

// An implied operand on the stack: `disp` from a guest register.
BlockEmitter::Address BlockEmitter::stack(int32_t disp, unsigned bytes, bool write, unsigned base) {
    keepFlags();
    if (code64_ && !inFrame(int(base))) {
        const Mem direct = x86::ptr(pinned(base, 64), disp);
        return check(&direct, bytes, write);
    }
    loadGuest(kLinear, base);
    a_.lea(sized(int(x86::rdx.id()), bits()), x86::ptr(kLinear, disp));
    return check(nullptr, bytes, write);
}

BlockEmitter::Address BlockEmitter::check(const Mem* simple, unsigned bytes, bool write) {
    Mem last;
    const int32_t reach = mustBeAligned(bytes) ? 0 : int32_t(bytes - 1);
    if (simple) {
        const Gp base = simple->baseReg().as<Gp>();
        if (simple->offset() == 0)
            a_.mov(x86::eax, base.r32());
        else
            a_.lea(x86::eax, *simple);
        last = simple->cloneAdjusted(reach);
    } else {
        a_.mov(x86::eax, x86::edx);
        last = x86::ptr(kLinear, reach);
    }
    if (last.offset() == 0)
        a_.mov(kTag, last.baseReg().as<Gp>());
    else
        a_.lea(kTag, last);
    a_.shr(x86::eax, 12);
    // One that must be aligned crosses no page, and its low address bits take part in the comparison.
    a_.and_(kTag, mustBeAligned(bytes) ? -4096 | int32_t(bytes - 1) : -4096);
    a_.cmp(kTag, x86::ptr(x86::rsp, kIndex, 3, write ? Tlb::kWriteTags : Tlb::kReadTags));
    a_.jne(slow(nearBranchInstruction_ ? Site::Kind::Before : Site::Kind::Miss));
    a_.mov(kIndex, x86::ptr(x86::rsp, kIndex, 3, Tlb::kAddends));
    inHost_ = false;
    if (!simple) return {x86::ptr(kIndex, kLinear), true};
    Mem mem = *simple;
    mem.setIndex(mem.baseReg().as<Gp>(), 0);
    mem.setBase(kIndex);
    return {mem, false};
}

void BlockEmitter::moveAddressTo(Address& a, const Gp& reg) {
    a_.lea(reg, a.mem);
    a.mem = x86::ptr(reg);
    a.usesRdx = reg == kLinear;
}

void BlockEmitter::addToGuest(unsigned guest, int32_t n) {
    if (inFrame(int(guest))) {
        a_.mov(kTag, slot(guest));
        a_.lea(sized(int(x86::rcx.id()), bits()), x86::ptr(kTag, n));
        a_.mov(slot(guest), kTag);
        return;
    }
    a_.lea(pinned(guest, bits()), x86::ptr(pinned(guest, 64), n));
}

bool BlockEmitter::operandsUsable() const {
    for (unsigned n = 0; n < z_.operand_count_visible; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (op.type == ZYDIS_OPERAND_TYPE_REGISTER && guestOf(op.reg.value) < 0 &&
            (vectorLevel() == VectorLevel::None || vectorRegister(op.reg.value).isNone()))
            return false;
        if (op.type == ZYDIS_OPERAND_TYPE_MEMORY && !addressable(op.mem)) return false;
        if (op.type == ZYDIS_OPERAND_TYPE_POINTER) return false;
    }
    return true;
}

// -- instructions

// AH, CH, DH and BH are only named by instructions without REX, so all operands move to rax, rcx, rdx and
// rbx.
bool BlockEmitter::highByte(InstId id) {
    static_assert(kStandardMap.host[3] == 3);  // guest rbx is in rbx
    const unsigned count = z_.operand_count_visible;
    std::array<Operand, 4> ops;
    std::array<int, 4> guestIn{-1, -1, -1, 3};  // by host register: rax, rcx, rdx, rbx
    for (unsigned n = 0; n < count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER)
            if (const int high = highByteOf(operands_[n].reg.value); high >= 0) guestIn[size_t(high)] = high;
    for (unsigned n = 0; n < count; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            ops[n] = immediate(op);
            continue;
        }
        if (op.type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
        if (const int high = highByteOf(op.reg.value); high >= 0) {
            ops[n] = x86::gpb_hi(uint32_t(high));
            continue;
        }
        const int guest = guestOf(op.reg.value);
        if (guest < 0) return false;
        size_t host = 0;
        while (host < 3 && guestIn[host] != guest) host++;
        if (host == 3 && guest != 3)
            for (host = 0; host < 3 && guestIn[host] >= 0;) host++;
        if (host == 3 && guest != 3) return false;
        guestIn[host] = guest;
        ops[n] = sized(int(host), op.size);
    }
    if (readsFlags()) needFlags();
    for (unsigned host = 0; host < 3; host++)
        if (guestIn[host] >= 0) loadGuest(sized(int(host), 64), unsigned(guestIn[host]));
    a_.emitOpArray(id, ops.data(), count);
    for (unsigned host = 0; host < 3; host++)
        if (guestIn[host] >= 0) storeGuest(unsigned(guestIn[host]), sized(int(host), 64));
    if (writesFlags()) flagsWritten();
    return true;
}

bool BlockEmitter::compareExchange() {
    if (!operandsUsable()) return false;
    const ZydisDecodedOperand &dst = operands_[0], &src = operands_[1];
    Operand place;
    int dstInFrame = -1;
    if (dst.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        Address address = access(dst.mem, dst.size / 8, true);
        moveAddressTo(address, kLinear);
        place = address.mem.cloneResized(dst.size / 8);
    } else {
        const int guest = guestOf(dst.reg.value);
        if (inFrame(guest)) {
            dstInFrame = guest;
            loadGuest(x86::rdx, unsigned(guest));
            place = sized(int(x86::rdx.id()), dst.size);
        } else {
            place = pinned(unsigned(guest), dst.size);
        }
        if (guest == 0) return false;  // the accumulator twice
    }
    loadGuest(x86::rcx, unsigned(guestOf(src.reg.value)));
    loadGuest(x86::rax, 0);
    a_.emit(x86::Inst::kIdCmpxchg, place, sized(int(x86::rcx.id()), src.size));
    storeGuest(0, x86::rax);
    if (dstInFrame >= 0) storeGuest(unsigned(dstInFrame), x86::rdx);
    flagsWritten();
    return true;
}

bool BlockEmitter::plain(InstId id) {
    for (unsigned n = 0; n < z_.operand_count_visible; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER && highByteOf(operands_[n].reg.value) >= 0)
            return highByte(id);
    if (!operandsUsable()) return false;
    const unsigned count = z_.operand_count_visible;
    Operand ops[4];
    if (count > std::size(ops)) return false;
    const ZydisDecodedOperand* memory = nullptr;
    for (unsigned n = 0; n < count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY) memory = &operands_[n];
    const bool bitString = z_.mnemonic == ZYDIS_MNEMONIC_BT || z_.mnemonic == ZYDIS_MNEMONIC_BTS ||
                           z_.mnemonic == ZYDIS_MNEMONIC_BTR || z_.mnemonic == ZYDIS_MNEMONIC_BTC;
    if (memory && bitString && operands_[1].type == ZYDIS_OPERAND_TYPE_REGISTER) return false;
    if (memory && context_.threaded && z_.mnemonic == ZYDIS_MNEMONIC_XCHG) return false;

    Address address{};
    std::array<Gp, 3> free{x86::rcx, x86::rdx, x86::rax};
    unsigned freeCount = 3;
    if (memory) {
        address = access(memory->mem, memory->size / 8, memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
        unsigned inFrameOperands = 0;
        for (unsigned n = 0; n < count; n++)
            if (operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER && guestOf(operands_[n].reg.value) >= 0)
                inFrameOperands += inFrame(guestOf(operands_[n].reg.value));
        if (readsFlags()) {
            moveAddressTo(address, kLinear);
            free[1] = kIndex, freeCount = 2;
        } else if (address.usesRdx && inFrameOperands > 1) {
            moveAddressTo(address, kIndex);
            freeCount = 2;
        } else {
            freeCount = address.usesRdx ? 1 : 2;
        }
    }
    if (readsFlags()) needFlags();

    struct WriteBack {
        unsigned guest;
        Gp scratch;
    };
    WriteBack back[4];
    unsigned backCount = 0, used = 0;
    for (unsigned n = 0; n < count; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            ops[n] = immediate(op);
        } else if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
            ops[n] = address.mem.cloneResized(op.size / 8);
        } else if (guestOf(op.reg.value) < 0) {
            ops[n] = vectorRegister(op.reg.value);
        } else {
            const auto guest = unsigned(guestOf(op.reg.value));
            if (!inFrame(int(guest))) {
                ops[n] = pinned(guest, op.size);
                continue;
            }
            Gp scratch;
            for (unsigned b = 0; b < used; b++)
                if (back[b].guest == guest) scratch = back[b].scratch;
            if (!scratch.isValid()) {
                if (used >= freeCount) throw std::logic_error("no free register for an operand");
                scratch = free[used];
                back[used++] = {guest, scratch};
                a_.mov(scratch, slot(guest));
            }
            ops[n] = sized(int(scratch.id()), op.size);
        }
    }
    backCount = used;
    a_.emitOpArray(id, ops, count);
    for (unsigned b = 0; b < backCount; b++) {
        bool isWritten = false;
        for (unsigned n = 0; n < count; n++)
            isWritten |= operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                         guestOf(operands_[n].reg.value) == int(back[b].guest) &&
                         operands_[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        if (isWritten) a_.mov(slot(back[b].guest), back[b].scratch);
    }
    if (writesFlags()) {
        flagsWritten();
        noteRecipe();
    }
    return true;
}

bool BlockEmitter::lea() {
    const auto& m = operands_[1].mem;
    const int guest = guestOf(operands_[0].reg.value);
    if (guest < 0 || !addressable(m)) return false;
    const unsigned size = operands_[0].size;
    ZydisDecodedOperandMem flat = m;
    flat.segment = ZYDIS_REGISTER_DS;
    const bool direct = !inFrame(guest) && size == z_.address_width && size >= 32;
    const Gp result =
        direct ? pinned(unsigned(guest), size) : Gp(sized(int(x86::rdx.id()), z_.address_width));
    linearAddress(flat, result);
    if (direct) return true;
    if (size == 16) {
        if (inFrame(guest))
            a_.mov(slot(unsigned(guest), 2), x86::dx);
        else
            a_.mov(pinned(unsigned(guest), 16), x86::dx);
        return true;
    }
    if (size == 32) a_.mov(x86::edx, x86::edx);
    storeGuest(unsigned(guest), kLinear);
    return true;
}

bool BlockEmitter::shiftByCl(InstId id) {
    if (!operandsUsable()) return false;
    const unsigned count = z_.operand_count_visible;
    Operand ops[3];
    const ZydisDecodedOperand& dst = operands_[0];
    int dstInFrame = -1;
    if (dst.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        Address address = access(dst.mem, dst.size / 8, true);
        moveAddressTo(address, kLinear);
        ops[0] = address.mem.cloneResized(dst.size / 8);
        needFlags();
    } else {
        needFlags();
        const int guest = guestOf(dst.reg.value);
        if (inFrame(guest)) {
            dstInFrame = guest;
            a_.mov(x86::rdx, slot(unsigned(guest)));
            ops[0] = sized(int(x86::rdx.id()), dst.size);
        } else {
            ops[0] = pinned(unsigned(guest), dst.size);
        }
    }
    if (count == 3) {
        const int guest = guestOf(operands_[1].reg.value);
        if (inFrame(guest)) {
            a_.mov(x86::rax, slot(unsigned(guest)));
            ops[1] = sized(int(x86::rax.id()), operands_[1].size);
        } else {
            ops[1] = pinned(unsigned(guest), operands_[1].size);
        }
    }
    loadGuest(x86::rcx, 1);
    ops[count - 1] = x86::cl;
    a_.emitOpArray(id, ops, count);
    if (dstInFrame >= 0) a_.mov(slot(unsigned(dstInFrame)), x86::rdx);
    flagsWritten();
    return true;
}

// MUL and IMUL with rDX:rAX, or AX.
bool BlockEmitter::multiply(InstId id) {
    if (!operandsUsable()) return false;
    const ZydisDecodedOperand& op = operands_[0];
    const Gp factor = sized(int(x86::rcx.id()), op.size);
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const Address address = access(op.mem, op.size / 8, false);
        a_.mov(factor, address.mem.cloneResized(op.size / 8));
    } else {
        loadGuest(x86::rcx, unsigned(guestOf(op.reg.value)));
    }
    loadGuest(x86::rax, 0);
    if (op.size == 16) loadGuest(x86::rdx, 2);
    a_.emit(id, factor);
    storeGuest(0, x86::rax);
    if (op.size != 8) storeGuest(2, x86::rdx);
    flagsWritten();
    return true;
}

// The interpreter does what would fault, and signed division of a dividend that is not just rAX extended.
bool BlockEmitter::divide(bool isSigned) {
    if (!operandsUsable()) return false;
    const ZydisDecodedOperand& op = operands_[0];
    if (op.size < 32 || inFrame(0) || inFrame(2)) return false;
    const Gp divisor = sized(int(x86::rcx.id()), op.size), high = sized(int(x86::rdx.id()), op.size);
    saveFlags();
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const Address address = access(op.mem, op.size / 8, false);
        a_.mov(divisor, address.mem.cloneResized(op.size / 8));
    } else {
        loadGuest(x86::rcx, unsigned(guestOf(op.reg.value)));
    }
    loadGuest(x86::rax, 0);
    loadGuest(x86::rdx, 2);
    if (isSigned) {
        a_.mov(high, sized(int(x86::rax.id()), op.size));
        a_.sar(high, op.size - 1);
        a_.cmp(high, pinned(2, op.size));
        a_.jne(slow(Site::Kind::Miss));
        a_.test(divisor, divisor);
        a_.jz(slow(Site::Kind::Miss));
        a_.cmp(divisor, -1);
        a_.je(slow(Site::Kind::Miss));
        a_.idiv(divisor);
    } else {
        a_.cmp(high, divisor);
        a_.jae(slow(Site::Kind::Miss));
        a_.div(divisor);
    }
    storeGuest(0, x86::rax);
    storeGuest(2, x86::rdx);
    inHost_ = false;  // undefined: what they were
    return true;
}

bool BlockEmitter::convert() {
    loadGuest(x86::rax, 0);
    switch (z_.mnemonic) {
        case ZYDIS_MNEMONIC_CBW: a_.cbw(); break;
        case ZYDIS_MNEMONIC_CWDE: a_.cwde(); break;
        case ZYDIS_MNEMONIC_CDQE: a_.cdqe(); break;
        default:
            if (z_.mnemonic == ZYDIS_MNEMONIC_CWD)
                loadGuest(x86::rdx, 2), a_.cwd();
            else if (z_.mnemonic == ZYDIS_MNEMONIC_CDQ)
                a_.cdq();
            else
                a_.cqo();
            storeGuest(2, x86::rdx);
            return true;
    }
    storeGuest(0, x86::rax);
    return true;
}

bool BlockEmitter::push() {
    const unsigned bytes = stackBytes();
    const ZydisDecodedOperand& op = operands_[0];
    if (z_.operand_width != bits() || !operandsUsable()) return false;
    const Gp value = sized(int(x86::rcx.id()), bits());
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const Address from = access(op.mem, bytes, false);
        a_.mov(value, from.mem.cloneResized(bytes));
        a_.mov(KILN_FRAME(value), x86::rcx);
    }
    const Address to = stack(-int32_t(bytes), bytes, true);
    const Mem place = to.mem.cloneResized(bytes);
    if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        a_.mov(place, Imm(op.imm.value.s));
    } else if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        a_.mov(x86::rcx, KILN_FRAME(value));
        a_.mov(place, value);
    } else {
        const int guest = guestOf(op.reg.value);
        if (inFrame(guest)) {
            a_.mov(x86::rcx, slot(unsigned(guest)));
            a_.mov(place, value);
        } else {
            a_.mov(place, pinned(unsigned(guest), bits()));
        }
    }
    addToGuest(4, -int32_t(bytes));
    return true;
}

bool BlockEmitter::pop() {
    const unsigned bytes = stackBytes();
    const ZydisDecodedOperand& op = operands_[0];
    if (z_.operand_width != bits() || op.type != ZYDIS_OPERAND_TYPE_REGISTER || !operandsUsable())
        return false;
    const Address from = stack(0, bytes, false);
    a_.mov(sized(int(x86::rdx.id()), bits()), from.mem.cloneResized(bytes));
    addToGuest(4, int32_t(bytes));
    storeGuest(unsigned(guestOf(op.reg.value)), x86::rdx);
    return true;
}

bool BlockEmitter::leave() {
    const unsigned bytes = stackBytes();
    if (z_.operand_width != bits()) return false;
    const Address from = stack(0, bytes, false, 5);
    a_.mov(sized(int(x86::rdx.id()), bits()), from.mem.cloneResized(bytes));
    loadGuest(x86::rcx, 5);
    a_.lea(sized(int(x86::rcx.id()), bits()), x86::ptr(x86::rcx, int32_t(bytes)));
    storeGuest(4, x86::rcx);
    storeGuest(5, x86::rdx);
    return true;
}

// -- transfers

bool BlockEmitter::branchIf(InstId id) {
    needFlags();
    Edge e{a_.newLabel(), nextOffset() + operands_[0].imm.value.s, index_ + 1, inFrame_, {}};
    e.recipe = recipe_;
    a_.emit(id, e.label);
    edges_.push_back(e);
    return true;
}

bool BlockEmitter::jump() {
    if (operands_[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return jumpIndirect(false);
    edge(nextOffset() + operands_[0].imm.value.s, index_ + 1);
    return true;
}

bool BlockEmitter::call() {
    if (operands_[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return jumpIndirect(true);
    nearBranchInstruction_ = true;
    pushReturn();
    nearBranchInstruction_ = false;
    edge(nextOffset() + operands_[0].imm.value.s, index_ + 1);
    return true;
}

void BlockEmitter::pushReturn() {
    const unsigned bytes = stackBytes();
    const Address to = stack(-int32_t(bytes), bytes, true);
    a_.mov(x86::rcx, KILN_FRAME(page));
    a_.lea(sized(int(x86::rcx.id()), bits()), x86::ptr(x86::rcx, int32_t(nextOffset())));
    a_.mov(to.mem.cloneResized(bytes), sized(int(x86::rcx.id()), bits()));
    addToGuest(4, -int32_t(bytes));
}

bool BlockEmitter::ret() {
    saveFlags();
    nearBranchInstruction_ = true;
    const unsigned bytes = stackBytes();
    const int32_t released = z_.operand_count_visible ? int32_t(operands_[0].imm.value.u & 0xffff) : 0;
    const Address from = stack(0, bytes, false);
    a_.mov(sized(int(x86::rdx.id()), bits()), from.mem.cloneResized(bytes));
    lookUp();
    addToGuest(4, int32_t(bytes) + released);
    goToTarget(x86::ptr(x86::rsp, x86::rax, 3, at(kJumpTable + offsetof(JumpTarget, host))), true);
    nearBranchInstruction_ = false;
    return true;
}

bool BlockEmitter::jumpIndirect(bool isCall) {
    if (!operandsUsable()) return false;
    nearBranchInstruction_ = true;
    const ZydisDecodedOperand& op = operands_[0];
    saveFlags();
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const Address from = access(op.mem, stackBytes(), false);
        a_.mov(sized(int(x86::rdx.id()), bits()), from.mem.cloneResized(stackBytes()));
    } else {
        loadGuest(x86::rdx, unsigned(guestOf(op.reg.value)));
        if (!code64_) a_.mov(x86::edx, x86::edx);
    }
    lookUp();
    const Mem host = x86::ptr(x86::rsp, x86::rax, 3, at(kJumpTable + offsetof(JumpTarget, host)));
    if (isCall) {
        a_.mov(x86::rcx, host);
        a_.mov(KILN_FRAME(hostTarget), x86::rcx);
        a_.mov(KILN_FRAME(rip), x86::rdx);
        pushReturn();
        goToTarget(KILN_FRAME(hostTarget), false);
    } else {
        goToTarget(host, true);
    }
    nearBranchInstruction_ = false;
    return true;
}

void BlockEmitter::lookUp() {
    const Label again = a_.newLabel(), miss = a_.newLabel();
    a_.bind(again);
    const size_t site = addSite(Site::Kind::LookUp);
    a_.movzx(x86::eax, x86::dx);
    a_.add(x86::eax, x86::eax);
    a_.cmp(x86::rdx, x86::ptr(x86::rsp, x86::rax, 3, at(kJumpTable + offsetof(JumpTarget, rip))));
    a_.jne(miss);
    fixups_.push_back({site, again, &Site::resume});
    addTail(miss, site);
    inHost_ = false;
}

void BlockEmitter::goToTarget(const Mem& host, bool targetInRdx) {
    const Label over = a_.newLabel();
    const size_t site = addSite(Site::Kind::Over);
    if (!targetInRdx) a_.mov(x86::rdx, KILN_FRAME(rip));
    a_.sub(KILN_FRAME(slice), index_ + 1);
    a_.jle(over);
    a_.and_(x86::rdx, -4096);
    a_.mov(KILN_FRAME(page), x86::rdx);
    a_.jmp(host);
    addTail(over, site);
}

// The end of the block's code on one way: to `target` from the page, after so many instructions.
void BlockEmitter::edge(int64_t target, unsigned executed) {
    const bool samePage = target >= 0 && target < int64_t(kPageSize), loop = target == pageOffset_;
    const bool unsaved = !inFrame_ && recipe_ && samePage && (!loop || kills_);
    if (!unsaved) saveFlags();
    const size_t site = addSite(samePage ? Site::Kind::Link : Site::Kind::OtherPage);
    context_.sites[site].target = target;
    const Label over = a_.newLabel();
    a_.sub(KILN_FRAME(slice), executed);
    a_.jle(over);
    if (loop) {
        a_.jmp(entry_);
    } else if (samePage) {
        const Label patch = a_.newLabel(), out = unsaved ? a_.newLabel() : over;
        a_.bind(patch);
        fixups_.push_back({site, patch, &Site::patch});
        a_.long_().jmp(out);
        if (unsaved) tails_.push_back({out, site, {}, false, VectorLevel::None, recipe_, over});
    } else {
        a_.mov(x86::rdx, KILN_FRAME(page));
        a_.lea(sized(int(x86::rdx.id()), bits()), x86::ptr(x86::rdx, int32_t(target)));
        a_.movzx(x86::eax, x86::dx);
        a_.add(x86::eax, x86::eax);
        a_.cmp(x86::rdx, x86::ptr(x86::rsp, x86::rax, 3, at(kJumpTable + offsetof(JumpTarget, rip))));
        a_.jne(over);
        a_.and_(x86::rdx, -4096);
        a_.mov(KILN_FRAME(page), x86::rdx);
        a_.jmp(x86::ptr(x86::rsp, x86::rax, 3, at(kJumpTable + offsetof(JumpTarget, host))));
    }
    tails_.push_back({over, site, {}, false, VectorLevel::None, unsaved ? recipe_ : Recipe{}, {}});
}

}  // namespace kiln
