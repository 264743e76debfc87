// What host code instructions become, kept as text so that a change of the emitter is read as a diff:
// tests/golden_host_code.txt. To write it anew:
//
//   KILN_GOLDEN=write BUILD/tests/kiln-tests -tc="*golden*"
//
// Everything that depends on where code lies has a name instead (translate/host_listing.hpp). Only
// instructions that every x86-64 host has are here, so the text is the same everywhere.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/cpu_bench.hpp"
#include "translate/translator.hpp"

namespace kiln::test {
namespace {

constexpr const char* kLong[] = {
    // moves
    "89d8",
    "f20f1007",
    "f20f584708",
    "f20fc2c101",
    "a5",
    "4889d8",
    "6689d8",
    "88d8",
    "88e3",
    "b878563412",
    "48b8f0debc9a78563412",
    "49c7c2ffffffff",
    "8b07",
    "488b07",
    "488b4708",
    "488b4c8f10",
    "488b0500010000",
    "64488b042528000000",
    "65488b042530000000",
    "67488b07",
    "48890f",
    "8807",
    "8827",
    "66c7070100",
    "48c70701000000",
    "0fb607",
    "0fb6c3",
    "0fb7c3",
    "0fbe07",
    "4863c3",
    "4d8bd3",
    "4c8917",
    "488d4708",
    "488d0500100000",
    "8d4401ff",
    "87d9",
    "488707",
    "0fc8",
    // arithmetic and logic
    "01d8",
    "4801d8",
    "480307",
    "48015f08",
    "4883c001",
    "4981c200010000",
    "2bc3",
    "4829df",
    "31c0",
    "21d8",
    "0907",
    "4883c801",
    "39d8",
    "48391f",
    "483b07",
    "85c0",
    "f6c101",
    "f60701",
    "11d8",
    "4819d8",
    "ffc0",
    "48ff07",
    "48ffc9",
    "f7d8",
    "f7d0",
    "f717",
    "0fafc3",
    "486bc364",
    "f7e3",
    "48f7e9",
    "f7f3",
    "48f7fb",
    "4898",
    "4899",
    "0fa3d8",
    "0fbae005",
    "0fbcc3",
    "0fbdc3",
    // shifts
    "c1e004",
    "48d1e8",
    "48c1f83f",
    "d3e0",
    "48d3eb",
    "c1c007",
    "d107",
    "480fa4d804",
    "d1d0",
    // stack
    "50",
    "58",
    "4154",
    "415c",
    "6a01",
    "68785634ff",
    "ff37",
    "8f07",
    "c9",
    "9c",
    // transfers
    "eb10",
    "e900100000",
    "e8fb0f0000",
    "7410",
    "0f8500200000",
    "c3",
    "c20800",
    "ffe0",
    "ff27",
    "ffd3",
    "ff17",
    "e2fe",
    "e302",
    // flags that are used later
    "39d87410",
    "85c00f94c3",
    "01d811f9",
    "39d80f4cc3",
    "39d88b077510",
    "31c08907c3",
    // operands that share a look-up
    "8b078b4f08895710",
    "535556",
    "5e5d5b",
    "488b050001000048030501010000",
    // system
    "0f01f8",
    "fa",
    "fc",
    "0f01ee",
    "0f01e8",
    "fb",
    "f3480faec3",
    "f3480faeda",
    "0f01cb",
    "0f05",
    "0f31",
    "0fa2",
    "f4",
    // strings
    "f3a4",
    "f348ab",
    "a5",
    "aa",
    "ac",
    "f3a6",
    "f2ae",
    // vectors
    "0f1007",
    "0f2807",
    "0f1107",
    "660f6fc1",
    "0f58c1",
    "f20f5807",
    "f30f2ac3",
    "660fefc0",
    "660f7ec0",
    "f3480f2cc1",
    // others
    "90",
    "f390",
    "0faef0",
    "0fb00f",
    "f0480fb10f",
    "f048011f",
};
constexpr const char* kCompat[] = {
    "89d8", "8b07", "8b4708", "890d00100000", "50", "58", "e8fb0f0000", "c3", "0304b7", "ff27", "60", "40",
};

constexpr const char* kReal[] = {
    "89d8", "8b07", "8a4001", "26890d", "668b07", "678b03", "8d4001", "8827", "50",     "58",   "c9",
    "06",   "1f",   "8ec0",   "8cd8",   "c41f",   "e80010", "eb10",   "7410", "e2fe",   "c3",   "cb",
    "ffe0", "ff17", "ac",     "aa",     "a4",     "a6",     "f3a5",   "9c",   "0fa307", "dd07",
};
// With a base and a limit.
constexpr const char* kSegmented[] = {"8b07", "668b07", "0107", "50", "c3", "e8fb0f0000", "648b07"};

std::vector<uint8_t> bytesOf(const std::string& hex) {
    std::vector<uint8_t> bytes;
    for (size_t n = 0; n + 1 < hex.size(); n += 2)
        bytes.push_back(uint8_t(std::strtoul(hex.substr(n, 2).c_str(), nullptr, 16)));
    return bytes;
}

std::string hostCode(GuestBench::Mode mode, const char* hex, bool segmented = false) {
    constexpr uint64_t kCode = 0x50000, kData = 0x60000;
    GuestBench b(mode);
    b.translator.reset();
    Translator translator(b.cpu, TranslatorOptions{.tier1 = 1, .bufferBytes = 1 << 20});
    std::vector<uint8_t> code = bytesOf(hex);
    code.push_back(0xf4);
    b.write(kCode, code);
    for (unsigned n = 0; n < 16; n++)
        if (n != Rsp) b.cpu.gpr.slot[n] = kData;
    b.cpu.rip = kCode;
    if (segmented || mode == GuestBench::Mode::Real16) {
        for (SegReg s : {Es, Ss, Ds, Fs, Gs}) b.setBase(s, kData), b.cpu.seg[s].limit = 0xffff;
        b.setBase(Cs, kCode - 0x100);
        b.cpu.seg[Cs].limit = 0xffff;
        b.cpu.segmentsChanged();
        for (unsigned n = 0; n < 16; n++) b.cpu.gpr.slot[n] = 0x400;
        b.cpu.rip = 0x100;
    }
    const uint64_t rip = b.cpu.rip;
    b.cpu.run(1);
    if (segmented || mode == GuestBench::Mode::Real16) {  // where it began
        b.setBase(Cs, kCode - 0x100);
        b.cpu.segmentsChanged();
    }
    // The HLT behind it is always the same.
    std::istringstream lines(translator.hostCode(rip));
    std::string out, line;
    for (bool shown = true; std::getline(lines, line);) {
        if (line.ends_with(" hlt") && code.size() > 1) shown = false;
        if (line.ends_with("apart:")) shown = true;
        if (shown) out += line + "\n";
    }
    return out;
}

std::string all() {
    std::string out =
        "The host code of instructions, by tests/test_golden_host_code.cpp, which says how it is written "
        "anew.\n";
    for (const char* hex : kLong)
        out += "\n-- " + std::string(hex) + "\n" + hostCode(GuestBench::Mode::Long64, hex);
    for (const char* hex : kCompat)
        out += "\n-- 32-bit " + std::string(hex) + "\n" + hostCode(GuestBench::Mode::Compat32, hex);
    for (const char* hex : kReal)
        out += "\n-- real mode " + std::string(hex) + "\n" + hostCode(GuestBench::Mode::Real16, hex);
    for (const char* hex : kSegmented)
        out +=
            "\n-- segmented " + std::string(hex) + "\n" + hostCode(GuestBench::Mode::Protected32, hex, true);
    return out;
}

}  // namespace

TEST_CASE("golden host code is what it was") {
    const std::string now = all();
    if (const char* how = std::getenv("KILN_GOLDEN"); how && std::string(how) == "write") {
        std::ofstream(KILN_GOLDEN_FILE) << now;
        return;
    }
    std::ifstream file(KILN_GOLDEN_FILE);
    REQUIRE(file.good());
    std::stringstream before;
    before << file.rdbuf();
    std::istringstream a(before.str()), b(now);
    std::string x, y, piece;
    for (unsigned line = 1; std::getline(a, x) && std::getline(b, y); line++) {
        if (y.starts_with("-- ")) piece = y;
        INFO("line ", line, " of tests/golden_host_code.txt, in ", piece);
        REQUIRE(x == y);
    }
    CHECK(before.str().size() == now.size());
}

}  // namespace kiln::test
