#include "frontend/stream_values.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <stdexcept>

#include "devices/comma_list.hpp"

namespace kiln {

namespace {

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

[[noreturn]] void refuseKey(const std::string& option, const std::string& key) {
    refuse(option + ": '" + key + "' is not implemented in kiln " + kVersion);
}

bool onOff(const std::string& option, const std::string& key, const std::string& value) {
    if (value == "on" || value == "yes") return true;
    if (value == "off" || value == "no") return false;
    refuse(option + ": " + key + "= takes on or off, not '" + value + "'");
}

uint16_t parsePort(const std::string& option, const std::string& text) {
    uint16_t port = 0;
    const char* end = text.data() + text.size();
    auto [stop, error] = std::from_chars(text.data(), end, port);
    if (error != std::errc() || stop != end || !port) refuse(option + ": '" + text + "' is no TCP port");
    return port;
}

// "key=value", or "key", which stands for on; QEMU's old "nokey" for off.
std::pair<std::string, std::string> keyOf(const std::string& part) {
    const size_t equals = part.find('=');
    if (equals != std::string::npos) return {part.substr(0, equals), part.substr(equals + 1)};
    if (part == "nowait" || part == "nodelay") return {part.substr(2), "off"};
    return {part, "on"};
}

// What a socket is asked to be. kiln listens, it does not call others.
struct SocketWishes {
    std::optional<bool> server, wait;

    bool take(const std::string& option, const std::string& key, const std::string& value) {
        if (key == "server")
            server = onOff(option, key, value);
        else if (key == "wait")
            wait = onOff(option, key, value);
        else if (key == "delay" || key == "nodelay" || key == "ipv4")
            onOff(option, key, value);
        else
            return false;
        return true;
    }
    // As in QEMU who listens waits for a client, if nothing else is said; but "unix:PATH" alone just listens.
    bool waits(const std::string& option) const {
        if (server == false)
            refuse(option + ": kiln only listens at sockets, it connects to none: write server=on");
        return wait.value_or(server.value_or(false));
    }
};

// "unix:PATH" or "tcp:HOST:PORT", and what else is said behind commas.
StreamTarget parseSocket(const std::string& option, const std::string& text) {
    StreamTarget target{.kind = StreamTarget::Socket};
    std::vector<std::string> parts = splitCommas(text);
    const std::string where = parts.empty() ? std::string() : parts[0].substr(parts[0].find(':') + 1);
    if (text.starts_with("unix:")) {
        target.socket.path = where;
        if (where.empty()) refuse(option + " " + text + ": the socket's path is missing");
    } else {
        const size_t colon = where.rfind(':');
        if (colon == std::string::npos) refuse(option + " " + text + ": write tcp:HOST:PORT");
        target.socket.host = where.substr(0, colon);
        if (std::string& host = target.socket.host; host.starts_with('[') && host.ends_with(']'))
            host = host.substr(1, host.size() - 2);  // an IPv6 address
        target.socket.port = parsePort(option, where.substr(colon + 1));
    }
    SocketWishes wishes;
    for (size_t i = 1; i < parts.size(); i++) {
        const auto [key, value] = keyOf(parts[i]);
        if (!wishes.take(option, key, value)) refuseKey(option, key);
    }
    target.wait = wishes.waits(option);
    return target;
}

struct StreamOption {
    const char* name;
    bool file, socket, monitor, shared;
    const char* takes;
};
constexpr StreamOption kOptions[] = {
    {"-serial", true, false, false, true, "stdio, mon:stdio, file:PATH, chardev:ID, null or none"},
    {"-debugcon", true, false, false, false, "stdio, file:PATH, chardev:ID, null or none"},
    {"-monitor", false, true, true, false, "stdio, unix:PATH, tcp:HOST:PORT, null or none"},
    {"-qmp", false, true, true, false, "stdio, unix:PATH, tcp:HOST:PORT, null or none"},
    {"-qmp-pretty", false, true, true, false, "stdio, unix:PATH, tcp:HOST:PORT, null or none"},
};

StreamTarget chardevSocket(const std::vector<std::pair<std::string, std::string>>& keys) {
    const std::string option = "-chardev socket";
    StreamTarget target{.kind = StreamTarget::Socket};
    SocketWishes wishes;
    for (const auto& [key, value] : keys) {
        if (key == "path")
            target.socket.path = value;
        else if (key == "host")
            target.socket.host = value;
        else if (key == "port")
            target.socket.port = parsePort(option, value);
        else if (!wishes.take(option, key, value))
            refuseKey(option, key);
    }
    if (target.socket.path.empty() == !target.socket.port) refuse(option + " needs either path= or port=");
    if (!wishes.server) wishes.server = false;
    target.wait = wishes.waits(option);
    return target;
}

StreamTarget chardevOf(const std::string& backend,
                       const std::vector<std::pair<std::string, std::string>>& keys) {
    if (backend == "socket") return chardevSocket(keys);
    StreamTarget target;
    if (backend == "stdio" || backend == "null")
        target.kind = backend == "null" ? StreamTarget::Null : StreamTarget::Stdio;
    else if (backend == "file")
        target.kind = StreamTarget::File;
    else
        refuse("-chardev " + backend + " is not implemented in kiln " + kVersion +
               ": it takes socket, stdio, file or null");
    for (const auto& [key, value] : keys) {
        if (key == "path" && backend == "file")
            target.path = value;
        else if (key == "signal" && backend == "stdio")
            onOff("-chardev stdio", key, value);
        else
            refuseKey("-chardev " + backend, key);
    }
    if (backend == "file" && target.path.empty()) refuse("-chardev file needs path=");
    return target;
}

}  // namespace

StreamTarget parseStream(const std::string& option, const std::string& text) {
    const StreamOption& o = *std::find_if(std::begin(kOptions), std::end(kOptions),
                                          [&](auto& row) { return option == row.name; });
    if (text == "none") return {.kind = StreamTarget::None};
    if (text == "null") return {.kind = StreamTarget::Null};
    if (text == "stdio") return {.kind = StreamTarget::Stdio};
    if (text == "mon:stdio" && o.shared) return {.kind = StreamTarget::Stdio, .withMonitor = true};
    if (text.starts_with("file:") && text.size() > 5 && o.file)
        return {.kind = StreamTarget::File, .path = text.substr(5)};
    if (text.starts_with("chardev:") && o.file) return {.chardev = text.substr(8)};
    if ((text.starts_with("unix:") || text.starts_with("tcp:")) && o.socket) return parseSocket(option, text);
    refuse(option + " " + text + " is not implemented in kiln " + kVersion + ": it takes " + o.takes);
}

std::string describe(const StreamTarget& target) {
    switch (target.kind) {
        case StreamTarget::Stdio: return target.withMonitor ? "mux" : "stdio";
        case StreamTarget::File: return "file";
        case StreamTarget::Socket: return target.socket.text() + ",server=on";
        case StreamTarget::None:
        case StreamTarget::Null: break;
    }
    return "null";
}

Chardev parseChardev(const std::string& text) {
    Chardev chardev;
    std::vector<std::string> parts = splitCommas(text);
    if (parts.empty() || parts[0].find('=') != std::string::npos)
        refuse("-chardev " + text + ": write socket, stdio, file or null first");
    std::vector<std::pair<std::string, std::string>> keys;
    for (size_t i = 1; i < parts.size(); i++) {
        const auto [key, value] = keyOf(parts[i]);
        if (key == "id")
            chardev.id = value;
        else if (key == "mux")
            chardev.shared = onOff("-chardev", key, value);
        else
            keys.emplace_back(key, value);
    }
    if (chardev.id.empty()) refuse("-chardev " + text + ": id= is missing");
    chardev.target = chardevOf(parts[0], keys);
    return chardev;
}

ChardevMonitor parseMon(const std::string& text) {
    ChardevMonitor monitor;
    for (const std::string& part : splitCommas(text)) {
        const size_t equals = part.find('=');
        const std::string key = equals == std::string::npos ? "chardev" : part.substr(0, equals);
        const std::string value = equals == std::string::npos ? part : part.substr(equals + 1);
        if (key == "chardev")
            monitor.chardev = value;
        else if (key == "mode" && (value == "control" || value == "readline"))
            monitor.control = value == "control";
        else if (key == "mode")
            refuse("-mon: mode= takes control or readline, not '" + value + "'");
        else if (key == "pretty")
            monitor.pretty = onOff("-mon", key, value);
        else
            refuseKey("-mon", key);
    }
    return monitor;
}

void joinChardevs(std::vector<Chardev> chardevs, const std::vector<ChardevMonitor>& monitors,
                  Options& options) {
    auto find = [&](const std::string& option, const std::string& id) -> Chardev& {
        for (Chardev& c : chardevs)
            if (c.id == id) return c;
        refuse(option + ": there is no -chardev with id=" + id);
    };
    auto take = [&](const std::string& option, const std::string& id) -> Chardev& {
        Chardev& c = find(option, id);
        if (c.taken && !c.shared) refuse(option + ": -chardev " + id + " is in use: it needs mux=on");
        c.taken = true;
        return c;
    };
    auto resolve = [&](const std::string& option, StreamTarget& stream) {
        if (stream.chardev.empty()) return;
        const Chardev& c = take(option, stream.chardev);
        if (c.target.kind == StreamTarget::Socket)
            refuse(option + ": a socket is for monitors only in kiln " + kVersion);
        stream = c.target;
        stream.chardev = c.id;
    };
    for (StreamTarget& s : options.serial) resolve("-serial", s);
    resolve("-debugcon", options.debugConsole);
    for (const ChardevMonitor& m : monitors) {
        const Chardev& c = take("-mon", m.chardev);
        options.monitorGiven = true;
        auto sharing = std::find_if(options.serial.begin(), options.serial.end(),
                                    [&](const StreamTarget& s) { return s.chardev == c.id; });
        if (c.target.kind == StreamTarget::File) refuse("-mon: a file gives no commands");
        if (c.target.kind == StreamTarget::Socket || m.control)
            options.monitors.push_back({c.id, "-mon", c.target, m.control, m.pretty});
        else if (sharing != options.serial.end())
            sharing->withMonitor = true;
        else
            options.monitor = c.target;
    }
}

}  // namespace kiln
