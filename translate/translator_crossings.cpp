// Changes of the privilege level and of the address space in 64-bit mode as host code has them done: SYSCALL,
// SYSRET, IRETQ and MOV to CR3 where nothing about them is out of the ordinary, without the interpreter and
// on to the next host code at once. And RDTSC and RDTSCP. cpu/system.cpp and cpu/segments.cpp tell what they
// do; what needs more than is here is left to them: single steps, faults, descriptors that are not accessed
// yet, other modes, anything pending.
#include "cpu/flat_segment.hpp"
#include "translate/flag_image.hpp"
#include "translate/translator.hpp"

namespace kiln {

static constexpr uint64_t kAccessed = 1ull << 40;  // in a descriptor

const uint8_t* Translator::system(HostFrame& f, Site& s) {
    switch (s.mnemonic) {
        case ZYDIS_MNEMONIC_RDTSC:
        case ZYDIS_MNEMONIC_RDTSCP:
            if (readTsc(f, s)) return resume(f, s);
            break;
        case ZYDIS_MNEMONIC_SYSCALL:
            if (mayCross(f, s) && systemCall(f, s)) return crossed(f, s);
            break;
        case ZYDIS_MNEMONIC_SYSRET:
            if (mayCross(f, s) && systemReturn(f, s)) return crossed(f, s);
            break;
        case ZYDIS_MNEMONIC_IRETQ:
            if (mayCross(f, s) && interruptReturn(f)) return crossed(f, s);
            break;
        case ZYDIS_MNEMONIC_MOV:
            if (mayCross(f, s))
                if (const uint8_t* host = moveToCr3(f, s)) return host;
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
bool Translator::mayCross(const HostFrame& f, const Site& s) const {
    const Cpu& c = cpu_;
    return s.block->mode == CodeMode::Code64 && !recording_ && !c.breakpoints_.code &&
           !c.flags.test(flag::TF | flag::VM | flag::NT) && !c.pendingDebug &&
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
    if (tlb.readTag(linear) != ((linear + 7) & ~kPageMask)) return 0;
    const auto d = loadGuest<uint64_t>(reinterpret_cast<const void*>(linear + tlb.addend(linear)));
    return d & kAccessed ? d : 0;
}

bool Translator::interruptReturn(HostFrame& f) {
    Cpu& c = cpu_;
    const uint64_t sp = f.gpr(Rsp);
    const Tlb& tlb = *c.dataTlb_;
    if (c.cpl || tlb.readTag(sp) != ((sp + 39) & ~kPageMask)) return false;
    auto item = [&](unsigned n) {
        return loadGuest<uint64_t>(reinterpret_cast<const void*>(sp + 8 * n + tlb.addend(sp)));
    };
    const uint64_t target = item(0), image = item(2);
    const auto csSelector = uint16_t(item(1)), ssSelector = uint16_t(item(4));
    const unsigned level = csSelector & 3;
    if (!c.canonical(target) || image & flag::TF || (level && image & flag::AC)) return false;

    Segment cs = Cpu::unpack(csSelector, plainDescriptor(csSelector));
    if (!cs.present() || !cs.isCode() || cs.conforming() || cs.dpl() != level || !cs.longMode() || cs.big())
        return false;
    Segment ss{.selector = ssSelector, .rights = uint16_t(level << 5), .unusable = true};
    if ((ssSelector & 3) != level) return false;
    if (ssSelector & ~3) {
        ss = Cpu::unpack(ssSelector, plainDescriptor(ssSelector));
        if (!ss.present() || !ss.writable() || ss.dpl() != level) return false;
    } else if (level == 3) {
        return false;
    }

    f.gpr(Rsp) = item(3);
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

// To CR3, in 64-bit mode. Null: the interpreter has to see to it.
const uint8_t* Translator::moveToCr3(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    const uint64_t value = f.gpr(s.guest), keeps = c.cr4 & cr4::PCIDE ? 1ull << 63 : 0;
    if (c.cpl || (value & ~keeps) >> c.model.physicalBits) return nullptr;
    f.rip = ripOf(f.page + uint64_t(s.target)) + s.bytes;
    c.rip = f.rip;
    c.setCr3(value);
    f.slice -= s.index + 1;
    return enterNext(followContext(f));
}

void Translator::setFlags(HostFrame& f, uint64_t v) {
    f.flags = flagsImage(v);
    cpu_.flags.others() = uint32_t(v & (0x3f7fd5 & ~flag::Arithmetic));
}

// On with the host code at HostFrame::rip, on the TLB that is the right one now.
const uint8_t* Translator::crossed(HostFrame& f, const Site& s) {
    Cpu& c = cpu_;
    c.alignmentChecks_ = false;
    c.translationsChanged();
    f.slice -= s.index + 1;
    return enterNext(followContext(f));
}

}  // namespace kiln
