// An ATAPI CD/DVD-ROM drive with one data track (SFF-8020i; MMC-4, T10/1545D; ATA/ATAPI-6, 9.8 to 9.10 for
// the PACKET protocol). The medium is an ISO image of 2048-byte sectors.
//
// Not modelled: audio, sub-channels and multi-session discs, EDC and ECC bytes of raw sectors (zeros),
// writing, DVD keys and region codes.
#pragma once
#include <memory>
#include <string>

#include "devices/block_image.hpp"
#include "devices/ide_device.hpp"
#include "mmu/log.hpp"

namespace kiln {

class AtapiCdrom : public IdeDevice {
  public:
    AtapiCdrom(Clock& clock, IdeHost& host, Log& log, std::unique_ptr<BlockImage> medium, std::string serial);

    // The person at the machine. insert() closes the tray; eject() is refused while the guest has locked the
    // door (it is told that somebody pushed the button) unless forced.
    void insert(std::unique_ptr<BlockImage> medium);
    bool eject(bool force = false);
    bool locked() const { return locked_; }
    bool hasMedium() const { return medium_ && !trayOpen_; }

    void state(StateVisitor& visit) override;

  private:
    using Handler = void (AtapiCdrom::*)();
    enum : uint8_t { kNeedsMedium = 1, kIgnoresAttention = 2 };
    struct Row {
        uint8_t opcode;
        Handler handler;
        uint8_t flags;
    };
    static const Row kPackets[];

    // What the next block of data, or the next pause, belongs to.
    enum class Stage : uint8_t { None, Packet, Execute, DataIn, ParameterList, Finish };
    enum class Source : uint8_t { Reply, Disc };
    // Media events (MMC-4, 6.7): GET EVENT STATUS NOTIFICATION reports each once.
    enum Event : uint8_t { kNoEvent, kEjectRequest, kNewMedium, kMediumRemoval };
    struct Sense {
        uint8_t key = 0, asc = 0, ascq = 0;
    };

    // -- as an ATA device
    void start(uint8_t command) override;
    void execute(uint8_t command) override;
    void nextBlock() override;
    void dataInDone() override;
    void dataOutDone() override;
    void transferDma() override;
    void signature() override;
    void resetSettings(bool powerOn) override;
    void identifyPacket();
    void setFeatures();

    // -- the PACKET protocol
    void startPacket();
    void executePacket();
    void sendBurst();
    bool fill(uint8_t* to, uint32_t bytes);
    bool readMedium(uint64_t offset, uint8_t* to, uint64_t bytes);
    void receiveParameters(uint32_t length);
    void requestBurst();
    void finish();
    void check(Sense sense);
    void checkMedium();  // "not ready": why
    void reply(uint32_t length, uint32_t allocated);
    void readDisc(uint32_t lba, uint32_t count, uint8_t parts);
    void rawSector(uint32_t lba, uint8_t* out) const;

    // -- commands (atapi_commands.cpp)
    void testUnitReady() { finish(); }
    void requestSense();
    void inquiry();
    void startStop();
    void preventRemoval();
    void readCapacity();
    void read10();
    void read12();
    void readCd();
    void readCdMsf();
    void seek();
    void readSubChannel();
    void readToc();
    void readHeader();
    void getConfiguration();
    void getEventStatus();
    void readDiscInformation();
    void readTrackInformation();
    void modeSelect();
    void modeSense();
    void readDvdStructure();
    void setSpeed() { finish(); }
    void mechanismStatus();

    uint32_t tocTracks();
    uint32_t tocSessions();
    uint32_t tocRaw();
    uint8_t* putPosition(uint8_t* at, uint32_t lba) const;
    uint32_t modePage(uint8_t page, bool changeable, uint8_t* out) const;
    void invalidField() { check({5, 0x24, 0}); }

    uint32_t capacity() const { return uint32_t((medium_->size() + 2047) / 2048); }
    bool isDvd() const { return capacity() > 405'000; }  // more than a 90-minute CD
    uint16_t be16(unsigned at) const { return uint16_t(packet_[at] << 8 | packet_[at + 1]); }
    uint32_t be32(unsigned at) const { return uint32_t(be16(at)) << 16 | be16(at + 2); }

    Log& log_;
    std::unique_ptr<BlockImage> medium_;
    std::string serial_;
    std::array<uint8_t, 12> packet_{};
    std::array<uint8_t, 2304> reply_{};
    Stage stage_ = Stage::None;
    Source source_ = Source::Reply;
    bool dma_ = false;
    uint32_t limit_ = 0;     // bytes a DRQ block at most
    uint32_t position_ = 0;  // in the data of the command
    uint32_t left_ = 0;      // bytes the command still transfers
    uint32_t burst_ = 0;     // bytes of the current DRQ block
    uint32_t lba_ = 0;       // of position 0
    uint8_t parts_ = 0;      // of each raw sector, as READ CD names them; 0x10 is user data
    uint32_t sectorBytes_ = 2048;
    Sense sense_;
    Sense attention_;  // reported by the next command; key 0: none
    Event event_ = kNoEvent;
    bool locked_ = false, trayOpen_ = false;
};

}  // namespace kiln
