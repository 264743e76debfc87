#include "devices/guest_space.hpp"

#include <algorithm>

namespace kiln {

bool GuestSpace::usable(uint64_t address, uint64_t size) const {
    auto within = [&](uint64_t begin, uint64_t end) {
        return address >= begin && address <= end && size <= end - address;
    };
    return within(kLowBegin, kLowEnd) || within(kHighBegin, highEnd_);
}

bool GuestSpace::isFree(uint64_t address, uint64_t size) const {
    if (!usable(address, size)) return false;
    auto next = taken_.lower_bound(address + size);
    return next == taken_.begin() || std::prev(next)->second <= address;
}

void GuestSpace::take(uint64_t address, uint64_t size) {
    uint64_t begin = address, end = address + size;
    if (begin == end) return;
    auto at = taken_.upper_bound(begin);
    if (at != taken_.begin() && std::prev(at)->second >= begin) --at;
    while (at != taken_.end() && at->first <= end) {
        begin = std::min(begin, at->first), end = std::max(end, at->second);
        at = taken_.erase(at);
    }
    taken_[begin] = end;
}

std::optional<uint32_t> GuestSpace::lowest(uint64_t size, uint64_t from, uint64_t to,
                                           uint64_t alignment) const {
    auto aligned = [&](uint64_t v) { return (v + alignment - 1) & ~(alignment - 1); };
    uint64_t at = aligned(from);
    auto next = taken_.upper_bound(at);
    if (next != taken_.begin()) --next;
    for (; next != taken_.end() && (at > next->first || next->first - at < size); ++next)
        at = std::max(at, aligned(next->second));
    if (at > to || size > to - at || !usable(at, size)) return std::nullopt;
    return uint32_t(at);
}

std::optional<uint32_t> GuestSpace::highest(uint64_t size, uint64_t from, uint64_t to,
                                            uint64_t alignment) const {
    uint64_t end = std::min(to, highEnd_);
    auto below = taken_.lower_bound(end);
    while (true) {
        if (end < size) return std::nullopt;
        uint64_t at = (end - size) & ~(alignment - 1);
        if (at < from || !usable(at, size)) return std::nullopt;
        if (below == taken_.begin() || std::prev(below)->second <= at) return uint32_t(at);
        end = (--below)->first;
    }
}

}  // namespace kiln
