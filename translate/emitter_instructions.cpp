// Instructions that go on behind themselves.
#include "translate/emission.hpp"

namespace kiln {

using namespace asmjit;

// AH, CH, DH and BH are only named by instructions without REX, so all operands move to rax, rcx, rdx and
// rbx.
bool BlockEmitter::highByte(InstId id) {
    static_assert(kStandardMap.host[3] == 3);  // guest rbx is in rbx
    const unsigned count = z_->operand_count_visible;
    for (unsigned n = 0; n < count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY) return highByteAndMemory(id, operands_[n]);
    std::array<Operand, 4> ops;
    std::array<int, 4> guestIn{-1, -1, -1, 3};  // by host register: rax, rcx, rdx, rbx
    for (unsigned n = 0; n < count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER)
            if (const int high = highByteOf(operands_[n].reg.value); high >= 0) guestIn[size_t(high)] = high;
    for (unsigned n = 0; n < count; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            ops[n] = immediate(op);
            continue;
        }
        if (op.type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
        if (const int high = highByteOf(op.reg.value); high >= 0) {
            ops[n] = x86::gpb_hi(uint32_t(high));
            continue;
        }
        const int guest = guestOf(op.reg.value);
        if (guest < 0) return false;
        size_t host = 0;
        while (host < 3 && guestIn[host] != guest) host++;
        if (host == 3 && guest != 3)
            for (host = 0; host < 3 && guestIn[host] >= 0;) host++;
        if (host == 3 && guest != 3) return false;
        guestIn[host] = guest;
        ops[n] = sized(int(host), op.size);
    }
    if (readsFlags()) needFlags();
    for (unsigned host = 0; host < 3; host++)
        if (guestIn[host] >= 0) loadGuest(sized(int(host), 64), unsigned(guestIn[host]));
    a_.emitOpArray(id, ops.data(), count);
    for (unsigned host = 0; host < 3; host++)
        if (guestIn[host] >= 0) storeGuest(unsigned(guestIn[host]), sized(int(host), 64));
    if (writesFlags()) flagsWritten();
    return true;
}

// With an operand in memory, whose address goes to rdx: the register, of which there is only one, is in rcx.
bool BlockEmitter::highByteAndMemory(InstId id, const ZydisDecodedOperand& memory) {
    const unsigned count = z_->operand_count_visible;
    if (!addressable(memory.mem) || isAtomic() || z_->mnemonic == ZYDIS_MNEMONIC_CMPXCHG) return false;
    Address place = access(memory.mem, memory.size / 8, memory.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
    moveAddressTo(place, kLinear);
    if (readsFlags()) needFlags();
    std::array<Operand, 4> ops;
    int stored = -1;
    for (unsigned n = 0; n < count; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            ops[n] = immediate(op);
        } else if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
            ops[n] = place.mem.cloneResized(op.size / 8);
        } else {
            const int guest = highByteOf(op.reg.value);
            loadGuest(kTag, unsigned(guest));
            ops[n] = x86::gpb_hi(kTag.id());
            if (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) stored = guest;
        }
    }
    a_.emitOpArray(id, ops.data(), count);
    if (stored >= 0) storeGuest(unsigned(stored), kTag);
    if (writesFlags()) flagsWritten();
    return true;
}

// Which operand, of a register that is in the frame, the instruction can take from there; -1: none. One that
// is written must not be of 32 bits, because they clear the upper half.
int BlockEmitter::operandInPlace() const {
    const unsigned count = z_->operand_count_visible;
    auto inPlace = [&](unsigned n) {
        if (n >= count || operands_[n].type != ZYDIS_OPERAND_TYPE_REGISTER) return false;
        const int guest = guestOf(operands_[n].reg.value);
        const bool written = operands_[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        // Twice the same register: both as registers.
        for (unsigned k = 0; k < count; k++)
            if (k != n && operands_[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                guestOf(operands_[k].reg.value) == guest)
                return false;
        return guest >= 0 && inFrame(guest) && !(written && operands_[n].size == 32);
    };
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_MOV:
            if (operands_[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && !fits32(operands_[1].imm.value.s))
                return -1;
            [[fallthrough]];
        case ZYDIS_MNEMONIC_ADD:
        case ZYDIS_MNEMONIC_SUB:
        case ZYDIS_MNEMONIC_ADC:
        case ZYDIS_MNEMONIC_SBB:
        case ZYDIS_MNEMONIC_AND:
        case ZYDIS_MNEMONIC_OR:
        case ZYDIS_MNEMONIC_XOR:
        case ZYDIS_MNEMONIC_CMP: return inPlace(0) ? 0 : inPlace(1) ? 1 : -1;
        case ZYDIS_MNEMONIC_TEST:
        case ZYDIS_MNEMONIC_INC:
        case ZYDIS_MNEMONIC_DEC:
        case ZYDIS_MNEMONIC_NEG:
        case ZYDIS_MNEMONIC_NOT:
        case ZYDIS_MNEMONIC_SHL:
        case ZYDIS_MNEMONIC_SHR:
        case ZYDIS_MNEMONIC_SAR: return inPlace(0) ? 0 : -1;
        case ZYDIS_MNEMONIC_MOVZX:
        case ZYDIS_MNEMONIC_MOVSX:
        case ZYDIS_MNEMONIC_MOVSXD:
        case ZYDIS_MNEMONIC_IMUL: return inPlace(1) ? 1 : -1;
        default: return -1;
    }
}

bool BlockEmitter::plain(InstId id) {
    for (unsigned n = 0; n < z_->operand_count_visible; n++) {
        if (operands_[n].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
        if (highByteOf(operands_[n].reg.value) >= 0) return highByte(id);
        if (ZydisRegisterGetClass(operands_[n].reg.value) == ZYDIS_REGCLASS_SEGMENT) return moveSegment();
        if (ZydisRegisterGetClass(operands_[n].reg.value) == ZYDIS_REGCLASS_CONTROL)
            return n ? readControl() : writeControl();
        if (ZydisRegisterGetClass(operands_[n].reg.value) == ZYDIS_REGCLASS_DEBUG)
            return n ? readDebug() : writeDebug();
    }
    if (!operandsUsable()) return false;
    const unsigned count = z_->operand_count_visible;
    Operand ops[4];
    if (count > std::size(ops)) return false;
    const ZydisDecodedOperand* memory = nullptr;
    for (unsigned n = 0; n < count; n++)
        if (operands_[n].type == ZYDIS_OPERAND_TYPE_MEMORY) memory = &operands_[n];
    const bool bitString = z_->mnemonic == ZYDIS_MNEMONIC_BT || z_->mnemonic == ZYDIS_MNEMONIC_BTS ||
                           z_->mnemonic == ZYDIS_MNEMONIC_BTR || z_->mnemonic == ZYDIS_MNEMONIC_BTC;
    if (memory && bitString && operands_[1].type == ZYDIS_OPERAND_TYPE_REGISTER) return bitOfString(id);

    Address address{};
    std::array<Gp, 3> free{x86::rcx, x86::rdx, x86::rax};
    unsigned freeCount = 3;
    if (memory) {
        address = access(memory->mem, memory->size / 8, memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
        unsigned inFrameOperands = 0;
        for (unsigned n = 0; n < count; n++)
            if (operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER && guestOf(operands_[n].reg.value) >= 0)
                inFrameOperands += inFrame(guestOf(operands_[n].reg.value));
        if (readsFlags()) {
            moveAddressTo(address, kLinear);
            free[1] = kIndex, freeCount = 2;
        } else if (address.usesRdx && inFrameOperands > 1) {
            moveAddressTo(address, kIndex);
            freeCount = 2;
        } else {
            freeCount = address.usesRdx ? 1 : 2;
        }
    }
    if (readsFlags()) needFlags();

    const int place = memory ? -1 : operandInPlace();
    const bool moves = z_->mnemonic == ZYDIS_MNEMONIC_MOV || z_->mnemonic == ZYDIS_MNEMONIC_MOVZX ||
                       z_->mnemonic == ZYDIS_MNEMONIC_MOVSX || z_->mnemonic == ZYDIS_MNEMONIC_MOVSXD;
    const bool overwrites = moves && !(operands_[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                                       operands_[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                                       guestOf(operands_[0].reg.value) == guestOf(operands_[1].reg.value));

    struct WriteBack {
        unsigned guest;
        Gp scratch;
    };
    WriteBack back[4];
    unsigned backCount = 0, used = 0;
    for (unsigned n = 0; n < count; n++) {
        const ZydisDecodedOperand& op = operands_[n];
        if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            ops[n] = immediate(op);
        } else if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
            ops[n] = address.mem.cloneResized(op.size / 8);
        } else {
            const auto guest = unsigned(guestOf(op.reg.value));
            if (!inFrame(int(guest))) {
                ops[n] = pinned(guest, op.size);
                continue;
            }
            if (int(n) == place) {
                ops[n] = slot(guest, op.size / 8);
                continue;
            }
            Gp scratch;
            for (unsigned b = 0; b < used; b++)
                if (back[b].guest == guest) scratch = back[b].scratch;
            if (!scratch.isValid()) {
                if (used >= freeCount) throw std::logic_error("no free register for an operand");
                scratch = free[used];
                back[used++] = {guest, scratch};
                if (n > 0 || op.size < 32 || !overwrites) a_.mov(scratch, slot(guest));
            }
            ops[n] = sized(int(scratch.id()), op.size);
        }
    }
    backCount = used;
    lockIfAtomic();
    a_.emitOpArray(id, ops, count);
    for (unsigned b = 0; b < backCount; b++) {
        bool isWritten = false;
        for (unsigned n = 0; n < count; n++)
            isWritten |= operands_[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                         guestOf(operands_[n].reg.value) == int(back[b].guest) &&
                         operands_[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
        if (isWritten) a_.mov(slot(back[b].guest), back[b].scratch);
    }
    if (writesFlags()) {
        flagsWritten();
        noteRecipe();
    }
    return true;
}

bool BlockEmitter::lea() {
    const auto& m = operands_[1].mem;
    const int guest = guestOf(operands_[0].reg.value);
    if (guest < 0 || !addressable(m)) return false;
    const unsigned size = operands_[0].size;
    ZydisDecodedOperandMem flat = m;
    flat.segment = ZYDIS_REGISTER_DS;
    const bool direct = !inFrame(guest) && size == z_->address_width && size >= 32;
    const Gp result = direct ? pinned(unsigned(guest), size) : address();
    linearAddress(flat, result);
    if (direct) return true;
    if (size == 16) {
        if (inFrame(guest))
            a_.mov(slot(unsigned(guest), 2), x86::dx);
        else
            a_.mov(pinned(unsigned(guest), 16), x86::dx);
        return true;
    }
    if (size == 32) a_.mov(x86::edx, x86::edx);
    storeGuest(unsigned(guest), kLinear);
    return true;
}

bool BlockEmitter::shiftByCl(InstId id) {
    if (!operandsUsable()) return false;
    const unsigned count = z_->operand_count_visible;
    Operand ops[3];
    const ZydisDecodedOperand& dst = operands_[0];
    int dstInFrame = -1;
    if (dst.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        Address address = access(dst.mem, dst.size / 8, true);
        moveAddressTo(address, kLinear);
        ops[0] = address.mem.cloneResized(dst.size / 8);
        needFlags();
    } else {
        needFlags();
        const int guest = guestOf(dst.reg.value);
        if (inFrame(guest)) {
            dstInFrame = guest;
            a_.mov(x86::rdx, slot(unsigned(guest)));
            ops[0] = sized(int(x86::rdx.id()), dst.size);
        } else {
            ops[0] = pinned(unsigned(guest), dst.size);
        }
    }
    if (count == 3) {
        const int guest = guestOf(operands_[1].reg.value);
        if (inFrame(guest)) {
            a_.mov(x86::rax, slot(unsigned(guest)));
            ops[1] = sized(int(x86::rax.id()), operands_[1].size);
        } else {
            ops[1] = pinned(unsigned(guest), operands_[1].size);
        }
    }
    loadGuest(x86::rcx, 1);
    ops[count - 1] = x86::cl;
    a_.emitOpArray(id, ops, count);
    if (dstInFrame >= 0) a_.mov(slot(unsigned(dstInFrame)), x86::rdx);
    flagsWritten();
    return true;
}

// MUL and IMUL with rDX:rAX, or AX.
bool BlockEmitter::multiply(InstId id) {
    if (!operandsUsable()) return false;
    const ZydisDecodedOperand& op = operands_[0];
    const Gp factor = sized(int(x86::rcx.id()), op.size);
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const Address address = access(op.mem, op.size / 8, false);
        a_.mov(factor, address.mem.cloneResized(op.size / 8));
    } else {
        loadGuest(x86::rcx, unsigned(guestOf(op.reg.value)));
    }
    loadGuest(x86::rax, 0);
    if (op.size == 16) loadGuest(x86::rdx, 2);
    a_.emit(id, factor);
    storeGuest(0, x86::rax);
    if (op.size != 8) storeGuest(2, x86::rdx);
    flagsWritten();
    return true;
}

// rDX times the last operand; flags stay. The upper half wins where both have one place.
bool BlockEmitter::multiplyWithoutFlags(InstId id) {
    if (!operandsUsable()) return false;
    const ZydisDecodedOperand &upper = operands_[0], &lower = operands_[1], &op = operands_[2];
    const unsigned size = upper.size;
    const int upperGuest = guestOf(upper.reg.value), lowerGuest = guestOf(lower.reg.value);
    Operand factor;
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        Address address = access(op.mem, size / 8, false);
        moveAddressTo(address, kIndex);
        factor = address.mem.cloneResized(size / 8);
    } else {
        const int guest = guestOf(op.reg.value);
        factor = inFrame(guest) ? Operand(slot(unsigned(guest), size / 8))
                                : Operand(pinned(unsigned(guest), size));
    }
    auto result = [&](int guest, const Gp& scratch) {
        return inFrame(guest) ? sized(int(scratch.id()), size) : pinned(unsigned(guest), size);
    };
    loadGuest(x86::rdx, 2);
    a_.emit(id, result(upperGuest, x86::rcx), result(lowerGuest, x86::rdx), factor);
    if (inFrame(lowerGuest)) storeGuest(unsigned(lowerGuest), x86::rdx);
    if (inFrame(upperGuest)) storeGuest(unsigned(upperGuest), x86::rcx);
    return true;
}

// The interpreter does what would fault, and signed division of a dividend that is not just rAX extended.
bool BlockEmitter::divide(bool isSigned) {
    if (!operandsUsable()) return false;
    const ZydisDecodedOperand& op = operands_[0];
    if (op.size < 32 || inFrame(0) || inFrame(2)) return false;
    const Gp divisor = sized(int(x86::rcx.id()), op.size), high = sized(int(x86::rdx.id()), op.size);
    saveFlags();
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const Address address = access(op.mem, op.size / 8, false);
        a_.mov(divisor, address.mem.cloneResized(op.size / 8));
    } else {
        loadGuest(x86::rcx, unsigned(guestOf(op.reg.value)));
    }
    loadGuest(x86::rax, 0);
    loadGuest(x86::rdx, 2);
    if (isSigned) {
        a_.mov(high, sized(int(x86::rax.id()), op.size));
        a_.sar(high, op.size - 1);
        a_.cmp(high, pinned(2, op.size));
        a_.jne(slow(Site::Kind::Miss));
        a_.test(divisor, divisor);
        a_.jz(slow(Site::Kind::Miss));
        a_.cmp(divisor, -1);
        a_.je(slow(Site::Kind::Miss));
        a_.idiv(divisor);
    } else {
        a_.cmp(high, divisor);
        a_.jae(slow(Site::Kind::Miss));
        a_.div(divisor);
    }
    storeGuest(0, x86::rax);
    storeGuest(2, x86::rdx);
    inHost_ = false;  // undefined: what they were
    return true;
}

bool BlockEmitter::convert() {
    loadGuest(x86::rax, 0);
    switch (z_->mnemonic) {
        case ZYDIS_MNEMONIC_CBW: a_.cbw(); break;
        case ZYDIS_MNEMONIC_CWDE: a_.cwde(); break;
        case ZYDIS_MNEMONIC_CDQE: a_.cdqe(); break;
        default:
            if (z_->mnemonic == ZYDIS_MNEMONIC_CWD)
                loadGuest(x86::rdx, 2), a_.cwd();
            else if (z_->mnemonic == ZYDIS_MNEMONIC_CDQ)
                a_.cdq();
            else
                a_.cqo();
            storeGuest(2, x86::rdx);
            return true;
    }
    storeGuest(0, x86::rax);
    return true;
}

// Old x87 code compares by FNSTSW and SAHF.
bool BlockEmitter::storeAh() {
    needFlags();  // OF stays
    loadGuest(x86::rax, 0);
    a_.sahf();
    flagsWritten();
    return true;
}

bool BlockEmitter::loadAh() {
    saveFlags();
    a_.mov(x86::eax, KILN_FRAME(flags).cloneResized(4));
    a_.and_(x86::eax, 0xd500);
    a_.or_(x86::eax, 0x200);
    loadGuest(x86::rcx, 0);
    a_.and_(x86::rcx, int32_t(0xffff00ff));
    a_.or_(x86::rcx, x86::rax);
    storeGuest(0, x86::rcx);
    inHost_ = false;
    return true;
}

bool BlockEmitter::push() {
    const ZydisDecodedOperand& op = operands_[0];
    if (!segmented() && z_->operand_width != bits()) return false;
    const unsigned width = z_->operand_width, bytes = width / 8;
    if (op.type == ZYDIS_OPERAND_TYPE_REGISTER &&
        ZydisRegisterGetClass(op.reg.value) == ZYDIS_REGCLASS_SEGMENT)
        return pushSegment(segmentOf(op.reg.value));
    if (!operandsUsable()) return false;
    const Gp value = sized(int(x86::rcx.id()), width);
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        const Address from = access(op.mem, bytes, false);
        a_.mov(value, from.mem.cloneResized(bytes));
        a_.mov(KILN_FRAME(value), x86::rcx);
    }
    const Address to = stack(-int32_t(bytes), bytes, true);
    const Mem place = to.mem.cloneResized(bytes);
    if (op.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        a_.mov(place, Imm(width == 16 ? int64_t(int16_t(op.imm.value.s)) : op.imm.value.s));
    } else if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
        a_.mov(x86::rcx, KILN_FRAME(value));
        a_.mov(place, value);
    } else {
        const int guest = guestOf(op.reg.value);
        if (inFrame(guest)) {
            a_.mov(x86::rcx, slot(unsigned(guest)));
            a_.mov(place, value);
        } else {
            a_.mov(place, pinned(unsigned(guest), width));
        }
    }
    addToStack(-int32_t(bytes));
    return true;
}

bool BlockEmitter::pop() {
    const ZydisDecodedOperand& op = operands_[0];
    if (!segmented() && z_->operand_width != bits()) return false;
    if (op.type != ZYDIS_OPERAND_TYPE_REGISTER) return popToMemory(op.mem);
    const unsigned width = z_->operand_width, bytes = width / 8;
    if (ZydisRegisterGetClass(op.reg.value) == ZYDIS_REGCLASS_SEGMENT)
        return popSegment(segmentOf(op.reg.value));
    if (!operandsUsable()) return false;
    const Address from = stack(0, bytes, false);
    const auto guest = unsigned(guestOf(op.reg.value));
    if (guest != 4 && !inFrame(int(guest))) {
        a_.mov(pinned(guest, width), from.mem.cloneResized(bytes));
        addToStack(int32_t(bytes));
        return true;
    }
    a_.mov(sized(int(x86::rdx.id()), width), from.mem.cloneResized(bytes));
    addToStack(int32_t(bytes));
    if (width == 16)
        a_.mov(pinned(guest, 16), x86::dx);
    else
        storeGuest(guest, x86::rdx);
    return true;
}

bool BlockEmitter::popToMemory(const ZydisDecodedOperandMem& place) {
    if (segmented() || !operandsUsable()) return false;
    const unsigned width = z_->operand_width, bytes = width / 8;
    const Gp value = sized(int(x86::rcx.id()), width);
    const Address from = stack(0, bytes, false);
    a_.mov(value, from.mem.cloneResized(bytes));
    a_.mov(KILN_FRAME(value), x86::rcx);
    const Address to = access(place, bytes, true);
    a_.mov(x86::rcx, KILN_FRAME(value));
    a_.mov(to.mem.cloneResized(bytes), value);
    addToStack(int32_t(bytes));
    return true;
}

bool BlockEmitter::leave() {
    if (!segmented() && z_->operand_width != bits()) return false;
    const unsigned width = z_->operand_width, bytes = width / 8;
    const Address from = stack(0, bytes, false, 5);
    a_.mov(sized(int(x86::rdx.id()), width), from.mem.cloneResized(bytes));
    if (segmented()) {
        a_.lea(pinned(4, stackBits()), x86::ptr(pinned(5, 64), int32_t(bytes)));
        a_.mov(pinned(5, width), sized(int(x86::rdx.id()), width));
        return true;
    }
    loadGuest(x86::rcx, 5);
    a_.lea(sized(int(x86::rcx.id()), bits()), x86::ptr(x86::rcx, int32_t(bytes)));
    storeGuest(4, x86::rcx);
    storeGuest(5, x86::rdx);
    return true;
}

}  // namespace kiln
