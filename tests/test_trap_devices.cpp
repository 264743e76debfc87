// Devices whose registers are had without them (mmu/register_steps.hpp), and interrupts that are delivered
// without the interpreter: the same as with them, for random programs.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>

#include "devices/uart16550.hpp"
#include "devices/vga.hpp"
#include "tests/cpu_bench.hpp"
#include "tests/random.hpp"
#include "translate/translator.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using Bytes = std::vector<uint8_t>;
constexpr uint64_t kCode = 0x50000, kHandler = 0x60000, kCounter = 0x70000;
constexpr int64_t kSlice = 500;

const TranslatorOptions kWays[] = {{.tier1 = 2, .tier2 = 0, .ways = 1, .promote = false, .compound = false},
                                   {.tier1 = 2, .tier2 = 0, .ways = 1, .promote = true, .compound = false},
                                   {.tier1 = 2, .tier2 = 0, .ways = 1, .promote = true, .compound = true},
                                   {.tier1 = 2, .tier2 = 1, .ways = 1, .promote = true, .compound = true}};

struct Bench : GuestBench {
    explicit Bench(const TranslatorOptions* options, unsigned cpl = 0) : GuestBench(Mode::Long64, cpl) {
        translator.reset();
        if (options) translator = std::make_unique<Translator>(cpu, *options);
        vga.mapLegacy(ports, memory);
        uart.keepBack();
        ports.map(0x3f8, 8, uart);
        map(0xfee00000, 0xfee00000);
        apic.ioWrite(0xf0, 4, 0x1ff);
        // Counts, adds up where it came from, ends the interrupt: push rax; mov rax, [rsp+8];
        // add [kCounter+8], rax; pushfq; pop rax; add [kCounter+16], rax; inc qword [kCounter];
        // mov eax, apic+b0h; mov dword [rax], 0; pop rax; iretq
        write(kHandler, Bytes{0x50, 0x48, 0x8b, 0x44, 0x24, 0x08, 0x48, 0x01, 0x04, 0x25, 0x08, 0x00,
                              0x07, 0x00, 0x9c, 0x58, 0x48, 0x01, 0x04, 0x25, 0x10, 0x00, 0x07, 0x00,
                              0x48, 0xff, 0x04, 0x25, 0x00, 0x00, 0x07, 0x00, 0xb8, 0xb0, 0x00, 0xe0,
                              0xfe, 0xc7, 0x00, 0x00, 0x00, 0x00, 0x00, 0x58, 0x48, 0xcf});
        for (unsigned vector = 0x40; vector < 0x60; vector++) {
            const uint64_t gate = cpu.idtr.base + vector * 16;
            memory.write<uint16_t>(PhysAddr(gate), uint16_t(kHandler));
            memory.write<uint16_t>(PhysAddr(gate + 6), uint16_t(kHandler >> 16));
            if (vector & 8) host(gate)[5] |= 1;  // a trap gate
        }
        cpu.flags.change(flag::IF, true);
    }
    void run(Bytes code) {
        code.push_back(0xf4);
        write(kCode, code);
        cpu.rip = kCode;
        for (unsigned n = 0; !cpu.halted && n < 20'000; n++) cpu.run(kSlice);
        uart.flush();
        REQUIRE(cpu.halted);
    }
    uint64_t promoted() {
        uint64_t sum = 0;
        for (const TrapSite* s : cpu.traps.sites()) sum += s->promoted;
        return sum;
    }
    VgaCore vga{clock, log};
    IrqInput irq;
    std::string sent;
    Uart16550 uart{clock, irq, [this](std::span<const uint8_t> s) { sent.append(s.begin(), s.end()); }};
};

// The body several hundred times, counted in R12.
Bytes loopOf(const Bytes& body, uint32_t times) {
    Bytes code = {0x41, 0xbc, uint8_t(times), uint8_t(times >> 8), 0, 0};
    const size_t begin = code.size();
    code.insert(code.end(), body.begin(), body.end());
    code.insert(code.end(), {0x41, 0xff, 0xcc, 0x0f, 0x85});
    const auto back = uint32_t(begin - code.size() - 4);
    for (int n = 0; n < 4; n++) code.push_back(uint8_t(back >> n * 8));
    return code;
}

void append(Bytes& code, const Bytes& more) { code.insert(code.end(), more.begin(), more.end()); }
// mov edx, port; mov eax, value; and then an instruction
Bytes output(uint16_t port, uint32_t value, const Bytes& instruction) {
    Bytes code = {0xba, uint8_t(port), uint8_t(port >> 8), 0, 0, 0xb8};
    for (int n = 0; n < 4; n++) code.push_back(uint8_t(value >> n * 8));
    append(code, instruction);
    return code;
}
const Bytes kOutAl = {0xee}, kOutAx = {0x66, 0xef}, kInAl = {0xec};

void compare(Bench& b, Bench& reference) {
    for (unsigned r = 0; r < 16; r++) CHECK(b.cpu.gpr.slot[r] == reference.cpu.gpr.slot[r]);
    CHECK(b.cpu.flags.value() == reference.cpu.flags.value());
    CHECK(b.cpu.rip == reference.cpu.rip);
    CHECK(b.cpu.cpl == reference.cpu.cpl);
    CHECK(b.cpu.executed() == reference.cpu.executed());
}

std::string listing(const Bytes& code) {
    std::string text;
    for (const uint8_t byte : code) text += fmt::format(" {:02x}", byte);
    return text;
}

}  // namespace

TEST_CASE("traps: the planes of a VGA, and the registers that say what an access to them does") {
    Random random(77);
    uint64_t promoted = 0;
    for (int n = 0; n < 150; n++) {
        auto graphics = [&](unsigned index) {
            static const uint8_t kModes[] = {0, 0, 0, 0, 1, 2, 3, 8, 0x10};
            if (index == 3) return unsigned(below(random, 4) ? 0 : below(random, 32));
            if (index == 5) return unsigned(kModes[below(random, std::size(kModes))]);
            if (index == 6) return unsigned(1 | below(random, 4) << 2);
            return unsigned(below(random, 256));
        };
        auto registerPiece = [&] {
            const bool sequencer = oneIn(random, 3), whole = below(random, 2);
            static const uint8_t kSequencer[] = {2, 2, 2, 4, 1, 9};
            unsigned index = sequencer ? kSequencer[below(random, 6)] : unsigned(below(random, 18));
            if (!sequencer && below(random, 2)) index = 8;
            const unsigned value =
                sequencer && index == 4 ? (oneIn(random, 4) ? below(random, 16) : 6) : graphics(index);
            const uint16_t port = sequencer ? 0x3c4 : 0x3ce;
            if (whole) return output(port, index | value << 8, kOutAx);
            Bytes code = output(port, index, kOutAl);
            append(code, output(uint16_t(port + 1), value, kOutAl));
            return code;
        };
        static const std::vector<Bytes> kAccesses = {
            {0x88, 0x07},
            {0x88, 0x2f},
            {0x8a, 0x07},
            {0x8a, 0x27},
            {0x0f, 0xb6, 0x0f},
            {0xaa},
            {0x89, 0x07},
            {0x66, 0x8b, 0x0f},
            {0xc6, 0x07, 0x5a},
            {0xa4},
            {0x40, 0x88, 0x37},
            {0xb9, 40, 0, 0, 0, 0xf3, 0xaa},   // mov ecx, 40; rep stosb
            {0xb9, 30, 0, 0, 0, 0xf3, 0xa4}};  // rep movsb
        Bytes body;
        for (unsigned pieces = 2 + below(random, 8); pieces--;) {
            if (oneIn(random, 3)) append(body, registerPiece());
            append(body, kAccesses[below(random, kAccesses.size())]);
            // add edi, 17; and edi, 1ffffh; or edi, a0000h; the same of esi
            if (below(random, 2))
                append(body, {0x83, 0xc7, 17, 0x81, 0xe7, 0xff, 0xff, 1, 0, 0x81, 0xcf, 0, 0, 0x0a, 0});
            if (oneIn(random, 4))
                append(body, {0x83, 0xc6, 5, 0x81, 0xe6, 0xff, 0xff, 0, 0, 0x81, 0xce, 0, 0, 0x0a, 0});
        }
        Bytes code;
        append(code, output(0x3c2, 0x67, kOutAl));
        append(code, output(0x3c4, 0x0f02, kOutAx));
        append(code, output(0x3c4, 0x0604, kOutAx));
        append(code, output(0x3ce, 0x0506, kOutAx));
        append(code, output(0x3ce, 0xff08, kOutAx));
        append(code, {0xbf, 0, 0, 0x0a, 0, 0xbe, 0, 0x40, 0x0a, 0});  // mov edi, a0000h; mov esi, a4000h
        append(code, loopOf(body, 300));
        append(code, output(0x3d4, 0x22, kOutAl));
        append(code, {0x42, 0xec});  // inc edx: the latch
        auto fill = [](Bench& b) {
            for (unsigned k = 0; k < 1 << 18; k++) b.vga.vram().data()[k] = uint8_t(k * 29 >> 3);
        };
        Bench reference(nullptr);
        fill(reference);
        reference.run(code);
        for (const TranslatorOptions& way : kWays) {
            Bench b(&way);
            fill(b);
            b.run(code);
            INFO("loop ", n, ":", listing(body), " promote ", way.promote, " compound ", way.compound);
            compare(b, reference);
            CHECK(std::memcmp(b.vga.vram().data(), reference.vga.vram().data(), 1 << 18) == 0);
            CHECK(std::memcmp(&b.vga.registers(), &reference.vga.registers(), sizeof(VgaRegisters)) == 0);
            promoted += b.promoted();
        }
    }
    CHECK(promoted > 200'000);
}

TEST_CASE("traps: what a serial port sends") {
    Random random(5);
    uint64_t promoted = 0;
    for (int n = 0; n < 100; n++) {
        Bytes body;
        for (unsigned pieces = 1 + below(random, 8); pieces--;) {
            switch (below(random, 8)) {
                case 0:
                    append(body, output(0x3fb, below(random, 4) | (oneIn(random, 6) ? 0x80 : 0), kOutAl));
                    break;
                case 1: append(body, output(0x3fc, below(random, 4) ? 0x0b : 0x1b, kOutAl)); break;
                case 2: append(body, output(0x3f9, below(random, 3) ? 0 : below(random, 16), kOutAl)); break;
                case 3: append(body, output(uint16_t(0x3f8 + below(random, 8)), 0, kInAl)); break;
                case 4: append(body, output(0x3f8, '\n', kOutAl)); break;
                default:
                    append(body, output(0x3f8, 0, {0x44, 0x88, 0xe0, 0xee}));  // mov al, r12b; out dx, al
            }
            append(body, {0x01, 0xc3});  // add ebx, eax
        }
        const Bytes code = loopOf(body, 700);
        Bench reference(nullptr);
        reference.run(code);
        for (const TranslatorOptions& way : kWays) {
            Bench b(&way);
            b.run(code);
            INFO("loop ", n, ":", listing(body), " promote ", way.promote, " compound ", way.compound);
            compare(b, reference);
            CHECK(b.sent == reference.sent);
            promoted += b.promoted();
        }
    }
    CHECK(promoted > 100'000);
}

TEST_CASE("traps: interrupts of the local APIC come where they would come") {
    Random random(31);
    uint64_t delivered = 0;
    // mov dword [fee00000h + offset], value, by way of eax
    auto apicWrite = [](uint32_t offset, uint32_t value) {
        Bytes code = {0xb8};
        for (int n = 0; n < 4; n++) code.push_back(uint8_t((0xfee00000 + offset) >> n * 8));
        append(code, {0xc7, 0x00});
        for (int n = 0; n < 4; n++) code.push_back(uint8_t(value >> n * 8));
        return code;
    };
    for (int n = 0; n < 150; n++) {
        const unsigned cpl = oneIn(random, 3) ? 3 : 0;
        Bytes body;
        for (unsigned pieces = 1 + below(random, 7); pieces--;) {
            switch (below(random, cpl ? 5 : 11)) {
                case 0:
                case 1: append(body, apicWrite(0x300, 0x44040 + unsigned(below(random, 32)))); break;
                case 2: append(body, apicWrite(0x310, unsigned(below(random, 4)) << 24)); break;
                case 3: append(body, apicWrite(0x80, unsigned(below(random, 7)) << 4)); break;
                case 4:
                    append(body, {0x01, 0xc3, 0x75, 0x02, 0xff, 0xc3});
                    break;  // add ebx, eax; jnz; inc ebx
                case 5: append(body, {0xfa}); break;
                case 6: append(body, {0xfb}); break;
                case 7: append(body, {0x0f, 0x01, 0x38}); break;              // invlpg [rax]
                case 8: append(body, {0x0f, 0x01, 0x3f, 0x11, 0xc3}); break;  // invlpg [rdi]; adc ebx, eax
                case 9:  // mov eax, priority; mov cr8, rax
                    append(body, {0xb8, uint8_t(below(random, 8)), 0, 0, 0, 0x44, 0x0f, 0x22, 0xc0});
                    break;
                default: append(body, {0x9c, 0xfa, 0xff, 0xc3, 0x9d}); break;  // pushf; cli; inc ebx; popf
            }
        }
        append(body, apicWrite(0x80, 0));
        if (!cpl && below(random, 3)) append(body, {0xfb});
        const Bytes code = loopOf(body, 300);
        Bench reference(nullptr, cpl);
        reference.run(code);
        for (const TranslatorOptions& way : kWays) {
            Bench b(&way, cpl);
            b.run(code);
            INFO("loop ", n, ":", listing(body), " promote ", way.promote, " compound ", way.compound,
                 " tier2 ", way.tier2, " cpl ", cpl);
            compare(b, reference);
            CHECK(std::memcmp(b.host(kCounter), reference.host(kCounter), 24) == 0);
            CHECK(std::memcmp(b.host(0x5000), reference.host(0x5000), 0x1000) == 0);
            for (unsigned vector = 0x40; vector < 0x60; vector++)
                CHECK(b.apic.taken(uint8_t(vector)) == reference.apic.taken(uint8_t(vector)));
            for (unsigned reg = 0x10; reg < 0x28; reg++) CHECK(b.apic.look(reg) == reference.apic.look(reg));
            delivered += static_cast<Translator&>(*b.translator).statistics().interrupts;
        }
    }
    CHECK(delivered > 20'000);
}

TEST_CASE("traps: registers of a local APIC are promoted as long as its page is there") {
    Bench b(&kWays[2]);
    // mov eax, fee00080h; mov dword [rax], 20h; mov ebx, [rax]
    const Bytes code = loopOf({0xb8, 0x80, 0, 0xe0, 0xfe, 0xc7, 0, 0x20, 0, 0, 0, 0x8b, 0x18}, 200);
    b.run(code);
    CHECK(b.cpu.gpr[Rbx] == 0x20);
    CHECK(b.promoted() > 300);
    b.apic.ioWrite(0x80, 4, 0x30);
    REQUIRE(b.apic.setApicBase(0xfee00000));  // off
    b.cpu.halted = false;
    b.run(code);
    CHECK(b.cpu.gpr[Rbx] == 0xffffffff);
    CHECK(b.apic.cr8() == 0);
}
