#include "frontend/monitor.hpp"

#include <fmt/format.h>

#include <sstream>
#include <string_view>

#include "devices/board.hpp"
#include "frontend/monitor_tables.hpp"

namespace kiln {

namespace {

std::string help(Monitor& monitor, const MonitorArguments& a);
std::string info(Monitor& monitor, const MonitorArguments& a);

constexpr MonitorCommand kGeneral[] = {
    {"help|?", "[COMMAND]", "this list", help},
    {"info", "[SUBJECT]", "tells about a subject", info},
};

std::vector<MonitorTable> commands() {
    return {kGeneral,      machineCommands(), inputCommands(), memoryCommands(),
            cpuCommands(), logCommands(),     relayCommands()};
}

std::vector<MonitorTable> infoCommands() {
    return {machineInfo(), cpuInfo(), trapInfo(), pagingInfo(), interruptInfo(), deviceInfo(), relayInfo()};
}

bool isCalled(const MonitorCommand& command, std::string_view name) {
    for (std::string_view names = command.name;;) {
        const size_t bar = names.find('|');
        if (names.substr(0, bar) == name) return true;
        if (bar == std::string_view::npos) return false;
        names.remove_prefix(bar + 1);
    }
}

const MonitorCommand* find(const std::vector<MonitorTable>& tables, std::string_view name) {
    for (MonitorTable table : tables)
        for (const MonitorCommand& c : table)
            if (isCalled(c, name)) return &c;
    return nullptr;
}

std::string describe(const MonitorCommand& c, const std::string& prefix) {
    return fmt::format("{:<32} {}\n", prefix + c.name + (*c.arguments ? " " : "") + c.arguments, c.text);
}

std::string listOf(const std::vector<MonitorTable>& tables, const std::string& prefix) {
    std::string out;
    for (MonitorTable table : tables)
        for (const MonitorCommand& c : table) out += describe(c, prefix);
    return out;
}

std::string help(Monitor&, const MonitorArguments& a) {
    if (a.empty()) return listOf(commands(), "");
    if (a[0] == "info" && a.size() == 1) return listOf(infoCommands(), "info ");
    const bool info = a[0] == "info";
    const MonitorCommand* c = info ? find(infoCommands(), a[1]) : find(commands(), a[0]);
    return c ? describe(*c, info ? "info " : "") : "there is no command '" + a.back() + "'\n";
}

std::string info(Monitor& monitor, const MonitorArguments& a) {
    const MonitorCommand* c = a.empty() ? nullptr : find(infoCommands(), a[0]);
    if (c) return c->run(monitor, {a.begin() + 1, a.end()});
    return listOf(infoCommands(), "info ");
}

std::vector<std::string> split(const std::string& line) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string w; in >> w;) words.push_back(w);
    return words;
}

}  // namespace

Monitor::Monitor(Machine& m, MonitorFacts given)
    : machine(m),
      facts(std::move(given)),
      typer(m.clock(), [&m](uint8_t usage, bool down) { m.board().key(usage, down); }) {}

std::string Monitor::execute(const std::string& line) {
    std::vector<std::string> words = split(line);
    if (words.empty()) return {};
    // "x/4xb 0" is "x /4xb 0".
    size_t slash = words[0].find('/');
    if (slash != std::string::npos && slash > 0) {
        words.insert(words.begin() + 1, words[0].substr(slash));
        words[0].resize(slash);
    }
    if (words[0] == "type") {  // the text keeps its blanks
        size_t at = line.find("type") + 5;
        words = {"type", at < line.size() ? line.substr(at) : std::string()};
    }
    const MonitorCommand* c = find(commands(), words[0]);
    if (!c) return "unknown command '" + words[0] + "'; 'help' lists them\n";
    words.erase(words.begin());
    return c->run(*this, words);
}

}  // namespace kiln
