// What local APICs, I/O APICs and message-signalled interrupts talk over: SDM vol. 3, chapter 11, sections
// 11.6 (interprocessor interrupts), 11.7 (system and APIC bus arbitration) and 11.11 (MSI).
//
// A message is delivered at once, on the caller's stack. Requests of devices pass an interrupt remapping unit
// where there is one. Not modelled: arbitration IDs, bus errors, remote read.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "apic/irq_line.hpp"
#include "mmu/io.hpp"

namespace kiln {

class LocalApic;
class IoApic;
class InterruptRelay;

// Bits 8..10 of ICR, LVT, redirection entry and MSI data.
enum class DeliveryMode : uint8_t { Fixed, LowestPriority, Smi, RemoteRead, Nmi, Init, StartUp, ExtInt };

struct ApicMessage {
    uint32_t destination = 0;
    bool wide = false;  // a 32-bit destination (x2APIC ICR); otherwise 8 bits
    bool logical = false;
    DeliveryMode mode = DeliveryMode::Fixed;
    uint8_t vector = 0;
    bool level = false;    // level-triggered: sets the vector's TMR bit
    bool relayed = false;  // asked for by those who pass the relay at the moment
};

// Bits 18..19 of ICR.
enum class Shorthand : uint8_t { None, Self, AllIncludingSelf, AllExcludingSelf };

// What may stand between a device's request and the bus.
class InterruptRemapping {
  public:
    virtual ~InterruptRemapping() = default;
    // What becomes of a request; none: it is blocked. `source` is the requester's bus, device and function;
    // the I/O APIC has none.
    virtual std::optional<ApicMessage> resolve(const Msi& msi, std::optional<uint16_t> source) = 0;
};

// Also the IoHandler of the 1 MiB window at 0xFEE00000: message-signalled interrupts are writes to it. (A
// processor's accesses to its own APIC's page don't come here.)
class ApicBus : public IoHandler {
  public:
    void add(LocalApic& apic) { locals_.push_back(&apic); }
    void add(IoApic& apic) { ioApics_.push_back(&apic); }
    const std::vector<LocalApic*>& locals() const { return locals_; }

    // True when some local APIC accepted the message.
    bool deliver(const ApicMessage& message);
    // An interprocessor interrupt; `message.destination` counts only without a shorthand.
    bool deliver(const ApicMessage& message, Shorthand shorthand, LocalApic& sender);
    bool deliverMsi(const Msi& msi);
    // A request of the I/O APIC or a PCI function: like deliverMsi, but by way of `remapping`.
    bool request(const Msi& msi, std::optional<uint16_t> source = {});
    // The same for one whose interrupts are dedicated to a processor, whatever destination the message has. A
    // mode other than fixed and lowest priority has its ordinary way. `post` is for any thread, without a
    // lock unless there is remapping.
    bool requestFor(unsigned cpu, const Msi& msi);
    void post(unsigned cpu, const Msi& msi, std::optional<uint16_t> source);
    InterruptRemapping* remapping = nullptr;
    InterruptRelay* relay = nullptr;  // where there are PCI functions
    static ApicMessage decode(const Msi& msi);
    static std::optional<ApicMessage> decodeAsserted(const Msi& msi);  // none: it ends a level

    // A level-triggered interrupt was finished somewhere: I/O APICs look at their pins again.
    void broadcastEoi(uint8_t vector);

    // The 8259 pair's INTR output, wired to LINT0 of every CPU.
    void setIntr(bool level);
    bool intr() const { return intr_; }
    // The INTA cycle: gives the vector of the 8259 pair. Set by the board.
    std::function<uint8_t()> onIntAck;
    uint8_t interruptAcknowledge() { return onIntAck ? onIntAck() : 0xFF; }

    // Window accesses; offset 0 is 0xFEE00000.
    static constexpr uint64_t kWindowBase = 0xFEE00000;
    static constexpr uint64_t kWindowSize = 0x100000;
    static constexpr bool inWindow(uint64_t address) { return address - kWindowBase < kWindowSize; }
    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;

  private:
    LocalApic* lowestPriority(const ApicMessage& message, Shorthand shorthand, LocalApic* sender);
    bool send(const ApicMessage& message, Shorthand shorthand, LocalApic* sender);
    std::optional<ApicMessage> resolve(const Msi& msi, std::optional<uint16_t> source);

    std::vector<LocalApic*> locals_;
    std::vector<IoApic*> ioApics_;
    size_t lastLowest_ = 0;  // ties of lowest priority go round
    bool intr_ = false;
};

}  // namespace kiln
