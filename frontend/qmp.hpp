// The machine protocol: QEMU's QMP (docs/interop/qmp-spec), JSON objects in and out. This is a session's
// core; what it is connected by is somebody else's (monitor_port.hpp).
//
// Not modelled: out-of-band execution (the capability is not offered), file descriptors that come with a
// command.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "frontend/json_splitter.hpp"
#include "frontend/monitor.hpp"
#include "frontend/monitor_session.hpp"

namespace kiln {

class QmpSession : public MonitorSession {
  public:
    using Json = nlohmann::ordered_json;
    QmpSession(Monitor& monitor, bool pretty, Send send);
    void connected() override;
    void received(std::string_view bytes) override;
    void happened(MachineEvent event, MachineCause cause) override;

  private:
    void execute(const std::string& text);
    Json answer(const Json& request);
    Json run(const Json& request);
    Json negotiate(const Json& arguments);
    void send(const Json& message);

    Monitor& monitor_;
    const bool pretty_;
    const Send send_;
    bool negotiated_ = false;  // before that there are neither commands nor events
    JsonSplitter splitter_;
};

}  // namespace kiln
