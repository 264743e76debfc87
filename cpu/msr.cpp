// Model-specific registers (SDM vol. 4, chapter 2): one table says which exist on which model, which values
// they take, and where they are kept. An access to any other register, or a write of a value that is
// reserved, raises #GP(0).
//
// Not modelled: what memory types (PAT, MTRRs) and speculation controls do, as there are neither caches nor
// speculation; performance counters, branch records, power and thermal registers; in IA32_MISC_ENABLE the
// bits that take features away from CPUID.
#include <algorithm>
#include <iterator>

#include "cpu/cpu.hpp"

namespace kiln {

namespace {

using F = Feature;
using Msrs = decltype(CpuState::msr);

constexpr uint64_t low(unsigned bits) { return bits >= 64 ? ~0ull : (1ull << bits) - 1; }

// -- who has a register

bool always(const CpuModel&) { return true; }
template <Feature... Any>
bool with(const CpuModel& m) {
    return (m.has(Any) || ...);
}
bool withEfer(const CpuModel& m) { return m.eferSupported(); }
bool amd(const CpuModel& m) { return m.isAmd(); }

// -- which values it takes

template <uint64_t Mask>
bool only(const Cpu&, uint32_t, uint64_t v) {
    return !(v & ~Mask);
}
bool any(const Cpu&, uint32_t, uint64_t) { return true; }
bool zero(const Cpu&, uint32_t, uint64_t v) { return !v; }
bool zeroOrOnes(const Cpu&, uint32_t, uint64_t v) { return !v || v == ~0ull; }
bool canonicalAddress(const Cpu& c, uint32_t, uint64_t v) { return c.canonicalBase(v); }

bool memoryType(uint64_t type) { return type < 7 && type != 2 && type != 3; }
// PAT has UC- (7) besides.
template <bool Pat>
bool memoryTypes(const Cpu&, uint32_t, uint64_t v) {
    for (unsigned i = 0; i < 64; i += 8)
        if (uint64_t t = v >> i & 0xff; !memoryType(t) && !(Pat && t == 7)) return false;
    return true;
}
bool mtrrDefault(const Cpu&, uint32_t, uint64_t v) { return !(v & ~0xcffull) && memoryType(v & 0xff); }
// Pairs of base and mask.
bool mtrrVariable(const Cpu& c, uint32_t n, uint64_t v) {
    if (v & ~low(c.model.physicalBits)) return false;
    return n & 1 ? !(v & 0x7ff) : !(v & 0xf00) && memoryType(v & 0xff);
}
bool speculationControl(const Cpu& c, uint32_t, uint64_t v) {
    const uint64_t offered = (c.model.has(F::SPEC_CTRL) ? 1 : 0) | (c.model.has(F::STIBP) ? 2 : 0) |
                             (c.model.has(F::SSBD) ? 4 : 0) |
                             (c.model.has(F::BHI_CTRL) ? 1 << 10 : 0);  // BHI_DIS_S
    return !(v & ~offered);
}
bool miscEnable(const Cpu&, uint32_t, uint64_t v) { return !(v & ~0x4'00c5'1889ull); }

// -- where it is kept

template <uint64_t Msrs::*Field>
uint64_t* kept(Cpu& c, uint32_t) {
    return &(c.msr.*Field);
}
template <auto Field>
uint64_t* keptIn(Cpu& c, uint32_t n) {
    return &(c.msr.*Field)[n];
}
uint64_t* bankRegister(Cpu& c, uint32_t n) { return &c.msr.machineCheck[n / 4][n % 4]; }
// MCi_CTL; STATUS, which may only be cleared; ADDR; MISC.
bool bankValue(const Cpu& c, uint32_t n, uint64_t v) {
    return n % 4 == 0 ? zeroOrOnes(c, n, v) : n % 4 == 1 ? zero(c, n, v) : true;
}

// -- those that are not plain storage

template <uint64_t Value>
uint64_t constant(Cpu&, uint32_t) {
    return Value;
}
bool ignore(Cpu&, uint32_t, uint64_t) { return true; }

uint64_t readTsc(Cpu& c, uint32_t) { return c.tsc(); }
bool writeTsc(Cpu& c, uint32_t, uint64_t v) { return c.moveTsc(int64_t(v - c.tsc())), true; }
bool writeTscAdjust(Cpu& c, uint32_t, uint64_t v) { return c.moveTsc(int64_t(v - c.msr.tscAdjust)), true; }

uint64_t readApicBase(Cpu& c, uint32_t) { return c.io.apic.apicBase(); }
bool writeApicBase(Cpu& c, uint32_t, uint64_t v) {
    if (v & 1 << 10 && !c.model.has(F::X2APIC)) return false;
    DeviceGuard guard(c.threads());
    return !(v & ~low(c.model.physicalBits)) && c.io.apic.setApicBase(v);
}
uint64_t readDeadline(Cpu& c, uint32_t) {
    DeviceGuard guard(c.threads());
    return c.io.apic.tscDeadline();
}
bool writeDeadline(Cpu& c, uint32_t, uint64_t v) {
    DeviceGuard guard(c.threads());
    return c.io.apic.setTscDeadline(v), true;
}

// BTS and PEBS are unavailable; those bits and the performance monitor's are read-only.
bool writeMiscEnable(Cpu& c, uint32_t, uint64_t v) {
    constexpr uint64_t kReadOnly = 0x1880;
    c.msr.miscEnable = (v & ~kReadOnly) | (c.msr.miscEnable & kReadOnly);
    c.cpuidChanged();
    return true;
}
bool writeDebugControl(Cpu& c, uint32_t, uint64_t v) {
    c.msr.debugCtl = v & debugctl::BTF;  // no branch records, no trace
    return true;
}
bool writePkrs(Cpu& c, uint32_t, uint64_t v) { return c.setPkrs(uint32_t(v)), true; }
uint64_t readPkrs(Cpu& c, uint32_t) { return c.msr.pkrs; }
uint64_t readEfer(Cpu& c, uint32_t) { return c.efer; }
bool writeEfer(Cpu& c, uint32_t, uint64_t v) { return c.setEfer(v), true; }
template <SegReg Which>
uint64_t readBase(Cpu& c, uint32_t) {
    return c.seg[Which].base;
}
template <SegReg Which>
bool writeBase(Cpu& c, uint32_t, uint64_t v) {
    return c.setSegmentBase(Which, v), true;
}

// 10 banks, MCG_CTL, recovery from software errors: what QEMU reports.
constexpr uint64_t kMachineCheckCapabilities = 1 << 24 | 1 << 8 | CpuState::kMachineCheckBanks;
// Nothing leaks where nothing is speculated. By bit: RDCL, enhanced IBRS, L1D flush not needed, SSB, MDS,
// page-size change, TAA, the three of stale MMIO data, BHI, PBRSB, GDS, RFDS, ITS.
uint64_t archCapabilities(Cpu& c, uint32_t) {
    uint64_t v = 0;
    for (unsigned bit : {0, 3, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27, 62}) v |= 1ull << bit;
    return v | (c.model.has(F::SPEC_CTRL) ? 2 : 0);
}

struct MsrRow {
    uint32_t first, last;
    bool (*offered)(const CpuModel&);
    bool (*valid)(const Cpu&, uint32_t n, uint64_t v);      // n counts from `first`; null: read-only
    uint64_t* (*storage)(Cpu&, uint32_t n);                 // or null, and the two below
    uint64_t (*read)(Cpu&, uint32_t n) = nullptr;           // null: write-only, unless there is storage
    bool (*write)(Cpu&, uint32_t n, uint64_t v) = nullptr;  // instead of a store; false: #GP
};

// Sorted by index.
constexpr MsrRow kMsrs[] = {
    {0x00, 0x01, with<F::MCE>, any, nullptr, constant<0>, ignore},           // P5_MC_ADDR, P5_MC_TYPE
    {0x10, 0x10, with<F::TSC>, any, nullptr, readTsc, writeTsc},             // IA32_TIME_STAMP_COUNTER
    {0x17, 0x17, with<F::P6>, nullptr, nullptr, constant<0>},                // IA32_PLATFORM_ID
    {0x1b, 0x1b, with<F::APIC>, any, nullptr, readApicBase, writeApicBase},  // IA32_APIC_BASE
    {0x3b, 0x3b, with<F::TSC_ADJUST>, any, kept<&Msrs::tscAdjust>, nullptr, writeTscAdjust},
    {0x48, 0x48, with<F::SPEC_CTRL, F::STIBP, F::SSBD>, speculationControl, kept<&Msrs::specCtrl>},
    {0x49, 0x49, with<F::SPEC_CTRL>, only<1>, nullptr, nullptr, ignore},  // IA32_PRED_CMD
    {0x8b, 0x8b, always, any, nullptr, constant<0x1'0000'0000>,
     ignore},  // IA32_BIOS_SIGN_ID: cleared, then read
    {0xe2, 0xe2, with<F::MONITOR>, any, nullptr, constant<0>,
     ignore},  // MSR_PKG_CST_CONFIG_CONTROL: no C-states
    {0xfe, 0xfe, with<F::MTRR>, nullptr, nullptr, constant<0x508>},  // IA32_MTRRCAP: 8, fixed ones, WC
    {0x10a, 0x10a, with<F::ARCH_CAPABILITIES>, nullptr, nullptr, archCapabilities},
    {0x174, 0x174, with<F::SEP>, any, kept<&Msrs::sysenterCs>},
    {0x175, 0x175, with<F::SEP>, canonicalAddress, kept<&Msrs::sysenterEsp>},
    {0x176, 0x176, with<F::SEP>, canonicalAddress, kept<&Msrs::sysenterEip>},
    {0x179, 0x179, with<F::MCA>, nullptr, nullptr, constant<kMachineCheckCapabilities>},  // IA32_MCG_CAP
    {0x17a, 0x17a, with<F::MCA>, only<7>, kept<&Msrs::mcgStatus>},
    {0x17b, 0x17b, with<F::MCA>, zeroOrOnes, kept<&Msrs::mcgCtl>},
    {0x1a0, 0x1a0, always, miscEnable, kept<&Msrs::miscEnable>, nullptr, writeMiscEnable},
    {0x1d9, 0x1d9, always, only<0xdfc3>, kept<&Msrs::debugCtl>, nullptr, writeDebugControl},
    {0x1fc, 0x1fc, with<F::MONITOR>, any, nullptr, constant<0>, ignore},  // MSR_POWER_CTL: likewise
    {0x200, 0x20f, with<F::MTRR>, mtrrVariable, keptIn<&Msrs::mtrrVariable>},
    {0x250, 0x250, with<F::MTRR>, memoryTypes<false>, keptIn<&Msrs::mtrrFix64K>},
    {0x258, 0x259, with<F::MTRR>, memoryTypes<false>, keptIn<&Msrs::mtrrFix16K>},
    {0x268, 0x26f, with<F::MTRR>, memoryTypes<false>, keptIn<&Msrs::mtrrFix4K>},
    {0x277, 0x277, with<F::PAT>, memoryTypes<true>, kept<&Msrs::pat>},
    {0x2ff, 0x2ff, with<F::MTRR>, mtrrDefault, kept<&Msrs::mtrrDefType>},
    {0x400, 0x400 + 4 * CpuState::kMachineCheckBanks - 1, with<F::MCA>, bankValue, bankRegister},
    {0x6e0, 0x6e0, with<F::TSC_DEADLINE>, any, nullptr, readDeadline, writeDeadline},
    {0x6e1, 0x6e1, with<F::PKS>, only<0xffffffff>, nullptr, readPkrs, writePkrs},
    {0xda0, 0xda0, with<F::XSAVES>, zero, nullptr, constant<0>,
     ignore},  // IA32_XSS: no supervisor components
    {0xc0000080, 0xc0000080, withEfer, any, nullptr, readEfer, writeEfer},
    {0xc0000081, 0xc0000081, with<F::SYSCALL>, any, kept<&Msrs::star>},
    {0xc0000082, 0xc0000082, with<F::SYSCALL>, canonicalAddress, kept<&Msrs::lstar>},
    {0xc0000083, 0xc0000083, with<F::SYSCALL>, canonicalAddress, kept<&Msrs::cstar>},
    {0xc0000084, 0xc0000084, with<F::SYSCALL>, only<0xffffffff>, kept<&Msrs::sfmask>},
    {0xc0000100, 0xc0000100, with<F::LM>, canonicalAddress, nullptr, readBase<Fs>, writeBase<Fs>},
    {0xc0000101, 0xc0000101, with<F::LM>, canonicalAddress, nullptr, readBase<Gs>, writeBase<Gs>},
    {0xc0000102, 0xc0000102, with<F::LM>, canonicalAddress, kept<&Msrs::kernelGsBase>},
    {0xc0000103, 0xc0000103, with<F::RDTSCP, F::RDPID>, only<0xffffffff>, kept<&Msrs::tscAux>},
    // PerfEvtSel0-3, PerfCtr0-3: AMD's have them since the K7 without saying so in CPUID (APM vol. 2, 13.2).
    {0xc0010000, 0xc0010003, amd, only<0x30f'ffd7'ffff>, keptIn<&Msrs::k7EventSelect>},
    {0xc0010004, 0xc0010007, amd, only<low(48)>, keptIn<&Msrs::k7Counter>},
    {0xc0010010, 0xc0010010, amd, any, nullptr, constant<0>, ignore},  // SYSCFG
    {0xc0010015, 0xc0010015, amd, any, nullptr, constant<0>, ignore},  // HWCR
};

constexpr bool sorted() {
    for (size_t i = 1; i < std::size(kMsrs); i++)
        if (kMsrs[i - 1].last >= kMsrs[i].first) return false;
    return true;
}
static_assert(sorted());

const MsrRow* rowOf(const CpuModel& model, uint32_t index) {
    const MsrRow* row = std::lower_bound(std::begin(kMsrs), std::end(kMsrs), index,
                                         [](const MsrRow& r, uint32_t i) { return r.last < i; });
    return row != std::end(kMsrs) && row->first <= index && row->offered(model) ? row : nullptr;
}

constexpr bool isX2apic(uint32_t index) { return index >= 0x800 && index <= 0x8ff; }

}  // namespace

std::optional<uint64_t> Cpu::readMsr(uint32_t index) {
    if (isX2apic(index)) {
        uint64_t v;
        DeviceGuard guard(threads());
        if (!model.has(F::X2APIC) || !io.apic.readMsr(index, v)) return {};
        return v;
    }
    if (const MsrRow* row = rowOf(model, index)) {
        const uint32_t n = index - row->first;
        if (row->storage) return *row->storage(*this, n);
        if (row->read) return row->read(*this, n);
    }
    io.log.oddity("rdmsr of an absent register", "{:08x} at rip {:x}", index, at ? currentRip() : rip);
    return {};
}

bool Cpu::writeMsr(uint32_t index, uint64_t v) {
    if (isX2apic(index)) {
        DeviceGuard guard(threads());
        return model.has(F::X2APIC) && io.apic.writeMsr(index, v);
    }
    const MsrRow* row = rowOf(model, index);
    const uint32_t n = row ? index - row->first : 0;
    if (row && row->valid && row->valid(*this, n, v)) {
        if (!row->write) {
            *row->storage(*this, n) = v;
            return true;
        }
        if (row->write(*this, n, v)) return true;
    }
    io.log.oddity(row ? "wrmsr of a reserved value" : "wrmsr of an absent register",
                  "{:08x} = {:x} at rip {:x}", index, v, at ? currentRip() : rip);
    return false;
}

MsrPlace Cpu::msrPlace(uint32_t index, bool write) {
    using Where = MsrPlace::Where;
    const MsrRow* row = rowOf(model, index);
    if (!row || isX2apic(index)) return {};
    MsrPlace p;
    if (write && row->valid == canonicalAddress)
        p.canonical = true;
    else if (write && row->valid == only<0xffffffff>)
        p.mask = 0xffffffff;
    else if (write && row->valid != any)
        return {};
    if (row->read == readBase<Fs> || row->read == readBase<Gs>) {
        p.where = row->read == readBase<Fs> ? Where::FsBase : Where::GsBase;
    } else if (row->storage && !(write && row->write)) {
        p.where = Where::Field;
        p.place = row->storage(*this, index - row->first);
    } else if (!write && row->read == constant<0>) {
        p.where = Where::Constant;
    }
    return p;
}

// A write of the counter or of IA32_TSC_ADJUST moves both (SDM vol. 3, 18.17.3).
void Cpu::moveTsc(int64_t by) {
    DeviceGuard guard(threads());                               // the APIC's timer reads it
    tscOffset_ = int64_t(uint64_t(tscOffset_) + uint64_t(by));  // both wrap
    msr.tscAdjust += uint64_t(by);
    io.apic.tscChanged();
}

}  // namespace kiln
