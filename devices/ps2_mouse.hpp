// The PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Mouse") with Microsoft's IntelliMouse
// extensions: the sample-rate knocks 200-100-80 (wheel, ID 3) and 200-200-80 (wheel and five buttons, ID 4).
//
// Not modelled: the resolution, which is stored only: one count is one pixel of the host.
#pragma once
#include <array>
#include <cstdint>

#include "apic/clock.hpp"
#include "apic/device.hpp"
#include "devices/ps2_device.hpp"

namespace kiln {

class Ps2Mouse : public Device, public Ps2Device {
  public:
    explicit Ps2Mouse(Clock& clock);

    // Relative motion as on a screen: x to the right, y down, wheel steps away from the user (up). Buttons:
    // bit 0 left, 1 right, 2 middle, 3 and 4 side.
    void move(int dx, int dy, int wheel, uint8_t buttons);

    std::string_view name() const override { return "ps2-mouse"; }
    void reset() override;
    void state(StateVisitor& visit) override;
    void write(uint8_t value) override;

  private:
    void setDefaults();
    void command(uint8_t value);
    void argument(uint8_t value);
    void sampleRate(uint8_t rate);
    void statusReply();

    void taken() override { pump(); }
    bool streaming() const { return reporting_ && !remote_ && !wrap_; }
    bool news() const { return dx_ || dy_ || wheel_ || buttons_ != sentButtons_; }
    void pump();
    size_t buildPacket(std::array<uint8_t, 4>& packet, bool scale);
    void emitPacket();

    Clock& clock_;
    Timer timer_;
    uint8_t id_ = 0;
    uint8_t rate_ = 100, resolution_ = 2;
    bool reporting_ = false, remote_ = false, wrap_ = false, scaling21_ = false;
    uint8_t pendingCommand_ = 0;
    std::array<uint8_t, 3> knock_{};       // the last three sample rates
    int32_t dx_ = 0, dy_ = 0, wheel_ = 0;  // not reported yet; dy upwards
    uint8_t buttons_ = 0, sentButtons_ = 0;
    Nanos nextSample_ = 0;
};

}  // namespace kiln
