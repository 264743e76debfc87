// Multiboot, PVH and ELF kernels: whole boots of boot_kernel.asm through SeaBIOS (where it is installed), and
// images that nobody should be able to start.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>

#include "devices/kernel_loader.hpp"
#include "devices/machine.hpp"
#include "devices/multiboot.hpp"
#include "devices/pvh.hpp"
#include "tests/boot_kernels.hpp"
#include "tests/cpu_bench.hpp"

using namespace kiln;

namespace {

constexpr uint64_t kMiB = 1 << 20;

std::vector<uint8_t> kernel(unsigned kind, bool graphics = false) {
    auto bytes = bootKernel(kind, graphics);
    return {bytes.begin(), bytes.end()};
}

BootRequest request(std::vector<uint8_t> image, uint64_t lowRam = 64 * kMiB) {
    return {"KERNEL", "words", std::move(image), {{"MODULE x", std::vector<uint8_t>(5000, 7)}}, lowRam};
}

std::string complaint(const BootRequest& r) {
    try {
        planKernel(r);
    } catch (const std::runtime_error& e) { return e.what(); }
    return "";
}

bool mentions(const std::string& sentence, const std::string& words) {
    return sentence.find(words) != std::string::npos;
}

template <class T>
void put(std::vector<uint8_t>& bytes, size_t at, T v) {
    std::memcpy(&bytes[at], &v, sizeof v);
}

size_t find(const std::vector<uint8_t>& bytes, uint32_t word) {
    for (size_t at = 0; at + 4 <= bytes.size(); at += 4)
        if (std::memcmp(&bytes[at], &word, 4) == 0) return at;
    return SIZE_MAX;
}

constexpr uint32_t kMagic1 = 0x1badb002, kMagic2 = 0xe85250d6;

struct TemporaryFile {
    TemporaryFile(const std::string& name, std::span<const uint8_t> bytes)
        : path("/tmp/kiln-test-" + std::to_string(getpid()) + "-" + name) {
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
    }
    ~TemporaryFile() { unlink(path.c_str()); }
    std::string path;
};

std::span<const uint8_t> bytesOf(std::string_view text) {  // with its terminator
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size() + 1};
}

// What the kernel said, without the firmware's own words; empty where there is no firmware.
std::string boot(unsigned kind, bool graphics, bool modules) {
    MachineConfig c;
    c.translator = test::chosenTranslator();
    c.firmware = "/usr/share/seabios/bios-256k.bin";
    c.videoBios = "/usr/share/seabios/vgabios-stdvga.bin";
    if (!std::ifstream(c.firmware) || !std::ifstream(c.videoBios)) return "";
    TemporaryFile image("kernel", bootKernel(kind, graphics)), one("one", bytesOf("first module")),
        two("two", bytesOf("second"));
    c.memory = 64 * kMiB;
    c.debugConsole = true;
    c.debugExit.emplace();
    c.rtcStart = 0;
    c.icountShift = 2;
    c.kernel = {image.path, modules ? one.path + " one," + two.path : "", "arg1 arg2"};
    std::string said;
    MachineOutputs outputs;
    outputs.debugConsole = [&](uint8_t byte) { said += char(byte); };
    Machine m(c, outputs);
    CHECK(m.run().exitCode == 7);
    size_t begin = said.rfind("eax ");
    REQUIRE(begin != std::string::npos);
    said.erase(0, begin);
    for (const auto& [path, word] : {std::pair{image.path, "K"}, {one.path, "ONE"}, {two.path, "TWO"}})
        for (size_t at; (at = said.find(path)) != std::string::npos;) said.replace(at, path.size(), word);
    return said;
}

constexpr const char* kRam = "ram 00000000\nram 00100000\n";

}  // namespace

TEST_CASE("kernels: Multiboot, flat and as ELF of both classes, with modules") {
    for (unsigned kind : {1, 2, 3}) {
        CAPTURE(kind);
        std::string said = boot(kind, false, true);
        if (said.empty()) continue;
        bool elf = kind != 1;
        CHECK(said == std::string("eax 2badb002\nflags 000002") + (elf ? "6" : "4") +
                          "f\nlower 0000027f\nupper 0000fbf8\nK arg1 arg2\nkiln\n"
                          "ONE one\nlength 0000000d\nfirst module\nTWO\nlength 00000007\nsecond\n" +
                          kRam + (elf ? "sections 00000003\n.text\n" : ""));
    }
}

TEST_CASE("kernels: Multiboot2, with modules, sections, ACPI and relocation") {
    for (unsigned kind : {4, 5, 6}) {
        CAPTURE(kind);
        std::string said = boot(kind, false, true);
        if (said.empty()) continue;
        CHECK(said ==
              std::string("eax 36d76289\ntag 00000004\ntag 00000001\nK arg1 arg2\ntag 00000002\nkiln\n"
                          "tag 00000003\nfirst module\nONE one\ntag 00000003\nsecond\nTWO\n") +
                  (kind != 6 ? "tag 00000009\n" : "") +
                  (kind == 5 ? "tag 00000015\nbase 01000000\nbase 01000000\n" : "") + "tag 00000006\n" +
                  kRam +
                  "tag 00000008\nwidth 00000050\ndepth 00000010\nkind 00000002\n"
                  "tag 0000000e\ntag 0000000f\ntag 00000000\n");
    }
}

TEST_CASE("kernels: a graphics mode for those that ask") {
    constexpr const char* kMode = "width 00000320\ndepth 00000020\nkind 00000001\n";
    std::string one = boot(2, true, false), two = boot(5, true, false);
    if (one.empty()) return;
    CHECK(mentions(one, "flags 00001a6f"));
    CHECK(mentions(one, kMode));
    CHECK(mentions(two, std::string("tag 00000008\n") + kMode + "tag 00000007\n"));
}

TEST_CASE("kernels: PVH, and ELF files without any protocol") {
    struct Kernel {
        unsigned kind;
        const char* eax;
    };
    for (Kernel k : {Kernel{7, "00000000"}, Kernel{8, "00000000"}, Kernel{9, "676e6f6c"}}) {
        CAPTURE(k.kind);
        std::string said = boot(k.kind, false, true);
        if (said.empty()) continue;
        CHECK(said ==
              std::string("eax ") + k.eax + "\narg1 arg2\nfirst module\nONE one\nsecond\nTWO\n" + kRam);
    }
}

TEST_CASE("kernels: modules lie behind the kernel, apart, on pages") {
    BootRequest r = request(kernel(1));
    r.modules.push_back({"second", std::vector<uint8_t>(1)});
    BootPlan plan = planMultiboot1(r);
    REQUIRE(plan.parts.size() == 4);
    uint32_t end = plan.parts[0].address + plan.parts[0].memorySize;
    CHECK(plan.parts[1].address % 4096 == 0);
    CHECK(plan.parts[1].address >= end);
    CHECK(plan.parts[2].address == ((plan.parts[1].address + 5000 + 4095) & ~4095u));
    CHECK(plan.info == 0x9000);
    CHECK(plan.parts[3].address == 0x9000);
}

TEST_CASE("kernels: what they are told makes way for a kernel in low memory") {
    auto image = kernel(1);
    size_t header = find(image, kMagic1);
    for (unsigned field : {12, 16, 20, 24, 28}) {  // the address fields
        uint32_t v;
        std::memcpy(&v, &image[header + field], 4);
        put<uint32_t>(image, header + field, v - 0x200000 + 0x8000);
    }
    BootPlan plan = planMultiboot1(request(image));
    CHECK(plan.parts[0].address == 0x8000);
    CHECK(plan.info >= 0x8000 + image.size());
    CHECK(plan.info < 0x9f000);
}

TEST_CASE("kernels: bad Multiboot images") {
    size_t h = find(kernel(1), kMagic1);
    auto with = [&](size_t field, uint32_t v) {
        auto image = kernel(1);
        put(image, h + field, v);
        uint32_t flags;
        std::memcpy(&flags, &image[h + 4], 4);
        put<uint32_t>(image, h + 8, -(kMagic1 + flags));
        return complaint(request(image));
    };
    CHECK(mentions(with(4, 0x10008), "demands features"));
    CHECK(mentions(with(4, 3), "neither an ELF file"));
    CHECK(mentions(with(16, 0x300000), "behind its header"));
    CHECK(mentions(with(20, 0x1fffff), "ends before"));
    CHECK(mentions(with(20, 0x800000), "truncated"));
    CHECK(mentions(with(24, 0x200001), "bss"));
    CHECK(mentions(with(24, 0x7000000), "-m"));
    CHECK(mentions(with(24, 0xfffffff0), "no free RAM"));
    CHECK(with(20, 0).empty());
    CHECK(with(24, 0).empty());
    auto cut = kernel(1);
    cut.resize(h + 20);
    CHECK(mentions(complaint(request(cut)), "truncated"));
    CHECK(mentions(complaint(request(kernel(1), 2 * kMiB)), "-m"));
    BootRequest large = request(kernel(2), 16 * kMiB);
    large.modules[0].bytes.resize(15 * kMiB);
    CHECK(mentions(complaint(large), "MODULE"));
}

TEST_CASE("kernels: bad Multiboot2 images") {
    size_t h = find(kernel(5), kMagic2);
    auto with = [&](unsigned kind, size_t field, uint32_t v) {
        auto image = kernel(kind);
        size_t at = find(image, kMagic2);
        put(image, at + field, v);
        uint32_t sum = 0, word;
        for (size_t n : {0, 4, 8}) std::memcpy(&word, &image[at + n], 4), sum += word;
        put<uint32_t>(image, at + 12, -sum);
        return complaint(request(image));
    };
    CHECK(mentions(with(5, 4, 4), "architecture"));
    CHECK(mentions(with(5, 8, 0x10000), "truncated"));
    CHECK(mentions(with(5, 16, 4711), "demands a feature"));
    CHECK(with(5, 16, 4711 | 1 << 16).empty());
    CHECK(mentions(with(5, 20, 7), "malformed"));
    CHECK(mentions(with(5, 20, 0x1000), "malformed"));
    CHECK(mentions(with(5, 24, 99), "demands information"));
    CHECK(mentions(with(5, 32 + 16, 3), "malformed"));         // the alignment
    CHECK(mentions(with(5, 32 + 8, 0x7fff0000), "no room"));   // the lowest address
    CHECK(mentions(with(6, 32 + 16, 0x100000), "malformed"));  // ends before it begins
    CHECK(mentions(with(6, 32 + 16, 0x7000000), "truncated"));
    CHECK(mentions(with(6, 32 + 20, 0x200001), "malformed"));
    CHECK(with(6, 32 + 20, 0).empty());
    CHECK(h % 8 == 0);
}

TEST_CASE("kernels: a relocatable kernel goes as high as it likes") {
    auto image = kernel(5);
    put<uint32_t>(image, find(image, kMagic2) + 32 + 20, 2);  // prefers the highest address
    BootPlan plan = planMultiboot2(request(image));
    CHECK(plan.parts[0].address == ((63 * kMiB - plan.parts[0].memorySize) & ~0xffffu));
    CHECK(plan.entry - plan.parts[0].address < 0x1000);
    put<uint32_t>(image, find(image, kMagic2) + 32 + 20, 0);  // where it was linked, but above 16 MiB
    CHECK(planMultiboot2(request(image)).parts[0].address == 16 * kMiB);
}

TEST_CASE("kernels: bad ELF images") {
    auto with = [&](size_t at, uint64_t v, unsigned size, unsigned kind = 8) {
        auto image = kernel(kind);
        std::memcpy(&image[at], &v, size);
        return complaint(request(image));
    };
    CHECK(mentions(with(4, 9, 1), "class"));
    CHECK(mentions(with(5, 2, 1), "byte order"));
    CHECK(mentions(with(18, 40, 2), "another processor"));
    CHECK(mentions(with(16, 1, 2), "isn't linked"));
    CHECK(mentions(with(28, 0xffffffff, 4), "truncated"));
    CHECK(mentions(with(44, 0xffff, 2), "truncated"));
    CHECK(mentions(with(44, 0, 2), "nothing to load"));
    CHECK(mentions(with(42, 1, 2), "malformed"));
    CHECK(mentions(with(52 + 16, 0x7fffffff, 4), "truncated"));
    CHECK(mentions(with(52 + 20, 1, 4), "larger in the file"));
    CHECK(mentions(with(52 + 20, 0x7fffffff, 4), "no free RAM"));
    CHECK(mentions(with(52 + 12, 0xb8000, 4), "no free RAM"));
    CHECK(mentions(with(52 + 12, 0xfffff000, 4), "no free RAM"));
    CHECK(mentions(with(64 + 24, ~0ull, 8, 9), "no free RAM"));
    CHECK(mentions(with(64 + 24, 1ull << 32, 8, 7), "no free RAM"));
    CHECK(mentions(with(24, 1ull << 40, 8, 9), "above 4 GiB"));
    auto note = kernel(7);
    put<uint32_t>(note, find(note, 0x6e6558) - 8, 3);  // the length of the descriptor before "Xen"
    CHECK(mentions(complaint(request(note)), "PVH entry note"));
    std::vector<uint8_t> shortest{0x7f, 'E', 'L', 'F'};
    CHECK(mentions(complaint(request(shortest)), "truncated"));
    CHECK(mentions(complaint(request({1, 2, 3})), "no ELF"));
}

TEST_CASE("kernels: random and cut images end with a sentence or a plan, never worse") {
    uint64_t seed = 1;
    auto random = [&] { return (seed = seed * 6364136223846793005 + 1442695040888963407) >> 33; };
    for (unsigned kind = 1; kind <= 9; kind++)
        for (unsigned n = 0; n < 1500; n++) {
            auto image = kernel(kind);
            size_t headers = 256;
            for (uint64_t i = random() % 4; i < 4; i++) {
                static constexpr uint32_t kValues[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0};
                if (random() % 2)
                    image[random() % headers] = uint8_t(random());
                else
                    put(image, random() % headers, kValues[random() % std::size(kValues)]);
            }
            if (random() % 8 == 0) image.resize(random() % image.size());
            // The checksums of Multiboot's headers, so that something is behind them
            if (size_t at = find(image, kMagic1); at < headers && at + 12 <= image.size()) {
                uint32_t flags;
                std::memcpy(&flags, &image[at + 4], 4);
                put<uint32_t>(image, at + 8, -(kMagic1 + flags));
            }
            std::string why = complaint(request(image));
            CHECK(why.find('\n') == std::string::npos);
        }
}

TEST_CASE("kernels: modules are split at commas") {
    CHECK(splitModules("a") == std::vector<std::string>{"a"});
    CHECK(splitModules("a b, c d,e") == std::vector<std::string>{"a b", "c d", "e"});
    CHECK(splitModules("a,,b,c") == std::vector<std::string>{"a,b", "c"});
    CHECK_THROWS(splitModules("a,"));
    CHECK_THROWS(splitModules(",a"));
}

TEST_CASE("kernels: places in the guest's memory") {
    GuestSpace space(64 * kMiB);
    CHECK(space.highEnd() == 63 * kMiB);
    CHECK(space.usable(0x3000, 0x9c000));
    CHECK(!space.usable(0x2fff, 1));
    CHECK(!space.usable(0x3000, 0x9c001));
    CHECK(!space.usable(kMiB, ~0ull));
    CHECK(space.lowest(4096, kMiB, 63 * kMiB) == kMiB);
    space.take(kMiB, 5000);
    space.take(3 * kMiB, 4096);
    CHECK(space.lowest(4096, kMiB, 63 * kMiB) == kMiB + 8192);
    CHECK(space.lowest(2 * kMiB, kMiB, 63 * kMiB) == 3 * kMiB + 4096);
    CHECK(space.highest(kMiB, kMiB, 63 * kMiB) == 62 * kMiB);
    space.take(62 * kMiB, kMiB);
    CHECK(space.highest(1, kMiB, 63 * kMiB, 1) == 62 * kMiB - 1);
    CHECK(!space.lowest(60 * kMiB, kMiB, 63 * kMiB));
    CHECK(!space.highest(60 * kMiB, kMiB, 63 * kMiB));
    CHECK(space.isFree(2 * kMiB, kMiB));
    CHECK(!space.isFree(2 * kMiB, kMiB + 1));
}

TEST_CASE("kernels: the option ROM is one that firmware accepts") {
    std::vector<uint8_t> rom = kernelBootRom();
    CHECK(rom.size() == rom[2] * 512u);
    uint8_t sum = 0;
    for (uint8_t b : rom) sum = uint8_t(sum + b);
    CHECK(sum == 0);
}
