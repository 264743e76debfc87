#include <cstring>
#include <optional>
#include <stdexcept>

#include "devices/multiboot.hpp"

namespace kiln {

namespace {

constexpr uint32_t kHeaderMagic = 0x1badb002, kLoaderMagic = 0x2badb002;
constexpr size_t kSearched = 8192;
constexpr uint32_t kPageAlign = 1, kMemoryInfo = 2, kVideoMode = 4, kAddressFields = 1 << 16;
constexpr uint32_t kMustKnow = 0xffff;  // flags a loader has to understand
constexpr uint32_t kNoDisk = 0x8000ffff;

// 3.3: the boot information's flags and offsets.
namespace info {
constexpr uint32_t kMemory = 1 << 0, kBootDevice = 1 << 1, kCommandLine = 1 << 2, kModules = 1 << 3,
                   kSections = 1 << 5, kMemoryMap = 1 << 6, kLoaderName = 1 << 9;
constexpr size_t kFlags = 0, kBootDeviceAt = 12, kCommandLineAt = 16, kModuleCount = 20, kModuleList = 24,
                 kSyms = 28, kMapAddress = 48, kLoaderNameAt = 64, kSize = 116;
constexpr size_t kModuleSize = 16;
constexpr size_t kVbeSize = 512 + 256;
}  // namespace info

struct Header {
    size_t offset;
    uint32_t flags;
    uint32_t headerAddress, loadAddress, loadEnd, bssEnd, entry;
    uint32_t modeType, width, height, depth;
};

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

std::optional<Header> findHeader(std::span<const uint8_t> image) {
    size_t end = std::min(image.size(), kSearched);
    auto word = [&](size_t at) {
        uint32_t v = 0;
        if (at + 4 <= image.size()) std::memcpy(&v, &image[at], 4);
        return v;
    };
    for (size_t at = 0; at + 12 <= end; at += 4)
        if (word(at) == kHeaderMagic && word(at) + word(at + 4) + word(at + 8) == 0)
            return Header{at,
                          word(at + 4),
                          word(at + 12),
                          word(at + 16),
                          word(at + 20),
                          word(at + 24),
                          word(at + 28),
                          word(at + 32),
                          word(at + 36),
                          word(at + 40),
                          word(at + 44)};
    return std::nullopt;
}

// 3.1.3: a flat image that says where it belongs.
void loadFlat(BootPlanner& planner, const BootRequest& request, const Header& h) {
    size_t have = request.image.size();
    if (h.headerAddress < h.loadAddress || h.headerAddress - h.loadAddress > h.offset)
        refuse("the Multiboot kernel '" + request.name + "' has a load address behind its header");
    size_t offset = h.offset - (h.headerAddress - h.loadAddress);
    if (h.loadEnd && h.loadEnd < h.loadAddress)
        refuse("the Multiboot kernel '" + request.name + "' ends before it begins");
    size_t size = h.loadEnd ? h.loadEnd - h.loadAddress : have - offset;
    if (size > have - offset)
        refuse("the kernel '" + request.name + "' is truncated: " + std::to_string(have - offset) + " of " +
               std::to_string(size) + " bytes are there");
    uint64_t memory = size;
    if (h.bssEnd) {
        if (h.bssEnd < h.loadAddress || h.bssEnd - h.loadAddress < size)
            refuse("the Multiboot kernel '" + request.name + "' has a bss that ends inside its data");
        memory = h.bssEnd - h.loadAddress;
    }
    planner.load(h.loadAddress, std::span(request.image).subspan(offset, size), memory);
    planner.plan.entry = h.entry;
}

}  // namespace

bool isMultiboot1(std::span<const uint8_t> image) { return findHeader(image).has_value(); }

BootPlan planMultiboot1(const BootRequest& request) {
    auto header = findHeader(request.image);
    if (!header) refuse("'" + request.name + "' has no Multiboot header");
    if (uint32_t unknown = header->flags & kMustKnow & ~(kPageAlign | kMemoryInfo | kVideoMode))
        refuse("the Multiboot kernel '" + request.name + "' demands features that don't exist (flags " +
               std::to_string(unknown) + ")");
    size_t headerSize = header->flags & kVideoMode ? 48 : header->flags & kAddressFields ? 32 : 12;
    if (request.image.size() < header->offset + headerSize)
        refuse("the kernel '" + request.name + "' is truncated: it ends inside its Multiboot header");

    BootPlanner planner(request);
    BootPlan& plan = planner.plan;
    std::optional<ElfImage> elf;
    if (header->flags & kAddressFields) {
        loadFlat(planner, request, *header);
    } else {
        if (!ElfImage::isElf(request.image))
            refuse("the Multiboot kernel '" + request.name +
                   "' is neither an ELF file nor has load addresses");
        elf.emplace(request.image, request.name);
        planner.loadElf(*elf);
        if (elf->physicalEntry() >> 32)
            refuse("the Multiboot kernel '" + request.name + "' has its entry point above 4 GiB");
        plan.entry = uint32_t(elf->physicalEntry());
    }
    plan.protocol = BootProtocol::Multiboot1;
    plan.eax = kLoaderMagic;
    if (header->flags & kVideoMode && header->modeType == 0)
        plan.graphics = VideoWish{header->width, header->height, header->depth};
    // modeType 1 is the text mode that the firmware has set.

    std::vector<uint32_t> begins;
    for (const BootModule& m : request.modules) {
        begins.push_back(planner.placeBehind(m.bytes.size(), "the module '" + m.text + "'"));
        planner.add(begins.back(), m.bytes);
    }
    std::vector<uint8_t> sections;
    if (elf && !elf->sectionTable().empty()) sections = loadElfSections(planner, *elf, request.image, 0);

    // The structure, the modules' list, strings, sections, then what the ROM fills: the map and VBE's
    // structures.
    InfoBytes i;
    size_t modules = info::kSize;
    i.bytes.resize(modules + request.modules.size() * info::kModuleSize);
    size_t commandLine = i.append(request.namedCommandLine());
    size_t loaderName = i.append(kBootLoaderName);
    std::vector<size_t> texts;
    for (const BootModule& m : request.modules) texts.push_back(i.append(m.text));
    i.align(16);
    size_t sectionTable = i.bytes.size();
    i.bytes.insert(i.bytes.end(), sections.begin(), sections.end());
    i.align(16);
    size_t dynamic = i.bytes.size();
    size_t whole = dynamic + BootPlan::kMapCapacity * BootPlan::kMapEntrySize + info::kVbeSize;

    plan.info = planner.placeInfo(whole);
    plan.dynamic = plan.info + uint32_t(dynamic);
    plan.vbeInfo = plan.dynamic + BootPlan::kMapCapacity * BootPlan::kMapEntrySize;
    uint32_t flags = info::kMemory | info::kBootDevice | info::kCommandLine | info::kModules |
                     info::kMemoryMap | info::kLoaderName;
    i.put32(info::kBootDeviceAt, kNoDisk);
    i.put32(info::kCommandLineAt, plan.info + commandLine);
    i.put32(info::kModuleCount, request.modules.size());
    i.put32(info::kModuleList, request.modules.empty() ? 0 : plan.info + modules);
    for (size_t n = 0; n < request.modules.size(); n++) {
        size_t at = modules + n * info::kModuleSize;
        i.put32(at, begins[n]);
        i.put32(at + 4, begins[n] + request.modules[n].bytes.size());
        i.put32(at + 8, plan.info + texts[n]);
    }
    if (!sections.empty()) {
        flags |= info::kSections;
        i.put32(info::kSyms, sections.size() / elf->sectionEntrySize());
        i.put32(info::kSyms + 4, elf->sectionEntrySize());
        i.put32(info::kSyms + 8, plan.info + sectionTable);
        i.put32(info::kSyms + 12, elf->sectionNames());
    }
    i.put32(info::kMapAddress, plan.dynamic);
    i.put32(info::kLoaderNameAt, plan.info + loaderName);
    i.put32(info::kFlags, flags);
    planner.add(plan.info, std::move(i.bytes));
    return std::move(plan);
}

}  // namespace kiln
