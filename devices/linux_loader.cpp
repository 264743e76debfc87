#include "devices/linux_loader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "devices/embedded.hpp"

namespace kiln {

namespace {

// Offsets in the set-up header (boot.rst, "The Real-Mode Kernel Header").
namespace header {
constexpr size_t kSetupSectors = 0x1f1, kVideoMode = 0x1fa, kBootFlag = 0x1fe, kMagic = 0x202,
                 kVersion = 0x206, kTypeOfLoader = 0x210, kLoadFlags = 0x211, kRamdiskImage = 0x218,
                 kRamdiskSize = 0x21c, kHeapEnd = 0x224, kCommandLinePointer = 0x228,
                 kInitrdAddressMax = 0x22c, kCommandLineSize = 0x238, kPreferredAddress = 0x258,
                 kInitSize = 0x260;
constexpr size_t kSmallestFile = 0x268;
}  // namespace header

constexpr uint8_t kLoadedHigh = 0x01, kCanUseHeap = 0x80;
constexpr uint8_t kUndefinedLoader = 0xff;
constexpr uint16_t kOldCommandLineMagic = 0xa33f;  // protocol 2.00 and 2.01, at 0x20 and 0x22
constexpr uint16_t kOldCommandLineOffset = 0xf000;
constexpr uint64_t kFirmwareReserve = 1 << 20;  // tables at the top of RAM; the boot ROM knows exactly
constexpr uint64_t kLargestFile = 0x7fffffff;

template <class T>
T get(const std::vector<uint8_t>& bytes, size_t at) {
    T v;
    std::memcpy(&v, &bytes[at], sizeof v);
    return v;
}

template <class T>
void put(std::vector<uint8_t>& bytes, size_t at, T v) {
    std::memcpy(&bytes[at], &v, sizeof v);
}

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

bool hasSetupHeader(const std::vector<uint8_t>& image) {
    return image.size() >= header::kSmallestFile && get<uint16_t>(image, header::kBootFlag) == 0xaa55 &&
           std::memcmp(&image[header::kMagic], "HdrS", 4) == 0;
}

void checkFormat(const std::vector<uint8_t>& image, const std::string& name) {
    if (image.empty()) refuse("the kernel '" + name + "' is empty");
    if (!hasSetupHeader(image))
        refuse("'" + name +
               "' is no kernel: -kernel takes Linux (files like /boot/vmlinuz-*), Multiboot and ELF kernels");
    if (get<uint16_t>(image, header::kVersion) < 0x200 || !(image[header::kLoadFlags] & kLoadedHigh))
        refuse("the kernel '" + name + "' is a zImage, which kiln can't start: build it as a bzImage");
}

size_t setupSize(const std::vector<uint8_t>& image) {
    size_t sectors = image[header::kSetupSectors];
    return ((sectors ? sectors : 4) + 1) * 512;
}

// Where the kernel unpacks itself to: it needs the RAM up to here before the initial RAM disk.
uint64_t kernelEnd(const LinuxImage& linux) {
    uint64_t end = LinuxImage::kKernelAddress + linux.kernel.size();
    if (get<uint16_t>(linux.setup, header::kVersion) < 0x20a) return end;
    uint64_t preferred = get<uint64_t>(linux.setup, header::kPreferredAddress);
    uint64_t initSize = get<uint32_t>(linux.setup, header::kInitSize);
    if (preferred > 0xffffffff) return end;
    return std::max(end, preferred + initSize);
}

void placeInitrd(LinuxImage& linux, const KernelConfig& config, uint64_t lowRam) {
    uint16_t version = get<uint16_t>(linux.setup, header::kVersion);
    uint64_t last = version >= 0x203 ? get<uint32_t>(linux.setup, header::kInitrdAddressMax) : 0x37ffffff;
    uint64_t top = std::min(lowRam > kFirmwareReserve ? lowRam - kFirmwareReserve : 0, last + 1);
    uint64_t size = linux.initrd.size();
    uint64_t address = size < top ? (top - size) & ~4095ull : 0;
    if (address < kernelEnd(linux)) {
        uint64_t needed = (kernelEnd(linux) + size + kFirmwareReserve + (1 << 20)) >> 20;
        refuse("the guest's memory is too small for the kernel '" + config.kernel + "'" +
               (size ? " and the initrd '" + config.initrd + "'" : std::string()) + ": give at least -m " +
               std::to_string(needed) + "M");
    }
    linux.initrdAddress = uint32_t(address);
}

void checkCommandLine(const LinuxImage& linux) {
    uint16_t version = get<uint16_t>(linux.setup, header::kVersion);
    uint32_t longest = version >= 0x206 ? get<uint32_t>(linux.setup, header::kCommandLineSize) : 255;
    longest = std::min<uint32_t>(longest, 0xffff);
    if (linux.commandLine.size() > longest)
        refuse("the kernel's command line (-append) is " + std::to_string(linux.commandLine.size()) +
               " characters long; this kernel takes " + std::to_string(longest));
}

// `vga=` on the command line is the loader's to obey (boot.rst, "Special Command Line Options"); the last one
// counts. What is none of the words and no number is left to the kernel's own default.
std::optional<uint16_t> videoMode(const std::string& commandLine) {
    std::istringstream words(commandLine);
    std::optional<uint16_t> mode;
    for (std::string word; words >> word;) {
        if (!word.starts_with("vga=")) continue;
        std::string value = word.substr(4);
        char* end = nullptr;
        unsigned long number = std::strtoul(value.c_str(), &end, 0);
        if (value == "normal")
            mode = 0xffff;
        else if (value == "ext")
            mode = 0xfffe;
        else if (value == "ask")
            mode = 0xfffd;
        else if (!value.empty() && !*end && number <= 0xffff)
            mode = uint16_t(number);
    }
    return mode;
}

void fillHeader(LinuxImage& linux) {
    uint16_t version = get<uint16_t>(linux.setup, header::kVersion);
    linux.setup[header::kTypeOfLoader] = kUndefinedLoader;
    if (auto mode = videoMode(linux.commandLine)) put(linux.setup, header::kVideoMode, *mode);
    if (version >= 0x202) {
        put<uint32_t>(linux.setup, header::kCommandLinePointer, linux.commandLineAddress);
    } else {  // an offset in the set-up code's segment
        linux.commandLineAddress = LinuxImage::kSetupAddress + kOldCommandLineOffset;
        put<uint16_t>(linux.setup, 0x20, kOldCommandLineMagic);
        put<uint16_t>(linux.setup, 0x22, kOldCommandLineOffset);
    }
    if (version >= 0x201) {
        linux.setup[header::kLoadFlags] |= kCanUseHeap;
        put<uint16_t>(linux.setup, header::kHeapEnd,
                      uint16_t(linux.commandLineAddress - LinuxImage::kSetupAddress - 0x200));
    }
    put<uint32_t>(linux.setup, header::kRamdiskImage, linux.initrd.empty() ? 0 : linux.initrdAddress);
    put<uint32_t>(linux.setup, header::kRamdiskSize, uint32_t(linux.initrd.size()));
}

struct FileDescriptor {
    int fd;
    ~FileDescriptor() {
        if (fd >= 0) close(fd);
    }
};

}  // namespace

bool isLinux(const std::vector<uint8_t>& image) { return hasSetupHeader(image); }

LinuxImage parseLinux(std::vector<uint8_t> bzImage, std::vector<uint8_t> initrd, const KernelConfig& config,
                      uint64_t lowRam) {
    checkFormat(bzImage, config.kernel);
    size_t setup = setupSize(bzImage);
    if (setup >= bzImage.size())
        refuse("the kernel '" + config.kernel + "' is truncated: it ends inside its set-up code");
    LinuxImage linux;
    linux.setup.assign(bzImage.begin(), bzImage.begin() + ptrdiff_t(setup));
    linux.kernel.assign(bzImage.begin() + ptrdiff_t(setup), bzImage.end());
    // From 2.04 on syssize counts the protected-mode part in 16-byte units.
    if (get<uint16_t>(linux.setup, header::kVersion) >= 0x204) {
        uint64_t whole = uint64_t(get<uint32_t>(linux.setup, 0x1f4)) * 16;
        if (linux.kernel.size() + 15 < whole)
            refuse("the kernel '" + config.kernel + "' is truncated: " + std::to_string(linux.kernel.size()) +
                   " of " + std::to_string(whole) + " bytes of its protected-mode code are there");
    }
    linux.initrd = std::move(initrd);
    linux.commandLine = config.commandLine;
    checkCommandLine(linux);
    placeInitrd(linux, config, lowRam);
    fillHeader(linux);
    return linux;
}

std::vector<uint8_t> readWholeFile(const std::string& path, const std::string& what, uint64_t limit) {
    FileDescriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat status;
    if (file.fd < 0 || fstat(file.fd, &status) < 0)
        refuse("can't open the " + what + " '" + path + "': " + std::strerror(errno));
    if (S_ISDIR(status.st_mode)) refuse("the " + what + " '" + path + "' is a directory");
    if (uint64_t(status.st_size) > limit)
        refuse("the " + what + " '" + path + "' is too large: " + std::to_string(status.st_size) +
               " bytes, at most " + std::to_string(limit) + " are possible");
    std::vector<uint8_t> bytes(static_cast<size_t>(status.st_size));
    size_t have = 0;
    while (have < bytes.size()) {
        ssize_t n = ::read(file.fd, bytes.data() + have, bytes.size() - have);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) refuse("can't read the " + what + " '" + path + "': " + std::strerror(errno));
        if (n == 0) break;
        have += size_t(n);
    }
    bytes.resize(have);
    return bytes;
}

std::vector<uint8_t> linuxBootRom() {
    std::vector<uint8_t> rom(kBootRom.begin(), kBootRom.end());
    rom.back() = 0;
    rom.back() = uint8_t(-std::accumulate(rom.begin(), rom.end(), 0u));
    return rom;
}

void offerLinux(FwCfg& fwCfg, const KernelConfig& config, std::vector<uint8_t> bzImage, uint64_t lowRam) {
    std::vector<uint8_t> initrd;
    if (!config.initrd.empty()) {
        initrd = readWholeFile(config.initrd, "initrd", kLargestFile);
        if (initrd.empty()) refuse("the initrd '" + config.initrd + "' is empty");
    }
    LinuxImage linux = parseLinux(std::move(bzImage), std::move(initrd), config, lowRam);
    std::vector<uint8_t> commandLine(linux.commandLine.begin(), linux.commandLine.end());
    commandLine.push_back(0);

    fwCfg.add32(FwCfgKey::SetupAddress, LinuxImage::kSetupAddress);
    fwCfg.add32(FwCfgKey::SetupSize, uint32_t(linux.setup.size()));
    fwCfg.add(FwCfgKey::SetupData, std::move(linux.setup));
    fwCfg.add32(FwCfgKey::CommandLineAddress, linux.commandLineAddress);
    fwCfg.add32(FwCfgKey::CommandLineSize, uint32_t(commandLine.size()));
    fwCfg.add(FwCfgKey::CommandLineData, std::move(commandLine));
    fwCfg.add32(FwCfgKey::KernelAddress, LinuxImage::kKernelAddress);
    fwCfg.add32(FwCfgKey::KernelSize, uint32_t(linux.kernel.size()));
    fwCfg.add(FwCfgKey::KernelData, std::move(linux.kernel));
    fwCfg.add32(FwCfgKey::InitrdAddress, linux.initrdAddress);
    fwCfg.add32(FwCfgKey::InitrdSize, uint32_t(linux.initrd.size()));
    fwCfg.add(FwCfgKey::InitrdData, std::move(linux.initrd));
    fwCfg.addFile("genroms/kilnboot.bin", linuxBootRom());
}

}  // namespace kiln
