#include "devices/pvh.hpp"

#include <cstring>
#include <stdexcept>

namespace kiln {

namespace {

constexpr uint32_t kEntryNote = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr uint32_t kStartMagic = 0x336ec578, kVersion = 1;
constexpr size_t kStartInfoSize = 56, kModuleSize = 32;

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

// The note's descriptor has 4 or 8 bytes.
std::optional<uint64_t> pvhEntry(const ElfImage& elf, const std::string& name) {
    auto descriptor = elf.note("Xen", kEntryNote);
    if (!descriptor) return std::nullopt;
    if (descriptor->size() != 4 && descriptor->size() != 8)
        refuse("the kernel '" + name + "' has a malformed PVH entry note");
    uint64_t entry = 0;
    std::memcpy(&entry, descriptor->data(), descriptor->size());
    return entry;
}

}  // namespace

BootPlan planElf(const BootRequest& request) {
    ElfImage elf(request.image, request.name);
    BootPlanner planner(request);
    BootPlan& plan = planner.plan;
    planner.loadElf(elf);
    auto pvh = pvhEntry(elf, request.name);
    uint64_t entry = pvh ? *pvh : elf.physicalEntry();
    if (entry >> 32) refuse("the kernel '" + request.name + "' has its entry point above 4 GiB");
    plan.protocol = BootProtocol::Pvh;
    plan.entry = uint32_t(entry);
    if (!pvh && elf.is64()) plan.pageTables = planner.placeHigh(BootPlan::kPageTablesSize, "its page tables");

    // hvm_start_info, the modules' list, the memory map for the ROM to fill, strings
    InfoBytes i;
    size_t modules = kStartInfoSize, map = modules + request.modules.size() * kModuleSize;
    i.bytes.resize(map + BootPlan::kMapCapacity * BootPlan::kMapEntrySize);
    size_t commandLine = i.append(request.commandLine);
    std::vector<size_t> texts;
    for (const BootModule& m : request.modules) texts.push_back(i.append(m.text));
    // As high as possible: kernels take memory behind their end before they look where their modules are.
    std::vector<uint32_t> begins;
    for (const BootModule& m : request.modules) {
        begins.push_back(planner.placeHigh(m.bytes.size(), "the initrd '" + m.text + "'"));
        planner.add(begins.back(), m.bytes);
    }
    plan.info = planner.placeInfo(i.bytes.size());
    plan.dynamic = plan.info + uint32_t(map);
    i.put32(0, kStartMagic);
    i.put32(4, kVersion);
    i.put32(12, request.modules.size());
    i.put64(16, request.modules.empty() ? 0 : plan.info + modules);
    i.put64(24, plan.info + commandLine);
    i.put64(40, plan.dynamic);
    for (size_t n = 0; n < request.modules.size(); n++) {
        size_t at = modules + n * kModuleSize;
        i.put64(at, begins[n]);
        i.put64(at + 8, request.modules[n].bytes.size());
        i.put64(at + 16, plan.info + texts[n]);
    }
    planner.add(plan.info, std::move(i.bytes));
    return std::move(plan);
}

}  // namespace kiln
