// Memory for host code: one memory object mapped twice, once to be written and once to be run, so that no
// mapping is ever both. It is divided into regions that are filled one after the other: code that usually
// runs lies densely from a region's start on; what is seldom needed grows from its end towards it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kiln {

class CodeBuffer {
  public:
    // Throws std::runtime_error when the host has no room for `size` bytes (rounded up to pages).
    explicit CodeBuffer(size_t size);
    ~CodeBuffer();
    CodeBuffer(const CodeBuffer&) = delete;
    CodeBuffer& operator=(const CodeBuffer&) = delete;

    size_t size() const { return size_; }
    size_t used() const;  // of all regions
    size_t left() const { return now_->cold - now_->used; }
    // Where the next append() puts its bytes, and cold ones that are so many, as they will be run.
    const uint8_t* next() const { return run_ + now_->used; }
    const uint8_t* nextCold(size_t size) const { return run_ + coldStart(size); }
    // Copies code to these places. There must be room.
    const uint8_t* append(std::span<const uint8_t> code, std::span<const uint8_t> cold);
    // What has been appended so far is there for good; what is behind it becomes regions. The first is the
    // one that is filled.
    void divide();
    static constexpr unsigned kMostRegions = 32;
    unsigned regions() const { return unsigned(regions_.size()); }
    unsigned region() const { return unsigned(now_ - regions_.data()); }  // that is filled
    // Fills this region from the start on. Pages are no longer mapped to be written until something changes
    // there.
    void select(unsigned region);
    // Places as distances from the start.
    uint32_t offsetOf(const void* at) const { return uint32_t(static_cast<const uint8_t*>(at) - run_); }
    const uint8_t* at(uint32_t offset) const { return run_ + offset; }
    // Makes the five-byte jump at `at` lead to `target`, or puts one there. A jump whose distance lies on a
    // multiple of four bytes may be running meanwhile, and so may what has a number there.
    void setJump(const uint8_t* at, const uint8_t* target);
    // The same for a call, while nobody runs it.
    void setCall(const uint8_t* at, const uint8_t* target);
    void setBytes(const uint8_t* at, std::span<const uint8_t> bytes);
    void setWord(const uint8_t* at, uint32_t value);
    bool contains(const uint8_t* at) const { return at >= run_ && at < run_ + size_; }

  private:
    uint8_t* writable(const uint8_t* at) { return write_ + (at - run_); }

    void wantHugePage();
    size_t coldStart(size_t size) const { return (now_->cold - size) & ~size_t(15); }

    struct Region {
        size_t begin, end;
        size_t used, cold;  // up to where, and from where on
    };
    size_t size_;
    std::vector<Region> regions_;
    Region* now_;
    std::vector<bool> huge_;  // pages that have been asked for
    uint8_t *write_ = nullptr, *run_ = nullptr;
};

}  // namespace kiln
