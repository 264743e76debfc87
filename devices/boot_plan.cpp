#include "devices/boot_plan.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "devices/embedded.hpp"

namespace kiln {

namespace {

constexpr uint64_t kMiB = 1 << 20;

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

std::string hex(uint64_t v) {
    std::string digits;
    do digits.insert(digits.begin(), "0123456789abcdef"[v & 15]);
    while (v >>= 4);
    return "0x" + digits;
}

}  // namespace

void BootPlanner::load(uint64_t address, std::span<const uint8_t> bytes, uint64_t memorySize) {
    memorySize = std::max<uint64_t>(memorySize, bytes.size());
    if (!memorySize) return;
    constexpr uint64_t kMostLowRam = 1ull << 31;
    if (address >= GuestSpace::kHighBegin && address < kMostLowRam && memorySize < kMostLowRam - address &&
        !space_.usable(address, memorySize))
        refuseMemory(address + memorySize - space_.highEnd(), "");
    if (!space_.usable(address, memorySize))
        refuse("the kernel '" + request_.name + "' wants to be loaded at " + hex(address) + " to " +
               hex(address + memorySize) + ", where a PC has no free RAM");
    // Segments may lie over one another, but not without end.
    loaded_ += memorySize;
    if (loaded_ > 2 * request_.lowRam)
        refuse("the segments of the kernel '" + request_.name +
               "' are together larger than the guest's memory");
    space_.take(address, memorySize);
    kernelEnd_ = std::max(kernelEnd_, address + memorySize);
    plan.parts.push_back({uint32_t(address), {bytes.begin(), bytes.end()}, uint32_t(memorySize)});
}

void BootPlanner::loadElf(const ElfImage& elf, int64_t shift) {
    if (elf.segments().empty()) refuse("the ELF file '" + request_.name + "' has nothing to load");
    for (const ElfSegment& s : elf.segments())
        load(s.physical + uint64_t(shift), elf.contents(s), s.memorySize);
}

uint32_t BootPlanner::placeBehind(uint64_t size, const std::string& what) {
    auto at = space_.lowest(size, std::max(kernelEnd_, GuestSpace::kHighBegin), space_.highEnd());
    if (!at) refuseMemory(size, what);
    space_.take(*at, std::max<uint64_t>(size, 1));
    return *at;
}

uint32_t BootPlanner::placeHigh(uint64_t size, const std::string& what) {
    auto at = space_.highest(size, std::max(kernelEnd_, GuestSpace::kHighBegin), space_.highEnd());
    if (!at) refuseMemory(size, what);
    space_.take(*at, std::max<uint64_t>(size, 1));
    return *at;
}

uint32_t BootPlanner::placeInfo(uint64_t size) {
    constexpr uint32_t kUsual = 0x9000;
    auto at = space_.lowest(size, kUsual, GuestSpace::kLowEnd, 16);
    if (!at) return placeBehind(size, "its boot information");
    space_.take(*at, size);
    return *at;
}

void BootPlanner::add(uint32_t address, std::vector<uint8_t> bytes) {
    uint32_t size = uint32_t(bytes.size());
    plan.parts.push_back({address, std::move(bytes), size});
}

void BootPlanner::refuseMemory(uint64_t size, const std::string& what) const {
    uint64_t needed = (std::max(kernelEnd_, space_.highEnd()) + size + 2 * kMiB) / kMiB + 1;
    refuse("the guest's memory is too small for the kernel '" + request_.name + "'" +
           (what.empty() ? what : " and " + what) + ": give at least -m " + std::to_string(needed) + "M");
}

std::vector<uint8_t> loadElfSections(BootPlanner& planner, const ElfImage& elf,
                                     std::span<const uint8_t> image, int64_t shift) {
    constexpr uint32_t kNull = 0, kNoBits = 8;
    InfoBytes table{{elf.sectionTable().begin(), elf.sectionTable().end()}};
    size_t at = 0;
    for (const ElfSection& s : elf.sections()) {
        size_t address = at + elf.sectionAddressOffset();
        at += elf.sectionEntrySize();
        auto put = [&](uint64_t v) {
            elf.sectionAddressSize() == 8 ? table.put64(address, v) : table.put32(address, v);
        };
        if (s.address) {
            put(s.address + uint64_t(shift));
            continue;
        }
        bool inFile = s.offset <= image.size() && s.size <= image.size() - s.offset;
        if (s.type == kNull || s.type == kNoBits || !s.size || !inFile) continue;
        uint32_t place = planner.placeBehind(s.size, "its symbols");
        auto bytes = image.subspan(s.offset, s.size);
        planner.add(place, {bytes.begin(), bytes.end()});
        put(place);
    }
    return std::move(table.bytes);
}

void offerPlan(FwCfg& fwCfg, const BootPlan& plan) {
    InfoBytes head, stream;
    VideoWish video = plan.graphics.value_or(VideoWish{});
    for (uint32_t v : {uint32_t(plan.protocol), plan.entry, plan.eax, plan.info, plan.dynamic, plan.vbeInfo,
                       plan.pageTables.value_or(0), uint32_t(plan.graphics.has_value()), video.width,
                       video.height, video.depth})
        head.append32(v);
    for (const BootPart& part : plan.parts) {
        stream.append32(part.address);
        stream.append32(part.bytes.size());
        stream.append32(part.memorySize - part.bytes.size());
        stream.bytes.insert(stream.bytes.end(), part.bytes.begin(), part.bytes.end());
    }
    for (unsigned i = 0; i < 3; i++) stream.append32(0);  // a part without anything ends the list
    fwCfg.add(FwCfgKey::SetupData, std::move(head.bytes));
    fwCfg.add(FwCfgKey::KernelData, std::move(stream.bytes));
    fwCfg.addFile("genroms/kilnboot.bin", kernelBootRom());
}

std::vector<uint8_t> kernelBootRom() {
    std::vector<uint8_t> rom(kKernelRom.begin(), kKernelRom.end());
    rom.back() = 0;
    rom.back() = uint8_t(-std::accumulate(rom.begin(), rom.end(), 0u));
    return rom;
}

}  // namespace kiln
