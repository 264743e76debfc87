// What differs between a processor that interprets and one that translates.
#pragma once
#include <fmt/format.h>

#include "cpu/cpu.hpp"

namespace kiln::test {

class Differences {
  public:
    void equal(const std::string& name, uint64_t interpreted, uint64_t translated) {
        if (interpreted != translated)
            text_ += fmt::format("    {:14} interpreted {:016x}  translated {:016x}\n", name, interpreted,
                                 translated);
    }
    // What every comparison begins with: general registers, place, flags, count, CR2.
    void equalBasics(const Cpu& a, const Cpu& b) {
        static const char* const kNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
        for (unsigned n = 0; n < 16; n++) equal(kNames[n], a.gpr.slot[n], b.gpr.slot[n]);
        equal("rip", a.rip, b.rip);
        equal("rflags", a.flags.value(), b.flags.value());
        equal("executed", a.executed(), b.executed());
        equal("cr2", a.cr2, b.cr2);
    }
    const std::string& text() const { return text_; }

  private:
    std::string text_;
};

}  // namespace kiln::test
