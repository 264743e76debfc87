// The run loop: events, block look-up, single steps, and the one place where guest faults are caught.
#include "cpu/body.hpp"
#include "cpu/decoder.hpp"
#include "cpu/handlers.hpp"

namespace kiln {

void raise(uint8_t vector) { throw Fault{vector}; }
void raise(uint8_t vector, uint32_t error) { throw Fault{vector, true, error}; }

Cpu::Cpu(CpuPorts ports, unsigned number)
    : io(std::move(ports)),
      id(number),
      model(*io.model),
      contexts_(io.memory, number, io.topology.cpus()),
      decoder_(std::make_unique<Decoder>(model)) {
    io.memory.onChange.push_back([this] { flushTlb(true); });
    io.memory.onMarkedPage.push_back([this](PhysAddr page, unsigned cpu) {
        if (cpu != id && cpu != ~0u) return;
        contexts_.protectPage(page, isBesideCode(io.memory.find(page)));
    });
    io.code.user = {decoder_.get(), &at};
    io.code.onDeath.push_back([this] { codeInvalidated(); });
    io.memory.onCodeWrite.push_back([this](PhysAddr at, uint64_t size) { lineWritten(at, size); });
    io.apic.onAttention = [this] { lookAround(); };
    io.apic.onBaseChanged = [this] {
        flushTlb(true);
        cpuidChanged();
    };
    reset();
}

Cpu::~Cpu() { io.code.user = {}; }

uint64_t Cpu::tsc() { return io.clock.ticks(kTscHz) + uint64_t(tscOffset_); }

// What the running block gives back where it is left early must not be enough to go on with: whether the run
// loop, and with it what has come, is met next would be a matter of which ways are at hand.
static constexpr int64_t kOver = -int64_t(Decoder::kMaxInsns);

void Cpu::leave() {
    sliceLength_ -= held_;
    held_ = 0;
    if (slice_ > kOver) {
        sliceLength_ -= slice_ - kOver;
        slice_ = kOver;
    }
}

void Cpu::shorten(int64_t most) {
    const int64_t over = slice_ + held_ - most;
    if (over <= 0) return;
    sliceLength_ -= over;
    (held_ ? held_ : slice_) -= over;
}

void Cpu::lookAround() {
    if (slice_ <= kOver) return;
    held_ += slice_ - kOver;
    slice_ = kOver;
}

uint64_t Cpu::currentRip() const { return (gpr.slot[17] + at->offset) & ipMask_; }

void Cpu::codeInvalidated() {
    for (auto& ways : waysOf_)
        if (ways) ways->blocksDied = true;
    forgetDeadBlocks();
    block = nullptr;
}

bool Cpu::wakeable() const {
    const LocalApic& a = io.apic;
    if (waitingForSipi) return a.initPending() || a.sipiPending();
    if (halted && mwaiting && mwaitOver()) return true;
    if (!a.attention()) return pendingDebug;
    return a.posted() || (a.intrPending() && flags.test(flag::IF)) || (a.nmiPending() && !nmiBlocked) ||
           pendingDebug || (!smm && (a.initPending() || a.smiPending()));
}

void Cpu::wake() {
    halted = false;
    if (!mwaiting) return;
    mwaiting = false;
    disarmMonitor();
}

// Behind a delivery lies the next boundary, before the handler's first instruction.
constexpr int kEventsAtOnce = 4;

void Cpu::handleEvents() {
    for (int n = 0; n < kEventsAtOnce && wakeable(); n++) {
        DeviceGuard guard(threads());
        LocalApic& a = io.apic;
        a.mergePosted();
        if (!smm && (a.initPending() || a.sipiPending())) {
            uint8_t page = 0;
            if (a.takeInit()) {
                init();
                waitingForSipi = !a.isBsp();
            }
            if (a.takeSipi(page) && waitingForSipi) {
                waitingForSipi = false;
                setReal(Cs, uint16_t(page << 8));
                rip = 0;
                segmentsChanged();
            }
        }
        if (waitingForSipi) return;  // everything else stays pending
        if (a.smiPending() && !smm) {
            a.takeSmi();
            enterSmm();
        } else if (pendingDebug) {
            debugTrap();
        } else if (a.nmiPending() && !nmiBlocked) {
            a.takeNmi();
            wake();
            nmiBlocked = true;
            deliver(kNMI, Source::External);
        } else if (a.intrPending() && flags.test(flag::IF)) {
            wake();
            int vector = a.acknowledgeIntr();
            if (vector >= 0) deliver(uint8_t(vector), Source::External);
        } else if (mwaiting && mwaitOver()) {
            wake();
        }
    }
}

// What was decoded must still be there when its lines are marked: another processor may have written in
// between without anybody knowing. Null: it is not, decode it anew.
Block* Cpu::insertBlock(std::unique_ptr<Block> block, const uint8_t* decoded) {
    return stillThere(io.code.insert(std::move(block)), decoded);
}

Block* Cpu::stillThere(Block* b, const uint8_t* decoded) {
    if (!threaded) return b;
    const PhysAddr start = b->start, second = b->second;
    const uint64_t size = b->bytes, first = std::min<uint64_t>(size, kPageSize - start.pageOffset());
    uint8_t now[kPageSize];
    io.memory.read(start, now, first);
    if (size > first) io.memory.read(second, now + first, size - first);
    if (std::memcmp(now, decoded, size) == 0) return b;
    io.code.drop(b);
    return nullptr;
}

// What a block was decoded from, decoded once more; null: it has changed, and the block is about to die.
std::unique_ptr<Block> Cpu::decodeAgain(const Block& b) const {
    uint8_t bytes[Decoder::kMaxInsns * Decoder::kMaxLength];
    io.memory.read(b.start, bytes, b.bytes);
    auto again = decoder_->decodeBlock(b.start, b.mode, {bytes, b.bytes}, false);
    if (!again || again->count != b.count || again->bytes != b.bytes) return nullptr;
    again->plain = again->insns[0].run;
    return again;
}

bool Cpu::thicken(Block& b) {
    if (!b.thin()) return true;
    if (auto again = decodeAgain(b)) {
        io.code.thicken(b, std::move(again->insns));
        return true;
    }
    io.code.drop(&b);
    return false;
}

Block* Cpu::decodeHere(PhysAddr start, bool single) {
    uint64_t linear = (fast_[Cs].base + rip) & linearMask_;
    uint64_t left = kPageSize - start.pageOffset();
    uint8_t bytes[kPageSize + Decoder::kMaxLength];
    // Instructions behind the segment limit must fault one by one, so the block ends before it.
    uint64_t inSegment = codeEnd_ - rip;
    left = std::min<uint64_t>(left, inSegment);
    uint64_t wanted = std::min<uint64_t>(left, Decoder::kMaxInsns * Decoder::kMaxLength);
    io.memory.read(start, bytes, wanted);
    const Block* covering = single ? nullptr : io.code.covering(start, codeMode_);
    if (covering && covering->start.pageOffset() + covering->bytes > start.pageOffset() + wanted)
        covering = nullptr;
    // In the place of one that was overwritten, so that all ways to it lead here again.
    if (Block* b = io.code.dormant(start, codeMode_, single); b && !b->crosses) {
        if (decoder_->decodeInto(*b, {bytes, wanted}, single, covering)) {
            io.code.revive(*b);
            return stillThere(b, bytes) ? b : decodeHere(start, single);
        }
    }
    if (auto block = decoder_->decodeBlock(start, codeMode_, {bytes, wanted}, single, covering)) {
        Block* b = insertBlock(std::move(block), bytes);
        return b ? b : decodeHere(start, single);
    }

    // One instruction that continues on the next page, or behind the limit.
    if (left == inSegment) raise(kGP, 0);
    PhysAddr second = fetchPage((linear + left) & linearMask_);
    uint64_t more = std::min<uint64_t>({Decoder::kMaxLength, inSegment - left});
    io.memory.read(second, bytes + left, more);
    auto crossing = decoder_->decodeBlock(start, codeMode_, {bytes, left + more}, true);
    if (!crossing) raise(kGP, 0);
    crossing->single = single;
    if (!single) crossing->insns.back().run = blockEnd;
    crossing->crosses = true;
    crossing->second = second;
    Block* b = insertBlock(std::move(crossing), bytes);
    return b ? b : decodeHere(start, single);
}

// The block at CS:rip. Fills the jump cache, through which blocks find each other without coming here.
const Block* Cpu::findBlock(bool single) {
    if (rip >= codeEnd_ || (codeMode_ == CodeMode::Code64 && !canonical(rip))) raise(kGP, 0);
    uint64_t linear = (fast_[Cs].base + rip) & linearMask_;
    if (!mayFetch(linear)) return nullptr;
    PhysAddr start = fetchPage(linear) + (linear & kPageMask);
    Block* b = io.code.find(start, codeMode_, single);
    if (b && b->crosses) {
        PhysAddr second = fetchPage((linear + kPageSize - (linear & kPageMask)) & linearMask_);
        if (second != b->second) {
            io.code.drop(b);
            b = nullptr;
        }
    }
    if (b && rip + b->bytes > codeEnd_) {  // reaches over the limit of this CS: decode a shorter one
        io.code.drop(b);
        b = nullptr;
    }
    if (!b) b = decodeHere(start, single);
    if (!b->crosses && !single) ways_->jumps[jumpIndex(linear)] = {linear, fetchEntry(linear).tag, b};
    return b;
}

void Cpu::runBlock(const Block* b) {
    slice_ -= b->count;
    block = b;
    gpr.slot[17] = rip;
    const Insn* first = b->insns.data();
#if KILN_TAIL_CALLS
    first->run(*this, first);
#else
    for (next = first; next;) {
        const Insn* i = next;
        next = nullptr;
        i->run(*this, i);
    }
#endif
    if (failure_) [[unlikely]]
        takeFault(*std::exchange(failure_, {}));
    block = nullptr;
}

// One instruction: for TF and RF, for the shadows of STI and MOV SS, for breakpoints, for the debugger. The
// rest of the slice is put aside so that the instruction's handler finds no time left and comes back.
void Cpu::runSingle() {
    const bool tf = flags.test(flag::TF);
    const bool byBranch = msr.debugCtl & debugctl::BTF;
    flags.change(flag::RF, false);
    untraced = branched = runAlone_ = false;
    stiShadow = movSsShadow = false;
    const bool transfer = tf && byBranch && atTransfer();
    const Block* b = findBlock(true);
    if (!b) return takeFault(fetchFault_);
    held_ += slice_ - 1;
    slice_ = 1;
    runBlock(b);
    slice_ += held_;
    held_ = 0;
    // No trap behind MOV SS, nor in the handler of INT n (SDM vol. 3, 17.3.1.4).
    if (tf && !movSsShadow && !untraced && (!byBranch || transfer || branched)) stepTrap();
}

// What comes first at an instruction boundary, by the priorities of SDM vol. 3, table 6-2, and then one
// block, or one instruction: `alone`.
void Cpu::step(bool alone) {
    const bool shadow = stiShadow || movSsShadow;
    if (!shadow)
        handleEvents();
    else if (pendingDebug && !movSsShadow)
        debugTrap();
    // Delivery meets a breakpoint of its own again and again: the next slice goes on with it.
    const bool again = pendingDebug && !movSsShadow;
    if (again || idle()) return leave();
    // One on the handler of #DB itself is met without end, and nothing is executed.
    if (breakpoints_.code && codeBreakpoint()) return leave();
    // RF matters to breakpoints on code alone, and goes when an instruction begins.
    const bool resumes = flags.test(flag::RF) && breakpoints_.code;
    if (shadow || alone || runAlone_ || flags.test(flag::TF) || resumes || watchesCode()) {
        if (alone && io.log.on(LogCategory::Exec)) io.log(LogCategory::Exec, "{}", disassemble(rip));
        runSingle();
    } else {
        committed_ = false;
        flags.change(flag::RF, false);
        if (const Block* b = findBlock(false))
            runBlock(b);
        else
            takeFault(fetchFault_);
    }
}

// Faults one after the other execute nothing, and a handler that faults itself makes them without end: after
// so many, others get a look at the clock and at what the user wants.
constexpr int kFaultsAtOnce = 1000;

void Cpu::takeFault(const Fault& f) {
    slice_ += held_;
    held_ = 0;
    faulted(f);
    if (--patience_ == 0) leave();
}

void Cpu::run(int64_t instructions) {
    executedBefore_ = executed();
    sliceLength_ = slice_ = instructions;
    held_ = 0;
    const bool traced = io.log.on(LogCategory::Exec);
    patience_ = kFaultsAtOnce;
    while (slice_ > 0) {
        try {
            do {
                if (io.code.hasDead()) io.code.collect();
                if (threaded) fenceGuest();  // serializing instructions end their block
                step(traced);
            } while (slice_ > 0);
        } catch (const Fault& f) { takeFault(f); } catch (const BreakpointAhead&) {
            rip = currentRip();
            abandonBlock();
            runAlone_ = true;
        } catch (const FerrFreeze&) { frozen(); }
        slice_ += std::exchange(held_, 0);
    }
}

// In front of an x87 instruction, until an interrupt comes.
void Cpu::frozen() {
    slice_ += held_;
    held_ = 0;
    rip = currentRip();
    abandonBlock();
    halted = true;
    mwaiting = false;
}

void Cpu::singleStep() {
    executedBefore_ = executed();
    sliceLength_ = slice_ = 1;
    held_ = 0;
    try {
        step(true);
        if (pendingDebug && !movSsShadow) debugTrap();
    } catch (const Fault& f) { takeFault(f); } catch (const FerrFreeze&) {
        frozen();
    }
}

const Insn* Cpu::branchUnlinked(const Insn& i, uint64_t target) {
    checkNearTarget(target);
    refund(&i);
    branched = true;
    const Block* here = block;
    const uint64_t from = gpr.slot[17];
    rip = target;
    const Insn* n = enterNext();
    // On the same page the way to the target holds as long as both blocks live.
    if (n && block->start.page() == here->start.page() && ((target ^ from) & ~kPageMask) == 0) i.link = block;
    return n;
}

// A fault thrown inside a block belongs to the instruction `at`; one thrown outside (fetch, event) to rip.
void Cpu::faulted(const Fault& f) {
    if (block) {
        rip = currentRip();
        abandonBlock();
    }
    pendingDebug = 0;  // of an instruction that has not come to its end
    TrapScope scope(trapHere(TrapKind::Fault), f.vector);
    deliverFault(f);
}

void Cpu::abandonBlock() {
    slice_ += block->count - (at - block->insns.data());
    block = nullptr;
}

// -- handlers that end blocks

void blockEnd(Cpu& c, const Insn* i) {
    c.rip = (c.blockRip() + i->offset) & c.ipMask();
    KILN_DISPATCH(c, c.enterNext());
}

void singleEnd(Cpu& c, const Insn* i) {
    c.rip = (c.blockRip() + i->offset) & c.ipMask();
    c.next = nullptr;
}

void thickenBlock(Cpu& c, const Insn* i) {
    auto* b = const_cast<Block*>(c.block);
    const Insn* next = c.thicken(*b) ? b->insns.data() + 1 : i;  // which leads out, when it is dead
    KILN_HAND_OVER(next->run, c, next);
}

void leaveDeadBlock(Cpu& c, const Insn* i) {
    c.rip = (c.blockRip() + i->offset) & c.ipMask();
    c.refund(i - 1);
    c.next = nullptr;
}

void undefinedOpcode(Cpu& c, const Insn* i) {
    c.at = i;
    raise(kUD);
}

void tooLong(Cpu& c, const Insn* i) {
    c.at = i;
    raise(kGP, 0);
}

}  // namespace kiln
