// Where a directly booted kernel, its modules and what it is told may lie in the guest's RAM below 4 GiB: not
// where the firmware keeps its own things, nor where the option ROM works (kernel_rom.asm).
#pragma once
#include <cstdint>
#include <map>
#include <optional>

namespace kiln {

class GuestSpace {
  public:
    static constexpr uint64_t kPage = 4096;
    // The option ROM's scratch memory ends at kLowBegin, the firmware's extended data area begins behind
    // kLowEnd.
    static constexpr uint64_t kLowBegin = 0x3000, kLowEnd = 0x9f000, kHighBegin = 0x100000;
    static constexpr uint64_t kFirmwareReserve = 1 << 20;  // tables at the top of RAM

    // `lowRam` is the RAM below 4 GiB in bytes.
    explicit GuestSpace(uint64_t lowRam)
        : highEnd_(lowRam > kHighBegin + kFirmwareReserve ? lowRam - kFirmwareReserve : kHighBegin) {}

    uint64_t highEnd() const { return highEnd_; }
    // The range is RAM that a kernel may use, whether taken or not.
    bool usable(uint64_t address, uint64_t size) const;
    bool isFree(uint64_t address, uint64_t size) const;
    void take(uint64_t address, uint64_t size);  // taking twice is fine: segments may overlap

    // The lowest or highest free place for `size` bytes that lies in [from, to), aligned to `alignment`, a
    // power of two.
    std::optional<uint32_t> lowest(uint64_t size, uint64_t from, uint64_t to,
                                   uint64_t alignment = kPage) const;
    std::optional<uint32_t> highest(uint64_t size, uint64_t from, uint64_t to,
                                    uint64_t alignment = kPage) const;

  private:
    uint64_t highEnd_;
    std::map<uint64_t, uint64_t> taken_;  // begin -> end, apart from each other
};

}  // namespace kiln
