// The local APIC of one CPU: SDM vol. 3, chapter 11 ("Advanced Programmable Interrupt Controller"), as xAPIC
// page and as x2APIC MSRs, with the APIC base MSR and the timer including TSC-deadline mode.
//
// Not modelled: arbitration priority on a serial bus, remote read, LINT polarity and
// level-triggered LINT pins (their remote IRR), CMCI sources (its LVT entry is stored).
#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <functional>
#include <optional>

#include "apic/apic_bus.hpp"
#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/interrupt_track.hpp"
#include "apic/irq_line.hpp"
#include "mmu/address.hpp"
#include "mmu/io.hpp"

namespace kiln {

// A set of 256 vectors: IRR, ISR, TMR.
class VectorSet {
  public:
    bool test(uint8_t v) const { return words_[v >> 6] >> (v & 63) & 1; }
    void set(uint8_t v) { words_[v >> 6] |= 1ull << (v & 63); }
    void clear(uint8_t v) { words_[v >> 6] &= ~(1ull << (v & 63)); }
    int highest() const {  // -1 when empty
        for (int i = 3; i >= 0; i--)
            if (words_[i]) return i * 64 + 63 - std::countl_zero(words_[i]);
        return -1;
    }
    bool atMostOne() const {
        bool any = false, several = false;
        for (const uint64_t w : words_) {
            several |= (w && any) || (w & (w - 1));
            any |= w != 0;
        }
        return !several;
    }
    const std::array<uint64_t, 4>& words() const { return words_; }
    uint32_t dword(unsigned i) const { return uint32_t(words_[i >> 1] >> (i & 1 ? 32 : 0)); }
    void state(StateVisitor& visit, std::string_view name) { visit(name, words_); }

  private:
    std::array<uint64_t, 4> words_{};
};

class LocalApic : public Device, public IoHandler {
  public:
    static constexpr uint64_t kBusHz = 1'000'000'000;  // what the timer's divider divides

    // Joins `bus`. `readTsc` gives the CPU's time-stamp counter, which runs at `tscHz`.
    LocalApic(Clock& clock, ApicBus& bus, uint32_t id, bool bsp, std::function<uint64_t()> readTsc,
              uint64_t tscHz = 1'000'000'000);

    // -- toward the CPU. Every test below reads one cached word, and needs no lock.

    // Anything at all for the CPU to look at (see the tests below). INTR-like ones still depend on RFLAGS.IF.
    bool attention() const { return attention(~0u); }
    // Not 0: there is attention(). For who looks from translated code.
    const std::atomic<uint32_t>& attentionWord() const { return attention_; }
    bool interruptPending() const { return attention(kFixed); }  // a fixed interrupt above PPR
    bool extIntPending() const { return attention(kExtInt); }    // the 8259 pair's, through LINT0
    bool intrPending() const { return attention(kFixed | kExtInt); }
    // The vector that acknowledge() would give, if that is all there is; -1: it is not.
    int onlyFixed() const { return attention_ == kFixed ? irr_.highest() : -1; }
    bool nmiPending() const { return attention(kNmi); }
    bool initPending() const { return attention(kInit); }
    bool sipiPending() const { return attention(kSipi); }
    bool smiPending() const { return attention(kSmi); }
    // Vectors were posted: mergePosted() says what of them can be delivered.
    bool posted() const { return attention(kPosted); }
    void mergePosted();

    int acknowledge();  // IRR to ISR; the vector, or the spurious vector when nothing is deliverable any more
    int acknowledgeExtInt();  // INTA cycle to the 8259 pair; its vector
    int acknowledgeIntr() { return interruptPending() ? acknowledge() : acknowledgeExtInt(); }

    // Each clears what it returns. INIT comes before SIPI; a SIPI taken outside wait-for-SIPI is to be
    // dropped.
    bool takeNmi() { return take(kNmi); }
    bool takeInit() { return take(kInit); }  // this APIC is already in its state after INIT
    bool takeSmi() { return take(kSmi); }
    bool takeSipi(uint8_t& vector);

    // Something may have become deliverable: the CPU leaves its fast loop or its halt.
    std::function<void()> onAttention;

    uint8_t cr8() const { return tpr_ >> 4; }
    void setCr8(uint8_t value) { setTpr(uint8_t(value << 4)); }

    // -- MSRs. False means #GP(0).
    uint64_t apicBase() const { return base_; }  // IA32_APIC_BASE, 0x1B
    bool setApicBase(uint64_t value);
    bool readMsr(uint32_t index, uint64_t& value);  // 0x800..0x8FF
    bool writeMsr(uint32_t index, uint64_t value);
    uint64_t tscDeadline() const { return tscDeadline_; }  // IA32_TSC_DEADLINE, 0x6E0
    void setTscDeadline(uint64_t value);
    void tscChanged();                    // the guest wrote the TSC: the deadline is another moment now
    std::function<void()> onBaseChanged;  // the page moved, vanished or came back

    bool enabled() const { return base_ & kBaseEnable; }
    bool x2apic() const { return base_ & kBaseExtended; }
    bool isBsp() const { return bsp_; }
    // Whether `page` is this APIC's, for its own processor.
    bool ownsPage(PhysAddr page) const {
        return enabled() && !x2apic() && page.value == (base_ & ~kPageMask);
    }
    uint32_t initialId() const { return initialId_; }  // for CPUID

    // -- wires
    void lint0Changed(bool level);  // the 8259 pair's INTR; called by ApicBus::setIntr
    IrqInput& lint1() { return lint1_; }
    void performanceInterrupt() { fireLvt(kLvtPerformance); }
    void thermalInterrupt() { fireLvt(kLvtThermal); }

    // -- toward the bus
    bool matches(const ApicMessage& message) const;  // is it addressed to this APIC?
    bool accept(const ApicMessage& message);         // delivers it; false when refused
    // An edge-triggered vector, from any thread and without a lock: it waits beside IRR until this APIC's
    // processor, or whoever looks at its registers, merges it.
    void postVector(uint8_t vector);
    bool acceptsFixed() const { return enabled() && softwareEnabled(); }
    // Focus processor (11.6.2.4): has the vector pending or in service, and checks for that.
    bool isFocus(uint8_t vector) const {
        return !(svr_ & kSvrNoFocus) && (irr_.test(vector) || isr_.test(vector));
    }
    uint8_t arbitrationPriority() const;  // APR: the lower, the sooner it gets lowest-priority messages

    InterruptTrack& track() { return track_; }

    // -- for people who look
    // A register by its x2APIC number (page offset / 16), if there is one.
    std::optional<uint32_t> look(unsigned reg) {
        uint32_t value = 0;
        return readRegister(reg, value) ? std::optional(value) : std::nullopt;
    }
    uint64_t taken(uint8_t vector) const { return taken_[vector]; }  // by its processor, since it was made

    // -- Device: RESET#. INIT keeps the ID and the base MSR.
    std::string_view name() const override { return "local-apic"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    // -- the xAPIC page, 4 KiB
    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
    DirectRegister direct(uint64_t offset, unsigned size, bool write) override;

  private:
    DirectRegister directEoi() const;
    static constexpr uint32_t kFixed = 1, kExtInt = 2, kNmi = 4, kInit = 8, kSipi = 16, kSmi = 32,
                              kPosted = 64;
    static constexpr uint32_t kSvrNoFocus = 1 << 9;
    static constexpr uint64_t kBaseBsp = 1 << 8, kBaseExtended = 1 << 10, kBaseEnable = 1 << 11;
    enum Lvt : unsigned {
        kLvtTimer,
        kLvtThermal,
        kLvtPerformance,
        kLvtLint0,
        kLvtLint1,
        kLvtError,
        kLvtCmci,
        kLvtCount
    };

    // Registers are named by their x2APIC number: page offset / 16.
    bool readRegister(unsigned reg, uint32_t& value);
    bool writeRegister(unsigned reg, uint32_t value);
    bool writableMsr(unsigned reg, uint64_t value) const;

    void clearRegisters();  // the state after INIT
    bool softwareEnabled() const { return svr_ & 0x100; }
    uint32_t id() const;
    uint32_t logicalId() const;
    bool matchesPhysical(const ApicMessage& message) const;
    bool matchesLogical(const ApicMessage& message) const;

    bool acceptVector(uint8_t vector, bool level, bool relayed);
    void setTpr(uint8_t value);
    uint8_t ppr() const;
    void eoi();
    void writeSvr(uint32_t value);
    void writeLvt(Lvt entry, uint32_t value);
    void writeIcr(uint64_t value);
    void fireLvt(Lvt entry);
    void error(uint32_t esrBit);
    void latchEsr();

    bool attention(uint32_t what) const { return attention_.load(std::memory_order_relaxed) & what; }
    bool take(uint32_t what);
    void post(uint32_t what);
    void updateAttention();
    bool extIntLine() const;

    enum class TimerMode { OneShot, Periodic, TscDeadline, Reserved };
    TimerMode timerMode() const { return TimerMode(lvt_[kLvtTimer] >> 17 & 3); }
    unsigned timerDivide() const;
    uint32_t currentCount() const;
    void startTimer(uint32_t count);
    void setDivide(uint32_t value);
    void armTimer(Nanos now);
    void armTscDeadline();
    void timerExpired();
    void serveTimer();

    Clock& clock_;
    ApicBus& bus_;
    const uint32_t initialId_;
    const bool bsp_;
    std::function<uint64_t()> readTsc_;
    const uint64_t tscHz_;

    // kPosted is set by anybody, the others are written under the device lock; read without it.
    std::atomic<uint32_t> attention_{0};
    std::array<std::atomic<uint64_t>, 4> posted_{};  // vectors
    uint64_t base_ = 0;
    uint8_t xapicId_ = 0;
    uint8_t tpr_ = 0;
    uint32_t ldr_ = 0, dfr_ = 0, svr_ = 0;
    uint64_t icr_ = 0;
    uint32_t esr_ = 0, pendingErrors_ = 0;
    std::array<uint32_t, kLvtCount> lvt_{};
    VectorSet irr_, isr_, tmr_;
    InterruptTrack track_;    // the relay's
    bool requested_ = false;  // there is anything in IRR, or was
    bool plainEoi_ = true;    // an end of interrupt would do nothing but empty ISR
    uint8_t sipiVector_ = 0;
    bool extIntMessage_ = false;  // an ExtINT came by message (I/O APIC), not over LINT0

    uint32_t initialCount_ = 0, divide_ = 0;
    Nanos timerStart_ = 0;     // when the count was `startCount_`
    uint32_t startCount_ = 0;  // initialCount_, except after a change of the divider
    bool timerRunning_ = false;
    uint64_t tscDeadline_ = 0;
    Timer timer_;

    IrqInput lint1_;
    std::array<uint64_t, 256> taken_{};  // by vector; 8259 interrupts, too
};

}  // namespace kiln
