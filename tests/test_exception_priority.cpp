// What comes first of several events at one instruction boundary or in one instruction (SDM vol. 3, table
// 6-2; where the manual leaves the order to the processor, that of the host's), and what becomes of an
// exception met in delivering another event (table 6-5).
#include <functional>

#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint64_t kCodeAt = SystemGuest::kCodeAt, kDataAt = SystemGuest::kDataAt,
                   kNextPage = kCodeAt + 0x1000;
constexpr uint64_t kAbsentAt = 0x12345000, kNotCanonical = 0x8000'00001000;
constexpr uint16_t kTry = 0x40;

void forget(SystemGuest& g, uint64_t linear) {  // makes its page absent
    uint64_t table = 0x8000;
    for (int level = 3; level > 0; level--)
        table = g.get<uint64_t>(table + (linear >> (12 + 9 * level) & 511) * 8) & ~kPageMask;
    g.put<uint64_t>(table + (linear >> 12 & 511) * 8, 0);
    g.cpu.flushTlb(true);
}

void raiseInterrupt(SystemGuest& g, uint8_t vector) {
    g.apic.ioWrite(0xf0, 4, 0x1ff);
    g.apic.accept({.vector = vector});
    g.cpu.flags.change(flag::IF, true);
}

void checkAlignment(SystemGuest& g) {
    g.cpu.setCr0(g.cpu.cr0 | cr0::AM);
    g.cpu.writeFlags(flag::AC | 2, ~0ull);
}

// FLDCW with ZE unmasked, then 1 / 0: the exception waits for the next x87 instruction.
void pendDivision(SystemGuest& g) {
    g.put<uint16_t>(kDataAt + 0x100, 0x37b);
    g.cpu.gpr[Rdi] = kDataAt + 0x100;
    REQUIRE_FALSE(g.does({0xdb, 0xe3}));  // fninit
    REQUIRE_FALSE(g.does({0xd9, 0x2f}));  // fldcw [rdi]
    REQUIRE_FALSE(g.does({0xd9, 0xe8}));  // fld1
    REQUIRE_FALSE(g.does({0xd9, 0xee}));  // fldz
    REQUIRE_FALSE(g.does({0xde, 0xf9}));  // fdivp
}

void setTs(SystemGuest& g) { g.cpu.setCr0(g.cpu.cr0 | cr0::TS); }

}  // namespace

// -- between two instructions

namespace {

enum Event : unsigned {
    kSmi = 1,
    kTrap = 2,
    kNmi = 4,
    kIntr = 8,
    kCode = 16,
    kFetch = 32,
    kDecode = 64,
    kAll = 127
};
constexpr uint8_t kSmiNoted = 0xff, kBreakpointNoted = 0xd0, kVector = 0x41;

struct Notes : IoHandler {
    std::string seen;
    uint64_t ioRead(uint64_t, unsigned) override { return 0; }
    void ioWrite(uint64_t, unsigned, uint64_t value) override { seen += fmt::format(" {:02x}", value); }
};

// Handlers that write their vector to port 80h and return, or after a fault halt. That of #DB writes which
// breakpoint it was: 0 is met by the instruction before the boundary, 1 lies on the one behind it.
void installHandlers(SystemGuest& g) {
    auto install = [&](unsigned vector, std::vector<uint8_t> bytes) {
        const uint64_t at = 0x70000 + vector * 64;
        g.write(at, bytes);
        g.setIdt(vector, gate(kInt32, 0x38, uint32_t(at)));
    };
    for (uint8_t v : {uint8_t(kNMI), kVector}) install(v, {0x50, 0xb0, v, 0xe6, 0x80, 0x58, 0x48, 0xcf});
    for (uint8_t v : {kUD, kPF}) install(v, {0xb0, v, 0xe6, 0x80, 0xf4});
    // push rax; mov rax, dr6; test al, 2; jz +8; or dword [rsp + 24], RF
    // and al, 15; or al, 0d0h; out 80h, al; xor eax, eax; mov dr6, rax; pop rax; iretq
    install(kDB, {0x50, 0x0f, 0x21, 0xf0, 0xa8, 0x02, 0x74, 0x08, 0x81, 0x4c,
                  0x24, 0x18, 0,    0,    1,    0,    0x24, 0x0f, 0x0c, kBreakpointNoted,
                  0xe6, 0x80, 0x31, 0xc0, 0x0f, 0x23, 0xf0, 0x58, 0x48, 0xcf});
    g.write(0x38000, std::vector<uint8_t>{0xb0, kSmiNoted, 0xe6, 0x80, 0x0f, 0xaa});  // in SMRAM, with RSM
}

std::string expectedOrder(unsigned events) {
    std::string order;
    auto then = [&](unsigned noted) { order += fmt::format(" {:02x}", noted); };
    if (events & kSmi) then(kSmiNoted);
    if (events & kNmi) then(kNMI);  // enters the trap's handler before its first instruction
    if (events & kTrap) then(kBreakpointNoted | 1);
    if (events & kIntr) then(kVector);
    if (events & kCode) then(kBreakpointNoted | 2);
    if (events & kFetch)
        then(kPF);
    else if (events & kDecode)
        then(kUD);
    return order;
}

}  // namespace

TEST_CASE("events at one boundary: SMI, traps, NMI, INTR, instruction breakpoint, fetch, decoding") {
    for (unsigned events = 0; events <= kAll; events++) {
        CAPTURE(events);
        SystemGuest g(Mode::Long64);
        Notes notes;
        g.ports.map(0x80, 1, notes);
        installHandlers(g);
        g.write(kNextPage, events & kDecode ? std::vector<uint8_t>{0x0f, 0x0b} : std::vector<uint8_t>{0xf4});
        g.cpu.gpr[Rsi] = kDataAt;
        g.code({0x89, 0x06}, kNextPage - 2);  // mov [rsi], eax
        g.cpu.writeDr(0, kDataAt);
        g.cpu.writeDr(1, kNextPage);
        g.cpu.writeDr(7, (events & kTrap ? 0x000d0002u : 0u) | (events & kCode ? 8u : 0u));
        g.cpu.run(1);
        REQUIRE(g.cpu.rip == kNextPage);
        if (events & kFetch) forget(g, kNextPage);
        if (events & kIntr) raiseInterrupt(g, kVector);
        if (events & kNmi) g.apic.accept({.mode = DeliveryMode::Nmi});
        if (events & kSmi) g.apic.accept({.mode = DeliveryMode::Smi});
        g.runToHalt();
        CHECK(notes.seen == expectedOrder(events));
        CHECK(g.shutdown.empty());
    }
}

TEST_CASE("INIT comes before traps, NMI and INTR, and takes the trap along") {
    SystemGuest g(Mode::Long64);
    g.cpu.pendingDebug = 1;
    raiseInterrupt(g, kVector);
    g.apic.accept({.mode = DeliveryMode::Nmi});
    g.apic.accept({.mode = DeliveryMode::Init});
    g.code({0x90});
    g.cpu.singleStep();
    CHECK(g.cpu.real());
    CHECK((g.cpu.dr[6] & 15) == 0);
    CHECK(g.cpu.pendingDebug == 0);
}

TEST_CASE("an interrupt onto a watched stack: the trap comes before the handler's first instruction") {
    for (bool nmi : {false, true}) {
        CAPTURE(nmi);
        SystemGuest g(Mode::Long64);
        g.cpu.writeDr(0, 0x80000 - 40);
        g.cpu.writeDr(7, 0x00090002);  // writes, 8 bytes: the frame's RIP
        g.code({0x90, 0x90});
        if (nmi)
            g.apic.accept({.mode = DeliveryMode::Nmi});
        else
            raiseInterrupt(g, kVector);
        const unsigned vector = nmi ? unsigned(kNMI) : kVector;
        g.setIdt(vector, gate(kInt32, 0x38, 0x70000));
        g.write(0x70000, std::vector<uint8_t>{0x43, 0x90, 0xf4});
        while (!g.cpu.halted) g.cpu.run(1);
        CHECK(g.cpu.rip == g.handler(kDB) + 1);
        CHECK(g.top<uint64_t>(0) == 0x70000);
        CHECK((g.cpu.dr[6] & 15) == 1);
    }
    // A #DB whose own frame is watched has no end, but the machine goes on.
    SystemGuest g(Mode::Long64);
    g.setIdt(kDB, gate(kInt32, 0x38, g.handler(kDB), 1));
    g.put<uint64_t>(SystemGuest::kTssAt + 36, 0x5800);
    g.cpu.writeDr(0, 0x5800 - 40);
    g.cpu.writeDr(7, 0x00090002);
    g.cpu.pendingDebug = 1;
    g.code({0x90});
    for (int n = 0; n < 10; n++) g.cpu.run(1000);
    CHECK(g.cpu.rip == g.handler(kDB));
    CHECK_FALSE(g.cpu.halted);
}

// -- in one instruction

TEST_CASE("several faults of one instruction: which is raised") {
    using Setup = std::function<void(SystemGuest&)>;
    auto rsi = [](uint64_t v, Setup more = {}) -> Setup {
        return [v, more](SystemGuest& g) {
            if (more) more(g);
            g.cpu.gpr[Rsi] = v;
        };
    };
    auto both = [](Setup a, Setup b) -> Setup { return [a, b](SystemGuest& g) { a(g), b(g); }; };
    auto limit = [](SegReg r) -> Setup {
        return [r](SystemGuest& g) {
            g.cpu.seg[r].limit = 0xffff;
            g.cpu.segmentsChanged();
        };
    };
    auto descriptor = [](unsigned access) -> Setup {
        return [access](SystemGuest& g) {
            g.setGdt(kTry, segment(access, 0, 0xfffff, 12));
            g.cpu.gpr[Rax] = kTry | g.cpu.cpl;
        };
    };
    struct {
        std::string what;
        Mode mode;
        unsigned cpl;
        Setup setup;
        std::vector<uint8_t> bytes;
        uint8_t vector;
        uint32_t error;
    } cases[] = {
        // Decoding comes before everything.
        {"#UD, #GP: lock cli", Mode::Long64, 3, {}, {0xf0, 0xfa}, kUD, 0},
        {"#UD, #GP: lock lgdt", Mode::Long64, 3, rsi(kAbsentAt), {0xf0, 0x0f, 0x01, 0x16}, kUD, 0},
        {"#UD, #GP: mov eax, cr1", Mode::Long64, 3, {}, {0x0f, 0x20, 0xc8}, kUD, 0},
        {"#UD, #GP: rsm", Mode::Long64, 3, {}, {0x0f, 0xaa}, kUD, 0},
        {"#UD, #NM: lock fld1", Mode::Long64, 0, setTs, {0xf0, 0xd9, 0xe8}, kUD, 0},
        {"#UD, #NM: SSE with EM and TS",
         Mode::Long64,
         0,
         [](SystemGuest& g) { g.cpu.setCr0(g.cpu.cr0 | cr0::EM | cr0::TS); },
         {0x0f, 0x58, 0xc1},
         kUD,
         0},
        {"#UD, #NM: VEX without OSXSAVE", Mode::Long64, 0, setTs, {0xc5, 0xf8, 0x58, 0xc1}, kUD, 0},
        {"#GP, #UD: 16 bytes",
         Mode::Long64,
         0,
         {},
         {0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x0f, 0x0b},
         kGP,
         0},
        {"#NM, #PF", Mode::Long64, 0, rsi(kAbsentAt, setTs), {0x0f, 0x58, 0x06}, kNM, 0},
        {"#NM, #GP: addps unaligned", Mode::Long64, 0, rsi(kDataAt + 1, setTs), {0x0f, 0x58, 0x06}, kNM, 0},
        {"#NM, #MF", Mode::Long64, 0, both(pendDivision, setTs), {0xd9, 0xe8}, kNM, 0},
        {"#MF, #PF", Mode::Long64, 0, rsi(kAbsentAt, pendDivision), {0xd8, 0x06}, kMF, 0},
        {"#MF, #GP", Mode::Long64, 0, rsi(kNotCanonical, pendDivision), {0xd8, 0x06}, kMF, 0},
        {"#MF, #AC",
         Mode::Long64,
         3,
         rsi(kDataAt + 1, both(pendDivision, checkAlignment)),
         {0xd8, 0x06},
         kMF,
         0},
        // Privilege before operands.
        {"#GP, #PF: lgdt", Mode::Long64, 3, rsi(kAbsentAt), {0x0f, 0x01, 0x16}, kGP, 0},
        {"#GP, #PF: outsd", Mode::Long64, 3, rsi(kAbsentAt), {0x6f}, kGP, 0},
        // Segments, canonical form, alignment, pages.
        {"#GP, #AC", Mode::Long64, 3, rsi(kNotCanonical + 1, checkAlignment), {0x8b, 0x06}, kGP, 0},
        {"#AC, #PF", Mode::Long64, 3, rsi(kAbsentAt + 1, checkAlignment), {0x8b, 0x06}, kAC, 0},
        {"#GP, #PF: movaps unaligned", Mode::Long64, 3, rsi(kAbsentAt + 1), {0x0f, 0x28, 0x06}, kGP, 0},
        {"#GP, #AC: movaps unaligned",
         Mode::Long64,
         3,
         rsi(kDataAt + 4, checkAlignment),
         {0x0f, 0x28, 0x06},
         kGP,
         0},
        {"#GP, #PF: cmpxchg16b unaligned",
         Mode::Long64,
         3,
         rsi(kAbsentAt + 8),
         {0x48, 0x0f, 0xc7, 0x0e},
         kGP,
         0},
        {"#GP, #PF: limit", Mode::Compat32, 3, rsi(kAbsentAt, limit(Ds)), {0x8b, 0x06}, kGP, 0},
        {"#SS, #PF: limit", Mode::Compat32, 3, rsi(kAbsentAt, limit(Ss)), {0x36, 0x8b, 0x06}, kSS, 0},
        {"#GP, #AC: limit",
         Mode::Compat32,
         3,
         rsi(kDataAt + 1, both(limit(Ds), checkAlignment)),
         {0x8b, 0x06},
         kGP,
         0},
        {"#PF, #DE", Mode::Long64, 0, rsi(kAbsentAt), {0xf7, 0x36}, kPF, 0},
        {"#PF, #XM",
         Mode::Long64,
         0,
         rsi(kAbsentAt, [](SystemGuest& g) { g.cpu.mxcsr = 0; }),
         {0x0f, 0x5e, 0x06},
         kPF,
         0},
        // Descriptors: type and privilege before presence.
        {"#GP, #NP: mov ds", Mode::Protected32, 3, descriptor(kDataRw ^ kAbsent), {0x8e, 0xd8}, kGP, kTry},
        {"#GP, #NP: mov ds of execute-only code",
         Mode::Protected32,
         0,
         descriptor(kCodeXo ^ kAbsent),
         {0x8e, 0xd8},
         kGP,
         kTry},
        {"#GP, #SS: mov ss",
         Mode::Protected32,
         0,
         descriptor((kDataRw | dpl(1)) ^ kAbsent),
         {0x8e, 0xd0},
         kGP,
         kTry},
        {"#GP, #SS: mov ss, read-only",
         Mode::Protected32,
         0,
         descriptor(kDataRo ^ kAbsent),
         {0x8e, 0xd0},
         kGP,
         kTry},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(c.mode, c.cpl);
        if (c.setup) c.setup(g);
        g.write(kCodeAt, c.bytes);
        g.cpu.rip = kCodeAt;
        CHECK_RAISES(g.step(), c.vector, c.vector == kPF && c.cpl ? c.error | pf::U : c.error);
    }
}

TEST_CASE("an instruction that runs into an absent page or over the limit is fetched before it is decoded") {
    struct {
        std::string what;
        std::vector<uint8_t> tail;  // the last bytes of the page before the absent one
        bool limited;               // CS ends with the page
        uint8_t vector;
    } cases[] = {
        {"an unfinished opcode", {0x0f}, false, kPF},
        {"LOCK that is not allowed, unfinished", {0xf0, 0xb8, 0x00}, false, kPF},
        {"an undefined opcode, complete", {0x0f, 0x0b}, false, kUD},
        {"the limit before the page", {0x0f}, true, kGP},
        {"an undefined opcode at the limit", {0x0f, 0x0b}, true, kUD},
    };
    for (auto& c : cases) {
        CAPTURE(c.what);
        SystemGuest g(Mode::Compat32);
        forget(g, kNextPage);
        if (c.limited) {
            g.cpu.seg[Cs].limit = kNextPage - 1;
            g.cpu.segmentsChanged();
        }
        const uint64_t at = kNextPage - c.tail.size();
        g.write(at, c.tail);
        g.cpu.rip = at;
        auto raised = g.step();
        CHECK_RAISES(raised, c.vector, c.vector == kPF ? pf::I : 0);
        CHECK(raised->rip == at);
        if (c.vector == kPF) CHECK(raised->cr2 == kNextPage);
    }
}

// -- in the delivery of another event

namespace {

enum class Class { Benign, Contributory, PageFault };

struct First {
    std::string what;
    uint8_t vector;
    Class kind;
    bool software;  // INT n, INT3, INTO: no EXT
    int onlyCpl;    // -1: both
    std::function<void(SystemGuest&)> setup;
    std::vector<uint8_t> bytes;
};

// What is wrong with a gate, and what delivering through it raises.
enum class Wrong { Type, Absent, IstBehindTss, IstNotCanonical, IstAbsent };
constexpr Wrong kWrongs[] = {Wrong::Type, Wrong::Absent, Wrong::IstBehindTss, Wrong::IstNotCanonical,
                             Wrong::IstAbsent};

struct Second {
    uint8_t vector;
    uint32_t error;
};

void spoil(SystemGuest& g, unsigned vector, Wrong how) {
    const unsigned any = dpl(3);
    switch (how) {
        case Wrong::Type: return g.setIdt(vector, gate(kInt16 | any, 0x38, g.handler(vector)));
        case Wrong::Absent: return g.setIdt(vector, gate((kInt32 | any) ^ kAbsent, 0x38, g.handler(vector)));
        case Wrong::IstBehindTss: return g.setIdt(vector, gate(kInt32 | any, 0x38, g.handler(vector), 7));
        case Wrong::IstNotCanonical: return g.setIdt(vector, gate(kInt32 | any, 0x38, g.handler(vector), 3));
        case Wrong::IstAbsent: return g.setIdt(vector, gate(kInt32 | any, 0x38, g.handler(vector), 2));
    }
}

Second raisedBy(Wrong how, unsigned vector, bool software) {
    const uint32_t ext = !software;
    switch (how) {
        case Wrong::Type: return {kGP, vector * 8 + 2 + ext};
        case Wrong::Absent: return {kNP, vector * 8 + 2 + ext};
        case Wrong::IstBehindTss: return {kTS, 0x28 + ext};
        case Wrong::IstNotCanonical: return {kSS, ext};
        case Wrong::IstAbsent: break;
    }
    return {kPF, pf::W};
}

void spareStacks(SystemGuest& g) {
    g.cpu.tr.limit = 36 + 5 * 8 + 7;  // the seventh is behind it
    const uint64_t tops[] = {0x5800, kAbsentAt, kNotCanonical};
    for (unsigned n = 0; n < 3; n++) g.put<uint64_t>(SystemGuest::kTssAt + 36 + n * 8, tops[n]);
    g.setIdt(kDF, gate(kInt32, 0x38, g.handler(kDF), 1));
}

void setAbsent(SystemGuest& g) {
    g.setGdt(kTry, segment((kDataRw | dpl(g.cpu.cpl)) ^ kAbsent, 0, 0xfffff, 12));
    g.cpu.gpr[Rax] = kTry | g.cpu.cpl;
}

const std::vector<First>& firsts() {
    using G = SystemGuest;
    static const std::vector<First> all = {
        {"#DE", kDE, Class::Contributory, false, -1, [](G& g) { g.cpu.gpr[Rcx] = 0; }, {0xf7, 0xf1}},
        {"#DB, trap",
         kDB,
         Class::Benign,
         false,
         -1,
         [](G& g) { g.cpu.flags.change(flag::TF, true); },
         {0x90}},
        {"INT1", kDB, Class::Benign, false, -1, {}, {0xf1}},
        {"NMI",
         kNMI,
         Class::Benign,
         false,
         -1,
         [](G& g) { g.apic.accept({.mode = DeliveryMode::Nmi}); },
         {0x90}},
        {"INT3", kBP, Class::Benign, true, -1, {}, {0xcc}},
        {"INTO", kOF, Class::Benign, true, -1, [](G& g) { g.cpu.flags.set(flag::OF | 2); }, {0xce}},
        {"BOUND",
         kBR,
         Class::Benign,
         false,
         -1,
         [](G& g) { g.put<uint64_t>(kDataAt, 0x2'00000001), g.cpu.gpr[Rsi] = kDataAt, g.cpu.gpr[Rax] = 0; },
         {0x62, 0x06}},
        {"#UD", kUD, Class::Benign, false, -1, {}, {0x0f, 0x0b}},
        {"#NM", kNM, Class::Benign, false, -1, setTs, {0xd9, 0xe8}},
        {"#TS",
         kTS,
         Class::Contributory,
         false,
         -1,
         [](G& g) { spoil(g, 0x42, Wrong::IstBehindTss); },
         {0xcd, 0x42}},
        {"#NP", kNP, Class::Contributory, false, -1, setAbsent, {0x8e, 0xd8}},
        {"#SS", kSS, Class::Contributory, false, -1, setAbsent, {0x8e, 0xd0}},
        {"#GP", kGP, Class::Contributory, false, -1, [](G& g) { g.cpu.gpr[Rax] = 0x1f8; }, {0x8e, 0xd8}},
        {"#PF", kPF, Class::PageFault, false, -1, [](G& g) { g.cpu.gpr[Rsi] = kAbsentAt; }, {0x8b, 0x06}},
        {"#MF", kMF, Class::Benign, false, -1, pendDivision, {0x9b}},
        {"#AC",
         kAC,
         Class::Benign,
         false,
         3,
         [](G& g) { checkAlignment(g), g.cpu.gpr[Rsi] = kDataAt + 1; },
         {0x8b, 0x06}},
        {"#XM",
         kXM,
         Class::Benign,
         false,
         -1,
         [](G& g) { g.cpu.mxcsr = 0, g.cpu.vec[0] = {}, g.cpu.vec[1] = {}; },
         {0x0f, 0x5e, 0xc1}},
        {"INTR", 0x41, Class::Benign, false, -1, [](G& g) { raiseInterrupt(g, 0x41); }, {0x90}},
        {"INT n", 0x41, Class::Benign, true, -1, {}, {0xcd, 0x41}},
    };
    return all;
}

// `first` with a gate that is wrong, and what was delivered in the end.
std::optional<Caught> deliverWrongly(SystemGuest& g, const First& first, Wrong how) {
    spareStacks(g);
    if (first.setup) first.setup(g);
    spoil(g, first.vector, how);
    g.write(kCodeAt, first.bytes);
    g.cpu.rip = kCodeAt;
    return g.step();
}

}  // namespace

TEST_CASE("every event whose delivery faults: the second exception, or #DF") {
    for (const First& first : firsts())
        for (unsigned cpl : {0u, 3u})
            for (Wrong how : kWrongs) {
                if (first.onlyCpl >= 0 && first.onlyCpl != int(cpl)) continue;
                CAPTURE(first.what);
                CAPTURE(cpl);
                CAPTURE(int(how));
                SystemGuest g(Mode::Compat32, cpl);
                auto raised = deliverWrongly(g, first, how);
                const Second second = raisedBy(how, first.vector, first.software);
                const bool doubled = first.kind == Class::PageFault ||
                                     (first.kind == Class::Contributory && second.vector != kPF);
                CHECK(g.shutdown.empty());
                CHECK_RAISES(raised, doubled ? uint8_t(kDF) : second.vector, doubled ? 0 : second.error);
                if (second.vector == kPF) CHECK(raised->cr2 == kAbsentAt - 8);
            }
}

TEST_CASE("one after the other: the pair that counts is the last") {
    SystemGuest g(Mode::Compat32);  // #UD: benign, #NP, #PF: handled serially, #GP: double fault
    spareStacks(g);
    spoil(g, kUD, Wrong::Absent);
    CHECK_RAISES(g.does({0x0f, 0x0b}), kNP, kUD * 8 + 3);
    spoil(g, kNP, Wrong::IstAbsent);
    CHECK_RAISES(g.does({0x0f, 0x0b}), kPF, pf::W);
    spoil(g, kPF, Wrong::Type);
    CHECK_RAISES(g.does({0x0f, 0x0b}), kDF, 0);
    CHECK(g.shutdown.empty());
}

TEST_CASE("an exception in the delivery of #DF shuts the processor down") {
    for (const First& first : firsts())
        for (Wrong how : kWrongs) {
            if (first.kind == Class::Benign) continue;
            CAPTURE(first.what);
            CAPTURE(int(how));
            SystemGuest g(Mode::Compat32);
            spareStacks(g);
            spoil(g, kDF, how);
            if (first.setup) first.setup(g);
            spoil(g, first.vector, Wrong::Absent);
            g.write(kCodeAt, first.bytes);
            g.cpu.rip = kCodeAt;
            g.step();
            CHECK(g.shutdown == "triple fault");
            CHECK(g.cpu.halted);
        }
}

TEST_CASE("#AC in delivery to a handler at CPL 3: benign, with EXT in its error code") {
    struct {
        std::string what;
        uint8_t vector;
        std::vector<uint8_t> bytes;
        uint32_t error;
    } cases[] = {
        {"#UD", kUD, {0x0f, 0x0b}, 1},
        {"#DE", kDE, {0xf7, 0xf1}, 1},
        {"#GP", kGP, {0xf4}, 1},
        {"INT n", 0x41, {0xcd, 0x41}, 0},
    };
    for (auto& c : cases)
        for (bool handled : {true, false}) {
            CAPTURE(c.what);
            CAPTURE(handled);
            SystemGuest g(Mode::Protected32, 3);
            checkAlignment(g);
            g.cpu.gpr[Rcx] = 0;
            g.cpu.gpr[Rsp] = 0x80002;
            g.setIdt(c.vector, gate(kInt32 | dpl(3), kCode3, g.handler(c.vector)));
            g.write(kCodeAt, c.bytes);
            g.cpu.rip = kCodeAt;
            if (handled) {
                CHECK_RAISES(g.step(), kAC, c.error);
                continue;
            }
            // #AC without end: no double fault, and the machine goes on.
            g.setIdt(kAC, gate(kInt32, kCode3, g.handler(kAC)));
            for (int n = 0; n < 3; n++) g.cpu.run(1000);
            CHECK(g.shutdown.empty());
            CHECK(g.cpu.executed() == 0);
            CHECK(g.cpu.rip == kCodeAt);
        }
    // A far call pushes with the same check.
    SystemGuest g(Mode::Protected32, 3);
    checkAlignment(g);
    g.cpu.gpr[Rsp] = 0x80002;
    CHECK_RAISES(g.does({0x9a, 0x00, 0x00, 0x05, 0x00, kCode3, 0x00}), kAC, 0);
}
