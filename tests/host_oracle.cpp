#include "tests/host_oracle.hpp"

#include <stdexcept>
#include <string_view>

#include "cpu/instruction_sets.hpp"

namespace kiln::test {

// -- between FXSAVE's picture and the processor under test

void importState(const UserState& from, CpuState& to) {
    for (unsigned n = 0; n < 16; n++) to.gpr[Gpr(n)] = from.gpr[n];
    to.rip = from.rip;
    to.flags.set(from.rflags);
    FpuState& f = to.fpu;
    f.control = from.fx.get<uint16_t>(FxImage::kControl);
    f.status = from.fx.get<uint16_t>(FxImage::kStatus);
    f.empty = uint8_t(~from.fx.get<uint8_t>(FxImage::kTags));
    for (unsigned n = 0; n < 8; n++) {
        Float80& r = f.physical[(f.top() + n) & 7];
        r.mantissa = from.fx.get<uint64_t>(FxImage::kRegisters + 16 * n);
        r.signExponent = from.fx.get<uint16_t>(FxImage::kRegisters + 16 * n + 8);
    }
    to.mxcsr = from.fx.get<uint32_t>(FxImage::kMxcsr);
    for (unsigned n = 0; n < 32; n++)
        for (unsigned word = 0; word < 8; word++) to.vec[n].q[word] = from.vectorWord(n, word);
    to.opmask = from.opmask;
}

UserState exportState(const CpuState& from) {
    UserState s;
    for (unsigned n = 0; n < 16; n++) s.gpr[n] = from.gpr[Gpr(n)];
    s.rip = from.rip;
    s.rflags = from.flags.value();
    const FpuState& f = from.fpu;
    s.fx.set<uint16_t>(FxImage::kControl, f.control);
    s.fx.set<uint16_t>(FxImage::kStatus, f.status);
    s.fx.set<uint8_t>(FxImage::kTags, uint8_t(~f.empty));
    for (unsigned n = 0; n < 8; n++) {
        const Float80& r = f.physical[(f.top() + n) & 7];
        s.fx.set<uint64_t>(FxImage::kRegisters + 16 * n, r.mantissa);
        s.fx.set<uint16_t>(FxImage::kRegisters + 16 * n + 8, r.signExponent);
    }
    s.fx.set<uint32_t>(FxImage::kMxcsr, from.mxcsr);
    for (unsigned n = 0; n < 32; n++)
        for (unsigned word = 0; word < 8; word++) s.setVectorWord(n, word, from.vec[n].q[word]);
    s.opmask = from.opmask;
    return s;
}

}  // namespace kiln::test

#if defined(__x86_64__) && defined(__linux__)

#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstddef>

namespace kiln::test {
namespace {

constexpr uint64_t kControl = 0x10000000, kControlSize = 0x2000;  // the pages below
constexpr uint64_t kUserCode64 = 0x33, kUserCode32 = 0x23, kUserData32 = 0x2b;

// What the stubs and the signal handler share. They can't be given a pointer, so it has a fixed address.
struct Control {
    UserState in, out;
    uint64_t frame[5];  // for IRETQ: RIP, CS, RFLAGS, RSP, SS
    uint64_t hostRsp;
    uint64_t hostMxcsr;
    uint64_t exits[2];  // where the tails of the snippet and of kTaken jump to
    uint64_t taken;
    uint64_t avx;     // the host has YMM registers
    uint64_t avx512;  // and ZMM and opmask registers
    uint64_t running;
    uint64_t faulted;
    HostFault fault;
    struct sigaction before[5];
    stack_t stackBefore;
};
static_assert(sizeof(Control) <= kControlSize);
Control& control() { return *reinterpret_cast<Control*>(kControl); }

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

extern "C" void kilnOracleEnter();
extern "C" void kilnOracleExit();
extern "C" void kilnOracleExitTaken();
extern "C" void kilnOracleReturn();

// All addresses are absolute and below 2 GiB, so no register is needed to reach them.
__asm__(R"(
    .text
    .globl kilnOracleEnter, kilnOracleExit, kilnOracleExitTaken, kilnOracleReturn
    .hidden kilnOracleEnter, kilnOracleExit, kilnOracleExitTaken, kilnOracleReturn
kilnOracleEnter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov $KILN_CTL, %edi
    mov %rsp, KILN_HOST_RSP(%rdi)
    stmxcsr KILN_HOST_MXCSR(%rdi)
    mov $0x2b, %eax
    mov %eax, %ds
    mov %eax, %es
    fxrstor64 KILN_IN_FX(%rdi)
    cmpb $0, KILN_AVX(%rdi)
    je 1f
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vinsertf128 $1, KILN_IN_YMM+16*\n(%rdi), %ymm\n, %ymm\n
    .endr
    cmpb $0, KILN_AVX512(%rdi)
    je 1f
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vinsertf64x4 $1, KILN_IN_ZMM+32*\n(%rdi), %zmm\n, %zmm\n
    .endr
    .irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    vmovdqu64 KILN_IN_ZMM16+64*(\n-16)(%rdi), %zmm\n
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq KILN_IN_OPMASK+8*\n(%rdi), %k\n
    .endr
1:
    mov KILN_IN+0(%rdi), %rax
    mov KILN_IN+8(%rdi), %rcx
    mov KILN_IN+16(%rdi), %rdx
    mov KILN_IN+24(%rdi), %rbx
    mov KILN_IN+40(%rdi), %rbp
    mov KILN_IN+48(%rdi), %rsi
    mov KILN_IN+64(%rdi), %r8
    mov KILN_IN+72(%rdi), %r9
    mov KILN_IN+80(%rdi), %r10
    mov KILN_IN+88(%rdi), %r11
    mov KILN_IN+96(%rdi), %r12
    mov KILN_IN+104(%rdi), %r13
    mov KILN_IN+112(%rdi), %r14
    mov KILN_IN+120(%rdi), %r15
    lea KILN_FRAME(%rdi), %rsp
    mov KILN_IN+56(%rdi), %rdi
    iretq
kilnOracleExitTaken:
    movb $1, KILN_TAKEN
kilnOracleExit:
    mov %rsp, KILN_OUT_RSP
    mov %rdi, KILN_OUT_RDI
    mov $KILN_CTL, %edi
    mov %rax, KILN_OUT+0(%rdi)
    mov %rcx, KILN_OUT+8(%rdi)
    mov %rdx, KILN_OUT+16(%rdi)
    mov %rbx, KILN_OUT+24(%rdi)
    mov %rbp, KILN_OUT+40(%rdi)
    mov %rsi, KILN_OUT+48(%rdi)
    mov %r8, KILN_OUT+64(%rdi)
    mov %r9, KILN_OUT+72(%rdi)
    mov %r10, KILN_OUT+80(%rdi)
    mov %r11, KILN_OUT+88(%rdi)
    mov %r12, KILN_OUT+96(%rdi)
    mov %r13, KILN_OUT+104(%rdi)
    mov %r14, KILN_OUT+112(%rdi)
    mov %r15, KILN_OUT+120(%rdi)
    mov KILN_HOST_RSP(%rdi), %rsp
    pushfq
    popq KILN_OUT_FLAGS(%rdi)
    fxsave64 KILN_OUT_FX(%rdi)
    cmpb $0, KILN_AVX(%rdi)
    je kilnOracleReturn
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vextractf128 $1, %ymm\n, KILN_OUT_YMM+16*\n(%rdi)
    .endr
    cmpb $0, KILN_AVX512(%rdi)
    je kilnOracleReturn
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vextractf64x4 $1, %zmm\n, KILN_OUT_ZMM+32*\n(%rdi)
    .endr
    .irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    vmovdqu64 %zmm\n, KILN_OUT_ZMM16+64*(\n-16)(%rdi)
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq %k\n, KILN_OUT_OPMASK+8*\n(%rdi)
    .endr
kilnOracleReturn:
    mov $KILN_CTL, %edi
    mov KILN_HOST_RSP(%rdi), %rsp
    cld
    cmpb $0, KILN_AVX(%rdi)
    je 1f
    vzeroupper
1:
    fninit
    ldmxcsr KILN_HOST_MXCSR(%rdi)
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
)");

// The offsets as assembler symbols.
#define KILN_SYMBOL(name, value) __asm__(".set " #name ", %c0" ::"i"(value))
[[gnu::used]] void offsets() {
    KILN_SYMBOL(KILN_CTL, kControl);
    KILN_SYMBOL(KILN_IN, offsetof(Control, in));
    KILN_SYMBOL(KILN_IN_FX, offsetof(Control, in) + offsetof(UserState, fx));
    KILN_SYMBOL(KILN_OUT, offsetof(Control, out));
    KILN_SYMBOL(KILN_OUT_FX, offsetof(Control, out) + offsetof(UserState, fx));
    KILN_SYMBOL(KILN_IN_YMM, offsetof(Control, in) + offsetof(UserState, ymmHigh));
    KILN_SYMBOL(KILN_OUT_YMM, offsetof(Control, out) + offsetof(UserState, ymmHigh));
    KILN_SYMBOL(KILN_IN_ZMM, offsetof(Control, in) + offsetof(UserState, zmmHigh));
    KILN_SYMBOL(KILN_OUT_ZMM, offsetof(Control, out) + offsetof(UserState, zmmHigh));
    KILN_SYMBOL(KILN_IN_ZMM16, offsetof(Control, in) + offsetof(UserState, zmm16));
    KILN_SYMBOL(KILN_OUT_ZMM16, offsetof(Control, out) + offsetof(UserState, zmm16));
    KILN_SYMBOL(KILN_IN_OPMASK, offsetof(Control, in) + offsetof(UserState, opmask));
    KILN_SYMBOL(KILN_OUT_OPMASK, offsetof(Control, out) + offsetof(UserState, opmask));
    KILN_SYMBOL(KILN_AVX, offsetof(Control, avx));
    KILN_SYMBOL(KILN_AVX512, offsetof(Control, avx512));
    KILN_SYMBOL(KILN_OUT_FLAGS, offsetof(Control, out) + offsetof(UserState, rflags));
    KILN_SYMBOL(KILN_OUT_RSP, kControl + offsetof(Control, out) + 8 * Rsp);
    KILN_SYMBOL(KILN_OUT_RDI, kControl + offsetof(Control, out) + 8 * Rdi);
    KILN_SYMBOL(KILN_TAKEN, kControl + offsetof(Control, taken));
    KILN_SYMBOL(KILN_FRAME, offsetof(Control, frame));
    KILN_SYMBOL(KILN_HOST_RSP, offsetof(Control, hostRsp));
    KILN_SYMBOL(KILN_HOST_MXCSR, offsetof(Control, hostMxcsr));
}
#undef KILN_SYMBOL

// The signal frame's XSAVE image in the standard format (SDM vol. 1, 13.4); an absent component is all zeros.
void readUpperHalves(const uint8_t* image, UserState& out) {
    constexpr unsigned kHeader = 512, kYmmHigh = 576;
    out.ymmHigh = {};
    if (image[kHeader] & xfeature::AVX) std::memcpy(&out.ymmHigh, image + kYmmHigh, sizeof out.ymmHigh);
    auto component = [&](uint64_t bit, unsigned at, auto& to) {
        to = {};
        if (image[kHeader] & bit) std::memcpy(&to, image + at, sizeof to);
    };
    if (!control().avx512) return;
    component(xfeature::Opmask, 1088, out.opmask);
    component(xfeature::ZmmHi256, 1152, out.zmmHigh);
    component(xfeature::Hi16Zmm, 1664, out.zmm16);
}

void onSignal(int number, siginfo_t*, void* context) {
    Control& c = control();
    if (!c.running) {  // a bug of the test program itself: let it die of it
        signal(number, SIG_DFL);
        return;
    }
    auto* u = static_cast<ucontext_t*>(context);
    greg_t* g = u->uc_mcontext.gregs;
    static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                       REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                       REG_R12, REG_R13, REG_R14, REG_R15};
    for (unsigned n = 0; n < 16; n++) c.out.gpr[n] = uint64_t(g[kOrder[n]]);
    c.out.rip = uint64_t(g[REG_RIP]);
    c.out.rflags = uint64_t(g[REG_EFL]);
    std::memcpy(c.out.fx.bytes.data(), u->uc_mcontext.fpregs, 512);
    if (c.avx) readUpperHalves(reinterpret_cast<const uint8_t*>(u->uc_mcontext.fpregs), c.out);
    c.fault = {uint8_t(g[REG_TRAPNO]), uint32_t(g[REG_ERR]), uint64_t(g[REG_CR2])};
    c.faulted = 1;
    g[REG_RIP] = greg_t(uintptr_t(kilnOracleReturn));
    g[REG_RSP] = greg_t(c.hostRsp);
    g[REG_EFL] &= ~greg_t(flag::DF | flag::TF | flag::AC);
    auto segments = uint64_t(g[REG_CSGSFS]);
    g[REG_CSGSFS] = greg_t((segments & ~0xffffull) | kUserCode64);
}

uint8_t* mapFixed(uint64_t address, uint64_t size, int protection, int flags, int file) {
    void* p = mmap(reinterpret_cast<void*>(address), size, protection, flags | MAP_FIXED_NOREPLACE, file, 0);
    if (p != reinterpret_cast<void*>(address)) throw std::runtime_error("host oracle: address is taken");
    return static_cast<uint8_t*>(p);
}

// jmp to the address stored at `slot`, from 64-bit code or from compatibility mode.
void appendExit(uint8_t* to, bool code64, const uint64_t& slot) {
    if (code64) {
        uint8_t jump[7] = {0xff, 0x24, 0x25};
        auto where = uint32_t(reinterpret_cast<uintptr_t>(&slot));
        std::memcpy(jump + 3, &where, 4);
        std::memcpy(to, jump, sizeof jump);
    } else {  // through a 64-bit springboard in the code page: far jumps reach only 32 bits
        uint8_t jump[7] = {0xea};
        auto where = uint32_t(HostOracle::kCode + (&slot == &control().exits[0] ? 0xf00 : 0xf10));
        std::memcpy(jump + 1, &where, 4);
        jump[5] = kUserCode64;
        std::memcpy(to, jump, sizeof jump);
    }
}

bool systemSaves(uint64_t components) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1 << 27)) return false;  // OSXSAVE
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & components) == components;
}

}  // namespace

// By the features that kiln's own models need for it, which are places in CPUID. `unknown`: of what they
// don't know.
static bool hasFeaturesOf(ZydisISASet set, bool unknown) {
    FeatureSet needs;
    if (!requirements(set, ZYDIS_MNEMONIC_INVALID, CodeMode::Code64, needs)) return unknown;
    unsigned a, b, c, d, a1 = 0, ignored;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) a = b = c = d = 0;
    if (a) __get_cpuid_count(7, 1, &a1, &ignored, &ignored, &ignored);
    auto lacks = [&](CpuidWord word, unsigned has) { return needs.word(word) & ~has; };
    return !lacks(CpuidWord::Leaf7Ebx, b) && !lacks(CpuidWord::Leaf7Ecx, c) &&
           !lacks(CpuidWord::Leaf7Edx, d) && !lacks(CpuidWord::Leaf7Sub1Eax, a1);
}

bool HostOracle::available() {
    unsigned a, b, c, d;
    constexpr unsigned kSse42 = 1 << 20, kPopcnt = 1 << 23;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & (kSse42 | kPopcnt)) == (kSse42 | kPopcnt);
}

// CPUID's bit for each extension. AVX and what builds on it need the system's support as well.
bool HostOracle::runs(ZydisISASet set) {
    enum Register { Ebx, Ecx };
    struct Feature {
        ZydisISASet set;
        unsigned leaf;
        Register reg;
        unsigned bit;
        bool ymm;
    };
    static constexpr Feature kFeatures[] = {
        {ZYDIS_ISA_SET_AVX, 1, Ecx, 28, true},        {ZYDIS_ISA_SET_FMA, 1, Ecx, 12, true},
        {ZYDIS_ISA_SET_F16C, 1, Ecx, 29, true},       {ZYDIS_ISA_SET_AVXAES, 1, Ecx, 25, true},
        {ZYDIS_ISA_SET_AES, 1, Ecx, 25, false},       {ZYDIS_ISA_SET_PCLMULQDQ, 1, Ecx, 1, false},
        {ZYDIS_ISA_SET_MOVBE, 1, Ecx, 22, false},     {ZYDIS_ISA_SET_AVX2, 7, Ebx, 5, true},
        {ZYDIS_ISA_SET_AVX2GATHER, 7, Ebx, 5, true},  {ZYDIS_ISA_SET_BMI1, 7, Ebx, 3, false},
        {ZYDIS_ISA_SET_BMI2, 7, Ebx, 8, false},       {ZYDIS_ISA_SET_ADOX_ADCX, 7, Ebx, 19, false},
        {ZYDIS_ISA_SET_SHA, 7, Ebx, 29, false},       {ZYDIS_ISA_SET_GFNI, 7, Ecx, 8, false},
        {ZYDIS_ISA_SET_AVX_GFNI, 7, Ecx, 8, true},    {ZYDIS_ISA_SET_VAES, 7, Ecx, 9, true},
        {ZYDIS_ISA_SET_VPCLMULQDQ, 7, Ecx, 10, true},
    };
    constexpr uint64_t kZmm = xfeature::SSE | xfeature::AVX | xfeature::AVX512;
    if (std::string_view(ZydisISASetGetString(set)).starts_with("AVX512"))
        return systemSaves(kZmm) && hasFeaturesOf(set, false);
    for (const Feature& f : kFeatures) {
        if (f.set != set) continue;
        unsigned a, b, c, d;
        if (!__get_cpuid_count(f.leaf, 0, &a, &b, &c, &d)) return false;
        return (f.reg == Ebx ? b : c) >> f.bit & 1 && (!f.ymm || systemSaves(xfeature::SSE | xfeature::AVX));
    }
    return hasFeaturesOf(set, true);
}

HostOracle::HostOracle() {
    unsigned a, b = 0, c, d;
    __get_cpuid(0, &a, &b, &c, &d);
    intel_ = b == 0x756e6547;  // "Genu"
    mapFixed(kControl, kControlSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    mapFixed(kScratch, kScratchSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    int file = memfd_create("kiln-oracle", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, 4096)) throw std::runtime_error("host oracle: no memory file");
    mapFixed(kCode, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file);
    void* alias = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (alias == MAP_FAILED) throw std::runtime_error("host oracle: no code page");
    codeAlias_ = static_cast<uint8_t*>(alias);
    new (&control()) Control{};
    control().avx = runs(ZYDIS_ISA_SET_AVX);
    control().avx512 = runs(ZYDIS_ISA_SET_AVX512BW_512);
    control().exits[0] = uintptr_t(kilnOracleExit);
    control().exits[1] = uintptr_t(kilnOracleExitTaken);
    appendExit(codeAlias_ + 0xf00, true, control().exits[0]);
    appendExit(codeAlias_ + 0xf10, true, control().exits[1]);
    handleSignals(true);
    syscall(SYS_arch_prctl, ARCH_SET_GS, kGsBase);  // the C library uses FS only
}

HostOracle::~HostOracle() {
    syscall(SYS_arch_prctl, ARCH_SET_GS, 0ul);
    handleSignals(false);
    munmap(codeAlias_, 4096);
    munmap(reinterpret_cast<void*>(kCode), 4096);
    munmap(reinterpret_cast<void*>(kScratch), kScratchSize);
    munmap(reinterpret_cast<void*>(kControl), kControlSize);
}

void HostOracle::handleSignals(bool on) {
    static uint8_t signalStack[64 * 1024];
    Control& c = control();
    if (on) {
        stack_t stack{};
        stack.ss_sp = signalStack;
        stack.ss_size = sizeof signalStack;
        sigaltstack(&stack, &c.stackBefore);
    }
    for (size_t n = 0; n < std::size(kSignals); n++) {
        if (on) {
            struct sigaction action {};
            action.sa_sigaction = onSignal;
            action.sa_flags = SA_SIGINFO | SA_ONSTACK;
            sigaction(kSignals[n], &action, &c.before[n]);
        } else {
            sigaction(kSignals[n], &c.before[n], nullptr);
        }
    }
    if (!on) sigaltstack(&c.stackBefore, nullptr);
}

std::optional<HostFault> HostOracle::run(std::span<const uint8_t> code, uint64_t where, bool code64,
                                         UserState& state) {
    Control& c = control();
    uint8_t* to = codeAlias_ + (where - kCode);
    std::memcpy(to, code.data(), code.size());
    appendExit(to + code.size(), code64, c.exits[0]);
    appendExit(codeAlias_ + (kTaken - kCode), code64, c.exits[1]);
    c.in = state;
    c.frame[0] = where;
    c.frame[1] = code64 ? kUserCode64 : kUserCode32;
    c.frame[2] = (state.rflags & (flag::Arithmetic | flag::DF)) | flag::IF | 2;
    c.frame[3] = state.gpr[Rsp];
    c.frame[4] = kUserData32;
    c.taken = c.faulted = 0;
    c.running = 1;
    kilnOracleEnter();
    c.running = 0;
    uint64_t faultRip = c.out.rip;
    state = c.out;
    if (c.faulted) {
        state.rip = faultRip;
        return c.fault;
    }
    state.rip = c.taken ? kTaken : where + code.size();
    return {};
}

}  // namespace kiln::test

#else

namespace kiln::test {
bool HostOracle::available() { return false; }
bool HostOracle::runs(ZydisISASet) { return false; }
HostOracle::HostOracle() { throw std::runtime_error("no host oracle on this machine"); }
HostOracle::~HostOracle() = default;
std::optional<HostFault> HostOracle::run(std::span<const uint8_t>, uint64_t, bool, UserState&) { return {}; }
}  // namespace kiln::test

#endif
