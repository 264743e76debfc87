// The guest's vector and x87 registers on their way into the host's and back. Both are lazy: a block's first
// instruction that names such a register asks for it, and they go back before any C++ runs, which may use the
// same registers.
//
//     None -> Sse -> Avx -> (AvxWide ->) Avx512     by the widest instruction so far
//
// The x87 registers go by an image of XSAVE in the frame, which becomes CpuState's fields only when somebody
// is to look at them. MMX registers are the x87's.
//
// Nothing is loaded while its use would trap (CR0.TS and relatives, XCR0), nor while the guest has unmasked
// an exception: the interpreter then delivers it where it belongs.
#pragma once
#include <asmjit/x86.h>

#include "cpu/cpu.hpp"
#include "translate/host_frame.hpp"

namespace kiln {

struct VectorState {
    static bool hostHasAvx();
    static bool hostHasAvx512();  // with BW, DQ and VL
    static bool hostHasXsave();

    static constexpr uint8_t kX87 = 1 << 7;  // in HostFrame::refused, beside a bit for each VectorLevel
    static constexpr uint8_t kAll = 0xff;     // with CR0.TS
    static uint8_t refused(const Cpu& cpu, const FpuTraps& traps);
    // Bits 511:256 of registers 0 to 15, which a host without AVX-512 can't take.
    static bool beyondYmm(const Cpu& cpu);

    // Between CpuState and the image.
    static void x87ToImage(HostFrame& frame, const Cpu& cpu);
    static void x87ToCpu(HostFrame& frame, Cpu& cpu);
    // FIP and FDP alone: before selectors can become others.
    static void pointersToCpu(HostFrame& frame, Cpu& cpu);
};

// Host code for it, shared by all blocks.
class VectorCode {
  public:
    explicit VectorCode(asmjit::x86::Assembler& assembler);

    // Part of callOut: stores what is loaded, and loads what HostFrame says is next. The site in eax stays
    // while storing; rcx and rdx are used.
    void store();
    void reload();
    // Subroutines. One that loads is called with a site's number in eax, and goes to `callOut` with it where
    // it is for C++ to decide. rcx and rdx are used; one that loads the x87's, rax, too.
    void subroutines(const asmjit::Label& callOut);

    std::array<asmjit::Label, kVectorLevels> load;  // by VectorLevel; invalid: the host has no such registers
    asmjit::Label loadX87;

  private:
    void begin(VectorLevel level, const asmjit::Label& out);
    void end(VectorLevel level);
    void testUpper(const asmjit::Label& wide, const asmjit::Label& dirty);
    void loadLow(const asmjit::Label& wide, bool wideHere);

    asmjit::x86::Assembler& a_;
    asmjit::Label store_;  // a subroutine; rdx: the frame
};

}  // namespace kiln
