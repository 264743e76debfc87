// One x87 instruction on the host's own FPU, with the state before it loaded by FRSTOR and the state after it
// taken by FNSAVE, so that unmasked exceptions and stack faults can be seen without being signalled.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>

#include "cpu/float80.hpp"

namespace kiln::test {

#if defined(__x86_64__)
constexpr bool kHasX87 = true;
#else
constexpr bool kHasX87 = false;
#endif

// The 108-byte image of FNSAVE in 32-bit protected mode. Registers are in the order ST(0)..ST(7).
struct X87Image {
    std::array<uint8_t, 108> bytes{};

    uint16_t word(unsigned at) const {
        uint16_t v;
        std::memcpy(&v, &bytes[at], 2);
        return v;
    }
    void setWord(unsigned at, uint16_t v) { std::memcpy(&bytes[at], &v, 2); }
    uint16_t control() const { return word(0); }
    uint16_t status() const { return word(4); }
    uint16_t tags() const { return word(8); }
    Float80 st(unsigned i) const {
        Float80 r;
        std::memcpy(&r.mantissa, &bytes[28 + 10 * i], 8);
        std::memcpy(&r.signExponent, &bytes[36 + 10 * i], 2);
        return r;
    }
    void setSt(unsigned i, Float80 v) {
        std::memcpy(&bytes[28 + 10 * i], &v.mantissa, 8);
        std::memcpy(&bytes[36 + 10 * i], &v.signExponent, 2);
    }
    // TOP = 4, `depth` registers in use.
    static X87Image make(uint16_t control, unsigned depth = 2) {
        X87Image r;
        r.setWord(0, control);
        r.setWord(4, 4 << 11);
        uint16_t tags = 0xffff;
        for (unsigned i = 0; i < depth; i++) tags &= uint16_t(~(3 << 2 * ((4 + i) & 7)));
        r.setWord(8, tags);
        return r;
    }
};

struct HostX87Op {
    const char* name;
    void (*run)(X87Image& image, void* memory);
};

#if defined(__x86_64__)
#define KILN_HOST_X87(text)                                   \
    kiln::test::HostX87Op {                                   \
        text, [](kiln::test::X87Image& image, void* memory) { \
            asm volatile("frstor %0\n\t" text "\n\tfnsave %0" \
                         : "+m"(image.bytes)                  \
                         : "r"(memory)                        \
                         : "memory", "cc");                   \
        }                                                     \
    }
#else
#define KILN_HOST_X87(text) \
    kiln::test::HostX87Op { text, nullptr }
#endif

}  // namespace kiln::test
