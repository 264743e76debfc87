// Finds and loads the window's module.
#include <dlfcn.h>

#include <filesystem>
#include <vector>

#include "frontend/display.hpp"

#ifndef KILN_MODULE_DIR
#define KILN_MODULE_DIR "/usr/local/lib/kiln"
#endif

namespace kiln {

namespace {

constexpr const char* kModule = "libkiln-sdl.so";

std::vector<std::filesystem::path> modulePaths() {
    std::error_code ignored;
    auto executable = std::filesystem::read_symlink("/proc/self/exe", ignored);
    std::vector<std::filesystem::path> paths;
    if (!executable.empty()) {
        paths.push_back(executable.parent_path() / kModule);
        paths.push_back(executable.parent_path() / "frontend" / kModule);  // in the build directory
    }
    paths.push_back(std::filesystem::path(KILN_MODULE_DIR) / kModule);
    return paths;
}

}  // namespace

// The module stays loaded until the program ends: SDL and the drivers below it don't like to be unloaded.
std::unique_ptr<Display> openSdlDisplay(DisplayHost& host, const std::string& title, std::string& error) {
    std::error_code ignored;
    for (const auto& path : modulePaths()) {
        if (!std::filesystem::exists(path, ignored)) continue;
        void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!module) {
            error = std::string("The window can't be opened: ") + dlerror() + ". -display none does without.";
            return nullptr;
        }
        auto create = reinterpret_cast<CreateSdlDisplay>(dlsym(module, kCreateSdlDisplay));
        if (create) return std::unique_ptr<Display>(create(host, title.c_str(), error));
        error = "'" + path.string() + "' is not kiln's window module.";
        return nullptr;
    }
    error = std::string("The window can't be opened: ") + kModule +
            " is neither beside the kiln executable nor in " KILN_MODULE_DIR ". -display none does without.";
    return nullptr;
}

}  // namespace kiln
