#include "cpu/evex.hpp"

namespace kiln {

namespace {

// Exception classes without NF keep faults of masked elements away (SDM vol. 2, 2.8).
bool suppresses(const ZydisDecodedInstruction& z) {
    switch (z.mnemonic) {  // E4NF, other than Zydis has it
        case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
        case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
        case ZYDIS_MNEMONIC_VDBPSADBW:
        case ZYDIS_MNEMONIC_VCVTNE2PS2BF16: return false;
        default: break;
    }
    switch (z.meta.exception_class) {
        case ZYDIS_EXCEPTION_CLASS_E1:
        case ZYDIS_EXCEPTION_CLASS_E2:
        case ZYDIS_EXCEPTION_CLASS_E3:
        case ZYDIS_EXCEPTION_CLASS_E4:
        case ZYDIS_EXCEPTION_CLASS_E5:
        case ZYDIS_EXCEPTION_CLASS_E6:
        case ZYDIS_EXCEPTION_CLASS_E10:
        case ZYDIS_EXCEPTION_CLASS_E11:
        case ZYDIS_EXCEPTION_CLASS_E12: return true;
        default: return false;
    }
}

template <class T>
void loadEach(Cpu& c, const Insn& i, uint64_t mask, Vector& v) {
    v = Vector{};
    const uint64_t at = c.effectiveAddress(i);
    Cpu::AnyAlignment any(c);
    forEach(mask, [&](unsigned n) { v.set<T>(n, c.load<T>(i.seg, c.cutAddress(i, at + n * sizeof(T)))); });
}
template <class T>
void loadWhole(Cpu& c, const Insn& i, Vector& v) {
    if (sizeof(T) < 16) v = Vector{};
    v.set<T>(0, c.loadOperand<T>(i));
}
template <class T>
void repeated(Cpu& c, const Insn& i, Evex x, Vector& v) {
    const T one = c.loadOperand<T>(i);
    for (unsigned n = 0; n < x.count<T>(); n++) v.set<T>(n, one);
}

template <class T>
void merge(Vector& r, const Vector& old, uint64_t mask, unsigned count, bool zeroing) {
    for (unsigned n = 0; n < count; n++)
        if (!(mask >> n & 1)) r.set<T>(n, zeroing ? T(0) : old.get<T>(n));
}

template <class T>
void storeElements(Cpu& c, const Insn& i, uint64_t mask, const Vector& r) {
    const uint64_t at = c.effectiveAddress(i);
    Cpu::AnyAlignment any(c);
    auto address = [&](unsigned n) { return c.cutAddress(i, at + n * sizeof(T)); };
    forEach(mask, [&](unsigned n) { c.checkWrite(i.seg, address(n), sizeof(T)); });
    forEach(mask, [&](unsigned n) { c.store<T>(i.seg, address(n), r.get<T>(n)); });
}
template <class T>
void storeWhole(Cpu& c, const Insn& i, const Vector& r) {
    c.storeOperand<T>(i, r.get<T>(0));
}

}  // namespace

uint32_t Evex::describe(const Shape& s) {
    const ZydisDecodedInstruction& z = s.z;
    auto log2 = [](unsigned bits) { return unsigned(std::countr_zero(bits / 8)); };
    uint32_t bits = z.avx.vector_length == 512 ? 2 : z.avx.vector_length == 256;
    if (unsigned e = s.operands[0].element_size; e >= 8 && e <= 64) bits |= log2(e) << 2;
    if (z.avx.mask.reg != ZYDIS_REGISTER_NONE) bits |= unsigned(ZydisRegisterGetId(z.avx.mask.reg)) << 4;
    if (z.avx.mask.mode == ZYDIS_MASK_MODE_ZEROING || z.avx.mask.mode == ZYDIS_MASK_MODE_CONTROL_ZEROING)
        bits |= 1 << 7;
    for (unsigned n = 0; n < z.operand_count_visible; n++)
        if (s.isMem(n)) bits |= 1 << 8 | log2(s.bits(n)) << 10;
    if (z.avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID && !z.avx.broadcast.is_static) bits |= 1 << 9;
    if (suppresses(z)) bits |= 1 << 13;
    if (z.avx.rounding.mode != ZYDIS_ROUNDING_MODE_INVALID)
        bits |= 1 << 17 | 1 << 16 | unsigned(z.avx.rounding.mode - ZYDIS_ROUNDING_MODE_RN) << 14;
    if (z.avx.has_sae) bits |= 1 << 17;
    return bits;
}

void evexMemory(Cpu& c, const Insn& i, Evex x, uint64_t mask, unsigned count, Vector& to) {
    const bool partly = x.suppressesFaults() && x.maskRegister() && mask != ~0ull >> (64 - count);
    if (x.broadcast()) {
        if (partly && !mask) {
            to = Vector{};
            return;
        }
        return x.memoryBytes() == 4 ? repeated<uint32_t>(c, i, x, to) : repeated<uint64_t>(c, i, x, to);
    }
    if (partly) switch (x.memoryBytes() / count) {
            case 1: return loadEach<uint8_t>(c, i, mask, to);
            case 2: return loadEach<uint16_t>(c, i, mask, to);
            case 4: return loadEach<uint32_t>(c, i, mask, to);
            default: return loadEach<uint64_t>(c, i, mask, to);
        }
    switch (x.memoryBytes()) {
        case 1: return loadWhole<uint8_t>(c, i, to);
        case 2: return loadWhole<uint16_t>(c, i, to);
        case 4: return loadWhole<uint32_t>(c, i, to);
        case 8: return loadWhole<uint64_t>(c, i, to);
        case 16: return loadWhole<Xmm>(c, i, to);
        case 32: return loadWhole<Ymm>(c, i, to);
        default: return loadWhole<Vector>(c, i, to);
    }
}

void evexWriteShort(Cpu& c, unsigned reg, const Vector& r, unsigned bytes) {
    Xmm low{};
    std::memcpy(low.q.data(), r.q.data(), bytes);
    c.vec[reg].set<Xmm>(0, low);
    clearAbove(c.vec[reg], 16);
}

void evexMerge(Cpu& c, unsigned reg, Evex x, uint64_t mask, const Vector& r, unsigned count,
               unsigned elementLog2) {
    const Vector old = c.vec[reg];
    Vector& to = c.vec[reg];
    std::memmove(to.q.data(), r.q.data(), count << elementLog2);
    switch (elementLog2) {
        case 0: merge<uint8_t>(to, old, mask, count, x.zeroing()); break;
        case 1: merge<uint16_t>(to, old, mask, count, x.zeroing()); break;
        case 2: merge<uint32_t>(to, old, mask, count, x.zeroing()); break;
        default: merge<uint64_t>(to, old, mask, count, x.zeroing()); break;
    }
    const unsigned bytes = count << elementLog2;
    std::memset(reinterpret_cast<char*>(to.q.data()) + bytes, 0, sizeof to - bytes);
}

void evexStore(Cpu& c, const Insn& i, Evex x, uint64_t mask, const Vector& r, unsigned count,
               unsigned elementLog2) {
    const bool whole = mask == ~0ull >> (64 - count);
    if (!whole && !x.suppressesFaults()) c.checkWrite(i.seg, c.effectiveAddress(i), count << elementLog2);
    if (!whole) switch (elementLog2) {
            case 0: return storeElements<uint8_t>(c, i, mask, r);
            case 1: return storeElements<uint16_t>(c, i, mask, r);
            case 2: return storeElements<uint32_t>(c, i, mask, r);
            default: return storeElements<uint64_t>(c, i, mask, r);
        }
    switch (count << elementLog2) {
        case 1: return storeWhole<uint8_t>(c, i, r);
        case 2: return storeWhole<uint16_t>(c, i, r);
        case 4: return storeWhole<uint32_t>(c, i, r);
        case 8: return storeWhole<uint64_t>(c, i, r);
        case 16: return storeWhole<Xmm>(c, i, r);
        case 32: return storeWhole<Ymm>(c, i, r);
        default: return storeWhole<Vector>(c, i, r);
    }
}

}  // namespace kiln
