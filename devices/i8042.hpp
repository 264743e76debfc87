// The 8042 keyboard controller of the PS/2 (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and
// Auxiliary Device Controller") with its keyboard and mouse, and the fast A20 and reset port 0x92.
//
// Not modelled: passwords, the diagnostic dump, parity and timeout errors, the keyboard lock. The input
// buffer is always empty: commands take no time.
#pragma once
#include <cstdint>
#include <functional>

#include "apic/byte_io.hpp"
#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "apic/irq_line.hpp"
#include "devices/ps2_keyboard.hpp"
#include "devices/ps2_mouse.hpp"

namespace kiln {

class I8042 : public Device, public ByteIo {
  public:
    I8042(Clock& clock, IrqInput& irq1, IrqInput& irq12);

    Ps2Keyboard& keyboard() { return keyboard_; }
    Ps2Mouse& mouse() { return mouse_; }

    std::function<void(bool enabled)> onA20;  // the address line changed
    std::function<void()> onReset;  // RESET of the CPU: output port bit 0, command 0xFE, port 0x92 bit 0
    bool a20() const { return a20_; }

    std::string_view name() const override { return "i8042"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    // Offset is port - 0x60: the board maps 0 (0x60), 4 (0x64) and 0x32 (0x92).
    static constexpr uint64_t kPort92 = 0x32;
    uint8_t readByte(uint64_t offset) override;
    void writeByte(uint64_t offset, uint8_t value) override;
    DirectRegister direct(uint64_t offset, unsigned size, bool write) override;

  private:
    uint8_t status() const;
    void updateStatus() { status_ = status(); }
    uint8_t readData();
    void command(uint8_t value);
    void writeData(uint8_t value);
    void commandArgument(uint8_t command, uint8_t value);
    void setCommandByte(uint8_t value);
    uint8_t outputPort() const;
    void setOutputPort(uint8_t value);
    void setA20(bool enabled);
    void resetCpu();

    void respond(uint8_t value, bool fromAux = false);
    void load();  // moves the next byte into the output buffer, when it is free and time has come
    bool loadFromKeyboard();
    void fill(uint8_t value, bool fromAux);
    void updateIrqs();

    Clock& clock_;
    IrqLine irq1_, irq12_;
    Timer timer_;
    Ps2Keyboard keyboard_;
    Ps2Mouse mouse_;

    uint8_t commandByte_ = 0;
    std::array<uint8_t, 32> ram_{};  // 0 is the command byte's place
    uint8_t pendingCommand_ = 0;
    bool lastWasCommand_ = false, systemFlag_ = false;
    uint8_t data_ = 0;
    bool full_ = false, fromAux_ = false;
    uint8_t status_ = 0;                         // what follows from those above, as port 0x64 gives it
    ByteQueue<16> responses_, responseSources_;  // the controller's own; a source of 1 is the mouse side
    ScanTranslator translator_;
    Nanos nextByte_ = 0;  // a device's byte takes its time on the wire
    bool a20_ = true;
};

}  // namespace kiln
