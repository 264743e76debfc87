#include "devices/fw_cfg.hpp"

#include <algorithm>
#include <array>
#include <cassert>

namespace kiln {

namespace {

constexpr uint64_t kDmaSignature = 0x51454d5520434647;  // "QEMU CFG"
constexpr uint32_t kIdTraditional = 1, kIdDma = 2;
constexpr uint16_t kWriteChannel = 0x4000;
constexpr uint64_t kAddressLimit = 1ull << 52;  // no physical address is as large

namespace dma_control {
constexpr uint32_t Error = 1, Read = 2, Skip = 4, Select = 8, Write = 16;
}

// The device's numbers are big-endian, the guest's ports little-endian.
uint32_t swap32(uint32_t v) { return __builtin_bswap32(v); }
uint64_t swap64(uint64_t v) { return __builtin_bswap64(v); }

template <class T>
std::vector<uint8_t> littleEndian(T value) {
    std::vector<uint8_t> bytes(sizeof value);
    for (size_t i = 0; i < sizeof value; i++) bytes[i] = uint8_t(value >> (i * 8));
    return bytes;
}

void appendBigEndian(std::vector<uint8_t>& out, uint32_t value, unsigned size) {
    for (unsigned i = size; i-- > 0;) out.push_back(uint8_t(value >> (i * 8)));
}

}  // namespace

FwCfg::FwCfg(PhysicalMemory& memory, Log& log) : memory_(memory), log_(log) {
    add(FwCfgKey::Signature, {'Q', 'E', 'M', 'U'});
    add32(FwCfgKey::Id, kIdTraditional | kIdDma);
    buildDirectory();
}

void FwCfg::add(FwCfgKey key, std::vector<uint8_t> bytes) { items_[uint16_t(key)] = std::move(bytes); }
void FwCfg::add16(FwCfgKey key, uint16_t value) { add(key, littleEndian(value)); }
void FwCfg::add32(FwCfgKey key, uint32_t value) { add(key, littleEndian(value)); }
void FwCfg::add64(FwCfgKey key, uint64_t value) { add(key, littleEndian(value)); }

void FwCfg::addFile(std::string_view name, std::vector<uint8_t> bytes) {
    assert(name.size() <= 55);
    auto known = files_.find(name);
    uint16_t key =
        known != files_.end() ? known->second : uint16_t(unsigned(FwCfgKey::FirstFile) + files_.size());
    files_[std::string(name)] = key;
    items_[key] = std::move(bytes);
    buildDirectory();
}

// A count and 64 bytes a file: size, key, reserved, name padded with zeros. Firmware looks names up, so they
// are sorted as QEMU sorts them.
void FwCfg::buildDirectory() {
    std::vector<uint8_t> out;
    appendBigEndian(out, uint32_t(files_.size()), 4);
    for (const auto& [name, key] : files_) {
        appendBigEndian(out, uint32_t(items_[key].size()), 4);
        appendBigEndian(out, key, 2);
        appendBigEndian(out, 0, 2);
        size_t begin = out.size();
        out.insert(out.end(), name.begin(), name.end());
        out.resize(begin + 56);
    }
    add(FwCfgKey::FileDirectory, std::move(out));
}

std::span<const uint8_t> FwCfg::item(uint16_t key) const {
    auto it = items_.find(key);
    return it == items_.end() ? std::span<const uint8_t>{} : it->second;
}

std::span<const uint8_t> FwCfg::file(std::string_view name) const {
    auto it = files_.find(name);
    return it == files_.end() ? std::span<const uint8_t>{} : item(it->second);
}

void FwCfg::reset() {
    select(0);
    dmaAddress_ = 0;
}

void FwCfg::state(StateVisitor& visit) {
    visit("selected", selected_);
    visit("position", position_);
    visit("dma address", dmaAddress_);
}

void FwCfg::select(uint16_t key) {
    selected_ = uint16_t(key & ~kWriteChannel);
    position_ = 0;
    if (!items_.contains(selected_)) log_(LogCategory::Firmware, "fw_cfg: no item {:#x}", selected_);
}

// Behind the end of an item, and where there is none, reads give zero.
uint8_t FwCfg::readByte() {
    auto bytes = item(selected_);
    return position_ < bytes.size() ? bytes[position_++] : 0;
}

uint64_t FwCfg::Ports::ioRead(uint64_t, unsigned size) { return size == 1 ? fw.readByte() : openBus(size); }

void FwCfg::Ports::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (offset == 0 && size == 2) fw.select(uint16_t(value));
}

uint64_t FwCfg::Dma::ioRead(uint64_t offset, unsigned size) {
    return swap64(kDmaSignature) >> (offset * 8) & openBus(size);
}

// Writing the low half starts the transfer.
void FwCfg::Dma::ioWrite(uint64_t offset, unsigned size, uint64_t value) {
    if (size == 4 && offset == 0) {
        fw.dmaAddress_ = uint64_t(swap32(uint32_t(value))) << 32;
    } else if (size == 4 && offset == 4) {
        uint64_t address = fw.dmaAddress_ | swap32(uint32_t(value));
        fw.dmaAddress_ = 0;
        fw.runDma(PhysAddr(address));
    } else {
        fw.log_.oddity("fw_cfg: DMA address write of a strange size", "offset {} size {}", offset, size);
    }
}

// The descriptor: control, length, address, all big-endian; the result replaces control.
void FwCfg::runDma(PhysAddr descriptor) {
    if (descriptor.value >= kAddressLimit) return;
    uint32_t control = swap32(memory_.read<uint32_t>(descriptor));
    uint32_t length = swap32(memory_.read<uint32_t>(descriptor + 4));
    PhysAddr address(swap64(memory_.read<uint64_t>(descriptor + 8)));
    if (control & dma_control::Select) select(uint16_t(control >> 16));
    memory_.write<uint32_t>(descriptor, swap32(transfer(control, length, address)));
}

uint32_t FwCfg::transfer(uint32_t control, uint32_t length, PhysAddr address) {
    if (address.value >= kAddressLimit) return dma_control::Error;
    auto bytes = item(selected_);
    uint64_t left = bytes.size() - std::min<uint64_t>(position_, bytes.size());
    uint64_t copied = std::min<uint64_t>(length, left);
    if (control & dma_control::Read) {
        memory_.write(address, bytes.data() + position_, copied);
        static constexpr std::array<uint8_t, 4096> kZeros{};
        for (uint64_t done = copied; done < length;) {
            uint64_t n = std::min<uint64_t>(length - done, kZeros.size());
            memory_.write(address + done, kZeros.data(), n);
            done += n;
        }
    } else if (control & dma_control::Write) {
        log_.oddity("fw_cfg: write to a read-only item", "item {:#x}", selected_);
        return dma_control::Error;
    }
    if (control & (dma_control::Read | dma_control::Skip)) position_ += copied;
    return 0;
}

}  // namespace kiln
