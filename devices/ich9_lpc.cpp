#include "devices/ich9_lpc.hpp"

#include <algorithm>
#include <cstring>

namespace kiln {

namespace {

enum : unsigned {
    kPmBase = 0x40,
    kAcpiControl = 0x44,
    kGpioBase = 0x48,
    kGpioControl = 0x4c,
    kPirqA = 0x60,  // A..D at 0x60..0x63, E..H at 0x68..0x6b
    kSerialIrq = 0x64,
    kPirqE = 0x68,
    kLpcDecode = 0x80,
    kGenPmCon1 = 0xa0,
    kBiosControl = 0xdc,
    kRcba = 0xf0,
};
constexpr uint8_t kPirqDisabled = 0x80, kSmiLock = 0x10;
constexpr int kPriority = 2;  // above RAM and BARs

// DxxIR of slot 25..31 in the root complex block; slot 30 shares its neighbour's defaults.
constexpr std::array<uint16_t, 7> kSlotRoute = {0x3150, 0x314c, 0x3148, 0x3146, 0x3144, 0x3142, 0x3140};
constexpr unsigned kFirstRoutedSlot = 25;

constexpr unsigned pirqOffset(unsigned pirq) { return pirq < 4 ? kPirqA + pirq : kPirqE + pirq - 4; }

}  // namespace

Ich9Lpc::Ich9Lpc(PciBus& bus, const Wires& wires)
    : PciFunction(
          {.vendor = 0x8086, .device = 0x2918, .classCode = 0x060100, .revision = 2, .headerType = 0x80}),
      bus_(bus),
      rcrb_(kRootComplexSize) {
    for (IrqInput& input : inputs_) input = IrqInput([this](bool) { updateInterrupts(); });
    for (unsigned i = 0; i < 16; i++)
        if (wires.isa[i]) toIsa_[i].connect(*wires.isa[i]);
    for (unsigned i = 0; i < 8; i++)
        if (wires.ioApic[i]) toIoApic_[i].connect(*wires.ioApic[i]);

    writable_[4] = 0x00;  // I/O, memory and bus master are fixed on
    config_[4] = 0x07;
    config_[0x06] = 0x10, config_[0x07] = 0x02;
    config_[kPmBase] = 1;
    writable_[kPmBase] = 0x80, writable_[kPmBase + 1] = 0xff;
    writable_[kAcpiControl] = 0x87;
    config_[kGpioBase] = 1;
    writable_[kGpioBase] = 0x80, writable_[kGpioBase + 1] = 0xff;
    writable_[kGpioControl] = 0x10;
    for (unsigned pirq = 0; pirq < 8; pirq++) {
        config_[pirqOffset(pirq)] = kPirqDisabled;
        writable_[pirqOffset(pirq)] = 0x8f;
    }
    config_[kSerialIrq] = 0x10;
    writable_[kSerialIrq] = 0xff;
    std::fill_n(&writable_[kLpcDecode], 0x20, uint8_t(0xff));
    std::fill_n(&writable_[kGenPmCon1], 0x10, uint8_t(0xff));
    writable_[0xa2] = 0x00;  // status bits: nothing failed
    writable_[kBiosControl] = 0x1f;
    writable_[kRcba] = 0x01, writable_[kRcba + 1] = 0xc0, writable_[kRcba + 2] = 0xff,
    writable_[kRcba + 3] = 0xff;
    resetRootComplex();
    bus.resetControl = &resetControl_;
}

// -- interrupts

unsigned Ich9Lpc::gsiOf(Bdf bdf, unsigned pin) {
    unsigned slot = bdf.device(), index = (pin - 1) & 3;
    return slot >= kFirstRoutedSlot ? 16 + index : 20 + ((slot + index) & 3);
}

unsigned Ich9Lpc::pirqOf(unsigned slot, unsigned pin) const {
    if (slot < kFirstRoutedSlot) return 4 + ((slot + pin) & 3);
    unsigned at = kSlotRoute[slot - kFirstRoutedSlot];
    return (rcrb_[at] | rcrb_[at + 1] << 8) >> (pin * 4) & 7;
}

int Ich9Lpc::isaIrqOf(unsigned pirq) const {
    constexpr uint16_t kAllowed = 0xdef8;  // 3-7, 9-12, 14, 15
    uint8_t route = config_[pirqOffset(pirq)];
    return !(route & kPirqDisabled) && (kAllowed >> (route & 15) & 1) ? route & 15 : -1;
}

bool Ich9Lpc::leadsTo(unsigned input, unsigned ioApicPin) const {
    const unsigned pirq = pirqOf(input / 4, input % 4);
    return ioApicPin == 16 + pirq || int(ioApicPin) == isaIrqOf(pirq);
}

void Ich9Lpc::updateInterrupts() {
    std::array<bool, 8> pirq{};
    for (unsigned slot = 0; slot < 32; slot++)
        for (unsigned pin = 0; pin < 4; pin++)
            if (inputs_[slot * 4 + pin].level()) pirq[pirqOf(slot, pin)] = true;
    std::array<bool, 16> isa{};
    for (unsigned i = 0; i < 8; i++) {
        int input = isaIrqOf(i);
        if (pirq[i] && input >= 0) isa[unsigned(input)] = true;
    }
    for (unsigned i = 0; i < 8; i++) toIoApic_[i].set(pirq[i]);
    for (unsigned i = 0; i < 16; i++) toIsa_[i].set(isa[i]);
}

unsigned Ich9Lpc::sciGsi() const {
    static constexpr std::array<uint8_t, 8> kSci = {9, 10, 11, 9, 20, 21, 22, 23};
    return kSci[config_[kAcpiControl] & 7];
}

// -- configuration space

void Ich9Lpc::update() {
    updateInterrupts();
    bool enabled = config_[kRcba] & 1;
    PhysAddr at(get32(kRcba) & 0xffffc000);
    if (rcrbRegion_ && (!enabled || at != rcrbAt_)) {
        bus_.memory.unmap(rcrbRegion_);
        rcrbRegion_ = nullptr;
    }
    if (enabled && !rcrbRegion_)
        rcrbRegion_ = bus_.memory.mapIo(at, kRootComplexSize, rootComplex_, kPriority);
    rcrbAt_ = at;

    if (pmBase() == reportedPmBase_ && pmEnabled() == reportedPmEnabled_) return;
    reportedPmBase_ = pmBase();
    reportedPmEnabled_ = pmEnabled();
    if (onPmBase) onPmBase(reportedPmBase_, reportedPmEnabled_);
}

void Ich9Lpc::configWrite(uint16_t offset, unsigned size, uint32_t value) {
    const uint8_t locked = config_[kGenPmCon1] & kSmiLock;
    PciFunction::configWrite(offset, size, value);
    config_[kGenPmCon1] |= locked;
    if (onSmiLock) onSmiLock(config_[kGenPmCon1] & kSmiLock);
    update();
}

void Ich9Lpc::reset() {
    PciFunction::reset();
    resetRegister_ = 0;
    resetRootComplex();
    update();
}

void Ich9Lpc::resetForWake() {
    resetKeeping({{kPmBase, 5}, {kGpioBase, 5}, {kPirqA, 4}, {kPirqE, 4}, {kLpcDecode, 16}, {kRcba, 4}});
    resetRegister_ = 0;
    update();
}

void Ich9Lpc::state(StateVisitor& visit) {
    PciFunction::state(visit);
    visit("reset_control", resetRegister_);
    visit("root_complex", rcrb_);
    update();  // after a load
}

// -- root complex register block

void Ich9Lpc::resetRootComplex() {
    std::fill(rcrb_.begin(), rcrb_.end(), uint8_t(0));
    for (uint16_t at : kSlotRoute) rcrb_[at] = 0x10, rcrb_[at + 1] = 0x32;
}

uint64_t Ich9Lpc::RootComplex::ioRead(uint64_t offset, unsigned size) {
    uint64_t value = 0;
    if (offset + size <= lpc.rcrb_.size()) std::memcpy(&value, &lpc.rcrb_[offset], size);
    return value;
}

void Ich9Lpc::RootComplex::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (offset + size > lpc.rcrb_.size()) return;
    std::memcpy(&lpc.rcrb_[offset], &value, size);
    lpc.updateInterrupts();
}

// -- port 0xCF9: a rise of bit 2 resets; bit 1 makes it a hard reset, bit 3 a power cycle

uint64_t Ich9Lpc::ResetControl::ioRead(uint64_t, unsigned) { return lpc.resetRegister_; }

void Ich9Lpc::ResetControl::ioWrite(uint64_t, unsigned, uint64_t value) {
    bool rise = (value & 4) && !(lpc.resetRegister_ & 4);
    lpc.resetRegister_ = value & 0x0e;
    if (rise && lpc.onReset) lpc.onReset(value & 8);
}

}  // namespace kiln
