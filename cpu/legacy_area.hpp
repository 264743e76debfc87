// The 512 bytes with which images of FXSAVE and XSAVE begin: x87 state, MXCSR and the XMM registers (SDM vol.
// 1, 10.5.1 and 13.4.1). Parts are filled from the processor, or put into it, one by one.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>

#include "cpu/cpu.hpp"

namespace kiln {

class LegacyArea {
  public:
    static constexpr unsigned kSize = 512;
    static constexpr unsigned kMxcsr = 24, kRegisters = 32, kXmm = 160;
    static constexpr uint32_t kMxcsrMask = 0xffff;

    template <class T>
    T get(unsigned at) const {
        T v;
        std::memcpy(&v, &bytes[at], sizeof v);
        return v;
    }
    template <class T>
    void set(unsigned at, T v) {
        std::memcpy(&bytes[at], &v, sizeof v);
    }

    // `pointers64`: REX.W; 64-bit instruction and data pointers without selectors.
    void takeX87(const Cpu& c, bool pointers64);
    void takeMxcsr(const Cpu& c);
    void takeXmm(const Cpu& c, unsigned count);
    void giveX87(Cpu& c, bool pointers64) const;
    void giveXmm(Cpu& c, unsigned count) const;
    bool validMxcsr() const { return !(get<uint32_t>(kMxcsr) & ~kMxcsrMask); }

    alignas(16) std::array<uint8_t, kSize> bytes{};
};

}  // namespace kiln
