#include "mmu/physical_memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "mmu/guest_ram.hpp"

namespace kiln {

RamBlock::RamBlock(std::string name, uint64_t size)
    : name_(std::move(name)), size_((size + kPageMask) & ~kPageMask) {
    void* p =
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        throw std::runtime_error("the host has no room for " + std::to_string(size_ >> 20) +
                                 " MiB of guest memory (" + name_ + "): give a smaller -m");
    data_ = static_cast<uint8_t*>(p);
    // Guests go through much of it: with large pages the host misses its own TLB less. Where there are none
    // nothing is lost.
    madvise(data_, size_, MADV_HUGEPAGE);
    // Zero memory of the host's own making: pages of it that are never looked at cost nothing either.
    marks_.reset(static_cast<PageMarks*>(std::calloc(size_ / kPageSize, sizeof(PageMarks))));
    if (!marks_) throw std::bad_alloc();
}

void RamBlock::Free::operator()(PageMarks* p) const { std::free(p); }

RamBlock::~RamBlock() { munmap(data_, size_); }

PhysicalMemory::~PhysicalMemory() {
    for (Region* r : regions_) delete r;
}

Region* PhysicalMemory::add(Region region) {
    Region* r = nullptr;
    threads.exclusively([&] {
        r = regions_.emplace_back(new Region(region));
        flatten();
    });
    return r;
}

Region* PhysicalMemory::mapRam(PhysAddr base, uint64_t size, RamBlock& ram, uint64_t offset, int priority) {
    return add({RegionKind::Ram, base, size, priority, true, &ram, offset, nullptr});
}

Region* PhysicalMemory::mapRom(PhysAddr base, uint64_t size, RamBlock& ram, uint64_t offset, int priority) {
    return add({RegionKind::Rom, base, size, priority, true, &ram, offset, nullptr});
}

Region* PhysicalMemory::mapIo(PhysAddr base, uint64_t size, IoHandler& handler, int priority) {
    return add({RegionKind::Io, base, size, priority, true, nullptr, 0, &handler});
}

void PhysicalMemory::unmap(Region* region) {
    threads.exclusively([&] {
        std::erase(regions_, region);
        delete region;
        flatten();
    });
}

void PhysicalMemory::setEnabled(Region* region, bool enabled) {
    if (region->enabled == enabled) return;
    threads.exclusively([&] {
        region->enabled = enabled;
        flatten();
    });
}

void PhysicalMemory::move(Region* region, PhysAddr base) {
    if (region->base == base) return;
    threads.exclusively([&] {
        region->base = base;
        flatten();
    });
}

void PhysicalMemory::setKind(Region* region, RegionKind kind) {
    if (region->kind == kind) return;
    threads.exclusively([&] {
        region->kind = kind;
        flatten();
    });
}

void PhysicalMemory::setSmmWindows(std::vector<SmmWindow> windows) {
    if (windows == smmWindows_) return;
    threads.exclusively([&] {
        smmWindows_ = std::move(windows);
        for (auto& listener : onChange) listener();
    });
}

// Cuts the address space at every region border and keeps, for each piece, the region of highest priority (of
// equal ones, the newest). Regions are few and change rarely; look-ups are many.
void PhysicalMemory::dropTranslations() {
    for (auto& listener : onChange) listener();
}

void PhysicalMemory::flatten() {
    std::vector<uint64_t> cuts;
    for (const Region* r : regions_)
        if (r->enabled && r->size) cuts.insert(cuts.end(), {r->base.value, r->base.value + r->size});
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    flats_.clear();
    largest_ = {};
    for (size_t i = 0; i + 1 < cuts.size(); i++) {
        const Region* top = nullptr;
        for (const Region* r : regions_)
            if (r->enabled && r->base.value <= cuts[i] && cuts[i + 1] <= r->base.value + r->size &&
                (!top || r->priority >= top->priority))
                top = r;
        if (!top) continue;
        if (!flats_.empty() && flats_.back().region == top && flats_.back().end == cuts[i])
            flats_.back().end = cuts[i + 1];
        else
            flats_.push_back({cuts[i], cuts[i + 1], top});
    }
    for (const Flat& f : flats_)
        if (f.end - f.begin > largest_.end - largest_.begin && f.region->kind == RegionKind::Ram)
            largest_ = f;
    dropTranslations();
}

// The flat range that holds `addr`, or the first one behind it, or null.
const PhysicalMemory::Flat* PhysicalMemory::flat(PhysAddr addr) const {
    if (addr.value - largest_.begin < largest_.end - largest_.begin) return &largest_;
    auto it = std::upper_bound(flats_.begin(), flats_.end(), addr.value,
                               [](uint64_t a, const Flat& f) { return a < f.end; });
    return it == flats_.end() ? nullptr : &*it;
}

PhysicalMemory::Target PhysicalMemory::find(PhysAddr addr) const {
    const Flat* f = flat(addr);
    if (!f) return {nullptr, false, nullptr, PhysAddr(~0ull), addr};
    if (addr.value < f->begin) return {nullptr, false, nullptr, PhysAddr(f->begin), addr};
    const Region* r = f->region;
    if (r->kind == RegionKind::Io) return {nullptr, false, r, PhysAddr(f->end), PhysAddr(f->begin)};
    uint8_t* host = r->ram->data() + r->ramOffset + (addr.value - r->base.value);
    return {host, r->kind == RegionKind::Ram, r, PhysAddr(f->end), PhysAddr(f->begin)};
}

RamBlock* PhysicalMemory::largestRam() const {
    RamBlock* largest = nullptr;
    for (const Region* r : regions_)
        if (r->kind == RegionKind::Ram && (!largest || r->ram->size() > largest->size())) largest = r->ram;
    return largest;
}

// Bytes from `addr` to the end of what is there; no end can lie behind the last address.
static uint64_t reach(const PhysicalMemory::Target& t, PhysAddr addr) {
    return std::max<uint64_t>(t.end.value - addr.value, 1);
}

// The device lock first, since it may be long in coming: what was found before would be stale.
uint64_t PhysicalMemory::access(PhysAddr addr, unsigned size) {
    Target t = find(addr);
    if (reach(t, addr) < size) {  // two regions meet inside the access
        uint64_t v = 0;
        for (unsigned i = 0; i < size; i++) v |= access(addr + i, 1) << (i * 8);
        return v;
    }
    if (t.host) {
        uint64_t v = 0;
        readGuest(&v, t.host, size);
        return v;
    }
    DeviceGuard guard(threads);
    t = find(addr);
    if (!t.region || !t.region->io) return openBus(size);
    return t.region->io->ioRead(addr.value - t.region->base.value, size) & openBus(size);
}

void PhysicalMemory::access(PhysAddr addr, unsigned size, uint64_t value) {
    Target t = find(addr);
    if (reach(t, addr) < size) {
        for (unsigned i = 0; i < size; i++) access(addr + i, 1, value >> (i * 8) & 0xff);
        return;
    }
    if (t.host) {
        if (!t.writable) return;
        announceWrite(addr, size);
        writeGuest(t.host, &value, size);
        noteWrite(addr, size);
        return;
    }
    DeviceGuard guard(threads);
    t = find(addr);
    if (t.region && t.region->io)
        t.region->io->ioWrite(addr.value - t.region->base.value, size, value & openBus(size));
}

// The largest naturally aligned piece of `left` bytes at `addr`, at most 8: how DMA to registers is split.
static unsigned alignedPiece(uint64_t addr, uint64_t left) {
    unsigned size = 8;
    while (size > left || addr % size) size /= 2;
    return size;
}

void PhysicalMemory::read(PhysAddr addr, void* out, uint64_t size) {
    auto* to = static_cast<uint8_t*>(out);
    while (size) {
        Target t = find(addr);
        uint64_t n = std::min(size, reach(t, addr));
        if (t.host) {
            readGuest(to, t.host, n);
        } else if (!t.region) {
            std::memset(to, 0xff, n);
        } else {
            n = alignedPiece(addr.value, n);
            uint64_t v = access(addr, unsigned(n));
            std::memcpy(to, &v, n);
        }
        to += n, addr = addr + n, size -= n;
    }
}

void PhysicalMemory::write(PhysAddr addr, const void* in, uint64_t size) {
    auto* from = static_cast<const uint8_t*>(in);
    while (size) {
        Target t = find(addr);
        uint64_t n = std::min(size, reach(t, addr));
        if (t.host) {
            if (t.writable) {
                announceWrite(addr, n);
                writeGuest(t.host, from, n);
                noteWrite(addr, n);
            }
        } else if (t.region) {
            n = alignedPiece(addr.value, n);
            uint64_t v = 0;
            std::memcpy(&v, from, n);
            access(addr, unsigned(n), v);
        }
        from += n, addr = addr + n, size -= n;
    }
}

PageMarks* PhysicalMemory::marks(PhysAddr addr) const {
    Target t = find(addr);
    if (!t.host) return nullptr;
    return &t.region->ram->marks_[uint64_t(t.host - t.region->ram->data()) / kPageSize];
}

PageMarks* PhysicalMemory::markCode(PhysAddr addr, uint64_t size, unsigned cpu) {
    PageMarks* page = marks(addr);
    if (!page) return nullptr;
    const uint64_t lines = lineMask(addr.pageOffset(), size);
    page->blocks++;
    page->lines |= lines;
    withdrawWriters(*page, addr, cpu);
    return page;
}

// Of a page that has just got a mark: whoever may write directly must be told, and isn't any more thereafter.
void PhysicalMemory::withdrawWriters(PageMarks& page, PhysAddr addr, unsigned cpu) {
    const uint64_t self = 1ull << cpu;
    if (page.writers & ~self) {
        threads.exclusively([&] {
            for (auto& listener : onMarkedPage) listener(addr.page(), ~0u);
            page.writers = 0;
        });
    } else if (page.writers & self) {
        for (auto& listener : onMarkedPage) listener(addr.page(), cpu);
        page.writers &= ~self;
    }
}

std::optional<bool> PhysicalMemory::trackTable(PhysAddr addr, TableUser& user, LinearRange range, bool wide,
                                               unsigned cpu) {
    const Target t = find(addr);
    if (!t.host || !t.writable) return {};
    PageMarks& page = *marks(addr);
    const bool isNew = tables.add(page, user, range, wide);
    withdrawWriters(page, addr, cpu);
    return isNew;
}

void PhysicalMemory::unmarkCode(PageMarks* marks) {
    if (marks && --marks->blocks == 0) marks->lines = 0;
}

bool PhysicalMemory::mayWriteDirectly(PhysAddr addr, unsigned cpu) {
    PageMarks* page = marks(addr);
    if (!page) return false;
    const uint64_t self = 1ull << cpu;
    if (page->lines.load(std::memory_order_relaxed) | page->tables.load(std::memory_order_relaxed))
        return false;
    if (!(page->writers.load(std::memory_order_relaxed) & self)) page->writers |= self;
    return !page->lines && !page->tables;
}

bool PhysicalMemory::mayWriteBeside(PhysAddr addr, uint64_t size, unsigned cpu) {
    PageMarks* page = marks(addr);
    const uint64_t self = 1ull << cpu;
    if (!page || page->tables || page->writers & self) return false;
    page->writers |= self;
    return !(page->lines & lineMask(addr.pageOffset(), size)) && !page->tables;
}

void PhysicalMemory::announce(PhysAddr addr, uint64_t size, uint32_t harmless) {
    while (size) {
        const uint64_t n = std::min(size, kPageSize - addr.pageOffset());
        if (PageMarks* page = marks(addr)) {
            page->writes++;
            if (page->tables & ~harmless) tables.written(*page);
        }
        addr = addr + n, size -= n;
    }
}

void PhysicalMemory::noteWrite(PhysAddr addr, uint64_t size, uint32_t harmless) {
    // The bytes first, then the look at the marks: who marks looks at the bytes afterwards.
    if (threads.several()) fenceGuest();
    while (size) {
        uint64_t n = std::min(size, kPageSize - addr.pageOffset());
        PageMarks* page = marks(addr);
        if (page && page->lines.load(std::memory_order_relaxed) & lineMask(addr.pageOffset(), n))
            codeWritten(addr, n);
        if (page && threads.several())
            page->writes--;
        else if (page && page->tables.load(std::memory_order_relaxed) & ~harmless)
            tables.written(*page);
        addr = addr + n, size -= n;
    }
}

// Blocks of any processor may be under way, so they die while nothing is. Then all of the page's do: the next
// writes to it, if there are more, need no such ceremony.
void PhysicalMemory::codeWritten(PhysAddr addr, uint64_t size) {
    if (!threads.several()) {
        for (auto& listener : onCodeWrite) listener(addr, size);
        return;
    }
    threads.exclusively([&] {
        for (auto& listener : onCodeWrite) listener(addr.page(), kPageSize);
    });
}

}  // namespace kiln
