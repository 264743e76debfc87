#include "devices/vtd.hpp"

namespace kiln {

using namespace vtd;

namespace {

uint64_t capabilities(const VtdConfig& c) {
    constexpr uint64_t kDomains64K = 6, k2MiB = 1ull << 34, k1GiB = 1ull << 35, kPageSelective = 1ull << 39;
    constexpr uint64_t kDrainsWrites = 1ull << 54, kDrainsReads = 1ull << 55, kCachingMode = 1 << 7;
    constexpr uint64_t k3Levels = 1 << 9, k4Levels = 1 << 10;
    return kDomains64K | (c.cachingMode ? kCachingMode : 0) | k3Levels |
           (c.addressWidth > 39 ? k4Levels : 0) | uint64_t(c.addressWidth - 1) << 16 |
           uint64_t(kFaultRecords / 16) << 24 | k2MiB | k1GiB | kPageSelective |
           uint64_t(kFaultRecordCount - 1) << 40 | uint64_t(kMaximumMask) << 48 | kDrainsWrites |
           kDrainsReads;
}

uint64_t extendedCapabilities(const VtdConfig& c) {
    constexpr uint64_t kCoherent = 1 << 0, kQueued = 1 << 1, kDeviceTlb = 1 << 2, kRemapping = 1 << 3,
                       kExtended = 1 << 4, kPassThrough = 1 << 6, kHandleMask = 15 << 20;
    return kCoherent | kQueued | (c.deviceTlb ? kDeviceTlb : 0) |
           (c.interruptRemapping ? kRemapping | kHandleMask : 0) | (c.extendedInterruptMode ? kExtended : 0) |
           (c.passThrough ? kPassThrough : 0) | uint64_t(kInvalidateAddress / 16) << 8;
}

}  // namespace

VtdUnit::VtdUnit(const VtdConfig& config, PhysicalMemory& memory, ApicBus& apicBus, Log& log)
    : config_(config), memory_(memory), apicBus_(apicBus), log_(log) {
    reset();
}

void VtdUnit::reset() {
    registers_.fill(0);
    reg(kVersion) = 0x10;  // major 1, minor 0
    set64(kCapability, capabilities(config_));
    set64(kExtendedCapability, extendedCapabilities(config_));
    reg(kFaultControl) = reg(kCompletionControl) = kEventMasked;
    rootTable_ = interruptTable_ = 0;
    nextRecord_ = 0;
    contexts_.fill({});
    pages_.fill({});
    irtes_.fill({});
}

void VtdUnit::state(StateVisitor& visit) {
    visit("registers", registers_);
    visit("root_table", rootTable_);
    visit("interrupt_table", interruptTable_);
    visit("next_record", nextRecord_);
    visit("contexts", contexts_);
    visit("pages", pages_);
    visit("irtes", irtes_);
}

// -- access: aligned words of 32 or 64 bits

uint64_t VtdUnit::ioRead(uint64_t offset, unsigned size) {
    if (size == 8) return ioRead(offset, 4) | ioRead(offset + 4, 4) << 32;
    const unsigned at = unsigned(offset) & ~3u;
    const bool writeOnly = at == kInvalidateAddress || at == kInvalidateAddress + 4;
    if (at >= kRegistersEnd || writeOnly) return 0;
    return reg(at) >> (offset & 3) * 8 & openBus(size);
}

void VtdUnit::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (size < 4 || offset % 4) {
        log_.oddity("vtd: a register takes 4 or 8 bytes", "offset {:x}, {} bytes", offset, size);
        return;
    }
    writeRegister(unsigned(offset), uint32_t(value));
    if (size == 8) writeRegister(unsigned(offset) + 4, uint32_t(value >> 32));
}

// Which bits of a register without side effects software may write.
uint32_t VtdUnit::writable(unsigned offset) const {
    const bool extended = config_.extendedInterruptMode, remapping = config_.interruptRemapping;
    switch (offset) {
        case kRootTable:
        case kInvalidateAddress: return offset == kRootTable ? 0xfffff000 : 0xfffff07f;
        case kQueueAddress: return 0xfffff007;
        case kInterruptTable: return remapping ? 0xfffff00f | (extended ? uint32_t(kExtendedMode) : 0) : 0;
        case kInterruptTable + 4: return remapping ? ~0u : 0;
        case kFaultControl + kEventAddress:
        case kCompletionControl + kEventAddress: return 0xfffffffc;
        case kFaultControl + kEventUpperAddress:
        case kCompletionControl + kEventUpperAddress: return extended ? ~0u : 0;
        case kRootTable + 4:
        case kInvalidateAddress + 4:
        case kQueueAddress + 4:
        case kContextCommand:
        case kFaultControl + kEventData:
        case kCompletionControl + kEventData: return ~0u;
        default: return 0;
    }
}

void VtdUnit::writeRegister(unsigned offset, uint32_t value) {
    switch (offset) {
        case kGlobalCommand: return command(value);
        case kContextCommand + 4:
            reg(offset) = value & 0x60000003;
            if (value & kInvalidate) contextCommand();
            return;
        case kInvalidateTlb + 4:
            reg(offset) = value & 0x3003ffff;
            if (value & kInvalidate) tlbCommand();
            return;
        case kQueueTail: reg(offset) = value & 0x7fff0; return processQueue();
        case kFaultStatus:
            reg(offset) &= ~(value & (kOverflow | kQueueError));
            faultsServed();
            return processQueue();
        case kFaultControl:
        case kCompletionControl: return writeEventControl(offset, value);
        case kCompletionStatus:
            if (!(value & 1)) return;
            reg(offset) = 0;
            reg(kCompletionControl) &= ~kEventPending;
            return;
        default: break;
    }
    if (offset >= kFaultRecords && offset < kRegistersEnd && offset % 16 == 12) {
        if (value & kRecorded) clearFault((offset - kFaultRecords) / 16);
    } else if (offset < kRegistersEnd) {
        reg(offset) = (reg(offset) & ~writable(offset)) | (value & writable(offset));
    }
}

// Global command (10.4.4). "Set" commands and enables may come together; each is done at once.
void VtdUnit::command(uint32_t value) {
    uint32_t& status = reg(kGlobalStatus);
    const uint32_t lasting =
        kTranslation | kQueue | (config_.interruptRemapping ? kInterruptRemapping | kCompatibility : 0);
    const uint32_t changed = (status ^ value) & lasting;
    if (value & kSetRootTable) {
        rootTable_ = reg64(kRootTable);
        status |= kSetRootTable;
    }
    if (value & kSetInterruptTable && config_.interruptRemapping) {
        interruptTable_ = reg64(kInterruptTable);
        status |= kSetInterruptTable;
    }
    status ^= changed;
    if (changed & (kTranslation | kInterruptRemapping | kQueue))
        log_(LogCategory::Pci, "vtd: global status {:08x}, roots at {:x}, interrupts at {:x}", status,
             rootTable_, interruptTable_);
    if (changed & kQueue) {
        set64(kQueueHead, 0);
        processQueue();
    }
}

// -- tables in memory

bool VtdUnit::fetch(uint64_t address, uint64_t& value) {
    if (!memory_.find(PhysAddr(address)).host) return false;
    value = memory_.load<uint64_t>(PhysAddr(address));
    return true;
}

bool VtdUnit::fetch(uint64_t address, Entry& entry) {
    return fetch(address, entry.low) && fetch(address + 8, entry.high);
}

}  // namespace kiln
