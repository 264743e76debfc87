// PUSH, POP and their families, ENTER and LEAVE (SDM vol. 1, 6.2 and 6.5).
#include "cpu/body.hpp"

namespace kiln {

namespace {

template <class T, class Src>
void pushBody(Cpu& c, const Insn& i) {
    c.push<T>(Src::template load<T>(c, i));
}

template <class T>
void pushSegment(Cpu& c, const Insn& i) {
    c.push<T>(c.seg[i.a].selector);
}

// 64-bit mode: the stack is linear, so a TLB hit is all there is to find. Slots for straightLong.
struct PushSlot {
    template <class T, bool Write>
    static bool hits(Cpu& c, const Insn&) {
        return c.hits<T, true>(c.gpr[Rsp] - sizeof(T));
    }
};
struct PopSlot {
    template <class T, bool Write>
    static bool hits(Cpu& c, const Insn&) {
        return c.hits<T, false>(c.gpr[Rsp]);
    }
};
void pushLong(Cpu& c, const Insn& i) {
    uint64_t sp = c.gpr[Rsp] - 8, v = RegA::load<uint64_t>(c, i);
    storeGuest(c.hostAddress<uint64_t>(sp), v);
    c.gpr[Rsp] = sp;
}
void popLong(Cpu& c, const Insn& i) {
    uint64_t sp = c.gpr[Rsp], v = loadGuest<uint64_t>(c.hostAddress<uint64_t>(sp));
    c.gpr[Rsp] = sp + 8;
    RegA::store<uint64_t>(c, i, v);
}

bool isSegment(const Shape& s) {
    return s.isReg(0) && ZydisRegisterGetClass(s.operands[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
}

Handler push(const Shape& s) {
    return byWidth(s.operandBits(), [&]<class T>() -> Handler {
        if constexpr (sizeof(T) == 1)
            return nullptr;
        else {
            if (isSegment(s)) return straight<pushSegment<T>>;
            if (sizeof(T) == 8 && s.mode == CodeMode::Code64 && s.isReg(0))
                return straightLong<pushLong, straight<pushBody<uint64_t, RegA>>, PushSlot, uint64_t, true>;
            if (s.isImm(0)) return straight<pushBody<T, Imm>>;
            return s.isMem(0) ? straight<pushBody<T, Mem>> : straight<pushBody<T, RegA>>;
        }
    });
}

template <class T>
void popReg(Cpu& c, const Insn& i) {
    RegA::store<T>(c, i, c.pop<T>());
}

// The address is worked out with the stack pointer already raised; a fault in the store lowers it again.
template <class T>
void popMem(Cpu& c, const Insn& i) {
    uint64_t sp = c.gpr[Rsp];
    T v = c.pop<T>();
    try {
        Mem::store<T>(c, i, v);
    } catch (...) {
        c.gpr[Rsp] = sp;
        throw;
    }
}

template <class T>
void popSegment(Cpu& c, const Insn& i) {
    auto selector = uint16_t(c.load<T>(Ss, c.gpr[Rsp] & c.stackMask()));
    uint64_t sp = c.gpr[Rsp] + sizeof(T);
    uint64_t mask = c.stackMask();  // of the stack popped from, even when it is SS that changes
    c.loadSegment(SegReg(i.a), selector);
    c.gpr[Rsp] = (c.gpr[Rsp] & ~mask) | (sp & mask);
    if (i.a == Ss) c.movSsShadow = true;
}

Handler pop(const Shape& s) {
    return byWidth(s.operandBits(), [&]<class T>() -> Handler {
        if constexpr (sizeof(T) == 1)
            return nullptr;
        else {
            if (isSegment(s))
                return s.operands[0].reg.value == ZYDIS_REGISTER_SS ? serializing<popSegment<T>>
                                                                    : straight<popSegment<T>>;
            if (sizeof(T) == 8 && s.mode == CodeMode::Code64 && s.isReg(0))
                return straightLong<popLong, straight<popReg<uint64_t>>, PopSlot, uint64_t, false>;
            return s.isMem(0) ? straight<popMem<T>> : straight<popReg<T>>;
        }
    });
}

template <class T>
void pushAll(Cpu& c, const Insn&) {
    uint64_t sp = c.gpr[Rsp];
    for (unsigned n = 0; n < 8; n++) {
        uint64_t at = (sp - (n + 1) * sizeof(T)) & c.stackMask();
        c.store<T>(Ss, at, n == Rsp ? T(sp) : T(c.gpr.slot[n]));
    }
    c.setSp(sp - 8 * sizeof(T));
}

template <class T>
void popAll(Cpu& c, const Insn&) {
    T v[8];
    for (unsigned n = 0; n < 8; n++) v[n] = c.load<T>(Ss, (c.gpr[Rsp] + n * sizeof(T)) & c.stackMask());
    for (unsigned n = 0; n < 8; n++)
        if (7 - n != Rsp) c.gpr.set<T>(uint8_t((7 - n) * 8), v[n]);
    c.setSp(c.gpr[Rsp] + 8 * sizeof(T));
}

template <class T>
void pushFlags(Cpu& c, const Insn&) {
    uint64_t v = c.flags.value() & ~(flag::VM | flag::RF);
    if (c.v86() && c.flags.iopl() < 3) {
        if (sizeof(T) != 2 || !(c.cr4 & cr4::VME)) raise(kGP, 0);
        v = c.virtualFlags();
    }
    c.push<T>(T(v));
}

template <class T>
void popFlags(Cpu& c, const Insn&) {
    constexpr uint64_t kAlways = flag::Arithmetic | flag::TF | flag::DF | flag::NT;
    if (c.v86() && c.flags.iopl() < 3) {
        if (sizeof(T) != 2 || !(c.cr4 & cr4::VME)) raise(kGP, 0);
        uint64_t v = c.load<T>(Ss, c.gpr[Rsp] & c.stackMask());
        c.writeVirtualFlags(v, kAlways);
        c.setSp(c.gpr[Rsp] + sizeof(T));
        return;
    }
    uint64_t v = c.pop<T>();
    uint64_t mask = kAlways;
    if (sizeof(T) > 2) mask |= flag::AC | flag::ID | flag::RF, v &= ~flag::RF;
    if (c.real() || (c.protectedMode() && c.cpl <= c.flags.iopl()) || c.v86()) mask |= flag::IF;
    if (c.real() || (c.protectedMode() && c.cpl == 0)) mask |= flag::IOPL;
    c.writeFlags(v, mask);
}

template <class T>
void leave(Cpu& c, const Insn&) {
    uint64_t frame = c.gpr[Rbp] & c.stackMask();
    T v = c.load<T>(Ss, frame);
    c.setSp(frame + sizeof(T));
    c.gpr.set<T>(Rbp * 8, v);
}

template <class T>
void enter(Cpu& c, const Insn& i) {
    const auto bytes = uint16_t(i.imm);
    const unsigned level = i.imm >> 32 & 31;
    const uint64_t mask = c.stackMask();
    uint64_t sp = (c.gpr[Rsp] - sizeof(T)) & mask, bp = c.gpr[Rbp] & mask;
    c.store<T>(Ss, sp, T(c.gpr[Rbp]));
    const T frame = T((c.gpr[Rsp] & ~mask) | sp);  // all of ESP, though only SP moves on a 16-bit stack
    for (unsigned n = 1; n < level; n++) {
        bp = (bp - sizeof(T)) & mask;
        sp = (sp - sizeof(T)) & mask;
        c.store<T>(Ss, sp, c.load<T>(Ss, bp));
    }
    if (level) {
        sp = (sp - sizeof(T)) & mask;
        c.store<T>(Ss, sp, frame);
    }
    sp = (sp - bytes) & mask;
    c.checkWrite(Ss, sp, sizeof(T));
    c.gpr.set<T>(Rbp * 8, frame);
    c.setSp(sp);
}

Handler enterForm(const Shape& s) {
    return byWidth(s.operandBits(), []<class T>() -> Handler {
        if constexpr (sizeof(T) == 1)
            return nullptr;
        else
            return straight<enter<T>>;
    });
}
Handler leaveForm(const Shape& s) {
    return byWidth(s.operandBits(), []<class T>() -> Handler {
        if constexpr (sizeof(T) == 1)
            return nullptr;
        else
            return straight<leave<T>>;
    });
}

constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_PUSH, push},
    {ZYDIS_MNEMONIC_POP, pop},
    {ZYDIS_MNEMONIC_PUSHA, only<pushAll<uint16_t>>, kNo64},
    {ZYDIS_MNEMONIC_PUSHAD, only<pushAll<uint32_t>>, kNo64},
    {ZYDIS_MNEMONIC_POPA, only<popAll<uint16_t>>, kNo64},
    {ZYDIS_MNEMONIC_POPAD, only<popAll<uint32_t>>, kNo64},
    {ZYDIS_MNEMONIC_PUSHF, only<pushFlags<uint16_t>>},
    {ZYDIS_MNEMONIC_PUSHFD, only<pushFlags<uint32_t>>},
    {ZYDIS_MNEMONIC_PUSHFQ, only<pushFlags<uint64_t>>},
    {ZYDIS_MNEMONIC_POPF, onlySerializing<trapping<TrapKind::Popf, popFlags<uint16_t>>>, kEndsBlock},
    {ZYDIS_MNEMONIC_POPFD, onlySerializing<trapping<TrapKind::Popf, popFlags<uint32_t>>>, kEndsBlock},
    {ZYDIS_MNEMONIC_POPFQ, onlySerializing<trapping<TrapKind::Popf, popFlags<uint64_t>>>, kEndsBlock},
    {ZYDIS_MNEMONIC_ENTER, enterForm},
    {ZYDIS_MNEMONIC_LEAVE, leaveForm},
};

}  // namespace

std::span<const Row> stackRows() { return kRows; }

}  // namespace kiln
