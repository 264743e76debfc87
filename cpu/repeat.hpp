// What the string instructions and INS/OUTS share: implied registers of the address size, the repeat
// prefixes, and the stretch of elements that lies in one page (SDM vol. 1, 7.3.9; vol. 2, REP).
//
// A repeated instruction keeps its registers up to date as it goes, so a fault in the middle restarts it
// behind the elements done. After kElementsAtOnce it goes back to the run loop with rip on itself, so that
// interrupts get in.
#pragma once
#include <algorithm>
#include <limits>

#include "cpu/body.hpp"

namespace kiln {

constexpr uint64_t kElementsAtOnce = 4096;

// Elements until the run loop must look at interrupts; TF and breakpoints trap after each one.
inline uint64_t repeatBudget(const Cpu& c) { return c.watchesElements() ? 1 : kElementsAtOnce; }

// The register as far as the address size (U) sees it. Writing follows the rules of register writes: 32 bits
// extend.
template <class U>
U indexOf(const Cpu& c, Gpr r) {
    return c.gpr.get<U>(uint8_t(r * 8));
}
template <class U>
void setIndex(Cpu& c, Gpr r, U v) {
    c.gpr.set<U>(uint8_t(r * 8), v);
}
// Moves past `n` elements of type T in the direction of DF.
template <class T, class U>
void advance(Cpu& c, Gpr r, uint64_t n = 1) {
    uint64_t bytes = n * sizeof(T);
    setIndex<U>(c, r, U(indexOf<U>(c, r) + (c.flags.test(flag::DF) ? 0 - bytes : bytes)));
}

// How many elements from `offset` upward lie in one page, inside the segment and before the address wraps.
// Throws what an access to the first one would. 0: the first one crosses a page.
template <class T, class U>
uint64_t elementsInPage(Cpu& c, unsigned segment, U offset, Access access) {
    uint64_t linear = c.linearOf(segment, offset, sizeof(T), access);
    uint64_t bytes = kPageSize - (linear & kPageMask);
    if (!c.code64()) {
        const Segment& s = c.seg[segment];
        uint64_t end = uint64_t(s.limit) + 1;
        if (c.protectedMode() && s.expandDown()) end = s.big() ? 1ull << 32 : 1ull << 16;
        bytes = std::min(bytes, end - offset);
    }
    if constexpr (sizeof(U) < 8)
        bytes = std::min<uint64_t>(bytes, uint64_t(std::numeric_limits<U>::max()) + 1 - offset);
    return bytes / sizeof(T);
}

// Copies upward element by element, as the processor does: where the destination starts inside the source the
// pattern between them repeats.
template <class T>
void copyUpward(uint8_t* to, const uint8_t* from, uint64_t n) {
    if (to <= from || uint64_t(to - from) >= n * sizeof(T)) {
        moveInGuest(to, from, n * sizeof(T));
    } else if (sizeof(T) == 1 && to == from + 1) {
        fillGuest(to, loadGuest<uint8_t>(from), n);
    } else {
        for (uint64_t k = 0; k < n; k++) storeGuest(to + k * sizeof(T), loadGuest<T>(from + k * sizeof(T)));
    }
}

template <class T>
void fillUpward(uint8_t* to, T v, uint64_t n) {
    if (v == T(uint8_t(v) * (T(~T(0)) / 255)))
        fillGuest(to, uint8_t(v), n * sizeof(T));
    else
        for (uint64_t k = 0; k < n; k++) storeGuest(to + k * sizeof(T), v);
}
inline void fillElements(unsigned size, uint8_t* to, uint64_t v, uint64_t n) {
    switch (size) {
        case 1: return fillUpward(to, uint8_t(v), n);
        case 2: return fillUpward(to, uint16_t(v), n);
        case 4: return fillUpward(to, uint32_t(v), n);
        default: return fillUpward(to, v, n);
    }
}

// Repeats `run(most)` until rCX is 0. It does between 1 and `most` elements and says how many. False:
// unfinished.
template <class U, class Run>
bool repeat(Cpu& c, Run run) {
    uint64_t budget = repeatBudget(c);
    while (U count = indexOf<U>(c, Rcx)) {
        if (budget == 0) return false;
        uint64_t done = run(std::min<uint64_t>(count, budget));
        budget -= std::min(done, budget);
    }
    return true;
}

// With 32-bit addresses a repeated instruction extends rCX even when it is 0; MOVS and STOS extend their
// indices as well, also when the first element faults (seen on processors, not in the manual).
template <class U>
void extendRegisters(Cpu& c, std::initializer_list<Gpr> registers) {
    if constexpr (sizeof(U) == 4)
        for (Gpr r : registers) setIndex<U>(c, r, indexOf<U>(c, r));
}

// Counts rCX down by elements that are done.
template <class U>
void countDown(Cpu& c, uint64_t n = 1) {
    setIndex<U>(c, Rcx, U(indexOf<U>(c, Rcx) - n));
}

// Where neither a run over host memory is possible, elements go one by one, this many before the next look.
constexpr uint64_t kSingly = 32;

// The handler around a body that says whether it has finished.
template <bool (*body)(Cpu&, const Insn&)>
void repeating(Cpu& c, const Insn* i) {
    c.at = i;
    if (!body(c, *i)) {
        c.rip = c.currentRip();
        // Whatever comes now pushes RF set: the instruction's own breakpoint was met (SDM vol. 3, 17.3.1.1).
        c.flags.change(flag::RF, true);
        c.refund(i);
        // Thousands of elements are worth many entries.
        if (const Block* b = c.block; b && b->heat > 1) b->heat -= b->heat / 2;
#if !KILN_TAIL_CALLS
        c.next = nullptr;
#endif
        return;
    }
    KILN_DISPATCH(c, i + 1);
}

// Calls `visit` with the element type and the address type of an implied-operand instruction.
template <class Visit>
Handler byAddressSize(const Shape& s, Visit visit) {
    switch (s.z.address_width) {
        case 16: return visit.template operator()<uint16_t>();
        case 32: return visit.template operator()<uint32_t>();
        default: return visit.template operator()<uint64_t>();
    }
}

inline bool hasRepeatPrefix(const Shape& s) {
    return s.z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

}  // namespace kiln
