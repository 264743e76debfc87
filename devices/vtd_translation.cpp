// DMA remapping: chapter 3. An address of a function is looked up in the IOTLB, else in the paging structures
// that the function's context entry names.
#include <algorithm>
#include <cstring>

#include "devices/vtd.hpp"

namespace kiln {

using namespace vtd;

namespace {

constexpr uint64_t kTagValid = 1ull << 63;

constexpr uint64_t pageSize(unsigned level) { return kPageSize << 9 * (level - 1); }

}  // namespace

bool VtdUnit::read(Bdf requester, uint64_t address, void* out, uint64_t size) {
    auto* bytes = static_cast<uint8_t*>(out);
    while (size) {
        const uint64_t n = std::min(size, kPageSize - (address & kPageMask));
        const auto to = ApicBus::inWindow(address) ? std::nullopt : translate(requester, address, false);
        if (!to) {
            std::memset(bytes, 0xff, size);
            return false;
        }
        memory_.read(*to, bytes, n);
        address += n, bytes += n, size -= n;
    }
    return true;
}

bool VtdUnit::write(Bdf requester, uint64_t address, const void* in, uint64_t size) {
    auto* bytes = static_cast<const uint8_t*>(in);
    if (ApicBus::inWindow(address) && size == 4 &&
        address % 4 == 0) {  // 3.14: an interrupt, never translated
        uint32_t data;
        std::memcpy(&data, bytes, sizeof data);
        return apicBus_.request({address, data}, requester.value);
    }
    while (size) {
        const uint64_t n = std::min(size, kPageSize - (address & kPageMask));
        const auto to = ApicBus::inWindow(address) ? std::nullopt : translate(requester, address, true);
        if (!to) return false;
        memory_.write(*to, bytes, n);
        address += n, bytes += n, size -= n;
    }
    return true;
}

std::optional<PhysAddr> VtdUnit::translate(Bdf requester, uint64_t address, bool write) {
    if (!enabled(kTranslation)) return PhysAddr(address);
    Entry context;
    uint64_t target = 0;
    Fault why = findContext(requester.value, context);
    if (why == Fault::None) why = findPage(context, address, write, target);
    if (why == Fault::None) return PhysAddr(target);
    if (!qualified(why) || !context.faultsDisabled()) fault(why, requester, address & kTableAddress, !write);
    return std::nullopt;
}

// -- root and context entries (9.1, 9.3)

// `context` is left as found, for its fault processing disable bit.
Fault VtdUnit::findContext(uint16_t source, Entry& context) {
    CachedContext& cached = contexts_[source % contexts_.size()];
    const uint64_t tag = source | 1ull << 16;
    if (cached.tag == tag) {
        context = cached.entry;
        return Fault::None;
    }
    Entry root;
    if (!fetch(rootTable_ + (source >> 8) * sizeof(Entry), root)) return Fault::RootAccess;
    if (!root.present()) return Fault::RootNotPresent;
    const uint64_t table = root.low & kTableAddress;
    if (root.low & 0xffe || root.high || tooWide(table)) return Fault::RootReserved;
    if (!fetch(table + (source & 0xff) * sizeof(Entry), context)) return Fault::ContextAccess;
    const Fault why = checkContext(context);
    if (why == Fault::None) cached = {context, tag};
    return why;
}

Fault VtdUnit::checkContext(const Entry& c) const {
    if (!c.present()) return Fault::ContextNotPresent;
    if (c.low & kContextReservedLow || c.high & kContextReservedHigh || tooWide(c.low & kTableAddress))
        return Fault::ContextReserved;
    const TranslationType type = translationType(c);
    const bool offered = type == TranslationType::Untranslated ||
                         (type == TranslationType::WithDeviceTlb && config_.deviceTlb) ||
                         (type == TranslationType::PassThrough && config_.passThrough);
    const bool depth = levels(c) == 3 || (levels(c) == 4 && config_.addressWidth > 39);
    return offered && depth ? Fault::None : Fault::ContextInvalid;
}

// -- pages

uint64_t VtdUnit::pageTag(uint16_t domain, uint64_t address, unsigned level) {
    return kTagValid | uint64_t(level) << 60 | uint64_t(domain) << 40 | address / pageSize(level);
}

Fault VtdUnit::findPage(const Entry& context, uint64_t address, bool write, uint64_t& target) {
    const unsigned bits = std::min(config_.addressWidth, 12 + 9 * levels(context));
    if (address >> bits) return Fault::AddressTooWide;
    if (translationType(context) == TranslationType::PassThrough) {
        target = address;
        return Fault::None;
    }
    for (unsigned level = 1; level <= 3; level++) {
        const uint64_t tag = pageTag(domain(context), address, level);
        const CachedPage& page = cachedPage(tag);
        if (page.tag != tag || !(page.target & (write ? kWritable : kReadable))) continue;
        target = (page.target & kPageAddress) + (address & (pageSize(level) - 1));
        return Fault::None;
    }
    unsigned level = 0;
    uint64_t entry = 0;
    if (Fault why = walk(context, address, write, level, entry); why != Fault::None) return why;
    const uint64_t tag = pageTag(domain(context), address, level);
    cachedPage(tag) = {tag, entry};
    target = (entry & kPageAddress) + (address & (pageSize(level) - 1));
    return Fault::None;
}

// Gives the page's address and the permissions that all levels grant, and the level it was found on (9.8).
Fault VtdUnit::walk(const Entry& context, uint64_t address, bool write, unsigned& level, uint64_t& target) {
    const uint64_t needed = write ? kWritable : kReadable;
    const Fault denied = write ? Fault::NotWritable : Fault::NotReadable;
    uint64_t table = context.low & kTableAddress, permissions = kReadable | kWritable;
    for (level = levels(context);; level--) {
        uint64_t entry;
        const uint64_t index = address / pageSize(level) & 511;
        if (!fetch(table + index * sizeof entry, entry)) return Fault::PagingAccess;
        if (!(entry & (kReadable | kWritable))) return denied;
        const bool large = level > 1 && (entry & kLargePage), leaf = large || level == 1;
        uint64_t reserved = kPageAddress & ~((1ull << config_.addressWidth) - 1);
        if (leaf)
            reserved |=
                kSnoop | (config_.deviceTlb ? 0 : kTransient) | (kPageAddress & (pageSize(level) - 1));
        if (entry & reserved || (large && level == 4)) return Fault::PagingReserved;
        permissions &= entry;
        if (!(permissions & needed)) return denied;
        table = entry & kPageAddress;
        if (!leaf) continue;
        target = table | permissions;
        return ApicBus::inWindow(table + (address & (pageSize(level) - 1))) ? Fault::InterruptRange
                                                                            : Fault::None;
    }
}

}  // namespace kiln
