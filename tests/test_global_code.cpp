// Code of global pages (SDM vol. 3, 4.10.2.4): it is still known behind a move to CR3, and is not any more
// when something invalidates global translations, be it for the current address space or while another one
// is.
#include <doctest/doctest.h>

#include "tests/cpu_bench.hpp"

namespace kiln::test {
namespace {

constexpr uint64_t kGlobalBit = 0x100, kFunction = 0x4000'0000, kOtherRoot = 0x70000, kCaller = 0x30000;

struct GlobalCode : GuestBench {
    GlobalCode() : GuestBench(Mode::Long64) {
        for (uint8_t n : {1, 2}) {
            // MOV EBX, n; RET
            const uint8_t function[] = {0xbb, n, 0, 0, 0, 0xc3};
            write(frame(n), function);
        }
        // MOV EDX, 100; L: CALL RAX; DEC EDX; JNZ L; HLT
        const uint8_t caller[] = {0xba, 100, 0, 0, 0, 0xff, 0xd0, 0xff, 0xca, 0x75, 0xfa, 0xf4};
        write(kCaller, caller);
        map(kFunction, frame(1), false);
        cpu.setCr4(cpu.cr4 | cr4::PGE);
        root = cpu.cr3;
        for (uint64_t n = 0; n < kPageSize; n += 8)
            memory.write<uint64_t>(PhysAddr(kOtherRoot + n), memory.read<uint64_t>(PhysAddr(root + n)));
    }
    static uint64_t frame(unsigned n) { return 0x40000 + n * kPageSize; }
    void lead(unsigned n, bool global) {
        uint64_t table = root & ~kPageMask;
        for (const unsigned shift : {39, 30, 21})
            table = memory.read<uint64_t>(PhysAddr(table + (kFunction >> shift & 511) * 8)) & 0xffffffff000;
        memory.write<uint64_t>(PhysAddr(table + (kFunction >> 12 & 511) * 8),
                               frame(n) | 3 | (global ? kGlobalBit : 0));
    }
    uint64_t run() {
        restoreMode();
        cpu.rip = kCaller;
        cpu.gpr[Rax] = kFunction;
        cpu.gpr[Rbx] = 0;
        runToHalt();
        return cpu.gpr[Rbx];
    }
    uint64_t root = 0;
};

}  // namespace

TEST_CASE_FIXTURE(GlobalCode, "global code outlives moves to CR3, and nothing else") {
    lead(1, true);
    cpu.flushPage(kFunction);
    CHECK(run() == 1);
    lead(2, true);
    cpu.setCr3(root);
    CHECK(run() == 1);
    cpu.flushPage(kFunction);
    CHECK(run() == 2);
    lead(1, true);
    cpu.setCr4(cpu.cr4 & ~cr4::PGE);
    cpu.setCr4(cpu.cr4 | cr4::PGE);
    CHECK(run() == 1);

    lead(2, false);
    cpu.flushPage(kFunction);
    CHECK(run() == 2);
    lead(1, false);
    cpu.setCr3(root);
    CHECK(run() == 1);
}

TEST_CASE_FIXTURE(GlobalCode, "global code of other address spaces is invalidated, too") {
    lead(1, true);
    cpu.flushPage(kFunction);
    cpu.setCr4(cpu.cr4 | cr4::PCIDE);
    auto select = [&](uint64_t at, unsigned pcid) { cpu.setCr3(at | pcid | 1ull << 63); };
    for (int n = 0; n < 2; n++) {
        select(kOtherRoot, 1);
        CHECK(run() == 1);
        select(root, 0);
        CHECK(run() == 1);
    }
    lead(2, true);
    cpu.flushPage(kFunction);
    CHECK(run() == 2);
    select(kOtherRoot, 1);
    CHECK(run() == 2);
    lead(1, true);
    cpu.invalidatePcid(3, 0, 0);  // spares global ones
    CHECK(run() == 2);
    cpu.invalidatePcid(2, 0, 0);
    CHECK(run() == 1);
    select(root, 0);
    CHECK(run() == 1);
}

}  // namespace kiln::test
