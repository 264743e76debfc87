// Host code as text, for people and for tests: places in the frame, in the TLB and in the processor have
// names, jumps have labels and calls of the translator say what for, so that the same code reads the same
// wherever it lies.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace kiln {

// The code of one block: what usually runs and, apart from it, what seldom does.
struct HostCode {
    struct Part {
        uint64_t at = 0;  // where it runs
        std::span<const uint8_t> bytes;
    };
    Part main, cold;
    std::vector<uint16_t> starts;  // of each guest instruction's code in `main`
};

class HostListing {
  public:
    std::map<uint64_t, std::string> names;  // of addresses: subroutines, parts of the processor
    // Calls of these have a number of four bytes behind them.
    uint64_t callOut = 0;
    std::vector<uint64_t> writesBeside;
    std::function<std::string(uint32_t)> site;
    uint64_t processor = 0, processorSize = 0;  // names within are shown for [register + distance]

    // Before each guest instruction's code `guest(its number)`, a line or several.
    std::string text(const HostCode& code, const std::function<std::string(unsigned)>& guest) const;

  private:
    bool isNumbered(uint64_t target) const;
    struct Line {
        uint64_t at;
        std::string text;
    };
    std::vector<Line> lines(const HostCode::Part& part, std::map<uint64_t, unsigned>& labels,
                            const HostCode& all) const;
};

}  // namespace kiln
