// Random numbers that are the same everywhere, and what people choose of them.
#pragma once
#include <cstdint>
#include <cstdlib>

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

// A number from the environment, such as KILN_FUZZ_SEED.
inline uint64_t environment(const char* name, uint64_t otherwise) {
    const char* v = std::getenv(name);
    return v ? std::strtoull(v, nullptr, 0) : otherwise;
}

}  // namespace kiln::test
