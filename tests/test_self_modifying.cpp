// Code that changes under the processor's feet: whatever way the new bytes come, the next execution sees them
// (SDM vol. 3, 9.1.3 and 12.6).
#include "tests/random.hpp"
#include "tests/system_guest.hpp"

using namespace kiln;
using namespace kiln::test;
using Mode = GuestBench::Mode;

namespace {

constexpr uint64_t kCodeAt = SystemGuest::kCodeAt;
using Bytes = std::vector<uint8_t>;

// Runs from kCodeAt to the HLT and returns EAX.
uint32_t run(SystemGuest& g, uint64_t at = kCodeAt) {
    g.cpu.halted = false;
    g.cpu.gpr[Rax] = 0;
    g.cpu.rip = at;
    g.cpu.run(1000);
    CHECK(g.cpu.halted);
    CHECK(g.shutdown.empty());
    return uint32_t(g.cpu.gpr[Rax]);
}

Bytes join(std::initializer_list<Bytes> parts) {
    Bytes all;
    for (auto& p : parts) all.insert(all.end(), p.begin(), p.end());
    return all;
}
// mov byte [address], value
Bytes poke(uint64_t address, uint8_t value) {
    return {0xc6, 0x04, 0x25, uint8_t(address), uint8_t(address >> 8), uint8_t(address >> 16), 0, value};
}
const Bytes kSetAl1 = {0xb0, 1}, kHlt = {0xf4};  // mov al, 1

}  // namespace

TEST_CASE("a store changes the next instruction of its own block") {
    for (bool stepped : {false, true}) {
        CAPTURE(stepped);
        SystemGuest g(Mode::Long64);
        g.write(kCodeAt, join({poke(kCodeAt + 9, 7), kSetAl1, kHlt}));
        if (stepped) {
            g.cpu.rip = kCodeAt;
            g.cpu.singleStep();
            g.cpu.singleStep();
            CHECK(g.cpu.gpr.get<uint8_t>(0) == 7);
        } else {
            CHECK(run(g) == 7);
            g.write(kCodeAt + 9, Bytes{1});
            CHECK(run(g) == 7);  // the second time the page is known to hold code
        }
    }
}

TEST_CASE("an instruction that overwrites itself finishes as it was") {
    SystemGuest g(Mode::Long64);
    // mov dword [kCodeAt], 90909090h; its own first bytes become NOPs
    g.write(kCodeAt, join({{0xc7, 0x04, 0x25, 0, 0, 5, 0, 0x90, 0x90, 0x90, 0x90}, kSetAl1, kHlt}));
    CHECK(run(g) == 1);
    CHECK(g.get<uint32_t>(kCodeAt) == 0x90909090);
}

TEST_CASE("a repeated store overwrites itself and what follows") {
    SystemGuest g(Mode::Protected32);
    // rep stosb over itself: the bytes behind are NOPs from then on
    g.write(kCodeAt, Bytes{0xf3, 0xaa, 0xb0, 0x55, 0x90, 0xf4});
    g.cpu.gpr[Rdi] = kCodeAt, g.cpu.gpr[Rcx] = 5;
    g.cpu.halted = false;
    g.cpu.gpr[Rax] = 0x90;
    g.cpu.rip = kCodeAt;
    g.cpu.run(100);
    CHECK(g.cpu.halted);
    CHECK(g.cpu.gpr[Rax] == 0x90);
    CHECK(g.cpu.rip == kCodeAt + 6);
}

TEST_CASE("other blocks: the one called, the one jumped to, in a loop") {
    constexpr uint64_t kPatched = kCodeAt + 0x800;
    SystemGuest g(Mode::Long64);
    // Calls mov al, 1; ret; patches it to 2; calls it again and adds both.
    auto call = [&](unsigned from) {
        uint32_t d = uint32_t(kPatched - (kCodeAt + from + 5));
        return Bytes{0xe8, uint8_t(d), uint8_t(d >> 8), uint8_t(d >> 16), uint8_t(d >> 24)};
    };
    const Bytes addToBl = {0x00, 0xc3};
    g.write(kPatched, Bytes{0xb0, 1, 0xc3});
    g.cpu.gpr[Rbx] = 0;
    g.write(kCodeAt,
            join({call(0), addToBl, call(7), addToBl, poke(kPatched + 1, 40), call(22), addToBl, kHlt}));
    run(g);
    CHECK(g.cpu.gpr[Rbx] == 42);
}

TEST_CASE("data on a code page does not disturb the code, however often it is written") {
    SystemGuest g(Mode::Long64);
    // mov ecx, 1000; l: inc dword [data]; dec ecx; jnz l; mov eax, [data]; hlt
    constexpr uint64_t data = kCodeAt + 0x900;
    g.write(kCodeAt,
            Bytes{0xb9, 0xe8, 3,    0,    0,    0xff, 0x04, 0x25, uint8_t(data), uint8_t(data >> 8), 5,
                  0,    0xff, 0xc9, 0x75, 0xf5, 0x8b, 0x04, 0x25, uint8_t(data), uint8_t(data >> 8), 5,
                  0,    0xf4});
    g.cpu.halted = false;
    g.cpu.rip = kCodeAt;
    g.cpu.run(100000);
    CHECK(g.cpu.halted);
    CHECK(g.cpu.gpr[Rax] == 1000);
}

TEST_CASE("a device writes into code") {
    SystemGuest g(Mode::Long64);
    g.write(kCodeAt, join({kSetAl1, kHlt}));
    CHECK(run(g) == 1);
    uint8_t two = 2;
    g.memory.write(PhysAddr(kCodeAt + 1), &two, 1);
    CHECK(run(g) == 2);
    std::vector<uint8_t> block(8192, 0xf4);  // a transfer that covers the page
    block[0x1000] = 0xb0, block[0x1001] = 3;
    g.memory.write(PhysAddr(kCodeAt - 0x1000), block.data(), block.size());
    CHECK(run(g) == 3);
}

TEST_CASE("an instruction across two pages: either half changes, or the second page is another") {
    constexpr uint64_t kEdge = kCodeAt + 0x1000, kAt = kEdge - 3;
    SystemGuest g(Mode::Long64);
    g.write(kAt, Bytes{0xb8, 0x11, 0x22, 0x33, 0x44, 0xf4});  // mov eax, 44332211h
    CHECK(run(g, kAt) == 0x44332211);
    g.put<uint8_t>(kAt + 1, 0xaa);
    CHECK(run(g, kAt) == 0x443322aa);
    g.put<uint8_t>(kAt + 4, 0xbb);
    CHECK(run(g, kAt) == 0xbb3322aa);
    // By the guest itself, from a third page.
    g.write(0x70000, join({poke(kEdge, 0xcc), {0xe9, 0xf0, 0x0f, 0xfe, 0xff}}));  // jmp kAt
    CHECK(run(g, 0x70000) == 0xbbcc22aa);
    // The second page is mapped elsewhere.
    g.write(0x78000, Bytes{0x01, 0x02, 0xf4});
    g.map(kEdge, 0x78000);
    CHECK(run(g, kAt) == 0x020122aa);
}

TEST_CASE("an undefined opcode across two pages becomes an instruction when its second half changes") {
    constexpr uint64_t kEdge = kCodeAt + 0x1000, kAt = kEdge - 1;
    SystemGuest g(Mode::Long64);
    g.write(kAt, Bytes{0x0f, 0x04, 0xf4});
    CHECK(run(g, kAt) == 0);  // ends in the handler of #UD
    CHECK(g.cpu.rip == GuestBench::kHandlers + 8 * kUD + 1);
    g.put<uint8_t>(kEdge, 0xa2);  // CPUID
    CHECK(run(g, kAt) >= 7);
    CHECK(g.cpu.rip == kEdge + 2);
}

TEST_CASE("code changed through another mapping of its page") {
    SystemGuest g(Mode::Long64);
    g.map(0x90000, kCodeAt);
    g.write(kCodeAt, join({poke(0x90000 + 9, 9), kSetAl1, kHlt}));
    CHECK(run(g) == 9);
    g.put<uint8_t>(kCodeAt + 9, 1);
    CHECK(run(g, 0x90000) == 9);  // and run through it
}

TEST_CASE("a page of code is mapped elsewhere") {
    SystemGuest g(Mode::Long64);
    g.write(kCodeAt, join({kSetAl1, kHlt}));
    g.write(0x78000, Bytes{0xb0, 5, 0xf4});
    CHECK(run(g) == 1);
    g.map(kCodeAt, 0x78000);
    CHECK(run(g) == 5);
    g.map(kCodeAt, kCodeAt);
    CHECK(run(g) == 1);
}

TEST_CASE("the same bytes in another mode") {
    SystemGuest g(Mode::Protected32);
    // 16-bit code: mov ax, 2211h; inc bx (43h, not REX); 32-bit code: mov eax, 43432211h
    g.write(kCodeAt, Bytes{0xb8, 0x11, 0x22, 0x43, 0x43, 0xf4});
    CHECK(run(g) == 0x43432211);
    const Segment wide = g.cpu.seg[Cs];
    g.cpu.seg[Cs].rights &= uint16_t(~0x4000);
    g.cpu.segmentsChanged();
    g.cpu.gpr[Rbx] = 0;
    CHECK(run(g) == 0x2211);
    CHECK(g.cpu.gpr[Rbx] == 2);
    g.cpu.seg[Cs] = wide;
    g.cpu.segmentsChanged();
    CHECK(run(g) == 0x43432211);
}

TEST_CASE("thousands of dead blocks: their memory is collected, and nothing runs stale") {
    SystemGuest g(Mode::Long64);
    // l: mov byte [patch], cl; jmp short patch - 1; patch: mov al, imm; add edx, eax; dec ecx; jnz l; hlt
    constexpr uint64_t kPatch = kCodeAt + 0x21;
    g.write(kCodeAt, join({{0x88, 0x0c, 0x25, uint8_t(kPatch), 0, 5, 0}, {0xeb, 0x17}}));
    g.write(kCodeAt + 0x20, Bytes{0xb0, 0, 0x01, 0xc2, 0xff, 0xc9, 0x75, 0xd8, 0xf4});
    g.cpu.gpr[Rax] = g.cpu.gpr[Rdx] = 0;
    g.cpu.gpr[Rcx] = 5000;
    g.cpu.halted = false;
    g.cpu.rip = kCodeAt;
    g.cpu.run(100000);
    CHECK(g.cpu.halted);
    uint32_t sum = 0;
    for (uint32_t n = 5000; n; n--) sum += n & 0xff;
    CHECK(g.cpu.gpr[Rdx] == sum);
}

TEST_CASE("stores of all sizes walk from data into code and out again") {
    constexpr uint64_t kFunction = kCodeAt + 0x440, kSource = 0x60000, kAround = 0x60;
    for (unsigned size : {1u, 2u, 4u, 8u})
        for (unsigned shift : {0u, 1u, 3u, 6u}) {
            CAPTURE(size);
            CAPTURE(shift);
            SystemGuest g(Mode::Long64);
            const uint64_t to = kFunction - kAround + shift;
            Bytes before(2 * kAround, 0x90), after(2 * kAround, 0xcc);
            for (Bytes* b : {&before, &after})  // mov eax, imm32; ret
                (*b)[kAround - shift] = 0xb8, (*b)[kAround - shift + 5] = 0xc3;
            for (unsigned n = 1; n < 5; n++) after[kAround - shift + n] = uint8_t(0x10 * n);
            g.write(to, before);
            g.write(kSource, after);
            // l: mov edx, [rsi + rcx]; mov [rbx + rcx], edx; call; add r8, rax; add rcx, size; cmp; jne l;
            // hlt
            Bytes load = {0x8b, 0x14, 0x0e}, store = {0x89, 0x14, 0x0b};
            if (size == 1) load[0] = 0x8a, store[0] = 0x88;
            if (size == 2) load.insert(load.begin(), 0x66), store.insert(store.begin(), 0x66);
            if (size == 8) load.insert(load.begin(), 0x48), store.insert(store.begin(), 0x48);
            Bytes code = join({load, store});
            const auto d = uint32_t(kFunction - (kCodeAt + code.size() + 5));
            code = join({code, {0xe8,
                                uint8_t(d),
                                uint8_t(d >> 8),
                                0,
                                0,
                                0x49,
                                0x01,
                                0xc0,
                                0x48,
                                0x83,
                                0xc1,
                                uint8_t(size),
                                0x48,
                                0x81,
                                0xf9,
                                uint8_t(2 * kAround),
                                0,
                                0,
                                0,
                                0x75}});
            code.push_back(uint8_t(-int(code.size() + 1)));
            code.push_back(0xf4);
            g.write(kCodeAt, code);
            uint64_t sum = 0;
            Bytes now = before;
            for (unsigned at = 0; at < now.size(); at += size) {
                std::copy_n(after.begin() + at, size, now.begin() + at);
                uint32_t value;
                std::memcpy(&value, &now[kAround - shift + 1], 4);
                sum += value;
            }
            g.cpu.gpr[Rsi] = kSource, g.cpu.gpr[Rbx] = to, g.cpu.gpr[Rcx] = g.cpu.gpr[R8] = 0;
            g.cpu.halted = false;
            g.cpu.rip = kCodeAt;
            g.cpu.run(10000);
            CHECK(g.cpu.halted);
            CHECK(g.cpu.gpr[R8] == sum);
            Bytes there(now.size());
            g.memory.read(PhysAddr(to), there.data(), there.size());
            CHECK(there == after);
        }
}

TEST_CASE("functions made anew, in old places and in new ones, of other lengths") {
    SystemGuest g(Mode::Long64);
    uint64_t wrong = 0;
    for (unsigned made = 0; made < 6000; made++) {
        // At one of few places, or at one that nothing has begun at before.
        const uint64_t at = kCodeAt + 0x100 + (made % 3 ? made % 7 * 0x100 : made / 3);
        const unsigned length = 1 + made * 2654435761u % 90;
        Bytes function;
        for (unsigned n = 0; n < length; n++) function.insert(function.end(), {0xff, 0xc0});  // inc eax
        function.push_back(0xc3);
        g.memory.write(PhysAddr(at), function.data(), function.size());
        const auto d = uint32_t(at - (kCodeAt + 5));
        const Bytes call = {0xe8, uint8_t(d), uint8_t(d >> 8), uint8_t(d >> 16), 0, 0xf4};
        g.memory.write(PhysAddr(kCodeAt), call.data(), call.size());
        for (unsigned times = 0; times < 2; times++) {
            g.cpu.halted = false;
            g.cpu.gpr[Rax] = 0;
            g.cpu.rip = kCodeAt;
            g.cpu.run(1000);
            wrong += g.cpu.gpr[Rax] != length;
        }
    }
    CHECK(wrong == 0);
    CHECK(g.GuestBench::code.revived() > 1000);
    CHECK(g.GuestBench::code.blocks() < 3000);
}

TEST_CASE("whoever overwrites functions one behind the other finds those that follow forgotten") {
    constexpr unsigned kFunctions = 32, kSize = 16;
    auto function = [](uint32_t value) {
        return Bytes{0xb8, uint8_t(value), uint8_t(value >> 8), 0, 0, 0xf4};
    };
    for (const bool upwards : {true, false}) {
        CAPTURE(upwards);
        SystemGuest g(Mode::Long64);
        const CodeCache& code = g.GuestBench::code;
        std::array<uint32_t, kFunctions> values{};
        auto put = [&](unsigned n, uint32_t value) {
            values[n] = value;
            const Bytes bytes = function(value);
            for (unsigned i = 0; i < bytes.size(); i++) {
                const unsigned k = upwards ? i : unsigned(bytes.size()) - 1 - i;
                g.memory.write(PhysAddr(kCodeAt + n * kSize + k), &bytes[k], 1);
            }
        };
        auto runAll = [&] {
            for (unsigned n = 0; n < kFunctions; n++) CHECK(run(g, kCodeAt + n * kSize) == values[n]);
        };
        for (unsigned n = 0; n < kFunctions; n++) put(n, 0x100 + n);
        runAll();
        // The same place time and again is nobody else's business.
        for (unsigned time = 0; time < 3; time++) {
            const uint64_t before = code.killed();
            const uint8_t value = values[7] = 0x20 + time;
            g.memory.write(PhysAddr(kCodeAt + 7 * kSize + 1), &value, 1);
            g.put<uint8_t>(kCodeAt + 7 * kSize + 2, 0);
            CHECK(code.killed() == before);
            runAll();
        }
        const size_t before = code.blocks();
        for (unsigned n = 0; n < kFunctions / 2; n++) put(upwards ? n : kFunctions - 1 - n, 0x200 + n);
        CHECK(code.blocks() < before - kFunctions / 2 - 4);
        runAll();
    }
}

TEST_CASE("a constant inside an instruction changes, and the block lives on") {
    SystemGuest g(Mode::Long64);
    const CodeCache& code = g.GuestBench::code;
    // mov eax, imm32; test al, 1; jz +2; inc eax; hlt; nop; hlt
    g.write(kCodeAt, Bytes{0xb8, 2, 0, 0, 0, 0xa8, 1, 0x74, 2, 0xff, 0xc0, 0xf4, 0x90, 0xf4});
    CHECK(run(g) == 2);
    const uint64_t killed = code.killed(), patched = code.patched();
    for (uint32_t n = 0; n < 40; n++) {
        g.put<uint32_t>(kCodeAt + 1, n * 3);
        CHECK(run(g) == n * 3 + (n & 1));
        CHECK(g.cpu.rip == kCodeAt + 12);
    }
    g.put<uint8_t>(kCodeAt + 8, 4);  // jz to the other HLT
    g.put<uint32_t>(kCodeAt + 1, 6);
    CHECK(run(g) == 6);
    CHECK(g.cpu.rip == kCodeAt + 14);
    CHECK(code.killed() == killed);
    CHECK(code.patched() == patched + 42);
    g.put<uint8_t>(kCodeAt + 9 + 1, 0xc8);  // dec eax: another body
    g.put<uint32_t>(kCodeAt + 1, 7);
    CHECK(run(g) == 6);
    CHECK(code.killed() > killed);
}

TEST_CASE("an instruction changes its own constant, and the one behind it") {
    SystemGuest g(Mode::Long64);
    // add dword [kCodeAt + 7], 1; add eax, 5; hlt: the first one's own constant grows
    g.write(kCodeAt, Bytes{0x83, 0x04, 0x25, 7, 0, 5, 0, 1, 0x83, 0xc0, 5, 0xf4});
    CHECK(run(g) == 5);
    CHECK(g.get<uint8_t>(kCodeAt + 7) == 2);
    CHECK(run(g) == 5);
    CHECK(g.get<uint8_t>(kCodeAt + 7) == 4);
    // inc byte [kCodeAt + 9]; add eax, 5; hlt
    g.write(kCodeAt, Bytes{0xfe, 0x04, 0x25, 9, 0, 5, 0, 0x83, 0xc0, 5, 0xf4});
    g.write(kCodeAt + 3, Bytes{9});
    g.cpu.gpr[Rax] = 0;
    for (unsigned n = 0; n < 20; n++) CHECK(run(g) == 6 + n);
}

// With decoding in place and without: the same must come out.
TEST_CASE("bytes of instructions change at random") {
    Random random(11);
    uint64_t patched = 0;
    const std::vector<Bytes> kParts = {
        {0x05, 1, 2, 3, 4},                                   // add eax, imm32
        {0x48, 0x69, 0xc0, 5, 0, 0, 0},                       // imul rax, rax, imm32
        {0x81, 0xf1, 9, 9, 9, 9},                             // xor ecx, imm32
        {0xc1, 0xc0, 3},                                      // rol eax, imm8
        {0x48, 0x8d, 0x44, 0x08, 1},                          // lea rax, [rax + rcx + 1]
        {0xa8, 1, 0x74, 2, 0xff, 0xc1},                       // test al, 1; jz +2; inc ecx
        {0x80, 0x04, 0x25, 0, 5, 5, 0, 1},                    // add byte [kCodeAt & ~0fffh + 500h], 1
        {0xc7, 0x05, 0x10, 0, 0, 0, 0x90, 0x90, 0x90, 0x90},  // mov dword [rip + 10h], 90909090h
        {0x66, 0xb8, 7, 7},                                   // mov ax, imm16
    };
    for (unsigned round = 0; round < 60; round++) {
        SystemGuest g(Mode::Long64), reference(Mode::Long64);
        reference.cpu.io.code.user = {};
        Bytes code;
        for (unsigned n = 0; n < 12; n++) {
            const Bytes& part = kParts[random() % (kParts.size() - (round % 2 ? 0 : 2))];
            code.insert(code.end(), part.begin(), part.end());
        }
        code.push_back(0xf4);
        for (SystemGuest* s : {&g, &reference}) s->write(kCodeAt, code);
        for (unsigned edit = 0; edit < 80; edit++) {
            Bytes bytes(random() % 8 ? 1 : 4);
            for (uint8_t& b : bytes) b = uint8_t(random());
            const uint64_t at = kCodeAt + random() % (code.size() - 4);
            for (SystemGuest* s : {&g, &reference}) {
                if (edit % 16 == 15)
                    s->write(kCodeAt, code);
                else if (edit % 3)
                    s->memory.write(PhysAddr(at), bytes.data(), bytes.size());
                s->cpu.halted = false;
                s->cpu.gpr[Rax] = edit, s->cpu.gpr[Rcx] = round;
                s->cpu.gpr[Rsp] = 0x7f000;
                s->cpu.rip = kCodeAt;
                s->cpu.run(300);
            }
            for (unsigned r = 0; r < 16; r++) REQUIRE(g.cpu.gpr.slot[r] == reference.cpu.gpr.slot[r]);
            REQUIRE(g.cpu.rip == reference.cpu.rip);
            REQUIRE(g.cpu.halted == reference.cpu.halted);
            REQUIRE(g.cpu.executed() == reference.cpu.executed());
        }
        patched += g.GuestBench::code.patched();
        CHECK(reference.GuestBench::code.patched() == 0);
    }
    CHECK(patched > 100);
}

TEST_CASE("string instructions over a page with code here and there") {
    constexpr uint64_t kPage = kCodeAt + 0x2000, kSource = 0x60000;
    constexpr unsigned kFunctions[] = {0x180, 0x700, 0xe40};
    SystemGuest g(Mode::Long64);
    // mov ecx, 1000h; mov edi, kPage; (mov esi, kSource); rep movsb or stosb; hlt
    const Bytes counts = {0xb9, 0, 0x10, 0, 0, 0xbf, 0, 0x20, 5, 0};
    const Bytes copies = join({counts, {0xbe, 0, 0, 6, 0, 0xf3, 0xa4, 0xf4}}),
                fills = join({counts, {0xb0, 0xf4, 0xf3, 0xaa, 0xf4}});
    for (uint8_t round = 1; round < 6; round++) {
        Bytes page(kPageSize, 0x90);
        for (const unsigned at : kFunctions) page[at] = 0xb0, page[at + 1] = round, page[at + 2] = 0xf4;
        g.write(kSource, page);
        g.write(kCodeAt, copies);
        run(g);
        for (const unsigned at : kFunctions) CHECK(run(g, kPage + at) == round);
        // Beside them the page is data.
        g.put<uint8_t>(kPage + 0x400, round);
        if (round % 2) continue;
        g.write(kCodeAt, fills);
        run(g);
        CHECK(g.get<uint8_t>(kPage + 0x400) == 0xf4);
        for (const unsigned at : kFunctions) CHECK(run(g, kPage + at) == 0);
    }
}
