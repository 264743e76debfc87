// Turns decoded blocks into drafts of host code: on whatever thread, each with a drafter of its own.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "cpu/decoder.hpp"
#include "cpu/trap_profile.hpp"
#include "translate/code_step.hpp"
#include "translate/decoded_shapes.hpp"
#include "translate/draft.hpp"
#include "translate/processor_places.hpp"
#include "translate/surroundings.hpp"
#include "translate/thunks.hpp"

namespace kiln {

class BlockEmitter;

// Whom code is for.
struct CodeTerms {
    const Decoder& decoder;
    const Thunks& thunks;
    const ProcessorPlaces& places;
    bool threaded;     // LOCK matters
    bool pauseLeaves;  // PAUSE lets another processor run
    bool portable;     // see TranslatorOptions
    InlineTraps& traps;
    uint64_t rip = 0;  // linear, of the first block; 0: its instructions are known to `traps`
};

class Drafter {
  public:
    // What `how` makes of the steps, whose first instructions have their own handlers and whose bytes are
    // given. `trace`: number for the sites of a trace, 0 of a block. `ip`: in segmented code, of the block.
    // False: it can't be had, or is too long.
    bool write(Draft& draft, const CodeTerms& terms, const Surroundings& surroundings,
               std::span<const CodeStep> steps, uint16_t trace, uint32_t ip,
               const std::function<void(BlockEmitter&)>& how);

    static constexpr size_t kMostCode = 64 << 10;  // bytes of one block or trace

  private:
    DecodedShapes shapes_;
    std::vector<Decoded> decoded_;
};

}  // namespace kiln
