// An 8-bit chip on the ISA bus: wider accesses arrive as single bytes, the lowest address first.
#pragma once
#include "mmu/io.hpp"

namespace kiln {

class ByteIo : public IoHandler {
  public:
    virtual uint8_t readByte(uint64_t offset) = 0;
    virtual void writeByte(uint64_t offset, uint8_t value) = 0;

    uint64_t ioRead(uint64_t offset, unsigned size) final {
        uint64_t value = 0;
        for (unsigned i = 0; i < size; i++) value |= uint64_t(readByte(offset + i)) << (i * 8);
        return value;
    }
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) final {
        for (unsigned i = 0; i < size; i++) writeByte(offset + i, uint8_t(value >> (i * 8)));
    }
};

}  // namespace kiln
