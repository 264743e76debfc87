// AVX: what must be enabled, which encodings are refused, alignment, masks that keep memory untouched,
// gathers that fault in the middle. What the instructions compute is compared with the host by the
// instruction fuzzer.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "cpu/decoder.hpp"
#include "cpu/handlers.hpp"
#include "tests/cpu_bench.hpp"
#include "tests/host_oracle.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kData = 0x60000;
constexpr uint64_t kRam = 0x400000;  // two mapped pages with nothing around them
using Bytes = std::vector<uint8_t>;

struct AvxBench : GuestBench {
    explicit AvxBench(Mode mode = Mode::Long64, unsigned cpl = 0) : GuestBench(mode, cpl) {
        cpu.gpr[Rbx] = kData;
        if (mode != Mode::Real16) {
            enableAvx();
            addRam(kRam, 0x2000);
        }
    }
    uint8_t vectorOf(const Bytes& bytes) {
        write(kCode, bytes);
        cpu.rip = kCode;
        auto c = step();
        if (c) fault = *c;
        return c ? c->vector : 0;
    }
    void fill(unsigned reg, uint64_t q0, uint64_t q1, uint64_t q2, uint64_t q3) {
        cpu.vec[reg].q = {q0, q1, q2, q3};
    }
    Caught fault;
};

using Words = std::array<uint64_t, 8>;

const Bytes kVaddps = {0xc5, 0xf4, 0x58, 0xc2};           // ymm0, ymm1, ymm2
const Bytes kVpaddb128 = {0xc5, 0xf1, 0xfc, 0xc2};        // xmm0, xmm1, xmm2
const Bytes kPaddb = {0x66, 0x0f, 0xfc, 0xc2};            // xmm0, xmm2
const Bytes kVmovapsLoad = {0xc5, 0xfc, 0x28, 0x03};      // ymm0, [rbx]
const Bytes kVmovapsLoad128 = {0xc5, 0xf8, 0x28, 0x03};   // xmm0, [rbx]
const Bytes kVmovapsStore = {0xc5, 0xfc, 0x29, 0x03};     // [rbx], ymm0
const Bytes kVmovupsLoad = {0xc5, 0xfc, 0x10, 0x03};      // ymm0, [rbx]
const Bytes kVmovntdq = {0xc5, 0xfd, 0xe7, 0x03};         // [rbx], ymm0
const Bytes kVmovntdqa = {0xc4, 0xe2, 0x7d, 0x2a, 0x03};  // ymm0, [rbx]
const Bytes kVpxorLoad = {0xc5, 0xf5, 0xef, 0x03};        // ymm0, ymm1, [rbx]
const Bytes kVpcmpistri = {0xc4, 0xe3, 0x79, 0x63, 0x03, 0x0c};
const Bytes kVzeroupper = {0xc5, 0xf8, 0x77}, kVzeroall = {0xc5, 0xfc, 0x77};
const Bytes kVmaskmovLoad = {0xc4, 0xe2, 0x75, 0x2c, 0x03};         // vmaskmovps ymm0, ymm1, [rbx]
const Bytes kVmaskmovStore = {0xc4, 0xe2, 0x75, 0x2e, 0x03};        // vmaskmovps [rbx], ymm1, ymm0
const Bytes kVpgatherdd = {0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8b};     // ymm0, [rbx + 4 * ymm1], ymm2
const Bytes kVgatherdpd128 = {0xc4, 0xe2, 0xe9, 0x92, 0x04, 0xcb};  // xmm0, [rbx + 8 * xmm1], xmm2
const Bytes kVdivpd = {0xc5, 0xf5, 0x5e, 0xc2};                     // ymm0, ymm1, ymm2
const Bytes kVldmxcsr = {0xc5, 0xf8, 0xae, 0x13};                   // [rbx]

}  // namespace

TEST_CASE("AVX needs CR4.OSXSAVE and both bits of XCR0, and minds CR0.TS but not CR0.EM") {
    AvxBench b;
    CHECK(b.vectorOf(kVaddps) == 0);
    auto set = [&](uint64_t cr4Without, uint64_t xcr0, uint64_t cr0With) {
        b.enableAvx();
        b.cpu.cr4 &= ~cr4Without;
        b.cpu.xcr0 = xcr0;
        b.cpu.cr0 = (b.cpu.cr0 & ~(cr0::EM | cr0::TS)) | cr0With;
        b.cpu.segmentsChanged();
        return b.vectorOf(kVaddps);
    };
    CHECK(set(cr4::OSXSAVE, 7, 0) == kUD);
    CHECK(set(0, 1, 0) == kUD);
    CHECK(set(0, 3, 0) == kUD);
    CHECK(set(0, 5, 0) == kUD);
    CHECK(set(0, 7, cr0::TS) == kNM);
    CHECK(set(0, 7, cr0::EM) == 0);
    CHECK(set(cr4::OSFXSR, 7, 0) == 0);
    CHECK(set(cr4::OSXSAVE, 7, cr0::TS) == kUD);
    CHECK(set(0, 7, 0) == 0);
}

TEST_CASE("VEX is undefined in real and virtual-8086 mode") {
    AvxBench real(GuestBench::Mode::Real16);
    real.cpu.cr4 |= cr4::OSXSAVE | cr4::OSFXSR;
    real.cpu.xcr0 = 7;
    real.cpu.segmentsChanged();
    real.cpu.rip = 0xf000;
    real.write(0xf000, kVaddps);
    auto caught = real.step();
    REQUIRE(caught);
    CHECK(caught->vector == kUD);

    AvxBench b(GuestBench::Mode::Protected32, 3);
    CHECK(b.vectorOf(kVaddps) == 0);
    b.cpu.seg[Cs].rights &= uint16_t(~0x4000);  // 16-bit protected mode has it
    b.cpu.segmentsChanged();
    CHECK(b.vectorOf(kVaddps) == 0);
    CHECK(b.vectorOf(kVpgatherdd) == kUD);  // not with 16-bit addresses
    b.cpu.flags.set(b.cpu.flags.value() | flag::VM);
    b.cpu.segmentsChanged();
    CHECK_FALSE(b.cpu.avxEnabled());
}

TEST_CASE("VEX refuses prefixes, reserved vvvv and reserved L") {
    AvxBench b;
    for (uint8_t prefix : {0x66, 0xf2, 0xf3, 0xf0, 0x48}) {
        Bytes code = kVaddps;
        code.insert(code.begin(), prefix);
        CHECK(b.vectorOf(code) == kUD);
    }
    CHECK(b.vectorOf({0x65, 0xc5, 0xf4, 0x58, 0xc2}) == 0);          // a segment prefix is fine
    CHECK(b.vectorOf({0xc5, 0xf4, 0x28, 0xc2}) == kUD);              // vmovaps with vvvv
    CHECK(b.vectorOf({0xc5, 0xf0, 0x77}) == kUD);                    // vzeroupper with vvvv
    CHECK(b.vectorOf({0xc5, 0xf5, 0xc5, 0xc1, 0x01}) == kUD);        // vpextrw with L
    CHECK(b.vectorOf({0xc5, 0xfc, 0xae, 0x13}) == kUD);              // vldmxcsr with L
    CHECK(b.vectorOf({0xc4, 0xe3, 0x75, 0x41, 0xc2, 0xff}) == kUD);  // vdppd with L
    CHECK(b.vectorOf({0xc4, 0xe3, 0x71, 0x06, 0xc2, 0x01}) == kUD);  // vperm2f128 without L
    CHECK(b.vectorOf({0xc4, 0xe2, 0xf9, 0x18, 0xc1}) == kUD);        // vbroadcastss with W
    CHECK(b.vectorOf({0xc4, 0xe2, 0x7d, 0x1a, 0xc1}) == kUD);        // vbroadcastf128 of a register
    CHECK(b.vectorOf({0xc4, 0xe1, 0x7a, 0xbc, 0xc0}) == kUD);        // TZCNT under VEX
    CHECK(b.vectorOf({0xc4, 0xe4, 0x75, 0x58, 0xc2}) == kUD);        // map 4
    CHECK(b.vectorOf({0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x83}) == kUD);  // gather: destination = index
    CHECK(b.vectorOf({0xc4, 0xe2, 0x7d, 0x90, 0x04, 0x8b}) == kUD);  // destination = mask
    CHECK(b.vectorOf({0xc4, 0xe2, 0x75, 0x90, 0x04, 0x8b}) == kUD);  // mask = index
    CHECK(b.vectorOf({0xc4, 0xe2, 0x6d, 0x90, 0xc1}) == kUD);        // no memory
    CHECK(b.vectorOf({0xc4, 0xe2, 0x6d, 0x90, 0x03}) == kUD);        // no SIB
}

TEST_CASE("SSE keeps bits 255:128, VEX.128 clears them") {
    AvxBench b;
    b.fill(0, 1, 2, 3, 4);
    b.fill(1, 0x10, 0x20, 0x30, 0x40);
    b.fill(2, 5, 6, 7, 8);
    CHECK(b.vectorOf(kPaddb) == 0);
    CHECK(b.cpu.vec[0].q == Words{6, 8, 3, 4});
    CHECK(b.vectorOf(kVpaddb128) == 0);
    CHECK(b.cpu.vec[0].q == Words{0x15, 0x26, 0, 0});
}

TEST_CASE("VZEROUPPER and VZEROALL reach as many registers as the mode has") {
    for (auto mode : {GuestBench::Mode::Long64, GuestBench::Mode::Compat32}) {
        AvxBench b(mode);
        const unsigned reached = mode == GuestBench::Mode::Long64 ? 16 : 8;
        for (unsigned n = 0; n < 16; n++) b.fill(n, 1, 2, 3, 4);
        CHECK(b.vectorOf(kVzeroupper) == 0);
        for (unsigned n = 0; n < 16; n++)
            CHECK(b.cpu.vec[n].q == (n < reached ? Words{1, 2, 0, 0} : Words{1, 2, 3, 4}));
        CHECK(b.vectorOf(kVzeroall) == 0);
        for (unsigned n = 0; n < 16; n++)
            CHECK(b.cpu.vec[n].q == (n < reached ? Words{} : Words{1, 2, 3, 4}));
    }
}

TEST_CASE("Only the aligned moves of VEX want alignment, to their own size") {
    AvxBench b;
    b.cpu.gpr[Rbx] = kData + 16;
    for (const Bytes* code : {&kVmovapsLoad, &kVmovapsStore, &kVmovntdq, &kVmovntdqa}) {
        CHECK(b.vectorOf(*code) == kGP);
        CHECK(b.fault.error == 0);
    }
    CHECK(b.vectorOf(kVmovapsLoad128) == 0);
    b.cpu.gpr[Rbx] = kData + 1;
    for (const Bytes* code : {&kVmovupsLoad, &kVpxorLoad, &kVpcmpistri}) CHECK(b.vectorOf(*code) == 0);
    CHECK(b.vectorOf(kVmovapsLoad128) == kGP);
}

TEST_CASE("A masked move touches only the elements it moves") {
    AvxBench b;
    const uint64_t end = kRam + 0x2000;
    b.cpu.gpr[Rbx] = end - 16;  // the upper four elements are not mapped
    for (unsigned n = 0; n < 4; n++) b.memory.write<uint32_t>(PhysAddr(end - 16 + 4 * n), 0x100 + n);
    constexpr uint64_t top = 0x8000000080000000;
    b.fill(1, top, 1ull << 63, 0, 0);
    CHECK(b.vectorOf(kVmaskmovLoad) == 0);
    CHECK(b.cpu.vec[0].q == Words{0x0000010100000100, 0x0000010300000000, 0, 0});
    b.fill(0, 0x1111111122222222, 0x3333333344444444, ~0ull, ~0ull);
    CHECK(b.vectorOf(kVmaskmovStore) == 0);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 16)) == 0x22222222);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 8)) == 0x102);  // masked off
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 4)) == 0x33333333);

    // A fault stores nothing and loads nothing.
    b.fill(0, 7, 7, 7, 7);
    b.fill(1, top, top, top, 0);
    CHECK(b.vectorOf(kVmaskmovStore) == kPF);
    CHECK(b.fault.cr2 == end);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 16)) == 0x22222222);
    CHECK(b.vectorOf(kVmaskmovLoad) == kPF);
    CHECK(b.cpu.vec[0].q == Words{7, 7, 7, 7});

    // Nothing is masked on: not even a non-canonical address matters.
    b.fill(1, 0, ~top, 0, 0x7fffffff);
    b.cpu.gpr[Rbx] = 0x8000000000000000;
    CHECK(b.vectorOf(kVmaskmovLoad) == 0);
    CHECK(b.vectorOf(kVmaskmovStore) == 0);
    CHECK(b.cpu.vec[0].q == Words{});
}

TEST_CASE("A gather that faults keeps what it has done, and goes on from there") {
    AvxBench b;
    b.cpu.gpr[Rbx] = kRam;
    for (unsigned n = 0; n < 16; n++) b.memory.write<uint32_t>(PhysAddr(kRam + 4 * n), 0x100 + n);
    constexpr uint64_t all = ~0ull, old = 0xaaaaaaaabbbbbbbb;
    b.fill(0, old, old, old, old);
    b.fill(1, 0x0000000300000001, 0x0010000000000002, 5ull << 32 | 4, 0x0000000700000006);  // [3] is outside
    b.fill(2, all, all, all & ~0xffffffffull, all);
    CHECK(b.vectorOf(kVpgatherdd) == kPF);
    CHECK(b.fault.cr2 == kRam + 4 * 0x100000);
    CHECK(b.cpu.vec[0].q == Words{0x0000010300000101, 0xaaaaaaaa00000102, old, old});
    CHECK(b.cpu.vec[2].q == Words{0, all << 32, all << 32, all});

    b.cpu.vec[1].set<uint32_t>(3, 9);  // the page is there now, so to speak
    CHECK(b.vectorOf(kVpgatherdd) == 0);
    CHECK(b.cpu.vec[0].q ==
          Words{0x0000010300000101, 0x0000010900000102, 0x00000105bbbbbbbb, 0x0000010700000106});
    CHECK(b.cpu.vec[2].q == Words{});
}

TEST_CASE("A gather's 128-bit form clears the rest of destination and mask; indices are signed") {
    AvxBench b;
    b.cpu.gpr[Rbx] = kRam + 0x100;
    b.memory.write<uint64_t>(PhysAddr(kRam + 0xf8), 0x1234);
    b.memory.write<uint64_t>(PhysAddr(kRam + 0x108), 0x5678);
    b.fill(0, 1, 2, 3, 4);
    b.fill(1, 0x00000001ffffffff, 0, 0, 0);
    b.fill(2, ~0ull, ~0ull, ~0ull, ~0ull);
    CHECK(b.vectorOf(kVgatherdpd128) == 0);
    CHECK(b.cpu.vec[0].q == Words{0x1234, 0x5678, 0, 0});
    CHECK(b.cpu.vec[2].q == Words{});
}

TEST_CASE("Gathers and masked moves never raise #AC") {
    AvxBench b(GuestBench::Mode::Long64, 3);
    b.cpu.cr0 |= cr0::AM;
    b.cpu.writeFlags(flag::AC, flag::AC);
    b.cpu.gpr[Rbx] = kRam + 1;
    for (unsigned n : {1u, 2u}) b.fill(n, 0, 0, 0, 0);
    b.cpu.vec[1].q[0] = 1ull << 63;
    CHECK(b.vectorOf(kVmaskmovLoad) == 0);
    CHECK(b.vectorOf(kVmaskmovStore) == 0);
    b.fill(1, 1, 2, 3, 4);
    b.cpu.vec[2].q[0] = 1ull << 63;
    CHECK(b.vectorOf(kVpgatherdd) == 0);
    CHECK(b.vectorOf(kVldmxcsr) == kAC);
}

TEST_CASE("An unmasked exception in any element leaves the destination as it was") {
    AvxBench b;
    constexpr uint64_t one = 0x3ff0000000000000;
    b.fill(0, 9, 9, 9, 9);
    b.fill(1, one, one, one, one);
    b.fill(2, one, one, one, 0);
    b.cpu.mxcsr = 0x1f80 & ~0x200;
    CHECK(b.vectorOf(kVdivpd) == kXM);
    CHECK(b.cpu.vec[0].q == Words{9, 9, 9, 9});
    CHECK(b.cpu.mxcsr == ((0x1f80 & ~0x200) | 4));
    b.cpu.setCr4(b.cpu.cr4 & ~cr4::OSXMMEXCPT & ~cr4::OSXSAVE);
    b.enableAvx();
    CHECK(b.vectorOf(kVdivpd) == kUD);
    b.cpu.mxcsr = 0x1f80;
    CHECK(b.vectorOf(kVdivpd) == 0);
    CHECK(b.cpu.vec[0].q == Words{one, one, one, 0x7ff0000000000000});
}

TEST_CASE("VLDMXCSR refuses reserved bits") {
    AvxBench b;
    b.memory.write<uint32_t>(PhysAddr(kData), 0x10000);
    CHECK(b.vectorOf(kVldmxcsr) == kGP);
    b.memory.write<uint32_t>(PhysAddr(kData), 0x1fa0);
    CHECK(b.vectorOf(kVldmxcsr) == 0);
    CHECK(b.cpu.mxcsr == 0x1fa0);
}

TEST_CASE("Models without AVX refuse VEX") {
    CpuModel m = *kilnModel();
    m.features.remove(Feature::AVX);
    m.features.remove(Feature::AES);
    GuestBench old(GuestBench::Mode::Long64, 0, std::make_shared<const CpuModel>(m));
    old.enableAvx();
    for (const Bytes& code : {kVaddps, kVzeroupper, Bytes{0x66, 0x0f, 0x38, 0xdc, 0xc1}}) {
        old.write(kCode, code);
        old.cpu.rip = kCode;
        auto c = old.step();
        REQUIRE(c);
        CHECK(c->vector == kUD);
    }
}

// Every opcode under VEX, with and without L, W and vvvv, of registers and of memory.
TEST_CASE("What kiln refuses under VEX, the host refuses, too") {
    if (!HostOracle::available() || !HostOracle::runs(ZYDIS_ISA_SET_AVX2)) return;
    HostOracle oracle;
    const Decoder kiln(*kilnModel());
    ZydisDecoder zydis;
    ZydisDecoderInit(&zydis, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    unsigned refused = 0;
    std::string accepted;
    for (unsigned n = 0; n < 3 << 14; n++) {
        const unsigned map = (n >> 14) + 1, opcode = n >> 6 & 0xff, pp = n & 3, l = n >> 2 & 1,
                       w = n >> 3 & 1;
        const unsigned vvvv = n >> 4 & 1 ? 2 : 0;
        const uint8_t modrm = n >> 5 & 1 ? 0xcb : 0x0b;  // registers 1 and 3, or [rbx]
        const std::array<uint8_t, 7> code = {0xc4,
                                             uint8_t(0xe0 | map),
                                             uint8_t(w << 7 | (15 - vvvv) << 3 | l << 2 | pp),
                                             uint8_t(opcode),
                                             modrm,
                                             0,
                                             0};
        Insn insn;
        bool ends;
        kiln.decode(code, CodeMode::Code64, 0, insn, ends);
        ZydisDecodedInstruction z;
        if (insn.run != undefinedOpcode ||
            ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&zydis, nullptr, code.data(), code.size(), &z)))
            continue;
        refused++;
        UserState state;
        state.fx.set<uint32_t>(FxImage::kMxcsr, 0x1f80);
        state.fx.set<uint16_t>(FxImage::kControl, 0x37f);
        state.gpr.fill(HostOracle::kScratch + 0x1000);
        auto fault = oracle.run(code, HostOracle::kCode + 0x100, true, state);
        if (!fault || fault->vector != kUD)
            accepted += fmt::format(" map {} pp {} opcode {:02x} L{} W{} vvvv {} modrm {:02x}: {};", map, pp,
                                    opcode, l, w, vvvv, modrm, fault ? int(fault->vector) : -1);
    }
    CHECK(refused > 30000);
    CHECK(accepted == "");
}
