#include "frontend/terminal.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>

namespace kiln {

namespace {

constexpr size_t kMostKeptBack = 4096;  // bytes
constexpr std::chrono::microseconds kLongestKeptBack{200};
constexpr uint8_t kCtrlA = 1, kBackspace = 8, kDelete = 127, kCtrlU = 21;
constexpr const char* kPrompt = "(kiln) ";
constexpr const char* kHelp =
    "\r\nCtrl-A x   end kiln\r\n"
    "Ctrl-A c   switch between the serial port and the monitor\r\n"
    "Ctrl-A h   this help\r\n"
    "Ctrl-A Ctrl-A   send Ctrl-A\r\n";

// A signal handler can only reach what is global. The terminal belongs to the process, and so does this.
struct ProcessTerminal {
    termios saved{};
    volatile std::sig_atomic_t changed = 0;
    volatile std::sig_atomic_t signals = 0;
    int pipe[2] = {-1, -1};

    void restore() {
        if (changed) tcsetattr(STDIN_FILENO, TCSANOW, &saved);
        changed = 0;
    }
} process;

void onSignal(int number) {
    process.signals = process.signals + 1;
    if (process.signals > 1) {
        process.restore();
        _exit(128 + number);
    }
    uint8_t byte = uint8_t(number);
    [[maybe_unused]] ssize_t n = ::write(process.pipe[1], &byte, 1);
}

bool writeAll(int fd, const void* data, size_t size) {
    auto* p = static_cast<const char*>(data);
    while (size) {
        ssize_t n = ::write(fd, p, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            pollfd wait{fd, POLLOUT, 0};
            poll(&wait, 1, 100);
            continue;
        }
        if (n <= 0) return false;
        p += n, size -= size_t(n);
    }
    return true;
}

}  // namespace

int signalFd() {
    if (process.pipe[0] >= 0) return process.pipe[0];
    if (pipe2(process.pipe, O_CLOEXEC | O_NONBLOCK) != 0) return -1;
    struct sigaction action {};
    action.sa_handler = onSignal;
    sigfillset(&action.sa_mask);
    for (int s : {SIGINT, SIGTERM, SIGHUP}) sigaction(s, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    return process.pipe[0];
}

Terminal::Terminal(Mode mode, Hooks hooks)
    : mode_(mode), hooks_(std::move(hooks)), inMonitor_(mode == Mode::Monitor) {
    signalFd();
    if (mode == Mode::Guest || mode == Mode::Both) setRaw();
}

Terminal::~Terminal() {
    flush();
    if (reader_.joinable()) {
        uint8_t stop = 0;
        [[maybe_unused]] ssize_t n = ::write(process.pipe[1], &stop, 1);
        reader_.join();
    }
    process.restore();
}

// Every byte as it is typed, unchanged. Ctrl-C stays a signal while there is no other way out.
void Terminal::setRaw() {
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &process.saved) != 0) return;
    termios raw = process.saved;
    raw.c_iflag &= tcflag_t(~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON));
    raw.c_lflag &= tcflag_t(~(ECHO | ECHONL | ICANON | IEXTEN));
    if (mode_ == Mode::Both) raw.c_lflag &= tcflag_t(~ISIG);
    raw.c_cc[VMIN] = 1, raw.c_cc[VTIME] = 0;
    process.changed = 1;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    raw_ = true;
}

void Terminal::start() {
    if (mode_ == Mode::Monitor) prompt();
    reader_ = std::thread([this] { readLoop(); });
}

void Terminal::readLoop() {
    bool open = mode_ != Mode::Off;
    while (true) {
        pollfd fds[2] = {{process.pipe[0], POLLIN, 0}, {open ? STDIN_FILENO : -1, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
        uint8_t number = 0;
        if (fds[0].revents && ::read(process.pipe[0], &number, 1) == 1) {
            if (number == 0) return;
            hooks_.quit("ended by signal " + std::to_string(number));
            continue;
        }
        if (!fds[1].revents) continue;
        uint8_t buffer[256];
        ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) open = false;  // the end of a script: the machine goes on
        if (mode_ == Mode::Control && n > 0)
            hooks_.toControl({buffer, size_t(n)});
        else
            for (ssize_t i = 0; i < n; i++) take(buffer[i]);
    }
}

void Terminal::take(uint8_t byte) {
    if (mode_ == Mode::Both && escaped_) {
        escaped_ = false;
        escape(byte);
    } else if (mode_ == Mode::Both && byte == kCtrlA) {
        escaped_ = true;
    } else if (inMonitor_) {
        edit(byte);
    } else {
        hooks_.toGuest({&byte, 1});
    }
}

void Terminal::escape(uint8_t byte) {
    switch (byte) {
        case 'x': hooks_.quit({}); break;
        case 'h':
        case '?': write(kHelp); break;
        case 'c':
            inMonitor_ = !inMonitor_;
            line_.clear();
            if (inMonitor_)
                write("\r\n"), prompt();
            else
                write("\r\n");
            break;
        case kCtrlA: hooks_.toGuest({&byte, 1}); break;
        default: break;
    }
}

// A line of the monitor. A cooked terminal or a pipe does its own editing and echo.
void Terminal::edit(uint8_t byte) {
    if (byte == '\r' || byte == '\n') {
        if (raw_) write("\r\n");
        lineDone();
    } else if (byte == kBackspace || byte == kDelete) {
        if (line_.empty()) return;
        line_.pop_back();
        if (raw_) write("\b \b");
    } else if (byte == kCtrlU) {
        for (; !line_.empty(); line_.pop_back())
            if (raw_) write("\b \b");
    } else if (byte >= ' ') {
        line_ += char(byte);
        if (raw_) write(std::string(1, char(byte)));
    }
}

void Terminal::lineDone() {
    std::string line;
    line.swap(line_);
    if (line.empty())
        prompt();
    else
        hooks_.toMonitor(line);
}

bool KeptBack::add(std::span<const uint8_t> bytes) {
    bytes_.append(bytes.begin(), bytes.end());
    if (bytes.back() != '\n') return bytes_.size() >= kMostKeptBack;
    const auto now = std::chrono::steady_clock::now();
    if (now - left_ < kLongestKeptBack) return false;
    left_ = now;
    return true;
}

std::string KeptBack::take() { return std::exchange(bytes_, {}); }

void Terminal::guestOutput(std::span<const uint8_t> bytes) {
    if (!keepsBack_) return write({bytes.begin(), bytes.end()});
    if (pending_.add(bytes)) flush();
}

void Terminal::flush() {
    if (!pending_.empty()) write(pending_.take());
}

void Terminal::monitorOutput(const std::string& text) {
    if (keepsBack_) flush();
    std::string out;
    for (char c : text) {
        if (c == '\n' && raw_) out += '\r';
        out += c;
    }
    write(out);
    if (inMonitor_) prompt();
}

void Terminal::prompt() { write(kPrompt); }

void Terminal::write(const std::string& text) {
    std::lock_guard lock(outputMutex_);
    writeAll(STDOUT_FILENO, text.data(), text.size());
}

FileSink::FileSink(const std::string& option, const std::string& path)
    : fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)), path_(path) {
    if (fd_ < 0)
        throw std::runtime_error(option + ": can't write to '" + path + "': " + std::strerror(errno));
}

FileSink::~FileSink() {
    flush();
    close(fd_);
}

void FileSink::put(std::span<const uint8_t> bytes) {
    if (pending_.add(bytes) || !keepsBack) flush();
}

void FileSink::flush() {
    if (pending_.empty()) return;
    const std::string bytes = pending_.take();
    if (failed_ || writeAll(fd_, bytes.data(), bytes.size())) return;
    failed_ = true;
    std::fprintf(stderr, "kiln: writing to '%s' failed (%s); the rest of this output is lost\n",
                 path_.c_str(), std::strerror(errno));
}

}  // namespace kiln
