#include "devices/floppy_format.hpp"

namespace kiln {

namespace {

enum : uint8_t { kHigh = 1 << 0, kDouble = 1 << 1 | 1 << 2, kExtra = 1 << 3 };
using enum FloppyDriveType;

constexpr FloppyFormat kFormats[] = {
    {80, 2, 18, kHigh, D1440K},                                // the default for what fits nothing else
    {80, 2, 36, kExtra, D2880K},  {80, 2, 21, kHigh, D1440K},  // DMF
    {82, 2, 21, kHigh, D1440K},   {83, 2, 21, kHigh, D1440K},   {80, 2, 20, kHigh, D1440K},
    {80, 2, 22, kHigh, D1440K},   {80, 2, 23, kHigh, D1440K},   {80, 2, 24, kHigh, D1440K},
    {82, 2, 18, kHigh, D1440K},   {80, 2, 39, kExtra, D2880K},  {80, 2, 40, kExtra, D2880K},
    {80, 2, 15, kHigh, D1200K},   {80, 2, 9, kDouble, D1440K},  {80, 2, 10, kDouble, D1440K},
    {82, 2, 10, kDouble, D1440K}, {83, 2, 10, kDouble, D1440K}, {80, 2, 8, kDouble, D1440K},
    {40, 2, 9, kDouble, D1200K},  {40, 2, 8, kDouble, D1200K},  {40, 2, 10, kDouble, D1200K},
    {40, 1, 9, kDouble, D1200K},  {40, 1, 8, kDouble, D1200K},
};

}  // namespace

const FloppyFormat* floppyFormatOf(uint64_t bytes) {
    for (const FloppyFormat& f : kFormats)
        if (bytes == f.sectors() * 512ull) return &f;
    if (bytes <= kFormats[0].sectors() * 512ull) return &kFormats[0];
    if (bytes <= kFormats[1].sectors() * 512ull) return &kFormats[1];
    return nullptr;
}

}  // namespace kiln
