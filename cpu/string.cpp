// String instructions: MOVS CMPS SCAS LODS STOS with REP, REPE and REPNE (SDM vol. 1, 7.3.9). The source is
// in DS or the prefix's segment, the destination always in ES. Runs of plain memory go through host pointers,
// a page at a time.
#include "cpu/repeat.hpp"

namespace kiln {
namespace {

template <class T>
T elementAt(const uint8_t* p, uint64_t n) {
    return loadGuest<T>(p + n * sizeof(T));
}

// -- MOVS

template <class T, class U>
void movsOne(Cpu& c, const Insn& i) {
    T v = c.load<T>(i.seg, indexOf<U>(c, Rsi));
    c.store<T>(Es, indexOf<U>(c, Rdi), v);
    advance<T, U>(c, Rsi);
    advance<T, U>(c, Rdi);
}

template <class T, class U>
uint64_t movsRun(Cpu& c, const Insn& i, uint64_t most) {
    U from = indexOf<U>(c, Rsi), to = indexOf<U>(c, Rdi);
    uint64_t n = std::min(most, elementsInPage<T, U>(c, i.seg, from, Access::Read));
    n = std::min(n, elementsInPage<T, U>(c, Es, to, Access::Write));
    if (n == 0) return 0;
    const uint8_t* source = c.readablePointer(i.seg, from, sizeof(T));
    uint64_t bytes = n * sizeof(T);
    uint8_t* destination = c.writablePointer(Es, to, sizeof(T), &bytes);
    if (!source || !destination) return 0;
    n = bytes / sizeof(T);
    copyUpward<T>(destination, source, n);
    advance<T, U>(c, Rsi, n);
    advance<T, U>(c, Rdi, n);
    countDown<U>(c, n);
    return n;
}

template <class T, class U>
bool repMovs(Cpu& c, const Insn& i) {
    extendRegisters<U>(c, {Rcx, Rsi, Rdi});
    return repeat<U>(c, [&](uint64_t most) {
        if (!c.flags.test(flag::DF))
            if (uint64_t n = movsRun<T, U>(c, i, most)) return n;
        uint64_t n = std::min(most, kSingly);
        for (uint64_t k = 0; k < n; k++) {
            movsOne<T, U>(c, i);
            countDown<U>(c);
        }
        return n;
    });
}

// -- STOS

template <class T, class U>
void stosOne(Cpu& c, const Insn&) {
    c.store<T>(Es, indexOf<U>(c, Rdi), c.gpr.get<T>(0));
    advance<T, U>(c, Rdi);
}

template <class T, class U>
uint64_t stosRun(Cpu& c, uint64_t most) {
    U to = indexOf<U>(c, Rdi);
    uint64_t n = std::min(most, elementsInPage<T, U>(c, Es, to, Access::Write));
    uint64_t bytes = n * sizeof(T);
    uint8_t* destination = n ? c.writablePointer(Es, to, sizeof(T), &bytes) : nullptr;
    if (!destination) return 0;
    n = bytes / sizeof(T);
    fillUpward<T>(destination, c.gpr.get<T>(0), n);
    advance<T, U>(c, Rdi, n);
    countDown<U>(c, n);
    return n;
}

template <class T, class U>
bool repStos(Cpu& c, const Insn& i) {
    extendRegisters<U>(c, {Rcx, Rdi});
    return repeat<U>(c, [&](uint64_t most) {
        if (!c.flags.test(flag::DF))
            if (uint64_t n = stosRun<T, U>(c, most)) return n;
        uint64_t n = std::min(most, kSingly);
        for (uint64_t k = 0; k < n; k++) {
            stosOne<T, U>(c, i);
            countDown<U>(c);
        }
        return n;
    });
}

// -- LODS

template <class T, class U>
void lodsOne(Cpu& c, const Insn& i) {
    c.gpr.set<T>(0, c.load<T>(i.seg, indexOf<U>(c, Rsi)));
    advance<T, U>(c, Rsi);
}

template <class T, class U>
bool repLods(Cpu& c, const Insn& i) {
    extendRegisters<U>(c, {Rcx});
    return repeat<U>(c, [&](uint64_t) {
        lodsOne<T, U>(c, i);
        countDown<U>(c);
        return uint64_t(1);
    });
}

// -- SCAS, CMPS. Repeated, they stop behind the first pair whose equality differs from the prefix's. The
// flags are those of the last pair; a fault on the way leaves the flags from before the instruction.
// Processors read ES:rDI first.

template <class T>
struct LastPair {
    T left{}, right{};
    bool any = false;

    // True when the repetition ends with this pair.
    bool meets(T l, T r, bool whileEqual) {
        left = l, right = r, any = true;
        return (l == r) != whileEqual;
    }
    void setFlags(Cpu& c) const {
        if (any) c.flags.sub<T>(left, right, T(left - right));
    }
};

template <class T, class U>
void scasOne(Cpu& c, const Insn&) {
    T left = c.gpr.get<T>(0), right = c.load<T>(Es, indexOf<U>(c, Rdi));
    advance<T, U>(c, Rdi);
    c.flags.sub<T>(left, right, T(left - right));
}

template <class T, class U>
void cmpsOne(Cpu& c, const Insn& i) {
    T right = c.load<T>(Es, indexOf<U>(c, Rdi)), left = c.load<T>(i.seg, indexOf<U>(c, Rsi));
    advance<T, U>(c, Rsi);
    advance<T, U>(c, Rdi);
    c.flags.sub<T>(left, right, T(left - right));
}

// Elements to look at through a host pointer, and the pointer; none when the way is closed.
template <class T, class U>
const uint8_t* scasPointer(Cpu& c, uint64_t& n) {
    if (c.flags.test(flag::DF)) return nullptr;
    U at = indexOf<U>(c, Rdi);
    n = std::min(n, elementsInPage<T, U>(c, Es, at, Access::Read));
    return n ? c.readablePointer(Es, at, sizeof(T)) : nullptr;
}

template <class T, class U>
bool repScas(Cpu& c, const Insn& i) {
    extendRegisters<U>(c, {Rcx});
    const bool whileEqual = i.rep == Rep::RepE;
    const T left = c.gpr.get<T>(0);
    LastPair<T> last;
    bool met = false;
    uint64_t budget = repeatBudget(c);
    while (!met && budget) {
        uint64_t n = std::min<uint64_t>(indexOf<U>(c, Rcx), budget), done = 0;
        if (n == 0) break;
        if (const uint8_t* p = scasPointer<T, U>(c, n)) {
            while (done < n && !met) met = last.meets(left, elementAt<T>(p, done++), whileEqual);
        } else {
            T right = c.load<T>(Es, indexOf<U>(c, Rdi));
            met = last.meets(left, right, whileEqual);
            done = 1;
        }
        advance<T, U>(c, Rdi, done);
        countDown<U>(c, done);
        budget -= done;
    }
    last.setFlags(c);
    return met || indexOf<U>(c, Rcx) == 0;
}

template <class T, class U>
uint64_t cmpsRun(Cpu& c, const Insn& i, uint64_t most, LastPair<T>& last, bool& met) {
    U left = indexOf<U>(c, Rsi), right = indexOf<U>(c, Rdi);
    uint64_t n = std::min(most, elementsInPage<T, U>(c, Es, right, Access::Read));
    n = std::min(n, elementsInPage<T, U>(c, i.seg, left, Access::Read));
    if (n == 0) return 0;
    const uint8_t* r = c.readablePointer(Es, right, sizeof(T));
    const uint8_t* l = c.readablePointer(i.seg, left, sizeof(T));
    if (!l || !r) return 0;
    uint64_t done = 0;
    while (done < n && !met) {
        met = last.meets(elementAt<T>(l, done), elementAt<T>(r, done), i.rep == Rep::RepE);
        done++;
    }
    return done;
}

template <class T, class U>
bool repCmps(Cpu& c, const Insn& i) {
    extendRegisters<U>(c, {Rcx});
    LastPair<T> last;
    bool met = false;
    uint64_t budget = repeatBudget(c);
    while (!met && budget) {
        uint64_t n = std::min<uint64_t>(indexOf<U>(c, Rcx), budget);
        if (n == 0) break;
        uint64_t done = c.flags.test(flag::DF) ? 0 : cmpsRun<T, U>(c, i, n, last, met);
        if (done == 0) {
            T right = c.load<T>(Es, indexOf<U>(c, Rdi)), left = c.load<T>(i.seg, indexOf<U>(c, Rsi));
            met = last.meets(left, right, i.rep == Rep::RepE);
            done = 1;
        }
        advance<T, U>(c, Rsi, done);
        advance<T, U>(c, Rdi, done);
        countDown<U>(c, done);
        budget -= done;
    }
    last.setFlags(c);
    return met || indexOf<U>(c, Rcx) == 0;
}

// -- forms

#define KILN_STRING(name, T, one, repeated)                                                                \
    Handler name(const Shape& s) {                                                                         \
        if (s.z.operand_count_visible) return nullptr; /* MOVSD and CMPSD of SSE have the same mnemonic */ \
        return byAddressSize(s, [&]<class U>() -> Handler {                                                \
            return hasRepeatPrefix(s) ? Handler(repeating<repeated<T, U>>) : Handler(straight<one<T, U>>); \
        });                                                                                                \
    }
KILN_STRING(movsb, uint8_t, movsOne, repMovs)
KILN_STRING(movsw, uint16_t, movsOne, repMovs)
KILN_STRING(movsd, uint32_t, movsOne, repMovs)
KILN_STRING(movsq, uint64_t, movsOne, repMovs)
KILN_STRING(stosb, uint8_t, stosOne, repStos)
KILN_STRING(stosw, uint16_t, stosOne, repStos)
KILN_STRING(stosd, uint32_t, stosOne, repStos)
KILN_STRING(stosq, uint64_t, stosOne, repStos)
KILN_STRING(lodsb, uint8_t, lodsOne, repLods)
KILN_STRING(lodsw, uint16_t, lodsOne, repLods)
KILN_STRING(lodsd, uint32_t, lodsOne, repLods)
KILN_STRING(lodsq, uint64_t, lodsOne, repLods)
KILN_STRING(scasb, uint8_t, scasOne, repScas)
KILN_STRING(scasw, uint16_t, scasOne, repScas)
KILN_STRING(scasd, uint32_t, scasOne, repScas)
KILN_STRING(scasq, uint64_t, scasOne, repScas)
KILN_STRING(cmpsb, uint8_t, cmpsOne, repCmps)
KILN_STRING(cmpsw, uint16_t, cmpsOne, repCmps)
KILN_STRING(cmpsd, uint32_t, cmpsOne, repCmps)
KILN_STRING(cmpsq, uint64_t, cmpsOne, repCmps)
#undef KILN_STRING

}  // namespace

std::span<const Row> stringRows() {
    static const Row rows[] = {
        {ZYDIS_MNEMONIC_MOVSB, movsb}, {ZYDIS_MNEMONIC_MOVSW, movsw}, {ZYDIS_MNEMONIC_MOVSD, movsd},
        {ZYDIS_MNEMONIC_MOVSQ, movsq}, {ZYDIS_MNEMONIC_STOSB, stosb}, {ZYDIS_MNEMONIC_STOSW, stosw},
        {ZYDIS_MNEMONIC_STOSD, stosd}, {ZYDIS_MNEMONIC_STOSQ, stosq}, {ZYDIS_MNEMONIC_LODSB, lodsb},
        {ZYDIS_MNEMONIC_LODSW, lodsw}, {ZYDIS_MNEMONIC_LODSD, lodsd}, {ZYDIS_MNEMONIC_LODSQ, lodsq},
        {ZYDIS_MNEMONIC_SCASB, scasb}, {ZYDIS_MNEMONIC_SCASW, scasw}, {ZYDIS_MNEMONIC_SCASD, scasd},
        {ZYDIS_MNEMONIC_SCASQ, scasq}, {ZYDIS_MNEMONIC_CMPSB, cmpsb}, {ZYDIS_MNEMONIC_CMPSW, cmpsw},
        {ZYDIS_MNEMONIC_CMPSD, cmpsd}, {ZYDIS_MNEMONIC_CMPSQ, cmpsq},
    };
    return rows;
}

}  // namespace kiln
