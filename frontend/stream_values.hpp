// The values of options that say where bytes go: -serial, -monitor, -qmp, -debugcon, -chardev, -mon. Each
// throws std::runtime_error with a sentence that names the option.
#pragma once
#include <string>
#include <vector>

#include "frontend/options.hpp"

namespace kiln {

StreamTarget parseStream(const std::string& option, const std::string& text);

// -chardev: a stream with a name, for -mon and others to take.
struct Chardev {
    std::string id;
    StreamTarget target;
    bool shared = false;  // mux=on
    bool taken = false;
};
Chardev parseChardev(const std::string& text);

// -mon chardev=ID,mode=readline|control,pretty=on|off
struct ChardevMonitor {
    std::string chardev;
    bool control = false, pretty = false;
};
ChardevMonitor parseMon(const std::string& text);

// Puts -chardev's streams where -mon, -serial chardev:ID and -debugcon chardev:ID want them.
void joinChardevs(std::vector<Chardev> chardevs, const std::vector<ChardevMonitor>& monitors,
                  Options& options);

}  // namespace kiln
