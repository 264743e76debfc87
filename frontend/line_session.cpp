#include "frontend/line_session.hpp"

#include <utility>

namespace kiln {

namespace {
constexpr const char* kPrompt = "(kiln) ";
}

void LineSession::connected() {
    line_.clear();
    send_(kPrompt);
}

void LineSession::received(std::string_view bytes) {
    for (char c : bytes) {
        if (c == '\n')
            send_(monitor_.execute(std::exchange(line_, {})) + kPrompt);
        else if (c != '\r' && line_.size() < kLongest)
            line_ += c;
    }
}

}  // namespace kiln
