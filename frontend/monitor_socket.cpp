#include "frontend/monitor_socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace kiln {

namespace {

constexpr const char* kPrompt = "(kiln) ";
constexpr size_t kLongestLine = 64 << 10;

// A socket that a dead process left behind is in the way; anything else is somebody's file.
void removeStaleSocket(const std::string& path) {
    struct stat status;
    if (lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) unlink(path.c_str());
}

}  // namespace

MonitorSocket::MonitorSocket(const std::string& path, std::function<void(const std::string&)> onLine)
    : path_(path), onLine_(std::move(onLine)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        throw std::runtime_error("-monitor: the socket's path '" + path + "' is too long");
    std::memcpy(address.sun_path, path.c_str(), path.size());
    removeStaleSocket(path);
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener_ < 0 || bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener_, 1) != 0 || pipe2(stop_, O_CLOEXEC) != 0) {
        std::string why = std::strerror(errno);
        if (listener_ >= 0) close(listener_);
        throw std::runtime_error("-monitor: can't listen at '" + path + "': " + why);
    }
    thread_ = std::thread([this] { serve(); });
}

MonitorSocket::~MonitorSocket() {
    close(stop_[1]);
    thread_.join();
    close(stop_[0]);
    close(listener_);
    unlink(path_.c_str());
}

void MonitorSocket::serve() {
    while (true) {
        pollfd fds[2] = {{listener_, POLLIN, 0}, {stop_[0], POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
        if (fds[1].revents) return;
        if (!fds[0].revents) continue;
        int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        if (client < 0) continue;
        {
            std::lock_guard lock(mutex_);
            client_ = client;
            write(kPrompt);
        }
        readLines(client);
        std::lock_guard lock(mutex_);
        client_ = -1;
        close(client);
    }
}

void MonitorSocket::readLines(int client) {
    std::string line;
    char buffer[512];
    while (true) {
        pollfd fds[2] = {{client, POLLIN, 0}, {stop_[0], POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
        if (fds[1].revents) return;
        if (!fds[0].revents) continue;
        ssize_t n = read(client, buffer, sizeof buffer);
        if (n <= 0) return;
        for (ssize_t i = 0; i < n; i++) {
            if (buffer[i] != '\n') {
                if (buffer[i] != '\r' && line.size() < kLongestLine) line += buffer[i];
                continue;
            }
            onLine_(line);
            line.clear();
        }
    }
}

void MonitorSocket::send(const std::string& text) {
    std::lock_guard lock(mutex_);
    write(text + kPrompt);
}

void MonitorSocket::write(const std::string& text) {
    for (size_t done = 0; client_ >= 0 && done < text.size();) {
        ssize_t n = ::send(client_, text.data() + done, text.size() - done, MSG_NOSIGNAL);
        if (n <= 0) return;
        done += size_t(n);
    }
}

}  // namespace kiln
