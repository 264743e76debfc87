// Promotion and compounding of traps (translate/promotions.hpp, trap_loop.hpp): a device must see the same
// accesses at the same times, and a program the same registers, memory and interrupts, whatever is done about
// its traps.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "tests/cpu_bench.hpp"
#include "tests/random.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

constexpr uint64_t kCode = 0x50000, kRam = 0x200000, kRegisters = 0x400000, kPlace = 0x10000000, kPages = 8;
constexpr uint64_t kInterrupts = 0x70000;  // counted there
constexpr uint64_t kPlain = 0x500000, kPlainPlace = 0x11000000, kHigh = 1ull << 32;
constexpr uint16_t kPort = 0x60, kPlainPort = 0x70;
constexpr int64_t kSlice = 500;

// Registers that give other values each time, of which some can be had directly, and that raise an NMI now
// and then.
struct TestDevice : IoHandler {
    struct Access {
        uint64_t offset, value, executed;
        uint32_t interrupts;
        unsigned size;
        bool write;
        bool operator==(const Access&) const = default;
    };
    uint64_t ioRead(uint64_t offset, unsigned size) override {
        if (const DirectRegister r = direct(offset, size, false)) {
            uint64_t v = r.constant;
            if (r.form == DirectRegister::Form::Place) std::memcpy(&v, r.place, r.bytes);
            if (!barred) return v;
        }
        const uint64_t v = (log.size() + offset) * 0x9e3779b97f4a7c15;
        return note(offset, v & openBus(size), size, false), v & openBus(size);
    }
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override {
        if (offset == 4) barred = value & 1;
        if (offset == 2 && size == 1 && !barred) return void(plain = uint8_t(value));
        note(offset, value, size, true);
    }
    DirectRegister direct(uint64_t offset, unsigned size, bool) override {
        if (offset == 2 && size == 1) return DirectRegister::at(plain).unless(barred);
        return {};
    }
    void note(uint64_t offset, uint64_t value, unsigned size, bool write) {
        uint32_t interrupts = 0;
        std::memcpy(&interrupts, counter, sizeof interrupts);
        log.push_back({offset, value, cpu->executed(), interrupts, size, write});
        if (log.size() % 97 == 0) bus->deliver({.mode = DeliveryMode::Nmi});
    }
    std::vector<Access> log;
    uint8_t plain = 7, barred = 0;
    Cpu* cpu = nullptr;
    ApicBus* bus = nullptr;
    const uint8_t* counter = nullptr;
};

// Registers that do nothing but to take and to give data, as far as they say beforehand.
struct PlainDevice : IoHandler {
    struct Access {
        uint64_t offset, value;
        unsigned size;
        bool write;
        bool operator==(const Access&) const = default;
    };
    uint64_t ioRead(uint64_t offset, unsigned size) override {
        const uint64_t v = ((log.size() + offset) * 0x9e3779b97f4a7c15 >> 8) & openBus(size);
        return log.push_back({offset, v, size, false}), v;
    }
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override {
        log.push_back({offset, value, size, true});
    }
    uint64_t plainAccesses(uint64_t, unsigned, bool) override { return log.size() * 13 % 70; }
    std::vector<Access> log;
};

struct Bench : GuestBench {
    explicit Bench(std::optional<TranslatorOptions> options, bool threads = false)
        : GuestBench(Mode::Long64, 0, kilnModel(), threads) {
        translator.reset();
        if (options) translator = std::make_unique<Translator>(cpu, *options);
        addRam(kRam, kPages * kPageSize);
        device.cpu = &cpu;
        device.bus = &apicBus;
        device.counter = host(kInterrupts);
        ports.map(kPort, 16, device);
        memory.mapIo(PhysAddr(kPlace), kPages * kPageSize, device);
        for (uint64_t n = 0; n < kPages; n++) map(kRegisters + n * kPageSize, kPlace + n * kPageSize);
        ports.map(kPlainPort, 4, plain);
        memory.mapIo(PhysAddr(kPlainPlace), kPages * kPageSize, plain);
        for (uint64_t n = 0; n < kPages; n++) {
            map(kPlain + n * kPageSize, kPlainPlace + n * kPageSize);
            map(kHigh + kPlain + n * kPageSize, kPlainPlace + (n + 1) % kPages * kPageSize);
        }
        apic.ioWrite(0xF0, 4, 0x1FF);
        // inc dword [rip + d]; iretq
        const uint64_t at = kHandlers + 8 * 2;
        const auto distance = int32_t(kInterrupts - (at + 6));
        std::vector<uint8_t> handler = {0xff, 0x05, 0, 0, 0, 0, 0x48, 0xcf};
        std::memcpy(&handler[2], &distance, sizeof distance);
        write(at, handler);
        cpu.gpr[Rsi] = kRegisters;
        cpu.gpr[Rdi] = kRam;
        cpu.gpr[Rdx] = kPort + 1;
    }
    static TranslatorOptions options(bool promote, bool compound, uint32_t tier2 = 0) {
        return {.tier1 = 2, .tier2 = tier2, .ways = 1, .promote = promote, .compound = compound};
    }
    void run(std::vector<uint8_t> bytes) {
        bytes.push_back(0xf4);
        write(kCode, bytes);
        cpu.rip = kCode;
        again();
    }
    // Until HLT, that of a fault handler perhaps, in slices.
    void again() {
        cpu.halted = false;
        for (unsigned n = 0; !cpu.halted && n < 20'000; n++) cpu.run(kSlice);
        REQUIRE(cpu.halted);
    }
    const Translator::Statistics& statistics() { return static_cast<Translator&>(*translator).statistics(); }
    const TrapSite& hottest() { return *cpu.traps.sites().front(); }
    TestDevice device;
    PlainDevice plain;
};

// `body`, `times` times: mov ebp, times; ...; dec ebp; jnz
std::vector<uint8_t> loopOf(std::vector<uint8_t> body, uint32_t times) {
    std::vector<uint8_t> code = {0xbd, uint8_t(times), uint8_t(times >> 8), uint8_t(times >> 16),
                                 uint8_t(times >> 24)};
    code.insert(code.end(), body.begin(), body.end());
    code.insert(code.end(), {0xff, 0xcd, 0x75, uint8_t(-int(body.size()) - 4)});
    return code;
}

// What loops are made of.
const std::vector<std::vector<uint8_t>> kPieces = {
    {0xe4, 0x60},                                // in al, 60h
    {0xe5, 0x64},                                // in eax, 64h
    {0xe4, 0x62},                                // in al, 62h: directly
    {0xe6, 0x62},                                // out 62h, al: directly
    {0xe6, 0x63},                                // out 63h, al
    {0xe6, 0x64},                                // out 64h, al: bars what is direct, or no longer
    {0xe7, 0x68},                                // out 68h, eax
    {0xec},                                      // in al, dx
    {0x66, 0xed},                                // in ax, dx
    {0xed},                                      // in eax, dx
    {0xee},                                      // out dx, al
    {0x66, 0xef},                                // out dx, ax
    {0x88, 0x06},                                // mov [rsi], al
    {0x88, 0x2e},                                // mov [rsi], ch
    {0x89, 0x46, 0x04},                          // mov [rsi+4], eax
    {0x48, 0x89, 0x46, 0x08},                    // mov [rsi+8], rax
    {0xc7, 0x06, 0x78, 0x56, 0x34, 0x92},        // mov dword [rsi], 92345678h
    {0x48, 0xc7, 0x06, 0x78, 0x56, 0x34, 0x92},  // mov qword [rsi], the same
    {0x8b, 0x46, 0x08},                          // mov eax, [rsi+8]
    {0x8a, 0x0e},                                // mov cl, [rsi]
    {0x8a, 0x66, 0x01},                          // mov ah, [rsi+1]
    {0x66, 0x8b, 0x0e},                          // mov cx, [rsi]
    {0x0f, 0xb6, 0x1e},                          // movzx ebx, byte [rsi]
    {0x48, 0x8b, 0x1e},                          // mov rbx, [rsi]
    {0x8a, 0x46, 0x02},                          // mov al, [rsi+2]: directly, on the first page
    {0x89, 0x07},                                // mov [rdi], eax
    {0x8b, 0x0f},                                // mov ecx, [rdi]
    {0xaa},
    {0x66, 0xab},
    {0xab},
    {0x48, 0xab},  // stosb to stosq
    {0xac},
    {0xad},                             // lodsb, lodsd
    {0x48, 0xff, 0xc6},                 // inc rsi
    {0x48, 0x83, 0xc7, 0x04},           // add rdi, 4
    {0x48, 0x83, 0xee, 0x01},           // sub rsi, 1
    {0xfe, 0xc3},                       // inc bl
    {0x66, 0xff, 0xc9},                 // dec cx
    {0x01, 0xd8},                       // add eax, ebx
    {0x2c, 0x03},                       // sub al, 3
    {0x39, 0xd8},                       // cmp eax, ebx
    {0xa8, 0x01},                       // test al, 1
    {0x66, 0x89, 0xcb},                 // mov bx, cx
    {0x0f, 0xb6, 0xc9},                 // movzx ecx, cl
    {0xb8, 0x21, 0x43, 0x65, 0x87},     // mov eax, 87654321h
    {0x48, 0x8d, 0x5c, 0x7e, 0x05},     // lea rbx, [rsi+rdi*2+5]
    {0x31, 0xd9},                       // xor ecx, ebx: no step of a loop that is gone round
    {0x0f, 0xa2, 0xba, 0x61, 0, 0, 0},  // cpuid; mov edx, 61h
};

}  // namespace

// Loops of random pieces, with traps done in all ways and by the interpreter.
struct Done {
    uint64_t sequences = 0, promoted = 0;
};
static Done compareLoops(uint64_t seed, int loops,
                         const std::function<std::vector<uint8_t>(Random&)>& piece) {
    Random random(seed);
    Done done;
    for (int n = 0; n < loops; n++) {
        std::vector<uint8_t> body;
        for (unsigned pieces = 1 + below(random, 7); pieces--;) {
            const auto bytes = piece(random);
            body.insert(body.end(), bytes.begin(), bytes.end());
        }
        const auto code = loopOf(body, 40 + uint32_t(below(random, 700)));
        Bench reference(std::nullopt);
        reference.run(code);
        struct Way {
            bool promote, compound;
            uint32_t tier2 = 0;
            bool threads = false;
        };
        for (const Way& w : {Way{false, false}, Way{true, false}, Way{true, true}, Way{true, true, 1},
                             Way{true, true, 0, true}}) {
            Bench b(Bench::options(w.promote, w.compound, w.tier2), w.threads);
            b.run(code);
            std::string listing;
            for (const uint8_t byte : body) listing += " " + std::to_string(byte);
            INFO("loop ", n, ":", listing, " promote ", w.promote, " compound ", w.compound, " tier2 ",
                 w.tier2, " threads ", w.threads);
            for (unsigned r = 0; r < 16; r++) CHECK(b.cpu.gpr.slot[r] == reference.cpu.gpr.slot[r]);
            CHECK(b.cpu.flags.value() == reference.cpu.flags.value());
            CHECK(b.cpu.rip == reference.cpu.rip);
            CHECK(b.cpu.executed() == reference.cpu.executed());
            CHECK(b.device.plain == reference.device.plain);
            CHECK(b.device.log.size() == reference.device.log.size());
            const auto [mine, theirs] =
                std::mismatch(b.device.log.begin(), b.device.log.end(), reference.device.log.begin(),
                              reference.device.log.end());
            if (mine != b.device.log.end() && theirs != reference.device.log.end()) {
                INFO("access ", mine - b.device.log.begin(), " at ", mine->executed, " instead of ",
                     theirs->executed, ", interrupts ", mine->interrupts, " ", theirs->interrupts,
                     ", offset ", mine->offset, " ", theirs->offset, ", value ", mine->value, " ",
                     theirs->value);
                CHECK(*mine == *theirs);
            }
            CHECK(std::memcmp(b.host(kRam), reference.host(kRam), kPages * kPageSize) == 0);
            done.sequences += b.statistics().sequences;
            for (const TrapSite* t : b.cpu.traps.sites()) done.promoted += t->promoted;
        }
    }
    return done;
}

TEST_CASE("traps: random loops are the same however their traps are done") {
    const Done done = compareLoops(
        7401, 400, [](Random& r) { return kPieces[below(r, kPieces.size() - (below(r, 3) ? 2 : 0))]; });
    CHECK(done.sequences > 1000);
    CHECK(done.promoted > 100'000);
}

// One instruction with an operand at [rsi], [rdi] or their like and a register or a constant.
static std::vector<uint8_t> operation(Random& r) {
    std::vector<uint8_t> code;
    const auto put = [&](unsigned byte) { code.push_back(uint8_t(byte)); };
    const unsigned wide = unsigned(r() & 1), reg = unsigned(below(r, 4)), size = unsigned(below(r, 4));
    // rsi + 0 and + 8, rdi; registers al to bl, ah to bh, eax to ebx
    const unsigned places[] = {0x06, 0x46, 0x07};
    const unsigned place = places[below(r, 3)], high = size == 0 && !wide ? unsigned(r() & 4) : 0;
    const auto modrm = [&](unsigned field) {
        put(place | field << 3);
        if (place == 0x46) put(8);
    };
    if (oneIn(r, 8)) put(0xf0 ^ (r() & 1 ? 0xf0 ^ 0x3e : 0));  // LOCK, where it may be, or a segment
    const bool locked = !code.empty() && code[0] == 0xf0;
    if (wide && size == 1) put(0x66);
    if (wide && size == 2) put(0x48);
    switch (locked ? below(r, 4) : below(r, 14)) {
        case 0: put(unsigned(below(r, 7)) << 3 | wide), modrm(reg | high); break;  // ADD ... XOR [m], r
        case 1: put(0x80 | wide | (wide ? 2 : 0)), modrm(unsigned(below(r, 7))), put(unsigned(r())); break;
        case 2: put(0xfe | wide), modrm(unsigned(r() & 1)); break;                     // INC, DEC
        case 3: put(0xf6 | wide), modrm(2 + unsigned(r() & 1)); break;                 // NOT, NEG
        case 4: put(unsigned(below(r, 8)) << 3 | 2 | wide), modrm(reg | high); break;  // ADD ... CMP r, [m]
        case 5: put(0x38 | wide), modrm(reg | high); break;
        case 6: put(0x84 | wide), modrm(reg | high); break;  // TEST
        case 7: put(0x86 | wide), modrm(reg | high); break;  // XCHG
        case 8: put(0xf6), modrm(0), put(unsigned(r())); break;
        case 9: put(0xaa | wide); break;   // STOS
        case 10: put(0xac | wide); break;  // LODS
        case 11: return {0x9c, 0x5b};      // pushfq; pop rbx
        case 12:
            return {0x48, 0x81, 0xe6, 0, 0x70, 0x40, 0, 0x48, 0x81, 0xce, 0, 0, 0x40, 0};  // rsi is in range
        default: return {uint8_t(0xfc | (r() & 1))};                                       // CLD, STD
    }
    return code;
}

TEST_CASE("traps: instructions other than MOV on registers in memory") {
    const Done done = compareLoops(7402, 400, operation);
    CHECK(done.promoted > 300'000);
}

// Bodies of loops that move data, and how they end; rsi, rdi, dx, ecx and rbx (an end) are given.
const std::vector<std::vector<uint8_t>> kMoves = {
    {0xec, 0xaa},                                            // in al, dx; stosb
    {0x66, 0xed, 0x66, 0xab},                                // in ax, dx; stosw
    {0xed, 0xab},                                            // in eax, dx; stosd
    {0xed, 0x89, 0x07, 0x48, 0x83, 0xc7, 0x04},              // in eax, dx; mov [rdi], eax; add rdi, 4
    {0xac, 0xee},                                            // lodsb; out dx, al
    {0x66, 0x8b, 0x06, 0x48, 0x83, 0xc6, 0x02, 0x66, 0xef},  // mov ax, [rsi]; add rsi, 2; out dx, ax
    {0xac, 0xaa},                                            // lodsb; stosb
    {0xad, 0xab},                                            // lodsd; stosd
    {0x8b, 0x06, 0x89, 0x07, 0x48, 0x83, 0xc6, 0x04, 0x48, 0x83, 0xc7, 0x04},
    {0x8a, 0x06, 0x88, 0x07, 0xff, 0xc6, 0xff, 0xc7},  // mov al, [rsi]; mov [rdi], al; inc esi; inc edi
    {0x88, 0x07, 0x48, 0xff, 0xc7},                    // mov [rdi], al; inc rdi
    {0x48, 0xff, 0xc7, 0x88, 0x47, 0xff},              // inc rdi; mov [rdi-1], al
    {0xc7, 0x07, 0x44, 0x33, 0x22, 0x11, 0x48, 0x83, 0xc7, 0x04},  // mov dword [rdi], 11223344h; add rdi, 4
    {0x48, 0xab},                                                  // stosq
    {0xee},                                                        // out dx, al
    {0xec},                                                        // in al, dx
    {0x80, 0xf9, 5, 0x88, 0x07, 0x48, 0xff, 0xc7},                 // cmp cl, 5; mov [rdi], al; inc rdi
    {0x88, 0x07, 0xff, 0xc7},                                      // mov [rdi], al; inc edi
};
const std::vector<std::vector<uint8_t>> kEnds = {
    {0xe2},                                      // loop
    {0xff, 0xc9, 0x75},                          // dec ecx; jnz
    {0x83, 0xe9, 0x01, 0x75},                    // sub ecx, 1; jnz
    {0x48, 0x39, 0xdf, 0x75},                    // cmp rdi, rbx; jne
    {0x48, 0x39, 0xde, 0x75},                    // cmp rsi, rbx; jne
    {0x83, 0xe9, 0x03, 0x75},                    // sub ecx, 3; jnz
    {0xff, 0xc1, 0x75},                          // inc ecx; jnz
    {0x48, 0x85, 0xc9, 0x48, 0xff, 0xc9, 0x75},  // test rcx, rcx; dec rcx; jnz
};

TEST_CASE("traps: loops that only move data do the same in large pieces") {
    Random random(911);
    auto imm = [](std::vector<uint8_t>& code, std::initializer_list<uint8_t> opcode, uint64_t v) {
        code.insert(code.end(), opcode);
        for (int n = 0; n < 4; n++) code.push_back(uint8_t(v >> n * 8));
    };
    uint64_t atOnce = 0, entries = 0;
    for (int n = 0; n < 500; n++) {
        const auto& move = kMoves[below(random, kMoves.size())];
        const auto& end = kEnds[below(random, kEnds.size())];
        const uint64_t places[] = {kRam, kPlain};
        const uint64_t offset = below(random, 4) ? below(random, 300) * 8 : below(random, 3000);
        const uint64_t from = places[below(random, 2)] + offset,
                       to = places[below(random, 2)] + offset / 2 * 2;
        uint64_t count = 1 + below(random, below(random, 2) ? 2000 : 60);
        const uint64_t last = (end.size() > 2 && end[2] == 0xde ? from : to) + count * 4;
        if (end[0] == 0x83) count = count * end[2] + oneIn(random, 8);
        if (end[0] == 0xff && end[1] == 0xc1) count = 0 - count;
        std::vector<uint8_t> code;
        imm(code, {0x41, 0xbc}, 3 + below(random, 4));  // mov r12d
        const size_t again = code.size();
        imm(code, {0xb9}, count);
        imm(code, {0xbe}, from);
        imm(code, {0x48, 0xbf}, to);
        imm(code, {}, oneIn(random, 3));  // 4 GiB more
        imm(code, {0xba}, kPlainPort);
        imm(code, {0xbb}, last);
        code.insert(code.end(), {0xeb, 0});  // jmp: the loop is a block of its own
        const size_t inner = code.size();
        code.insert(code.end(), move.begin(), move.end());
        code.insert(code.end(), end.begin(), end.end());
        code.push_back(uint8_t(inner - code.size() - 1));
        code.insert(code.end(), {0x41, 0xff, 0xcc});  // dec r12d; jnz
        imm(code, {0x0f, 0x85}, again - code.size() - 6);
        auto setUp = [&](Bench& b) {
            for (uint64_t k = 0; k < kPages * kPageSize; k++) b.host(kRam)[k] = uint8_t(k * 11);
            b.cpu.gpr[Rax] = 0x55667788;
            code.push_back(0xf4);
            b.write(kCode, code);
            code.pop_back();
            b.cpu.rip = kCode;
            b.cpu.halted = false;
            for (unsigned k = 0; !b.cpu.halted && k < 400; k++) b.cpu.run(kSlice);  // it may have no end
        };
        Bench reference(std::nullopt);
        setUp(reference);
        for (const auto& options :
             {Bench::options(true, false), Bench::options(true, true), Bench::options(true, true, 1)}) {
            Bench b(options);
            setUp(b);
            std::string listing;
            for (const uint8_t byte : code) listing += fmt::format(" {:02x}", byte);
            INFO("loop ", n, ":", listing, " compound ", options.compound, " tier2 ", options.tier2);
            for (unsigned r = 0; r < 16; r++) CHECK(b.cpu.gpr.slot[r] == reference.cpu.gpr.slot[r]);
            CHECK(b.cpu.flags.value() == reference.cpu.flags.value());
            CHECK(b.cpu.rip == reference.cpu.rip);
            CHECK(b.cpu.executed() == reference.cpu.executed());
            CHECK(b.plain.log == reference.plain.log);
            CHECK(std::memcmp(b.host(kRam), reference.host(kRam), kPages * kPageSize) == 0);
            if (!options.compound) continue;
            atOnce += b.statistics().sequenceTraps;
            entries += b.statistics().deviceEntries;
        }
    }
    CHECK(atOnce > 20 * entries);
}

TEST_CASE("traps: nearly all of a hot loop's are done by promoted code, several at once") {
    Bench b(Bench::options(true, true));
    b.run(loopOf({0xec, 0xaa}, 10'000));  // in al, dx; stosb
    const TrapSite& s = b.hottest();
    CHECK(s.kind == TrapKind::In);
    CHECK(s.target == kPort + 1);
    CHECK(s.state == TrapSite::State::Promoted);
    CHECK(s.count() == 10'000);
    CHECK(s.promoted > 9'850);  // the last of a slice are not
    CHECK(b.device.log.size() == 10'000);
    CHECK(b.statistics().deviceEntries < 1'000);
}

TEST_CASE("traps: a device that goes away takes promoted code with it") {
    Bench b(Bench::options(true, true));
    TestDevice other;
    other.cpu = &b.cpu, other.bus = &b.apicBus, other.counter = b.host(kInterrupts);
    const auto code =
        loopOf({0xe4, 0x61, 0xe4, 0x62, 0x8b, 0x0e}, 200);  // in al, 61h; in al, 62h; mov ecx, [rsi]
    b.run(code);
    CHECK(b.device.log.size() == 400);
    b.ports.unmap(kPort, b.device);
    b.ports.map(kPort, 16, other);
    b.run(code);
    CHECK(b.device.log.size() == 600);
    CHECK(other.log.size() == 200);
    CHECK(b.hottest().demotions > 0);
    b.memory.mapIo(PhysAddr(kPlace), kPageSize, other, 1);
    b.run(code);
    CHECK(b.device.log.size() == 600);
    CHECK(other.log.size() == 600);
}

TEST_CASE("traps: CPUID says what has changed since it was promoted") {
    Bench b(Bench::options(true, true));
    const auto code = loopOf({0xb8, 1, 0, 0, 0, 0x0f, 0xa2}, 200);  // mov eax, 1; cpuid
    constexpr uint64_t kOsxsave = 1 << 27;
    b.run(code);
    CHECK(b.hottest().promoted > 100);
    CHECK((b.cpu.gpr[Rcx] & kOsxsave) == 0);
    b.cpu.setCr4(b.cpu.cr4 | cr4::OSXSAVE);
    b.run(code);
    CHECK((b.cpu.gpr[Rcx] & kOsxsave) != 0);
}

TEST_CASE("traps: MSRs, and values that they do not take") {
    for (const bool threads : {false, true}) {
        CAPTURE(threads);
        Bench b(Bench::options(true, true), threads);
        b.cpu.gpr[Rcx] = 0xc0000082;  // LSTAR
        b.cpu.gpr[Rax] = 0x1234;
        b.cpu.gpr[Rdx] = 0;
        const std::vector<uint8_t> body = {0xff, 0xc0, 0x0f, 0x30, 0x0f, 0x32};  // inc eax; wrmsr; rdmsr
        b.run(loopOf(body, 300));
        CHECK(b.cpu.msr.lstar == 0x1234 + 300);
        uint64_t promoted = 0;
        for (const TrapSite* t : b.cpu.traps.sites()) promoted += t->promoted;
        CHECK(promoted > 400);        // both
        b.cpu.gpr[Rdx] = 0x80000000;  // not canonical
        b.run(loopOf(body, 300));
        CHECK(b.cpu.rip == GuestBench::kHandlers + 8 * kGP + 1);
        CHECK(b.cpu.msr.lstar == 0x1234 + 300);
    }
}

TEST_CASE("traps: promoted ports are not for those without the right to them") {
    Bench b(Bench::options(true, true));
    const auto code = loopOf({0xe4, 0x62}, 200);  // in al, 62h
    b.run(code);
    CHECK(b.hottest().promoted > 100);
    b.cpu.flags.change(flag::IOPL, false);
    b.cpu.rip = kCode;
    b.cpu.setCpl(3);
    b.again();
    CHECK(b.cpu.rip == GuestBench::kHandlers + 8 * kGP + 1);
}

TEST_CASE("traps: promotion can be turned off") {
    Bench b(Bench::options(false, true));
    b.run(loopOf({0xec, 0xaa, 0x8b, 0x0e}, 500));
    for (const TrapSite* s : b.cpu.traps.sites()) CHECK((s->promoted == 0 || s->kind == TrapKind::Iret));
    CHECK(b.hottest().count() == 500);
    CHECK(b.statistics().deviceEntries == 0);
}

TEST_CASE("traps: what is ordinary host code is counted as well") {
    Bench b(Bench::options(true, true));
    b.cpu.flags.change(flag::IF, false);
    // cli; mov rax, cr0; sti; nop
    b.run(loopOf({0xfa, 0x0f, 0x20, 0xc0, 0xfb, 0x90}, 1000));
    uint64_t flags = 0, control = 0;
    for (const TrapSite* s : b.cpu.traps.sites()) {
        if (s->kind == TrapKind::InterruptFlag) {
            CHECK(s->count() == 1000);
            CHECK(s->state == TrapSite::State::Inline);
            CHECK(s->promoted > 950);
            flags++;
        }
        if (s->kind == TrapKind::ReadControl) control += s->count();
    }
    CHECK(flags == 2);
    CHECK(control == 1000);
}

TEST_CASE("traps: string instructions between memory and a device") {
    // 3000 elements cross pages; more than 4096 come back to the run loop in between.
    for (const uint32_t count : {1u, 100u, 3000u, 9000u}) {
        for (const std::vector<uint8_t>& instruction : std::vector<std::vector<uint8_t>>{{0xf3, 0x6c},
                                                                                         {0xf3, 0x66, 0x6d},
                                                                                         {0xf3, 0x6d},
                                                                                         {0xf3, 0x6e},
                                                                                         {0xf3, 0x6f},
                                                                                         {0xf3, 0xaa},
                                                                                         {0xf3, 0xab},
                                                                                         {0xf3, 0xa4}}) {
            auto setUp = [&](Bench& b, bool toDevice) {
                const bool port = instruction.back() < 0x70;
                b.cpu.gpr[Rcx] = count;
                b.cpu.gpr[Rax] = 0x89abcdef;
                b.cpu.gpr[Rdx] = kPort + 1;
                b.cpu.gpr[Rdi] = port || !toDevice ? kRam : kRegisters;
                b.cpu.gpr[Rsi] = port || toDevice ? kRam : kRegisters;
                for (uint64_t n = 0; n < kPages * kPageSize; n++) b.host(kRam)[n] = uint8_t(n * 7);
            };
            for (const bool toDevice : {false, true}) {
                Bench reference(std::nullopt), b(Bench::options(true, true));
                for (Bench* x : {&reference, &b})
                    for (int round = 0; round < 4; round++) setUp(*x, toDevice), x->run(instruction);
                INFO("count ", count, " opcode ", int(instruction.back()), " to the device ", toDevice);
                for (unsigned r = 0; r < 16; r++) CHECK(b.cpu.gpr.slot[r] == reference.cpu.gpr.slot[r]);
                CHECK(b.cpu.rip == reference.cpu.rip);
                CHECK(b.cpu.executed() == reference.cpu.executed());
                CHECK(b.device.log == reference.device.log);
                CHECK(std::memcmp(b.host(kRam), reference.host(kRam), kPages * kPageSize) == 0);
            }
        }
    }
}
