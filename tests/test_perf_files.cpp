// perf's map and jitdump, as perf reads them.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/cpu_bench.hpp"
#include "translate/perf_files.hpp"
#include "translate/translator.hpp"

namespace kiln::test {
namespace {

std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream s;
    s << file.rdbuf();
    return s.str();
}

struct Path {
    std::string name;
    explicit Path(const char* kind) : name(fmt::format("/tmp/kiln-test-{}-{}", getpid(), kind)) {}
    ~Path() { std::remove(name.c_str()); }
};

template <class T>
T at(const std::string& s, size_t offset) {
    REQUIRE(offset + sizeof(T) <= s.size());
    T v;
    std::memcpy(&v, s.data() + offset, sizeof v);
    return v;
}

// A block that is translated, with this listener; its host code.
std::string translated(std::shared_ptr<CodeListener> listener) {
    GuestBench b(GuestBench::Mode::Long64);
    b.translator.reset();
    TranslatorOptions options{.tier1 = 1, .bufferBytes = 1 << 20};
    options.listeners = {std::move(listener)};
    Translator translator(b.cpu, options);
    const uint8_t code[] = {0x48, 0x8b, 0x07, 0xf4};  // mov rax, [rdi]; hlt
    b.write(0x50000, code);
    b.cpu.gpr[Rdi] = 0x60000;
    b.cpu.rip = 0x50000;
    b.cpu.run(10);
    return translator.hostCode(0x50000);
}

}  // namespace

TEST_CASE("perf: a line of the map names each piece of code") {
    Path path("map");
    translated(std::make_shared<PerfMap>(path.name));
    std::istringstream lines(contents(path.name));
    uint64_t address = 0, size = 0;
    std::string name, which;
    REQUIRE(bool(lines >> std::hex >> address >> size >> name >> which));
    CHECK(address);
    CHECK(size > 0);
    CHECK(size < 4096);
    CHECK(name == "guest");
    CHECK(which == "50000");
}

TEST_CASE("perf: jitdump holds code with its address") {
    Path path("dump");
    translated(std::make_shared<JitDump>(path.name));
    const std::string s = contents(path.name);
    CHECK(at<uint32_t>(s, 0) == 0x4a695444);
    CHECK(at<uint32_t>(s, 4) == 1);
    CHECK(at<uint32_t>(s, 8) == 40);
    CHECK(at<uint32_t>(s, 12) == 62);
    CHECK(at<uint32_t>(s, 20) == uint32_t(getpid()));
    size_t place = 40, loads = 0;
    while (at<uint32_t>(s, place) == 0) {
        const auto size = at<uint32_t>(s, place + 4);
        const size_t body = place + 16;
        const auto codeSize = at<uint64_t>(s, body + 24);
        CHECK(at<uint64_t>(s, body + 8) == at<uint64_t>(s, body + 16));
        CHECK(at<uint64_t>(s, body + 32) == loads++);
        const std::string name = s.data() + body + 40;
        CHECK(name.starts_with("guest 50000"));
        CHECK(16 + 40 + name.size() + 1 + codeSize == size);
        place += size;
    }
    CHECK(loads > 0);
    CHECK(at<uint32_t>(s, place) == 3);
    CHECK(place + 16 == s.size());
}

TEST_CASE("a file that can't be written to is an error") {
    CHECK_THROWS_AS(PerfMap("/nonexistent/map"), std::runtime_error);
    CHECK_THROWS_AS(JitDump("/nonexistent/dump"), std::runtime_error);
}

TEST_CASE("guest code beside host code") {
    const std::string text = translated(std::make_shared<PerfMap>("/dev/null"));
    CHECK(text.find("mov rax, [rdi]") != std::string::npos);
    CHECK(text.find("[readTag+rax*1]") != std::string::npos);
    CHECK(text.find("call out: ") != std::string::npos);
}

}  // namespace kiln::test
