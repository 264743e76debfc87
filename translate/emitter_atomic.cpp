// Instructions that read, change and write one place in memory: LOCK, CMPXCHG and its wide forms, and bits of
// strings in memory (SDM vol. 2, BT; vol. 3, 9.1.2). With several threads the host's LOCK is the guest's. An
// operand that is not aligned goes to the interpreter then: across cache lines it needs the machine alone.
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

// XCHG with memory needs no prefix.
bool BlockEmitter::isAtomic() const {
    if (!context_.terms.threaded) return false;
    return z_->attributes & ZYDIS_ATTRIB_HAS_LOCK || z_->mnemonic == ZYDIS_MNEMONIC_XCHG;
}

void BlockEmitter::lockIfAtomic() {
    if (isAtomic() && z_->attributes & ZYDIS_ATTRIB_HAS_LOCK) a_.lock();
}

bool BlockEmitter::compareExchange() {
    if (!operandsUsable()) return false;
    const ZydisDecodedOperand &dst = operands_[0], &src = operands_[1];
    Operand place;
    int dstInFrame = -1;
    if (dst.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        Address address = access(dst.mem, dst.size / 8, true);
        moveAddressTo(address, kLinear);
        place = address.mem.cloneResized(dst.size / 8);
    } else {
        const int guest = guestOf(dst.reg.value);
        if (inFrame(guest)) {
            dstInFrame = guest;
            loadGuest(x86::rdx, unsigned(guest));
            place = sized(int(x86::rdx.id()), dst.size);
        } else {
            place = pinned(unsigned(guest), dst.size);
        }
        if (guest == 0) return false;  // the accumulator twice
    }
    loadGuest(x86::rcx, unsigned(guestOf(src.reg.value)));
    loadGuest(x86::rax, 0);
    lockIfAtomic();
    a_.emit(x86::Inst::kIdCmpxchg, place, sized(int(x86::rcx.id()), src.size));
    storeGuest(0, x86::rax);
    if (dstInFrame >= 0) storeGuest(unsigned(dstInFrame), x86::rdx);
    flagsWritten();
    return true;
}

// CMPXCHG8B, CMPXCHG16B: with rDX:rAX and rCX:rBX all free registers are taken, so rbp has the address.
bool BlockEmitter::compareExchangeWide(InstId id) {
    static_assert(kStandardMap.host[3] == 3);  // guest rbx is in rbx
    const ZydisDecodedOperand& op = operands_[0];
    if (!addressable(op.mem)) return false;
    Address address = access(op.mem, op.size / 8, true);
    moveAddressTo(address, kLinear);
    needFlags();  // perhaps made from guest rbp
    a_.mov(KILN_FRAME(value), x86::rbp);
    a_.lea(x86::rbp, address.mem);
    loadGuest(x86::rax, 0);
    loadGuest(x86::rdx, 2);
    loadGuest(x86::rcx, 1);
    lockIfAtomic();
    a_.emit(id, x86::ptr(x86::rbp, 0, op.size / 8));
    a_.mov(x86::rbp, KILN_FRAME(value));
    storeGuest(0, x86::rax);
    storeGuest(2, x86::rdx);
    flagsWritten();
    return true;
}

// BT and relatives with a bit offset from a register, which reaches beyond the operand: the word it falls
// into, and there by number.
bool BlockEmitter::bitOfString(InstId id) {
    const ZydisDecodedOperand &string = operands_[0], &index = operands_[1];
    const bool based = string.mem.segment == ZYDIS_REGISTER_FS || string.mem.segment == ZYDIS_REGISTER_GS;
    if (!operandsUsable() || (code64_ && based && z_->address_width != 64)) return false;
    const unsigned size = index.size, bytes = size / 8;
    const auto guest = unsigned(guestOf(index.reg.value));
    keepFlags();
    inHost_ = false;
    const Gp linear = address();
    linearAddress(string.mem, linear);
    loadGuest(kTag, guest);
    if (size == 16) a_.movsx(kTag, x86::cx);
    if (size == 32) a_.movsxd(kTag, x86::ecx);
    a_.sar(kTag, size == 64 ? 6 : size == 32 ? 5 : 4);
    a_.lea(linear, x86::ptr(kLinear, kTag, bytes == 8 ? 3 : bytes == 4 ? 2 : 1));
    const bool write = z_->mnemonic != ZYDIS_MNEMONIC_BT;
    if (z_->address_width == 16) a_.movzx(x86::edx, x86::dx);
    if (needsSegment(string.mem.segment))
        throughSegment(segmentOf(string.mem.segment), z_->address_width, bytes, write);
    Address found = check(nullptr, bytes, write);
    moveAddressTo(found, kLinear);
    const Mem place = found.mem.cloneResized(bytes);
    loadGuest(kTag, guest);
    const Gp number = sized(int(kTag.id()), size), word = sized(int(kIndex.id()), size);
    if (isAtomic()) a_.and_(x86::ecx, size - 1);
    needFlags();
    if (isAtomic()) {
        a_.lock();
        a_.emit(id, place, number);
    } else {
        a_.mov(word, place);
        a_.emit(id, word, number);
        if (write) a_.mov(place, word);
    }
    flagsWritten();
    return true;
}

}  // namespace kiln
