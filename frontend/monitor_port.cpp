#include "frontend/monitor_port.hpp"

#include <cstring>

namespace kiln {

namespace {
// In front of the bytes: what it is, and whose.
struct Header {
    uint32_t kind, client;
};
}  // namespace

MonitorPort::MonitorPort(const std::string& option, const SocketAddress& address, Machine& machine,
                         const MakeSession& make)
    : machine_(machine),
      session_(make([this](const std::string& bytes) {
          if (client_) server_.send(client_, bytes);
      })),
      channel_(machine.gate().openChannel(option, [this](std::span<const uint8_t> m) { arrived(m); })),
      server_(option, address,
              {.connected = [this](unsigned client) { post(Kind::Connected, client); },
               .received = [this](unsigned client,
                                  std::string_view bytes) { post(Kind::Received, client, bytes); },
               .gone = [this](unsigned client) { post(Kind::Gone, client); }}) {}

// On the server's thread.
void MonitorPort::post(Kind kind, unsigned client, std::string_view bytes) {
    const Header header{uint32_t(kind), client};
    std::vector<uint8_t> message(sizeof header + bytes.size());
    std::memcpy(message.data(), &header, sizeof header);
    if (!bytes.empty()) std::memcpy(message.data() + sizeof header, bytes.data(), bytes.size());
    machine_.gate().post(channel_, message);
}

void MonitorPort::arrived(std::span<const uint8_t> message) {
    Header header;
    std::memcpy(&header, message.data(), sizeof header);
    const std::string_view bytes(reinterpret_cast<const char*>(message.data()) + sizeof header,
                                 message.size() - sizeof header);
    switch (Kind(header.kind)) {
        case Kind::Connected:
            client_ = header.client;
            session_->connected();
            break;
        case Kind::Received:
            session_->received(bytes);
            server_.done(header.client, bytes.size());
            break;
        case Kind::Gone: client_ = 0; break;
    }
}

void MonitorPort::happened(MachineEvent event, MachineCause cause) {
    if (client_) session_->happened(event, cause);
}

}  // namespace kiln
