// Pushes onto a stack that is not current yet (or must not change until everything is pushed): interrupt
// delivery and far calls write their frame through it and commit SS:RSP afterwards, so a fault on the way
// leaves no trace.
#pragma once
#include "cpu/cpu.hpp"

namespace kiln {

class StackWriter {
  public:
    // `vector`, `error`: what a limit violation raises (#SS(0) on the current stack, #SS(selector) on a new
    // one).
    StackWriter(Cpu& cpu, const Segment& ss, uint64_t sp, bool user, bool longMode, uint32_t error)
        : cpu_(cpu),
          ss_(ss),
          sp_(sp),
          mask_(longMode   ? ~0ull
                : ss.big() ? 0xffffffff
                           : 0xffff),
          user_(user),
          long_(longMode),
          error_(error) {}

    // `width`: log2 of bytes, 1..3.
    void push(unsigned width, uint64_t value) {
        unsigned size = 1u << width;
        uint64_t sp = (sp_ - size) & mask_;
        const uint64_t at = linear(sp, size);
        if (user_ && cpu_.alignmentChecked() && at & (size - 1)) raise(kAC, error_ & kExternal);
        cpu_.storeLinear(at, size, value, user_);
        sp_ = (sp_ & ~mask_) | sp;
    }
    uint64_t sp() const { return sp_; }

  private:
    static constexpr uint32_t kExternal = 1;  // EXT, the only bit of an error code that #AC has

    uint64_t linear(uint64_t sp, unsigned size) {
        if (long_) {
            if (!cpu_.canonical(sp)) raise(kSS, error_);
            return sp;
        }
        uint64_t last = sp + size - 1;
        bool outside = ss_.expandDown() ? sp <= ss_.limit || last > (ss_.big() ? 0xffffffffu : 0xffffu)
                                        : last > ss_.limit;
        if (outside) raise(kSS, error_);
        return (ss_.base + sp) & 0xffffffff;
    }

    Cpu& cpu_;
    Segment ss_;
    uint64_t sp_, mask_;
    bool user_, long_;
    uint32_t error_;
};

}  // namespace kiln
