// The fuzz targets without libFuzzer, for any compiler:
//
//   kiln-fuzz smoke                 some thousand inputs of every target: seeds, changed seeds, noise
//   kiln-fuzz TARGET COUNT [SEED]   that many of one target
//   kiln-fuzz TARGET FILE...        these inputs (a crash that libFuzzer has found)
//   kiln-fuzz seeds DIRECTORY       writes a seed corpus a target, DIRECTORY/TARGET/*
#include <fmt/format.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/fuzz.hpp"
#include "tests/random.hpp"

namespace kiln::fuzz {
namespace {

constexpr const Target* kTargets[] = {&kProcessor, &kDevices, &kDisks,     &kImages,  &kKernels,
                                      &kFwCfg,     &kPci,     &kRemapping, &kMonitor, &kQmp, &kOptions};

using test::below;
using test::oneIn;
using test::Random;

Bytes noise(Random& r, size_t most) {
    Bytes b(below(r, most));
    for (uint8_t& v : b) v = uint8_t(r());
    return b;
}

// A seed with some bytes changed, moved, doubled or cut off.
Bytes changed(Random& r, Bytes b) {
    for (uint64_t n = 1 + below(r, 8); n && !b.empty(); n--) {
        size_t at = below(r, b.size());
        switch (below(r, 6)) {
            case 0: b[at] = uint8_t(r()); break;
            case 1: b[at] ^= uint8_t(1u << below(r, 8)); break;
            case 2: b[at] = oneIn(r, 2) ? 0 : 0xff; break;
            case 3: b.insert(b.begin() + ptrdiff_t(at), 1 + below(r, 8), uint8_t(r())); break;
            case 4:
                b.erase(b.begin() + ptrdiff_t(at), b.begin() + ptrdiff_t(std::min(b.size(), at + 4)));
                break;
            default: {
                size_t from = below(r, b.size()), n = std::min(b.size() - std::max(at, from), size_t(16));
                std::memmove(&b[at], &b[from], n);
            }
        }
    }
    return b;
}

void runMany(const Target& target, uint64_t count, uint64_t seed) {
    Random r(seed);
    std::vector<Bytes> seeds = target.seeds();
    const std::clock_t start = std::clock();
    for (const Bytes& b : seeds) target.run(b);
    for (uint64_t n = 0; n < count; n++)
        target.run(seeds.empty() || oneIn(r, 4) ? noise(r, 512) : changed(r, seeds[below(r, seeds.size())]));
    const double took = double(std::clock() - start) / CLOCKS_PER_SEC;
    fmt::print("{:10} {:7} inputs {:7.2f} s of processor time\n", target.name, seeds.size() + count, took);
    std::fflush(stdout);
}

int runFile(const Target& target, const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
        fmt::print(stderr, "kiln-fuzz: can't read '{}'\n", path);
        return 1;
    }
    target.run(Bytes(std::istreambuf_iterator<char>(in), {}));
    return 0;
}

int writeSeeds(const std::filesystem::path& directory) {
    for (const Target* t : kTargets) {
        std::filesystem::create_directories(directory / t->name);
        unsigned n = 0;
        for (const Bytes& b : t->seeds())
            std::ofstream(directory / t->name / fmt::format("seed-{:03}", n++), std::ios::binary)
                .write(reinterpret_cast<const char*>(b.data()), std::streamsize(b.size()));
        fmt::print("{}: {} seeds\n", t->name, n);
    }
    return 0;
}

int usage() {
    fmt::print(stderr,
               "usage: kiln-fuzz smoke | seeds DIRECTORY | TARGET COUNT [SEED] | TARGET FILE...\ntargets:");
    for (const Target* t : kTargets) fmt::print(stderr, " {}", t->name);
    fmt::print(stderr, "\n");
    return 2;
}

int main(const std::vector<std::string>& words) {
    if (words.size() == 1 && words[0] == "smoke") {
        for (const Target* t : kTargets) runMany(*t, t->smokeInputs, 1);
        return 0;
    }
    if (words.size() < 2) return usage();
    if (words[0] == "seeds") return writeSeeds(words[1]);
    for (const Target* t : kTargets) {
        if (words[0] != t->name) continue;
        char* end = nullptr;
        uint64_t count = std::strtoull(words[1].c_str(), &end, 0);
        if (!*end) {
            runMany(*t, count, words.size() > 2 ? std::strtoull(words[2].c_str(), nullptr, 0) : 1);
            return 0;
        }
        for (size_t n = 1; n < words.size(); n++)
            if (int status = runFile(*t, words[n])) return status;
        return 0;
    }
    return usage();
}

}  // namespace
}  // namespace kiln::fuzz

int main(int argc, char** argv) { return kiln::fuzz::main({argv + 1, argv + argc}); }
