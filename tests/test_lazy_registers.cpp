// Vector and x87 registers in translated code: exceptions that the guest unmasks there, what traps after they
// were loaded, what becomes of the parts that a vector instruction clears, and FIP and FDP.
#include <doctest/doctest.h>

#include "cpu/x87.hpp"
#include "tests/cpu_bench.hpp"
#include "tests/host_oracle.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kData = 0x60000;
using Bytes = std::vector<uint8_t>;

struct Bench : GuestBench {
    Bench() : GuestBench(Mode::Long64) {
        translator.reset();
        translator = std::make_unique<Translator>(cpu, TranslatorOptions{.tier1 = 1});
        enableAvx();
        cpu.setCr0(cpu.cr0 | cr0::NE | cr0::MP);
        cpu.setCr4(cpu.cr4 | cr4::OSXMMEXCPT);
        cpu.gpr[Rbx] = kData;
        x87(0x37f);
    }
    void x87(uint16_t control) {
        cpu.fpu = FpuState{};
        cpu.fpu.control = control;
    }
    // Runs instructions and the HLT behind them; where each of them begins is in `at`.
    std::optional<Caught> run(std::initializer_list<Bytes> instructions) {
        Bytes code;
        at.clear();
        for (const Bytes& i : instructions) {
            at.push_back(kCode + code.size());
            code.insert(code.end(), i.begin(), i.end());
        }
        code.push_back(0xf4);
        write(kCode, code);
        cpu.rip = kCode;
        cpu.halted = false;
        return runToHalt();
    }
    // As report() lists what was left to the interpreter.
    bool interpreted(const std::string& mnemonic) const {
        return translator->report().find(" " + mnemonic + " ") != std::string::npos;
    }
    template <class T>
    void data(T v) {
        std::memcpy(host(kData), &v, sizeof v);
    }
    std::vector<uint64_t> at;
};

const Bytes kFld1 = {0xd9, 0xe8}, kFldz = {0xd9, 0xee}, kFldcw = {0xd9, 0x2b}, kFdivp = {0xde, 0xf9},
            kFwait = {0x9b}, kNop = {0x90}, kFadd = {0xd8, 0xc0}, kFldQword = {0xdd, 0x03},
            kPaddb = {0x0f, 0xfc, 0xc1}, kLdmxcsr = {0x0f, 0xae, 0x13}, kDivps = {0x0f, 0x5e, 0xc1},
            kMovCr0Rax = {0x0f, 0x22, 0xc0}, kVaddps = {0xc5, 0xf4, 0x58, 0xc2},
            kVpaddd512 = {0x62, 0xf1, 0x75, 0x48, 0xfe, 0xc2}, kFldFs = {0x64, 0xdd, 0x03};

}  // namespace

TEST_CASE("translated x87: an exception that FLDCW unmasks is reported by the next instruction that waits") {
    Bench b;
    b.data<uint16_t>(0x37f & ~float80::kZeroDivide);
    const auto c = b.run({kFld1, kFldz, kFldcw, kFdivp, kNop, kFwait});
    REQUIRE(c);
    CHECK(c->vector == kMF);
    CHECK(c->rip == b.at[5]);
    CHECK(b.cpu.fpu.instructionPointer == b.at[3]);
    CHECK(b.cpu.fpu.opcode == 0x6f9);
    CHECK((b.cpu.fpu.status & 0xbf) == (float80::kErrorSummary | float80::kZeroDivide));
    CHECK(!b.interpreted("fld1"));
}

TEST_CASE("translated x87: FLDCW of a rounding mode stays in host code") {
    Bench b;
    b.data<uint16_t>(0xf7f);
    CHECK(!b.run({kFld1, kFldcw, kFadd}));
    CHECK(b.cpu.fpu.control == 0xf7f);
    CHECK(b.cpu.fpu.instructionPointer == b.at[2]);
    CHECK(!b.interpreted("fldcw"));
}

TEST_CASE("translated x87: FIP is the last instruction's, FDP the last operand's offset in its segment") {
    Bench b;
    b.data<double>(1.5);
    CHECK(!b.run({kFldQword, kFadd, kNop}));
    CHECK(b.cpu.fpu.instructionPointer == b.at[1]);
    CHECK(b.cpu.fpu.instructionSelector == b.cpu.seg[Cs].selector);
    CHECK(b.cpu.fpu.dataPointer == kData);
    CHECK(x87::get(b.cpu, 0).signExponent == 0x4000);
    b.setBase(Fs, 0x1000);
    b.cpu.gpr[Rbx] = kData - 0x1000;
    CHECK(!b.run({kFldFs, kNop}));
    CHECK(b.cpu.fpu.dataPointer == kData - 0x1000);
    CHECK(b.cpu.fpu.dataSelector == b.cpu.seg[Fs].selector);
}

TEST_CASE("translated x87: CR0.TS traps registers that were loaded before") {
    Bench b;
    b.cpu.gpr[Rax] = b.cpu.cr0 | cr0::TS;
    auto c = b.run({kFld1, kMovCr0Rax, kFld1});
    REQUIRE(c);
    CHECK(c->vector == kNM);
    CHECK(c->rip == b.at[2]);
    CHECK(b.cpu.fpu.top() == 7);
    b.cpu.setCr0(b.cpu.cr0 & ~cr0::TS);
    b.cpu.gpr[Rax] = b.cpu.cr0 | cr0::TS;
    c = b.run({kVaddps, kMovCr0Rax, kFwait});
    REQUIRE(c);
    CHECK(c->vector == kNM);
    CHECK(c->rip == b.at[2]);
}

TEST_CASE("translated MMX: all registers become valid and TOP 0") {
    Bench b;
    CHECK(!b.run({kFld1, kPaddb}));
    CHECK(b.cpu.fpu.top() == 0);
    CHECK(b.cpu.fpu.empty == 0);
    CHECK(b.cpu.fpu.physical[0].signExponent == 0xffff);
    CHECK(b.cpu.fpu.instructionPointer == b.at[0]);
    CHECK(!b.interpreted("paddb"));
}

TEST_CASE("translated SSE: an exception that LDMXCSR unmasks is raised by the instruction itself") {
    Bench b;
    b.data<uint32_t>(0x1f80 & ~0x200);
    for (unsigned n = 0; n < 4; n++) b.cpu.vec[0].set<float>(n, 1), b.cpu.vec[1].set<float>(n, 0);
    const auto c = b.run({{0x0f, 0x5e, 0xd1}, kLdmxcsr, kDivps});
    REQUIRE(c);
    CHECK(c->vector == kXM);
    CHECK(c->rip == b.at[2]);
    CHECK((b.cpu.mxcsr & 0xffc0) == (0x1f80 & ~0x200));
}

TEST_CASE("translated AVX: clears above its result, whatever is enabled") {
    Bench b;
    for (unsigned reg : {0, 1, 5})
        for (unsigned n = 0; n < 8; n++) b.cpu.vec[reg].q[n] = reg + 1;
    b.cpu.xcr0 = xfeature::X87 | xfeature::SSE | xfeature::AVX;
    b.cpu.segmentsChanged();
    const auto c = b.run({kVaddps, kVpaddd512});
    REQUIRE(c);
    CHECK(c->vector == kUD);
    CHECK(c->rip == b.at[1]);
    for (unsigned n = 4; n < 8; n++) {
        CHECK(b.cpu.vec[0].q[n] == 0);
        CHECK(b.cpu.vec[1].q[n] == 2);
        CHECK(b.cpu.vec[5].q[n] == 6);
    }
}

TEST_CASE("translated AVX-512: registers and opmasks beyond those in use stay as they are") {
    if (!HostOracle::runs(ZYDIS_ISA_SET_AVX512BW_512)) return;
    Bench b;
    for (unsigned reg = 0; reg < 32; reg++)
        for (unsigned n = 0; n < 8; n++) b.cpu.vec[reg].q[n] = reg << 8 | n;
    for (unsigned k = 0; k < 8; k++) b.cpu.opmask[k] = ~uint64_t(k);
    CHECK(!b.run({kVaddps, kVpaddd512, kFld1, kVpaddd512}));
    CHECK(!b.interpreted("vpaddd"));
    for (unsigned n = 0; n < 8; n++) CHECK(b.cpu.vec[0].q[n] == (0x300u | 2 * n));
    for (unsigned reg = 1; reg < 32; reg++)
        for (unsigned n = 0; n < 8; n++) CHECK(b.cpu.vec[reg].q[n] == (reg << 8 | n));
    for (unsigned k = 0; k < 8; k++) CHECK(b.cpu.opmask[k] == ~uint64_t(k));
}
