// Every way from one mode to another: which instruction makes it, which combinations are refused and how (SDM
// vol. 3, 2.2, 10.8.5, 10.9, 21.2; vol. 2, the instructions' own pages).
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

enum class Now { Real, Protected16, Protected32, V86, Compat16, Compat32, Long64 };

Now modeOf(const Cpu& c) {
    if (c.real()) return Now::Real;
    if (c.v86()) return Now::V86;
    if (c.code64()) return Now::Long64;
    const bool big = c.seg[Cs].big();
    if (c.longMode()) return big ? Now::Compat32 : Now::Compat16;
    return big ? Now::Protected32 : Now::Protected16;
}

constexpr uint16_t kTry = 0x40, kTssSlot = 0x50;
constexpr uint64_t kCodeAt = SystemGuest::kCodeAt;
constexpr unsigned kFlagL = 2, kFlagD = 4, kFlagG = 8;
constexpr uint64_t kPe = cr0::PE, kPg = cr0::PG, kBase0 = cr0::ET | cr0::NE | cr0::MP;
constexpr int kFine = -1;

using Setup = void (*)(SystemGuest&);
void nothing(SystemGuest&) {}

struct Edge {
    const char* what;
    Mode from;
    unsigned cpl;
    Setup setup;
    std::initializer_list<uint8_t> code;
    int vector;  // kFine, or what it raises, with error code
    uint32_t error;
    Now now;  // afterwards, when fine
    unsigned cplNow = 0;
};

constexpr std::initializer_list<uint8_t> kMovCr0 = {0x0f, 0x22, 0xc0}, kMovCr3 = {0x0f, 0x22, 0xd8},
                                         kMovCr4 = {0x0f, 0x22, 0xe0}, kLmsw = {0x0f, 0x01, 0xf0},
                                         kWrmsr = {0x0f, 0x30}, kIret = {0xcf}, kIretq = {0x48, 0xcf},
                                         kSyscall = {0x0f, 0x05}, kSysret = {0x0f, 0x07},
                                         kSysretq = {0x48, 0x0f, 0x07}, kSysenter = {0x0f, 0x34},
                                         kSysexit = {0x0f, 0x35}, kSysexitq = {0x48, 0x0f, 0x35},
                                         kRsm = {0x0f, 0xaa}, kFarTry = {0xea, 0, 0, 5, 0, kTry, 0},
                                         kFarTask = {0xea, 0, 0, 0, 0, kTssSlot, 0},
                                         kFarMem = {0xff, 0x2d, 0, 0x10, 0, 0};  // jmp far [rip + 1000h]

template <uint64_t V>
void rax(SystemGuest& g) {
    g.cpu.gpr[Rax] = V;
}
// EFER := V by WRMSR.
template <uint64_t V>
void efer_(SystemGuest& g) {
    g.cpu.gpr[Rcx] = 0xc0000080;
    g.cpu.gpr[Rax] = V;
    g.cpu.gpr[Rdx] = 0;
}
// Ready for paging: page tables of 4 levels at 8000h of which nothing is used before the next fetch.
void pagesOn(SystemGuest& g, uint64_t cr4Bits, uint64_t eferBits) {
    g.addRam(0x200000, 0x4000);
    g.put<uint64_t>(0x200000, 0x201000 | 7);
    g.put<uint64_t>(0x201000, 0x83);  // a large page, as PML4 -> PDPT -> PD of 4 levels
    g.cpu.setCr4(g.cpu.cr4 | cr4Bits);
    g.cpu.setEfer(eferBits);
    g.cpu.setCr3(0x200000);
    g.cpu.gpr[Rax] = kPg | kPe | kBase0;
}
void frame32(SystemGuest& g, uint32_t eip, uint32_t cs, uint32_t flags) {
    g.push<uint32_t>({eip, cs, flags});
}
void v86Frame(SystemGuest& g) { g.push<uint32_t>({0x100, 0x5000, flag::VM | 2, 0x3000, 0x4000, 0, 0, 0, 0}); }
void code(SystemGuest& g, unsigned access, unsigned flags) {
    g.setGdt(kTry, segment(access, 0, 0xfffff, kFlagG | flags));
}
void farPointer(SystemGuest& g) {
    g.put<uint32_t>(kCodeAt + 6 + 0x1000, 0x50000);
    g.put<uint16_t>(kCodeAt + 6 + 0x1004, kTry);
}

const Edge kEdges[] = {
    // -- CR0: what there is and what not
    {"real, PE", Mode::Real16, 0, rax<kPe | kBase0>, kMovCr0, kFine, 0, Now::Protected16},
    {"real, LMSW PE", Mode::Real16, 0, rax<1>, kLmsw, kFine, 0, Now::Protected16},
    {"real, PG without PE", Mode::Real16, 0, rax<kPg | kBase0>, kMovCr0, kGP, 0, Now::Real},
    {"NW without CD", Mode::Real16, 0, rax<cr0::NW | kBase0>, kMovCr0, kGP, 0, Now::Real},
    {"NW with CD", Mode::Real16, 0, rax<cr0::NW | cr0::CD | kBase0>, kMovCr0, kFine, 0, Now::Real},
    {"protected to real", Mode::Protected32, 0, rax<kBase0>, kMovCr0, kFine, 0, Now::Real},
    {"LMSW does not leave", Mode::Protected32, 0, rax<0>, kLmsw, kFine, 0, Now::Protected32},
    {"CR0 from ring 3", Mode::Protected32, 3, rax<kPe | kBase0>, kMovCr0, kGP, 0, Now::Real},
    {"LMSW from ring 3", Mode::Protected32, 3, rax<1>, kLmsw, kGP, 0, Now::Real},
    {"upper half of CR0", Mode::Long64, 0, rax<1ull << 32 | kPe | kPg | kBase0>, kMovCr0, kGP, 0, Now::Real},
    {"PG off in 64-bit mode", Mode::Long64, 0, rax<kPe | kBase0>, kMovCr0, kGP, 0, Now::Real},
    {"PG and PE off in 64-bit mode", Mode::Long64, 0, rax<kBase0>, kMovCr0, kGP, 0, Now::Real},
    {"PE off alone in long mode", Mode::Compat32, 0, rax<kPg | kBase0>, kMovCr0, kGP, 0, Now::Real},
    {"PG off in compatibility mode", Mode::Compat32, 0, rax<kPe | kBase0>, kMovCr0, kFine, 0,
     Now::Protected32},
    {"PG and PE off in compatibility mode", Mode::Compat32, 0, rax<kBase0>, kMovCr0, kFine, 0, Now::Real},

    // -- into long mode
    {"PG with LME and PAE", Mode::Protected32, 0, [](SystemGuest& g) { pagesOn(g, cr4::PAE, efer::LME); },
     kMovCr0, kFine, 0, Now::Compat32},
    {"PG with LME without PAE", Mode::Protected32, 0, [](SystemGuest& g) { pagesOn(g, 0, efer::LME); },
     kMovCr0, kGP, 0, Now::Real},
    {"PG with LME from CS.L",
     Mode::Protected32, 0,
     [](SystemGuest& g) {
         pagesOn(g, cr4::PAE, efer::LME);
         g.cpu.seg[Cs].rights |= 0x2000;
     },
     kMovCr0, kGP, 0, Now::Real},
    {"PG with LME under a 16-bit TSS",
     Mode::Protected32, 0,
     [](SystemGuest& g) {
         pagesOn(g, cr4::PAE, efer::LME);
         g.cpu.tr.rights = 0x83;
     },
     kMovCr0, kGP, 0, Now::Real},
    {"PG without LME", Mode::Protected32, 0, [](SystemGuest& g) { pagesOn(g, 0, 0); }, kMovCr0, kFine, 0,
     Now::Protected32},
    {"PG with PAE and a reserved bit in a top entry",
     Mode::Protected32, 0,
     [](SystemGuest& g) {
         pagesOn(g, cr4::PAE, 0);
         g.put<uint64_t>(0x200008, 3);
     },
     kMovCr0, kGP, 0, Now::Real},
    {"LME on under paging", Mode::Long64, 0, efer_<efer::SCE | efer::NXE>, kWrmsr, kGP, 0, Now::Real},
    {"LME kept under paging", Mode::Long64, 0, efer_<efer::LME>, kWrmsr, kFine, 0, Now::Long64},
    {"LMA is not written", Mode::Protected32, 0, efer_<efer::LMA>, kWrmsr, kFine, 0, Now::Protected32},
    {"reserved bit of EFER", Mode::Protected32, 0, efer_<2>, kWrmsr, kGP, 0, Now::Real},
    {"WRMSR from ring 3", Mode::Protected32, 3, efer_<efer::LME>, kWrmsr, kGP, 0, Now::Real},
    {"PAE off in long mode", Mode::Long64, 0, rax<cr4::OSFXSR>, kMovCr4, kGP, 0, Now::Real},
    {"LA57 on in long mode", Mode::Long64, 0, rax<cr4::PAE | cr4::LA57>, kMovCr4, kGP, 0, Now::Real},
    {"reserved bit of CR4", Mode::Protected32, 0, rax<1u << 31>, kMovCr4, kGP, 0, Now::Real},
    {"upper half of CR4", Mode::Long64, 0, rax<1ull << 40 | cr4::PAE>, kMovCr4, kGP, 0, Now::Real},
    {"CR3 beyond the physical width", Mode::Long64, 0, rax<1ull << 52>, kMovCr3, kGP, 0, Now::Real},

    // -- far jumps between 16, 32 and 64 bits
    {"to 16-bit code", Mode::Protected32, 0, [](SystemGuest& g) { code(g, kCodeRx, 0); }, kFarTry, kFine, 0,
     Now::Protected16},
    {"L means nothing outside long mode", Mode::Protected32, 0,
     [](SystemGuest& g) { code(g, kCodeRx, kFlagL); }, kFarTry, kFine, 0, Now::Protected16},
    {"compatibility to 64 bits", Mode::Compat32, 0, [](SystemGuest& g) { code(g, kCodeRx, kFlagL); },
     kFarTry, kFine, 0, Now::Long64},
    {"compatibility to 16 bits", Mode::Compat32, 0, [](SystemGuest& g) { code(g, kCodeRx, 0); }, kFarTry,
     kFine, 0, Now::Compat16},
    {"L and D together", Mode::Compat32, 0, [](SystemGuest& g) { code(g, kCodeRx, kFlagL | kFlagD); },
     kFarTry, kGP, kTry, Now::Real},
    {"no direct far jump in 64-bit mode", Mode::Long64, 0,
     [](SystemGuest& g) { code(g, kCodeRx, kFlagD); }, kFarTry, kUD, 0, Now::Real},
    {"64 bits to compatibility", Mode::Long64, 0,
     [](SystemGuest& g) {
         code(g, kCodeRx, kFlagD);
         farPointer(g);
     },
     kFarMem, kFine, 0, Now::Compat32},
    {"no task in long mode", Mode::Compat32, 0,
     [](SystemGuest& g) { g.setGdt(kTssSlot, segment(kTss32, 0x4000, 0x67, 0)); }, kFarTask, kGP, kTssSlot,
     Now::Real},
    {"no task gate in long mode", Mode::Compat32, 0,
     [](SystemGuest& g) { g.setGdt(kTssSlot, gate(kTaskGateType, 0x28, 0)); }, kFarTask, kGP, kTssSlot,
     Now::Real},
    {"no 16-bit call gate in long mode", Mode::Compat32, 0,
     [](SystemGuest& g) { g.setGdt(kTssSlot, gate(kCallGate16, kCode0, 0)); }, kFarTask, kGP, kTssSlot,
     Now::Real},
    {"a call gate whose upper half has a type", Mode::Compat32, 0,
     [](SystemGuest& g) {
         g.setGdt(kTssSlot, gate(kCallGate32, 0x38, 0x50000));
         g.setGdt(kTssSlot + 8, 1ull << 40);
     },
     kFarTask, kGP, kTssSlot, Now::Real},
    {"a call gate into 64 bits", Mode::Compat32, 0,
     [](SystemGuest& g) {
         g.setGdt(kTssSlot, gate(kCallGate32, 0x38, 0x50000));
         g.setGdt(kTssSlot + 8, 0);
     },
     kFarTask, kFine, 0, Now::Long64},

    // -- virtual-8086 mode
    {"IRETD to V86", Mode::Protected32, 0, v86Frame, kIret, kFine, 0, Now::V86, 3},
    {"IRETD to V86 beyond 64 KiB", Mode::Protected32, 0,
     [](SystemGuest& g) {
         v86Frame(g);
         g.put<uint32_t>(0x80000 - 36, 0x10000);
     },
     kIret, kGP, 0, Now::Real},
    {"VM counts at ring 0 only", Mode::Protected32, 3,
     [](SystemGuest& g) { frame32(g, kCodeAt, kCode3, flag::VM | 2); }, kIret, kFine, 0, Now::Protected32, 3},
    {"VM does not count in long mode", Mode::Compat32, 0,
     [](SystemGuest& g) { frame32(g, kCodeAt, kCode0, flag::VM | 2); }, kIret, kFine, 0, Now::Compat32},
    {"POPFD does not set VM", Mode::Protected32, 0,
     [](SystemGuest& g) { g.push<uint32_t>({flag::VM | 2}); }, {0x9d}, kFine, 0, Now::Protected32},

    // -- IRET and levels
    {"IRETD to ring 3", Mode::Protected32, 0,
     [](SystemGuest& g) { g.push<uint32_t>({kCodeAt, kCode3, 2, 0x70000, kData3}); }, kIret, kFine, 0,
     Now::Protected32, 3},
    {"IRETD to an inner ring", Mode::Protected32, 3, [](SystemGuest& g) { frame32(g, kCodeAt, kCode0, 2); },
     kIret, kGP, kCode0, Now::Real},
    {"IRETQ to compatibility mode", Mode::Long64, 0,
     [](SystemGuest& g) {
         g.setGdt(kTry, segment(kCodeRx | dpl(3), 0, 0xfffff, kFlagG | kFlagD));
         g.push<uint64_t>({kCodeAt, kTry | 3, 2, 0x70000, kData3});
     },
     kIretq, kFine, 0, Now::Compat32, 3},
    {"IRETQ with NT", Mode::Long64, 0,
     [](SystemGuest& g) {
         g.push<uint64_t>({kCodeAt, kCode0, 2, 0x70000, kData0});
         g.cpu.flags.change(flag::NT, true);
     },
     kIretq, kGP, 0, Now::Real},

    // -- system calls
    {"SYSCALL outside 64-bit mode", Mode::Compat32, 3, nothing, kSyscall, kUD, 0, Now::Real},
    {"SYSCALL in protected mode", Mode::Protected32, 3, nothing, kSyscall, kUD, 0, Now::Real},
    {"SYSCALL without SCE", Mode::Long64, 3, [](SystemGuest& g) { g.cpu.setEfer(efer::LME); }, kSyscall, kUD,
     0, Now::Real},
    {"SYSCALL", Mode::Long64, 3,
     [](SystemGuest& g) {
         g.cpu.msr.star = uint64_t(kCode0) << 32;
         g.cpu.msr.lstar = kCodeAt;
     },
     kSyscall, kFine, 0, Now::Long64, 0},
    {"SYSRET from ring 3", Mode::Long64, 3, nothing, kSysretq, kGP, 0, Now::Real},
    {"SYSRET outside 64-bit mode", Mode::Compat32, 0, nothing, kSysret, kUD, 0, Now::Real},
    {"SYSRET to 64 bits", Mode::Long64, 0, [](SystemGuest& g) { g.cpu.gpr[Rcx] = kCodeAt; }, kSysretq, kFine,
     0, Now::Long64, 3},
    {"SYSRET to compatibility mode", Mode::Long64, 0, [](SystemGuest& g) { g.cpu.gpr[Rcx] = kCodeAt; },
     kSysret, kFine, 0, Now::Compat32, 3},
    {"SYSRET off the canonical range", Mode::Long64, 0,
     [](SystemGuest& g) { g.cpu.gpr[Rcx] = 1ull << 63; }, kSysretq, kGP, 0, Now::Real},
    {"SYSENTER without a segment", Mode::Protected32, 3, nothing, kSysenter, kGP, 0, Now::Real},
    {"SYSENTER", Mode::Protected32, 3, [](SystemGuest& g) { g.cpu.msr.sysenterCs = kCode0; }, kSysenter,
     kFine, 0, Now::Protected32, 0},
    {"SYSENTER from compatibility to 64 bits", Mode::Compat32, 3,
     [](SystemGuest& g) { g.cpu.msr.sysenterCs = kCode0; }, kSysenter, kFine, 0, Now::Long64, 0},
    {"SYSEXIT from ring 3", Mode::Protected32, 3, [](SystemGuest& g) { g.cpu.msr.sysenterCs = kCode0; },
     kSysexit, kGP, 0, Now::Real},
    {"SYSEXIT", Mode::Protected32, 0, [](SystemGuest& g) { g.cpu.msr.sysenterCs = kCode0; }, kSysexit, kFine,
     0, Now::Protected32, 3},
    {"SYSEXIT to compatibility mode", Mode::Long64, 0,
     [](SystemGuest& g) { g.cpu.msr.sysenterCs = kCode0; }, kSysexit, kFine, 0, Now::Compat32, 3},
    {"SYSEXIT to 64 bits", Mode::Long64, 0, [](SystemGuest& g) { g.cpu.msr.sysenterCs = kCode0; }, kSysexitq,
     kFine, 0, Now::Long64, 3},
    {"RSM outside SMM", Mode::Protected32, 0, nothing, kRsm, kUD, 0, Now::Real},
};

}  // namespace

TEST_CASE("edges between modes, legal and not") {
    for (const Edge& e : kEdges) {
        CAPTURE(std::string(e.what));
        SystemGuest g(e.from, e.cpl);
        const uint64_t at = e.from == Mode::Real16 ? 0x7000 : kCodeAt;
        e.setup(g);
        g.write(at, std::vector<uint8_t>(e.code));
        g.cpu.rip = at;
        if (e.vector != kFine) {
            auto raised = g.step();
            REQUIRE(raised.has_value());
            CHECK(int(raised->vector) == e.vector);
            if (e.from != Mode::Real16) CHECK(raised->error == e.error);
            CHECK(raised->rip == at);
            CHECK(g.shutdown.empty());
            continue;
        }
        g.cpu.singleStep();
        CHECK(int(modeOf(g.cpu)) == int(e.now));
        CHECK(g.cpu.cpl == e.cplNow);
        CHECK((g.cpu.rip < 0x6000 || g.cpu.rip >= 0x6800));  // in no handler
        CHECK(g.shutdown.empty());
        CHECK(bool(g.cpu.efer & efer::LMA) == (e.now >= Now::Compat16));
    }
}

TEST_CASE("real-mode real addresses after a visit in protected mode: limits and bases stay until a load") {
    SystemGuest g(Mode::Protected32);
    g.setGdt(kTry, segment(kDataRw, 0x10000, 0xfffff, kFlagG | kFlagD));
    g.cpu.gpr[Rax] = kTry;
    CHECK_FALSE(g.does({0x8e, 0xd8}));  // mov ds, ax
    g.cpu.gpr[Rax] = kBase0;
    g.code({0x0f, 0x22, 0xc0});
    g.cpu.singleStep();
    REQUIRE(g.cpu.real());
    CHECK(g.cpu.seg[Ds].limit == 0xffffffff);
    CHECK(g.cpu.seg[Ds].base == 0x10000);
    CHECK(g.cpu.seg[Cs].limit == 0xffffffff);
    g.put<uint32_t>(0x70000, 0x12345678);
    g.cpu.gpr[Rsi] = 0x60000;
    g.write(kCodeAt + 3, std::vector<uint8_t>{0x8b, 0x06});  // CS still has D: mov eax, [esi]
    g.cpu.singleStep();
    CHECK(g.cpu.gpr[Rax] == 0x12345678);
    g.cpu.gpr[Rax] = 0x2000;
    g.write(kCodeAt + 5, std::vector<uint8_t>{0x8e, 0xd8});
    g.cpu.singleStep();
    CHECK(g.cpu.seg[Ds].base == 0x20000);
    CHECK(g.cpu.seg[Ds].limit == 0xffffffff);  // "unreal" mode
}

TEST_CASE("alignment checks by operand, as processors make them") {
    struct {
        const char* what;
        std::initializer_list<uint8_t> code;  // of an operand at [rbx]
        unsigned natural;                     // 0: never #AC
        unsigned demanded;                    // #GP below; 0: none
    } cases[] = {
        {"mov ecx, [rbx]", {0x8b, 0x0b}, 4, 0},
        {"mov cx, [rbx]", {0x66, 0x8b, 0x0b}, 2, 0},
        {"mov rcx, [rbx]", {0x48, 0x8b, 0x0b}, 8, 0},
        {"add [rbx], rcx", {0x48, 0x01, 0x0b}, 8, 0},
        {"movups xmm0, [rbx]", {0x0f, 0x10, 0x03}, 0, 0},
        {"movups [rbx], xmm0", {0x0f, 0x11, 0x03}, 0, 0},
        {"movdqu xmm0, [rbx]", {0xf3, 0x0f, 0x6f, 0x03}, 0, 0},
        {"movaps xmm0, [rbx]", {0x0f, 0x28, 0x03}, 0, 16},
        {"movlps xmm0, [rbx]", {0x0f, 0x12, 0x03}, 8, 0},
        {"movsd xmm0, [rbx]", {0xf2, 0x0f, 0x10, 0x03}, 8, 0},
        {"fld tbyte [rbx]", {0xdb, 0x2b}, 8, 0},
        {"fstp tbyte [rbx]", {0xdb, 0x3b}, 8, 0},
        {"fbstp [rbx]", {0xdf, 0x33}, 8, 0},
        {"fld qword [rbx]", {0xdd, 0x03}, 8, 0},
        {"fnstenv [rbx]", {0xd9, 0x33}, 4, 0},
        {"fnsave [rbx]", {0xdd, 0x33}, 4, 0},
        {"frstor [rbx]", {0xdd, 0x23}, 4, 0},
        {"fxsave [rbx]", {0x0f, 0xae, 0x03}, 4, 16},
        {"cmpxchg8b [rbx]", {0x0f, 0xc7, 0x0b}, 8, 0},
        {"sgdt [rbx]", {0x0f, 0x01, 0x03}, 4, 0},
        {"bt [rbx], ecx", {0x0f, 0xa3, 0x0b}, 4, 0},
        {"push [rbx]", {0xff, 0x33}, 8, 0},
    };
    for (auto& c : cases)
        for (unsigned offset = 0; offset < 32; offset++) {
            CAPTURE(std::string(c.what));
            CAPTURE(offset);
            SystemGuest g(Mode::Long64, 3);
            g.cpu.setCr0(g.cpu.cr0 | cr0::AM);
            g.cpu.writeFlags(flag::AC | 2, ~0ull);
            g.cpu.fpu.empty = 0;
            g.cpu.gpr[Rbx] = 0x60000 + offset;
            auto raised = g.does(c.code);
            int wanted = -1;
            if (c.demanded && offset % c.demanded) wanted = kGP;
            if (c.natural && offset % c.natural) wanted = kAC;
            CHECK((raised ? int(raised->vector) : -1) == wanted);
        }
}

TEST_CASE("long mode: LAR and LSL see all 16 bytes of a system descriptor") {
    for (bool inTable : {true, false})
        for (unsigned upperType : {0u, 1u}) {
            CAPTURE(inTable);
            CAPTURE(upperType);
            SystemGuest g(Mode::Long64);
            g.setGdt(kTssSlot, segment(kTss32, 0x4000, 0x67, 0));
            g.setGdt(kTssSlot + 8, uint64_t(upperType) << 40);
            if (!inTable) g.cpu.gdtr.limit = kTssSlot + 7;
            for (uint8_t opcode : {0x02, 0x03}) {
                g.cpu.gpr[Rbx] = kTssSlot;
                CHECK_FALSE(g.does({0x0f, opcode, 0xc3}));
                CHECK(g.cpu.flags.zf() == (inTable && !upperType));
            }
        }
}

TEST_CASE("a task switch with a bad CR3 under PAE is refused while the old task is current") {
    SystemGuest g(Mode::Protected32);
    g.addRam(0x200000, 0x4000);
    g.put<uint64_t>(0x200000, 0x201001);
    g.put<uint64_t>(0x201000, 0x83);
    g.put<uint64_t>(0x203000, 0x201001 | 4);  // reserved
    g.cpu.setCr4(g.cpu.cr4 | cr4::PAE);
    g.cpu.setCr3(0x200000);
    g.cpu.setCr0(g.cpu.cr0 | cr0::PG);
    g.setGdt(kTssSlot, segment(kTss32, 0x4000, 0x67, 0));
    g.put<uint32_t>(0x4000 + 28, 0x203000);
    CHECK_RAISES(g.does(kFarTask), kGP, 0);
    CHECK(g.cpu.tr.selector == 0x28);
    CHECK((g.gdt(kTssSlot) >> 41 & 1) == 0);
    CHECK(g.cpu.cr3 == 0x200000);
}
