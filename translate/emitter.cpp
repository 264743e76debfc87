#include <bit>

#include "cpu/handlers.hpp"
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

BlockEmitter::BlockEmitter(Draft& draft, const EmitterContext& context, std::span<const CodeStep> steps)
    : a_(draft.code),
      sites_(draft.sites),
      fixups_(draft.fixups),
      starts_(draft.starts),
      context_(context),
      steps_(steps),
      code64_(steps[0].block->mode == CodeMode::Code64) {
    enterStep(0, 0);
}

// Its instructions begin at number `at`.
void BlockEmitter::enterStep(size_t n, unsigned at) {
    step_ = &steps_[n];
    block_ = step_->block;
    stepBegin_ = at;
    pageOffset_ = step_->page + int64_t(block_->start.pageOffset());
}

bool BlockEmitter::knows(ZydisMnemonic mnemonic) { return knowledgeOf(mnemonic).how != How::Interpret; }

void BlockEmitter::emit() {
    entry_ = a_.newLabel();
    a_.bind(entry_);
    const size_t dead = addSite(Site::Kind::Dead);
    sites_[dead].target = pageOffset_;
    decodeAll();
    kills_ = !block_->crosses && overwritesFlags();
    if (!segmented()) plan_.make({context_.decoded.data(), block_->count}, code64_);
    if (block_->crosses) checkSecondPage();
    body(0);
    const Label deadCode = a_.newLabel();
    a_.bind(deadCode);
    fixups_.push_back({dead, deadCode, &Site::resume});
    callOut(dead);
}

// Of a block whose instruction continues on another page.
void BlockEmitter::checkSecondPage() {
    const Label checked = a_.newLabel();
    const size_t site = addSite(Site::Kind::Second);
    addTail(checkMark(site, kPageSize), site);
    a_.bind(checked);
    fixups_.push_back({site, checked, &Site::resume});
}

void BlockEmitter::emitCarefully(unsigned first) {
    careful_ = true;
    decodeAll();
    body(first);
}

void BlockEmitter::body(unsigned first) {
    bool goesOn = true;
    for (index_ = first; index_ < block_->count && goesOn; index_++) {
        insn_ = &block_->insns[index_];
        starts_.push_back(uint16_t(a_.offset()));
        goesOn = instruction();
    }
    if (goesOn) edge(pageOffset_ + block_->bytes, block_->count);
    leavings();
}

void BlockEmitter::leavings() {
    behindSti_ = false;
    for (size_t n = 0; n < edges_.size(); n++) {
        const Edge e = edges_[n];
        a_.bind(e.label);
        inHost_ = true, inFrame_ = e.flagsInFrame, recipe_ = e.recipe, limited_ = e.limited;
        edge(e.target, e.executed, e.rest);
    }
    limited_ = false;
    a_.section(HostAssembler::Part::Cold);
    for (const Detour& d : detours_) detour(d);
    for (const Downward& d : downward_) expandDown(d);
    for (const Tail& t : tails_) tail(t);
}

// The operand's offset is in rdx, and the one behind it in rcx.
void BlockEmitter::expandDown(const Downward& d) {
    const auto of = [&](size_t member) {
        return inFrameAt(offsetof(HostFrame, downward) + d.segment * sizeof(HostFrame::Downward) + member);
    };
    a_.bind(d.label);
    a_.cmp(kLinear, of(offsetof(HostFrame::Downward, low)));
    a_.jb(d.refused);
    a_.cmp(kTag,
           of(d.write ? offsetof(HostFrame::Downward, writeHigh) : offsetof(HostFrame::Downward, readHigh)));
    a_.jbe(d.back);
    a_.jmp(d.refused);
}

// Makes the number that lies so far into the next instruction one that may change while others run the code.
void BlockEmitter::placeNumber(unsigned distance) {
    if (!context_.terms.threaded) return;
    while ((a_.offset() + distance) % 4) a_.embedUInt8(0x90);
}

BlockEmitter::Tail& BlockEmitter::addTail(const Label& label, size_t site, const Recipe& recipe) {
    Tail& t = tails_.emplace_back();
    t.label = label;
    t.site = site;
    t.recipe = recipe;
    t.map = map_;
    return t;
}

void BlockEmitter::tail(const Tail& t) {
    a_.bind(t.label);
    if (t.range) {
        a_.lea(kTag, t.operand);
        a_.lea(kIndex, x86::ptr(kTag, t.range - 1));
        a_.call(Imm(uint64_t(context_.terms.thunks.besideRange)));
        a_.je(t.behind);
        return;
    }
    saveBy(t.recipe);
    Site& s = sites_[t.site];
    if (t.operand.hasBase()) {
        const bool asItIs = t.operand.baseId() == kLinear.id() && !t.operand.offset();
        if (!asItIs) a_.lea(kTag, t.operand);
        a_.mov(KILN_FRAME(operand), asItIs ? kLinear : kTag);
    }
    if (t.found.isValid()) {
        lookUpNeighbour();
        a_.je(t.found);
    }
    moveRegisters(t.map, kStandardMap);
    if (t.jump.isValid()) {
        // Leads to code of a block, which knows of no trace.
        if (s.limited) unlimit();
        if (s.executed) a_.sub(KILN_FRAME(slice), s.executed);
        if (s.pages) a_.add(KILN_FRAME(page), int64_t(s.pages) * int64_t(kPageSize));
        s.executed = s.pages = 0, s.limited = false;
        const Label patch = a_.newLabel();
        placeNumber(1);
        a_.bind(patch);
        fixups_.push_back({t.site, patch, &Site::patchSaved});
        fixups_.push_back({t.site, t.jump, &Site::over});
        a_.long_().jmp(t.jump);
        return;
    }
    const bool loads = s.kind == Site::Kind::Vectors;
    const bool mayBePromoted = s.kind == Site::Kind::Miss && s.guest & Site::Move::kIs;
    if (t.behind.isValid()) {
        a_.mov(kTag, KILN_FRAME(operand));
        if (mayBePromoted) noteCall(t.site);
        a_.call(Imm(uint64_t(context_.terms.thunks.beside[t.log2Bytes])));
        a_.embedSite(uint32_t(t.site));
        moveRegisters(kStandardMap, t.map);
        a_.jmp(t.behind);
    } else {
        if (mayBePromoted) noteCall(t.site);
        loads ? load(t) : callOut(t.site);
    }
    // Back where registers are elsewhere.
    auto place = [&](const Label& to, uint32_t Site::*place) {
        if (!to.isValid()) return;
        if (t.map == kStandardMap) return fixups_.push_back({t.site, to, place});
        const Label back = a_.newLabel();
        a_.bind(back);
        fixups_.push_back({t.site, back, place});
        moveRegisters(kStandardMap, t.map);
        a_.jmp(to);
    };
    place(t.resume, &Site::resume);
    place(t.again, &Site::again);
}

void BlockEmitter::decodeAll() {
    size_t count = 0;
    for (const CodeStep& s : steps_) count += s.count;
    if (context_.decoded.size() < count) context_.decoded.resize(count);
    count = 0;
    for (const CodeStep& s : steps_) decodeStep(s, std::exchange(count, count + s.count));
}

void BlockEmitter::decodeStep(const CodeStep& step, size_t at) {
    const Block& block = *step.block;
    for (unsigned n = 0; n < step.count; n++) {
        const Insn& i = block.insns[n];
        Decoded& d = context_.decoded[at + n];
        d.valid = i.run != undefinedOpcode && i.run != tooLong && i.run != absentFpu &&
                  context_.shapes.decode(context_.terms.decoder.zydis(block.mode), block.mode,
                                         step.bytes.subspan(i.offset), d);
        d.next = step.page + int64_t(block.start.pageOffset()) + i.offset + i.length;
    }
}

bool BlockEmitter::decode() {
    const Decoded& d = context_.decoded[index_];
    if (!d.valid) return false;
    z_ = &d.z;
    operands_ = d.operands;
    facts_ = &d.facts;
    return true;
}

bool BlockEmitter::instruction() {
    slowTail_ = ~size_t(0);
    unchecked_ = false;
    missTails_.clear();
    decoded_ = decode();
    if (index_ == 0) harmless_ = decoded_ && !block_->crosses && isHarmless();
    if (!decoded_) {
        interpret();
        return true;
    }
    beforeInstruction();
    switch (z_->meta.branch_type) {
        case ZYDIS_BRANCH_TYPE_SHORT:
        case ZYDIS_BRANCH_TYPE_NEAR:
            if (!context_.refused.contains(index_) && nearBranch()) {
                if (followed_ && recipe_ && recipeInstruction_ != index_ && writesOperandOf(recipe_))
                    recipe_ = {};
                return facts_->how == How::Branch || facts_->how == How::Loop;
            }
            before();
            return false;
        default: break;
    }
    if (!emitted()) interpret();
    if (recipe_ && recipeInstruction_ != index_ && writesOperandOf(recipe_)) recipe_ = {};
    resumeSlow();
    return true;
}

bool BlockEmitter::isHarmless() const {
    if (z_->mnemonic == ZYDIS_MNEMONIC_HLT) return true;  // interrupts come behind it
    switch (facts_->how) {
        case How::Nothing:
        case How::Lea: return true;
        case How::Plain:
        case How::Branch: return !facts_->hasMemory;
        default: return false;
    }
}

bool BlockEmitter::nearBranch() {
    const Facts& k = *facts_;
    if (z_->operand_width == 16 && !segmented()) return false;
    if (operands_[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && k.how != How::Return && !target()) return false;
    switch (k.how) {
        case How::Branch: return branchIf(k.id);
        case How::Loop: return loop();
        case How::Jump: return jump();
        case How::Call: return call();
        case How::Return: return ret();
        default: return false;
    }
}

bool BlockEmitter::emitted() {
    const Facts& k = *facts_;
    if (context_.refused.contains(index_) || !k.hostHas) return false;
    switch (k.how) {
        case How::Interpret: return vector(k.id) || x87();
        case How::Plain: return plain(k.id);
        case How::Nothing: return true;
        case How::Lea: return lea();
        case How::Shift:
            return operands_[z_->operand_count_visible - 1].type == ZYDIS_OPERAND_TYPE_REGISTER
                       ? shiftByCl(k.id)
                       : plain(k.id);
        case How::Multiply: return z_->operand_count_visible == 1 ? multiply(k.id) : plain(k.id);
        case How::MultiplyWithoutFlags: return multiplyWithoutFlags(k.id);
        case How::Divide: return divide(false);
        case How::DivideSigned: return divide(true);
        case How::Convert: return convert();
        case How::CompareExchange: return compareExchange();
        case How::CompareExchangeWide: return compareExchangeWide(k.id);
        case How::Pause: return !context_.terms.pauseLeaves;
        case How::LoadAh: return loadAh();
        case How::StoreAh: return storeAh();
        case How::Push: return push();
        case How::Pop: return pop();
        case How::Leave: return leave();
        case How::LoadFar: return loadFar();
        case How::System: return system();
        // Zydis has one MOVSD and one CMPSD for two instructions each.
        case How::String: return k.vectorSet ? vector(k.id) : stringInstruction();
        default: return false;
    }
}

// -- sites

size_t BlockEmitter::addSite(Site::Kind kind) {
    Site s;
    s.kind = kind;
    s.index = uint16_t(index_ - stepBegin_);
    s.block = step_->hostBlock;
    s.trace = context_.trace;
    s.executed = int16_t(int64_t(stepBegin_) - int64_t(roundBegin_) - bias_);
    s.pages = int32_t(step_->page / int64_t(kPageSize));
    s.limited = limited_;
    s.mnemonic = insn_ && decoded_ ? uint16_t(z_->mnemonic) : uint16_t(ZYDIS_MNEMONIC_INVALID);
    s.target = (insn_ ? offset() : pageOffset_) - step_->page;
    s.usesX87 = insn_ && usesX87();
    s.raises = insn_ ? raises() : uint8_t(Site::Nothing);
    s.spanned = plan_.spans(index_);
    sites_.push_back(s);
    return sites_.size() - 1;
}

void BlockEmitter::callOut(size_t site) {
    a_.call(Imm(uint64_t(context_.terms.thunks.callOut)));
    a_.embedSite(uint32_t(site));
}

// Whether an interpreted instruction can have another one behind it in the same call: it changes nothing but
// registers, so that neither the code nor what is known of memory can be another afterwards.
bool BlockEmitter::mayBeFollowed() const {
    switch (z_->meta.isa_set) {
        case ZYDIS_ISA_SET_X87:
        case ZYDIS_ISA_SET_FCMOV:
        case ZYDIS_ISA_SET_PENTIUMMMX:
        case ZYDIS_ISA_SET_SSE2MMX:
        case ZYDIS_ISA_SET_SSSE3MMX: break;
        default:
            if (z_->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX) return false;
    }
    for (unsigned n = 0; n < z_->operand_count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            operands_[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            return false;
    return true;
}

// What Translator::system has a way of its own for.
bool BlockEmitter::isCrossing() const {
    if (!decoded_) return false;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_SYSCALL:
        case ZYDIS_MNEMONIC_SYSRET:
        case ZYDIS_MNEMONIC_SYSENTER:
        case ZYDIS_MNEMONIC_SYSEXIT:
        case ZYDIS_MNEMONIC_IRET:
        case ZYDIS_MNEMONIC_IRETD:
        case ZYDIS_MNEMONIC_IRETQ:
        case ZYDIS_MNEMONIC_RDTSC:
        case ZYDIS_MNEMONIC_RDTSCP:
        case ZYDIS_MNEMONIC_HLT:
        case ZYDIS_MNEMONIC_INT:
        case ZYDIS_MNEMONIC_INT3: return true;
        case ZYDIS_MNEMONIC_MOV:
            return operands_[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                   (operands_[0].reg.value == ZYDIS_REGISTER_CR3 ||
                    operands_[0].reg.value == ZYDIS_REGISTER_CR8);
        case ZYDIS_MNEMONIC_INVLPG:
        case ZYDIS_MNEMONIC_INVPCID: return hasFlatOperand();
        default: return false;
    }
}

// What may be promoted.
bool BlockEmitter::isTrap() const {
    if (!decoded_ || block_->single) return false;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_IN:
        case ZYDIS_MNEMONIC_OUT:
        case ZYDIS_MNEMONIC_CPUID:
        case ZYDIS_MNEMONIC_RDMSR:
        case ZYDIS_MNEMONIC_WRMSR: return true;
        case ZYDIS_MNEMONIC_INSB:
        case ZYDIS_MNEMONIC_INSW:
        case ZYDIS_MNEMONIC_INSD:
        case ZYDIS_MNEMONIC_OUTSB:
        case ZYDIS_MNEMONIC_OUTSW:
        case ZYDIS_MNEMONIC_OUTSD:
            return code64_ && z_->address_width == 64 && z_->attributes & ZYDIS_ATTRIB_HAS_REP &&
                   !(z_->attributes & ZYDIS_ATTRIB_HAS_SEGMENT);
        default: return false;
    }
}

void BlockEmitter::describeTrap(Site& s) const {
    if (z_->meta.category == ZYDIS_CATEGORY_IOSTRINGOP) {
        s.bytes = uint8_t(z_->operand_width / 8);
        s.write = z_->mnemonic == ZYDIS_MNEMONIC_OUTSB || z_->mnemonic == ZYDIS_MNEMONIC_OUTSW ||
                  z_->mnemonic == ZYDIS_MNEMONIC_OUTSD;
    }
    if (z_->mnemonic != ZYDIS_MNEMONIC_IN && z_->mnemonic != ZYDIS_MNEMONIC_OUT) return;
    const bool in = z_->mnemonic == ZYDIS_MNEMONIC_IN;
    const ZydisDecodedOperand &data = operands_[in ? 0 : 1], &port = operands_[in ? 1 : 0];
    s.bytes = uint8_t(data.size / 8);
    s.write = !in;
    s.port = port.type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? uint8_t(port.imm.value.u) : Site::kInDx;
}

// Here is the call that promoted code may come in place of.
void BlockEmitter::noteCall(size_t site) {
    const Label call = a_.newLabel();
    a_.bind(call);
    fixups_.push_back({site, call, &Site::call});
}

// The operand that is not in memory: a constant or a general register; 0: something else.
uint8_t BlockEmitter::describeOther(Site& s, const ZydisDecodedOperand& other) const {
    if (other.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        s.constant = uint32_t(other.imm.value.u);
        return Site::Move::kIs | Site::Move::kConstant;
    }
    if (other.type != ZYDIS_OPERAND_TYPE_REGISTER) return 0;
    if (const int high = highByteOf(other.reg.value); high >= 0)
        return uint8_t(Site::Move::kIs | Site::Move::kHighByte | unsigned(high));
    const int guest = guestOf(other.reg.value);
    return guest < 0 ? 0 : uint8_t(Site::Move::kIs | unsigned(guest));
}

// MOV and MOVZX between memory and a general register, or of a constant to memory.
uint8_t BlockEmitter::describeMove(Site& s) const {
    const bool extends = z_->mnemonic == ZYDIS_MNEMONIC_MOVZX;
    if ((!extends && z_->mnemonic != ZYDIS_MNEMONIC_MOV) || z_->operand_count_visible != 2 || s.bytes > 8)
        return 0;
    const bool loads = operands_[1].type == ZYDIS_OPERAND_TYPE_MEMORY;
    const ZydisDecodedOperand& other = operands_[loads ? 0 : 1];
    if (!loads && operands_[0].type != ZYDIS_OPERAND_TYPE_MEMORY) return 0;
    const uint8_t is = describeOther(s, other);
    if (!is || (extends && other.size < 32)) return 0;
    const bool merges = loads && (is & Site::Move::kHighByte || (!extends && other.size < 32));
    return uint8_t(is | (merges ? Site::Move::kMerges : 0));
}

// Other instructions that operateOnDevice() does.
uint8_t BlockEmitter::describeOperation(Site& s) const {
    using Move = Site::Move;
    if (s.pair || isAtomic() || s.bytes > 8 || !std::has_single_bit(s.bytes)) return 0;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_STOSB:
        case ZYDIS_MNEMONIC_STOSW:
        case ZYDIS_MNEMONIC_STOSD:
        case ZYDIS_MNEMONIC_STOSQ:
        case ZYDIS_MNEMONIC_LODSB:
        case ZYDIS_MNEMONIC_LODSW:
        case ZYDIS_MNEMONIC_LODSD:
        case ZYDIS_MNEMONIC_LODSQ:
            if (z_->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPNE)) return 0;
            s.constant = z_->address_width / 8;
            return Move::kIs;
        case ZYDIS_MNEMONIC_INC:
        case ZYDIS_MNEMONIC_DEC:
        case ZYDIS_MNEMONIC_NOT:
        case ZYDIS_MNEMONIC_NEG: return Move::kIs;
        case ZYDIS_MNEMONIC_ADD:
        case ZYDIS_MNEMONIC_OR:
        case ZYDIS_MNEMONIC_ADC:
        case ZYDIS_MNEMONIC_SBB:
        case ZYDIS_MNEMONIC_AND:
        case ZYDIS_MNEMONIC_SUB:
        case ZYDIS_MNEMONIC_XOR:
        case ZYDIS_MNEMONIC_CMP:
        case ZYDIS_MNEMONIC_TEST:
        case ZYDIS_MNEMONIC_XCHG: break;
        default: return 0;
    }
    if (z_->operand_count_visible != 2) return 0;
    const bool reads = operands_[1].type == ZYDIS_OPERAND_TYPE_MEMORY;
    const ZydisDecodedOperand& other = operands_[reads ? 0 : 1];
    const uint8_t is = describeOther(s, other);
    return is && reads ? is | Move::kMerges : is;
}

uint8_t BlockEmitter::describeAccess(Site& s) const {
    return s.moves() ? describeMove(s) : describeOperation(s);
}

// Whether the last operand is in memory, of code without segments that matter.
bool BlockEmitter::hasFlatOperand() const {
    if (segmented() || z_->address_width != bits() || z_->attributes & ZYDIS_ATTRIB_HAS_SEGMENT) return false;
    if (!z_->operand_count_visible) return false;
    const ZydisDecodedOperand& last = operands_[z_->operand_count_visible - 1u];
    return last.type == ZYDIS_OPERAND_TYPE_MEMORY && addressable(last.mem);
}

void BlockEmitter::interpret() {
    const bool joins = a_.offset() == interpretedEnd_ && sites_[interpreted_].block == step_->hostBlock &&
                       sites_[interpreted_].index + sites_[interpreted_].count == int(index_ - stepBegin_);
    if (joins) {
        sites_[interpreted_].count++;
        sites_[interpreted_].usesX87 |= usesX87();
    } else {
        saveFlags();
        interpreted_ = addSite(isCrossing() ? Site::Kind::System
                               : isTrap()   ? Site::Kind::Trap
                                            : Site::Kind::Interpret);
        if (sites_[interpreted_].kind == Site::Kind::Trap) describeTrap(sites_[interpreted_]);
        if (sites_[interpreted_].kind == Site::Kind::System) {
            describeSystem(sites_[interpreted_]);
            if (hasFlatOperand()) {
                linearAddress(operands_[z_->operand_count_visible - 1u].mem, kLinear);
                a_.mov(KILN_FRAME(operand), kLinear);
            }
        }
        moveRegisters(map_, kStandardMap);
        if (decoded_ && mayCross()) {
            const Label otherwise = a_.newLabel();
            cross(otherwise);
            a_.bind(otherwise);
            a_.nowRaxHolds(HostAssembler::kNothing);
        }
        if (sites_[interpreted_].kind == Site::Kind::Trap) noteCall(interpreted_);
        callOut(interpreted_);
        const Label resume = a_.newLabel();
        a_.bind(resume);
        moveRegisters(kStandardMap, map_);
        fixups_.push_back({interpreted_, resume, &Site::resume});
        inHost_ = false, inFrame_ = true, recipe_ = {};
        vectors_ = VectorLevel::None;
        x87_ = false;
    }
    interpretedEnd_ = decoded_ && mayBeFollowed() ? a_.offset() : ~size_t(0);
}

void BlockEmitter::before() {
    saveFlags();
    moveRegisters(map_, kStandardMap);
    callOut(addSite(Site::Kind::Before));
}

Label BlockEmitter::slow(Site::Kind kind, bool checked) {
    unchecked_ |= !checked;
    if (slowTail_ == ~size_t(0)) {
        slowTail_ = tails_.size();
        const size_t site = addSite(kind);
        if (kind == Site::Kind::System) describeSystem(sites_[site]);
        addTail(a_.newLabel(), site, inFrame_ ? Recipe{} : recipe_);
    }
    return tails_[slowTail_].label;
}

// Whether a page fault of the memory operand is all that happens then. A masked operand need not be there; a
// store of MMX and what a stored result raises leave traces.
bool BlockEmitter::faultsWithoutTraces() const {
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_VMASKMOVPS:
        case ZYDIS_MNEMONIC_VMASKMOVPD:
        case ZYDIS_MNEMONIC_VPMASKMOVD:
        case ZYDIS_MNEMONIC_VPMASKMOVQ:
        case ZYDIS_MNEMONIC_VCVTPS2PH: return false;
        default: return z_->encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX && !usesX87();
    }
}

Label BlockEmitter::missing(const Mem& operand, unsigned bytes, bool write, const Label& again,
                            Label* behind) {
    const size_t site = addSite(nearBranchInstruction_ ? Site::Kind::Before : Site::Kind::Miss);
    Site& s = sites_[site];
    s.bytes = uint8_t(bytes);
    s.write = write;
    s.aligned = mustBeAligned(bytes);
    s.level = vectors_, s.x87 = x87_, s.x87Page = x87Page_;
    unchecked_ = true;
    missTails_.push_back(tails_.size());
    addTail(a_.newLabel(), site, inFrame_ ? Recipe{} : recipe_);
    Tail& t = tails_.back();
    if (!faultsWithoutTraces()) return t.label;
    t.operand = operand, t.again = again;
    const auto size = unsigned(std::countr_zero(bytes));
    if (behind && write && !s.aligned && std::has_single_bit(bytes) && size < kBesideSizes &&
        context_.terms.thunks.beside[size])
        t.behind = *behind = a_.newLabel(), t.log2Bytes = size;
    return t.label;
}

// Behind the instruction: what the interpreter did instead comes back here.
void BlockEmitter::resumeSlow() {
    if (slowTail_ != ~size_t(0)) missTails_.push_back(slowTail_);
    Label resume;
    for (const size_t n : missTails_) {
        Tail& t = tails_[n];
        Site& s = sites_[t.site];
        if (s.kind != Site::Kind::Miss && s.kind != Site::Kind::System) continue;
        if (t.operand.hasBase()) s.guest = describeAccess(s);
        if (!resume.isValid()) resume = a_.newLabel();
        t.resume = resume;
        s.level = vectors_, s.x87 = x87_, s.x87Page = x87Page_;
    }
    if (!resume.isValid()) return;
    a_.bind(resume);
    a_.nowRaxHolds(HostAssembler::kNothing);
    if (unchecked_) plan_.withdraw(index_);
}

}  // namespace kiln
