#include "translate/translator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/container/small_vector.hpp>

#include "cpu/body.hpp"
#include "cpu/handlers.hpp"
#include "translate/emitter.hpp"
#include "translate/flag_image.hpp"
#include "translate/vector_state.hpp"

namespace kiln {

std::shared_ptr<CodeStore> Translator::makeStore(const TranslatorOptions& options, PhysicalMemory& memory,
                                                 bool shared) {
    return std::make_shared<CodeStore>(options, memory, shared, counting, callOut, callPromoted);
}

Translator::Translator(Cpu& cpu, std::shared_ptr<CodeStore> store) : cpu_(cpu), store_(std::move(store)) {
    cpu.besideCode = cpu.io.memory.largestRam();
    notePlaces();
    store_->add(running_);
    if (store_->drafting) jobs_ = std::make_unique<Job[]>(kJobs);
    cpu.io.code.hot = this;
    forgetPromotionsWhereDevicesMove();
}

Translator::Translator(Cpu& cpu, const TranslatorOptions& options)
    : Translator(cpu, makeStore(options, cpu.io.memory, false)) {}

Translator::~Translator() {
    cpu_.io.code.hot = nullptr;
    if (jobs_) std::for_each_n(jobs_.get(), kJobs, [&](Job& job) { store_->drafting->finish(job); });
    store_->remove(running_);
}

// Each makes a block that changes wait twice as long.
constexpr unsigned kMostPatches = 6;

// -- handlers in front of blocks

void Translator::counting(Cpu& c, const Insn* i) {
    const Block* b = c.block;
    if (--b->heat) [[likely]]
        KILN_HAND_OVER(b->plain, c, i);
    Translator& t = of(c);
    auto* block = const_cast<Block*>(b);
    t.noteSurroundings();
    t.heatUp(*block, c.gpr.slot[17]);
    const Insn* first = block->insns.data();  // may be elsewhere now
    KILN_HAND_OVER((first->run == counting ? b->plain : first->run), c, first);
}

void Translator::entering(Cpu& c, const Insn* i) {
    Translator& t = of(c);
    t.noteSurroundings();
    const uint64_t rip = c.gpr.slot[17];
    if (!t.mayRun(rip)) KILN_HAND_OVER(c.block->plain, c, i);
    if (t.isHostless(*c.block, rip)) {
        t.stranger(*const_cast<Block*>(c.block), rip);
        KILN_HAND_OVER(c.block->plain, c, c.block->insns.data());
    }
    switch (t.run(*c.block)) {
        case Outcome::GoesOn: KILN_DISPATCH(c, c.enterNext());
        case Outcome::InBlock: {
            const Insn* n = t.goesOnAt_;
            const bool first = n == c.block->insns.data() && !c.block->dead;
            const Handler handler = first ? c.block->plain : n->run;
            KILN_HAND_OVER(handler, c, n);
        }
        default: c.next = nullptr; return;
    }
}

void Translator::interpretedAlone(Cpu& c, const Insn*) {
    of(c).reachedEnd_ = true;
    c.next = nullptr;
}

// -- blocks

bool Translator::knows(ZydisMnemonic mnemonic) { return BlockEmitter::knows(mnemonic); }

void Translator::born(Block& block) {
    if (block.single) return;
    block.plain = block.insns[0].run;
    // What changes often is seldom worth translating, unless it runs often in between.
    block.heat = block.heatBefore = store_->heat(std::min<unsigned>(block.deaths, 3));
    block.insns[0].run = counting;
    if (!store_->shared) return;
    const auto held = store_->lock();
    if (store_->find(block, 0)) block.heat = 1;
}

void Translator::died(Block& block) {
    stopRecording(&block);
    forgetDrafts(block);
    if (!block.hostBlock) return;
    // It was worth while, and will be again.
    constexpr uint64_t kRounds = 2000;
    if (cpu_.executed() - block.hotSince > kRounds * block.count) block.deaths = 0;
    const auto held = store_->lock();
    store_->kill(*block.hostBlock);
}

// The interpreter goes on with it, all the longer the more often it has changed.
void Translator::changed(Block& block) {
    stopRecording(&block);
    forgetDrafts(block);
    if (!block.hostBlock) return;
    block.deaths += block.deaths < 255;
    const auto held = store_->lock();
    store_->kill(*block.hostBlock);
    block.heat = block.heatBefore = store_->heat(std::min<unsigned>(block.deaths, kMostPatches));
}

bool Translator::cools(Block& block) {
    if (block.hostBlock || block.insns[0].run != counting) return false;
    constexpr uint32_t kHardly = 2;
    const uint32_t before = std::exchange(block.heatBefore, block.heat);
    return before >= block.heat && before - block.heat <= kHardly;
}

std::string Translator::report() const {
    const Statistics& s = statistics_;
    std::string out = fmt::format(
        "  translated: {} blocks ({} beside) of {} instructions to {} KiB and {} KiB of cold code, {} "
        "adopted; now {} "
        "blocks in {} of {} KiB, {} of {} regions evicted so far\n"
        "  {} careful versions; entered {} times; {} links, {} look-ups of targets, {} operands that missed, "
        "{} "
        "TLB entries filled, {} faults\n",
        s.blocks, s.beside, s.instructions, s.hostBytes >> 10, s.coldBytes >> 10, s.adopted,
        store_->translations(), store_->buffer.used() >> 10, store_->buffer.size() >> 10, store_->evictions(),
        store_->buffer.regions(), s.careful, s.entries, s.links, s.lookUps, s.misses, s.fills, s.faults);
    out += fmt::format(
        "  {} traces of {} instructions, {} of them loops, made in {} ms; {} ways followed, {} traces lost a "
        "block\n",
        s.traces, s.traced, s.loops, s.traceNanoseconds / 1'000'000, s.recordings, store_->tracesEnded());
    if (s.instructions)
        out += fmt::format(
            "  {} ns, {:.1f} bytes of host code and {:.1f} of cold code for a guest instruction\n",
            s.nanoseconds / s.instructions, double(s.hostBytes) / double(s.instructions),
            double(s.coldBytes) / double(s.instructions));
    static constexpr std::array<const char*, size_t(Exit::Count)> kReasons = {
        "the slice was over",         "the target is not translated", "of what may have changed",
        "the interpreter must do it", "of vector registers",          "code was overwritten"};
    out += "  left because";
    for (size_t n = 0; n < kReasons.size(); n++)
        out += fmt::format("{} {} {}", n ? "," : "", kReasons[n], s.exits[n]);
    out += '\n';
    static const char* const kKinds[] = {"interpret", "trap", "system",     "miss",    "before",
                                         "change ac", "link", "other page", "look-up", "over",
                                         "vectors",   "dead", "second",     "careful"};
    static_assert(std::size(kKinds) == Site::kKinds);
    out += "  calls:";
    for (size_t n = 0; n < Site::kKinds; n++) out += fmt::format(" {} {}", kKinds[n], s.calls[n]);
    out += fmt::format(
        "\n  traps: {} promoted now, in {} of {} KiB ({} so far); devices called {} times, of which {} for "
        "{} traps at once and {} in loops; {} interrupts delivered",
        store_->promotions.count(), store_->promotions.used() >> 10, store_->promotions.budget() >> 10,
        store_->promotions.made(), s.deviceEntries, s.sequences, s.sequenceTraps, s.sequenceRounds,
        s.interrupts);
    out += fmt::format("\n  targets: {} have no block, {} are not translated yet; forgotten {} times\n",
                       s.noTarget, s.coldTarget, s.refreshes);
    std::vector<std::pair<uint64_t, unsigned>> most;
    for (unsigned m = 0; m < interpreted_.size(); m++)
        if (interpreted_[m]) most.push_back({interpreted_[m], m});
    std::sort(most.rbegin(), most.rend());
    out += "  interpreted:";
    for (size_t n = 0; n < std::min<size_t>(most.size(), 24); n++)
        out += fmt::format(" {} {}", ZydisMnemonicGetString(ZydisMnemonic(most[n].second)), most[n].first);
    return out + "\n";
}

// Has it translated, and puts the handler in front of it that follows from that.
void Translator::heatUp(Block& block, uint64_t rip) {
    block.heat = 0;
    if (jobs_ && isDrafted(block, rip)) return;
    const bool translated = translate(block, rip);
    if (block.dead || block.heat) return;
    block.insns[0].run = translated ? entering : block.plain;
    block.hotSince = cpu_.executed();
}

// False: it is not to be tried again, unless the block is given some heat.
bool Translator::translate(Block& block, uint64_t rip) {
    if (nowhere_ || !fits(block, rip) || !cpu_.thicken(block)) return false;
    if (!store_->makeRoom(&running_)) {
        block.heat = 2;  // soon there will be some
        return false;
    }
    wantsRoom_ = false;
    noteSurroundings();  // of which the numbers may be others now
    const auto held = store_->lock();
    if (block.dead) return false;
    const uint64_t hostFor = now_.hostFor(rip);
    if (HostBlock* known = store_->find(block, hostFor)) {
        CodeStore::adopt(*known, block);
        statistics_.adopted++;
        return true;
    }
    Job& job = onTheSpot_;
    ask(job, block, rip);
    draft(job, store_->drafter);
    return job.drafted && enterDraft(job, block);
}

// This processor's block of it, in which the interpreter can go on. It may have come here by links alone and
// have none yet. Null: the code is another now.
Block* Translator::ownBlock(const HostBlock& t, uint64_t rip) {
    Cpu& c = cpu_;
    Block* b = c.io.code.find(t.start, t.mode, false);
    if (!b) {
        const uint64_t before = std::exchange(c.rip, rip);
        try {
            b = c.decodeHere(t.start, false);
        } catch (const Fault&) {
            // One instruction over the page's end: not what was translated.
        }
        c.rip = before;
    }
    return b && !t.dead && b->bytes == t.bytes && b->count == t.count ? b : nullptr;
}

// From an instruction on: the version that takes its operands one by one. Null when there is none.
const uint8_t* Translator::careful(HostBlock& t, unsigned first) {
    const uint8_t* host = nullptr;
    auto known = [&] {
        if (!t.has) return false;
        for (const auto& [index, code] : t.has->careful)
            if (index == first) host = code;
        return host != nullptr;
    };
    {
        const auto held = store_->lock();
        if (known()) return host;
    }
    store_->exclusively([&] {
        if (t.dead || known()) return;
        const CodeStep step{t.users[0], t.count, 0, {}, &t};
        host = emit({&step, 1}, 0, 0, [&](BlockEmitter& emitter) { emitter.emitCarefully(first); });
        if (!host) return;
        store_->wentElsewhere(t);
        t.more().careful.push_back({uint16_t(first), host});
        statistics_.careful++;
    });
    return t.dead ? nullptr : host;
}

void Translator::readBytes(const Block& block, uint8_t* to) const {
    const size_t first = std::min<size_t>(block.bytes, kPageSize - block.start.pageOffset());
    cpu_.io.memory.read(block.start, to, first);
    if (first < block.bytes) cpu_.io.memory.read(block.second, to + first, block.bytes - first);
}

std::vector<uint8_t> Translator::bytesOf(const Block& block) const {
    std::vector<uint8_t> bytes(block.bytes);
    readBytes(block, bytes.data());
    return bytes;
}

// The block, or if it is thin, another one like it; null: its bytes have just changed.
Block* Translator::whole(Block* block, std::unique_ptr<Block>& again) const {
    if (!block->thin()) return block;
    again = cpu_.decodeAgain(*block);
    return again.get();
}

// What `how` makes of a block, or of several of a trace; null when it can't be had. Under the store's lock.
const uint8_t* Translator::emit(std::span<const CodeStep> path, uint16_t trace, uint32_t ip,
                                const std::function<void(BlockEmitter&)>& how) {
    CodeStore& store = *store_;
    if (!store.hasRoom()) {
        wantsRoom_ = true;
        return nullptr;
    }
    using boost::container::small_vector;
    small_vector<CodeStep, 4> steps(path.begin(), path.end());
    small_vector<std::pair<Block*, Handler>, 4> handlers;
    small_vector<uint8_t, 1024> bytes;
    size_t size = 0;
    for (const CodeStep& s : steps) size += s.block->bytes;
    bytes.resize(size, boost::container::default_init);
    uint8_t* next = bytes.data();
    small_vector<std::unique_ptr<Block>, 4> again;
    for (CodeStep& s : steps) {
        readBytes(*s.block, next);
        s.bytes = {next, s.block->bytes};
        next += s.block->bytes;
        s.block = whole(s.block, again.emplace_back());
        if (!s.block) return nullptr;
    }
    for (const CodeStep& s : steps) {
        handlers.push_back({s.block, s.block->insns[0].run});
        s.block->insns[0].run = s.block->plain;  // as the emitter wants to see it
    }
    const bool written =
        store.drafter.write(store.draft, terms(), now_, {steps.data(), steps.size()}, trace, ip, how);
    // In the other order: a block may come several times.
    for (size_t n = handlers.size(); n--;) handlers[n].first->insns[0].run = handlers[n].second;
    if (!written) return nullptr;
    last_ = store.place(store.draft);
    statistics_.hostBytes += last_.main.size();
    statistics_.coldBytes += last_.cold.size();
    return last_.main.data();
}

// -- running

// Near the ends of the canonical ranges direct jumps may lead out of them, which host code does not check.
bool Translator::mayRun(uint64_t rip) const {
    if (nowhere_ || cpu_.breakpoints_.code) return false;
    if (cpu_.codeMode_ != CodeMode::Code64) return true;
    constexpr uint64_t kReach = 1ull << 32;
    return cpu_.canonical(rip - kReach) && cpu_.canonical(rip + kReach);
}

void Translator::toCpu(HostFrame& f) {
    uint64_t* registers = cpu_.gpr.slot;
    for (unsigned n = 0; n < 16; n++) copyWords(&registers[n], &f.gpr(n), sizeof(uint64_t));
    cpu_.flags.setArithmetic(arithmeticFlags(f.flags));
    cpu_.mxcsr = f.mxcsr;
}

void Translator::noteRefused(HostFrame& f) const {
    f.refusedWithoutTs = VectorState::refused(cpu_, cpu_.fpuTrapsWithoutTs_);
    f.refused = cpu_.cr0 & cr0::TS ? VectorState::kAll : f.refusedWithoutTs;
}

void Translator::toFrame(HostFrame& f) {
    for (unsigned n = 0; n < 16; n++) f.gpr(n) = cpu_.gpr.slot[n];
    f.flags = flagsImage(cpu_.flags.arithmetic());
    f.mxcsr = cpu_.mxcsr;
    noteRefused(f);
    f.fsBase = cpu_.fast_[Fs].base;
    f.gsBase = cpu_.fast_[Gs].base;
    noteSurroundings();
    if (cpu_.codeMode_ != CodeMode::Code64) segmentsToFrame(f);
}

Translator::Outcome Translator::run(const Block& block) {
    Cpu& c = cpu_;
    HostFrame& f = frameOf(*c.dataTlb_);
    running_.store(store_->epoch(), std::memory_order_release);
    refresh(f);
    toFrame(f);
    f.slice = c.slice_ + block.count;  // host code counts when it leaves a block
    f.page = linearOf(c.gpr.slot[17]) & ~kPageMask;
    f.owner = this;
    f.processor = &c;
    f.attention = &c.io.apic.attentionWord();
    f.writer = 1ull << (c.id & 63);
    f.cpl = &c.cpl;
    f.otherFlags = &c.flags.others();
    f.dataTlb = &c.dataTlb_;
    f.vectors = VectorLevel::None;
    f.x87 = X87Place::InCpu;
    f.hostMxcsr = kHostMxcsr;
    f.hostX87Control = kHostX87Control;
    f.vectorState = cpu_.vec.data();
    f.opmasks = cpu_.opmask.data();
    frame_ = &f;
    if (wanted_ == &block) startRecording(f);
    outcome_ = Outcome::GoesOn;
    statistics_.entries++;
    store_->thunks.enter(&f, hostOf(&block));
    running_.store(0, std::memory_order_release);
    HostFrame& last = *frame_;
    stopRecording();
    VectorState::x87ToCpu(last, cpu_);
    if (outcome_ == Outcome::Threw) {  // as if the interpreter had been running the instruction
        std::exception_ptr e = std::move(thrown_);
        thrown_ = nullptr;
        std::rethrow_exception(e);
    }
    toCpu(last);
    c.slice_ = last.slice;
    c.rip = last.rip;
    if (outcome_ != Outcome::InBlock) c.block = nullptr;
    if (std::exchange(wantsRoom_, false)) store_->makeRoom(&running_);
    if (pending_) settleDrafts();
    return c.stiShadow ? Outcome::Left : outcome_;
}

const uint8_t* Translator::leave(HostFrame& f, uint64_t rip, unsigned executed, Exit why) {
    f.rip = rip & cpu_.ipMask_;
    f.slice -= executed;
    noteExit(why);
    return exit_;
}

// The interpreter goes on with the site's instruction, or so many behind it, as if it had come to it in its
// own way.
const uint8_t* Translator::leaveInBlock(HostFrame& f, const Site& s, Exit why, unsigned behind) {
    return leaveAt(f, *s.block, s.index + behind, why);
}

const uint8_t* Translator::leaveAt(HostFrame& f, const HostBlock& t, unsigned index, Exit why) {
    const uint64_t begin = ripOf(f.page + t.start.pageOffset());
    Block* b = t.dead ? nullptr : ownBlock(t, begin);
    if (b && cpu_.thicken(*b)) {
        cpu_.block = b;
        cpu_.gpr.slot[17] = begin;
        goesOnAt_ = &b->insns[index];
        f.slice -= b->count;
        outcome_ = Outcome::InBlock;
        noteExit(why);
        return exit_;
    }
    return leave(f, begin + t.offsets[index], index, why);
}

Continuation Translator::callOut(Translator& self, uint32_t site, HostFrame* frame) {
    self.frame_ = frame;
    self.frame_->slice += std::exchange(self.withheld_, 0);
    const uint8_t* code = self.serve(*self.frame_, site);
    if (self.recording_ && code != self.exit_) self.withholdSlice(*self.frame_);
    return {code, self.frame_};
}

const uint8_t* Translator::serve(HostFrame& f, uint32_t number) {
    Site& s = store_->sites.reached(number);
    f.slice -= s.executed;
    if (s.limited) f.slice += f.beyond;
    f.page += uint64_t(int64_t(s.pages) * int64_t(kPageSize));
    const uint64_t here = ripOf(f.page + uint64_t(s.target));
    f.vectorsNext = VectorLevel::None;
    f.x87Next = false;
    statistics_.calls[size_t(s.kind)]++;
    switch (s.kind) {
        case Site::Kind::Interpret: interpreted_[s.mnemonic]++; return interpret(f, s);
        case Site::Kind::Trap: return trap(f, s, number);
        case Site::Kind::System: return system(f, s);
        case Site::Kind::Miss:
        case Site::Kind::Before: return missed(f, s, number);
        case Site::Kind::ChangeAc: return changeAc(f, s);
        case Site::Kind::Link: return s.behindSti ? behindSti(f, number) : link(f, number);
        case Site::Kind::OtherPage: {
            if (s.behindSti) return behindSti(f, number);
            if (f.slice <= 0)
                if (const uint8_t* host = lookAround(f, here)) return host;
            passes(f, here);
            const Block* b = f.slice > 0 ? findTarget(f, here, true) : nullptr;
            if (!b) return leave(f, here, 0, f.slice > 0 ? Exit::Untranslated : Exit::Slice);
            f.page = linearOf(here) & ~kPageMask;
            return linkTo(number, *b, markOf(f.page, b->start.page()));
        }
        case Site::Kind::LookUp:
            // (A call may still fault when it pushes.)
            if (findTarget(f, ripOfKey(f.rip), s.mnemonic != ZYDIS_MNEMONIC_CALL)) return resume(f, s);
            return leaveInBlock(f, s, Exit::Untranslated);
        case Site::Kind::Vectors: return vectors(f, s);
        case Site::Kind::Over: {
            const uint64_t rip = ripOfKey(f.rip);
            if (f.slice <= 0)
                if (const uint8_t* host = lookAround(f, rip)) return host;
            passes(f, rip);
            const Block* b = f.slice > 0 ? findTarget(f, rip, true) : nullptr;
            if (!b) return leave(f, rip, 0, f.slice > 0 ? Exit::Untranslated : Exit::Slice);
            f.page = linearOf(rip) & ~kPageMask;
            return hostOf(b);
        }
        case Site::Kind::Dead: {
            const Block* b = findTarget(f, here);
            return b ? hostOf(b) : leave(f, here, 0, Exit::Dead);
        }
        case Site::Kind::Second: return second(f, s);
        case Site::Kind::Careful: {
            const uint8_t* host = careful(*s.block, s.index);
            if (!host) return leaveInBlock(f, s, Exit::Instruction);
            const auto held = store_->lock();
            store_->buffer.setJump(at(s.patchSaved), host);
            return host;
        }
    }
    return exit_;
}

const uint8_t* Translator::resume(HostFrame& f, const Site& s) const {
    f.vectorsNext = s.level;
    f.x87Next = s.x87;
    if (s.x87) VectorState::x87ToImage(f, cpu_);
    intoTrace(f, s);
    if (s.x87Page) f.x87Page = f.page - cpu_.fast_[Cs].base;
    return at(s.resume);
}

// Back to a place in a trace, whose count and page are the first block's.
void Translator::intoTrace(HostFrame& f, const Site& s) {
    f.slice += s.executed;
    if (s.limited) f.slice -= f.beyond;
    f.page -= uint64_t(int64_t(s.pages) * int64_t(kPageSize));
}

// Whether the registers that a site goes on with can't be loaded any more.
bool Translator::refuses(const HostFrame& f, const Site& s) const {
    if (s.x87 && f.refused & VectorState::kX87) return true;
    if (s.level == VectorLevel::None) return false;
    if (f.refused >> unsigned(s.level) & 1 || !store_->thunks.load[size_t(s.level)]) return true;
    return s.level == VectorLevel::Avx && !VectorState::hostHasAvx512() && VectorState::beyondYmm(cpu_);
}

const uint8_t* Translator::vectors(HostFrame& f, Site& s) {
    if (!refuses(f, s)) return resume(f, s);
    return notAvailable(s) ? raised(f, s, {kNM}) : leaveInBlock(f, s, Exit::Vectors);
}

// Whether the instruction that wants registers raises #NM for sure (SDM vol. 3, 6.15).
bool Translator::notAvailable(const Site& s) const {
    const Cpu& c = cpu_;
    if (!(c.cr0 & cr0::TS) || c.cr0 & cr0::EM || s.mnemonic == ZYDIS_MNEMONIC_FWAIT) return false;
    switch (s.level) {
        case VectorLevel::None: return true;
        case VectorLevel::Sse: return c.cr4 & cr4::OSFXSR;
        case VectorLevel::Avx:
        case VectorLevel::AvxWide: return c.avxEnabled();
        case VectorLevel::Avx512: return c.avx512Enabled();
    }
    return false;
}

// Some instructions by the interpreter's own handlers, in a block of their own that counts like the rest of
// the block they come from.
static std::unique_ptr<Block> aloneIn(const Block& block, unsigned index, unsigned count, Handler end) {
    auto alone = std::make_unique<Block>();
    alone->start = block.start;
    alone->mode = block.mode;
    alone->bytes = block.bytes;
    alone->count = uint16_t(block.count - index);
    alone->insns.assign(block.insns.begin() + index, block.insns.begin() + index + count + 1);
    if (index == 0) alone->insns[0].run = block.plain;
    alone->insns[count].run = end;
    return alone;
}

// Null: the code there is dead.
const Block* Translator::runsAlone(Site& s) {
    const std::atomic_ref<const Block*> known(s.alone);
    if (!known.load(std::memory_order_acquire))
        store_->exclusively([&] {
            if (s.alone || store_->isDead(s)) return;
            std::unique_ptr<Block> again;
            const Block* block = whole(s.block->users[0], again);
            if (!block) return;
            known.store(store_->keep(*s.block, aloneIn(*block, s.index, s.count, interpretedAlone)),
                        std::memory_order_release);
        });
    return store_->isDead(s) ? nullptr : known.load(std::memory_order_acquire);
}

const uint8_t* Translator::interpret(HostFrame& f, Site& s) {
    Cpu& c = cpu_;
    const HostBlock& b = *s.block;
    if (s.raises)
        if (const auto fault = faultAhead(s)) return raised(f, s, *fault);
    const Block* alone = runsAlone(s);
    if (!alone) return leave(f, ripOf(f.page + uint64_t(s.target)), s.index, Exit::Dead);
    toCpu(f);
    if (s.usesX87)
        VectorState::x87ToCpu(f, c);
    else if (f.x87 != X87Place::InCpu)
        VectorState::pointersToCpu(f, c);
    c.gpr.slot[17] = ripOf(f.page + b.start.pageOffset());
    const int64_t left = c.slice_ = f.slice - b.count;
    const unsigned length = alone->insns[s.count].offset;
    c.block = alone;
    reachedEnd_ = false;
    const Tlb* tlb = c.dataTlb_;
    const uint64_t generation = tlb->generation();
    try {
        const Insn* first = alone->insns.data();
#if KILN_TAIL_CALLS
        first->run(c, first);
#else
        for (c.next = first; c.next;) {
            const Insn* i = c.next;
            c.next = nullptr;
            i->run(c, i);
        }
#endif
    } catch (const Fault& fault) { return faulted(f, fault); } catch (...) {
        thrown_ = std::current_exception();
        outcome_ = Outcome::Threw;
        return exit_;
    }
    if (c.failure_) [[unlikely]] {
        const Fault fault = *std::exchange(c.failure_, {});
        if (c.at == alone->insns.data()) {  // all in front of it is as it was
            c.block = nullptr;
            return raised(f, s, fault);
        }
        return faulted(f, fault);
    }
    const uint64_t tag = f.lookupTag, forgotten = f.forgotten, key = now_.key;
    HostFrame& n = followContext(f);
    toFrame(n);
    if (!reachedEnd_) return goOn(n);
    n.slice = c.slice_ + b.count;
    const bool same = n.lookupTag == tag && c.ways_->forgotten == forgotten && now_.key == key && !nowhere_ &&
                      c.codeMode_ == b.mode;
    if (b.dead) return leave(n, c.gpr.slot[17] + length, unsigned(s.index) + s.count, Exit::Dead);
    // The block goes on to its end, which is where slices end.
    if (store_->isDead(s)) return leaveInBlock(n, s, Exit::Dead, s.count);
    // (A trace looks at its slice only where it ends.)
    const bool over = s.trace && c.slice_ < left;
    if (!same || over) return leaveInBlock(n, s, Exit::Events, s.count);
    if (refuses(n, s)) return leaveInBlock(n, s, Exit::Vectors, s.count);
    if (s.spanned && (c.dataTlb_ != tlb || tlb->generation() != generation))
        return withoutHandles(n, s, s.index + s.count);
    return resume(n, s);
}

// The frame of the TLB that is the right one now, with all that moves between frames.
HostFrame& Translator::followContext(HostFrame& f) {
    HostFrame& n = frameOf(*cpu_.dataTlb_);
    if (&n != &f) {
        moveProcessor(n, f);
        if (f.x87 != X87Place::InCpu) std::memcpy(n.x87Image, f.x87Image, sizeof n.x87Image);
        frame_ = &n;
    }
    refresh(n);
    return n;
}

// Behind an instruction that ended its block and wants the run loop: which may have nothing to do but to
// enter the next block.
const uint8_t* Translator::goOn(HostFrame& f) {
    Cpu& c = cpu_;
    f.slice = c.slice_;
    f.rip = c.rip;
    if (recording_) finishRecording(f, 0, recording_->steps.size() - 1, false);
    const bool looksAround = c.slice_ <= 0 || c.idle() || c.pendingDebug || c.stiShadow || c.movSsShadow ||
                             c.flags.test(flag::TF) || c.runAlone_ || c.breakpoints_.code || nowhere_ ||
                             c.wakeable() || c.io.log.on(LogCategory::Exec);
    if (!looksAround) return enterNext(f);
    if (c.slice_ <= 0)
        if (const uint8_t* host = lookAround(f, f.rip)) return host;
    noteExit(c.slice_ <= 0 ? Exit::Slice : Exit::Events);
    outcome_ = Outcome::Left;
    return exit_;
}

// What the run loop would do where it has nothing else to do.
const uint8_t* Translator::enterNext(HostFrame& f) {
    Cpu& c = cpu_;
    if (f.slice > 0 && !nowhere_) {
        if (c.threaded) fenceGuest();
        c.committed_ = false;
        c.flags.change(flag::RF, false);
        const uint64_t linear = linearOf(f.rip);
        const JumpTarget* targets = jumpTargets(f);
        const void* host = nullptr;
        for (const uint32_t n : {jumpIndex(linear), neighbourOf(jumpIndex(linear))})
            if (!host && targets[n].rip == (linear | now_.key)) host = targets[n].host;
        if (!host)
            if (const Block* b = findTarget(f, f.rip, true)) host = hostOf(b);
        f.page = linear & ~kPageMask;
        if (host) return static_cast<const uint8_t*>(host);
    }
    noteExit(f.slice > 0 ? Exit::Untranslated : Exit::Slice);
    outcome_ = Outcome::Left;
    return exit_;
}

}  // namespace kiln
