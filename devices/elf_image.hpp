// ELF files for the i386 and x86-64 (System V ABI, chapters 4 and 5), as far as loading a kernel goes:
// program headers, section headers, notes.
//
// Not modelled: extended numbering (more than 65,279 sections or segments), relocations.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

struct ElfSegment {
    uint64_t physical, linear, offset, fileSize, memorySize;
};

struct ElfSection {
    uint32_t type;
    uint64_t address, offset, size, alignment;
};

class ElfImage {
  public:
    static bool isElf(std::span<const uint8_t> bytes);
    // Takes the headers apart. `bytes` must outlive the image. Throws std::runtime_error with a sentence
    // about `name`.
    ElfImage(std::span<const uint8_t> bytes, const std::string& name);

    bool is64() const { return is64_; }
    const std::vector<ElfSegment>& segments() const { return segments_; }  // PT_LOAD with anything to load
    std::span<const uint8_t> contents(const ElfSegment& s) const {
        return bytes_.subspan(s.offset, s.fileSize);
    }
    // The entry point's physical address: many kernels give a linear one.
    uint64_t physicalEntry() const;
    // The descriptor of the first note of this owner and type.
    std::optional<std::span<const uint8_t>> note(std::string_view owner, uint32_t type) const;

    // The section header table as the file has it: empty when it has none.
    std::span<const uint8_t> sectionTable() const { return sectionTable_; }
    unsigned sectionEntrySize() const { return is64_ ? 64 : 40; }
    unsigned sectionNames() const { return sectionNames_; }  // index of the section with the names
    std::vector<ElfSection> sections() const;
    // Where in an entry of the table the section's address is, and how wide.
    unsigned sectionAddressOffset() const { return is64_ ? 16 : 12; }
    unsigned sectionAddressSize() const { return is64_ ? 8 : 4; }

  private:
    uint64_t field(uint64_t offset, unsigned size) const;
    void readSegments();
    void readSections();
    std::optional<std::span<const uint8_t>> noteIn(std::span<const uint8_t> notes, uint64_t alignment,
                                                   std::string_view owner, uint32_t type) const;

    struct NoteRange {
        uint64_t offset, size, alignment;
    };
    std::span<const uint8_t> bytes_;
    std::string name_;
    bool is64_ = false;
    uint64_t entry_ = 0;
    std::vector<ElfSegment> segments_;
    std::vector<NoteRange> notes_;
    std::span<const uint8_t> sectionTable_;
    unsigned sectionNames_ = 0;
};

}  // namespace kiln
