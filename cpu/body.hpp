// How a body becomes a handler. A body is a plain function of the processor and the decoded instruction; the
// handler around it notes which instruction runs (for faults) and goes on to the next:
//
//     void cmc(Cpu& c, const Insn&) { c.flags.setCf(!c.flags.cf()); }
//     {ZYDIS_MNEMONIC_CMC, only<cmc>}
//
// Bodies never touch ModRM, prefixes or addresses: operands come through RegOperand, MemOperand, ImmOperand, and families
// such as `binary<Add>` choose the form by operand kinds and width.
#pragma once
#include "cpu/cpu.hpp"

namespace kiln {

// Optimised builds thread from handler to handler by tail calls; others (and sanitizers, which keep frames alive)
// return to a small loop in Cpu::runBlock.
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer) && !__has_feature(memory_sanitizer)
#define KILN_TAIL_CALLS 1
#endif
#else
#define KILN_TAIL_CALLS 1
#endif
#endif

#if KILN_TAIL_CALLS && defined(__clang__)
#define KILN_DISPATCH(cpu, insn)                         \
    do {                                                 \
        const Insn* n_ = (insn);                         \
        if (!n_) return;                                 \
        [[clang::musttail]] return n_->run(cpu, n_);     \
    } while (0)
#elif KILN_TAIL_CALLS
#define KILN_DISPATCH(cpu, insn)          \
    do {                                  \
        const Insn* n_ = (insn);          \
        if (!n_) return;                  \
        return n_->run(cpu, n_);          \
    } while (0)
#else
#define KILN_DISPATCH(cpu, insn) \
    do {                         \
        (cpu).next = (insn);     \
        return;                  \
    } while (0)
#endif

using Body = void (*)(Cpu&, const Insn&);

// The next instruction in the block follows.
template <Body body>
void straight(Cpu& c, const Insn* i) {
    c.at = i;
    body(c, *i);
    KILN_DISPATCH(c, i + 1);
}

// The body has set rip, and nothing else changed that a look-up of the next block depends on.
template <Body body>
void leaving(Cpu& c, const Insn* i) {
    c.at = i;
    body(c, *i);
    KILN_DISPATCH(c, c.enterNext());
}

// Goes back to the run loop behind this instruction: modes, IF or the address space may have changed. Bodies that
// transfer control set rip themselves.
template <Body body>
void serializing(Cpu& c, const Insn* i) {
    c.at = i;
    c.rip = c.nextRip(*i) & c.ipMask();
    body(c, *i);
    c.refund(i);
    c.next = nullptr;
}

// -- selectors for rows with one form
template <Body body>
Handler only(const Shape&) {
    return straight<body>;
}
template <Body body>
Handler onlySerializing(const Shape&) {
    return serializing<body>;
}

// -- operands. Each has load<T>; destinations give a place with `value` and write().
struct RegA {
    template <class T> static T load(Cpu& c, const Insn& i) { return c.gpr.get<T>(i.a); }
    template <class T> static void store(Cpu& c, const Insn& i, T v) { c.gpr.set<T>(i.a, v); }
    template <class T> struct Place {
        Cpu& cpu; const Insn& insn; T value;
        void write(T v) { cpu.gpr.set<T>(insn.a, v); }
    };
    template <class T> static Place<T> modify(Cpu& c, const Insn& i) { return {c, i, load<T>(c, i)}; }
};
struct RegB {
    template <class T> static T load(Cpu& c, const Insn& i) { return c.gpr.get<T>(i.b); }
    template <class T> static void store(Cpu& c, const Insn& i, T v) { c.gpr.set<T>(i.b, v); }
};
struct Mem {
    template <class T> static T load(Cpu& c, const Insn& i) { return c.loadOperand<T>(i); }
    template <class T> static void store(Cpu& c, const Insn& i, T v) { c.storeOperand<T>(i, v); }
    template <class T> static auto modify(Cpu& c, const Insn& i) { return c.modifyOperand<T>(i); }
};
struct Imm {
    template <class T> static T load(Cpu&, const Insn& i) { return T(i.imm); }
};

// Chooses Family::handler<T, ...> by width in bits.
template <class Visit>
Handler byWidth(unsigned bits, Visit visit) {
    switch (bits) {
        case 8: return visit.template operator()<uint8_t>();
        case 16: return visit.template operator()<uint16_t>();
        case 32: return visit.template operator()<uint32_t>();
        case 64: return visit.template operator()<uint64_t>();
    }
    return nullptr;
}

}  // namespace kiln
