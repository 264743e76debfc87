// The translator against the interpreter on systems: user programs that make system calls, take faults and
// interrupts, and a kernel whose entry points change modes, rights and page tables. Both engines must be at
// the same instruction, with the same state and the same count, whenever a slice ends.
//
//   KILN_FUZZ_ITERATIONS  systems     KILN_FUZZ_SEED  another sequence
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/cpu_bench.hpp"
#include "tests/differences.hpp"
#include "tests/random.hpp"
#include "translate/translator.hpp"

namespace kiln::test {
namespace {

constexpr uint64_t kUser = 0x200000, kKernel = 0x210000, kCodePages = 3;
constexpr uint64_t kData = 0x400000, kDataPages = 16;
constexpr uint64_t kFar = 3ull << 32;  // from a place in the data to where it is mapped once more
constexpr uint64_t kBell = 0x500000;
constexpr uint64_t kKernelStack = 0x5f00, kSyscallStack = 0x5000, kUserStack = kData + 0x1800;

// Machine code put together piece by piece. Every piece begins by telling in r14 where it ends, which is
// where a handler goes on that can't mend a fault.
class Code {
  public:
    explicit Code(uint64_t at) : at_(at) {}
    void operator()(std::initializer_list<int> bytes) {
        for (int b : bytes) bytes_.push_back(uint8_t(b));
    }
    void word(uint64_t v, unsigned bytes) {
        for (unsigned n = 0; n < bytes; n++) bytes_.push_back(uint8_t(v >> 8 * n));
    }
    void mov(unsigned reg, uint64_t v) {  // MOV r64, imm64
        (*this)({0x48 | int(reg >> 3), 0xb8 | int(reg & 7)});
        word(v, 8);
    }
    uint64_t here() const { return at_ + bytes_.size(); }
    void begin() {
        (*this)({0x49, 0xbe});
        open_ = bytes_.size();
        word(0, 8);
    }
    void end() {
        const uint64_t to = here();
        std::memcpy(&bytes_[open_], &to, 8);
    }
    void jumpTo(uint64_t target) {
        (*this)({0xe9});
        word(target - (here() + 4), 4);
    }
    void padTo(uint64_t offset) { bytes_.resize(offset, 0x90); }
    const std::vector<uint8_t>& bytes() const { return bytes_; }

  private:
    uint64_t at_;
    std::vector<uint8_t> bytes_;
    size_t open_ = 0;
};

// Registers in memory: a write to them sends an interrupt at once, in the middle of what runs.
struct Bell final : IoHandler {
    explicit Bell(LocalApic& apic) : apic(apic) {}
    uint64_t ioRead(uint64_t offset, unsigned) override { return offset + rung; }
    void ioWrite(uint64_t, unsigned, uint64_t value) override {
        rung++;
        if (value & 4) return;
        const bool nmi = value & 1;
        apic.accept(
            {.mode = nmi ? DeliveryMode::Nmi : DeliveryMode::Fixed, .vector = uint8_t(nmi ? 0 : 0x40)});
    }
    LocalApic& apic;
    uint64_t rung = 0;
};

class SystemFuzz {
  public:
    explicit SystemFuzz(uint64_t seed) : random_(seed) {
        plain_.translator.reset();
        translated_.translator.reset();
        for (GuestBench* b : both()) {
            b->addRam(kUser, 0x20000);
            b->addRam(kData, kDataPages * kPageSize);
            for (uint64_t n = 0; n < kDataPages; n++)
                b->map(kData + kFar + n * kPageSize, kData + n * kPageSize);
            b->map(kBell, kBell);
            b->memory.mapIo(PhysAddr(kBell), kPageSize, b == &plain_ ? bells_[0] : bells_[1]);
            b->enableAvx();
            Cpu& c = b->cpu;
            c.setCr4(c.cr4 | cr4::FSGSBASE | cr4::SMAP | cr4::PGE | cr4::PCIDE | cr4::OSXSAVE);
            c.setPkru(0);
            REQUIRE(b->apic.setApicBase(0xfee00c00 | 0x100));
            REQUIRE(b->apic.writeMsr(0x80f, 0x1ff));
            pte_ = pteOf(*b, kData);
        }
        const bool background = environment("KILN_FUZZ_BACKGROUND", 0);
        translator_ = std::make_unique<Translator>(
            translated_.cpu, TranslatorOptions{.tier1 = 2, .tier2 = 1, .ways = 1, .background = background});
    }

    bool run(uint64_t systems) {
        for (uint64_t n = 0; n < systems; n++)
            if (!one()) return false;
        return true;
    }
    const Translator& translator() const { return *translator_; }
    uint64_t executed() const { return plain_.cpu.executed(); }

  private:
    std::array<GuestBench*, 2> both() { return {&plain_, &translated_}; }

    static uint64_t pteOf(GuestBench& b, uint64_t linear) {
        uint64_t table = b.cpu.cr3 & ~kPageMask;
        for (int level = 3; level > 0; level--)
            table = b.memory.read<uint64_t>(PhysAddr(table + (linear >> (12 + 9 * level) & 511) * 8)) &
                    ~kPageMask;
        return table + (linear >> 12 & 511) * 8;
    }
    uint64_t dataPlace() {
        if (oneIn(random_, 12))
            return kData + below(random_, kDataPages) * kPageSize - 3;  // over a page's end
        return kData + below(random_, kDataPages * kPageSize / 8) * 8;
    }

    // -- pieces. rdi, rsi: places in the data

    void anywhere(Code& c) {
        const uint64_t place = dataPlace();
        c.mov(7, place);
        c.mov(6, oneIn(random_, 4) ? (oneIn(random_, 2) ? place : dataPlace()) + kFar : dataPlace());
        switch (below(random_, 14)) {
            case 0: c({0x48, 0x8b, 0x07}); break;                    // mov rax, [rdi]
            case 1: c({0x48, 0x89, 0x06}); break;                    // mov [rsi], rax
            case 2: c({0x48, 0x01, 0x5f, 0x10}); break;              // add [rdi+16], rbx
            case 3: c({0xff, 0x37, 0x8f, 0x06}); break;              // push [rdi]; pop [rsi]
            case 4: c({0x0f, 0x10, 0x07, 0x0f, 0x11, 0x06}); break;  // movups
            case 5: c({0x0f, 0x28, 0x07}); break;                    // movaps, perhaps misaligned
            case 6: c({0xb9}), c.word(below(random_, 5000), 4), c({0xf3, 0xa4}); break;       // rep movsb
            case 7: c({0xb9}), c.word(below(random_, 600), 4), c({0xf3, 0x48, 0xab}); break;  // rep stosq
            case 8: c({0xb9}), c.word(below(random_, 300), 4), c({0xf3, 0xa6}); break;        // repe cmpsb
            case 9: c({0xb9}), c.word(below(random_, 300), 4), c({0xf2, 0xae}); break;        // repne scasb
            case 12: c({0x48, int(0xa5 | (random_() & 2))}); break;                           // movsq, cmpsq
            case 10: c({0x48, 0x01, 0xd8, 0x9c, 0x58}); break;  // add rax, rbx; pushfq; pop rax
            case 11: c({0x48, 0x29, 0xd3, 0x9c, 0x48, 0xff, 0x07, 0x9d}); break;  // pushfq; inc [rdi]; popfq
            default: c({0xc5, 0xfe, 0x6f, 0x07, 0xc5, 0xfe, 0x7f, 0x06});         // vmovdqu ymm0
        }
    }
    // And a branch that may leave the block in front of its end.
    void ring(Code& c) {
        c.mov(7, kBell + below(random_, 4) * 8);
        static constexpr int kRings[][3] = {{0x48, 0x89, 0x07},   // mov [rdi], rax
                                            {0x48, 0x01, 0x1f},   // add [rdi], rbx
                                            {0x48, 0x87, 0x0f},   // xchg [rdi], rcx
                                            {0x66, 0x0f, 0xd6}};  // movq [rdi], xmm0
        const auto& bytes = kRings[below(random_, 4)];
        c({bytes[0], bytes[1], bytes[2]});
        if (bytes[0] == 0x66) c({0x07});
        const int rest = int(below(random_, 4)) * 3;
        c({0x48, 0x85, 0xc0, int(0x70 + below(random_, 16)), rest});  // test rax, rax; jcc
        for (int n = 0; n < rest; n += 3) c({0x48, 0xff, 0xc0});      // inc rax
    }
    void rdGsBase(Code& c) { c({0xf3, 0x48, 0x0f, 0xae, int(0xc0 | below(random_, 4) << 3)}); }
    void clearsDf(Code& c) { c({oneIn(random_, 6) ? 0xfd : 0xfc}); }
    // #GP at CPL 3.
    void privileged(Code& c) {
        static constexpr int kOnes[][3] = {{0x0f, 0x06, 0x90},   // clts
                                           {0x0f, 0x22, 0xc0},   // mov cr0, rax
                                           {0x0f, 0x20, 0xe0},   // mov rax, cr4
                                           {0x0f, 0x23, 0xc8},   // mov dr1, rax
                                           {0x0f, 0x21, 0xf0},   // mov rax, dr6
                                           {0x0f, 0x01, 0xf0},   // lmsw ax
                                           {0x0f, 0x01, 0x3f},   // invlpg [rdi]
                                           {0x0f, 0x32, 0x90},   // rdmsr
                                           {0x0f, 0x30, 0x90},   // wrmsr
                                           {0x0f, 0x09, 0x90},   // wbinvd
                                           {0x90, 0x90, 0xfb},   // sti
                                           {0xf4, 0x90, 0x90},   // hlt
                                           {0xe4, 0x60, 0x90},   // in al, 60h
                                           {0xee, 0x90, 0x90},   // out dx, al
                                           {0xcd, 0x06, 0x90},   // int 6, through a gate that is not for it
                                           {0xcd, 0x90, 0x90}};  // int 90h, without one
        const auto& bytes = kOnes[below(random_, std::size(kOnes))];
        c({bytes[0], bytes[1], bytes[2]});
    }
    // What the processor has of its own, written with what it has already or with something else.
    void processor(Code& c) {
        const bool same = oneIn(random_, 2);
        switch (below(random_, 8)) {
            case 0: c({0x0f, 0x06}); break;  // clts
            case 1:
                c({0x0f, 0x20, 0xc0});                   // mov rax, cr0
                if (!same) c({0x48, 0x83, 0xf0, 0x08});  // xor rax, TS
                c({0x0f, 0x22, 0xc0});                   // mov cr0, rax
                break;
            case 2:
                c({0x0f, 0x20, 0xc0});
                if (!same) c({0x34, oneIn(random_, 8) ? 4 : oneIn(random_, 3) ? 2 : 8});  // EM, MP, TS
                c({0x0f, 0x01, 0xf0});                                   // lmsw ax
                break;
            case 3:
                c({0x0f, 0x20, 0xe0});                              // mov rax, cr4
                if (!same) c({0x48, 0x35}), c.word(cr4::PGE, 4);    // xor rax, PGE
                if (oneIn(random_, 9)) c({0x48, 0x35, 1, 0, 0, 0});  // VME
                c({0x0f, 0x22, 0xe0});                              // mov cr4, rax
                break;
            case 4: {
                static constexpr int kNumbers[] = {0, 1, 2, 3, 5, 6, 7};
                const int n = kNumbers[below(random_, 7)];
                uint64_t v = n < 4 ? dataPlace() : random_() & 0xffff1700;
                if (n == 7 && same) v = 0x400;
                if (n == 7 && oneIn(random_, 6)) v |= 1ull << 13 | 1u << below(random_, 8);
                c.mov(0, v);
                c({0x0f, 0x23, 0xc0 | n << 3});
                break;
            }
            case 5: c({0x0f, 0x21, int(0xc1 | below(random_, 8) << 3)}); break;  // mov rcx, drn
            case 6:
                c.mov(7, dataPlace());
                c({0x48, 0xc7, 0x44, 0x24, 0xe0});  // mov qword [rsp-32], pcid
                c.word(oneIn(random_, 4) ? below(random_, 5000) : 0, 4);
                c({0x48, 0x89, 0x7c, 0x24, 0xe8});  // mov [rsp-24], rdi
                c({0xb8}), c.word(below(random_, 5), 4);
                c({0x66, 0x0f, 0x38, 0x82, 0x44, 0x24, 0xe0});  // invpcid rax, [rsp-32]
                break;
            default: c({0xcd, oneIn(random_, 4) ? 0x90 : 0x80});  // int
        }
    }

    void userPiece(Code& c) {
        c.begin();
        c.mov(4, kUserStack + below(random_, 8) * 8);
        switch (below(random_, 18)) {
            case 0:
            case 1:
            case 2: c({0x0f, 0x05}); break;        // syscall
            case 3: c({0xcd, 0x80}); break;        // int 80h
            case 4: c({0xcc}); break;              // int3
            case 5: c({0x0f, 0x0b}); break;        // ud2
            case 6: c({0xfa}); break;              // cli: #GP
            case 7: c({0x0f, 0x01, 0xf8}); break;  // swapgs: #GP
            case 8: rdGsBase(c); break;
            case 9: clearsDf(c); break;
            case 10: ring(c); break;
            case 11: privileged(c); break;
            case 12: needsFpu(c); break;
            default: anywhere(c);
        }
        c.end();
    }
    void needsFpu(Code& c) {
        switch (below(random_, 6)) {
            case 0: c({0x66, 0x0f, 0xfe, 0xc9}); break;   // paddd xmm1, xmm1
            case 1: c({0x0f, 0xfe, 0xc9}); break;         // paddd mm1, mm1
            case 2: c({0x9b}); break;                     // fwait
            case 3: c({0xc5, 0xf5, 0xfe, 0xc9}); break;   // vpaddd ymm1, ymm1, ymm1
            default: c({0xd9, 0xe8, 0xdd, 0xd8}); break;  // fld1; fstp st0
        }
    }
    void kernelPiece(Code& c) {
        c.begin();
        switch (below(random_, 22)) {
            case 0: c({0xfb}); break;                                // sti
            case 1: c({0xfa}); break;                                // cli
            case 2: c({0xfa, 0xfb, 0x90, 0xfa}); break;              // cli; sti; nop; cli
            case 3: c({0x0f, 0x01, 0xcb}); break;                    // stac
            case 4: c({0x0f, 0x01, 0xca}); break;                    // clac
            case 5: c({0x0f, 0x01, 0xf8, 0x0f, 0x01, 0xf8}); break;  // swapgs, twice
            case 6: rdGsBase(c); break;
            case 7:  // toggle bits of a page's entry
                c.mov(7, pte_ + below(random_, kDataPages) * 8);
                c({0x48, 0x83, 0x37, int(1 + below(random_, 7))});  // xor qword [rdi], 1..7
                break;
            case 8: c.mov(7, dataPlace()), c({0x0f, 0x01, 0x3f}); break;          // invlpg [rdi]
            case 9: c({0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8}); break;               // cr3 again
            case 10: c({0x9c, 0x58}); break;                                      // pushfq; pop rax
            case 11: c({0x9c, 0x9d}); break;                                      // pushfq; popfq
            case 12: c({0x9c, 0x48, 0x81, 0x34, 0x24, 0, 2, 0, 0, 0x9d}); break;  // the other IF
            case 13: clearsDf(c); break;
            case 14: ring(c); break;
            case 15:
            case 16:
            case 17: processor(c); break;
            case 18: c.mov(7, dataPlace()), c({0x0f, 0x01, 0x7f, 0x10}); break;  // invlpg [rdi+16]
            case 19: c({0x0f, 0x0b}); break;                                     // ud2
            default: anywhere(c);
        }
        c.end();
    }

    // Mends a page's entry now and then, otherwise goes on where r14 says; and a little of everything else.
    void exceptionHandler(Code& c, bool hasError, bool pageFault) {
        c({0x50, 0x51, 0x52});  // push rax, rcx, rdx
        if (pageFault && !oneIn(random_, 4)) {
            c({0x0f, 0x20, 0xd0});                 // mov rax, cr2
            c({0x48, 0x2d}), c.word(kData, 4);     // sub rax, kData
            c({0x48, 0xc1, 0xe8, 0x0c});           // shr rax, 12
            c({0x48, 0x83, 0xf8, kDataPages});     // cmp rax, pages
            c({0x73, 26});                         // jae: no
            c.mov(1, pte_);                        // mov rcx, entries
            c({0x48, 0x83, 0x0c, 0xc1, 7});        // or qword [rcx+rax*8], 7
            c({0x5a, 0x59, 0x58});                 // pop
            c({0x48, 0x83, 0xc4, 8, 0x48, 0xcf});  // add rsp, 8; iretq
            c({0x90, 0x90});
        }
        c({0x4c, 0x89, 0x74, 0x24, hasError ? 0x20 : 0x18});  // mov [saved rip], r14
        c({0x5a, 0x59, 0x58});
        if (hasError) c({0x48, 0x83, 0xc4, 8});
        c({0x48, 0xcf});
    }
    void interruptHandler(Code& c) {
        c({0x50, 0x51, 0x52});
        c({0xb9}), c.word(0x80b, 4), c({0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30});  // EOI by x2APIC
        c({0x5a, 0x59, 0x58, 0x48, 0xcf});
    }
    void setGate(unsigned vector, uint64_t target) {
        const uint64_t gate = (target & 0xffff) | 8ull << 16 |
                              (oneIn(random_, 3) ? 0xef00ull : 0xee00ull) << 32 |
                              (target >> 16 & 0xffff) << 48;
        for (GuestBench* b : both()) {
            b->memory.write<uint64_t>(PhysAddr(0x2000 + vector * 16), gate);
            b->memory.write<uint64_t>(PhysAddr(0x2008 + vector * 16), target >> 32);
        }
    }

    Code kernel() {
        Code c(kKernel);
        // The system call: a stack of its own, some pieces with what it needs kept in registers nobody uses.
        c({0x49, 0x89, 0xcf, 0x4c, 0x89, 0xdd, 0x49, 0x89,
           0xe5});  // mov r15, rcx; mov rbp, r11; mov r13, rsp
        c.mov(4, kSyscallStack);
        if (oneIn(random_, 2)) c({0x0f, 0x01, 0xf8});  // swapgs
        for (uint64_t n = below(random_, 6); n; n--) kernelPiece(c);
        c.mov(4, kSyscallStack);
        c({0xfa, 0x4c, 0x89, 0xf9, 0x49, 0x89, 0xeb, 0x4c, 0x89, 0xec});  // cli; and back
        if (oneIn(random_, 8))
            c.padTo((c.here() - kKernel + kPageSize) / kPageSize * kPageSize - 1);  // over the page's end
        c({0x48, 0x0f, 0x07});                                                      // sysretq
        c.padTo(c.here() - kKernel + below(random_, 40));
        setGate(7, c.here());
        c({0x0f, 0x06, 0x48, 0xcf});  // clts; iretq
        for (unsigned vector : {0, 1, 3, 6, 8, 10, 11, 12, 13, 14, 17, 2, 0x40, 0x80}) {
            setGate(vector, c.here());
            const bool error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
            if (vector == 0x40)
                interruptHandler(c);
            else
                exceptionHandler(c, error, vector == 14);
        }
        return c;
    }

    bool one() {
        Code user(kUser);
        for (uint64_t n = 4 + below(random_, 24); n; n--) userPiece(user);
        if (oneIn(random_, 2)) user.padTo(below(random_, 2) * kPageSize + user.bytes().size());
        user.jumpTo(kUser);
        const Code system = kernel();
        const uint64_t seed = random_();
        for (GuestBench* b : both()) {
            b->write(kUser, user.bytes());
            b->write(kKernel, system.bytes());
            Random r(seed);
            for (uint64_t at = 0; at < kDataPages * kPageSize; at += 8) {
                const uint64_t v = r();
                std::memcpy(b->host(kData) + at, &v, 8);
            }
            for (unsigned n = 0; n < kDataPages; n++)
                b->memory.write<uint64_t>(PhysAddr(pte_ + n * 8),
                                          (kData + n * kPageSize) | (oneIn(r, 3) ? r() & 7 : 7));
            Cpu& c = b->cpu;
            b->restoreMode();
            c.halted = false;
            c.pendingDebug = 0;
            c.stiShadow = c.nmiBlocked = false;
            c.setCr0(c.cr0 & ~(cr0::TS | cr0::EM));
            c.setCr4((c.cr4 | cr4::PGE) & ~1ull);
            c.dr = {};
            for (const unsigned n : {6u, 7u}) c.writeDr(n, 0);
            c.flushTlb(true);
            // SYSRET wants the user's stack segment in front of the code segment.
            const uint64_t gdt[] = {0x00cff3000000ffff, 0x00affb000000ffff};
            b->memory.write(PhysAddr(0x1040), gdt, sizeof gdt);
            c.gdtr.limit = 0x4f;
            c.msr.star = uint64_t(0x3b) << 48 | uint64_t(8) << 32;
            c.msr.lstar = kKernel;
            c.msr.sfmask = flag::IF | flag::DF | flag::AC | flag::TF;
            if (oneIn(r, 3)) c.msr.sfmask = oneIn(r, 2) ? 0 : c.msr.sfmask | (r() & 0x3fffff);
            c.msr.kernelGsBase = r() & 0x7fffffff;
            for (unsigned n = 0; n < 16; n++) c.gpr.slot[n] = r();
            c.flags.set(2 | flag::IF | (r() & (flag::Arithmetic | flag::ID)) | (oneIn(r, 8) ? flag::AC : 0));
            c.rip = kUser;
            b->memory.write<uint64_t>(PhysAddr(0x3004), kKernelStack);
            c.smapChanged();
        }
        for (int slices = 0; slices < 40; slices++) {
            if (oneIn(random_, 4)) disturb();
            const auto slice = int64_t(1 + below(random_, oneIn(random_, 2) ? 12 : 600));
            const uint64_t from = translated_.cpu.rip;
            if (oneIn(random_, 4)) translated_.code.thinOut();
            plain_.cpu.run(slice);
            translated_.cpu.run(slice);
            if (std::string d = differences(); !d.empty()) {
                MESSAGE(fmt::format("slice {} of {} from {:x} {}:\n{}", slices, slice, from,
                                    plain_.cpu.disassemble(from), d));
                return false;
            }
            if (!plain_.shutdown.empty()) {
                plain_.shutdown.clear();
                translated_.shutdown.clear();
                break;
            }
        }
        return true;
    }

    // What comes from outside, between two slices.
    void disturb() {
        const bool nmi = oneIn(random_, 3);
        for (GuestBench* b : both())
            b->apic.accept(
                {.mode = nmi ? DeliveryMode::Nmi : DeliveryMode::Fixed, .vector = uint8_t(nmi ? 0 : 0x40)});
    }

    std::string differences() {
        Differences d;
        Cpu &a = plain_.cpu, &b = translated_.cpu;
        d.equalBasics(a, b);
        d.equal("cpl", a.cpl, b.cpl);
        d.equal("cs", a.seg[Cs].selector, b.seg[Cs].selector);
        d.equal("ss", a.seg[Ss].selector, b.seg[Ss].selector);
        d.equal("ss rights", a.seg[Ss].rights, b.seg[Ss].rights);
        d.equal("fs base", a.seg[Fs].base, b.seg[Fs].base);
        d.equal("gs base", a.seg[Gs].base, b.seg[Gs].base);
        d.equal("kernel gs base", a.msr.kernelGsBase, b.msr.kernelGsBase);
        d.equal("sti shadow", a.stiShadow, b.stiShadow);
        d.equal("nmi blocked", a.nmiBlocked, b.nmiBlocked);
        d.equal("halted", a.halted, b.halted);
        d.equal("cr0", a.cr0, b.cr0);
        d.equal("cr4", a.cr4, b.cr4);
        for (unsigned n = 0; n < 8; n++) d.equal(fmt::format("dr{}", n), a.dr[n], b.dr[n]);
        d.equal("rung", bells_[0].rung, bells_[1].rung);
        for (unsigned w = 0; w < 8; w++) d.equal(fmt::format("zmm0[{}]", w), a.vec[0].q[w], b.vec[0].q[w]);
        compare(d, kData, kDataPages * kPageSize);
        compare(d, 0x3000, 0x5000);  // TSS and stacks
        compare(d, pte_ & ~kPageMask, kPageSize);
        return d.text();
    }

    void compare(Differences& d, uint64_t base, uint64_t size) {
        const uint8_t *x = plain_.host(base), *y = translated_.host(base);
        if (std::memcmp(x, y, size) == 0) return;
        for (uint64_t at = 0; at < size; at += 8) {
            uint64_t v, w;
            std::memcpy(&v, x + at, 8);
            std::memcpy(&w, y + at, 8);
            d.equal(fmt::format("{:x}", base + at), v, w);
        }
    }

    Random random_;
    GuestBench plain_{GuestBench::Mode::Long64, 3}, translated_{GuestBench::Mode::Long64, 3};
    std::array<Bell, 2> bells_{Bell(plain_.apic), Bell(translated_.apic)};
    std::unique_ptr<Translator> translator_;
    uint64_t pte_ = 0;
};

}  // namespace

TEST_CASE("fuzz the translator against the interpreter: system calls, faults, interrupts") {
    SystemFuzz f(environment("KILN_FUZZ_SEED", 1));
    const uint64_t systems = environment("KILN_FUZZ_ITERATIONS", 3000);
    CHECK(f.run(systems));
    const Translator::Statistics& s = f.translator().statistics();
    MESSAGE(
        fmt::format("{} systems, {} instructions; {} blocks translated, entered {} times, {} fills, {} "
                    "faults, {} misses",
                    systems, f.executed(), s.blocks, s.entries, s.fills, s.faults, s.misses));
    CHECK(s.faults > 0);
    CHECK(s.fills > 0);
}

}  // namespace kiln::test
