// Writes the code of promoted traps (promotions.hpp). Guest registers are in their standard places, the
// guest's flags are in the frame, rax, rcx and rdx are free: as at a call of the translator.
#pragma once
#include <asmjit/x86.h>

#include <span>

#include "cpu/msr_place.hpp"
#include "cpu/trap_profile.hpp"
#include "mmu/direct_register.hpp"
#include "mmu/tlb.hpp"
#include "translate/host_frame.hpp"
#include "translate/processor_places.hpp"
#include "translate/refusal.hpp"
#include "translate/site.hpp"
#include "translate/thunks.hpp"

namespace kiln {

class PromotedCode {
  public:
    // To lie at `at`. `otherwise`: where to go on if the trap is another one; null: the translator is called.
    struct Surroundings {
        const ProcessorPlaces& places;
        const Thunks& thunks;
        const uint8_t* at;
        uint32_t site;
        const uint8_t* resume;
        const uint8_t* otherwise;
    };
    explicit PromotedCode(const Surroundings& s);

    // -- what must be so
    void requirePort(const Site& site, uint16_t port);
    void requirePortRights();  // CPL 0 and no breakpoints on ports
    // That the slice does not end with the block.
    void requireSlice(const Site& site, unsigned count);
    void requireCpl0();
    void requireProcessor(const void* processor);
    void requireRegister(unsigned guest, uint32_t value);     // its lower half
    void requireWord(const uint32_t* place, uint32_t value);  // of the processor
    // That HostFrame::operand, of a Miss, is so far into the page that the TLB's entry is about, and nothing
    // there is watched.
    void requirePage(bool write, const Tlb::Entry& entry, uint64_t offset);
    // The same of any operand of so many bytes in that range of physical addresses, at most 1 GiB.
    void requireRange(bool write, const Tlb::Entry& entry, unsigned bytes, uint64_t begin, uint64_t size);
    // To rdx; or, right behind requireRange(), how far the operand is from the begin, plus that.
    void loadOffset(uint64_t offset, bool inRange);

    // -- what is done: false, and nothing is to be used of this, for what can't be
    bool read(const DirectRegister& from, unsigned size);  // to rcx
    bool write(const DirectRegister& to, unsigned size);   // from rcx
    void callHandler(uint32_t promotion);                  // and no more
    bool perform(const RegisterSteps& steps);              // value in rcx, rdx: offset
    void loadRegister(unsigned guest, bool high = false);  // to rcx; AH, CH, DH, BH
    void extend(unsigned bytes);                           // rcx's lower ones with zeros
    void loadConstant(uint64_t value);                     // to rcx
    // rcx to a register: so many bytes, of which fewer than four are all that changes unless they are
    // `extended`.
    void storeRegister(unsigned guest, unsigned bytes, bool extended = false);
    void storeHigh(unsigned guest);
    void storeConstant(unsigned guest, uint32_t value);
    void readMsr(const MsrPlace& from);
    void writeMsr(const MsrPlace& to);
    void fence();

    // -- the end; empty: it has become too long
    void resume(TrapSite& counted, bool withFlags);
    std::span<const uint8_t> finish(size_t most);

  private:
    asmjit::x86::Mem frame(size_t at, unsigned bytes) const;
    asmjit::x86::Mem processor(const void* place, unsigned bytes, const asmjit::x86::Gp& base) const;
    asmjit::x86::Mem slot(unsigned guest, unsigned bytes) const;
    void toProcessor();  // to rax
    void requireEntry(bool write, const Tlb::Entry& entry, unsigned bytes);
    void nanoseconds();  // guest time, to rax
    void guard(const DirectRegister& r);
    void borrow(bool back);

    const Surroundings s_;
    Refusal refusal_;
    asmjit::CodeHolder code_;
    asmjit::x86::Assembler a_;
    asmjit::Label other_, giveBack_;
    bool borrowed_ = false;
};

}  // namespace kiln
