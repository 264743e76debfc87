// MMX registers as aliases of the x87's, and the faults of MMX instructions. What the lanes compute is
// compared with the host by the instruction fuzzer.
#include <doctest/doctest.h>

#include "tests/cpu_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kData = 0x60000;

struct MmxBench : GuestBench {
    MmxBench() : GuestBench(Mode::Long64) {}

    std::optional<Caught> run(std::initializer_list<uint8_t> bytes) {
        write(kCode, std::vector<uint8_t>(bytes));
        cpu.rip = kCode;
        return step();
    }
};

}  // namespace

TEST_CASE("an MMX write sets TOP to 0, marks all registers valid and fills sign and exponent") {
    MmxBench b;
    b.cpu.fpu.setTop(5);
    b.cpu.fpu.empty = 0xff;
    b.cpu.gpr[Rax] = 0x1122334455667788;
    CHECK_FALSE(b.run({0x48, 0x0f, 0x6e, 0xd8}));  // movq mm3, rax
    CHECK(b.cpu.fpu.top() == 0);
    CHECK(b.cpu.fpu.empty == 0);
    CHECK(b.cpu.fpu.physical[3].mantissa == 0x1122334455667788);
    CHECK(b.cpu.fpu.physical[3].signExponent == 0xffff);

    CHECK_FALSE(b.run({0x0f, 0x77}));  // emms
    CHECK(b.cpu.fpu.empty == 0xff);
    CHECK(b.cpu.fpu.physical[3].mantissa == 0x1122334455667788);
}

TEST_CASE("MMX: MM3 is physical register 3 whatever TOP was") {
    MmxBench b;
    b.cpu.fpu.setTop(6);
    b.cpu.fpu.physical[3].mantissa = 0x0101010101010101;
    b.cpu.fpu.physical[4].mantissa = 0x00ff00ff00ff00ff;
    CHECK_FALSE(b.run({0x0f, 0xfc, 0xdc}));  // paddb mm3, mm4
    CHECK(b.cpu.fpu.physical[3].mantissa == 0x0100010001000100);
}

TEST_CASE("MMX is refused by CR0.EM and CR0.TS, and waits for pending x87 errors") {
    const std::initializer_list<uint8_t> paddb = {0x0f, 0xfc, 0xdc};
    MmxBench b;
    b.cpu.setCr0(b.cpu.cr0 | cr0::EM);
    CHECK(b.run(paddb)->vector == kUD);
    b.cpu.setCr0((b.cpu.cr0 & ~cr0::EM) | cr0::TS);
    CHECK(b.run(paddb)->vector == kNM);
    b.cpu.setCr0(b.cpu.cr0 & ~cr0::TS);
    b.cpu.fpu.control = 0x37e;
    b.cpu.fpu.status = 0x8081;
    CHECK(b.run(paddb)->vector == kMF);
    b.cpu.fpu.status = 0;
    CHECK_FALSE(b.run(paddb));
}

TEST_CASE("a faulting MMX load changes nothing") {
    MmxBench b;
    b.cpu.fpu.setTop(5);
    b.cpu.fpu.physical[0] = {0x1234, 0x3fff};
    b.cpu.gpr[Rbx] = 0x7000000000;
    auto fault = b.run({0x0f, 0xfc, 0x03});  // paddb mm0, [rbx]
    REQUIRE(fault);
    CHECK(fault->vector == kPF);
    CHECK(b.cpu.fpu.top() == 5);
    CHECK(b.cpu.fpu.physical[0].mantissa == 0x1234);
    CHECK(b.cpu.fpu.physical[0].signExponent == 0x3fff);
}

TEST_CASE("MASKMOVQ writes the chosen bytes and checks all of them") {
    MmxBench b;
    b.cpu.fpu.physical[1].mantissa = 0x8877665544332211;
    b.cpu.fpu.physical[2].mantissa = 0x80007f0000ff0080;
    b.cpu.gpr[Rdi] = kData;
    CHECK_FALSE(b.run({0x0f, 0xf7, 0xca}));  // maskmovq mm1, mm2
    CHECK(b.memory.read<uint64_t>(PhysAddr(kData)) == 0x8800000000330011);

    b.cpu.fpu.physical[2].mantissa = 0;
    b.cpu.gpr[Rdi] = GuestBench::kLow - 4;  // the last four bytes are not mapped
    CHECK(b.run({0x0f, 0xf7, 0xca})->vector == kPF);
}

TEST_CASE("PUNPCKLBW mm reads four bytes, PUNPCKHBW mm eight") {
    MmxBench b;
    b.cpu.gpr[Rbx] = GuestBench::kLow - 4;
    b.memory.write<uint32_t>(PhysAddr(GuestBench::kLow - 4), 0xddccbbaa);
    b.cpu.fpu.physical[0].mantissa = 0x0807060504030201;
    CHECK_FALSE(b.run({0x0f, 0x60, 0x03}));
    CHECK(b.cpu.fpu.physical[0].mantissa == 0xdd04cc03bb02aa01);
    CHECK(b.run({0x0f, 0x68, 0x03})->vector == kPF);
}
