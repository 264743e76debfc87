// Between the machine and a window. The window's code is a module of its own (libkiln-sdl.so), loaded when it
// is wanted, so that a machine without a window needs no SDL; these interfaces are all the two sides share.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "devices/frame.hpp"

namespace kiln {

// Hands pictures from the machine's thread to the window's.
class FramePublisher {
  public:
    // Machine's side: the picture as it is now.
    void publish(const Frame& frame) {
        std::lock_guard lock(mutex_);
        frame_ = frame;
        serial_++;
    }
    // Window's side: copies the picture when it is newer than `serial`, which then says which one it was.
    // Start with serial 0. Returns whether it copied.
    bool read(Frame& out, uint64_t& serial) {
        std::lock_guard lock(mutex_);
        if (serial == serial_) return false;
        out = frame_;
        serial = serial_;
        return true;
    }

  private:
    std::mutex mutex_;
    Frame frame_;
    uint64_t serial_ = 0;
};

// What a window asks of its owner. All are called on the thread that runs Display::run().
class DisplayHost {
  public:
    virtual ~DisplayHost() = default;
    // As FramePublisher::read.
    virtual bool readFrame(Frame& out, uint64_t& serial) = 0;
    // A key went down or up. `hidUsage` is of USB HID usage page 7 (0x04 is A, 0xE0 left Ctrl). Host key
    // repeats are not passed on: the guest's keyboard repeats by itself.
    virtual void key(uint8_t hidUsage, bool down) = 0;
    // Relative motion in host pixels (right and down positive), wheel notches (towards the user positive),
    // and the buttons held: bit 0 left, 1 right, 2 middle, 3 and 4 the side buttons.
    virtual void mouse(int dx, int dy, int wheel, unsigned buttons) = 0;
    virtual void closeRequested() = 0;
    virtual void screenshot() = 0;
};

class Display {
  public:
    virtual ~Display() = default;
    // Shows the window and handles its events until quit(). Main thread only.
    virtual void run() = 0;
    // Makes run() return; from any thread, also before run() was called.
    virtual void quit() = 0;
};

// Loads libkiln-sdl.so from beside the executable, or else from the install library directory, and opens a
// window. Null with a sentence in `error` when there is no module or no display.
std::unique_ptr<Display> openSdlDisplay(DisplayHost& host, const std::string& title, std::string& error);

// The module's entry point.
extern "C" {
using CreateSdlDisplay = Display* (*)(DisplayHost& host, const char* title, std::string& error);
}
constexpr const char* kCreateSdlDisplay = "kilnCreateSdlDisplay";

}  // namespace kiln
