// Memory for host code: one memory object mapped twice, once to be written and once to be run, so that no
// mapping is ever both.
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
    size_t used() const { return used_; }
    size_t left() const { return size_ - used_; }
    // Where the next append() puts its bytes, as they will be run.
    const uint8_t* next() const { return run_ + used_; }
    // Copies code behind what is there, 16-byte aligned. There must be room.
    const uint8_t* append(std::span<const uint8_t> code);
    // Forgets everything behind the first `keep` bytes.
    void truncate(size_t keep) { used_ = keep; }
    // Makes the five-byte jump at `at` lead to `target`.
    void setJump(const uint8_t* at, const uint8_t* target);
    bool contains(const uint8_t* at) const { return at >= run_ && at < run_ + size_; }

  private:
    uint8_t* writable(const uint8_t* at) { return write_ + (at - run_); }

    size_t size_, used_ = 0;
    uint8_t *write_ = nullptr, *run_ = nullptr;
};

}  // namespace kiln
