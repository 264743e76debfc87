// The high precision event timer (IA-PC HPET specification 1.0a): three comparators, all able to be periodic,
// on a 64-bit counter of 100 MHz, with legacy replacement routing.
//
// Not modelled: FSB (message) interrupts; an interrupt route in the I/O APIC other than those of the route
// capability.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/io_apic.hpp"
#include "apic/irq_line.hpp"
#include "mmu/io.hpp"

namespace kiln {

class Hpet : public Device, public IoHandler {
  public:
    static constexpr unsigned kTimers = 3;
    static constexpr Nanos kTick = 10;                        // ns
    static constexpr uint32_t kRouteCapability = 0x00F00000;  // I/O APIC inputs 20..23

    // irq0 and irq8: the wires (to both interrupt controllers) of the PIT and the RTC.
    Hpet(Clock& clock, IrqInput& irq0, IrqInput& irq8, IoApic& ioApic);

    // Timers 0 and 1 took over IRQ 0 and IRQ 8, or gave them back: PIT and RTC are to be cut off or joined
    // again.
    std::function<void(bool legacy)> onLegacyReplacement;

    std::string_view name() const override { return "hpet"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    // 1 KiB at 0xFED00000. Accesses of 4 and 8 bytes; narrower ones can only read.
    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
    DirectRegister direct(uint64_t offset, unsigned size, bool write) override;

  private:
    struct Comparator {
        uint64_t config = 0;  // the writable bits
        uint64_t compare = ~0ull;
        uint64_t period = 0;
        bool fired = false;  // one-shot and done, until the next turn of the counter or a new value
        IrqLine line;
        std::unique_ptr<Timer> timer;
    };

    bool enabled() const { return config_ & 1; }
    bool legacy() const { return config_ & 2; }
    uint64_t counter() const;
    uint64_t readRegister(uint64_t offset) const;
    void writeRegister(uint64_t offset, uint64_t value, uint64_t mask);
    void writeConfig(uint64_t value);
    void writeStatus(uint64_t value);
    void writeTimer(unsigned n, uint64_t offset, uint64_t value, uint64_t mask);
    void writeTimerConfig(unsigned n, uint64_t value);
    void writeComparator(unsigned n, uint64_t value, uint64_t mask);

    IrqInput* route(unsigned n);
    void connect(unsigned n);
    void updateLine(unsigned n);
    void arm(unsigned n);
    void armAll();
    void expired(unsigned n);
    uint64_t width(const Comparator& t) const;

    Clock& clock_;
    IrqInput& irq0_;
    IrqInput& irq8_;
    IoApic& ioApic_;
    uint64_t config_ = 0, status_ = 0;
    uint64_t stopped_ = 0;  // the counter while it does not run
    Nanos startedAt_ = 0;   // when it would have been 0, in modular arithmetic, while it runs
    uint64_t startedFrom_ = 0;
    std::array<Comparator, kTimers> timers_;
};

}  // namespace kiln
