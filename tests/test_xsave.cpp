// XSAVE and its relatives (SDM vol. 1, chapter 13): images beside the host's, headers, formats, the init and
// the modified optimisation, XCR0; and MONITOR with MWAIT.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <random>

#include "cpu/xsave.hpp"
#include "tests/host_oracle.hpp"
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint64_t kArea = SystemGuest::kDataAt;
constexpr uint64_t kXstate = kArea + 512, kXcomp = kArea + 520;
constexpr uint64_t kAvx = 7;

// With x87, SSE and AVX state enabled, RBX at an area and EDX:EAX asking for `components`.
struct XsaveGuest : SystemGuest {
    explicit XsaveGuest(uint64_t components = kAvx, Mode mode = Mode::Long64, unsigned cpl = 0)
        : SystemGuest(mode, cpl) {
        cpu.cr4 |= cr4::OSXSAVE;
        cpu.xcr0 = kAvx;
        cpu.segmentsChanged();
        cpu.gpr[Rbx] = kArea;
        ask(components);
        clear(0xcc);
        header(0, 0);
    }
    void ask(uint64_t components) {
        cpu.gpr[Rax] = uint32_t(components);
        cpu.gpr[Rdx] = components >> 32;
    }
    void clear(uint8_t with) {
        std::vector<uint8_t> bytes(4096, with);
        write(kArea, bytes);
    }
    // A header for XRSTOR.
    void header(uint64_t xstate, uint64_t xcomp) {
        for (unsigned n = 0; n < 8; n++) put<uint64_t>(kXstate + 8 * n, 0);
        put(kXstate, xstate);
        put(kXcomp, xcomp);
    }
    std::optional<Caught> xsave() { return does({0x48, 0x0f, 0xae, 0x23}); }
    std::optional<Caught> xsaveopt() { return does({0x48, 0x0f, 0xae, 0x33}); }
    std::optional<Caught> xsavec() { return does({0x48, 0x0f, 0xc7, 0x23}); }
    std::optional<Caught> xsaves() { return does({0x48, 0x0f, 0xc7, 0x2b}); }
    std::optional<Caught> xrstor() { return does({0x48, 0x0f, 0xae, 0x2b}); }
    std::optional<Caught> xrstors() { return does({0x48, 0x0f, 0xc7, 0x1b}); }
    std::optional<Caught> xgetbv(uint32_t index) {
        cpu.gpr[Rcx] = index;
        return does({0x0f, 0x01, 0xd0});
    }
    std::optional<Caught> xsetbv(uint64_t v) {
        cpu.gpr[Rcx] = 0;
        ask(v);
        return does({0x0f, 0x01, 0xd1});
    }
};

UserState randomState(std::mt19937_64& r) {
    UserState s;
    s.fx.set<uint16_t>(FxImage::kControl, 0x37f);
    s.fx.set<uint32_t>(FxImage::kMxcsr, r() % 2 ? 0x1f80 : 0x1fa0);
    for (unsigned n = 0; n < 8; n++) {  // eight valid registers
        s.fx.set<uint64_t>(FxImage::kRegisters + 16 * n, r() | 1ull << 63);
        s.fx.set<uint16_t>(FxImage::kRegisters + 16 * n + 8, uint16_t(0x3fff + r() % 100));
    }
    s.fx.set<uint8_t>(FxImage::kTags, uint8_t(r() % 2 ? 0xff : r()));
    for (unsigned n = 0; n < 32; n++) s.fx.set<uint64_t>(FxImage::kXmm + 8 * n, r());
    for (auto& half : s.ymmHigh) half = {r(), r()};
    for (unsigned n = 0; n < 32; n++)
        for (unsigned word = n < 16 ? 4 : 0; word < 8; word++) s.setVectorWord(n, word, r());
    for (uint64_t& k : s.opmask) k = r();
    return s;
}

bool hostHas(unsigned bitOfLeafD1) {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid_count(0xd, 1, &a, &b, &c, &d) && a >> bitOfLeafD1 & 1;
#else
    return bitOfLeafD1 > 31;
#endif
}

}  // namespace

TEST_CASE("XSAVE, XSAVEOPT, XSAVEC and XRSTOR leave what the host's leave") {
    if (!HostOracle::available() || !HostOracle::runs(ZYDIS_ISA_SET_AVX) || !hostHas(0) || !hostHas(1))
        return;
    HostOracle host;
    const uint64_t all = kAvx | (HostOracle::runs(ZYDIS_ISA_SET_AVX512BW_512) ? xfeature::AVX512 : 0);
    std::mt19937_64 r(20);
    constexpr uint64_t kHostArea = HostOracle::kScratch + 0x1000;
    const std::vector<std::vector<uint8_t>> kinds = {{0x48, 0x0f, 0xae, 0x23}, {0x0f, 0xae, 0x23},
                                                     {0x48, 0x0f, 0xae, 0x33},  // xsave64, xsave, xsaveopt64
                                                     {0x48, 0x0f, 0xc7, 0x23}, {0x48, 0x0f, 0xae, 0x2b},
                                                     {0x0f, 0xae, 0x2b}};  // xsavec64, xrstor64, xrstor
    for (int n = 0; n < 600; n++) {
        auto& code = kinds[r() % kinds.size()];
        const bool restores = code.back() == 0x2b, optimises = code.back() == 0x33;
        UserState before = randomState(r);
        before.gpr[Rax] = r() & all;
        before.gpr[Rdx] = 0;
        before.gpr[Rbx] = kHostArea;
        before.gpr[Rsp] = HostOracle::kScratch + 0x3000;
        std::vector<uint8_t> memory(4096);
        for (auto& b : memory) b = uint8_t(r());
        auto set = [&](unsigned at, uint64_t v) { std::memcpy(&memory[at], &v, 8); };
        const bool compacted = restores && r() % 2;
        const uint64_t xcomp = compacted ? (r() & all) | xsave::kCompacted : 0;
        const uint64_t xstate = r() & (compacted ? xcomp : all) & all;
        for (unsigned at = 512; at < 576; at += 8) set(at, 0);
        set(512, xstate);
        set(520, xcomp);
        set(24, 0x0000'ffff'0000'1f80 | (r() % 16 ? 0 : 1u << 31));
        set(0, 0x037f);
        for (unsigned reg = 0; reg < 8; reg++)  // valid 80-bit numbers
            set(32 + 16 * reg, r() | 1ull << 63), memory[41 + 16 * reg] = 0x3f;

        UserState theirs = before;
        std::memcpy(host.scratch() + 0x1000, memory.data(), memory.size());
        auto theirFault = host.run(code, HostOracle::kCode, true, theirs);

        XsaveGuest g;
        g.cpu.xcr0 = all;
        g.addRam(HostOracle::kScratch, HostOracle::kScratchSize);
        importState(before, g.cpu);
        g.write(kHostArea, memory);
        g.write(SystemGuest::kCodeAt, code);
        g.cpu.rip = SystemGuest::kCodeAt;
        auto ourFault = g.step();
        UserState ours = exportState(g.cpu);

        CAPTURE(n);
        CAPTURE(before.gpr[Rax]);
        CAPTURE(xstate);
        CAPTURE(xcomp);
        CAPTURE(int(code[code.size() - 2]));
        CAPTURE(int(code.back()));
        REQUIRE(bool(ourFault) == bool(theirFault));
        if (ourFault) {
            CHECK(ourFault->vector == theirFault->vector);
            continue;
        }
        const uint8_t* theirMemory = host.scratch() + 0x1000;
        const uint8_t* ourMemory = g.host(kHostArea);
        unsigned differing = 0;
        for (unsigned at = 0; at < 2696; at++) {
            if (at >= 6 && at < 24) continue;  // FOP, FIP, FDP: the host's stub has them from elsewhere
            differing += theirMemory[at] != ourMemory[at];
        }
        // The host may not have seen what its stub loaded as initial or modified: nothing random is.
        CHECK((differing == 0 || optimises));
        if (!restores) continue;
        CHECK(ours.fx.get<uint32_t>(FxImage::kMxcsr) == theirs.fx.get<uint32_t>(FxImage::kMxcsr));
        CHECK(ours.fx.get<uint16_t>(FxImage::kControl) == theirs.fx.get<uint16_t>(FxImage::kControl));
        CHECK(ours.fx.get<uint16_t>(FxImage::kStatus) == theirs.fx.get<uint16_t>(FxImage::kStatus));
        CHECK(ours.fx.get<uint8_t>(FxImage::kTags) == theirs.fx.get<uint8_t>(FxImage::kTags));
        for (unsigned at = FxImage::kRegisters; at < FxImage::kXmm + 256; at += 8)
            CHECK(ours.fx.get<uint64_t>(at) == theirs.fx.get<uint64_t>(at));
        CHECK(ours.ymmHigh == theirs.ymmHigh);
        CHECK(ours.zmmHigh == theirs.zmmHigh);
        CHECK(ours.zmm16 == theirs.zmm16);
        CHECK(ours.opmask == theirs.opmask);
    }
}

TEST_CASE("XSAVE: who may, where, and with what header") {
    XsaveGuest g;
    CHECK(!g.xsave());
    CHECK(!g.xrstor());
    g.cpu.gpr[Rbx] = kArea + 32;
    CHECK_RAISES(g.xsave(), kGP, 0);  // not on a multiple of 64
    CHECK_RAISES(g.xrstor(), kGP, 0);
    g.cpu.gpr[Rbx] = kArea;
    struct Header {
        uint64_t xstate, xcomp;
    };
    for (Header h : {Header{8, 0},                         // not in XCR0
                     Header{0, 1},                         // standard format, XCOMP_BV in use
                     Header{1, xsave::kCompacted},         // not in XCOMP_BV
                     Header{0, xsave::kCompacted | 8}}) {  // not in XCR0
        g.header(h.xstate, h.xcomp);
        CAPTURE(h.xcomp);
        CHECK_RAISES(g.xrstor(), kGP, 0);
    }
    g.header(0, 0);
    g.put<uint64_t>(kXstate + 16, 1);
    CHECK_RAISES(g.xrstor(), kGP, 0);
    g.header(0, 0);
    g.put<uint64_t>(kXstate + 24, 1);  // reserved, and not looked at in the standard format
    g.put<uint32_t>(kArea + 24, 0x1f80);
    CHECK(!g.xrstor());
    g.header(0, xsave::kCompacted | 7);
    g.put<uint64_t>(kXstate + 56, 1);
    CHECK_RAISES(g.xrstor(), kGP, 0);
    g.header(0, 0);
    g.put<uint32_t>(kArea + 24, 0x10000);  // MXCSR
    CHECK_RAISES(g.xrstor(), kGP, 0);
    CHECK_RAISES(g.xrstors(), kGP, 0);  // takes the compacted format only
    g.cpu.setCr0(g.cpu.cr0 | cr0::TS);
    CHECK_RAISES(g.xsave(), kNM, 0);
    CHECK(!g.xgetbv(0));
    g.cpu.setCr4(g.cpu.cr4 & ~cr4::OSXSAVE);
    CHECK_RAISES(g.xsave(), kUD, 0);
    CHECK_RAISES(g.xgetbv(0), kUD, 0);
    CHECK((g.cpu.cpuid(1, 0).ecx >> 27 & 1) == 0);
    XsaveGuest user(kAvx, Mode::Long64, 3);
    CHECK(!user.xsave());
    CHECK_RAISES(user.xsaves(), kGP, 0);
    CHECK_RAISES(user.xsetbv(7), kGP, 0);
}

TEST_CASE("XSAVE writes nothing where not all of it can be written") {
    XsaveGuest g;
    g.cpu.gpr[Rbx] = kArea + 0xe00;  // the AVX component lies on the next page
    g.map(kArea + 0x1000, 0, true, false);
    g.cpu.flushTlb(true);
    CHECK_RAISES(g.xsave(), kPF, 3);
    for (unsigned at = 0; at < 0x200; at++) REQUIRE(g.get<uint8_t>(kArea + 0xe00 + at) == 0xcc);
}

TEST_CASE("XINUSE: what is in its initial configuration is left out") {
    XsaveGuest g;
    g.header(0, 0);
    g.put<uint32_t>(kArea + 24, 0x1f80);
    CHECK(!g.xrstor());  // all initial
    CHECK(!g.xgetbv(1));
    CHECK(g.cpu.gpr[Rax] == 0);
    g.ask(kAvx);
    g.clear(0xcc);
    CHECK(!g.xsavec());
    CHECK(g.get<uint64_t>(kXstate) == 0);
    CHECK(g.get<uint64_t>(kXcomp) == (xsave::kCompacted | 7));
    CHECK(g.get<uint64_t>(kArea + 160) == 0xcccccccccccccccc);
    g.clear(0xcc);
    g.put<uint64_t>(kXstate, 0x200);
    CHECK(!g.xsave());  // which writes them all the same, and keeps other bits of XSTATE_BV
    CHECK(g.get<uint64_t>(kXstate) == 0x200);
    CHECK(g.get<uint64_t>(kArea + 160) == 0);
    CHECK(g.get<uint16_t>(kArea) == 0x37f);
    // MXCSR counts as SSE state in the compacted format and for XGETBV, not for XSAVE.
    g.cpu.mxcsr = 0x1fa0;
    CHECK(!g.xgetbv(1));
    CHECK(g.cpu.gpr[Rax] == 2);
    g.ask(kAvx);
    g.put<uint64_t>(kXstate, 0);
    CHECK(!g.xsaveopt());
    CHECK(g.get<uint64_t>(kXstate) == 0);
    CHECK(g.get<uint32_t>(kArea + 24) == 0x1fa0);
    CHECK(!g.xsavec());
    CHECK(g.get<uint64_t>(kXstate) == 2);
    // The compacted format loads it with the SSE state.
    g.header(0, xsave::kCompacted | 2);
    CHECK(!g.xrstors());
    CHECK(g.cpu.mxcsr == 0x1f80);
}

TEST_CASE("the compacted format: components lie close together") {
    XsaveGuest g;
    for (unsigned n = 0; n < 16; n++) g.cpu.vec[n].q = {n + 1u, n + 2u, n + 3u, n + 4u};
    g.ask(4);
    CHECK(!g.xsavec());
    CHECK(g.get<uint64_t>(kXstate) == 4);
    CHECK(g.get<uint64_t>(kXcomp) == (xsave::kCompacted | 4));
    CHECK(g.get<uint64_t>(kArea + 576 + 16 * 5) == 8);
    g.cpu.vec = {};
    for (unsigned n = 2; n < 8; n++) g.put<uint64_t>(kXstate + 8 * n, 0);
    CHECK(!g.xrstor());
    CHECK(g.cpu.vec[5].q == std::array<uint64_t, 8>{0, 0, 8, 9});
    auto d0 = g.cpu.cpuid(0xd, 0), d1 = g.cpu.cpuid(0xd, 1), d2 = g.cpu.cpuid(0xd, 2);
    CHECK(d0.ebx == 832);
    CHECK(d1.ebx == 832);
    CHECK((d2.eax == 256 && d2.ebx == 576 && d2.ecx == 0));
    CHECK(!g.xsetbv(3));
    CHECK(g.cpu.cpuid(0xd, 0).ebx == 576);
}

TEST_CASE("the modified optimisation: what XRSTOR loaded is not written again") {
    XsaveGuest g;
    for (unsigned n = 0; n < 16; n++) g.cpu.vec[n].q = {n + 1u, 2, 3, 4};
    CHECK(!g.xsave());
    CHECK(!g.xrstor());
    g.put<uint64_t>(kArea + 160, 77);
    g.put<uint64_t>(kArea + 576, 77);
    g.cpu.vec[3].q[3] = 99;  // AVX state
    CHECK(!g.xsaveopt());
    CHECK(g.get<uint64_t>(kArea + 160) == 77);
    CHECK(g.get<uint64_t>(kArea + 576) == 3);
    // Another area has nothing of it.
    g.put<uint64_t>(kArea + 576, 77);
    g.cpu.gpr[Rbx] = kArea + 0x1000;
    CHECK(!g.xsaveopt());
    CHECK(g.get<uint64_t>(kArea + 0x1000 + 160) == 1);
}

TEST_CASE("XSETBV: what XCR0 takes") {
    XsaveGuest g;
    CHECK(!g.xsetbv(1));
    CHECK(!g.xsetbv(7));
    CHECK_RAISES(g.xsetbv(0), kGP, 0);
    CHECK_RAISES(g.xsetbv(6), kGP, 0);
    CHECK_RAISES(g.xsetbv(5), kGP, 0);  // AVX without SSE
    CHECK_RAISES(g.xsetbv(15), kGP, 0);
    CHECK_RAISES(g.xgetbv(2), kGP, 0);
    CHECK(!g.xsetbv(3));
    CHECK(g.cpu.xcr0 == 3);
    g.ask(7);
    CHECK(!g.xsave());  // AVX is not enabled: its component stays
    CHECK(g.get<uint64_t>(kArea + 576) == 0xcccccccccccccccc);
}

TEST_CASE("outside 64-bit mode eight registers are saved and restored") {
    XsaveGuest g(kAvx, Mode::Protected32);
    for (unsigned n = 0; n < 16; n++) g.cpu.vec[n].q = {1, 2, 3, 4};
    CHECK(!g.does({0x0f, 0xae, 0x23}));
    CHECK(g.get<uint64_t>(kArea + 160 + 16 * 7) == 1);
    CHECK(g.get<uint64_t>(kArea + 160 + 16 * 8) == 0xcccccccccccccccc);
    CHECK(g.get<uint64_t>(kArea + 576 + 16 * 8) == 0xcccccccccccccccc);
    g.header(0, 0);
    g.put<uint32_t>(kArea + 24, 0x1f80);
    CHECK(!g.does({0x0f, 0xae, 0x2b}));
    CHECK(g.cpu.vec[7].q == std::array<uint64_t, 8>{});
    CHECK(g.cpu.vec[8].q == std::array<uint64_t, 8>{1, 2, 3, 4});
}

// -- MONITOR and MWAIT

namespace {
struct MonitorGuest : SystemGuest {
    MonitorGuest() : SystemGuest(Mode::Long64) {
        cpu.gpr[Rax] = kDataAt + 0x44;
        cpu.gpr[Rcx] = cpu.gpr[Rdx] = 0;
    }
    std::optional<Caught> monitor() {
        cpu.gpr[Rcx] = 0;
        return does({0x0f, 0x01, 0xc8});
    }
    void mwait(uint32_t extensions = 0) {
        cpu.gpr[Rcx] = extensions;
        code({0x0f, 0x01, 0xc9, 0x90, 0x90, 0xf4});
        cpu.run(100);
    }
    bool waits() const { return cpu.halted && cpu.mwaiting; }
};
}  // namespace

TEST_CASE("MWAIT waits for a store to the line that MONITOR named") {
    MonitorGuest g;
    CHECK(!g.monitor());
    g.mwait();
    REQUIRE(g.waits());
    CHECK(!g.cpu.wakeable());
    g.put<uint8_t>(SystemGuest::kDataAt + 0x3f, 1);  // the line before
    g.put<uint8_t>(SystemGuest::kDataAt + 0x80, 1);  // the line behind
    CHECK(!g.cpu.wakeable());
    g.put<uint8_t>(SystemGuest::kDataAt + 0x7f, 1);
    REQUIRE(g.cpu.wakeable());
    g.cpu.run(100);
    CHECK(g.cpu.rip == SystemGuest::kCodeAt + 6);  // at the HLT behind
    CHECK(!g.cpu.mwaiting);
    // A store between the two, by the processor itself.
    g.cpu.halted = false;
    g.cpu.gpr[Rax] = SystemGuest::kDataAt;
    CHECK(!g.monitor());
    g.cpu.gpr[Rbx] = SystemGuest::kDataAt + 8;
    CHECK(!g.does({0x88, 0x03}));  // mov [rbx], al
    g.mwait();
    CHECK(!g.waits());
    CHECK(g.cpu.rip == SystemGuest::kCodeAt + 6);
    // Without a MONITOR it does not wait at all.
    g.cpu.halted = false;
    g.mwait();
    CHECK(!g.waits());
}

TEST_CASE("MWAIT: faults, and the bit that turns it off") {
    MonitorGuest g;
    g.cpu.gpr[Rcx] = 1;
    CHECK_RAISES(g.does({0x0f, 0x01, 0xc8}), kGP, 0);  // no extensions of MONITOR
    g.cpu.gpr[Rcx] = 2;
    CHECK_RAISES(g.does({0x0f, 0x01, 0xc9}), kGP, 0);
    g.cpu.gpr[Rax] = 0x4000'0000;
    CHECK_RAISES(g.monitor(), kPF, 0);
    CHECK(bool(g.cpu.cpuid(1, 0).ecx >> 3 & 1));
    CHECK(g.cpu.cpuid(5, 0).ebx == 64);
    g.cpu.writeMsr(0x1a0, 0);
    CHECK_RAISES(g.monitor(), kUD, 0);
    CHECK((g.cpu.cpuid(1, 0).ecx >> 3 & 1) == 0);
    SystemGuest user(Mode::Long64, 3);
    CHECK_RAISES(user.does({0x0f, 0x01, 0xc9}), kUD, 0);
}
