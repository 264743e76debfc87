// A listening socket, Unix or TCP, that serves one client at a time on a thread of its own. Who connects
// meanwhile waits until the client has gone.
//
// Neither side can be held up by the other: what is sent waits in memory until the client reads it, and of
// what the client sends no more is taken in than the receiver has asked for by done().
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace kiln {

struct SocketAddress {
    std::string path;  // of a Unix socket, else
    std::string host;  // of a TCP one; empty: the loopback interface
    uint16_t port = 0;
    bool operator==(const SocketAddress&) const = default;
    std::string text() const;  // "unix:PATH" or "tcp:HOST:PORT"
};

class SocketServer {
  public:
    // All are called on the server's thread. Clients are numbered, so that nobody gets what was for the one
    // before.
    struct Hooks {
        std::function<void(unsigned client)> connected;
        std::function<void(unsigned client, std::string_view bytes)> received;
        std::function<void(unsigned client)> gone;
    };

    // Listens. Throws std::runtime_error with a sentence that begins with `option`.
    SocketServer(const std::string& option, SocketAddress address, Hooks hooks);
    // Gives the client a second to read what there is for it.
    ~SocketServer();
    SocketServer(const SocketServer&) = delete;
    SocketServer& operator=(const SocketServer&) = delete;

    // -- from any thread
    void send(unsigned client, std::string_view bytes);  // at once; nothing if the client is gone
    void done(unsigned client, size_t bytes);  // so much of what was received is dealt with, and answered
    void hangUp(unsigned client);
    bool waitForClient();  // the first one; false: cancelWait() came
    void cancelWait();

  private:
    void listenAt(const std::string& option);
    void serve();
    void accept();
    bool exchange(short events);
    bool receive();
    bool transmit();
    void drop();
    void wakeUp();

    static constexpr size_t kMostUnread = 64 << 20;  // a client that leaves more than that is dropped
    static constexpr size_t kMostAhead = 64 << 10;   // bytes received and not done

    const SocketAddress address_;
    const Hooks hooks_;
    int listener_ = -1;
    int wake_[2] = {-1, -1};
    std::mutex mutex_;
    std::condition_variable arrived_;
    int client_ = -1;
    unsigned number_ = 0;  // of the client, or of the last one
    std::string unread_;
    size_t ahead_ = 0;
    bool ending_ = false, cancelled_ = false, hangUp_ = false;
    bool finished_ = false;  // the client sends no more, but may still read
    std::thread thread_;
};

}  // namespace kiln
