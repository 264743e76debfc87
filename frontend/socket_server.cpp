#include "frontend/socket_server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <stdexcept>

namespace kiln {

namespace {

using SteadyTime = std::chrono::steady_clock;
constexpr auto kFarewell = std::chrono::seconds(1);

sockaddr_un unixAddress(const std::string& option, const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        throw std::runtime_error(option + ": the socket's path '" + path + "' is too long");
    std::memcpy(address.sun_path, path.c_str(), path.size());
    return address;
}

// A socket that a dead process left behind is in the way; one at which somebody listens, or anything else, is
// not ours to remove.
void removeStaleSocket(const sockaddr_un& address) {
    struct stat status;
    if (lstat(address.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) return;
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) return;
    const bool dead = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
                      errno == ECONNREFUSED;
    close(probe);
    if (dead) unlink(address.sun_path);
}

struct AddressList {
    ~AddressList() {
        if (first) freeaddrinfo(first);
    }
    addrinfo* first = nullptr;
};

}  // namespace

std::string SocketAddress::text() const {
    if (!path.empty()) return "unix:" + path;
    return "tcp:" + (host.empty() ? "127.0.0.1" : host) + ":" + std::to_string(port);
}

SocketServer::SocketServer(const std::string& option, SocketAddress address, Hooks hooks)
    : address_(std::move(address)), hooks_(std::move(hooks)) {
    listenAt(option);
    if (pipe2(wake_, O_CLOEXEC | O_NONBLOCK) != 0) {
        close(listener_);
        throw std::runtime_error(option + ": the host has no pipe left");
    }
    thread_ = std::thread([this] { serve(); });
}

void SocketServer::listenAt(const std::string& option) {
    auto refuse = [&](const std::string& why) {
        if (listener_ >= 0) close(listener_);
        throw std::runtime_error(option + ": can't listen at '" +
                                 (address_.path.empty() ? address_.text() : address_.path) + "': " + why);
    };
    auto listenOn = [&](int family, const sockaddr* where, socklen_t size) {
        const int yes = 1;
        listener_ = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (listener_ < 0) return refuse(std::strerror(errno));
        if (family != AF_UNIX) setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(listener_, where, size) != 0 || listen(listener_, 1) != 0) refuse(std::strerror(errno));
    };
    if (!address_.path.empty()) {
        const sockaddr_un where = unixAddress(option, address_.path);
        removeStaleSocket(where);
        return listenOn(AF_UNIX, reinterpret_cast<const sockaddr*>(&where), sizeof where);
    }
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    AddressList list;
    const std::string host = address_.host.empty() ? "127.0.0.1" : address_.host;
    if (int error = getaddrinfo(host.c_str(), std::to_string(address_.port).c_str(), &hints, &list.first))
        refuse(gai_strerror(error));
    listenOn(list.first->ai_family, list.first->ai_addr, list.first->ai_addrlen);
}

SocketServer::~SocketServer() {
    {
        std::lock_guard lock(mutex_);
        ending_ = true;
    }
    wakeUp();
    thread_.join();
    close(wake_[0]);
    close(wake_[1]);
    close(listener_);
    if (!address_.path.empty()) unlink(address_.path.c_str());
}

// -- any thread

void SocketServer::wakeUp() {
    const char any = 0;
    [[maybe_unused]] ssize_t n = write(wake_[1], &any, 1);  // a full pipe wakes as well
}

void SocketServer::send(unsigned client, std::string_view bytes) {
    {
        std::lock_guard lock(mutex_);
        if (client_ < 0 || client != number_ || hangUp_) return;
        unread_ += bytes;
        hangUp_ = unread_.size() > kMostUnread;
    }
    wakeUp();
}

void SocketServer::done(unsigned client, size_t bytes) {
    {
        std::lock_guard lock(mutex_);
        if (client == number_) ahead_ -= bytes;
    }
    wakeUp();
}

void SocketServer::hangUp(unsigned client) {
    {
        std::lock_guard lock(mutex_);
        if (client == number_) hangUp_ = true;
    }
    wakeUp();
}

bool SocketServer::waitForClient() {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [this] { return number_ > 0 || cancelled_; });
    return !cancelled_;
}

void SocketServer::cancelWait() {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    arrived_.notify_all();
}

// -- the server's thread

void SocketServer::serve() {
    std::optional<SteadyTime::time_point> end;
    while (true) {
        pollfd fds[3] = {{wake_[0], POLLIN, 0}, {-1, POLLIN, 0}, {-1, 0, 0}};
        int timeout = -1;
        {
            std::lock_guard lock(mutex_);
            if (ending_ && !end) end = SteadyTime::now() + kFarewell;
            if (end && (unread_.empty() || SteadyTime::now() >= *end)) break;
            if (end) timeout = 20;
            if (client_ < 0) fds[1].fd = end ? -1 : listener_;
            fds[2].fd = client_;
            if (ahead_ < kMostAhead && !end && !finished_) fds[2].events |= POLLIN;
            if (!unread_.empty()) fds[2].events |= POLLOUT;
        }
        if (poll(fds, 3, timeout) < 0 && errno != EINTR) break;
        char drain[64];
        if (fds[0].revents)
            while (read(wake_[0], drain, sizeof drain) > 0) {}
        if (fds[1].revents) accept();
        if (fds[2].fd >= 0 && !exchange(fds[2].revents)) drop();
    }
    if (client_ >= 0) drop();
}

void SocketServer::accept() {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) return;
    const int yes = 1;
    if (address_.path.empty()) setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    unsigned number;
    {
        std::lock_guard lock(mutex_);
        client_ = client;
        number = ++number_;
        unread_.clear();
        ahead_ = 0;
        hangUp_ = finished_ = false;
    }
    hooks_.connected(number);
    std::lock_guard lock(mutex_);
    arrived_.notify_all();
}

bool SocketServer::exchange(short events) {
    {
        std::lock_guard lock(mutex_);
        if (hangUp_) return false;
    }
    if ((events & POLLOUT) && !transmit()) return false;
    // A client that has gone may have left something to read.
    if ((events & POLLIN) && !receive()) return false;
    if (!(events & POLLIN) && (events & (POLLHUP | POLLERR | POLLNVAL))) return false;
    std::lock_guard lock(mutex_);
    return !finished_ || ahead_ || !unread_.empty();
}

bool SocketServer::receive() {
    char buffer[4096];
    const ssize_t n = recv(client_, buffer, sizeof buffer, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) {  // "echo ... | nc -U" waits for the answers
        finished_ = true;
        return true;
    }
    {
        std::lock_guard lock(mutex_);
        ahead_ += size_t(n);
    }
    hooks_.received(number_, {buffer, size_t(n)});
    return true;
}

bool SocketServer::transmit() {
    std::lock_guard lock(mutex_);
    const ssize_t n = ::send(client_, unread_.data(), unread_.size(), MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    unread_.erase(0, size_t(n));
    return true;
}

void SocketServer::drop() {
    {
        std::lock_guard lock(mutex_);
        close(client_);
        client_ = -1;
        unread_.clear();
    }
    hooks_.gone(number_);
}

}  // namespace kiln
