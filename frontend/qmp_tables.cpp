#include "frontend/qmp_tables.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace kiln {

namespace {

std::vector<std::string_view> split(std::string_view text, char at) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
        const size_t end = std::min(text.find(at), text.size());
        parts.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

struct Type {
    std::string_view name;
    const char* inErrors;
    bool (*fits)(const Json&);
};
constexpr Type kTypes[] = {
    {"str", "string", [](const Json& v) { return v.is_string(); }},
    {"int", "integer", [](const Json& v) { return v.is_number_integer(); }},
    {"bool", "boolean", [](const Json& v) { return v.is_boolean(); }},
    {"object", "object", [](const Json& v) { return v.is_object(); }},
    {"list", "array", [](const Json& v) { return v.is_array(); }},
    {"any", "any", [](const Json&) { return true; }},
};

const Type& typeOf(const QmpArgument& argument) {
    for (const Type& t : kTypes)
        if (t.name == argument.type) return t;
    return kTypes[0];  // one of some strings
}

void checkValue(const QmpArgument& argument, const Json& value) {
    const Type& type = typeOf(argument);
    if (!type.fits(value))
        throw QmpError{
            fmt::format("Invalid parameter type for '{}', expected: {}", argument.name, type.inErrors)};
    const std::vector<std::string_view> choices = argument.choices();
    if (choices.empty()) return;
    const std::string given = value.get<std::string>();
    if (std::find(choices.begin(), choices.end(), given) == choices.end())
        throw QmpError{fmt::format("Parameter '{}' does not accept value '{}'", argument.name, given)};
}

}  // namespace

std::vector<QmpTable> qmpCommands() {
    return {qmpGeneralCommands(), qmpMachineCommands(), qmpCpuCommands(),
            qmpDeviceCommands(),  qmpInputCommands(),   qmpSchemaCommands()};
}

const QmpCommand* findQmpCommand(std::string_view name) {
    for (QmpTable table : qmpCommands())
        for (const QmpCommand& c : table)
            if (name == c.name) return &c;
    return nullptr;
}

std::vector<std::string_view> QmpArgument::choices() const {
    for (const Type& t : kTypes)
        if (t.name == type) return {};
    return split(type, '|');
}

std::vector<QmpArgument> qmpArguments(const QmpCommand& command) {
    std::vector<QmpArgument> all;
    for (std::string_view word : split(command.arguments, ' ')) {
        const size_t colon = word.find(':');
        const bool optional = word[colon - 1] == '?';
        all.push_back({word.substr(0, colon - optional), word.substr(colon + 1), optional});
    }
    return all;
}

void checkQmpArguments(const QmpCommand& command, const Json& given) {
    const std::vector<QmpArgument> known = qmpArguments(command);
    for (const QmpArgument& a : known) {
        const auto value = given.find(a.name);
        if (value != given.end())
            checkValue(a, *value);
        else if (!a.optional)
            throw QmpError{fmt::format("Parameter '{}' is missing", a.name)};
    }
    for (const auto& [key, value] : given.items())
        if (std::none_of(known.begin(), known.end(), [&key = key](auto& a) { return a.name == key; }))
            throw QmpError{fmt::format("Parameter '{}' is unexpected", key)};
}

}  // namespace kiln
