// A raw disk image on the host, seen as 512-byte sectors (or any byte range). Errors of the host (a full
// disk, a failing one) come back as `false`, for the device to report to its guest; nothing throws after
// open().
//
// A write is in the host's hands when write() returns: nothing is kept in this process, so a killed kiln
// leaves what its guest had written, in whole sectors. flush() puts it onto the host's disk, as far as a
// drive's FLUSH CACHE promises.
//
// Not modelled: formats other than raw (they are refused by name), asynchronous transfers.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kiln {

struct BlockOptions {
    bool readOnly = false;
    bool snapshot = false;  // writes go to an unnamed temporary file and are gone at the end
};

class BlockImage {
  public:
    // Null on failure, with one sentence in `error` that says what to do.
    static std::unique_ptr<BlockImage> open(const std::string& path, BlockOptions options,
                                            std::string& error);
    // A blank image of `size` bytes in host memory (tests, and drives without a file).
    static std::unique_ptr<BlockImage> blank(uint64_t size);
    ~BlockImage();
    BlockImage(const BlockImage&) = delete;
    BlockImage& operator=(const BlockImage&) = delete;

    uint64_t size() const { return size_; }                   // bytes, as the file has them
    uint64_t sectors() const { return (size_ + 511) / 512; }  // the last one is padded with zeros
    bool writable() const { return writable_; }
    const std::string& path() const { return path_; }

    // Any byte range inside sectors() * 512. False: outside of it, or the host failed (see lastError()).
    bool read(uint64_t offset, void* out, uint64_t bytes);
    bool write(uint64_t offset, const void* in, uint64_t bytes);
    bool flush();  // everything written is on the host's disk afterwards
    bool dirty() const { return dirty_; }  // written since the last flush
    const std::string& lastError() const { return lastError_; }

  private:
    BlockImage() = default;
    bool lock(std::string& error);
    bool makeOverlay(std::string& error);
    bool inRange(uint64_t offset, uint64_t bytes);
    bool readBase(uint64_t offset, void* out, uint64_t bytes);
    bool writeOverlay(uint64_t offset, const void* in, uint64_t bytes);
    bool overlaid(uint64_t cluster) const { return overlayMap_[cluster / 64] >> (cluster % 64) & 1; }
    bool fail(const char* what);

    std::string path_;
    int fd_ = -1;
    int overlay_ = -1;                  // snapshot: changed clusters, at their offsets in the image
    std::vector<uint64_t> overlayMap_;  // a bit a cluster
    uint64_t size_ = 0;
    bool writable_ = false;
    bool dirty_ = false;
    bool lost_ = false;  // a flush failed
    std::string lastError_;
};

}  // namespace kiln
