// What the option ROM of kernel_rom.asm is to do to start a kernel that is no bzImage: copy parts into RAM,
// complete what the kernel is told with what only the firmware knows (memory map, ACPI tables, video mode),
// and jump.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/elf_image.hpp"
#include "devices/fw_cfg.hpp"
#include "devices/guest_space.hpp"

namespace kiln {

// What the kernel is told, and by which protocol.
enum class BootProtocol : uint32_t { Multiboot1 = 1, Multiboot2 = 2, Pvh = 3 };

struct BootPart {
    uint32_t address = 0;
    std::vector<uint8_t> bytes;
    uint32_t memorySize = 0;  // zeroes follow the bytes up to here
};

struct VideoWish {
    uint32_t width = 0, height = 0, depth = 0;
};

struct BootPlan {
    static constexpr unsigned kMapCapacity = 128, kMapEntrySize = 24;
    static constexpr uint32_t kPageTablesSize = 6 * 4096;

    BootProtocol protocol = BootProtocol::Pvh;
    uint32_t entry = 0, eax = 0;
    uint32_t info = 0;     // address of what the kernel is told, in EBX
    uint32_t dynamic = 0;  // where the ROM may write: the memory map, or for Multiboot 2 the last tags
    uint32_t vbeInfo = 0;  // Multiboot 1: room for the VBE structures
    std::optional<uint32_t>
        pageTables;  // room for an identity mapping of 4 GiB: the kernel starts in 64-bit mode
    std::optional<VideoWish> graphics;
    std::vector<BootPart> parts;
};

// A file given with -initrd and the words behind its name.
struct BootModule {
    std::string text;  // "file words"
    std::vector<uint8_t> bytes;
};

struct BootRequest {
    std::string name;         // of the kernel, for sentences and as the command line's first word
    std::string commandLine;  // of -append
    std::vector<uint8_t> image;
    std::vector<BootModule> modules;
    uint64_t lowRam = 0;  // bytes below 4 GiB

    std::string namedCommandLine() const { return commandLine.empty() ? name : name + " " + commandLine; }
};

// Collects a plan's parts and finds places for them. Throws std::runtime_error with a sentence for the user.
class BootPlanner {
  public:
    explicit BootPlanner(const BootRequest& request) : request_(request), space_(request.lowRam) {}

    // A part of the kernel, which says itself where it belongs.
    void load(uint64_t address, std::span<const uint8_t> bytes, uint64_t memorySize);
    // All segments, moved by `shift` bytes.
    void loadElf(const ElfImage& elf, int64_t shift = 0);
    // Something as large as `size` behind the kernel, or as high as possible.
    uint32_t placeBehind(uint64_t size, const std::string& what);
    uint32_t placeHigh(uint64_t size, const std::string& what);
    // What the kernel is told: in low memory if it fits there.
    uint32_t placeInfo(uint64_t size);
    void add(uint32_t address, std::vector<uint8_t> bytes);

    uint64_t kernelEnd() const { return kernelEnd_; }
    const GuestSpace& space() const { return space_; }

    BootPlan plan;

  private:
    [[noreturn]] void refuseMemory(uint64_t size, const std::string& what) const;

    const BootRequest& request_;
    GuestSpace space_;
    uint64_t kernelEnd_ = 0, loaded_ = 0;
};

// Little-endian fields of a structure that is being built.
class InfoBytes {
  public:
    void put16(size_t at, uint16_t v) { put(at, v, 2); }
    void put32(size_t at, uint64_t v) { put(at, v, 4); }
    void put64(size_t at, uint64_t v) { put(at, v, 8); }
    void append32(uint64_t v) { put(bytes.size(), v, 4); }
    void append64(uint64_t v) { put(bytes.size(), v, 8); }
    size_t append(std::string_view text) {  // and its terminator; returns where it begins
        size_t at = bytes.size();
        bytes.insert(bytes.end(), text.begin(), text.end());
        bytes.push_back(0);
        return at;
    }
    void align(size_t to) { bytes.resize((bytes.size() + to - 1) / to * to); }

    std::vector<uint8_t> bytes;

  private:
    void put(size_t at, uint64_t v, unsigned size) {
        if (bytes.size() < at + size) bytes.resize(at + size);
        for (unsigned i = 0; i < size; i++) bytes[at + i] = uint8_t(v >> (i * 8));
    }
};

// Puts the sections that are in no segment (symbols, strings) behind the kernel, as GRUB does, and returns
// the section header table with their addresses. `shift` is how far the kernel was moved.
std::vector<uint8_t> loadElfSections(BootPlanner& planner, const ElfImage& elf,
                                     std::span<const uint8_t> image, int64_t shift);

// The items kernel_rom.asm reads, and the ROM itself as the firmware's first boot device.
void offerPlan(FwCfg& fwCfg, const BootPlan& plan);
std::vector<uint8_t> kernelBootRom();

constexpr std::string_view kBootLoaderName = "kiln";

}  // namespace kiln
