#include "translate/code_buffer.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>
#include <stdexcept>

namespace kiln {

constexpr size_t kHostPage = 4096, kHugePage = 2 << 20;
constexpr int kCollapse = 25;                 // MADV_COLLAPSE, which Debian 12's C library does not know yet
constexpr size_t kWorthHugePage = 128 << 10;  // so much code
constexpr size_t kRegion = 4 << 20;           // is large enough
constexpr size_t kFewestRegions = 4;

namespace {

// The object at an address that huge pages may lie at; null: there is no room.
uint8_t* map(int fd, size_t size, int rights) {
    void* room =
        mmap(nullptr, size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return nullptr;
    auto* const begin = static_cast<uint8_t*>(room);
    uint8_t* const at = begin + (-uintptr_t(room) & (kHugePage - 1));
    if (mmap(at, size, rights, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        munmap(room, size + kHugePage);
        return nullptr;
    }
    if (at > begin) munmap(begin, size_t(at - begin));
    munmap(at + size, size_t(begin + kHugePage - at));
    // Where the host's administrator has huge pages for shared memory given to who asks.
    madvise(at, size, MADV_HUGEPAGE);
    return at;
}

}  // namespace

CodeBuffer::CodeBuffer(size_t size)
    : size_((size + kHostPage - 1) & ~(kHostPage - 1)), regions_{{0, size_, 0, size_}}, now_(&regions_[0]) {
    const int fd = memfd_create("kiln host code", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, off_t(size_)) == 0) {
        write_ = map(fd, size_, PROT_READ | PROT_WRITE);
        run_ = map(fd, size_, PROT_READ | PROT_EXEC);
    }
    if (fd >= 0) close(fd);
    if (write_ && run_) {
        huge_.resize(size_ / kHugePage);
        return;
    }
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
    if (!code.empty()) std::memcpy(writable(at), code.data(), code.size());
    now_->used = (now_->used + code.size() + 15) & ~size_t(15);
    now_->cold = coldStart(cold.size());
    if (!cold.empty()) std::memcpy(write_ + now_->cold, cold.data(), cold.size());
    wantHugePage();
    return at;
}

// Code that runs densely meets fewer misses of the host's instruction TLB. Linux has done this since 6.1
// whatever its administrator says of shared memory; where it does not, small pages do.
void CodeBuffer::wantHugePage() {
    const size_t page = now_->used / kHugePage;
    if (now_->used % kHugePage < kWorthHugePage || page >= huge_.size() || huge_[page]) return;
    huge_[page] = true;
    madvise(run_ + page * kHugePage, kHugePage, kCollapse);
}

size_t CodeBuffer::used() const {
    size_t sum = 0;
    for (const Region& r : regions_) sum += r.used - r.begin + r.end - r.cold;
    return sum;
}

void CodeBuffer::divide() {
    const size_t first = (now_->used + kHostPage - 1) & ~(kHostPage - 1);
    const size_t count =
        std::clamp<size_t>((size_ - first + kRegion - 1) / kRegion, kFewestRegions, kMostRegions);
    const size_t each = (size_ - first) / count & ~(kHostPage - 1);
    regions_.clear();
    for (size_t n = 0; n < count; n++) {
        const size_t begin = first + n * each, end = begin + each;
        regions_.push_back({begin, end, begin, end});
    }
    now_ = &regions_[0];
}

void CodeBuffer::select(unsigned region) {
    madvise(write_, size_, MADV_DONTNEED);
    now_ = &regions_[region];
    now_->used = now_->begin, now_->cold = now_->end;
}

void CodeBuffer::setJump(const uint8_t* at, const uint8_t* target) {
    assert(contains(at) && contains(target));
    const auto distance = int32_t(target - (at + 5));
    constexpr uint8_t kJump = 0xe9;
    if (uint8_t* w = writable(at); *w != kJump) *w = kJump;
    setWord(at + 1, uint32_t(distance));
}

void CodeBuffer::setCall(const uint8_t* at, const uint8_t* target) {
    setJump(at, target);
    constexpr uint8_t kCall = 0xe8;
    *writable(at) = kCall;
}

void CodeBuffer::setBytes(const uint8_t* at, std::span<const uint8_t> bytes) {
    assert(contains(at));
    std::memcpy(writable(at), bytes.data(), bytes.size());
}

void CodeBuffer::setWord(const uint8_t* at, uint32_t value) {
    assert(contains(at));
    uint8_t* w = writable(at);
    if (uintptr_t(w) % sizeof value)
        std::memcpy(w, &value, sizeof value);
    else
        std::atomic_ref(*reinterpret_cast<uint32_t*>(w)).store(value, std::memory_order_release);
}

}  // namespace kiln
