// What the store of host code (code_store.hpp) has: translations of blocks, and traces over several of them.
#pragma once
#include <array>
#include <atomic>
#include <boost/container/small_vector.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "cpu/insn.hpp"
#include "translate/code_step.hpp"

namespace kiln {

// Where emitted code lies.
struct EmittedCode {
    std::span<const uint8_t> main, cold;
};

struct Trace {
    uint16_t number = 0;  // see Site::trace
    HostBlock* head = nullptr;
    std::vector<CodeStep> steps;
    bool loop = false;
    std::array<uint8_t, 5> covered{};  // by the jump to it, of the head's code
    EmittedCode code;
    std::vector<uint16_t> starts;  // of instructions in its main part
};

// As CodeStep, of a way that may be a trace one day.
struct WayStep {
    PhysAddr start;
    int64_t page;
    unsigned count;
};

// A block's host code, for any processor that has decoded the same block.
struct HostBlock {
    // As in Block.
    PhysAddr start, second;
    CodeMode mode = CodeMode::Code64;
    bool crosses = false;
    uint16_t bytes = 0, count = 0;
    uint16_t begun = 0;    // so many of its instructions have code of their own
    uint64_t hostFor = 0;  // where it may run (surroundings.hpp)
    // Of its instructions, and of what is behind; then where the code of each begins in the main part.
    std::unique_ptr<uint16_t[]> offsets;
    std::span<const uint16_t> starts() const { return {&offsets[count + 1], begun}; }

    bool overwritesFlags = false;    // before anybody looks at them
    bool beginsHarmlessly = false;   // see Translator::behindSti()
    std::atomic<bool> dead = false;  // must not be entered, nor go on behind a call
    const uint8_t* host = nullptr;   // where it is entered: its code, or a trace's
    uint32_t deadSite = 0;
    unsigned region = 0;  // of the code buffer
    EmittedCode code;
    std::vector<uint32_t> incoming;  // sites that may jump here
    // Blocks whose processors know of it: at least one as long as it lives.
    boost::container::small_vector<Block*, 1> users;

    uint32_t samples = 0;    // slices that ended in front of it
    uint8_t recordings = 0;  // of ways from it: each makes the next one wait twice as long

    // What few blocks have.
    struct More {
        std::vector<WayStep> way;       // from it, as far as it was the same in all recordings
        uint8_t sameWays = 0;           // so many
        std::vector<Trace*> traces;     // that it is part of
        const uint8_t* copy = nullptr;  // its code once more, for when its trace can't run
        std::vector<std::pair<uint16_t, const uint8_t*>> careful;  // versions, by first instruction
        std::vector<unsigned> elsewhere;                           // other regions with code of it
    };
    std::unique_ptr<More> has;
    More& more() {
        if (!has) has = std::make_unique<More>();
        return *has;
    }
};

}  // namespace kiln
