// What answers an access that is not RAM: the interface every register block implements, and the
// 64 KiB I/O port space (SDM vol. 1, chapter 19).
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "mmu/direct_register.hpp"

namespace kiln {

// A block of registers. `offset` is in bytes from the start of the mapping, `size` is 1, 2, 4 or 8 bytes;
// an access never crosses the end of the mapping. Values are zero-extended little-endian. Nothing here
// throws: an access that makes no sense reads all ones and writes nothing.
class IoHandler {
  public:
    virtual ~IoHandler() = default;
    virtual uint64_t ioRead(uint64_t offset, unsigned size) = 0;
    virtual void ioWrite(uint64_t offset, unsigned size, uint64_t value) = 0;
    // Up to `count` (not 0) accesses of `size` bytes in one call, to the same register or to `ascending`
    // ones, between the device and memory. How many were done: nothing but the last may have done more than
    // to move data, and only that one may depend on time.
    virtual uint64_t ioReadBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending, void* to);
    virtual uint64_t ioWriteBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                                  const void* from);
    // How many such accesses from now on are sure to do nothing but to move data, whatever time it is.
    virtual uint64_t plainAccesses(uint64_t, unsigned, bool /*write*/) { return 0; }
    // How an access of `size` bytes can be had without these; for as long as the handler is mapped.
    virtual DirectRegister direct(uint64_t, unsigned, bool /*write*/) { return {}; }
};

// All ones in the low `size` bytes: what an undriven bus reads.
constexpr uint64_t openBus(unsigned size) { return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1; }

// The I/O port space. Ranges may be mapped over one another; the one mapped last answers.
class PortBus {
  public:
    // Lets `handler` answer ports first .. first+count-1. `base` is the offset it sees for port `first`.
    void map(uint16_t first, uint32_t count, IoHandler& handler, uint64_t base = 0);
    // Removes every range of `handler` that starts at `first` (BARs move; the rest stays mapped).
    void unmap(uint16_t first, IoHandler& handler);

    // `size` is 1, 2 or 4 bytes. Ports of different handlers under one access are split into bytes.
    uint32_t read(uint16_t port, unsigned size);
    void write(uint16_t port, unsigned size, uint32_t value);

    // Whom an access of `size` bytes reaches as a whole; a null handler: it must be split, or nobody is
    // there.
    struct Target {
        IoHandler* handler = nullptr;
        uint64_t offset = 0;
    };
    Target target(uint16_t port, unsigned size) const;
    DirectRegister direct(uint16_t port, unsigned size, bool write) const;
    uint64_t version() const { return version_; }  // another one after each change
    std::vector<std::function<void()>> onChange;   // ports were mapped or unmapped: before that

    struct Range {
        uint32_t first, count;
        IoHandler* handler;
        uint64_t base;
    };
    const std::vector<Range>& ranges() const { return ranges_; }  // in the order they were mapped

  private:
    const Range* find(uint32_t port) const;
    void rebuild();

    uint64_t version_ = 0;
    std::vector<Range> ranges_;
    std::array<uint16_t, 65536> owner_{};  // port -> index into ranges_ plus one; 0 is open bus
};

}  // namespace kiln
