// A set of numbers below Size of which few are in: emptying it costs time by what is in, not by Size.
#pragma once
#include <bit>
#include <cstdint>
#include <utility>

namespace kiln {

template <unsigned Size>
class SparseBits {
    static_assert(Size % 4096 == 0);

  public:
    void set(uint32_t n) {
        words_[n / 64] |= 1ull << n % 64;
        any_[n / 4096] |= 1ull << n / 64 % 64;
    }
    bool test(uint32_t n) const { return words_[n / 64] >> n % 64 & 1; }
    // Empties it, telling of each number.
    template <class Gone>
    void clear(Gone gone) {
        clearWords([&](uint32_t word) {
            for (uint64_t w = words_[word]; w; w &= w - 1) gone(word * 64 + uint32_t(std::countr_zero(w)));
        });
    }
    void clear() {
        clearWords([](uint32_t) {});
    }

  private:
    template <class F>
    void clearWords(F f) {
        for (uint32_t group = 0; group < Size / 4096; group++)
            for (uint64_t left = std::exchange(any_[group], 0); left; left &= left - 1) {
                const uint32_t word = group * 64 + uint32_t(std::countr_zero(left));
                f(word);
                words_[word] = 0;
            }
    }

    uint64_t any_[Size / 4096] = {}, words_[Size / 64] = {};
};

}  // namespace kiln
