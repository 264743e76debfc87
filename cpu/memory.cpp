// Loads and stores behind the inline fast path: segment checks, TLB fill, registers, page crossings.
#include <bit>

#include "cpu/cpu.hpp"

namespace kiln {

uint64_t Cpu::linearOf(unsigned segment, uint64_t offset, unsigned size, Access access) {
    const Segment& s = seg[segment];
    const uint8_t vector = segment == Ss ? kSS : kGP;
    if (code64()) {
        uint64_t linear = offset + (segment >= Fs ? s.base : 0);
        if (!canonical(linear) || !canonical(linear + size - 1)) raise(vector, 0);
        return linear;
    }
    if (protectedMode()) {
        if (s.unusable) raise(vector, 0);
        if (access == Access::Write ? !s.writable() : !s.readable()) raise(vector, 0);
    }
    uint64_t last = offset + size - 1;
    if (s.expandDown() && protectedMode()) {
        if (offset <= s.limit || last > (s.big() ? 0xffffffffu : 0xffffu)) raise(vector, 0);
    } else if (last > s.limit) {
        raise(vector, 0);
    }
    return (s.base + offset) & 0xffffffff;
}

// What a single operand of 1, 2, 4 or 8 bytes wants. Processors do not check larger ones that may be
// unaligned at all (MOVUPS, every operand under VEX), and whole images by their items.
void Cpu::alignmentCheck(uint64_t linear, unsigned size) {
    if (alignmentChecks_ && size <= 8 && !(size & (size - 1)) && linear & (size - 1)) raise(kAC, 0);
}

// What is cached for the page goes with its fault (SDM vol. 3, 4.10.4.1).
Fault Cpu::pageFault(uint64_t linear, uint32_t error) {
    io.log(LogCategory::Mmu, "page fault at {:x}, error code {:x}, cr3={:x} cpl={}", linear, error, cr3, cpl);
    contexts_.flushFaulted(linear);
    if (contexts_.mayHaveFetched(linear)) forgetCode(linear);
    translationsChanged();
    return {kPF, true, error, linear};
}

// Throws #PF, and #GP(0) where descriptor tables or the TSS reach over the canonical range.
Translation Cpu::walk(uint64_t linear, Access access, bool user, bool implicit, Marking marking) {
    if (longMode() && !canonical(linear)) raise(kGP, 0);
    const Translation t = walkWithoutThrowing(linear, access, user, implicit, marking);
    if (t.fault) throw pageFault(linear, t.errorCode);
    return t;
}

Translation Cpu::walkWithoutThrowing(uint64_t linear, Access access, bool user, bool implicit,
                                     Marking marking) {
    for (;;) {
        WalkTrace trace;
        const Translation t = walkPageTables(io.memory, paging_, LinearAddr(linear), access, user,
                                             !implicit && flags.test(flag::AC), marking, &trace);
        if (t.fault || marking == Marking::Nothing) return t;
        // Others may have written to a table before it came under watch.
        if (!contexts_.noteWalk(linear, t, trace, access == Access::Fetch) || !threaded) return t;
    }
}

static bool cached(Tlb& tlb, uint64_t linear, Access access) {
    const Tlb::Entry& e = tlb.at(linear);
    return ((access == Access::Write ? e.writeTag : e.readTag) & ~(Tlb::kSlow | Tlb::kBeside)) ==
           (linear & ~kPageMask);
}

// The entry for `linear`, walked anew unless it already allows this access.
Tlb::Entry& Cpu::fillTlb(Tlb& tlb, uint64_t linear, Access access, bool user, bool implicit) {
    if (cached(tlb, linear, access)) return tlb.at(linear);
    return enterInTlb(tlb, linear, access, walk(linear, access, user, implicit, Marking::SetsBits));
}

Tlb::Entry& Cpu::enterInTlb(Tlb& tlb, uint64_t linear, Access access, const Translation& t) {
    const uint64_t page = linear & ~kPageMask;
    const PhysAddr phys = physical(t.addr.page().value, access);
    PhysicalMemory::Target target = io.memory.find(phys);
    bool direct = target.host && target.end.value - phys.value >= kPageSize && !io.apic.ownsPage(phys) &&
                  !watchesData(linear);
    Tlb::Entry fresh{.readTag = direct ? page : page | Tlb::kSlow,
                     .writeTag = Tlb::kNone,
                     .addend = direct ? reinterpret_cast<uintptr_t>(target.host) - page : 0,
                     .page = phys.value};
    if (t.writable) {
        const bool ram = direct && target.writable;
        const uint64_t beside = ram && isBesideCode(target) ? Tlb::kBeside : 0;
        fresh.writeTag = ram && io.memory.mayWriteDirectly(phys, id) ? page : page | Tlb::kSlow | beside;
    }
    tlb.fill(linear, fresh, t);
    return tlb.at(linear);
}

// Whether host code has not been allowed yet to write there beside code, and is now: see PageMarks.
bool Cpu::beginsBeside(const Tlb::Entry& e, uint64_t linear, unsigned size) {
    return threaded && e.writeTag & Tlb::kBeside &&
           io.memory.mayWriteBeside(PhysAddr((e.page & ~kPageMask) | (linear & kPageMask)), size, id);
}

Cpu::Probe Cpu::probe(uint64_t linear, unsigned size, Access access, Fault& fault) {
    if (alignmentChecks_ || (linear & kPageMask) + size > kPageSize || (longMode() && !canonical(linear)))
        return Probe::Unclear;
    if (cached(*dataTlb_, linear, access))
        return access == Access::Write && beginsBeside(dataTlb_->at(linear), linear, size) ? Probe::Fills
                                                                                           : Probe::Unclear;
    const Translation t = walkWithoutThrowing(linear, access, cpl == 3, false, Marking::SetsBits);
    if (t.fault) {
        fault = pageFault(linear, t.errorCode);
        return Probe::Faults;
    }
    const Tlb::Entry& e = enterInTlb(*dataTlb_, linear, access, t);
    if (access == Access::Write && e.writeTag & Tlb::kBeside && !threaded) return Probe::Fills;
    return ((access == Access::Write ? e.writeTag : e.readTag) & Tlb::kSlow) ? Probe::Unclear : Probe::Fills;
}

// For an access that continues on another page: both are checked before either is marked accessed or dirty.
void Cpu::fillBoth(uint64_t first, uint64_t second, Access access, bool user, bool implicit) {
    Tlb& tlb = tlbFor(user, implicit);
    if (!cached(tlb, second, access)) {
        walk(first, access, user, implicit, Marking::Nothing);
        walk(second, access, user, implicit, Marking::Nothing);
    }
    fillTlb(tlb, first, access, user, implicit);
    fillTlb(tlb, second, access, user, implicit);
}

static bool registerSized(unsigned size) { return size == 1 || size == 2 || size == 4 || size == 8; }

static void readPhysical(PhysicalMemory& memory, PhysAddr at, void* out, unsigned size) {
    if (!registerSized(size)) return memory.read(at, out, size);
    const uint64_t v = memory.access(at, size);
    std::memcpy(out, &v, size);
}

static void writePhysical(PhysicalMemory& memory, PhysAddr at, const void* in, unsigned size) {
    if (!registerSized(size)) return memory.write(at, in, size);
    uint64_t v = 0;
    std::memcpy(&v, in, size);
    memory.access(at, size, v);
}

void Cpu::readInPage(uint64_t linear, void* out, unsigned size, bool user, bool implicit) {
    const Tlb::Entry& e = fillTlb(tlbFor(user, implicit), linear, Access::Read, user, implicit);
    if (!(e.readTag & Tlb::kSlow)) {
        readGuest(out, reinterpret_cast<const void*>(linear + e.addend), size);
        return;
    }
    PhysAddr phys((e.page & ~kPageMask) | (linear & kPageMask));
    if (isRegisters(phys)) return readRegisters(phys, out, size);
    readPhysical(io.memory, phys, out, size);
}

void Cpu::readRegisters(PhysAddr at, void* out, unsigned size) {
    TrapScope scope(trapHere(TrapKind::MemoryRead), at.value);
    if (io.apic.ownsPage(at.page())) return readApic(at, out, size);
    readPhysical(io.memory, at, out, size);
}

void Cpu::writeRegisters(PhysAddr at, const void* in, unsigned size) {
    TrapScope scope(trapHere(TrapKind::MemoryWrite), at.value);
    if (io.apic.ownsPage(at.page())) return writeApic(at, in, size);
    writePhysical(io.memory, at, in, size);
}

const PageMarks& Cpu::marksBeside(const uint8_t* host) const {
    return besideCode->marks()[uint64_t(host - besideCode->data()) / kPageSize];
}

// With one thread, what lies on a page of code without being code.
bool Cpu::writeBeside(const Tlb::Entry& e, uint64_t linear, const void* in, unsigned size) {
    if (!(e.writeTag & Tlb::kBeside) || threaded) return false;
    auto* host = reinterpret_cast<uint8_t*>(linear + e.addend);
    const PageMarks& marks = marksBeside(host);
    if (!marks.lines || marks.tables || marks.lines & PhysicalMemory::lineMask(linear & kPageMask, size))
        return false;
    writeGuest(host, in, size);
    return true;
}

void Cpu::writeInPage(uint64_t linear, const void* in, unsigned size, bool user, bool implicit) {
    Tlb::Entry& e = fillTlb(tlbFor(user, implicit), linear, Access::Write, user, implicit);
    if (!(e.writeTag & Tlb::kSlow)) {
        writeGuest(reinterpret_cast<void*>(linear + e.addend), in, size);
        return;
    }
    if (writeBeside(e, linear, in, size)) return;
    PhysAddr phys((e.page & ~kPageMask) | (linear & kPageMask));
    if (isRegisters(phys)) return writeRegisters(phys, in, size);
    writePhysical(io.memory, phys, in, size);
    // The last code on this page may just have died: then the next write goes the short way.
    if (!(e.readTag & Tlb::kSlow) && e.addend && io.memory.find(phys).writable &&
        io.memory.mayWriteDirectly(phys, id))
        e.writeTag &= ~(Tlb::kSlow | Tlb::kBeside);
}

// The local APIC's page belongs to its processor, whatever else is at the address (SDM vol. 3, 11.4.4).
void Cpu::readApic(PhysAddr at, void* out, unsigned size) {
    DeviceGuard guard(threads());
    for (unsigned done = 0; done < size;) {
        unsigned n = registerSized(size) ? size : std::min(size - done, 4u);
        uint64_t v = io.apic.ioRead(at.pageOffset() + done, n);
        std::memcpy(static_cast<uint8_t*>(out) + done, &v, n);
        done += n;
    }
}

void Cpu::writeApic(PhysAddr at, const void* in, unsigned size) {
    DeviceGuard guard(threads());
    for (unsigned done = 0; done < size;) {
        unsigned n = registerSized(size) ? size : std::min(size - done, 4u);
        uint64_t v = 0;
        std::memcpy(&v, static_cast<const uint8_t*>(in) + done, n);
        io.apic.ioWrite(at.pageOffset() + done, n, v);
        done += n;
    }
}

// The page behind that of `linear`. Descriptor tables and the TSS have 64-bit addresses in compatibility mode
// too.
uint64_t Cpu::nextPage(uint64_t linear, bool implicit) const {
    uint64_t next = (linear & ~kPageMask) + kPageSize;
    return next & (implicit && longMode() ? ~0ull : linearMask_);
}

void Cpu::readLinear(uint64_t linear, void* out, unsigned size, bool user, bool implicit) {
    if (breakpoints_.data) watchData(linear, size, false);
    uint64_t first = kPageSize - (linear & kPageMask);
    if (size <= first) return readInPage(linear, out, size, user, implicit);
    uint64_t second = nextPage(linear, implicit);
    fillBoth(linear, second, Access::Read, user, implicit);
    readInPage(linear, out, unsigned(first), user, implicit);
    readInPage(second, static_cast<uint8_t*>(out) + first, unsigned(size - first), user, implicit);
}

void Cpu::writeLinear(uint64_t linear, const void* in, unsigned size, bool user, bool implicit) {
    if (breakpoints_.data) watchData(linear, size, true);
    uint64_t first = kPageSize - (linear & kPageMask);
    if (size <= first) return writeInPage(linear, in, size, user, implicit);
    uint64_t second = nextPage(linear, implicit);
    fillBoth(linear, second, Access::Write, user, implicit);
    writeInPage(linear, in, unsigned(first), user, implicit);
    writeInPage(second, static_cast<const uint8_t*>(in) + first, unsigned(size - first), user, implicit);
}

void Cpu::readSlow(unsigned segment, uint64_t offset, void* out, unsigned size) {
    uint64_t linear = linearOf(segment, offset, size, Access::Read);
    alignmentCheck(linear, size);
    readLinear(linear, out, size, cpl == 3, false);
}

void Cpu::writeSlow(unsigned segment, uint64_t offset, const void* in, unsigned size) {
    uint64_t linear = linearOf(segment, offset, size, Access::Write);
    alignmentCheck(linear, size);
    writeLinear(linear, in, size, cpl == 3, false);
}

uint64_t Cpu::readWord(unsigned segment, uint64_t offset, unsigned size) {
    uint64_t v = 0;
    readSlow(segment, offset, &v, size);
    return v;
}

void Cpu::writeWord(unsigned segment, uint64_t offset, unsigned size, uint64_t value) {
    writeSlow(segment, offset, &value, size);
}

void Cpu::checkWrite(unsigned segment, uint64_t offset, unsigned size) {
    uint64_t linear = linearOf(segment, offset, size, Access::Write);
    alignmentCheck(linear, size);
    if (breakpoints_.data && mayBeginAgain()) watchData(linear, size, true);
    prepareWrite(linear, size, cpl == 3, false);
}

void Cpu::prepareWrite(uint64_t linear, unsigned size, bool user, bool implicit) {
    if (kPageSize - (linear & kPageMask) < size)
        fillBoth(linear, nextPage(linear, implicit), Access::Write, user, implicit);
    else
        fillTlb(tlbFor(user, implicit), linear, Access::Write, user, implicit);
}

void* Cpu::lockedPlace(uint64_t linear, unsigned size, bool user, bool implicit, PhysAddr& noted) {
    if (breakpoints_.data) watchData(linear, size, true);
    if (linear & (size - 1)) {
        prepareWrite(linear, size, user, implicit);
        return nullptr;
    }
    const Tlb::Entry& e = fillTlb(tlbFor(user, implicit), linear, Access::Write, user, implicit);
    if (!(e.writeTag & Tlb::kSlow)) return reinterpret_cast<void*>(linear + e.addend);
    PhysAddr phys((e.page & ~kPageMask) | (linear & kPageMask));
    PhysicalMemory::Target t = io.memory.find(phys);
    if (!t.writable || t.end.value - phys.value < size || io.apic.ownsPage(phys.page())) return nullptr;
    noted = phys;
    return t.host;
}

void Cpu::storeLinear(uint64_t linear, unsigned size, uint64_t value, bool user) {
    Tlb& tlb = tlbFor(user, false);
    if (size == 8 && tlb.writeTag(linear) == ((linear + 7) & ~kPageMask)) [[likely]]
        return storeGuest(reinterpret_cast<void*>(linear + tlb.addend(linear)), value);
    writeLinear(linear, &value, size, user, false);
}

const uint8_t* Cpu::readablePointer(unsigned segment, uint64_t offset, unsigned size) {
    uint64_t linear = linearOf(segment, offset, size, Access::Read);
    alignmentCheck(linear, size);
    const Tlb::Entry& e = fillTlb(tlbFor(cpl == 3, false), linear, Access::Read, cpl == 3, false);
    return e.readTag & Tlb::kSlow ? nullptr : reinterpret_cast<const uint8_t*>(linear + e.addend);
}

uint8_t* Cpu::writablePointer(unsigned segment, uint64_t offset, unsigned size, uint64_t* most) {
    uint64_t linear = linearOf(segment, offset, size, Access::Write);
    alignmentCheck(linear, size);
    const Tlb::Entry& e = fillTlb(tlbFor(cpl == 3, false), linear, Access::Write, cpl == 3, false);
    auto* host = reinterpret_cast<uint8_t*>(linear + e.addend);
    if (!(e.writeTag & Tlb::kSlow)) return host;
    if (!most || !(e.writeTag & Tlb::kBeside) || threaded) return nullptr;
    const PageMarks& marks = marksBeside(host);
    if (marks.tables) return nullptr;
    const uint64_t at = linear & kPageMask;
    const uint64_t ahead = marks.lines >> at / 64;
    const uint64_t next = (at / 64 + uint64_t(std::countr_zero(ahead))) * 64;  // that is marked
    if (ahead) *most = std::min(*most, next - std::min(at, next));
    return *most < size ? nullptr : host;
}

// A read as supervisor with SMAP and protection keys overridden; leaves no mark in the tables.
bool Cpu::translate(uint64_t linear, PhysAddr& out) {
    if (longMode() && !canonical(linear)) return false;
    PagingState p = paging_;
    p.smap = false;
    p.pkru = p.pkrs = 0;
    Translation t =
        walkPageTables(io.memory, p, LinearAddr(linear), Access::Read, false, true, Marking::Nothing);
    if (!t.fault) out = physical(t.addr.value, Access::Read);
    return !t.fault;
}

bool Cpu::mayFetch(uint64_t linear) {
    const uint64_t page = linear & ~kPageMask;
    if (const FetchEntry& e = fetchEntry(linear); e.page == page && holds(e.tag)) return true;
    if (longMode() && !canonical(linear)) {
        fetchFault_ = {kGP, true};
        return false;
    }
    const Translation t = walkWithoutThrowing(linear, Access::Fetch, cpl == 3, false, Marking::SetsBits);
    if (t.fault) {
        fetchFault_ = pageFault(linear, t.errorCode);
        return false;
    }
    contexts_.noteFetch(linear, t.pageSize, t.global);
    fetchEntry(linear) = {page, t.global ? globalTag_ : lookupTag_,
                          physical(t.addr.page().value, Access::Fetch)};
    return true;
}

PhysAddr Cpu::fetchPage(uint64_t linear) {
    if (!mayFetch(linear)) throw fetchFault_;
    return fetchEntry(linear).phys;
}

// Code of the page at `linear` has to be looked up anew.
void Cpu::forgetCode(uint64_t linear) {
    const uint64_t page = linear & ~kPageMask;
    ways_->forgotten++;
    FetchEntry& f = fetchEntry(linear);
    if (f.page == page) f = {};
    for (JumpEntry& e : ways_->jumps)
        if ((e.rip & ~kPageMask) == page) e = {};
}

void Cpu::forgetDeadBlocks() {
    if (!ways_->blocksDied) return;
    for (JumpEntry& e : ways_->jumps) e = {};
    ways_->blocksDied = false;
}

void Cpu::translationsChanged() {
    smapChanged();
    const TranslationContext& context = contexts_.current();
    const uint64_t mode = uint64_t(cpl == 3) << 2 | uint64_t(codeMode_);
    lookupTag_ = context.epoch << 4 | mode;
    globalTag_ = context.globalEpoch << 4 | mode;
    auto& ways = waysOf_[context.number];
    if (!ways) ways.reset(static_cast<CodeWays*>(std::calloc(1, sizeof(CodeWays))));
    if (!ways) throw std::bad_alloc();
    ways_ = ways.get();
    forgetDeadBlocks();
}

void Cpu::flushTlb(bool globalToo) {
    globalToo ? contexts_.flushAll() : contexts_.flushNonGlobal();
    translationsChanged();
}

void Cpu::flushPage(uint64_t linear) {
    contexts_.flushPage(linear);
    if (contexts_.mayHaveFetched(linear)) forgetCode(linear);
    translationsChanged();
}

void Cpu::invalidatePcid(unsigned type, uint16_t pcid, uint64_t linear) {
    switch (type) {
        case 0:
            contexts_.flushPage(pcid, linear);
            if (contexts_.mayHaveFetched(linear)) forgetCode(linear);
            break;
        case 1: contexts_.flushContext(pcid); break;
        case 2: contexts_.flushAll(); break;
        default: contexts_.flushNonGlobal(); break;
    }
    translationsChanged();
}

void Cpu::setPkru(uint32_t rights) {
    pkru = rights;
    keysChanged();
}

void Cpu::setPkrs(uint32_t rights) {
    msr.pkrs = rights;
    keysChanged();
}

void Cpu::keysChanged() {
    paging_.pkru = longMode() && cr4 & cr4::PKE ? pkru : 0;
    paging_.pkrs = longMode() && cr4 & cr4::PKS ? msr.pkrs : 0;
    contexts_.setKeys(paging_.pkru, paging_.pkrs);
}

}  // namespace kiln
