#include "devices/acpi_tables.hpp"

#include <cstring>
#include <string_view>

#include "devices/embedded.hpp"
#include "devices/vtd.hpp"

namespace kiln {

namespace {

constexpr std::string_view kTablesFile = "etc/acpi/tables", kRsdpFile = "etc/acpi/rsdp";
constexpr uint64_t kLocalApic = 0xfee00000, kIoApic = 0xfec00000, kHpet = 0xfed00000, kEcam = 0xb0000000;
constexpr uint8_t kSci = 9;
constexpr uint16_t kResetPort = 0xcf9;
constexpr uint8_t kResetValue = 6;

// A table, or any run of little-endian numbers.
class Bytes {
  public:
    Bytes& u8(uint8_t v) { return number(v, 1); }
    Bytes& u16(uint16_t v) { return number(v, 2); }
    Bytes& u32(uint32_t v) { return number(v, 4); }
    Bytes& u64(uint64_t v) { return number(v, 8); }
    // `text` in a field of `width` bytes, padded.
    Bytes& text(std::string_view text, size_t width, char padding = '\0') {
        for (size_t i = 0; i < width; i++) bytes.push_back(uint8_t(i < text.size() ? text[i] : padding));
        return *this;
    }
    Bytes& zeros(size_t count) {
        bytes.resize(bytes.size() + count);
        return *this;
    }
    // Generic address structure: a register of `bits` in port space.
    Bytes& port(uint64_t address, uint8_t bits) { return u8(1).u8(bits).u8(0).u8(0).u64(address); }

    std::vector<uint8_t> bytes;

  private:
    Bytes& number(uint64_t v, unsigned size) {
        for (unsigned i = 0; i < size; i++) bytes.push_back(uint8_t(v >> (i * 8)));
        return *this;
    }
};

// The linker's commands: 128 bytes each.
class Linker {
  public:
    enum Zone : uint8_t { High = 1, FirmwareSegment = 2 };

    void allocate(std::string_view file, uint32_t alignment, Zone zone) {
        command(Bytes().u32(1).text(file, 56).u32(alignment).u8(zone));
    }
    // Adds the address of `source` to the number at `offset` of `destination`.
    void addPointer(std::string_view destination, std::string_view source, uint32_t offset, uint8_t size) {
        command(Bytes().u32(2).text(destination, 56).text(source, 56).u32(offset).u8(size));
    }
    void addChecksum(std::string_view file, uint32_t offset, uint32_t start, uint32_t length) {
        command(Bytes().u32(3).text(file, 56).u32(offset).u32(start).u32(length));
    }
    std::vector<uint8_t> bytes;

  private:
    void command(const Bytes& b) {
        size_t begin = bytes.size();
        bytes.insert(bytes.end(), b.bytes.begin(), b.bytes.end());
        bytes.resize(begin + 128);
    }
};

Bytes header(std::string_view signature, uint8_t revision) {
    Bytes b;
    b.text(signature, 4).u32(0).u8(revision).u8(0);
    b.text("KILN", 6, ' ').text("KILNPC", 8, ' ').u32(1).text("KILN", 4).u32(1);
    return b;
}

class Builder {
  public:
    explicit Builder(const AcpiBoard& board) : board_(board) {}

    AcpiFiles build() {
        linker_.allocate(kTablesFile, 64, Linker::High);
        linker_.allocate(kRsdpFile, 16, Linker::FirmwareSegment);
        uint32_t facs = addFacs();
        uint32_t dsdt = add(Bytes{{kDsdt.begin(), kDsdt.end()}});
        std::vector<uint32_t> list{addFadt(facs, dsdt), addProcessors(), addMadt()};
        if (board_.hpet) list.push_back(addHpet());
        list.push_back(addMcfg());
        if (board_.iommu) list.push_back(addDmar(*board_.iommu));
        uint32_t rsdt = addRoot("RSDT", 4, list), xsdt = addRoot("XSDT", 8, list);
        for (Span s : checksums_) linker_.addChecksum(kTablesFile, s.at + 9, s.at, s.length);
        std::vector<uint8_t> rsdp = buildRsdp(rsdt, xsdt);
        return {std::move(tables_), std::move(rsdp), std::move(linker_.bytes)};
    }

  private:
    struct Span {
        uint32_t at, length;
    };

    // Appends a table with its length filled in, and leaves its checksum to the linker, which must have
    // placed all pointers before. Returns its offset.
    uint32_t add(Bytes table) {
        uint32_t length = uint32_t(table.bytes.size());
        std::memcpy(&table.bytes[4], &length, sizeof length);
        table.bytes[9] = 0;
        uint32_t at = append(table);
        checksums_.push_back({at, length});
        return at;
    }
    uint32_t append(const Bytes& table) {
        tables_.resize((tables_.size() + 7) & ~size_t(7));
        uint32_t at = uint32_t(tables_.size());
        tables_.insert(tables_.end(), table.bytes.begin(), table.bytes.end());
        return at;
    }
    void pointer(uint32_t offset, uint8_t size) {
        linker_.addPointer(kTablesFile, kTablesFile, offset, size);
    }

    uint32_t addFacs() {  // 5.2.10; aligned to 64 bytes, no checksum
        return append(Bytes().text("FACS", 4).u32(64).zeros(24).u8(1).zeros(31));
    }

    // 5.2.9, as ACPI 2.0 has it.
    uint32_t addFadt(uint32_t facs, uint32_t dsdt) {
        const uint16_t event = board_.pmBase, control = uint16_t(event + 4), timer = uint16_t(event + 8),
                       gpe0 = uint16_t(event + 0x20);
        constexpr uint32_t kWbinvd = 1 << 0, kC1 = 1 << 2, kNoSleepButton = 1 << 5, kResetRegister = 1 << 10;
        constexpr uint16_t kLegacyDevices = 1 << 0, k8042 = 1 << 1;
        constexpr uint8_t kSmiCommand = 0xb2, kAcpiEnable = 2, kAcpiDisable = 3, kCentury = 0x32;

        Bytes b = header("FACP", 3);
        b.u32(facs).u32(dsdt).u8(1).u8(0).u16(kSci).u32(kSmiCommand).u8(kAcpiEnable).u8(kAcpiDisable);
        b.u8(0).u8(0);  // S4BIOS_REQ, PSTATE_CNT
        b.u32(event).u32(0).u32(control).u32(0).u32(0).u32(timer).u32(gpe0).u32(0);
        b.u8(4).u8(2).u8(0).u8(4).u8(16).u8(0).u8(0).u8(0);  // their lengths; GPE1 base, CST_CNT
        b.u16(0xfff).u16(0xfff).u16(0).u16(0).u8(0).u8(0);   // no C2, C3, cache flushing, duty cycle
        b.u8(0).u8(0).u8(kCentury).u16(kLegacyDevices | k8042).u8(0);
        b.u32(kWbinvd | kC1 | kNoSleepButton | kResetRegister);
        b.port(kResetPort, 8).u8(kResetValue).zeros(3);
        b.u64(0).u64(dsdt);
        b.port(event, 32).zeros(12).port(control, 16).zeros(12).zeros(12);
        b.port(timer, 32).port(gpe0, 128).zeros(12);
        uint32_t at = add(std::move(b));
        pointer(at + 36, 4);
        pointer(at + 40, 4);
        pointer(at + 140, 8);
        return at;
    }

    // An SSDT with a Processor object for each one, in the scope where every version of the standard looks
    // for them: Scope (\_PR) { Processor (C000, 0, 0, 0) {} ... } (20.2.5).
    uint32_t addProcessors() {
        constexpr uint8_t kScope = 0x10, kRootChar = 0x5c, kExtended = 0x5b, kProcessor = 0x83;
        Bytes objects;
        for (unsigned n = 0; n < board_.topology.cpus(); n++) {
            constexpr char kDigits[] = "0123456789ABCDEF";
            const char name[] = {'C', '0', kDigits[n >> 4 & 15], kDigits[n & 15]};
            objects.u8(kExtended).u8(kProcessor).u8(11).text({name, sizeof name}, 4);
            objects.u8(uint8_t(n)).u32(0).u8(0);  // the id of the MADT; no P_BLK
        }
        Bytes b = header("SSDT", 1);
        // The length counts itself, in two bytes, and the scope's name.
        const size_t length = 2 + 5 + objects.bytes.size();
        b.u8(kScope).u8(uint8_t(0x40 | (length & 15))).u8(uint8_t(length >> 4));
        b.u8(kRootChar).text("_PR_", 4);
        b.bytes.insert(b.bytes.end(), objects.bytes.begin(), objects.bytes.end());
        return add(std::move(b));
    }

    uint32_t addMadt() {  // 5.2.12
        constexpr uint32_t kPcatCompatible = 1;
        constexpr uint16_t kActiveHighLevel = 0x0d;
        Bytes b = header("APIC", 3);
        b.u32(uint32_t(kLocalApic)).u32(kPcatCompatible);
        for (unsigned n = 0; n < board_.topology.cpus(); n++)
            b.u8(0).u8(8).u8(uint8_t(n)).u8(uint8_t(board_.topology.apicId(n))).u32(1);
        b.u8(1).u8(12).u8(0).u8(0).u32(uint32_t(kIoApic)).u32(0);
        b.u8(2).u8(10).u8(0).u8(0).u32(2).u16(0);  // the timer is on input 2
        b.u8(2).u8(10).u8(0).u8(kSci).u32(kSci).u16(kActiveHighLevel);
        b.u8(4).u8(6).u8(0xff).u16(0).u8(1);  // NMI is LINT1 of every processor
        return add(std::move(b));
    }

    uint32_t addHpet() {  // IA-PC HPET Specification 1.0a, 3.2.4
        Bytes b = header("HPET", 1);
        b.u32(0x8086a201).u8(0).u8(64).u8(0).u8(0).u64(kHpet).u8(0).u16(0).u8(0);
        return add(std::move(b));
    }

    uint32_t addMcfg() {  // PCI Firmware Specification 3.2, 4.1.2
        return add(header("MCFG", 1).zeros(8).u64(kEcam).u16(0).u8(0).u8(255).u32(0));
    }

    // VT-d, chapter 8: one unit for everything on PCI segment 0, and for the I/O APIC, which has no function
    // of its own and is known by an id on a bus that doesn't exist.
    uint32_t addDmar(const VtdConfig& iommu) {
        constexpr uint8_t kInterruptRemapping = 1, kEverything = 1, kScopeIoApic = 3, kAllRootPorts = 1;
        constexpr uint8_t kScopeLength = 8, kIoApicNumber = 0;
        constexpr uint16_t kUnit = 0, kRootPortAts = 2;
        constexpr Bdf id = VtdUnit::kIoApicId;
        Bytes b = header("DMAR", 1);
        b.u8(uint8_t(iommu.addressWidth - 1))
            .u8(iommu.interruptRemapping ? kInterruptRemapping : 0)
            .zeros(10);
        b.u16(kUnit).u16(16 + kScopeLength).u8(kEverything).u8(0).u16(0).u64(VtdUnit::kBase);
        b.u8(kScopeIoApic).u8(kScopeLength).u16(0).u8(kIoApicNumber).u8(uint8_t(id.bus()));
        b.u8(uint8_t(id.device())).u8(uint8_t(id.function()));
        if (iommu.deviceTlb) b.u16(kRootPortAts).u16(8).u8(kAllRootPorts).u8(0).u16(0);
        return add(std::move(b));
    }

    uint32_t addRoot(std::string_view signature, uint8_t pointerSize, const std::vector<uint32_t>& list) {
        Bytes b = header(signature, 1);
        for (uint32_t at : list) pointerSize == 8 ? b.u64(at) : b.u32(at);
        uint32_t at = add(std::move(b));
        for (size_t i = 0; i < list.size(); i++) pointer(uint32_t(at + 36 + i * pointerSize), pointerSize);
        return at;
    }

    std::vector<uint8_t> buildRsdp(uint32_t rsdt, uint32_t xsdt) {  // 5.2.5.3
        Bytes b;
        b.text("RSD PTR ", 8).u8(0).text("KILN", 6, ' ').u8(2).u32(rsdt).u32(36).u64(xsdt).u8(0).zeros(3);
        linker_.addPointer(kRsdpFile, kTablesFile, 16, 4);
        linker_.addPointer(kRsdpFile, kTablesFile, 24, 8);
        linker_.addChecksum(kRsdpFile, 8, 0, 20);
        linker_.addChecksum(kRsdpFile, 32, 0, 36);
        return b.bytes;
    }

    const AcpiBoard& board_;
    std::vector<uint8_t> tables_;
    std::vector<Span> checksums_;
    Linker linker_;
};

}  // namespace

AcpiFiles buildAcpi(const AcpiBoard& board) { return Builder(board).build(); }

void offerAcpi(FwCfg& fwCfg, const AcpiBoard& board) {
    AcpiFiles files = buildAcpi(board);
    fwCfg.addFile(kTablesFile, std::move(files.tables));
    fwCfg.addFile(kRsdpFile, std::move(files.rsdp));
    fwCfg.addFile("etc/table-loader", std::move(files.loader));
}

}  // namespace kiln
