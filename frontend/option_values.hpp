// The values of single options: comma-separated lists, sizes, drives. Each throws std::runtime_error with a
// sentence that names the option.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "frontend/options.hpp"

namespace kiln {

// What parsers of values share.
namespace option_value {
[[noreturn]] void refuse(const std::string& sentence);
[[noreturn]] void refuseKey(const std::string& option, const std::string& key);
uint64_t number(const std::string& option, const std::string& text);  // whole, decimal or 0x...
bool onOff(const std::string& option, const std::string& key, const std::string& value);
}  // namespace option_value

struct DriveRequest {
    DriveConfig config;
    std::optional<unsigned> index;  // where the user wants it
};

// "a=1,b=2" in order; ",," stands for a comma. A part without "=" has `bareKey`, or is refused when there is
// none.
using KeyValues = std::vector<std::pair<std::string, std::string>>;
KeyValues parseKeyValues(const std::string& option, const std::string& text, const std::string& bareKey = {});

uint64_t parseMemory(const std::string& text);
CpuTopology parseSmp(const std::string& text);
// What runs the guest without -accel: the translator where there is one.
std::optional<TranslatorOptions> defaultTranslator();
void parseAccel(const std::string& text, MachineConfig& machine);
// A key of -accel that is the translator's; false: it is none.
bool setTranslatorOption(const std::string& option, const std::string& key, const std::string& value,
                         TranslatorOptions& translator);
// -lockstep may stand alone; whether the word behind it is its value: key=... What isn't lockstep's own comes
// back.
bool isLockstepValue(const std::string& text);
KeyValues parseLockstep(const std::string& text, LockstepOptions& lockstep);
DriveRequest parseDrive(const std::string& text);
void parseBoot(const std::string& text, MachineConfig& machine);
void parseMachine(const std::string& text, MachineConfig& machine);
void parseDevice(const std::string& text, MachineConfig& machine);  // device_values.cpp
void parseAction(const std::string& text, MachineConfig& machine);
void parseRtc(const std::string& text, MachineConfig& machine);
unsigned parseIcount(const std::string& text);

}  // namespace kiln
