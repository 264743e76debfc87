// Memory for host code: one memory object mapped twice, once to be written and once to be run, so that no
// mapping is ever both. Code that usually runs lies densely from the start on; what is seldom needed grows
// from the end towards it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace kiln {

class CodeBuffer {
  public:
    // Throws std::runtime_error when the host has no room for `size` bytes (rounded up to pages).
    explicit CodeBuffer(size_t size);
    ~CodeBuffer();
    CodeBuffer(const CodeBuffer&) = delete;
    CodeBuffer& operator=(const CodeBuffer&) = delete;

    size_t size() const { return size_; }
    size_t used() const { return used_ + size_ - cold_; }
    size_t left() const { return cold_ - used_; }
    // Where the next append() puts its bytes, and cold ones that are so many, as they will be run.
    const uint8_t* next() const { return run_ + used_; }
    const uint8_t* nextCold(size_t size) const { return run_ + coldStart(size); }
    // Copies code to these places. There must be room.
    const uint8_t* append(std::span<const uint8_t> code, std::span<const uint8_t> cold);
    // Forgets everything behind the first `keep` bytes.
    void truncate(size_t keep) { used_ = keep, cold_ = size_; }
    // Places as distances from the start.
    uint32_t offsetOf(const void* at) const { return uint32_t(static_cast<const uint8_t*>(at) - run_); }
    const uint8_t* at(uint32_t offset) const { return run_ + offset; }
    // Makes the five-byte jump at `at` lead to `target`.
    void setJump(const uint8_t* at, const uint8_t* target);
    // Writes four bytes.
    void setBytes(const uint8_t* at, std::span<const uint8_t> bytes);
    void setWord(const uint8_t* at, uint32_t value);
    bool contains(const uint8_t* at) const { return at >= run_ && at < run_ + size_; }

  private:
    uint8_t* writable(const uint8_t* at) { return write_ + (at - run_); }

    size_t coldStart(size_t size) const { return (cold_ - size) & ~size_t(15); }

    size_t size_, used_ = 0, cold_;
    uint8_t *write_ = nullptr, *run_ = nullptr;
};

}  // namespace kiln
