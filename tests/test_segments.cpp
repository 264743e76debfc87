// Segment registers, far transfers, call gates, returns (SDM vol. 3, chapter 5; vol. 2, MOV, JMP, CALL, RET,
// LAR ...).
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint16_t kTry = 0x40, kOther = 0x48;  // free GDT slots

// mov ds, ax / mov ss, ax / mov es, ax
std::optional<Caught> load(SystemGuest& g, SegReg which, uint16_t selector) {
    g.cpu.gpr[Rax] = selector;
    return g.does({0x8e, uint8_t(0xc0 | which << 3)});
}

// jmp far / call far selector:offset with 32-bit operands
std::optional<Caught> far(SystemGuest& g, uint8_t opcode, uint16_t selector, uint32_t offset) {
    return g.does({opcode, uint8_t(offset), uint8_t(offset >> 8), uint8_t(offset >> 16),
                   uint8_t(offset >> 24), uint8_t(selector), uint8_t(selector >> 8)});
}
constexpr uint8_t kJmp = 0xea, kCall = 0x9a;

}  // namespace

TEST_CASE("data segment loads: who may load what") {
    struct {
        const char* what;
        unsigned cpl;
        SegReg reg;
        unsigned access;
        unsigned rpl;
        int vector;  // -1: none
    } cases[] = {
        {"writable data", 0, Ds, kDataRw, 0, -1},
        {"read-only data", 0, Ds, kDataRo, 0, -1},
        {"readable code", 0, Ds, kCodeRx, 0, -1},
        {"execute-only code", 0, Ds, kCodeXo, 0, kGP},
        {"system descriptor", 0, Ds, kLdtType, 0, kGP},
        {"absent data", 0, Ds, kDataRw ^ kAbsent, 0, kNP},
        {"RPL above DPL", 0, Ds, kDataRw, 3, kGP},
        {"CPL above DPL", 3, Ds, kDataRw, 0, kGP},
        {"CPL above DPL, RPL too", 3, Ds, kDataRw, 3, kGP},
        {"conforming code at any level", 3, Ds, kCodeConforming, 3, -1},
        {"user data for everybody", 0, Ds, kDataRw | dpl(3), 0, -1},
        {"SS: writable, all levels equal", 0, Ss, kDataRw, 0, -1},
        {"SS: read-only", 0, Ss, kDataRo, 0, kGP},
        {"SS: code", 0, Ss, kCodeRx, 0, kGP},
        {"SS: RPL differs", 0, Ss, kDataRw, 1, kGP},
        {"SS: DPL differs", 0, Ss, kDataRw | dpl(3), 0, kGP},
        {"SS: user", 3, Ss, kDataRw | dpl(3), 3, -1},
        {"SS: absent", 0, Ss, kDataRw ^ kAbsent, 0, kSS},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Protected32, c.cpl);
        g.setGdt(kTry, segment(c.access, 0, 0xfffff, 12));
        auto raised = load(g, c.reg, uint16_t(kTry | c.rpl));
        if (c.vector < 0) {
            CHECK(!raised);
            CHECK(g.cpu.seg[c.reg].selector == (kTry | c.rpl));
        } else {
            CHECK_RAISES(raised, c.vector, kTry);
        }
    }
}

TEST_CASE("null and out-of-table selectors") {
    SystemGuest g(Mode::Protected32);
    CHECK(!load(g, Es, 3));
    CHECK_RAISES(g.does({0x26, 0xa1, 0, 0, 6, 0}), kGP, 0);  // mov eax, es:[60000h]
    CHECK_RAISES(load(g, Ss, 0), kGP, 0);
    CHECK_RAISES(load(g, Ds, 0x200), kGP, 0x200);  // behind the GDT
    CHECK_RAISES(load(g, Ds, 0x44), kGP, 0x44);    // no LDT
    CHECK_RAISES(g.does({0x8e, 0xc8}), kUD, 0);    // mov cs, ax
}

TEST_CASE("loading a segment sets the accessed bit in its descriptor") {
    SystemGuest g(Mode::Protected32);
    g.setGdt(kTry, segment(kDataRw & ~1u, 0x1234, 0xfff, 4));
    CHECK(!load(g, Ds, kTry));
    CHECK(g.gdt(kTry) == segment(kDataRw, 0x1234, 0xfff, 4));
    CHECK(g.cpu.seg[Ds].base == 0x1234);
}

TEST_CASE("limits: byte, page and expand-down segments") {
    struct {
        const char* what;
        unsigned access, flags;
        uint32_t limit, offset;
        bool ok;
    } cases[] = {
        {"last dword of a byte-granular segment", kDataRw, 4, 0x103, 0x100, true},
        {"one byte beyond", kDataRw, 4, 0x102, 0x100, false},
        {"last dword of a page", kDataRw, 12, 0, 0xffc, true},
        {"across its end", kDataRw, 12, 0, 0xffd, false},
        {"expand-down: the limit itself is outside", kDataDown, 4, 0xfff, 0xfff, false},
        {"expand-down: first byte above", kDataDown, 4, 0xfff, 0x1000, true},
        {"expand-down, 16 bits: last dword", kDataDown, 0, 0xfff, 0xfffc, true},
        {"expand-down, 16 bits: beyond 64 KiB", kDataDown, 0, 0xfff, 0xfffd, false},
        {"expand-down, 32 bits: goes further", kDataDown, 4, 0xfff, 0x10000, true},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Protected32);
        g.setGdt(kTry, segment(c.access, 0, c.limit, c.flags));
        REQUIRE(!load(g, Es, kTry));
        g.cpu.gpr[Rbx] = c.offset;
        auto raised = g.does({0x26, 0x8b, 0x03});  // mov eax, es:[ebx]
        CHECK(raised.has_value() == !c.ok);
        if (raised) CHECK(int(raised->vector) == kGP);
    }
}

TEST_CASE("writes need a writable segment; a stack fault is #SS") {
    SystemGuest g(Mode::Protected32);
    g.setGdt(kTry, segment(kDataRo, 0, 0xfffff, 12));
    REQUIRE(!load(g, Es, kTry));
    g.cpu.gpr[Rbx] = SystemGuest::kDataAt;
    CHECK_RAISES(g.does({0x26, 0x89, 0x03}), kGP, 0);  // mov es:[ebx], eax
    CHECK_RAISES(g.does({0x2e, 0x89, 0x03}), kGP, 0);  // mov cs:[ebx], eax
    g.setGdt(kOther, segment(kDataRw, 0, 0xff, 12));
    REQUIRE(!load(g, Ss, kOther));
    g.cpu.gpr[Rbp] = 0x100000;
    g.code({0x8b, 0x45, 0x00});  // mov eax, [ebp]
    g.cpu.singleStep();
    CHECK(g.cpu.rip == g.handler(kSS));
    CHECK(g.top<uint32_t>(0) == 0);
}

TEST_CASE("direct far JMP and CALL: levels and types") {
    struct {
        const char* what;
        unsigned cpl, access, flags, rpl;
        int vector;
    } cases[] = {
        {"nonconforming, same level", 0, kCodeRx, 12, 0, -1},
        {"nonconforming, RPL is less privileged", 0, kCodeRx, 12, 3, kGP},
        {"nonconforming, inner level", 3, kCodeRx, 12, 3, kGP},
        {"nonconforming, RPL more privileged than CPL", 3, kCodeRx | dpl(3), 12, 0, -1},
        {"nonconforming, outer level", 0, kCodeRx | dpl(3), 12, 0, kGP},
        {"conforming, inner level", 3, kCodeConforming, 12, 3, -1},
        {"conforming, outer level", 0, kCodeConforming | dpl(3), 12, 0, kGP},
        {"absent", 0, kCodeRx ^ kAbsent, 12, 0, kNP},
        {"data", 0, kDataRw, 12, 0, kGP},
        {"LDT", 0, kLdtType, 0, 0, kGP},
    };
    for (auto& c : cases)
        for (uint8_t opcode : {kJmp, kCall}) {
            CAPTURE(c.what);
            CAPTURE(int(opcode));
            SystemGuest g(Mode::Protected32, c.cpl);
            g.setGdt(kTry, segment(c.access, 0, 0xfffff, c.flags));
            auto raised = far(g, opcode, uint16_t(kTry | c.rpl), 0x70000);
            if (c.vector >= 0) {
                CHECK_RAISES(raised, c.vector, kTry);
                CHECK(g.cpu.gpr[Rsp] == 0x80000);
                continue;
            }
            CHECK(!raised);
            CHECK(g.cpu.rip == 0x70000);
            CHECK(g.cpu.seg[Cs].selector == (kTry | c.cpl));  // RPL becomes CPL
            CHECK(g.cpu.cpl == c.cpl);
            if (opcode == kCall) {
                CHECK(g.top<uint32_t>(0) == SystemGuest::kCodeAt + 7);
                CHECK(g.top<uint32_t>(1) == (c.cpl ? kCode3 : kCode0));
            }
        }
}

TEST_CASE("far targets beyond the limit, null and missing selectors") {
    SystemGuest g(Mode::Protected32);
    g.setGdt(kTry, segment(kCodeRx, 0, 0xfff, 4));
    CHECK_RAISES(far(g, kJmp, kTry, 0x1000), kGP, 0);
    CHECK_RAISES(far(g, kCall, kTry, 0x1000), kGP, 0);
    CHECK_RAISES(far(g, kJmp, 0, 0), kGP, 0);
    CHECK_RAISES(far(g, kJmp, 0x203, 0), kGP, 0x200);
    CHECK(g.cpu.gpr[Rsp] == 0x80000);
}

TEST_CASE("call gates at the same level push at the gate's width") {
    for (bool wide : {false, true}) {
        SystemGuest g(Mode::Protected32);
        g.setGdt(kTry, gate(wide ? kCallGate32 : kCallGate16, kCode0, 0x17777));
        CHECK(!far(g, kCall, kTry, 0x1234567));  // the instruction's offset is not used
        CHECK(g.cpu.rip == (wide ? 0x17777 : 0x7777));
        CHECK(g.cpu.gpr[Rsp] == 0x80000 - (wide ? 8 : 4));
        if (wide)
            CHECK(g.top<uint32_t>(0) == SystemGuest::kCodeAt + 7);
        else
            CHECK(g.top<uint16_t>(1) == kCode0);
    }
}

TEST_CASE("a call gate to ring 0 copies parameters to the stack in the TSS, and RET n comes back") {
    SystemGuest g(Mode::Protected32, 3);
    g.setGdt(kTry, gate(kCallGate32 | dpl(3), kCode0, 0x70000, 2));
    g.setGdt(kCode0, segment(kCodeRx & ~1u, 0, 0xfffff, 12));
    g.push<uint32_t>({0x11111111, 0x22222222});
    g.code({kCall, 0, 0, 0, 0, uint8_t(kTry), 0});
    g.cpu.singleStep();
    REQUIRE(g.cpu.rip == 0x70000);
    CHECK(g.cpu.cpl == 0);
    CHECK(g.cpu.seg[Cs].selector == kCode0);
    CHECK(g.cpu.seg[Ss].selector == kData0);
    CHECK(g.cpu.gpr[Rsp] == 0x6000 - 24);
    uint32_t frame[] = {
        uint32_t(SystemGuest::kCodeAt + 7), kCode3, 0x11111111, 0x22222222, 0x80000 - 8, kData3};
    for (unsigned n = 0; n < 6; n++) CHECK(g.top<uint32_t>(n) == frame[n]);
    CHECK(g.gdt(kCode0) == segment(kCodeRx, 0, 0xfffff, 12));  // accessed

    g.cpu.loadSegment(Ds, kData0);
    g.cpu.loadSegment(Es, kData3);
    g.code({0xca, 8, 0}, 0x70000);  // retf 8
    g.cpu.singleStep();
    CHECK(g.cpu.cpl == 3);
    CHECK(g.cpu.rip == SystemGuest::kCodeAt + 7);
    CHECK(g.cpu.gpr[Rsp] == 0x80000);  // the parameters are gone from both stacks
    CHECK(g.cpu.seg[Ss].selector == kData3);
    CHECK(g.cpu.seg[Ds].selector == 0);  // ring 0's data segment is taken away
    CHECK(g.cpu.seg[Es].selector == kData3);
}

TEST_CASE("call gates: what is refused, with which error code") {
    struct {
        const char* what;
        unsigned cpl, access, rpl;
        uint16_t target;
        uint64_t targetDescriptor;
        int vector;
        uint32_t error;
    } cases[] = {
        {"gate DPL below CPL", 3, kCallGate32, 0, kCode0, 0, kGP, kTry},
        {"gate DPL below RPL", 0, kCallGate32, 3, kCode0, 0, kGP, kTry},
        {"absent gate", 0, kCallGate32 ^ kAbsent, 0, kCode0, 0, kNP, kTry},
        {"null code selector", 0, kCallGate32, 0, 3, 0, kGP, 0},
        {"code selector behind the table", 0, kCallGate32, 0, 0x208, 0, kGP, 0x208},
        {"target is data", 0, kCallGate32, 0, kOther, segment(kDataRw, 0, 0xfffff, 12), kGP, kOther},
        {"target is at an outer level", 0, kCallGate32, 0, kOther, segment(kCodeRx | dpl(3), 0, 0xfffff, 12),
         kGP, kOther},
        {"target is absent", 0, kCallGate32, 0, kOther, segment(kCodeRx ^ kAbsent, 0, 0xfffff, 12), kNP,
         kOther},
        {"offset beyond the target's limit", 0, kCallGate32, 0, kOther, segment(kCodeRx, 0, 0xfff, 4), kGP,
         0},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Protected32, c.cpl);
        g.setGdt(kTry, gate(c.access, c.target, 0x70000));
        g.setGdt(kOther, c.targetDescriptor);
        CHECK_RAISES(far(g, kCall, uint16_t(kTry | c.rpl), 0), c.vector, c.error);
        CHECK_RAISES(far(g, kJmp, uint16_t(kTry | c.rpl), 0), c.vector, c.error);
    }
}

TEST_CASE("call gates: a bad inner stack is #TS or #SS, and JMP does not change the level") {
    struct {
        const char* what;
        uint16_t ss;
        uint64_t descriptor;
        int vector;
        uint32_t error;
    } cases[] = {
        {"null", 0, 0, kTS, 0},
        {"RPL is not the new level", kOther | 3, segment(kDataRw | dpl(1), 0, 0xfffff, 12), kTS, kOther},
        {"DPL is not the new level", kOther | 1, segment(kDataRw | dpl(3), 0, 0xfffff, 12), kTS, kOther},
        {"read-only", kOther | 1, segment(kDataRo | dpl(1), 0, 0xfffff, 12), kTS, kOther},
        {"absent", kOther | 1, segment((kDataRw ^ kAbsent) | dpl(1), 0, 0xfffff, 12), kSS, kOther},
        {"too small", kOther | 1, segment(kDataRw | dpl(1), 0, 0xfff, 4), kSS, kOther},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        // To ring 1, so that the handler at ring 0 has a good stack.
        SystemGuest g(Mode::Protected32, 3);
        g.setGdt(kTry, gate(kCallGate32 | dpl(3), 0x50, 0x70000));
        g.setGdt(0x50, segment(kCodeRx | dpl(1), 0, 0xfffff, 12));
        g.setGdt(kOther, c.descriptor);
        g.put<uint32_t>(SystemGuest::kTssAt + 12, 0x8000);
        g.put<uint16_t>(SystemGuest::kTssAt + 16, c.ss);
        CHECK_RAISES(far(g, kCall, kTry, 0), c.vector, c.error);
        CHECK(g.cpu.gpr[Rsp] == 0x80000);
    }
    SystemGuest g(Mode::Protected32, 3);
    g.setGdt(kTry, gate(kCallGate32 | dpl(3), kCode0, 0x70000));
    CHECK_RAISES(far(g, kJmp, kTry, 0), kGP, kCode0);
}

TEST_CASE("far RET: checks of the code and stack segments it finds") {
    struct {
        const char* what;
        uint16_t cs;
        uint64_t csDescriptor;
        uint16_t ss;
        uint64_t ssDescriptor;
        int vector;
        uint32_t error;
    } cases[] = {
        {"null CS", 0, 0, 0, 0, kGP, 0},
        {"CS behind the table", 0x200, 0, 0, 0, kGP, 0x200},
        {"data as CS", kTry, segment(kDataRw, 0, 0xfffff, 12), 0, 0, kGP, kTry},
        {"DPL is not RPL", kTry | 3, segment(kCodeRx, 0, 0xfffff, 12), kData3, 0, kGP, kTry},
        {"conforming with DPL above RPL", kTry, segment(kCodeConforming | dpl(3), 0, 0xfffff, 12), 0, 0, kGP,
         kTry},
        {"absent CS", kTry, segment(kCodeRx ^ kAbsent, 0, 0xfffff, 12), 0, 0, kNP, kTry},
        {"beyond the limit", kTry, segment(kCodeRx, 0, 0xfff, 4), 0, 0, kGP, 0},
        {"outer, null SS", kCode3, 0, 0, 0, kGP, 0},
        {"outer, SS with another RPL", kCode3, 0, kOther, segment(kDataRw | dpl(3), 0, 0xfffff, 12), kGP,
         kOther},
        {"outer, SS with another DPL", kCode3, 0, kOther | 3, segment(kDataRw, 0, 0xfffff, 12), kGP, kOther},
        {"outer, read-only SS", kCode3, 0, kOther | 3, segment(kDataRo | dpl(3), 0, 0xfffff, 12), kGP,
         kOther},
        {"outer, absent SS", kCode3, 0, kOther | 3, segment((kDataRw ^ kAbsent) | dpl(3), 0, 0xfffff, 12),
         kSS, kOther},
    };
    for (auto& c : cases)
        for (bool iret : {false, true}) {
            CAPTURE(c.what);
            CAPTURE(iret);
            SystemGuest g(Mode::Protected32);
            if (c.csDescriptor) g.setGdt(c.cs, c.csDescriptor);
            if (c.ssDescriptor) g.setGdt(c.ss, c.ssDescriptor);
            if (iret)
                g.push<uint32_t>({0x70000, c.cs, 2, 0x90000, c.ss});
            else
                g.push<uint32_t>({0x70000, c.cs, 0x90000, c.ss});
            uint64_t sp = g.cpu.gpr[Rsp];
            auto raised = iret ? g.does({0xcf}) : g.does({0xcb});
            CHECK_RAISES(raised, c.vector, c.error);
            CHECK(g.cpu.gpr[Rsp] == sp);
        }
    SystemGuest g(Mode::Protected32, 3);  // RPL below CPL
    g.push<uint32_t>({0x70000, kCode0});
    CHECK_RAISES(g.does({0xcb}), kGP, kCode0);
}

TEST_CASE("LAR, LSL, VERR, VERW: ZF says whether the selector may be used") {
    struct {
        const char* what;
        unsigned cpl;
        uint64_t descriptor;
        unsigned rpl;
        bool lar, lsl, verr, verw;
    } cases[] = {
        {"data", 0, segment(kDataRw, 0, 0xfffff, 12), 0, true, true, true, true},
        {"read-only data", 0, segment(kDataRo, 0, 0x1234, 4), 0, true, true, true, false},
        {"readable code", 0, segment(kCodeRx, 0, 0x1234, 4), 0, true, true, true, false},
        {"execute-only code", 0, segment(kCodeXo, 0, 0x1234, 4), 0, true, true, false, false},
        {"RPL above DPL", 0, segment(kDataRw, 0, 0x1234, 4), 1, false, false, false, false},
        {"CPL above DPL", 3, segment(kDataRw, 0, 0x1234, 4), 0, false, false, false, false},
        {"conforming code at any level", 3, segment(kCodeConforming, 0, 0x1234, 4), 3, true, true, true,
         false},
        {"LDT", 0, segment(kLdtType, 0, 0x1234, 0), 0, true, true, false, false},
        {"TSS", 0, segment(kTss32, 0, 0x67, 0), 0, true, true, false, false},
        {"call gate has rights, but no limit", 0, gate(kCallGate32, kCode0, 0), 0, true, false, false, false},
        {"task gate", 0, gate(kTaskGateType, kCode0, 0), 0, true, false, false, false},
        {"interrupt gate", 0, gate(kInt32, kCode0, 0), 0, false, false, false, false},
        {"absent data", 0, segment(kDataRw ^ kAbsent, 0, 0x1234, 4), 0, true, true, true, true},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Protected32, c.cpl);
        g.setGdt(kTry, c.descriptor);
        g.cpu.gpr[Rbx] = kTry | c.rpl;
        auto zf = [&](std::initializer_list<uint8_t> code) {
            g.cpu.gpr[Rax] = 0xabcd;
            CHECK(!g.does(code));
            return g.cpu.flags.zf();
        };
        CHECK(zf({0x0f, 0x02, 0xc3}) == c.lar);
        CHECK(g.cpu.gpr[Rax] == (c.lar ? c.descriptor >> 32 & 0xf0ff00 : 0xabcd));
        CHECK(zf({0x0f, 0x03, 0xc3}) == c.lsl);
        if (c.lsl) CHECK(g.cpu.gpr[Rax] == Cpu::unpack(kTry, c.descriptor).limit);
        CHECK(zf({0x0f, 0x00, 0xe3}) == c.verr);
        CHECK(zf({0x0f, 0x00, 0xeb}) == c.verw);
    }
    SystemGuest g(Mode::Protected32);
    g.cpu.gpr[Rbx] = 0;
    g.cpu.flags.setZf(true);
    CHECK(!g.does({0x0f, 0x02, 0xc3}));  // null
    CHECK(!g.cpu.flags.zf());
}

TEST_CASE("ENTER on a 16-bit stack: the frame pointer gets all of ESP") {
    SystemGuest g(Mode::Protected32);
    g.setGdt(kTry, segment(kDataRw, SystemGuest::kDataAt, 0xffff, 0));
    g.cpu.gpr[Rax] = kTry;
    CHECK(!g.does({0x8e, 0xd0}));  // mov ss, eax
    g.cpu.gpr[Rsp] = 0x12348000, g.cpu.gpr[Rbp] = 0x56789000;
    CHECK(!g.does({0xc8, 0x08, 0x00, 0x00}));  // enter 8, 0
    CHECK(g.cpu.gpr[Rsp] == 0x12347ff4);
    CHECK(g.cpu.gpr[Rbp] == 0x12347ffc);
    CHECK(g.get<uint32_t>(SystemGuest::kDataAt + 0x7ffc) == 0x56789000);
}

TEST_CASE("ARPL raises the RPL; not outside protected mode") {
    SystemGuest g(Mode::Protected32);
    g.cpu.gpr[Rax] = 0x40, g.cpu.gpr[Rcx] = 3;
    CHECK(!g.does({0x63, 0xc8}));  // arpl ax, cx
    CHECK(g.cpu.gpr[Rax] == 0x43);
    CHECK(g.cpu.flags.zf());
    CHECK(!g.does({0x63, 0xc8}));
    CHECK(!g.cpu.flags.zf());
    // Only what changes is written: a read-only segment is no obstacle to the rest.
    g.setGdt(kTry, segment(kDataRo, SystemGuest::kDataAt, 0xfffff, 4));
    g.cpu.gpr[Rax] = kTry;
    CHECK(!g.does({0x8e, 0xe0}));  // mov fs, eax
    g.cpu.gpr[Rbx] = 0;
    g.put<uint16_t>(SystemGuest::kDataAt, 0x43);
    CHECK(!g.does({0x64, 0x63, 0x0b}));  // arpl fs:[ebx], cx
    CHECK(!g.cpu.flags.zf());
    g.put<uint16_t>(SystemGuest::kDataAt, 0x42);
    CHECK_RAISES(g.does({0x64, 0x63, 0x0b}), kGP, 0);
    SystemGuest real(Mode::Real16);
    for (auto code : {std::initializer_list<uint8_t>{0x63, 0xc8},
                      {0x0f, 0x02, 0xc3},
                      {0x0f, 0x00, 0xe3},
                      {0x0f, 0x00, 0xc0}}) {
        real.cpu.rip = 0x7000;
        real.write(0x7000, std::vector<uint8_t>(code));
        auto raised = real.step();
        REQUIRE(raised);
        CHECK(int(raised->vector) == kUD);
    }
}

TEST_CASE("long mode: LDT and TSS descriptors have 16 bytes") {
    SystemGuest g(Mode::Long64);
    auto lldt = [&](uint16_t s) {
        g.cpu.gpr[Rax] = s;
        return g.does({0x0f, 0x00, 0xd0});
    };
    auto ltr = [&](uint16_t s) {
        g.cpu.gpr[Rax] = s;
        return g.does({0x0f, 0x00, 0xd8});
    };
    g.setGdt(kTry, segment(kLdtType, 0x60000, 0xff, 0));
    g.put<uint64_t>(SystemGuest::kGdtAt + kTry + 8, 0xffff8000);
    CHECK(!lldt(kTry));
    CHECK(g.cpu.ldtr.base == 0xffff8000'00060000);
    g.put<uint64_t>(SystemGuest::kGdtAt + kTry + 8, 0x01000000);
    CHECK_RAISES(lldt(kTry), kGP, kTry);  // not canonical
    g.put<uint64_t>(SystemGuest::kGdtAt + kTry + 8, 0x100'00000000);
    CHECK_RAISES(lldt(kTry), kGP, kTry);  // the upper half has a type
    g.put<uint64_t>(SystemGuest::kGdtAt + kTry + 8, 0);
    g.cpu.gdtr.limit = kTry + 7;
    CHECK_RAISES(lldt(kTry), kGP, kTry);  // the upper half is outside
    g.cpu.gdtr.limit = 0x1ff;
    CHECK(!lldt(0));
    CHECK(g.cpu.ldtr.unusable);

    g.setGdt(kTry, segment(kTss32, 0x3000, 0x67, 0));
    CHECK(!ltr(kTry));
    CHECK((g.gdt(kTry) >> 40 & 0xff) == 0x8b);  // busy now
    CHECK_RAISES(ltr(kTry), kGP, kTry);
    g.setGdt(kTry, segment(kTss32 ^ kAbsent, 0x3000, 0x67, 0));
    CHECK_RAISES(ltr(kTry), kNP, kTry);
    g.setGdt(kTry, segment(kTss16, 0x3000, 0x67, 0));
    CHECK_RAISES(ltr(kTry), kGP, kTry);
    CHECK_RAISES(ltr(0), kGP, 0);
}

TEST_CASE("long mode: null SS, far transfers to compatibility mode and back") {
    SystemGuest g(Mode::Long64);
    CHECK(!load(g, Ss, 0));  // ring 0 may
    CHECK_RAISES(load(g, Ss, 3), kGP, 0);
    g.setGdt(kTry, segment(kCodeRx, 0, 0xfffff, 12));    // 32-bit code
    g.setGdt(kOther, segment(kCodeRx, 0, 0xfffff, 14));  // L and D: reserved
    CHECK(!load(g, Ss, kData0));
    g.cpu.gpr[Rsp] = 0x80000;
    g.push<uint64_t>({0x70000, kOther});
    CHECK_RAISES(g.does({0x48, 0xcb}), kGP, kOther);
    g.cpu.gpr[Rsp] = 0x80000;
    g.push<uint64_t>({0x70000, kTry});
    CHECK(!g.does({0x48, 0xcb}));  // retfq
    CHECK(!g.cpu.code64());
    CHECK(g.cpu.longMode());
    CHECK(g.cpu.gpr[Rsp] == 0x80000);
    CHECK(!far(g, kJmp, kCode0, 0x71000));
    CHECK(g.cpu.code64());
    // Direct far pointers do not exist in 64-bit mode.
    CHECK_RAISES(g.does({0xea, 0, 0, 0, 0, 8, 0}), kUD, 0);
    // m16:32 beyond the compatibility segment's limit
    g.setGdt(kTry, segment(kCodeRx, 0, 0xfff, 4));
    g.put<uint32_t>(SystemGuest::kDataAt, 0x1000);
    g.put<uint16_t>(SystemGuest::kDataAt + 4, kTry);
    g.cpu.gpr[Rbx] = SystemGuest::kDataAt;
    CHECK_RAISES(g.does({0xff, 0x2b}), kGP, 0);  // jmp far [rbx]
}

TEST_CASE("long mode: a 64-bit call gate to ring 0 and the way back") {
    SystemGuest g(Mode::Long64, 3);
    g.setGdt(kTry, gate(kCallGate32 | dpl(3), kCode0, 0x70000));
    g.put<uint64_t>(SystemGuest::kGdtAt + kTry + 8, 0);
    g.put<uint32_t>(SystemGuest::kDataAt, 0);
    g.put<uint16_t>(SystemGuest::kDataAt + 4, kTry);
    g.cpu.gpr[Rbx] = SystemGuest::kDataAt;
    g.code({0xff, 0x1b});  // call far [rbx]
    g.cpu.singleStep();
    REQUIRE(g.cpu.rip == 0x70000);
    CHECK(g.cpu.cpl == 0);
    CHECK(g.cpu.seg[Ss].selector == 0);
    uint64_t frame[] = {SystemGuest::kCodeAt + 2, kCode3, 0x80000, kData3};
    for (unsigned n = 0; n < 4; n++) CHECK(g.top<uint64_t>(n) == frame[n]);
    g.code({0x48, 0xcb}, 0x70000);
    g.cpu.singleStep();
    CHECK(g.cpu.cpl == 3);
    CHECK(g.cpu.gpr[Rsp] == 0x80000);
    CHECK(g.cpu.rip == SystemGuest::kCodeAt + 2);
}

TEST_CASE("64-bit mode: canonical addresses are #GP, on the stack #SS") {
    SystemGuest g(Mode::Long64);
    g.cpu.gpr[Rbx] = 0x8000'00000000;
    CHECK_RAISES(g.does({0x48, 0x8b, 0x03}), kGP, 0);  // mov rax, [rbx]
    g.cpu.gpr[Rbx] = 0x7fff'fffffffc;
    CHECK_RAISES(g.does({0x48, 0x8b, 0x03}), kGP, 0);  // its last bytes
    g.cpu.gpr[Rbp] = 0x8000'00000000;
    CHECK_RAISES(g.does({0x48, 0x8b, 0x45, 0x00}), kSS, 0);  // mov rax, [rbp]
    g.cpu.gpr[Rax] = 0x8000'00000000;
    CHECK_RAISES(g.does({0xff, 0xe0}), kGP, 0);  // jmp rax
    CHECK_RAISES(g.does({0xff, 0xd0}), kGP, 0);  // call rax
}

TEST_CASE("a branch that wraps around at 64 KiB under one base of CS does not under another") {
    SystemGuest g(Mode::Real16);
    g.write(0x50100, std::vector<uint8_t>{0xe9, 0x00, 0x01});        // JMP +100h
    g.write(0x50203, std::vector<uint8_t>{0xb8, 0x01, 0x00, 0xf4});  // MOV AX, 1; HLT
    g.write(0x40203, std::vector<uint8_t>{0xb8, 0x02, 0x00, 0xf4});
    auto from = [&](uint64_t base) {
        g.setBase(Cs, base);
        g.cpu.halted = false;
        g.cpu.rip = 0x50100 - base;
        g.cpu.run(3);
        return uint16_t(g.cpu.gpr[Rax]);
    };
    for (int n = 0; n < 4; n++) CHECK(from(0x50000) == 1);
    for (int n = 0; n < 4; n++) CHECK(from(0x40180) == 2);
    CHECK(from(0x50000) == 1);
}
