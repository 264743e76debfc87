// The architectural state of one processor (SDM vol. 1, chapter 3; vol. 3, chapter 2).
#pragma once
#include <array>
#include <cstdint>
#include <cstring>

#include "cpu/flags.hpp"

namespace kiln {

enum Gpr : uint8_t { Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15 };

// The general registers, addressed by byte offset so that AH..BH are just odd offsets. Two more slots take
// part in address arithmetic: a constant zero, and the instruction pointer at which the running block began.
struct RegisterFile {
    static constexpr uint8_t kZero = 16 * 8, kBlockRip = 17 * 8;
    alignas(64) uint64_t slot[18] = {};

    template <class T>
    T get(uint8_t offset) const {
        T v;
        std::memcpy(&v, reinterpret_cast<const char*>(slot) + offset, sizeof v);
        return v;
    }
    // A 32-bit write clears the upper half, narrower ones keep it (SDM vol. 1, 3.4.1.1).
    template <class T>
    void set(uint8_t offset, T v) {
        if constexpr (sizeof(T) == 4) {
            uint64_t wide = v;
            std::memcpy(reinterpret_cast<char*>(slot) + offset, &wide, 8);
        } else {
            std::memcpy(reinterpret_cast<char*>(slot) + offset, &v, sizeof v);
        }
    }
    uint64_t& operator[](Gpr r) { return slot[r]; }
    uint64_t operator[](Gpr r) const { return slot[r]; }
};

enum SegReg : uint8_t { Es, Cs, Ss, Ds, Fs, Gs };

// Segment register with its hidden part (SDM vol. 3, 3.4.3). `rights` has the descriptor's bits 40..55: type
// in 0..3, S 4, DPL 5..6, P 7, AVL 12, L 13, D/B 14, G 15.
struct Segment {
    uint16_t selector = 0;
    uint16_t rights = 0;
    uint32_t limit = 0;  // in bytes, last valid offset
    uint64_t base = 0;
    bool unusable = false;  // loaded with a null selector

    unsigned type() const { return rights & 15; }
    bool isCode() const { return (rights & 0x18) == 0x18; }
    bool isData() const { return (rights & 0x18) == 0x10; }
    bool writable() const { return (rights & 0x1a) == 0x12; }
    bool readable() const { return (rights & 0x1a) != 0x18 && (rights & 0x10); }  // data, or readable code
    bool expandDown() const { return (rights & 0x1c) == 0x14; }
    bool conforming() const { return (rights & 0x1c) == 0x1c; }
    unsigned dpl() const { return rights >> 5 & 3; }
    bool present() const { return rights & 0x80; }
    bool longMode() const { return rights & 0x2000; }
    bool big() const { return rights & 0x4000; }
};

// Bits bits-1..63 of a 64-bit linear address must all be equal (SDM vol. 1, 3.3.7.1).
constexpr bool canonicalWithin(uint64_t linear, unsigned bits) {
    return uint64_t(int64_t(linear << (64 - bits)) >> (64 - bits)) == linear;
}

struct DescriptorTable {
    uint64_t base = 0;
    uint16_t limit = 0;
};

namespace cr0 {
constexpr uint64_t PE = 1, MP = 2, EM = 4, TS = 8, ET = 16, NE = 32, WP = 1 << 16, AM = 1 << 18, NW = 1 << 29,
                   CD = 1 << 30, PG = 1u << 31;
}
namespace cr4 {
constexpr uint64_t VME = 1, PVI = 2, TSD = 4, DE = 8, PSE = 16, PAE = 32, MCE = 64, PGE = 128, PCE = 256,
                   OSFXSR = 512, OSXMMEXCPT = 1024, UMIP = 2048, LA57 = 4096, VMXE = 1 << 13,
                   FSGSBASE = 1 << 16, PCIDE = 1 << 17, OSXSAVE = 1 << 18, SMEP = 1 << 20, SMAP = 1 << 21,
                   PKE = 1 << 22, PKS = 1 << 24;
}
// State components of XCR0 and the XSAVE area (SDM vol. 1, 13.1).
namespace xfeature {
constexpr uint64_t X87 = 1, SSE = 2, AVX = 4, Opmask = 32, ZmmHi256 = 64, Hi16Zmm = 128, PKRU = 512;
constexpr uint64_t AVX512 = Opmask | ZmmHi256 | Hi16Zmm;  // enabled together or not at all
}
namespace dr6 {
constexpr uint32_t BD = 1 << 13, BS = 1 << 14, BT = 1 << 15;
constexpr uint64_t kFixed = 0xffff0ff0, kWritable = 15 | BD | BS | BT;
}  // namespace dr6
namespace dr7 {
constexpr uint64_t kEnables = 0xff, GD = 1 << 13, kFixed = 0x400, kWritable = 0xffff23ff;
}
namespace debugctl {
constexpr uint64_t LBR = 1, BTF = 2;
}
namespace efer {
constexpr uint64_t SCE = 1, LME = 1 << 8, LMA = 1 << 10, NXE = 1 << 11, FFXSR = 1 << 14;
}

// An 80-bit extended-precision number: explicit integer bit in bit 63 of the mantissa.
struct Float80 {
    uint64_t mantissa = 0;
    uint16_t signExponent = 0;  // bit 15 sign, 0..14 biased exponent
};

// The x87 FPU (SDM vol. 1, chapter 8). MMX registers are the mantissas of the *physical* registers.
struct FpuState {
    std::array<Float80, 8> physical;  // R0..R7; ST(i) is physical[(top + i) & 7]
    uint16_t control = 0x37f;
    uint16_t status = 0;   // TOP in bits 11..13
    uint8_t empty = 0xff;  // bit i: physical register i is empty
    uint16_t opcode = 0;   // FOP, FIP, FDP of the last non-control instruction
    uint16_t instructionSelector = 0, dataSelector = 0;
    uint64_t instructionPointer = 0, dataPointer = 0;

    unsigned top() const { return status >> 11 & 7; }
    void setTop(unsigned t) { status = uint16_t((status & ~0x3800) | (t & 7) << 11); }
};

// A vector of 64-bit words, seen as lanes of any type.
template <unsigned Words>
struct alignas(16) VectorOf {
    std::array<uint64_t, Words> q{};

    template <class T>
    T get(unsigned i) const {
        T v;
        std::memcpy(&v, reinterpret_cast<const char*>(q.data()) + i * sizeof(T), sizeof v);
        return v;
    }
    template <class T>
    void set(unsigned i, T v) {
        std::memcpy(reinterpret_cast<char*>(q.data()) + i * sizeof(T), &v, sizeof v);
    }
};
using Vector = VectorOf<8>;  // a register; YMM and XMM are its low 32 and 16 bytes
using Ymm = VectorOf<4>;
using Xmm = VectorOf<2>;  // what an SSE instruction reads or writes

// What the last XRSTOR loaded and from where: XRSTOR_INFO, and XMODIFIED by comparison (SDM vol. 1, 13.6).
struct RestoredState {
    uint64_t linear = 0, xcomp = 0;
    uint64_t components = 0;
    unsigned cpl = 0;
    FpuState fpu;
    std::array<Vector, 32> vec;
    std::array<uint64_t, 8> opmask{};
    uint32_t mxcsr = 0, pkru = 0;
};

struct CpuState {
    RegisterFile gpr;
    uint64_t rip = 0;  // of the next instruction whenever no block is running
    Flags flags;
    std::array<Segment, 6> seg;
    Segment ldtr, tr;
    DescriptorTable gdtr, idtr;
    uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, efer = 0;
    std::array<uint64_t, 8> dr{};
    unsigned cpl = 0;
    uint32_t pkru = 0;

    FpuState fpu;
    alignas(64) std::array<Vector, 32> vec;  // only 64-bit code reaches 16 to 31, and only by EVEX
    std::array<uint64_t, 8> opmask{};
    uint64_t xcr0 = 1;
    RestoredState restored;
    uint32_t mxcsr = 0x1f80;

    // Model-specific registers that are plain storage (SDM vol. 4).
    static constexpr unsigned kMachineCheckBanks = 10;
    struct {
        uint64_t star = 0, lstar = 0, cstar = 0, sfmask = 0, kernelGsBase = 0, tscAux = 0;
        uint64_t sysenterCs = 0, sysenterEsp = 0, sysenterEip = 0;
        uint64_t pat = 0x0007040600070406, miscEnable = 0x1801, tscAdjust = 0, debugCtl = 0;
        uint64_t specCtrl = 0, mcgStatus = 0, mcgCtl = ~0ull;
        uint64_t mtrrDefType = 0;
        uint32_t pkrs = 0;
        std::array<uint64_t, 1> mtrrFix64K{};
        std::array<uint64_t, 2> mtrrFix16K{};
        std::array<uint64_t, 8> mtrrFix4K{};
        std::array<uint64_t, 16> mtrrVariable{};                                 // base and mask by turns
        std::array<std::array<uint64_t, 4>, kMachineCheckBanks> machineCheck{};  // CTL, STATUS, ADDR, MISC
        std::array<uint64_t, 4> k7EventSelect{}, k7Counter{};  // AMD's: what was written, nothing counts
    } msr;

    bool halted = false;
    bool mwaiting = false;        // halted by MWAIT
    bool mwaitBreaks = false;     // which an interrupt ends even if it is masked
    bool waitingForSipi = false;  // an application processor after INIT
    bool stiShadow = false;       // interrupts wait for one instruction after STI
    bool movSsShadow = false;     // interrupts and debug traps wait for one instruction after MOV/POP SS
    bool nmiBlocked = false;      // until IRET
    uint32_t pendingDebug = 0;    // DR6 bits of debug traps that wait for the instruction boundary

    bool smm = false;           // in system management mode
    uint32_t smbase = 0x30000;  // kept by INIT

    bool real() const { return !(cr0 & cr0::PE); }
    bool v86() const { return flags.test(flag::VM); }
    bool protectedMode() const { return (cr0 & cr0::PE) && !v86(); }
    bool longMode() const { return efer & efer::LMA; }
    // Of addresses about to be used: 57 bits under CR4.LA57.
    bool canonical(uint64_t linear) const { return canonicalWithin(linear, cr4 & cr4::LA57 ? 57 : 48); }
    bool code64() const { return longMode() && seg[Cs].longMode(); }
};

}  // namespace kiln
