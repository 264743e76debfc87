// The host processor as the judge: runs one instruction natively from a given state and says what became of
// it.
//
// Everything lies below 2 GiB at fixed addresses, so that 32-bit code (run in the host's compatibility mode)
// and 64-bit code see the same memory as the guest under test. A stub loads the whole state, enters the
// instruction by IRETQ (which also synchronises with the code just written) and stores the whole state behind
// it; signals are caught on a stack of their own and reported as the exception they came from.
#pragma once
#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "cpu/state.hpp"

namespace kiln::test {

// The image of FXSAVE: x87, MXCSR and the XMM registers (SDM vol. 1, 10.5.1).
struct alignas(16) FxImage {
    std::array<uint8_t, 512> bytes{};

    template <class T>
    T get(unsigned at) const {
        T v;
        std::memcpy(&v, &bytes[at], sizeof v);
        return v;
    }
    template <class T>
    void set(unsigned at, T v) {
        std::memcpy(&bytes[at], &v, sizeof v);
    }
    static constexpr unsigned kControl = 0, kStatus = 2, kTags = 4, kMxcsr = 24, kRegisters = 32, kXmm = 160;
    unsigned top() const { return get<uint16_t>(kStatus) >> 11 & 7; }
};

struct UserState {
    std::array<uint64_t, 16> gpr{};
    uint64_t rip = 0;
    uint64_t rflags = 2;
    FxImage fx;
    std::array<std::array<uint64_t, 2>, 16> ymmHigh{};  // bits 255:128; a host without AVX leaves them alone
    // A host without AVX-512 leaves these alone.
    std::array<std::array<uint64_t, 4>, 16> zmmHigh{};  // bits 511:256
    std::array<std::array<uint64_t, 8>, 16> zmm16{};    // ZMM16 to ZMM31
    std::array<uint64_t, 8> opmask{};

    uint64_t vectorWord(unsigned reg, unsigned word) const {
        if (reg >= 16) return zmm16[reg - 16][word];
        if (word >= 4) return zmmHigh[reg][word - 4];
        return word < 2 ? fx.get<uint64_t>(FxImage::kXmm + 16 * reg + 8 * word) : ymmHigh[reg][word - 2];
    }
    void setVectorWord(unsigned reg, unsigned word, uint64_t v) {
        if (reg >= 16)
            zmm16[reg - 16][word] = v;
        else if (word >= 4)
            zmmHigh[reg][word - 4] = v;
        else if (word >= 2)
            ymmHigh[reg][word - 2] = v;
        else
            fx.set<uint64_t>(FxImage::kXmm + 16 * reg + 8 * word, v);
    }
};

struct HostFault {
    uint8_t vector = 0;
    uint32_t error = 0;
    uint64_t cr2 = 0;
};

void importState(const UserState& from, CpuState& to);
UserState exportState(const CpuState& from);

class HostOracle {
  public:
    static constexpr uint64_t kCode = 0x18000000, kScratch = 0x20000000, kScratchSize = 0x4000;
    static constexpr uint64_t kGsBase = kScratch + 0x840;  // 64-bit code only
    static constexpr uint64_t kTaken = kCode + 0x800;      // where branches may go

    // Is there such a judge: an x86-64 Linux host that has what kiln's CPUID offers?
    static bool available();
    // Does this host have the extension an instruction belongs to?
    static bool runs(ZydisISASet set);

    HostOracle();
    ~HostOracle();
    HostOracle(const HostOracle&) = delete;
    HostOracle& operator=(const HostOracle&) = delete;

    bool isIntel() const { return intel_; }
    // The memory both sides may use; around it nothing is mapped.
    uint8_t* scratch() { return reinterpret_cast<uint8_t*>(kScratch); }

    // Runs `code` at `at`, which lies in the code page. The state comes back as it was behind the
    // instruction, or at the fault. A jump may end at kTaken.
    std::optional<HostFault> run(std::span<const uint8_t> code, uint64_t at, bool code64, UserState& state);

  private:
    void handleSignals(bool on);
    bool intel_ = false;
    uint8_t* codeAlias_ = nullptr;  // the writable mapping of the code page
};

}  // namespace kiln::test
