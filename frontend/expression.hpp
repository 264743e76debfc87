// The monitor's expressions, as QEMU's: numbers (12, 0x1f, 017, 'c'), registers ($rax, $pc), + - * / % & | ^
// ~ and parentheses, in 64 bits without signs.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "cpu/cpu.hpp"

namespace kiln {

// False, with a sentence in `error`, when it is none.
bool evaluate(std::string_view text, const Cpu& cpu, uint64_t& value, std::string& error);

}  // namespace kiln
