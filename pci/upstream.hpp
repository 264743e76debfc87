// The way up from PCI functions to memory and processors: every transaction a function makes by itself
// carries its requester id (PCI Express 4.0, 2.2.6.2), by which a remapping unit tells functions apart. A
// message-signalled interrupt is a write of four bytes to the APICs' window like any other (6.1.4).
#pragma once
#include "apic/bdf.hpp"
#include "mmu/physical_memory.hpp"

namespace kiln {

class Upstream {
  public:
    virtual ~Upstream() = default;
    // Any address and length. False: refused, in part at least; what a read didn't get is all ones.
    virtual bool read(Bdf requester, uint64_t address, void* out, uint64_t size) = 0;
    virtual bool write(Bdf requester, uint64_t address, const void* in, uint64_t size) = 0;
};

// A host bridge that lets everything through as it is.
class DirectUpstream : public Upstream {
  public:
    explicit DirectUpstream(PhysicalMemory& memory) : memory_(memory) {}
    bool read(Bdf, uint64_t address, void* out, uint64_t size) override {
        memory_.read(PhysAddr(address), out, size);
        return true;
    }
    bool write(Bdf, uint64_t address, const void* in, uint64_t size) override {
        memory_.write(PhysAddr(address), in, size);
        return true;
    }

  private:
    PhysicalMemory& memory_;
};

}  // namespace kiln
