#include "translate/promoted_code.hpp"

#include "apic/clock.hpp"
#include "cpu/state.hpp"
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;
using x86::eax;
using x86::ecx;
using x86::rax;
using x86::rcx;
using x86::rdx;

namespace {

x86::Gp sized(unsigned id, unsigned bytes) {
    switch (bytes) {
        case 1: return x86::gpb_lo(id);
        case 2: return x86::gpw(id);
        case 4: return x86::gpd(id);
        default: return x86::gpq(id);
    }
}

constexpr unsigned kRax = 0, kRdx = 2;  // the guest's

}  // namespace

#define KILN_OF_FRAME(member) frame(offsetof(HostFrame, member), sizeof(HostFrame::member))

PromotedCode::PromotedCode(const Surroundings& s) : s_(s) {
    code_.init(Environment::host(), uint64_t(s.at));
    code_.setErrorHandler(&refusal_);
    code_.attach(&a_);
    other_ = a_.newLabel();
    giveBack_ = a_.newLabel();
}

x86::Mem PromotedCode::frame(size_t at, unsigned bytes) const {
    return x86::ptr(x86::rsp, int32_t(at), bytes);
}

x86::Mem PromotedCode::processor(const void* place, unsigned bytes, const x86::Gp& base) const {
    return x86::ptr(base, int32_t(static_cast<const char*>(place) - static_cast<const char*>(s_.places.base)),
                    bytes);
}

x86::Mem PromotedCode::slot(unsigned guest, unsigned bytes) const {
    return frame(HostFrame::gprAt(guest), bytes);
}

void PromotedCode::toProcessor() { a_.mov(rax, KILN_OF_FRAME(processor)); }

// -- what must be so

void PromotedCode::requirePort(const Site& site, uint16_t port) {
    if (site.port == Site::kInDx) {
        a_.movzx(ecx, x86::gpw(uint32_t(kStandardMap.host[kRdx])));
        a_.cmp(ecx, port);
        a_.jne(other_);
    }
}

void PromotedCode::requirePortRights() {
    toProcessor();
    a_.cmp(processor(s_.places.cpl, 4, rax), 0);
    a_.jne(other_);
    a_.cmp(processor(s_.places.watchesPorts, 1, rax), 0);
    a_.jne(other_);
}

void PromotedCode::requireSlice(const Site& site, unsigned count) {
    a_.mov(rcx, KILN_OF_FRAME(slice));
    if (site.limited) a_.add(rcx, KILN_OF_FRAME(beyond));
    a_.cmp(rcx, int32_t(site.executed) + int32_t(count));
    a_.jle(other_);
}

void PromotedCode::requireCpl0() {
    toProcessor();
    a_.cmp(processor(s_.places.cpl, 4, rax), 0);
    a_.jne(other_);
}

void PromotedCode::requireProcessor(const void* processor) {
    a_.mov(rax, uint64_t(processor));
    a_.cmp(rax, KILN_OF_FRAME(processor));
    a_.jne(other_);
}

void PromotedCode::requireRegister(unsigned guest, uint32_t value) {
    if (kStandardMap.pinned(guest))
        a_.cmp(x86::gpd(uint32_t(kStandardMap.host[guest])), value);
    else
        a_.cmp(slot(guest, 4), value);
    a_.jne(other_);
}

void PromotedCode::requireWord(const uint32_t* place, uint32_t value) {
    toProcessor();
    a_.cmp(processor(place, 4, rax), value);
    a_.jne(other_);
}

// The operand's page is in the TLB as one of registers: its entry is at rax then.
void PromotedCode::requireEntry(bool write, const Tlb::Entry& entry, unsigned bytes) {
    toProcessor();
    a_.cmp(processor(s_.places.watchesData, 1, rax), 0);
    a_.jne(other_);
    a_.mov(rcx, KILN_OF_FRAME(operand));
    a_.mov(eax, ecx);
    if (bytes > 1) a_.add(rcx, bytes - 1);
    toEntry(a_, eax);
    a_.and_(rcx, -4096);
    if (const auto low = int32_t((write ? entry.writeTag : entry.readTag) & kPageMask)) a_.or_(rcx, low);
    a_.cmp(rcx, entryPart(write ? Tlb::kWriteTag : Tlb::kReadTag));
    a_.jne(other_);
}

void PromotedCode::requirePage(bool write, const Tlb::Entry& entry, uint64_t offset) {
    a_.mov(ecx, frame(offsetof(HostFrame, operand), 4));
    a_.and_(ecx, uint32_t(kPageMask));
    a_.cmp(ecx, uint32_t(offset));
    a_.jne(other_);
    requireEntry(write, entry, 1);
    a_.mov(rcx, entry.page);
    a_.cmp(rcx, entryPart(Tlb::kPage));
    a_.jne(other_);
}

void PromotedCode::requireRange(bool write, const Tlb::Entry& entry, unsigned bytes, uint64_t begin,
                                uint64_t size) {
    requireEntry(write, entry, bytes);
    a_.mov(rcx, entryPart(Tlb::kPage));
    a_.and_(rcx, -4096);
    a_.mov(eax, frame(offsetof(HostFrame, operand), 4));
    a_.and_(eax, uint32_t(kPageMask));
    a_.or_(rcx, rax);
    a_.mov(rax, begin);
    a_.sub(rcx, rax);
    a_.cmp(rcx, int32_t(size - bytes));
    a_.ja(other_);
}

void PromotedCode::loadOffset(uint64_t offset, bool inRange) {
    if (!inRange) return void(a_.mov(rdx, offset));
    a_.mov(rdx, rcx);
    if (offset) a_.add(rdx, int32_t(offset));
}

void PromotedCode::guard(const DirectRegister& r) {
    if (!r.guard) return;
    a_.mov(rax, uint64_t(r.guard));
    if (r.guardMask == 0xff) {
        a_.cmp(x86::byte_ptr(rax), r.guarded);
    } else {
        a_.movzx(eax, x86::byte_ptr(rax));
        a_.and_(eax, r.guardMask);
        a_.cmp(eax, r.guarded);
    }
    a_.jne(other_);
}

// -- what is done

// As CounterClock::now(): its comment tells what the numbers are.
void PromotedCode::nanoseconds() {
    a_.rdtsc();
    a_.shl(rdx, 32);
    a_.or_(rax, rdx);
    a_.mov(rcx, uint64_t(s_.places.time));
    a_.mov(rdx, x86::qword_ptr(rcx, offsetof(CounterTime, rate)));
    a_.test(rdx, rdx);
    a_.jz(other_);
    a_.sub(rax, x86::qword_ptr(rcx, offsetof(CounterTime, ticks)));
    a_.jc(other_);
    a_.mul(rdx);
    a_.shrd(rax, rdx, 32);
    a_.add(rax, x86::qword_ptr(rcx, offsetof(CounterTime, nanos)));
}

bool PromotedCode::read(const DirectRegister& from, unsigned size) {
    guard(from);
    switch (from.form) {
        case DirectRegister::Form::Constant: a_.mov(rcx, from.constant & openBus(size)); return true;
        case DirectRegister::Form::Place: {
            if (size > from.bytes && from.bytes != 1 && from.bytes != 4) return false;
            const unsigned bytes = std::min<unsigned>(size, from.bytes);
            a_.mov(rcx, uint64_t(from.place));
            if (bytes < 4)
                a_.movzx(ecx, x86::ptr(rcx, 0, bytes));
            else
                a_.mov(sized(1, bytes), x86::ptr(rcx, 0, bytes));
            break;
        }
        case DirectRegister::Form::Counter:
            if (!s_.places.time) return false;
            nanoseconds();
            if (from.since) {
                a_.mov(rcx, uint64_t(from.since));
                a_.sub(rax, x86::qword_ptr(rcx));
            }
            a_.mov(rcx, from.factor);
            a_.mul(rcx);
            if (from.shift) a_.shr(rdx, from.shift);
            if (from.from) {
                a_.mov(rcx, uint64_t(from.from));
                a_.add(rdx, x86::qword_ptr(rcx));
            }
            a_.mov(rcx, rdx);
            break;
        case DirectRegister::Form::Steps: return perform(*from.steps);
        default: return false;
    }
    if (~from.mask & openBus(size)) {
        a_.mov(rax, from.mask & openBus(size));
        a_.and_(rcx, rax);
    }
    if (from.constant) {
        a_.mov(rax, from.constant);
        a_.or_(rcx, rax);
    }
    return true;
}

bool PromotedCode::write(const DirectRegister& to, unsigned size) {
    guard(to);
    if (to.form == DirectRegister::Form::Constant) return true;
    if (to.form == DirectRegister::Form::Steps) {
        extend(size);
        return perform(*to.steps);
    }
    if (to.form != DirectRegister::Form::Place || size < to.bytes) return false;
    if (~to.mask & openBus(to.bytes)) {
        if (to.bytes == 8) return false;
        a_.and_(ecx, uint32_t(to.mask));
    }
    if (to.constant) a_.or_(ecx, uint32_t(to.constant));
    a_.mov(rax, uint64_t(to.place));
    a_.mov(x86::ptr(rax, 0, to.bytes), sized(1, to.bytes));
    return true;
}

// -- steps, for which two guest registers make room

namespace {

constexpr unsigned kRsi = 6, kRdi = 7;  // the guest's

const x86::Gp& hostOf(RegisterSteps::Register r) {
    static const x86::Gp kPlaces[] = {rcx, rdx, rax, x86::rsi, x86::rdi};
    return kPlaces[r];
}

}  // namespace

void PromotedCode::borrow(bool back) {
    for (const unsigned guest : {kRsi, kRdi}) {
        const x86::Gp r = x86::gpq(uint32_t(kStandardMap.host[guest]));
        back ? a_.mov(r, slot(guest, 8)) : a_.mov(slot(guest, 8), r);
    }
}

bool PromotedCode::perform(const RegisterSteps& steps) {
    using Op = RegisterSteps::Op;
    static_assert(kStandardMap.host[kRsi] == 6 && kStandardMap.host[kRdi] == 7);
    borrowed_ = true;
    borrow(false);
    a_.mov(hostOf(RegisterSteps::Device), uint64_t(steps.device));
    bool stored = false;
    for (const RegisterSteps::Step& s : steps.steps) {
        const RegisterSteps::Operand& o = s.operand;
        const x86::Gp to = hostOf(s.to), to32 = to.r32();
        x86::Mem memory;
        if (o.bytes) {
            if (!fits32(int64_t(o.constant))) return false;
            memory = x86::ptr(hostOf(o.base), int32_t(o.constant), o.bytes);
            if (o.index != RegisterSteps::Nothing)
                memory.setIndex(hostOf(o.index), uint32_t(std::countr_zero(o.scale)));
        }
        const bool isConstant = !o.bytes && o.base == RegisterSteps::Nothing;
        // Operands of arithmetic and conditions are as wide as that.
        if (s.op != Op::Move && s.op != Op::Store && o.bytes && o.bytes < 4 && s.op != Op::RequireEqual)
            return false;
        auto binary = [&](uint32_t instruction) {
            const bool wide = s.op == Op::Add && s.to == RegisterSteps::Pointer;
            const x86::Gp& r = wide ? to : to32;
            if (o.bytes) {
                memory.setSize(r.size());
                a_.emit(instruction, r, memory);
            } else if (isConstant) {
                a_.emit(instruction, r, Imm(int32_t(o.constant)));
            } else {
                a_.emit(instruction, r, wide ? hostOf(o.base) : hostOf(o.base).r32());
            }
        };
        switch (s.op) {
            case Op::Move:
                if (isConstant)
                    a_.mov(to, o.constant);
                else if (!o.bytes)
                    a_.mov(to, hostOf(o.base));
                else if (o.bytes < 4)
                    a_.movzx(to32, memory);
                else
                    a_.mov(o.bytes == 4 ? to32 : to, memory);
                break;
            case Op::Store:
                if (!o.bytes) return false;
                a_.mov(memory, sized(to.id(), o.bytes));
                stored = true;
                break;
            case Op::And: binary(x86::Inst::kIdAnd); break;
            case Op::Or: binary(x86::Inst::kIdOr); break;
            case Op::Xor: binary(x86::Inst::kIdXor); break;
            case Op::Add: binary(x86::Inst::kIdAdd); break;
            case Op::Subtract: binary(x86::Inst::kIdSub); break;
            case Op::Multiply:
                if (!isConstant) return false;
                a_.imul(to32, to32, int32_t(o.constant));
                break;
            case Op::ShiftLeft:
            case Op::ShiftRight:
                if (!isConstant) return false;
                s.op == Op::ShiftLeft ? a_.shl(to32, o.constant) : a_.shr(to32, o.constant);
                break;
            case Op::RequireEqual:
            case Op::RequireOther:
            case Op::RequireBelow:
                if (stored) return false;
                if (o.bytes && o.bytes < 4)
                    a_.cmp(memory, sized(to.id(), o.bytes));
                else
                    binary(x86::Inst::kIdCmp);
                s.op == Op::RequireEqual   ? a_.jne(giveBack_)
                : s.op == Op::RequireOther ? a_.je(giveBack_)
                                           : a_.jae(giveBack_);
                break;
        }
    }
    borrow(true);
    return true;
}

void PromotedCode::callHandler(uint32_t promotion) {
    a_.mov(eax, promotion);
    a_.jmp(uint64_t(s_.thunks.promoted));
}

void PromotedCode::loadRegister(unsigned guest, bool high) {
    if (kStandardMap.pinned(guest))
        a_.mov(rcx, x86::gpq(uint32_t(kStandardMap.host[guest])));
    else
        a_.mov(rcx, slot(guest, 8));
    if (high) a_.shr(rcx, 8);
}

void PromotedCode::extend(unsigned bytes) {
    if (bytes < 4)
        a_.movzx(ecx, sized(1, bytes));
    else if (bytes == 4)
        a_.mov(ecx, ecx);
}

void PromotedCode::loadConstant(uint64_t value) { a_.mov(rcx, value); }

void PromotedCode::storeRegister(unsigned guest, unsigned bytes, bool extended) {
    if (extended && bytes < 4) bytes = 4;  // rcx is
    const bool pinned = kStandardMap.pinned(guest);
    if (bytes == 4) bytes = 8, a_.mov(ecx, ecx);
    if (pinned)
        a_.mov(sized(unsigned(kStandardMap.host[guest]), bytes), sized(1, bytes));
    else
        a_.mov(slot(guest, bytes), sized(1, bytes));
}

void PromotedCode::storeHigh(unsigned guest) {
    static_assert(kStandardMap.pinned(0) && kStandardMap.pinned(1) && kStandardMap.pinned(2) &&
                  kStandardMap.pinned(3));
    a_.movzx(ecx, x86::cl);
    a_.shl(ecx, 8);
    const x86::Gp r = x86::gpq(uint32_t(kStandardMap.host[guest]));
    a_.and_(r, ~0xff00);
    a_.or_(r, rcx);
}

void PromotedCode::storeConstant(unsigned guest, uint32_t value) {
    if (kStandardMap.pinned(guest)) {
        a_.mov(x86::gpd(uint32_t(kStandardMap.host[guest])), value);
    } else {
        a_.mov(ecx, value);
        a_.mov(slot(guest, 8), rcx);
    }
}

void PromotedCode::readMsr(const MsrPlace& from) {
    toProcessor();
    switch (from.where) {
        case MsrPlace::Where::Constant: a_.mov(rcx, from.constant); break;
        case MsrPlace::Where::FsBase: a_.mov(rcx, KILN_OF_FRAME(fsBase)); break;
        case MsrPlace::Where::GsBase: a_.mov(rcx, KILN_OF_FRAME(gsBase)); break;
        default: a_.mov(rcx, processor(from.place, 8, rax)); break;
    }
    a_.mov(rdx, rcx);
    storeRegister(kRax, 4);
    a_.mov(rcx, rdx);
    a_.shr(rcx, 32);
    storeRegister(kRdx, 8);
}

void PromotedCode::writeMsr(const MsrPlace& to) {
    loadRegister(kRdx);
    a_.mov(rdx, rcx);
    a_.shl(rdx, 32);
    loadRegister(kRax);
    a_.mov(ecx, ecx);
    a_.or_(rcx, rdx);
    if (to.canonical) {
        const unsigned above = 64 - s_.places.linearBits;
        a_.mov(rdx, rcx);
        a_.shl(rdx, above);
        a_.sar(rdx, above);
        a_.cmp(rdx, rcx);
        a_.jne(other_);
    } else if (~to.mask) {
        a_.mov(rdx, ~to.mask);
        a_.test(rdx, rcx);
        a_.jnz(other_);
    }
    toProcessor();
    if (to.where == MsrPlace::Where::Field) return void(a_.mov(processor(to.place, 8, rax), rcx));
    const bool gs = to.where == MsrPlace::Where::GsBase;
    const unsigned segment = gs ? Gs : Fs;
    a_.mov(gs ? KILN_OF_FRAME(gsBase) : KILN_OF_FRAME(fsBase), rcx);
    a_.mov(processor(&s_.places.segment[segment]->base, 8, rax), rcx);
    a_.mov(processor(s_.places.fastBase[segment], 8, rax), rcx);
}

void PromotedCode::fence() { a_.mfence(); }

// -- the end

void PromotedCode::resume(TrapSite& counted, bool withFlags) {
    a_.mov(rax, uint64_t(&counted.promoted));
    a_.inc(x86::qword_ptr(rax));
    if (withFlags) {
        a_.mov(eax, frame(offsetof(HostFrame, flags), 4));
        a_.add(x86::al, 127);
        a_.sahf();
    }
    a_.jmp(uint64_t(s_.resume));
}

std::span<const uint8_t> PromotedCode::finish(size_t most) {
    if (borrowed_) {
        a_.bind(giveBack_);
        borrow(true);
    }
    a_.bind(other_);
    if (s_.otherwise) {
        a_.jmp(uint64_t(s_.otherwise));
    } else {
        a_.mov(eax, s_.site);
        a_.jmp(uint64_t(s_.thunks.callOutAt));
    }
    code_.flatten();
    code_.resolveUnresolvedLinks();
    code_.relocateToBase(uint64_t(s_.at));
    const auto& text = code_.sectionById(0)->buffer();
    if (code_.codeSize() > most || text.size() > most) return {};
    return {text.data(), text.size()};
}

}  // namespace kiln
