// How often each trapping instruction runs, what it is about, and what is done about it: a trap leaves the
// guest's own computation, for a port, a register of a device or of the processor, or a handler. Places are
// linear addresses, whatever the address space.
//
// At most kMostSites are told apart; those that come later share one entry a kind. Times are host time, of
// one trap in 256. What translated code does in line, it counts in an array beside (InlineTraps).
#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

namespace kiln {

enum class TrapKind : uint8_t {
    In,
    Out,
    MemoryRead,  // of registers in memory
    MemoryWrite,
    Cpuid,
    Rdmsr,
    Wrmsr,
    ReadControl,   // MOV from CRn, SMSW
    WriteControl,  // MOV to CRn, LMSW, CLTS
    Debug,         // MOV to and from DRn
    Invlpg,
    Invpcid,
    Rdtsc,
    Hlt,
    Pause,
    InterruptFlag,  // CLI, STI
    Popf,
    Interrupt,  // INT n, INT3, INTO, INT1
    Iret,
    SystemCall,    // SYSCALL, SYSENTER
    SystemReturn,  // SYSRET, SYSEXIT
    Fault,
    Count
};
constexpr size_t kTrapKinds = size_t(TrapKind::Count);
std::string_view nameOf(TrapKind kind);

// One instruction's.
struct TrapSite {
    enum class State : uint8_t { Counted, Promoted, Demoted, Inline };
    uint64_t rip = 0;     // linear
    uint64_t target = 0;  // the last one: port, physical address, leaf, MSR, vector, control register
    TrapKind kind{};
    State state = State::Counted;
    uint64_t handled = 0;   // that had to be looked into
    uint64_t promoted = 0;  // done by promoted code, with a handler that was known
    uint64_t refused = 0;   // that promoted code was not for
    uint32_t promotions = 0, demotions = 0;
    uint64_t nextPromotion = 32;          // is to be thought about when so many were handled
    uint64_t nanoseconds = 0, timed = 0;  // of so many of those handled
    uint64_t count() const { return handled + promoted; }
    uint64_t meanNanoseconds() const { return timed ? nanoseconds / timed : 0; }
};

// Numbers for instructions that translated code does in line: each processor counts them in an array. Those
// that come too late share one number a kind. From any thread.
class InlineTraps {
  public:
    static constexpr size_t kMost = 2048;
    struct Place {
        uint64_t rip = 0;  // linear: where it was first seen
        TrapKind kind{};
    };
    InlineTraps();
    // Of the instruction at a physical address; `rip` is 0 of one that is known already.
    size_t number(uint64_t physical, TrapKind kind, uint64_t rip);
    std::vector<Place> places() const;  // by number

  private:
    mutable std::mutex mutex_;
    std::vector<Place> places_;
    std::map<uint64_t, size_t> known_;
};

class TrapProfile {
  public:
    static constexpr size_t kMostSites = 4096;

    TrapProfile();
    // Whose counts, from now on, are among the sites: of its own processor, which outlives this.
    void follow(std::shared_ptr<const InlineTraps> traps, std::span<uint64_t> counts);
    // The entry of an instruction, for as long as this lives.
    TrapSite& at(uint64_t rip, TrapKind kind) {
        const size_t slot = slotOf(rip, kind);
        if (TrapSite* s = slots_[slot]; s && s->rip == rip && s->kind == kind) [[likely]]
            return *s;
        return find(rip, kind);
    }
    // Every site that was counted, the hottest first.
    std::vector<const TrapSite*> sites();

  private:
    static constexpr size_t kSlots = 2 * kMostSites;
    static size_t slotOf(uint64_t rip, TrapKind kind) {
        return ((rip + uint64_t(kind)) * 0x9e3779b97f4a7c15) >> 51;
    }
    static_assert(kSlots == 1 << 13);
    TrapSite& find(uint64_t rip, TrapKind kind);
    void takeInline();

    std::unique_ptr<TrapSite*[]> slots_;
    std::unique_ptr<TrapSite[]> sites_;
    size_t used_ = 0;
    std::array<TrapSite, kTrapKinds> others_{};
    std::shared_ptr<const InlineTraps> inline_;
    std::span<uint64_t> inlineCounts_;
};

// While one lives, a trap is being handled.
class TrapScope {
  public:
    TrapScope(TrapSite& site, uint64_t target) : site_(site) {
        site.target = target;
        if ((++site.handled & 0xff) == 0) begun_ = Clock::now();
    }
    ~TrapScope() {
        if (begun_ != Clock::time_point{}) [[unlikely]]
            end();
    }
    TrapScope(const TrapScope&) = delete;
    TrapScope& operator=(const TrapScope&) = delete;

  private:
    using Clock = std::chrono::steady_clock;
    void end();
    TrapSite& site_;
    Clock::time_point begun_{};
};

}  // namespace kiln
