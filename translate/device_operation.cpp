#include "translate/device_operation.hpp"

#include <Zydis/Zydis.h>

#include "cpu/flags.hpp"
#include "translate/flag_image.hpp"

namespace kiln {

namespace {

// With flags as cpu/arithmetic.cpp has them.
template <class T>
T compute(unsigned mnemonic, Flags& flags, T a, T b) {
    const bool carry = flags.cf();
    T r;
    switch (mnemonic) {
        case ZYDIS_MNEMONIC_ADD: return flags.add<T>(a, b, r = T(a + b)), r;
        case ZYDIS_MNEMONIC_ADC: return flags.add<T>(a, b, r = T(a + b + carry)), r;
        case ZYDIS_MNEMONIC_CMP:
        case ZYDIS_MNEMONIC_SUB: return flags.sub<T>(a, b, r = T(a - b)), r;
        case ZYDIS_MNEMONIC_SBB: return flags.sub<T>(a, b, r = T(a - b - carry)), r;
        case ZYDIS_MNEMONIC_TEST:
        case ZYDIS_MNEMONIC_AND: return flags.logic<T>(r = T(a & b)), r;
        case ZYDIS_MNEMONIC_OR: return flags.logic<T>(r = T(a | b)), r;
        case ZYDIS_MNEMONIC_XOR: return flags.logic<T>(r = T(a ^ b)), r;
        case ZYDIS_MNEMONIC_NEG: return flags.sub<T>(0, a, r = T(0 - a)), r;
        case ZYDIS_MNEMONIC_INC: return flags.add<T>(a, 1, r = T(a + 1)), flags.setCf(carry), r;
        case ZYDIS_MNEMONIC_DEC: return flags.sub<T>(a, 1, r = T(a - 1)), flags.setCf(carry), r;
        default: return T(~a);  // NOT
    }
}

uint64_t compute(unsigned size, unsigned mnemonic, Flags& flags, uint64_t a, uint64_t b) {
    switch (size) {
        case 1: return compute<uint8_t>(mnemonic, flags, uint8_t(a), uint8_t(b));
        case 2: return compute<uint16_t>(mnemonic, flags, uint16_t(a), uint16_t(b));
        case 4: return compute<uint32_t>(mnemonic, flags, uint32_t(a), uint32_t(b));
        default: return compute<uint64_t>(mnemonic, flags, a, b);
    }
}

void setPart(uint64_t& r, unsigned bytes, bool high, uint64_t v) {
    if (high)
        r = (r & ~0xff00ull) | (v & 0xff) << 8;
    else if (bytes < 4)
        r = (r & ~openBus(bytes)) | (v & openBus(bytes));
    else
        r = v & openBus(bytes);
}

enum class String : uint8_t { None, Load, Store };

String stringOf(unsigned mnemonic) {
    switch (mnemonic) {
        case ZYDIS_MNEMONIC_LODSB:
        case ZYDIS_MNEMONIC_LODSW:
        case ZYDIS_MNEMONIC_LODSD:
        case ZYDIS_MNEMONIC_LODSQ: return String::Load;
        case ZYDIS_MNEMONIC_STOSB:
        case ZYDIS_MNEMONIC_STOSW:
        case ZYDIS_MNEMONIC_STOSD:
        case ZYDIS_MNEMONIC_STOSQ: return String::Store;
        default: return String::None;
    }
}

}  // namespace

void operateOnDevice(HostFrame& f, const Site& s, IoHandler& handler, uint64_t offset, unsigned size,
                     bool down) {
    if (const String string = stringOf(s.mnemonic); string != String::None) {
        const bool loads = string == String::Load;
        if (loads)
            setPart(f.gpr(Rax), size, false, handler.ioRead(offset, size));
        else
            handler.ioWrite(offset, size, f.gpr(Rax) & openBus(size));
        uint64_t& index = f.gpr(loads ? Rsi : Rdi);
        setPart(index, s.constant, false, down ? index - size : index + size);
        return;
    }
    const bool high = s.guest & Site::Move::kHighByte, reads = s.guest & Site::Move::kMerges;
    uint64_t& r = f.gpr(s.guest & Site::Move::kRegister);
    const uint64_t other = s.guest & Site::Move::kConstant ? uint64_t(int64_t(int32_t(s.constant)))
                                                           : r >> (high ? 8 : 0),
                   was = handler.ioRead(offset, size);
    if (s.mnemonic == ZYDIS_MNEMONIC_XCHG) {
        handler.ioWrite(offset, size, other & openBus(size));
        return setPart(r, size, high, was);
    }
    Flags flags;
    flags.setArithmetic(arithmeticFlags(f.flags));
    const uint64_t result =
        reads ? compute(size, s.mnemonic, flags, other, was) : compute(size, s.mnemonic, flags, was, other);
    f.flags = flagsImage(flags.arithmetic());
    if (s.mnemonic == ZYDIS_MNEMONIC_CMP || s.mnemonic == ZYDIS_MNEMONIC_TEST) return;
    if (reads)
        setPart(r, size, high, result);
    else
        handler.ioWrite(offset, size, result & openBus(size));
}

}  // namespace kiln
