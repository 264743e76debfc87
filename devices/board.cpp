#include "devices/board.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "apic/i8259.hpp"
#include "apic/interrupt_relay.hpp"
#include "apic/io_apic.hpp"
#include "devices/acpi_pm.hpp"
#include "devices/acpi_tables.hpp"
#include "devices/block_image.hpp"
#include "devices/coprocessor_error.hpp"
#include "devices/debug_ports.hpp"
#include "devices/floppy.hpp"
#include "devices/fw_cfg.hpp"
#include "devices/hpet.hpp"
#include "devices/i8042.hpp"
#include "devices/i8237.hpp"
#include "devices/i8254.hpp"
#include "devices/ich9_lpc.hpp"
#include "devices/ide_controller.hpp"
#include "devices/kernel_loader.hpp"
#include "devices/mc146818.hpp"
#include "devices/pc_testdev.hpp"
#include "devices/pci_devices.hpp"
#include "devices/q35_mch.hpp"
#include "devices/smbios.hpp"
#include "devices/uart16550.hpp"
#include "devices/vga_pci.hpp"
#include "devices/vga_renderer.hpp"
#include "devices/vtd.hpp"
#include "pci/pci_function.hpp"

namespace kiln {

namespace {

constexpr uint64_t kMiB = 1 << 20, kGiB = 1 << 30;
constexpr uint64_t kLowRamLimit = 2 * kGiB, kHighRamBase = 4 * kGiB;
constexpr uint64_t kHighBars = 512 * kGiB;  // as the DSDT says
constexpr uint64_t kSmallestMemory = 2 * kMiB, kLargestMemory = 64 * kGiB;
constexpr uint64_t kLargestFirmware = 16 * kMiB, kFirmwareGranule = 64 << 10;

constexpr Bdf kMch(0, 0, 0), kVga(0, PciDevices::kVgaDevice, 0), kLpc(0, 31, 0), kIde(0, 31, 1);

// CMOS RAM's shutdown status, and what tells SeaBIOS that it wakes from S3 (src/resume.c).
constexpr uint8_t kCmosShutdown = 0x0f, kShutdownS3 = 0xfe;

constexpr Nanos kRepeatDelay = kSecond / 2, kRepeatPeriod = kSecond / 11;  // the keyboard's defaults

struct UartPlace {
    uint16_t port;
    unsigned irq;
};
constexpr std::array<UartPlace, 4> kUarts = {{{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}}};

[[noreturn]] void refuse(const std::string& sentence) { throw std::runtime_error(sentence); }

std::unique_ptr<RamBlock> loadFirmware(const std::string& path) {
    std::vector<uint8_t> bytes = readWholeFile(path, "firmware", kLargestFirmware);
    if (bytes.empty()) refuse("the firmware '" + path + "' is empty");
    if (bytes.size() % kFirmwareGranule)
        refuse("the firmware '" + path + "' has " + std::to_string(bytes.size()) +
               " bytes, which is not a multiple of 64 KiB: it is truncated or no BIOS image");
    auto blank = [](uint8_t b) { return b == 0 || b == 0xff; };
    if (std::all_of(bytes.end() - 16, bytes.end() - 11, blank))
        refuse("the firmware '" + path + "' has no code at the reset vector: it is no BIOS image");
    auto rom = std::make_unique<RamBlock>("bios", bytes.size());
    std::copy(bytes.begin(), bytes.end(), rom->data());
    return rom;
}

std::unique_ptr<BlockImage> openImage(const DriveConfig& drive) {
    std::string error;
    // Nobody writes a CD-ROM: machines share its image.
    bool readOnly = drive.readOnly || drive.kind == DriveKind::Cdrom;
    auto image = BlockImage::open(drive.file, {readOnly, drive.snapshot}, error);
    if (!image) refuse(error);
    return image;
}

}  // namespace

struct Board::Parts {
    // The 16 wires of the ISA bus, each to the 8259 pair and to the I/O APIC.
    std::array<IrqInput, 16> isa;
    std::array<IrqLine, 16> isaToPic, isaToIoApic;

    std::unique_ptr<RamBlock> ram, bios;
    std::unique_ptr<InterruptRelay> relay;
    std::unique_ptr<PciBus> pci;
    std::unique_ptr<I8259Pair> pic;
    std::unique_ptr<IoApic> ioApic;
    std::unique_ptr<I8254> pit;
    std::unique_ptr<Mc146818> rtc;
    std::unique_ptr<Hpet> hpet;
    std::unique_ptr<I8042> keyboard;
    std::unique_ptr<I8237Pair> dma;
    std::unique_ptr<Floppy> floppy;
    std::unique_ptr<AcpiPm> pm;
    std::unique_ptr<CoprocessorError> coprocessor;
    std::optional<uint16_t> pmPorts;  // where the PM block is mapped
    std::array<std::unique_ptr<Uart16550>, 4> uarts;
    std::unique_ptr<DebugConsole> debugConsole;
    std::unique_ptr<IsaDebugExit> debugExit;
    std::unique_ptr<PcTestdev> testdev;
    std::unique_ptr<FwCfg> fwCfg;
    std::unique_ptr<Q35Mch> mch;
    std::unique_ptr<Ich9Lpc> lpc;
    std::unique_ptr<IdeController> ide;
    std::unique_ptr<PciDevices> pciDevices;
    std::unique_ptr<VtdUnit> iommu;
    std::unique_ptr<VgaPci> vga;
    std::unique_ptr<VgaRenderer> renderer;
};

template <class T, class... Args>
T& Board::add(std::unique_ptr<T>& place, Args&&... args) {
    place = std::make_unique<T>(std::forward<Args>(args)...);
    devices_.push_back(place.get());
    return *place;
}

Board::Board(const BoardPorts& ports, const MachineConfig& config)
    : io_(ports), parts_(std::make_unique<Parts>()), repeatTimer_(ports.clock, [this] { repeatKey(); }) {
    mapMemory(config);
    buildInterrupts();
    buildIsa(config);
    buildPci(config);
    attachDrives(config);
    fillCmos(config);
    fillFwCfg(config);
}

Board::~Board() = default;

void Board::mapMemory(const MachineConfig& config) {
    if (config.memory < kSmallestMemory || config.memory > kLargestMemory)
        refuse("a memory of " + std::to_string(config.memory / kMiB) +
               " MiB is not possible: -m takes 2M to 64G");
    uint64_t size = config.memory & ~kPageMask;
    lowRam_ = std::min(size, kLowRamLimit);
    highRam_ = size - lowRam_;
    parts_->bios = loadFirmware(config.firmware);
    parts_->ram = std::make_unique<RamBlock>("ram", size);
    io_.memory.mapRam(PhysAddr(0), lowRam_, *parts_->ram);
    if (highRam_) io_.memory.mapRam(PhysAddr(kHighRamBase), highRam_, *parts_->ram, lowRam_);
    io_.memory.mapRom(PhysAddr(kHighRamBase - parts_->bios->size()), parts_->bios->size(), *parts_->bios);
}

void Board::buildInterrupts() {
    Parts& p = *parts_;
    add(p.pic);
    add(p.ioApic, io_.apicBus);
    p.pic->onIntr = [this](bool level) { io_.apicBus.setIntr(level); };
    io_.apicBus.onIntAck = [this] { return parts_->pic->acknowledge(); };
    io_.ports.map(0x20, 2, *p.pic, 0);
    io_.ports.map(0xa0, 2, *p.pic, 2);
    io_.ports.map(0x4d0, 2, *p.pic, 4);
    io_.memory.mapIo(PhysAddr(0xfec00000), kPageSize, *p.ioApic);
    io_.memory.mapIo(PhysAddr(ApicBus::kWindowBase), ApicBus::kWindowSize, io_.apicBus);
    for (unsigned irq = 0; irq < 16; irq++) {
        if (irq == 2) continue;  // the cascade; the I/O APIC's input 2 is the timer's
        p.isaToPic[irq].connect(p.pic->pin(irq));
        p.isaToIoApic[irq].connect(p.ioApic->pin(irq == 0 ? 2 : irq));
        p.isa[irq] = IrqInput([this, irq](bool level) {
            parts_->isaToPic[irq].set(level);
            parts_->isaToIoApic[irq].set(level);
        });
    }
}

void Board::buildIsa(const MachineConfig& config) {
    Parts& p = *parts_;
    if (config.pit) {
        add(p.pit, io_.clock, p.isa[0]);
        io_.ports.map(0x40, 4, *p.pit);
        io_.ports.map(0x61, 1, *p.pit, I8254::kPort61);
    }

    int64_t now = config.rtcStart ? *config.rtcStart : io_.gate.calendarSeconds() + config.rtcOffset;
    add(p.rtc, io_.clock, now, p.isa[8]);
    io_.ports.map(0x70, 4, *p.rtc);
    if (config.hpet) {
        add(p.hpet, io_.clock, p.isa[0], p.isa[8], *p.ioApic);
        io_.memory.mapIo(PhysAddr(0xfed00000), 0x400, *p.hpet);
        p.hpet->onLegacyReplacement = [this](bool legacy) {
            if (parts_->pit) parts_->pit->setIrqEnabled(!legacy);
            parts_->rtc->setIrqEnabled(!legacy);
        };
    }

    add(p.keyboard, io_.clock, p.isa[1], p.isa[12]);
    p.keyboard->onA20 = io_.a20;
    p.keyboard->onReset = [this] { io_.reset("keyboard controller or port 0x92"); };
    for (uint16_t port : {0x60, 0x64, 0x92}) io_.ports.map(port, 1, *p.keyboard, port - 0x60u);
    add(p.dma, io_.memory, io_.log);
    p.dma->mapPorts(io_.ports);
    add(p.floppy, io_.clock, io_.log, *p.dma, p.isa[6]);
    p.floppy->mapPorts(io_.ports);

    add(p.coprocessor, p.isa[13], io_.ignne);
    io_.ports.map(0xf0, 2, *p.coprocessor);
    add(p.pm, io_.clock, p.isa[9]);
    p.pm->onPowerOff = io_.powerOff;
    p.pm->onSuspend = [this] {
        parts_->rtc->setCmos(kCmosShutdown, kShutdownS3);
        io_.suspend();
    };
    p.pm->onWake = io_.wake;
    p.pm->onSmi = io_.smi;
    p.rtc->onAlarm = [this] { parts_->pm->rtcAlarm(); };
    io_.ports.map(0xb2, 2, p.pm->apmPorts());

    for (unsigned i = 0; i < std::min<size_t>(config.serialPorts, kUarts.size()); i++) {
        add(p.uarts[i], io_.clock, p.isa[kUarts[i].irq], io_.serial[i]);
        if (io_.serialKeepsBack) p.uarts[i]->keepBack();
        io_.ports.map(kUarts[i].port, 8, *p.uarts[i]);
    }
    if (config.debugConsole) {
        add(p.debugConsole, [this](uint8_t byte) {
            flushSerial();  // they may share a terminal
            if (io_.debugConsole) io_.debugConsole(byte);
        });
        io_.ports.map(0x402, 1, *p.debugConsole);
        io_.ports.map(0xe9, 1, *p.debugConsole);
    }
    if (config.debugExit) {
        add(p.debugExit, io_.exit);
        io_.ports.map(config.debugExit->port, config.debugExit->size, *p.debugExit);
    }
    if (config.testdev) {
        add(p.testdev, [this] { io_.memory.dropTranslations(); });
        p.testdev->map(io_.ports, io_.memory);
        for (unsigned i = 0; i < PcTestdev::kLines; i++)
            if (i != 2) p.testdev->connect(i, i < p.isa.size() ? p.isa[i] : p.ioApic->pin(i));
    }
    add(p.fwCfg, io_.memory, io_.log);
    io_.ports.map(FwCfg::kSelectorPort, 2, p.fwCfg->ports());
    io_.ports.map(FwCfg::kDmaPort, 8, p.fwCfg->dma());
}

void Board::buildPci(const MachineConfig& config) {
    Parts& p = *parts_;
    p.pci = std::make_unique<PciBus>(io_.memory, io_.ports);
    p.pci->log = &io_.log;
    p.pci->relay = &add(p.relay, io_.clock, io_.apicBus, io_.log);
    io_.ports.map(0xcf8, 8, p.pci->ports());
    add(p.mch, *p.pci, *p.ram, *p.bios, lowRam_);
    p.pci->add(kMch, *p.mch);

    Ich9Lpc::Wires wires;
    for (unsigned i = 0; i < 16; i++)
        if (i != 2) wires.isa[i] = &p.isa[i];
    for (unsigned i = 0; i < 8; i++) wires.ioApic[i] = &p.ioApic->pin(16 + i);
    add(p.lpc, *p.pci, wires);
    p.lpc->onPmBase = [this](uint16_t base, bool enabled) { mapPm(base, enabled); };
    p.lpc->onSmiLock = [this](bool locked) { parts_->pm->lockSmi(locked); };
    p.lpc->onReset = [this](bool) { io_.reset("port 0xCF9"); };
    p.pci->add(kLpc, *p.lpc);
    p.pci->intxInput = [this](unsigned device, unsigned pin) {
        return &parts_->lpc->intx(Bdf(0, device, 0), pin + 1);
    };
    p.relay->wireLeadsTo = [this](unsigned wire, unsigned pin) { return parts_->lpc->leadsTo(wire, pin); };

    add(p.ide, io_.clock, io_.log, p.isa[14], p.isa[15]);
    p.ide->mapPorts(io_.ports);
    p.pci->add(kIde, *p.ide);

    addPciDevices(config);
    addIommu(config);

    if (!config.vga) return;
    add(p.vga, io_.clock, io_.log, config.videoBios);
    p.vga->core().mapLegacy(io_.ports, io_.memory);
    p.pci->add(kVga, *p.vga);
    p.renderer = std::make_unique<VgaRenderer>(p.vga->core());
}

void Board::addPciDevices(const MachineConfig& config) {
    Parts& p = *parts_;
    p.pciDevices = std::make_unique<PciDevices>(*p.pci, *p.relay, io_.clock, io_.log,
                                                unsigned(io_.apicBus.locals().size()));
    for (const PciDeviceConfig& device : config.pciDevices) devices_.push_back(&p.pciDevices->add(device));
}

void Board::addIommu(const MachineConfig& config) {
    if (!config.iommu) return;
    VtdUnit& unit = add(parts_->iommu, *config.iommu, io_.memory, io_.apicBus, io_.log);
    io_.memory.mapIo(PhysAddr(VtdUnit::kBase), VtdUnit::kSize, unit);
    io_.apicBus.remapping = &unit;
    parts_->pci->upstream = &unit;
}

void Board::mapPm(uint16_t base, bool enabled) {
    Parts& p = *parts_;
    if (p.pmPorts) io_.ports.unmap(*p.pmPorts, *p.pm);
    p.pmPorts.reset();
    if (!enabled) return;
    io_.ports.map(base, AcpiPm::kLength, *p.pm);
    p.pmPorts = base;
}

void Board::attachDrives(const MachineConfig& config) {
    for (const DriveConfig& drive : config.drives) {
        switch (drive.kind) {
            case DriveKind::Floppy:
                if (!parts_->floppy->attach(drive.index, drive.file.empty() ? nullptr : openImage(drive)))
                    refuse("the image '" + drive.file + "' is too large for a floppy: give it as -hda");
                break;
            case DriveKind::Disk: parts_->ide->attachDisk(drive.index, openImage(drive)); break;
            case DriveKind::Cdrom:
                parts_->ide->attachCdrom(drive.index, drive.file.empty() ? nullptr : openImage(drive));
                break;
        }
    }
}

// What SeaBIOS and old software look for in CMOS RAM (SeaBIOS, src/hw/rtc.h).
void Board::fillCmos(const MachineConfig& config) {
    Mc146818& rtc = *parts_->rtc;
    auto put16 = [&](uint8_t index, uint64_t v) {
        rtc.setCmos(index, uint8_t(v));
        rtc.setCmos(uint8_t(index + 1), uint8_t(v >> 8));
    };
    auto order = [&](size_t n) -> uint8_t {
        static constexpr std::string_view kLetters = "acdn";  // 1 floppy, 2 disk, 3 CD-ROM, 4 network
        if (n >= config.bootOrder.size()) return 0;
        size_t at = kLetters.find(config.bootOrder[n]);
        return at == std::string_view::npos ? 0 : uint8_t(at + 1);
    };
    uint64_t extended = std::min<uint64_t>((lowRam_ - kMiB) >> 10, 63 * 1024);
    uint64_t above16 = lowRam_ > 16 * kMiB ? std::min<uint64_t>((lowRam_ - 16 * kMiB) >> 16, 0xffff) : 0;
    put16(0x15, 640);
    put16(0x17, extended);
    put16(0x30, extended);
    put16(0x34, above16);
    put16(0x5b, highRam_ >> 16);
    rtc.setCmos(0x5d, uint8_t(highRam_ >> 32));
    rtc.setCmos(0x5f, uint8_t(config.topology.cpus() - 1));  // processors besides the first
    rtc.setCmos(0x38, uint8_t(order(2) << 4 | 1));           // floppies without a boot signature boot, too
    rtc.setCmos(0x3d, uint8_t(order(1) << 4 | order(0)));
    FloppyDriveType a = parts_->floppy->driveType(0), b = parts_->floppy->driveType(1);
    unsigned floppies = (a != FloppyDriveType::None) + (b != FloppyDriveType::None);
    rtc.setCmos(0x10, uint8_t(unsigned(a) << 4 | unsigned(b)));
    uint8_t equipment = 0x02 | 0x04;  // coprocessor, mouse
    if (floppies) equipment |= uint8_t(0x01 | (floppies - 1) << 6);
    rtc.setCmos(0x14, equipment);
}

void Board::fillFwCfg(const MachineConfig& config) {
    FwCfg& fw = *parts_->fwCfg;
    fw.add(FwCfgKey::Uuid, std::vector<uint8_t>(16));
    fw.add64(FwCfgKey::RamSize, lowRam_ + highRam_);
    fw.add16(FwCfgKey::NoGraphic, config.nographic || !config.vga);
    const CpuTopology& cpus = config.topology;
    fw.add16(FwCfgKey::CpuCount, uint16_t(cpus.cpus()));
    fw.add16(FwCfgKey::MaxCpus, uint16_t(cpus.apicId(cpus.cpus() - 1) + 1));  // where APIC ids end
    fw.add64(FwCfgKey::Numa, 0);
    fw.add16(FwCfgKey::BootMenu, config.bootMenu);
    fw.add32(FwCfgKey::Irq0Override, 1);

    std::vector<uint8_t> e820;
    auto range = [&](uint64_t base, uint64_t size) {
        constexpr uint32_t kUsable = 1;
        for (unsigned i = 0; i < 8; i++) e820.push_back(uint8_t(base >> (i * 8)));
        for (unsigned i = 0; i < 8; i++) e820.push_back(uint8_t(size >> (i * 8)));
        for (unsigned i = 0; i < 4; i++) e820.push_back(uint8_t(kUsable >> (i * 8)));
    };
    range(0, lowRam_);
    if (highRam_) range(kHighRamBase, highRam_);
    fw.addFile("etc/e820", std::move(e820));
    // By state: bit 7 says that there is one, the others are its SLP_TYP. S4 is off.
    fw.addFile("etc/system-states",
               {0x80, 0, 0, 0x80 | AcpiPm::kSuspendToRam, 0x02, 0x80 | AcpiPm::kSoftOff});
    // From where on firmware may put 64-bit BARs; it looks only if there are some that don't fit below.
    std::vector<uint8_t> highBars;
    for (unsigned i = 0; i < 8; i++) highBars.push_back(uint8_t(kHighBars >> (i * 8)));
    if (!config.pciDevices.empty()) fw.addFile("etc/reserved-memory-end", std::move(highBars));
    offerAcpi(fw, {.topology = cpus, .hpet = config.hpet, .iommu = config.iommu});
    offerSmbios(fw, lowRam_ + highRam_, cpus);

    if (config.kernel.kernel.empty()) return;
    offerKernel(fw, config.kernel, lowRam_);
    std::string_view first = "/rom@genroms/kilnboot.bin";
    std::vector<uint8_t> order(first.begin(), first.end());
    order.push_back(0);
    fw.addFile("bootorder", std::move(order));
}

void Board::reset() {
    repeatTimer_.disarm();
    for (Device* d : devices_) d->reset();
    parts_->pci->reset();
}

// S3 keeps RAM, the clock and its RAM, and the resume well of the PM block. Besides, as the firmware does not
// set it up again: where the bridges have memory and ports (its own resume code lies in shadow RAM), and the
// picture, since text modes are nobody else's business.
void Board::resetForWake() {
    repeatTimer_.disarm();
    const Parts& p = *parts_;
    const std::initializer_list<const Device*> kept = {p.rtc.get(), p.pm.get(), p.mch.get(), p.lpc.get(),
                                                       p.vga.get()};
    for (Device* d : devices_)
        if (std::find(kept.begin(), kept.end(), d) == kept.end()) d->reset();
    p.pm->resetForWake();
    p.mch->resetForWake();
    p.lpc->resetForWake();
}

void Board::state(StateVisitor& visit) {
    parts_->pci->state(visit);
    for (Device* d : devices_) d->state(visit);
}

// The keyboard repeats the key that went down last.
void Board::key(uint8_t hidUsage, bool down) {
    parts_->keyboard->keyboard().key(hidUsage, down);
    if (down)
        parts_->pm->wake(), repeated_ = hidUsage, repeatTimer_.arm(io_.clock.now() + kRepeatDelay);
    else if (hidUsage == repeated_)
        repeatTimer_.disarm();
}

void Board::repeatKey() {
    parts_->keyboard->keyboard().key(repeated_, true);
    repeatTimer_.arm(io_.clock.now() + kRepeatPeriod);
}

void Board::mouse(int dx, int dy, int wheel, unsigned buttons) {
    parts_->keyboard->mouse().move(dx, dy, -wheel, uint8_t(buttons));
}

void Board::serialInput(unsigned port, std::span<const uint8_t> bytes) {
    if (port < parts_->uarts.size() && parts_->uarts[port]) parts_->uarts[port]->receive(bytes);
}

void Board::flushSerial() {
    for (auto& uart : parts_->uarts)
        if (uart) uart->flush();
}

void Board::coprocessorError(bool raised) { parts_->coprocessor->ferr(raised); }

void Board::powerButton() { parts_->pm->pressPowerButton(); }
void Board::wake() { parts_->pm->wake(); }

const Frame* Board::render(bool always) {
    if (!parts_->renderer) return nullptr;
    bool changed = parts_->renderer->update();
    return changed || always ? &parts_->renderer->frame() : nullptr;
}

std::string Board::screenText() const { return parts_->renderer ? parts_->renderer->text() : std::string(); }

IoApic& Board::ioApic() { return *parts_->ioApic; }
I8259Pair& Board::pic() { return *parts_->pic; }
PciBus& Board::pci() { return *parts_->pci; }
InterruptRelay& Board::relay() { return *parts_->relay; }
PciFunction* Board::pciFunction(const std::string& id) { return parts_->pciDevices->find(id); }

}  // namespace kiln
