// How a body becomes a handler. A body is a plain function of the processor and the decoded instruction; the
// handler around it notes which instruction runs (for faults) and goes on to the next:
//
//     void cmc(Cpu& c, const Insn&) { c.flags.setCf(!c.flags.cf()); }
//     {ZYDIS_MNEMONIC_CMC, only<cmc>}
//
// A body raises a fault by raise(), which throws and so costs a microsecond or two; one whose faults guests
// may want often returns bool instead, and false after Cpu::fails().
//
// Bodies never touch ModRM, prefixes or addresses: operands come through RegOperand, MemOperand, ImmOperand,
// and families such as `binary<Add>` choose the form by operand kinds and width.
#pragma once
#include "cpu/cpu.hpp"

namespace kiln {

// Optimised builds thread from handler to handler by tail calls; others (and sanitizers, which keep frames
// alive) return to a small loop in Cpu::runBlock.
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
#define KILN_DISPATCH(cpu, insn)                     \
    do {                                             \
        const Insn* n_ = (insn);                     \
        if (!n_) return;                             \
        [[clang::musttail]] return n_->run(cpu, n_); \
    } while (0)
#elif KILN_TAIL_CALLS
#define KILN_DISPATCH(cpu, insn) \
    do {                         \
        const Insn* n_ = (insn); \
        if (!n_) return;         \
        return n_->run(cpu, n_); \
    } while (0)
#else
#define KILN_DISPATCH(cpu, insn) \
    do {                         \
        (cpu).next = (insn);     \
        return;                  \
    } while (0)
#endif

#if KILN_TAIL_CALLS && defined(__clang__)
#define KILN_HAND_OVER(handler, cpu, insn) [[clang::musttail]] return handler(cpu, insn)
#else
#define KILN_HAND_OVER(handler, cpu, insn) return handler(cpu, insn)
#endif

using Body = void (*)(Cpu&, const Insn&);

// Whether the body has done what it is there for.
template <auto body>
inline bool ran(Cpu& c, const Insn& i) {
    if constexpr (std::is_void_v<decltype(body(c, i))>) {
        body(c, i);
        return true;
    } else {
        return body(c, i);
    }
}

// The next instruction in the block follows. Never inlined into straightLong, which would cost it a stack
// frame.
template <auto body>
[[gnu::noinline]] void straight(Cpu& c, const Insn* i) {
    c.at = i;
    if (!ran<body>(c, *i)) [[unlikely]] {
        c.next = nullptr;
        return;
    }
    KILN_DISPATCH(c, i + 1);
}

// The body has set rip, and nothing else changed that a look-up of the next block depends on.
template <auto body>
void leaving(Cpu& c, const Insn* i) {
    c.at = i;
    body(c, *i);
    KILN_DISPATCH(c, c.enterNext());
}

// Goes back to the run loop behind this instruction: modes, IF or the address space may have changed. Bodies
// that transfer control set rip themselves.
template <auto body>
void serializing(Cpu& c, const Insn* i) {
    c.at = i;
    c.rip = c.nextRip(*i) & c.ipMask();
    if (ran<body>(c, *i)) c.refund(i);
    c.next = nullptr;
}

// A body that is counted as a trap. What it is about is told by a register, or not at all.
template <TrapKind Kind>
uint64_t trapTarget(const Cpu& c) {
    switch (Kind) {
        case TrapKind::Cpuid: return uint32_t(c.gpr[Rax]);
        case TrapKind::Rdmsr:
        case TrapKind::Wrmsr: return uint32_t(c.gpr[Rcx]);
        default: return 0;
    }
}
template <TrapKind Kind, auto body>
auto trapping(Cpu& c, const Insn& i) {
    TrapScope scope(c.trapHere(Kind), trapTarget<Kind>(c));
    return body(c, i);
}

// -- selectors for rows with one form
template <auto body>
Handler only(const Shape&) {
    return straight<body>;
}
template <auto body>
Handler onlySerializing(const Shape&) {
    return serializing<body>;
}

// Whether the instruction is to be atomic: its form is chosen when it is decoded.
inline bool isLocked(const Shape& s) { return s.z.attributes & ZYDIS_ATTRIB_HAS_LOCK; }

// -- operands. Each has load<T>; destinations give a place with `value` and write().
struct RegA {
    template <class T>
    static T load(Cpu& c, const Insn& i) {
        return c.gpr.get<T>(i.a);
    }
    template <class T>
    static void store(Cpu& c, const Insn& i, T v) {
        c.gpr.set<T>(i.a, v);
    }
    template <class T>
    struct Place {
        Cpu& cpu;
        const Insn& insn;
        T value;
        void write(T v) { cpu.gpr.set<T>(insn.a, v); }
    };
    template <class T>
    static Place<T> modify(Cpu& c, const Insn& i) {
        return {c, i, load<T>(c, i)};
    }
};
struct RegB {
    template <class T>
    static T load(Cpu& c, const Insn& i) {
        return c.gpr.get<T>(i.b);
    }
    template <class T>
    static void store(Cpu& c, const Insn& i, T v) {
        c.gpr.set<T>(i.b, v);
    }
};
struct Mem {
    template <class T>
    static T load(Cpu& c, const Insn& i) {
        return c.loadOperand<T>(i);
    }
    template <class T>
    static void store(Cpu& c, const Insn& i, T v) {
        c.storeOperand<T>(i, v);
    }
    template <class T>
    static auto modify(Cpu& c, const Insn& i) {
        return c.modifyOperand<T>(i);
    }
};
// Memory reached through a TLB hit that straightLong has already found: no check, no fault.
template <bool Indexed>
struct MemLong {
    template <class T, bool Write>
    static bool hits(Cpu& c, const Insn& i) {
        return c.hits<T, Write>(c.longAddress<Indexed>(i));
    }
    template <class T>
    static T* host(Cpu& c, const Insn& i) {
        return c.hostAddress<T>(c.longAddress<Indexed>(i));
    }
    template <class T>
    static T load(Cpu& c, const Insn& i) {
        return loadGuest<T>(host<T>(c, i));
    }
    template <class T>
    static void store(Cpu& c, const Insn& i, T v) {
        storeGuest(host<T>(c, i), v);
    }
    template <class T>
    struct Place {
        T* host;
        T value;
        void write(T v) { storeGuest(host, v); }
    };
    template <class T>
    static Place<T> modify(Cpu& c, const Insn& i) {
        T* place = host<T>(c, i);
        return {place, loadGuest<T>(place)};
    }
};
struct Imm {
    template <class T>
    static T load(Cpu&, const Insn& i) {
        return T(i.imm);
    }
};

// The quick form of a handler with a memory operand in 64-bit mode: on a TLB miss it hands over to `general`,
// the same instruction with operand type Mem, so that the common way needs neither calls nor a stack frame.
template <auto body, Handler general, class M, class T, bool Write>
void straightLong(Cpu& c, const Insn* i) {
    c.at = i;
    if (!M::template hits<T, Write>(c, *i)) [[unlikely]]
        KILN_HAND_OVER(general, c, i);
    body(c, *i);
    KILN_DISPATCH(c, i + 1);
}

enum class MemoryForm : uint8_t { General, LongBase, LongIndexed };

inline MemoryForm memoryForm(const Shape& s) {
    for (unsigned n = 0; n < s.z.operand_count_visible; n++) {
        if (!s.isMem(n)) continue;
        const auto& m = s.operands[n].mem;
        bool zeroBase = m.segment != ZYDIS_REGISTER_FS && m.segment != ZYDIS_REGISTER_GS;
        if (s.mode != CodeMode::Code64 || s.z.address_width != 64 || !zeroBase) break;
        return m.index == ZYDIS_REGISTER_NONE ? MemoryForm::LongBase : MemoryForm::LongIndexed;
    }
    return MemoryForm::General;
}

// The handler for a body template over its memory operand type: Bodies::of<M> is the body with operand type
// M, which accesses a T and writes it or not.
template <class Bodies, class T, bool Write>
Handler byMemory(const Shape& s) {
    constexpr Handler general = straight<Bodies::template of<Mem>>;
    switch (memoryForm(s)) {
        case MemoryForm::LongBase:
            return straightLong<Bodies::template of<MemLong<false>>, general, MemLong<false>, T, Write>;
        case MemoryForm::LongIndexed:
            return straightLong<Bodies::template of<MemLong<true>>, general, MemLong<true>, T, Write>;
        default: return general;
    }
}

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
