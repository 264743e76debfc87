// Invalidation: chapter 6. By register (6.5.1) or, when it is on, by the queue in memory (6.5.2).
#include "devices/vtd.hpp"

namespace kiln {

using namespace vtd;

namespace {

enum class Descriptor : uint8_t { Context = 1, Tlb, DeviceTlb, Interrupt, Wait };

struct DescriptorFormat {
    uint64_t reservedLow, reservedHigh;
};
// Context, IOTLB, device TLB, interrupt entries, wait (6.5.2.1 to 6.5.2.8, in 128 bits).
constexpr DescriptorFormat kFormats[] = {{0xfffc'0000'0000'ffc0, ~0ull},
                                         {0xffff'ffff'0000'ff00, 0xf80},
                                         {0xffff'0000'ffe0'fff0, 0xffe},
                                         {0xffff'0000'07ff'ffe0, ~0ull},
                                         {0x0000'0000'ffff'ff80, 3}};

}  // namespace

// -- what is forgotten

void VtdUnit::invalidateContexts(Granularity granularity, uint16_t did, uint16_t source,
                                 unsigned functionMask) {
    const uint16_t compared = uint16_t(~(((1u << functionMask) - 1) << (3 - functionMask)));
    for (CachedContext& c : contexts_) {
        const bool hit = granularity == Granularity::Global || domain(c.entry) == did;
        const bool same = granularity != Granularity::Selective || !((c.tag ^ source) & compared);
        if (hit && same) c = {};
    }
}

void VtdUnit::invalidatePages(Granularity granularity, uint16_t did, uint64_t address, unsigned mask) {
    const uint64_t size = kPageSize << mask, begin = address & ~(size - 1);
    for (CachedPage& p : pages_) {
        if (!p.tag) continue;
        const unsigned shift = unsigned(12 + 9 * ((p.tag >> 60 & 7) - 1));
        const uint64_t page = (p.tag & 0xfffffffff) << shift, end = page + (1ull << shift);
        const bool hit = granularity == Granularity::Global || uint16_t(p.tag >> 40) == did;
        const bool in = granularity != Granularity::Selective || (page < begin + size && begin < end);
        if (hit && in) p = {};
    }
}

void VtdUnit::invalidateIrtes(bool all, uint32_t index, unsigned mask) {
    for (CachedIrte& c : irtes_)
        if (all || (c.tag & 0xffff) >> mask == index >> mask) c = {};
}

// -- by register. The answer says which granularity was done; none while the queue is on.

void VtdUnit::contextCommand() {
    const uint32_t low = reg(kContextCommand);
    uint32_t& high = reg(kContextCommand + 4);
    Granularity granularity = Granularity(high >> 29 & 3);
    if (enabled(kQueue)) granularity = Granularity::Reserved;
    if (granularity != Granularity::Reserved)
        invalidateContexts(granularity, uint16_t(low), uint16_t(low >> 16), high & 3);
    high |= uint32_t(granularity) << 27;
}

void VtdUnit::tlbCommand() {
    uint32_t& high = reg(kInvalidateTlb + 4);
    const uint64_t address = reg64(kInvalidateAddress);
    Granularity granularity = Granularity(high >> 28 & 3);
    const unsigned mask = address & 0x3f;
    if (enabled(kQueue) || (granularity == Granularity::Selective && mask > kMaximumMask))
        granularity = Granularity::Reserved;
    if (granularity != Granularity::Reserved) invalidatePages(granularity, uint16_t(high), address, mask);
    high |= uint32_t(granularity) << 25;
}

// -- by queue. A descriptor that makes no sense stops it, with the head on it, until software clears the
// error.

void VtdUnit::processQueue() {
    const uint64_t queue = reg64(kQueueAddress) & kTableAddress;
    const uint32_t size = 4096u << (reg(kQueueAddress) & 7), tail = reg(kQueueTail);
    uint32_t& head = reg(kQueueHead);
    while (enabled(kQueue) && !(reg(kFaultStatus) & kQueueError) && head != tail) {
        Entry descriptor;
        if (tail >= size || !fetch(queue + head, descriptor) || !execute(descriptor)) {
            log_.oddity("vtd: an error in the invalidation queue", "at {:x}: {:016x} {:016x}", queue + head,
                        descriptor.high, descriptor.low);
            raiseFaultStatus(kQueueError);
            return;
        }
        head = (head + sizeof descriptor) % size;
    }
}

bool VtdUnit::execute(const Entry& d) {
    const unsigned type = (d.low & 15) | (d.low >> 9 & 7) << 4;
    if (type < 1 || type > std::size(kFormats)) return false;
    const DescriptorFormat& format = kFormats[type - 1];
    if (d.low & format.reservedLow || d.high & format.reservedHigh) return false;
    const Granularity granularity = Granularity(d.low >> 4 & 3);
    const uint16_t did = uint16_t(d.low >> 16), source = uint16_t(d.low >> 32);
    switch (Descriptor(type)) {
        case Descriptor::Context:
            if (granularity == Granularity::Reserved) return false;
            invalidateContexts(granularity, did, source, d.low >> 48 & 3);
            return true;
        case Descriptor::Tlb: {
            const unsigned mask = d.high & 0x3f;
            const bool selective = granularity == Granularity::Selective;
            if (granularity == Granularity::Reserved || (selective && mask > kMaximumMask)) return false;
            invalidatePages(granularity, did, d.high, selective ? mask : 0);
            return true;
        }
        case Descriptor::DeviceTlb: return config_.deviceTlb;  // nobody has one
        case Descriptor::Interrupt:
            if (!config_.interruptRemapping) return false;
            invalidateIrtes(!(d.low & 0x10), uint32_t(d.low >> 32) & 0xffff, d.low >> 27 & 31);
            return true;
        case Descriptor::Wait: return executeWait(d);
    }
    return false;
}

bool VtdUnit::executeWait(const Entry& d) {
    constexpr uint64_t kInterruptFlag = 1 << 4, kStatusWrite = 1 << 5;
    if (d.low & kStatusWrite) {
        const PhysAddr at(d.high & ~3ull);
        if (memory_.find(at).host)
            memory_.write(at, uint32_t(d.low >> 32));
        else
            log_.oddity("vtd: a wait descriptor's status goes nowhere", "to {:x}", d.high);
    }
    if (d.low & kInterruptFlag && !(reg(kCompletionStatus) & 1)) {
        reg(kCompletionStatus) = 1;
        raiseEvent(kCompletionControl);
    }
    return true;
}

}  // namespace kiln
