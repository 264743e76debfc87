// A block, or a trace over several of them, as host code. The guest's own instructions are emitted again with
// their registers and memory operands replaced, so that the host processor supplies what they mean; what
// can't be emitted calls the interpreter's handler. A memory operand is looked up like this (E: its linear
// address, S: its size):
//
//         lea   eax, [E]                   index: bits 12..31
//         lea   rcx, [E + S - 1]           page of the last byte: an access that crosses misses
//         shr   eax, 7
//         and   eax, -32                   an entry of the TLB has 32 bytes
//         and   rcx, -4096
//         cmp   rcx, [rsp + rax + tag]     the read or the write tag
//         jne   slow                       the interpreter runs the instruction, and the code goes on
//         mov   rax, [rsp + rax + addend]
//         op    [rax + E]
//
// Operands that must lie near each other share a look-up (access_plan.hpp); where they are not on one page
// the rest of the block goes on in a careful version of it, which shares nothing.
//
// The guest's arithmetic flags are in the host's, in the frame, or can be made again from registers that the
// instruction they come from has left as they are (a Recipe); mostly in more than one of these. What destroys
// the last one saves them first. The interpreter wants them in the frame, so code on the way there makes and
// saves them; between blocks they are in the frame unless the target overwrites them before anybody looks.
//
// In segmented code (surroundings.hpp) an operand goes through its segment first:
//
//         lea   edx, [base + index + disp] and for 16-bit addresses: movzx edx, dx
//         lea   rcx, [rdx + S]             the end of real mode's segments is a constant
//         cmp   rcx, [rsp + end]           from where on the segment needs a closer look
//         ja    slow
//         add   edx, [rsp + base]
//
// Not emitted yet: gathers and scatters, MASKMOVDQU, what loads or
// stores the x87's whole state.
#pragma once
#include <asmjit/x86.h>

#include <boost/container/small_vector.hpp>
#include <optional>
#include <set>
#include <span>

#include "translate/access_plan.hpp"
#include "translate/drafter.hpp"
#include "translate/guest_registers.hpp"
#include "translate/host_block.hpp"
#include "translate/host_frame.hpp"
#include "translate/registers.hpp"

namespace kiln {

struct EmitterContext {
    const CodeTerms& terms;
    DecodedShapes& shapes;
    uint16_t trace;                     // number for the sites of a trace, 0 of a block
    const std::set<unsigned>& refused;  // instructions that the assembler could not encode
    std::vector<Decoded>& decoded;      // room for the block's instructions
    const Surroundings& surroundings;
    uint32_t ip;  // in segmented code: of the block
};

class BlockEmitter {
  public:
    BlockEmitter(Draft& draft, const EmitterContext& context, std::span<const CodeStep> steps);

    // Emits the block; the careful version from instruction `first` on, with flags in the frame.
    void emit();
    void emitCarefully(unsigned first);
    // Emits all steps one behind the other (emitter_trace.cpp). A loop goes on with the first one again.
    // `marks` are those of the steps' pages (HostFrame), `otherwise` is code that runs the first block when
    // the trace can't.
    void emitTrace(bool loop, std::span<const uint32_t> marks, const uint8_t* otherwise);

    bool overwritesFlagsFirst() const { return kills_; }
    // The first instruction touches neither memory nor anything but general registers and flags.
    bool beginsHarmlessly() const { return harmless_; }
    unsigned index() const { return index_; }  // of the instruction it is at

    // Whether the translator has more for an instruction than a call of the interpreter.
    static bool knows(ZydisMnemonic mnemonic);

  private:
    using Gp = asmjit::x86::Gp;
    using Mem = asmjit::x86::Mem;
    using Label = asmjit::Label;
    using Operand = asmjit::Operand;
    using InstId = asmjit::InstId;

    // How flags are made again: by comparing or testing again, or by undoing a sum and doing it again in rax.
    struct Recipe {
        enum class Kind : uint8_t { None, Compare, Test, Logic, Add, Sub };
        Kind kind = Kind::None;
        Gp a, b;
        asmjit::Imm immediate;
        bool hasImmediate = false;
        int guestA = -1, guestB = -1;  // registers it depends on

        explicit operator bool() const { return kind != Kind::None; }
        bool operator==(const Recipe& o) const {
            return kind == o.kind && guestA == o.guestA && guestB == o.guestB && a == o.a && b == o.b &&
                   hasImmediate == o.hasImmediate && immediate == o.immediate;
        }
    };
    struct Address {
        Mem mem;
        bool usesRdx;
    };
    // Code apart from the block's main line: a call of the translator.
    struct Tail {
        Label label;
        size_t site;
        Label resume;    // where the main line goes on, if it does
        Recipe recipe;   // of flags to be saved first
        Label jump;      // instead of calling: a jump there, to be led elsewhere
        Mem operand{};   // that the TLB did not give
        Label again{};   // where it is looked up
        Label behind{};  // where a write beside code goes on, of `log2Bytes`
        unsigned log2Bytes = 0;
        // If not 0: what several operands have in common, so many bytes from `operand`. If they lie beside
        // code, the main line goes on at `behind`, otherwise the next tail.
        int32_t range = 0;
        Label found{};                   // of a target that is in its entry's neighbour
        RegisterMap map = kStandardMap;  // in force at the label
    };
    // Of a jump to another page that is not the one it was led to: a look-up of the target.
    struct Detour {
        Label label;
        size_t site;
        int64_t target;  // from the page
        Recipe recipe;   // of flags to be saved first
    };
    struct Edge {
        Label label;     // a conditional branch that is taken comes here
        int64_t target;  // from the page
        unsigned executed;
        bool flagsInFrame;
        Recipe recipe;
        // Not from a block's end: where the block goes on when the slice is over, which nobody looks at
        // there.
        std::optional<size_t> rest{};
        bool limited = false;
    };

    // Of an operand that the segment does not plainly allow: it may expand down.
    struct Downward {
        Label label, back, refused;
        unsigned segment;
        bool write;
    };

    void decodeAll();
    void decodeStep(const CodeStep& step, size_t at);
    bool decode();
    void enterStep(size_t n, unsigned at);
    void body(unsigned first);
    void leavings();  // what lies behind and apart from the main line
    void tail(const Tail& t);
    void expandDown(const Downward& d);
    bool instruction();  // false: the block's code ends here
    bool emitted();      // false: the interpreter must do it
    void interpret();
    bool mayBeFollowed() const;
    bool isCrossing() const;
    void before();
    bool plain(InstId id);
    int operandInPlace() const;
    bool highByte(InstId id);
    bool highByteAndMemory(InstId id, const ZydisDecodedOperand& memory);
    bool isAtomic() const;  // for other threads
    void lockIfAtomic();
    bool compareExchange();
    bool compareExchangeWide(InstId id);
    bool bitOfString(InstId id);
    bool lea();
    bool shiftByCl(InstId id);
    bool multiply(InstId id);
    bool multiplyWithoutFlags(InstId id);
    bool divide(bool isSigned);
    bool convert();
    bool loadAh();
    bool storeAh();
    bool push();
    bool pop();
    bool popToMemory(const ZydisDecodedOperandMem& place);
    bool leave();
    bool branchIf(InstId id);
    void branchAway(InstId id, int64_t target);
    Mem tableEntry() const;
    bool loop();
    bool jump();
    bool call();
    bool ret();
    bool jumpIndirect(bool isCall);
    void countInline(TrapKind kind, const Gp& processor = asmjit::x86::rax);
    bool nearBranch();
    bool isHarmless() const;
    void pushReturn();

    // -- system instructions
    bool system();
    void toProcessor();
    Mem ofProcessor(const void* place, unsigned bytes, const Gp& base = asmjit::x86::rax) const;
    void requireCpl0(Site::Kind otherwise = Site::Kind::Miss);
    void describeSystem(Site& site) const;
    uint8_t raises() const;  // a Site::Raises
    void requireFsGsBase();
    void setBase(bool gs, const Gp& value);
    bool swapGs();
    bool readBase(bool gs);
    bool writeBase(bool gs);
    bool clearInterrupts();
    bool setInterrupts();
    bool pushFlags();
    bool popFlags();
    bool changeDirection(bool down);
    bool readKeys();
    bool readTsc();
    bool mayCross() const;
    bool hasFlatOperand() const;
    void cross(const asmjit::Label& slow);
    void crossBySysenter(const asmjit::Label& slow, int32_t executed);
    void loadFlatSegment(unsigned segment, unsigned dpl, bool code);
    void crossBySystemCall(const asmjit::Label& slow, int32_t executed);
    void crossByReturn(const asmjit::Label& slow, int32_t executed);
    void returnTo(unsigned level, const asmjit::Label& slow, int32_t executed);
    void findCrossed(const asmjit::Label& slow, const asmjit::x86::Mem* otherFrame);
    void loadSegment(unsigned segment, size_t known);
    void enterCrossed(const asmjit::x86::Mem* otherFrame, int32_t executed);
    void toFlagsImage();
    bool readControl();
    bool writeControl();
    void toggleTs();
    void clearTs();
    bool clearTaskSwitched();
    bool loadMachineStatus();
    bool readDebug();
    bool writeDebug();
    bool changeAc();
    bool stringInstruction();

    // -- operands
    // -1: no general register, or a high byte.
    static int guestOf(ZydisRegister r) { return generalRegister(r); }
    bool inFrame(int guest) const { return !map_.pinned(unsigned(guest)); }
    Gp pinned(unsigned guest, unsigned bits) const { return sized(map_.host[guest], bits); }
    static Gp sized(int host, unsigned bits);
    Mem slot(unsigned guest, unsigned bytes = 8) const;
    void loadGuest(const Gp& scratch, unsigned guest);
    void storeGuest(unsigned guest, const Gp& scratch);
    Gp baseRegister(ZydisRegister r, const Gp& scratch) { return baseRegisterOf(guestOf(r), scratch); }
    Gp baseRegisterOf(int guest, const Gp& scratch);
    static bool addressable(const ZydisDecodedOperandMem& m) {
        return m.index == ZYDIS_REGISTER_NONE || guestOf(m.index) >= 0;
    }
    // Flags stay as they are but for FS and GS. rdx and rcx are used on the way.
    void linearAddress(const ZydisDecodedOperandMem& m, const Gp& out);
    // An operand of a group: `base` and `disp` where the group starts from a register.
    Address grouped(const AccessPlan::Access& access, unsigned base, int64_t disp, unsigned bytes);
    Address groupedSum(const AccessPlan::Access& access, const ZydisDecodedOperandMem& m, unsigned bytes);
    void checkGroup(const AccessPlan::Access& access, const Gp& base, int64_t disp);
    bool knownAligned(const AccessPlan::Access& access, unsigned bytes);
    void checkAlignment(const AccessPlan::Access& access, const Mem& mem, unsigned bytes);
    void loadHandle(const AccessPlan::Access& access);
    void noteHandle(const AccessPlan::Access& access);
    Mem handle(const AccessPlan::Group& group) const;
    Label careful();
    Label careful(const Mem& first, int64_t bytes, Label& behind);
    Gp startOf(const AccessPlan::Group& group, unsigned base);
    Address access(const ZydisDecodedOperandMem& m, unsigned bytes, bool write);

    // -- segments (emitter_segments.cpp)
    static unsigned segmentOf(ZydisRegister r) { return unsigned(ZydisRegisterGetId(r)); }
    bool needsSegment(ZydisRegister segment) const;
    Gp address() const { return sized(int(asmjit::x86::rdx.id()), z_->address_width == 64 ? 64 : 32); }
    void cutAddress();
    void throughSegment(unsigned segment, unsigned bits, unsigned bytes, bool write);
    void toKey();
    std::optional<int64_t> target() const;
    unsigned transferBytes() const;
    bool moveSegment();
    bool pushSegment(unsigned segment);
    bool popSegment(unsigned segment);
    bool loadFar();
    void toSegment(unsigned segment, const Gp& selector);
    void putSegment(unsigned segment);
    bool stringElement();
    Address pointer(unsigned guest, unsigned segment, unsigned bytes, bool write);
    void advance(unsigned guest, unsigned bytes);

    // -- on the way to memory
    Address check(const Mem* simple, unsigned bytes, bool write);
    Address stack(int32_t disp, unsigned bytes, bool write, unsigned base = 4);
    void addToStack(int32_t n);
    void moveAddressTo(Address& a, const Gp& reg);
    bool operandsUsable() const { return facts_->usable; }

    // -- vector registers
    void needRegisters(VectorLevel level, bool x87);
    bool needMxcsr();
    void load(const Tail& t);
    bool mustBeAligned(unsigned bytes) const;
    static Operand vectorRegister(ZydisRegister r);
    Mem vectorMemory(const Mem& mem, unsigned bytes) const;
    bool vector(InstId id);
    bool vectorPlain(InstId id);
    void decorate();
    bool loadMxcsr();
    bool storeMxcsr();
    bool compareStrings(InstId id);

    // -- x87
    bool usesX87() const;  // of the interpreter, for this instruction: CpuState's x87 registers
    bool x87();
    void notePage();
    void noteData(const ZydisDecodedOperandMem& m, const Address& at);
    void embedX87(const Mem& mem);
    bool loadControl(const Address& from);

    // -- flags
    void saveFlags();
    void needFlags();
    void flagsWritten() { inHost_ = true, inFrame_ = false, recipe_ = {}; }
    void makeFlags(const Recipe& recipe);
    void storeFlags();
    void saveBy(const Recipe& recipe);  // if there is one
    void keepFlags();                   // somewhere else than in the host's
    void noteRecipe();
    bool writesOperandOf(const Recipe& recipe) const;
    void beforeInstruction();
    bool overwritesFlags();  // the block, before anybody looks at them
    bool certainlyEmitted();
    bool readsFlags() const { return facts_->readsFlags; }
    bool writesFlags() const { return facts_->writtenFlags; }

    // -- leaving
    void edge(int64_t target, unsigned executed, std::optional<size_t> rest = {});
    void leaveTo(int64_t target, unsigned executed, std::optional<size_t> rest);
    unsigned executed() const { return index_ + 1 - roundBegin_; }  // with this instruction

    // -- traces (emitter_trace.cpp)
    struct RoundEnd {
        Label label;
        Recipe recipe;  // of flags to be saved first
    };
    void limitRounds(const Label& anew, unsigned count);
    void unlimit();
    void checkPages(std::span<const uint32_t> marks, const uint8_t* otherwise);
    bool round(bool loops);
    std::vector<RoundEnd> rounds(unsigned count);
    bool fallsToNext() const;
    bool inMidBlock() const;
    size_t restOfBlock();
    RoundEnd endRound(unsigned count);
    void leaveLoop(const RoundEnd& end, const uint8_t* otherwise);
    bool follows(int64_t target) const { return next_ && *next_ == target; }
    template <class Code>
    void followIndirect(Code otherwise);
    template <class Code>
    void inStandardMap(Code code);
    bool moved(const Recipe& recipe) const;
    RegisterMap chooseMap(std::span<const Decoded> code, bool loop) const;
    void moveRegisters(const RegisterMap& from, const RegisterMap& to);
    Label lookUpJump();      // target in rdx: its entry's index in rax, or there
    void lookUpNeighbour();  // of that entry: equal if it is the target's
    void compareTarget();
    void lookUp();
    Label checkMark(size_t site, int64_t distance);
    Label checkPage(size_t site, int64_t target);
    void checkSecondPage();
    void detour(const Detour& d);
    void toPage();
    void goToTarget(const Mem& host, bool targetInRdx);
    size_t addSite(Site::Kind kind);
    void placeNumber(unsigned distance);
    Tail& addTail(const Label& label, size_t site, const Recipe& recipe);
    Tail& addTail(const Label& label, size_t site) { return addTail(label, site, Recipe{}); }
    void callOut(size_t site);
    bool isTrap() const;
    void describeTrap(Site& site) const;
    uint8_t describeOther(Site& site, const ZydisDecodedOperand& other) const;
    uint8_t describeMove(Site& site) const;
    uint8_t describeOperation(Site& site) const;
    uint8_t describeAccess(Site& site) const;
    void noteCall(size_t site);
    // The interpreter does this instruction, or all from it on. `checked`: what operands share was looked up
    // before.
    Label slow(Site::Kind kind, bool checked = false);
    // The same when it turns out that the operand's look-up, at `again`, is not worth another try.
    // A write beside code comes back with the index to `behind`, if that is to be bound.
    Label missing(const Mem& operand, unsigned bytes, bool write, const Label& again,
                  Label* behind = nullptr);
    bool faultsWithoutTraces() const;
    void resumeSlow();
    unsigned bits() const { return code64_ ? 64 : 32; }
    bool segmented() const { return context_.surroundings.segmented(); }
    unsigned stackBits() const { return code64_ ? 64 : context_.surroundings.bigStack ? 32 : 16; }
    // Of the page that the block begins on, in segmented code: what makes offsets from it offsets in CS.
    int64_t pageIp() const { return int64_t(context_.ip) - pageOffset_; }
    int64_t offset() const { return pageOffset_ + insn_->offset; }
    int64_t nextOffset() const { return offset() + insn_->length; }

    HostAssembler& a_;
    std::vector<Site>& sites_;
    std::vector<Draft::Fixup>& fixups_;
    std::vector<uint16_t>& starts_;
    AccessPlan plan_;
    const EmitterContext& context_;
    const std::span<const CodeStep> steps_;
    const bool code64_;
    bool tracing_ = false;
    // The step whose code is being emitted, and where it begins: among the instructions and in bytes from the
    // page that the code begins on.
    const CodeStep* step_;
    Block* block_;
    unsigned stepBegin_ = 0;
    int64_t pageOffset_;
    // In a trace: where this round of a loop begins; what HostFrame::slice is too low by; where the step is
    // left for the next one, in front of its last instruction.
    unsigned roundBegin_ = 0;
    int64_t bias_ = 0;
    bool limited_ = false;  // part of the slice is in HostFrame::beyond
    std::optional<int64_t> next_;
    bool followed_ = false;
    RegisterMap map_ = kStandardMap;
    bool inHost_ = false, inFrame_ = true;  // where the guest's flags are
    Recipe recipe_;
    unsigned recipeInstruction_ = 0;  // where it is from
    bool kills_ = false, careful_ = false;

    VectorLevel vectors_ = VectorLevel::None;  // loaded for sure
    bool x87_ = false;                         // the same
    bool x87Page_ = false;                     // HostFrame::x87Page is this block's

    const Insn* insn_ = nullptr;  // the instruction being emitted
    unsigned index_ = 0;          // among all steps' instructions
    bool decoded_ = false;
    // Only when it is decoded_.
    const ZydisDecodedInstruction* z_ = nullptr;
    const ZydisDecodedOperand* operands_ = nullptr;
    const Facts* facts_ = nullptr;
    size_t slowTail_ = ~size_t(0);  // of this instruction, if there is one
    bool unchecked_ = false;        // some of its tails come from in front of a look-up
    template <class T, size_t kUsual>
    using List = boost::container::small_vector<T, kUsual>;
    List<size_t, 8> missTails_;  // of this instruction's operands
    bool behindSti_ = false, harmless_ = false;
    bool nearBranchInstruction_ = false;  // whose slow way is to leave in front of it

    // The last call of the interpreter in the main line; instructions behind it may join it.
    size_t interpreted_ = 0, interpretedEnd_ = ~size_t(0);

    Label entry_;
    List<Tail, 32> tails_;
    List<Detour, 8> detours_;
    List<Edge, 8> edges_;
    std::vector<Downward> downward_;
};

}  // namespace kiln
