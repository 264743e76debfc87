// Where the interpreter meets a translator: blocks that are entered often may be run by something faster,
// which puts a handler of its own in front of their first instruction.
#pragma once
#include <string>

#include "cpu/insn.hpp"

namespace kiln {

class HotCode {
  public:
    virtual ~HotCode() = default;
    virtual void born(Block& block) = 0;     // decoded; it will be entered many times or once
    virtual void died(Block& block) = 0;     // overwritten: must not be entered any more, but may be running
    virtual void changed(Block& block) = 0;  // lives on, but one of its instructions is another now
    // Whether it has hardly been entered since the last time this was asked. What is translated stays.
    virtual bool cools(Block& block) = 0;
    virtual std::string report() const = 0;  // counters, for people: some lines
};

}  // namespace kiln
