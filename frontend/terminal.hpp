// The user's terminal: raw mode that is always undone, one thread that reads it, and the switch between a
// guest's serial port and the monitor (Ctrl-A c). Also what else bytes can go to: files.
#pragma once
#include <termios.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>

#include "frontend/options.hpp"

namespace kiln {

// Bytes on their way out, of which many leave at once.
class KeptBack {
  public:
    // True: they are to leave, because they are many, or a line has ended and none has for a while.
    bool add(std::span<const uint8_t> bytes);
    std::string take();
    bool empty() const { return bytes_.empty(); }

  private:
    std::string bytes_;
    std::chrono::steady_clock::time_point left_;
};

// Reads standard input on a thread of its own; the hooks are called there.
class Terminal {
  public:
    enum class Mode { Off, Guest, Monitor, Control, Both };  // who gets what is typed
    struct Hooks {
        std::function<void(std::span<const uint8_t>)> toGuest;
        std::function<void(const std::string& line)> toMonitor;
        std::function<void(std::span<const uint8_t>)> toControl;  // the machine protocol's bytes
        std::function<void(const std::string& why)> quit;         // Ctrl-A x, or a signal
    };

    Terminal(Mode mode, Hooks hooks);
    ~Terminal();  // restores the terminal
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    // The guest's bytes may wait for flush(), which the thread calls that brings them. Before start().
    void keepBack() { keepsBack_ = true; }
    void flush();
    void start();
    // -- from any thread
    void guestOutput(std::span<const uint8_t> bytes);
    void monitorOutput(const std::string& text);
    void controlOutput(const std::string& text) { write(text); }

  private:
    void setRaw();
    void readLoop();
    void take(uint8_t byte);
    void escape(uint8_t byte);
    void edit(uint8_t byte);
    void lineDone();
    void write(const std::string& text);
    void prompt();

    const Mode mode_;
    const Hooks hooks_;
    bool raw_ = false;
    std::atomic<bool> inMonitor_;
    bool escaped_ = false;
    std::string line_;
    std::mutex outputMutex_;
    bool keepsBack_ = false;
    KeptBack pending_;  // then: the guest's bytes, which belong to the machine's thread
    std::thread reader_;
};

// Ends the program in an orderly way at SIGINT, SIGTERM and SIGHUP: `fd` becomes readable. A second signal
// ends it at once, with the terminal restored.
int signalFd();

// Writes bytes to a file. Throws std::runtime_error with a sentence when it can't be opened.
class FileSink {
  public:
    FileSink(const std::string& option, const std::string& path);
    ~FileSink();
    FileSink(const FileSink&) = delete;
    FileSink& operator=(const FileSink&) = delete;
    void put(std::span<const uint8_t> bytes);
    void flush();
    bool keepsBack = false;  // bytes may wait for flush()

  private:
    int fd_;
    const std::string path_;
    KeptBack pending_;
    bool failed_ = false;
};

}  // namespace kiln
