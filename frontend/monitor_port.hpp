// A monitor at a socket: what its client sends reaches a session by the machine's gate, what the session says
// goes back.
#pragma once
#include <atomic>
#include <memory>

#include "devices/machine.hpp"
#include "frontend/monitor_session.hpp"
#include "frontend/socket_server.hpp"

namespace kiln {

class MonitorPort {
  public:
    using MakeSession = std::function<std::unique_ptr<MonitorSession>(MonitorSession::Send)>;

    // Before the machine runs. Throws std::runtime_error with a sentence that begins with `option`.
    MonitorPort(const std::string& option, const SocketAddress& address, Machine& machine,
                const MakeSession& make);

    bool waitForClient() { return server_.waitForClient(); }
    void cancelWait() { server_.cancelWait(); }  // from any thread
    void happened(MachineEvent event, MachineCause cause);

  private:
    enum class Kind : uint8_t { Connected, Received, Gone };
    void post(Kind kind, unsigned client, std::string_view bytes = {});
    void arrived(std::span<const uint8_t> message);

    Machine& machine_;
    unsigned client_ = 0;  // whom the session is talking to; 0: nobody
    std::unique_ptr<MonitorSession> session_;
    Gate::Channel channel_;
    SocketServer server_;
};

}  // namespace kiln
