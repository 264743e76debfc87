// A DMA and interrupt remapping unit: Intel Virtualization Technology for Directed I/O, version 3.0, in
// legacy mode, as the chipset's only unit, for every PCI function. Its registers lie at 0xFED90000; the DMAR
// table says so.
//
//   vtd.cpp              registers, commands, reset
//   vtd_translation.cpp  a function's DMA: root, context and paging entries (chapter 3)
//   vtd_interrupts.cpp   requests of the I/O APIC and of MSI (chapter 5)
//   vtd_invalidation.cpp registers and queue by which software empties caches (chapter 6)
//   vtd_faults.cpp       fault records and the two events (chapter 7)
//
// It has a context cache, an IOTLB and an interrupt entry cache, small and direct-mapped, which keep what was
// present when it was used until software invalidates it or something else takes its place: who forgets to
// invalidate sees stale entries, as with hardware. A paging entry whose permissions don't suffice is looked
// up again. What isn't present is never cached, in caching mode neither. Setting a new table address empties
// nothing.
//
// The I/O APIC's requests carry no requester id here: source validation passes them, as QEMU's unit does.
//
// Not modelled, and not offered in the capability registers: scalable mode, first-level translation, requests
// with PASID, page requests, posted interrupts, protected memory regions, advanced fault logging, snoop
// control, performance monitoring. Entries are fetched from RAM only, and status words go to RAM only.
#pragma once
#include <array>
#include <cstdint>
#include <optional>

#include "apic/apic_bus.hpp"
#include "apic/device.hpp"
#include "devices/vtd_config.hpp"
#include "devices/vtd_formats.hpp"
#include "mmu/io.hpp"
#include "mmu/log.hpp"
#include "pci/upstream.hpp"

namespace kiln {

class VtdUnit : public Device, public IoHandler, public Upstream, public InterruptRemapping {
  public:
    static constexpr uint64_t kBase = 0xfed90000, kSize = 0x1000;
    // What a fault of the I/O APIC is recorded as, and what the DMAR table says it is.
    static constexpr Bdf kIoApicId{0xff, 0, 0};

    VtdUnit(const VtdConfig& config, PhysicalMemory& memory, ApicBus& apicBus, Log& log);

    std::string_view name() const override { return "vtd"; }
    void reset() override;
    void state(StateVisitor& visit) override;

    uint64_t ioRead(uint64_t offset, unsigned size) override;
    void ioWrite(uint64_t offset, unsigned size, uint64_t value) override;

    // -- what passes through it
    bool read(Bdf requester, uint64_t address, void* out, uint64_t size) override;
    bool write(Bdf requester, uint64_t address, const void* in, uint64_t size) override;
    std::optional<ApicMessage> resolve(const Msi& msi, std::optional<uint16_t> source) override;

  private:
    // -- registers
    uint32_t& reg(unsigned offset) { return registers_[offset / 4]; }
    uint64_t reg64(unsigned offset) { return reg(offset) | uint64_t(reg(offset + 4)) << 32; }
    void set64(unsigned offset, uint64_t v) {
        reg(offset) = uint32_t(v), reg(offset + 4) = uint32_t(v >> 32);
    }
    bool enabled(uint32_t statusBit) { return reg(vtd::kGlobalStatus) & statusBit; }
    uint32_t writable(unsigned offset) const;
    void writeRegister(unsigned offset, uint32_t value);
    void command(uint32_t value);
    bool fetch(uint64_t address, uint64_t& value);
    bool fetch(uint64_t address, vtd::Entry& entry);

    // -- DMA
    // What the IOTLB knows of a page of 4 KiB, 2 MiB or 1 GiB.
    struct CachedPage {
        uint64_t tag = 0;     // see pageTag()
        uint64_t target = 0;  // address, kReadable, kWritable
    };
    struct CachedContext {
        vtd::Entry entry;
        uint64_t tag = 0;  // requester, and bit 16
    };
    std::optional<PhysAddr> translate(Bdf requester, uint64_t address, bool write);
    vtd::Fault findContext(uint16_t source, vtd::Entry& context);
    vtd::Fault checkContext(const vtd::Entry& context) const;
    vtd::Fault findPage(const vtd::Entry& context, uint64_t address, bool write, uint64_t& target);
    vtd::Fault walk(const vtd::Entry& context, uint64_t address, bool write, unsigned& level,
                    uint64_t& target);
    static uint64_t pageTag(uint16_t domain, uint64_t address, unsigned level);
    CachedPage& cachedPage(uint64_t tag) { return pages_[(tag ^ tag >> 9) % pages_.size()]; }
    bool tooWide(uint64_t address) const { return address >> config_.addressWidth; }

    // -- interrupts
    struct CachedIrte {
        vtd::Entry entry;
        uint64_t tag = 0;  // index, and bit 16
    };
    vtd::Fault findIrte(uint32_t index, vtd::Entry& irte);
    vtd::Fault checkIrte(const vtd::Entry& irte, std::optional<uint16_t> source) const;
    vtd::Fault remap(const Msi& msi, std::optional<uint16_t> source, uint32_t& index, vtd::Entry& irte);
    bool extendedMode() const { return interruptTable_ & vtd::kExtendedMode; }

    // -- invalidation
    void contextCommand();
    void tlbCommand();
    void processQueue();
    bool execute(const vtd::Entry& descriptor);
    bool executeWait(const vtd::Entry& descriptor);
    enum class Granularity : uint8_t { Reserved, Global, Domain, Selective };
    void invalidateContexts(Granularity granularity, uint16_t domain, uint16_t source, unsigned functionMask);
    void invalidatePages(Granularity granularity, uint16_t domain, uint64_t address, unsigned mask);
    void invalidateIrtes(bool all, uint32_t index, unsigned mask);

    // -- faults and events
    void fault(vtd::Fault reason, Bdf source, uint64_t information, bool read);
    void raiseFaultStatus(uint32_t bits);
    void clearFault(unsigned record);
    void faultsServed();
    void raiseEvent(unsigned control);
    void sendEvent(unsigned control);
    void writeEventControl(unsigned control, uint32_t value);

    const VtdConfig config_;
    PhysicalMemory& memory_;
    ApicBus& apicBus_;
    Log& log_;

    std::array<uint32_t, vtd::kRegistersEnd / 4> registers_{};
    uint64_t rootTable_ = 0, interruptTable_ = 0;  // as the "set" commands found them
    uint32_t nextRecord_ = 0;
    std::array<CachedContext, 64> contexts_{};
    std::array<CachedPage, 512> pages_{};
    std::array<CachedIrte, 64> irtes_{};
};

}  // namespace kiln
