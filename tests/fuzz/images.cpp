// Disk images of any contents and size: what kind they are taken for, opening them in every way, and a
// comparison of reads and writes with plain memory.
#include <unistd.h>

#include "devices/block_image.hpp"
#include "devices/floppy_format.hpp"
#include "frontend/options.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/scratch_file.hpp"

namespace kiln::fuzz {
namespace {

constexpr uint64_t kSizes[] = {1,     511,    512,    513,    4096,    4097,    12288,
                               40000, 163840, 368640, 737280, 1474560, 2949120, 4 << 20};

void check(bool holds) {
    if (!holds) __builtin_trap();
}

void compare(Input& in, BlockImage& image, Bytes model) {
    model.resize(image.sectors() * 512);
    Bytes data;
    while (!in.empty()) {
        const unsigned kind = in.byte();
        uint64_t offset = in.take<uint32_t>(), bytes = in.take<uint16_t>() & 0x3fff;
        if (kind & 1) offset %= model.size() + 1;
        if (kind & 2) offset = model.size() - std::min<uint64_t>(offset & 0xfff, model.size());
        const bool inside = offset <= model.size() && bytes <= model.size() - offset;
        data.resize(bytes);
        if (kind & 0x80) {
            std::fill(data.begin(), data.end(), in.byte());
            bool written = image.write(offset, data.data(), bytes);
            check(written == (inside && image.writable()));
            if (written) std::copy(data.begin(), data.end(), model.begin() + ptrdiff_t(offset));
        } else {
            check(image.read(offset, data.data(), bytes) == inside);
            check(!inside || std::equal(data.begin(), data.end(), model.begin() + ptrdiff_t(offset)));
        }
        if (kind & 0x40) check(image.flush());
    }
}

void run(std::span<const uint8_t> input) {
    Input in(input);
    const uint64_t size = in.byte() & 1 ? in.take<uint16_t>() : kSizes[in.below(std::size(kSizes))];
    const unsigned how = in.byte();
    Bytes content(size);
    for (uint64_t at : {uint64_t(0), uint64_t(510), uint64_t(32768)}) {
        auto head = in.bytes(in.byte() & 63);
        for (size_t n = 0; n < head.size() && at + n < size; n++) content[at + n] = head[n];
    }
    test::ScratchFile file(content);
    DriveKind kind = guessDriveKind(file.path());
    check(kind == DriveKind::Floppy || kind == DriveKind::Disk || kind == DriveKind::Cdrom);
    std::string error;
    auto image = BlockImage::open(file.path(), {bool(how & 1), bool(how & 2)}, error);
    check(bool(image) == error.empty());
    if (!image) return;
    compare(in, *image, content);
    if (how & 4) floppyFormatOf(image->size());
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (uint8_t size = 0; size < std::size(kSizes); size++)
        for (uint8_t how = 0; how < 4; how++)
            all.push_back({0,   size, how,  4, 'Q', 'F', 'I', how, 2, 0x55, 0xaa, 6,  1, 'C', 'D', '0',
                           '0', '1',  0x81, 0, 0,   0,   0,   0,   2, 7,    2,    10, 0, 0,   0,   0,
                           1,   0xc3, 0,    1, 0,   0,   0,   1,   9, 1,    0,    0,  0, 0,   0,   0x10});
    return all;
}

}  // namespace

const Target kImages{"images", run, seeds, 800};

}  // namespace kiln::fuzz
