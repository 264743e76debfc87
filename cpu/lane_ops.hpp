// Functions of one lane that the MMX and the SSE tables share (SDM vol. 1, 9.4 and 11.4.2): `of` gives the
// destination's lane from the two sources'. Comparisons give all ones or zero.
#pragma once
#include <cstdint>
#include <type_traits>

namespace kiln::lane {

struct Min {
    template <class T>
    static T of(T a, T b) {
        return a < b ? a : b;
    }
};
struct Max {
    template <class T>
    static T of(T a, T b) {
        return a > b ? a : b;
    }
};
struct Equal {
    template <class T>
    static T of(T a, T b) {
        return T(a == b ? -1 : 0);
    }
};
struct Greater {
    template <class T>
    static T of(T a, T b) {
        return T(a > b ? -1 : 0);
    }
};
struct And {
    static uint64_t of(uint64_t a, uint64_t b) { return a & b; }
};
struct AndNot {
    static uint64_t of(uint64_t a, uint64_t b) { return ~a & b; }
};
struct Or {
    static uint64_t of(uint64_t a, uint64_t b) { return a | b; }
};
struct Xor {
    static uint64_t of(uint64_t a, uint64_t b) { return a ^ b; }
};

// Counts beyond the lane shift everything out.
struct ShiftLeft {
    template <class T>
    static T of(T v, uint64_t count) {
        return count < 8 * sizeof(T) ? T(v << count) : T(0);
    }
};
struct ShiftRight {  // arithmetic for signed T
    template <class T>
    static T of(T v, uint64_t count) {
        constexpr uint64_t bits = 8 * sizeof(T);
        if (std::is_signed_v<T>) return T(v >> (count < bits ? count : bits - 1));
        return count < bits ? T(v >> count) : T(0);
    }
};

}  // namespace kiln::lane
