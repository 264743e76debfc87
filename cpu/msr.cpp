// Model-specific registers (SDM vol. 4, chapter 2). A register that does not exist raises #GP(0).
#include "cpu/cpu.hpp"

namespace kiln {

namespace {

// PAT and fixed MTRRs: eight memory types, each one that exists.
bool validTypes(uint64_t v, bool pat) {
    for (unsigned i = 0; i < 8; i++, v >>= 8) {
        unsigned t = v & 0xff;
        if (t > 7 || t == 2 || t == 3 || (t == 7 && !pat)) return false;
    }
    return true;
}

int fixedMtrr(uint32_t index) {
    if (index == 0x250) return 0;
    if (index == 0x258 || index == 0x259) return int(index - 0x258 + 1);
    if (index >= 0x268 && index <= 0x26f) return int(index - 0x268 + 3);
    return -1;
}

// Registers that come with a feature; all others always exist.
constexpr struct {
    uint32_t first, last;
    Feature feature;
} kMsrFeatures[] = {
    {0x10, 0x10, Feature::TSC},
    {0x1b, 0x1b, Feature::APIC},
    {0xfe, 0xfe, Feature::MTRR},
    {0x174, 0x176, Feature::SEP},
    {0x179, 0x17a, Feature::MCA},
    {0x200, 0x20f, Feature::MTRR},
    {0x250, 0x26f, Feature::MTRR},
    {0x277, 0x277, Feature::PAT},
    {0x2ff, 0x2ff, Feature::MTRR},
    {0x6e0, 0x6e0, Feature::TSC_DEADLINE},
    {0x800, 0x8ff, Feature::X2APIC},
    {0xc0000081, 0xc0000084, Feature::SYSCALL},
    {0xc0000100, 0xc0000102, Feature::LM},
};

}  // namespace

bool Cpu::msrExists(uint32_t index) const {
    if (index == 0xc0000080) return model.eferSupported();
    if (index == 0xc0000103) return model.has(Feature::RDTSCP) || model.has(Feature::RDPID);
    for (auto& m : kMsrFeatures)
        if (index >= m.first && index <= m.last) return model.has(m.feature);
    return true;
}

uint64_t Cpu::readMsr(uint32_t index) {
    if (!msrExists(index)) raise(kGP, 0);
    if (index >= 0x800 && index <= 0x8ff) {
        uint64_t v;
        DeviceGuard guard(threads());
        if (!io.apic.readMsr(index, v)) raise(kGP, 0);
        return v;
    }
    if (index >= 0x200 && index <= 0x20f) return msr.mtrrVariable[index - 0x200];
    if (int i = fixedMtrr(index); i >= 0) return msr.mtrrFixed[unsigned(i)];
    switch (index) {
        case 0x10: return tsc();
        case 0x17: return 0;  // platform ID
        case 0x1b: return io.apic.apicBase();
        case 0x8b: return 0x1'0000'0000;  // microcode revision
        case 0xfe: return 0x508;          // 8 variable MTRRs, fixed ones, WC
        case 0x174: return msr.sysenterCs;
        case 0x175: return msr.sysenterEsp;
        case 0x176: return msr.sysenterEip;
        case 0x179:
        case 0x17a: return 0;  // no machine-check banks
        case 0x1a0: return msr.miscEnable;
        case 0x1d9: return msr.debugCtl;
        case 0x277: return msr.pat;
        case 0x2ff: return msr.mtrrDefType;
        case 0x6e0: {
            DeviceGuard guard(threads());
            return io.apic.tscDeadline();
        }
        case 0x6e1: return msr.pkrs;
        case 0xc0000080: return efer;
        case 0xc0000081: return msr.star;
        case 0xc0000082: return msr.lstar;
        case 0xc0000083: return msr.cstar;
        case 0xc0000084: return msr.sfmask;
        case 0xc0000100: return seg[Fs].base;
        case 0xc0000101: return seg[Gs].base;
        case 0xc0000102: return msr.kernelGsBase;
        case 0xc0000103: return msr.tscAux;
    }
    io.log.oddity("rdmsr of an absent register", "{:08x} at rip {:x}", index, currentRip());
    raise(kGP, 0);
}

void Cpu::writeMsr(uint32_t index, uint64_t v) {
    auto needCanonical = [&] {
        if (!canonicalBase(v)) raise(kGP, 0);
        return v;
    };
    if (!msrExists(index)) raise(kGP, 0);
    if (index >= 0x800 && index <= 0x8ff) {
        DeviceGuard guard(threads());
        if (!io.apic.writeMsr(index, v)) raise(kGP, 0);
        return;
    }
    if (index >= 0x200 && index <= 0x20f) {
        msr.mtrrVariable[index - 0x200] = v;
        return;
    }
    if (int i = fixedMtrr(index); i >= 0) {
        if (!validTypes(v, false)) raise(kGP, 0);
        msr.mtrrFixed[unsigned(i)] = v;
        return;
    }
    switch (index) {
        case 0x10: {
            DeviceGuard guard(threads());  // the APIC's timer reads it
            tscOffset_ += int64_t(v - tsc());
            io.apic.tscChanged();
            return;
        }
        case 0x1b: {
            if (v & 1 << 10 && !model.has(Feature::X2APIC)) raise(kGP, 0);
            DeviceGuard guard(threads());
            if (!io.apic.setApicBase(v)) raise(kGP, 0);
            return;
        }
        case 0x8b: return;  // microcode revision: cleared before it is read, per the manual's recipe
        case 0x174: msr.sysenterCs = v; return;
        case 0x175: msr.sysenterEsp = needCanonical(); return;
        case 0x176: msr.sysenterEip = needCanonical(); return;
        case 0x17a:
            if (v) raise(kGP, 0);
            return;
        case 0x1a0: msr.miscEnable = v; return;
        case 0x1d9:
            if (v & ~0xdfc3ull) raise(kGP, 0);
            msr.debugCtl = v & debugctl::BTF;  // no branch records, no trace
            return;
        case 0x277:
            if (!validTypes(v, true)) raise(kGP, 0);
            msr.pat = v;
            return;
        case 0x2ff:
            if (v & ~0xcffull) raise(kGP, 0);
            msr.mtrrDefType = v;
            return;
        case 0x6e0: {
            DeviceGuard guard(threads());
            io.apic.setTscDeadline(v);
            return;
        }
        case 0xc0000080: setEfer(v); return;
        case 0xc0000081: msr.star = v; return;
        case 0xc0000082: msr.lstar = needCanonical(); return;
        case 0xc0000083: msr.cstar = needCanonical(); return;
        case 0xc0000084: msr.sfmask = v & 0xffffffff; return;
        case 0xc0000100: setSegmentBase(Fs, needCanonical()); return;
        case 0xc0000101: setSegmentBase(Gs, needCanonical()); return;
        case 0xc0000102: msr.kernelGsBase = needCanonical(); return;
        case 0xc0000103:
            if (v >> 32) raise(kGP, 0);
            msr.tscAux = v;
            return;
    }
    io.log.oddity("wrmsr of an absent register", "{:08x} = {:x} at rip {:x}", index, v, currentRip());
    raise(kGP, 0);
}

}  // namespace kiln
