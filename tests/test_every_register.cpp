// Every register of the whole board, written with all ones and with noise: nothing breaks, identities stay,
// and a reset brings configuration space back.
#include <doctest/doctest.h>

#include <map>

#include "pci/pci_function.hpp"
#include "tests/board_bench.hpp"
#include "tests/random.hpp"

using namespace kiln;
using namespace kiln::test;

namespace {

using ConfigSpace = std::array<uint32_t, 64>;

// Whatever bus numbers lead to it at the moment.
ConfigSpace dump(PciFunction& f) {
    ConfigSpace words;
    for (unsigned n = 0; n < words.size(); n++) words[n] = f.configRead(uint16_t(n * 4), 4);
    return words;
}

std::map<PciFunction*, ConfigSpace> dumpAll(BoardBench& b) {
    std::map<PciFunction*, ConfigSpace> all;
    for (PciFunction* f : b.board->pci().functions()) all[f] = dump(*f);
    return all;
}

// Vendor and device, class and revision, header type: whatever is written.
void checkIdentity(const ConfigSpace& before, const ConfigSpace& now) {
    CHECK(now[0] == before[0]);
    CHECK(now[2] == before[2]);
    CHECK((now[3] >> 16 & 0xff) == (before[3] >> 16 & 0xff));
}

void reset(BoardBench& b) {
    b.resetWanted = true;
    b.serveReset();
}

// Windows of memory-mapped registers, behind them whatever BARs were moved to by all ones.
constexpr std::pair<uint64_t, uint64_t> kWindows[] = {
    {0xa0000, 0x20000},   {0xc0000, 0x1000},      {0xb0000000, 0x100000},
    {0xfec00000, 0x1000}, {0xfed00000, 0x1000},   {0xfed90000, 0x1000},
    {0xfed1c000, 0x4000}, {0xfee00000, 0x100000}, {0xffff0000, 0x10000}};

}  // namespace

TEST_CASE("every PCI function: all ones in configuration space") {
    BoardBench b;
    const auto powerOn = dumpAll(b);
    REQUIRE(powerOn.size() >= 10);
    for (const auto& [f, before] : powerOn) {
        INFO("function ", f->name(), " ", f->bdf().device(), ".", f->bdf().function());
        for (unsigned offset = 0; offset < 256; offset += 4) f->configWrite(uint16_t(offset), 4, ~0u);
        const ConfigSpace now = dump(*f);
        checkIdentity(before, now);
        const bool isBridge = f->asBridge();
        for (unsigned bar = 4; bar < (isBridge ? 6 : 10); bar++) {
            if (before[bar] == 0 && now[bar] == 0) continue;
            const uint32_t low = now[bar] & 1 ? 3 : 15, mask = now[bar] & ~low;
            CHECK((now[bar] & low) == (before[bar] & low));
            CHECK((~mask & (~mask + 1)) == 0);                  // ones from the size upward
            if ((now[bar] & 7) == 4) CHECK(now[++bar] == ~0u);  // 64-bit: of less than 4 GiB
        }
        CHECK((now[1] >> 16 & 0xf900) == 0);  // error bits of the status register: written away, or never set
        CHECK((now[1] & 0xf800) == 0);        // reserved bits of the command register
        CHECK((now[15] >> 8 & 0xff) == (before[15] >> 8 & 0xff));  // the interrupt pin
    }
    b.pass(kSecond / 10);
    reset(b);
    CHECK((dumpAll(b) == powerOn));
}

TEST_CASE("every PCI function: random writes in configuration space and what they map") {
    BoardBench b;
    const auto powerOn = dumpAll(b);
    const auto& functions = b.board->pci().functions();
    Random r(1);
    for (unsigned n = 0; n < 30'000; n++) {
        const PciFunction& f = *functions[below(r, functions.size())];
        const unsigned size = 1u << below(r, 3), offset = unsigned(below(r, 256)) & ~(size - 1);
        const uint32_t value = uint32_t(oneIn(r, 3) ? ~0ull : r()) & uint32_t(openBus(size));
        if (oneIn(r, 2))
            b.board->pci().configWrite(f.bdf(), uint16_t(offset), size, value);
        else
            b.memory.access(PhysAddr(0xb0000000 + (uint64_t(f.bdf().value) << 12) + offset), size, value);
        if (oneIn(r, 16)) {
            b.memory.access(PhysAddr(r() & 0xfffffff8), 4, r() & 0xffffffff);
            b.memory.access(PhysAddr(r() & 0xfffffff8), 8);
            b.ports.write(uint16_t(0xc000 | (r() & 0xfff)), 1, uint32_t(r() & 0xff));
        }
        b.serveReset();
    }
    for (const auto& [f, before] : powerOn) checkIdentity(before, dump(*f));
    reset(b);
    CHECK((dumpAll(b) == powerOn));
}

TEST_CASE("every I/O port: all ones and noise in all widths") {
    BoardBench b;
    const auto powerOn = dumpAll(b);
    Random r(2);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned port = 0; port < 0x10000; port++)
            for (unsigned size : {1u, 2u, 4u}) {
                b.ports.write(uint16_t(port), size, uint32_t((round ? r() : ~0ull) & openBus(size)));
                CHECK(b.ports.read(uint16_t(port), size) <= openBus(size));  // no more bits than asked for
                if (port % 256 == 0) b.pass(kSecond / 1000);
                b.serveReset();
            }
    b.pass(kSecond);
    reset(b);
    CHECK((dumpAll(b) == powerOn));
    b.ports.write(0x70, 1, 0x0d);
    CHECK(b.ports.read(0x71, 1) == 0x80);  // the clock's battery is still good: the bus leads to its devices
}

TEST_CASE("every memory-mapped register: all ones and noise in all widths") {
    BoardBench b;
    const auto powerOn = dumpAll(b);
    Random r(3);
    for (unsigned round = 0; round < 2; round++) {
        for (auto [base, bytes] : kWindows)
            for (uint64_t at = 0; at<bytes; at += bytes> 0x10000 ? 4 + 4 * below(r, 8) : 4)
                for (unsigned size : {1u, 2u, 4u, 8u}) {
                    PhysAddr address((base + at) & ~uint64_t(size - 1));
                    b.memory.access(address, size, (round ? r() : ~0ull) & openBus(size));
                    uint64_t v = b.memory.access(address, size);
                    CHECK(v <= openBus(size));
                }
        b.pass(kSecond / 10);
        b.serveReset();
    }
    reset(b);
    CHECK((dumpAll(b) == powerOn));
}
