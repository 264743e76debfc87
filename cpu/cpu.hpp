// One processor: its state, its TLBs, and the interpreter's run loop. This header is the room's table of
// contents:
//
//   state.hpp flags.hpp      architectural state            memory.cpp      loads and stores, TLB fill
//   features, cpu_model      what the model offers          instruction_sets  which encodings that makes
//   insn.hpp decoder.cpp     Insn, Block, Row; Zydis        segments.cpp    segment loads, far transfers
//   body.hpp                 how a body becomes a handler   exceptions.cpp  delivery through IVT, IDT, TSS
//   code_cache.cpp           blocks by physical address     control_registers.cpp, msr.cpp, cpuid.cpp
//   execute.cpp              the run loop                   debug.cpp       breakpoints, single steps
//   trap_profile.hpp         what traps, and how often
//   move, arithmetic, ...    bodies and their rows          smm.cpp         system management mode
//
// Not modelled: last-branch records, performance counters, virtual machine extensions.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "apic/clock.hpp"
#include "apic/local_apic.hpp"
#include "cpu/code_cache.hpp"
#include "cpu/cpu_model.hpp"
#include "cpu/fault.hpp"
#include "cpu/insn.hpp"
#include "cpu/msr_place.hpp"
#include "cpu/state.hpp"
#include "cpu/topology.hpp"
#include "cpu/trap_profile.hpp"
#include "mmu/guest_ram.hpp"
#include "mmu/io.hpp"
#include "mmu/log.hpp"
#include "mmu/page_walk.hpp"
#include "mmu/physical_memory.hpp"
#include "mmu/state.hpp"
#include "mmu/translation_contexts.hpp"

namespace kiln {

class Decoder;
class Translator;

// What a processor is connected to.
struct CpuPorts {
    PhysicalMemory& memory;
    PortBus& ports;
    LocalApic& apic;
    Clock& clock;
    Log& log;
    CodeCache& code;
    std::function<void(const std::string& why)> shutdown;  // triple fault
    std::function<void(bool raised)> ferr{};               // FERR#, for IRQ 13 while CR0.NE = 0
    CpuTopology topology{};
    std::shared_ptr<const CpuModel> model = kilnModel();
    std::function<uint64_t()> entropy{};  // for RDRAND; without, it reports that there is none
    // For a processor that halts: calls timers that are due now or in a moment. False: there is more to
    // waiting, and nothing was done.
    std::function<bool()> runDueTimers{};
};

// Whether instructions of each kind raise an exception before they do anything: a byte each, in one word.
struct alignas(8) FpuTraps {
    bool x87 = false, mmx = false, sse = false, avx = false, avx512 = false;
};

class Cpu : public CpuState {
  public:
    static constexpr uint64_t kTscHz = 1'000'000'000;

    Cpu(CpuPorts ports, unsigned id);
    ~Cpu();

    void visitState(StateVisitor& visit);  // every architectural field (state.cpp)

    // The state after RESET# (SDM vol. 3, table 10-1): CS:EIP = F000:FFF0 with base FFFF0000h.
    void reset();
    void init();  // after INIT#: caching bits, FPU, vectors, MSRs, SMBASE stay

    // -- running (execute.cpp)
    // Executes about `instructions` of them, less when the processor halts or somebody calls leave().
    void run(int64_t instructions);
    void leave();                // stop where the current block ends or is left
    void shorten(int64_t most);  // stop there after so many at most
    void lookAround();           // for interrupts there: the slice goes on behind them
    uint64_t executed() const { return executedBefore_ + uint64_t(sliceLength_ - slice_ - held_); }
    bool idle() const { return halted || waitingForSipi; }
    bool wakeable() const;     // an interrupt, NMI, INIT or SIPI would be taken or ends HLT
    bool pauseLeaves = false;  // PAUSE ends the slice: other processors wait for this thread
    bool spun = false;         // it did so
    uint64_t tsc();
    void singleStep();  // executes one instruction (debugger, TF)

    // -- memory (here and in memory.cpp); `offset` is an effective address, faults are thrown
    template <class T>
    T load(unsigned segment, uint64_t offset);
    template <class T>
    void store(unsigned segment, uint64_t offset, T value);
    // Read, then write the same place: throws before reading when the write would fault.
    template <class T>
    struct Place;
    template <class T>
    Place<T> modify(unsigned segment, uint64_t offset);
    // LOCK: replaces the operand by `next` of it, in one step for everybody else, and returns what it was.
    // `next` may be called more than once, and only after everything that can fault.
    template <class T, class Next>
    T atomically(unsigned segment, uint64_t offset, Next next);
    // By linear address with supervisor rights, as descriptor tables and the TSS are reached.
    template <class T, class Next>
    T atomicallySystem(uint64_t linear, Next next) {
        return atomicallyAt<T>(linear, false, true, next);
    }
    template <class T>
    T loadSystem(uint64_t linear);
    template <class T>
    void storeSystem(uint64_t linear, T value);
    // By linear address with the rights of privilege level `cpl` (stack switches inside far transfers).
    void storeLinear(uint64_t linear, unsigned size, uint64_t value, bool user);
    // Throws what a write of `size` bytes there would.
    void checkWrite(unsigned segment, uint64_t offset, unsigned size);
    // While one lives, unaligned accesses raise no #AC: some instructions never do.
    class AnyAlignment {
      public:
        explicit AnyAlignment(Cpu& cpu) : cpu_(cpu), before_(cpu.alignmentChecks_) {
            cpu.alignmentChecks_ = false;
        }
        ~AnyAlignment() { cpu_.alignmentChecks_ = before_; }
        AnyAlignment(const AnyAlignment&) = delete;
        AnyAlignment& operator=(const AnyAlignment&) = delete;

      private:
        Cpu& cpu_;
        bool before_;
    };
    bool alignmentChecked() const { return alignmentChecks_; }  // CR0.AM, RFLAGS.AC, CPL 3
    // Host pointer for up to the rest of the page, or null when not plain memory. For string instructions.
    const uint8_t* readablePointer(unsigned segment, uint64_t offset, unsigned size);
    // `most`: of so many bytes, which become less where code lies ahead.
    uint8_t* writablePointer(unsigned segment, uint64_t offset, unsigned size, uint64_t* most = nullptr);
    // The linear address of an offset after the segment's checks.
    uint64_t linearOf(unsigned segment, uint64_t offset, unsigned size, Access access);
    // Translation by the current tables, whoever may use the page: for people's tools. False: unmapped.
    bool translate(uint64_t linear, PhysAddr& out);
    // Address and text of the instruction at offset `at` of CS. For logs and people.
    std::string disassemble(uint64_t at);

    // An address cut to the instruction's address size.
    static uint64_t cutAddress(const Insn& i, uint64_t a) {
        static constexpr uint64_t kMask[4] = {0xffff, 0xffffffff, ~0ull, ~0ull};
        return a & kMask[i.addressSize];
    }
    uint64_t effectiveAddress(const Insn& i) const {
        return cutAddress(i, gpr.get<uint64_t>(i.base) + (gpr.get<uint64_t>(i.index) << i.scale) +
                                 uint64_t(int64_t(i.disp)));
    }
    // 64-bit mode, 64-bit addresses, a segment whose base is 0: the address is linear, and only canonical
    // pages are in the TLB, so nothing is left to check. `Indexed` is false when there is no index register.
    template <bool Indexed>
    uint64_t longAddress(const Insn& i) const {
        uint64_t a = gpr.get<uint64_t>(i.base) + uint64_t(int64_t(i.disp));
        return Indexed ? a + (gpr.get<uint64_t>(i.index) << i.scale) : a;
    }
    // Whether the TLB lets this access go straight to memory, and the host address when it does.
    template <class T, bool Write>
    bool hits(uint64_t linear) const {
        return (Write ? dataTlb_->writeTag(linear) : dataTlb_->readTag(linear)) ==
               ((linear + sizeof(T) - 1) & ~kPageMask);
    }
    template <class T>
    T* hostAddress(uint64_t linear) const {
        return reinterpret_cast<T*>(linear + dataTlb_->addend(linear));
    }
    template <class T>
    T loadOperand(const Insn& i) {
        return load<T>(i.seg, effectiveAddress(i));
    }
    template <class T>
    void storeOperand(const Insn& i, T v) {
        store<T>(i.seg, effectiveAddress(i), v);
    }
    template <class T>
    Place<T> modifyOperand(const Insn& i) {
        return modify<T>(i.seg, effectiveAddress(i));
    }

    // -- stack (segments.cpp); sizes follow SS.B or 64-bit mode
    uint64_t stackMask() const { return stackMask_; }
    template <class T>
    void push(T v);
    template <class T>
    T pop();
    void setSp(uint64_t v) { gpr[Rsp] = (gpr[Rsp] & ~stackMask_) | (v & stackMask_); }

    // -- control flow; offsets are relative to CS
    uint64_t nextRip(const Insn& i) const { return gpr.slot[17] + i.offset + i.length; }
    uint64_t currentRip() const;                 // of the instruction running now
    uint64_t ipMask() const { return ipMask_; }  // FFFF, FFFFFFFF or all ones by CS
    // Near transfer with limit or canonical check; the caller ends the block.
    void jumpTo(uint64_t target);
    void checkNearTarget(uint64_t target) const;  // throws #GP(0)

    // -- segments and far transfers (segments.cpp)
    void loadSegment(SegReg which, uint16_t selector);  // MOV, POP, LDS...
    void loadLdt(uint16_t selector);
    void loadTaskRegister(uint16_t selector);
    void farJump(uint16_t selector, uint64_t offset);
    void farCall(uint16_t selector, uint64_t offset, unsigned width);  // width: log2 of bytes
    void farReturn(unsigned width, uint16_t releaseBytes);
    void interruptReturn(unsigned width);
    // The 8 bytes of a descriptor, or false when outside its table.
    bool readDescriptor(uint16_t selector, uint64_t& descriptor);
    // Long mode: whether a system descriptor has its 16 bytes in the table, the type of the upper half 0.
    bool wideDescriptor(uint16_t selector);
    static Segment unpack(uint16_t selector, uint64_t descriptor);
    void setCpl(unsigned level);
    void setSegmentBase(SegReg which, uint64_t base) {
        seg[which].base = fast_[which].base = base;
    }  // FS and GS only
    void smapChanged() {
        dataTlb_ = alignmentChecks_ ? emptyTlb_.get() : &tlbFor(cpl == 3, false);
    }                            // RFLAGS.AC changed at CPL 0
    void translationsChanged();  // another translation context, or another epoch
    void segmentsChanged();      // recomputes what is derived from segments, modes and CPL
    void fpuTrapsChanged();      // and what from CR0.TS and EM, and what CR4 and XCR0 enable

    // -- exceptions and interrupts (exceptions.cpp)
    // The running instruction raises a fault, which is delivered when its handler has returned; false.
    bool fails(const Fault& f) {
        failure_ = f;
        return false;
    }
    enum class Source : uint8_t { External, Exception, SoftwareInt, Int3OrInto, Int1 };
    void deliver(uint8_t vector, Source source, bool hasError = false, uint32_t error = 0);
    void softwareInterrupt(uint8_t vector, Source source, uint64_t returnRip);

    // -- traps, as `info traps` lists them
    TrapProfile traps;
    std::array<uint64_t, InlineTraps::kMost> inlineTraps{};  // how often each
    TrapSite& trapHere(TrapKind kind) {  // of the instruction that runs
        return traps.at((fast_[Cs].base + (block ? currentRip() : rip)) & linearMask_, kind);
    }

    // -- debugging (debug.cpp)
    void writeDr(unsigned n, uint64_t v);  // 0..3, 6, 7
    void debugRegistersChanged();          // DR0..DR3, DR7 or CR4.DE
    void generalDetect();                  // throws the #DB of DR7.GD when a debug register is touched
    void stepTrap() { pendingDebug |= dr6::BS; }
    // SYSCALL and SYSRET trap by the TF they load, not by the one they ran under.
    void tracedByNewFlags() {
        untraced = true;
        if (flags.test(flag::TF)) stepTrap();
    }
    // Repeated string instructions stop behind each element: a trap may follow it.
    bool watchesElements() const {
        return flags.test(flag::TF) || (block && block->single && (breakpoints_.data || breakpoints_.io));
    }

    // -- system management mode (smm.cpp)
    void enterSmm();
    void resumeFromSmm();  // RSM
    // An IN or OUT has made an SMI: it comes right behind it. False: goes on as ever.
    bool smiBehindIo(const Insn& i, uint16_t port, unsigned size, bool in) {
        if (!io.apic.smiPending() || smm) [[likely]]
            return false;
        lastIo_ = {gpr.slot[17] + i.offset, port, uint8_t(size), in};
        return true;
    }

    // The slice is over behind an IN or OUT, perhaps because that has asked for it: a processor that resets
    // the machine or puts it to sleep runs no instruction more.
    bool overBehindIo(const Insn& i) {
        if (slice_ > 0) [[likely]]
            return false;
        refund(&i);
        if (slice_ > 0) leave();
        return true;
    }

    // -- control registers, MSRs, CPUID, TLB (control_registers.cpp, msr.cpp, cpuid.cpp)
    void setCr0(uint64_t v);
    void setCr3(uint64_t v);
    void setCr4(uint64_t v);
    void setEfer(uint64_t v);
    void modesChanged();            // paging, mode or SMAP state may differ: look everything up anew
    void flushTlb(bool globalToo);  // of every PCID
    TranslationContexts& contexts() { return contexts_; }
    void flushPage(uint64_t linear);  // INVLPG
    // INVPCID; `type` is 0..3.
    void invalidatePcid(unsigned type, uint16_t pcid, uint64_t linear);
    void setPkru(uint32_t rights);
    void setPkrs(uint32_t rights);
    // What segment, descriptor-table and MSR bases are checked for: the widest addresses of the model,
    // whether CR4.LA57 is set or not.
    bool canonicalBase(uint64_t linear) const;
    std::optional<uint64_t> readMsr(uint32_t index);  // none, and false: #GP(0)
    bool writeMsr(uint32_t index, uint64_t v);
    MsrPlace msrPlace(uint32_t index, bool write);  // with CPL 0
    void moveTsc(int64_t by);
    struct CpuidResult {
        uint32_t eax, ebx, ecx, edx;
    };
    CpuidResult cpuid(uint32_t leaf, uint32_t subleaf) const;
    // What cpuid() says, beside the code's mode, may be something else: another number for each state of that
    // and for each processor.
    void cpuidChanged() { cpuidState_ = ++cpuidStates_ << 6 | id; }
    // POPF, IRET: stores the bits of `mask` from `v` and reacts to TF, AC and VM.
    void writeFlags(uint64_t v, uint64_t mask);
    // Virtual-8086 mode extensions at IOPL < 3: the 16 bits of FLAGS with VIF for IF and IOPL 3, and POPF's
    // and IRET's change of them. Throws #GP(0) where the monitor has to look.
    uint16_t virtualFlags() const;
    void writeVirtualFlags(uint64_t v, uint64_t mask);
    // -- MONITOR and MWAIT (monitor.cpp)
    void armMonitor(uint64_t linear);
    void disarmMonitor();
    bool monitorArmed() const { return monitorArmed_; }
    // #GP(0) unless ports port..port+size-1 may be used (IOPL, I/O permission bitmap).
    void checkIo(uint16_t port, unsigned size);
    uint32_t readPort(uint16_t port, unsigned size) {
        DeviceGuard guard(threads());
        return io.ports.read(port, size);
    }
    void writePort(uint16_t port, unsigned size, uint32_t value) {
        DeviceGuard guard(threads());
        io.ports.write(port, size, value);
    }
    void a20(bool enabled);

    // -- x87, SSE and AVX availability: one test each on the fast path
    // Throws #NM (CR0.EM or TS) and pending #MF when `waits`.
    void checkX87(bool waits = true) {
        if (fpuTraps_.x87 | (waits && (fpu.status & 0x80))) x87Fault(waits);
    }
    // The same after #NM has been ruled out: FWAIT.
    void checkX87Error() {
        if (fpu.status & 0x80) x87Error();
    }
    void checkMmx() {
        if (fpuTraps_.mmx | (fpu.status & 0x80)) mmxFault();
    }
    void checkSse() {
        if (fpuTraps_.sse) sseFault();
    }
    // #UD in real and virtual-8086 mode, or when the system hasn't enabled SSE and AVX state; then #NM.
    void checkAvx() {
        if (fpuTraps_.avx) avxFault();
    }
    // EVEX and the opmask instructions want the three components of AVX-512 as well.
    void checkAvx512() {
        if (fpuTraps_.avx512) avx512Fault();
    }
    bool avx512Enabled() const { return avxEnabled() && (xcr0 & xfeature::AVX512) == xfeature::AVX512; }
    bool avxEnabled() const {
        constexpr uint64_t kNeeded = xfeature::SSE | xfeature::AVX;
        return protectedMode() && cr4 & cr4::OSXSAVE && (xcr0 & kNeeded) == kNeeded;
    }
    // VEX instructions on general registers: #UD in real and virtual-8086 mode.
    void checkVex() const {
        if (!protectedMode()) raise(kUD);
    }

    CpuPorts io;
    std::atomic<bool> ignne = false;  // IGNNE#: x87 exceptions don't stop the processor, while CR0.NE = 0
    const unsigned id;
    // Every processor has a host thread of its own. Then LOCK needs the host's atomic instructions, and what
    // is outside RAM needs the device lock.
    const bool threaded = io.memory.threads.several();
    // Writes to pages of this memory that hold code may go past it by pointer (Tlb::kBeside). Null: none.
    RamBlock* besideCode = nullptr;
    GuestThreads& threads() const { return io.memory.threads; }
    const CpuModel& model;
    const Decoder& decoder() const { return *decoder_; }

    // -- for handlers and the run loop only
    const Insn* at = nullptr;      // the instruction running now
    const Insn* next = nullptr;    // builds without tail calls: the one to run next
    const Block* block = nullptr;  // holds `at`
    bool untraced = false;         // the instruction running makes no single-step trap
    bool branched = false;         // a near direct branch was taken the slow way
    uint64_t blockRip() const { return gpr.slot[17]; }
    // Goes on at rip: the next block's first instruction when it is at hand, else null: back to the run loop.
    const Insn* enterNext();
    // The same for a direct branch to blockRip + disp, cut to `mask`; the branch is the last instruction run.
    const Insn* branchTaken(const Insn& i, uint64_t mask);
    const Insn* branchUnlinked(const Insn& i, uint64_t target);
    void abandonBlock();  // a fault that is not the running instruction's any more
    void refund(const Insn* lastRun) {
        slice_ += block->count - (lastRun - block->insns.data() + 1);
    }                        // leaving a block early: counts only what ran
    void codeInvalidated();  // blocks died: forget cached ways to them

  private:
    friend class Translator;  // translate/: runs blocks in the interpreter's place
    struct FastSegment {
        uint64_t base = 0;
        uint64_t readEnd = 0, writeEnd = 0;  // first offset that needs a closer look
    };
    struct JumpEntry {
        uint64_t rip, tag;
        const Block* block;
    };
    struct FetchEntry {
        uint64_t page, tag;
        PhysAddr phys;
    };
    // Where code lies, as one translation context knows it. Zeros are valid entries of nothing: no tag is 0.
    struct CodeWays {
        static constexpr unsigned kJumps = 4096, kFetches = 1024;
        JumpEntry jumps[kJumps];
        FetchEntry fetches[kFetches];
        uint64_t forgotten;  // counts forgetCode()
        bool blocksDied;     // while the context was not the current one
    };
    bool flatSegments() const;
    void segmentsDiffer(bool is64);

    void readSlow(unsigned segment, uint64_t offset, void* out, unsigned size);
    void writeSlow(unsigned segment, uint64_t offset, const void* in, unsigned size);
    // The same by value, so that the fast path's handler needs no stack frame.
    uint64_t readWord(unsigned segment, uint64_t offset, unsigned size);
    void writeWord(unsigned segment, uint64_t offset, unsigned size, uint64_t value);
    template <class T>
    T loadSlow(unsigned segment, uint64_t offset) {
        if constexpr (std::is_integral_v<T> && sizeof(T) <= 8) return T(readWord(segment, offset, sizeof(T)));
        T v{};
        readSlow(segment, offset, &v, sizeof v);
        return v;
    }
    template <class T>
    void storeSlow(unsigned segment, uint64_t offset, T value) {
        if constexpr (std::is_integral_v<T> && sizeof(T) <= 8)
            writeWord(segment, offset, sizeof(T), value);
        else
            writeSlow(segment, offset, &value, sizeof value);
    }
    void readLinear(uint64_t linear, void* out, unsigned size, bool user, bool implicit);
    void writeLinear(uint64_t linear, const void* in, unsigned size, bool user, bool implicit);
    uint64_t nextPage(uint64_t linear, bool implicit) const;
    Translation walk(uint64_t linear, Access access, bool user, bool implicit, Marking marking);
    Translation walkWithoutThrowing(uint64_t linear, Access access, bool user, bool implicit,
                                    Marking marking);
    void fillBoth(uint64_t first, uint64_t second, Access access, bool user, bool implicit);
    void forgetCode(uint64_t linear);
    void forgetDeadBlocks();
    void keysChanged();
    void selectContext(bool keepsTranslations);
    template <class T, class Next>
    T atomicallyAt(uint64_t linear, bool user, bool implicit, Next next);
    void prepareWrite(uint64_t linear, unsigned size, bool user, bool implicit);
    // Where the host's atomic instructions can work for a locked access, or null. Not null in `noted`: the
    // physical address of which memory is to be told.
    void* lockedPlace(uint64_t linear, unsigned size, bool user, bool implicit, PhysAddr& noted);
    bool isRegisters(PhysAddr at) const { return io.apic.ownsPage(at.page()) || !io.memory.find(at).host; }
    void readRegisters(PhysAddr at, void* out, unsigned size);
    void writeRegisters(PhysAddr at, const void* in, unsigned size);
    void readApic(PhysAddr at, void* out, unsigned size);
    void writeApic(PhysAddr at, const void* in, unsigned size);
    Tlb::Entry& fillTlb(Tlb& tlb, uint64_t linear, Access access, bool user, bool implicit);
    Tlb::Entry& enterInTlb(Tlb& tlb, uint64_t linear, Access access, const Translation& t);
    // What becomes of an access of running code that the TLB did not let through, found out without throwing:
    // now it does, or there is a page fault, or only load() and store() know.
    enum class Probe : uint8_t { Fills, Faults, Unclear };
    Probe probe(uint64_t linear, unsigned size, Access access, Fault& fault);
    Tlb& tlbFor(bool user, bool implicit) {
        auto& modes = contexts_.current().modes;
        if (user) return *modes[TranslationContext::User];
        return *modes[paging_.smap && (implicit || !flags.test(flag::AC)) ? TranslationContext::SupervisorSmap
                                                                          : TranslationContext::Supervisor];
    }
    void readInPage(uint64_t linear, void* out, unsigned size, bool user, bool implicit);
    void writeInPage(uint64_t linear, const void* in, unsigned size, bool user, bool implicit);
    void alignmentCheck(uint64_t linear, unsigned size);
    Fault pageFault(uint64_t linear, uint32_t error);
    PhysAddr fetchPage(uint64_t linear);
    // Whether code may be fetched from there; otherwise `fetchFault_` is what the fetch raises.
    bool mayFetch(uint64_t linear);
    // Null: a page fault, which is in `fetchFault_`; other faults are thrown.
    const Block* findBlock(bool single);
    Block* decodeHere(PhysAddr start, bool single);
    std::unique_ptr<Block> decodeAgain(const Block& block) const;
    bool thicken(Block& block);  // false: it is dead now
    friend void thickenBlock(Cpu& cpu, const Insn* i);
    bool isBesideCode(const PhysicalMemory::Target& t) const {
        return t.writable && t.region->ram == besideCode;
    }
    bool beginsBeside(const Tlb::Entry& e, uint64_t linear, unsigned size);
    const PageMarks& marksBeside(const uint8_t* host) const;
    bool writeBeside(const Tlb::Entry& e, uint64_t linear, const void* in, unsigned size);
    Block* insertBlock(std::unique_ptr<Block> block, const uint8_t* decoded);
    Block* stillThere(Block* block, const uint8_t* decoded);
    void handleEvents();
    void step(bool alone);
    // What the debug registers watch for, by linear page; kNoPage where a register watches nothing.
    struct Breakpoints {
        static constexpr uint64_t kNoPage = ~0ull;
        bool code = false, data = false, io = false;
        uint64_t codePage[4] = {kNoPage, kNoPage, kNoPage, kNoPage};
        uint64_t dataPage[4] = {kNoPage, kNoPage, kNoPage, kNoPage};
        bool operator==(const Breakpoints&) const = default;
    };
    uint32_t matching(uint64_t first, uint64_t size, unsigned types) const;
    void hit(uint32_t bits);
    // In the middle of a block, before the instruction has changed anything.
    bool mayBeginAgain() const { return block && !block->single && !committed_; }
    void watchData(uint64_t linear, unsigned size, bool write);
    void watchPort(uint16_t port, unsigned size);
    bool watchesData(uint64_t linear) const;
    bool watchesCode() const;
    bool codeBreakpoint();
    bool atTransfer();
    void debugTrap();
    void wake();
    void runBlock(const Block* b);
    void runSingle();
    void takeFault(const Fault& f);  // of what runs in the current slice
    void faulted(const Fault& f);
    void frozen();
    void deliverFault(Fault f);
    bool holds(uint64_t tag) const { return tag == lookupTag_ || tag == globalTag_; }
    static unsigned jumpIndex(uint64_t linear) { return (linear ^ linear >> 12) & (CodeWays::kJumps - 1); }
    FetchEntry& fetchEntry(uint64_t linear) {
        return ways_->fetches[linear >> 12 & (CodeWays::kFetches - 1)];
    }
    void x87Fault(bool waits);
    void x87Error();
    void mmxFault();
    [[noreturn]] void sseFault();
    [[noreturn]] void avxFault();
    [[noreturn]] void avx512Fault();

    void enterHandlerReal(uint8_t vector);
    bool redirects(uint8_t vector);
    void redirect(uint8_t vector);
    void enterHandlerProtected(uint8_t vector, Source source, bool hasError, uint32_t error);
    void enterHandlerLong(uint8_t vector, Source source, bool hasError, uint32_t error);
    void readTssStack(unsigned level, uint16_t& ss, uint64_t& sp, uint16_t errorSelector);
    enum class TaskSwitch : uint8_t { Jump, Call, Interrupt, Return };
    void taskGate(uint16_t selector, TaskSwitch how, bool hasError, uint32_t error, uint32_t ext);
    void taskSwitch(uint16_t selector, uint64_t descriptor, TaskSwitch how, bool hasError, uint32_t error,
                    uint32_t ext);
    void checkIoBitmap(uint16_t port, unsigned size);
    void checkTaskWritable(uint16_t selector, const Segment& target, bool oldWide);
    void saveTask(bool wide, uint64_t flagsImage);
    void loadTaskSegments(const uint16_t (&selectors)[6], uint16_t ldt);

    Segment farTarget(uint16_t selector, uint64_t& descriptor);
    void farToTask(uint16_t selector, uint64_t descriptor, TaskSwitch how);
    struct CallGate;
    CallGate readCallGate(uint16_t selector, uint64_t descriptor);
    void callThroughGate(CallGate gate);
    Segment codeForTransfer(uint16_t selector, uint64_t descriptor);
    Segment codeForReturn(uint16_t selector, uint64_t& descriptor);
    Segment stackForReturn(uint16_t selector, unsigned level, bool to64, uint64_t& descriptor);
    void checkTarget(const Segment& cs, uint64_t offset);
    void commitCode(const Segment& cs, uint64_t descriptor, uint64_t offset);
    void returnToV86(uint64_t target, uint16_t selector, uint64_t image);
    void dropInnerSegments();
    uint64_t stackItem(unsigned n, unsigned width, uint64_t above = 0);
    void setOuterSp(uint64_t v);
    uint64_t upperDescriptor(uint16_t selector);
    void setAccessed(uint16_t selector, uint64_t descriptor);
    void setReal(SegReg which, uint16_t selector);
    // Where this processor's accesses to a physical address go: A20, SMRAM.
    PhysAddr physical(uint64_t addr, Access access) const {
        PhysAddr at(addr & a20Mask_);
        return smm ? io.memory.inSmm(at, access == Access::Fetch) : at;
    }
    void viewChanged();
    void lineWritten(PhysAddr at, uint64_t size);
    void unmarkMonitor();
    bool mwaitOver() const;
    CpuidResult cpuidXsave(uint32_t subleaf) const;
    CpuidResult cpuidVersion() const;
    CpuidResult cpuidFeatures7(uint32_t subleaf) const;
    CpuidResult cpuidExtended(uint32_t leaf) const;
    void loadPdptes(uint64_t newCr3);

    std::array<FastSegment, 6> fast_;
    uint64_t linearMask_ = 0xffffffff;
    uint64_t stackMask_ = 0xffff, ipMask_ = 0xffff;
    uint64_t codeEnd_ = 0x10000;  // first offset behind CS
    bool flat_ = false;           // CS, DS, ES and SS are all of 4 GiB from 0 on, or it is 64-bit mode
    // Epoch and mode: one or the other means a JumpEntry or FetchEntry is still good. The second is for code
    // of global pages.
    uint64_t lookupTag_ = 0, globalTag_ = 0;
    CodeMode codeMode_ = CodeMode::Code16;
    bool alignmentChecks_ = false;
    FpuTraps fpuTraps_, fpuTrapsWithoutTs_;

    int64_t slice_ = 0;  // instructions left; a block's are taken off when it is entered
    int64_t sliceLength_ = 0;
    uint64_t executedBefore_ = 0;
    std::optional<Fault> failure_;  // see fails()
    int patience_ = 0;  // faults until others get a look at the clock
    int64_t held_ =
        0;  // the rest of the slice while a single instruction runs, or until events were looked at

    Tlb* dataTlb_ = nullptr;  // one of the current context's, or the empty one
    TranslationContexts contexts_;
    std::unique_ptr<Tlb> emptyTlb_ = std::make_unique<Tlb>();  // always misses: alignment checks are on
    struct Free {
        void operator()(void* p) const { std::free(p); }
    };
    std::array<std::unique_ptr<CodeWays, Free>, TranslationContexts::kMost> waysOf_;  // by context
    CodeWays* ways_ = nullptr;                                                        // of the current one
    Fault fetchFault_{};
    std::unique_ptr<Decoder> decoder_;
    Breakpoints breakpoints_;
    bool runAlone_ = false;   // the next instruction meets a breakpoint: see BreakpointAhead
    bool committed_ = false;  // the running instruction can't begin again: its hits only wait for its end
    PagingState paging_;
    uint64_t a20Gate_ = ~0ull, a20Mask_ = ~0ull;  // as the gate stands; as it counts now
    struct LastIo {
        uint64_t rip = 0;
        uint16_t port = 0;
        uint8_t size = 0;  // 0: none
        bool in = false;
    } lastIo_;  // the instruction behind which an SMI is due
    int64_t tscOffset_ = 0;
    uint32_t cpuidState_ = 0, cpuidStates_ = 0;

    // The line MONITOR named, with the marks of its page. Other threads may write it.
    PhysAddr monitorLine_;
    PageMarks* monitorMarks_ = nullptr;
    std::atomic<bool> monitorArmed_ = false, monitorHit_ = false;
};

// Inlined by force: 16 bytes returned from a call arrive in two general registers and stall when put
// together.
template <class T>
[[gnu::always_inline]] inline T Cpu::load(unsigned segment, uint64_t offset) {
    const FastSegment& s = fast_[segment];
    if (offset + sizeof(T) <= s.readEnd) [[likely]] {
        uint64_t linear = (s.base + offset) & linearMask_;
        if (dataTlb_->readTag(linear) == ((linear + sizeof(T) - 1) & ~kPageMask)) [[likely]] {
            return loadGuest<T>(reinterpret_cast<const void*>(linear + dataTlb_->addend(linear)));
        }
    }
    return loadSlow<T>(segment, offset);
}

template <class T>
inline void Cpu::store(unsigned segment, uint64_t offset, T value) {
    const FastSegment& s = fast_[segment];
    if (offset + sizeof(T) <= s.writeEnd) [[likely]] {
        uint64_t linear = (s.base + offset) & linearMask_;
        if (dataTlb_->writeTag(linear) == ((linear + sizeof(T) - 1) & ~kPageMask)) [[likely]] {
            storeGuest(reinterpret_cast<void*>(linear + dataTlb_->addend(linear)), value);
            return;
        }
    }
    storeSlow<T>(segment, offset, value);
}

// A place that is read and then written. `host` is null where the slow path must do both.
template <class T>
struct Cpu::Place {
    Cpu& cpu;
    T* host;
    unsigned segment;
    uint64_t offset;
    T value;

    void write(T v) {
        if (host) [[likely]]
            storeGuest(host, v);
        else
            cpu.store<T>(segment, offset, v);
    }
};

template <class T>
inline Cpu::Place<T> Cpu::modify(unsigned segment, uint64_t offset) {
    const FastSegment& s = fast_[segment];
    if (offset + sizeof(T) <= s.writeEnd && offset + sizeof(T) <= s.readEnd) [[likely]] {
        uint64_t linear = (s.base + offset) & linearMask_;
        if (dataTlb_->writeTag(linear) == ((linear + sizeof(T) - 1) & ~kPageMask)) [[likely]] {
            T* host = reinterpret_cast<T*>(linear + dataTlb_->addend(linear));
            return {*this, host, segment, offset, loadGuest<T>(host)};
        }
    }
    checkWrite(segment, offset, sizeof(T));
    return {*this, nullptr, segment, offset, load<T>(segment, offset)};
}

template <class T, class Next>
T Cpu::atomicallyAt(uint64_t linear, bool user, bool implicit, Next next) {
    PhysAddr noted;
    if (void* host = lockedPlace(linear, sizeof(T), user, implicit, noted);
        host && guest_ram::kHasAtomic<sizeof(T)>) {
        if (noted.value) io.memory.announceWrite(noted, sizeof(T));
        T old = loadGuest<T>(host);
        while (!compareExchangeGuest(host, old, next(old))) {}
        if (noted.value) io.memory.noteWrite(noted, sizeof(T));
        return old;
    }
    // Registers, or more than one cache line: alone in the machine.
    DeviceGuard guard(threads());
    T old{};
    threads().exclusively([&] {
        prepareWrite(linear, sizeof(T), user, implicit);
        readLinear(linear, &old, sizeof old, user, implicit);
        T fresh = next(old);
        writeLinear(linear, &fresh, sizeof fresh, user, implicit);
    });
    return old;
}

template <class T, class Next>
inline T Cpu::atomically(unsigned segment, uint64_t offset, Next next) {
    if (!threaded && sizeof(T) <= 8) {
        auto place = modify<T>(segment, offset);
        place.write(next(place.value));
        return place.value;
    }
    uint64_t linear = linearOf(segment, offset, sizeof(T), Access::Write);
    alignmentCheck(linear, sizeof(T));
    return atomicallyAt<T>(linear, cpl == 3, false, next);
}

template <class T>
inline T Cpu::loadSystem(uint64_t linear) {
    Tlb& tlb = tlbFor(false, true);
    if (tlb.readTag(linear) == ((linear + sizeof(T) - 1) & ~kPageMask)) [[likely]]
        return loadGuest<T>(reinterpret_cast<const void*>(linear + tlb.addend(linear)));
    T v;
    readLinear(linear, &v, sizeof v, false, true);
    return v;
}

template <class T>
inline void Cpu::storeSystem(uint64_t linear, T value) {
    writeLinear(linear, &value, sizeof value, false, true);
}

inline const Insn* Cpu::enterNext() {
    uint64_t linear = (fast_[Cs].base + rip) & linearMask_;
    const JumpEntry& e = ways_->jumps[jumpIndex(linear)];
    if (e.rip != linear || !holds(e.tag) || slice_ <= 0 || rip + e.block->bytes > codeEnd_) return nullptr;
    slice_ -= e.block->count;
    block = e.block;
    gpr.slot[17] = rip;
    return block->insns.data();
}

[[gnu::always_inline]] inline const Insn* Cpu::branchTaken(const Insn& i, uint64_t mask) {
    const uint64_t uncut = gpr.slot[17] + uint64_t(int64_t(i.disp)), target = uncut & mask;
    const Block* b = i.link;
    // (A link does not know of a branch that wraps around at 64 KiB or 4 GiB: it does so under some bases of
    // CS only.)
    if (!b || slice_ <= 0 || target + b->bytes > codeEnd_ || uncut != target) [[unlikely]]
        return branchUnlinked(i, target);
    refund(&i);
    slice_ -= b->count;
    block = b;
    rip = gpr.slot[17] = target;
    return b->insns.data();
}

template <class T>
inline void Cpu::push(T v) {
    uint64_t sp = (gpr[Rsp] - sizeof(T)) & stackMask_;
    store<T>(Ss, sp, v);
    setSp(sp);
}

template <class T>
inline T Cpu::pop() {
    T v = load<T>(Ss, gpr[Rsp] & stackMask_);
    setSp(gpr[Rsp] + sizeof(T));
    return v;
}

}  // namespace kiln
