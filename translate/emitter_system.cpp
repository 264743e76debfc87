// System instructions as host code, where they do no more than move some of the processor's state: SWAPGS,
// RDFSBASE and relatives, CLI, STI, CLD, STD, PUSHF, POPF, RDPKRU, SERIALIZE, reads of control registers and
// writes of what they have already, debug registers without breakpoints.
// What would fault, or what wants a look at interrupts, is the interpreter's or Translator::system's.
#include "apic/clock.hpp"
#include "cpu/fault.hpp"
#include "cpu/handlers.hpp"
#include "cpu/state.hpp"
#include "translate/emission.hpp"
#include "translate/vector_state.hpp"

namespace kiln {

using namespace asmjit;

// rax points at the processor from here on; flags are kept elsewhere than in the host's.
void BlockEmitter::toProcessor() {
    keepFlags();
    inHost_ = false;
    a_.mov(kIndex, KILN_FRAME(processor));
}

x86::Mem BlockEmitter::ofProcessor(const void* place, unsigned bytes, const Gp& base) const {
    const auto distance =
        static_cast<const char*>(place) - static_cast<const char*>(context_.terms.places.base);
    return x86::ptr(base, int32_t(distance), bytes);
}

// What would be a trap elsewhere is done now. Flags are not in the host's.
void BlockEmitter::countInline(TrapKind kind, const Gp& processor) {
    const uint64_t distance = insn_->offset;
    const size_t number = context_.terms.traps.number(block_->start.value + distance, kind,
                                                      context_.terms.rip ? context_.terms.rip + distance : 0);
    a_.add(ofProcessor(context_.terms.places.inlineTraps + number, 8, processor), 1);
}

void BlockEmitter::requireCpl0(Site::Kind otherwise) {
    toProcessor();
    a_.cmp(ofProcessor(context_.terms.places.cpl, 4), 0);
    a_.jne(slow(otherwise));
}

// What Translator::system and Translator::faultAhead want to know of the instruction.
void BlockEmitter::describeSystem(Site& s) const {
    s.bytes = z_->length;
    s.wide = z_->operand_width == 64;
    auto general = [&](unsigned n) {
        const bool is = z_->operand_count_visible > n && operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER;
        return uint8_t(is ? std::max(guestOf(operands_[n].reg.value), 0) : 0);
    };
    s.guest = general(1);
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_MOV: s.control = uint32_t(ZydisRegisterGetId(operands_[0].reg.value)); break;
        case ZYDIS_MNEMONIC_INT: s.constant = uint8_t(operands_[0].imm.value.u); break;
        case ZYDIS_MNEMONIC_INT3: s.constant = kBP; break;
        case ZYDIS_MNEMONIC_LMSW:
        case ZYDIS_MNEMONIC_INVPCID: s.guest = general(0); break;
        default: break;
    }
}

uint8_t BlockEmitter::raises() const {
    if (insn_->run == undefinedOpcode) return Site::Undefined;
    if (!decoded_) return Site::Nothing;
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_MOV:
            for (unsigned n = 0; n < 2; n++) {
                if (operands_[n].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
                const ZydisRegister r = operands_[n].reg.value;
                if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_CONTROL) return Site::WantsCpl0;
                if (ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_DEBUG && r != ZYDIS_REGISTER_DR4 &&
                    r != ZYDIS_REGISTER_DR5)
                    return Site::WantsCpl0;
            }
            return Site::Nothing;
        case ZYDIS_MNEMONIC_LMSW:
        case ZYDIS_MNEMONIC_CLTS:
        case ZYDIS_MNEMONIC_HLT:
        case ZYDIS_MNEMONIC_INVLPG:
        case ZYDIS_MNEMONIC_INVD:
        case ZYDIS_MNEMONIC_WBINVD:
        case ZYDIS_MNEMONIC_RDMSR:
        case ZYDIS_MNEMONIC_WRMSR:
        case ZYDIS_MNEMONIC_SWAPGS: return Site::WantsCpl0;
        case ZYDIS_MNEMONIC_CLI:
        case ZYDIS_MNEMONIC_STI: return Site::WantsIopl;
        case ZYDIS_MNEMONIC_INT:
        case ZYDIS_MNEMONIC_IRET:
        case ZYDIS_MNEMONIC_IRETD:
        case ZYDIS_MNEMONIC_PUSHF:
        case ZYDIS_MNEMONIC_PUSHFD:
        case ZYDIS_MNEMONIC_POPF:
        case ZYDIS_MNEMONIC_POPFD: return Site::WantsIoplInV86;
        default: return Site::Nothing;
    }
}

bool BlockEmitter::system() {
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_SWAPGS: return swapGs();
        case ZYDIS_MNEMONIC_RDFSBASE: return readBase(false);
        case ZYDIS_MNEMONIC_RDGSBASE: return readBase(true);
        case ZYDIS_MNEMONIC_WRFSBASE: return writeBase(false);
        case ZYDIS_MNEMONIC_WRGSBASE: return writeBase(true);
        case ZYDIS_MNEMONIC_CLTS: return clearTaskSwitched();
        case ZYDIS_MNEMONIC_LMSW: return loadMachineStatus();
        case ZYDIS_MNEMONIC_CLI: return clearInterrupts();
        case ZYDIS_MNEMONIC_STI: return setInterrupts();
        case ZYDIS_MNEMONIC_STAC:
        case ZYDIS_MNEMONIC_CLAC: return changeAc();
        case ZYDIS_MNEMONIC_PUSHF:
        case ZYDIS_MNEMONIC_PUSHFD:
        case ZYDIS_MNEMONIC_PUSHFQ: return pushFlags();
        case ZYDIS_MNEMONIC_POPFQ: return popFlags();
        case ZYDIS_MNEMONIC_CLD: return changeDirection(false);
        case ZYDIS_MNEMONIC_STD: return changeDirection(true);
        case ZYDIS_MNEMONIC_RDPKRU: return readKeys();
        case ZYDIS_MNEMONIC_SERIALIZE: a_.mfence(); return true;
        case ZYDIS_MNEMONIC_RDTSC:
        case ZYDIS_MNEMONIC_RDTSCP: return readTsc();
        default: return false;
    }
}

bool BlockEmitter::swapGs() {
    const ProcessorPlaces& p = context_.terms.places;
    requireCpl0();
    const Mem kernel = ofProcessor(p.kernelGsBase, 8);
    a_.mov(x86::rcx, KILN_FRAME(gsBase));
    a_.mov(x86::rdx, kernel);
    a_.mov(kernel, x86::rcx);
    setBase(true, x86::rdx);
    return true;
}

void BlockEmitter::setBase(bool gs, const Gp& value) {
    a_.mov(gs ? KILN_FRAME(gsBase) : KILN_FRAME(fsBase), value);
    const unsigned segment = gs ? Gs : Fs;
    a_.mov(ofProcessor(&context_.terms.places.segment[segment]->base, 8), value);
    a_.mov(ofProcessor(context_.terms.places.fastBase[segment], 8), value);
}

void BlockEmitter::requireFsGsBase() {
    toProcessor();
    a_.test(ofProcessor(context_.terms.places.cr4, 4), uint32_t(cr4::FSGSBASE));
    a_.jz(slow(Site::Kind::Miss));
}

bool BlockEmitter::readBase(bool gs) {
    requireFsGsBase();
    const auto guest = unsigned(guestOf(operands_[0].reg.value));
    a_.mov(x86::rcx, gs ? KILN_FRAME(gsBase) : KILN_FRAME(fsBase));
    if (operands_[0].size == 32) a_.mov(x86::ecx, x86::ecx);
    storeGuest(guest, x86::rcx);
    return true;
}

bool BlockEmitter::writeBase(bool gs) {
    requireFsGsBase();
    loadGuest(x86::rdx, unsigned(guestOf(operands_[0].reg.value)));
    if (operands_[0].size == 32) {
        a_.mov(x86::edx, x86::edx);
    } else {
        const unsigned above = 64 - context_.terms.places.linearBits;
        a_.mov(x86::rcx, x86::rdx);
        a_.shl(x86::rcx, above);
        a_.sar(x86::rcx, above);
        a_.cmp(x86::rcx, x86::rdx);
        a_.jne(slow(Site::Kind::Miss));
    }
    setBase(gs, x86::rdx);
    return true;
}

bool BlockEmitter::clearInterrupts() {
    requireCpl0();
    countInline(TrapKind::InterruptFlag);
    a_.and_(ofProcessor(context_.terms.places.flags, 4), ~uint32_t(flag::IF));
    return true;
}

// With nothing to deliver, all that is left of the shadow is that who leaves right behind STI says so.
bool BlockEmitter::setInterrupts() {
    const ProcessorPlaces& p = context_.terms.places;
    if (block_->single) return false;
    requireCpl0();
    const Mem flags = ofProcessor(p.flags, 4);
    a_.test(flags, uint32_t(flag::IF));
    a_.jnz(slow(Site::Kind::Miss));
    a_.cmp(ofProcessor(p.pendingDebug, 4), 0);
    a_.jne(slow(Site::Kind::Miss));
    a_.mov(x86::rcx, KILN_FRAME(attention));
    a_.cmp(x86::dword_ptr(x86::rcx), 0);
    a_.jne(slow(Site::Kind::Miss));
    a_.or_(flags, uint32_t(flag::IF));
    countInline(TrapKind::InterruptFlag);
    behindSti_ = true;
    return true;
}

// Both may change which TLB is looked into, and the frame is the TLB's.
bool BlockEmitter::changeAc() {
    saveFlags();
    const size_t site = addSite(Site::Kind::ChangeAc);
    moveRegisters(map_, kStandardMap);
    if (code64_) {
        a_.loadSite(uint32_t(site));
        a_.call(Imm(uint64_t(z_->mnemonic == ZYDIS_MNEMONIC_STAC ? context_.terms.thunks.stac
                                                                 : context_.terms.thunks.clac)));
    } else {
        callOut(site);
    }
    const Label resume = a_.newLabel();
    a_.bind(resume);
    moveRegisters(kStandardMap, map_);
    fixups_.push_back({site, resume, &Site::resume});
    inHost_ = false;
    vectors_ = VectorLevel::None;
    return true;
}

bool BlockEmitter::changeDirection(bool down) {
    toProcessor();
    const Mem flags = ofProcessor(context_.terms.places.flags, 4);
    down ? a_.or_(flags, uint32_t(flag::DF)) : a_.and_(flags, ~uint32_t(flag::DF));
    return true;
}

// MOV from CR0, CR2, CR3 or CR4.
bool BlockEmitter::readControl() {
    const ProcessorPlaces& p = context_.terms.places;
    const uint64_t* from = nullptr;
    switch (operands_[1].type == ZYDIS_OPERAND_TYPE_REGISTER ? operands_[1].reg.value : ZYDIS_REGISTER_NONE) {
        case ZYDIS_REGISTER_CR0: from = p.cr0; break;
        case ZYDIS_REGISTER_CR2: from = p.cr2; break;
        case ZYDIS_REGISTER_CR3: from = p.cr3; break;
        case ZYDIS_REGISTER_CR4: from = p.cr4; break;
        default: return false;
    }
    const int guest = guestOf(operands_[0].reg.value);
    if (guest < 0 || operands_[0].size < 32) return false;
    requireCpl0();
    countInline(TrapKind::ReadControl);
    if (operands_[0].size == 64)
        a_.mov(x86::rcx, ofProcessor(from, 8));
    else
        a_.mov(x86::ecx, ofProcessor(from, 4));
    storeGuest(unsigned(guest), x86::rcx);
    return true;
}

// MOV to CR0 or CR4 of what they have already, and to CR0 of another TS.
bool BlockEmitter::writeControl() {
    const ProcessorPlaces& p = context_.terms.places;
    const bool is0 = operands_[0].reg.value == ZYDIS_REGISTER_CR0, wide = operands_[1].size == 64;
    const int guest = guestOf(operands_[1].reg.value);
    if ((!is0 && operands_[0].reg.value != ZYDIS_REGISTER_CR4) || guest < 0) return false;
    const Label same = a_.newLabel();
    requireCpl0(Site::Kind::System);
    loadGuest(x86::rcx, unsigned(guest));
    const Mem now = ofProcessor(is0 ? p.cr0 : p.cr4, wide ? 8 : 4);
    if (wide)
        a_.xor_(x86::rcx, now);
    else
        a_.xor_(x86::ecx, now);
    if (is0) {
        a_.jz(same);
        if (wide)
            a_.cmp(x86::rcx, uint32_t(cr0::TS));
        else
            a_.cmp(x86::ecx, uint32_t(cr0::TS));
    }
    a_.jnz(slow(Site::Kind::System));
    if (is0) toggleTs();
    a_.bind(same);
    countInline(TrapKind::WriteControl);
    if (context_.terms.threaded) a_.mfence();
    return true;
}

// With the processor in rax.
void BlockEmitter::toggleTs() {
    const Mem now = ofProcessor(context_.terms.places.cr0, 4);
    const Label sets = a_.newLabel(), done = a_.newLabel();
    a_.test(now, uint32_t(cr0::TS));
    a_.jz(sets);
    clearTs();
    a_.jmp(done);
    a_.bind(sets);
    // Nothing may be loaded then.
    a_.cmp(KILN_FRAME(vectors), uint8_t(VectorLevel::None));
    a_.jne(slow(Site::Kind::System));
    a_.cmp(KILN_FRAME(x87), uint8_t(X87Place::InHost));
    a_.je(slow(Site::Kind::System));
    a_.or_(now, uint32_t(cr0::TS));
    constexpr uint64_t kAll = 0x01'01010101;
    a_.mov(x86::rcx, kAll);
    a_.mov(ofProcessor(context_.terms.places.fpuTraps, 8), x86::rcx);
    a_.mov(KILN_FRAME(refused), VectorState::kAll);
    a_.bind(done);
}

void BlockEmitter::clearTs() {
    const ProcessorPlaces& p = context_.terms.places;
    a_.and_(ofProcessor(p.cr0, 4), ~uint32_t(cr0::TS));
    a_.mov(x86::rcx, ofProcessor(p.fpuTrapsWithoutTs, 8));
    a_.mov(ofProcessor(p.fpuTraps, 8), x86::rcx);
    a_.movzx(x86::ecx, KILN_FRAME(refusedWithoutTs));
    a_.mov(KILN_FRAME(refused), x86::cl);
}

bool BlockEmitter::clearTaskSwitched() {
    const Label clear = a_.newLabel();
    requireCpl0();
    a_.test(ofProcessor(context_.terms.places.cr0, 4), uint32_t(cr0::TS));
    a_.jz(clear);
    clearTs();
    a_.bind(clear);
    countInline(TrapKind::WriteControl);
    return true;
}

// LMSW of what is there, or of another TS: it may leave PE away.
bool BlockEmitter::loadMachineStatus() {
    const int guest = operands_[0].type == ZYDIS_OPERAND_TYPE_REGISTER ? guestOf(operands_[0].reg.value) : -1;
    if (guest < 0) return false;
    const Label same = a_.newLabel();
    requireCpl0(Site::Kind::System);
    const Mem now = ofProcessor(context_.terms.places.cr0, 4);
    loadGuest(x86::rcx, unsigned(guest));
    a_.mov(x86::edx, now);
    a_.and_(x86::edx, uint32_t(cr0::PE));
    a_.or_(x86::ecx, x86::edx);
    a_.xor_(x86::ecx, now);
    a_.and_(x86::ecx, 15);
    a_.jz(same);
    a_.cmp(x86::ecx, uint32_t(cr0::TS));
    a_.jne(slow(Site::Kind::System));
    toggleTs();
    a_.bind(same);
    countInline(TrapKind::WriteControl);
    if (context_.terms.threaded) a_.mfence();
    return true;
}

// The number of a debug register other than the aliases DR4 and DR5.
static int debugNumber(ZydisRegister r) {
    const int n = ZydisRegisterGetId(r);
    return n == 4 || n == 5 || n > 7 ? -1 : n;
}

// MOV from DRn, without DR7.GD.
bool BlockEmitter::readDebug() {
    uint64_t* const debug = context_.terms.places.debug;
    const int n = debugNumber(operands_[1].reg.value), guest = guestOf(operands_[0].reg.value);
    if (n < 0 || guest < 0) return false;
    requireCpl0(Site::Kind::Miss);
    a_.test(ofProcessor(debug + 7, 4), uint32_t(dr7::GD));
    a_.jnz(slow(Site::Kind::Miss));
    countInline(TrapKind::Debug);
    if (operands_[0].size == 64)
        a_.mov(x86::rcx, ofProcessor(debug + n, 8));
    else
        a_.mov(x86::ecx, ofProcessor(debug + n, 4));
    storeGuest(unsigned(guest), x86::rcx);
    return true;
}

// MOV to DRn while no breakpoint is enabled; to DR7, of what it has already.
bool BlockEmitter::writeDebug() {
    uint64_t* const debug = context_.terms.places.debug;
    const int n = debugNumber(operands_[0].reg.value), guest = guestOf(operands_[1].reg.value);
    if (n < 0 || guest < 0) return false;
    requireCpl0(Site::Kind::Miss);
    const Mem control = ofProcessor(debug + 7, 4), it = ofProcessor(debug + n, 8);
    const uint32_t stops = n == 7 ? 0 : uint32_t(dr7::kEnables);
    a_.test(control, uint32_t(dr7::GD) | stops);
    a_.jnz(slow(Site::Kind::Miss));
    loadGuest(x86::rcx, unsigned(guest));
    if (operands_[1].size == 32) a_.mov(x86::ecx, x86::ecx);
    if (n >= 6) {
        a_.mov(x86::edx, x86::ecx);
        a_.cmp(x86::rdx, x86::rcx);
        a_.jne(slow(Site::Kind::Miss));
        a_.and_(x86::ecx, uint32_t(n == 6 ? dr6::kWritable : dr7::kWritable));
        a_.or_(x86::ecx, uint32_t(n == 6 ? dr6::kFixed : dr7::kFixed));
    }
    if (n == 7) {
        a_.cmp(x86::rcx, it);
        a_.jne(slow(Site::Kind::Miss));
    } else {
        a_.mov(it, x86::rcx);
    }
    countInline(TrapKind::Debug);
    if (context_.terms.threaded) a_.mfence();
    return true;
}

// RDPKRU.
bool BlockEmitter::readKeys() {
    toProcessor();
    a_.test(ofProcessor(context_.terms.places.cr4, 4), uint32_t(cr4::PKE));
    a_.jz(slow(Site::Kind::Miss));
    loadGuest(x86::rcx, 1);
    a_.test(x86::ecx, x86::ecx);
    a_.jnz(slow(Site::Kind::Miss));
    a_.mov(x86::ecx, ofProcessor(context_.terms.places.pkru, 4));
    storeGuest(0, x86::rcx);
    a_.mov(x86::ecx, 0);
    storeGuest(2, x86::rcx);
    return true;
}

// RDTSC and RDTSCP where guest time is read off the host's counter. The host's LFENCE is there for the
// guest's, of which nothing else is emitted.
bool BlockEmitter::readTsc() {
    const ProcessorPlaces& p = context_.terms.places;
    if (!p.time) return false;
    toProcessor();
    a_.test(ofProcessor(p.cr4, 4), uint32_t(cr4::TSD));
    a_.jnz(slow(Site::Kind::Miss));
    a_.lfence();
    a_.rdtsc();
    a_.shl(x86::rdx, 32);
    a_.or_(x86::rax, x86::rdx);
    a_.mov(x86::rcx, uint64_t(uintptr_t(p.time)));
    a_.mov(x86::rdx, x86::qword_ptr(x86::rcx, offsetof(CounterTime, rate)));
    a_.test(x86::rdx, x86::rdx);
    a_.jz(slow(Site::Kind::Miss));
    a_.sub(x86::rax, x86::qword_ptr(x86::rcx, offsetof(CounterTime, ticks)));
    a_.jc(slow(Site::Kind::Miss));
    a_.mul(x86::rdx);
    a_.shrd(x86::rax, x86::rdx, 32);
    a_.add(x86::rax, x86::qword_ptr(x86::rcx, offsetof(CounterTime, nanos)));
    a_.mov(x86::rcx, KILN_FRAME(processor));
    a_.add(x86::rax, ofProcessor(p.tscOffset, 8, x86::rcx));
    countInline(TrapKind::Rdtsc, x86::rcx);
    a_.mov(x86::rdx, x86::rax);
    a_.shr(x86::rdx, 32);
    a_.mov(x86::eax, x86::eax);
    storeGuest(0, x86::rax);
    storeGuest(2, x86::rdx);
    if (z_->mnemonic == ZYDIS_MNEMONIC_RDTSCP) {
        a_.mov(x86::ecx, ofProcessor(p.tscAux, 4, x86::rcx));
        storeGuest(1, x86::rcx);
    }
    return true;
}

bool BlockEmitter::pushFlags() {
    const unsigned bytes = z_->operand_width / 8;
    if (inFrame(4) || (segmented() ? context_.surroundings.v86 : z_->operand_width != bits())) return false;
    saveFlags();
    Address to = stack(-int32_t(bytes), bytes, true);
    if (to.usesRdx) moveAddressTo(to, kIndex);
    a_.movzx(x86::ecx, inFrameAt(offsetof(HostFrame, flags) + 1, 1));
    a_.movzx(x86::edx, inFrameAt(offsetof(HostFrame, flags), 1));
    a_.and_(x86::edx, 1);
    a_.shl(x86::edx, 11);
    a_.or_(x86::ecx, x86::edx);
    a_.mov(x86::rdx, KILN_FRAME(processor));
    a_.or_(x86::ecx, ofProcessor(context_.terms.places.flags, 4, x86::rdx));
    a_.or_(x86::ecx, 2);
    a_.and_(x86::ecx, ~uint32_t(flag::RF | flag::VM));
    a_.mov(to.mem.cloneResized(bytes), sized(int(x86::rcx.id()), bytes * 8));
    addToStack(-int32_t(bytes));
    return true;
}

// At CPL 0, of flags that differ in IF, DF and the arithmetic ones, with nothing to deliver.
bool BlockEmitter::popFlags() {
    constexpr auto kPlain = uint32_t(flag::IF | flag::DF),
                   kOthers = uint32_t(flag::TF | flag::NT | flag::AC | flag::ID | flag::IOPL);
    if (!code64_ || z_->operand_width != 64 || block_->single) return false;
    saveFlags();
    const Address from = stack(0, 8, false);
    a_.mov(x86::rdx, from.mem.cloneResized(8));
    requireCpl0();
    const Mem flags = ofProcessor(context_.terms.places.flags, 4);
    a_.mov(x86::ecx, flags);
    a_.xor_(x86::ecx, x86::edx);
    a_.test(x86::ecx, kOthers);
    a_.jnz(slow(Site::Kind::Miss));
    const Label quiet = a_.newLabel();
    a_.test(x86::edx, uint32_t(flag::IF));
    a_.jz(quiet);
    a_.mov(x86::rcx, KILN_FRAME(attention));
    a_.cmp(x86::dword_ptr(x86::rcx), 0);
    a_.jne(slow(Site::Kind::Miss));
    a_.bind(quiet);
    countInline(TrapKind::Popf);
    a_.mov(x86::ecx, x86::edx);
    a_.and_(x86::ecx, kPlain);
    a_.and_(flags, ~kPlain);
    a_.or_(flags, x86::ecx);
    a_.mov(x86::ecx, x86::edx);
    toFlagsImage();
    a_.mov(KILN_FRAME(flags), x86::rdx);
    addToStack(8);
    return true;
}

}  // namespace kiln
