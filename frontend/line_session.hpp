// The human monitor by a socket: lines in, answers and a prompt out.
#pragma once
#include "frontend/monitor.hpp"
#include "frontend/monitor_session.hpp"

namespace kiln {

class LineSession : public MonitorSession {
  public:
    LineSession(Monitor& monitor, Send send) : monitor_(monitor), send_(std::move(send)) {}
    void connected() override;
    void received(std::string_view bytes) override;

  private:
    static constexpr size_t kLongest = 64 << 10;  // what is beyond is dropped
    Monitor& monitor_;
    const Send send_;
    std::string line_;
};

}  // namespace kiln
