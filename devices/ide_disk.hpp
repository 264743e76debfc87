// An ATA hard disk (ATA/ATAPI-6, T13/1410D, clause 8): the general feature set with 28- and 48-bit addresses,
// and cylinder-head-sector addresses for those who still use them.
//
// Not modelled: SMART, security, host protected area (SET MAX), streaming, removable media, CompactFlash,
// acoustic and advanced power management: aborted, and not announced by IDENTIFY.
#pragma once
#include <memory>

#include "devices/block_image.hpp"
#include "devices/ide_device.hpp"
#include "mmu/log.hpp"

namespace kiln {

class IdeDisk : public IdeDevice {
  public:
    IdeDisk(Clock& clock, IdeHost& host, Log& log, std::unique_ptr<BlockImage> image, std::string serial);

    BlockImage& image() { return *image_; }
    void state(StateVisitor& visit) override;

  private:
    using Handler = void (IdeDisk::*)();
    struct Row {
        uint8_t command;
        Handler handler = nullptr;
        bool atOnce = false;  // before the busy time: commands that want data from the host
    };
    static const Row* find(uint8_t command);
    static const Row kCommands[];

    void start(uint8_t command) override;
    void execute(uint8_t command) override;
    void nextBlock() override;
    void dataInDone() override;
    void dataOutDone() override;
    void transferDma() override;
    void signature() override;
    void resetSettings(bool powerOn) override;

    // -- commands
    void readSectors();
    void writeSectors();
    void readMultiple();
    void writeMultiple();
    void verifySectors();
    void readDma();
    void writeDma();
    void seek();
    void recalibrate();
    void initializeParameters();
    void setMultiple();
    void setFeatures();
    void identify();
    void flushCache();
    void readNativeMax();
    void checkPower();
    void readBuffer();
    void writeBuffer();
    void abortCommand() { fail(ata::kAborted); }

    // -- addressing
    bool extended() const;  // the current command takes 48-bit addresses
    bool lbaMode() const { return deviceHead & 0x40; }
    bool decodeAddress();  // task file into lba_ and left_; false after failing the command
    uint64_t addressRegisters() const;
    void encodeAddress(uint64_t lba);
    void encodeCount(uint32_t sectors);

    void transferBlocks(uint32_t sectorsPerBlock, bool writing);
    void loadBlock();
    void storeBlock();
    bool settle();
    void readFailed();
    void writeFailed();
    void identifyCapabilities(std::array<uint16_t, 256>& words) const;

    Log& log_;
    std::unique_ptr<BlockImage> image_;
    std::string serial_;
    uint64_t sectors_;
    uint16_t cylinders_;  // default translation: 16 heads, 63 sectors

    uint64_t lba_ = 0;    // next sector to transfer
    uint32_t left_ = 0;   // sectors left, the current block's included
    uint32_t block_ = 1;  // sectors a DRQ
    uint32_t ahead_ = 0;  // sectors read already, in the buffer behind the data phase
    bool writing_ = false;
    bool plainBuffer_ = false;  // the data phase is one 512-byte buffer, not sectors
    uint8_t multiple_ = 0;      // SET MULTIPLE; 0: READ/WRITE MULTIPLE are off
    uint8_t heads_ = 16, sectorsPerTrack_ = 63;
    bool writeCache_ = true, lookAhead_ = true;
};

// Puts ASCII into IDENTIFY words, two characters a word, the first in the high byte, padded with spaces.
void putIdentifyString(uint16_t* words, unsigned count, std::string_view text);

}  // namespace kiln
