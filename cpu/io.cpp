// Port input and output: IN OUT INS OUTS with REP (SDM vol. 1, chapter 19). The right to use a port (IOPL,
// I/O permission bitmap) is checked before anything happens.
#include "cpu/repeat.hpp"

namespace kiln {
namespace {

struct PortDx {
    static uint16_t get(Cpu& c, const Insn&) { return uint16_t(c.gpr[Rdx]); }
};
struct PortImm {
    static uint16_t get(Cpu&, const Insn& i) { return uint8_t(i.imm); }
};

template <class T, class Port>
struct In {
    using Value = T;
    static constexpr bool kIn = true;
    static uint16_t run(Cpu& c, const Insn& i) {
        uint16_t port = Port::get(c, i);
        TrapScope scope(c.trapHere(TrapKind::In), port);
        c.checkIo(port, sizeof(T));
        c.gpr.set<T>(0, T(c.readPort(port, sizeof(T))));
        return port;
    }
};

template <class T, class Port>
struct Out {
    using Value = T;
    static constexpr bool kIn = false;
    static uint16_t run(Cpu& c, const Insn& i) {
        uint16_t port = Port::get(c, i);
        TrapScope scope(c.trapHere(TrapKind::Out), port);
        c.checkIo(port, sizeof(T));
        c.writePort(port, sizeof(T), c.gpr.get<T>(0));
        return port;
    }
};

// Leaves the block.
void behind(Cpu& c, const Insn* i) {
    c.rip = c.nextRip(*i) & c.ipMask();
    c.next = nullptr;
}

// An SMI that the access makes comes before the next instruction, and so does whatever ends the slice.
template <class Access>
void portAccess(Cpu& c, const Insn* i) {
    c.at = i;
    uint16_t port = Access::run(c, *i);
    if (c.smiBehindIo(*i, port, sizeof(typename Access::Value), Access::kIn)) [[unlikely]] {
        c.refund(i);
        return behind(c, i);
    }
    if (c.overBehindIo(*i)) [[unlikely]]
        return behind(c, i);
    KILN_DISPATCH(c, i + 1);
}

// Calls `visit` for 8, 16 and 32 bits; there is no wider port access.
template <class Visit>
Handler byPortWidth(unsigned bits, Visit visit) {
    return bits == 8    ? visit.template operator()<uint8_t>()
           : bits == 16 ? visit.template operator()<uint16_t>()
                        : visit.template operator()<uint32_t>();
}

Handler inForms(const Shape& s) {
    return byPortWidth(s.bits(0), [&]<class T>() -> Handler {
        return s.isImm(1) ? portAccess<In<T, PortImm>> : portAccess<In<T, PortDx>>;
    });
}
Handler outForms(const Shape& s) {
    return byPortWidth(s.bits(1), [&]<class T>() -> Handler {
        return s.isImm(0) ? portAccess<Out<T, PortImm>> : portAccess<Out<T, PortDx>>;
    });
}

// -- INS, OUTS

// The port is read only when the store is sure to succeed: what a device has given it does not give again.
template <class T, class U>
void insOne(Cpu& c, const Insn&) {
    uint16_t port = uint16_t(c.gpr[Rdx]);
    TrapScope scope(c.trapHere(TrapKind::In), port);
    c.checkIo(port, sizeof(T));
    U to = indexOf<U>(c, Rdi);
    c.checkWrite(Es, to, sizeof(T));
    c.store<T>(Es, to, T(c.readPort(port, sizeof(T))));
    advance<T, U>(c, Rdi);
}

template <class T, class U>
uint64_t insRun(Cpu& c, uint64_t most) {
    uint16_t port = uint16_t(c.gpr[Rdx]);
    U to = indexOf<U>(c, Rdi);
    uint64_t n = std::min(most, elementsInPage<T, U>(c, Es, to, Access::Write));
    uint8_t* destination = n ? c.writablePointer(Es, to, sizeof(T)) : nullptr;
    if (!destination) return 0;
    for (uint64_t k = 0; k < n; k++) {
        T v = T(c.readPort(port, sizeof(T)));
        storeGuest(destination + k * sizeof(T), v);
    }
    advance<T, U>(c, Rdi, n);
    countDown<U>(c, n);
    return n;
}

template <class T, class U>
bool repIns(Cpu& c, const Insn& i) {
    extendRegisters<U>(c, {Rcx});
    if (indexOf<U>(c, Rcx)) c.checkIo(uint16_t(c.gpr[Rdx]), sizeof(T));
    return repeat<U>(c, [&](uint64_t most) {
        if (!c.flags.test(flag::DF))
            if (uint64_t n = insRun<T, U>(c, most)) return n;
        insOne<T, U>(c, i);
        countDown<U>(c);
        return uint64_t(1);
    });
}

template <class T, class U>
void outsOne(Cpu& c, const Insn& i) {
    uint16_t port = uint16_t(c.gpr[Rdx]);
    TrapScope scope(c.trapHere(TrapKind::Out), port);
    c.checkIo(port, sizeof(T));
    T v = c.load<T>(i.seg, indexOf<U>(c, Rsi));
    c.writePort(port, sizeof(T), v);
    advance<T, U>(c, Rsi);
}

template <class T, class U>
bool repOuts(Cpu& c, const Insn& i) {
    extendRegisters<U>(c, {Rcx});
    uint16_t port = uint16_t(c.gpr[Rdx]);
    if (indexOf<U>(c, Rcx)) c.checkIo(port, sizeof(T));
    return repeat<U>(c, [&](uint64_t) {
        T v = c.load<T>(i.seg, indexOf<U>(c, Rsi));
        c.writePort(port, sizeof(T), v);
        advance<T, U>(c, Rsi);
        countDown<U>(c);
        return uint64_t(1);
    });
}

#define KILN_STRING_IO(name, T, one, repeated)                                                             \
    Handler name(const Shape& s) {                                                                         \
        return byAddressSize(s, [&]<class U>() -> Handler {                                                \
            return hasRepeatPrefix(s) ? Handler(repeating<repeated<T, U>>) : Handler(straight<one<T, U>>); \
        });                                                                                                \
    }
KILN_STRING_IO(insb, uint8_t, insOne, repIns)
KILN_STRING_IO(insw, uint16_t, insOne, repIns)
KILN_STRING_IO(insd, uint32_t, insOne, repIns)
KILN_STRING_IO(outsb, uint8_t, outsOne, repOuts)
KILN_STRING_IO(outsw, uint16_t, outsOne, repOuts)
KILN_STRING_IO(outsd, uint32_t, outsOne, repOuts)
#undef KILN_STRING_IO

}  // namespace

std::span<const Row> ioRows() {
    static const Row rows[] = {
        {ZYDIS_MNEMONIC_IN, inForms},  {ZYDIS_MNEMONIC_OUT, outForms}, {ZYDIS_MNEMONIC_INSB, insb},
        {ZYDIS_MNEMONIC_INSW, insw},   {ZYDIS_MNEMONIC_INSD, insd},    {ZYDIS_MNEMONIC_OUTSB, outsb},
        {ZYDIS_MNEMONIC_OUTSW, outsw}, {ZYDIS_MNEMONIC_OUTSD, outsd},
    };
    return rows;
}

}  // namespace kiln
