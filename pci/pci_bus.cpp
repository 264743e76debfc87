#include <cassert>

#include "pci/pci_function.hpp"

namespace kiln {

PciBus::PciBus(PhysicalMemory& memory, PortBus& ports) : memory(memory), portBus(ports) {}

PciFunction* PciBus::find(Bdf bdf) const {
    for (PciFunction* f : functions_)
        if (f->bdf_ == bdf) return f;
    return nullptr;
}

void PciBus::add(Bdf bdf, PciFunction& function, IrqInput* intx) {
    assert(!function.bus_ && !find(bdf));
    function.bus_ = this;
    function.bdf_ = bdf;
    function.powerOn_ = function.config_;
    if (intx && function.config_[0x3d]) function.intx_.connect(*intx);
    functions_.push_back(&function);
    function.updateMappings();
}

void PciBus::reset() {
    mechanism1_.address = 0;
    for (PciFunction* f : functions_) f->reset();
}

void PciBus::state(StateVisitor& visit) { visit("config_address", mechanism1_.address); }

uint32_t PciBus::configRead(Bdf bdf, uint16_t offset, unsigned size) {
    PciFunction* f = find(bdf);
    // No function has extended configuration space yet: above 256 bytes nobody answers.
    if (!f || offset >= 256) return uint32_t(openBus(size));
    if ((offset & 3) + size > 4) {
        uint32_t value = 0;
        for (unsigned i = 0; i < size; i++) value |= configRead(bdf, uint16_t(offset + i), 1) << (i * 8);
        return value;
    }
    return f->configRead(offset, size);
}

void PciBus::configWrite(Bdf bdf, uint16_t offset, unsigned size, uint32_t value) {
    PciFunction* f = find(bdf);
    if (!f || offset >= 256) return;
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
