// Kernels of every kind that -kernel takes: bzImage, Multiboot 1 and 2, ELF with and without a PVH note; with
// command lines, modules and little memory.
#include "devices/kernel_loader.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/scratch_file.hpp"

namespace kiln::fuzz {
namespace {

// What kernel_loader and the board do, without files: a plan, or a sentence.
void run(std::span<const uint8_t> input) {
    Input in(input);
    const unsigned how = in.byte();
    const uint64_t lowRam = how & 1 ? 2ull << 30 : (2ull + in.byte()) << 20;
    KernelConfig config{"kernel", how & 2 ? "initrd" : "", in.text(in.byte() & 63)};
    Bytes second(how & 2 ? in.take<uint16_t>() : 0, 0x11);
    const unsigned padding = how & 4 ? in.take<uint16_t>() * 8u : 0;
    auto rest = in.rest();
    Bytes image(rest.begin(), rest.end());
    image.resize(image.size() + padding);

    PhysicalMemory memory;
    Log log;
    FwCfg fw(memory, log);
    try {
        if (how & 8) {
            test::ScratchFile kernel(image), initrd(second);
            config.kernel = kernel.path();
            if (how & 2) config.initrd = initrd.path();
            offerKernel(fw, config, lowRam);
        } else if (isLinux(image)) {
            parseLinux(image, second, config, lowRam);
        } else {
            BootRequest request{config.kernel, config.commandLine, image, {}, lowRam};
            if (how & 2) request.modules.push_back({"initrd words", second});
            offerPlan(fw, planKernel(request));
        }
    } catch (const std::runtime_error& e) {
        if (!*e.what()) __builtin_trap();
    }
}

struct Image {
    Bytes bytes;
    Image& at(size_t offset, uint64_t v, unsigned size) {
        if (bytes.size() < offset + size) bytes.resize(offset + size);
        std::memcpy(&bytes[offset], &v, size);
        return *this;
    }
};

Bytes bzImage(uint16_t version) {
    Image i;
    i.at(0x1f1, 2, 1).at(0x1f4, 0x100, 4).at(0x1fe, 0xaa55, 2).at(0x200, 0x66eb, 2).at(0x202, 0x53726448, 4);
    i.at(0x206, version, 2).at(0x211, 1, 1).at(0x22c, 0x7fffffff, 4).at(0x230, 0x200000, 4).at(0x238, 255, 4);
    i.at(0x258, 0x1000000, 8).at(0x260, 0x100000, 4).at(0x2600, 0xf4, 1);
    return i.bytes;
}

Bytes elf(bool is64, bool pvh) {
    Image i;
    i.at(0, 0x464c457f, 4)
        .at(4, is64 ? 2 : 1, 1)
        .at(5, 1, 1)
        .at(6, 1, 1)
        .at(16, 2, 2)
        .at(18, is64 ? 62 : 3, 2);
    if (is64) {
        i.at(24, 0x100000, 8)
            .at(32, 64, 8)
            .at(54, 56, 2)
            .at(56, 2, 2)
            .at(40, 0x180, 8)
            .at(58, 64, 2)
            .at(60, 2, 2);
        i.at(64, 1, 4)
            .at(72, 0x200, 8)
            .at(80, 0x100000, 8)
            .at(88, 0x100000, 8)
            .at(96, 0x40, 8)
            .at(104, 0x1000, 8);
        i.at(120, 4, 4).at(128, 0x140, 8).at(152, 24, 8).at(160, 24, 8).at(168, 4, 8);
        i.at(0x1c4, 3, 4).at(0x1d8, 0x200, 8).at(0x1e0, 0x10, 8);
    } else {
        i.at(24, 0x100000, 4)
            .at(28, 52, 4)
            .at(42, 32, 2)
            .at(44, 2, 2)
            .at(32, 0x180, 4)
            .at(46, 40, 2)
            .at(48, 2, 2);
        i.at(52, 1, 4)
            .at(56, 0x200, 4)
            .at(60, 0x100000, 4)
            .at(64, 0x100000, 4)
            .at(68, 0x40, 4)
            .at(72, 0x1000, 4);
        i.at(84, 4, 4).at(88, 0x140, 4).at(100, 24, 4).at(104, 24, 4).at(112, 4, 4);
        i.at(0x1ac, 3, 4).at(0x1b8, 0x200, 4).at(0x1bc, 0x10, 4);
    }
    if (pvh) i.at(0x140, 4, 4).at(0x144, 4, 4).at(0x148, 18, 4).at(0x14c, 0x6e6558, 4).at(0x150, 0x100000, 4);
    i.at(0x23f, 0xf4, 1);
    return i.bytes;
}

Bytes multiboot1(uint32_t flags, Bytes in = {}) {
    Image i{std::move(in)};
    const size_t at = i.bytes.empty() ? 0 : 0x100;
    i.at(at, 0x1badb002, 4).at(at + 4, flags, 4).at(at + 8, uint32_t(0 - 0x1badb002 - flags), 4);
    i.at(at + 12, 0x100000 + at, 4)
        .at(at + 16, 0x100000, 4)
        .at(at + 20, 0, 4)
        .at(at + 24, 0x101000, 4)
        .at(at + 28, 0x100030, 4);
    i.at(at + 32, 0, 4).at(at + 36, 640, 4).at(at + 40, 480, 4).at(at + 44, 32, 4).at(0x400, 0xf4, 1);
    return i.bytes;
}

Bytes multiboot2() {
    Image i;
    const uint32_t length = 112;
    i.at(0, 0xe85250d6, 4).at(4, 0, 4).at(8, length, 4).at(12, uint32_t(0 - 0xe85250d6 - length), 4);
    i.at(16, 1, 4).at(20, 16, 4).at(24, 6, 4).at(28, 8, 4);  // information request
    i.at(32, 2, 4)
        .at(36, 24, 4)
        .at(40, 0x100000, 4)
        .at(44, 0x100000, 4)
        .at(48, 0x101000, 4)
        .at(52, 0x102000, 4);
    i.at(56, 3, 4)
        .at(60, 12, 4)
        .at(64, 0x100070, 4)
        .at(72, 5, 4)
        .at(76, 20, 4)
        .at(80, 800, 4)
        .at(84, 600, 4)
        .at(88, 32, 4);
    i.at(96, 6, 4).at(100, 8, 4).at(104, 0, 4).at(108, 8, 4).at(0x400, 0xf4, 1);
    return i.bytes;
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    const Bytes kernels[] = {bzImage(0x20f),
                             bzImage(0x202),
                             bzImage(0x200),
                             elf(false, false),
                             elf(false, true),
                             elf(true, false),
                             elf(true, true),
                             multiboot1(0x10007),
                             multiboot1(3),
                             multiboot2(),
                             multiboot1(3, elf(false, true))};
    for (const Bytes& kernel : kernels)
        for (uint8_t how : {0x00, 0x01, 0x03, 0x07, 0x0b}) {
            Bytes b = {how};
            if (!(how & 1)) b.push_back(30);
            b.insert(b.end(), {7, 'v', 'g', 'a', '=', 'a', 's', 'k'});
            if (how & 2) b.insert(b.end(), {0, 2});
            if (how & 4) b.insert(b.end(), {1, 1});
            b.insert(b.end(), kernel.begin(), kernel.end());
            all.push_back(b);
        }
    return all;
}

}  // namespace

const Target kKernels{"kernels", run, seeds, 1500};

}  // namespace kiln::fuzz
