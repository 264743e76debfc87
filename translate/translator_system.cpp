// How host code goes on where modes and rights change under it, and where memory is not there: TLB misses and
// page faults, STAC and CLAC, the shadow of STI.
#include <cstring>
#include <utility>

#include "cpu/decoder.hpp"
#include "translate/translator.hpp"
#include "translate/vector_state.hpp"

namespace kiln {

void Translator::notePlaces() {
    static_assert(Cpu::kTscHz == kSecond);  // host code takes nanoseconds for ticks
    Cpu& c = cpu_;
    c.traps.follow(store_->inlineTraps, c.inlineTraps);
    places_ = {&c,
               &c.cpl,
               &c.flags.others(),
               &c.cr0,
               &c.cr2,
               &c.cr3,
               &c.cr4,
               &c.msr.kernelGsBase,
               {},
               {},
               &c.pendingDebug,
               &c.pkru,
               c.model.linearBits,
               c.io.clock.counter(),
               &c.tscOffset_,
               &c.msr.tscAux,
               &c.efer,
               &c.msr.star,
               &c.msr.lstar,
               &c.msr.sfmask,
               &c.msr.sysenterCs,
               &c.msr.sysenterEsp,
               &c.msr.sysenterEip,
               &c.committed_,
               &c.alignmentChecks_,
               &c.lookupTag_,
               &c.globalTag_,
               &c.dataTlb_,
               &c.cpuidState_,
               &c.breakpoints_.io,
               &c.breakpoints_.data,
               c.dr.data(),
               c.inlineTraps.data(),
               &c.gdtr,
               &c.nmiBlocked,
               &c.fpuTraps_,
               &c.fpuTrapsWithoutTs_};
    for (unsigned r = 0; r < 6; r++) {
        places_.segment[r] = &c.seg[r];
        places_.fastBase[r] = &c.fast_[r].base;
    }
}

// Whether the TLB can give both operands of a string instruction at once: they must be addresses at all
// before either is read, and pages that have one slot between them would take it from each other without end.
bool Translator::mayBothHit(uint64_t source, uint64_t destination) const {
    const uint64_t apart = source ^ destination;
    const bool oneSlot = uint32_t(apart) < kPageSize && apart >= kPageSize;
    return cpu_.canonical(source) && cpu_.canonical(destination) && !oneSlot;
}

const uint8_t* Translator::missed(HostFrame& f, Site& s, uint32_t number) {
    f.operand &= cpu_.linearMask_;
    const bool together = !s.pair || mayBothHit(f.gpr(Rsi), f.gpr(Rdi));
    if (s.again && together && !(s.aligned && f.operand & (s.bytes - 1u))) {
        Fault fault;
        const uint64_t generation = cpu_.dataTlb_->generation();
        switch (cpu_.probe(f.operand, s.bytes, s.write ? Access::Write : Access::Read, fault)) {
            case Cpu::Probe::Fills:
                if (store_->isDead(s)) break;  // its own code was what the walk marked
                statistics_.fills++;
                if (s.spanned && cpu_.dataTlb_->generation() != generation)
                    return withoutHandles(f, s, s.index);
                resume(f, s);
                return at(s.again);
            case Cpu::Probe::Faults: return raised(f, s, fault);
            case Cpu::Probe::Unclear: break;
        }
    }
    if (s.kind == Site::Kind::Miss)
        if (const uint8_t* host = registersInMemory(f, s, number)) return host;
    if (s.kind == Site::Kind::Before) return leaveInBlock(f, s, Exit::Instruction);
    if (s.strings) return strings(f, s);
    statistics_.misses++;
    return interpret(f, s);
}

// From an instruction on without what operands of the block share: it may no longer hold.
const uint8_t* Translator::withoutHandles(HostFrame& f, const Site& s, unsigned index) {
    HostBlock& t = *s.block;
    const uint64_t rip = ripOf(f.page + t.start.pageOffset() + t.offsets[index]);
    if (const uint8_t* host = index < t.count ? careful(t, index) : nullptr) return host;
    if (t.dead) return leave(f, rip, index, Exit::Dead);
    return leaveInBlock(f, s, Exit::Instruction, index - s.index);
}

// A fault of the site's instruction, in front of which everything is as it should be.
const uint8_t* Translator::raised(HostFrame& f, const Site& s, const Fault& fault) {
    if (const uint8_t* host = enterFaultHandler(f, s, fault)) return host;
    Cpu& c = cpu_;
    toCpu(f);
    c.rip = ripOf(f.page + uint64_t(s.target));
    c.slice_ = f.slice - s.index;
    c.block = nullptr;
    return faulted(f, fault);
}

// Delivers it, and goes on with the handler.
const uint8_t* Translator::faulted(HostFrame& f, const Fault& fault) {
    statistics_.faults++;
    if (f.x87 != X87Place::InCpu) VectorState::pointersToCpu(f, cpu_);
    cpu_.takeFault(fault);
    HostFrame& n = followContext(f);
    toFrame(n);
    return goOn(n);
}

// Behind STI the run loop steps over one instruction before it looks at interrupts. Host code may enter the
// next block as a whole when that is the same: nothing is pending, which STI's code has made sure of, and the
// instruction can't make anything so; the slice does not end behind it; and a block that begins behind it
// would end where this one does.
const uint8_t* Translator::behindSti(HostFrame& f, uint32_t number) {
    Site& s = store_->sites[number];
    const uint64_t rip = ripOf(f.page + uint64_t(s.target));
    const Block* b = f.slice > 1 ? findTarget(f, rip) : nullptr;
    if (b && b->hostBlock->beginsHarmlessly && b->count < Decoder::kMaxInsns) {
        f.page = linearOf(rip) & ~kPageMask;
        if (s.kind == Site::Kind::Link) return linkTo(number, *b, 0);
        return linkTo(number, *b, markOf(f.page, b->start.page()));
    }
    leave(f, rip, 0, f.slice > 1 ? Exit::Untranslated : Exit::Slice);
    cpu_.stiShadow = true;
    if (!b && f.slice > 1) makeHot(rip);
    return exit_;
}

// The block that begins behind STI is never entered by the run loop, and so never counted; it is as hot as
// the way to it. The buffer may be emptied: nothing of it is used any more.
void Translator::makeHot(uint64_t rip) {
    Cpu& c = cpu_;
    const uint64_t before = std::exchange(c.rip, rip);
    try {
        auto* b = const_cast<Block*>(c.findBlock(false));
        if (b && b->insns[0].run == counting) heatUp(*b, rip);
    } catch (const Fault&) {
        // The run loop will find it, too.
    }
    c.rip = before;
}

const uint8_t* Translator::changeAc(HostFrame& f, Site& s) {
    if (cpu_.cpl) return interpret(f, s);
    cpu_.flags.change(flag::AC, s.mnemonic == ZYDIS_MNEMONIC_STAC);
    cpu_.smapChanged();
    HostFrame& n = followSegments(f);
    return s.spanned && &n != &f ? withoutHandles(n, s, s.index + 1) : resume(n, s);
}

}  // namespace kiln
