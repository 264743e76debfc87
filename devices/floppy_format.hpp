// The formats of PC diskettes, recognised by the size of an image.
#pragma once
#include <cstdint>

namespace kiln {

// As the CMOS byte at 0x10 names a drive.
enum class FloppyDriveType : uint8_t { None = 0, D360K = 1, D1200K = 2, D720K = 3, D1440K = 4, D2880K = 5 };

struct FloppyFormat {
    uint8_t tracks, heads, sectorsPerTrack;
    uint8_t rates;  // a bit for each data rate code (0: 500, 1: 300, 2: 250 kb/s, 3: 1 Mb/s) that reads it
    FloppyDriveType drive;  // the drive it belongs into

    constexpr uint32_t sectors() const { return uint32_t(tracks) * heads * sectorsPerTrack; }
};

// Exact sizes first; any other is taken for the beginning of the next larger of 1.44 and 2.88 MB. Null: too
// large for a diskette.
const FloppyFormat* floppyFormatOf(uint64_t bytes);

}  // namespace kiln
