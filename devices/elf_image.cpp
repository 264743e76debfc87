#include "devices/elf_image.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace kiln {

namespace {

constexpr uint8_t kClass32 = 1, kClass64 = 2, kLittleEndian = 1;
constexpr uint16_t kExecutable = 2, kShared = 3;
constexpr uint16_t kMachine386 = 3, kMachineX86_64 = 62;
constexpr uint32_t kLoad = 1, kNote = 4;  // p_type

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

}  // namespace

bool ElfImage::isElf(std::span<const uint8_t> bytes) {
    return bytes.size() >= 4 && std::memcmp(bytes.data(),
                                            "\x7f"
                                            "ELF",
                                            4) == 0;
}

// A little-endian number; the caller has checked that it is inside the file.
uint64_t ElfImage::field(uint64_t offset, unsigned size) const {
    uint64_t v = 0;
    std::memcpy(&v, &bytes_[offset], size);
    return v;
}

ElfImage::ElfImage(std::span<const uint8_t> bytes, const std::string& name) : bytes_(bytes), name_(name) {
    if (!isElf(bytes)) refuse("the kernel '" + name + "' is no ELF file");
    if (bytes.size() < 52 || (bytes[4] == kClass64 && bytes.size() < 64))
        refuse("the kernel '" + name + "' is truncated: it ends inside its ELF header");
    if ((bytes[4] != kClass32 && bytes[4] != kClass64) || bytes[5] != kLittleEndian)
        refuse("the kernel '" + name + "' is an ELF file of an unknown class or byte order");
    is64_ = bytes[4] == kClass64;
    uint64_t type = field(16, 2), machine = field(18, 2);
    if (machine != (is64_ ? kMachineX86_64 : kMachine386) && machine != kMachineX86_64)
        refuse("the kernel '" + name + "' is an ELF file for another processor (machine " +
               std::to_string(machine) + ")");
    if (type != kExecutable && type != kShared)
        refuse("the kernel '" + name + "' is an ELF file that isn't linked (type " + std::to_string(type) +
               ")");
    entry_ = field(24, is64_ ? 8 : 4);
    readSegments();
    readSections();
}

void ElfImage::readSegments() {
    uint64_t table = field(is64_ ? 32 : 28, is64_ ? 8 : 4);
    uint64_t entrySize = field(is64_ ? 54 : 42, 2), count = field(is64_ ? 56 : 44, 2);
    const unsigned needed = is64_ ? 56 : 32;
    if (count && entrySize < needed) refuse("the kernel '" + name_ + "' has malformed ELF program headers");
    if (table > bytes_.size() || count * entrySize > bytes_.size() - table)
        refuse("the kernel '" + name_ + "' is truncated: its ELF program headers are not all there");
    for (uint64_t i = 0; i < count; i++) {
        uint64_t h = table + i * entrySize;
        uint32_t type = uint32_t(field(h, 4));
        if (type != kLoad && type != kNote) continue;
        ElfSegment s = is64_ ? ElfSegment{field(h + 24, 8), field(h + 16, 8), field(h + 8, 8),
                                          field(h + 32, 8), field(h + 40, 8)}
                             : ElfSegment{field(h + 12, 4), field(h + 8, 4), field(h + 4, 4),
                                          field(h + 16, 4), field(h + 20, 4)};
        if (s.offset > bytes_.size() || s.fileSize > bytes_.size() - s.offset)
            refuse("the kernel '" + name_ + "' is truncated: its ELF segment " + std::to_string(i) +
                   " lies behind the file's end");
        if (type == kNote) {
            notes_.push_back({s.offset, s.fileSize, field(h + (is64_ ? 48 : 28), is64_ ? 8 : 4)});
            continue;
        }
        if (s.fileSize > s.memorySize)
            refuse("the kernel '" + name_ + "' has an ELF segment " + std::to_string(i) +
                   " that is larger in the file than in memory");
        if (s.memorySize) segments_.push_back(s);
    }
}

void ElfImage::readSections() {
    uint64_t table = field(is64_ ? 40 : 32, is64_ ? 8 : 4);
    uint64_t entrySize = field(is64_ ? 58 : 46, 2), count = field(is64_ ? 60 : 48, 2);
    if (!table || !count || entrySize != sectionEntrySize()) return;
    if (table > bytes_.size() || count * entrySize > bytes_.size() - table) return;  // kernels run without
    sectionTable_ = bytes_.subspan(table, count * entrySize);
    sectionNames_ = unsigned(field(is64_ ? 62 : 50, 2));
}

std::vector<ElfSection> ElfImage::sections() const {
    std::vector<ElfSection> list;
    auto get = [&](uint64_t at, unsigned size) {
        uint64_t v = 0;
        std::memcpy(&v, &sectionTable_[at], size);
        return v;
    };
    for (uint64_t h = 0; h < sectionTable_.size(); h += sectionEntrySize())
        list.push_back(is64_ ? ElfSection{uint32_t(get(h + 4, 4)), get(h + 16, 8), get(h + 24, 8),
                                          get(h + 32, 8), get(h + 48, 8)}
                             : ElfSection{uint32_t(get(h + 4, 4)), get(h + 12, 4), get(h + 16, 4),
                                          get(h + 20, 4), get(h + 32, 4)});
    return list;
}

uint64_t ElfImage::physicalEntry() const {
    for (const ElfSegment& s : segments_)
        if (entry_ >= s.linear && entry_ - s.linear < s.memorySize) return s.physical + (entry_ - s.linear);
    return entry_;
}

std::optional<std::span<const uint8_t>> ElfImage::note(std::string_view owner, uint32_t type) const {
    for (const NoteRange& r : notes_)
        if (auto found = noteIn(bytes_.subspan(r.offset, r.size), r.alignment, owner, type)) return found;
    return std::nullopt;
}

// Owner and descriptor are padded to 4 bytes, or to 8 in segments aligned to 8.
std::optional<std::span<const uint8_t>> ElfImage::noteIn(std::span<const uint8_t> notes, uint64_t alignment,
                                                         std::string_view owner, uint32_t type) const {
    auto padded = [&](uint64_t n) { return alignment == 8 ? (n + 7) & ~7ull : (n + 3) & ~3ull; };
    for (uint64_t at = 0; notes.size() - at >= 12;) {
        uint32_t header[3];
        std::memcpy(header, &notes[at], sizeof header);
        uint64_t nameEnd = padded(12 + uint64_t(header[0]));
        uint64_t left = notes.size() - at;
        if (nameEnd > left || header[1] > left - nameEnd) break;
        std::string_view name(reinterpret_cast<const char*>(notes.data() + at + 12), header[0]);
        if (!name.empty() && name.back() == '\0') name.remove_suffix(1);
        if (name == owner && header[2] == type) return notes.subspan(at + nameEnd, header[1]);
        at += std::min<uint64_t>(left, padded(nameEnd + header[1]));
    }
    return std::nullopt;
}

}  // namespace kiln
