// The command line: QEMU's names for what QEMU has. `-foo` and `--foo` are alike. What kiln does not
// implement is refused by name, never accepted in silence.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "devices/lockstep.hpp"
#include "devices/machine.hpp"
#include "frontend/socket_server.hpp"

namespace kiln {

// Where a byte stream (serial port, monitor, debug console) goes.
struct StreamTarget {
    enum Kind { None, Null, Stdio, File, Socket } kind = None;
    std::string path{};        // File
    bool withMonitor = false;  // mon:stdio: Ctrl-A c switches to the monitor
    SocketAddress socket{};    // Socket; kiln listens there
    bool wait = false;         // Socket: for a client, before the machine starts
    std::string chardev{};     // the -chardev that it is
};

std::string describe(
    const StreamTarget& target);  // as query-chardev prints it: "file", "unix:PATH,server=on"

// A monitor at a socket.
struct MonitorRequest {
    std::string label{}, option{};  // "compat_monitor0"; "-qmp"
    StreamTarget target{};
    bool control = false;  // the machine protocol, otherwise lines for people
    bool pretty = false;
};

enum class DisplayChoice { Auto, Sdl, None };

struct Options {
    MachineConfig machine;
    DisplayChoice display = DisplayChoice::Auto;
    std::vector<StreamTarget> serial;  // COM1..COM4
    bool serialGiven = false;          // otherwise COM1 goes where it is useful
    StreamTarget monitor;              // the terminal's: Stdio, or none
    bool monitorGiven = false;
    std::vector<MonitorRequest> monitors;  // the others
    StreamTarget debugConsole;
    std::string logCategories, logFile;
    std::string name;
    bool statistics = false;  // at the end
    std::optional<LockstepOptions> lockstep;
};

// Either options, or what to print and the exit status to end with.
struct ParsedCommandLine {
    std::optional<Options> options;
    std::string output;  // for standard output (--help, --version)
    std::string error;   // one sentence
    std::vector<std::string> warnings;
    int exitCode = 0;
};

ParsedCommandLine parseCommandLine(const std::vector<std::string>& arguments);  // without the program's name

// How a disk image given without an option is attached: by its size or its contents.
DriveKind guessDriveKind(const std::string& path);

extern const char* const kVersion;

}  // namespace kiln
