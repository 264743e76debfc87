#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "devices/multiboot.hpp"

namespace kiln {

namespace {

constexpr uint32_t kHeaderMagic = 0xe85250d6, kLoaderMagic = 0x36d76289;
constexpr size_t kSearched = 32768, kFixedHeader = 16;
constexpr uint32_t kArchitectureI386 = 0;

// 3.1.4 to 3.1.13: tags of the header
enum HeaderTag : uint16_t {
    kEnd = 0,
    kInformationRequest = 1,
    kAddress = 2,
    kEntryAddress = 3,
    kConsoleFlags = 4,
    kFramebuffer = 5,
    kModuleAlignment = 6,
    kEfiBootServices = 7,
    kEntryAddressEfi32 = 8,
    kEntryAddressEfi64 = 9,
    kRelocatable = 10,
};
constexpr uint16_t kOptional = 1;

// 3.6: tags of the boot information. The ROM appends memory map, framebuffer, VBE, ACPI and end.
enum InfoTag : uint32_t {
    kCommandLine = 1,
    kLoaderName = 2,
    kModule = 3,
    kMemory = 4,
    kBootDevice = 5,
    kSections = 9,
    kLoadBase = 21,
    kLastTag = 21,
};

struct Tag {
    uint16_t type, flags;
    std::span<const uint8_t> body;  // behind type, flags and size

    bool optional() const { return flags & kOptional; }
    uint32_t word(size_t n) const {
        uint32_t v = 0;
        std::memcpy(&v, &body[n * 4], 4);
        return v;
    }
};

struct AddressFields {
    uint32_t header, load, loadEnd, bssEnd;
};

struct Relocatable {
    uint32_t lowest, highest, alignment, preference;
};

struct Header {
    size_t offset = 0;
    std::optional<AddressFields> address;
    std::optional<uint32_t> entry;
    std::optional<VideoWish> graphics;
    std::optional<Relocatable> relocatable;
};

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

uint32_t wordAt(std::span<const uint8_t> image, size_t at) {
    uint32_t v;
    std::memcpy(&v, &image[at], 4);
    return v;
}

std::optional<size_t> findMagic(std::span<const uint8_t> image) {
    size_t end = std::min(image.size(), kSearched);
    for (size_t at = 0; at + kFixedHeader <= end; at += 8) {
        uint32_t sum = 0;
        for (size_t n = 0; n < kFixedHeader; n += 4) sum += wordAt(image, at + n);
        if (wordAt(image, at) == kHeaderMagic && sum == 0) return at;
    }
    return std::nullopt;
}

class Loader {
  public:
    explicit Loader(const BootRequest& request)
        : request_(request), planner_(request), plan_(planner_.plan), image_(request.image) {}

    BootPlan run() {
        readHeader();
        if (header_.address)
            loadFlat();
        else
            loadElf();
        if (header_.entry) plan_.entry = *header_.entry;
        plan_.protocol = BootProtocol::Multiboot2;
        plan_.eax = kLoaderMagic;
        plan_.graphics = header_.graphics;
        buildInfo();
        return std::move(plan_);
    }

  private:
    [[noreturn]] void malformed(const char* what) const {
        refuse("the Multiboot2 kernel '" + request_.name + "' has a malformed " + what);
    }

    void readHeader() {
        auto at = findMagic(image_);
        if (!at) refuse("'" + request_.name + "' has no Multiboot2 header");
        header_.offset = *at;
        if (wordAt(image_, *at + 4) != kArchitectureI386)
            refuse("the Multiboot2 kernel '" + request_.name + "' is for another architecture");
        uint64_t length = wordAt(image_, *at + 8);
        if (length > image_.size() - *at)
            refuse("the kernel '" + request_.name + "' is truncated: it ends inside its Multiboot2 header");
        auto header = image_.subspan(*at, length);
        for (size_t tag = kFixedHeader; tag + 8 <= header.size();) {
            uint16_t type = uint16_t(wordAt(header, tag)), flags = uint16_t(wordAt(header, tag) >> 16);
            uint64_t size = wordAt(header, tag + 4);
            if (type == kEnd) return;
            if (size < 8 || size > header.size() - tag) malformed("header tag");
            readTag({type, flags, header.subspan(tag + 8, size - 8)});
            tag += (size + 7) & ~7ull;
        }
    }

    void readTag(const Tag& tag) {
        static constexpr size_t kBodySizes[] = {0, 0, 16, 4, 4, 12, 0, 0, 4, 4, 16};
        if (tag.type < std::size(kBodySizes) && tag.body.size() < kBodySizes[tag.type])
            malformed("header tag");
        switch (tag.type) {
            case kInformationRequest: checkRequests(tag); break;
            case kAddress:
                header_.address = AddressFields{tag.word(0), tag.word(1), tag.word(2), tag.word(3)};
                break;
            case kEntryAddress: header_.entry = tag.word(0); break;
            case kFramebuffer: header_.graphics = VideoWish{tag.word(0), tag.word(1), tag.word(2)}; break;
            case kRelocatable:
                header_.relocatable = Relocatable{tag.word(0), tag.word(1), tag.word(2), tag.word(3)};
                break;
            case kConsoleFlags:     // there is a text console
            case kModuleAlignment:  // modules always lie on pages
            case kEfiBootServices:
            case kEntryAddressEfi32:
            case kEntryAddressEfi64: break;  // this is no EFI machine
            default:
                if (!tag.optional())
                    refuse("the Multiboot2 kernel '" + request_.name +
                           "' demands a feature that kiln hasn't (tag " + std::to_string(tag.type) + ")");
        }
    }

    void checkRequests(const Tag& tag) const {
        for (size_t n = 0; n + 1 <= tag.body.size() / 4; n++)
            if (tag.word(n) > kLastTag && !tag.optional())
                refuse("the Multiboot2 kernel '" + request_.name +
                       "' demands information that kiln hasn't (tag " + std::to_string(tag.word(n)) + ")");
    }

    // 3.1.5
    void loadFlat() {
        const AddressFields& a = *header_.address;
        uint64_t offset = 0;  // of what is loaded, in the file
        if (a.load != 0xffffffff) {
            if (a.header < a.load || a.header - a.load > header_.offset) malformed("address tag");
            offset = header_.offset - (a.header - a.load);
        }
        uint64_t load = a.load != 0xffffffff ? a.load : uint64_t(a.header) - header_.offset;
        uint64_t have = image_.size() - offset;
        if (load > 0xffffffff || (a.loadEnd && a.loadEnd < load)) malformed("address tag");
        uint64_t size = a.loadEnd ? a.loadEnd - load : have;
        if (size > have)
            refuse("the kernel '" + request_.name + "' is truncated: " + std::to_string(have) + " of " +
                   std::to_string(size) + " bytes are there");
        if (a.bssEnd && a.bssEnd < load + size) malformed("address tag");
        if (!header_.entry) refuse("the Multiboot2 kernel '" + request_.name + "' gives no entry address");
        uint64_t memory = a.bssEnd ? a.bssEnd - load : size;
        int64_t shift = chooseShift(load, load + memory);
        planner_.load(load + uint64_t(shift), image_.subspan(offset, size), memory);
        moved(shift, load);
    }

    void loadElf() {
        if (!ElfImage::isElf(image_))
            refuse("the Multiboot2 kernel '" + request_.name +
                   "' is neither an ELF file nor has an address tag");
        elf_.emplace(image_, request_.name);
        uint64_t low = UINT64_MAX, high = 0;
        for (const ElfSegment& s : elf_->segments()) {
            if (s.physical > 0xffffffff || s.memorySize > 0xffffffff) low = 0, high = UINT64_MAX;
            low = std::min(low, s.physical), high = std::max(high, s.physical + s.memorySize);
        }
        int64_t shift = low < high ? chooseShift(low, high) : 0;
        planner_.loadElf(*elf_, shift);
        uint64_t entry = elf_->physicalEntry() + uint64_t(shift);
        if (!header_.entry && entry >> 32)
            refuse("the Multiboot2 kernel '" + request_.name + "' has its entry point above 4 GiB");
        plan_.entry = uint32_t(entry);
        moved(shift, low);
    }

    // 3.1.13: where a relocatable kernel goes, as the distance from [low, high) where it was linked.
    int64_t chooseShift(uint64_t low, uint64_t high) const {
        constexpr uint32_t kPreferLowest = 1, kPreferHighest = 2;
        if (!header_.relocatable || high > (1ull << 32)) return 0;
        const Relocatable& r = *header_.relocatable;
        if (!r.alignment || r.alignment & (r.alignment - 1) || r.lowest > r.highest)
            malformed("relocatable tag");
        uint64_t size = high - low, end = uint64_t(r.highest) + 1;
        const GuestSpace& space = planner_.space();
        bool linkedFits = low >= r.lowest && high <= end && space.usable(low, size);
        if (linkedFits && r.preference != kPreferLowest && r.preference != kPreferHighest) return 0;
        auto lowest = [&](uint64_t from, uint64_t to) {
            return from < to ? space.lowest(size, from, to, r.alignment) : std::nullopt;
        };
        std::optional<uint32_t> place;
        if (r.preference == kPreferHighest) {
            place =
                space.highest(size, std::max<uint64_t>(r.lowest, GuestSpace::kHighBegin), end, r.alignment);
        } else {
            place = lowest(std::max<uint64_t>(r.lowest, GuestSpace::kLowBegin),
                           std::min(end, GuestSpace::kLowEnd));
            if (!place) place = lowest(std::max<uint64_t>(r.lowest, GuestSpace::kHighBegin), end);
        }
        if (!place)
            refuse("there is no room in the guest's memory for the relocatable kernel '" + request_.name +
                   "': give more with -m");
        return int64_t(*place) - int64_t(low);
    }

    // A kernel that was moved has its entry address moved, too.
    void moved(int64_t shift, uint64_t linked) {
        shift_ = shift;
        loadBase_ = uint32_t(linked + uint64_t(shift));
        if (header_.entry) *header_.entry += uint32_t(shift);
    }

    void begin(uint32_t type) {
        info_.align(8);
        tagAt_ = info_.bytes.size();
        info_.append32(type);
        info_.append32(0);
    }
    void end() { info_.put32(tagAt_ + 4, info_.bytes.size() - tagAt_); }

    void buildInfo() {
        info_.append32(0);  // the whole size, from the ROM
        info_.append32(0);
        begin(kMemory);  // first, where the ROM finds it
        info_.append64(0);
        end();
        begin(kCommandLine);
        info_.append(request_.namedCommandLine());
        end();
        begin(kLoaderName);
        info_.append(kBootLoaderName);
        end();
        for (const BootModule& m : request_.modules) {
            uint32_t at = planner_.placeBehind(m.bytes.size(), "the module '" + m.text + "'");
            planner_.add(at, m.bytes);
            begin(kModule);
            info_.append32(at);
            info_.append32(at + m.bytes.size());
            info_.append(m.text);
            end();
        }
        if (elf_ && !elf_->sectionTable().empty()) {
            std::vector<uint8_t> sections = loadElfSections(planner_, *elf_, image_, shift_);
            begin(kSections);
            info_.append32(sections.size() / elf_->sectionEntrySize());
            info_.append32(elf_->sectionEntrySize());
            info_.append32(elf_->sectionNames());
            info_.bytes.insert(info_.bytes.end(), sections.begin(), sections.end());
            end();
        }
        if (header_.relocatable) {
            begin(kLoadBase);
            info_.append32(loadBase_);
            end();
        }
        info_.align(8);
        constexpr size_t kTail =
            16 + BootPlan::kMapCapacity * BootPlan::kMapEntrySize + 784 + 40 + 32 + 48 + 8;
        plan_.info = planner_.placeInfo(info_.bytes.size() + kTail);
        plan_.dynamic = plan_.info + uint32_t(info_.bytes.size());
        planner_.add(plan_.info, std::move(info_.bytes));
    }

    const BootRequest& request_;
    BootPlanner planner_;
    BootPlan& plan_;
    std::span<const uint8_t> image_;
    Header header_;
    std::optional<ElfImage> elf_;
    int64_t shift_ = 0;
    uint32_t loadBase_ = 0;
    InfoBytes info_;
    size_t tagAt_ = 0;
};

}  // namespace

bool isMultiboot2(std::span<const uint8_t> image) { return findMagic(image).has_value(); }

BootPlan planMultiboot2(const BootRequest& request) { return Loader(request).run(); }

}  // namespace kiln
