// Registers and structures of VT-d as the specification (Intel Virtualization Technology for Directed
// I/O, 3.0) draws them: chapter 9 for structures in memory, chapter 10 for registers.
#pragma once
#include <cstdint>

namespace kiln::vtd {

// -- registers (10.4), by offset
enum : unsigned {
    kVersion = 0x00,
    kCapability = 0x08,
    kExtendedCapability = 0x10,
    kGlobalCommand = 0x18,
    kGlobalStatus = 0x1c,
    kRootTable = 0x20,
    kContextCommand = 0x28,
    kFaultStatus = 0x34,
    kFaultControl = 0x38,  // then data, address, upper address
    kQueueHead = 0x80,
    kQueueTail = 0x88,
    kQueueAddress = 0x90,
    kCompletionStatus = 0x9c,
    kCompletionControl = 0xa0,  // then data, address, upper address
    kInterruptTable = 0xb8,
    kInvalidateAddress = 0xf0,
    kInvalidateTlb = 0xf8,
    kFaultRecords = 0x220,
    kRegistersEnd = 0x2a0,
};
constexpr unsigned kFaultRecordCount = (kRegistersEnd - kFaultRecords) / 16;

// From an event's control register on: fault event, invalidation completion event.
constexpr unsigned kEventData = 4, kEventAddress = 8, kEventUpperAddress = 12;
constexpr uint32_t kEventMasked = 1u << 31, kEventPending = 1u << 30;

// Global command and status.
constexpr uint32_t kTranslation = 1u << 31, kSetRootTable = 1u << 30, kQueue = 1u << 26,
                   kInterruptRemapping = 1u << 25, kSetInterruptTable = 1u << 24, kCompatibility = 1u << 23;

// Fault status.
constexpr uint32_t kOverflow = 1 << 0, kFaultPending = 1 << 1, kQueueError = 1 << 4;
constexpr unsigned kFaultIndexShift = 8;

// Context command and TLB invalidation, upper halves.
constexpr uint32_t kInvalidate = 1u << 31;
constexpr unsigned kMaximumMask = 18;  // of an address in an invalidation: 1 GiB

// A fault record's last word.
constexpr uint32_t kRecorded = 1u << 31, kWasRead = 1u << 30;

// -- fault reasons (7.1.3, appendix A of earlier versions)
enum class Fault : uint8_t {
    None = 0,
    RootNotPresent = 0x01,
    ContextNotPresent = 0x02,
    ContextInvalid = 0x03,
    AddressTooWide = 0x04,
    NotWritable = 0x05,
    NotReadable = 0x06,
    PagingAccess = 0x07,
    RootAccess = 0x08,
    ContextAccess = 0x09,
    RootReserved = 0x0a,
    ContextReserved = 0x0b,
    PagingReserved = 0x0c,
    InterruptRange = 0x0e,
    RequestReserved = 0x20,
    IndexTooLarge = 0x21,
    IrteNotPresent = 0x22,
    IrteAccess = 0x23,
    IrteReserved = 0x24,
    CompatibilityBlocked = 0x25,
    SourceMismatch = 0x26,
};

// Those an entry's "fault processing disable" bit can silence.
constexpr bool qualified(Fault f) {
    switch (f) {
        case Fault::RootNotPresent:
        case Fault::RootAccess:
        case Fault::ContextAccess:
        case Fault::RootReserved:
        case Fault::RequestReserved:
        case Fault::IndexTooLarge:
        case Fault::IrteAccess:
        case Fault::CompatibilityBlocked: return false;
        default: return true;
    }
}

// An entry of 128 bits: root, context, interrupt remapping table, invalidation queue.
struct Entry {
    uint64_t low = 0, high = 0;
    bool present() const { return low & 1; }
    bool faultsDisabled() const { return low & 2; }  // not the root's
};

constexpr uint64_t kTableAddress = ~0xfffull;

// -- context entry (9.3)
enum class TranslationType : uint8_t { Untranslated, WithDeviceTlb, PassThrough, Reserved };
constexpr TranslationType translationType(const Entry& c) { return TranslationType(c.low >> 2 & 3); }
constexpr unsigned levels(const Entry& c) { return unsigned(c.high & 7) + 2; }
constexpr uint16_t domain(const Entry& c) { return uint16_t(c.high >> 8); }
constexpr uint64_t kContextReservedLow = 0xff0, kContextReservedHigh = ~0xffff7full;

// -- second-level paging entry (9.8)
constexpr uint64_t kReadable = 1, kWritable = 2, kLargePage = 1 << 7, kSnoop = 1 << 11,
                   kTransient = 1ull << 62;
constexpr uint64_t kPageAddress = 0x000ffffffffff000;

// -- interrupt request in remappable format (5.1.2.2) and interrupt remapping table entry (9.10)
constexpr uint64_t kRemappable = 1 << 4, kSubhandleValid = 1 << 3;
constexpr uint64_t kIrteReservedLow = 0xff00f000, kIrteReservedHigh = ~0xfffffull;  // posted ones, too
constexpr uint64_t kXapicDestinationReserved = 0xffff00ffull << 32;
constexpr uint64_t kExtendedMode = 1 << 11;  // of the table address register

}  // namespace kiln::vtd
