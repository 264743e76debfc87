#include "devices/q35_mch.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace kiln {

namespace {

enum : unsigned { kPciExBar = 0x60, kPam0 = 0x90, kSmram = 0x9d, kEsmramc = 0x9e };
enum : uint8_t { kReadRam = 1, kWriteRam = 2 };
enum : uint8_t { kSmramOpen = 0x40, kSmramClosed = 0x20, kSmramLock = 0x10, kSmramEnable = 0x08 };
enum : uint8_t { kHighSmram = 0x80, kTsegSize = 0x06, kTsegEnable = 0x01 };
constexpr uint64_t kLowSmram = 0xa0000, kHighSmramBase = 0xfeda0000, kSmramSize = 0x20000;
constexpr uint64_t kSmm = PhysicalMemory::kSmmBase;

constexpr int kPriority = 2;  // above RAM, the VGA window and BARs
constexpr uint32_t kBiosWindow = 0x20000;

}  // namespace

Q35Mch::Q35Mch(PciBus& bus, RamBlock& ram, RamBlock& bios, uint64_t lowRam)
    : PciFunction({.vendor = 0x8086, .device = 0x29c0, .classCode = 0x060000, .revision = 2}),
      bus_(bus),
      ram_(ram),
      bios_(bios),
      lowRam_(lowRam ? lowRam : ram.size()) {
    assert(ram.size() >= 0x100000);
    writable_[4] = 0x00;  // the command register is fixed: memory and bus master on
    config_[4] = 0x06;
    writable_[kPciExBar] = 0x07;
    writable_[kPciExBar + 3] = 0xfc;
    writable_[kPciExBar + 4] = 0x0f;
    for (unsigned i = 0; i < 7; i++) writable_[kPam0 + i] = i == 0 ? 0x30 : 0x33;
    config_[kSmram] = 0x02;  // C_BASE_SEG: always 0xA0000
    config_[kEsmramc] = 0x38;

    uint64_t biosShown = std::min<uint64_t>(bios.size(), kBiosWindow);
    uint32_t biosBase = uint32_t(0x100000 - biosShown);
    for (unsigned i = 0; i < segments_.size(); i++) {
        Segment& s = segments_[i];
        s.base = i == 12 ? 0xf0000 : 0xc0000 + i * 0x4000;
        s.size = i == 12 ? 0x10000 : 0x4000;
        s.ram = ram.data() + s.base;
        if (s.base >= biosBase) s.rom = bios.data() + bios.size() - (0x100000 - s.base);
    }
    bus.memory.mapRam(PhysAddr(kSmm + kLowSmram), kSmramSize, ram, kLowSmram);
    smram_ = bus.memory.mapRam(PhysAddr(kLowSmram), kSmramSize, ram, kLowSmram, kPriority);
    bus.memory.setEnabled(smram_, false);
    update();
}

uint64_t Q35Mch::pciExBar() const { return get32(kPciExBar) | uint64_t(get32(kPciExBar + 4)) << 32; }

PhysAddr Q35Mch::ecamBase(uint64_t bar) {
    return PhysAddr(bar & 0xffc000000 & ~(uint64_t(ecamBuses(bar)) * 0x100000 - 1));
}

unsigned Q35Mch::ecamBuses(uint64_t bar) {
    unsigned length = bar >> 1 & 3;
    return length == 0 ? 256 : length == 1 ? 128 : 64;  // 3 is reserved
}

// PAM0 has one field, for 0xF0000; PAM1 to PAM6 have two each, the low one for the lower 16 KiB.
uint8_t Q35Mch::attributesOf(unsigned segment) const {
    if (segment == 12) return config_[kPam0] >> 4 & 3;
    return config_[kPam0 + 1 + segment / 2] >> (segment % 2 * 4) & 3;
}

uint64_t Q35Mch::Segment::ioRead(uint64_t offset, unsigned bytes) {
    if (!rom) return openBus(bytes);
    uint64_t value = 0;
    std::memcpy(&value, rom + offset, bytes);
    return value;
}

void Q35Mch::Segment::ioWrite(uint64_t offset, unsigned bytes, uint64_t value) {
    if (attributes & kWriteRam) std::memcpy(ram + offset, &value, bytes);
}

void Q35Mch::mapSegment(Segment& s, uint8_t attributes) {
    PhysicalMemory& memory = bus_.memory;
    Region* old = s.region;
    s.attributes = attributes;
    PhysAddr base(s.base);
    if (attributes == (kReadRam | kWriteRam))
        s.region = memory.mapRam(base, s.size, ram_, s.base, kPriority);
    else if (attributes == kReadRam)
        s.region = memory.mapRom(base, s.size, ram_, s.base, kPriority);
    else if (attributes == 0 && s.rom)
        s.region = memory.mapRom(base, s.size, bios_, uint64_t(s.rom - bios_.data()), kPriority);
    else
        s.region = memory.mapIo(base, s.size, s, kPriority);
    if (old) memory.unmap(old);
}

void Q35Mch::updateEcam() {
    if (ecamEnabled()) {
        if (window_ == Window::HeldClosed) window_ = Window::Free;
        lastPciExBar_ = pciExBar();
    } else if (window_ == Window::Held) {
        window_ = Window::HeldClosed;
    }
    const bool open = ecamEnabled() || window_ == Window::HeldClosed;
    unsigned buses = open ? ecamBuses(lastPciExBar_) : 0;
    PhysAddr base = ecamBase(lastPciExBar_);
    if (buses == ecamMappedBuses_ && (buses == 0 || base == ecamAt_)) return;
    if (ecam_) bus_.memory.unmap(ecam_);
    ecam_ = nullptr;
    ecamMappedBuses_ = buses;
    ecamAt_ = base;
    if (buses) ecam_ = bus_.memory.mapIo(ecamAt_, uint64_t(buses) << 20, bus_.ecam(), kPriority);
}

void Q35Mch::update() {
    for (unsigned i = 0; i < segments_.size(); i++)
        if (segments_[i].attributes != attributesOf(i)) mapSegment(segments_[i], attributesOf(i));
    updateEcam();
    updateSmram();
}

uint64_t Q35Mch::tsegSize() const {
    static constexpr uint64_t kMiB[4] = {1, 2, 8, 0};
    if (!(config_[kSmram] & kSmramEnable) || !(config_[kEsmramc] & kTsegEnable)) return 0;
    const uint64_t size = kMiB[(config_[kEsmramc] & kTsegSize) >> 1] << 20;
    return size < lowRam_ ? size : 0;
}

void Q35Mch::updateSmram() {
    PhysicalMemory& memory = bus_.memory;
    const uint8_t smram = config_[kSmram];
    const bool high = config_[kEsmramc] & kHighSmram, open = smram & kSmramOpen;
    const uint64_t at = high ? kHighSmramBase : kLowSmram;
    memory.move(smram_, PhysAddr(at));
    memory.setEnabled(smram_, open);

    const uint64_t size = tsegSize(), tsegAt = lowRam_ - size;
    if (size != tsegMapped_) {
        if (tseg_) memory.unmap(tseg_), memory.unmap(tsegBlackHole_);
        tseg_ = tsegBlackHole_ = nullptr;
        if (size) {
            tseg_ = memory.mapRam(PhysAddr(kSmm + tsegAt), size, ram_, tsegAt, kPriority);
            tsegBlackHole_ = memory.mapIo(PhysAddr(tsegAt), size, blackHole_, kPriority);
        }
        tsegMapped_ = size;
    }

    std::vector<PhysicalMemory::SmmWindow> windows;
    const bool data = !(smram & kSmramClosed);
    if (smram & kSmramEnable && !open)
        windows.push_back({PhysAddr(at), kSmramSize, PhysAddr(kSmm + kLowSmram), data});
    if (size) windows.push_back({PhysAddr(tsegAt), size, PhysAddr(kSmm + tsegAt), data});
    memory.setSmmWindows(std::move(windows));
}

void Q35Mch::configWrite(uint16_t offset, unsigned size, uint32_t value) {
    uint8_t smram = config_[kSmram];
    bool locked = smram & kSmramLock;
    writable_[kSmram] = locked ? kSmramClosed : kSmramOpen | kSmramClosed | kSmramLock | kSmramEnable;
    writable_[kEsmramc] = locked ? 0 : 0x87;
    PciFunction::configWrite(offset, size, value);
    if (config_[kSmram] & kSmramLock) config_[kSmram] &= uint8_t(~kSmramOpen);  // locking closes it for good
    update();
}

void Q35Mch::reset() {
    PciFunction::reset();
    window_ = Window::Free;
    lastPciExBar_ = 0;
    update();
}

// SeaBIOS uses ECAM when it wakes up, without having enabled it. Then it closes ECAM by the first of the
// three writes that are to enable it, and sends the others through ECAM. So the window stays where it is
// until they have arrived.
void Q35Mch::resetForWake() {
    resetKeeping({{kPam0, 7}, {kPciExBar, 8}});
    window_ = ecamEnabled() ? Window::Held : Window::Free;
    update();
}

void Q35Mch::state(StateVisitor& visit) {
    PciFunction::state(visit);
    visit("last_pciexbar", lastPciExBar_);
    visit("window", window_);
    update();  // after a load
}

}  // namespace kiln
