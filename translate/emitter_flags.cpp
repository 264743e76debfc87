// Where the guest's arithmetic flags are: see emitter.hpp.
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

void BlockEmitter::storeFlags() {
    a_.lahf();
    a_.seto(x86::al);
    a_.mov(KILN_FRAME(flags).cloneResized(4), x86::eax);
}

void BlockEmitter::saveBy(const Recipe& recipe) {
    if (!recipe) return;
    makeFlags(recipe);
    storeFlags();
}

void BlockEmitter::saveFlags() {
    if (inFrame_) return;
    if (!inHost_) makeFlags(recipe_);
    storeFlags();
    inHost_ = inFrame_ = true;
}

void BlockEmitter::needFlags() {
    if (inHost_) return;
    inHost_ = true;
    if (recipe_) return makeFlags(recipe_);
    a_.mov(x86::eax, KILN_FRAME(flags).cloneResized(4));
    a_.add(x86::al, 127);  // OF from bit 0
    a_.sahf();
}

void BlockEmitter::keepFlags() {
    if (!recipe_) saveFlags();
}

void BlockEmitter::makeFlags(const Recipe& r) {
    using Kind = Recipe::Kind;
    auto second = [&](InstId id, const Gp& first) {
        r.hasImmediate ? a_.emit(id, first, r.immediate) : a_.emit(id, first, r.b);
    };
    const Gp sum = sized(int(x86::rax.id()), r.a.size() * 8);
    switch (r.kind) {
        case Kind::None: break;
        case Kind::Compare: second(x86::Inst::kIdCmp, r.a); break;
        case Kind::Test: second(x86::Inst::kIdTest, r.a); break;
        case Kind::Logic: a_.test(r.a, r.a); break;
        case Kind::Add:
            a_.mov(sum, r.a);
            second(x86::Inst::kIdSub, sum);
            second(x86::Inst::kIdAdd, sum);
            break;
        case Kind::Sub:
            a_.mov(sum, r.a);
            second(x86::Inst::kIdAdd, sum);
            second(x86::Inst::kIdSub, sum);
            break;
    }
}

// Behind an instruction that wrote all flags: whether they can be made again.
void BlockEmitter::noteRecipe() {
    using Kind = Recipe::Kind;
    Recipe r;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_CMP: r.kind = Kind::Compare; break;
        case ZYDIS_MNEMONIC_TEST: r.kind = Kind::Test; break;
        case ZYDIS_MNEMONIC_AND:
        case ZYDIS_MNEMONIC_OR:
        case ZYDIS_MNEMONIC_XOR: r.kind = Kind::Logic; break;
        case ZYDIS_MNEMONIC_ADD: r.kind = Kind::Add; break;
        case ZYDIS_MNEMONIC_SUB: r.kind = Kind::Sub; break;
        default: return;
    }
    const ZydisDecodedOperand &a = operands_[0], &b = operands_[1];
    if (a.type != ZYDIS_OPERAND_TYPE_REGISTER || inFrame(guestOf(a.reg.value))) return;
    r.guestA = guestOf(a.reg.value);
    r.a = pinned(unsigned(r.guestA), a.size);
    if (r.kind != Kind::Logic) {
        r.hasImmediate = b.type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
        if (r.hasImmediate) {
            r.immediate = immediate(b);
        } else {
            if (b.type != ZYDIS_OPERAND_TYPE_REGISTER || inFrame(guestOf(b.reg.value))) return;
            r.guestB = guestOf(b.reg.value);
            r.b = pinned(unsigned(r.guestB), b.size);
            const bool sum = r.kind == Kind::Add || r.kind == Kind::Sub;
            if (sum && r.guestA == r.guestB) return;
        }
    }
    recipe_ = r;
    recipeInstruction_ = index_;
}

// Whether the instruction writes a register that a recipe reads, by name or by nature.
bool BlockEmitter::writesOperandOf(const Recipe& r) const {
    const auto writes = [&](int guest) { return guest >= 0 && facts_->writes >> guest & 1; };
    return writes(r.guestA) || writes(r.guestB);
}

// A recipe that is about to lose an operand must not be the flags' last place.
void BlockEmitter::beforeInstruction() {
    if (!recipe_ || inFrame_ || !writesOperandOf(recipe_)) return;
    const bool overwrites = facts_->writtenFlags == kArithmetic && !readsFlags();
    if (!overwrites) saveFlags();
}

bool BlockEmitter::certainlyEmitted() {
    const How how = facts_->how;
    if (context_.refused.contains(index_) || !facts_->hostHas || !operandsUsable()) return false;
    return how == How::Lea || ((how == How::Plain || how == How::Convert) && !facts_->hasMemory);
}

bool BlockEmitter::overwritesFlags() {
    bool result = false;
    for (index_ = 0; index_ < step_->count; index_++) {
        insn_ = &block_->insns[index_];
        if (!decode() || !certainlyEmitted() || readsFlags()) break;
        if (facts_->writtenFlags == kArithmetic) {
            result = true;
            break;
        }
    }
    index_ = 0;
    insn_ = nullptr;
    return result;
}

}  // namespace kiln
