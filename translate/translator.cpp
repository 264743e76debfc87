#include "translate/translator.hpp"

#include <asmjit/x86.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "cpu/body.hpp"
#include "cpu/handlers.hpp"
#include "translate/emitter.hpp"
#include "translate/flag_image.hpp"
#include "translate/vector_state.hpp"
#include "translate/writes_beside.hpp"

namespace kiln {

using namespace asmjit;

namespace {

constexpr size_t kMostSites = 4'000'000;
constexpr size_t kMostBytes = 64 << 10;  // of one block

class Refusal final : public ErrorHandler {
  public:
    void handleError(Error, const char* message, BaseEmitter*) override { throw std::runtime_error(message); }
};

constexpr uint32_t kHostMxcsr = 0x1f80;  // what C++ code expects
constexpr uint16_t kHostX87Control = 0x37f;

}  // namespace

struct Translator::Assembly {
    HostAssembler code;
    DecodedShapes shapes;
};

Translator::Translator(Cpu& cpu, const TranslatorOptions& options)
    : cpu_(cpu), options_(options), buffer_(options.bufferBytes), assembly_(std::make_unique<Assembly>()) {
    cpu.besideCode = cpu.io.memory.largestRam();
    notePlaces();
    makeThunks();
    cpu.io.code.hot = this;
}

Translator::~Translator() { cpu_.io.code.hot = nullptr; }

// -- code that every block shares

void Translator::makeThunks() {
    CodeHolder code;
    Refusal refusal;
    code.init(Environment::host(), uint64_t(buffer_.next()));
    code.setErrorHandler(&refusal);
    x86::Assembler a(&code);
    const x86::Gp saved[] = {x86::rbx, x86::rbp, x86::r12, x86::r13, x86::r14, x86::r15};
    auto pinned = [&](bool load) {
        for (unsigned guest = 0; guest < 16; guest++) {
            if (!kStandardMap.pinned(guest)) continue;
            const x86::Mem slot = x86::qword_ptr(x86::rsp, int32_t(offsetof(HostFrame, gpr) + guest * 8));
            const x86::Gp host = x86::gpq(uint32_t(kStandardMap.host[guest]));
            load ? a.mov(host, slot) : a.mov(slot, host);
        }
    };
    auto frame = [](size_t offset) { return x86::qword_ptr(x86::rsp, int32_t(offset)); };

    const Label enter = a.newLabel(), exit = a.newLabel(), out = a.newLabel();
    a.bind(enter);  // rdi: the frame, rsi: the code
    for (const x86::Gp& r : saved) a.push(r);
    a.sub(x86::rsp, 8);
    a.mov(x86::qword_ptr(x86::rdi, offsetof(HostFrame, hostStack)), x86::rsp);
    a.mov(x86::rax, x86::rsi);
    a.mov(x86::rsp, x86::rdi);
    pinned(true);
    a.jmp(x86::rax);

    a.bind(exit);
    a.mov(x86::rsp, frame(offsetof(HostFrame, hostStack)));
    a.add(x86::rsp, 8);
    for (size_t n = std::size(saved); n--;) a.pop(saved[n]);
    a.ret();

    VectorCode vectors(a);
    const Label outAt = a.newLabel();
    a.bind(out);  // called with the number of the site behind the call
    a.pop(x86::rcx);
    a.mov(x86::eax, x86::dword_ptr(x86::rcx));
    a.bind(outAt);  // eax: the site
    pinned(false);
    a.mov(frame(offsetof(HostFrame, rip)), x86::rdx);
    vectors.store();
    a.mov(x86::rdi, frame(offsetof(HostFrame, owner)));
    a.mov(x86::esi, x86::eax);
    a.mov(x86::rsp, frame(offsetof(HostFrame, hostStack)));
    a.mov(x86::rax, uint64_t(&Translator::callOut));
    a.call(x86::rax);
    a.mov(x86::rsp, x86::rdx);  // the frame of perhaps another context
    a.mov(frame(offsetof(HostFrame, resume)), x86::rax);
    vectors.reload();
    pinned(true);
    a.mov(x86::rdx, frame(offsetof(HostFrame, rip)));
    a.mov(x86::eax, x86::dword_ptr(x86::rsp, int32_t(offsetof(HostFrame, flags))));
    a.add(x86::al, 127);
    a.sahf();
    a.jmp(frame(offsetof(HostFrame, resume)));
    vectors.subroutines(outAt);
    const auto beside = emitWritesBeside(a, cpu_, out);

    code.flatten();
    const auto& text = code.sectionById(0)->buffer();
    const uint8_t* base = buffer_.append({text.data(), text.size()}, {});
    enter_ = reinterpret_cast<void (*)(HostFrame*, const void*)>(uintptr_t(base + code.labelOffset(enter)));
    exit_ = base + code.labelOffset(exit);
    callOut_ = base + code.labelOffset(out);
    auto place = [&](const Label& l) { return l.isValid() ? base + code.labelOffset(l) : nullptr; };
    std::transform(vectors.load.begin(), vectors.load.end(), load_.begin(), place);
    loadX87_ = place(vectors.loadX87);
    std::transform(beside.begin(), beside.end(), beside_.begin(), place);
    thunkBytes_ = buffer_.used();
}

// -- handlers in front of blocks

void Translator::counting(Cpu& c, const Insn* i) {
    const Block* b = c.block;
    if (--b->heat) [[likely]]
        KILN_HAND_OVER(b->plain, c, i);
    Translator& t = of(c);
    auto* block = const_cast<Block*>(b);
    t.noteSurroundings();
    block->insns[0].run = t.translate(*block, c.gpr.slot[17]) ? entering : block->plain;
    KILN_HAND_OVER(b->insns[0].run, c, i);
}

void Translator::entering(Cpu& c, const Insn* i) {
    Translator& t = of(c);
    t.noteSurroundings();
    const uint64_t rip = c.gpr.slot[17];
    if (!t.mayRun(rip)) KILN_HAND_OVER(c.block->plain, c, i);
    if (c.block->hostFor != t.now_.hostFor(rip)) {
        t.stranger(*const_cast<Block*>(c.block), rip);
        KILN_HAND_OVER(c.block->plain, c, i);
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
    block.heat = options_.tier1 << std::min<unsigned>(block.deaths, 3);
    block.insns[0].run = counting;
}

void Translator::died(Block& block) {
    if (block.host) takeBack(block);
}

// The block's host code must not be entered any more.
void Translator::takeBack(Block& block) {
    auto it = translated_.find(&block);
    if (it == translated_.end()) return;
    stopRecording(&block);
    const uint8_t* dead = buffer_.at(sites_[it->second.deadSite].resume);
    for (const uint32_t n : it->second.traces) endTrace(n);
    buffer_.setJump(it->second.code.main.data(), dead);
    if (it->second.copy) buffer_.setJump(it->second.copy, dead);
    for (uint32_t n : it->second.incoming) unlink(sites_[n]);
    translated_.erase(it);
    careful_.erase(careful_.lower_bound({&block, 0}), careful_.upper_bound({&block, ~0u}));
    block.host = nullptr;
}

std::string Translator::report() const {
    const Statistics& s = statistics_;
    std::string out = fmt::format(
        "  translated: {} blocks of {} instructions to {} KiB and {} KiB of cold code; now {} blocks in {} "
        "of {} KiB, {} times full\n"
        "  {} careful versions; entered {} times; {} links, {} look-ups of targets, {} operands that missed, "
        "{} "
        "TLB entries filled, {} faults\n",
        s.blocks, s.instructions, s.hostBytes >> 10, s.coldBytes >> 10, translated_.size(),
        buffer_.used() >> 10, buffer_.size() >> 10, s.flushes, s.careful, s.entries, s.links, s.lookUps,
        s.misses, s.fills, s.faults);
    out += fmt::format(
        "  {} traces of {} instructions, {} of them loops, made in {} ms; {} ways followed, {} traces lost a "
        "block\n",
        s.traces, s.traced, s.loops, s.traceNanoseconds / 1'000'000, s.recordings, s.tracesEnded);
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
    static const char* const kKinds[] = {"interpret", "system",     "miss",    "before", "change ac",
                                         "link",      "other page", "look-up", "over",   "vectors",
                                         "dead",      "second",     "careful"};
    static_assert(std::size(kKinds) == Site::kKinds);
    out += "  calls:";
    for (size_t n = 0; n < Site::kKinds; n++) out += fmt::format(" {} {}", kKinds[n], s.calls[n]);
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

void Translator::flush() {
    for (auto& [block, ignored] : translated_) {
        block->host = nullptr;
        block->heat = options_.tier1;
        block->insns[0].run = counting;
    }
    translated_.clear();
    sites_.clear();
    alone_.clear();
    marks_.clear();
    lastMarks_ = {};
    careful_.clear();
    traces_.clear();
    stopRecording();
    known_.clear();
    now_ = {};
    noteSurroundings();
    buffer_.truncate(thunkBytes_);
    generation_++;
    statistics_.flushes++;
}

bool Translator::translate(Block& block, uint64_t rip) {
    const auto began = std::chrono::steady_clock::now();
    if (buffer_.left() < kMostBytes || sites_.size() > kMostSites || known_.full()) flush();
    if (nowhere_ || !fits(block, rip)) return false;
    const size_t firstSite = sites_.size();
    bool overwritesFlags = false, harmless = false;
    const CodeStep step{&block, block.count};
    const auto ip = uint32_t(now_.segmented() ? rip : 0);
    const uint8_t* host = emit({&step, 1}, 0, ip, [&](BlockEmitter& emitter) {
        emitter.emit();
        overwritesFlags = emitter.overwritesFlagsFirst();
        harmless = emitter.beginsHarmlessly();
    });
    if (!host) return false;
    block.host = host;
    block.hostFor = now_.hostFor(rip);
    Translated& t = translated_[&block];
    t.deadSite = firstSite;
    t.overwritesFlags = overwritesFlags;
    t.beginsHarmlessly = harmless;
    t.code = last_;
    if (!options_.listeners.empty()) tell(rip);
    statistics_.blocks++;
    statistics_.instructions += block.count;
    statistics_.nanoseconds +=
        uint64_t(std::chrono::nanoseconds(std::chrono::steady_clock::now() - began).count());
    return true;
}

// Of a translated block, from an instruction on: the version that takes its operands one by one. Null when
// there is none.
const uint8_t* Translator::careful(Block& block, unsigned first) {
    const auto known = careful_.find({&block, first});
    if (known != careful_.end()) return known->second;
    if (buffer_.left() < kMostBytes || sites_.size() > kMostSites) return nullptr;
    const CodeStep step{&block, block.count};
    const uint8_t* host =
        emit({&step, 1}, 0, 0, [&](BlockEmitter& emitter) { emitter.emitCarefully(first); });
    if (!host) return nullptr;
    statistics_.careful++;
    return careful_[{&block, first}] = host;
}

std::vector<uint8_t> Translator::bytesOf(const Block& block) const {
    std::vector<uint8_t> bytes(block.bytes);
    const size_t first = std::min<size_t>(bytes.size(), kPageSize - block.start.pageOffset());
    cpu_.io.memory.read(block.start, bytes.data(), first);
    if (first < bytes.size()) cpu_.io.memory.read(block.second, bytes.data() + first, bytes.size() - first);
    return bytes;
}

// What `how` makes of a block, or of several of a trace; null when it can't be had.
const uint8_t* Translator::emit(std::span<const CodeStep> path, uint32_t trace, uint32_t ip,
                                const std::function<void(BlockEmitter&)>& how) {
    std::vector<CodeStep> steps(path.begin(), path.end());
    std::vector<std::vector<uint8_t>> bytes;
    std::vector<std::pair<Block*, Handler>> handlers;
    for (CodeStep& s : steps) {
        s.bytes = bytes.emplace_back(bytesOf(*s.block));
        handlers.push_back({s.block, s.block->insns[0].run});
        s.block->insns[0].run = s.block->plain;  // as the emitter wants to see it
    }
    const size_t firstSite = sites_.size();
    std::set<unsigned> refused;
    const uint8_t* host = nullptr;
    while (!host) {
        HostAssembler& code = assembly_->code;
        code.reset();
        const EmitterContext context{
            cpu_.decoder(),   assembly_->shapes, sites_, callOut_, load_,    loadX87_, beside_, cpu_.threaded,
            cpu_.pauseLeaves, options_.portable, trace,  refused,  decoded_, places_,  now_,    ip};
        BlockEmitter emitter(code, context, steps);
        try {
            how(emitter);
            const auto text = code.bytes(HostAssembler::Part::Main),
                       rare = code.bytes(HostAssembler::Part::Cold);
            if (text.size() + rare.size() > kMostBytes) break;
            const uint8_t* cold = buffer_.nextCold(rare.size());
            code.resolve(buffer_.next(), cold);
            host = buffer_.append(text, rare);
            last_ = {
                {host, text.size()}, {cold, rare.size()}, {emitter.starts().begin(), emitter.starts().end()}};
            emitter.settle(buffer_.offsetOf(host));
            statistics_.hostBytes += text.size();
            statistics_.coldBytes += rare.size();
        } catch (const std::exception&) {
            // This form has no encoding with the host's registers.
            if (!refused.insert(emitter.index()).second) break;
            sites_.resize(firstSite);
        }
    }
    // In the other order: a block may come several times.
    for (size_t n = handlers.size(); n--;) handlers[n].first->insns[0].run = handlers[n].second;
    if (!host) sites_.resize(firstSite);
    return host;
}

// -- running

// Near the ends of the canonical ranges direct jumps may lead out of them, which host code does not check.
bool Translator::mayRun(uint64_t rip) const {
    if (nowhere_ || cpu_.breakpoints_.code) return false;
    if (cpu_.codeMode_ != CodeMode::Code64) return true;
    constexpr uint64_t kReach = 1ull << 32;
    return cpu_.canonical(rip - kReach) && cpu_.canonical(rip + kReach);
}

void Translator::toCpu(const HostFrame& f) {
    std::memcpy(cpu_.gpr.slot, f.gpr, sizeof f.gpr);
    cpu_.flags.setArithmetic(arithmeticFlags(f.flags));
    cpu_.mxcsr = f.mxcsr;
}

void Translator::toFrame(HostFrame& f) {
    std::memcpy(f.gpr, cpu_.gpr.slot, sizeof f.gpr);
    f.flags = flagsImage(cpu_.flags.arithmetic());
    f.mxcsr = cpu_.mxcsr;
    f.refused = VectorState::refused(cpu_, cpu_.x87Trap_, cpu_.sseTrap_, cpu_.avxTrap_, cpu_.avx512Trap_);
    f.fsBase = cpu_.fast_[Fs].base;
    f.gsBase = cpu_.fast_[Gs].base;
    noteSurroundings();
    if (cpu_.codeMode_ != CodeMode::Code64) segmentsToFrame(f);
}

Translator::Outcome Translator::run(const Block& block) {
    Cpu& c = cpu_;
    HostFrame& f = frameOf(*c.dataTlb_);
    refresh(f);
    toFrame(f);
    f.slice = c.slice_ + block.count;  // host code counts when it leaves a block
    f.page = linearOf(c.gpr.slot[17]) & ~kPageMask;
    f.owner = this;
    f.processor = &c;
    f.attention = &c.io.apic.attentionWord();
    f.writer = 1ull << (c.id & 63);
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
    enter_(&f, block.host);
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
    cpu_.block = s.block;
    cpu_.gpr.slot[17] = ripOf(f.page + s.block->start.pageOffset());
    goesOnAt_ = &s.block->insns[s.index + behind];
    f.slice -= s.block->count;
    outcome_ = Outcome::InBlock;
    noteExit(why);
    return exit_;
}

Translator::Continuation Translator::callOut(Translator& self, uint32_t site) {
    self.frame_->slice += std::exchange(self.withheld_, 0);
    const uint8_t* code = self.serve(*self.frame_, site);
    if (self.recording_ && code != self.exit_) self.withholdSlice(*self.frame_);
    return {code, self.frame_};
}

const uint8_t* Translator::serve(HostFrame& f, uint32_t number) {
    Site& s = sites_[number];
    f.slice -= s.executed;
    if (s.limited) f.slice += f.beyond;
    f.page += uint64_t(int64_t(s.pages) * int64_t(kPageSize));
    const uint64_t here = ripOf(f.page + uint64_t(s.target));
    f.vectorsNext = VectorLevel::None;
    f.x87Next = false;
    statistics_.calls[size_t(s.kind)]++;
    switch (s.kind) {
        case Site::Kind::Interpret: interpreted_[s.mnemonic]++; return interpret(f, s);
        case Site::Kind::System: return system(f, s);
        case Site::Kind::Miss:
        case Site::Kind::Before: return missed(f, s);
        case Site::Kind::ChangeAc: return changeAc(f, s);
        case Site::Kind::Link: return s.behindSti ? behindSti(f, number) : link(f, number);
        case Site::Kind::OtherPage: {
            if (s.behindSti) return behindSti(f, number);
            passes(f, here);
            const Block* b = f.slice > 0 ? findTarget(f, here, true) : nullptr;
            if (!b) return leave(f, here, 0, f.slice > 0 ? Exit::Untranslated : Exit::Slice);
            f.page = linearOf(here) & ~kPageMask;
            if (s.links < kMostLinks) linkTo(number, *b, markOf(f.page, b->start.page()));
            return static_cast<const uint8_t*>(b->host);
        }
        case Site::Kind::LookUp:
            // (A call may still fault when it pushes.)
            if (findTarget(f, ripOfKey(f.rip), s.mnemonic != ZYDIS_MNEMONIC_CALL)) return resume(f, s);
            return leaveInBlock(f, s, Exit::Untranslated);
        case Site::Kind::Vectors: return vectors(f, s);
        case Site::Kind::Over: {
            const uint64_t rip = ripOfKey(f.rip);
            passes(f, rip);
            const Block* b = f.slice > 0 ? findTarget(f, rip, true) : nullptr;
            if (!b) return leave(f, rip, 0, f.slice > 0 ? Exit::Untranslated : Exit::Slice);
            f.page = linearOf(rip) & ~kPageMask;
            return static_cast<const uint8_t*>(b->host);
        }
        case Site::Kind::Dead: {
            const Block* b = findTarget(f, here);
            return b ? static_cast<const uint8_t*>(b->host) : leave(f, here, 0, Exit::Dead);
        }
        case Site::Kind::Second: return second(f, s);
        case Site::Kind::Careful: {
            const uint8_t* host = careful(*s.block, s.index);
            if (!host) return leaveInBlock(f, s, Exit::Instruction);
            buffer_.setJump(buffer_.at(s.patchSaved), host);
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
    return buffer_.at(s.resume);
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
    if (f.refused >> unsigned(s.level) & 1 || !load_[size_t(s.level)]) return true;
    return s.level == VectorLevel::Avx && !VectorState::hostHasAvx512() && VectorState::beyondYmm(cpu_);
}

const uint8_t* Translator::vectors(HostFrame& f, Site& s) {
    if (refuses(f, s)) return leaveInBlock(f, s, Exit::Vectors);
    return resume(f, s);
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

const uint8_t* Translator::interpret(HostFrame& f, Site& s) {
    Cpu& c = cpu_;
    const Block& b = *s.block;
    toCpu(f);
    if (s.usesX87)
        VectorState::x87ToCpu(f, c);
    else if (f.x87 != X87Place::InCpu)
        VectorState::pointersToCpu(f, c);
    c.gpr.slot[17] = ripOf(f.page + b.start.pageOffset());
    const int64_t left = c.slice_ = f.slice - b.count;
    if (!s.alone) {
        alone_.push_back(aloneIn(b, s.index, s.count, interpretedAlone));
        s.alone = uint32_t(alone_.size());
    }
    const Block* alone = alone_[s.alone - 1].get();
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
    const uint64_t tag = f.lookupTag, forgotten = f.forgotten, key = now_.key;
    HostFrame& n = followContext(f);
    toFrame(n);
    if (!reachedEnd_) return goOn(n);
    n.slice = c.slice_ + b.count;
    const bool same = n.lookupTag == tag && c.ways_->forgotten == forgotten && now_.key == key && !nowhere_ &&
                      c.codeMode_ == b.mode;
    if (b.dead) return leave(n, c.gpr.slot[17] + length, unsigned(s.index) + s.count, Exit::Dead);
    // The block goes on to its end, which is where slices end.
    if (isDead(s)) return leaveInBlock(n, s, Exit::Dead, s.count);
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
        std::memcpy(static_cast<void*>(&n), &f, kMovingBytes);
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
    noteExit(c.slice_ <= 0 ? Exit::Slice : Exit::Events);
    outcome_ = Outcome::Left;
    return exit_;
}

// What the run loop would do where it has nothing else to do.
const uint8_t* Translator::enterNext(HostFrame& f) {
    Cpu& c = cpu_;
    if (f.slice > 0) {
        if (c.threaded) fenceGuest();
        c.committed_ = false;
        c.flags.change(flag::RF, false);
        const uint64_t linear = linearOf(f.rip);
        const JumpTarget& t = jumpTargets(f)[uint16_t(linear)];
        const void* host = t.rip == (linear | now_.key) ? t.host : nullptr;
        if (!host)
            if (const Block* b = findTarget(f, f.rip, true)) host = b->host;
        f.page = linear & ~kPageMask;
        if (host) return static_cast<const uint8_t*>(host);
    }
    noteExit(f.slice > 0 ? Exit::Untranslated : Exit::Slice);
    outcome_ = Outcome::Left;
    return exit_;
}

}  // namespace kiln
