// What the monitor's commands share: reading arguments, printing fields.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "apic/device.hpp"
#include "devices/machine.hpp"
#include "frontend/monitor.hpp"

namespace kiln {

bool parseNumber(const std::string& text, uint64_t& out);  // decimal, or hexadecimal behind 0x
bool parseSigned(const std::string& text, int& out);
// An expression (expression.hpp) about the selected processor.
bool parseExpression(Monitor& monitor, const std::string& text, uint64_t& out, std::string& error);
std::string joined(const MonitorArguments& words);  // by blanks
// Every field that state() visits, one a line.
std::string describeDevice(Device& device);
std::string driveName(const DriveConfig& drive);  // as QEMU's: "ide0-hd0", "ide1-cd0", "floppy0"
uint64_t imageSize(const std::string& path);      // bytes; 0 if there is no such file any more
constexpr const char* kNoUuid = "00000000-0000-0000-0000-000000000000";  // machines have none

}  // namespace kiln
