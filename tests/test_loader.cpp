#include <doctest/doctest.h>

#include <unistd.h>
#include <cstring>
#include <fstream>
#include <numeric>

#include "devices/linux_loader.hpp"

using namespace kiln;

namespace {

constexpr uint64_t kMiB = 1 << 20;

// The smallest bzImage there is: 4 set-up sectors and `kernelBytes` of protected-mode code.
std::vector<uint8_t> bzImage(size_t kernelBytes = 4096) {
    std::vector<uint8_t> b(5 * 512 + kernelBytes, 0x90);
    std::fill_n(b.begin() + 0x1f1, 0x80, uint8_t(0));
    auto put = [&](size_t at, uint64_t v, unsigned size) { std::memcpy(&b[at], &v, size); };
    put(0x1f1, 4, 1);
    put(0x1f4, kernelBytes / 16, 4);
    put(0x1fe, 0xaa55, 2);
    std::memcpy(&b[0x202], "HdrS", 4);
    put(0x206, 0x20f, 2);
    put(0x211, 0x01, 1);
    put(0x22c, 0x7fffffff, 4);  // initrd_addr_max
    put(0x238, 2047, 4);        // cmdline_size
    put(0x258, 0x1000000, 8);   // pref_address
    put(0x260, 8 * kMiB, 4);    // init_size
    return b;
}

template <class T>
T get(const std::vector<uint8_t>& b, size_t at) {
    T v;
    std::memcpy(&v, &b[at], sizeof v);
    return v;
}

std::string complaint(std::vector<uint8_t> image, std::vector<uint8_t> initrd = {}, KernelConfig config = {},
                      uint64_t lowRam = 128 * kMiB) {
    config.kernel = "KERNEL";
    config.initrd = "INITRD";
    try {
        parseLinux(std::move(image), std::move(initrd), config, lowRam);
    } catch (const std::exception& e) { return e.what(); }
    return "";
}

bool mentions(const std::string& sentence, const char* what) {
    return sentence.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("loader: a bzImage is taken apart and its header filled in") {
    KernelConfig config{"k", "i", "console=ttyS0"};
    LinuxImage l = parseLinux(bzImage(), std::vector<uint8_t>(5000, 1), config, 128 * kMiB);
    CHECK(l.setup.size() == 5 * 512);
    CHECK(l.kernel.size() == 4096);
    CHECK(l.setup[0x210] == 0xff);
    CHECK(l.setup[0x211] == 0x81);
    CHECK(get<uint16_t>(l.setup, 0x224) == 0xfe00);
    CHECK(get<uint32_t>(l.setup, 0x228) == LinuxImage::kCommandLineAddress);
    CHECK(get<uint32_t>(l.setup, 0x21c) == 5000);
    CHECK(get<uint32_t>(l.setup, 0x218) == l.initrdAddress);
    CHECK(l.initrdAddress % 4096 == 0);
    CHECK(l.initrdAddress + 5000 <= 127 * kMiB);
    CHECK(l.initrdAddress + 5000 > 127 * kMiB - 8192);
}

TEST_CASE("loader: vga= goes into the header, as boot loaders do it") {
    auto mode = [](const char* commandLine) {
        auto image = bzImage();
        image[0x1fa] = 0x34, image[0x1fb] = 0x12;
        return get<uint16_t>(parseLinux(image, {}, {"k", "", commandLine}, 128 * kMiB).setup, 0x1fa);
    };
    CHECK(mode("") == 0x1234);
    CHECK(mode("vga=791") == 791);
    CHECK(mode("quiet vga=0x317 console=tty0") == 0x317);
    CHECK(mode("vga=ask vga=ext") == 0xfffe);
    CHECK(mode("vga=normal") == 0xffff);
    CHECK(mode("vga= xvga=1 vga=65536 vga=12x") == 0x1234);
}

TEST_CASE("loader: the initrd stays below what the kernel allows") {
    auto image = bzImage();
    uint32_t most = 0x37ffffff;
    std::memcpy(&image[0x22c], &most, 4);
    LinuxImage l = parseLinux(image, std::vector<uint8_t>(4096), {"k", "i", ""}, 2048 * kMiB);
    CHECK(l.initrdAddress == 0x37fff000);
}

TEST_CASE("loader: an old protocol gets its command line by magic number") {
    auto image = bzImage();
    image[0x206] = 0x01;  // 2.01
    LinuxImage l = parseLinux(image, {}, {"k", "", "abc"}, 128 * kMiB);
    CHECK(get<uint16_t>(l.setup, 0x20) == 0xa33f);
    CHECK(get<uint16_t>(l.setup, 0x22) == 0xf000);
    CHECK(l.commandLineAddress == 0x1f000);
    image[0x206] = 0x00;  // 2.00 has no heap field
    CHECK(parseLinux(image, {}, {"k", "", ""}, 128 * kMiB).setup[0x211] == 0x01);
}

TEST_CASE("loader: what isn't a kernel is refused in one sentence") {
    CHECK(mentions(complaint({}), "is empty"));
    CHECK(mentions(complaint(std::vector<uint8_t>(100)), "is no kernel"));
    CHECK(mentions(complaint(std::vector<uint8_t>(100000)), "is no kernel"));
    auto zImage = bzImage();
    zImage[0x211] = 0;
    CHECK(mentions(complaint(zImage), "zImage"));
    auto truncated = bzImage();
    truncated.resize(4000);
    CHECK(mentions(complaint(truncated), "truncated"));
    truncated.resize(0x300);
    CHECK(mentions(complaint(truncated), "truncated"));
    KernelConfig longLine;
    longLine.commandLine = std::string(3000, 'x');
    CHECK(mentions(complaint(bzImage(), {}, longLine), "command line"));
    CHECK(mentions(complaint(bzImage(), {}, {}, 16 * kMiB), "-m"));
    CHECK(mentions(complaint(bzImage(), std::vector<uint8_t>(100 * kMiB), {}, 120 * kMiB), "INITRD"));
    CHECK(complaint(bzImage()).empty());
}

TEST_CASE("loader: random headers never crash") {
    uint64_t seed = 1;
    for (unsigned n = 0; n < 2000; n++) {
        auto image = bzImage(1024);
        for (unsigned i = 0; i < 6; i++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            image[0x1f1 + (seed >> 33) % 0x77] = uint8_t(seed >> 56);
        }
        complaint(image, std::vector<uint8_t>(100));
    }
}

TEST_CASE("loader: the option ROM is one that firmware accepts") {
    std::vector<uint8_t> rom = linuxBootRom();
    CHECK(get<uint16_t>(rom, 0) == 0xaa55);
    CHECK(rom.size() == rom[2] * 512u);
    CHECK(std::accumulate(rom.begin(), rom.end(), 0u) % 256 == 0);
    size_t pnp = get<uint16_t>(rom, 0x1a);
    CHECK(std::memcmp(&rom[pnp], "$PnP", 4) == 0);
    CHECK(std::accumulate(&rom[pnp], &rom[pnp] + rom[pnp + 5] * 16, 0u) % 256 == 0);
    CHECK(get<uint16_t>(rom, pnp + 0x1a) != 0);  // boot entry vector
}

TEST_CASE("loader: files that can't be read are refused") {
    auto why = [](const std::string& path, uint64_t limit = 1000) -> std::string {
        try {
            readWholeFile(path, "kernel", limit);
        } catch (const std::exception& e) { return e.what(); }
        return "";
    };
    CHECK(mentions(why("/nonexistent/kernel"), "can't open the kernel"));
    CHECK(mentions(why("/tmp"), "is a directory"));
    std::string path = "/tmp/kiln-test-" + std::to_string(getpid());
    std::ofstream(path) << std::string(2000, 'x');
    CHECK(mentions(why(path), "too large"));
    CHECK(why(path, 4000).empty());
    unlink(path.c_str());
}
