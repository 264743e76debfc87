// Task switching (SDM vol. 3, chapter 7) and the I/O permission bitmap.
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint16_t kOld = 0x28, kNew = 0x40, kGate = 0x48, kTry = 0x50;
constexpr uint64_t kNewTss = 0x4000, kEntry = 0x70000, kCodeAt = SystemGuest::kCodeAt;

// A bench with a second task, of 32 or 16 bits, ready to run at kEntry (7000h for 16 bits).
struct TaskGuest : SystemGuest {
    explicit TaskGuest(bool wide = true, unsigned cpl = 0) : SystemGuest(Mode::Protected32, cpl), wide(wide) {
        setGdt(kNew, segment((wide ? kTss32 : kTss16) | dpl(3), kNewTss, wide ? 0x67 : 0x2b, 0));
        setGdt(kGate, gate(kTaskGateType | dpl(3), kNew, 0));
        if (wide) {
            put<uint32_t>(kNewTss + 32, kEntry);
            put<uint32_t>(kNewTss + 36, 2);
            for (unsigned r = 0; r < 8; r++) put<uint32_t>(kNewTss + 40 + r * 4, 0x1000000 * r + 0x5800);
            for (unsigned r = 0; r < 4; r++) put<uint16_t>(kNewTss + 72 + r * 4, r == Cs ? kCode0 : kData0);
        } else {
            put<uint16_t>(kNewTss + 14, 0x7000);
            put<uint16_t>(kNewTss + 16, 2);
            for (unsigned r = 0; r < 8; r++) put<uint16_t>(kNewTss + 18 + r * 2, uint16_t(0x5800 + r));
            for (unsigned r = 0; r < 4; r++) put<uint16_t>(kNewTss + 34 + r * 2, r == Cs ? kCode0 : kData0);
        }
    }
    uint64_t entry() const { return wide ? kEntry : 0x7000; }
    bool busy(uint16_t selector) { return gdt(selector) >> 41 & 1; }
    void far(uint8_t opcode, uint16_t selector) {
        code({opcode, 0, 0, 0, 0, uint8_t(selector), 0});
        cpu.singleStep();
    }
    void iret(uint64_t at) {
        code({0xcf}, at);
        cpu.singleStep();
    }
    bool wide;
};
constexpr uint8_t kJmp = 0xea, kCall = 0x9a;

}  // namespace

TEST_CASE("JMP and CALL to a task, directly and by a gate") {
    for (bool wide : {true, false})
        for (uint8_t opcode : {kJmp, kCall})
            for (uint16_t selector : {kNew, kGate}) {
                CAPTURE(wide);
                CAPTURE(int(opcode));
                CAPTURE(selector);
                TaskGuest g(wide);
                g.cpu.gpr[Rax] = 0xcafebabe;
                g.cpu.flags.set(flag::CF | flag::IF | 2);
                g.far(opcode, selector);
                CHECK(g.cpu.rip == g.entry());
                CHECK(g.cpu.tr.selector == kNew);
                CHECK((g.cpu.cr0 & cr0::TS) != 0);
                CHECK(g.cpu.gpr[Rbx] == (wide ? 0x3005800 : 0xffff5803));
                // The old task's state is in its TSS.
                CHECK(g.get<uint32_t>(0x3000 + 32) == kCodeAt + 7);
                CHECK(g.get<uint32_t>(0x3000 + 36) == (flag::CF | flag::IF | 2));
                CHECK(g.get<uint32_t>(0x3000 + 40) == 0xcafebabe);
                CHECK(g.get<uint16_t>(0x3000 + 76) == kCode0);
                // Nested: back link, NT, and both busy.
                const bool nested = opcode == kCall;
                CHECK(g.cpu.flags.value() == (nested ? flag::NT | 2 : 2));
                CHECK(g.get<uint16_t>(kNewTss) == (nested ? kOld : 0));
                CHECK(g.busy(kOld) == nested);
                CHECK(g.busy(kNew));
                if (!nested) continue;
                g.iret(g.entry());
                CHECK(g.cpu.rip == kCodeAt + 7);
                CHECK(g.cpu.tr.selector == kOld);
                CHECK(g.cpu.gpr[Rax] == 0xcafebabe);
                CHECK(g.cpu.flags.value() == (flag::CF | flag::IF | 2));
                CHECK(g.busy(kOld));
                CHECK(!g.busy(kNew));
                CHECK((g.get<uint32_t>(kNewTss + (wide ? 36 : 16)) & flag::NT) == 0);
            }
}

TEST_CASE("an interrupt through a task gate, with and without an error code") {
    SUBCASE("INT n") {
        TaskGuest g;
        g.setIdt(0x40, gate(kTaskGateType, kNew, 0));
        g.code({0xcd, 0x40});
        g.cpu.singleStep();
        CHECK(g.cpu.rip == kEntry);
        CHECK(g.cpu.gpr[Rsp] == 0x4005800);
        CHECK(g.get<uint32_t>(0x3000 + 32) == kCodeAt + 2);
        g.iret(kEntry);
        CHECK(g.cpu.rip == kCodeAt + 2);
    }
    SUBCASE("#GP pushes its error code on the new stack; the saved EIP is the fault's") {
        TaskGuest g;
        g.put<uint32_t>(kNewTss + 56, 0x5800);
        g.setIdt(kGP, gate(kTaskGateType, kNew, 0));
        g.cpu.gpr[Rax] = 0x208;
        g.code({0x8e, 0xd8});  // mov ds, ax
        g.cpu.singleStep();
        CHECK(g.cpu.rip == kEntry);
        CHECK(g.cpu.gpr[Rsp] == 0x5800 - 4);
        CHECK(g.top<uint32_t>(0) == 0x208);
        CHECK(g.get<uint32_t>(0x3000 + 32) == kCodeAt);
    }
}

TEST_CASE("a task may run virtual-8086 code") {
    TaskGuest g;
    g.put<uint32_t>(kNewTss + 32, 0x100);
    g.put<uint32_t>(kNewTss + 36, uint32_t(flag::VM | 2));
    g.put<uint16_t>(kNewTss + 76, 0x7000);
    g.far(kJmp, kNew);
    CHECK(g.cpu.v86());
    CHECK(g.cpu.cpl == 3);
    CHECK(g.cpu.seg[Cs].base == 0x70000);
}

TEST_CASE("task switches that are refused") {
    struct {
        const char* what;
        unsigned cpl, rpl;
        uint64_t tss, taskGate;
        bool byGate;
        int vector;
        uint32_t error;
    } cases[] = {
        {"busy TSS", 0, 0, segment(kTss32 | 2, kNewTss, 0x67, 0), 0, false, kGP, kNew},
        {"absent TSS", 0, 0, segment(kTss32 ^ kAbsent, kNewTss, 0x67, 0), 0, false, kNP, kNew},
        {"short TSS", 0, 0, segment(kTss32, kNewTss, 0x66, 0), 0, false, kTS, kNew},
        {"short 16-bit TSS", 0, 0, segment(kTss16, kNewTss, 0x2a, 0), 0, false, kTS, kNew},
        {"DPL below CPL", 3, 3, segment(kTss32, kNewTss, 0x67, 0), 0, false, kGP, kNew},
        {"DPL below RPL", 0, 3, segment(kTss32, kNewTss, 0x67, 0), 0, false, kGP, kNew},
        {"gate's DPL below CPL", 3, 3, segment(kTss32, kNewTss, 0x67, 0), gate(kTaskGateType, kNew, 0), true,
         kGP, kGate},
        {"absent gate", 0, 0, segment(kTss32, kNewTss, 0x67, 0), gate(kTaskGateType ^ kAbsent, kNew, 0), true,
         kNP, kGate},
        {"gate to a busy TSS", 0, 0, segment(kTss32 | 2, kNewTss, 0x67, 0), gate(kTaskGateType, kNew, 0),
         true, kGP, kNew},
        {"gate to a local selector", 0, 0, 0, gate(kTaskGateType, kNew | 4, 0), true, kGP, kNew | 4},
        {"gate to data", 0, 0, segment(kDataRw, 0, 0xfffff, 12), gate(kTaskGateType, kNew, 0), true, kGP,
         kNew},
    };
    for (auto& c : cases)
        for (uint8_t opcode : {kJmp, kCall}) {
            CAPTURE(c.what);
            TaskGuest g(true, c.cpl);
            g.setGdt(kNew, c.tss);
            g.setGdt(kGate, c.taskGate);
            auto raised = g.does({opcode, 0, 0, 0, 0, uint8_t((c.byGate ? kGate : kNew) | c.rpl), 0});
            CHECK_RAISES(raised, c.vector, c.error);
            CHECK(raised->rip == kCodeAt);
            CHECK(g.cpu.tr.selector == kOld);
        }
    TaskGuest g;  // IRET with NT, and a back link to a task that is not busy
    g.put<uint16_t>(0x3000, kNew);
    g.cpu.flags.change(flag::NT, true);
    CHECK_RAISES(g.does({0xcf}), kTS, kNew);
}

TEST_CASE("a bad segment of the new task is a fault in that task") {
    struct {
        const char* what;
        unsigned place;  // in the TSS
        uint16_t selector;
        uint64_t descriptor;
        int vector;
    } cases[] = {
        {"null CS", 76, 0, 0, kTS},
        {"data as CS", 76, kTry, segment(kDataRw, 0, 0xfffff, 12), kTS},
        {"CS with another DPL", 76, kTry, segment(kCodeRx | dpl(3), 0, 0xfffff, 12), kTS},
        {"absent CS", 76, kTry, segment(kCodeRx ^ kAbsent, 0, 0xfffff, 12), kNP},
        {"null SS", 80, 0, 0, kTS},
        {"read-only SS", 80, kTry, segment(kDataRo, 0, 0xfffff, 12), kTS},
        {"absent SS", 80, kTry, segment(kDataRw ^ kAbsent, 0, 0xfffff, 12), kSS},
        {"execute-only DS", 84, kTry, segment(kCodeXo, 0, 0xfffff, 12), kTS},
        {"absent DS", 84, kTry, segment(kDataRw ^ kAbsent, 0, 0xfffff, 12), kNP},
        {"LDT that is none", 96, kTry, segment(kDataRw, 0, 0xfffff, 12), kTS},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        TaskGuest g;
        g.setGdt(kTry, c.descriptor);
        g.put<uint16_t>(kNewTss + c.place, c.selector);
        // A third task takes the fault: the second one's stack may be the trouble.
        g.setGdt(0x58, segment(kTss32, 0x5000, 0x67, 0));
        g.put<uint32_t>(0x5000 + 32, g.handler(unsigned(c.vector)));
        g.put<uint32_t>(0x5000 + 56, 0x5800);
        g.put<uint16_t>(0x5000 + 76, kCode0);
        g.put<uint16_t>(0x5000 + 80, kData0);
        g.setIdt(unsigned(c.vector), gate(kTaskGateType, 0x58, 0));
        g.far(kJmp, kNew);
        CHECK(g.cpu.rip == g.handler(unsigned(c.vector)));
        CHECK(g.top<uint32_t>(0) == (c.selector & ~3u));
        CHECK(g.get<uint16_t>(0x5000) == kNew);          // the second task was current
        CHECK(g.get<uint32_t>(kNewTss + 32) == kEntry);  // and had not run an instruction
        CHECK(g.shutdown.empty());
    }
}

TEST_CASE("I/O permission bitmap") {
    struct {
        const char* what;
        unsigned iopl;
        uint16_t port;
        unsigned size;
        bool ok;
    } cases[] = {
        {"IOPL suffices", 3, 0x80, 1, true},
        {"a clear bit", 0, 0x80, 1, true},
        {"a set bit", 0, 0x81, 1, false},
        {"a word with one set bit", 0, 0x80, 2, false},
        {"a dword over a byte of the map", 0, 0x86, 4, true},
        {"a dword whose last bit is set", 0, 0x87, 4, false},
        {"behind the map", 0, 0x200, 1, false},
    };
    for (auto mode : {Mode::Protected32, Mode::Long64})
        for (auto& c : cases) {
            CAPTURE(c.what);
            SystemGuest g(mode, 3);
            g.cpu.tr.limit = 0x68 + 0x20;
            g.put<uint16_t>(SystemGuest::kTssAt + 0x68 + 0x10, 0x0402);  // ports 81h and 8Ah
            g.cpu.flags.set(c.iopl << 12 | 2);
            g.cpu.gpr[Rdx] = c.port;
            auto raised = c.size == 1 ? g.does({0xec}) : c.size == 2 ? g.does({0x66, 0xed}) : g.does({0xed});
            CHECK(raised.has_value() == !c.ok);
            if (raised) CHECK_RAISES(raised, kGP, 0);
        }
}
