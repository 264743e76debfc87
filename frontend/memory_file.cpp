#include "frontend/memory_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace kiln {

namespace {

uint64_t upToPageEnd(uint64_t address) { return kPageSize - (address & kPageMask); }

bool readPhysical(PhysicalMemory& memory, PhysAddr at, void* out, uint64_t size) {
    const PhysicalMemory::Target target = memory.find(at);
    std::memset(out, 0xff, size);
    if (target.host) memory.read(at, out, std::min(size, target.end.value - at.value));
    return target.region;
}

struct FileCloser {
    void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

ReadGuest linearReader(Machine& machine, unsigned cpu) {
    return [&machine, cpu](uint64_t address, void* out, uint64_t size) {
        PhysAddr at;
        if (!machine.cpu(cpu).translate(address, at)) return false;
        readPhysical(machine.memory(), at, out, size);
        return true;
    };
}

ReadGuest physicalReader(Machine& machine) {
    return [&machine](uint64_t address, void* out, uint64_t size) {
        return readPhysical(machine.memory(), PhysAddr(address), out, size);
    };
}

bool readGuest(const ReadGuest& read, uint64_t address, void* out, uint64_t size) {
    auto* to = static_cast<uint8_t*>(out);
    while (size) {
        const uint64_t part = std::min(size, upToPageEnd(address));
        if (!read(address, to, part)) return false;
        address += part, to += part, size -= part;
    }
    return true;
}

std::string writeMemoryFile(const std::string& path, uint64_t address, uint64_t size, const ReadGuest& read) {
    std::unique_ptr<std::FILE, FileCloser> file(std::fopen(path.c_str(), "wb"));
    auto failed = [&] { return fmt::format("'{}' can't be written: {}", path, std::strerror(errno)); };
    if (!file) return failed();
    uint8_t page[kPageSize];
    while (size) {
        const uint64_t part = std::min(size, upToPageEnd(address));
        if (!read(address, page, part)) return fmt::format("there is no memory at {:#x}", address);
        if (std::fwrite(page, 1, part, file.get()) != part) return failed();
        address += part, size -= part;
    }
    return std::fflush(file.get()) == 0 ? std::string() : failed();
}

}  // namespace kiln
