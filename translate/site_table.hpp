// The sites of all host code, by number: each region of the code buffer has numbers of its own, which begin
// anew when it is filled anew.
#pragma once
#include <atomic>
#include <memory>

#include "translate/code_buffer.hpp"
#include "translate/site.hpp"

namespace kiln {

class SiteTable {
  public:
    SiteTable() : chunks_(std::make_unique<std::atomic<Site*>[]>(kChunks * CodeBuffer::kMostRegions)) {}
    ~SiteTable() {
        for (unsigned n = 0; n < CodeBuffer::kMostRegions; n++) clear(n);
    }
    SiteTable(const SiteTable&) = delete;
    SiteTable& operator=(const SiteTable&) = delete;

    static constexpr uint32_t kMost = 1u << 20;  // of a region

    // What runs code may look at its sites while others are added. The first look at one is reached().
    Site& operator[](uint32_t number) {
        return chunks_[number / kPerChunk].load(std::memory_order_acquire)[number % kPerChunk];
    }
    // By code that another thread may have written, and linked to, just now.
    Site& reached(uint32_t number) {
        (void)has(number);  // sees what came before publish()
        return (*this)[number];
    }
    // A number that is known of old: whether there still is, or is again, such a site.
    bool has(uint32_t number) const {
        return number % kMost < ends_[number / kMost].load(std::memory_order_acquire);
    }

    // -- for one at a time. Into the region that is selected.
    uint32_t end() const { return next_; }  // the next one's number
    uint32_t left() const { return kMost - next_ % kMost; }
    uint32_t add(const Site& site) {
        std::atomic<Site*>& chunk = chunks_[next_ / kPerChunk];
        if (!chunk.load(std::memory_order_relaxed))
            chunk.store(new Site[kPerChunk], std::memory_order_release);
        (*this)[next_] = site;
        return next_++;
    }
    void publish() { ends_[next_ / kMost].store(next_ % kMost, std::memory_order_release); }
    void select(unsigned region) {
        clear(region);
        next_ = region * kMost;
    }

  private:
    static constexpr uint32_t kPerChunk = 1024, kChunks = kMost / kPerChunk;
    void clear(unsigned region) {
        ends_[region].store(0, std::memory_order_release);
        for (uint32_t n = region * kChunks; n < (region + 1) * kChunks; n++)
            delete[] chunks_[n].exchange(nullptr);
    }

    std::unique_ptr<std::atomic<Site*>[]> chunks_;
    std::array<std::atomic<uint32_t>, CodeBuffer::kMostRegions> ends_{};
    uint32_t next_ = 0;
};

}  // namespace kiln
