// What the fuzz targets share. A target turns any bytes into the acts of a guest (or of a user) and must come
// to an end without a crash, a hang or undefined behaviour. Each becomes a libFuzzer program with
// -Dfuzzers=true, and all of them together the program kiln-fuzz, which needs no libFuzzer (driver.cpp).
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mmu/state.hpp"

namespace kiln::fuzz {

// The input, read from its front; behind its end come zeros.
class Input {
  public:
    explicit Input(std::span<const uint8_t> bytes) : left_(bytes) {}

    bool empty() const { return left_.empty(); }
    template <class T>
    T take() {
        T v{};
        size_t n = std::min(left_.size(), sizeof v);
        if (n) std::memcpy(&v, left_.data(), n);
        left_ = left_.subspan(n);
        return v;
    }
    uint8_t byte() { return take<uint8_t>(); }
    // 0..n-1
    template <class T = uint8_t>
    uint64_t below(uint64_t n) {
        return take<T>() % n;
    }
    std::span<const uint8_t> bytes(size_t n) {
        auto front = left_.first(std::min(n, left_.size()));
        left_ = left_.subspan(front.size());
        return front;
    }
    std::span<const uint8_t> rest() { return bytes(left_.size()); }
    std::string text(size_t n) {
        auto b = bytes(n);
        return {b.begin(), b.end()};
    }

  private:
    std::span<const uint8_t> left_;
};

using Bytes = std::vector<uint8_t>;

// Visits all state; of large buffers (video memory) only the ends, so that an input takes no second.
class StateGlance : public StateVisitor {
  public:
    void bytes(std::string_view name, void* data, size_t size) override {
        constexpr size_t kEnd = 4096;
        if (size <= 2 * kEnd) return hash_.bytes(name, data, size);
        hash_.bytes(name, data, kEnd);
        hash_.bytes(name, static_cast<uint8_t*>(data) + size - kEnd, kEnd);
    }

  private:
    StateHash hash_;
};

struct Target {
    const char* name;
    void (*run)(std::span<const uint8_t> input);
    // Inputs worth starting from. Made here, so that the repository holds no corpus.
    std::vector<Bytes> (*seeds)();
    unsigned smokeInputs;  // for the normal tests: as many as about a second takes
};

extern const Target kProcessor, kDevices, kDisks, kImages, kKernels, kFwCfg, kPci, kRemapping, kMonitor, kQmp,
    kOptions;

}  // namespace kiln::fuzz
