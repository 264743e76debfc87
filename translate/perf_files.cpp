#include "translate/perf_files.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <stdexcept>

namespace kiln {

namespace {

std::FILE* openFor(const char* option, const std::string& path) {
    std::FILE* f = std::fopen(path.c_str(), "w+b");
    if (!f) throw std::runtime_error(fmt::format("{}: can't write to '{}'", option, path));
    return f;
}

// perf's clock with -k mono.
uint64_t now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return uint64_t(t.tv_sec) * 1'000'000'000 + uint64_t(t.tv_nsec);
}

struct DumpHeader {
    uint32_t magic = 0x4a695444;  // "JiTD"
    uint32_t version = 1, size = sizeof(DumpHeader);
    uint32_t machine = 62;  // EM_X86_64
    uint32_t reserved = 0, pid = uint32_t(getpid());
    uint64_t time = now(), flags = 0;
};
static_assert(sizeof(DumpHeader) == 40);

enum class Record : uint32_t { Load = 0, Close = 3 };
struct RecordHeader {
    Record id;
    uint32_t size;
    uint64_t time = now();
};
struct LoadRecord {
    uint32_t pid = uint32_t(getpid()), thread = uint32_t(syscall(SYS_gettid));
    uint64_t virtualAddress, address, size, number;
};

}  // namespace

std::string PerfMap::defaultPath() { return fmt::format("/tmp/perf-{}.map", getpid()); }

PerfMap::PerfMap(const std::string& path) : file_(openFor("-perfmap", path)) {}

PerfMap::~PerfMap() { std::fclose(file_); }

void PerfMap::translated(const std::string& name, std::span<const uint8_t> code) {
    std::lock_guard lock(mutex_);
    fmt::print(file_, "{:x} {:x} {}\n", uintptr_t(code.data()), code.size(), name);
}

std::string JitDump::defaultPath() { return fmt::format("jit-{}.dump", getpid()); }

JitDump::JitDump(const std::string& path) : file_(openFor("-jitdump", path)) {
    put(DumpHeader{});
    std::fflush(file_);
    marker_ =
        mmap(nullptr, size_t(sysconf(_SC_PAGESIZE)), PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(file_), 0);
    if (marker_ == MAP_FAILED) {
        std::fclose(file_);
        throw std::runtime_error(
            fmt::format("-jitdump: '{}' can't be mapped, so perf would not find it", path));
    }
}

JitDump::~JitDump() {
    put(RecordHeader{Record::Close, sizeof(RecordHeader)});
    munmap(marker_, size_t(sysconf(_SC_PAGESIZE)));
    std::fclose(file_);
}

void JitDump::translated(const std::string& name, std::span<const uint8_t> code) {
    std::lock_guard lock(mutex_);
    const auto at = uint64_t(uintptr_t(code.data()));
    const size_t size = sizeof(RecordHeader) + sizeof(LoadRecord) + name.size() + 1 + code.size();
    put(RecordHeader{Record::Load, uint32_t(size)});
    put(LoadRecord{.virtualAddress = at, .address = at, .size = code.size(), .number = pieces_++});
    std::fwrite(name.c_str(), 1, name.size() + 1, file_);
    std::fwrite(code.data(), 1, code.size(), file_);
}

}  // namespace kiln
