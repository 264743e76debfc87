// What a block's host code takes for granted beside its bytes. In 64-bit code and in 32-bit code of flat
// segments that is nothing more. Elsewhere ("segmented" code: real and virtual-8086 mode, 16-bit segments,
// segments with a base or a limit) it is made for the offset in CS at which the block begins, so that
// targets, return addresses and their limit checks are constants, for the end of CS and for the size of the
// stack. Bases and limits of data segments may change at any instruction and are looked up.
//
// A processor's blocks are found by physical address alone: one that is run in other surroundings than its
// host code is for is interpreted, and made anew when that happens often.
#pragma once
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace kiln {

struct Surroundings {
    uint64_t key = 0;                     // of these and of the base of CS, from bit 32 on; 0: not segmented
    uint32_t kind = 0;                    // number of all that host code depends on but for the offset
    bool code32 = true, bigStack = true;  // CS.D, SS.B
    bool v86 = false;
    bool whole = false;  // real and virtual-8086 mode, with no segment that ends below 64 KiB
    uint64_t codeBase = 0, codeEnd = 0;

    bool segmented() const { return key != 0; }
    uint64_t hostFor(uint64_t rip) const { return key ? uint64_t(kind) << 32 | uint32_t(rip) : 0; }
};

class KnownSurroundings {
  public:
    static constexpr size_t kMost = 20'000;
    bool full() const { return known_.size() >= kMost; }
    void clear() { known_.clear(), kinds_.clear(); }  // no number is used again
    // With key and kind; without a key when there are too many.
    Surroundings find(Surroundings wanted);

  private:
    struct Id {
        uint64_t codeBase, codeEnd;
        unsigned flavour;
        bool operator==(const Id&) const = default;
        struct Hash {
            size_t operator()(const Id& i) const {
                return size_t((i.codeBase ^ i.codeEnd << 24 ^ uint64_t(i.flavour) << 60) *
                              0x9e3779b97f4a7c15);
            }
        };
    };
    std::unordered_map<Id, Surroundings, Id::Hash> known_;
    std::unordered_map<Id, uint32_t, Id::Hash> kinds_;  // without a base
    uint32_t keys_ = 0, lastKind_ = 0;
};

}  // namespace kiln
