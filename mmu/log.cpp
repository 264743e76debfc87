#include "mmu/log.hpp"

#include <array>

namespace kiln {

namespace {
constexpr std::array<std::string_view, size_t(LogCategory::Count)> kNames = {
    "int", "guest_errors", "cpu", "mmu", "pci", "disk", "firmware", "display", "exec"};
constexpr uint64_t kOddityLines = 10;
}  // namespace

Log::~Log() {
    if (out_ != stderr) std::fclose(out_);
}

std::string Log::enable(std::string_view names) {
    while (!names.empty()) {
        size_t comma = names.find(',');
        std::string_view name = names.substr(0, comma);
        names = comma == names.npos ? std::string_view{} : names.substr(comma + 1);
        unsigned bits = name == "all" ? (1u << kNames.size()) - 1 : 0;
        for (size_t i = 0; i < kNames.size(); i++)
            if (kNames[i] == name) bits = 1u << i;
        if (!bits) return std::string(name);
        mask_ |= bits;
    }
    return "";
}

bool Log::openFile(const std::string& path) {
    std::FILE* f = std::fopen(path.c_str(), "w");
    if (!f) return false;
    std::setvbuf(f, nullptr, _IOLBF, 0);
    if (out_ != stderr) std::fclose(out_);
    out_ = f;
    return true;
}

std::string Log::categoryNames() {
    std::string all;
    for (auto name : kNames) {
        if (!all.empty()) all += ',';
        all += name;
    }
    return all;
}

void Log::line(LogCategory c, const std::string& text) {
    fmt::print(out_, "{}: {}\n", kNames[size_t(c)], text);  // one write: lines of threads don't mix
}

void Log::oddityLine(std::string_view what, const std::string& text) {
    uint64_t count;
    {
        std::lock_guard lock(mutex_);
        auto it = oddities_.find(what);
        if (it == oddities_.end()) it = oddities_.emplace(std::string(what), 0).first;
        count = ++it->second;
    }
    if (count > kOddityLines) return;
    line(LogCategory::GuestErrors,
         fmt::format("{}: {}{}", what, text, count == kOddityLines ? " (further ones not shown)" : ""));
}

}  // namespace kiln
