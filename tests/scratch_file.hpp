// A file without a name, for what only takes paths.
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace kiln::test {

class ScratchFile {
  public:
    explicit ScratchFile(std::span<const uint8_t> bytes = {});
    ~ScratchFile();
    ScratchFile(const ScratchFile&) = delete;
    ScratchFile& operator=(const ScratchFile&) = delete;
    const std::string& path() const { return path_; }

  private:
    int fd_;
    std::string path_;
};

}  // namespace kiln::test
