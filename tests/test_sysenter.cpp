// SYSENTER and SYSEXIT between flat 32-bit segments as host code (translate/emitter_crossings.cpp): done
// again as before, whatever may have changed meanwhile. The interpreter says what comes of it.
#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "tests/system_guest.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kEntry = 0x58000, kOtherEntry = 0x59000, kKernelStack = 0x5c000, kUserStack = 0x7f000;
constexpr uint16_t kThread = 0x43, kOtherThread = 0x4b;  // data segments of CPL 3

struct Bench : SystemGuest {
    explicit Bench(bool translates) : SystemGuest(Mode::Protected32, 3) {
        translator.reset();
        if (translates) translator = std::make_unique<Translator>(cpu, TranslatorOptions{.tier1 = 1});
        setGdt(kThread, segment(kDataRw | dpl(3), uint32_t(kDataAt), 0xfff, 4));
        setGdt(kOtherThread, segment(kDataRw | dpl(3), uint32_t(kDataAt) + 0x1000, 0xfff, 4));
        put<uint32_t>(kDataAt, 0x11111111);
        put<uint32_t>(kDataAt + 0x1000, 0x22222222);
        cpu.msr.sysenterCs = kCode0;
        cpu.msr.sysenterEip = kEntry;
        cpu.msr.sysenterEsp = kKernelStack;
        // mov ebp, cs:[60000h]; test esi, esi; jz 1f; mov fs, si; 1: sysexit
        write(kEntry, std::vector<uint8_t>{0x2e, 0x8b, 0x2d, 0, 0, 6, 0, 0x85, 0xf6, 0x74, 0x02, 0x8e, 0xe6,
                                           0x0f, 0x35});
        write(kOtherEntry, std::vector<uint8_t>{0xbf, 1, 0, 0, 0, 0x0f, 0x35});  // mov edi, 1; sysexit
        // mov ecx, esp; mov edx, 1f; sysenter; 1: mov ebx, fs:[0]; hlt
        std::vector<uint8_t> user = {0x89, 0xe1, 0xba, 0, 0, 0, 0, 0x0f, 0x34,
                                     0x64, 0x8b, 0x1d, 0, 0, 0, 0, 0xf4};
        const uint32_t back = kCodeAt + 9;
        std::memcpy(&user[3], &back, 4);
        write(kCodeAt, user);
    }
    std::optional<Caught> call(uint32_t thread = 0) {
        restoreMode();
        cpu.seg[Fs] = Cpu::unpack(kThread, gdt(kThread));
        return again(thread);
    }
    // With the segments as they are.
    std::optional<Caught> again(uint32_t thread) {
        cpu.gpr[Rsp] = kUserStack;
        cpu.gpr[Rsi] = thread;
        cpu.gpr[Rdi] = 0;
        cpu.rip = kCodeAt;
        cpu.flags.change(flag::IF, true);
        cpu.segmentsChanged();
        cpu.halted = false;
        return runToHalt(100);
    }
    uint64_t calls() const {
        const auto& t = static_cast<const Translator&>(*translator);
        return t.statistics().calls[size_t(Site::Kind::System)];
    }
};

struct Change {
    std::string what;
    std::function<void(Bench&)> make;
    uint32_t thread = 0;
};

const Change kChanges[] = {
    {"nothing", [](Bench&) {}},
    {"another segment in FS", [](Bench&) {}, kOtherThread},
    {"no segment in FS", [](Bench&) {}, 3},
    {"another entry", [](Bench& b) { b.cpu.msr.sysenterEip = kOtherEntry; }},
    {"another stack", [](Bench& b) { b.cpu.msr.sysenterEsp = kKernelStack - 64; }},
    {"no segment", [](Bench& b) { b.cpu.msr.sysenterCs = 3; }},
    {"other selectors", [](Bench& b) { b.cpu.msr.sysenterCs = 0x1'0060; }},
    {"flags", [](Bench& b) { b.cpu.flags.set(b.cpu.flags.value() | 0x3ed5); }},
    {"AC", [](Bench& b) { b.cpu.flags.change(flag::AC, true); }},
    {"AC and checks",
     [](Bench& b) { b.cpu.setCr0(b.cpu.cr0 | cr0::AM), b.cpu.flags.change(flag::AC, true); }},
    {"NT", [](Bench& b) { b.cpu.flags.change(flag::NT, true); }},
    {"code to be executed only", [](Bench& b) { b.cpu.seg[Cs].rights &= uint16_t(~2u); }},
    {"a data segment that is not flat", [](Bench& b) { b.cpu.seg[Ds].base = 0x1000; }},
};

}  // namespace

TEST_CASE("SYSENTER and SYSEXIT in host code need no call once they have been there") {
    Bench b(true);
    for (unsigned n = 0; n < 6; n++) b.call();
    const uint64_t before = b.calls();
    for (unsigned n = 0; n < 3; n++) {
        const auto came = b.call();
        CHECK_RAISES(came, kGP, 0);  // HLT's
        CHECK(b.cpu.gpr[Rbx] == 0x11111111);
    }
    CHECK(b.calls() - before == 3 * 2);  // both HLTs, that of #GP's handler as well
}

TEST_CASE("SYSENTER and SYSEXIT in host code see whatever has changed") {
    for (const Change& c : kChanges) {
        CAPTURE(c.what);
        Bench translated(true), interpreted(false);
        for (Bench* b : {&interpreted, &translated}) {
            for (unsigned n = 0; n < 6; n++) b->call(n & 1 ? kThread : 0);
            b->restoreMode();
            b->cpu.seg[Fs] = Cpu::unpack(kThread, b->gdt(kThread));
            c.make(*b);
        }
        const auto a = interpreted.again(c.thread), b = translated.again(c.thread);
        REQUIRE(a.has_value() == b.has_value());
        if (a) {
            CHECK(a->vector == b->vector);
            CHECK(a->error == b->error);
            CHECK(a->rip == b->rip);
            CHECK(a->rflags == b->rflags);
            CHECK(a->rsp == b->rsp);
        }
        const Cpu &x = interpreted.cpu, &y = translated.cpu;
        for (unsigned n = 0; n < 8; n++) CHECK(x.gpr.slot[n] == y.gpr.slot[n]);
        CHECK(x.flags.value() == y.flags.value());
        CHECK(x.cpl == y.cpl);
        CHECK(x.executed() == y.executed());
        for (unsigned n = 0; n < 6; n++) {
            CAPTURE(n);
            CHECK(x.seg[n].selector == y.seg[n].selector);
            CHECK(x.seg[n].rights == y.seg[n].rights);
            CHECK(x.seg[n].base == y.seg[n].base);
            CHECK(x.seg[n].limit == y.seg[n].limit);
        }
    }
}
TEST_CASE("what is flat but code to be executed only is not read through CS") {
    for (const bool translates : {false, true}) {
        CAPTURE(translates);
        SystemGuest g(GuestBench::Mode::Protected32);
        g.translator.reset();
        if (translates) g.translator = std::make_unique<Translator>(g.cpu, TranslatorOptions{.tier1 = 1});
        g.setGdt(0x40, segment(kCodeXo, 0, 0xfffff, 12));
        g.cpu.seg[Cs] = Cpu::unpack(0x40, g.gdt(0x40));
        g.cpu.segmentsChanged();
        g.code({0x90, 0x2e, 0xa1, 0, 0, 6, 0, 0xf4});  // mov eax, cs:[60000h]
        CHECK_RAISES(g.runToHalt(10), kGP, 0);
    }
}
