#include "devices/smbios.hpp"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

namespace kiln {

namespace {

// One structure: a header, its formatted area, then its strings, referred to by number from 1.
class Structures {
  public:
    void begin(uint8_t type, unsigned number = 0) {
        start_ = bytes.size();
        handle_ = uint16_t(type << 8 | number);
        u8(type).u8(0).u16(handle_);
    }
    Structures& u8(uint8_t v) { return number(v, 1); }
    Structures& u16(uint16_t v) { return number(v, 2); }
    Structures& u32(uint32_t v) { return number(v, 4); }
    Structures& u64(uint64_t v) { return number(v, 8); }
    void end(std::initializer_list<std::string> strings) {
        size_t length = bytes.size() - start_;
        bytes[start_ + 1] = uint8_t(length);
        for (const std::string& s : strings) {
            bytes.insert(bytes.end(), s.begin(), s.end());
            bytes.push_back(0);
        }
        if (strings.size() == 0) bytes.push_back(0);
        bytes.push_back(0);
        count++;
        largest = std::max(largest, bytes.size() - start_);
    }

    std::vector<uint8_t> bytes;
    uint16_t count = 0;
    size_t largest = 0;

  private:
    Structures& number(uint64_t v, unsigned size) {
        for (unsigned i = 0; i < size; i++) bytes.push_back(uint8_t(v >> (i * 8)));
        return *this;
    }
    size_t start_ = 0;
    uint16_t handle_ = 0;
};

constexpr uint16_t kArrayHandle = 16 << 8;
constexpr uint64_t kMiB = 1 << 20;

void addSystem(Structures& s) {  // 7.2
    s.begin(1);
    s.u8(1).u8(2).u8(3).u8(0).u64(0).u64(0).u8(6).u8(0).u8(0);  // woken by the power switch
    s.end({"kiln", "PC (Q35 + ICH9)", "0.1"});
}

void addChassis(Structures& s) {  // 7.4: "other", all states safe
    s.begin(3);
    s.u8(1).u8(1).u8(0).u8(0).u8(0).u8(3).u8(3).u8(3).u8(2).u32(0).u8(0).u8(0).u8(0).u8(0);
    s.end({"kiln"});
}

void addProcessor(Structures& s, unsigned number, const CpuTopology& t) {  // 7.5: one a socket
    s.begin(4, number);
    s.u8(1).u8(3).u8(1).u8(2).u64(0).u8(0).u8(0).u16(0);
    s.u16(1000).u16(1000).u8(0x41).u8(1).u16(0xffff).u16(0xffff).u16(0xffff).u8(0).u8(0).u8(0);
    constexpr uint16_t k64Bit = 1 << 2, kMultiCore = 1 << 3, kThreads = 1 << 4;
    uint16_t characteristics = k64Bit;
    if (t.cores > 1) characteristics |= kMultiCore;
    if (t.threads > 1) characteristics |= kThreads;
    s.u8(uint8_t(t.cores)).u8(uint8_t(t.cores)).u8(uint8_t(t.perSocket())).u16(characteristics).u16(1);
    s.end({"CPU " + std::to_string(number), "kiln"});
}

void addMemory(Structures& s, uint64_t memory) {
    s.begin(16);  // 7.17: system memory on the board, multi-bit ECC
    s.u8(1).u8(3).u8(6).u32(uint32_t(std::min<uint64_t>(memory / 1024, 0x80000000))).u16(0xfffe).u16(1);
    s.u64(memory / 1024 >= 0x80000000 ? memory : 0);
    s.end({});

    uint64_t mib = memory / kMiB;  // 7.18: one DIMM
    s.begin(17);
    s.u16(kArrayHandle).u16(0xfffe).u16(0xffff).u16(0xffff).u16(mib >= 0x7fff ? 0x7fff : uint16_t(mib));
    s.u8(9).u8(0).u8(1).u8(0).u8(7).u16(2).u16(0).u8(2).u8(0).u8(0).u8(0).u8(0);
    s.u32(mib >= 0x7fff ? uint32_t(mib) : 0).u16(0).u16(0).u16(0).u16(0);
    s.end({"DIMM 0", "kiln"});

    s.begin(19);  // 7.20: where it is seen, without the hole below 4 GiB
    s.u32(0).u32(uint32_t(memory / 1024 - 1)).u16(kArrayHandle).u8(1).u64(0).u64(0);
    s.end({});
}

uint8_t negativeSum(const uint8_t* p, size_t size) {
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++) sum = uint8_t(sum + p[i]);
    return uint8_t(-sum);
}

// 5.2.1; the firmware fills in the table's address and adjusts the checksums.
std::vector<uint8_t> anchor(const Structures& s) {
    std::vector<uint8_t> a = {'_',
                              'S',
                              'M',
                              '_',
                              0,
                              0x1f,
                              2,
                              8,
                              uint8_t(s.largest),
                              uint8_t(s.largest >> 8),
                              0,
                              0,
                              0,
                              0,
                              0,
                              0,
                              '_',
                              'D',
                              'M',
                              'I',
                              '_',
                              0,
                              uint8_t(s.bytes.size()),
                              uint8_t(s.bytes.size() >> 8),
                              0,
                              0,
                              0,
                              0,
                              uint8_t(s.count),
                              uint8_t(s.count >> 8),
                              0x28};
    a[0x15] = negativeSum(&a[0x10], 15);
    a[4] = negativeSum(a.data(), a.size());
    return a;
}

}  // namespace

void offerSmbios(FwCfg& fwCfg, uint64_t memoryBytes, const CpuTopology& cpus) {
    Structures s;
    addSystem(s);
    addChassis(s);
    for (unsigned n = 0; n < cpus.sockets; n++) addProcessor(s, n, cpus);
    addMemory(s, memoryBytes);
    s.begin(32);  // 7.33: no errors detected
    s.u32(0).u16(0).u8(0);
    s.end({});
    s.begin(127);
    s.end({});
    fwCfg.addFile("etc/smbios/smbios-anchor", anchor(s));
    fwCfg.addFile("etc/smbios/smbios-tables", std::move(s.bytes));
}

}  // namespace kiln
