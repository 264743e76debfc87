// AVX-512: what must be enabled, which encodings are refused, what becomes of the upper bits, masks that keep
// memory untouched, gathers and scatters that fault in the middle, rounding and {sae}, XSAVE's components.
// What the instructions compute is compared with the host by the instruction fuzzer.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "cpu/decoder.hpp"
#include "cpu/handlers.hpp"
#include "cpu/ieee_float.hpp"
#include "cpu/xsave.hpp"
#include "tests/cpu_bench.hpp"
#include "tests/host_oracle.hpp"
#include "tests/random.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kData = 0x60000;
constexpr uint64_t kRam = 0x400000;  // two mapped pages with nothing around them
using Bytes = std::vector<uint8_t>;
using Words = std::array<uint64_t, 8>;

struct Bench : GuestBench {
    explicit Bench(Mode mode = Mode::Long64, std::shared_ptr<const CpuModel> model = kilnModel())
        : GuestBench(mode, 0, std::move(model)) {
        cpu.gpr[Rbx] = kData;
        enableAvx();
        addRam(kRam, 0x2000);
    }
    // The exception an instruction raises, or 0.
    uint8_t vectorOf(const Bytes& bytes) {
        write(kCode, bytes);
        cpu.rip = kCode;
        auto c = step();
        if (c) fault = *c;
        return c ? c->vector : 0;
    }
    void fill(unsigned reg, uint64_t v) {
        for (unsigned n = 0; n < 8; n++) cpu.vec[reg].q[n] = v + n;
    }
    template <class T>
    T lane(unsigned reg, unsigned n) const {
        return cpu.vec[reg].get<T>(n);
    }
    Caught fault;
};

// Operands: zmm0 and zmm1, k1 as mask, [rbx].
const Bytes kVpaddd = {0x62, 0xf1, 0x75, 0x48, 0xfe, 0xc2};           // zmm0, zmm1, zmm2
const Bytes kVpaddd128 = {0x62, 0xf1, 0x75, 0x08, 0xfe, 0xc2};        // xmm0, xmm1, xmm2
const Bytes kVpadddMasked = {0x62, 0xf1, 0x75, 0x49, 0xfe, 0xc2};     // zmm0{k1}, zmm1, zmm2
const Bytes kVpadddZeroed = {0x62, 0xf1, 0x75, 0xc9, 0xfe, 0xc2};     // zmm0{k1}{z}, zmm1, zmm2
const Bytes kVpadddLoad = {0x62, 0xf1, 0x75, 0x49, 0xfe, 0x03};       // zmm0{k1}, zmm1, [rbx]
const Bytes kVpadddBroadcast = {0x62, 0xf1, 0x75, 0x59, 0xfe, 0x03};  // zmm0{k1}, zmm1, [rbx]{1to16}
const Bytes kVpermdLoad = {0x62, 0xf2, 0x75, 0x49, 0x36, 0x03};       // zmm0{k1}, zmm1, [rbx]
const Bytes kLoad32 = {0x62, 0xf1, 0x7e, 0x49, 0x6f, 0x03};           // vmovdqu32 zmm0{k1}, [rbx]
const Bytes kStore32 = {0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x03};          // vmovdqu32 [rbx]{k1}, zmm0
const Bytes kAligned = {0x62, 0xf1, 0x7d, 0x48, 0x6f, 0x03};          // vmovdqa32 zmm0, [rbx]
const Bytes kAlignedMasked = {0x62, 0xf1, 0x7d, 0x49, 0x6f, 0x03};    // vmovdqa32 zmm0{k1}, [rbx]
const Bytes kCompress = {0x62, 0xf2, 0x7d, 0x49, 0x8b, 0x03};         // vpcompressd [rbx]{k1}, zmm0
const Bytes kExpand = {0x62, 0xf2, 0x7d, 0x49, 0x89, 0x03};           // vpexpandd zmm0{k1}, [rbx]
const Bytes kGather = {0x62, 0xf2, 0x7d, 0x49, 0x90, 0x04, 0x8b};     // vpgatherdd zmm0{k1}, [rbx + 4*zmm1]
const Bytes kScatter = {0x62, 0xf2, 0x7d, 0x49, 0xa0, 0x04, 0x8b};    // vpscatterdd [rbx + 4*zmm1]{k1}, zmm0
const Bytes kKaddb = {0xc5, 0xed, 0x4a, 0xcb}, kKaddw = {0xc5, 0xec, 0x4a, 0xcb},
            kKaddq = {0xc4, 0xe1, 0xec, 0x4a, 0xcb};               // k1, k2, k3
const Bytes kKmovw = {0xc5, 0xf8, 0x92, 0xc8};                     // k1, eax
const Bytes kVaddps = {0xc5, 0xf4, 0x58, 0xc2};                    // ymm0, ymm1, ymm2
const Bytes kVpaddb128 = {0xc5, 0xf1, 0xfc, 0xc2};                 // xmm0, xmm1, xmm2
const Bytes kPaddb = {0x66, 0x0f, 0xfc, 0xc2};                     // xmm0, xmm2
const Bytes kVdivpsUp = {0x62, 0xf1, 0x74, 0x58, 0x5e, 0xc2};      // zmm0, zmm1, zmm2{ru-sae}
const Bytes kVdivps = {0x62, 0xf1, 0x74, 0x48, 0x5e, 0xc2};        // zmm0, zmm1, zmm2
const Bytes kVdivpsMasked = {0x62, 0xf1, 0x74, 0x49, 0x5e, 0xc2};  // zmm0{k1}, zmm1, zmm2
const Bytes kXsave = {0x48, 0x0f, 0xae, 0x23}, kXsavec = {0x48, 0x0f, 0xc7, 0x23},
            kXrstor = {0x48, 0x0f, 0xae, 0x2b}, kXsetbv = {0x0f, 0x01, 0xd1}, kXgetbv = {0x0f, 0x01, 0xd0};

std::shared_ptr<const CpuModel> modelOf(const char* argument) {
    std::vector<std::string> warnings;
    return chooseCpuModel(argument, warnings);
}

}  // namespace

TEST_CASE("EVEX and opmask instructions need all of AVX-512's state, and mind CR0.TS") {
    Bench b;
    auto set = [&](uint64_t cr4Without, uint64_t xcr0, uint64_t cr0With) {
        b.cpu.cr4 = (b.cpu.cr4 | cr4::OSXSAVE) & ~cr4Without;
        b.cpu.xcr0 = xcr0;
        b.cpu.cr0 = (b.cpu.cr0 & ~(cr0::EM | cr0::TS)) | cr0With;
        b.cpu.segmentsChanged();
        const uint8_t evex = b.vectorOf(kVpaddd), low = b.vectorOf(kVpaddd128), mask = b.vectorOf(kKaddw);
        CHECK(evex == low);
        CHECK(evex == mask);
        return evex;
    };
    CHECK(set(0, 0xe7, 0) == 0);
    CHECK(set(cr4::OSXSAVE, 0xe7, 0) == kUD);
    for (uint64_t xcr0 : {0x07, 0x27, 0x67, 0xc7, 0xa7, 0xe3, 0xe5, 0x01}) {
        CAPTURE(xcr0);
        CHECK(set(0, xcr0, 0) == kUD);
        CHECK(set(0, xcr0, cr0::TS) == kUD);
    }
    CHECK(set(0, 0xe7, cr0::TS) == kNM);
    CHECK(set(0, 0xe7, cr0::EM) == 0);
    CHECK(set(0, 0x07, 0) == kUD);
    CHECK(b.vectorOf(kVaddps) == 0);  // AVX goes on without it
}

TEST_CASE(
    "EVEX is BOUND in real mode, undefined in virtual-8086 mode, and has eight registers in 32-bit code") {
    Bench b(GuestBench::Mode::Protected32);
    CHECK(b.vectorOf(kVpaddd) == 0);
    CHECK(b.vectorOf(kKmovw) == 0);
    b.cpu.flags.set(b.cpu.flags.value() | flag::VM);
    b.cpu.segmentsChanged();
    CHECK_FALSE(b.cpu.avx512Enabled());
    Bench real(GuestBench::Mode::Real16);
    real.cpu.xcr0 = 0xe7;
    real.cpu.segmentsChanged();
    CHECK_FALSE(real.cpu.avx512Enabled());
}

TEST_CASE("Models: AVX-512 and its parts are undefined where they are not offered") {
    for (const char* name : {"x86-64-v3", "Skylake-Client", "kiln,-avx512f", "kiln,-avx2"}) {
        Bench b(GuestBench::Mode::Long64, modelOf(name));
        b.cpu.xcr0 = 0xe7;  // which XSETBV would refuse
        b.cpu.segmentsChanged();
        for (const Bytes& code : {kVpaddd, kVpaddd128, kKaddb, kKaddw, kKaddq, kKmovw, kGather, kExpand})
            CHECK(b.vectorOf(code) == kUD);
        CHECK((b.cpu.cpuid(7, 0).ebx & 0xdc230000) == 0);
        CHECK((b.cpu.cpuid(7, 0).ecx & 0x00005842) == 0);
        CHECK((b.cpu.cpuid(0xd, 0).eax & 0xe0) == 0);
        CHECK(b.cpu.cpuid(0xd, 5).eax == 0);
    }
    Bench v4(GuestBench::Mode::Long64, modelOf("x86-64-v4"));
    CHECK(v4.vectorOf(kVpaddd) == 0);
    CHECK(v4.vectorOf(kVpaddd128) == 0);
    CHECK(v4.vectorOf({0x62, 0xf2, 0x7d, 0x48, 0x55, 0xc1}) == kUD);  // vpopcntd
    Bench noVl(GuestBench::Mode::Long64, modelOf("kiln,-avx512vl"));
    CHECK(noVl.vectorOf(kVpaddd) == 0);
    CHECK(noVl.vectorOf(kVpaddd128) == kUD);
    Bench onlyF(GuestBench::Mode::Long64, modelOf("kiln,-avx512dq,-avx512bw"));
    CHECK(onlyF.vectorOf(kKmovw) == 0);
    CHECK(onlyF.vectorOf(kKaddb) == kUD);
    CHECK(onlyF.vectorOf(kKaddq) == kUD);
    CHECK(onlyF.vectorOf({0x62, 0xf1, 0x75, 0x48, 0xfc, 0xc2}) == kUD);  // vpaddb
    CHECK((onlyF.cpu.cpuid(7, 0).ecx & 0x1042) == 0);                    // BITALG, VBMI, VBMI2 need BW
}

TEST_CASE("What is above a result: SSE keeps it, VEX and EVEX clear it up to bit 511") {
    Bench b;
    for (unsigned n : {1u, 2u}) b.cpu.vec[n].q = {1, 2, 3, 4, 5, 6, 7, 8};
    b.fill(0, 0x10);
    CHECK(b.vectorOf(kPaddb) == 0);
    CHECK(b.cpu.vec[0].q == Words{0x11, 0x13, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17});
    CHECK(b.vectorOf(kVpaddb128) == 0);
    CHECK(b.cpu.vec[0].q == Words{2, 4});
    b.fill(0, 0x10);
    CHECK(b.vectorOf(kVaddps) == 0);
    CHECK(b.cpu.vec[0].q[4] == 0);
    CHECK(b.cpu.vec[0].q[7] == 0);
    b.fill(0, 0x10);
    CHECK(b.vectorOf(kVpaddd128) == 0);
    CHECK(b.cpu.vec[0].q == Words{2, 4});
    CHECK(b.vectorOf(kVpaddd) == 0);
    CHECK(b.cpu.vec[0].q == Words{2, 4, 6, 8, 10, 12, 14, 16});
    for (unsigned n = 0; n < 32; n++) b.fill(n, 0x10);
    CHECK(b.vectorOf({0xc5, 0xf8, 0x77}) == 0);  // vzeroupper
    CHECK(b.cpu.vec[15].q == Words{0x10, 0x11});
    CHECK(b.cpu.vec[16].q[7] == 0x17);
    CHECK(b.vectorOf({0xc5, 0xfc, 0x77}) == 0);  // vzeroall
    CHECK(b.cpu.vec[15].q == Words{});
    CHECK(b.cpu.vec[31].q[0] == 0x10);
}

TEST_CASE("Masks merge or make zeros") {
    Bench b;
    b.cpu.opmask[1] = 0x8001;
    for (unsigned n : {1u, 2u}) b.cpu.vec[n].q.fill(0x0000000200000001);
    b.cpu.vec[0].q.fill(~0ull);
    CHECK(b.vectorOf(kVpadddMasked) == 0);
    CHECK(b.lane<uint32_t>(0, 0) == 2);
    CHECK(b.lane<uint32_t>(0, 1) == ~0u);
    CHECK(b.lane<uint32_t>(0, 15) == 4);
    CHECK(b.vectorOf(kVpadddZeroed) == 0);
    CHECK(b.cpu.vec[0].q == Words{2, 0, 0, 0, 0, 0, 0, 4ull << 32});
}

TEST_CASE("Elements that the mask leaves out touch no memory") {
    Bench b;
    const uint64_t end = kRam + 0x2000;
    b.cpu.gpr[Rbx] = end - 16;  // all but the first four elements are not mapped
    for (unsigned n = 0; n < 4; n++) b.memory.write<uint32_t>(PhysAddr(end - 16 + 4 * n), 0x100 + n);
    b.cpu.vec[1].q.fill(0);
    b.fill(0, 0);
    b.cpu.opmask[1] = 0xa;
    CHECK(b.vectorOf(kLoad32) == 0);
    CHECK(b.lane<uint32_t>(0, 1) == 0x101);
    CHECK(b.lane<uint32_t>(0, 3) == 0x103);
    CHECK(b.vectorOf(kVpadddLoad) == 0);
    b.cpu.vec[0].q.fill(0x7777777766666666);
    CHECK(b.vectorOf(kStore32) == 0);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 16)) == 0x100);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 12)) == 0x77777777);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 4)) == 0x77777777);

    // One of them does not exist: its own address is in CR2, and nothing is stored or loaded.
    b.cpu.opmask[1] = 0x0041;
    for (const Bytes* code : {&kLoad32, &kStore32, &kVpadddLoad}) {
        CHECK(b.vectorOf(*code) == kPF);
        CHECK(b.fault.cr2 == end + 8);
    }
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 16)) == 0x100);
    CHECK(b.cpu.vec[0].q == Words{0x7777777766666666, 0x7777777766666666, 0x7777777766666666,
                                  0x7777777766666666, 0x7777777766666666, 0x7777777766666666,
                                  0x7777777766666666, 0x7777777766666666});
    // A broadcast needs its element when any bit is set; other classes read everything.
    b.cpu.opmask[1] = 1;
    CHECK(b.vectorOf(kVpermdLoad) == kPF);
    CHECK(b.fault.cr2 == end);
    CHECK(b.vectorOf(kVpadddBroadcast) == 0);
    b.cpu.gpr[Rbx] = end;
    CHECK(b.vectorOf(kVpadddBroadcast) == kPF);
    b.cpu.opmask[1] = ~0ull << 16;  // bits that no element has
    b.cpu.gpr[Rbx] = 1ull << 63;    // not even canonical
    for (const Bytes* code : {&kLoad32, &kStore32, &kVpadddLoad, &kVpadddBroadcast, &kCompress, &kExpand})
        CHECK(b.vectorOf(*code) == 0);
    CHECK(b.vectorOf(kVpermdLoad) == kGP);
}

TEST_CASE("Compression stores and expansion loads only as many elements as the mask has bits") {
    Bench b;
    const uint64_t end = kRam + 0x2000;
    b.cpu.gpr[Rbx] = end - 12;
    for (unsigned n = 0; n < 16; n++) b.cpu.vec[0].set<uint32_t>(n, 0x100 + n);
    b.cpu.opmask[1] = 0x9010;
    CHECK(b.vectorOf(kCompress) == 0);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 12)) == 0x104);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 8)) == 0x10c);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 4)) == 0x10f);
    b.cpu.vec[0].q.fill(0);
    b.cpu.opmask[1] = 0x0089;
    CHECK(b.vectorOf(kExpand) == 0);
    CHECK(b.lane<uint32_t>(0, 0) == 0x104);
    CHECK(b.lane<uint32_t>(0, 3) == 0x10c);
    CHECK(b.lane<uint32_t>(0, 7) == 0x10f);
    b.cpu.opmask[1] = 0x00ff;
    CHECK(b.vectorOf(kCompress) == kPF);
    CHECK(b.fault.cr2 == end);
    CHECK(b.memory.read<uint32_t>(PhysAddr(end - 12)) == 0x104);
    CHECK(b.vectorOf(kExpand) == kPF);
}

TEST_CASE("A gather or scatter that faults keeps what it has done, and goes on from there") {
    Bench b;
    b.cpu.gpr[Rbx] = kRam;
    for (unsigned n = 0; n < 32; n++) b.memory.write<uint32_t>(PhysAddr(kRam + 4 * n), 0x100 + n);
    for (unsigned n = 0; n < 16; n++) b.cpu.vec[1].set<uint32_t>(n, 20 - n);
    b.cpu.vec[1].set<uint32_t>(9, 0x100000);  // outside
    b.cpu.vec[0].q.fill(~0ull);
    b.cpu.opmask[1] = 0xfffffff7;  // not element 3, and more bits than elements
    CHECK(b.vectorOf(kGather) == kPF);
    CHECK(b.fault.cr2 == kRam + 0x400000);
    CHECK(b.lane<uint32_t>(0, 2) == 0x112);
    CHECK(b.lane<uint32_t>(0, 3) == ~0u);
    CHECK(b.lane<uint32_t>(0, 8) == 0x10c);
    CHECK(b.lane<uint32_t>(0, 10) == ~0u);
    CHECK((b.cpu.opmask[1] & 0xffff) == 0xfe00);
    b.cpu.vec[1].set<uint32_t>(9, 11);
    CHECK(b.vectorOf(kGather) == 0);
    CHECK(b.lane<uint32_t>(0, 9) == 0x10b);
    CHECK(b.lane<uint32_t>(0, 15) == 0x105);
    CHECK(b.lane<uint32_t>(0, 3) == ~0u);
    CHECK(b.cpu.opmask[1] == 0);

    // The same place twice: the upper element is there at the end.
    for (unsigned n = 0; n < 16; n++) b.cpu.vec[0].set<uint32_t>(n, 0x200 + n);
    for (unsigned n = 0; n < 16; n++) b.cpu.vec[1].set<uint32_t>(n, n / 2);
    b.cpu.vec[1].set<uint32_t>(5, 0x100000);
    b.cpu.opmask[1] = 0xffff;
    CHECK(b.vectorOf(kScatter) == kPF);
    CHECK((b.cpu.opmask[1] & 0xffff) == 0xffe0);
    CHECK(b.memory.read<uint32_t>(PhysAddr(kRam)) == 0x201);
    CHECK(b.memory.read<uint32_t>(PhysAddr(kRam + 8)) == 0x204);
    CHECK(b.memory.read<uint32_t>(PhysAddr(kRam + 12)) == 0x103);
    b.cpu.opmask[1] &= ~0x20ull;
    CHECK(b.vectorOf(kScatter) == 0);
    CHECK(b.memory.read<uint32_t>(PhysAddr(kRam + 12)) == 0x207);
    CHECK(b.cpu.opmask[1] == 0);
    CHECK(b.vectorOf({0x62, 0xf2, 0x7d, 0x48, 0x90, 0x04, 0x8b}) == kUD);  // without a mask
    CHECK(b.vectorOf({0x62, 0xf2, 0x7d, 0x49, 0x90, 0x0c, 0x8b}) == kUD);  // destination = index
}

TEST_CASE("Aligned moves want alignment to their own size, unless the mask is empty") {
    Bench b;
    b.cpu.gpr[Rbx] = kData + 32;
    CHECK(b.vectorOf(kAligned) == kGP);
    b.cpu.opmask[1] = 0x10000;
    CHECK(b.vectorOf(kAlignedMasked) == 0);
    b.cpu.opmask[1] = 1;
    CHECK(b.vectorOf(kAlignedMasked) == kGP);
    CHECK(b.vectorOf(kLoad32) == 0);
    b.cpu.gpr[Rbx] = kData + 64;
    CHECK(b.vectorOf(kAligned) == 0);
}

TEST_CASE("Rounding comes with the instruction, and {sae} reports nothing; left out elements raise nothing") {
    Bench b;
    constexpr uint64_t one = 0x3f8000003f800000, three = 0x4040000040400000;
    b.cpu.vec[1].q.fill(one);
    b.cpu.vec[2].q.fill(three);
    b.cpu.mxcsr = 0x1f80;
    CHECK(b.vectorOf(kVdivpsUp) == 0);
    CHECK(b.lane<uint32_t>(0, 5) == 0x3eaaaaab);
    Bytes down = kVdivpsUp;
    down[3] = 0x38;
    CHECK(b.vectorOf(down) == 0);
    CHECK(b.lane<uint32_t>(0, 5) == 0x3eaaaaaa);
    CHECK(b.cpu.mxcsr == 0x1f80);
    b.cpu.mxcsr = 0;  // everything unmasked
    CHECK(b.vectorOf(kVdivpsUp) == 0);
    CHECK(b.cpu.mxcsr == 0);
    b.cpu.setCr4(b.cpu.cr4 | cr4::OSXMMEXCPT);
    CHECK(b.vectorOf(kVdivps) == kXM);
    b.cpu.mxcsr = 0x1f80;
    b.cpu.vec[2].set<uint32_t>(4, 0);
    b.cpu.opmask[1] = 0xffef;
    CHECK(b.vectorOf(kVdivpsMasked) == 0);
    CHECK((b.cpu.mxcsr & mxcsr::ZE) == 0);
    b.cpu.opmask[1] = 0x10;
    CHECK(b.vectorOf(kVdivpsMasked) == 0);
    CHECK((b.cpu.mxcsr & mxcsr::ZE) != 0);
    b.cpu.mxcsr = 0;
    b.cpu.opmask[1] = 0;
    CHECK(b.vectorOf(kVdivpsMasked) == 0);
}

TEST_CASE("XSAVE keeps opmasks and ZMM registers where Intel's processors do") {
    Bench b;
    const auto size = [&](uint32_t leaf) { return b.cpu.cpuid(0xd, leaf); };
    CHECK(size(5).eax == 64);
    CHECK(size(5).ebx == 1088);
    CHECK(size(6).eax == 512);
    CHECK(size(6).ebx == 1152);
    CHECK(size(7).eax == 1024);
    CHECK(size(7).ebx == 1664);
    CHECK(size(0).eax == 0x2e7);
    CHECK(size(0).ebx == 2688);  // what XCR0 has enabled
    CHECK(size(0).ecx == 2696);
    CHECK(size(1).ebx == 576 + 256 + 64 + 512 + 1024);

    std::vector<uint8_t> clear(4096, 0xcc);
    std::fill(clear.begin() + 512, clear.begin() + 576, uint8_t(0));
    b.write(kData, clear);
    for (unsigned n = 0; n < 32; n++) b.fill(n, 0x1000 * n + 1);
    for (unsigned n = 0; n < 8; n++) b.cpu.opmask[n] = 0x100 + n;
    const auto vec = b.cpu.vec;
    b.cpu.gpr[Rax] = ~0u;
    b.cpu.gpr[Rdx] = 0;
    CHECK(b.vectorOf(kXsave) == 0);
    auto at = [&](uint64_t offset) { return b.memory.read<uint64_t>(PhysAddr(kData + offset)); };
    CHECK((at(512) & 0xe6) == 0xe6);
    CHECK(at(1088 + 8 * 5) == 0x105);
    CHECK(at(1152 + 32 * 3 + 8) == 0x3000 + 6);
    CHECK(at(1664 + 64 * 2 + 56) == 0x12000 + 8);
    b.cpu.vec = {};
    b.cpu.opmask = {};
    CHECK(b.vectorOf(kXrstor) == 0);
    for (unsigned n = 0; n < 32; n++) CHECK(b.cpu.vec[n].q == vec[n].q);
    CHECK(b.cpu.opmask[7] == 0x107);

    // Compacted, without what is in its initial configuration.
    b.cpu.opmask = {};
    b.write(kData, clear);
    CHECK(b.vectorOf(kXgetbv) == 0);
    b.cpu.gpr[Rcx] = 1;
    CHECK(b.vectorOf(kXgetbv) == 0);
    CHECK((b.cpu.gpr[Rax] & 0xe4) == 0xc4);
    b.cpu.gpr[Rax] = 0xe0;
    b.cpu.gpr[Rdx] = 0;
    CHECK(b.vectorOf(kXsavec) == 0);
    CHECK(at(512) == 0xc0);
    CHECK(at(520) == (xsave::kCompacted | 0xe0));
    CHECK(at(576) == 0xcccccccccccccccc);
    CHECK(at(576 + 64) == 5);
    CHECK(at(576 + 64 + 512) == 0x10001);
    // What is not in XSTATE_BV becomes initial.
    b.memory.write<uint64_t>(PhysAddr(kData + 512), 0x40);
    b.cpu.opmask[3] = 9;
    CHECK(b.vectorOf(kXrstor) == 0);
    CHECK(b.cpu.opmask[3] == 0);
    CHECK(b.cpu.vec[16].q == Words{});
    CHECK(b.cpu.vec[15].q == vec[15].q);
}

TEST_CASE("Outside 64-bit mode XSAVE and XRSTOR reach eight registers") {
    Bench b(GuestBench::Mode::Protected32);
    const Bytes xsave = {0x0f, 0xae, 0x23}, xrstor = {0x0f, 0xae, 0x2b};
    std::vector<uint8_t> clear(4096, 0xcc);
    std::fill(clear.begin() + 512, clear.begin() + 576, uint8_t(0));
    b.write(kData, clear);
    for (unsigned n = 0; n < 32; n++) b.fill(n, 0x1000 * n + 1);
    const auto vec = b.cpu.vec;
    b.cpu.gpr[Rax] = 0xe7;
    b.cpu.gpr[Rdx] = 0;
    CHECK(b.vectorOf(xsave) == 0);
    auto at = [&](uint64_t offset) { return b.memory.read<uint64_t>(PhysAddr(kData + offset)); };
    CHECK((at(512) & 0xe6) == 0x46);
    CHECK(at(1152 + 32 * 7) == 0x7000 + 5);
    CHECK(at(1152 + 32 * 8) == 0xcccccccccccccccc);
    CHECK(at(1664) == 0xcccccccccccccccc);
    b.cpu.vec = {};
    b.fill(20, 5);
    CHECK(b.vectorOf(xrstor) == 0);
    CHECK(b.cpu.vec[7].q == vec[7].q);
    CHECK(b.cpu.vec[8].q == Words{});
    CHECK(b.cpu.vec[20].q[0] == 5);
}

TEST_CASE("XSETBV wants AVX-512's components all or none, and AVX with them") {
    Bench b;
    auto set = [&](uint64_t v) {
        b.cpu.gpr[Rcx] = 0;
        b.cpu.gpr[Rax] = uint32_t(v);
        b.cpu.gpr[Rdx] = 0;
        return b.vectorOf(kXsetbv);
    };
    for (uint64_t v : {0x27, 0x47, 0x87, 0x67, 0xa7, 0xc7, 0xe1, 0xe3}) CHECK(set(v) == kGP);
    CHECK(set(0xe7) == 0);
    CHECK(set(0x2e7) == 0);
    CHECK(set(7) == 0);
    CHECK(b.vectorOf(kVpaddd) == kUD);
}

// Every opcode under EVEX: lengths, W, vvvv, broadcast, masks, zeroing, of registers and of memory.
TEST_CASE("kiln and the host refuse the same under EVEX") {
    if (!HostOracle::available() || !HostOracle::runs(ZYDIS_ISA_SET_AVX512_VBMI_512)) return;
    HostOracle oracle;
    const Decoder kiln(*kilnModel());
    ZydisDecoder zydis;
    ZydisDecoderInit(&zydis, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    unsigned refused = 0;
    std::string different;
    for (unsigned map = 1; map <= 3; map++)
        for (unsigned n = 0; n < 1 << 18; n++) {
            const unsigned opcode = n & 0xff, pp = n >> 8 & 3, length = n >> 10 & 3, w = n >> 12 & 1,
                           vvvv = n >> 13 & 1 ? 2 : 0, b = n >> 14 & 1, mask = n >> 15 & 1, z = n >> 16 & 1;
            const uint8_t modrm = n >> 17 & 1 ? 0xcb : 0x0b;  // registers 1 and 3, or [rbx]
            const std::array<uint8_t, 8> code = {0x62,
                                                 uint8_t(0xf0 | map),
                                                 uint8_t(w << 7 | (15 - vvvv) << 3 | 4 | pp),
                                                 uint8_t(z << 7 | length << 5 | b << 4 | 8 | mask),
                                                 uint8_t(opcode),
                                                 modrm,
                                                 0,
                                                 0};
            Insn insn;
            bool ends;
            kiln.decode(code, CodeMode::Code64, 0, insn, ends);
            const bool accepts = insn.run != undefinedOpcode;
            ZydisDecodedInstruction d;
            const bool known =
                ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&zydis, nullptr, code.data(), code.size(), &d));
            if (!accepts && known && !kiln.sets().offers(d, CodeMode::Code64)) continue;
            refused += !accepts;
            UserState state;
            state.fx.set<uint32_t>(FxImage::kMxcsr, 0x1f80);
            state.fx.set<uint16_t>(FxImage::kControl, 0x37f);
            state.gpr.fill(HostOracle::kScratch + 0x1000);
            auto fault = oracle.run(code, HostOracle::kCode + 0x100, true, state);
            if (accepts == (fault && fault->vector == kUD))
                different += fmt::format(
                    "\n map {} pp {} opcode {:02x} L{} W{} vvvv {} b{} k{} z{} modrm {:02x}: {} {}", map, pp,
                    opcode, length, w, vvvv, b, mask, z, modrm, accepts ? "kiln accepts" : "host accepts",
                    known ? ZydisMnemonicGetString(d.mnemonic) : "");
        }
    CHECK(refused > 100000);
    CHECK(different == "");
}

// All fields at random, in both modes: what is reserved in one must be refused there.
TEST_CASE("kiln and the host refuse the same EVEX prefixes") {
    if (!HostOracle::available() || !HostOracle::runs(ZYDIS_ISA_SET_AVX512_VBMI_512)) return;
    HostOracle oracle;
    const Decoder kiln(*kilnModel());
    Random r(7);
    for (bool code64 : {true, false}) {
        ZydisDecoder zydis;
        ZydisDecoderInit(&zydis, code64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
                         code64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
        std::string different;
        unsigned accepted = 0;
        for (unsigned n = 0; n < 400'000; n++) {
            std::array<uint8_t, 9> code{};
            for (uint8_t& b : code) b = uint8_t(r());
            code[0] = 0x62;
            code[1] = uint8_t((code[1] & 0xf0) | (1 + below(r, 3)));
            if (!oneIn(r, 16)) code[2] |= 4;
            if (!oneIn(r, 3)) code[2] |= 0x78;  // no vvvv
            if (!oneIn(r, 3)) code[3] |= 8;
            if (oneIn(r, 2)) code[3] &= 0x7f;
            if (!code64) code[1] |= 0xc0;
            code[5] = uint8_t(oneIn(r, 2) ? code[5] | 0xc0 : (code[5] & 0x38) | (oneIn(r, 2) ? 3 : 4));
            code[6] = uint8_t((code[6] & 0xf8) | 3);  // a SIB byte with a base in range
            Insn insn;
            bool ends;
            kiln.decode(code, code64 ? CodeMode::Code64 : CodeMode::Code32, 0, insn, ends);
            const bool accepts = insn.run != undefinedOpcode;
            ZydisDecodedInstruction d;
            const bool known =
                ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&zydis, nullptr, code.data(), code.size(), &d));
            if (!accepts && known && !kiln.sets().offers(d, CodeMode::Code64)) continue;
            // VCVT(U)SI2SD with W = 1 is that of 32 bits here, which has no rounding; processors still take
            // it.
            if (!code64 && !known && (code[4] == 0x2a || code[4] == 0x7b) && (code[2] & 0x83) == 0x83)
                continue;
            accepted += accepts;
            UserState state;
            state.fx.set<uint32_t>(FxImage::kMxcsr, 0x1f80);
            state.fx.set<uint16_t>(FxImage::kControl, 0x37f);
            state.gpr.fill(HostOracle::kScratch + 0x1000);
            auto fault = oracle.run(std::span(code).first(accepts ? insn.length : code.size()),
                                    HostOracle::kCode + 0x100, code64, state);
            if (accepts == (fault && fault->vector == kUD)) {
                different += fmt::format("\n {}:", code64 ? 64 : 32);
                for (uint8_t b : code) different += fmt::format(" {:02x}", b);
                different += fmt::format(" {} {}", accepts ? "kiln accepts" : "host accepts",
                                         known ? ZydisMnemonicGetString(d.mnemonic) : "");
            }
        }
        CHECK(accepted > 10'000);
        CHECK(different == "");
    }
}
