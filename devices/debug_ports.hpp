// Ports that exist for people: debug consoles at 0x402 (SeaBIOS) and 0xE9 (Bochs), and the exit port that
// ends a run with a code chosen by the guest (QEMU's isa-debug-exit).
#pragma once
#include <cstdint>
#include <functional>

#include "apic/byte_io.hpp"
#include "apic/device.hpp"

namespace kiln {

class DebugConsole : public Device, public ByteIo {
  public:
    explicit DebugConsole(std::function<void(uint8_t)> output) : output_(std::move(output)) {}

    std::string_view name() const override { return "debug-console"; }
    void reset() override {}
    void state(StateVisitor&) override {}

    // 0xE9 tells SeaBIOS and others that somebody listens.
    uint8_t readByte(uint64_t) override { return 0xE9; }
    void writeByte(uint64_t, uint8_t value) override {
        if (output_) output_(value);
    }

  private:
    std::function<void(uint8_t)> output_;
};

class IsaDebugExit : public Device, public IoHandler {
  public:
    // `exit` gets the process exit code, (value << 1) | 1: never 0, which means an orderly end.
    explicit IsaDebugExit(std::function<void(int code)> exit) : exit_(std::move(exit)) {}

    std::string_view name() const override { return "isa-debug-exit"; }
    void reset() override {}
    void state(StateVisitor&) override {}

    uint64_t ioRead(uint64_t, unsigned) override { return 0; }
    void ioWrite(uint64_t, unsigned, uint64_t value) override {
        if (exit_) exit_(int(value << 1 | 1));
    }

  private:
    std::function<void(int)> exit_;
};

}  // namespace kiln
