// The 256 words of IDENTIFY DEVICE (ATA/ATAPI-6, 8.15).
#include <algorithm>
#include <cstring>

#include "devices/ide_disk.hpp"

namespace kiln {

void putIdentifyString(uint16_t* words, unsigned count, std::string_view text) {
    auto at = [&](unsigned i) { return uint16_t(i < text.size() ? uint8_t(text[i]) : ' '); };
    for (unsigned i = 0; i < count; i++) words[i] = uint16_t(at(i * 2) << 8 | at(i * 2 + 1));
}

void IdeDisk::identify() {
    std::array<uint16_t, 256> w{};
    w[0] = 0x0040;  // fixed drive
    w[1] = cylinders_;
    w[3] = 16;
    w[4] = 512 * 63, w[5] = 512;
    w[6] = 63;
    putIdentifyString(&w[10], 10, serial_);
    w[20] = 3, w[21] = 512;  // dual-ported cache, in sectors
    w[22] = 4;
    putIdentifyString(&w[23], 4, "0.1");
    putIdentifyString(&w[27], 20, "KILN HARDDISK");

    uint32_t perCylinder = uint32_t(heads_) * sectorsPerTrack_;
    uint64_t cylinders = std::min<uint64_t>(sectors_ / perCylinder, 16383);
    uint32_t chsSectors = uint32_t(cylinders * perCylinder);
    w[53] = 0x0007;
    w[54] = uint16_t(cylinders), w[55] = heads_, w[56] = sectorsPerTrack_;
    w[57] = uint16_t(chsSectors), w[58] = uint16_t(chsSectors >> 16);
    uint32_t lba28 = uint32_t(std::min<uint64_t>(sectors_, 0x0fffffff));
    w[60] = uint16_t(lba28), w[61] = uint16_t(lba28 >> 16);
    for (unsigned i = 0; i < 4; i++) w[100 + i] = uint16_t(sectors_ >> (i * 16));
    identifyCapabilities(w);

    std::memcpy(buffer_.data(), w.data(), sizeof w);
    uint8_t sum = 0xa5;  // word 255: signature, and the sum of all bytes is 0
    buffer_[510] = sum;
    for (unsigned i = 0; i < 510; i++) sum = uint8_t(sum + buffer_[i]);
    buffer_[511] = uint8_t(-sum);
    plainBuffer_ = true;
    offer(512);
}

void IdeDisk::identifyCapabilities(std::array<uint16_t, 256>& w) const {
    w[47] = 0x8000 | 16;  // sectors a READ MULTIPLE at most
    w[48] = 1;            // 32-bit data port accesses
    w[49] = 0x0b00;       // IORDY, LBA, DMA
    w[50] = 0x4000;
    w[51] = 0x0200, w[52] = 0x0200;
    w[59] = multiple_ ? uint16_t(0x100 | multiple_) : 0;
    w[63] = uint16_t(0x0007 | selectedMode(4));
    w[64] = 0x0003;  // PIO modes 3 and 4
    for (unsigned i = 65; i <= 68; i++) w[i] = 120;
    w[80] = 0x0070, w[81] = 0x0019;  // ATA/ATAPI-4 to -6
    w[82] = 0x7068;                  // NOP, READ and WRITE BUFFER, look-ahead, write cache, power management
    w[83] = 0x7400;                  // FLUSH CACHE, FLUSH CACHE EXT, 48-bit addresses
    w[84] = 0x4040;                  // FUA
    w[85] = uint16_t(0x7008 | (writeCache_ ? 0x20 : 0) | (lookAhead_ ? 0x40 : 0));
    w[86] = 0x3400;
    w[87] = 0x4040;
    w[88] = uint16_t(0x003f | selectedMode(8));
    w[93] = 0x604b;  // 80-wire cable; the drive was selected by jumper
}

}  // namespace kiln
