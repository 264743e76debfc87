// A block on the way that a piece of host code follows, from its first instruction on.
#pragma once
#include <cstdint>
#include <span>

#include "cpu/insn.hpp"

namespace kiln {

struct HostBlock;

struct CodeStep {
    Block* block;
    unsigned count;    // instructions
    int64_t page = 0;  // that it begins on: bytes from the first step's page
    std::span<const uint8_t> bytes{};
    HostBlock* hostBlock = nullptr;  // what its sites belong to
};

}  // namespace kiln
