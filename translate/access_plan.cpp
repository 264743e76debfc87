#include "translate/access_plan.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "translate/guest_registers.hpp"

namespace kiln {

namespace {

bool absentBase(const ZydisDecodedInstruction& z) {
    return z.attributes & ZYDIS_ATTRIB_HAS_SIB && z.raw.modrm.mod == 0 && z.raw.sib.base == 5;
}

constexpr unsigned kRcx = 1, kRsp = 4, kRbp = 5, kRsi = 6, kRdi = 7;

// A general register is some unknown value plus a constant.
struct Symbolic {
    unsigned value;
    int64_t plus;
    bool operator==(const Symbolic&) const = default;
};

}  // namespace

class AccessPlanner {
  public:
    AccessPlanner(std::span<const Decoded> code, bool code64, size_t loop, AccessPlan& plan)
        : code_(code),
          code64_(code64),
          loop_(loop),
          groups_(plan.groups_),
          memory_(plan.memory_),
          stack_(plan.stack_) {
        forgetAll();
    }

    void run() {
        const auto atFirst = registers_;
        for (n_ = 0; n_ < code_.size(); n_++) {
            const Decoded& d = code_[n_];
            if (n_ == loop_) nextRound(atFirst);
            if (!d.valid) {
                forgetAll();
                continue;
            }
            operands(d);
            effects(d);
        }
        settle();
    }

  private:
    static constexpr unsigned kRip = 16, kFs = 17, kGs = 18, kStarts = 19;  // beside the registers
    using Start = AccessPlan::Start;

    unsigned stackBytes() const { return code64_ ? 8 : 4; }

    void forget(unsigned guest) { registers_[guest] = {next_++, 0}; }
    void forgetAll() {
        for (unsigned r = 0; r < kStarts; r++) forget(r);
    }
    // What a round of the loop changes has another value in each round. A constant that it adds is the same
    // for all that starts from the register.
    void nextRound(const std::array<Symbolic, kStarts>& before) {
        for (unsigned r = 0; r < kStarts; r++) {
            const int64_t stride = registers_[r].plus - before[r].plus;
            const bool far = stride > AccessPlan::kLongestStride || stride < -AccessPlan::kLongestStride;
            const bool strides = code64_ || !stride;
            if (registers_[r].value != before[r].value || far || !strides) {
                forget(r);
            } else {
                registers_[r] = before[r];
                strides_[r] = stride;
            }
        }
        // The handle of a sum holds its base.
        for (KnownSum& sum : sums_)
            if (sum.base >= kStarts || strides_[sum.base]) sum.base = kForgotten;
        for (AccessPlan::Group& g : groups_) {
            if (g.base >= 0) g.stride = strides_[size_t(g.base)];
            if (g.index >= 0) g.stride += strides_[size_t(g.index)] << g.scale;
        }
    }

    static int general(ZydisRegister r) { return generalOrPart(r); }

    // Then segments, too, may be others.
    static bool mayBeSystem(const Decoded& d) {
        const How how = d.facts.how;
        if (how == How::LoadFar) return true;
        return how == How::Interpret && !d.facts.vectorSet && !d.facts.x87;
    }

    // -- operands

    void operands(const Decoded& d) {
        const How how = d.facts.how;
        if (mayBeSystem(d) || how == How::Nothing || how == How::Lea) return;
        for (unsigned k = 0; k < d.z.operand_count_visible; k++) {
            const ZydisDecodedOperand& op = d.operands[k];
            if (op.type == ZYDIS_OPERAND_TYPE_MEMORY && op.size >= 8)
                place(memory_[n_], addressOf(d, op.mem), op.size / 8,
                      op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
        }
        const int64_t bytes = stackBytes();
        switch (how) {
            case How::Push:
            case How::Call: place(stack_[n_], plus(kRsp, -bytes), bytes, true); break;
            case How::Pop:
            case How::Return: place(stack_[n_], plus(kRsp, 0), bytes, false); break;
            case How::Leave: place(stack_[n_], plus(kRbp, 0), bytes, false); break;
            default: break;
        }
    }

    struct Address {
        Start start;
        Symbolic at;
        int base = -1, index = -1;
        unsigned scale = 0;
        int64_t basePlus = 0;
    };
    Address plus(unsigned guest, int64_t n) const {
        const Symbolic& s = registers_[guest];
        return {Start::Register, {s.value, s.plus + n}, s.value < 16 ? int(s.value) : -1};
    }
    std::optional<Address> sum(const Symbolic& base, const Symbolic& index, unsigned scale, int64_t disp) {
        constexpr int64_t kFar = 1ll << 29;  // the base's share is part of a displacement
        if (std::max(std::abs(base.plus), std::abs(disp)) > kFar || std::abs(index.plus) > kFar) return {};
        const auto known = std::find_if(sums_.begin(), sums_.end(), [&](const KnownSum& s) {
            return s.base == base.value && s.index == index.value && s.scale == scale;
        });
        const unsigned value = known != sums_.end() ? known->value : next_++;
        if (known == sums_.end()) sums_.push_back({base.value, index.value, scale, value});
        const bool atBegin = base.value < 16 && index.value < 16;
        return Address{Start::Sum,
                       {value, base.plus + (index.plus << scale) + disp},
                       atBegin ? int(base.value) : -1,
                       atBegin ? int(index.value) : -1,
                       scale,
                       base.plus};
    }

    std::optional<Address> addressOf(const Decoded& d, const ZydisDecodedOperandMem& m) {
        if (d.z.address_width != (code64_ ? 64 : 32)) return {};
        const ZydisRegister base = baseOf(d.z, m);
        const int64_t disp = displacementOf(d.z, m);
        const bool fs = m.segment == ZYDIS_REGISTER_FS, gs = m.segment == ZYDIS_REGISTER_GS;
        // FDP wants the operand's offset.
        const bool alone = (fs || gs || base == ZYDIS_REGISTER_RIP) && d.facts.x87;
        if (alone) return {};
        if (m.index != ZYDIS_REGISTER_NONE) {
            if (!code64_ || fs || gs || general(base) < 0 || general(m.index) < 0) return {};
            const unsigned scale = m.scale == 8 ? 3 : m.scale / 2;
            return sum(registers_[size_t(general(base))], registers_[size_t(general(m.index))], scale, disp);
        }
        if (fs || gs) {
            if (base != ZYDIS_REGISTER_NONE || !code64_) return {};
            return Address{fs ? Start::Fs : Start::Gs, {registers_[fs ? kFs : kGs].value, disp}};
        }
        if (base == ZYDIS_REGISTER_RIP) return Address{Start::Rip, {registers_[kRip].value, d.next + disp}};
        if (base == ZYDIS_REGISTER_NONE || general(base) < 0) return {};
        // A large one may be meant to wrap at 4 GiB.
        constexpr int64_t kNear = 1 << 20;
        if (!code64_ && (disp < -kNear || disp > kNear)) return {};
        return plus(unsigned(general(base)), disp);
    }

    void place(AccessPlan::Access& access, const std::optional<Address>& a, int64_t bytes, bool writes) {
        if (!a) return;
        constexpr int64_t kFar = 1ll << 30;
        if (a->at.plus < -kFar || a->at.plus > kFar) return;
        const int64_t low = a->at.plus, high = low + bytes;
        if (a->at.value >= open_.size()) open_.resize(a->at.value + 1, AccessPlan::kNone);
        int& open = open_[a->at.value];
        if (open >= 0) {
            AccessPlan::Group& g = groups_[size_t(open)];
            if (std::max(g.high, high) - std::min(g.low, low) > AccessPlan::kWidest) open = AccessPlan::kNone;
        }
        if (open < 0) {
            open = int(groups_.size());
            groups_.push_back({});
            groups_.back().start = a->start;
            groups_.back().first = n_;
            groups_.back().base = a->base;
            groups_.back().index = a->index;
            groups_.back().scale = a->scale;
            groups_.back().low = low;
            groups_.back().high = high;
        }
        AccessPlan::Group& g = groups_[size_t(open)];
        g.low = std::min(g.low, low);
        g.high = std::max(g.high, high);
        g.writes |= writes;
        g.count++;
        g.last = n_ >= loop_ && g.first < loop_ ? unsigned(code_.size()) : n_;
        access = {open, low, a->basePlus};
    }

    // -- what the instruction does to registers

    void effects(const Decoded& d) {
        const How how = d.facts.how;
        if (mayBeSystem(d)) return forgetAll();
        // Behind which the TLB may be another.
        if (d.z.mnemonic == ZYDIS_MNEMONIC_STAC || d.z.mnemonic == ZYDIS_MNEMONIC_CLAC) return forgetAll();
        if (how == How::System) forget(kFs), forget(kGs);
        // Zydis 4.0 does not say that CMPS moves them.
        if (how == How::String) forget(kRcx), forget(kRsi), forget(kRdi);
        const Symbolic rsp = registers_[kRsp], rbp = registers_[kRbp];
        const std::optional<Symbolic> sum = constantSum(d);
        if (d.facts.writesSegment) forget(kFs), forget(kGs);
        for (unsigned left = d.facts.writes; left; left &= left - 1) forget(unsigned(std::countr_zero(left)));
        if (sum) registers_[size_t(general(d.operands[0].reg.value))] = *sum;
        if (d.z.operand_width != (code64_ ? 64 : 32)) return;
        const int64_t bytes = stackBytes();
        if (how == How::Call) registers_[kRsp] = {rsp.value, rsp.plus - bytes};
        if (how == How::Return)
            registers_[kRsp] = {
                rsp.value, rsp.plus + bytes +
                               (d.z.operand_count_visible ? int64_t(d.operands[0].imm.value.u & 0xffff) : 0)};
        const bool popsRsp = how == How::Pop && d.operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                             general(d.operands[0].reg.value) == int(kRsp);
        if (how == How::Push) registers_[kRsp] = {rsp.value, rsp.plus - bytes};
        if (how == How::Pop && !popsRsp) registers_[kRsp] = {rsp.value, rsp.plus + bytes};
        if (how == How::Leave) registers_[kRsp] = {rbp.value, rbp.plus + bytes};
    }

    // Of ADD, SUB, INC, DEC and LEA with constants and MOV from a register, of full width. Outside 64-bit
    // code bits 63:32 of a copy may differ from the original's.
    std::optional<Symbolic> constantSum(const Decoded& d) const {
        if (d.z.operand_count_visible < 1 || d.operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER) return {};
        if (d.operands[0].size != (code64_ ? 64 : 32)) return {};
        const int target = general(d.operands[0].reg.value);
        if (target < 0) return {};
        const Symbolic old = registers_[size_t(target)];
        const ZydisDecodedOperand& source = d.operands[1];
        const bool immediate = d.z.operand_count_visible == 2 && source.type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
        switch (d.z.mnemonic) {
            case ZYDIS_MNEMONIC_ADD:
                if (immediate) return Symbolic{old.value, old.plus + source.imm.value.s};
                return {};
            case ZYDIS_MNEMONIC_SUB:
                if (immediate) return Symbolic{old.value, old.plus - source.imm.value.s};
                return {};
            case ZYDIS_MNEMONIC_INC: return Symbolic{old.value, old.plus + 1};
            case ZYDIS_MNEMONIC_DEC: return Symbolic{old.value, old.plus - 1};
            case ZYDIS_MNEMONIC_MOV:
                if (code64_ && source.type == ZYDIS_OPERAND_TYPE_REGISTER && general(source.reg.value) >= 0)
                    return registers_[size_t(general(source.reg.value))];
                return {};
            case ZYDIS_MNEMONIC_LEA: {
                const ZydisRegister base = baseOf(d.z, source.mem);
                if (!code64_ || d.z.address_width != 64 || source.mem.index != ZYDIS_REGISTER_NONE ||
                    general(base) < 0)
                    return {};
                const Symbolic from = registers_[size_t(general(base))];
                return Symbolic{from.value, from.plus + displacementOf(d.z, source.mem)};
            }
            default: return {};
        }
    }

    // Leaves out groups of one, and those the frame has no room for.
    void settle() {
        constexpr unsigned kLeftOut = HostFrame::kHandles;
        unsigned handles = 0;
        for (AccessPlan::Group& g : groups_)
            g.handle = g.count < 2 || handles == HostFrame::kHandles ? kLeftOut : handles++;
        for (auto* list : {&memory_, &stack_})
            for (AccessPlan::Access& a : *list)
                if (a.group >= 0 && groups_[size_t(a.group)].handle == kLeftOut) a.group = AccessPlan::kNone;
    }

    std::span<const Decoded> code_;
    const bool code64_;
    const size_t loop_;
    decltype(AccessPlan::groups_)& groups_;
    AccessPlan::Accesses &memory_, &stack_;
    unsigned n_ = 0, next_ = 0;
    std::array<Symbolic, kStarts> registers_;
    std::array<int64_t, kStarts> strides_{};
    // Of two values.
    static constexpr unsigned kForgotten = ~0u;
    struct KnownSum {
        unsigned base, index, scale, value;
    };
    AccessPlan::List<KnownSum, 16> sums_;
    AccessPlan::List<int, 256> open_;  // by value: the group that goes on
};

int64_t displacementOf(const ZydisDecodedInstruction& z, const ZydisDecodedOperandMem& m) {
    const int64_t disp = absentBase(z) ? z.raw.disp.value : m.disp.value;
    // POP's operand is where it is with the stack pointer already raised.
    return z.mnemonic == ZYDIS_MNEMONIC_POP && generalOrPart(baseOf(z, m)) == int(kRsp)
               ? disp + z.operand_width / 8
               : disp;
}

ZydisRegister baseOf(const ZydisDecodedInstruction& z, const ZydisDecodedOperandMem& m) {
    return absentBase(z) ? ZYDIS_REGISTER_NONE : m.base;
}

void AccessPlan::make(std::span<const Decoded> code, bool code64, size_t loop) {
    clear();
    memory_.resize(code.size());
    stack_.resize(code.size());
    AccessPlanner(code, code64, loop, *this).run();
}

void AccessPlan::withdraw(unsigned instruction) {
    for (Group& g : groups_)
        if (g.checked && g.checkedBy == instruction) g.checked = false, g.alignment = 0;
}

bool AccessPlan::spans(unsigned instruction) const {
    return std::any_of(groups_.begin(), groups_.end(),
                       [&](const Group& g) { return g.checked && g.last > instruction; });
}

}  // namespace kiln
