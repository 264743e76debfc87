// An interrupt wire. A device holds an IrqLine and sets its level; the controller's input sees the OR of all
// lines joined to it (shared, level-triggered lines stay high while one device drives them).
#pragma once
#include <cstdint>
#include <functional>

namespace kiln {

// One input pin of an interrupt controller. `onLevel` is called when the joined level changes.
class IrqInput {
  public:
    explicit IrqInput(std::function<void(bool level)> onLevel = {}) : onLevel_(std::move(onLevel)) {}
    void raise() {
        if (holders_++ == 0 && onLevel_) onLevel_(true);
    }
    void lower() {
        if (--holders_ == 0 && onLevel_) onLevel_(false);
    }
    bool level() const { return holders_ > 0; }

  private:
    unsigned holders_ = 0;
    std::function<void(bool)> onLevel_;
};

// A device's end of the wire: remembers its own level, so that setting it twice counts once.
class IrqLine {
  public:
    IrqLine() = default;
    explicit IrqLine(IrqInput& input) : input_(&input) {}

    void connect(IrqInput& input) { input_ = &input; }
    void set(bool level) {
        if (level == level_) return;
        level_ = level;
        if (input_) level ? input_->raise() : input_->lower();
    }
    bool level() const { return level_; }

  private:
    IrqInput* input_ = nullptr;
    bool level_ = false;
};

// A message-signalled interrupt: a 32-bit write to the APIC's address window (SDM vol. 3, 11.11).
struct Msi {
    uint64_t address;
    uint32_t data;
};

}  // namespace kiln
