// What people choose of the translator.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace kiln {

class CodeListener;

struct TranslatorOptions {
    uint32_t tier1 = 50;  // how often a block is entered before it is translated
    // How many slices of the run loop (20,000 instructions at most) have to end in front of a block before a
    // trace is made of what follows it; 0: never.
    uint32_t tier2 = 16;
    uint32_t ways = 3;  // that were recorded from there: the trace is of what they have in common
    size_t bufferBytes = 48u << 20;  // of host code, for all processors
    // Hot traps get code of their own, in so many bytes; neighbouring ones are done together.
    bool promote = true, compound = true;
    size_t promotionBytes = 512u << 10;
    // Where processors differ in the last bits (transcendental functions, reciprocal approximations, dot
    // products of BF16), results are the interpreter's, not the host's.
    bool portable = false;
    // What is hot is drafted on a thread of its own, while it is still interpreted. Where everything has to
    // happen in the same order each time, it is not.
    bool background = false;
    // Nobody asked for the translator by name: where the host gives no memory for it, kiln interprets.
    bool dispensable = false;
    // For Linux's perf: perf_files.hpp.
    bool perfMap = false, jitDump = false;
    std::vector<std::shared_ptr<CodeListener>> listeners{};
};

// Whether kiln has a translator for this host.
#ifdef KILN_TRANSLATES
constexpr bool kTranslates = true;
#else
constexpr bool kTranslates = false;
#endif

}  // namespace kiln
