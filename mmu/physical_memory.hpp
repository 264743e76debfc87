// The guest-physical address space: RAM, ROM and memory-mapped registers in prioritised regions, flattened
// into ranges for look-up. Also keeps, per RAM page, whether decoded code was read from it, so that every
// write (CPU or DMA) can drop what it overwrites, and whether translations were (table_tracking.hpp).
//
// Not modelled: caches and memory types; the order of accesses is guest_ram.hpp's.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mmu/address.hpp"
#include "mmu/guest_threads.hpp"
#include "mmu/io.hpp"
#include "mmu/table_tracking.hpp"

namespace kiln {

// What is known of one RAM page about decoded code and page tables: the 64-byte lines that code was read
// from, how many blocks (of all processors) lie on the page, whether it is a tracked table
// (TableTracking::kNarrow, kWide), and, as one bit a processor, who may have a TLB entry through which it
// writes to the page directly.
//
// While `lines` and `tables` are 0, processors write directly. They set their bit in `writers` and look at
// the two afterwards; who decodes or tracks sets `lines` or `tables` and looks at `writers` afterwards: one
// of them sees the other. `lines` becomes 0 again only while no other thread is inside guest code, `tables`
// under the lock under which it is set.
//
// Of a page with `lines`, a processor may write to the others directly, if its bit was in `writers` before it
// looked at `lines`: who marks another line finds the bit and waits until that processor, too, is outside of
// guest code. With one thread nobody is inside while somebody marks; the bit says then that
// host code has found lines without marks and keeps that in mind, so that it must be told of new ones.
struct PageMarks {
    std::atomic<uint64_t> lines, writers;
    std::atomic<uint32_t> blocks, tables;
    std::atomic<uint32_t> writes;  // under way, of several threads, by those who look at marks
};

// A page-aligned block of host memory that guests see as RAM or ROM. Anonymous, zeroed, returned to the host
// lazily: untouched pages cost nothing.
class RamBlock {
  public:
    // Throws std::runtime_error when the host has no room for `size` bytes (rounded up to pages).
    RamBlock(std::string name, uint64_t size);
    ~RamBlock();
    RamBlock(const RamBlock&) = delete;
    RamBlock& operator=(const RamBlock&) = delete;

    uint8_t* data() { return data_; }
    const uint8_t* data() const { return data_; }
    PageMarks* marks() { return marks_.get(); }  // one a page
    uint64_t size() const { return size_; }
    const std::string& name() const { return name_; }

  private:
    friend class PhysicalMemory;
    std::string name_;
    uint8_t* data_;
    uint64_t size_;
    struct Free {
        void operator()(PageMarks* p) const;
    };
    std::unique_ptr<PageMarks[], Free> marks_;  // one a page
};

enum class RegionKind : uint8_t { Ram, Rom, Io };

// One mapping of a RamBlock part or an IoHandler. Created by PhysicalMemory::map*, owned by it.
struct Region {
    RegionKind kind;
    PhysAddr base;
    uint64_t size;
    int priority;  // the higher one is seen
    bool enabled;
    RamBlock* ram;       // Ram, Rom
    uint64_t ramOffset;  // of `base` in `ram`
    IoHandler* io;       // Io
};

class PhysicalMemory {
  public:
    PhysicalMemory() = default;
    PhysicalMemory(const PhysicalMemory&) = delete;
    PhysicalMemory& operator=(const PhysicalMemory&) = delete;
    ~PhysicalMemory();

    Region* mapRam(PhysAddr base, uint64_t size, RamBlock& ram, uint64_t offset = 0, int priority = 0);
    Region* mapRom(PhysAddr base, uint64_t size, RamBlock& ram, uint64_t offset = 0, int priority = 0);
    Region* mapIo(PhysAddr base, uint64_t size, IoHandler& handler, int priority = 0);
    void unmap(Region* region);
    void setEnabled(Region* region, bool enabled);
    void move(Region* region, PhysAddr base);
    void setKind(Region* region, RegionKind kind);  // Ram <-> Rom (PAM registers)

    // SMRAM. Ranges that lead a processor in system management mode elsewhere: to addresses from kSmmBase on,
    // where the chipset maps what it hides from everybody else. So two processors see the same address
    // differently, and caches of code and translations need not know. `data`: not for fetches alone.
    static constexpr uint64_t kSmmBase = 1ull << 54;
    struct SmmWindow {
        PhysAddr base;
        uint64_t size;
        PhysAddr to;
        bool data = true;
        bool operator==(const SmmWindow&) const = default;
    };
    void setSmmWindows(std::vector<SmmWindow> windows);
    PhysAddr inSmm(PhysAddr addr, bool fetch) const {
        for (const SmmWindow& w : smmWindows_)
            if (addr.value - w.base.value < w.size && (w.data || fetch))
                return w.to + (addr.value - w.base.value);
        return addr;
    }

    // Where an address leads. `host` is null for registers and open bus; the flat range around `addr` is from
    // `begin` up to, and without, `end`.
    struct Target {
        uint8_t* host = nullptr;  // of `addr` itself
        bool writable = false;    // false: ROM, writes are dropped
        const Region* region = nullptr;
        PhysAddr end, begin;
    };
    Target find(PhysAddr addr) const;
    const std::vector<Region*>& regions() const { return regions_; }
    RamBlock* largestRam() const;  // of those mapped as RAM; null: there is none

    // Copies between host and guest, as a bus master (DMA) does. Open bus reads all ones. Any length.
    void read(PhysAddr addr, void* out, uint64_t size);
    void write(PhysAddr addr, const void* in, uint64_t size);
    template <class T>
    T read(PhysAddr addr) {
        T v;
        read(addr, &v, sizeof v);
        return v;
    }
    template <class T>
    void write(PhysAddr addr, T v) {
        write(addr, &v, sizeof v);
    }

    // A naturally aligned word, read at once whatever other processors write meanwhile.
    template <class T>
    T load(PhysAddr addr) {
        if (const uint8_t* host = find(addr).host) [[likely]]
            return __atomic_load_n(reinterpret_cast<const T*>(host), __ATOMIC_RELAXED);
        return T(access(addr, sizeof(T)));
    }
    // Replaces `expected` in a naturally aligned word of 4 or 8 bytes, as a locked cycle does: how page walks
    // set accessed and dirty bits, which makes no translation stale. False: it wasn't there. ROM keeps what
    // it has, which counts as done.
    template <class T>
    bool markEntry(PhysAddr addr, T expected, T desired) {
        Target t = find(addr);
        if (t.host && t.writable) {
            constexpr uint32_t kWidth = sizeof(T) == 8 ? TableTracking::kWide : TableTracking::kNarrow;
            announceWrite(addr, sizeof(T), kWidth);
            bool done = __atomic_compare_exchange_n(reinterpret_cast<T*>(t.host), &expected, desired, false,
                                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
            noteWrite(addr, sizeof(T), kWidth);
            return done;
        }
        if (!t.host) access(addr, sizeof(T), desired);
        return true;
    }

    // Access of 1, 2, 4 or 8 bytes that stays in one page, RAM or not: the CPU's slow path.
    uint64_t access(PhysAddr addr, unsigned size);
    void access(PhysAddr addr, unsigned size, uint64_t value);

    // Code tracking. `markCode` says that processor `cpu` decodes a block from these bytes of one page; a
    // later write to a marked line calls every `onCodeWrite` with the written range. With several threads the
    // bytes are to be read, or compared, after marking. The marks are the page's until `unmarkCode` has been
    // called once for each block; null where there is no RAM or ROM.
    PageMarks* markCode(PhysAddr addr, uint64_t size, unsigned cpu);
    static void unmarkCode(PageMarks* marks);  // exclusively
    // `marks` of a page all of whose blocks are known: these lines of them hold code.
    static void keepLines(PageMarks* marks, uint64_t lines) { marks->lines = lines; }
    // Bits of the 64-byte lines that bytes at an offset of a page touch.
    static constexpr uint64_t lineMask(uint64_t offset, uint64_t size) {
        const uint64_t first = offset / 64, last = (offset + size - 1) / 64;
        return (~0ull >> (63 - (last - first))) << first;
    }
    // Whether processor `cpu` may write to this page of RAM without anybody else knowing, until onMarkedPage.
    bool mayWriteDirectly(PhysAddr addr, unsigned cpu);
    // The same for some bytes of a page that are not marked, as long as PageMarks::writers has this
    // processor's bit, which it has not had before, and each time that their lines are not in ::lines, nor
    // the page in ::tables.
    bool mayWriteBeside(PhysAddr addr, uint64_t size, unsigned cpu);
    std::vector<std::function<void(PhysAddr, uint64_t size)>> onCodeWrite;
    // A RAM page got marks: writable translations of it that processor `cpu` (~0: any) has cached must go.
    std::vector<std::function<void(PhysAddr page, unsigned cpu)>> onMarkedPage;
    // Has writes to the table that `addr` lies in noticed, for `user`: what it keeps of `range` was read
    // there, by processor `cpu`. With several threads the table is to be read after that, if true is
    // the answer: it has not been under watch for this user. None: there is no RAM, and no noticing.
    std::optional<bool> trackTable(PhysAddr addr, TableUser& user, LinearRange range, bool wide,
                                   unsigned cpu);
    // A region appeared, moved or vanished: every cached translation must go.
    std::vector<std::function<void()>> onChange;
    void dropTranslations();  // as if something had changed

    // Called by whoever writes `size` bytes to host memory of `addr` without write(), before and behind:
    // checks the marks. Whoever sees what was written, and acts upon it, must find the translations stale
    // that it changed. A walk that sets accessed or dirty bits in a table of entries as wide as `harmless`
    // says changes nothing for others who read it as such.
    void announceWrite(PhysAddr addr, uint64_t size, uint32_t harmless = 0) {
        if (threads.several()) announce(addr, size, harmless);
    }
    void noteWrite(PhysAddr addr, uint64_t size, uint32_t harmless = 0);

    GuestThreads threads;  // keeps those apart that share this memory
    TableTracking tables;

  private:
    struct Flat {
        uint64_t begin, end;
        const Region* region;
    };
    Region* add(Region region);
    void flatten();
    void codeWritten(PhysAddr addr, uint64_t size);
    const Flat* flat(PhysAddr addr) const;
    PageMarks* marks(PhysAddr addr) const;
    void announce(PhysAddr addr, uint64_t size, uint32_t harmless);
    void withdrawWriters(PageMarks& page, PhysAddr addr, unsigned cpu);

    std::vector<Region*> regions_;
    std::vector<Flat> flats_;
    Flat largest_{};  // among them: most of what is looked for
    std::vector<SmmWindow> smmWindows_;
};

}  // namespace kiln
