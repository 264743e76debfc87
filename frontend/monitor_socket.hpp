// The monitor on a Unix socket (-monitor unix:PATH): one client at a time, lines in, answers and a prompt
// out.
#pragma once
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace kiln {

class MonitorSocket {
  public:
    // Listens at `path`; `onLine` is called on the socket's thread. Throws std::runtime_error with a
    // sentence.
    MonitorSocket(const std::string& path, std::function<void(const std::string&)> onLine);
    ~MonitorSocket();
    MonitorSocket(const MonitorSocket&) = delete;
    MonitorSocket& operator=(const MonitorSocket&) = delete;

    void send(const std::string& text);  // to the client, if there is one, and a prompt; from any thread

  private:
    void serve();
    void readLines(int client);
    void write(const std::string& text);

    const std::string path_;
    std::function<void(const std::string&)> onLine_;
    int listener_ = -1;
    int stop_[2] = {-1, -1};
    std::mutex mutex_;
    int client_ = -1;
    std::thread thread_;
};

}  // namespace kiln
