// Two machines side by side: a program that never differs, and one whose translated machine is tampered with.
#include <doctest/doctest.h>

#include <cstdio>
#include <utility>

#include "devices/board.hpp"
#include "devices/lockstep.hpp"
#include "tests/scratch_file.hpp"

namespace kiln {
extern const std::span<const uint8_t> kMachineRom;
}

namespace kiln::test {
namespace {

// add eax, ecx; xor [9000h], eax
constexpr uint8_t kCount[] = {0x01, 0xc8, 0x31, 0x05, 0x00, 0x90, 0x00, 0x00};
// mov dx, 3fdh; in al, dx; test al, 1; jz $+10; mov dx, 3f8h; in al, dx; movzx ebx, al
constexpr uint8_t kReceive[] = {0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0x08,
                                0x66, 0xba, 0xf8, 0x03, 0xec, 0x0f, 0xb6, 0xd8};

// Firmware that makes its own loop: 32-bit code that does something a million times, then leaves by
// isa-debug-exit.
std::vector<uint8_t> firmware(std::span<const uint8_t> something = kCount) {
    std::vector<uint8_t> rom(0x10000, 0xf4);
    const uint8_t code[] = {
        0xfa, 0x31, 0xc0, 0x8e, 0xd8,                    // cli; xor ax, ax; mov ds, ax
        0x2e, 0x66, 0x0f, 0x01, 0x16, 0x60, 0x00,        // lgdt cs:[60h]
        0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0,  // cr0.PE = 1
        0x66, 0xea, 0x00, 0x01, 0x0f, 0x00, 0x08, 0x00,  // jmp 8:000f0100h
    };
    std::copy(std::begin(code), std::end(code), rom.begin());
    const uint8_t table[] = {0x17, 0x00, 0x70, 0x00, 0x0f, 0x00};  // limit, base 000f0070h
    std::copy(std::begin(table), std::end(table), rom.begin() + 0x60);
    const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
    std::memcpy(&rom[0x70], gdt, sizeof gdt);
    std::vector<uint8_t> loop{
        0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,  // ds, es, ss
        0xbc, 0x00, 0x80, 0x00, 0x00,                                // mov esp, 8000h
        0xb9, 0x40, 0x42, 0x0f, 0x00,                                // mov ecx, 1000000
    };
    loop.insert(loop.end(), something.begin(), something.end());
    for (int byte : {0x49, 0x75, -int(something.size()) - 3,           // dec ecx; jnz
                     0xb0, 0x00, 0x66, 0xba, 0x01, 0x05, 0xee, 0xf4})  // out 501h, al; hlt
        loop.push_back(uint8_t(byte));
    std::copy(loop.begin(), loop.end(), rom.begin() + 0x100);
    const uint8_t reset[] = {0xea, 0x00, 0x00, 0x00, 0xf0};  // jmp f000:0000
    std::copy(std::begin(reset), std::end(reset), rom.begin() + 0xfff0);
    return rom;
}

MachineConfig config(const ScratchFile& rom) {
    MachineConfig c;
    c.memory = 16 << 20;
    c.firmware = rom.path();
    c.vga = false;
    c.debugExit.emplace();
    c.translator = TranslatorOptions{.tier1 = 10, .tier2 = 1, .ways = 1, .bufferBytes = 1 << 20};
    c.noReboot = true;
    return c;
}

}  // namespace

TEST_CASE("lockstep: what both engines run the same is told so") {
    const std::vector<uint8_t> rom = firmware();
    ScratchFile file(rom);
    Lockstep lockstep(config(file), {}, {.slice = 1000, .memoryEvery = 500'000});
    const Lockstep::Result r = lockstep.run();
    CHECK(r.report == "");
    CHECK(r.run.exitCode == 1);
    CHECK(r.executed > 4'000'000);
    CHECK(r.comparisons > 4000);
}

TEST_CASE("lockstep: a register that differs is found") {
    const std::vector<uint8_t> rom = firmware();
    ScratchFile file(rom);
    Lockstep lockstep(config(file), {}, {.slice = 1000, .memoryEvery = 500'000});
    lockstep.disturb = [](Machine& m) {
        if (m.executed() > 1'500'000) m.cpu().gpr[Rbx] = 0x1234;
    };
    const Lockstep::Result r = lockstep.run();
    CHECK(r.report.find("rbx") != std::string::npos);
    CHECK(r.report.find("1234") != std::string::npos);
    CHECK(r.report.find("xor [0x00009000], eax") != std::string::npos);
    CHECK(r.report.find("L1:") != std::string::npos);  // host code
}

TEST_CASE("lockstep: memory that differs is found, and when") {
    const std::vector<uint8_t> rom = firmware();
    ScratchFile file(rom);
    Lockstep lockstep(config(file), {}, {.slice = 1000, .memoryEvery = 500'000});
    lockstep.disturb = [](Machine& m) {
        if (m.executed() > 2'000'000) m.memory().write<uint8_t>(PhysAddr(0xa123), 7);
    };
    const Lockstep::Result r = lockstep.run();
    CHECK(r.report.find("memory a123: interpreted 00, translated 07") != std::string::npos);
    CHECK(r.report.find("instruction 2000") != std::string::npos);
}

// The difference comes only behind a byte from the serial port, which nobody sends a second time.
TEST_CASE("lockstep: serial input comes again when they run again") {
    const std::vector<uint8_t> rom = firmware(kReceive);
    ScratchFile file(rom);
    Lockstep lockstep(config(file), {}, {.slice = 1000});
    bool sent = false;
    lockstep.disturb = [&](Machine& m) {
        if (m.executed() > 1'500'000 && !std::exchange(sent, true))
            lockstep.postSerial(0, std::vector<uint8_t>{'k'});
        if (m.cpu().gpr[Rbx] == 'k') m.cpu().gpr[Rsi] = 0x1234;
    };
    const Lockstep::Result r = lockstep.run();
    unsigned long long from = 0, to = 0;
    REQUIRE(std::sscanf(r.report.c_str(), "interpreter and translator differ: instruction %llu to %llu",
                        &from, &to) == 2);
    CHECK(from > 1'500'000);
    CHECK(to - from < 100);  // a slice is ten times as long
    CHECK(r.report.find("rsi") != std::string::npos);
}

TEST_CASE("lockstep: ends after so many instructions, or when somebody wants it to") {
    const std::vector<uint8_t> rom = firmware();
    ScratchFile file(rom);
    Lockstep some(config(file), {}, {.slice = 1000, .most = 100'000});
    const Lockstep::Result r = some.run();
    CHECK(r.report == "");
    CHECK((r.executed >= 100'000 && r.executed < 110'000));
    Lockstep lockstep(config(file), {}, {.slice = 1000});
    lockstep.disturb = [&](Machine& m) {
        if (m.executed() > 200'000) lockstep.quit();
    };
    const Lockstep::Result ended = lockstep.run();
    CHECK(ended.report == "");
    CHECK((ended.executed > 200'000 && ended.executed < 210'000));
}

// Firmware goes to and fro between 16- and 32-bit code: a trace's way may end in the other.
TEST_CASE("lockstep: SeaBIOS, with traces from early on") {
    for (uint32_t tier2 = 1; tier2 <= 4; tier2++) {
        MachineConfig c;
        c.memory = 512ull << 20;
        c.firmware = "/usr/share/seabios/bios-256k.bin";
        c.videoBios = "/usr/share/seabios/vgabios-stdvga.bin";
        c.noReboot = true;
        c.icountShift = 1;
        c.translator = TranslatorOptions{.tier2 = tier2, .ways = 1};
        const Lockstep::Result r = Lockstep(c, {}, {.slice = 20'000, .most = 3'000'000}).run();
        CHECK(r.report == "");
        CHECK(r.executed >= 3'000'000);
    }
}

}  // namespace kiln::test
