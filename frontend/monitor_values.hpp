// What the monitor's commands share: reading arguments, printing fields.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "apic/device.hpp"

namespace kiln {

bool parseNumber(const std::string& text, uint64_t& out);  // decimal, or hexadecimal behind 0x
bool parseSigned(const std::string& text, int& out);
// Every field that state() visits, one a line.
std::string describeDevice(Device& device);

}  // namespace kiln
