// The commands of the machine protocol by subject, one file a table. Names, arguments and what comes back are
// QEMU's (qapi/*.json); a member of a result that kiln has nothing for is left out where the protocol allows
// it.
#pragma once
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "frontend/monitor.hpp"

namespace kiln {

using Json = nlohmann::ordered_json;

// Thrown by commands, caught where they are called.
struct QmpError {
    std::string text;
    const char* kind = "GenericError";
};

struct QmpCommand {
    const char* name;
    // "filename:str format?:ppm|png": names and types; ? is optional. Types are str, int, bool, object, list,
    // any, or the strings that are allowed.
    const char* arguments;
    Json (*run)(Monitor& monitor, const Json& arguments);  // these are as the row says
};
using QmpTable = std::span<const QmpCommand>;

QmpTable qmpGeneralCommands();  // qmp_general.cpp
QmpTable qmpMachineCommands();  // qmp_machine.cpp
QmpTable qmpCpuCommands();      // qmp_cpus.cpp
QmpTable qmpDeviceCommands();   // qmp_devices.cpp
QmpTable qmpInputCommands();    // qmp_input.cpp
QmpTable qmpSchemaCommands();   // qmp_schema.cpp

std::vector<QmpTable> qmpCommands();  // all of them
const QmpCommand* findQmpCommand(std::string_view name);

// A row's arguments.
struct QmpArgument {
    std::string_view name, type;
    bool optional;
    std::vector<std::string_view> choices() const;  // none: any value of the type
};
std::vector<QmpArgument> qmpArguments(const QmpCommand& command);
void checkQmpArguments(const QmpCommand& command, const Json& arguments);  // throws QmpError

Json qmpVersion();
std::span<const char* const> qmpEvents();                              // by MachineEvent
std::span<const char* const> qmpCauses();                              // by MachineCause
unsigned qmpProcessor(const Monitor& monitor, const Json& arguments);  // "cpu-index", or 0

}  // namespace kiln
