// Turns a processor's hot blocks into host code and runs them. A new block gets a counting handler in front
// of its first instruction; when the count is up, the block is emitted (emitter.hpp) and a handler that
// enters the host code takes that place, so that the interpreter finds translated blocks without looking for
// them.
//
// Host code leaves for the interpreter when the slice is over, when what follows is not translated, and where
// an instruction changes what code means; everything it can't do itself comes to callOut() by a numbered
// Site. Each processor has a translator and a code buffer of its own. When the buffer is full everything is
// forgotten.
#pragma once
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>

#include "cpu/cpu.hpp"
#include "translate/access_plan.hpp"
#include "translate/code_buffer.hpp"
#include "translate/code_step.hpp"
#include "translate/host_frame.hpp"
#include "translate/options.hpp"
#include "translate/processor_places.hpp"
#include "translate/site.hpp"
#include "translate/surroundings.hpp"

namespace kiln {

class BlockEmitter;

class Translator final : public HotCode {
  public:
    // Throws std::runtime_error when the host gives no memory for code.
    Translator(Cpu& cpu, const TranslatorOptions& options);
    ~Translator() override;

    void born(Block& block) override;
    void died(Block& block) override;
    std::string report() const override;

    // The code of the block that begins at or holds `rip`, as the guest has it beside the host's; "": it is
    // not translated.
    std::string hostCode(uint64_t rip);

    // Whether there is more for an instruction than a call of the interpreter.
    static bool knows(ZydisMnemonic mnemonic);

    // Why host code was left.
    enum class Exit : uint8_t {
        Slice,         // is over
        Untranslated,  // the target is no host code, or has never been
        Events,        // an instruction after which the run loop looks around
        Instruction,   // only the interpreter can do it
        Vectors,       // the guest's vector registers are not for the host's
        Dead,          // code was overwritten
        Count
    };
    struct Statistics {
        uint64_t blocks = 0, instructions = 0;       // translated
        std::array<uint64_t, Site::kKinds> calls{};  // by kind of site
        uint64_t noTarget = 0, coldTarget = 0;  // look-ups that found no block, or one that is not translated
        uint64_t refreshes = 0;                 // of the table of jump targets
        uint64_t careful = 0;                   // versions of blocks
        uint64_t traces = 0, loops = 0, traced = 0;  // loops are among them; instructions
        uint64_t tracesEnded = 0, recordings = 0;    // that lost a block; that were begun
        uint64_t traceNanoseconds = 0;               // of making them
        uint64_t hostBytes = 0, coldBytes = 0, flushes = 0;
        uint64_t entries = 0, misses = 0, lookUps = 0, links = 0;  // while running
        uint64_t nanoseconds = 0;                                  // of translating
        uint64_t fills = 0, faults = 0;  // operands that the TLB did not give, and then did or could not
        std::array<uint64_t, size_t(Exit::Count)> exits{};
    };
    const Statistics& statistics() const { return statistics_; }

  private:
    enum class Outcome : uint8_t {
        GoesOn,   // at Cpu::rip
        InBlock,  // at the instruction `goesOnAt_` of Cpu::block
        Left,     // the interpreter's handler wants the run loop to look at events
        Threw,    // `thrown_`, what else there is
    };
    // Handlers in front of blocks, and the one behind an instruction that is interpreted alone.
    static void counting(Cpu& cpu, const Insn* i);
    static void entering(Cpu& cpu, const Insn* i);
    static void interpretedAlone(Cpu& cpu, const Insn* i);
    static Translator& of(Cpu& cpu) { return static_cast<Translator&>(*cpu.io.code.hot); }

    static constexpr unsigned kMostLinks = 16;  // of a jump to another page

    void makeThunks();
    bool translate(Block& block, uint64_t rip);
    void takeBack(Block& block);
    void stranger(Block& block, uint64_t rip);
    void tell(uint64_t rip);
    const uint8_t* careful(Block& block, unsigned first);
    std::vector<uint8_t> bytesOf(const Block& block) const;
    // `ip` is where segmented code begins in CS.
    const uint8_t* emit(std::span<const CodeStep> path, uint32_t trace, uint32_t ip,
                        const std::function<void(BlockEmitter&)>& how);
    void flush();
    bool mayRun(uint64_t rip) const;
    // -- where code runs (translator_surroundings.cpp)
    void noteSurroundings();
    void segmentsToFrame(HostFrame& frame);
    bool fits(const Block& block, uint64_t rip) const {
        return !now_.segmented() || rip + block.bytes < now_.codeEnd;
    }
    uint64_t linearOf(uint64_t rip) const { return (cpu_.fast_[Cs].base + rip) & cpu_.linearMask_; }
    uint64_t ripOf(uint64_t linear) const { return (linear - cpu_.fast_[Cs].base) & cpu_.ipMask_; }
    uint64_t ripOfKey(uint64_t key) const { return now_.segmented() ? ripOf(uint32_t(key)) : key; }
    // Of the modes it matters only whether addresses have 64 bits: the rest is in Surroundings::key.
    static uint64_t frameTag(uint64_t cpuTag) {
        static_assert(uint64_t(CodeMode::Code16) == 0 && uint64_t(CodeMode::Code32) == 1);
        return cpuTag & ~1ull;
    }
    Outcome run(const Block& block);
    void refresh(HostFrame& frame);
    // Where host code goes on, in rax and rdx.
    struct Continuation {
        const uint8_t* code;
        HostFrame* frame;
    };
    static Continuation callOut(Translator& self, uint32_t site);
    const uint8_t* serve(HostFrame& frame, uint32_t site);
    HostFrame& followContext(HostFrame& frame);
    const uint8_t* goOn(HostFrame& frame);
    const uint8_t* enterNext(HostFrame& frame);
    const uint8_t* interpret(HostFrame& frame, Site& site);
    // -- other privilege levels (translator_crossings.cpp)
    const uint8_t* system(HostFrame& frame, Site& site);
    bool readTsc(HostFrame& frame, const Site& site);
    bool mayCross(const HostFrame& frame, const Site& site) const;
    bool systemCall(HostFrame& frame, const Site& site);
    bool systemReturn(HostFrame& frame, const Site& site);
    uint64_t plainDescriptor(uint16_t selector) const;
    bool interruptReturn(HostFrame& frame);
    void setFlags(HostFrame& frame, uint64_t value);
    const uint8_t* crossed(HostFrame& frame, const Site& site);
    // -- where modes, frames and faults are at play (translator_system.cpp)
    void notePlaces();
    const uint8_t* missed(HostFrame& frame, Site& site);
    const uint8_t* raised(HostFrame& frame, const Site& site, const Fault& fault);
    const uint8_t* faulted(HostFrame& frame, const Fault& fault);
    const uint8_t* behindSti(HostFrame& frame, uint32_t site);
    void makeHot(uint64_t rip);
    const uint8_t* strings(HostFrame& frame, Site& site);
    const uint8_t* changeAc(HostFrame& frame, Site& site);
    const uint8_t* withoutHandles(HostFrame& frame, const Site& site, unsigned index);
    const uint8_t* link(HostFrame& frame, uint32_t site);
    void linkTo(uint32_t site, const Block& target, uint32_t mark);
    void unlink(const Site& site);
    void leadTo(const Site& site, const Block& target);
    const uint8_t* second(HostFrame& frame, const Site& site);
    uint32_t setMark(HostFrame& frame, uint64_t linearPage, PhysAddr page, bool global);
    uint32_t markOf(uint64_t linearPage, PhysAddr page);
    const uint8_t* resume(HostFrame& frame, const Site& site) const;
    static void intoTrace(HostFrame& frame, const Site& site);
    // -- traces (translator_traces.cpp)
    bool isDead(const Site& site) const;
    void passes(HostFrame& frame, uint64_t rip);
    void startRecording(HostFrame& frame);
    void withholdSlice(HostFrame& frame);
    void record(HostFrame& frame, uint64_t rip);
    void stopRecording(const Block* because = nullptr);
    void finishRecording(HostFrame& frame, size_t first, size_t end, bool loop);
    int callDepth(std::span<const CodeStep> steps) const;
    void makeTrace(HostFrame& frame, std::span<const CodeStep> steps, bool loop, uint64_t page);
    void endTrace(uint32_t number);
    const uint8_t* leave(HostFrame& frame, uint64_t rip, unsigned executed, Exit why);
    const uint8_t* leaveInBlock(HostFrame& frame, const Site& site, Exit why, unsigned behind = 0);
    void noteExit(Exit why) { statistics_.exits[size_t(why)]++; }
    const uint8_t* vectors(HostFrame& frame, Site& site);
    bool refuses(const HostFrame& frame, const Site& site) const;
    const Block* findTarget(HostFrame& frame, uint64_t rip, bool runsNext = false);
    void toCpu(const HostFrame& frame);
    void toFrame(HostFrame& frame);

    Cpu& cpu_;
    ProcessorPlaces places_{};
    const TranslatorOptions options_;
    CodeBuffer buffer_;
    size_t thunkBytes_ = 0;
    void (*enter_)(HostFrame*, const void* code) = nullptr;
    std::array<const uint8_t*, kVectorLevels> load_{};
    const uint8_t *loadX87_ = nullptr, *callOut_ = nullptr, *exit_ = nullptr;
    std::array<const uint8_t*, kBesideSizes> beside_{};
    std::deque<Site> sites_;
    std::vector<std::unique_ptr<Block>> alone_;  // see Site::alone
    struct Pages {
        uint64_t linear, physical;
        bool operator==(const Pages&) const = default;
        struct Hash {
            size_t operator()(const Pages& p) const {
                return size_t((p.linear >> 12 ^ p.physical << 9) * 0x9e3779b97f4a7c15);
            }
        };
    };
    std::unordered_map<Pages, uint32_t, Pages::Hash> marks_;
    std::array<std::pair<Pages, uint32_t>, 256> lastMarks_{};  // of marks_; 0: none
    // Where emitted code lies.
    struct Code {
        std::span<const uint8_t> main, cold;
        std::vector<uint32_t> starts;  // of instructions in `main`
    };
    Code last_;       // emit()'s
    struct Assembly;  // what is used again for each block
    std::unique_ptr<Assembly> assembly_;
    struct Translated {
        size_t deadSite = 0;
        bool overwritesFlags = false;   // before anybody looks at them
        bool beginsHarmlessly = false;  // see behindSti()
        Code code;
        std::vector<uint32_t> incoming;  // sites that jump here
        uint32_t samples = 0;            // slices that ended in front of it
        uint8_t recordings = 0;          // of ways from it: each makes the next one wait twice as long
        std::vector<uint32_t> traces;    // that it is part of
        const uint8_t* copy = nullptr;   // its code once more, for when its trace can't run
    };
    struct Trace {
        Block* head;
        std::vector<CodeStep> steps;
        bool loop = false, dead = false;
        std::array<uint8_t, 5> covered{};  // by the jump to it, of the head's code
        Code code;
    };
    // The way that host code goes on from a block, noted edge by edge: its slice is withheld meanwhile.
    struct Recording {
        std::vector<CodeStep> steps;
        uint64_t page;  // of the first step
        uint64_t lookupTag;
        int64_t left;  // of the slice at the last step's begin
        unsigned instructions = 0;
    };
    std::unordered_map<Block*, Translated> translated_;
    std::map<std::pair<Block*, unsigned>, const uint8_t*> careful_;  // by block and instruction
    std::vector<Decoded> decoded_;                                   // room for the emitter
    std::deque<Trace> traces_;                                       // by number - 1
    std::optional<Recording> recording_;
    const Block* wanted_ = nullptr;  // to be recorded from when it is entered next
    int64_t withheld_ = 0;           // of HostFrame::slice
    KnownSurroundings known_;
    Surroundings now_;      // as of the last look
    bool nowhere_ = false;  // in none that host code can be for
    uint64_t generation_ = 1;
    HostFrame* frame_ = nullptr;  // while host code runs
    const Insn* goesOnAt_ = nullptr;
    Outcome outcome_ = Outcome::GoesOn;
    bool reachedEnd_ = false;
    std::exception_ptr thrown_;
    Statistics statistics_;
    std::array<uint64_t, ZYDIS_MNEMONIC_MAX_VALUE + 1> interpreted_{};  // calls by instruction
};

}  // namespace kiln
