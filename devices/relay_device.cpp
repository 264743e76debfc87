#include "devices/relay_device.hpp"

namespace kiln {

namespace {

enum : uint64_t {
    kIdentification = 0x00,
    kFunctions = 0x04,
    kIndex = 0x08,
    kNext = 0x0c,
    kFunction = 0x10,
    kIdentifier = 0x14,
    kStatus = 0x18,
    kIndicator = 0x1c,
    kTake = 0x20,
    kClear = 0x24,
    kRaised = 0x28,
    kCoalesced = 0x30,
    kIdentifiers = 0x38,
    kBucket = 0x40,
    kSamples = 0x44,
    kUntracked = 0x48,
};
constexpr uint32_t kIdentity = 0x4b524c01;  // "KRL", version 1
constexpr uint64_t kRegisters = 4096;

// Next.
constexpr uint32_t kValid = 1u << 31;
constexpr unsigned kKindShift = 27, kNumberShift = 16;
// Status.
constexpr uint32_t kExists = 1, kDedicated = 2;
constexpr unsigned kProcessorShift = 8;

uint32_t half(uint64_t v, uint64_t offset) { return uint32_t(offset & 4 ? v >> 32 : v); }

}  // namespace

RelayDevice::RelayDevice(InterruptRelay& relay)
    : PciFunction({.vendor = 0x1234, .device = 0x4952, .classCode = 0x088000, .revision = 1}),
      relays_(relay) {
    addMemoryBar(0, kRegisters, *this);
}

void RelayDevice::reset() {
    PciFunction::reset();
    index_ = function_ = identifier_ = bucket_ = 0;
}

void RelayDevice::state(StateVisitor& visit) {
    PciFunction::state(visit);
    visit("index", index_);
    visit("function", function_);
    visit("identifier", identifier_);
    visit("bucket", bucket_);
}

std::optional<uint32_t> RelayDevice::selected() const {
    Bdf bdf;
    bdf.value = uint16_t(function_);
    if (function_ >> 16 || identifier_ >> 18) return {};
    return relays_.find(bdf, {InterruptId::Kind(identifier_ >> 16), uint16_t(identifier_)});
}

InterruptId RelayDevice::select(uint32_t identifier) {
    const InterruptId id = relays_.identifiers()[identifier].id;
    function_ = relays_.portOf(identifier).source().bdf().value;
    identifier_ = uint32_t(id.kind) << 16 | id.number;
    return id;
}

// The next identifier that has interrupted; it becomes the selected one.
uint32_t RelayDevice::next() {
    const auto found = relays_.nextIndicated();
    if (!found) return 0;
    const InterruptId id = select(*found);
    return kValid | uint32_t(id.kind) << kKindShift | uint32_t(id.number) << kNumberShift | function_;
}

uint32_t RelayDevice::status() const {
    const auto found = selected();
    if (!found) return 0;
    const int cpu = relays_.portOf(*found).interrupts();
    return kExists | (cpu == InterruptRelay::kShared ? 0 : kDedicated | uint32_t(cpu) << kProcessorShift);
}

uint32_t RelayDevice::samples() const {
    const auto found = selected();
    const uint32_t stage = bucket_ >> 8, bucket = bucket_ & 0xff;
    if (!found || stage >= InterruptRelay::kStages || bucket >= LatencyHistogram::kBuckets) return 0;
    return relays_.identifiers()[*found].latency[stage].counts[bucket];
}

uint64_t RelayDevice::ioRead(uint64_t offset, unsigned size) {
    return size == 4 && offset % 4 == 0 ? read(offset) : openBus(size);
}

uint32_t RelayDevice::read(uint64_t offset) {
    const auto found = selected();
    const InterruptRelay::Identifier* i = found ? &relays_.identifiers()[*found] : nullptr;
    switch (offset) {
        case kIdentification: return kIdentity;
        case kFunctions: return uint32_t(relays_.ports().size());
        case kIndex: return index_;
        case kNext: return next();
        case kFunction: return function_;
        case kIdentifier: return identifier_;
        case kStatus: return status();
        case kIndicator: return i ? i->indicator : 0;
        case kTake: return found ? relays_.take(*found) : 0;
        case kRaised:
        case kRaised + 4: return i ? half(i->raised, offset - kRaised) : 0;
        case kCoalesced:
        case kCoalesced + 4: return i ? half(i->coalesced, offset - kCoalesced) : 0;
        case kIdentifiers: return found ? relays_.portOf(*found).count() : 0;
        case kBucket: return bucket_;
        case kSamples: return samples();
        case kUntracked:
        case kUntracked + 4: return half(relays_.untracked(), offset - kUntracked);
        default: return ~0u;
    }
}

void RelayDevice::ioWrite(uint64_t offset, unsigned size, uint64_t wide) {
    if (size != 4) return;
    const auto value = uint32_t(wide);
    switch (offset) {
        case kIndex:
            index_ = value;
            if (value < relays_.ports().size()) select(relays_.ports()[value]->first());
            break;
        case kFunction: function_ = value; break;
        case kIdentifier: identifier_ = value; break;
        case kIndicator:
            if (const auto found = selected()) relays_.take(*found);
            break;
        case kClear:
            if (value & 1) relays_.clear(nullptr);
            break;
        case kBucket: bucket_ = value; break;
        default: break;
    }
}

}  // namespace kiln
