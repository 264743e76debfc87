#include "devices/ps2_mouse.hpp"

#include <algorithm>
#include <cstdlib>

#include "apic/timer_state.hpp"

namespace kiln {

namespace {

constexpr int kFarthest = 1 << 14;  // motion that piles up while nobody looks

int takePart(int32_t& pending, int low, int high) {
    int part = std::clamp<int>(pending, low, high);
    pending -= part;
    return part;
}

int scaled21(int v) {
    static constexpr int kSmall[] = {0, 1, 1, 3, 6, 9};
    int magnitude = std::abs(v);
    int result = magnitude < 6 ? kSmall[magnitude] : std::min(magnitude * 2, 255);
    return v < 0 ? -result : result;
}

}  // namespace

Ps2Mouse::Ps2Mouse(Clock& clock) : clock_(clock), timer_(clock, [this] { pump(); }) { reset(); }

void Ps2Mouse::setDefaults() {
    rate_ = 100;
    resolution_ = 2;
    reporting_ = remote_ = wrap_ = scaling21_ = false;
}

void Ps2Mouse::reset() {
    clearQueues();
    setDefaults();
    id_ = 0;
    pendingCommand_ = 0;
    knock_ = {};
    dx_ = dy_ = wheel_ = 0;
    sentButtons_ = buttons_;
    nextSample_ = 0;
    timer_.disarm();
}

void Ps2Mouse::state(StateVisitor& visit) {
    queueState(visit);
    visit("id", id_);
    visit("rate", rate_);
    visit("resolution", resolution_);
    visit("reporting", reporting_);
    visit("remote", remote_);
    visit("wrap", wrap_);
    visit("scaling21", scaling21_);
    visit("pendingCommand", pendingCommand_);
    visit("knock", knock_);
    visit("dx", dx_);
    visit("dy", dy_);
    visit("wheel", wheel_);
    visit("buttons", buttons_);
    visit("sentButtons", sentButtons_);
    visit("nextSample", nextSample_);
    visitTimer(visit, "timer", timer_);
}

// -- commands

void Ps2Mouse::write(uint8_t value) {
    if (wrap_ && value != 0xEC && value != 0xFF) return reply({value});
    if (pendingCommand_)
        argument(value);
    else
        command(value);
    pump();
}

void Ps2Mouse::command(uint8_t value) {
    switch (value) {
        case 0xE6:
        case 0xE7: scaling21_ = value & 1; return reply({kAck});
        case 0xE8:  // resolution
        case 0xF3:  // sample rate
            pendingCommand_ = value;
            return reply({kAck});
        case 0xE9: return statusReply();
        case 0xEA: remote_ = false; return reply({kAck});
        case 0xEB: {
            reply({kAck});
            std::array<uint8_t, 4> packet;
            size_t size = buildPacket(packet, false);
            for (size_t i = 0; i < size; i++) reply({packet[i]});
            return;
        }
        case 0xEC:
        case 0xEE: wrap_ = value == 0xEE; return reply({kAck});
        case 0xF0: remote_ = true; return reply({kAck});
        case 0xF2: return reply({kAck, id_});
        case 0xF4:
            reporting_ = true;
            dx_ = dy_ = wheel_ = 0;
            clearData();
            return reply({kAck});
        case 0xF5:
            reporting_ = false;
            clearData();
            return reply({kAck});
        case 0xF6:
            setDefaults();
            clearData();
            return reply({kAck});
        case kResend: return reply({last()});
        case 0xFF: reset(); return reply({kAck, kTestPassed, id_});
        default: return reply({kResend});
    }
}

void Ps2Mouse::argument(uint8_t value) {
    if (pendingCommand_ == 0xF3)
        sampleRate(value);
    else
        resolution_ = value & 3;
    pendingCommand_ = 0;
    reply({kAck});
}

void Ps2Mouse::sampleRate(uint8_t rate) {
    rate_ = rate;
    knock_ = {knock_[1], knock_[2], rate};
    if (knock_ == std::array<uint8_t, 3>{200, 100, 80}) id_ = 3;
    if (knock_ == std::array<uint8_t, 3>{200, 200, 80}) id_ = 4;
}

void Ps2Mouse::statusReply() {
    uint8_t b = buttons_;
    uint8_t status = uint8_t(remote_ << 6 | reporting_ << 5 | scaling21_ << 4 | (b & 1) << 2 |
                             (b >> 2 & 1) << 1 | (b >> 1 & 1));
    reply({kAck, status, resolution_, rate_});
}

// -- motion

void Ps2Mouse::move(int dx, int dy, int wheel, uint8_t buttons) {
    // An earlier button change that is still waiting gets a packet of its own: a quick click must not vanish.
    bool wouldVanish = buttons_ != sentButtons_ && buttons != buttons_;
    if (wouldVanish && streaming()) emitPacket();
    dx_ = std::clamp(dx_ + std::clamp(dx, -kFarthest, kFarthest), -kFarthest, kFarthest);
    dy_ = std::clamp(dy_ - std::clamp(dy, -kFarthest, kFarthest), -kFarthest, kFarthest);
    wheel_ = std::clamp(wheel_ - std::clamp(wheel, -kFarthest, kFarthest), -kFarthest, kFarthest);
    buttons_ = buttons & 0x1F;
    pump();
}

// A packet at most every sample period, and only when the one before has been fetched.
void Ps2Mouse::pump() {
    if (!streaming() || !news() || dataWaiting()) return;
    if (clock_.now() < nextSample_) return timer_.arm(nextSample_);
    emitPacket();
}

size_t Ps2Mouse::buildPacket(std::array<uint8_t, 4>& packet, bool scale) {
    int x = takePart(dx_, -255, 255), y = takePart(dy_, -255, 255);
    if (scale && scaling21_) x = scaled21(x), y = scaled21(y);
    packet[0] = uint8_t((buttons_ & 7) | 0x08 | (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0));
    packet[1] = uint8_t(x);
    packet[2] = uint8_t(y);
    sentButtons_ = buttons_;
    if (id_ == 0) {
        wheel_ = 0;
        return 3;
    }
    int z = id_ == 3 ? takePart(wheel_, -127, 127) : takePart(wheel_, -7, 7);
    packet[3] = uint8_t(id_ == 3 ? z : (z & 0x0F) | (buttons_ >> 3 & 3) << 4);
    return 4;
}

void Ps2Mouse::emitPacket() {
    std::array<uint8_t, 4> packet;
    size_t size = buildPacket(packet, true);
    nextSample_ = clock_.now() + kSecond / std::max<unsigned>(rate_, 10);
    send({packet.data(), size});
}

}  // namespace kiln
