// Address newtypes: a guest-physical address and a guest-linear address never mix by accident.
#pragma once
#include <compare>
#include <cstdint>

namespace kiln {

constexpr uint64_t kPageSize = 4096;
constexpr uint64_t kPageMask = kPageSize - 1;

// Byte address in the guest's physical address space, 0 .. 2^52-1.
struct PhysAddr {
    uint64_t value = 0;
    constexpr PhysAddr() = default;
    constexpr explicit PhysAddr(uint64_t v) : value(v) {}
    constexpr PhysAddr operator+(uint64_t bytes) const { return PhysAddr(value + bytes); }
    constexpr PhysAddr page() const { return PhysAddr(value & ~kPageMask); }
    constexpr uint64_t pageOffset() const { return value & kPageMask; }
    constexpr auto operator<=>(const PhysAddr&) const = default;
};

// Byte address after segmentation and before paging (SDM vol. 3, 3.1).
struct LinearAddr {
    uint64_t value = 0;
    constexpr LinearAddr() = default;
    constexpr explicit LinearAddr(uint64_t v) : value(v) {}
    constexpr LinearAddr operator+(uint64_t bytes) const { return LinearAddr(value + bytes); }
    constexpr LinearAddr page() const { return LinearAddr(value & ~kPageMask); }
    constexpr uint64_t pageOffset() const { return value & kPageMask; }
    constexpr auto operator<=>(const LinearAddr&) const = default;
};

}  // namespace kiln
