// The PC's way of reporting x87 errors while CR0.NE = 0 (SDM vol. 1, D.2; IBM PC/AT): FERR# going active is
// latched and drives IRQ 13 until the handler writes port F0h, which also activates IGNNE#, so that the
// handler may use x87 instructions; it stays active as long as FERR# does. Port F1h is the coprocessor reset
// of the AT, which does the same here.
#pragma once
#include <functional>

#include "apic/device.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"

namespace kiln {

class CoprocessorError : public Device, public IoHandler {
  public:
    CoprocessorError(IrqInput& irq13, std::function<void(bool active)> ignne)
        : line_(irq13), wire_(std::move(ignne)) {}

    void ferr(bool active) {
        if (active && !ferr_) latch(true);
        ferr_ = active;
        if (!active) setIgnne(false);
    }

    std::string_view name() const override { return "coprocessor-error"; }
    void reset() override {
        ferr_ = false;
        latch(false);
        setIgnne(false);
    }
    void state(StateVisitor& visit) override {
        visit("latched", latched_);
        visit("ferr", ferr_);
        visit("ignne", ignne_);
        latch(latched_);
        setIgnne(ignne_);
    }

    uint64_t ioRead(uint64_t, unsigned size) override { return openBus(size); }
    void ioWrite(uint64_t, unsigned, uint64_t) override {
        latch(false);
        setIgnne(ferr_);
    }

  private:
    void latch(bool on) {
        latched_ = on;
        line_.set(on);
    }
    void setIgnne(bool active) {
        ignne_ = active;
        if (wire_) wire_(active);
    }

    IrqLine line_;
    std::function<void(bool active)> wire_;
    bool latched_ = false, ferr_ = false, ignne_ = false;
};

}  // namespace kiln
