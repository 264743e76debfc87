// Where operands are: registers, linear addresses, the TLB.
#include "cpu/state.hpp"
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

// -- operands

x86::Gp BlockEmitter::sized(int host, unsigned bits) {
    switch (bits) {
        case 8: return x86::gpb_lo(uint32_t(host));
        case 16: return x86::gpw(uint32_t(host));
        case 32: return x86::gpd(uint32_t(host));
        default: return x86::gpq(uint32_t(host));
    }
}

x86::Mem BlockEmitter::slot(unsigned guest, unsigned bytes) const {
    return inFrameAt(HostFrame::gprAt(guest), bytes);
}

void BlockEmitter::loadGuest(const Gp& scratch, unsigned guest) {
    if (inFrame(int(guest)))
        a_.mov(scratch.r64(), slot(guest));
    else
        a_.mov(scratch.r64(), pinned(guest, 64));
}

void BlockEmitter::storeGuest(unsigned guest, const Gp& scratch) {
    if (inFrame(int(guest)))
        a_.mov(slot(guest), scratch.r64());
    else
        a_.mov(pinned(guest, 64), scratch.r64());
}

// The 64-bit host register with an address register's value; `scratch` where it is in the frame.
x86::Gp BlockEmitter::baseRegisterOf(int guest, const Gp& scratch) {
    if (!inFrame(guest)) return pinned(unsigned(guest), 64);
    a_.mov(scratch, slot(unsigned(guest)));
    return scratch;
}

void BlockEmitter::linearAddress(const ZydisDecodedOperandMem& m, const Gp& out) {
    int64_t disp = displacementOf(*z_, m);
    const ZydisRegister base = baseOf(*z_, m);
    const bool ipRelative = base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP;
    if (ipRelative) {
        disp += nextOffset();
        a_.mov(kLinear, KILN_FRAME(page));
    }
    if (base == ZYDIS_REGISTER_NONE && m.index == ZYDIS_REGISTER_NONE) {
        const uint64_t mask = ~0ull >> (64 - z_->address_width);
        a_.mov(out.r64(), int64_t(uint64_t(disp) & mask));
    } else {
        Mem sum;
        if (base == ZYDIS_REGISTER_NONE || !fits32(disp)) {
            // What does not fit an instruction joins by hand.
            if (base == ZYDIS_REGISTER_NONE) {
                a_.mov(kLinear, disp);
            } else {
                const Gp b = ipRelative ? kLinear : baseRegister(base, kLinear);
                a_.mov(kTag, disp);
                a_.lea(kLinear, x86::ptr(b, kTag));
            }
            sum = x86::ptr(kLinear);
        } else {
            sum = x86::ptr(ipRelative ? kLinear : baseRegister(base, kLinear), int32_t(disp));
        }
        if (m.index != ZYDIS_REGISTER_NONE) {
            const Gp index = baseRegister(m.index, kTag);
            sum.setIndex(index, m.scale == 8 ? 3 : m.scale == 4 ? 2 : m.scale == 2 ? 1 : 0);
        }
        a_.lea(out, sum);
        if (z_->address_width == 16) a_.movzx(out.r32(), out.r16());
    }
    if (code64_ && m.segment == ZYDIS_REGISTER_FS) a_.add(kLinear, KILN_FRAME(fsBase));
    if (code64_ && m.segment == ZYDIS_REGISTER_GS) a_.add(kLinear, KILN_FRAME(gsBase));
}

BlockEmitter::Address BlockEmitter::access(const ZydisDecodedOperandMem& m, unsigned bytes, bool write) {
    if (const AccessPlan::Access shared = plan_.memory(index_); shared.group >= 0) {
        if (plan_.group(shared.group).start == AccessPlan::Start::Sum) return groupedSum(shared, m, bytes);
        return grouped(shared, unsigned(std::max(guestOf(baseOf(*z_, m)), 0)), displacementOf(*z_, m), bytes);
    }
    keepFlags();
    const int64_t disp = displacementOf(*z_, m);
    constexpr int64_t kNear = 1 << 20;  // outside 64-bit code a larger one may be meant to wrap
    const ZydisRegister base = baseOf(*z_, m);
    const bool segment = needsSegment(m.segment);
    const bool simple = !segment && z_->address_width == bits() && m.index == ZYDIS_REGISTER_NONE &&
                        base != ZYDIS_REGISTER_NONE && base != ZYDIS_REGISTER_RIP &&
                        m.segment != ZYDIS_REGISTER_FS && m.segment != ZYDIS_REGISTER_GS &&
                        (code64_ ? fits32(disp + 64) : disp > -kNear && disp < kNear) &&
                        !inFrame(guestOf(base));
    if (!simple) {
        linearAddress(m, address());
        if (segment) throughSegment(segmentOf(m.segment), z_->address_width, bytes, write);
        return check(nullptr, bytes, write);
    }
    const Mem direct = x86::ptr(pinned(unsigned(guestOf(base)), 64), int32_t(disp));
    return check(&direct, bytes, write);
}

// An implied operand on the stack: `disp` from a guest register.
BlockEmitter::Address BlockEmitter::stack(int32_t disp, unsigned bytes, bool write, unsigned base) {
    if (const AccessPlan::Access shared = plan_.stack(index_); shared.group >= 0)
        return grouped(shared, base, disp, bytes);
    keepFlags();
    if (segmented()) {
        a_.lea(x86::edx, x86::ptr(pinned(base, 64), disp));
        if (stackBits() == 16) a_.movzx(x86::edx, x86::dx);
        throughSegment(2, stackBits(), bytes, write);
        return check(nullptr, bytes, write);
    }
    if (!inFrame(int(base))) {
        const Mem direct = x86::ptr(pinned(base, 64), disp);
        return check(&direct, bytes, write);
    }
    loadGuest(kLinear, base);
    a_.lea(sized(int(x86::rdx.id()), bits()), x86::ptr(kLinear, disp));
    return check(nullptr, bytes, write);
}

// -- operands that share a look-up

x86::Gp BlockEmitter::startOf(const AccessPlan::Group& group, unsigned base) {
    switch (group.start) {
        case AccessPlan::Start::Register:
        case AccessPlan::Start::Sum:  // its base
            if (!inFrame(int(base))) return pinned(base, 64);
            a_.mov(kLinear, slot(base));
            break;
        case AccessPlan::Start::Rip: a_.mov(kLinear, KILN_FRAME(page)); break;
        case AccessPlan::Start::Fs: a_.mov(kLinear, KILN_FRAME(fsBase)); break;
        case AccessPlan::Start::Gs: a_.mov(kLinear, KILN_FRAME(gsBase)); break;
    }
    return kLinear;
}

// What a group finds is the addend, or for one that does not start from a register the host address of its
// start.
BlockEmitter::Address BlockEmitter::grouped(const AccessPlan::Access& access, unsigned base, int64_t disp,
                                            unsigned bytes) {
    AccessPlan::Group& g = plan_.group(access.group);
    const bool fromRegister = g.start == AccessPlan::Start::Register;
    if (!fromRegister) disp = access.at;
    const bool aligned = knownAligned(access, bytes);
    if (!g.checked || !aligned) keepFlags();
    Gp start;
    if (!g.checked) {
        start = startOf(g, base);
        checkGroup(access, start, disp);
        if (!fromRegister) a_.add(kIndex, start);
        noteHandle(access);
    } else {
        loadHandle(access);
        if (fromRegister) start = startOf(g, base);
    }
    const Mem mem =
        fromRegister ? x86::ptr(kIndex, start, 0, int32_t(disp)) : x86::ptr(kIndex, int32_t(disp));
    if (!aligned) checkAlignment(access, mem, bytes);
    return {mem, fromRegister && start == kLinear};
}

// Of two registers: what the group finds is the host address of its base.
BlockEmitter::Address BlockEmitter::groupedSum(const AccessPlan::Access& access,
                                               const ZydisDecodedOperandMem& m, unsigned bytes) {
    AccessPlan::Group& g = plan_.group(access.group);
    const bool aligned = knownAligned(access, bytes);
    if (!g.checked || !aligned) keepFlags();
    if (!g.checked) {
        linearAddress(m, kLinear);
        checkGroup(access, kLinear, 0);
        const auto base = unsigned(guestOf(m.base));
        inFrame(int(base)) ? a_.add(kIndex, slot(base)) : a_.add(kIndex, pinned(base, 64));
        if (access.base) a_.sub(kIndex, access.base);
        noteHandle(access);
    } else {
        loadHandle(access);
    }
    const Gp index = baseRegister(m.index, kLinear);
    const Mem mem = x86::ptr(kIndex, index, g.scale, int32_t(access.base + displacementOf(*z_, m)));
    if (!aligned) checkAlignment(access, mem, bytes);
    return {mem, index == kLinear};
}

bool BlockEmitter::knownAligned(const AccessPlan::Access& access, unsigned bytes) {
    const AccessPlan::Group& g = plan_.group(access.group);
    return !mustBeAligned(bytes) || (g.alignment >= bytes && (access.at - g.aligned) % int64_t(bytes) == 0);
}

void BlockEmitter::checkAlignment(const AccessPlan::Access& access, const Mem& mem, unsigned bytes) {
    AccessPlan::Group& g = plan_.group(access.group);
    a_.lea(kTag, mem);
    a_.test(x86::cl, uint8_t(bytes - 1));
    // Only an atomic one goes on behind it, and is not aligned then.
    a_.jnz(slow(nearBranchInstruction_ ? Site::Kind::Before : Site::Kind::Miss, !isAtomic()));
    inHost_ = false;
    g.alignment = bytes;
    g.aligned = access.at;
}

void BlockEmitter::loadHandle(const AccessPlan::Access& access) {
    if (a_.raxHolds() == access.group) return;
    a_.mov(kIndex, handle(plan_.group(access.group)));
    a_.nowRaxHolds(access.group);
}

// Has what rax holds kept for the others.
void BlockEmitter::noteHandle(const AccessPlan::Access& access) {
    const AccessPlan::Group& g = plan_.group(access.group);
    if (g.last > index_ || plan_.stack(index_).group == access.group) a_.mov(handle(g), kIndex);
    a_.nowRaxHolds(access.group);
}

x86::Mem BlockEmitter::handle(const AccessPlan::Group& group) const {
    return inFrameAt(offsetof(HostFrame, handles) + group.handle * 8);
}

void BlockEmitter::checkGroup(const AccessPlan::Access& access, const Gp& start, int64_t disp) {
    AccessPlan::Group& g = plan_.group(access.group);
    const auto low = int32_t(disp + (g.low - access.at)), high = int32_t(disp + (g.high - access.at));
    a_.lea(x86::eax, x86::ptr(start, low));
    a_.lea(kTag, x86::ptr(start, high - 1));
    toEntry(a_);
    a_.and_(kTag, -4096);
    a_.cmp(kTag, entryPart(g.writes ? Tlb::kWriteTag : Tlb::kReadTag));
    Label behind;
    a_.jne(g.writes && !g.stride ? careful(x86::ptr(start, low), g.high - g.low, behind) : careful());
    if (behind.isValid()) a_.bind(behind);
    a_.mov(kIndex, entryPart(Tlb::kAddend));
    g.checked = true;
    g.checkedBy = index_;
    inHost_ = false;
}

// To the careful version of the block, from this instruction on.
Label BlockEmitter::careful() {
    const Label from = a_.newLabel(), call = a_.newLabel();
    const size_t site = addSite(Site::Kind::Careful);
    addTail(from, site, inFrame_ ? Recipe{} : recipe_).jump = call;
    addTail(call, site).map = kStandardMap;
    return from;
}

// The same, unless what is written lies beside code.
Label BlockEmitter::careful(const Mem& first, int64_t bytes, Label& behind) {
    if (!context_.terms.thunks.besideRange) return careful();
    const Label look = a_.newLabel();
    behind = a_.newLabel();
    Tail& t = addTail(look, 0, {});
    t.operand = first, t.range = int32_t(bytes), t.behind = behind;
    careful();
    return look;
}

BlockEmitter::Address BlockEmitter::check(const Mem* simple, unsigned bytes, bool write) {
    Mem last;
    const int32_t reach = mustBeAligned(bytes) ? 0 : int32_t(bytes - 1);
    const Label again = a_.newLabel();
    a_.bind(again);
    if (simple) {
        const Gp base = simple->baseReg().as<Gp>();
        if (simple->offset() == 0)
            a_.mov(x86::eax, base.r32());
        else
            a_.lea(x86::eax, *simple);
        last = simple->cloneAdjusted(reach);
    } else {
        a_.mov(x86::eax, x86::edx);
        last = x86::ptr(kLinear, reach);
    }
    if (last.offset() == 0)
        a_.mov(kTag, last.baseReg().as<Gp>());
    else
        a_.lea(kTag, last);
    toEntry(a_);
    // One that must be aligned crosses no page, and its low address bits take part in the comparison.
    a_.and_(kTag, mustBeAligned(bytes) ? -4096 | int32_t(bytes - 1) : -4096);
    a_.cmp(kTag, entryPart(write ? Tlb::kWriteTag : Tlb::kReadTag));
    Label behind;
    a_.jne(missing(simple ? *simple : x86::ptr(kLinear), bytes, write, again, &behind));
    if (behind.isValid()) a_.bind(behind);
    a_.mov(kIndex, entryPart(Tlb::kAddend));
    inHost_ = false;
    if (!simple) return {x86::ptr(kIndex, kLinear), true};
    Mem mem = *simple;
    mem.setIndex(mem.baseReg().as<Gp>(), 0);
    mem.setBase(kIndex);
    return {mem, false};
}

void BlockEmitter::moveAddressTo(Address& a, const Gp& reg) {
    a_.lea(reg, a.mem);
    a.mem = x86::ptr(reg);
    a.usesRdx = reg == kLinear;
}

void BlockEmitter::addToStack(int32_t n) {
    static_assert(kStandardMap.pinned(4));
    a_.lea(pinned(4, stackBits()), x86::ptr(pinned(4, 64), n));
}

}  // namespace kiln
