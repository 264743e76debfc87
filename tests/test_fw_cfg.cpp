#include <doctest/doctest.h>

#include <cstring>

#include "devices/acpi_tables.hpp"
#include "devices/fw_cfg.hpp"
#include "devices/ich9_lpc.hpp"
#include "devices/smbios.hpp"

using namespace kiln;

namespace {

// A guest with RAM and the device on its ports.
struct FwCfgGuest {
    Log log;
    PhysicalMemory memory;
    PortBus ports;
    RamBlock ram{"ram", 1 << 20};
    FwCfg fw{memory, log};

    FwCfgGuest() {
        memory.mapRam(PhysAddr(0), ram.size(), ram);
        ports.map(FwCfg::kSelectorPort, 2, fw.ports());
        ports.map(FwCfg::kDmaPort, 8, fw.dma());
    }
    std::vector<uint8_t> readItem(uint16_t key, size_t bytes) {
        ports.write(0x510, 2, key);
        std::vector<uint8_t> out;
        for (size_t i = 0; i < bytes; i++) out.push_back(uint8_t(ports.read(0x511, 1)));
        return out;
    }
    std::string readText(uint16_t key, size_t bytes) {
        auto v = readItem(key, bytes);
        return {v.begin(), v.end()};
    }
    // Runs a descriptor at 0x1000 and returns its control word afterwards.
    uint32_t dma(uint32_t control, uint32_t length, uint64_t address) {
        constexpr uint32_t kAt = 0x1000;
        memory.write<uint32_t>(PhysAddr(kAt), __builtin_bswap32(control));
        memory.write<uint32_t>(PhysAddr(kAt + 4), __builtin_bswap32(length));
        memory.write<uint64_t>(PhysAddr(kAt + 8), __builtin_bswap64(address));
        ports.write(0x514, 4, 0);
        ports.write(0x518, 4, __builtin_bswap32(kAt));
        return __builtin_bswap32(memory.read<uint32_t>(PhysAddr(kAt)));
    }
};

uint32_t bigEndian(const std::vector<uint8_t>& b, size_t at, unsigned size) {
    uint32_t v = 0;
    for (unsigned i = 0; i < size; i++) v = v << 8 | b[at + i];
    return v;
}

template <class T>
T little(const std::vector<uint8_t>& b, size_t at) {
    T v;
    std::memcpy(&v, &b[at], sizeof v);
    return v;
}

template <class T>
void add(std::vector<uint8_t>& b, size_t at, uint64_t what) {
    T v = T(little<T>(b, at) + what);
    std::memcpy(&b[at], &v, sizeof v);
}

uint8_t sum(const std::vector<uint8_t>& b, size_t at, size_t length) {
    uint8_t s = 0;
    for (size_t i = 0; i < length; i++) s = uint8_t(s + b[at + i]);
    return s;
}

// Does what firmware does with etc/table-loader, with the tables at `kTablesAt`.
constexpr uint64_t kTablesAt = 0x7fe0000;

void runLinker(AcpiFiles& files) {
    for (size_t at = 0; at < files.loader.size(); at += 128) {
        auto file = [&](size_t field) -> std::vector<uint8_t>& {
            std::string name(reinterpret_cast<const char*>(&files.loader[at + field]));
            REQUIRE((name == "etc/acpi/tables" || name == "etc/acpi/rsdp"));
            return name == "etc/acpi/tables" ? files.tables : files.rsdp;
        };
        switch (little<uint32_t>(files.loader, at)) {
            case 1: break;
            case 2: {
                uint32_t offset = little<uint32_t>(files.loader, at + 116);
                uint8_t size = files.loader[at + 120];
                REQUIRE((size == 4 || size == 8));
                REQUIRE(offset + size <= file(4).size());
                if (size == 4)
                    add<uint32_t>(file(4), offset, kTablesAt);
                else
                    add<uint64_t>(file(4), offset, kTablesAt);
                break;
            }
            case 3: {
                uint32_t offset = little<uint32_t>(files.loader, at + 60);
                uint32_t start = little<uint32_t>(files.loader, at + 64),
                         length = little<uint32_t>(files.loader, at + 68);
                auto& f = file(4);
                REQUIRE(start + length <= f.size());
                f[offset] = uint8_t(f[offset] - sum(f, start, length));
                break;
            }
            default: FAIL("unknown linker command");
        }
    }
}

}  // namespace

TEST_CASE("fw_cfg: signature, numbers and the end of an item through the ports") {
    FwCfgGuest g;
    g.fw.add16(FwCfgKey::CpuCount, 0x1234);
    CHECK(g.readText(0x00, 4) == "QEMU");
    CHECK(g.readItem(0x01, 4) == std::vector<uint8_t>{3, 0, 0, 0});
    CHECK(g.readItem(0x05, 4) == std::vector<uint8_t>{0x34, 0x12, 0, 0});
    CHECK(g.readItem(0x7777, 2) == std::vector<uint8_t>{0, 0});
    // Selecting again rewinds; bit 14 only announces writes.
    CHECK(g.readText(0x4000, 2) == "QE");
    g.ports.write(0x511, 1, 'x');
    CHECK(g.readText(0x00, 4) == "QEMU");
}

TEST_CASE("fw_cfg: the directory lists files sorted, in big-endian numbers") {
    FwCfgGuest g;
    g.fw.addFile("etc/b", {1, 2, 3});
    g.fw.addFile("etc/a", std::vector<uint8_t>(300, 7));
    auto dir = g.readItem(0x19, 4 + 2 * 64);
    CHECK(bigEndian(dir, 0, 4) == 2);
    CHECK(std::string(reinterpret_cast<char*>(&dir[4 + 8])) == "etc/a");
    CHECK(bigEndian(dir, 4, 4) == 300);
    CHECK(std::string(reinterpret_cast<char*>(&dir[4 + 64 + 8])) == "etc/b");
    uint16_t key = uint16_t(bigEndian(dir, 4 + 64 + 4, 2));
    CHECK(key >= 0x20);
    CHECK(g.readItem(key, 3) == std::vector<uint8_t>{1, 2, 3});
    // A file that is given twice is replaced, and keeps its key.
    g.fw.addFile("etc/b", {9});
    CHECK(g.readItem(key, 2) == std::vector<uint8_t>{9, 0});
}

TEST_CASE("fw_cfg: DMA") {
    FwCfgGuest g;
    g.fw.addFile("etc/x", {10, 11, 12, 13, 14});
    CHECK(g.ports.read(0x514, 4) == 0x554d4551);  // "QEMU CFG", big-endian
    CHECK(g.ports.read(0x518, 4) == 0x47464320);
    constexpr uint32_t kSelect = 8 | 0x20 << 16;
    SUBCASE("select and read in one go, zeros behind the end") {
        for (unsigned i = 0; i < 8; i++) g.memory.write<uint8_t>(PhysAddr(0x2000 + i), 0xee);
        CHECK(g.dma(kSelect | 2, 7, 0x2000) == 0);
        uint8_t got[8];
        g.memory.read(PhysAddr(0x2000), got, 8);
        const uint8_t wanted[8] = {10, 11, 12, 13, 14, 0, 0, 0xee};
        CHECK(std::memcmp(got, wanted, 8) == 0);
    }
    SUBCASE("skip goes on from where it was") {
        CHECK(g.dma(kSelect | 4, 2, 0) == 0);
        CHECK(g.dma(2, 1, 0x2000) == 0);
        CHECK(g.memory.read<uint8_t>(PhysAddr(0x2000)) == 12);
        CHECK(g.ports.read(0x511, 1) == 13);
    }
    SUBCASE("writing is refused") { CHECK(g.dma(kSelect | 16, 2, 0x2000) == 1); }
    SUBCASE("addresses that make no sense do no harm") {
        CHECK(g.dma(kSelect | 2, 4, ~0ull - 2) == 1);
        CHECK(g.dma(kSelect | 2, 0x100000, 0xffff0) == 0);  // runs off the end of RAM
        g.ports.write(0x514, 4, ~0u);
        g.ports.write(0x518, 4, ~0u);
        g.ports.write(0x516, 2, 0xffff);
    }
}

TEST_CASE("ACPI: after the firmware's linking every pointer and checksum is right") {
    AcpiBoard board;
    board.topology.cores = 2;
    AcpiFiles files = buildAcpi(board);
    runLinker(files);
    auto signature = [&](uint64_t address) {
        return std::string(reinterpret_cast<const char*>(&files.tables[address - kTablesAt]), 4);
    };
    auto checkTable = [&](uint64_t address) {
        uint32_t length = little<uint32_t>(files.tables, address - kTablesAt + 4);
        REQUIRE(address - kTablesAt + length <= files.tables.size());
        CHECK_MESSAGE(sum(files.tables, address - kTablesAt, length) == 0, signature(address));
        return length;
    };
    CHECK(sum(files.rsdp, 0, 20) == 0);
    CHECK(sum(files.rsdp, 0, 36) == 0);
    uint64_t rsdt = little<uint32_t>(files.rsdp, 16), xsdt = little<uint64_t>(files.rsdp, 24);
    CHECK(signature(rsdt) == "RSDT");
    REQUIRE(signature(xsdt) == "XSDT");
    checkTable(rsdt);
    uint32_t length = checkTable(xsdt);
    std::string found;
    for (uint64_t at = xsdt + 36; at < xsdt + length; at += 8) {
        uint64_t table = little<uint64_t>(files.tables, at - kTablesAt);
        found += signature(table);
        uint32_t size = checkTable(table);
        if (signature(table) == "FACP") {
            CHECK(size == 244);
            CHECK(signature(little<uint32_t>(files.tables, table - kTablesAt + 36)) == "FACS");
            uint64_t dsdt = little<uint32_t>(files.tables, table - kTablesAt + 40);
            CHECK(signature(dsdt) == "DSDT");
            CHECK(little<uint64_t>(files.tables, table - kTablesAt + 140) == dsdt);
            checkTable(dsdt);
        }
        if (signature(table) == "APIC") CHECK(size == 44 + 2 * 8 + 12 + 10 + 10 + 6);
        if (signature(table) == "SSDT") CHECK(size == 36 + 8 + 2 * 13);
    }
    CHECK(found == "FACPSSDTAPICHPETMCFG");
}

TEST_CASE("ACPI: DMAR describes the remapping unit") {
    AcpiBoard board;
    board.iommu.emplace();
    board.iommu->addressWidth = 48;
    auto dmar = [&] {
        AcpiFiles files = buildAcpi(board);
        std::string all(files.tables.begin(), files.tables.end());
        const size_t at = all.find("DMAR");
        REQUIRE(at != std::string::npos);
        return all.substr(at, little<uint32_t>(files.tables, at + 4)).substr(36);
    };
    auto bytes = [](std::initializer_list<int> list) { return std::string(list.begin(), list.end()); };
    const std::string unit =
        bytes({0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0, 3, 8, 0, 0, 0, 0xff, 0, 0});
    const std::string padding(10, 0);
    CHECK(dmar() == bytes({47, 1}) + padding + unit);
    board.iommu->interruptRemapping = false;
    board.iommu->deviceTlb = true;
    CHECK(dmar() == bytes({47, 0}) + padding + unit + bytes({2, 0, 8, 0, 1, 0, 0, 0}));
}

// Finds `Package () { slot << 16 | FFFF, pin, 0, gsi }` in the DSDT's byte code.
TEST_CASE("ACPI: the DSDT routes every slot and pin as the LPC bridge does") {
    AcpiFiles files = buildAcpi({});
    std::string dsdt(files.tables.begin(), files.tables.end());
    for (unsigned slot = 0; slot < 32; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            std::string row("\x04", 1);  // four elements
            uint32_t address = slot << 16 | 0xffff;
            if (address <= 0xffff)
                row += std::string("\x0b\xff\xff", 3);  // WordPrefix
            else
                row += std::string("\x0c", 1) + std::string(reinterpret_cast<char*>(&address), 4);
            if (pin == 0)
                row += std::string("\x00", 1);
            else if (pin == 1)
                row += "\x01";
            else
                row += std::string("\x0a", 1) + char(pin);
            row += std::string("\x00\x0a", 2) + char(Ich9Lpc::gsiOf(Bdf(0, slot, 0), pin + 1));
            INFO("slot ", slot, " pin ", pin);
            CHECK(dsdt.find(row) != std::string::npos);
        }
    }
}

TEST_CASE("SMBIOS: the anchor describes its structures") {
    FwCfgGuest g;
    offerSmbios(g.fw, 512 << 20, {});
    auto spanOf = [&](const char* name) {
        auto s = g.fw.file(name);
        return std::vector<uint8_t>(s.begin(), s.end());
    };
    std::vector<uint8_t> anchor = spanOf("etc/smbios/smbios-anchor"),
                         tables = spanOf("etc/smbios/smbios-tables");
    REQUIRE(anchor.size() == 0x1f);
    CHECK(sum(anchor, 0, 0x1f) == 0);
    CHECK(sum(anchor, 0x10, 15) == 0);
    CHECK(little<uint16_t>(anchor, 0x16) == tables.size());
    unsigned count = 0, last = 0;
    for (size_t at = 0; at < tables.size(); count++) {
        last = tables[at];
        at += tables[at + 1];
        while (tables.at(at) || tables.at(at + 1)) at++;
        at += 2;
    }
    CHECK(count == little<uint16_t>(anchor, 0x1c));
    CHECK(last == 127);
}
