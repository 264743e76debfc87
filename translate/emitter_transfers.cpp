// Near branches, and how a block is left.
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

namespace {

constexpr InstId kJumps[] = {x86::Inst::kIdJo, x86::Inst::kIdJno, x86::Inst::kIdJb,  x86::Inst::kIdJnb,
                             x86::Inst::kIdJz, x86::Inst::kIdJnz, x86::Inst::kIdJbe, x86::Inst::kIdJnbe,
                             x86::Inst::kIdJs, x86::Inst::kIdJns, x86::Inst::kIdJp,  x86::Inst::kIdJnp,
                             x86::Inst::kIdJl, x86::Inst::kIdJnl, x86::Inst::kIdJle, x86::Inst::kIdJnle};

}  // namespace

bool BlockEmitter::branchIf(InstId id) {
    const int64_t taken = *target();
    needFlags();
    if (follows(taken)) {
        const InstId past = kJumps[(z_->opcode & 15) ^ 1];
        followed_ = true;
        branchAway(past, nextOffset());
        if (inMidBlock()) edges_.back().rest = restOfBlock();
    } else {
        branchAway(id, taken);
        followed_ = fallsToNext();
    }
    return true;
}

// To where the main line does not go on.
void BlockEmitter::branchAway(InstId id, int64_t target) {
    Edge e{a_.newLabel(), target, executed(), inFrame_, {}};
    e.recipe = recipe_;
    e.limited = limited_;
    a_.emit(id, e.label);
    edges_.push_back(e);
}

// LOOP and relatives, JECXZ and JRCXZ: the counter is as wide as an address. Flags stay in the host's.
bool BlockEmitter::loop() {
    const bool counts = z_->mnemonic != ZYDIS_MNEMONIC_JCXZ && z_->mnemonic != ZYDIS_MNEMONIC_JECXZ &&
                        z_->mnemonic != ZYDIS_MNEMONIC_JRCXZ;
    needFlags();
    loadGuest(x86::rcx, 1);
    const Gp counter = sized(int(x86::rcx.id()), z_->address_width);
    if (counts) {
        a_.lea(counter, x86::ptr(x86::rcx, -1));
        storeGuest(1, x86::rcx);
        if (recipe_ && writesOperandOf(recipe_)) recipe_ = {};
    }
    const Label zero = a_.newLabel(), done = a_.newLabel();
    Edge e{a_.newLabel(), *target(), executed(), inFrame_, {}};
    e.recipe = recipe_;
    e.limited = limited_;
    edges_.push_back(e);
    followed_ = fallsToNext();
    if (z_->address_width == 16) a_.movzx(x86::ecx, x86::cx);
    a_.jecxz(z_->address_width == 16 ? x86::ecx : counter, zero);
    if (z_->mnemonic == ZYDIS_MNEMONIC_LOOPE)
        a_.jz(e.label);
    else if (z_->mnemonic == ZYDIS_MNEMONIC_LOOPNE)
        a_.jnz(e.label);
    else if (counts)
        a_.jmp(e.label);
    if (!counts) a_.short_().jmp(done);
    a_.bind(zero);
    if (!counts) a_.jmp(e.label);
    a_.bind(done);
    return true;
}

bool BlockEmitter::jump() {
    if (operands_[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return jumpIndirect(false);
    const int64_t to = *target();
    followed_ = follows(to);
    if (!followed_) edge(to, executed());
    return true;
}

bool BlockEmitter::call() {
    if (operands_[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return jumpIndirect(true);
    nearBranchInstruction_ = true;
    pushReturn();
    nearBranchInstruction_ = false;
    const int64_t to = *target();
    followed_ = follows(to);
    if (!followed_) edge(to, executed());
    return true;
}

void BlockEmitter::pushReturn() {
    const unsigned bytes = transferBytes();
    const Address to = stack(-int32_t(bytes), bytes, true);
    if (segmented()) {
        const auto ip = uint32_t(pageIp() + nextOffset());
        a_.mov(to.mem.cloneResized(bytes), bytes == 2 ? int64_t(int16_t(ip)) : int64_t(int32_t(ip)));
        return addToStack(-int32_t(bytes));
    }
    a_.mov(x86::rcx, KILN_FRAME(page));
    a_.lea(sized(int(x86::rcx.id()), bits()), x86::ptr(x86::rcx, int32_t(nextOffset())));
    a_.mov(to.mem.cloneResized(bytes), sized(int(x86::rcx.id()), bits()));
    addToStack(-int32_t(bytes));
}

bool BlockEmitter::ret() {
    nearBranchInstruction_ = true;
    const unsigned bytes = transferBytes();
    const int32_t released = z_->operand_count_visible ? int32_t(operands_[0].imm.value.u & 0xffff) : 0;
    next_ ? keepFlags() : saveFlags();
    const Address from = stack(0, bytes, false);
    if (bytes == 2)
        a_.movzx(x86::edx, from.mem.cloneResized(2));
    else
        a_.mov(sized(int(x86::rdx.id()), bits()), from.mem.cloneResized(bytes));
    auto go = [&] {
        toKey();
        lookUp();
        addToStack(int32_t(bytes) + released);
        goToTarget(tableEntry(), true);
    };
    if (next_) {
        followIndirect(go);
        addToStack(int32_t(bytes) + released);
    } else {
        inStandardMap(go);
    }
    nearBranchInstruction_ = false;
    return true;
}

// Goes on if the target, in rdx, is the trace's next block, and does `otherwise` if not.
template <class Code>
void BlockEmitter::followIndirect(Code otherwise) {
    const Label other = a_.newLabel();
    a_.mov(x86::rcx, KILN_FRAME(page));
    a_.lea(sized(int(x86::rcx.id()), bits()), x86::ptr(x86::rcx, int32_t(*next_)));
    a_.cmp(x86::rdx, x86::rcx);
    a_.jne(other);
    inHost_ = false;
    const Recipe recipe = recipe_;
    const bool inFrame = inFrame_;
    const int raxHolds = a_.raxHolds();
    const AccessPlan plan = plan_;
    const size_t slowTail = slowTail_;
    a_.section(HostAssembler::Part::Cold);
    a_.bind(other);
    saveFlags();
    inStandardMap(otherwise);
    a_.section(HostAssembler::Part::Main);
    slowTail_ = slowTail;
    plan_ = plan;
    a_.nowRaxHolds(raxHolds);
    inHost_ = false, inFrame_ = inFrame, recipe_ = recipe;
    followed_ = true;
}

template <class Code>
void BlockEmitter::inStandardMap(Code code) {
    const RegisterMap map = map_;
    moveRegisters(map, kStandardMap);
    map_ = kStandardMap;
    code();
    map_ = map;
}

x86::Mem BlockEmitter::tableEntry() const { return jumpPart(offsetof(JumpTarget, host)); }

bool BlockEmitter::jumpIndirect(bool isCall) {
    if (!operandsUsable()) return false;
    nearBranchInstruction_ = true;
    const ZydisDecodedOperand& op = operands_[0];
    next_ ? keepFlags() : saveFlags();
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const unsigned bytes = transferBytes();
        const Address from = access(op.mem, bytes, false);
        if (bytes == 2)
            a_.movzx(x86::edx, from.mem.cloneResized(2));
        else
            a_.mov(sized(int(x86::rdx.id()), bits()), from.mem.cloneResized(bytes));
    } else {
        loadGuest(x86::rdx, unsigned(guestOf(op.reg.value)));
        if (transferBytes() == 2)
            a_.movzx(x86::edx, x86::dx);
        else if (!code64_)
            a_.mov(x86::edx, x86::edx);
    }
    auto go = [&] {
        toKey();
        lookUp();
        if (!isCall) return goToTarget(tableEntry(), true);
        a_.mov(x86::rcx, tableEntry());
        a_.mov(KILN_FRAME(hostTarget), x86::rcx);
        a_.mov(KILN_FRAME(target), x86::rdx);
        pushReturn();
        goToTarget(KILN_FRAME(hostTarget), false);
    };
    if (next_) {
        followIndirect(go);
        if (isCall) pushReturn();
    } else {
        inStandardMap(go);
    }
    nearBranchInstruction_ = false;
    return true;
}

Label BlockEmitter::lookUpJump() {
    const Label miss = a_.newLabel();
    toJumpTarget(a_, x86::rdx);
    compareTarget();
    a_.jne(miss);
    return miss;
}

void BlockEmitter::lookUpNeighbour() {
    toNeighbour(a_);
    compareTarget();
}

void BlockEmitter::compareTarget() { a_.cmp(x86::rdx, jumpPart(offsetof(JumpTarget, rip))); }

void BlockEmitter::lookUp() {
    const Label again = a_.newLabel();
    a_.bind(again);
    const size_t site = addSite(Site::Kind::LookUp);
    fixups_.push_back({site, again, &Site::resume});
    Tail& t = addTail(lookUpJump(), site);
    t.found = a_.newLabel();
    a_.bind(t.found);
    inHost_ = false;
}

// Of what rdx has as the table of targets knows it.
void BlockEmitter::toPage() {
    a_.and_(sized(int(x86::rdx.id()), segmented() ? 32 : 64), -4096);
    a_.mov(KILN_FRAME(page), x86::rdx);
}

void BlockEmitter::goToTarget(const Mem& host, bool targetInRdx) {
    const Label over = a_.newLabel();
    const size_t site = addSite(Site::Kind::Over);
    if (!targetInRdx) a_.mov(x86::rdx, KILN_FRAME(target));
    sites_[site].executed = sites_[site].pages = 0;
    sites_[site].limited = false;
    if (limited_) unlimit();
    a_.sub(KILN_FRAME(slice), int64_t(executed()) - bias_);
    a_.jle(over);
    toPage();
    a_.jmp(host);
    addTail(over, site);
}

// The end of the block's code on one way: to `target` from the page, after so many instructions.
void BlockEmitter::edge(int64_t target, unsigned executed, std::optional<size_t> rest) {
    if (moved(recipe_)) saveFlags();
    inStandardMap([&] { leaveTo(target, executed, rest); });
}

void BlockEmitter::leaveTo(int64_t target, unsigned executed, std::optional<size_t> rest) {
    const bool samePage = target >= 0 && target < int64_t(kPageSize),
               loop = target == pageOffset_ && !careful_ && !tracing_;
    const bool unsaved = !inFrame_ && recipe_ && (!loop || kills_);
    if (!unsaved) saveFlags();
    const size_t site = addSite(samePage ? Site::Kind::Link : Site::Kind::OtherPage);
    Site& s = sites_[site];
    s.block = steps_[0].hostBlock;
    s.target = target;
    s.executed = s.pages = 0;
    s.limited = false;
    s.behindSti = behindSti_;
    const Label over = a_.newLabel();
    if (limited_) unlimit();
    a_.sub(KILN_FRAME(slice), int64_t(executed) - bias_);
    // A block of its own from there on would end elsewhere.
    const bool alone = rest && sites_[*rest].block->count == Decoder::kMaxInsns;
    alone ? a_.jmp(over) : a_.jle(over);
    if (behindSti_) {  // the next instruction runs alone: see Translator::behindSti
        a_.cmp(KILN_FRAME(slice), 1);
        a_.je(over);
    }
    if (loop) {
        a_.jmp(entry_);
    } else if (!alone) {
        const Recipe recipe = unsaved ? recipe_ : Recipe{};
        if (!samePage && behindSti_)
            addTail(checkPage(site, target), site, recipe);
        else if (!samePage)
            detours_.push_back({checkPage(site, target), site, target, recipe});
        const Label patch = a_.newLabel(), call = rest ? a_.newLabel() : over,
                    out = unsaved ? a_.newLabel() : call;
        placeNumber(1);
        a_.bind(patch);
        fixups_.push_back({site, patch, &Site::patch});
        fixups_.push_back({site, out, &Site::out});
        a_.long_().jmp(out);
        if (unsaved) addTail(out, site, recipe_).jump = call;
        if (rest) addTail(call, site);
    }
    const Recipe recipe = unsaved ? recipe_ : Recipe{};
    if (!rest) return void(addTail(over, site, recipe));
    const Label call = a_.newLabel();
    addTail(over, *rest, recipe).jump = call;
    addTail(call, *rest);
}

// Whether the page so far from the one that the block began on has the mark that is written into the
// comparison; there if not.
Label BlockEmitter::checkMark(size_t site, int64_t distance) {
    const Label other = a_.newLabel(), behindMark = a_.newLabel();
    a_.mov(x86::eax, KILN_FRAME(page).cloneResized(4));
    a_.add(x86::eax, int32_t(uint32_t(uint64_t(distance))));
    a_.shr(x86::eax, 12);
    constexpr unsigned kToNumber = 7;  // the comparison's opcode, ModRM, SIB and displacement
    placeNumber(kToNumber);
    a_.cmp(x86::ptr(x86::rsp, x86::rax, 2, at(kPageMarks), 4), kNoMark);
    a_.bind(behindMark);
    fixups_.push_back({site, behindMark, &Site::mark});
    a_.jne(other);
    return other;
}

// Goes on, on another page.
Label BlockEmitter::checkPage(size_t site, int64_t target) {
    const int64_t distance = target & ~int64_t(kPageMask);
    const Label other = checkMark(site, distance);
    if (!code64_) {
        a_.add(KILN_FRAME(page).cloneResized(4), int32_t(uint32_t(uint64_t(distance))));
    } else if (fits32(distance)) {
        a_.add(KILN_FRAME(page), distance);
    } else {  // nearly 2 GiB away
        a_.mov(x86::rax, distance);
        a_.add(KILN_FRAME(page), x86::rax);
    }
    return other;
}

void BlockEmitter::detour(const Detour& d) {
    a_.bind(d.label);
    saveBy(d.recipe);
    a_.mov(x86::rdx, d.target);
    a_.add(x86::rdx, KILN_FRAME(page));
    if (!code64_) a_.mov(x86::edx, x86::edx);
    if (segmented()) a_.or_(x86::rdx, KILN_FRAME(surroundings));
    const Label other = lookUpJump(), found = a_.newLabel();
    a_.bind(found);
    toPage();
    a_.jmp(tableEntry());
    a_.bind(other);
    lookUpNeighbour();
    a_.je(found);
    callOut(d.site);
}

}  // namespace kiln
