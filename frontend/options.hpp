// The command line: QEMU's names for what QEMU has. `-foo` and `--foo` are alike. What kiln does not
// implement is refused by name, never accepted in silence.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "devices/lockstep.hpp"
#include "devices/machine.hpp"

namespace kiln {

// Where a byte stream (serial port, monitor, debug console) goes.
struct StreamTarget {
    enum Kind { None, Null, Stdio, File, UnixSocket } kind = None;
    std::string path;          // File, UnixSocket
    bool withMonitor = false;  // mon:stdio: Ctrl-A c switches to the monitor
};

enum class DisplayChoice { Auto, Sdl, None };

struct Options {
    MachineConfig machine;
    DisplayChoice display = DisplayChoice::Auto;
    std::vector<StreamTarget> serial;  // COM1..COM4
    bool serialGiven = false;          // otherwise COM1 goes where it is useful
    StreamTarget monitor;
    bool monitorGiven = false;
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
