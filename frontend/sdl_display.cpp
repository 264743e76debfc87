// The SDL2 window, the only file that knows SDL. It is a module of its own: libkiln-sdl.so.
//
// Keys go to the guest by their place on the keyboard: an SDL scancode is a USB HID usage. Chords with
// Ctrl+Alt that belong to the window: G captures or releases the mouse, F full screen, S screenshot; Q is
// kept from the guest and does nothing, because it is the habit of too many people.
#include <SDL.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "frontend/display.hpp"

namespace kiln {

namespace {

constexpr int kEventWaitMs = 8;
constexpr int kSmallestWidth = 640;       // smaller pictures are shown enlarged
constexpr unsigned kLargestSharp = 8192;  // texture size that every renderer can do
constexpr unsigned kHidUsages = 0xE8;     // SDL's scancodes above are its own

template <auto Destroy>
struct Deleter {
    template <class T>
    void operator()(T* p) const {
        Destroy(p);
    }
};
using Window = std::unique_ptr<SDL_Window, Deleter<SDL_DestroyWindow>>;
using Renderer = std::unique_ptr<SDL_Renderer, Deleter<SDL_DestroyRenderer>>;
using Texture = std::unique_ptr<SDL_Texture, Deleter<SDL_DestroyTexture>>;

struct SdlVideo {  // initialised before the window and quit after it
    bool ok = SDL_InitSubSystem(SDL_INIT_VIDEO) == 0;
    ~SdlVideo() {
        if (ok) SDL_QuitSubSystem(SDL_INIT_VIDEO);
    }
};

void setHints() {
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");  // Ctrl+C is the program's business
    SDL_SetHint(SDL_HINT_GRAB_KEYBOARD, "1");       // Alt+Tab and the like belong to the guest while captured
    SDL_SetHint(SDL_HINT_WINDOWS_NO_CLOSE_ON_ALT_F4, "1");
    SDL_SetHint(SDL_HINT_VIDEO_X11_NET_WM_BYPASS_COMPOSITOR, "0");
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1");
}

class SdlDisplay final : public Display {
  public:
    SdlDisplay(DisplayHost& host, const char* title) : host_(host), title_(title) {
        if (!video_.ok) return;
        quitEvent_ = SDL_RegisterEvents(1);
        window_.reset(SDL_CreateWindow(title, SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED, 720, 540,
                                       SDL_WINDOW_RESIZABLE));
        if (!window_) return;
        SDL_GetWindowSize(window_.get(), &askedWidth_, &askedHeight_);
        SDL_SetWindowMinimumSize(window_.get(), 160, 120);
        renderer_.reset(SDL_CreateRenderer(window_.get(), -1, SDL_RENDERER_TARGETTEXTURE));
        if (!renderer_) renderer_.reset(SDL_CreateRenderer(window_.get(), -1, SDL_RENDERER_SOFTWARE));
        showTitle();
    }

    bool ready() const { return renderer_ != nullptr; }

    void run() override {
        while (!quit_) {
            SDL_Event event;
            if (SDL_WaitEventTimeout(&event, kEventWaitMs)) do
                    handle(event);
                while (!quit_ && SDL_PollEvent(&event));
            sendMotion();
            if (host_.readFrame(frame_, serial_)) {
                upload();
                stale_ = true;
            }
            if (stale_) draw();
        }
        releaseKeys();
        capture(false);
    }

    void quit() override {
        quit_ = true;
        SDL_Event event{};
        event.type = quitEvent_;
        SDL_PushEvent(&event);  // ends the wait; may be called on any thread
    }

  private:
    // -- events
    void handle(const SDL_Event& event) {
        switch (event.type) {
            case SDL_QUIT: host_.closeRequested(); break;
            case SDL_KEYDOWN: keyDown(event.key); break;
            case SDL_KEYUP: keyChange(event.key.keysym.scancode, false); break;
            case SDL_MOUSEMOTION:
                if (captured_) motionX_ += event.motion.xrel, motionY_ += event.motion.yrel;
                break;
            case SDL_MOUSEBUTTONDOWN: buttonDown(event.button.button); break;
            case SDL_MOUSEBUTTONUP: buttonUp(event.button.button); break;
            case SDL_MOUSEWHEEL:
                if (captured_)
                    wheel_ +=
                        event.wheel.direction == SDL_MOUSEWHEEL_FLIPPED ? event.wheel.y : -event.wheel.y;
                break;
            case SDL_WINDOWEVENT: windowEvent(event.window); break;
            case SDL_RENDER_TARGETS_RESET:
            case SDL_RENDER_DEVICE_RESET:
                texture_.reset();
                sharp_.reset();
                upload();
                stale_ = true;
                break;
            default: break;
        }
    }

    void windowEvent(const SDL_WindowEvent& event) {
        switch (event.event) {
            case SDL_WINDOWEVENT_FOCUS_LOST:
                releaseKeys();
                capture(false);
                break;
            case SDL_WINDOWEVENT_SIZE_CHANGED:
                if (!filled() && (event.data1 != askedWidth_ || event.data2 != askedHeight_))
                    sizedByUser_ = true;
                stale_ = true;
                break;
            case SDL_WINDOWEVENT_EXPOSED: stale_ = true; break;
            default: break;
        }
    }

    void keyDown(const SDL_KeyboardEvent& event) {
        if (event.repeat) return;
        uint16_t held = event.keysym.mod;
        if (held & KMOD_CTRL && held & KMOD_ALT && chord(event.keysym.scancode)) return;
        keyChange(event.keysym.scancode, true);
    }

    bool chord(SDL_Scancode key) {
        switch (key) {
            case SDL_SCANCODE_G: capture(!captured_); return true;
            case SDL_SCANCODE_F: toggleFullScreen(); return true;
            case SDL_SCANCODE_S: host_.screenshot(); return true;
            case SDL_SCANCODE_Q: return true;
            default: return false;
        }
    }

    void keyChange(SDL_Scancode key, bool down) {
        if (unsigned(key) >= kHidUsages || down_[key] == down) return;
        down_[key] = down;
        host_.key(uint8_t(key), down);
    }

    // A key let go while another window has the focus would stay down in the guest.
    void releaseKeys() {
        for (unsigned key = 0; key < kHidUsages; key++) keyChange(SDL_Scancode(key), false);
    }

    static unsigned buttonBit(uint8_t button) {
        switch (button) {
            case SDL_BUTTON_LEFT: return 1;
            case SDL_BUTTON_RIGHT: return 2;
            case SDL_BUTTON_MIDDLE: return 4;
            case SDL_BUTTON_X1: return 8;
            case SDL_BUTTON_X2: return 16;
            default: return 0;
        }
    }

    void buttonDown(uint8_t button) {
        if (!captured_) {  // the click that captures is not the guest's
            capture(true);
            return;
        }
        sendMotion();
        buttons_ |= buttonBit(button);
        host_.mouse(0, 0, 0, buttons_);
    }

    void buttonUp(uint8_t button) {
        if (!(buttons_ & buttonBit(button))) return;
        sendMotion();
        buttons_ &= ~buttonBit(button);
        host_.mouse(0, 0, 0, buttons_);
    }

    void sendMotion() {
        if (!motionX_ && !motionY_ && !wheel_) return;
        host_.mouse(motionX_, motionY_, wheel_, buttons_);
        motionX_ = motionY_ = wheel_ = 0;
    }

    void capture(bool on) {
        if (captured_ == on) return;
        captured_ = on;
        SDL_SetRelativeMouseMode(on ? SDL_TRUE : SDL_FALSE);
        SDL_SetWindowGrab(window_.get(), on ? SDL_TRUE : SDL_FALSE);
        motionX_ = motionY_ = wheel_ = 0;
        if (buttons_) host_.mouse(0, 0, 0, buttons_ = 0);
        showTitle();
    }

    void showTitle() {
        std::string text =
            title_ + (captured_ ? " - Ctrl+Alt+G releases the mouse" : " - click to capture the mouse");
        SDL_SetWindowTitle(window_.get(), text.c_str());
    }

    bool filled() const {  // the size is the screen's, nobody chose it
        return SDL_GetWindowFlags(window_.get()) & (SDL_WINDOW_FULLSCREEN | SDL_WINDOW_MAXIMIZED);
    }

    void toggleFullScreen() {
        bool full = SDL_GetWindowFlags(window_.get()) & SDL_WINDOW_FULLSCREEN_DESKTOP;
        SDL_SetWindowFullscreen(window_.get(), full ? 0 : SDL_WINDOW_FULLSCREEN_DESKTOP);
        stale_ = true;
    }

    // -- picture
    void upload() {
        if (frame_.width == 0) return;
        int width = 0, height = 0;
        if (texture_) SDL_QueryTexture(texture_.get(), nullptr, nullptr, &width, &height);
        if (width != int(frame_.width) || height != int(frame_.height)) {
            texture_.reset(SDL_CreateTexture(renderer_.get(), SDL_PIXELFORMAT_RGB888,
                                             SDL_TEXTUREACCESS_STREAMING, int(frame_.width),
                                             int(frame_.height)));
            SDL_SetTextureScaleMode(texture_.get(), SDL_ScaleModeNearest);
            resizeToPicture();
        }
        if (texture_) SDL_UpdateTexture(texture_.get(), nullptr, frame_.pixels.data(), int(frame_.width) * 4);
    }

    // Follows the guest's mode until the user chooses a size.
    void resizeToPicture() {
        if (sizedByUser_ || filled()) return;
        int width = int(frame_.width), height = int(frame_.height);
        while (width < kSmallestWidth) width += int(frame_.width), height += int(frame_.height);
        if (frame_.fillsFourByThree) height = width * 3 / 4;
        SDL_Rect screen{};
        if (SDL_GetDisplayUsableBounds(std::max(0, SDL_GetWindowDisplayIndex(window_.get())), &screen) == 0) {
            double shrink = std::min({1.0, double(screen.w) / width, double(screen.h) / height});
            width = int(width * shrink), height = int(height * shrink);
        }
        askedWidth_ = width, askedHeight_ = height;
        SDL_SetWindowSize(window_.get(), width, height);
        int x = 0, y = 0;
        SDL_GetWindowPosition(window_.get(), &x, &y);
        if (x + width > screen.x + screen.w || y + height > screen.y + screen.h)
            SDL_SetWindowPosition(window_.get(), SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED);
    }

    // The largest rectangle of the picture's shape in the middle of the window.
    SDL_Rect placement() const {
        int width = 1, height = 1;
        SDL_GetRendererOutputSize(renderer_.get(), &width, &height);
        double shape = frame_.fillsFourByThree ? 4.0 / 3 : double(frame_.width) / frame_.height;
        SDL_Rect at{0, 0, width, height};
        if (width > height * shape)
            at.w = int(height * shape + 0.5);
        else
            at.h = int(width / shape + 0.5);
        at.x = (width - at.w) / 2, at.y = (height - at.h) / 2;
        return at;
    }

    void draw() {
        stale_ = false;
        SDL_SetRenderDrawColor(renderer_.get(), 0, 0, 0, 255);
        SDL_RenderClear(renderer_.get());
        if (texture_) {
            SDL_Rect at = placement();
            bool whole = at.w % int(frame_.width) == 0 && at.h % int(frame_.height) == 0;
            SDL_Texture* source = whole ? texture_.get() : enlarged(at);
            SDL_RenderCopy(renderer_.get(), source, nullptr, &at);
        }
        SDL_RenderPresent(renderer_.get());
    }

    // A size that is no multiple of the picture's: enlarge to the next multiple with hard edges, then shrink
    // smoothly. Text stays sharp and lines equally thick.
    SDL_Texture* enlarged(const SDL_Rect& at) {
        unsigned width = frame_.width * ((unsigned(at.w) + frame_.width - 1) / frame_.width);
        unsigned height = frame_.height * ((unsigned(at.h) + frame_.height - 1) / frame_.height);
        if (width > kLargestSharp || height > kLargestSharp) return texture_.get();
        int oldWidth = 0, oldHeight = 0;
        if (sharp_) SDL_QueryTexture(sharp_.get(), nullptr, nullptr, &oldWidth, &oldHeight);
        if (oldWidth != int(width) || oldHeight != int(height)) {
            sharp_.reset(SDL_CreateTexture(renderer_.get(), SDL_PIXELFORMAT_RGB888, SDL_TEXTUREACCESS_TARGET,
                                           int(width), int(height)));
            if (sharp_) SDL_SetTextureScaleMode(sharp_.get(), SDL_ScaleModeLinear);
        }
        if (!sharp_ || SDL_SetRenderTarget(renderer_.get(), sharp_.get()) != 0) return texture_.get();
        SDL_RenderCopy(renderer_.get(), texture_.get(), nullptr, nullptr);
        SDL_SetRenderTarget(renderer_.get(), nullptr);
        return sharp_.get();
    }

    DisplayHost& host_;
    std::string title_;
    std::atomic<bool> quit_{false};
    SdlVideo video_;
    uint32_t quitEvent_ = 0;
    Window window_;
    Renderer renderer_;
    Texture texture_, sharp_;

    Frame frame_;
    uint64_t serial_ = 0;
    bool stale_ = true;
    bool sizedByUser_ = false;
    int askedWidth_ = 0, askedHeight_ = 0;

    std::array<bool, kHidUsages> down_{};
    bool captured_ = false;
    unsigned buttons_ = 0;
    int motionX_ = 0, motionY_ = 0, wheel_ = 0;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) Display* kilnCreateSdlDisplay(DisplayHost& host,
                                                                                const char* title,
                                                                                std::string& error) {
    setHints();
    auto display = std::make_unique<SdlDisplay>(host, title);
    if (display->ready()) return display.release();
    error = std::string("The window can't be opened: ") + SDL_GetError() + ". -display none does without.";
    return nullptr;
}

}  // namespace kiln
