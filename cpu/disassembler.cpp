// One line of text for the instruction at CS:RIP: the execution log and the monitor.
#include <fmt/format.h>

#include "cpu/cpu.hpp"

namespace kiln {

std::string Cpu::disassemble(uint64_t at) {
    uint8_t bytes[15];
    unsigned have = 0;
    for (; have < sizeof bytes; have++) {
        PhysAddr phys;
        if (!translate((fast_[Cs].base + at + have) & linearMask_, phys)) break;
        io.memory.read(phys, &bytes[have], 1);
    }
    static constexpr ZydisMachineMode kModes[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
                                                  ZYDIS_MACHINE_MODE_LONG_64};
    ZydisDisassembledInstruction text;
    std::string line = fmt::format("{:04x}:{:016x} ", seg[Cs].selector, at);
    if (!have || !ZYAN_SUCCESS(ZydisDisassembleIntel(kModes[unsigned(codeMode_)], at, bytes, have, &text)))
        return line + (have ? "(bad)" : "(not mapped)");
    return line + text.text;
}

}  // namespace kiln
