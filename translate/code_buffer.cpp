#include "translate/code_buffer.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cassert>
#include <cstring>
#include <stdexcept>

namespace kiln {

constexpr size_t kHostPage = 4096;

CodeBuffer::CodeBuffer(size_t size) : size_((size + kHostPage - 1) & ~(kHostPage - 1)), cold_(size_) {
    const int fd = memfd_create("kiln host code", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, off_t(size_)) == 0) {
        void* w = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        void* r = mmap(nullptr, size_, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
        if (w != MAP_FAILED) write_ = static_cast<uint8_t*>(w);
        if (r != MAP_FAILED) run_ = static_cast<uint8_t*>(r);
    }
    if (fd >= 0) close(fd);
    if (write_ && run_) return;
    if (write_) munmap(write_, size_);
    if (run_) munmap(run_, size_);
    throw std::runtime_error("The host gives no memory for translated code; use -accel interp.");
}

CodeBuffer::~CodeBuffer() {
    munmap(write_, size_);
    munmap(run_, size_);
}

const uint8_t* CodeBuffer::append(std::span<const uint8_t> code, std::span<const uint8_t> cold) {
    assert(code.size() + cold.size() + 32 <= left());
    const uint8_t* at = next();
    std::memcpy(writable(at), code.data(), code.size());
    used_ = (used_ + code.size() + 15) & ~size_t(15);
    cold_ = coldStart(cold.size());
    if (!cold.empty()) std::memcpy(write_ + cold_, cold.data(), cold.size());
    return at;
}

void CodeBuffer::setJump(const uint8_t* at, const uint8_t* target) {
    assert(contains(at) && contains(target));
    const auto distance = int32_t(target - (at + 5));
    uint8_t* w = writable(at);
    w[0] = 0xe9;
    std::memcpy(w + 1, &distance, sizeof distance);
}

void CodeBuffer::setBytes(const uint8_t* at, std::span<const uint8_t> bytes) {
    assert(contains(at));
    std::memcpy(writable(at), bytes.data(), bytes.size());
}

void CodeBuffer::setWord(const uint8_t* at, uint32_t value) {
    assert(contains(at));
    std::memcpy(writable(at), &value, sizeof value);
}

}  // namespace kiln
