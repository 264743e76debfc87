// Loads and stores behind the inline fast path: segment checks, TLB fill, registers, page crossings.
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

void Cpu::alignmentCheck(uint64_t linear, unsigned size) {
    if (alignmentChecks_ && size <= 8 && linear & (size - 1)) raise(kAC, 0);
}

Tlb& Cpu::tlbFor(bool user, bool implicit) {
    if (user) return tlbs_[2];
    return paging_.smap && (implicit || !flags.test(flag::AC)) ? tlbs_[1] : tlbs_[0];
}

void Cpu::pageFault(uint64_t linear, uint32_t error) {
    io.log(LogCategory::Mmu, "page fault at {:x}, error code {:x}, cr3={:x} cpl={}", linear, error, cr3, cpl);
    raisePageFault(linear, error);
}

// The entry for `linear`, walked anew unless it already allows this access. Throws #PF.
Tlb::Entry& Cpu::fillTlb(Tlb& tlb, uint64_t linear, Access access, bool user, bool implicit) {
    uint64_t page = linear & ~kPageMask;
    Tlb::Entry& e = tlb.at(linear);
    if (((access == Access::Write ? e.writeTag : e.readTag) & ~1ull) == page) return e;

    Translation t = walkPageTables(io.memory, paging_, LinearAddr(linear), access, user,
                                   !implicit && flags.test(flag::AC));
    if (t.fault) pageFault(linear, t.errorCode);
    PhysAddr phys(t.addr.page().value & a20Mask_);
    PhysicalMemory::Target target = io.memory.find(phys);
    bool direct = target.host && target.end.value - phys.value >= kPageSize;
    Tlb::Entry fresh;
    fresh.page = phys.value | (t.global ? Tlb::kGlobal : 0) | (t.writable ? Tlb::kWritable : 0);
    fresh.readTag = direct ? page : page | 1;
    if (t.writable)
        fresh.writeTag = direct && target.writable && !io.memory.pageHasCode(phys) ? page : page | 1;
    if (direct) fresh.addend = reinterpret_cast<uintptr_t>(target.host) - page;
    tlb.fill(linear, fresh, t.pageSize > kPageSize && paging_.enabled);
    return tlb.at(linear);
}

static bool registerSized(unsigned size) { return size == 1 || size == 2 || size == 4 || size == 8; }

void Cpu::readInPage(uint64_t linear, void* out, unsigned size, bool user, bool implicit) {
    const Tlb::Entry& e = fillTlb(tlbFor(user, implicit), linear, Access::Read, user, implicit);
    if (!(e.readTag & 1)) {
        std::memcpy(out, reinterpret_cast<const void*>(linear + e.addend), size);
        return;
    }
    PhysAddr phys((e.page & ~kPageMask) | (linear & kPageMask));
    if (registerSized(size)) {
        uint64_t v = io.memory.access(phys, size);
        std::memcpy(out, &v, size);
    } else {
        io.memory.read(phys, out, size);
    }
}

void Cpu::writeInPage(uint64_t linear, const void* in, unsigned size, bool user, bool implicit) {
    Tlb::Entry& e = fillTlb(tlbFor(user, implicit), linear, Access::Write, user, implicit);
    if (!(e.writeTag & 1)) {
        std::memcpy(reinterpret_cast<void*>(linear + e.addend), in, size);
        return;
    }
    PhysAddr phys((e.page & ~kPageMask) | (linear & kPageMask));
    if (registerSized(size)) {
        uint64_t v = 0;
        std::memcpy(&v, in, size);
        io.memory.access(phys, size, v);
    } else {
        io.memory.write(phys, in, size);
    }
    // The last code on this page may just have died: then the next write goes the short way.
    if (!(e.readTag & 1) && e.addend && !io.memory.pageHasCode(phys) && io.memory.find(phys).writable)
        e.writeTag &= ~1ull;
}

// The page behind that of `linear`. Descriptor tables and the TSS have 64-bit addresses in compatibility mode
// too.
uint64_t Cpu::nextPage(uint64_t linear, bool implicit) const {
    uint64_t next = (linear & ~kPageMask) + kPageSize;
    return next & (implicit && longMode() ? ~0ull : linearMask_);
}

void Cpu::readLinear(uint64_t linear, void* out, unsigned size, bool user, bool implicit) {
    uint64_t first = kPageSize - (linear & kPageMask);
    if (size <= first) return readInPage(linear, out, size, user, implicit);
    uint64_t second = nextPage(linear, implicit);
    fillTlb(tlbFor(user, implicit), linear, Access::Read, user, implicit);
    fillTlb(tlbFor(user, implicit), second, Access::Read, user, implicit);
    readInPage(linear, out, unsigned(first), user, implicit);
    readInPage(second, static_cast<uint8_t*>(out) + first, unsigned(size - first), user, implicit);
}

void Cpu::writeLinear(uint64_t linear, const void* in, unsigned size, bool user, bool implicit) {
    uint64_t first = kPageSize - (linear & kPageMask);
    if (size <= first) return writeInPage(linear, in, size, user, implicit);
    uint64_t second = nextPage(linear, implicit);
    fillTlb(tlbFor(user, implicit), linear, Access::Write, user, implicit);
    fillTlb(tlbFor(user, implicit), second, Access::Write, user, implicit);
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
    bool user = cpl == 3;
    fillTlb(tlbFor(user, false), linear, Access::Write, user, false);
    uint64_t last = (linear + size - 1) & linearMask_;
    if ((last ^ linear) & ~kPageMask)
        fillTlb(tlbFor(user, false), last & ~kPageMask, Access::Write, user, false);
}

void Cpu::storeLinear(uint64_t linear, unsigned size, uint64_t value, bool user) {
    writeLinear(linear, &value, size, user, false);
}

const uint8_t* Cpu::readablePointer(unsigned segment, uint64_t offset, unsigned size) {
    uint64_t linear = linearOf(segment, offset, size, Access::Read);
    alignmentCheck(linear, size);
    const Tlb::Entry& e = fillTlb(tlbFor(cpl == 3, false), linear, Access::Read, cpl == 3, false);
    return e.readTag & 1 ? nullptr : reinterpret_cast<const uint8_t*>(linear + e.addend);
}

uint8_t* Cpu::writablePointer(unsigned segment, uint64_t offset, unsigned size) {
    uint64_t linear = linearOf(segment, offset, size, Access::Write);
    alignmentCheck(linear, size);
    const Tlb::Entry& e = fillTlb(tlbFor(cpl == 3, false), linear, Access::Write, cpl == 3, false);
    return e.writeTag & 1 ? nullptr : reinterpret_cast<uint8_t*>(linear + e.addend);
}

// A read as supervisor with SMAP overridden; like any walk it sets accessed bits.
bool Cpu::translate(uint64_t linear, PhysAddr& out) {
    PagingState p = paging_;
    p.smap = false;
    Translation t = walkPageTables(io.memory, p, LinearAddr(linear), Access::Read, false, true);
    if (!t.fault) out = PhysAddr(t.addr.value & a20Mask_);
    return !t.fault;
}

PhysAddr Cpu::fetchPage(uint64_t linear) {
    uint64_t page = linear & ~kPageMask;
    FetchEntry& e = fetch_[page >> 12 & (fetch_.size() - 1)];
    if (e.page == page && e.tag == lookupTag_) return e.phys;
    Translation t = walkPageTables(io.memory, paging_, LinearAddr(linear), Access::Fetch, cpl == 3, false);
    if (t.fault) pageFault(linear, t.errorCode);
    e = {page, lookupTag_, PhysAddr(t.addr.page().value & a20Mask_)};
    return e.phys;
}

void Cpu::flushTlb(bool globalToo) {
    if (!(cr4 & cr4::PGE)) globalToo = true;
    for (Tlb& t : tlbs_) globalToo ? t.flush() : t.flushNonGlobal();
    epoch_++;
    segmentsChanged();
}

void Cpu::flushPage(uint64_t linear) {
    for (Tlb& t : tlbs_) t.flushPage(linear);
    epoch_++;
    segmentsChanged();
}

}  // namespace kiln
