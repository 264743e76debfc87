// The arithmetic flags as HostFrame::flags has them: bit 0: OF; 8..15: SF, ZF, AF, PF, CF as LAHF gives them.
#pragma once
#include <cstdint>

#include "cpu/flags.hpp"

namespace kiln {

inline uint64_t flagsImage(uint64_t flags) { return (flags & 0xd5) << 8 | (flags >> 11 & 1); }
inline uint64_t arithmeticFlags(uint64_t image) { return (image >> 8 & 0xd5) | (image & 1) << 11; }

}  // namespace kiln
