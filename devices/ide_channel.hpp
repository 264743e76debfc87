// One ATA cable with up to two drives: the registers of the command and control blocks as the host sees them
// (ATA/ATAPI-6, clause 7), and the bus master engine (Programming Interface for Bus Master IDE
// Controller 1.0).
//
// A position without a drive reads as zeros (device 0 answers for an absent device 1), so that software finds
// nothing there without waiting; the device register reads as written when the cable has another drive. A
// transaction that is refused on its way to memory stops the engine with the error bit set, and the drive
// waits for the driver to give up.
#pragma once
#include <memory>

#include "apic/irq_line.hpp"
#include "devices/ide_device.hpp"
#include "mmu/io.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

class IdeChannel : public IdeHost {
  public:
    // `function` is the one whose bus master engine this is.
    explicit IdeChannel(PciFunction& function) : function_(function) {}
    IdeChannel(const IdeChannel&) = delete;
    IdeChannel& operator=(const IdeChannel&) = delete;

    void attach(unsigned position, std::unique_ptr<IdeDevice> drive);
    IdeDevice* drive(unsigned position) { return drives_[position].get(); }
    IrqLine irq;

    IoHandler& commandBlock() { return commandBlock_; }  // 8 ports from 0x1F0 or 0x170
    IoHandler& controlBlock() { return controlBlock_; }  // port 0x3F6 or 0x376
    uint8_t busMasterRead(unsigned offset) const;        // bytes 0..7 of BAR 4
    void busMasterWrite(unsigned offset, uint8_t value);

    void reset();
    void state(StateVisitor& visit);

    // -- for the drives
    void interruptChanged() override;
    bool dmaStarted() const override { return engine_.command & 1; }
    size_t dmaTransfer(uint8_t* data, size_t bytes, bool toMemory) override;
    void dmaFinished() override;

  private:
    struct CommandBlock : IoHandler {
        explicit CommandBlock(IdeChannel& c) : channel(c) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        uint64_t ioReadBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                             void* to) override;
        uint64_t ioWriteBlock(uint64_t offset, unsigned size, uint64_t count, bool ascending,
                              const void* from) override;
        uint64_t plainAccesses(uint64_t offset, unsigned size, bool write) override;
        IdeChannel& channel;
    } commandBlock_{*this};
    struct ControlBlock : IoHandler {
        explicit ControlBlock(IdeChannel& c) : channel(c) {}
        uint64_t ioRead(uint64_t offset, unsigned size) override;
        void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;
        IdeChannel& channel;
    } controlBlock_{*this};
    struct Engine {
        uint8_t command = 0, status = 0;
        uint32_t table = 0;
        // where the running transfer is
        uint32_t next = 0, address = 0, left = 0;
        bool last = false;
    };

    IdeDevice* selected() { return drives_[deviceHead_ >> 4 & 1].get(); }
    uint8_t readRegister(unsigned offset);
    void writeRegister(unsigned offset, uint8_t value);
    void writeCommand(uint8_t value);
    void writeControl(uint8_t value);
    void writeEngineCommand(uint8_t value);
    bool fetchDescriptor();

    PciFunction& function_;
    std::array<std::unique_ptr<IdeDevice>, 2> drives_;
    uint8_t deviceHead_ = 0;
    uint8_t control_ = 0;
    Engine engine_;
};

}  // namespace kiln
