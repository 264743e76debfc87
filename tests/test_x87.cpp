// The x87 around its arithmetic: availability, pending exceptions, FERR#, pointers, and the images of
// FNSTENV, FNSAVE and FXSAVE in every format. What the instructions compute is compared with the host in
// fuzz_host.cpp and test_float80.cpp.
#include <doctest/doctest.h>

#include "cpu/float80.hpp"
#include "tests/cpu_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using Bytes = std::vector<uint8_t>;
constexpr uint64_t kCode = 0x50000, kData = 0x60000;
constexpr uint16_t kPending = float80::kErrorSummary | float80::kBusy;

struct X87Bench : GuestBench {
    explicit X87Bench(Mode mode, unsigned cpl = 0) : GuestBench(mode, cpl) {
        cpu.gpr[Rbx] = kData;
        base = mode == Mode::Real16 ? 0xa000 : kCode;
        data = mode == Mode::Real16 ? 0xb000 : kData;
        cpu.gpr[Rbx] = data;
    }
    // One instruction at `base`.
    std::optional<Caught> run(Bytes code) {
        write(base, code);
        cpu.rip = base;
        return step();
    }
    template <class T>
    T at(unsigned offset) {
        return memory.read<T>(PhysAddr(data + offset));
    }
    template <class T>
    void put(unsigned offset, T v) {
        memory.write<T>(PhysAddr(data + offset), v);
    }
    Float80 st(unsigned i) const { return cpu.fpu.physical[(cpu.fpu.top() + i) & 7]; }

    uint64_t base, data;
};

bool same(Float80 a, Float80 b) { return a.mantissa == b.mantissa && a.signExponent == b.signExponent; }

const Bytes kFld1{0xd9, 0xe8}, kFldz{0xd9, 0xee}, kFnop{0xd9, 0xd0}, kFwait{0x9b}, kFnstswAx{0xdf, 0xe0},
    kFninit{0xdb, 0xe3}, kFnclex{0xdb, 0xe2}, kFldcw{0xd9, 0x2b}, kFnstenv{0xd9, 0x33}, kFldenv{0xd9, 0x23},
    kFnsave{0xdd, 0x33}, kFrstor{0xdd, 0x23}, kFxsave{0x0f, 0xae, 0x03}, kFxrstor{0x0f, 0xae, 0x0b};

// Leaves a pending, unmasked divide by zero.
void divideByZero(X87Bench& b) {
    b.run(kFninit);
    b.put<uint16_t>(0, 0x37b);
    b.run(kFldcw);
    b.run(kFldz);
    b.run(kFld1);
    CHECK_FALSE(b.run(Bytes{0xd8, 0xf1}));  // fdiv st0, st1: shown by the next instruction only
}

}  // namespace

TEST_CASE("x87: CR0.EM, MP and TS decide who gets #NM") {
    for (unsigned bits = 0; bits < 8; bits++) {
        X87Bench b(GuestBench::Mode::Protected32);
        b.run(kFninit);
        uint64_t cr0 = cr0::PE | cr0::ET | cr0::NE;
        if (bits & 1) cr0 |= cr0::EM;
        if (bits & 2) cr0 |= cr0::MP;
        if (bits & 4) cr0 |= cr0::TS;
        b.cpu.setCr0(cr0);
        auto vector = [&](const Bytes& code) {
            auto c = b.run(code);
            return c ? int(c->vector) : -1;
        };
        CAPTURE(bits);
        CHECK(vector(kFld1) == (bits & 5 ? kNM : -1));
        CHECK(vector(kFnstswAx) == (bits & 5 ? kNM : -1));
        CHECK(vector(kFwait) == ((bits & 6) == 6 ? kNM : -1));
        CHECK(vector(kFxsave) == (bits & 5 ? kNM : -1));
        CHECK(vector({0x0f, 0x6f, 0xc1}) == (bits & 1 ? kUD : bits & 4 ? kNM : -1));  // movq mm0, mm1
        CHECK(vector({0x0f, 0x28, 0xc1}) == (bits & 1 ? kUD : bits & 4 ? kNM : -1));  // movaps xmm0, xmm1
    }
}

TEST_CASE("x87: SSE needs CR4.OSFXSR") {
    X87Bench b(GuestBench::Mode::Protected32);
    b.cpu.setCr4(0);
    auto c = b.run({0x0f, 0x28, 0xc1});
    REQUIRE(c);
    CHECK(c->vector == kUD);
}

TEST_CASE("x87: an unmasked exception is raised by the next waiting instruction") {
    X87Bench b(GuestBench::Mode::Protected32);
    divideByZero(b);
    CHECK((b.cpu.fpu.status & (kPending | float80::kZeroDivide)) == (kPending | float80::kZeroDivide));
    CHECK(same(b.st(0), float80::one()));  // the dividend is kept
    CHECK(b.cpu.fpu.opcode == 0x0f1);

    for (const Bytes& waiting : {kFld1, kFwait, kFnop, kFldcw, Bytes{0x0f, 0x6f, 0xc1}}) {
        auto before = b.cpu.fpu.status;
        auto c = b.run(waiting);
        REQUIRE(c);
        CHECK(c->vector == kMF);
        CHECK(c->rip == b.base);
        CHECK(b.cpu.fpu.status == before);
    }
    // These do not wait.
    CHECK_FALSE(b.run(kFnstswAx));
    CHECK((b.cpu.gpr[Rax] & 0xffff) == b.cpu.fpu.status);
    CHECK_FALSE(b.run(kFnstenv));
    CHECK((b.cpu.fpu.status & kPending) == 0);  // it masked everything
    CHECK_FALSE(b.run(kFld1));

    // Unmasking finds the old flag.
    b.put<uint16_t>(0, 0x37b);
    CHECK_FALSE(b.run(kFldcw));
    CHECK((b.cpu.fpu.status & kPending) == kPending);
    CHECK_FALSE(b.run(kFnclex));
    CHECK((b.cpu.fpu.status & 0x80ff) == 0);
    CHECK_FALSE(b.run(kFwait));
}

TEST_CASE("x87: with CR0.NE clear the exception leaves by FERR#") {
    X87Bench b(GuestBench::Mode::Real16);
    bool ferr = false;
    b.cpu.io.ferr = [&](bool on) { ferr = on; };
    divideByZero(b);
    CHECK(ferr);
    ferr = false;  // as the interrupt controller's port F0h would
    CHECK_FALSE(b.run(kFwait));
    CHECK(ferr);
    CHECK(b.cpu.halted);  // in front of FWAIT, for the interrupt
    const uint64_t fwait = b.cpu.rip;
    b.cpu.halted = false;
    b.cpu.run(10);
    CHECK((b.cpu.halted && b.cpu.rip == fwait));
    b.cpu.halted = false;
    b.cpu.ignne = true;  // by port F0h: x87 instructions run
    CHECK_FALSE(b.run(kFwait));
    CHECK((!b.cpu.halted && b.cpu.rip != fwait));
    CHECK_FALSE(b.run(kFnclex));
    CHECK_FALSE(ferr);
}

TEST_CASE("x87: a faulting operand changes nothing") {
    X87Bench b(GuestBench::Mode::Long64, 3);
    b.cpu.gpr[Rbx] = 0x7000'0000;  // not mapped
    b.run(kFninit);
    b.run(kFld1);
    for (const Bytes& code :
         {Bytes{0xd8, 0x03}, Bytes{0xdb, 0x2b}, Bytes{0xdd, 0x1b}, Bytes{0xdf, 0x33}, Bytes{0xdd, 0x23},
          Bytes{0xd9, 0x23}, Bytes{0xdd, 0x33}, Bytes{0x0f, 0xae, 0x0b}, Bytes{0xde, 0x1b}}) {
        FpuState before = b.cpu.fpu;
        auto c = b.run(code);
        REQUIRE(c);
        CHECK(c->vector == kPF);
        CHECK(before.status == b.cpu.fpu.status);
        CHECK(before.control == b.cpu.fpu.control);
        CHECK(before.empty == b.cpu.fpu.empty);
        CHECK(before.instructionPointer == b.cpu.fpu.instructionPointer);
        CHECK(before.dataPointer == b.cpu.fpu.dataPointer);
        CHECK(same(before.physical[7], b.cpu.fpu.physical[7]));
    }
}

TEST_CASE("x87: pointers and the environment in protected mode, 32 and 16 bits") {
    X87Bench b(GuestBench::Mode::Protected32);
    b.run(kFninit);
    b.put<uint32_t>(0x40, 0x40490fdb);
    CHECK_FALSE(b.run({0xd9, 0x43, 0x40}));  // fld dword [ebx+40h]
    b.cpu.fpu.opcode = 0x123;
    CHECK_FALSE(b.run(kFnstenv));
    CHECK(b.at<uint32_t>(0) == 0xffff037f);
    CHECK(b.at<uint32_t>(4) == 0xffff3800);
    CHECK(b.at<uint32_t>(8) == 0xffff3fff);
    CHECK(b.at<uint32_t>(12) == kCode);
    CHECK(b.at<uint32_t>(16) == (0x1230000u | b.cpu.seg[Cs].selector));
    CHECK(b.at<uint32_t>(20) == kData + 0x40);
    CHECK(b.at<uint32_t>(24) == (0xffff0000 | b.cpu.seg[Ds].selector));

    b.put<uint32_t>(28, 0xdddddddd);
    CHECK_FALSE(b.run({0x66, 0xd9, 0x33}));
    CHECK(b.at<uint16_t>(2) == 0x3800);
    CHECK(b.at<uint16_t>(4) == 0x3fff);
    CHECK(b.at<uint16_t>(6) == uint16_t(kCode));
    CHECK(b.at<uint16_t>(8) == b.cpu.seg[Cs].selector);
    CHECK(b.at<uint16_t>(10) == uint16_t(kData + 0x40));
    CHECK(b.at<uint16_t>(12) == b.cpu.seg[Ds].selector);
    // Behind its 14 bytes is what the 32-bit form left there.
    CHECK(b.at<uint32_t>(14) == (uint32_t(b.cpu.seg[Cs].selector) << 16 | kCode >> 16));
}

TEST_CASE("x87: the environment in real mode has linear addresses") {
    X87Bench b(GuestBench::Mode::Real16);
    b.run(kFninit);
    CHECK_FALSE(b.run({0xd9, 0x47, 0x40}));  // fld dword [bx+40h]
    b.cpu.fpu.instructionSelector = 0x1234;
    b.cpu.fpu.dataSelector = 0x4321;
    b.cpu.fpu.opcode = 0x7ed;
    uint32_t ip = uint32_t(b.base + 0x12340), dp = uint32_t(b.data + 0x40 + 0x43210);
    CHECK_FALSE(b.run({0xd9, 0x37}));
    CHECK(b.at<uint16_t>(6) == uint16_t(ip));
    CHECK(b.at<uint16_t>(8) == ((ip >> 16 & 15) << 12 | 0x7ed));
    CHECK(b.at<uint16_t>(10) == uint16_t(dp));
    CHECK(b.at<uint16_t>(12) == (dp >> 16 & 15) << 12);
    CHECK_FALSE(b.run({0xd9, 0x27}));
    CHECK(b.cpu.fpu.instructionPointer == ip);
    CHECK(b.cpu.fpu.instructionSelector == 0);
    CHECK(b.cpu.fpu.dataPointer == dp);
    CHECK(b.cpu.fpu.opcode == 0x7ed);
    CHECK_FALSE(b.run({0x66, 0xd9, 0x37}));
    CHECK(b.at<uint32_t>(12) == (ip & 0xffff));
    CHECK(b.at<uint32_t>(16) == ((ip >> 16) << 12 | 0x7ed));
}

TEST_CASE("x87: FNSAVE and FRSTOR give everything back") {
    for (Bytes prefix : {Bytes{}, Bytes{0x66}}) {
        X87Bench b(GuestBench::Mode::Protected32);
        for (unsigned r = 0; r < 8; r++)
            b.cpu.fpu.physical[r] = {0x8000000000000000 + r * 0x1111, uint16_t(0x3ff0 + r)};
        b.cpu.fpu.physical[2] = {0, 0};
        b.cpu.fpu.physical[5] = {5, 0};
        b.cpu.fpu.empty = 0x18;
        b.cpu.fpu.control = 0xf7f & ~2;
        b.cpu.fpu.status = 0x2d41;
        FpuState before = b.cpu.fpu;
        Bytes save = prefix, restore = prefix;
        save.insert(save.end(), kFnsave.begin(), kFnsave.end());
        restore.insert(restore.end(), kFrstor.begin(), kFrstor.end());
        CHECK_FALSE(b.run(save));
        CHECK(b.cpu.fpu.control == 0x37f);
        CHECK(b.cpu.fpu.status == 0);
        CHECK(b.cpu.fpu.empty == 0xff);
        CHECK(b.at<uint16_t>(prefix.empty() ? 8 : 4) == 0b00'00'10'11'11'01'00'00);
        CHECK_FALSE(b.run(restore));
        CHECK(b.cpu.fpu.control == before.control);
        CHECK(b.cpu.fpu.status == before.status);
        CHECK(b.cpu.fpu.empty == before.empty);
        for (unsigned r = 0; r < 8; r++) CHECK(same(b.cpu.fpu.physical[r], before.physical[r]));
    }
}

TEST_CASE("FXSAVE: layout, and FXRSTOR gives everything back") {
    struct Form {
        GuestBench::Mode mode;
        Bytes save, restore;
        unsigned xmm;
        bool pointers64;
    };
    const Form forms[] = {
        {GuestBench::Mode::Protected32, kFxsave, kFxrstor, 8, false},
        {GuestBench::Mode::Compat32, kFxsave, kFxrstor, 8, false},
        {GuestBench::Mode::Long64, kFxsave, kFxrstor, 16, false},
        {GuestBench::Mode::Long64, {0x48, 0x0f, 0xae, 0x03}, {0x48, 0x0f, 0xae, 0x0b}, 16, true},
    };
    for (const Form& f : forms) {
        X87Bench b(f.mode);
        for (unsigned r = 0; r < 8; r++)
            b.cpu.fpu.physical[r] = {0x8000000000000000 + r * 0x1111, uint16_t(0x3ff0 + r)};
        for (unsigned n = 0; n < 16; n++) b.cpu.vec[n].q = {n * 0x0101010101010101ull, ~0ull - n, 77, 78};
        b.cpu.fpu.empty = 0x0f;
        b.cpu.fpu.status = 6 << 11;
        b.cpu.fpu.control = 0x27f;
        b.cpu.fpu.opcode = 0x3cd;
        b.cpu.fpu.instructionPointer = f.pointers64 ? 0x123456789abc : 0x56789abc;
        b.cpu.fpu.dataPointer = f.pointers64 ? 0x1badcafe0123 : 0xcafe0123;
        b.cpu.fpu.instructionSelector = f.pointers64 ? 0 : 0x1b;
        b.cpu.fpu.dataSelector = f.pointers64 ? 0 : 0x23;
        b.cpu.mxcsr = 0x9fc0;
        for (unsigned n = 0; n < 512; n += 8) b.put<uint64_t>(n, 0xeeeeeeeeeeeeeeee);
        FpuState before = b.cpu.fpu;
        auto vectors = b.cpu.vec;
        CHECK_FALSE(b.run(f.save));
        CHECK(b.at<uint16_t>(0) == 0x27f);
        CHECK(b.at<uint16_t>(2) == 6 << 11);
        CHECK(b.at<uint16_t>(4) == 0xf0);
        CHECK(b.at<uint16_t>(6) == 0x3cd);
        CHECK(b.at<uint64_t>(8) == (f.pointers64 ? 0x123456789abc : 0x1b56789abc));
        CHECK(b.at<uint64_t>(16) == (f.pointers64 ? 0x1badcafe0123 : 0x23cafe0123));
        CHECK(b.at<uint32_t>(24) == 0x9fc0);
        CHECK(b.at<uint32_t>(28) == 0xffff);
        CHECK(b.at<uint64_t>(32) == before.physical[6].mantissa);
        CHECK(b.at<uint64_t>(160 + 16) == 0x0101010101010101);
        CHECK(b.at<uint64_t>(160 + 16 * f.xmm) == 0xeeeeeeeeeeeeeeee);  // behind the last register
        CHECK(b.cpu.fpu.empty == before.empty);                         // unlike FNSAVE

        b.run(kFninit);
        b.cpu.fpu.physical = {};
        b.cpu.mxcsr = 0x1f80;
        for (unsigned n = 0; n < 16; n++) b.cpu.vec[n].q[0] = b.cpu.vec[n].q[1] = 0;
        CHECK_FALSE(b.run(f.restore));
        CHECK(b.cpu.fpu.control == before.control);
        CHECK(b.cpu.fpu.status == before.status);
        CHECK(b.cpu.fpu.empty == before.empty);
        CHECK(b.cpu.fpu.opcode == before.opcode);
        CHECK(b.cpu.fpu.instructionPointer == before.instructionPointer);
        CHECK(b.cpu.fpu.dataPointer == before.dataPointer);
        CHECK(b.cpu.fpu.instructionSelector == before.instructionSelector);
        CHECK(b.cpu.fpu.dataSelector == before.dataSelector);
        CHECK(b.cpu.mxcsr == 0x9fc0);
        for (unsigned r = 0; r < 8; r++) CHECK(same(b.cpu.fpu.physical[r], before.physical[r]));
        for (unsigned n = 0; n < f.xmm; n++) CHECK(b.cpu.vec[n].q == vectors[n].q);
        for (unsigned n = f.xmm; n < 16; n++) CHECK(b.cpu.vec[n].q[0] == 0);
    }
}

TEST_CASE("FXSAVE and FXRSTOR: alignment, reserved bits, CR4.OSFXSR") {
    X87Bench b(GuestBench::Mode::Protected32);
    b.run(kFxsave);
    auto vectorOf = [&](const Bytes& code) {
        auto c = b.run(code);
        return c ? int(c->vector) : -1;
    };
    b.put<uint32_t>(24, 0x11f80);  // a reserved bit of MXCSR
    b.cpu.fpu.status = 0x3800;
    CHECK(vectorOf(kFxrstor) == kGP);
    CHECK(b.cpu.fpu.status == 0x3800);
    b.cpu.gpr[Rbx] = b.data + 8;
    CHECK(vectorOf(kFxsave) == kGP);
    CHECK(vectorOf(kFxrstor) == kGP);

    b.cpu.gpr[Rbx] = b.data;
    b.cpu.setCr4(0);
    b.cpu.mxcsr = 0x1f80;
    b.put<uint64_t>(160, 0x1234);
    CHECK(vectorOf(kFxrstor) == -1);  // MXCSR and XMM are not looked at
    CHECK(b.cpu.mxcsr == 0x1f80);
    CHECK(b.cpu.vec[0].q[0] == 0);
}

TEST_CASE("x87: stack faults") {
    X87Bench b(GuestBench::Mode::Protected32);
    b.run(kFninit);
    CHECK_FALSE(b.run({0xd8, 0xc1}));  // fadd st0, st1 of empty registers
    CHECK(b.cpu.fpu.status == (float80::kInvalid | float80::kStackFault));
    CHECK(same(b.st(0), float80::kIndefinite));
    b.run(kFninit);
    for (int n = 0; n < 8; n++) b.run(kFld1);
    CHECK(b.cpu.fpu.status == 0);
    b.run(kFldz);
    CHECK(b.cpu.fpu.status == (float80::kInvalid | float80::kStackFault | float80::kC1 | 7 << 11));
    CHECK(same(b.st(0), float80::kIndefinite));
}

TEST_CASE("x87: FENI, FDISI and FSETPM do nothing and do not wait") {
    X87Bench b(GuestBench::Mode::Protected32);
    divideByZero(b);
    for (uint8_t modrm : {0xe0, 0xe1, 0xe4}) CHECK_FALSE(b.run({0xdb, modrm}));
    CHECK((b.cpu.fpu.status & kPending) == kPending);
}
