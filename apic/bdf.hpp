// Who a PCI function is.
#pragma once
#include <compare>
#include <cstdint>

namespace kiln {

// Bus, device and function number packed as in a configuration address and in a requester id.
struct Bdf {
    uint16_t value = 0;
    constexpr Bdf() = default;
    constexpr Bdf(unsigned bus, unsigned device, unsigned function)
        : value(uint16_t(bus << 8 | device << 3 | function)) {}
    constexpr unsigned bus() const { return value >> 8; }
    constexpr unsigned device() const { return value >> 3 & 31; }
    constexpr unsigned function() const { return value & 7; }
    constexpr auto operator<=>(const Bdf&) const = default;
};

}  // namespace kiln
