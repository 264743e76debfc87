// Turns a processor's hot blocks into host code and runs them. A new block gets a counting handler in front
// of its first instruction; when the count is up, the block is emitted (emitter.hpp) and a handler that
// enters the host code takes that place, so that the interpreter finds translated blocks without looking for
// them.
//
// Host code leaves for the interpreter when the slice is over, when what follows is not translated, and where
// an instruction changes what code means; everything it can't do itself comes to callOut() by a numbered
// Site. Each processor has a translator; the host code is in a store that they share (code_store.hpp).
#pragma once
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "cpu/cpu.hpp"
#include "translate/code_store.hpp"
#include "translate/drafting_thread.hpp"
#include "translate/host_frame.hpp"
#include "translate/processor_places.hpp"
#include "translate/site.hpp"
#include "translate/surroundings.hpp"

namespace kiln {

class BlockEmitter;
class PromotedCode;

class Translator final : public HotCode {
  public:
    // A store for processors of this memory. Throws std::runtime_error when the host gives none for code.
    static std::shared_ptr<CodeStore> makeStore(const TranslatorOptions& options, PhysicalMemory& memory,
                                                bool shared);
    Translator(Cpu& cpu, std::shared_ptr<CodeStore> store);
    Translator(Cpu& cpu, const TranslatorOptions& options);  // with a store of its own
    ~Translator() override;

    void born(Block& block) override;
    void died(Block& block) override;
    void changed(Block& block) override;
    bool cools(Block& block) override;
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
        uint64_t beside = 0;                         // of those blocks, on a thread of their own
        uint64_t adopted = 0;                        // blocks that another processor had translated
        std::array<uint64_t, Site::kKinds> calls{};  // by kind of site
        uint64_t noTarget = 0, coldTarget = 0;  // look-ups that found no block, or one that is not translated
        uint64_t refreshes = 0;                 // of the table of jump targets
        uint64_t careful = 0;                   // versions of blocks
        uint64_t traces = 0, loops = 0, traced = 0;  // loops are among them; instructions
        uint64_t recordings = 0;                     // that were begun
        uint64_t traceNanoseconds = 0;               // of making them
        uint64_t hostBytes = 0, coldBytes = 0;
        uint64_t entries = 0, misses = 0, lookUps = 0, links = 0;  // while running
        uint64_t nanoseconds = 0;                                  // of translating
        uint64_t interrupts = 0;                                   // delivered without the interpreter
        uint64_t deviceEntries =
            0;  // calls of devices by host code, of which these were for several traps at once:
        uint64_t sequences = 0, sequenceTraps = 0, sequenceRounds = 0;  // the last: in loops
        uint64_t fills = 0, faults = 0;  // operands that the TLB did not give, and then did or could not
        std::array<uint64_t, size_t(Exit::Count)> exits{};
    };
    const Statistics& statistics() const { return statistics_; }
    const CodeStore& store() const { return *store_; }

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

    void heatUp(Block& block, uint64_t rip);
    bool translate(Block& block, uint64_t rip);
    Block* whole(Block* block, std::unique_ptr<Block>& again) const;
    Block* ownBlock(const HostBlock& hostBlock, uint64_t rip);
    void stranger(Block& block, uint64_t rip);
    void tell(uint64_t rip);
    const uint8_t* careful(HostBlock& hostBlock, unsigned first);
    void readBytes(const Block& block, uint8_t* to) const;
    std::vector<uint8_t> bytesOf(const Block& block) const;
    // `ip` is where segmented code begins in CS.
    const uint8_t* emit(std::span<const CodeStep> path, uint16_t trace, uint32_t ip,
                        const std::function<void(BlockEmitter&)>& how);
    CodeTerms terms(uint64_t rip = 0) const {
        return {cpu_.decoder(),    store_->thunks,       places_, cpu_.threaded, cpu_.pauseLeaves,
                options_.portable, *store_->inlineTraps, rip};
    }
    // -- on a thread of its own (translator_drafts.cpp)
    using Job = DraftingThread::Job;
    bool isDrafted(Block& block, uint64_t rip);
    void ask(Job& job, Block& block, uint64_t rip) const;
    void forgetDrafts(const Block& block);
    void settleDrafts();
    void settle(Job& job);
    bool enterDraft(Job& job, Block& block);
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
    static Continuation callOut(Translator& self, uint32_t site, HostFrame* frame);
    const uint8_t* serve(HostFrame& frame, uint32_t site);
    HostFrame& followContext(HostFrame& frame);
    const uint8_t* goOn(HostFrame& frame);
    const uint8_t* enterNext(HostFrame& frame);
    const uint8_t* interpret(HostFrame& frame, Site& site);
    // -- traps (translator_traps.cpp)
    static Continuation callPromoted(Translator& self, uint32_t number, HostFrame* frame);
    void forgetPromotionsWhereDevicesMove();
    const uint8_t* trap(HostFrame& frame, Site& site, uint32_t number);
    bool reach(HostFrame& frame, const Site& site, const DeviceAccess& access, int64_t slice);
    struct BeforeAccess {
        int64_t slice;
        const Tlb* tlb;
        uint64_t generation;
    };
    BeforeAccess beforeAccess(int64_t slice);
    bool stillAs(const BeforeAccess& before, const HostFrame& frame, const Site& site) const;
    bool sameAround(const BeforeAccess& before, const HostFrame& frame, const Site& site) const;
    static void readDevice(HostFrame& frame, const Site& site, const DeviceAccess& access);
    static void writeDevice(HostFrame& frame, const Site& site, const DeviceAccess& access);
    const uint8_t* behindAccess(HostFrame& frame, Site& site, const DeviceAccess& access);
    bool mayUsePort() const;
    uint64_t ripOf(const HostFrame& frame, const Site& site) const {
        return linearOf(ripOf(frame.page + uint64_t(site.target)));
    }
    const uint8_t* registersInMemory(HostFrame& frame, Site& site, uint32_t number);
    const uint8_t* access(HostFrame& frame, Site& site, const DeviceAccess& access);
    const uint8_t* behindPort(HostFrame& frame, const HostBlock& block, unsigned index,
                              const Cpu::LastIo& access);
    // -- several at once (translator_compounds.cpp)
    std::shared_ptr<const TrapLoop> loopOf(const HostBlock& block) const;
    bool goRound(HostFrame& frame, Site& site, std::shared_ptr<const TrapLoop> loop, int64_t slice,
                 const uint8_t*& code);
    void noteSequence(const HostFrame& frame, const Site& site, const TrapLoop& loop,
                      std::span<const uint32_t> done, uint64_t traps, bool rounds);
    struct StringEnd;
    StringEnd stringEnd(uint64_t linear, unsigned size, bool write) const;
    template <class Piece>
    const uint8_t* inPieces(HostFrame& frame, Site& site, TrapKind kind, Piece piece);
    const uint8_t* stringOfRegisters(HostFrame& frame, Site& site, bool copies);
    const uint8_t* stringOfPorts(HostFrame& frame, Site& site);
    bool wantsPromotion(TrapSite& trap, uint32_t site);
    bool wantsDirect(uint32_t site, const TrapSite& trap, uint64_t key, uint64_t whole) const;
    bool promote(uint32_t site, TrapSite& trap, const Promotion& promotion,
                 const std::function<bool(PromotedCode&)>& how);
    DirectRegister unlocked(DirectRegister direct, bool write) const;
    void promotePort(uint32_t number, TrapSite& trap, uint16_t port, unsigned size, bool write);
    void promoteCpuid(uint32_t number, TrapSite& trap, uint32_t leaf, uint32_t subleaf);
    void promoteMsr(uint32_t number, TrapSite& trap, uint32_t index, bool write);
    void promoteRegister(uint32_t number, TrapSite& trap, const Tlb::Entry& entry, const DeviceRange& range,
                         const DeviceAccess& access);
    // -- other privilege levels (translator_crossings.cpp)
    const uint8_t* system(HostFrame& frame, Site& site);
    bool readTsc(HostFrame& frame, const Site& site);
    bool mayCross(const HostFrame& frame) const;
    bool systemCall(HostFrame& frame, const Site& site);
    bool systemReturn(HostFrame& frame, const Site& site);
    uint64_t plainDescriptor(uint16_t selector) const;
    bool interruptReturn(HostFrame& frame);
    void rememberReturn(HostFrame& frame, const Segment& cs, uint64_t csDescriptor, const Segment& ss,
                        uint64_t ssDescriptor) const;
    bool enterHandler(HostFrame& frame, uint8_t vector, Cpu::Source source, const Fault* fault = nullptr);
    bool enterHandlerLong(HostFrame& frame, uint8_t vector, Cpu::Source source, const Fault* fault);
    bool softwareInterrupt(HostFrame& frame, const Site& site);
    const uint8_t* enterFaultHandler(HostFrame& frame, const Site& site, const Fault& fault);
    std::optional<Fault> faultAhead(const Site& site) const;
    bool deniesPort(uint16_t port, unsigned size) const;
    const uint8_t* lookAround(HostFrame& frame, uint64_t rip);
    const uint8_t* moveToCr3(HostFrame& frame, const Site& site, uint64_t value);
    const uint8_t* moveToCr8(HostFrame& frame, const Site& site);
    const uint8_t* writeControl(HostFrame& frame, const Site& site);
    const uint8_t* invalidatePage(HostFrame& frame, const Site& site);
    bool invalidatePcid(HostFrame& frame, const Site& site);
    const uint8_t* halt(HostFrame& frame, const Site& site);
    const uint8_t* behind(HostFrame& frame, const Site& site);
    void setFlags(HostFrame& frame, uint64_t value);
    void levelChanged();
    const uint8_t* crossed(HostFrame& frame, const Site& site);
    // -- outside 64-bit mode (translator_legacy.cpp)
    bool enterHandlerProtected(HostFrame& frame, uint8_t vector, Cpu::Source source, const Fault* fault);
    bool enterHandlerReal(HostFrame& frame, uint8_t vector);
    bool interruptReturnLegacy(HostFrame& frame, const Site& site);
    bool returnToV86(HostFrame& frame, const uint8_t* items);
    bool systemEnter(HostFrame& frame);
    bool systemExit(HostFrame& frame, const Site& site);
    bool staysFlat() const;
    HostFrame& followSegments(HostFrame& frame);
    HostFrame& behindCrossing(HostFrame& frame);
    // -- where modes, frames and faults are at play (translator_system.cpp)
    void notePlaces();
    bool mayBothHit(uint64_t source, uint64_t destination) const;
    const uint8_t* missed(HostFrame& frame, Site& site, uint32_t number);
    const uint8_t* raised(HostFrame& frame, const Site& site, const Fault& fault);
    const uint8_t* faulted(HostFrame& frame, const Fault& fault);
    const uint8_t* behindSti(HostFrame& frame, uint32_t site);
    void makeHot(uint64_t rip);
    const uint8_t* strings(HostFrame& frame, Site& site);
    const uint8_t* changeAc(HostFrame& frame, Site& site);
    const uint8_t* withoutHandles(HostFrame& frame, const Site& site, unsigned index);
    const uint8_t* link(HostFrame& frame, uint32_t site);
    const uint8_t* linkTo(uint32_t site, const Block& target, uint32_t mark);
    const Block* runsAlone(Site& site);
    static const uint8_t* hostOf(const Block* block) { return block->hostBlock->host; }
    const uint8_t* at(uint32_t place) const { return store_->buffer.at(place); }
    const uint8_t* second(HostFrame& frame, const Site& site);
    void enterJump(HostFrame& f, uint32_t index, const JumpTarget& target, bool global);
    uint32_t setMark(HostFrame& frame, uint64_t linearPage, PhysAddr page, bool global);
    uint32_t markOf(uint64_t linearPage, PhysAddr page);
    const uint8_t* resume(HostFrame& frame, const Site& site) const;
    static void intoTrace(HostFrame& frame, const Site& site);
    // -- traces (translator_traces.cpp)
    void passes(HostFrame& frame, uint64_t rip);
    void startRecording(HostFrame& frame);
    void withholdSlice(HostFrame& frame);
    void record(HostFrame& frame, uint64_t rip);
    void stopRecording(const Block* because = nullptr);
    void finishRecording(HostFrame& frame, size_t first, size_t end, bool loop);
    bool isUsual(std::vector<CodeStep>& steps);
    int callDepth(std::span<const CodeStep> steps) const;
    void makeTrace(HostFrame& frame, std::span<CodeStep> steps, bool loop, uint64_t page);
    bool isHostless(const Block& block, uint64_t rip) const {
        return !block.hostBlock || block.hostBlock->hostFor != now_.hostFor(rip);
    }
    const uint8_t* leave(HostFrame& frame, uint64_t rip, unsigned executed, Exit why);
    const uint8_t* leaveAt(HostFrame& frame, const HostBlock& block, unsigned index, Exit why);
    const uint8_t* leaveInBlock(HostFrame& frame, const Site& site, Exit why, unsigned behind = 0);
    void noteExit(Exit why) { statistics_.exits[size_t(why)]++; }
    bool notAvailable(const Site& site) const;
    void noteRefused(HostFrame& frame) const;
    const uint8_t* vectors(HostFrame& frame, Site& site);
    bool refuses(const HostFrame& frame, const Site& site) const;
    const Block* findTarget(HostFrame& frame, uint64_t rip, bool runsNext = false);
    void toCpu(HostFrame& frame);
    void toFrame(HostFrame& frame);

    Cpu& cpu_;
    ProcessorPlaces places_{};
    const std::shared_ptr<CodeStore> store_;
    const TranslatorOptions& options_ = store_->options;
    const uint8_t* const exit_ = store_->thunks.exit;
    CodeStore::Runner running_ = 0;
    EmittedCode last_;  // emit()'s
    static constexpr size_t kJobs = 16;
    std::unique_ptr<Job[]> jobs_;  // null: there is no thread for them
    unsigned pending_ = 0;         // of those
    uint64_t settled_ = 0;         // DraftingThread::done() then
    Job onTheSpot_;
    struct Mark {
        uint64_t linear = 0, physical = 0;
        uint32_t number = 0;  // 0: none
    };
    std::array<Mark, 256> lastMarks_{};  // of the store's
    // The way that host code goes on from a block, noted edge by edge: its slice is withheld meanwhile.
    struct Recording {
        std::vector<CodeStep> steps;
        uint64_t page;  // of the first step
        uint64_t lookupTag;
        int64_t left;  // of the slice at the last step's begin
        unsigned instructions = 0;
    };
    std::optional<Recording> recording_;
    const Block* wanted_ = nullptr;  // to be recorded from when it is entered next
    int64_t withheld_ = 0;           // of HostFrame::slice
    Surroundings now_;               // as of the last look
    Surroundings lastSegmented_;     // the segmented ones that were looked up last
    bool nowhere_ = false;           // in none that host code can be for
    std::array<Cpu::FastSegment, 6> segments_{};  // as frames of this version have them
    uint64_t segmentsVersion_ = 0;
    bool segmentsDownward_ = false;  // one of them expands down
    uint64_t generation_ = 0;        // of the store, when it was looked at last
    bool wantsRoom_ = false;
    HostFrame* frame_ = nullptr;  // while host code runs
    const Insn* goesOnAt_ = nullptr;
    Outcome outcome_ = Outcome::GoesOn;
    int64_t left_ = 0;  // of the slice, behind the block, when a device was reached
    bool reachedEnd_ = false;
    std::exception_ptr thrown_;
    Statistics statistics_;
    // The code segment of the last handler that was entered, and what it was unpacked from.
    struct {
        uint64_t descriptor = 0;
        Segment segment;
    } handlers_;
    std::array<uint64_t, ZYDIS_MNEMONIC_MAX_VALUE + 1> interpreted_{};  // calls by instruction
};

}  // namespace kiln
