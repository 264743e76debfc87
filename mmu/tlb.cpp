#include "mmu/tlb.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace kiln {

namespace {

uint64_t sizeClass(uint64_t size) { return size > 4u << 20 ? 3 : size > 2u << 20 ? 2 : 1; }
constexpr uint64_t kSizes[4] = {kPageSize, 2 << 20, 4 << 20, 1 << 30};

}  // namespace

void* Tlb::operator new(size_t size) {
    void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    return p;
}

void Tlb::operator delete(void* at, size_t size) { munmap(at, size); }

void Tlb::chain(uint32_t index) {
    uint32_t& first = chains_[chainOf(entries_[index].page)];
    nextInChain_[index] = first;
    first = index + 1;
}

void Tlb::unchain(uint32_t index) {
    uint32_t* link = &chains_[chainOf(entries_[index].page)];
    while (*link != index + 1) link = &nextInChain_[*link - 1];
    *link = nextInChain_[index];
}

void Tlb::fill(uint64_t linear, Entry entry, const Translation& t) {
    const uint32_t index = indexOf(linear);
    Entry& s = entries_[index];
    if (holds(s, index) && !(s.page & kGlobal)) notGlobal_--;
    if (!t.global) notGlobal_++;
    if (s.readTag == emptyTag(index))
        filled_.push_back(index);
    else if (s.readTag != kVacated)
        unchain(index);
    entry.page |= (t.global ? kGlobal : 0) | (t.userPage ? kUserPage : 0) | uint64_t(t.key) << kKeyShift;
    if (t.pageSize > kPageSize) {
        entry.page |= sizeClass(t.pageSize) << kSizeShift;
        large_.add(linear, t.pageSize);
    }
    if (const uint32_t page = index / kPerHostPage; !touched_[page]) touched_.set(page), touchedPages_++;
    keys_[t.userPage] = uint16_t(keys_[t.userPage] | 1u << t.key);
    s = entry;
    chain(index);
}

template <class Condition>
size_t Tlb::flushWhere(Condition condition) {
    generation_++;
    return std::erase_if(filled_, [&](uint32_t index) {
        Entry& s = entries_[index];
        const bool vacated = s.readTag == kVacated;
        if (!vacated && !condition(s)) return false;
        if (!vacated) unchain(index), notGlobal_ -= !(s.page & kGlobal);
        s.readTag = s.writeTag = emptyTag(index);
        return true;
    });
}

size_t Tlb::flush(Scope scope) {
    size_t gone = 0;
    if (scope == Scope::All) {
        generation_++;
        gone = filled_.size();
        for (uint32_t index : filled_) {
            entries_[index].readTag = entries_[index].writeTag = emptyTag(index);
            chains_[chainOf(entries_[index].page)] = 0;
        }
        filled_.clear();
        notGlobal_ = 0;
    } else {
        gone = flushWhere([&](const Entry& s) { return inScope(s, scope); });
    }
    if (!filled_.empty()) return gone;
    large_.clear();
    keys_ = {};
    return gone;
}

size_t Tlb::flushRanges(std::span<const LinearRange> ranges) {
    return flushWhere([&](const Entry& s) {
        return !(s.page & kGlobal) && std::any_of(ranges.begin(), ranges.end(), [&](const LinearRange& r) {
            return r.contains(s.readTag);
        });
    });
}

void Tlb::release() {
    madvise(below_, size_t(reinterpret_cast<std::byte*>(this + 1) - below_), MADV_DONTNEED);
    generation_++;
    filled_ = {};
    large_.clear();
    keys_ = {};
    touched_.reset();
    touchedPages_ = notGlobal_ = roomBytes_ = 0;
    begin();
}

void Tlb::flushPage(uint64_t linear, Scope scope) {
    generation_++;
    const uint32_t index = indexOf(linear);
    Entry& here = entries_[index];
    if (here.readTag != emptyTag(index) && covers(here, linear, kPageSize) && inScope(here, scope)) {
        unchain(index);
        notGlobal_ -= !(here.page & kGlobal);
        here.readTag = kVacated;
        here.writeTag = kNone;
    }
    if (!large_.contains(linear)) return;
    flushWhere([&](const Entry& s) {
        return covers(s, linear, kSizes[s.page >> kSizeShift & 3]) && inScope(s, scope);
    });
}

void Tlb::flushKeys(uint16_t userKeys, uint16_t supervisorKeys) {
    if (!(keys_[0] & supervisorKeys) && !(keys_[1] & userKeys)) return;
    flushWhere([&](const Entry& s) {
        return (s.page & kUserPage ? userKeys : supervisorKeys) >> (s.page >> kKeyShift & 15) & 1;
    });
}

void Tlb::protectPage(PhysAddr page, bool beside) {
    generation_++;
    for (uint32_t n = chains_[chainOf(page.value)]; n; n = nextInChain_[n - 1]) {
        uint64_t& tag = entries_[n - 1].writeTag;
        if ((entries_[n - 1].page & ~kPageMask) == page.value && !(tag & kSlow))
            tag |= beside ? kSlow | kBeside : kSlow;
    }
}

}  // namespace kiln
