#include "devices/kernel_loader.hpp"

#include <sys/stat.h>

#include <stdexcept>

#include "devices/comma_list.hpp"
#include "devices/multiboot.hpp"
#include "devices/pvh.hpp"

namespace kiln {

namespace {

constexpr uint64_t kLargestFile = 0x7fffffff;

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

bool exists(const std::string& path) {
    struct stat status;
    return stat(path.c_str(), &status) == 0;
}

std::vector<BootModule> readModules(const std::string& initrd) {
    std::vector<BootModule> modules;
    if (initrd.empty()) return modules;
    // A name with spaces and commas in it, for kernels that take one file only.
    std::vector<std::string> texts = exists(initrd) ? std::vector{initrd} : splitModules(initrd);
    for (const std::string& text : texts) {
        std::string path = exists(text) ? text : text.substr(0, text.find(' '));
        modules.push_back({text, readWholeFile(path, "initrd", kLargestFile)});
        if (modules.back().bytes.empty()) refuse("the initrd '" + path + "' is empty");
    }
    return modules;
}

}  // namespace

std::vector<std::string> splitModules(const std::string& text) {
    std::vector<std::string> parts = splitCommas(text);
    for (std::string& part : parts) {
        part.erase(0, part.find_first_not_of(' '));
        if (part.empty()) refuse("-initrd: there is no file name in a part of '" + text + "'");
    }
    return parts;
}

BootPlan planKernel(const BootRequest& request) {
    if (isMultiboot1(request.image)) return planMultiboot1(request);
    if (isMultiboot2(request.image)) return planMultiboot2(request);
    return planElf(request);
}

void offerKernel(FwCfg& fwCfg, const KernelConfig& config, uint64_t lowRam) {
    std::vector<uint8_t> image = readWholeFile(config.kernel, "kernel", kLargestFile);
    bool gzip = image.size() > 2 && image[0] == 0x1f && image[1] == 0x8b;
    if (gzip) refuse("the kernel '" + config.kernel + "' is packed with gzip: unpack it with 'gunzip' first");
    bool linux = isLinux(image);
    if (linux || !(isMultiboot1(image) || isMultiboot2(image) || ElfImage::isElf(image))) {
        offerLinux(fwCfg, config, std::move(image), lowRam);
        return;
    }
    BootRequest request{config.kernel, config.commandLine, std::move(image), readModules(config.initrd),
                        lowRam};
    offerPlan(fwCfg, planKernel(request));
}

}  // namespace kiln
