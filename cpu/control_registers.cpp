// Control registers, EFER, RFLAGS writes, I/O permission, reset (SDM vol. 3, chapters 2, 9.8 and 10.1).
#include "cpu/cpu.hpp"

namespace kiln {

void Cpu::reset() {
    unmarkMonitor();
    static_cast<CpuState&>(*this) = CpuState{};
    if (model.has(Feature::MONITOR)) msr.miscEnable |= 1 << 18;
    cr0 = cr0::NW | cr0::CD;
    fpu.control = 0x40;
    fpu.empty = 0;
    init();
}

void Cpu::init() {
    gpr = {};
    gpr[Rdx] = model.signature();
    rip = 0xfff0;
    flags.set(2);
    cr0 = cr0::ET | (cr0 & (cr0::NW | cr0::CD));
    cr2 = cr3 = cr4 = efer = 0;
    for (unsigned i = 0; i < 6; i++) seg[i] = Segment{.rights = 0x93, .limit = 0xffff};
    seg[Cs] = Segment{.selector = 0xf000, .rights = 0x93, .limit = 0xffff, .base = 0xffff0000};
    gdtr = idtr = {0, 0xffff};
    ldtr = Segment{.rights = 0x82, .limit = 0xffff};
    tr = Segment{.rights = 0x8b, .limit = 0xffff};
    dr = {};
    dr[6] = dr6::kFixed;
    dr[7] = dr7::kFixed;
    cpl = 0;
    disarmMonitor();
    halted = mwaiting = stiShadow = movSsShadow = nmiBlocked = false;
    pendingDebug = 0;
    smm = false;
    lastIo_ = {};
    block = nullptr;
    runAlone_ = false;
    viewChanged();
    debugRegistersChanged();
    modesChanged();
}

void Cpu::modesChanged() {
    io.log(LogCategory::Cpu, "cr0={:08x} cr3={:x} cr4={:x} efer={:x} cs={:04x} rip={:x}", cr0, cr3, cr4, efer,
           seg[Cs].selector, rip);
    paging_.cr3 = cr3;
    paging_.enabled = cr0 & cr0::PG;
    paging_.pae = cr4 & cr4::PAE;
    paging_.longMode = longMode();
    paging_.la57 = cr4 & cr4::LA57;
    paging_.pse = cr4 & cr4::PSE;
    paging_.pge = cr4 & cr4::PGE;
    paging_.wp = cr0 & cr0::WP;
    paging_.nxe = efer & efer::NXE;
    paging_.smep = cr4 & cr4::SMEP;
    paging_.smap = cr4 & cr4::SMAP;
    paging_.physicalBits = model.physicalBits;
    paging_.pse36 = model.has(Feature::PSE36);
    paging_.gigabytePages = model.has(Feature::PDPE1GB);
    paging_.a20Mask = a20Mask_;
    cpuidChanged();
    contexts_.flushAll();
    selectContext(true);
    segmentsChanged();
}

// The translation context that belongs to CR3, under the present rights of protection keys.
void Cpu::selectContext(bool keepsTranslations) {
    AddressSpace space{.root = cr3 & 0x000ffffffffff000};
    if (cr4 & cr4::PCIDE) space.pcid = cr3 & 0xfff;
    if (paging_.pae && !paging_.longMode) {
        space.root = cr3 & 0xffffffe0;
        std::copy(std::begin(paging_.pdpte), std::end(paging_.pdpte), space.pdptes.begin());
    }
    contexts_.select(space, keepsTranslations);
    keysChanged();
}

bool Cpu::canonicalBase(uint64_t linear) const { return canonicalWithin(linear, model.linearBits); }

// PAE paging outside long mode keeps the four page-directory-pointer entries in registers (4.4.1).
void Cpu::loadPdptes(uint64_t newCr3) {
    const uint64_t reserved =
        0x7ff0'0000'0000'01e6ull | (0x000fffffffffffffull & ~((1ull << model.physicalBits) - 1)) | 1ull << 63;
    uint64_t entries[4];
    for (unsigned i = 0; i < 4; i++) {
        entries[i] = io.memory.read<uint64_t>(physical((newCr3 & 0xffffffe0) + i * 8, Access::Read));
        if (entries[i] & 1 && entries[i] & reserved) raise(kGP, 0);
    }
    std::copy(std::begin(entries), std::end(entries), paging_.pdpte);
}

void Cpu::setCr0(uint64_t v) {
    const bool paging = v & cr0::PG;
    if (v >> 32 || (paging && !(v & cr0::PE)) || (v & cr0::NW && !(v & cr0::CD))) raise(kGP, 0);
    const bool turnsOn = paging && !(cr0 & cr0::PG), turnsOff = !paging && (cr0 & cr0::PG);
    if (turnsOn && efer & efer::LME) {
        const bool tss16 = !(tr.type() & 8);
        if (!(cr4 & cr4::PAE) || seg[Cs].longMode() || tss16) raise(kGP, 0);
    } else if (paging && cr4 & cr4::PAE && !longMode()) {
        if (turnsOn || (v ^ cr0) & (cr0::CD | cr0::NW)) loadPdptes(cr3);
    }
    if (turnsOff && (code64() || cr4 & cr4::PCIDE)) raise(kGP, 0);
    constexpr uint64_t kStored =
        cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::NE | cr0::WP | cr0::AM | cr0::NW | cr0::CD | cr0::PG;
    const uint64_t old = cr0;
    cr0 = (v & kStored) | cr0::ET;
    if (turnsOn && efer & efer::LME) efer |= efer::LMA;
    if (turnsOff) efer &= ~efer::LMA;
    const uint64_t changed = old ^ cr0;
    if (changed & (cr0::PE | cr0::PG | cr0::WP))
        modesChanged();
    else if (changed & cr0::AM)
        segmentsChanged();
    else
        fpuTrapsChanged();
}

// SDM vol. 3, 4.10.4.1: only the new PCID's translations go, and not even those when bit 63 says so.
void Cpu::setCr3(uint64_t v) {
    constexpr uint64_t kNoFlush = 1ull << 63;
    const bool keepsTranslations = cr4 & cr4::PCIDE && v & kNoFlush;
    if (cr4 & cr4::PCIDE) v &= ~kNoFlush;
    if (longMode() && v >> model.physicalBits) raise(kGP, 0);
    if (paging_.enabled && paging_.pae && !longMode()) loadPdptes(v);
    cr3 = v;
    paging_.cr3 = v;
    io.log(LogCategory::Mmu, "cr3={:x} rip={:x}", v, rip);
    selectContext(keepsTranslations);
    translationsChanged();
}

void Cpu::setCr4(uint64_t v) {
    if (v & ~model.cr4Supported()) raise(kGP, 0);
    if (longMode() && (!(v & cr4::PAE) || (v ^ cr4) & cr4::LA57)) raise(kGP, 0);
    if (v & ~cr4 & cr4::PCIDE && (!longMode() || cr3 & 0xfff)) raise(kGP, 0);
    if (paging_.enabled && !longMode() && v & cr4::PAE &&
        (v ^ cr4) & (cr4::PAE | cr4::PSE | cr4::PGE | cr4::SMEP))
        loadPdptes(cr3);
    const uint64_t changed = cr4 ^ v;
    cr4 = v;
    cpuidChanged();
    constexpr uint64_t kPaging =
        cr4::PAE | cr4::PSE | cr4::PGE | cr4::LA57 | cr4::SMEP | cr4::SMAP | cr4::PKE | cr4::PKS;
    if (changed & kPaging || changed & ~v & cr4::PCIDE)
        modesChanged();
    else
        segmentsChanged();
    if (changed & cr4::DE) debugRegistersChanged();
}

void Cpu::setEfer(uint64_t v) {
    if (v & ~model.eferSupported()) raise(kGP, 0);
    if (cr0 & cr0::PG && (v ^ efer) & efer::LME) raise(kGP, 0);
    efer = (v & ~efer::LMA) | (efer & efer::LMA);
    modesChanged();
}

void Cpu::writeFlags(uint64_t v, uint64_t mask) {
    const uint64_t old = flags.value();
    const uint64_t fresh = (old & ~mask) | (v & mask);
    flags.set(fresh);
    if ((old ^ fresh) & (flag::AC | flag::VM)) segmentsChanged();
}

uint16_t Cpu::virtualFlags() const {
    uint64_t v = (flags.value() & ~flag::IF) | flag::IOPL;
    return uint16_t(flags.test(flag::VIF) ? v | flag::IF : v);
}

void Cpu::writeVirtualFlags(uint64_t v, uint64_t mask) {
    if (v & flag::TF || (v & flag::IF && flags.test(flag::VIP))) raise(kGP, 0);
    writeFlags(v, mask);
    flags.change(flag::VIF, v & flag::IF);
}

void Cpu::checkIo(uint16_t port, unsigned size) {
    if (!real() && (v86() || cpl > flags.iopl())) checkIoBitmap(port, size);
    if (breakpoints_.io) watchPort(port, size);
}

void Cpu::checkIoBitmap(uint16_t port, unsigned size) {
    // The bitmap's offset is at byte 102 of a 32- or 64-bit TSS; two bytes are always read (SDM vol.
    // 1, 19.5.2).
    if (tr.unusable || !(tr.type() & 8) || tr.limit < 103) raise(kGP, 0);
    uint32_t place = loadSystem<uint16_t>(tr.base + 102) + port / 8u;
    if (place + 1 > tr.limit) raise(kGP, 0);
    unsigned bits = loadSystem<uint16_t>(tr.base + place) >> (port & 7);
    if (bits & ((1u << size) - 1)) raise(kGP, 0);
}

void Cpu::a20(bool enabled) {
    uint64_t mask = enabled ? ~0ull : ~(1ull << 20);
    if (mask == a20Gate_) return;
    a20Gate_ = mask;
    viewChanged();
    flushTlb(true);
    leave();
}

}  // namespace kiln
