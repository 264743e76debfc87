#include "tests/scratch_file.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>

namespace kiln::test {

ScratchFile::ScratchFile(std::span<const uint8_t> bytes) : fd_(memfd_create("kiln-scratch", MFD_CLOEXEC)) {
    if (fd_ < 0 || write(fd_, bytes.data(), bytes.size()) != ssize_t(bytes.size()))
        throw std::runtime_error("no room for a scratch file");
    path_ = "/proc/self/fd/" + std::to_string(fd_);
}

ScratchFile::~ScratchFile() { close(fd_); }

}  // namespace kiln::test
