// Changes of the privilege level and of the address space as host code has them done: SYSCALL, SYSRET,
// interrupts of the local APIC, INT n, faults, IRETQ, INVLPG, INVPCID, writes of control registers where
// nothing about them is out of the ordinary, without the interpreter and on to the next host code at once.
// (Those outside 64-bit mode are in translator_legacy.cpp.) And RDTSC and RDTSCP.
// cpu/system.cpp and cpu/segments.cpp tell what they do; what needs more than is here is left to them: single
// steps, faults, descriptors that are not accessed yet, other modes, anything pending.
#include "cpu/flat_segment.hpp"
#include "translate/flag_image.hpp"
#include "translate/translator.hpp"
#include "translate/vector_state.hpp"

namespace kiln {

static constexpr uint64_t kAccessed = 1ull << 40;  // in a descriptor

const uint8_t* Translator::system(HostFrame& f, Site& s) {
    const uint64_t rip = ripOf(f, s);
    auto done = [&](TrapKind kind, const uint8_t* host) {
        TrapSite& t = cpu_.traps.at(rip, kind);
        t.state = TrapSite::State::Inline;
        t.promoted++;
        return host;
    };
    if (f.x87 != X87Place::InCpu) VectorState::pointersToCpu(f, cpu_);  // while CS is the same
    const bool free = mayCross(f), in64 = s.block->mode == CodeMode::Code64;
    switch (s.mnemonic) {
        case ZYDIS_MNEMONIC_RDTSC:
        case ZYDIS_MNEMONIC_RDTSCP:
            if (readTsc(f, s)) return done(TrapKind::Rdtsc, resume(f, s));
            break;
        case ZYDIS_MNEMONIC_SYSCALL:
            if (free && in64 && systemCall(f, s)) return done(TrapKind::SystemCall, crossed(f, s));
            break;
        case ZYDIS_MNEMONIC_SYSRET:
            if (free && in64 && systemReturn(f, s)) return done(TrapKind::SystemReturn, crossed(f, s));
            break;
        case ZYDIS_MNEMONIC_SYSENTER:
            if (free && systemEnter(f)) return done(TrapKind::SystemCall, crossed(f, s));
            break;
        case ZYDIS_MNEMONIC_SYSEXIT:
            if (free && systemExit(f, s)) return done(TrapKind::SystemReturn, crossed(f, s));
            break;
        case ZYDIS_MNEMONIC_IRET:
        case ZYDIS_MNEMONIC_IRETD:
            if (free && !in64 && interruptReturnLegacy(f, s)) return done(TrapKind::Iret, crossed(f, s));
            break;
        case ZYDIS_MNEMONIC_IRETQ:
            if (free && interruptReturn(f)) return done(TrapKind::Iret, crossed(f, s));
            break;
        case ZYDIS_MNEMONIC_MOV:
        case ZYDIS_MNEMONIC_LMSW:
            if (free && !cpu_.cpl)
                if (const uint8_t* host = writeControl(f, s)) return done(TrapKind::WriteControl, host);
            break;
        case ZYDIS_MNEMONIC_INVLPG:
            if (free && !cpu_.cpl) return done(TrapKind::Invlpg, invalidatePage(f, s));
            break;
        case ZYDIS_MNEMONIC_INVPCID:
            if (free && in64 && invalidatePcid(f, s)) return done(TrapKind::Invpcid, behind(f, s));
            break;
        case ZYDIS_MNEMONIC_HLT:
            if (free && !cpu_.cpl && cpu_.flags.test(flag::IF))
                if (const uint8_t* host = halt(f, s)) return done(TrapKind::Hlt, host);
            break;
        case ZYDIS_MNEMONIC_INT:
        case ZYDIS_MNEMONIC_INT3:
            if (free && softwareInterrupt(f, s)) return done(TrapKind::Interrupt, crossed(f, s));
            break;
        default: break;
    }
    interpreted_[s.mnemonic]++;
    return interpret(f, s);
}

bool Translator::readTsc(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    if (c.cr4 & cr4::TSD && c.cpl && !c.real()) return false;
    c.slice_ = f.slice - s.block->count;
    const uint64_t v = c.tsc();
    f.gpr(Rax) = uint32_t(v);
    f.gpr(Rdx) = v >> 32;
    if (s.mnemonic == ZYDIS_MNEMONIC_RDTSCP) f.gpr(Rcx) = uint32_t(c.msr.tscAux);
    return true;
}

// Whether behind the instruction there would be nothing to do but to go on.
bool Translator::mayCross(const HostFrame& f) const {
    const Cpu& c = cpu_;
    return !recording_ && !c.breakpoints_.code && !c.flags.test(flag::TF | flag::NT) && !c.pendingDebug &&
           !f.attention->load(std::memory_order_relaxed) && !c.io.log.on(LogCategory::Exec);
}

bool Translator::systemCall(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    if (!(c.efer & efer::SCE)) return false;
    const uint64_t before = c.flags.others() | arithmeticFlags(f.flags) | 2;
    f.gpr(Rcx) = ripOf(f.page + uint64_t(s.target)) + s.bytes;
    f.gpr(R11) = before & ~flag::RF;
    const auto cs = uint16_t(c.msr.star >> 32 & 0xfffc);
    c.seg[Cs] = flatSegment(cs, 0, true, true);
    c.seg[Ss] = flatSegment(uint16_t(cs + 8), 0, false, false);
    c.cpl = 0;
    f.rip = c.msr.lstar;
    setFlags(f, before & ~(c.msr.sfmask | flag::RF));
    return true;
}

bool Translator::systemReturn(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    const uint64_t target = f.gpr(Rcx), image = f.gpr(R11) & 0x3c7fd7;
    if (!s.wide || !(c.efer & efer::SCE) || c.cpl || !c.canonical(target) || image & (flag::TF | flag::AC))
        return false;
    const auto base = uint16_t(c.msr.star >> 48);
    c.seg[Cs] = flatSegment(uint16_t((base + 16) | 3), 3, true, true);
    c.seg[Ss] = flatSegment(uint16_t((base + 8) | 3), 3, false, false);
    c.cpl = 3;
    f.rip = target;
    setFlags(f, image);
    return true;
}

// Of a present and accessed segment, by what the TLB knows; 0 where there is more to be done or to be said. A
// null selector names no descriptor, even where the table's first one looks like one.
uint64_t Translator::plainDescriptor(uint16_t selector) const {
    Cpu& c = cpu_;
    const uint32_t index = selector & ~7u;
    if (!index || selector & 4 || index + 7 > c.gdtr.limit) return 0;
    const uint64_t linear = c.gdtr.base + index;
    const Tlb& tlb = c.tlbFor(false, true);
    const uint8_t* place = tlb.find(linear, 8, false);
    const uint64_t d = place ? loadGuest<uint64_t>(place) : 0;
    return d & kAccessed ? d : 0;
}

// A present segment of 64-bit code, for that level alone.
static bool isCodeOf(const Segment& s, unsigned level) {
    return s.present() && s.isCode() && !s.conforming() && s.dpl() == level && s.longMode() && !s.big();
}

// And of compatibility mode.
static bool isOldCodeOf(const Segment& s, unsigned level) {
    return s.present() && s.isCode() && !s.conforming() && s.dpl() == level && !s.longMode();
}

bool Translator::interruptReturn(HostFrame& f) {
    Cpu& c = cpu_;
    const uint8_t* items = c.cpl ? nullptr : c.dataTlb_->find(f.gpr(Rsp), 40, false);
    if (!items) return false;
    auto item = [&](unsigned n) { return loadGuest<uint64_t>(items + 8 * n); };
    const uint64_t target = item(0), image = item(2);
    const auto csSelector = uint16_t(item(1)), ssSelector = uint16_t(item(4));
    const unsigned level = csSelector & 3;
    if (!c.canonical(target) || image & flag::TF || (level && image & flag::AC)) return false;

    const uint64_t csDescriptor = plainDescriptor(csSelector);
    const Segment cs = Cpu::unpack(csSelector, csDescriptor);
    const bool to64 = isCodeOf(cs, level);
    if (!to64 && (level != 3 || !isOldCodeOf(cs, level) || target > cs.limit)) return false;
    uint64_t ssDescriptor = csDescriptor;
    Segment ss{.selector = ssSelector, .rights = uint16_t(level << 5), .unusable = true};
    if ((ssSelector & 3) != level) return false;
    if (ssSelector & ~3) {
        ssDescriptor = plainDescriptor(ssSelector);
        ss = Cpu::unpack(ssSelector, ssDescriptor);
        if (!ss.present() || !ss.writable() || ss.dpl() != level || !(to64 || ss.big())) return false;
    } else if (level == 3) {
        return false;
    }

    if (to64) rememberReturn(f, cs, csDescriptor, ss, ssDescriptor);
    f.gpr(Rsp) = to64 ? item(3) : uint32_t(item(3));
    c.nmiBlocked = false;
    c.seg[Cs] = cs;
    c.seg[Ss] = ss;
    c.cpl = level;
    if (level) {
        c.dropInnerSegments();
        f.fsBase = c.fast_[Fs].base = c.seg[Fs].base;
        f.gsBase = c.fast_[Gs].base = c.seg[Gs].base;
    }
    f.rip = target;
    constexpr uint64_t kLoaded = flag::Arithmetic | flag::TF | flag::IF | flag::DF | flag::IOPL | flag::NT |
                                 flag::RF | flag::AC | flag::VIF | flag::VIP | flag::ID;
    setFlags(f, image & kLoaded);
    return true;
}

// What IRETQ is about to load, for host code to load it again.
void Translator::rememberReturn(HostFrame& f, const Segment& cs, uint64_t csDescriptor, const Segment& ss,
                                uint64_t ssDescriptor) const {
    const Cpu& c = cpu_;
    const unsigned level = cs.dpl();
    const auto place = [&](const Segment& s) { return c.gdtr.base + (s.selector & ~7u); };
    const uint64_t toSs = ss.unusable ? 0 : place(ss) - place(cs);
    const bool apart = ((place(cs) + toSs) ^ place(cs)) & ~(kPageSize - 1);
    HostFrame::KnownReturn& known = f.returns[level != 0];
    const uint32_t selectors = uint32_t(ss.selector) << 16 | cs.selector;
    if (known.selectors == selectors && known.csDescriptor == csDescriptor &&
        known.ssDescriptor == ssDescriptor && known.gdtBase == c.gdtr.base && known.gdtLimit == c.gdtr.limit)
        return;
    known.selectors = 0;
    if ((level && level != 3) || apart) return;
    known = {.selectors = selectors,
             .gdtLimit = c.gdtr.limit,
             .gdtBase = c.gdtr.base,
             .csDescriptor = csDescriptor,
             .ssDescriptor = ssDescriptor,
             .linear = place(cs),
             .entry = uint64_t(uint32_t(place(cs)) >> 12) << Tlb::kEntryBits,
             .toSs = int64_t(toSs),
             .cs = cs,
             .ss = ss};
}

// -- interrupts

// Onto a stack and by tables that the TLB knows. False: nothing has been done.
bool Translator::enterHandler(HostFrame& f, uint8_t vector, Cpu::Source source, const Fault* fault) {
    if (cpu_.real()) return enterHandlerReal(f, vector);
    return cpu_.longMode() ? enterHandlerLong(f, vector, source, fault)
                           : enterHandlerProtected(f, vector, source, fault);
}

// As Cpu::enterHandlerLong(), through an interrupt or trap gate without a stack of its own to CPL 0.
bool Translator::enterHandlerLong(HostFrame& f, uint8_t vector, Cpu::Source source, const Fault* fault) {
    Cpu& c = cpu_;
    const Tlb& tables = c.tlbFor(false, true);
    if (c.idtr.limit < vector * 16u + 15) return false;
    const uint8_t* entry = tables.find(c.idtr.base + vector * 16u, 16, false);
    if (!entry) return false;
    const auto low = loadGuest<uint64_t>(entry), high = loadGuest<uint64_t>(entry + 8);
    constexpr uint64_t kPresent = 1ull << 47, kKind = 0x1eull << 40, kInterrupt = 0xeull << 40,
                       kIst = 7ull << 32;
    const uint64_t target = (low & 0xffff) | (low >> 32 & 0xffff0000) | high << 32;
    const auto selector = uint16_t(low >> 16);
    if (!(low & kPresent) || (low & kKind) != kInterrupt || low & kIst || !c.canonical(target)) return false;
    if (source == Cpu::Source::SoftwareInt && (low >> 45 & 3) < c.cpl) return false;

    const uint64_t descriptor = plainDescriptor(selector);
    if (!descriptor) return false;
    if (const auto wanted = uint16_t(selector & ~3);
        descriptor != handlers_.descriptor || wanted != handlers_.segment.selector) {
        const Segment cs = Cpu::unpack(wanted, descriptor);
        if (!isCodeOf(cs, 0)) return false;
        handlers_ = {descriptor, cs};
    }

    const bool newStack = c.cpl;
    uint64_t sp = f.gpr(Rsp);
    if (newStack) {
        constexpr unsigned kRsp0 = 4;
        const uint8_t* place = kRsp0 + 7 <= c.tr.limit ? tables.find(c.tr.base + kRsp0, 8, false) : nullptr;
        if (!place) return false;
        sp = loadGuest<uint64_t>(place);
    }
    constexpr unsigned kItems = 5;  // RIP, CS, RFLAGS, RSP, SS
    const bool hasError = fault && fault->hasError;
    sp = (sp & ~15ull) - (kItems + hasError) * 8;
    uint8_t* stack = tables.find(sp, (kItems + hasError) * 8, true);
    if (!stack) return false;

    const uint64_t flags = c.flags.others() | arithmeticFlags(f.flags) | 2;
    if (hasError) storeGuest(stack, uint64_t(fault->error)), stack += 8;
    storeGuest(stack + 32, uint64_t(c.seg[Ss].selector));
    storeGuest(stack + 24, f.gpr(Rsp));
    storeGuest(stack + 16, uint64_t(flags | (fault ? flag::RF : 0)));
    storeGuest(stack + 8, uint64_t(c.seg[Cs].selector));
    storeGuest(stack, f.rip);
    f.gpr(Rsp) = sp;
    if (newStack) c.seg[Ss] = Segment{.selector = 0, .rights = 0, .unusable = true};
    c.seg[Cs] = handlers_.segment;
    c.cpl = 0;
    c.untraced = c.committed_ = true;
    f.rip = target;
    constexpr uint64_t kTrapGate = 1ull << 40;
    setFlags(f, flags & ~(flag::TF | flag::NT | flag::RF | flag::VM | (low & kTrapGate ? 0 : flag::IF)));
    return true;
}

// INT n and INT3. False: nothing has been done.
bool Translator::softwareInterrupt(HostFrame& f, const Site& s) {
    if (cpu_.io.log.on(LogCategory::Int)) return false;
    f.rip = (ripOf(f.page + uint64_t(s.target)) + s.bytes) & cpu_.ipMask_;
    return enterHandler(f, uint8_t(s.constant), Cpu::Source::SoftwareInt);
}

// A fault of the site's instruction, in front of which everything is as it should be. Null: the processor has
// to see to it.
const uint8_t* Translator::enterFaultHandler(HostFrame& f, const Site& s, const Fault& fault) {
    Cpu& c = cpu_;
    if (!mayCross(f) || c.io.log.on(LogCategory::Int) || f.x87 != X87Place::InCpu || c.patience_ < 2)
        return nullptr;
    f.rip = ripOf(f.page + uint64_t(s.target));
    const uint64_t at = f.rip;
    if (!enterHandler(f, fault.vector, Cpu::Source::Exception, &fault)) return nullptr;
    if (fault.vector == kPF) c.cr2 = fault.cr2;
    c.patience_--;
    statistics_.faults++;
    TrapSite& t = c.traps.at(at, TrapKind::Fault);
    t.state = TrapSite::State::Inline;
    t.target = fault.vector;
    t.promoted++;
    f.slice -= s.index;
    return enterNext(behindCrossing(f));
}

// The slice is over at the end of a block because somebody wants the run loop to look around
// (Cpu::lookAround), and all there is to see is perhaps an interrupt of the local APIC: what the run loop
// would do. Null: there is more to it.
const uint8_t* Translator::lookAround(HostFrame& f, uint64_t rip) {
    Cpu& c = cpu_;
    LocalApic& apic = c.io.apic;
    if (!c.held_ || f.slice + c.held_ <= 0 || recording_ || nowhere_ || c.idle() || c.pendingDebug ||
        c.stiShadow || c.movSsShadow || c.flags.test(flag::TF) || c.runAlone_ || c.breakpoints_.code ||
        c.io.log.on(LogCategory::Exec) || c.io.log.on(LogCategory::Int))
        return nullptr;
    f.rip = rip;
    bool entered = false;
    if (apic.attention()) {
        DeviceGuard guard(c.threads());
        const int vector = apic.onlyFixed();
        if (vector < 0) return nullptr;
        if (c.flags.test(flag::IF)) {
            if (f.x87 != X87Place::InCpu) VectorState::pointersToCpu(f, c);
            if (!enterHandler(f, uint8_t(vector), Cpu::Source::External)) return nullptr;
            apic.acknowledge();
            statistics_.interrupts++;
            entered = true;
        }
    }
    c.slice_ = f.slice += std::exchange(c.held_, 0);
    HostFrame& n = entered ? behindCrossing(f) : followSegments(f);
    if (!apic.attention() || !c.flags.test(flag::IF)) return enterNext(n);
    noteExit(Exit::Events);
    outcome_ = Outcome::Left;
    return exit_;
}

// MOV to a control register and LMSW, at CPL 0. Null: the interpreter has to see to it.
const uint8_t* Translator::writeControl(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    constexpr uint64_t kOfTheFpu = cr0::MP | cr0::EM | cr0::TS | cr0::NE;
    const bool in64 = c.codeMode_ == CodeMode::Code64, loadsPdptes = !in64 && c.cr4 & cr4::PAE;
    uint64_t v = in64 ? f.gpr(s.guest) : uint32_t(f.gpr(s.guest));
    switch (s.mnemonic) {
        case ZYDIS_MNEMONIC_LMSW: v = (c.cr0 & ~14ull) | (v & 15); break;
        default:
            switch (s.control) {
                case 0: break;
                case 3: return loadsPdptes ? nullptr : moveToCr3(f, s, v);
                case 4:
                    if (loadsPdptes || (v ^ c.cr4) & ~cr4::PGE) return nullptr;
                    c.setCr4(v);
                    return behind(f, s);
                default: return moveToCr8(f, s);
            }
    }
    if ((v ^ c.cr0) & ~kOfTheFpu) return nullptr;
    c.rip = ripOf(f.page + uint64_t(s.target)) + s.bytes;
    c.setCr0(v);
    noteRefused(f);
    return refuses(f, s) ? behind(f, s) : resume(f, s);
}

// HLT with interrupts on. Null: the processor has to wait for one, and the run loop for the processor.
const uint8_t* Translator::halt(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    if (!c.io.runDueTimers) return nullptr;
    beforeAccess(f.slice - (s.index + 1));
    const bool ran = c.io.runDueTimers();
    c.block = nullptr;
    if (!ran) return nullptr;
    f.slice = c.slice_;
    f.rip = ripOf(f.page + uint64_t(s.target)) + s.bytes;
    if (const uint8_t* host = lookAround(f, f.rip)) return host;
    c.halted = true;
    c.mwaiting = false;
    noteExit(Exit::Events);
    outcome_ = Outcome::Left;
    return exit_;
}

// INVPCID, in 64-bit mode, by a descriptor that the TLB knows. False: nothing has been done.
bool Translator::invalidatePcid(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    const uint8_t* descriptor = c.cpl ? nullptr : c.dataTlb_->find(f.operand, 16, false);
    if (!descriptor) return false;
    const auto pcid = loadGuest<uint64_t>(descriptor), linear = loadGuest<uint64_t>(descriptor + 8);
    const uint64_t type = f.gpr(s.guest);
    const bool ofOne = type < 2;
    if (type > 3 || pcid >> 12 || (ofOne && pcid && !(c.cr4 & cr4::PCIDE))) return false;
    if (type == 0 && !c.canonicalBase(linear)) return false;
    c.invalidatePcid(unsigned(type), uint16_t(pcid), linear);
    return true;
}

// To CR3, where there are no PDPTEs to be loaded. Null: the interpreter has to see to it.
const uint8_t* Translator::moveToCr3(HostFrame& f, const Site& s, uint64_t value) {
    Cpu& c = cpu_;
    const uint64_t keeps = c.cr4 & cr4::PCIDE ? 1ull << 63 : 0;
    if ((value & ~keeps) >> c.model.physicalBits) return nullptr;
    c.rip = ripOf(f.page + uint64_t(s.target)) + s.bytes;
    c.setCr3(value);
    return behind(f, s);
}

// The task priority, in 64-bit mode. Null: the interpreter has to see to it.
const uint8_t* Translator::moveToCr8(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    const uint64_t value = f.gpr(s.guest);
    if (c.cpl || value >> 4) return nullptr;
    f.rip = ripOf(f.page + uint64_t(s.target)) + s.bytes;
    c.slice_ = f.slice - (s.index + 1);
    {
        DeviceGuard guard(c.threads());
        c.io.apic.setCr8(uint8_t(value));
    }
    f.slice = c.slice_;
    if (f.slice <= 0)
        if (const uint8_t* host = lookAround(f, f.rip)) return host;
    return enterNext(f);
}

// INVLPG, at CPL 0.
const uint8_t* Translator::invalidatePage(HostFrame& f, const Site& s) {
    if (cpu_.canonicalBase(f.operand)) cpu_.flushPage(f.operand);
    return behind(f, s);
}

// On with what comes next, on the TLB that is the right one now.
const uint8_t* Translator::behind(HostFrame& f, const Site& s) {
    f.rip = ripOf(f.page + uint64_t(s.target)) + s.bytes;
    f.slice -= s.index + 1;
    return enterNext(followSegments(f));
}

// What the instruction raises before it does anything else; a handler of the interpreter's would throw it.
std::optional<Fault> Translator::faultAhead(const Site& s) const {
    const Cpu& c = cpu_;
    constexpr Fault kUndefined{kUD}, kForbidden{kGP, true, 0};
    switch (s.raises) {
        case Site::Undefined: return kUndefined;
        case Site::WantsCpl0:
            if (c.cpl) return kForbidden;
            break;
        case Site::WantsIopl: {
            if (c.real() || c.cpl <= c.flags.iopl()) break;
            const bool virtualised = c.v86() ? c.cr4 & cr4::VME : c.cpl == 3 && c.cr4 & cr4::PVI;
            if (!virtualised) return kForbidden;
            break;
        }
        case Site::WantsIoplInV86:
            if (c.v86() && c.flags.iopl() < 3 && !(c.cr4 & cr4::VME)) return kForbidden;
            break;
        default: break;
    }
    return {};
}

// As Cpu::checkIo(): whether it forbids the access for sure.
bool Translator::deniesPort(uint16_t port, unsigned size) const {
    Cpu& c = cpu_;
    if (c.real() || !(c.v86() || c.cpl > c.flags.iopl())) return false;
    if (c.tr.unusable || !(c.tr.type() & 8) || c.tr.limit < 103) return true;
    const Tlb& tables = c.tlbFor(false, true);
    const uint8_t* offset = tables.find(c.tr.base + 102, 2, false);
    if (!offset) return false;
    const uint32_t place = loadGuest<uint16_t>(offset) + port / 8u;
    if (place + 1 > c.tr.limit) return true;
    const uint8_t* bits = tables.find(c.tr.base + place, 2, false);
    return bits && loadGuest<uint16_t>(bits) >> (port & 7) & ((1u << size) - 1);
}

void Translator::setFlags(HostFrame& f, uint64_t v) {
    f.flags = flagsImage(v);
    cpu_.flags.others() = uint32_t(v & (0x3f7fd5 & ~flag::Arithmetic));
}

// CPL or AC may be others now; the mode is the same, without checks of alignment.
void Translator::levelChanged() {
    Cpu& c = cpu_;
    c.alignmentChecks_ = false;
    constexpr uint64_t kMode = 15;
    const uint64_t mode = uint64_t(c.cpl == 3) << 2 | uint64_t(c.codeMode_);
    (c.lookupTag_ & kMode) == mode ? c.smapChanged() : c.translationsChanged();
}

// On with the host code at HostFrame::rip, on the TLB that is the right one now.
const uint8_t* Translator::crossed(HostFrame& f, const Site& s) {
    f.slice -= s.index + 1;
    return enterNext(behindCrossing(f));
}

}  // namespace kiln
