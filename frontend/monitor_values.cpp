#include "frontend/monitor_values.hpp"

#include "frontend/expression.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>

namespace kiln {

namespace {

// Prints a device's fields, as state() names them.
class StateText : public StateVisitor {
  public:
    void bytes(std::string_view name, void* data, size_t size) override {
        auto* p = static_cast<const uint8_t*>(data);
        if (size <= 8) {
            uint64_t v = 0;
            std::memcpy(&v, p, size);
            text += fmt::format("  {:<24} {:#x}\n", name, v);
            return;
        }
        text += fmt::format("  {:<24}", name);
        for (size_t i = 0; i < std::min<size_t>(size, 32); i++) text += fmt::format(" {:02x}", p[i]);
        text += size > 32 ? fmt::format(" ... ({} bytes)\n", size) : "\n";
    }
    std::string text;
};

}  // namespace

bool parseNumber(const std::string& text, uint64_t& out) {
    const bool hex = text.starts_with("0x") || text.starts_with("0X");
    auto [stop, error] =
        std::from_chars(text.data() + (hex ? 2 : 0), text.data() + text.size(), out, hex ? 16 : 10);
    return error == std::errc() && stop == text.data() + text.size();
}

bool parseSigned(const std::string& text, int& out) {
    auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc() && stop == text.data() + text.size();
}

bool parseExpression(Monitor& monitor, const std::string& text, uint64_t& out, std::string& error) {
    return evaluate(text, monitor.cpu(), out, error);
}

std::string joined(const MonitorArguments& words) {
    std::string out;
    for (const std::string& w : words) out += (out.empty() ? "" : " ") + w;
    return out;
}

std::string describeDevice(Device& device) {
    StateText text;
    device.state(text);
    return text.text;
}

std::string driveName(const DriveConfig& drive) {
    if (drive.kind == DriveKind::Floppy) return fmt::format("floppy{}", drive.index);
    return fmt::format("ide{}-{}{}", drive.index / 2, drive.kind == DriveKind::Cdrom ? "cd" : "hd",
                       drive.index % 2);
}

uint64_t imageSize(const std::string& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    const std::streamoff size = file ? std::streamoff(file.tellg()) : 0;
    return size > 0 ? uint64_t(size) : 0;
}

}  // namespace kiln
