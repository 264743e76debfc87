// The remapping unit through its registers, with tables in a small memory.
#include <doctest/doctest.h>

#include "apic/io_apic.hpp"
#include "apic/local_apic.hpp"
#include "devices/vtd.hpp"

using namespace kiln;
using namespace kiln::vtd;

namespace {

constexpr uint64_t kRam = 8 << 20;
constexpr uint64_t kRoots = 0x1000, kContexts = 0x2000, kTables = 0x10000, kQueuePage = 0x4000,
                   kIrtes = 0x5000;
constexpr uint64_t kRW = kReadable | kWritable, kNowhere = 0x7f00000000;
constexpr Bdf kFunction(0, 3, 1), kOther(0, 4, 0);

struct Bench {
    FakeTime time;
    Clock clock{time};
    Log log;
    PhysicalMemory memory;
    RamBlock ram{"ram", kRam};
    ApicBus apicBus;
    LocalApic apic{clock, apicBus, 0, true, [] { return uint64_t(0); }};
    IoApic ioApic{apicBus, 0};
    VtdUnit unit;

    explicit Bench(const VtdConfig& config = {.addressWidth = 48}) : unit(config, memory, apicBus, log) {
        memory.mapRam(PhysAddr(0), kRam, ram);
        apicBus.remapping = &unit;
        apic.ioWrite(0xf0, 4, 0x1ff);
        apic.ioWrite(0xd0, 4, 1 << 24);  // logical id 1
        unit.ioWrite(kRootTable, 8, kRoots);
        unit.ioWrite(kGlobalCommand, 4, kSetRootTable);
    }

    uint32_t in(unsigned offset) { return uint32_t(unit.ioRead(offset, 4)); }
    uint64_t in64(unsigned offset) { return unit.ioRead(offset, 8); }
    void out(unsigned offset, uint64_t value, unsigned size = 4) { unit.ioWrite(offset, size, value); }
    void put(uint64_t at, uint64_t low) { memory.write(PhysAddr(at), low); }
    void put(uint64_t at, uint64_t low, uint64_t high) { put(at, low), put(at + 8, high); }
    void enable(uint32_t what) {
        out(kGlobalCommand, (in(kGlobalStatus) & ~(kSetRootTable | kSetInterruptTable)) | what);
    }

    // -- DMA: 3 levels, and a context for each function that shares domain 7.
    void context(Bdf who, uint64_t low, uint64_t high = 7 << 8 | 1) {
        put(kRoots + who.bus() * 16, kContexts | 1, 0);
        put(kContexts + (who.value & 0xff) * 16, low, high);
    }
    static uint64_t entryAt(unsigned level, uint64_t address) {  // of the table of `level`, one of each
        return kTables + (level - 1) * 0x1000 + (address >> (3 + 9 * level) & 511) * 8;
    }
    void map(uint64_t address, uint64_t entry, unsigned level = 1, unsigned levels = 3) {
        for (unsigned l = levels; l > level; l--)
            put(entryAt(l, address), (kTables + (l - 2) * 0x1000) | kRW);
        put(entryAt(level, address), entry);
    }
    void translate() {
        context(kFunction, (kTables + 0x2000) | 1);
        enable(kTranslation);
    }
    bool read(uint64_t address, uint32_t& value, Bdf who = kFunction) {
        return unit.read(who, address, &value, 4);
    }
    bool write(uint64_t address, uint32_t value, Bdf who = kFunction) {
        return unit.write(who, address, &value, 4);
    }
    bool reads(uint64_t address, Bdf who = kFunction) {
        uint32_t value;
        return read(address, value, who);
    }

    // -- faults
    uint32_t record(unsigned n, unsigned word) { return in(kFaultRecords + n * 16 + word * 4); }
    // The reason of the one fault there is, which is cleared; 0: none.
    unsigned fault(unsigned n = 0) {
        const uint32_t last = record(n, 3);
        out(kFaultRecords + n * 16 + 12, kRecorded);
        return last & kRecorded ? last & 0xff : 0;
    }

    // -- queue
    void queue(std::initializer_list<Entry> descriptors) {
        out(kQueueAddress, kQueuePage, 8);
        out(kQueueTail, 0);
        enable(kQueue);
        uint64_t at = 0;
        for (const Entry& d : descriptors) put(kQueuePage + at, d.low, d.high), at += sizeof d;
        out(kQueueTail, at);
    }

    // -- interrupts
    void remapInterrupts(uint64_t mode = 0) {
        out(kInterruptTable, kIrtes | 7 | mode, 8);  // 256 entries
        out(kGlobalCommand, kSetInterruptTable | (in(kGlobalStatus)&kQueue));
        enable(kInterruptRemapping);
    }
    static uint64_t address(unsigned index, bool subhandle = false) {
        return 0xfee00010 | (index & 0x7fff) << 5 | (index >> 15 & 1) << 2 | (subhandle ? 8 : 0);
    }
    // The vector that arrives, 0: none.
    unsigned arrives() {
        if (!apic.interruptPending()) return 0;
        unsigned vector = apic.acknowledge();
        apic.ioWrite(0xb0, 4, 0);
        return vector;
    }
    unsigned send(uint64_t at, uint32_t data = 0, Bdf who = kFunction) {
        write(at, data, who);
        return arrives();
    }
};

constexpr uint64_t irte(unsigned vector, uint64_t more = 0) { return 1 | vector << 16 | more; }

}  // namespace

TEST_CASE("VT-d: what the capability registers offer") {
    Bench b({.interruptRemapping = false, .extendedInterruptMode = false, .passThrough = false});
    CHECK(b.in(kVersion) == 0x10);
    CHECK((b.in64(kCapability) >> 8 & 31) == 2);    // 3 levels
    CHECK((b.in64(kCapability) >> 16 & 63) == 38);  // 39 bits
    CHECK((b.in64(kCapability) >> 24 & 0x3ff) * 16 == kFaultRecords);
    CHECK((b.in64(kCapability) >> 7 & 1) == 0);
    CHECK((b.in64(kExtendedCapability) & 0xff) == 3);
    CHECK((b.in64(kExtendedCapability) >> 8 & 0x3ff) * 16 == kInvalidateAddress);
    b.out(kGlobalCommand, kInterruptRemapping | kSetInterruptTable | kCompatibility);
    CHECK(b.in(kGlobalStatus) == kSetRootTable);
    b.out(kInterruptTable, ~0ull, 8);
    CHECK(b.in64(kInterruptTable) == 0);
    Bench all({.addressWidth = 48, .cachingMode = true, .deviceTlb = true});
    CHECK((all.in64(kCapability) >> 8 & 31) == 6);
    CHECK((all.in64(kCapability) >> 16 & 63) == 47);
    CHECK((all.in64(kCapability) >> 7 & 1) == 1);
    CHECK((all.in64(kExtendedCapability) & 0xff) == 0x5f);
}

TEST_CASE("VT-d: registers keep what may be written, in words of 4 and 8 bytes") {
    struct Row {
        unsigned offset;
        uint64_t kept;
    };
    constexpr Row kRows[] = {{kCapability, 0},
                             {kGlobalCommand, 0},
                             {kRootTable, ~0xfffull},
                             {kQueueAddress, ~0xff8ull},
                             {kQueueHead, 0},
                             {kQueueTail, 0x7fff0},
                             {kInterruptTable, ~0x7f0ull},
                             {kInvalidateAddress, 0},
                             {0xc0, 0},
                             {0xd0, 0},
                             {0x64, 0},
                             {0x68, 0},
                             {0x300, 0}};
    for (const Row& row : kRows) {
        Bench b;
        INFO("offset ", row.offset);
        const uint64_t before = b.in64(row.offset) & (row.offset == kCapability ? ~0ull : 0);
        b.out(row.offset, row.offset == kGlobalCommand ? 0 : ~0ull, 8);
        CHECK((b.in64(row.offset) & (row.offset == kGlobalCommand ? 0xffffffff : ~0ull)) ==
              (row.kept | before));
        CHECK(b.unit.ioRead(row.offset + 1, 1) == (b.in(row.offset) >> 8 & 0xff));
        b.out(row.offset, 0, 1), b.out(row.offset, 0, 2);  // too narrow
        CHECK((b.in64(row.offset) & (row.offset == kGlobalCommand ? 0 : ~0ull)) ==
              (row.offset == kGlobalCommand ? 0 : row.kept | before));
        b.unit.reset();
    }
    Bench b;
    CHECK(b.in(kFaultControl) == kEventMasked);
    b.out(kFaultControl + kEventAddress, ~0u);
    CHECK(b.in(kFaultControl + kEventAddress) == 0xfffffffc);
    b.unit.reset();
    CHECK(b.in(kFaultControl + kEventAddress) == 0);
    CHECK(b.in(kGlobalStatus) == 0);
}

TEST_CASE("VT-d: off, everything passes") {
    Bench b;
    CHECK(b.write(0x100000, 0x1234));
    uint32_t v = 0;
    CHECK(b.read(0x100000, v));
    CHECK(v == 0x1234);
    CHECK(b.in(kFaultStatus) == 0);
}

TEST_CASE("VT-d: pages of all sizes, 3 and 4 levels, across their ends") {
    struct Row {
        unsigned levels, level;
        uint64_t address, target;
    };
    constexpr uint64_t kG = 1 << 30;
    constexpr Row kRows[] = {
        {3, 1, 0, 0x100000},  {3, 1, 0x7ffffff000, 0x200000},   {3, 2, 0x40000000, 0x400000},
        {3, 3, 5 * kG, 0},    {4, 1, 0xffffffffe000, 0x300000}, {4, 2, 0x800000200000, 0x200000},
        {4, 3, 0x123 * kG, 0}};
    for (const Row& row : kRows) {
        INFO("levels ", row.levels, " level ", row.level);
        Bench b;
        b.context(kFunction, (kTables + (row.levels - 1) * 0x1000) | 1, 7 << 8 | (row.levels - 2));
        b.enable(kTranslation);
        b.map(row.address, row.target | kRW | (row.level > 1 ? kLargePage : 0), row.level, row.levels);
        const uint64_t inside = row.level > 1 ? 0x123450 : 0x450;
        for (unsigned round = 0; round < 2; round++) {  // walked, cached
            CHECK(b.write(row.address + inside, 0xabcd + round));
            CHECK(b.memory.read<uint32_t>(PhysAddr(row.target + inside)) == 0xabcd + round);
            uint32_t v = 0;
            CHECK(b.read(row.address + inside, v));
            CHECK(v == 0xabcd + round);
        }
        CHECK(b.in(kFaultStatus) == 0);
    }
    Bench b;
    b.translate();
    b.map(0x5000, 0x100000 | kRW), b.map(0x6000, 0x300000 | kRW);
    const std::vector<uint8_t> sent(0x1800, 0x5a);
    CHECK(b.unit.write(kFunction, 0x5900, sent.data(), 0x1000));
    CHECK(b.memory.read<uint8_t>(PhysAddr(0x100fff)) == 0x5a);
    CHECK(b.memory.read<uint8_t>(PhysAddr(0x101000)) == 0);
    CHECK(b.memory.read<uint8_t>(PhysAddr(0x3008ff)) == 0x5a);
    // What runs into a hole gets all ones from there on.
    std::vector<uint8_t> got(0x1800);
    CHECK(!b.unit.read(kFunction, 0x6000, got.data(), got.size()));
    CHECK((got[0x8ff] == 0x5a && got[0xfff] == 0 && got[0x1000] == 0xff && got[0x17ff] == 0xff));
    CHECK(b.record(0, 0) == 0x7000);
    CHECK(b.fault() == 6);
}

TEST_CASE("VT-d: every fault of DMA, its record, and what silences it") {
    struct Row {
        const char* what;
        Fault fault;
        uint64_t address = 0x5000;
        bool write = false;
        uint64_t root = kContexts | 1, rootHigh = 0;
        uint64_t context = (kTables + 0x2000) | 1, contextHigh = 7 << 8 | 1;
        uint64_t entry = 0x100000 | kRW;
        unsigned level = 1;
    };
    const Row kRows[] = {
        {.what = "no root entry", .fault = Fault::RootNotPresent, .root = 0},
        {.what = "root, reserved", .fault = Fault::RootReserved, .root = kContexts | 3},
        {.what = "root, reserved above", .fault = Fault::RootReserved, .rootHigh = 1},
        {.what = "no context entry", .fault = Fault::ContextNotPresent, .context = 0},
        {.what = "contexts nowhere", .fault = Fault::ContextAccess, .root = kNowhere | 1},
        {.what = "contexts beyond all addresses", .fault = Fault::RootReserved, .root = 1ull << 48 | 1},
        {.what = "context, reserved", .fault = Fault::ContextReserved, .context = (kTables + 0x2000) | 0x11},
        {.what = "context, reserved above", .fault = Fault::ContextReserved, .contextHigh = 7 << 8 | 0x81},
        {.what = "context, reserved at the top",
         .fault = Fault::ContextReserved,
         .contextHigh = 1ull << 24 | 1},
        {.what = "2 levels", .fault = Fault::ContextInvalid, .contextHigh = 7 << 8},
        {.what = "5 levels", .fault = Fault::ContextInvalid, .contextHigh = 7 << 8 | 3},
        {.what = "device TLB isn't offered",
         .fault = Fault::ContextInvalid,
         .context = (kTables + 0x2000) | 5},
        {.what = "a reserved type", .fault = Fault::ContextInvalid, .context = (kTables + 0x2000) | 13},
        {.what = "beyond 3 levels", .fault = Fault::AddressTooWide, .address = 1ull << 39},
        {.what = "beyond 64 bits less one", .fault = Fault::AddressTooWide, .address = ~0xfffull},
        {.what = "tables nowhere", .fault = Fault::PagingAccess, .context = kNowhere | 1},
        {.what = "not present, read", .fault = Fault::NotReadable, .entry = 0},
        {.what = "not present, written", .fault = Fault::NotWritable, .write = true, .entry = 0},
        {.what = "write only", .fault = Fault::NotReadable, .entry = 0x100000 | kWritable},
        {.what = "read only", .fault = Fault::NotWritable, .write = true, .entry = 0x100000 | kReadable},
        {.what = "page table nowhere", .fault = Fault::PagingAccess, .entry = kNowhere | kRW, .level = 2},
        {.what = "read only above",
         .fault = Fault::NotWritable,
         .write = true,
         .entry = (kTables) | kReadable,
         .level = 2},
        {.what = "snoop isn't offered", .fault = Fault::PagingReserved, .entry = 0x100000 | kSnoop | kRW},
        {.what = "transient mapping isn't either",
         .fault = Fault::PagingReserved,
         .entry = 0x100000 | kTransient | kRW},
        {.what = "target beyond all addresses", .fault = Fault::PagingReserved, .entry = 1ull << 48 | kRW},
        {.what = "table beyond all addresses",
         .fault = Fault::PagingReserved,
         .entry = 1ull << 50 | kRW,
         .level = 2},
        {.what = "2 MiB, not aligned",
         .fault = Fault::PagingReserved,
         .entry = 0x101000 | kLargePage | kRW,
         .level = 2},
        {.what = "1 GiB, not aligned",
         .fault = Fault::PagingReserved,
         .entry = 0x200000 | kLargePage | kRW,
         .level = 3},
        {.what = "onto the interrupt window", .fault = Fault::InterruptRange, .entry = 0xfee00000 | kRW},
    };
    for (const Row& row : kRows)
        for (bool silenced : {false, true}) {
            INFO(std::string(row.what), std::string(silenced ? ", silenced" : ""));
            Bench b;
            b.put(kRoots, row.root, row.rootHigh);
            b.put(kContexts + (kFunction.value & 0xff) * 16, row.context | (silenced ? 2 : 0),
                  row.contextHigh);
            b.map(0x5000, row.entry, row.level);
            b.enable(kTranslation);
            uint32_t v = 0x1111;
            CHECK(!(row.write ? b.write(row.address, v) : b.read(row.address, v)));
            CHECK(v == (row.write ? 0x1111u : 0xffffffffu));
            CHECK(b.memory.read<uint32_t>(PhysAddr(0x100000)) == 0);
            if (silenced && qualified(row.fault)) {
                CHECK(b.in(kFaultStatus) == 0);
                continue;
            }
            CHECK(b.in(kFaultStatus) == kFaultPending);
            CHECK(b.record(0, 0) == uint32_t(row.address & ~0xfffull));
            CHECK(b.record(0, 1) == row.address >> 32);
            CHECK(b.record(0, 2) == kFunction.value);
            CHECK(b.record(0, 3) == (kRecorded | (row.write ? 0 : kWasRead) | unsigned(row.fault)));
            CHECK(b.fault() == unsigned(row.fault));
            CHECK(b.in(kFaultStatus) == 0);
        }
    Bench b;  // the root table itself
    b.out(kRootTable, kNowhere, 8);
    b.out(kGlobalCommand, kSetRootTable);
    b.enable(kTranslation);
    CHECK(!b.reads(0));
    CHECK(b.fault() == 8);
}

TEST_CASE("VT-d: pass-through, other buses, device TLBs that are offered") {
    Bench b({.deviceTlb = true});
    const Bdf far(200, 31, 7);
    b.context(far, 8 | 1);
    b.context(kFunction, (kTables + 0x2000) | 5);
    b.map(0x5000, 0x100000 | kTransient | kRW);
    b.enable(kTranslation);
    CHECK(b.write(0x345678, 0x77, far));
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x345678)) == 0x77);
    CHECK(b.write(0x5678, 0x78));
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x100678)) == 0x78);
    CHECK(!b.reads(0, Bdf(7, 0, 0)));
    CHECK(b.record(0, 2) == 0x700);
    CHECK(b.fault() == 1);
    CHECK(!b.reads(0, kOther));
    CHECK(b.fault(1) == 2);
    Bench without({.passThrough = false});
    without.context(kFunction, 8 | 1);
    without.enable(kTranslation);
    CHECK(!without.reads(0));
    CHECK(without.fault() == 3);
}

TEST_CASE("VT-d: what is cached stays until it is invalidated") {
    enum What { Nothing, Pages, Contexts };
    struct Row {
        const char* what;
        bool byQueue;
        Entry command;  // by register: the register's value, and the address
        What forgets;
    };
    constexpr uint64_t kDo = 1ull << 63;
    constexpr uint16_t kSource = kFunction.value;
    const Row kRows[] = {
        {"nothing", false, {}, Nothing},
        {"IOTLB, all", false, {kDo | 1ull << 60}, Pages},
        {"IOTLB, domain", false, {kDo | 2ull << 60 | 7ull << 32}, Pages},
        {"IOTLB, another domain", false, {kDo | 2ull << 60 | 8ull << 32}, Nothing},
        {"IOTLB, page", false, {kDo | 3ull << 60 | 7ull << 32, 0x5000}, Pages},
        {"IOTLB, another page", false, {kDo | 3ull << 60 | 7ull << 32, 0x6000}, Nothing},
        {"IOTLB, two pages", false, {kDo | 3ull << 60 | 7ull << 32, 0x4001}, Pages},
        {"IOTLB, many pages", false, {kDo | 3ull << 60 | 7ull << 32, 18}, Pages},
        {"IOTLB, too many pages", false, {kDo | 3ull << 60 | 7ull << 32, 19}, Nothing},
        {"IOTLB, reserved", false, {kDo | 7ull << 32}, Nothing},
        {"queue, IOTLB, all", true, {0x12}, Pages},
        {"queue, IOTLB, domain", true, {0x22 | 7 << 16}, Pages},
        {"queue, IOTLB, another domain", true, {0x22 | 6 << 16}, Nothing},
        {"queue, IOTLB, page", true, {0x32 | 7 << 16, 0x5000}, Pages},
        {"queue, IOTLB, another page", true, {0x32 | 7 << 16, 0x5000 | 1 << 13}, Nothing},
        {"queue, IOTLB, draining, 2 MiB, leaves only", true, {0xf2 | 7 << 16, 9 | 1 << 6}, Pages},
        {"queue, context, all", true, {0x11}, Contexts},
        {"queue, context, domain", true, {0x21 | 7 << 16}, Contexts},
        {"queue, context, another domain", true, {0x21 | 9 << 16}, Nothing},
        {"queue, context, device", true, {0x31 | 7 << 16 | uint64_t(kSource) << 32}, Contexts},
        {"queue, context, another device", true, {0x31 | 7 << 16 | uint64_t(kSource ^ 8) << 32}, Nothing},
        {"queue, context, another function", true, {0x31 | 7 << 16 | uint64_t(kSource ^ 1) << 32}, Nothing},
        {"queue, context, any function",
         true,
         {0x31 | 7 << 16 | uint64_t(kSource ^ 5) << 32 | 3ull << 48},
         Contexts},
        {"queue, context, functions 0 and 4",
         true,
         {0x31 | 7 << 16 | uint64_t(kSource ^ 4) << 32 | 1ull << 48},
         Contexts},
    };
    for (const Row& row : kRows) {
        INFO(std::string(row.what));
        Bench b;
        b.translate();
        b.map(0x5000, 0x100000 | kRW);
        CHECK(b.reads(0x5000));
        auto command = [&] {
            if (row.byQueue) return b.queue({row.command});
            b.out(kInvalidateAddress, row.command.high, 8);
            b.out(kInvalidateTlb, row.command.low, 8);
            const uint64_t asked = row.command.low >> 60 & 3,
                           done = asked == 3 && row.command.high == 19 ? 0 : asked;
            CHECK((b.in64(kInvalidateTlb) >> 63) == 0);
            CHECK((b.in64(kInvalidateTlb) >> 57 & 3) == done);
        };
        if (row.forgets == Contexts) {
            b.context(kFunction, 0);
            CHECK(b.reads(0x5000));
            command();
            CHECK(!b.reads(0x5000));
            CHECK(b.fault() == 2);
            continue;
        }
        b.put(Bench::entryAt(1, 0x5000), 0);
        b.context(kFunction, 0);
        CHECK(b.reads(0x5000));
        command();
        CHECK(b.reads(0x5000) == (row.forgets == Nothing));  // the context is cached still
        CHECK(b.fault() == (row.forgets == Nothing ? 0 : 6));
    }
}

TEST_CASE("VT-d: context invalidation by register, and registers while the queue is on") {
    for (auto [command, did] : {std::pair<uint64_t, bool>{1ull << 61, true},
                                {2ull << 61 | 7, true},
                                {2ull << 61 | 8, false},
                                {3ull << 61 | 7 | uint64_t(kFunction.value) << 16, true},
                                {3ull << 61 | 7 | uint64_t(kOther.value) << 16, false}}) {
        Bench b;
        b.translate();
        b.map(0x5000, 0x100000 | kRW);
        CHECK(b.reads(0x5000));
        b.context(kFunction, 0);
        b.out(kContextCommand, command | 1ull << 63, 8);
        CHECK((b.in64(kContextCommand) >> 63) == 0);
        CHECK((b.in64(kContextCommand) >> 59 & 3) == (command >> 61 & 3));
        CHECK(b.reads(0x5000) == !did);
    }
    Bench b;
    b.translate();
    b.map(0x5000, 0x100000 | kRW);
    CHECK(b.reads(0x5000));
    b.enable(kQueue);
    b.put(Bench::entryAt(1, 0x5000), 0);
    b.out(kInvalidateTlb, 1ull << 63 | 1ull << 60, 8);
    b.out(kContextCommand, 1ull << 63 | 1ull << 61, 8);
    CHECK((b.in64(kInvalidateTlb) >> 57 & 3) == 0);
    CHECK((b.in64(kContextCommand) >> 59 & 3) == 0);
    CHECK(b.reads(0x5000));
}

TEST_CASE("VT-d: a cached page without the right is looked up again; absence isn't cached") {
    Bench b;
    b.translate();
    b.map(0x5000, 0x100000 | kReadable);
    CHECK(b.reads(0x5000));
    CHECK(!b.write(0x5000, 1));
    CHECK(b.fault() == 5);
    b.put(Bench::entryAt(1, 0x5000), 0x100000 | kRW);
    CHECK(b.write(0x5000, 1));
    CHECK(!b.reads(0x6000));
    CHECK(b.fault(1) == 6);
    b.put(Bench::entryAt(1, 0x6000), 0x100000 | kRW);
    CHECK(b.reads(0x6000));
}

TEST_CASE("VT-d: the queue's waits, end, errors") {
    Bench b;
    b.out(kCompletionControl + kEventData, 0x61);
    b.out(kCompletionControl + kEventAddress, 0xfee00000);
    b.out(kCompletionControl, 0);
    b.queue({{0x25ull | 0xcafeull << 32, 0x6000}, {0x15}, {0x75ull | 0xbeefull << 32, 0x6004}, {0x45}});
    CHECK(b.in(kQueueHead) == 0x40);
    CHECK(b.memory.read<uint64_t>(PhysAddr(0x6000)) == 0x0000beef0000cafe);
    CHECK(b.in(kCompletionStatus) == 1);
    CHECK(b.arrives() == 0x61);
    CHECK(b.arrives() == 0);
    // Round the end of the page.
    for (unsigned n = 4; n < 256; n++) b.put(kQueuePage + n * 16, 0x12, 0);
    b.put(kQueuePage, 0x25ull | 0x77ull << 32, 0x6000);
    b.out(kQueueTail, 0x10);
    CHECK(b.in(kQueueHead) == 0x10);
    CHECK(b.memory.read<uint32_t>(PhysAddr(0x6000)) == 0x77);
    // A masked event waits.
    b.out(kCompletionStatus, 1);
    b.out(kCompletionControl, kEventMasked);
    b.put(kQueuePage + 0x10, 0x15, 0);
    b.out(kQueueTail, 0x20);
    CHECK(b.in(kCompletionControl) == (kEventMasked | kEventPending));
    CHECK(b.arrives() == 0);
    b.out(kCompletionControl, 0);
    CHECK(b.arrives() == 0x61);
    CHECK(b.in(kCompletionControl) == 0);
    b.out(kGlobalCommand, 0);
    CHECK(b.in(kQueueHead) == 0);
    CHECK(b.in(kGlobalStatus) == kSetRootTable);
}

TEST_CASE("VT-d: descriptors that make no sense stop the queue until the error is cleared") {
    const Entry kBad[] = {{0},
                          {6},
                          {15},
                          {0x12 | 1 << 9},
                          {1},
                          {2},
                          {0x11 | 1 << 6},
                          {0x11, 1},
                          {0x11 | 1ull << 50},
                          {0x12 | 1 << 8},
                          {0x12 | 1ull << 32},
                          {0x12, 1 << 7},
                          {0x32, 19},
                          {3},
                          {4 | 1 << 5},
                          {4, 1},
                          {4 | 1ull << 48},
                          {5 | 1 << 7},
                          {0x25, 1},
                          {0x25 | 1 << 9, 0x6000}};
    for (const Entry& bad : kBad) {
        INFO("descriptor ", bad.low, " ", bad.high);
        Bench b;
        b.out(kFaultControl + kEventData, 0x62);
        b.out(kFaultControl + kEventAddress, 0xfee00000);
        b.out(kFaultControl, 0);
        b.queue({{0x12}, bad, {0x25ull | 1ull << 32, 0x6000}});
        CHECK(b.in(kFaultStatus) == kQueueError);
        CHECK(b.in(kQueueHead) == 0x10);
        CHECK(b.memory.read<uint32_t>(PhysAddr(0x6000)) == 0);
        CHECK(b.arrives() == 0x62);
        b.put(kQueuePage + 0x10, 0x12, 0);
        b.out(kFaultStatus, kQueueError);
        CHECK(b.in(kFaultStatus) == 0);
        CHECK(b.in(kQueueHead) == 0x30);
        CHECK(b.memory.read<uint32_t>(PhysAddr(0x6000)) == 1);
    }
    Bench beyond;
    beyond.queue({});
    beyond.out(kQueueTail, 0x1000);  // behind a queue of one page
    CHECK(beyond.in(kFaultStatus) == kQueueError);
    Bench nowhere;
    nowhere.out(kQueueAddress, kNowhere, 8);
    nowhere.enable(kQueue);
    nowhere.out(kQueueTail, 0x10);
    CHECK(nowhere.in(kFaultStatus) == kQueueError);
    Bench tlbs({.deviceTlb = true});
    tlbs.queue({{3ull | 8ull << 32, 0x5001}});
    CHECK(tlbs.in(kFaultStatus) == 0);
    Bench status;  // status words go to RAM only
    status.queue({{0x25ull | 1ull << 32, 0xfed90000 + kQueueTail}});
    CHECK(status.in(kQueueHead) == 0x10);
}

TEST_CASE("VT-d: fault records fill up, overflow and are one event") {
    Bench b;
    b.out(kFaultControl + kEventData, 0x62);
    b.out(kFaultControl + kEventAddress, 0xfee00000);
    b.out(kFaultControl, 0);
    b.translate();
    CHECK(!b.reads(0x1000));
    CHECK(b.arrives() == 0x62);
    for (unsigned n = 1; n < kFaultRecordCount; n++) CHECK(!b.reads(0x1000 + n * 0x1000));
    CHECK(b.arrives() == 0);
    CHECK(b.in(kFaultStatus) == kFaultPending);
    CHECK(!b.reads(0x999000));
    CHECK(b.in(kFaultStatus) == (kFaultPending | kOverflow));
    CHECK(b.fault(0) == 6);
    CHECK(!b.reads(0x999000));  // an overflow drops faults until it is cleared
    CHECK(b.fault(0) == 0);
    b.out(kFaultStatus, kOverflow);
    for (unsigned n = 1; n < kFaultRecordCount; n++) {
        CHECK(b.record(n, 0) == 0x1000 + n * 0x1000);
        CHECK(b.fault(n) == 6);
    }
    CHECK(b.in(kFaultStatus) == 0);
    for (unsigned n = 0; n < 3; n++) {
        CHECK(!b.write(0x3000, 0));
        CHECK(b.arrives() == 0x62);
        CHECK(b.in(kFaultStatus) == (kFaultPending | n << 8));  // where the next one goes, goes round
        CHECK(b.fault(n) == 5);
    }
    // A masked event whose cause goes away is gone.
    b.out(kFaultControl, kEventMasked);
    CHECK(!b.reads(0));
    CHECK(b.in(kFaultControl) == (kEventMasked | kEventPending));
    CHECK(b.fault(3) == 6);
    CHECK(b.in(kFaultControl) == kEventMasked);
    b.out(kFaultControl, 0);
    CHECK(b.arrives() == 0);
}

TEST_CASE("VT-d: interrupts are remapped by handle and subhandle, or blocked for a reason") {
    constexpr uint64_t kXapic0 = 0, kFull = 1ull << 18, kBuses = 2ull << 18;
    constexpr uint16_t kSelf = kFunction.value;
    struct Row {
        const char* what;
        unsigned vector;  // 0: `fault`
        Fault fault;
        Entry entry;
        uint64_t address = Bench::address(5);
        uint32_t data = 0;
    };
    const Row kRows[] = {
        {"fixed", 0x41, {}, {irte(0x41), 0}},
        {"with a subhandle", 0x41, {}, {irte(0x41), 0}, Bench::address(3, true), 2},
        {"data without a subhandle", 0x41, {}, {irte(0x41), 0}, Bench::address(5), 0xffffffff},
        {"lowest priority, logical, hint", 0x41, {}, {irte(0x41, 1 << 5 | 1 << 3 | 1 << 2 | 1ull << 40), 0}},
        {"to somebody else", 0, Fault::None, {irte(0x41, 9ull << 40), 0}},
        {"requester", 0x41, {}, {irte(0x41), kFull | kSelf}},
        {"another requester", 0, Fault::SourceMismatch, {irte(0x41), kFull | (kSelf ^ 1)}},
        {"all but bit 2", 0x41, {}, {irte(0x41), kFull | 1 << 16 | (kSelf ^ 4)}},
        {"all but bit 2, not", 0, Fault::SourceMismatch, {irte(0x41), kFull | 1 << 16 | (kSelf ^ 2)}},
        {"all but bits 1 and 2", 0x41, {}, {irte(0x41), kFull | 2 << 16 | (kSelf ^ 6)}},
        {"all but bits 1 and 2, not", 0, Fault::SourceMismatch, {irte(0x41), kFull | 2 << 16 | (kSelf ^ 1)}},
        {"any function", 0x41, {}, {irte(0x41), kFull | 3 << 16 | (kSelf ^ 7)}},
        {"any function, not", 0, Fault::SourceMismatch, {irte(0x41), kFull | 3 << 16 | (kSelf ^ 8)}},
        {"buses 0 to 3", 0x41, {}, {irte(0x41), kBuses | 0x0003}},
        {"buses 1 to 3", 0, Fault::SourceMismatch, {irte(0x41), kBuses | 0x0103}},
        {"reserved validation", 0, Fault::IrteReserved, {irte(0x41), 3ull << 18}},
        {"not present", 0, Fault::IrteNotPresent, {irte(0x41) & ~1ull, 0}},
        {"posted", 0, Fault::IrteReserved, {irte(0x41, 1 << 15), 0}},
        {"reserved", 0, Fault::IrteReserved, {irte(0x41, 1 << 12), 0}},
        {"reserved above the vector", 0, Fault::IrteReserved, {irte(0x41, 1 << 24), 0}},
        {"reserved above", 0, Fault::IrteReserved, {irte(0x41), 1 << 20}},
        {"a destination of 32 bits", 0, Fault::IrteReserved, {irte(0x41, 1ull << 32), 0}},
        {"reserved delivery mode", 0, Fault::IrteReserved, {irte(0x41, 3 << 5), 0}},
        {"start-up", 0, Fault::IrteReserved, {irte(0x41, 6 << 5), 0}},
        {"beyond the table", 0, Fault::IndexTooLarge, {irte(0x41), 0}, Bench::address(256)},
        {"beyond by bit 15", 0, Fault::IndexTooLarge, {irte(0x41), 0}, Bench::address(0x8005)},
        {"beyond by subhandle", 0, Fault::IndexTooLarge, {irte(0x41), 0}, Bench::address(5, true), 251},
        {"reserved data", 0, Fault::RequestReserved, {irte(0x41), 0}, Bench::address(5, true), 0x10000},
        {"compatibility format", 0, Fault::CompatibilityBlocked, {}, 0xfee00000, 0x41},
    };
    for (const Row& row : kRows)
        for (bool silenced : {false, true}) {
            INFO(std::string(row.what), std::string(silenced ? ", silenced" : ""));
            Bench b;
            b.put(kIrtes + 5 * 16, row.entry.low | kXapic0 | (silenced ? 2 : 0), row.entry.high);
            b.remapInterrupts();
            CHECK(b.send(row.address, row.data) == row.vector);
            if (row.fault == Fault::None || (silenced && qualified(row.fault))) {
                CHECK(b.in(kFaultStatus) == 0);
                continue;
            }
            CHECK(b.in(kFaultStatus) == kFaultPending);
            CHECK(b.record(0, 2) == kSelf);
            if (row.address == Bench::address(5)) CHECK(b.record(0, 1) == 5 << 16);
            CHECK(b.fault() == unsigned(row.fault));
        }
}

TEST_CASE("VT-d: compatibility format by permission; the window is never translated or read") {
    Bench b;
    CHECK(b.send(0xfee00000, 0x41) == 0x41);  // remapping is off
    b.translate();
    CHECK(b.send(0xfee00000, 0x41) == 0x41);
    b.map(0xfee00000, 0x100000 | kRW);
    uint32_t v = 0;
    CHECK(!b.read(0xfee00000, v));
    CHECK(v == 0xffffffff);
    const uint64_t eight = 0x41;
    CHECK(!b.unit.write(kFunction, 0xfee00000, &eight, 8));
    CHECK(!b.unit.write(kFunction, 0xfee00002, &eight, 4));
    CHECK(b.arrives() == 0);
    b.remapInterrupts();
    b.enable(kCompatibility);
    CHECK(b.send(0xfee00000, 0x41) == 0x41);
    CHECK(b.send(0xfee00000, 0x8041) == 0);  // a level that goes away
    CHECK(b.in(kFaultStatus) == 0);
    Bench x;  // never together with 32-bit destinations
    x.remapInterrupts(kExtendedMode);
    x.enable(kCompatibility);
    CHECK(x.send(0xfee00000, 0x41) == 0);
    CHECK(x.fault() == 0x25);
}

TEST_CASE("VT-d: 32-bit destinations, of the unit's own events, too") {
    Bench b;
    b.remapInterrupts(kExtendedMode);
    b.put(kIrtes + 16, irte(0x41), 0);
    b.put(kIrtes + 32, irte(0x42, 0x100ull << 32), 0);
    CHECK(b.send(Bench::address(1)) == 0x41);
    CHECK(b.send(Bench::address(2)) == 0);  // 8 bits would make it APIC 1... or, shifted, APIC 0
    CHECK(b.in(kFaultStatus) == 0);
    b.out(kFaultControl + kEventData, 0x62);
    b.out(kFaultControl + kEventAddress, 0xfee00000);
    b.out(kFaultControl + kEventUpperAddress, 0x100);
    b.out(kFaultControl, 0);
    b.translate();
    CHECK(!b.reads(0));
    CHECK(b.arrives() == 0);
    CHECK(b.fault() == 6);
    b.out(kFaultControl + kEventUpperAddress, 0);
    CHECK(!b.reads(0));
    CHECK(b.arrives() == 0x62);
    Bench without({.extendedInterruptMode = false});
    without.out(kInterruptTable, kExtendedMode, 8);
    without.out(kFaultControl + kEventUpperAddress, ~0u);
    CHECK(without.in(kInterruptTable) == 0);
    CHECK(without.in(kFaultControl + kEventUpperAddress) == 0);
}

TEST_CASE("VT-d: interrupt entries are cached until invalidated") {
    struct Row {
        Entry descriptor;
        bool forgets;
    };
    for (const Row& row :
         {Row{{4}, true}, Row{{0x14 | 6ull << 32}, true}, Row{{0x14 | 7ull << 32}, false},
          Row{{0x14 | 4ull << 32 | 2ull << 27}, true}, Row{{0x14 | 8ull << 32 | 2ull << 27}, false}}) {
        Bench b;
        b.queue({});
        b.remapInterrupts();
        b.put(kIrtes + 6 * 16, irte(0x41), 0);
        CHECK(b.send(Bench::address(6)) == 0x41);
        b.put(kIrtes + 6 * 16, irte(0x42), 0);
        CHECK(b.send(Bench::address(6)) == 0x41);
        b.put(kQueuePage, row.descriptor.low, 0);
        b.out(kQueueTail, 0x10);
        CHECK(b.in(kQueueHead) == 0x10);
        CHECK(b.send(Bench::address(6)) == (row.forgets ? 0x42 : 0x41));
    }
    Bench nowhere;
    nowhere.out(kInterruptTable, kNowhere | 7, 8);
    nowhere.out(kGlobalCommand, kSetInterruptTable);
    nowhere.enable(kInterruptRemapping);
    CHECK(nowhere.send(Bench::address(0)) == 0);
    CHECK(nowhere.fault() == 0x23);
}

TEST_CASE("VT-d: the I/O APIC's entries, edge and level") {
    Bench b;
    b.remapInterrupts();
    auto redirect = [&](unsigned pin, uint32_t low, uint32_t high) {
        for (unsigned half : {1u, 0u}) {
            b.ioApic.ioWrite(0, 4, 0x10 + pin * 2 + half);
            b.ioApic.ioWrite(0x10, 4, half ? high : low);
        }
    };
    // Handle 0x8006 lies beyond; 6 in bits 63:49, format in bit 48. Nobody asks who the I/O APIC is.
    b.put(kIrtes + 6 * 16, irte(0x51), 1ull << 18 | kFunction.value);
    redirect(3, 0x33, 6 << 17 | 1 << 16);
    b.ioApic.pin(3).raise(), b.ioApic.pin(3).lower();
    CHECK(b.arrives() == 0x51);
    b.put(kIrtes + 7 * 16, irte(0x52, 1 << 4), 0);
    redirect(20, 0x14 | 1 << 15, 7 << 17 | 1 << 16);
    b.ioApic.pin(20).raise();
    CHECK(b.arrives() == 0x52);  // its end tells the I/O APIC 52h, which none of its entries has
    CHECK(b.arrives() == 0);
    b.ioApic.ioWrite(0x40, 4, 0x14);
    CHECK(b.arrives() == 0x52);
    b.ioApic.pin(20).lower();
    redirect(4, 0x800 | 0x34, 6 << 17 | 1 << 16);
    b.ioApic.pin(4).raise();
    CHECK(b.arrives() == 0);
    CHECK(b.record(0, 2) == VtdUnit::kIoApicId.value);
    CHECK(b.fault() == 0x21);
    redirect(5, 0x35, 0);
    b.ioApic.pin(5).raise();
    CHECK(b.arrives() == 0);
    CHECK(b.fault(1) == 0x25);
}
