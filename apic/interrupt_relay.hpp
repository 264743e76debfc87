// The interrupt relay: it stands between every PCI function and its bridge, lets INTx (PCI 3.0, 2.2.6), MSI
// and MSI-X (6.8) pass as they are, and records who asked. An interrupt that comes by a line or a vector that
// many share can thus be put down to a bus:device.function and its interrupt identifier.
//
// *Counts.* Each identifier has a count since the reset, and the indicator: the count since somebody cleared
// it, who is the monitor, or the guest by way of a kiln-relay function (devices/relay_device.hpp). Of INTx a
// rise of the function's own wire is counted, not the interrupts that the I/O APIC makes of it.
//
// *Latencies.* What passes takes the names of those who asked along (Passage): a local APIC that sets a
// vector in its IRR keeps them in its InterruptTrack until the EOI. Three histograms an identifier:
// from raised to IRR (longer than nothing where the vector was masked, or the I/O APIC's input masked or not
// yet answered), from IRR to the processor's acknowledgement, from there to the EOI.
//
// *Shared or dedicated.* A function whose interrupts are dedicated to a processor bypasses all this: its
// messages are posted to that processor's local APIC (LocalApic::postVector) by whatever thread, without a
// lock, and nobody counts them. Its INTx goes through the I/O APIC, which alone knows the vector and when the
// level has been answered, and from there to that processor, unless a shared function holds the same input.
//
// Not modelled: latencies of what goes through the 8259 pair.
#pragma once
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apic/bdf.hpp"
#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/interrupt_track.hpp"
#include "apic/irq_line.hpp"
#include "mmu/log.hpp"

namespace kiln {

class ApicBus;

struct InterruptId {
    enum Kind : uint8_t { Intx, Msi, Msix } kind = Intx;
    uint16_t number = 0;  // message; of INTx the pin, 0 = INTA
    constexpr bool operator==(const InterruptId&) const = default;
};
std::string describe(InterruptId id);  // "INTA", "MSI 3", "MSI-X 100"

// Who interrupts: a PCI function.
class InterruptSource {
  public:
    virtual ~InterruptSource() = default;
    virtual Bdf bdf() const = 0;  // bridges' bus numbers may change it
};

// How often a span took so long: bucket 0 is 0 ns, bucket n is 2^(n-1) to 2^n - 1 ns, the last one also all
// that is longer.
struct LatencyHistogram {
    static constexpr unsigned kBuckets = 40;
    std::array<uint32_t, kBuckets> counts{};
    void add(Nanos span);
    uint64_t total() const;
};

class InterruptRelay : public Device {
  public:
    static constexpr int kShared = -1;
    enum Stage : uint8_t { RaisedToIrr, IrrToHandler, HandlerToEoi, kStages };

    // One of a function's identifiers.
    struct Identifier {
        InterruptId id;
        uint32_t indicator = 0;  // raised since it was cleared; stays at the largest number
        uint64_t raised = 0;     // since the reset
        uint64_t coalesced = 0;  // of those, found the vector in IRR already
        std::array<LatencyHistogram, kStages> latency{};
        // The interrupt on its way to an IRR.
        Nanos since = 0;
        bool waiting = false;   // wanted, but masked, or the I/O APIC has not sent it
        bool asserted = false;  // INTx
    };

    // The relay of one function. The function's side:
    class Port {
      public:
        // The wire changes its level, just before it does.
        void intx(bool level);
        void restoreIntx(bool level);  // it has this level in a state that is being loaded
        // A message that can't leave yet, as it is masked: time runs from now on.
        void wanted(InterruptId id);
        // Sends a message by `forward`, or straight to the processor that the function is dedicated to. True:
        // the latter, and nobody is to be told.
        bool dedicated(const Msi& msi, uint16_t requester);
        // kShared, or the number of a processor. From any thread: what is under way still arrives, and what
        // comes later goes the new way.
        void setInterrupts(int cpu);
        int interrupts() const { return cpu_.load(std::memory_order_acquire); }

        const InterruptSource& source() const { return source_; }
        unsigned first() const { return first_; }  // its identifiers: INTx, then MSI, then MSI-X
        unsigned count() const { return count_; }
        void state(StateVisitor& visit);

      private:
        friend class InterruptRelay;
        Port(InterruptRelay& relay, const InterruptSource& source, int wire, unsigned first)
            : relay_(relay), source_(source), first_(first), wire_(wire) {}
        uint32_t identifierOf(InterruptId id) const {
            return first_ + (id.kind ? base_[id.kind] + id.number : 0u);
        }
        InterruptRelay& relay_;
        const InterruptSource& source_;
        unsigned first_, count_ = 0;
        std::array<uint32_t, 3> base_{};  // where a kind begins
        const int wire_;                  // the chipset's input that its INTx ends at; none: -1
        std::atomic<int> cpu_{kShared};
    };

    // While it lives, what reaches an IRR comes from these.
    class Passage {
      public:
        Passage(Port* port, InterruptId id);  // a message, which is counted; null: nobody knows whose
        Passage(InterruptRelay& relay, unsigned pin);  // the I/O APIC sends for an input
        ~Passage();
        Passage(const Passage&) = delete;
        Passage& operator=(const Passage&) = delete;

      private:
        InterruptRelay* relay_;
    };

    InterruptRelay(Clock& clock, ApicBus& bus, Log& log);
    ~InterruptRelay() override;

    // A function appears, with INTx on `wire` (-1: none) as pin 0..3, and so many messages. For good.
    Port& add(const InterruptSource& source, int wire, unsigned pin, unsigned msi, unsigned msix);
    // Whether a wire leads to an input of the I/O APIC at the moment; the chipset's to say.
    std::function<bool(unsigned wire, unsigned pin)> wireLeadsTo;

    // -- what was recorded
    const std::vector<std::unique_ptr<Port>>& ports() const { return ports_; }
    Port* find(Bdf bdf) const;
    std::vector<Identifier>& identifiers() { return identifiers_; }
    const Port& portOf(uint32_t identifier) const;
    std::optional<uint32_t> find(Bdf bdf, InterruptId id) const;
    // The next identifier whose indicator isn't 0, round robin.
    std::optional<uint32_t> nextIndicated();
    uint32_t take(uint32_t identifier);                // the indicator, which is 0 then
    void clear(Port* port);                            // indicators; of all functions: null
    uint64_t untracked() const { return untracked_; }  // latencies not measured: too many under way at a time
    // Sees all that passes.
    std::function<void(const InterruptSource&, InterruptId)> onIntercept;

    // -- the I/O APIC asks: all who hold the input are dedicated to this processor
    std::optional<unsigned> dedicatedPin(unsigned pin) const;

    // -- local APICs tell
    bool passing() const { return passing_.count; }
    void enteredIrr(InterruptTrack& track, uint8_t vector);
    void acknowledged(InterruptTrack& track, uint8_t vector);
    void finished(InterruptTrack& track, uint8_t vector);

    std::string_view name() const override { return "interrupt-relay"; }
    void reset() override;
    void state(StateVisitor& visit) override;

  private:
    struct Passing {
        static constexpr unsigned kMost = 32;
        std::array<uint32_t, kMost> identifiers{};
        unsigned count = 0;
        uint8_t pin = InterruptTrack::kNoPin;
    };
    void intercept(Port& port, uint32_t identifier);
    void indicate(uint32_t identifier);
    void joinPending(const Port& port);
    bool holds(const Port& port, unsigned pin) const;
    void track(InterruptTrack& track, uint32_t identifier, uint8_t vector, uint8_t pin);

    Clock& clock_;
    ApicBus& bus_;
    Log& log_;
    std::vector<std::unique_ptr<Port>> ports_;
    std::vector<Identifier> identifiers_;
    std::vector<uint64_t> indicated_;  // a bit an identifier
    uint32_t next_ = 0;
    unsigned asserted_ = 0;  // functions that hold their INTx
    uint64_t untracked_ = 0;
    Passing passing_;
};

}  // namespace kiln
