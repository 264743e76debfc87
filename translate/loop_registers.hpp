// What goes round in a loop of traps (trap_loop.hpp): the general registers and the flags, and what its steps
// do to them.
#pragma once
#include <cstdint>

#include "cpu/flags.hpp"
#include "mmu/io.hpp"
#include "translate/trap_loop.hpp"

namespace kiln {

template <class Operation>
uint64_t atWidth(unsigned bytes, Operation operation) {
    switch (bytes) {
        case 1: return operation.template operator()<uint8_t>();
        case 2: return operation.template operator()<uint16_t>();
        case 4: return operation.template operator()<uint32_t>();
        default: return operation.template operator()<uint64_t>();
    }
}

// The general registers and flags on the way round.
struct LoopRegisters {
    using What = TrapLoop::What;
    using Step = TrapLoop::Step;

    uint64_t r[16];
    Flags flags;

    // What is stored.
    uint64_t data(const Step& s) const {
        return s.what == What::StoreConstant ? uint64_t(s.constant) : r[s.to] >> (s.high ? 8 : 0);
    }
    void set(const Step& s, uint64_t v) {
        if (s.high) {
            r[s.to] = (r[s.to] & ~0xff00ull) | (v & 0xff) << 8;
            return;
        }
        const uint64_t mask = s.merges ? openBus(s.bytes) : ~0ull;
        r[s.to] = (r[s.to] & ~mask) | (v & mask);
    }
    uint64_t source(const Step& s) const { return s.from < 16 ? r[s.from] : uint64_t(s.constant); }
    uint64_t address(const Step& s) const {
        const uint64_t base = s.base < 16 ? r[s.base] : 0, index = s.index < 16 ? r[s.index] << s.scale : 0;
        const int64_t distance = s.what == What::StoreConstant ? 0 : s.constant;
        return (base + index + uint64_t(distance)) & openBus(s.width);
    }
    void advance(const Step& s) {
        if (s.advance) r[s.base] = (r[s.base] + s.advance) & openBus(s.width);
    }
    void arithmetic(const Step& s) {
        const uint64_t v = atWidth(s.bytes, [&]<class T>() -> uint64_t {
            const T a = T(r[s.to]), b = T(source(s));
            T result = a;
            switch (s.what) {
                case What::Add: flags.add<T>(a, b, result = T(a + b)); break;
                case What::Sub: flags.sub<T>(a, b, result = T(a - b)); break;
                case What::Compare: flags.sub<T>(a, b, T(a - b)); return r[s.to];
                case What::Test: flags.logic<T>(T(a & b)); return r[s.to];
                default: {
                    const bool carry = flags.cf();
                    const T one = 1;
                    s.what == What::Inc ? flags.add<T>(a, one, result = T(a + 1))
                                        : flags.sub<T>(a, one, result = T(a - 1));
                    flags.set<T>(result, carry, flags.of(), flags.af());
                    break;
                }
            }
            return result;
        });
        if (s.what != What::Compare && s.what != What::Test) set(s, v);
    }

    // -- many rounds at once (TrapLoop::Bulk), in front of the step `at`
    // In which of them that step is done for sure, this one included.
    uint64_t roundsFrom(const TrapLoop& loop, unsigned at) const;
    // Where the step `other` moves its data in this round.
    uint64_t addressOf(const TrapLoop& loop, unsigned other, unsigned at) const;
    // False: an addition of 32 bits would clear what is above them.
    bool mayAdd(const TrapLoop::Bulk& bulk) const;
    void addRounds(const TrapLoop::Bulk& bulk, uint64_t rounds);
};

}  // namespace kiln
