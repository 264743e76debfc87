// Tier 2: a trace, the blocks of a hot way one behind the other as if they were one. Nothing is counted or
// looked up between them; what the emitter knows of flags, operands that share a look-up and loaded vector
// registers holds from one to the next; and the registers that stay in memory are those the trace names
// least. Returns and indirect jumps compare their target with the one they had when the way was recorded.
//
// The entry makes sure that the slice is longer than the whole way up to its last block, and that other pages
// of it are where they were; otherwise the first block runs by itself. A loop is emitted twice: the first
// round finds out what stays the same, above all the host addresses of operands whose registers no round
// changes, and the second one goes on with itself.
//
// All places are counted from the first block's page and begin. HostFrame::page and slice are the first
// block's until the trace is left; a Site knows how far behind they are.
#include <algorithm>

#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

void BlockEmitter::emitTrace(bool loop, std::span<const uint32_t> marks, const uint8_t* otherwise) {
    tracing_ = true;
    decodeAll();
    kills_ = overwritesFlags();
    unsigned count = 0;
    for (const CodeStep& s : steps_) count += s.count;
    if (loop) {  // twice
        context_.decoded.resize(std::max<size_t>(context_.decoded.size(), size_t(count) * 2));
        std::copy_n(context_.decoded.begin(), count, context_.decoded.begin() + count);
    }
    const std::span<const Decoded> code{context_.decoded.data(), loop ? size_t(count) * 2 : count};
    plan_.make(code, code64_, loop ? count : AccessPlan::kNoLoop);
    map_ = chooseMap(code.first(count), loop);

    bias_ = count - steps_.back().count;
    const Label over = a_.newLabel();
    checkPages(marks, otherwise);
    if (bias_) {
        a_.sub(KILN_FRAME(slice), bias_);
        a_.jle(over);
    }
    moveRegisters(kStandardMap, map_);
    std::vector<RoundEnd> ends;
    if (loop)
        ends = rounds(count);
    else if (round(false))
        edge(pageOffset_ + block_->bytes, count);
    leavings();
    for (const RoundEnd& e : ends) leaveLoop(e, otherwise);
    if (!bias_) return;
    a_.bind(over);
    a_.add(KILN_FRAME(slice), bias_);
    a_.jmp(Imm(uint64_t(otherwise)));
}

// The first round of a loop and the one that goes on with itself, which begins with what is known behind the
// first; where it ends it is known again, since it is the same code.
std::vector<BlockEmitter::RoundEnd> BlockEmitter::rounds(unsigned count) {
    std::vector<RoundEnd> ends;
    const Label first = a_.newLabel(), anew = a_.newLabel(), top = a_.newLabel();
    a_.bind(first);
    if (!round(true)) return ends;
    ends.push_back(endRound(count));
    a_.jle(ends[0].label);
    const Recipe recipe = ends[0].recipe;
    inHost_ = false, inFrame_ = !recipe, recipe_ = recipe;
    limitRounds(anew, count);
    a_.align16();
    a_.bind(top);
    a_.nowRaxHolds(HostAssembler::kNothing);
    roundBegin_ = count;
    const VectorLevel vectors = vectors_;
    const bool x87 = x87_;
    if (round(true)) {
        if (vectors_ < vectors || x87_ < x87 || (recipe && recipe_ != recipe)) {
            edge(int64_t(steps_[0].block->start.pageOffset()), count);
        } else {
            if (!recipe) saveFlags();
            ends.push_back(endRound(count));
            a_.jg(top);
            if (limited_) unlimit();
            a_.jle(ends[1].label);
        }
    }
    if (limited_) {
        a_.bind(anew);
        saveBy(recipe);
        a_.jmp(first);
    }
    limited_ = false;
    return ends;
}

// Each page of the trace but the first must have the mark it had when the trace was recorded.
void BlockEmitter::checkPages(std::span<const uint32_t> marks, const uint8_t* otherwise) {
    std::vector<int64_t> checked{0};
    for (size_t n = 0; n < steps_.size(); n++) {
        const int64_t page = steps_[n].page;
        if (std::find(checked.begin(), checked.end(), page) != checked.end()) continue;
        checked.push_back(page);
        a_.mov(x86::eax, KILN_FRAME(page).cloneResized(4));
        a_.add(x86::eax, int32_t(uint32_t(uint64_t(page))));
        a_.shr(x86::eax, 12);
        a_.cmp(x86::ptr(x86::rsp, x86::rax, 2, at(kPageMarks), 4), marks[n]);
        a_.jne(Imm(uint64_t(otherwise)));
    }
}

// All steps once. False: the code ends on the way.
bool BlockEmitter::round(bool loops) {
    unsigned at = roundBegin_;
    for (size_t n = 0; n < steps_.size(); n++) {
        enterStep(n, at);
        interpretedEnd_ = ~size_t(0);
        at += step_->count;
        const bool last = n + 1 == steps_.size();
        std::optional<int64_t> next;
        if (!last || loops) {
            const CodeStep& s = steps_[last ? 0 : n + 1];
            next = s.page + int64_t(s.block->start.pageOffset());
        }
        for (index_ = stepBegin_; index_ < at; index_++) {
            insn_ = &block_->insns[index_ - stepBegin_];
            starts_.push_back(uint16_t(a_.offset()));
            next_ = index_ + 1 == at ? next : std::nullopt;
            followed_ = false;
            const bool goesOn = instruction();
            const bool falls = goesOn && fallsToNext();
            if (next_ && !followed_ && !falls && goesOn) {
                std::optional<size_t> rest;
                if (inMidBlock()) rest = restOfBlock();
                edge(nextOffset(), executed(), rest);
            }
            if (next_ ? !followed_ && !falls : !goesOn) return false;
        }
    }
    next_ = {};
    return true;
}

// Whether behind the instruction is the next step. In the midst of a block that is another block, which ends
// where this one does unless this one is as long as blocks may be.
bool BlockEmitter::fallsToNext() const {
    return follows(nextOffset()) && !(inMidBlock() && block_->count == Decoder::kMaxInsns);
}

bool BlockEmitter::inMidBlock() const { return index_ + 1 - stepBegin_ < block_->count; }

// Where the block goes on behind this instruction, once its own are off the slice.
size_t BlockEmitter::restOfBlock() {
    const size_t site = addSite(Site::Kind::Careful);
    Site& s = sites_[site];
    s.index++;
    s.target = nextOffset() - step_->page;
    s.executed = int16_t(-s.index);
    s.limited = false;
    return site;
}

// What the next round begins with: flags in the frame or a recipe for them, and the count made up. The jump
// is the caller's.
BlockEmitter::RoundEnd BlockEmitter::endRound(unsigned count) {
    const bool unsaved = !inFrame_ && recipe_;
    if (!unsaved) saveFlags();
    a_.sub(KILN_FRAME(slice), count);
    return {a_.newLabel(), unsaved ? recipe_ : Recipe{}};
}

// Operands whose registers move by a constant in each round stay on their pages for a number of rounds: what
// the slice has beyond those waits in the frame. If an operand leaves its page at once the first round's code
// looks it up anew.
void BlockEmitter::limitRounds(const Label& anew, unsigned count) {
    constexpr size_t kMost = 8;
    size_t limits = 0;
    for (AccessPlan::Group& g : plan_.groups()) {
        if (!g.checked || !g.stride || g.last != plan_.size()) continue;
        if (g.alignment && g.stride % int64_t(g.alignment)) g.alignment = 0;
        if (limits == kMost) {
            g.checked = false, g.alignment = 0;
            continue;
        }
        // ecx: bytes from what the last round used to the end of the page that the stride leads to.
        const Gp base = baseRegisterOf(g.base, kIndex);
        Mem first = x86::ptr(base, int32_t(g.low - g.stride));
        if (g.index >= 0) first.setIndex(baseRegisterOf(g.index, kTag), g.scale);
        a_.lea(x86::ecx, first);
        a_.and_(x86::ecx, uint32_t(kPageMask));
        if (g.stride > 0) {
            a_.neg(x86::ecx);
            a_.add(x86::ecx, int32_t(int64_t(kPageSize) - (g.high - g.low)));
        }
        const auto stride = uint32_t(std::abs(g.stride));
        if ((stride & (stride - 1)) == 0) {
            if (stride > 1) a_.shr(x86::ecx, unsigned(__builtin_ctz(stride)));
        } else {  // never too many
            a_.imul(x86::ecx, x86::ecx, (1u << 20) / stride);
            a_.shr(x86::ecx, 20);
        }
        if (limits++) {
            a_.cmp(x86::ecx, x86::edx);
            a_.cmovb(x86::edx, x86::ecx);
        } else {
            a_.mov(x86::edx, x86::ecx);
        }
    }
    a_.nowRaxHolds(HostAssembler::kNothing);
    if (!limits) return;
    limited_ = true;
    a_.imul(x86::edx, x86::edx, count);
    a_.test(x86::edx, x86::edx);
    a_.jz(anew);
    a_.xor_(x86::eax, x86::eax);
    a_.mov(x86::rcx, KILN_FRAME(slice));
    a_.sub(x86::rcx, x86::rdx);
    a_.cmovl(x86::rcx, x86::rax);
    a_.mov(KILN_FRAME(beyond), x86::rcx);
    a_.sub(KILN_FRAME(slice), x86::rcx);
}

// Flags are those of the slice that is left then.
void BlockEmitter::unlimit() {
    a_.mov(x86::rcx, KILN_FRAME(beyond));
    a_.add(KILN_FRAME(slice), x86::rcx);
}

// The slice may be over before the next round is.
void BlockEmitter::leaveLoop(const RoundEnd& end, const uint8_t* otherwise) {
    a_.bind(end.label);
    saveBy(end.recipe);
    moveRegisters(map_, kStandardMap);
    const size_t site = addSite(Site::Kind::Link);
    Site& s = sites_[site];
    s.block = steps_[0].hostBlock;
    s.target = int64_t(steps_[0].block->start.pageOffset());
    s.executed = s.pages = 0;
    const Label over = a_.newLabel();
    a_.add(KILN_FRAME(slice), bias_);
    a_.jle(over);
    a_.jmp(Imm(uint64_t(otherwise)));
    a_.bind(over);
    callOut(site);
}

// -- registers

// How often the trace names each register decides which ones stay in memory. Those whose host register is
// their own, and could be named by half, keep it.
RegisterMap BlockEmitter::chooseMap(std::span<const Decoded> code, bool loop) const {
    std::array<unsigned, 16> uses{};
    for (const Decoded& d : code) {
        if (!d.valid) continue;
        auto use = [&](ZydisRegister r) {
            if (const int guest = guestOf(r); guest >= 0) uses[size_t(guest)]++;
        };
        for (unsigned n = 0; n < d.z.operand_count; n++) {
            const ZydisDecodedOperand& op = d.operands[n];
            if (op.type == ZYDIS_OPERAND_TYPE_REGISTER) use(op.reg.value);
            if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) use(op.mem.base), use(op.mem.index);
        }
    }
    RegisterMap map = kStandardMap;
    constexpr unsigned kMayMove[] = {13, 12, 9, 8, 5};
    const unsigned enough = loop ? 2 : 5;  // more uses than the one that makes room
    for (;;) {
        unsigned in = 16, out = 16;
        for (unsigned g = 0; g < 16; g++)
            if (!map.pinned(g) && (in == 16 || uses[g] > uses[in])) in = g;
        for (const unsigned g : kMayMove)
            if (map.pinned(g) && (out == 16 || uses[g] < uses[out])) out = g;
        if (in == 16 || out == 16 || uses[in] < uses[out] + enough) return map;
        map.host[in] = std::exchange(map.host[out], RegisterMap::kInFrame);
    }
}

void BlockEmitter::moveRegisters(const RegisterMap& from, const RegisterMap& to) {
    if (from == to) return;
    for (unsigned g = 0; g < 16; g++)
        if (from.host[g] != to.host[g] && from.pinned(g)) a_.mov(slot(g), x86::gpq(uint32_t(from.host[g])));
    for (unsigned g = 0; g < 16; g++)
        if (from.host[g] != to.host[g] && to.pinned(g)) a_.mov(x86::gpq(uint32_t(to.host[g])), slot(g));
}

// Whether flags could not be made again once registers are where blocks have them.
bool BlockEmitter::moved(const Recipe& r) const {
    auto elsewhere = [&](int guest) {
        return guest >= 0 && map_.host[size_t(guest)] != kStandardMap.host[size_t(guest)];
    };
    return elsewhere(r.guestA) || elsewhere(r.guestB);
}

}  // namespace kiln
