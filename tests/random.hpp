// Random numbers that are the same everywhere.
#pragma once
#include <cstdint>

namespace kiln::test {

// SplitMix64: the same sequence everywhere, and nothing to notice in the run time.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t operator()() {
        uint64_t v = state_ += 0x9e3779b97f4a7c15;
        v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
        v = (v ^ v >> 27) * 0x94d049bb133111eb;
        return v ^ v >> 31;
    }

  private:
    uint64_t state_;
};
inline uint64_t below(Random& r, uint64_t n) { return r() % n; }
inline bool oneIn(Random& r, unsigned n) { return below(r, n) == 0; }

}  // namespace kiln::test
