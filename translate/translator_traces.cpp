// Which ways through the guest's code are hot, and the traces made of them. The run loop's slices end where
// time is spent: the blocks that they end in front of are counted, and one that is found often enough is
// followed, edge by edge, with its slice withheld so that every edge comes to the translator. What is found
// is a loop, if some rounds of it are the same, or a way up to where a trace goes on or a block is not
// translated. A trace covers the head of its first block's code with a jump.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "translate/emitter.hpp"
#include "translate/translator.hpp"

namespace kiln {

namespace {

constexpr size_t kMostSteps = 256;           // that are recorded
constexpr unsigned kMostRecorded = 2048;     // instructions of them
constexpr unsigned kMostInstructions = 256;  // of a trace
constexpr uint8_t kMostPatience = 8;
constexpr size_t kRounds = 4;           // of a loop that are the same
constexpr int64_t kFarthest = 1 << 30;  // bytes between pages

// Whether it begins no trace.
bool isPlain(const HostBlock& t) { return t.host == t.code.main.data(); }

// The last rounds, of so many steps each.
bool repeats(std::span<const CodeStep> steps, size_t length) {
    for (size_t n = steps.size() - length * (kRounds - 1); n < steps.size(); n++) {
        const CodeStep &a = steps[n], &b = steps[n - length];
        if (a.block != b.block || a.page != b.page || a.count != b.count) return false;
    }
    return true;
}

unsigned instructionsOf(std::span<const CodeStep> steps) {
    unsigned count = 0;
    for (const CodeStep& s : steps) count += s.count;
    return count;
}

// How many steps are not too much for a trace: if possible, up to where the first one comes again.
size_t firstPart(std::span<const CodeStep> steps) {
    size_t part = 0, again = 0;
    for (unsigned count = 0; part < steps.size(); part++) {
        count += steps[part].count;
        if (count > kMostInstructions) break;
        if (part && steps[part].block == steps[0].block && steps[part].page == steps[0].page) again = part;
    }
    return again ? again : part;
}

}  // namespace

// Called where host code goes from one block to another at `rip` by way of the translator: as long as a way
// is recorded at every edge, and when the slice is over.
void Translator::passes(HostFrame& f, uint64_t rip) {
    if (recording_) return record(f, rip);
    if (f.slice > 0 || !options_.tier2 || now_.segmented()) return;
    const Block* b = findTarget(f, rip);
    if (!b) return;
    HostBlock& t = *b->hostBlock;
    const auto held = store_->lock();
    if (!isPlain(t) || ++t.samples < uint64_t(options_.tier2) << t.recordings) return;
    t.samples = 0;
    t.recordings += t.recordings < kMostPatience;
    wanted_ = b;
}

void Translator::startRecording(HostFrame& f) {
    auto* head = const_cast<Block*>(std::exchange(wanted_, nullptr));
    if (head->crosses) return;
    recording_ = Recording{{{head, head->count}}, f.page, cpu_.lookupTag_, f.slice, 0};
    statistics_.recordings++;
    withholdSlice(f);
}

void Translator::withholdSlice(HostFrame& f) { withheld_ = std::exchange(f.slice, 0); }

void Translator::stopRecording(const Block* because) {
    if (!recording_) return;
    const auto& steps = recording_->steps;
    if (!because ||
        std::any_of(steps.begin(), steps.end(), [&](const CodeStep& s) { return s.block == because; }))
        recording_.reset();
}

void Translator::record(HostFrame& f, uint64_t rip) {
    Recording& r = *recording_;
    CodeStep& last = r.steps.back();
    const int64_t executed = r.left - f.slice;
    const size_t before = r.steps.size() - 1, all = r.steps.size();
    if (executed < 1 || executed > last.block->count || cpu_.lookupTag_ != r.lookupTag)
        return finishRecording(f, 0, before, false);
    last.count = unsigned(executed);
    r.instructions += last.count;
    r.left = f.slice;
    const Block* b = f.slice > 0 ? findTarget(f, rip) : nullptr;
    int64_t page = int64_t((rip & ~kPageMask) - r.page);
    if (last.block->mode != CodeMode::Code64) page = int32_t(page);
    if (b)
        for (size_t length = 1; length * kRounds <= all; length++)
            if (r.steps[all - length].block == b && r.steps[all - length].page == page &&
                repeats(r.steps, length))
                return finishRecording(f, all - length, all, true);
    const bool far = page > kFarthest || page < -kFarthest;
    if (!b || b->crosses || b->mode != last.block->mode || far || all == kMostSteps ||
        r.instructions > kMostRecorded || !isPlain(*b->hostBlock))
        return finishRecording(f, 0, all, false);
    r.steps.push_back({const_cast<Block*>(b), b->count, page});
}

// Calls less returns on the way.
int Translator::callDepth(std::span<const CodeStep> steps) const {
    int depth = 0;
    for (const CodeStep& s : steps) {
        const std::vector<uint8_t> bytes = bytesOf(*s.block);
        const uint16_t last = s.block->hostBlock->offsets[s.count - 1];
        ZydisDecodedInstruction z;
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&cpu_.decoder().zydis(s.block->mode), nullptr,
                                                        bytes.data() + last, bytes.size() - last, &z)))
            continue;
        depth += z.meta.category == ZYDIS_CATEGORY_CALL;
        depth -= z.meta.category == ZYDIS_CATEGORY_RET;
    }
    return depth;
}

// Whether a way was taken often enough: it is shortened to what all recordings from its first block have in
// common. The block at whose end they part is the last one.
bool Translator::isUsual(std::vector<CodeStep>& steps) {
    const auto held = store_->lock();
    if (!steps[0].block->hostBlock) return false;
    HostBlock& t = *steps[0].block->hostBlock;
    size_t same = 0;
    HostBlock::More& more = t.more();
    std::vector<WayStep>& way = more.way;
    if (way.empty()) {
        for (const CodeStep& s : steps) way.push_back({s.block->start, s.page - steps[0].page, s.count});
        same = steps.size();
    }
    for (; same < std::min(steps.size(), way.size()); same++) {
        const CodeStep& s = steps[same];
        const WayStep& w = way[same];
        if (s.block->start != w.start || s.page - steps[0].page != w.page) break;
        if (s.count == w.count) continue;
        same++;
        break;
    }
    steps.resize(same);
    way.resize(same);
    const bool ended = same < 2 || ++more.sameWays >= options_.ways;
    if (!ended) {
        t.recordings -= t.recordings > 0;
        t.samples = (options_.tier2 << t.recordings) / 4 * 3;
        return false;
    }
    way = {};
    more.sameWays = 0;
    return same >= 2;
}

// Makes a trace of the steps from number `first` to the one in front of `end`.
void Translator::finishRecording(HostFrame& f, size_t first, size_t end, bool loop) {
    const Recording r = std::move(*recording_);
    recording_.reset();
    if (end < first + (loop ? 1 : 2)) return;
    std::vector<CodeStep> steps(r.steps.begin() + long(first), r.steps.begin() + long(end));
    // A function that calls itself is no loop: what it calls returns.
    if (loop && (callDepth(steps) != 0 || instructionsOf(steps) > kMostInstructions)) loop = false;
    if (!loop) steps.resize(firstPart(steps));
    if (!loop && !isUsual(steps)) return;
    const int64_t from = steps[0].page;
    for (CodeStep& s : steps) s.page -= from;
    if (!loop) steps.back().count = steps.back().block->count;
    uint64_t page = r.page + uint64_t(from);
    if (steps[0].block->mode != CodeMode::Code64) page = uint32_t(page);
    store_->exclusively([&] {
        // The way ended where segments may matter; on it they did not.
        const Surroundings after = std::exchange(now_, {});
        makeTrace(f, steps, loop, page);
        now_ = after;
    });
}

void Translator::makeTrace(HostFrame& f, std::span<CodeStep> steps, bool loop, uint64_t page) {
    for (CodeStep& s : steps) {
        s.hostBlock = s.block->hostBlock;
        if (!s.hostBlock) return;
    }
    HostBlock& head = *steps[0].hostBlock;
    if (!isPlain(head)) return;
    const auto began = std::chrono::steady_clock::now();
    const CodeStep whole{steps[0].block, head.count, 0, {}, &head};
    const uint8_t*& copy = head.more().copy;
    if (!copy) copy = emit({&whole, 1}, 0, 0, [](BlockEmitter& emitter) { emitter.emit(); });
    if (!copy) return;
    store_->wentElsewhere(head);
    std::vector<uint32_t> marks;
    for (const CodeStep& s : steps) {
        uint64_t linear = page + uint64_t(s.page);
        if (head.mode != CodeMode::Code64) linear = uint32_t(linear);
        marks.push_back(store_->mark(linear, s.block->start.page()));
    }
    Trace* trace = store_->addTrace(head, steps, loop);
    if (!trace) return;
    const uint8_t* host =
        emit(steps, trace->number, 0, [&](BlockEmitter& emitter) { emitter.emitTrace(loop, marks, copy); });
    if (!host) return store_->withdrawTrace();
    trace->code = last_;
    trace->starts = store_->draft.starts;
    store_->enterTrace(*trace);
    const uint64_t rip = page + head.start.pageOffset();
    JumpTarget& target = jumpTargets(f)[jumpIndex(rip)];
    if (target.rip == rip && target.host == head.code.main.data()) target.host = host;
    statistics_.traceNanoseconds +=
        uint64_t(std::chrono::nanoseconds(std::chrono::steady_clock::now() - began).count());
    statistics_.traces++;
    statistics_.loops += loop;
    for (const CodeStep& s : steps) statistics_.traced += s.count;
    if (!options_.listeners.empty()) tell(rip);
}

}  // namespace kiln
