// A processor with memory, ports and interrupt controller around it, ready to run a few instructions: for
// tests.
//
//   1000h GDT   2000h IDT   3000h TSS   5000h..6000h supervisor stack   6000h.. one HLT per vector, 8 bytes
//   apart 8000h page tables, as many as needed      the rest of the first MiB is free
//
// A fault is delivered through the IDT like any other and shows as Caught; the state is then put back to
// where the instruction began, so that the bench can go on.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "cpu/cpu.hpp"
#include "translate/options.hpp"

namespace kiln::test {

// With KILN_JIT in the environment the translator runs blocks from their first time on: all tests once more
// for it. With KILN_JIT=background it does so as soon as another thread has drafted them.
std::optional<TranslatorOptions> chosenTranslator();

// What was delivered instead of the next instruction.
struct Caught {
    uint8_t vector = 0;
    uint32_t error = 0;   // 0 where the vector has none
    uint64_t rip = 0;     // from the frame
    uint64_t rflags = 0;  // from the frame
    uint64_t rsp = 0;     // before delivery
    uint64_t cr2 = 0;
};

class GuestBench {
  public:
    enum class Mode { Real16, Protected32, Compat32, Long64 };
    static constexpr uint64_t kLow = 0x100000;     // bytes of identity-mapped low memory
    static constexpr uint64_t kHandlers = 0x6000;  // vector n's HLT is at kHandlers + 8 * n

    explicit GuestBench(Mode mode, unsigned cpl = 0, std::shared_ptr<const CpuModel> model = kilnModel(),
                        bool threads = false);  // as where other processors run at the same time

    // Adds zeroed RAM at an address; with paging on, mapped there for users too. Multiples of a page.
    void addRam(uint64_t address, uint64_t size);
    void map(uint64_t linear, uint64_t physical, bool user = true, bool writable = true);
    void write(uint64_t address, std::span<const uint8_t> bytes) {
        memory.write(PhysAddr(address), bytes.data(), bytes.size());
        if (code.hasDead()) code.collect();
    }
    uint8_t* host(uint64_t address) { return memory.find(PhysAddr(address)).host; }

    // One instruction at rip (a repeated string instruction to its end).
    std::optional<Caught> step();
    // Runs to the next HLT, which may be that of a fault handler. `most`: instructions before giving up.
    std::optional<Caught> runToHalt(int64_t most = 1'000'000);
    // Runs blocks until something is delivered. At CPL 3 a HLT behind the code (#GP) ends it.
    std::optional<Caught> runToException(int64_t most = 100'000);
    void setBase(SegReg segment, uint64_t base);
    // What a system does that wants its programs to use YMM registers.
    void enableAvx();
    // Puts segments and privilege level back to those of the mode.
    void restoreMode();

    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    PortBus ports;
    ApicBus apicBus;
    CodeCache code{memory};
    LocalApic apic;
    Cpu cpu;
    std::string shutdown;                 // why, after a triple fault
    std::unique_ptr<HotCode> translator;  // see chosenTranslator()

  private:
    static constexpr uint64_t kGdt = 0x1000, kIdt = 0x2000, kTss = 0x3000, kStackTop = 0x6000,
                              kTables = 0x8000;
    void enterReal();
    void enterProtected();
    void enterLong();
    void writeTables();
    Segment flat(uint16_t selector, bool codeSegment, bool wide64) const;
    std::optional<Caught> caught();
    bool has64BitFrames() const { return mode_ == Mode::Long64 || mode_ == Mode::Compat32; }

    Mode mode_;
    unsigned cpl_;
    std::vector<std::unique_ptr<RamBlock>> ram_;
    uint64_t nextTable_ = kTables;
    std::array<Segment, 6> segments_;
};

}  // namespace kiln::test
