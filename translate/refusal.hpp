// What asmjit can't emit, as an exception.
#pragma once
#include <asmjit/core.h>

#include <stdexcept>

namespace kiln {

class Refusal final : public asmjit::ErrorHandler {
  public:
    void handleError(asmjit::Error, const char* message, asmjit::BaseEmitter*) override {
        throw std::runtime_error(message);
    }
};

}  // namespace kiln
