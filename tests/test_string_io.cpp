// String instructions and port input and output: what the host comparison can't show. 16-bit addresses, long
// repetitions, interrupts in their middle, devices.
#include <doctest/doctest.h>

#include "tests/cpu_bench.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using Bytes = std::vector<uint8_t>;

// Gives its reads increasing numbers and remembers its writes.
class Recorder : public IoHandler {
  public:
    uint64_t ioRead(uint64_t offset, unsigned size) override {
        reads++;
        lastOffset = offset;
        return next++ * 0x01010101 & openBus(size);
    }
    void ioWrite(uint64_t, unsigned size, uint64_t value) override { written.push_back({size, value}); }

    uint64_t next = 1;
    uint64_t reads = 0, lastOffset = 0;
    std::vector<std::pair<unsigned, uint64_t>> written;
};

void start(GuestBench& b, uint64_t at, const Bytes& code) {
    b.write(at, code);
    b.cpu.rip = at;
    b.cpu.flags.set(2);
}

}  // namespace

TEST_CASE("strings with 16-bit addresses wrap at 64 KiB") {
    GuestBench b(GuestBench::Mode::Real16);
    b.cpu.seg[Es].selector = 0x2000;
    b.cpu.seg[Es].base = 0x20000;
    b.cpu.segmentsChanged();
    start(b, 0x7000, {0xf3, 0xaa, 0xf4});  // rep stosb; hlt
    b.cpu.gpr[Rax] = 0x55;
    b.cpu.gpr[Rdi] = 0xabcdfffe;
    b.cpu.gpr[Rcx] = 0x12340004;
    CHECK_FALSE(b.runToHalt());
    CHECK(b.cpu.gpr[Rdi] == 0xabcd0002);
    CHECK(b.cpu.gpr[Rcx] == 0x12340000);
    for (uint64_t at : {0x2fffe, 0x2ffff, 0x20000, 0x20001})
        CHECK(b.memory.read<uint8_t>(PhysAddr(at)) == 0x55);
    CHECK(b.memory.read<uint8_t>(PhysAddr(0x20002)) == 0);
    CHECK(b.memory.read<uint8_t>(PhysAddr(0x30000)) == 0);
}

TEST_CASE("the source's segment can be overridden, the destination's can't") {
    GuestBench b(GuestBench::Mode::Real16);
    for (auto [r, selector] : {std::pair{Es, 0x2000}, {Ds, 0x3000}, {Ss, 0x4000}}) {
        b.cpu.seg[r].selector = uint16_t(selector);
        b.cpu.seg[r].base = uint64_t(selector) << 4;
    }
    b.cpu.segmentsChanged();
    b.memory.write<uint16_t>(PhysAddr(0x30010), 0x3333);
    b.memory.write<uint16_t>(PhysAddr(0x40010), 0x4444);
    start(b, 0x7000, {0x36, 0xa5});  // movsw from ss
    b.cpu.gpr[Rsi] = 0x10;
    b.cpu.gpr[Rdi] = 0x20;
    CHECK_FALSE(b.step());
    CHECK(b.memory.read<uint16_t>(PhysAddr(0x20020)) == 0x4444);
    CHECK(b.cpu.gpr[Rsi] == 0x12);
    CHECK(b.cpu.gpr[Rdi] == 0x22);
}

TEST_CASE("a copy onto itself one further repeats its first byte") {
    GuestBench b(GuestBench::Mode::Long64);
    Bytes text = {'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'};
    for (unsigned distance : {1, 2, 3, 8}) {
        b.write(0x60000, text);
        start(b, 0x50000, {0xf3, 0xa4});
        b.cpu.gpr[Rsi] = 0x60000;
        b.cpu.gpr[Rdi] = 0x60000 + distance;
        b.cpu.gpr[Rcx] = 11;
        CHECK_FALSE(b.step());
        for (unsigned n = 0; n < 11 + distance; n++)
            CHECK(b.memory.read<uint8_t>(PhysAddr(0x60000 + n)) == text[n % distance]);
    }
}

TEST_CASE("a long repetition lets the run loop in and goes on where it was") {
    GuestBench b(GuestBench::Mode::Long64);
    start(b, 0x50000, {0xf3, 0xaa, 0xf4});
    constexpr uint64_t kCount = 0x60000;
    b.cpu.gpr[Rax] = 0x77;
    b.cpu.gpr[Rdi] = 0x80000;
    b.cpu.gpr[Rcx] = kCount;
    unsigned visits = 0;
    while (!b.cpu.halted && visits < 1000) {
        CHECK(b.cpu.rip == (b.cpu.gpr[Rcx] ? 0x50000 : 0x50002));
        CHECK(b.cpu.gpr[Rdi] == 0x80000 + kCount - b.cpu.gpr[Rcx]);
        b.cpu.run(1);
        visits++;
    }
    CHECK(visits >= kCount / 4096);
    CHECK(b.cpu.gpr[Rcx] == 0);
    CHECK(b.memory.read<uint8_t>(PhysAddr(0x80000 + kCount - 1)) == 0x77);
    CHECK(b.memory.read<uint8_t>(PhysAddr(0x80000 + kCount)) == 0);
}

TEST_CASE("with TF set a repetition traps after every element") {
    GuestBench b(GuestBench::Mode::Long64);
    start(b, 0x50000, {0xf3, 0xa4});
    b.cpu.flags.change(flag::TF, true);
    b.cpu.gpr[Rsi] = 0x60000;
    b.cpu.gpr[Rdi] = 0x61000;
    b.cpu.gpr[Rcx] = 3;
    b.cpu.singleStep();
    CHECK(b.cpu.gpr[Rcx] == 2);
    CHECK(b.cpu.rip == 0x6000 + kDB * 8);
}

TEST_CASE("a fault in the middle finds the elements before it done") {
    GuestBench b(GuestBench::Mode::Long64, 3);
    b.addRam(0x400000, 0x1000);
    start(b, 0x50000, {0xf3, 0xab});  // rep stosd
    b.cpu.gpr[Rax] = 0x99;
    b.cpu.gpr[Rdi] = 0x400ff0;
    b.cpu.gpr[Rcx] = 10;
    auto fault = b.step();
    REQUIRE(fault);
    CHECK(fault->vector == kPF);
    CHECK(fault->cr2 == 0x401000);
    CHECK(fault->error == (pf::W | pf::U));
    CHECK(fault->rip == 0x50000);
    CHECK(b.cpu.gpr[Rcx] == 6);
    CHECK(b.cpu.gpr[Rdi] == 0x401000);
}

TEST_CASE("string stores end decoded code") {
    GuestBench b(GuestBench::Mode::Long64);
    // rep stosb over the instruction behind itself: inc eax becomes nops, hlt stays.
    start(b, 0x50000, {0xf3, 0xaa, 0xff, 0xc0, 0xf4});
    b.cpu.gpr[Rax] = 0x90;
    b.cpu.gpr[Rdi] = 0x50002;
    b.cpu.gpr[Rcx] = 2;
    CHECK_FALSE(b.runToHalt());
    CHECK(b.cpu.gpr[Rax] == 0x90);
}

TEST_CASE("ports") {
    GuestBench b(GuestBench::Mode::Long64);
    Recorder device;
    b.ports.map(0x1f0, 8, device);
    SUBCASE("in and out of every width") {
        start(b, 0x50000, {0xed});  // in eax, dx
        b.cpu.gpr[Rdx] = 0x1f4;
        b.cpu.gpr[Rax] = ~0ull;
        CHECK_FALSE(b.step());
        CHECK(b.cpu.gpr[Rax] == 0x01010101);
        CHECK(device.lastOffset == 4);
        start(b, 0x50000, {0xec});  // in al, dx
        b.cpu.gpr[Rax] = ~0ull;
        CHECK_FALSE(b.step());
        CHECK(b.cpu.gpr[Rax] == 0xffffffffffffff02);
        start(b, 0x50000, {0x66, 0xef});  // out dx, ax
        CHECK_FALSE(b.step());
        CHECK(device.written.back() == std::pair{2u, uint64_t(0xff02)});
    }
    SUBCASE("rep insw across a page") {
        start(b, 0x50000, {0x66, 0xf3, 0x6d});
        b.cpu.gpr[Rdx] = 0x1f0;
        b.cpu.gpr[Rdi] = 0x60fff;
        b.cpu.gpr[Rcx] = 256;
        CHECK_FALSE(b.step());
        CHECK(device.reads == 256);
        CHECK(b.cpu.gpr[Rdi] == 0x60fff + 512);
        for (unsigned n = 0; n < 256; n++)
            CHECK(b.memory.read<uint16_t>(PhysAddr(0x60fff + 2 * n)) == uint16_t((n + 1) * 0x0101));
    }
    SUBCASE("rep outsb downwards") {
        start(b, 0x50000, {0xf3, 0x6e});
        b.write(0x60000, Bytes{1, 2, 3});
        b.cpu.flags.change(flag::DF, true);
        b.cpu.gpr[Rdx] = 0x1f0;
        b.cpu.gpr[Rsi] = 0x60002;
        b.cpu.gpr[Rcx] = 3;
        CHECK_FALSE(b.step());
        CHECK(device.written == std::vector<std::pair<unsigned, uint64_t>>{{1, 3}, {1, 2}, {1, 1}});
        CHECK(b.cpu.gpr[Rsi] == 0x5ffff);
    }
    SUBCASE("ins to a place that faults does not read the port") {
        start(b, 0x50000, {0xf3, 0x6c});
        b.cpu.gpr[Rdx] = 0x1f0;
        b.cpu.gpr[Rdi] = 0x500000;
        b.cpu.gpr[Rcx] = 1;
        auto fault = b.step();
        REQUIRE(fault);
        CHECK(fault->vector == kPF);
        CHECK(device.reads == 0);
    }
    SUBCASE("an unmapped port reads all ones") {
        start(b, 0x50000, {0xe5, 0x70});
        CHECK_FALSE(b.step());
        CHECK(b.cpu.gpr[Rax] == 0xffffffff);
    }
}

TEST_CASE("user code without the right gets #GP from ports") {
    GuestBench b(GuestBench::Mode::Long64, 3);
    for (Bytes code : {Bytes{0xec}, Bytes{0xe6, 0x80}, Bytes{0x6c}, Bytes{0xf3, 0x6e}}) {
        start(b, 0x50000, code);
        b.cpu.gpr[Rcx] = 1;
        b.cpu.gpr[Rsi] = b.cpu.gpr[Rdi] = 0x60000;
        auto fault = b.step();
        REQUIRE(fault);
        CHECK(fault->vector == kGP);
    }
    start(b, 0x50000, {0xec});
    b.cpu.flags.change(flag::IOPL, true);
    CHECK_FALSE(b.step());
}

TEST_CASE("strings: source and destination whose pages have one slot in the TLB between them") {
    constexpr uint64_t kNear = 0x300000, kFar = kNear + (5ull << 32), kBytes = 0x40;
    struct Case {
        Bytes code;
        bool repeats;
        unsigned size;
    };
    const Case cases[] = {{{0xa4}, false, 1},      {{0x48, 0xa5}, false, 8}, {{0xf3, 0xa4}, true, 1},
                          {{0xf3, 0xa5}, true, 4}, {{0xa6}, false, 1},       {{0x48, 0xa7}, false, 8},
                          {{0xf3, 0xa6}, true, 1}};
    for (const Case& c : cases) {
        GuestBench b(GuestBench::Mode::Long64);
        b.addRam(kNear, 2 * kPageSize);
        b.map(kFar, kNear + kPageSize);
        for (uint64_t n = 0; n < kBytes; n++) b.host(kNear)[n] = uint8_t(n + 1);
        const bool compares = (c.code.back() & 6) == 6;
        if (compares) std::memcpy(b.host(kNear + kPageSize), b.host(kNear), kBytes);
        Bytes code = c.code;
        code.push_back(0xf4);
        for (int time = 0; time < 3; time++) {
            start(b, 0x7000, code);
            b.cpu.halted = false;
            b.cpu.gpr[Rsi] = kNear;
            b.cpu.gpr[Rdi] = kFar;
            b.cpu.gpr[Rcx] = kBytes / c.size;
            REQUIRE(!b.runToHalt());
            const uint64_t done = c.repeats ? kBytes : c.size;
            CHECK(b.cpu.gpr[Rsi] == kNear + done);
            CHECK(b.cpu.gpr[Rdi] == kFar + done);
            CHECK(std::memcmp(b.host(kNear), b.host(kNear + kPageSize), done) == 0);
        }
    }
}
