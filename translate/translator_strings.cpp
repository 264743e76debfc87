// REP MOVS and REP STOS over several pages, for host code, which does those within a page by itself: from
// page to page over host pointers as long as the TLB gives them. The rest is the interpreter's, which goes on
// where the registers stand.
#include "cpu/repeat.hpp"
#include "translate/translator.hpp"

namespace kiln {

namespace {

void copyElements(unsigned size, uint8_t* to, const uint8_t* from, uint64_t n) {
    switch (size) {
        case 1: return copyUpward<uint8_t>(to, from, n);
        case 2: return copyUpward<uint16_t>(to, from, n);
        case 4: return copyUpward<uint32_t>(to, from, n);
        default: return copyUpward<uint64_t>(to, from, n);
    }
}

bool isMovs(unsigned mnemonic) {
    return mnemonic == ZYDIS_MNEMONIC_MOVSB || mnemonic == ZYDIS_MNEMONIC_MOVSW ||
           mnemonic == ZYDIS_MNEMONIC_MOVSD || mnemonic == ZYDIS_MNEMONIC_MOVSQ;
}

}  // namespace

const uint8_t* Translator::strings(HostFrame& f, Site& s) {
    const Tlb& tlb = *cpu_.dataTlb_;
    const bool copies = isMovs(s.mnemonic);
    const unsigned size = s.bytes;
    uint64_t &count = f.gpr(Rcx), &from = f.gpr(Rsi), &to = f.gpr(Rdi);
    // More is done in several goes, which the interpreter counts.
    bool direct = count <= kElementsAtOnce;
    while (count && direct) {
        uint64_t bytes = std::min(count * size, kPageSize - (to & kPageMask));
        if (copies) bytes = std::min(bytes, kPageSize - (from & kPageMask));
        const uint64_t n = bytes / size;
        direct = n && tlb.writeTag(to) == (to & ~kPageMask) &&
                 (!copies || tlb.readTag(from) == (from & ~kPageMask));
        if (!direct) break;
        auto* host = reinterpret_cast<uint8_t*>(to + tlb.addend(to));
        if (copies) {
            copyElements(size, host, reinterpret_cast<const uint8_t*>(from + tlb.addend(from)), n);
            from += n * size;
        } else {
            fillElements(size, host, f.gpr(Rax), n);
        }
        to += n * size;
        count -= n;
    }
    if (!count) return resume(f, s);
    if (const uint8_t* host = stringOfRegisters(f, s, copies)) return host;
    statistics_.misses++;
    return interpret(f, s);
}

}  // namespace kiln
