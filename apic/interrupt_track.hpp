// What a local APIC keeps for the interrupt relay (interrupt_relay.hpp).
#pragma once
#include <array>
#include <cstdint>

#include "apic/clock.hpp"

namespace kiln {

// Whose interrupts a local APIC has in IRR or in service.
struct InterruptTrack {
    static constexpr uint32_t kMost = 64;
    static constexpr uint8_t kNoPin = 0xff;
    struct Entry {
        Nanos since;  // it reached IRR; it was acknowledged
        uint32_t identifier;
        uint8_t vector, pin;  // of the I/O APIC
        uint8_t inService, unused;
    };
    std::array<Entry, kMost> entries{};
    uint32_t count = 0;
};

}  // namespace kiln
