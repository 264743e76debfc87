// IRETQ as host code (translate/emitter_crossings.cpp): it does again what it has done before, and anything
// about that may have changed meanwhile. The interpreter says what comes of it.
#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "tests/system_guest.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kTarget = 0x70000, kOtherTarget = 0x71000, kStack = 0x7f000, kOuterStack = 0x78000;
constexpr uint16_t kFree = 0x48;  // two slots of the GDT

struct Return {
    uint64_t rip = kTarget, cs = 0, rflags = 2, rsp = kOuterStack, ss = 0;
};

struct Bench : SystemGuest {
    explicit Bench(bool translates) : SystemGuest(Mode::Long64) {
        translator.reset();
        if (translates) translator = std::make_unique<Translator>(cpu, TranslatorOptions{.tier1 = 1});
        setGdt(kFree, gdt(kCode0));
        setGdt(kFree + 8, gdt(kData0));
        write(kTarget, std::vector<uint8_t>{0x8c, 0xd8, 0xf4});  // mov eax, ds; hlt
        write(kOtherTarget, std::vector<uint8_t>{0x90, 0x90, 0xf4});
        code({0x90, 0x48, 0xcf});  // iretq
    }
    // From CPL 0, with the kernel's stack at `stack`.
    std::optional<Caught> returnsTo(const Return& r, uint64_t stack = kStack) {
        toKernel(stack);
        return goesTo(r);
    }
    void toKernel(uint64_t stack) {
        restoreMode();
        for (const SegReg s : {Es, Ds, Fs, Gs}) cpu.seg[s] = {.unusable = true};
        cpu.gpr[Rsp] = stack;
    }
    std::optional<Caught> goesTo(const Return& r) {
        push<uint64_t>({r.rip, r.cs, r.rflags, r.rsp, r.ss});
        cpu.rip = kCodeAt;
        cpu.segmentsChanged();
        cpu.halted = false;
        return runToHalt(100);
    }
    // Calls of the translator by IRETQ and HLT.
    uint64_t calls() const {
        const auto& t = static_cast<const Translator&>(*translator);
        return t.statistics().calls[size_t(Site::Kind::System)];
    }
};

struct Change {
    std::string what;
    std::function<void(Bench&, Return&)> make;
};

void setUp(Bench& b, unsigned level, Return& r) {
    r.cs = level ? kCode3 : kCode0;
    r.ss = level ? kData3 : kData0;
    for (unsigned n = 0; n < 6; n++) b.returnsTo(r);
}

void compare(const Bench& a, const Bench& b) {
    CHECK(a.cpu.rip == b.cpu.rip);
    CHECK(a.cpu.gpr[Rax] == b.cpu.gpr[Rax]);
    CHECK(a.cpu.gpr[Rsp] == b.cpu.gpr[Rsp]);
    CHECK(a.cpu.cpl == b.cpu.cpl);
    CHECK(a.cpu.flags.value() == b.cpu.flags.value());
    CHECK(a.cpu.nmiBlocked == b.cpu.nmiBlocked);
    CHECK(a.cpu.executed() == b.cpu.executed());
    for (unsigned n = 0; n < 6; n++) {
        CAPTURE(n);
        const Segment &x = a.cpu.seg[n], &y = b.cpu.seg[n];
        CHECK(x.selector == y.selector);
        CHECK(x.rights == y.rights);
        CHECK(x.limit == y.limit);
        CHECK(x.base == y.base);
        CHECK(x.unusable == y.unusable);
    }
}

const Change kChanges[] = {
    {"nothing", [](Bench&, Return&) {}},
    {"another target", [](Bench&, Return& r) { r.rip = kOtherTarget; }},
    {"a target that is not canonical", [](Bench&, Return& r) { r.rip = 1ull << 60; }},
    {"arithmetic flags", [](Bench&, Return& r) { r.rflags = 0x8d7; }},
    {"IF, DF, IOPL, ID", [](Bench&, Return& r) { r.rflags = 0x203602; }},
    {"NT", [](Bench&, Return& r) { r.rflags |= flag::NT; }},
    {"RF", [](Bench&, Return& r) { r.rflags |= flag::RF; }},
    {"AC", [](Bench&, Return& r) { r.rflags |= flag::AC; }},
    {"VM, and bits that are none", [](Bench&, Return& r) { r.rflags |= 0xffffffffffc28028; }},
    {"TF", [](Bench&, Return& r) { r.rflags |= flag::TF; }},
    {"no code", [](Bench& b, Return& r) { b.setGdt(uint16_t(r.cs), b.gdt(uint16_t(r.ss))); }},
    {"code not present",
     [](Bench& b, Return& r) { b.setGdt(uint16_t(r.cs), b.gdt(uint16_t(r.cs)) ^ 1ull << 47); }},
    {"code of another level",
     [](Bench& b, Return& r) { b.setGdt(uint16_t(r.cs), b.gdt(uint16_t(r.cs)) ^ 1ull << 45); }},
    {"32-bit code",
     [](Bench& b, Return& r) { b.setGdt(uint16_t(r.cs), b.gdt(uint16_t(r.cs)) ^ 3ull << 53); }},
    {"code not accessed",
     [](Bench& b, Return& r) { b.setGdt(uint16_t(r.cs), b.gdt(uint16_t(r.cs)) ^ 1ull << 40); }},
    {"a stack not present",
     [](Bench& b, Return& r) { b.setGdt(uint16_t(r.ss), b.gdt(uint16_t(r.ss)) ^ 1ull << 47); }},
    {"a stack to be read only",
     [](Bench& b, Return& r) { b.setGdt(uint16_t(r.ss), b.gdt(uint16_t(r.ss)) ^ 1ull << 41); }},
    {"a stack with a base",
     [](Bench& b, Return& r) { b.setGdt(uint16_t(r.ss), b.gdt(uint16_t(r.ss)) | 5ull << 16); }},
    {"the same descriptors at other places",
     [](Bench&, Return& r) {
         if (!(r.cs & 3)) r.cs = kFree, r.ss = kFree + 8;
     }},
    {"a null CS", [](Bench&, Return& r) { r.cs &= 3; }},
    {"a null SS", [](Bench&, Return& r) { r.ss &= 3; }},
    {"both null", [](Bench&, Return& r) { r.cs = r.ss = 0; }},
    {"a stack of another level", [](Bench&, Return& r) { r.ss ^= 3; }},
    {"upper bits of the selectors' words", [](Bench&, Return& r) { r.cs |= ~0xffffull, r.ss |= ~0xffffull; }},
    {"a shorter GDT", [](Bench& b, Return& r) { b.cpu.gdtr.limit = uint16_t(r.ss & ~7); }},
    {"a GDT elsewhere", [](Bench& b, Return&) { b.cpu.gdtr.base = 0x60000; }},
    {"blocked NMI", [](Bench& b, Return&) { b.cpu.nmiBlocked = true; }},
    {"NT now", [](Bench& b, Return&) { b.cpu.flags.change(flag::NT, true); }},
    {"a data segment of the inner level",
     [](Bench& b, Return&) { b.cpu.seg[Ds] = b.cpu.seg[Ss], b.cpu.seg[Ds].selector = kData0; }},
    {"a null selector that is not 0",
     [](Bench& b, Return&) { b.cpu.seg[Es] = {.selector = 2, .unusable = true}; }},
    {"checks of alignment",
     [](Bench& b, Return& r) { b.cpu.setCr0(b.cpu.cr0 | cr0::AM), r.rflags |= flag::AC; }},
};

}  // namespace

TEST_CASE("IRETQ in host code needs no call once it has been there") {
    for (unsigned level : {0u, 3u}) {
        CAPTURE(level);
        Bench b(true);
        Return r;
        setUp(b, level, r);
        const uint64_t before = b.calls();
        for (unsigned n = 0; n < 3; n++) b.returnsTo(r);
        CHECK(b.calls() - before == 3 * (level ? 2 : 1));  // HLT, and at CPL 3 that of #GP's handler
        CHECK(b.cpu.rip == kTarget + (level ? 2 : 3));
    }
}

TEST_CASE("IRETQ in host code sees whatever has changed") {
    for (const Change& c : kChanges)
        for (unsigned level : {0u, 3u}) {
            CAPTURE(c.what);
            CAPTURE(level);
            Bench translated(true), interpreted(false);
            std::optional<Caught> came[2];
            for (Bench* b : {&interpreted, &translated}) {
                Return r;
                setUp(*b, level, r);
                b->toKernel(kStack);
                c.make(*b, r);
                came[b == &translated] = b->goesTo(r);
            }
            REQUIRE(came[0].has_value() == came[1].has_value());
            if (came[0]) {
                CHECK(came[0]->vector == came[1]->vector);
                CHECK(came[0]->error == came[1]->error);
                CHECK(came[0]->rip == came[1]->rip);
                CHECK(came[0]->rflags == came[1]->rflags);
                CHECK(came[0]->rsp == came[1]->rsp);
            }
            compare(translated, interpreted);
        }
}

TEST_CASE("IRETQ in host code from a stack that crosses a page") {
    for (const uint64_t below : {0u, 8u, 24u, 32u, 40u}) {
        CAPTURE(below);
        Bench translated(true), interpreted(false);
        for (Bench* b : {&interpreted, &translated}) {
            Return r;
            setUp(*b, 0, r);
            r.rflags = 0xad7;
            CHECK(!b->returnsTo(r, kStack + below));
        }
        compare(translated, interpreted);
    }
}
