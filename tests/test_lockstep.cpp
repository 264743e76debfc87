// Two machines side by side: a program that never differs, and one whose translated machine is tampered with.
#include <doctest/doctest.h>

#include "devices/board.hpp"
#include "devices/lockstep.hpp"
#include "tests/scratch_file.hpp"

namespace kiln {
extern const std::span<const uint8_t> kMachineRom;
}

namespace kiln::test {
namespace {

// Firmware that makes its own loop: 32-bit code that counts in memory, then leaves by isa-debug-exit.
std::vector<uint8_t> firmware() {
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
    const uint8_t loop[] = {
        0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,  // ds, es, ss
        0xbc, 0x00, 0x80, 0x00, 0x00,                                // mov esp, 8000h
        0xb9, 0x40, 0x42, 0x0f, 0x00,                                // mov ecx, 1000000
        0x01, 0xc8, 0x31, 0x05, 0x00, 0x90, 0x00, 0x00,              // add eax, ecx; xor [9000h], eax
        0x49, 0x75, 0xf5,                                            // dec ecx; jnz
        0xb0, 0x00, 0x66, 0xba, 0x01, 0x05, 0xee, 0xf4,              // out 501h, al; hlt
    };
    std::copy(std::begin(loop), std::end(loop), rom.begin() + 0x100);
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
    c.translator = TranslatorOptions{.tier1 = 10, .bufferBytes = 1 << 20};
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

}  // namespace kiln::test
