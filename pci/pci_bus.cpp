#include <algorithm>
#include <cassert>

#include "pci/pci_bridge.hpp"

namespace kiln {

PciBus::PciBus(PhysicalMemory& memory, PortBus& ports) : memory(memory), portBus(ports) {}

PciFunction* PciBus::find(Bdf bdf) const {
    const PciBridge* above = nullptr;
    for (unsigned bus = 0; bus != bdf.bus(); bus = above->secondaryBus())
        if (!(above = bridgeTo(above, bdf.bus()))) return nullptr;
    const Bdf place(0, bdf.device(), bdf.function());
    for (PciFunction* f : functions_)
        if (f->bridge_ == above && f->place_ == place) return f;
    return nullptr;
}

const PciBridge* PciBus::bridgeTo(const PciBridge* above, unsigned bus) const {
    for (PciFunction* f : functions_)
        if (const PciBridge* b = f->asBridge(); b && f->bridge_ == above && b->leadsTo(bus)) return b;
    return nullptr;
}

bool PciBus::taken(const PciBridge* bridge, unsigned device, unsigned number) const {
    const Bdf place(0, device, number);
    return std::any_of(functions_.begin(), functions_.end(),
                       [&](const PciFunction* f) { return f->bridge_ == bridge && f->place_ == place; });
}

// `device` and `pin` are those at the root.
void PciBus::join(PciFunction& function, PciBridge* bridge, Bdf place, IrqInput* intx, unsigned device,
                  unsigned pin) {
    assert(!function.bus_ && !taken(bridge, place.device(), place.function()));
    function.bus_ = this;
    function.bridge_ = bridge;
    function.place_ = place;
    function.powerOn_ = function.config_;
    const bool hasPin = function.config_[0x3d];
    if (intx && hasPin) function.intx_.connect(*intx);
    if (relay)
        function.relay_ = &relay->add(function, hasPin ? int(device * 4 + pin) : -1,
                                      hasPin ? function.config_[0x3d] - 1u : 0, function.msiVectors(),
                                      function.msixVectors());
    functions_.push_back(&function);
    function.updateMappings();
}

void PciBus::add(Bdf bdf, PciFunction& function, IrqInput* intx) {
    assert(bdf.bus() == 0);
    const unsigned pin = (function.config_[0x3d] - 1u) & 3;
    if (!intx && intxInput) intx = intxInput(bdf.device(), pin);
    join(function, nullptr, bdf, intx, bdf.device(), pin);
}

void PciBus::add(PciBridge& bridge, unsigned device, unsigned number, PciFunction& function) {
    unsigned at = device, pin = (function.config_[0x3d] - 1u) & 3;
    for (const PciBridge* b = &bridge; b; b = b->bridge_) {
        pin = (at + pin) & 3;
        at = b->place_.device();
    }
    join(function, &bridge, Bdf(0, device, number), intxInput ? intxInput(at, pin) : nullptr, at, pin);
    bridge.occupied();
}

static bool isBelow(const PciFunction& function, const PciBridge& bridge) {
    const PciBridge* b = function.parent();
    while (b && b != &bridge) b = b->parent();
    return b;
}

void PciBus::updateBelow(const PciBridge& bridge) {
    for (PciFunction* f : functions_)
        if (isBelow(*f, bridge)) f->updateMappings();
}

void PciBus::resetBelow(const PciBridge& bridge) {
    for (PciFunction* f : functions_)
        if (isBelow(*f, bridge)) f->reset();
}

void PciBus::reset() {
    mechanism1_.address = 0;
    for (PciFunction* f : functions_) f->reset();
}

void PciBus::state(StateVisitor& visit) { visit("config_address", mechanism1_.address); }

uint32_t PciBus::configRead(Bdf bdf, uint16_t offset, unsigned size) {
    PciFunction* f = find(bdf);
    if (!f || offset >= f->extent()) return uint32_t(openBus(size));
    if ((offset & 3) + size > 4) {
        uint32_t value = 0;
        for (unsigned i = 0; i < size; i++) value |= configRead(bdf, uint16_t(offset + i), 1) << (i * 8);
        return value;
    }
    return f->configRead(offset, size);
}

void PciBus::configWrite(Bdf bdf, uint16_t offset, unsigned size, uint32_t value) {
    PciFunction* f = find(bdf);
    if (!f || offset >= f->extent()) return;
    if ((offset & 3) + size > 4) {
        for (unsigned i = 0; i < size; i++)
            configWrite(bdf, uint16_t(offset + i), 1, value >> (i * 8) & 0xff);
        return;
    }
    f->configWrite(offset, size, value);
}

// -- 0xCF8 and 0xCFC: only a dword access reaches the address register; any other one passes by. The standard
// has its bits 1:0 fixed at 0. As in QEMU they are added to the place of data of 1 or 2 bytes, for software
// that leaves them there and accesses 0xCFC always.

static Bdf addressed(uint32_t address) {
    return Bdf(address >> 16 & 0xff, address >> 11 & 31, address >> 8 & 7);
}

static uint16_t dataOffset(uint32_t address, uint64_t port, unsigned size) {
    return uint16_t((address & 0xfc) | (port & 3) | (size < 4 ? address & 3 : 0));
}

uint64_t PciBus::Mechanism1::ioRead(uint64_t offset, unsigned size) {
    if (offset == 0 && size == 4) return address & ~3u;
    if (offset == 1 && size == 1 && bus.resetControl) return bus.resetControl->ioRead(0, 1);
    if (offset < 4 || !(address & 0x80000000)) return openBus(size);
    return bus.configRead(addressed(address), dataOffset(address, offset, size), size);
}

void PciBus::Mechanism1::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (offset == 0 && size == 4)
        address = uint32_t(value) & 0x80ffffff;
    else if (offset == 1 && size == 1 && bus.resetControl)
        bus.resetControl->ioWrite(0, 1, value);
    else if (offset >= 4 && (address & 0x80000000))
        bus.configWrite(addressed(address), dataOffset(address, offset, size), size, uint32_t(value));
}

// -- ECAM: address bits 27:20 bus, 19:12 device and function, 11:0 offset.

uint64_t PciBus::Ecam::ioRead(uint64_t offset, unsigned size) {
    if (size == 8) return ioRead(offset, 4) | ioRead(offset + 4, 4) << 32;
    return bus.configRead(Bdf(offset >> 20 & 0xff, offset >> 15 & 31, offset >> 12 & 7), offset & 0xfff,
                          size);
}

void PciBus::Ecam::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (size == 8) {
        ioWrite(offset, 4, value & 0xffffffff);
        ioWrite(offset + 4, 4, value >> 32);
        return;
    }
    bus.configWrite(Bdf(offset >> 20 & 0xff, offset >> 15 & 31, offset >> 12 & 7), offset & 0xfff, size,
                    uint32_t(value));
}

}  // namespace kiln
