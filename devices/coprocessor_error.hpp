// The PC's way of reporting x87 errors while CR0.NE = 0 (SDM vol. 1, D.2; IBM PC/AT): FERR# is latched and
// drives IRQ 13 until the handler writes port F0h. Port F1h is the coprocessor reset of the AT, which does
// the same here.
//
// Not modelled: IGNNE#, which keeps the processor from stopping at the next x87 instruction inside the
// handler.
#pragma once
#include "apic/device.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"

namespace kiln {

class CoprocessorError : public Device, public IoHandler {
  public:
    explicit CoprocessorError(IrqInput& irq13) : line_(irq13) {}

    // FERR#. Its falling edge leaves the latch as it is.
    void ferr(bool raised) {
        if (raised) latch(true);
    }

    std::string_view name() const override { return "coprocessor-error"; }
    void reset() override { latch(false); }
    void state(StateVisitor& visit) override {
        visit("latched", latched_);
        latch(latched_);
    }

    uint64_t ioRead(uint64_t, unsigned size) override { return openBus(size); }
    void ioWrite(uint64_t, unsigned, uint64_t) override { latch(false); }

  private:
    void latch(bool on) {
        latched_ = on;
        line_.set(on);
    }

    IrqLine line_;
    bool latched_ = false;
};

}  // namespace kiln
