// What the tests of protection share: descriptors and gates by name, a guest whose tables and stacks can be
// rearranged, and the frame that a delivered event has pushed.
#pragma once
#include <doctest/doctest.h>

#include <initializer_list>

#include "tests/cpu_bench.hpp"

namespace kiln::test {

// Access-rights bytes: P, DPL 0, and the type of SDM vol. 3, tables 3-1 and 3-2.
constexpr unsigned kDataRw = 0x93, kDataRo = 0x91, kDataDown = 0x97, kCodeRx = 0x9b, kCodeXo = 0x99,
                   kCodeConforming = 0x9f, kLdtType = 0x82, kTss16 = 0x81, kTss32 = 0x89, kCallGate16 = 0x84,
                   kTaskGateType = 0x85, kInt16 = 0x86, kTrap16 = 0x87, kCallGate32 = 0x8c, kInt32 = 0x8e,
                   kTrap32 = 0x8f;
constexpr unsigned dpl(unsigned level) { return level << 5; }
constexpr unsigned kAbsent = 0x80;  // XOR into an access byte

// `flags`: G 8, D/B 4, L 2. `limit` counts pages with G.
constexpr uint64_t segment(unsigned access, uint32_t base, uint32_t limit, unsigned flags) {
    return (limit & 0xffff) | uint64_t(base & 0xffffff) << 16 | uint64_t(access) << 40 |
           uint64_t(limit >> 16 & 15) << 48 | uint64_t(flags) << 52 | uint64_t(base >> 24) << 56;
}
constexpr uint64_t gate(unsigned access, uint16_t selector, uint32_t offset, unsigned params = 0) {
    return (offset & 0xffff) | uint64_t(selector) << 16 | uint64_t(params) << 32 | uint64_t(access) << 40 |
           uint64_t(offset >> 16) << 48;
}

// GDT slots of the bench, and those free for tests: from 0x40 on.
constexpr uint16_t kCode0 = 0x08, kData0 = 0x10, kCode3 = 0x1b, kData3 = 0x23;

struct SystemGuest : GuestBench {
    static constexpr uint64_t kGdtAt = 0x1000, kIdtAt = 0x2000, kTssAt = 0x3000, kCodeAt = 0x50000,
                              kDataAt = 0x60000, kHandlersAt = 0x6000;

    explicit SystemGuest(Mode mode, unsigned cpl = 0, std::shared_ptr<const CpuModel> model = kilnModel())
        : GuestBench(mode, cpl, std::move(model)) {
        if (mode != Mode::Real16) cpu.gdtr.limit = 0x1ff;
        cpu.gpr[Rsp] = mode == Mode::Real16 ? 0x4000 : 0x80000;
    }
    void setGdt(uint16_t selector, uint64_t descriptor) {
        put<uint64_t>(kGdtAt + (selector & ~7), descriptor);
    }
    uint64_t gdt(uint16_t selector) { return get<uint64_t>(kGdtAt + (selector & ~7)); }
    void setIdt(unsigned vector, uint64_t low) { put<uint64_t>(kIdtAt + vector * idtEntry(), low); }
    unsigned idtEntry() const { return cpu.longMode() ? 16 : 8; }
    uint32_t handler(unsigned vector) const { return uint32_t(kHandlersAt + vector * 8); }

    template <class T>
    void put(uint64_t at, T v) {
        memory.write<T>(PhysAddr(at), v);
    }
    template <class T>
    T get(uint64_t at) {
        return memory.read<T>(PhysAddr(at));
    }
    // Puts code at rip (its linear address) without running it.
    void code(std::initializer_list<uint8_t> bytes, uint64_t at = kCodeAt) {
        write(at, std::vector<uint8_t>(bytes));
        cpu.rip = at - cpu.seg[Cs].base;
    }
    // Runs one instruction and says what it raised.
    std::optional<Caught> does(std::initializer_list<uint8_t> bytes) {
        code(bytes);
        return step();
    }
    // Words on the stack, the top one first.
    template <class T>
    T top(unsigned n) {
        uint64_t sp = cpu.gpr[Rsp];
        if (!cpu.code64()) sp = cpu.seg[Ss].base + (sp & (cpu.seg[Ss].big() ? 0xffffffff : 0xffff));
        return get<T>(sp + n * sizeof(T));
    }
    template <class T>
    void push(std::initializer_list<uint64_t> top_first) {
        cpu.gpr[Rsp] -= top_first.size() * sizeof(T);
        uint64_t at = cpu.seg[Ss].base + cpu.gpr[Rsp];
        for (uint64_t v : top_first) put<T>(at, T(v)), at += sizeof(T);
    }
};

// The result of SystemGuest::does() is this exception with this error code.
#define CHECK_RAISES(result, wantedVector, wantedError)   \
    do {                                                  \
        auto raised_ = (result);                          \
        REQUIRE(raised_.has_value());                     \
        CHECK(int(raised_->vector) == int(wantedVector)); \
        CHECK(raised_->error == uint32_t(wantedError));   \
    } while (0)

}  // namespace kiln::test
