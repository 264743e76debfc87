// SSE: availability, alignment, MXCSR and its exceptions, and that the quick way through the host's
// arithmetic gives what the exact way gives. What the instructions compute is compared with the host by the
// instruction fuzzer.
#include <doctest/doctest.h>

#include <random>

#include "cpu/ieee_float.hpp"
#include "tests/cpu_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kData = 0x60000;
using Bytes = std::vector<uint8_t>;

struct SseBench : GuestBench {
    explicit SseBench(Mode mode = Mode::Long64) : GuestBench(mode) { cpu.gpr[Rbx] = kData; }

    std::optional<Caught> run(const Bytes& bytes) {
        write(kCode, bytes);
        cpu.rip = kCode;
        return step();
    }
    uint8_t vectorOf(const Bytes& bytes) {
        auto c = run(bytes);
        return c ? c->vector : 0;
    }
};

const Bytes kMovapsLoad = {0x0f, 0x28, 0x03}, kMovupsLoad = {0x0f, 0x10, 0x03},
            kMovapsStore = {0x0f, 0x29, 0x03}, kPaddbLoad = {0x66, 0x0f, 0xfc, 0x03},
            kAddsdLoad = {0xf2, 0x0f, 0x58, 0x03}, kLddquLoad = {0xf2, 0x0f, 0xf0, 0x03},
            kMovntps = {0x0f, 0x2b, 0x03}, kPcmpistri = {0x66, 0x0f, 0x3a, 0x63, 0x03, 0x0c},
            kMovapsFs = {0x64, 0x0f, 0x28, 0x03}, kLdmxcsr = {0x0f, 0xae, 0x13},
            kStmxcsr = {0x0f, 0xae, 0x1b}, kDivsd = {0xf2, 0x0f, 0x5e, 0xc1},
            kDivpd = {0x66, 0x0f, 0x5e, 0xc1}, kMulsd = {0xf2, 0x0f, 0x59, 0xc1};

constexpr uint64_t kOne = 0x3ff0000000000000;

}  // namespace

TEST_CASE("SSE is refused by CR0.EM, CR0.TS and without CR4.OSFXSR") {
    SseBench b;
    CHECK(b.vectorOf(kMovapsLoad) == 0);
    b.cpu.setCr0(b.cpu.cr0 | cr0::EM);
    CHECK(b.vectorOf(kMovapsLoad) == kUD);
    b.cpu.setCr0((b.cpu.cr0 & ~cr0::EM) | cr0::TS);
    CHECK(b.vectorOf(kMovapsLoad) == kNM);
    // The quick way through host arithmetic blames the right instruction.
    b.write(kCode, Bytes{0x90, 0x90, 0x0f, 0x58, 0xc1, 0xf4});  // nop; nop; addps xmm0, xmm1
    b.cpu.rip = kCode;
    auto caught = b.runToException();
    REQUIRE(caught);
    CHECK(caught->vector == kNM);
    CHECK(caught->rip == kCode + 2);
    b.cpu.setCr0(b.cpu.cr0 & ~cr0::TS);
    b.cpu.setCr4(b.cpu.cr4 & ~cr4::OSFXSR);
    CHECK(b.vectorOf(kMovapsLoad) == kUD);
}

TEST_CASE("16-byte operands must be aligned, but for the moves and comparisons that say otherwise") {
    SseBench b;
    b.cpu.gpr[Rbx] = kData + 8;
    for (const Bytes* code : {&kMovapsLoad, &kMovapsStore, &kPaddbLoad, &kMovntps}) {
        auto fault = b.run(*code);
        REQUIRE(fault);
        CHECK(fault->vector == kGP);
        CHECK(fault->error == 0);
    }
    for (const Bytes* code : {&kMovupsLoad, &kAddsdLoad, &kLddquLoad, &kPcmpistri})
        CHECK(b.vectorOf(*code) == 0);
}

TEST_CASE("alignment is that of the linear address") {
    SseBench b;
    b.cpu.seg[Fs].base = 8;
    b.cpu.segmentsChanged();
    b.cpu.gpr[Rbx] = kData;
    CHECK(b.vectorOf(kMovapsFs) == kGP);
    b.cpu.seg[Fs].base = 8;
    b.cpu.segmentsChanged();
    b.cpu.gpr[Rbx] = kData + 8;
    CHECK(b.vectorOf(kMovapsFs) == 0);

    // In 64-bit mode the hidden base of DS does not count.
    b.cpu.seg[Ds].base = 8;
    b.cpu.segmentsChanged();
    b.cpu.gpr[Rbx] = kData;
    CHECK(b.vectorOf(kMovapsLoad) == 0);
}

TEST_CASE("an unaligned store across pages, the second of which is missing, writes nothing") {
    SseBench b;
    b.cpu.gpr[Rbx] = GuestBench::kLow - 8;
    b.cpu.vec[0].q = {1, 2, 0, 0};
    auto fault = b.run({0x0f, 0x11, 0x03});  // movups [rbx], xmm0
    REQUIRE(fault);
    CHECK(fault->vector == kPF);
    CHECK(fault->cr2 == GuestBench::kLow);
    CHECK(b.memory.read<uint64_t>(PhysAddr(GuestBench::kLow - 8)) == 0);
}

TEST_CASE("LDMXCSR refuses reserved bits, STMXCSR tells what was loaded") {
    SseBench b;
    b.memory.write<uint32_t>(PhysAddr(kData), 0x9fc0);
    CHECK(b.vectorOf(kLdmxcsr) == 0);
    CHECK(b.cpu.mxcsr == 0x9fc0);
    b.memory.write<uint32_t>(PhysAddr(kData), 0x11f80);
    CHECK(b.vectorOf(kLdmxcsr) == kGP);
    CHECK(b.cpu.mxcsr == 0x9fc0);
    CHECK(b.vectorOf(kStmxcsr) == 0);
    CHECK(b.memory.read<uint32_t>(PhysAddr(kData)) == 0x9fc0);
}

TEST_CASE("an unmasked exception is #XM, or #UD without CR4.OSXMMEXCPT, and leaves the destination") {
    SseBench b;
    b.cpu.vec[0].q = {kOne, kOne, 0, 0};
    b.cpu.vec[1].q = {0, 0, 0, 0};
    b.cpu.mxcsr = 0x1f80 & ~0x200u;  // ZM
    CHECK(b.vectorOf(kDivsd) == kXM);
    CHECK(b.cpu.vec[0].q[0] == kOne);
    CHECK(b.cpu.mxcsr == ((0x1f80 & ~0x200u) | mxcsr::ZE));
    b.cpu.setCr4(b.cpu.cr4 & ~cr4::OSXMMEXCPT);
    CHECK(b.vectorOf(kDivsd) == kUD);

    b.cpu.mxcsr = 0x1f80;
    CHECK(b.vectorOf(kDivsd) == 0);
    CHECK(b.cpu.vec[0].q[0] == 0x7ff0000000000000);
    CHECK(b.cpu.mxcsr == (0x1f80 | mxcsr::ZE));
}

TEST_CASE("an unmasked pre-computation exception hides the other lanes' inexact results") {
    SseBench b;
    b.cpu.vec[0].q = {kOne, kOne, 0, 0};
    b.cpu.vec[1].q = {0, 0x4008000000000000, 0, 0};  // 1/0, 1/3
    b.cpu.mxcsr = 0x1f80 & ~0x200u;
    CHECK(b.vectorOf(kDivpd) == kXM);
    CHECK((b.cpu.mxcsr & mxcsr::Exceptions) == mxcsr::ZE);
}

TEST_CASE("the quick way through the host's arithmetic equals the exact one") {
    SseBench b;
    std::mt19937_64 random(4);
    struct Op {
        uint8_t opcode;
        uint64_t (*exact)(Ieee&, uint64_t, uint64_t);
    };
    const Op ops[] = {{0x58, [](Ieee& e, uint64_t x, uint64_t y) { return e.add(x, y); }},
                      {0x5c, [](Ieee& e, uint64_t x, uint64_t y) { return e.sub(x, y); }},
                      {0x59, [](Ieee& e, uint64_t x, uint64_t y) { return e.mul(x, y); }},
                      {0x5e, [](Ieee& e, uint64_t x, uint64_t y) { return e.div(x, y); }},
                      {0x51, [](Ieee& e, uint64_t, uint64_t y) { return e.sqrt(y); }},
                      {0x5d, [](Ieee& e, uint64_t x, uint64_t y) { return e.min(x, y); }},
                      {0x5f, [](Ieee& e, uint64_t x, uint64_t y) { return e.max(x, y); }}};
    for (int n = 0; n < 20000; n++) {
        const Op& op = ops[n % std::size(ops)];
        auto operand = [&]() -> uint64_t {
            switch (random() % 8) {
                case 0: return random() & (1ull << 63);        // zeros
                case 1: return random() & 0x800fffffffffffff;  // denormals
                case 2:
                    return (random() & 0x8000000000000003) | 0x0010000000000000;  // about the least normal
                case 3: return (random() & 0x8000000000000003) | 0x3fefffffffffffff;
                case 4: return random();
                case 5: return (random() & 0x800fffffffffffff) | (random() % 40 + 495) << 52;  // products
                case 6:
                    return (random() & 0x800fffffffffffff) | (random() % 40 + 1515) << 52;  // at the edges
                default: return (random() & 0x800fffffffffffff) | (random() % 200 + 923) << 52;
            }
        };
        uint64_t x = operand(), y = operand();
        const uint32_t control = 0x1fa0 | (random() % 4 ? 0 : 0x8000) | (random() % 4 ? 0 : 0x40);
        b.cpu.vec[0].q = {x, 7, 0, 0};
        b.cpu.vec[1].q = {y, 8, 0, 0};
        b.cpu.mxcsr = control;
        REQUIRE(b.vectorOf({0xf2, 0x0f, op.opcode, 0xc1}) == 0);
        Ieee e(control);
        CHECK(b.cpu.vec[0].q[0] == op.exact(e, x, y));
        CHECK(b.cpu.vec[0].q[1] == 7);
        CHECK(b.cpu.mxcsr == (control | e.raised));
    }
}

TEST_CASE("MOVSD and CMPSD mean the string or the vector instruction") {
    SseBench b;
    b.cpu.gpr[Rsi] = kData;
    b.cpu.gpr[Rdi] = kData + 0x100;
    b.memory.write<uint32_t>(PhysAddr(kData), 0x12345678);
    CHECK(b.vectorOf({0xa5}) == 0);
    CHECK(b.memory.read<uint32_t>(PhysAddr(kData + 0x100)) == 0x12345678);
    CHECK(b.cpu.gpr[Rsi] == kData + 4);
    b.cpu.vec[0].q = {1, 2, 0, 0};
    b.cpu.vec[1].q = {3, 4, 0, 0};
    CHECK(b.vectorOf({0xf2, 0x0f, 0x10, 0xc1}) == 0);
    CHECK(b.cpu.vec[0].q[0] == 3);
    CHECK(b.cpu.vec[0].q[1] == 2);
    CHECK(b.vectorOf({0xf2, 0x0f, 0xc2, 0xc1, 0x00}) == 0);
    CHECK(b.cpu.vec[0].q[0] == ~0ull);
}

TEST_CASE("SSE works in 32-bit protected mode") {
    SseBench protectedMode(GuestBench::Mode::Protected32);
    protectedMode.memory.write<uint64_t>(PhysAddr(kData), 0x1122334455667788);
    CHECK(protectedMode.vectorOf(kMovapsLoad) == 0);
    CHECK(protectedMode.cpu.vec[0].q[0] == 0x1122334455667788);
}
