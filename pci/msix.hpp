// MSI-X (PCI 3.0, 6.8.2): the capability, and the BAR with the table of messages and, from its middle on, the
// pending bits.
//
// Not modelled: accesses other than aligned dwords and qwords, which the standard leaves undefined: writes
// are dropped.
#pragma once
#include <cstdint>
#include <vector>

#include "mmu/io.hpp"
#include "mmu/state.hpp"

namespace kiln {

class PciFunction;

class MsixTable : public IoHandler {
  public:
    static constexpr unsigned kMost = 2048;
    MsixTable(PciFunction& function, unsigned capability, unsigned vectors);

    unsigned vectors() const { return vectors_; }
    uint64_t barSize() const;
    bool enabled() const;
    void send(unsigned vector);
    void sendPending();  // after masks have changed
    void reset();
    void state(StateVisitor& visit);

    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;

  private:
    bool masked(unsigned vector) const;
    uint32_t readDword(uint64_t offset) const;
    void writeDword(uint64_t offset, uint32_t value);

    PciFunction& function_;
    const unsigned capability_, vectors_;
    std::vector<uint32_t> table_;  // four a vector: address, upper address, data, vector control
    std::vector<uint32_t> pending_;
};

}  // namespace kiln
