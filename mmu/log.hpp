// The debug log (-d categories, -D file). One per machine; a category that is off costs one test.
#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace kiln {

// What `-d` takes, comma-separated. `GuestErrors` is where guest oddities go (always rate-limited).
enum class LogCategory : unsigned { Int, GuestErrors, Cpu, Mmu, Pci, Disk, Firmware, Display, Exec, Count };

class Log {
  public:
    Log() = default;
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;
    ~Log();

    // Turns categories on by name ("int,pci", or "all"). Returns the name that is unknown, or "".
    std::string enable(std::string_view names);
    void disable() { mask_ = 0; }  // all of them
    // Sends the log to a file (default: standard error). False when it can't be opened.
    bool openFile(const std::string& path);
    static std::string categoryNames();

    bool on(LogCategory c) const { return mask_ >> unsigned(c) & 1; }
    template <class... Args>
    void operator()(LogCategory c, fmt::format_string<Args...> format, Args&&... args) {
        if (on(c)) line(c, fmt::format(format, std::forward<Args>(args)...));
    }
    // A guest did something that makes no sense: at most 10 lines per distinct `what`, with the values after
    // it.
    template <class... Args>
    void oddity(std::string_view what, fmt::format_string<Args...> format, Args&&... args) {
        if (on(LogCategory::GuestErrors)) oddityLine(what, fmt::format(format, std::forward<Args>(args)...));
    }

  private:
    void line(LogCategory c, const std::string& text);
    void oddityLine(std::string_view what, const std::string& text);

    unsigned mask_ = 0;
    std::mutex mutex_;
    std::FILE* out_ = stderr;
    std::map<std::string, uint64_t, std::less<>> oddities_;
};

}  // namespace kiln
